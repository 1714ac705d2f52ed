//! Packet sockets on existing interfaces (packet(7)), with virtio-net headers so that large frames pass whole.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// Room for frames that wait for us or for the interface. The kernel may give less.
const BUFFER: libc::c_int = 4 << 20;

/// A socket bound to one interface, which is promiscuous as long as the socket lives.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

impl PacketSocket {
    /// Opens a socket on the interface with this number.
    pub fn open(index: u32) -> io::Result<PacketSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is received before everything is set.
        // SAFETY: no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = PacketSocket { fd, index };
        let one: libc::c_int = 1;
        socket.set(libc::SOL_PACKET, PACKET_VNET_HDR, &one)?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &one)?;
        for (force, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            if socket.set(libc::SOL_SOCKET, force, &BUFFER).is_err() {
                socket.set(libc::SOL_SOCKET, plain, &BUFFER)?;
            }
        }
        // SAFETY: all-zero bytes are a valid packet_mreq.
        let mut membership: libc::packet_mreq = unsafe { mem::zeroed() };
        membership.mr_ifindex = index as libc::c_int;
        membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        socket.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as libc::c_int;
        let len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is an initialised sockaddr_ll of `len` bytes.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is `len` readable bytes of the type that the option takes.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                option,
                (value as *const T).cast(),
                len,
            )
        })?;
        Ok(())
    }

    /// Number of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Frames that the kernel dropped because we were too slow, since the last call.
    pub fn dropped(&self) -> u64 {
        let mut statistics = [0u32; 2];
        let mut len = mem::size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: `statistics` has room for the two numbers of tpacket_stats, `len` says so.
        let result = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &mut len,
            )
        };
        if result == 0 { statistics[1].into() } else { 0 }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
