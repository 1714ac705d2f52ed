//! What may differ between two runs of the same command, made the same.

use regex::{Captures, Regex};
use std::path::Path;
use std::sync::LazyLock;

/// Whether the order in which rows are printed matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// It does.
    Ordered,
    /// It is random.
    Unordered,
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));

/// Pattern and what it becomes.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // A UUID that markup shows the beginning of, and one that is an identifier (`row<UUID>`).
        (r">[0-9a-f]{8}</a>", ">UUID</a>"),
        (
            r"\brow[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}\b",
            "rowUUID",
        ),
        // A log line's time and number, then plain times.
        (
            r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\|\d{5}\|",
            "TIME|NUMBER|",
        ),
        (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{3})?Z?", "TIME"),
        (r"\.\d+\.ctl\b", ".PID.ctl"),
        (r#""_date":\d+"#, r#""_date":TIME"#),
        (
            r"\((Open vSwitch|weir)\) \d+\.\d+\.\d+",
            "(PROJECT) VERSION",
        ),
    ]
    .map(|(pattern, mask)| (regex(pattern), mask))
    .into()
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

/// `text` with UUIDs, times, versions and the directory `dir` replaced by names for them.
pub fn normal(text: &str, dir: &Path, rows: Rows) -> String {
    let mut text = text.replace(&dir.display().to_string(), "RUNDIR");
    for (pattern, mask) in MASKS.iter() {
        text = pattern.replace_all(&text, *mask).into_owned();
    }
    match rows {
        Rows::Ordered => {
            let mut seen: Vec<String> = vec![];
            UUID.replace_all(&text, |c: &Captures<'_>| {
                let n = seen.iter().position(|u| *u == c[0]).unwrap_or_else(|| {
                    seen.push(c[0].to_owned());
                    seen.len() - 1
                });
                format!("<uuid-{n}>")
            })
            .into_owned()
        }
        Rows::Unordered => sorted(&UUID.replace_all(&text, "<uuid>")),
    }
}

/// Sorts records, if there are empty lines between them, else lines.
fn sorted(text: &str) -> String {
    let separator = if text.contains("\n\n") { "\n\n" } else { "\n" };
    let mut parts: Vec<&str> = text.split(separator).map(str::trim_end).collect();
    parts.sort_unstable();
    parts.join(separator)
}

#[test]
fn uuids_are_numbered_by_first_appearance() {
    let (a, b) = (
        "00000000-0000-4000-8000-00000000000a",
        "00000000-0000-4000-8000-00000000000b",
    );
    let text = format!("{b} {a}\n{b}\n/tmp/x/y");
    let dir = Path::new("/tmp/x");
    assert_eq!(
        normal(&text, dir, Rows::Ordered),
        "<uuid-0> <uuid-1>\n<uuid-0>\nRUNDIR/y"
    );
    assert_eq!(
        normal(&text, dir, Rows::Unordered),
        "<uuid>\n<uuid> <uuid>\nRUNDIR/y"
    );
}

#[test]
fn times_and_versions_are_masked() {
    let text =
        "2026-11-21T14:44:17Z|00002|x|WARN|a\n2026-11-21 14:44:17.123\novs-vsctl (weir) 0.1.0\n";
    assert_eq!(
        normal(text, Path::new("/nowhere"), Rows::Ordered),
        "TIME|NUMBER|x|WARN|a\nTIME\novs-vsctl (PROJECT) VERSION\n"
    );
}
