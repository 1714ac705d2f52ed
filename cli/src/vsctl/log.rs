//! Warnings, in the form of Open vSwitch's console log.

use switchd::log::{since_epoch, utc};

/// The console log of one run.
#[derive(Debug)]
pub struct Log {
    /// Whether warnings reach the console.
    pub warnings: bool,
    /// Number of the next message.
    pub next: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            warnings: true,
            next: 1,
        }
    }
}

impl Log {
    /// Prints a warning of `module`.
    pub fn warn(&mut self, module: &str, text: &str) {
        let n = self.next;
        self.next += 1;
        if self.warnings {
            let now = utc(since_epoch(), false);
            eprintln!("{now}|{n:05}|{module}|WARN|{text}");
        }
    }

    /// Applies a `-v` specification, `MODULE:DESTINATION:LEVEL` in any order: whether console
    /// warnings go on.
    pub fn configure(&mut self, spec: &str) -> Result<(), String> {
        if spec.starts_with("PATTERN:") || spec.starts_with("FACILITY:") {
            return Ok(());
        }
        let mut level = "dbg".to_string();
        let (mut console, mut module) = (true, false);
        for word in spec.split([' ', ',', ':']).filter(|w| !w.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "any" | "console" => {}
                "syslog" | "file" => console = false,
                l @ ("off" | "emer" | "err" | "warn" | "info" | "dbg") => level = l.into(),
                _ => module = true,
            }
        }
        if console && !module {
            self.warnings = matches!(level.as_str(), "warn" | "info" | "dbg");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let mut log = Log::default();
        log.configure("vsctl:syslog:warn").unwrap();
        assert!(log.warnings);
        log.configure("console:off").unwrap();
        assert!(!log.warnings);
        log.configure("warn").unwrap();
        assert!(log.warnings);
    }
}
