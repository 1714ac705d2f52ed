//! Changes of the group and meter tables, with what they do to the flows that use them.

use super::users::Object;
use super::{Effects, Limits, Tables, check};
use crate::clock::Now;
use openflow::{
    FlowRemovedReason, GroupMod, GroupModCommand, GroupStats, MeterMod, MeterModCommand,
    MeterStats, OfError,
};

impl Tables {
    /// Changes groups (OpenFlow 1.3.5 7.3.4.4). The flows of a group that is deleted go with it.
    ///
    /// # Errors
    /// What the specification has for it; then nothing was changed.
    pub fn apply_group(
        &mut self,
        m: &GroupMod,
        limits: &Limits,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), OfError> {
        for b in &m.buckets {
            check::bucket(&b.actions, limits, &self.groups, &self.meters)?;
        }
        let changed = self.groups.apply(m, now)?;
        for id in changed {
            let reason =
                (m.command == GroupModCommand::Delete).then_some(FlowRemovedReason::GroupDelete);
            self.object_changed(Object::Group(id), reason, effects);
        }
        Ok(())
    }

    /// Changes meters (OpenFlow 1.3.5 7.3.4.5). The flows of a meter that is deleted go with it.
    ///
    /// # Errors
    /// What the specification has for it; then nothing was changed.
    pub fn apply_meter(
        &mut self,
        m: &MeterMod,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), OfError> {
        for id in self.meters.apply(m, now)? {
            let reason =
                (m.command == MeterModCommand::Delete).then_some(FlowRemovedReason::MeterDelete);
            self.object_changed(Object::Meter(id), reason, effects);
        }
        Ok(())
    }

    fn object_changed(
        &mut self,
        object: Object,
        gone: Option<FlowRemovedReason>,
        effects: &mut Effects,
    ) {
        self.changed_objects |= 1 << object.place();
        let Some(reason) = gone else { return };
        let users: Vec<_> = self.users.of(object).cloned().collect();
        for rule in users {
            self.take(&rule);
            effects.gone(rule, reason);
        }
        self.forget_orphans(effects);
    }

    /// Places of the groups and meters that changed since the last time, a bit each.
    pub(crate) fn take_changed_objects(&mut self) -> u64 {
        std::mem::take(&mut self.changed_objects)
    }

    /// Counters of the groups that `id` speaks of.
    pub fn group_stats(&self, id: u32, now: Now) -> Vec<GroupStats> {
        let groups = self.groups.list(id).into_iter();
        groups
            .map(|g| {
                let users = self.users.of(Object::Group(g.id)).count();
                g.stats(users as u32, now)
            })
            .collect()
    }

    /// Counters of the meters that `id` speaks of.
    pub fn meter_stats(&self, id: u32, now: Now) -> Vec<MeterStats> {
        let meters = self.meters.list(id).into_iter();
        meters
            .map(|m| {
                let users = self.users.of(Object::Meter(m.config.meter)).count();
                m.stats(users as u32, now)
            })
            .collect()
    }
}
