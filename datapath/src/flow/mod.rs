//! Flow keys: what the switch knows of a packet, as words that can be masked, compared and hashed.

mod extract;
mod format;
mod key;
mod tunnel;

pub use extract::{TAGS_PARSED, extract};
pub use format::{format_key, tcp_flags_text};
pub use key::{
    FlowKey, FlowMask, Hasher, Keyed, OPTIONS, PACKET_WORDS, PacketKey, Place, WORDS, place,
    slot_bits,
};
pub(crate) use tunnel::{PUBLIC, each_option, flags_of_slot};
