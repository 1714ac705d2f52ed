//! Changes of flows, and what flows there are.

use super::Peer;
use crate::agent::rconn::Now;
use crate::agent::{Bridge, HIDDEN_COOKIE, HIDDEN_MASK, TABLES, is_hidden, origin, tlv};
use crate::plane::{Change, Flows};
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF11};
use openflow::{
    Action, AggregateStats, FieldId, FlowFilter, FlowMod, FlowModCommand, FlowStats, Match,
    OfError, PacketOut, PortNo, TABLE_ALL,
};
use std::time::Duration;

/// How OpenFlow 1.0's controllers want flows written (Nicira's extensions of it).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowForm {
    /// Whether removed flows are told in Nicira's form (NXT_SET_FLOW_FORMAT).
    pub(super) nicira: bool,
    /// Whether flow-mods carry a table (NXT_FLOW_MOD_TABLE_ID).
    table_ids: bool,
}

impl FlowForm {
    /// NXT_SET_FLOW_FORMAT.
    pub(super) fn set_format(&mut self, n: u32) -> Result<(), OfError> {
        match n {
            0 | 2 => self.nicira = n == 2,
            n => {
                return Err(OfError::new(
                    ErrorKind::RequestEperm,
                    format!("flow format {n} is not known; 0 is OpenFlow 1.0's, 2 is NXM"),
                ));
            }
        }
        Ok(())
    }

    /// NXT_FLOW_MOD_TABLE_ID.
    pub(super) fn set_table_ids(&mut self, on: bool) {
        self.table_ids = on;
    }
}

impl Peer {
    /// Changes flows; a packet that waits for the change then goes through the tables.
    pub(super) fn flow_mod(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        m: FlowMod,
        now: Now,
    ) -> Result<(), OfError> {
        let buffer = m.buffer;
        let change = self.own_change(bridge, m).map_err(|(_, e)| e)?;
        bridge
            .change(&[change], origin(self.id, xid))
            .map_err(|(_, e)| e)?;
        // The flow stays though the packet may be gone (OpenFlow 1.3.5 A.4.4).
        if let Some(id) = buffer {
            let waiting = bridge.take_buffer(id, now)?;
            bridge.plane().packet_out(
                bridge.name(),
                &PacketOut {
                    in_port: waiting.in_port,
                    actions: vec![Action::Output {
                        port: PortNo::TABLE,
                        max_len: 0,
                    }],
                    data: waiting.data,
                    ..PacketOut::default()
                },
            )?;
        }
        Ok(())
    }

    /// A flow-mod as the tables take it, in which versions do not differ any more: an add to "all
    /// tables" goes to the first, as in Open vSwitch; filters count for deletes alone. In 1.0 and 1.1 a modify of flows
    /// that are not there adds one, and an add counts anew; in 1.0 a flow-mod without a table goes to table 0 or speaks of
    /// all, and a modify changes cookies too. A refused one comes back with the reason.
    pub(super) fn own_change(
        &self,
        bridge: &Bridge,
        mut m: FlowMod,
    ) -> Result<Change, (Box<FlowMod>, OfError)> {
        if !matches!(
            m.command,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict
        ) && tlv::uses_options(&m)
            && let Err(e) = bridge.check_options(&m)
        {
            return Err((Box::new(m), e));
        }
        if m.command == FlowModCommand::Add && m.table == TABLES {
            let why = format!("table {TABLES} is the switch's own");
            return Err((Box::new(m), OfError::new(ErrorKind::RequestEperm, why)));
        }
        ethernet(&mut m.matching);
        if self.version == OF10 && !self.flows.table_ids {
            if m.table != 0 {
                let why = format!(
                    "a table ({}) in the command, which NXT_FLOW_MOD_TABLE_ID did not allow",
                    m.table
                );
                return Err((Box::new(m), OfError::new(ErrorKind::BadCommand, why)));
            }
            m.table = TABLE_ALL;
        }
        let modifies = matches!(
            m.command,
            FlowModCommand::Modify | FlowModCommand::ModifyStrict
        );
        if matches!(self.version, OF10 | OF11) && !modifies {
            m.flags.reset_counts = m.command == FlowModCommand::Add;
        }
        Ok(match self.version {
            OF10 | OF11 if modifies => Change::ModifyOrAdd {
                cookie: self.version == OF10 && m.cookie_mask == 0,
                flow_mod: own(m),
            },
            _ => Change::Flow(own(m)),
        })
    }
}

/// What versions from 1.2 on mean alike.
pub(super) fn own(m: FlowMod) -> FlowMod {
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
        out_group: m.out_group.filter(|_| deletes),
        ..m
    }
}

/// Packets begin with an Ethernet header unless a match says otherwise (OpenFlow 1.5.1, OXM_OF_PACKET_TYPE): one that says so in as
/// many words is the same match.
fn ethernet(m: &mut Match) {
    if m.exact(FieldId::PacketType) == Some(0) {
        m.set_masked(FieldId::PacketType, 0, 0);
    }
}

/// A filter as tables take it.
///
/// # Errors
/// There is no such table.
fn own_filter(filter: &FlowFilter) -> Result<FlowFilter, OfError> {
    check_table(filter.table)?;
    let mut own = filter.clone();
    ethernet(&mut own.matching);
    Ok(own)
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

/// Whether controllers get to see a flow.
pub(super) fn is_visible(flow: &FlowStats) -> bool {
    !is_hidden(flow.cookie) && flow.table < TABLES
}

/// The flows a controller asked for.
pub(super) fn stats(bridge: &Bridge, filter: &FlowFilter) -> Result<Flows, OfError> {
    let filter = own_filter(filter)?;
    let flows = bridge.plane().flow_stats(bridge.name(), &filter);
    Ok(Box::new(flows.filter(is_visible).map(|mut f| {
        f.duration = whole_millis(f.duration);
        f
    })))
}

/// Their sums.
pub(super) fn aggregate(bridge: &Bridge, filter: &FlowFilter) -> Result<AggregateStats, OfError> {
    let filter = own_filter(filter)?;
    let plane = bridge.plane();
    let mut sum = plane.aggregate_stats(bridge.name(), &filter);
    let hidden = FlowFilter {
        cookie: HIDDEN_COOKIE,
        cookie_mask: HIDDEN_MASK,
        ..filter.clone()
    };
    if filter.cookie_mask == 0 && bridge.has_hidden_flows() {
        let hidden = plane.aggregate_stats(bridge.name(), &hidden);
        sum.packets = sum.packets.saturating_sub(hidden.packets);
        sum.bytes = sum.bytes.saturating_sub(hidden.bytes);
        sum.flows = sum.flows.saturating_sub(hidden.flows);
    }
    Ok(sum)
}

/// Durations are told in milliseconds: more digits mean nothing and make dumps hard to read.
pub(super) fn whole_millis(d: Duration) -> Duration {
    Duration::new(d.as_secs(), d.subsec_millis() * 1_000_000)
}
