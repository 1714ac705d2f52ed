//! NXAST_MULTIPATH, NXAST_BUNDLE and NXAST_BUNDLE_LOAD.

use super::{
    Action, ErrorKind, OfError, Reader, Writer, bad, err, head, ofs_bits, port16, put_ofs_bits,
    put_short_name, target,
};
use crate::action::{BUNDLE_PORTS_MAX, HashFields, Multipath, MultipathAlgorithm, Spread};
use crate::message::PortNo;

/// `nx_hash_fields`, by their numbers.
const HASHES: &[HashFields] = &[
    HashFields::EthSrc,
    HashFields::SymmetricL4,
    HashFields::SymmetricL3L4,
    HashFields::SymmetricL3L4Udp,
    HashFields::NwSrc,
    HashFields::NwDst,
    HashFields::SymmetricL3,
];

/// `nx_mp_algorithm`, by their numbers.
const ALGORITHMS: &[MultipathAlgorithm] = &[
    MultipathAlgorithm::ModuloN,
    MultipathAlgorithm::HashThreshold,
    MultipathAlgorithm::Hrw,
    MultipathAlgorithm::IterHash,
];

/// The type of a bundle's ports: NXM_OF_IN_PORT with its length.
const PORT_TYPE: u32 = 0x0000_0002;

fn by_number<T: Copy>(list: &[T], n: u16, what: &str) -> Result<T, OfError> {
    match list.get(usize::from(n)) {
        Some(v) => Ok(*v),
        None => bad(format!(
            "{what} {n}; 0 to {} are known",
            list.len().saturating_sub(1)
        )),
    }
}

fn number<T: PartialEq>(list: &[T], v: &T) -> u16 {
    list.iter()
        .position(|x| x == v)
        .expect("the table has all of them") as u16
}

pub(super) fn read_multipath(mut b: Reader<'_>) -> Result<Action, OfError> {
    let fields = by_number(HASHES, b.u16()?, "hash")?;
    let basis = b.u16()?;
    b.skip(2)?;
    let algorithm = by_number(ALGORITHMS, b.u16()?, "algorithm")?;
    let (max_link, arg) = (b.u16()?, b.u32()?);
    b.skip(2)?;
    let (offset, bits) = ofs_bits(b.u16()?);
    let target = target(&mut b, offset, bits)?;
    if bits < 16 && max_link >> bits != 0 {
        return bad(format!("link {max_link} does not fit {bits} bits"));
    }
    Ok(Action::Multipath(Box::new(Multipath {
        fields,
        basis,
        algorithm,
        max_link,
        arg,
        target,
    })))
}

pub(super) fn put_multipath(w: &mut Writer, m: &Multipath) -> Result<(), OfError> {
    head(w, 10);
    w.u16(number(HASHES, &m.fields));
    w.u16(m.basis);
    w.zeros(2);
    w.u16(number(ALGORITHMS, &m.algorithm));
    w.u16(m.max_link);
    w.u32(m.arg);
    w.zeros(2);
    put_ofs_bits(w, m.target)?;
    put_short_name(w, m.target)
}

/// Reads a bundle, or a bundle_load if `load`.
pub(super) fn read_bundle(mut b: Reader<'_>, load: bool) -> Result<Action, OfError> {
    let active_backup = match b.u16()? {
        0 => true,
        1 => false,
        n => return bad(format!("bundle algorithm {n}; 0 and 1 are known")),
    };
    let fields = by_number(HASHES, b.u16()?, "hash")?;
    let basis = b.u16()?;
    let (kind, n) = (b.u32()?, usize::from(b.u16()?));
    if kind != PORT_TYPE || n > BUNDLE_PORTS_MAX {
        return bad(format!(
            "bundle of {n} members of type {kind:#x}; {BUNDLE_PORTS_MAX} of type {PORT_TYPE:#x} are the most"
        ));
    }
    let result = b.u16()?;
    let target = if load {
        let (offset, bits) = ofs_bits(result);
        let t = target(&mut b, offset, bits)?;
        if bits < 16 {
            return bad(format!("{bits} bits are too few for a port number"));
        }
        Some(t)
    } else if result != 0 || b.u32()? != 0 {
        return bad("bundle has a target; only bundle_load has one");
    } else {
        None
    };
    if b.u32()? != 0 {
        return bad("bundle has padding that is not zero");
    }
    let mut list = b.sub(n * 2, ErrorKind::BadActionLen)?;
    let mut ports = Vec::with_capacity(n);
    for _ in 0..n {
        let port = port16(list.u16()?);
        let usable = port.is_physical() || port.0 == 0 || port.0 >= PortNo::IN_PORT.0;
        if !usable || port == PortNo::CONTROLLER {
            return err(
                ErrorKind::BadOutPort,
                format!("bundle of {port}, which it cannot send to"),
            );
        }
        ports.push(port);
    }
    Ok(Action::Bundle(Box::new(Spread {
        fields,
        basis,
        active_backup,
        ports,
        target,
    })))
}

pub(super) fn put_bundle(w: &mut Writer, s: &Spread) -> Result<(), OfError> {
    let start = w.len();
    head(w, if s.target.is_some() { 13 } else { 12 });
    w.u16(u16::from(!s.active_backup));
    w.u16(number(HASHES, &s.fields));
    w.u16(s.basis);
    w.u32(PORT_TYPE);
    w.u16(s.ports.len() as u16);
    match s.target {
        Some(t) => {
            put_ofs_bits(w, t)?;
            put_short_name(w, t)?;
        }
        None => w.zeros(6),
    }
    w.zeros(4);
    for p in &s.ports {
        w.u16(p.0 as u16);
    }
    w.pad8(start);
    Ok(())
}
