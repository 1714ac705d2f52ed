//! Interfaces that appear later, go away, and lose their link: the switch follows the kernel at once.

use std::time::{Duration, Instant};
use tests::host::Host;
use tests::need;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

#[test]
fn an_interface_may_come_later_go_and_come_again() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let inside = weir.namespace.as_ref().unwrap();
    t.ok("ovs-vsctl add-br br0");
    let ran = t.line("ovs-vsctl add-port br0 late");
    assert!(
        ran.stderr.contains(
            "Error detected while setting up 'late': could not open network device late (No such device)."
        ),
        "{}",
        ran.stderr
    );
    let get = |column: &str| {
        t.ok(&format!("ovs-vsctl get interface late {column}"))
            .trim()
            .to_owned()
    };
    assert_eq!(get("ofport"), "-1");
    let make =
        "ip link add late type veth peer name far && ip link set late up && ip link set far up";
    inside.shell(make).ok();
    wait::until("the interface to be taken up", || get("ofport") == "1");
    wait::until("its link", || get("link_state") == "up");
    assert_eq!(get("error"), "[]");
    inside.shell("ip link del late").ok();
    wait::until("its end to be told", || get("link_state") == "down");
    assert!(get("error").contains("No such device"), "{}", get("error"));
    assert_eq!(get("ofport"), "1", "its number is kept");
    inside.shell(make).ok();
    wait::until("it to be taken up again", || get("link_state") == "up");
    assert_eq!(
        (get("ofport"), get("error")),
        ("1".to_owned(), "[]".to_owned())
    );
}

#[test]
fn fast_failover_follows_a_link_at_once() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let inside = weir.namespace.as_ref().unwrap();
    t.ok("ovs-vsctl add-br br0 -- set bridge br0 protocols=OpenFlow13 fail_mode=secure");
    let source = Host::on_bridge(&t, "br0", "p1", 1);
    let first = Host::on_bridge(&t, "br0", "p2", 2);
    let second = Host::on_bridge(&t, "br0", "p3", 2);
    t.ok("ovs-ofctl -OOpenFlow13 add-group br0 group_id=1,type=ff,bucket=watch_port:p2,actions=output:p2,bucket=watch_port:p3,actions=output:p3");
    t.ok("ovs-ofctl -OOpenFlow13 add-flow br0 in_port=p1,actions=group:1");
    t.ok("ovs-ofctl -OOpenFlow13 add-flow br0 in_port=p2,actions=output:p1");
    t.ok("ovs-ofctl -OOpenFlow13 add-flow br0 in_port=p3,actions=output:p1");
    // Both have the same addresses.
    second.sh("ip link set eth0 address 52:54:00:00:00:02").ok();
    wait::until("the first way", || source.pings("10.0.0.2"));
    let received = |h: &Host| -> u64 {
        let n = h.sh("cat /sys/class/net/eth0/statistics/rx_packets").ok();
        n.trim().parse().unwrap()
    };
    let before = received(&second);
    // A ping each millisecond, and the first way is cut: few are lost, where a look each second would lose hundreds.
    let burst = std::thread::scope(|s| {
        let run = s.spawn(|| {
            source
                .sh("ping -n -q -c 1000 -i 0.002 -W 1 10.0.0.2")
                .stdout
        });
        wait::until("the burst", || received(&first) > 100);
        let begun = Instant::now();
        inside.shell("ip link set p2 down").ok();
        wait::until("the second way", || received(&second) > before + 10);
        let took = begun.elapsed();
        (run.join().unwrap(), took)
    });
    let lost: f32 = burst
        .0
        .split("% packet loss")
        .next()
        .and_then(|l| l.split([',', ' ']).next_back()?.parse().ok())
        .unwrap_or_else(|| panic!("{}", burst.0));
    assert!(burst.1 < Duration::from_secs(20));
    assert!(lost < 15.0, "{}", burst.0);
}

#[test]
fn a_tunnel_that_is_to_encrypt_is_not_made_and_one_that_is_not_is() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br br0");
    let ran = t.line(
        "ovs-vsctl add-port br0 t1 -- set interface t1 type=gre options:remote_ip=192.168.1.20 options:psk=swordfish",
    );
    assert!(
        ran.stderr.contains("never sends in clear"),
        "{}",
        ran.stderr
    );
    let get = |column: &str| {
        t.ok(&format!("ovs-vsctl get interface t1 {column}"))
            .trim()
            .to_owned()
    };
    assert_eq!(get("ofport"), "-1");
    assert!(!t.ok("ovs-ofctl show br0").contains("(t1)"));
    t.ok("ovs-vsctl remove interface t1 options psk");
    assert_eq!(
        (get("ofport"), get("error")),
        ("1".to_owned(), "[]".to_owned())
    );
    t.ok("ovs-vsctl set interface t1 options:psk=swordfish");
    assert_eq!(
        get("ofport"),
        "-1",
        "a tunnel that is to encrypt from now on ends"
    );
    let types = t.ok("ovs-vsctl get Open_vSwitch . iface_types");
    for kind in [
        "erspan",
        "geneve",
        "gre",
        "gtpu",
        "ip6erspan",
        "ip6gre",
        "vxlan",
    ] {
        assert!(types.contains(kind), "{kind} in {types}");
    }
}
