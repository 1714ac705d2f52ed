//! Taking a tunnel's headers off a packet.
//!
//! [`parse`] looks and says what there is; [`Popped::take_off`] does it. In between it is found out which tunnel port the packet is
//! for. A packet is parsed from its outer IP header on: behind an Ethernet header in a frame of the underlay, at its beginning if
//! a socket of the host gave it.
//!
//! A large packet (GSO) has to be cut before: its outer headers are those of many.

use super::outer::{self, Ip, PROTOCOL_GRE, PROTOCOL_UDP, Udp};
use super::{
    OPTIONS_MAX, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind, erspan, geneve, gre,
    gtpu, vxlan,
};
use crate::drop::DropReason;
use crate::packet::{Batch, Checksum, HEAD_MAX, Layers, checksum};

/// Bytes that are looked at: the longest headers there can be, from the outer IP header on.
const LOOK: usize = outer::IPV6 + outer::UDP + geneve::LEN + OPTIONS_MAX;

/// Geneve options of one packet, without the memory being cleared between packets.
#[derive(Clone, Debug)]
pub struct OptionBuffer {
    len: u8,
    bytes: [u8; OPTIONS_MAX],
}

impl Default for OptionBuffer {
    fn default() -> OptionBuffer {
        OptionBuffer {
            len: 0,
            bytes: [0; OPTIONS_MAX],
        }
    }
}

impl OptionBuffer {
    /// The options, as on the wire.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What a tunnel's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Popped {
    /// The encapsulation: ERSPAN comes as GRE, and is told from it here.
    pub kind: TunnelKind,
    /// What flows can match.
    pub key: TunnelKey,
    /// The UDP port it was sent to; 0 if none.
    pub port: u16,
    /// Whether there is a group policy (VXLAN), which is only for tunnels with the extension.
    pub gbp: bool,
    /// Bytes from the beginning of the packet to what is inside. 0 if nothing is taken off: a message of GTP-U that carries no
    /// user data is handed on as it is.
    pub header_len: u16,
    /// The Ethernet type of a bare packet inside; none if a frame is inside.
    pub layer3: Option<u16>,
    /// Bytes of what is inside; the rest is padding.
    inner: u32,
}

/// Reads the outer headers of packet `i` from its byte `at` on, where its IP header is. `kind` is that of who listens: for UDP
/// it is known by the port only. Options are put into `options`.
pub fn parse(
    batch: &Batch,
    i: usize,
    kind: TunnelKind,
    at: usize,
    options: &mut OptionBuffer,
) -> Result<Popped, DropReason> {
    let p = batch.packet(i);
    options.len = 0;
    let left = p.len().saturating_sub(at);
    let head = p.head().get(at..).unwrap_or(&[]);
    let mut copy = [0; LOOK];
    // Most headers are in the head; with many options they may reach beyond.
    let bytes = if p.is_whole() || head.len() >= HEAD_MAX / 2 && !needs_more(head) {
        head
    } else {
        let n = batch.copy_out(i, at, &mut copy);
        &copy[..n]
    };
    let trusted = p.offload.checksum == Checksum::Valid;
    let ip = Ip::parse(bytes, left, trusted)?;
    let mut seen = Reader {
        batch,
        i,
        at,
        ip,
        bytes,
        transport: ip.header_len(),
        key: TunnelKey {
            id: 0,
            src: ip.src,
            dst: ip.dst,
            tos: ip.tos,
            ttl: ip.ttl,
            flags: if ip.df && ip.dst.is_ipv4() { TUN_DF } else { 0 },
            gbp_id: 0,
            gbp_flags: 0,
            erspan_version: 0,
            erspan_index: 0,
            erspan_direction: 0,
            erspan_hwid: 0,
            gtpu_flags: 0,
            gtpu_message: 0,
        },
    };
    match kind {
        TunnelKind::Gre | TunnelKind::Erspan => seen.gre(),
        _ => seen.udp(kind, options),
    }
}

/// Whether headers that begin so may end beyond what there is of them: Geneve's options.
fn needs_more(head: &[u8]) -> bool {
    let ip = match head.first().map(|b| b >> 4) {
        Some(6) => outer::IPV6,
        _ => outer::IPV4,
    };
    // Of other kinds this is any byte, and the copy is for nothing.
    let words = head.get(ip + outer::UDP).map_or(0, |b| b & 0x3f);
    head.len() < ip + outer::UDP + geneve::LEN + usize::from(words) * 4
}

/// A packet while it is read.
struct Reader<'a> {
    batch: &'a Batch,
    i: usize,
    /// Where the IP header is in the packet.
    at: usize,
    ip: Ip,
    /// The headers, from the IP header on.
    bytes: &'a [u8],
    /// Offset of the transport header from the IP header.
    transport: usize,
    key: TunnelKey,
}

impl Reader<'_> {
    fn rest(&self, at: usize) -> &[u8] {
        let end = (self.transport + self.ip.payload).min(self.bytes.len());
        self.bytes.get(at..end).unwrap_or(&[])
    }

    /// The sum of the transport header and all behind it: all ones if the checksum in it is right.
    fn sum(&self, pseudo: u64, len: usize) -> u16 {
        let from = self.at + self.transport;
        checksum::fold(self.batch.sum(self.i, from, len, pseudo))
    }

    /// Whether who gave us the packet answers for the transport checksum: it was checked, or is yet to be filled in.
    fn is_trusted(&self) -> bool {
        match self.batch.packet(self.i).offload.checksum {
            Checksum::None => false,
            Checksum::Valid => true,
            Checksum::Needed { start, .. } => usize::from(start) == self.at + self.transport,
        }
    }

    /// The outer checksum of a packet whose inner one is to be filled in.
    fn is_partial_inside(&self) -> bool {
        matches!(self.batch.packet(self.i).offload.checksum, Checksum::Needed { start, .. }
            if usize::from(start) > self.at + self.transport)
    }

    fn popped(&self, kind: TunnelKind, header: usize, layer3: Option<u16>, inner: usize) -> Popped {
        Popped {
            kind,
            key: self.key,
            port: 0,
            gbp: false,
            header_len: (self.at + header) as u16,
            layer3,
            inner: inner as u32,
        }
    }

    fn udp(&mut self, kind: TunnelKind, options: &mut OptionBuffer) -> Result<Popped, DropReason> {
        if self.ip.protocol != PROTOCOL_UDP {
            return Err(DropReason::TunnelProtocol);
        }
        let udp = Udp::parse(self.rest(self.transport), self.ip.payload)?;
        let len = outer::UDP + udp.payload;
        if udp.checksum != 0 {
            if !self.is_trusted()
                && !self.is_partial_inside()
                && self.sum(self.ip.pseudo(len), len) != 0xffff
            {
                return Err(DropReason::TunnelChecksum);
            }
            self.key.flags |= TUN_CSUM;
        }
        let at = self.transport + outer::UDP;
        let bytes = self.rest(at);
        let mut gbp = false;
        let mut layer3 = None;
        let header = match kind {
            TunnelKind::Vxlan => {
                let vxlan = vxlan::Vxlan::parse(bytes)?;
                self.key.id = vxlan.vni.into();
                self.key.flags |= TUN_KEY;
                if let Some((flags, id)) = vxlan.gbp {
                    (self.key.gbp_flags, self.key.gbp_id, gbp) = (flags, id, true);
                }
                vxlan::LEN
            }
            TunnelKind::Geneve => {
                let geneve = geneve::Geneve::parse(bytes)?;
                options.len = geneve.options as u8;
                options.bytes[..geneve.options]
                    .copy_from_slice(&bytes[geneve::LEN..geneve.header_len()]);
                self.key.id = geneve.vni.into();
                self.key.flags |= TUN_KEY | if geneve.oam { TUN_OAM } else { 0 };
                geneve.header_len()
            }
            _ => {
                let gtpu = gtpu::Gtpu::parse(bytes, udp.payload)?;
                let version = bytes.get(gtpu.len).map(|b| b >> 4);
                self.key.id = gtpu.teid.into();
                self.key.gtpu_flags = gtpu.flags;
                self.key.gtpu_message = gtpu.message;
                self.key.flags |= TUN_KEY;
                layer3 = match (gtpu.message, version) {
                    (gtpu::USER_DATA, Some(4)) => Some(outer::TYPE_IPV4),
                    (gtpu::USER_DATA, Some(6)) => Some(outer::TYPE_IPV6),
                    (gtpu::USER_DATA, _) => return Err(DropReason::TunnelProtocol),
                    _ => return Ok(self.untouched(udp.dst)),
                };
                gtpu.len
            }
        };
        let inner = udp
            .payload
            .checked_sub(header)
            .ok_or(DropReason::TunnelTruncated)?;
        check_inner(inner, layer3)?;
        Ok(Popped {
            port: udp.dst,
            gbp,
            ..self.popped(kind, at + header, layer3, inner)
        })
    }

    /// A message of GTP-U about the tunnel itself: with all its headers.
    fn untouched(&self, port: u16) -> Popped {
        let eth_type = match self.ip.dst {
            std::net::IpAddr::V4(_) => outer::TYPE_IPV4,
            std::net::IpAddr::V6(_) => outer::TYPE_IPV6,
        };
        Popped {
            header_len: 0,
            port,
            ..self.popped(
                TunnelKind::Gtpu,
                0,
                (self.at == 0).then_some(eth_type),
                self.batch.packet(self.i).len(),
            )
        }
    }

    fn gre(&mut self) -> Result<Popped, DropReason> {
        if self.ip.protocol != PROTOCOL_GRE {
            return Err(DropReason::TunnelProtocol);
        }
        let bytes = self.rest(self.transport);
        let gre = gre::Gre::parse(bytes)?;
        if gre.checksum.is_some()
            && !self.is_partial_inside()
            && self.sum(0, self.ip.payload) != 0xffff
        {
            return Err(DropReason::TunnelChecksum);
        }
        let mut header = gre.header_len();
        let mut kind = TunnelKind::Gre;
        let mut layer3 = None;
        let mut key = self.key;
        match gre.protocol {
            erspan::PROTOCOL_1 | erspan::PROTOCOL_2 => {
                if gre.sequence.is_none() || gre.key.is_some() || gre.checksum.is_some() {
                    return Err(DropReason::TunnelHeader);
                }
                let erspan =
                    erspan::Erspan::parse(gre.protocol, bytes.get(header..).unwrap_or(&[]))?;
                kind = TunnelKind::Erspan;
                header += erspan.header_len();
                key.id = erspan.session.into();
                key.flags |= TUN_KEY;
                match erspan.version {
                    erspan::Version::One { index } => {
                        (key.erspan_version, key.erspan_index) = (1, index);
                    }
                    erspan::Version::Two {
                        direction,
                        hardware,
                        ..
                    } => {
                        key.erspan_version = 2;
                        (key.erspan_direction, key.erspan_hwid) = (direction, hardware);
                    }
                }
            }
            protocol => {
                if protocol != gre::ETHERNET {
                    layer3 = Some(protocol);
                }
                key.flags |= gre.checksum.map_or(0, |_| TUN_CSUM);
                if let Some(k) = gre.key {
                    key.id = k.into();
                    key.flags |= TUN_KEY;
                }
            }
        }
        self.key = key;
        let inner = self
            .ip
            .payload
            .checked_sub(header)
            .ok_or(DropReason::TunnelTruncated)?;
        check_inner(inner, layer3)?;
        Ok(self.popped(kind, self.transport + header, layer3, inner))
    }
}

/// What is inside must be an Ethernet header at least, or anything at all.
fn check_inner(len: usize, layer3: Option<u16>) -> Result<(), DropReason> {
    let least = if layer3.is_some() { 1 } else { outer::ETHERNET };
    if len < least {
        return Err(DropReason::TunnelTruncated);
    }
    Ok(())
}

impl Popped {
    /// Takes the headers off packet `i`, which this was read of. A bare packet gets an Ethernet header of zeros and its type, as flows
    /// see it. Where its headers are has to be found anew.
    pub fn take_off(&self, batch: &mut Batch, i: usize) -> Result<(), DropReason> {
        let n = usize::from(self.header_len);
        if n > 0 {
            if !batch.pull_front(i, n) {
                return Err(DropReason::TunnelTruncated);
            }
            batch.shorten(i, self.inner as usize);
        }
        let p = batch.packet_mut(i);
        p.tags_off = Default::default();
        p.layers = Layers::default();
        match p.offload.checksum {
            // What was to be filled in was the outer one: nobody on a wire has touched what is inside.
            Checksum::Needed { start, .. } if usize::from(start) < n => {
                p.offload.checksum = Checksum::None;
            }
            Checksum::Needed { .. } => p.offload.shift(-(n as i16)),
            // The outer one was checked; of the inner one nothing is known.
            Checksum::Valid if n > 0 => p.offload.checksum = Checksum::None,
            _ => {}
        }
        if let Some(eth_type) = self.layer3 {
            let h = p.push_head(outer::ETHERNET).ok_or(DropReason::NoHeadroom)?;
            h[..12].fill(0);
            outer::put(h, 12, eth_type);
            p.offload.shift(outer::ETHERNET as i16);
        }
        Ok(())
    }
}
