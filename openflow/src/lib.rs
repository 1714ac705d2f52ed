//! The OpenFlow language: what both ends of a connection speak.
//!
//! * [`field`] — the table of match fields, from which everything about fields is derived
//! * [`matching`], [`action`], [`message`] — the version-independent model
//! * `wire` — bytes to model and back, one module a protocol version
//! * `text` — the `ovs-ofctl` syntax, in and out
//!
//! There is no I/O and no clock in here.
#![forbid(unsafe_code)]

pub mod action;
pub mod error;
pub mod field;
pub mod matching;
pub mod message;
pub mod session;
pub mod wire;

pub use action::{Action, Instructions, Subfield};
pub use error::OfError;
pub use field::{FieldId, FieldInfo, Slot};
pub use matching::Match;
pub use message::*;
