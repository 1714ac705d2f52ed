//! Guest to guest: two virtio-user ports of `dpdk-testpmd` on one processor, the switch on the other.
//!
//! testpmd passes every frame it gets on one port out of the other, so a fixed number of frames circles
//! through the switch and none is lost: the figure is frames received per second on both ports.

use crate::cleanup::Process;
use crate::machine::{self, TRAFFIC_CPU};
use crate::metric::{Table, Want};
use crate::peers::{Peer, Setup, Switch, huge_pages, release_huge_pages};
use crate::scenario::{Run, WHOLE, WINDOW};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What circles, and through which flows.
pub struct Scenario {
    /// As typed.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    size: usize,
    flows: &'static [&'static str],
    /// What weir's rate should be, beside blind forwarding.
    wanted: f64,
}

const ONE_RULE: &[&str] = &["in_port=1,actions=output:2", "in_port=2,actions=output:1"];
const NORMAL: &[&str] = &["actions=NORMAL"];

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "vhost-64",
        about: "64-byte frames, one rule a port",
        size: 64,
        flows: ONE_RULE,
        wanted: 1.0,
    },
    Scenario {
        name: "vhost-64-normal",
        about: "64-byte frames, NORMAL",
        size: 64,
        flows: NORMAL,
        wanted: 1.0,
    },
    Scenario {
        name: "vhost-1500",
        about: "1500-byte frames, one rule a port",
        size: 1500,
        flows: ONE_RULE,
        wanted: 1.25,
    },
    Scenario {
        name: "vhost-1500-normal",
        about: "1500-byte frames, NORMAL",
        size: 1500,
        flows: NORMAL,
        wanted: 1.25,
    },
];

/// Windows tried for one good one.
const TRIES: usize = 30;
/// testpmd with two virtio-user ports that listen on the switch's sockets.
struct Traffic {
    child: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Traffic {
    fn start(switch: &Switch, frame: usize) -> Result<Traffic> {
        // Line by line: its answers are waited for.
        let mut c = Command::new("stdbuf");
        c.args(["-oL", "dpdk-testpmd"]);
        c.args([
            "--lcores",
            &format!("0@{TRAFFIC_CPU},1@{TRAFFIC_CPU}"),
            "--in-memory",
            "--huge-dir",
        ])
        .arg(huge_pages()?);
        c.args(["--socket-mem", "256", "--no-pci", "--single-file-segments"]);
        for (i, s) in switch.sockets.iter().enumerate() {
            let mac = format!("52:54:00:00:00:0{}", i + 1);
            c.arg("--vdev").arg(format!(
                "net_virtio_user{i},path={},server=1,queues=1,queue_size=1024,mac={mac}",
                s.display()
            ));
        }
        c.args([
            "--",
            "-i",
            "--nb-cores=1",
            "--txd=1024",
            "--rxd=1024",
            "--total-num-mbufs=16384",
        ]);
        // A frame leaving a port is meant for the machine behind the switch's other port.
        c.args([
            "--forward-mode=mac",
            "--eth-peer=0,52:54:00:00:00:02",
            "--eth-peer=1,52:54:00:00:00:01",
        ]);
        c.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Process::start(&mut c)?;
        let stdin = child.child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .inspect(|l| {
                    if std::env::var_os("BENCH_LOGS").is_some() {
                        eprintln!("testpmd: {l}");
                    }
                })
                .try_for_each(|l| tell.send(l))
        });
        let mut t = Traffic {
            child,
            stdin,
            lines,
        };
        t.wait_for_link()?;
        // Headers are the 1500 bytes' first 14: testpmd counts the whole frame.
        t.say(&format!("set txpkts {frame}"))?;
        t.say("set fwd io")?;
        t.say("start tx_first 16")?;
        Ok(t)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}")?;
        Ok(self.stdin.flush()?)
    }

    /// Both sockets must be connected before frames are sent, or they are lost.
    fn wait_for_link(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            self.say("show port summary all")?;
            self.say("show fwd stats all")?;
            let mut up = 0;
            while let Ok(l) = self.lines.recv_timeout(Duration::from_millis(500)) {
                up += usize::from(
                    l.contains("net_virtio_user") && l.trim_end().ends_with("up")
                        || l.contains(" up ") && l.contains("52:54:00"),
                );
                if l.contains("Accumulated forward statistics") {
                    break;
                }
            }
            if up >= 2 {
                return Ok(());
            }
        }
        bail!("testpmd's ports did not come up: did the switch connect?")
    }

    /// Nanoseconds between the processors, which nobody uses meanwhile.
    fn distance(&self, switch: &mut Switch) -> Result<f64> {
        self.child.signal(libc::SIGSTOP);
        switch.pause();
        let d = machine::cpu_distance();
        switch.resume()?;
        self.child.signal(libc::SIGCONT);
        Ok(d)
    }

    /// Frames received on both ports so far, and when they were counted.
    fn received(&mut self) -> Result<(u64, Instant)> {
        self.say("show port stats all")?;
        let (mut sum, mut seen) = (0, 0);
        let mut at = Instant::now();
        while seen < 2 {
            let l = self
                .lines
                .recv_timeout(Duration::from_secs(5))
                .context("testpmd does not answer")?;
            // Forwarding statistics begin with the same word; only port statistics count missed frames.
            if let Some(rest) = l.trim().strip_prefix("RX-packets:")
                && rest.contains("RX-missed")
            {
                at = Instant::now();
                sum += rest
                    .split_whitespace()
                    .next()
                    .and_then(|n| n.parse::<u64>().ok())
                    .context("testpmd's statistics have another form")?;
                seen += 1;
            }
        }
        Ok((sum, at))
    }
}

/// Alternating rounds of one scenario over the switches.
pub fn run(name: &str, run: &mut Run) {
    let scenario = SCENARIOS
        .iter()
        .find(|s| s.name == name)
        .expect("one of ours");
    run.table.want(
        &format!("{name}.mpps"),
        Want::Ratio(Peer::TestpmdForward, scenario.wanted),
    );
    let mut left: Vec<Peer> = run
        .switches
        .iter()
        .copied()
        .filter(|k| k.has_vhost())
        .collect();
    for _ in 0..run.rounds {
        left.retain(|&kind| match sample(scenario, kind, run.smoke, run.table) {
            Ok(()) => true,
            Err(e) => {
                run.table.failed(name, kind, &e);
                false
            }
        });
    }
    release_huge_pages();
}

fn sample(scenario: &Scenario, kind: Peer, smoke: bool, table: &mut Table) -> Result<()> {
    let mut switch = Switch::prepare(kind, 2)?;
    switch.start(&Setup {
        rules: scenario.flows.iter().map(|s| (*s).to_owned()).collect(),
        ..Setup::default()
    })?;
    let mut traffic = Traffic::start(&switch, scenario.size)?;
    for _ in 0..TRIES {
        let near = traffic.distance(&mut switch)?;
        switch.place();
        switch.clear_cycles()?;
        // Everything is under way again before the window begins.
        std::thread::sleep(WINDOW / 10);
        let before = (
            machine::thread_times(switch.pid()),
            machine::thread_times(traffic.child.id()),
        );
        let (from, start) = traffic.received()?;
        std::thread::sleep(WINDOW);
        let (to, end) = traffic.received()?;
        let cycles = switch.cycles_per_packet()?;
        let window = end - start;
        let busy = machine::shares(&before.0, &machine::thread_times(switch.pid()), window).busiest;
        let sending = machine::shares(
            &before.1,
            &machine::thread_times(traffic.child.id()),
            window,
        )
        .busiest;
        let far = traffic.distance(&mut switch)?;
        let rate = (to - from) as f64 / window.as_secs_f64() / 1e6;
        if !smoke && (busy < WHOLE || sending < WHOLE || near.max(far) > 2.0 * near.min(far)) {
            eprintln!(
                "{} {}: {rate:.2} Mpps not counted (switch had {busy:.2}, traffic {sending:.2} of a processor; distance {near:.0} to {far:.0} ns)",
                kind.name(),
                scenario.name
            );
            continue;
        }
        let distance = Some(f64::midpoint(near, far));
        table.add(
            &format!("{}.mpps", scenario.name),
            "Mpps",
            kind,
            rate,
            distance,
        );
        if let Some(c) = cycles {
            let metric = format!("{}.cycles", scenario.name);
            table.add(&metric, "cycles/packet", kind, c, distance);
        }
        return Ok(());
    }
    bail!("no window of {TRIES} had both processors to itself: something else is running")
}
