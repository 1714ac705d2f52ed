//! Which rules use which groups and meters, so that these can go with them, and be told how many there are.

use super::Rule;
use openflow::action::each_action;
use openflow::{Action, Instructions};
use std::sync::Arc;

/// What a rule may use, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A group.
    Group(u32),
    /// A meter.
    Meter(u32),
}

/// Places for versions of objects: see [`Object::place`].
pub const PLACES: usize = 64;

impl Object {
    /// Where the version of its last change is kept. Two objects that share a place cost a translation now and then.
    pub fn place(self) -> u8 {
        let n = match self {
            Object::Group(n) => n.wrapping_mul(0x9e37_79b1),
            Object::Meter(n) => !n.wrapping_mul(0x9e37_79b1),
        };
        (n >> 26) as u8
    }
}

/// Rules by what they use, and by id. Only rules that use something are in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    rules: imbl::OrdMap<(Object, u64), Arc<Rule>>,
}

impl Users {
    pub(super) fn came(&mut self, rule: &Arc<Rule>) {
        used(&rule.instructions, &mut |o| {
            self.rules.insert((o, rule.id), rule.clone());
        });
    }

    pub(super) fn went(&mut self, rule: &Rule) {
        used(&rule.instructions, &mut |o| {
            self.rules.remove(&(o, rule.id));
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules that use it.
    pub(super) fn of(&self, object: Object) -> impl Iterator<Item = &Arc<Rule>> {
        let all = (object, 0)..=(object, u64::MAX);
        self.rules.range(all).map(|(_, rule)| rule)
    }
}

/// Calls `f` with what instructions use, perhaps more than once.
fn used(i: &Instructions, f: &mut dyn FnMut(Object)) {
    if let Some(meter) = i.meter {
        f(Object::Meter(meter));
    }
    let mut look = |a: &Action| match a {
        Action::Group(g) => f(Object::Group(*g)),
        Action::Meter(m) => f(Object::Meter(*m)),
        Action::Controller { meter: Some(m), .. } => f(Object::Meter(*m)),
        _ => {}
    };
    each_action(&i.apply, &mut look);
    each_action(&i.write, &mut look);
}
