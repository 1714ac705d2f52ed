//! The control thread of a vhost-user port: finds the monitor, talks to it, tidies up when it goes, and begins again.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::lookout::Lookout;
use super::message::{Decoder, HEADER, MAX_BODY};
use super::session::{MAX_QUEUES, Session};
use super::{PortQueues, Shared};
use crate::sys::{self, unix};

/// First pause before connecting again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, so that a guest that boots is served soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// The same while there is no socket and one that appears would be noticed.
const LONGEST_WATCH: Duration = Duration::from_secs(30);
/// How often queues are looked at for errors while nothing is said.
const CHECK: Duration = Duration::from_millis(1000);
/// Refused requests of one connection that are written to the log; a hostile monitor must not fill the disk.
const COMPLAINTS: u32 = 10;
/// Messages handled before looking at the other descriptors again.
const BURST: usize = 64;

/// How the monitor is found.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// We connect to its socket.
    Client(PathBuf),
    /// It connects to ours.
    Server(UnixListener, PathBuf),
}

impl Endpoint {
    /// Makes the listening socket of a server port. A socket that nobody listens to any more is replaced.
    pub(super) fn listen(path: &Path) -> io::Result<Endpoint> {
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            match unix::connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?
                }
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "somebody listens there already",
                    ));
                }
            }
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Endpoint::Server(listener, path.to_owned()))
    }

    /// The socket's path.
    pub(super) fn path(&self) -> &Path {
        match self {
            Endpoint::Client(path) | Endpoint::Server(_, path) => path,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Endpoint::Server(_, path) = self {
            // If somebody removed it already, that is what we wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why a wait or a conversation ended.
enum End {
    /// The port is being closed.
    Stop,
    /// The monitor went, or cannot be talked to: why.
    Lost(String),
}

/// Runs until the port is closed.
pub(super) fn run(shared: &Arc<Shared>, endpoint: &Endpoint) {
    let mut pause = FIRST_PAUSE;
    let mut lookout = None;
    loop {
        if let Endpoint::Client(path) = endpoint
            && lookout.as_ref().is_none_or(Lookout::is_lost)
        {
            lookout = Lookout::new(path);
        }
        let end = match find(shared, endpoint) {
            Ok(stream) => {
                let (end, negotiated) = talk(shared, &stream);
                // Who only connects and hangs up is not hurried after.
                if negotiated {
                    pause = FIRST_PAUSE;
                }
                end
            }
            Err(end) => end,
        };
        let End::Lost(reason) = end else { return };
        shared.disconnected(reason);
        let stop = shared.stop.as_raw_fd();
        if let Some(lookout) = lookout.as_mut().filter(|l| l.is_sure_of_nothing()) {
            match lookout.wait(stop, LONGEST_WATCH) {
                Ok(true) => pause = FIRST_PAUSE,
                Ok(false) | Err(_) => return,
            }
            continue;
        }
        match sys::poll([(stop, false)], pause.as_millis() as i32) {
            Ok([stop]) if !stop.read => {}
            _ => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn find(shared: &Shared, endpoint: &Endpoint) -> Result<UnixStream, End> {
    let path = endpoint.path().display();
    match endpoint {
        Endpoint::Client(path_) => unix::connect(path_)
            .map_err(|e| End::Lost(format!("waiting for {path}: {}", plain(&e)))),
        Endpoint::Server(listener, _) => {
            shared.waiting(format!("waiting for a connection on {path}"));
            let ready = sys::poll(
                [
                    (listener.as_raw_fd(), false),
                    (shared.stop.as_raw_fd(), false),
                ],
                -1,
            );
            match ready {
                Ok([_, stop]) if stop.read => return Err(End::Stop),
                Ok(_) => {}
                Err(e) => return Err(End::Lost(format!("waiting on {path}: {}", plain(&e)))),
            }
            let (stream, _) = listener
                .accept()
                .map_err(|e| End::Lost(format!("accept on {path}: {}", plain(&e))))?;
            Ok(stream)
        }
    }
}

/// An error without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// One conversation, from connected to closed. All queues are stopped when it returns. Says also whether features were
/// negotiated.
fn talk(shared: &Arc<Shared>, stream: &UnixStream) -> (End, bool) {
    let mut session = Session::default();
    shared.connected();
    let end = converse(shared, stream, &mut session);
    let negotiated = session.summary().features.is_some();
    session.close(&mut PortQueues(shared));
    (end, negotiated)
}

fn converse(shared: &Arc<Shared>, stream: &UnixStream, session: &mut Session) -> End {
    let fd = stream.as_raw_fd();
    let mut decoder = Decoder::default();
    let mut complaints = 0;
    let mut buffer = [0u8; HEADER + MAX_BODY];
    loop {
        let ready = sys::poll(
            [(fd, false), (shared.stop.as_raw_fd(), false)],
            CHECK.as_millis() as i32,
        );
        match ready {
            Ok([_, stop]) if stop.read => return End::Stop,
            Ok(_) => {}
            Err(e) => return End::Lost(plain(&e)),
        }
        for _ in 0..BURST {
            let wanted = decoder.wanted();
            let (n, fds) = match unix::receive(fd, &mut buffer[..wanted]) {
                Ok((0, _)) => return End::Lost("the monitor closed the connection".into()),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return End::Lost(format!("the connection broke: {}", plain(&e))),
            };
            let message = match decoder.push(&buffer[..n], fds) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(e) => return End::Lost(e.to_string()),
            };
            let answer = session.handle(message, &mut PortQueues(shared));
            if let Some(refused) = &answer.refused
                && complaints < COMPLAINTS
            {
                complaints += 1;
                tracing::warn!(port = shared.name, "{refused}");
            }
            shared.negotiated(
                session.summary(),
                answer.refused.as_ref().map(ToString::to_string),
            );
            if answer.fatal {
                return End::Lost(answer.refused.map_or_else(String::new, |r| r.to_string()));
            }
            if let Some(bytes) = answer.bytes
                && !matches!(unix::send(fd, &bytes, &[]), Ok(n) if n == bytes.len())
            {
                return End::Lost("the monitor does not read its answers".into());
            }
        }
        if session.memory_lost() {
            return End::Lost("the monitor truncated the memory it shares".into());
        }
        for index in 0..MAX_QUEUES {
            if let Some(error) = shared.queue_error(index) {
                session.report(index, &error);
                shared.negotiated(session.summary(), None);
            }
        }
    }
}
