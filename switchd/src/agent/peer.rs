//! One controller connection's state, and the answers to its messages.
//!
//! No I/O: a message goes in, messages come out, in order, so that a barrier's answer is last of all
//! that came before it. Every change is complete when [`Peer::handle`] returns.

use super::{Async, Bridge, ConnId, HIDDEN_COOKIE, TABLES};
use crate::agent::rconn::Now;
use bytes::Bytes;
use openflow::action::PacketInReason;
use openflow::error::ErrorKind;
use openflow::wire::OF10;
use openflow::{
    AsyncConfig, BundleId, BundleStep, ErrorMsg, Features, FieldId, FlowFilter, FlowFlags, FlowMod,
    FlowModCommand, FlowStats, GroupFeatures, GroupModCommand, LegacyTable, Message, MeterFeatures,
    MeterModCommand, MultipartReply, MultipartRequest, OfError, PacketIn, PortDesc, PortNo,
    PortStats, Role, SwitchConfig, SwitchDesc, TABLE_ALL, TableConfig, TableFeatures,
    TableProperty, TableStats,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bundles a connection may have open.
pub const MAX_BUNDLES: usize = 8;
/// Messages in one bundle.
pub const MAX_BUNDLE_MESSAGES: usize = 100_000;

/// `OFPC_*`: flow, table, port and queue statistics.
const CAPABILITIES: u32 = 0x47;
/// `OFPC_ARP_MATCH_IP` of OpenFlow 1.0.
const ARP_MATCH_IP: u32 = 0x80;
/// All actions of OpenFlow 1.0, `OFPAT_OUTPUT` to `OFPAT_ENQUEUE`.
const ACTIONS_10: u32 = 0xfff;
/// Ports that fit OpenFlow 1.0's features; the rest is in the port descriptions.
const PORTS_10: usize = (u16::MAX as usize - 32) / 48;
/// Flows that a table is said to take.
const MAX_ENTRIES: u32 = 1_000_000;

/// Whether a connection is one of the bridge's controllers or a service client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A controller: gets asynchronous messages from the start.
    Primary,
    /// A tool, or a controller that listens in: gets them once it sets a miss length.
    Service,
}

/// Packet-ins a second, with some in reserve.
#[derive(Clone, Debug)]
struct Budget {
    rate: f64,
    burst: f64,
    tokens: f64,
    last: Now,
}

impl Budget {
    fn take(&mut self, now: Now) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        let ok = self.tokens >= 1.0;
        if ok {
            self.tokens -= 1.0;
        }
        ok
    }
}

#[derive(Clone, Debug)]
struct Bundle {
    id: BundleId,
    closed: bool,
    mods: Vec<(u32, FlowMod)>,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Peer {
    id: ConnId,
    kind: Kind,
    /// Wire version, 4 for OpenFlow 1.3.
    version: u8,
    miss_send_len: u16,
    asynchronous: AsyncConfig,
    controller_id: u16,
    budget: Option<Budget>,
    /// OpenFlow 1.0: whether removed flows are told in Nicira's form (NXT_SET_FLOW_FORMAT).
    nicira_flows: bool,
    /// OpenFlow 1.0: whether flow-mods carry a table (NXT_FLOW_MOD_TABLE_ID).
    table_ids: bool,
    /// Whether packet-ins are told in Nicira's form (NXT_SET_PACKET_IN_FORMAT).
    nicira_packets: bool,
    bundles: BTreeMap<u32, Bundle>,
    dropped: u64,
}

/// An answer: its transaction id and the message.
pub type Answer = (u32, Message);

impl Peer {
    /// A connection whose version has been agreed on.
    pub fn new(id: ConnId, kind: Kind, version: u8) -> Peer {
        Peer {
            id,
            kind,
            version,
            miss_send_len: match kind {
                Kind::Primary => 128,
                Kind::Service => 0,
            },
            asynchronous: default_async(true),
            controller_id: 0,
            budget: None,
            nicira_flows: false,
            table_ids: false,
            nicira_packets: false,
            bundles: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Whether it gets asynchronous messages unasked (`Controller.enable_async_messages`).
    pub fn enable_async(&mut self, on: bool) {
        self.asynchronous = default_async(on);
    }

    /// Limits packet-ins: so many a second, so many at once.
    pub fn limit(&mut self, limit: Option<(u32, u32)>, now: Now) {
        self.budget = limit.map(|(rate, burst)| Budget {
            rate: f64::from(rate),
            burst: f64::from(burst),
            tokens: f64::from(burst),
            last: now,
        });
    }

    /// Whether it is a controller or a service client.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Packet-ins its limit swallowed.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Answers a message.
    pub fn handle(&mut self, bridge: &Bridge, xid: u32, message: Message) -> Vec<Answer> {
        let mut out = Vec::new();
        let message = match self.bundle_flow_mod(bridge, message) {
            Ok(()) => return out,
            Err(m) => m,
        };
        let copy = message.clone();
        if let Err(e) = self.answer(bridge, xid, message, &mut out) {
            tracing::debug!("{}: refused: {e}", bridge.name());
            // The refused message's bytes are made anew; those that matter are its first 64.
            let raw = openflow::wire::encode(self.version, xid, &copy).unwrap_or_default();
            out.push((xid, self.error(&e, &raw)));
        }
        out
    }

    /// An error message with the first bytes of what it refuses.
    fn error(&self, e: &OfError, raw: &[u8]) -> Message {
        let raw = &raw[..raw.len().min(openflow::session::ERROR_DATA_LEN)];
        Message::Error(ErrorMsg {
            kind: e.kind,
            data: Bytes::copy_from_slice(raw),
        })
    }

    fn answer(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        message: Message,
        out: &mut Vec<Answer>,
    ) -> Result<(), OfError> {
        let name = bridge.name();
        let plane = bridge.plane();
        let (message, form) = match message {
            Message::Nicira(inner) => (*inner, true),
            m => (m, false),
        };
        if bridge.with_roles(|r| r.role(self.id)) == Role::Secondary && changes_something(&message)
        {
            return Err(OfError::new(
                ErrorKind::IsSlave,
                "a secondary controller may only read",
            ));
        }
        match message {
            Message::EchoRequest(data) => out.push((xid, Message::EchoReply(data))),
            Message::Hello(_) | Message::EchoReply(_) | Message::Error(_) => {}
            Message::FeaturesRequest => out.push((
                xid,
                Message::FeaturesReply(Features {
                    datapath_id: bridge.identity().datapath_id,
                    buffers: 0,
                    tables: TABLES,
                    auxiliary_id: 0,
                    capabilities: if self.version == OF10 {
                        CAPABILITIES | ARP_MATCH_IP
                    } else {
                        CAPABILITIES
                    },
                    actions: if self.version == OF10 { ACTIONS_10 } else { 0 },
                    ports: if self.version < 4 {
                        ports(bridge).into_iter().take(PORTS_10).collect()
                    } else {
                        Vec::new()
                    },
                }),
            )),
            Message::GetConfigRequest => out.push((
                xid,
                Message::GetConfigReply(SwitchConfig {
                    flags: 0,
                    miss_send_len: self.miss_send_len,
                }),
            )),
            Message::SetConfig(c) => {
                if c.flags & 3 != 0 {
                    return Err(OfError::new(
                        ErrorKind::SwitchConfigBadFlags,
                        format!(
                            "fragment handling {} is not supported, only 0 (normal)",
                            c.flags
                        ),
                    ));
                }
                self.miss_send_len = c.miss_send_len;
            }
            Message::PacketOut(p) => {
                if p.buffer.is_some() {
                    return Err(OfError::new(
                        ErrorKind::BufferUnknown,
                        "packets are not buffered",
                    ));
                }
                let source = p.in_port;
                if source > PortNo::MAX
                    && !matches!(source, PortNo::LOCAL | PortNo::CONTROLLER | PortNo::ANY)
                {
                    return Err(OfError::new(
                        ErrorKind::BadPort,
                        format!("a packet cannot come in on {source}"),
                    ));
                }
                plane.packet_out(name, &p)?;
            }
            Message::FlowMod(m) => {
                let buffered = m.buffer.is_some();
                if self.version == OF10 {
                    plane
                        .flow_mods(name, &self.flow_mods_10(bridge, m)?)
                        .map_err(|(_, e)| e)?;
                } else {
                    plane.flow_mod(name, &own_flows(m))?;
                }
                if buffered {
                    return Err(OfError::new(
                        ErrorKind::BufferUnknown,
                        "packets are not buffered; the flow was changed",
                    ));
                }
            }
            Message::GroupMod(g) => match g.command {
                GroupModCommand::Delete => {}
                GroupModCommand::Add | GroupModCommand::AddOrModify => {
                    return Err(OfError::new(
                        ErrorKind::BadGroupType,
                        "groups are not supported yet",
                    ));
                }
                GroupModCommand::Modify
                | GroupModCommand::InsertBucket
                | GroupModCommand::RemoveBucket => {
                    return Err(OfError::new(
                        ErrorKind::UnknownGroup,
                        "groups are not supported yet",
                    ));
                }
            },
            Message::MeterMod(m) => match m.command {
                MeterModCommand::Delete => {}
                MeterModCommand::Add => {
                    return Err(OfError::new(
                        ErrorKind::OutOfMeters,
                        "meters are not supported yet",
                    ));
                }
                MeterModCommand::Modify => {
                    return Err(OfError::new(
                        ErrorKind::UnknownMeter,
                        "meters are not supported yet",
                    ));
                }
            },
            Message::TableMod(TableConfig { table, .. }) => {
                if table >= TABLES && table != TABLE_ALL {
                    return Err(OfError::new(
                        ErrorKind::TableModBadTable,
                        format!("table {table}: there are tables 0 to {}", TABLES - 1),
                    ));
                }
            }
            Message::PortMod(p) => plane.port_mod(name, &p)?,
            Message::MultipartRequest(request) => {
                let reply = Message::MultipartReply(self.multipart(bridge, request)?);
                out.push((
                    xid,
                    if form {
                        Message::Nicira(Box::new(reply))
                    } else {
                        reply
                    },
                ));
            }
            Message::BarrierRequest => out.push((xid, Message::BarrierReply)),
            Message::QueueGetConfigRequest(port) => {
                if port != PortNo::ANY && plane.port_desc(name, port).is_none() {
                    return Err(OfError::new(
                        ErrorKind::QueueBadPort,
                        format!("no port {port}"),
                    ));
                }
                out.push((xid, Message::QueueGetConfigReply(port, Vec::new())));
            }
            Message::RoleRequest(asked) => {
                let given = bridge.with_roles(|r| match self.version {
                    OF10 => r.request_nicira(self.id, asked.role),
                    _ => r.request(self.id, asked),
                })?;
                out.push((xid, Message::RoleReply(given)));
            }
            Message::GetAsyncRequest => {
                out.push((xid, Message::GetAsyncReply(self.asynchronous)));
            }
            Message::SetAsync(c) => self.asynchronous = c,
            Message::BundleControl(step, id) => {
                let reply = self.bundle(bridge, step, id, out)?;
                out.push((xid, Message::BundleControl(reply, id)));
            }
            Message::BundleAdd(id, inner_xid, inner) => self.bundle_add(id, inner_xid, *inner)?,
            Message::SetControllerId(id) => self.controller_id = id,
            Message::SetPacketInFormat(n @ 0..=1) => self.nicira_packets = n == 1,
            Message::SetPacketInFormat(n) => {
                return Err(OfError::new(
                    ErrorKind::RequestEperm,
                    format!("packet-in format {n} is not supported yet"),
                ));
            }
            Message::SetFlowFormat(n @ (0 | 2)) => self.nicira_flows = n == 2,
            Message::SetFlowFormat(n) => {
                return Err(OfError::new(
                    ErrorKind::RequestEperm,
                    format!("flow format {n} is not known; 0 is OpenFlow 1.0's, 2 is NXM"),
                ));
            }
            Message::FlowModTableId(on) => self.table_ids = on,
            // Ages are always told.
            Message::FlowAge => {}
            Message::Nicira(_) => {
                return Err(OfError::new(
                    ErrorKind::BadType,
                    "Nicira has no form of this message",
                ));
            }
            other @ (Message::Resume(_)
            | Message::TlvTableMod(..)
            | Message::TlvTableRequest
            | Message::CtFlushZone(_)
            | Message::FlowMonitorCancel(_)) => {
                return Err(OfError::new(
                    ErrorKind::BadExpType,
                    format!("{other:?} is not supported yet"),
                ));
            }
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
            | Message::ControllerStatus(_) => {
                return Err(OfError::new(
                    ErrorKind::BadType,
                    "only a switch sends this message",
                ));
            }
        }
        Ok(())
    }

    /// A flow-mod of OpenFlow 1.0 as the tables take it: without a table it goes to table 0 or
    /// speaks of all, a change of flows that are not there adds one, and an add counts anew.
    fn flow_mods_10(&self, bridge: &Bridge, mut m: FlowMod) -> Result<Vec<FlowMod>, OfError> {
        if !self.table_ids {
            if m.table != 0 {
                return Err(OfError::new(
                    ErrorKind::BadCommand,
                    format!(
                        "a table ({}) in the command, which NXT_FLOW_MOD_TABLE_ID did not allow",
                        m.table
                    ),
                ));
            }
            m.table = TABLE_ALL;
        }
        let strict = m.command == FlowModCommand::ModifyStrict;
        if !strict && m.command != FlowModCommand::Modify {
            m.flags.reset_counts = m.command == FlowModCommand::Add;
            return Ok(vec![own_flows(m)]);
        }
        let filter = FlowFilter {
            table: m.table,
            cookie: m.cookie & m.cookie_mask,
            cookie_mask: m.cookie_mask,
            matching: m.matching.clone(),
            ..FlowFilter::default()
        };
        let flows: Vec<FlowStats> = bridge
            .plane()
            .flow_stats(bridge.name(), &filter)
            .into_iter()
            .filter(is_visible)
            .filter(|f| !strict || f.matching == m.matching && f.priority == m.priority)
            .collect();
        if flows.is_empty() {
            if m.cookie_mask != 0 {
                return Ok(Vec::new());
            }
            m.command = FlowModCommand::Add;
            return Ok(vec![own_flows(m)]);
        }
        // In 1.0 a change gives flows its cookie, too, which later versions have a rule keep: such a
        // flow is put in place anew, with its counters.
        if m.cookie_mask == 0 && flows.iter().any(|f| f.cookie != m.cookie) {
            let anew = |f: FlowStats| FlowMod {
                command: FlowModCommand::Add,
                table: f.table,
                priority: f.priority,
                idle_timeout: f.idle_timeout,
                hard_timeout: f.hard_timeout,
                importance: f.importance,
                flags: FlowFlags {
                    check_overlap: false,
                    reset_counts: false,
                    ..f.flags
                },
                matching: f.matching,
                ..own_flows(m.clone())
            };
            return Ok(flows.into_iter().map(anew).collect());
        }
        let tables: BTreeSet<u8> = flows.iter().map(|f| f.table).collect();
        let in_table = |table| own_flows(FlowMod { table, ..m.clone() });
        Ok(tables.into_iter().map(in_table).collect())
    }

    fn multipart(
        &self,
        bridge: &Bridge,
        request: MultipartRequest,
    ) -> Result<MultipartReply, OfError> {
        let name = bridge.name();
        let plane = bridge.plane();
        Ok(match request {
            MultipartRequest::Desc => {
                let identity = bridge.identity();
                let none = || "None".to_owned();
                MultipartReply::Desc(SwitchDesc {
                    manufacturer: "weir".to_owned(),
                    hardware: "weir userspace datapath".to_owned(),
                    software: bridge.version().to_owned(),
                    serial: identity.dp_sn.unwrap_or_else(none),
                    datapath: identity.dp_desc.unwrap_or_else(none),
                })
            }
            MultipartRequest::Flow(filter) => {
                check_table(filter.table)?;
                MultipartReply::Flow(
                    plane
                        .flow_stats(name, &filter)
                        .into_iter()
                        .filter(is_visible)
                        .map(|f| FlowStats {
                            duration: whole_millis(f.duration),
                            ..f
                        })
                        .collect(),
                )
            }
            MultipartRequest::Aggregate(filter) => {
                check_table(filter.table)?;
                MultipartReply::Aggregate(plane.aggregate_stats(name, &filter))
            }
            MultipartRequest::Table => {
                let mut tables: Vec<TableStats> = (0..TABLES)
                    .map(|table| TableStats {
                        table,
                        ..TableStats::default()
                    })
                    .collect();
                for t in plane.table_stats(name) {
                    if let Some(slot) = tables.get_mut(usize::from(t.table)) {
                        *slot = t;
                    }
                }
                if self.version == OF10 {
                    for t in &mut tables {
                        t.legacy = Some(LegacyTable {
                            wildcards: openflow::wire::WILD_ALL.into(),
                            max_entries: MAX_ENTRIES,
                            ..LegacyTable::default()
                        });
                    }
                }
                MultipartReply::Table(tables)
            }
            MultipartRequest::PortStats(port) => {
                MultipartReply::PortStats(port_stats(bridge, port))
            }
            MultipartRequest::PortDesc(port) => MultipartReply::PortDesc(
                ports(bridge)
                    .into_iter()
                    .filter(|p| port == PortNo::ANY || p.port == port)
                    .collect(),
            ),
            MultipartRequest::Queue { port, queue } => {
                if port != PortNo::ANY && plane.port_desc(name, port).is_none() {
                    return Err(OfError::new(
                        ErrorKind::QueueBadPort,
                        format!("no port {port}"),
                    ));
                }
                if let Some(q) = queue {
                    return Err(OfError::new(
                        ErrorKind::QueueBadQueue,
                        format!("no queue {q}: queues are not supported yet"),
                    ));
                }
                MultipartReply::Queue(Vec::new())
            }
            MultipartRequest::Group(_) => MultipartReply::Group(Vec::new()),
            MultipartRequest::GroupDesc(_) => MultipartReply::GroupDesc(Vec::new()),
            MultipartRequest::GroupFeatures => {
                MultipartReply::GroupFeatures(GroupFeatures::default())
            }
            MultipartRequest::Meter(_) => MultipartReply::Meter(Vec::new()),
            MultipartRequest::MeterConfig(_) => MultipartReply::MeterConfig(Vec::new()),
            MultipartRequest::MeterFeatures => {
                MultipartReply::MeterFeatures(MeterFeatures::default())
            }
            MultipartRequest::TableFeatures(set) => {
                if !set.is_empty() {
                    return Err(OfError::new(
                        ErrorKind::TableFeaturesEperm,
                        "table features cannot be changed",
                    ));
                }
                MultipartReply::TableFeatures((0..TABLES).map(table_features).collect())
            }
            other => {
                return Err(OfError::new(
                    ErrorKind::BadMultipart,
                    format!("{other:?} is not supported yet"),
                ));
            }
        })
    }

    /// A step in a bundle's life; a message that fails a commit is refused in `out`.
    fn bundle(
        &mut self,
        bridge: &Bridge,
        step: BundleStep,
        id: BundleId,
        out: &mut Vec<Answer>,
    ) -> Result<BundleStep, OfError> {
        let bad =
            |kind: ErrorKind, why: &str| OfError::new(kind, format!("bundle {}: {why}", id.id));
        match step {
            BundleStep::OpenRequest => {
                if self.bundles.contains_key(&id.id) {
                    self.bundles.remove(&id.id);
                    return Err(bad(ErrorKind::BundleBadId, "exists already"));
                }
                if self.bundles.len() >= MAX_BUNDLES {
                    return Err(bad(ErrorKind::OutOfBundles, "too many bundles are open"));
                }
                let bundle = Bundle {
                    id,
                    closed: false,
                    mods: Vec::new(),
                };
                self.bundles.insert(id.id, bundle);
                Ok(BundleStep::OpenReply)
            }
            BundleStep::CloseRequest => match self.bundles.get_mut(&id.id) {
                None => Err(bad(ErrorKind::BundleBadId, "does not exist")),
                Some(b) if b.closed => {
                    self.bundles.remove(&id.id);
                    Err(bad(ErrorKind::BundleClosed, "is closed already"))
                }
                Some(b) if (b.id.atomic, b.id.ordered) != (id.atomic, id.ordered) => {
                    self.bundles.remove(&id.id);
                    Err(bad(
                        ErrorKind::BundleBadFlags,
                        "was opened with other flags",
                    ))
                }
                Some(b) => {
                    b.closed = true;
                    Ok(BundleStep::CloseReply)
                }
            },
            BundleStep::CommitRequest => {
                let Some(b) = self.bundles.remove(&id.id) else {
                    return Err(bad(ErrorKind::BundleBadId, "does not exist"));
                };
                if (b.id.atomic, b.id.ordered) != (id.atomic, id.ordered) {
                    return Err(bad(
                        ErrorKind::BundleBadFlags,
                        "was opened with other flags",
                    ));
                }
                // All or nothing whether or not it asks for it: nobody can tell the difference but
                // by failing.
                let mods: Vec<FlowMod> = b.mods.iter().map(|(_, m)| m.clone()).collect();
                match bridge.plane().flow_mods(bridge.name(), &mods) {
                    Ok(()) => Ok(BundleStep::CommitReply),
                    Err((i, e)) => {
                        let why = format!("message {i} failed: {e}");
                        if let Some((xid, m)) = b.mods.into_iter().nth(i) {
                            let m = Message::FlowMod(m);
                            let raw = openflow::wire::encode(self.version, xid, &m);
                            out.push((xid, self.error(&e, &raw.unwrap_or_default())));
                        }
                        Err(bad(ErrorKind::BundleMsgFailed, &why))
                    }
                }
            }
            BundleStep::DiscardRequest => {
                self.bundles.remove(&id.id);
                Ok(BundleStep::DiscardReply)
            }
            _ => Err(bad(
                ErrorKind::BundleBadType,
                "only a switch sends this step",
            )),
        }
    }

    fn bundle_add(&mut self, id: BundleId, xid: u32, message: Message) -> Result<(), OfError> {
        let bad =
            |kind: ErrorKind, why: String| OfError::new(kind, format!("bundle {}: {why}", id.id));
        let Message::FlowMod(m) = message else {
            return Err(bad(
                ErrorKind::BundleMsgUnsup,
                "only flow changes can be bundled".to_owned(),
            ));
        };
        if !self.bundles.contains_key(&id.id) && self.bundles.len() >= MAX_BUNDLES {
            return Err(bad(
                ErrorKind::OutOfBundles,
                "too many bundles are open".to_owned(),
            ));
        }
        let b = self.bundles.entry(id.id).or_insert(Bundle {
            id,
            closed: false,
            mods: Vec::new(),
        });
        if b.closed {
            return Err(bad(ErrorKind::BundleClosed, "is closed".to_owned()));
        }
        if b.mods.len() >= MAX_BUNDLE_MESSAGES {
            return Err(bad(
                ErrorKind::BundleMsgTooMany,
                format!("takes {MAX_BUNDLE_MESSAGES} messages"),
            ));
        }
        b.mods.push((xid, own_flows(m)));
        Ok(())
    }

    /// The message to send for an event, if the controller wants it.
    pub fn tell(&mut self, bridge: &Bridge, event: &Async, now: Now) -> Option<Message> {
        if self.kind == Kind::Service && self.miss_send_len == 0 {
            return None;
        }
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        let side = usize::from(secondary);
        let wants = |masks: &[u32; 2], bit: u32| masks[side] & (1 << bit) != 0;
        match event {
            Async::PacketIn {
                packet,
                max_len,
                controller_id,
            } => {
                if *controller_id != self.controller_id
                    || !wants(
                        &self.asynchronous.packet_in,
                        reason_bit(packet.reason, self.version),
                    )
                {
                    return None;
                }
                if let Some(budget) = &mut self.budget
                    && !budget.take(now)
                {
                    self.dropped += 1;
                    return None;
                }
                let m = Message::PacketIn(PacketIn {
                    buffer: None,
                    data: cut(packet, *max_len),
                    ..packet.clone()
                });
                Some(if self.nicira_packets {
                    Message::Nicira(Box::new(m))
                } else {
                    m
                })
            }
            Async::FlowRemoved(removed) => {
                let visible = removed.flow.cookie != HIDDEN_COOKIE;
                (visible && wants(&self.asynchronous.flow_removed, removed.reason as u32))
                    .then(|| Message::FlowRemoved(removed.clone()))
                    .map(|m| match (self.version, self.nicira_flows) {
                        (OF10, true) => Message::Nicira(Box::new(m)),
                        _ => m,
                    })
            }
            Async::PortStatus(reason, desc) => {
                wants(&self.asynchronous.port_status, *reason as u32)
                    .then(|| Message::PortStatus(*reason, desc.clone()))
            }
        }
    }
}

/// A table miss is sent whole, since there is no buffer to fetch the rest from (OpenFlow 1.3.5
/// 7.4.1); an action says itself how much it wants.
fn cut(packet: &PacketIn, max_len: u16) -> Bytes {
    match packet.reason {
        PacketInReason::NoMatch => packet.data.clone(),
        _ => packet
            .data
            .slice(..packet.data.len().min(usize::from(max_len))),
    }
}

/// Bit of a reason in an asynchronous configuration. Before 1.4 there are fewer reasons.
fn reason_bit(reason: PacketInReason, version: u8) -> u32 {
    match reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
        _ if version < 5 => 1,
        PacketInReason::ActionSet => 3,
        PacketInReason::Group => 4,
        PacketInReason::PacketOut => 5,
    }
}

/// What a controller gets before it says otherwise.
fn default_async(on: bool) -> AsyncConfig {
    if on {
        AsyncConfig {
            packet_in: [0b11_1011, 0],
            port_status: [0b111, 0b111],
            flow_removed: [0b11_1111, 0],
            ..AsyncConfig::default()
        }
    } else {
        AsyncConfig::default()
    }
}

/// What a secondary controller may not send.
fn changes_something(message: &Message) -> bool {
    matches!(
        message,
        Message::PacketOut(_)
            | Message::FlowMod(_)
            | Message::GroupMod(_)
            | Message::MeterMod(_)
            | Message::TableMod(..)
            | Message::PortMod(_)
            | Message::BundleControl(..)
            | Message::BundleAdd(..)
    )
}

/// As Open vSwitch does, an add to "all tables" goes to the first.
fn own_flows(m: FlowMod) -> FlowMod {
    let all = m.table == TABLE_ALL;
    let deletes = matches!(
        m.command,
        FlowModCommand::Delete | FlowModCommand::DeleteStrict
    );
    FlowMod {
        table: if all && m.command == FlowModCommand::Add {
            0
        } else {
            m.table
        },
        buffer: None,
        out_port: if deletes { m.out_port } else { PortNo::ANY },
        ..m
    }
}

fn check_table(table: u8) -> Result<(), OfError> {
    if table >= TABLES && table != TABLE_ALL {
        return Err(OfError::new(
            ErrorKind::BadTableId,
            format!("table {table}: there are tables 0 to {}", TABLES - 1),
        ));
    }
    Ok(())
}

fn is_visible(flow: &FlowStats) -> bool {
    flow.cookie != HIDDEN_COOKIE && flow.table < TABLES
}

/// The bridge's ports in order of number, the local port last.
pub fn ports(bridge: &Bridge) -> Vec<PortDesc> {
    let mut ports = bridge.plane().ports(bridge.name());
    ports.sort();
    ports
        .into_iter()
        .filter_map(|p| bridge.plane().port_desc(bridge.name(), p))
        .collect()
}

/// One port's counters, or all.
pub fn port_stats(bridge: &Bridge, port: PortNo) -> Vec<PortStats> {
    let mut ports = bridge.plane().ports(bridge.name());
    ports.sort();
    ports
        .into_iter()
        .filter(|p| port == PortNo::ANY || *p == port)
        .filter_map(|p| bridge.plane().port_stats(bridge.name(), p))
        .map(|(s, _)| PortStats {
            duration: whole_millis(s.duration),
            ..s
        })
        .collect()
}

/// Durations are told in milliseconds: more digits mean nothing and make dumps hard to read.
fn whole_millis(d: Duration) -> Duration {
    Duration::new(d.as_secs(), d.subsec_millis() * 1_000_000)
}

/// What a table can do, in numbers of OpenFlow 1.3.
fn table_features(table: u8) -> TableFeatures {
    // Output, pop and push of VLAN tags, decrement TTL, set field.
    let actions = || vec![0, 17, 18, 24, 25];
    // Write metadata, write, apply and clear actions, and in all but the last table goto.
    let mut instructions = vec![2, 3, 4, 5];
    let last = table + 1 == TABLES;
    if !last {
        instructions.insert(0, 1);
    }
    let fields: Vec<FieldId> = openflow::field::FIELDS
        .iter()
        .filter(|f| f.oxm.is_some() && f.since <= 4)
        .map(|f| f.id)
        .collect();
    TableFeatures {
        table,
        name: if table == 0 {
            "classifier".to_owned()
        } else {
            format!("table{table}")
        },
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        config: 0,
        max_entries: MAX_ENTRIES,
        properties: vec![
            TableProperty::Instructions {
                miss: false,
                types: instructions,
            },
            TableProperty::NextTables {
                miss: false,
                tables: (table + 1..TABLES).collect(),
            },
            TableProperty::WriteActions {
                miss: false,
                types: actions(),
            },
            TableProperty::ApplyActions {
                miss: false,
                types: actions(),
            },
            TableProperty::Match(fields.iter().map(|f| (*f, true)).collect()),
            TableProperty::Wildcards(fields.clone()),
            TableProperty::WriteSetField {
                miss: false,
                fields: fields.clone(),
            },
            TableProperty::ApplySetField {
                miss: false,
                fields,
            },
        ],
        ..TableFeatures::default()
    }
}

mod batch;
#[cfg(test)]
mod tests;
