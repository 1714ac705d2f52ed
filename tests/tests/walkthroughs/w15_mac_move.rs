//! W15: a host moves to another port, as a migrated guest does, and says so by one frame.

use crate::typed_twice;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::wait;

typed_twice!(walk);

/// The number of the port that an address is on.
pub fn place_of(t: &Typed, mac: &str) -> Option<String> {
    let fdb = t.ok("ovs-appctl fdb/show vswitch001");
    let line = fdb.lines().find(|l| l.contains(mac))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok("ovs-vsctl add-br vswitch001");
    let other = Host::on_bridge(&t, "vswitch001", "p0", 1);
    other.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1").ok();
    // The same host in two places; neither says anything by itself.
    let places = ["p1", "p2"].map(|port| {
        let host = Host::on_bridge(&t, "vswitch001", port, 2);
        host.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && ip addr flush dev eth0")
            .ok();
        host
    });
    let number = |h: &Host| {
        let n = t.ok(&format!("ovs-vsctl get interface {} ofport", h.port));
        Some(n.trim().to_owned())
    };
    let received = |h: &Host| -> u64 {
        let n = h.sh("cat /sys/class/net/eth0/statistics/rx_packets").ok();
        n.trim().parse().unwrap()
    };
    places[0].sh("ip addr add 10.0.0.2/24 dev eth0").ok();
    assert!(other.pings("10.0.0.2"), "before it moves");
    assert_eq!(place_of(&t, &places[0].mac), number(&places[0]));

    // There, back, and there again: each way what is cached of the way before is of no use any more.
    let frames = places[0].announcements();
    for (turn, (how, frame)) in frames.iter().cycle().take(4).enumerate() {
        let (old, new) = (&places[turn % 2], &places[(turn + 1) % 2]);
        let pinging = other
            .namespace
            .command("ping")
            .args(["-n", "-q", "-i", "0.02", "10.0.0.2"])
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut pinging = pinging.expect("ping");
        old.sh("ip addr flush dev eth0").ok();
        new.sh("ip addr add 10.0.0.2/24 dev eth0").ok();
        assert_eq!(place_of(&t, &old.mac), number(old), "nothing was said yet");
        new.send(frame);
        wait::until("the address to be where it was announced", || {
            place_of(&t, &new.mac) == number(new)
        });
        let before = received(old);
        assert!(
            other.pings_all("10.0.0.2", 17),
            "17 of 17 after {how} (turn {turn})"
        );
        let late = received(old) - before;
        assert!(late < 10, "{late} frames for where it was, after {how}");
        let _ = pinging.kill();
        let _ = pinging.wait();
    }
}
