//! `ovsdb-server`: serves database files (ovsdb-server(1)).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::{Server, ServerHandle, ServerOptions, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::ovsdb_client::daemon::{self, Daemon};
use crate::ovsdb_client::options::{self, Takes, opt};
use crate::paths;

const PROGRAM: &str = "ovsdb-server";

fn help() -> String {
    format!(
        "\
{PROGRAM}: Open vSwitch database server
usage: {PROGRAM} [OPTIONS] [DATABASE...]
where each DATABASE is a database file in ovsdb format.
The default DATABASE, if none is given, is
{}.

JSON-RPC options (may be specified any number of times):
  --remote=REMOTE         connect or listen to REMOTE: punix:FILE, ptcp:PORT[:IP], unix:FILE,
                          tcp:HOST:PORT, or db:DATABASE,TABLE,COLUMN for what a column names
Database options:
  --create                make the first DATABASE with the built-in schema if it is missing
  --lazy-sync             answer before transactions are on disk, unless they ask to wait
Daemon options:
  --detach                run in background as daemon
  --monitor               start again after a crash
  --no-chdir              do not chdir to '/'
  --pidfile[=FILE]        create pidfile
  --overwrite-pidfile     with --pidfile, start even if already running
  --unixctl=SOCKET        override default control socket name
Logging options:
  -vSPEC, --verbose=SPEC  set logging levels
  --log-file[=FILE]       enable logging to specified FILE
Other options:
  -h, --help              display this help message
  -V, --version           display version information

example:
  {PROGRAM} --remote=punix:/run/weir/db.sock --pidfile --detach /var/lib/weir/conf.db
",
        paths::db_path(None).display()
    )
}

/// Options of Open vSwitch's server that this one does not have, with the reason.
const UNSUPPORTED: &[(&str, Takes)] = &[
    ("private-key", Takes::Value),
    ("certificate", Takes::Value),
    ("ca-cert", Takes::Value),
    ("bootstrap-ca-cert", Takes::Value),
    ("ssl-protocols", Takes::Value),
    ("ssl-ciphers", Takes::Value),
    ("peer-ca-cert", Takes::Value),
    ("sync-from", Takes::Value),
    ("sync-exclude-tables", Takes::Value),
    ("active", Takes::Nothing),
    ("user", Takes::Value),
    ("run", Takes::Value),
    ("disable-file-column-diff", Takes::Nothing),
    ("syslog-method", Takes::Value),
    ("syslog-target", Takes::Value),
];

/// Runs the server with the arguments behind its name.
pub fn run(mut args: Vec<OsString>) -> ExitCode {
    let daemon = Daemon::new(PROGRAM, &mut args);
    match start(daemon, &args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{PROGRAM}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut daemon: Daemon, args: &[OsString]) -> Result<ExitCode> {
    let mut known = vec![
        opt("remote", None, Takes::Value),
        opt("create", None, Takes::Nothing),
        opt("lazy-sync", None, Takes::Nothing),
        opt("unixctl", None, Takes::Value),
        opt("help", Some('h'), Takes::Nothing),
        opt("version", Some('V'), Takes::Nothing),
    ];
    known.extend(daemon::OPTIONS);
    known.extend(UNSUPPORTED.iter().map(|(n, t)| opt(n, None, *t)));
    let parsed = options::parse(&known, args).map_err(|e| anyhow!(e))?;
    let mut server = ServerOptions::default();
    let mut control = None;
    for (name, value) in &parsed.options {
        let text = value.as_deref();
        match *name {
            "help" => {
                print!("{}", help());
                return Ok(ExitCode::SUCCESS);
            }
            "version" => {
                println!("{PROGRAM} (weir) {}", env!("CARGO_PKG_VERSION"));
                return Ok(ExitCode::SUCCESS);
            }
            "remote" => server.remotes.push(remote(text.unwrap_or_default())?),
            "create" => server.create = Some(ovsdb::vswitch_schema().clone()),
            "lazy-sync" => server.lazy_sync = true,
            "unixctl" => control = text.map(str::to_owned),
            // TLS files that service scripts always name may be given where no remote uses TLS.
            "private-key" | "certificate" | "ca-cert" | "bootstrap-ca-cert" | "peer-ca-cert"
            | "ssl-protocols" | "ssl-ciphers" => {
                eprintln!(
                    "{PROGRAM}: --{name} has no effect: TLS is not supported, ssl: and pssl: remotes are refused"
                );
            }
            // Nothing is sent to syslog.
            "syslog-method" | "syslog-target" => {
                eprintln!(
                    "{PROGRAM}: --{name} has no effect: logs go to standard error and --log-file"
                );
            }
            other => {
                if UNSUPPORTED.iter().any(|(n, _)| *n == other) {
                    bail!("--{other} is not supported");
                }
                daemon.set(other, text).map_err(|e| anyhow!(e))?;
            }
        }
    }
    let mut files = parsed
        .words
        .iter()
        .map(|w| std::path::absolute(w).with_context(|| w.clone()));
    server.db_path = match files.next() {
        Some(f) => f?,
        None => paths::db_path(None),
    };
    server.more = files.collect::<Result<_>>()?;
    if let Some(code) = daemon.start(PROGRAM, args).map_err(|e| anyhow!(e))? {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(server, control, &daemon))
}

/// Paths are meant relative to where the program was started, not to `/`.
fn remote(text: &str) -> Result<Target> {
    let absolute = |p: PathBuf| std::path::absolute(&p).with_context(|| format!("{}", p.display()));
    Ok(match text.parse()? {
        Target::Unix(p) => Target::Unix(absolute(p)?),
        Target::PassiveUnix(p) => Target::PassiveUnix(absolute(p)?),
        other => other,
    })
}

async fn serve(
    options: ServerOptions,
    control: Option<String>,
    daemon: &Daemon,
) -> Result<ExitCode> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    let server = Server::open(options).await?;
    let exit = Arc::new(Notify::new());
    let control = Control::open(control, server.handle(), exit.clone())?;
    daemon.ready();
    tracing::info!("{PROGRAM} (weir) {}", env!("CARGO_PKG_VERSION"));
    server
        .run(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {}
                () = exit.notified() => {}
            }
        })
        .await?;
    drop(control);
    Ok(ExitCode::SUCCESS)
}

/// Longest request on the control socket.
const MAX_REQUEST: usize = 64 << 10;

const METHODS: &[(&str, &str)] = &[
    ("exit", ""),
    ("list-commands", ""),
    ("memory/show", ""),
    ("ovsdb-server/add-remote", "REMOTE"),
    ("ovsdb-server/compact", ""),
    ("ovsdb-server/list-dbs", ""),
    ("ovsdb-server/list-remotes", ""),
    ("ovsdb-server/remove-remote", "REMOTE"),
    ("version", ""),
];

/// The control socket, for `ovs-appctl -t ovsdb-server`.
struct Control {
    path: Option<PathBuf>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(t) = &self.task {
            t.abort();
        }
        if let Some(p) = &self.path {
            _ = std::fs::remove_file(p);
        }
    }
}

impl Control {
    fn open(name: Option<String>, server: ServerHandle, exit: Arc<Notify>) -> Result<Self> {
        if name.as_deref() == Some("none") {
            return Ok(Self {
                path: None,
                task: None,
            });
        }
        let dir = paths::run_dir(None);
        let path = match name {
            Some(n) => dir.join(n),
            None => dir.join(format!("{PROGRAM}.{}.ctl", std::process::id())),
        };
        if UnixStreamStd::connect(&path).is_err() {
            _ = std::fs::remove_file(&path);
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("control socket {}", path.display()))?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, server.clone(), exit.clone()));
            }
        });
        Ok(Self {
            path: Some(path),
            task: Some(task),
        })
    }
}

use std::os::unix::net::UnixStream as UnixStreamStd;

async fn talk(mut stream: UnixStream, server: ServerHandle, exit: Arc<Notify>) {
    let mut json = ovsdb::stream::JsonStream::new(MAX_REQUEST);
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(n) => json.feed(&buf[..n]),
        }
        loop {
            let request = match json.next_message() {
                Ok(Some(r)) => r,
                Ok(None) => break,
                Err(_) => return,
            };
            let params: Vec<String> = request["params"]
                .as_array()
                .map(|l| {
                    l.iter()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect()
                })
                .unwrap_or_default();
            let method = request["method"].as_str().unwrap_or_default();
            let reply = match answer(method, &params, &server).await {
                Ok(text) => json!({"id": request["id"], "result": text, "error": null}),
                Err(e) => json!({"id": request["id"], "result": null, "error": format!("{e:#}\n")}),
            };
            if stream
                .write_all(reply.to_string().as_bytes())
                .await
                .is_err()
            {
                return;
            }
            if method == "exit" {
                exit.notify_one();
            }
        }
    }
}

async fn answer(method: &str, params: &[String], server: &ServerHandle) -> Result<String> {
    let Some((_, usage)) = METHODS.iter().find(|(n, _)| *n == method) else {
        bail!(
            "\"{method}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        );
    };
    let wanted = usize::from(!usage.is_empty());
    if params.len() != wanted {
        bail!("\"{method}\" command takes {wanted} arguments");
    }
    let lines = |list: Vec<String>| list.into_iter().map(|l| l + "\n").collect::<String>();
    Ok(match method {
        "list-commands" => {
            let mut out = String::from("The available commands are:\n");
            for (name, usage) in METHODS {
                out.push_str(format!("  {name:<23} {usage}").trim_end());
                out.push('\n');
            }
            out
        }
        "version" => format!("{PROGRAM} (weir) {}\n", env!("CARGO_PKG_VERSION")),
        "ovsdb-server/compact" => {
            server.compact().await?;
            String::new()
        }
        "ovsdb-server/list-remotes" => {
            lines(server.remotes().iter().map(Target::to_string).collect())
        }
        "ovsdb-server/add-remote" => {
            server.add_remote(&remote(&params[0])?).await?;
            String::new()
        }
        "ovsdb-server/remove-remote" => {
            if !server.remove_remote(&remote(&params[0])?) {
                bail!("no such remote");
            }
            String::new()
        }
        "ovsdb-server/list-dbs" => lines(server.with_engine(|e| e.database_names()).await?),
        "memory/show" => {
            let (rows, clients) = server
                .with_engine(|e| {
                    let rows: usize = e
                        .database_names()
                        .iter()
                        .filter_map(|n| e.database(n))
                        .map(ovsdb::Database::total_rows)
                        .sum();
                    (rows, e.client_count())
                })
                .await?;
            format!("rows:{rows} sessions:{clients}\n")
        }
        _ => String::new(),
    })
}
