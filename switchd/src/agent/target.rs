//! Where a controller is: `tcp:HOST[:PORT]`, `unix:FILE`, `ptcp:[PORT][:HOST]`, `punix:FILE`.

use std::path::{Path, PathBuf};

/// The port assigned to OpenFlow, used where a target names none.
pub const DEFAULT_PORT: u16 = 6653;

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Connect to a host and port.
    Tcp(String, u16),
    /// Connect to a socket file.
    Unix(PathBuf),
    /// Listen on an address and port.
    PassiveTcp(String, u16),
    /// Listen on a socket file.
    PassiveUnix(PathBuf),
}

impl Target {
    /// Parses a target; relative files lie in `run_dir`.
    ///
    /// # Errors
    /// What is wrong, or that the kind is not supported.
    pub fn parse(text: &str, run_dir: &Path) -> Result<Target, String> {
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("\"{text}\" is no target: tcp:HOST:PORT or unix:FILE"))?;
        match kind {
            "tcp" => {
                let (host, port) = host_port(rest)?;
                if host.is_empty() {
                    return Err(format!("\"{text}\" names no host"));
                }
                Ok(Target::Tcp(host, port.unwrap_or(DEFAULT_PORT)))
            }
            "ptcp" => {
                let (port, host) = match rest.split_once(':') {
                    Some((port, host)) => (port, host.trim_matches(['[', ']'])),
                    None => (rest, ""),
                };
                let port = match port {
                    "" => DEFAULT_PORT,
                    p => p
                        .parse()
                        .map_err(|_| format!("\"{p}\" is no port number"))?,
                };
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                Ok(Target::PassiveTcp(host.to_owned(), port))
            }
            "unix" | "punix" if rest.is_empty() => Err(format!("\"{text}\" names no file")),
            "unix" => Ok(Target::Unix(run_dir.join(rest))),
            "punix" => Ok(Target::PassiveUnix(run_dir.join(rest))),
            "ssl" | "pssl" => Err(format!("{kind} is not supported yet")),
            _ => Err(format!(
                "\"{kind}\" is no kind of connection; there are tcp, unix, ptcp and punix"
            )),
        }
    }
}

fn host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("\"{text}\" lacks a ]"))?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(p) => Some(
            p.parse()
                .map_err(|_| format!("\"{p}\" is no port number"))?,
        ),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let parse = |s: &str| Target::parse(s, Path::new("/run/weir"));
        assert_eq!(
            parse("tcp:10.0.0.1:6633"),
            Ok(Target::Tcp("10.0.0.1".into(), 6633))
        );
        assert_eq!(parse("tcp:[::1]"), Ok(Target::Tcp("::1".into(), 6653)));
        assert_eq!(parse("tcp:[::1]:7"), Ok(Target::Tcp("::1".into(), 7)));
        assert_eq!(
            parse("ptcp:"),
            Ok(Target::PassiveTcp("0.0.0.0".into(), 6653))
        );
        assert_eq!(
            parse("ptcp:6634:127.0.0.1"),
            Ok(Target::PassiveTcp("127.0.0.1".into(), 6634))
        );
        assert_eq!(
            parse("unix:c.sock"),
            Ok(Target::Unix("/run/weir/c.sock".into()))
        );
        assert_eq!(parse("punix:/x"), Ok(Target::PassiveUnix("/x".into())));
        for bad in [
            "",
            "tcp",
            "tcp:",
            "tcp:h:x",
            "unix:",
            "ssl:h:1",
            "udp:h:1",
            "ptcp:99999",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
