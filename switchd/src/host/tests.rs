use super::show;
use super::table::*;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `eth0` with 192.168.1.10/24 and 2001:db8::10/64, `eth1` with nothing.
fn table() -> Table {
    let link = |name: &str| Link {
        name: name.into(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        mtu: 1500,
        carrier: true,
    };
    let address = |a: &str, prefix| Address {
        link: 2,
        ip: ip(a),
        prefix,
    };
    let entry = |network: &str, prefix, link| Entry {
        table: 254,
        network: ip(network),
        prefix,
        link,
        gateway: None,
        source: None,
        metric: 0,
        local: false,
    };
    let mut default = entry("0.0.0.0", 0, 2);
    default.gateway = Some(ip("192.168.1.1"));
    let mut local = entry("192.168.1.10", 32, 2);
    (local.local, local.table) = (true, 255);
    let mut marked = entry("10.0.0.0", 8, 2);
    (marked.table, marked.gateway) = (100, Some(ip("192.168.1.2")));
    Table {
        links: [(2, link("eth0")), (3, link("eth1"))].into(),
        addresses: vec![address("192.168.1.10", 24), address("2001:db8::10", 64)],
        routes: vec![
            default,
            entry("192.168.1.0", 24, 2),
            entry("10.9.0.0", 16, 3),
            local,
            marked,
        ],
        neighbours: vec![Neighbour {
            link: 2,
            ip: ip("192.168.1.1"),
            mac: "52:54:00:00:00:99".parse().unwrap(),
        }],
        marked: vec![Marked {
            ipv4: true,
            mark: 7,
            table: 100,
        }],
    }
}

/// A host with that table, and how often it published.
fn host() -> (Arc<Host>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let (host, _task) = Host::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    host.set_table(table());
    (host, count)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn routes_are_shown_with_the_source_that_packets_get() {
    let (host, _) = host();
    assert_eq!(
        show::routes(&host),
        "Route Table:\n\
         Cached: 192.168.1.10/32 dev eth0 SRC 192.168.1.10 local\n\
         Cached: 192.168.1.0/24 dev eth0 SRC 192.168.1.10\n\
         Cached: 10.0.0.0/8 MARK 7 dev eth0 GW 192.168.1.2 SRC 192.168.1.10\n\
         Cached: 0.0.0.0/0 dev eth0 GW 192.168.1.1 SRC 192.168.1.10\n"
    );
    let routes = host.routes();
    assert_eq!(
        routes
            .neighbour("eth0", ip("192.168.1.1"))
            .map(|m| m.to_string()),
        Some("52:54:00:00:00:99".into())
    );
    assert_eq!(routes.devices["eth0"].mtu, 1500);
    assert_eq!(
        routes.lookup(ip("10.1.1.1"), 7).unwrap().next,
        ip("192.168.1.2")
    );
    assert_eq!(
        routes.lookup(ip("10.1.1.1"), 0).unwrap().next,
        ip("192.168.1.1")
    );
}

#[test]
fn routes_by_hand_go_before_the_host_s_and_end_when_deleted() {
    let (host, _) = host();
    let add = |line: &str| show::add_route(&host, &words(line));
    assert_eq!(add("0.0.0.0/1 eth0 192.168.1.7").unwrap(), "OK");
    let lookup = |line: &str| show::lookup(&host, &words(line));
    assert_eq!(
        lookup("10.1.1.1").unwrap(),
        "src 192.168.1.10\ngateway 192.168.1.7\ndev eth0\n"
    );
    assert_eq!(
        lookup("192.168.1.9").unwrap(),
        "src 192.168.1.10\ngateway ::\ndev eth0\n"
    );
    assert_eq!(lookup("2001:db8::1").unwrap_err(), "Not found");
    assert_eq!(lookup("10.0.0.0/8").unwrap_err(), "Invalid parameters");
    let delete = |line: &str| show::delete_route(&host, &words(line));
    assert_eq!(delete("0.0.0.0/1 pkt_mark=1").unwrap_err(), "Not found");
    assert_eq!(delete("0.0.0.0/1").unwrap(), "OK");
    assert_eq!(delete("0.0.0.0/1").unwrap_err(), "Not found");
}

#[test]
fn routes_that_could_not_be_used_are_refused() {
    let (host, _) = host();
    let add = |line: &str| show::add_route(&host, &words(line)).unwrap_err();
    assert_eq!(add("1.1.1.0/24 eth9"), "Error while inserting route.");
    assert_eq!(add("1.1.1.0/24 eth0"), "Error while inserting route.");
    assert_eq!(
        add("1.1.1.0/24 eth1 192.168.1.1"),
        "Error while inserting route."
    );
    assert_eq!(
        add("1.1.1.0/24 eth0 192.168.1.1 src=192.168.1.11"),
        "Error while inserting route."
    );
    assert_eq!(add("1.1.1.0/33 eth0"), "Invalid parameters");
    assert_eq!(
        add("1.1.1.0/24 eth0 2001:db8::1"),
        "Invalid pkt_mark or gateway"
    );
}

#[test]
fn nothing_is_published_unless_something_changed() {
    let (host, count) = host();
    let before = count.load(Ordering::Relaxed);
    host.set_table(table());
    assert_eq!(count.load(Ordering::Relaxed), before);
    let mut other = table();
    other.neighbours.clear();
    host.set_table(other);
    assert_eq!(count.load(Ordering::Relaxed), before + 1);
}

mod messages {
    use super::super::table::{Entry, Marked, Neighbour};
    use super::ip;
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::neighbour::*;
    use rtnetlink::packet_route::route::*;
    use rtnetlink::packet_route::rule::*;

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut m = RouteMessage::default();
        m.header.address_family = AddressFamily::Inet;
        m.header.kind = kind;
        m.header.table = 254;
        m.attributes = attributes;
        m
    }

    fn hop(link: u32, flags: RouteNextHopFlags, gateway: &str) -> RouteNextHop {
        let mut h = RouteNextHop::default();
        (h.interface_index, h.flags) = (link, flags);
        h.attributes = vec![RouteAttribute::Gateway(ip(gateway).into())];
        h
    }

    #[test]
    fn of_several_hops_the_first_that_is_alive_is_taken() {
        let hops = vec![
            hop(2, RouteNextHopFlags::Dead, "10.0.0.1"),
            hop(3, RouteNextHopFlags::Linkdown, "10.0.1.1"),
            hop(4, RouteNextHopFlags::empty(), "10.0.2.1"),
            hop(5, RouteNextHopFlags::empty(), "10.0.3.1"),
        ];
        let m = route(RouteType::Unicast, vec![RouteAttribute::MultiPath(hops)]);
        let e = Entry::read(&m).unwrap();
        assert_eq!((e.link, e.gateway), (4, Some(ip("10.0.2.1"))));
        let dead = vec![hop(2, RouteNextHopFlags::Dead, "10.0.0.1")];
        let m = route(RouteType::Unicast, vec![RouteAttribute::MultiPath(dead)]);
        assert_eq!(Entry::read(&m), None);
    }

    #[test]
    fn routes_that_lead_nowhere_are_left_out() {
        for kind in [
            RouteType::BlackHole,
            RouteType::Unreachable,
            RouteType::Broadcast,
        ] {
            assert_eq!(
                Entry::read(&route(kind, vec![RouteAttribute::Oif(2)])),
                None
            );
        }
        let local = route(RouteType::Local, vec![RouteAttribute::Oif(2)]);
        assert!(Entry::read(&local).unwrap().local);
    }

    #[test]
    fn only_rules_that_ask_for_nothing_but_a_mark_are_obeyed() {
        let rule = |attributes: Vec<RuleAttribute>| {
            let mut m = RuleMessage::default();
            m.header.family = AddressFamily::Inet;
            m.header.action = RuleAction::ToTable;
            m.attributes = attributes;
            Marked::read(&m)
        };
        use RuleAttribute::{FwMark, FwMask, Iifname, Table};
        let read = rule(vec![FwMark(7), FwMask(u32::MAX), Table(100)]).unwrap();
        assert_eq!((read.mark, read.table, read.ipv4), (7, 100, true));
        assert_eq!(rule(vec![Table(100)]), None);
        assert_eq!(rule(vec![FwMark(7), FwMask(0xff), Table(100)]), None);
        let other = vec![FwMark(7), FwMask(u32::MAX), Table(100), Iifname("x".into())];
        assert_eq!(rule(other), None);
    }

    #[test]
    fn neighbours_count_once_their_address_is_known() {
        let read = |state| {
            let mut m = NeighbourMessage::default();
            (m.header.ifindex, m.header.state) = (2, state);
            m.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
                NeighbourAttribute::LinkLayerAddress(vec![0x52, 0x54, 0, 0, 0, 1]),
            ];
            Neighbour::read(&m)
        };
        for known in [
            NeighbourState::Reachable,
            NeighbourState::Stale,
            NeighbourState::Permanent,
        ] {
            assert_eq!(read(known).unwrap().mac.to_string(), "52:54:00:00:00:01");
        }
        for not in [
            NeighbourState::Failed,
            NeighbourState::Incomplete,
            NeighbourState::Noarp,
        ] {
            assert_eq!(read(not), None);
        }
    }
}
