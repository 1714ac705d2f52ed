//! The action set (OpenFlow 1.3.5 5.10): one action of each kind, run in a fixed order.

use openflow::{Action, FieldId};

/// What write-actions gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ActionSet(Vec<Action>);

/// Place in the order of the standard; actions that share one replace each other.
fn rank(a: &Action) -> (u8, Option<FieldId>) {
    match a {
        Action::CopyTtlIn => (0, None),
        Action::PopVlan => (1, None),
        Action::PopMpls(_) => (2, None),
        Action::PushMpls(_) => (3, None),
        Action::PushVlan(_) => (4, None),
        Action::CopyTtlOut => (5, None),
        Action::DecTtl(_) => (6, None),
        Action::DecMplsTtl => (7, None),
        // Sets, one for each field, in the order written.
        Action::SetVlanVid(_) => (8, Some(FieldId::VlanVid)),
        Action::SetVlanPcp(_) => (8, Some(FieldId::VlanPcp)),
        Action::SetField { field, .. } => (8, Some(*field)),
        Action::Load { target, .. } | Action::Move { target, .. } => (8, Some(target.field)),
        Action::SetQueue(_) => (9, None),
        Action::Group(_) => (10, None),
        _ => (11, None),
    }
}

impl ActionSet {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an action in place of one of its kind.
    pub(crate) fn write(&mut self, action: &Action) {
        let r = rank(action);
        self.0.retain(|a| rank(a) != r);
        self.0.push(action.clone());
    }

    /// Takes the actions out, in the order in which they are run. A group makes an output moot.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        let mut list = std::mem::take(&mut self.0);
        list.sort_by_key(|a| rank(a).0);
        if list.iter().any(|a| matches!(a, Action::Group(_))) {
            list.retain(|a| rank(a).0 < 11);
        }
        list
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
}
