//! How tools end: what they say of a failure, and what happens when their time is up.

use std::process::ExitCode;
use std::time::Duration;

/// The exit code of a tool that ended so; an error is told in its name.
pub fn finish(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|e| {
        eprintln!("{program}: {e:#}");
        ExitCode::FAILURE
    })
}

/// An error of the system as the C library words it, without the number that Rust adds.
pub fn words(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// Reads the value of `--timeout`, whose letter is `letter`: whole seconds, at least one.
///
/// # Errors
/// It is no such number.
pub fn timeout(letter: char, value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(secs @ 1..=0x7fff_ffff) => Ok(Duration::from_secs(secs)),
        _ => Err(format!(
            "value {value} on -{letter} or --timeout is invalid"
        )),
    }
}

/// Ends the process as `--timeout` is documented to: by SIGALRM, which shells report as 142.
pub fn out_of_time() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    let _ = kill_process(getpid(), Signal::ALARM);
    // Not reached unless the signal is ignored.
    std::process::exit(128 + 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_whole_seconds() {
        assert_eq!(timeout('t', "3"), Ok(Duration::from_secs(3)));
        for bad in ["0", "-1", "x", "", "4294967296"] {
            assert_eq!(
                timeout('T', bad),
                Err(format!("value {bad} on -T or --timeout is invalid"))
            );
        }
    }

    #[test]
    fn errors_have_no_numbers() {
        let e = std::fs::read("/nonexistent").unwrap_err();
        assert_eq!(words(&e), "No such file or directory");
    }
}
