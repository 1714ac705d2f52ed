//! The console of a guest: what it writes is kept (the last 256 KiB) and given to any number of
//! readers, each at its own pace; what people type waits until the guest takes it.
//!
//! A guest never waits for a reader: a reader that falls behind by more than is kept misses the
//! part between.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::ConsoleConfig;
use crate::error::{Context, Result};
use crate::poll::{self, Wake};

/// Bytes of output that are kept.
pub const KEPT: usize = 256 << 10;
/// Bytes of input that wait for the guest; more are refused.
pub const MAX_INPUT: usize = 64 << 10;
/// Clients of a console socket at a time.
const MAX_CLIENTS: usize = 16;
/// How long a client may refuse to take output before it is dropped.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Output {
    kept: VecDeque<u8>,
    /// Bytes ever written.
    end: u64,
    closed: bool,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// A guest's console.
#[derive(Default)]
pub struct Console {
    output: Mutex<Output>,
    more: Condvar,
    input: Mutex<VecDeque<u8>>,
    hook: Mutex<Option<Hook>>,
}

/// A poisoned lock only means that some thread panicked; the bytes are still bytes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Console {
    /// A console nobody listens to yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Adds output of the guest.
    pub fn output(&self, bytes: &[u8]) {
        let mut out = lock(&self.output);
        out.kept.extend(bytes);
        let extra = out.kept.len().saturating_sub(KEPT);
        out.kept.drain(..extra);
        out.end += bytes.len() as u64;
        drop(out);
        self.more.notify_all();
    }

    /// Ends the output: readers get the end of file.
    pub fn close(&self) {
        lock(&self.output).closed = true;
        self.more.notify_all();
    }

    /// Types `bytes`.
    ///
    /// # Errors
    /// `WouldBlock` when the guest leaves too much input untaken ([`MAX_INPUT`]).
    pub fn write_input(&self, bytes: &[u8]) -> io::Result<()> {
        {
            let mut input = lock(&self.input);
            if input.len() + bytes.len() > MAX_INPUT {
                return Err(io::Error::new(
                    ErrorKind::WouldBlock,
                    "the guest does not take its console input",
                ));
            }
            input.extend(bytes);
        }
        self.call_hook();
        Ok(())
    }

    /// Takes up to `max` bytes of input.
    pub fn take_input(&self, max: usize) -> Vec<u8> {
        let mut input = lock(&self.input);
        let n = input.len().min(max);
        input.drain(..n).collect()
    }

    /// Has `hook` called whenever there is new input (and now).
    pub fn on_input(&self, hook: impl Fn() + Send + Sync + 'static) {
        *lock(&self.hook) = Some(Arc::new(hook));
        self.call_hook();
    }

    /// Drops the hook, and with it what it holds.
    pub fn no_hook(&self) {
        *lock(&self.hook) = None;
    }

    fn call_hook(&self) {
        let hook = lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// A reader that begins with the oldest byte that is kept.
    pub fn reader(self: &Arc<Self>) -> ConsoleReader {
        ConsoleReader {
            console: self.clone(),
            at: 0,
            line: Vec::new(),
        }
    }
}

/// Reads a console's output; [`Read::read`] waits for more.
pub struct ConsoleReader {
    console: Arc<Console>,
    at: u64,
    line: Vec<u8>,
}

impl ConsoleReader {
    /// The console it reads.
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// Reads what there is; waits for something until `deadline` (for ever without one). `None`
    /// when the deadline passed, 0 at the end.
    pub fn read_until(&mut self, buf: &mut [u8], deadline: Option<Instant>) -> Option<usize> {
        let mut out = lock(&self.console.output);
        loop {
            let start = out.end - out.kept.len() as u64;
            self.at = self.at.max(start);
            if self.at < out.end {
                let skip = (self.at - start) as usize;
                let n = (out.kept.len() - skip).min(buf.len());
                for (to, from) in buf.iter_mut().zip(out.kept.range(skip..skip + n)) {
                    *to = *from;
                }
                self.at += n as u64;
                return Some(n);
            }
            if out.closed {
                return Some(0);
            }
            out = match deadline {
                None => self
                    .console
                    .more
                    .wait(out)
                    .unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let waited = self.console.more.wait_timeout(out, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
    }

    /// The next whole line, without its end. `None` when there is none before `deadline`, or the
    /// console was closed.
    pub fn line(&mut self, deadline: Instant) -> Option<String> {
        let mut byte = [0];
        loop {
            if self.read_until(&mut byte, Some(deadline))? == 0 && self.line.is_empty() {
                return None;
            }
            match byte[0] {
                b'\n' | 0 => {
                    let line = std::mem::take(&mut self.line);
                    let text = String::from_utf8_lossy(&line);
                    return Some(text.trim_end_matches('\r').to_owned());
                }
                b => self.line.push(b),
            }
            byte[0] = 0;
        }
    }

    /// The next line that contains `text`; lines before it are skipped. `None` when `timeout`
    /// passes first or the console is closed.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let line = self.line(deadline)?;
            if line.contains(text) {
                return Some(line);
            }
        }
    }
}

impl Read for ConsoleReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_until(buf, None).unwrap_or(0))
    }
}

/// The threads that carry a console to where its configuration says.
pub(crate) struct Outlets {
    stop: Arc<Wake>,
    writers: Vec<JoinHandle<()>>,
    socket: Option<(JoinHandle<()>, std::path::PathBuf)>,
}

impl Outlets {
    /// Starts them.
    pub(crate) fn start(console: &Arc<Console>, config: &ConsoleConfig) -> Result<Self> {
        let stop = Arc::new(Wake::new()?);
        let mut writers = Vec::new();
        if let Some(path) = &config.file {
            let file = File::create(path).context(|| format!("console {}", path.display()))?;
            writers.push(copy_to(console.reader(), file)?);
        }
        let mut socket = None;
        if let Some(path) = &config.socket {
            let listener = poll::listen(path)?;
            let (console, stop) = (console.clone(), stop.clone());
            let thread = spawn("console", move || serve(&listener, &console, &stop))?;
            socket = Some((thread, path.clone()));
        }
        if config.stdio {
            writers.push(copy_to(console.reader(), io::stdout())?);
            let console = console.clone();
            // Ends with the process: nothing can interrupt a read of standard input.
            spawn("console-in", move || type_from(io::stdin(), &console))?;
        }
        Ok(Outlets {
            stop,
            writers,
            socket,
        })
    }

    /// Waits until everything is written; the console must be closed.
    pub(crate) fn finish(&mut self) {
        for thread in self.writers.drain(..) {
            let _ = thread.join();
        }
        self.stop.wake();
        if let Some((thread, path)) = self.socket.take() {
            let _ = thread.join();
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Starts a thread with a name.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .context(|| format!("starting thread {name}"))
}

fn copy_to(mut from: ConsoleReader, mut to: impl Write + Send + 'static) -> Result<JoinHandle<()>> {
    spawn("console-out", move || {
        let mut buf = [0; 4096];
        while let Some(n @ 1..) = from.read_until(&mut buf, None) {
            if to.write_all(&buf[..n]).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    })
}

fn type_from(mut from: impl Read, console: &Console) {
    let mut buf = [0; 1024];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return,
            Ok(n) => {
                // Too much untaken input is lost, as on a real serial line.
                let _ = console.write_input(&buf[..n]);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn serve(listener: &UnixListener, console: &Arc<Console>, stop: &Wake) {
    let clients = Arc::new(AtomicUsize::new(0));
    while poll::readable(listener, stop) {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (console, clients) = (console.clone(), clients.clone());
        let _ = spawn("console-client", move || {
            client(stream, &console);
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn client(stream: UnixStream, console: &Arc<Console>) {
    let Ok(typed) = stream.try_clone() else {
        return;
    };
    let _ = stream.set_write_timeout(Some(CLIENT_PATIENCE));
    let Ok(closer) = stream.try_clone() else {
        return;
    };
    let Ok(writer) = copy_to(console.reader(), SocketOut(stream)) else {
        return;
    };
    type_from(typed, console);
    let _ = closer.shutdown(std::net::Shutdown::Both);
    // Output to a client that left ends with the next byte, or with the console.
    drop(writer);
}

/// A socket that is shut down when its writer ends, so that its reader ends too.
struct SocketOut(UnixStream);

impl Write for SocketOut {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for SocketOut {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn every_reader_gets_everything() {
        let console = Console::new();
        let mut early = console.reader();
        console.output(b"one\r\ntw");
        let mut late = console.reader();
        console.output(b"o\nend");
        console.close();
        for reader in [&mut early, &mut late] {
            let lines: Vec<_> = std::iter::from_fn(|| reader.line(Instant::now() + SOON)).collect();
            assert_eq!(lines, ["one", "two", "end"]);
        }
    }

    #[test]
    fn keeps_a_bounded_part() {
        let console = Console::new();
        let mut reader = console.reader();
        console.output(&vec![b'a'; KEPT]);
        console.output(b"b");
        let mut buf = vec![0; KEPT + 10];
        assert_eq!(reader.read_until(&mut buf, None), Some(KEPT));
        assert_eq!(buf[KEPT - 1], b'b');
        assert_eq!(reader.read_until(&mut buf, Some(Instant::now())), None);
    }

    #[test]
    fn input_waits_and_is_bounded() {
        let console = Console::new();
        console.write_input(&vec![b'x'; MAX_INPUT]).unwrap();
        assert!(console.write_input(b"y").is_err());
        assert_eq!(console.take_input(3), b"xxx");
        console.write_input(b"y").unwrap();
    }

    #[test]
    fn socket_clients_read_and_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = Console::new();
        console.output(b"hello\n");
        let config = ConsoleConfig {
            socket: Some(path.clone()),
            ..Default::default()
        };
        let mut outlets = Outlets::start(&console, &config).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let mut buf = [0; 6];
        client.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello\n");
        let (tx, rx) = std::sync::mpsc::channel();
        console.on_input(move || {
            let _ = tx.send(());
        });
        client.write_all(b"ping\n").unwrap();
        while console.take_input(1).is_empty() {
            rx.recv_timeout(SOON).unwrap();
        }
        console.close();
        outlets.finish();
        assert_eq!(client.read(&mut buf).unwrap(), 0);
        assert!(!path.exists());
    }
}
