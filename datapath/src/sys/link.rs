//! Network interfaces of the kernel by name: state, address, MTU, driver (netdevice(7)).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Longest interface name in bytes.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

const ETHTOOL_GSET: u32 = 1;
const ETHTOOL_GDRVINFO: u32 = 3;
/// Speeds above this mean "unknown".
const SPEED_UNKNOWN: u64 = u32::MAX as u64;

/// An interface as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The kernel's number for it.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// Up and with carrier.
    pub running: bool,
    /// Largest packet without the Ethernet header.
    pub mtu: u32,
    /// Its address.
    pub mac: [u8; 6],
}

/// What ethtool knows of a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// `driver_name`.
    pub name: String,
    /// `driver_version`.
    pub version: String,
    /// `firmware_version`.
    pub firmware: String,
}

/// A way to ask the kernel about the interfaces of one network namespace (the one of the thread that made it).
#[derive(Debug)]
pub struct Links(OwnedFd);

impl Links {
    /// Opens it.
    pub fn new() -> io::Result<Links> {
        // SAFETY: no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe {
            libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
        })?;
        // SAFETY: as above.
        Ok(Links(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Opens one for another namespace.
    pub fn of(namespace: OwnedFd) -> io::Result<Links> {
        // A thread enters it, asks, and ends; nobody else does.
        let ask = std::thread::spawn(move || {
            // SAFETY: changes the namespace of the calling thread, which ends with this closure.
            check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
            Links::new()
        });
        ask.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that entered it died")))
    }

    fn call(&self, request: libc::Ioctl, ifr: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all requests used here take a pointer to an ifreq, which `ifr` is.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), request, ifr as *mut libc::ifreq) })?;
        Ok(())
    }

    /// How the interface is now; `NotFound` or "No such device" if there is none.
    pub fn state(&self, name: &str) -> io::Result<LinkState> {
        let mut ifr = request(name)?;
        self.call(libc::SIOCGIFINDEX, &mut ifr)?;
        // SAFETY: the kernel filled in this member of the union, and below the others.
        let index = unsafe { ifr.ifr_ifru.ifru_ifindex } as u32;
        self.call(libc::SIOCGIFFLAGS, &mut ifr)?;
        // SAFETY: see above.
        let flags = i32::from(unsafe { ifr.ifr_ifru.ifru_flags });
        self.call(libc::SIOCGIFMTU, &mut ifr)?;
        // SAFETY: see above.
        let mtu = unsafe { ifr.ifr_ifru.ifru_mtu }.max(0) as u32;
        self.call(libc::SIOCGIFHWADDR, &mut ifr)?;
        // SAFETY: see above.
        let address = unsafe { ifr.ifr_ifru.ifru_hwaddr }.sa_data;
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address) {
            *to = from as u8;
        }
        let up = flags & libc::IFF_UP != 0;
        Ok(LinkState {
            index,
            up,
            running: up && flags & libc::IFF_RUNNING != 0,
            mtu,
            mac,
        })
    }

    /// Switches the interface up or down.
    pub fn set_up(&self, name: &str, up: bool) -> io::Result<()> {
        let mut ifr = request(name)?;
        self.call(libc::SIOCGIFFLAGS, &mut ifr)?;
        // SAFETY: the kernel filled in the flags.
        let flags = unsafe { ifr.ifr_ifru.ifru_flags };
        let bit = libc::IFF_UP as libc::c_short;
        ifr.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
        self.call(libc::SIOCSIFFLAGS, &mut ifr)
    }

    /// Sets the MTU.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> io::Result<()> {
        let mut ifr = request(name)?;
        ifr.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        self.call(libc::SIOCSIFMTU, &mut ifr)
    }

    /// Sets the address.
    pub fn set_mac(&self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut ifr = request(name)?;
        // SAFETY: all-zero bytes are a valid sockaddr.
        let mut address: libc::sockaddr = unsafe { mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        ifr.ifr_ifru.ifru_hwaddr = address;
        self.call(libc::SIOCSIFHWADDR, &mut ifr)
    }

    fn ethtool<const N: usize>(&self, name: &str, command: u32) -> io::Result<[u8; N]> {
        // Words, so that the structure is aligned; N is a multiple of 4.
        let mut data = [0u8; N];
        data[..4].copy_from_slice(&command.to_ne_bytes());
        let mut ifr = request(name)?;
        ifr.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        self.call(libc::SIOCETHTOOL as libc::Ioctl, &mut ifr)?;
        Ok(data)
    }

    /// Speed in kbit/s, if the driver knows one.
    pub fn speed_kbps(&self, name: &str) -> Option<u64> {
        // struct ethtool_cmd, 44 bytes: speed at 12, its upper half at 28.
        let data = self.ethtool::<44>(name, ETHTOOL_GSET).ok()?;
        let half = |at: usize| u64::from(u16::from_ne_bytes([data[at], data[at + 1]]));
        let mbps = half(28) << 16 | half(12);
        (mbps != SPEED_UNKNOWN && mbps != 0xffff && mbps != 0).then_some(mbps * 1000)
    }

    /// The driver, if it says.
    pub fn driver(&self, name: &str) -> Option<Driver> {
        // struct ethtool_drvinfo, 196 bytes: three strings of 32 bytes from 4 on.
        let data = self.ethtool::<196>(name, ETHTOOL_GDRVINFO).ok()?;
        let text = |at: usize| {
            let bytes = &data[at..at + 32];
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(32);
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        Some(Driver {
            name: text(4),
            version: text(36),
            firmware: text(68),
        })
    }
}

/// An `ifreq` for an interface's name.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() > MAX_NAME || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an interface name has 1 to {MAX_NAME} bytes and no slash"),
        ));
    }
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut ifr: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in ifr.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(ifr)
}

/// Moves the calling thread into a network namespace of its own, for tests; `false` if that is not allowed here.
#[cfg(test)]
pub(crate) fn own_namespace() -> bool {
    // SAFETY: changes the calling thread's namespace only.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}
