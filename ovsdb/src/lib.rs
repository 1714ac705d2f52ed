//! The Open vSwitch database protocol (RFC 7047): schema, transactions, journal, server and client.
//!
//! Whoever uses a database opens a [`Session`]: a [`Client`] whose [`Replica`] follows the rows it
//! asked for, and which runs [`Transaction`]s. Whoever serves one opens a `Server`. Everything
//! between, from values and schemas to transactions, does no I/O.

#![forbid(unsafe_code)]

pub mod client;
mod condition;
pub mod convert;
pub mod database;
pub mod engine;
pub mod error;
mod exec;
mod fuzz;
pub mod history;
pub mod journal;
mod monitor;
pub mod probe;
pub mod replica;
pub mod schema;
pub mod server;
pub mod session;
pub mod stream;
pub mod target;
pub mod text;
pub mod tls;
pub mod transaction;
pub mod transport;
mod txn;
pub mod value;

pub use client::{Client, ClientError, ClientOptions, Notification};
pub use database::Database;
pub use error::OvsdbError;
pub use fuzz::fuzz_json;
pub use replica::{Change, ChangeKind, ChangeSet, Replica, Row, Wanted};
pub use schema::{
    BaseType, ColumnSchema, DatabaseSchema, RefType, TableSchema, Type, vswitch_schema,
};
pub use server::{Server, ServerHandle, ServerOptions};
pub use session::{Session, SessionOptions};
pub use target::Target;
pub use tls::{Tls, TlsOptions};
pub use transaction::{Cell, Mutator, NewRow, OperationResult, Outcome, RowRef, Transaction};
pub use value::{Atom, AtomType, Datum, Real, Uuid};

/// The database that configures the switch.
pub const DATABASE: &str = "Open_vSwitch";
