//! Kernel-attached ports: two network namespaces with a veth each into the switch's own namespace.
//!
//! Everything but the forwarding thread shares one processor, iperf's two ends included, so these are figures of a whole small machine.

use super::{Run, Scenario};
use crate::cleanup;
use crate::machine::{self, TRAFFIC_CPU};
use crate::metric::Want;
use crate::peers::{self, Extra, Peer, Setup, Switch};
use anyhow::{Context, Result, ensure};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a sample sends.
const SECONDS: u64 = 3;
/// The two machines' addresses.
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const MACS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];

fn ip(args: &str) -> Result<String> {
    peers::run("ip", &args.split(' ').collect::<Vec<_>>(), &[])
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
        for (i, end) in net.ends.iter().enumerate() {
            let s = &net.switch;
            ip(&format!(
                "-n {s} link add p{i} type veth peer name eth0 netns {end}"
            ))?;
            ip(&format!("-n {s} link set p{i} up"))?;
            ip(&format!("-n {end} link set eth0 address {} up", MACS[i]))?;
            ip(&format!("-n {end} addr add {}/24 dev eth0", ADDRESSES[i]))?;
        }
        Ok(net)
    }

    fn received(&self) -> Result<u64> {
        let text = ip(&format!("-n {} -j -s link show eth0", self.ends[1]))?;
        let v: serde_json::Value = serde_json::from_str(&text)?;
        v[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .context("ip tells no counters")
    }

    /// Megabits of TCP from the first machine to the second.
    fn tcp(&self) -> Result<f64> {
        let mut server = std::process::Command::new("ip");
        server
            .args(["netns", "exec", &self.ends[1], "iperf3", "-s", "-1"])
            .stdout(std::process::Stdio::null());
        let _server = cleanup::Process::start(&mut server)?;
        std::thread::sleep(Duration::from_millis(300));
        let seconds = SECONDS.to_string();
        let cpu = TRAFFIC_CPU.to_string();
        let text = peers::run(
            "taskset",
            &[
                "-c",
                &cpu,
                "ip",
                "netns",
                "exec",
                &self.ends[0],
                "iperf3",
                "-c",
                ADDRESSES[1],
                "-t",
                &seconds,
                "-J",
            ],
            &[],
        )?;
        let v: serde_json::Value = serde_json::from_str(&text)?;
        v["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .map(|b| b / 1e9)
            .with_context(|| format!("iperf3 says {}", v["error"]))
    }

    /// 60-byte frames per second from the first machine that reach the second.
    fn small_frames(&self) -> Result<f64> {
        let end = Instant::now() + Duration::from_secs(SECONDS);
        let name = self.ends[0].clone();
        let before = self.received()?;
        let start = Instant::now();
        std::thread::spawn(move || blast(&name, end))
            .join()
            .expect("does not panic")?;
        Ok((self.received()? - before) as f64 / start.elapsed().as_secs_f64())
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
fn start(kind: Peer, net: &Net) -> Result<Option<Switch>> {
    if kind == Peer::LinuxBridge {
        let s = &net.switch;
        ip(&format!("-n {s} link add br0 type bridge"))?;
        ip(&format!("-n {s} link set br0 up"))?;
        for i in 0..2 {
            ip(&format!("-n {s} link set p{i} master br0"))?;
        }
        return Ok(None);
    }
    if kind == Peer::Ovs {
        // It drops frames whose checksums are still to be filled in.
        for end in &net.ends {
            ip(&format!("netns exec {end} ethtool -K eth0 tx off"))?;
        }
    }
    let mut switch = Switch::prepare(kind, 0)?;
    switch.start(&Setup {
        rules: vec!["actions=NORMAL".into()],
        namespace: Some(net.switch.clone()),
        extra: vec![Extra::System("p0".into()), Extra::System("p1".into())],
        ..Setup::default()
    })?;
    Ok(Some(switch))
}

fn sample(kind: Peer, measure: fn(&Net) -> Result<f64>) -> Result<f64> {
    let net = Net::new()?;
    let switch = start(kind, &net)?;
    let ping = format!("netns exec {} ping -c 1 -W 1 {}", net.ends[0], ADDRESSES[1]);
    peers::wait_for("a ping through the switch", Duration::from_secs(20), || {
        ip(&ping).is_ok()
    })
    .with_context(|| switch.as_ref().map_or(String::new(), Switch::tail))?;
    let rate = measure(&net)?;
    drop(switch);
    Ok(rate)
}

fn rounds(
    run: &mut Run,
    name: &str,
    metric: &str,
    unit: &'static str,
    scale: f64,
    measure: fn(&Net) -> Result<f64>,
) {
    for _ in 0..run.rounds {
        for &kind in run.switches {
            if !matches!(kind, Peer::Weir | Peer::Ovs | Peer::LinuxBridge) {
                continue;
            }
            match sample(kind, measure) {
                Ok(rate) => run.table.add(metric, unit, kind, rate * scale, None),
                Err(e) => run.table.failed(name, kind, &e),
            }
        }
    }
}

/// TCP and small frames.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "kernel/tcp",
            "iperf3 between two namespaces over veth (--peer ovs,linux-bridge)",
            |run, name| {
                run.table.note(format!("{name}: OVS with checksum and segmentation offloads off at the ends, which it needs; the others with them on"));
                let metric = format!("{name}.gbits");
                run.table.want(&metric, Want::Ratio(Peer::Ovs, 1.0));
                rounds(run, name, &metric, "Gbit/s", 1.0, Net::tcp);
                Ok(())
            },
        ),
        Scenario::new(
            "kernel/60",
            "60-byte frames between two namespaces over veth, by packet socket (--peer ovs,linux-bridge)",
            |run, name| {
                let metric = format!("{name}.kpps");
                run.table.want(&metric, Want::Ratio(Peer::Ovs, 1.0));
                rounds(run, name, &metric, "kpps", 1e-3, Net::small_frames);
                Ok(())
            },
        ),
    ]
}
