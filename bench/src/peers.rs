//! The switches: weir and its peers, each started in a private directory with two vhost-user ports.

use crate::machine::{SWITCH_CPU, TRAFFIC_CPU};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
    TestpmdForward,
    /// Nobody.
    None,
}

impl Peer {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Weir => "weir",
            Peer::OvsDpdk => "ovs-dpdk",
            Peer::TestpmdForward => "testpmd",
            Peer::None => "none",
        }
    }
}

/// A started switch. Its two ports connect, as vhost-user clients, to `sockets`.
pub struct Switch {
    kind: Peer,
    processes: Vec<Child>,
    directory: TempDir,
    /// Where the traffic's side listens.
    pub sockets: [PathBuf; 2],
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
        run(
            "mount",
            &["-t", "hugetlbfs", "none", path.to_str().expect("utf-8")],
            &[],
        )?;
    }
    Ok(path)
}

fn run(program: &str, args: &[&str], env: &[(&str, &Path)]) -> Result<String> {
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

fn wait_for(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() > end {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A command pinned to one processor.
fn pinned(cpu: usize, program: &Path, log: &Path) -> Result<Command> {
    let out = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    let mut c = Command::new("taskset");
    c.args(["-c", &cpu.to_string()])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    Ok(c)
}

/// The weir binary beside this one, from the same profile.
fn weir_binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("weir");
    ensure!(
        path.exists(),
        "{} is not built: cargo build --release -p weir",
        path.display()
    );
    Ok(path)
}

impl Switch {
    /// Starts a switch with a bridge `br0`, ports `p0` (1) and `p1` (2) and the given flows.
    pub fn start(kind: Peer, flows: &[&str]) -> Result<Switch> {
        let directory = tempfile::Builder::new().prefix("wb").tempdir()?;
        let sockets = [
            directory.path().join("p0.sock"),
            directory.path().join("p1.sock"),
        ];
        let mut s = Switch {
            kind,
            processes: vec![],
            directory,
            sockets,
        };
        match kind {
            Peer::Weir => s.start_weir()?,
            Peer::OvsDpdk => s.start_ovs_dpdk()?,
            Peer::TestpmdForward => s.start_testpmd()?,
            Peer::None => bail!("no switch"),
        }
        if kind != Peer::TestpmdForward {
            s.configure(flows)?;
        }
        Ok(s)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start_weir(&mut self) -> Result<()> {
        let mut c = pinned(SWITCH_CPU, &weir_binary()?, &self.path("log"))?;
        c.args([
            "up",
            "--no-controller",
            "--forwarding-threads",
            "1",
            "--run-dir",
        ])
        .arg(self.directory.path())
        .arg("--db")
        .arg(self.path("conf.db"));
        self.processes.push(c.spawn()?);
        let pid = self.path("ovs-vswitchd.pid");
        wait_for("weir", Duration::from_secs(10), || pid.exists())
    }

    fn start_ovs_dpdk(&mut self) -> Result<()> {
        let huge = huge_pages()?;
        let db = self.path("conf.db");
        let db = db.to_str().expect("utf-8");
        run(
            "ovsdb-tool",
            &["create", db, "/usr/share/openvswitch/vswitch.ovsschema"],
            &[],
        )?;
        let sock = self.path("db.sock");
        let mut c = pinned(TRAFFIC_CPU, Path::new("ovsdb-server"), &self.path("log"))?;
        c.arg(format!("--remote=punix:{}", sock.display())).arg(db);
        self.set_dirs(&mut c);
        self.processes.push(c.spawn()?);
        wait_for("ovsdb-server", Duration::from_secs(10), || sock.exists())?;
        let other = format!(
            "other_config:pmd-cpu-mask={:#x} other_config:dpdk-lcore-mask={:#x} other_config:dpdk-hugepage-dir={}",
            1 << SWITCH_CPU,
            1 << TRAFFIC_CPU,
            huge.display()
        );
        let extra = format!(
            "other_config:dpdk-extra=--file-prefix=wb{} --no-pci",
            std::process::id()
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
        self.vsctl(&words)?;
        let pid = self.path("ovs-vswitchd.pid");
        let mut c = Command::new("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk");
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        c.arg(format!("unix:{}", sock.display()))
            .arg(format!("--pidfile={}", pid.display()))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        self.set_dirs(&mut c);
        self.processes.push(c.spawn()?);
        wait_for("ovs-vswitchd", Duration::from_secs(30), || pid.exists())
    }

    fn start_testpmd(&mut self) -> Result<()> {
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
        for s in &self.sockets {
            let n = if *s == self.sockets[0] { 0 } else { 1 };
            c.arg("--vdev").arg(format!(
                "net_vhost{n},iface={},queues=1,client=1",
                s.display()
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
        self.processes.push(
            c.stdin(Stdio::piped())
                .stdout(out.try_clone()?)
                .stderr(out)
                .spawn()?,
        );
        let log = self.path("log");
        wait_for("testpmd", Duration::from_secs(20), || {
            std::fs::read_to_string(&log).is_ok_and(|l| l.contains("testpmd>"))
        })
    }

    fn set_dirs(&self, c: &mut Command) {
        for v in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            c.env(v, self.directory.path());
        }
    }

    fn vsctl(&self, args: &[&str]) -> Result<String> {
        run(
            "ovs-vsctl",
            &[&["--timeout=20"], args].concat(),
            &[("OVS_RUNDIR", self.directory.path())],
        )
    }

    fn configure(&self, flows: &[&str]) -> Result<()> {
        self.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=netdev",
        ])?;
        for (i, s) in self.sockets.iter().enumerate() {
            let path = format!("options:vhost-server-path={}", s.display());
            let port = format!("p{i}");
            self.vsctl(&[
                "add-port",
                "br0",
                &port,
                "--",
                "set",
                "interface",
                &port,
                "type=dpdkvhostuserclient",
                &path,
                &format!("ofport_request={}", i + 1),
            ])?;
        }
        run(
            "ovs-ofctl",
            &["-O", "OpenFlow13", "del-flows", "br0"],
            &[("OVS_RUNDIR", self.directory.path())],
        )?;
        for f in flows {
            run(
                "ovs-ofctl",
                &["-O", "OpenFlow13", "add-flow", "br0", f],
                &[("OVS_RUNDIR", self.directory.path())],
            )?;
        }
        Ok(())
    }

    /// The process with the forwarding thread.
    pub fn pid(&self) -> u32 {
        self.processes.last().expect("started").id()
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
            Peer::OvsDpdk => ctl.to_str().expect("utf-8"),
            _ => "ovs-vswitchd",
        };
        run(
            "ovs-appctl",
            &["-t", target, command],
            &[("OVS_RUNDIR", self.directory.path())],
        )
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for p in self.processes.iter_mut().rev() {
            let _ = p.kill();
            let _ = p.wait();
        }
        if std::thread::panicking() || std::env::var_os("BENCH_LOGS").is_some() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.path("log")).unwrap_or_default()
            );
        }
    }
}

/// Unmounts what [`huge_pages`] mounted.
pub fn release_huge_pages() {
    let path = std::env::temp_dir().join(format!("weir-bench-huge-{}", std::process::id()));
    if path.exists() {
        let _ = Command::new("umount").arg(&path).status();
        let _ = std::fs::remove_dir(&path);
    }
}
