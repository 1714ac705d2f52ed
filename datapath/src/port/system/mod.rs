//! `system`: an interface that exists without us (a network card, a veth), by packet sockets with a receive ring.
//!
//! The interface is promiscuous as long as the port is open. Frames come and go with virtio-net headers: what the sender's kernel left
//! undone (a checksum, the segmentation of 64 KB of TCP) crosses the switch undone. With `options:n_rxq` above one there are as many
//! sockets, among which the kernel spreads frames by flow. What becomes of the interface is told in `device.rs`.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::device::{Attachment, Control, Device, Hold, Refusal};
use super::{InterfaceConfig, OpenPort, PortContext, PortError, RxQueue, TxOutcome, TxQueue};
use crate::packet::{Batch, OwnedPacket};
use crate::sys::frames::FrameWriter;
use crate::sys::link::LinkState;
use crate::sys::packet_ring::RingReader;
use crate::sys::packet_socket::PacketSocket;

/// Packet sockets, one for each receive queue.
struct Sockets(Vec<PacketSocket>);

/// What to do about the errors that opening usually meets.
fn explain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "open a packet socket (needs CAP_NET_RAW)",
        _ => "open network device",
    }
}

impl Attachment for Sockets {
    type Wanted = ();

    fn open(state: &LinkState, queues: usize, (): &()) -> Result<Sockets, Refusal> {
        PacketSocket::open_group(state.index, queues)
            .map(Sockets)
            .map_err(|e| (explain(&e).to_owned(), e))
    }

    fn wake_fd(&self, queue: usize) -> RawFd {
        self.0[queue].as_raw_fd()
    }

    fn dropped(&self) -> u64 {
        self.0.iter().map(PacketSocket::dropped).sum()
    }

    fn link_changed(&self) {
        self.0.iter().for_each(PacketSocket::clear_error);
    }
}

fn check_options(config: &InterfaceConfig) -> Result<(), PortError> {
    match config.options.keys().find(|k| *k != "n_rxq") {
        None => Ok(()),
        Some(option) => Err(PortError::Option {
            name: config.name.clone(),
            option: option.clone(),
            problem: "type system takes no options but n_rxq".into(),
        }),
    }
}

/// Opens a port of type `system` or of no type.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    check_options(config)?;
    let device = Device::open(config, context, ())?;
    let rx = (0..device.queues()).map(|queue| {
        Box::new(Rx {
            hold: Hold::new(&device),
            queue,
            reader: RingReader::new(),
        }) as Box<dyn RxQueue>
    });
    // A socket takes frames of any number of threads.
    let tx = (0..context.threads.max(1)).map(|_| {
        Box::new(Tx {
            hold: Hold::new(&device),
            writer: FrameWriter::new(),
        }) as Box<dyn TxQueue>
    });
    Ok(OpenPort {
        rx: rx.collect(),
        tx: tx.collect(),
        port: Arc::new(Control {
            device,
            check: |(), config| check_options(config),
        }),
    })
}

struct Rx {
    hold: Hold<Sockets>,
    queue: usize,
    reader: RingReader,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if self.hold.is_new() {
            self.reader.restart();
        }
        let Some(sockets) = &self.hold.current else {
            return 0;
        };
        let n = self.reader.read(&sockets.0[self.queue], batch);
        let (bad, missed) = (self.reader.bad(), self.reader.missed());
        self.hold.device.tell(self.queue, bad, missed);
        n
    }

    fn release(&mut self) {
        if let Some(sockets) = &self.hold.current {
            self.reader.release(&sockets.0[self.queue]);
        }
    }

    fn arm(&mut self) -> bool {
        // The socket is readable as long as a frame waits; only a new one has to be noticed first.
        if self.hold.is_new() {
            self.reader.restart();
        }
        false
    }

    fn disarm(&mut self) {}

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.hold.device.wake_fd(self.queue))
    }
}

struct Tx {
    hold: Hold<Sockets>,
    writer: FrameWriter,
}

impl Tx {
    fn fd(&mut self) -> Option<RawFd> {
        self.hold.is_new();
        self.hold.current.as_ref().map(|s| s.0[0].as_raw_fd())
    }
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max = self.hold.device.max_frame();
        match self.fd() {
            Some(fd) => self.writer.write_socket(fd, batch, which, max, &mut out),
            None => out.down = which.len() as u32,
        }
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max = self.hold.device.max_frame();
        match self.fd() {
            Some(fd) => self.writer.write_socket_owned(fd, packet, max, &mut out),
            None => out.down = 1,
        }
        out
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests;
