//! What steers the pipeline, with packets through a whole datapath: groups, meters, learn, conjunctions, copies, pauses.

mod common;

use common::*;
use datapath::*;
use openflow::error::ErrorKind;
use openflow::text::{FlowCommand, Names, parse_flow, parse_group_mod, parse_meter_mod};
use openflow::*;
use std::time::Duration;

trait Say {
    fn says(&self, flow: &str);
    fn group(&self, command: GroupModCommand, group: &str);
    fn meter(&self, command: MeterModCommand, meter: &str);
    fn ports_of(&self, port: usize, frame: &[u8]) -> Vec<usize>;
    fn pass(&self, time: Duration);
}

fn flow(s: &str) -> FlowMod {
    let parsed = parse_flow(s, FlowCommand::Add, &Names::default());
    parsed.unwrap_or_else(|e| panic!("{s}: {e}")).flow_mod
}

fn group(command: GroupModCommand, s: &str) -> GroupMod {
    parse_group_mod(s, command, &Names::default()).unwrap_or_else(|e| panic!("{s}: {e}"))
}

impl Say for Switch {
    fn says(&self, s: &str) {
        self.flow(flow(s));
    }

    fn group(&self, command: GroupModCommand, s: &str) {
        let done = self.dp.group_mod(self.br, &group(command, s));
        done.unwrap_or_else(|e| panic!("{s}: {e}"));
    }

    fn meter(&self, command: MeterModCommand, s: &str) {
        let m = parse_meter_mod(s, command).unwrap();
        self.dp.meter_mod(self.br, &m).unwrap();
    }

    /// Where a frame that comes in by a port goes.
    fn ports_of(&self, port: usize, frame: &[u8]) -> Vec<usize> {
        self.send(port, frame);
        self.sent().into_iter().map(|(n, _)| n).collect()
    }

    fn pass(&self, time: Duration) {
        self.dp.clock().warp(time);
        self.dp.expire(self.dp.clock().now());
    }
}

use GroupModCommand::{Add, Delete, InsertBucket, Modify};

fn flows(t: &Switch) -> Vec<FlowStats> {
    t.dp.flow_stats(t.br, &FlowFilter::default())
}

/// UDP with this source port.
fn from(port: u16) -> Vec<u8> {
    let mut f = udp(1, 2);
    f[34..36].copy_from_slice(&port.to_be_bytes());
    f
}

/// A TCP segment with these flags.
fn tcp(flags: u8) -> Vec<u8> {
    let mut f = tso(6, 0).0;
    f[47] = flags;
    f
}

#[test]
fn buckets_of_all_work_on_copies_and_count() {
    let t = Switch::new(4);
    t.group(
        Add,
        "group_id=1,type=all,bucket=set_field:02:00:00:00:00:77->eth_dst,output:2,bucket=output:3,bucket=push_vlan:0x8100,set_field:0x1005->vlan_vid,output:4",
    );
    t.says("in_port=1,actions=group:1,output:2");
    let f = udp(1, 2);
    for n in 1..=3u64 {
        t.send(1, &f);
        let mut other = f.clone();
        other[5] = 0x77;
        assert_eq!(
            t.sent(),
            [
                (2, other),
                (2, f.clone()),
                (3, f.clone()),
                (4, tag(&f, 0x8100, 5))
            ]
        );
        let s = &t.dp.group_stats(t.br, GROUP_ALL)[0];
        assert_eq!((s.packets, s.bytes, s.references), (n, n * 60, 1));
        assert_eq!(s.buckets, [(n, n * 60); 3]);
    }
    // A bucket more, and cached flows know.
    t.group(
        InsertBucket,
        "group_id=1,command_bucket_id=first,bucket=bucket_id:9,output:3",
    );
    assert_eq!(t.ports_of(1, &f), [2, 2, 3, 3, 4]);
    assert_eq!(t.dp.group_stats(t.br, 1)[0].buckets[1], (4, 240));
    t.group(Modify, "group_id=1,type=indirect,bucket=output:4");
    assert_eq!(t.ports_of(1, &f), [2, 4]);
}

#[test]
fn flows_go_with_their_group_and_are_told_of() {
    let t = Switch::new(2);
    assert_eq!(t.refused(flow("actions=group:1")), ErrorKind::BadOutGroup);
    t.group(Add, "group_id=1,type=all,bucket=output:2");
    t.says("in_port=1,send_flow_rem,cookie=7,actions=group:1");
    t.says("in_port=2,actions=clone(group:1),output:1");
    t.says("priority=5,actions=drop");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    t.group(Delete, "group_id=1");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [0; 0]);
    assert_eq!(flows(&t).len(), 1);
    let Some(Event::FlowRemoved { removed, .. }) = t.event() else {
        panic!("not told");
    };
    assert_eq!(removed.reason, FlowRemovedReason::GroupDelete);
    assert_eq!((removed.flow.cookie, removed.flow.packets), (7, 1));
}

#[test]
fn fast_failover_follows_the_links_at_once() {
    let t = Switch::new(4);
    t.group(
        Add,
        "group_id=1,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3,bucket=watch_group:2,output:4",
    );
    t.says("in_port=1,actions=group:1");
    let f = udp(1, 2);
    assert_eq!(t.ports_of(1, &f), [2]);
    t.port(2).unwrap().set_up(false);
    assert_eq!(t.ports_of(1, &f), [3], "the link is down");
    let mac = t.dp.port_desc(t.br, PortNo(3)).unwrap().mac;
    let down = |port_down| PortMod {
        port: PortNo(3),
        mac,
        config: PortFlags {
            port_down,
            ..PortFlags::default()
        },
        mask: PortFlags {
            port_down: true,
            ..PortFlags::default()
        },
        advertise: 0,
        optical: None,
    };
    t.dp.port_mod(t.br, &down(true)).unwrap();
    assert_eq!(t.ports_of(1, &f), [0; 0], "the watched group is not there");
    let drops = t.dp.drop_stats(t.br, None);
    assert_eq!(drops.get("no_live_bucket"), Some(&1));
    t.group(Add, "group_id=2,type=ff,bucket=watch_port:4,output:4");
    assert_eq!(t.ports_of(1, &f), [4]);
    t.port(2).unwrap().set_up(true);
    assert_eq!(t.ports_of(1, &f), [2], "and back");
}

#[test]
fn select_spreads_by_weight_and_keeps_connections_where_they_are() {
    let t = Switch::new(5);
    t.group(
        Add,
        "group_id=1,type=select,bucket=bucket_id:1,weight:100,output:2,bucket=bucket_id:2,weight:300,output:3,bucket=bucket_id:3,weight:0,output:4",
    );
    t.says("in_port=1,actions=group:1");
    let choice = |n: u16| t.ports_of(1, &from(n))[0];
    let before: Vec<usize> = (0..400).map(choice).collect();
    assert_eq!((0..400).map(choice).collect::<Vec<_>>(), before);
    let count = |port| before.iter().filter(|p| **p == port).count();
    assert_eq!(count(4), 0, "no weight, no packets");
    assert!((60..140).contains(&count(2)), "{} of 400", count(2));
    // One more bucket takes its share of each, and moves nothing else.
    let mut more = group(
        InsertBucket,
        "group_id=1,command_bucket_id=last,bucket=bucket_id:4,output:5",
    );
    more.buckets[0].weight = 100;
    t.dp.group_mod(t.br, &more).unwrap();
    let after: Vec<usize> = (0..400).map(choice).collect();
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
    assert!(moved.clone().all(|(_, a)| *a == 5));
    assert!((40..130).contains(&moved.count()));
    // By the fields asked for alone: ports make no difference.
    t.group(
        Modify,
        "group_id=1,type=select,selection_method=hash,fields(ip_src),bucket=bucket_id:1,weight:1,output:2,bucket=bucket_id:2,weight:1,output:3",
    );
    let one = choice(1);
    assert!((0..100).all(|n| choice(n) == one));
    // A dead bucket gets nothing.
    t.group(
        Modify,
        "group_id=1,type=select,bucket=bucket_id:1,weight:1,watch_port:2,output:2,bucket=bucket_id:2,weight:1,watch_port:3,output:3",
    );
    t.port(3).unwrap().set_up(false);
    assert!((0..50).all(|n| choice(n) == 2));
}

#[test]
fn groups_in_groups_end() {
    let t = Switch::new(3);
    t.group(Add, "group_id=3,type=all,bucket=output:3");
    t.group(Add, "group_id=2,type=all,bucket=output:2,bucket=group:3");
    t.group(
        Add,
        "group_id=1,type=all,bucket=group:2,bucket=resubmit(,1)",
    );
    t.says("in_port=1,actions=group:1");
    t.says("table=1,actions=output:2,exit");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2, 2, 3]);
    // A loop by way of a table ends as one of resubmits does.
    t.says("table=1,actions=group:1");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [0; 0]);
    assert_eq!(t.dp.drop_stats(t.br, None).get("too_deep"), Some(&1));
    let looped = group(Modify, "group_id=3,type=all,bucket=group:1");
    let e = t.dp.group_mod(t.br, &looped).unwrap_err();
    assert_eq!(e.kind, ErrorKind::GroupLoop);
}

#[test]
fn flows_and_groups_change_together_or_not_at_all() {
    let t = Switch::new(2);
    let make = |n: u32| {
        [
            Change::Group(group(
                Add,
                &format!("group_id={n},type=all,bucket=output:2"),
            )),
            Change::Flow(flow(&format!("in_port=1,priority={n},actions=group:{n}"))),
        ]
    };
    t.dp.changes_atomic(t.br, &make(1), 0).unwrap();
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    let mut bad = make(2).to_vec();
    bad.push(Change::Flow(flow("in_port=1,actions=drop")));
    bad.push(Change::Group(group(Add, "group_id=1,type=all")));
    let (at, e) = t.dp.changes_atomic(t.br, &bad, 0).unwrap_err();
    assert_eq!((at, e.kind), (3, ErrorKind::GroupExists));
    assert_eq!(t.dp.group_desc(t.br, GROUP_ALL).len(), 1);
    assert_eq!(flows(&t).len(), 1);
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
}

#[test]
fn meters_let_through_what_they_may_and_go_with_their_flows() {
    let t = Switch::new(3);
    assert_eq!(
        t.refused(flow("actions=meter:1,output:2")),
        ErrorKind::InvalidMeter
    );
    t.meter(
        MeterModCommand::Add,
        "meter=1,pktps,burst,stats,bands=type=drop,rate=10,burst_size=5",
    );
    t.says("in_port=1,actions=meter:1,output:2");
    t.says("in_port=3,actions=clone(resubmit(,1)),output:2");
    t.says("table=1,send_flow_rem,actions=meter:1,push_vlan:0x8100,output:1");
    let f = udp(1, 2);
    let sent = |port, n: usize| (0..n).map(|_| t.ports_of(port, &f).len()).sum::<usize>();
    assert_eq!(sent(1, 20), 5, "the burst");
    t.pass(Duration::from_millis(200));
    assert_eq!(sent(1, 20), 2, "ten a second");
    let s = &t.dp.meter_stats(t.br, 1)[0];
    assert_eq!((s.flows, s.packets, s.bytes), (2, 40, 2400));
    assert_eq!(s.bands, [(33, 33 * 60)]);
    assert_eq!(t.dp.drop_stats(t.br, None).get("meter"), Some(&33));
    // In a clone, what is dropped is the clone.
    t.pass(Duration::from_millis(100));
    for copies in [1, 0] {
        t.send(3, &f);
        let mut wanted = vec![(2, f.clone())];
        if copies > 0 {
            wanted.insert(0, (1, tag(&f, 0x8100, 0)));
        }
        assert_eq!(t.sent(), wanted);
    }
    // Its rates may change while packets come.
    t.meter(
        MeterModCommand::Modify,
        "meter=1,pktps,bands=type=drop,rate=50",
    );
    assert_eq!(sent(1, 100), 50);
    t.meter(MeterModCommand::Delete, "meter=1");
    assert_eq!(flows(&t).len(), 1);
    let Some(Event::FlowRemoved { removed, .. }) = t.event() else {
        panic!("not told");
    };
    assert_eq!(removed.reason, FlowRemovedReason::MeterDelete);
}

#[test]
fn a_remark_band_raises_the_drop_precedence() {
    let t = Switch::new(2);
    t.meter(
        MeterModCommand::Add,
        "meter=1,pktps,burst,bands=type=dscp_remark,rate=1,burst_size=1,prec_level=1",
    );
    t.says("in_port=1,actions=meter:1,output:2");
    let mut f = udp(1, 2);
    f[15] = 10 << 2 | 1;
    f[24..26].fill(0);
    let c = datapath::packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&c.to_be_bytes());
    t.send(1, &f);
    assert_eq!(t.sent(), [(2, f.clone())]);
    t.send(1, &f);
    let (_, marked) = t.sent().pop().unwrap();
    assert_eq!(marked[15], 12 << 2 | 1);
    assert_eq!(datapath::packet::checksum::of(&marked[14..34]), 0);
}

#[test]
fn packets_to_the_controllers_go_through_their_meter() {
    let t = Switch::new(2);
    t.meter(
        MeterModCommand::Add,
        "meter=controller,pktps,burst,bands=type=drop,rate=1,burst_size=2",
    );
    t.says("in_port=1,actions=controller,output:2");
    for _ in 0..5 {
        assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    }
    let told = std::iter::from_fn(|| t.event()).count();
    assert_eq!(told, 2);
}

#[test]
fn a_learned_rule_is_there_for_the_next_packet() {
    let t = Switch::new(3);
    t.says("actions=learn(table=1,hard_timeout=10,cookie=0x9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)");
    t.says("table=1,priority=0,actions=flood");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2, 3]);
    assert_eq!(t.ports_of(2, &udp(2, 1)), [1]);
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    // Two packets of one batch: the first teaches the second.
    let port = t.port(3).unwrap();
    port.inject(&udp(3, 1), Default::default());
    t.send(1, &udp(1, 3));
    t.sent();
    let learned = |t: &Switch| {
        let all = flows(t).into_iter();
        all.filter(|f| f.cookie == 9).collect::<Vec<_>>()
    };
    let rule = learned(&t).remove(0);
    assert_eq!(
        rule.matching,
        Match::new().with(FieldId::EthDst, 0x02_00_00_00_00_01)
    );
    assert_eq!((rule.table, rule.hard_timeout), (1, 10));
    // A host that moves is learned anew at once, by a cached flow too.
    assert_eq!(t.ports_of(3, &udp(2, 1)), [1]);
    assert_eq!(t.ports_of(1, &udp(1, 2)), [3]);
    // Packets keep it; without them it goes.
    for _ in 0..15 {
        t.send(1, &udp(1, 2));
        t.pass(Duration::from_secs(1));
    }
    t.sent();
    let left: Vec<u128> = learned(&t)
        .iter()
        .map(|f| f.matching.get(FieldId::EthDst).0 & 0xff)
        .collect();
    assert_eq!(left, [1]);
    t.pass(Duration::from_secs(11));
    assert_eq!(learned(&t).len(), 0);
    // One that was deleted comes back with the next packet that is counted.
    t.send(1, &udp(1, 2));
    let mut delete = flow("table=1,cookie=0x9,actions=drop");
    delete.command = FlowModCommand::Delete;
    delete.cookie_mask = u64::MAX;
    t.flow(delete);
    t.send(1, &udp(1, 2));
    t.dp.expire(t.dp.clock().now());
    assert_eq!(learned(&t).len(), 1);
}

#[test]
fn a_packet_long_gone_teaches_nothing() {
    let t = Switch::new(2);
    t.says("actions=output:2");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    // The flow that is cached for any source is looked at again with the packet that made it.
    t.says("actions=learn(table=1,cookie=0x9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:2");
    assert_eq!(t.ports_of(1, &udp(3, 2)), [2]);
    let learned: Vec<_> = flows(&t).into_iter().filter(|f| f.cookie == 9).collect();
    assert_eq!(learned.len(), 1);
    let host = Match::new().with(FieldId::EthDst, 0x02_00_00_00_00_03);
    assert_eq!(learned[0].matching, host);
}

#[test]
fn the_address_of_a_packet_long_gone_is_not_learned() {
    let t = Switch::new(2);
    t.says("actions=output:2");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    t.says("actions=normal");
    assert_eq!(t.ports_of(1, &udp(3, 2)), [2]);
    let known: Vec<_> = t.dp.fdb(t.br).into_iter().map(|e| e.mac).collect();
    assert_eq!(known, [MacAddr([2, 0, 0, 0, 0, 3])]);
    // An address that was forgotten is known again from the next packet of its flow.
    t.dp.fdb_flush(t.br);
    assert_eq!(t.ports_of(1, &udp(3, 2)), [2]);
    assert_eq!(t.dp.fdb(t.br).len(), 1);
}

#[test]
fn learning_stops_at_its_limit_and_says_so() {
    let t = Switch::new(2);
    t.says("actions=learn(table=1,cookie=0x5,limit=2,result_dst=NXM_NX_REG0[0],NXM_OF_ETH_SRC[]),resubmit(,2)");
    t.says("table=2,reg0=1,actions=output:2");
    for (host, wanted) in [(1, 1), (2, 1), (3, 0), (1, 1), (3, 0)] {
        assert_eq!(t.ports_of(1, &udp(host, 9)).len(), wanted, "host {host}");
    }
    // A place that becomes free is taken.
    let mut delete = flow("table=1,dl_src=02:00:00:00:00:01,actions=drop");
    delete.command = FlowModCommand::Delete;
    t.flow(delete);
    assert_eq!(t.ports_of(1, &udp(3, 9)).len(), 1);
    assert_eq!(t.ports_of(1, &udp(1, 9)).len(), 0);
}

#[test]
fn what_was_learned_goes_with_its_maker_if_asked_for() {
    let t = Switch::new(2);
    t.says("cookie=1,actions=learn(table=1,cookie=0x5,delete_learned,NXM_OF_ETH_SRC[]),output:2");
    t.says("table=1,cookie=6,actions=drop");
    for host in 1..5 {
        t.send(1, &udp(host, 9));
    }
    assert_eq!(flows(&t).len(), 6);
    // The same learn in another form keeps them; without it they go.
    t.says("cookie=1,actions=learn(table=1,cookie=0x5,delete_learned,NXM_OF_ETH_SRC[]),output:1");
    assert_eq!(flows(&t).len(), 6);
    t.says("cookie=1,actions=output:2");
    assert_eq!(flows(&t).len(), 2);
}

#[test]
fn the_end_of_a_connection_shortens_timeouts() {
    let t = Switch::new(2);
    t.says("tcp,idle_timeout=60,actions=fin_timeout(idle_timeout=5),learn(table=1,idle_timeout=90,cookie=0x3,fin_idle_timeout=4,NXM_OF_ETH_SRC[]),output:2");
    let timeouts = |t: &Switch| flows(t).iter().map(|f| f.idle_timeout).collect::<Vec<_>>();
    t.send(1, &tcp(0x10));
    t.pass(Duration::from_secs(1));
    assert_eq!(timeouts(&t), [60, 90]);
    t.send(1, &tcp(0x11));
    t.pass(Duration::from_secs(1));
    assert_eq!(timeouts(&t), [5, 4]);
    t.pass(Duration::from_secs(4));
    assert_eq!(timeouts(&t), [0; 0]);
}

#[test]
fn a_conjunction_needs_all_its_clauses() {
    let t = Switch::new(2);
    let mut both = flow("actions=conjunction(1,1/2)");
    both.instructions.apply.push(Action::Exit);
    assert_eq!(t.refused(both), ErrorKind::BadConjunction);
    t.says("ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)");
    t.says("udp,tp_src=1000,actions=conjunction(7,2/2)");
    t.says("udp,tp_src=1001,actions=conjunction(7,2/2)");
    t.says("conj_id=7,actions=output:2");
    t.says("priority=1,actions=in_port");
    assert_eq!(t.ports_of(1, &from(1000)), [2]);
    assert_eq!(t.ports_of(1, &from(1002)), [1]);
    // Cached flows know of clauses that come and go.
    t.says("udp,tp_src=1002,actions=conjunction(7,2/2)");
    assert_eq!(t.ports_of(1, &from(1002)), [2]);
    let mut delete = flow("ip,nw_src=10.0.0.1,actions=drop");
    delete.command = FlowModCommand::Delete;
    delete.matching.set(FieldId::IpProto, 0);
    delete.matching.set_masked(FieldId::IpProto, 0, 0);
    t.flow(delete);
    assert_eq!(t.ports_of(1, &from(1000)), [1]);
}

#[test]
fn clones_and_the_stack_leave_the_packet_as_it_was() {
    let t = Switch::new(3);
    t.says("in_port=1,actions=push:NXM_OF_ETH_DST[],clone(set_field:02:00:00:00:00:55->eth_dst,pop:NXM_OF_ETH_SRC[],output:2,exit),pop:NXM_OF_ETH_SRC[],output:3");
    let f = udp(1, 2);
    let mut cloned = f.clone();
    cloned[5] = 0x55;
    cloned[11] = 2;
    let mut popped = f.clone();
    popped[11] = 2;
    for _ in 0..2 {
        t.send(1, &f);
        assert_eq!(t.sent(), [(2, cloned.clone()), (3, popped.clone())]);
    }
}

#[test]
fn a_packets_length_is_told_by_the_packet() {
    let t = Switch::new(3);
    t.says("in_port=1,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1)");
    t.says("table=1,reg0=1,actions=output:2");
    t.says("table=1,reg0=0,actions=output:3");
    let mut long = udp(1, 2);
    long.resize(101, 0);
    for _ in 0..2 {
        assert_eq!(t.ports_of(1, &udp(1, 2)), [3]);
        assert_eq!(t.ports_of(1, &long), [2]);
        assert_eq!(t.ports_of(1, &long[..100]), [3]);
    }
    assert_eq!(flows(&t).iter().map(|f| f.packets).sum::<u64>(), 12);
}

#[test]
fn bundles_choose_among_ports_that_are_up() {
    let t = Switch::new(3);
    t.says("in_port=1,actions=bundle(eth_src,0,active_backup,ofport,members:2,3)");
    let f = udp(1, 2);
    assert_eq!(t.ports_of(1, &f), [2]);
    t.port(2).unwrap().set_up(false);
    assert_eq!(t.ports_of(1, &f), [3]);
    t.says("in_port=1,actions=bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[],members:2,3),output:NXM_NX_REG0[]");
    assert!((0..20).all(|n| t.ports_of(1, &udp(n, 2)) == [3]));
    t.port(2).unwrap().set_up(true);
    let chosen: Vec<_> = (0..20).flat_map(|n| t.ports_of(1, &udp(n, 2))).collect();
    assert!(chosen.contains(&2) && chosen.contains(&3), "{chosen:?}");
    t.says("in_port=1,actions=multipath(symmetric_l4,0,modulo_n,2,0,NXM_NX_REG0[0]),resubmit(,1)");
    t.says("table=1,reg0=0/1,actions=output:2");
    t.says("table=1,reg0=1/1,actions=output:3");
    let chosen: Vec<_> = (0..20).flat_map(|n| t.ports_of(1, &udp(n, 2))).collect();
    assert!(chosen.contains(&2) && chosen.contains(&3), "{chosen:?}");
}

#[test]
fn actset_output_says_where_the_action_set_sends() {
    let t = Switch::new(2);
    t.says("in_port=1,actions=write_actions(output:2),goto_table:1");
    t.says("in_port=2,actions=goto_table:1");
    let mut set = flow("table=1,actions=goto_table:2");
    set.matching.set(FieldId::ActsetOutput, 2);
    t.flow(set);
    t.says("table=2,actions=drop");
    t.says("table=1,priority=1,actions=in_port,clear_actions");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    assert_eq!(t.ports_of(2, &udp(1, 2)), [2]);
}

/// The packet-in that a packet caused.
fn packet_in(t: &Switch) -> (PacketIn, u16) {
    match t.event() {
        Some(Event::PacketIn {
            packet_in,
            controller_id,
            ..
        }) => (packet_in, controller_id),
        e => panic!("{e:?}"),
    }
}

#[test]
fn why_a_packet_goes_to_the_controllers() {
    use openflow::action::PacketInReason::*;
    let t = Switch::new(2);
    t.group(Add, "group_id=1,type=all,bucket=controller");
    for (flow, reason) in [
        ("in_port=1,actions=controller", Action),
        ("in_port=1,actions=write_actions(controller)", ActionSet),
        ("in_port=1,actions=group:1", Group),
        ("in_port=1,actions=write_actions(group:1)", Group),
        ("in_port=1,ip,actions=dec_ttl,output:2", InvalidTtl),
        ("priority=0,actions=controller", NoMatch),
    ] {
        let mut delete = flow_mod_all();
        delete.command = FlowModCommand::Delete;
        t.flow(delete);
        t.says(flow);
        let mut f = udp(1, 2);
        f[22] = 1;
        t.send(1, &f);
        assert_eq!(packet_in(&t).0.reason, reason, "{flow}");
    }
    t.dp.packet_out(
        t.br,
        &openflow::PacketOut {
            buffer: None,
            in_port: PortNo::CONTROLLER,
            fields: Match::new(),
            actions: vec![openflow::Action::Output {
                port: PortNo::CONTROLLER,
                max_len: 0xffff,
            }],
            data: udp(1, 2).into(),
        },
    )
    .unwrap();
    t.dp.settle();
    assert_eq!(packet_in(&t).0.reason, PacketOut);
}

fn flow_mod_all() -> FlowMod {
    FlowMod::add(Match::new(), Instructions::default())
}

#[test]
fn a_paused_packet_goes_on_as_the_controller_made_it() {
    let t = Switch::new(4);
    t.says("in_port=1,actions=set_field:5->reg0,push:NXM_NX_REG0[],resubmit(,1),pop:NXM_NX_REG2[],resubmit(,2),write_actions(output:4),goto_table:3");
    t.says("table=1,cookie=0x77,actions=controller(id=3,userdata=01.02,pause),set_field:02:00:00:00:00:44->eth_dst,output:2");
    t.says("table=2,reg0=6,reg2=5,actions=output:3");
    t.says("table=3,actions=drop");
    let f = udp(1, 2);
    t.send(1, &f);
    assert_eq!(t.sent(), []);
    let (mut p, id) = packet_in(&t);
    assert_eq!((p.table, p.cookie, id), (1, 0x77, 3));
    assert_eq!(p.userdata[..], [1, 2]);
    assert_eq!(p.metadata.exact(FieldId::Reg0), Some(5));
    // The controller may change the packet, and what is told beside it.
    let mut changed = f.clone();
    changed[20] = 0xaa;
    p.data = changed.clone().into();
    p.metadata.set(FieldId::Reg0, 6);
    t.dp.resume(t.br, &p).unwrap();
    t.dp.settle();
    changed[5] = 0x44;
    let all = [2, 3, 4].map(|n| (n, changed.clone()));
    assert_eq!(t.sent(), all);
    // It may do so again: nothing is remembered.
    t.dp.resume(t.br, &p).unwrap();
    t.dp.settle();
    assert_eq!(t.sent(), all);
    // But what it sends is not believed.
    let whole = p.continuation.clone().unwrap();
    for n in 0..whole.len() {
        p.continuation = Some(whole.slice(..n));
        let e = t.dp.resume(t.br, &p).unwrap_err();
        assert_eq!(e.kind, ErrorKind::ResumeStale, "{n} bytes");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut other = whole.to_vec();
            other[at] ^= 1 << bit;
            p.continuation = Some(other.into());
            let _ = t.dp.resume(t.br, &p);
        }
        t.dp.settle();
        t.sent();
    }
    p.continuation = None;
    assert_eq!(
        t.dp.resume(t.br, &p).unwrap_err().kind,
        ErrorKind::ResumeStale
    );
}

#[test]
fn flows_may_ask_not_to_count() {
    let t = Switch::new(2);
    t.says("in_port=1,no_packet_counts,idle_timeout=5,actions=output:2");
    t.says("in_port=2,no_byte_counts,actions=output:1");
    for _ in 0..4 {
        t.send(1, &udp(1, 2));
        t.send(2, &udp(1, 2));
        t.pass(Duration::from_secs(2));
    }
    let mut counts: Vec<_> = flows(&t).iter().map(|f| (f.packets, f.bytes)).collect();
    counts.sort();
    assert_eq!(counts, [(0, 240), (4, 0)], "used all the same");
}

#[test]
fn tunnel_fields_written_are_matched_on_and_told_of() {
    let t = Switch::new(3);
    t.says("table=0,in_port=1,actions=set_tunnel64:0x100000005,set_field:192.0.2.1->tun_dst,resubmit(,1)");
    t.says("table=1,tun_id=0x100000005,tun_dst=192.0.2.1,actions=output:2,controller");
    t.says("table=1,priority=1,actions=output:3");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2]);
    let (p, _) = packet_in(&t);
    assert_eq!(p.metadata.exact(FieldId::TunId), Some(0x1_0000_0005));
    assert_eq!(p.metadata.exact(FieldId::TunDst), Some(0xc000_0201));
}

#[test]
fn queues_are_named_and_outputs_go_out() {
    let t = Switch::new(3);
    t.says("in_port=1,actions=set_queue:3,output:2,pop_queue,enqueue:3:7,output:2");
    assert_eq!(t.ports_of(1, &udp(1, 2)), [2, 2, 3]);
    let cached = t.dp.cached_flows();
    let two = t.name("2");
    let three = t.name("3");
    assert_eq!(
        cached[0].actions,
        format!(
            "set(skb_priority(0x3)),{two},set(skb_priority(0x7)),{three},set(skb_priority(0x0)),{two}"
        )
    );
}

#[test]
fn connection_tracking_is_refused_by_name() {
    let t = Switch::new(2);
    for f in ["ip,actions=ct(commit)", "actions=ct_clear"] {
        assert_eq!(
            t.refused(flow(f)),
            ErrorKind::ActionCtDatapathSupport,
            "{f}"
        );
    }
    let mut resubmit = flow("ip,actions=drop");
    resubmit.instructions.apply.push(Action::Resubmit {
        in_port: None,
        table: Some(1),
        ct: true,
    });
    assert_eq!(t.refused(resubmit), ErrorKind::ActionCtDatapathSupport);
}
