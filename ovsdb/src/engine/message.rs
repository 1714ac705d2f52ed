//! Messages on their way to clients.

use std::fmt;
use std::sync::Arc;

/// A JSON-RPC message in parts, so that what many clients are told is encoded once and held once:
/// a head that is the client's own (with the name it gave its monitor), a body shared with all who
/// are told the same, and a tail. Cloning one copies pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    head: Arc<str>,
    body: Arc<str>,
    tail: &'static str,
}

impl Message {
    /// A message for one client only.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self::shared("".into(), text.into(), "")
    }

    /// A message whose body others get too.
    pub fn shared(head: Arc<str>, body: Arc<str>, tail: &'static str) -> Self {
        Self { head, body, tail }
    }

    /// The texts to be sent one after the other; some may be empty.
    pub fn parts(&self) -> [&str; 3] {
        [&self.head, &self.body, self.tail]
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|p| p.len()).sum()
    }

    /// How many of them are held for this message alone: a body that others get too is not counted.
    pub fn private_len(&self) -> usize {
        match Arc::strong_count(&self.body) {
            1 => self.len(),
            _ => self.head.len(),
        }
    }

    /// True where there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|p| f.write_str(p))
    }
}
