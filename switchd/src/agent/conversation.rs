//! A connection's [`openflow::session::Session`] as the connection tasks use it: messages come out one
//! at a time, with their bytes, so that they can be handled at the pace at which answers leave. What is
//! not handled yet stays undecoded, and is no more than was read at once.

use bytes::{Bytes, BytesMut};
use openflow::session::{CloseReason, End, Event, Session};
use openflow::wire::{self, Frame};
use openflow::{FlowMod, Message};
use std::collections::VecDeque;
use std::time::Instant;

/// Versions by the names of `Bridge.protocols`.
const VERSIONS: [(&str, u8); 6] = [
    ("OpenFlow10", 1),
    ("OpenFlow11", 2),
    ("OpenFlow12", 3),
    ("OpenFlow13", 4),
    ("OpenFlow14", 5),
    ("OpenFlow15", 6),
];

/// Those that the codec speaks.
fn supported() -> impl Iterator<Item = (&'static str, u8)> {
    VERSIONS
        .into_iter()
        .filter(|(_, v)| wire::SUPPORTED.contains(v))
}

/// Whether the codec speaks the version of this name.
pub fn is_supported(name: &str) -> bool {
    supported().any(|(n, _)| n == name)
}

/// Flow-mods that are carried out together: others that change flows wait that long.
pub const FLOW_MODS_AT_ONCE: usize = 1024;

/// A message from the peer.
pub struct Incoming {
    /// Transaction id.
    pub xid: u32,
    /// The message.
    pub message: Message,
    /// Its bytes (the last part's, of a multipart request).
    pub raw: Bytes,
}

/// One end of a connection.
pub struct Conversation {
    session: Option<Session>,
    input: BytesMut,
    waiting: VecDeque<Incoming>,
    closed: Option<String>,
}

impl Conversation {
    /// The switch's end; `protocols` narrows the versions, none means all.
    pub fn new(protocols: &[String]) -> Conversation {
        let versions: Vec<u8> = supported()
            .filter(|(name, _)| protocols.is_empty() || protocols.iter().any(|p| p == name))
            .map(|(_, v)| v)
            .collect();
        let mut c = Conversation {
            session: None,
            input: BytesMut::new(),
            waiting: VecDeque::new(),
            closed: None,
        };
        if versions.is_empty() {
            c.closed = Some(format!(
                "none of the bridge's protocols ({}) is supported, only {}",
                protocols.join(", "),
                supported().map(|(n, _)| n).collect::<Vec<_>>().join(", ")
            ));
        } else {
            c.session = Some(Session::new(End::Switch, &versions, None, Instant::now()));
        }
        c
    }

    /// The version agreed on, once it is.
    pub fn version(&self) -> Option<u8> {
        self.session.as_ref().and_then(Session::version)
    }

    /// Why the conversation is over, once it is and everything said before was handled.
    pub fn failure(&self) -> Option<String> {
        self.closed.clone().filter(|_| self.waiting.is_empty())
    }

    /// Takes bytes from the peer.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.closed.is_none() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next message; `seen` is shown the bytes of every message that is looked at, also of those
    /// that are answered or refused on the way.
    pub fn next(&mut self, mut seen: impl FnMut(&[u8])) -> Option<Incoming> {
        while self.waiting.is_empty() && self.look(&mut seen) {}
        self.waiting.pop_front()
    }

    /// The flow-mods that come next, as long as no other message is between them, and `wanted` takes
    /// them; at most [`FLOW_MODS_AT_ONCE`].
    pub fn flow_mods(
        &mut self,
        wanted: impl Fn(&FlowMod) -> bool,
        mut seen: impl FnMut(&[u8]),
    ) -> Vec<(u32, Bytes, FlowMod)> {
        let mut run = Vec::new();
        while run.len() < FLOW_MODS_AT_ONCE {
            while self.waiting.is_empty() && self.look(&mut seen) {}
            let next = self
                .waiting
                .pop_front_if(|i| matches!(&i.message, Message::FlowMod(m) if wanted(m)));
            let Some(Incoming {
                xid,
                raw,
                message: Message::FlowMod(m),
            }) = next
            else {
                break;
            };
            run.push((xid, raw, m));
        }
        run
    }

    /// Decodes one message; false if there is no whole one.
    fn look(&mut self, seen: &mut impl FnMut(&[u8])) -> bool {
        if self.closed.is_some() {
            return false;
        }
        let Some(session) = &mut self.session else {
            return false;
        };
        let now = Instant::now();
        let (raw, events) = match wire::frame(&self.input) {
            Frame::Incomplete => return false,
            Frame::Message(n) => {
                let raw = self.input.split_to(n).freeze();
                let events = session.receive_message(&raw, now);
                (raw, events)
            }
            // The session ends with it.
            Frame::Broken(_) => {
                let raw = self.input.split().freeze();
                let events = session.receive(&raw, now);
                (raw, events)
            }
        };
        seen(&raw);
        for event in events {
            match event {
                Event::Negotiated(_) => {}
                Event::Message { xid, message } => {
                    let raw = raw.clone();
                    self.waiting.push_back(Incoming { xid, message, raw });
                }
                Event::Refused { xid, error } => {
                    tracing::debug!("message {xid:#x} was refused: {error}");
                }
                Event::Closed(reason) => {
                    if matches!(reason, CloseReason::Incompatible { .. }) {
                        tracing::warn!("{reason}");
                    }
                    self.closed = Some(reason.to_string());
                    self.input = BytesMut::new();
                }
            }
        }
        true
    }

    /// Goes through what came as far as agreeing on a version needs.
    pub fn negotiate(&mut self) {
        while self.version().is_none() && self.look(&mut |_| {}) {}
    }

    /// Says something: an answer under its request's transaction id, anything else under 0.
    pub fn send(&mut self, xid: u32, message: &Message) {
        self.send_part(xid, message, false);
    }

    /// The same for an answer of which more may come; whether it could be said.
    pub fn send_part(&mut self, xid: u32, message: &Message, more: bool) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let said = match more {
            true => session.reply_part(xid, message),
            false => session.reply(xid, message),
        };
        if let Err(e) = &said {
            tracing::warn!("a message cannot be sent in this OpenFlow version: {e}");
            // Whoever asked should not wait for ever.
            if xid != 0 {
                session.refuse(xid, e.kind, &[]);
            }
        }
        said.is_ok()
    }

    /// Asks whether the peer is there.
    pub fn probe(&mut self) {
        if let Some(session) = &mut self.session {
            // Nothing can be wrong with an echo request without data.
            let _ = session.send(&Message::EchoRequest(Bytes::new()));
        }
    }

    /// What is to be written.
    pub fn take_output(&mut self) -> Bytes {
        self.session
            .as_mut()
            .map(Session::take_output)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_seen_with_its_bytes_and_only_one_is_handed_out() {
        let mut c = Conversation::new(&["OpenFlow13".to_owned()]);
        let hello = [4, 0, 0, 8, 0, 0, 0, 1];
        let echo = [4, 2, 0, 8, 0, 0, 0, 2];
        let barrier = [4, 20, 0, 8, 0, 0, 0, 3];
        c.receive(&[&hello[..], &echo, &barrier, &barrier[..5]].concat());
        c.negotiate();
        assert_eq!(c.version(), Some(4));
        c.take_output();
        let mut seen = Vec::new();
        let m = c.next(|raw| seen.push(raw.to_vec())).unwrap();
        assert_eq!(
            (m.xid, m.message, &m.raw[..]),
            (3, Message::BarrierRequest, &barrier[..])
        );
        assert_eq!(seen, [echo.to_vec(), barrier.to_vec()]);
        assert_eq!(
            c.take_output()[..],
            [4, 3, 0, 8, 0, 0, 0, 2],
            "an echo is answered"
        );
        assert!(c.next(|_| {}).is_none());
        c.receive(&barrier[5..]);
        assert!(c.next(|_| {}).is_some());
        c.receive(&[4, 20, 0, 3, 0, 0, 0, 9]);
        assert!(c.next(|_| {}).is_none() && c.failure().is_some());
    }
}
