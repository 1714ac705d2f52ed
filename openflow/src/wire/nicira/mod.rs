//! Nicira's experimenter actions and messages, and the ONF's for versions that lack what they say.
//!
//! Forms as Open vSwitch sends and takes them: `action` those inside action lists, `message` whole messages.

mod action;
mod message;

pub use action::{NICIRA_ACTIONS, ONF_COPY_FIELD};
pub(super) use action::{put_action, read_action, read_move};
pub(super) use message::{put_message, read_async, read_message};

use crate::action::PacketInReason;
use crate::error::{ErrorKind, OfError};
use crate::message::PortNo;

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// The reason numbers of packet-ins and controller actions (1.3.5 7.4.1, 1.4 for those from 3).
const REASONS: &[PacketInReason] = &[
    PacketInReason::NoMatch,
    PacketInReason::Action,
    PacketInReason::InvalidTtl,
    PacketInReason::ActionSet,
    PacketInReason::Group,
    PacketInReason::PacketOut,
];

pub(super) fn reason(n: u8) -> Option<PacketInReason> {
    REASONS.get(usize::from(n)).copied()
}

pub(super) fn reason_number(r: PacketInReason) -> u8 {
    REASONS
        .iter()
        .position(|x| *x == r)
        .expect("the table has all reasons") as u8
}

/// OpenFlow 1.0's 16-bit port numbers, which Nicira's actions keep.
fn port16(n: u16) -> PortNo {
    PortNo(if n >= 0xff00 {
        0xffff_0000 | u32::from(n)
    } else {
        n.into()
    })
}
