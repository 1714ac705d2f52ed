//! What a translation tells of its way, when somebody asks to be told.
//!
//! A translation that is traced carries a [`Recorder`]; all others carry none, and pay for that one comparison with null
//! where something could be told. What is told is made by closures that run only then. The translation speaks through three
//! words of [`Xlate`]: `tell` adds a step, `under` adds one and puts what `run` tells below it, and `remark`
//! says in words what an action did. Words are Open vSwitch's where it says the same.

use super::Xlate;
use crate::action::DpAction;
use crate::bridge::World;
use crate::drop::DropReason;
use crate::flow::{FlowKey, FlowMask, slot_bits};
use crate::table::{Classifier, Rule, Table};
use openflow::matching::MatchEntry;
use openflow::{Action, FlowMod, Subfield};
use std::sync::Arc;

/// Most steps that a trace keeps: loops of resubmits make thousands.
pub const STEPS_MAX: usize = 20_000;
/// Most lookups of a trace for which it is told why other rules did not match: each looks at every rule of its table.
pub const EXPLAINED_MAX: usize = 64;

/// A translation, told.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Steps that are not told, since there are too many.
    pub untold: usize,
    /// The packet as it came.
    pub initial: FlowKey,
    /// The packet as it was at the end.
    pub last: FlowKey,
    /// The bits of the packet that were looked at.
    pub mask: FlowMask,
    /// What is done with the packet.
    pub actions: Vec<DpAction>,
    /// Names of the ports that the actions send it to, by the number the actions have for them.
    pub ports: Vec<(u32, String)>,
    /// Why nothing is, if nothing is.
    pub drop: Option<DropReason>,
}

impl Trace {
    /// The actions as `ovs-dpctl` shows them, ports as `port` calls them by their names.
    pub fn format_actions(&self, port: impl Fn(&str) -> String) -> String {
        crate::action::format(&self.actions, |index| {
            let named = self.ports.iter().find(|p| p.0 == index);
            named.map_or_else(|| index.to_string(), |p| port(&p.1))
        })
    }
}

/// One step, and the steps it consisted of.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happened.
    pub what: What,
    /// What that led to.
    pub steps: Vec<Step>,
}

/// What happens in a translation.
#[derive(Clone, Debug)]
pub enum What {
    /// The packet comes to a bridge, by name.
    Bridge(String),
    /// A table is looked up.
    Table {
        /// Its number.
        table: u8,
        /// Whether the table told of before sent the packet here (`goto_table`).
        onward: bool,
        /// What it found.
        found: Found,
        /// Of the rules that would have come first, those of highest priority that did not match.
        passed: Vec<Passed>,
    },
    /// An action is carried out.
    Action(Action),
    /// A rule has nothing to do.
    Nothing,
    /// The instruction of that name: the packet goes through a meter.
    Meter(u32),
    /// The action set is emptied.
    ClearActions,
    /// Actions are put into the action set.
    WriteActions(Vec<Action>),
    /// Bits of the metadata are set: value and mask.
    WriteMetadata(u64, u64),
    /// The packet goes on to a table, which is the next step on the level above.
    Goto(u8),
    /// The action set is carried out.
    ActionSet,
    /// A bucket of a group is, by its number.
    Bucket(u32),
    /// What the action set is now.
    Gathered(Vec<Action>),
    /// What the action set was before it was emptied.
    Emptied(Vec<Action>),
    /// A rule is made.
    Learned(Box<FlowMod>),
    /// What a run of bits is now.
    Now(Subfield, u128),
    /// What an action did.
    Remark(String),
    /// Something is not as it should be, and the packet goes on.
    Warning(String),
    /// Something cannot be done.
    Failure(String),
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A rule.
    Rule(Arc<Rule>),
    /// None.
    Nothing,
    /// None, so the packet goes to the controllers.
    PacketIn,
}

/// A rule that did not match.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The first thing it wants that the packet has not.
    pub wanted: MatchEntry,
    /// What the packet has there.
    pub has: u128,
}

/// Keeps what is told.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Steps that are not at their end, outermost first, each with what came before it on its level.
    open: Vec<(Vec<Step>, What)>,
    steps: Vec<Step>,
    told: usize,
    /// How many rules that did not match are told of for each lookup.
    why: usize,
    explained: usize,
    /// The key at the end.
    last: FlowKey,
}

impl Recorder {
    /// Tells of up to `why` rules that did not match for each lookup.
    pub fn new(why: usize) -> Recorder {
        Recorder {
            why,
            ..Recorder::default()
        }
    }

    fn begin(&mut self, what: What) {
        let before = std::mem::take(&mut self.steps);
        self.open.push((before, what));
    }

    fn end(&mut self) {
        if let Some((before, what)) = self.open.pop() {
            let steps = std::mem::replace(&mut self.steps, before);
            self.add(Step { what, steps });
        }
    }

    fn add(&mut self, step: Step) {
        self.told += 1;
        if self.told <= STEPS_MAX || !step.steps.is_empty() {
            self.steps.push(step);
        }
    }

    /// The rules of a table that would have come before `found` and did not match `key`, by falling priority.
    fn passed(
        &mut self,
        table: &Classifier,
        found: Option<&Arc<Rule>>,
        key: &FlowKey,
    ) -> Vec<Passed> {
        if self.why == 0 || self.explained >= EXPLAINED_MAX {
            return Vec::new();
        }
        self.explained += 1;
        let least = found.map_or(0, |r| r.priority);
        let mut list: Vec<Passed> = table
            .rules()
            .into_iter()
            .filter(|r| r.priority >= least)
            .filter_map(|rule| {
                let differs = |e: &&MatchEntry| key.get(e.slot) & e.mask != e.value;
                let wanted = *rule.matching().entries().iter().find(differs)?;
                Some((rule, wanted))
            })
            .map(|(rule, wanted)| Passed {
                rule: rule.clone(),
                wanted,
                has: key.get(wanted.slot) & slot_bits(wanted.slot),
            })
            .collect();
        list.sort_by_key(|p| (std::cmp::Reverse(p.rule.priority), p.rule.id));
        list.truncate(self.why);
        list
    }

    /// What was told of a translation that came to this.
    pub(crate) fn finish(
        mut self,
        world: &World,
        initial: FlowKey,
        t: super::Translation,
    ) -> Trace {
        let mut ports = Vec::new();
        name_ports(&t.actions, world, &mut ports);
        while !self.open.is_empty() {
            self.end();
        }
        Trace {
            steps: self.steps,
            untold: self.told.saturating_sub(STEPS_MAX),
            initial,
            last: self.last,
            mask: t.mask,
            ports,
            actions: t.actions,
            drop: t.drop,
        }
    }
}

/// Names of the ports that actions send to.
fn name_ports(actions: &[DpAction], world: &World, names: &mut Vec<(u32, String)>) {
    for a in actions {
        let port = match a {
            DpAction::Output(p) | DpAction::Truncated { port: p, .. } => *p,
            DpAction::TunnelPush(push) => {
                name_ports(&push.actions, world, names);
                push.out
            }
            _ => continue,
        };
        names.extend(world.port(port).map(|p| (port, p.name().to_owned())));
    }
}

impl<'a> Xlate<'a> {
    /// Is told to `recorder`.
    #[must_use]
    pub(crate) fn told_to(mut self, recorder: &'a mut Recorder) -> Xlate<'a> {
        self.trace = Some(recorder);
        self
    }

    /// Something happens.
    #[inline(always)]
    pub(super) fn tell(&mut self, what: impl FnOnce() -> What) {
        if let Some(t) = &mut self.trace {
            let steps = Vec::new();
            t.add(Step {
                what: what(),
                steps,
            });
        }
    }

    /// Says what an action did.
    #[inline(always)]
    pub(super) fn remark(&mut self, text: impl FnOnce() -> String) {
        self.tell(|| What::Remark(text()));
    }

    /// Says what is in the action set.
    #[inline(always)]
    pub(super) fn tell_set(&mut self, what: fn(Vec<Action>) -> What) {
        if self.trace.is_some() {
            let list = self.set.clone().take();
            self.tell(|| what(list));
        }
    }

    /// Says what a run of bits is now, which an action wrote.
    #[inline(always)]
    pub(super) fn tell_now(&mut self, target: Subfield) {
        if self.trace.is_some() {
            let info = target.field.info();
            let ones = u128::MAX >> (128 - u32::from(target.bits.clamp(1, 128)));
            self.sync_tags();
            let value = self.key.get(info.slot) >> (info.shift + target.offset) & ones;
            self.tell(|| What::Now(target, value));
        }
    }

    /// Something happens that consists of what `run` tells.
    #[inline(always)]
    pub(super) fn under<R>(
        &mut self,
        what: impl FnOnce() -> What,
        run: impl FnOnce(&mut Self) -> R,
    ) -> R {
        if let Some(t) = &mut self.trace {
            t.begin(what());
        }
        let r = run(self);
        if let Some(t) = &mut self.trace {
            t.end();
        }
        r
    }

    /// A rule was found, and what follows is what it leads to, until [`Xlate::tell_end`].
    #[inline(always)]
    pub(super) fn tell_table(
        &mut self,
        (table, onward): (u8, bool),
        classifier: &Classifier,
        rule: &Arc<Rule>,
    ) {
        if let Some(t) = &mut self.trace {
            let passed = t.passed(classifier, Some(rule), &self.key);
            let found = Found::Rule(rule.clone());
            t.begin(What::Table {
                table,
                onward,
                found,
                passed,
            });
        }
    }

    /// No rule was found in a table, which has rules if it is there.
    #[inline(always)]
    pub(super) fn tell_miss(
        &mut self,
        (table, onward): (u8, bool),
        there: Option<&Table>,
        to_controller: bool,
    ) {
        if let Some(t) = &mut self.trace {
            let found = if to_controller {
                Found::PacketIn
            } else {
                Found::Nothing
            };
            let passed = there.map_or_else(Vec::new, |there| {
                t.passed(&there.classifier, None, &self.key)
            });
            t.begin(What::Table {
                table,
                onward,
                found,
                passed,
            });
        }
        if !to_controller {
            self.tell(|| What::Nothing);
        }
    }

    /// How many steps are not at their end.
    #[inline(always)]
    pub(super) fn told_depth(&self) -> usize {
        self.trace.as_ref().map_or(0, |t| t.open.len())
    }

    /// Those below so many are.
    #[inline(always)]
    pub(super) fn tell_end(&mut self, depth: usize) {
        if let Some(t) = &mut self.trace {
            while t.open.len() > depth {
                t.end();
            }
        }
    }

    /// The translation is at its end.
    #[inline(always)]
    pub(super) fn tell_last(&mut self) {
        if self.trace.is_some() {
            self.sync_tags();
        }
        if let Some(t) = &mut self.trace {
            t.last = self.key;
        }
    }
}
