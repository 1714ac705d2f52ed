//! Addresses: what was learned, and what is put in by hand.

use super::Datapath;
use crate::config::{BridgeId, FdbBefore, FdbEntry, FdbStats};
use crate::mac::Fixed;
use openflow::{MacAddr, PortNo};

impl Datapath {
    /// Known addresses, those seen last at the end.
    pub fn fdb(&self, bridge: BridgeId) -> Vec<FdbEntry> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        self.flush();
        let world = self.inner.world.load();
        let now = self.now();
        let known = b.fdb.lock().list();
        known
            .into_iter()
            .filter_map(|k| {
                Some(FdbEntry {
                    port: world.port(k.port)?.number,
                    vlan: k.vlan,
                    mac: k.mac,
                    age: k.used.map(|used| now.saturating_sub(used)),
                })
            })
            .collect()
    }

    /// Puts an address on a port by hand: it neither ages nor moves until it is taken out, or its port is. Where it was before,
    /// if it was known.
    ///
    /// # Errors
    /// There is no such port, the address is no host's, the VLAN is none, or the table is full of others put in by hand.
    pub fn fdb_add(
        &self,
        bridge: BridgeId,
        port: PortNo,
        vlan: u16,
        mac: MacAddr,
    ) -> Result<Option<FdbBefore>, String> {
        if mac.is_multicast() {
            return Err(format!("{mac} is no host's address"));
        }
        if vlan > 4095 {
            return Err(format!("VLAN {vlan} is not 0 to 4095"));
        }
        let _control = self.inner.control.lock();
        let (Some(b), Some(entry)) = (self.bridge(bridge), self.entry(bridge, port)) else {
            return Err(format!("there is no port {port}"));
        };
        // What threads saw of it so far does not count any more.
        self.flush();
        match b.fix(vlan, mac.to_u64(), entry.index, self.now()) {
            Fixed::New(_) => Ok(None),
            Fixed::Was(place) => {
                let world = self.inner.world.load();
                Ok(Some(FdbBefore {
                    port: world.port(place.port).map(|p| p.number),
                    fixed: place.fixed,
                }))
            }
            Fixed::Full => Err("the table is full of addresses put in by hand".to_owned()),
        }
    }

    /// Takes an address out that was put in by hand; whether there was one.
    pub fn fdb_remove(&self, bridge: BridgeId, vlan: u16, mac: MacAddr) -> bool {
        self.bridge(bridge)
            .is_some_and(|b| b.unfix(vlan, mac.to_u64()))
    }

    /// Forgets all learned addresses.
    pub fn fdb_flush(&self, bridge: BridgeId) {
        if let Some(b) = self.bridge(bridge) {
            self.flush();
            b.flush_fdb(None);
        }
    }

    /// What learning did.
    pub fn fdb_stats(&self, bridge: BridgeId) -> FdbStats {
        self.bridge(bridge)
            .map_or_else(FdbStats::default, |b| FdbStats {
                max: b.state.load().config.mac_table_size,
                ..b.fdb.lock().stats()
            })
    }

    /// Counts what learning does from zero again.
    pub fn fdb_clear_stats(&self, bridge: BridgeId) {
        if let Some(b) = self.bridge(bridge) {
            self.flush();
            b.fdb.lock().clear_stats();
        }
    }
}
