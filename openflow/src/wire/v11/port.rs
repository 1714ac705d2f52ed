//! Ports: descriptions, changes and counters. From 1.4 on the Ethernet part is a property.

use super::{err, read_all};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF13, OF14, OF15, oxm, property, sized};

const ETHERNET: u16 = 0;
const OPTICAL: u16 = 1;
const PIPELINE_INPUT: u16 = 2;
const PIPELINE_OUTPUT: u16 = 3;
const RECIRCULATE: u16 = 4;

/// Reads configuration bits, which all versions share.
pub(in crate::wire) fn read_flags(r: &mut Reader<'_>) -> Result<PortFlags, OfError> {
    let bits = r.u32()?;
    Ok(PortFlags {
        port_down: bits & 1 != 0,
        no_stp: bits & 2 != 0,
        no_recv: bits & 4 != 0,
        no_recv_stp: bits & 8 != 0,
        no_flood: bits & 0x10 != 0,
        no_fwd: bits & 0x20 != 0,
        no_packet_in: bits & 0x40 != 0,
    })
}

/// Configuration bits. Bits 1, 3 and 4 are OpenFlow 1.0's, which Open vSwitch sends in all versions.
pub(in crate::wire) fn flag_bits(f: PortFlags) -> u32 {
    u32::from(f.port_down)
        | u32::from(f.no_stp) << 1
        | u32::from(f.no_recv) << 2
        | u32::from(f.no_recv_stp) << 3
        | u32::from(f.no_flood) << 4
        | u32::from(f.no_fwd) << 5
        | u32::from(f.no_packet_in) << 6
}

/// Reads an `ofp_port`.
pub(super) fn read(r: &mut Reader<'_>, version: u8) -> Result<PortDesc, OfError> {
    let mut rest;
    let (port, r) = if version >= OF14 {
        // Unlike other entries it has its number before its length.
        let len = {
            let mut look = r.clone();
            look.skip(4)?;
            usize::from(look.u16()?)
        };
        if len < 40 {
            return err(
                ErrorKind::BadLen,
                format!("a port has {len} bytes, at least 40 are right"),
            );
        }
        rest = r.sub(len, ErrorKind::BadLen)?;
        let port = PortNo(rest.u32()?);
        rest.skip(4)?;
        (port, &mut rest)
    } else {
        let port = PortNo(r.u32()?);
        r.skip(4)?;
        (port, r)
    };
    let mac = MacAddr(r.array()?);
    r.skip(2)?;
    let name = r.text(16)?;
    let config = read_flags(r)?;
    let state = r.u32()?;
    let mut p = PortDesc {
        port,
        mac,
        name,
        config,
        link_down: state & 1 != 0,
        live: state & 4 != 0,
        current: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: 0,
        max_speed: 0,
        properties: Vec::new(),
    };
    if version < OF14 {
        read_ethernet(r, &mut p)?;
        return Ok(p);
    }
    property::read(r, |kind, v| {
        match kind {
            ETHERNET => {
                v.skip(4)?;
                read_ethernet(v, &mut p)?;
            }
            OPTICAL => {
                v.skip(4)?;
                p.properties.push(PortProperty::Optical(OpticalPort {
                    supported: v.u32()?,
                    tx_min: v.u32()?,
                    tx_max: v.u32()?,
                    tx_grid: v.u32()?,
                    rx_min: v.u32()?,
                    rx_max: v.u32()?,
                    rx_grid: v.u32()?,
                    power_min: v.u16()?,
                    power_max: v.u16()?,
                }));
            }
            PIPELINE_INPUT | PIPELINE_OUTPUT if version >= OF15 => {
                let fields = oxm::read_ids(v)?.into_iter().map(|f| f.0).collect();
                p.properties.push(match kind {
                    PIPELINE_INPUT => PortProperty::PipelineInput(fields),
                    _ => PortProperty::PipelineOutput(fields),
                });
            }
            RECIRCULATE if version >= OF15 => {
                let ports = read_all(v, |v| v.u32().map(PortNo))?;
                p.properties.push(PortProperty::Recirculate(ports));
            }
            _ => return property::pass(v),
        }
        v.end()
    })?;
    Ok(p)
}

fn read_ethernet(r: &mut Reader<'_>, p: &mut PortDesc) -> Result<(), OfError> {
    for field in ethernet(p) {
        *field = r.u32()?;
    }
    Ok(())
}

/// The Ethernet part in the order of the wire.
fn ethernet(p: &mut PortDesc) -> [&mut u32; 6] {
    [
        &mut p.current,
        &mut p.advertised,
        &mut p.supported,
        &mut p.peer,
        &mut p.current_speed,
        &mut p.max_speed,
    ]
}

/// Writes an `ofp_port`.
pub(super) fn put(w: &mut Writer, p: &PortDesc, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u32(p.port.0);
    w.zeros(4);
    w.put(&p.mac.0);
    w.zeros(2);
    w.text(&p.name, 16);
    w.u32(flag_bits(p.config));
    w.u32(u32::from(p.link_down) | u32::from(p.live) << 2);
    let put_ethernet = |w: &mut Writer| {
        for n in ethernet(&mut p.clone()) {
            w.u32(*n);
        }
    };
    if version < OF14 {
        put_ethernet(w);
        return Ok(());
    }
    property::put(w, ETHERNET, |w| {
        w.zeros(4);
        put_ethernet(w);
    })?;
    for property in &p.properties {
        match property {
            PortProperty::Optical(o) => property::put(w, OPTICAL, |w| {
                w.zeros(4);
                let frequencies = [
                    o.supported,
                    o.tx_min,
                    o.tx_max,
                    o.tx_grid,
                    o.rx_min,
                    o.rx_max,
                    o.rx_grid,
                ];
                for n in frequencies {
                    w.u32(n);
                }
                w.u16(o.power_min);
                w.u16(o.power_max);
            })?,
            // The rest is 1.5's; earlier versions are told what they have words for.
            _ if version < OF15 => {}
            PortProperty::PipelineInput(fields) | PortProperty::PipelineOutput(fields) => {
                let kind = match property {
                    PortProperty::PipelineInput(_) => PIPELINE_INPUT,
                    _ => PIPELINE_OUTPUT,
                };
                property::put(w, kind, |w| {
                    for f in fields {
                        oxm::put_id(w, *f, false, version);
                    }
                })?;
            }
            PortProperty::Recirculate(ports) => property::put(w, RECIRCULATE, |w| {
                for p in ports {
                    w.u32(p.0);
                }
            })?,
        }
    }
    w.set_len(start + 4, start)
}

pub(super) fn read_mod(r: &mut Reader<'_>, version: u8) -> Result<PortMod, OfError> {
    let port = PortNo(r.u32()?);
    r.skip(4)?;
    let mac = MacAddr(r.array()?);
    r.skip(2)?;
    let mut m = PortMod {
        port,
        mac,
        config: read_flags(r)?,
        mask: read_flags(r)?,
        advertise: 0,
        optical: None,
    };
    if version < OF14 {
        m.advertise = r.u32()?;
        r.skip(4)?;
        return Ok(m);
    }
    property::read(r, |kind, v| {
        match kind {
            ETHERNET => m.advertise = v.u32()?,
            OPTICAL => {
                m.optical = Some(OpticalMod {
                    configure: v.u32()?,
                    frequency: v.u32()?,
                    offset: v.u32()?.cast_signed(),
                    grid: v.u32()?,
                    power: v.u32()?,
                });
            }
            _ => return property::unknown(kind, v, "a port-mod"),
        }
        v.end()
    })?;
    Ok(m)
}

pub(super) fn put_mod(w: &mut Writer, m: &PortMod, version: u8) -> Result<(), OfError> {
    w.u32(m.port.0);
    w.zeros(4);
    w.put(&m.mac.0);
    w.zeros(2);
    w.u32(flag_bits(m.config));
    w.u32(flag_bits(m.mask));
    if version < OF14 {
        if m.optical.is_some() {
            return err(
                ErrorKind::BadType,
                "optical ports can be changed from OpenFlow 1.4 on",
            );
        }
        w.u32(m.advertise);
        w.zeros(4);
        return Ok(());
    }
    property::put(w, ETHERNET, |w| w.u32(m.advertise))?;
    if let Some(o) = &m.optical {
        property::put(w, OPTICAL, |w| {
            let offset = o.offset.cast_unsigned();
            for n in [o.configure, o.frequency, offset, o.grid, o.power] {
                w.u32(n);
            }
        })?;
    }
    Ok(())
}

/// A port's counters of every kind of port, in the order of the wire.
pub(in crate::wire) fn counters(s: &mut PortStats) -> [&mut u64; 8] {
    [
        &mut s.rx_packets,
        &mut s.tx_packets,
        &mut s.rx_bytes,
        &mut s.tx_bytes,
        &mut s.rx_dropped,
        &mut s.tx_dropped,
        &mut s.rx_errors,
        &mut s.tx_errors,
    ]
}

/// Those of Ethernet ports.
pub(in crate::wire) fn ethernet_counters(s: &mut PortStats) -> [&mut u64; 4] {
    [
        &mut s.rx_frame_err,
        &mut s.rx_over_err,
        &mut s.rx_crc_err,
        &mut s.collisions,
    ]
}

/// Counters that a message does not tell are not kept.
const NOT_KEPT: u64 = u64::MAX;

/// Reads one port's counters.
pub(super) fn read_stats(r: &mut Reader<'_>, version: u8) -> Result<PortStats, OfError> {
    let mut s = PortStats {
        duration: super::stats::UNKNOWN,
        ..PortStats::default()
    };
    if version >= OF14 {
        let mut e = sized(r, 80)?;
        e.skip(2)?;
        s.port = e.u32()?;
        s.duration = e.duration()?;
        for counter in counters(&mut s) {
            *counter = e.u64()?;
        }
        for counter in ethernet_counters(&mut s) {
            *counter = NOT_KEPT;
        }
        property::read(&mut e, |kind, v| {
            match kind {
                ETHERNET => {
                    v.skip(4)?;
                    for counter in ethernet_counters(&mut s) {
                        *counter = v.u64()?;
                    }
                }
                OPTICAL => {
                    v.skip(4)?;
                    s.optical = Some(OpticalStats {
                        flags: v.u32()?,
                        tx: v.u32()?,
                        tx_offset: v.u32()?,
                        tx_grid: v.u32()?,
                        rx: v.u32()?,
                        rx_offset: v.u32()?,
                        rx_grid: v.u32()?,
                        tx_power: v.u16()?,
                        rx_power: v.u16()?,
                        bias: v.u16()?,
                        temperature: v.u16()?,
                    });
                }
                _ => return property::pass(v),
            }
            v.end()
        })?;
        return Ok(s);
    }
    s.port = r.u32()?;
    r.skip(4)?;
    for counter in counters(&mut s) {
        *counter = r.u64()?;
    }
    for counter in ethernet_counters(&mut s) {
        *counter = r.u64()?;
    }
    if version >= OF13 {
        s.duration = r.duration()?;
    }
    Ok(s)
}

/// Writes one port's counters.
pub(super) fn put_stats(w: &mut Writer, s: &PortStats, version: u8) -> Result<(), OfError> {
    let mut s = *s;
    let start = w.len();
    if version >= OF14 {
        w.zeros(4);
        w.u32(s.port);
        w.duration(s.duration);
        for n in counters(&mut s) {
            w.u64(*n);
        }
        property::put(w, ETHERNET, |w| {
            w.zeros(4);
            for n in ethernet_counters(&mut s) {
                w.u64(*n);
            }
        })?;
        if let Some(o) = s.optical {
            property::put(w, OPTICAL, |w| {
                w.zeros(4);
                for n in [
                    o.flags,
                    o.tx,
                    o.tx_offset,
                    o.tx_grid,
                    o.rx,
                    o.rx_offset,
                    o.rx_grid,
                ] {
                    w.u32(n);
                }
                for n in [o.tx_power, o.rx_power, o.bias, o.temperature] {
                    w.u16(n);
                }
            })?;
        }
        return w.set_len(start, start);
    }
    w.u32(s.port);
    w.zeros(4);
    for n in counters(&mut s) {
        w.u64(*n);
    }
    for n in ethernet_counters(&mut s) {
        w.u64(*n);
    }
    if version >= OF13 {
        w.duration(s.duration);
    }
    Ok(())
}
