//! Lines of text without an allocator: numbers and addresses to and from text.

use core::fmt;

/// Longest line that is written or read.
pub const LINE: usize = 256;

/// A line being written; what does not fit is cut off.
pub struct Line {
    buf: [u8; LINE],
    len: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Line {
            buf: [0; LINE],
            len: 0,
        }
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// What was written, as text (empty when it is none).
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// Adds a byte; `false` when the line is full.
    pub fn push(&mut self, byte: u8) -> bool {
        let room = self.len < LINE;
        if room {
            self.buf[self.len] = byte;
            self.len += 1;
        }
        room
    }

    /// Makes the line empty.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte stays free for the end of the line.
        for &b in text.as_bytes() {
            if self.len < LINE - 1 || (b == b'\n' && self.len < LINE) {
                self.push(b);
            }
        }
        Ok(())
    }
}

/// A number, decimal or `0x` hexadecimal.
pub fn parse_u64(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// An IPv4 address in dotted form.
pub fn parse_ip(text: &str) -> Option<[u8; 4]> {
    let mut ip = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut ip {
        *byte = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(ip)
}

/// A MAC address of six hexadecimal numbers between colons.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// An IPv4 address as text.
pub struct Ip(pub [u8; 4]);

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a}.{b}.{c}.{d}")
    }
}

/// A MAC address as text.
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}
