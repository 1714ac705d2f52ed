//! W9: port mirroring. In place of the book's `dummy0`, a device that not every kernel has, the copies go to one end of a veth, and
//! whoever listens at the other end sees them.

use crate::typed_twice;
use tests::capture::Capture;
use tests::guest::Guest;
use tests::host::Host;
use tests::process::Daemon;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::{need, wait};

typed_twice!(walk);

/// Nothing is said on it but what the test says; and what is captured is what is on the wire.
fn hush(host: &Host) {
    host.sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; ethtool -K eth0 tx off rx off tso off gso off gro off")
        .ok();
}

/// A device for copies, as `dummy0`; nobody answers there.
fn watcher(weir: &Weir) -> Host {
    let inside = weir.namespace.as_ref().unwrap();
    inside
        .shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        .ok();
    let watcher = Host::new(weir, "dummy0", 9);
    hush(&watcher);
    watcher
        .sh("ip addr flush dev eth0 && ip link set eth0 promisc on")
        .ok();
    watcher
}

/// What the mirror counts, once it counts so many packets: bytes.
fn counted(t: &Typed, packets: usize) -> usize {
    let key = |key: &str| {
        let n = t.ok(&format!("ovs-vsctl get mirror M1 statistics:{key}"));
        n.trim().parse::<usize>().unwrap()
    };
    wait::until("the mirror's statistics", || key("tx_packets") >= packets);
    assert_eq!(key("tx_packets"), packets);
    key("tx_bytes")
}

fn bytes(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(Vec::len).sum()
}

/// The copies are the frames that passed `of`, each once; those frames.
#[track_caller]
fn assert_same(copies: &Capture, of: &Capture, what: &str) -> Vec<Vec<u8>> {
    wait::until(what, || copies.frames().len() >= of.frames().len());
    let (copies, expected) = (copies.sorted(), of.sorted());
    assert!(!expected.is_empty(), "{what}: nothing was sent");
    assert_eq!(copies, expected, "{what}");
    expected
}

/// Whether a frame is of this sender.
fn is_from(frame: &[u8], mac: &str) -> bool {
    let mac: Vec<u8> = mac
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    frame[6..12] == mac
}

fn walk(tools: Tools) {
    need!(Tcpdump);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok("ovs-vsctl set Open_vSwitch . other_config:stats-update-interval=1000");
    t.ok("ovs-vsctl add-br vswitch001");
    let watcher = watcher(&weir);
    let fed: Vec<Host> = (1..=3)
        .map(|n| Host::on_bridge(&t, "vswitch001", &format!("fed{n}"), n))
        .collect();
    fed.iter().for_each(hush);
    let uuid = |name: &str| {
        let id = t.ok(&format!(
            "ovs-vsctl --bare --columns=_uuid list port {name}"
        ));
        id.trim().to_owned()
    };
    let listen = |host: &Host| Capture::start(&host.namespace, "eth0", "", weir.dir());

    // 1: blank.
    t.ok("ovs-vsctl -- --id=@m create mirror name=M1 -- add bridge vswitch001 mirrors @m");
    let blank = t.ok("ovs-vsctl list mirror");
    for (column, value) in [
        ("name", "M1"),
        ("output_port", "[]"),
        ("output_vlan", "[]"),
        ("select_all", "false"),
        ("select_dst_port", "[]"),
        ("select_src_port", "[]"),
        ("select_vlan", "[]"),
        ("statistics", "{}"),
    ] {
        let says = |l: &str| {
            let (c, v) = l.split_once(':').unwrap_or_default();
            (c.trim(), v.trim()) == (column, value)
        };
        assert!(blank.lines().any(says), "{column}: {blank}");
    }

    // 2: a blank mirror copies nothing: only what is flooded reaches the port.
    t.ok("ovs-vsctl add-port vswitch001 dummy0");
    assert!(fed[0].pings("10.0.0.2"));
    let seen = listen(&watcher);
    assert!(fed[0].pings_all("10.0.0.2", 5));
    fed[2].forget_neighbours();
    assert!(fed[2].pings("10.0.0.1"), "who asks is heard by all");
    wait::until("the broadcast", || !seen.frames().is_empty());
    let flooded = |c: &Capture| c.frames().iter().all(|f| f[0] & 1 != 0);
    assert!(flooded(&seen), "unicast at a blank mirror's port");
    drop(seen);

    // 3 and 4: what passes fed1 goes to dummy0.
    t.ok("ovs-vsctl -- --id=@fed1 get port fed1 -- set mirror M1 select_src_port=@fed1 select_dst_port=@fed1");
    t.ok(&format!(
        "ovs-vsctl set mirror M1 output_port={}",
        uuid("dummy0")
    ));
    wait::until("statistics", || {
        t.ok("ovs-vsctl list mirror")
            .contains("{tx_bytes=0, tx_packets=0}")
    });
    let list = t.ok("ovs-vsctl list mirror");
    assert!(
        list.contains(&uuid("fed1")) && list.contains(&uuid("dummy0")),
        "{list}"
    );

    // 5 and 6: both directions, exact; and the hosts see each frame once.
    let (copies, at_1, at_2) = (listen(&watcher), listen(&fed[0]), listen(&fed[1]));
    assert!(fed[0].pings_all("10.0.0.2", 10));
    fed[0].sh("ping -n -c 3 -i 0.05 -s 1400 -W 2 10.0.0.2").ok();
    let mut server = fed[1].namespace.command("/usr/bin/python3");
    server.args(["-c", "import socket; s=socket.create_server(('10.0.0.2',80)); c,_=s.accept(); c.recv(99); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n'*2000); c.close()"]);
    let server = Daemon::spawn(server, &weir.dir().join("server.log"));
    wait::until("an answer by HTTP", || {
        let line = "exec 3<>/dev/tcp/10.0.0.2/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -c 15 <&3; cat <&3 >/dev/null";
        let answer = fed[0].namespace.run(["bash", "-c", line]);
        answer.stdout.starts_with("HTTP/1.0 200")
    });
    drop(server);
    let frames = assert_same(&copies, &at_1, "copies of what passes fed1");
    let get = |f: &Vec<u8>| f.windows(14).any(|w| w == b"GET / HTTP/1.0");
    assert!(frames.iter().any(get), "the request among them");
    assert_eq!(counted(&t, frames.len()), bytes(&frames));
    assert_eq!(at_2.sorted(), frames, "fed2 sees what fed1 sees, once");
    drop((copies, at_1, at_2));

    // 7: one direction.
    for (set, clear, from_fed1) in [("src", "dst", true), ("dst", "src", false)] {
        t.ok(&format!("ovs-vsctl clear mirror M1 select_{clear}_port"));
        t.ok(&format!(
            "ovs-vsctl -- --id=@fed1 get port fed1 -- set mirror M1 select_{set}_port=@fed1"
        ));
        let (copies, at_1) = (listen(&watcher), listen(&fed[0]));
        assert!(fed[0].pings_all("10.0.0.2", 5));
        wait::until("five copies", || copies.frames().len() >= 5);
        let mut one_way = at_1.sorted();
        one_way.retain(|f| is_from(f, &fed[0].mac) == from_fed1);
        assert_eq!(copies.sorted(), one_way, "only {set}");
    }

    // 8: everything, once, but for what dummy0 sends itself.
    t.ok("ovs-vsctl -- --id=@dummy0 get port dummy0 -- set mirror M1 select_all=true output_port=@dummy0");
    assert!(fed[1].pings("10.0.0.3"));
    let (copies, at_2, at_3) = (listen(&watcher), listen(&fed[1]), listen(&fed[2]));
    assert!(fed[1].pings_all("10.0.0.3", 5));
    let frames = assert_same(&copies, &at_2, "copies of another pair's");
    assert_eq!(at_3.sorted(), frames);
    watcher
        .sh("ip addr add 10.0.0.9/24 dev eth0; ping -n -c 1 -W 1 10.0.0.3; ip addr flush dev eth0");
    assert!(fed[1].pings_all("10.0.0.3", 1));
    wait::until("the next frames", || {
        at_3.frames().len() >= frames.len() + 2
    });
    let from_there = |f: &Vec<u8>| is_from(f, &watcher.mac);
    assert!(
        !at_3.frames().iter().any(from_there),
        "nothing comes from a mirror's port"
    );
    drop((copies, at_2, at_3));

    // 9: one VLAN.
    t.ok("ovs-vsctl set port fed1 tag=10 -- set port fed2 tag=10");
    t.ok("ovs-vsctl set mirror M1 select_vlan=10");
    assert!(fed[0].pings("10.0.0.2"));
    let (copies, at_1) = (listen(&watcher), listen(&fed[0]));
    fed[2].sh("ping -n -c 1 -W 0.2 10.0.0.77");
    assert!(fed[0].pings_all("10.0.0.2", 5));
    wait::until("ten copies", || {
        copies.frames().len() >= at_1.frames().len()
    });
    // dummy0 is a trunk: there the VLAN shows.
    let tagged = |f: Vec<u8>| [&f[..12], &[0x81, 0, 0, 10], &f[12..]].concat();
    let mut expected: Vec<Vec<u8>> = at_1.frames().into_iter().map(tagged).collect();
    expected.sort();
    assert_eq!(copies.sorted(), expected, "VLAN 10 alone");
    drop((copies, at_1));

    // 10: no mirror, no copies.
    t.ok("ovs-vsctl clear bridge vswitch001 mirrors");
    assert_eq!(t.ok("ovs-vsctl list mirror"), "");
    t.ok("ovs-vsctl clear port fed1 tag -- clear port fed2 tag");
    assert!(fed[0].pings("10.0.0.2"));
    let copies = listen(&watcher);
    assert!(fed[0].pings_all("10.0.0.2", 5));
    fed[2].forget_neighbours();
    assert!(fed[2].pings("10.0.0.2"));
    wait::until("a broadcast", || !copies.frames().is_empty());
    assert!(flooded(&copies), "{:?}", copies.frames());
}

#[test]
fn guests_on_vhost_user_ports_are_mirrored_exactly() {
    need!(Root, Tcpdump);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl set Open_vSwitch . other_config:stats-update-interval=1000");
    t.ok("ovs-vsctl add-br vswitch001");
    let watcher = watcher(&weir);
    t.ok("ovs-vsctl add-port vswitch001 dummy0");
    let mut guests: Vec<Guest> = (1..=2)
        .map(|n| {
            let port = format!("fed{n}");
            Guest::start(&weir, "vswitch001", &port, n, crate::guests::kind())
        })
        .collect();
    let copies = Capture::start(&watcher.namespace, "eth0", "", weir.dir());
    // From before the first frame, so that port and mirror count the same.
    t.ok("ovs-vsctl -- --id=@p get port fed1 -- --id=@d get port dummy0 -- --id=@m create mirror name=M1 select_src_port=@p select_dst_port=@p output_port=@d -- add bridge vswitch001 mirrors @m");
    let report = guests[0].ask("ping 10.0.0.2 count=50 interval=2", "ping-done");
    assert!(report.contains("received=50"), "{report}");
    wait::until("a hundred copies", || copies.frames().len() >= 102);
    let frames = copies.frames();
    assert_eq!(counted(&t, frames.len()), bytes(&frames));
    let echoes = frames.iter().filter(|f| f[12..14] == [8, 0] && f[23] == 1);
    assert_eq!(echoes.count(), 100, "50 requests and their replies, once");
    let of_port = |key: &str| {
        let n = t.ok(&format!("ovs-vsctl get interface fed1 statistics:{key}"));
        n.trim().parse::<usize>().unwrap()
    };
    wait::until("the port's statistics", || {
        of_port("rx_packets") + of_port("tx_packets") >= frames.len()
    });
    assert_eq!(
        of_port("rx_packets") + of_port("tx_packets"),
        frames.len(),
        "all of it, once"
    );
    assert_eq!(of_port("rx_bytes") + of_port("tx_bytes"), bytes(&frames));
}
