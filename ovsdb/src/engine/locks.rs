//! Locks (RFC 7047 4.1.8 to 4.1.10): each has an owner and those who wait for it.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::{ClientId, Engine, bad_params};
use crate::error::OvsdbError;

/// Most locks of one client.
pub const MAX_LOCKS: usize = 1000;

/// The locks of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockNames {
    /// Those that are its own.
    pub held: Vec<String>,
    /// Those it waits for.
    pub waiting: Vec<String>,
    /// Those that were stolen from it.
    pub lost: Vec<String>,
}

/// Each lock's owner and those who wait for it, in order.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<String, VecDeque<ClientId>>);

impl Locks {
    pub(super) fn owner(&self, name: &str) -> Option<ClientId> {
        self.0.get(name)?.front().copied()
    }
}

impl Engine {
    /// The locks of a client, by how it stands with them.
    pub fn lock_names(&self, client: ClientId) -> LockNames {
        let mut names = LockNames::default();
        for name in self.clients.get(&client).into_iter().flat_map(|s| &s.locks) {
            let queue = self.locks.0.get(name);
            let list = match queue.and_then(|q| q.iter().position(|c| *c == client)) {
                Some(0) => &mut names.held,
                Some(_) => &mut names.waiting,
                None => &mut names.lost,
            };
            list.push(name.clone());
        }
        names
    }

    fn lock_name<'p>(params: &'p Value, method: &str) -> Result<&'p str, OvsdbError> {
        match params.as_array().map(Vec::as_slice) {
            Some([Value::String(name)]) if crate::value::is_id(name) => Ok(name),
            _ => Err(bad_params(
                params,
                format!("{method} request params must be <id>"),
            )),
        }
    }

    /// `lock` and `steal`.
    pub(super) fn lock(
        &mut self,
        client: ClientId,
        params: &Value,
        steal: bool,
    ) -> Result<Value, OvsdbError> {
        let name = Self::lock_name(params, if steal { "steal" } else { "lock" })?.to_owned();
        let state = self.clients.entry(client).or_default();
        if state.locks.contains(&name) {
            let method = if steal { "steal" } else { "lock" };
            return Err(bad_params(
                params,
                format!("must issue \"unlock\" before new \"{method}\""),
            ));
        }
        if state.locks.len() >= MAX_LOCKS {
            return Err(OvsdbError::new(
                "resources exhausted",
                format!("{MAX_LOCKS} locks of this client exist already"),
            ));
        }
        state.locks.push(name.clone());
        let queue = self.locks.0.entry(name.clone()).or_default();
        if !steal {
            queue.push_back(client);
            return Ok(json!({"locked": queue.len() == 1}));
        }
        let victim = queue.front().copied();
        queue.push_front(client);
        if let Some(victim) = victim {
            self.notify(victim, "stolen", json!([name]));
        }
        Ok(json!({"locked": true}))
    }

    /// `unlock`.
    pub(super) fn unlock(&mut self, client: ClientId, params: &Value) -> Result<Value, OvsdbError> {
        let name = Self::lock_name(params, "unlock")?.to_owned();
        let state = self.clients.entry(client).or_default();
        let Some(i) = state.locks.iter().position(|l| *l == name) else {
            return Err(bad_params(
                params,
                "unlock: \"unlock\" without \"lock\" or \"steal\"",
            ));
        };
        state.locks.remove(i);
        self.release(client, &name);
        Ok(json!({}))
    }

    /// Takes a client out of a lock's queue; the next one may get it.
    pub(super) fn release(&mut self, client: ClientId, name: &str) {
        let Some(queue) = self.locks.0.get_mut(name) else {
            return;
        };
        let owned = queue.front() == Some(&client);
        queue.retain(|c| *c != client);
        match queue.front().copied() {
            None => {
                self.locks.0.remove(name);
            }
            Some(next) if owned => self.notify(next, "locked", json!([name])),
            Some(_) => {}
        }
    }
}
