//! Unmodified Linux kernels under the monitor: they find their cards by ACPI, speak with each
//! other through a switch, and power off.
//!
//! Needs hardware virtualisation, and a kernel and an initial file system that are named by
//! `WEIR_TEST_KERNEL` and `WEIR_TEST_INITRD`; skipped where they are not. The file system's
//! `/init` finds `ip=` and `ping=` on the kernel command line, prints `PING-OK` when all replies
//! came, and powers off.

#![cfg(target_arch = "x86_64")]

mod backend;

use std::path::PathBuf;
use std::time::Duration;

use backend::Switch;
use vmm_net::{Exit, Guest, Kernel, MacAddr, NicConfig, VhostUserSocket, Vm, VmConfig};

fn two_kernels(vcpus: u8, queue_pairs: u16) {
    let file = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(kernel), Some(initrd)) = (file("WEIR_TEST_KERNEL"), file("WEIR_TEST_INITRD")) else {
        eprintln!("SKIPPED: WEIR_TEST_KERNEL and WEIR_TEST_INITRD name no kernel");
        return;
    };
    if let Some(why) = vmm_net::kvm_usable().err().or_else(vmm_net::kvm_warning) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a"), dir.path().join("b")];
    let vms: Vec<_> = [1u8, 2]
        .map(|n| {
            let cmdline = format!(
                "console=ttyS0 panic=-1 ip=10.0.0.{n} ping=10.0.0.{} peer={}",
                3 - n,
                n == 2
            );
            let kernel = Kernel::Linux {
                kernel: kernel.clone(),
                initrd: Some(initrd.clone()),
                cmdline,
            };
            let socket = VhostUserSocket::Listen(paths[usize::from(n) - 1].clone());
            let mut nic = NicConfig::new(socket, MacAddr([0x52, 0x54, 0, 0, 0, n]));
            nic.queue_pairs = queue_pairs;
            nic.mtu = Some(1400);
            let mut config = VmConfig::new(format!("linux{n}"), kernel).nic(nic);
            config.memory = 128 << 20;
            config.vcpus = vcpus;
            Vm::start(&config).unwrap()
        })
        .into();
    let _switch = Switch::between(&paths[0], &paths[1]);
    for vm in &vms {
        let mut reader = vm.console().reader();
        let deadline = std::time::Instant::now() + Duration::from_secs(180);
        let mut lines = Vec::new();
        while let Some(line) = reader.line(deadline) {
            println!("{}: {line}", vm.name());
            lines.push(line);
        }
        assert_eq!(vm.wait(), Exit::Poweroff);
        assert!(lines.iter().any(|l| l.contains("PING-OK")), "no PING-OK");
        let cpus = format!("CPUS={vcpus} MTU=1400");
        assert!(lines.iter().any(|l| l.contains(&cpus)), "no {cpus}");
    }
}

#[test]
fn linux_finds_its_card_and_powers_off() {
    two_kernels(1, 1);
}

#[test]
fn linux_on_two_processors_with_two_queue_pairs() {
    two_kernels(2, 2);
}
