//! A change of one rule has cached flows translated again that it concerns, and hardly any others.

use super::Limits;
use crate::Bench;
use crate::packet::{BATCH, Batch, OwnedPacket};
use openflow::{Action, FieldId, FlowMod, FlowModCommand, Instructions, Match, PortNo};

const FLOWS: u32 = 200;

fn frame(n: u32) -> OwnedPacket {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    f.extend((0x0a00_0000 | n).to_be_bytes());
    f.extend([10, 9, 9, 9]);
    f.extend(((n % 1000) as u16).to_be_bytes());
    f.extend([0, 80, 0, 26, 0, 0]);
    f.resize(60, 0);
    OwnedPacket::new(f)
}

fn of_flow(n: u32) -> Match {
    Match::new()
        .with(FieldId::EthType, 0x800)
        .with(FieldId::IpProto, 17)
        .with(FieldId::Ipv4Src, (0x0a00_0000 | n).into())
        .with(FieldId::UdpSrc, (n % 1000).into())
}

fn add(priority: u16, matching: Match, port: u32) -> FlowMod {
    let out = Action::Output {
        port: PortNo(port),
        max_len: 0,
    };
    FlowMod {
        priority,
        ..FlowMod::add(matching, Instructions::apply(vec![out]))
    }
}

/// Sends a packet of each flow; how many flows were translated again, and how many were new.
fn send_all(bench: &mut Bench, frames: &[OwnedPacket]) -> (u64, u64) {
    let before = bench.forwarder.counts;
    let mut batch = Batch::new();
    for chunk in frames.chunks(BATCH) {
        batch.clear();
        for p in chunk {
            // SAFETY: `frames` outlives the batch's use.
            assert!(unsafe { batch.push_borrowed(p) });
        }
        bench.forwarder.now += 1_000_000;
        bench.forwarder.process(&mut batch, 0);
    }
    batch.clear();
    let after = bench.forwarder.counts;
    (
        after.revalidated - before.revalidated,
        after.misses - before.misses,
    )
}

fn change(bench: &Bench, m: &FlowMod) {
    let done: Result<(), openflow::OfError> = bench.bridge.update(|s| {
        let limits = Limits { tables: 4 };
        s.tables
            .apply(m, &limits, Default::default(), &mut Default::default())
    });
    done.expect("a change that can be made");
}

/// What the tables did in all, by the counters of rules.
fn counted(bench: &mut Bench, n: u32, priority: u16) -> u64 {
    bench.forwarder.flush();
    let state = bench.bridge.state.load();
    let table = state.tables.get(0).expect("table 0");
    let rule = table
        .classifier
        .find(&crate::table::Pattern::new(&of_flow(n)), priority);
    rule.expect("the rule is there").counters.get().0
}

#[test]
fn one_change_disturbs_the_flows_it_concerns() {
    let mut rules: Vec<FlowMod> = (0..10_000).map(|n| add(10, of_flow(n), 2)).collect();
    // Others beside the hash table.
    rules.push(add(1, Match::new(), 3));
    for n in 0..40u32 {
        let net = Match::new().with(FieldId::EthType, 0x800);
        let mut net = net.with(FieldId::UdpDst, 5000 + u128::from(n));
        net.set_masked(FieldId::Ipv4Dst, u128::from(n) << 24, 0xff00_0000);
        rules.push(add(20, net.with(FieldId::IpProto, 17), 3));
    }
    let mut bench = Bench::new(&rules, false);
    let frames: Vec<OwnedPacket> = (0..FLOWS).map(frame).collect();
    assert_eq!(send_all(&mut bench, &frames), (0, FLOWS.into()));
    assert_eq!(send_all(&mut bench, &frames), (0, 0));

    // A rule of none of the flows: added, modified, deleted.
    let other = add(10, of_flow(5_000_000), 2);
    let mut disturbed = Vec::new();
    for command in [
        FlowModCommand::Add,
        FlowModCommand::ModifyStrict,
        FlowModCommand::DeleteStrict,
    ] {
        change(
            &bench,
            &FlowMod {
                command,
                ..other.clone()
            },
        );
        disturbed.push(send_all(&mut bench, &frames));
    }
    for (again, new) in disturbed {
        assert!(again <= 5 && new == 0, "{again} {new}");
    }

    // The rule of flow 7, modified in place: its packets go the new way, the others are left alone.
    let seen = counted(&mut bench, 7, 10);
    change(
        &bench,
        &FlowMod {
            command: FlowModCommand::ModifyStrict,
            ..add(10, of_flow(7), 3)
        },
    );
    let (again, new) = send_all(&mut bench, &frames);
    assert!((1..=5).contains(&(again + new)), "{again} {new}");
    assert_eq!(counted(&mut bench, 7, 10), seen + 1);

    // A rule above it takes its packets, and gives them back.
    change(&bench, &add(30, of_flow(7), 4));
    let (again, new) = send_all(&mut bench, &frames);
    assert!(again + new >= 1, "{again} {new}");
    assert_eq!(counted(&mut bench, 7, 30), 1);
    // The first rule above all others of its mask: flows that passed the mask over would have had to
    // look. From now on such rules disturb nobody else.
    change(
        &bench,
        &FlowMod {
            command: FlowModCommand::DeleteStrict,
            ..add(30, of_flow(7), 4)
        },
    );
    let (again, new) = send_all(&mut bench, &frames);
    assert!((1..=5).contains(&(again + new)), "{again} {new}");
    assert_eq!(counted(&mut bench, 7, 10), seen + 2);
}
