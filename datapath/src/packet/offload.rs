//! What a packet's sender left for others to do: fill in a checksum, cut it into segments.

/// Length of the virtio-net header that all our ports exchange, with `num_buffers`
/// (virtio 1.2 5.1.6).
pub const VNET_HEADER: usize = 12;

/// The state of a packet's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// As in the frame; nobody vouches for it.
    #[default]
    None,
    /// To be filled in: the sum from byte `start` of the frame to its end goes to `start + offset`,
    /// where the pseudo header's sum already lies.
    Needed {
        /// Offset of the transport header in the frame.
        start: u16,
        /// Offset of the checksum in the transport header.
        offset: u16,
    },
    /// Checked by who gave it to us.
    Valid,
}

/// What a large packet is to be cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GsoKind {
    /// Not at all.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams (virtio's USO).
    Udp,
}

/// How a large packet is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gso {
    /// Into what.
    pub kind: GsoKind,
    /// TCP with ECN: only the first segment keeps CWR.
    pub ecn: bool,
    /// Payload bytes of a segment.
    pub size: u16,
    /// Bytes of headers that each segment repeats, as the sender said: a hint.
    pub header_len: u16,
}

/// Checksum and segmentation left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum.
    pub checksum: Checksum,
    /// Segmentation.
    pub gso: Gso,
}

/// A virtio-net header that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VnetError {
    /// The checksum's place lies outside the frame.
    #[error("Checksum field at {0} lies outside the frame")]
    ChecksumOutside(usize),
    /// Unknown or unsupported segmentation type.
    #[error("Segmentation type {0:#x} is not one of TCPv4, TCPv6, UDP")]
    GsoType(u8),
    /// Segments of no bytes, or segmentation without a checksum to fill in.
    #[error("Segmentation needs a segment size and NEEDS_CSUM")]
    GsoIncomplete,
}

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl Offload {
    /// Whether nothing is left to do.
    #[inline]
    pub fn is_done(&self) -> bool {
        !matches!(self.checksum, Checksum::Needed { .. }) && self.gso.kind == GsoKind::None
    }

    /// Whether there is nothing to say at all: nothing left to do, and nobody vouches for the checksum.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        // Both are looked at: one branch is cheaper than two.
        matches!(self.checksum, Checksum::None) & (self.gso.kind == GsoKind::None)
    }

    /// Whether the packet is to be segmented.
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso.kind != GsoKind::None
    }

    /// Reads the first 10 bytes of a virtio-net header (little-endian, virtio 1.2 5.1.6) that
    /// stands before a frame of `len` bytes.
    #[inline]
    pub fn from_vnet(h: &[u8; 10], len: usize) -> Result<Offload, VnetError> {
        if h[0] == 0 && h[1] == 0 {
            return Ok(Offload::default());
        }
        let word = |i: usize| u16::from_le_bytes([h[i], h[i + 1]]);
        let mut offload = Offload::default();
        if h[0] & NEEDS_CSUM != 0 {
            let (start, offset) = (word(6), word(8));
            let at = usize::from(start) + usize::from(offset);
            if at + 2 > len || start < 14 {
                return Err(VnetError::ChecksumOutside(at));
            }
            offload.checksum = Checksum::Needed { start, offset };
        } else if h[0] & DATA_VALID != 0 {
            offload.checksum = Checksum::Valid;
        }
        let kind = match h[1] & !GSO_ECN {
            0 if h[1] == 0 => return Ok(offload),
            GSO_TCPV4 => GsoKind::Tcp4,
            GSO_TCPV6 => GsoKind::Tcp6,
            GSO_UDP_L4 => GsoKind::Udp,
            _ => return Err(VnetError::GsoType(h[1])),
        };
        let size = word(4);
        if size == 0 || h[0] & NEEDS_CSUM == 0 {
            return Err(VnetError::GsoIncomplete);
        }
        offload.gso = Gso {
            kind,
            ecn: h[1] & GSO_ECN != 0,
            size,
            header_len: word(2),
        };
        Ok(offload)
    }

    /// Writes a virtio-net header, `num_buffers` 1.
    #[inline]
    pub fn to_vnet(&self) -> [u8; VNET_HEADER] {
        let mut h = [0; VNET_HEADER];
        h[10] = 1;
        match self.checksum {
            Checksum::None => {}
            Checksum::Valid => h[0] = DATA_VALID,
            Checksum::Needed { start, offset } => {
                h[0] = NEEDS_CSUM;
                h[6..8].copy_from_slice(&start.to_le_bytes());
                h[8..10].copy_from_slice(&offset.to_le_bytes());
            }
        }
        if self.is_gso() {
            h[1] = match self.gso.kind {
                GsoKind::None => 0,
                GsoKind::Tcp4 => GSO_TCPV4,
                GsoKind::Tcp6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            } | if self.gso.ecn { GSO_ECN } else { 0 };
            h[2..4].copy_from_slice(&self.gso.header_len.to_le_bytes());
            h[4..6].copy_from_slice(&self.gso.size.to_le_bytes());
        }
        h
    }

    /// The frame grew (positive) or shrank by `n` bytes before its network header.
    #[inline]
    pub(crate) fn shift(&mut self, n: i16) {
        if let Checksum::Needed { start, .. } = &mut self.checksum {
            *start = start.wrapping_add_signed(n);
        }
        if self.is_gso() {
            self.gso.header_len = self.gso.header_len.wrapping_add_signed(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tso_header_round_trips() {
        let h = [1, 0x81, 54, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0];
        let o = Offload::from_vnet(h[..10].try_into().unwrap(), 9000).unwrap();
        assert_eq!(o.gso.kind, GsoKind::Tcp4);
        assert!(o.gso.ecn);
        assert_eq!(o.to_vnet(), h);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let parse = |h: [u8; 10]| Offload::from_vnet(&h, 60);
        assert_eq!(
            parse([1, 0, 0, 0, 0, 0, 50, 0, 16, 0]),
            Err(VnetError::ChecksumOutside(66))
        );
        assert_eq!(
            parse([0, 3, 0, 0, 1, 0, 0, 0, 0, 0]),
            Err(VnetError::GsoType(3))
        );
        // ECN of no segmentation at all, with and without a checksum to fill in.
        for flags in [0, NEEDS_CSUM] {
            assert_eq!(
                parse([flags, GSO_ECN, 0, 0, 1, 0, 34, 0, 16, 0]),
                Err(VnetError::GsoType(GSO_ECN))
            );
        }
        assert_eq!(
            parse([1, 1, 0, 0, 0, 0, 34, 0, 16, 0]),
            Err(VnetError::GsoIncomplete)
        );
        assert_eq!(
            parse([0, 1, 0, 0, 9, 0, 34, 0, 16, 0]),
            Err(VnetError::GsoIncomplete)
        );
    }
}
