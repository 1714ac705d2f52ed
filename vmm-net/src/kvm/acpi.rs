//! ACPI tables: how a kernel learns of processors, devices, and how to power off.
//!
//! The machine is "hardware reduced" (ACPI 6.5 4.1): no chipset, no PM timer, no SCI. There are
//! RSDP, XSDT, FADT (with sleep control and reset registers), MADT (local APICs and the I/O
//! APIC) and a DSDT with one `LNRO0005` per virtio-mmio device, the serial port, and `_S5`.

use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};

use super::layout;
use crate::virtio::mmio::WINDOW;

const OEM: [u8; 6] = *b"WEIR  ";
const TABLE: [u8; 8] = *b"WEIRVMM ";
const REVISION: u32 = 1;

/// FADT boot architecture flags (ACPI 6.5 5.2.9.3): no VGA, no CMOS clock.
const NO_VGA: u16 = 1 << 2;
const NO_CMOS: u16 = 1 << 5;

fn port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut out = Vec::new();
    table.to_aml_bytes(&mut out);
    out
}

fn dsdt(devices: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for i in 0..devices {
        let memory = Memory32Fixed::new(true, layout::mmio_base(i) as u32, WINDOW as u32);
        // Edge triggered, active high, not shared.
        let line = Interrupt::new(true, true, false, false, layout::gsi(i));
        let resources = ResourceTemplate::new(vec![&memory, &line]);
        let name = format!("_SB_.VR{i:02}");
        let hid = Name::new("_HID".into(), &"LNRO0005");
        let uid = Name::new("_UID".into(), &(i as u32));
        let cca = Name::new("_CCA".into(), &aml::ONE);
        let crs = Name::new("_CRS".into(), &resources);
        let device = Device::new(name[5..].into(), vec![&hid, &uid, &cca, &crs]);
        Scope::new(Path::new("_SB_"), vec![&device]).to_aml_bytes(&mut body);
    }
    let line = Interrupt::new(true, true, false, false, layout::COM1_GSI);
    let ports = IO::new(layout::COM1, layout::COM1, 1, 8);
    let resources = ResourceTemplate::new(vec![&ports, &line]);
    let hid = Name::new("_HID".into(), &EISAName::new("PNP0501"));
    let uid = Name::new("_UID".into(), &aml::ZERO);
    let crs = Name::new("_CRS".into(), &resources);
    let serial = Device::new("COM1".into(), vec![&hid, &uid, &crs]);
    Scope::new(Path::new("_SB_"), vec![&serial]).to_aml_bytes(&mut body);
    Name::new("_S5_".into(), &Package::new(vec![&layout::S5])).to_aml_bytes(&mut body);
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    table.append_slice(&body);
    table.as_slice().to_vec()
}

/// The tables for `vcpus` processors and `devices` virtio-mmio devices, to lie at `base`, where
/// the RSDP comes first.
pub fn tables(base: u64, vcpus: u8, devices: usize) -> Vec<u8> {
    let mut out = vec![0; Rsdp::len()];
    // Places a table on the next 16 bytes and says where.
    let mut place = |table: Vec<u8>| {
        out.resize(out.len().next_multiple_of(16), 0);
        let at = base + out.len() as u64;
        out.extend(table);
        at
    };
    let dsdt = place(dsdt(devices));
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.reset_reg = port(layout::RESET);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.sleep_control_reg = port(layout::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(layout::SLEEP_STATUS);
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS).into();
    let fadt = place(bytes(&fadt.finalize()));
    let mut madt = MADT::new(
        OEM,
        TABLE,
        REVISION,
        LocalInterruptController::Address(layout::LAPIC),
    );
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    // KVM's I/O APIC has no number of its own to ask for; any that no processor has will do.
    madt.add_structure(IoApic::new(vcpus, layout::IOAPIC, 0));
    let madt = place(bytes(&madt));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(bytes(&xsdt));
    let rsdp = bytes(&Rsdp::new(OEM, xsdt));
    out[..rsdp.len()].copy_from_slice(&rsdp);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = layout::ACPI;

    fn u32_at(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }

    fn u64_at(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
    }

    /// The table at physical `addr`, its checksum verified.
    fn table(all: &[u8], addr: u64, signature: &[u8; 4]) -> Vec<u8> {
        let at = (addr - BASE) as usize;
        let len = u32_at(all, at + 4) as usize;
        let table = &all[at..at + len];
        assert_eq!(&table[..4], signature);
        let sum = table.iter().fold(0u8, |s, &b| s.wrapping_add(b));
        assert_eq!(sum, 0, "checksum of {signature:?}");
        table.to_vec()
    }

    #[test]
    fn a_kernel_finds_everything() {
        let all = tables(BASE, 3, 2);
        assert!(BASE + (all.len() as u64) < layout::HIGH_RAM);
        assert_eq!(&all[..8], b"RSD PTR ");
        for len in [20, 36] {
            assert_eq!(all[..len].iter().fold(0u8, |s, &b| s.wrapping_add(b)), 0);
        }
        let xsdt = table(&all, u64_at(&all, 24), b"XSDT");
        let fadt = table(&all, u64_at(&xsdt, 36), b"FACP");
        let madt = table(&all, u64_at(&xsdt, 44), b"APIC");
        let dsdt = table(&all, u64_at(&fadt, 140), b"DSDT");
        // Hardware reduced, reset register supported.
        assert_eq!(u32_at(&fadt, 112) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
        assert_eq!(fadt[116], 1, "reset register in I/O space");
        assert_eq!(u64_at(&fadt, 120), u64::from(layout::RESET));
        assert_eq!(u64_at(&fadt, 244 + 4), u64::from(layout::SLEEP_CONTROL));
        assert_eq!(u64_at(&fadt, 256 + 4), u64::from(layout::SLEEP_STATUS));
        // Three local APICs of 8 bytes, one I/O APIC of 12.
        assert_eq!(madt.len(), 44 + 3 * 8 + 12);
        assert_eq!((madt[44 + 2], madt[44 + 3], madt[44 + 8 + 3]), (0, 0, 1));
        let has = |what: &[u8]| dsdt.windows(what.len()).any(|w| w == what);
        assert!(has(b"LNRO0005") && has(b"VR00") && has(b"VR01") && !has(b"VR02"));
        assert!(has(&0xd000_1000u32.to_le_bytes()));
        assert!(has(b"_S5_\x12\x04\x01\x0a\x05"), "package of one byte");
    }
}
