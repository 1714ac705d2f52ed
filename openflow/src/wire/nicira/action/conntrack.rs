//! NXAST_CT and NXAST_NAT.

use super::{
    Action, ErrorKind, Match, OfError, Reader, Writer, action, bad, err, head, ofs_bits,
    put_ofs_bits, put_short_name, subfield,
};
use crate::action::{Conntrack, ConntrackZone, Nat};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NX_CT_F_*`.
const COMMIT: u16 = 1;
const FORCE: u16 = 2;
/// `NX_CT_RECIRC_NONE`.
const NO_TABLE: u8 = 0xff;

/// `NX_NAT_F_*`.
const SRC: u16 = 1;
const DST: u16 = 2;
const PERSISTENT: u16 = 4;
const HASH: u16 = 8;
const RANDOM: u16 = 16;

/// `NX_NAT_RANGE_*`: what follows, in this order.
const IPV4_MIN: u16 = 1;
const IPV4_MAX: u16 = 2;
const IPV6_MIN: u16 = 4;
const IPV6_MAX: u16 = 8;
const PROTO_MIN: u16 = 16;
const PROTO_MAX: u16 = 32;

pub(super) fn read(mut b: Reader<'_>, version: u8, depth: usize) -> Result<Action, OfError> {
    let flags = b.u16()?;
    let (commit, force) = (flags & COMMIT != 0, flags & FORCE != 0);
    if force && !commit || flags & !(COMMIT | FORCE) != 0 {
        return bad(format!("ct flags {flags:#x}; commit is 1, with force 3"));
    }
    let mut name = b.sub(4, ErrorKind::BadActionLen)?;
    let number = b.u16()?;
    let zone = if name.peek() == [0; 4] {
        ConntrackZone::Number(number)
    } else {
        let (offset, bits) = ofs_bits(number);
        let s = subfield(&mut name, offset, bits)?;
        if bits != 16 {
            return err(
                ErrorKind::BadSetLen,
                format!("a ct zone of {bits} bits; 16 are right"),
            );
        }
        ConntrackZone::Field(s)
    };
    let table = Some(b.u8()?).filter(|t| *t != NO_TABLE);
    b.skip(3)?;
    let alg = b.u16()?;
    let actions = action::read_nested(&mut b, version, depth + 1)?;
    let empty = |a: &Action| matches!(a, Action::Nat(n) if **n == Nat::default());
    if !commit && !actions.iter().all(empty) {
        return bad("ct without commit can do nothing but a nat without arguments");
    }
    Ok(Action::Ct(Box::new(Conntrack {
        commit,
        force,
        zone,
        table,
        alg,
        actions,
    })))
}

pub(super) fn put(w: &mut Writer, c: &Conntrack, version: u8) -> Result<(), OfError> {
    head(w, 35);
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    w.u16(flag(c.commit, COMMIT) | flag(c.force, FORCE));
    match c.zone {
        ConntrackZone::Number(n) => {
            w.u32(0);
            w.u16(n);
        }
        ConntrackZone::Field(s) => {
            put_short_name(w, s)?;
            put_ofs_bits(w, s)?;
        }
    }
    w.u8(c.table.unwrap_or(NO_TABLE));
    w.zeros(3);
    w.u16(c.alg);
    action::put_actions(w, &c.actions, &Match::new(), version)
}

pub(super) fn read_nat(mut b: Reader<'_>) -> Result<Action, OfError> {
    b.skip(2)?;
    let (flags, there) = (b.u16()?, b.u16()?);
    let on = |flag: u16| flags & flag != 0;
    let exclusive = on(SRC) && on(DST) || on(HASH) && on(RANDOM);
    if flags & !(SRC | DST | PERSISTENT | HASH | RANDOM) != 0 || exclusive {
        return bad(format!("nat flags {flags:#x} contradict each other"));
    }
    let has = |flag: u16| there & flag != 0;
    let v4 = |b: &mut Reader<'_>| Ok::<_, OfError>(IpAddr::V4(Ipv4Addr::from(b.u32()?)));
    let v6 = |b: &mut Reader<'_>| Ok::<_, OfError>(IpAddr::V6(Ipv6Addr::from(b.uint(16)?)));
    let addresses = match (has(IPV4_MIN), has(IPV6_MIN)) {
        (true, false) if !has(IPV6_MAX) => {
            Some((v4(&mut b)?, has(IPV4_MAX).then(|| v4(&mut b)).transpose()?))
        }
        (false, true) if !has(IPV4_MAX) => {
            Some((v6(&mut b)?, has(IPV6_MAX).then(|| v6(&mut b)).transpose()?))
        }
        (false, false) if !has(IPV4_MAX | IPV6_MAX) => None,
        _ => return bad("nat to addresses of both kinds, or a last one without a first"),
    };
    let ports = match has(PROTO_MIN) {
        true => Some((b.u16()?, has(PROTO_MAX).then(|| b.u16()).transpose()?)),
        false if has(PROTO_MAX) => return bad("nat to a last port without a first"),
        false => None,
    };
    let zero = matches!(addresses, Some((first, _)) if first.is_unspecified())
        || matches!(ports, Some((0, _)))
        || ports.is_some() && addresses.is_none();
    let backwards = matches!(addresses, Some((first, Some(last))) if last < first)
        || matches!(ports, Some((first, Some(last))) if last < first);
    if zero || backwards {
        return bad("nat to a range that begins at zero or ends before it begins");
    }
    Ok(Action::Nat(Box::new(Nat {
        src: on(SRC),
        dst: on(DST),
        persistent: on(PERSISTENT),
        hash: on(HASH),
        random: on(RANDOM),
        addresses,
        ports,
    })))
}

pub(super) fn put_nat(w: &mut Writer, n: &Nat) {
    let start = w.len();
    head(w, 36);
    w.zeros(2);
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    w.u16(
        flag(n.src, SRC)
            | flag(n.dst, DST)
            | flag(n.persistent, PERSISTENT)
            | flag(n.hash, HASH)
            | flag(n.random, RANDOM),
    );
    let (min, max) = match n.addresses {
        Some((IpAddr::V4(_), last)) => (IPV4_MIN, flag(last.is_some(), IPV4_MAX)),
        Some((IpAddr::V6(_), last)) => (IPV6_MIN, flag(last.is_some(), IPV6_MAX)),
        None => (0, 0),
    };
    let last_port = n.ports.and_then(|p| p.1);
    w.u16(min | max | flag(n.ports.is_some(), PROTO_MIN) | flag(last_port.is_some(), PROTO_MAX));
    for a in n
        .addresses
        .iter()
        .flat_map(|(a, b)| [Some(*a), *b])
        .flatten()
    {
        match a {
            IpAddr::V4(a) => w.put(&a.octets()),
            IpAddr::V6(a) => w.put(&a.octets()),
        }
    }
    for p in n.ports.iter().flat_map(|(a, b)| [Some(*a), *b]).flatten() {
        w.u16(p);
    }
    w.pad8(start);
}
