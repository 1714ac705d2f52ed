//! One OpenFlow connection without I/O: bytes and the time in, events and bytes out.
//!
//! Both ends use the same core. It says hello, agrees on a version (OpenFlow 1.3.5 6.3.1), cuts the
//! byte stream into messages, puts multipart parts together, answers echo requests, refuses what
//! cannot be understood with the error and the first bytes of the message, and probes a peer that
//! is silent. All else (features, roles, flows) is the owner's.
//!
//! ```
//! use openflow::session::{End, Event, Session};
//! use openflow::wire::OF13;
//! use std::time::{Duration, Instant};
//!
//! let now = Instant::now();
//! let mut switch = Session::new(End::Switch, &[OF13], Some(Duration::from_secs(5)), now);
//! let mut controller = Session::new(End::Controller, &[OF13], None, now);
//! let events = switch.receive(&controller.take_output(), now);
//! assert_eq!(events, [Event::Negotiated(OF13)]);
//! controller.receive(&switch.take_output(), now);
//! let xid = controller.send(&openflow::Message::BarrierRequest).unwrap();
//! let events = switch.receive(&controller.take_output(), now);
//! assert_eq!(events, [Event::Message { xid, message: openflow::Message::BarrierRequest }]);
//! ```

use crate::error::{ErrorKind, OfError};
use crate::message::{ErrorMsg, Hello, Message};
use crate::wire::{self, Assembler, Frame, HEADER_LEN};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};

/// How long a peer may take to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a refused message that go back with the error: all of it, as far as an error's length can say. The standard
/// wants at least 64; Open vSwitch's tools show what they find there.
pub const ERROR_DATA_LEN: usize = u16::MAX as usize - 24;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answers requests; refuses what only a switch may send.
    Switch,
    /// Asks; refuses nothing by direction.
    Controller,
}

/// What came of some bytes or of time passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both said hello: this version is spoken from now on. Comes once, first.
    Negotiated(u8),
    /// A message for the owner, multipart ones whole. Hellos and echoes do not come up.
    #[allow(missing_docs, reason = "said above")]
    Message { xid: u32, message: Message },
    /// A message that could not be understood; the peer has been told.
    #[allow(missing_docs, reason = "said above")]
    Refused { xid: u32, error: OfError },
    /// The connection is of no use any more. Write what [`Session::take_output`] still gives, then
    /// close. Comes once, last.
    Closed(CloseReason),
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// No version in common.
    #[error(
        "no OpenFlow version in common: we speak {ours:#x}, the peer {theirs:#x} (a bit per wire version)"
    )]
    #[allow(missing_docs, reason = "said above")]
    Incompatible { ours: u32, theirs: u32 },
    /// The peer refused our hello.
    #[error("the peer refused our hello: {0}")]
    Rejected(String),
    /// The peer did not say hello in time.
    #[error("no hello within {} seconds", HELLO_TIMEOUT.as_secs())]
    NoHello,
    /// The peer did not answer the probe.
    #[error("no answer to an echo request within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The byte stream cannot be followed.
    #[error("protocol error: {0}")]
    Protocol(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Hello is sent, the peer's is awaited until then.
    Hello(Instant),
    Up(u8),
    Closed,
}

fn no_version() -> OfError {
    OfError::new(ErrorKind::BadVersion, "no version has been agreed on")
}

/// The core of one connection.
#[derive(Debug)]
pub struct Session {
    end: End,
    versions: u32,
    state: State,
    probe: Option<Duration>,
    /// When bytes came last.
    heard: Instant,
    /// When the unanswered probe was sent.
    probed: Option<Instant>,
    input: BytesMut,
    output: BytesMut,
    next_xid: u32,
    parts: Assembler,
}

impl Session {
    /// Begins a connection that has just been established: the hello is in the output already.
    /// `probe` is how long the peer may be silent before it is asked, and then before it is given
    /// up; `None` never asks.
    ///
    /// # Panics
    /// If `versions` is empty: there is no such connection.
    pub fn new(end: End, versions: &[u8], probe: Option<Duration>, now: Instant) -> Session {
        let bits = wire::bitmap(versions);
        let highest = wire::highest(bits).expect("at least one version is allowed");
        let mut s = Session {
            end,
            versions: bits,
            state: State::Hello(now + HELLO_TIMEOUT),
            probe: probe.filter(|p| !p.is_zero()),
            heard: now,
            probed: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            next_xid: 1,
            parts: Assembler::default(),
        };
        let hello = Message::Hello(Hello {
            version: highest,
            versions: Some(bits),
        });
        let xid = s.xid();
        s.put(highest, xid, &hello)
            .expect("a hello has a fixed size");
        s
    }

    /// The version agreed on, once it is.
    pub fn version(&self) -> Option<u8> {
        match self.state {
            State::Up(v) => Some(v),
            _ => None,
        }
    }

    /// Whether [`Event::Closed`] has come.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Changes the probe interval.
    pub fn set_probe(&mut self, probe: Option<Duration>) {
        self.probe = probe.filter(|p| !p.is_zero());
        self.probed = None;
    }

    /// A transaction id that this end has not used lately.
    pub fn xid(&mut self) -> u32 {
        let xid = self.next_xid;
        // Zero is what asynchronous messages carry.
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        xid
    }

    /// Sends a message of our own under a new transaction id, which is given back.
    ///
    /// # Errors
    /// What the version cannot express, or that no version has been agreed on; nothing is sent.
    pub fn send(&mut self, message: &Message) -> Result<u32, OfError> {
        let xid = self.xid();
        self.reply(xid, message)?;
        Ok(xid)
    }

    /// Sends an answer under its request's transaction id (0 for asynchronous messages).
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn reply(&mut self, xid: u32, message: &Message) -> Result<(), OfError> {
        let version = self.version().ok_or_else(no_version)?;
        self.put(version, xid, message)
    }

    /// Sends an answer of which more comes under the same transaction id.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn reply_part(&mut self, xid: u32, message: &Message) -> Result<(), OfError> {
        let version = self.version().ok_or_else(no_version)?;
        let bytes = wire::encode_part(version, xid, message)?;
        self.output.extend_from_slice(&bytes);
        Ok(())
    }

    /// Refuses a request; `request` is its bytes or a beginning of them.
    pub fn refuse(&mut self, xid: u32, kind: ErrorKind, request: &[u8]) {
        let version = self
            .version()
            .or(wire::highest(self.versions))
            .unwrap_or(wire::OF13);
        let data = Bytes::copy_from_slice(&request[..request.len().min(ERROR_DATA_LEN)]);
        let error = Message::Error(ErrorMsg { kind, data });
        self.put(version, xid, &error)
            .expect("an error with a message's beginning fits");
    }

    /// Refuses a request that was decoded: the bytes that go back are made from it anew.
    pub fn refuse_message(&mut self, xid: u32, kind: ErrorKind, request: &Message) {
        let version = self.version().unwrap_or(wire::OF13);
        let bytes = wire::encode(version, xid, request).unwrap_or_default();
        self.refuse(xid, kind, &bytes);
    }

    fn put(&mut self, version: u8, xid: u32, message: &Message) -> Result<(), OfError> {
        let bytes = wire::encode(version, xid, message)?;
        self.output.extend_from_slice(&bytes);
        Ok(())
    }

    /// What is to be written to the peer; empty if nothing is.
    pub fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// Bytes that wait to be taken. An owner whose peer does not read stops producing by this.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Takes bytes from the peer. At most one unfinished message is kept, so the buffer never
    /// holds more than [`wire::MAX_MESSAGE_LEN`] bytes between calls.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if self.state == State::Closed || bytes.is_empty() {
            return events;
        }
        self.heard = now;
        self.probed = None;
        self.input.extend_from_slice(bytes);
        while self.state != State::Closed {
            match wire::frame(&self.input) {
                Frame::Incomplete => break,
                Frame::Broken(h) => {
                    let head = self.input.split_to(HEADER_LEN);
                    self.refuse(h.xid, ErrorKind::BadLen, &head);
                    let why = format!("a message says it has {} bytes, a header has 8", h.len);
                    self.close(CloseReason::Protocol(why), &mut events);
                }
                Frame::Message(n) => {
                    let frame = self.input.split_to(n).freeze();
                    self.message(&frame, &mut events);
                }
            }
        }
        if self.state == State::Closed {
            self.input = BytesMut::new();
        }
        events
    }

    /// Takes one whole message from the peer, as [`wire::frame`] found it, without copying it. Not to be mixed with
    /// [`Session::receive`], which may hold the beginning of another.
    pub fn receive_message(&mut self, message: &Bytes, now: Instant) -> Vec<Event> {
        debug_assert!(
            self.input.is_empty(),
            "the beginning of another message waits"
        );
        let mut events = Vec::new();
        if self.state != State::Closed {
            self.heard = now;
            self.probed = None;
            self.message(message, &mut events);
        }
        events
    }

    fn close(&mut self, reason: CloseReason, events: &mut Vec<Event>) {
        self.state = State::Closed;
        events.push(Event::Closed(reason));
    }

    fn message(&mut self, frame: &Bytes, events: &mut Vec<Event>) {
        let Some(h) = wire::decode_header(frame) else {
            return;
        };
        if let State::Up(version) = self.state
            && h.version != version
            && h.kind > 3
        {
            self.refuse(h.xid, ErrorKind::BadVersion, frame);
            let why = format!(
                "a message of version {:#x} where {version:#x} was agreed on",
                h.version
            );
            return self.close(CloseReason::Protocol(why), events);
        }
        if matches!(self.state, State::Hello(_)) && h.kind > 1 {
            self.refuse(h.xid, ErrorKind::BadType, frame);
            let why = format!("message type {} came before a hello", h.kind);
            return self.close(CloseReason::Protocol(why), events);
        }
        let decoded = wire::decode(frame)
            .and_then(|d| self.allowed(d))
            .and_then(|d| self.parts.add(d.xid, d.more, frame.len(), d.message));
        match decoded {
            Ok(None) => {}
            Ok(Some(message)) => self.whole(h.xid, message, frame, events),
            Err(error) => {
                // An error about an error would go back and forth for ever.
                if h.kind != 1 {
                    self.refuse(h.xid, error.kind, frame);
                }
                events.push(Event::Refused { xid: h.xid, error });
            }
        }
    }

    /// A switch is only asked; answers and reports are a controller's to read.
    fn allowed(&self, d: wire::Decoded) -> Result<wire::Decoded, OfError> {
        let message = match &d.message {
            Message::Nicira(m) => m,
            m => m,
        };
        let reply = matches!(
            message,
            Message::FeaturesReply(_)
                | Message::GetConfigReply(_)
                | Message::PacketIn(_)
                | Message::FlowRemoved(_)
                | Message::PortStatus(..)
                | Message::MultipartReply(_)
                | Message::BarrierReply
                | Message::QueueGetConfigReply(..)
                | Message::RoleReply(_)
                | Message::GetAsyncReply(_)
                | Message::PacketIn2(_)
                | Message::TlvTableReply(..)
                | Message::FlowMonitorPaused
                | Message::FlowMonitorResumed
                | Message::RoleStatus(..)
                | Message::TableStatus(..)
                | Message::RequestForward(..)
                | Message::ControllerStatus(_)
        );
        if reply && self.end == End::Switch {
            return Err(OfError::new(
                ErrorKind::BadType,
                "a switch takes no answers and no reports",
            ));
        }
        Ok(d)
    }

    fn whole(&mut self, xid: u32, message: Message, frame: &Bytes, events: &mut Vec<Event>) {
        match (self.state, message) {
            (State::Hello(_), Message::Hello(theirs)) => {
                match wire::negotiate(self.versions, &theirs) {
                    Some(version) => {
                        self.state = State::Up(version);
                        events.push(Event::Negotiated(version));
                    }
                    None => {
                        self.refuse(xid, ErrorKind::HelloIncompatible, b"no version in common");
                        let theirs = theirs.versions.unwrap_or(1 << theirs.version.min(31));
                        let ours = self.versions;
                        self.close(CloseReason::Incompatible { ours, theirs }, events);
                    }
                }
            }
            (State::Hello(_), Message::Error(e)) => {
                let text = String::from_utf8_lossy(&e.data);
                let why = format!("{} {}", e.kind.name(), text.escape_debug());
                self.close(CloseReason::Rejected(why), events);
            }
            // A second hello has nothing to say.
            (_, Message::Hello(_)) | (_, Message::EchoReply(_)) => {}
            (State::Up(version), Message::EchoRequest(data)) => {
                let version = if frame[0] == version {
                    version
                } else {
                    frame[0]
                };
                self.put(version, xid, &Message::EchoReply(data))
                    .expect("what came in as one message goes out as one");
            }
            (_, message) => events.push(Event::Message { xid, message }),
        }
    }

    /// Looks at the clock: asks a silent peer, gives up one that does not answer.
    pub fn tick(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        match (self.state, self.probe, self.probed) {
            (State::Hello(until), ..) if now >= until => {
                self.close(CloseReason::NoHello, &mut events);
            }
            (State::Up(_), Some(probe), Some(sent)) if now >= sent + probe => {
                self.close(CloseReason::Silent(probe), &mut events);
            }
            (State::Up(version), Some(probe), None) if now >= self.heard + probe => {
                let xid = self.xid();
                self.put(version, xid, &Message::EchoRequest(Bytes::new()))
                    .expect("an empty echo fits");
                self.probed = Some(now);
            }
            _ => {}
        }
        events
    }

    /// When [`Session::tick`] has something to do next, unless bytes come before.
    pub fn next_timeout(&self) -> Option<Instant> {
        match (self.state, self.probe) {
            (State::Hello(until), _) => Some(until),
            (State::Up(_), Some(probe)) => Some(self.probed.unwrap_or(self.heard) + probe),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MultipartReply, TableStats};
    use wire::OF13;

    const PROBE: Duration = Duration::from_secs(5);

    fn up(end: End) -> (Session, Instant) {
        let now = Instant::now();
        let mut s = Session::new(end, &[OF13], Some(PROBE), now);
        s.take_output();
        let events = s.receive(&[4, 0, 0, 8, 0, 0, 0, 1], now);
        assert_eq!(events, [Event::Negotiated(OF13)]);
        (s, now)
    }

    fn error_of(bytes: &[u8]) -> ErrorMsg {
        match wire::decode(bytes).unwrap().message {
            Message::Error(e) => e,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hello_carries_a_bitmap_and_peers_without_one_are_met_by_version() {
        let now = Instant::now();
        let mut s = Session::new(End::Switch, &[OF13], None, now);
        assert_eq!(
            &s.take_output()[..],
            [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x10]
        );
        // A peer of 1.5 without a bitmap speaks 1.3 too; one of 1.0 does not.
        for (theirs, want) in [(6, true), (4, true), (1, false)] {
            let mut s = Session::new(End::Switch, &[OF13], None, now);
            s.take_output();
            let events = s.receive(&[theirs, 0, 0, 8, 0, 0, 0, 9], now);
            if want {
                assert_eq!(events, [Event::Negotiated(OF13)]);
            } else {
                assert!(matches!(
                    events[0],
                    Event::Closed(CloseReason::Incompatible { .. })
                ));
                assert_eq!(
                    error_of(&s.take_output()).kind,
                    ErrorKind::HelloIncompatible
                );
                assert!(s.is_closed() && s.receive(&[4], now).is_empty());
            }
        }
        // A bitmap counts for more than the header.
        let mut s = Session::new(End::Switch, &[OF13], None, now);
        let hello = [6, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x42];
        assert!(matches!(s.receive(&hello, now)[0], Event::Closed(_)));
    }

    #[test]
    fn messages_come_whole_from_any_cut() {
        let bytes = wire::encode(OF13, 7, &Message::BarrierRequest).unwrap();
        let twice = [&bytes[..], &bytes[..]].concat();
        for cut in 0..twice.len() {
            let (mut s, now) = up(End::Switch);
            let mut events = s.receive(&twice[..cut], now);
            events.extend(s.receive(&twice[cut..], now));
            assert_eq!(events.len(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_first_bytes() {
        let (mut s, now) = up(End::Switch);
        let mut bad = vec![4, 99, 0, 100, 0, 0, 0, 5];
        bad.resize(100, 0xab);
        let events = s.receive(&bad, now);
        assert!(
            matches!(&events[..], [Event::Refused { xid: 5, error }] if error.kind == ErrorKind::BadType)
        );
        let e = error_of(&s.take_output());
        assert_eq!((e.kind, &e.data[..]), (ErrorKind::BadType, &bad[..]));
        // And the connection goes on.
        assert_eq!(s.receive(&[4, 20, 0, 8, 0, 0, 0, 6], now).len(), 1);
        let events = s.receive(&[4, 20, 0, 7, 0, 0, 0, 6], now);
        assert!(matches!(
            events[..],
            [Event::Closed(CloseReason::Protocol(_))]
        ));
    }

    #[test]
    fn a_switch_takes_no_answers() {
        let (mut s, now) = up(End::Switch);
        let bytes = wire::encode(OF13, 7, &Message::BarrierReply).unwrap();
        assert!(matches!(
            s.receive(&bytes, now)[..],
            [Event::Refused { .. }]
        ));
        let (mut s, now) = up(End::Controller);
        assert!(matches!(
            s.receive(&bytes, now)[..],
            [Event::Message { .. }]
        ));
    }

    #[test]
    fn another_version_after_the_hello_ends_it() {
        let (mut s, now) = up(End::Switch);
        let events = s.receive(&[1, 5, 0, 8, 0, 0, 0, 6], now);
        assert!(matches!(
            events[..],
            [Event::Closed(CloseReason::Protocol(_))]
        ));
        assert_eq!(error_of(&s.take_output()).kind, ErrorKind::BadVersion);
    }

    #[test]
    fn a_silent_peer_is_asked_once_and_then_given_up() {
        let (mut s, t0) = up(End::Switch);
        assert_eq!(s.next_timeout(), Some(t0 + PROBE));
        assert!(s.tick(t0 + PROBE - Duration::from_millis(1)).is_empty());
        assert_eq!(s.output_len(), 0);
        assert!(s.tick(t0 + PROBE).is_empty());
        let echo = s.take_output();
        assert_eq!(echo[1], 2);
        assert_eq!(s.next_timeout(), Some(t0 + PROBE * 2));
        let mut reply = echo.to_vec();
        reply[1] = 3;
        assert!(
            s.receive(&reply, t0 + PROBE * 2 - Duration::from_millis(1))
                .is_empty()
        );
        assert!(s.tick(t0 + PROBE * 2).is_empty());
        s.tick(t0 + PROBE * 3);
        let events = s.tick(t0 + PROBE * 4);
        assert_eq!(events, [Event::Closed(CloseReason::Silent(PROBE))]);
    }

    #[test]
    fn echo_requests_are_answered_and_do_not_come_up() {
        let (mut s, now) = up(End::Controller);
        assert!(s.receive(&[4, 2, 0, 10, 0, 0, 0, 6, 1, 2], now).is_empty());
        assert_eq!(&s.take_output()[..], [4, 3, 0, 10, 0, 0, 0, 6, 1, 2]);
    }

    #[test]
    fn long_answers_are_cut_and_put_together() {
        let tables: Vec<TableStats> = (0..10_000u32)
            .map(|n| TableStats {
                table: n as u8,
                active: n,
                lookups: 1,
                matched: 0,
                ..TableStats::default()
            })
            .collect();
        let whole = Message::MultipartReply(MultipartReply::Table(tables));
        let bytes = wire::encode(OF13, 3, &whole).unwrap();
        assert!(bytes.len() > wire::MAX_MESSAGE_LEN);
        let (mut s, now) = up(End::Controller);
        let events = s.receive(&bytes, now);
        assert_eq!(
            events,
            [Event::Message {
                xid: 3,
                message: whole
            }]
        );
    }

    #[test]
    fn unfinished_multiparts_are_bounded() {
        let (mut s, now) = up(End::Controller);
        let part = |xid: u8| [4, 19, 0, 16, 0, 0, 0, xid, 0, 3, 0, 1, 0, 0, 0, 0];
        for xid in 0..wire::MAX_MULTIPART_OPEN as u8 {
            assert!(s.receive(&part(xid), now).is_empty());
        }
        let events = s.receive(&part(200), now);
        assert!(
            matches!(&events[..], [Event::Refused { error, .. }] if error.kind == ErrorKind::MultipartBufferOverflow)
        );
    }
}
