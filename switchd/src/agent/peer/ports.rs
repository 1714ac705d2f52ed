//! Ports and their queues.

use super::flows::whole_millis;
use crate::agent::Bridge;
use openflow::error::ErrorKind;
use openflow::{OfError, PortDesc, PortNo, PortStats};

/// The bridge's ports in order of number, the local port last.
pub fn ports(bridge: &Bridge) -> Vec<PortDesc> {
    let mut ports = bridge.plane().ports(bridge.name());
    ports.sort();
    ports
        .into_iter()
        .filter_map(|p| bridge.plane().port_desc(bridge.name(), p))
        .collect()
}

/// One port's counters, or all.
pub fn port_stats(bridge: &Bridge, port: PortNo) -> Vec<PortStats> {
    let mut ports = bridge.plane().ports(bridge.name());
    ports.sort();
    ports
        .into_iter()
        .filter(|p| port == PortNo::ANY || *p == port)
        .filter_map(|p| bridge.plane().port_stats(bridge.name(), p))
        .map(|(s, _)| PortStats {
            duration: whole_millis(s.duration),
            ..s
        })
        .collect()
}

/// Whether a port whose queues are asked for is there.
pub(super) fn check_queue_port(bridge: &Bridge, port: PortNo) -> Result<(), OfError> {
    if port != PortNo::ANY && bridge.plane().port_desc(bridge.name(), port).is_none() {
        return Err(OfError::new(
            ErrorKind::QueueBadPort,
            format!("no port {port}"),
        ));
    }
    Ok(())
}

/// Whether a queue that is asked for is there: no port has any yet.
pub(super) fn check_queue(
    bridge: &Bridge,
    port: PortNo,
    queue: Option<u32>,
) -> Result<(), OfError> {
    check_queue_port(bridge, port)?;
    match queue {
        None => Ok(()),
        Some(q) => Err(OfError::new(
            ErrorKind::QueueBadQueue,
            format!("no queue {q}: queues are not supported yet"),
        )),
    }
}
