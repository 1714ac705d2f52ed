//! The demo's switch: a `weir up` of its own in a fresh directory, and the commands that drive it.

use super::guest::{Guest, Train};
use super::report::Report;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running weir, ended (unless kept) when dropped.
pub struct Lab {
    /// Run directory.
    pub run_dir: PathBuf,
    /// Where the controller listens for switches.
    pub openflow: SocketAddr,
    rest: SocketAddr,
    binary: PathBuf,
    up: Option<Child>,
    directory: PathBuf,
    keep: bool,
}

impl Lab {
    /// Starts `weir up` and waits until it answers.
    pub fn start(report: &Report) -> Result<Lab> {
        let directory = fresh_directory()?;
        let run_dir = directory.join("run");
        let (openflow, rest) = free_addresses()?;
        let binary = std::env::current_exe().context("cannot find the weir binary")?;
        let mut lab = Lab {
            run_dir,
            openflow,
            rest,
            binary,
            up: None,
            directory,
            keep: false,
        };
        let db = lab.directory.join("conf.db");
        let words = [
            "up",
            "--run-dir",
            path(&lab.run_dir),
            "--db",
            path(&db),
            "--openflow",
            &openflow.to_string(),
            "--rest",
            &rest.to_string(),
        ]
        .map(str::to_owned);
        report.command(&format!("weir {} &", words.join(" ")));
        report.command(&format!("export OVS_RUNDIR={}", lab.run_dir.display()));
        let log = std::fs::File::create(lab.log())?;
        let child = Command::new(&lab.binary)
            .args(&words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start weir up")?;
        lab.up = Some(child);
        let ready = lab.run_dir.join("ovs-vswitchd.pid");
        let token = lab.run_dir.join("rest.token");
        let (up, log) = (
            lab.up.as_mut().expect("just started"),
            lab.directory.join("weir.log"),
        );
        let end = Instant::now() + PATIENCE;
        while !(ready.exists() && token.exists()) {
            if let Some(status) = up.try_wait()? {
                bail!(
                    "weir up ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            ensure!(
                Instant::now() < end,
                "weir up is not ready after {PATIENCE:?}; its log is {}",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(lab)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("weir.log")
    }

    /// A `weir` command in this lab's run directory.
    pub fn command(&self, line: &str) -> Command {
        let mut c = Command::new(&self.binary);
        c.args(line.split_whitespace())
            .env("OVS_RUNDIR", &self.run_dir)
            .stdin(Stdio::null());
        c
    }

    /// Runs a command that must succeed, without a word; its output.
    pub fn quiet(&self, line: &str) -> Result<String> {
        let out = self.command(line).output()?;
        ensure!(
            out.status.success(),
            "weir {line}: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Prints a command, runs it, prints its output.
    pub fn weir(&self, report: &Report, line: &str) -> Result<String> {
        report.command(&format!("weir {line}"));
        let out = self.quiet(line)?;
        report.output(&out);
        Ok(out)
    }

    /// Polls until `condition` holds.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !condition()? {
            ensure!(
                Instant::now() < end,
                "waited {PATIENCE:?} in vain for {what}; the log is {}",
                self.log().display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Prints a REST call as curl would make it, makes it, and prints the answer.
    pub fn rest(
        &self,
        report: &Report,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let data = body
            .map(|b| format!(" -H 'Content-Type: application/json' -d '{b}'"))
            .unwrap_or_default();
        report.command(&format!("curl -X {method} -H \"Authorization: Bearer $(cat $OVS_RUNDIR/rest.token)\" http://{}{path}{data}", self.rest));
        let answer = self.call(method, path, body)?;
        if !answer.is_null() {
            report.output(&answer.to_string());
        }
        Ok(answer)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let token = std::fs::read_to_string(self.run_dir.join("rest.token"))
            .context("the controller has written no token")?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let url = format!("http://{}{path}", self.rest);
        let auth = format!("Bearer {}", token.trim());
        let mut response = match (method, body) {
            ("GET", _) => agent.get(&url).header("Authorization", &auth).call()?,
            ("DELETE", _) => agent.delete(&url).header("Authorization", &auth).call()?,
            (_, Some(body)) => agent
                .post(&url)
                .header("Authorization", &auth)
                .send_json(body)?,
            (_, None) => bail!("{method} needs a body"),
        };
        let text = response.body_mut().read_to_string()?;
        ensure!(
            response.status().is_success(),
            "{method} {path}: {} {text}",
            response.status()
        );
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Packet-ins that the controller has counted, over all switches.
    pub fn packet_ins(&self) -> Result<u64> {
        let switches = self.call("GET", "/api/v1/switches", None)?;
        let list = switches
            .as_array()
            .or_else(|| switches["switches"].as_array())
            .or_else(|| switches["items"].as_array());
        let list = list.context("GET /api/v1/switches: no list")?;
        Ok(list.iter().filter_map(|s| s["packet_ins"].as_u64()).sum())
    }

    /// Processor time of `weir up` so far, user and system.
    fn cpu_time(&self) -> Result<Duration> {
        let pid = self.up.as_ref().expect("started").id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in brackets may hold blanks; the 12th and 13th words after it are utime and stime in ticks of 10 ms.
        let words: Vec<&str> = stat
            .rsplit_once(") ")
            .context("unexpected /proc/PID/stat")?
            .1
            .split(' ')
            .collect();
        let ticks: u64 = words
            .get(11..13)
            .context("unexpected /proc/PID/stat")?
            .iter()
            .map(|w| w.parse::<u64>().unwrap_or(0))
            .sum();
        Ok(Duration::from_millis(10 * ticks))
    }

    /// A train of frames of `size` bytes from one guest to the other.
    pub fn measure(
        &self,
        from: &mut Guest,
        to: &mut Guest,
        report: &Report,
        address: &str,
        size: usize,
        window: Duration,
    ) -> Result<Measured> {
        let cpu = self.cpu_time()?;
        let start = Instant::now();
        let Train { packets, duration } = Guest::train(from, to, report, address, size, window)?;
        let cpu = (self.cpu_time()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Measured {
            size,
            packets,
            duration,
            cpu,
        })
    }

    /// Share of a core, in percent, that the switch takes when nothing happens.
    pub fn idle_cpu(&self, window: Duration) -> Result<f64> {
        // Let what the measurement left settle: caches are swept once.
        std::thread::sleep(Duration::from_millis(500));
        let before = self.cpu_time()?;
        std::thread::sleep(window.max(Duration::from_secs(3)));
        Ok((self.cpu_time()? - before).as_secs_f64()
            / window.max(Duration::from_secs(3)).as_secs_f64()
            * 100.0)
    }

    /// Ends `weir up` as Ctrl-C would.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut up = self.up.take().context("not running")?;
        terminate(&up);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = up.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                let _ = up.kill();
                let _ = up.wait();
                bail!("no end after SIGTERM within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Leaves everything running and tells how to go on.
    pub fn keep(&mut self, report: &mut Report, alice: &Guest, bob: &Guest) {
        self.keep = true;
        let pid = self.up.as_ref().map_or(0, Child::id);
        report.step("Left running");
        report.note("Go on by hand, for example:");
        report.command(&format!("export OVS_RUNDIR={}", self.run_dir.display()));
        report.command("weir vsctl show");
        report.command(&format!(
            "weir vm console {}      # type: ping 10.0.0.2 count=3",
            alice.name
        ));
        report.command("weir ofctl dump-flows br0");
        report.note(&format!(
            "The dashboard is at http://{}/, its token in {}.",
            self.rest,
            self.run_dir.join("rest.token").display()
        ));
        report.note("To end it:");
        report.command(&format!(
            "weir vm stop {} && weir vm stop {} && kill {pid} && rm -r {}",
            alice.name,
            bob.name,
            self.directory.display()
        ));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // After a failure guests may still run: they end before their switch.
        if let Some(up) = &mut self.up {
            let names = std::fs::read_dir(self.run_dir.join("vm"))
                .into_iter()
                .flatten()
                .flatten();
            for name in names.filter_map(|e| {
                e.file_name()
                    .to_str()?
                    .strip_suffix(".json")
                    .map(str::to_owned)
            }) {
                let _ = Command::new(&self.binary)
                    .args(["vm", "stop", &name])
                    .env("OVS_RUNDIR", &self.run_dir)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
            terminate(up);
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(up.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = up.kill();
            let _ = up.wait();
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// SIGTERM.
fn terminate(child: &Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
}

fn path(p: &Path) -> &str {
    p.to_str().expect("the temporary directory's name is text")
}

/// A directory nobody else has, with a name short enough for socket paths.
fn fresh_directory() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    for n in 0..1000 {
        let directory = base.join(format!("weir-demo-{}-{n}", std::process::id()));
        match std::fs::create_dir(&directory) {
            Ok(()) => return Ok(directory),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot make {}", directory.display()));
            }
        }
    }
    bail!("no free directory name in {}", base.display())
}

/// Two loopback addresses that are free now: the usual ports may belong to a weir that is at work.
fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let (a, b) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    Ok((a.local_addr()?, b.local_addr()?))
}

/// A measured train.
pub struct Measured {
    size: usize,
    /// Frames that arrived.
    pub packets: u64,
    duration: Duration,
    cpu: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.packets as f64 / self.duration.as_secs_f64();
        let bits = rate * self.size as f64 * 8.0;
        write!(
            f,
            "{} bytes: {:.3} million frames a second, {:.2} Gbit/s, weir used {:.0}% of a core",
            self.size,
            rate / 1e6,
            bits / 1e9,
            self.cpu * 100.0
        )
    }
}
