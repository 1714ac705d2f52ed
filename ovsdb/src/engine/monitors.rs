//! `monitor` and its successors (RFC 7047 4.1.5 to 4.1.7, ovsdb-server(7) 4.1.12 to 4.1.15).

use serde_json::{Value, json};

use super::{ClientId, Engine, Message, Output, bad_params};
use crate::error::OvsdbError;
use crate::monitor::{Follower, Form, View, ViewId, with_txn};
use crate::value::parse_uuid;

/// Most monitors of one client.
pub const MAX_MONITORS: usize = 1000;

/// A client's monitor.
pub(super) struct Registered {
    /// The name the client gave it.
    pub(super) id: Value,
    pub(super) db: String,
    pub(super) view: ViewId,
    /// 1 for `monitor`, 2 for `monitor_cond`, 3 for `monitor_cond_since`.
    version: u8,
}

impl Engine {
    pub(super) fn monitor(&mut self, client: ClientId, id: &Value, params: &Value, method: &str) {
        match self.start_monitor(client, id, params, method) {
            Ok(message) => self.output.push(Output::Send(client, message)),
            Err(e) => self.reply(client, id, Err(e)),
        }
    }

    /// Registers a monitor; the reply with the rows there are.
    fn start_monitor(
        &mut self,
        client: ClientId,
        request: &Value,
        params: &Value,
        method: &str,
    ) -> Result<Message, OvsdbError> {
        let version = match method {
            "monitor" => 1,
            "monitor_cond" => 2,
            _ => 3,
        };
        let (name, served) = self.named_db(method, params)?;
        let (id, requests, since) = match params.as_array().map(Vec::as_slice) {
            Some([_, id, requests, since]) if version == 3 => (id, requests, Some(since)),
            Some([_, id, requests]) if version < 3 => (id, requests, None),
            _ => return Err(bad_params(params, "invalid parameters")),
        };
        let since = since
            .map(|json| {
                let text = json
                    .as_str()
                    .ok_or_else(|| OvsdbError::syntax(json, "last-txn-id must be string"))?;
                parse_uuid(text)
                    .ok_or_else(|| OvsdbError::syntax(json, "last-txn-id must be UUID format."))
            })
            .transpose()?;
        let key = id.to_string();
        let state = self.clients.get(&client);
        if state.is_some_and(|s| s.monitors.contains_key(&key)) {
            return Err(OvsdbError::syntax(id, "duplicate monitor ID"));
        }
        if state.is_some_and(|s| s.monitors.len() >= MAX_MONITORS) {
            return Err(OvsdbError::new(
                "resources exhausted",
                format!("{MAX_MONITORS} monitors of this client exist already"),
            ));
        }
        let form = if version == 1 {
            Form::Full
        } else {
            Form::Delta
        };
        let view = View::parse(&served.db, form, requests)?;
        let Some(served) = self.dbs.get_mut(&name) else {
            return Err(OvsdbError::new("unknown database", name));
        };
        let missed = since.and_then(|txn| served.history.since(txn));
        let head = format!("{{\"id\":{request},\"result\":");
        let last = served.db.last_txn;
        let follower = Follower::new(client, id, version);
        let view_id = served.watchers.follow(view, &key, follower);
        let message = match missed {
            Some(changes) => {
                let updates = served
                    .watchers
                    .view(view_id)
                    .and_then(|v| v.update(&served.db, &changes))
                    .unwrap_or_else(|| "{}".into());
                let body = with_txn(last, &updates);
                Message::shared(format!("{head}[true,").into(), body, "],\"error\":null}")
            }
            None => {
                let body = served.watchers.initial(view_id, &served.db);
                if version < 3 {
                    Message::shared(head.into(), body, ",\"error\":null}")
                } else {
                    let head = format!("{head}[false,\"{last}\",");
                    Message::shared(head.into(), body, "],\"error\":null}")
                }
            }
        };
        let registered = Registered {
            id: id.clone(),
            db: name,
            view: view_id,
            version,
        };
        self.clients
            .entry(client)
            .or_default()
            .monitors
            .insert(key, registered);
        Ok(message)
    }

    /// `monitor_cond_change`. What comes or goes by it is told before the reply; updates about
    /// earlier commits have been told already.
    pub(super) fn monitor_change(
        &mut self,
        client: ClientId,
        params: &Value,
    ) -> Result<Value, OvsdbError> {
        let Some([old_id, new_id, requests]) = params.as_array().map(Vec::as_slice) else {
            return Err(bad_params(params, "invalid parameters"));
        };
        let (old_key, new_key) = (old_id.to_string(), new_id.to_string());
        let unknown = || OvsdbError::syntax(old_id, "unknown monitor session");
        let state = self.clients.get_mut(&client).ok_or_else(unknown)?;
        let m = state.monitors.get(&old_key).ok_or_else(unknown)?;
        if old_key != new_key && state.monitors.contains_key(&new_key) {
            return Err(OvsdbError::syntax(new_id, "duplicate monitor ID"));
        }
        let served = self.dbs.get_mut(&m.db).ok_or_else(unknown)?;
        let old = served.watchers.view(m.view).ok_or_else(unknown)?;
        let new = old.with_conditions(&served.db, requests)?;
        let update = old.transition(&new, &served.db);
        let follower = Follower::new(client, new_id, m.version);
        if let Some(update) = update {
            let txn = served.db.last_txn;
            let notification =
                follower.notification(&update.as_str().into(), || with_txn(txn, &update));
            self.output.push(notification);
        }
        if let Some(mut m) = state.monitors.remove(&old_key) {
            let view = served.watchers.follow(new, &new_key, follower);
            if (view, &new_key) != (m.view, &old_key) {
                served.watchers.leave(m.view, client, &old_key);
            }
            m.id = new_id.clone();
            m.view = view;
            state.monitors.insert(new_key, m);
        }
        Ok(json!({}))
    }

    /// `monitor_cancel`.
    pub(super) fn monitor_cancel(
        &mut self,
        client: ClientId,
        params: &Value,
    ) -> Result<Value, OvsdbError> {
        let Some([id]) = params.as_array().map(Vec::as_slice) else {
            return Err(OvsdbError::new("invalid parameters", ""));
        };
        let key = id.to_string();
        let state = self.clients.entry(client).or_default();
        let Some(m) = state.monitors.remove(&key) else {
            return Err(OvsdbError::new("unknown monitor", ""));
        };
        if let Some(served) = self.dbs.get_mut(&m.db) {
            served.watchers.leave(m.view, client, &key);
        }
        Ok(json!({}))
    }
}
