//! The learning table: which address was seen on which port.
//!
//! No clock and no threads in here: `now` comes in, and the bridge keeps the table behind a lock
//! that only translation and flushing take, never a packet that hit a cache.
//!
//! The table is bounded. When it is full, the address unseen for longest *of the port that has the
//! most* makes room, so that one tenant who invents addresses pushes out only its own.

use crate::clock::Now;
use crate::config::FdbStats;
use openflow::MacAddr;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// An address in a VLAN, as one number.
pub(crate) fn key(vlan: u16, mac: u64) -> u64 {
    u64::from(vlan) << 48 | mac
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: u32,
    used: Now,
    order: u64,
}

/// What learning changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing but the time it was last seen.
    Refreshed,
    /// A new address; the key of one it pushed out.
    New(Option<u64>),
    /// It was on another port before.
    Moved,
}

/// A learning table.
#[derive(Debug, Default)]
pub struct MacTable {
    entries: HashMap<u64, Entry>,
    /// Of each port, keys by when they were last seen.
    ports: HashMap<u32, BTreeMap<u64, u64>>,
    order: u64,
    stats: FdbStats,
}

impl MacTable {
    /// An address was seen. `max` bounds the table (at least one fits).
    pub fn learn(&mut self, key: u64, port: u32, now: Now, max: usize) -> Learned {
        self.order += 1;
        let order = self.order;
        if let Some(e) = self.entries.get_mut(&key) {
            let old = *e;
            *e = Entry {
                port,
                used: now.max(old.used),
                order,
            };
            self.unlink(old.port, old.order);
            self.ports.entry(port).or_default().insert(order, key);
            if old.port == port {
                return Learned::Refreshed;
            }
            self.stats.moved += 1;
            return Learned::Moved;
        }
        let mut evicted = None;
        if self.entries.len() >= max.max(1)
            && let Some((_, list)) = self.ports.iter().max_by_key(|(_, list)| list.len())
            && let Some((_, &victim)) = list.first_key_value()
        {
            self.remove(victim);
            self.stats.evicted += 1;
            evicted = Some(victim);
        }
        self.entries.insert(
            key,
            Entry {
                port,
                used: now,
                order,
            },
        );
        self.ports.entry(port).or_default().insert(order, key);
        self.stats.learned += 1;
        Learned::New(evicted)
    }

    /// Where an address is.
    pub fn lookup(&self, key: u64) -> Option<u32> {
        self.entries.get(&key).map(|e| e.port)
    }

    /// Takes out what was not seen for `aging`; their keys.
    pub fn expire(&mut self, now: Now, aging: Duration) -> Vec<u64> {
        let old: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| now.saturating_sub(e.used) >= aging)
            .map(|(k, _)| *k)
            .collect();
        for k in &old {
            self.remove(*k);
        }
        self.stats.expired += old.len() as u64;
        old
    }

    /// Takes out all addresses of a port, or all there are; whether there were any.
    pub fn flush(&mut self, port: Option<u32>) -> bool {
        let keys: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| port.is_none_or(|p| e.port == p))
            .map(|(k, _)| *k)
            .collect();
        for k in &keys {
            self.remove(*k);
        }
        !keys.is_empty()
    }

    /// All addresses: VLAN, address, port and when it was last seen.
    pub fn iter(&self) -> impl Iterator<Item = (u16, MacAddr, u32, Now)> {
        self.entries.iter().map(|(k, e)| {
            let mac = MacAddr::from_u64(k & 0xffff_ffff_ffff);
            ((k >> 48) as u16, mac, e.port, e.used)
        })
    }

    /// What it did.
    pub fn stats(&self) -> FdbStats {
        FdbStats {
            current: self.entries.len(),
            ..self.stats
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(e) = self.entries.remove(&key) {
            self.unlink(e.port, e.order);
        }
    }

    fn unlink(&mut self, port: u32, order: u64) {
        if let Some(list) = self.ports.get_mut(&port) {
            list.remove(&order);
            if list.is_empty() {
                self.ports.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Now = Duration::from_secs;

    #[test]
    fn moves_ages_and_refreshes() {
        let mut t = MacTable::default();
        assert_eq!(t.learn(7, 1, S(0), 10), Learned::New(None));
        assert_eq!(t.learn(7, 1, S(4), 10), Learned::Refreshed);
        assert_eq!(t.learn(7, 2, S(5), 10), Learned::Moved);
        assert_eq!(t.lookup(7), Some(2));
        assert!(t.expire(S(9), S(5)).is_empty());
        assert_eq!(t.expire(S(10), S(5)), [7]);
        assert_eq!(t.lookup(7), None);
    }

    #[test]
    fn a_flood_of_addresses_pushes_out_its_own() {
        let mut t = MacTable::default();
        t.learn(1, 1, S(0), 4);
        for k in 10..100 {
            t.learn(k, 2, S(1), 4);
        }
        assert_eq!(t.lookup(1), Some(1));
        assert_eq!(t.lookup(99), Some(2));
        assert_eq!(t.stats().current, 4);
        assert_eq!(t.stats().evicted, 87);
    }
}
