//! Actions that steer the pipeline.

use super::{Known, Scope, actions, error, meter};
use crate::table::Limits;
use openflow::action::{Learn, LearnSource, LearnTarget};
use openflow::error::ErrorKind;
use openflow::field::Prereq;
use openflow::{Action, Match, OfError, PortNo};

/// Checks an action of `list`; one that nobody carries out is refused here.
pub(super) fn check(
    a: &Action,
    list: &[Action],
    matching: &Match,
    known: &Known,
    scope: &Scope,
) -> Result<(), OfError> {
    let limits = scope.limits;
    match a {
        Action::Resubmit {
            in_port,
            table: to,
            ct,
        } => {
            if *ct {
                return error(
                    ErrorKind::ActionCtDatapathSupport,
                    "resubmit with connection tracking is not carried out by this version",
                );
            }
            if to.is_some_and(|t| t >= limits.tables) || in_port.is_none() && to.is_none() {
                return error(
                    ErrorKind::BadTableId,
                    format!("resubmit: tables are 0 to {}", limits.tables - 1),
                );
            }
        }
        Action::Exit | Action::Note(_) | Action::Sample(_) | Action::PopQueue => {}
        Action::SetQueue(_) => {}
        Action::DeleteField(field) => known.write(*field)?,
        Action::Enqueue { port, .. } => {
            if !port.is_physical() && !matches!(*port, PortNo::IN_PORT | PortNo::LOCAL) {
                return error(
                    ErrorKind::BadOutPort,
                    format!("enqueue:{port}: ports are 1 to 65279, IN_PORT or LOCAL"),
                );
            }
        }
        Action::Group(id) => {
            // A bucket may send to a group that is yet to come.
            if !scope.blind && scope.groups.get(*id).is_none() {
                return error(ErrorKind::BadOutGroup, format!("There is no group {id}"));
            }
        }
        Action::Meter(id) => meter(*id, scope.meters)?,
        Action::Learn(l) => learn(l, known, limits)?,
        Action::Multipath(m) => {
            known.read(m.target)?;
            known.write(m.target.field)?;
            if m.target.bits < 16 && m.max_link >> m.target.bits != 0 {
                return error(
                    ErrorKind::BadArgument,
                    format!(
                        "{} links do not fit {} bits",
                        u32::from(m.max_link) + 1,
                        m.target.bits
                    ),
                );
            }
        }
        Action::Bundle(b) => {
            if let Some(target) = b.target {
                known.read(target)?;
                known.write(target.field)?;
                if target.bits < 16 {
                    return error(
                        ErrorKind::BadArgument,
                        "bundle_load needs a place of at least 16 bits",
                    );
                }
            }
            if b.ports.len() > BUNDLE_MAX {
                return error(
                    ErrorKind::BadArgument,
                    format!("{} ports in a bundle; at most {BUNDLE_MAX}", b.ports.len()),
                );
            }
            for port in &b.ports {
                if !port.is_physical() && !matches!(*port, PortNo::LOCAL | PortNo::ANY) {
                    return error(
                        ErrorKind::BadOutPort,
                        format!("bundle: {port} is not a port"),
                    );
                }
            }
        }
        Action::Push(source) => known.read(*source)?,
        Action::Pop(target) => {
            known.read(*target)?;
            known.write(target.field)?;
        }
        Action::CheckPktLarger { target, .. } => {
            known.read(*target)?;
            known.write(target.field)?;
            if target.bits != 1 {
                return error(
                    ErrorKind::BadSetLen,
                    format!("check_pkt_larger writes one bit, not {}", target.bits),
                );
            }
        }
        Action::FinTimeout { .. } => {
            if !known.holds(Prereq::Tcp) {
                return error(
                    ErrorKind::MatchInconsistent,
                    "fin_timeout needs a match on TCP",
                );
            }
        }
        Action::Conjunction {
            clause, clauses, ..
        } => {
            let alone = |a: &Action| matches!(a, Action::Conjunction { .. } | Action::Note(_));
            let right = (2..=64).contains(clauses) && clause < clauses;
            if !right || scope.table.is_none() || scope.nested > 0 || !list.iter().all(alone) {
                return error(
                    ErrorKind::BadConjunction,
                    "conjunction takes clause 1 to n of 2 to 64, and no actions beside it but note",
                );
            }
        }
        Action::Clone(inner) => {
            let scope = Scope {
                nested: scope.nested + 1,
                ..*scope
            };
            // What the actions before changed is not known inside: only what the match says.
            actions(inner, matching, &scope)?;
        }
        Action::Ct(_) | Action::CtClear | Action::Nat(_) => {
            return error(
                ErrorKind::ActionCtDatapathSupport,
                "Connection tracking is not carried out by this version",
            );
        }
        other => {
            return error(
                ErrorKind::BadActionType,
                format!("{other:?} is not carried out by this version"),
            );
        }
    }
    Ok(())
}

/// Most ports of a bundle.
const BUNDLE_MAX: usize = 2048;

/// Checks what a learn action makes: a rule's match and actions, each with what it needs.
fn learn(l: &Learn, known: &Known, limits: &Limits) -> Result<(), OfError> {
    if l.table >= limits.tables {
        return error(
            ErrorKind::BadTableId,
            format!(
                "learn(table={}): tables are 0 to {}",
                l.table,
                limits.tables - 1
            ),
        );
    }
    if let Some(bit) = l.result {
        known.read(bit)?;
        known.write(bit.field)?;
        if bit.bits != 1 {
            return error(
                ErrorKind::BadSetLen,
                format!("result_dst is one bit, not {}", bit.bits),
            );
        }
    }
    let mut made = Match::new();
    for spec in &l.specs {
        let bits = match spec.source {
            LearnSource::Field(f) => {
                known.read(f)?;
                f.bits
            }
            LearnSource::Value { bits, .. } => bits,
        };
        let rule = Known::of(&made, false);
        let target = match spec.target {
            LearnTarget::Match(t) => {
                rule.read(t)?;
                Some(t)
            }
            LearnTarget::Load(t) => {
                rule.read(t)?;
                rule.write(t.field)?;
                Some(t)
            }
            LearnTarget::Output => None,
        };
        if let Some(t) = target
            && t.bits != bits
        {
            return error(
                ErrorKind::BadArgument,
                format!(
                    "learn: {bits} bits into {} of {}",
                    t.bits,
                    t.field.info().name
                ),
            );
        }
        if let (LearnTarget::Match(t), LearnSource::Value { value, .. }) =
            (spec.target, spec.source)
        {
            made.set_bits(t, value);
        }
    }
    Ok(())
}
