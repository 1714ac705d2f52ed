//! W4 on namespace ports: tagged frames as they are sent and captured, since not every kernel that runs the tests has 802.1Q
//! devices. What guests ping is in `w04_trunk`.

use crate::typed_twice;
use crate::w03_access_ports::four_guests;
use std::collections::BTreeMap;
use tests::capture::Capture;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

typed_twice!(walk);

/// Four hosts, all they receive, and how many frames were sent.
struct Lab {
    hosts: Vec<Host>,
    captures: Vec<Capture>,
    sent: u32,
}

/// The VLAN of a tag, or none.
type Vlan = Option<u16>;

impl Lab {
    /// A broadcast of an experimental type, its number in it.
    fn send(&mut self, from: usize, vlan: Vlan) -> u32 {
        self.sent += 1;
        let mut f = vec![0xff; 6];
        f.extend([0x52, 0x54, 0, 0, 0, from as u8 + 1]);
        if let Some(vlan) = vlan {
            f.extend(0x8100u16.to_be_bytes());
            f.extend(vlan.to_be_bytes());
        }
        f.extend([0x88, 0xb5]);
        f.extend(self.sent.to_be_bytes());
        f.resize(64, 0);
        self.hosts[from].send(&f);
        self.sent
    }

    /// Who heard a frame, by host from 0, and how it was tagged there.
    fn heard(&self, number: u32) -> BTreeMap<usize, Vlan> {
        let of = |f: &[u8]| {
            let tagged = f.get(12..14)? == [0x81, 0];
            let at = if tagged { 16 } else { 12 };
            let mine = f.get(at..at + 2)? == [0x88, 0xb5]
                && f.get(at + 2..at + 6)? == number.to_be_bytes();
            mine.then(|| tagged.then(|| u16::from_be_bytes([f[14], f[15]])))
        };
        let all = self.captures.iter().enumerate();
        all.filter_map(|(n, c)| Some((n, c.frames().iter().find_map(|f| of(f))?)))
            .collect()
    }

    /// Sends a broadcast; who heard it, by number of their port, and how it was tagged there. `by` is a VLAN that the port is
    /// heard in by somebody: what is sent in it afterwards is what is waited for.
    fn ask(&mut self, from: usize, vlan: Vlan, by: Vlan, hearers: usize) -> BTreeMap<usize, Vlan> {
        let number = self.send(from, vlan);
        let last = self.send(from, by);
        wait::until("the frame after it to be heard", || {
            self.heard(last).len() >= hearers
        });
        let heard = self.heard(number);
        heard.into_iter().map(|(n, v)| (n + 1, v)).collect()
    }
}

fn walk(tools: Tools) {
    tests::need!(Tcpdump);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let hosts = four_guests(&t);
    let captures = hosts
        .iter()
        .map(|h| Capture::start(&h.namespace, "eth0", "inbound", weir.dir()))
        .collect();
    let mut lab = Lab {
        hosts,
        captures,
        sent: 0,
    };
    let all = |tag: Vlan, but: usize| -> BTreeMap<usize, Vlan> {
        (1..=4).filter(|n| *n != but).map(|n| (n, tag)).collect()
    };
    for n in 1..=4 {
        t.ok(&format!("ovs-vsctl set port fed{n} trunks=20,30,40"));
    }
    for from in 0..4 {
        wait::until("every capture to have begun", || {
            let number = lab.send(from, Some(20));
            lab.heard(number).len() == 3
        });
    }
    // Tagged frames of the list pass, as they are; others do not.
    for (from, vlan) in [(0, 20), (1, 30), (2, 40), (3, 20)] {
        let heard = lab.ask(from, Some(vlan), Some(20), 3);
        assert_eq!(heard, all(Some(vlan), from + 1), "VLAN {vlan}");
    }
    for vlan in [Some(50), None] {
        assert_eq!(lab.ask(0, vlan, Some(20), 3), BTreeMap::new(), "{vlan:?}");
    }
    wait::until("the drops to be counted", || {
        t.ok("ovs-vsctl get interface fed1 statistics")
            .contains("vlan_not_on_trunk")
    });

    // Two ports with a native VLAN, that is 0 as no tag is set: untagged frames pass between those two.
    for n in [1, 2] {
        t.ok(&format!(
            "ovs-vsctl set port fed{n} vlan_mode=native-untagged"
        ));
    }
    assert_eq!(lab.ask(0, None, Some(20), 3), BTreeMap::from([(2, None)]));
    assert_eq!(lab.ask(1, None, Some(20), 3), BTreeMap::from([(1, None)]));
    assert_eq!(lab.ask(0, Some(30), Some(20), 3), all(Some(30), 1));
    assert_eq!(lab.ask(2, None, Some(20), 3), BTreeMap::new());

    // native-tagged: untagged frames are taken for the native VLAN, and leave tagged, there too.
    t.ok("ovs-vsctl set port fed1 vlan_mode=native-tagged tag=20");
    t.ok("ovs-vsctl set port fed2 vlan_mode=native-untagged tag=20");
    let mut heard = all(Some(20), 1);
    heard.insert(2, None);
    assert_eq!(lab.ask(0, None, Some(30), 3), heard);
    assert_eq!(lab.ask(0, Some(20), Some(30), 3), heard);
    assert_eq!(lab.ask(1, None, Some(30), 3), all(Some(20), 2));

    // The common mistake: an access port, and a host that tags.
    t.ok("ovs-vsctl clear port fed4 trunks -- set port fed4 tag=30");
    assert_eq!(lab.ask(3, Some(30), None, 3), BTreeMap::new());
    assert_eq!(lab.ask(3, None, None, 3), all(Some(30), 4));
    let heard = lab.ask(0, Some(30), Some(30), 3);
    assert_eq!(heard[&4], None, "untagged at the access port");
    wait::until("the drop to be counted", || {
        t.ok("ovs-vsctl get interface fed4 statistics")
            .contains("vlan_tag_on_access_port")
    });
}
