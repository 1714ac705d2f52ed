//! Datapath actions: what a translation comes down to, and how a packet is changed.
//!
//! Every change keeps the checksums right by the difference alone (RFC 1624), whether the checksum
//! is in the frame or is yet to be filled in by who sends it: then only the pseudo header's sum is
//! there, and only addresses change it. Large (GSO) frames are of the second kind.
//!
//! A change that does not fit the packet (a header cut short) is left out: the flow key of such a
//! packet says as much, and no rule could have asked for it knowingly.

use crate::packet::{Checksum, Packet, checksum};
use openflow::action::PacketInReason;
use openflow::{MacAddr, Match, Slot};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum DpAction {
    /// Out of the port of this index.
    Output(u32),
    /// A tag on; tag protocol 0 is that of the tag last taken off.
    PushVlan {
        /// Tag protocol.
        tpid: u16,
        /// Priority and VLAN.
        tci: u16,
    },
    /// The outer tag off.
    PopVlan,
    /// The outer tag's priority and VLAN.
    SetVlan(u16),
    /// Bits of a header field.
    Set {
        /// Which.
        slot: Slot,
        /// Its new bits.
        value: u128,
        /// Which of its bits.
        mask: u128,
    },
    /// A copy to the controllers.
    PacketIn(Arc<PacketInSpec>),
}

/// What a packet-in tells beside the packet.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketInSpec {
    /// The bridge's number.
    pub bridge: u32,
    /// Why.
    pub reason: PacketInReason,
    /// Table of the rule.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// in_port, metadata, registers.
    pub metadata: Match,
    /// How many bytes are wanted.
    pub max_len: u16,
    /// Which controllers.
    pub controller_id: u16,
    /// Nicira's userdata.
    pub userdata: bytes::Bytes,
    /// The datapath port whose budget pays.
    pub budget: u32,
}

/// Puts a tag on; `false` if there is no room.
pub(crate) fn push_vlan(p: &mut Packet, tpid: u16, tci: u16) -> bool {
    let tpid = match (tpid, p.popped_tpid) {
        (0, 0) => 0x8100,
        (0, popped) => popped,
        (tpid, _) => tpid,
    };
    if p.head().len() < 12 {
        return false;
    }
    let Some(h) = p.push_head(4) else {
        return false;
    };
    h.copy_within(4..16, 0);
    h[12..14].copy_from_slice(&tpid.to_be_bytes());
    h[14..16].copy_from_slice(&(tci & !0x1000).to_be_bytes());
    shift(p, 4);
    true
}

/// Takes the outer tag off, if there is one.
pub(crate) fn pop_vlan(p: &mut Packet) {
    let h = p.head_mut();
    if h.len() < 18 || !matches!(u16::from_be_bytes([h[12], h[13]]), 0x8100 | 0x88a8) {
        return;
    }
    let tpid = u16::from_be_bytes([h[12], h[13]]);
    h.copy_within(0..12, 4);
    p.pull_head(4);
    p.popped_tpid = tpid;
    shift(p, -4);
}

fn shift(p: &mut Packet, n: i16) {
    let l = &mut p.layers;
    for at in [&mut l.eth_type, &mut l.l3, &mut l.l4] {
        if *at != 0 {
            *at = at.wrapping_add_signed(n);
        }
    }
    p.offload.shift(n);
}

/// The outer tag's priority and VLAN.
pub(crate) fn set_vlan(p: &mut Packet, tci: u16) {
    let h = p.head_mut();
    if h.len() >= 18 && matches!(u16::from_be_bytes([h[12], h[13]]), 0x8100 | 0x88a8) {
        h[14..16].copy_from_slice(&(tci & !0x1000).to_be_bytes());
    }
}

/// Where a slot's field lies in a packet of this kind, and its length.
struct Field {
    at: usize,
    len: usize,
    /// Covered by the IPv4 header's checksum.
    ip_sum: bool,
    /// Part of the pseudo header, or of the transport's own bytes.
    l4: Cover,
}

#[derive(Clone, Copy, PartialEq)]
enum Cover {
    No,
    Pseudo,
    Bytes,
}

fn find(p: &Packet, slot: Slot, eth_type: u16) -> Option<Field> {
    let l3 = usize::from(p.layers.l3);
    let l4 = usize::from(p.layers.l4);
    let field = |at, len, ip_sum, l4| {
        Some(Field {
            at,
            len,
            ip_sum,
            l4,
        })
    };
    match (slot, eth_type) {
        (Slot::EthDst, _) => return field(0, 6, false, Cover::No),
        (Slot::EthSrc, _) => return field(6, 6, false, Cover::No),
        _ if l3 == 0 => return None,
        _ => {}
    }
    match (slot, eth_type) {
        (Slot::NwSrc, 0x0800) => field(l3 + 12, 4, true, Cover::Pseudo),
        (Slot::NwDst, 0x0800) => field(l3 + 16, 4, true, Cover::Pseudo),
        (Slot::NwTos, 0x0800) => field(l3 + 1, 1, true, Cover::No),
        (Slot::NwTtl, 0x0800) => field(l3 + 8, 1, true, Cover::No),
        (Slot::Ipv6Src, 0x86dd) => field(l3 + 8, 16, false, Cover::Pseudo),
        (Slot::Ipv6Dst, 0x86dd) => field(l3 + 24, 16, false, Cover::Pseudo),
        (Slot::NwTtl, 0x86dd) => field(l3 + 7, 1, false, Cover::No),
        // Traffic class and label straddle bytes: handled on the first word.
        (Slot::NwTos | Slot::Ipv6Label, 0x86dd) => field(l3, 4, false, Cover::No),
        (Slot::NwSrc, 0x0806 | 0x8035) => field(l3 + 14, 4, false, Cover::No),
        (Slot::NwDst, 0x0806 | 0x8035) => field(l3 + 24, 4, false, Cover::No),
        (Slot::ArpSha, 0x0806 | 0x8035) => field(l3 + 8, 6, false, Cover::No),
        (Slot::ArpTha, 0x0806 | 0x8035) => field(l3 + 18, 6, false, Cover::No),
        (Slot::NwProto, 0x0806 | 0x8035) => field(l3 + 7, 1, false, Cover::No),
        (Slot::TpSrc | Slot::TpDst, 0x0800 | 0x86dd) if l4 != 0 => {
            let second = usize::from(slot == Slot::TpDst);
            match protocol(p, eth_type)? {
                6 | 17 => field(l4 + second * 2, 2, false, Cover::Bytes),
                1 | 58 => field(l4 + second, 1, false, Cover::Bytes),
                _ => None,
            }
        }
        (Slot::NdTarget, 0x86dd) if l4 != 0 => field(l4 + 8, 16, false, Cover::Bytes),
        (Slot::ArpSha, 0x86dd) if l4 != 0 => option(p, l4, 1),
        (Slot::ArpTha, 0x86dd) if l4 != 0 => option(p, l4, 2),
        _ => None,
    }
}

/// The address in a neighbour discovery option.
fn option(p: &Packet, l4: usize, kind: u8) -> Option<Field> {
    let h = p.head();
    let mut at = l4 + 24;
    loop {
        let o = h.get(at..at + 8)?;
        if o[0] == kind && o[1] == 1 {
            return Some(Field {
                at: at + 2,
                len: 6,
                ip_sum: false,
                l4: Cover::Bytes,
            });
        }
        if o[1] == 0 {
            return None;
        }
        at += usize::from(o[1]) * 8;
    }
}

/// The transport protocol of an IP packet whose transport header was found.
fn protocol(p: &Packet, eth_type: u16) -> Option<u8> {
    let h = p.head();
    let l3 = usize::from(p.layers.l3);
    if eth_type == 0x0800 {
        return h.get(l3 + 9).copied();
    }
    let mut next = *h.get(l3 + 6)?;
    let mut at = l3 + 40;
    while at < usize::from(p.layers.l4) {
        let e = h.get(at..at + 2)?;
        at += match next {
            44 => 8,
            51 => (usize::from(e[1]) + 2) * 4,
            _ => (usize::from(e[1]) + 1) * 8,
        };
        next = e[0];
    }
    Some(next)
}

/// Writes bits of a header field.
pub(crate) fn set(p: &mut Packet, slot: Slot, value: u128, mask: u128) {
    let type_at = usize::from(p.layers.eth_type);
    let eth_type = match p.head().get(type_at..type_at + 2) {
        // An LLC/SNAP frame has a length here and its type 8 bytes on.
        Some(b) if b[0] >= 6 => u16::from_be_bytes([b[0], b[1]]),
        Some(_) => match p.head().get(type_at + 8..type_at + 10) {
            Some(b) => u16::from_be_bytes([b[0], b[1]]),
            None => 0,
        },
        None => 0,
    };
    let Some(f) = find(p, slot, eth_type) else {
        return;
    };
    let (value, mask) = match (slot, eth_type) {
        (Slot::NwTos, 0x86dd) => (value << 20, mask << 20),
        _ => (value, mask),
    };
    let Some(bytes) = p.head_mut().get_mut(f.at..f.at + f.len) else {
        return;
    };
    // Checksums are sums of aligned words: widen a single byte to its word.
    let shift = (16 - f.len) * 8;
    let mut old = [0; 16];
    old[16 - f.len..].copy_from_slice(bytes);
    let before = u128::from_be_bytes(old);
    let after = before & !mask | value & mask & (u128::MAX >> shift);
    if before == after {
        return;
    }
    let new = after.to_be_bytes();
    bytes.copy_from_slice(&new[16 - f.len..]);
    if !f.ip_sum && f.l4 == Cover::No {
        return;
    }
    let l3 = usize::from(p.layers.l3);
    let l4 = usize::from(p.layers.l4);
    // The changed bytes at an even offset of the summed header. The IP and transport headers begin
    // at even distance from each other.
    let base = if f.l4 == Cover::Bytes { l4 } else { l3 };
    let odd = (f.at - base) % 2;
    let (from, to) = (16 - f.len, 16);
    let (o, n): (Vec6, Vec6) = (
        Vec6::new(&old[from..to], odd),
        Vec6::new(&new[from..to], odd),
    );
    if f.ip_sum {
        patch(p, l3 + 10, |c| checksum::update(c, o.bytes(), n.bytes()));
    }
    if f.l4 == Cover::No || l4 == 0 {
        return;
    }
    let udp_v4;
    let at = match protocol(p, eth_type) {
        Some(6) => {
            udp_v4 = false;
            l4 + 16
        }
        Some(17) => {
            udp_v4 = eth_type == 0x0800;
            l4 + 6
        }
        Some(58) => {
            udp_v4 = false;
            l4 + 2
        }
        // ICMP has no pseudo header.
        Some(1) if f.l4 == Cover::Bytes => {
            udp_v4 = false;
            l4 + 2
        }
        _ => return,
    };
    if let Checksum::Needed { .. } = p.offload.checksum {
        if f.l4 == Cover::Pseudo {
            patch(p, at, |c| checksum::update_partial(c, o.bytes(), n.bytes()));
        }
        return;
    }
    patch(p, at, |c| {
        if udp_v4 && c == 0 {
            return 0;
        }
        match checksum::update(c, o.bytes(), n.bytes()) {
            0 if udp_v4 || at == l4 + 6 => 0xffff,
            c => c,
        }
    });
}

/// Up to 16 bytes, with a zero before them if they begin at an odd offset and one behind them if
/// they end at one.
struct Vec6 {
    bytes: [u8; 18],
    len: usize,
}

impl Vec6 {
    fn new(b: &[u8], odd: usize) -> Vec6 {
        let mut bytes = [0; 18];
        bytes[odd..odd + b.len()].copy_from_slice(b);
        Vec6 {
            bytes,
            len: (odd + b.len()).next_multiple_of(2),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn patch(p: &mut Packet, at: usize, f: impl FnOnce(u16) -> u16) {
    if let Some(b) = p.head_mut().get_mut(at..at + 2) {
        let c = f(u16::from_be_bytes([b[0], b[1]]));
        b.copy_from_slice(&c.to_be_bytes());
    }
}

/// Actions as text, in the form of `ovs-dpctl dump-flows`. `port` names a port.
pub(crate) fn format(actions: &[DpAction], port: impl Fn(u32) -> String) -> String {
    if actions.is_empty() {
        return "drop".into();
    }
    let mut s = String::new();
    for a in actions {
        if !s.is_empty() {
            s.push(',');
        }
        let _ = match a {
            DpAction::Output(p) => write!(s, "{}", port(*p)),
            DpAction::PushVlan { tpid: 0, tci } | DpAction::PushVlan { tpid: 0x8100, tci } => {
                write!(s, "push_vlan(vid={},pcp={})", tci & 0xfff, tci >> 13)
            }
            DpAction::PushVlan { tpid, tci } => {
                write!(
                    s,
                    "push_vlan(tpid={tpid:#x},vid={},pcp={})",
                    tci & 0xfff,
                    tci >> 13
                )
            }
            DpAction::PopVlan => write!(s, "pop_vlan"),
            DpAction::SetVlan(tci) => {
                write!(s, "set(vlan(vid={},pcp={}))", tci & 0xfff, tci >> 13)
            }
            DpAction::Set { slot, value, mask } => {
                let full = *mask == crate::flow::slot_bits(*slot);
                let (group, name) = names(*slot);
                let v = show(*slot, *value);
                if full {
                    write!(s, "set({group}({name}={v}))")
                } else {
                    write!(s, "set({group}({name}={v}/{}))", show(*slot, *mask))
                }
            }
            DpAction::PacketIn(spec) => write!(
                s,
                "userspace(controller(reason={},max_len={},id={},rule_cookie={:#x}))",
                spec.reason as u8, spec.max_len, spec.controller_id, spec.cookie
            ),
        };
    }
    s
}

fn names(slot: Slot) -> (&'static str, &'static str) {
    match slot {
        Slot::EthSrc => ("eth", "src"),
        Slot::EthDst => ("eth", "dst"),
        Slot::NwSrc => ("ipv4", "src"),
        Slot::NwDst => ("ipv4", "dst"),
        Slot::NwTos => ("ip", "tos"),
        Slot::NwTtl => ("ip", "ttl"),
        Slot::NwProto => ("arp", "op"),
        Slot::TpSrc => ("tp", "src"),
        Slot::TpDst => ("tp", "dst"),
        Slot::Ipv6Src => ("ipv6", "src"),
        Slot::Ipv6Dst => ("ipv6", "dst"),
        Slot::Ipv6Label => ("ipv6", "label"),
        Slot::ArpSha => ("arp", "sha"),
        Slot::ArpTha => ("arp", "tha"),
        Slot::NdTarget => ("nd", "target"),
        _ => ("key", "bits"),
    }
}

fn show(slot: Slot, v: u128) -> String {
    match slot {
        Slot::EthSrc | Slot::EthDst | Slot::ArpSha | Slot::ArpTha => {
            MacAddr::from_u64(v as u64).to_string()
        }
        Slot::NwSrc | Slot::NwDst => Ipv4Addr::from(v as u32).to_string(),
        Slot::Ipv6Src | Slot::Ipv6Dst | Slot::NdTarget => Ipv6Addr::from(v).to_string(),
        Slot::NwTos | Slot::Ipv6Label => format!("{v:#x}"),
        _ => v.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{PACKET_WORDS, extract};
    use crate::packet::{Batch, Offload, OwnedPacket};
    use proptest::prelude::*;

    /// A frame with right checksums.
    fn frame(v6: bool, proto: u8, tag: bool) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if tag {
            f.extend([0x88, 0xa8, 0x20, 7]);
        }
        let l3 = f.len() + 2;
        let payload: Vec<u8> = (0..33).collect();
        let l4_len = payload.len() + if proto == 6 { 20 } else { 8 };
        if v6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, l4_len as u8, proto, 64]);
            f.extend([0x20; 16]);
            f.extend([0x21; 16]);
        } else {
            f.extend([
                8,
                0,
                0x45,
                0,
                0,
                20 + l4_len as u8,
                1,
                2,
                0x40,
                0,
                64,
                proto,
                0,
                0,
            ]);
            f.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            let c = checksum::of(&f[l3..]);
            f[l3 + 10..l3 + 12].copy_from_slice(&c.to_be_bytes());
        }
        let l4 = f.len();
        f.extend([0x30, 0x39, 0, 80]);
        match proto {
            6 => f.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]),
            _ => f.extend([0, l4_len as u8, 0, 0]),
        }
        f.extend(payload);
        let c = l4_checksum(&f, l3, l4, v6, proto);
        let at = l4 + if proto == 6 { 16 } else { 6 };
        f[at..at + 2].copy_from_slice(&c.to_be_bytes());
        f
    }

    fn l4_checksum(f: &[u8], l3: usize, l4: usize, v6: bool, proto: u8) -> u16 {
        let addresses = if v6 {
            &f[l3 + 8..l3 + 40]
        } else {
            &f[l3 + 12..l3 + 20]
        };
        let sum = checksum::pseudo(addresses, proto, f.len() - l4);
        !checksum::fold(checksum::add(sum, &f[l4..]))
    }

    fn change(f: &[u8], offload: Offload, act: impl FnOnce(&mut Packet)) -> OwnedPacket {
        let owned = OwnedPacket {
            bytes: f.to_vec(),
            offload,
        };
        let mut batch = Batch::new();
        // SAFETY: `owned` outlives the batch's use.
        assert!(unsafe { batch.push_borrowed(&owned) });
        extract(batch.packet_mut(0), 1, &mut [0; PACKET_WORDS]);
        act(batch.packet_mut(0));
        batch.to_owned(0)
    }

    proptest! {
        #[test]
        fn checksums_stay_right(v6 in any::<bool>(), tcp in any::<bool>(), tag in any::<bool>(), value in any::<u128>(), mask in any::<u128>(), which in 0usize..6) {
            let proto = if tcp { 6 } else { 17 };
            let f = frame(v6, proto, tag);
            let slot = if v6 {
                [Slot::Ipv6Src, Slot::Ipv6Dst, Slot::NwTos, Slot::NwTtl, Slot::TpSrc, Slot::TpDst][which]
            } else {
                [Slot::NwSrc, Slot::NwDst, Slot::NwTos, Slot::NwTtl, Slot::TpSrc, Slot::TpDst][which]
            };
            let mask = mask & crate::flow::slot_bits(slot);
            let out = change(&f, Offload::default(), |p| set(p, slot, value, mask)).bytes;
            let l3 = if tag { 18 } else { 14 };
            let l4 = l3 + if v6 { 40 } else { 20 };
            if !v6 {
                prop_assert_eq!(checksum::fold(checksum::add(0, &out[l3..l4])), 0xffff);
            }
            prop_assert_eq!(l4_checksum(&out, l3, l4, v6, proto), 0);
            // The key of the changed packet has the bits.
            let owned = OwnedPacket::new(out);
            let mut batch = Batch::new();
            // SAFETY: `owned` outlives the batch's use.
            let fits = unsafe { batch.push_borrowed(&owned) };
            prop_assert!(fits);
            let mut words = [0; PACKET_WORDS];
            let n = extract(batch.packet_mut(0), 1, &mut words);
            let key = crate::flow::FlowKey::from_packet(&words, n);
            prop_assert_eq!(key.get(slot) & mask, value & mask);
        }
    }

    #[test]
    fn a_partial_checksum_follows_addresses_only() {
        let mut f = frame(false, 6, false);
        let pseudo = checksum::fold(checksum::pseudo(&f[26..34], 6, f.len() - 34));
        f[50..52].copy_from_slice(&pseudo.to_be_bytes());
        let checksum = Checksum::Needed {
            start: 34,
            offset: 16,
        };
        let offload = Offload {
            checksum,
            ..Offload::default()
        };
        let mut out = change(&f, offload, |p| {
            set(p, Slot::NwDst, 0xc0a8_0101, u32::MAX.into());
            set(p, Slot::TpDst, 8080, 0xffff);
            assert!(push_vlan(p, 0x8100, 0x100a));
        });
        let Checksum::Needed { start, offset } = out.offload.checksum else {
            panic!("offload lost")
        };
        assert_eq!(start, 38);
        assert!(checksum::finish(
            &mut out.bytes,
            start.into(),
            offset.into()
        ));
        assert_eq!(l4_checksum(&out.bytes, 18, 38, false, 6), 0);
    }

    #[test]
    fn a_tag_taken_off_and_put_back_is_the_same_frame() {
        let f = frame(true, 17, true);
        let out = change(&f, Offload::default(), |p| {
            pop_vlan(p);
            assert_eq!(p.layers.l3, 14);
            assert!(push_vlan(p, 0, 0x2007));
        });
        assert_eq!(out.bytes, f);
    }
}
