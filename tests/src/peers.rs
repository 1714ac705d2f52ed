//! Which foreign programs and devices are here.
//!
//! A test that needs one begins with `peers::need!(OvsVsctl, Root)`: where it is missing the test says so
//! loudly and ends, unless `WEIR_REQUIRE_PEERS=1` (set by `tests/run` once it has installed
//! them), which makes a missing peer a failure.

use std::path::Path;

/// Something a test may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Being root with network namespaces.
    Root,
    /// `/dev/kvm` that can be opened.
    Kvm,
    /// Debian's openvswitch-common and -switch.
    Ovs,
    /// Debian's ovs-vswitchd with DPDK.
    OvsDpdk,
    /// `dpdk-testpmd`.
    Testpmd,
    /// `qemu-system-x86_64`.
    Qemu,
    /// A Debian cloud kernel with its modules, in /boot and /lib/modules.
    CloudKernel,
    /// `/bin/busybox`, statically linked.
    Busybox,
    /// os-ken in a virtual environment made by `tests/run`.
    OsKen,
    /// The Python package ovs in a virtual environment made by `tests/run`.
    PythonOvs,
    /// `tcpdump`.
    Tcpdump,
    /// `tshark`.
    Tshark,
    /// The kernel's vxlan device.
    KernelVxlan,
    /// `iperf3`.
    Iperf3,
    /// `strace`.
    Strace,
}

impl Peer {
    /// Why it cannot be used, if it cannot.
    pub fn missing(self) -> Option<String> {
        let file = |p: &str, package: &str| {
            (!Path::new(p).exists()).then(|| format!("{p} is not here (Debian package {package})"))
        };
        match self {
            Peer::Root => (!is_root()).then(|| "needs root for network namespaces".to_owned()),
            Peer::Kvm => std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .err()
                .map(|e| format!("/dev/kvm: {e}")),
            Peer::Ovs => file("/usr/bin/ovs-vsctl", "openvswitch-common").or_else(|| {
                file(
                    "/usr/lib/openvswitch-switch/ovs-vswitchd",
                    "openvswitch-switch",
                )
            }),
            Peer::OvsDpdk => file(
                "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
                "openvswitch-switch-dpdk",
            ),
            Peer::Testpmd => file("/usr/bin/dpdk-testpmd", "dpdk-dev"),
            Peer::Qemu => file("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
            Peer::CloudKernel => cloud_kernel().is_none().then(|| {
                "no cloud kernel in /boot (Debian package linux-image-cloud-amd64)".to_owned()
            }),
            Peer::Busybox => file("/bin/busybox", "busybox-static"),
            Peer::OsKen => python_package("os-ken"),
            Peer::PythonOvs => python_package("ovs"),
            Peer::Tcpdump => file("/usr/bin/tcpdump", "tcpdump"),
            Peer::Tshark => file("/usr/bin/tshark", "tshark"),
            Peer::KernelVxlan => kernel_vxlan()
                .is_none()
                .then(|| "the kernel has no vxlan device".to_owned()),
            Peer::Iperf3 => file("/usr/bin/iperf3", "iperf3"),
            Peer::Strace => file("/usr/bin/strace", "strace"),
        }
    }
}

/// Makes a vxlan device, if the kernel can, in a namespace that ends with it.
fn kernel_vxlan() -> Option<()> {
    let here = crate::netns::Namespace::new();
    let made = here.shell("ip link add vx0 type vxlan id 1 remote 127.0.0.1 dstport 4789");
    (made.code == 0).then_some(())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
        .unwrap_or(false)
}

/// The newest Debian cloud kernel: its release name, as in `/boot/vmlinuz-RELEASE`.
pub fn cloud_kernel() -> Option<String> {
    let mut found: Vec<String> = std::fs::read_dir("/boot")
        .ok()?
        .filter_map(|e| {
            e.ok()?
                .file_name()
                .into_string()
                .ok()?
                .strip_prefix("vmlinuz-")
                .map(str::to_owned)
        })
        .filter(|r| r.contains("cloud") && Path::new("/lib/modules").join(r).exists())
        .collect();
    found.sort();
    found.pop()
}

fn python_package(package: &str) -> Option<String> {
    python(package)
        .is_none()
        .then(|| format!("{package} is not installed (a PyPI package; tests/run installs it)"))
}

/// The Python that has a PyPI package (`os-ken`, `ovs`).
pub fn python(package: &str) -> Option<std::path::PathBuf> {
    let environment = crate::switch::target_dir().join("peers").join(package);
    environment
        .join("ready")
        .exists()
        .then(|| environment.join("bin/python"))
}

/// Ends the calling test, loudly, if one of `peers` is missing. Use by [`need!`](crate::need).
pub fn lacks(test: &str, peers: &[Peer]) -> bool {
    let missing: Vec<String> = peers.iter().filter_map(|p| p.missing()).collect();
    if missing.is_empty() {
        return false;
    }
    let why = missing.join("; ");
    assert!(
        std::env::var_os("WEIR_REQUIRE_PEERS").is_none(),
        "{test} lacks a peer that should be here: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
    true
}

/// `need!(Root, Ovs)` as a test's first line: returns from the test, saying why, if a peer is missing.
#[macro_export]
macro_rules! need {
    ($($peer:ident),+ $(,)?) => {
        if $crate::peers::lacks(std::thread::current().name().unwrap_or("test"), &[$($crate::peers::Peer::$peer),+]) {
            return;
        }
    };
}
