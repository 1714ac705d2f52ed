//! Requests for a neighbour's Ethernet address: ARP (RFC 826), neighbour solicitation (RFC 4861 4.3).

use crate::packet::{OwnedPacket, checksum};
use openflow::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame that asks for `target`, from an interface of this address.
pub fn request(mac: MacAddr, from: IpAddr, target: IpAddr) -> OwnedPacket {
    OwnedPacket::new(match (from, target) {
        (IpAddr::V6(from), IpAddr::V6(target)) => solicitation(mac, from, target),
        (IpAddr::V4(from), IpAddr::V4(target)) => arp(mac, from, target),
        (_, IpAddr::V4(target)) => arp(mac, Ipv4Addr::UNSPECIFIED, target),
        (_, IpAddr::V6(target)) => solicitation(mac, Ipv6Addr::UNSPECIFIED, target),
    })
}

fn arp(mac: MacAddr, from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut f = vec![0xff; 6];
    f.extend(mac.0);
    // Ethernet, IPv4, lengths of their addresses, request.
    f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(mac.0);
    f.extend(from.octets());
    f.extend([0; 6]);
    f.extend(target.octets());
    f
}

fn solicitation(mac: MacAddr, from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    // The solicited-node address (RFC 4291 2.7.1), and its Ethernet address.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(target.octets());
    if !from.is_unspecified() {
        icmp.extend([1, 1]);
        icmp.extend(mac.0);
    }
    let mut pseudo = from.octets().to_vec();
    pseudo.extend(group.octets());
    pseudo.extend([0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]);
    pseudo.extend(&icmp);
    let sum = checksum::of(&pseudo);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![0x33, 0x33, 0xff, a, b, c];
    f.extend(mac.0);
    f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255]);
    f.extend(from.octets());
    f.extend(group.octets());
    f.extend(icmp);
    f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::key_of;
    use openflow::Slot;

    #[test]
    fn requests_are_what_neighbours_understand() {
        let mac = MacAddr([0xaa, 0x55, 0xaa, 0x55, 0, 0]);
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let arp = request(mac, ip("1.1.2.88"), ip("1.1.2.92")).bytes;
        let hex: String = arp.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "ffffffffffffaa55aa55000008060001080006040001aa55aa550000010102580000000000000101025c"
        );
        let nd = request(mac, ip("2001:cafe::88"), ip("2001:cafe::92")).bytes;
        let k = key_of(&nd, 2).unwrap();
        assert_eq!((k.get64(Slot::NwProto), k.get64(Slot::TpSrc)), (58, 135));
        assert_eq!(k.get64(Slot::ArpSha), mac.to_u64());
        assert_eq!(k.get64(Slot::EthDst), 0x3333_ff00_0092);
        // The sum of everything, with the checksum in it, is all ones.
        let mut all = nd[22..54].to_vec();
        all.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        all.extend(&nd[54..]);
        assert_eq!(checksum::of(&all), 0);
    }
}
