//! What the controller reads of a frame that a switch sent up.

use openflow::MacAddr;
use pnet::packet::Packet;
use pnet::packet::arp::ArpPacket;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::vlan::VlanPacket;
use std::net::IpAddr;

/// A frame's VLAN: `None` when it carries no tag, else the tag's id (0 for a priority tag).
pub type Vlan = Option<u16>;

/// Ethernet type of LLDP.
pub const ETH_TYPE_LLDP: u16 = 0x88cc;

/// The parts of a frame that the applications and the host table use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// Outer tag.
    pub vlan: Vlan,
    /// Ethernet type behind the tags.
    pub eth_type: u16,
    /// An address that the sender says is its own (ARP sender, IPv4 source, ND source).
    pub sender: Option<IpAddr>,
}

impl Frame {
    /// Reads a frame; `None` if it has no whole Ethernet (and VLAN) header.
    pub fn parse(data: &[u8]) -> Option<Frame> {
        let eth = EthernetPacket::new(data)?;
        let (dst, src) = (mac(eth.get_destination()), mac(eth.get_source()));
        let mut eth_type = eth.get_ethertype().0;
        let mut rest = eth.payload();
        let mut vlan = None;
        // Two tags at most, as the switch itself looks at.
        for _ in 0..2 {
            if eth_type != EtherTypes::Vlan.0 && eth_type != 0x88a8 {
                break;
            }
            let tag = VlanPacket::new(rest)?;
            vlan.get_or_insert(tag.get_vlan_identifier());
            eth_type = tag.get_ethertype().0;
            rest = rest.get(VlanPacket::minimum_packet_size()..)?;
        }
        Some(Frame {
            dst,
            src,
            vlan,
            eth_type,
            sender: sender(eth_type, rest, src),
        })
    }
}

fn mac(m: pnet::util::MacAddr) -> MacAddr {
    MacAddr([m.0, m.1, m.2, m.3, m.4, m.5])
}

fn sender(eth_type: u16, payload: &[u8], src: MacAddr) -> Option<IpAddr> {
    let usable = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    let ip = match eth_type {
        0x0806 => {
            let arp = ArpPacket::new(payload)?;
            // An ARP that speaks for somebody else tells nothing about its sender.
            if arp.get_protocol_type() != EtherTypes::Ipv4 || mac(arp.get_sender_hw_addr()) != src {
                return None;
            }
            IpAddr::V4(arp.get_sender_proto_addr())
        }
        0x0800 => IpAddr::V4(Ipv4Packet::new(payload)?.get_source()),
        0x86dd => IpAddr::V6(Ipv6Packet::new(payload)?.get_source()),
        _ => return None,
    };
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    (usable(ip) && !broadcast).then_some(ip)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A frame with an optional tag, an Ethernet type and payload.
    pub(crate) fn frame(dst: u64, src: u64, vlan: Vlan, eth_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut f = Vec::new();
        f.extend(MacAddr::from_u64(dst).0);
        f.extend(MacAddr::from_u64(src).0);
        if let Some(vid) = vlan {
            f.extend([0x81, 0]);
            f.extend(vid.to_be_bytes());
        }
        f.extend(eth_type.to_be_bytes());
        f.extend(payload);
        f
    }

    #[test]
    fn tags_and_arp_senders_are_read() {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend([
            0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ]);
        let f = Frame::parse(&frame(
            0xffff_ffff_ffff,
            0x5254_0000_0001,
            Some(10),
            0x0806,
            &arp,
        ))
        .unwrap();
        assert_eq!(f.vlan, Some(10));
        assert_eq!(f.eth_type, 0x0806);
        assert_eq!(f.sender, Some("10.0.0.1".parse().unwrap()));
        // Somebody else's hardware address in the ARP: no statement about this host.
        let g = Frame::parse(&frame(1, 0x5254_0000_0002, None, 0x0806, &arp)).unwrap();
        assert_eq!((g.vlan, g.sender), (None, None));
    }

    #[test]
    fn short_frames_are_refused_or_read_in_part() {
        assert_eq!(Frame::parse(&[0; 13]), None);
        assert_eq!(Frame::parse(&frame(1, 2, None, 0x8100, &[0, 1])), None);
        assert_eq!(
            Frame::parse(&frame(1, 2, None, 0x0800, &[0x45]))
                .unwrap()
                .sender,
            None
        );
    }
}
