use super::*;
use openflow::{Action, FieldId, Instructions};
use std::time::Duration;

fn output(port: u32) -> Instructions {
    Instructions::apply(vec![Action::Output {
        port: PortNo(port),
        max_len: 0,
    }])
}

fn add(priority: u16, matching: Match, port: u32) -> FlowMod {
    FlowMod {
        priority,
        ..FlowMod::add(matching, output(port))
    }
}

const LIMITS: Limits = Limits { tables: 255 };

fn run(t: &mut Tables, m: &FlowMod, at: u64) -> Result<Vec<FlowRemoved>, ErrorKind> {
    let mut effects = Effects::default();
    t.apply(m, &LIMITS, Duration::from_secs(at), &mut effects)
        .map(|()| {
            effects
                .removed
                .iter()
                .map(|r| r.tell(Duration::from_secs(at)))
                .collect()
        })
        .map_err(|e| e.kind)
}

#[test]
fn delete_by_port_cookie_and_match() {
    let mut t = Tables::default();
    let ip = Match::new().with(FieldId::EthType, 0x800);
    run(&mut t, &add(1, Match::new(), 1), 0).unwrap();
    let mut m = add(2, ip.clone(), 2);
    m.cookie = 0x10;
    m.flags.send_flow_rem = true;
    run(&mut t, &m, 0).unwrap();
    run(&mut t, &add(3, ip.clone().with(FieldId::Ipv4Src, 1), 2), 0).unwrap();
    let mut d = FlowMod {
        command: FlowModCommand::Delete,
        table: TABLE_ALL,
        out_port: PortNo(7),
        ..add(0, ip, 0)
    };
    run(&mut t, &d, 1).unwrap();
    assert_eq!(t.len(), 3);
    d.out_port = PortNo(2);
    d.cookie = 0x10;
    d.cookie_mask = 0xff;
    let removed = run(&mut t, &d, 5).unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].flow.duration, Duration::from_secs(5));
    assert_eq!(t.len(), 2);
    d.cookie_mask = 0;
    run(&mut t, &d, 5).unwrap();
    assert_eq!(t.len(), 1);
    d.command = FlowModCommand::DeleteStrict;
    d.matching = Match::new();
    d.out_port = PortNo::ANY;
    run(&mut t, &d, 5).unwrap();
    assert_eq!(t.len(), 1, "another priority");
    d.priority = 1;
    run(&mut t, &d, 5).unwrap();
    assert!(t.is_empty());
}

#[test]
fn replacing_keeps_counts_unless_told_and_modify_keeps_cookie() {
    let mut t = Tables::default();
    run(&mut t, &add(1, Match::new(), 1), 0).unwrap();
    let first = |t: &Tables| t.select(&FlowFilter::default())[0].clone();
    first(&t).counters.add(3, 300, 0);
    run(&mut t, &add(1, Match::new(), 2), 1).unwrap();
    assert_eq!(first(&t).counters.get(), (3, 300));
    let mut m = add(9, Match::new(), 4);
    m.command = FlowModCommand::Modify;
    m.cookie = 99;
    run(&mut t, &m, 2).unwrap();
    let r = first(&t);
    assert_eq!((r.cookie, r.priority, r.counters.get()), (0, 1, (3, 300)));
    assert!(r.instructions.outputs_to(PortNo(4)));
    let mut m = add(1, Match::new(), 2);
    m.flags.reset_counts = true;
    run(&mut t, &m, 3).unwrap();
    assert_eq!(first(&t).counters.get(), (0, 0));
}

#[test]
fn timeouts_count_from_use_and_from_change() {
    let mut t = Tables::default();
    let mut m = add(1, Match::new(), 1);
    m.idle_timeout = 5;
    m.flags.send_flow_rem = true;
    run(&mut t, &m, 0).unwrap();
    let mut m = add(2, Match::new(), 1);
    m.hard_timeout = 8;
    run(&mut t, &m, 0).unwrap();
    t.select(&FlowFilter::default())[1]
        .counters
        .add(1, 64, 3_000_000_000);
    let mut effects = Effects::default();
    t.expire(Duration::from_secs(7), &mut effects);
    assert_eq!(
        (t.len(), t.next_expiry()),
        (2, Some(Duration::from_secs(8)))
    );
    assert!(t.expire(Duration::from_secs(8), &mut effects));
    assert_eq!(t.len(), 0);
    assert_eq!(effects.removed.len(), 1);
    assert_eq!(effects.removed[0].reason, FlowRemovedReason::IdleTimeout);
    assert_eq!(t.next_expiry(), None);
}

#[test]
fn what_cannot_be_done_is_refused_by_the_right_error() {
    let mut t = Tables::default();
    let act = |a: Action| FlowMod::add(Match::new(), Instructions::apply(vec![a]));
    let set = Action::SetField {
        field: FieldId::Ipv4Src,
        value: 1,
        mask: u32::MAX.into(),
    };
    assert_eq!(run(&mut t, &act(set), 0), Err(ErrorKind::MatchInconsistent));
    assert_eq!(
        run(&mut t, &act(Action::Group(1)), 0),
        Err(ErrorKind::BadOutGroup)
    );
    assert_eq!(
        run(&mut t, &act(Action::PushVlan(0x9100)), 0),
        Err(ErrorKind::BadArgument)
    );
    let mut m = add(1, Match::new(), 1);
    m.instructions.goto_table = Some(0);
    assert_eq!(run(&mut t, &m, 0), Err(ErrorKind::BadInstTableId));
    let mut m = add(1, Match::new(), 1);
    m.table = TABLE_ALL;
    assert_eq!(run(&mut t, &m, 0), Err(ErrorKind::FlowModBadTableId));
    run(&mut t, &add(1, Match::new(), 1), 0).unwrap();
    let mut m = add(1, Match::new().with(FieldId::EthType, 0x800), 1);
    m.flags.check_overlap = true;
    assert_eq!(run(&mut t, &m, 0), Err(ErrorKind::Overlap));
    assert_eq!(t.len(), 1);
}

#[test]
fn a_clone_is_a_version_of_its_own() {
    let mut t = Tables::default();
    run(&mut t, &add(1, Match::new(), 1), 0).unwrap();
    let before = t.clone();
    run(&mut t, &add(2, Match::new(), 1), 0).unwrap();
    assert_eq!((before.len(), t.len()), (1, 2));
    assert_eq!(before.select(&FlowFilter::default()).len(), 1);
}
