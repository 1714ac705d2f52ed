//! Storm control and anti-spoofing, from the database to the packet, on dummy ports and under a clock that the test moves.

use tests::need;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::wait;

/// A UDP datagram, in hex digits.
fn frame(dst: &str, src: &str, from: [u8; 4]) -> String {
    let address: String = from.iter().map(|b| format!("{b:02x}")).collect();
    // The checksum is not looked at: no port here has any offload.
    let payload = "ee".repeat(18);
    format!("{dst}{src}08004500002e0000000040110000{address}0a00000212340050001a0000{payload}")
}

const BROADCAST: &str = "ffffffffffff";
const OWN: &str = "020000000001";
const OTHER: &str = "020000000002";

struct Bridge<'a> {
    t: Typed<'a>,
    /// What went into p1.
    sent: u64,
}

impl Bridge<'_> {
    fn receive(&mut self, frame: &str, times: usize) {
        let frames = [frame].repeat(times).join(" ");
        self.t
            .ok(&format!("ovs-appctl netdev-dummy/receive p1 {frames}"));
        self.sent += times as u64;
    }

    /// A count of `ovs-ofctl dump-ports`: "rx" or "tx", and of what.
    fn count(&self, port: &str, way: &str, what: &str) -> u64 {
        let text = self.t.ok(&format!("ovs-ofctl dump-ports br0 {port}"));
        let line = text.lines().find(|l| l.contains(&format!("{way} ")));
        let at = line.and_then(|l| l.split(&format!("{what}=")).nth(1));
        at.and_then(|n| n.split(',').next()?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {way} {what} in {text}"))
    }

    /// So many frames leave by p2, and no more, once all that came in is accounted for.
    #[track_caller]
    fn leaves(&self, frames: u64) {
        wait::until("all frames to come in or be dropped", || {
            self.count("p1", "rx", "pkts") + self.limited() == self.sent
        });
        wait::until("frames to leave", || {
            self.count("p2", "tx", "pkts") >= frames
        });
        assert_eq!(self.count("p2", "tx", "pkts"), frames);
    }

    fn limited(&self) -> u64 {
        self.count("p1", "rx", "drop")
    }

    fn statistic(&self, key: &str) -> Option<u64> {
        let text = self.t.ok("ovs-vsctl get interface p1 statistics");
        let at = text.split(&format!("{key}=")).nth(1)?;
        at.split([',', '}']).next()?.trim().parse().ok()
    }

    fn told(&self) -> String {
        self.t.ok("ovs-vsctl get port p1 status")
    }
}

#[test]
fn storm_control_and_guards_work_from_the_database_to_the_packet() {
    need!(Root);
    let weir = Weir::start(&["--enable-dummy", "--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl set open_vswitch . other_config:stats-update-interval=1000 \
          -- add-br br0 -- set bridge br0 datapath_type=dummy \
          -- add-port br0 p1 -- set interface p1 type=dummy -- add-port br0 p2 -- set interface p2 type=dummy");
    t.ok("ovs-appctl time/stop");
    let mut b = Bridge { t, sent: 0 };

    // Broadcast: so many at once, then at their rate.
    b.t.ok("ovs-vsctl set port p1 other_config:storm-broadcast-pkts-rate=100 other_config:storm-broadcast-pkts-burst=20");
    let broadcast = frame(BROADCAST, OWN, [10, 0, 0, 1]);
    b.receive(&broadcast, 50);
    b.leaves(20);
    assert_eq!(b.limited(), 30);
    b.t.ok("ovs-appctl time/warp 100");
    b.receive(&broadcast, 50);
    b.leaves(30);
    assert_eq!(b.limited(), 70);
    // Other frames are not limited; then unknown unicast is, and broadcast no more.
    let unknown = frame("020000000099", OWN, [10, 0, 0, 1]);
    b.receive(&unknown, 50);
    b.leaves(80);
    wait::until("the drops to be told", || {
        b.statistic("storm_broadcast_drops") == Some(70)
    });
    assert_eq!(b.statistic("rx_dropped"), Some(70));
    b.t.ok("ovs-vsctl clear port p1 other_config \
            -- set port p1 other_config:storm-unknown-unicast-pkts-rate=10 other_config:storm-unknown-unicast-pkts-burst=5");
    b.receive(&broadcast, 50);
    b.leaves(130);
    b.receive(&unknown, 50);
    b.leaves(135);
    wait::until("these drops to be told", || {
        b.statistic("storm_unknown_unicast_drops") == Some(45)
    });

    // What cannot be read is told, and limits nothing.
    b.t.ok("ovs-vsctl clear port p1 other_config -- set port p1 other_config:storm-broadcast-rate=fast");
    wait::until("the wrong value to be told", || {
        b.told()
            .contains("storm-broadcast-rate \\\"fast\\\" is not a number")
    });
    b.receive(&broadcast, 50);
    b.leaves(185);
    b.t.ok("ovs-vsctl clear port p1 other_config");
    wait::until("nothing to be told", || !b.told().contains("unsupported"));

    // Guards: who sends what is not its own is not heard.
    b.t.ok("ovs-vsctl set port p1 other_config:guard-macs=02:00:00:00:00:01 other_config:guard-addresses=10.0.0.1");
    b.receive(&frame(BROADCAST, OTHER, [10, 0, 0, 1]), 3);
    b.receive(&frame(BROADCAST, OWN, [10, 0, 0, 9]), 4);
    b.receive(&broadcast, 2);
    b.leaves(187);
    wait::until("the reasons to be told", || {
        b.statistic("drop_spoofed_mac") == Some(3) && b.statistic("drop_spoofed_address") == Some(4)
    });
    b.t.ok("ovs-vsctl set port p1 other_config:guard-macs=mine");
    wait::until("the wrong address to be told", || {
        b.told()
            .contains("guard-macs \\\"mine\\\" is not a unicast MAC address")
    });
    // A slip of the pen opens no door.
    b.receive(&broadcast, 5);
    b.t.ok("ovs-vsctl clear port p1 other_config");
    b.receive(&frame(BROADCAST, OTHER, [10, 0, 0, 9]), 2);
    b.leaves(189);
}
