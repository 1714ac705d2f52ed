//! `weir vsctl`, also called `ovs-vsctl`: reads and changes the configuration of the switch, as
//! ovs-vsctl(8) says.
//!
//! All commands of a line run on a copy of the database ([`view`]), and what they changed goes to
//! the server as one transaction. Should what they relied on have changed meanwhile, the server
//! refuses, and they run again. Then the tool waits for the switch to report, by `cur_cfg`, that it
//! has applied the change, and tells what it could not set up.

mod bridge;
mod config;
mod context;
mod database;
mod log;
mod model;
mod syntax;
mod text;
mod view;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use ovsdb::{Client, ClientError, Notification, Replica, Target, Wanted};
use serde_json::Value;
use uuid::Uuid;

use crate::exit;
use crate::paths::DATABASE;
use crate::table::{Printer, Table};
use context::{Call, Context, Stop, fatal};
use syntax::{Parsed, Request};
use text::Symbols;
use view::{Transaction, View};

/// When to tell that the switch has not answered, without `--timeout`.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to give up waiting for the switch, without `--timeout`.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between attempts to connect with `--retry`.
const RETRY: Duration = Duration::from_millis(500);

/// Runs `ovs-vsctl` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let typed = args
        .iter()
        .map(|a| a.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let stop = match syntax::parse(args) {
        Ok(Parsed::Help) => {
            print(&syntax::help());
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Version) => {
            print(&format!(
                "ovs-vsctl (weir) {}\nDB Schema {}\n",
                env!("CARGO_PKG_VERSION"),
                ovsdb::schema::vswitch_schema().version
            ));
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Commands) => {
            for c in syntax::COMMANDS {
                print(&format!("{} {}\n", c.name, c.usage));
            }
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Run(mut request)) => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => match runtime.block_on(limited(&mut request, &typed)) {
                Ok(()) => return ExitCode::SUCCESS,
                Err(stop) => stop,
            },
            Err(e) => Stop::Fatal(format!("cannot start: {e}")),
        },
        Err(stop) => stop,
    };
    match stop {
        Stop::Exit(code) => ExitCode::from(code),
        Stop::Fatal(message) => {
            eprintln!("ovs-vsctl: {message}");
            ExitCode::FAILURE
        }
        Stop::NotYet => ExitCode::FAILURE,
    }
}

/// Writes to standard output; a reader that went away is no concern.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Runs the request, ended by SIGALRM after `--timeout`, which is how ovs-vsctl(8) ends then.
async fn limited(request: &mut Request, typed: &str) -> Result<(), Stop> {
    let Some(limit) = request.timeout else {
        return execute(request, typed).await;
    };
    match tokio::time::timeout(limit, execute(request, typed)).await {
        Ok(result) => result,
        Err(_) => {
            request
                .log
                .warn("fatal_signal", "terminating with signal 14 (Alarm clock)");
            exit::out_of_time();
        }
    }
}

/// Connects to the first of the comma-separated targets that answers.
async fn connect(request: &Request) -> Result<Client, Stop> {
    loop {
        let mut error = String::new();
        for target in request.db.split(',') {
            let reason = match target.parse::<Target>() {
                Ok(t @ (Target::Unix(_) | Target::Tcp { .. })) => match Client::connect(&t).await {
                    Ok(client) => return Ok(client),
                    Err(ClientError::Connect { reason, .. }) => reason,
                    Err(e) => e.to_string(),
                },
                Ok(_) => fatal!(
                    "{target}: waiting for the database to connect is not supported; use unix: or tcp:"
                ),
                Err(_) if target.starts_with("ssl:") => {
                    fatal!("{target}: SSL is not supported; use unix: or tcp:")
                }
                Err(_) => fatal!(
                    "{target}: database connection failed (Address family not supported by protocol)"
                ),
            };
            error = format!("{target}: database connection failed ({reason})");
        }
        if !request.retry {
            return Err(Stop::Fatal(error));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The connection and the database as it is.
struct Link {
    db: String,
    client: Client,
    replica: Replica,
}

impl Link {
    fn lost(&self, e: &ClientError) -> Stop {
        Stop::Fatal(match e {
            ClientError::Closed(reason) => {
                format!("{}: database connection failed ({reason})", self.db)
            }
            e => e.to_string(),
        })
    }

    /// Waits for the database to change.
    async fn changed(&mut self) -> Result<(), Stop> {
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
    fn catch_up(&mut self) -> Result<(), Stop> {
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

/// What the commands of a line came to.
struct Attempt {
    outputs: Vec<Output>,
    transaction: Option<Transaction>,
    interfaces: Vec<Uuid>,
}

struct Output {
    text: String,
    table: Option<Table>,
    created: Option<Uuid>,
}

async fn execute(request: &mut Request, typed: &str) -> Result<(), Stop> {
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
    let mut link = Link {
        db: request.db.clone(),
        client,
        replica,
    };
    let mut warned = request.log.next;
    loop {
        // What was warned of at the first attempt is not repeated at later ones.
        request.log.next = warned;
        let mut attempt = match attempt(request, &link.replica, typed) {
            Err(Stop::NotYet) => {
                warned = warned.max(request.log.next);
                link.changed().await?;
                continue;
            }
            other => other?,
        };
        let transaction = match attempt.transaction.take() {
            Some(t) if !request.dry_run => t,
            _ => {
                output(request, &attempt.outputs);
                return Ok(());
            }
        };
        let result = link
            .client
            .transact_json(DATABASE, transaction.ops.clone())
            .await
            .map_err(|e| link.lost(&e))?;
        let results = result.as_array().map(Vec::as_slice).unwrap_or_default();
        match failure(results) {
            Failure::None => {}
            Failure::Stale => {
                link.changed().await?;
                continue;
            }
            Failure::Refused(error) => {
                request
                    .log
                    .warn("ovsdb_idl", &format!("transaction error: {error}"));
                fatal!("transaction error: {error}");
            }
        }
        // The rows' real UUIDs.
        let real = |row: &Uuid| {
            let index = transaction.inserted.get(row)?;
            Uuid::parse_str(results.get(*index)?.get("uuid")?.get(1)?.as_str()?).ok()
        };
        for out in &mut attempt.outputs {
            if let Some(row) = out.created.as_mut()
                && let Some(uuid) = real(row)
            {
                *row = uuid;
            }
        }
        output(request, &attempt.outputs);
        if request.wait
            && let Some((index, column)) = &transaction.counter
            && let Some(next_cfg) = results
                .get(*index)
                .and_then(|r| r.get("rows")?.get(0)?.get(column)?.as_i64())
        {
            wait_for_switch(&mut link, next_cfg, request.timeout.is_some()).await?;
            let interfaces: Vec<Uuid> = attempt.interfaces.iter().filter_map(real).collect();
            report_errors(&link.replica, &interfaces);
        }
        return Ok(());
    }
}

/// Runs the commands on what the database has now.
fn attempt(request: &mut Request, replica: &Replica, typed: &str) -> Result<Attempt, Stop> {
    let mut view = View::new(replica);
    let mut symbols = Symbols::default();
    let mut interfaces = Vec::new();
    let root = match view.rows("Open_vSwitch").first() {
        Some(row) => *row,
        None => view.insert("Open_vSwitch", &[]),
    };
    if request.wait {
        view.increment("Open_vSwitch", root, "next_cfg");
    }
    let calls: Vec<Call> = request.calls.clone();
    let mut outputs = Vec::new();
    for prepare in [true, false] {
        for call in &calls {
            let Some(command) = syntax::find(&call.argv[0]) else {
                continue;
            };
            let mut ctx = Context {
                view: &mut view,
                symbols: &mut symbols,
                call,
                root,
                out: String::new(),
                table: None,
                created: None,
                interfaces: &mut interfaces,
                log: &mut request.log,
            };
            if prepare {
                // Table and column names are checked before anything runs.
                if matches!(
                    command.name,
                    "list"
                        | "find"
                        | "get"
                        | "set"
                        | "add"
                        | "remove"
                        | "clear"
                        | "create"
                        | "destroy"
                        | "wait-until"
                ) {
                    database::prepare(&mut ctx)?;
                }
                continue;
            }
            (command.run)(&mut ctx)?;
            outputs.push(Output {
                text: ctx.out,
                table: ctx.table,
                created: ctx.created,
            });
        }
    }
    for (name, symbol) in &symbols.0 {
        if !symbol.created {
            fatal!(
                "row id \"{name}\" is referenced but never created (e.g. with \"-- --id={name} create ...\")"
            );
        }
        if !symbol.strong_ref {
            let what = if symbol.weak_ref {
                "only a weak reference to it was"
            } else {
                "no reference to it was"
            };
            let text = format!(
                "row id \"{name}\" was created but {what} inserted, so it will not actually appear in the database"
            );
            request.log.warn("vsctl", &text);
        }
    }
    Ok(Attempt {
        outputs,
        transaction: view.transaction(&format!("ovs-vsctl: ovs-vsctl {typed}")),
        interfaces,
    })
}

/// What the answers to a transaction amount to.
#[derive(Debug, PartialEq)]
enum Failure {
    None,
    /// Something the commands relied on had changed.
    Stale,
    /// The server's error, as JSON.
    Refused(String),
}

fn failure(results: &[Value]) -> Failure {
    let mut found = Failure::None;
    for result in results {
        match result.get("error").and_then(Value::as_str) {
            Some("timed out") => found = Failure::Stale,
            Some("aborted") | None => {
                if result.is_null() && found == Failure::None {
                    found = Failure::Stale;
                }
            }
            Some(_) => {
                // The members in order of their names, as everywhere in the protocol's texts.
                let members: std::collections::BTreeMap<_, _> =
                    result.as_object().into_iter().flatten().collect();
                return Failure::Refused(serde_json::to_string(&members).unwrap_or_default());
            }
        }
    }
    found
}

/// Prints what the commands had to say.
fn output(request: &Request, outputs: &[Output]) {
    let mut text = String::new();
    let mut printer = Printer::new(request.style.clone());
    for out in outputs {
        let created = out.created.map(|u| format!("{u}\n")).unwrap_or_default();
        if let Some(table) = &out.table {
            text.push_str(&printer.format(table));
        } else if request.oneline {
            let all = format!("{}{created}", out.text);
            let all = all.strip_suffix('\n').unwrap_or(&all);
            text.push_str(&all.replace('\\', "\\\\").replace('\n', "\\n"));
            text.push('\n');
        } else {
            text.push_str(&out.text);
            text.push_str(&created);
        }
    }
    print(&text);
}

/// Waits for the switch to have applied configuration `next_cfg`.
async fn wait_for_switch(link: &mut Link, next_cfg: i64, limited: bool) -> Result<(), Stop> {
    let start = tokio::time::Instant::now();
    let mut told = limited;
    loop {
        link.catch_up()?;
        let current = link.replica.table("Open_vSwitch").values().next();
        match current.and_then(|r| r.get("cur_cfg").as_scalar_int()) {
            Some(cur_cfg) if cur_cfg >= next_cfg => return Ok(()),
            _ => {}
        }
        let deadline = start + if told { SWITCH_TIMEOUT } else { PATIENCE };
        if limited {
            link.changed().await?;
        } else if let Ok(changed) = tokio::time::timeout_at(deadline, link.changed()).await {
            changed?;
        } else if told {
            fatal!(
                "the change is in the database, but ovs-vswitchd (or weir up) did not apply it within {} seconds; is it running? (--timeout=SECS waits so long, --no-wait not at all)",
                SWITCH_TIMEOUT.as_secs()
            );
        } else {
            told = true;
            eprintln!(
                "ovs-vsctl: the change is in the database; waiting for ovs-vswitchd (or weir up) to apply it (--no-wait does not wait)"
            );
        }
    }
}

/// Tells which of the new interfaces the switch could not set up.
fn report_errors(replica: &Replica, interfaces: &[Uuid]) {
    let mut any = false;
    for uuid in interfaces {
        let Some(row) = replica.row("Interface", uuid) else {
            continue;
        };
        if row.get("ofport").as_scalar_int().is_some_and(|n| n != -1) {
            continue;
        }
        let name = row.str("name");
        match row.get("error").as_scalar_str() {
            Some(error) => {
                eprintln!(
                    "ovs-vsctl: Error detected while setting up '{name}': {error}.  See ovs-vswitchd log for details."
                );
            }
            None => eprintln!(
                "ovs-vsctl: Error detected while setting up '{name}'.  See ovs-vswitchd log for details."
            ),
        }
        any = true;
    }
    if any {
        eprintln!(
            "ovs-vsctl: The default log directory is \"{}\".",
            crate::paths::log_dir().display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_understood() {
        assert_eq!(failure(&[json!({}), json!({"count": 1})]), Failure::None);
        assert_eq!(
            failure(&[json!({"error": "timed out"}), json!(null)]),
            Failure::Stale
        );
        let refused = failure(&[
            json!({}),
            json!({"error": "constraint violation", "details": "x"}),
        ]);
        assert_eq!(
            refused,
            Failure::Refused("{\"details\":\"x\",\"error\":\"constraint violation\"}".into())
        );
    }
}
