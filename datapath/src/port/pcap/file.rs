//! Frames out of a capture file: pcap of both byte orders, in microseconds or nanoseconds (draft-ietf-opsawg-pcap), or pcapng
//! with any number of interfaces (draft-ietf-opsawg-pcapng).

use crate::port::capture::check_file;
use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest record that is read: a frame of the greatest length, with all that may be said of it.
const RECORD_MAX: usize = 256 << 10;
/// Most interfaces of a section of a pcapng file.
const INTERFACES_MAX: usize = 4096;
const NANO: u128 = 1_000_000_000;

/// A capture file that is being read.
pub(super) struct FileReader {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    /// Of the pcapng section it is at.
    interfaces: Vec<Interface>,
    /// Of a pcap file: whether fractions of seconds are nanoseconds.
    nanoseconds: bool,
    /// Records so far.
    records: u64,
}

/// Where frames of a pcapng file were captured.
struct Interface {
    ethernet: bool,
    /// Ticks of the clock in a second.
    resolution: u128,
    /// Seconds to add.
    offset: i64,
}

/// A frame, and when it was captured, since some moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) time: Duration,
    pub(super) bytes: Vec<u8>,
}

/// What a record is.
enum Record {
    Frame(Recorded),
    /// Nothing to be sent.
    Other,
}

impl FileReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, or is no capture of Ethernet frames.
    pub(super) fn open(path: &Path) -> Result<FileReader, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        check_file(path).map_err(|e| wrong(e.to_string()))?;
        let file = File::open(path).map_err(|e| wrong(e.to_string()))?;
        let reader = pcap_parser::create_reader(RECORD_MAX, file).map_err(|e| {
            wrong(match e {
                PcapError::ReadError => "cannot be read".to_owned(),
                _ => "is neither a pcap nor a pcapng file".to_owned(),
            })
        })?;
        let mut opened = FileReader {
            path: path.to_owned(),
            reader,
            interfaces: Vec::new(),
            nanoseconds: false,
            records: 0,
        };
        // The header of a pcap file says what its frames are; that of a pcapng file says nothing yet.
        opened.record()?;
        Ok(opened)
    }

    /// The next frame; none at the end of the file.
    ///
    /// # Errors
    /// The file is damaged, or captured on something else than Ethernet: where, and what is wrong. Nothing more can be read then.
    pub(super) fn next(&mut self) -> Result<Option<Recorded>, String> {
        loop {
            match self.record()? {
                Some(Record::Frame(frame)) => return Ok(Some(frame)),
                Some(Record::Other) => {}
                None => return Ok(None),
            }
        }
    }

    fn record(&mut self) -> Result<Option<Record>, String> {
        loop {
            let wrong = match self.reader.next() {
                Ok((length, block)) => {
                    self.records += 1;
                    let record = match block {
                        PcapBlockOwned::LegacyHeader(h) => {
                            self.nanoseconds = h.is_nanosecond_precision();
                            ethernet(h.network).map(|()| Record::Other)
                        }
                        PcapBlockOwned::Legacy(b) => {
                            let unit = if self.nanoseconds { 1 } else { 1000 };
                            let time = Duration::from_secs(b.ts_sec.into())
                                + Duration::from_nanos(u64::from(b.ts_usec) * unit);
                            Ok(Record::Frame(Recorded {
                                time,
                                bytes: b.data.to_vec(),
                            }))
                        }
                        PcapBlockOwned::NG(b) => section(&mut self.interfaces, &b),
                    };
                    self.reader.consume(length);
                    match record {
                        Ok(r) => return Ok(Some(r)),
                        Err(why) => why,
                    }
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => match self.reader.refill() {
                    Ok(()) => continue,
                    Err(PcapError::BufferTooSmall) => {
                        format!("is longer than {RECORD_MAX} bytes")
                    }
                    Err(_) => "cannot be read".to_owned(),
                },
                Err(PcapError::UnexpectedEof) => "is cut off".to_owned(),
                Err(PcapError::BufferTooSmall) => format!("is longer than {RECORD_MAX} bytes"),
                Err(PcapError::ReadError) => "cannot be read".to_owned(),
                Err(_) => "is damaged".to_owned(),
            };
            return Err(format!(
                "{}: record {} {wrong}",
                self.path.display(),
                self.records
            ));
        }
    }
}

fn ethernet(kind: Linktype) -> Result<(), String> {
    match kind {
        Linktype::ETHERNET => Ok(()),
        Linktype(n) => Err(format!(
            "was captured on a link of type {n}, not Ethernet (1)"
        )),
    }
}

/// A block of a pcapng file.
fn section(interfaces: &mut Vec<Interface>, block: &Block<'_>) -> Result<Record, String> {
    let frame = |number: u32, ticks: u128, bytes: &[u8]| {
        let i = interfaces
            .get(number as usize)
            .ok_or_else(|| format!("is of interface {number}, which the file does not have"))?;
        if !i.ethernet {
            return Ok(Record::Other);
        }
        let nanoseconds = ticks * NANO / i.resolution;
        let at = i128::try_from(nanoseconds).unwrap_or(0) + i128::from(i.offset) * NANO as i128;
        Ok(Record::Frame(Recorded {
            time: Duration::from_nanos(u64::try_from(at).unwrap_or(0)),
            bytes: bytes.to_vec(),
        }))
    };
    match block {
        Block::SectionHeader(_) => {
            interfaces.clear();
            Ok(Record::Other)
        }
        Block::InterfaceDescription(d) => {
            if interfaces.len() >= INTERFACES_MAX {
                return Err(format!("is interface {INTERFACES_MAX} or more"));
            }
            interfaces.push(interface(d)?);
            Ok(Record::Other)
        }
        Block::EnhancedPacket(p) => {
            let ticks = u128::from(p.ts_high) << 32 | u128::from(p.ts_low);
            frame(p.if_id, ticks, p.packet_data())
        }
        Block::SimplePacket(p) => frame(0, 0, p.packet_data()),
        _ => Ok(Record::Other),
    }
}

fn interface(d: &InterfaceDescriptionBlock<'_>) -> Result<Interface, String> {
    // The highest bit tells powers of two from powers of ten (if_tsresol).
    let exponent = u32::from(d.if_tsresol & 0x7f);
    let base: u128 = if d.if_tsresol & 0x80 != 0 { 2 } else { 10 };
    let resolution = base
        .checked_pow(exponent)
        .filter(|r| *r <= u128::from(u64::MAX))
        .ok_or_else(|| format!("has a clock of {base}^{exponent} ticks in a second"))?;
    Ok(Interface {
        ethernet: d.linktype == Linktype::ETHERNET,
        resolution,
        offset: d.if_tsoffset,
    })
}
