//! The OpenFlow language: model, wire codecs and ovs-ofctl text syntax.
