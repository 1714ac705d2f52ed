//! A client that costs little: requests are bytes made before the clock starts, answers are only counted.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// Requests one behind the other.
#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Requests {
    /// So many, each written by `write` from its number.
    pub fn new(count: usize, mut write: impl FnMut(usize, &mut String)) -> Requests {
        let mut all = Requests::default();
        let mut text = String::new();
        for i in 0..count {
            text.clear();
            write(i, &mut text);
            all.bytes.extend_from_slice(text.as_bytes());
            all.ends.push(all.bytes.len());
        }
        all
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The first so many.
    pub fn first(&self, count: usize) -> Requests {
        let ends = self.ends[..count.min(self.len())].to_vec();
        Requests {
            bytes: self.range(0, ends.len()).to_vec(),
            ends,
        }
    }

    /// One of them.
    pub fn get(&self, i: usize) -> &[u8] {
        self.range(i, i + 1)
    }

    /// Those from `from` up to but without `to`.
    fn range(&self, from: usize, to: usize) -> &[u8] {
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        let end = if to == 0 { 0 } else { self.ends[to - 1] };
        &self.bytes[start..end]
    }
}

/// Appends the operation that inserts row `i`: what a cloud's agent keeps with a queue, two maps of two entries and a number.
pub fn insert(i: usize, out: &mut String) {
    _ = write!(
        out,
        r#"{{"op":"insert","table":"Queue","row":{{"dscp":{},"other_config":["map",[["max-rate","{}"],["min-rate","1000000"]]],"external_ids":["map",[["iface-id","port-{i:08}"],["vm-id","7c1e2b9a-{:04x}-4d6f-9a52-{i:012x}"]]]}}}}"#,
        i % 64,
        1_000_000 * (i % 1000 + 1),
        i % 65536,
    );
}

/// Transaction number `i` of rows from `from` up to but without `to`.
pub fn transaction(i: usize, from: usize, to: usize, durable: bool, out: &mut String) {
    _ = write!(
        out,
        r#"{{"id":{i},"method":"transact","params":["Open_vSwitch""#
    );
    for row in from..to {
        out.push(',');
        insert(row, out);
    }
    if durable {
        out.push_str(r#",{"op":"commit","durable":true}"#);
    }
    out.push_str("]}");
}

/// Finds where JSON texts end in a stream of them.
#[derive(Default)]
pub struct Scanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Takes bytes up to the end of a text; how many that were, `None` where the text goes on behind all of them.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, &b) in bytes.iter().enumerate() {
            if self.in_string {
                match b {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match b {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(i + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// A connection.
pub struct Client {
    stream: UnixStream,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// The beginning of an answer that is not whole yet.
    part: Vec<u8>,
}

/// What is wrong with an answer, if anything.
fn check(answer: &[u8]) -> Result<()> {
    let has = |what: &[u8]| answer.windows(what.len()).any(|w| w == what);
    // An operation's error has details; the request's own error is null unless it failed.
    ensure!(
        has(br#""error":null"#) && !has(br#""details":"#),
        "the server answered {}",
        String::from_utf8_lossy(&answer[..answer.len().min(400)])
    );
    Ok(())
}

impl Client {
    /// Connects to a Unix socket.
    pub fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            scanner: Scanner::default(),
            buffer: vec![0; CHUNK],
            part: Vec::new(),
        })
    }

    /// The socket, to go on with in another way.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .context("the server does not take requests")
    }

    /// Reads once and hands every message that is whole then to `f`; when the bytes had come.
    pub fn receive(&mut self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<Instant> {
        let n = self
            .stream
            .read(&mut self.buffer)
            .context("no answer from the server")?;
        ensure!(n > 0, "the server closed the connection");
        let at = Instant::now();
        let mut rest = &self.buffer[..n];
        while let Some(end) = self.scanner.end(rest) {
            if self.part.is_empty() {
                f(&rest[..end])?;
            } else {
                self.part.extend_from_slice(&rest[..end]);
                f(&self.part)?;
                self.part.clear();
            }
            rest = &rest[end..];
        }
        self.part.extend_from_slice(rest);
        Ok(at)
    }

    /// Sends one request and waits for its answer; how long that took. `f` sees the answer.
    pub fn ask_with(
        &mut self,
        request: &[u8],
        mut f: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Duration> {
        let start = Instant::now();
        self.send(request)?;
        let mut answered = false;
        loop {
            let at = self.receive(|answer| {
                answered = true;
                f(answer)
            })?;
            if answered {
                return Ok(at - start);
            }
        }
    }

    /// As [`Client::ask_with`], where the answer must tell no error.
    pub fn ask(&mut self, request: &[u8]) -> Result<Duration> {
        self.ask_with(request, check)
    }
}

/// What [`pump`] did.
pub struct Pumped {
    /// Requests answered.
    pub answered: usize,
    /// From the first one sent to the last one answered.
    pub time: Duration,
}

impl Pumped {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.time.as_secs_f64()
    }
}

/// Sends requests from number `from` on, `depth` unanswered ones on each connection, until the time is over or all are sent, and
/// waits for all answers.
pub fn pump(
    clients: &mut [Client],
    requests: &Requests,
    from: usize,
    depth: usize,
    time: Duration,
) -> Result<Pumped> {
    let mut next = from;
    let mut polled: Vec<libc::pollfd> = clients
        .iter()
        .map(|c| libc::pollfd {
            fd: c.stream.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let start = Instant::now();
    let mut last = start;
    for c in clients.iter_mut() {
        let to = (next + depth).min(requests.len());
        c.send(requests.range(next, to))?;
        next = to;
    }
    let mut answered = from;
    let mut over = false;
    while answered < next || (!over && next < requests.len()) {
        if let [_] = polled[..] {
            polled[0].revents = libc::POLLIN;
        } else {
            // SAFETY: the list lives through the call and is as long as is said.
            let n = unsafe {
                libc::poll(
                    polled.as_mut_ptr(),
                    polled.len() as libc::nfds_t,
                    PATIENCE.as_millis() as i32,
                )
            };
            ensure!(n > 0, "no answer from the server");
        }
        for (c, p) in clients.iter_mut().zip(&polled) {
            if p.revents == 0 {
                continue;
            }
            let mut n = 0;
            let at = c.receive(|answer| {
                n += 1;
                check(answer)
            })?;
            last = last.max(at);
            answered += n;
            over |= at - start >= time;
            if !over && n > 0 {
                let to = (next + n).min(requests.len());
                c.send(requests.range(next, to))?;
                next = to;
            }
        }
    }
    Ok(Pumped {
        answered: answered - from,
        time: last - start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_where_they_end() {
        let text = br#"{"a":["}\"]"]} [1]{}"#;
        let mut s = Scanner::default();
        let mut ends = vec![];
        let mut at = 0;
        while let Some(n) = s.end(&text[at..]) {
            at += n;
            ends.push(at);
        }
        assert_eq!(ends, [14, 18, 20]);
    }

    #[test]
    fn requests_are_what_a_server_reads() {
        let all = Requests::new(3, |i, out| transaction(i, i, i + 2, i == 1, out));
        for i in 0..3 {
            let json: serde_json::Value =
                serde_json::from_slice(all.range(i, i + 1)).expect("JSON");
            assert_eq!(json["id"], i);
            assert_eq!(
                json["params"].as_array().map(Vec::len),
                Some(if i == 1 { 4 } else { 3 })
            );
        }
        assert_eq!(all.range(0, 3).len(), all.bytes.len());
    }

    #[test]
    fn errors_are_seen() {
        assert!(check(br#"{"id":1,"result":[{"uuid":["uuid","x"]}],"error":null}"#).is_ok());
        assert!(check(br#"{"id":1,"result":[{"error":"x","details":"y"}],"error":null}"#).is_err());
        assert!(check(br#"{"id":1,"result":null,"error":"unknown method"}"#).is_err());
    }
}
