//! Packets that are longer than a tunnel's way out carries: never silently lost.
//!
//! What is done with a packet is decided by [`fit`], before its headers are put on:
//!
//! - If the outer packet may be fragmented (`df_default=false`), it is: by the kernel behind a socket, by [`fragments`] on a
//!   bridge.
//! - TCP that a guest left to us to cut is cut into segments that fit. That is no fragmentation: where TCP's segments end is of
//!   no meaning, and whoever leaves the cutting to others expects them to know how.
//! - An IPv4 packet that may be fragmented is fragmented *inside*, as a router does (RFC 791 2.3): its receiver puts it together.
//! - Any other IP packet is answered to its sender, who learns the MTU (RFC 1191, RFC 8201); the packet is dropped and counted
//!   (`tunnel_mtu`). The answer seems to come from the packet's destination, since a switch has no address; answers are bounded by
//!   [`Limiter`].
//! - What is no IP is dropped and counted.
//!
//! What a way carries is the MTU of the route's interface, or less if the host has learned that from a router on the path: then
//! the socket refuses a packet, and `refused` asks the kernel what it would take.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use super::encap::Encap;
use super::outer::{self, Ip, TYPE_IPV4, TYPE_IPV6, long, put, put_long, v4, v6, word};
use crate::packet::{Batch, GsoKind, OwnedPacket, Packet, checksum};
use crate::sys::datagram;

/// What is to be done with a packet for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It may go. A large one is cut before, as it says itself.
    Fits,
    /// It is cut into segments of so many bytes of payload.
    Cut(u16),
    /// It is fragmented inside (large UDP: each of its datagrams): its network layer may have so many bytes.
    Fragment(u16),
    /// Its sender is told that its network layer may have so many bytes, and it is dropped.
    Answer(u16),
    /// It is dropped: nobody could be told.
    Drop,
}

/// Smallest MTU of IPv4 (RFC 791 3.2).
const MTU_MIN_V4: usize = 68;
/// Smallest MTU of IPv6 (RFC 8200 5).
const MTU_MIN_V6: usize = 1280;

/// Decides about a packet whose header offsets are known, before `encap` is put before it.
#[inline]
pub fn fit(p: &Packet, encap: &Encap) -> Fit {
    let mut mtu = encap.mtu();
    if LEARNED_ANY.load(Ordering::Relaxed)
        && let Some(learned) = learned(encap.destination())
    {
        mtu = if mtu == 0 { learned } else { mtu.min(learned) };
    }
    if mtu == 0 {
        return Fit::Fits;
    }
    // The longest frame that fits.
    let room = (mtu as usize).saturating_sub(encap.overhead());
    if p.len() <= room && !p.offload.is_gso() {
        return Fit::Fits;
    }
    fit_long(p, room, encap.forbids_fragments())
}

#[inline(never)]
fn fit_long(p: &Packet, room: usize, df: bool) -> Fit {
    let header = p.offload.is_gso().then(|| large_header(p)).flatten();
    let len = header.map_or(p.len(), |h| {
        p.len().min(h + usize::from(p.offload.gso.size))
    });
    if len <= room || !df {
        return Fit::Fits;
    }
    if let Some(header) = header
        && p.offload.gso.kind != GsoKind::Udp
    {
        return match room.checked_sub(header) {
            Some(size) if size > 0 => Fit::Cut(size as u16),
            _ => Fit::Drop,
        };
    }
    let l3 = usize::from(p.layers.l3);
    if l3 < outer::ETHERNET || p.head().len() < l3 {
        return Fit::Drop;
    }
    let ip = &p.head()[l3..];
    let inner = room.saturating_sub(l3);
    match word(p.head(), l3 - 2) {
        TYPE_IPV4 if ip.len() >= outer::IPV4 => {
            let told = inner.max(MTU_MIN_V4) as u16;
            let whole = word(ip, v4::FRAGMENT.start) & v4::DF == 0;
            if whole && inner >= MTU_MIN_V4 {
                Fit::Fragment(inner as u16)
            } else {
                Fit::Answer(told)
            }
        }
        TYPE_IPV6 if ip.len() >= outer::IPV6 => Fit::Answer(inner.max(MTU_MIN_V6) as u16),
        _ => Fit::Drop,
    }
}

/// Bytes of the headers that each segment of a large packet has.
fn large_header(p: &Packet) -> Option<usize> {
    let crate::packet::Checksum::Needed { start, .. } = p.offload.checksum else {
        return None;
    };
    let l4 = usize::from(start);
    match p.offload.gso.kind {
        GsoKind::Udp => Some(l4 + outer::UDP),
        _ => Some(l4 + usize::from(*p.head().get(l4 + 12)? >> 4) * 4),
    }
}

/// Answers in a second, and in a row, of one forwarding thread. Senders need one for each destination; a flood of answers would be
/// an amplifier.
pub const ANSWERS_PER_SECOND: u64 = 1000;
/// Answers in a row.
pub const ANSWERS_BURST: u64 = 100;

/// Bounds answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    /// When the bucket was empty last, as if it had been filled since: nanoseconds.
    empty: u64,
}

impl Limiter {
    /// Whether there may be another one at `now`, nanoseconds.
    pub fn allow(&mut self, now: u64) -> bool {
        const EACH: u64 = 1_000_000_000 / ANSWERS_PER_SECOND;
        let oldest = now.saturating_sub(EACH * ANSWERS_BURST);
        let empty = self.empty.max(oldest);
        if now < empty + EACH && now >= EACH {
            return false;
        }
        self.empty = empty + EACH;
        true
    }
}

/// Bytes of a packet that an answer can quote, with its Ethernet header.
const QUOTED: usize = MTU_MIN_V6 + outer::ETHERNET + 8;
/// Longest answer to an IPv4 packet (RFC 1812 4.3.2.3).
const ANSWER_V4: usize = 576;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// Bytes of an ICMP message before what it quotes.
const ICMP_LEN: usize = 8;

/// The answer to the sender of packet `i`, whose header offsets are known: that its network layer may have no more than `mtu` bytes.
/// A whole frame, to be sent out of the port that the packet came in by. None if there is to be none (RFC 1122 3.2.2, RFC 4443 2.4 e):
/// to errors, fragments, and what is not from one host to one host.
pub fn answer(batch: &Batch, i: usize, mtu: u16) -> Option<OwnedPacket> {
    let l3 = usize::from(batch.packet(i).layers.l3);
    let mut copy = [0; QUOTED];
    let n = batch.copy_out(i, 0, &mut copy);
    let frame = &copy[..n];
    // Both Ethernet addresses are of one host.
    if l3 < outer::ETHERNET || n < l3 || (frame[0] | frame[6]) & 1 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(QUOTED);
    bytes.extend_from_slice(&frame[6..12]);
    bytes.extend_from_slice(&frame[..6]);
    bytes.extend_from_slice(&frame[12..l3]);
    match word(frame, l3 - 2) {
        TYPE_IPV4 => answer_v4(&frame[l3..], mtu, &mut bytes)?,
        TYPE_IPV6 => answer_v6(&frame[l3..], mtu, &mut bytes)?,
        _ => return None,
    }
    Some(OwnedPacket::new(bytes))
}

/// "Destination unreachable: fragmentation needed and DF set" (RFC 792, RFC 1191 4).
fn answer_v4(packet: &[u8], mtu: u16, out: &mut Vec<u8>) -> Option<()> {
    let header = usize::from(packet.first()? & 15) * 4;
    if header < outer::IPV4 || packet.len() < header + 8 {
        return None;
    }
    let address = |at: usize| std::net::Ipv4Addr::from(long(packet, at));
    let (src, dst) = (address(v4::SRC.start), address(v4::DST.start));
    let is_host = |a: std::net::Ipv4Addr| {
        !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast() && !a.is_loopback()
    };
    let is_error = packet[v4::PROTOCOL] == ICMP && matches!(packet[header], 3 | 4 | 5 | 11 | 12);
    let is_later = word(packet, v4::FRAGMENT.start) & 0x1fff != 0;
    if !is_host(src) || !is_host(dst) || is_error || is_later {
        return None;
    }
    let total = usize::from(word(packet, v4::TOTAL.start)).min(packet.len());
    let quoted = &packet[..total.min(ANSWER_V4 - outer::IPV4 - ICMP_LEN)];
    let ip = Ip {
        src: dst.into(),
        dst: src.into(),
        // "Internetwork control" (RFC 1812 4.3.2.5).
        tos: 0xc0,
        ttl: 64,
        df: false,
        protocol: ICMP,
        payload: ICMP_LEN + quoted.len(),
    };
    let at = out.len();
    out.resize(at + outer::IPV4 + ICMP_LEN, 0);
    ip.emit(0, &mut out[at..]);
    let icmp = at + outer::IPV4;
    out[icmp..icmp + 2].copy_from_slice(&[3, 4]);
    put(out, icmp + 6, mtu);
    out.extend_from_slice(quoted);
    let sum = checksum::of(&out[icmp..]);
    put(out, icmp + 2, sum);
    Some(())
}

/// "Packet too big" (RFC 4443 3.2).
fn answer_v6(packet: &[u8], mtu: u16, out: &mut Vec<u8>) -> Option<()> {
    let ip = Ip::parse(packet, usize::MAX, true).ok()?;
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip.src, ip.dst) else {
        return None;
    };
    let is_host =
        |a: std::net::Ipv6Addr| !a.is_unspecified() && !a.is_multicast() && !a.is_loopback();
    let is_error = ip.protocol == ICMP_V6 && packet.get(outer::IPV6).is_none_or(|t| *t < 128);
    if !is_host(src) || !is_host(dst) || is_error {
        return None;
    }
    let quoted = &packet[..packet.len().min(MTU_MIN_V6 - outer::IPV6 - ICMP_LEN)];
    let ip = Ip {
        src: ip.dst,
        dst: ip.src,
        tos: 0,
        ttl: 64,
        df: true,
        protocol: ICMP_V6,
        payload: ICMP_LEN + quoted.len(),
    };
    let at = out.len();
    out.resize(at + outer::IPV6 + ICMP_LEN, 0);
    ip.emit(0, &mut out[at..]);
    let icmp = at + outer::IPV6;
    out[icmp] = 2;
    put_long(out, icmp + 4, mtu.into());
    out.extend_from_slice(quoted);
    let sum = ip.pseudo(ip.payload);
    let sum = !checksum::fold(checksum::add(sum, &out[icmp..]));
    put(out, icmp + 2, sum);
    Some(())
}

/// The fragments of a frame whose IP header is at `l3`, each with a network layer of no more than `mtu` bytes; the frame itself if that
/// is short enough, nothing if it cannot be. Nothing is left to do about its checksum. IPv6 packets get a fragment header
/// (RFC 8200 4.5): only their source may do that, which for outer packets are we.
pub fn fragments(frame: &[u8], l3: usize, mtu: usize) -> Vec<OwnedPacket> {
    let Some(packet) = frame.get(l3..) else {
        return Vec::new();
    };
    if packet.len() <= mtu {
        return vec![OwnedPacket::new(frame)];
    }
    match packet.first().map(|b| b >> 4) {
        Some(4) => fragments_v4(frame, l3, mtu),
        Some(6) => fragments_v6(frame, l3, mtu),
        _ => Vec::new(),
    }
}

fn fragments_v4(frame: &[u8], l3: usize, mtu: usize) -> Vec<OwnedPacket> {
    let packet = &frame[l3..];
    let header = usize::from(packet[v4::VERSION] & 15) * 4;
    let size = mtu.saturating_sub(header) & !7;
    if header < outer::IPV4 || packet.len() < header || size == 0 {
        return Vec::new();
    }
    let total = usize::from(word(packet, v4::TOTAL.start)).min(packet.len());
    let payload = packet.get(header..total).unwrap_or(&[]);
    let field = word(packet, v4::FRAGMENT.start);
    let mut list = Vec::with_capacity(payload.len().div_ceil(size));
    for (n, part) in payload.chunks(size).enumerate() {
        let mut bytes = frame[..l3 + header].to_vec();
        let h = &mut bytes[l3..];
        if n > 0 {
            drop_options(&mut h[outer::IPV4..]);
        }
        let last = (n + 1) * size >= payload.len();
        let more = if last { field & v4::MF } else { v4::MF };
        let offset = (field & 0x1fff) + (n * size / 8) as u16;
        put(h, v4::TOTAL.start, (header + part.len()) as u16);
        put(h, v4::FRAGMENT.start, field & v4::DF | more | offset);
        put(h, v4::CHECKSUM.start, 0);
        let sum = checksum::of(h);
        put(h, v4::CHECKSUM.start, sum);
        bytes.extend_from_slice(part);
        list.push(OwnedPacket::new(bytes));
    }
    list
}

/// Options that only the first fragment has become "no operation" (RFC 791 3.1).
fn drop_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            0 => return,
            1 => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)),
        };
        let Some(option) = options.get_mut(at..at + len.max(1)) else {
            return;
        };
        if kind & 0x80 == 0 {
            option.fill(1);
        }
        at += len.max(1);
    }
}

/// IP's number of the fragment header.
const FRAGMENT: u8 = 44;

/// Identifications of the IPv6 packets that are fragmented here: no two soon after each other have the same.
static IDENTIFICATION: AtomicU32 = AtomicU32::new(1);

fn fragments_v6(frame: &[u8], l3: usize, mtu: usize) -> Vec<OwnedPacket> {
    let id = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
    let packet = &frame[l3..];
    let size = mtu.saturating_sub(outer::IPV6 + 8) & !7;
    if packet.len() < outer::IPV6 || size == 0 {
        return Vec::new();
    }
    let total = outer::IPV6 + usize::from(word(packet, v6::PAYLOAD.start));
    let payload = packet
        .get(outer::IPV6..total.min(packet.len()))
        .unwrap_or(&[]);
    let mut list = Vec::with_capacity(payload.len().div_ceil(size));
    for (n, part) in payload.chunks(size).enumerate() {
        let mut bytes = frame[..l3 + outer::IPV6].to_vec();
        let h = &mut bytes[l3..];
        let more = u16::from((n + 1) * size < payload.len());
        put(h, v6::PAYLOAD.start, (8 + part.len()) as u16);
        let next = std::mem::replace(&mut h[v6::NEXT], FRAGMENT);
        bytes.extend([next, 0]);
        bytes.extend(((n * size) as u16 | more).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend_from_slice(part);
        list.push(OwnedPacket::new(bytes));
    }
    list
}

/// What paths carry that carry less than their first interface: tag of the address, MTU, when it was learned.
static LEARNED: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// Whether there is any at all.
static LEARNED_ANY: AtomicBool = AtomicBool::new(false);
/// Seconds that it is believed, as by Linux (`net.ipv4.route.mtu_expires`).
const LEARNED_FOR: u16 = 600;
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn place(dst: IpAddr) -> (usize, u64) {
    let bits = match dst {
        IpAddr::V4(a) => u64::from(u32::from(a)),
        IpAddr::V6(a) => {
            let a = u128::from(a);
            (a >> 64) as u64 ^ (a as u64).rotate_left(32)
        }
    };
    let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 56) as usize, hash & 0xffff_ffff)
}

fn seconds() -> u16 {
    START.elapsed().as_secs() as u16
}

/// What the path to an address carries, if less than its interface does.
fn learned(dst: IpAddr) -> Option<u32> {
    let (at, tag) = place(dst);
    let entry = LEARNED[at].load(Ordering::Relaxed);
    let fresh = seconds().wrapping_sub(entry as u16) < LEARNED_FOR;
    (entry >> 32 == tag && entry != 0 && fresh).then_some((entry >> 16) as u32 & 0xffff)
}

/// A socket refused a packet to `dst` with this mark as too long: asks the kernel what the path carries. At most once a second for
/// each place in the table.
pub(crate) fn refused(dst: IpAddr, mark: u32) {
    let (at, tag) = place(dst);
    let entry = LEARNED[at].load(Ordering::Relaxed);
    let now = seconds();
    if entry >> 32 == tag && entry as u16 == now {
        return;
    }
    if let Ok(mtu) = datagram::path_mtu(dst, mark)
        && let Ok(mtu) = u16::try_from(mtu)
    {
        let entry = tag << 32 | u64::from(mtu) << 16 | u64::from(now);
        LEARNED[at].store(entry, Ordering::Relaxed);
        LEARNED_ANY.store(true, Ordering::Relaxed);
    }
}
