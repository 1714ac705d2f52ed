//! A thousand clients that each monitor everything, while one writes.
//!
//! One thread reads what the thousand are told and throws it away; another is the writer, who waits for each answer. In the end all must
//! have been told the same.

use super::alternate;
use super::client::{Client, Requests, transaction};
use super::server::{Server, Sync};
use crate::metric::{Table, Want, median};
use crate::peers::Peer;
use crate::scenario::Scenario;
use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 1000;
/// For which the writer writes.
const WINDOW: Duration = Duration::from_secs(3);
/// Without a byte to anybody all has been told.
const QUIET: Duration = Duration::from_millis(500);

const MONITOR: &str = r#"{"id":0,"method":"monitor_cond","params":["Open_vSwitch",null,{"Queue":[{"columns":["dscp","external_ids","other_config"]}]}]}"#;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "ovsdb/clients",
        "1,000 clients each monitor everything while one writes: the writer's longest wait, its rate, memory",
        |run, name| {
            run.table
                .want(&format!("{name}.longest-wait"), Want::AtMost(100.0));
            allow_descriptors(2 * CLIENTS as u64 + 100)?;
            let clients = if run.smoke { CLIENTS / 20 } else { CLIENTS };
            alternate(run, name, |kind, table| sample(kind, name, clients, table))
        },
    )]
}

fn sample(kind: Peer, name: &str, clients: usize, table: &mut Table) -> Result<()> {
    let server = Server::start(kind, Sync::Lazy, None)?;
    let listeners = Listeners::connect(&server.socket(), clients)?;
    let before = server.memory()?.0;
    let over = AtomicBool::new(false);
    let (waits, told) = std::thread::scope(|s| {
        let told = s.spawn(|| listeners.drain(&over));
        let waits = write(&server.socket());
        over.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>((waits?, told.join().expect("does not panic")?))
    })?;
    ensure!(
        told.iter().all(|n| *n == told[0] && *n > 0),
        "not all were told the same: {} to {} bytes",
        told.iter().min().unwrap_or(&0),
        told.iter().max().unwrap_or(&0)
    );
    let milliseconds: Vec<f64> = waits.iter().map(|w| w.as_secs_f64() * 1e3).collect();
    let longest = milliseconds.iter().copied().fold(0.0, f64::max);
    table.add(&format!("{name}.longest-wait"), "ms", kind, longest, None);
    let middle = median(&milliseconds);
    table.add(&format!("{name}.median-wait"), "ms", kind, middle, None);
    let (_, most) = server.memory()?;
    let memory = |metric: &str| format!("{name}.memory-{metric}");
    table.add(&memory("connected"), "MB", kind, before / 1e6, None);
    table.add(&memory("peak"), "MB", kind, most / 1e6, None);
    Ok(())
}

/// Inserts rows one after the other; how long each took.
fn write(socket: &Path) -> Result<Vec<Duration>> {
    let mut client = Client::connect(socket)?;
    let requests = Requests::new(50_000, |i, out| transaction(i, i, i + 1, false, out));
    let start = Instant::now();
    (0..requests.len())
        .map_while(|i| (start.elapsed() < WINDOW).then(|| client.ask(requests.get(i))))
        .collect()
}

/// Those who are told everything.
struct Listeners(Vec<UnixStream>);

impl Listeners {
    fn connect(socket: &Path, count: usize) -> Result<Listeners> {
        let mut list = vec![];
        for i in 0..count {
            let mut client = Client::connect(socket).with_context(|| format!("client {i}"))?;
            client.ask(MONITOR.as_bytes())?;
            let stream = client.into_stream();
            stream.set_nonblocking(true)?;
            list.push(stream);
        }
        Ok(Listeners(list))
    }

    /// Reads until it is over and nothing comes any more; bytes that each was told.
    fn drain(&self, over: &AtomicBool) -> Result<Vec<u64>> {
        // SAFETY: makes a descriptor, which is owned at once.
        let epoll = unsafe {
            use std::os::fd::{FromRawFd, OwnedFd};
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            ensure!(fd >= 0, "no epoll: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        for (i, s) in self.0.iter().enumerate() {
            let mut event = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: i as u64,
            };
            // SAFETY: both descriptors are open and the event lives through the call.
            let r = unsafe {
                libc::epoll_ctl(
                    epoll.as_raw_fd(),
                    libc::EPOLL_CTL_ADD,
                    s.as_raw_fd(),
                    &mut event,
                )
            };
            ensure!(r == 0, "epoll: {}", std::io::Error::last_os_error());
        }
        let mut told = vec![0; self.0.len()];
        let mut buffer = vec![0; 1 << 16];
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        loop {
            // SAFETY: the list lives through the call and is as long as is said.
            let n = unsafe {
                libc::epoll_wait(
                    epoll.as_raw_fd(),
                    events.as_mut_ptr(),
                    events.len() as i32,
                    QUIET.as_millis() as i32,
                )
            };
            if n <= 0 {
                if over.load(Ordering::Relaxed) {
                    return Ok(told);
                }
                continue;
            }
            for e in &events[..n as usize] {
                let i = e.u64 as usize;
                match (&self.0[i]).read(&mut buffer) {
                    Ok(0) => anyhow::bail!("the server has cut off client {i}"),
                    Ok(n) => told[i] += n as u64,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
}

/// Lets this program and its children have so many descriptors.
fn allow_descriptors(count: u64) -> Result<()> {
    // SAFETY: plain system calls over a structure on the stack.
    let done = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_cur.max(count);
        limit.rlim_max = limit.rlim_max.max(count);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    ensure!(
        done == 0,
        "{count} descriptors are not allowed: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
