//! Forwarding threads and what they share with the rest of the program.

pub mod events;
pub mod forward;
pub mod thread;
pub mod wake;
