//! A list of commands, typed by every pair.

use crate::contents::contents;
use crate::normal::{Rows, normal};
use crate::pair::{Pair, Running};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tests::process::Ran;

/// The most lines that are reported in full; later ones usually follow from the first.
const MAX_REPORTED: usize = 50;

/// A command of a corpus.
struct Line {
    /// From 1.
    number: usize,
    /// For `sh`.
    text: String,
    rows: Rows,
    /// Whether only the exit code is compared.
    code_only: bool,
}

/// Where corpora lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/database/corpus")
}

fn lines(text: &str) -> Vec<Line> {
    let lines = text.lines().enumerate().filter_map(|(n, line)| {
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let unordered = line.strip_prefix("~ ");
        let code_only = line.strip_prefix("? ");
        Some(Line {
            number: n + 1,
            text: unordered.or(code_only).unwrap_or(line).to_owned(),
            rows: if unordered.is_some() {
                Rows::Unordered
            } else {
                Rows::Ordered
            },
            code_only: code_only.is_some(),
        })
    });
    lines.collect()
}

/// What came of a corpus: of each line, and in the databases.
type Outcome = (Vec<Ran>, String);

fn type_all(pair: Pair, lines: &[Line]) -> Outcome {
    let running = Running::start(pair, &directory());
    let ran = lines.iter().map(|line| {
        let ran = running.line(&line.text);
        let normal = |text: &str| match line.code_only {
            true => String::new(),
            false => normal(text, running.dir(), line.rows),
        };
        Ran {
            code: ran.code,
            stdout: normal(&ran.stdout),
            stderr: normal(&ran.stderr),
        }
    });
    (ran.collect(), contents(&running))
}

/// Types the corpus in `file` with each pair; panics with every line of which the outcomes differ.
pub fn agree(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lines = lines(&text);
    let lines = &lines;
    let outcomes: Vec<Outcome> = std::thread::scope(|s| {
        let typing = Pair::ALL.map(|pair| s.spawn(move || type_all(pair, lines)));
        typing
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .collect()
    });
    let mut report = String::new();
    let mut wrong = 0;
    for (n, line) in lines.iter().enumerate() {
        let ran: Vec<String> = outcomes.iter().map(|o| shown(&o.0[n])).collect();
        if let Some(difference) = difference(&ran) {
            wrong += 1;
            if wrong <= MAX_REPORTED {
                _ = writeln!(
                    report,
                    "{}:{}: {}\n{difference}",
                    file.display(),
                    line.number,
                    line.text
                );
            }
        }
    }
    let contents: Vec<String> = outcomes.into_iter().map(|o| o.1).collect();
    if let Some(difference) = difference(&contents) {
        _ = writeln!(
            report,
            "{}: the databases at the end\n{difference}",
            file.display()
        );
    }
    assert!(
        report.is_empty(),
        "{wrong} of {} lines differ\n{report}",
        lines.len()
    );
}

fn shown(ran: &Ran) -> String {
    format!(
        "exit code {}\n--- stdout\n{}--- stderr\n{}",
        ran.code, ran.stdout, ran.stderr
    )
}

/// How what came of the other pairs differs from the reference, if it does.
fn difference(outcomes: &[String]) -> Option<String> {
    let (reference, others) = outcomes.split_first()?;
    if others.iter().all(|o| o == reference) {
        return None;
    }
    let mut text = format!("  {}:\n{}", Pair::ALL[0], indented(reference));
    for (pair, other) in Pair::ALL[1..].iter().zip(others) {
        if other == reference {
            _ = writeln!(text, "  {pair}: the same");
        } else {
            _ = write!(text, "  {pair}:\n{}", compared(reference, other));
        }
    }
    Some(text)
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("      {l}\n")).collect()
}

/// The lines that only one of two texts has, marked, in their places.
fn compared(reference: &str, other: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (reference.lines().collect(), other.lines().collect());
    // Longest common subsequence, from the end.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for x in (0..a.len()).rev() {
        for y in (0..b.len()).rev() {
            common[x][y] = match a[x] == b[y] {
                true => common[x + 1][y + 1] + 1,
                false => common[x + 1][y].max(common[x][y + 1]),
            };
        }
    }
    let (mut x, mut y, mut out) = (0, 0, String::new());
    while x < a.len() || y < b.len() {
        if x < a.len() && y < b.len() && a[x] == b[y] {
            (x, y) = (x + 1, y + 1);
        } else if y == b.len() || (x < a.len() && common[x + 1][y] >= common[x][y + 1]) {
            _ = writeln!(out, "    - {}", a[x]);
            x += 1;
        } else {
            _ = writeln!(out, "    + {}", b[y]);
            y += 1;
        }
    }
    if out.is_empty() {
        "    an empty line at the end\n".to_owned()
    } else {
        out
    }
}

#[test]
fn differences_are_shown_in_their_places() {
    assert_eq!(
        compared("a\nb\nc", "a\nx\nc\nd"),
        "    - b\n    + x\n    + d\n"
    );
    assert!(difference(&["a".into(), "a".into()]).is_none());
}

#[test]
fn prefixes_are_not_part_of_the_command() {
    let read = lines("# a\n\n~ b\n? c\nd ~ e\n");
    let texts: Vec<(&str, usize)> = read.iter().map(|l| (l.text.as_str(), l.number)).collect();
    assert_eq!(texts, [("b", 3), ("c", 4), ("d ~ e", 5)]);
    assert!(read[0].rows == Rows::Unordered && !read[0].code_only && read[1].code_only);
}
