//! Ports and their queues.

use super::flows::whole_millis;
use crate::agent::Bridge;
use openflow::error::ErrorKind;
use openflow::{OfError, PortDesc, PortNo, PortStats, QueueConfig, QueueStats};

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

/// The queues of one port, or of all, and what they did: one of them, or all (OpenFlow 1.3.5 7.3.5.8).
///
/// # Errors
/// There is no such port, or no such queue.
pub(super) fn queue_stats(
    bridge: &Bridge,
    port: PortNo,
    queue: Option<u32>,
) -> Result<Vec<QueueStats>, OfError> {
    let plane = bridge.plane();
    let mut ports = plane.ports(bridge.name());
    ports.sort();
    ports.retain(|p| port == PortNo::ANY || *p == port);
    if ports.is_empty() && port != PortNo::ANY {
        return Err(OfError::new(
            ErrorKind::QueueBadPort,
            format!("no port {port}"),
        ));
    }
    let all = ports
        .into_iter()
        .flat_map(|p| plane.queue_stats(bridge.name(), p));
    let stats: Vec<QueueStats> = all.filter(|q| queue.is_none_or(|n| n == q.queue)).collect();
    match queue {
        Some(q) if stats.is_empty() => Err(OfError::new(
            ErrorKind::QueueBadQueue,
            format!("no queue {q}"),
        )),
        _ => Ok(stats),
    }
}

/// The same queues as they are set up. Their rates are not told: OpenFlow has them in parts of the port's speed, the database in
/// bits a second, and most ports have no speed. (Open vSwitch leaves them out, too.)
///
/// # Errors
/// As those of [`queue_stats`].
pub(super) fn queue_configs(
    bridge: &Bridge,
    port: PortNo,
    queue: Option<u32>,
) -> Result<Vec<QueueConfig>, OfError> {
    let config = |s: &QueueStats| QueueConfig {
        queue: s.queue,
        port: PortNo(s.port),
        min_rate: None,
        max_rate: None,
    };
    Ok(queue_stats(bridge, port, queue)?
        .iter()
        .map(config)
        .collect())
}
