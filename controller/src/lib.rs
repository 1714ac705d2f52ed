//! The OpenFlow controller: inventory, topology, applications, store and REST.
