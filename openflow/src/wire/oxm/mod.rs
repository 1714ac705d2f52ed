//! Match fields as OXM and NXM TLVs (OpenFlow 1.3.5 7.2.3), from the field table.

mod write;

pub(crate) use write::{put_exact, put_fields, put_id, put_match, put_name, put_value};

use super::cursor::{Reader, Writer};
use crate::error::{ErrorKind, OfError};
use crate::field::{FieldId, FieldInfo, MaskRule, OxmCode, Prereq};
pub(crate) use crate::field::{NICIRA, ONF};
use crate::matching::Match;
use crate::message::PortNo;

/// The experimenter class (OpenFlow 1.3.5 7.2.3.3).
const CLASS_EXPERIMENTER: u16 = 0xffff;
/// The most bytes that a tunnel option has; a header that names one without a value says so many.
const OPTION_MAX: usize = 124;
/// The most bytes of a tunnel option that a value holds.
const OPTION_BYTES: usize = 16;

/// The code with which some version writes a field, and how many bytes its value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    oxm: OxmCode,
    bytes: usize,
}

impl Code {
    fn new(info: &FieldInfo, oxm: OxmCode) -> Code {
        // NXM_OF_IN_PORT is OpenFlow 1.0's port number of 16 bits; all else has one width.
        let bytes = if info.id == FieldId::InPort && oxm.class == 0 {
            2
        } else if info.is_option() {
            OPTION_MAX
        } else {
            info.bytes()
        };
        Code { oxm, bytes }
    }

    /// The code `version` uses for a field: the standard's if that version has it, else an
    /// experimenter's, else the standard's of a later version. Version 0 prefers Nicira's.
    fn of(field: FieldId, version: u8) -> Code {
        let info = field.info();
        // Where Nicira has no code either, the ONF's does for the versions before.
        let onf = info
            .onf()
            .filter(|_| (4..6).contains(&version) || info.nxm.is_none() && version < 6);
        let standard = info.oxm.filter(|_| version >= 3 && info.since <= version);
        let code = onf.or(standard).or(info.nxm).or(info.oxm);
        Code::new(info, code.expect("every row has a code; a test checks it"))
    }

    fn put_header(self, w: &mut Writer, masked: bool) {
        let exp = if self.oxm.class == CLASS_EXPERIMENTER {
            4
        } else {
            0
        };
        let len = self.bytes * if masked { 2 } else { 1 } + exp;
        w.u16(self.oxm.class);
        w.u8(self.oxm.field << 1 | u8::from(masked));
        w.u8(len as u8);
        if exp > 0 {
            w.u32(self.oxm.experimenter);
        }
    }
}

/// A header that was read: what it names and how long its payload is.
struct Head {
    oxm: OxmCode,
    masked: bool,
    /// Payload bytes, experimenter number not counted.
    payload: usize,
    known: Option<(FieldId, usize)>,
}

impl Head {
    fn read(r: &mut Reader<'_>) -> Result<Head, OfError> {
        let class = r.u16()?;
        let fh = r.u8()?;
        let mut payload = usize::from(r.u8()?);
        let mut experimenter = 0;
        if class == CLASS_EXPERIMENTER {
            if payload < 4 {
                return Err(
                    r.error("an experimenter field is shorter than its experimenter number")
                );
            }
            experimenter = r.u32()?;
            payload -= 4;
        }
        let oxm = OxmCode {
            class,
            field: fh >> 1,
            experimenter,
        };
        let known = FieldId::from_code(oxm).map(|id| (id, Code::new(id.info(), oxm).bytes));
        Ok(Head {
            oxm,
            masked: fh & 1 != 0,
            payload,
            known,
        })
    }

    fn unknown(&self) -> OfError {
        let (c, n) = (self.oxm.class, self.oxm.field);
        let what = match self.oxm.experimenter {
            0 => format!("no field has class {c:#06x} and number {n}"),
            e => format!("experimenter {e:#010x} has no field {n} here"),
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

/// Bytes of a tunnel option's value whose payload is `payload` bytes, or twice as many with a mask. A value of zero
/// bytes asks whether the option is there at all.
fn option_len(payload: usize, factor: usize) -> Result<usize, OfError> {
    let bytes = payload / factor;
    if bytes * factor != payload || bytes > OPTION_MAX {
        return Err(OfError::new(
            ErrorKind::BadMatchLen,
            format!("a tunnel option of {payload} bytes; 1 to {OPTION_MAX} are right"),
        ));
    }
    if bytes == 0 || bytes > OPTION_BYTES {
        return Err(OfError::new(
            ErrorKind::BadMatchLen,
            format!(
                "a tunnel option of {bytes} bytes; 1 to {OPTION_BYTES} are matched and set here"
            ),
        ));
    }
    Ok(bytes)
}

/// Reads one TLV: field, value and mask, checked against the field's own rules.
fn read_entry(r: &mut Reader<'_>) -> Result<(FieldId, u128, u128), OfError> {
    let head = Head::read(r)?;
    let mut payload = r.sub(head.payload, ErrorKind::BadMatchLen)?;
    let Some((id, bytes)) = head.known else {
        return Err(head.unknown());
    };
    let info = id.info();
    let factor = if head.masked { 2 } else { 1 };
    let bytes = if info.is_option() {
        option_len(head.payload, factor)?
    } else {
        bytes
    };
    let want = bytes * factor;
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

/// The bit of `ip_frag` that later fragments have.
const IP_FRAG_LATER: u128 = 2;

/// Reads TLVs to the end of `r` into a match, checking prerequisites, which must come before what
/// needs them, and that no bits are given twice.
pub(crate) fn read_fields(r: &mut Reader<'_>) -> Result<Match, OfError> {
    // Fields without masks take five bytes or more, mostly more.
    let mut m = Match::with_capacity(r.len().div_ceil(7));
    while !r.is_empty() {
        let (id, value, mask) = read_entry(r)?;
        let info = id.info();
        // A later fragment has no ports (Open vSwitch; the standard does not speak of fragments).
        let ports = matches!(info.prereq, Prereq::Tcp | Prereq::Udp | Prereq::Sctp);
        let later = m.get(FieldId::IpFrag).0 & IP_FRAG_LATER != 0;
        if !m.meets(info.prereq) || ports && later {
            return Err(OfError::new(
                ErrorKind::BadPrereq,
                format!(
                    "{} needs {} to be matched before it",
                    info.name,
                    info.prereq.needs()
                ),
            ));
        }
        // A tunnel option is as long as the bytes that are sent of it.
        let bits = 128 - mask.leading_zeros();
        let whole = info.is_option() && bits % 8 == 0 && mask.count_ones() == bits;
        let mask = if whole { info.full_mask() } else { mask };
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

/// Whether a field's name takes eight bytes in Nicira's actions, for which some have no room.
pub(crate) fn is_experimenter(field: FieldId) -> bool {
    Code::of(field, 0).oxm.class == CLASS_EXPERIMENTER
}

/// Reads such a header.
pub(crate) fn read_name(r: &mut Reader<'_>) -> Result<(FieldId, usize), OfError> {
    let head = Head::read(r)?;
    let Some((id, bytes)) = head.known else {
        return Err(OfError::new(ErrorKind::BadArgument, head.unknown().detail));
    };
    let right = if id.info().is_option() {
        (1..=OPTION_MAX).contains(&head.payload)
    } else {
        head.payload == bytes
    };
    if head.masked || !right {
        return Err(OfError::new(
            ErrorKind::BadArgument,
            format!("{} is named with a mask or a wrong length", id.info().name),
        ));
    }
    let bits = usize::from(id.info().bits).min(bytes * 8);
    Ok((id, bits))
}

/// Reads such fields to the end of `r`.
pub(crate) fn read_values(r: &mut Reader<'_>) -> Result<Vec<(FieldId, u128)>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let head = Head::read(r)?;
        let mut payload = r.sub(head.payload, ErrorKind::BadMatchLen)?;
        let Some((id, bytes)) = head.known else {
            return Err(head.unknown());
        };
        if head.masked {
            return Err(OfError::new(
                ErrorKind::BadMask,
                format!("{} has a mask where it is one", id.info().name),
            ));
        }
        let value = payload.uint(bytes)?;
        payload.end()?;
        out.push((id, value));
    }
    Ok(out)
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
    use super::write::{ORDER, ORDER_END};
    use super::*;
    use crate::field::FIELDS;

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
    fn every_field_has_its_turn() {
        use FieldId::*;
        for f in FIELDS {
            let apart = f.is_option() || (Reg0..=Xxreg3).contains(&f.id);
            let behind = [VlanTci, NwTos].contains(&f.id);
            let listed = ORDER.iter().chain(ORDER_END).filter(|o| **o == f.id);
            let want = usize::from(!behind && (!apart || f.id == TunMetadata0));
            assert_eq!(listed.count(), want, "{}", f.name);
        }
    }

    #[test]
    fn each_rule_of_a_match_has_its_error() {
        assert_eq!(
            kind(&[0x80, 0, 11 << 1, 4, 1, 2, 3, 4]),
            ErrorKind::BadPrereq
        );
        let fragment = |f: u8| {
            let ports = [0x80, 0, 10 << 1, 1, 6, 0x80, 0, 14 << 1, 2, 0, 80];
            [&ETH_IP[..], &[0, 1, 26 << 1, 1, f], &ports].concat()
        };
        assert_eq!(kind(&fragment(3)), ErrorKind::BadPrereq);
        assert!(decode(&fragment(1)).is_ok());
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
        let option = |n: u8| [&[0, 1, 40 << 1, n][..], &vec![0; usize::from(n)]].concat();
        assert_eq!(kind(&option(17)), ErrorKind::BadMatchLen);
        assert_eq!(kind(&option(0)), ErrorKind::BadMatchLen);
        assert!(decode(&option(16)).is_ok());
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
