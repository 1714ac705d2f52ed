//! weir's own monitor under real hardware virtualization: inside a QEMU machine that emulates AMD-V, weir's switch and
//! two of its guests, each an unmodified Debian kernel. Where this machine has VT-x or AMD-V itself, the same without QEMU's
//! emulation in between is a matter of running `weir vm run`; this test proves it anywhere.

use std::process::Command;
use std::time::Duration;
use tests::initramfs::{Initramfs, PINGING_GUEST};
use tests::peers::cloud_kernel;
use tests::process::Daemon;
use tests::switch::{target_dir, weir_binary};
use tests::{need, wait};

/// What the outer machine does.
const OUTER: &str = r#"
export OVS_RUNDIR=/run/weir
ip link set lo up
weir up --no-controller --db /tmp/conf.db >/tmp/weir.log 2>&1 &
i=0; while [ ! -e /run/weir/ovs-vswitchd.pid ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done
weir vsctl add-br br0
for g in 1 2; do
  weir vm run g$g --bridge br0 --port g${g}p --mac 52:54:00:00:00:0$g --memory 128M --kernel /vmlinuz --initrd /guest.cpio \
    --append "console=ttyS0 quiet panic=-1 ip=10.0.0.$g ping=10.0.0.$((3-g))" </dev/null >/tmp/g$g.console 2>&1 &
  eval pid$g=$!
done
wait $pid1; echo "OUTER: g1 exit $?"
wait $pid2; echo "OUTER: g2 exit $?"
sed 's/^/g1: /' /tmp/g1.console | tail -20
sed 's/^/g2: /' /tmp/g2.console | tail -20
weir vsctl show
tail -20 /tmp/weir.log
echo OUTER-DONE
poweroff -f
"#;

#[test]
fn our_monitor_boots_two_debian_kernels_that_ping() {
    need!(Qemu, CloudKernel, Busybox);
    let kernel = cloud_kernel().unwrap();
    let dir = tempfile::Builder::new().prefix("nested").tempdir().unwrap();
    let mut guest = Initramfs::new();
    guest.modules(&kernel, &["virtio_mmio", "virtio_net"]);
    guest.then(PINGING_GUEST);

    let release = target_dir().join("release/weir");
    let mut outer = Initramfs::new();
    outer.modules(&kernel, &["kvm-amd", "tun"]);
    outer.program(
        "weir",
        &if release.exists() {
            release
        } else {
            weir_binary()
        },
    );
    outer.file("guest.cpio", &guest.finish(), 0o644);
    outer.file(
        "vmlinuz",
        &std::fs::read(format!("/boot/vmlinuz-{kernel}")).unwrap(),
        0o644,
    );
    outer.then(OUTER);
    let initrd = outer.write(dir.path(), "outer.cpio");

    let mut c = Command::new("qemu-system-x86_64");
    c.args([
        "-accel",
        "tcg,thread=multi",
        "-machine",
        "q35",
        "-cpu",
        "EPYC,svm=on,npt=on",
        "-smp",
        "2",
        "-m",
        "1500",
        "-nographic",
        "-no-reboot",
    ]);
    c.args([
        "-nic",
        "none",
        "-kernel",
        &format!("/boot/vmlinuz-{kernel}"),
        "-initrd",
    ])
    .arg(&initrd);
    c.args(["-append", "console=ttyS0 panic=-1 quiet no_timer_check"]);
    let outer = Daemon::spawn(c, &dir.path().join("console"));
    wait::until_within(
        Duration::from_secs(400),
        "the outer machine to be done",
        || outer.output().contains("OUTER-DONE"),
    );
    let out = outer.output();
    for g in [1, 2] {
        assert!(
            out.contains(&format!("OUTER: g{g} exit 0")),
            "guest {g} ended cleanly\n{out}"
        );
        let result = out
            .lines()
            .find(|l| l.contains(&format!("g{g}: GUEST-RESULT")));
        assert!(
            result.is_some_and(|r| r.contains(" 0% packet loss")),
            "guest {g}: {result:?}\n{out}"
        );
    }
}
