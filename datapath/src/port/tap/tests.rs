//! A tap and a packet socket on the same interface, in a network namespace of the test thread's own: what one sends the
//! other receives.

use std::time::{Duration, Instant};

use super::*;
use crate::packet::{Checksum, Gso, GsoKind, Offload};
use crate::port::open as open_port;
use crate::port::testing::{context, isolated};

fn config(kind: &str, name: &str) -> InterfaceConfig {
    InterfaceConfig {
        name: name.into(),
        kind: kind.into(),
        ..InterfaceConfig::default()
    }
}

/// A frame of a type that nobody else in the namespace sends.
fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_add(seed)).collect();
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    bytes
}

fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2])
}

/// Receives until `count` frames of the test's came.
fn receive(rx: &mut dyn RxQueue, count: usize) -> Vec<OwnedPacket> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut batch = Batch::new();
    let mut got = Vec::new();
    while got.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} frames came",
            got.len()
        );
        batch.clear();
        rx.receive(&mut batch);
        got.extend(
            (0..batch.len())
                .map(|i| batch.to_owned(i))
                .filter(|p| is_ours(&p.bytes)),
        );
        rx.release();
    }
    got
}

fn send_all(tx: &mut dyn TxQueue, packets: &[OwnedPacket]) -> TxOutcome {
    let mut batch = Batch::new();
    for packet in packets {
        // SAFETY: `packets` outlives the batch.
        assert!(unsafe { batch.push_borrowed(packet) });
    }
    let which: Vec<u8> = (0..packets.len() as u8).collect();
    let out = tx.send(&batch, &which);
    tx.flush();
    out
}

#[test]
fn frames_pass_both_ways_whole() {
    isolated(|| {
        let mut asked = config("internal", "br0");
        asked.mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        asked.mtu_request = Some(2000);
        let mut tap = open_port(&asked, &context()).unwrap();
        let status = tap.port.status();
        assert_eq!(
            (status.admin_up, status.link_up, status.mtu),
            (false, false, 2000)
        );
        assert_eq!(status.mac, asked.mac);
        assert_eq!(status.status["driver_name"], "tun");
        assert_eq!(
            send_all(&mut *tap.tx[0], &[OwnedPacket::new(frame(60, 0))]).down,
            1
        );
        tap.port.set_admin_up(true).unwrap();
        assert!(tap.port.status().link_up);
        assert_eq!(tap.port.link_resets(), 1);

        let mut system = open_port(&config("", "br0"), &context()).unwrap();
        let sent: Vec<OwnedPacket> = [60, 150, 192, 193, 1000, 2014]
            .map(|n| OwnedPacket::new(frame(n, n as u8)))
            .into();
        assert_eq!(send_all(&mut *system.tx[0], &sent).packets, 6);
        assert_eq!(receive(&mut *tap.rx[0], 6), sent);
        let out = send_all(&mut *tap.tx[0], &sent);
        assert_eq!((out.packets, out.bytes), (6, 3609));
        assert_eq!(receive(&mut *system.rx[0], 6), sent);
        let out = send_all(&mut *tap.tx[0], &[OwnedPacket::new(frame(2037, 0))]);
        assert_eq!(out.too_long, 1);
    });
}

#[test]
fn vlan_tags_survive_the_kernel() {
    isolated(|| {
        let mut tap = open_port(&config("tap", "t0"), &context()).unwrap();
        tap.port.set_admin_up(true).unwrap();
        let mut system = open_port(&config("system", "t0"), &context()).unwrap();
        let mut tagged = frame(200, 1);
        tagged.splice(12..12, [0x81, 0, 0x60, 0x2a]);
        let sent = [OwnedPacket::new(tagged)];
        assert_eq!(tap.tx[0].send_owned(&sent[0]).packets, 1);
        assert_eq!(receive(&mut *system.rx[0], 1), sent);
        assert_eq!(system.tx[0].send_owned(&sent[0]).packets, 1);
        assert_eq!(receive(&mut *tap.rx[0], 1), sent);
    });
}

#[test]
fn a_large_tcp_frame_stays_one_frame() {
    isolated(|| {
        let mut tap = open_port(&config("tap", "t0"), &context()).unwrap();
        tap.port.set_admin_up(true).unwrap();
        let mut system = open_port(&config("system", "t0"), &context()).unwrap();
        let mut bytes = frame(54 + 30_000, 3);
        bytes[12..14].copy_from_slice(&[8, 0]);
        let total = (bytes.len() - 14) as u16;
        bytes[14..34].copy_from_slice(&[
            0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        let sum = crate::packet::checksum::of(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes[46] = 0x50;
        bytes[47] = 0x10;
        let sent = OwnedPacket {
            bytes,
            offload: Offload {
                checksum: Checksum::Needed {
                    start: 34,
                    offset: 16,
                },
                gso: Gso {
                    kind: GsoKind::Tcp4,
                    ecn: false,
                    size: 1400,
                    header_len: 54,
                },
            },
        };
        assert_eq!(system.tx[0].send_owned(&sent).packets, 1);
        let got = receive(&mut *tap.rx[0], 1).remove(0);
        assert_eq!(got.bytes, sent.bytes);
        assert_eq!(
            (got.offload.checksum, got.offload.gso.size),
            (sent.offload.checksum, 1400)
        );
        assert_eq!(tap.tx[0].send_owned(&sent).packets, 1);
        let got = receive(&mut *system.rx[0], 1).remove(0);
        assert_eq!(got.bytes, sent.bytes);
        assert_eq!(got.offload.gso.kind, GsoKind::Tcp4);
    });
}

#[test]
fn the_interface_goes_with_the_port() {
    isolated(|| {
        let opened = open_port(&config("tap", "t0"), &context()).unwrap();
        let links = Links::new().unwrap();
        assert!(links.state("t0").is_ok());
        drop(opened);
        assert!(links.state("t0").is_err());
        let error = open_port(&config("tap", "a-name-that-is-too-long"), &context()).unwrap_err();
        assert!(error.to_string().contains("1 to 15 bytes"), "{error}");
    });
}

#[test]
fn an_interface_may_be_moved_and_renamed() {
    isolated(|| {
        let mut tap = open_port(&config("tap", "t0"), &context()).unwrap();
        tap.port.set_admin_up(true).unwrap();
        // Another namespace, as long as a process of it lives.
        let mut other = std::process::Command::new("unshare")
            .args(["-n", "cat"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("util-linux");
        let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = other.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(20);
        while own(&pid) == own("thread-self") {
            assert!(Instant::now() < deadline, "no other namespace");
            std::thread::yield_now();
        }
        let ip = |arguments: &str| {
            let status = std::process::Command::new("ip")
                .args(arguments.split(' '))
                .status();
            assert!(status.expect("iproute2").success(), "ip {arguments}");
        };
        ip(&format!("link set t0 name eth7 netns {pid}"));
        let status = tap.port.status();
        assert_eq!((status.error, status.admin_up), (None, false));
        tap.port.set_admin_up(true).unwrap();
        assert!(tap.port.status().link_up);
        assert_eq!(
            send_all(&mut *tap.tx[0], &[OwnedPacket::new(frame(60, 0))]).packets,
            1
        );
        // The namespace goes, and the interface with it.
        drop(other.stdin.take());
        other.wait().unwrap();
        while tap.port.status().error.is_none() {
            assert!(Instant::now() < deadline, "the interface is still there");
            std::thread::yield_now();
        }
    });
}
