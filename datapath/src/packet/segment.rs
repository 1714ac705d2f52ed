//! Cutting a large packet into what a way out can carry (software GSO).
//!
//! The frame must be whole in one slice. Each piece repeats the headers with lengths, IPv4
//! identification, TCP sequence number and flags, and checksums made right.

use super::checksum;
use super::{Batch, Checksum, Gso, GsoKind, HEAD_MAX, Offload, Packet};

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// A frame that is said to be large but is not made as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The frame's headers do not agree with the segmentation asked for")]
pub struct BadFrame;

/// What a packet is on a wire: its frames, and their bytes from the Ethernet header on, without frame check sequences. Rates are
/// told and kept in these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnWire {
    /// Frames.
    pub frames: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of each but the last.
    pub each: u64,
}

impl OnWire {
    /// Of a packet as it is now; a large one is counted as the segments it stands for.
    #[inline]
    pub fn of(p: &Packet) -> OnWire {
        let len = p.len() as u64;
        let one = OnWire {
            frames: 1,
            bytes: len,
            each: len,
        };
        if !p.offload.is_gso() {
            return one;
        }
        let Checksum::Needed { start, .. } = p.offload.checksum else {
            return one;
        };
        let l4 = usize::from(start);
        let header = match p.offload.gso.kind {
            GsoKind::Udp => l4 + 8,
            _ => l4 + usize::from(p.head().get(l4 + 12).map_or(5, |b| b >> 4)) * 4,
        } as u64;
        let size = u64::from(p.offload.gso.size.max(1));
        let frames = len.saturating_sub(header).div_ceil(size).max(1);
        OnWire {
            frames: frames as u32,
            bytes: len + (frames - 1) * header,
            each: if frames > 1 { header + size } else { len },
        }
    }
}

/// Where the headers of a large frame are.
struct Layout {
    l3: usize,
    l4: usize,
    /// Bytes of all headers.
    header: usize,
    v4: bool,
    protocol: u8,
}

impl Layout {
    fn of(frame: &[u8], l4: usize, kind: GsoKind) -> Result<Layout, BadFrame> {
        let mut l3 = 14;
        let mut eth_type = word(frame, 12)?;
        while matches!(eth_type, 0x8100 | 0x88a8) {
            eth_type = word(frame, l3 + 2)?;
            l3 += 4;
        }
        let v4 = match eth_type {
            0x0800 if kind != GsoKind::Tcp6 => true,
            0x86dd if kind != GsoKind::Tcp4 => false,
            _ => return Err(BadFrame),
        };
        let ip_len = if v4 { 20 } else { 40 };
        let (protocol, header) = match kind {
            GsoKind::Udp => (UDP, l4 + 8),
            _ => {
                let at = *frame.get(l4 + 12).ok_or(BadFrame)?;
                (TCP, l4 + usize::from(at >> 4) * 4)
            }
        };
        let least = l4 + if protocol == TCP { 20 } else { 8 };
        if l4 < l3 + ip_len || header < least || header > frame.len() {
            return Err(BadFrame);
        }
        Ok(Layout {
            l3,
            l4,
            header,
            v4,
            protocol,
        })
    }

    /// Writes the network header's length, and the sum of an IPv4 header, for so many bytes in all.
    fn set_length(&self, frame: &mut [u8], len: usize) -> Result<(), BadFrame> {
        let l3 = self.l3;
        if self.v4 {
            put(frame, l3 + 2, (len - l3) as u16);
            put(frame, l3 + 10, 0);
            let ihl = usize::from(frame[l3] & 15) * 4;
            let sum = checksum::of(frame.get(l3..l3 + ihl.max(20)).ok_or(BadFrame)?);
            put(frame, l3 + 10, sum);
        } else {
            put(frame, l3 + 4, (len - l3 - 40) as u16);
        }
        Ok(())
    }

    /// The sum of the pseudo header, for so many bytes from the transport header on.
    fn pseudo(&self, frame: &[u8], l4_len: usize) -> u64 {
        let l3 = self.l3;
        let addresses = if self.v4 {
            &frame[l3 + 12..l3 + 20]
        } else {
            &frame[l3 + 8..l3 + 40]
        };
        checksum::pseudo(addresses, self.protocol, l4_len)
    }
}

/// Leaves the first `frames` segments of packet `i` of a batch, and has it tell of no more: as if the others had been dropped on
/// a wire.
///
/// # Errors
/// Its headers are not those of a large frame; it is as it was.
pub(crate) fn keep(batch: &mut Batch, i: usize, frames: u32) -> Result<(), BadFrame> {
    let p = batch.packet_mut(i);
    let Checksum::Needed { start, offset } = p.offload.checksum else {
        return Err(BadFrame);
    };
    let layout = Layout::of(p.head(), start.into(), p.offload.gso.kind)?;
    let (l4, header) = (layout.l4, layout.header);
    let len = header + usize::from(p.offload.gso.size) * frames as usize;
    let check = l4 + usize::from(offset);
    if frames == 0 || !p.offload.is_gso() || len >= p.len() || check + 2 > p.head().len() {
        return Err(BadFrame);
    }
    let head = p.head_mut();
    layout.set_length(head, len)?;
    if layout.protocol == TCP {
        head[l4 + 13] &= !FIN_PSH;
    } else {
        put(head, l4 + 4, (len - l4) as u16);
    }
    // Whoever sends it adds the rest.
    let sum = checksum::fold(layout.pseudo(head, len - l4));
    put(head, check, sum);
    if frames == 1 {
        p.offload.gso = Gso::default();
    }
    batch.cut(i, len);
    Ok(())
}

/// How a large frame is cut.
struct Plan {
    layout: Layout,
    /// Bytes of payload of each segment but the last.
    size: usize,
    /// Bytes of payload in all.
    payload: usize,
    /// The first one's IPv4 identification and TCP sequence number.
    id: u16,
    sequence: u32,
}

impl Plan {
    /// Of a frame of `total` bytes, the first of which are `head`.
    fn new(head: &[u8], total: usize, offload: &Offload) -> Result<Plan, BadFrame> {
        let Checksum::Needed { start, .. } = offload.checksum else {
            return Err(BadFrame);
        };
        let layout = Layout::of(head, start.into(), offload.gso.kind)?;
        let (l3, l4) = (layout.l3, layout.l4);
        let options = layout.v4 && l3 + usize::from(head[l3] & 15) * 4 > layout.header;
        if offload.gso.size == 0 || options {
            return Err(BadFrame);
        }
        let sequence = head[l4 + 4..l4 + 8].try_into().map_err(|_| BadFrame)?;
        Ok(Plan {
            size: offload.gso.size.into(),
            payload: total.checked_sub(layout.header).ok_or(BadFrame)?,
            id: word(head, l3 + 4)?,
            sequence: u32::from_be_bytes(sequence),
            layout,
        })
    }

    /// How many segments there are.
    fn count(&self) -> usize {
        self.payload.div_ceil(self.size).max(1)
    }

    /// The payload of segment `i`: offsets in the frame.
    fn range(&self, i: usize) -> std::ops::Range<usize> {
        let end = self.layout.header + self.payload;
        let from = (self.layout.header + i * self.size).min(end);
        from..(from + self.size).min(end)
    }

    /// Offset of the checksum in the transport header.
    fn checksum_at(&self) -> usize {
        if self.layout.protocol == TCP { 16 } else { 6 }
    }

    /// Makes a copy of the headers those of segment `i` with `len` bytes of payload; the checksum's place has the sum of the pseudo
    /// header.
    fn shape(&self, out: &mut [u8], i: usize, len: usize) -> Result<(), BadFrame> {
        let (l3, l4) = (self.layout.l3, self.layout.l4);
        let total = self.layout.header + len;
        if self.layout.v4 {
            put(out, l3 + 4, self.id.wrapping_add(i as u16));
        }
        self.layout.set_length(out, total)?;
        if self.layout.protocol == TCP {
            let seq = self.sequence.wrapping_add((i * self.size) as u32);
            out[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
            if i + 1 < self.count() {
                out[l4 + 13] &= !FIN_PSH;
            }
            if i > 0 {
                out[l4 + 13] &= !CWR;
            }
        } else {
            put(out, l4 + 4, (total - l4) as u16);
        }
        let sum = checksum::fold(self.layout.pseudo(out, total - l4));
        put(out, l4 + self.checksum_at(), sum);
        Ok(())
    }
}

/// Calls `each` with every frame that goes out instead of `frame`: once, with its checksum filled
/// in, if there is nothing to cut. `scratch` is reused and grows to a segment's size at most once.
pub fn split(
    frame: &mut [u8],
    offload: &Offload,
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), BadFrame> {
    if !offload.is_gso() {
        if let Checksum::Needed { start, offset } = offload.checksum
            && !checksum::finish(frame, start.into(), offset.into())
        {
            return Err(BadFrame);
        }
        each(frame);
        return Ok(());
    }
    let plan = Plan::new(frame, frame.len(), offload)?;
    for i in 0..plan.count() {
        let range = plan.range(i);
        scratch.clear();
        scratch.extend_from_slice(&frame[..plan.layout.header]);
        scratch.extend_from_slice(&frame[range.clone()]);
        plan.shape(scratch, i, range.len())?;
        checksum::finish(scratch, plan.layout.l4, plan.checksum_at());
        each(scratch);
    }
    Ok(())
}

/// Appends to `into` the segments that the large packet `i` of `from` stands for, from number `next` on, as many as there is room
/// for; says whether there are more, and counts `next` up. Their payload stays where it is, and their checksums are still to be filled in: of
/// each only the headers are copied.
///
/// # Safety
///
/// Packet `i` of `from` must not be changed, nor its segments become unreadable, until `into` is cleared.
pub(crate) unsafe fn cut(
    from: &Batch,
    i: usize,
    next: &mut usize,
    into: &mut Batch,
) -> Result<bool, BadFrame> {
    let p = from.packet(i);
    let plan = Plan::new(p.head(), p.len(), &p.offload)?;
    let (count, header) = (plan.count(), plan.layout.header);
    // A head that was pushed to may have more headers than a new one has room for.
    if header > HEAD_MAX {
        return Err(BadFrame);
    }
    while *next < count && into.room() > 0 {
        let range = plan.range(*next);
        let Some(piece) = into.begin() else { break };
        super::copy::count(header);
        piece.head_space()[..header].copy_from_slice(&p.head()[..header]);
        piece.set_head(header);
        plan.shape(piece.head_mut(), *next, range.len())?;
        piece.offload.checksum = Checksum::Needed {
            start: plan.layout.l4 as u16,
            offset: plan.checksum_at() as u16,
        };
        piece.layers = p.layers;
        piece.tags_off = p.tags_off;
        // SAFETY: the caller's promise.
        if !unsafe { into.push_part(from, i, range) } {
            return Err(BadFrame);
        }
        into.commit();
        *next += 1;
    }
    Ok(*next < count)
}

fn word(frame: &[u8], at: usize) -> Result<u16, BadFrame> {
    let b = frame.get(at..at + 2).ok_or(BadFrame)?;
    Ok(u16::from_be_bytes([b[0], b[1]]))
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tso(payload: usize) -> (Vec<u8>, Offload) {
        let mut f = vec![0u8; 54 + payload];
        f[12] = 8;
        f[14] = 0x45;
        f[22] = 64;
        f[23] = TCP;
        f[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        f[46] = 0x50;
        f[47] = 0x19;
        for (i, b) in f[54..].iter_mut().enumerate() {
            *b = i as u8;
        }
        let gso = Gso {
            kind: GsoKind::Tcp4,
            ecn: false,
            size: 1000,
            header_len: 54,
        };
        let checksum = Checksum::Needed {
            start: 34,
            offset: 16,
        };
        (f, Offload { checksum, gso })
    }

    #[test]
    fn segments_carry_all_bytes_and_verify() {
        let (mut f, offload) = tso(2500);
        let want = f[54..].to_vec();
        let mut got = Vec::new();
        let mut flags = Vec::new();
        split(&mut f, &offload, &mut Vec::new(), |s| {
            assert_eq!(checksum::of(&s[14..34]), 0);
            let sum = checksum::pseudo(&s[26..34], TCP, s.len() - 34);
            assert_eq!(checksum::fold(checksum::add(sum, &s[34..])), 0xffff);
            assert_eq!(u16::from_be_bytes([s[16], s[17]]) as usize, s.len() - 14);
            assert_eq!(
                u32::from_be_bytes(s[38..42].try_into().unwrap()) as usize,
                got.len()
            );
            flags.push(s[47]);
            got.extend_from_slice(&s[54..]);
        })
        .unwrap();
        assert_eq!(got, want);
        assert_eq!(flags, [0x10, 0x10, 0x19]);
    }

    #[test]
    fn what_is_counted_is_what_segments_come_to() {
        for payload in [1, 999, 1000, 1001, 2500] {
            let (mut f, offload) = tso(payload);
            let owned = crate::packet::OwnedPacket {
                bytes: f.clone(),
                offload,
            };
            let mut batch = crate::packet::Batch::new();
            // SAFETY: `owned` outlives the batch.
            assert!(unsafe { batch.push_borrowed(&owned) });
            let counted = OnWire::of(batch.packet(0));
            let mut seen = OnWire::default();
            let count = |s: &[u8]| {
                seen.frames += 1;
                seen.bytes += s.len() as u64;
            };
            split(&mut f, &offload, &mut Vec::new(), count).unwrap();
            assert_eq!((counted.frames, counted.bytes), (seen.frames, seen.bytes));
            assert_eq!(counted.each, 54 + payload.min(1000) as u64);
        }
    }

    #[test]
    fn what_is_kept_is_the_first_of_the_segments() {
        for frames in 1..3 {
            let (f, offload) = tso(2500);
            let segments = |mut f: Vec<u8>, offload: &Offload| {
                let mut out = Vec::new();
                split(&mut f, offload, &mut Vec::new(), |s| out.push(s.to_vec())).unwrap();
                out
            };
            let all = segments(f.clone(), &offload);
            let owned = crate::packet::OwnedPacket { bytes: f, offload };
            let mut batch = Batch::new();
            // SAFETY: `owned` outlives the batch.
            assert!(unsafe { batch.push_borrowed(&owned) });
            keep(&mut batch, 0, frames).unwrap();
            let kept = batch.to_owned(0);
            assert_eq!(kept.offload.is_gso(), frames > 1);
            assert_eq!(OnWire::of(batch.packet(0)).frames, frames);
            // The whole frame's own headers are right for what it is now.
            assert_eq!(checksum::of(&kept.bytes[14..34]), 0);
            assert_eq!(
                usize::from(word(&kept.bytes, 16).unwrap()),
                kept.bytes.len() - 14
            );
            assert_eq!(segments(kept.bytes, &kept.offload), all[..frames as usize]);
            assert_eq!(keep(&mut batch, 0, frames), Err(BadFrame));
        }
    }

    #[test]
    fn pieces_are_borrowed_and_the_same_as_copies() {
        for payload in [1usize, 999, 1000, 1001, 40_000, 64_900] {
            let (f, offload) = tso(payload);
            let owned = crate::packet::OwnedPacket {
                bytes: f.clone(),
                offload,
            };
            let mut want = Vec::new();
            let each = |s: &[u8]| want.push(s.to_vec());
            split(&mut f.clone(), &offload, &mut Vec::new(), each).unwrap();
            let (mut batch, mut pieces) = (Batch::new(), Batch::new());
            // SAFETY: `owned` outlives the batch.
            assert!(unsafe { batch.push_borrowed(&owned) });
            let (mut next, mut got) = (0, Vec::new());
            loop {
                // SAFETY: `batch` stays as it is while there are pieces.
                let more = unsafe { cut(&batch, 0, &mut next, &mut pieces) }.unwrap();
                for n in 0..pieces.len() {
                    let mut piece = pieces.to_owned(n);
                    assert!(!piece.offload.is_gso());
                    let each = |s: &[u8]| got.push(s.to_vec());
                    split(&mut piece.bytes, &piece.offload, &mut Vec::new(), each).unwrap();
                }
                pieces.clear();
                if !more {
                    break;
                }
            }
            assert_eq!(got, want, "{payload} bytes");
        }
    }

    #[test]
    fn headers_that_disagree_are_refused() {
        let (f, offload) = tso(2500);
        for at in [12, 46] {
            let mut f = f.clone();
            f[at] = 0x1f;
            assert_eq!(
                split(&mut f, &offload, &mut Vec::new(), |_| ()),
                Err(BadFrame)
            );
        }
        let mut short = f[..40].to_vec();
        assert!(split(&mut short, &offload, &mut Vec::new(), |_| ()).is_err());
    }
}
