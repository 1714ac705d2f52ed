//! Geneve options in text: `{class=0xffff,type=0x80,len=4}->tun_metadata0`.

use super::{Result, fail, parse_uint};
use crate::message::TlvMap;

/// Reads options with their fields, separated by commas.
///
/// # Errors
/// `invalid tlv mapping`, as Open vSwitch says of all that is not written so or out of range.
pub fn parse_tlv_maps(s: &str) -> Result<Vec<TlvMap>> {
    let mut maps = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let Some((map, after)) = one(rest) else {
            return fail("invalid tlv mapping");
        };
        maps.push(map);
        rest = after.trim_start_matches(',');
    }
    Ok(maps)
}

fn one(s: &str) -> Option<(TlvMap, &str)> {
    let (option, rest) = s.strip_prefix("{class=")?.split_once("}->tun_metadata")?;
    let (class, option) = option.split_once(",type=")?;
    let (kind, len) = option.split_once(",len=")?;
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    let (index, after) = rest.split_at(end);
    let map = TlvMap {
        class: parse_uint(class)?.try_into().ok()?,
        kind: parse_uint(kind)?.try_into().ok()?,
        len: parse_uint(len)?.try_into().ok()?,
        index: parse_uint(index)?.try_into().ok()?,
    };
    Some((map, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let text =
            "{class=0xffff,type=0x1,len=4}->tun_metadata0,{class=1,type=2,len=8}->tun_metadata63";
        let maps = parse_tlv_maps(text).unwrap();
        assert_eq!(
            maps[0],
            TlvMap {
                class: 0xffff,
                kind: 1,
                len: 4,
                index: 0
            }
        );
        assert_eq!((maps[1].len, maps[1].index), (8, 63));
        for bad in [
            "x",
            "{class=1,type=2}->tun_metadata1",
            "{class=1,type=2,len=4}->foo",
            "{class=1,type=2,len=4}",
        ] {
            assert_eq!(parse_tlv_maps(bad).unwrap_err().0, "invalid tlv mapping");
        }
    }
}
