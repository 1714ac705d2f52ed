//! The control socket of a client in the background (`ovs-appctl -t ovsdb-client`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use switchd::control::ControlSocket;
use switchd::control::registry::{self, Command, command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::PROGRAM;
use crate::paths;

/// What somebody asked for.
#[derive(Debug)]
pub enum Asked {
    /// To end.
    Exit,
    /// To take no more messages (true), or to go on (false).
    Block(bool),
    /// To send a request: its method and parameters.
    Request(String, Value),
}

/// What the commands work on.
pub struct Control {
    asked: mpsc::UnboundedSender<Asked>,
    blocked: AtomicBool,
}

impl Control {
    fn ask(&self, what: Asked) -> Result<String, String> {
        // The other end goes only with the process.
        _ = self.asked.send(what);
        Ok(String::new())
    }

    fn block(&self, block: bool) -> Result<String, String> {
        if self.blocked.swap(block, Ordering::Relaxed) == block {
            let already = if block { "blocking" } else { "unblocked" };
            return Ok(format!("already {already}"));
        }
        self.ask(Asked::Block(block))
    }

    fn lock(&self, method: &str, name: &str) -> Result<String, String> {
        self.ask(Asked::Request(method.into(), json!([name])))
    }
}

/// Of a client that monitors.
pub const MONITOR: &[Command<Control>] = &[
    command("exit", "", 0, 0, |c, _| c.ask(Asked::Exit)),
    command("list-commands", "", 0, 0, |_, _| {
        Ok(registry::list(MONITOR))
    }),
    command("ovsdb-client/block", "", 0, 0, |c, _| c.block(true)),
    command("ovsdb-client/cond_change", "TABLE COND", 2, 2, |c, a| {
        let condition: Value = crate::json::parse(&a[1])?;
        let params = json!([null, null, {(a[0].as_str()): [{"where": condition}]}]);
        c.ask(Asked::Request("monitor_cond_change".into(), params))?;
        Ok("condition changed".into())
    }),
    command("ovsdb-client/unblock", "", 0, 0, |c, _| c.block(false)),
];

/// Of a client that holds a lock.
pub const LOCK: &[Command<Control>] = &[
    command("exit", "", 0, 0, |c, _| c.ask(Asked::Exit)),
    command("list-commands", "", 0, 0, |_, _| Ok(registry::list(LOCK))),
    command("lock", "LOCK", 1, 1, |c, a| c.lock("lock", &a[0])),
    command("steal", "LOCK", 1, 1, |c, a| c.lock("steal", &a[0])),
    command("unlock", "LOCK", 1, 1, |c, a| c.lock("unlock", &a[0])),
];

/// Hears what is asked for; the socket lives as long as this.
pub struct Ear {
    asked: mpsc::UnboundedReceiver<Asked>,
    // Keeps the channel open where there is no socket.
    _control: Arc<Control>,
    _serving: JoinSet<()>,
}

impl Ear {
    /// Serves `commands` in the run directory if `detached`; else nobody can ask for anything.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn new(commands: &'static [Command<Control>], detached: bool) -> Result<Ear> {
        let (sender, asked) = mpsc::unbounded_channel();
        let control = Arc::new(Control {
            asked: sender,
            blocked: AtomicBool::new(false),
        });
        let mut serving = JoinSet::new();
        if detached {
            let dir = paths::run_dir(None);
            let socket = ControlSocket::bind(&dir, PROGRAM, None::<&Path>)
                .with_context(|| format!("control socket in {}", dir.display()))?;
            let control = control.clone();
            serving.spawn(async move {
                let answer = move |name: &str, args: &[String]| {
                    registry::run(commands, &control, name, args)
                };
                socket.serve(Arc::new(answer)).await;
            });
        }
        Ok(Ear {
            asked,
            _control: control,
            _serving: serving,
        })
    }

    /// Ends the socket once the answer to `exit` has left.
    pub async fn close(self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// The next thing asked for; may be dropped and called again.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // Not reached: we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}
