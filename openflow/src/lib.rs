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
pub mod text;
pub mod wire;

pub use action::{Action, Instructions, Subfield};
pub use error::OfError;
pub use field::{FieldId, FieldInfo, Slot};
pub use matching::Match;
pub use message::*;

/// Fuzz entry: bytes of a message. What can be decoded must encode, and decode to the same again.
///
/// # Panics
/// If it does not, which is the bug looked for.
pub fn fuzz_decode(bytes: &[u8]) {
    let Ok(first) = wire::decode(bytes) else {
        return;
    };
    // Some values have several spellings on the wire; the first encoding settles on one.
    let Ok(encoded) = wire::encode(first.version, first.xid, &first.message) else {
        return;
    };
    text::format_message(&first, &text::Names::default());
    if encoded.len() <= wire::MAX_MESSAGE_LEN
        && let wire::Frame::Message(n) = wire::frame(&encoded)
        && n == encoded.len()
    {
        let second = wire::decode(&encoded).expect("what was encoded decodes");
        assert_eq!(first.message, second.message);
    }
}

/// Fuzz entry: text of a flow. What can be read must print, and read the same again.
///
/// # Panics
/// If it does not, which is the bug looked for.
pub fn fuzz_text(s: &str) {
    let names = text::Names::default();
    let Ok(line) = text::parse_flow(s, text::FlowCommand::Add, &names) else {
        return;
    };
    let f = line.flow_mod;
    let m = text::format_match(&f.matching, Some(f.priority), &names);
    let again = format!("{m} actions=drop");
    let second = text::parse_flow(&again, text::FlowCommand::Add, &names)
        .unwrap_or_else(|e| panic!("{again}: {e}"));
    assert_eq!(f.matching, second.flow_mod.matching, "{again}");
    // Some may be written to any packet only in the words of older versions.
    let names = text::Names {
        version: 2,
        ..names
    };
    let actions = text::format_instructions(&f.instructions, &names);
    let again = format!("{m} actions={actions}");
    let second = text::parse_flow(&again, text::FlowCommand::Add, &names)
        .unwrap_or_else(|e| panic!("{again}: {e}"));
    assert_eq!(
        actions,
        text::format_instructions(&second.flow_mod.instructions, &names)
    );
}
