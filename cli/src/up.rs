//! `weir up`: database, switch and controller in one process, until SIGTERM or SIGINT.
//!
//! The three know each other only by their protocols, as they would in three processes. They start
//! from the ground up, and end in the other order, so that the switch's last words still reach the
//! database. If one fails the others end, too.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ovsdb::{Server, ServerOptions, Target, TlsOptions, vswitch_schema};
use tokio::sync::watch;

use crate::controller::Listen;
use crate::daemon::{self, Settings, Started};
use crate::getopt::{self, Spec, Takes};
use crate::{controller as controller_command, paths, switchd as switchd_command};

const OPTIONS: &[Spec] = &[
    ("db", None, Takes::Value),
    ("remote", None, Takes::Value),
    ("no-controller", None, Takes::Nothing),
    ("forwarding-threads", None, Takes::Value),
    ("enable-dummy", None, Takes::Nothing),
];

/// How often to look whether the switch serves.
const POLL: Duration = Duration::from_millis(10);

fn help() -> String {
    format!(
        "\
weir up: database, switch and controller in one process
usage: weir up [OPTIONS]

  --db=FILE                 database file, made if it is not there (default: {})
  --remote=TARGET           serve the database there, too, such as ptcp:6640; may repeat
  --no-controller           leave the controller out
  --forwarding-threads=N    threads that forward packets (default: 1)
  --enable-dummy            interfaces of type dummy, and a clock that tests can move
{}
For the database's remotes pssl: and ssl: (default: the files that ovs-vsctl set-ssl names):
{}
{}
It runs until SIGTERM or SIGINT. Exit codes: 0 ended by a signal; 1 could not start, or failed.

Example:
  weir up --run-dir /tmp/weir --db /tmp/weir/conf.db &
  OVS_RUNDIR=/tmp/weir weir vsctl add-br br0
",
        paths::db_path(None).display(),
        controller_command::HELP,
        getopt::TLS_HELP,
        daemon::HELP
    )
}

/// What the command line asks for.
struct Plan {
    settings: Settings,
    db: PathBuf,
    remotes: Vec<Target>,
    tls: TlsOptions,
    controller: Option<controller::Options>,
    threads: usize,
    dummy: bool,
}

/// Runs `weir up`.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let fail = |e: &dyn std::fmt::Display| {
        eprintln!("weir up: {e}");
        ExitCode::FAILURE
    };
    let plan = match prepare(args) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(e) => return fail(&e),
    };
    if let Err(e) = daemon::make_run_dir(&plan.settings.run_dir) {
        return fail(&format!("{e:#}"));
    }
    let started = match plan.settings.start() {
        Ok(started) => started,
        Err(code) => return code,
    };
    match serve(plan, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("{e:#}")),
    }
}

/// What `ovs-vsctl set-ssl` has told the database, which is where Open vSwitch's own start script
/// makes its database server look.
fn tls_of_database() -> TlsOptions {
    let from = |column: &str| Some(format!("db:{},SSL,{column}", paths::DATABASE));
    TlsOptions {
        private_key: from("private_key"),
        certificate: from("certificate"),
        ca_cert: from("ca_cert"),
        bootstrap: true,
        ..TlsOptions::default()
    }
}

/// Reads the command line; nothing to run after `--help` and `--version`.
fn prepare(args: Vec<OsString>) -> Result<Option<Plan>, String> {
    let specs: &[&[Spec]] = &[
        OPTIONS,
        getopt::TLS,
        controller_command::OPTIONS,
        daemon::OPTIONS,
    ];
    let (options, words) = getopt::parse(args, specs, false)?;
    if let Some(word) = words.first() {
        return Err(format!("\"{word}\" is too much; see weir up --help"));
    }
    let mut listen = Listen::default();
    let mut db = None;
    let mut remotes = Vec::new();
    let mut tls = tls_of_database();
    let (mut with_controller, mut threads, mut dummy) = (true, 1, false);
    let mut rest = Vec::new();
    for (name, value) in options {
        let given = value.as_deref().unwrap_or("");
        if listen.accept(name, given)? {
            continue;
        }
        match name {
            "help" => {
                print!("{}", help());
                return Ok(None);
            }
            "version" => {
                println!("weir {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            "db" => {
                db = Some(std::path::absolute(given).map_err(|e| format!("--db={given}: {e}"))?)
            }
            "remote" => remotes.push(given.parse::<Target>().map_err(|e| e.to_string())?),
            "no-controller" => with_controller = false,
            "forwarding-threads" => threads = switchd_command::forwarding_threads(given)?,
            "enable-dummy" => dummy = true,
            _ if tls.accept(name, given) => {}
            _ => rest.push((name, value)),
        }
    }
    if !with_controller && (!listen.openflow.is_empty() || listen.rest.is_some()) {
        return Err(
            "--openflow and --rest are the controller's, which --no-controller leaves out".into(),
        );
    }
    let run_dir = paths::run_dir(listen.run_dir.as_deref());
    let run_dir = std::path::absolute(&run_dir).unwrap_or(run_dir);
    let db = paths::db_path(db.as_deref());
    let mut settings = Settings::new("weir", run_dir.clone());
    settings.pidfile = Some(run_dir.join("weir.pid"));
    for (name, value) in rest {
        settings.accept(name, value.as_deref())?;
    }
    if settings.levels.is_empty() {
        // A person watches the console: only what needs attention.
        settings.levels.push("console:warn".into());
    }
    // The controller's store lies beside the database.
    let controller =
        with_controller.then(|| listen.options(db.with_extension("controller.redb"), &run_dir));
    Ok(Some(Plan {
        settings,
        db,
        remotes,
        tls,
        controller,
        threads,
        dummy,
    }))
}

/// Ends when `stop` says so.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

fn serve(plan: Plan, started: Started) -> anyhow::Result<()> {
    let _log = plan.settings.start_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let outcome = runtime.block_on(serve_all(plan, _log, started));
    // Whatever is still in a system call must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve_all(
    plan: Plan,
    log: std::sync::Arc<switchd::Vlog>,
    mut started: Started,
) -> anyhow::Result<()> {
    let signal = daemon::shutdown()?;
    let run_dir = &plan.settings.run_dir;
    if let Some(dir) = plan.db.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let socket = paths::db_socket(run_dir);
    let mut remotes = vec![
        Target::PassiveUnix(socket.clone()),
        // Whatever `vsctl set-manager` says.
        Target::Database {
            db: paths::DATABASE.into(),
            table: "Open_vSwitch".into(),
            column: "manager_options".into(),
        },
    ];
    remotes.extend(plan.remotes.iter().cloned());
    let database = Server::open(ServerOptions {
        db_path: plan.db.clone(),
        create: Some(vswitch_schema().clone()),
        remotes,
        tls: plan.tls.clone(),
        ..ServerOptions::default()
    })
    .await
    .with_context(|| format!("database {}", plan.db.display()))?;
    let mut lines = vec![format!(
        "database    {} at unix:{}",
        plan.db.display(),
        socket.display()
    )];

    let controller = match plan.controller.clone() {
        None => None,
        Some(options) => {
            let token = options.token_file.clone();
            let controller = controller::Controller::bind(options)
                .await
                .context("other addresses: --openflow and --rest; none: --no-controller")?;
            let addresses = controller.addresses();
            let openflow: Vec<String> =
                addresses.openflow.iter().map(ToString::to_string).collect();
            lines.push(format!(
                "controller  OpenFlow at {}; REST and dashboard at http://{}/ (token in {})",
                openflow.join(", "),
                addresses.rest,
                token.display()
            ));
            Some(controller)
        }
    };

    let mut options = switchd::Options::new(Target::Unix(socket), run_dir.clone());
    // Those of the database's row are read from there.
    options.controller_tls = plan
        .tls
        .map(|v| (!v.starts_with("db:")).then(|| v.to_owned()));
    options.forwarding_threads = plan.threads;
    options.enable_dummy = plan.dummy;
    options.unixctl = plan.settings.unixctl.clone();
    options.system_id = Some(uuid::Uuid::new_v4().to_string());
    options.log = Some(log);
    let control = match &options.unixctl {
        Some(path) => path.clone(),
        None => run_dir.join(format!("ovs-vswitchd.{}.ctl", std::process::id())),
    };
    lines.push(format!(
        "switch      {} forwarding thread(s), control socket {}",
        plan.threads,
        control.display()
    ));

    let (stop, upper) = watch::channel(false);
    let (stop_database, lower) = watch::channel(false);
    let database = tokio::spawn(database.run(stopped(lower)));
    let controller = tokio::spawn({
        let upper = upper.clone();
        async move {
            match controller {
                Some(c) => c.run(stopped(upper)).await.map_err(anyhow::Error::from),
                None => {
                    stopped(upper).await;
                    Ok(())
                }
            }
        }
    });
    let switch = tokio::spawn(switchd::run(options, stopped(upper)));
    let announce = async {
        while !control.exists() {
            tokio::time::sleep(POLL).await;
        }
        if !plan.settings.detach {
            for line in &lines {
                eprintln!("{line}");
            }
            eprintln!(
                "ready       OVS_RUNDIR={} weir vsctl show",
                run_dir.display()
            );
        }
        started.ready();
        std::future::pending::<()>().await;
    };
    let mut parts = Parts {
        database,
        controller,
        switch,
    };
    // Until a signal comes, or one of them ends by itself.
    let ended = tokio::select! {
        () = signal => None,
        () = announce => None,
        ended = parts.any() => Some(ended),
    };
    stop.send_replace(true);
    let rest = parts.upper_end().await;
    stop_database.send_replace(true);
    let database_end = parts.database_end().await;
    match ended {
        Some(end) => end,
        None => rest.and(database_end),
    }
}

type Task<E> = tokio::task::JoinHandle<Result<(), E>>;

/// The three at work.
struct Parts {
    database: Task<ovsdb::server::ServerError>,
    controller: Task<anyhow::Error>,
    switch: Task<anyhow::Error>,
}

async fn end_of<E: Into<anyhow::Error>>(
    name: &str,
    task: impl Future<Output = Result<Result<(), E>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match task.await {
        Ok(result) => result.map_err(|e| e.into().context(format!("the {name} failed"))),
        Err(e) => Err(anyhow::anyhow!("the {name} crashed: {e}")),
    }
}

impl Parts {
    /// The first of them to end, by itself.
    async fn any(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            end = end_of("database", &mut self.database) => end,
            end = end_of("controller", &mut self.controller) => end,
            // The switch ends in peace when `exit` is asked for on its control socket.
            end = end_of("switch", &mut self.switch) => end,
        }
    }

    /// The end of switch and controller.
    async fn upper_end(&mut self) -> anyhow::Result<()> {
        let switch = match self.switch.is_finished() {
            true => Ok(()),
            false => end_of("switch", &mut self.switch).await,
        };
        let controller = match self.controller.is_finished() {
            true => Ok(()),
            false => end_of("controller", &mut self.controller).await,
        };
        switch.and(controller)
    }

    /// The end of the database.
    async fn database_end(&mut self) -> anyhow::Result<()> {
        match self.database.is_finished() {
            true => Ok(()),
            false => end_of("database", &mut self.database).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = line
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(OsString::from)
            .collect();
        prepare(words).map(|p| p.expect("a plan"))
    }

    #[test]
    fn options() {
        let p = plan("--run-dir /r --db /d/conf.db --rest 127.0.0.1:1 --openflow 127.0.0.1:2 --forwarding-threads=2").unwrap();
        assert_eq!(p.settings.run_dir, PathBuf::from("/r"));
        assert_eq!(p.settings.pidfile, Some(PathBuf::from("/r/weir.pid")));
        assert_eq!((p.threads, p.db), (2, PathBuf::from("/d/conf.db")));
        let c = p.controller.unwrap();
        assert_eq!(c.store, PathBuf::from("/d/conf.controller.redb"));
        assert_eq!(
            (c.rest.port(), c.openflow.len(), c.openflow[0].port()),
            (1, 1, 2)
        );
        assert!(plan("--no-controller").unwrap().controller.is_none());
        for bad in [
            "--no-controller --rest 127.0.0.1:1",
            "--forwarding-threads 0",
            "x",
            "--rest y",
            "--remote y",
        ] {
            assert!(plan(bad).is_err(), "{bad}");
        }
    }
}
