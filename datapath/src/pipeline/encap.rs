//! The generic encap and decap actions: Ethernet and network service headers.

use super::translate::{Here, Xlate};
use crate::action::{Header, NAMESPACE, Reshape, next_protocol, packet_type};
use crate::drop::DropReason;
use openflow::Slot;
use openflow::action::Encap;

impl Xlate<'_> {
    /// Sets the packet type, and goes on with the packet as it is then.
    fn become_type(&mut self, here: Here, packet_type: u32, reshape: Reshape) {
        self.write(Slot::PacketType, packet_type.into(), u128::MAX);
        self.freeze(here, reshape);
    }

    /// Puts a header on.
    pub(super) fn encap(&mut self, here: Here, e: &Encap) {
        let now = self.key.get64(Slot::PacketType) as u32;
        match (Header::of(e), next_protocol(now)) {
            (Ok(Header::Ethernet), _) if now != 0 => {
                self.become_type(here, 0, Reshape::ClearEthernet);
            }
            (Ok(Header::Nsh(header)), Some(next_protocol)) => {
                let reshape = Reshape::PushNsh {
                    header,
                    next_protocol,
                };
                self.become_type(here, NAMESPACE | 0x894f, reshape);
            }
            _ => self.fail(DropReason::PacketType),
        }
    }

    /// Takes the outermost header off.
    pub(super) fn decap(&mut self, here: Here) {
        let eth_type = self.key.get64(Slot::EthType) as u32;
        match self.key.get64(Slot::PacketType) as u32 {
            0 => {
                self.look_tags();
                if !self.tags.is_empty() {
                    return self.fail(DropReason::PacketType);
                }
                self.become_type(here, NAMESPACE | eth_type, Reshape::ClearEthernet);
            }
            t if t == NAMESPACE | 0x894f => {
                self.look_all(Slot::NshNp);
                match packet_type(self.key.get64(Slot::NshNp) as u8) {
                    Some(inner) => self.become_type(here, inner, Reshape::PopNsh),
                    None => self.fail(DropReason::PacketType),
                }
            }
            _ => self.fail(DropReason::PacketType),
        }
    }

    /// One off the TTL of the network service header; `false` if it ran out.
    pub(super) fn dec_nsh_ttl(&mut self) -> bool {
        if self.key.get64(Slot::EthType) != 0x894f {
            return true;
        }
        self.look_all(Slot::NshTtl);
        let ttl = self.key.get64(Slot::NshTtl);
        if ttl <= 1 {
            self.dropped(DropReason::TtlExpired);
            return false;
        }
        self.write(Slot::NshTtl, (ttl - 1).into(), u128::MAX);
        true
    }
}
