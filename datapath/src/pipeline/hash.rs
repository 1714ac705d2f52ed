//! Choosing by hash: select groups, multipath, bundles.
//!
//! A hash is made of fields of the packet, which are thereby looked at: packets that agree on them make the same choice, and
//! one cached flow serves them. It is the same on every run of every switch, so that a restart moves no connection.

use super::translate::{Here, Xlate};
use crate::group::Group;
use openflow::action::{HashFields, Multipath, MultipathAlgorithm, Spread};
use openflow::{FieldId, PortNo, Slot, Subfield};

/// Tries of the iterative multipath algorithm before it takes what it has: enough for all but one in 10^9 packets.
const TRIES_MAX: u32 = 30;

/// Adds a word to a hash (the finalizer of splitmix64).
fn mix(hash: u64, word: u64) -> u64 {
    let mut z = hash.rotate_left(5) ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn mix_wide(hash: u64, word: u128) -> u64 {
    mix(mix(hash, (word >> 64) as u64), word as u64)
}

/// Whether a flow of this protocol has ports to tell it by.
fn has_ports(proto: u64, udp: bool) -> bool {
    matches!(proto, 6 | 132) || udp && proto == 17
}

impl Xlate<'_> {
    /// What the packet has in a slot, looked at.
    fn has(&mut self, slot: Slot) -> u128 {
        if matches!(slot, Slot::VlanTci | Slot::InnerVlanTci) {
            self.sync_tags();
            self.look_tags();
        }
        self.look_all(slot);
        self.key.get(slot)
    }

    /// The two addresses of an IP packet, of either version; none of others.
    fn addresses(&mut self) -> Option<(u128, u128)> {
        match self.has(Slot::EthType) {
            0x0800 => Some((self.has(Slot::NwSrc), self.has(Slot::NwDst))),
            0x86dd => Some((self.has(Slot::Ipv6Src), self.has(Slot::Ipv6Dst))),
            _ => None,
        }
    }

    /// The two ports of an IP packet, which later fragments do not have.
    fn ports(&mut self, udp: bool) -> (u128, u128) {
        let proto = self.has(Slot::NwProto) as u64;
        if has_ports(proto, udp) && self.has(Slot::NwFrag) == 0 {
            (self.has(Slot::TpSrc), self.has(Slot::TpDst))
        } else {
            (0, 0)
        }
    }

    /// The hash of what `nx_hash_fields` names.
    fn hash_fields(&mut self, fields: HashFields, basis: u64) -> u64 {
        let mut hash = mix(0, basis);
        let symmetric = |hash, (a, b): (u128, u128)| mix_wide(hash, a ^ b);
        match fields {
            HashFields::EthSrc => mix_wide(hash, self.has(Slot::EthSrc)),
            HashFields::NwSrc => mix_wide(hash, self.addresses().map_or(0, |a| a.0)),
            HashFields::NwDst => mix_wide(hash, self.addresses().map_or(0, |a| a.1)),
            HashFields::SymmetricL3 => {
                let a = self.addresses().unwrap_or_default();
                symmetric(hash, a)
            }
            HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp => {
                let udp = fields == HashFields::SymmetricL3L4Udp;
                let Some(a) = self.addresses() else {
                    return hash;
                };
                hash = symmetric(hash, a);
                hash = mix_wide(hash, self.has(Slot::NwProto));
                symmetric(hash, self.ports(udp))
            }
            HashFields::SymmetricL4 => {
                let eth = (self.has(Slot::EthSrc), self.has(Slot::EthDst));
                hash = symmetric(hash, eth);
                hash = mix_wide(hash, self.has(Slot::VlanTci) & 0x1fff);
                hash = mix_wide(hash, self.has(Slot::EthType));
                let Some(a) = self.addresses() else {
                    return hash;
                };
                hash = symmetric(hash, a);
                hash = mix_wide(hash, self.has(Slot::NwProto));
                symmetric(hash, self.ports(false))
            }
        }
    }

    /// The hash of layers 2 to 4, each direction of a connection for itself.
    fn hash_connection(&mut self, basis: u64) -> u64 {
        let mut hash = mix(0, basis);
        for slot in [Slot::EthSrc, Slot::EthDst, Slot::VlanTci, Slot::EthType] {
            hash = mix_wide(hash, self.has(slot));
        }
        let Some((src, dst)) = self.addresses() else {
            return hash;
        };
        let proto = self.has(Slot::NwProto);
        let (from, to) = self.ports(true);
        for word in [src, dst, proto, from, to] {
            hash = mix_wide(hash, word);
        }
        hash
    }

    /// The bucket of a select group for this packet, among those in `live`: each gets packets by its weight, and those of the
    /// others stay where they are when one comes or goes (weighted rendezvous hashing).
    pub(super) fn choose(&mut self, group: &Group, live: &[usize]) -> Option<usize> {
        let weight = |n: usize| group.buckets[n].bucket.weight;
        let mut able = live.iter().copied().filter(|&n| weight(n) > 0);
        let first = able.next()?;
        if able.next().is_none() {
            return Some(first);
        }
        let basis = mix(group.selection.param, group.id.into());
        let fields = &group.selection.fields;
        let hash = if group.selection.method == "hash" && !fields.is_empty() {
            fields.iter().fold(mix(0, basis), |hash, &(field, mask)| {
                let value = self.masked(field, mask);
                mix_wide(mix(hash, field as u64), value)
            })
        } else {
            self.hash_connection(basis)
        };
        let score = |n: usize| {
            let draw = mix(hash, group.buckets[n].bucket.id.into());
            // Uniform above 0, up to 1.
            let draw = ((draw >> 11) + 1) as f64 / (1u64 << 53) as f64;
            -draw.ln() / f64::from(weight(n))
        };
        let able = live.iter().copied().filter(|&n| weight(n) > 0);
        able.min_by(|&a, &b| score(a).total_cmp(&score(b)))
    }

    fn masked(&mut self, field: FieldId, mask: u128) -> u128 {
        let info = field.info();
        if matches!(info.slot, Slot::VlanTci | Slot::InnerVlanTci) {
            return self.read(Subfield::whole(field)) & mask;
        }
        self.look(info.slot, mask << info.shift);
        (self.key.get(info.slot) >> info.shift) & mask
    }

    /// Nicira's multipath: a number of a link into a field.
    pub(super) fn multipath(&mut self, m: &Multipath) {
        let hash = self.hash_fields(m.fields, m.basis.into());
        let links = u64::from(m.max_link) + 1;
        let link = match m.algorithm {
            MultipathAlgorithm::ModuloN => (hash as u32 as u64) % links,
            // As many parts of the range as there are links.
            MultipathAlgorithm::HashThreshold => (u64::from(hash as u32) * links) >> 32,
            MultipathAlgorithm::Hrw => (0..links)
                .max_by_key(|&link| mix(hash, link))
                .unwrap_or_default(),
            MultipathAlgorithm::IterHash => {
                let ones = links.next_power_of_two() - 1;
                let mut tries = (0..TRIES_MAX)
                    .map(|n| mix(hash, u64::from(m.arg).wrapping_add(n.into())) & ones);
                tries.find(|&link| link < links).unwrap_or(0)
            }
        };
        self.load(m.target, link.into());
        self.tell_now(m.target);
    }

    /// Nicira's bundle and bundle_load: one of several ports, of those that are live.
    pub(super) fn bundle(&mut self, here: Here, b: &Spread) {
        let live: Vec<PortNo> = if b.active_backup {
            let first = b.ports.iter().find(|p| self.is_live(here, **p));
            first.into_iter().copied().collect()
        } else {
            let mut live = b.ports.clone();
            live.retain(|p| self.is_live(here, *p));
            live
        };
        let port = if live.len() > 1 {
            let hash = self.hash_fields(b.fields, b.basis.into());
            live.into_iter().max_by_key(|p| mix(hash, p.0.into()))
        } else {
            live.first().copied()
        };
        match (b.target, port) {
            (Some(target), port) => {
                // OFPP_NONE of OpenFlow 1.0 says that none is live.
                let number = port.map_or(0xffff, |p| u128::from(p.0));
                let number = if target.bits <= 16 {
                    number & 0xffff
                } else {
                    number
                };
                self.load(target, number);
                self.tell_now(target);
            }
            (None, Some(port)) => self.output(here, port, 0),
            (None, None) => self.dropped(crate::drop::DropReason::NoLiveBucket),
        }
    }
}
