//! `pcap`: capture files in place of a wire. `options:read` names a file whose frames come in; `options:tx_pcap` one that what is
//! sent is written to.
//!
//! Frames come in as fast as they were captured (`speed=original`) or as fast as they are taken (`speed=max`), once or again and
//! again (`loop=true`). `rxq_pcap` and `pcap` write what comes in too, as with dummy ports.
//!
//! Threads: files are read and written by threads of their own, a port at most one of each, with bounded queues between them and
//! the forwarding threads, which never wait for a disk. A reader waits for room; what is sent while the writer has
//! too much to do is dropped and counted.

mod file;
#[cfg(test)]
mod tests;

use super::capture::{self, Captures};
use super::*;
use crate::packet::{PACKET_MAX, segment};
use file::FileReader;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames that wait to be received, or to be written.
const QUEUE: usize = 1024;
/// And their bytes, so that long frames are fewer.
const QUEUE_BYTES: usize = 8 << 20;

/// Frames between a thread that handles a file and one that forwards.
#[derive(Default)]
struct Queue {
    frames: VecDeque<OwnedPacket>,
    bytes: usize,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.frames.len() < QUEUE && self.bytes < QUEUE_BYTES
    }

    fn push(&mut self, packet: OwnedPacket) {
        self.bytes += packet.bytes.len();
        self.frames.push_back(packet);
    }

    fn pop(&mut self) -> Option<OwnedPacket> {
        let packet = self.frames.pop_front()?;
        self.bytes -= packet.bytes.len();
        Some(packet)
    }
}

struct Shared {
    name: String,
    config: Mutex<InterfaceConfig>,
    incoming: Mutex<Queue>,
    /// Incoming frames that wait.
    waiting: AtomicU64,
    /// The reader waits for room, for time to pass, or for the link.
    room: Condvar,
    outgoing: Mutex<Queue>,
    /// The writer waits for frames.
    sent: Condvar,
    up: AtomicBool,
    stop: AtomicBool,
    /// Whether all of the file was read.
    finished: AtomicBool,
    /// What is wrong with a file.
    error: Mutex<Option<String>>,
    /// Frames of the file that are no frames of a switch's: too short or too long.
    bad: AtomicU64,
    changes: AtomicU64,
    resets: LinkResets,
    wake: OwnedFd,
}

impl Shared {
    fn fail(&self, why: String) {
        *self.error.lock() = Some(why);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What a file is read for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Play {
    path: String,
    again: bool,
    /// As fast as it was captured, or as can be.
    original: bool,
}

impl Play {
    fn from(config: &InterfaceConfig) -> Result<Option<Play>, PortError> {
        let wrong = |option: &str, problem: String| PortError::Option {
            name: config.name.clone(),
            option: option.into(),
            problem,
        };
        let options = &config.options;
        let known = ["read", "loop", "speed"];
        let unknown =
            |o: &&String| !known.contains(&o.as_str()) && !capture::OPTIONS.contains(&o.as_str());
        if let Some(option) = options.keys().find(unknown) {
            let problem = "a pcap port takes read, loop, speed, tx_pcap, rxq_pcap and pcap";
            return Err(wrong(option, problem.into()));
        }
        let again = match options.get("loop").map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(v) => return Err(wrong("loop", format!("\"{v}\" is neither true nor false"))),
        };
        let original = match options.get("speed").map(String::as_str) {
            None | Some("original") => true,
            Some("max") => false,
            Some(v) => {
                return Err(wrong(
                    "speed",
                    format!("\"{v}\" is neither original nor max"),
                ));
            }
        };
        let Some(path) = options.get("read").cloned() else {
            if !capture::OPTIONS.iter().any(|o| options.contains_key(*o)) {
                let problem = "a pcap port needs a file to read, or tx_pcap, one to write";
                return Err(wrong("read", problem.into()));
            }
            return match ["loop", "speed"].iter().find(|o| options.contains_key(**o)) {
                Some(o) => Err(wrong(o, "is of no use without read".into())),
                None => Ok(None),
            };
        };
        Ok(Some(Play {
            path,
            again,
            original,
        }))
    }
}

/// Opens a port of type `pcap`.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    let play = Play::from(config)?;
    let system = |what: &str| {
        let (name, what) = (config.name.clone(), what.to_owned());
        move |source| PortError::System { name, what, source }
    };
    // Whether it can be read is said at once.
    let file = match &play {
        None => None,
        Some(p) => {
            Some(
                FileReader::open(Path::new(&p.path)).map_err(|problem| PortError::Option {
                    name: config.name.clone(),
                    option: "read".into(),
                    problem,
                })?,
            )
        }
    };
    let captures = Captures::open(config)?;
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|e| system("eventfd")(e.into()))?;
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        config: Mutex::new(config.clone()),
        incoming: Mutex::default(),
        waiting: AtomicU64::new(0),
        room: Condvar::new(),
        outgoing: Mutex::default(),
        sent: Condvar::new(),
        up: AtomicBool::new(true),
        stop: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        error: Mutex::default(),
        bad: AtomicU64::new(0),
        changes: AtomicU64::new(0),
        resets: LinkResets::new(context),
        wake,
    });
    let control = Control {
        shared: shared.clone(),
        threads: Mutex::default(),
    };
    let writes = captures.tx.is_some();
    if let (Some(play), Some(file)) = (play, file) {
        let (shared, capture) = (shared.clone(), captures.rx.clone());
        let work = move || read(&shared, &play, file, capture.as_deref());
        control.spawn("pcap-read", work).map_err(system("thread"))?;
    }
    if let Some(file) = captures.tx {
        let shared = shared.clone();
        let work = move || write(&shared, &file);
        control
            .spawn("pcap-write", work)
            .map_err(system("thread"))?;
    }
    Ok(OpenPort {
        port: Arc::new(control),
        rx: vec![Box::new(Rx {
            shared: shared.clone(),
            held: Vec::new(),
        })],
        tx: vec![Box::new(Tx { shared, writes })],
    })
}

/// The reader's thread.
fn read(shared: &Shared, play: &Play, mut file: FileReader, capture: Option<&std::fs::File>) {
    let mut began: Option<(Instant, Duration)> = None;
    let mut any = false;
    while !shared.is_stopped() {
        let frame = match file.next() {
            Ok(Some(frame)) => frame,
            Ok(None) if play.again && any => match FileReader::open(Path::new(&play.path)) {
                Ok(again) => {
                    (file, began, any) = (again, None, false);
                    continue;
                }
                Err(why) => return shared.fail(why),
            },
            Ok(None) => {
                shared.finished.store(true, Ordering::Release);
                shared.changes.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(why) => return shared.fail(why),
        };
        if !(14..=PACKET_MAX).contains(&frame.bytes.len()) {
            shared.bad.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        any = true;
        let due = play.original.then(|| {
            let (start, first) = *began.get_or_insert((Instant::now(), frame.time));
            start + frame.time.saturating_sub(first)
        });
        let mut queue = shared.incoming.lock();
        loop {
            if shared.is_stopped() {
                return;
            }
            if !queue.has_room() || !shared.up.load(Ordering::Acquire) {
                shared.room.wait(&mut queue);
            } else if let Some(due) = due.filter(|d| *d > Instant::now()) {
                shared.room.wait_until(&mut queue, due);
            } else {
                break;
            }
        }
        if let Some(file) = capture
            && let Err(e) = capture::append(file, &frame.bytes)
        {
            shared.fail(format!("rxq_pcap: {e}"));
        }
        queue.push(OwnedPacket::new(frame.bytes));
        let was = shared
            .waiting
            .swap(queue.frames.len() as u64, Ordering::AcqRel);
        drop(queue);
        // Who found it empty may sleep.
        if was == 0 {
            let _ = rustix::io::write(&shared.wake, &1u64.to_ne_bytes());
        }
    }
}

/// The writer's thread.
fn write(shared: &Shared, file: &std::fs::File) {
    let mut scratch = Vec::new();
    let mut batch = VecDeque::new();
    loop {
        let mut queue = shared.outgoing.lock();
        while queue.frames.is_empty() {
            if shared.is_stopped() {
                return;
            }
            shared.sent.wait(&mut queue);
        }
        std::mem::swap(&mut queue.frames, &mut batch);
        queue.bytes = 0;
        drop(queue);
        for mut packet in batch.drain(..) {
            let mut failed = None;
            let each = |frame: &[u8]| failed = capture::append(file, frame).err().or(failed.take());
            let cut = segment::split(&mut packet.bytes, &packet.offload, &mut scratch, each);
            if let Some(e) = failed {
                return shared.fail(format!("tx_pcap: {e}"));
            }
            if cut.is_err() {
                shared.fail("tx_pcap: a frame cannot be cut into segments".to_owned());
            }
        }
    }
}

struct Control {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Control {
    fn spawn(&self, what: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(what.to_owned())
            .spawn(work)?;
        self.threads.lock().push(thread);
        Ok(())
    }
}

impl Port for Control {
    fn status(&self) -> PortStatus {
        let shared = &self.shared;
        let config = shared.config.lock();
        let up = shared.up.load(Ordering::Relaxed);
        let error = shared.error.lock().clone();
        let mut status = BTreeMap::new();
        if config.options.contains_key("read") {
            let state = match (&error, shared.finished.load(Ordering::Acquire)) {
                (Some(_), _) => "failed",
                (None, true) => "finished",
                (None, false) => "playing",
            };
            status.insert("read_state".to_owned(), state.to_owned());
        }
        PortStatus {
            link_up: up,
            admin_up: up,
            mac: config.mac,
            mtu: config.mtu_request.unwrap_or(1500).into(),
            status,
            error,
            ..PortStatus::default()
        }
    }

    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        let mut current = self.shared.config.lock();
        if current.options != config.options {
            return Err(PortError::Other(format!(
                "{}: files of a pcap port are opened with it",
                self.shared.name
            )));
        }
        *current = config.clone();
        Ok(())
    }

    fn link_resets(&self) -> u64 {
        self.shared.resets.get()
    }

    fn change_count(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed) + self.shared.resets.get()
    }

    fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        let _queue = self.shared.incoming.lock();
        if self.shared.up.swap(up, Ordering::AcqRel) != up {
            self.shared.resets.add();
            self.shared.room.notify_all();
        }
        Ok(())
    }

    fn extra_stats(&self) -> BTreeMap<String, u64> {
        let bad = self.shared.bad.load(Ordering::Relaxed);
        BTreeMap::from([("rx_malformed".to_owned(), bad)])
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stop.store(true, Ordering::Release);
        // Taken, so that nobody is between looking and waiting.
        drop(shared.incoming.lock());
        drop(shared.outgoing.lock());
        shared.room.notify_all();
        shared.sent.notify_all();
        // What was sent is written before the port is gone.
        for thread in self.threads.get_mut().drain(..) {
            let _ = thread.join();
        }
    }
}

struct Rx {
    shared: Arc<Shared>,
    held: Vec<OwnedPacket>,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        let shared = &self.shared;
        if shared.waiting.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut queue = shared.incoming.lock();
        let had_room = queue.has_room();
        let mut n = 0;
        while batch.room() > 0 {
            let Some(p) = queue.pop() else { break };
            // SAFETY: the packet is held, its heap bytes unmoved, until `release()`; the batch is cleared before it is used
            // again.
            if unsafe { batch.push_borrowed(&p) } {
                n += 1;
            }
            self.held.push(p);
        }
        shared
            .waiting
            .store(queue.frames.len() as u64, Ordering::Release);
        if !had_room && queue.has_room() {
            shared.room.notify_one();
        }
        n
    }

    fn release(&mut self) {
        self.held.clear();
    }

    fn arm(&mut self) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        self.shared.waiting.load(Ordering::Acquire) > 0
    }

    fn disarm(&mut self) {}

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.shared.wake.as_raw_fd())
    }
}

struct Tx {
    shared: Arc<Shared>,
    /// Whether there is a file that what is sent goes to.
    writes: bool,
}

impl Tx {
    fn push(&self, packets: impl ExactSizeIterator<Item = OwnedPacket>) -> TxOutcome {
        let mut out = TxOutcome::default();
        if !self.writes || !self.shared.up.load(Ordering::Relaxed) {
            out.down = packets.len() as u32;
            return out;
        }
        let mut queue = self.shared.outgoing.lock();
        let was_empty = queue.frames.is_empty();
        for p in packets {
            if queue.has_room() {
                out.packets += 1;
                out.bytes += p.bytes.len() as u64;
                queue.push(p);
            } else {
                out.full += 1;
            }
        }
        if was_empty && !queue.frames.is_empty() {
            self.shared.sent.notify_one();
        }
        out
    }
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        self.push(which.iter().map(|i| batch.to_owned(usize::from(*i))))
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        self.push(std::iter::once(packet.clone()))
    }

    fn flush(&mut self) {}
}
