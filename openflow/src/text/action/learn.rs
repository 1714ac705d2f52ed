//! `learn(...)`.

use super::parse::{atoi, load_parts};
use super::{Names, Result, TextError, fail};
use crate::action::{Learn, LearnSource, LearnSpec, LearnTarget, Subfield};
use crate::field::{FieldId, FieldInfo};
use crate::text::subfield::{parse as parse_subfield, subfield_text};
use crate::text::{next_pair, parse_uint, value};
use std::fmt::Write;

pub(super) fn parse(arg: &str, names: &Names) -> Result<Learn> {
    let mut l = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 0x8000,
        cookie: 0,
        send_flow_rem: false,
        delete_learned: false,
        table: 1,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        limit: 0,
        result: None,
        specs: Vec::new(),
    };
    let mut rest = arg;
    while let Some(p) = next_pair(&mut rest)? {
        let v = p.value;
        match p.key {
            "table" => {
                l.table = names
                    .table(v)
                    .ok_or_else(|| TextError(format!("unknown table \"{v}\"")))?;
                if l.table == 255 {
                    return fail(format!("{arg}: table id 255 not valid for `learn' action"));
                }
            }
            "priority" => l.priority = atoi(v) as u16,
            "idle_timeout" => l.idle_timeout = atoi(v) as u16,
            "hard_timeout" => l.hard_timeout = atoi(v) as u16,
            "fin_idle_timeout" => l.fin_idle_timeout = atoi(v) as u16,
            "fin_hard_timeout" => l.fin_hard_timeout = atoi(v) as u16,
            "cookie" => l.cookie = parse_uint(v).unwrap_or(0) as u64,
            "send_flow_rem" => l.send_flow_rem = true,
            "delete_learned" => l.delete_learned = true,
            "limit" => l.limit = atoi(v) as u32,
            "result_dst" => {
                let s = parse_subfield(v)?;
                if !s.field.info().writable {
                    return fail(format!("{} is read-only", s.field.info().name));
                }
                if s.bits != 1 {
                    return fail("result_dst in 'learn' action must be a single bit");
                }
                l.result = Some(s);
            }
            key => l.specs.push(spec(arg, key, v, names)?),
        }
    }
    Ok(l)
}

/// One piece: `KEY=VALUE`, `load:...`, `output:...`. `all` are the action's arguments, for messages.
fn spec(all: &str, key: &str, v: &str, names: &Names) -> Result<LearnSpec> {
    match key {
        "load" => load(v),
        "output" => Ok(LearnSpec {
            source: LearnSource::Field(parse_subfield(v)?),
            target: LearnTarget::Output,
        }),
        _ => matching(all, key, v, names),
    }
}

fn load(v: &str) -> Result<LearnSpec> {
    let (from, to) =
        load_parts(v).ok_or_else(|| TextError(format!("load: missing `->' in `{v}'")))?;
    if from.starts_with(|c: char| c.is_ascii_digit()) {
        let number = parse_uint(from)
            .ok_or_else(|| TextError(format!("{v}: too many bits in immediate value")))?;
        let target = plain(v, to, parse_subfield(to)?)?;
        if target.bits < 128 && number >> target.bits != 0 {
            return fail(format!("{v}: value does not fit into {} bits", target.bits));
        }
        return Ok(LearnSpec {
            source: LearnSource::Value {
                value: number,
                bits: target.bits,
            },
            target: LearnTarget::Load(target),
        });
    }
    let (source, target) = (parse_subfield(from)?, parse_subfield(to)?);
    if source.bits != target.bits {
        return fail(format!(
            "{v}: source field is {} bits wide but destination is {} bits wide",
            source.bits, target.bits
        ));
    }
    Ok(LearnSpec {
        source: LearnSource::Field(source),
        target: LearnTarget::Load(target),
    })
}

/// A field whose name takes four bytes, as a learned rule's parts have room for.
fn plain(all: &str, name: &str, s: Subfield) -> Result<Subfield> {
    if crate::wire::oxm::is_experimenter(s.field) {
        return fail(format!(
            "{all}: experimenter OXM field '{name}' not supported"
        ));
    }
    Ok(s)
}

fn matching(all: &str, key: &str, v: &str, names: &Names) -> Result<LearnSpec> {
    let own = FieldId::from_name(key);
    let target = match own {
        Some(FieldId::InPort) => parse_subfield(key)?,
        Some(f) => Subfield::whole(f),
        None if key.contains('[') => parse_subfield(key)?,
        None if key == "dl_vlan" => {
            return fail(format!(
                "{all}: experimenter OXM field '{key}' not supported"
            ));
        }
        None => return fail(format!("{all}: unknown keyword {key}")),
    };
    let target = plain(all, key, target)?;
    if v.is_empty() {
        return Ok(LearnSpec {
            source: LearnSource::Field(target),
            target: LearnTarget::Match(target),
        });
    }
    let why = match parse_subfield(v) {
        Ok(source) if source.bits == target.bits => {
            return Ok(LearnSpec {
                source: LearnSource::Field(source),
                target: LearnTarget::Match(target),
            });
        }
        Ok(source) => {
            return fail(format!(
                "{all}: bit widths of {key} ({}) and {v} ({}) differ",
                source.bits, target.bits
            ));
        }
        Err(why) => why,
    };
    let number = match own {
        Some(f) => constant(f.info(), v, names),
        None => {
            parse_uint(v).ok_or_else(|| TextError(format!("{all}: cannot parse integer value")))
        }
    };
    let number = number.map_err(|other| {
        TextError(format!(
            "{all}: {key} value {v} cannot be parsed as a subfield ({why}) or an immediate value ({other})"
        ))
    })?;
    if target.bits < 128 && number >> target.bits != 0 {
        return fail(format!(
            "{all}: value does not fit into {} bits",
            target.bits
        ));
    }
    Ok(LearnSpec {
        source: LearnSource::Value {
            value: number,
            bits: target.bits,
        },
        target: LearnTarget::Match(target),
    })
}

fn constant(info: &FieldInfo, v: &str, names: &Names) -> Result<u128> {
    let (number, mask) = value::parse(info, v, names)?;
    if v.contains('/') || mask != info.full_mask() {
        return fail(format!("{v}: wildcards not allowed here"));
    }
    Ok(if info.id == FieldId::InPort {
        number & 0xffff
    } else {
        number
    })
}

pub(super) fn text(l: &Learn, names: &Names) -> String {
    let mut s = format!("learn(table={}", names.table_text(l.table));
    for (name, n) in [
        ("idle_timeout", l.idle_timeout),
        ("hard_timeout", l.hard_timeout),
        ("fin_idle_timeout", l.fin_idle_timeout),
        ("fin_hard_timeout", l.fin_hard_timeout),
    ] {
        if n != 0 {
            let _ = write!(s, ",{name}={n}");
        }
    }
    if l.priority != 0x8000 {
        let _ = write!(s, ",priority={}", l.priority);
    }
    if l.send_flow_rem {
        s.push_str(",send_flow_rem");
    }
    if l.delete_learned {
        s.push_str(",delete_learned");
    }
    if l.cookie != 0 {
        let _ = write!(s, ",cookie={:#x}", l.cookie);
    }
    if l.limit != 0 {
        let _ = write!(s, ",limit={}", l.limit);
    }
    if let Some(r) = l.result {
        let _ = write!(s, ",result_dst={}", subfield_text(r));
    }
    for spec in &l.specs {
        let _ = write!(s, ",{}", spec_text(spec, names));
    }
    s.push(')');
    s
}

fn spec_text(spec: &LearnSpec, names: &Names) -> String {
    match (spec.target, spec.source) {
        (LearnTarget::Match(t), LearnSource::Value { value, .. }) => {
            let info = t.field.info();
            if t.field == FieldId::InPort && (t.offset, t.bits) == (0, 16) {
                let port = if value >= 0xff00 {
                    value | 0xffff_0000
                } else {
                    value
                };
                return format!(
                    "{}={}",
                    info.name,
                    value::format(info, port, info.full_mask(), names)
                );
            }
            if t == Subfield::whole(t.field) {
                let text = value::format(info, value, info.full_mask(), names);
                return format!("{}={text}", info.name);
            }
            format!("{}={value:#x}", subfield_text(t))
        }
        (LearnTarget::Match(t), LearnSource::Field(f)) if t == f => subfield_text(t),
        (LearnTarget::Match(t), LearnSource::Field(f)) => {
            format!("{}={}", subfield_text(t), subfield_text(f))
        }
        (LearnTarget::Load(t), LearnSource::Value { value, .. }) => {
            format!("load:{value:#x}->{}", subfield_text(t))
        }
        (LearnTarget::Load(t), LearnSource::Field(f)) => {
            format!("load:{}->{}", subfield_text(f), subfield_text(t))
        }
        (LearnTarget::Output, LearnSource::Field(f)) => format!("output:{}", subfield_text(f)),
        (LearnTarget::Output, LearnSource::Value { value, .. }) => format!("output:{value}"),
    }
}
