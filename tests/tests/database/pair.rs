//! A set of tools and a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tests::process::{Daemon, Ran, output, run};
use tests::switch::weir_binary;
use tests::tools::Tools;
use tests::wait;

/// How long one line may run, in seconds.
pub const LINE_LIMIT: u32 = 20;

/// The schema of the database that every corpus starts with.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Whose tools type, and whose server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who types.
    pub tools: Tools,
    /// Who answers.
    pub server: Tools,
}

impl Pair {
    /// All four, the reference first.
    pub const ALL: [Pair; 4] = [
        Pair::new(Tools::Stock, Tools::Stock),
        Pair::new(Tools::Stock, Tools::Weir),
        Pair::new(Tools::Weir, Tools::Stock),
        Pair::new(Tools::Weir, Tools::Weir),
    ];

    const fn new(tools: Tools, server: Tools) -> Pair {
        Pair { tools, server }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} tools, {:?} server", self.tools, self.server)
    }
}

/// A pair at work in a directory of its own.
pub struct Running {
    // Ended before the directory goes.
    _server: Daemon,
    pair: Pair,
    directory: TempDir,
}

impl Running {
    /// Starts the server with an empty database.
    pub fn start(pair: Pair) -> Running {
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
        let db = dir.join("conf.db");
        run("ovsdb-tool", [Path::new("create"), &db, Path::new(SCHEMA)]).ok();
        let sock = dir.join("db.sock");
        let mut c = pair.server.command("ovsdb-server", dir, None);
        c.current_dir(dir)
            .arg("--remote=punix:db.sock")
            .arg("--unixctl=ctl")
            .arg("conf.db");
        let server = Daemon::spawn(c, &dir.join("server.log"));
        wait::until("the server to listen", || {
            std::os::unix::net::UnixStream::connect(&sock).is_ok()
        });
        Running {
            _server: server,
            pair,
            directory,
        }
    }

    /// Where it works.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Runs one line of shell; `corpora` is what `$CORPUS` is to be.
    pub fn line(&self, line: &str, corpora: &Path) -> Ran {
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
            .env("CORPUS", corpora);
        for v in [
            "HOME",
            "OVS_RUNDIR",
            "OVS_DBDIR",
            "OVS_LOGDIR",
            "OVS_SYSCONFDIR",
        ] {
            c.env(v, dir);
        }
        output(c)
    }

    /// What the stock client says to `words` about the server.
    pub fn client(&self, words: &[&str]) -> String {
        let mut c = Tools::Stock.command("ovsdb-client", self.dir(), None);
        c.args(words);
        output(c).ok()
    }
}
