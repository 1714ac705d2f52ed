//! `weir vsctl`, also called `ovs-vsctl`: reads and changes the configuration of the switch, as
//! ovs-vsctl(8) says.
//!
//! All commands of a line run on a copy of the database ([`view`]), and what they changed goes to
//! the server as one transaction. Should what they relied on have changed meanwhile, the server
//! refuses, and they run again. Then the tool waits for the switch to report, by `cur_cfg`, that it
//! has applied the change, and tells what it could not set up.

mod bridge;
mod completion;
mod config;
mod context;
mod database;
mod link;
mod model;
mod switch;
mod syntax;
mod text;
mod view;
mod zone;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use ovsdb::Replica;
use serde_json::Value;
use switchd::log::Level;
use uuid::Uuid;

use crate::exit;
use crate::table::{Printer, Table};
use context::{Context, Stop, fatal, quoted};
use link::Link;
use syntax::{Parsed, Request};
use text::Symbols;
use view::{Transaction, View};

/// Runs `ovs-vsctl` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let stop = match syntax::parse(args) {
        Ok(Parsed::Print(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Run(request)) => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => match runtime.block_on(limited(&request)) {
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
async fn limited(request: &Request) -> Result<(), Stop> {
    let Some(limit) = request.timeout else {
        return execute(request).await;
    };
    match tokio::time::timeout(limit, execute(request)).await {
        Ok(result) => result,
        Err(_) => {
            let text = "terminating with signal 14 (Alarm clock)";
            request.log.write("fatal_signal", Level::Warn, text);
            exit::out_of_time();
        }
    }
}

/// The whole command line of this process.
fn typed() -> String {
    let words: Vec<String> = std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    quoted(&words)
}

/// What the database's log is to say of the transaction: who called with which command line.
fn comment() -> String {
    let parent = std::os::unix::process::parent_id();
    let words = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    let caller = words.split(|b| *b == 0).next().unwrap_or_default();
    let caller = String::from_utf8_lossy(caller);
    match caller.is_empty() {
        true => format!("ovs-vsctl: {}", typed()),
        false => format!("ovs-vsctl (invoked by {caller}): {}", typed()),
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

async fn execute(request: &Request) -> Result<(), Stop> {
    let level = match request.calls.iter().any(|c| c.writes()) {
        true => Level::Info,
        false => Level::Dbg,
    };
    let called = format!("Called as {}", typed());
    request.log.write("vsctl", level, &called);
    let mut link = Link::open(request, request.retry).await?;
    let comment = comment();
    database::prepare(request, link.replica.schema())?;
    loop {
        let mut attempt = match attempt(request, &link.replica, &comment) {
            Err(Stop::NotYet) => {
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
        let result = link.transact(transaction.ops.clone()).await?;
        let results = result.as_array().map(Vec::as_slice).unwrap_or_default();
        match failure(results) {
            Failure::None => {}
            Failure::Stale => {
                link.changed().await?;
                continue;
            }
            Failure::Refused(error) => {
                let text = format!("transaction error: {error}");
                request.log.write("ovsdb_idl", Level::Warn, &text);
                return Err(Stop::Fatal(text));
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
            link.catch_up()?;
            switch::wait(&mut link, next_cfg, request).await?;
            let interfaces: Vec<Uuid> = attempt.interfaces.iter().filter_map(real).collect();
            switch::report_errors(&link.replica, &interfaces);
        }
        return Ok(());
    }
}

/// Runs the commands on what the database has now.
fn attempt(request: &Request, replica: &Replica, comment: &str) -> Result<Attempt, Stop> {
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
    let mut outputs = Vec::new();
    for (i, call) in request.calls.iter().enumerate() {
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
            last: i + 1 == request.calls.len(),
            log: &request.log,
        };
        (command.run)(&mut ctx)?;
        outputs.push(Output {
            text: ctx.out,
            table: ctx.table,
            created: ctx.created,
        });
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
            request.log.write("vsctl", Level::Warn, &text);
        }
    }
    Ok(Attempt {
        outputs,
        transaction: view.transaction(comment),
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
