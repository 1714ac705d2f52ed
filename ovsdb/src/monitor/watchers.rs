//! Who follows which view of one database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use serde_json::Value;

use super::View;
use crate::database::{Database, RowChange};
use crate::engine::{ClientId, Message, Output};
use crate::value::Uuid;

/// Names a view within its [`Watchers`].
pub(crate) type ViewId = u64;

/// One client's monitor as a follower of a view.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) client: ClientId,
    /// What every notification begins with: the method and the client's name of the monitor.
    head: Arc<str>,
    /// It was made by `monitor_cond_since` and is told transaction ids.
    since: bool,
}

impl Follower {
    /// `version` is 1 for `monitor`, 2 for `monitor_cond`, 3 for `monitor_cond_since`.
    pub(crate) fn new(client: ClientId, id: &Value, version: u8) -> Self {
        let method = match version {
            1 => "update",
            2 => "update2",
            _ => "update3",
        };
        Self {
            client,
            head: format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{id},").into(),
            since: version > 2,
        }
    }

    /// The notification of one `<table-updates>`.
    pub(crate) fn notification(
        &self,
        updates: &Arc<str>,
        with_txn: impl FnOnce() -> Arc<str>,
    ) -> Output {
        let body = if self.since {
            with_txn()
        } else {
            updates.clone()
        };
        Output::Send(self.client, Message::shared(self.head.clone(), body, "]}"))
    }
}

/// The last parameters of an `update3`.
pub(crate) fn with_txn(txn: Uuid, updates: &str) -> Arc<str> {
    format!("\"{txn}\",{updates}").into()
}

#[derive(Debug)]
struct Entry {
    view: View,
    key: String,
    followers: BTreeMap<(ClientId, String), Follower>,
    /// The rows there are, as long as somebody still has to be sent them and nothing changed.
    initial: Option<Weak<str>>,
}

/// The views of a database and who follows them.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    views: BTreeMap<ViewId, Entry>,
    by_key: HashMap<String, ViewId>,
    by_table: HashMap<usize, BTreeSet<ViewId>>,
    next: ViewId,
}

impl Watchers {
    /// Lets a client's monitor `name` follow a view from the next change on.
    pub(crate) fn follow(&mut self, view: View, name: &str, follower: Follower) -> ViewId {
        let key = view.key();
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let id = self.next;
                self.next += 1;
                for table in view.tables() {
                    self.by_table.entry(table).or_default().insert(id);
                }
                self.by_key.insert(key.clone(), id);
                let entry = Entry {
                    view,
                    key,
                    followers: BTreeMap::new(),
                    initial: None,
                };
                self.views.insert(id, entry);
                id
            }
        };
        if let Some(entry) = self.views.get_mut(&id) {
            entry
                .followers
                .insert((follower.client, name.to_owned()), follower);
        }
        id
    }

    /// Ends a follower; a view nobody follows any more is forgotten.
    pub(crate) fn leave(&mut self, id: ViewId, client: ClientId, name: &str) {
        let Some(entry) = self.views.get_mut(&id) else {
            return;
        };
        entry.followers.remove(&(client, name.to_owned()));
        if !entry.followers.is_empty() {
            return;
        }
        if let Some(entry) = self.views.remove(&id) {
            self.by_key.remove(&entry.key);
            for table in entry.view.tables() {
                if let Some(set) = self.by_table.get_mut(&table) {
                    set.remove(&id);
                }
            }
        }
    }

    /// Views that are followed.
    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    /// A view that is followed.
    pub(crate) fn view(&self, id: ViewId) -> Option<&View> {
        self.views.get(&id).map(|e| &e.view)
    }

    /// The rows there are now; encoded once for all who ask before the next change.
    pub(crate) fn initial(&mut self, id: ViewId, db: &Database) -> Arc<str> {
        let Some(entry) = self.views.get_mut(&id) else {
            return "{}".into();
        };
        if let Some(text) = entry.initial.as_ref().and_then(Weak::upgrade) {
            return text;
        }
        let text: Arc<str> = entry.view.initial(db).into();
        entry.initial = Some(Arc::downgrade(&text));
        text
    }

    /// Tells all followers of changes, which are sorted by table.
    pub(crate) fn tell(&mut self, db: &Database, changes: &[RowChange], out: &mut Vec<Output>) {
        let mut concerned = BTreeSet::new();
        let mut last = None;
        for ch in changes {
            if last.replace(ch.table) != Some(ch.table) {
                concerned.extend(self.by_table.get(&ch.table).into_iter().flatten());
            }
        }
        for id in concerned {
            let Some(entry) = self.views.get_mut(id) else {
                continue;
            };
            entry.initial = None;
            let Some(updates) = entry.view.update(db, changes) else {
                continue;
            };
            let updates: Arc<str> = updates.into();
            let mut since: Option<Arc<str>> = None;
            for follower in entry.followers.values() {
                out.push(follower.notification(&updates, || {
                    since
                        .get_or_insert_with(|| with_txn(db.last_txn, &updates))
                        .clone()
                }));
            }
        }
    }
}
