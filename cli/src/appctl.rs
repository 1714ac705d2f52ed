//! `weir appctl` and `weir dpctl`, also called `ovs-appctl` and `ovs-dpctl`: commands to a running
//! daemon over its control socket, which speaks JSON-RPC: one request, one reply.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exit::{self, words};
use crate::getopt::{self, Spec, Takes};
use crate::paths;

/// Most bytes that a reply may have.
const MAX_REPLY: usize = 256 << 20;

const OPTIONS: &[Spec] = &[
    ("target", Some('t'), Takes::Value),
    ("timeout", Some('T'), Takes::Value),
    ("help", Some('h'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
    ("option", Some('o'), Takes::Nothing),
    ("verbose", Some('v'), Takes::Maybe),
    ("log-file", None, Takes::Maybe),
];

const HELP: &str = "\
ovs-appctl: sends a command to a running daemon and prints its answer
usage: ovs-appctl [-t TARGET] [-T SECS] COMMAND [ARG...]

  -t, --target=TARGET   control socket (a path) or name of the daemon, whose pid file is then
                        looked for in the run directory (default: ovs-vswitchd)
  -T, --timeout=SECS    give up after so many seconds
  -h, --help            this text
  -V, --version         the version

Every daemon has the commands list-commands, version, exit, vlog/list, vlog/set and vlog/reopen.
Exit codes: 0 done; 1 the daemon cannot be reached; 2 it refused the command; 142 out of time
(--timeout).

Example:
  ovs-appctl fdb/show br0
";

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The daemon was not reached, or answered nonsense.
    Unreachable(String),
    /// The daemon's own error message.
    Refused(String),
}

/// Runs `ovs-appctl` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let (options, words) = match getopt::parse(args, &[OPTIONS], true) {
        Ok(parsed) => parsed,
        Err(e) => return fail(&e),
    };
    let mut target = "ovs-vswitchd".to_string();
    let mut timeout = None;
    for (name, value) in options {
        let value = value.unwrap_or_default();
        match name {
            "target" => target = value,
            "timeout" => match exit::timeout('T', &value) {
                Ok(limit) => timeout = Some(limit),
                Err(e) => return fail(&e),
            },
            "help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            "version" => {
                println!("ovs-appctl (weir) {}", env!("CARGO_PKG_VERSION"));
                return ExitCode::SUCCESS;
            }
            "log-file" => return fail("--log-file is not supported: this tool does not log"),
            _ => {}
        }
    }
    let Some((command, args)) = words.split_first() else {
        return fail("at least one non-option argument is required (use --help for help)");
    };
    let socket = match find_socket(&target) {
        Ok(path) => path,
        Err(e) => return fail(&e),
    };
    match call(&socket, command, args, timeout) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(Failure::Unreachable(e)) => fail(&e),
        Err(Failure::Refused(text)) => {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            eprint!("{text}{end}");
            eprintln!("ovs-appctl: {}: server returned an error", socket.display());
            ExitCode::from(2)
        }
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("ovs-appctl: {message}");
    ExitCode::FAILURE
}

/// Writes an answer; who does not read it to the end need not.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The control socket of `target`: a path, or the name of a program with a pid file.
fn find_socket(target: &str) -> Result<PathBuf, String> {
    if target.starts_with('/') {
        return Ok(target.into());
    }
    find_socket_in(&paths::run_dir(None), target)
}

/// The control socket of the daemon of that name whose pid file is in `run_dir`.
pub fn find_socket_in(run_dir: &Path, target: &str) -> Result<PathBuf, String> {
    let pidfile = run_dir.join(format!("{target}.pid"));
    let bad = |why: &str| format!("cannot read pidfile \"{}\" ({why})", pidfile.display());
    let text = std::fs::read_to_string(&pidfile).map_err(|e| bad(&words(&e)))?;
    let pid: u32 = text
        .trim()
        .parse()
        .map_err(|_| bad("it holds no process id"))?;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(bad("No such process"));
    }
    Ok(run_dir.join(format!("{target}.{pid}.ctl")))
}

/// Sends one command and waits for the answer.
pub fn call(
    socket: &Path,
    command: &str,
    args: &[String],
    timeout: Option<Duration>,
) -> Result<String, Failure> {
    let deadline = timeout.map(|t| Instant::now() + t);
    let mut stream = UnixStream::connect(socket).map_err(|e| {
        Failure::Unreachable(format!(
            "cannot connect to \"{}\" ({})",
            socket.display(),
            words(&e)
        ))
    })?;
    let broken = |why: &str| {
        Failure::Unreachable(format!("{}: transaction error ({why})", socket.display()))
    };
    let request = json!({"method": command, "params": args, "id": 0}).to_string();
    stream
        .write_all(request.as_bytes())
        .map_err(|e| broken(&words(&e)))?;
    let mut reply = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                exit::out_of_time();
            }
            stream
                .set_read_timeout(Some(left))
                .map_err(|e| broken(&words(&e)))?;
        }
        let n = match stream.read(&mut buffer) {
            Ok(0) => return Err(broken("End of file")),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(broken(&words(&e))),
        };
        reply.extend_from_slice(&buffer[..n]);
        if reply.len() > MAX_REPLY {
            return Err(broken("the reply is too long"));
        }
        // The reply is one JSON object; it can only be whole where a brace was the last thing sent.
        if reply.trim_ascii_end().last() != Some(&b'}') {
            continue;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&reply) else {
            continue;
        };
        return match (value.get("error"), value.get("result")) {
            (Some(Value::String(error)), _) => Err(Failure::Refused(error.clone())),
            (_, Some(Value::String(result))) => Ok(result.clone()),
            _ => Err(broken(&format!("the daemon answered {value}"))),
        };
    }
}

const DPCTL_OPTIONS: &[Spec] = &[
    ("statistics", Some('s'), Takes::Nothing),
    ("more", Some('m'), Takes::Nothing),
    ("names", None, Takes::Nothing),
    ("no-names", None, Takes::Nothing),
    ("timeout", Some('t'), Takes::Value),
    ("help", Some('h'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
    ("verbose", Some('v'), Takes::Maybe),
];

/// The commands of `ovs-dpctl` that the switch has.
const DPCTL_COMMANDS: &[&str] = &["show", "dump-dps", "dump-flows"];

const DPCTL_HELP: &str = "\
ovs-dpctl: what the datapath of the running switch has
usage: ovs-dpctl [OPTIONS] COMMAND [ARG...]

  show [DP...]           datapaths and their ports
  dump-dps               names of the datapaths
  dump-flows [DP]        cached flows

  -s, --statistics       with show: counters of the ports
  -m, --more             with dump-flows: more of each flow
      --names            with dump-flows: ports by name
  -t, --timeout=SECS     give up after so many seconds
  -h, --help             this text
  -V, --version          the version

Exit codes: 0 done; 1 refused, or the switch cannot be reached; 142 out of time (--timeout).

Example:
  ovs-dpctl -s show
";

/// Runs `ovs-dpctl` with the arguments after its name: its commands are `dpctl/...` of the switch.
pub fn run_dpctl(args: Vec<OsString>) -> ExitCode {
    let fail = |message: &str| {
        eprintln!("ovs-dpctl: {message}");
        ExitCode::FAILURE
    };
    let (options, words) = match getopt::parse(args, &[DPCTL_OPTIONS], false) {
        Ok(parsed) => parsed,
        Err(e) => return fail(&e),
    };
    let mut timeout = None;
    let mut passed = Vec::new();
    for (name, value) in options {
        match name {
            "statistics" => passed.push("-s".to_string()),
            "more" => passed.push("-m".to_string()),
            "names" => passed.push("--names".to_string()),
            "timeout" => match exit::timeout('t', value.as_deref().unwrap_or("")) {
                Ok(limit) => timeout = Some(limit),
                Err(e) => return fail(&e),
            },
            "help" => {
                print!("{DPCTL_HELP}");
                return ExitCode::SUCCESS;
            }
            "version" => {
                println!("ovs-dpctl (weir) {}", env!("CARGO_PKG_VERSION"));
                return ExitCode::SUCCESS;
            }
            _ => {}
        }
    }
    let Some((command, rest)) = words.split_first() else {
        return fail("missing command name; use --help for help");
    };
    if !DPCTL_COMMANDS.contains(&command.as_str()) {
        return fail(&format!(
            "unknown command '{command}'; the commands are {}: others change the datapath behind the switch's back",
            DPCTL_COMMANDS.join(", ")
        ));
    }
    passed.extend(rest.iter().cloned());
    let socket = match find_socket("ovs-vswitchd") {
        Ok(path) => path,
        Err(e) => return fail(&e),
    };
    match call(&socket, &format!("dpctl/{command}"), &passed, timeout) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(Failure::Unreachable(e)) => fail(&e),
        Err(Failure::Refused(e)) => fail(e.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn answering(
        reply: &'static str,
    ) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<Value>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            for half in [&reply[..reply.len() / 2], &reply[reply.len() / 2..]] {
                stream.write_all(half.as_bytes()).unwrap();
            }
            serde_json::from_slice(&buffer[..n]).unwrap()
        });
        (dir, path, thread)
    }

    #[test]
    fn request_and_replies() {
        let (_dir, path, thread) = answering(r#"{"id":0,"result":"a{}\nb\n","error":null}"#);
        assert_eq!(
            call(&path, "fdb/show", &["br0".into()], None).unwrap(),
            "a{}\nb\n"
        );
        assert_eq!(
            thread.join().unwrap(),
            json!({"method": "fdb/show", "params": ["br0"], "id": 0})
        );
        let (_dir, path, thread) =
            answering(r#"{"id":0,"result":null,"error":"no such bridge\n"}"#);
        match call(&path, "fdb/show", &[], None) {
            Err(Failure::Refused(e)) => assert_eq!(e, "no such bridge\n"),
            other => panic!("{other:?}"),
        }
        thread.join().unwrap();
        let (_dir, path, thread) = answering(r#"{"id":0,"result"#);
        assert!(matches!(
            call(&path, "x", &[], None),
            Err(Failure::Unreachable(_))
        ));
        thread.join().unwrap();
    }
}
