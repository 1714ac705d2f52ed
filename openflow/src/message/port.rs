//! Ports and their queues.

use crate::field::FieldId;
use std::fmt;
use std::time::Duration;

/// An OpenFlow port number, 32 bits wide as from version 1.1 on (1.3.5 7.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortNo(pub u32);

#[allow(missing_docs, reason = "the specification's names, without OFPP_")]
impl PortNo {
    pub const MAX: PortNo = PortNo(0xffff_ff00);
    pub const UNSET: PortNo = PortNo(0xffff_fff7);
    pub const IN_PORT: PortNo = PortNo(0xffff_fff8);
    pub const TABLE: PortNo = PortNo(0xffff_fff9);
    pub const NORMAL: PortNo = PortNo(0xffff_fffa);
    pub const FLOOD: PortNo = PortNo(0xffff_fffb);
    pub const ALL: PortNo = PortNo(0xffff_fffc);
    pub const CONTROLLER: PortNo = PortNo(0xffff_fffd);
    pub const LOCAL: PortNo = PortNo(0xffff_fffe);
    pub const ANY: PortNo = PortNo(0xffff_ffff);

    /// Whether it is a number that a real port other than the local one may have.
    pub fn is_physical(self) -> bool {
        self.0 > 0 && self.0 < 0xff00
    }
}

impl Default for PortNo {
    /// No port in particular: [`PortNo::ANY`].
    fn default() -> PortNo {
        PortNo::ANY
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            PortNo::UNSET => "UNSET",
            PortNo::IN_PORT => "IN_PORT",
            PortNo::TABLE => "TABLE",
            PortNo::NORMAL => "NORMAL",
            PortNo::FLOOD => "FLOOD",
            PortNo::ALL => "ALL",
            PortNo::CONTROLLER => "CONTROLLER",
            PortNo::LOCAL => "LOCAL",
            PortNo::ANY => "ANY",
            PortNo(n) => return write!(f, "{n}"),
        };
        f.write_str(name)
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// As a number, first octet most significant, as flow keys hold it.
    pub fn to_u64(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }

    /// From the low 48 bits.
    pub fn from_u64(n: u64) -> MacAddr {
        let b = n.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// Broadcast or multicast.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl std::str::FromStr for MacAddr {
    type Err = String;

    fn from_str(s: &str) -> Result<MacAddr, String> {
        let bad =
            || format!("{s}: a MAC address is six two-digit hex numbers, like 52:54:00:12:34:56");
        let mut m = [0; 6];
        let mut parts = s.split(':');
        for b in &mut m {
            let p = parts
                .next()
                .filter(|p| (1..=2).contains(&p.len()))
                .ok_or_else(bad)?;
            *b = u8::from_str_radix(p, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(MacAddr(m))
        }
    }
}

/// Port configuration bits, `OFPPC_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortFlags {
    /// Administratively down.
    pub port_down: bool,
    /// Out of the spanning tree (OpenFlow 1.0).
    pub no_stp: bool,
    /// Drop what comes in.
    pub no_recv: bool,
    /// Drop the spanning tree's packets too (OpenFlow 1.0).
    pub no_recv_stp: bool,
    /// Send nothing out.
    pub no_fwd: bool,
    /// No packet-ins.
    pub no_packet_in: bool,
    /// Left out of floods (OpenFlow 1.0's name; weir keeps it for all versions).
    pub no_flood: bool,
}

/// A port as a controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDesc {
    /// Number.
    pub port: PortNo,
    /// MAC address.
    pub mac: MacAddr,
    /// Name, at most 15 bytes on the wire.
    pub name: String,
    /// Configuration.
    pub config: PortFlags,
    /// No link.
    pub link_down: bool,
    /// Ready to carry traffic (fast failover).
    pub live: bool,
    /// `OFPPF_*` bits: current features.
    pub current: u32,
    /// Advertised.
    pub advertised: u32,
    /// Supported.
    pub supported: u32,
    /// Advertised by the peer.
    pub peer: u32,
    /// kbit/s, 0 if unknown.
    pub current_speed: u32,
    /// kbit/s, 0 if unknown.
    pub max_speed: u32,
    /// What else there is to say (1.4 and later).
    pub properties: Vec<PortProperty>,
}

/// What a port's description has beside the Ethernet properties (OpenFlow 1.5.1 7.2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortProperty {
    /// An optical port.
    Optical(OpticalPort),
    /// Pipeline fields that packets from it come with (1.5, as what follows).
    PipelineInput(Vec<FieldId>),
    /// Pipeline fields that it sends with packets.
    PipelineOutput(Vec<FieldId>),
    /// Ports by which packets sent here come back.
    Recirculate(Vec<PortNo>),
}

/// `ofp_port_desc_prop_optical`; frequencies in MHz or wavelengths in hundredths of a nanometre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalPort {
    /// `OFPOPF_*`.
    pub supported: u32,
    /// Least frequency or wavelength it can send.
    pub tx_min: u32,
    /// Greatest.
    pub tx_max: u32,
    /// Spacing.
    pub tx_grid: u32,
    /// Least it can receive.
    pub rx_min: u32,
    /// Greatest.
    pub rx_max: u32,
    /// Spacing.
    pub rx_grid: u32,
    /// Least power, in hundredths of a dBm.
    pub power_min: u16,
    /// Greatest.
    pub power_max: u16,
}

/// `ofp_port_stats_prop_optical`; units as in [`OpticalPort`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalStats {
    /// `OFPOSF_*`: which of the rest are valid.
    pub flags: u32,
    /// Frequency or wavelength sent.
    pub tx: u32,
    /// Its offset.
    pub tx_offset: u32,
    /// Its grid.
    pub tx_grid: u32,
    /// Frequency or wavelength received.
    pub rx: u32,
    /// Its offset.
    pub rx_offset: u32,
    /// Its grid.
    pub rx_grid: u32,
    /// Power sent.
    pub tx_power: u16,
    /// Power received.
    pub rx_power: u16,
    /// Bias current, in tenths of a milliampere.
    pub bias: u16,
    /// Temperature, in tenths of a degree.
    pub temperature: u16,
}

/// `ofp_port_mod_prop_optical`; units as in [`OpticalPort`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalMod {
    /// `OFPOPF_*`: which to change.
    pub configure: u32,
    /// Frequency or wavelength to send.
    pub frequency: u32,
    /// Offset, signed.
    pub offset: i32,
    /// Grid.
    pub grid: u32,
    /// Power to send with.
    pub power: u32,
}

/// A port's counters. `u64::MAX` for one that is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct PortStats {
    pub port: u32,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_err: u64,
    pub rx_over_err: u64,
    pub rx_crc_err: u64,
    pub collisions: u64,
    pub duration: Duration,
    /// Of an optical port (1.4 and later).
    pub optical: Option<OpticalStats>,
}

/// A queue's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct QueueStats {
    pub port: u32,
    pub queue: u32,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub duration: Duration,
}

/// Why a port-status is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum PortReason {
    Add,
    Delete,
    Modify,
}

/// A change of a port by a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMod {
    /// Which.
    pub port: PortNo,
    /// Must be the port's address.
    pub mac: MacAddr,
    /// New bits.
    pub config: PortFlags,
    /// Which bits to change.
    pub mask: PortFlags,
    /// `OFPPF_*` to advertise, 0 for no change.
    pub advertise: u32,
    /// Of an optical port (1.4 and later).
    pub optical: Option<OpticalMod>,
}

/// A queue and its rates, in tenths of a percent of the port's speed (0..=1000) where set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Which.
    pub queue: u32,
    /// Its port.
    pub port: PortNo,
    /// Guaranteed.
    pub min_rate: Option<u16>,
    /// Limit.
    pub max_rate: Option<u16>,
}
