//! Whether a flow-mod can be carried out: everything in it that the pipeline does not know, or that
//! cannot be right, is refused here with the standard's error, before anything changes.

mod steering;

use super::classifier::matchable;
use crate::action::Header;
use crate::flow::slot_bits;
use crate::group::Groups;
use crate::meter::Meters;
use openflow::error::ErrorKind;
use openflow::field::Prereq;
use openflow::{Action, FieldId, FlowMod, Instructions, Match, OfError, PortNo, Slot, Subfield};

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of tables, 1 to 255.
    pub tables: u8,
}

/// Most actions of one rule.
const ACTIONS_MAX: usize = 1024;
/// How deep actions nest in each other.
const NESTED_MAX: usize = 16;

/// What actions are checked against, beside the packets they are for.
pub(super) struct Scope<'a> {
    pub(super) limits: &'a Limits,
    pub(super) groups: &'a Groups,
    pub(super) meters: &'a Meters,
    /// Where the rule lies; none for packet-outs and buckets.
    pub(super) table: Option<u8>,
    /// Whether they are a packet-out's.
    pub(super) packet_out: bool,
    /// Whether they go into an action set.
    pub(super) set: bool,
    /// Whether nothing is known of the packets, so that what a field needs is seen only with the packet.
    pub(super) blind: bool,
    /// How many actions these are inside of.
    pub(super) nested: usize,
}

fn error<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// Checks a match.
pub(super) fn matching(m: &Match) -> Result<(), OfError> {
    for e in m.entries() {
        if !matchable(e.slot) {
            return error(
                ErrorKind::BadField,
                format!("This version cannot match on {:?}", e.slot),
            );
        }
    }
    Ok(())
}

/// Checks what a rule does.
pub(super) fn instructions(
    m: &FlowMod,
    limits: &Limits,
    groups: &Groups,
    meters: &Meters,
) -> Result<(), OfError> {
    let i = &m.instructions;
    if let Some(id) = i.meter {
        meter(id, meters)?;
    }
    if let Some(t) = i.goto_table
        && (t <= m.table || t >= limits.tables)
    {
        return error(
            ErrorKind::BadInstTableId,
            format!(
                "goto_table:{t}: from table {} only {} to {} can be gone to",
                m.table,
                u16::from(m.table) + 1,
                limits.tables - 1
            ),
        );
    }
    let mut scope = Scope {
        limits,
        groups,
        meters,
        table: Some(m.table),
        packet_out: false,
        set: false,
        blind: false,
        nested: 0,
    };
    // The action set is run on what the actions applied made of the packet.
    let known = list(&i.apply, Known::of(&m.matching, false), &scope)?;
    scope.set = true;
    list(&i.write, known, &scope)?;
    Ok(())
}

/// Checks instructions of a rule that packets are past of, for packets of which nothing is known.
pub(super) fn continuation(
    i: &Instructions,
    limits: &Limits,
    groups: &Groups,
    meters: &Meters,
) -> Result<(), OfError> {
    if i.goto_table.is_some_and(|t| t >= limits.tables) {
        return error(
            ErrorKind::BadInstTableId,
            format!("goto_table: tables are 0 to {}", limits.tables - 1),
        );
    }
    let mut scope = Scope {
        limits,
        groups,
        meters,
        table: Some(0),
        packet_out: false,
        set: false,
        blind: true,
        nested: 0,
    };
    actions(&i.apply, &Match::new(), &scope)?;
    scope.set = true;
    actions(&i.write, &Match::new(), &scope)
}

/// Checks what a bucket of a group does: an action set, for packets of which nothing is known.
pub(super) fn bucket(
    list: &[Action],
    limits: &Limits,
    groups: &Groups,
    meters: &Meters,
) -> Result<(), OfError> {
    let scope = Scope {
        limits,
        groups,
        meters,
        table: None,
        packet_out: false,
        set: true,
        blind: true,
        nested: 0,
    };
    actions(list, &Match::new(), &scope)
}

fn meter(id: u32, meters: &Meters) -> Result<(), OfError> {
    match meters.get(id) {
        Some(_) => Ok(()),
        None => error(ErrorKind::InvalidMeter, format!("There is no meter {id}")),
    }
}

/// What is known of packets while actions are checked: the match, and what actions before changed.
struct Known<'a> {
    matching: &'a Match,
    eth_type: Option<u64>,
    /// How many tags there are at least.
    tags: u32,
    /// Whether an Ethernet header comes first.
    ethernet: bool,
    /// See [`Scope::blind`].
    blind: bool,
}

impl Known<'_> {
    fn of(matching: &Match, blind: bool) -> Known<'_> {
        let exact = |slot| {
            let (value, mask) = matching.slot(slot);
            (mask == slot_bits(slot)).then_some(value as u64)
        };
        let (tci, tci_mask) = matching.slot(Slot::VlanTci);
        Known {
            matching,
            eth_type: exact(Slot::EthType),
            tags: u32::from(tci & tci_mask & 0x1000 != 0),
            ethernet: matching.slot(Slot::PacketType).0 == 0,
            blind,
        }
    }

    fn exact(&self, slot: Slot) -> Option<u64> {
        let (value, mask) = self.matching.slot(slot);
        // ICMP types take half of the port they share the slot with.
        let bits = match slot {
            Slot::TpSrc => 0xff,
            _ => slot_bits(slot),
        };
        (mask & bits == bits).then_some(value as u64)
    }

    fn holds(&self, p: Prereq) -> bool {
        if self.blind {
            return true;
        }
        let proto = |n| self.exact(Slot::NwProto) == Some(n);
        let v4 = self.eth_type == Some(0x0800);
        let v6 = self.eth_type == Some(0x86dd);
        match p {
            Prereq::None => true,
            Prereq::Vlan => self.tags > 0,
            Prereq::Mpls => matches!(self.eth_type, Some(0x8847 | 0x8848)),
            Prereq::Pbb => self.eth_type == Some(0x88e7),
            Prereq::Ip => v4 || v6,
            Prereq::Ipv4 => v4,
            Prereq::Ipv6 => v6,
            Prereq::Arp => matches!(self.eth_type, Some(0x0806 | 0x8035)),
            Prereq::Tcp => (v4 || v6) && proto(6),
            Prereq::Udp => (v4 || v6) && proto(17),
            Prereq::Sctp => (v4 || v6) && proto(132),
            Prereq::Icmpv4 => v4 && proto(1),
            Prereq::Icmpv6 => v6 && proto(58),
            Prereq::Nd => v6 && proto(58) && matches!(self.exact(Slot::TpSrc), Some(135 | 136)),
            Prereq::NdSolicit => v6 && proto(58) && self.exact(Slot::TpSrc) == Some(135),
            Prereq::NdAdvert => v6 && proto(58) && self.exact(Slot::TpSrc) == Some(136),
            Prereq::Nsh => self.eth_type == Some(0x894f),
            Prereq::Ct => self.matching.meets(p),
        }
    }

    /// Whether an action has what it works on.
    fn needs(&self, p: Prereq, action: &str) -> Result<(), OfError> {
        if self.holds(p) {
            return Ok(());
        }
        error(
            ErrorKind::MatchInconsistent,
            format!("{action} needs a match on {}", p.needs()),
        )
    }

    /// Whether there is a label stack to work on.
    fn mpls(&self) -> Result<(), OfError> {
        if self.holds(Prereq::Mpls) {
            return Ok(());
        }
        error(
            ErrorKind::MatchInconsistent,
            format!(
                "The action needs a match on {}, or push_mpls before it",
                Prereq::Mpls.needs()
            ),
        )
    }

    /// Whether an Ethernet type is one of MPLS.
    fn mpls_type(&self, eth_type: u16) -> Result<(), OfError> {
        if matches!(eth_type, 0x8847 | 0x8848) {
            return Ok(());
        }
        error(
            ErrorKind::BadArgument,
            format!("push_mpls:{eth_type:#06x}: 0x8847 or 0x8848"),
        )
    }

    fn read(&self, s: Subfield) -> Result<(), OfError> {
        let info = s.field.info();
        if s.bits == 0 || u16::from(s.offset) + u16::from(s.bits) > info.bits {
            return error(
                ErrorKind::BadSetLen,
                format!("{}[{}..] has not {} bits", info.name, s.offset, s.bits),
            );
        }
        if !self.holds(info.prereq) {
            return error(
                ErrorKind::MatchInconsistent,
                format!("{} needs a match on {:?}", info.name, info.prereq),
            );
        }
        if !matchable(info.slot) {
            return error(
                ErrorKind::BadSetType,
                format!("This version does not know {}", info.name),
            );
        }
        Ok(())
    }

    fn write(&self, field: FieldId) -> Result<(), OfError> {
        let info = field.info();
        let known = info.writable && matchable(info.slot) && settable(info.slot);
        if !known {
            return error(
                ErrorKind::BadSetType,
                format!("{} cannot be set in this version", info.name),
            );
        }
        // Setting the VLAN id of an untagged packet has nowhere to put it (but vlan_tci adds a tag).
        if !self.holds(info.prereq) || field == FieldId::VlanVid && self.tags == 0 && !self.blind {
            return error(
                ErrorKind::MatchInconsistent,
                format!("Setting {} needs a match on {:?}", info.name, info.prereq),
            );
        }
        Ok(())
    }
}

/// Whether the executor can write a slot.
fn settable(slot: Slot) -> bool {
    use Slot::*;
    matches!(
        slot,
        InPort
            | PktMark
            | EthDst
            | EthSrc
            | VlanTci
            | NwSrc
            | NwDst
            | NwProto
            | NwTos
            | NwTtl
            | TpSrc
            | TpDst
            | Ipv6Src
            | Ipv6Dst
            | Ipv6Label
            | ArpSha
            | ArpTha
            | NdTarget
            | Mpls
            | PbbUca
            | PbbIsid
            | NshFlags
            | NshTtl
            | NshPath
            | NshContext
            | TunId
            | TunSrc
            | TunDst
            | TunIpv6Src
            | TunIpv6Dst
            | TunFlags
            | TunGbpId
            | TunGbpFlags
            | ErspanDir
            | ErspanIdx
            | ErspanVer
            | ErspanHwid
            | TunOption(_)
            | Metadata
            | Xxreg0
            | Xxreg1
            | Xxreg2
            | Xxreg3
    )
}

/// Checks a list of actions, for packets of which `matching` is true.
pub(super) fn actions(actions: &[Action], matching: &Match, scope: &Scope) -> Result<(), OfError> {
    list(actions, Known::of(matching, scope.blind), scope).map(drop)
}

/// Checks a list of actions for packets of which so much is known; what is known after it.
fn list<'a>(list: &[Action], mut known: Known<'a>, scope: &Scope) -> Result<Known<'a>, OfError> {
    if list.len() > ACTIONS_MAX || scope.nested > NESTED_MAX {
        return error(
            ErrorKind::TooManyActions,
            format!(
                "{} actions inside of {} others; at most {ACTIONS_MAX} inside of {NESTED_MAX}",
                list.len(),
                scope.nested
            ),
        );
    }
    for a in list {
        if scope.set && !crate::pipeline::is_for_sets(a) {
            return error(
                ErrorKind::BadActionType,
                format!("{a:?} is not for action sets and buckets"),
            );
        }
        match a {
            Action::Output { port, .. } => output(*port, scope.packet_out)?,
            Action::OutputTrunc { port, max_len } => {
                // Less is no Ethernet frame.
                if *max_len < 14 {
                    return error(
                        ErrorKind::BadArgument,
                        format!("output:{port}: {max_len} bytes are no frame; 14 or more"),
                    );
                }
                let truncates = *port == PortNo::IN_PORT || *port == PortNo::LOCAL;
                if !truncates && !port.is_physical() {
                    return error(
                        ErrorKind::BadOutPort,
                        format!("output:{port}: only real ports, IN_PORT and LOCAL truncate"),
                    );
                }
            }
            Action::OutputReg { source, .. } => known.read(*source)?,
            Action::Controller { meter: id, .. } => {
                if let Some(id) = id {
                    meter(*id, scope.meters)?;
                }
            }
            Action::SetField { field, value, mask } => {
                known.write(*field)?;
                let full = field.info().full_mask();
                if value & !full != 0 || *mask == 0 || mask & !full != 0 {
                    return error(
                        ErrorKind::BadSetArgument,
                        format!("{value:#x}/{mask:#x} does not fit {}", field.info().name),
                    );
                }
            }
            Action::SetTunnel { .. } => known.write(FieldId::TunId)?,
            Action::Load { target, .. } => {
                known.read(*target)?;
                known.write(target.field)?;
            }
            Action::Move { source, target } => {
                known.read(*source)?;
                known.read(*target)?;
                known.write(target.field)?;
                if source.bits != target.bits {
                    return error(
                        ErrorKind::BadSetLen,
                        "move between runs of different length",
                    );
                }
            }
            Action::SetVlanVid(vid) => {
                if *vid > 0xfff {
                    return error(ErrorKind::BadArgument, format!("VLAN {vid}: 0 to 4095"));
                }
                known.tags = known.tags.max(1);
            }
            Action::SetVlanPcp(pcp) => {
                if *pcp > 7 {
                    return error(ErrorKind::BadArgument, format!("priority {pcp}: 0 to 7"));
                }
                known.tags = known.tags.max(1);
            }
            Action::PopVlan => known.tags = known.tags.saturating_sub(1),
            Action::PushVlan(tpid) => {
                if !matches!(tpid, 0x8100 | 0x88a8) {
                    return error(
                        ErrorKind::BadArgument,
                        format!("push_vlan:{tpid:#06x}: 0x8100 or 0x88a8"),
                    );
                }
                known.tags += 1;
            }
            Action::DecTtl(_) => {
                if !known.holds(Prereq::Ip) {
                    return error(ErrorKind::MatchInconsistent, "dec_ttl needs a match on IP");
                }
            }
            Action::PushMpls(eth_type) => {
                known.mpls_type(*eth_type)?;
                known.eth_type = Some((*eth_type).into());
            }
            Action::PopMpls(eth_type) => {
                known.mpls()?;
                known.eth_type = Some((*eth_type).into());
            }
            Action::DecMplsTtl | Action::CopyTtlOut | Action::CopyTtlIn => known.mpls()?,
            Action::PushPbb(eth_type) => {
                if *eth_type != 0x88e7 {
                    return error(
                        ErrorKind::BadArgument,
                        format!("push_pbb:{eth_type:#06x}: 0x88e7"),
                    );
                }
                known.eth_type = Some(0x88e7);
                known.tags = 0;
            }
            Action::PopPbb => {
                known.needs(Prereq::Pbb, "pop_pbb")?;
                known.eth_type = None;
                known.tags = 0;
            }
            Action::Encap(e) => match Header::of(e)? {
                Header::Ethernet if known.ethernet && !known.blind => {
                    return error(
                        ErrorKind::MatchInconsistent,
                        "encap(ethernet): the packet has an Ethernet header",
                    );
                }
                Header::Ethernet => known.ethernet = true,
                Header::Nsh(_) => {
                    known.ethernet = false;
                    known.eth_type = Some(0x894f);
                    known.tags = 0;
                }
            },
            Action::Decap(_) if known.ethernet && known.tags > 0 => {
                return error(
                    ErrorKind::MatchInconsistent,
                    "decap: VLAN tags are to be taken off first",
                );
            }
            Action::Decap(_) if known.ethernet => known.ethernet = false,
            Action::Decap(_) => {
                // Whatever was in it.
                known.ethernet = true;
                known.eth_type = None;
            }
            Action::DecNshTtl => known.needs(Prereq::Nsh, "dec_nsh_ttl")?,
            other => steering::check(other, list, known.matching, &known, scope)?,
        }
    }
    Ok(known)
}

fn output(port: PortNo, packet_out: bool) -> Result<(), OfError> {
    match port {
        PortNo::IN_PORT
        | PortNo::NORMAL
        | PortNo::FLOOD
        | PortNo::ALL
        | PortNo::CONTROLLER
        | PortNo::LOCAL => Ok(()),
        PortNo::TABLE if packet_out => Ok(()),
        p if p.is_physical() => Ok(()),
        p => error(
            ErrorKind::BadOutPort,
            format!("output:{p}: ports are 1 to 65279, or a reserved name"),
        ),
    }
}
