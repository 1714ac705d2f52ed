//! What is known of VLAN tags that were taken off, so that a tag put back is as it came: actions speak of priority and VLAN, and
//! leave the protocol and drop eligibility (DEI, IEEE 802.1Q 9.6) alone.

/// Tags of a packet's own that can be told apart when they are off.
const KNOWN: usize = 2;

const TPID_8021Q: u16 = 0x8100;
const TPID_8021AD: u16 = 0x88a8;
/// DEI, in its place in the tag control information.
const DEI: u16 = 0x1000;

/// Tags that were taken off a packet, and how many are on that are not its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagsOff {
    /// The one taken off last at the end.
    off: [Off; KNOWN],
    count: u8,
    /// Put on, above all of its own.
    foreign: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Off {
    service: bool,
    eligible: bool,
}

impl TagsOff {
    /// A tag is taken off.
    pub(crate) fn pop(&mut self, tpid: u16, tci: u16) {
        if self.foreign > 0 {
            self.foreign -= 1;
            return;
        }
        if usize::from(self.count) == KNOWN {
            self.off.rotate_left(1);
            self.count -= 1;
        }
        self.off[usize::from(self.count)] = Off {
            service: tpid == TPID_8021AD,
            eligible: tci & DEI != 0,
        };
        self.count += 1;
    }

    /// A tag of this protocol is put on, 0 for one that is put back; its protocol, and its DEI in place.
    pub(crate) fn push(&mut self, tpid: u16) -> (u16, u16) {
        if tpid != 0 {
            self.foreign = self.foreign.saturating_add(1);
            return (tpid, 0);
        }
        if self.foreign > 0 || self.count == 0 {
            return (TPID_8021Q, 0);
        }
        self.count -= 1;
        let off = self.off[usize::from(self.count)];
        let tpid = if off.service { TPID_8021AD } else { TPID_8021Q };
        (tpid, if off.eligible { DEI } else { 0 })
    }
}
