//! AF_XDP ports at one end of a veth, packet sockets at the other, in a network namespace of the test thread's own.

use std::time::{Duration, Instant};

use super::*;
use crate::packet::{Checksum, Gso, GsoKind, checksum};
use crate::port::open as open_port;
use crate::port::testing::{context, ip, isolated};

fn config(kind: &str, name: &str, options: &[(&str, &str)]) -> InterfaceConfig {
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    InterfaceConfig {
        name: name.into(),
        kind: kind.into(),
        options: options.collect(),
        ..InterfaceConfig::default()
    }
}

fn veth(more: &str) {
    ip(&format!("link add v0 {more}type veth peer name v1"));
    ip("link set v0 up");
    ip("link set v1 up");
}

/// A frame that nobody else in the namespace sends.
fn frame(len: usize, seed: u8) -> OwnedPacket {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_add(seed)).collect();
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    OwnedPacket::new(bytes)
}

fn receive(rx: &mut dyn RxQueue, count: usize) -> Vec<OwnedPacket> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut batch = Batch::new();
    let mut got = Vec::new();
    while got.len() < count {
        let n = got.len();
        assert!(Instant::now() < deadline, "{n} of {count} frames came");
        batch.clear();
        rx.receive(&mut batch);
        let ours = |p: &OwnedPacket| p.bytes.starts_with(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        got.extend((0..batch.len()).map(|i| batch.to_owned(i)).filter(ours));
        rx.release();
    }
    got
}

fn send_all(tx: &mut dyn TxQueue, packets: &[OwnedPacket]) -> TxOutcome {
    let mut out = TxOutcome::default();
    for some in packets.chunks(32) {
        let mut batch = Batch::new();
        for packet in some {
            // SAFETY: `packets` outlives the batch.
            assert!(unsafe { batch.push_borrowed(packet) });
        }
        let which: Vec<u8> = (0..some.len() as u8).collect();
        out.add(tx.send(&batch, &which));
        tx.flush();
    }
    out
}

/// A frame of TCP over IPv4 that is to be cut into segments of 1000 bytes, or only to have its checksum filled in.
fn tcp(payload: usize, cut: bool) -> OwnedPacket {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    f.extend(((40 + payload) as u16).to_be_bytes());
    f.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let header = checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&header.to_be_bytes());
    let sum = checksum::fold(checksum::pseudo(&f[26..34], 6, 20 + payload));
    f.extend([0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x50, 0x10, 1, 0]);
    f.extend(sum.to_be_bytes());
    f.extend([0, 0]);
    f.extend((0..payload).map(|i| i as u8));
    let mut packet = OwnedPacket::new(f);
    packet.offload.checksum = Checksum::Needed {
        start: 34,
        offset: 16,
    };
    if cut {
        packet.offload.gso = Gso {
            kind: GsoKind::Tcp4,
            ecn: false,
            size: 1000,
            header_len: 54,
        };
    }
    packet
}

fn is_right(frame: &[u8]) -> bool {
    let sum = checksum::pseudo(&frame[26..34], 6, frame.len() - 34);
    checksum::of(&frame[14..34]) == 0 && checksum::fold(checksum::add(sum, &frame[34..])) == 0xffff
}

#[test]
fn frames_pass_both_ways_in_every_mode() {
    for mode in ["best-effort", "native", "generic"] {
        isolated(move || {
            veth("");
            let asked = config("afxdp", "v0", &[("xdp-mode", mode)]);
            let mut xdp = open_port(&asked, &context()).unwrap();
            let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
            let in_use = if mode == "best-effort" {
                "native"
            } else {
                mode
            };
            let status = xdp.port.status();
            assert_eq!(status.status["xdp-mode-in-use"], in_use);
            assert!(status.link_up && status.error.is_none());
            let sent: Vec<OwnedPacket> = (0..500usize)
                .map(|n| frame([60, 192, 193, 1000, 1514][n % 5], n as u8))
                .collect();
            let bytes: usize = sent.iter().map(|p| p.bytes.len()).sum();
            for some in sent.chunks(100) {
                assert_eq!(send_all(&mut *other.tx[0], some).packets, 100);
                assert_eq!(receive(&mut *xdp.rx[0], 100), some);
            }
            for _ in 0..20 {
                let out = send_all(&mut *xdp.tx[0], &sent);
                assert_eq!((out.packets, out.bytes), (500, bytes as u64), "{out:?}");
                assert_eq!(receive(&mut *other.rx[0], 500), sent);
            }
            assert_eq!(send_all(&mut *xdp.tx[0], &[frame(1523, 0)]).too_long, 1);
            assert_eq!(xdp.port.extra_stats()["xsk_queue_0_rx_dropped"], 0);
        });
    }
}

#[test]
fn long_frames_lie_in_several_chunks() {
    isolated(|| {
        veth("mtu 9000 ");
        ip("link set v1 mtu 9000");
        let mut xdp = open_port(&config("afxdp", "v0", &[]), &context()).unwrap();
        let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
        let sent: Vec<OwnedPacket> = [3000, 3840, 3841, 4096, 4097, 8200, 9014]
            .map(|len| frame(len, len as u8))
            .into();
        assert_eq!(send_all(&mut *other.tx[0], &sent).packets, 7);
        assert_eq!(receive(&mut *xdp.rx[0], 7), sent);
        assert_eq!(send_all(&mut *xdp.tx[0], &sent).packets, 7);
        assert_eq!(receive(&mut *other.rx[0], 7), sent);
    });
}

#[test]
fn what_was_left_undone_is_done() {
    isolated(|| {
        veth("");
        let mut xdp = open_port(&config("afxdp", "v0", &[]), &context()).unwrap();
        let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
        // To XDP: the checksum is known to be missing.
        let packet = [tcp(100, false)];
        send_all(&mut *other.tx[0], &packet);
        assert_eq!(receive(&mut *xdp.rx[0], 1), packet);
        let [packet] = packet;
        // From XDP: it is filled in, and what is large is cut.
        let out = send_all(&mut *xdp.tx[0], &[packet, tcp(60_000, true)]);
        assert_eq!(out.packets, 2);
        let got = receive(&mut *other.rx[0], 61);
        assert!(got.iter().all(|p| is_right(&p.bytes)));
        let payload = got[1..].iter().flat_map(|p| p.bytes[54..].to_vec());
        assert_eq!(payload.collect::<Vec<u8>>(), tcp(60_000, true).bytes[54..]);
    });
}

#[test]
fn a_large_frame_of_tcp_comes_in_generic_mode_as_one() {
    isolated(|| {
        veth("");
        let generic = config("afxdp", "v0", &[("xdp-mode", "generic")]);
        let mut xdp = open_port(&generic, &context()).unwrap();
        let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
        send_all(&mut *other.tx[0], &[tcp(60_000, true)]);
        let got = receive(&mut *xdp.rx[0], 1);
        assert_eq!(got[0].bytes, tcp(60_000, true).bytes);
        assert_eq!(got[0].offload.gso.kind, GsoKind::Tcp4);
        assert_eq!(got[0].offload.gso.size, 1460);
    });
}

#[test]
fn tags_that_the_kernel_keeps_beside_the_frame_are_put_back() {
    isolated(|| {
        veth("");
        let native = config("afxdp", "v0", &[("xdp-mode", "native")]);
        let mut xdp = open_port(&native, &context()).unwrap();
        // A bridge of the kernel's takes tags off, keeps them beside the frame, and leaves it to the interface to put them back.
        ip("link add w0 type veth peer name w1");
        ip("link add br0 type bridge");
        for end in ["v1", "w1"] {
            ip(&format!("link set {end} master br0"));
        }
        for end in ["w0", "w1", "br0"] {
            ip(&format!("link set {end} up"));
        }
        let mut other = open_port(&config("system", "w0", &[]), &context()).unwrap();
        let mut tagged = frame(60, 1).bytes;
        tagged.splice(12..12, [0x81, 0, 0x60, 5]);
        let tagged = [OwnedPacket::new(tagged)];
        assert_eq!(send_all(&mut *other.tx[0], &tagged).packets, 1);
        assert_eq!(receive(&mut *xdp.rx[0], 1), tagged);
        assert_eq!(send_all(&mut *xdp.tx[0], &tagged).packets, 1);
        assert_eq!(receive(&mut *other.rx[0], 1), tagged);
    });
}

#[test]
fn every_queue_has_a_socket() {
    isolated(|| {
        let queues = "numrxqueues 2 numtxqueues 2";
        ip(&format!(
            "link add v0 {queues} type veth peer name v1 {queues}"
        ));
        ip("link set v0 up");
        ip("link set v1 up");
        let mut two = config("afxdp", "v0", &[("n_rxq", "2")]);
        two.n_rxq = Some(2);
        let mut xdp = open_port(&two, &context()).unwrap();
        assert_eq!((xdp.rx.len(), xdp.tx.len()), (2, 2));
        let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
        for tx in &mut xdp.tx {
            assert_eq!(send_all(&mut **tx, &[frame(60, 3)]).packets, 1);
            assert_eq!(receive(&mut *other.rx[0], 1), [frame(60, 3)]);
        }
        drop(xdp);
        two.n_rxq = Some(40);
        let error = open_port(&two, &context()).unwrap_err().to_string();
        assert!(error.contains("has the interface 40 queues?"), "{error}");
    });
}

#[test]
fn an_interface_may_be_taken_again_and_may_vanish() {
    isolated(|| {
        veth("");
        let port = config("afxdp", "v0", &[]);
        for _ in 0..3 {
            drop(open_port(&port, &context()).unwrap());
        }
        let mut xdp = open_port(&port, &context()).unwrap();
        ip("link set v1 down");
        assert!(!xdp.port.status().link_up);
        ip("link set v0 down");
        let before = xdp.tx[0].send_owned(&frame(60, 1));
        let after = xdp.tx[0].send_owned(&frame(60, 1));
        assert_eq!((before.packets + before.down, after.down), (1, 1));
        ip("link del v0");
        let status = xdp.port.status();
        assert!(status.error.unwrap().contains("deleted or renamed"));
        assert_eq!(xdp.tx[0].send_owned(&frame(60, 1)).down, 1);
        assert_eq!(xdp.rx[0].receive(&mut Batch::new()), 0);
        veth("");
        assert!(xdp.port.status().link_up);
        let mut other = open_port(&config("system", "v1", &[]), &context()).unwrap();
        assert_eq!(xdp.tx[0].send_owned(&frame(60, 1)).packets, 1);
        receive(&mut *other.rx[0], 1);
        other.tx[0].send_owned(&frame(60, 2));
        receive(&mut *xdp.rx[0], 1);
    });
}

#[test]
fn what_cannot_be_had_is_said_clearly() {
    isolated(|| {
        veth("");
        let error = |options: &[(&str, &str)]| {
            let opened = open_port(&config("afxdp", "v0", options), &context());
            opened.unwrap_err().to_string()
        };
        let text = error(&[("xdp-mode", "fast")]);
        let names = "\"fast\" is none of best-effort, native-with-zerocopy";
        assert!(text.contains(names), "{text}");
        let text = error(&[("xdp-mode", "native-with-zerocopy")]);
        let why = "in native-with-zerocopy mode: Operation not supported";
        assert!(text.contains(why), "{text}");
        assert!(error(&[("use-need-wakeup", "no")]).contains("neither true nor false"));
        assert!(error(&[("n_txq", "2")]).contains("takes xdp-mode"));
        let _first = open_port(&config("afxdp", "v0", &[]), &context()).unwrap();
        let text = error(&[]);
        assert!(text.contains("another one is attached"), "{text}");
        let missing = open_port(&config("afxdp", "v9", &[]), &context()).unwrap_err();
        let text = missing.to_string();
        assert!(text.starts_with("v9: open network device: No such device"));
    });
}
