//! Changed packets are right in every byte.

use super::*;
use crate::flow::{PACKET_WORDS, TAGS_PARSED, extract};
use crate::packet::{Batch, Offload, OwnedPacket};
use crate::packet::{Checksum, Packet, checksum};
use openflow::Slot;
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
    extract(batch.packet_mut(0), 1, TAGS_PARSED, &mut [0; PACKET_WORDS]);
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
        let n = extract(batch.packet_mut(0), 1, TAGS_PARSED, &mut words);
        let key = crate::flow::FlowKey::from_packet(&words, n);
        prop_assert_eq!(key.get(slot) & mask, value & mask);
    }
}

#[test]
fn the_checksum_of_sctp_follows_its_ports() {
    // Right before, right after; wrong by as much before as after.
    for wrong in [0, 0x55] {
        let mut f = frame(false, 17, true);
        let l4 = 18 + 20;
        f[18 + 9] = 132;
        f[l4 + 8..l4 + 12].fill(0);
        let c = crc32c(&f[l4..]);
        f[l4 + 8..l4 + 12].copy_from_slice(&c.to_le_bytes());
        f[l4 + 9] ^= wrong;
        // Bytes behind the packet are not covered.
        f.extend([9; 5]);
        let mut out = change(&f, Offload::default(), |p| {
            set(p, Slot::TpSrc, 0x1234, 0xffff);
            set(p, Slot::TpDst, 0xff, 0xf0);
        })
        .bytes;
        let end = out.len() - 5;
        out[l4 + 9] ^= wrong;
        let has = u32::from_le_bytes(out[l4 + 8..l4 + 12].try_into().unwrap());
        out[l4 + 8..l4 + 12].fill(0);
        assert_eq!(out[l4..l4 + 2], [0x12, 0x34]);
        assert_eq!(crc32c(&out[l4..end]), has);
    }
}

/// CRC32c bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| {
            (c >> 1) ^ ((c & 1) * 0x82f6_3b78)
        })
    })
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
    // Whatever was on it meanwhile.
    let mut f = frame(false, 17, true);
    f[12..15].copy_from_slice(&[0x88, 0xa8, 0x30]);
    let out = change(&f, Offload::default(), |p| {
        pop_vlan(p);
        assert!(push_vlan(p, 0x8100, 0x6000));
        pop_vlan(p);
        assert!(push_vlan(p, 0, 0x2007));
        set_vlan(p, 0x2008);
        set_vlan(p, 0x2007);
    });
    assert_eq!(out.bytes, f);
}
