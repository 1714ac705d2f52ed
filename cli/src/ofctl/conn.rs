//! An OpenFlow connection, as a command-line tool needs it: one thing after the other.

use super::Options;
use anyhow::{Context, Result, anyhow, bail};
use openflow::text::{Names, Protocols, Style, error_name};
use openflow::wire::{self, Decoded, Frame};
use openflow::{BundleId, BundleStep, Hello, Message};
use ovsdb::{Target, Tls};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::exit::words;

/// The port of OpenFlow where none is given.
const PORT: u16 = 6653;

/// The class of its packets: as Open vSwitch's tools mark them (`DSCP_DEFAULT`).
const DSCP: u8 = 48;

/// `OFPT_ECHO_REQUEST` and `OFPT_ECHO_REPLY`, in all versions.
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;

/// Transaction ids, counted through all connections of one run as the stock tool does.
static NEXT_XID: AtomicU32 = AtomicU32::new(1);

/// A new transaction id.
pub fn xid() -> u32 {
    NEXT_XID.fetch_add(1, Ordering::Relaxed)
}

/// What all connections of a run wait in.
///
/// # Errors
/// The system has no descriptors left.
pub fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(r) = RUNTIME.get() {
        return Ok(r);
    }
    let new = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for connections")?;
    Ok(RUNTIME.get_or_init(|| new))
}

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
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    input: Vec<u8>,
    /// How the switch is named in messages: where it was found.
    pub name: String,
    /// The agreed version.
    pub version: u8,
    /// The flow format in use.
    pub protocol: Protocols,
    /// Messages of other versions may come: somebody else's are listened to.
    any_version: bool,
}

/// An answer of the switch that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The address behind a name: `unix:`, `tcp:` and `ssl:` as they are, bridges by their socket.
fn resolve(name: &str, socket: Socket) -> Result<String> {
    if name.contains(':') {
        return Ok(name.to_string());
    }
    let end = match socket {
        Socket::Mgmt => "mgmt",
        Socket::Snoop => "snoop",
    };
    let dir = crate::paths::run_dir(None);
    // `type@name` names a datapath's bridge.
    let bridge = name.rsplit_once('@').map_or(name, |n| n.1);
    let places = [
        Path::new(name).to_path_buf(),
        dir.join(format!("{name}.{end}")),
        dir.join(format!("{bridge}.{end}")),
    ];
    let is_socket = |p: &&std::path::PathBuf| p.metadata().is_ok_and(|m| m.file_type().is_socket());
    match places.iter().find(is_socket) {
        Some(path) => Ok(format!("unix:{}", path.display())),
        None => bail!("{name} is not a bridge or a socket"),
    }
}

/// The target that an address means, with OpenFlow's port where it names none.
fn target(address: &str) -> Result<Target> {
    let unknown = "Address family not supported by protocol";
    let full = match address.split_once(':') {
        Some((kind @ ("tcp" | "ssl"), host)) => {
            let bare = !host.ends_with(']') && host.matches(':').count() == 1;
            let bracketed = host.starts_with('[') && host.contains("]:");
            if bare || bracketed {
                address.to_string()
            } else {
                format!("{kind}:{host}:{PORT}")
            }
        }
        _ => address.to_string(),
    };
    match full.parse::<Target>() {
        Ok(t) if t.is_active() => Ok(t),
        _ => bail!("connecting to {address} ({unknown})"),
    }
}

impl Conn {
    /// Connects and agrees on one of the versions that the options allow.
    ///
    /// # Errors
    /// Nobody is there, or no version is spoken by both.
    pub fn open(o: &Options, name: &str, socket: Socket) -> Result<Conn> {
        let address = resolve(name, socket)?;
        let target = target(&address)?;
        let tls = Tls::new(o.tls.clone())?;
        let runtime = runtime()?;
        let dialled = runtime.block_on(ovsdb::transport::dial(&target, &tls, DSCP));
        let connection = dialled.map_err(|e| match name.contains(':') {
            true => anyhow!("connecting to {name} ({})", words(&e)),
            false => anyhow!("{name}: failed to connect to socket ({})", words(&e)),
        })?;
        let ours = wire::bitmap(&o.versions());
        let highest = wire::highest(ours).context("no OpenFlow version is allowed")?;
        let mut conn = Conn {
            reader: connection.reader,
            writer: connection.writer,
            input: Vec::new(),
            name: address,
            version: highest,
            protocol: Protocols::NONE,
            any_version: socket == Socket::Snoop,
        };
        conn.greet(name, ours, highest)?;
        conn.protocol = Protocols::of_version(conn.version)
            .iter()
            .next()
            .unwrap_or(Protocols::NONE);
        Ok(conn)
    }

    fn greet(&mut self, name: &str, ours: u32, highest: u8) -> Result<()> {
        let hello = Message::Hello(Hello {
            version: highest,
            versions: Some(ours),
        });
        self.send(&hello)?;
        let ended = |e: anyhow::Error| anyhow!("{name}: failed to connect to socket ({e:#})");
        let first = self.frame().map_err(ended)?;
        let first = wire::decode(&first)
            .map_err(|e| anyhow!("{name}: the peer's hello cannot be read: {e}"))?;
        match first.message {
            Message::Hello(theirs) => match wire::negotiate(ours, &theirs) {
                Some(version) => {
                    self.version = version;
                    Ok(())
                }
                None if self.any_version => {
                    self.version = theirs.version;
                    Ok(())
                }
                None => {
                    let text = |v: u8| openflow_version(v).unwrap_or_default();
                    eprintln!(
                        "ovs-ofctl: {}: version negotiation failed (we support version {}, peer supports version {} and earlier)",
                        self.name,
                        text(highest),
                        text(theirs.version)
                    );
                    bail!("{name}: failed to connect to socket (Protocol error)")
                }
            },
            Message::Error(e) => bail!(
                "{name}: the peer refused our hello: {} {}",
                error_name(e.kind),
                String::from_utf8_lossy(&e.data).escape_debug()
            ),
            _ => bail!("{name}: the peer's first message is no hello"),
        }
    }

    /// Sends a message under a new transaction id.
    ///
    /// # Errors
    /// The version cannot say it, or the connection has ended.
    pub fn send(&mut self, message: &Message) -> Result<u32> {
        let xid = xid();
        self.send_as(xid, message)?;
        Ok(xid)
    }

    /// Sends a message under this transaction id.
    ///
    /// # Errors
    /// As [`Conn::send`].
    pub fn send_as(&mut self, xid: u32, message: &Message) -> Result<()> {
        let bytes = wire::encode(self.version, xid, message)?;
        self.send_bytes(&bytes)
    }

    /// Sends bytes that are messages already.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        runtime()?
            .block_on(self.write(bytes))
            .map_err(|e| anyhow!("failed to send packet to switch ({})", words(&e)))
    }

    /// The same for who is in the runtime already.
    ///
    /// # Errors
    /// What the system says.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// The next message that is not an echo request; those are answered.
    ///
    /// # Errors
    /// The connection has ended, or a message cannot be read.
    pub fn receive(&mut self) -> Result<Decoded> {
        let frame = self.next()?;
        wire::decode(&frame).map_err(|e| {
            let text = Style::new(&Names::default()).bytes(&frame);
            anyhow!("received bad reply: {e}\n{text}")
        })
    }

    /// The bytes of the next message that is not an echo request.
    fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            let mut frame = self.frame()?;
            if frame[1] != ECHO_REQUEST {
                return Ok(frame);
            }
            frame[1] = ECHO_REPLY;
            self.send_bytes(&frame)?;
        }
    }

    /// The next message's bytes.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn frame(&mut self) -> Result<Vec<u8>> {
        runtime()?
            .block_on(self.next_frame())
            .map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => anyhow!("OpenFlow packet receive failed (End of file)"),
                _ => anyhow!("OpenFlow packet receive failed ({})", words(&e)),
            })
    }

    /// The same for who is in the runtime already. Nothing is lost if it is dropped before it is
    /// done.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` at the end.
    pub async fn next_frame(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            match wire::frame(&self.input) {
                Frame::Message(n) => {
                    let rest = self.input.split_off(n);
                    return Ok(std::mem::replace(&mut self.input, rest));
                }
                Frame::Broken(h) => {
                    let what = format!("a message of length {}", h.len);
                    return Err(std::io::Error::new(ErrorKind::InvalidData, what));
                }
                Frame::Incomplete => {}
            }
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Asks, and gives each part of the answer to `part`. An error for an answer counts as one.
    ///
    /// # Errors
    /// As [`Conn::receive`].
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

    /// Asks, and shows all parts of the answer, also such as cannot be read.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn show(&mut self, request: &Message, style: &Style<'_>) -> Result<()> {
        let xid = self.send(request)?;
        loop {
            let frame = self.next()?;
            if wire::decode_header(&frame).is_some_and(|h| h.xid == xid) {
                super::commands::out(&style.bytes(&frame));
                if !more_follows(&frame) {
                    return Ok(());
                }
            }
        }
    }

    /// Asks, and gives the one answer, whatever it is.
    ///
    /// # Errors
    /// As [`Conn::receive`].
    pub fn ask_any(&mut self, request: &Message) -> Result<Decoded> {
        let mut answer = None;
        self.ask(request, |d| answer = Some(d))?;
        answer.context("no answer")
    }

    /// Sends a change and waits until it is done, or refused: then that is the answer.
    ///
    /// # Errors
    /// As [`Conn::receive`].
    pub fn try_change(&mut self, change: &Message) -> Result<Option<Decoded>> {
        let sent = self.send(change)?;
        let barrier = self.send(&Message::BarrierRequest)?;
        let mut refused = None;
        loop {
            let d = self.receive()?;
            if d.xid == barrier {
                return Ok(refused);
            }
            if d.xid == sent && matches!(d.message, Message::Error(_)) {
                refused.get_or_insert(d);
            }
        }
    }

    /// Sends changes, one after the other, until one is refused: that becomes [`Refused`].
    ///
    /// # Errors
    /// As [`Conn::receive`], or [`Refused`].
    pub fn change(&mut self, changes: &[Message], style: &Style<'_>) -> Result<()> {
        for m in changes {
            if let Some(d) = self.try_change(m)? {
                return Err(Refused(style.message(&d)).into());
            }
        }
        Ok(())
    }

    /// Makes the connection speak another flow format of its version; false if the switch refuses.
    ///
    /// # Errors
    /// As [`Conn::receive`].
    pub fn try_protocol(&mut self, want: Protocols) -> Result<bool> {
        let own = Protocols::of_version(self.version);
        if !own.contains(want) {
            return Ok(false);
        }
        if self.protocol == want {
            return Ok(true);
        }
        let extended = |p| Protocols::NXM_ANY.contains(p);
        if extended(want) != extended(self.protocol) {
            // NXFF_OPENFLOW10 and NXFF_NXM.
            let format = if extended(want) { 2 } else { 0 };
            if self.try_change(&Message::SetFlowFormat(format))?.is_some() {
                return Ok(false);
            }
        }
        let tables = |p| Protocols::TID.contains(p);
        if tables(want) != tables(self.protocol) {
            let on = tables(want);
            if self.try_change(&Message::FlowModTableId(on))?.is_some() {
                return Ok(false);
            }
        }
        self.protocol = want;
        Ok(true)
    }

    /// Carries out changes all at once, or none: what is refused is told on standard error, and then
    /// the whole is an error.
    ///
    /// # Errors
    /// As [`Conn::receive`], or a change was refused.
    pub fn bundle(&mut self, changes: &[Message], style: &Style<'_>) -> Result<()> {
        let id = BundleId {
            id: 0,
            atomic: true,
            ordered: true,
        };
        let mut errors = Vec::new();
        let mut sent = Vec::new();
        let open = (xid(), Message::BundleControl(BundleStep::OpenRequest, id));
        self.step(&open, &mut errors)?;
        sent.push(open);
        if errors.is_empty() {
            for change in changes {
                let xid = xid();
                let add = Message::BundleAdd(id, xid, Box::new(change.clone()));
                self.send_as(xid, &add)?;
                sent.push((xid, change.clone()));
            }
            let commit = (xid(), Message::BundleControl(BundleStep::CommitRequest, id));
            self.step(&commit, &mut errors)?;
            sent.push(commit);
        }
        if errors.is_empty() {
            return Ok(());
        }
        for e in errors {
            let Message::Error(refused) = &e.message else {
                continue;
            };
            eprint!("Error {} for: ", error_name(refused.kind));
            let inner = Style {
                verbosity: style.verbosity.saturating_sub(1),
                ..*style
            };
            match sent.iter().find(|s| s.0 == e.xid) {
                Some((xid, message)) => eprint!(
                    "{}",
                    inner.message(&Decoded {
                        version: self.version,
                        xid: *xid,
                        more: false,
                        message: message.clone(),
                    })
                ),
                None => eprint!("{}", inner.bytes(&refused.data)),
            }
        }
        bail!("talking to {} (Protocol error)", self.name)
    }

    /// Sends a step of a bundle's life and waits for its answer; all errors that come are gathered.
    fn step(&mut self, (xid, message): &(u32, Message), errors: &mut Vec<Decoded>) -> Result<()> {
        self.send_as(*xid, message)?;
        loop {
            let d = self.receive()?;
            let done = d.xid == *xid;
            if matches!(d.message, Message::Error(_)) {
                errors.push(d);
            }
            if done {
                return Ok(());
            }
        }
    }
}

/// Whether a message is a part of an answer that is not the last.
fn more_follows(frame: &[u8]) -> bool {
    let reply = if frame[0] == wire::OF10 { 17 } else { 19 };
    frame[1] == reply && frame.get(11).is_some_and(|flags| flags & 1 != 0)
}

/// A version as messages name it.
fn openflow_version(v: u8) -> Option<String> {
    (1..=6).contains(&v).then(|| format!("0x{v:02x}"))
}
