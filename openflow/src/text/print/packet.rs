//! Packets from the switch and to it.

use super::{Style, dump};
use crate::field::FieldId;
use crate::message::{PacketIn, PacketOut};
use crate::text::action::{format_actions, reason_name};
use crate::text::matching::format_match;
use std::fmt::{Result, Write};

pub(super) fn packet_in(w: &mut String, p: &PacketIn, _version: u8, style: &Style<'_>) -> Result {
    let names = style.names;
    if p.table != 0 {
        write!(w, " table_id={}", names.table_text(p.table))?;
    }
    if p.cookie != u64::MAX {
        write!(w, " cookie={:#x}", p.cookie)?;
    }
    let meta = format_match(&p.metadata, None, names);
    let (total, reason, len) = (
        usize::from(p.total_len),
        reason_name(p.reason),
        p.data.len(),
    );
    write!(w, " total_len={total} {meta} (via {reason}) data_len={len}")?;
    match p.buffer {
        None => {
            w.push_str(" (unbuffered)");
            if total != len {
                w.push_str(" (***total_len != data_len***)");
            }
        }
        Some(b) => {
            write!(w, " buffer={b:#010x}")?;
            if total < len {
                w.push_str(" (***total_len < data_len***)");
            }
        }
    }
    w.push('\n');
    if !p.userdata.is_empty() {
        let bytes: Vec<String> = p.userdata.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(w, " userdata={}", bytes.join("."))?;
    }
    if let Some(c) = &p.continuation {
        writeln!(w, " continuation={} bytes", c.len())?;
    }
    frame(w, &p.data, style)
}

pub(super) fn packet_out(w: &mut String, p: &PacketOut, style: &Style<'_>) -> Result {
    let names = style.names;
    let actions = format_actions(&p.actions, names);
    write!(w, " in_port={}", names.port_text(p.in_port))?;
    let mut fields = p.fields.clone();
    fields.set_masked(FieldId::InPort, 0, 0);
    let fields = format_match(&fields, None, names);
    if !fields.is_empty() {
        write!(w, " {fields}")?;
    }
    write!(w, " actions={actions}")?;
    match p.buffer {
        Some(b) => write!(w, " buffer={b:#010x}"),
        None => {
            writeln!(w, " data_len={}", p.data.len())?;
            frame(w, &p.data, style)
        }
    }
}

/// What is in a packet, and above a verbosity of 2 its bytes.
fn frame(w: &mut String, data: &[u8], style: &Style<'_>) -> Result {
    if let (1.., Some(tell), false) = (style.verbosity, style.packet, data.is_empty()) {
        writeln!(w, "{}", tell(data))?;
    }
    if style.verbosity > 2 {
        w.write_str(&dump(data, false))?;
    }
    Ok(())
}
