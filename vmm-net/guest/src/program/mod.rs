//! The program of the built-in guest: a virtio-net driver, a small IPv4 stack, and commands on
//! the console. It needs no allocator and no operating system, only a [`Platform`].
//!
//! There are two platforms: a virtual machine of our own (`guest/src/main.rs`), and a thread of
//! an ordinary process for hosts without KVM (`vmm-net/src/process.rs`). Driver and application
//! are the same source in both.

pub mod app;
pub mod driver;
pub mod net;
pub mod text;

/// What the program needs from whatever it runs on.
pub trait Platform {
    /// A pointer to guest-physical memory `addr..addr + len`, if all of it may be used for rings
    /// and buffers.
    fn ram(&self, addr: u64, len: usize) -> Option<*mut u8>;
    /// The guest-physical range for rings and buffers; it is zero at the start.
    fn heap(&self) -> (u64, u64);
    /// Reads a register of the virtio-mmio device (virtio 1.2 4.2.2).
    fn reg_read(&self, offset: u64) -> u32;
    /// Writes a register of the virtio-mmio device.
    fn reg_write(&self, offset: u64, value: u32);
    /// Reads a byte of the device's configuration space.
    fn config_read(&self, offset: u64) -> u8;
    /// Tells the device that a queue has new buffers.
    fn notify(&self, queue: u16);
    /// How many interrupts of any kind there were. Read it before looking for work, then give it
    /// to [`Platform::wait`].
    fn irqs(&self) -> u64;
    /// Sleeps until the number of interrupts is not `seen`, or until `deadline` (on the clock of
    /// [`Platform::now`]); may also return early.
    fn wait(&self, seen: u64, deadline: Option<u64>);
    /// Writes to the console.
    fn console_write(&self, text: &[u8]);
    /// A number that changes when there may be console input: cheap to ask.
    fn console_ready(&self) -> u64;
    /// Takes waiting console input.
    fn console_read(&self, buf: &mut [u8]) -> usize;
    /// Nanoseconds since some start.
    fn now(&self) -> u64;
    /// Whether the program is to end.
    fn stopped(&self) -> bool;
}
