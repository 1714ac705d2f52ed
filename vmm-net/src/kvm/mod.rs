//! Guests as virtual machines under KVM on x86-64.
//!
//! The machine: up to 254 processors, in-kernel interrupt controllers and timer, one serial
//! port, virtio-mmio network cards, ACPI tables, and a few I/O ports for power off and reset. A
//! vCPU is a thread that runs `KVM_RUN` and serves the exits of the slow path; packets cause none
//! (kicks are ioeventfds, interrupts irqfds).

mod acpi;
mod cpu;
mod layout;
mod loader;
mod serial;

use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::{
    KVM_API_VERSION, KVM_PIT_SPEAKER_DUMMY, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use tracing::{debug, info, warn};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use self::serial::Com1;
use crate::config::{Kernel, VmConfig};
use crate::console::{Console, spawn};
use crate::core::{Core, Exit, Guest, GuestStatus, supervise};
use crate::error::{Error, Result};
use crate::memory::GuestRam;
use crate::poll::eventfd;
use crate::virtio::mmio::{MmioInterrupt, MmioTransport, QUEUE_NOTIFY, WINDOW};
use crate::virtio::net::VhostUserNet;

/// How often a vCPU that does not notice its end is signalled.
const KNOCK: Duration = Duration::from_millis(2);

/// Names the KVM call that failed.
fn kvm_error(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |e| Error::Kvm(format!("{what}: {e}"))
}

/// Opens `/dev/kvm` and checks that it has what the monitor needs.
fn open_kvm() -> std::result::Result<Kvm, String> {
    let kvm = Kvm::new().map_err(|e| {
        let hint = match e.errno() {
            libc::ENOENT => "; is the kernel module loaded and virtualisation on in the firmware?",
            libc::EACCES | libc::EPERM => "; is the user in the group kvm?",
            _ => "",
        };
        format!("/dev/kvm: {e}{hint}")
    })?;
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION as i32 {
        return Err(format!(
            "KVM has API version {version}, not {KVM_API_VERSION}"
        ));
    }
    for (cap, name) in [
        (Cap::Irqchip, "in-kernel interrupt controllers"),
        (Cap::Irqfd, "irqfd"),
        (Cap::Ioeventfd, "ioeventfd"),
        (Cap::Pit2, "an in-kernel timer"),
        (Cap::UserMemory, "user memory"),
    ] {
        if !kvm.check_extension(cap) {
            return Err(format!("this KVM has no {name}"));
        }
    }
    Ok(kvm)
}

/// Whether virtual machines can be started here.
///
/// # Errors
/// Why not.
pub fn kvm_usable() -> std::result::Result<(), String> {
    let kvm = open_kvm()?;
    kvm.create_vm()
        .map(drop)
        .map_err(|e| format!("KVM cannot make a virtual machine: {e}"))
}

/// What is to be said about KVM on this host although it is usable: without hardware
/// virtualisation it runs guest kernels by emulation, which Linux does not survive.
pub fn kvm_warning() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let hardware = info
        .lines()
        .filter(|l| l.starts_with("flags"))
        .flat_map(str::split_ascii_whitespace)
        .any(|flag| matches!(flag, "vmx" | "svm"));
    (!hardware).then(|| {
        "this host's processor has neither vmx nor svm: its KVM emulates guest kernels, which is \
         very slow and not enough for Linux (the built-in guest does run)"
            .into()
    })
}

/// A virtual machine.
pub struct Vm {
    core: Arc<Core>,
}

/// What exits of the vCPUs may reach.
struct Devices {
    core: Arc<Core>,
    com1: Arc<Com1>,
    cards: Vec<Mutex<MmioTransport>>,
}

/// A vCPU thread and how to knock at it.
struct VcpuThread {
    handle: JoinHandle<()>,
    id: libc::pthread_t,
}

impl Vm {
    /// Starts a virtual machine. Its console and sockets are there when this returns; the guest
    /// itself starts when the switches have connected (see [`VmConfig::wait_backend`]).
    ///
    /// # Errors
    /// When the configuration is wrong, or KVM, memory, kernel or sockets cannot be had.
    pub fn start(config: &VmConfig) -> Result<Self> {
        config.check()?;
        let kvm = open_kvm().map_err(Error::Kvm)?;
        if let Some(text) = kvm_warning() {
            warn!("{text}");
        }
        if matches!(config.kernel, Kernel::BuiltinGuest { .. }) && config.nics.len() != 1 {
            return Err(Error::Config(format!(
                "the built-in guest has one network card, not {}",
                config.nics.len()
            )));
        }
        let max = kvm.get_max_vcpus();
        if usize::from(config.vcpus) > max {
            return Err(Error::Config(format!(
                "{} vCPUs: this KVM has up to {max}",
                config.vcpus
            )));
        }
        let ram = GuestRam::new(config.memory, config.hugetlb)?;
        let core = Core::new(config, "kvm", &ram)?;
        let started = Self::build(config, &kvm, ram, &core);
        if started.is_err() {
            core.abandon();
        }
        started.map(|()| Vm { core })
    }

    fn build(config: &VmConfig, kvm: &Kvm, ram: GuestRam, core: &Arc<Core>) -> Result<()> {
        let vm = kvm.create_vm().map_err(kvm_error("KVM_CREATE_VM"))?;
        vm.set_tss_address(layout::KVM_TSS)
            .map_err(kvm_error("KVM_SET_TSS_ADDR"))?;
        for (slot, (start, len)) in (0..).zip(ram.ranges()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: start,
                memory_size: len,
                userspace_addr: ram.host_address(start, len).unwrap_or_default(),
            };
            // SAFETY: the range is mapped for as long as `ram`, which the vCPU threads hold until
            // the machine is gone; slots do not overlap.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(kvm_error("KVM_SET_USER_MEMORY_REGION"))?;
        }
        vm.create_irq_chip()
            .map_err(kvm_error("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(pit).map_err(kvm_error("KVM_CREATE_PIT2"))?;

        let line = |gsi: u32| -> Result<EventFd> {
            let fd = eventfd()?;
            vm.register_irqfd(&fd, gsi)
                .map_err(kvm_error("KVM_IRQFD"))?;
            Ok(fd)
        };
        let com1 = Com1::new(line(layout::COM1_GSI)?, core.console.clone());
        let mut cards = Vec::new();
        for (i, nic) in config.nics.iter().enumerate() {
            let link = core.links[i].clone();
            let notify = IoEventAddress::Mmio(layout::mmio_base(i) + QUEUE_NOTIFY);
            for (queue, kick) in (0u32..).zip(VhostUserNet::kicks(&link)) {
                vm.register_ioevent(kick, &notify, queue)
                    .map_err(kvm_error("KVM_IOEVENTFD"))?;
            }
            let interrupt = MmioInterrupt::new(line(layout::gsi(i))?);
            let card = VhostUserNet::new(nic, ram.clone(), link);
            cards.push(Mutex::new(MmioTransport::new(
                Box::new(card),
                interrupt,
                ram.clone(),
            )));
        }
        let devices = Arc::new(Devices {
            core: core.clone(),
            com1: com1.clone(),
            cards,
        });

        let cpuid = cpu::cpuid(kvm)?;
        let mut vcpus = Vec::new();
        for id in 0..config.vcpus {
            let vcpu = vm
                .create_vcpu(u64::from(id))
                .map_err(kvm_error("KVM_CREATE_VCPU"))?;
            cpu::set_cpuid(kvm, &vcpu, &cpuid, id, config.vcpus)?;
            cpu::common(&vcpu)?;
            vcpus.push(vcpu);
        }
        let tsc_khz = vcpus[0]
            .get_tsc_khz()
            .map_err(kvm_error("KVM_GET_TSC_KHZ"))?;
        let entry = loader::load(&ram, config, tsc_khz)?;
        cpu::boot(&vcpus[0], &ram, entry)?;

        register_signal_handler(SIGRTMIN(), knocked)
            .map_err(|e| Error::Kvm(format!("signal handler: {e}")))?;
        core.console.on_input(move || com1.typed());
        Self::run(config, core, vm, ram, devices, vcpus)
    }

    /// Starts the threads.
    fn run(
        config: &VmConfig,
        core: &Arc<Core>,
        vm: VmFd,
        ram: GuestRam,
        devices: Arc<Devices>,
        vcpus: Vec<VcpuFd>,
    ) -> Result<()> {
        // Nobody runs before the links are frozen: the last to reach the gate opens it.
        let gate = Arc::new(Barrier::new(vcpus.len() + 1));
        let mut threads = Vec::new();
        for (id, vcpu) in vcpus.into_iter().enumerate() {
            let (devices, ram, gate) = (devices.clone(), ram.clone(), gate.clone());
            let handle = spawn(&format!("vcpu{id}"), move || {
                gate.wait();
                run_vcpu(vcpu, id, &devices, &ram);
            })?;
            let id = std::os::unix::thread::JoinHandleExt::as_pthread_t(&handle);
            threads.push(VcpuThread { handle, id });
        }
        let (opener, config2) = (core.clone(), config.clone());
        let opener = spawn("guest-start", move || {
            opener.freeze_links(&config2);
            gate.wait();
            info!("guest {} starts", opener.name);
        })?;
        supervise(core, config, move || {
            let _ = opener.join();
            for thread in threads {
                while !thread.handle.is_finished() {
                    // SAFETY: the thread has not been joined, so its id is valid; the handler does
                    // nothing, the signal only interrupts KVM_RUN.
                    unsafe { libc::pthread_kill(thread.id, SIGRTMIN()) };
                    std::thread::sleep(KNOCK);
                }
                let _ = thread.handle.join();
            }
            // Eventfds and memory slots go before the links take their eventfds back.
            drop(devices);
            drop(vm);
            drop(ram);
        })
    }
}

impl Guest for Vm {
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

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
        self.wait();
    }
}

/// The signal's only purpose is to interrupt `KVM_RUN`.
extern "C" fn knocked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// A vCPU's life.
fn run_vcpu(mut vcpu: VcpuFd, id: usize, devices: &Devices, ram: &GuestRam) {
    while !devices.core.is_over() {
        let failure = match vcpu.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                for byte in data {
                    *byte = devices.port_read(port);
                }
                continue;
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                for &byte in data {
                    devices.port_write(port, byte);
                }
                continue;
            }
            Ok(VcpuExit::MmioRead(addr, data)) => {
                devices.mmio_read(addr, data);
                continue;
            }
            Ok(VcpuExit::MmioWrite(addr, data)) => {
                devices.mmio_write(addr, data);
                continue;
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                devices.core.end(Exit::Poweroff);
                continue;
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                devices.core.end(Exit::Reset);
                continue;
            }
            Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => continue,
            Ok(VcpuExit::Shutdown) => "triple fault".to_owned(),
            Ok(VcpuExit::InternalError) => "KVM cannot emulate an instruction".to_owned(),
            Ok(VcpuExit::FailEntry(reason, _)) => {
                format!("the processor refuses the guest's state (reason {reason:#x})")
            }
            Ok(VcpuExit::SystemEvent(kind, _)) => format!("the guest crashed (event {kind})"),
            Ok(other) => format!("unexpected exit {other:?}"),
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => continue,
            Err(e) => format!("KVM_RUN: {e}"),
        };
        let text = format!("vCPU {id}: {failure}{}", whereabouts(&vcpu, ram));
        warn!("guest {}: {text}", devices.core.name);
        devices.core.end(Exit::Failed(text));
    }
}

/// Where a processor is: instruction pointer, privilege level, the bytes there.
fn whereabouts(vcpu: &VcpuFd, ram: &GuestRam) -> String {
    let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        return String::new();
    };
    let mut code = [0; 15];
    let linear = match sregs.cs.l {
        0 => sregs.cs.base.wrapping_add(regs.rip),
        _ => regs.rip,
    };
    let bytes = vcpu
        .translate_gva(linear)
        .ok()
        .filter(|t| t.valid != 0)
        .and_then(|t| {
            ram.mem()
                .read(&mut code, GuestAddress(t.physical_address))
                .ok()
        })
        .map_or("unreadable".to_owned(), |n| {
            let hex: Vec<_> = code[..n].iter().map(|b| format!("{b:02x}")).collect();
            hex.join(" ")
        });
    format!(
        " at rip {:#x}, CPL {}, instruction bytes {bytes}",
        regs.rip, sregs.ss.dpl
    )
}

impl Devices {
    fn port_read(&self, port: u16) -> u8 {
        match port {
            p if (layout::COM1..layout::COM1 + 8).contains(&p) => {
                self.com1.read((p - layout::COM1) as u8)
            }
            // The keyboard controller is never busy; sleep status has nothing to say.
            layout::KEYBOARD | layout::SLEEP_STATUS | layout::SLEEP_CONTROL => 0,
            _ => 0xff, // nobody there
        }
    }

    fn port_write(&self, port: u16, value: u8) {
        match (port, value) {
            (p, _) if (layout::COM1..layout::COM1 + 8).contains(&p) => {
                self.com1.write((p - layout::COM1) as u8, value);
            }
            (layout::SLEEP_CONTROL, layout::SLEEP_S5) => self.core.end(Exit::Poweroff),
            (layout::RESET, layout::RESET_VALUE) | (layout::KEYBOARD, 0xfe) => {
                self.core.end(Exit::Reset);
            }
            _ => {}
        }
    }

    /// The card whose window `addr` is in, and the offset there.
    fn card(&self, addr: u64) -> Option<(&Mutex<MmioTransport>, u64)> {
        let offset = addr.checked_sub(layout::MMIO)?;
        let card = self.cards.get(usize::try_from(offset / WINDOW).ok()?)?;
        Some((card, offset % WINDOW))
    }

    fn mmio_read(&self, addr: u64, data: &mut [u8]) {
        match self.card(addr) {
            Some((card, offset)) => card
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .read(offset, data),
            None => data.fill(0xff),
        }
    }

    fn mmio_write(&self, addr: u64, data: &[u8]) {
        match self.card(addr) {
            Some((card, offset)) => card
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .write(offset, data),
            None => debug!("write of {} bytes to {addr:#x}: nobody there", data.len()),
        }
    }
}
