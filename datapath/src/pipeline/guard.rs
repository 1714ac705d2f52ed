//! Anti-spoofing: whether a packet is from, or for, whoever is behind a port.
//!
//! The checks are decisions of the pipeline as any other: what they look at goes into the mask, and the answer is cached with
//! the flow. They stop at the first thing that is wrong; each look at an address takes the bits of the prefixes compared with.
//!
//! What a guarded port may send in (RFC 2827, and RFC 6620 for neighbour discovery):
//!
//! * from its Ethernet addresses, which ARP (RFC 826), RARP and neighbour discovery (RFC 4861) must also name as the sender's;
//! * from its IPv4 addresses, and claim no others by ARP; an ARP probe (RFC 5227), and DHCP requests before there is an
//!   address (RFC 2131), are from 0.0.0.0;
//! * from its IPv6 addresses, and advertise no others; link-local ones (fe80::/10) are not told beforehand and need
//!   not be listed, but router advertisements and redirects come from listed addresses alone; neighbour, router and multicast
//!   listener messages may be from `::` (RFC 4862), to detect duplicates of its own addresses only;
//! * nothing else if addresses are listed: what is in other packets cannot be told.
//!
//! What goes out to it is for a group, or for its Ethernet addresses, and, if addresses are listed, for one of those;
//! ARP may also answer a probe (target 0.0.0.0), and DHCP an address that is only offered.

use super::Xlate;
use crate::drop::DropReason;
use crate::policing::{Guard, Prefix};
use openflow::{MacAddr, Slot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: u64 = 0x0800;
const ARP: u64 = 0x0806;
const RARP: u64 = 0x8035;
const IPV6: u64 = 0x86dd;
const UDP: u64 = 17;
const ICMPV6: u64 = 58;
const DHCP_SERVER: u64 = 67;
const DHCP_CLIENT: u64 = 68;
/// fe80::/10.
const LINK_LOCAL: (u128, u128) = (0xfe80 << 112, 0xffc0 << 112);
const ROUTER_SOLICITATION: u64 = 133;
const ROUTER_ADVERTISEMENT: u64 = 134;
const NEIGHBOR_SOLICITATION: u64 = 135;
const NEIGHBOR_ADVERTISEMENT: u64 = 136;
const REDIRECT: u64 = 137;

/// What is wrong with a packet: its reason, the field, and what it has there.
struct Wrong(DropReason, &'static str, Slot);

type Checked = Result<(), Wrong>;

fn mac(what: &'static str, slot: Slot) -> Checked {
    Err(Wrong(DropReason::SpoofedMac, what, slot))
}

fn address(what: &'static str, slot: Slot) -> Checked {
    Err(Wrong(DropReason::SpoofedAddress, what, slot))
}

impl Xlate<'_> {
    /// Whether a packet may come in by a port. If not, it is dropped.
    pub(super) fn may_enter(&mut self, guard: &Guard) -> bool {
        let checked = self.check_sender(guard);
        self.judged(checked)
    }

    /// Whether a packet may go out of a port. If not, that copy is dropped.
    pub(super) fn may_leave(&mut self, guard: &Guard) -> bool {
        let checked = self.check_receiver(guard);
        self.judged(checked.map_err(|w| Wrong(DropReason::GuardEgress, w.1, w.2)))
    }

    fn judged(&mut self, checked: Checked) -> bool {
        let Err(Wrong(reason, what, slot)) = checked else {
            return true;
        };
        let value = self.key.get(slot);
        self.remark(|| {
            let value = show(slot, value);
            format!("{what} {value} is not the port's, dropping")
        });
        self.dropped(reason);
        false
    }

    fn check_sender(&mut self, guard: &Guard) -> Checked {
        // Only frames have addresses; what has no Ethernet header is of the pipeline's making.
        if !self.has_mac(guard, Slot::EthSrc) {
            return mac("Ethernet source", Slot::EthSrc);
        }
        match self.field(Slot::EthType) {
            IPV4 => self.check_ipv4_sender(guard),
            ARP | RARP => {
                if !self.has_mac(guard, Slot::ArpSha) {
                    return mac("ARP sender", Slot::ArpSha);
                }
                if !self.has_address(guard, Slot::NwSrc) && self.field(Slot::NwSrc) != 0 {
                    return address("ARP sender", Slot::NwSrc);
                }
                Ok(())
            }
            IPV6 => self.check_ipv6_sender(guard),
            _ if guard.addresses.is_none() => Ok(()),
            _ => address("Ethernet type", Slot::EthType),
        }
    }

    fn check_ipv4_sender(&mut self, guard: &Guard) -> Checked {
        if self.has_address(guard, Slot::NwSrc) {
            return Ok(());
        }
        let asks_for_one = self.field(Slot::NwSrc) == 0
            && self.field(Slot::NwProto) == UDP
            && self.field(Slot::NwFrag) == 0
            && self.field(Slot::TpSrc) == DHCP_CLIENT
            && self.field(Slot::TpDst) == DHCP_SERVER;
        match asks_for_one {
            true => Ok(()),
            false => address("IPv4 source", Slot::NwSrc),
        }
    }

    fn check_ipv6_sender(&mut self, guard: &Guard) -> Checked {
        let listed = self.has_address(guard, Slot::Ipv6Src);
        let kind = match self.field(Slot::NwProto) == ICMPV6 && self.field(Slot::NwFrag) & 2 == 0 {
            true => Some(self.field(Slot::TpSrc)),
            false => None,
        };
        if !listed {
            let routes = matches!(kind, Some(ROUTER_ADVERTISEMENT | REDIRECT));
            let own = !routes && self.is_link_local(Slot::Ipv6Src);
            if !(own || may_be_from_nobody(kind) && self.is_unspecified(Slot::Ipv6Src)) {
                return address("IPv6 source", Slot::Ipv6Src);
            }
        }
        match kind {
            Some(NEIGHBOR_SOLICITATION) => {
                if self.is_unspecified(Slot::Ipv6Src) && !self.is_own(guard, Slot::NdTarget) {
                    return address("target of duplicate address detection", Slot::NdTarget);
                }
                self.check_option(guard, Slot::ArpSha)
            }
            Some(NEIGHBOR_ADVERTISEMENT) => {
                if !self.is_own(guard, Slot::NdTarget) {
                    return address("advertised address", Slot::NdTarget);
                }
                self.check_option(guard, Slot::ArpTha)
            }
            _ => Ok(()),
        }
    }

    /// A link-layer address option of neighbour discovery, which may be missing.
    fn check_option(&mut self, guard: &Guard, slot: Slot) -> Checked {
        match guard.macs.is_none() || self.field(slot) == 0 || self.has_mac(guard, slot) {
            true => Ok(()),
            false => mac("link-layer address option", slot),
        }
    }

    fn check_receiver(&mut self, guard: &Guard) -> Checked {
        const GROUP: u128 = 1 << 40;
        self.look(Slot::EthDst, GROUP);
        if self.key.get(Slot::EthDst) & GROUP != 0 {
            return Ok(());
        }
        if !self.has_mac(guard, Slot::EthDst) {
            return mac("Ethernet destination", Slot::EthDst);
        }
        match self.field(Slot::EthType) {
            IPV4 if !self.has_address(guard, Slot::NwDst) => {
                let offered = self.field(Slot::NwProto) == UDP
                    && self.field(Slot::NwFrag) == 0
                    && self.field(Slot::TpSrc) == DHCP_SERVER
                    && self.field(Slot::TpDst) == DHCP_CLIENT;
                match offered {
                    true => Ok(()),
                    false => address("IPv4 destination", Slot::NwDst),
                }
            }
            ARP if !self.has_address(guard, Slot::NwDst) && self.field(Slot::NwDst) != 0 => {
                address("ARP target", Slot::NwDst)
            }
            IPV6 if !self.is_own(guard, Slot::Ipv6Dst) => {
                address("IPv6 destination", Slot::Ipv6Dst)
            }
            _ => Ok(()),
        }
    }

    /// A field, looked at.
    fn field(&mut self, slot: Slot) -> u64 {
        self.look_all(slot);
        self.key.get64(slot)
    }

    fn has_mac(&mut self, guard: &Guard, slot: Slot) -> bool {
        let Some(macs) = &guard.macs else {
            return true;
        };
        let value = self.field(slot);
        macs.contains(&MacAddr::from_u64(value))
    }

    /// Whether an address is one of those listed, if any are.
    fn has_address(&mut self, guard: &Guard, slot: Slot) -> bool {
        let v6 = matches!(slot, Slot::Ipv6Src | Slot::Ipv6Dst | Slot::NdTarget);
        let of_kind = |p: &&Prefix| matches!(p.address, IpAddr::V6(_)) == v6;
        match &guard.addresses {
            None => true,
            Some(list) => list
                .iter()
                .filter(of_kind)
                .any(|p| self.is_within(slot, p.bits())),
        }
    }

    /// Whether it is one of those or link-local.
    fn is_own(&mut self, guard: &Guard, slot: Slot) -> bool {
        self.has_address(guard, slot) || self.is_link_local(slot)
    }

    fn is_link_local(&mut self, slot: Slot) -> bool {
        self.is_within(slot, LINK_LOCAL)
    }

    fn is_unspecified(&mut self, slot: Slot) -> bool {
        self.is_within(slot, (0, u128::MAX))
    }

    fn is_within(&mut self, slot: Slot, (value, mask): (u128, u128)) -> bool {
        self.look(slot, mask);
        self.key.get(slot) & mask == value
    }
}

/// Whether a message of ICMPv6 may have no source: solicitations, and reports of multicast listeners (RFC 2710, RFC 3810).
fn may_be_from_nobody(kind: Option<u64>) -> bool {
    matches!(
        kind,
        Some(ROUTER_SOLICITATION | NEIGHBOR_SOLICITATION | 131 | 132 | 143)
    )
}

fn show(slot: Slot, value: u128) -> String {
    match slot {
        Slot::EthType => format!("{value:#06x}"),
        Slot::NwSrc | Slot::NwDst => Ipv4Addr::from(value as u32).to_string(),
        Slot::Ipv6Src | Slot::Ipv6Dst | Slot::NdTarget => Ipv6Addr::from(value).to_string(),
        _ => MacAddr::from_u64(value as u64).to_string(),
    }
}
