//! A list of commands, typed by every pair.

use crate::normal::normal;
use crate::pair::Running;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tests::pairs::{Pair, difference, shown};
use tests::process::Ran;

/// The most lines that are reported in full; later ones usually follow from the first.
const MAX_REPORTED: usize = 60;

/// What of a line is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// Everything.
    All,
    /// Everything, lines in any order.
    Unordered,
    /// The exit code.
    Code,
    /// Everything, but only what two tools say of the same switch.
    Tools,
    /// Nothing: it is known to differ still.
    Nothing,
}

/// A command of a corpus.
struct Line {
    /// From 1.
    number: usize,
    /// For `sh`.
    text: String,
    compared: Compared,
}

/// Where corpora lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openflow/corpus")
}

fn lines(text: &str) -> Vec<Line> {
    let lines = text.lines().enumerate().filter_map(|(n, line)| {
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let marks = [
            ("~ ", Compared::Unordered),
            ("? ", Compared::Code),
            ("= ", Compared::Tools),
            ("! ", Compared::Nothing),
        ];
        let marked = marks
            .iter()
            .find_map(|(m, c)| Some((line.strip_prefix(m)?, *c)));
        let (text, compared) = marked.unwrap_or((line, Compared::All));
        Some(Line {
            number: n + 1,
            text: text.to_owned(),
            compared,
        })
    });
    lines.collect()
}

/// What came of a corpus: of each line, and in the switch.
type Outcome = (Vec<Ran>, String);

fn type_all(pair: Pair, lines: &[Line]) -> Outcome {
    let running = Running::start(pair);
    let ran = lines.iter().map(|line| {
        let ran = running.line(&line.text);
        let normal = |text: &str| match line.compared {
            Compared::Code => String::new(),
            c => normal(text, running.dir(), c == Compared::Unordered),
        };
        Ran {
            code: ran.code,
            stdout: normal(&ran.stdout),
            stderr: normal(&ran.stderr),
        }
    });
    let ran = ran.collect();
    (ran, normal(&running.contents(), running.dir(), false))
}

/// Types the corpus in `file` with each pair; panics with every line of which the outcomes differ.
pub fn agree(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lines = lines(&text);
    let outcomes: Vec<Outcome> = Pair::each(|pair| type_all(pair, &lines));
    let mut report = String::new();
    let mut wrong = 0;
    for (n, line) in lines.iter().enumerate() {
        let ran: Vec<String> = outcomes.iter().map(|o| shown(&o.0[n])).collect();
        let differs = match line.compared {
            // Stock tools first at either switch, as in `Pair::ALL`.
            Compared::Tools if ran[0] == ran[2] && ran[1] == ran[3] => None,
            Compared::Nothing => None,
            _ => difference(&ran),
        };
        if let Some(difference) = differs {
            wrong += 1;
            if wrong <= MAX_REPORTED {
                let (file, number, text) = (file.display(), line.number, &line.text);
                _ = writeln!(report, "{file}:{number}: {text}\n{difference}");
            }
        }
    }
    let contents: Vec<String> = outcomes.into_iter().map(|o| o.1).collect();
    if let Some(difference) = difference(&contents) {
        _ = writeln!(
            report,
            "{}: the switch at the end\n{difference}",
            file.display()
        );
    }
    assert!(
        report.is_empty(),
        "{wrong} of {} lines differ\n{report}",
        lines.len()
    );
}

#[test]
fn marks_are_not_part_of_the_command() {
    let read = lines("# a\n\n~ b\n? c\n= e\nd ~ e\n");
    let texts: Vec<_> = read
        .iter()
        .map(|l| (l.text.as_str(), l.number, l.compared))
        .collect();
    let expected = [
        ("b", 3, Compared::Unordered),
        ("c", 4, Compared::Code),
        ("e", 5, Compared::Tools),
        ("d ~ e", 6, Compared::All),
    ];
    assert_eq!(texts, expected);
}
