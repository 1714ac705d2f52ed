//! Warnings, in the form of Open vSwitch's console log.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// `seconds` since 1970 as `2026-01-31T12:34:56Z` (days to date by the civil calendar).
pub fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Count from 1 March 0000, so that leap days come last in their year.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

impl Log {
    /// Prints a warning of `module`.
    pub fn warn(&mut self, module: &str, text: &str) {
        let n = self.next;
        self.next += 1;
        if self.warnings {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs());
            eprintln!("{}|{n:05}|{module}|WARN|{text}", timestamp(now));
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
    fn dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_220_265), "2026-11-21T00:17:45Z");
    }

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
