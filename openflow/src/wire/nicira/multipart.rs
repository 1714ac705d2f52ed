//! Multipart messages of Nicira (`NXST_*`) and of the ONF (`ONFST_*`).
//!
//! Nicira's forms of OpenFlow 1.0's flow and aggregate statistics are 1.0's matter (`v10`).

use super::err;
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::{NICIRA, ONF};
use crate::wire::types::{NiciraMultipart as N, OnfMultipart as O};
use crate::wire::{OF11, parts, read_all, v11};

/// Which message of whom follows.
pub(in crate::wire) fn head(r: &mut Reader<'_>, version: u8) -> Result<N, OfError> {
    let (experimenter, kind) = (r.u32()?, r.u32()?);
    if version < OF11 {
        r.skip(4)?;
    }
    let found = match experimenter {
        NICIRA => N::of(version, kind),
        // The ONF's flow monitor differs from Nicira's in its match, which goes by the version.
        ONF => O::of(version, kind).map(|O::FlowMonitor| N::FlowMonitor),
        e => {
            return err(
                ErrorKind::BadExperimenter,
                format!("multipart messages of experimenter {e:#010x} are not known"),
            );
        }
    };
    match found {
        Some(t) => Ok(t),
        None => err(
            ErrorKind::BadExpType,
            format!("multipart {kind} of experimenter {experimenter:#010x} is not known here"),
        ),
    }
}

fn put_head(w: &mut Writer, t: N, version: u8) -> Result<(), OfError> {
    let number = match (t.number(version), t) {
        (Some(n), _) => Some((NICIRA, n)),
        (None, N::FlowMonitor) => O::FlowMonitor.number(version).map(|n| (ONF, n)),
        _ => None,
    };
    let Some((experimenter, number)) = number else {
        return err(
            ErrorKind::BadMultipart,
            format!("this version has no {}", t.name()),
        );
    };
    w.u32(experimenter);
    w.u32(number);
    if version < OF11 {
        w.zeros(4);
    }
    Ok(())
}

/// Reads a request behind type and flags.
pub(in crate::wire) fn read_request(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<MultipartRequest, OfError> {
    let t = head(r, version)?;
    read_request_body(r, t, version)
}

/// Reads what follows the head.
pub(in crate::wire) fn read_request_body(
    r: &mut Reader<'_>,
    t: N,
    version: u8,
) -> Result<MultipartRequest, OfError> {
    let number = |r: &mut Reader<'_>| {
        let n = r.u32()?;
        r.skip(4)?;
        Ok::<_, OfError>(n)
    };
    Ok(match t {
        N::FlowMonitor => {
            MultipartRequest::FlowMonitor(read_all(r, |r| v11::read_old_request(r, version))?)
        }
        N::IpfixBridge => MultipartRequest::IpfixBridge,
        N::IpfixFlow => MultipartRequest::IpfixFlow,
        N::Group => MultipartRequest::Group(number(r)?),
        N::GroupDesc => MultipartRequest::GroupDesc(number(r)?),
        N::GroupFeatures => MultipartRequest::GroupFeatures,
        N::Flow | N::Aggregate => return err(ErrorKind::BadExpType, "read elsewhere"),
    })
}

/// Writes what follows type and flags.
pub(in crate::wire) fn put_request(
    w: &mut Writer,
    q: &MultipartRequest,
    version: u8,
) -> Result<(), OfError> {
    match q {
        MultipartRequest::FlowMonitor(all) => {
            put_head(w, N::FlowMonitor, version)?;
            for m in all {
                v11::put_old_request(w, m, version)?;
            }
        }
        MultipartRequest::IpfixBridge => put_head(w, N::IpfixBridge, version)?,
        MultipartRequest::IpfixFlow => put_head(w, N::IpfixFlow, version)?,
        MultipartRequest::Group(n) | MultipartRequest::GroupDesc(n) => {
            let t = match q {
                MultipartRequest::Group(_) => N::Group,
                _ => N::GroupDesc,
            };
            put_head(w, t, version)?;
            w.u32(*n);
            w.zeros(4);
        }
        MultipartRequest::GroupFeatures => put_head(w, N::GroupFeatures, version)?,
        _ => return err(ErrorKind::BadMultipart, "this version has no such request"),
    }
    Ok(())
}

/// Reads an answer behind type and flags.
pub(in crate::wire) fn read_reply(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<MultipartReply, OfError> {
    let t = head(r, version)?;
    read_reply_body(r, t, version)
}

/// Reads what follows the head.
pub(in crate::wire) fn read_reply_body(
    r: &mut Reader<'_>,
    t: N,
    version: u8,
) -> Result<MultipartReply, OfError> {
    Ok(match t {
        N::FlowMonitor => {
            MultipartReply::FlowMonitor(read_all(r, |r| v11::read_update(r, version))?)
        }
        N::IpfixBridge => MultipartReply::IpfixBridge(read_ipfix(r)?),
        N::IpfixFlow => MultipartReply::IpfixFlow(read_all(r, read_ipfix)?),
        N::Group => MultipartReply::Group(read_all(r, |r| v11::read_group_stats(r, version))?),
        N::GroupDesc => {
            MultipartReply::GroupDesc(read_all(r, |r| v11::read_group_desc(r, version))?)
        }
        N::GroupFeatures => MultipartReply::GroupFeatures(v11::read_group_features(r)?),
        N::Flow | N::Aggregate => return err(ErrorKind::BadExpType, "read elsewhere"),
    })
}

/// Writes an answer that is one thing, behind type and flags.
pub(in crate::wire) fn put_reply(
    w: &mut Writer,
    a: &MultipartReply,
    version: u8,
) -> Result<(), OfError> {
    match a {
        MultipartReply::IpfixBridge(s) => {
            put_head(w, N::IpfixBridge, version)?;
            put_ipfix(w, s);
        }
        MultipartReply::GroupFeatures(f) => {
            put_head(w, N::GroupFeatures, version)?;
            v11::put_group_features(w, f);
        }
        _ => return err(ErrorKind::BadMultipart, "this version has no such answer"),
    }
    Ok(())
}

/// Writes an answer that is a list, as several messages if it is long; `begin` writes type and flags.
pub(in crate::wire) fn put_parts(
    w: &mut Writer,
    begin: impl Fn(&mut Writer) -> usize,
    a: &MultipartReply,
    version: u8,
) -> Result<(), OfError> {
    let t = match a {
        MultipartReply::FlowMonitor(_) => N::FlowMonitor,
        MultipartReply::IpfixFlow(_) => N::IpfixFlow,
        MultipartReply::Group(_) => N::Group,
        MultipartReply::GroupDesc(_) => N::GroupDesc,
        _ => return err(ErrorKind::BadMultipart, "this version has no such answer"),
    };
    // Refuses before anything is written.
    put_head(&mut Writer::default(), t, version)?;
    let begin = |w: &mut Writer| {
        let start = begin(w);
        put_head(w, t, version).expect("it was tried before");
        start
    };
    match a {
        MultipartReply::FlowMonitor(x) => {
            parts::put(w, begin, x, |w, u| v11::put_update(w, u, version))
        }
        MultipartReply::IpfixFlow(x) => parts::put(w, begin, x, |w, s| {
            put_ipfix(w, s);
            Ok(())
        }),
        MultipartReply::Group(x) => {
            parts::put(w, begin, x, |w, g| v11::put_group_stats(w, g, version))
        }
        MultipartReply::GroupDesc(x) => {
            parts::put(w, begin, x, |w, g| v11::put_group_desc(w, g, version))
        }
        _ => Ok(()),
    }
}

fn counters(s: &mut IpfixStats) -> [&mut u64; 10] {
    [
        &mut s.total_flows,
        &mut s.current_flows,
        &mut s.packets,
        &mut s.ipv4_packets,
        &mut s.ipv6_packets,
        &mut s.error_packets,
        &mut s.ipv4_error_packets,
        &mut s.ipv6_error_packets,
        &mut s.tx_packets,
        &mut s.tx_errors,
    ]
}

fn read_ipfix(r: &mut Reader<'_>) -> Result<IpfixStats, OfError> {
    let mut s = IpfixStats::default();
    for n in counters(&mut s) {
        *n = r.u64()?;
    }
    s.collector_set = r.u32()?;
    r.skip(4)?;
    Ok(s)
}

fn put_ipfix(w: &mut Writer, s: &IpfixStats) {
    for n in counters(&mut s.clone()) {
        w.u64(*n);
    }
    w.u32(s.collector_set);
    w.zeros(4);
}
