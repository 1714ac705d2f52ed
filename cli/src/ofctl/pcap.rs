//! OpenFlow and packets from capture files: `ofp-parse-pcap` and `parse-pcap`.
//!
//! Files are pcap(5) in either byte order, of Ethernet. TCP streams are put together as far as the
//! segments come in order or early; what was captured twice counts once.

use super::commands::out;
use super::{Options, packets};
use anyhow::{Result, anyhow, bail};
use openflow::text::Names;
use openflow::wire::{self, Frame};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The ports of OpenFlow, the one it had before among them.
const PORTS: &[u16] = &[6633, 6653];

/// Bytes of a capture's own header, and of each packet's.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// Most bytes that are kept of a stream behind a gap.
const GAP_MAX: usize = 1 << 20;

struct Captured<'a> {
    when: Duration,
    data: &'a [u8],
}

/// The packets of a capture.
fn read(bytes: &[u8]) -> Result<Vec<Captured<'_>>> {
    let Some(magic) = bytes.first_chunk::<4>() else {
        bail!("end of file while reading pcap header");
    };
    let (big, nanos) = match magic {
        [0xa1, 0xb2, 0xc3, 0xd4] => (true, false),
        [0xd4, 0xc3, 0xb2, 0xa1] => (false, false),
        [0xa1, 0xb2, 0x3c, 0x4d] => (true, true),
        [0x4d, 0x3c, 0xb2, 0xa1] => (false, true),
        _ => bail!(
            "bad magic 0x{:08x} reading pcap file",
            u32::from_be_bytes(*magic)
        ),
    };
    let word = |at: usize| {
        let b: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if big {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    };
    let mut out = Vec::new();
    let mut at = FILE_HEADER;
    while let (Some(secs), Some(sub), Some(len)) = (word(at), word(at + 4), word(at + 8)) {
        let start = at + PACKET_HEADER;
        let Some(data) = bytes.get(start..start.saturating_add(len as usize)) else {
            break;
        };
        let sub = if nanos { sub } else { sub.saturating_mul(1000) };
        let when = Duration::new(secs.into(), sub.min(999_999_999));
        out.push(Captured { when, data });
        at = start + len as usize;
    }
    Ok(out)
}

fn load(file: &str) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| anyhow!("{file}: open failed ({})", crate::exit::words(&e)))
}

/// A TCP segment over IPv4.
struct Segment<'a> {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    seq: u32,
    syn: bool,
    data: &'a [u8],
}

fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0] | [0x88, 0xa8]) {
        at += 4;
    }
    if frame.get(at..at + 2)? != [8, 0] {
        return None;
    }
    let ip = &frame[at + 2..];
    let total = usize::from(u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?));
    let header = usize::from(ip.first()? & 15) * 4;
    let ip = ip.get(..total.min(ip.len()))?;
    if *ip.get(9)? != 6 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        let b: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
        Some(b.into())
    };
    let tcp = ip.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let data = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from: (address(12)?, port(0)?),
        to: (address(16)?, port(2)?),
        seq: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
        syn: tcp.get(13)? & 2 != 0,
        data: tcp.get(data..)?,
    })
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    /// The number of the next byte, once it is known.
    next: Option<u32>,
    /// Bytes in order that no whole message was made of yet.
    bytes: Vec<u8>,
    /// What came early, by its distance from `next` when it came.
    early: BTreeMap<u32, Vec<u8>>,
    held: usize,
}

impl Stream {
    fn take(&mut self, s: &Segment<'_>) {
        if s.syn {
            self.next = Some(s.seq.wrapping_add(1));
            return;
        }
        if s.data.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(s.seq);
        let ahead = s.seq.wrapping_sub(next);
        if ahead == 0 || ahead > u32::MAX / 2 {
            let known = next.wrapping_sub(s.seq) as usize;
            self.append(s.data.get(known..).unwrap_or_default());
        } else if self.held + s.data.len() <= GAP_MAX {
            self.held += s.data.len();
            self.early.insert(s.seq, s.data.to_vec());
        }
        while let Some((seq, data)) = self.ready() {
            let known = self.next.unwrap_or(seq).wrapping_sub(seq) as usize;
            self.append(data.get(known..).unwrap_or_default());
        }
    }

    /// What came early and now follows.
    fn ready(&mut self) -> Option<(u32, Vec<u8>)> {
        let next = self.next?;
        let late = |seq: u32| next.wrapping_sub(seq) <= u32::MAX / 2;
        let seq = self.early.keys().copied().find(|s| late(*s))?;
        let data = self.early.remove(&seq)?;
        self.held -= data.len();
        Some((seq, data))
    }

    fn append(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.next = self.next.map(|n| n.wrapping_add(data.len() as u32));
    }

    /// The next whole message.
    fn message(&mut self) -> Option<Vec<u8>> {
        match wire::frame(&self.bytes) {
            Frame::Message(n) => {
                let rest = self.bytes.split_off(n);
                Some(std::mem::replace(&mut self.bytes, rest))
            }
            Frame::Broken(_) => {
                self.bytes.clear();
                None
            }
            Frame::Incomplete => None,
        }
    }
}

/// `ofp-parse-pcap FILE [PORT...]`
pub fn ofp_parse_pcap(o: &Options, a: &[&str]) -> Result<()> {
    let bytes = load(a[0])?;
    let ports: Vec<u16> = match &a[1..] {
        [] => PORTS.to_vec(),
        given => given.iter().filter_map(|p| p.parse().ok()).collect(),
    };
    let names = Names::default();
    let mut streams: HashMap<_, Stream> = HashMap::new();
    let mut first = true;
    for captured in read(&bytes)? {
        let Some(s) = segment(captured.data) else {
            continue;
        };
        if !ports.contains(&s.from.1) && !ports.contains(&s.to.1) {
            continue;
        }
        let stream = streams.entry((s.from, s.to)).or_default();
        stream.take(&s);
        while let Some(message) = stream.message() {
            let gap = if std::mem::take(&mut first) { "" } else { "\n" };
            let stamp = if o.timestamp {
                format!("{} ", time_of_day(captured.when))
            } else {
                String::new()
            };
            let (from, to) = (s.from, s.to);
            out(&format!(
                "{gap}{stamp}{}.{} > {}.{}:\n",
                from.0, from.1, to.0, to.1
            ));
            out(&o.style(&names, 1).bytes(&message));
        }
    }
    Ok(())
}

/// `parse-pcap FILE...`
pub fn parse_pcap(_: &Options, a: &[&str]) -> Result<()> {
    for file in a {
        let bytes = load(file)?;
        for captured in read(&bytes)? {
            let text = packets::describe(captured.data);
            // Without the checksum.
            let text = text.split(' ').next().unwrap_or_default();
            out(&format!("{text}\n"));
        }
    }
    Ok(())
}

/// `17:04:05.123`, in UTC.
fn time_of_day(t: Duration) -> String {
    let s = t.as_secs() % 86_400;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{h:02}:{m:02}:{s:02}.{:03}", t.subsec_millis())
}

/// `2026-11-21 17:04:05.123`, in UTC, of a time since 1970.
pub fn date_and_time(t: Duration) -> String {
    // Days to a date by eras of 400 years that begin in March.
    let z = (t.as_secs() / 86_400) as i64 + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02} {}", time_of_day(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (secs, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_827_696, "2000-02-29 12:34:56.000"),
            (1_795_283_999, "2026-11-21 17:59:59.000"),
        ] {
            assert_eq!(date_and_time(Duration::from_secs(secs)), text);
        }
    }

    #[test]
    fn segments_come_early_twice_and_late() {
        let part = |seq, data| Segment {
            from: (Ipv4Addr::LOCALHOST, 1),
            to: (Ipv4Addr::LOCALHOST, 6653),
            seq,
            syn: false,
            data,
        };
        let hello = [1, 0, 0, 8, 0, 0, 0, 1];
        let mut s = Stream {
            next: Some(u32::MAX - 1),
            ..Stream::default()
        };
        s.take(&part(2, &hello[4..]));
        assert!(s.message().is_none());
        s.take(&part(u32::MAX - 1, &hello[..3]));
        s.take(&part(u32::MAX - 1, &hello[..3]));
        assert!(s.message().is_none());
        s.take(&part(0, &hello[2..5]));
        assert_eq!(s.message().as_deref(), Some(&hello[..]));
        assert!(s.message().is_none() && s.held == 0);
    }
}
