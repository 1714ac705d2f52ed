//! Puts kernel, initial file system, command line and zero page into guest memory: the 64-bit
//! boot protocol of Linux (Documentation/arch/x86/boot.rst).

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::Elf;
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use vm_memory::{Bytes, GuestAddress, ReadVolatile};

use super::layout;
use crate::config::{Kernel, MAX_CMDLINE, VmConfig};
use crate::error::{Context, Error, Result};
use crate::memory::GuestRam;

#[cfg(builtin_guest)]
const BUILTIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));
#[cfg(not(builtin_guest))]
const BUILTIN: &[u8] = &[];

const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Loads what `config` says; returns the address to start at. `tsc_khz` is for the built-in
/// guest, which cannot find it out.
pub fn load(ram: &GuestRam, config: &VmConfig, tsc_khz: u32) -> Result<u64> {
    let mut initrd = None;
    let (loaded, mut cmdline) = match &config.kernel {
        Kernel::BuiltinGuest { .. } if BUILTIN.is_empty() => {
            return Err(Error::Config(
                "this build has no built-in guest: it can be built on x86-64 Linux only".into(),
            ));
        }
        Kernel::BuiltinGuest { args } => (
            elf(ram, &mut Cursor::new(BUILTIN))?,
            format!("{args} tsc_khz={tsc_khz}"),
        ),
        Kernel::Linux {
            kernel,
            initrd: path,
            cmdline,
        } => {
            initrd = path.as_deref();
            (image(ram, kernel)?, cmdline.clone())
        }
    };
    for i in 0..config.nics.len() {
        let (at, gsi) = (layout::mmio_base(i), layout::gsi(i));
        cmdline.push_str(&format!(" virtio_mmio.device=4K@{at:#x}:{gsi}"));
    }
    // A bzImage is entered 512 bytes behind the start of its protected mode part.
    let entry = match loaded.setup_header {
        Some(_) => loaded.kernel_load.0 + 0x200,
        None => loaded.kernel_load.0,
    };
    let mut params = boot_params {
        hdr: loaded.setup_header.unwrap_or(setup_header {
            boot_flag: 0xaa55,
            header: 0x5372_6448, // "HdrS"
            kernel_alignment: 0x100_0000,
            initrd_addr_max: 0x7fff_ffff,
            cmdline_size: MAX_CMDLINE as u32,
            ..Default::default()
        }),
        acpi_rsdp_addr: layout::ACPI,
        ..Default::default()
    };
    params.hdr.type_of_loader = 0xff;
    let init_size = u64::from(params.hdr.init_size);
    if loaded.kernel_load.0 + init_size > ram.low_end() {
        return Err(Error::Kernel(format!(
            "it needs {} MiB of memory to unpack, the guest has {}",
            (loaded.kernel_load.0 + init_size) >> 20,
            config.memory >> 20
        )));
    }
    let limit = MAX_CMDLINE.min(params.hdr.cmdline_size as usize);
    if cmdline.len() > limit {
        return Err(Error::Config(format!(
            "the kernel command line has {} bytes with the monitor's additions; {limit} are possible",
            cmdline.len()
        )));
    }
    let put = |bytes: &[u8], at: u64, what: &str| {
        ram.mem()
            .write_slice(bytes, GuestAddress(at))
            .map_err(|e| Error::Memory(format!("{what} at {at:#x}: {e}")))
    };
    put(cmdline.as_bytes(), layout::CMDLINE, "command line")?;
    put(&[0], layout::CMDLINE + cmdline.len() as u64, "command line")?;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    if let Some(path) = initrd {
        let kernel_end = loaded.kernel_end.max(loaded.kernel_load.0 + init_size);
        let (at, len) = self::initrd(ram, path, u64::from(params.hdr.initrd_addr_max), kernel_end)?;
        params.hdr.ramdisk_image = at;
        params.hdr.ramdisk_size = len;
    }
    for (addr, size, kind) in memory_map(ram) {
        let at = usize::from(params.e820_entries);
        params.e820_table[at] = boot_e820_entry {
            addr,
            size,
            r#type: kind,
        };
        params.e820_entries += 1;
    }
    let tables = super::acpi::tables(layout::ACPI, config.vcpus, config.nics.len());
    put(&tables, layout::ACPI, "ACPI tables")?;
    let zero_page = BootParams::new(&params, GuestAddress(layout::ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&zero_page, ram.mem())
        .map_err(|e| Error::Kernel(format!("zero page: {e}")))?;
    Ok(entry)
}

/// The memory map: start, size, type.
fn memory_map(ram: &GuestRam) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, layout::LOW_RAM_END, RAM),
        (
            layout::LOW_RAM_END,
            0xa_0000 - layout::LOW_RAM_END,
            RESERVED,
        ),
        (layout::ACPI, layout::HIGH_RAM - layout::ACPI, RESERVED),
    ];
    for (start, len) in ram.ranges() {
        let skip = if start == 0 { layout::HIGH_RAM } else { 0 };
        map.push((start + skip, len - skip, RAM));
    }
    map
}

fn elf<F: Read + ReadVolatile + Seek>(ram: &GuestRam, file: &mut F) -> Result<KernelLoaderResult> {
    Elf::load(ram.mem(), None, file, Some(GuestAddress(layout::HIGH_RAM)))
        .map_err(|e| Error::Kernel(format!("not a loadable ELF file: {e}")))
}

/// Loads a kernel file, whichever of the two kinds it is.
fn image(ram: &GuestRam, path: &Path) -> Result<KernelLoaderResult> {
    let named = |e: Error| match e {
        Error::Kernel(text) => Error::Kernel(format!("{}: {text}", path.display())),
        e => e,
    };
    let context = || format!("kernel {}", path.display());
    let mut file = File::open(path).context(context)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).context(context)?;
    file.seek(SeekFrom::Start(0)).context(context)?;
    if magic == *b"\x7fELF" {
        return elf(ram, &mut file).map_err(named);
    }
    let loaded = BzImage::load(
        ram.mem(),
        None,
        &mut file,
        Some(GuestAddress(layout::HIGH_RAM)),
    )
    .map_err(|e| {
        named(Error::Kernel(format!(
            "neither an ELF vmlinux nor a bzImage that fits into memory: {e}"
        )))
    })?;
    // Bit 0 of xloadflags: there is a 64-bit entry point.
    if loaded
        .setup_header
        .is_some_and(|h| h.version < 0x20c || h.xloadflags & 1 == 0)
    {
        return Err(named(Error::Kernel("it is not a 64-bit kernel".into())));
    }
    Ok(loaded)
}

/// Loads the initial file system as high as it may lie; returns address and size.
fn initrd(ram: &GuestRam, path: &Path, max: u64, kernel_end: u64) -> Result<(u32, u32)> {
    let context = || format!("initrd {}", path.display());
    let mut file = File::open(path).context(context)?;
    let size = file.metadata().context(context)?.len();
    let end = ram.low_end().min(max.saturating_add(1));
    let at = end.saturating_sub(size) & !0xfff;
    if size == 0 || at < kernel_end.next_multiple_of(4096) {
        return Err(Error::Kernel(format!(
            "initrd {} of {size} bytes does not fit into memory above the kernel, which ends at \
             {} MiB of {}",
            path.display(),
            kernel_end >> 20,
            end >> 20
        )));
    }
    ram.mem()
        .read_exact_volatile_from(GuestAddress(at), &mut file, size as usize)
        .map_err(|e| Error::Kernel(format!("initrd {}: {e}", path.display())))?;
    Ok((at as u32, size as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MacAddr, NicConfig, VhostUserSocket};

    fn ram() -> GuestRam {
        GuestRam::new(64 << 20, false).unwrap()
    }

    fn builtin(args: &str) -> VmConfig {
        VmConfig::new("t", Kernel::BuiltinGuest { args: args.into() })
    }

    fn linux(kernel: &Path, initrd: Option<&Path>) -> VmConfig {
        let mut config = builtin("");
        config.memory = 64 << 20;
        config.kernel = Kernel::Linux {
            kernel: kernel.into(),
            initrd: initrd.map(Into::into),
            cmdline: "console=ttyS0".into(),
        };
        config
    }

    fn text(ram: &GuestRam, at: u64) -> String {
        let mut bytes = [0; 2048];
        ram.mem().read_slice(&mut bytes, GuestAddress(at)).unwrap();
        let end = bytes.iter().position(|&b| b == 0).unwrap();
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    }

    #[test]
    fn the_built_in_guest_is_at_its_place() {
        let ram = ram();
        let socket = VhostUserSocket::Listen("/x/s".into());
        let mut config = builtin("name=a").nic(NicConfig::new(socket, MacAddr([2; 6])));
        config.memory = 64 << 20;
        let entry = load(&ram, &config, 2_000_000).unwrap();
        assert!((16 << 20..17 << 20).contains(&entry), "{entry:#x}");
        assert_eq!(
            text(&ram, layout::CMDLINE),
            "name=a tsc_khz=2000000 virtio_mmio.device=4K@0xd0000000:5"
        );
        let params: boot_params = ram.mem().read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
        assert_eq!({ params.e820_entries }, 4);
        let last = { params.e820_table[3] };
        assert_eq!(({ last.addr }, { last.size }), (1 << 20, 63 << 20));
        assert_eq!({ params.acpi_rsdp_addr }, layout::ACPI);
    }

    /// A bzImage of one setup sector and `payload` bytes.
    fn bzimage(payload: usize, xloadflags: u16) -> Vec<u8> {
        let mut file = vec![0; 1024 + payload];
        file[0x1f1] = 1;
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x202, b"HdrS");
        put(0x206, &0x20fu16.to_le_bytes());
        put(0x211, &[1]);
        put(0x214, &0x10_0000u32.to_le_bytes());
        put(0x22c, &0x7fff_ffffu32.to_le_bytes());
        put(0x236, &xloadflags.to_le_bytes());
        put(0x238, &2047u32.to_le_bytes());
        put(0x260, &0x80_0000u32.to_le_bytes());
        put(1024, b"payload");
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file
    }

    #[test]
    fn bzimage_and_initrd() {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (dir.path().join("k"), dir.path().join("i"));
        std::fs::write(&kernel, bzimage(5000, 1)).unwrap();
        std::fs::write(&initrd, b"filesystem").unwrap();
        let ram = ram();
        let entry = load(&ram, &linux(&kernel, Some(&initrd)), 1).unwrap();
        assert_eq!(entry, 0x10_0200);
        assert_eq!(text(&ram, 0x10_0000), "payload");
        let params: boot_params = ram.mem().read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
        let at = { params.hdr.ramdisk_image };
        assert_eq!((at, { params.hdr.ramdisk_size }), ((64 << 20) - 4096, 10));
        assert_eq!(text(&ram, u64::from(at)), "filesystem");
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            load(&ram(), &linux(&path, None), 1)
                .unwrap_err()
                .to_string()
        };
        for bad in [&b"#!/bin/sh"[..], b"\x7fELF", &[0; 4096], &bzimage(100, 0)] {
            let text = error(bad);
            assert!(text.contains("kernel"), "{text}");
        }
        assert!(error(&bzimage(100, 0)).contains("64-bit"));
        let huge = bzimage(100, 1);
        let mut config = linux(&path, None);
        std::fs::write(&path, huge).unwrap();
        if let Kernel::Linux { cmdline, .. } = &mut config.kernel {
            *cmdline = "x".repeat(3000);
        }
        let text = load(&ram(), &config, 1).unwrap_err().to_string();
        assert!(text.contains("3000 bytes"), "{text}");
        let initrd = dir.path().join("big");
        File::create(&initrd).unwrap().set_len(60 << 20).unwrap();
        let text = load(&ram(), &linux(&path, Some(&initrd)), 1).unwrap_err();
        assert!(text.to_string().contains("does not fit"), "{text}");
    }
}
