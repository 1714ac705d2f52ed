//! W11: ICMP is blocked by REST, at once, and comes back.

use crate::typed_twice;
use crate::w10_controller::start_controller;
use serde_json::json;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{rest, wait};

typed_twice!(walk);

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let _controller = start_controller(&weir);
    t.ok("ovs-vsctl add-br vswitch001 -- set-fail-mode vswitch001 secure -- set-controller vswitch001 tcp:127.0.0.1:6633");
    let guests = [
        Host::on_bridge(&t, "vswitch001", "fed1", 1),
        Host::on_bridge(&t, "vswitch001", "fed2", 2),
        Host::on_bridge(&t, "vswitch001", "fed3", 3),
    ];
    wait::until("the controller to forward", || guests[0].pings("10.0.0.2"));
    // Cached flows for ICMP are active.
    assert!(guests[0].pings_all("10.0.0.2", 5));

    let block = json!({"name": "block-icmp", "node": "vswitch001", "priority": 500, "match": {"protocol": "icmp"}, "actions": "drop"});
    let (status, answer) = rest::call(&weir, "POST", "/api/v1/flows", Some(&block));
    assert!(status == 200 || status == 201, "{status} {answer}");
    for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        assert!(!guests[a].pings(&guests[b].address), "{a} still pings {b}");
    }
    // TCP still passes.
    let server = guests[1]
        .namespace
        .enter(|| std::net::TcpListener::bind("10.0.0.2:8000").unwrap());
    guests[0].namespace.enter(|| {
        std::net::TcpStream::connect_timeout(
            &"10.0.0.2:8000".parse().unwrap(),
            std::time::Duration::from_secs(5),
        )
        .expect("TCP passes")
    });
    drop(server);

    let counted = || -> u64 {
        let flows = t.ok("ovs-ofctl dump-flows vswitch001");
        let line = flows
            .lines()
            .find(|l| l.contains("priority=500,icmp actions=drop"))
            .unwrap_or_else(|| panic!("{flows}"))
            .to_owned();
        assert!(line.contains("duration="), "{line}");
        let packets = line
            .split("n_packets=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        packets.parse().unwrap()
    };
    let before = counted();
    assert!(before > 0, "the drop counts");
    assert!(!guests[0].pings("10.0.0.2"));
    assert!(counted() >= before + 3, "and goes on counting");

    let (status, _) = rest::call(&weir, "DELETE", "/api/v1/flows/block-icmp", None);
    assert!(status == 200 || status == 204, "{status}");
    assert!(guests[0].pings_all("10.0.0.2", 3), "ping works again");
}
