//! Ports and tables by name.

use super::Options;
use super::conn::{Conn, Socket};
use anyhow::{Result, anyhow};
use openflow::text::Names;
use openflow::wire;
use openflow::{Message, MultipartReply, MultipartRequest, PortDesc, PortNo};

/// The first version that lists tables by their features, and ports apart from the switch's.
const OF13: u8 = wire::OF13;

/// A bridge's management connection.
///
/// # Errors
/// As [`Conn::open`].
pub fn open(o: &Options, name: &str) -> Result<Conn> {
    Conn::open(o, name, Socket::Mgmt)
}

/// The switch's ports, over a connection of their own as the stock tool does.
///
/// # Errors
/// As [`Conn::open`] and [`Conn::receive`].
pub fn ports(o: &Options, switch: &str) -> Result<Vec<PortDesc>> {
    let mut conn = open(o, switch)?;
    let mut all = Vec::new();
    let request = if conn.version < OF13 {
        Message::FeaturesRequest
    } else {
        Message::MultipartRequest(MultipartRequest::PortDesc(PortNo::ANY))
    };
    conn.ask(&request, |d| match d.message {
        Message::FeaturesReply(f) => all.extend(f.ports),
        Message::MultipartReply(MultipartReply::PortDesc(p)) => all.extend(p),
        _ => {}
    })?;
    Ok(all)
}

/// The switch's tables that have names.
fn tables(o: &Options, switch: &str) -> Result<Vec<(u8, String)>> {
    let mut conn = open(o, switch)?;
    let request = if conn.version < OF13 {
        MultipartRequest::Table
    } else {
        MultipartRequest::TableFeatures(Vec::new())
    };
    let mut all = Vec::new();
    conn.ask(&Message::MultipartRequest(request), |d| match d.message {
        Message::MultipartReply(MultipartReply::TableFeatures(t)) => {
            all.extend(t.into_iter().map(|t| (t.table, t.name)));
        }
        Message::MultipartReply(MultipartReply::Table(t)) => {
            all.extend(t.into_iter().map(|t| (t.table, t.name)));
        }
        _ => {}
    })?;
    all.retain(|t| !t.1.is_empty());
    Ok(all)
}

/// Names to read with, and to show if names are wanted; none if `--no-names` says so.
///
/// # Errors
/// As [`Conn::open`] and [`Conn::receive`].
pub fn accepted(o: &Options, switch: &str) -> Result<Names> {
    if o.names == Some(false) {
        return Ok(Names::default());
    }
    Ok(Names {
        show: o.show_names(),
        tables: tables(o, switch)?,
        ports: ports(o, switch)?
            .into_iter()
            .map(|p| (p.port, p.name))
            .collect(),
        ..Names::default()
    })
}

/// Names to show with; none unless names are wanted.
///
/// # Errors
/// As [`Conn::open`] and [`Conn::receive`].
pub fn shown(o: &Options, switch: &str) -> Result<Names> {
    if o.show_names() {
        accepted(o, switch)
    } else {
        Ok(Names::default())
    }
}

/// A port by number, reserved name or name; any if none is named.
///
/// # Errors
/// There is none of that name.
pub fn port_number(o: &Options, switch: &str, arg: Option<&&str>) -> Result<PortNo> {
    let Some(arg) = arg else {
        return Ok(PortNo::ANY);
    };
    if let Some(p) = Names::default().port(arg) {
        return Ok(p);
    }
    accepted(o, switch)?
        .port(arg)
        .ok_or_else(|| anyhow!("{switch}: unknown port `{arg}'"))
}
