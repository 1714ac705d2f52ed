//! Rates, exact: what comes out of every kind of limit, for frames of all lengths and for packets that stand for many, under a
//! clock that the test moves. What is measured in real time is in `bench/`.

mod common;

use common::*;
use datapath::packet::{Checksum, Gso, GsoKind, Offload};
use datapath::*;
use openflow::*;
use std::time::Duration;

/// Rates in kbit/s: 1 Mbit/s to 10 Gbit/s.
const RATES: [u32; 5] = [1_000, 10_000, 200_000, 1_000_000, 10_000_000];
/// Frames that pass while a rate is measured, at most: slow rates are measured for the ten seconds that they are asked to be
/// right for, fast ones for less.
const FRAMES: u64 = 500;
/// Steps of the clock in that time.
const STEPS: u64 = 16;
/// How far a rate may be off.
const TOLERANCE: f64 = 0.01;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    /// UDP in frames of so many bytes.
    Udp(usize),
    /// TCP as the stack of a guest hands it over: 64 KB in segments of 1448 bytes.
    Tso,
}

const TRAFFIC: [Traffic; 4] = [
    Traffic::Udp(64),
    Traffic::Udp(512),
    Traffic::Udp(1500),
    Traffic::Tso,
];

impl Traffic {
    fn packet(self, dst: [u8; 6]) -> (Vec<u8>, Offload) {
        let (mut frame, offload) = match self {
            Traffic::Udp(len) => {
                let mut f = udp(1, 2);
                f.resize(len, 0xee);
                let ip = (len - 14) as u16;
                f[16..18].copy_from_slice(&ip.to_be_bytes());
                f[38..40].copy_from_slice(&(ip - 20).to_be_bytes());
                (f, Offload::default())
            }
            Traffic::Tso => tso(64_000, 1448),
        };
        frame[..6].copy_from_slice(&dst);
        (frame, offload)
    }

    /// Frames, and bits of them, that one packet stands for on the wire: counted apart from the datapath.
    fn on_wire(self) -> (u64, u64) {
        match self {
            Traffic::Udp(len) => (1, len as u64 * 8),
            Traffic::Tso => segments(64_054),
        }
    }
}

/// Of a frame of so many bytes that is cut into segments.
fn segments(len: u64) -> (u64, u64) {
    let frames = (len - 54).div_ceil(1448);
    (frames, (len - 54 + frames * 54) * 8)
}

const BROADCAST: [u8; 6] = [0xff; 6];
const MULTICAST: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 99];

/// What came out of port 2.
#[derive(Clone, Copy, Default)]
struct Out {
    frames: u64,
    bits: u64,
}

fn taken(t: &Switch) -> Out {
    let mut out = Out::default();
    for f in t.port(2).unwrap().take_sent() {
        let len = f.bytes.len() as u64;
        let (frames, bits) = match f.offload.is_gso() {
            true => segments(len),
            false => (1, len * 8),
        };
        out.frames += frames;
        out.bits += bits;
    }
    out
}

fn offer(t: &Switch, packets: u64, packet: &(Vec<u8>, Offload)) -> Out {
    let port = t.port(1).unwrap();
    let mut out = Out::default();
    let mut left = packets;
    while left > 0 {
        // No more than a dummy port keeps of what was sent.
        let n = left.min(64);
        for _ in 0..n {
            assert!(port.inject(&packet.0, packet.1));
        }
        t.dp.settle();
        let o = taken(t);
        out.frames += o.frames;
        out.bits += o.bits;
        left -= n;
    }
    out
}

/// A switch of two ports that floods, with these limits on port 1, its buckets emptied.
fn limited(change: impl FnOnce(&mut PortSpec), packet: &(Vec<u8>, Offload)) -> Switch {
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    let mut spec = t.spec("1", VlanConfig::default());
    change(&mut spec);
    t.dp.set_port(t.br, PortNo(1), spec).unwrap();
    while offer(&t, 64, packet).frames > 0 {}
    t
}

/// How much of a rate (bits or packets a second, by `bits`) is waited for.
fn amount(traffic: Traffic, rate: u64, bits: bool) -> u64 {
    let (frames, all) = traffic.on_wire();
    let frame = if bits { all / frames } else { 1 };
    (rate * 10).min(FRAMES * frame)
}

/// Offers half as much again as `rate` for a while; what passed a second.
fn measure(
    t: &Switch,
    traffic: Traffic,
    packet: &(Vec<u8>, Offload),
    rate: u64,
    bits: bool,
) -> f64 {
    let (frames, all) = traffic.on_wire();
    let each = if bits { all } else { frames };
    let nanos = u128::from(amount(traffic, rate, bits)) * 1_000_000_000 / u128::from(rate);
    let step = nanos as u64 / STEPS;
    let offered = |n: u64| {
        let nanos = u128::from(step * n);
        (nanos * u128::from(rate) * 3 / 2 / 1_000_000_000) as u64 / each
    };
    let mut out = Out::default();
    for n in 1..=STEPS {
        t.dp.clock().warp(Duration::from_nanos(step));
        let o = offer(t, offered(n) - offered(n - 1) + 1, packet);
        out.frames += o.frames;
        out.bits += o.bits;
    }
    let passed = if bits { out.bits } else { out.frames };
    passed as f64 * 1e9 / (step * STEPS) as f64
}

fn expect(what: &str, traffic: Traffic, rate: u64, measured: f64) {
    let off = measured / rate as f64 - 1.0;
    assert!(
        off.abs() < TOLERANCE,
        "{what} {traffic:?} at {rate}/s: {measured:.0}/s, off by {:.2}%",
        off * 100.0
    );
}

/// With a burst of half of what is waited for.
fn in_bits(kbps: u32, traffic: Traffic) -> RateSpec {
    let rate = u64::from(kbps) * 1000;
    RateSpec {
        kbps,
        kbits: (amount(traffic, rate, true) / 2000) as u32,
        ..RateSpec::default()
    }
}

#[test]
fn policers_pass_their_rate_of_bits() {
    for kbps in RATES {
        for traffic in TRAFFIC {
            let packet = traffic.packet(NOBODY);
            let t = limited(|s| s.policing = in_bits(kbps, traffic), &packet);
            let rate = u64::from(kbps) * 1000;
            let measured = measure(&t, traffic, &packet, rate, true);
            expect("policing", traffic, rate, measured);
        }
    }
}

#[test]
fn policers_pass_their_rate_of_packets() {
    for pps in [1_000, 100_000, 10_000_000] {
        for traffic in TRAFFIC {
            let packet = traffic.packet(NOBODY);
            let spec = RateSpec {
                pps,
                packets: (amount(traffic, pps.into(), false) / 2) as u32,
                ..RateSpec::default()
            };
            let t = limited(|s| s.policing = spec, &packet);
            let measured = measure(&t, traffic, &packet, pps.into(), false);
            expect("policing of packets", traffic, pps.into(), measured);
        }
    }
}

#[test]
fn storm_control_passes_its_rates() {
    for kbps in RATES {
        for traffic in TRAFFIC {
            for (dst, what) in [
                (BROADCAST, "broadcast"),
                (MULTICAST, "multicast"),
                (NOBODY, "unknown unicast"),
            ] {
                let packet = traffic.packet(dst);
                let t = limited(
                    |s| match dst {
                        BROADCAST => s.storm.broadcast = in_bits(kbps, traffic),
                        MULTICAST => s.storm.multicast = in_bits(kbps, traffic),
                        _ => s.storm.unknown_unicast = in_bits(kbps, traffic),
                    },
                    &packet,
                );
                let rate = u64::from(kbps) * 1000;
                let measured = measure(&t, traffic, &packet, rate, true);
                expect(what, traffic, rate, measured);
            }
        }
    }
}

#[test]
fn a_burst_passes_at_once_and_no_more_than_a_frame_beyond() {
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    for (kbits, traffic) in [
        (200, Traffic::Udp(1500)),
        (200, Traffic::Tso),
        (1, Traffic::Udp(1500)),
    ] {
        let mut spec = t.spec("1", VlanConfig::default());
        t.dp.set_port(t.br, PortNo(1), spec.clone()).unwrap();
        spec.policing = RateSpec {
            kbps: 20_000,
            kbits,
            ..RateSpec::default()
        };
        t.dp.set_port(t.br, PortNo(1), spec.clone()).unwrap();
        let packet = traffic.packet(NOBODY);
        let burst = u64::from(kbits) * 1000;
        let out = offer(&t, 64, &packet);
        assert!((burst..burst + 12_112).contains(&out.bits), "{}", out.bits);
        // Changed while it is empty it gives no second burst, and goes on at the new rate.
        spec.policing.kbps = 5_000;
        t.dp.set_port(t.br, PortNo(1), spec).unwrap();
        assert_eq!(offer(&t, 10, &packet).frames, 0);
        t.dp.clock().warp(Duration::from_millis(100));
        let out = offer(&t, 64, &packet);
        let due = 500_000.min(burst);
        assert!(out.bits <= due + 12_112 && out.bits + 12_112 >= due);
    }
}

#[test]
fn what_one_bucket_refuses_costs_the_other_nothing() {
    let packet = Traffic::Udp(1500).packet(NOBODY);
    // A thousand packets a second are 12 Mbit/s of the 100.
    let spec = RateSpec {
        kbps: 100_000,
        kbits: 2_000,
        pps: 1_000,
        packets: 10,
    };
    let t = limited(|s| s.policing = spec, &packet);
    t.dp.clock().warp(Duration::from_millis(10));
    assert_eq!(offer(&t, 600, &packet).frames, 10);
    let mut spec = t.spec("1", VlanConfig::default());
    spec.policing = RateSpec {
        kbps: 100_000,
        kbits: 2_000,
        ..RateSpec::default()
    };
    t.dp.set_port(t.br, PortNo(1), spec).unwrap();
    // All that was filled in and not used by those ten is there.
    let left = offer(&t, 600, &packet).bits;
    assert!((1_880_000..1_893_000).contains(&left), "{left}");
}

#[test]
fn drops_are_counted_in_frames_with_their_reason() {
    let packet = Traffic::Tso.packet(BROADCAST);
    let t = Switch::new(3);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    for port in [2, 3] {
        t.port(port).unwrap().set_plain(true);
    }
    let mut spec = t.spec("1", VlanConfig::default());
    spec.storm.broadcast = RateSpec {
        pps: 10,
        packets: 10,
        ..RateSpec::default()
    };
    spec.storm.unknown_unicast = RateSpec {
        pps: 1,
        packets: 4,
        ..RateSpec::default()
    };
    t.dp.set_port(t.br, PortNo(1), spec.clone()).unwrap();
    t.send_with(1, &packet.0, packet.1);
    // Ten segments to each of two ports, the first ones; the others are told of.
    let sent = t.sent();
    assert_eq!(sent.len(), 20);
    assert_eq!(sent[9].1[54..64], packet.0[54 + 9 * 1448..64 + 9 * 1448]);
    t.send_with(1, &packet.0, packet.1);
    let drops = |t: &Switch| t.dp.drop_stats(t.br, Some(PortNo(1)));
    assert_eq!(drops(&t)["storm_broadcast"], 2 * 45 - 10);
    let stats = t.dp.port_stats(t.br, PortNo(1)).unwrap();
    assert_eq!((stats.rx_packets, stats.rx_dropped), (1, 80));
    let extra = t.dp.port_extra_stats(t.br, PortNo(1));
    assert_eq!(extra["storm_broadcast_drops"], 80);
    assert_eq!(extra["storm_unknown_unicast_drops"], 0);
    assert!(!extra.contains_key("ovs_rx_qos_drops"));
    // Unknown unicast: counted once, however many ports it would go out of; known unicast and other kinds pass.
    let packet = Traffic::Tso.packet(NOBODY);
    t.send_with(1, &packet.0, packet.1);
    assert_eq!(t.sent().len(), 8);
    let unicast = Traffic::Udp(64).packet(NOBODY);
    t.send(1, &unicast.0);
    assert_eq!(t.sent().len(), 0);
    let extra = t.dp.port_extra_stats(t.br, PortNo(1));
    assert_eq!(extra["storm_unknown_unicast_drops"], 42);
    assert_eq!(drops(&t)["storm_unknown_unicast"], 42);
    let multicast = Traffic::Udp(64).packet(MULTICAST);
    t.send(1, &multicast.0);
    assert_eq!(t.sent().len(), 2);
    let mut answer = unicast.0.clone();
    answer[6..12].copy_from_slice(&NOBODY);
    t.send(2, &answer);
    t.sent();
    t.send(1, &unicast.0);
    assert_eq!(t.sent().len(), 1, "known by now");
    // Taken away, nothing is limited.
    spec.storm = StormSpec::default();
    t.dp.set_port(t.br, PortNo(1), spec).unwrap();
    let packet = Traffic::Udp(64).packet(BROADCAST);
    for _ in 0..20 {
        t.send(1, &packet.0);
    }
    assert_eq!(t.sent().len(), 40);
}

#[test]
fn what_is_over_the_limit_of_flooding_goes_on_with_other_actions() {
    let t = Switch::new(3);
    let output = |p: PortNo| Action::Output {
        port: p,
        max_len: 0xffff,
    };
    // Tagged for NORMAL alone: what is behind finds the packet as it was.
    let actions = vec![output(PortNo::NORMAL), output(PortNo(3))];
    t.flow(FlowMod::add(Match::new(), Instructions::apply(actions)));
    let mut spec = t.spec("1", VlanConfig::default());
    spec.storm.unknown_unicast = RateSpec {
        pps: 1,
        packets: 1,
        ..RateSpec::default()
    };
    t.dp.set_port(t.br, PortNo(1), spec).unwrap();
    let vlan = VlanConfig {
        mode: VlanMode::Access,
        tag: Some(0),
        ..VlanConfig::default()
    };
    let other = t.spec("2", vlan);
    t.dp.set_port(t.br, PortNo(2), other).unwrap();
    let frame = Traffic::Udp(64).packet(NOBODY).0;
    t.send(1, &frame);
    assert_eq!(
        t.sent(),
        [(2, frame.clone()), (3, frame.clone()), (3, frame.clone())]
    );
    t.send(1, &frame);
    assert_eq!(t.sent(), [(3, frame)]);
}

#[test]
fn patch_ports_have_limits_too() {
    let t = Switch::new(2);
    let other = t.dp.add_bridge("br1", BridgeConfig::default()).unwrap();
    let patch = |name: &str, peer: &str| {
        let mut spec = t.spec(name, VlanConfig::default());
        spec.interface.kind = "patch".into();
        spec.interface.options.insert("peer".into(), t.name(peer));
        spec
    };
    let here = t.dp.add_port(t.br, patch("a", "b")).unwrap();
    let mut spec = patch("b", "a");
    spec.policing = RateSpec {
        pps: 100,
        packets: 3,
        ..RateSpec::default()
    };
    spec.storm.broadcast = RateSpec {
        pps: 10,
        packets: 1,
        ..RateSpec::default()
    };
    let there = t.dp.add_port(other, spec).unwrap();
    let end = t.dp.add_port(other, t.spec("2b", VlanConfig::default()));
    let end = end.unwrap();
    t.flow(FlowMod::add(Match::new(), out(here)));
    t.dp.flow_mod(other, &FlowMod::add(Match::new(), out(end)))
        .unwrap();
    let came = || {
        let port = datapath::port::dummy::handle(&t.name("2b")).unwrap();
        port.take_sent().len()
    };
    for dst in [BROADCAST, NOBODY] {
        let frame = Traffic::Udp(64).packet(dst).0;
        for _ in 0..4 {
            t.send(1, &frame);
        }
    }
    assert_eq!(came(), 3);
    let extra = t.dp.port_extra_stats(other, there);
    assert_eq!(
        (extra["storm_broadcast_drops"], extra["ovs_rx_qos_drops"]),
        (3, 2)
    );
}

#[test]
fn a_large_packet_that_is_not_made_like_one_passes_whole_or_not_at_all() {
    let (mut frame, _) = Traffic::Tso.packet(BROADCAST);
    frame[12] = 0x12;
    let offload = Offload {
        checksum: Checksum::Needed {
            start: 34,
            offset: 16,
        },
        gso: Gso {
            kind: GsoKind::Tcp4,
            ecn: false,
            size: 1448,
            header_len: 54,
        },
    };
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    let mut spec = t.spec("1", VlanConfig::default());
    spec.policing = RateSpec {
        pps: 10,
        packets: 50,
        ..RateSpec::default()
    };
    t.dp.set_port(t.br, PortNo(1), spec).unwrap();
    for passed in [1, 0] {
        t.send_with(1, &frame, offload);
        assert_eq!(t.sent().len(), passed);
    }
}
