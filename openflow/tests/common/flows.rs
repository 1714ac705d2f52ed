//! Matches, actions, and flows.

use super::{any_port, bytes, duration, few, port};
use openflow::action::StatTrigger;
use openflow::wire::{OF10, OF11, OF12, OF13, OF14, OF15};
use openflow::*;
use proptest::prelude::*;

/// A match that the version's own form can say.
pub fn matching(version: u8) -> BoxedStrategy<Match> {
    let link = (
        proptest::option::of(1u32..0xff00),
        proptest::option::of(any::<[u8; 6]>()),
        0u8..5,
        0u128..4096,
        0u128..8,
    );
    let network = (
        0u8..8,
        any::<u32>(),
        any::<u32>(),
        0u32..=32,
        proptest::option::of(0u128..64),
        proptest::option::of(any::<u16>()),
        any::<u64>(),
    );
    (link, network)
        .prop_map(move |((in_port, dst, vlan, vid, pcp), network)| {
            let mut m = Match::new();
            if let Some(p) = in_port {
                m.set(FieldId::InPort, p.into());
            }
            if let Some(d) = dst {
                m.set(FieldId::EthDst, MacAddr(d).to_u64().into());
            }
            match vlan {
                1 => m.set(FieldId::VlanVid, vid | 0x1000),
                2 => {
                    m.set(FieldId::VlanVid, vid | 0x1000);
                    m.set(FieldId::VlanPcp, pcp);
                }
                // No tag: older forms say it of all the bits there are.
                3 if version < OF12 => m.set(FieldId::VlanTci, 0),
                3 => m.set(FieldId::VlanVid, 0),
                _ => {}
            }
            let (kind, a, b, prefix, dscp, transport, wide) = network;
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            let ip = |m: &mut Match, src, dst| {
                m.set_masked(src, (a & mask).into(), mask.into());
                m.set(dst, b.into());
            };
            match kind {
                1..=3 => {
                    m.set(FieldId::EthType, 0x800);
                    ip(&mut m, FieldId::Ipv4Src, FieldId::Ipv4Dst);
                    if let Some(d) = dscp {
                        m.set(FieldId::IpDscp, d);
                    }
                    let ports = [
                        (6, FieldId::TcpSrc, FieldId::TcpDst),
                        (17, FieldId::UdpSrc, FieldId::UdpDst),
                        (1, FieldId::Icmpv4Type, FieldId::Icmpv4Code),
                    ][usize::from(kind) - 1];
                    m.set(FieldId::IpProto, ports.0);
                    if let Some(t) = transport {
                        let t = u128::from(t) & ports.1.info().full_mask();
                        m.set(ports.1, t);
                        m.set(ports.2, t / 2);
                    }
                }
                4 => {
                    m.set(FieldId::EthType, 0x806);
                    m.set(FieldId::ArpOp, 2);
                    ip(&mut m, FieldId::ArpSpa, FieldId::ArpTpa);
                }
                5 if version >= OF11 => {
                    m.set(FieldId::EthType, 0x8847);
                    m.set(FieldId::MplsLabel, u128::from(a & 0xf_ffff));
                    m.set(FieldId::MplsTc, pcp);
                }
                6 if version >= OF12 => {
                    m.set(FieldId::EthType, 0x86dd);
                    let wide = u128::from(wide) << 64 | u128::from(b);
                    m.set_masked(FieldId::Ipv6Src, wide & !0xff, !0xff);
                    m.set(FieldId::Ipv6Label, u128::from(a & 0xf_ffff));
                }
                7 if version >= OF12 => {
                    m.set(FieldId::TunId, wide.into());
                    m.set_masked(FieldId::Reg0, (a & 0xff00).into(), 0xff00);
                }
                _ => {}
            }
            if version >= OF11 && kind & 1 == 0 {
                m.set_masked(FieldId::Metadata, u128::from(wide & 0xffff), 0xffff);
            }
            m
        })
        .boxed()
}

/// Actions that the version has a form of, its own or Nicira's.
pub fn actions(version: u8) -> BoxedStrategy<Vec<Action>> {
    let sub = |field, offset, bits| Subfield {
        field,
        offset,
        bits,
    };
    let common = prop_oneof![
        (port(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        any::<u32>().prop_map(Action::SetQueue),
        Just(Action::PopVlan),
        Just(Action::Exit),
        any::<u64>().prop_map(move |value| match version {
            // There a load is a set_field.
            OF15 => Action::SetField {
                field: FieldId::Metadata,
                value: value.into(),
                mask: u64::MAX.into(),
            },
            _ => Action::Load {
                target: sub(FieldId::Metadata, 0, 64),
                value,
            },
        }),
        (0u8..8, 1u8..8).prop_map(move |(offset, bits)| Action::Move {
            source: sub(FieldId::Reg1, offset, bits),
            target: sub(FieldId::Reg2, 0, bits),
        }),
        (0u8..=254).prop_map(|table| Action::Resubmit {
            in_port: None,
            table: Some(table),
            ct: false,
        }),
        (any::<u16>(), any::<u16>(), bytes(9)).prop_map(|(max_len, id, userdata)| {
            Action::Controller {
                max_len,
                reason: openflow::action::PacketInReason::InvalidTtl,
                id,
                userdata,
                pause: true,
                meter: None,
            }
        }),
    ];
    if version == OF10 {
        return few(common).boxed();
    }
    few(prop_oneof![
        3 => common,
        1 => (0..0xffff_ff00u32).prop_map(Action::Group),
        1 => Just(Action::PushVlan(0x8100)),
    ])
    .boxed()
}

/// Actions that an action set can hold.
fn in_a_set() -> impl Strategy<Value = Action> {
    prop_oneof![
        (port(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        any::<u32>().prop_map(Action::SetQueue),
        (0..0xffff_ff00u32).prop_map(Action::Group),
        Just(Action::PushVlan(0x8100)),
    ]
}

/// What a flow of the version can do.
pub fn instructions(version: u8) -> BoxedStrategy<Instructions> {
    if version == OF10 {
        return actions(version).prop_map(Instructions::apply).boxed();
    }
    let trigger = (any::<bool>(), any::<u32>(), any::<u64>()).prop_map(|(periodic, n, wide)| {
        Box::new(StatTrigger {
            periodic,
            only_first: !periodic,
            duration: n,
            idle: n / 2,
            packets: wide,
            bytes: wide / 3,
        })
    });
    (
        actions(version),
        few(in_a_set()),
        any::<bool>(),
        proptest::option::of((any::<u64>(), any::<u64>())),
        // Beyond the table of any flow.
        proptest::option::of(200u8..255),
        proptest::option::of(1..0xffff_0000u32),
        proptest::option::of(trigger),
    )
        .prop_map(
            move |(apply, write, clear_actions, metadata, goto_table, meter, trigger)| {
                Instructions {
                    // From 1.5 on a meter is an action.
                    meter: meter.filter(|_| (OF13..OF15).contains(&version)),
                    apply,
                    clear_actions,
                    write,
                    metadata: metadata.map(|(value, mask)| (value & mask, mask)),
                    goto_table,
                    stat_trigger: trigger.filter(|_| version >= OF15),
                }
            },
        )
        .boxed()
}

fn flags(version: u8) -> impl Strategy<Value = FlowFlags> {
    any::<[bool; 5]>().prop_map(move |b| FlowFlags {
        send_flow_rem: b[0],
        check_overlap: b[1],
        reset_counts: b[2] && version >= OF12,
        no_packet_counts: b[3] && version >= OF13,
        no_byte_counts: b[4] && version >= OF13,
    })
}

pub fn flow_mod(version: u8) -> BoxedStrategy<FlowMod> {
    use FlowModCommand::*;
    let head = (
        prop_oneof![
            Just(Add),
            Just(Modify),
            Just(ModifyStrict),
            Just(Delete),
            Just(DeleteStrict)
        ],
        any::<(u64, u64, u8, u16, u16, u16, u16)>(),
        proptest::option::of(0..u32::MAX),
        any_port(),
        proptest::option::of(0..u32::MAX),
    );
    (
        head,
        flags(version),
        matching(version),
        instructions(version),
    )
        .prop_map(move |(head, flags, matching, instructions)| {
            let (command, numbers, buffer, out_port, out_group) = head;
            let (cookie, mask, table, priority, idle_timeout, hard_timeout, importance) = numbers;
            let later = version > OF10;
            FlowMod {
                command,
                cookie,
                cookie_mask: if later { mask } else { 0 },
                table: table / 2,
                priority,
                idle_timeout,
                hard_timeout,
                importance: if version >= OF14 { importance } else { 0 },
                buffer,
                out_port: if later || out_port != PortNo::ANY {
                    out_port
                } else {
                    PortNo::LOCAL
                },
                out_group: out_group.filter(|_| later),
                flags,
                matching,
                instructions,
            }
        })
        .boxed()
}

pub fn filter(version: u8) -> BoxedStrategy<FlowFilter> {
    (
        any::<(u8, u64, u64)>(),
        port(),
        proptest::option::of(0..u32::MAX),
        matching(version),
    )
        .prop_map(
            move |((table, cookie, mask), out_port, out_group, matching)| {
                let later = version > OF10;
                FlowFilter {
                    table,
                    out_port,
                    out_group: out_group.filter(|_| later),
                    cookie: if later { cookie } else { 0 },
                    cookie_mask: if later { mask } else { 0 },
                    matching,
                }
            },
        )
        .boxed()
}

/// A flow with all that the version tells of it in its statistics.
pub fn flow_stats(version: u8) -> BoxedStrategy<FlowStats> {
    (
        any::<(u8, u16, u16, u16, u16, u64)>(),
        (0..u64::MAX, 0..u64::MAX, duration(), duration()),
        flags(version),
        matching(version),
        instructions(version),
    )
        .prop_map(move |(numbers, counts, flags, matching, instructions)| {
            let (table, priority, idle_timeout, hard_timeout, importance, cookie) = numbers;
            let (packets, bytes, duration, idle) = counts;
            FlowStats {
                table,
                duration,
                idle_age: (version >= OF15).then_some(idle),
                hard_age: None,
                priority,
                idle_timeout,
                hard_timeout,
                importance: if version >= OF14 { importance } else { 0 },
                flags: if version >= OF13 {
                    flags
                } else {
                    FlowFlags::default()
                },
                cookie,
                packets,
                bytes,
                matching,
                instructions,
            }
        })
        .boxed()
}

/// A flow that ended, with what the version tells of that.
pub fn removed(version: u8) -> BoxedStrategy<FlowRemoved> {
    use FlowRemovedReason::*;
    let reasons: &[FlowRemovedReason] = match version {
        OF10 => &[IdleTimeout, HardTimeout, Delete],
        OF11..=OF13 => &[IdleTimeout, HardTimeout, Delete, GroupDelete],
        _ => &[
            IdleTimeout,
            HardTimeout,
            Delete,
            GroupDelete,
            MeterDelete,
            Eviction,
        ],
    };
    (proptest::sample::select(reasons), flow_stats(version))
        .prop_map(move |(reason, flow)| FlowRemoved {
            reason,
            flow: FlowStats {
                table: if version == OF10 {
                    TABLE_ALL
                } else {
                    flow.table
                },
                hard_timeout: if version < OF12 { 0 } else { flow.hard_timeout },
                importance: 0,
                flags: FlowFlags::default(),
                instructions: Instructions::default(),
                ..flow
            },
        })
        .boxed()
}

pub fn monitored(version: u8) -> BoxedStrategy<MonitoredFlow> {
    let form = if version < OF13 { OF12 } else { version };
    let instructions = if version < OF13 {
        actions(version).prop_map(Instructions::apply).boxed()
    } else {
        instructions(version)
    };
    (
        any::<(u8, u16, u16, u16, u64)>(),
        matching(form),
        proptest::option::of(instructions),
    )
        .prop_map(|(numbers, matching, instructions)| {
            let (table, priority, idle_timeout, hard_timeout, cookie) = numbers;
            MonitoredFlow {
                table,
                priority,
                idle_timeout,
                hard_timeout,
                cookie,
                matching,
                // None at all are as good as not told.
                instructions: instructions.filter(|i| *i != Instructions::default()),
            }
        })
        .boxed()
}
