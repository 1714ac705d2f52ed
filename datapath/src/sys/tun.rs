//! Tap devices: Ethernet interfaces of the kernel whose other end is a descriptor of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::link::Links;
use super::{check, link};

/// `_IO('T', 227)`: the network namespace that the tap is in.
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;

const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
const TUN_F_TSO6: libc::c_ulong = 4;
const TUN_F_TSO_ECN: libc::c_ulong = 8;

/// Makes (or attaches to) the tap `name`: frames with a virtio-net header of `header` bytes, no other prefix, checksums and TCP
/// segmentation left to us, non-blocking. It lives as long as the returned file.
pub fn open_tap(name: &str, header: i32) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|e| io::Error::new(e.kind(), format!("/dev/net/tun: {e}")))?;
    let mut ifr = link::request(name)?;
    ifr.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF takes a pointer to an ifreq.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut ifr) })?;
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to an int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })?;
    let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    // SAFETY: TUNSETOFFLOAD takes a number.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })?;
    Ok(file)
}

/// Where the interface of a tap is now, and by which name: it may have been moved to another network namespace, and renamed.
pub fn whereabouts(tap: &File) -> io::Result<(Links, String)> {
    // SAFETY: TUNGETDEVNETNS takes no pointer; a non-negative result is a fresh descriptor nobody else owns.
    let namespace = check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNGETDEVNETNS) })?;
    // SAFETY: as above.
    let namespace = unsafe { OwnedFd::from_raw_fd(namespace) };
    let mut ifr = link::request("any")?;
    // SAFETY: TUNGETIFF takes a pointer to an ifreq, which it fills in.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETIFF, &raw mut ifr) })?;
    let name = ifr.ifr_name.iter().take_while(|c| **c != 0);
    let name: Vec<u8> = name.map(|c| *c as u8).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok((Links::of(namespace)?, name))
}
