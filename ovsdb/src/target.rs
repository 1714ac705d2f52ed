//! Where a database is, or where to serve it: `unix:PATH`, `tcp:HOST:PORT`, `punix:PATH`,
//! `ptcp:[PORT][:HOST]`, `db:DATABASE,TABLE,COLUMN`.

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
    /// `punix:PATH`: listen on a socket.
    PassiveUnix(PathBuf),
    /// `ptcp:[PORT][:HOST]`: listen on an address; port 0 lets the kernel choose.
    PassiveTcp {
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
        matches!(self, Target::PassiveUnix(_) | Target::PassiveTcp { .. })
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
            "tcp" => {
                let (host, p) = split_host_port(rest)
                    .ok_or_else(|| bad("write tcp:HOST:PORT or tcp:[IPV6]:PORT"))?;
                if host.is_empty() {
                    return Err(bad("the host is missing"));
                }
                Ok(Target::Tcp {
                    host,
                    port: p.map_or(Ok(DEFAULT_PORT), port)?,
                })
            }
            "ptcp" => {
                let (p, host) = match rest.split_once(':') {
                    Some((p, host)) => (p, Some(host)),
                    None => (rest, None),
                };
                let host = host
                    .map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned())
                    .filter(|h| !h.is_empty());
                Ok(Target::PassiveTcp {
                    port: if p.is_empty() { DEFAULT_PORT } else { port(p)? },
                    host,
                })
            }
            "db" => {
                let parts: Vec<_> = rest.split(',').collect();
                match parts[..] {
                    [db, table, column] if !db.is_empty() => Ok(Target::Database {
                        db: db.into(),
                        table: table.into(),
                        column: column.into(),
                    }),
                    _ => Err(bad("write db:DATABASE,TABLE,COLUMN")),
                }
            }
            "ssl" | "pssl" => Err(bad(
                "TLS is not supported; use tcp:, ptcp:, unix: or punix:",
            )),
            _ => Err(bad("the methods are unix:, tcp:, punix:, ptcp: and db:")),
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
        match self {
            Target::Unix(p) => write!(f, "unix:{}", p.display()),
            Target::PassiveUnix(p) => write!(f, "punix:{}", p.display()),
            Target::Tcp { host, port } => write!(f, "tcp:{}:{port}", bracket(host)),
            Target::PassiveTcp { port, host: None } => write!(f, "ptcp:{port}"),
            Target::PassiveTcp {
                port,
                host: Some(h),
            } => write!(f, "ptcp:{port}:{}", bracket(h)),
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
            "ssl:h:1",
            "db:a,b",
        ] {
            assert!(s.parse::<Target>().is_err(), "{s}");
        }
    }
}
