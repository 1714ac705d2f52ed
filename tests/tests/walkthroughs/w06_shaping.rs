//! W6: what leaves by a port is shaped.

use crate::guests::kind;
use crate::typed_twice;
use std::time::Duration;
use tests::guest::Guest;
use tests::host::Host;
use tests::need;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::traffic::{Flood, Sink, rates, tcp_rate};

typed_twice!(walk);

const SPAN: Duration = Duration::from_secs(4);
/// Of 1514 bytes on the wire TCP carries 1448.
const TCP: f64 = 1448.0 / 1514.0;
/// Payload of a datagram that fills a frame, and its part of it.
const DATAGRAM: usize = 1472;
const UDP: f64 = 1472.0 / 1514.0;

#[track_caller]
fn near(is: f64, wanted: f64, percent: f64) {
    let off = (is - wanted).abs() * 100.0 / wanted;
    assert!(off <= percent, "{is:.0} bit/s, not {wanted:.0}");
}

/// The number that a line of `qos/show` has, by its queue.
fn shown(t: &Typed, port: &str, queue: &str, key: &str) -> u64 {
    let show = t.ok(&format!("ovs-appctl qos/show {port}"));
    let part = show.split(&format!("{queue}:\n")).nth(1);
    let value = part.and_then(|p| p.split(&format!("  {key}: ")).nth(1));
    let value = value.unwrap_or_else(|| panic!("no {key} of {queue} in {show}"));
    value.lines().next().unwrap().parse().unwrap()
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok("ovs-vsctl add-br vswitch001");
    let fed: Vec<Host> = (1..=3)
        .map(|n| Host::on_bridge(&t, "vswitch001", &format!("fed{n}"), n))
        .collect();
    assert!(fed[1].pings("10.0.0.1") && fed[2].pings("10.0.0.1"));

    let q0 = t.ok("ovs-vsctl --id=@q0 create queue other-config:min-rate=10000000 other-config:max-rate=10000000");
    let q0 = q0.trim();
    assert_eq!(q0.len(), 36);
    let list = t.ok("ovs-vsctl list queue");
    assert!(list.contains(q0), "{list}");
    assert!(
        list.contains("other_config        : {max-rate=\"10000000\", min-rate=\"10000000\"}"),
        "{list}"
    );
    let qos = t.ok(&format!(
        "ovs-vsctl create qos type=linux-htb queues=0={q0}"
    ));
    let qos = qos.trim();
    let list = t.ok("ovs-vsctl list qos");
    assert!(
        list.contains(&format!("queues              : {{0={q0}}}")),
        "{list}"
    );
    t.ok(&format!("ovs-vsctl set port fed1 qos={qos}"));
    let list = t.ok("ovs-vsctl --column=name,qos list port fed1");
    assert!(
        list.contains(&format!("qos                 : {qos}")),
        "{list}"
    );

    // Ten megabits a second towards Fed1, pings in the same queue are late and not lost; the other way nothing changes.
    let (one, two) = (&fed[0].namespace, &fed[1].namespace);
    std::thread::scope(|s| {
        let ping = s.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            fed[2].sh("ping -n -c 5 -i 0.2 -W 3 10.0.0.1")
        });
        near(tcp_rate(two, one, "10.0.0.1", SPAN), 10e6 * TCP, 2.0);
        let said = ping.join().unwrap().ok();
        assert!(said.contains(" 0% packet loss"), "{said}");
        let times = said.split("min/avg/max/mdev = ").nth(1).unwrap();
        let average: f64 = times.split('/').nth(1).unwrap().parse().unwrap();
        assert!(average > 5.0, "no packet waited: {said}");
    });
    assert_eq!(shown(&t, "fed1", "Default", "tx_errors"), 0);
    assert_eq!(shown(&t, "fed1", "Default", "min-rate"), 10_000_000);
    let back = tcp_rate(one, two, "10.0.0.2", SPAN / 4);
    assert!(back > 40e6, "{back:.0} bit/s from Fed1");

    // On the fly, in one line.
    t.ok("ovs-vsctl set port fed1 qos=@newqos -- --id=@newqos create qos type=linux-htb queues=0=@q0 -- --id=@q0 create queue other-config:min-rate=2000000 other-config:max-rate=2000000");
    near(tcp_rate(two, one, "10.0.0.1", SPAN), 2e6 * TCP, 2.0);

    // A leader and a member.
    t.ok("ovs-vsctl set port fed1 qos=@newqos -- --id=@newqos create qos type=linux-htb other-config:max-rate=8000000 queues:0=@q0 queues:1=@q1 -- --id=@q0 create queue other-config:min-rate=2000000 -- --id=@q1 create queue other-config:min-rate=6000000 other-config:max-rate=6000000");
    let flow = "in_port=fed2,udp,actions=enqueue:fed1:1";
    t.ok(&format!("ovs-ofctl add-flow vswitch001 priority=9,{flow}"));
    let sinks = [Sink::start(one, "10.0.0.1"), Sink::start(one, "10.0.0.1")];
    let member = Flood::start(&fed[2].namespace, sinks[0].at, DATAGRAM, 20_000_000);
    let read = || sinks.each_ref().map(|s| s.bytes() * 8);
    std::thread::sleep(SPAN / 4);
    // What nobody uses is borrowed.
    near(rates(SPAN, read)[0], 8e6 * UDP, 2.0);
    let leader = Flood::start(two, sinks[1].at, DATAGRAM, 20_000_000);
    std::thread::sleep(SPAN / 4);
    let [low, high] = rates(SPAN, read);
    near(low, 2e6 * UDP, 2.0);
    near(high, 6e6 * UDP, 2.0);
    drop((member, leader));
    let stats = t.ok("ovs-ofctl -O OpenFlow13 queue-stats vswitch001 fed1 1");
    assert!(stats.contains("queue 1: bytes="), "{stats}");
    let config = t.ok("ovs-ofctl queue-get-config vswitch001 fed1");
    assert!(config.contains("1"), "{config}");

    // A queue that is in use stays.
    let uuid = t.ok("ovs-vsctl get port fed1 qos");
    let queues = t.ok("ovs-vsctl --bare --columns=_uuid list queue");
    let used = t.ok(&format!("ovs-vsctl get qos {} queues:1", uuid.trim()));
    let error = t
        .line(&format!("ovs-vsctl destroy queue {}", used.trim()))
        .fails();
    assert!(error.contains("referential integrity violation"), "{error}");
    assert_eq!(t.ok("ovs-vsctl --bare --columns=_uuid list queue"), queues);

    t.ok("ovs-vsctl clear Port fed1 qos");
    t.ok("ovs-vsctl -- --all destroy qos");
    t.ok("ovs-vsctl -- --all destroy queue");
    assert_eq!(t.ok("ovs-vsctl list qos"), "");
    assert_eq!(t.ok("ovs-vsctl list queue"), "");
    assert_eq!(
        t.ok("ovs-appctl qos/show fed1"),
        "QoS not configured on fed1\n"
    );
    let free = tcp_rate(two, one, "10.0.0.1", SPAN / 4);
    assert!(free > 40e6, "{free:.0} bit/s");
}

#[test]
fn towards_a_guest() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br vswitch001");
    let mut guest = Guest::start(&weir, "vswitch001", "fed1", 1, kind());
    let host = Host::on_bridge(&t, "vswitch001", "fed2", 2);
    assert!(guest.pings("10.0.0.2"));
    t.ok("ovs-vsctl set port fed1 qos=@newqos -- --id=@newqos create qos type=linux-htb queues=0=@q0 -- --id=@q0 create queue other-config:min-rate=10000000 other-config:max-rate=10000000");
    let to = "10.0.0.1:9".parse().unwrap();
    let flood = Flood::start(&host.namespace, to, DATAGRAM, 30_000_000);
    std::thread::sleep(SPAN / 4);
    let read = || [shown(&t, "fed1", "Default", "tx_bytes") * 8];
    near(rates(SPAN, read)[0], 10e6, 2.0);
    assert!(shown(&t, "fed1", "Default", "tx_errors") > 0);
    // The guest itself still answers, behind what waits; and it got what was counted.
    drop(flood);
    let stats = guest.ask("stats", "stats");
    let received = stats.split("rx_packets=").nth(1).unwrap();
    let received: u64 = received.split(' ').next().unwrap().parse().unwrap();
    let sent = shown(&t, "fed1", "Default", "tx_packets");
    assert!(
        received + 2000 > sent && received > 2000,
        "{received} of {sent}"
    );
    t.ok("ovs-vsctl clear Port fed1 qos");
    assert!(guest.pings("10.0.0.2"));
}
