//! Match fields as OXM and NXM TLVs (OpenFlow 1.3.5 7.2.3), from the field table.

use super::cursor::{Reader, Writer};
use crate::error::{ErrorKind, OfError};
use crate::field::{FIELDS, FieldId, FieldInfo, MaskRule, OxmCode, Slot};
use crate::matching::Match;
use crate::message::PortNo;

/// The experimenter class (OpenFlow 1.3.5 7.2.3.3).
const CLASS_EXPERIMENTER: u16 = 0xffff;
/// The ONF's experimenter number.
pub(crate) const ONF: u32 = 0x4f4e_4600;
/// Nicira's experimenter number.
pub(crate) const NICIRA: u32 = 0x0000_2320;

/// Fields of 1.5's basic class that 1.3 and 1.4 know as experimenter fields of the ONF.
const ONF_FIELDS: &[(FieldId, u8)] = &[(FieldId::TcpFlags, 42), (FieldId::ActsetOutput, 43)];

/// A field's code as some version writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    oxm: OxmCode,
    experimenter: Option<u32>,
    /// Bytes of the value.
    bytes: usize,
}

impl Code {
    fn nxm(info: &FieldInfo, oxm: OxmCode) -> Code {
        // NXM_OF_IN_PORT is OpenFlow 1.0's port number of 16 bits; all else has one width.
        let bytes = if info.id == FieldId::InPort && oxm.class == 0 {
            2
        } else {
            info.bytes()
        };
        Code {
            oxm,
            experimenter: None,
            bytes,
        }
    }

    /// The code `version` uses for a field: the standard's if that version has it, else an
    /// experimenter's, else the standard's of a later version. Version 0 prefers Nicira's.
    fn of(field: FieldId, version: u8) -> Code {
        let info = field.info();
        let onf = ONF_FIELDS
            .iter()
            .find(|f| f.0 == field && (4..6).contains(&version));
        if let Some((_, number)) = onf {
            return Code {
                oxm: OxmCode {
                    class: CLASS_EXPERIMENTER,
                    field: *number,
                },
                experimenter: Some(ONF),
                bytes: info.bytes(),
            };
        }
        let standard = info.oxm.filter(|_| version >= 3 && info.since <= version);
        let code = standard.or(info.nxm).or(info.oxm);
        Code::nxm(info, code.expect("every row has a code; a test checks it"))
    }

    fn put_header(self, w: &mut Writer, masked: bool) {
        let exp = if self.experimenter.is_some() { 4 } else { 0 };
        let len = self.bytes * if masked { 2 } else { 1 } + exp;
        w.u16(self.oxm.class);
        w.u8(self.oxm.field << 1 | u8::from(masked));
        w.u8(len as u8);
        if let Some(e) = self.experimenter {
            w.u32(e);
        }
    }
}

/// A header that was read: what it names and how long its payload is.
struct Head {
    class: u16,
    number: u8,
    masked: bool,
    /// Payload bytes, experimenter number not counted.
    payload: usize,
    experimenter: Option<u32>,
    known: Option<(FieldId, usize)>,
}

impl Head {
    fn read(r: &mut Reader<'_>) -> Result<Head, OfError> {
        let class = r.u16()?;
        let fh = r.u8()?;
        let mut payload = usize::from(r.u8()?);
        let mut experimenter = None;
        if class == CLASS_EXPERIMENTER {
            if payload < 4 {
                return Err(
                    r.error("an experimenter field is shorter than its experimenter number")
                );
            }
            experimenter = Some(r.u32()?);
            payload -= 4;
        }
        let code = OxmCode {
            class,
            field: fh >> 1,
        };
        let known = match experimenter {
            None => FieldId::from_code(code).map(|id| (id, Code::nxm(id.info(), code).bytes)),
            Some(ONF) => ONF_FIELDS
                .iter()
                .find(|f| f.1 == code.field)
                .map(|f| (f.0, f.0.info().bytes())),
            Some(_) => None,
        };
        Ok(Head {
            class,
            number: fh >> 1,
            masked: fh & 1 != 0,
            payload,
            experimenter,
            known,
        })
    }

    fn unknown(&self) -> OfError {
        let what = match (self.class, self.number, self.experimenter) {
            (1, n @ 40..=103, _) => format!(
                "tun_metadata{} needs a tunnel option map, which is not supported yet",
                n - 40
            ),
            (c, n, None) => format!("no field has class {c:#06x} and number {n}"),
            (_, n, Some(e)) => format!("experimenter {e:#010x} has no field {n} here"),
        };
        OfError::new(ErrorKind::BadField, what)
    }
}

fn port_from_nxm(v: u128) -> u128 {
    if v >= 0xfff8 { v | 0xffff_0000 } else { v }
}

/// Whether a value is one that the field may have.
fn check_value(info: &FieldInfo, value: u128) -> Result<(), OfError> {
    let bad = |why: String| {
        Err(OfError::new(
            ErrorKind::BadValue,
            format!("{}: {why}", info.name),
        ))
    };
    if value & !info.full_mask() != 0 {
        return bad(format!(
            "{value:#x} does not fit the field's {} bits",
            info.bits
        ));
    }
    match info.id {
        // The standard has 16 bits, the flow key 8; no opcode above 255 is in use.
        FieldId::ArpOp if value > 255 => bad(format!("opcode {value} is over 255")),
        FieldId::InPort | FieldId::InPhyPort | FieldId::ActsetOutput if !port_ok(value as u32) => {
            bad(format!(
                "{value:#x} is neither a port number nor a reserved port"
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a number is one of a port that can exist or of a reserved port. Like Open vSwitch, weir
/// has no port numbers from 0xff00 up to the reserved ones.
pub(crate) fn port_ok(n: u32) -> bool {
    !(0xff00..PortNo::UNSET.0).contains(&n)
}

/// Reads one TLV: field, value and mask, checked against the field's own rules.
fn read_entry(r: &mut Reader<'_>) -> Result<(FieldId, u128, u128), OfError> {
    let head = Head::read(r)?;
    let mut payload = r.sub(head.payload, ErrorKind::BadMatchLen)?;
    let Some((id, bytes)) = head.known else {
        return Err(head.unknown());
    };
    let info = id.info();
    let want = bytes * if head.masked { 2 } else { 1 };
    if head.payload != want {
        return Err(OfError::new(
            ErrorKind::BadMatchLen,
            format!(
                "{} has {} bytes where {want} are right",
                info.name, head.payload
            ),
        ));
    }
    let mut value = payload.uint(bytes)?;
    let mut mask = info.full_mask();
    if head.masked {
        let wire = payload.uint(bytes)?;
        if value & !wire != 0 {
            return Err(OfError::new(
                ErrorKind::BadWildcards,
                format!(
                    "{}: value {value:#x} has bits outside mask {wire:#x}",
                    info.name
                ),
            ));
        }
        let all = if bytes == 16 {
            u128::MAX
        } else {
            (1 << (bytes * 8)) - 1
        };
        if info.mask == MaskRule::Exact
            && wire != all
            && wire & info.full_mask() != info.full_mask()
            && wire != 0
        {
            return Err(OfError::new(
                ErrorKind::BadMask,
                format!("{} takes no mask, {wire:#x} was given", info.name),
            ));
        }
        mask = wire & info.full_mask();
    }
    if id == FieldId::InPort && bytes == 2 {
        value = port_from_nxm(value);
    }
    check_value(info, value)?;
    // Nicira's nw_tos is the DSCP in its place; the two bits below are nw_ecn's.
    if id == FieldId::NwTos {
        if value & 3 != 0 {
            return Err(OfError::new(
                ErrorKind::BadValue,
                format!("nw_tos {value:#x} has bits of the ECN set"),
            ));
        }
        mask &= 0xfc;
    }
    Ok((id, value, mask))
}

/// Reads TLVs to the end of `r` into a match, checking prerequisites, which must come before what
/// needs them, and that no bits are given twice.
pub(crate) fn read_fields(r: &mut Reader<'_>) -> Result<Match, OfError> {
    let mut m = Match::new();
    while !r.is_empty() {
        let (id, value, mask) = read_entry(r)?;
        let info = id.info();
        if !m.meets(info.prereq) {
            return Err(OfError::new(
                ErrorKind::BadPrereq,
                format!(
                    "{} needs {} to be matched before it",
                    info.name,
                    info.prereq.needs()
                ),
            ));
        }
        // An empty mask says nothing; the standard allows it as a field left out.
        if mask == 0 {
            continue;
        }
        if m.get(id).1 != 0 {
            return Err(OfError::new(
                ErrorKind::DupField,
                format!("{} is matched twice", info.name),
            ));
        }
        m.set_masked(id, value, mask);
    }
    Ok(m)
}

/// Reads an `ofp_match` of 1.2 and later, with its padding.
pub(crate) fn read_match(r: &mut Reader<'_>) -> Result<Match, OfError> {
    let kind = r.u16()?;
    let len = usize::from(r.u16()?);
    if kind != 1 {
        return Err(OfError::new(
            ErrorKind::BadMatchType,
            format!("match type {kind}; only OXM (1) is known in this version"),
        ));
    }
    if len < 4 {
        return Err(OfError::new(
            ErrorKind::BadMatchLen,
            format!("match length {len} is below 4"),
        ));
    }
    let mut body = r.sub(len - 4, ErrorKind::BadMatchLen)?;
    r.skip(len.next_multiple_of(8) - len)?;
    read_fields(&mut body)
}

fn put_entry(w: &mut Writer, code: Code, field: FieldId, value: u128, mask: u128) {
    let masked = mask != effective_mask(field);
    code.put_header(w, masked);
    w.uint(value, code.bytes);
    if masked {
        w.uint(mask, code.bytes);
    }
}

/// All the bits a match can hold of a field.
fn effective_mask(field: FieldId) -> u128 {
    let info = field.info();
    let slot = info.slot.bits();
    let slot = if slot == 128 {
        u128::MAX
    } else {
        (1 << slot) - 1
    };
    info.full_mask() & (slot >> info.shift)
}

/// Writes a match's fields in the order of the table, in which prerequisites come first.
pub(crate) fn put_fields(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    let mut rest = m.clone();
    // Wide views of several fields, and views that overlap finer ones, are only for what the finer
    // ones cannot say.
    let coarse = |id: FieldId| {
        use FieldId::*;
        matches!(id, VlanTci | NwTos) || (Xreg0 <= id && id <= Xxreg3)
    };
    // Priority bits that vlan_pcp cannot say, be it for its prerequisite or for half a mask, go
    // with the rest of the tag as one vlan_tci.
    let (tci, tci_mask) = m.slot(Slot::VlanTci);
    let pcp = tci_mask & 0xe000;
    // Before OpenFlow 1.2 there is only Nicira's field of the whole tag, and of the whole DSCP byte.
    let legacy = version < 3;
    if (legacy && tci_mask != 0) || pcp != 0 && (pcp != 0xe000 || tci & 0x1000 == 0) {
        let id = FieldId::VlanTci;
        put_entry(w, Code::of(id, 0), id, tci, tci_mask);
        rest.set_masked(id, 0, 0);
    }
    for fallback in [false, true] {
        for info in FIELDS.iter().filter(|f| coarse(f.id) == fallback) {
            if rest.is_empty() {
                return Ok(());
            }
            let (value, mask) = rest.get(info.id);
            let exact = mask == effective_mask(info.id);
            if mask == 0 || !m.meets(info.prereq) || (info.mask == MaskRule::Exact && !exact) {
                continue;
            }
            if legacy && info.id == FieldId::IpDscp {
                let id = FieldId::NwTos;
                put_entry(w, Code::of(id, 0), id, value << 2, effective_mask(id));
            } else {
                put_entry(w, Code::of(info.id, version), info.id, value, mask);
            }
            rest.set_masked(info.id, 0, 0);
        }
    }
    match rest.entries().first() {
        None => Ok(()),
        Some(e) => Err(OfError::new(
            ErrorKind::BadField,
            format!(
                "no field can say {:?}={:#x}/{:#x} of this match; its prerequisites may be missing",
                e.slot, e.value, e.mask
            ),
        )),
    }
}

/// Writes an `ofp_match` of 1.2 and later, with its padding.
pub(crate) fn put_match(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(1);
    w.u16(0);
    put_fields(w, m, version)?;
    w.set_len(start + 2, start)?;
    w.pad8(start);
    Ok(())
}

/// Writes one field with its value, as set_field and reg_load2 carry it.
pub(crate) fn put_value(w: &mut Writer, field: FieldId, value: u128, mask: u128, version: u8) {
    put_entry(w, Code::of(field, version), field, value & mask, mask);
}

/// Reads one field with its value, as set_field and reg_load2 carry it: actions answer with their
/// own errors.
pub(crate) fn read_value(r: &mut Reader<'_>) -> Result<(FieldId, u128, u128), OfError> {
    let (id, value, mask) = read_entry(r).map_err(|e| {
        let kind = match e.kind {
            ErrorKind::BadField => ErrorKind::BadSetType,
            ErrorKind::BadMatchLen => ErrorKind::BadSetLen,
            _ => ErrorKind::BadSetArgument,
        };
        OfError::new(kind, e.detail)
    })?;
    if !id.info().writable {
        return Err(OfError::new(
            ErrorKind::BadSetArgument,
            format!("{} can not be written", id.info().name),
        ));
    }
    Ok((id, value, mask))
}

/// Writes the header that names a field in reg_move, reg_load and output_reg; `bits` is how many
/// of the field's low bits are spoken of.
pub(crate) fn put_name(w: &mut Writer, field: FieldId, bits: usize) {
    // More of in_port than NXM's 16 bits needs the standard's 32-bit field.
    let version = if field == FieldId::InPort && bits > 16 {
        4
    } else {
        0
    };
    Code::of(field, version).put_header(w, false);
}

/// Reads such a header.
pub(crate) fn read_name(r: &mut Reader<'_>) -> Result<(FieldId, usize), OfError> {
    let head = Head::read(r)?;
    let Some((id, bytes)) = head.known else {
        return Err(OfError::new(ErrorKind::BadArgument, head.unknown().detail));
    };
    if head.masked || head.payload != bytes {
        return Err(OfError::new(
            ErrorKind::BadArgument,
            format!("{} is named with a mask or a wrong length", id.info().name),
        ));
    }
    let bits = usize::from(id.info().bits).min(bytes * 8);
    Ok((id, bits))
}

/// The header with which `version` names a field in table features.
pub(crate) fn put_id(w: &mut Writer, field: FieldId, masked: bool, version: u8) {
    Code::of(field, version).put_header(w, masked);
}

/// Reads headers to the end of `r`; fields that this crate has no name for are left out, since a
/// peer may well support more than we do.
pub(crate) fn read_ids(r: &mut Reader<'_>) -> Result<Vec<(FieldId, bool)>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let head = Head::read(r)?;
        out.extend(head.known.map(|(id, _)| (id, head.masked)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Match, OfError> {
        read_fields(&mut Reader::new(bytes, ErrorKind::BadMatchLen))
    }

    fn kind(bytes: &[u8]) -> ErrorKind {
        decode(bytes).unwrap_err().kind
    }

    const ETH_IP: [u8; 6] = [0x80, 0, 5 << 1, 2, 8, 0];
    const ETH_ARP: [u8; 6] = [0x80, 0, 5 << 1, 2, 8, 6];

    #[test]
    fn every_row_has_a_code_and_is_found_by_it() {
        for f in FIELDS {
            for version in [0, 1, 3, 4, 5, 6] {
                let mut w = Writer::default();
                Code::of(f.id, version).put_header(&mut w, false);
                let head = Head::read(&mut Reader::new(&w.buf, ErrorKind::BadMatchLen)).unwrap();
                assert_eq!(head.known.map(|k| k.0), Some(f.id), "{}", f.name);
            }
        }
    }

    #[test]
    fn each_rule_of_a_match_has_its_error() {
        assert_eq!(
            kind(&[0x80, 0, 11 << 1, 4, 1, 2, 3, 4]),
            ErrorKind::BadPrereq
        );
        assert_eq!(kind(&[ETH_IP, ETH_IP].concat()), ErrorKind::DupField);
        assert_eq!(kind(&[0x80, 0, 5 << 1, 3, 8, 0, 0]), ErrorKind::BadMatchLen);
        assert_eq!(kind(&[0x80, 0, 5 << 1, 2, 8]), ErrorKind::BadMatchLen);
        assert_eq!(
            kind(&[0x80, 0, 5 << 1 | 1, 4, 8, 0, 0xf0, 0]),
            ErrorKind::BadWildcards
        );
        assert_eq!(
            kind(&[0x80, 0, 5 << 1 | 1, 4, 8, 0, 0xff, 0]),
            ErrorKind::BadMask
        );
        assert_eq!(kind(&[0x80, 0, 100 << 1, 2, 8, 0]), ErrorKind::BadField);
        assert_eq!(kind(&[0, 1, 40 << 1, 1, 8]), ErrorKind::BadField);
        assert_eq!(kind(&[0x80, 0, 6 << 1, 2, 0xf0, 0]), ErrorKind::BadValue);
        let arp = |op: u16| [&ETH_ARP[..], &[0x80, 0, 21 << 1, 2], &op.to_be_bytes()].concat();
        assert_eq!(kind(&arp(256)), ErrorKind::BadValue);
        assert_eq!(decode(&arp(2)).unwrap().exact(FieldId::ArpOp), Some(2));
        let port = |n: u32| [&[0x80, 0, 0, 4][..], &n.to_be_bytes()].concat();
        assert_eq!(kind(&port(0x1_0000)), ErrorKind::BadValue);
        assert!(decode(&port(0xffff_fffe)).is_ok());
    }

    #[test]
    fn tcp_flags_are_the_onfs_in_13_and_nxm_is_read_too() {
        let m = Match::new()
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpProto, 6)
            .with(FieldId::TcpFlags, 0x12);
        let mut w = Writer::default();
        put_fields(&mut w, &m, 4).unwrap();
        assert!(
            w.buf
                .ends_with(&[0xff, 0xff, 42 << 1, 6, 0x4f, 0x4e, 0x46, 0, 0, 0x12])
        );
        assert_eq!(decode(&w.buf).unwrap(), m);
        let nxm = [0, 1, 34 << 1, 2, 0, 0x12];
        let at = w.buf.len() - 10;
        let bytes = [&w.buf[..at], &nxm].concat();
        assert_eq!(decode(&bytes).unwrap(), m);
    }

    #[test]
    fn nxm_ports_have_sixteen_bits() {
        let m = decode(&[0, 0, 0, 2, 0xff, 0xfe]).unwrap();
        assert_eq!(m.exact(FieldId::InPort), Some(0xffff_fffe));
    }
}
