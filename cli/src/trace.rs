//! `weir trace`: what a bridge would do with a packet, and why.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::appctl::{self, Failure};
use crate::getopt::{self, Spec, Takes};
use crate::{exit, paths};

const OPTIONS: &[Spec] = &[
    ("packet", Some('p'), Takes::Value),
    ("json", Some('j'), Takes::Nothing),
    ("run-dir", None, Takes::Value),
    ("timeout", Some('T'), Takes::Value),
    ("help", Some('h'), Takes::Nothing),
];

const HELP: &str = "\
weir trace: what a bridge would do with a packet, and why
usage: weir trace [OPTIONS] BRIDGE FLOW
       weir trace [OPTIONS] BRIDGE [in_port=PORT] --packet HEX

FLOW is the packet's fields as in flows: in_port=1,tcp,nw_dst=10.0.0.1,tp_dst=80; what it does not say is zero, and what
a field needs comes before it. Told are the tables looked up, the rules that matched and those before them that did not
(with the first field that differs), what each action did, and what is done with the packet in the end. Nothing is sent,
counted or learned.

  -p, --packet=HEX       the packet itself, in hex digits
  -j, --json             as JSON
      --run-dir=DIR      the run directory of the switch (default: $OVS_RUNDIR, else /run/weir)
  -T, --timeout=SECS     give up after so many seconds
  -h, --help             this text

JSON: bridge, flow, steps, untold (steps left out of a very long trace), final_flow, megaflow (which packets the same is
done to), datapath_actions, dropped (why, or null). Each of steps has \"step\": bridge, table, action, action_set, bucket,
remark, warning or failure; bridge, table, action_set and bucket have steps of their own. A table has \"rule\" (priority,
match, cookie, actions; or null) and \"not_matched\" (rules, each with field, wants and has).

Exit codes: 0 done; 1 the switch cannot be reached; 2 it refused; 142 out of time (--timeout).

Example:
  weir trace br0 in_port=1,dl_src=52:54:00:00:00:01,dl_dst=52:54:00:00:00:02,tcp,tp_dst=80
";

fn fail(message: &str) -> ExitCode {
    eprintln!("weir trace: {message}");
    ExitCode::FAILURE
}

/// Runs `weir trace` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let (options, words) = match getopt::parse(args, &[OPTIONS], false) {
        Ok(parsed) => parsed,
        Err(e) => return fail(&e),
    };
    let mut passed = Vec::new();
    let mut run_dir = None;
    let mut timeout = None;
    for (name, value) in options {
        let value = value.unwrap_or_default();
        match name {
            "packet" => passed.extend(["--packet".to_owned(), value]),
            "json" => passed.push("--json".to_owned()),
            "run-dir" => run_dir = Some(value),
            "timeout" => match exit::timeout('T', &value) {
                Ok(limit) => timeout = Some(limit),
                Err(e) => return fail(&e),
            },
            _ => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
        }
    }
    if !(1..=2).contains(&words.len()) {
        return fail(
            "a bridge and a flow are wanted, or a bridge and --packet (see weir trace --help)",
        );
    }
    passed.extend(words);
    let run_dir = paths::run_dir(run_dir.as_deref().map(Path::new));
    let socket = match appctl::find_socket_in(&run_dir, "ovs-vswitchd") {
        Ok(path) => path,
        Err(e) => return fail(&e),
    };
    match appctl::call(&socket, "weir/trace", &passed, timeout) {
        Ok(text) => {
            appctl::print(&text);
            ExitCode::SUCCESS
        }
        Err(Failure::Unreachable(e)) => fail(&e),
        Err(Failure::Refused(e)) => {
            eprintln!("weir trace: {}", e.trim_end());
            ExitCode::from(2)
        }
    }
}
