//! A small KVM monitor whose network card is a vhost-user port.
