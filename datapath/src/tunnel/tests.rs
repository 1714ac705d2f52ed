//! Putting on and taking off, all kinds: bytes against hand-made ones, and round trips.

use std::net::IpAddr;
use std::sync::Arc;

use openflow::MacAddr;
use proptest::prelude::*;

use super::decap::{self, OptionBuffer, Popped};
use super::encap::{Encap, EncapError, EncapSpec, Sequence, Stamp};
use super::mtu::{self, Fit};
use super::outer::{self, word};
use super::{TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind, testing};
use crate::action::find_headers;
use crate::drop::DropReason;
use crate::packet::{Batch, Checksum, Gso, GsoKind, Offload, OwnedPacket, checksum, segment};

const KINDS: [TunnelKind; 5] = [
    TunnelKind::Vxlan,
    TunnelKind::Gre,
    TunnelKind::Geneve,
    TunnelKind::Erspan,
    TunnelKind::Gtpu,
];

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn key(v6: bool) -> TunnelKey {
    let (src, dst) = match v6 {
        false => ("192.0.2.1", "192.0.2.2"),
        true => ("2001:db8::1", "2001:db8::2"),
    };
    TunnelKey {
        id: 5,
        src: ip(src),
        dst: ip(dst),
        flags: TUN_DF | TUN_KEY,
        ..testing::key()
    }
}

fn spec(kind: TunnelKind, key: &TunnelKey) -> EncapSpec<'_> {
    EncapSpec {
        kind,
        ethernet: Some((MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]))),
        key,
        options: &[],
        port: kind.udp_port().unwrap_or(0),
        gbp: false,
        layer3: kind == TunnelKind::Gtpu,
        mtu: 1500,
        sequence: None,
    }
}

/// An Ethernet frame with IPv4 and UDP, `len` bytes long, its checksums right.
fn frame(len: usize) -> Vec<u8> {
    let mut f = vec![0; len];
    f[..12].copy_from_slice(&[2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    f[12] = 8;
    let ip = outer::Ip {
        src: ip("10.0.0.1"),
        dst: ip("10.0.0.2"),
        tos: 0,
        ttl: 9,
        df: true,
        protocol: outer::PROTOCOL_UDP,
        payload: len - 34,
    };
    ip.emit(7, &mut f[14..]);
    let udp = outer::Udp {
        src: 1111,
        dst: 2222,
        payload: len - 42,
        checksum: 0,
    };
    udp.emit(&mut f[34..]);
    for (i, b) in f[42..].iter_mut().enumerate() {
        *b = i as u8;
    }
    let sum = !checksum::fold(checksum::add(ip.pseudo(len - 34), &f[34..]));
    f[40..42].copy_from_slice(&sum.to_be_bytes());
    f
}

fn batch_of(packet: &OwnedPacket) -> Batch {
    let mut batch = Batch::new();
    // SAFETY: the tests keep the packet as long as the batch.
    assert!(unsafe { batch.push_borrowed(packet) });
    find_headers(batch.packet_mut(0));
    batch
}

fn pushed(encap: &Encap, packet: &OwnedPacket) -> OwnedPacket {
    let mut batch = batch_of(packet);
    let done = encap.push(&mut batch, 0, &mut Stamp::default());
    assert_eq!(done, Ok(()));
    batch.to_owned(0)
}

fn popped(
    kind: TunnelKind,
    packet: &OwnedPacket,
) -> Result<(Popped, Vec<u8>, OwnedPacket), DropReason> {
    let mut batch = batch_of(packet);
    let mut options = OptionBuffer::default();
    let popped = decap::parse(&batch, 0, kind, 14, &mut options)?;
    popped.take_off(&mut batch, 0)?;
    Ok((popped, options.get().to_vec(), batch.to_owned(0)))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Headers as somebody else would write them, with the IPv4 checksum (looked at here) and the UDP source port zero.
fn assert_header(packet: &OwnedPacket, want: &str, inner: &[u8]) {
    let want = hex(want);
    let mut got = packet.bytes.clone();
    let is_v4 = got[12] == 8;
    if is_v4 {
        assert_eq!(checksum::of(&got[14..34]), 0, "the IPv4 header's checksum");
        got[24..26].fill(0);
    }
    let (protocol, l4) = if is_v4 { (got[23], 34) } else { (got[20], 54) };
    if protocol == outer::PROTOCOL_UDP {
        let port = word(&got, l4);
        assert!((32768..61000).contains(&port), "source port {port}");
        got[l4..l4 + 2].fill(0);
    }
    assert_eq!(got[..want.len()], want);
    assert_eq!(got[want.len()..], *inner);
}

#[test]
fn vxlan_is_rfc_7348s() {
    let f = frame(64);
    let packet = OwnedPacket::new(f.clone());
    let key = TunnelKey {
        tos: 0x28,
        ..key(false)
    };
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    assert_header(
        &pushed(&encap, &packet),
        "020000000002 020000000001 0800
         4528 0064 0000 4000 40 11 0000 c0000201 c0000202
         0000 12b5 0050 0000
         08000000 00000500",
        &f,
    );
    let mut with = spec(TunnelKind::Vxlan, &key);
    let gbp = TunnelKey {
        gbp_id: 0x1234,
        gbp_flags: 0x48,
        ..key
    };
    (with.key, with.gbp) = (&gbp, true);
    let out = pushed(&Encap::new(&with).unwrap(), &packet);
    assert_eq!(out.bytes[42..50], [0x88, 0x48, 0x12, 0x34, 0, 0, 5, 0]);
}

#[test]
fn vxlan_over_ipv6_has_a_checksum() {
    let f = frame(65);
    let key = key(true);
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    let mut out = pushed(&encap, &OwnedPacket::new(f.clone()));
    let (header, l4) = out.bytes.split_at(54);
    let sum = checksum::pseudo(&header[22..54], 17, l4.len());
    assert_eq!(checksum::fold(checksum::add(sum, l4)), 0xffff);
    out.bytes[60..62].fill(0);
    assert_header(
        &out,
        "020000000002 020000000001 86dd
         60000000 0051 11 40 20010db8000000000000000000000001 20010db8000000000000000000000002
         0000 12b5 0051 0000
         08000000 00000500",
        &f,
    );
}

#[test]
fn gre_is_rfc_2890s() {
    let f = frame(64);
    let packet = OwnedPacket::new(f.clone());
    let plain = TunnelKey {
        flags: 0,
        ttl: 3,
        ..key(false)
    };
    let encap = Encap::new(&spec(TunnelKind::Gre, &plain)).unwrap();
    assert_header(
        &pushed(&encap, &packet),
        "020000000002 020000000001 0800
         4500 0058 0000 0000 03 2f 0000 c0000201 c0000202
         0000 6558",
        &f,
    );
    let all = TunnelKey {
        flags: TUN_DF | TUN_KEY | TUN_CSUM,
        ..key(false)
    };
    let mut numbered = spec(TunnelKind::Gre, &all);
    numbered.sequence = Some(Arc::new(Sequence::default()));
    let encap = Encap::new(&numbered).unwrap();
    pushed(&encap, &packet);
    let mut out = pushed(&encap, &packet);
    assert_eq!(checksum::of(&out.bytes[34..]), 0);
    out.bytes[38..40].fill(0);
    assert_header(
        &out,
        "020000000002 020000000001 0800
         4500 0064 0000 4000 40 2f 0000 c0000201 c0000202
         b000 6558 0000 0000 00000005 00000001",
        &f,
    );
}

#[test]
fn bare_packets_in_gre_lose_their_ethernet_header() {
    let f = frame(64);
    let key = key(false);
    let mut with = spec(TunnelKind::Gre, &key);
    with.layer3 = true;
    let encap = Encap::new(&with).unwrap();
    assert_eq!(encap.overhead(), 14);
    let out = pushed(&encap, &OwnedPacket::new(f.clone()));
    assert_header(
        &out,
        "020000000002 020000000001 0800
         4500 004e 0000 4000 40 2f 0000 c0000201 c0000202
         2000 0800 00000005",
        &f[14..],
    );
    let (popped, _, inner) = popped(TunnelKind::Gre, &out).unwrap();
    assert_eq!(popped.layer3, Some(0x0800));
    assert_eq!(inner.bytes[..14], hex("000000000000 000000000000 0800"));
    assert_eq!(inner.bytes[14..], f[14..]);
    // A tag could not be told from a type.
    let mut tagged = f;
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    let tagged = OwnedPacket::new(tagged);
    let refused = encap.push(&mut batch_of(&tagged), 0, &mut Stamp::default());
    assert_eq!(refused, Err(DropReason::PacketType));
}

#[test]
fn geneve_is_rfc_8926s() {
    let f = frame(64);
    let key = TunnelKey {
        flags: TUN_OAM | TUN_KEY,
        ..key(false)
    };
    let mut with = spec(TunnelKind::Geneve, &key);
    with.options = &[1, 2, 0x83, 1, 0xa, 0xb, 0xc, 0xd];
    let encap = Encap::new(&with).unwrap();
    assert_header(
        &pushed(&encap, &OwnedPacket::new(f.clone())),
        "020000000002 020000000001 0800
         4500 006c 0000 0000 40 11 0000 c0000201 c0000202
         0000 17c1 0058 0000
         02c06558 00000500 01028301 0a0b0c0d",
        &f,
    );
}

#[test]
fn erspan_is_the_drafts() {
    let f = frame(64);
    let packet = OwnedPacket::new(f.clone());
    let one = TunnelKey {
        erspan_version: 1,
        erspan_index: 0x12345,
        ..key(false)
    };
    let mut with = spec(TunnelKind::Erspan, &one);
    with.sequence = Some(Arc::new(Sequence::default()));
    assert_header(
        &pushed(&Encap::new(&with).unwrap(), &packet),
        "020000000002 020000000001 0800
         4500 0064 0000 4000 40 2f 0000 c0000201 c0000202
         1000 88be 00000000 10000005 00012345",
        &f,
    );
    let two = TunnelKey {
        erspan_version: 2,
        erspan_direction: 1,
        erspan_hwid: 3,
        ..key(false)
    };
    let encap = Encap::new(&spec(TunnelKind::Erspan, &two)).unwrap();
    let mut batch = batch_of(&packet);
    let mut stamp = Stamp {
        now: 0x0102_0304 * 100_000,
        id: 0,
    };
    encap.push(&mut batch, 0, &mut stamp).unwrap();
    assert_header(
        &batch.to_owned(0),
        "020000000002 020000000001 0800
         4500 0068 0000 4000 40 2f 0000 c0000201 c0000202
         1000 22eb 00000000 20000005 01020304 00000038",
        &f,
    );
}

#[test]
fn gtpu_is_ts_29_281s() {
    let f = frame(64);
    let key = key(false);
    let encap = Encap::new(&spec(TunnelKind::Gtpu, &key)).unwrap();
    let mut out = pushed(&encap, &OwnedPacket::new(f.clone()));
    let sum = checksum::pseudo(&out.bytes[26..34], 17, out.bytes.len() - 34);
    assert_eq!(checksum::fold(checksum::add(sum, &out.bytes[34..])), 0xffff);
    out.bytes[40..42].fill(0);
    assert_header(
        &out,
        "020000000002 020000000001 0800
         4500 0056 0000 4000 40 11 0000 c0000201 c0000202
         0000 0868 0042 0000
         30ff0032 00000005",
        &f[14..],
    );
}

/// The packet with nothing left to do.
fn on_wire(packet: &OwnedPacket) -> OwnedPacket {
    let mut wire = Vec::new();
    let each = |w: &[u8]| wire = w.to_vec();
    let mut bytes = packet.bytes.clone();
    segment::split(&mut bytes, &packet.offload, &mut Vec::new(), each).unwrap();
    OwnedPacket::new(wire)
}

proptest! {
    #[test]
    fn what_is_put_on_comes_off(
        kind in 0..KINDS.len(), v6: bool, csum: bool, df: bool, numbered: bool, with_key: bool, len in 60usize..1500,
        id in 0u64..1 << 10, tos: u8, ttl: u8, words in 0usize..32, needed: bool, two: bool,
    ) {
        let kind = KINDS[kind];
        let flag = |is: bool, flag: u16| if is { flag } else { 0 };
        let mut key = TunnelKey {
            id, tos, ttl,
            flags: flag(csum, TUN_CSUM) | flag(df || v6, TUN_DF) | TUN_KEY,
            ..key(v6)
        };
        if kind == TunnelKind::Gre && !with_key {
            (key.id, key.flags) = (0, key.flags & !TUN_KEY);
        }
        match kind {
            TunnelKind::Erspan if two => (key.erspan_version, key.erspan_hwid) = (2, 9),
            TunnelKind::Erspan => (key.erspan_version, key.erspan_index) = (1, 77),
            TunnelKind::Gtpu => (key.gtpu_flags, key.gtpu_message) = (0x30, 255),
            _ => {}
        }
        let mut options = Vec::new();
        if kind == TunnelKind::Geneve {
            for n in 0..words {
                options.extend([n as u8, 1, 2, 1, 9, 9, 9, n as u8]);
            }
            options.truncate(super::OPTIONS_MAX / 8 * 8);
        }
        let mut with = spec(kind, &key);
        with.options = &options;
        with.sequence = numbered.then(Arc::default);
        let encap = Encap::new(&with).unwrap();
        let bytes = frame(len);
        let mut packet = OwnedPacket::new(bytes.clone());
        if needed {
            // Only the pseudo header's sum is there.
            let sum = checksum::fold(checksum::pseudo(&bytes[26..34], 17, len - 34));
            packet.bytes[40..42].copy_from_slice(&sum.to_be_bytes());
            packet.offload.checksum = Checksum::Needed { start: 34, offset: 6 };
        }
        let mut out = on_wire(&pushed(&encap, &packet));
        prop_assert_eq!(out.bytes.len(), len + encap.overhead() + 14);
        let (popped, seen, inner) = popped(kind, &out).unwrap();
        // Always, over IPv6 and with GTP-U; never, with ERSPAN. IPv6 has no DF to be seen.
        let is_udp = kind.udp_port().is_some();
        let has_csum = kind != TunnelKind::Erspan && (csum || is_udp && v6) || kind == TunnelKind::Gtpu;
        let mut want = key;
        want.flags = want.flags & !TUN_CSUM | flag(has_csum, TUN_CSUM);
        if v6 {
            want.flags &= !TUN_DF;
        }
        if kind == TunnelKind::Gtpu && numbered {
            want.gtpu_flags |= 2;
        }
        prop_assert_eq!(popped.key, want);
        prop_assert_eq!(popped.kind, kind);
        prop_assert_eq!(seen, options);
        let from = if kind == TunnelKind::Gtpu { 14 } else { 0 };
        prop_assert_eq!(&inner.bytes[from..], &bytes[from..]);
        // Padding is no part of it.
        let mut padded = out.clone();
        padded.bytes.extend([7; 9]);
        let (_, _, again) = self::popped(kind, &padded).unwrap();
        prop_assert_eq!(&again.bytes, &inner.bytes);
        // One bit wrong is found where there is a checksum over it.
        if has_csum {
            let last = out.bytes.len() - 1;
            out.bytes[last] ^= 4;
            prop_assert_eq!(self::popped(kind, &out).unwrap_err(), DropReason::TunnelChecksum);
        }
    }

    #[test]
    fn cut_short_anywhere_it_is_refused(kind in 0..KINDS.len(), v6: bool, at in 0usize..100) {
        let kind = KINDS[kind];
        let key = TunnelKey { erspan_version: 1, ..key(v6) };
        let encap = Encap::new(&spec(kind, &key)).unwrap();
        let mut out = pushed(&encap, &OwnedPacket::new(frame(60)));
        let len = out.bytes.len();
        out.bytes.truncate(15 + at * (len - 16) / 100);
        let mut batch = Batch::new();
        // SAFETY: the packet is there as long as the batch.
        let taken = unsafe { batch.push_borrowed(&out) };
        prop_assert!(taken);
        prop_assert!(decap::parse(&batch, 0, kind, 14, &mut OptionBuffer::default()).is_err());
    }
}

#[test]
fn a_connection_has_one_source_port_and_others_have_others() {
    let key = key(false);
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    let port = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut f = frame(100);
        edit(&mut f);
        word(&pushed(&encap, &OwnedPacket::new(f)).bytes, 34)
    };
    let first = port(&|_| {});
    assert_eq!(port(&|f| f[60] ^= 1), first, "the payload is no matter");
    assert_ne!(port(&|f| f[35] ^= 1), first, "the source port is");
    // Fragments of a datagram stay together: the first has ports, the others none.
    let fragment = |f: &mut Vec<u8>, offset: u8, more: u8| (f[20], f[21]) = (more, offset);
    let of_first = port(&|f| fragment(f, 0, 0x20));
    let of_last = port(&|f| {
        fragment(f, 100, 0);
        f[34..60].fill(0xee);
    });
    assert_eq!(of_first, of_last);
    let mut ports: Vec<u16> = (0..64).map(|n| port(&|f| f[37] = n)).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 60, "{} different of 64", ports.len());
}

#[test]
fn keys_and_addresses_must_fit() {
    for (kind, max) in [
        (TunnelKind::Vxlan, 0xff_ffff),
        (TunnelKind::Gre, 0xffff_ffff),
        (TunnelKind::Erspan, 0x3ff),
    ] {
        let with = |id| TunnelKey {
            id,
            erspan_version: 1,
            ..key(false)
        };
        assert!(Encap::new(&spec(kind, &with(max))).is_ok());
        let refused = Encap::new(&spec(kind, &with(max + 1)));
        let key = max + 1;
        assert_eq!(refused, Err(EncapError::Key { key, max, kind }));
    }
    let mixed = TunnelKey {
        dst: ip("::1"),
        ..key(false)
    };
    let refused = Encap::new(&spec(TunnelKind::Gre, &mixed));
    assert!(matches!(refused, Err(EncapError::Families(..))));
    let key = key(false);
    let refused = Encap::new(&spec(TunnelKind::Erspan, &key));
    assert_eq!(refused, Err(EncapError::ErspanVersion(0)));
    let mut with = spec(TunnelKind::Geneve, &key);
    with.options = &[0, 0, 0, 3];
    assert_eq!(Encap::new(&with), Err(EncapError::Options(4)));
}

#[test]
fn packets_that_may_be_fragmented_have_identifications() {
    let key = TunnelKey {
        flags: 0,
        ..key(false)
    };
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    let packet = OwnedPacket::new(frame(64));
    let mut stamp = Stamp { now: 0, id: 0xffff };
    for want in [0xffff, 0, 1] {
        let mut batch = batch_of(&packet);
        encap.push(&mut batch, 0, &mut stamp).unwrap();
        let out = batch.to_owned(0).bytes;
        assert_eq!((word(&out, 18), checksum::of(&out[14..34])), (want, 0));
    }
}

#[test]
fn messages_of_gtpu_about_the_tunnel_stay_as_they_are() {
    let key = TunnelKey {
        gtpu_message: 1,
        ..key(false)
    };
    let encap = Encap::new(&spec(TunnelKind::Gtpu, &key)).unwrap();
    let echo = pushed(&encap, &OwnedPacket::new(frame(60)));
    let (popped, _, inner) = popped(TunnelKind::Gtpu, &echo).unwrap();
    assert_eq!((popped.header_len, popped.key.gtpu_message), (0, 1));
    assert_eq!(inner.bytes, echo.bytes);
}

#[test]
fn an_outer_checksum_left_to_do_is_no_matter_once_it_is_off() {
    let key = key(false);
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    let mut out = pushed(&encap, &OwnedPacket::new(frame(64)));
    out.bytes[40] = 1;
    out.offload.checksum = Checksum::Needed {
        start: 34,
        offset: 6,
    };
    let (_, _, inner) = popped(TunnelKind::Vxlan, &out).unwrap();
    assert_eq!(inner, OwnedPacket::new(frame(64)));
}

/// A large TCP packet, as a guest leaves it.
fn large(payload: usize) -> OwnedPacket {
    let mut bytes = frame(54 + payload);
    bytes[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    bytes[23] = 6;
    bytes[46..50].copy_from_slice(&[0x50, 0x10, 0, 0]);
    bytes[24..26].fill(0);
    let sum = checksum::of(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    let checksum = Checksum::Needed {
        start: 34,
        offset: 16,
    };
    let gso = Gso {
        kind: GsoKind::Tcp4,
        ecn: false,
        size: 1448,
        header_len: 54,
    };
    let offload = Offload { checksum, gso };
    OwnedPacket { bytes, offload }
}

#[test]
fn a_large_packet_leaves_as_frames_that_fit_each_with_its_own_headers() {
    let packet = large(60_000);
    let key = key(true);
    let encap = Encap::new(&spec(TunnelKind::Vxlan, &key)).unwrap();
    let mut batch = batch_of(&packet);
    // A segment of the guest's size would be 54 + 1448 bytes, and 56 more of outer headers.
    let size = 1500 - 56 - 54;
    assert_eq!(mtu::fit(batch.packet(0), &encap), Fit::Cut(size));
    batch.packet_mut(0).offload.gso.size = size;
    let (mut next, mut payload) = (0, Vec::new());
    let (mut pieces, mut stamp) = (Batch::new(), Stamp::default());
    loop {
        // SAFETY: `batch` stays as it is while there are pieces.
        let more = unsafe { segment::cut(&batch, 0, &mut next, &mut pieces) }.unwrap();
        for n in 0..pieces.len() {
            encap.push(&mut pieces, n, &mut stamp).unwrap();
            let wire = on_wire(&pieces.to_owned(n));
            assert!(wire.bytes.len() <= 1514);
            let (_, _, inner) = popped(TunnelKind::Vxlan, &wire).unwrap();
            let sum = checksum::pseudo(&inner.bytes[26..34], 6, inner.bytes.len() - 34);
            let sum = checksum::add(sum, &inner.bytes[34..]);
            assert_eq!(checksum::fold(sum), 0xffff);
            payload.extend_from_slice(&inner.bytes[54..]);
        }
        pieces.clear();
        if !more {
            break;
        }
    }
    assert_eq!(payload, packet.bytes[54..]);
    // Without being cut it is refused.
    let refused = encap.push(&mut batch, 0, &mut stamp);
    assert_eq!(refused, Err(DropReason::TxError));
}

#[test]
fn what_does_not_fit_is_answered_or_fragmented() {
    let df = key(false);
    let fit = |packet: &OwnedPacket, key: &TunnelKey| {
        let encap = Encap::new(&spec(TunnelKind::Vxlan, key)).unwrap();
        mtu::fit(batch_of(packet).packet(0), &encap)
    };
    // 1500 less 20, 8, 8; for the network layer less the inner Ethernet header.
    let long = OwnedPacket::new(frame(1465));
    assert_eq!(fit(&OwnedPacket::new(frame(1464)), &df), Fit::Fits);
    assert_eq!(fit(&long, &df), Fit::Answer(1450));
    let may = TunnelKey {
        flags: TUN_KEY,
        ..df
    };
    assert_eq!(fit(&long, &may), Fit::Fits);
    let mut free = long.clone();
    free.bytes[20] = 0;
    assert_eq!(fit(&free, &df), Fit::Fragment(1450));
    // Large UDP comes to datagrams of that length.
    let mut large = free.clone();
    large.offload = self::large(1).offload;
    large.offload.checksum = Checksum::Needed {
        start: 34,
        offset: 6,
    };
    large.offload.gso.kind = GsoKind::Udp;
    large.offload.gso.size = 1422;
    assert_eq!(fit(&large, &df), Fit::Fits);
    large.offload.gso.size = 1423;
    assert_eq!(fit(&large, &df), Fit::Fragment(1450));
    let mut other = long.clone();
    other.bytes[12] = 0x12;
    assert_eq!(fit(&other, &df), Fit::Drop);
}

#[test]
fn the_answer_is_an_icmp_message_to_the_sender() {
    let packet = OwnedPacket::new(frame(1465));
    let mut batch = batch_of(&packet);
    let answer = mtu::answer(&batch, 0, 1450).unwrap().bytes;
    assert_eq!(answer[..12], [2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    let got = outer::Ip::parse(&answer[14..], answer.len() - 14, false).unwrap();
    assert_eq!((got.src, got.dst), (ip("10.0.0.2"), ip("10.0.0.1")));
    assert_eq!((got.protocol, answer.len() - 14), (1, 576));
    assert_eq!(checksum::of(&answer[34..]), 0);
    assert_eq!(answer[34..36], [3, 4]);
    assert_eq!((word(&answer, 38), word(&answer, 40)), (0, 1450));
    assert_eq!(answer[42..], packet.bytes[14..14 + 548]);
    // Not to fragments, nor for what is from or to many.
    for (at, bytes) in [
        (0, &[1u8][..]),
        (21, &[9]),
        (30, &[224]),
        (26, &[0, 0, 0, 0]),
    ] {
        let mut bad = packet.clone();
        bad.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(mtu::answer(&batch_of(&bad), 0, 1450), None, "byte {at}");
    }
    // Nor to errors.
    batch.packet_mut(0).head_mut()[23] = 1;
    batch.packet_mut(0).head_mut()[34] = 11;
    assert_eq!(mtu::answer(&batch, 0, 1450), None);
}

#[test]
fn the_answer_to_ipv6_is_packet_too_big() {
    let mut bytes = vec![0u8; 1500];
    bytes[..14].copy_from_slice(&hex("020101010101 020202020202 86dd"));
    let ip6 = outer::Ip {
        src: ip("fd00::1"),
        dst: ip("fd00::2"),
        tos: 0,
        ttl: 64,
        df: true,
        protocol: 17,
        payload: 1500 - 54,
    };
    ip6.emit(0, &mut bytes[14..]);
    let packet = OwnedPacket::new(bytes);
    let batch = batch_of(&packet);
    let key = key(false);
    let encap = Encap::new(&spec(TunnelKind::Geneve, &key)).unwrap();
    assert_eq!(mtu::fit(batch.packet(0), &encap), Fit::Answer(1450));
    let answer = mtu::answer(&batch, 0, 1450).unwrap().bytes;
    assert_eq!(answer.len(), 14 + 1280);
    let got = outer::Ip::parse(&answer[14..], answer.len() - 14, false).unwrap();
    assert_eq!((got.src, got.dst, got.protocol), (ip6.dst, ip6.src, 58));
    assert_eq!(answer[54..56], [2, 0]);
    assert_eq!(answer[58..62], 1450u32.to_be_bytes());
    let sum = checksum::pseudo(&answer[22..54], 58, answer.len() - 54);
    assert_eq!(checksum::fold(checksum::add(sum, &answer[54..])), 0xffff);
}

#[test]
fn answers_are_bounded() {
    let mut limiter = mtu::Limiter::default();
    let mut count = |now| (0..10_000).filter(|_| limiter.allow(now)).count() as u64;
    let start = 3_600_000_000_000;
    assert_eq!(count(start), mtu::ANSWERS_BURST);
    assert_eq!(count(start + 10_000_000), mtu::ANSWERS_PER_SECOND / 100);
    assert_eq!(count(start + 9_000_000_000), mtu::ANSWERS_BURST);
}

#[test]
fn fragments_come_to_the_whole() {
    let f = frame(1414);
    for l3_mtu in [68, 576, 1399] {
        let mut got = Vec::new();
        let list = mtu::fragments(&f, 14, l3_mtu);
        for (n, p) in list.iter().enumerate() {
            let h = &p.bytes[14..34];
            assert_eq!(checksum::of(h), 0);
            assert!(p.bytes.len() - 14 <= l3_mtu);
            assert_eq!(usize::from(word(h, 2)), p.bytes.len() - 14);
            assert_eq!(usize::from(word(h, 6) & 0x1fff) * 8, got.len());
            assert_eq!(word(h, 6) & 0x2000 != 0, n + 1 < list.len());
            got.extend_from_slice(&p.bytes[34..]);
        }
        assert_eq!(got, f[34..]);
    }
    let whole = mtu::fragments(&f, 14, 1400);
    assert_eq!(whole, [OwnedPacket::new(f.clone())]);
    let key = key(true);
    let encap = Encap::new(&spec(TunnelKind::Geneve, &key)).unwrap();
    let out = pushed(&encap, &OwnedPacket::new(f));
    let mut got = Vec::new();
    let list = mtu::fragments(&out.bytes, 14, 1280);
    let next = mtu::fragments(&out.bytes, 14, 1280);
    assert_ne!(list[0].bytes[58..62], next[0].bytes[58..62]);
    for p in &list {
        assert!(p.bytes.len() - 14 <= 1280);
        assert_eq!(usize::from(word(&p.bytes, 18)), p.bytes.len() - 54);
        assert_eq!((p.bytes[20], p.bytes[54]), (44, 17));
        assert_eq!(usize::from(word(&p.bytes, 56) & !7), got.len());
        assert_eq!(p.bytes[58..62], list[0].bytes[58..62]);
        got.extend_from_slice(&p.bytes[62..]);
    }
    assert_eq!(got, out.bytes[54..]);
}

#[test]
fn a_front_longer_than_the_headroom_is_put_on_whole() {
    let key = key(true);
    let options: Vec<u8> = (0..63).flat_map(|n| [n, 1, 2, 0]).collect();
    let mut with = spec(TunnelKind::Geneve, &key);
    with.options = &options;
    let encap = Encap::new(&with).unwrap();
    for len in [60, 300, 1400] {
        let out = pushed(&encap, &OwnedPacket::new(frame(len)));
        assert_eq!(out.bytes.len(), len + 14 + 40 + 8 + 8 + 252);
        let (_, seen, inner) = popped(TunnelKind::Geneve, &out).unwrap();
        assert_eq!((seen, inner.bytes), (options.clone(), frame(len)));
    }
}

/// A capture of Ethernet frames (pcap, as libpcap writes it).
fn capture(frames: &[OwnedPacket]) -> Vec<u8> {
    let mut file = hex("a1b2c3d4 0002 0004 00000000 00000000 00040000 00000001");
    for f in frames {
        let len = (f.bytes.len() as u32).to_be_bytes();
        file.extend([[0; 4], [0; 4], len, len].concat());
        file.extend_from_slice(&f.bytes);
    }
    file
}

#[test]
fn wireshark_dissects_every_kind_without_complaint() {
    let mut frames = Vec::new();
    let mut want = Vec::new();
    for v6 in [false, true] {
        for kind in KINDS {
            for (csum, numbered, two) in [(false, false, false), (true, true, true)] {
                let flag = if csum { TUN_CSUM } else { 0 };
                let key = TunnelKey {
                    flags: TUN_DF | TUN_KEY | flag,
                    erspan_version: 1 + u8::from(two),
                    gbp_id: 9,
                    ..key(v6)
                };
                let mut with = spec(kind, &key);
                with.gbp = two;
                with.sequence = numbered.then(Arc::default);
                if kind == TunnelKind::Geneve && two {
                    with.options = &[1, 2, 3, 1, 0xa, 0xb, 0xc, 0xd];
                }
                let encap = Encap::new(&with).unwrap();
                frames.push(on_wire(&pushed(&encap, &OwnedPacket::new(frame(200)))));
                let family = if v6 { "ipv6" } else { "ip" };
                want.push(match kind {
                    TunnelKind::Vxlan => {
                        format!("eth:ethertype:{family}:udp:vxlan:eth:ethertype:ip:udp:data|5||||")
                    }
                    TunnelKind::Geneve => format!(
                        "eth:ethertype:{family}:udp:geneve:eth:ethertype:ip:udp:data||0x000005|||"
                    ),
                    TunnelKind::Gre => format!(
                        "eth:ethertype:{family}:gre:eth:ethertype:ip:udp:data|||0x00000005||"
                    ),
                    TunnelKind::Erspan => {
                        format!("eth:ethertype:{family}:gre:erspan:eth:ethertype:ip:udp:data||||5|")
                    }
                    TunnelKind::Gtpu => {
                        format!("eth:ethertype:{family}:udp:gtp:ip:udp:data|||||0x00000005")
                    }
                });
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tunnels.pcap");
    std::fs::write(&file, capture(&frames)).unwrap();
    let run = |fields: &[&str]| {
        let mut command = std::process::Command::new("tshark");
        command.arg("-r").arg(&file).args(["-n", "-T", "fields"]);
        // A port number that it knows is no protocol here.
        command.args(["-d", "udp.port==2222,data"]);
        // Checksums of all layers are looked at, and ours are there.
        for check in ["ip", "udp"] {
            command.args(["-o", &format!("{check}.check_checksum:TRUE")]);
        }
        command.args(["-E", "separator=|", "-E", "occurrence=a"]);
        for field in fields {
            command.args(["-e", field]);
        }
        command.output()
    };
    let named = [
        "frame.protocols",
        "vxlan.vni",
        "geneve.vni",
        "gre.key",
        "erspan.spanid",
        "gtp.teid",
    ];
    let Ok(out) = run(&named) else {
        eprintln!("SKIPPED wireshark_dissects_every_kind_without_complaint: no tshark");
        return;
    };
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(lines.lines().collect::<Vec<_>>(), want);
    let complaints = [
        "_ws.malformed",
        "_ws.expert.message",
        "ip.checksum.status",
        "udp.checksum.status",
        "gre.checksum.status",
    ];
    let out = run(&complaints).unwrap();
    for (n, line) in String::from_utf8_lossy(&out.stdout).lines().enumerate() {
        let fields: Vec<&str> = line.split('|').collect();
        assert_eq!(fields[..2], ["", ""], "{} {line}", want[n]);
        // 0 is "bad".
        let bad = fields[2..]
            .iter()
            .any(|f| f.split(',').any(|s| s == "0" || s == "Bad"));
        assert!(!bad, "{} {line}", want[n]);
    }
}

/// What Open vSwitch 3.1 (userspace datapath) sent, up to the inner frame: kind, options of the port, bytes, over IPv4 and IPv6 in
/// turn. (Not here is what it sums before all is written, so that the sum is wrong: GTP-U, and GRE with
/// both a checksum and a sequence number other than 0.)
const OPEN_VSWITCH: [(TunnelKind, &str, &str); 9] = [
    (
        TunnelKind::Vxlan,
        "",
        "020000000002020000000001080045000062000040004011b687c0000201c0000202 815212b5004e0000 0800000000000500",
    ),
    (
        TunnelKind::Vxlan,
        "v6",
        "02000000000202000000000186dd60000000004e114020010db800000000000000000000000120010db8000000000000000000000002
         815212b5004ef846 0800000000000500",
    ),
    (
        TunnelKind::Geneve,
        "",
        "020000000002020000000001080045000062000040004011b687c0000201c0000202 815217c1004e0000 0000655800000500",
    ),
    (
        TunnelKind::Geneve,
        "v6",
        "02000000000202000000000186dd60000000004e114020010db800000000000000000000000120010db8000000000000000000000002
         815217c1004e95e2 0000655800000500",
    ),
    (
        TunnelKind::Gre,
        "csum seq",
        "02000000000202000000000108004500006200004000402fb669c0000201c0000202 b0006558e01200000000000500000000",
    ),
    (
        TunnelKind::Gre,
        "layer3",
        "02000000000202000000000108004500004800004000402fb683c0000201c0000202 00000800",
    ),
    (
        TunnelKind::Gre,
        "v6 layer3",
        "02000000000202000000000186dd6000000000342f4020010db800000000000000000000000120010db8000000000000000000000002
         00000800",
    ),
    (
        TunnelKind::Erspan,
        "",
        "02000000000202000000000108004500006200004000402fb669c0000201c0000202 100088be000000001000000500000123",
    ),
    (
        TunnelKind::Erspan,
        "v6 seq=1",
        "02000000000202000000000186dd60000000004e2f4020010db800000000000000000000000120010db8000000000000000000000002
         100088be000000011000000500000123",
    ),
];

/// The frame that was inside each.
const INSIDE: &str =
    "0202020202020201010101010800450000304d2a00004011a99b0a0000010a00000204d20929001c0000
                      000102030405060708090a0b0c0d0e0f10111213";

#[test]
fn bytes_are_those_of_open_vswitch_and_its_are_read() {
    let inside = OwnedPacket::new(hex(INSIDE));
    for (kind, how, want) in OPEN_VSWITCH {
        let (v6, layer3) = (how.contains("v6"), how.contains("layer3"));
        let from = if layer3 { 14 } else { 0 };
        let mut want = hex(want);
        want.extend_from_slice(&inside.bytes[from..]);
        let flag = |is: bool, flag: u16| if is { flag } else { 0 };
        let mut key = TunnelKey {
            flags: TUN_DF | flag(!layer3, TUN_KEY) | flag(how.contains("csum"), TUN_CSUM),
            ..key(v6)
        };
        if layer3 {
            key.id = 0;
        }
        if kind == TunnelKind::Erspan {
            (key.erspan_version, key.erspan_index) = (1, 0x123);
        }
        let mut with = spec(kind, &key);
        with.layer3 = layer3;
        with.sequence = how.contains("seq").then(Arc::default);
        let encap = Encap::new(&with).unwrap();
        if how.contains("seq=1") {
            pushed(&encap, &inside);
        }
        let mut got = pushed(&encap, &inside).bytes;
        // Theirs is read.
        let (popped, _, inner) = popped(kind, &OwnedPacket::new(want.clone())).unwrap();
        assert_eq!(
            (popped.kind, popped.key.id),
            (kind, key.id),
            "{kind:?} {how}"
        );
        assert_eq!(inner.bytes[from..], inside.bytes[from..]);
        // Ours is the same, but for the port that a hash chose, and its part of the checksum.
        if kind.udp_port().is_some() {
            let l4 = encap.transport_offset();
            let (port, theirs) = (word(&got, l4).to_be_bytes(), word(&want, l4).to_be_bytes());
            if v6 {
                let sum = checksum::update(word(&got, l4 + 6), &port, &theirs);
                outer::put(&mut got, l4 + 6, sum);
            }
            got[l4..l4 + 2].copy_from_slice(&theirs);
        }
        assert_eq!(got, want, "{kind:?} {how}");
    }
}
