//! Anti-spoofing, as asked for: the addresses that are a port's. What they mean for packets is in `pipeline/guard.rs`.

use openflow::MacAddr;
use std::net::IpAddr;

/// The addresses of whatever is behind a port, and which way packets are held to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Whether what comes in has to have them as sender's.
    pub ingress: bool,
    /// Whether what goes out has to have them as receiver's.
    pub egress: bool,
    /// Ethernet addresses, if it is held to some.
    pub macs: Option<Vec<MacAddr>>,
    /// IPv4 and IPv6 addresses, if it is held to some.
    pub addresses: Option<Vec<Prefix>>,
}

/// A run of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The first.
    pub address: IpAddr,
    /// How many of its bits count, at most 32 or 128.
    pub len: u8,
}

impl Prefix {
    /// The bits that count of an IPv4 (32 bits) or IPv6 address, and which they are.
    pub(crate) fn bits(&self) -> (u128, u128) {
        let (value, width) = match self.address {
            IpAddr::V4(a) => (u32::from(a).into(), 32),
            IpAddr::V6(a) => (u128::from(a), 128),
        };
        let all = u128::MAX >> (128 - width);
        let len = u32::from(self.len).min(width);
        let mask = match len {
            0 => 0,
            len => all << (width - len) & all,
        };
        (value & mask, mask)
    }
}
