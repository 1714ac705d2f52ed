//! What may differ between two runs of the same command, made the same.

use regex::Regex;
use std::path::Path;
use std::sync::LazyLock;

/// Pattern and what it becomes.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\b(xid=)0x[0-9a-f]+", "${1}XID"),
        (r"\bxid=[0-9a-f]{8} time=.*", "xid=XID"),
        (r"\b(duration[=:]?)[0-9.]+s\b", "${1}TIME"),
        (r"\b(idle|hard)_age=\d+,? ?", ""),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (
            r"(?m)^(Manufacturer|Hardware|Software|Serial Num): .*",
            "${1}: MAKER",
        ),
        (
            r"\((Open vSwitch|weir)\) \d+\.\d+\.\d+",
            "(PROJECT) VERSION",
        ),
        // Ports' own addresses, and how fast a device says it is.
        (r"addr:[0-9a-f:]{17}", "addr:MAC"),
        // How a datapath has its ports beside what was set.
        (
            r"(?m)^(     (state|current|advertised|supported|peer|speed):).*\n",
            "",
        ),
        (r"\b(drop|errs|frame|over|crc|coll)=(\?|0)", "${1}=NONE"),
        (
            r"(?s)           CUSTOM Statistics\n(                      [^\n]*\n)*",
            "",
        ),
        (r"\bovs-ofctl\.\d+\.ctl", "ovs-ofctl.PID.ctl"),
        (r"n_buffers:\d+", "n_buffers:N"),
        (r"(?m)^capabilities: .*", "capabilities:"),
        (r"Finished in .*", "Finished"),
        // First bytes of messages hold transaction ids.
        (
            r"(?m)^00000000  (0[1-6] [0-9a-f]{2} [0-9a-f]{2} [0-9a-f]{2}) [0-9a-f ]{11}(.{25}).*",
            "00000000  ${1} XID${2}",
        ),
    ]
    .map(|(pattern, mask)| (Regex::new(pattern).expect("a pattern"), mask))
    .into()
});

/// Lines of the tools' own logs, and what a bridge logs of its own.
static LOGS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^\d{4}-\d\d-\d\dT[0-9:]+Z\|\d+\||^ovs-ofctl: (normalization changed|\s*pre: |\s*post: )",
    )
    .expect("a pattern")
});

/// `text` without what differs from run to run, from switch to switch and from device to device; with
/// `sorted`, its lines in order. Neighbouring flows are in order anyway: an answer has them in none.
pub fn normal(text: &str, dir: &Path, sorted: bool) -> String {
    let mut text = text.replace(&dir.display().to_string(), "RUNDIR");
    text = text
        .lines()
        .filter(|l| !LOGS.is_match(l))
        .fold(String::new(), |all, l| all + l + "\n");
    for (pattern, mask) in MASKS.iter() {
        text = pattern.replace_all(&text, *mask).into_owned();
    }
    let mut lines: Vec<&str> = text.lines().collect();
    if sorted {
        lines.sort_unstable();
    }
    for run in lines.chunk_by_mut(|a, b| is_flow(a) && is_flow(b)) {
        run.sort_unstable();
    }
    lines.iter().fold(String::new(), |all, l| all + l + "\n")
}

/// Whether a line is a flow, or a group or its counters.
fn is_flow(line: &str) -> bool {
    let begins = [" cookie=", " group_id="]
        .iter()
        .any(|b| line.starts_with(b));
    begins || line.starts_with(' ') && line.contains("actions=") && !line.contains("in_port=")
}

#[test]
fn flows_are_in_order_and_times_are_masked() {
    let text = "NXST_FLOW reply (xid=0x4):\n cookie=0x0, duration=1.5s, idle_age=3, priority=2 actions=drop\n \
                cookie=0x0, duration=12s, idle_age=3, priority=1 actions=drop\nend\n\
                2026-11-21T18:01:45Z|00001|ofp|WARN|x\n";
    assert_eq!(
        normal(text, Path::new("/nowhere"), false),
        "NXST_FLOW reply (xid=XID):\n cookie=0x0, duration=TIME, priority=1 actions=drop\n cookie=0x0, \
         duration=TIME, priority=2 actions=drop\nend\n"
    );
}
