//! The tunnels that packets came by, numbered.
//!
//! What outer headers say is long (addresses, key, flags, options), and few of it differs: a host has as many tunnels as it has
//! peers, times the networks it is in. So a forwarding thread gives each distinct one a *number*, and the number goes into the
//! packet's key, where other packets have their mark. The caches hash and compare one more half word, however much there is to know
//! of a tunnel, and packets without one pay nothing. A mask that looks at any bit of it looks at the whole number: a flow is then of
//! that tunnel alone, which is what flows of tunnels mostly are. When a flow is translated, [`Tunnels::get`] has the whole.
//!
//! The TTL on the way is not part of it, nor is the TOS: no flow can see them, and they change from packet to packet.
//!
//! # Bounds
//!
//! There are [`TUNNELS_MAX`] numbers. Those that no flow holds are taken back when the table is full. A packet that comes by yet
//! another tunnel is given the number of its place in the batch, for as long as the batch: what becomes of it is not cached if it
//! depends on the tunnel. So whoever invents tunnels slows down their own packets.

use crate::bridge::World;
use crate::drop::DropReason;
use crate::flow::Hasher;
use crate::packet::BATCH;
use crate::tunnel::{TunnelKey, TunnelKind, geneve};
use std::net::IpAddr;

/// Tunnels that one thread numbers.
pub const TUNNELS_MAX: usize = 4096;
/// Numbers up to this are those of places in a batch; 0 is none.
const TEMPORARY: usize = BATCH + 1;
/// Cells of the index: at most half are used.
const CELLS: usize = TUNNELS_MAX * 2;

/// How packets of a tunnel look, beside what their headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// UDP port, 0 for kinds without.
    pub port: u16,
    /// Whether bare IP packets are inside.
    pub layer3: bool,
    /// Whether there is a group policy (VXLAN).
    pub gbp: bool,
}

impl Shape {
    /// The tunnel port that such packets are for, or why it is for none.
    pub fn port(&self, key: &TunnelKey, options: &[u8], world: &World) -> Result<u32, DropReason> {
        let found = world.tunnels.find(self.kind, self.port, self.layer3, key);
        let entry = found.and_then(|port| world.port(port));
        let entry = entry.ok_or(DropReason::TunnelPort)?;
        // A group policy is only for tunnels that asked for it.
        if self.gbp && !entry.tunnel.as_ref().is_some_and(|t| t.gbp) {
            return Err(DropReason::TunnelPort);
        }
        if !options.is_empty()
            && let Some(bridge) = world.bridge(entry.bridge)
        {
            let maps = &bridge.state.load().options;
            let len = |class, kind| {
                let map = maps.iter().find(|m| (m.class, m.kind) == (class, kind));
                map.map(|m| m.len.into())
            };
            if !geneve::are_understood(options, len) {
                return Err(DropReason::TunnelOption);
            }
        }
        Ok(entry.index)
    }
}

/// What is known of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its tunnel port, or why there is none for it any more.
    pub port: Result<u32, DropReason>,
    /// What its packets look like.
    pub shape: Shape,
    /// What outer headers say, without TOS and TTL.
    pub key: TunnelKey,
    /// Geneve options, as on the wire.
    pub options: Vec<u8>,
}

/// The tunnels of one thread. See the module.
pub struct Tunnels {
    /// By number.
    known: Vec<Option<Tunnel>>,
    free: Vec<u32>,
    /// Numbers by hash, open addressing; made when the first tunnel comes. The high half of a cell is that of the hash, for rebuilding.
    index: Vec<u64>,
    last: u32,
    hasher: Hasher,
    /// A tunnel had to do without a number of its own.
    full: bool,
}

impl Default for Tunnels {
    fn default() -> Tunnels {
        Tunnels {
            known: vec![None; TEMPORARY],
            free: Vec::new(),
            index: Vec::new(),
            last: 0,
            hasher: Hasher::new(),
            full: false,
        }
    }
}

impl Tunnels {
    /// The tunnel of a number; none for 0.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Tunnel> {
        self.known.get(number as usize)?.as_ref()
    }

    /// Whether a number is one for a batch only: no flow that looks at it may be kept.
    #[inline]
    pub fn is_temporary(number: u32) -> bool {
        number != 0 && (number as usize) < TEMPORARY
    }

    /// The number of a tunnel, whose packet is that of place `i`, and its port; if it has none, why.
    #[inline]
    pub fn number(
        &mut self,
        shape: Shape,
        key: &TunnelKey,
        options: &[u8],
        i: usize,
        world: &World,
    ) -> Result<(u32, u32), DropReason> {
        let key = TunnelKey {
            tos: 0,
            ttl: 0,
            ..*key
        };
        // Packets of a burst are of one tunnel.
        if let Some(port) = self.is(self.last, shape, &key, options) {
            return Ok((self.last, port?));
        }
        let hash = self.hash(shape, &key, options);
        let mut at = hash as usize;
        while let Some(&cell) = self.index.get(at % CELLS)
            && cell != 0
        {
            let number = cell as u32;
            if cell >> 32 == hash >> 32
                && let Some(port) = self.is(number, shape, &key, options)
            {
                self.last = number;
                return Ok((number, port?));
            }
            at += 1;
        }
        let port = shape.port(&key, options, world)?;
        let tunnel = Tunnel {
            port: Ok(port),
            shape,
            key,
            options: options.to_vec(),
        };
        Ok((self.add(tunnel, hash, i), port))
    }

    /// Whether a number is that of a tunnel, and then its port.
    #[inline]
    fn is(
        &self,
        number: u32,
        shape: Shape,
        key: &TunnelKey,
        options: &[u8],
    ) -> Option<Result<u32, DropReason>> {
        let t = self.get(number)?;
        (t.key == *key && t.shape == shape && t.options == options).then_some(t.port)
    }

    fn hash(&self, shape: Shape, key: &TunnelKey, options: &[u8]) -> u64 {
        let halves = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => [u32::from(ip).into(), 4],
            IpAddr::V6(ip) => {
                let ip = u128::from(ip);
                [(ip >> 64) as u64, ip as u64]
            }
        };
        let ([a, b], [c, d]) = (halves(key.src), halves(key.dst));
        let small = u64::from(key.flags) << 48
            | u64::from(key.gbp_id) << 32
            | u64::from(key.gbp_flags) << 24
            | u64::from(key.erspan_version) << 16
            | u64::from(key.erspan_direction) << 8
            | u64::from(key.erspan_hwid);
        let more = u64::from(key.erspan_index) << 32
            | u64::from(key.gtpu_flags) << 8
            | u64::from(key.gtpu_message);
        let more = more ^ (shape.kind as u64) << 16 ^ u64::from(shape.port) << 20;
        let mut h = self.hasher.hash(&[key.id, a, b, c, d, small, more]);
        let (words, _) = options.as_chunks::<4>();
        for w in words {
            h = self.hasher.hash(&[h, u32::from_ne_bytes(*w).into()]);
        }
        h
    }

    #[inline(never)]
    fn add(&mut self, tunnel: Tunnel, hash: u64, i: usize) -> u32 {
        let number = match self.free.pop() {
            Some(number) => number as usize,
            None if self.known.len() < TEMPORARY + TUNNELS_MAX => self.known.len(),
            None => {
                self.full = true;
                let number = i % BATCH + 1;
                self.known[number] = Some(tunnel);
                return number as u32;
            }
        };
        match self.known.get_mut(number) {
            Some(place) => *place = Some(tunnel),
            None => self.known.push(Some(tunnel)),
        }
        if self.index.is_empty() {
            self.index = vec![0; CELLS];
        }
        self.put(hash, number as u32);
        self.last = number as u32;
        number as u32
    }

    fn put(&mut self, hash: u64, number: u32) {
        let mut at = hash as usize;
        while self.index[at % CELLS] != 0 {
            at += 1;
        }
        self.index[at % CELLS] = hash >> 32 << 32 | u64::from(number);
    }

    /// Finds the tunnel port of each tunnel anew: ports changed. Numbers stay what they are.
    pub fn find_ports(&mut self, world: &World) {
        for t in self.known.iter_mut().flatten() {
            t.port = t.shape.port(&t.key, &t.options, world);
        }
    }

    /// Whether numbers ran out, so that those nobody holds should be taken back.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes numbers back, but those in `held`. Between batches.
    pub fn reclaim(&mut self, held: impl Iterator<Item = u32>) {
        let mut keep = vec![false; self.known.len()];
        for n in held {
            if let Some(k) = keep.get_mut(n as usize) {
                *k = true;
            }
        }
        self.full = false;
        self.last = 0;
        self.index.fill(0);
        for (n, keep) in keep.into_iter().enumerate().skip(TEMPORARY) {
            let Some(t) = &self.known[n] else { continue };
            if keep {
                let hash = self.hash(t.shape, &t.key, &t.options);
                self.put(hash, n as u32);
            } else {
                self.known[n] = None;
                self.free.push(n as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::ports::TunnelPorts;
    use crate::tunnel::testing::{entry, key, spec};
    use crate::tunnel::{Given, TunnelSpec};
    use std::sync::Arc;

    const SHAPE: Shape = Shape {
        kind: TunnelKind::Vxlan,
        port: 4789,
        layer3: false,
        gbp: false,
    };

    fn world(in_key: Given<u64>) -> World {
        let ports = vec![Some(entry(
            0,
            TunnelSpec {
                in_key: Some(in_key),
                ..spec(TunnelKind::Vxlan)
            },
        ))];
        World {
            tunnels: Arc::new(TunnelPorts::new(&ports)),
            ports,
            ..World::default()
        }
    }

    fn at(id: u64) -> TunnelKey {
        TunnelKey { id, ..key() }
    }

    #[test]
    fn the_same_tunnel_has_one_number_and_others_have_others() {
        let w = world(Given::ByFlow);
        let mut t = Tunnels::default();
        let mut number = |key: TunnelKey, options: &[u8]| t.number(SHAPE, &key, options, 0, &w);
        let (a, port) = number(at(1), &[]).unwrap();
        assert_eq!(port, 0);
        let (b, _) = number(at(1), &[0, 1, 2, 0]).unwrap();
        let (c, _) = number(at(2), &[]).unwrap();
        let hop = TunnelKey {
            ttl: 3,
            tos: 9,
            ..at(1)
        };
        assert_eq!(number(hop, &[]).unwrap().0, a);
        assert_eq!(number(at(1), &[0, 1, 2, 0]).unwrap().0, b);
        assert!(a != b && b != c && a != c);
        let gbp = Shape { gbp: true, ..SHAPE };
        assert_eq!(
            t.number(gbp, &at(1), &[], 0, &w),
            Err(DropReason::TunnelPort),
            "nobody asked for policies"
        );
        // The port goes, and the number stays the tunnel's.
        t.find_ports(&world(Given::Fixed(2)));
        let number = |t: &mut Tunnels, id| t.number(SHAPE, &at(id), &[], 0, &w);
        assert_eq!(number(&mut t, 1), Err(DropReason::TunnelPort));
        assert_eq!(number(&mut t, 2), Ok((c, 0)));
        assert_eq!((t.get(c).unwrap().key.id, t.get(0)), (2, None));
    }

    #[test]
    fn beyond_the_bound_numbers_are_of_the_batch_and_free_ones_are_taken_back() {
        let w = world(Given::ByFlow);
        let mut t = Tunnels::default();
        let number = |t: &mut Tunnels, id| t.number(SHAPE, &at(id), &[], 5, &w).unwrap().0;
        for id in 0..TUNNELS_MAX as u64 {
            assert!(!Tunnels::is_temporary(number(&mut t, id)));
        }
        assert!(!t.is_full());
        let n = number(&mut t, 1 << 20);
        assert!(Tunnels::is_temporary(n) && t.is_full());
        assert_eq!(t.get(n).unwrap().key.id, 1 << 20);
        let held = number(&mut t, 9);
        t.reclaim([held].into_iter());
        assert_eq!(number(&mut t, 9), held);
        let n = number(&mut t, 1 << 20);
        assert!(!Tunnels::is_temporary(n) && n != held);
    }
}
