//! vhost-user messages on the wire: a 12-byte header, a body, and descriptors beside it (vhost-user, "Message
//! Specification"). No I/O: the [`Decoder`] says how many bytes it wants next and is given them.

use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::sys::unix::MAX_FDS;

/// Bytes of a message's header: request, flags, size of the body.
pub const HEADER: usize = 12;
/// Longest body taken. The longest that means anything to us is a memory table of eight regions, 264 bytes.
pub const MAX_BODY: usize = 1024;

const VERSION_MASK: u32 = 3;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Declares the requests once: number, name.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frontend can ask (vhost-user, "Front-end message types").
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "the names are the specification's")]
        pub enum Request { $($(#[$doc])* $name = $number,)* }

        impl Request {
            /// The request with this number, if we know it.
            pub fn from_number(number: u32) -> Option<Request> {
                match number { $($number => Some(Request::$name),)* _ => None }
            }
        }
    };
}

requests! {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    NetSetMtu = 20,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
    SetStatus = 39,
    GetStatus = 40,
}

/// A message that cannot be understood; the connection ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Not version 1.
    #[error("vhost-user message with flags {0:#x}: version must be 1, and it must not be a reply")]
    Flags(u32),
    /// Longer than [`MAX_BODY`].
    #[error("vhost-user request {0} with {1} bytes, at most {MAX_BODY} are possible")]
    TooLong(u32, u32),
    /// More descriptors than a message can have.
    #[error("vhost-user message with more than {MAX_FDS} descriptors")]
    TooManyFds,
}

/// A whole message.
#[derive(Debug)]
pub struct Message {
    /// The request's number; see [`Request::from_number`].
    pub request: u32,
    /// Whether the sender waits for an acknowledgement.
    pub need_reply: bool,
    /// The body.
    pub body: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Message {
    /// The body as one number, if that is what it is.
    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_le_bytes(self.body.as_slice().try_into().ok()?))
    }

    /// The body as a queue's state: index and number.
    pub fn state(&self) -> Option<(u32, u32)> {
        let both: [u8; 8] = self.body.as_slice().try_into().ok()?;
        Some((word32(&both, 0), word32(&both, 4)))
    }
}

/// The little-endian 32-bit number at `at`, which must be inside.
pub fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The little-endian 64-bit number at `at`, which must be inside.
pub fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Encodes the answer to a request.
pub fn reply(request: u32, body: &[u8]) -> Vec<u8> {
    encode(request, VERSION | REPLY, body)
}

/// Encodes a request (for frontends: our tests).
pub fn request(request: Request, need_reply: bool, body: &[u8]) -> Vec<u8> {
    encode(
        request as u32,
        VERSION | if need_reply { NEED_REPLY } else { 0 },
        body,
    )
}

fn encode(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(request.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Puts messages together from what a socket delivers.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Decoder {
    /// How many bytes are missing to the end of the header, or of the body once the header is there. Never zero. Reading no
    /// more than that keeps descriptors with the message they came with.
    pub fn wanted(&self) -> usize {
        match self.bytes.len() {
            n if n < HEADER => HEADER - n,
            n => HEADER + word32(&self.bytes, 8) as usize - n,
        }
    }

    /// Takes bytes (at most [`Decoder::wanted`]) and the descriptors that came with them; returns the message when it is whole.
    pub fn push(
        &mut self,
        bytes: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Message>, DecodeError> {
        debug_assert!(bytes.len() <= self.wanted());
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
        if self.fds.len() > MAX_FDS {
            return Err(DecodeError::TooManyFds);
        }
        if self.bytes.len() < HEADER {
            return Ok(None);
        }
        let (request, flags, size) = (
            word32(&self.bytes, 0),
            word32(&self.bytes, 4),
            word32(&self.bytes, 8),
        );
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(DecodeError::Flags(flags));
        }
        if size as usize > MAX_BODY {
            return Err(DecodeError::TooLong(request, size));
        }
        if self.bytes.len() < HEADER + size as usize {
            return Ok(None);
        }
        let body = self.bytes[HEADER..].to_vec();
        self.bytes.clear();
        let fds = std::mem::take(&mut self.fds);
        Ok(Some(Message {
            request,
            need_reply: flags & NEED_REPLY != 0,
            body,
            fds,
        }))
    }
}
