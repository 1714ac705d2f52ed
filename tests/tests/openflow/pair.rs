//! A tool and a switch.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tests::pairs::Pair;
use tests::process::{Daemon, Ran, output, run};
use tests::switch::weir_binary;
use tests::tools::Tools;
use tests::wait;

/// How long one line may run, in seconds.
pub const LINE_LIMIT: u32 = 120;

/// Open vSwitch's switch, where Debian puts it.
const VSWITCHD: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";

/// The schema of its database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Flows in all spellings, a line each.
const FLOWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openflow/tests/flows.txt");

/// Names for what a corpus says often.
const SHELL: &str = r##"
await() { until grep -q -e "$1" "$2" 2>/dev/null; do sleep 0.02; done; }
o() { ovs-ofctl "$@"; }
v10() { ovs-ofctl -O OpenFlow10 "$@"; }
v11() { ovs-ofctl -O OpenFlow11 "$@"; }
v12() { ovs-ofctl -O OpenFlow12 "$@"; }
v13() { ovs-ofctl -O OpenFlow13 "$@"; }
v14() { ovs-ofctl -O OpenFlow14 "$@"; }
v15() { ovs-ofctl -O OpenFlow15 "$@"; }
each() { sed -n "$2p" "$FLOWS" | grep -v '^#' | { n=0; while read -r f; do n=$((n+1)); [ -z "$f" ] || { echo "# $f"; $1 add-flow br0 "priority=$n,$f" 2>&1; }; done; }; $1 dump-flows --no-stats br0 2>&1 | sort; $1 del-flows br0 2>&1; }
all() { for v in 10 11 12 13 14 15; do echo "1.${v#1}"; ovs-ofctl -O OpenFlow$v "$@" 2>&1; done; }
"##;

/// A pair at work in a directory of its own.
pub struct Running {
    // Ended before the directory goes, the switch first.
    _daemons: Vec<Daemon>,
    directory: TempDir,
}

/// A command with everything in `dir`.
fn prepared(program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
    let mut c = Command::new(program);
    for v in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        c.env(v, dir);
    }
    c.current_dir(dir);
    c
}

fn open_vswitch(dir: &Path) -> Vec<Daemon> {
    run(
        "ovsdb-tool",
        [Path::new("create"), &dir.join("conf.db"), Path::new(SCHEMA)],
    )
    .ok();
    let mut c = prepared("ovsdb-server", dir);
    c.args(["--remote=punix:db.sock", "--unixctl=db.ctl", "conf.db"]);
    let database = Daemon::spawn(c, &dir.join("server.log"));
    wait::until("ovsdb-server", || dir.join("db.sock").exists());
    let mut c = prepared(VSWITCHD, dir);
    c.arg(format!("unix:{}", dir.join("db.sock").display()));
    c.args(["--enable-dummy=override", "--pidfile"]);
    vec![Daemon::spawn(c, &dir.join("switch.log")), database]
}

fn weir(dir: &Path) -> Vec<Daemon> {
    let mut c = prepared(weir_binary(), dir);
    c.args(["up", "--no-controller", "--enable-dummy", "--run-dir"]);
    c.arg(dir).arg("--db").arg(dir.join("conf.db"));
    vec![Daemon::spawn(c, &dir.join("switch.log"))]
}

impl Running {
    /// Starts the switch and makes its bridge.
    pub fn start(pair: Pair) -> Running {
        // Unix sockets want short paths.
        let directory = tempfile::Builder::new()
            .prefix("f")
            .tempdir()
            .expect("temporary directory");
        let dir = directory.path();
        let (bin, links) = (dir.join("bin"), dir.join("links"));
        for made in [&bin, &links] {
            std::fs::create_dir(made).expect("directory for links");
        }
        if pair.tools == Tools::Weir {
            run(weir_binary(), [Path::new("links"), &links]).ok();
            let (from, to) = (links.join("ovs-ofctl"), bin.join("ovs-ofctl"));
            std::fs::rename(from, to).expect("a link for ovs-ofctl");
        }
        let daemons = match pair.server {
            Tools::Stock => open_vswitch(dir),
            Tools::Weir => weir(dir),
        };
        let listens = |name: &str| std::os::unix::net::UnixStream::connect(dir.join(name)).is_ok();
        wait::until("the database", || listens("db.sock"));
        let mut words = "--timeout=20 -- add-br br0 -- set bridge br0 datapath_type=dummy \
            other_config:datapath-id=0000000000000123 other_config:hwaddr=02:00:00:00:00:01"
            .to_owned();
        for n in 1..=3 {
            words += &format!(
                " -- add-port br0 p{n} -- set interface p{n} type=dummy ofport_request={n}"
            );
        }
        let mut c = prepared("ovs-vsctl", dir);
        c.args(words.split_whitespace());
        output(c).ok();
        wait::until("the bridge", || listens("br0.mgmt"));
        Running {
            _daemons: daemons,
            directory,
        }
    }

    /// Where it works.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Runs one line of shell.
    pub fn line(&self, line: &str) -> Ran {
        let dir = self.dir();
        let mut path = vec![dir.join("bin")];
        path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        let mut c = prepared("timeout", dir);
        c.args(["-k", "1", &LINE_LIMIT.to_string(), "sh", "-c"])
            .arg(format!("{SHELL}{line}"))
            .env("PATH", std::env::join_paths(path).expect("plain paths"))
            .envs([("LC_ALL", "C"), ("TZ", "UTC"), ("FLOWS", FLOWS)]);
        // Files, not pipes: a monitor that the line leaves behind would hold a pipe open.
        let [out, err] = ["line.out", "line.err"].map(|n| dir.join("bin").join(n));
        let file = |path: &Path| File::create(path).expect("a file for output");
        c.stdout(file(&out)).stderr(file(&err)).stdin(Stdio::null());
        let status = c.status().expect("timeout(1)");
        let text = |path: &Path| {
            let bytes = std::fs::read(path).expect("what was printed");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ran {
            code: status.code().unwrap_or(-1),
            stdout: text(&out),
            stderr: text(&err),
        }
    }

    /// What is in the switch, by the stock tool.
    pub fn contents(&self) -> String {
        let stock = |words: &str| {
            let mut c = prepared("ovs-ofctl", self.dir());
            c.args(["-O", "OpenFlow15"]).args(words.split_whitespace());
            let ran = output(c);
            format!("{}{}", ran.stdout, ran.stderr)
        };
        [
            "dump-flows --no-stats br0",
            "dump-groups br0",
            "dump-meters br0",
        ]
        .map(stock)
        .concat()
    }
}

impl Drop for Running {
    /// Ends what a line left behind: it told its process id in a file, and still works here.
    fn drop(&mut self) {
        let entries = std::fs::read_dir(self.dir())
            .into_iter()
            .flatten()
            .flatten();
        for path in entries
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "pid"))
        {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            let works_in = std::fs::read_link(format!("/proc/{}/cwd", pid.trim()));
            if works_in.is_ok_and(|d| d == self.dir()) {
                run("kill", [pid.trim()]);
            }
        }
    }
}
