//! A small KVM monitor whose network card is a vhost-user port.
//!
//! It starts Linux (bzImage or ELF vmlinux) and a guest of its own ([`Kernel::BuiltinGuest`])
//! with nothing but memory, a serial console and network cards. The queues of a card belong to a
//! switch at the other end of a vhost-user socket; kicks and interrupts pass by eventfd, so that
//! the monitor is out of the way of every packet. Where there is no KVM, [`ProcessGuest`] runs
//! the program of the built-in guest as a thread, with the same card, the same driver and the
//! same commands.
//!
//! ```no_run
//! use vmm_net::{Guest, Kernel, MacAddr, NicConfig, VhostUserSocket, Vm, VmConfig};
//!
//! let args = "name=vm1 ip=10.0.0.1".to_owned();
//! let socket = VhostUserSocket::Listen("/run/weir/vm1.p1.vhost".into());
//! let config = VmConfig::new("vm1", Kernel::BuiltinGuest { args })
//!     .nic(NicConfig::new(socket, MacAddr::for_guest("vm1", 0)));
//! let vm = Vm::start(&config)?;
//! vm.console().write_input(b"ping 10.0.0.2 count=5\n").unwrap();
//! let mut lines = vm.console().reader();
//! println!("{:?}", lines.wait_for("ping-done", std::time::Duration::from_secs(10)));
//! vm.stop();
//! println!("{}", vm.wait());
//! # Ok::<(), vmm_net::Error>(())
//! ```
//!
//! Where to find what: [`config`] what a guest is to be; `core` its life from outside (console,
//! control socket, end); `kvm/` processors, loading, ACPI tables; [`virtio`] the card as the guest
//! sees it; [`vhost_user`] the card as the switch sees it; `process` the guest without KVM;
//! `guest/` the program in the box.
//!
//! # Threads
//!
//! Per guest: one per vCPU, one that waits for the end and cleans up, one for the control socket
//! and some for the console if wanted; per card: one that talks to the switch, one that relays
//! interrupts. No lock is held on a packet's way.

pub mod config;
pub mod console;
mod core;
mod error;
#[cfg(target_arch = "x86_64")]
mod kvm;
pub mod memory;
mod poll;
mod process;
pub mod vhost_user;
pub mod virtio;

pub use config::{ConsoleConfig, Kernel, MacAddr, NicConfig, VhostUserSocket, VmConfig};
pub use console::{Console, ConsoleReader};
pub use core::{Exit, Guest, GuestStatus};
pub use error::{Error, Result};
#[cfg(target_arch = "x86_64")]
pub use kvm::{Vm, kvm_usable, kvm_warning};
pub use process::ProcessGuest;
