//! Reading a bridge whole.

use super::Bridge;
use crate::ofctl::Options;
use crate::ofctl::conn::{Conn, Socket};
use anyhow::{Result, bail};
use openflow::text::{Names, Protocols, format_message};
use openflow::{
    FlowFilter, GROUP_ALL, METER_ALL, Message, MultipartReply, MultipartRequest, PortNo,
};

/// Reads the bridge at an address.
///
/// # Errors
/// Nobody is there, or does not answer what is asked.
pub fn bridge(address: &str) -> Result<Bridge> {
    let mut options = Options::new();
    options.allowed = Protocols::of_version(4).or(Protocols::of_version(5));
    let mut conn = Conn::open(&options, address, Socket::Mgmt)?;
    let mut b = Bridge::default();
    for request in [
        MultipartRequest::Flow(FlowFilter::default()),
        MultipartRequest::GroupDesc(GROUP_ALL),
        MultipartRequest::MeterConfig(METER_ALL),
        MultipartRequest::PortDesc(PortNo::ANY),
    ] {
        let mut refused = None;
        conn.ask(&Message::MultipartRequest(request), |d| match d.message {
            Message::MultipartReply(MultipartReply::Flow(f)) => b.flows.extend(f),
            Message::MultipartReply(MultipartReply::GroupDesc(g)) => b.groups.extend(g),
            Message::MultipartReply(MultipartReply::MeterConfig(m)) => {
                b.meters.extend(m.iter().map(|m| m.meter));
            }
            Message::MultipartReply(MultipartReply::PortDesc(p)) => b.ports.extend(p),
            _ => refused = Some(format_message(&d, &Names::default())),
        })?;
        if let Some(text) = refused {
            bail!("{address}: {}", text.trim_end());
        }
    }
    Ok(b)
}
