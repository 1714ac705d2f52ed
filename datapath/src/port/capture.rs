//! Capture files that ports write: the classic format, version 2.4, of Ethernet frames (draft-ietf-opsawg-pcap 4).

use super::{InterfaceConfig, PortError};
use crate::packet::PACKET_MAX;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The options that name files, in the order of [`Captures::open`].
pub(super) const OPTIONS: [&str; 3] = ["pcap", "rxq_pcap", "tx_pcap"];

/// Where frames are written to.
#[derive(Clone, Default)]
pub(super) struct Captures {
    /// What comes in.
    pub(super) rx: Option<Arc<File>>,
    /// What is sent.
    pub(super) tx: Option<Arc<File>>,
}

impl Captures {
    /// Makes the files that a port's options name: `rxq_pcap` for what comes in, `tx_pcap` for what is sent, `pcap` for both.
    pub(super) fn open(config: &InterfaceConfig) -> Result<Captures, PortError> {
        let option = |name: &str| {
            let Some(path) = config.options.get(name) else {
                return Ok(None);
            };
            create(Path::new(path))
                .map(Some)
                .map_err(|e| PortError::Option {
                    name: config.name.clone(),
                    option: name.into(),
                    problem: format!("{path}: {e}"),
                })
        };
        let [both, rx, tx] = OPTIONS.map(option);
        let both = both?;
        Ok(Captures {
            rx: rx?.or_else(|| both.clone()),
            tx: tx?.or(both),
        })
    }
}

fn create(path: &Path) -> io::Result<Arc<File>> {
    check_file(path)?;
    let file = File::create(path)?;
    let header = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, PACKET_MAX as u32, 1u32];
    (&file).write_all(header.map(u32::to_ne_bytes).as_flattened())?;
    Ok(Arc::new(file))
}

/// What exists must be a file: to open a pipe would wait for its other end.
pub(super) fn check_file(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(m) if !m.is_file() => Err(io::Error::other("is no regular file")),
        _ => Ok(()),
    }
}

/// Appends a frame to a capture: in one write, so that readers see whole records.
pub(super) fn append(mut file: &File, frame: &[u8]) -> io::Result<()> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = time.unwrap_or_default();
    let len = frame.len() as u32;
    let header = [time.as_secs() as u32, time.subsec_micros(), len, len];
    let mut record = header.map(u32::to_ne_bytes).as_flattened().to_vec();
    record.extend_from_slice(frame);
    file.write_all(&record)
}
