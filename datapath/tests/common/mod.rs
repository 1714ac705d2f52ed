//! A switch with dummy ports, for tests.
#![allow(dead_code, missing_docs)]

use datapath::packet::Offload;
use datapath::port::dummy::{self, DummyHandle};
use datapath::*;
use openflow::*;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Switch {
    pub dp: Datapath,
    pub br: BridgeId,
    events: RefCell<Events>,
    id: u32,
    ports: usize,
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.dp.shutdown();
    }
}

impl Switch {
    pub fn new(ports: usize) -> Switch {
        Switch::with(vec![VlanConfig::default(); ports])
    }

    pub fn with(vlans: Vec<VlanConfig>) -> Switch {
        Switch::threads(1, vlans)
    }

    pub fn threads(threads: usize, vlans: Vec<VlanConfig>) -> Switch {
        let (dp, events) = Datapath::start(Config {
            forwarding_threads: threads,
            clock: Clock::manual(),
            ..Config::default()
        })
        .unwrap();
        let br = dp.add_bridge("br0", BridgeConfig::default()).unwrap();
        let mut t = Switch {
            dp,
            br,
            events: events.into(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            ports: vlans.len(),
        };
        for (i, vlan) in vlans.into_iter().enumerate() {
            let spec = t.spec(&(i + 1).to_string(), vlan);
            assert_eq!(t.dp.add_port(t.br, spec).unwrap(), PortNo(i as u32 + 1));
        }
        while t.events.get_mut().try_recv().is_some() {}
        t
    }

    pub fn name(&self, port: &str) -> String {
        format!("t{}-{port}", self.id)
    }

    pub fn spec(&self, port: &str, vlan: VlanConfig) -> PortSpec {
        PortSpec {
            vlan,
            interface: InterfaceConfig {
                name: self.name(port),
                kind: "dummy".into(),
                ..InterfaceConfig::default()
            },
            ..PortSpec::default()
        }
    }

    pub fn port(&self, n: usize) -> Option<DummyHandle> {
        dummy::handle(&self.name(&n.to_string()))
    }

    pub fn flow(&self, m: FlowMod) {
        self.dp.flow_mod(self.br, &m).unwrap();
    }

    /// A frame comes in, and is forwarded when this returns.
    pub fn send(&self, port: usize, frame: &[u8]) {
        assert!(self.port(port).unwrap().inject(frame, Offload::default()));
        self.dp.settle();
    }

    /// The same for a frame with work left to do.
    pub fn send_with(&self, port: usize, frame: &[u8], offload: Offload) {
        assert!(self.port(port).unwrap().inject(frame, offload));
        self.dp.settle();
    }

    /// Why a flow is not accepted.
    pub fn refused(&self, m: FlowMod) -> openflow::error::ErrorKind {
        self.dp.flow_mod(self.br, &m).unwrap_err().kind
    }

    /// What was sent since, by port.
    pub fn sent(&self) -> Vec<(usize, Vec<u8>)> {
        (1..=self.ports)
            .filter_map(|n| Some((n, self.port(n)?)))
            .flat_map(|(n, p)| p.take_sent().into_iter().map(move |f| (n, f.bytes)))
            .collect()
    }

    /// The next event.
    pub fn any_event(&self) -> Option<Event> {
        self.events.borrow_mut().try_recv()
    }

    /// The next event that is not about ports.
    pub fn event(&self) -> Option<Event> {
        loop {
            match self.events.borrow_mut().try_recv() {
                Some(Event::PortStatus { .. }) => {}
                e => return e,
            }
        }
    }
}

pub fn out(port: PortNo) -> Instructions {
    Instructions::apply(vec![Action::Output {
        port,
        max_len: 0xffff,
    }])
}

/// A UDP frame of 60 bytes between hosts of these numbers.
pub fn udp(src: u8, dst: u8) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0];
    f.extend([
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    let c = datapath::packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&c.to_be_bytes());
    f.extend([0x12, 0x34, 0, 80, 0, 26, 0, 0]);
    f.resize(60, 0xee);
    f
}

/// A TCP frame of so much payload (0, 1, 2...), to be cut into segments of `size`.
pub fn tso(payload: usize, size: u16) -> (Vec<u8>, Offload) {
    let mut f = udp(1, 2)[..34].to_vec();
    f[23] = 6;
    f.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    f.extend((0..payload).map(|i| i as u8));
    let checksum = datapath::packet::Checksum::Needed {
        start: 34,
        offset: 16,
    };
    let gso = datapath::packet::Gso {
        kind: datapath::packet::GsoKind::Tcp4,
        ecn: false,
        size,
        header_len: 54,
    };
    (f, Offload { checksum, gso })
}

pub fn tag(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let mut f = frame.to_vec();
    let t = (u32::from(tpid) << 16 | u32::from(tci)).to_be_bytes();
    f.splice(12..12, t);
    f
}

pub fn wait_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited too long");
        std::thread::yield_now();
    }
}
