//! Streams of bytes to peers, by whatever way a [`Target`] names: dialled or listened for, plain or
//! by TLS. Servers, clients and whoever else speaks over them need not know which.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::target::Target;
use crate::tls::Tls;

/// Longest time for a peer to answer a call.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Both directions of a connection.
pub struct Connection {
    /// What the peer sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What is sent to the peer.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Connection {
    fn unix(stream: UnixStream) -> Self {
        let (r, w) = stream.into_split();
        Self {
            reader: Box::new(r),
            writer: Box::new(w),
        }
    }

    fn tcp(stream: TcpStream) -> Self {
        let (r, w) = stream.into_split();
        Self {
            reader: Box::new(r),
            writer: Box::new(w),
        }
    }

    fn tls(stream: tokio_rustls::TlsStream<TcpStream>) -> Self {
        let (r, w) = tokio::io::split(stream);
        Self {
            reader: Box::new(r),
            writer: Box::new(w),
        }
    }
}

fn wrong_kind(target: &Target, can: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{target}: {can} only"))
}

/// Makes a connection's packets carry a DSCP, from 0 (none) to 63.
fn mark(stream: &TcpStream, dscp: u8) -> io::Result<()> {
    let class = dscp << 2;
    match stream.local_addr()? {
        SocketAddr::V4(_) => sockopt::set_ip_tos(stream, class)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_tclass(stream, class.into())?,
    }
    Ok(())
}

async fn call(host: &str, port: u16, dscp: u8) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .map_err(|_| io::Error::from(rustix::io::Errno::TIMEDOUT))??;
    // Requests and answers are small and are waited for.
    stream.set_nodelay(true)?;
    mark(&stream, dscp)?;
    Ok(stream)
}

/// Calls `unix:`, `tcp:` or `ssl:`; packets of the latter two carry `dscp`.
///
/// # Errors
/// What the system or the handshake says, or [`CONNECT_TIMEOUT`] has passed.
pub async fn dial(target: &Target, tls: &Tls, dscp: u8) -> io::Result<Connection> {
    match target {
        Target::Unix(path) => Ok(Connection::unix(UnixStream::connect(path).await?)),
        Target::Tcp { host, port } => Ok(Connection::tcp(call(host, *port, dscp).await?)),
        Target::Ssl { host, port } => {
            let mut result = tls.connect(call(host, *port, dscp).await?).await;
            // An authority has just been learned: now the peer is held to it.
            if result
                .as_ref()
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
            {
                result = tls.connect(call(host, *port, dscp).await?).await;
            }
            Ok(Connection::tls(result?))
        }
        other => Err(wrong_kind(
            other,
            "one connects to unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT",
        )),
    }
}

/// A socket that is listened on. A Unix socket's file goes with it.
pub struct Listener {
    socket: Socket,
    tls: Option<Tls>,
}

enum Socket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// Somebody who has called, not yet spoken to.
pub struct Caller {
    stream: CallerStream,
    tls: Option<Tls>,
}

enum CallerStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Listens on a Unix socket, taking the place of one that nobody listens on any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another server listens on this socket",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
    Ok(listener)
}

impl Listener {
    /// Listens on `punix:`, `ptcp:` or `pssl:`, on the runtime that calls this.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(target: &Target, tls: &Tls) -> io::Result<Listener> {
        let (port, host, tls) = match target {
            Target::PassiveUnix(path) => {
                return Ok(Listener {
                    socket: Socket::Unix(bind_unix(path)?, path.clone()),
                    tls: None,
                });
            }
            Target::PassiveTcp { port, host } => (*port, host, None),
            Target::PassiveSsl { port, host } => (*port, host, Some(tls.clone())),
            other => {
                return Err(wrong_kind(
                    other,
                    "one listens on punix:PATH, ptcp:[PORT][:HOST] or pssl:[PORT][:HOST]",
                ));
            }
        };
        let listener = match host {
            Some(h) => TcpListener::bind((h.as_str(), port)).await,
            None => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        }?;
        Ok(Listener {
            socket: Socket::Tcp(listener),
            tls,
        })
    }

    /// Where it listens, which tells the port if 0 was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix(..) => None,
            Socket::Tcp(l) => l.local_addr().ok(),
        }
    }

    /// The next caller, and its address if it has one.
    ///
    /// # Errors
    /// What the system says; want of descriptors passes.
    pub async fn accept(&self) -> io::Result<(Caller, Option<SocketAddr>)> {
        let (stream, address) = match &self.socket {
            Socket::Unix(l, _) => (CallerStream::Unix(l.accept().await?.0), None),
            Socket::Tcp(l) => {
                let (stream, address) = l.accept().await?;
                (CallerStream::Tcp(stream), Some(address))
            }
        };
        let caller = Caller {
            stream,
            tls: self.tls.clone(),
        };
        Ok((caller, address))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            _ = std::fs::remove_file(path);
        }
    }
}

impl Caller {
    /// Makes the caller ready to be spoken to, by a handshake where the target says so; packets to it
    /// carry `dscp`.
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub async fn greet(self, dscp: u8) -> io::Result<Connection> {
        match (self.stream, self.tls) {
            (CallerStream::Unix(s), _) => Ok(Connection::unix(s)),
            (CallerStream::Tcp(s), tls) => {
                s.set_nodelay(true)?;
                mark(&s, dscp)?;
                match tls {
                    None => Ok(Connection::tcp(s)),
                    // Apart, so that callers without TLS do not carry a handshake's state for ever.
                    Some(tls) => Ok(Connection::tls(Box::pin(tls.accept(s)).await?)),
                }
            }
        }
    }
}

/// True for an end of a stream that is no fault: tools often leave without a farewell.
pub fn is_plain_end(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_carry_the_dscp() {
        for host in ["127.0.0.1", "::1"] {
            // A host without IPv6 has nothing to call.
            let Ok(listener) = TcpListener::bind((host, 0)).await else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let stream = call(host, address.port(), 46).await.unwrap();
            let class = match address {
                SocketAddr::V4(_) => u32::from(sockopt::ip_tos(&stream).unwrap()),
                SocketAddr::V6(_) => sockopt::ipv6_tclass(&stream).unwrap(),
            };
            assert_eq!(class, 46 << 2, "{host}");
        }
    }
}
