//! The layout of the flow key.
//!
//! A key is 60 words of 64 bits. Each [`Slot`] of the field table has one place in it, given by
//! [`place`]: the only table of positions. Words that every packet needs come first, so that what a
//! plain packet fills in is a prefix (3 words for bare Ethernet, 5 for IPv4 with ports, 6 for TCP, 10 for
//! IPv6): extraction writes the prefix and tells its length, and caches hash and compare only
//! that. Words from [`PACKET_WORDS`] on are tunnel metadata, registers and connection state: zero when a
//! packet comes in, and filled in by the pipeline alone. What came by a tunnel has the number of its tunnel in the low half of its
//! first word, where other packets have their mark (see [`Tunnels`](crate::cache::tunnels::Tunnels)).
//!
//! The mask of a key (which bits a decision looked at) has the same shape.

use openflow::Slot;

/// Words of a key.
pub const WORDS: usize = 60;
/// The first of the words of tunnel options.
const OPTION_WORDS: u8 = 44;
/// Tunnel options that a key has room for. The fields `tun_metadata0` to `tun_metadata63` share them: two fields whose numbers differ by a
/// multiple of this cannot be used together.
pub const OPTIONS: u8 = 8;
/// Words that tell of the tunnel a packet came by, but for options.
pub(super) const TUNNEL_WORDS: std::ops::Range<usize> = 15..23;
/// Words that a packet itself fills in.
pub const PACKET_WORDS: usize = 15;

/// The part of a key that comes from the packet.
pub type PacketKey = [u64; PACKET_WORDS];

/// Where a slot's bits lie: `shift` bits left in word `word`. A 128-bit slot has its high half in
/// `word` and its low half in the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The word.
    pub word: u8,
    /// Its lowest bit in it.
    pub shift: u8,
}

/// The place of a slot.
pub const fn place(slot: Slot) -> Place {
    let (word, shift) = match slot {
        Slot::InPort => (0, 32),
        Slot::PktMark => (0, 0),
        Slot::EthDst => (1, 16),
        Slot::EthType => (1, 0),
        Slot::EthSrc => (2, 16),
        Slot::VlanTci => (2, 0),
        Slot::NwSrc => (3, 32),
        Slot::NwDst => (3, 0),
        Slot::NwProto => (4, 56),
        Slot::NwTos => (4, 48),
        Slot::NwTtl => (4, 40),
        Slot::NwFrag => (4, 32),
        Slot::TpSrc => (4, 16),
        Slot::TpDst => (4, 0),
        Slot::Ipv6Label => (5, 32),
        Slot::TcpFlags => (5, 16),
        Slot::Ipv6Exthdr => (5, 0),
        Slot::Ipv6Src => (6, 0),
        Slot::Ipv6Dst => (8, 0),
        // A packet with a network service header is not looked into further: its words are those that IPv6 addresses have
        // in others. The Ethernet type tells them apart.
        Slot::NshFlags => (6, 56),
        Slot::NshTtl => (6, 48),
        Slot::NshMdtype => (6, 40),
        Slot::NshNp => (6, 32),
        Slot::NshPath => (6, 0),
        Slot::NshContext => (8, 0),
        Slot::NdTarget => (10, 0),
        Slot::ArpSha => (12, 16),
        Slot::InnerVlanTci => (12, 0),
        Slot::ArpTha => (13, 16),
        Slot::PbbUca => (13, 8),
        Slot::Pad => (13, 0),
        Slot::Mpls => (14, 32),
        Slot::PbbIsid => (14, 0),
        Slot::TunId => (15, 0),
        Slot::TunSrc => (16, 32),
        Slot::TunDst => (16, 0),
        Slot::TunIpv6Src => (17, 0),
        Slot::TunIpv6Dst => (19, 0),
        Slot::TunFlags => (21, 48),
        Slot::TunGbpId => (21, 32),
        Slot::TunGbpFlags => (21, 24),
        Slot::TunTos => (21, 16),
        Slot::TunTtl => (21, 8),
        Slot::ErspanDir => (21, 0),
        Slot::ErspanIdx => (22, 32),
        Slot::ErspanVer => (22, 24),
        Slot::ErspanHwid => (22, 16),
        Slot::GtpuFlags => (22, 8),
        Slot::GtpuMsgtype => (22, 0),
        Slot::Metadata => (23, 0),
        Slot::ConjId => (24, 32),
        Slot::ActsetOutput => (24, 0),
        Slot::PacketType => (25, 32),
        Slot::DpHash => (25, 0),
        Slot::RecircId => (26, 32),
        Slot::InPhyPort => (26, 0),
        Slot::Xxreg0 => (27, 0),
        Slot::Xxreg1 => (29, 0),
        Slot::Xxreg2 => (31, 0),
        Slot::Xxreg3 => (33, 0),
        Slot::CtState => (35, 32),
        Slot::CtMark => (35, 0),
        Slot::CtLabel => (36, 0),
        Slot::CtZone => (38, 48),
        Slot::CtNwProto => (38, 40),
        Slot::CtPad => (38, 32),
        Slot::CtTpSrc => (38, 16),
        Slot::CtTpDst => (38, 0),
        Slot::CtNwSrc => (39, 32),
        Slot::CtNwDst => (39, 0),
        Slot::CtIpv6Src => (40, 0),
        Slot::CtIpv6Dst => (42, 0),
        Slot::TunOption(n) => (OPTION_WORDS + 2 * (n % OPTIONS), 0),
    };
    Place { word, shift }
}

/// All ones in a slot's width.
pub const fn slot_bits(slot: Slot) -> u128 {
    match slot.bits() {
        128 => u128::MAX,
        n => (1 << n) - 1,
    }
}

/// A whole key (or a mask over one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey(pub [u64; WORDS]);

/// Which bits of a key were looked at.
pub type FlowMask = FlowKey;

impl Default for FlowKey {
    fn default() -> FlowKey {
        FlowKey([0; WORDS])
    }
}

impl FlowKey {
    /// The bits of a slot.
    #[inline]
    pub fn get(&self, slot: Slot) -> u128 {
        let p = place(slot);
        let w = usize::from(p.word);
        if slot.bits() == 128 {
            (u128::from(self.0[w]) << 64 | u128::from(self.0[w + 1])) & slot_bits(slot)
        } else {
            u128::from(self.0[w] >> p.shift) & slot_bits(slot)
        }
    }

    /// The bits of a slot of at most 64 bits.
    #[inline]
    pub fn get64(&self, slot: Slot) -> u64 {
        self.get(slot) as u64
    }

    /// Writes the bits of a slot under `mask`.
    #[inline]
    pub fn set_masked(&mut self, slot: Slot, value: u128, mask: u128) {
        let p = place(slot);
        let w = usize::from(p.word);
        let mask = mask & slot_bits(slot);
        let value = value & mask;
        if slot.bits() == 128 {
            self.0[w] = self.0[w] & !((mask >> 64) as u64) | (value >> 64) as u64;
            self.0[w + 1] = self.0[w + 1] & !(mask as u64) | value as u64;
        } else {
            self.0[w] = self.0[w] & !((mask as u64) << p.shift) | (value as u64) << p.shift;
        }
    }

    /// Writes a whole slot.
    #[inline]
    pub fn set(&mut self, slot: Slot, value: u128) {
        self.set_masked(slot, value, u128::MAX);
    }

    /// As a mask: looks at `bits` of a slot too.
    #[inline]
    pub fn look(&mut self, slot: Slot, bits: u128) {
        let p = place(slot);
        let w = usize::from(p.word);
        let bits = bits & slot_bits(slot);
        if slot.bits() == 128 {
            self.0[w] |= (bits >> 64) as u64;
            self.0[w + 1] |= bits as u64;
        } else {
            self.0[w] |= (bits as u64) << p.shift;
        }
    }

    /// As a mask: looks at all of a slot.
    #[inline]
    pub fn look_all(&mut self, slot: Slot) {
        self.look(slot, u128::MAX);
    }

    /// The key of a packet: its own words, the rest zero.
    pub fn from_packet(words: &PacketKey, len: usize) -> FlowKey {
        let mut key = FlowKey::default();
        key.0[..len].copy_from_slice(&words[..len]);
        key
    }

    /// As a mask: whether it looks at anything that a tunnel told.
    #[inline]
    pub fn looks_at_tunnel(&self) -> bool {
        let all = |words: &[u64]| words.iter().fold(0, |all, w| all | w);
        all(&self.0[TUNNEL_WORDS]) | all(&self.0[OPTION_WORDS.into()..]) != 0
    }

    /// The packet's words.
    pub fn packet_words(&self) -> &PacketKey {
        self.0[..PACKET_WORDS].try_into().expect("a prefix")
    }
}

/// A keyed hash of words. Tenants choose the words, so the key is secret: otherwise they could
/// make all their flows collide in the caches.
///
/// Words go in by pairs, each pair one multiplication with its own secrets; the products do not wait for
/// each other.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    secret: [u64; SECRETS],
}

/// Secrets of a [`Hasher`]: one a word of a packet's key, and one for the last step.
const SECRETS: usize = PACKET_WORDS + 2;

impl Hasher {
    /// With a secret from the system.
    pub fn new() -> Hasher {
        use std::hash::{BuildHasher, RandomState};
        let s = RandomState::new();
        Hasher {
            secret: std::array::from_fn(|i| s.hash_one(i)),
        }
    }

    /// The hash of `words`.
    #[inline(always)]
    pub fn hash(&self, words: &[u64]) -> u64 {
        let mut h = words.len() as u64;
        let (pairs, last) = words.as_chunks::<2>();
        for (k, p) in pairs.iter().enumerate() {
            // Longer runs than a packet's key turn, so that their order counts too.
            let s = k % (PACKET_WORDS / 2) * 2;
            h = h.rotate_left(1) ^ fold(p[0] ^ self.secret[s], p[1] ^ self.secret[s + 1]);
        }
        if let [last] = last {
            h = h.rotate_left(1) ^ fold(last ^ self.secret[SECRETS - 3], self.secret[SECRETS - 2]);
        }
        fold(h ^ self.secret[SECRETS - 1], 0x9e37_79b9_7f4a_7c15)
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

/// A [`Hasher`] for the standard library's tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed(Hasher);

/// A hash of [`Keyed`] on its way.
pub struct KeyedState {
    hasher: Hasher,
    hash: u64,
}

impl std::hash::BuildHasher for Keyed {
    type Hasher = KeyedState;
    fn build_hasher(&self) -> KeyedState {
        KeyedState {
            hasher: self.0,
            hash: 0,
        }
    }
}

impl std::hash::Hasher for KeyedState {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for c in chunks {
            self.write_u64(u64::from_ne_bytes(*c));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_ne_bytes(last));
    }

    fn write_u64(&mut self, word: u64) {
        let secret = self.hasher.secret;
        self.hash = fold(self.hash ^ word ^ secret[0], secret[1]);
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let m = u128::from(a).wrapping_mul(u128::from(b));
    (m as u64) ^ ((m >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_fill_the_key() {
        let mut used = FlowKey::default();
        let nsh = Slot::NshFlags..=Slot::NshContext;
        let options: Vec<Slot> = (0..OPTIONS).map(Slot::TunOption).collect();
        let all = Slot::ALL.iter().chain(&options);
        for &slot in all.filter(|s| !nsh.contains(s)) {
            assert_eq!(used.get(slot), 0, "{slot:?} overlaps");
            used.look_all(slot);
        }
        assert!(used.0.iter().all(|&w| w == u64::MAX));
        let mut used = FlowKey::default();
        for &slot in Slot::ALL.iter().filter(|s| nsh.contains(s)) {
            assert_eq!(used.get(slot), 0, "{slot:?} overlaps");
            used.look_all(slot);
        }
        let ipv6 = place(Slot::Ipv6Src).word.into()..usize::from(place(Slot::NdTarget).word);
        assert!((0..WORDS).all(|w| used.0[w] == 0 || ipv6.contains(&w)));
    }

    #[test]
    fn every_bit_and_the_order_count_in_a_hash() {
        let h = Hasher::new();
        for n in 1..=40 {
            let words: Vec<u64> = (0..n).collect();
            let whole = h.hash(&words);
            for bit in 0..n as usize * 64 {
                let mut w = words.clone();
                w[bit / 64] ^= 1 << (bit % 64);
                assert_ne!(h.hash(&w), whole);
            }
            assert_ne!(h.hash(&words[1..]), whole);
            let mut w = words.clone();
            w.reverse();
            assert!(n == 1 || h.hash(&w) != whole);
        }
        assert_ne!(Hasher::new().hash(&[1, 2]), h.hash(&[1, 2]));
    }

    #[test]
    fn what_is_set_is_got() {
        for &slot in Slot::ALL {
            let mut k = FlowKey::default();
            let v = 0x0123_4567_89ab_cdef_1122_3344_5566_7788 & slot_bits(slot);
            k.set(slot, v);
            assert_eq!(k.get(slot), v);
            k.set_masked(slot, 0, 0x0f);
            assert_eq!(k.get(slot), v & !0x0f);
        }
    }
}
