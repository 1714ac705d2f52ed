//! The Open vSwitch database protocol (RFC 7047): schema, transactions, journal, server and client.
