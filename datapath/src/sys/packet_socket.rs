//! Packet sockets on existing interfaces (packet(7)), with virtio-net headers so that large frames pass whole.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use super::mmap::Region;
use super::packet_ring::{SLOT, SLOTS};

const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TPACKET_V2: libc::c_int = 1;
/// As PACKET_IGNORE_OUTGOING, for a group of sockets.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;
const FANOUT_UNIQUE_ID: u32 = 0x2000;
/// Room for long frames that wait for us, and for frames that wait for the interface. The kernel may give less.
const BUFFER: libc::c_int = 4 << 20;
/// Bytes of a ring that the kernel takes in one piece.
const BLOCK: usize = 64 << 10;

/// A socket bound to one interface, which is promiscuous as long as the socket lives, and its receive ring.
#[derive(Debug)]
pub struct PacketSocket {
    ring: Region,
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
        let one: libc::c_int = 1;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &one)?;
        set(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)?;
        for (force, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            if set(&fd, libc::SOL_SOCKET, force, &BUFFER).is_err() {
                set(&fd, libc::SOL_SOCKET, plain, &BUFFER)?;
            }
        }
        let ring = make_ring(&fd)?;
        let socket = PacketSocket { ring, fd, index };
        // SAFETY: all-zero bytes are a valid packet_mreq.
        let mut membership: libc::packet_mreq = unsafe { mem::zeroed() };
        membership.mr_ifindex = index as libc::c_int;
        membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        set(
            &socket.fd,
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            &membership,
        )?;
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

    /// As many sockets on the interface, among which its frames are spread by flow (PACKET_FANOUT_HASH).
    pub fn open_group(index: u32, sockets: usize) -> io::Result<Vec<PacketSocket>> {
        let first = PacketSocket::open(index)?;
        let mut group = vec![first];
        if sockets < 2 {
            return Ok(group);
        }
        let how = libc::PACKET_FANOUT_HASH | FANOUT_IGNORE_OUTGOING;
        // The kernel finds a number that nobody uses in this network namespace.
        let any = (how | FANOUT_UNIQUE_ID) << 16;
        set(&group[0].fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &any)?;
        let number = get::<u32>(&group[0].fd, libc::SOL_PACKET, libc::PACKET_FANOUT)? & 0xffff;
        for _ in 1..sockets {
            let next = PacketSocket::open(index)?;
            set(
                &next.fd,
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                &(number | how << 16),
            )?;
            group.push(next);
        }
        Ok(group)
    }

    /// Slots of the receive ring.
    #[inline]
    pub(super) fn slots(&self) -> usize {
        self.ring.len() / SLOT
    }

    /// Where the slot of a number below [`PacketSocket::slots`] begins; it is [`SLOT`] bytes long.
    #[inline]
    pub(super) fn slot(&self, number: usize) -> *mut u8 {
        self.ring.as_ptr().wrapping_add(number * SLOT)
    }

    /// Takes a pending error off (the interface went down, say), so that no frame is refused for it later.
    pub fn clear_error(&self) {
        let _ = get::<libc::c_int>(&self.fd, libc::SOL_SOCKET, libc::SO_ERROR);
    }

    /// Number of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Frames that the kernel dropped because we were too slow, since the last call.
    pub fn dropped(&self) -> u64 {
        // struct tpacket_stats: frames, and those of them that were dropped.
        get::<[u32; 2]>(&self.fd, libc::SOL_PACKET, libc::PACKET_STATISTICS)
            .map_or(0, |statistics| statistics[1].into())
    }
}

fn set<T>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    let value = (value as *const T).cast();
    // SAFETY: `value` is `len` readable bytes of the type that the option takes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) })?;
    Ok(())
}

fn get<T: Default>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    let at = (&raw mut value).cast();
    // SAFETY: `value` has room for `len` bytes, and is of the plain type that the option has.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, at, &mut len) })?;
    Ok(value)
}

/// Gives a socket a receive ring, a smaller one where memory is scarce.
fn make_ring(fd: &OwnedFd) -> io::Result<Region> {
    set(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
    // Frames that no slot holds are queued whole.
    set(fd, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, &1)?;
    let mut slots = SLOTS;
    loop {
        let len = slots * SLOT;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (len / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: slots as u32,
        };
        let made = set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request);
        match made.and_then(|()| Region::of(fd.as_raw_fd(), 0, len)) {
            Ok(ring) => return Ok(ring),
            Err(e) if slots * SLOT / 4 < BLOCK || e.raw_os_error() != Some(libc::ENOMEM) => {
                return Err(e);
            }
            Err(_) => slots /= 4,
        }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
