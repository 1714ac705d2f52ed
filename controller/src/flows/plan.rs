//! The difference between the flows a switch has and those it should have.

use super::{FlowKey, NamedFlow};
use crate::cookie;
use openflow::{Action, FlowMod, FlowModCommand, FlowStats, Instructions, PortNo};
use std::collections::HashMap;

/// One message of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Install this named flow.
    Install {
        /// Its name.
        name: String,
        /// The message.
        message: FlowMod,
    },
    /// Remove a flow of ours that nobody wants any more.
    Remove(FlowMod),
}

/// What makes the named flows on a switch (`present`, flows of other owners are left alone) those
/// of `wanted`: additions first, so that nothing is without its flow in between. Flows that are as
/// they should be keep their counters: nothing is sent for them.
pub fn difference<'a>(
    wanted: impl Iterator<Item = &'a NamedFlow>,
    present: &[FlowStats],
) -> Vec<Change> {
    let mut there: HashMap<FlowKey, &FlowStats> = present
        .iter()
        .filter(|f| cookie::owned_by(f.cookie, cookie::NAMED))
        .map(|f| ((f.table, f.priority, f.matching.clone()), f))
        .collect();
    let mut out = Vec::new();
    for flow in wanted {
        let message = flow.add();
        let same = there.remove(&flow.key()).is_some_and(|f| {
            f.cookie == message.cookie
                && f.idle_timeout == message.idle_timeout
                && f.hard_timeout == message.hard_timeout
                && same_effect(&f.instructions, &message.instructions)
        });
        if !same {
            out.push(Change::Install {
                name: flow.name.clone(),
                message,
            });
        }
    }
    let mut stale: Vec<_> = there.into_values().collect();
    stale.sort_by_key(|f| (f.table, f.priority, f.cookie));
    out.extend(stale.into_iter().map(|f| {
        Change::Remove(FlowMod {
            command: FlowModCommand::DeleteStrict,
            cookie: f.cookie,
            cookie_mask: u64::MAX,
            table: f.table,
            priority: f.priority,
            ..FlowMod::add(f.matching.clone(), Instructions::default())
        })
    }));
    out
}

/// Equal but for `max_len` of outputs to other ports than the controller, which means nothing
/// there, and for `enqueue`, which the wire says in three actions.
fn same_effect(a: &Instructions, b: &Instructions) -> bool {
    let plain = |list: &[Action]| -> Vec<Action> {
        list.iter()
            .flat_map(|a| match a {
                Action::Output { port, .. } if *port != PortNo::CONTROLLER => {
                    vec![Action::Output {
                        port: *port,
                        max_len: 0,
                    }]
                }
                Action::Enqueue { port, queue } => vec![
                    Action::SetQueue(*queue),
                    Action::Output {
                        port: *port,
                        max_len: 0,
                    },
                    Action::PopQueue,
                ],
                other => vec![other.clone()],
            })
            .collect()
    };
    let all = |i: &Instructions| Instructions {
        apply: plain(&i.apply),
        write: plain(&i.write),
        ..i.clone()
    };
    all(a) == all(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn flow(name: &str, port: u32, out: u32) -> NamedFlow {
        let v = json!({"name": name, "switch": "br0", "match": {"in_port": port},
            "actions": [{"type": "output", "port": out}]});
        NamedFlow::parse(&v, None, &|_| openflow::text::Names::default()).unwrap()
    }

    fn on_switch(f: &NamedFlow) -> FlowStats {
        let m = f.add();
        FlowStats {
            table: m.table,
            duration: Duration::from_secs(9),
            idle_age: None,
            hard_age: None,
            priority: m.priority,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: m.flags,
            cookie: m.cookie,
            packets: 5,
            bytes: 500,
            matching: m.matching,
            instructions: m.instructions,
        }
    }

    #[test]
    fn only_differences_are_sent_and_foreign_flows_stay() {
        let (a, b, c) = (flow("a", 1, 2), flow("b", 2, 1), flow("c", 3, 1));
        let changed = flow("b", 2, 7);
        let mut foreign = on_switch(&flow("x", 9, 9));
        foreign.cookie = 0x1234;
        let present = [on_switch(&a), on_switch(&b), on_switch(&c), foreign];
        let plan = difference([&a, &changed].into_iter(), &present);
        assert_eq!(plan.len(), 2);
        assert!(
            matches!(&plan[0], Change::Install { name, message } if name == "b" && *message == changed.add())
        );
        assert!(
            matches!(&plan[1], Change::Remove(m) if m.matching == c.matching && m.cookie == cookie::named("c"))
        );
        assert!(difference([&a, &b, &c].into_iter(), &present).is_empty());
    }
}
