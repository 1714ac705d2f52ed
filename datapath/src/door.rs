//! The handle that callers hold.

use crate::clock::Now;
use crate::config::*;
use crate::port::{PortError, PortStatus};
use openflow::error::ErrorKind;
use openflow::{
    AggregateStats, FlowFilter, FlowMod, FlowStats, OfError, PacketOut, PortDesc, PortMod, PortNo,
    PortStats, TableStats,
};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Why the datapath as a whole refused.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A value of the configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A bridge of that name exists, or none does.
    #[error("{0}")]
    Bridge(String),
}

/// A running datapath. Clones are the same one; it ends with [`Datapath::shutdown`].
#[derive(Clone)]
pub struct Datapath {
    inner: Arc<Inner>,
}

struct Inner {}

/// The stream of events.
pub struct Events {}

impl Events {
    /// Readable while there are events; becomes quiet once [`Events::try_recv`] returned `None`.
    pub fn fd(&self) -> RawFd {
        -1
    }
    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        None
    }
}

fn stopped() -> OfError {
    OfError::new(ErrorKind::FlowModUnknown, "The datapath is not running")
}

#[allow(unused_variables, missing_docs)]
impl Datapath {
    /// Starts forwarding threads, with no bridges.
    pub fn start(config: Config) -> Result<(Datapath, Events), DatapathError> {
        Err(DatapathError::Config("not yet".into()))
    }
    pub fn add_bridge(&self, name: &str, config: BridgeConfig) -> Result<BridgeId, DatapathError> {
        let _ = &self.inner;
        Err(DatapathError::Bridge(name.into()))
    }
    pub fn set_bridge(&self, bridge: BridgeId, config: BridgeConfig) -> Result<(), DatapathError> {
        Ok(())
    }
    pub fn remove_bridge(&self, bridge: BridgeId) {}
    pub fn add_port(&self, bridge: BridgeId, spec: PortSpec) -> Result<PortNo, PortError> {
        Err(PortError::Other("not yet".into()))
    }
    pub fn set_port(
        &self,
        bridge: BridgeId,
        port: PortNo,
        spec: PortSpec,
    ) -> Result<(), PortError> {
        Ok(())
    }
    pub fn remove_port(&self, bridge: BridgeId, port: PortNo) {}
    pub fn ports(&self, bridge: BridgeId) -> Vec<PortNo> {
        Vec::new()
    }
    pub fn port_desc(&self, bridge: BridgeId, port: PortNo) -> Option<PortDesc> {
        None
    }
    pub fn port_status(&self, bridge: BridgeId, port: PortNo) -> Option<PortStatus> {
        None
    }
    pub fn link_resets(&self, bridge: BridgeId, port: PortNo) -> u64 {
        0
    }
    pub fn port_stats(&self, bridge: BridgeId, port: PortNo) -> Option<PortStats> {
        None
    }
    /// Counters beside the standard ones, by OVS's names.
    pub fn port_extra_stats(&self, bridge: BridgeId, port: PortNo) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
    pub fn port_mod(&self, bridge: BridgeId, port_mod: &PortMod) -> Result<(), OfError> {
        Err(stopped())
    }
    pub fn flow_mod(&self, bridge: BridgeId, flow_mod: &FlowMod) -> Result<(), OfError> {
        Err(stopped())
    }
    pub fn flow_mods_atomic(
        &self,
        bridge: BridgeId,
        mods: &[FlowMod],
    ) -> Result<(), (usize, OfError)> {
        Err((0, stopped()))
    }
    pub fn flow_stats(&self, bridge: BridgeId, filter: &FlowFilter) -> Vec<FlowStats> {
        Vec::new()
    }
    pub fn aggregate_stats(&self, bridge: BridgeId, filter: &FlowFilter) -> AggregateStats {
        AggregateStats::default()
    }
    pub fn table_stats(&self, bridge: BridgeId) -> Vec<TableStats> {
        Vec::new()
    }
    pub fn packet_out(&self, bridge: BridgeId, packet_out: &PacketOut) -> Result<(), OfError> {
        Err(stopped())
    }
    pub fn fdb(&self, bridge: BridgeId) -> Vec<FdbEntry> {
        Vec::new()
    }
    pub fn fdb_flush(&self, bridge: BridgeId) {}
    pub fn fdb_stats(&self, bridge: BridgeId) -> FdbStats {
        FdbStats::default()
    }
    pub fn expire(&self, now: Now) {}
    pub fn cached_flows(&self) -> Vec<CachedFlow> {
        Vec::new()
    }
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }
    pub fn thread_stats(&self) -> Vec<ThreadStats> {
        Vec::new()
    }
    /// Dropped packets by reason: of one port, or of the whole bridge.
    pub fn drop_stats(
        &self,
        bridge: BridgeId,
        port: Option<PortNo>,
    ) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
    pub fn shutdown(&self) {}
}
