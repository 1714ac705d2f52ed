//! `ovsdb-client lock`, `steal`, `unlock` and `wait`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use ovsdb::{Client, ClientOptions, Notification};
use serde_json::{Value, json};

use super::backup::check_results;
use super::control::{self, Asked, Ear};
use super::{Tool, connect};

/// How long `wait` rests before it tries a server again that is not there.
const RETRY: Duration = Duration::from_secs(1);

impl Tool {
    /// Sends one request about a lock, then prints what becomes of it until the connection ends.
    pub(super) async fn lock(&mut self, method: &str) -> Result<()> {
        let mut ear = Ear::new(control::LOCK, self.detached)?;
        let reply = self.request(method, json!([self.args[0]])).await?;
        self.print_json(&reply);
        self.started.ready();
        loop {
            tokio::select! {
                event = self.client.next_notification() => {
                    let event = event.map_err(|e| self.receive_failed(&e))?;
                    let (method, name) = match event {
                        Notification::Locked(name) => ("locked", name),
                        Notification::Stolen(name) => ("stolen", name),
                        _ => continue,
                    };
                    println!("{method}");
                    self.print_json(&json!([name]));
                }
                asked = ear.next() => match asked {
                    Asked::Exit => {
                        ear.close().await;
                        return Ok(());
                    }
                    Asked::Request(method, params) => {
                        let reply = self.request(&method, params).await?;
                        self.print_json(&reply);
                    }
                    Asked::Block(_) => {}
                },
            }
        }
    }
}

/// The operation that is done once a database is in `state`.
fn operation(db: &str, state: &str) -> Result<Value> {
    let (columns, rows) = match state {
        "added" => (json!([]), json!([{}])),
        "connected" => (json!(["connected"]), json!([{"connected": true}])),
        "removed" => (json!([]), json!([])),
        _ => bail!("{state}: unknown state"),
    };
    Ok(json!({
        "op": "wait", "table": "Database", "where": [["name", "==", db]],
        "columns": columns, "until": "==", "rows": rows,
    }))
}

/// `wait [SERVER] DATABASE STATE`: waits also for the server.
pub async fn wait(mut words: Vec<String>, options: &ClientOptions) -> Result<()> {
    let servers = connect::take_servers(2, &mut words);
    let [db, state] = words.as_slice() else {
        return Err(anyhow!("invalid syntax for 'wait' (use --help for help)"));
    };
    let operation = operation(db, state)?;
    loop {
        for server in &servers {
            tracing::info!(target: "reconnect", "{server}: connecting...");
            match connect::connect(server, options).await {
                Ok(client) => {
                    tracing::info!(target: "reconnect", "{server}: connected");
                    if let Some(results) = answer(&client, &operation).await? {
                        return check_results(&results);
                    }
                }
                Err(e) => tracing::debug!(target: "reconnect", "{e:#}"),
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The results of the waiting operation; `None` if the connection ended before.
async fn answer(client: &Client, operation: &Value) -> Result<Option<Value>> {
    use ovsdb::ClientError::{Answer, Closed};
    match client.request("set_db_change_aware", json!([true])).await {
        Ok(_) => {}
        Err(Answer(e)) => bail!("set_db_change_aware failed ({e})"),
        Err(_) => return Ok(None),
    }
    match client
        .transact_json("_Server", vec![operation.clone()])
        .await
    {
        Ok(results) => Ok(Some(results)),
        Err(Closed(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
