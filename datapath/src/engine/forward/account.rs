//! Counting: on the flow while packets come, to rules, tables and ports now and then.

use super::Forwarder;
use crate::bridge::World;
use crate::engine::events::EventSender;
use crate::packet::BATCH;
use crate::pipeline::Credit;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// TCP flags that end a connection.
pub(super) const FIN_OR_RST: u16 = 0x001 | 0x004;

/// Packets that somebody is told of.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub packets: u64,
    pub bytes: u64,
    /// Nanoseconds of the last of them.
    pub used: u64,
    /// Whether one of them ended a TCP connection.
    pub fin: bool,
}

/// Tells of packets. Whether rules changed by it.
pub(super) fn tell(credits: &[Credit], seen: Seen, world: &World, events: &EventSender) -> bool {
    let Seen {
        packets,
        bytes,
        used,
        fin,
    } = seen;
    let mut changed = false;
    let (own, mut longer) = (bytes, 0);
    let mut bytes = bytes;
    for c in credits {
        match c {
            Credit::Longer(n) => {
                longer += i64::from(*n);
                bytes = own.saturating_add_signed(longer * packets as i64);
            }
            Credit::Rule(r) | Credit::Group(r) | Credit::Mirror(r) => r.add(packets, bytes, used),
            Credit::Uncounted {
                counters,
                packets: p,
                bytes: b,
            } => counters.add(packets * u64::from(*p), bytes * u64::from(*b), used),
            Credit::Table(t, true) => t.matched.add(packets, bytes, used),
            Credit::Table(t, false) => t.missed.add(packets, bytes, used),
            Credit::Patch(out, into) => {
                out.tx_packets.fetch_add(packets, Ordering::Relaxed);
                out.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
                into.rx_packets.fetch_add(packets, Ordering::Relaxed);
                into.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Credit::Lesson(lesson) => {
                changed |= lesson.teach(Duration::from_nanos(used), fin, events);
            }
            Credit::FinTimeout(bridge, rule, idle, hard) => {
                let short = rule.shortened(*idle, *hard);
                if fin && short != (rule.idle_timeout, rule.hard_timeout) {
                    let done: Result<(), ()> = bridge.update(|s| {
                        s.tables.shorten(rule, *idle, *hard);
                        Ok(())
                    });
                    changed |= done.is_ok();
                }
            }
            Credit::NeighbourUsed(neighbour) => neighbour.at(used),
            Credit::Neighbour {
                underlay,
                device,
                ip,
                mac,
            } => underlay.heard(device, *ip, *mac, Duration::from_nanos(used)),
            Credit::Mac {
                bridge,
                vlan,
                mac,
                port,
            } => {
                let max = bridge.state.load().config.mac_table_size;
                // Its port may be gone, and the number another's.
                let there = world.port(*port).is_some_and(|p| p.bridge == bridge.id);
                if !there {
                    continue;
                }
                // A host that moved meanwhile stays where it was seen last.
                let elsewhere = bridge
                    .fdb
                    .lock()
                    .lookup(crate::mac::key(*vlan, *mac))
                    .is_some_and(|p| p != *port);
                if !elsewhere {
                    bridge.learn(*vlan, *mac, *port, Duration::from_nanos(used), max);
                }
            }
        }
    }
    changed
}

impl Forwarder {
    /// Counts a packet to its flow. Says where the flow sends if that is all it does.
    #[inline(always)]
    pub(super) fn credit(&mut self, flow: u32, bytes: u64, i: usize) -> u32 {
        let f = &mut self.flows[flow as usize];
        if f.packets == 0 && flow as usize >= BATCH {
            self.dirty.push(flow);
        }
        f.packets += 1;
        f.bytes += bytes;
        f.used = self.now;
        let key = &self.keys.keys[i];
        if key.len >= 6 {
            f.tcp_flags |= (key.words[5] >> 16) as u16;
        }
        f.single
    }

    /// Hands a flow's counts on to whom they belong.
    pub(super) fn hand_on(&mut self, flow: u32) {
        let f = &mut self.flows[flow as usize];
        if f.packets == 0 {
            return;
        }
        let seen = Seen {
            packets: f.packets,
            bytes: f.bytes,
            used: f.used,
            fin: f.tcp_flags & FIN_OR_RST != 0,
        };
        tell(&f.body.credits, seen, &self.world, &self.events);
        f.body.total_packets += f.packets;
        f.body.total_bytes += f.bytes;
        f.packets = 0;
        f.bytes = 0;
    }

    /// Hands all counts on.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for f in dirty.drain(..) {
            self.hand_on(f);
        }
        self.dirty = dirty;
        while let Some(port) = self.dirty_ports.pop() {
            let lane = &mut self.lanes[port as usize];
            let l = std::mem::take(&mut lane.local);
            let Some(c) = &lane.counters else { continue };
            for (to, n) in [
                (&c.rx_packets, l.rx_packets),
                (&c.rx_bytes, l.rx_bytes),
                (&c.tx_packets, l.tx_packets),
                (&c.tx_bytes, l.tx_bytes),
                (&c.tx_dropped, l.tx_dropped),
                (&c.tx_errors, l.tx_errors),
            ] {
                if n != 0 {
                    to.fetch_add(n, Ordering::Relaxed);
                }
            }
            for (to, n) in c.drops.iter().zip(l.drops.iter()) {
                if *n != 0 {
                    to.fetch_add((*n).into(), Ordering::Relaxed);
                }
            }
        }
    }
}
