//! Anti-spoofing: what is let through, and that the mask of the answer is sound.

use super::tests::{out_of, translate, world};
use super::*;
use crate::action::DpAction;
use crate::bridge::{PortEntry, World};
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS};
use crate::policing::{Guard, Prefix};
use openflow::{FlowMod, MacAddr, Match};
use proptest::prelude::*;
use std::sync::Arc;

/// 02:..:0n.
fn mac(n: u64) -> u128 {
    (0x0200_0000_0000 + n).into()
}

fn v4(n: u128) -> u128 {
    0x0a00_0000 + n
}

fn v6(prefix: u128, n: u128) -> u128 {
    prefix << 112 | n
}

fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix {
        address: address.parse().unwrap(),
        len: len.parse().unwrap(),
    }
}

/// Of host 1, who has 10.0.0.4 to 10.0.0.7 and fd00::4 to fd00::7.
fn guard() -> Guard {
    Guard {
        ingress: true,
        egress: true,
        macs: Some(vec![MacAddr::from_u64(mac(1) as u64)]),
        addresses: Some(vec![prefix("10.0.0.5/30"), prefix("fd00::4/126")]),
    }
}

/// Ports 1 and 2, the first of them guarded. Everything goes from one to the other.
fn guarded(guard: &Guard) -> World {
    let mut flows = Vec::new();
    for (from, to) in [(1, 2), (2, 1)] {
        let m = Match::new().with(openflow::FieldId::InPort, from);
        flows.push(FlowMod::add(m, out_of(to)));
    }
    let mut w = world(&flows);
    let mut port = PortEntry::clone(w.port(0).unwrap());
    port.spec.guard = Some(guard.clone());
    w.ports[0] = Some(Arc::new(port));
    w
}

fn key(port: u32, slots: &[(Slot, u128)]) -> FlowKey {
    let mut k = FlowKey::default();
    k.set(Slot::InPort, (port + 1).into());
    for (slot, value) in slots {
        k.set(*slot, *value);
    }
    k
}

fn verdict(w: &World, port: u32, slots: &[(Slot, u128)]) -> Option<DropReason> {
    let t = translate(w, key(port, slots), port);
    assert_eq!(
        t.drop.is_none(),
        t.actions == [DpAction::Output(1 - port)],
        "{:?}",
        t.actions
    );
    t.drop
}

use Slot::{ArpSha, ArpTha, EthDst, EthSrc, EthType, Ipv6Dst, Ipv6Src, NdTarget};
use Slot::{NwDst, NwFrag, NwProto, NwSrc, TpDst, TpSrc};

const MAC: Option<DropReason> = Some(DropReason::SpoofedMac);
const ADDRESS: Option<DropReason> = Some(DropReason::SpoofedAddress);
const EGRESS: Option<DropReason> = Some(DropReason::GuardEgress);

#[test]
fn what_is_sent_is_from_the_ports_own_addresses() {
    let w = guarded(&guard());
    let sends = |more: &[(Slot, u128)]| {
        let mut slots = vec![(EthSrc, mac(1))];
        slots.extend(more);
        verdict(&w, 0, &slots)
    };
    let ip = (EthType, 0x0800);
    assert_eq!(sends(&[ip, (NwSrc, v4(4))]), None);
    assert_eq!(sends(&[ip, (NwSrc, v4(7))]), None);
    assert_eq!(sends(&[ip, (NwSrc, v4(8))]), ADDRESS);
    assert_eq!(sends(&[ip, (NwSrc, v4(4)), (EthSrc, mac(2))]), MAC);
    // Before there is an address.
    let dhcp = [ip, (NwProto, 17), (TpSrc, 68), (TpDst, 67)];
    assert_eq!(sends(&dhcp), None);
    assert_eq!(sends(&[dhcp[0], dhcp[1], dhcp[2], (TpDst, 68)]), ADDRESS);
    assert_eq!(sends(&[&dhcp[..], &[(NwSrc, v4(8))]].concat()), ADDRESS);
    assert_eq!(sends(&[&dhcp[..], &[(NwFrag, 1)]].concat()), ADDRESS);
    // ARP and RARP name the same addresses, or none yet.
    for ty in [0x0806, 0x8035] {
        let arp = [(EthType, ty), (NwSrc, v4(5)), (ArpSha, mac(1))];
        assert_eq!(sends(&arp), None);
        assert_eq!(sends(&[arp[0], arp[1], (ArpSha, mac(2))]), MAC);
        assert_eq!(sends(&[arp[0], (NwSrc, v4(1)), arp[2]]), ADDRESS);
        assert_eq!(sends(&[arp[0], arp[2]]), None);
    }
    // Others cannot be told from what they carry.
    assert_eq!(sends(&[(EthType, 0x8847)]), ADDRESS);
    let macs = Guard {
        addresses: None,
        ..guard()
    };
    let w = guarded(&macs);
    assert_eq!(verdict(&w, 0, &[(EthSrc, mac(1)), (EthType, 0x8847)]), None);
    // Nothing of which is allowed, rather than everything.
    let none = Guard {
        macs: Some(Vec::new()),
        ..guard()
    };
    assert_eq!(verdict(&guarded(&none), 0, &[(EthSrc, mac(1))]), MAC);
}

#[test]
fn neighbour_discovery_speaks_for_nobody_else() {
    let w = guarded(&guard());
    let sends = |src: u128, more: &[(Slot, u128)]| {
        let mut slots = vec![(EthSrc, mac(1)), (EthType, 0x86dd), (Ipv6Src, src)];
        slots.extend(more);
        verdict(&w, 0, &slots)
    };
    let icmp = |kind| [(NwProto, 58), (TpSrc, kind)];
    let own = v6(0xfd00, 5);
    let other = v6(0xfd00, 8);
    let link_local = v6(0xfe80, 77);
    assert_eq!(sends(own, &[(NwProto, 6)]), None);
    assert_eq!(sends(other, &[(NwProto, 6)]), ADDRESS);
    assert_eq!(sends(link_local, &[(NwProto, 6)]), None);
    assert_eq!(sends(0, &[(NwProto, 6)]), ADDRESS);
    // Routers are listed.
    for kind in [134, 137] {
        assert_eq!(sends(link_local, &icmp(kind)), ADDRESS);
        assert_eq!(sends(own, &icmp(kind)), None);
    }
    // Solicitations without an address, and reports of listeners.
    assert_eq!(sends(0, &icmp(133)), None);
    assert_eq!(sends(0, &icmp(143)), None);
    assert_eq!(sends(0, &icmp(128)), ADDRESS);
    let target = |kind, target| [&icmp(kind)[..], &[(NdTarget, target)]].concat();
    for wanted in [own, link_local] {
        assert_eq!(sends(0, &target(135, wanted)), None);
        assert_eq!(sends(link_local, &target(136, wanted)), None);
    }
    assert_eq!(sends(0, &target(135, other)), ADDRESS);
    assert_eq!(sends(link_local, &target(136, other)), ADDRESS);
    // Whoever has an address may ask for any.
    assert_eq!(sends(own, &target(135, other)), None);
    let option = |kind, slot, mac| [target(kind, own), vec![(slot, mac)]].concat();
    assert_eq!(sends(own, &option(135, ArpSha, mac(1))), None);
    assert_eq!(sends(own, &option(135, ArpSha, mac(2))), MAC);
    assert_eq!(sends(own, &option(136, ArpTha, mac(1))), None);
    assert_eq!(sends(own, &option(136, ArpTha, mac(2))), MAC);
}

#[test]
fn what_is_delivered_is_for_the_port_or_for_all() {
    let w = guarded(&guard());
    let gets = |dst: u128, more: &[(Slot, u128)]| {
        let mut slots = vec![(EthDst, dst)];
        slots.extend(more);
        verdict(&w, 1, &slots)
    };
    assert_eq!(gets(0xffff_ffff_ffff, &[(EthType, 0x0800)]), None);
    assert_eq!(gets(0x0100_5e00_0001, &[]), None);
    assert_eq!(gets(mac(2), &[]), EGRESS);
    let ip = (EthType, 0x0800);
    assert_eq!(gets(mac(1), &[ip, (NwDst, v4(6))]), None);
    assert_eq!(gets(mac(1), &[ip, (NwDst, v4(8))]), EGRESS);
    let offer = [ip, (NwDst, v4(8)), (NwProto, 17), (TpSrc, 67), (TpDst, 68)];
    assert_eq!(gets(mac(1), &offer), None);
    assert_eq!(gets(mac(1), &[(EthType, 0x0806), (NwDst, v4(6))]), None);
    assert_eq!(gets(mac(1), &[(EthType, 0x0806)]), None);
    assert_eq!(gets(mac(1), &[(EthType, 0x0806), (NwDst, v4(8))]), EGRESS);
    let ipv6 = |dst| [(EthType, 0x86dd), (Ipv6Dst, dst)];
    assert_eq!(gets(mac(1), &ipv6(v6(0xfd00, 4))), None);
    assert_eq!(gets(mac(1), &ipv6(v6(0xfe80, 4))), None);
    assert_eq!(gets(mac(1), &ipv6(v6(0xfd00, 9))), EGRESS);
    // Each way alone.
    let mut one = guard();
    one.egress = false;
    assert_eq!(verdict(&guarded(&one), 1, &[(EthDst, mac(2))]), None);
    (one.egress, one.ingress) = (true, false);
    assert_eq!(verdict(&guarded(&one), 0, &[(EthSrc, mac(2))]), None);
}

/// Packets of which about half are right.
fn packets() -> impl Strategy<Value = FlowKey> {
    let macs = || prop_oneof![Just(mac(1)), Just(mac(2)), Just(0), Just(0xffff_ffff_ffff)];
    let v4s = || prop_oneof![4u128..12, Just(0)].prop_map(|n| if n == 0 { 0 } else { v4(n) });
    let v6s = || {
        prop_oneof![
            (4u128..12).prop_map(|n| v6(0xfd00, n)),
            (0u128..3).prop_map(|n| v6(0xfe80, n)),
            Just(0),
            any::<u128>(),
        ]
    };
    let kinds = prop_oneof![
        Just(0x0800u128),
        Just(0x0806),
        Just(0x86dd),
        Just(0x8035),
        Just(0x88cc)
    ];
    let protocols = prop_oneof![Just(6u128), Just(17), Just(58)];
    let ports = || prop_oneof![67u128..69, 128u128..138];
    (
        (macs(), macs(), macs(), macs()),
        (kinds, protocols, 0u128..4, ports(), ports()),
        (v4s(), v4s(), v6s(), v6s(), v6s()),
    )
        .prop_map(|(m, (ty, proto, frag, sp, dp), (a, b, c, d, e))| {
            let mut k = key(0, &[(EthSrc, m.0), (EthDst, m.1), (EthType, ty)]);
            let mut set = |slots: &[(Slot, u128)]| slots.iter().for_each(|(s, v)| k.set(*s, *v));
            match ty {
                0x0800 => set(&[(NwSrc, a), (NwDst, b)]),
                0x86dd => set(&[(Ipv6Src, c), (Ipv6Dst, d), (NdTarget, e)]),
                _ => set(&[(NwSrc, a), (NwDst, b)]),
            }
            set(&[(ArpSha, m.2), (ArpTha, m.3)]);
            set(&[(NwProto, proto), (NwFrag, frag), (TpSrc, sp), (TpDst, dp)]);
            k
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn packets_that_agree_on_the_mask_are_judged_alike(
        packet in packets(), others in proptest::collection::vec(packets(), 20), port in 0u32..2,
    ) {
        let w = guarded(&guard());
        let mut packet = packet;
        packet.set(Slot::InPort, (port + 1).into());
        let t = translate(&w, packet, port);
        for mut other in others {
            for i in 0..PACKET_WORDS {
                other.0[i] = other.0[i] & !t.mask.0[i] | packet.0[i] & t.mask.0[i];
            }
            let o = translate(&w, other, port);
            prop_assert_eq!(&o.actions, &t.actions);
            prop_assert_eq!(o.drop, t.drop);
        }
    }
}
