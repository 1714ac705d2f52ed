//! Datapath actions: what a translation comes down to, and how a packet is changed.
//!
//! Every change keeps the checksums right by the difference alone (RFC 1624), whether the checksum
//! is in the frame or is yet to be filled in by who sends it: then only the pseudo header's sum is
//! there, and only addresses change it. Large (GSO) frames are of the second kind.
//!
//! A change that does not fit the packet (a header cut short) is left out: the flow key of such a
//! packet says as much, and no rule could have asked for it knowingly.

mod format;
mod header;
mod layers;
mod mpls;
mod nsh;
mod pbb;
mod tag;
#[cfg(test)]
mod tests;

pub(crate) use format::format;
use header::patch;
pub(crate) use header::set;
pub(crate) use layers::find_headers;
pub(crate) use mpls::{copy_ttl_in, copy_ttl_out, pop_mpls, push_mpls};
pub(crate) use nsh::{Header, NAMESPACE, next_protocol, packet_type};
pub(crate) use tag::{pop_vlan, push_vlan, set_vlan};

use crate::drop::DropReason;
use crate::meter::Meter;
use crate::packet::Packet;
use crate::pipeline::Frozen;
use crate::policing::Limit;
use crate::tunnel::TunnelKind;
use crate::tunnel::encap::Encap;
use crate::underlay::Ask;
use openflow::action::PacketInReason;
use openflow::{Match, Slot};
use std::sync::Arc;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum DpAction {
    /// Out of the port of this index.
    Output(u32),
    /// A tag on; tag protocol 0 is that of the tag last taken off.
    PushVlan {
        /// Tag protocol.
        tpid: u16,
        /// Priority and VLAN.
        tci: u16,
    },
    /// The outer tag off.
    PopVlan,
    /// The outer tag's priority and VLAN.
    SetVlan(u16),
    /// Bits of a header field.
    Set {
        /// Which.
        slot: Slot,
        /// Its new bits.
        value: u128,
        /// Which of its bits.
        mask: u128,
    },
    /// An MPLS label stack entry on.
    PushMpls {
        /// The Ethernet type from now on.
        eth_type: u16,
        /// The entry.
        entry: u32,
    },
    /// The outermost entry off; what is behind it was there before in this translation.
    PopMpls(u16),
    /// Out of the port of this index, no more than the first bytes.
    Truncated {
        /// The port.
        port: u32,
        /// How many bytes.
        max_len: u32,
    },
    /// Through a meter. What it drops goes on with the action of this number: behind what is done to the same copy.
    Meter {
        /// The meter.
        meter: Arc<Meter>,
        /// Where what it drops goes on.
        until: u32,
    },
    /// Through a limit of a port. What it drops goes on with the action of this number, as with a meter.
    Limit {
        /// The limit.
        limit: Arc<Limit>,
        /// Where what it drops goes on.
        until: u32,
    },
    /// Outputs from here on go by this queue of their port. (Ports have one.)
    Queue(u32),
    /// Only mirrors get a copy, and the packet is dropped.
    Drop(DropReason),
    /// A copy to the controllers.
    PacketIn(Arc<PacketInSpec>),
    /// A copy goes into a tunnel.
    TunnelPush(Arc<TunnelPush>),
    /// Off a tunnel: what is inside comes in by the tunnel port that it is for.
    TunnelPop {
        /// The encapsulation; GRE for all that GRE carries.
        kind: TunnelKind,
        /// The UDP port, 0 for kinds without.
        port: u16,
    },
    /// The next hop of a tunnel is asked for.
    AskNeighbour(Arc<Ask>),
    /// A copy is reshaped, its key is read again, and the translation goes on.
    Recirculate(Arc<Frozen>),
}

/// What is done to a packet that goes into a tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelPush {
    /// Its outer headers.
    pub encap: Encap,
    /// The tunnel port it leaves by.
    pub port: u32,
    /// The port of the underlay that it comes in by with its outer headers on, or the socket of the host.
    pub out: u32,
    /// What is done to it then.
    pub actions: Vec<DpAction>,
    /// Whether all changes of these come before all outputs.
    pub simple: bool,
    /// Whether it is a copy for a mirror, of no more than so many bytes: its sender is not told if it is too long.
    pub mirror: Option<u32>,
}

/// A change of the headers after which they are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// None: it is another thing that only the packet can tell.
    Nothing,
    /// The outermost MPLS entry off; what is behind it is of this Ethernet type.
    PopMpls(u16),
    /// The next-outermost header's TTL to the outermost.
    CopyTtlOut,
    /// The outermost header's TTL to the next-outermost.
    CopyTtlIn,
    /// A PBB service tag on.
    PushPbb,
    /// The PBB service tag off, with its Ethernet header.
    PopPbb,
    /// A network service header on.
    PushNsh {
        /// The header.
        header: Arc<[u8]>,
        /// What goes into it as next protocol.
        next_protocol: u8,
    },
    /// The network service header off.
    PopNsh,
    /// The addresses of the Ethernet header cleared: it is put on, or as good as off.
    ClearEthernet,
}

/// Reshapes a packet; `false` if it cannot be done to this one.
pub(crate) fn reshape(p: &mut Packet, how: &Reshape) -> bool {
    match how {
        Reshape::Nothing => {}
        Reshape::PopMpls(eth_type) => pop_mpls(p, *eth_type),
        Reshape::CopyTtlOut => copy_ttl_out(p),
        Reshape::CopyTtlIn => copy_ttl_in(p),
        Reshape::PushPbb => return pbb::push_pbb(p),
        Reshape::PopPbb => pbb::pop_pbb(p),
        Reshape::PushNsh {
            header,
            next_protocol,
        } => return nsh::push_nsh(p, header, *next_protocol),
        Reshape::PopNsh => return nsh::pop_nsh(p),
        Reshape::ClearEthernet => nsh::clear_ethernet(p),
    }
    true
}

/// What a packet-in tells beside the packet.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketInSpec {
    /// The bridge's number.
    pub bridge: u32,
    /// Why.
    pub reason: PacketInReason,
    /// Table of the rule.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// in_port, metadata, registers.
    pub metadata: Match,
    /// How many bytes are wanted.
    pub max_len: u16,
    /// Which controllers.
    pub controller_id: u16,
    /// Nicira's userdata.
    pub userdata: bytes::Bytes,
    /// The datapath port whose budget pays.
    pub budget: u32,
    /// The meter that it goes through.
    pub meter: Option<Arc<Meter>>,
    /// What is left to do, if a controller is to say that it goes on.
    pub continuation: Option<bytes::Bytes>,
}
