//! What a guest is to be: everything the monitor must know, checked before anything is started.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Least memory a guest may have, in bytes: the built-in guest lies at 16 MiB, its rings at 32.
pub const MIN_MEMORY: u64 = 40 << 20;
/// Most memory a guest may have, in bytes.
pub const MAX_MEMORY: u64 = 1 << 40;
/// Most vCPUs: local APIC numbers of a byte, without the broadcast number.
pub const MAX_VCPUS: u8 = 254;
/// Most network cards: what the interrupt lines 5 to 23 allow without sharing.
pub const MAX_NICS: usize = 16;
/// Most queue pairs of a card.
pub const MAX_QUEUE_PAIRS: u16 = 8;
/// Longest kernel command line, in bytes: the limit of Linux on x86.
pub const MAX_CMDLINE: usize = 2047;

/// A guest to be started.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Memory in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// Whether the memory is made of huge pages (which the host must have set aside).
    pub hugetlb: bool,
    /// Virtual processors.
    pub vcpus: u8,
    /// What runs in it.
    pub kernel: Kernel,
    /// Its network cards, in order.
    pub nics: Vec<NicConfig>,
    /// Where its serial console goes, besides memory.
    pub console: ConsoleConfig,
    /// Path of a control socket to be made: one command per line (`status`, `stop`), one JSON
    /// answer per line.
    pub control_socket: Option<PathBuf>,
    /// How long the start of the guest waits for the switches of all its cards. A guest that
    /// starts without them gets only the features that every backend has.
    pub wait_backend: Duration,
}

impl VmConfig {
    /// A guest with 256 MiB, one vCPU and no card.
    pub fn new(name: impl Into<String>, kernel: Kernel) -> Self {
        VmConfig {
            name: name.into(),
            memory: 256 << 20,
            hugetlb: false,
            vcpus: 1,
            kernel,
            nics: Vec::new(),
            console: ConsoleConfig::default(),
            control_socket: None,
            wait_backend: Duration::from_secs(10),
        }
    }

    /// Adds a card.
    pub fn nic(mut self, nic: NicConfig) -> Self {
        self.nics.push(nic);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] says which value is wrong and what would be right.
    pub fn check(&self) -> Result<()> {
        let no = |text: String| Err(Error::Config(text));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return no(format!(
                "guest name {:?}: up to 64 letters, digits, '.', '_' and '-' are allowed",
                self.name
            ));
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&self.memory) || !self.memory.is_multiple_of(2 << 20)
        {
            return no(format!(
                "memory of {} bytes: it must be a multiple of 2 MiB from {} MiB to 1 TiB",
                self.memory,
                MIN_MEMORY >> 20
            ));
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return no(format!(
                "{} vCPUs: 1 to {MAX_VCPUS} are possible",
                self.vcpus
            ));
        }
        if self.nics.len() > MAX_NICS {
            return no(format!(
                "{} network cards: up to {MAX_NICS} are possible",
                self.nics.len()
            ));
        }
        let cmdline = match &self.kernel {
            Kernel::BuiltinGuest { args } => args,
            Kernel::Linux { cmdline, .. } => cmdline,
        };
        if cmdline.bytes().any(|b| !(b' '..0x7f).contains(&b)) {
            return no("the kernel command line may only have printable ASCII".into());
        }
        for (i, nic) in self.nics.iter().enumerate() {
            nic.check()?;
            for other in &self.nics[..i] {
                if other.mac == nic.mac {
                    return no(format!("two cards have the MAC address {}", nic.mac));
                }
                if other.socket == nic.socket {
                    let path = nic.socket.path().display();
                    return no(format!("two cards use the socket {path}"));
                }
            }
        }
        Ok(())
    }
}

/// What runs in a guest.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// The guest that is in the box: one network card, commands on its console (see
    /// `guest/src/program/app.rs` for them).
    BuiltinGuest {
        /// Its options: `name=`, `ip=`, `vlan=`, `run=` and so on.
        args: String,
    },
    /// A Linux kernel.
    Linux {
        /// A bzImage or an ELF vmlinux.
        kernel: PathBuf,
        /// An initial RAM file system.
        initrd: Option<PathBuf>,
        /// The command line; what the monitor must say about devices is added to it.
        cmdline: String,
    },
}

/// A network card whose queues are handed to a switch.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// The socket between card and switch.
    pub socket: VhostUserSocket,
    /// Its address.
    pub mac: MacAddr,
    /// Pairs of queues the guest may use, 1 to [`MAX_QUEUE_PAIRS`]; less when the switch has
    /// fewer.
    pub queue_pairs: u16,
    /// The MTU the guest is told, 68 to 65535; none: it keeps its own default.
    pub mtu: Option<u16>,
}

impl NicConfig {
    /// A card with one queue pair.
    pub fn new(socket: VhostUserSocket, mac: MacAddr) -> Self {
        NicConfig {
            socket,
            mac,
            queue_pairs: 1,
            mtu: None,
        }
    }

    fn check(&self) -> Result<()> {
        if !(1..=MAX_QUEUE_PAIRS).contains(&self.queue_pairs) {
            return Err(Error::Config(format!(
                "{} queue pairs: 1 to {MAX_QUEUE_PAIRS} are possible",
                self.queue_pairs
            )));
        }
        if self.mac.0[0] & 1 != 0 {
            return Err(Error::Config(format!(
                "MAC address {}: a card cannot have a multicast address",
                self.mac
            )));
        }
        if let Some(mtu @ ..68) = self.mtu {
            return Err(Error::Config(format!("MTU {mtu}: the least is 68")));
        }
        let path = self.socket.path();
        // The length of a socket address, less the zero byte.
        if path.as_os_str().is_empty() || path.as_os_str().len() > 107 {
            return Err(Error::Config(format!(
                "socket path {:?}: 1 to 107 bytes are possible",
                path.display()
            )));
        }
        Ok(())
    }
}

/// Which side of a vhost-user socket the card is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VhostUserSocket {
    /// The card makes the socket and the switch connects to it (port type
    /// `dpdkvhostuserclient`): the switch may restart and connect again.
    Listen(PathBuf),
    /// The switch made the socket (port type `dpdkvhostuser`) and the card connects to it.
    Connect(PathBuf),
}

impl VhostUserSocket {
    /// The path of the socket.
    pub fn path(&self) -> &std::path::Path {
        match self {
            VhostUserSocket::Listen(path) | VhostUserSocket::Connect(path) => path,
        }
    }
}

/// Where the console goes. What the guest writes is always kept for readers in this process
/// ([`crate::Console`]); these come on top.
#[derive(Clone, Debug, Default)]
pub struct ConsoleConfig {
    /// Standard output and input of this process.
    pub stdio: bool,
    /// A file to write to (made anew).
    pub file: Option<PathBuf>,
    /// A Unix socket to be made: each client gets what there was and what comes, and can type.
    pub socket: Option<PathBuf>,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address a guest gets when none is given: 52:54:00 and three bytes that depend on the
    /// guest's name and the number of the card only.
    pub fn for_guest(name: &str, card: usize) -> Self {
        // FNV-1a
        let hash = name
            .bytes()
            .chain([0, card as u8])
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let [a, b, c, ..] = (hash ^ hash >> 32).to_le_bytes();
        MacAddr([0x52, 0x54, 0, a, b, c])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Config(format!(
                "{text:?} is not a MAC address (such as 52:54:00:12:34:56)"
            ))
        };
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(MacAddr(mac)),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VmConfig {
        VmConfig::new(
            "vm1",
            Kernel::BuiltinGuest {
                args: String::new(),
            },
        )
    }

    #[test]
    fn says_what_is_wrong() {
        let socket = VhostUserSocket::Listen("/x/s".into());
        let nic = NicConfig::new(socket, MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        config().nic(nic.clone()).check().unwrap();
        let text = |c: VmConfig| c.check().unwrap_err().to_string();
        let mut c = config();
        c.name = "a/b".into();
        assert!(text(c).contains("a/b"));
        let mut c = config();
        c.memory = (64 << 20) + 4096;
        assert!(text(c).contains("2 MiB"));
        let mut c = config();
        c.vcpus = 0;
        assert!(text(c).contains("0 vCPUs"));
        assert!(text(config().nic(nic.clone()).nic(nic.clone())).contains("two cards"));
        let mut bad = nic.clone();
        bad.mac = "01:00:5e:00:00:01".parse().unwrap();
        assert!(text(config().nic(bad)).contains("multicast"));
        let mut bad = nic;
        bad.mtu = Some(60);
        assert!(text(config().nic(bad)).contains("MTU 60"));
    }

    #[test]
    fn mac_addresses() {
        let mac: MacAddr = "52:54:00:aB:cd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:1",
            "52:54:00:ab:cd:01:02",
            "52:54:00:ab:cd:0g",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
        let one = MacAddr::for_guest("vm1", 0);
        assert_eq!(one, MacAddr::for_guest("vm1", 0));
        assert_ne!(one, MacAddr::for_guest("vm1", 1));
        assert_ne!(one, MacAddr::for_guest("vm2", 0));
        assert_eq!(one.0[..3], [0x52, 0x54, 0]);
    }
}
