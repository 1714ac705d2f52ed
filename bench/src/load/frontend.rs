//! Hands a guest's memory and rings to the switch: vhost-user, front end, over a connection that the switch made.

use super::memory::Memory;
use super::ring::Ring;
use anyhow::{Context, Result, ensure};
use std::os::unix::net::UnixStream;
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures as Proto};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vmm_sys_util::eventfd::EventFd;

/// Feature bits (virtio 1.2 5.1.3, 6; vhost-user for the protocol features).
pub mod feature {
    /// Device takes partial checksums.
    pub const CSUM: u64 = 1;
    /// Driver takes partial checksums.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// Driver takes unsegmented TCP over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// Device takes unsegmented TCP over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// A frame may fill several receive buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// Indirect tables.
    pub const INDIRECT: u64 = 1 << 28;
    /// vhost-user protocol features.
    pub const PROTOCOL: u64 = 1 << 30;
    /// Not legacy.
    pub const VERSION_1: u64 = 1 << 32;
}

/// A negotiated connection. Dropping it takes the guest away from the switch.
pub struct Session {
    _frontend: Frontend,
    /// Tells the switch of frames to fetch.
    pub kick: EventFd,
    _others: [EventFd; 3],
}

/// Negotiates and hands over; `needed` features must be there.
///
/// # Errors
/// When the switch lacks a feature or refuses something.
pub fn connect<R: Ring>(
    stream: UnixStream,
    memory: &Memory,
    receive: &R,
    send: &R,
    needed: u64,
) -> Result<Session> {
    let mut f = Frontend::from_stream(stream, 2);
    let offered = f.get_features().context("GET_FEATURES")?;
    let mut features = needed | R::FEATURES | feature::VERSION_1;
    ensure!(
        offered & features == features,
        "the switch offers features {offered:#x}, without {:#x}, which this needs",
        features & !offered
    );
    let protocol = offered & feature::PROTOCOL != 0;
    if protocol {
        features |= feature::PROTOCOL;
        let common = f.get_protocol_features().context("GET_PROTOCOL_FEATURES")?
            & (Proto::MQ | Proto::REPLY_ACK);
        f.set_protocol_features(common)
            .context("SET_PROTOCOL_FEATURES")?;
        if common.contains(Proto::REPLY_ACK) {
            f.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
    }
    f.set_owner().context("SET_OWNER")?;
    f.set_features(features).context("SET_FEATURES")?;
    f.set_mem_table(&[memory.region()])
        .context("SET_MEM_TABLE")?;
    let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).context("eventfd");
    let fds = [event()?, event()?, event()?, event()?];
    // Queue 0 receives, queue 1 sends (virtio 1.2 5.1.2). Packed rings begin with both wrap counters at one.
    let base = if R::FEATURES == 0 { 0 } else { 1 << 15 };
    for (i, ring) in [receive, send].into_iter().enumerate() {
        let config = ring.config();
        f.set_vring_num(i, config.queue_size)
            .context("SET_VRING_NUM")?;
        f.set_vring_base(i, base).context("SET_VRING_BASE")?;
        f.set_vring_addr(i, &config).context("SET_VRING_ADDR")?;
        f.set_vring_call(i, &fds[2 * i]).context("SET_VRING_CALL")?;
        f.set_vring_kick(i, &fds[2 * i + 1])
            .context("SET_VRING_KICK")?;
    }
    if protocol {
        for i in 0..2 {
            f.set_vring_enable(i, true).context("SET_VRING_ENABLE")?;
        }
    }
    let [a, b, c, kick] = fds;
    let _ = kick.write(1);
    Ok(Session {
        _frontend: f,
        kick,
        _others: [a, b, c],
    })
}
