//! Multipart messages over several OpenFlow messages: cutting long ones and putting them together
//! (1.3.5 7.3.5).

use super::cursor::Writer;
use super::{Frame, err, frame};
use crate::error::{ErrorKind, OfError};
use crate::message::*;

/// Where a part of a long answer is closed: no single entry that a switch makes comes near the
/// rest of the length field's range.
const PART_LEN: usize = 48 * 1024;

/// Where a multipart answer of any version has OFPMPF_REPLY_MORE: in the flags behind header and type.
const MORE: usize = 11;

/// Bytes of one multipart message, over all its parts, that are put together; a peer that sends
/// more is refused with `OFPBRC_MULTIPART_BUFFER_OVERFLOW`.
pub const MAX_MULTIPART_LEN: usize = 64 << 20;

/// Unfinished multipart messages a peer may have at once.
pub const MAX_MULTIPART_OPEN: usize = 16;

/// Writes entries into as many messages as they need, each begun by `begin`, which says where.
pub(super) fn put<T>(
    w: &mut Writer,
    begin: impl Fn(&mut Writer) -> usize,
    entries: &[T],
    mut one: impl FnMut(&mut Writer, &T) -> Result<(), OfError>,
) -> Result<(), OfError> {
    let mut start = begin(w);
    for e in entries {
        if w.len() - start > PART_LEN {
            w.buf[start + MORE] = 1;
            w.set_len(start + 2, start)?;
            start = begin(w);
        }
        one(w, e)?;
    }
    w.set_len(start + 2, start)
}

/// Says of multipart answers, none of which is the last, that more come.
pub(super) fn unfinished(w: &mut Writer) {
    let mut at = 0;
    while let Frame::Message(n) = frame(&w.buf[at..]) {
        if let Some(flags) = w.buf[at..at + n].get_mut(MORE) {
            *flags = 1;
        }
        at += n;
    }
}

/// Puts the parts of multipart messages together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Vec<(u32, Message, usize)>,
}

impl Assembler {
    /// Takes a decoded part of `len` wire bytes; gives the whole once its last part is there.
    pub(crate) fn add(
        &mut self,
        xid: u32,
        more: bool,
        len: usize,
        message: Message,
    ) -> Result<Option<Message>, OfError> {
        let Some(at) = self.open.iter().position(|o| o.0 == xid) else {
            if !more {
                return Ok(Some(message));
            }
            if self.open.len() == MAX_MULTIPART_OPEN {
                return err(
                    ErrorKind::MultipartBufferOverflow,
                    format!("{MAX_MULTIPART_OPEN} multipart messages are unfinished already"),
                );
            }
            self.open.push((xid, message, len));
            return Ok(None);
        };
        let total: usize = self.open.iter().map(|o| o.2).sum();
        if total + len > MAX_MULTIPART_LEN {
            self.open.swap_remove(at);
            return err(
                ErrorKind::MultipartBufferOverflow,
                format!("multipart messages of more than {MAX_MULTIPART_LEN} bytes in all"),
            );
        }
        let (_, whole, size) = &mut self.open[at];
        *size += len;
        if let Err(e) = extend(whole, message) {
            self.open.swap_remove(at);
            return Err(e);
        }
        Ok((!more).then(|| self.open.swap_remove(at).1))
    }
}

/// Adds the entries of a later part to an earlier one.
fn extend(whole: &mut Message, part: Message) -> Result<(), OfError> {
    use MultipartReply as A;
    use MultipartRequest as Q;
    match (whole, part) {
        // Nicira's forms of OpenFlow 1.0's statistics.
        (Message::Nicira(a), Message::Nicira(b)) => return extend(a, *b),
        (Message::MultipartRequest(a), Message::MultipartRequest(b)) => match (a, b) {
            (Q::TableFeatures(a), Q::TableFeatures(b)) => a.extend(b),
            (Q::FlowMonitor(a), Q::FlowMonitor(b)) => a.extend(b),
            _ => return unfit(),
        },
        (Message::MultipartReply(a), Message::MultipartReply(b)) => match (a, b) {
            (A::Flow(a), A::Flow(b)) => a.extend(b),
            (A::Table(a), A::Table(b)) => a.extend(b),
            (A::PortStats(a), A::PortStats(b)) => a.extend(b),
            (A::Queue(a), A::Queue(b)) => a.extend(b),
            (A::Group(a), A::Group(b)) => a.extend(b),
            (A::GroupDesc(a), A::GroupDesc(b)) => a.extend(b),
            (A::Meter(a), A::Meter(b)) => a.extend(b),
            (A::MeterConfig(a), A::MeterConfig(b)) => a.extend(b),
            (A::TableFeatures(a), A::TableFeatures(b)) => a.extend(b),
            (A::PortDesc(a), A::PortDesc(b)) => a.extend(b),
            (A::TableDesc(a), A::TableDesc(b)) => a.extend(b),
            (A::QueueDesc(a), A::QueueDesc(b)) => a.extend(b),
            (A::FlowMonitor(a), A::FlowMonitor(b)) => a.extend(b),
            (A::FlowStats(a), A::FlowStats(b)) => a.extend(b),
            (A::ControllerStatus(a), A::ControllerStatus(b)) => a.extend(b),
            (A::IpfixFlow(a), A::IpfixFlow(b)) => a.extend(b),
            _ => return unfit(),
        },
        _ => return unfit(),
    }
    Ok(())
}

fn unfit() -> Result<(), OfError> {
    err(
        ErrorKind::BadMultipart,
        "parts of different or of single-part types under one transaction id",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{OF10, OF13, OF15, SUPPORTED, decode, encode, encode_part};

    fn answer(flows: usize) -> Message {
        Message::MultipartReply(MultipartReply::Flow(vec![FlowStats::default(); flows]))
    }

    #[test]
    fn what_is_said_in_parts_is_put_together_to_the_same() {
        for &version in SUPPORTED {
            // The first takes several messages itself.
            let parts = [
                encode_part(version, 7, &answer(2000)).unwrap(),
                encode_part(version, 7, &answer(1)).unwrap(),
                encode(version, 7, &answer(3)).unwrap(),
            ];
            let bytes = parts.concat();
            let mut assembler = Assembler::default();
            let mut at = 0;
            let mut whole = Vec::new();
            while let Frame::Message(n) = frame(&bytes[at..]) {
                let d = decode(&bytes[at..at + n]).unwrap();
                at += n;
                assert_eq!(d.more, at < bytes.len(), "version {version}");
                whole.extend(assembler.add(d.xid, d.more, n, d.message).unwrap());
            }
            let [Message::MultipartReply(MultipartReply::Flow(flows))] = &whole[..] else {
                panic!("{} answers", whole.len());
            };
            assert_eq!(flows.len(), 2004);
        }
    }

    #[test]
    fn messages_without_parts_stay_as_they_are() {
        for version in [OF10, OF13, OF15] {
            let m = Message::BarrierReply;
            assert_eq!(encode_part(version, 1, &m), encode(version, 1, &m));
        }
    }
}
