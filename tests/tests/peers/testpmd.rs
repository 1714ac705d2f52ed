//! DPDK's virtio-user driver on two vhost-user ports.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::{need, wait};

/// A `dpdk-testpmd` whose two ports listen for weir to connect; without huge pages.
pub struct Testpmd {
    child: Child,
    stdin: RefCell<ChildStdin>,
    lines: Receiver<String>,
    sockets: [std::path::PathBuf; 2],
}

impl Testpmd {
    /// Starts it.
    pub fn start(weir: &Weir) -> Testpmd {
        Testpmd::start_with(weir, "")
    }

    /// Starts it with more arguments for its ports, each behind a comma.
    pub fn start_with(weir: &Weir, extra: &str) -> Testpmd {
        let sockets = [weir.dir().join("v0.sock"), weir.dir().join("v1.sock")];
        let mut c = std::process::Command::new("stdbuf");
        c.args([
            "-oL",
            "dpdk-testpmd",
            "--lcores",
            "0@0,1@0",
            "--no-huge",
            "-m",
            "256",
            "--no-pci",
        ]);
        c.arg(format!("--file-prefix=weir{}", tests::netns::unique()));
        for (i, s) in sockets.iter().enumerate() {
            c.arg("--vdev").arg(format!("net_virtio_user{i},path={},server=1,queues=1,queue_size=256,mac=52:54:00:00:01:0{i}{extra}", s.display()));
        }
        c.args([
            "--",
            "-i",
            "--nb-cores=1",
            "--total-num-mbufs=4096",
            "--no-mlockall",
            "--forward-mode=io",
        ]);
        let mut child = c
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dpdk-testpmd");
        let stdin = RefCell::new(child.stdin.take().expect("piped"));
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|l| tell.send(l))
        });
        Testpmd {
            child,
            stdin,
            lines,
            sockets,
        }
    }

    /// Adds its ports to a bridge as `v0` and `v1`.
    pub fn add_ports(&self, t: &Typed, bridge: &str) {
        for (i, s) in self.sockets.iter().enumerate() {
            t.ok(&format!("ovs-vsctl add-port {bridge} v{i} -- set interface v{i} type=dpdkvhostuserclient options:vhost-server-path={}", s.display()));
        }
        wait::until("both links to be up", || {
            (0..2).all(|i| {
                t.ok(&format!("ovs-vsctl get interface v{i} link_state"))
                    .trim()
                    == "up"
            })
        });
    }

    fn say(&self, line: &str) {
        let mut stdin = self.stdin.borrow_mut();
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .expect("testpmd's input");
    }

    /// Sends a burst out of each port; what comes in on one goes out of the other.
    pub fn start_traffic(&self) {
        self.say("stop");
        self.say("start tx_first 1");
    }

    /// The same with as many frames as the rings hold.
    pub fn saturate(&self) {
        self.say("stop");
        self.say("start tx_first 8");
    }

    /// Frames received on both ports in a short while.
    pub fn rate(&self) -> u64 {
        let first = self.received();
        std::thread::sleep(Duration::from_millis(100));
        self.received() - first
    }

    /// Frames received on both ports so far.
    pub fn received(&self) -> u64 {
        self.say("show port stats all");
        let (mut sum, mut seen) = (0, 0);
        while seen < 2 {
            let line = self
                .lines
                .recv_timeout(Duration::from_secs(30))
                .expect("testpmd answers");
            if let Some(rest) = line.trim().strip_prefix("RX-packets:")
                && rest.contains("RX-missed")
            {
                sum += rest
                    .split_whitespace()
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap();
                seen += 1;
            }
        }
        sum
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets the frames that come in on one port out of the other.
pub fn cross(t: &Typed) {
    t.ok("ovs-ofctl -O OpenFlow13 add-flow br0 in_port=v0,actions=output:v1");
    t.ok("ovs-ofctl -O OpenFlow13 add-flow br0 in_port=v1,actions=output:v0");
}

#[test]
fn frames_circle_between_two_virtio_user_ports() {
    need!(Root, Ovs, Testpmd);
    // Each kind of ring has its own code in the driver: merged buffers or not, used in order or not.
    for (extra, packed) in [
        ("", false),
        (",mrg_rxbuf=0,in_order=0", false),
        (",packed_vq=1", true),
        (",packed_vq=1,mrg_rxbuf=0,in_order=0", true),
    ] {
        let weir = Weir::start(&["--no-controller"]);
        let t = weir.typed(Tools::Stock);
        t.ok("ovs-vsctl add-br br0");
        let pmd = Testpmd::start_with(&weir, extra);
        pmd.add_ports(&t, "br0");
        cross(&t);
        let features = t.ok("ovs-vsctl get interface v0 status:feature_names");
        assert_eq!(features.contains("ring_packed"), packed, "{features}");
        pmd.start_traffic();
        wait::until("frames to circle", || pmd.rate() > 1000);
        let sent = |port: &str| -> u64 {
            t.ok(&format!(
                "ovs-vsctl get interface {port} statistics:tx_packets"
            ))
            .trim()
            .parse()
            .unwrap_or(0)
        };
        wait::until("statistics to be written back", || {
            sent("v0") > 0 && sent("v1") > 0
        });
    }
}

#[test]
fn packed_rings_are_taken_up_again_after_a_kill() {
    need!(Root, Ovs, Testpmd);
    let mut weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    t.ok("ovs-vsctl add-br br0");
    let pmd = Testpmd::start_with(&weir, ",packed_vq=1");
    pmd.add_ports(&t, "br0");
    cross(&t);
    pmd.start_traffic();
    wait::until("frames to circle", || pmd.rate() > 1000);
    for _ in 0..3 {
        weir.kill();
        weir.spawn();
        let t = weir.typed(Tools::Stock);
        wait::until("both links to be up again", || {
            (0..2).all(|i| {
                let up = t.line(&format!("ovs-vsctl get interface v{i} link_state"));
                up.stdout.trim() == "up"
            })
        });
        cross(&t);
        pmd.start_traffic();
        wait::until("frames to circle again", || pmd.rate() > 1000);
    }
}
