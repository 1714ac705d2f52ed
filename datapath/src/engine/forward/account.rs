//! Counting: on the flow while packets come, to rules, tables and ports now and then.

use super::Forwarder;
use crate::packet::BATCH;
use crate::pipeline::Credit;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
        if key.len == 6 {
            f.tcp_flags |= (key.words[5] >> 16) as u16;
        }
        f.single
    }

    /// Hands a flow's counts on to whom they belong.
    pub(super) fn hand_on(&mut self, flow: u32) {
        let now = Duration::from_nanos(self.now);
        let f = &mut self.flows[flow as usize];
        if f.packets == 0 {
            return;
        }
        for c in &f.body.credits {
            match c {
                Credit::Rule(r) => r.add(f.packets, f.bytes, f.used),
                Credit::Table(t, true) => t.matched.add(f.packets, f.bytes, f.used),
                Credit::Table(t, false) => t.missed.add(f.packets, f.bytes, f.used),
                Credit::Patch(out, into) => {
                    out.tx_packets.fetch_add(f.packets, Ordering::Relaxed);
                    out.tx_bytes.fetch_add(f.bytes, Ordering::Relaxed);
                    into.rx_packets.fetch_add(f.packets, Ordering::Relaxed);
                    into.rx_bytes.fetch_add(f.bytes, Ordering::Relaxed);
                }
                Credit::Mac {
                    bridge,
                    vlan,
                    mac,
                    port,
                } => {
                    let max = bridge.state.load().config.mac_table_size;
                    let used = Duration::from_nanos(f.used).min(now);
                    // Its port may be gone, and the number another's.
                    let there = self
                        .world
                        .port(*port)
                        .is_some_and(|p| p.bridge == bridge.id);
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
                        bridge.learn(*vlan, *mac, *port, used, max);
                    }
                }
            }
        }
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
            for (to, n) in c.drops.iter().zip(l.drops) {
                if n != 0 {
                    to.fetch_add(n.into(), Ordering::Relaxed);
                }
            }
        }
    }
}
