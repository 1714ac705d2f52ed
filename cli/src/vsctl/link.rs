//! The connection to the database, and the copy of it that the commands run on.

use std::time::Duration;

use ovsdb::transport::Listener;
use ovsdb::{Client, ClientError, ClientOptions, Notification, Replica, Target, Tls, Wanted};
use serde_json::Value;
use switchd::Vlog;
use switchd::log::Level;

use super::context::Stop;
use super::syntax::Request;
use crate::exit;
use crate::paths::DATABASE;

/// Pause between attempts to connect with `--retry`.
const RETRY: Duration = Duration::from_millis(500);

/// The connection and the database as it is.
pub struct Link {
    db: String,
    pub client: Client,
    pub replica: Replica,
}

impl Link {
    /// Connects and reads the database. With `retry`, until that succeeds.
    pub async fn open(request: &Request, retry: bool) -> Result<Link, Stop> {
        loop {
            match Self::attempt(request).await {
                Err(Stop::Fatal(_)) if retry => tokio::time::sleep(RETRY).await,
                other => return other,
            }
        }
    }

    async fn attempt(request: &Request) -> Result<Link, Stop> {
        let client = connect(request).await?;
        let said = |e: ClientError| Stop::Fatal(format!("{}: {e}", request.db));
        let schema = client.get_schema(DATABASE).await.map_err(said)?;
        let mut replica = Replica::new(&schema, &Wanted::new());
        let initial = client
            .monitor(DATABASE, Value::from("vsctl"), replica.monitor_requests())
            .await
            .map_err(said)?;
        replica
            .apply(&initial)
            .map_err(|e| Stop::Fatal(e.to_string()))?;
        Ok(Link {
            db: request.db.clone(),
            client,
            replica,
        })
    }

    /// Runs a transaction; the results in JSON.
    pub async fn transact(&self, ops: Vec<Value>) -> Result<Value, Stop> {
        let result = self.client.transact_json(DATABASE, ops).await;
        result.map_err(|e| self.lost(&e))
    }

    fn lost(&self, e: &ClientError) -> Stop {
        Stop::Fatal(match e {
            ClientError::Closed(reason) => {
                format!("{}: database connection failed ({reason})", self.db)
            }
            e => e.to_string(),
        })
    }

    /// Waits for the database to change.
    pub async fn changed(&mut self) -> Result<(), Stop> {
        loop {
            let notification = self
                .client
                .next_notification()
                .await
                .map_err(|e| self.lost(&e))?;
            if self.apply(&notification)? {
                return Ok(());
            }
        }
    }

    /// Takes in what has arrived already.
    pub fn catch_up(&mut self) -> Result<(), Stop> {
        while let Some(notification) = self.client.try_notification() {
            self.apply(&notification)?;
        }
        Ok(())
    }

    fn apply(&mut self, notification: &Notification) -> Result<bool, Stop> {
        let Notification::Update {
            version: 1,
            updates,
            ..
        } = notification
        else {
            return Ok(false);
        };
        self.replica
            .apply(updates)
            .map_err(|e| Stop::Fatal(e.to_string()))?;
        Ok(true)
    }
}

/// Connects to the first of the comma-separated targets that answers.
async fn connect(request: &Request) -> Result<Client, Stop> {
    let tls = Tls::new(request.tls.clone()).map_err(|e| Stop::Fatal(e.to_string()))?;
    let mut error = String::new();
    for target in request.db.split(',') {
        let reason = match target.parse::<Target>() {
            Ok(parsed) => {
                tell_of_default_port(&request.log, target);
                match connect_to(&parsed, &tls).await {
                    Ok(client) => return Ok(client),
                    Err(reason) => reason,
                }
            }
            Err(_) => {
                let reason = "Address family not supported by protocol";
                tell_of_bad_target(&request.log, target, reason);
                reason.into()
            }
        };
        error = format!("{target}: database connection failed ({reason})");
    }
    Err(Stop::Fatal(error))
}

/// Connects, or for a passive target waits for the database to do so; else why not.
async fn connect_to(target: &Target, tls: &Tls) -> Result<Client, String> {
    if target.is_passive() {
        let words = |e: std::io::Error| exit::words(&e);
        let listener = Listener::bind(target, tls).await.map_err(words)?;
        let (caller, _) = listener.accept().await.map_err(words)?;
        let connection = caller.greet(0).await.map_err(words)?;
        return Ok(Client::over(connection.reader, connection.writer, None));
    }
    let options = ClientOptions {
        tls: tls.clone(),
        probe: None,
    };
    match Client::connect_with(target, &options).await {
        Ok(client) => Ok(client),
        Err(ClientError::Connect { reason, .. }) => Err(reason),
        Err(e) => Err(e.to_string()),
    }
}

/// Where no port is given, the port meant may be the one that older documents name.
fn tell_of_default_port(log: &Vlog, target: &str) {
    let Some(host) = target.strip_prefix("tcp:") else {
        return;
    };
    let has_port = match host.rsplit_once(']') {
        Some((_, port)) => !port.is_empty(),
        None => host.contains(':'),
    };
    if !has_port {
        let text = "The default OVSDB port number has changed from 6632 to 6640";
        log.write("stream", Level::Warn, text);
    }
}

/// Says what is wrong with a `tcp:` target, in the words of Open vSwitch's log.
fn tell_of_bad_target(log: &Vlog, target: &str, reason: &str) {
    let Some(address) = target.strip_prefix("tcp:") else {
        return;
    };
    if let Some((_, port)) = address.rsplit_once(':') {
        let text = format!("{address}: bad port number \"{port}\"");
        log.write("socket_util", Level::Err, &text);
    }
    let text = format!("{target}: connect: {reason}");
    log.write("stream_tcp", Level::Err, &text);
}
