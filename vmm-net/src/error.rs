//! What can go wrong in the monitor.

use std::io;

/// An error of the monitor; the text says what was wrong with which value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something that cannot be.
    #[error("{0}")]
    Config(String),
    /// KVM is not there or refuses.
    #[error("KVM: {0}")]
    Kvm(String),
    /// A file, socket or other thing of the system failed.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// Guest memory cannot be had, or something does not fit into it.
    #[error("guest memory: {0}")]
    Memory(String),
    /// The kernel or its initial file system cannot be loaded.
    #[error("kernel: {0}")]
    Kernel(String),
    /// The vhost-user backend says something unacceptable.
    #[error("vhost-user: {0}")]
    VhostUser(String),
}

/// Result with the monitor's error.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    /// Makes it an [`Error::Io`] that begins with `what`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Io(what(), e))
    }
}
