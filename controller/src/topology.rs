//! Links between switches and the hosts on them.
//!
//! Links are found with LLDP (IEEE 802.1AB). Every few seconds each switch sends one frame out of
//! each port, saying which switch and port that was; the switch at the other end sends it up, and
//! the controller knows both ends. A link that is not confirmed for [`LINK_AGE`], or whose port
//! goes down, is gone.
//!
//! A guest could send such frames too, and draw links (and so traffic) to itself. So every frame
//! carries a time and a signature (HMAC-SHA1, RFC 2104, over switch, port and time) under a secret
//! made at each start of the controller. What is unsigned, wrongly signed or old is counted and
//! dropped. A guest that bridges two ports does make a link, and is shown as one.
//!
//! Hosts are learned from their packets: MAC and VLAN, place (switch and port), the addresses they
//! say are theirs. Ports with a link to another switch have no hosts. All tables are bounded.

use crate::inventory::{DatapathId, chassis_mac};
use crate::packet::{ETH_TYPE_LLDP, Frame, Vlan};
use openflow::{MacAddr, PortNo};
use pnet::packet::ethernet::{EtherType, MutableEthernetPacket};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often each port sends LLDP.
pub const LLDP_INTERVAL: Duration = Duration::from_secs(5);
/// How long a link lives without being confirmed; also how old a frame may be.
pub const LINK_AGE: Duration = Duration::from_secs(16);
/// How long a host that is not heard of is listed.
pub const HOST_AGE: Duration = Duration::from_secs(600);
/// Links kept.
pub const MAX_LINKS: usize = 65_536;
/// Hosts kept in all.
pub const MAX_HOSTS: usize = 65_536;
/// Hosts kept for one port.
pub const MAX_HOSTS_PER_PORT: usize = 1_024;
/// Addresses kept for one host; a new one replaces the first.
pub const MAX_IPS_PER_HOST: usize = 16;
/// Nearest-bridge group address (IEEE 802.1AB 7.1).
pub const LLDP_GROUP: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e]);

/// A locally administered OUI for our organizationally specific TLV.
const OUI: [u8; 3] = [0x5a, 0x57, 0x45];
const SUBTYPE_SIGNATURE: u8 = 1;
const ETHERNET_HEADER: usize = 14;

/// One end of a link, or a host's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Switch.
    pub dpid: DatapathId,
    /// Its port.
    pub port: PortNo,
}

/// A link in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where frames go in.
    pub from: Endpoint,
    /// Where they come out.
    pub to: Endpoint,
    /// When it was found.
    pub since: Instant,
    /// When it was confirmed last.
    pub seen: Instant,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub mac: MacAddr,
    /// Its VLAN as the controller sees it.
    pub vlan: Vlan,
    /// Where it is.
    pub place: Endpoint,
    /// Its addresses, oldest first.
    pub ips: Vec<IpAddr>,
    /// When it was first seen.
    pub since: Instant,
    /// When its last packet reached the controller.
    pub seen: Instant,
    /// How often it has changed its place.
    pub moves: u64,
}

/// Why an LLDP frame was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LldpError {
    /// Not LLDP, cut short, or TLVs that do not fit.
    #[error("malformed LLDP frame")]
    Malformed,
    /// From another system: no signature of ours.
    #[error("LLDP of another system")]
    Foreign,
    /// The signature does not fit.
    #[error("LLDP frame with a wrong signature")]
    Forged,
    /// Signed, but sent too long ago.
    #[error("LLDP frame replayed")]
    Old,
}

/// The network beyond single switches.
#[derive(Debug)]
pub struct Topology {
    secret: [u8; 32],
    start: Instant,
    links: HashMap<Endpoint, Link>,
    /// Both ends of every link.
    ends: HashSet<Endpoint>,
    hosts: BTreeMap<(MacAddr, Vlan), Host>,
    hosts_on: HashMap<Endpoint, usize>,
}

impl Topology {
    /// An empty one. `secret` signs LLDP and should be new at every start.
    pub fn new(start: Instant, secret: [u8; 32]) -> Topology {
        Topology {
            secret,
            start,
            links: HashMap::new(),
            ends: HashSet::new(),
            hosts: BTreeMap::new(),
            hosts_on: HashMap::new(),
        }
    }

    /// Links, one entry a direction, in no order.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Hosts by MAC and VLAN.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The LLDP frame for a port to send.
    pub fn lldp(&self, now: Instant, from: Endpoint, port_mac: MacAddr) -> Vec<u8> {
        let chassis = from.dpid.to_string();
        let mut body = Vec::with_capacity(96);
        // Chassis id: locally assigned (7). Port id: locally assigned (7).
        tlv(&mut body, 1, &[&[7], chassis.as_bytes()]);
        tlv(&mut body, 2, &[&[7], &from.port.0.to_be_bytes()]);
        tlv(&mut body, 3, &[&(LINK_AGE.as_secs() as u16).to_be_bytes()]);
        let time = now.saturating_duration_since(self.start).as_millis() as u64;
        let signature = self.sign(from, time);
        tlv(
            &mut body,
            127,
            &[&OUI, &[SUBTYPE_SIGNATURE], &time.to_be_bytes(), &signature],
        );
        tlv(&mut body, 0, &[]);
        let mut frame = vec![0; (ETHERNET_HEADER + body.len()).max(60)];
        if let Some(mut eth) = MutableEthernetPacket::new(&mut frame) {
            let source = if port_mac == MacAddr::default() {
                chassis_mac(from.dpid)
            } else {
                port_mac
            };
            eth.set_destination(LLDP_GROUP.0.into());
            eth.set_source(source.0.into());
            eth.set_ethertype(EtherType::new(ETH_TYPE_LLDP));
        }
        frame[ETHERNET_HEADER..ETHERNET_HEADER + body.len()].copy_from_slice(&body);
        frame
    }

    /// An LLDP frame came in at `to`. Returns the link if it is new or leads elsewhere than before.
    ///
    /// # Errors
    /// If the frame is not one that this controller sent in the last [`LINK_AGE`].
    pub fn lldp_received(
        &mut self,
        now: Instant,
        to: Endpoint,
        frame: &[u8],
    ) -> Result<Option<Link>, LldpError> {
        let (from, time, signature) = parse_lldp(frame)?;
        // Compared whole, so that the time taken tells nothing.
        let expected = self.sign(from, time);
        let differs = expected
            .iter()
            .zip(signature)
            .fold(0, |d, (a, b)| d | (a ^ b));
        if differs != 0 {
            return Err(LldpError::Forged);
        }
        let age = now
            .saturating_duration_since(self.start)
            .saturating_sub(Duration::from_millis(time));
        if age > LINK_AGE {
            return Err(LldpError::Old);
        }
        if from == to {
            // A port that sends its own frames back: a loop or a guest that reflects. Not a link.
            return Ok(None);
        }
        let full = self.links.len() >= MAX_LINKS;
        match self.links.get_mut(&from) {
            Some(link) if link.to == to => {
                link.seen = now;
                Ok(None)
            }
            None if full => Ok(None),
            _ => {
                let link = Link {
                    from,
                    to,
                    since: now,
                    seen: now,
                };
                self.links.insert(from, link);
                self.retain_links(|_| true);
                // What seemed to be hosts behind the ports of a link are on other switches.
                self.forget_hosts(|p| p == from || p == to);
                Ok(Some(link))
            }
        }
    }

    /// A packet came in at a host's port.
    pub fn packet_in(&mut self, now: Instant, place: Endpoint, frame: &Frame) {
        if frame.src.is_multicast()
            || frame.src == MacAddr::default()
            || frame.eth_type == ETH_TYPE_LLDP
            || self.is_link(place)
        {
            return;
        }
        let key = (frame.src, frame.vlan);
        let on_port = self.hosts_on.get(&place).copied().unwrap_or(0);
        let total = self.hosts.len();
        if let Some(h) = self.hosts.get_mut(&key) {
            h.seen = now;
            if h.place != place && on_port < MAX_HOSTS_PER_PORT {
                let old = std::mem::replace(&mut h.place, place);
                h.moves += 1;
                h.ips.clear();
                if let Some(ip) = frame.sender {
                    h.ips.push(ip);
                }
                self.count(old, false);
                self.count(place, true);
            } else if let Some(ip) = frame.sender
                && h.place == place
                && !h.ips.contains(&ip)
            {
                if h.ips.len() == MAX_IPS_PER_HOST {
                    h.ips.remove(0);
                }
                h.ips.push(ip);
            }
        } else if total < MAX_HOSTS && on_port < MAX_HOSTS_PER_PORT {
            self.hosts.insert(
                key,
                Host {
                    mac: frame.src,
                    vlan: frame.vlan,
                    place,
                    ips: frame.sender.into_iter().collect(),
                    since: now,
                    seen: now,
                    moves: 0,
                },
            );
            self.count(place, true);
        }
    }

    /// A host's flow ended after carrying packets: it was alive.
    pub fn alive(&mut self, now: Instant, place: Endpoint, mac: MacAddr, vlan: Vlan) {
        if let Some(h) = self.hosts.get_mut(&(mac, vlan))
            && h.place == place
        {
            h.seen = now;
        }
    }

    /// A port went down or away: its links and hosts with it.
    pub fn port_gone(&mut self, end: Endpoint) {
        self.retain_links(|l| l.from != end && l.to != end);
        self.forget_hosts(|p| p == end);
    }

    /// A switch's connection ended: its links are unknown now. Its hosts stay listed until they age.
    pub fn switch_gone(&mut self, dpid: DatapathId) {
        self.retain_links(|l| l.from.dpid != dpid && l.to.dpid != dpid);
    }

    /// Time passes; to be called about once a second.
    pub fn tick(&mut self, now: Instant) {
        self.retain_links(|l| now.saturating_duration_since(l.seen) < LINK_AGE);
        let old = |h: &Host| now.saturating_duration_since(h.seen) >= HOST_AGE;
        if self.hosts.values().any(old) {
            self.retain_hosts(|h| !old(h));
        }
    }

    /// Whether a port has a link to another switch.
    pub fn is_link(&self, end: Endpoint) -> bool {
        self.ends.contains(&end)
    }

    fn retain_links(&mut self, keep: impl Fn(&Link) -> bool) {
        self.links.retain(|_, l| keep(l));
        self.ends.clear();
        self.ends
            .extend(self.links.values().flat_map(|l| [l.from, l.to]));
    }

    fn forget_hosts(&mut self, at: impl Fn(Endpoint) -> bool) {
        self.retain_hosts(|h| !at(h.place));
    }

    fn retain_hosts(&mut self, keep: impl Fn(&Host) -> bool) {
        self.hosts.retain(|_, h| keep(h));
        self.hosts_on.clear();
        for h in self.hosts.values() {
            *self.hosts_on.entry(h.place).or_default() += 1;
        }
    }

    fn count(&mut self, at: Endpoint, more: bool) {
        let n = self.hosts_on.entry(at).or_default();
        if more {
            *n += 1;
        } else {
            *n -= 1;
            if *n == 0 {
                self.hosts_on.remove(&at);
            }
        }
    }

    fn sign(&self, from: Endpoint, time: u64) -> [u8; 20] {
        let mut message = [0; 20];
        message[..8].copy_from_slice(&from.dpid.0.to_be_bytes());
        message[8..12].copy_from_slice(&from.port.0.to_be_bytes());
        message[12..].copy_from_slice(&time.to_be_bytes());
        hmac_sha1(&self.secret, &message)
    }
}

/// HMAC-SHA1 (RFC 2104) with a key of at most one block.
fn hmac_sha1(key: &[u8; 32], message: &[u8]) -> [u8; 20] {
    let mut pad = [0x36; 64];
    for (p, k) in pad.iter_mut().zip(key) {
        *p ^= k;
    }
    let inner = Sha1::new()
        .chain_update(pad)
        .chain_update(message)
        .finalize();
    for p in &mut pad {
        *p ^= 0x36 ^ 0x5c;
    }
    Sha1::new()
        .chain_update(pad)
        .chain_update(inner)
        .finalize()
        .into()
}

/// Appends a TLV: 7 bits of type, 9 bits of length (IEEE 802.1AB 8.4).
fn tlv(out: &mut Vec<u8>, kind: u16, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    out.extend((kind << 9 | (len as u16 & 0x1ff)).to_be_bytes());
    for p in parts {
        out.extend_from_slice(p);
    }
}

fn parse_lldp(frame: &[u8]) -> Result<(Endpoint, u64, [u8; 20]), LldpError> {
    let mut rest = frame.get(ETHERNET_HEADER..).ok_or(LldpError::Malformed)?;
    let (mut dpid, mut port, mut signature) = (None, None, None);
    loop {
        let header = rest.first_chunk::<2>().ok_or(LldpError::Malformed)?;
        let header = u16::from_be_bytes(*header);
        let (kind, len) = (header >> 9, usize::from(header & 0x1ff));
        let value = rest.get(2..2 + len).ok_or(LldpError::Malformed)?;
        rest = &rest[2 + len..];
        match kind {
            0 => break,
            1 => dpid = chassis_id(value),
            2 => {
                port = value
                    .strip_prefix(&[7])
                    .and_then(|v| <[u8; 4]>::try_from(v).ok());
            }
            127 => {
                if let Some(v) = value.strip_prefix(&OUI)
                    && let Some((&SUBTYPE_SIGNATURE, v)) = v.split_first()
                    && let Ok(v) = <[u8; 28]>::try_from(v)
                {
                    signature = Some(v);
                }
            }
            _ => {}
        }
    }
    let (Some(dpid), Some(port), Some(s)) = (dpid, port, signature) else {
        return Err(LldpError::Foreign);
    };
    let mut time = [0; 8];
    let mut mac = [0; 20];
    time.copy_from_slice(&s[..8]);
    mac.copy_from_slice(&s[8..]);
    let from = Endpoint {
        dpid,
        port: PortNo(u32::from_be_bytes(port)),
    };
    Ok((from, u64::from_be_bytes(time), mac))
}

fn chassis_id(value: &[u8]) -> Option<DatapathId> {
    let text = value.strip_prefix(&[7])?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::frame;
    use proptest::prelude::*;

    fn end(dpid: u64, port: u32) -> Endpoint {
        Endpoint {
            dpid: DatapathId(dpid),
            port: PortNo(port),
        }
    }

    fn topology() -> (Topology, Instant) {
        let now = Instant::now();
        (Topology::new(now, [7; 32]), now)
    }

    #[test]
    fn hmac_is_that_of_rfc_2202() {
        // Test case 1: key of twenty 0x0b; longer keys are padded with zeros, as ours is.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let d = hmac_sha1(&key, b"Hi There");
        assert_eq!(d[..4], [0xb6, 0x17, 0x31, 0x86]);
        assert_eq!(d[16..], [0xf1, 0x46, 0xbe, 0x00]);
    }

    #[test]
    fn a_link_is_found_confirmed_and_ages() {
        let (mut t, now) = topology();
        let f = t.lldp(now, end(1, 2), MacAddr::default());
        assert_eq!(Frame::parse(&f).unwrap().eth_type, ETH_TYPE_LLDP);
        let link = t.lldp_received(now, end(9, 8), &f).unwrap().unwrap();
        assert_eq!((link.from, link.to), (end(1, 2), end(9, 8)));
        assert_eq!(t.lldp_received(now, end(9, 8), &f), Ok(None));
        assert!(t.is_link(end(9, 8)) && t.is_link(end(1, 2)));
        t.tick(now + LINK_AGE);
        assert_eq!(t.links().count(), 0);
    }

    #[test]
    fn forged_altered_old_and_reflected_frames_make_no_link() {
        let (mut t, now) = topology();
        let other = Topology::new(now, [8; 32]);
        let f = other.lldp(now, end(1, 2), MacAddr::default());
        assert_eq!(t.lldp_received(now, end(9, 8), &f), Err(LldpError::Forged));
        let mut f = t.lldp(now, end(1, 2), MacAddr::default());
        assert_eq!(
            t.lldp_received(now + LINK_AGE * 2, end(9, 8), &f),
            Err(LldpError::Old)
        );
        assert_eq!(t.lldp_received(now, end(1, 2), &f), Ok(None));
        // The last byte of the port id: header 2, chassis 1 + 16, header 2, subtype 1, port 4.
        f[ETHERNET_HEADER + 2 + 17 + 2 + 4] ^= 1;
        assert_eq!(t.lldp_received(now, end(9, 8), &f), Err(LldpError::Forged));
        let plain = [&frame(0, 1, None, ETH_TYPE_LLDP, &[])[..], &[0, 0]].concat();
        assert_eq!(
            t.lldp_received(now, end(9, 8), &plain),
            Err(LldpError::Foreign)
        );
        assert_eq!(t.links().count(), 0);
    }

    #[test]
    fn hosts_are_placed_and_followed_but_not_on_links() {
        let (mut t, now) = topology();
        let f = Frame {
            dst: MacAddr::from_u64(1),
            src: MacAddr::from_u64(2),
            vlan: Some(10),
            eth_type: 0x0800,
            sender: Some("10.0.0.1".parse().unwrap()),
        };
        t.packet_in(now, end(1, 1), &f);
        t.packet_in(now, end(1, 3), &f);
        let h = t.hosts().next().unwrap().clone();
        assert_eq!((h.place, h.moves, h.ips.len()), (end(1, 3), 1, 1));
        let l = t.lldp(now, end(2, 1), MacAddr::default());
        t.lldp_received(now, end(1, 3), &l).unwrap();
        assert_eq!(t.hosts().count(), 0);
        t.packet_in(now, end(1, 3), &f);
        assert_eq!(t.hosts().count(), 0);
        t.port_gone(end(2, 1));
        assert_eq!(t.links().count(), 0);
    }

    #[test]
    fn one_port_has_a_bounded_number_of_hosts() {
        let (mut t, now) = topology();
        for i in 0..2 * MAX_HOSTS_PER_PORT as u64 {
            let f = Frame::parse(&frame(1, 0x0200_0000_0000 + i, None, 0x0800, &[])).unwrap();
            t.packet_in(now, end(1, 1), &f);
        }
        assert_eq!(t.hosts().count(), MAX_HOSTS_PER_PORT);
        t.tick(now + HOST_AGE);
        assert_eq!(t.hosts().count(), 0);
        assert!(t.hosts_on.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut t, now) = topology();
            prop_assert!(t.lldp_received(now, end(1, 1), &bytes).is_err());
        }
    }
}
