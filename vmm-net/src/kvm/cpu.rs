//! What a virtual processor is at the start: CPUID, registers, local APIC.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_fpu, kvm_lapic_state, kvm_msr_entry,
    kvm_regs, kvm_segment,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use tracing::debug;
use vm_memory::{Bytes, GuestAddress};

use super::{kvm_error, layout};
use crate::error::{Error, Result};
use crate::memory::GuestRam;

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;

/// The CPUID that every processor of the guest starts from: what KVM supports here.
pub fn cpuid(kvm: &Kvm) -> Result<CpuId> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(kvm_error("KVM_GET_SUPPORTED_CPUID"))
}

/// Gives a processor its CPUID: topology of one socket with `count` cores.
pub fn set_cpuid(kvm: &Kvm, vcpu: &VcpuFd, base: &CpuId, id: u8, count: u8) -> Result<()> {
    let (id, count) = (u32::from(id), u32::from(count));
    let bits = count.next_power_of_two().trailing_zeros();
    let mut entries: Vec<kvm_cpuid_entry2> = base
        .as_slice()
        .iter()
        .filter(|e| !matches!(e.function, 0xb | 0x1f))
        .copied()
        .collect();
    for e in &mut entries {
        match e.function {
            1 => {
                e.ebx = e.ebx & 0xffff | count << 16 | id << 24;
                e.ecx |= 1 << 31; // there is a hypervisor
                if kvm.check_extension(Cap::TscDeadlineTimer) {
                    e.ecx |= 1 << 24;
                }
                if count > 1 {
                    e.edx |= 1 << 28;
                }
            }
            // Cores per package, where caches are described (Intel).
            4 if e.eax & 0x1f != 0 => e.eax = e.eax & 0x03ff_ffff | ((1 << bits) - 1) << 26,
            // The same on AMD.
            0x8000_0008 => e.ecx = (count - 1) | bits << 12,
            0x8000_001e => {
                e.eax = id;
                e.ebx = id & 0xff;
                e.ecx = 0;
            }
            _ => {}
        }
    }
    // Extended topology: threads (one per core), then cores.
    let max = entries
        .iter()
        .find(|e| e.function == 0)
        .map_or(0, |e| e.eax);
    if max >= 0xb {
        for (index, eax, ebx, kind) in [(0, 0, 1, 1), (1, bits, count, 2), (2, 0, 0, 0)] {
            entries.push(kvm_cpuid_entry2 {
                function: 0xb,
                index,
                flags: 1, // the index matters
                eax,
                ebx,
                ecx: kind << 8 | index,
                edx: id,
                ..Default::default()
            });
        }
    }
    let cpuid = CpuId::from_entries(&entries)
        .map_err(|e| Error::Kvm(format!("{} CPUID entries: {e:?}", entries.len())))?;
    vcpu.set_cpuid2(&cpuid).map_err(kvm_error("KVM_SET_CPUID2"))
}

/// Sets up the boot processor to enter a 64-bit kernel at `entry`. The others wait for it as they
/// are.
pub fn boot(vcpu: &VcpuFd, ram: &GuestRam, entry: u64) -> Result<()> {
    tables(ram)?;
    let mut sregs = vcpu.get_sregs().map_err(kvm_error("KVM_GET_SREGS"))?;
    let segment = |selector: u16, code: bool| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: if code { 0xb } else { 3 },
        present: 1,
        dpl: 0,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..Default::default()
    };
    sregs.cs = segment(0x10, true);
    let data = segment(0x18, false);
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.fs, sregs.gs) = (data, data);
    sregs.tr = kvm_segment {
        limit: 0xffff,
        selector: 0x20,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = GDT.len() as u16 * 8 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = 0x8000_0033; // paging, numeric error, extension type, protection
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 = 0x20; // physical address extension
    sregs.efer = 0x500; // long mode enabled and active
    vcpu.set_sregs(&sregs).map_err(kvm_error("KVM_SET_SREGS"))?;
    let regs = kvm_regs {
        rip: entry,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rsi: layout::ZERO_PAGE,
        rflags: 2,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(kvm_error("KVM_SET_REGS"))?;
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    vcpu.set_fpu(&fpu).map_err(kvm_error("KVM_SET_FPU"))
}

/// What every processor gets: memory types as firmware leaves them, and the local interrupt
/// pins.
pub fn common(vcpu: &VcpuFd) -> Result<()> {
    for (index, data) in [(MSR_MISC_ENABLE, 1), (MSR_MTRR_DEF_TYPE, 0x806)] {
        let msr = kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let msrs = Msrs::from_entries(&[msr]).map_err(|e| Error::Kvm(format!("MSR: {e:?}")))?;
        // Not every KVM knows every one; kernels manage without.
        if !matches!(vcpu.set_msrs(&msrs), Ok(1)) {
            debug!("KVM does not take MSR {index:#x}");
        }
    }
    let mut lapic = vcpu.get_lapic().map_err(kvm_error("KVM_GET_LAPIC"))?;
    // Pin 0 takes the legacy controller, pin 1 is not maskable.
    for (register, mode) in [(0x350, 7u32), (0x360, 4)] {
        set_delivery(&mut lapic, register, mode);
    }
    vcpu.set_lapic(&lapic).map_err(kvm_error("KVM_SET_LAPIC"))
}

fn set_delivery(lapic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let bytes: [i8; 4] = std::array::from_fn(|i| lapic.regs[register + i]);
    let value = u32::from_le_bytes(bytes.map(|b| b as u8)) & !0x700 | mode << 8;
    for (to, byte) in lapic.regs[register..].iter_mut().zip(value.to_le_bytes()) {
        *to = byte as i8;
    }
}

/// Null, unused, 64-bit code at 0x10, data at 0x18, task state at 0x20.
const GDT: [u64; 6] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
    0,
];

/// Writes the initial descriptor and page tables: the first 4 GiB one to one.
fn tables(ram: &GuestRam) -> Result<()> {
    let mut words: Vec<(u64, u64)> = Vec::new();
    for (i, entry) in (0..).zip(GDT) {
        words.push((layout::GDT + 8 * i, entry));
    }
    let (root, pointers) = (layout::PAGE_TABLES, layout::PAGE_TABLES + 0x1000);
    let directories = pointers + 0x1000;
    words.push((root, pointers | 3));
    for i in 0..4 {
        words.push((pointers + 8 * i, (directories + 0x1000 * i) | 3));
    }
    for i in 0..2048 {
        words.push((directories + 8 * i, i << 21 | 0x83)); // large page
    }
    for (at, word) in words {
        ram.mem()
            .write_obj(word, GuestAddress(at))
            .map_err(|e| Error::Memory(format!("initial tables: {e}")))?;
    }
    Ok(())
}
