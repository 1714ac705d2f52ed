//! One thread's packet path without the thread, for fuzzing, benches and the test that counts
//! allocations.

use crate::bridge::{Bridge, BridgeState, Epoch, PortEntry, World};
use crate::clock::Clock;
use crate::config::{BridgeConfig, PortSpec, VlanConfig, VlanMode};
use crate::engine::events::{self, Events};
use crate::engine::forward::Forwarder;
use crate::engine::tx::Tx;
use crate::packet::{Batch, Offload, OwnedPacket};
use crate::port::{InterfaceConfig, TxOutcome, TxQueue};
use crate::table::Limits;
use arc_swap::ArcSwap;
use openflow::text::{FlowCommand, Names, parse_flow};
use openflow::{Action, FieldId, FlowMod, Instructions, Match, PortFlags, PortNo};
use std::cell::RefCell;
use std::sync::Arc;

/// A transmit queue that reads every byte and keeps none.
#[derive(Default)]
pub(crate) struct Sink {
    buffer: Vec<u8>,
    read_all: bool,
}

impl TxQueue for Sink {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        for &i in which {
            let len = batch.packet(i.into()).len();
            if self.read_all {
                self.buffer.resize(len, 0);
                assert_eq!(batch.copy_out(i.into(), 0, &mut self.buffer), len);
            }
            out.packets += 1;
            out.bytes += len as u64;
        }
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        TxOutcome {
            packets: 1,
            bytes: packet.bytes.len() as u64,
            ..TxOutcome::default()
        }
    }

    fn flush(&mut self) {}
}

/// A bridge with ports 1 to 4 (a trunk, an access port, a native one, a trunk) and a packet path.
pub struct Bench {
    /// The packet path.
    pub forwarder: Forwarder,
    /// The bridge, with its flows.
    #[cfg(test)]
    pub(crate) bridge: Arc<Bridge>,
    world: Arc<ArcSwap<World>>,
    epoch: Arc<Epoch>,
    events: Events,
}

impl Bench {
    /// With these flows. `read_all` makes destinations read every byte sent.
    ///
    /// # Panics
    /// If the bridge refuses one of them.
    pub fn new(flows: &[FlowMod], read_all: bool) -> Bench {
        let (bench, refused) = Bench::with(flows, read_all);
        assert_eq!(refused, [], "the flows are right");
        bench
    }

    /// With those of these flows that the bridge takes, and why it refused the others.
    fn with(flows: &[FlowMod], read_all: bool) -> (Bench, Vec<openflow::OfError>) {
        let epoch: Arc<Epoch> = Arc::default();
        let bridge = Arc::new(Bridge::new(
            0,
            "fuzz",
            BridgeConfig::default(),
            epoch.clone(),
        ));
        let mut ports = Vec::new();
        for n in 0..4u32 {
            let vlan = VlanConfig {
                mode: [
                    VlanMode::Trunk,
                    VlanMode::Access,
                    VlanMode::NativeUntagged,
                    VlanMode::Trunk,
                ][n as usize],
                tag: (n == 1 || n == 2).then_some(n as u16 * 10),
                ..VlanConfig::default()
            };
            let interface = InterfaceConfig {
                name: format!("p{}", n + 1),
                kind: "dummy".into(),
                ..InterfaceConfig::default()
            };
            ports.push(Some(Arc::new(PortEntry {
                index: n,
                bridge: 0,
                number: PortNo(n + 1),
                spec: PortSpec {
                    vlan,
                    interface,
                    ..PortSpec::default()
                },
                flags: PortFlags::default(),
                patch: None,
                tunnel: None,
                sequence: None,
                socket: None,
                device: None,
                shaper: None,
                counters: Arc::default(),
                ingress: None,
                created: Default::default(),
            })));
        }
        let mut refused = Vec::new();
        let made: Result<(), openflow::OfError> = bridge.update(|s: &mut BridgeState| {
            s.ports = Arc::new((0..4).map(|n| (n + 1, n)).collect());
            let limits = Limits { tables: 255 };
            for m in flows {
                let now = Default::default();
                refused.extend(
                    s.tables
                        .apply(m, &limits, now, &mut Default::default())
                        .err(),
                );
            }
            Ok(())
        });
        made.expect("ports can be set");
        let world = World {
            version: 1,
            bridges: vec![Some(bridge.clone())],
            ports: ports.clone(),
            ..World::default()
        };
        let (sender, events) = events::channel().expect("an event queue");
        let world = Arc::new(ArcSwap::from_pointee(world));
        let mut forwarder = Forwarder::new(world.clone(), epoch.clone(), sender, Clock::manual());
        for p in ports.iter().flatten() {
            let sink = Sink {
                read_all,
                ..Sink::default()
            };
            forwarder.add_port(p.index, Tx::own(Box::new(sink)), p.counters.clone());
        }
        let bench = Bench {
            forwarder,
            #[cfg(test)]
            bridge,
            world,
            epoch,
            events,
        };
        (bench, refused)
    }

    /// A packet's whole way, twice: the second one finds what the first left in the caches.
    fn run(&mut self, batch: &mut Batch, packet: &OwnedPacket, port: u32) {
        batch.clear();
        for _ in 0..2 {
            // SAFETY: `packet` outlives the batch's use: it is cleared before the next.
            if !unsafe { batch.push_borrowed(packet) } {
                return;
            }
        }
        self.forwarder.now += 1_000_000;
        self.forwarder.process(batch, port);
        self.forwarder.notify();
        self.forwarder.sweep(64);
        self.forwarder.flush();
        self.events();
        batch.clear();
    }

    /// Publishes the ports again: all cached flows are translated again with their next packet.
    pub fn republish(&self) {
        let mut world = World::clone(&self.world.load());
        world.version += 1;
        self.world.store(Arc::new(world));
        self.epoch.bump();
    }

    /// Drains and counts events.
    pub fn events(&mut self) -> usize {
        std::iter::from_fn(|| self.events.try_recv()).count()
    }
}

/// Longest text of flows in an input for [`fuzz_packet`].
const MAX_FLOWS: usize = 1024;

/// Runs a frame with any offloads through extraction, tables, caches and execution. The first byte says how,
/// the rest is the frame; with bit 7 flows as text stand before it, a line each, up to a zero byte. Must never panic.
pub fn fuzz_packet(data: &[u8]) {
    thread_local! {
        static BENCH: RefCell<(Bench, Batch)> = RefCell::new((Bench::new(&flows(), true), Batch::new()));
    }
    let Some((&how, mut rest)) = data.split_first() else {
        return;
    };
    let mut own = None;
    if how & 0x80 != 0 {
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        let Ok(text) = std::str::from_utf8(&rest[..end.min(MAX_FLOWS)]) else {
            return;
        };
        rest = rest.get(end + 1..).unwrap_or(&[]);
        let flows: Vec<FlowMod> = text
            .lines()
            .filter_map(|l| parse_flow(l, FlowCommand::Add, &Names::default()).ok())
            .map(|l| l.flow_mod)
            .collect();
        own = Some(Bench::with(&flows, true).0);
    }
    // With bit 6 a virtio-net header stands before the frame.
    let (offload, frame) = match rest.split_first_chunk::<10>() {
        Some((h, frame)) if how & 0x40 != 0 => match Offload::from_vnet(h, frame.len()) {
            Ok(o) => (o, frame),
            Err(_) => return,
        },
        _ => (Offload::default(), rest),
    };
    if frame.len() > crate::packet::PACKET_MAX {
        return;
    }
    let packet = OwnedPacket {
        bytes: frame.to_vec(),
        offload,
    };
    let port = u32::from(how & 3);
    match &mut own {
        Some(bench) => bench.run(&mut Batch::new(), &packet, port),
        None => BENCH.with_borrow_mut(|(bench, batch)| bench.run(batch, &packet, port)),
    }
}

/// Flows that use most of what there is.
fn flows() -> Vec<FlowMod> {
    let set = |field: FieldId, value: u128| Action::SetField {
        field,
        value,
        mask: field.info().full_mask(),
    };
    let output = |port| Action::Output { port, max_len: 64 };
    let flow = |table, priority, matching: Match, actions| FlowMod {
        table,
        priority,
        ..FlowMod::add(matching, Instructions::apply(actions))
    };
    let ip = Match::new().with(FieldId::EthType, 0x800);
    let ip6 = Match::new().with(FieldId::EthType, 0x86dd);
    let arp = Match::new().with(FieldId::EthType, 0x806);
    let resubmit = Action::Resubmit {
        in_port: None,
        table: Some(1),
        ct: false,
    };
    vec![
        flow(
            0,
            100,
            ip.clone().with(FieldId::IpProto, 6),
            vec![
                output(PortNo::NORMAL),
                set(FieldId::Ipv4Dst, 0x0a00_0009),
                set(FieldId::TcpDst, 81),
                Action::PushVlan(0x88a8),
                output(PortNo(4)),
                resubmit.clone(),
            ],
        ),
        flow(
            0,
            90,
            ip.clone().with(FieldId::IpProto, 17),
            vec![
                Action::DecTtl(vec![]),
                set(FieldId::UdpSrc, 7),
                set(FieldId::IpDscp, 9),
                output(PortNo::FLOOD),
                Action::PopVlan,
                resubmit.clone(),
            ],
        ),
        flow(
            0,
            80,
            ip6.clone()
                .with(FieldId::IpProto, 58)
                .with(FieldId::Icmpv6Type, 135),
            vec![
                set(FieldId::NdTarget, 5),
                set(FieldId::NdSll, 6),
                output(PortNo::ALL),
            ],
        ),
        flow(
            0,
            70,
            ip6,
            vec![
                set(FieldId::Ipv6Src, 1),
                set(FieldId::Ipv6Label, 3),
                set(FieldId::NwTos, 0xff),
                output(PortNo(2)),
                Action::SetVlanVid(5),
                output(PortNo(3)),
            ],
        ),
        flow(
            0,
            60,
            arp,
            vec![
                set(FieldId::ArpOp, 2),
                set(FieldId::ArpSha, 9),
                output(PortNo::IN_PORT),
            ],
        ),
        flow(0, 0, Match::new(), vec![output(PortNo::NORMAL)]),
        flow(
            1,
            10,
            ip.with(FieldId::IpFrag, 0),
            vec![output(PortNo::CONTROLLER)],
        ),
        flow(
            1,
            0,
            Match::new(),
            vec![set(FieldId::EthSrc, 2), output(PortNo::NORMAL)],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_packet_is_survived(how in any::<u8>(), t in 0usize..8, proto in 0usize..5, mut frame in proptest::collection::vec(any::<u8>(), 0..260)) {
            // Mostly frames that look like something.
            let types = [[8, 0], [8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0xa8], [0, 40], [0x12, 0x34]];
            let at = if how & 0x40 != 0 { 10 } else { 0 };
            if frame.len() > at + 60 {
                frame[at + 12..at + 14].copy_from_slice(&types[t]);
                if t < 2 {
                    frame[at + 14] = 0x45;
                    let len = (frame.len() - at - 14) as u16;
                    frame[at + 16..at + 18].copy_from_slice(&len.to_be_bytes());
                    frame[at + 20..at + 22].fill(0);
                    frame[at + 23] = [6, 17, 1, 132, 58][proto];
                } else if t == 2 {
                    frame[at + 14] = 0x60;
                    let len = (frame.len() - at - 54) as u16;
                    frame[at + 18..at + 20].copy_from_slice(&len.to_be_bytes());
                    frame[at + 20] = [6, 17, 44, 0, 58][proto];
                }
                if at > 0 {
                    frame[0] = 1;
                    frame[1] = [0, 1, 4, 5, 0x81][proto];
                    frame[7] = 0;
                    frame[9] = 0;
                }
            }
            let mut data = vec![how];
            data.extend(frame);
            super::fuzz_packet(&data);
        }
    }
}
