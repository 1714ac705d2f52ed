//! What groups do with a packet (OpenFlow 1.3.5 5.6.1).
//!
//! A bucket is an action set, run on a copy of the packet: what it changes is undone behind it. Which buckets a packet gets is
//! decided when it is translated, so a cached flow depends on the group, on the links of the ports that its buckets watch,
//! and, for select groups, on the fields that were hashed.
//!
//! Flows know nothing of groups that are changed: they name them by number. Loops cannot be made (`group/mod.rs`), but for
//! those by way of resubmits: [`DEPTH_MAX`](super::DEPTH_MAX) ends these.

use super::action_set::ActionSet;
use super::trace::What;
use super::translate::{Here, Xlate};
use super::translation::{Credit, Dep};
use crate::drop::DropReason;
use crate::group::{CountedBucket, Group};
use crate::table::Object;
use openflow::{GroupType, PortNo};
use std::collections::HashMap;

/// How many watched groups are looked into for one that is run.
const WATCH_DEPTH_MAX: usize = 128;
/// How many watching buckets are looked at for one packet: those beyond count as dead.
const WATCHES_MAX: usize = 16_384;

impl Xlate<'_> {
    pub(super) fn group(&mut self, here: Here, id: u32) {
        self.depend_on(here, Object::Group(id));
        let Some(group) = here.1.tables.groups.get(id).cloned() else {
            self.tell(|| What::Warning(format!("output to nonexistent group {id}")));
            return self.dropped(DropReason::NoOutput);
        };
        let all = 0..group.buckets.len();
        let mut known = HashMap::new();
        let chosen: Vec<usize> = match group.kind {
            GroupType::All => all.collect(),
            GroupType::Indirect => all.take(1).collect(),
            GroupType::FastFailover => {
                let mut all = all;
                let live = all.find(|&n| self.is_bucket_live(here, &group.buckets[n], &mut known));
                live.into_iter().collect()
            }
            GroupType::Select => {
                let live: Vec<usize> = all
                    .filter(|&n| self.is_bucket_live(here, &group.buckets[n], &mut known))
                    .collect();
                self.choose(&group, &live).into_iter().collect()
            }
        };
        if let (GroupType::FastFailover | GroupType::Select, [n]) = (group.kind, &chosen[..]) {
            self.remark(|| format!("using bucket {}", group.buckets[*n].bucket.id));
        }
        if chosen.is_empty() {
            self.remark(|| "no live bucket".into());
            return self.dropped(DropReason::NoLiveBucket);
        }
        self.out.credits.push(Credit::Group(group.counters.clone()));
        for n in chosen {
            self.bucket(here, &group, n);
        }
    }

    fn bucket(&mut self, here: Here, group: &Group, n: usize) {
        let b = &group.buckets[n];
        self.out.credits.push(Credit::Group(b.counters.clone()));
        let mut set = ActionSet::default();
        for a in &b.bucket.actions {
            set.write(a);
        }
        let list = set.take();
        self.under(
            || What::Bucket(b.bucket.id),
            |x| {
                x.aside(|x| {
                    let outer = std::mem::replace(&mut x.in_group, true);
                    x.deeper(|x| {
                        x.actions(here, &list);
                    });
                    x.in_group = outer;
                });
            },
        );
    }

    /// Whether a bucket may be used: it watches nothing, or a port or group that is live (OpenFlow 1.3.5 6.5). `known` are
    /// the groups looked into so far; one that is being looked into cannot keep itself alive.
    fn is_bucket_live(
        &mut self,
        here: Here,
        b: &CountedBucket,
        known: &mut HashMap<u32, bool>,
    ) -> bool {
        let live = self.watches_live(here, b, known);
        if !live {
            let id = b.bucket.id;
            self.remark(|| match (b.bucket.watch_port, b.bucket.watch_group) {
                (PortNo::ANY, Some(group)) => {
                    format!("bucket {id}: not live due to group {group}")
                }
                (port, _) => format!("bucket {id}: not live due to port {port}"),
            });
        }
        live
    }

    fn watches_live(
        &mut self,
        here: Here,
        b: &CountedBucket,
        known: &mut HashMap<u32, bool>,
    ) -> bool {
        if !b.is_watching() {
            return true;
        }
        self.watches += 1;
        if self.watches > WATCHES_MAX {
            return false;
        }
        let port = b.bucket.watch_port;
        if port != PortNo::ANY && self.is_live(here, port) {
            return true;
        }
        let Some(id) = b.bucket.watch_group else {
            return false;
        };
        if let Some(live) = known.get(&id) {
            return *live;
        }
        if known.len() >= WATCH_DEPTH_MAX {
            return false;
        }
        self.depend_on(here, Object::Group(id));
        known.insert(id, false);
        let group = here.1.tables.groups.get(id).cloned();
        let live = group.is_some_and(|g| {
            let mut buckets = g.buckets.iter();
            buckets.any(|b| self.is_bucket_live(here, b, known))
        });
        known.insert(id, live);
        live
    }

    /// Whether a port is there and its link up.
    pub(super) fn is_live(&mut self, here: Here, port: PortNo) -> bool {
        let Some(p) = self.port_at(here.1, port) else {
            return false;
        };
        if p.flags.port_down {
            return false;
        }
        match (&p.device, p.patch) {
            (_, Some(peer)) => peer.is_some(),
            (Some(device), None) => {
                let seen = device.link_resets_seen();
                let up = device.status().link_up;
                self.out.deps.push(Dep::Link(device.clone(), seen));
                up
            }
            (None, None) => true,
        }
    }

    /// What the packet gets depends on a group or meter.
    pub(super) fn depend_on(&mut self, here: Here, object: Object) {
        self.out.deps.push(Dep::Object {
            bridge: here.0.clone(),
            object,
            since: here.1.version,
        });
    }
}
