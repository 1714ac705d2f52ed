//! Frames: Ethernet with an optional 802.1Q tag, ARP, IPv4, ICMP echo, UDP. Checked once while
//! parsing; everything else is ignored.

use core::ops::Range;

/// UDP port of packet trains (discard).
pub const TRAIN_PORT: u16 = 9;
/// How each packet of a train begins, behind the UDP header.
pub const TRAIN_MAGIC: [u8; 4] = *b"weir";

/// What a frame is.
pub enum Packet {
    /// An ARP request (or reply): operation, sender and target.
    Arp {
        /// 1 = request, 2 = reply.
        op: u16,
        /// MAC and IP address of the sender.
        sender: ([u8; 6], [u8; 4]),
        /// IP address asked for.
        target: [u8; 4],
    },
    /// An ICMP echo request or reply.
    Echo {
        /// Whether it is a reply.
        reply: bool,
        /// Addresses of the IPv4 header.
        src: [u8; 4],
        /// See `src`.
        dst: [u8; 4],
        /// Identifier and sequence number.
        id: u16,
        /// See `id`.
        seq: u16,
        /// Where the ICMP message lies in the frame.
        icmp: Range<usize>,
        /// Where the IPv4 header starts.
        ip: usize,
    },
    /// A packet of a train.
    Train {
        /// The sender's number for the train.
        train: u32,
        /// Which packet of the train, from 0.
        seq: u64,
    },
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

fn array<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

/// Ones' complement sum over `bytes` (RFC 1071), to be given the other parts' sum.
pub fn checksum(bytes: &[u8], mut sum: u32) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Understands a frame that carries the tag `vlan`, or none.
pub fn parse(frame: &[u8], vlan: Option<u16>) -> Option<Packet> {
    let mut kind = be16(frame, 12)?;
    let mut at = 14;
    let mut tag = None;
    if kind == 0x8100 {
        tag = Some(be16(frame, 14)? & 0xfff);
        kind = be16(frame, 16)?;
        at = 18;
    }
    // A tag of zero carries only a priority.
    if tag.filter(|&t| t != 0) != vlan {
        return None;
    }
    match kind {
        0x0806 => {
            if frame.get(at..at + 6)? != [0, 1, 8, 0, 6, 4] {
                return None;
            }
            Some(Packet::Arp {
                op: be16(frame, at + 6)?,
                sender: (array(frame, at + 8)?, array(frame, at + 14)?),
                target: array(frame, at + 24)?,
            })
        }
        0x0800 => {
            let first = *frame.get(at)?;
            let header = usize::from(first & 15) * 4;
            let total = usize::from(be16(frame, at + 2)?);
            if first >> 4 != 4
                || header < 20
                || total < header + 8
                || frame.len() < at + total
                || be16(frame, at + 6)? & 0x3fff != 0
            {
                return None;
            }
            let body = at + header;
            match frame[at + 9] {
                1 => {
                    let icmp = body..at + total;
                    let reply = match frame[body] {
                        8 => false,
                        0 => true,
                        _ => return None,
                    };
                    (checksum(&frame[icmp.clone()], 0) == 0).then_some(Packet::Echo {
                        reply,
                        src: array(frame, at + 12)?,
                        dst: array(frame, at + 16)?,
                        id: be16(frame, body + 4)?,
                        seq: be16(frame, body + 6)?,
                        icmp,
                        ip: at,
                    })
                }
                17 if be16(frame, body + 2)? == TRAIN_PORT
                    && frame.get(body + 8..body + 12)? == TRAIN_MAGIC =>
                {
                    Some(Packet::Train {
                        train: u32::from_be_bytes(array(frame, body + 12)?),
                        seq: u64::from_be_bytes(array(frame, body + 16)?),
                    })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Writes an Ethernet header, with a tag where wanted; returns its length.
pub fn ethernet(out: &mut [u8], dst: [u8; 6], src: [u8; 6], vlan: Option<u16>, kind: u16) -> usize {
    out[..6].copy_from_slice(&dst);
    out[6..12].copy_from_slice(&src);
    let mut at = 12;
    if let Some(vlan) = vlan {
        out[12..14].copy_from_slice(&0x8100u16.to_be_bytes());
        out[14..16].copy_from_slice(&vlan.to_be_bytes());
        at = 16;
    }
    out[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    at + 2
}

/// Writes an ARP message (RFC 826) behind an Ethernet header at `at`; returns the frame's length.
pub fn arp(
    out: &mut [u8],
    at: usize,
    op: u16,
    sender: ([u8; 6], [u8; 4]),
    target: ([u8; 6], [u8; 4]),
) -> usize {
    out[at..at + 6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    out[at + 6..at + 8].copy_from_slice(&op.to_be_bytes());
    out[at + 8..at + 14].copy_from_slice(&sender.0);
    out[at + 14..at + 18].copy_from_slice(&sender.1);
    out[at + 18..at + 24].copy_from_slice(&target.0);
    out[at + 24..at + 28].copy_from_slice(&target.1);
    pad(out, at + 28)
}

/// Writes an IPv4 header (RFC 791) for `payload` bytes at `at`; returns where the payload goes.
pub fn ipv4(
    out: &mut [u8],
    at: usize,
    protocol: u8,
    src: [u8; 4],
    dst: [u8; 4],
    payload: usize,
) -> usize {
    let header = &mut out[at..at + 20];
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    let sum = checksum(header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    at + 20
}

/// Writes an ICMP echo request (RFC 792) with `data` counting bytes at `at`; returns the frame's
/// length.
pub fn echo_request(out: &mut [u8], at: usize, id: u16, seq: u16, data: usize) -> usize {
    let end = at + 8 + data;
    out[at..at + 4].copy_from_slice(&[8, 0, 0, 0]);
    out[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
    out[at + 6..at + 8].copy_from_slice(&seq.to_be_bytes());
    for (i, byte) in out[at + 8..end].iter_mut().enumerate() {
        *byte = i as u8;
    }
    let sum = checksum(&out[at..end], 0);
    out[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    pad(out, end)
}

/// Writes a UDP header (RFC 768, without checksum) at `at`; returns where the payload goes.
pub fn udp(out: &mut [u8], at: usize, src: u16, dst: u16, payload: usize) -> usize {
    out[at..at + 2].copy_from_slice(&src.to_be_bytes());
    out[at + 2..at + 4].copy_from_slice(&dst.to_be_bytes());
    out[at + 4..at + 6].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
    out[at + 6..at + 8].fill(0);
    at + 8
}

/// Fills up to the 60 bytes of the shortest frame.
fn pad(out: &mut [u8], len: usize) -> usize {
    if len < 60 {
        out[len..60].fill(0);
    }
    len.max(60)
}
