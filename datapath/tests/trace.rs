//! Traces: what is told of a packet's way is what is done with it.

mod common;

use common::*;
use datapath::TraceRequest;
use datapath::pipeline::trace::{Found, Step, Trace, What};
use openflow::*;

/// Every step, each with how deep it lies.
fn told(steps: &[Step], depth: usize, out: &mut Vec<String>) {
    for s in steps {
        let text = match &s.what {
            What::Bridge(name) => format!("bridge {name}"),
            What::Table {
                table,
                found,
                onward,
                ..
            } => match found {
                Found::Rule(r) => format!("table {table} priority {} {onward}", r.priority),
                Found::Nothing => format!("table {table} nothing"),
                Found::PacketIn => format!("table {table} packet-in"),
            },
            What::Action(a) => format!("{a:?}").split([' ', '(']).next().unwrap().into(),
            What::Remark(text) => format!("-> {text}"),
            What::Warning(text) => format!(">> {text}"),
            other => format!("{other:?}"),
        };
        out.push(format!("{:1$}{text}", "", depth * 2));
        told(&s.steps, depth + 1, out);
    }
}

fn lines(t: &Trace) -> Vec<String> {
    let mut out = Vec::new();
    told(&t.steps, 0, &mut out);
    out
}

fn trace(s: &Switch, flow: Match, why: usize) -> Trace {
    let request = TraceRequest {
        flow,
        why,
        ..TraceRequest::default()
    };
    s.dp.trace(s.br, &request).unwrap()
}

#[test]
fn the_way_through_the_tables_is_told_step_by_step() {
    let s = Switch::new(3);
    let resubmit = |table| Action::Resubmit {
        in_port: None,
        table: Some(table),
        ct: false,
    };
    let output = |port| Action::Output {
        port: PortNo(port),
        max_len: 0,
    };
    let mut first = Instructions::apply(vec![resubmit(2), output(1), output(2)]);
    first.goto_table = Some(1);
    first.metadata = Some((5, 7));
    s.flow(FlowMod::add(Match::new().with(FieldId::InPort, 1), first));
    let mut second = FlowMod::add(Match::new().with(FieldId::Metadata, 5), out(PortNo(3)));
    second.table = 1;
    s.flow(second);
    let t = trace(&s, Match::new().with(FieldId::InPort, 1), 0);
    assert_eq!(
        lines(&t),
        [
            "bridge br0",
            "  table 0 priority 32768 false",
            "    Resubmit",
            "    table 2 nothing",
            "      Nothing",
            "    Output",
            "    >> skipping output to input port",
            "    Output",
            "    WriteMetadata(5, 7)",
            "    Goto(1)",
            "  table 1 priority 32768 true",
            "    Output",
        ]
    );
    assert_eq!(t.last.get(Slot::Metadata), 5);
    assert_eq!(t.initial.get(Slot::Metadata), 0);
    assert_eq!(t.actions.len(), 2);
    // Nothing was counted, nothing sent.
    assert!(s.sent().is_empty());
    let flows = s.dp.flow_stats(s.br, &FlowFilter::default());
    assert!(flows.iter().all(|f| f.packets == 0));
}

#[test]
fn why_others_did_not_match_is_told_of_those_that_would_have_come_first() {
    let s = Switch::new(2);
    for (priority, dst) in [(9, 1), (8, 2), (7, 3), (6, 4)] {
        s.flow(FlowMod {
            priority,
            ..FlowMod::add(Match::new().with(FieldId::EthDst, dst), out(PortNo(2)))
        });
    }
    let flow = Match::new()
        .with(FieldId::InPort, 1)
        .with(FieldId::EthDst, 3);
    let t = trace(&s, flow.clone(), 5);
    let What::Table { passed, .. } = &t.steps[0].steps[0].what else {
        panic!("{:?}", t.steps);
    };
    let why: Vec<_> = passed
        .iter()
        .map(|p| (p.rule.priority, p.wanted.slot, p.wanted.value, p.has))
        .collect();
    assert_eq!(why, [(9, Slot::EthDst, 1, 3), (8, Slot::EthDst, 2, 3)]);
    let t = trace(&s, flow, 1);
    let What::Table { passed, .. } = &t.steps[0].steps[0].what else {
        panic!("{:?}", t.steps);
    };
    assert_eq!(passed.len(), 1);
}

#[test]
fn loops_are_told_only_so_far() {
    let s = Switch::new(1);
    let again = Action::Resubmit {
        in_port: None,
        table: Some(0),
        ct: false,
    };
    s.flow(FlowMod::add(
        Match::new(),
        Instructions::apply(vec![Action::Note(vec![0; 6].into()); 1000]),
    ));
    let mut wide = vec![again.clone(); 100];
    wide.extend(vec![Action::Note(vec![0; 6].into()); 900]);
    s.flow(FlowMod {
        command: FlowModCommand::ModifyStrict,
        ..FlowMod::add(Match::new(), Instructions::apply(wide))
    });
    let t = trace(&s, Match::new(), 3);
    assert!(
        lines(&t)
            .iter()
            .any(|l| l.contains("over max translation depth"))
    );
    s.flow(FlowMod::add(
        Match::new(),
        Instructions::apply(vec![
            Action::Resubmit {
                in_port: None,
                table: Some(1),
                ct: false
            };
            1000
        ]),
    ));
    for table in 1..3 {
        s.flow(FlowMod {
            table,
            ..FlowMod::add(
                Match::new(),
                Instructions::apply(vec![
                    Action::Resubmit {
                        in_port: None,
                        table: Some(table + 1),
                        ct: false
                    };
                    1000
                ]),
            )
        });
    }
    let t = trace(&s, Match::new(), 3);
    assert!(t.actions.is_empty());
    assert!(lines(&t).len() <= datapath::pipeline::trace::STEPS_MAX + 200);
}
