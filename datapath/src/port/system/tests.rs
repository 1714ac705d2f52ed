//! A system port in a network namespace of the test thread's own; frames are tested together with taps.

use std::time::{Duration, Instant};

use super::*;
use crate::port::open as open_port;
use crate::port::testing::{context, ip, isolated};
use crate::sys::link::Links;
use openflow::MacAddr;

fn config(name: &str) -> InterfaceConfig {
    InterfaceConfig {
        name: name.into(),
        kind: "system".into(),
        ..InterfaceConfig::default()
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_missing_interface_is_named() {
    isolated(|| {
        let error = open_port(&config("nowhere0"), &context())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("nowhere0: open network device: No such device"),
            "{error}"
        );
    });
}

#[test]
fn an_interface_may_vanish_and_come_back() {
    isolated(|| {
        ip("link add v0 type veth peer name v1");
        ip("link set v1 up");
        let mut opened = open_port(&config("v0"), &context()).unwrap();
        assert!(!opened.port.status().link_up);
        opened.port.set_admin_up(true).unwrap();
        until("the carrier", || opened.port.status().link_up);
        let index = opened.port.status().ifindex;
        let changes = opened.port.change_count();
        ip("link del v0");
        assert_ne!(opened.port.change_count(), changes);
        let status = opened.port.status();
        assert!(!status.link_up);
        assert!(status.error.unwrap().contains("deleted or renamed"));
        let frame = OwnedPacket::new(vec![2; 60]);
        assert_eq!(opened.tx[0].send_owned(&frame).down, 1);
        ip("link add v0 type veth peer name v1");
        ip("link set v1 up");
        ip("link set v0 up");
        until("the carrier", || opened.port.status().link_up);
        let status = opened.port.status();
        assert_eq!(status.error, None);
        assert_ne!(status.ifindex, index);
        assert_eq!(opened.tx[0].send_owned(&frame).packets, 1);
    });
}

#[test]
fn what_was_changed_is_put_back() {
    isolated(|| {
        ip("link add v0 type veth peer name v1");
        let links = Links::new().unwrap();
        let before = links.state("v0").unwrap();
        let mut asked = config("v0");
        asked.mtu_request = Some(1400);
        asked.mac = Some(MacAddr([2, 1, 2, 3, 4, 5]));
        let opened = open_port(&asked, &context()).unwrap();
        let now = links.state("v0").unwrap();
        assert_eq!((now.mtu, now.mac), (1400, [2, 1, 2, 3, 4, 5]));
        drop(opened);
        assert_eq!(links.state("v0").unwrap(), before);
    });
}
