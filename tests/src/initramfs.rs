//! A root file system for a machine that lives as long as a test: busybox, kernel modules, an `/init`.
//!
//! Written as the kernel wants it: a "newc" cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst
//! of the Linux sources), uncompressed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An archive being written.
pub struct Initramfs {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
    init: String,
}

impl Initramfs {
    /// One with busybox as `/bin/sh` and friends; its `/init` mounts what is usual, loads the modules given by
    /// [`Initramfs::modules`], and goes on with [`Initramfs::then`].
    pub fn new() -> Initramfs {
        let mut fs = Initramfs {
            bytes: vec![],
            inode: 1,
            directories: BTreeSet::new(),
            init: String::new(),
        };
        fs.file(
            "bin/busybox",
            &std::fs::read("/bin/busybox").expect("/bin/busybox"),
            0o755,
        );
        for d in ["proc", "sys", "dev", "tmp", "run"] {
            fs.directory(d);
        }
        fs.init.push_str(
            "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n\
             mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run\n",
        );
        fs
    }

    /// Packs kernel modules with what they depend on, and loads them in that order.
    pub fn modules(&mut self, release: &str, names: &[&str]) {
        let base = Path::new("/lib/modules").join(release);
        let dep = std::fs::read_to_string(base.join("modules.dep")).expect("modules.dep");
        let mut loaded = BTreeSet::new();
        for name in names {
            let file = format!("/{name}.ko:");
            let line = dep
                .lines()
                .find(|l| l.contains(&file))
                .unwrap_or_else(|| panic!("no module {name} in {}", base.display()));
            let (own, needs) = line.split_once(':').expect("modules.dep");
            // modules.dep names the nearest need first; the farthest is loaded first.
            for path in needs.split_whitespace().rev().chain([own]) {
                if loaded.insert(path.to_owned()) {
                    let short = Path::new(path)
                        .file_name()
                        .and_then(|n| n.to_str())
                        .expect("a module's name")
                        .to_owned();
                    self.file(
                        &format!("modules/{short}"),
                        &std::fs::read(base.join(path)).expect("module"),
                        0o644,
                    );
                    self.init.push_str(&format!(
                        "insmod /modules/{short} || echo cannot load {short}\n"
                    ));
                }
            }
        }
    }

    /// Packs a program with the shared libraries it needs.
    pub fn program(&mut self, name: &str, path: &Path) {
        self.file(
            &format!("bin/{name}"),
            &std::fs::read(path).expect("program"),
            0o755,
        );
        let out = Command::new("ldd").arg(path).output().expect("ldd");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        for library in text.split_whitespace().filter(|w| w.starts_with('/')) {
            let at = library.trim_start_matches('/').to_owned();
            self.file(&at, &std::fs::read(library).expect("library"), 0o755);
        }
    }

    /// Further lines of `/init`.
    pub fn then(&mut self, script: &str) {
        self.init.push_str(script);
        self.init.push('\n');
    }

    /// Packs a file, its directories first.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) {
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory);
        }
        self.entry(path, content, 0o100_000 | mode);
    }

    fn directory(&mut self, path: &str) {
        if self.directories.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.directories.insert(path.to_owned());
        self.entry(path, &[], 0o040_755);
    }

    fn entry(&mut self, path: &str, content: &[u8], mode: u32) {
        self.inode += 1;
        let header = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        let init = std::mem::take(&mut self.init);
        self.file("init", init.as_bytes(), 0o755);
        self.entry("TRAILER!!!", &[], 0);
        self.bytes
    }

    /// Writes the archive to a file in `directory`.
    pub fn write(self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, self.finish()).expect("initramfs");
        path
    }
}

impl Default for Initramfs {
    fn default() -> Self {
        Self::new()
    }
}

/// `/init` lines for a guest with a network card: takes `ip=` and `ping=` from the kernel command line, pings once the
/// other answers, says `GUEST-RESULT: ...`, and powers off (after the other had its turn).
pub const PINGING_GUEST: &str = r#"
for word in $(cat /proc/cmdline); do case $word in ip=*) ip=${word#ip=};; ping=*) ping=${word#ping=};; esac; done
i=0; while [ ! -e /sys/class/net/eth0 ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
ip addr add $ip/24 dev eth0; ip link set eth0 up
echo "GUEST-UP $ip $(cat /sys/class/net/eth0/address)"
i=0; while ! ping -c 1 -W 1 $ping >/dev/null 2>&1 && [ $i -lt 100 ]; do i=$((i+1)); done
echo "GUEST-RESULT: $(ping -c 20 -i 0.1 -W 2 $ping | grep 'packet loss')"
sleep 6
poweroff -f
"#;
