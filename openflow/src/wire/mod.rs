//! Bytes to model and back.
//!
//! * `cursor` — reading and writing with every length checked
//! * [`oxm`] — match fields as OXM and NXM TLVs, of every version from 1.2 on
//! * `action`, `instruction` — actions and instructions of 1.1 and later
//! * `nicira` — Nicira's and the ONF's experimenter actions and messages
//! * `v10` — the messages of OpenFlow 1.0 and Nicira's extensions of it
//! * `v11` — the messages of OpenFlow 1.1 to 1.5, which grew from each other
//! * [`types`], `codes`, `error` — the numbers of messages, of values, of errors
//! * `property`, `parts` — lists of properties; multipart messages in several parts
//!
//! [`decode`] and [`encode`] choose the version's module. What a version cannot express is an
//! error of the encoder; what the bytes get wrong is an [`OfError`] of the kind the peer is to be
//! answered with.

mod action;
mod codes;
mod cursor;
mod error;
mod instruction;
mod nicira;
pub mod oxm;
mod parts;
mod property;
pub mod types;
mod v10;
mod v11;

use crate::error::{ErrorKind, OfError};
use crate::message::{ErrorMsg, Hello, Message};
pub use action::ACTION_TYPES;
use bytes::Bytes;
use cursor::{Reader, Writer};
pub use instruction::INSTRUCTION_TYPES;
pub use nicira::{NICIRA_ACTIONS, ONF_COPY_FIELD};
pub(crate) use parts::Assembler;
pub use parts::{MAX_MULTIPART_LEN, MAX_MULTIPART_OPEN};
use types::MessageType;
use v10::transport;

/// `OFPFW_ALL` of OpenFlow 1.0: a table that can leave any of the twelve fields out.
pub const WILD_ALL: u32 = v10::WILD_ALL;

/// OpenFlow 1.0's number on the wire.
pub const OF10: u8 = 1;

/// OpenFlow 1.1's number on the wire.
pub const OF11: u8 = 2;

/// OpenFlow 1.2's number on the wire.
pub const OF12: u8 = 3;

/// OpenFlow 1.3's number on the wire.
pub const OF13: u8 = 4;

/// OpenFlow 1.4's number on the wire.
pub const OF14: u8 = 5;

/// OpenFlow 1.5's number on the wire.
pub const OF15: u8 = 6;

/// The versions this crate can speak, lowest first.
pub const SUPPORTED: &[u8] = &[OF10, OF11, OF12, OF13, OF14, OF15];

/// `OFP_NO_BUFFER`.
const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPG_ANY`.
const NO_GROUP: u32 = 0xffff_ffff;
/// `OFPQ_ALL`.
const ALL_QUEUES: u32 = 0xffff_ffff;
/// What a cookie reads where the form of a message has none.
const NO_COOKIE: u64 = u64::MAX;

/// Bytes of a header (OpenFlow 1.3.5 7.1).
pub const HEADER_LEN: usize = 8;

/// The largest message: its length field has 16 bits.
pub const MAX_MESSAGE_LEN: usize = 0xffff;

/// Why bytes could not be understood: what to answer, and why.
pub type DecodeError = OfError;

/// The header that every message of every version begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Wire version.
    pub version: u8,
    /// Message type, a number of that version.
    pub kind: u8,
    /// Bytes in all, header included.
    pub len: u16,
    /// Transaction id.
    pub xid: u32,
}

/// Reads a header; `None` while fewer than [`HEADER_LEN`] bytes are there. The length is as sent:
/// anything below [`HEADER_LEN`] means the stream cannot be followed any further.
pub fn decode_header(bytes: &[u8]) -> Option<Header> {
    let h: &[u8; HEADER_LEN] = bytes.first_chunk()?;
    Some(Header {
        version: h[0],
        kind: h[1],
        len: u16::from_be_bytes([h[2], h[3]]),
        xid: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
    })
}

/// How the next message in a byte stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// More bytes are needed.
    Incomplete,
    /// A message of this many bytes is at the front.
    Message(usize),
    /// The length field is shorter than a header: nothing behind it can be found.
    Broken(Header),
}

/// Looks for a whole message at the front of `bytes`.
pub fn frame(bytes: &[u8]) -> Frame {
    match decode_header(bytes) {
        None => Frame::Incomplete,
        Some(h) if usize::from(h.len) < HEADER_LEN => Frame::Broken(h),
        Some(h) if usize::from(h.len) > bytes.len() => Frame::Incomplete,
        Some(h) => Frame::Message(usize::from(h.len)),
    }
}

/// A message with what its header said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Wire version.
    pub version: u8,
    /// Transaction id.
    pub xid: u32,
    /// A multipart message with more parts to come under the same `xid`.
    pub more: bool,
    /// The message.
    pub message: Message,
}

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// Reads entries to the end of `r`.
fn read_all<'a, T>(
    r: &mut Reader<'a>,
    mut one: impl FnMut(&mut Reader<'a>) -> Result<T, OfError>,
) -> Result<Vec<T>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        out.push(one(r)?);
    }
    Ok(out)
}

/// An entry that begins with its own 16-bit length: the reader behind it.
fn sized<'a>(r: &mut Reader<'a>, min: usize) -> Result<Reader<'a>, OfError> {
    let len = usize::from(Reader::new(r.peek(), ErrorKind::BadLen).u16()?);
    if len < min {
        return err(
            ErrorKind::BadLen,
            format!("an entry has {len} bytes, at least {min} are right"),
        );
    }
    let mut e = r.sub(len, ErrorKind::BadLen)?;
    e.skip(2)?;
    Ok(e)
}

/// Decodes one whole message.
///
/// # Errors
/// What to answer the sender with: a version this crate does not speak, a length that does not
/// agree with the contents, or contents that the version does not allow.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let bad_len = |d: String| OfError::new(ErrorKind::BadLen, d);
    let h = decode_header(bytes)
        .ok_or_else(|| bad_len(format!("{} bytes are no whole header", bytes.len())))?;
    if usize::from(h.len) != bytes.len() || bytes.len() < HEADER_LEN {
        return Err(bad_len(format!(
            "the header says {} bytes, there are {}",
            h.len,
            bytes.len()
        )));
    }
    let mut r = Reader::new(&bytes[HEADER_LEN..], ErrorKind::BadLen);
    // Hello, error and echo have one form in all versions.
    let message = match h.kind {
        0 => Some(decode_hello(h.version, &mut r)?),
        1 => Some(Message::Error(ErrorMsg {
            kind: error::read(&mut r, h.version)?,
            data: Bytes::copy_from_slice(r.all()),
        })),
        2 => Some(Message::EchoRequest(Bytes::copy_from_slice(r.all()))),
        3 => Some(Message::EchoReply(Bytes::copy_from_slice(r.all()))),
        _ => None,
    };
    let (message, more) = match (message, h.version) {
        (Some(message), _) => (message, false),
        (None, OF10) => v10::decode(h.kind, r)?,
        (None, OF11..=OF15) => v11::decode(h.version, h.kind, r)?,
        (None, v) => {
            return Err(OfError::new(
                ErrorKind::BadVersion,
                format!("OpenFlow wire version {v:#x} is not spoken here"),
            ));
        }
    };
    Ok(Decoded {
        version: h.version,
        xid: h.xid,
        more,
        message,
    })
}

/// Encodes a message. A long multipart answer becomes several messages, one after the other.
///
/// # Errors
/// What `version` cannot express or what does not fit its length fields.
pub fn encode(version: u8, xid: u32, message: &Message) -> Result<Bytes, OfError> {
    Ok(write(version, xid, message)?.finish())
}

/// Encodes a multipart answer behind which more of it comes, under the same `xid`.
///
/// # Errors
/// As [`encode`].
pub fn encode_part(version: u8, xid: u32, message: &Message) -> Result<Bytes, OfError> {
    let mut w = write(version, xid, message)?;
    parts::unfinished(&mut w);
    Ok(w.finish())
}

fn write(version: u8, xid: u32, message: &Message) -> Result<Writer, OfError> {
    let mut w = Writer::default();
    let mut simple = |kind: MessageType, body: &mut dyn FnMut(&mut Writer)| {
        put_header(&mut w, version, kind, xid);
        body(&mut w);
        w.set_len(2, 0)
    };
    match message {
        Message::Hello(h) => simple(MessageType::Hello, &mut |w| {
            if let Some(versions) = h.versions {
                w.u16(1);
                w.u16(8);
                w.u32(versions);
            }
        })?,
        Message::Error(e) => simple(MessageType::Error, &mut |w| {
            error::put(w, version, e.kind);
            w.put(&e.data[..e.data.len().min(MAX_MESSAGE_LEN - w.len())]);
        })?,
        Message::EchoRequest(data) => simple(MessageType::EchoRequest, &mut |w| w.put(data))?,
        Message::EchoReply(data) => simple(MessageType::EchoReply, &mut |w| w.put(data))?,
        other if version == OF10 => v10::encode(&mut w, xid, other)?,
        other if (OF11..=OF15).contains(&version) => v11::encode(&mut w, version, xid, other)?,
        _ => {
            return Err(OfError::new(
                ErrorKind::BadVersion,
                format!("OpenFlow wire version {version:#x} is not spoken here"),
            ));
        }
    }
    Ok(w)
}

/// Writes a header for a message that the version has.
fn put_header(w: &mut Writer, version: u8, kind: MessageType, xid: u32) {
    w.u8(version);
    // The first four have one number in all versions, also in those that are not spoken here.
    let number = kind.number(version).or(kind.number(OF10));
    w.u8(number.unwrap_or_default() as u8);
    w.u16(0);
    w.u32(xid);
}

/// A hello: elements with unknown types are passed over, as the standard wants (1.3.5 7.5.1).
fn decode_hello(version: u8, r: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let mut versions = None;
    // Before elements there were hellos with arbitrary bytes behind the header; anything that is
    // no well-formed element ends the list instead of breaking the connection.
    while r.len() >= 4 {
        let Ok((kind, whole, mut body)) = r.tlv(4, 1) else {
            break;
        };
        if kind == 1 && body.len() >= 4 && versions.is_none() {
            versions = Some(body.u32()?);
        }
        let padding = whole.len().next_multiple_of(8) - whole.len();
        if r.skip(padding).is_err() {
            break;
        }
    }
    Ok(Message::Hello(Hello { version, versions }))
}

/// The version two peers speak: with bitmaps on both sides the highest common one, else the lower
/// of the two highest, if ours allows it (OpenFlow 1.3.5 6.3.1). `ours` has a bit per version.
pub fn negotiate(ours: u32, theirs: &Hello) -> Option<u8> {
    let common = match theirs.versions {
        Some(bits) => ours & bits,
        None => {
            let mine = highest(ours)?;
            let v = mine.min(theirs.version);
            if v >= 32 { 0 } else { ours & (1 << v) }
        }
    };
    highest(common)
}

/// The highest version in a bitmap.
pub fn highest(versions: u32) -> Option<u8> {
    versions.checked_ilog2().map(|v| v as u8)
}

/// A bitmap of wire versions.
pub fn bitmap(versions: &[u8]) -> u32 {
    versions
        .iter()
        .filter(|v| **v < 32)
        .fold(0, |bits, v| bits | 1 << v)
}
