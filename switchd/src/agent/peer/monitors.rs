//! Flow monitors: what happens to flows, told to whoever watches (NXST_FLOW_MONITOR; OpenFlow 1.4.1
//! 7.3.5.18).
//!
//! The bridge puts every change of a flow into the [`Monitors`] of each connection that watches, and the
//! connection's task takes them out as its controller reads. A controller that does not keep up is
//! *paused* once [`MAX_UPDATES`] wait: from then on only what differs between then and now is kept, one
//! entry a flow, and told before it is *resumed*. A change that a controller made itself is told in
//! short, by its transaction id.

use super::Peer;
use super::flows::is_visible;
use crate::agent::{Bridge, ConnId, TABLES, is_hidden, who};
use openflow::error::ErrorKind;
use openflow::{
    FlowFilter, FlowMonitorCommand, FlowMonitorRequest, FlowRemovedReason, FlowStats, FlowUpdate,
    Match, Message, MonitoredFlow, MultipartReply, OfError, PortNo, TABLE_ALL,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};

/// Monitors a connection may have.
pub const MAX_MONITORS: usize = 64;
/// Updates that wait before the connection is paused.
pub const MAX_UPDATES: usize = 4096;
/// Flows that changed while a connection was paused: beyond, it is given up.
pub const MAX_CHANGED: usize = 1_000_000;
/// Updates in one message.
const BATCH: usize = 128;

/// `OFPFMF_*` and what Nicira calls the first five alike.
mod flags {
    pub const INITIAL: u16 = 1;
    pub const ADD: u16 = 2;
    pub const REMOVED: u16 = 4;
    pub const MODIFY: u16 = 8;
    pub const INSTRUCTIONS: u16 = 16;
    /// Own changes in full: OFPFMF_NO_ABBREV, and OFPFMF_ONLY_OWN, which by the standard would leave the
    /// changes of others out, but which Open vSwitch takes for this and stock ovs-ofctl sets for it.
    pub const IN_FULL: u16 = 32 | 64;
    pub const ALL: u16 = 127;
}

/// What a rule is known by.
type Key = (u8, u16, Match);

/// What became of a flow during a pause.
#[derive(Clone, Debug)]
struct Changed {
    /// Whether the controller knows the flow.
    known: bool,
    /// As it is now, or why and as what it went.
    now: Result<MonitoredFlow, (FlowRemovedReason, MonitoredFlow)>,
}

#[derive(Clone, Debug)]
struct Monitor {
    request: FlowMonitorRequest,
    /// Changes up to this version were in its first answer.
    since: u64,
}

/// A connection's monitors and what they saw.
#[derive(Debug, Default)]
pub struct Monitors {
    list: BTreeMap<u32, Monitor>,
    /// Whether they were asked for in Nicira's form.
    nicira: bool,
    waiting: Vec<FlowUpdate>,
    paused: Option<HashMap<Key, Changed>>,
    overrun: bool,
}

impl Monitor {
    fn sees(&self, flow: &MonitoredFlow) -> bool {
        let r = &self.request;
        let instructions = flow.instructions.as_ref();
        (r.table == TABLE_ALL || r.table == flow.table)
            && flow.matching.is_within(&r.matching)
            && (r.out_port == PortNo::ANY || instructions.is_some_and(|i| i.outputs_to(r.out_port)))
            && r.out_group
                .is_none_or(|g| instructions.is_some_and(|i| i.uses_group(g)))
    }
}

fn flow_of(update: &FlowUpdate) -> Option<(&MonitoredFlow, u16)> {
    match update {
        FlowUpdate::Initial(f) => Some((f, flags::INITIAL)),
        FlowUpdate::Added(f) => Some((f, flags::ADD)),
        FlowUpdate::Removed(_, f) => Some((f, flags::REMOVED)),
        FlowUpdate::Modified(f) => Some((f, flags::MODIFY)),
        FlowUpdate::Abbreviated(_) | FlowUpdate::Paused | FlowUpdate::Resumed => None,
    }
}

/// The flow with instructions or without.
fn with_instructions(mut update: FlowUpdate, wanted: bool) -> FlowUpdate {
    let (FlowUpdate::Initial(f)
    | FlowUpdate::Added(f)
    | FlowUpdate::Removed(_, f)
    | FlowUpdate::Modified(f)) = &mut update
    else {
        return update;
    };
    if !wanted {
        f.instructions = None;
    }
    update
}

impl Monitors {
    /// Whether nobody watches here.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A change of a flow by `origin` for connection `id`, which made `version`. Whether there is now
    /// something to take.
    pub fn update(&mut self, id: ConnId, update: &FlowUpdate, origin: u64, version: u64) -> bool {
        let Some((flow, kind)) = flow_of(update) else {
            return false;
        };
        if is_hidden(flow.cookie) || flow.table >= TABLES {
            return false;
        }
        let (maker, xid) = who(origin);
        let own = maker == id;
        let wanted = self
            .list
            .values()
            .filter(|m| version > m.since && m.request.flags & kind != 0 && m.sees(flow))
            .fold(None, |all: Option<u16>, m| {
                Some(all.unwrap_or(0) | m.request.flags)
            });
        let Some(wanted) = wanted else { return false };
        if self.paused.is_some() {
            self.note(update);
            return false;
        }
        if own && wanted & flags::IN_FULL == 0 {
            let short = FlowUpdate::Abbreviated(xid);
            if self.waiting.last() != Some(&short) {
                self.waiting.push(short);
            }
        } else {
            let instructions = wanted & flags::INSTRUCTIONS != 0;
            self.waiting
                .push(with_instructions(update.clone(), instructions));
        }
        if self.waiting.len() >= MAX_UPDATES {
            self.waiting.push(FlowUpdate::Paused);
            self.paused = Some(HashMap::new());
        }
        true
    }

    /// Keeps what a change during a pause leads to.
    fn note(&mut self, update: &FlowUpdate) {
        let Some(changed) = &mut self.paused else {
            return;
        };
        let (now, new) = match update {
            FlowUpdate::Added(f) | FlowUpdate::Initial(f) => (Ok(f.clone()), true),
            FlowUpdate::Modified(f) => (Ok(f.clone()), false),
            FlowUpdate::Removed(why, f) => (Err((*why, f.clone())), false),
            _ => return,
        };
        let (Ok(f) | Err((_, f))) = &now;
        let key = (f.table, f.priority, f.matching.clone());
        let known = changed.get(&key).map_or(!new, |c| c.known);
        if !known && now.is_err() {
            changed.remove(&key);
            return;
        }
        changed.insert(key, Changed { known, now });
        if changed.len() > MAX_CHANGED {
            self.overrun = true;
        }
    }

    /// Whether it can no longer be told what happened.
    pub fn overrun(&self) -> bool {
        self.overrun
    }

    /// What is to be told now. `idle` says that all that was told before has left: then a pause ends.
    pub fn take(&mut self, version: u8, idle: bool) -> Vec<Message> {
        if idle
            && self.waiting.is_empty()
            && let Some(changed) = self.paused.take()
        {
            let mut changed: Vec<(Key, Changed)> = changed.into_iter().collect();
            // Removals first, as a flow may have come in the place of others; else in the tables' order.
            changed.sort_by_key(|((table, priority, _), c)| {
                (c.now.is_ok(), *table, std::cmp::Reverse(*priority))
            });
            let wants = |flag: u16| self.list.values().any(|m| m.request.flags & flag != 0);
            let instructions = wants(flags::INSTRUCTIONS);
            self.waiting = changed
                .into_iter()
                .map(|(_, c)| match (c.known, c.now) {
                    (true, Ok(f)) => FlowUpdate::Modified(f),
                    (false, Ok(f)) => FlowUpdate::Added(f),
                    (_, Err((why, f))) => FlowUpdate::Removed(why, f),
                })
                .map(|u| with_instructions(u, instructions))
                .collect();
            self.waiting.push(FlowUpdate::Resumed);
        }
        let mut out = Vec::new();
        let mut batch = Vec::new();
        for u in std::mem::take(&mut self.waiting) {
            match u {
                FlowUpdate::Paused | FlowUpdate::Resumed if version < 5 => {
                    out.extend(self.message(std::mem::take(&mut batch)));
                    out.push(match u {
                        FlowUpdate::Paused => Message::FlowMonitorPaused,
                        _ => Message::FlowMonitorResumed,
                    });
                }
                u => {
                    batch.push(u);
                    if batch.len() >= BATCH {
                        out.extend(self.message(std::mem::take(&mut batch)));
                    }
                }
            }
        }
        out.extend(self.message(batch));
        out
    }

    fn message(&self, updates: Vec<FlowUpdate>) -> Option<Message> {
        if updates.is_empty() {
            return None;
        }
        let reply = Message::MultipartReply(MultipartReply::FlowMonitor(updates));
        Some(match self.nicira {
            true => Message::Nicira(Box::new(reply)),
            false => reply,
        })
    }

    /// Whether it waits for its controller to read.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }
}

fn monitored(f: FlowStats) -> MonitoredFlow {
    MonitoredFlow {
        table: f.table,
        priority: f.priority,
        idle_timeout: f.idle_timeout,
        hard_timeout: f.hard_timeout,
        cookie: f.cookie,
        matching: f.matching,
        instructions: Some(f.instructions),
    }
}

impl Peer {
    fn monitors(&self) -> MutexGuard<'_, Monitors> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, changes or ends monitors; the flows that are there, for those that ask for them. All or
    /// nothing.
    pub(super) fn monitor(
        &mut self,
        bridge: &Bridge,
        requests: &[FlowMonitorRequest],
        nicira: bool,
    ) -> Result<Vec<FlowUpdate>, OfError> {
        let mut monitors = self.monitors();
        let mut list = monitors.list.clone();
        let mut begun = Vec::new();
        for r in requests {
            check(r)?;
            let unknown = || {
                OfError::new(
                    ErrorKind::UnknownMonitor,
                    format!("there is no flow monitor {}", r.id),
                )
            };
            match r.command {
                FlowMonitorCommand::Delete => {
                    list.remove(&r.id).ok_or_else(unknown)?;
                    continue;
                }
                FlowMonitorCommand::Modify => {
                    list.remove(&r.id).ok_or_else(unknown)?;
                }
                FlowMonitorCommand::Add if list.contains_key(&r.id) => {
                    return Err(OfError::new(
                        ErrorKind::MonitorExists,
                        format!("there is a flow monitor {} already", r.id),
                    ));
                }
                FlowMonitorCommand::Add => {}
            }
            if list.len() >= MAX_MONITORS {
                return Err(OfError::new(
                    ErrorKind::MonitorUnknown,
                    format!("a connection can have {MAX_MONITORS} flow monitors"),
                ));
            }
            begun.push(r.id);
            let m = Monitor {
                request: r.clone(),
                since: 0,
            };
            list.insert(r.id, m);
        }
        let had = !monitors.list.is_empty();
        let has = !list.is_empty();
        if has && !had {
            bridge.watch(true);
        }
        let mut told = BTreeMap::new();
        for id in begun {
            let Some(m) = list.get_mut(&id) else { continue };
            let filter = FlowFilter {
                table: m.request.table,
                out_port: m.request.out_port,
                out_group: m.request.out_group,
                matching: m.request.matching.clone(),
                ..FlowFilter::default()
            };
            let (version, flows) = bridge.plane().flow_snapshot(bridge.name(), &filter);
            m.since = version;
            if m.request.flags & flags::INITIAL == 0 {
                continue;
            }
            let instructions = m.request.flags & flags::INSTRUCTIONS != 0;
            for f in flows.into_iter().filter(is_visible) {
                let f = monitored(f);
                let key = (f.table, f.priority, f.matching.clone());
                // What several monitors ask for is told once, with what any of them wants to see.
                let (_, wanted) = told.entry(order(&key)).or_insert_with(|| (f, false));
                *wanted |= instructions;
            }
        }
        monitors.list = list;
        if !requests.is_empty() {
            monitors.nicira = nicira;
        }
        if had && !has {
            bridge.watch(false);
        }
        let initial = |f| match self.version {
            v if v < 5 => FlowUpdate::Added(f),
            _ => FlowUpdate::Initial(f),
        };
        Ok(told
            .into_values()
            .map(|(f, wanted)| with_instructions(initial(f), wanted))
            .collect())
    }

    /// Ends a monitor of Nicira's.
    pub(super) fn cancel_monitor(&mut self, bridge: &Bridge, id: u32) -> Result<(), OfError> {
        let mut monitors = self.monitors();
        if monitors.list.remove(&id).is_none() {
            return Err(OfError::new(
                ErrorKind::UnknownMonitor,
                format!("there is no flow monitor {id}"),
            ));
        }
        if monitors.list.is_empty() {
            bridge.watch(false);
        }
        Ok(())
    }

    pub(super) fn forget_monitors(&mut self, bridge: &Bridge) {
        let mut monitors = self.monitors();
        if !std::mem::take(&mut *monitors).list.is_empty() {
            bridge.watch(false);
        }
    }
}

/// In the order of tables, then of priority.
fn order(
    key: &Key,
) -> (
    u8,
    std::cmp::Reverse<u16>,
    Vec<(openflow::field::Slot, u128, u128)>,
) {
    let entries = key.2.entries().iter();
    (
        key.0,
        std::cmp::Reverse(key.1),
        entries.map(|e| (e.slot, e.value, e.mask)).collect(),
    )
}

fn check(r: &FlowMonitorRequest) -> Result<(), OfError> {
    if r.flags & !flags::ALL != 0
        || r.flags & flags::ALL == 0 && r.command != FlowMonitorCommand::Delete
    {
        return Err(OfError::new(
            ErrorKind::MonitorBadFlags,
            format!("flow monitor flags {:#x}", r.flags),
        ));
    }
    if r.table >= TABLES && r.table != TABLE_ALL {
        return Err(OfError::new(
            ErrorKind::MonitorBadTableId,
            format!("table {}: there are tables 0 to {}", r.table, TABLES - 1),
        ));
    }
    Ok(())
}
