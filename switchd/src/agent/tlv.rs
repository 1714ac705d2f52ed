//! Which Geneve options the `tun_metadata` fields hold (NXT_TLV_TABLE_MOD), one table a bridge.

use datapath::flow::OPTIONS;
use openflow::action::{LearnSource, LearnTarget};
use openflow::error::ErrorKind;
use openflow::field::Slot;
use openflow::{Action, FieldId, FlowMod, Match, OfError, TlvMap, TlvTableCommand};
use std::collections::BTreeMap;

/// Fields there are, `tun_metadata0` to `tun_metadata63`.
pub const FIELDS: u16 = 64;
/// Bytes that all options together may have.
pub const SPACE: usize = 256;
/// Bytes of one option, at most.
const OPTION_MAX: u8 = 124;

/// The mapping, by number of field.
#[derive(Clone, Debug, Default)]
pub struct TlvTable {
    maps: BTreeMap<u16, TlvMap>,
}

fn refused(kind: ErrorKind, m: &TlvMap, why: &str) -> OfError {
    OfError::new(
        kind,
        format!(
            "option class {:#x} type {:#x} of {} bytes as tun_metadata{}: {why}",
            m.class, m.kind, m.len, m.index
        ),
    )
}

impl TlvTable {
    /// The mapping, by field.
    pub fn maps(&self) -> Vec<TlvMap> {
        self.maps.values().copied().collect()
    }

    /// Changes the mapping, all or nothing.
    ///
    /// # Errors
    /// As Open vSwitch: an option's length (4 to 124, a multiple of 4), the field's number, a field or
    /// an option that is taken, options that are too long together, or one to be deleted that is not
    /// there or that flows use (`used`).
    pub fn change(
        &mut self,
        command: TlvTableCommand,
        maps: &[TlvMap],
        used: impl Fn(u16) -> bool,
    ) -> Result<(), OfError> {
        for m in maps {
            if m.index >= FIELDS {
                return Err(refused(ErrorKind::TlvBadFieldIdx, m, "there are 64 fields"));
            }
            if m.len == 0 || m.len % 4 != 0 || m.len > OPTION_MAX {
                let why = "an option has 4 to 124 bytes, a multiple of 4";
                return Err(refused(ErrorKind::TlvBadOptLen, m, why));
            }
        }
        let mut new = self.maps.clone();
        let in_use = |m: &TlvMap| refused(ErrorKind::TlvInvalidDel, m, "flows use the field");
        match command {
            TlvTableCommand::Add => {
                for m in maps {
                    if new.contains_key(&m.index) {
                        return Err(refused(
                            ErrorKind::TlvAlreadyMapped,
                            m,
                            "the field is taken",
                        ));
                    }
                    if new.values().any(|o| (o.class, o.kind) == (m.class, m.kind)) {
                        return Err(refused(ErrorKind::TlvDupEntry, m, "the option has a field"));
                    }
                    let shared =
                        |o: &&TlvMap| o.index % u16::from(OPTIONS) == m.index % u16::from(OPTIONS);
                    if let Some(o) = new.values().find(shared) {
                        let why = format!(
                            "keys have room for {OPTIONS} options, and this one's is that of tun_metadata{}",
                            o.index
                        );
                        return Err(refused(ErrorKind::TlvTableFull, m, &why));
                    }
                    new.insert(m.index, *m);
                    if new.values().map(|o| usize::from(o.len)).sum::<usize>() > SPACE {
                        let why = "options have 256 bytes in all";
                        return Err(refused(ErrorKind::TlvTableFull, m, why));
                    }
                }
            }
            TlvTableCommand::Delete => {
                for m in maps {
                    if used(m.index) {
                        return Err(in_use(m));
                    }
                    new.remove(&m.index);
                }
            }
            TlvTableCommand::Clear => {
                if let Some(m) = new.values().find(|m| used(m.index)) {
                    return Err(in_use(m));
                }
                new.clear();
            }
        }
        self.maps = new;
        Ok(())
    }

    /// Whether the fields that a flow uses have options.
    ///
    /// # Errors
    /// `NXFMFC_INVALID_TLV_FIELD`.
    pub fn check(&self, m: &FlowMod) -> Result<(), OfError> {
        let mut unmapped = None;
        let actions = m.instructions.apply.iter().chain(&m.instructions.write);
        fields_of(&m.matching, actions, &mut |field| {
            if !self.maps.contains_key(&field) {
                unmapped = Some(field);
            }
        });
        match unmapped {
            None => Ok(()),
            Some(field) => Err(OfError::new(
                ErrorKind::FlowModInvalidTlvField,
                format!("tun_metadata{field} has no option (ovs-ofctl add-tlv-map)"),
            )),
        }
    }
}

/// Whether a flow-mod speaks of tunnel options at all.
pub fn uses_options(m: &FlowMod) -> bool {
    let mut uses = false;
    let actions = m.instructions.apply.iter().chain(&m.instructions.write);
    fields_of(&m.matching, actions, &mut |_| uses = true);
    uses
}

/// Tells `seen` of every `tun_metadata` field that a match and actions use.
pub fn fields_of<'a>(
    matching: &Match,
    actions: impl IntoIterator<Item = &'a Action>,
    seen: &mut impl FnMut(u16),
) {
    for e in matching.entries() {
        slot(e.slot, seen);
    }
    for a in actions {
        let mut field = |f: FieldId| slot(f.info().slot, seen);
        match a {
            Action::SetField { field: f, .. } | Action::DeleteField(f) => field(*f),
            Action::Load { target, .. } | Action::Pop(target) => field(target.field),
            Action::OutputReg { source, .. } | Action::Push(source) => field(source.field),
            Action::Move { source, target } => {
                field(source.field);
                field(target.field);
            }
            Action::Learn(l) => {
                for s in &l.specs {
                    if let LearnSource::Field(f) = &s.source {
                        field(f.field);
                    }
                    if let LearnTarget::Match(f) | LearnTarget::Load(f) = &s.target {
                        field(f.field);
                    }
                }
            }
            Action::Clone(inner) => fields_of(&Match::new(), inner, seen),
            _ => {}
        }
    }
}

fn slot(slot: Slot, seen: &mut impl FnMut(u16)) {
    if let Slot::TunOption(n) = slot {
        seen(n.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::Instructions;
    use openflow::action::Subfield;

    fn map(class: u16, kind: u8, len: u8, index: u16) -> TlvMap {
        TlvMap {
            class,
            kind,
            len,
            index,
        }
    }

    #[test]
    fn options_and_fields_go_together_one_to_one_within_bounds() {
        use TlvTableCommand::*;
        let mut t = TlvTable::default();
        let mut kind = |command, maps: &[TlvMap], used: bool| {
            let before = t.maps();
            let e = t.change(command, maps, |_| used).err().map(|e| e.kind);
            assert!(
                e.is_none() || t.maps() == before,
                "a refused change left something"
            );
            e
        };
        assert_eq!(
            kind(Add, &[map(1, 2, 4, 0), map(1, 3, 124, 63)], false),
            None
        );
        for (m, want) in [
            (map(9, 9, 4, 64), ErrorKind::TlvBadFieldIdx),
            (map(9, 9, 6, 1), ErrorKind::TlvBadOptLen),
            (map(9, 9, 0, 1), ErrorKind::TlvBadOptLen),
            (map(9, 9, 128, 1), ErrorKind::TlvBadOptLen),
            (map(9, 9, 4, 0), ErrorKind::TlvAlreadyMapped),
            (map(1, 2, 4, 1), ErrorKind::TlvDupEntry),
        ] {
            assert_eq!(kind(Add, &[map(8, 8, 4, 9), m], false), Some(want));
        }
        let full = [map(7, 1, 124, 5), map(7, 2, 8, 6)];
        assert_eq!(kind(Add, &full, false), Some(ErrorKind::TlvTableFull));
        let shared = [map(7, 1, 4, 8)];
        assert_eq!(kind(Add, &shared, false), Some(ErrorKind::TlvTableFull));
        assert_eq!(
            kind(Delete, &[map(1, 2, 4, 0)], true),
            Some(ErrorKind::TlvInvalidDel)
        );
        assert_eq!(kind(Delete, &[map(1, 2, 4, 0)], false), None);
        assert_eq!(kind(Clear, &[], true), Some(ErrorKind::TlvInvalidDel));
        assert_eq!(kind(Clear, &[], false), None);
        assert!(t.maps().is_empty());
    }

    #[test]
    fn flows_use_only_fields_that_have_options() {
        let mut t = TlvTable::default();
        let field = FieldId::TunMetadata3;
        let matching = FlowMod::add(Match::new().with(field, 1), Instructions::default());
        let target = Subfield {
            field,
            offset: 0,
            bits: 8,
        };
        let load = Action::Load { target, value: 1 };
        let loading = FlowMod::add(
            Match::new(),
            Instructions::apply(vec![Action::Clone(vec![load])]),
        );
        for m in [&matching, &loading] {
            assert_eq!(
                t.check(m).unwrap_err().kind,
                ErrorKind::FlowModInvalidTlvField
            );
        }
        t.change(TlvTableCommand::Add, &[map(1, 1, 4, 3)], |_| false)
            .unwrap();
        assert!(t.check(&matching).is_ok() && t.check(&loading).is_ok());
    }
}
