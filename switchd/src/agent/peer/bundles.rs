//! Bundles: messages that take effect together (OpenFlow 1.4.1 6.8; ONF extension 230 before 1.4).
//!
//! A bundle holds changes of flows, groups and ports, and packet-outs. A commit checks what can be
//! checked beforehand, then makes all changes of flows and groups visible at one instant, or none of
//! them; ports change and packets leave after that, in their order. What is in a bundle is bounded by
//! number and bytes, and a bundle that nobody touches goes after `other_config:bundle-idle-timeout`.

use super::packets::taken;
use super::{Answer, Peer, Request, error};
use crate::agent::rconn::Now;
use crate::agent::{Bridge, origin};
use crate::plane::Change;
use bytes::Bytes;
use openflow::error::ErrorKind;
use openflow::{
    BundleFeatures, BundleId, BundleStep, FlowMod, GroupMod, Message, OfError, PacketOut, PortMod,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bundles a connection may have open.
pub const MAX_BUNDLES: usize = 64;
/// Messages in all bundles of a connection: as many as a bridge takes flows.
pub const MAX_BUNDLE_MESSAGES: usize = 1_000_000;
/// Bytes of these messages as they came.
pub const MAX_BUNDLE_BYTES: usize = 256 << 20;

/// What bundles can be: atomic and ordered. (Every commit is.)
pub(super) const FEATURES: BundleFeatures = BundleFeatures { capabilities: 3 };

/// Something to do at commit.
#[derive(Clone, Debug)]
enum Entry {
    Flow(FlowMod),
    Group(GroupMod),
    Port(PortMod),
    Packet(PacketOut),
}

#[derive(Clone, Debug)]
struct Bundle {
    id: BundleId,
    closed: bool,
    /// With the transaction ids that answers to them carry.
    entries: Vec<(u32, Entry)>,
    bytes: usize,
    /// When it was last touched.
    used: Now,
    /// The message that opened it, which the error about its end refers to.
    opened: (u32, Bytes),
}

/// A connection's bundles.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundles {
    open: BTreeMap<u32, Bundle>,
    messages: usize,
    bytes: usize,
}

fn bad(id: u32, kind: ErrorKind, why: impl std::fmt::Display) -> OfError {
    OfError::new(kind, format!("bundle {id}: {why}"))
}

impl Bundles {
    fn remove(&mut self, id: u32) -> Option<Bundle> {
        let b = self.open.remove(&id)?;
        self.messages -= b.entries.len();
        self.bytes -= b.bytes;
        Some(b)
    }

    fn open(&mut self, id: BundleId, request: &Request<'_>) -> Result<(), OfError> {
        if self.remove(id.id).is_some() {
            return Err(bad(id.id, ErrorKind::BundleBadId, "exists already"));
        }
        if self.open.len() >= MAX_BUNDLES {
            return Err(bad(
                id.id,
                ErrorKind::OutOfBundles,
                format!("{MAX_BUNDLES} bundles are open"),
            ));
        }
        let head = &request.raw[..request.raw.len().min(openflow::session::ERROR_DATA_LEN)];
        let bundle = Bundle {
            id,
            closed: false,
            entries: Vec::new(),
            bytes: 0,
            used: request.now,
            opened: (request.xid, Bytes::copy_from_slice(head)),
        };
        self.open.insert(id.id, bundle);
        Ok(())
    }

    /// The bundle `id`, if it is open for `id`'s flags; one that is not goes.
    fn usable(&mut self, id: BundleId) -> Result<&mut Bundle, OfError> {
        let (closed, flags) = match self.open.get(&id.id) {
            None => return Err(bad(id.id, ErrorKind::BundleBadId, "does not exist")),
            Some(b) => (b.closed, (b.id.atomic, b.id.ordered)),
        };
        if closed {
            self.remove(id.id);
            return Err(bad(id.id, ErrorKind::BundleClosed, "is closed"));
        }
        if flags != (id.atomic, id.ordered) {
            self.remove(id.id);
            return Err(bad(
                id.id,
                ErrorKind::BundleBadFlags,
                "was opened with other flags",
            ));
        }
        self.open
            .get_mut(&id.id)
            .ok_or_else(|| bad(id.id, ErrorKind::BundleBadId, "does not exist"))
    }

    /// Drops what nobody touched for `idle`; the errors that say so.
    pub(super) fn expire(&mut self, idle: Duration, now: Now) -> Vec<Answer> {
        let old: Vec<u32> = self
            .open
            .values()
            .filter(|b| b.used + idle <= now)
            .map(|b| b.id.id)
            .collect();
        old.into_iter()
            .filter_map(|id| self.remove(id))
            .map(|b| {
                let e = bad(
                    b.id.id,
                    ErrorKind::BundleTimeout,
                    "was not touched for too long",
                );
                (b.opened.0, error(&e, &b.opened.1))
            })
            .collect()
    }

    /// When the next one goes unless it is touched.
    pub(super) fn expiry(&self, idle: Duration) -> Option<Now> {
        self.open.values().map(|b| b.used + idle).min()
    }
}

impl Peer {
    /// A step in a bundle's life; a message that fails a commit is refused in `out`.
    pub(super) fn bundle_control(
        &mut self,
        bridge: &Bridge,
        step: BundleStep,
        id: BundleId,
        request: &Request<'_>,
        out: &mut Vec<Answer>,
    ) -> Result<BundleStep, OfError> {
        match step {
            BundleStep::OpenRequest => {
                self.bundles.open(id, request)?;
                Ok(BundleStep::OpenReply)
            }
            BundleStep::CloseRequest => {
                let b = self.bundles.usable(id)?;
                b.closed = true;
                b.used = request.now;
                Ok(BundleStep::CloseReply)
            }
            BundleStep::CommitRequest => {
                let b = self
                    .bundles
                    .remove(id.id)
                    .ok_or_else(|| bad(id.id, ErrorKind::BundleBadId, "does not exist"))?;
                if (b.id.atomic, b.id.ordered) != (id.atomic, id.ordered) {
                    return Err(bad(
                        id.id,
                        ErrorKind::BundleBadFlags,
                        "was opened with other flags",
                    ));
                }
                match self.commit(bridge, b, request) {
                    Ok(()) => Ok(BundleStep::CommitReply),
                    Err(failed) => {
                        let (xid, message, e) = *failed;
                        let why = format!("message {xid:#x} failed: {e}");
                        let raw = openflow::wire::encode(self.version, xid, &message);
                        out.push((xid, error(&e, &raw.unwrap_or_default())));
                        Err(bad(id.id, ErrorKind::BundleMsgFailed, why))
                    }
                }
            }
            BundleStep::DiscardRequest => match self.bundles.remove(id.id) {
                Some(_) => Ok(BundleStep::DiscardReply),
                None => Err(bad(id.id, ErrorKind::BundleBadId, "does not exist")),
            },
            BundleStep::OpenReply
            | BundleStep::CloseReply
            | BundleStep::CommitReply
            | BundleStep::DiscardReply => Err(bad(
                id.id,
                ErrorKind::BundleBadType,
                "only a switch sends this step",
            )),
        }
    }

    /// Puts a message into a bundle, which it opens if there is none. The message has the transaction id of the one that
    /// brings it (OpenFlow 1.4.1 7.3.9.6).
    pub(super) fn bundle_add(
        &mut self,
        bridge: &Bridge,
        id: BundleId,
        xid: u32,
        message: Message,
        request: &Request<'_>,
    ) -> Result<(), OfError> {
        if xid != request.xid {
            let why = format!(
                "the message in it has transaction id {xid:#x}, {:#x} is right",
                request.xid
            );
            return Err(bad(id.id, ErrorKind::BundleMsgBadXid, why));
        }
        let message = match message {
            Message::Nicira(inner) => *inner,
            m => m,
        };
        let entry = match message {
            Message::FlowMod(m) => Entry::Flow(m),
            Message::GroupMod(g) => Entry::Group(g),
            Message::PortMod(p) => Entry::Port(p),
            // A packet that waits leaves its buffer now, as it does outside of bundles.
            Message::PacketOut(p) => Entry::Packet(taken(bridge, p, request.now)?),
            _ => {
                return Err(bad(
                    id.id,
                    ErrorKind::BundleMsgUnsup,
                    "only flow-mods, group-mods, port-mods and packet-outs can be bundled",
                ));
            }
        };
        if !self.bundles.open.contains_key(&id.id) {
            self.bundles.open(id, request)?;
        }
        let bytes = request.raw.len();
        let full = self.bundles.messages >= MAX_BUNDLE_MESSAGES
            || self.bundles.bytes + bytes > MAX_BUNDLE_BYTES;
        let b = self.bundles.usable(id)?;
        if full {
            return Err(bad(
                id.id,
                ErrorKind::BundleMsgTooMany,
                format!(
                    "a connection can bundle {MAX_BUNDLE_MESSAGES} messages of {MAX_BUNDLE_BYTES} bytes in all"
                ),
            ));
        }
        b.entries.push((xid, entry));
        b.bytes += bytes;
        b.used = request.now;
        self.bundles.messages += 1;
        self.bundles.bytes += bytes;
        Ok(())
    }

    /// Carries a bundle out; else which message failed and why, and nothing was done.
    fn commit(&self, bridge: &Bridge, b: Bundle, request: &Request<'_>) -> Result<(), Failed> {
        let name = bridge.name();
        let plane = bridge.plane();
        let mut changes = Vec::with_capacity(b.entries.len());
        let mut xids = Vec::with_capacity(b.entries.len());
        let mut after = Vec::new();
        for (xid, entry) in b.entries {
            match entry {
                Entry::Flow(m) => match self.own_change(bridge, m) {
                    Ok(change) => {
                        changes.push(change);
                        xids.push(xid);
                    }
                    Err((m, e)) => return Err(Box::new((xid, Message::FlowMod(*m), e))),
                },
                Entry::Group(g) => {
                    changes.push(Change::Group(g));
                    xids.push(xid);
                }
                Entry::Port(p) => {
                    let m = Message::PortMod(p);
                    check_port(bridge, b.id, &p).map_err(|e| Box::new((xid, m.clone(), e)))?;
                    after.push((xid, m));
                }
                Entry::Packet(p) => {
                    let checked = plane.check_packet_out(name, &p);
                    let m = Message::PacketOut(p);
                    if let Err(e) = checked {
                        return Err(Box::new((xid, m, e)));
                    }
                    after.push((xid, m));
                }
            }
        }
        if let Err((i, e)) = bridge.change(&changes, origin(self.id, request.xid)) {
            let m = match changes.into_iter().nth(i) {
                Some(Change::Flow(m) | Change::ModifyOrAdd { flow_mod: m, .. }) => {
                    Message::FlowMod(m)
                }
                Some(Change::Group(g)) => Message::GroupMod(g),
                None => Message::BarrierRequest,
            };
            return Err(Box::new((
                xids.get(i).copied().unwrap_or(request.xid),
                m,
                e,
            )));
        }
        for (c, xid) in changes.into_iter().zip(xids) {
            if let Change::Group(g) = c {
                self.forward(bridge, xid, Message::GroupMod(g));
            }
        }
        for (xid, m) in after {
            let done = match &m {
                Message::PortMod(p) => plane.port_mod(name, p),
                Message::PacketOut(p) => plane.packet_out(name, p),
                _ => Ok(()),
            };
            done.map_err(|e| Box::new((xid, m, e)))?;
        }
        Ok(())
    }
}

/// The message that a commit failed by, and why.
type Failed = Box<(u32, Message, OfError)>;

/// Whether a port-mod will do. As in Open vSwitch an atomic bundle cannot have one: ports do not change
/// at the instant at which flows do.
fn check_port(bridge: &Bridge, id: BundleId, p: &PortMod) -> Result<(), OfError> {
    if id.atomic {
        return Err(bad(
            id.id,
            ErrorKind::BundleMsgFailed,
            "a port-mod cannot be part of an atomic bundle",
        ));
    }
    let desc = bridge
        .plane()
        .port_desc(bridge.name(), p.port)
        .ok_or_else(|| OfError::new(ErrorKind::PortModBadPort, format!("no port {}", p.port)))?;
    if desc.mac != p.mac {
        return Err(OfError::new(
            ErrorKind::PortModBadHwAddr,
            format!(
                "port {} has the address {}, not {}",
                p.port, desc.mac, p.mac
            ),
        ));
    }
    Ok(())
}
