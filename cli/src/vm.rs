//! `weir vm`: guests whose network cards are ports of the switch.
//!
//! A guest is one process. It adds its ports to the database, lists itself in `RUNDIR/vm`, runs
//! the guest, and takes both back when the guest ends. What a monitor that was killed left
//! behind is cleaned up by the next `run` or `stop` of that name.

pub(crate) mod database;
mod state;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use vmm_net::{
    ConsoleConfig, Exit, Guest, Kernel, MacAddr, NicConfig, ProcessGuest, VhostUserSocket, Vm,
    VmConfig,
};

use self::database::NewPort;
use self::state::{Card, Files, Record};
use crate::paths;

/// How long `weir vm stop` waits for the end.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// What a detached monitor says when the guest is up.
const READY: &str = "ready";
/// Longest VLAN number.
const MAX_TAG: u16 = 4094;

#[derive(Parser)]
#[command(
    name = "weir vm",
    about = "Start and stop guests whose network cards are ports of the switch",
    after_help = "example:\n  \
        weir vsctl add-br br0\n  \
        weir vm run alice --bridge br0 --port alice0 --append ip=10.0.0.1 --detach\n  \
        weir vm run bob --bridge br0 --port bob0 --append ip=10.0.0.2 --detach\n  \
        echo ping 10.0.0.2 | weir vm console alice\n  \
        weir vm list\n  \
        weir vm stop alice\n\n\
        exit status: 0 if all went well (run: the guest powered off, reset or was stopped), 1 if \
        not, 2 if the command line is wrong"
)]
struct Cli {
    /// Run directory of the switch [default: $OVS_RUNDIR, /run/weir or $XDG_RUNTIME_DIR/weir]
    #[arg(long, global = true, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a guest; without --kernel it is the one in the box, commanded on its console
    Run(Box<RunArgs>),
    /// List the guests: ports, bridges, MAC addresses, state
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a guest and remove its ports
    Stop {
        /// The guest's name
        name: String,
    },
    /// Connect to a guest's serial console; ends with the guest, or by Ctrl-C
    Console {
        /// The guest's name
        name: String,
    },
}

#[derive(Args, Debug)]
struct RunArgs {
    /// The guest's name
    name: String,
    /// Bridge to plug the card into; repeat it when the cards are on different ones
    #[arg(long, value_name = "BR", required_unless_present = "socket")]
    bridge: Vec<String>,
    /// Name of the port that is made for the card; repeat it for more cards
    #[arg(long, value_name = "PORT", required_unless_present = "socket")]
    port: Vec<String>,
    /// Connect a card to a switch that is configured elsewhere: listen:PATH or connect:PATH
    #[arg(long, value_name = "ROLE:PATH", conflicts_with_all = ["bridge", "port"])]
    socket: Vec<String>,
    /// MAC address of the card, one per card [default: 52:54:00 and a hash of the name]
    #[arg(long, value_name = "MAC")]
    mac: Vec<MacAddr>,
    /// VLAN of the port (access port)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_TAG)))]
    tag: Option<u16>,
    /// Profile of the ports: VLANs, policing and more (see weir profile)
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    profile: Option<String>,
    /// Which side makes the socket: with "guest" (port type dpdkvhostuserclient) the switch may
    /// restart, with "switch" (dpdkvhostuser) the guest
    #[arg(long, value_enum, default_value = "guest")]
    server: Server,
    /// Linux kernel to start: bzImage or vmlinux
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM file system of the kernel
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line (of the guest in the box: ip=A.B.C.D, vlan=N, run=COMMANDS)
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    append: Option<String>,
    /// Memory, with suffix K, M or G; without one in MiB [default: 256M; guest in the box: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Take the memory from huge pages
    #[arg(long)]
    hugepages: bool,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u8,
    /// Queue pairs of each card
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: u16,
    /// MTU that the guest is told
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
    /// What to run as; "auto" is kvm where it can be used, else process (guest in the box only)
    #[arg(long = "as", value_enum, default_value = "auto")]
    kind: As,
    /// Return when the guest is started, which goes on in the background
    #[arg(long)]
    detach: bool,
    /// Leave the port in the database when the guest ends
    #[arg(long)]
    keep_port: bool,
    /// The database [default: unix:RUNDIR/db.sock]
    #[arg(long, value_name = "TARGET")]
    db: Option<String>,
    /// Set on the process that --detach leaves running
    #[arg(long, hide = true)]
    detached: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum As {
    Auto,
    Kvm,
    Process,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Server {
    Guest,
    Switch,
}

/// A size in bytes from a number with a suffix; plain numbers are MiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        None => (text, 20),
        Some(number) => match text.as_bytes().last() {
            Some(b'K' | b'k') => (number, 10),
            Some(b'G' | b'g') => (number, 30),
            _ => (number, 20),
        },
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| "a size is a number with K, M or G, such as 256M".into())
}

/// Runs `weir vm`.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let words = std::iter::once("weir vm".into()).chain(args.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let run_dir = paths::run_dir(cli.run_dir.as_deref());
    let done = match cli.action {
        Action::Run(run) if run.detach && !run.detached => detach(&run_dir, &run.name, args),
        Action::Run(run) => start(&run_dir, *run),
        Action::List { json } => list(&run_dir, json),
        Action::Stop { name } => stop(&run_dir, &name),
        Action::Console { name } => console(&run_dir, &name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weir vm: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The log of a monitor goes to standard error; `WEIR_LOG` says how much of it.
fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// A guest's name, which becomes a file name.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && !name.starts_with('.'),
        "guest name {name:?}: up to 64 letters, digits, '.', '_' and '-' are allowed"
    );
    Ok(())
}

/// Starts the same command in the background and waits until the guest is up.
fn detach(run_dir: &Path, name: &str, args: Vec<OsString>) -> Result<()> {
    check_name(name)?;
    let files = Files::new(run_dir, name);
    std::fs::create_dir_all(&files.dir)
        .with_context(|| format!("cannot make {}", files.dir.display()))?;
    let log_path = files.log();
    let log =
        File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg0("weir")
        .arg("vm")
        .args(args)
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the monitor")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() == READY {
        return Ok(());
    }
    let status = child.wait()?;
    let mut text = String::new();
    File::open(&log_path)?
        .take(4096)
        .read_to_string(&mut text)?;
    let text = text.trim().trim_start_matches("weir vm: ");
    match (text, status.signal()) {
        ("", Some(signal)) => bail!("the monitor was ended by signal {signal}"),
        ("", None) => bail!("the monitor ended without a word"),
        (text, _) => bail!("{text}"),
    }
}

/// The cards that the command line asks for.
fn cards(run: &RunArgs, run_dir: &Path) -> Result<Vec<(Card, NicConfig)>> {
    let count = run.port.len().max(run.socket.len());
    ensure!(
        run.mac.len() <= count,
        "{} MAC addresses for {count} cards",
        run.mac.len()
    );
    ensure!(
        run.socket.len() == count || run.bridge.len() == 1 || run.bridge.len() == count,
        "{} bridges for {count} ports: name one for all, or one for each",
        run.bridge.len()
    );
    let mut cards = Vec::new();
    for i in 0..count {
        let mac = run.mac.get(i).copied();
        let mac = mac.unwrap_or_else(|| MacAddr::for_guest(&run.name, i));
        let (socket, port, bridge) = match run.socket.get(i).map(|s| s.split_once(':')) {
            Some(Some(("listen", path))) => (VhostUserSocket::Listen(path.into()), None, None),
            Some(Some(("connect", path))) => (VhostUserSocket::Connect(path.into()), None, None),
            Some(_) => bail!(
                "--socket {}: say listen:PATH or connect:PATH",
                run.socket[i]
            ),
            None => {
                let port = &run.port[i];
                ensure!(
                    !port.is_empty() && !port.contains('/'),
                    "port name {port:?}: it may not be empty or have slashes"
                );
                let bridge = run.bridge.get(i).unwrap_or(&run.bridge[0]).clone();
                let socket = match run.server {
                    Server::Guest => {
                        VhostUserSocket::Listen(run_dir.join(format!("{}.{port}.vhost", run.name)))
                    }
                    Server::Switch => VhostUserSocket::Connect(run_dir.join(port)),
                };
                (socket, Some(port.clone()), Some(bridge))
            }
        };
        let card = Card {
            port,
            bridge,
            uuid: None,
            mac: mac.to_string(),
            socket: socket.path().to_owned(),
        };
        let mut nic = NicConfig::new(socket, mac);
        nic.queue_pairs = run.queues;
        nic.mtu = run.mtu;
        cards.push((card, nic));
    }
    Ok(cards)
}

/// What to run as: decided here, so that what cannot be is said before anything is changed.
fn kind(run: &RunArgs) -> Result<As> {
    match (run.kind, vmm_net::kvm_usable()) {
        (As::Process, _) if run.kernel.is_some() => {
            bail!("a Linux kernel needs KVM; only the guest in the box runs as a process")
        }
        (As::Process, _) => Ok(As::Process),
        (As::Auto | As::Kvm, Ok(())) => Ok(As::Kvm),
        (As::Auto, Err(why)) if run.kernel.is_none() => {
            eprintln!("weir vm: KVM cannot be used ({why}): the guest runs as a process");
            Ok(As::Process)
        }
        (_, Err(why)) => bail!("KVM cannot be used: {why}"),
    }
}

/// Cleans up after a monitor that is gone; refuses when it is not.
fn take_over(run_dir: &Path, files: &Files, name: &str) -> Result<()> {
    let Some(old) = files.read()? else {
        return Ok(());
    };
    ensure!(
        files.ask("status").is_err(),
        "guest {name} is running already (\"weir vm stop {name}\" ends it)"
    );
    remove_ports(&old);
    files.remove();
    for card in &old.cards {
        if card.socket.starts_with(run_dir) && card.socket.extension().is_some_and(|e| e == "vhost")
        {
            let _ = std::fs::remove_file(&card.socket);
        }
    }
    Ok(())
}

/// Refuses a MAC address that another guest on the same bridge has.
fn check_macs(run_dir: &Path, cards: &[(Card, NicConfig)]) -> Result<()> {
    for other in state::all(run_dir)? {
        for theirs in &other.cards {
            for (ours, _) in cards {
                ensure!(
                    ours.bridge.is_none() || ours.bridge != theirs.bridge || ours.mac != theirs.mac,
                    "guest {} has the MAC address {} on the same bridge (--mac gives another)",
                    other.name,
                    ours.mac
                );
            }
        }
    }
    Ok(())
}

/// Removes a guest's ports; a database that is gone has none.
fn remove_ports(record: &Record) {
    let uuids: Vec<_> = record.cards.iter().filter_map(|c| c.uuid.clone()).collect();
    if uuids.is_empty() || record.keep_port {
        return;
    }
    let removed = runtime().and_then(|r| r.block_on(database::remove_ports(&record.db, &uuids)));
    if let Err(e) = removed {
        eprintln!("weir vm: the ports of {} stay: {e:#}", record.name);
    }
}

/// Runs a guest until it ends.
fn start(run_dir: &Path, run: RunArgs) -> Result<()> {
    check_name(&run.name)?;
    log_to_stderr();
    if run.detached {
        // Whoever started us may end, and so may their terminal.
        rustix::process::setsid().context("setsid")?;
    }
    let files = Files::new(run_dir, &run.name);
    std::fs::create_dir_all(&files.dir)
        .with_context(|| format!("cannot make {}", files.dir.display()))?;
    let kind = kind(&run)?;
    let cards = cards(&run, run_dir)?;
    take_over(run_dir, &files, &run.name)?;
    check_macs(run_dir, &cards)?;

    let kernel = match &run.kernel {
        None => Kernel::BuiltinGuest {
            args: format!("name={} {}", run.name, run.append.as_deref().unwrap_or("")),
        },
        Some(kernel) => Kernel::Linux {
            kernel: kernel.clone(),
            initrd: run.initrd.clone(),
            cmdline: run
                .append
                .clone()
                .unwrap_or("console=ttyS0 panic=-1".into()),
        },
    };
    let default_memory = if run.kernel.is_some() { 256 } else { 64 };
    let mut config = VmConfig::new(&run.name, kernel);
    config.memory = run.memory.unwrap_or(default_memory << 20);
    config.hugetlb = run.hugepages;
    config.vcpus = run.cpus;
    config.console = ConsoleConfig {
        stdio: !run.detached,
        file: None,
        socket: Some(files.console()),
    };
    config.control_socket = Some(files.control());
    config.nics = cards.iter().map(|(_, nic)| nic.clone()).collect();
    config.check()?;

    let mut record = Record {
        name: run.name.clone(),
        pid: std::process::id(),
        kind: if kind == As::Kvm { "kvm" } else { "process" }.into(),
        guest: run
            .kernel
            .as_ref()
            .map_or("built-in".into(), |k| k.display().to_string()),
        memory_mib: config.memory >> 20,
        cpus: run.cpus,
        cards: cards.into_iter().map(|(card, _)| card).collect(),
        keep_port: run.keep_port,
        db: run
            .db
            .clone()
            .unwrap_or_else(|| format!("unix:{}", paths::db_socket(run_dir).display())),
    };
    let runtime = runtime()?;
    // From here on signals end the guest, not us.
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    add_ports(&runtime, &run, &mut record)?;
    files
        .write(&record)
        .inspect_err(|_| remove_ports(&record))?;
    let started: Result<Arc<dyn Guest>> = match kind {
        As::Kvm => Vm::start(&config)
            .map(|vm| Arc::new(vm) as Arc<dyn Guest>)
            .map_err(Into::into),
        _ => ProcessGuest::start(&config)
            .map(|guest| Arc::new(guest) as Arc<dyn Guest>)
            .map_err(Into::into),
    };
    let exit = started.map(|guest| {
        if run.detached {
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
        }
        let waiting = guest.clone();
        runtime.block_on(async move {
            let mut end = tokio::task::spawn_blocking(move || waiting.wait());
            loop {
                tokio::select! {
                    exit = &mut end => {
                        return exit.unwrap_or_else(|e| Exit::Failed(e.to_string()));
                    }
                    _ = term.recv() => guest.stop(),
                    _ = int.recv() => guest.stop(),
                }
            }
        })
    });
    remove_ports(&record);
    files.remove();
    match exit? {
        Exit::Failed(why) => bail!("guest {}: {why}", run.name),
        Exit::Poweroff | Exit::Reset | Exit::Stopped => Ok(()),
    }
}

/// Adds the guest's ports to the database, if it has any there.
fn add_ports(runtime: &tokio::runtime::Runtime, run: &RunArgs, record: &mut Record) -> Result<()> {
    let kind = match run.server {
        Server::Guest => "dpdkvhostuserclient",
        Server::Switch => "dpdkvhostuser",
    };
    let ports: Vec<_> = record
        .cards
        .iter()
        .filter_map(|card| {
            Some(NewPort {
                bridge: card.bridge.as_deref()?,
                port: card.port.as_deref()?,
                kind,
                socket: (run.server == Server::Guest).then_some(&card.socket),
                mac: card.mac.clone(),
                guest: &run.name,
                tag: run.tag,
            })
        })
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    let profile = run.profile.as_deref();
    let uuids = runtime.block_on(database::add_ports(&record.db, &ports, profile))?;
    for (card, uuid) in record.cards.iter_mut().zip(uuids) {
        card.uuid = Some(uuid);
    }
    Ok(())
}

fn list(run_dir: &Path, as_json: bool) -> Result<()> {
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for record in state::all(run_dir)? {
        let status = Files::new(run_dir, &record.name).ask("status").ok();
        let state = match &status {
            Some(status) => status["state"].as_str().unwrap_or("unknown").to_owned(),
            None => "dead".into(),
        };
        for (i, card) in record.cards.iter().enumerate() {
            let link = match status.as_ref().map(|s| &s["cards"][i]) {
                Some(c) if c["running"] == true => "up",
                Some(c) if c["connected"] == true => "connected",
                _ => "down",
            };
            rows.push([
                record.name.clone(),
                card.port.clone().unwrap_or("-".into()),
                card.bridge.clone().unwrap_or("-".into()),
                card.mac.clone(),
                record.guest.clone(),
                record.kind.clone(),
                state.clone(),
                link.into(),
            ]);
        }
        objects.push(json!({"record": record, "state": state, "status": status}));
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&objects)?)?;
        return Ok(());
    }
    let heads = [
        "NAME", "PORT", "BRIDGE", "MAC", "GUEST", "AS", "STATE", "LINK",
    ];
    let widths: Vec<_> = (0..heads.len())
        .map(|i| {
            let cells = rows.iter().map(|r| r[i].chars().count());
            cells.chain([heads[i].len()]).max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&heads.map(str::to_owned)).chain(&rows) {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}  "))
            .collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn stop(run_dir: &Path, name: &str) -> Result<()> {
    check_name(name)?;
    let files = Files::new(run_dir, name);
    let Some(record) = files.read()? else {
        bail!("there is no guest {name} (\"weir vm list\" shows what there is)");
    };
    if files.ask("stop").is_err() {
        eprintln!("weir vm: the monitor of {name} was gone already");
        return take_over(run_dir, &files, name);
    }
    let end = Instant::now() + STOP_PATIENCE;
    while files.read()?.is_some_and(|r| r.pid == record.pid) {
        ensure!(
            Instant::now() < end,
            "guest {name} does not end (its monitor is process {})",
            record.pid
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn console(run_dir: &Path, name: &str) -> Result<()> {
    check_name(name)?;
    let path = Files::new(run_dir, name).console();
    let mut from = UnixStream::connect(&path)
        .with_context(|| format!("there is no console of a guest {name} ({})", path.display()))?;
    let mut to = from.try_clone()?;
    // Ends with the process; the guest's end is what ends us.
    std::thread::spawn(move || std::io::copy(&mut std::io::stdin(), &mut to));
    let mut buf = [0; 4096];
    let mut out = std::io::stdout();
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buf[..n])?;
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RunArgs, String> {
        let words = ["weir vm", "run"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words)
            .map_err(|e| e.to_string())?
            .action
        {
            Action::Run(run) => Ok(*run),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256M"), Ok(256 << 20));
        assert_eq!(parse_size("64"), Ok(64 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("2048K"), Ok(2 << 20));
        for bad in ["", "M", "-1", "1T", "99999999999999G", "1.5G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cards_of_a_command_line() {
        let dir = Path::new("/r");
        let run = parse("g --bridge br0 --port p0 --port p1 --mac 52:54:00:00:00:01").unwrap();
        let made = cards(&run, dir).unwrap();
        assert_eq!(made[0].0.mac, "52:54:00:00:00:01");
        assert_eq!(made[1].0.mac, MacAddr::for_guest("g", 1).to_string());
        assert_eq!(made[1].0.socket, Path::new("/r/g.p1.vhost"));
        assert_eq!(made[1].0.bridge.as_deref(), Some("br0"));
        let run = parse("g --bridge br0 --port p0 --server switch").unwrap();
        let made = cards(&run, dir).unwrap();
        assert_eq!(made[0].1.socket, VhostUserSocket::Connect("/r/p0".into()));
        let run = parse("g --socket listen:/x/y").unwrap();
        assert_eq!(cards(&run, dir).unwrap()[0].0.port, None);
        let run = parse("g --bridge a --bridge b --port p0 --port p1 --port p2").unwrap();
        assert!(
            cards(&run, dir)
                .unwrap_err()
                .to_string()
                .contains("2 bridges for 3")
        );
        let run = parse("g --bridge a --port a/b").unwrap();
        assert!(cards(&run, dir).is_err());
        assert!(parse("g").unwrap_err().contains("--bridge"));
        assert!(parse("g --bridge a --port b --tag 4095").is_err());
        assert!(parse("g --bridge a --port b --mac 52:54").is_err());
    }

    #[test]
    fn names() {
        check_name("vm-1.a_b").unwrap();
        for bad in ["", "a/b", ".json", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
