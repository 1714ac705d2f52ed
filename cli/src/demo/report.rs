//! What the demo prints, and whether it may claim it.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Prints steps, commands and findings, and keeps the findings for the summary.
pub struct Report {
    start: Instant,
    colour: bool,
    seen: Vec<String>,
    failed: Option<String>,
    steps: usize,
}

impl Report {
    /// An empty report; its clock starts.
    pub fn new() -> Report {
        Report {
            start: Instant::now(),
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            seen: vec![],
            failed: None,
            steps: 0,
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that went away is no reason to stop.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A new step begins.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        let at = self.start.elapsed().as_secs_f64();
        self.line("");
        self.line(&self.paint("1", &format!("{}. {title}  [{at:.1} s]", self.steps)));
    }

    /// A command, as a user would type it.
    pub fn command(&self, line: &str) {
        self.line(&self.paint("36", &format!("   $ {line}")));
    }

    /// What a command or guest printed.
    pub fn output(&self, text: &str) {
        for l in text.lines() {
            self.line(&format!("     {l}"));
        }
    }

    /// Something to know.
    pub fn note(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Something that was seen to happen.
    pub fn seen(&mut self, what: &str) {
        self.line(&self.paint("32", &format!("   ✓ {what}")));
        self.seen.push(what.to_owned());
    }

    /// Something that should have happened and did not.
    pub fn failed(&mut self, why: &str) {
        self.line(&self.paint("31", &format!("   ✗ {why}")));
        self.failed = Some(why.to_owned());
    }

    /// Prints the summary; whether all is well.
    pub fn summary(&self) -> bool {
        self.line("");
        self.line(&self.paint(
            "1",
            &format!("Summary after {:.1} s", self.start.elapsed().as_secs_f64()),
        ));
        for s in &self.seen {
            self.line(&format!("   {} {s}", self.paint("32", "✓")));
        }
        if let Some(f) = &self.failed {
            self.line(&format!("   {} {f}", self.paint("31", "✗")));
        }
        self.failed.is_none()
    }
}
