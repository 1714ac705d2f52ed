//! Forwarding threads and what they share with the rest of the program.

pub mod balance;
pub mod events;
pub mod forward;
pub mod pace;
pub mod rota;
mod run;
pub mod thread;
pub mod tx;
pub mod wake;
