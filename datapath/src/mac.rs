//! The learning table: which address was seen on which port.
//!
//! No clock and no threads in here: `now` comes in, and the bridge keeps the table behind a lock
//! that only translation and flushing take, never a packet that hit a cache.
//!
//! The table is bounded. When it is full, the address unseen for longest *of the port that has the
//! most* makes room, so that one tenant who invents addresses pushes out only its own. Addresses that were put in by hand stay
//! where they were put: they neither age nor move nor make room.

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
    /// Counts up: those seen last have the highest.
    order: u64,
    /// Put in by hand.
    fixed: bool,
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
    /// Nothing: all there is room for was put in by hand.
    Full,
}

/// What putting an address in by hand changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// It is new; the key of one it pushed out.
    New(Option<u64>),
    /// It was known to be on a port, by hand or learned.
    Was(FdbPlace),
    /// There is no room: all is taken by others put in by hand.
    Full,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbPlace {
    /// The port's index.
    pub port: u32,
    /// Whether it was put there by hand.
    pub fixed: bool,
}

/// An address in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its VLAN.
    pub vlan: u16,
    /// The address.
    pub mac: MacAddr,
    /// The port's index.
    pub port: u32,
    /// When it was last seen; none if it was put in by hand.
    pub used: Option<Now>,
}

/// A learning table.
#[derive(Debug, Default)]
pub struct MacTable {
    entries: HashMap<u64, Entry>,
    /// How many of them were put in by hand.
    fixed: usize,
    /// Of each port, keys of learned ones by when they were last seen.
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
            if old.fixed || old.port == port && now <= old.used {
                return Learned::Refreshed;
            }
            *e = Entry {
                port,
                used: now.max(old.used),
                order,
                fixed: false,
            };
            self.unlink(old.port, old.order);
            self.ports.entry(port).or_default().insert(order, key);
            if old.port == port {
                return Learned::Refreshed;
            }
            self.stats.moved += 1;
            return Learned::Moved;
        }
        let Ok(evicted) = self.make_room(max) else {
            return Learned::Full;
        };
        self.entries.insert(
            key,
            Entry {
                port,
                used: now,
                order,
                fixed: false,
            },
        );
        self.ports.entry(port).or_default().insert(order, key);
        self.stats.learned += 1;
        Learned::New(evicted)
    }

    /// Puts an address in by hand.
    pub fn fix(&mut self, key: u64, port: u32, now: Now, max: usize) -> Fixed {
        let was = self.entries.get(&key).copied();
        let came = match was {
            Some(e) => {
                self.remove(key);
                Fixed::Was(FdbPlace {
                    port: e.port,
                    fixed: e.fixed,
                })
            }
            None => match self.make_room(max) {
                Ok(evicted) => Fixed::New(evicted),
                Err(()) => return Fixed::Full,
            },
        };
        self.order += 1;
        // One that only changes its kind keeps its place among the others.
        let order = was.map_or(self.order, |e| e.order);
        self.entries.insert(
            key,
            Entry {
                port,
                used: now,
                order,
                fixed: true,
            },
        );
        self.fixed += 1;
        came
    }

    /// Takes an address out that was put in by hand; whether there was one.
    pub fn unfix(&mut self, key: u64) -> bool {
        let there = self.entries.get(&key).is_some_and(|e| e.fixed);
        if there {
            self.remove(key);
        }
        there
    }

    /// Takes one out if there are `max` or more, and says which; an error if all were put in by hand.
    fn make_room(&mut self, max: usize) -> Result<Option<u64>, ()> {
        if self.entries.len() < max.max(1) {
            return Ok(None);
        }
        let most = self.ports.values().max_by_key(|list| list.len());
        let Some((_, &victim)) = most.and_then(|list| list.first_key_value()) else {
            return Err(());
        };
        self.remove(victim);
        self.stats.evicted += 1;
        Ok(Some(victim))
    }

    /// Where an address is.
    pub fn place(&self, key: u64) -> Option<FdbPlace> {
        self.entries.get(&key).map(|e| FdbPlace {
            port: e.port,
            fixed: e.fixed,
        })
    }

    /// The port an address is on.
    pub fn lookup(&self, key: u64) -> Option<u32> {
        self.place(key).map(|p| p.port)
    }

    /// Takes out what was not seen for `aging`; their keys.
    pub fn expire(&mut self, now: Now, aging: Duration) -> Vec<u64> {
        let old: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| !e.fixed && now.saturating_sub(e.used) >= aging)
            .map(|(k, _)| *k)
            .collect();
        for k in &old {
            self.remove(*k);
        }
        self.stats.expired += old.len() as u64;
        old
    }

    /// Takes out all addresses of a port, or all that were learned; whether there were any.
    pub fn flush(&mut self, port: Option<u32>) -> bool {
        let keys: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| port.map_or(!e.fixed, |p| e.port == p))
            .map(|(k, _)| *k)
            .collect();
        for k in &keys {
            self.remove(*k);
        }
        !keys.is_empty()
    }

    /// All addresses, those seen last at the end.
    pub fn list(&self) -> Vec<Known> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_by_key(|(_, e)| e.order);
        all.into_iter()
            .map(|(k, e)| Known {
                vlan: (k >> 48) as u16,
                mac: MacAddr::from_u64(k & 0xffff_ffff_ffff),
                port: e.port,
                used: (!e.fixed).then_some(e.used),
            })
            .collect()
    }

    /// What it did.
    pub fn stats(&self) -> FdbStats {
        FdbStats {
            current: self.entries.len(),
            fixed: self.fixed,
            ..self.stats
        }
    }

    /// Counts from zero again.
    pub fn clear_stats(&mut self) {
        self.stats = FdbStats::default();
    }

    fn remove(&mut self, key: u64) {
        if let Some(e) = self.entries.remove(&key) {
            match e.fixed {
                true => self.fixed -= 1,
                false => self.unlink(e.port, e.order),
            }
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
    fn what_was_put_in_by_hand_stays_where_it_was_put() {
        let mut t = MacTable::default();
        assert_eq!(t.learn(7, 1, S(0), 2), Learned::New(None));
        let was = FdbPlace {
            port: 1,
            fixed: false,
        };
        assert_eq!(t.fix(7, 2, S(1), 2), Fixed::Was(was));
        assert_eq!(t.learn(7, 3, S(2), 2), Learned::Refreshed);
        assert_eq!(t.lookup(7), Some(2));
        assert!(t.expire(S(9999), S(15)).is_empty() && !t.flush(None));
        assert_eq!(t.fix(8, 2, S(1), 2), Fixed::New(None));
        assert_eq!(t.learn(9, 3, S(2), 2), Learned::Full);
        assert_eq!(t.fix(9, 2, S(1), 2), Fixed::Full);
        assert_eq!((t.stats().current, t.stats().fixed), (2, 2));
        assert!(t.unfix(8) && !t.unfix(8));
        assert_eq!(t.learn(9, 3, S(2), 2), Learned::New(None));
        assert_eq!(t.fix(10, 2, S(1), 2), Fixed::New(Some(9)));
        assert!(!t.unfix(9), "learned ones are not taken out by hand");
        let listed: Vec<_> = t.list().iter().map(|k| (k.port, k.used)).collect();
        assert_eq!(listed, [(2, None), (2, None)]);
        assert!(t.flush(Some(2)) && t.lookup(7).is_none());
        assert_eq!(t.stats().fixed, 0);
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
