//! The built-in guest of the monitor: a kernel of a hundred instructions and one program.
//!
//! It enters as a Linux kernel does (64-bit boot protocol), goes to ring 3 at once (`stub.s`)
//! and runs `program` there, with the virtio-mmio device and the interrupt controllers mapped
//! into its address space. No privilege is lost by that: there is nothing else here to protect.
//! What it needs from ring 0 (a serial port, `hlt`) it asks for by `ud2`, which works on every
//! kind of KVM.

#![no_std]
#![no_main]

mod program;

use core::arch::{asm, global_asm};
use core::fmt::Write;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicU64, Ordering};

use program::Platform;
use program::text::{Line, parse_u64};

global_asm!(include_str!("stub.s"));

unsafe extern "C" {
    static irq_total: AtomicU64;
    static irq_count_serial: AtomicU64;
}

const LAPIC: u64 = 0xfee0_0000;
const IOAPIC: u64 = 0xfec0_0000;
const COM1: u16 = 0x3f8;
/// Port of the sleep control register, and "go to S5" (see the ACPI tables of the monitor).
const SLEEP_PORT: u16 = 0x600;
const SLEEP_S5: u8 = 0x34;
/// Where rings and buffers lie: above the program.
const HEAP: u64 = 32 << 20;

fn outb(port: u16, value: u8) {
    // SAFETY: operation 4 of the ring 0 stub: writes to a port, touches no memory of ours.
    unsafe { asm!("ud2", in("rsi") 4u64, in("dx") port, in("al") value) }
}

fn inb(port: u16) -> u8 {
    let value: u64;
    // SAFETY: operation 3 of the ring 0 stub: reads a port, touches no memory of ours.
    unsafe { asm!("ud2", in("rsi") 3u64, in("dx") port, out("rax") value) }
    value as u8
}

fn mmio_read(addr: u64) -> u32 {
    // SAFETY: device registers, mapped one to one; every address used here is one.
    unsafe { read_volatile(addr as *const u32) }
}

fn mmio_write(addr: u64, value: u32) {
    // SAFETY: device registers, mapped one to one; every address used here is one.
    unsafe { write_volatile(addr as *mut u32, value) }
}

/// The machine this guest runs on.
struct Machine {
    device: u64,
    ram_end: u64,
    tsc_khz: u64,
    tsc_start: u64,
}

impl Machine {
    fn start(cmdline: &str, params: *const u8) -> Option<Machine> {
        let mut device = None;
        let mut tsc_khz = 0;
        for word in cmdline.split_ascii_whitespace() {
            if let Some(v) = word.strip_prefix("virtio_mmio.device=") {
                // SIZE@ADDRESS:INTERRUPT
                let (_, rest) = v.split_once('@')?;
                let (addr, irq) = rest.split_once(':')?;
                device.get_or_insert((parse_u64(addr)?, parse_u64(irq)?));
            } else if let Some(v) = word.strip_prefix("tsc_khz=") {
                tsc_khz = parse_u64(v)?;
            }
        }
        let (device, irq) = device?;
        // The memory map in the zero page: count at 0x1e8, entries of 20 bytes from 0x2d0.
        let mut ram_end = 0;
        // SAFETY: the loader filled the zero page at `params`; the count bounds the entries.
        unsafe {
            for i in 0..usize::from(*params.add(0x1e8)) {
                let entry = params.add(0x2d0 + 20 * i);
                let start = entry.cast::<u64>().read_unaligned();
                let size = entry.add(8).cast::<u64>().read_unaligned();
                let kind = entry.add(16).cast::<u32>().read_unaligned();
                if kind == 1 && start <= HEAP && HEAP < start + size {
                    ram_end = (start + size).min(1 << 32);
                }
            }
        }
        if ram_end == 0 || tsc_khz == 0 || irq > 23 {
            return None;
        }
        mmio_write(LAPIC + 0xf0, 0x1ff); // on, spurious vector 0xff
        mmio_write(LAPIC + 0x350, 0x1_0000); // no interrupts from the PIC
        mmio_write(LAPIC + 0x3e0, 0xb); // timer: divide by 1, one shot, vector 0x42
        mmio_write(LAPIC + 0x320, 0x42);
        for (pin, vector) in [(irq, 0x41u32), (4, 0x44)] {
            mmio_write(IOAPIC, 0x11 + 2 * pin as u32);
            mmio_write(IOAPIC + 0x10, 0);
            mmio_write(IOAPIC, 0x10 + 2 * pin as u32);
            mmio_write(IOAPIC + 0x10, vector);
        }
        outb(COM1 + 1, 1); // interrupt on received data
        Some(Machine {
            device,
            ram_end,
            tsc_khz,
            tsc_start: tsc(),
        })
    }
}

fn tsc() -> u64 {
    // SAFETY: reading the time stamp counter is always allowed (CR4.TSD is clear).
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Platform for Machine {
    fn ram(&self, addr: u64, len: usize) -> Option<*mut u8> {
        let end = addr.checked_add(len as u64)?;
        (addr >= HEAP && end <= self.ram_end).then_some(addr as *mut u8)
    }

    fn heap(&self) -> (u64, u64) {
        (HEAP, self.ram_end)
    }

    fn reg_read(&self, offset: u64) -> u32 {
        mmio_read(self.device + offset)
    }

    fn reg_write(&self, offset: u64, value: u32) {
        mmio_write(self.device + offset, value);
    }

    fn config_read(&self, offset: u64) -> u8 {
        // SAFETY: configuration space of the device, mapped one to one.
        unsafe { read_volatile((self.device + 0x100 + offset) as *const u8) }
    }

    fn notify(&self, queue: u16) {
        mmio_write(self.device + 0x50, u32::from(queue));
    }

    fn irqs(&self) -> u64 {
        // SAFETY: a counter in the stub's data, only ever changed atomically.
        unsafe { irq_total.load(Ordering::Acquire) }
    }

    fn wait(&self, seen: u64, deadline: Option<u64>) {
        if let Some(deadline) = deadline {
            let now = self.now();
            if now >= deadline {
                return;
            }
            // KVM's local APIC counts nanoseconds.
            let ns = (deadline - now).clamp(1000, 4_000_000_000);
            mmio_write(LAPIC + 0x380, ns as u32);
        }
        // SAFETY: operation 2 of the ring 0 stub: halts, touches no memory of ours.
        unsafe { asm!("ud2", in("rsi") 2u64, in("rdi") seen) }
    }

    fn console_write(&self, text: &[u8]) {
        // SAFETY: operation 1 of the ring 0 stub reads rdx bytes at rdi, which is `text`.
        unsafe {
            asm!("ud2", in("rsi") 1u64, inout("rdi") text.as_ptr() => _,
                 inout("rdx") text.len() => _, out("rcx") _, out("rax") _)
        }
    }

    fn console_ready(&self) -> u64 {
        // SAFETY: a counter in the stub's data, only ever changed atomically.
        unsafe { irq_count_serial.load(Ordering::Acquire) }
    }

    fn console_read(&self, buf: &mut [u8]) -> usize {
        let mut n = 0;
        while n < buf.len() && inb(COM1 + 5) & 1 != 0 {
            buf[n] = inb(COM1);
            n += 1;
        }
        n
    }

    fn now(&self) -> u64 {
        let ticks = tsc().wrapping_sub(self.tsc_start);
        let ms = ticks / self.tsc_khz;
        ms * 1_000_000 + (ticks % self.tsc_khz) * 1_000_000 / self.tsc_khz
    }

    fn stopped(&self) -> bool {
        false
    }
}

fn power_off() -> ! {
    loop {
        outb(SLEEP_PORT, SLEEP_S5);
    }
}

/// Where ring 3 begins.
#[unsafe(no_mangle)]
extern "C" fn umain(params: *const u8) -> ! {
    // SAFETY: the loader put a zero page at `params` (address of the command line at 0x228) and
    // ends the command line with a zero byte.
    let cmdline = unsafe {
        let text = params.add(0x228).cast::<u32>().read_unaligned() as usize as *const u8;
        let mut len = 0;
        while len < 4096 && *text.add(len) != 0 {
            len += 1;
        }
        core::str::from_utf8(core::slice::from_raw_parts(text, len)).unwrap_or("")
    };
    match Machine::start(cmdline, params) {
        Some(machine) => program::app::run(&machine, cmdline),
        None => {
            let text = b"weir-guest: error: the monitor gave no device, clock or memory\n";
            text.iter().for_each(|&b| outb(COM1, b));
        }
    }
    power_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    let _ = writeln!(line, "weir-guest: {info}");
    line.as_bytes().iter().for_each(|&b| outb(COM1, b));
    power_off()
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise, as for C's memcpy.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: no byte is overwritten before it is read.
        return unsafe { memcpy(to, from, len) };
    }
    for i in (0..len).rev() {
        // SAFETY: the caller's promise, as for C's memmove; from the end, as they overlap.
        unsafe { write_volatile(to.add(i), *from.add(i)) }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise, as for C's memset.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") len => _, in("al") value as u8);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the caller's promise, as for C's memcmp.
        let (x, y) = unsafe { (read_volatile(a.add(i)), read_volatile(b.add(i))) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise, as for C's bcmp.
    unsafe { memcmp(a, b, len) }
}
