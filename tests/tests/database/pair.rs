//! A set of tools and a server.

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
pub const LINE_LIMIT: u32 = 20;

/// The schema of the database that every corpus starts with.
pub const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A pair at work in a directory of its own.
pub struct Running {
    // Ended before the directory goes.
    _server: Daemon,
    pair: Pair,
    corpora: PathBuf,
    directory: TempDir,
}

impl Running {
    /// Starts the server with empty databases; `corpora` is where their schemas are, and what `$CORPUS` is to be.
    pub fn start(pair: Pair, corpora: &Path) -> Running {
        // Unix sockets want short paths; all of the same length, because tables are aligned.
        let directory = tempfile::Builder::new()
            .prefix("w")
            .tempdir()
            .expect("temporary directory");
        let dir = directory.path();
        let bin = dir.join("bin");
        std::fs::create_dir(&bin).expect("directory for links");
        if pair.tools == Tools::Weir {
            run(weir_binary(), [Path::new("links"), &bin]).ok();
        }
        let types = corpora.join("types.ovsschema");
        for (db, schema) in [("conf.db", Path::new(SCHEMA)), ("types.db", &types)] {
            run("ovsdb-tool", [Path::new("create"), &dir.join(db), schema]).ok();
        }
        let sock = dir.join("db.sock");
        let mut c = pair.server.command("ovsdb-server", dir, None);
        c.current_dir(dir)
            .arg("--remote=punix:db.sock")
            .arg("--unixctl=ctl")
            .args(["conf.db", "types.db"]);
        let server = Daemon::spawn(c, &dir.join("server.log"));
        wait::until("the server to listen", || {
            std::os::unix::net::UnixStream::connect(&sock).is_ok()
        });
        Running {
            _server: server,
            pair,
            corpora: corpora.to_owned(),
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
        let mut path: Vec<PathBuf> = vec![];
        if self.pair.tools == Tools::Weir {
            path.push(dir.join("bin"));
        }
        path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        let mut c = Command::new("timeout");
        c.args(["-k", "1", &LINE_LIMIT.to_string(), "sh", "-c"])
            .arg(format!(
                "await() {{ until grep -q -e \"$1\" \"$2\"; do sleep 0.02; done; }}\n{line}"
            ))
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::join_paths(path).expect("plain paths"))
            .envs([("LC_ALL", "C"), ("TZ", "UTC"), ("SCHEMA", SCHEMA)])
            .env("CORPUS", &self.corpora);
        // Files, not pipes: a daemon that the line leaves behind would hold a pipe open.
        let [out, err] = ["line.out", "line.err"].map(|n| dir.join("bin").join(n));
        let file = |path: &Path| File::create(path).expect("a file for output");
        c.stdout(file(&out)).stderr(file(&err)).stdin(Stdio::null());
        for v in [
            "HOME",
            "OVS_RUNDIR",
            "OVS_DBDIR",
            "OVS_LOGDIR",
            "OVS_SYSCONFDIR",
        ] {
            c.env(v, dir);
        }
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

    /// What the stock client says to `words` about the server.
    pub fn client(&self, words: &[&str]) -> String {
        let mut c = Tools::Stock.command("ovsdb-client", self.dir(), None);
        c.args(words);
        output(c).ok()
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
