//! Reading and writing big-endian fields with every length checked.

use crate::error::{ErrorKind, OfError};
use bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;

/// A reader over a message. `kind` is the error that a read past the end answers with.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    kind: ErrorKind,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], kind: ErrorKind) -> Reader<'a> {
        Reader { rest: bytes, kind }
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn error(&self, detail: impl Into<String>) -> OfError {
        OfError::new(self.kind, detail)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], OfError> {
        if n > self.rest.len() {
            return Err(self.error(format!(
                "{n} bytes wanted where {} are left",
                self.rest.len()
            )));
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    /// A reader over the next `n` bytes.
    pub(crate) fn sub(&mut self, n: usize, kind: ErrorKind) -> Result<Reader<'a>, OfError> {
        Ok(Reader::new(self.take(n)?, kind))
    }

    pub(crate) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], OfError> {
        let mut a = [0; N];
        a.copy_from_slice(self.take(N)?);
        Ok(a)
    }

    pub(crate) fn skip(&mut self, n: usize) -> Result<(), OfError> {
        self.take(n).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, OfError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, OfError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, OfError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, OfError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Seconds and nanoseconds. Nanoseconds beyond a second would not fit when the largest number
    /// of seconds is sent on.
    pub(crate) fn duration(&mut self) -> Result<Duration, OfError> {
        let (secs, nanos) = (self.u32()?, self.u32()?);
        Ok(Duration::new(secs.into(), nanos.min(999_999_999)))
    }

    /// A big-endian number of up to 16 bytes.
    pub(crate) fn uint(&mut self, n: usize) -> Result<u128, OfError> {
        Ok(self
            .take(n)?
            .iter()
            .fold(0, |a, b| (a << 8) | u128::from(*b)))
    }

    /// A fixed-size string field, ended by its first zero byte (its last byte must be one and is taken for one). In a
    /// string that is not UTF-8 every byte beyond ASCII becomes a question mark, so that it grows no longer than its field.
    pub(crate) fn text(&mut self, n: usize) -> Result<String, OfError> {
        let raw = &self.take(n)?[..n - 1];
        let end = raw.iter().position(|b| *b == 0).unwrap_or(n - 1);
        Ok(match std::str::from_utf8(&raw[..end]) {
            Ok(text) => text.into(),
            Err(_) => raw[..end]
                .iter()
                .map(|b| if b.is_ascii() { char::from(*b) } else { '?' })
                .collect(),
        })
    }

    pub(crate) fn end(&self) -> Result<(), OfError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("{} bytes too many", self.rest.len())))
        }
    }

    /// The next item of a list whose items begin with a 16-bit type and a 16-bit length that
    /// counts both: `(type, whole item, body)`. `min` is the least length, which is also the
    /// unit that lengths are multiples of if `unit` is not 1.
    pub(crate) fn tlv(
        &mut self,
        min: usize,
        unit: usize,
    ) -> Result<(u16, &'a [u8], Reader<'a>), OfError> {
        let mut head = self.clone();
        let kind = head.u16()?;
        let len = usize::from(head.u16()?);
        if len < min.max(4) || len % unit != 0 {
            return Err(self.error(format!(
                "item of type {kind} has length {len}, which is not at least {min} and a multiple of {unit}"
            )));
        }
        let whole = self.take(len)?;
        Ok((kind, whole, Reader::new(&whole[4..], self.kind)))
    }
}

/// A growing message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) buf: BytesMut,
}

impl Writer {
    pub(crate) fn u8(&mut self, n: u8) {
        self.buf.put_u8(n);
    }

    pub(crate) fn u16(&mut self, n: u16) {
        self.buf.put_u16(n);
    }

    pub(crate) fn u32(&mut self, n: u32) {
        self.buf.put_u32(n);
    }

    pub(crate) fn u64(&mut self, n: u64) {
        self.buf.put_u64(n);
    }

    pub(crate) fn duration(&mut self, d: Duration) {
        self.u32(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
        self.u32(d.subsec_nanos());
    }

    pub(crate) fn uint(&mut self, n: u128, bytes: usize) {
        self.buf.put_slice(&n.to_be_bytes()[16 - bytes..]);
    }

    pub(crate) fn put(&mut self, b: &[u8]) {
        self.buf.put_slice(b);
    }

    pub(crate) fn zeros(&mut self, n: usize) {
        self.buf.put_bytes(0, n);
    }

    /// A string in a field of `n` bytes, cut at a character's edge so that a zero byte ends it.
    pub(crate) fn text(&mut self, s: &str, n: usize) {
        let mut end = s.len().min(n - 1);
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        self.put(&s.as_bytes()[..end]);
        self.zeros(n - end);
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    /// Zeros up to a multiple of 8 from `start`.
    pub(crate) fn pad8(&mut self, start: usize) {
        let n = (self.len() - start).next_multiple_of(8) - (self.len() - start);
        self.zeros(n);
    }

    /// Writes the number of bytes since `start` into the 16-bit field at `at`.
    pub(crate) fn set_len(&mut self, at: usize, start: usize) -> Result<(), OfError> {
        let n = self.len() - start;
        let n = u16::try_from(n).map_err(|_| {
            OfError::new(
                ErrorKind::BadLen,
                format!("{n} bytes do not fit a length field of 16 bits"),
            )
        })?;
        self.buf[at..at + 2].copy_from_slice(&n.to_be_bytes());
        Ok(())
    }

    pub(crate) fn finish(self) -> Bytes {
        self.buf.freeze()
    }
}
