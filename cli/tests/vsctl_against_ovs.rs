//! The same command lines through Open vSwitch's `ovs-vsctl` and ours, each on a real
//! `ovsdb-server` of its own: output, errors and exit codes must be the same.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A real ovsdb-server with an empty Open_vSwitch database.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

fn start(dir: &Path, name: &str) -> Option<Server> {
    let db = dir.join(format!("{name}.db"));
    let created = Command::new("ovsdb-tool")
        .arg("create")
        .arg(&db)
        .arg(SCHEMA)
        .status()
        .ok()?;
    assert!(created.success());
    let socket = dir.join(format!("{name}.sock"));
    let child = Command::new("ovsdb-server")
        .arg(&db)
        .arg(format!("--remote=punix:{}", socket.display()))
        .arg("--unixctl=none")
        .env("OVS_RUNDIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let server = Server { child, socket };
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&server.socket).is_err() {
        assert!(Instant::now() < deadline, "ovsdb-server does not listen");
        std::thread::yield_now();
    }
    Some(server)
}

/// Splits a line into words; single quotes protect.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What differs from run to run made the same: UUIDs and times.
fn normalize(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut rest = text.as_ref();
    let shape = |s: &str, pattern: &str| {
        s.len() >= pattern.len()
            && s.bytes().zip(pattern.bytes()).all(|(c, p)| match p {
                b'x' => c.is_ascii_hexdigit(),
                b'9' => c.is_ascii_digit(),
                p => c == p,
            })
    };
    while let Some(c) = rest.chars().next() {
        if shape(rest, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
            out.push_str("<uuid>");
            rest = &rest[36..];
        } else if shape(rest, "9999-99-99T99:99:99Z") {
            out.push_str("<time>");
            rest = &rest[20..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[test]
fn same_words_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(theirs), Some(ours)) = (start(dir.path(), "theirs"), start(dir.path(), "ours"))
    else {
        eprintln!(
            "SKIPPED: vsctl_against_ovs needs ovsdb-server, ovsdb-tool and ovs-vsctl of Open vSwitch"
        );
        return;
    };
    let cases = include_str!("vsctl_cases.txt");
    let mut differences = Vec::new();
    let mut count = 0;
    for line in cases.lines().filter(|l| !l.starts_with('#')) {
        let (any_order, line) = match line.strip_prefix("~ ") {
            Some(l) => (true, l),
            None => (false, line),
        };
        let run = |command: &mut Command, server: &Server| {
            let out = command
                .arg(format!("--db=unix:{}", server.socket.display()))
                .arg("--no-wait")
                .args(words(line))
                .env_remove("OVS_CTL_TIMEOUT")
                .output()
                .expect("the tool runs");
            let mut stdout = normalize(&out.stdout);
            if any_order {
                let mut lines: Vec<&str> = stdout.lines().collect();
                lines.sort();
                stdout = lines.join("\n");
            }
            (stdout, normalize(&out.stderr), out.status.to_string())
        };
        let theirs = run(&mut Command::new("ovs-vsctl"), &theirs);
        let ours = run(Command::new(env!("CARGO_BIN_EXE_weir")).arg("vsctl"), &ours);
        count += 1;
        if theirs != ours {
            differences.push(format!(
                "ovs-vsctl {line}\n  theirs: {theirs:?}\n  ours:   {ours:?}"
            ));
        }
    }
    assert!(count > 200, "only {count} cases");
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn starts_quickly() {
    let start = Instant::now();
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["vsctl", "--version"])
        .output()
        .unwrap();
    assert!(out.status.success());
    // A tenth of a second is what repeating a command every second bears; a busy machine gets more.
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}
