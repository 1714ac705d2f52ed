//! Two QEMU guests with stock Debian kernels, each on a vhost-user port: one socket each way round.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tests::initramfs::{Initramfs, PINGING_GUEST};
use tests::peers::cloud_kernel;
use tests::process::Daemon;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

/// QEMU with one vhost-user card; `socket` is a chardev address.
fn qemu(kernel: &str, initrd: &Path, socket: &str, mac: &str, words: &str) -> Command {
    let mut c = Command::new("qemu-system-x86_64");
    c.args([
        "-accel",
        "tcg",
        "-m",
        "256",
        "-machine",
        "q35,memory-backend=m",
        "-object",
        "memory-backend-memfd,id=m,size=256M,share=on",
    ]);
    c.args([
        "-nographic",
        "-no-reboot",
        "-nic",
        "none",
        "-kernel",
        &format!("/boot/vmlinuz-{kernel}"),
        "-initrd",
    ])
    .arg(initrd);
    c.args(["-append", &format!("console=ttyS0 quiet panic=-1 {words}")]);
    c.args([
        "-chardev",
        &format!("socket,id=c0,path={socket}"),
        "-netdev",
        "vhost-user,id=n0,chardev=c0,queues=1",
    ]);
    // With interrupt vectors this QEMU crashes under emulation when the driver starts.
    c.args([
        "-device",
        &format!("virtio-net-pci,netdev=n0,mac={mac},romfile=,vectors=0"),
    ]);
    c
}

#[test]
fn two_qemu_guests_ping_each_other() {
    need!(Root, Ovs, Qemu, CloudKernel, Busybox);
    let kernel = cloud_kernel().unwrap();
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    t.ok("ovs-vsctl add-br br0");
    let listening = weir.dir().join("a.sock");
    t.ok(&format!("ovs-vsctl add-port br0 a0 -- set interface a0 type=dpdkvhostuserclient options:vhost-server-path={}", listening.display()));
    t.ok("ovs-vsctl add-port br0 b0 -- set interface b0 type=dpdkvhostuser");
    let connecting = weir.run_dir.join("b0");
    wait::until("the switch to listen", || connecting.exists());

    let mut fs = Initramfs::new();
    fs.modules(&kernel, &["virtio_pci", "virtio_net"]);
    fs.then(PINGING_GUEST);
    let initrd = fs.write(weir.dir(), "guest.cpio");
    let a = qemu(
        &kernel,
        &initrd,
        &format!("{},server=on", listening.display()),
        "52:54:00:00:00:01",
        "ip=10.0.0.1 ping=10.0.0.2",
    );
    let b = qemu(
        &kernel,
        &initrd,
        &connecting.display().to_string(),
        "52:54:00:00:00:02",
        "ip=10.0.0.2 ping=10.0.0.1",
    );
    let a = Daemon::spawn(a, &weir.dir().join("a.console"));
    let b = Daemon::spawn(b, &weir.dir().join("b.console"));
    for guest in [&a, &b] {
        wait::until_within(Duration::from_secs(150), "a guest's result", || {
            guest.output().contains("GUEST-RESULT")
        });
        assert!(
            guest
                .output()
                .contains("20 packets received, 0% packet loss"),
            "{}",
            guest.output()
        );
    }
    let fdb = t.ok("ovs-appctl fdb/show br0");
    assert!(
        fdb.contains("52:54:00:00:00:01") && fdb.contains("52:54:00:00:00:02"),
        "{fdb}"
    );
}
