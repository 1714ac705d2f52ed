//! A blocking OpenFlow connection, as a command-line tool needs it.

use anyhow::{Context, Result, anyhow, bail};
use openflow::text::{Names, error_name, format_message};
use openflow::wire::{self, Decoded, Frame};
use openflow::{Hello, Message};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::exit::words;

/// The port of OpenFlow where none is given.
const PORT: u16 = 6653;

/// Transaction ids, counted through all connections of one run as the stock tool does.
static NEXT_XID: AtomicU32 = AtomicU32::new(1);

fn xid() -> u32 {
    NEXT_XID.fetch_add(1, Ordering::Relaxed)
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Which of a bridge's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Where requests go.
    Mgmt,
    /// Where the talk with the controllers can be listened to.
    Snoop,
}

/// An open connection with an agreed version.
pub struct Conn {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// The agreed version.
    pub version: u8,
}

/// An answer of the switch that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The address behind a name: `unix:` and `tcp:` as they are, bridges by their socket.
fn resolve(name: &str, socket: Socket) -> Result<String> {
    if name.starts_with("unix:") || name.starts_with("tcp:") {
        return Ok(name.to_string());
    }
    if name.starts_with("ssl:") {
        bail!("{name}: connections by TLS are not supported yet; use tcp: or unix:");
    }
    // `type@name` names a datapath's bridge.
    let bridge = name.rsplit_once('@').map_or(name, |n| n.1);
    let end = match socket {
        Socket::Mgmt => "mgmt",
        Socket::Snoop => "snoop",
    };
    let path = crate::paths::run_dir(None).join(format!("{bridge}.{end}"));
    let is_socket = |p: &Path| p.metadata().is_ok_and(|m| m.file_type().is_socket());
    if !bridge.contains('/') && is_socket(&path) {
        return Ok(format!("unix:{}", path.display()));
    }
    if is_socket(Path::new(name)) {
        return Ok(format!("unix:{name}"));
    }
    bail!("{name} is not a bridge or a socket")
}

fn connect(target: &str) -> std::io::Result<Box<dyn Stream>> {
    if let Some(path) = target.strip_prefix("unix:") {
        return Ok(Box::new(UnixStream::connect(path)?));
    }
    let address = target.strip_prefix("tcp:").unwrap_or(target);
    let (host, port) = match address.rsplit_once(':') {
        // A bare IPv6 address has colons of its own.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
            host.trim_matches(['[', ']']),
            port.parse().map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "the port is no number")
            })?,
        ),
        _ => (address.trim_matches(['[', ']']), PORT),
    };
    let stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

impl Conn {
    /// Connects and agrees on one of `versions`.
    pub fn open(name: &str, socket: Socket, versions: &[u8]) -> Result<Conn> {
        let target = resolve(name, socket)?;
        let stream = connect(&target).map_err(|e| {
            if target == name {
                anyhow!("connecting to {name} ({})", words(&e))
            } else {
                anyhow!("{name}: failed to connect to socket ({})", words(&e))
            }
        })?;
        let ours = wire::bitmap(versions);
        let highest = wire::highest(ours).context("no OpenFlow version is allowed")?;
        let mut conn = Conn {
            stream,
            input: Vec::new(),
            version: highest,
        };
        let hello = Message::Hello(Hello {
            version: highest,
            versions: Some(ours),
        });
        conn.send(&hello)?;
        let first = conn
            .receive()
            .with_context(|| format!("connecting to {name}"))?;
        match first.message {
            Message::Hello(theirs) => {
                conn.version = wire::negotiate(ours, &theirs).ok_or_else(|| {
                    anyhow!(
                        "{name}: version negotiation failed (we support version {highest:#04x}, peer supports version {:#04x} and earlier)",
                        theirs.version
                    )
                })?;
                Ok(conn)
            }
            Message::Error(e) => bail!(
                "{name}: the peer refused our hello: {} {}",
                error_name(e.kind),
                String::from_utf8_lossy(&e.data).escape_debug()
            ),
            _ => bail!("{name}: the peer's first message is no hello"),
        }
    }

    /// Sends a message under a new transaction id.
    pub fn send(&mut self, message: &Message) -> Result<u32> {
        let xid = xid();
        self.send_as(xid, message)?;
        Ok(xid)
    }

    fn send_as(&mut self, xid: u32, message: &Message) -> Result<()> {
        let bytes = wire::encode(self.version, xid, message)?;
        self.stream
            .write_all(&bytes)
            .map_err(|e| anyhow!("sending failed ({})", words(&e)))
    }

    /// The next message that is not an echo request; those are answered.
    pub fn receive(&mut self) -> Result<Decoded> {
        loop {
            let frame = self.frame()?;
            let d =
                wire::decode(&frame).map_err(|e| anyhow!("the switch sent a bad message: {e}"))?;
            match d.message {
                Message::EchoRequest(data) => self.send_as(d.xid, &Message::EchoReply(data))?,
                message => return Ok(Decoded { message, ..d }),
            }
        }
    }

    /// The next message's bytes.
    pub fn frame(&mut self) -> Result<Vec<u8>> {
        loop {
            match wire::frame(&self.input) {
                Frame::Message(n) => {
                    let rest = self.input.split_off(n);
                    return Ok(std::mem::replace(&mut self.input, rest));
                }
                Frame::Broken(h) => bail!("the switch sent a message of length {}", h.len),
                Frame::Incomplete => {}
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("connection closed by peer"),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => bail!("receiving failed ({})", words(&e)),
            }
        }
    }

    /// Asks, and gives each part of the answer to `part`. An error for an answer counts as one.
    pub fn ask(&mut self, request: &Message, mut part: impl FnMut(Decoded)) -> Result<()> {
        let xid = self.send(request)?;
        loop {
            let d = self.receive()?;
            if d.xid == xid {
                let more = d.more;
                part(d);
                if !more {
                    return Ok(());
                }
            }
        }
    }

    /// Asks, and gives the one answer; errors become [`Refused`].
    pub fn ask_one(&mut self, request: &Message) -> Result<Message> {
        let mut answer = None;
        self.ask(request, |d| answer = Some(d))?;
        let d = answer.context("no answer")?;
        match d.message {
            Message::Error(_) => Err(Refused(format_message(&d, &Names::default())).into()),
            m => Ok(m),
        }
    }

    /// Sends changes and waits until all are done; the first refusal becomes [`Refused`].
    pub fn change(&mut self, changes: &[Message]) -> Result<()> {
        /// Changes between two barriers: both ends' socket buffers hold the answers to these.
        const BATCH: usize = 100;
        for batch in changes.chunks(BATCH) {
            let mut sent = Vec::with_capacity(batch.len());
            for m in batch {
                sent.push(self.send(m)?);
            }
            let barrier = self.send(&Message::BarrierRequest)?;
            let mut refused = None;
            loop {
                let d = self.receive()?;
                if d.xid == barrier {
                    break;
                }
                if matches!(d.message, Message::Error(_)) && sent.contains(&d.xid) {
                    refused.get_or_insert_with(|| format_message(&d, &Names::default()));
                }
            }
            if let Some(text) = refused {
                return Err(Refused(text).into());
            }
        }
        Ok(())
    }
}
