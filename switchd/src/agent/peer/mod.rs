//! One controller connection's state, and the answers to its messages.
//!
//! No I/O: a message goes in, messages come out, in order, so that a barrier's answer is last of all
//! that came before it. Every change is complete when [`Peer::handle`] returns. This file leads each
//! message to its room: `flows`, `groups`, `tables`, `ports`, `packets`, `bundles`; what a
//! controller is told without having asked is `hearing`'s, and that of flow monitors `monitors`'.

mod batch;
mod bundles;
mod dump;
mod flows;
mod groups;
mod hearing;
mod monitors;
mod packets;
mod ports;
mod tables;

pub use bundles::{MAX_BUNDLE_BYTES, MAX_BUNDLE_MESSAGES, MAX_BUNDLES};
pub use hearing::Hearing;
pub(in crate::agent) use hearing::in_port;
pub use monitors::{MAX_CHANGED, MAX_MONITORS, MAX_UPDATES, Monitors};
pub use ports::{port_stats, ports};

use super::{Bridge, ConnId, TABLES};
use crate::agent::rconn::Now;
use bundles::Bundles;
use bytes::Bytes;
use dump::{Dump, Form};
use flows::FlowForm;
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF13};
use openflow::{
    ErrorMsg, Features, Message, MultipartReply, MultipartRequest, OfError, PortNo, Role,
    SwitchDesc,
};
use std::sync::{Arc, Mutex};

/// `OFPC_*` by wire version: flow, table, port and queue statistics; until 1.1 `OFPC_ARP_MATCH_IP`, from 1.1
/// on group statistics (whose bit was STP before), from 1.4 on bundles.
fn capabilities(version: u8) -> u32 {
    match version {
        OF10 => 0xc7,
        2 => 0xcf,
        3 | 4 => 0x4f,
        _ => 0x24f,
    }
}

/// All actions of OpenFlow 1.0, `OFPAT_OUTPUT` to `OFPAT_ENQUEUE`.
const ACTIONS_10: u32 = 0xfff;
/// Ports that fit the features reply of OpenFlow 1.0; the rest is in the port descriptions.
const PORTS_10: usize = (u16::MAX as usize - 32) / 48;
/// The same in OpenFlow 1.1 and 1.2.
const PORTS_11: usize = (u16::MAX as usize - 32) / 64;

/// Whether a connection is one of the bridge's controllers or a service client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A controller: gets asynchronous messages from the start.
    Primary,
    /// A tool, or a controller that listens in: gets them once it sets a miss length.
    Service,
}

/// One connection.
pub struct Peer {
    /// For an auxiliary connection that of its main one.
    id: ConnId,
    /// 0 for a main connection.
    auxiliary: u8,
    kind: Kind,
    /// Wire version, 4 for OpenFlow 1.3.
    version: u8,
    flows: FlowForm,
    hearing: Hearing,
    bundles: Bundles,
    monitors: Arc<Mutex<Monitors>>,
    /// The answer that is being told in parts.
    dump: Option<Dump>,
}

/// An answer: its transaction id and the message.
pub type Answer = (u32, Message);

/// A message as it came.
pub struct Request<'a> {
    /// Transaction id.
    pub xid: u32,
    /// Its bytes, the first of which go back with an error.
    pub raw: &'a [u8],
    /// When.
    pub now: Now,
}

impl Peer {
    /// A connection whose version has been agreed on. What its flow monitors see is put into
    /// `monitors` by the bridge.
    pub fn new(id: ConnId, kind: Kind, version: u8, monitors: Arc<Mutex<Monitors>>) -> Peer {
        Peer {
            id,
            auxiliary: 0,
            kind,
            version,
            flows: FlowForm::default(),
            hearing: Hearing::new(kind, version),
            bundles: Bundles::default(),
            monitors,
            dump: None,
        }
    }

    /// An auxiliary connection beside `main`, whose role it has (OpenFlow 1.3.5 6.3.7).
    pub fn auxiliary(main: ConnId, version: u8, number: u8) -> Peer {
        Peer {
            auxiliary: number,
            ..Peer::new(main, Kind::Primary, version, Arc::default())
        }
    }

    /// Whether it is a controller or a service client.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is told unasked.
    pub fn hearing(&mut self) -> &mut Hearing {
        &mut self.hearing
    }

    /// Answers a message.
    pub fn handle(
        &mut self,
        bridge: &Bridge,
        request: &Request<'_>,
        message: Message,
    ) -> Vec<Answer> {
        let mut out = Vec::new();
        if let Err(e) = self.answer(bridge, request, message, &mut out) {
            tracing::debug!("{}: refused: {e}", bridge.name());
            out.push((request.xid, error(&e, request.raw)));
        }
        out
    }

    fn answer(
        &mut self,
        bridge: &Bridge,
        request: &Request<'_>,
        message: Message,
        out: &mut Vec<Answer>,
    ) -> Result<(), OfError> {
        let name = bridge.name();
        let plane = bridge.plane();
        let xid = request.xid;
        let (message, nicira) = match message {
            Message::Nicira(inner) => (*inner, true),
            m => (m, false),
        };
        if changes_something(&message) && bridge.with_roles(|r| r.role(self.id)) == Role::Secondary
        {
            return Err(OfError::new(
                ErrorKind::IsSlave,
                "a secondary controller may only read",
            ));
        }
        match message {
            Message::EchoRequest(data) => out.push((xid, Message::EchoReply(data))),
            Message::Hello(_) | Message::EchoReply(_) | Message::Error(_) => {}
            Message::FeaturesRequest => {
                out.push((xid, Message::FeaturesReply(self.features(bridge))));
            }
            Message::GetConfigRequest => {
                let config = self.hearing.config(bridge.fragments());
                out.push((xid, Message::GetConfigReply(config)));
            }
            Message::SetConfig(c) => self.set_config(bridge, c)?,
            Message::PacketOut(p) => self.packet_out(bridge, p, request.now)?,
            Message::FlowMod(m) => self.flow_mod(bridge, xid, m, request.now)?,
            Message::GroupMod(g) => self.group_mod(bridge, xid, g)?,
            Message::MeterMod(m) => self.meter_mod(bridge, xid, m)?,
            Message::TableMod(t) => plane.table_mod(name, &tables::checked(t)?)?,
            Message::PortMod(p) => plane.port_mod(name, &p)?,
            Message::MultipartRequest(asked) => {
                if let Some(reply) = self.multipart(bridge, xid, asked, nicira)? {
                    let reply = Message::MultipartReply(reply);
                    let reply = match nicira {
                        true => Message::Nicira(Box::new(reply)),
                        false => reply,
                    };
                    out.push((xid, reply));
                }
            }
            Message::BarrierRequest => out.push((xid, Message::BarrierReply)),
            Message::QueueGetConfigRequest(port) => {
                let queues = ports::queue_configs(bridge, port, None)?;
                out.push((xid, Message::QueueGetConfigReply(port, queues)));
            }
            Message::RoleRequest(asked) => {
                // Before OpenFlow 1.2 the request is Nicira's, which knows no generations.
                let given = bridge.request_role(self.id, asked, self.version >= 3)?;
                let reply = Message::RoleReply(given);
                out.push((
                    xid,
                    match nicira {
                        true => Message::Nicira(Box::new(reply)),
                        false => reply,
                    },
                ));
            }
            Message::GetAsyncRequest => {
                let reply = Message::GetAsyncReply(self.hearing.asynchronous());
                out.push((
                    xid,
                    match nicira {
                        true => Message::Nicira(Box::new(reply)),
                        false => reply,
                    },
                ));
            }
            Message::SetAsync(c) => self.hearing.set_asynchronous(c),
            Message::BundleControl(step, id) => {
                let reply = self.bundle_control(bridge, step, id, request, out)?;
                out.push((xid, Message::BundleControl(reply, id)));
            }
            Message::BundleAdd(id, inner_xid, inner) => {
                self.bundle_add(bridge, id, inner_xid, *inner, request)?;
            }
            Message::SetControllerId(id) => self.hearing.set_controller_id(id),
            Message::SetPacketInFormat(n) => self.hearing.set_packet_in_format(n)?,
            Message::SetFlowFormat(n) => self.flows.set_format(n)?,
            Message::FlowModTableId(on) => self.flows.set_table_ids(on),
            Message::Resume(p) => plane.resume(name, &p)?,
            Message::TlvTableMod(command, maps) => bridge.tlv_table_mod(command, &maps)?,
            Message::TlvTableRequest => out.push((xid, bridge.tlv_table())),
            Message::FlowMonitorCancel(id) => self.cancel_monitor(bridge, id)?,
            Message::CtFlushZone(_) => {
                return Err(OfError::new(
                    ErrorKind::RequestEperm,
                    "there is no connection tracking whose zones could be flushed",
                ));
            }
            // Ages are always told.
            Message::FlowAge => {}
            Message::Nicira(_) => {
                return Err(OfError::new(
                    ErrorKind::BadType,
                    "Nicira has no form of this message",
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

    fn features(&self, bridge: &Bridge) -> Features {
        let identity = bridge.identity();
        let ports = match self.version {
            OF10 => ports(bridge).into_iter().take(PORTS_10).collect(),
            v if v < OF13 => ports(bridge).into_iter().take(PORTS_11).collect(),
            _ => Vec::new(),
        };
        Features {
            datapath_id: identity.datapath_id,
            buffers: identity.packet_buffers as u32,
            tables: TABLES,
            auxiliary_id: self.auxiliary,
            capabilities: capabilities(self.version),
            actions: if self.version == OF10 { ACTIONS_10 } else { 0 },
            ports,
        }
    }

    /// The answer, unless it is one that is told in parts.
    fn multipart(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        asked: MultipartRequest,
        nicira: bool,
    ) -> Result<Option<MultipartReply>, OfError> {
        let name = bridge.name();
        let plane = bridge.plane();
        Ok(Some(match asked {
            MultipartRequest::Desc => MultipartReply::Desc(description(bridge)),
            MultipartRequest::Flow(filter) => {
                let form = if nicira { Form::Nicira } else { Form::Whole };
                self.dump(bridge, xid, form, &filter)?;
                return Ok(None);
            }
            MultipartRequest::FlowStats(filter) => {
                self.dump(bridge, xid, Form::Counters, &filter)?;
                return Ok(None);
            }
            MultipartRequest::Aggregate(filter) => {
                MultipartReply::Aggregate(flows::aggregate(bridge, &filter)?)
            }
            MultipartRequest::Table => MultipartReply::Table(tables::stats(bridge, self.version)),
            MultipartRequest::TableFeatures(set) if set.is_empty() => {
                MultipartReply::TableFeatures(tables::features(bridge, self.version))
            }
            MultipartRequest::TableFeatures(set) => {
                if bridge.with_roles(|r| r.role(self.id)) == Role::Secondary {
                    return Err(OfError::new(
                        ErrorKind::IsSlave,
                        "a secondary controller may only read",
                    ));
                }
                plane.set_table_features(name, &set)?;
                MultipartReply::TableFeatures(tables::features(bridge, self.version))
            }
            MultipartRequest::TableDesc => MultipartReply::TableDesc(plane.table_desc(name)),
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
                MultipartReply::Queue(ports::queue_stats(bridge, port, queue)?)
            }
            MultipartRequest::QueueDesc { port, queue } => {
                MultipartReply::QueueDesc(ports::queue_configs(bridge, port, queue)?)
            }
            MultipartRequest::Group(group) => MultipartReply::Group(plane.group_stats(name, group)),
            MultipartRequest::GroupDesc(group) => {
                MultipartReply::GroupDesc(plane.group_desc(name, group))
            }
            MultipartRequest::GroupFeatures => MultipartReply::GroupFeatures(groups::features(
                plane.group_features(),
                self.version,
            )),
            MultipartRequest::Meter(meter) => {
                MultipartReply::Meter(groups::meter(meter, plane.meter_stats(name, meter))?)
            }
            MultipartRequest::MeterConfig(meter) => {
                MultipartReply::MeterConfig(groups::meter(meter, plane.meter_config(name, meter))?)
            }
            MultipartRequest::MeterFeatures => {
                MultipartReply::MeterFeatures(plane.meter_features())
            }
            MultipartRequest::FlowMonitor(requests) => {
                MultipartReply::FlowMonitor(self.monitor(bridge, &requests, nicira)?)
            }
            MultipartRequest::ControllerStatus => {
                MultipartReply::ControllerStatus(bridge.controller_statuses())
            }
            MultipartRequest::BundleFeatures => MultipartReply::BundleFeatures(bundles::FEATURES),
            // As Open vSwitch where no exporter is set up.
            MultipartRequest::IpfixBridge | MultipartRequest::IpfixFlow => {
                return Err(OfError::new(
                    ErrorKind::StatsNotConfigured,
                    "nothing exports flows by IPFIX",
                ));
            }
        }))
    }

    /// What time brings: bundles that nobody touched for too long are dropped, and their controller
    /// is told.
    pub fn expire(&mut self, bridge: &Bridge, now: Now) -> Vec<Answer> {
        self.bundles.expire(bridge.bundle_idle(), now)
    }

    /// When [`Peer::expire`] or [`Hearing::due`] may have something to do.
    pub fn wake(&self, bridge: &Bridge) -> Option<Now> {
        let bundle = self.bundles.expiry(bridge.bundle_idle());
        [bundle, self.hearing.wake()].into_iter().flatten().min()
    }

    /// Takes the connection's share of the bridge's state away.
    pub fn leave(&mut self, bridge: &Bridge) {
        self.forget_monitors(bridge);
    }
}

/// An error message with the first bytes of what it refuses.
fn error(e: &OfError, raw: &[u8]) -> Message {
    Message::Error(ErrorMsg {
        kind: e.kind,
        data: Bytes::copy_from_slice(&raw[..raw.len().min(openflow::session::ERROR_DATA_LEN)]),
    })
}

/// What the bridge is.
fn description(bridge: &Bridge) -> SwitchDesc {
    let identity = bridge.identity();
    let none = || "None".to_owned();
    SwitchDesc {
        manufacturer: "weir".to_owned(),
        hardware: "weir userspace datapath".to_owned(),
        software: bridge.version().to_owned(),
        serial: identity.dp_sn.unwrap_or_else(none),
        datapath: identity.dp_desc.unwrap_or_else(none),
    }
}

/// What a secondary controller may not send (OpenFlow 1.3.5 6.3.6).
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
            | Message::TlvTableMod(..)
            | Message::Resume(_)
            | Message::CtFlushZone(_)
    )
}

#[cfg(test)]
mod tests;
