//! Meters in text: `meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=100`.

use super::print::meter::{BURST, FLAGS, NAMED};
use super::{Result, fail, parse_uint};
use crate::message::{MeterBand, MeterBandKind, MeterConfig, MeterMod, MeterModCommand};

/// The largest number of a meter (OpenFlow 1.3.5 7.3.4.4).
const MAX: u32 = 0xffff_0000;

/// Reads a change of the meter table. Deletes take a meter's number alone.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_meter_mod(s: &str, command: MeterModCommand) -> Result<MeterMod> {
    if command == MeterModCommand::Delete {
        let meter = parse_meter_id(s)?;
        let (flags, bands) = (0, Vec::new());
        return Ok(MeterMod {
            command,
            config: MeterConfig {
                meter,
                flags,
                bands,
            },
        });
    }
    let Some(at) = s.find("band") else {
        return fail("must specify bands");
    };
    let Some((_, bands)) = s[at + 1..].split_once('=') else {
        return fail("must specify bands");
    };
    let (meter, flags) = head(&s[..at], true)?;
    if flags == 0 {
        return fail("meter must specify either 'kbps' or 'pktps'");
    }
    let bands = parse_bands(bands, flags)?;
    Ok(MeterMod {
        command,
        config: MeterConfig {
            meter,
            flags,
            bands,
        },
    })
}

/// Reads which meter is meant: `meter=1`, `meter=all`.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_meter_id(s: &str) -> Result<u32> {
    head(s, false).map(|h| h.0)
}

/// Words between blanks, commas and `=`, where a value may hold `=` itself.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn cut(&mut self, ends: &[char]) -> Option<&'a str> {
        let text = self.0.trim_start_matches(ends);
        let end = text.find(ends).unwrap_or(text.len());
        self.0 = text.get(end + 1..).unwrap_or("");
        (end > 0).then(|| &text[..end])
    }

    fn name(&mut self) -> Option<&'a str> {
        self.cut(&['=', ',', ' ', '\t', '\r', '\n'])
    }

    fn value(&mut self, name: &str) -> Result<&'a str> {
        match self.cut(&[',', ' ', '\t', '\r', '\n']) {
            Some(v) => Ok(v),
            None => fail(format!("field {name} missing value")),
        }
    }
}

/// Number and flags.
fn head(s: &str, flags_allowed: bool) -> Result<(u32, u16)> {
    let (mut meter, mut flags) = (0, 0);
    let mut words = Words(s);
    while let Some(name) = words.name() {
        if let Some(f) = FLAGS.iter().find(|f| flags_allowed && f.1 == name) {
            flags |= f.0 as u16;
            continue;
        }
        let value = words.value(name)?;
        if name != "meter" {
            return fail(format!("unknown keyword {name}"));
        }
        meter = match NAMED.iter().find(|m| m.1 == value) {
            Some((n, _)) => *n,
            None => match number(value)? {
                0 => return fail(format!("invalid value for {name}")),
                n if n > MAX => return fail(format!("invalid value for {name}")),
                n => n,
            },
        };
    }
    if meter == 0 {
        return fail("must specify 'meter'");
    }
    Ok((meter, flags))
}

fn number(s: &str) -> Result<u32> {
    match parse_uint(s).map(u32::try_from) {
        Some(Ok(n)) => Ok(n),
        _ => fail(format!("invalid numeric format {s}")),
    }
}

/// A band as it is being read.
struct Draft {
    remark: bool,
    rate: u32,
    burst: u32,
    level: u8,
}

fn parse_bands(s: &str, flags: u16) -> Result<Vec<MeterBand>> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut words = Words(s);
    while let Some(name) = words.name() {
        let value = words.value(name)?;
        if name == "type" {
            let remark = match value {
                "drop" => false,
                "dscp_remark" => true,
                _ => return fail(format!("field {name} unknown value {value}")),
            };
            drafts.push(Draft {
                remark,
                rate: 0,
                burst: 0,
                level: 0,
            });
            continue;
        }
        let Some(band) = drafts.last_mut() else {
            return fail("band must start with the 'type' keyword");
        };
        match name {
            "rate" => band.rate = number(value)?,
            "burst_size" => band.burst = number(value)?,
            "prec_level" => band.level = super::number(value, name)?,
            _ => return fail(format!("unknown keyword {name}")),
        }
    }
    if drafts.is_empty() {
        return fail("meter must have bands");
    }
    drafts.iter().map(|d| d.check(flags & BURST != 0)).collect()
}

impl Draft {
    fn check(&self, bursts: bool) -> Result<MeterBand> {
        match (self.remark, self.level) {
            (true, 0) => return fail("'dscp_remark' band must have 'prec_level'"),
            (false, 1..) => return fail("Only 'dscp_remark' band may have 'prec_level'"),
            _ => {}
        }
        if self.rate == 0 {
            return fail("band must have 'rate'");
        }
        match (bursts, self.burst) {
            (true, 0) => {
                return fail("band must have 'burst_size' when 'burst' flag is set");
            }
            (false, 1..) => {
                return fail("band may have 'burst_size' only when 'burst' flag is set");
            }
            _ => {}
        }
        Ok(MeterBand {
            kind: if self.remark {
                MeterBandKind::DscpRemark(self.level)
            } else {
                MeterBandKind::Drop
            },
            rate: self.rate,
            burst: self.burst,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_read() {
        let text = "meter=1 kbps,burst,stats bands=type=drop rate=1000 burst_size=10,type=dscp_remark,rate=5,burst_size=1,prec_level=2";
        let m = parse_meter_mod(text, MeterModCommand::Add).unwrap().config;
        assert_eq!((m.meter, m.flags, m.bands.len()), (1, 13, 2));
        assert_eq!(m.bands[1].kind, MeterBandKind::DscpRemark(2));
        assert_eq!(parse_meter_id("meter=all").unwrap(), u32::MAX);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("meter=1", "must specify bands"),
            (
                "meter=1 band=type=drop,rate=1",
                "meter must specify either 'kbps' or 'pktps'",
            ),
            ("kbps bands=type=drop,rate=1", "must specify 'meter'"),
            (
                "meter=0 kbps bands=type=drop,rate=1",
                "invalid value for meter",
            ),
            (
                "meter=x kbps bands=type=drop,rate=1",
                "invalid numeric format x",
            ),
            ("meter=1 kbps bands=", "meter must have bands"),
            (
                "meter=1 kbps bands=rate=1",
                "band must start with the 'type' keyword",
            ),
            (
                "meter=1 kbps bands=type=foo",
                "field type unknown value foo",
            ),
            ("meter=1 kbps bands=type=drop", "band must have 'rate'"),
            ("meter=1 kbps bands=type", "field type missing value"),
            (
                "meter=1 foo=2 kbps bands=type=drop,rate=1",
                "unknown keyword foo",
            ),
            (
                "meter=1 kbps bands=type=dscp_remark,rate=1",
                "'dscp_remark' band must have 'prec_level'",
            ),
        ] {
            let e = parse_meter_mod(text, MeterModCommand::Add).unwrap_err();
            assert_eq!(e.0, why, "{text}");
        }
    }
}
