//! Where a database is, or where to serve it: `unix:PATH`, `tcp:HOST:PORT`, `ssl:HOST:PORT`,
//! `punix:PATH`, `ptcp:[PORT][:HOST]`, `pssl:[PORT][:HOST]`, `db:DATABASE,TABLE,COLUMN`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port registered for OVSDB.
pub const DEFAULT_PORT: u16 = 6640;

/// A connection method, as the tools' command lines and the `Manager` table write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `unix:PATH`: connect to a socket.
    Unix(PathBuf),
    /// `tcp:HOST[:PORT]`: connect to a host; IPv6 addresses in brackets.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `ssl:HOST[:PORT]`: connect to a host by TLS.
    Ssl {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `punix:PATH`: listen on a socket.
    PassiveUnix(PathBuf),
    /// `ptcp:[PORT][:HOST]`: listen on an address; port 0 lets the kernel choose.
    PassiveTcp {
        /// TCP port.
        port: u16,
        /// Address to bind; `None` for all.
        host: Option<String>,
    },
    /// `pssl:[PORT][:HOST]`: listen on an address for TLS.
    PassiveSsl {
        /// TCP port.
        port: u16,
        /// Address to bind; `None` for all.
        host: Option<String>,
    },
    /// `db:DATABASE,TABLE,COLUMN`: serve the targets that a column names.
    Database {
        /// Database name.
        db: String,
        /// Table whose rows are looked at.
        table: String,
        /// Column with the targets, or with references to rows that have a `target` column.
        column: String,
    },
}

/// A target that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a valid connection method: {1}")]
pub struct TargetError(String, String);

impl Target {
    /// True for those that listen.
    pub fn is_passive(&self) -> bool {
        matches!(
            self,
            Target::PassiveUnix(_) | Target::PassiveTcp { .. } | Target::PassiveSsl { .. }
        )
    }

    /// True for those that call.
    pub fn is_active(&self) -> bool {
        matches!(
            self,
            Target::Unix(_) | Target::Tcp { .. } | Target::Ssl { .. }
        )
    }

    /// True for those over a network, where a peer may vanish without a word: they are probed
    /// ([`crate::probe`]) unless something else is said.
    pub fn needs_probes(&self) -> bool {
        matches!(
            self,
            Target::Tcp { .. }
                | Target::Ssl { .. }
                | Target::PassiveTcp { .. }
                | Target::PassiveSsl { .. }
        )
    }

    /// The same with paths made independent of the working directory, as `absolute` does.
    pub fn map_path(self, absolute: impl FnOnce(PathBuf) -> PathBuf) -> Target {
        match self {
            Target::Unix(p) => Target::Unix(absolute(p)),
            Target::PassiveUnix(p) => Target::PassiveUnix(absolute(p)),
            other => other,
        }
    }
}

fn split_host_port(s: &str) -> Option<(String, Option<&str>)> {
    if let Some(rest) = s.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() {
            None
        } else {
            Some(rest.strip_prefix(':')?)
        };
        return Some((host.into(), port));
    }
    match s.split_once(':') {
        Some((host, port)) => Some((host.into(), Some(port))),
        None => Some((s.into(), None)),
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(s: &str) -> Result<Self, TargetError> {
        let bad = |why: &str| TargetError(s.into(), why.into());
        let (kind, rest) = s
            .split_once(':')
            .ok_or_else(|| bad("it should look like unix:PATH or tcp:HOST:PORT"))?;
        let port = |p: &str| {
            p.parse::<u16>()
                .map_err(|_| bad("the port must be a number from 0 to 65535"))
        };
        match kind {
            "unix" | "punix" if rest.is_empty() => Err(bad("the path is missing")),
            "unix" => Ok(Target::Unix(rest.into())),
            "punix" => Ok(Target::PassiveUnix(rest.into())),
            "tcp" | "ssl" => {
                let (host, p) = split_host_port(rest)
                    .ok_or_else(|| bad("write HOST:PORT or [IPV6]:PORT behind it"))?;
                if host.is_empty() {
                    return Err(bad("the host is missing"));
                }
                let port = p.map_or(Ok(DEFAULT_PORT), port)?;
                Ok(match kind {
                    "tcp" => Target::Tcp { host, port },
                    _ => Target::Ssl { host, port },
                })
            }
            "ptcp" | "pssl" => {
                let (p, host) = match rest.split_once(':') {
                    Some((p, host)) => (p, Some(host)),
                    None => (rest, None),
                };
                let host = host
                    .map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned())
                    .filter(|h| !h.is_empty());
                let port = if p.is_empty() { DEFAULT_PORT } else { port(p)? };
                Ok(match kind {
                    "ptcp" => Target::PassiveTcp { port, host },
                    _ => Target::PassiveSsl { port, host },
                })
            }
            "db" => {
                let parts: Vec<_> = rest.splitn(3, ',').collect();
                match parts[..] {
                    [db, table, column] if !db.is_empty() => Ok(Target::Database {
                        db: db.into(),
                        table: table.into(),
                        column: column.into(),
                    }),
                    _ => Err(bad("write db:DATABASE,TABLE,COLUMN")),
                }
            }
            _ => Err(bad(
                "the methods are unix:, tcp:, ssl:, punix:, ptcp:, pssl: and db:",
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = |h: &str| {
            if h.contains(':') {
                format!("[{h}]")
            } else {
                h.to_owned()
            }
        };
        let passive =
            |f: &mut fmt::Formatter<'_>, kind: &str, port: u16, host: &Option<String>| match host {
                None => write!(f, "{kind}:{port}"),
                Some(h) => write!(f, "{kind}:{port}:{}", bracket(h)),
            };
        match self {
            Target::Unix(p) => write!(f, "unix:{}", p.display()),
            Target::PassiveUnix(p) => write!(f, "punix:{}", p.display()),
            Target::Tcp { host, port } => write!(f, "tcp:{}:{port}", bracket(host)),
            Target::Ssl { host, port } => write!(f, "ssl:{}:{port}", bracket(host)),
            Target::PassiveTcp { port, host } => passive(f, "ptcp", *port, host),
            Target::PassiveSsl { port, host } => passive(f, "pssl", *port, host),
            Target::Database { db, table, column } => write!(f, "db:{db},{table},{column}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_and_write() {
        for s in [
            "unix:/run/x.sock",
            "punix:/run/x.sock",
            "tcp:127.0.0.1:6640",
            "tcp:[::1]:7",
            "ptcp:6640",
            "ptcp:0:127.0.0.1",
            "ptcp:7:[::1]",
            "ssl:[::1]:7",
            "pssl:6640",
            "db:Open_vSwitch,Open_vSwitch,manager_options",
        ] {
            assert_eq!(s.parse::<Target>().unwrap().to_string(), s);
        }
        assert_eq!("tcp:h".parse::<Target>().unwrap().to_string(), "tcp:h:6640");
        for s in [
            "",
            "unix:",
            "foo:1",
            "tcp:h:99999",
            "tcp::1",
            "ssl::1",
            "db:a,b",
        ] {
            assert!(s.parse::<Target>().is_err(), "{s}");
        }
    }
}
