//! A connection's [`openflow::session::Session`] as the connection tasks use it: messages come out one
//! at a time, so that they can be handled at the pace at which answers leave.

use bytes::Bytes;
use openflow::session::{CloseReason, End, Event, Session};
use openflow::wire::{self, OF10, OF13};
use openflow::{FlowMod, Message};
use std::collections::VecDeque;
use std::time::Instant;

/// Versions that the codec speaks, by the names of `Bridge.protocols`.
pub const SUPPORTED: &[(&str, u8)] = &[("OpenFlow10", OF10), ("OpenFlow13", OF13)];

/// Flow-mods that are carried out together: others that change flows wait that long.
pub const FLOW_MODS_AT_ONCE: usize = 1024;

/// A message from the peer.
pub struct Incoming {
    /// Transaction id.
    pub xid: u32,
    /// The message.
    pub message: Message,
}

/// One end of a connection.
pub struct Conversation {
    session: Option<Session>,
    waiting: VecDeque<Incoming>,
    closed: Option<String>,
}

impl Conversation {
    /// The switch's end; `protocols` narrows the versions, none means all.
    pub fn new(protocols: &[String]) -> Conversation {
        let versions: Vec<u8> = SUPPORTED
            .iter()
            .filter(|(name, _)| protocols.is_empty() || protocols.iter().any(|p| p == name))
            .map(|(_, v)| *v)
            .collect();
        if versions.is_empty() {
            return Conversation {
                session: None,
                waiting: VecDeque::new(),
                closed: Some(format!(
                    "none of the bridge's protocols ({}) is supported, only {}",
                    protocols.join(", "),
                    SUPPORTED
                        .iter()
                        .map(|(n, _)| *n)
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            };
        }
        Conversation {
            session: Some(Session::new(End::Switch, &versions, None, Instant::now())),
            waiting: VecDeque::new(),
            closed: None,
        }
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
        let Some(session) = &mut self.session else {
            return;
        };
        for event in session.receive(bytes, Instant::now()) {
            match event {
                Event::Negotiated(_) => {}
                Event::Message { xid, message } => {
                    self.waiting.push_back(Incoming { xid, message });
                }
                Event::Refused { xid, error } => {
                    tracing::debug!("message {xid:#x} was refused: {error}");
                }
                Event::Closed(reason) => {
                    if matches!(reason, CloseReason::Incompatible { .. }) {
                        tracing::warn!("{reason}");
                    }
                    self.closed = Some(reason.to_string());
                }
            }
        }
    }

    /// The next message.
    pub fn next(&mut self) -> Option<Incoming> {
        self.waiting.pop_front()
    }

    /// The flow-mods that came next, as long as no other message is between them, and `wanted` takes them; at most
    /// [`FLOW_MODS_AT_ONCE`].
    pub fn flow_mods(&mut self, wanted: impl Fn(&FlowMod) -> bool) -> Vec<(u32, FlowMod)> {
        let mut run = Vec::new();
        while run.len() < FLOW_MODS_AT_ONCE
            && let Some(next) = self
                .waiting
                .pop_front_if(|i| matches!(&i.message, Message::FlowMod(m) if wanted(m)))
            && let Message::FlowMod(m) = next.message
        {
            run.push((next.xid, m));
        }
        run
    }

    /// Says something: an answer under its request's transaction id, anything else under 0.
    pub fn send(&mut self, xid: u32, message: &Message) {
        if let Some(session) = &mut self.session
            && let Err(e) = session.reply(xid, message)
        {
            tracing::warn!("a message cannot be sent in this OpenFlow version: {e}");
            // Whoever asked should not wait for ever.
            if xid != 0 {
                session.refuse(xid, e.kind, &[]);
            }
        }
    }

    /// Asks whether the peer is there.
    pub fn probe(&mut self) {
        if let Some(session) = &mut self.session {
            // Nothing can be wrong with an echo request without data.
            let _ = session.send(&Message::EchoRequest(Bytes::new()));
        }
    }

    /// A message's bytes, as they would be on this connection.
    pub fn encode(&self, xid: u32, message: &Message) -> Bytes {
        wire::encode(self.version().unwrap_or(OF13), xid, message).unwrap_or_default()
    }

    /// What is to be written.
    pub fn take_output(&mut self) -> Bytes {
        self.session
            .as_mut()
            .map(Session::take_output)
            .unwrap_or_default()
    }
}
