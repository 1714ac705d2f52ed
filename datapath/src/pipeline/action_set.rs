//! The action set (OpenFlow 1.5.1 5.6): one action of each kind, run in a fixed order. A group's buckets are such sets too.
//!
//! Sets of fields are run in the order written; one that overwrites another whole takes its place. Of the actions that send
//! the packet somewhere one is run: a group before an output, an output before a resubmit.

use openflow::{Action, FieldId, PortNo};

/// Most actions in a set: tables that write on and on come to an end.
const ACTIONS_MAX: usize = 1024;

/// What write-actions gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ActionSet(Vec<Action>);

/// The first of the ranks of actions that send the packet on.
const SENDS: u8 = 16;

/// Place in the order of the standard, none for what no set takes; actions that share a rank replace each other.
fn rank(a: &Action) -> Option<u8> {
    Some(match a {
        Action::Note(_) => 0,
        Action::CopyTtlIn => 1,
        Action::Decap(_) => 2,
        Action::PopVlan => 3,
        Action::PopMpls(_) => 4,
        Action::PopPbb => 5,
        Action::Encap(_) => 6,
        Action::PushMpls(_) => 7,
        Action::PushPbb(_) => 8,
        Action::PushVlan(_) => 9,
        Action::CopyTtlOut => 10,
        Action::DecTtl(_) => 11,
        Action::DecMplsTtl => 12,
        Action::DecNshTtl => 13,
        Action::SetField { .. }
        | Action::Load { .. }
        | Action::Move { .. }
        | Action::SetVlanVid(_)
        | Action::SetVlanPcp(_)
        | Action::SetTunnel { .. } => SETS,
        Action::SetQueue(_) => 15,
        Action::Ct(_) => SENDS,
        Action::Resubmit { .. } => SENDS + 1,
        Action::Output { .. } => SENDS + 2,
        Action::Group(_) => SENDS + 3,
        _ => return None,
    })
}

/// The rank of actions that set fields.
const SETS: u8 = 14;

/// The field that an action sets, all of it.
fn whole(a: &Action) -> Option<FieldId> {
    match a {
        Action::SetVlanVid(_) => Some(FieldId::VlanVid),
        Action::SetVlanPcp(_) => Some(FieldId::VlanPcp),
        Action::SetField { field, mask, .. } if *mask == field.info().full_mask() => Some(*field),
        _ => None,
    }
}

/// Whether an action may be in a set.
pub(crate) fn is_for_sets(a: &Action) -> bool {
    rank(a).is_some()
}

impl ActionSet {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an action in place of one of its kind; `false` if the set is full.
    pub(crate) fn write(&mut self, action: &Action) -> bool {
        let r = rank(action);
        match whole(action) {
            Some(field) => self.0.retain(|a| whole(a) != Some(field)),
            None if r == Some(SETS) => {}
            None => self.0.retain(|a| rank(a) != r),
        }
        if self.0.len() >= ACTIONS_MAX {
            return false;
        }
        self.0.push(action.clone());
        true
    }

    /// Takes the actions out, in the order in which they are run.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        let mut list = std::mem::take(&mut self.0);
        list.sort_by_key(rank);
        let last = list.last().and_then(rank);
        list.retain(|a| rank(a) < Some(SENDS) || rank(a) == last);
        list
    }

    /// As it is, in the order written.
    pub(crate) fn list(&self) -> &[Action] {
        &self.0
    }

    /// The port it sends to, [`PortNo::UNSET`] for none or if a group does that: the field `actset_output`.
    pub(crate) fn output(&self) -> PortNo {
        let mut port = PortNo::UNSET;
        for a in &self.0 {
            match a {
                Action::Group(_) => return PortNo::UNSET,
                Action::Output { port: p, .. } => port = *p,
                _ => {}
            }
        }
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::PortNo;

    #[test]
    fn one_of_a_kind_in_the_standards_order() {
        let out = |p| Action::Output {
            port: PortNo(p),
            max_len: 0,
        };
        let mut set = ActionSet::default();
        for a in [
            out(1),
            Action::SetVlanVid(5),
            Action::PushVlan(0x8100),
            Action::SetVlanVid(6),
            Action::PopVlan,
            out(2),
        ] {
            set.write(&a);
        }
        assert_eq!(
            set.take(),
            [
                Action::PopVlan,
                Action::PushVlan(0x8100),
                Action::SetVlanVid(6),
                out(2)
            ]
        );
        assert!(set.is_empty());
    }

    #[test]
    fn a_group_goes_before_an_output_before_a_resubmit() {
        let output = Action::Output {
            port: PortNo(1),
            max_len: 0,
        };
        let resubmit = Action::Resubmit {
            in_port: None,
            table: Some(1),
            ct: false,
        };
        let mut set = ActionSet::default();
        set.write(&output);
        set.write(&resubmit);
        assert_eq!(set.output(), PortNo(1));
        assert_eq!(set.clone().take(), [output]);
        set.write(&Action::Group(7));
        assert_eq!(set.output(), PortNo::UNSET);
        assert_eq!(set.take(), [Action::Group(7)]);
    }

    #[test]
    fn sets_of_bits_stay_beside_each_other() {
        let set_bits = |value, mask| Action::SetField {
            field: FieldId::Reg0,
            value,
            mask,
        };
        let mut set = ActionSet::default();
        set.write(&set_bits(5, u32::MAX.into()));
        set.write(&set_bits(1, 1));
        set.write(&set_bits(2, 2));
        assert_eq!(set.clone().take().len(), 3);
        set.write(&set_bits(7, u32::MAX.into()));
        assert_eq!(set.take().len(), 3);
        for n in 0..2 * ACTIONS_MAX {
            assert_eq!(set.write(&set_bits(1, 1)), n < ACTIONS_MAX);
        }
    }
}
