//! Whether actions make sense for packets of a match.
//!
//! The walk keeps what is known of the packet as actions change it: its Ethernet type and protocol, and its VLAN tags.

use super::Item;
use crate::action::{
    Action, Conntrack, ConntrackZone, Instructions, Learn, LearnSource, LearnTarget, Subfield,
};
use crate::error::ErrorKind;
use crate::field::{FieldId, Prereq};
use crate::matching::Match;
use crate::message::PortNo;

/// Whether actions suit the packets of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::text) enum Fit {
    /// All do.
    Suited,
    /// Some does not: only OpenFlow 1.0 allows that.
    Unsuited,
}

type Checked<T = Fit> = std::result::Result<T, ErrorKind>;

/// The highest meter that a flow may use (1.3.5 7.3.4.4, `OFPM_MAX`).
const METER_MAX: u32 = 0xffff_0000;

/// What is known of packets on their way through a list.
struct Packet {
    m: Match,
    /// A second tag.
    inner_tag: bool,
    fit: Fit,
}

impl Packet {
    fn of(m: &Match) -> Packet {
        Packet {
            m: m.clone(),
            inner_tag: false,
            fit: Fit::Suited,
        }
    }

    fn tagged(&self) -> bool {
        self.m.meets(Prereq::Vlan)
    }

    fn tag(&mut self, on: bool) {
        let bits = if on { 0x1000 } else { 0 };
        self.m.set_masked(FieldId::VlanTci, bits, 0xffff);
    }

    fn wants(&mut self, there: bool) {
        if !there {
            self.fit = Fit::Unsuited;
        }
    }

    fn becomes(&mut self, eth_type: u16) {
        self.m.set_masked(FieldId::PacketType, 0, 0);
        self.m.set(FieldId::EthType, eth_type.into());
    }
}

/// Checks what a list says for packets of `m`; `table` is where the flow lies, if that is known.
pub(super) fn items(items: &[Item], m: &Match, table: Option<u8>) -> Checked {
    let mut p = Packet::of(m);
    for item in items {
        match item {
            Item::Action(a, set_field) => action(a, *set_field, &mut p)?,
            Item::Meter(n) => meter(*n)?,
            // What an action set will find is not known: only what can never be right is refused.
            Item::WriteActions(a) => list(a, &mut Packet::of(m))?,
            Item::GotoTable(t) if table.is_some_and(|from| *t <= from) => {
                return Err(ErrorKind::BadInstTableId);
            }
            _ => {}
        }
    }
    Ok(p.fit)
}

/// Whether instructions suit the packets of their flow's match.
pub(in crate::text) fn fit(i: &Instructions, m: &Match) -> Fit {
    let mut p = Packet::of(m);
    match list(&i.apply, &mut p) {
        Ok(()) => p.fit,
        Err(_) => Fit::Unsuited,
    }
}

fn list(actions: &[Action], p: &mut Packet) -> Checked<()> {
    actions.iter().try_for_each(|a| action(a, false, p))
}

fn meter(n: u32) -> Checked<()> {
    match n {
        1..=METER_MAX => Ok(()),
        _ => Err(ErrorKind::InvalidMeter),
    }
}

fn output(port: PortNo) -> Checked<()> {
    match port {
        PortNo::ANY | PortNo::UNSET => Err(ErrorKind::BadOutPort),
        PortNo(0..0xff00) => Ok(()),
        p if p.0 >= PortNo::IN_PORT.0 => Ok(()),
        _ => Err(ErrorKind::BadOutPort),
    }
}

fn source(s: Subfield, m: &Match) -> Checked<()> {
    if m.meets(s.field.info().prereq) {
        Ok(())
    } else {
        Err(ErrorKind::MatchInconsistent)
    }
}

fn target(s: Subfield, m: &Match) -> Checked<()> {
    source(s, m)?;
    if s.field.info().writable {
        Ok(())
    } else {
        Err(ErrorKind::BadSetArgument)
    }
}

/// Fields that actions older than set_field write, which do nothing to packets that have them not.
fn old(field: FieldId) -> bool {
    use FieldId::*;
    matches!(
        field,
        Ipv4Src
            | Ipv4Dst
            | IpDscp
            | IpEcn
            | NwTtl
            | TcpSrc
            | TcpDst
            | UdpSrc
            | UdpDst
            | SctpSrc
            | SctpDst
            | MplsLabel
            | MplsTc
            | MplsTtl
            | VlanVid
            | VlanPcp
    )
}

fn action(a: &Action, set_field: bool, p: &mut Packet) -> Checked<()> {
    match a {
        Action::Output { port, .. } | Action::OutputTrunc { port, .. } => output(*port)?,
        Action::Enqueue { port, .. } => match *port {
            PortNo(0..0xff00) | PortNo::IN_PORT | PortNo::LOCAL => {}
            _ => return Err(ErrorKind::BadOutPort),
        },
        Action::OutputReg { source: s, .. } => source(*s, &p.m)?,
        Action::Meter(n) => meter(*n)?,
        Action::SetField { field, value, .. } => {
            let there =
                p.m.meets(field.info().prereq) && (*field != FieldId::VlanVid || p.tagged());
            if !there && (set_field || !old(*field)) {
                return Err(ErrorKind::MatchInconsistent);
            }
            p.wants(there);
            match field {
                FieldId::VlanVid | FieldId::VlanPcp => p.tag(true),
                FieldId::VlanTci => p.tag(value & 0x1000 != 0),
                _ => {}
            }
        }
        Action::Load { target: t, .. } => source(*t, &p.m)?,
        Action::Move {
            source: s,
            target: t,
        } => {
            source(*s, &p.m)?;
            target(*t, &p.m)?;
        }
        Action::SetVlanVid(_) | Action::SetVlanPcp(_) => p.tag(true),
        Action::PopVlan => {
            let there = p.tagged();
            p.wants(there);
            let inner = std::mem::take(&mut p.inner_tag);
            p.tag(inner);
        }
        Action::PushVlan(_) => {
            if p.inner_tag {
                return Err(ErrorKind::BadTag);
            }
            p.inner_tag = p.tagged();
            p.tag(true);
        }
        Action::PushMpls(t) => {
            let ethernet = p.m.get(FieldId::PacketType).0 == 0;
            p.wants(ethernet);
            p.becomes(*t);
            p.m.set(FieldId::IpProto, 0);
        }
        Action::PopMpls(t) => {
            let there = p.m.meets(Prereq::Mpls);
            p.wants(there);
            p.becomes(*t);
        }
        Action::DecMplsTtl => {
            let there = p.m.meets(Prereq::Mpls);
            p.wants(there);
        }
        Action::PushPbb(t) => p.becomes(*t),
        Action::PopPbb => {
            let there = p.m.meets(Prereq::Pbb);
            p.wants(there);
            p.m.set_masked(FieldId::EthType, 0, 0);
        }
        Action::DecTtl(_) => {
            let there = p.m.meets(Prereq::Ip);
            p.wants(there);
        }
        Action::DecNshTtl => {
            let there = p.m.meets(Prereq::Nsh);
            p.wants(there);
        }
        Action::FinTimeout { .. } => {
            let there = p.m.exact(FieldId::IpProto) == Some(6);
            p.wants(there);
        }
        Action::Resubmit { ct: true, .. } if !p.m.meets(Prereq::Ct) => {
            return Err(ErrorKind::MatchInconsistent);
        }
        Action::Learn(l) => learn(l, &p.m)?,
        Action::Multipath(mp) => target(mp.target, &p.m)?,
        Action::Bundle(s) => {
            if let Some(t) = s.target {
                target(t, &p.m)?;
            }
            for port in s.ports.iter().filter(|p| **p != PortNo::ANY) {
                if *port == PortNo::CONTROLLER {
                    return Err(ErrorKind::BadOutPort);
                }
                output(*port)?;
            }
        }
        Action::Push(s) => source(*s, &p.m)?,
        Action::Pop(s) => target(*s, &p.m)?,
        Action::Ct(c) => ct(c, p)?,
        Action::Nat(n) => {
            let there = match n.addresses {
                None => p.m.meets(Prereq::Ip),
                Some((first, _)) if first.is_ipv4() => p.m.meets(Prereq::Ipv4),
                Some(_) => p.m.meets(Prereq::Ipv6),
            };
            if !there {
                return Err(ErrorKind::MatchInconsistent);
            }
        }
        Action::Clone(actions) => {
            let mut copy = Packet::of(&p.m);
            copy.inner_tag = p.inner_tag;
            list(actions, &mut copy)?;
            p.wants(copy.fit == Fit::Suited);
        }
        Action::DeleteField(f) if !f.info().is_option() => return Err(ErrorKind::BadArgument),
        Action::Encap(e) => {
            p.m.set(FieldId::PacketType, e.packet_type.into());
            if !p.m.meets(Prereq::Ip) {
                p.m.set(FieldId::IpProto, 0);
            }
        }
        Action::Decap(_) => {
            // Of what is inside of an Ethernet header its type tells; of other headers nothing is known.
            let inside = match (p.m.get(FieldId::PacketType).0, p.m.exact(FieldId::EthType)) {
                (0, t) => 0x1_0000 | t.unwrap_or(0),
                _ => 0xffff_ffff,
            };
            p.m.set(FieldId::PacketType, inside);
        }
        _ => {}
    }
    Ok(())
}

fn learn(l: &Learn, m: &Match) -> Checked<()> {
    let mut made = Match::new();
    for spec in &l.specs {
        if let LearnSource::Field(s) = spec.source {
            source(s, m)?;
        }
        match (spec.target, spec.source) {
            (LearnTarget::Match(t), from) => {
                source(t, &made)?;
                if let LearnSource::Value { value, .. } = from {
                    let (old, mask) = made.get(t.field);
                    let ones = ones(t.bits) << t.offset;
                    let value = old & !ones | value << t.offset & ones;
                    made.set_masked(t.field, value, mask | ones);
                }
            }
            (LearnTarget::Load(t), _) => target(t, &made)?,
            (LearnTarget::Output, _) => {}
        }
    }
    Ok(())
}

fn ones(bits: u8) -> u128 {
    u128::MAX >> (128 - u32::from(bits.clamp(1, 128)))
}

fn ct(c: &Conntrack, p: &mut Packet) -> Checked<()> {
    let invalid = p.m.get(FieldId::CtState).0 & 0x10 != 0;
    let proto = p.m.get(FieldId::IpProto).0;
    let helped = match c.alg {
        21 => proto == 6,
        69 => proto == 17,
        _ => true,
    };
    if !p.m.meets(Prereq::Ip) || invalid && c.commit || !helped {
        return Err(ErrorKind::MatchInconsistent);
    }
    if let ConntrackZone::Field(s) = c.zone {
        return source(s, &p.m);
    }
    let mut inside = Packet::of(&p.m);
    list(&c.actions, &mut inside)
}
