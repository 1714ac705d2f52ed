//! The headers around a tunnel's own: Ethernet, IPv4 or IPv6, UDP. Each is read once, checked, and written whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::drop::DropReason;
use crate::packet::checksum;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options, the only kind around tunnels.
pub const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6: usize = 40;
/// Bytes of a UDP header.
pub const UDP: usize = 8;
/// IP's number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IP's number of GRE.
pub const PROTOCOL_GRE: u8 = 47;
/// Ethernet type of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// Ethernet type of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;

/// Where the fields of an IPv4 header are (RFC 791 3.1).
pub mod v4 {
    use std::ops::Range;
    /// Version and header length.
    pub const VERSION: usize = 0;
    /// Type of service.
    pub const TOS: usize = 1;
    /// Length of header and payload.
    pub const TOTAL: Range<usize> = 2..4;
    /// Identification.
    pub const ID: Range<usize> = 4..6;
    /// Flags and fragment offset.
    pub const FRAGMENT: Range<usize> = 6..8;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol of the payload.
    pub const PROTOCOL: usize = 9;
    /// Checksum of the header.
    pub const CHECKSUM: Range<usize> = 10..12;
    /// Source.
    pub const SRC: Range<usize> = 12..16;
    /// Destination.
    pub const DST: Range<usize> = 16..20;
    /// The flag that forbids fragments.
    pub const DF: u16 = 0x4000;
    /// The flag of all fragments but the last.
    pub const MF: u16 = 0x2000;
}

/// Where the fields of an IPv6 header are (RFC 8200 3).
pub mod v6 {
    use std::ops::Range;
    /// Version, traffic class, flow label.
    pub const CLASS: Range<usize> = 0..4;
    /// Length of what is behind the header.
    pub const PAYLOAD: Range<usize> = 4..6;
    /// Next header.
    pub const NEXT: usize = 6;
    /// Hop limit.
    pub const HOPS: usize = 7;
    /// Source.
    pub const SRC: Range<usize> = 8..24;
    /// Destination.
    pub const DST: Range<usize> = 24..40;
}

/// Where the fields of a UDP header are (RFC 768).
pub mod udp {
    use std::ops::Range;
    /// Source port.
    pub const SRC: Range<usize> = 0..2;
    /// Destination port.
    pub const DST: Range<usize> = 2..4;
    /// Length of header and payload.
    pub const LENGTH: Range<usize> = 4..6;
    /// Checksum; 0 for none.
    pub const CHECKSUM: Range<usize> = 6..8;
}

/// An IPv4 or IPv6 header around a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub src: IpAddr,
    /// Destination, of the same family.
    pub dst: IpAddr,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Fragments forbidden. IPv6 routers make none: always true there.
    pub df: bool,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Bytes behind the header.
    pub payload: usize,
}

impl Ip {
    /// Bytes of the header.
    pub fn header_len(&self) -> usize {
        match self.dst {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }

    /// Reads the header at the front of `bytes`, of a packet that has `left` bytes from there on (and maybe padding). IPv4 options
    /// and fragments are refused; the checksum is verified unless `trusted`.
    pub fn parse(bytes: &[u8], left: usize, trusted: bool) -> Result<Ip, DropReason> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => {
                let h: &[u8; IPV4] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
                if h[v4::VERSION] != 0x45 {
                    return Err(DropReason::TunnelHeader);
                }
                let (total, fragment) = (word(h, v4::TOTAL.start), word(h, v4::FRAGMENT.start));
                if usize::from(total) > left {
                    return Err(DropReason::TunnelTruncated);
                }
                if usize::from(total) < IPV4 {
                    return Err(DropReason::TunnelHeader);
                }
                if fragment & !v4::DF != 0 {
                    return Err(DropReason::Fragment);
                }
                if !trusted && checksum::of(h) != 0 {
                    return Err(DropReason::TunnelChecksum);
                }
                let address = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
                Ok(Ip {
                    src: address(v4::SRC.start).into(),
                    dst: address(v4::DST.start).into(),
                    tos: h[v4::TOS],
                    ttl: h[v4::TTL],
                    df: fragment & v4::DF != 0,
                    protocol: h[v4::PROTOCOL],
                    payload: usize::from(total) - IPV4,
                })
            }
            Some(6) => {
                let h: &[u8; IPV6] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
                let payload = usize::from(word(h, v6::PAYLOAD.start));
                if payload + IPV6 > left {
                    return Err(DropReason::TunnelTruncated);
                }
                let address = |at: usize| {
                    let bytes: [u8; 16] = std::array::from_fn(|i| h[at + i]);
                    Ipv6Addr::from(bytes)
                };
                Ok(Ip {
                    src: address(v6::SRC.start).into(),
                    dst: address(v6::DST.start).into(),
                    tos: h[0] << 4 | h[1] >> 4,
                    ttl: h[v6::HOPS],
                    df: true,
                    protocol: h[v6::NEXT],
                    payload,
                })
            }
            Some(_) => Err(DropReason::TunnelHeader),
            None => Err(DropReason::TunnelTruncated),
        }
    }

    /// Writes the header to the front of `out`, which is long enough, with identification `id` (IPv4); how long it is.
    pub fn emit(&self, id: u16, out: &mut [u8]) -> usize {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let h = &mut out[..IPV4];
                h[v4::VERSION] = 0x45;
                h[v4::TOS] = self.tos;
                put(h, v4::TOTAL.start, (IPV4 + self.payload) as u16);
                put(h, v4::ID.start, id);
                put(h, v4::FRAGMENT.start, if self.df { v4::DF } else { 0 });
                h[v4::TTL] = self.ttl;
                h[v4::PROTOCOL] = self.protocol;
                put(h, v4::CHECKSUM.start, 0);
                h[v4::SRC].copy_from_slice(&src.octets());
                h[v4::DST].copy_from_slice(&dst.octets());
                let sum = checksum::of(h);
                put(h, v4::CHECKSUM.start, sum);
                IPV4
            }
            (src, dst) => {
                let octets = |a: IpAddr| match a {
                    IpAddr::V6(a) => a.octets(),
                    IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                };
                let h = &mut out[..IPV6];
                let class = 6 << 28 | u32::from(self.tos) << 20;
                h[v6::CLASS].copy_from_slice(&class.to_be_bytes());
                put(h, v6::PAYLOAD.start, self.payload as u16);
                h[v6::NEXT] = self.protocol;
                h[v6::HOPS] = self.ttl;
                h[v6::SRC].copy_from_slice(&octets(src));
                h[v6::DST].copy_from_slice(&octets(dst));
                IPV6
            }
        }
    }

    /// The sum of the pseudo header for so many bytes behind this header.
    pub fn pseudo(&self, length: usize) -> u64 {
        let sum = |a: IpAddr| match a {
            IpAddr::V4(a) => checksum::add(0, &a.octets()),
            IpAddr::V6(a) => checksum::add(0, &a.octets()),
        };
        checksum::pseudo(&[], self.protocol, length) + sum(self.src) + sum(self.dst)
    }
}

/// A UDP header around a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Bytes behind the header.
    pub payload: usize,
    /// As it is in the header: 0 for none.
    pub checksum: u16,
}

impl Udp {
    /// Reads the header at the front of `bytes`, of a datagram of `left` bytes.
    pub fn parse(bytes: &[u8], left: usize) -> Result<Udp, DropReason> {
        let h: &[u8; UDP] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        let length = usize::from(word(h, udp::LENGTH.start));
        if length > left {
            return Err(DropReason::TunnelTruncated);
        }
        Ok(Udp {
            src: word(h, udp::SRC.start),
            dst: word(h, udp::DST.start),
            payload: length.checked_sub(UDP).ok_or(DropReason::TunnelHeader)?,
            checksum: word(h, udp::CHECKSUM.start),
        })
    }

    /// Writes the header to the front of `out`, which is long enough; how long it is.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        put(out, udp::SRC.start, self.src);
        put(out, udp::DST.start, self.dst);
        put(out, udp::LENGTH.start, (UDP + self.payload) as u16);
        put(out, udp::CHECKSUM.start, self.checksum);
        UDP
    }
}

/// The 16-bit number at `at`, which is inside.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit number at `at`, which is inside.
#[inline(always)]
pub(super) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a 16-bit number at `at`, which is inside.
#[inline(always)]
pub(super) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a 32-bit number at `at`, which is inside.
#[inline(always)]
pub(super) fn put_long(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
        prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
        ]
    }

    proptest! {
        #[test]
        fn ip_round_trips((src, dst) in addresses(), tos: u8, ttl: u8, df: bool, protocol: u8, payload in 0usize..60_000, id: u16) {
            let ip = Ip { src, dst, tos, ttl, df: df || src.is_ipv6(), protocol, payload };
            let mut h = [0xa5; IPV6];
            let len = ip.emit(id, &mut h);
            prop_assert_eq!(len, ip.header_len());
            prop_assert_eq!(Ip::parse(&h[..len], len + payload, false), Ok(ip));
            prop_assert_eq!(Ip::parse(&h[..len], len + payload + 3, false), Ok(ip));
            prop_assert_eq!(Ip::parse(&h[..len - 1], 70_000, false), Err(DropReason::TunnelTruncated));
            if payload > 0 {
                prop_assert_eq!(Ip::parse(&h[..len], len + payload - 1, false), Err(DropReason::TunnelTruncated));
            }
        }

        #[test]
        fn udp_round_trips(src: u16, dst: u16, payload in 0usize..60_000, checksum: u16) {
            let u = Udp { src, dst, payload, checksum };
            let mut h = [0; UDP];
            prop_assert_eq!(u.emit(&mut h), UDP);
            prop_assert_eq!(Udp::parse(&h, UDP + payload), Ok(u));
        }
    }

    #[test]
    fn what_is_not_an_outer_header_is_refused() {
        let ip = Ip {
            src: "192.0.2.1".parse().unwrap(),
            dst: "192.0.2.2".parse().unwrap(),
            tos: 0,
            ttl: 64,
            df: true,
            protocol: PROTOCOL_UDP,
            payload: 0,
        };
        let mut good = [0; IPV4];
        ip.emit(0, &mut good);
        let with = |at: usize, value: u8| {
            let mut h = good;
            h[at] = value;
            put(&mut h, v4::CHECKSUM.start, 0);
            let sum = checksum::of(&h);
            put(&mut h, v4::CHECKSUM.start, sum);
            Ip::parse(&h, IPV4, false)
        };
        assert_eq!(with(0, 0x46), Err(DropReason::TunnelHeader));
        assert_eq!(with(0, 0x55), Err(DropReason::TunnelHeader));
        assert_eq!(with(6, 0x20), Err(DropReason::Fragment));
        assert_eq!(with(7, 1), Err(DropReason::Fragment));
        let mut bad = good;
        bad[10] ^= 1;
        assert_eq!(
            Ip::parse(&bad, IPV4, false),
            Err(DropReason::TunnelChecksum)
        );
        assert_eq!(Ip::parse(&bad, IPV4, true), Ok(ip));
        assert_eq!(Udp::parse(&[0; 8], 8), Err(DropReason::TunnelHeader));
    }
}
