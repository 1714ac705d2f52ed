//! A demo guest: started by `weir vm run`, driven by lines on its console.

use super::lab::Lab;
use super::report::Report;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest wait for a guest to report what it was told to do, beyond the time the job itself takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a guest runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A virtual machine.
    Kvm,
    /// A process that speaks vhost-user.
    Process,
}

impl Kind {
    /// For the summary.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Kvm => "KVM guests on vhost-user ports",
            Kind::Process => "guest processes on vhost-user ports",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Kind::Kvm => "kvm",
            Kind::Process => "process",
        }
    }
}

/// KVM where it can be used; says so where it cannot.
pub fn kind(without_kvm: bool, report: &Report) -> Kind {
    if without_kvm {
        report.note(
            "Without KVM, as asked: the guest program runs as processes that speak vhost-user.",
        );
        return Kind::Process;
    }
    match vmm_net::kvm_usable() {
        Ok(()) => Kind::Kvm,
        Err(reason) => {
            report.note(&format!("KVM cannot be used here ({reason}): the guest program runs as processes that speak vhost-user."));
            Kind::Process
        }
    }
}

/// How a ping ended.
pub struct Ping {
    /// Requests.
    pub sent: u64,
    /// Replies.
    pub received: u64,
    best_us: String,
}

impl Ping {
    /// The shortest round trip.
    pub fn best(&self) -> String {
        format!("{} µs", self.best_us)
    }
}

/// What of a train arrived.
pub struct Train {
    /// Frames.
    pub packets: u64,
    /// From the first to the last.
    pub duration: Duration,
}

/// A started guest.
pub struct Guest {
    /// As `weir vm` knows it.
    pub name: String,
    console: BufReader<UnixStream>,
    input: UnixStream,
}

/// One report of a guest: its first word and its `key=value` pairs.
struct Said {
    text: String,
    pairs: BTreeMap<String, String>,
}

impl Said {
    fn number(&self, key: &str) -> Result<u64> {
        self.pairs
            .get(key)
            .and_then(|v| v.parse().ok())
            .with_context(|| format!("the guest said no number for {key}: {}", self.text))
    }
}

impl Guest {
    /// Starts a guest on a new port NAME0 of the bridge, and waits until it is ready.
    pub fn start(
        lab: &Lab,
        report: &Report,
        name: &str,
        address: &str,
        kind: Kind,
    ) -> Result<Guest> {
        lab.weir(
            report,
            &format!(
                "vm run {name} --bridge {} --port {name}0 --as {} --append ip={address} --detach",
                super::BRIDGE,
                kind.option()
            ),
        )?;
        let path = lab.run_dir.join("vm").join(format!("{name}.console"));
        let mut console = None;
        lab.until("the guest's console", || {
            console = UnixStream::connect(&path).ok();
            Ok(console.is_some())
        })?;
        let input = console.context("no console")?;
        input.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut guest = Guest {
            name: name.to_owned(),
            console: BufReader::new(input.try_clone()?),
            input,
        };
        // Whatever it said before we listened: it answers now if it is up.
        guest.ask("stats", "stats", PATIENCE)?;
        Ok(guest)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").with_context(|| format!("{}'s console is gone", self.name))
    }

    /// The next report that begins with `word`.
    fn hear(&mut self, word: &str, limit: Duration) -> Result<Said> {
        let end = Instant::now() + limit;
        let mut line = String::new();
        loop {
            match self.console.read_line(&mut line) {
                Ok(0) => bail!("{} has ended", self.name),
                Ok(_) if line.ends_with('\n') => {
                    if let Some(text) = line.trim().strip_prefix("weir-guest: ") {
                        if let Some(error) = text.strip_prefix("error:") {
                            bail!("{}: {}", self.name, error.trim());
                        }
                        if text.split(' ').next() == Some(word) {
                            let pairs = text
                                .split(' ')
                                .filter_map(|p| p.split_once('='))
                                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                                .collect();
                            return Ok(Said {
                                text: text.to_owned(),
                                pairs,
                            });
                        }
                    }
                    line.clear();
                }
                // Half a line: the rest comes with the next read.
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).context("reading the console"),
            }
            ensure!(
                Instant::now() < end,
                "{} did not report \"{word}\" within {limit:?}",
                self.name
            );
        }
    }

    fn ask(&mut self, line: &str, word: &str, limit: Duration) -> Result<Said> {
        self.say(line)?;
        self.hear(word, limit)
    }

    /// Pings, and waits for the outcome. No answer at all is an outcome too.
    pub fn ping(&mut self, report: &Report, address: &str, count: u64) -> Result<Ping> {
        let line = format!("ping {address} count={count} interval=50 timeout=500");
        report.command(&format!("{}> {line}", self.name));
        let said = match self.ask(&line, "ping-done", PATIENCE) {
            Ok(said) => said,
            Err(e) if e.to_string().contains("does not answer ARP") => {
                report.output(&format!("{e}"));
                return Ok(Ping {
                    sent: count,
                    received: 0,
                    best_us: "0".into(),
                });
            }
            Err(e) => return Err(e),
        };
        report.output(&said.text);
        Ok(Ping {
            sent: said.number("sent")?,
            received: said.number("received")?,
            best_us: said.pairs.get("min_us").cloned().unwrap_or_default(),
        })
    }

    /// Sends a train of frames to `to` for a while; what arrived there.
    pub fn train(
        from: &mut Guest,
        to: &mut Guest,
        report: &Report,
        address: &str,
        size: usize,
        window: Duration,
    ) -> Result<Train> {
        let line = format!(
            "train dst={address} size={size} seconds={}",
            window.as_secs()
        );
        report.command(&format!("{}> {line}", from.name));
        let sent = from.ask(&line, "train-sent", window + PATIENCE)?;
        report.output(&sent.text);
        let received = to.hear("train-received", PATIENCE)?;
        report.output(&received.text);
        Ok(Train {
            packets: received.number("packets")?,
            duration: Duration::from_nanos(received.number("ns")?.max(1)),
        })
    }

    /// Stops it and takes its port away.
    pub fn stop(self, lab: &Lab, report: &Report) -> Result<()> {
        lab.weir(report, &format!("vm stop {}", self.name))
            .map(drop)
    }
}
