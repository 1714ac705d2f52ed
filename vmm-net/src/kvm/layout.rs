//! Where things are in a guest's physical address space and among its I/O ports.

/// The 32 KiB below the first megabyte's hole are memory.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// Initial descriptor table of the processor.
pub const GDT: u64 = 0x500;
/// The zero page (`struct boot_params`).
pub const ZERO_PAGE: u64 = 0x7000;
/// Initial stack.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Initial page tables: root, pointers, then four directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// ACPI tables: where firmware would have them, up to the first megabyte.
pub const ACPI: u64 = 0xe_0000;
/// Where memory goes on above the hole.
pub const HIGH_RAM: u64 = 0x10_0000;
/// Windows of the virtio-mmio devices.
pub const MMIO: u64 = 0xd000_0000;
/// Interrupt lines of the virtio-mmio devices.
pub const FIRST_GSI: u32 = 5;
/// Where Intel's processors keep the task state of real mode emulation.
pub const KVM_TSS: usize = 0xfffb_d000;
/// Local APICs and I/O APIC, as KVM has them.
pub const LAPIC: u32 = 0xfee0_0000;
/// See [`LAPIC`].
pub const IOAPIC: u32 = 0xfec0_0000;

/// The first serial port and its interrupt line.
pub const COM1: u16 = 0x3f8;
/// See [`COM1`].
pub const COM1_GSI: u32 = 4;
/// ACPI sleep control register: writing 0x34 (sleep type 5, enable) is power off.
pub const SLEEP_CONTROL: u16 = 0x600;
/// ACPI sleep status register.
pub const SLEEP_STATUS: u16 = 0x601;
/// ACPI reset register: writing [`RESET_VALUE`] is a reset.
pub const RESET: u16 = 0x602;
/// See [`RESET`].
pub const RESET_VALUE: u8 = 1;
/// Sleep type of soft off, in the DSDT's `_S5_`.
pub const S5: u8 = 5;
/// What a write to [`SLEEP_CONTROL`] is for power off: type shifted by 2, and the enable bit.
pub const SLEEP_S5: u8 = S5 << 2 | 1 << 5;
/// Command port of the keyboard controller; 0xfe written there is a reset too.
pub const KEYBOARD: u16 = 0x64;

/// Where the window of device `index` is.
pub fn mmio_base(index: usize) -> u64 {
    MMIO + index as u64 * crate::virtio::mmio::WINDOW
}

/// The interrupt line of device `index`.
pub fn gsi(index: usize) -> u32 {
    FIRST_GSI + index as u32
}
