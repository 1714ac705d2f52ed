//! Nicira's experimenter actions and messages, and the ONF's for versions that lack what they say.
//!
//! Forms as Open vSwitch sends and takes them: `action` those inside action lists, `message` whole messages,
//! `packet_in` those with packets, `multipart` statistics.

mod action;
mod message;
mod multipart;
mod packet_in;

pub use action::{NICIRA_ACTIONS, ONF_COPY_FIELD};
pub(super) use action::{put_action, read_action, read_move};
pub(super) use message::{is_old_async, put_async, put_message, read_async, read_message};
pub(super) use multipart::{
    head, put_parts, put_reply, put_request, read_reply, read_reply_body, read_request,
    read_request_body,
};

use super::codes::{reason, reason_number};
use super::err;
use super::v10::port16;
