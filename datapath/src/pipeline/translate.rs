//! The walk through the tables.

use super::action_set::ActionSet;
use super::frozen::{Frame, Frozen, Place};
use super::headers::Tag;
use super::meter::Metered;
use super::mirror::Mirrored;
use super::output::{NO_QUEUE, ToController};
use super::pushed::Pushed;
use super::trace::{Recorder, What};
use super::translation::{Credit, Dep, Translation, credit_of};
use super::{ACTIONS_MAX, DEPTH_MAX, RESUBMITS_MAX, STACK_MAX, TAGS_MAX};
use crate::action::{DpAction, Reshape};
use crate::bridge::{Bridge, BridgeState, PortEntry, World};
use crate::cache::tunnels::Tunnel;
use crate::clock::Now;
use crate::config::{Fragments, Miss};
use crate::drop::DropReason;
use crate::flow::{FlowKey, FlowMask};
use crate::mirror::Way;
use crate::table::{Cells, Rule};
use openflow::action::PacketInReason;
use openflow::{Action, Instructions, PortNo, Slot, TableMiss};
use std::net::IpAddr;
use std::sync::Arc;

/// One translation in progress.
pub struct Xlate<'a> {
    pub(super) world: &'a World,
    pub(super) now: Now,
    /// Whether addresses are learned: not for traces and comparisons.
    pub(super) effects: bool,
    /// Whether it is a packet of the past, whose address may be nobody's any more: who asked learns it from the credits, if the
    /// packet at hand has it too.
    pub(super) again: bool,
    pub(super) key: FlowKey,
    pub(super) touched: FlowMask,
    /// Whether nothing was ever touched: most packets are only sent on.
    pub(super) clean: bool,
    pub(super) wire: FlowKey,
    pub(super) wire_touched: FlowMask,
    pub(super) tags: Vec<Tag>,
    pub(super) wire_tags: Vec<Tag>,
    /// Headers put on, on the wire; and how many of them the key is behind.
    pub(super) pushed: Vec<Pushed>,
    pub(super) pushes: usize,
    pub(super) out: Translation,
    /// The states of the bridges it came to: most packets see one.
    state: Option<(u32, Arc<BridgeState>)>,
    states: Vec<(u32, Arc<BridgeState>)>,
    pub(super) set: ActionSet,
    pub(super) depth: usize,
    pub(super) resubmits: usize,
    pub(super) exit: bool,
    /// The port that the next lookup alone takes for the one the packet came in by.
    as_port: Option<PortNo>,
    pub(super) failed: bool,
    pub(super) packet_out: bool,
    /// Whether a bucket's actions are run, and an action set's.
    pub(super) in_group: bool,
    pub(super) in_set: bool,
    /// Values of push and pop.
    pub(super) stack: Vec<u128>,
    /// The queue that outputs go by, and the one that the packet has by the actions so far.
    pub(super) queue: u32,
    pub(super) wire_queue: u32,
    /// No more bytes than this leave by the port that it is being sent to.
    pub(super) cut: Option<u32>,
    /// How long the packet is, if that is known.
    pub(super) length: Option<u64>,
    /// Meters in what is done to the copy at hand.
    pub(super) metered: Vec<Metered>,
    pub(super) copies: usize,
    /// Options of the tunnel that the packet came by, and where that ended.
    options: &'a [u8],
    pub(super) tunnelled_to: Option<IpAddr>,
    /// Tunnels that the packet is in.
    pub(super) in_tunnels: usize,
    /// Watching buckets looked at.
    pub(super) watches: usize,
    /// The datapath port that pays for packet-ins.
    pub(super) budget: u32,
    pub(super) table: u8,
    pub(super) cookie: u64,
    pub(super) miss_rule: bool,
    /// The rule whose actions are done.
    pub(super) rule: Option<Arc<Rule>>,
    /// Who has had a copy.
    pub(super) mirrored: Mirrored,
    /// Set aside, while the walk returns to where that ends.
    pub(super) freezing: Option<Box<Frozen>>,
    /// Who is told of every step, if anybody is.
    pub(super) trace: Option<&'a mut Recorder>,
}

pub(super) type Here<'b> = (&'b Arc<Bridge>, &'b Arc<BridgeState>);

impl<'a> Xlate<'a> {
    /// Begins with a packet's key.
    pub fn new(world: &'a World, mut key: FlowKey, now: Now, effects: bool) -> Xlate<'a> {
        key.set(Slot::ActsetOutput, PortNo::UNSET.0.into());
        let tags: Vec<Tag> = [Slot::VlanTci, Slot::InnerVlanTci]
            .iter()
            .map(|s| key.get64(*s) as u16)
            .take_while(|tci| tci & 0x1000 != 0)
            .map(|tci| Tag { tpid: 0, tci })
            .collect();
        Xlate {
            world,
            now,
            effects,
            again: false,
            key,
            touched: FlowMask::default(),
            clean: true,
            wire: key,
            wire_touched: FlowMask::default(),
            wire_tags: tags.clone(),
            pushed: Vec::new(),
            pushes: 0,
            tags,
            out: Translation::default(),
            state: None,
            states: Vec::new(),
            set: ActionSet::default(),
            depth: 0,
            resubmits: 0,
            exit: false,
            as_port: None,
            failed: false,
            packet_out: false,
            in_group: false,
            in_set: false,
            stack: Vec::new(),
            queue: NO_QUEUE,
            wire_queue: 0,
            cut: None,
            length: None,
            metered: Vec::new(),
            copies: 0,
            options: &[],
            tunnelled_to: None,
            in_tunnels: 0,
            watches: 0,
            budget: u32::MAX,
            table: 0,
            cookie: 0,
            miss_rule: false,
            rule: None,
            mirrored: Mirrored::default(),
            freezing: None,
            trace: None,
        }
    }

    /// Writes the answer into the lists of an old one, so that nothing is allocated for it.
    #[must_use]
    pub fn reusing(mut self, mut old: Translation) -> Xlate<'a> {
        old.clear();
        self.out = old;
        self
    }

    /// A packet that came before, translated anew.
    #[must_use]
    pub fn again(mut self, again: bool) -> Xlate<'a> {
        self.again = again;
        self
    }

    /// A packet that came by a tunnel. (What its key says of that was in it before.)
    #[must_use]
    pub fn by(mut self, tunnel: Option<&'a Tunnel>) -> Xlate<'a> {
        if let Some(t) = tunnel {
            self.options = &t.options;
            self.tunnelled_to = Some(t.key.dst);
        }
        self
    }

    /// For one packet alone, of so many bytes: its length need not be asked for.
    #[must_use]
    pub fn long(mut self, bytes: u64) -> Xlate<'a> {
        self.length = Some(bytes);
        self
    }

    /// A packet that came in by `port`.
    pub fn run(mut self, port: &Arc<PortEntry>) -> Translation {
        self.budget = port.index;
        self.look_first();
        if !self.options.is_empty()
            && let Some(bridge) = self.world.bridge(port.bridge)
        {
            let state = self.state_of(bridge);
            self.key.set_options(self.options, &state.options);
        }
        self.enter(port);
        self.finish()
    }

    /// What is looked at of every packet.
    fn look_first(&mut self) {
        self.look_all(Slot::InPort);
        self.look_all(Slot::EthType);
        if matches!(self.key.get64(Slot::EthType), 0x0800 | 0x86dd) {
            self.look_all(Slot::NwFrag);
        }
    }

    /// A packet that came in by a port that the bridge does not have.
    pub(crate) fn run_without_port(mut self, bridge: u32) -> Translation {
        if let Some(bridge) = self.world.bridge(bridge) {
            let state = self.state_of(bridge);
            self.look_first();
            self.under(
                || What::Bridge(bridge.name.clone()),
                |x| x.pipeline((bridge, &state)),
            );
        }
        self.finish()
    }

    /// A packet-out: `actions` on a packet said to have come in by `in_port`.
    pub fn run_actions(mut self, bridge: u32, in_port: PortNo, actions: &[Action]) -> Translation {
        self.packet_out = true;
        if let Some(bridge) = self.world.bridge(bridge) {
            let state = self.state_of(bridge);
            self.key.set(Slot::InPort, in_port.0.into());
            if let Some(&index) = state.ports.get(&in_port.0) {
                self.budget = index;
            }
            self.under(
                || What::Bridge(bridge.name.clone()),
                |x| {
                    if let Some(port) = x.port_at(&state, in_port) {
                        if x.is_for_mirrors(&state, port) {
                            return;
                        }
                        x.mirror(&state, port, Way::In);
                    }
                    x.actions((bridge, &state), actions);
                },
            );
        }
        self.finish()
    }

    pub(super) fn finish(mut self) -> Translation {
        self.seal();
        self.tell_last();
        if self.failed {
            self.out.actions.clear();
        }
        if self.out.actions.len() > self.mirrored.actions {
            self.out.drop = None;
            return self.out;
        }
        let reason = *self.out.drop.get_or_insert(DropReason::NoOutput);
        if !self.out.actions.is_empty() {
            self.out.actions.push(DpAction::Drop(reason));
        }
        self.out
    }

    pub(super) fn dropped(&mut self, reason: DropReason) {
        self.out.drop = Some(reason);
    }

    pub(super) fn fail(&mut self, reason: DropReason) {
        self.failed = true;
        self.exit = true;
        self.out.drop = Some(reason);
    }

    /// The state of a bridge: one throughout the translation.
    pub(super) fn state_of(&mut self, bridge: &Arc<Bridge>) -> Arc<BridgeState> {
        let mut known = self.state.iter().chain(&self.states);
        if let Some((_, s)) = known.find(|(id, _)| *id == bridge.id) {
            return s.clone();
        }
        let state = bridge.state.load_full();
        self.out
            .deps
            .push(Dep::Bridge(bridge.clone(), state.settings));
        let first = (bridge.id, state.clone());
        match self.state {
            None => self.state = Some(first),
            Some(_) => self.states.push(first),
        }
        state
    }

    /// A decision looked at a slot: bits that are still the packet's own go into the mask.
    pub(super) fn look_all(&mut self, slot: Slot) {
        self.look(slot, u128::MAX);
    }

    pub(super) fn look(&mut self, slot: Slot, bits: u128) {
        let own = !self.touched.get(slot);
        self.out.mask.look(slot, bits & own);
    }

    /// The bridge's own tables see the packet that came in by `port`.
    pub(super) fn enter(&mut self, port: &Arc<PortEntry>) {
        let Some(bridge) = self.world.bridge(port.bridge) else {
            return self.dropped(DropReason::PortNoRecv);
        };
        let state = self.state_of(bridge);
        self.under(
            || What::Bridge(bridge.name.clone()),
            |x| {
                if port.flags.port_down || port.flags.no_recv {
                    return x.dropped(DropReason::PortNoRecv);
                }
                if x.is_for_mirrors(&state, port) {
                    return;
                }
                x.mirror(&state, port, Way::In);
                if let Some(guard) = &port.spec.guard
                    && guard.ingress
                    && !x.may_enter(guard)
                {
                    return;
                }
                if (port.patch.is_some() || port.tunnel.is_some())
                    && let Some(ingress) = &port.ingress
                {
                    x.limit_patched(ingress);
                }
                x.pipeline((bridge, &state));
            },
        );
    }

    /// Whether a port takes nothing in, since it is reserved for mirrors.
    fn is_for_mirrors(&mut self, state: &BridgeState, port: &PortEntry) -> bool {
        let reserved = state.mirrors.reserve(port.index);
        if reserved {
            self.tell(|| {
                let name = port.name();
                What::Failure(format!(
                    "dropping packet received on port {name}, which is reserved exclusively for mirroring"
                ))
            });
            self.dropped(DropReason::MirrorOutput);
        }
        reserved
    }

    /// Table 0 to the end, and then the action set.
    pub(super) fn pipeline(&mut self, here: Here) {
        self.look_up(here, 0, true);
        if self.freezing.is_some() {
            return self.unroll(|| Frame::ActionSet);
        }
        if !self.exit {
            self.run_set(here);
        }
    }

    pub(super) fn run_set(&mut self, here: Here) {
        if !self.set.is_empty() {
            let set = self.set.take();
            self.note_set();
            let outer = std::mem::replace(&mut self.in_set, true);
            self.under(|| What::ActionSet, |x| x.actions(here, &set));
            self.in_set = outer;
        }
    }

    /// The rule it is at.
    pub(super) fn place(&self) -> Place {
        (self.table, self.cookie, self.miss_rule)
    }

    /// Looks the key up in `table` and in those it goes on to.
    pub(super) fn look_up(&mut self, here: Here, table: u8, miss: bool) {
        let depth = self.told_depth();
        self.walk(here, table, miss);
        self.tell_end(depth);
    }

    fn walk(&mut self, here: Here, mut table: u8, miss: bool) {
        let depth = self.told_depth();
        let mut onward = false;
        loop {
            self.sync_tags();
            self.tell_end(depth);
            let Some(t) = here.1.tables.get(table) else {
                match self.next_on_miss(here, table, miss) {
                    Some(next) => {
                        (table, onward) = (next, true);
                        continue;
                    }
                    None => return self.missed(here, (table, onward), miss),
                }
            };
            // Not all of the key is for the table to see.
            let shown;
            let as_port = self.as_port.take();
            let fragment = self.key.get64(Slot::NwFrag) != 0;
            let key = if as_port.is_some() || fragment {
                if fragment && here.1.fragments == Fragments::Drop {
                    self.remark(|| "fragments are dropped".into());
                    return self.dropped(DropReason::Fragment);
                }
                let without_ports = fragment && here.1.fragments == Fragments::Normal;
                shown = self.shown_to_table(as_port, without_ports);
                &shown
            } else {
                &self.key
            };
            // What the table looks at counts only where the bits are the packet's own.
            let mut cells = Cells::default();
            let rule = if self.clean {
                t.classifier
                    .lookup_noting(key, &mut self.out.mask, &mut cells)
            } else {
                let mut mask = FlowMask::default();
                let rule = t.classifier.lookup_noting(key, &mut mask, &mut cells);
                for ((total, seen), touched) in
                    self.out.mask.0.iter_mut().zip(&mask.0).zip(&self.touched.0)
                {
                    *total |= seen & !touched;
                }
                rule
            };
            self.out.deps.push(Dep::Rules {
                changes: t.classifier.changes().clone(),
                since: here.1.version,
                cells,
            });
            self.out
                .credits
                .push(Credit::Table(t.counters.clone(), rule.is_some()));
            let Some(rule) = rule else {
                match self.next_on_miss(here, table, miss) {
                    Some(next) => {
                        (table, onward) = (next, true);
                        continue;
                    }
                    None => return self.missed(here, (table, onward), miss),
                }
            };
            self.tell_table((table, onward), &t.classifier, rule);
            self.out.credits.push(credit_of(rule));
            let saved = self.place();
            self.table = table;
            self.cookie = rule.cookie;
            self.miss_rule = rule.priority == 0 && rule.pattern.is_empty();
            let i = &rule.instructions;
            if **i == Instructions::default() {
                self.tell(|| What::Nothing);
            }
            if let Some(meter) = i.meter {
                self.tell(|| What::Meter(meter));
                self.meter(here, meter);
            }
            self.rule = Some(rule.clone());
            let goes_on = self.actions(here, &i.apply);
            if self.freezing.is_some() {
                return self.unroll(|| Frame::Rule(i.clone(), miss));
            }
            if self.exit {
                return;
            }
            match goes_on.then(|| self.conclude(i)).flatten() {
                Some(next) => (table, onward) = (next, true),
                None => {
                    (self.table, self.cookie, self.miss_rule) = saved;
                    return;
                }
            }
        }
    }

    /// The key as a lookup takes it: with another port, or without transport ports.
    fn shown_to_table(&self, as_port: Option<PortNo>, without_ports: bool) -> FlowKey {
        let mut key = self.key;
        if let Some(port) = as_port {
            key.set(Slot::InPort, port.0.into());
        }
        if without_ports {
            key.set(Slot::TpSrc, 0);
            key.set(Slot::TpDst, 0);
        }
        key
    }

    /// What a rule says beside its apply-actions; the table to go to.
    pub(super) fn conclude(&mut self, i: &Instructions) -> Option<u8> {
        if i.clear_actions {
            self.tell(|| What::ClearActions);
            self.tell_set(What::Emptied);
            self.set.clear();
        }
        if !i.write.is_empty() {
            self.tell(|| What::WriteActions(i.write.clone()));
        }
        for a in &i.write {
            if !self.set.write(a) {
                self.fail(DropReason::TooManyActions);
                return None;
            }
        }
        self.note_set();
        if !i.write.is_empty() {
            self.tell_set(What::Gathered);
        }
        if let Some((value, mask)) = i.metadata {
            self.tell(|| What::WriteMetadata(value, mask));
            self.write(Slot::Metadata, value.into(), mask.into());
        }
        if let Some(next) = i.goto_table {
            self.tell(|| What::Goto(next));
        }
        i.goto_table
    }

    /// The table in which a packet goes on that no rule of `table` matches (`OFPTC11_TABLE_MISS_CONTINUE`).
    fn next_on_miss(&self, here: Here, table: u8, miss: bool) -> Option<u8> {
        let goes_on = miss && here.1.tables.settings().miss(table) == Some(TableMiss::Continue);
        (goes_on && table + 1 < here.1.config.max_tables).then_some(table + 1)
    }

    fn missed(&mut self, here: Here, (table, onward): (u8, bool), miss: bool) {
        let fate = match here.1.tables.settings().miss(table) {
            None => here.1.config.miss,
            Some(TableMiss::Controller) => Miss::Controller,
            Some(TableMiss::Drop | TableMiss::Continue) => Miss::Drop,
        };
        let to_controller = miss && fate == Miss::Controller;
        self.tell_miss((table, onward), here.1.tables.get(table), to_controller);
        if !miss {
            return;
        }
        match fate {
            Miss::Drop => self.dropped(DropReason::NoMatch),
            Miss::Controller => {
                self.table = table;
                self.cookie = u64::MAX;
                self.packet_in(here, ToController::whole(PacketInReason::NoMatch));
            }
        }
    }

    /// Does actions. `false` if one of them ended the rule: a TTL ran out.
    pub(super) fn actions(&mut self, here: Here, list: &[Action]) -> bool {
        for (n, a) in list.iter().enumerate() {
            if self.exit {
                return true;
            }
            self.tell(|| What::Action(a.clone()));
            match a {
                Action::Output { port, max_len } => self.output(here, *port, *max_len),
                Action::OutputTrunc { port, max_len } => {
                    self.output_truncated(here, *port, *max_len);
                }
                Action::OutputReg { source, max_len } => {
                    let port = self.read(*source) as u32;
                    self.remark(|| format!("output port is {port}"));
                    // 16-bit registers hold OpenFlow 1.0 numbers of reserved ports.
                    let port = if source.bits <= 16 && port >= 0xff00 {
                        port | 0xffff_0000
                    } else {
                        port
                    };
                    self.output(here, PortNo(port), *max_len);
                }
                Action::Controller {
                    max_len,
                    reason,
                    id,
                    userdata,
                    pause,
                    meter,
                } => {
                    let how = ToController {
                        reason: *reason,
                        max_len: *max_len,
                        id: *id,
                        userdata: userdata.clone(),
                        meter: *meter,
                    };
                    if *pause {
                        self.pause(here, how);
                    } else {
                        self.packet_in(here, how);
                    }
                }
                Action::Enqueue { port, queue } => {
                    let before = std::mem::replace(&mut self.queue, *queue);
                    self.output(here, *port, 0);
                    self.queue = before;
                }
                Action::SetQueue(queue) => self.queue = *queue,
                Action::PopQueue => self.queue = NO_QUEUE,
                Action::Group(id) => self.group(here, *id),
                Action::Meter(id) => self.meter(here, *id),
                Action::Learn(l) => self.learn(here, l),
                Action::Multipath(m) => self.multipath(m),
                Action::Bundle(b) => self.bundle(here, b),
                Action::Push(source) => {
                    let value = self.read(*source);
                    if self.stack.len() >= STACK_MAX {
                        self.fail(DropReason::TooManyActions);
                        return true;
                    }
                    self.stack.push(value);
                }
                Action::Pop(target) => match self.stack.pop() {
                    Some(value) => {
                        self.load(*target, value);
                        self.tell_now(*target);
                    }
                    None => self.tell(|| What::Failure("stack underflow".into())),
                },
                Action::Clone(inner) => self.aside(|x| {
                    let kept = (x.stack.clone(), x.set.clone(), x.queue);
                    x.deeper(|x| {
                        x.actions(here, inner);
                    });
                    // What is set aside in the clone ends with it, and needs what it had.
                    x.seal();
                    (x.stack, x.set, x.queue) = kept;
                    x.note_set();
                }),
                Action::CheckPktLarger { len, target } => match self.length {
                    Some(length) => {
                        self.load(*target, (length > u64::from(*len)).into());
                        self.tell_now(*target);
                    }
                    // The packet says, once everything so far was done to it.
                    None => {
                        self.freeze(here, Reshape::Nothing);
                        self.unroll(|| Frame::Actions(vec![a.clone()]));
                    }
                },
                Action::FinTimeout { idle, hard } => {
                    if let Some(rule) = self.rule.clone() {
                        let credit = Credit::FinTimeout(here.0.clone(), rule, *idle, *hard);
                        self.out.credits.push(credit);
                    }
                }
                Action::SetField { field, value, mask } => self.set_field(*field, *value, *mask),
                Action::SetTunnel { id, .. } => {
                    self.set_field(openflow::FieldId::TunId, (*id).into(), u64::MAX.into());
                }
                Action::Load { target, value } => {
                    let (value, mask) = Action::load_as_masked(*target, *value);
                    self.set_field(target.field, value, mask);
                }
                Action::Move { source, target } => {
                    let value = self.read(*source) << target.offset;
                    let ones = match target.bits {
                        128.. => u128::MAX,
                        n => (1 << n) - 1,
                    };
                    self.set_field(target.field, value, ones << target.offset);
                    self.tell_now(*target);
                }
                Action::SetVlanVid(vid) => self.set_tag(*vid, 0xfff),
                Action::SetVlanPcp(pcp) => self.set_tag(u16::from(*pcp) << 13, 0xe000),
                Action::PopVlan => {
                    self.look_tags();
                    if !self.tags.is_empty() {
                        self.tags.remove(0);
                    }
                    self.sync_tags();
                }
                Action::PushVlan(tpid) => {
                    self.look_tags();
                    if self.tags.len() >= TAGS_MAX {
                        self.fail(DropReason::NoHeadroom);
                        return true;
                    }
                    // A new tag takes VLAN and priority of the one below (OpenFlow 1.3.5 5.12.1).
                    let tci = self.tags.first().map_or(0x1000, |t| t.tci);
                    self.tags.insert(0, Tag { tpid: *tpid, tci });
                    self.sync_tags();
                }
                Action::DecTtl(ids) => {
                    self.look_all(Slot::NwTtl);
                    let ttl = self.key.get(Slot::NwTtl);
                    if ttl <= 1 {
                        let version = if self.key.get64(Slot::EthType) == 0x86dd {
                            6
                        } else {
                            4
                        };
                        self.tell(|| {
                            What::Warning(format!("IPv{version} decrement TTL exception"))
                        });
                        for id in ids.iter().copied().chain(ids.is_empty().then_some(0)) {
                            let whole = ToController::whole(PacketInReason::InvalidTtl);
                            self.packet_in(here, ToController { id, ..whole });
                        }
                        self.dropped(DropReason::TtlExpired);
                        return false;
                    }
                    self.write(Slot::NwTtl, ttl - 1, 0xff);
                }
                Action::PushMpls(eth_type) => self.push_mpls(*eth_type),
                Action::PopMpls(eth_type) if self.has_mpls() => {
                    self.freeze(here, Reshape::PopMpls(*eth_type));
                }
                Action::CopyTtlOut if self.has_mpls() => self.freeze(here, Reshape::CopyTtlOut),
                Action::CopyTtlIn if self.has_mpls() => self.freeze(here, Reshape::CopyTtlIn),
                Action::PushPbb(_) => self.freeze(here, Reshape::PushPbb),
                Action::PopPbb if self.key.get64(Slot::EthType) == 0x88e7 => {
                    self.freeze(here, Reshape::PopPbb);
                }
                Action::Encap(e) => self.encap(here, e),
                Action::Decap(_) => self.decap(here),
                Action::DecMplsTtl | Action::DecNshTtl => {
                    let left = match a {
                        Action::DecNshTtl => self.dec_nsh_ttl(),
                        _ => self.dec_mpls_ttl(),
                    };
                    if !left {
                        self.packet_in(here, ToController::whole(PacketInReason::InvalidTtl));
                        return false;
                    }
                }
                Action::Resubmit { in_port, table, .. } => {
                    let table = table.unwrap_or(self.table);
                    self.resubmit(here, *in_port, table);
                }
                Action::DeleteField(field) => self.delete_field(*field),
                Action::Exit => self.exit = true,
                Action::Note(_) => {}
                // Refused when the flow was added.
                _ => {}
            }
            if self.freezing.is_some() {
                self.unroll(|| Frame::Actions(list[n + 1..].to_vec()));
                return true;
            }
        }
        true
    }

    pub(super) fn deeper(&mut self, run: impl FnOnce(&mut Self)) {
        if self.depth >= DEPTH_MAX {
            self.tell(|| What::Failure(format!("over max translation depth {DEPTH_MAX}")));
            return self.fail(DropReason::TooDeep);
        }
        if self.resubmits >= RESUBMITS_MAX {
            self.tell(|| What::Failure(format!("over {RESUBMITS_MAX} resubmit actions")));
            return self.fail(DropReason::TooManyResubmits);
        }
        self.depth += 1;
        self.resubmits += 1;
        run(self);
        self.depth -= 1;
    }

    /// `in_port` is what the lookup takes for the port the packet came in by; the actions found see the real one.
    fn resubmit(&mut self, here: Here, in_port: Option<PortNo>, table: u8) {
        let saved = self.place();
        let rule = self.rule.clone();
        self.as_port = in_port.filter(|p| *p != PortNo::IN_PORT);
        self.deeper(|x| x.look_up(here, table, false));
        self.as_port = None;
        self.rule = rule;
        (self.table, self.cookie, self.miss_rule) = saved;
        self.unroll(|| Frame::Return(saved));
    }

    pub(super) fn port_at(
        &self,
        state: &BridgeState,
        number: PortNo,
    ) -> Option<&'a Arc<PortEntry>> {
        self.world.port(*state.ports.get(&number.0)?)
    }

    /// What `run` does is done to a copy of the packet: neither its changes nor its end reach beyond.
    pub(super) fn aside(&mut self, run: impl FnOnce(&mut Self)) {
        let seen = self.seen();
        let exit = self.exit;
        let metered = std::mem::take(&mut self.metered);
        self.copies += 1;
        run(self);
        self.seal();
        self.copies -= 1;
        self.end_meters();
        self.metered = metered;
        self.back_to(seen);
        self.exit = exit || self.failed;
    }

    /// The field `actset_output` follows the action set.
    pub(super) fn note_set(&mut self) {
        let port = self.set.output();
        self.key.set(Slot::ActsetOutput, port.0.into());
    }

    pub(super) fn emit(&mut self, action: DpAction) {
        if self.out.actions.len() >= ACTIONS_MAX + self.mirrored.actions {
            return self.fail(DropReason::TooManyActions);
        }
        self.out.actions.push(action);
    }
}
