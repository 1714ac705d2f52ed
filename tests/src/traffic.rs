//! Traffic between hosts, and how much of it arrives.

use crate::netns::Namespace;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a sender may have on its way: more than any path here needs, less than a queue of a thousand packets holds.
const SEND_BUFFER: libc::c_int = 256 << 10;

/// Bits a second of payload that a TCP connection brings from one namespace to an address in another, over `span` from when it
/// has found its rate.
pub fn tcp_rate(from: &Namespace, to: &Namespace, address: &str, span: Duration) -> f64 {
    let listener = to.enter(|| TcpListener::bind((address, 0)).expect("a port"));
    let at = listener.local_addr().expect("its address");
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut stream = from.enter(|| TcpStream::connect(at).expect("a connection"));
            // SAFETY: four readable bytes at the constant, as their length says.
            let rc = unsafe {
                libc::setsockopt(
                    stream.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_SNDBUF,
                    std::ptr::from_ref(&SEND_BUFFER).cast(),
                    size_of_val(&SEND_BUFFER) as libc::socklen_t,
                )
            };
            assert_eq!(rc, 0, "SO_SNDBUF");
            let block = vec![0; 64 << 10];
            while !stop.load(Ordering::Relaxed) {
                if stream.write_all(&block).is_err() {
                    break;
                }
            }
        });
        let mut stream = listener.accept().expect("a connection").0;
        let mut block = vec![0; 256 << 10];
        // What bursts at the beginning is not the rate.
        let began = Instant::now();
        while began.elapsed() < span / 3 {
            assert_ne!(
                stream.read(&mut block).expect("data"),
                0,
                "the sender ended"
            );
        }
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed() < span {
            bytes += stream.read(&mut block).expect("data");
        }
        let rate = bytes as f64 * 8.0 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

/// UDP datagrams that are sent, evenly, until it is dropped.
pub struct Flood {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    /// Datagrams of `payload` bytes to an address, about `rate` bit/s of them.
    pub fn start(from: &Namespace, to: SocketAddr, payload: usize, rate: u64) -> Flood {
        let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let ours = stop.clone();
        let thread = std::thread::spawn(move || {
            let block = vec![0; payload];
            let (began, mut sent) = (Instant::now(), 0u64);
            while !ours.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_nanos() * u128::from(rate) / 8_000_000_000) as u64;
                while sent < due {
                    // Nobody there, or no room: the next will do.
                    let _ = socket.send_to(&block, to);
                    sent += payload as u64;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Flood {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// Counts the bytes of datagrams that arrive at a socket, until it is dropped.
pub struct Sink {
    /// Where it listens.
    pub at: SocketAddr,
    bytes: std::sync::Arc<AtomicU64>,
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sink {
    /// In a namespace, at an address of it.
    pub fn start(inside: &Namespace, address: &str) -> Sink {
        let socket = inside.enter(|| UdpSocket::bind((address, 0)).expect("a socket"));
        let wait = Some(Duration::from_millis(50));
        socket.set_read_timeout(wait).expect("a time-out");
        let at = socket.local_addr().expect("its address");
        let bytes = std::sync::Arc::new(AtomicU64::new(0));
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (count, end) = (bytes.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut block = [0; 65_536];
            while !end.load(Ordering::Relaxed) {
                if let Ok(n) = socket.recv(&mut block) {
                    count.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
        });
        Sink {
            at,
            bytes,
            stop,
            thread: Some(thread),
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// What several counters grow by in a second, over `span`.
pub fn rates<const N: usize>(span: Duration, mut read: impl FnMut() -> [u64; N]) -> [f64; N] {
    let (before, began) = (read(), Instant::now());
    std::thread::sleep(span);
    let (after, spent) = (read(), began.elapsed().as_secs_f64());
    std::array::from_fn(|i| (after[i] - before[i]) as f64 / spent)
}
