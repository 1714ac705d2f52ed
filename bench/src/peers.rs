//! The switches: weir and its peers, each started in a private directory with vhost-user ports that connect to our sockets.
//!
//! A switch lives through all rounds of a scenario and is stopped (SIGSTOP) while another one is measured: loading a hundred
//! thousand rules for every sample would take longer than measuring. Its forwarding thread has [`SWITCH_CPU`] to itself; everything
//! else of it shares [`TRAFFIC_CPU`] with the traffic.

use crate::cleanup::{self, Process};
use crate::machine::{self, SWITCH_CPU, TRAFFIC_CPU};
use anyhow::{Context, Result, bail, ensure};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A switch that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Peer {
    /// This project, one forwarding thread.
    Weir,
    /// Debian's Open vSwitch with DPDK, one PMD thread.
    OvsDpdk,
    /// `dpdk-testpmd` passing frames between two vhost ports unseen: the practical limit.
    #[value(name = "testpmd")]
    TestpmdForward,
    /// Open vSwitch's plain userspace datapath (kernel-attached ports only).
    Ovs,
    /// The kernel's bridge (kernel-attached ports only).
    LinuxBridge,
    /// Open vSwitch's database server (database only).
    OvsdbServer,
    /// Nobody.
    None,
    /// Not a switch: what one core's memcpy moves.
    #[value(skip)]
    Memcpy,
    /// Not a switch: a thread that sleeps, is woken and answers.
    #[value(skip)]
    BareThread,
}

impl Peer {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Weir => "weir",
            Peer::OvsDpdk => "ovs-dpdk",
            Peer::TestpmdForward => "testpmd",
            Peer::Ovs => "ovs",
            Peer::LinuxBridge => "linux-bridge",
            Peer::OvsdbServer => "ovsdb-server",
            Peer::None => "none",
            Peer::Memcpy => "memcpy",
            Peer::BareThread => "bare thread",
        }
    }

    /// Whether it has vhost-user ports.
    pub fn has_vhost(self) -> bool {
        matches!(self, Peer::Weir | Peer::OvsDpdk | Peer::TestpmdForward)
    }

    /// What was installed, as it says itself.
    pub fn version(self) -> String {
        let first = |program: &str, args: &[&str]| {
            run(program, args, &[])
                .ok()
                .and_then(|t| t.lines().next().map(str::to_owned))
                .unwrap_or_else(|| format!("{program} is not there"))
        };
        match self {
            Peer::Weir => weir_binary()
                .map(|w| first(&w.display().to_string(), &["--version"]))
                .unwrap_or_else(|e| e.to_string()),
            Peer::OvsDpdk => {
                let text = run(OVS_DPDK, &["--version"], &[]).unwrap_or_default();
                text.lines().take(2).collect::<Vec<_>>().join(", ")
            }
            Peer::TestpmdForward => {
                first("dpkg-query", &["-W", "-f=${Package} ${Version}\n", "dpdk"])
            }
            Peer::Ovs => first(OVS, &["--version"]),
            Peer::OvsdbServer => first("ovsdb-server", &["--version"]),
            Peer::LinuxBridge | Peer::Memcpy | Peer::BareThread => "the kernel's".into(),
            Peer::None => String::new(),
        }
    }
}

const OVS: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
const OVS_DPDK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";

/// A port that carries no traffic of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// vhost-user, to a socket where perhaps somebody listens.
    Vhost(PathBuf),
    /// A tap device, made by the switch.
    Tap,
    /// An internal port.
    Internal,
    /// A device that is there.
    System(String),
    /// A device that is there, by AF_XDP.
    AfXdp(String),
}

/// What a switch is started with.
#[derive(Clone, Default)]
pub struct Setup {
    /// Flows, as `ofctl add-flows` takes them.
    pub rules: Vec<String>,
    /// Unsegmented TCP frames between guests.
    pub tso: bool,
    /// Run in a network namespace of its own.
    pub private: bool,
    /// Run in the network namespace of this name.
    pub namespace: Option<String>,
    /// More ports.
    pub extra: Vec<Extra>,
    /// The second port is on an underlay bridge, under a tunnel of the first bridge.
    pub tunnel: Option<Tunnel>,
}

/// A tunnel over an underlay bridge `phy`, whose own interface has an address. It is number [`TUNNEL_PORT`] of `br0`.
#[derive(Clone)]
pub struct Tunnel {
    /// The interface's type.
    pub kind: &'static str,
    /// VNI.
    pub key: u32,
    /// The underlay's own address, and its other end: Ethernet and IPv4.
    pub own: ([u8; 6], [u8; 4]),
    /// The other end.
    pub other: ([u8; 6], [u8; 4]),
}

/// See [`Tunnel`].
pub const TUNNEL_PORT: u16 = 10;

/// A started switch. Its ports connect, as vhost-user clients, to `sockets`.
pub struct Switch {
    /// Which.
    pub kind: Peer,
    processes: Vec<Process>,
    directory: TempDir,
    private: bool,
    namespace: Option<String>,
    stopped: bool,
    /// Where the traffic's side listens.
    pub sockets: Vec<PathBuf>,
}

/// Huge pages for DPDK (weir needs none): a file system of our own, kept mounted for the run.
pub fn huge_pages() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("weir-bench-huge-{}", std::process::id()));
    if !path.exists() {
        let pages: usize = std::fs::read_to_string("/proc/sys/vm/nr_hugepages")?
            .trim()
            .parse()?;
        if pages < 1024 {
            std::fs::write("/proc/sys/vm/nr_hugepages", "1024")
                .context("1024 huge pages of 2 MiB are needed for DPDK; run as root")?;
        }
        std::fs::create_dir(&path)?;
        cleanup::mount(&path);
        run(
            "mount",
            &["-t", "hugetlbfs", "none", path.to_str().expect("utf-8")],
            &[],
        )?;
    }
    Ok(path)
}

/// Runs a program to its end and returns what it said.
pub fn run(program: &str, args: &[&str], env: &[(&str, &Path)]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Bytes of memory in use by a process.
pub fn resident(pid: u32) -> Result<f64> {
    memory_line(pid, "VmRSS:")
}

/// A line of `/proc/PID/status` that gives memory, in bytes.
pub fn memory_line(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |l: &str| {
        l.strip_prefix(name)?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>()
            .ok()
    };
    let found = status.lines().find_map(kib);
    Ok(found.with_context(|| format!("{name} in /proc"))? * 1024.0)
}

/// Waits for a condition, a deadline long.
pub fn wait_for(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() > end {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The weir binary beside this one, from the same profile.
pub fn weir_binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("weir");
    ensure!(
        path.exists(),
        "{} is not built: cargo build --release -p weir",
        path.display()
    );
    Ok(path)
}

impl Switch {
    /// A directory and sockets for a switch with so many vhost-user ports, which is not started yet.
    pub fn prepare(kind: Peer, ports: usize) -> Result<Switch> {
        let directory = tempfile::Builder::new().prefix("wb").tempdir()?;
        cleanup::directory(directory.path());
        let sockets = (0..ports)
            .map(|i| directory.path().join(format!("p{i}.sock")))
            .collect();
        Ok(Switch {
            kind,
            processes: vec![],
            directory,
            private: false,
            namespace: None,
            stopped: false,
            sockets,
        })
    }

    /// Starts it with a bridge `br0`, ports `p0` (number 1), `p1` (2), ... and the flows.
    pub fn start(&mut self, setup: &Setup) -> Result<()> {
        self.private = setup.private;
        self.namespace.clone_from(&setup.namespace);
        match self.kind {
            Peer::Weir => self.start_weir(),
            Peer::OvsDpdk => self.start_ovs_dpdk(setup.tso),
            Peer::Ovs => self.start_ovs(),
            Peer::TestpmdForward => return self.start_testpmd(setup.tso),
            _ => bail!("{} has no vhost-user ports", self.kind.name()),
        }?;
        self.configure(setup)?;
        self.place();
        Ok(())
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command on one processor, its output in the log.
    fn command(&self, cpu: usize, program: &Path) -> Result<Command> {
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let mut c = Command::new("taskset");
        c.args(["-c", &cpu.to_string()])
            .arg(program)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if self.private {
            // SAFETY: unshare is a plain system call, fit to be made between fork and exec.
            unsafe {
                c.pre_exec(|| match libc::unshare(libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
        }
        if let Some(name) = &self.namespace {
            let file = std::fs::File::open(format!("/var/run/netns/{name}"))
                .with_context(|| format!("network namespace {name}"))?;
            // SAFETY: setns is a plain system call, fit to be made between fork and exec; the closure keeps the descriptor.
            unsafe {
                c.pre_exec(
                    move || match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
                        0 => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    },
                );
            }
        }
        Ok(c)
    }

    fn start_weir(&mut self) -> Result<()> {
        let mut c = self.command(TRAFFIC_CPU, &weir_binary()?)?;
        c.args(["up", "--no-controller", "--forwarding-threads", "1"])
            .arg("--run-dir")
            .arg(self.directory.path())
            .arg("--db")
            .arg(self.path("conf.db"));
        self.processes.push(Process::start(&mut c)?);
        let pid = self.path("ovs-vswitchd.pid");
        wait_for("weir", Duration::from_secs(10), || pid.exists())
    }

    /// Open vSwitch's database server; where it listens.
    fn start_database(&mut self) -> Result<PathBuf> {
        let db = self.path("conf.db");
        let db = db.to_str().expect("utf-8");
        run(
            "ovsdb-tool",
            &["create", db, "/usr/share/openvswitch/vswitch.ovsschema"],
            &[],
        )?;
        let sock = self.path("db.sock");
        let mut c = self.command(TRAFFIC_CPU, Path::new("ovsdb-server"))?;
        c.arg(format!("--remote=punix:{}", sock.display())).arg(db);
        self.set_dirs(&mut c);
        self.processes.push(Process::start(&mut c)?);
        wait_for("ovsdb-server", Duration::from_secs(10), || sock.exists())?;
        Ok(sock)
    }

    fn start_ovs(&mut self) -> Result<()> {
        let sock = self.start_database()?;
        // AF_XDP ports have a thread of their own; for others none forwards, and all of it gets the switch's processor.
        let mask = format!("other_config:pmd-cpu-mask={:#x}", 1 << SWITCH_CPU);
        self.vsctl(&["--no-wait", "init", "--", "set", "Open_vSwitch", ".", &mask])?;
        self.start_vswitchd(SWITCH_CPU, OVS, &sock)
    }

    fn start_ovs_dpdk(&mut self, tso: bool) -> Result<()> {
        let huge = huge_pages()?;
        let sock = self.start_database()?;
        let other = format!(
            "other_config:pmd-cpu-mask={:#x} other_config:dpdk-lcore-mask={:#x} other_config:dpdk-hugepage-dir={}",
            1 << SWITCH_CPU,
            1 << TRAFFIC_CPU,
            huge.display()
        );
        let extra = format!(
            "other_config:dpdk-extra=--file-prefix=wb{}-{} --no-pci --in-memory",
            std::process::id(),
            self.directory
                .path()
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default()
        );
        let mut words = vec![
            "--no-wait",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
            "other_config:dpdk-socket-mem=512",
        ];
        words.extend(other.split(' '));
        words.push(&extra);
        if tso {
            words.push("other_config:userspace-tso-enable=true");
        }
        self.vsctl(&words)?;
        self.start_vswitchd(TRAFFIC_CPU, OVS_DPDK, &sock)
    }

    fn start_vswitchd(&mut self, cpu: usize, program: &str, sock: &Path) -> Result<()> {
        let pid = self.path("ovs-vswitchd.pid");
        let mut c = self.command(cpu, Path::new(program))?;
        c.arg(format!("unix:{}", sock.display()))
            .arg(format!("--pidfile={}", pid.display()))
            .arg(format!("--unixctl={}", self.path("ctl").display()));
        self.set_dirs(&mut c);
        self.processes.push(Process::start(&mut c)?);
        wait_for("ovs-vswitchd", Duration::from_secs(60), || pid.exists())
    }

    fn start_testpmd(&mut self, tso: bool) -> Result<()> {
        let mut c = Command::new("dpdk-testpmd");
        let out = std::fs::File::create(self.path("log"))?;
        c.args([
            "--lcores",
            &format!("0@{TRAFFIC_CPU},1@{SWITCH_CPU}"),
            "--in-memory",
            "--no-pci",
            "--socket-mem",
            "256",
            "--huge-dir",
        ])
        .arg(huge_pages()?);
        for (n, s) in self.sockets.iter().enumerate() {
            c.arg("--vdev").arg(format!(
                "net_vhost{n},iface={},queues=1,client=1{}",
                s.display(),
                if tso { ",tso=1" } else { "" }
            ));
        }
        c.args([
            "--",
            "--forward-mode=io",
            "--auto-start",
            "--nb-cores=1",
            "--txd=1024",
            "--rxd=1024",
            "-i",
        ]);
        // Its standard input stays open for as long as we have the child.
        c.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        self.processes.push(Process::start(&mut c)?);
        let log = self.path("log");
        wait_for("testpmd", Duration::from_secs(30), || {
            std::fs::read_to_string(&log).is_ok_and(|l| l.contains("testpmd>"))
        })
    }

    fn set_dirs(&self, c: &mut Command) {
        for v in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            c.env(v, self.directory.path());
        }
    }

    /// Types an `ovs-vsctl` command.
    ///
    /// # Errors
    /// When it fails.
    pub fn vsctl(&self, args: &[&str]) -> Result<String> {
        run(
            "ovs-vsctl",
            &[&["--timeout=60"], args].concat(),
            &[("OVS_RUNDIR", self.directory.path())],
        )
    }

    fn configure(&self, setup: &Setup) -> Result<()> {
        self.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=netdev",
        ])?;
        let vhost = |s: &Path| {
            vec![
                "type=dpdkvhostuserclient".to_owned(),
                format!("options:vhost-server-path={}", s.display()),
            ]
        };
        // Over a tunnel the second port is the underlay's.
        let own = match setup.tunnel {
            Some(_) => &self.sockets[..1],
            None => &self.sockets[..],
        };
        let mut ports: Vec<(String, Vec<String>)> = own
            .iter()
            .enumerate()
            .map(|(i, s)| (format!("p{i}"), vhost(s)))
            .collect();
        ports.extend(setup.extra.iter().enumerate().map(|(i, e)| match e {
            Extra::Vhost(s) => (format!("v{i}"), vhost(s)),
            Extra::Tap => (format!("t{i}"), vec!["type=tap".into()]),
            Extra::Internal => (format!("i{i}"), vec!["type=internal".into()]),
            Extra::System(name) => (name.clone(), vec!["type=system".into()]),
            Extra::AfXdp(name) => (name.clone(), vec!["type=afxdp".into()]),
        }));
        // One by one, so that numbers are as asked for even where nobody asks.
        for (i, (name, settings)) in ports.iter().enumerate() {
            let number = format!("ofport_request={}", i + 1);
            let mut words = vec!["add-port", "br0", name, "--", "set", "interface", name];
            words.extend(settings.iter().map(String::as_str));
            words.push(&number);
            self.vsctl(&words)?;
        }
        let env = [("OVS_RUNDIR", self.directory.path())];
        let ofctl = |args: &[&str]| {
            run(
                "ovs-ofctl",
                &[&["--timeout=300", "-O", "OpenFlow13"], args].concat(),
                &env,
            )
        };
        ofctl(&["del-flows", "br0"])?;
        let file = self.path("flows");
        std::fs::write(&file, setup.rules.join("\n") + "\n")?;
        ofctl(&["add-flows", "br0", file.to_str().expect("utf-8")])?;
        match &setup.tunnel {
            Some(t) => self.configure_tunnel(t, &self.sockets[1]),
            None => Ok(()),
        }
    }

    /// Makes the underlay bridge with its port, and the tunnel over it.
    fn configure_tunnel(&self, t: &Tunnel, socket: &Path) -> Result<()> {
        let mac = |m: [u8; 6]| m.map(|b| format!("{b:02x}")).join(":");
        let ip = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_string();
        let own = format!("other_config:hwaddr={}", mac(t.own.0));
        let path = format!("options:vhost-server-path={}", socket.display());
        let bridge = ["add-br", "phy", "--", "set", "bridge", "phy"];
        self.vsctl(&[&bridge[..], &["datapath_type=netdev", &own]].concat())?;
        let port = ["add-port", "phy", "p1", "--", "set", "interface", "p1"];
        let wanted = ["type=dpdkvhostuserclient", &path, "ofport_request=1"];
        self.vsctl(&[&port[..], &wanted].concat())?;
        // The interface is in the switch's network namespace.
        let pid = self.pid().to_string();
        let inside = ["-t", &pid, "-n", "ip"];
        let address = format!("{}/24", ip(t.own.1));
        // The host would tell of itself by IPv6 on the underlay, where only tunnels are counted.
        let quiet = ["-t", &pid, "-n", "sysctl", "-qw"];
        run(
            "nsenter",
            &[&quiet[..], &["net.ipv6.conf.phy.disable_ipv6=1"]].concat(),
            &[],
        )?;
        run(
            "nsenter",
            &[&inside[..], &["link", "set", "phy", "up"]].concat(),
            &[],
        )?;
        let add = ["addr", "add", &address, "dev", "phy"];
        run("nsenter", &[&inside[..], &add].concat(), &[])?;
        let number = format!("ofport_request={TUNNEL_PORT}");
        let kind = format!("type={}", t.kind);
        let (remote, key) = (
            format!("options:remote_ip={}", ip(t.other.1)),
            format!("options:key={}", t.key),
        );
        let tunnel = ["add-port", "br0", "tun", "--", "set", "interface", "tun"];
        self.vsctl(&[&tunnel[..], &[&kind, &remote, &key, &number]].concat())?;
        let env = [("OVS_RUNDIR", self.directory.path())];
        for flow in ["in_port=1,actions=LOCAL", "in_port=LOCAL,actions=1"] {
            run(
                "ovs-ofctl",
                &["--timeout=60", "add-flow", "phy", flow],
                &env,
            )?;
        }
        let other = ip(t.other.1);
        wait_for("a route", Duration::from_secs(10), || {
            self.appctl(&format!("ovs/route/lookup {other}"))
                .is_ok_and(|r| r.contains("phy"))
        })?;
        self.appctl(&format!("tnl/neigh/set phy {other} {}", mac(t.other.0)))?;
        Ok(())
    }

    /// Puts the forwarding thread on its processor and all others on the other one: peers do so by themselves.
    pub fn place(&self) {
        if self.kind != Peer::Weir {
            return;
        }
        let pid = self.pid();
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        for tid in tasks.filter_map(|t| t.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
            let name =
                std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
            let forwards = name.starts_with("forward") || name.starts_with("pmd");
            machine::place(tid, if forwards { SWITCH_CPU } else { TRAFFIC_CPU });
        }
    }

    /// The process with the forwarding thread.
    pub fn pid(&self) -> u32 {
        self.processes.last().expect("started").id()
    }

    /// Time on a processor of every thread of every process of it.
    pub fn times(&self) -> Vec<machine::Used> {
        self.processes
            .iter()
            .flat_map(|p| machine::thread_times(p.id()))
            .collect()
    }

    /// Bytes of memory in use by it.
    pub fn memory(&self) -> Result<f64> {
        resident(self.pid())
    }

    /// Where its bridge speaks OpenFlow.
    pub fn openflow(&self) -> PathBuf {
        self.path("br0.mgmt")
    }

    /// Stops it where it is.
    pub fn pause(&mut self) {
        if !self.stopped {
            self.processes
                .last()
                .expect("started")
                .signal(libc::SIGSTOP);
            self.stopped = true;
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended meanwhile.
    pub fn resume(&mut self) -> Result<()> {
        let last = self.processes.last_mut().expect("started");
        if let Some(status) = last.ended() {
            bail!("{} has ended ({status}): {}", self.kind.name(), self.tail());
        }
        self.processes
            .last()
            .expect("started")
            .signal(libc::SIGCONT);
        self.stopped = false;
        self.place();
        Ok(())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    /// Forget the cycles counted so far.
    pub fn clear_cycles(&self) -> Result<()> {
        if self.kind != Peer::TestpmdForward {
            self.appctl("dpif-netdev/pmd-stats-clear")?;
        }
        Ok(())
    }

    /// Cycles per packet of the forwarding thread since then, where the switch tells.
    pub fn cycles_per_packet(&self) -> Result<Option<f64>> {
        if self.kind == Peer::TestpmdForward {
            return Ok(None);
        }
        let text = self.appctl("dpif-netdev/pmd-stats-show")?;
        Ok(text.lines().find_map(|l| {
            l.trim()
                .strip_prefix("avg processing cycles per packet: ")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        }))
    }

    fn appctl(&self, command: &str) -> Result<String> {
        let ctl = self.path("ctl");
        let target = match self.kind {
            Peer::OvsDpdk | Peer::Ovs => ctl.to_str().expect("utf-8"),
            _ => "ovs-vswitchd",
        };
        let mut words = vec!["--timeout=30", "-t", target];
        words.extend(command.split_whitespace());
        run(
            "ovs-appctl",
            &words,
            &[("OVS_RUNDIR", self.directory.path())],
        )
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        while let Some(p) = self.processes.pop() {
            drop(p);
        }
        if std::thread::panicking() || std::env::var_os("BENCH_LOGS").is_some() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.path("log")).unwrap_or_default()
            );
        }
        cleanup::forget(self.directory.path());
    }
}

/// Unmounts what [`huge_pages`] mounted.
pub fn release_huge_pages() {
    let path = std::env::temp_dir().join(format!("weir-bench-huge-{}", std::process::id()));
    if path.exists() {
        let _ = Command::new("umount").arg(&path).status();
        let _ = std::fs::remove_dir(&path);
        cleanup::forget(&path);
    }
}
