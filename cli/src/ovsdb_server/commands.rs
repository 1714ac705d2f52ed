//! What `ovs-appctl` may ask of the database server (ovsdb-server(1), "Runtime management commands").

use std::path::PathBuf;
use std::sync::Arc;

use ovsdb::ServerHandle;
use ovsdb::server::ServerError;
use switchd::Vlog;
use switchd::control::registry::{self, Command, command};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{VERSION, target};

/// What the commands work on.
pub(super) struct Control {
    pub(super) server: ServerHandle,
    /// Where what they wait for runs; they themselves run on blocking threads.
    pub(super) runtime: Handle,
    pub(super) log: Arc<Vlog>,
    pub(super) exit: watch::Sender<bool>,
}

impl Control {
    fn wait<T>(&self, what: impl Future<Output = Result<T, ServerError>>) -> Result<T, String> {
        self.runtime.block_on(what).map_err(told)
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

/// Open vSwitch counts the processor's instructions in some functions; this server does not.
fn no_counters(name: &str) -> Result<String, String> {
    Err(format!(
        "{name}: this server has no performance counters; memory/show tells what it holds"
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
        let (size, monitors, sessions) = c.wait(
            c.server
                .with_engine(|e| (e.size(), e.monitor_count(), e.client_count())),
        )?;
        let (atoms, cells) = (size.atoms, size.cells);
        // As Open vSwitch has it, what clients alone can cause is left out where there are none.
        Ok(match sessions {
            0 => format!("atoms:{atoms} cells:{cells} monitors:{monitors}"),
            _ => format!(
                "atoms:{atoms} backlog:{} cells:{cells} monitors:{monitors} sessions:{sessions}",
                c.server.backlog()
            ),
        })
    }),
    command("ovsdb-server/add-db", "DB", 1, 1, |c, a| {
        c.wait(c.server.add_database(PathBuf::from(&a[0])))?;
        Ok(String::new())
    }),
    command("ovsdb-server/add-remote", "REMOTE", 1, 1, |c, a| {
        c.wait(c.server.add_remote(&target(&a[0])?))?;
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
        c.wait(c.server.compact(a.first().map(String::as_str)))?;
        Ok(String::new())
    }),
    command(
        "ovsdb-server/connect-active-ovsdb-server",
        "",
        0,
        0,
        |_, _| Ok("Unable to connect: active server is not specified.\n".into()),
    ),
    command("ovsdb-server/disable-monitor-cond", "", 0, 0, |c, _| {
        c.wait(c.server.with_engine(|e| e.disable_monitor_cond()))?;
        // So that clients that use it find out.
        c.server.reconnect();
        Ok(String::new())
    }),
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
    command(
        "ovsdb-server/get-db-storage-status",
        "DB",
        1,
        1,
        |c, a| match c.wait(c.server.storage_status(&a[0]))? {
            Some(Ok(())) => Ok("status: ok".into()),
            Some(Err(why)) => Ok(format!("status: {why}")),
            None => Err("Failed to find the database.".into()),
        },
    ),
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
    command(
        "ovsdb-server/memory-trim-on-compaction",
        "on|off",
        1,
        1,
        |_, a| match a[0].as_str() {
            // mimalloc, which the binary uses, hands unused pages back by itself.
            "on" => Ok(String::new()),
            "off" => Err("cannot be turned off: the allocator always returns unused memory".into()),
            _ => Err("invalid argument".into()),
        },
    ),
    command("ovsdb-server/perf-counters-clear", "", 0, 0, |_, _| {
        no_counters("ovsdb-server/perf-counters-clear")
    }),
    command("ovsdb-server/perf-counters-show", "", 0, 0, |_, _| {
        no_counters("ovsdb-server/perf-counters-show")
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
        let there = match target(&a[0]) {
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
    command("vlog/list-pattern", "", 0, 0, |c, _| {
        Ok(c.log.list_pattern().into())
    }),
    command("vlog/reopen", "", 0, 0, |c, _| {
        c.log.reopen()?;
        Ok(String::new())
    }),
    command(
        "vlog/set",
        "{spec | PATTERN:destination:pattern}",
        0,
        usize::MAX,
        |c, a| {
            a.iter().try_for_each(|spec| c.log.set(spec))?;
            Ok(String::new())
        },
    ),
];
