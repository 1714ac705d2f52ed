//! Tunnels over a bridge of ours: what a host with an integration bridge and an underlay bridge sends and takes, byte for byte.

mod common;

use common::*;
use datapath::port::dummy::{self, DummyHandle};
use datapath::route::{Device, Route, Routes};
use datapath::*;
use openflow::*;
use std::collections::HashMap;
use std::net::IpAddr;

/// The number of the first tunnel port.
const TUNNEL: u32 = 10;

/// A host: `br0` with ports 1 and 2 and tunnels from 10 on, and an underlay bridge with its own interface and port 1, the wire.
struct Host {
    s: Switch,
    phy: BridgeId,
    number: u8,
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0xaa, 0, 0, 0, n])
}

fn v4(n: u8) -> IpAddr {
    [192, 168, 0, n].into()
}

fn v6(n: u8) -> IpAddr {
    format!("fd00::{n}").parse().unwrap()
}

impl Host {
    /// Host `number`, with tunnels of these types and options.
    fn new(number: u8, tunnels: &[(&str, &str)]) -> Host {
        let s = Switch::new(2);
        let phy = s.dp.add_bridge("phy", BridgeConfig::default()).unwrap();
        let mut local = s.spec("phy", VlanConfig::default());
        local.local = true;
        s.dp.add_port(phy, local).unwrap();
        let wire = s.spec("wire", VlanConfig::default());
        s.dp.add_port(phy, wire).unwrap();
        let normal = FlowMod::add(Match::new(), out(PortNo::NORMAL));
        s.dp.flow_mod(phy, &normal).unwrap();
        let h = Host { s, phy, number };
        for (n, (kind, options)) in tunnels.iter().enumerate() {
            h.add(n, kind, options).unwrap();
        }
        h.set_routes(None);
        h.s.sent();
        h.wire().take_sent();
        h
    }

    fn add(&self, n: usize, kind: &str, options: &str) -> Result<PortNo, PortError> {
        self.s.dp.add_port(self.s.br, self.tunnel(n, kind, options))
    }

    fn tunnel(&self, n: usize, kind: &str, options: &str) -> PortSpec {
        let mut spec = self.s.spec(&format!("tun{n}"), VlanConfig::default());
        spec.ofport = Some(TUNNEL as u16 + n as u16);
        spec.interface.kind = kind.into();
        let pairs = options.split_whitespace().filter_map(|o| o.split_once('='));
        spec.interface.options = pairs.map(|(k, v)| (k.into(), v.into())).collect();
        spec
    }

    fn set_routes(&self, gateway: Option<IpAddr>) {
        let device = self.s.name("phy");
        let route = |network: &str, prefix, gateway| Route {
            network: network.parse().unwrap(),
            prefix,
            mark: 0,
            device: device.clone(),
            gateway,
            source: None,
            metric: 0,
            local: false,
            user: false,
        };
        let mut routes = Routes::new(vec![
            route("192.168.0.0", 24, gateway),
            route("fd00::", 64, None),
        ]);
        let interface = Device {
            mac: mac(self.number),
            addresses: vec![v4(self.number), v6(self.number)],
            mtu: 1500,
            carrier: true,
        };
        routes.devices = HashMap::from([(device, interface)]);
        self.s.dp.set_routes(routes);
    }

    fn wire(&self) -> DummyHandle {
        dummy::handle(&self.s.name("wire")).unwrap()
    }

    /// What left by the wire.
    fn left(&self) -> Vec<Vec<u8>> {
        self.wire()
            .take_sent()
            .into_iter()
            .map(|p| p.bytes)
            .collect()
    }

    /// A frame comes by the wire.
    fn takes(&self, frame: &[u8]) {
        assert!(self.wire().inject(frame, Default::default()));
        self.s.dp.settle();
    }

    /// Neighbour `n` of the host is known.
    fn knows(&self, n: u8, mac: MacAddr) {
        let device = self.s.name("phy");
        self.s.dp.set_tunnel_neighbour(&device, v4(n), mac);
        self.s.dp.set_tunnel_neighbour(&device, v6(n), mac);
    }

    fn flow(&self, text: &str) {
        self.s.dp.flow_mod(self.s.br, &parse(text)).unwrap();
    }

    fn drops(&self, reason: &str) -> u64 {
        let all = [self.s.br, self.phy].map(|b| self.s.dp.drop_stats(b, None));
        all.iter().filter_map(|d| d.get(reason)).sum()
    }

    /// Frames out of ports 1 and 2.
    fn sent(&self) -> Vec<(usize, Vec<u8>)> {
        self.s.sent()
    }
}

fn parse(text: &str) -> FlowMod {
    let names = text::Names::default();
    let line = text::parse_flow(text, text::FlowCommand::Add, &names).unwrap();
    line.flow_mod
}

fn arp_reply(from: IpAddr, from_mac: MacAddr, to: IpAddr, to_mac: MacAddr) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
        panic!("ARP is for IPv4")
    };
    let mut f = to_mac.0.to_vec();
    f.extend(from_mac.0);
    f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    f.extend(from_mac.0);
    f.extend(from.octets());
    f.extend(to_mac.0);
    f.extend(to.octets());
    f
}

/// Two hosts with one tunnel each to the other, of which port 1 is patched through.
fn pair(kind: &str, options: &str, v6_outside: bool) -> (Host, Host) {
    let ip = |n| if v6_outside { v6(n) } else { v4(n) };
    let host = |n, peer| {
        let h = Host::new(n, &[(kind, &format!("remote_ip={} {options}", ip(peer)))]);
        h.flow("in_port=1,actions=output:10");
        h.flow("in_port=10,actions=output:1");
        h.knows(peer, mac(peer));
        h
    };
    (host(1, 2), host(2, 1))
}

#[test]
fn a_frame_gets_headers_on_one_host_and_loses_them_on_the_other() {
    for (kind, options) in [
        ("vxlan", "key=5"),
        ("geneve", "key=5"),
        ("gre", "key=5 csum=true seq=true"),
        ("erspan", "key=5 erspan_ver=1 erspan_idx=7"),
        ("erspan", "key=5 erspan_ver=2 erspan_dir=1 erspan_hwid=3"),
        ("vxlan", "key=5 dst_port=8472 csum=true"),
    ] {
        for v6 in [false, true] {
            let kind = match (kind, v6) {
                ("gre", true) => "ip6gre",
                ("erspan", true) => "ip6erspan",
                (kind, _) => kind,
            };
            let (a, b) = pair(kind, options, v6);
            for n in 0..5 {
                a.s.send(1, &udp(1, 2));
                let frames = a.left();
                assert_eq!(frames.len(), 1, "{kind} {options} {n}");
                assert_eq!(frames[0][..12], [mac(2).0, mac(1).0].concat());
                b.takes(&frames[0]);
                assert_eq!(b.sent(), [(1, udp(1, 2))], "{kind} {options} {n}");
            }
            let misses = b.s.dp.cache_stats().misses;
            assert_eq!(misses, 2, "one flow outside and one inside");
            let count = |h: &Host| h.s.dp.port_stats(h.s.br, PortNo(TUNNEL)).unwrap();
            assert_eq!((count(&a).tx_packets, count(&a).tx_bytes), (5, 300));
            assert_eq!((count(&b).rx_packets, count(&b).rx_bytes), (5, 300));
            // And from there.
            b.s.send(1, &udp(2, 1));
            a.takes(&b.left()[0]);
            assert_eq!(a.sent(), [(1, udp(2, 1))]);
        }
    }
}

#[test]
fn vxlan_is_exact_to_the_byte_and_shown_as_open_vswitch_shows_it() {
    let (a, b) = pair("vxlan", "key=123", false);
    a.s.send(1, &udp(1, 2));
    let frame = a.left().remove(0);
    let mut expected = [mac(2).0, mac(1).0].concat();
    expected.extend([8, 0, 0x45, 0, 0, 96, 0, 0, 0x40, 0, 64, 17]);
    expected.extend([0, 0, 192, 168, 0, 1, 192, 168, 0, 2]);
    let sum = datapath::packet::checksum::of(&expected[14..34]);
    expected[24..26].copy_from_slice(&sum.to_be_bytes());
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!((32768..61000).contains(&port));
    expected.extend(port.to_be_bytes());
    expected.extend([0x12, 0xb5, 0, 76, 0, 0, 8, 0, 0, 0, 0, 0, 123, 0]);
    expected.extend(udp(1, 2));
    assert_eq!(frame, expected);
    b.takes(&frame);
    let flow = |h: &Host, port: &str| {
        let flows = h.s.dp.cached_flows();
        let f = flows.into_iter().find(|f| f.in_port_name == h.s.name(port));
        f.map(|f| (f.key, f.actions)).unwrap()
    };
    let (local, wire) = (a.s.name("phy"), a.s.name("wire"));
    assert_eq!(
        flow(&a, "1").1,
        format!(
            "clone(tnl_push(tnl_port(4789),header(size=50,type=4,eth(dst={},src={},dl_type=0x0800),\
             ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,tos=0,ttl=64,frag=0x4000),\
             udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7b)),out_port({local})),{wire})",
            mac(2),
            mac(1)
        )
    );
    assert_eq!(flow(&b, "wire").1, "tnl_pop(4789)");
    b.flow("in_port=10,tun_id=123,priority=40000,actions=output:1");
    b.takes(&frame);
    let tunnel =
        "tunnel(tun_id=0x7b,src=192.168.0.1,dst=192.168.0.2,flags(+df-csum+key)),recirc_id(0)";
    let key = flow(&b, "tun0").0;
    assert!(key.starts_with(tunnel), "{key}");
    // The underlay's rules count what is on the wire.
    let rules = a.s.dp.flow_stats(a.phy, &FlowFilter::default());
    assert_eq!((rules[0].packets, rules[0].bytes), (1, 96 + 14));
}

#[test]
fn a_neighbour_that_is_not_known_is_asked_for_and_used_when_it_answers() {
    let h = Host::new(1, &[("vxlan", "remote_ip=192.168.0.2")]);
    h.flow("in_port=1,actions=output:10");
    h.s.send(1, &udp(1, 2));
    h.s.send(1, &udp(1, 2));
    let asked = h.left();
    assert_eq!(asked.len(), 1, "asked once in a second");
    assert_eq!(asked[0][..6], [0xff; 6]);
    assert_eq!(
        (asked[0][21], &asked[0][38..42]),
        (1, &[192, 168, 0, 2][..])
    );
    assert_eq!(h.drops("tunnel_no_neighbour"), 2);
    let wanted = Event::NeighbourWanted {
        device: h.s.name("phy"),
        ip: v4(2),
    };
    assert_eq!(h.s.event(), Some(wanted));
    // An answer to somebody else is not ours to hear.
    h.takes(&arp_reply(v4(2), mac(9), v4(7), mac(7)));
    h.s.dp.clock().warp(std::time::Duration::from_secs(2));
    h.s.send(1, &udp(1, 2));
    assert_eq!(h.left().iter().filter(|f| f[12..14] == [8, 6]).count(), 1);
    h.takes(&arp_reply(v4(2), mac(2), v4(1), mac(1)));
    h.left();
    h.s.send(1, &udp(1, 2));
    let frames = h.left();
    assert_eq!((frames.len(), &frames[0][..6]), (1, &mac(2).0[..]));
    // It moves: the next packet goes where it is now.
    h.takes(&arp_reply(v4(2), mac(3), v4(1), mac(1)));
    h.left();
    h.s.send(1, &udp(1, 2));
    assert_eq!(h.left()[0][..6], mac(3).0);
    let known = h.s.dp.tunnel_neighbours();
    assert_eq!((known.len(), known[0].ip, known[0].mac), (1, v4(2), mac(3)));
    // Used, it stays; unused, it is forgotten.
    let age = h.s.dp.tunnel_neighbour_aging();
    let later = |by| {
        h.s.dp.clock().warp(by);
        h.s.dp.expire(h.s.dp.clock().now());
    };
    later(age / 2);
    h.s.send(1, &udp(1, 2));
    later(age / 2 + age / 4);
    assert_eq!(h.s.dp.tunnel_neighbours().len(), 1);
    later(age);
    assert_eq!(h.s.dp.tunnel_neighbours().len(), 0);
}

#[test]
fn routes_that_change_are_followed_by_cached_flows() {
    let h = Host::new(1, &[("vxlan", "remote_ip=192.168.0.2")]);
    h.flow("in_port=1,actions=output:10");
    h.knows(2, mac(2));
    h.knows(9, mac(9));
    let next_hop = || {
        h.s.send(1, &udp(1, 2));
        h.left().first().map(|f| f[..6].to_vec())
    };
    assert_eq!(next_hop().unwrap(), mac(2).0);
    h.set_routes(Some(v4(9)));
    assert_eq!(next_hop().unwrap(), mac(9).0);
    h.s.dp.set_routes(Routes::default());
    assert_eq!(next_hop(), None);
    assert_eq!(h.drops("tunnel_no_route"), 1);
    h.set_routes(None);
    assert_eq!(next_hop().unwrap(), mac(2).0);
    // Flows that lead into no tunnel are left alone.
    h.flow("in_port=2,actions=output:1");
    h.s.send(2, &udp(2, 1));
    let before = h.s.dp.cache_stats();
    h.set_routes(Some(v4(9)));
    h.s.send(2, &udp(2, 1));
    let after = h.s.dp.cache_stats();
    assert_eq!(
        (before.misses, before.revalidated),
        (after.misses, after.revalidated)
    );
}

#[test]
fn packets_are_of_the_most_specific_port_and_of_no_other() {
    let a = Host::new(1, &[("vxlan", "remote_ip=flow key=flow")]);
    a.flow("in_port=1,actions=set_field:192.168.0.2->tun_dst,set_field:7->tun_id,output:10");
    a.flow("in_port=2,actions=set_field:192.168.0.2->tun_dst,set_field:8->tun_id,output:10");
    a.knows(2, mac(2));
    let b = Host::new(
        2,
        &[
            ("vxlan", "remote_ip=192.168.0.1 key=7"),
            ("vxlan", "remote_ip=flow key=7"),
            ("vxlan", "remote_ip=192.168.0.1 key=flow"),
        ],
    );
    b.flow("in_port=10,actions=output:1");
    b.flow("in_port=12,tun_id=8,tun_src=192.168.0.1,actions=output:2");
    a.s.send(1, &udp(1, 2));
    a.s.send(2, &udp(1, 2));
    let frames = a.left();
    frames.iter().for_each(|f| b.takes(f));
    assert_eq!(b.sent(), [(1, udp(1, 2)), (2, udp(1, 2))]);
    // Ports that go and come.
    b.s.dp.remove_port(b.s.br, PortNo(10));
    b.flow("in_port=11,actions=output:2");
    b.takes(&frames[0]);
    assert_eq!(b.sent(), [(2, udp(1, 2))], "the next in order");
    b.s.dp.remove_port(b.s.br, PortNo(11));
    b.s.dp.remove_port(b.s.br, PortNo(12));
    b.takes(&frames[0]);
    assert_eq!(b.sent(), []);
    let e = b
        .add(1, "vxlan", "remote_ip=192.168.0.1 key=9")
        .and_then(|_| b.add(2, "vxlan", "remote_ip=192.168.0.1 key=9 df_default=false"));
    assert!(e.unwrap_err().to_string().contains("are those of"));
    b.takes(&frames[0]);
    assert_eq!(b.drops("tunnel_no_port"), 1);
}

#[test]
fn geneve_options_are_set_matched_told_of_and_deleted() {
    let maps = |n: u8| {
        vec![
            TlvMap {
                class: 0xffff,
                kind: 1,
                len: 4,
                index: 0,
            },
            TlvMap {
                class: 0x102,
                kind: 2,
                len: 8,
                index: u16::from(n),
            },
        ]
    };
    let a = Host::new(1, &[("geneve", "remote_ip=192.168.0.2 key=5")]);
    let b = Host::new(2, &[("geneve", "remote_ip=flow key=flow")]);
    a.s.dp.set_tunnel_options(a.s.br, maps(3)).unwrap();
    b.s.dp.set_tunnel_options(b.s.br, maps(12)).unwrap();
    a.knows(2, mac(2));
    a.flow("in_port=1,actions=set_field:0xa->tun_metadata0,set_field:0x1122334455->tun_metadata3,output:10");
    a.flow("in_port=2,actions=set_field:0xb->tun_metadata0,set_field:1->tun_metadata3,delete_field:tun_metadata3,output:10");
    b.flow("tun_metadata0=0xa/0xf,tun_metadata12=0x1122334455,actions=output:1");
    b.flow("tun_metadata0=0xb,actions=output:2,controller");
    a.s.send(1, &udp(1, 2));
    let first = a.left().remove(0);
    assert_eq!(first[42..44], [0x05, 0], "five words of options");
    assert_eq!(
        first[50..70],
        [
            0xff, 0xff, 1, 1, 0, 0, 0, 0xa, 1, 2, 2, 2, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55
        ]
    );
    a.s.send(2, &udp(1, 2));
    let second = a.left().remove(0);
    assert_eq!(
        (second[42], &second[50..58]),
        (2, &[0xff, 0xff, 1, 1, 0, 0, 0, 0xb][..])
    );
    for _ in 0..3 {
        b.takes(&first);
        b.takes(&second);
        assert_eq!(b.sent(), [(1, udp(1, 2)), (2, udp(1, 2))]);
    }
    let Some(Event::PacketIn { packet_in, .. }) = b.s.event() else {
        panic!("no packet-in")
    };
    let told = packet_in.metadata;
    assert_eq!(told.get(FieldId::TunMetadata0).0, 0xb);
    assert_eq!(
        (told.get(FieldId::TunId).0, told.get(FieldId::InPort).0),
        (5, TUNNEL.into())
    );
    assert_eq!(told.get(FieldId::TunMetadata12).1, 0, "there was none");
}

#[test]
fn floods_reach_tunnels_and_ports_each_unchanged() {
    let h = Host::new(
        1,
        &[
            ("vxlan", "remote_ip=192.168.0.2 key=5"),
            ("geneve", "remote_ip=192.168.0.3 key=6"),
        ],
    );
    h.knows(2, mac(2));
    h.knows(3, mac(3));
    h.flow("actions=NORMAL");
    for _ in 0..3 {
        h.s.send(1, &udp(1, 9));
        assert_eq!(h.sent(), [(2, udp(1, 9))]);
        let frames = h.left();
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|f| f.ends_with(&udp(1, 9))));
        assert_eq!((frames[0][5], frames[1][5]), (2, 3));
    }
    // Work left to do is done inside: a large frame becomes several, each with headers of its own.
    let (frame, offload) = tso(3000, 1000);
    h.s.send_with(1, &frame, offload);
    let frames = h.left();
    assert_eq!(frames.len(), 6);
    assert!(frames.iter().all(|f| f.len() == 50 + 54 + 1000));
}

#[test]
fn a_tunnel_through_itself_ends_with_a_reason() {
    let h = Host::new(1, &[]);
    let mut spec = h.s.spec("loop", VlanConfig::default());
    spec.interface.kind = "vxlan".into();
    spec.ofport = Some(20);
    spec.interface.options = [("remote_ip".into(), "192.168.0.2".into())].into();
    h.s.dp.add_port(h.phy, spec).unwrap();
    h.knows(2, mac(2));
    h.s.dp
        .flow_mod(h.phy, &parse("priority=40000,actions=output:20"))
        .unwrap();
    h.takes(&udp(1, 2));
    assert_eq!(h.left().len(), 0);
    assert_eq!(h.drops("tunnel_loop"), 1);
}

#[test]
fn what_is_no_tunnel_of_ours_reaches_the_host() {
    let (a, b) = pair("vxlan", "key=5", false);
    a.s.send(1, &udp(1, 2));
    let frame = a.left().remove(0);
    let local = dummy::handle(&b.s.name("phy")).unwrap();
    let reaches = |f: &[u8]| {
        b.takes(f);
        !local.take_sent().is_empty()
    };
    local.take_sent();
    assert!(!reaches(&frame));
    assert_eq!(b.sent().len(), 1);
    // Another UDP port, another address, a fragment.
    for (at, byte) in [(37, 0x66), (33, 77), (20, 0x20)] {
        let mut f = frame.clone();
        f[at] = byte;
        assert!(reaches(&f), "{at}");
    }
    assert_eq!(b.sent(), []);
    // A header that is not right is no packet of anybody.
    let mut f = frame.clone();
    f[42] = 0;
    assert!(!reaches(&f));
    assert_eq!(b.drops("tunnel_header"), 1);
}

#[test]
fn congestion_on_the_way_is_marked_inside_or_the_packet_dropped() {
    let (a, b) = pair("vxlan", "key=5", false);
    for (inner, expected) in [(0, None), (2, Some(3)), (1, Some(3)), (3, Some(3))] {
        let mut f = udp(1, 2);
        f[15] = inner;
        f[24..26].fill(0);
        let sum = datapath::packet::checksum::of(&f[14..34]);
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        a.s.send(1, &f);
        let mut outer = a.left().remove(0);
        assert_eq!(outer[15] & 3, if inner == 3 { 2 } else { inner });
        outer[15] |= 3;
        outer[24..26].fill(0);
        let sum = datapath::packet::checksum::of(&outer[14..34]);
        outer[24..26].copy_from_slice(&sum.to_be_bytes());
        b.takes(&outer);
        let seen = b.sent().pop().map(|(_, f)| f[15]);
        assert_eq!(seen, expected, "{inner}");
    }
    assert_eq!(b.drops("tunnel_congestion"), 1);
}

/// A frame of so many bytes.
fn long(len: usize, dont_fragment: bool) -> Vec<u8> {
    let mut f = udp(1, 2);
    f[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
    f[20] = if dont_fragment { 0x40 } else { 0 };
    f[38..40].copy_from_slice(&(len as u16 - 34).to_be_bytes());
    f[24..26].fill(0);
    let sum = datapath::packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f.resize(len, 7);
    f
}

/// A VXLAN frame with something else inside.
fn with_inside(outer: &[u8], inside: &[u8]) -> Vec<u8> {
    let mut f = [&outer[..50], inside].concat();
    let len = (f.len() - 14) as u16;
    f[16..18].copy_from_slice(&len.to_be_bytes());
    f[38..40].copy_from_slice(&(len - 20).to_be_bytes());
    f[24..26].fill(0);
    let sum = datapath::packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f
}

#[test]
fn quality_of_service_stands_before_the_encapsulation_and_counts_what_is_inside() {
    use datapath::qos::spec::QueueRow;
    let map = |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let queue = |rate| QueueRow {
        options: map(&[("max-rate", rate)]),
        dscp: None,
    };
    // A thousand bytes take a millisecond, or ten by the other queue.
    let queues = [(0, queue("8000000")), (1, queue("800000"))].into();
    let options = map(&[("max-rate", "8000000")]);
    let qos = datapath::qos::QosSpec::read("linux-htb", &options, &queues, &mut Vec::new());
    let qos = std::sync::Arc::new(qos.unwrap());
    let (a, b) = pair("vxlan", "key=5", false);
    a.flow("in_port=2,actions=set_queue:1,output:10");
    let shape = |qos| {
        let spec = PortSpec {
            qos,
            ..a.tunnel(0, "vxlan", "remote_ip=192.168.0.2 key=5")
        };
        a.s.dp.set_port(a.s.br, PortNo(TUNNEL), spec).unwrap();
        a.s.dp.settle();
    };
    let warp = |micros| {
        a.s.dp
            .clock()
            .warp(std::time::Duration::from_micros(micros));
        a.s.dp.settle();
    };
    let count = || {
        let p = a.s.dp.port_stats(a.s.br, PortNo(TUNNEL)).unwrap();
        (p.tx_packets, p.tx_bytes)
    };
    shape(Some(qos));
    let frame = long(1000, false);
    for _ in 0..5 {
        a.s.send(1, &frame);
    }
    // The burst is a full frame and 64 bytes.
    for (wait, n) in [(0, 1), (435, 0), (1, 1), (999, 0), (1, 1), (2000, 2)] {
        warp(wait);
        let left = a.left();
        assert_eq!(left.len(), n, "after {wait}");
        for f in left {
            assert_eq!((f.len(), &f[..6]), (1050, &mac(2).0[..]));
            b.takes(&f);
            assert_eq!(b.sent(), [(1, frame.clone())]);
        }
    }
    assert_eq!(count(), (5, 5000));
    for _ in 0..3 {
        a.s.send(2, &frame);
    }
    // The slow queue lets its burst pass, and then as its rate has it.
    warp(100_000);
    assert_eq!(a.left().len(), 3);
    // A large frame is the same to the rate as those it stands for.
    let (large, offload) = tso(3000, 1000);
    a.s.send_with(1, &large, offload);
    warp(100_000);
    let left = a.left();
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|f| f.len() == 50 + 54 + 1000));
    let stats = a.s.dp.queue_stats(a.s.br, PortNo(TUNNEL));
    let stats: Vec<_> = stats
        .iter()
        .map(|q| (q.queue, q.tx_packets, q.tx_bytes))
        .collect();
    assert_eq!(stats, [(0, 8, 5000 + 3 * 1054), (1, 3, 3000)]);
    assert_eq!(count(), (11, 8000 + 3 * 1054));
    // Without it, nothing waits.
    shape(None);
    for _ in 0..9 {
        a.s.send(1, &frame);
    }
    assert_eq!(a.left().len(), 9);
    assert_eq!(count(), (20, 17_000 + 3 * 1054));
}

#[test]
fn options_that_must_be_understood_and_are_not_refuse_the_packet() {
    let map = |len| {
        vec![TlvMap {
            class: 0x102,
            kind: 0x81,
            len,
            index: 0,
        }]
    };
    let (a, b) = pair("geneve", "key=5", false);
    a.s.dp.set_tunnel_options(a.s.br, map(4)).unwrap();
    a.flow("in_port=2,actions=set_field:7->tun_metadata0,output:10");
    a.s.send(1, &udp(1, 2));
    let plain = a.left().remove(0);
    a.s.send(2, &udp(1, 2));
    let critical = a.left().remove(0);
    assert_eq!(critical[43] & 0x40, 0x40);
    b.takes(&plain);
    assert_eq!(b.sent().len(), 1);
    // Nobody knows it; somebody does; somebody knows another.
    for (known, taken) in [(vec![], 0), (map(4), 1), (map(8), 0), (map(4), 1)] {
        b.s.dp.set_tunnel_options(b.s.br, known).unwrap();
        b.takes(&critical);
        b.takes(&critical);
        assert_eq!(b.sent().len(), taken * 2);
    }
    assert_eq!(b.drops("tunnel_option"), 4);
}

#[test]
fn a_group_policy_is_for_those_who_asked_for_it() {
    let (a, _) = pair("vxlan", "key=5 exts=gbp", false);
    a.flow("in_port=1,actions=set_field:7->tun_gbp_id,output:10");
    a.s.send(1, &udp(1, 2));
    let frame = a.left().remove(0);
    assert_eq!(frame[42..50], [0x88, 0, 0, 7, 0, 0, 5, 0]);
    for (options, taken) in [("key=5", 0), ("key=5 exts=gbp", 1)] {
        let (_, b) = pair("vxlan", options, false);
        b.flow("priority=40000,in_port=10,tun_gbp_id=7,actions=output:2");
        b.takes(&frame);
        assert_eq!(b.sent(), vec![(2, udp(1, 2)); taken]);
        assert_eq!(b.drops("tunnel_no_port"), 1 - taken as u64);
    }
}

#[test]
fn tunnels_of_bare_packets_take_the_ethernet_header_off() {
    for (kind, options) in [("gre", "key=5 packet_type=legacy_l3"), ("gtpu", "key=5")] {
        let (a, b) = pair(kind, options, false);
        let frame = udp(1, 2);
        a.s.send(1, &frame);
        let outer = a.left().remove(0);
        let header = if kind == "gre" { 8 } else { 16 };
        assert_eq!(outer[34 + header..][..46], frame[14..60], "{kind}");
        b.takes(&outer);
        let sent = b.sent();
        assert_eq!(sent.len(), 1, "{kind}");
        assert_eq!(sent[0].1[..12], [0; 12], "{kind}");
        assert_eq!(sent[0].1[12..60], frame[12..60], "{kind}");
    }
}

#[test]
fn who_is_too_long_for_the_next_tunnel_is_told_through_the_one_it_came_by() {
    for remote in ["192.168.0.2", "flow"] {
        let first = format!("remote_ip={remote} key=5");
        let a = Host::new(
            1,
            &[("vxlan", &first), ("vxlan", "remote_ip=192.168.0.3 key=6")],
        );
        a.knows(2, mac(2));
        a.knows(3, mac(3));
        a.flow("in_port=10,actions=output:11");
        let (_, b) = pair("vxlan", "key=5", false);
        b.s.send(1, &udp(1, 2));
        let frame = with_inside(&b.left().remove(0), &long(1514, true));
        a.takes(&frame);
        let left = a.left();
        assert_eq!(left.len(), 1, "{remote}");
        let told = &left[0];
        assert_eq!(
            (&told[..6], &told[30..34]),
            (&mac(2).0[..], &[192, 168, 0, 2][..])
        );
        assert_eq!(told[46..49], [0, 0, 5]);
        // ICMP: fragmentation needed and DF set (RFC 1191 4), from an MTU of 1500 less all headers.
        assert_eq!((told[73], &told[84..86]), (1, &[3, 4][..]));
        assert_eq!(told[90..92], 1450u16.to_be_bytes());
        assert_eq!(a.drops("tunnel_mtu"), 1);
    }
}

#[test]
fn traces_tell_of_tunnels_in_the_words_of_open_vswitch() {
    use datapath::pipeline::trace::{Step, What};
    fn remarks(steps: &[Step], out: &mut Vec<String>) {
        for s in steps {
            if let What::Remark(text) = &s.what {
                out.push(text.clone());
            }
            remarks(&s.steps, out);
        }
    }
    let (a, b) = pair("vxlan", "key=5", false);
    let trace = |h: &Host, bridge, flow: &str| {
        let request = TraceRequest {
            flow: parse(&format!("{flow},actions=drop")).matching,
            ..TraceRequest::default()
        };
        h.s.dp.trace(bridge, &request).unwrap()
    };
    let out = trace(&a, a.s.br, "in_port=1");
    let mut told = Vec::new();
    remarks(&out.steps, &mut told);
    let expected = [
        "output to native tunnel".to_owned(),
        format!("tunneling to 192.168.0.2 via {}", a.s.name("phy")),
        format!(
            "tunneling from {} 192.168.0.1 to {} 192.168.0.2",
            mac(1),
            mac(2)
        ),
    ];
    assert_eq!(told[..3], expected);
    let actions = out.format_actions(|name| name.to_owned());
    assert!(
        actions.starts_with("clone(tnl_push(tnl_port(4789),header(size=50,type=4,"),
        "{actions}"
    );
    let outer =
        "in_port=1,udp,dl_dst=02:aa:00:00:00:02,nw_src=192.168.0.1,nw_dst=192.168.0.2,tp_dst=4789";
    let off = trace(&b, b.phy, outer);
    assert_eq!(off.format_actions(|name| name.to_owned()), "tnl_pop(4789)");
    let inside = trace(&b, b.s.br, "in_port=10,tun_id=5");
    assert_eq!(inside.format_actions(|_| "1".to_owned()), "1");
}

mod caches {
    //! Cached flows decide as the tables do, whatever of a tunnel they look at.

    use super::*;
    use proptest::prelude::*;

    fn flow() -> impl Strategy<Value = String> {
        let what = prop_oneof![
            (0..3u8).prop_map(|n| format!("tun_id={n}")),
            (0..3u8).prop_map(|n| format!("tun_src=192.168.0.{}", n + 2)),
            (0..4u8).prop_map(|n| format!("tun_metadata1={n}/0x3")),
            Just("tun_flags=+oam".to_string()),
            (1..4u8).prop_map(|n| format!("dl_dst=02:00:00:00:00:0{n}")),
            (0..3u8).prop_map(|n| format!("in_port={}", 10 + n)),
        ];
        let matches = proptest::collection::vec(what, 0..3);
        let action = prop_oneof![
            Just("output:1"),
            Just("output:2"),
            Just("output:1,output:2"),
            Just("drop"),
            Just("move:NXM_NX_TUN_ID[0..31]->NXM_OF_ETH_SRC[0..31],output:1"),
            Just("resubmit(,1)"),
        ];
        (matches, action, 0..5u16, 0..2u8).prop_map(|(m, a, priority, table)| {
            let m: String = m.iter().map(|m| format!("{m},")).collect();
            let a = if table == 1 {
                a.replace("resubmit(,1)", "output:2")
            } else {
                a.to_owned()
            };
            format!("table={table},priority={priority},{m}actions={a}")
        })
    }

    /// A Geneve packet: from whom, VNI, OAM, option, and to whom inside.
    type Sent = (u8, u8, bool, Option<u8>, u8);

    fn frame((src, vni, oam, option, dst): Sent) -> Vec<u8> {
        let inner = udp(9, dst);
        let options: Vec<u8> = option.map_or_else(Vec::new, |v| vec![1, 1, 1, 1, 0, 0, 0, v]);
        let len = 8 + 8 + options.len() + inner.len();
        let mut f = [mac(1).0, mac(2).0].concat();
        f.extend([8, 0, 0x45, 0]);
        f.extend((20 + len as u16).to_be_bytes());
        f.extend([
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            192,
            168,
            0,
            src + 2,
            192,
            168,
            0,
            1,
        ]);
        let sum = datapath::packet::checksum::of(&f[14..34]);
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f.extend([0x80, 0, 0x17, 0xc1]);
        f.extend((len as u16).to_be_bytes());
        f.extend([
            0,
            0,
            options.len() as u8 / 4,
            if oam { 0x80 } else { 0 },
            0x65,
            0x58,
        ]);
        f.extend([0, 0, vni, 0]);
        f.extend(options);
        f.extend(inner);
        f
    }

    fn host(flows: &[String]) -> Host {
        let h = Host::new(
            1,
            &[
                ("geneve", "remote_ip=192.168.0.2 key=1"),
                ("geneve", "remote_ip=192.168.0.3 key=flow"),
                ("geneve", "remote_ip=flow key=flow"),
            ],
        );
        let option = TlvMap {
            class: 0x101,
            kind: 1,
            len: 4,
            index: 1,
        };
        h.s.dp.set_tunnel_options(h.s.br, vec![option]).unwrap();
        for f in flows {
            h.flow(f);
        }
        h
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn decide_as_tables_do(
            flows in proptest::collection::vec(flow(), 1..8),
            packets in proptest::collection::vec((0..3u8, 0..3u8, any::<bool>(), proptest::option::of(0..4u8), 1..4u8), 1..40),
        ) {
            let (cached, fresh) = (host(&flows), host(&flows));
            for p in packets {
                let f = frame(p);
                cached.takes(&f);
                // Another world: nothing that was cached is believed.
                let b = fresh.s.dp.add_bridge("other", BridgeConfig::default()).unwrap();
                fresh.s.dp.remove_bridge(b);
                fresh.takes(&f);
                prop_assert_eq!(cached.sent(), fresh.sent(), "{:?} {:?}", p, flows);
            }
        }
    }
}
