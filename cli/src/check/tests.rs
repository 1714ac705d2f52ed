//! What is found, and what is not.

use super::*;
use openflow::text::{FlowCommand, parse_flow};
use openflow::{Bucket, GroupType, MacAddr, PortFlags, PortNo, Selection};

fn flow(text: &str) -> FlowStats {
    let m = parse_flow(text, FlowCommand::Add, &Names::default())
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .flow_mod;
    FlowStats {
        table: m.table,
        priority: m.priority,
        cookie: m.cookie,
        matching: m.matching,
        instructions: m.instructions,
        ..FlowStats::default()
    }
}

fn port(n: u32, up: bool) -> PortDesc {
    PortDesc {
        port: PortNo(n),
        mac: MacAddr::default(),
        name: format!("p{n}"),
        config: PortFlags::default(),
        link_down: !up,
        live: up,
        current: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: 0,
        max_speed: 0,
        properties: Vec::new(),
    }
}

/// A bridge with ports 1 to 3 up, 4 down, and these flows.
fn bridge(flows: &[&str]) -> Bridge {
    Bridge {
        flows: flows.iter().map(|f| flow(f)).collect(),
        groups: Vec::new(),
        meters: vec![1],
        ports: (1..=4).map(|n| port(n, n < 4)).collect(),
    }
}

fn kinds(b: &Bridge) -> Vec<(Kind, Option<u8>)> {
    check(b).iter().map(|f| (f.kind, f.table)).collect()
}

fn group(id: u32, kind: GroupType, buckets: &[(u32, &str)]) -> GroupDesc {
    GroupDesc {
        group: id,
        kind,
        buckets: buckets
            .iter()
            .zip(0..)
            .map(|((watch, actions), id)| Bucket {
                weight: 1,
                watch_port: if *watch == 0 {
                    PortNo::ANY
                } else {
                    PortNo(*watch)
                },
                watch_group: None,
                id,
                actions: flow(&format!("actions={actions}")).instructions.apply,
            })
            .collect(),
        selection: Selection::default(),
    }
}

#[test]
fn a_sound_bridge_is_clean() {
    let b = bridge(&[
        "priority=10,ip,nw_dst=10.0.0.0/8,actions=output:1",
        "priority=20,ip,nw_dst=10.1.0.0/16,actions=output:2",
        "priority=5,tcp,tp_dst=80,actions=goto_table:1",
        "priority=0,actions=resubmit(,2)",
        "table=1,reg0=5,actions=output:3",
        "table=2,priority=7,in_port=1,actions=in_port",
    ]);
    assert_eq!(check(&b), []);
}

#[test]
fn a_rule_behind_a_wider_one_of_higher_priority_never_matches() {
    let b = bridge(&[
        "priority=10,ip,nw_dst=10.1.0.0/16,actions=output:1",
        "cookie=0x7,priority=20,ip,nw_dst=10.0.0.0/8,actions=output:2",
        "priority=20,ip,nw_dst=11.0.0.0/8,actions=output:2",
    ]);
    let found = check(&b);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].rule.as_deref(), &*found[0].text),
        (
            Some("table=0,priority=10,ip,nw_dst=10.1.0.0/16"),
            "never matches: cookie=0x7,table=0,priority=20,ip,nw_dst=10.0.0.0/8 takes all its packets"
        )
    );
    // The same priority, another table, or a narrower match shadow nothing.
    let b = bridge(&[
        "priority=10,ip,actions=goto_table:1",
        "priority=10,tcp,actions=output:1",
        "table=1,priority=1,tcp,actions=output:1",
        "table=1,priority=2,tcp,tp_dst=80,actions=output:1",
    ]);
    assert_eq!(check(&b), []);
}

#[test]
fn several_rules_together_shadow_one() {
    let b = bridge(&[
        "priority=9,ip,nw_dst=10.0.0.0/8,actions=output:1",
        "priority=10,ip,nw_dst=10.0.0.0/9,actions=output:2",
        "priority=11,ip,nw_dst=10.128.0.0/9,actions=output:3",
    ]);
    assert_eq!(kinds(&b), [(Kind::Shadowed, Some(0))]);
    // Of four quarters one is missing.
    let b = bridge(&[
        "priority=9,ip,nw_dst=10.0.0.0/8,actions=output:1",
        "priority=10,ip,nw_dst=10.0.0.0/9,actions=output:2",
        "priority=10,ip,nw_dst=10.192.0.0/10,actions=output:3",
    ]);
    assert_eq!(check(&b), []);
}

#[test]
fn what_no_packet_has_never_matches() {
    let b = bridge(&[
        "in_port=9,actions=output:1",
        "vlan_tci=0x0005/0x1fff,actions=output:1",
        "reg0=1,actions=output:2",
    ]);
    assert_eq!(kinds(&b), [(Kind::NeverMatches, Some(0)); 3]);
    // Unless a rule sends packets there again, with another port and registers.
    let b = bridge(&[
        "in_port=9,actions=output:1",
        "reg0=1,actions=output:2",
        "priority=1,in_port=1,actions=goto_table:1",
        "table=1,actions=load:1->NXM_NX_REG0[],resubmit(9,0)",
    ]);
    assert!(
        kinds(&b).iter().all(|k| k.0 == Kind::Loop),
        "{:?}",
        check(&b)
    );
}

#[test]
fn tables_in_a_circle_and_tables_out_of_reach() {
    let b = bridge(&[
        "in_port=1,actions=resubmit(,3)",
        "table=3,actions=resubmit(,4)",
        "table=4,tcp,actions=resubmit(,3)",
        "table=5,actions=resubmit(,5)",
    ]);
    let found = check(&b);
    let of: Vec<_> = found.iter().map(|f| (f.kind, f.table)).collect();
    assert_eq!(
        of,
        [
            (Kind::Loop, Some(3)),
            (Kind::Unreached, Some(5)),
            (Kind::Loop, Some(5)),
        ]
    );
    assert!(
        found[0].text.starts_with("tables 3 -> 4 -> 3 send"),
        "{}",
        found[0].text
    );
    assert!(
        found[2].text.starts_with("tables 5 -> 5 send"),
        "{}",
        found[2].text
    );
}

#[test]
fn ports_groups_and_meters_that_are_not_there() {
    let mut b = bridge(&[
        "in_port=1,actions=output:1,output:9,clone(output:8),group:1,group:2",
        "in_port=2,actions=meter:2,output:1",
        "in_port=3,actions=normal,controller",
    ]);
    b.groups.push(group(1, GroupType::All, &[(0, "output:7")]));
    let found = check(&b);
    let texts: Vec<&str> = found.iter().map(|f| &*f.text).collect();
    assert_eq!(
        texts,
        [
            "group 1, bucket 0: outputs to port 7, which does not exist",
            "outputs to port 8, which does not exist",
            "outputs to port 9, which does not exist",
            "uses group 2, which does not exist",
            "uses meter 2, which does not exist",
        ]
    );
}

#[test]
fn groups_that_send_nothing() {
    let mut b = bridge(&[]);
    b.groups = vec![
        group(
            1,
            GroupType::FastFailover,
            &[(4, "output:4"), (0, "output:1")],
        ),
        group(
            2,
            GroupType::FastFailover,
            &[(4, "output:4"), (1, "output:1")],
        ),
        group(3, GroupType::Select, &[(4, "output:4")]),
        group(4, GroupType::Select, &[(0, "output:4")]),
        group(5, GroupType::All, &[]),
        group(6, GroupType::Indirect, &[(0, "output:1")]),
    ];
    let found = check(&b);
    let texts: Vec<&str> = found.iter().map(|f| &*f.text).collect();
    assert_eq!(
        texts,
        [
            "group 5 has no buckets",
            "group 1 has no live bucket: it sends packets nowhere",
            "group 3 has no live bucket: it sends packets nowhere",
        ]
    );
}

#[test]
fn conjunctions_need_all_clauses_and_somebody_to_match_them() {
    let whole = [
        "ip,nw_src=10.0.0.1,actions=conjunction(1,1/2)",
        "ip,nw_dst=10.0.0.2,actions=conjunction(1,2/2)",
        "conj_id=1,ip,actions=output:1",
    ];
    assert_eq!(check(&bridge(&whole)), []);
    let lacking = |without: usize| {
        let mut rules = whole.to_vec();
        rules.remove(without);
        let found = check(&bridge(&rules));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].text.clone()
    };
    assert_eq!(lacking(1), "conjunction 1: no rule has clause 2/2");
    assert_eq!(
        lacking(2),
        "conjunction 1: no rule of the table matches conj_id=1"
    );
    let b = bridge(&["conj_id=1,ip,actions=output:1"]);
    assert_eq!(
        check(&b)[0].text,
        "conj_id=1: no rule of the table is a clause of it"
    );
}

/// Whether a rule is reported as shadowed is compared with trying all packets of a small world.
#[test]
fn shadowed_rules_are_those_that_no_packet_of_a_small_world_matches_first() {
    let mut seed = 12345u64;
    let mut roll = |n: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    let mut both = [0, 0];
    for _ in 0..300 {
        let rules: Vec<(u64, u64)> = (0..6).map(|_| (roll(16), roll(16))).collect();
        let texts: Vec<String> = rules
            .iter()
            .zip(1..)
            .map(|((v, m), p)| format!("priority={p},dl_dst=00:00:00:00:00:0{:x}/00:00:00:00:00:0{m:x},actions=output:1", v & m))
            .collect();
        // All packets there are have zeros elsewhere, and the rules do not look there.
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let b = bridge(&texts);
        let said: Vec<u16> = check(&b)
            .iter()
            .filter(|f| f.kind == Kind::Shadowed)
            .map(|f| {
                let name = f.rule.as_deref().unwrap();
                b.flows.iter().find(|r| rule(r) == name).unwrap().priority
            })
            .collect();
        for (i, (v, m)) in rules.iter().enumerate() {
            let first = |p: u64| !rules[i + 1..].iter().any(|(w, n)| (p ^ w) & n == 0);
            let ever = (0..16).any(|p| (p ^ v) & m == 0 && first(p));
            let shadowed = said.contains(&(i as u16 + 1));
            assert_eq!(shadowed, !ever, "rule {i} of {texts:?}");
            both[usize::from(shadowed)] += 1;
        }
    }
    assert!(both[0] > 100 && both[1] > 100, "{both:?}");
}

/// The work is bounded, and many rules of twenty masks are far from the bound.
#[test]
fn many_rules_are_compared_to_the_end() {
    let mut b = bridge(&["priority=1,ip,actions=output:1"]);
    let template = flow("tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=80,actions=output:2");
    for n in 0..20_000u128 {
        let mut f = template.clone();
        f.matching
            .set_masked(openflow::FieldId::Ipv4Src, n << 8, u128::MAX << (n % 20));
        f.priority = 30 + (n % 50) as u16;
        b.flows.push(f);
    }
    let found = check(&b);
    assert!(found.iter().any(|f| f.kind == Kind::Shadowed));
    assert!(found.iter().all(|f| f.kind != Kind::Unfinished));
}
