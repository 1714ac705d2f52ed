//! Records, the units of a database file (ovsdb(5)): a header line, and JSON with its check sum.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;
use sha1::{Digest, Sha1};

use crate::database::Members;

/// What every record of a standalone database begins with.
pub const MAGIC: &str = "OVSDB JSON ";
/// What every record of a clustered database begins with.
pub const CLUSTER_MAGIC: &str = "OVSDB CLUSTER ";
/// No header line is longer.
const HEADER_MAX: usize = 128;

/// A SHA-1 hash in hexadecimal digits, as it stands in headers.
pub(super) fn hex(sha: Sha1) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |d: u8| char::from(DIGITS[usize::from(d & 15)]);
    let bytes = sha.finalize();
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(*b)])
        .collect()
}

/// One record of the file. The line end behind the JSON belongs to it.
pub fn encode_record(json: &str) -> String {
    let mut sha = Sha1::new();
    sha.update(json.as_bytes());
    sha.update(b"\n");
    format!("{MAGIC}{} {}\n{json}\n", json.len() + 1, hex(sha))
}

/// What is wrong with the bytes where a record should be. Offsets count from the beginning of
/// the file. The words are those of Open vSwitch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// There is no header line.
    Header {
        /// Where it should be.
        offset: u64,
        /// What is there instead.
        line: String,
    },
    /// The file ends within the record.
    Short {
        /// Where its JSON begins.
        offset: u64,
        /// How long the JSON should be.
        length: usize,
    },
    /// The JSON is not what was written.
    Hash {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: usize,
        /// Its check sum.
        actual: String,
        /// The check sum in the header.
        expected: String,
    },
    /// What was written is no JSON object.
    Json {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: usize,
        /// Why not.
        why: String,
    },
}

impl RecordError {
    /// The kind of error as Open vSwitch names it.
    pub fn name(&self) -> &'static str {
        match self {
            RecordError::Short { .. } => "I/O error",
            _ => "syntax error",
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Header { offset, line } => {
                write!(
                    f,
                    "parse error at offset {offset} in header line \"{line}\""
                )
            }
            RecordError::Short { offset, length } => write!(
                f,
                "error reading {length} bytes starting at offset {offset} (End of file)"
            ),
            RecordError::Hash {
                offset,
                length,
                actual,
                expected,
            } => write!(
                f,
                "{length} bytes starting at offset {offset} have SHA-1 hash {actual} but should have hash {expected}"
            ),
            RecordError::Json {
                offset,
                length,
                why,
            } => write!(
                f,
                "{length} bytes starting at offset {offset} are not {why}"
            ),
        }
    }
}

/// Reads records from the bytes of a file. No I/O.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    pos: usize,
    magic: &'static str,
}

impl<'a> Records<'a> {
    /// Over the whole file of a standalone database.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            pos: 0,
            magic: MAGIC,
        }
    }

    /// Over the whole file of a clustered database.
    pub fn of_cluster(bytes: &'a [u8]) -> Self {
        Self {
            magic: CLUSTER_MAGIC,
            ..Self::new(bytes)
        }
    }

    /// Where the next record begins; behind an error, where the good part ends.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Length and check sum in a header line.
    fn header(&self, line: &'a str) -> Option<(usize, &'a str)> {
        let (length, sum) = line.strip_prefix(self.magic)?.split_once(' ')?;
        let hex = sum.len() == 40 && sum.bytes().all(|b| b.is_ascii_hexdigit());
        let length = length.parse().ok().filter(|n| *n > 0)?;
        hex.then_some((length, sum))
    }

    /// The JSON of the next record; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the bytes that follow; the position stays.
    pub fn next_record(&mut self) -> Result<Option<Value>, RecordError> {
        Ok(self.next_object()?.map(Value::Object))
    }

    /// As [`Records::next_record`], with the members of the object as texts.
    pub(super) fn next_members(&mut self) -> Result<Option<Members<'a>>, RecordError> {
        self.next_object()
    }

    fn next_object<T: Deserialize<'a>>(&mut self) -> Result<Option<T>, RecordError> {
        let rest = &self.bytes[self.pos..];
        if rest.is_empty() {
            return Ok(None);
        }
        let line_end = rest.iter().take(HEADER_MAX).position(|b| *b == b'\n');
        let parsed = line_end
            .and_then(|end| std::str::from_utf8(&rest[..end]).ok())
            .and_then(|line| self.header(line));
        let (Some(line_end), Some((length, expected))) = (line_end, parsed) else {
            let shown = line_end.unwrap_or(rest.len()).min(HEADER_MAX);
            return Err(RecordError::Header {
                offset: self.pos as u64,
                line: String::from_utf8_lossy(&rest[..shown]).into_owned(),
            });
        };
        let begin = self.pos + line_end + 1;
        let offset = begin as u64;
        let end = begin.checked_add(length);
        let Some(data) = end.and_then(|end| self.bytes.get(begin..end)) else {
            return Err(RecordError::Short { offset, length });
        };
        let mut sha = Sha1::new();
        sha.update(data);
        let actual = hex(sha);
        if !actual.eq_ignore_ascii_case(expected) {
            return Err(RecordError::Hash {
                offset,
                length,
                actual,
                expected: expected.into(),
            });
        }
        let object = serde_json::from_slice(data).map_err(|e| RecordError::Json {
            offset,
            length,
            why: match e.classify() {
                Category::Data => "a JSON object".into(),
                _ => format!("valid JSON ({e})"),
            },
        })?;
        self.pos = begin + length;
        Ok(Some(object))
    }
}
