//! AF_XDP: frames straight from a driver's receive path into memory of ours, and back (networking/af_xdp in the kernel's documentation).
//!
//! An XDP program on the interface hands every frame of a receive queue to the socket that is bound to that queue. It is a dozen instructions,
//! written by hand in `program.rs` and loaded by bpf(2), so neither a compiler nor a library is needed. A socket has an area of memory of
//! its own, in chunks, and four rings that it shares with the kernel, each written at one end by one side: chunks to be
//! filled, chunks that were filled (*receive*), chunks to be sent (*transmit*), chunks that were sent (*completion*). The first half of
//! the area only ever receives and the second only sends, so the thread that receives and the one that sends share nothing.
//!
//! Where the driver can, it reads and writes the chunks itself (zero-copy); elsewhere the kernel copies once each way. A frame
//! longer than a chunk lies in several.

mod bpf;
mod btf;
mod program;
mod socket;

pub use bpf::{Attach, Redirect};
pub use socket::{Bind, CHUNK, XskReader, XskSocket, XskWriter};
