//! Which flow goes when a full table takes another (OpenFlow 1.4.1 7.3.4.2, `Flow_Table` of the database).
//!
//! Only flows with a timeout may go. They stand in groups: flows whose matches agree in the fields that the database
//! names, so that nobody's flows push out those of everybody else. The largest group loses a flow: the one of least
//! importance, and of these the one that would end first.

use super::rule::Rule;
use crate::clock::Now;
use openflow::Subfield;
use std::sync::Arc;

/// What a match wants of the fields flows are grouped by.
type Group = Vec<u128>;
/// Importance, when its timeouts are looked at next, and id.
type Place = (u16, Now, u64);

/// The flows of a table that may go. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictable {
    by: Arc<Vec<Subfield>>,
    groups: imbl::OrdMap<Group, imbl::OrdMap<Place, Arc<Rule>>>,
    sizes: imbl::OrdSet<(usize, Group)>,
}

impl Evictable {
    /// None yet; grouped by these fields.
    pub(super) fn new(by: Vec<Subfield>) -> Evictable {
        Evictable {
            by: Arc::new(by),
            ..Evictable::default()
        }
    }

    fn group(&self, rule: &Rule) -> Group {
        if self.by.is_empty() {
            return Group::new();
        }
        let m = rule.matching();
        let bits = |s: &Subfield| {
            let ones = u128::MAX >> (128 - u32::from(s.bits).clamp(1, 128));
            m.get(s.field).0 >> s.offset & ones
        };
        self.by.iter().map(bits).collect()
    }

    fn change(&mut self, group: Group, change: impl FnOnce(&mut imbl::OrdMap<Place, Arc<Rule>>)) {
        let mut members = self.groups.remove(&group).unwrap_or_default();
        self.sizes.remove(&(members.len(), group.clone()));
        change(&mut members);
        if !members.is_empty() {
            self.sizes.insert((members.len(), group.clone()));
            self.groups.insert(group, members);
        }
    }

    /// Puts a flow in whose timeouts are looked at at `due`.
    pub(super) fn add(&mut self, rule: &Arc<Rule>, due: Now) {
        let place = (rule.importance, due, rule.id);
        self.change(self.group(rule), |m| {
            m.insert(place, rule.clone());
        });
    }

    /// Takes it out.
    pub(super) fn remove(&mut self, rule: &Rule, due: Now) {
        let place = (rule.importance, due, rule.id);
        self.change(self.group(rule), |m| {
            m.remove(&place);
        });
    }

    /// The flow to go.
    pub(super) fn first(&self) -> Option<&Arc<Rule>> {
        let (_, group) = self.sizes.get_max()?;
        Some(&self.groups.get(group)?.get_min()?.1)
    }
}
