//! The same command lines by stock and own programs, and how what came of them differs.

use crate::process::Ran;
use crate::tools::Tools;
use std::fmt::{self, Write};

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

    /// These tools at that server.
    pub const fn new(tools: Tools, server: Tools) -> Pair {
        Pair { tools, server }
    }

    /// Does the same for all four at once; what came of each.
    pub fn each<T: Send>(work: impl Fn(Pair) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|s| {
            let threads = Pair::ALL.map(|pair| s.spawn(move || work(pair)));
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
                .collect()
        })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} tools, {:?} server", self.tools, self.server)
    }
}

/// What a command did, as one text.
pub fn shown(ran: &Ran) -> String {
    format!(
        "exit code {}\n--- stdout\n{}--- stderr\n{}",
        ran.code, ran.stdout, ran.stderr
    )
}

/// How what came of the other pairs, in the order of [`Pair::ALL`], differs from the reference, if it does.
pub fn difference(outcomes: &[String]) -> Option<String> {
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
