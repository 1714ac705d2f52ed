//! The built-in guest without KVM: its program as a thread of this process.
//!
//! Program and driver are the same source as in the virtual machine. So is the card: the
//! driver's register accesses go to the same virtio-mmio transport, called instead of trapped,
//! and its rings lie in the same kind of shared memory, so that a switch cannot tell the
//! difference.

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use crate::config::{Kernel, VmConfig};
use crate::console::{Console, spawn};
use crate::core::{Core, Exit, Guest, GuestStatus, supervise};
use crate::error::{Context, Error, Result};
use crate::memory::GuestRam;
use crate::poll::{self, Wake, eventfd};
use crate::virtio::mmio::{MmioInterrupt, MmioTransport};
use crate::virtio::net::VhostUserNet;

#[path = "../guest/src/program/mod.rs"]
mod program;

/// Where rings and buffers lie in the guest's memory.
const HEAP: u64 = 1 << 20;

/// The built-in guest as a thread.
pub struct ProcessGuest {
    core: Arc<Core>,
}

impl ProcessGuest {
    /// Starts it. `config` is the same as for a virtual machine, with [`Kernel::BuiltinGuest`]
    /// and one card.
    ///
    /// # Errors
    /// When the configuration is wrong, or memory or sockets cannot be had.
    pub fn start(config: &VmConfig) -> Result<Self> {
        config.check()?;
        let Kernel::BuiltinGuest { args } = &config.kernel else {
            return Err(Error::Config(
                "a Linux kernel needs KVM; only the built-in guest runs without it".into(),
            ));
        };
        let [nic] = &config.nics[..] else {
            return Err(Error::Config(format!(
                "the built-in guest has one network card, not {}",
                config.nics.len()
            )));
        };
        let ram = GuestRam::new(config.memory, config.hugetlb)?;
        let core = Core::new(config, "process", &ram)?;
        let started = Self::run(config, nic, args, ram, &core);
        if started.is_err() {
            core.abandon();
        }
        started.map(|()| ProcessGuest { core })
    }

    fn run(
        config: &VmConfig,
        nic: &crate::config::NicConfig,
        args: &str,
        ram: GuestRam,
        core: &Arc<Core>,
    ) -> Result<()> {
        let line = eventfd()?;
        let interrupt = MmioInterrupt::new(line.try_clone().context(|| "eventfd".into())?);
        let card = VhostUserNet::new(nic, ram.clone(), core.links[0].clone());
        let mut machine = Machine {
            core: core.clone(),
            transport: RefCell::new(MmioTransport::new(Box::new(card), interrupt, ram.clone())),
            base: ram.host_address(0, ram.low_end()).unwrap_or_default() as *mut u8,
            size: ram.low_end(),
            _ram: ram,
            line,
            typed: Arc::new((AtomicU64::new(0), Wake::new()?)),
            irqs: Cell::new(0),
            start: Instant::now(),
        };
        let typed = machine.typed.clone();
        core.console.on_input(move || {
            typed.0.fetch_add(1, Ordering::Release);
            typed.1.wake();
        });
        let (args, config2) = (args.to_owned(), config.clone());
        let thread = spawn("guest", move || {
            machine.core.freeze_links(&config2);
            program::app::run(&machine, &args);
            // The rings go away with the memory, after the switch let go of them.
            machine.transport.get_mut().write(0x70, &0u32.to_le_bytes());
            machine.core.end(Exit::Poweroff);
        })?;
        supervise(core, config, move || {
            let _ = thread.join();
        })
    }
}

impl Guest for ProcessGuest {
    fn name(&self) -> &str {
        &self.core.name
    }

    fn kind(&self) -> &'static str {
        self.core.kind
    }

    fn console(&self) -> &Arc<Console> {
        &self.core.console
    }

    fn status(&self) -> GuestStatus {
        self.core.status()
    }

    fn stop(&self) {
        self.core.end(Exit::Stopped);
    }

    fn wait(&self) -> Exit {
        self.core.wait()
    }
}

impl Drop for ProcessGuest {
    fn drop(&mut self) {
        self.stop();
        self.wait();
    }
}

/// The machine the program runs on.
struct Machine {
    core: Arc<Core>,
    transport: RefCell<MmioTransport>,
    base: *mut u8,
    size: u64,
    /// Keeps the mapping that `base` points into.
    _ram: GuestRam,
    line: EventFd,
    typed: Arc<(AtomicU64, Wake)>,
    irqs: Cell<u64>,
    start: Instant,
}

// SAFETY: `base` points into the mapping that `_ram` keeps; only the thread that owns the machine
// uses it (and the switch, as the device).
unsafe impl Send for Machine {}

impl program::Platform for Machine {
    fn ram(&self, addr: u64, len: usize) -> Option<*mut u8> {
        let end = addr.checked_add(len as u64)?;
        // SAFETY: `base` is the start of `size` mapped bytes, and the range lies in them.
        (end <= self.size).then(|| unsafe { self.base.add(addr as usize) })
    }

    fn heap(&self) -> (u64, u64) {
        (HEAP, self.size)
    }

    fn reg_read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.transport.borrow().read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn reg_write(&self, offset: u64, value: u32) {
        self.transport
            .borrow_mut()
            .write(offset, &value.to_le_bytes());
    }

    fn config_read(&self, offset: u64) -> u8 {
        let mut data = [0];
        self.transport.borrow().read(0x100 + offset, &mut data);
        data[0]
    }

    fn notify(&self, queue: u16) {
        if let Some(kick) = self.core.links[0].kicks().get(usize::from(queue)) {
            let _ = kick.write(1);
        }
    }

    fn irqs(&self) -> u64 {
        self.irqs.get()
    }

    fn wait(&self, _seen: u64, deadline: Option<u64>) {
        // What came since the program looked is still in the eventfds, so nothing is missed.
        let left = deadline.map(|d| Duration::from_nanos(d.saturating_sub(self.now())));
        let fds = [
            &self.line.as_raw_fd(),
            &self.typed.1.as_raw_fd(),
            &self.core.over_wake.as_raw_fd(),
        ]
        .map(|fd| (*fd, libc::POLLIN));
        if let Ok([interrupt, typed, _]) = poll::poll(fds, left) {
            if interrupt != 0 {
                let _ = self.line.read();
                self.irqs.set(self.irqs.get() + 1);
            }
            if typed != 0 {
                self.typed.1.clear();
            }
        }
    }

    fn console_write(&self, text: &[u8]) {
        self.core.console.output(text);
    }

    fn console_ready(&self) -> u64 {
        self.typed.0.load(Ordering::Acquire)
    }

    fn console_read(&self, buf: &mut [u8]) -> usize {
        let input = self.core.console.take_input(buf.len());
        buf[..input.len()].copy_from_slice(&input);
        input.len()
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn stopped(&self) -> bool {
        self.core.is_over()
    }
}
