//! The userspace packet path: ports, flow tables, caches and forwarding threads.
