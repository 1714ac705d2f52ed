//! Endpoints against each other and against plain sockets, over the loopback interface.

use std::net::UdpSocket;
use std::path::PathBuf;

use super::*;
use crate::packet::{Checksum, OwnedPacket};
use crate::port::TxOutcome;
use crate::tunnel::testing;

fn context() -> PortContext {
    PortContext {
        run_dir: PathBuf::new(),
        threads: 1,
        epoch: Default::default(),
    }
}

/// An endpoint on a port that nobody uses.
fn fresh(kind: TunnelKind, v6: bool) -> (Endpoint, OpenPort) {
    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
    loop {
        let port = UdpSocket::bind(any).unwrap().local_addr().unwrap().port();
        let endpoint = Endpoint {
            kind,
            port,
            v6,
            mark: 0,
        };
        // Somebody may have taken it meanwhile.
        if let Ok(open) = open(&endpoint, &context()) {
            return (endpoint, open);
        }
    }
}

fn loopback(v6: bool) -> IpAddr {
    if v6 { "::1" } else { "127.0.0.1" }.parse().unwrap()
}

/// What goes to an endpoint: outer headers and this payload.
fn outer_packet(e: &Endpoint, src_port: u16, tos: u8, payload: &[u8]) -> OwnedPacket {
    let is_udp = e.port != 0;
    let mut bytes = vec![0; outer::IPV6 + outer::UDP];
    let ip = Ip {
        src: loopback(e.v6),
        dst: loopback(e.v6),
        tos,
        ttl: 33,
        df: true,
        protocol: if is_udp { PROTOCOL_UDP } else { PROTOCOL_GRE },
        payload: payload.len() + if is_udp { outer::UDP } else { 0 },
    };
    let mut len = ip.emit(0, &mut bytes);
    if is_udp {
        let udp = Udp {
            src: src_port,
            dst: e.port,
            payload: payload.len(),
            checksum: 0,
        };
        len += udp.emit(&mut bytes[len..]);
    }
    bytes.truncate(len);
    bytes.extend_from_slice(payload);
    OwnedPacket::new(bytes)
}

fn send(open: &mut OpenPort, packets: &[OwnedPacket]) -> TxOutcome {
    let mut batch = Batch::new();
    for p in packets {
        // SAFETY: the packets are there as long as the batch.
        assert!(unsafe { batch.push_borrowed(p) });
    }
    let which: Vec<u8> = (0..packets.len() as u8).collect();
    open.tx[0].send(&batch, &which)
}

/// The next `n` packets: what the IP header says, and what is behind UDP's.
fn receive(open: &mut OpenPort, n: usize) -> Vec<(Ip, Vec<u8>)> {
    let mut got = Vec::new();
    let mut batch = Batch::new();
    let start = std::time::Instant::now();
    while got.len() < n {
        let waited = start.elapsed().as_secs();
        assert!(waited < 20, "{} of {n} packets in {waited} s", got.len());
        open.rx[0].receive(&mut batch);
        for i in 0..batch.len() {
            let bytes = batch.to_owned(i).bytes;
            let ip = Ip::parse(&bytes, bytes.len(), false).unwrap();
            let udp = if ip.protocol == PROTOCOL_UDP {
                outer::UDP
            } else {
                0
            };
            got.push((ip, bytes[ip.header_len() + udp..].to_vec()));
        }
        batch.clear();
        open.rx[0].release();
    }
    got
}

#[test]
fn packets_go_from_one_end_to_the_other_with_their_headers() {
    for v6 in [false, true] {
        let (e, mut open) = fresh(TunnelKind::Vxlan, v6);
        // Of different lengths, some in rows; more than a batch of the receiver.
        let payload = |n: usize| vec![n as u8; 1000 + n / 10 * 100];
        for half in [0..25, 25..50] {
            let packets: Vec<OwnedPacket> = half
                .clone()
                .map(|n| outer_packet(&e, 40_000, 0x48, &payload(n)))
                .collect();
            let out = send(&mut open, &packets);
            let bytes = packets.iter().map(|p| p.bytes.len() as u64).sum();
            assert_eq!((out.packets, out.bytes), (packets.len() as u32, bytes));
        }
        let got = receive(&mut open, 50);
        for (n, (ip, bytes)) in got.iter().enumerate() {
            assert_eq!(*bytes, payload(n), "packet {n}");
            assert_eq!((ip.src, ip.dst), (loopback(v6), loopback(v6)));
            assert_eq!((ip.tos, ip.ttl), (0x48, 33));
        }
    }
}

#[test]
fn checksums_left_to_do_are_done() {
    let (e, mut open) = fresh(TunnelKind::Geneve, false);
    let mut packet = outer_packet(&e, 40_000, 0, &[1; 100]);
    packet.offload.checksum = Checksum::Needed {
        start: 28 + 40,
        offset: 6,
    };
    let out = send(&mut open, std::slice::from_ref(&packet));
    let again = open.tx[0].send_owned(&packet);
    assert_eq!((out.packets, again.packets), (1, 1));
    let mut want = [1; 100];
    assert!(crate::packet::checksum::finish(&mut want, 40, 6));
    for (_, bytes) in receive(&mut open, 2) {
        assert_eq!(bytes, want);
    }
}

#[test]
fn source_ports_are_spread_and_what_is_sent_back_to_them_is_not_received() {
    let (e, mut open) = fresh(TunnelKind::Vxlan, false);
    drop(open.rx);
    let listener = UdpSocket::bind(("127.0.0.1", e.port)).unwrap();
    let timeout = std::time::Duration::from_secs(20);
    listener.set_read_timeout(Some(timeout)).unwrap();
    let mut ports = std::collections::BTreeSet::new();
    for n in 0..PORTS as u16 * 4 {
        let packet = outer_packet(&e, 32768 + n, 0, b"hello");
        assert_eq!(open.tx[0].send_owned(&packet).packets, 1);
        let mut bytes = [0; 100];
        let (len, from) = listener.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"hello");
        listener.send_to(b"back", from).unwrap();
        ports.insert(from.port());
    }
    assert_eq!(ports.len(), PORTS);
}

#[test]
fn what_is_longer_than_the_way_is_too_long_unless_it_may_be_fragmented() {
    let (e, mut open) = fresh(TunnelKind::Vxlan, false);
    // No interface here carries more than 65535 bytes; so the kernel's word for it is provoked by a datagram beyond that.
    let mut free = outer_packet(&e, 1, 0, &[0; 30_000]);
    free.bytes[6] = 0;
    let sum = crate::packet::checksum::of(&[&free.bytes[..10], &free.bytes[12..20]].concat());
    free.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(open.tx[0].send_owned(&free).packets, 1);
    assert_eq!(receive(&mut open, 1)[0].1.len(), 30_000);
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let (e, first) = fresh(TunnelKind::Vxlan, false);
    let error = open(&e, &context()).unwrap_err().to_string();
    let want = format!("vxlan_sys_{0}: UDP port {0} is taken", e.port);
    assert!(error.starts_with(&want), "{error}");
    // The families are apart, and it is free again when it is closed.
    open(&Endpoint { v6: true, ..e }, &context()).unwrap();
    drop(first);
    open(&e, &context()).unwrap();
}

#[test]
fn gre_goes_by_raw_sockets() {
    for v6 in [false, true] {
        let e = Endpoint {
            kind: TunnelKind::Gre,
            port: 0,
            v6,
            mark: 0,
        };
        let mut open = match open(&e, &context()) {
            Ok(open) => open,
            Err(e) if e.to_string().contains("CAP_NET_RAW") => {
                eprintln!("SKIPPED gre_goes_by_raw_sockets: no CAP_NET_RAW");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        // Others may use GRE on this host at this time: only what is marked as ours is looked at.
        let mine = format!("weir-{}-{v6}", std::process::id());
        let packet = outer_packet(&e, 0, 0x20, mine.as_bytes());
        assert_eq!(send(&mut open, &[packet]).packets, 1);
        let (ip, _) = loop {
            let (ip, bytes) = receive(&mut open, 1).remove(0);
            if bytes == mine.as_bytes() {
                break (ip, bytes);
            }
        };
        assert_eq!((ip.src, ip.tos, ip.ttl), (loopback(v6), 0x20, 33));
    }
}

#[test]
fn a_tunnel_port_needs_the_endpoints_of_its_family_and_mark() {
    let of = |spec: &TunnelSpec| {
        Endpoint::needed_by(spec)
            .map(|e| e.name())
            .collect::<Vec<_>>()
    };
    let spec = testing::spec(TunnelKind::Vxlan);
    assert_eq!(of(&spec), ["vxlan_sys_4789"]);
    let marked = TunnelSpec {
        egress_mark: 7,
        port: 8472,
        remote: Given::ByFlow,
        ..spec
    };
    let want = [
        "vxlan_sys_8472",
        "vxlan_sys_8472_mark7",
        "ip6vxlan_sys_8472",
        "ip6vxlan_sys_8472_mark7",
    ];
    assert_eq!(of(&marked), want);
    let erspan = testing::spec(TunnelKind::Erspan);
    assert_eq!(of(&erspan), ["gre_sys"]);
}
