//! What tables can do, as OpenFlow's table features have it (OpenFlow 1.3.5 7.3.5.5, 1.5.1 7.3.5.18), and what of it can
//! be changed: name and room.
//!
//! Nothing is listed twice: an action or field is a feature if the checks of flow-mods let it pass.

use super::classifier::matchable;
use super::{Limits, RULES_MAX, Settings, check};
use crate::group::Groups;
use crate::meter::Meters;
use openflow::error::ErrorKind;
use openflow::field::{FIELDS, FieldInfo, MaskRule};
use openflow::{
    Action, FieldId, Match, OfError, PortNo, TableFeatures, TableFeaturesCommand, TableProperty,
};
use std::collections::BTreeSet;

/// `OFPIT_*` of goto, write metadata, write, apply and clear actions, meter, and stat trigger: each version is told of those it has.
const INSTRUCTIONS: [u16; 7] = [1, 2, 3, 4, 5, 6, 7];
/// Those of them that some versions do not have, and so cannot ask for.
const PARTLY_KNOWN: [u16; 2] = [6, 7];
/// `OFPIT_GOTO_TABLE`.
const GOTO: u16 = 1;
/// `OFPTFF_INGRESS_TABLE`.
const INGRESS: u32 = 1;
/// `OFPTFF_EGRESS_TABLE` and `OFPTFF_FIRST_EGRESS`.
const EGRESS: u32 = 2 | 16;
/// Ethernet types of which some packet meets the prerequisites of an action or field: none, IPv4, IPv6, ARP, MPLS, PBB.
const ETH_TYPES: [Option<u128>; 6] = [
    None,
    Some(0x0800),
    Some(0x86dd),
    Some(0x0806),
    Some(0x8847),
    Some(0x88e7),
];
/// IP protocols, the same: none, TCP, UDP, SCTP, ICMP, ICMPv6.
const PROTOCOLS: [Option<u128>; 6] = [None, Some(6), Some(17), Some(132), Some(1), Some(58)];

/// An action of every `OFPAT_*`, by number.
fn actions() -> Vec<(u16, Action)> {
    let output = Action::Output {
        port: PortNo::IN_PORT,
        max_len: 0,
    };
    let set = Action::SetField {
        field: FieldId::EthSrc,
        value: 0,
        mask: FieldId::EthSrc.info().full_mask(),
    };
    vec![
        (0, output),
        (11, Action::CopyTtlOut),
        (12, Action::CopyTtlIn),
        (15, byte(FieldId::MplsTtl)),
        (16, Action::DecMplsTtl),
        (17, Action::PushVlan(0x8100)),
        (18, Action::PopVlan),
        (19, Action::PushMpls(0x8847)),
        (20, Action::PopMpls(0x0800)),
        (21, Action::SetQueue(0)),
        (22, Action::Group(1)),
        (23, byte(FieldId::NwTtl)),
        (24, Action::DecTtl(Vec::new())),
        (25, set),
        (26, Action::PushPbb(0x88e7)),
        (27, Action::PopPbb),
    ]
}

fn byte(field: FieldId) -> Action {
    Action::SetField {
        field,
        value: 1,
        mask: 0xff,
    }
}

/// Matches of which one meets whatever an action asks for.
fn kinds() -> impl Iterator<Item = Match> {
    let with = |m: Match, field, value: Option<u128>| match value {
        Some(v) => m.with(field, v),
        None => m,
    };
    ETH_TYPES.into_iter().flat_map(move |e| {
        PROTOCOLS.into_iter().flat_map(move |p| {
            let m = with(Match::new(), FieldId::EthType, e);
            let m = with(m, FieldId::IpProto, p.filter(|_| e.is_some()));
            let mut nd = m.clone();
            if p == Some(58) {
                nd.set(FieldId::Icmpv6Type, 135);
            }
            let tagged = m.clone().with(FieldId::VlanVid, 0x1001);
            [m, tagged, nd]
        })
    })
}

/// Whether the checks let an action pass for some kind of packets.
fn passes(kinds: &[Match], action: &Action, scope: &check::Scope<'_>) -> bool {
    let list = std::slice::from_ref(action);
    kinds.iter().any(|m| {
        match check::actions(list, m, scope) {
            Ok(()) => true,
            // The action is known; the group it names is not there.
            Err(e) => e.kind == ErrorKind::BadOutGroup,
        }
    })
}

fn fields(wanted: impl Fn(&FieldInfo) -> bool) -> Vec<FieldId> {
    FIELDS.iter().filter(|f| wanted(f)).map(|f| f.id).collect()
}

/// What every table can do; the last one cannot go anywhere.
pub(crate) fn of(settings: &Settings, limits: &Limits) -> Vec<TableFeatures> {
    let kinds: Vec<Match> = kinds().collect();
    let (groups, meters) = (Groups::default(), Meters::default());
    let scope = |set| check::Scope {
        limits,
        groups: &groups,
        meters: &meters,
        table: Some(0),
        packet_out: false,
        set,
        blind: false,
        nested: 0,
    };
    let types = |set| -> Vec<u16> {
        let all = actions().into_iter();
        all.filter(|(_, a)| passes(&kinds, a, &scope(set)))
            .map(|(n, _)| n)
            .collect()
    };
    let (write, apply) = (types(true), types(false));
    let settable = fields(|f| {
        let set = Action::SetField {
            field: f.id,
            value: 0,
            mask: f.full_mask(),
        };
        passes(&kinds, &set, &scope(false))
    });
    let matched = fields(|f| matchable(f.slot));
    let with_masks: Vec<(FieldId, bool)> = matched
        .iter()
        .map(|id| (*id, id.info().mask == MaskRule::Any))
        .collect();
    (0..limits.tables)
        .map(|table| {
            let last = table + 1 == limits.tables;
            let instructions = INSTRUCTIONS
                .into_iter()
                .filter(|i| *i != GOTO || !last)
                .collect();
            TableFeatures {
                table,
                command: TableFeaturesCommand::Replace,
                features: INGRESS,
                name: settings.name(table),
                metadata_match: u64::MAX,
                metadata_write: u64::MAX,
                config: 0,
                max_entries: settings.limit(table).unwrap_or(RULES_MAX as u32),
                properties: vec![
                    TableProperty::Instructions {
                        miss: false,
                        types: instructions,
                    },
                    TableProperty::NextTables {
                        miss: false,
                        tables: (table + 1..limits.tables).collect(),
                    },
                    TableProperty::WriteActions {
                        miss: false,
                        types: write.clone(),
                    },
                    TableProperty::ApplyActions {
                        miss: false,
                        types: apply.clone(),
                    },
                    TableProperty::Match(with_masks.clone()),
                    TableProperty::Wildcards(matched.clone()),
                    TableProperty::WriteSetField {
                        miss: false,
                        fields: settable.clone(),
                    },
                    TableProperty::ApplySetField {
                        miss: false,
                        fields: settable.clone(),
                    },
                ],
            }
        })
        .collect()
}

fn refuse<T>(kind: ErrorKind, detail: String) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// Checks that a request asks for nothing but what tables do, name and room apart.
///
/// # Errors
/// `OFPTFFC_*`: for a table that is not there or comes twice, for metadata bits, egress tables and room beyond what there is,
/// and `OFPTFFC_EPERM` for any property that is not what the table has: there is nothing to switch on or off.
pub(crate) fn allowed(asked: &[TableFeatures], have: &[TableFeatures]) -> Result<(), OfError> {
    let mut seen = BTreeSet::new();
    for a in asked {
        let n = a.table;
        let Some(h) = have.iter().find(|h| h.table == n) else {
            return refuse(
                ErrorKind::TableFeaturesBadTable,
                format!("table {n}: there are tables 0 to {}", have.len() - 1),
            );
        };
        if !seen.insert(n) {
            return refuse(
                ErrorKind::TableFeaturesDupTable,
                format!("table {n} comes twice"),
            );
        }
        if a.command == TableFeaturesCommand::Disable {
            return refuse(
                ErrorKind::TableFeaturesEperm,
                format!("table {n} cannot be disabled"),
            );
        }
        if a.features & EGRESS != 0 {
            return refuse(
                ErrorKind::TableFeaturesBadFeatures,
                format!("table {n}: there are no egress tables"),
            );
        }
        if a.metadata_match != h.metadata_match || a.metadata_write != h.metadata_write {
            return refuse(
                ErrorKind::TableFeaturesBadMetadata,
                format!("table {n} matches and writes all 64 bits of metadata"),
            );
        }
        if a.max_entries as usize > RULES_MAX {
            return refuse(
                ErrorKind::TableFeaturesBadMaxEnt,
                format!("{} flows in table {n}: at most {RULES_MAX}", a.max_entries),
            );
        }
        for p in &a.properties {
            if !h.properties.iter().any(|own| same(own, p)) {
                return refuse(
                    ErrorKind::TableFeaturesEperm,
                    format!("table {n} does what it does: {p:?} cannot be had"),
                );
            }
        }
    }
    Ok(())
}

/// Whether two properties say the same, in any order. What holds for all packets holds for the table-miss rule.
fn same(own: &TableProperty, asked: &TableProperty) -> bool {
    use TableProperty::*;
    fn set<T: Ord + Copy>(list: &[T]) -> BTreeSet<T> {
        list.iter().copied().collect()
    }
    match (own, asked) {
        (Instructions { types: a, .. }, Instructions { types: b, .. }) => {
            let (a, b) = (set(a), set(b));
            b.is_subset(&a) && a.difference(&b).all(|i| PARTLY_KNOWN.contains(i))
        }
        (WriteActions { types: a, .. }, WriteActions { types: b, .. })
        | (ApplyActions { types: a, .. }, ApplyActions { types: b, .. }) => set(a) == set(b),
        (NextTables { tables: a, .. }, NextTables { tables: b, .. }) => set(a) == set(b),
        (Match(a), Match(b)) => set(a) == set(b),
        (Wildcards(a), Wildcards(b))
        | (WriteSetField { fields: a, .. }, WriteSetField { fields: b, .. })
        | (ApplySetField { fields: a, .. }, ApplySetField { fields: b, .. }) => set(a) == set(b),
        _ => false,
    }
}
