//! What `ovs-appctl` may ask of the database server (ovsdb-server(1), "Runtime management commands").

use std::path::PathBuf;
use std::sync::Arc;

use ovsdb::server::ServerError;
use ovsdb::{ServerHandle, Target};
use switchd::Vlog;
use switchd::control::registry::{self, Command, command};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{VERSION, remote};

/// What the commands work on.
pub(super) struct Control {
    pub(super) server: ServerHandle,
    /// Where what they wait for runs; they themselves run on blocking threads.
    pub(super) runtime: Handle,
    pub(super) log: Arc<Vlog>,
    pub(super) exit: watch::Sender<bool>,
    /// Where sockets of relative paths lie.
    pub(super) run_dir: PathBuf,
}

impl Control {
    fn wait<T>(&self, what: impl Future<Output = Result<T, ServerError>>) -> Result<T, String> {
        self.runtime.block_on(what).map_err(told)
    }

    fn remote(&self, text: &str) -> Result<Target, String> {
        if text.starts_with("db:") && text.parse::<Target>().is_err() {
            return Err(format!("\"{text}\": invalid syntax"));
        }
        remote(text, &self.run_dir).map_err(|e| format!("{e:#}"))
    }
}

/// An error, in the words of the library, which are Open vSwitch's.
fn told(e: ServerError) -> String {
    e.to_string()
}

/// This server is never a backup of another.
fn no_backup(name: &str) -> Result<String, String> {
    Err(format!(
        "{name}: this server cannot be a backup of another: active-backup replication is not supported"
    ))
}

/// In the order in which `list-commands` shows them.
pub(super) const COMMANDS: &[Command<Control>] = &[
    command("exit", "", 0, 0, |c, _| {
        c.exit.send_replace(true);
        Ok(String::new())
    }),
    command("list-commands", "", 0, 0, |_, _| {
        Ok(registry::list(COMMANDS))
    }),
    command("memory/show", "", 0, 0, |c, _| {
        let counts = c.server.with_engine(|e| {
            let databases = e.database_names();
            let cells: usize = databases
                .iter()
                .filter_map(|n| e.database(n))
                .flat_map(|db| {
                    // As Open vSwitch counts: a row has two columns more, _uuid and _version.
                    let tables = db.schema().tables.iter();
                    tables.map(|(name, t)| db.row_count(name) * (t.columns.len() + 2))
                })
                .sum();
            (cells, e.client_count())
        });
        let (cells, sessions) = c.wait(counts)?;
        let backlog = c.server.backlog();
        Ok(format!(
            "backlog:{backlog} cells:{cells} sessions:{sessions}"
        ))
    }),
    command("ovsdb-server/add-db", "DB", 1, 1, |c, a| {
        c.wait(c.server.add_database(PathBuf::from(&a[0])))?;
        Ok(String::new())
    }),
    command("ovsdb-server/add-remote", "REMOTE", 1, 1, |c, a| {
        c.wait(c.server.add_remote(&c.remote(&a[0])?))?;
        Ok(String::new())
    }),
    command("ovsdb-server/compact", "", 0, 1, |c, a| {
        if let Some(name) = a.first() {
            if name == "_Server" {
                return Err("cannot compact built-in databases".into());
            }
            let asked = name.clone();
            let there = c.server.with_engine(move |e| e.database(&asked).is_some());
            if !c.wait(there)? {
                return Err("no database by that name".into());
            }
        }
        c.wait(c.server.compact())?;
        Ok(String::new())
    }),
    command(
        "ovsdb-server/connect-active-ovsdb-server",
        "",
        0,
        0,
        |_, _| Ok("Unable to connect: active server is not specified.\n".into()),
    ),
    command(
        "ovsdb-server/disconnect-active-ovsdb-server",
        "",
        0,
        0,
        |_, _| Ok(String::new()),
    ),
    command("ovsdb-server/get-active-ovsdb-server", "", 0, 0, |_, _| {
        Ok(String::new())
    }),
    command("ovsdb-server/get-db-storage-status", "DB", 1, 1, |c, a| {
        let asked = a[0].clone();
        let there = c.server.with_engine(move |e| e.database(&asked).is_some());
        match c.wait(there)? {
            // A server whose journal cannot be written does not run on.
            true => Ok("status: ok".into()),
            false => Err("Failed to find the database.".into()),
        }
    }),
    command("ovsdb-server/get-sync-exclude-tables", "", 0, 0, |_, _| {
        Ok(String::new())
    }),
    command("ovsdb-server/list-dbs", "", 0, 0, |c, _| {
        let names = c.server.with_engine(|e| e.database_names());
        Ok(c.wait(names)?.join("\n"))
    }),
    command("ovsdb-server/list-remotes", "", 0, 0, |c, _| {
        Ok(c.server.remotes().join("\n"))
    }),
    command("ovsdb-server/perf-counters-clear", "", 0, 0, |_, _| {
        Ok(String::new())
    }),
    command("ovsdb-server/perf-counters-show", "", 0, 0, |_, _| {
        Ok("performance counter is not supported on this platform".into())
    }),
    command("ovsdb-server/reconnect", "", 0, 0, |c, _| {
        c.server.reconnect();
        Ok(String::new())
    }),
    command("ovsdb-server/remove-db", "DB", 1, 1, |c, a| {
        if a[0] == "_Server" {
            return Err("Cannot remove reserved database.".into());
        }
        match c.wait(c.server.remove_database(&a[0]))? {
            true => Ok(String::new()),
            false => Err("Failed to find the database.".into()),
        }
    }),
    command("ovsdb-server/remove-remote", "REMOTE", 1, 1, |c, a| {
        let there = match c.remote(&a[0]) {
            Ok(remote) => c.runtime.block_on(c.server.remove_remote(&remote)),
            Err(_) => false,
        };
        match there {
            true => Ok(String::new()),
            false => Err("no such remote".into()),
        }
    }),
    command("ovsdb-server/set-active-ovsdb-server", "", 1, 1, |_, _| {
        no_backup("ovsdb-server/set-active-ovsdb-server")
    }),
    command(
        "ovsdb-server/set-active-ovsdb-server-probe-interval",
        "",
        1,
        1,
        |_, _| no_backup("ovsdb-server/set-active-ovsdb-server-probe-interval"),
    ),
    command("ovsdb-server/set-sync-exclude-tables", "", 0, 1, |_, _| {
        no_backup("ovsdb-server/set-sync-exclude-tables")
    }),
    command("ovsdb-server/sync-status", "", 0, 0, |_, _| {
        Ok("state: active\n".into())
    }),
    command("version", "", 0, 0, |_, _| Ok(VERSION.into())),
    command("vlog/close", "", 0, 0, |c, _| {
        c.log.close();
        Ok(String::new())
    }),
    command("vlog/list", "", 0, 0, |c, _| Ok(c.log.list())),
    command("vlog/reopen", "", 0, 0, |c, _| {
        c.log.reopen()?;
        Ok(String::new())
    }),
    command(
        "vlog/set",
        "{spec | PATTERN:destination:pattern}",
        1,
        usize::MAX,
        |c, a| {
            a.iter().try_for_each(|spec| c.log.set(spec))?;
            Ok(String::new())
        },
    ),
];
