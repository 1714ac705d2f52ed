//! Which instructions come before which, and what may stand inside of what.

use super::{Item, Result, fail};
use crate::action::Action;
use crate::field::FieldId;

/// Where a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A flow: instructions may be among the actions.
    Instructions,
    /// A packet-out or a group's bucket.
    Actions,
    /// Inside of the action of this name.
    Inside(&'static str),
}

/// Instructions in the order in which they must come.
const ORDER: &[&str] = &[
    "meter",
    "apply_actions",
    "clear_actions",
    "write_actions",
    "stat_trigger",
    "write_metadata",
    "goto_table",
];

/// The number of an item's instruction in [`ORDER`].
fn instruction(item: &Item) -> usize {
    match item {
        Item::Meter(_) => 0,
        Item::Action(..) => 1,
        Item::ClearActions => 2,
        Item::WriteActions(_) => 3,
        Item::StatTrigger(_) => 4,
        Item::WriteMetadata(..) => 5,
        Item::GotoTable(_) => 6,
    }
}

/// Checks a list.
///
/// # Errors
/// What stands where it must not.
pub(super) fn check(items: &[Item], place: Place) -> Result<()> {
    let mut last = 0;
    for (i, item) in items.iter().enumerate() {
        if matches!(item, Item::Action(Action::Conjunction { .. }, _)) {
            return alone(items);
        }
        nesting(item, place)?;
        let at = instruction(item);
        let ordered = if last == 1 { at >= last } else { at > last };
        if i > 0 && !ordered {
            return fail(if at == last {
                format!(
                    "duplicate {} instruction not allowed, for OpenFlow 1.1+ compatibility",
                    ORDER[at]
                )
            } else {
                format!(
                    "invalid instruction ordering: {} must appear before {}, for OpenFlow 1.1+ compatibility",
                    ORDER[at], ORDER[last]
                )
            });
        }
        if place != Place::Instructions && at > 1 {
            return fail(format!("{} instruction not allowed here", ORDER[at]));
        }
        last = at;
    }
    Ok(())
}

/// A conjunction's flow does nothing else.
fn alone(items: &[Item]) -> Result<()> {
    let other = items.iter().find(|i| {
        !matches!(
            i,
            Item::Action(Action::Conjunction { .. } | Action::Note(_), _)
        )
    });
    match other {
        None => Ok(()),
        Some(i) => fail(format!(
            "\"conjunction\" actions may be used along with \"note\" but not any other kind of action (such as the \"{}\" action used here)",
            name(i)
        )),
    }
}

fn nesting(item: &Item, place: Place) -> Result<()> {
    let target = match item {
        Item::Action(Action::SetField { field, .. }, _) => Some(*field),
        Item::Action(Action::Load { target, .. } | Action::Move { target, .. }, _) => {
            Some(target.field)
        }
        _ => None,
    };
    let tracked = matches!(target, Some(FieldId::CtMark | FieldId::CtLabel));
    let in_ct = place == Place::Inside("ct");
    if tracked && !in_ct {
        return fail("cannot set CT fields outside of ct action");
    }
    if matches!(item, Item::Action(Action::Nat(_), _)) {
        if in_ct {
            return Ok(());
        }
        return fail("Cannot have NAT action outside of \"ct\" action");
    }
    let Place::Inside(outer) = place else {
        return Ok(());
    };
    match target {
        None if in_ct => {}
        Some(f) if in_ct && !tracked => {
            return fail(format!(
                "{outer} action doesn't support nested modification of {}",
                f.info().name
            ));
        }
        _ if matches!(item, Item::Meter(_)) => {}
        _ => return Ok(()),
    }
    fail(format!(
        "{outer} action doesn't support nested action {}",
        name(item)
    ))
}

/// The word for an item, as Open vSwitch calls it in messages.
fn name(item: &Item) -> &'static str {
    let Item::Action(a, _) = item else {
        return ORDER[instruction(item)];
    };
    match a {
        Action::Output { .. } => "output",
        Action::OutputReg { .. } => "output_reg",
        Action::Controller { .. } => "controller",
        Action::OutputTrunc { .. } => "output_trunc",
        Action::Enqueue { .. } => "enqueue",
        Action::SetQueue(_) => "set_queue",
        Action::PopQueue => "pop_queue",
        Action::Group(_) => "group",
        Action::Meter(_) => "meter",
        Action::SetField { .. } | Action::Load { .. } => "set_field",
        Action::Move { .. } => "move",
        Action::SetVlanVid(_) => "set_vlan_vid",
        Action::SetVlanPcp(_) => "set_vlan_pcp",
        Action::PopVlan => "strip_vlan",
        Action::PushVlan(_) => "push_vlan",
        Action::PushMpls(_) => "push_mpls",
        Action::PopMpls(_) => "pop_mpls",
        Action::PushPbb(_) => "push_pbb",
        Action::PopPbb => "pop_pbb",
        Action::SetTunnel { .. } => "set_tunnel",
        Action::DecTtl(_) => "dec_ttl",
        Action::DecMplsTtl => "dec_mpls_ttl",
        Action::DecNshTtl => "dec_nsh_ttl",
        Action::CopyTtlOut => "copy_ttl_out",
        Action::CopyTtlIn => "copy_ttl_in",
        Action::Resubmit { .. } => "resubmit",
        Action::Exit => "exit",
        Action::Note(_) => "note",
        Action::Learn(_) => "learn",
        Action::Multipath(_) => "multipath",
        Action::Bundle(_) => "bundle",
        Action::Push(_) => "push",
        Action::Pop(_) => "pop",
        Action::FinTimeout { .. } => "fin_timeout",
        Action::Sample(_) => "sample",
        Action::Conjunction { .. } => "conjunction",
        Action::Ct(_) => "ct",
        Action::CtClear => "ct_clear",
        Action::Nat(_) => "nat",
        Action::Clone(_) => "clone",
        Action::CheckPktLarger { .. } => "check_pkt_larger",
        Action::DeleteField(_) => "delete_field",
        Action::Encap(_) => "encap",
        Action::Decap(_) => "decap",
    }
}
