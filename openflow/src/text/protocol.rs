//! Flow formats: what a connection speaks of flows in, as Open vSwitch's tools name it.
//!
//! OpenFlow 1.0 has four of them: with its own match or Nicira's extended one (`NXM`), and with or
//! without the extension that flow-mods say their table (`+table_id`). Every later version is one.

use super::action::{Fit, fit};
use super::{Result, fail};
use crate::action::{Action, Instructions};
use crate::field::{FieldId, FieldInfo, Slot};
use crate::matching::Match;
use crate::message::{FlowMod, Message, TABLE_ALL};
use crate::wire;
use std::fmt;

/// A set of flow formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols(u16);

/// Each format: name, bit, version.
const FORMATS: &[(&str, Protocols, u8)] = &[
    ("OpenFlow10-table_id", Protocols::OF10, 1),
    ("OpenFlow10+table_id", Protocols::OF10_TID, 1),
    ("NXM-table_id", Protocols::NXM, 1),
    ("NXM+table_id", Protocols::NXM_TID, 1),
    ("OpenFlow11", Protocols(1 << 4), 2),
    ("OXM-OpenFlow12", Protocols(1 << 5), 3),
    ("OXM-OpenFlow13", Protocols(1 << 6), 4),
    ("OXM-OpenFlow14", Protocols(1 << 7), 5),
    ("OXM-OpenFlow15", Protocols(1 << 8), 6),
];

/// Names for several at once, which are preferred where they fit.
const ABBREVIATIONS: &[(&str, Protocols)] = &[
    ("any", Protocols::ANY),
    ("OpenFlow10", Protocols(0b11)),
    ("NXM", Protocols::NXM_ANY),
    ("OXM", Protocols(0x1e0)),
];

impl Protocols {
    /// All.
    pub const ANY: Protocols = Protocols(0x1ff);
    /// None.
    pub const NONE: Protocols = Protocols(0);
    /// OpenFlow 1.0's own format.
    pub const OF10: Protocols = Protocols(1);
    /// The same, with tables.
    pub const OF10_TID: Protocols = Protocols(2);
    /// Nicira's format for OpenFlow 1.0.
    pub const NXM: Protocols = Protocols(4);
    /// The same, with tables.
    pub const NXM_TID: Protocols = Protocols(8);
    /// Nicira's, with tables or without.
    pub const NXM_ANY: Protocols = Protocols(0b1100);
    /// All of OpenFlow 1.0.
    pub const OF10_ANY: Protocols = Protocols(0b1111);
    /// Those in which a flow-mod says its table.
    pub const TID: Protocols = Protocols(0x1fa);

    /// Those of versions from `version` (a wire number) on.
    pub fn from_version_up(version: u8) -> Protocols {
        Protocols::of(|_, v| v >= version)
    }

    /// Those of one version.
    pub fn of_version(version: u8) -> Protocols {
        Protocols::of(|_, v| v == version)
    }

    fn of(take: impl Fn(Protocols, u8) -> bool) -> Protocols {
        let taken = FORMATS.iter().filter(|f| take(f.1, f.2));
        taken.fold(Protocols::NONE, |all, f| all.or(f.1))
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Protocols) -> Protocols {
        Protocols(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub fn or(self, other: Protocols) -> Protocols {
        Protocols(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Protocols) -> bool {
        self.0 & other.0 == other.0
    }

    /// One by one, the simplest first.
    pub fn iter(self) -> impl Iterator<Item = Protocols> {
        FORMATS
            .iter()
            .map(|f| f.1)
            .filter(move |p| self.contains(*p))
    }

    /// The versions they are of, lowest first.
    pub fn versions(self) -> Vec<u8> {
        let mut v: Vec<u8> = FORMATS
            .iter()
            .filter(|f| self.contains(f.1))
            .map(|f| f.2)
            .collect();
        v.dedup();
        v
    }

    /// Reads a list of names, as of `--flow-format`.
    ///
    /// # Errors
    /// A name that no format has, or none at all.
    pub fn parse(s: &str) -> Result<Protocols> {
        let mut all = Protocols::NONE;
        for name in s.split(',').filter(|n| !n.is_empty()) {
            let named = FORMATS
                .iter()
                .map(|f| (f.0, f.1))
                .chain(ABBREVIATIONS.iter().copied());
            match named.into_iter().find(|f| f.0.eq_ignore_ascii_case(name)) {
                Some((_, p)) => all = all.or(p),
                None => return fail(format!("{name}: unknown flow protocol")),
            }
        }
        if all.is_empty() {
            return fail(format!("{s}: no flow protocol specified"));
        }
        Ok(all)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let (mut left, mut sep) = (*self, "");
        let single = FORMATS.iter().map(|x| (x.0, x.1));
        for (name, p) in ABBREVIATIONS.iter().copied().chain(single) {
            if left.contains(p) {
                write!(f, "{sep}{name}")?;
                left = Protocols(left.0 & !p.0);
                sep = ",";
            }
        }
        Ok(())
    }
}

/// The formats that can say a flow-mod; `table_given` if its text named a table.
pub fn usable_protocols(f: &FlowMod, table_given: bool) -> Protocols {
    let mut usable = for_match(&f.matching);
    if table_given && f.table != TABLE_ALL {
        usable = usable.and(Protocols::TID);
    }
    if f.cookie_mask != 0 {
        usable = usable.and(Protocols::NXM_ANY.or(Protocols::from_version_up(2)));
    }
    if f.out_group.is_some() {
        usable = usable.and(Protocols::from_version_up(2));
    }
    if f.flags.reset_counts {
        usable = usable.and(Protocols::from_version_up(3));
    }
    if f.flags.no_packet_counts || f.flags.no_byte_counts {
        usable = usable.and(Protocols::from_version_up(4));
    }
    if fit(&f.instructions, &f.matching) == Fit::Unsuited {
        usable = usable.and(Protocols::OF10_ANY);
    }
    usable.and(for_instructions(&f.instructions))
}

/// The formats that can say a match.
pub fn for_match(m: &Match) -> Protocols {
    // In IPv6 packets, the fields that IPv4 has too are for the extended formats only.
    let shared = [
        FieldId::IpProto,
        FieldId::NwTos,
        FieldId::TcpSrc,
        FieldId::TcpDst,
    ];
    let ipv6 = m.eth_type() == Some(0x86dd) && shared.iter().any(|f| m.get(*f).1 != 0);
    // OpenFlow 1.1 has a form for any tag, but Open vSwitch's tools count that among what only extended formats say.
    let any_tag = m.slot(Slot::VlanTci).1 == 0x1000;
    let plain = Message::FlowMod(FlowMod::add(m.clone(), Instructions::default()));
    let nicira = Message::Nicira(Box::new(plain.clone()));
    Protocols::of(|p, version| {
        if ipv6 && !Protocols::NXM_ANY.contains(p) && version < 3 {
            return false;
        }
        if any_tag && version == 2 {
            return false;
        }
        let message = if Protocols::NXM_ANY.contains(p) {
            &nicira
        } else {
            &plain
        };
        wire::encode(version, 0, message).is_ok()
    })
}

/// The formats that can say actions.
pub fn for_actions(actions: &[Action]) -> Protocols {
    actions
        .iter()
        .fold(Protocols::ANY, |all, a| all.and(for_action(a)))
}

fn for_instructions(i: &Instructions) -> Protocols {
    let mut all = for_actions(&i.apply).and(for_actions(&i.write));
    if i.metadata.is_some() {
        all = all.and(Protocols::NXM_ANY.or(Protocols::from_version_up(2)));
    }
    // Open vSwitch leaves these out of what it sends in 1.0; a flow is not changed into another here.
    if i.clear_actions || !i.write.is_empty() {
        all = all.and(Protocols::from_version_up(2));
    }
    if i.meter.is_some() {
        all = all.and(Protocols::from_version_up(4));
    }
    if i.stat_trigger.is_some() {
        all = all.and(Protocols::from_version_up(6));
    }
    all
}

fn for_action(a: &Action) -> Protocols {
    match a {
        // What can be set is what can be matched; the simple headers have actions of their own.
        Action::SetField { field, .. } => for_setting(field.info()),
        Action::Clone(actions) => for_actions(actions),
        Action::Ct(c) => for_actions(&c.actions),
        Action::PushVlan(_) | Action::CopyTtlIn | Action::CopyTtlOut => {
            Protocols::from_version_up(2)
        }
        Action::Encap(_) | Action::Decap(_) | Action::DecNshTtl => Protocols::from_version_up(4),
        Action::PushPbb(_) | Action::PopPbb => Protocols::from_version_up(4),
        // An instruction before.
        Action::Meter(_) => Protocols::from_version_up(6),
        _ => Protocols::ANY,
    }
}

fn for_setting(info: &FieldInfo) -> Protocols {
    use FieldId::*;
    // These can be set in any version, by actions of the standard or by Nicira's.
    const ANYWHERE: &[FieldId] = &[
        InPort, EthSrc, EthDst, VlanTci, VlanVid, VlanPcp, Ipv4Src, Ipv4Dst, NwTos, IpDscp, IpEcn,
        NwTtl, ArpOp, ArpSpa, ArpTpa, TcpSrc, TcpDst, UdpSrc, UdpDst, SctpSrc, SctpDst, Icmpv4Type,
        Icmpv4Code, MplsLabel, MplsTc, MplsTtl,
    ];
    match info.id {
        f if ANYWHERE.contains(&f) => Protocols::ANY,
        Metadata => Protocols::NXM_ANY.or(Protocols::from_version_up(2)),
        _ => Protocols::NXM_ANY.or(Protocols::from_version_up(3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_as_the_stock_tool_names_them() {
        for (text, named) in [
            ("any", "any"),
            ("OpenFlow10-table_id,openflow10+TABLE_ID", "OpenFlow10"),
            (
                "OXM,OpenFlow10+table_id,NXM+table_id,OpenFlow11",
                "OXM,OpenFlow10+table_id,NXM+table_id,OpenFlow11",
            ),
            ("nxm,OpenFlow11,OXM", "NXM,OXM,OpenFlow11"),
            (
                "OXM-OpenFlow13,OXM-OpenFlow12",
                "OXM-OpenFlow12,OXM-OpenFlow13",
            ),
        ] {
            assert_eq!(Protocols::parse(text).unwrap().to_string(), named);
        }
        assert_eq!(Protocols::NONE.to_string(), "none");
        assert_eq!(
            Protocols::parse("foo").unwrap_err().0,
            "foo: unknown flow protocol"
        );
        assert_eq!(Protocols::from_version_up(4).versions(), [4, 5, 6]);
    }
}
