//! Kernel-attached ports: two network namespaces and a switch between them, by veths into the switch's own namespace (as packet sockets or
//! as AF_XDP ports) or by taps of the switch's that were moved into them.
//!
//! The sending end runs on one processor and a switch's forwarding thread on the other; the receiving end, and the kernel's
//! work for all of them, is where the kernel puts it. So these are figures of a whole small machine.

use super::Scenario;
use crate::cleanup;
use crate::machine::{self, TRAFFIC_CPU};
use crate::metric::Want;
use crate::peers::{self, Extra, Peer, Setup, Switch};
use anyhow::{Context, Result, ensure};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a sample sends.
const SECONDS: u64 = 3;
/// Round trips of a sample.
const ROUND_TRIPS: u32 = 2000;
/// The two machines' addresses.
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const MACS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];

fn ip(args: &str) -> Result<String> {
    peers::run("ip", &args.split(' ').collect::<Vec<_>>(), &[])
}

/// How the machines are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A veth each, by whatever the switch uses for an interface that is there.
    Veth,
    /// The same, as AF_XDP ports.
    AfXdp,
    /// A tap of the switch's each. The kernel's bridge has none of its own and keeps the veths.
    Tap,
}

/// Two machines and the namespace of the switch between them; gone when dropped.
struct Net {
    switch: String,
    ends: [String; 2],
}

impl Net {
    fn new() -> Result<Net> {
        let id = std::process::id();
        let net = Net {
            switch: format!("wb{id}s"),
            ends: [format!("wb{id}a"), format!("wb{id}b")],
        };
        for n in [&net.switch, &net.ends[0], &net.ends[1]] {
            cleanup::namespace(n);
            ip(&format!("netns add {n}"))?;
            ip(&format!("-n {n} link set lo up"))?;
        }
        Ok(net)
    }

    fn veths(&self) -> Result<()> {
        let s = &self.switch;
        for (i, end) in self.ends.iter().enumerate() {
            ip(&format!(
                "-n {s} link add p{i} type veth peer name eth0 netns {end}"
            ))?;
            ip(&format!("-n {s} link set p{i} up"))?;
        }
        Ok(())
    }

    /// Moves the switch's taps to the machines.
    fn taps(&self) -> Result<()> {
        for (i, end) in self.ends.iter().enumerate() {
            ip(&format!("-n {} link set t{i} netns {end}", self.switch))?;
            ip(&format!("-n {end} link set t{i} name eth0"))?;
        }
        Ok(())
    }

    fn addresses(&self) -> Result<()> {
        for (i, end) in self.ends.iter().enumerate() {
            ip(&format!("-n {end} link set eth0 address {} up", MACS[i]))?;
            ip(&format!("-n {end} addr add {}/24 dev eth0", ADDRESSES[i]))?;
        }
        Ok(())
    }

    /// Switches offloads of the machines' interfaces off.
    fn ethtool(&self, features: &str) -> Result<()> {
        for end in &self.ends {
            ip(&format!("netns exec {end} ethtool -K eth0 {features}"))?;
        }
        Ok(())
    }

    fn received(&self) -> Result<u64> {
        let text = ip(&format!("-n {} -j -s link show eth0", self.ends[1]))?;
        let v: serde_json::Value = serde_json::from_str(&text)?;
        v[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .context("ip tells no counters")
    }

    /// What iperf3 says of a run from the first machine to the second.
    fn iperf(&self, more: &[&str]) -> Result<serde_json::Value> {
        let mut server = std::process::Command::new("ip");
        server
            .args(["netns", "exec", &self.ends[1], "iperf3", "-s", "-1"])
            .stdout(std::process::Stdio::null());
        let _server = cleanup::Process::start(&mut server)?;
        std::thread::sleep(Duration::from_millis(300));
        let (seconds, cpu) = (SECONDS.to_string(), TRAFFIC_CPU.to_string());
        let fixed = ["-c", &cpu, "ip", "netns", "exec", &self.ends[0], "iperf3"];
        let fixed = [&fixed[..], &["-c", ADDRESSES[1], "-t", &seconds, "-J"]].concat();
        let text = peers::run("taskset", &[&fixed[..], more].concat(), &[])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Gigabits per second of TCP.
    fn tcp(&self) -> Result<Vec<f64>> {
        let v = self.iperf(&[])?;
        let rate = v["end"]["sum_received"]["bits_per_second"].as_f64();
        let rate = rate.with_context(|| format!("iperf3 says {}", v["error"]))?;
        Ok(vec![rate / 1e9])
    }

    /// The same with all offloads off, at both ends.
    fn plain_tcp(&self) -> Result<Vec<f64>> {
        self.ethtool("tx off tso off gso off gro off")?;
        self.tcp()
    }

    /// Thousands of small datagrams per second that arrive.
    fn datagrams(&self) -> Result<Vec<f64>> {
        let v = self.iperf(&["-u", "-b", "0", "-l", "18"])?;
        let sum = &v["end"]["sum"];
        let number = |name: &str| {
            let n = sum[name].as_f64();
            n.with_context(|| format!("iperf3 says {}", v["error"]))
        };
        let arrived = number("packets")? - number("lost_packets")?;
        Ok(vec![arrived / number("seconds")? / 1e3])
    }

    /// Microseconds that half of all round trips take at most, and 99 of 100.
    fn round_trips(&self) -> Result<Vec<f64>> {
        let text = ip(&format!(
            "netns exec {} ping -i 0.001 -c {ROUND_TRIPS} {}",
            self.ends[0], ADDRESSES[1]
        ))?;
        let time = |l: &str| l.split_once("time=")?.1.strip_suffix(" ms")?.parse().ok();
        let mut times: Vec<f64> = text.lines().filter_map(time).collect();
        ensure!(!times.is_empty(), "ping tells no times");
        times.sort_by(f64::total_cmp);
        let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e3;
        Ok(vec![quantile(0.5), quantile(0.99)])
    }

    /// Thousands of 60-byte frames per second from the first machine that reach the second.
    fn small_frames(&self) -> Result<Vec<f64>> {
        let end = Instant::now() + Duration::from_secs(SECONDS);
        let name = self.ends[0].clone();
        let before = self.received()?;
        let start = Instant::now();
        std::thread::spawn(move || blast(&name, end))
            .join()
            .expect("does not panic")?;
        let rate = (self.received()? - before) as f64 / start.elapsed().as_secs_f64();
        Ok(vec![rate / 1e3])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in [&self.switch, &self.ends[0], &self.ends[1]] {
            let _ = ip(&format!("netns del {n}"));
            cleanup::forget(std::path::Path::new(n));
        }
    }
}

/// Sends frames from a namespace until a time, on the calling thread, which stays in that namespace.
fn blast(namespace: &str, end: Instant) -> Result<()> {
    machine::pin(TRAFFIC_CPU);
    let file = std::fs::File::open(format!("/var/run/netns/{namespace}"))?;
    // SAFETY: plain system calls with a descriptor of ours.
    let fd = unsafe {
        ensure!(
            libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) == 0,
            "setns: {}",
            std::io::Error::last_os_error()
        );
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)
    };
    ensure!(
        fd >= 0,
        "packet socket: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut frame = crate::load::frame::template(0, 1, 60);
    let patch = crate::load::frame::Patch::new(&crate::load::frame::udp(0), 60);
    frame[crate::load::frame::PATCH_AT..][..16].copy_from_slice(&patch.0);
    let mut vector = libc::iovec {
        iov_base: frame.as_mut_ptr().cast(),
        iov_len: frame.len(),
    };
    // SAFETY: all zero is a right value of these plain structures; their pointers are set to what outlives the calls below.
    unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = libc::if_nametoindex(c"eth0".as_ptr()) as i32;
        let mut one: libc::mmsghdr = std::mem::zeroed();
        one.msg_hdr.msg_name = (&raw mut address).cast();
        one.msg_hdr.msg_namelen = size_of_val(&address) as u32;
        one.msg_hdr.msg_iov = &raw mut vector;
        one.msg_hdr.msg_iovlen = 1;
        let mut many = [one; 32];
        while Instant::now() < end {
            // Full queues are what is measured: what does not go is tried again.
            libc::sendmmsg(fd.as_raw_fd(), many.as_mut_ptr(), many.len() as u32, 0);
        }
    }
    Ok(())
}

/// Starts a switch between the ends.
fn start(kind: Peer, way: Way, net: &Net) -> Result<Option<Switch>> {
    let way = if kind == Peer::LinuxBridge {
        Way::Veth
    } else {
        way
    };
    if way != Way::Tap {
        net.veths()?;
    }
    if kind == Peer::LinuxBridge {
        let s = &net.switch;
        ip(&format!("-n {s} link add br0 type bridge"))?;
        ip(&format!("-n {s} link set br0 up"))?;
        for i in 0..2 {
            ip(&format!("-n {s} link set p{i} master br0"))?;
        }
        net.addresses()?;
        return Ok(None);
    }
    let mut switch = Switch::prepare(kind, 0)?;
    let extra = |name: &str| match way {
        Way::Veth => Extra::System(name.into()),
        Way::AfXdp => Extra::AfXdp(name.into()),
        Way::Tap => Extra::Tap,
    };
    switch.start(&Setup {
        rules: vec!["actions=NORMAL".into()],
        namespace: Some(net.switch.clone()),
        extra: vec![extra("p0"), extra("p1")],
        ..Setup::default()
    })?;
    if way == Way::Tap {
        net.taps()?;
    }
    net.addresses()?;
    if kind == Peer::Ovs {
        // It drops frames whose checksums are still to be filled in.
        net.ethtool("tx off")?;
    }
    Ok(Some(switch))
}

fn sample(kind: Peer, way: Way, measure: fn(&Net) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let net = Net::new()?;
    let switch = start(kind, way, &net)?;
    let ping = format!("netns exec {} ping -c 1 -W 1 {}", net.ends[0], ADDRESSES[1]);
    peers::wait_for("a ping through the switch", Duration::from_secs(20), || {
        ip(&ping).is_ok()
    })
    .with_context(|| switch.as_ref().map_or(String::new(), Switch::tail))?;
    let measured = measure(&net)?;
    drop(switch);
    Ok(measured)
}

/// A load: its name, what it is, what it tells, and what is wanted of each of these beside the bridge and beside Open vSwitch.
struct Load {
    name: &'static str,
    about: &'static str,
    metrics: &'static [(&'static str, &'static str)],
    wants: &'static [&'static [Want]],
    measure: fn(&Net) -> Result<Vec<f64>>,
}

const LEVEL: &[Want] = &[Want::Ratio(Peer::LinuxBridge, 1.0)];
const HALF_AGAIN: &[Want] = &[
    Want::Ratio(Peer::LinuxBridge, 1.5),
    Want::Ratio(Peer::Ovs, 1.5),
];

const LOADS: [Load; 5] = [
    Load {
        name: "tcp",
        about: "iperf3",
        metrics: &[("gbits", "Gbit/s")],
        wants: &[LEVEL],
        measure: Net::tcp,
    },
    Load {
        name: "tcp-plain",
        about: "iperf3 with all offloads off at both ends",
        metrics: &[("gbits", "Gbit/s")],
        wants: &[LEVEL],
        measure: Net::plain_tcp,
    },
    Load {
        name: "udp",
        about: "iperf3 with datagrams of 18 bytes",
        metrics: &[("kpps", "kpps")],
        wants: &[LEVEL],
        measure: Net::datagrams,
    },
    Load {
        name: "60",
        about: "60-byte frames by packet socket",
        metrics: &[("kpps", "kpps")],
        wants: &[HALF_AGAIN],
        measure: Net::small_frames,
    },
    Load {
        name: "rtt",
        about: "a ping each millisecond",
        metrics: &[("p50", "us"), ("p99", "us")],
        wants: &[
            &[Want::RatioAtMost(Peer::LinuxBridge, 2.0)],
            &[Want::RatioAtMost(Peer::LinuxBridge, 3.0)],
        ],
        measure: Net::round_trips,
    },
];

fn scenario(prefix: &str, way: Way, load: &'static Load) -> Scenario {
    let name = format!("kernel/{prefix}/{}", load.name);
    let about = format!(
        "{} between two namespaces over {prefix} (--peer ovs,linux-bridge)",
        load.about
    );
    Scenario::new(name, about, move |run, name| {
        run.table.note(format!("{name}: OVS with checksum and segmentation offloads off at the ends, which it needs; the others with them on, unless the load says otherwise"));
        for ((metric, _), wants) in load.metrics.iter().zip(load.wants) {
            for want in *wants {
                run.table.want(&format!("{name}.{metric}"), *want);
            }
        }
        for _ in 0..run.rounds {
            for &kind in run.switches {
                if !matches!(kind, Peer::Weir | Peer::Ovs | Peer::LinuxBridge) {
                    continue;
                }
                match sample(kind, way, load.measure) {
                    Ok(values) => {
                        for ((metric, unit), value) in load.metrics.iter().zip(values) {
                            let metric = format!("{name}.{metric}");
                            run.table.add(&metric, unit, kind, value, None);
                        }
                    }
                    Err(e) => run.table.failed(name, kind, &e),
                }
            }
        }
        Ok(())
    })
}

/// Every load over every way.
pub fn scenarios() -> Vec<Scenario> {
    [
        ("veth", Way::Veth),
        ("afxdp", Way::AfXdp),
        ("tap", Way::Tap),
    ]
    .into_iter()
    .flat_map(|(prefix, way)| LOADS.iter().map(move |load| scenario(prefix, way, load)))
    .collect()
}
