//! What the connections and the REST server share: the switches, the topology, the named flows.
//!
//! Locks, in the order in which they may be taken: `order` (asynchronous; held while a change of
//! named flows is stored and queued to the switches, so that store and switches agree about what
//! came last), then `flows`, `switches`, `topology` (plain; held for a few lines, never across an
//! await).

use crate::flows::{Change, FlowKey, MAX_FLOWS, NamedFlow, SwitchRef, difference};
use crate::inventory::DatapathId;
use crate::store::{Store, StoreError, Write};
use crate::switch::{Refusals, RequestError, SwitchHandle, answer};
use crate::topology::Topology;
use openflow::{FlowMod, FlowRemoved, FlowRemovedReason, FlowStats};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

/// What is known of a named flow on its switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Stored; its switch is not connected, or has not confirmed it yet.
    Pending,
    /// The switch confirmed it.
    Installed,
    /// The switch refused it.
    Refused(String),
    /// Its idle or hard timeout ended it; it comes back when it is written again.
    Expired,
    /// Somebody else deleted it on the switch; it comes back when it is written again or the switch
    /// reconnects.
    Removed,
}

impl FlowState {
    /// The word that answers carry.
    pub fn word(&self) -> &'static str {
        match self {
            FlowState::Pending => "pending",
            FlowState::Installed => "installed",
            FlowState::Refused(_) => "refused",
            FlowState::Expired => "expired",
            FlowState::Removed => "removed",
        }
    }
}

/// A named flow and its state.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    /// The flow.
    pub flow: Arc<NamedFlow>,
    /// Its state.
    pub state: FlowState,
}

/// A change of the named flows.
#[derive(Clone, Debug)]
pub enum Step {
    /// A flow that must not be there yet.
    Create(NamedFlow),
    /// A flow, in place of any of its name.
    Put(NamedFlow),
    /// No such flow any more.
    Delete(String),
}

/// Why a change was not made. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is a flow of this name.
    #[error("a flow named {0} exists already; PUT changes it")]
    Exists(String),
    /// There is none.
    #[error("there is no flow named {0}")]
    Missing(String),
    /// Another flow has the same table, priority and match on the same switch.
    #[error("flow {other} has the same switch, table, priority and match as {name}")]
    Conflict {
        /// The flow that was to be written.
        name: String,
        /// The one in its place.
        other: String,
    },
    /// No room.
    #[error("there are {MAX_FLOWS} named flows already")]
    Full,
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The switch said no; the change was taken back.
    #[error("the switch refused flow {name}: {detail}")]
    Refused {
        /// Which flow.
        name: String,
        /// The switch's words.
        detail: String,
    },
}

#[derive(Debug, Default)]
struct Flows {
    by_name: BTreeMap<String, FlowEntry>,
    by_key: HashMap<(SwitchRef, FlowKey), String>,
}

impl Flows {
    fn insert(&mut self, flow: Arc<NamedFlow>, state: FlowState) -> Option<FlowEntry> {
        let old = self.remove(&flow.name);
        self.by_key
            .insert((flow.switch.clone(), flow.key()), flow.name.clone());
        self.by_name
            .insert(flow.name.clone(), FlowEntry { flow, state });
        old
    }

    fn remove(&mut self, name: &str) -> Option<FlowEntry> {
        let old = self.by_name.remove(name)?;
        self.by_key
            .remove(&(old.flow.switch.clone(), old.flow.key()));
        Some(old)
    }
}

/// The controller's shared state.
pub struct Hub {
    /// When the controller started.
    pub start: Instant,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections turned away: too many, or no OpenFlow.
    pub rejected: AtomicU64,
    order: tokio::sync::Mutex<()>,
    flows: RwLock<Flows>,
    switches: RwLock<BTreeMap<DatapathId, Arc<SwitchHandle>>>,
    topology: Mutex<Topology>,
    store: Store,
}

impl Hub {
    /// With the flows of `store`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn new(store: Store, topology: Topology) -> Result<Hub, StoreError> {
        let (good, bad) = store.load()?;
        for (name, why) in bad {
            tracing::error!(
                flow = name,
                why,
                "stored flow cannot be read; it is left out"
            );
        }
        let mut flows = Flows::default();
        for f in good {
            flows.insert(Arc::new(f), FlowState::Pending);
        }
        Ok(Hub {
            start: Instant::now(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            order: tokio::sync::Mutex::new(()),
            flows: RwLock::new(flows),
            switches: RwLock::default(),
            topology: Mutex::new(topology),
            store,
        })
    }

    /// The topology, locked.
    pub fn topology(&self) -> MutexGuard<'_, Topology> {
        self.topology.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The connected switches by id.
    pub fn switches(&self) -> Vec<Arc<SwitchHandle>> {
        let s = self.switches.read().unwrap_or_else(|e| e.into_inner());
        s.values().cloned().collect()
    }

    /// The connected switch of this id or name.
    pub fn switch(&self, which: &SwitchRef) -> Option<Arc<SwitchHandle>> {
        let s = self.switches.read().unwrap_or_else(|e| e.into_inner());
        match which {
            SwitchRef::Id(id) => s.get(id).cloned(),
            SwitchRef::Name(n) => s.values().find(|h| h.with(|i| i.name() == *n)).cloned(),
        }
    }

    /// The named flows by name. A flow whose switch is away is pending, whatever it was before.
    pub fn flows(&self) -> Vec<FlowEntry> {
        let entries: Vec<_> = {
            let f = self.flows.read().unwrap_or_else(|e| e.into_inner());
            f.by_name.values().cloned().collect()
        };
        let names: Vec<(DatapathId, String)> = self
            .switches()
            .iter()
            .map(|h| (h.dpid, h.with(|i| i.name())))
            .collect();
        let connected = |r: &SwitchRef| names.iter().any(|(id, n)| r.is(*id, n));
        entries
            .into_iter()
            .map(|e| as_seen(e.clone(), connected(&e.flow.switch)))
            .collect()
    }

    /// One named flow.
    pub fn flow(&self, name: &str) -> Option<FlowEntry> {
        let e = {
            let f = self.flows.read().unwrap_or_else(|e| e.into_inner());
            f.by_name.get(name)?.clone()
        };
        let connected = self.switch(&e.flow.switch).is_some();
        Some(as_seen(e, connected))
    }

    /// Makes a change: all steps or none. On return it is on the disk, and on every switch that is
    /// connected (confirmed by barrier); for switches that are not, or do not answer, it is pending.
    /// For each step, whether it replaced something.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(&self, steps: Vec<Step>) -> Result<Vec<bool>, ChangeError> {
        let order = self.order.lock().await;
        let mut wanted: BTreeMap<String, Option<Arc<NamedFlow>>> = BTreeMap::new();
        let mut replaced = Vec::with_capacity(steps.len());
        {
            let flows = self.flows.read().unwrap_or_else(|e| e.into_inner());
            let mut keys: HashMap<(SwitchRef, FlowKey), String> = HashMap::new();
            let mut grown = 0usize;
            for step in steps {
                let there = |name: &str| match wanted.get(name) {
                    Some(w) => w.is_some(),
                    None => flows.by_name.contains_key(name),
                };
                let flow = match step {
                    Step::Delete(name) => {
                        if !there(&name) {
                            return Err(ChangeError::Missing(name));
                        }
                        replaced.push(true);
                        wanted.insert(name, None);
                        continue;
                    }
                    Step::Create(f) if there(&f.name) => return Err(ChangeError::Exists(f.name)),
                    Step::Create(f) | Step::Put(f) => f,
                };
                let is_there = there(&flow.name);
                replaced.push(is_there);
                grown += usize::from(!is_there);
                let key = (flow.switch.clone(), flow.key());
                let other = match flows.by_key.get(&key) {
                    Some(n) if *n != flow.name && !matches!(wanted.get(n), Some(None)) => Some(n),
                    _ => keys.get(&key).filter(|n| **n != flow.name),
                };
                if let Some(other) = other {
                    return Err(ChangeError::Conflict {
                        name: flow.name,
                        other: other.clone(),
                    });
                }
                keys.insert(key, flow.name.clone());
                wanted.insert(flow.name.clone(), Some(Arc::new(flow)));
            }
            if flows.by_name.len() + grown > MAX_FLOWS {
                return Err(ChangeError::Full);
            }
        }
        let (sent, before) = self.apply(&wanted).await?;
        drop(order);
        let refused = self.confirm(sent).await;
        let Some((name, detail)) = refused.first().cloned() else {
            return Ok(replaced);
        };
        // Taken back: what was there before is there again, unless somebody changed it meanwhile.
        let _order = self.order.lock().await;
        let undo: BTreeMap<_, _> = {
            let flows = self.flows.read().unwrap_or_else(|e| e.into_inner());
            before
                .into_iter()
                .filter(|(name, _)| {
                    let now = flows.by_name.get(name).map(|e| &e.flow);
                    match (now, wanted.get(name).and_then(Option::as_ref)) {
                        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                        (None, None) => true,
                        _ => false,
                    }
                })
                .collect()
        };
        let (sent, _) = self.apply(&undo).await?;
        drop(_order);
        self.confirm(sent).await;
        Err(ChangeError::Refused { name, detail })
    }

    /// Stores and queues. To be called with `order` held.
    async fn apply(
        &self,
        wanted: &BTreeMap<String, Option<Arc<NamedFlow>>>,
    ) -> Result<(Vec<Sent>, BTreeMap<String, Option<Arc<NamedFlow>>>), ChangeError> {
        let writes: Vec<Write> = wanted
            .iter()
            .map(|(name, flow)| match flow {
                Some(f) => Write::Put(Box::new(NamedFlow::clone(f))),
                None => Write::Remove(name.clone()),
            })
            .collect();
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.write(&writes))
            .await
            .map_err(|e| {
                StoreError::Access(Box::new(redb::Error::Io(std::io::Error::other(e))))
            })??;
        let mut before = BTreeMap::new();
        let mut adds: BTreeMap<DatapathId, Batch> = BTreeMap::new();
        let mut deletes: BTreeMap<DatapathId, Batch> = BTreeMap::new();
        {
            let mut flows = self.flows.write().unwrap_or_else(|e| e.into_inner());
            for (name, flow) in wanted {
                let old = match flow {
                    Some(f) => {
                        if let Some(h) = self.switch(&f.switch) {
                            let b = adds.entry(h.dpid).or_insert_with(|| Batch::new(h));
                            b.push(f.add(), Some(f.clone()));
                        }
                        flows.insert(f.clone(), FlowState::Pending)
                    }
                    None => flows.remove(name),
                };
                let old = old.map(|e| e.flow);
                if let Some(old) = &old
                    && !flow
                        .as_ref()
                        .is_some_and(|f| f.switch == old.switch && f.key() == old.key())
                    && let Some(h) = self.switch(&old.switch)
                {
                    let b = deletes.entry(h.dpid).or_insert_with(|| Batch::new(h));
                    b.push(old.delete(), None);
                }
                before.insert(name.clone(), old);
            }
        }
        // Additions first: a flow that is replaced leaves no gap.
        for (id, d) in deletes {
            match adds.get_mut(&id) {
                Some(a) => {
                    a.messages.extend(d.messages);
                    a.flows.extend(d.flows);
                }
                None => {
                    adds.insert(id, d);
                }
            }
        }
        let sent = adds
            .into_values()
            .filter_map(|b| match b.handle.program(b.messages) {
                Ok(answer) => Some(Sent {
                    flows: b.flows,
                    answer,
                }),
                Err(e) => {
                    tracing::warn!(switch = %b.handle.dpid, error = %e, "flows not sent; the switch is made to reconnect");
                    b.handle.close();
                    None
                }
            })
            .collect();
        Ok((sent, before))
    }

    /// Waits for the switches; returns the flows that were refused.
    async fn confirm(&self, sent: Vec<Sent>) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        for s in sent {
            match answer(s.answer).await {
                Ok(refusals) => {
                    self.settle(&s.flows, &refusals);
                    refused.extend(refusals.into_iter().filter_map(|(i, why)| {
                        Some((s.flows.get(i)?.as_ref()?.name.clone(), why))
                    }));
                }
                Err(e) => tracing::info!(error = %e, "flows pending"),
            }
        }
        refused
    }

    /// Notes what a barrier confirmed.
    fn settle(&self, sent: &[Option<Arc<NamedFlow>>], refusals: &Refusals) {
        let mut flows = self.flows.write().unwrap_or_else(|e| e.into_inner());
        for (i, flow) in sent.iter().enumerate() {
            let Some(flow) = flow else { continue };
            if let Some(e) = flows.by_name.get_mut(&flow.name)
                && Arc::ptr_eq(&e.flow, flow)
            {
                e.state = match refusals.iter().find(|(n, _)| *n == i) {
                    Some((_, why)) => FlowState::Refused(why.clone()),
                    None => FlowState::Installed,
                };
            }
        }
    }

    /// A switch has connected and said which of our flows it has: sends what differs, and lets the
    /// others see the switch. An older connection of the same switch is closed.
    pub(crate) async fn connected(
        self: &Arc<Hub>,
        handle: Arc<SwitchHandle>,
        present: &[FlowStats],
    ) {
        let order = self.order.lock().await;
        let (dpid, name) = (handle.dpid, handle.with(|i| i.name()));
        let wanted: Vec<Arc<NamedFlow>> = {
            let flows = self.flows.read().unwrap_or_else(|e| e.into_inner());
            flows
                .by_name
                .values()
                .filter(|e| e.flow.switch.is(dpid, &name) && e.state != FlowState::Expired)
                .map(|e| e.flow.clone())
                .collect()
        };
        let changes = difference(wanted.iter().map(|f| &**f), present);
        let mut batch = Batch::new(handle.clone());
        let mut sent_names = std::collections::HashSet::new();
        for c in changes {
            match c {
                Change::Install { name, message } => {
                    let flow = wanted.iter().find(|f| f.name == name).cloned();
                    sent_names.insert(name);
                    batch.push(message, flow);
                }
                Change::Remove(message) => batch.push(message, None),
            }
        }
        let as_they_should: Vec<_> = wanted
            .into_iter()
            .filter(|f| !sent_names.contains(&f.name))
            .map(Some)
            .collect();
        self.settle(&as_they_should, &Vec::new());
        let old = {
            let mut s = self.switches.write().unwrap_or_else(|e| e.into_inner());
            s.insert(dpid, handle)
        };
        if let Some(old) = old {
            tracing::warn!(switch = %dpid, "connected again; the older connection is closed");
            old.close();
        }
        let sent = batch.messages.len();
        match batch.handle.program(batch.messages) {
            Ok(answer) => {
                let hub = self.clone();
                tokio::spawn(async move {
                    let refused = hub
                        .confirm(vec![Sent {
                            flows: batch.flows,
                            answer,
                        }])
                        .await;
                    for (flow, why) in refused {
                        tracing::error!(switch = %dpid, flow, why, "stored flow refused by the switch");
                    }
                });
            }
            Err(e) => tracing::warn!(switch = %dpid, error = %e, "stored flows not sent"),
        }
        drop(order);
        tracing::info!(switch = %dpid, name, flows_sent = sent, "switch connected");
    }

    /// A connection ended.
    pub(crate) fn disconnected(&self, handle: &Arc<SwitchHandle>) {
        let gone = {
            let mut s = self.switches.write().unwrap_or_else(|e| e.into_inner());
            let same = s.get(&handle.dpid).is_some_and(|h| Arc::ptr_eq(h, handle));
            if same {
                s.remove(&handle.dpid);
            }
            same
        };
        if gone {
            self.topology().switch_gone(handle.dpid);
            let name = handle.with(|i| i.name());
            let mut flows = self.flows.write().unwrap_or_else(|e| e.into_inner());
            for e in flows.by_name.values_mut() {
                if e.flow.switch.is(handle.dpid, &name) && e.state != FlowState::Expired {
                    e.state = FlowState::Pending;
                }
            }
        }
    }

    /// A named flow ended on its switch.
    pub(crate) fn flow_removed(&self, handle: &SwitchHandle, removed: &FlowRemoved) {
        let f = &removed.flow;
        let key = (f.table, f.priority, f.matching.clone());
        let mut flows = self.flows.write().unwrap_or_else(|e| e.into_inner());
        let flows = &mut *flows;
        let by_id = SwitchRef::Id(handle.dpid);
        let by_name = SwitchRef::Name(handle.with(|i| i.name()));
        for which in [by_id, by_name] {
            if let Some(name) = flows.by_key.get(&(which, key.clone()))
                && let Some(e) = flows.by_name.get_mut(name)
                && e.flow.add().cookie == f.cookie
            {
                e.state = match removed.reason {
                    FlowRemovedReason::IdleTimeout | FlowRemovedReason::HardTimeout => {
                        FlowState::Expired
                    }
                    _ => FlowState::Removed,
                };
                tracing::info!(switch = %handle.dpid, flow = name, state = e.state.word(), "named flow ended");
            }
        }
    }
}

fn as_seen(mut e: FlowEntry, connected: bool) -> FlowEntry {
    if !connected && e.state != FlowState::Expired {
        e.state = FlowState::Pending;
    }
    e
}

/// Messages for one switch, and which flow each is about (none: a delete).
struct Batch {
    handle: Arc<SwitchHandle>,
    messages: Vec<FlowMod>,
    flows: Vec<Option<Arc<NamedFlow>>>,
}

impl Batch {
    fn new(handle: Arc<SwitchHandle>) -> Batch {
        Batch {
            handle,
            messages: Vec::new(),
            flows: Vec::new(),
        }
    }

    fn push(&mut self, message: FlowMod, flow: Option<Arc<NamedFlow>>) {
        self.messages.push(message);
        self.flows.push(flow);
    }
}

struct Sent {
    flows: Vec<Option<Arc<NamedFlow>>>,
    answer: tokio::sync::oneshot::Receiver<Result<Refusals, RequestError>>,
}
