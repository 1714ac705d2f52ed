//! Cuts a stream of bytes into JSON texts. Clients may send several back to back, with or without
//! white space between them (RFC 7047 4).
//!
//! Each byte is looked at once: the cutter keeps its place between feeds, so a large message
//! arriving in small pieces costs no more than its length.

use serde_json::Value;

/// Deepest nesting of arrays and objects; what serde_json allows too.
pub const MAX_DEPTH: usize = 120;
/// Bytes of buffer kept while nothing is in it: a peer that once sent much may be idle from then on.
const KEPT: usize = 1 << 10;

/// Why a stream cannot be read on. There is no way to go on behind such an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Longer than the bound.
    #[error("message is longer than {0} bytes, the most allowed")]
    TooLong(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("message nests arrays and objects deeper than {MAX_DEPTH} levels, the most allowed")]
    TooDeep,
    /// Something else than an object or array where a message should begin.
    #[error("message begins with byte 0x{0:02x}, but must be a JSON object or array")]
    BadStart(u8),
    /// Not JSON.
    #[error("message is not JSON: {0}")]
    Syntax(String),
}

/// The cutter.
#[derive(Debug)]
pub struct JsonStream {
    buf: Vec<u8>,
    /// Where the current message begins.
    start: usize,
    /// How far it has been looked at.
    pos: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    max_len: usize,
}

impl JsonStream {
    /// A cutter that refuses messages longer than `max_len` bytes.
    pub fn new(max_len: usize) -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            pos: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            max_len,
        }
    }

    /// Adds bytes from the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 1 << 16 {
            self.buf.drain(..self.start);
            self.pos -= self.start;
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// True where a message has begun but not ended.
    pub fn is_mid_message(&self) -> bool {
        self.depth > 0
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// See [`StreamError`]; the stream is lost then.
    pub fn next_message(&mut self) -> Result<Option<Value>, StreamError> {
        while self.pos < self.buf.len() {
            if self.in_string && !self.escaped {
                // Most of a message is in strings.
                match memchr::memchr2(b'"', b'\\', &self.buf[self.pos..]) {
                    Some(n) => self.pos += n,
                    None => {
                        self.pos = self.buf.len();
                        break;
                    }
                }
            }
            let b = self.buf[self.pos];
            self.pos += 1;
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                } else if b == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_string = false;
                }
                continue;
            }
            if self.depth == 0 {
                match b {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.start = self.pos;
                        continue;
                    }
                    b'{' | b'[' => self.depth = 1,
                    _ => return Err(StreamError::BadStart(b)),
                }
                continue;
            }
            match b {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(StreamError::TooDeep);
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let text = &self.buf[self.start..self.pos];
                        if text.len() > self.max_len {
                            return Err(StreamError::TooLong(self.max_len));
                        }
                        let value = serde_json::from_slice(text)
                            .map_err(|e| StreamError::Syntax(e.to_string()))?;
                        self.start = self.pos;
                        return Ok(Some(value));
                    }
                }
                _ => {}
            }
        }
        if self.buf.len() - self.start > self.max_len {
            return Err(StreamError::TooLong(self.max_len));
        }
        if self.start == self.buf.len() {
            self.buf.clear();
            self.buf.shrink_to(KEPT);
            (self.start, self.pos) = (0, 0);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cuts_at_any_place() {
        let text = br#" {"a":"}\"{"}[1,[2]]  {"b":{}}"#;
        for step in 1..text.len() {
            let mut s = JsonStream::new(1000);
            let mut out = Vec::new();
            for piece in text.chunks(step) {
                s.feed(piece);
                while let Some(v) = s.next_message().unwrap() {
                    out.push(v);
                }
            }
            assert_eq!(
                out,
                [json!({"a": "}\"{"}), json!([1, [2]]), json!({"b": {}})]
            );
            assert!(!s.is_mid_message());
        }
    }

    #[test]
    fn an_idle_peer_holds_no_buffer() {
        let mut s = JsonStream::new(1 << 20);
        let long = json!(["x".repeat(100_000)]);
        for more in ["", " ", "\n"] {
            s.feed(format!("{long}{more}").as_bytes());
            assert_eq!(s.next_message().unwrap().as_ref(), Some(&long));
            assert_eq!(s.next_message(), Ok(None));
            assert!(s.buf.capacity() <= KEPT, "{}", s.buf.capacity());
        }
        // Half a message is kept.
        s.feed(b"[1");
        assert_eq!(s.next_message(), Ok(None));
        s.feed(b"]");
        assert_eq!(s.next_message(), Ok(Some(json!([1]))));
    }

    #[test]
    fn bounds_hold() {
        let mut s = JsonStream::new(10);
        s.feed(b"{\"aaaaaaaaaaaaa");
        assert_eq!(s.next_message(), Err(StreamError::TooLong(10)));
        let mut s = JsonStream::new(1000);
        s.feed(&[b'['; 500]);
        assert_eq!(s.next_message(), Err(StreamError::TooDeep));
        let mut s = JsonStream::new(1000);
        s.feed(b"  x");
        assert_eq!(s.next_message(), Err(StreamError::BadStart(b'x')));
        let mut s = JsonStream::new(1000);
        s.feed(b"{]");
        assert!(matches!(s.next_message(), Err(StreamError::Syntax(_))));
    }
}
