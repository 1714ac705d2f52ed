//! Which Geneve options the `tun_metadata` fields hold (NXT_TLV_TABLE_MOD), one table a bridge.

use openflow::error::ErrorKind;
use openflow::{OfError, TlvMap, TlvTableCommand};
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
}
