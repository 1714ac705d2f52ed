//! Hostile packets for everything that reads a tunnel's headers, one function a kind.

use super::decap::{self, OptionBuffer};
use super::encap::{Encap, EncapSpec, Stamp};
use super::{Options, TUN_DF, TUN_KEY, TunnelKey, TunnelKind, geneve, mtu};
use crate::action::find_headers;
use crate::packet::{Batch, Checksum, OwnedPacket};

/// Reads a packet as VXLAN.
pub fn fuzz_vxlan(data: &[u8]) {
    read(TunnelKind::Vxlan, data);
}

/// Reads a packet as GRE.
pub fn fuzz_gre(data: &[u8]) {
    read(TunnelKind::Gre, data);
}

/// Reads a packet as Geneve.
pub fn fuzz_geneve(data: &[u8]) {
    read(TunnelKind::Geneve, data);
}

/// Reads a packet as ERSPAN.
pub fn fuzz_erspan(data: &[u8]) {
    read(TunnelKind::Erspan, data);
}

/// Reads a packet as GTP-U.
pub fn fuzz_gtpu(data: &[u8]) {
    read(TunnelKind::Gtpu, data);
}

/// The first byte says where the outer IP header is and whether checksums are believed; the rest is the packet. What is read is taken
/// off, put on again, and read once more: the same. Must never panic.
fn read(kind: TunnelKind, data: &[u8]) {
    let Some((&how, frame)) = data.split_first() else {
        return;
    };
    if frame.is_empty() || frame.len() > 2000 {
        return;
    }
    let mut packet = OwnedPacket::new(frame);
    if how & 1 != 0 {
        packet.offload.checksum = Checksum::Valid;
    }
    let at = if how & 2 != 0 { 14 } else { 0 };
    let mut batch = Batch::new();
    // SAFETY: `packet` outlives the batch.
    if !unsafe { batch.push_borrowed(&packet) } {
        return;
    }
    find_headers(batch.packet_mut(0));
    let _ = mtu::answer(&batch, 0, 1400);
    let _ = mtu::fragments(frame, at, 100 + usize::from(how));
    let mut options = OptionBuffer::default();
    let Ok(popped) = decap::parse(&batch, 0, kind, at, &mut options) else {
        return;
    };
    let _ = geneve::are_understood(options.get(), |class, _| (class == 0).then_some(4));
    if popped.take_off(&mut batch, 0).is_err() || popped.header_len == 0 {
        return;
    }
    let inner = batch.to_owned(0);
    let options = Options(options.get().to_vec());
    find_headers(batch.packet_mut(0));
    if popped.layer3.is_some_and(|t| matches!(t, 0x8100 | 0x88a8)) {
        return;
    }
    let key = TunnelKey {
        flags: popped.key.flags | TUN_DF | TUN_KEY,
        ..popped.key
    };
    let spec = EncapSpec {
        kind: popped.kind,
        ethernet: None,
        key: &key,
        options: &options.0,
        port: popped.port,
        gbp: popped.gbp,
        layer3: popped.layer3.is_some(),
        mtu: 0,
        sequence: None,
    };
    let encap = Encap::new(&spec).expect("what was read can be written");
    if encap.push(&mut batch, 0, &mut Stamp::default()).is_err() {
        return;
    }
    let mut again = OptionBuffer::default();
    let second =
        decap::parse(&batch, 0, kind, 0, &mut again).expect("what was written can be read");
    assert_eq!(second.key.id, key.id);
    assert_eq!(again.get(), options.0);
    second.take_off(&mut batch, 0).expect("it was read");
    assert_eq!(batch.to_owned(0).bytes, inner.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn any_tunnelled_packet_is_survived(kind in 0usize..5, how in 0u8..4, v6: bool, mut bytes in proptest::collection::vec(any::<u8>(), 40..400)) {
            let at = if how & 2 != 0 { 14 } else { 0 };
            let left = (bytes.len() - at) as u16;
            // Mostly packets that look like something, up to their tunnel's header and a little further.
            let udp = [true, false, true, false, true][kind];
            let protocol = if udp { 17 } else { 47 };
            let l4 = if v6 && left >= 48 {
                bytes[at..at + 2].copy_from_slice(&[0x60, 0]);
                bytes[at + 4..at + 6].copy_from_slice(&(left - 40).to_be_bytes());
                bytes[at + 6] = protocol;
                at + 40
            } else if left >= 28 {
                bytes[at] = 0x45;
                bytes[at + 2..at + 4].copy_from_slice(&left.to_be_bytes());
                bytes[at + 6..at + 8].fill(0);
                bytes[at + 9] = protocol;
                at + 20
            } else {
                return Ok(());
            };
            let rest = (bytes.len() - l4) as u16;
            let first: &[u8] = [&[8u8, 0, 0, 0][..], &[0x20, 0, 0x65, 0x58], &[1, 0, 0x65, 0x58], &[0x10, 0, 0x88, 0xbe], &[0x30, 255, 0, 4]][kind];
            let header = if udp { l4 + 8 } else { l4 };
            if udp && bytes.len() >= l4 + 8 {
                bytes[l4 + 4..l4 + 6].copy_from_slice(&rest.to_be_bytes());
                bytes[l4 + 6..l4 + 8].fill(0);
            }
            if bytes.len() >= header + 12 {
                bytes[header..header + 4].copy_from_slice(first);
                bytes[header + 7] &= 0;
                if kind == 3 {
                    bytes[header + 8] = 0x10;
                }
            }
            let mut data = vec![how | 1];
            data.extend(bytes);
            let target = [fuzz_vxlan, fuzz_gre, fuzz_geneve, fuzz_erspan, fuzz_gtpu][kind];
            target(&data);
        }
    }
}
