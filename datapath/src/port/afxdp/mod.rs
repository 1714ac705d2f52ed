//! `afxdp`: an interface that exists without us, by AF_XDP.
//!
//! Small frames cost much less this way than by a packet socket; frames are those of the wire, though: none of TCP's 64 KB. What
//! the peer of a virtual interface left undone is known by looking (`undone.rs`), what a guest left undone is done here. A queue
//! of the interface belongs to the port whole: the host sees nothing of what comes by it. What becomes of the interface is told in
//! `device.rs`, rings and program in `sys/xdp/`.

mod undone;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::device::{Attachment, Control, Device, Hold, Refusal};
use super::{InterfaceConfig, OpenPort, PortContext, PortError, RxQueue, TxOutcome, TxQueue};
use crate::packet::{Batch, Offload, OwnedPacket};
use crate::sys::link::LinkState;
use crate::sys::xdp::{Attach, Bind, Redirect, XskReader, XskSocket, XskWriter};

/// `options:xdp-mode` (ovs-vswitchd.conf.db(5)), and what each stands for, best first.
const MODES: [(&str, Attach, bool); 3] = [
    ("native-with-zerocopy", Attach::Native, true),
    ("native", Attach::Native, false),
    ("generic", Attach::Generic, false),
];
/// The first of them that works.
const BEST_EFFORT: &str = "best-effort";

/// What the options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// A name of [`MODES`], or none for the first that works.
    mode: Option<&'static str>,
    need_wakeup: bool,
    queues: u16,
}

impl Wanted {
    fn read(config: &InterfaceConfig) -> Result<Wanted, PortError> {
        let problem = |option: &str, problem: String| PortError::Option {
            name: config.name.clone(),
            option: option.to_owned(),
            problem,
        };
        let mut wanted = Wanted {
            mode: None,
            need_wakeup: true,
            queues: config.n_rxq.unwrap_or(1),
        };
        for (option, value) in &config.options {
            match option.as_str() {
                "xdp-mode" if value == BEST_EFFORT => {}
                "xdp-mode" => {
                    let known = MODES.iter().find(|(name, ..)| name == value);
                    let names = MODES.map(|(name, ..)| name).join(", ");
                    wanted.mode = Some(known.map(|(name, ..)| *name).ok_or_else(|| {
                        let text = format!("\"{value}\" is none of {BEST_EFFORT}, {names}");
                        problem(option, text)
                    })?);
                }
                "use-need-wakeup" => {
                    wanted.need_wakeup = value.parse().map_err(|_| {
                        problem(option, format!("\"{value}\" is neither true nor false"))
                    })?;
                }
                "n_rxq" => {}
                _ => {
                    let text = "type afxdp takes xdp-mode, use-need-wakeup and n_rxq";
                    return Err(problem(option, text.to_owned()));
                }
            }
        }
        Ok(wanted)
    }
}

/// The program on the interface, and a socket for each receive queue.
struct Xsk {
    mode: &'static str,
    /// Whether frames may come with checksums to be filled in: the kernel copies for virtual interfaces only.
    checks: bool,
    sockets: Vec<XskSocket>,
    _program: Redirect,
}

const ATTACH: &str = "attach an XDP program";
const BIND: &str = "bind to the interface's queues";

/// What to do about the errors that opening usually meets.
fn explain(mode: &str, what: &str, error: &io::Error, queues: usize) -> String {
    match (what, error.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => {
            format!("{what} (needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF)")
        }
        (ATTACH, Some(libc::EBUSY | libc::EEXIST)) => {
            format!("{what} (another one is attached: see \"ip link\")")
        }
        (BIND, Some(libc::EINVAL)) => {
            format!("{what} (has the interface {queues} queues? see \"ethtool -l\")")
        }
        (BIND, Some(libc::EBUSY)) => format!("{what} (another program uses one)"),
        _ => format!("{what} in {mode} mode"),
    }
}

impl Xsk {
    /// Binds a socket to each queue and gives it what comes by it.
    fn bind(
        state: &LinkState,
        queues: usize,
        wanted: &Wanted,
        zerocopy: bool,
        program: &Redirect,
    ) -> io::Result<Vec<XskSocket>> {
        let all = Bind {
            zerocopy,
            need_wakeup: wanted.need_wakeup,
            long_frames: program.long_frames(),
        };
        // Older kernels cannot do all of it.
        let less = Bind {
            long_frames: false,
            ..all
        };
        let least = Bind {
            need_wakeup: false,
            ..less
        };
        let open = |queue| {
            let mut last = io::Error::from(io::ErrorKind::Unsupported);
            for way in [all, less, least] {
                match XskSocket::open(state.index, queue, way) {
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                        last = e;
                    }
                    done => return done,
                }
            }
            Err(last)
        };
        let sockets: Vec<XskSocket> = (0..queues as u32).map(open).collect::<Result<_, _>>()?;
        for (queue, socket) in sockets.iter().enumerate() {
            program.set(queue as u32, socket.as_raw_fd())?;
        }
        Ok(sockets)
    }
}

impl Attachment for Xsk {
    type Wanted = Wanted;

    fn open(state: &LinkState, queues: usize, wanted: &Wanted) -> Result<Xsk, Refusal> {
        let mut last = None;
        let mut attached: Option<(Attach, Redirect)> = None;
        for (mode, attach, zerocopy) in MODES {
            if wanted.mode.is_some_and(|name| name != mode) {
                continue;
            }
            let refuse = |what: &str, e: io::Error| (explain(mode, what, &e, queues), e);
            // With and without copying the program is the same.
            let before = attached.take().filter(|(how, _)| *how == attach);
            let program = match before {
                Some((_, program)) => Ok(program),
                None => Redirect::attach(state.index, attach, queues as u32),
            };
            let program = match program {
                Ok(program) => program,
                // No other mode would be allowed either, nor be alone on the interface.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EPERM | libc::EBUSY | libc::EEXIST)
                    ) =>
                {
                    return Err(refuse(ATTACH, e));
                }
                Err(e) => {
                    last = Some(refuse(ATTACH, e));
                    continue;
                }
            };
            match Xsk::bind(state, queues, wanted, zerocopy, &program) {
                Ok(sockets) => {
                    return Ok(Xsk {
                        mode,
                        checks: !zerocopy,
                        sockets,
                        _program: program,
                    });
                }
                Err(e) => last = Some(refuse(BIND, e)),
            }
            attached = Some((attach, program));
        }
        Err(last.expect("there are modes, and one of them is asked for"))
    }

    fn wake_fd(&self, queue: usize) -> RawFd {
        self.sockets[queue].as_raw_fd()
    }

    fn dropped(&self) -> u64 {
        // Told by queue, see `count`.
        0
    }

    fn describe(&self, status: &mut BTreeMap<String, String>) {
        status.insert("xdp-mode-in-use".to_owned(), self.mode.to_owned());
        status.insert("n_rxq".to_owned(), self.sockets.len().to_string());
    }

    fn count(&self, counters: &mut BTreeMap<String, u64>) {
        for (queue, socket) in self.sockets.iter().enumerate() {
            let s = socket.statistics();
            let dropped = s.rx_dropped + s.rx_ring_full + s.rx_fill_ring_empty_descs;
            for (name, n) in [
                ("rx_dropped", dropped),
                ("rx_invalid_descs", s.rx_invalid_descs),
                ("tx_invalid_descs", s.tx_invalid_descs),
            ] {
                counters.insert(format!("xsk_queue_{queue}_{name}"), n);
            }
        }
    }
}

/// Opens a port of type `afxdp` or `afxdp-nonpmd`: all of our threads sleep and wake alike.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    let device: Arc<Device<Xsk>> = Device::open(config, context, Wanted::read(config)?)?;
    let rx = (0..device.queues()).map(|queue| {
        Box::new(Rx {
            hold: Hold::new(&device),
            queue,
            reader: XskReader::default(),
        }) as Box<dyn RxQueue>
    });
    let tx = (0..device.queues()).map(|queue| {
        let mut writer = XskWriter::default();
        writer.restart();
        Box::new(Tx {
            hold: Hold::new(&device),
            queue,
            writer,
        }) as Box<dyn TxQueue>
    });
    Ok(OpenPort {
        rx: rx.collect(),
        tx: tx.collect(),
        port: Arc::new(Control {
            device,
            check: |had, config| match &Wanted::read(config)? == had {
                true => Ok(()),
                false => Err(PortError::Other(format!(
                    "{}: other options need the port to be opened anew",
                    config.name
                ))),
            },
        }),
    })
}

struct Rx {
    hold: Hold<Xsk>,
    queue: usize,
    reader: XskReader,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if self.hold.is_new() {
            self.reader.restart();
        }
        let Some(xsk) = &self.hold.current else {
            return 0;
        };
        let socket = &xsk.sockets[self.queue];
        let max = self.hold.device.max_frame();
        let checks = xsk.checks;
        let n = self.reader.read(socket, batch, |head, len| match checks {
            true => undone::left_undone(head, len, max),
            false => Offload::default(),
        });
        self.hold.device.tell(self.queue, self.reader.bad(), 0);
        n
    }

    fn release(&mut self) {
        if let Some(xsk) = &self.hold.current {
            self.reader.release(&xsk.sockets[self.queue]);
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
    hold: Hold<Xsk>,
    queue: usize,
    writer: XskWriter,
}

impl Tx {
    fn renew(&mut self) {
        if self.hold.is_new() {
            self.writer.restart();
        }
    }
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.renew();
        let max = self.hold.device.max_frame();
        match &self.hold.current {
            Some(xsk) => {
                let socket = &xsk.sockets[self.queue];
                self.writer.send(socket, batch, which, max, &mut out);
            }
            None => out.down = which.len() as u32,
        }
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.renew();
        let max = self.hold.device.max_frame();
        match &self.hold.current {
            Some(xsk) => {
                let socket = &xsk.sockets[self.queue];
                self.writer.send_owned(socket, packet, max, &mut out);
            }
            None => out.down = 1,
        }
        out
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests;
