//! Where a controller is: `tcp:HOST[:PORT]`, `ssl:HOST[:PORT]`, `unix:FILE`, `ptcp:[PORT][:HOST]`,
//! `pssl:[PORT][:HOST]`, `punix:FILE`.

use ovsdb::Target;
use std::path::Path;

/// The port assigned to OpenFlow, used where a target names none.
pub const DEFAULT_PORT: u16 = 6653;

/// Parses a target; relative files lie in `run_dir`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, run_dir: &Path) -> Result<Target, String> {
    let target: Target = with_port(text).parse().map_err(|e| format!("{e}"))?;
    if !target.is_active() && !target.is_passive() {
        return Err(format!(
            "\"{text}\" is no controller; there are tcp, ssl, unix, ptcp, pssl and punix"
        ));
    }
    Ok(target.map_path(|p| run_dir.join(p)))
}

/// The same with OpenFlow's port where none is named. (The database's targets have another.)
fn with_port(text: &str) -> String {
    let Some((kind, rest)) = text.split_once(':') else {
        return text.to_owned();
    };
    match kind {
        "tcp" | "ssl" => match rest.rsplit_once(']').map_or(rest, |(_, behind)| behind) {
            behind if behind.contains(':') => text.to_owned(),
            _ => format!("{text}:{DEFAULT_PORT}"),
        },
        "ptcp" | "pssl" if rest.is_empty() || rest.starts_with(':') => {
            format!("{kind}:{DEFAULT_PORT}{rest}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let parse = |s: &str| parse(s, Path::new("/run/weir")).map(|t| t.to_string());
        for (given, meant) in [
            ("tcp:10.0.0.1:6633", "tcp:10.0.0.1:6633"),
            ("tcp:10.0.0.1", "tcp:10.0.0.1:6653"),
            ("ssl:10.0.0.1", "ssl:10.0.0.1:6653"),
            ("tcp:[::1]", "tcp:[::1]:6653"),
            ("ssl:[::1]:7", "ssl:[::1]:7"),
            ("ptcp:", "ptcp:6653"),
            ("pssl::127.0.0.1", "pssl:6653:127.0.0.1"),
            ("ptcp:6634:127.0.0.1", "ptcp:6634:127.0.0.1"),
            ("unix:c.sock", "unix:/run/weir/c.sock"),
            ("punix:/x", "punix:/x"),
        ] {
            assert_eq!(parse(given).as_deref(), Ok(meant));
        }
        for bad in [
            "",
            "tcp",
            "tcp:",
            "tcp:h:x",
            "unix:",
            "udp:h:1",
            "ptcp:99999",
            "db:a,b,c",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
