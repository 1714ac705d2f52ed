//! Changes all at once: `bundle SWITCH FILE`, and what `--bundle` needs.

use super::{Options, flows, groups, names, packets};
use anyhow::{Result, anyhow, bail};
use openflow::text::{FlowCommand, FlowLine, Protocols};
use openflow::{GroupMod, Message};

/// The formats of versions that have bundles.
pub fn able() -> Protocols {
    Protocols::from_version_up(openflow::wire::OF13)
}

/// The options with OpenFlow 1.4 allowed if nothing allowed has bundles.
pub fn with_bundles(o: &Options) -> Options {
    let mut with = o.clone();
    let wanted = o.allowed.and(able());
    with.allowed = if wanted.is_empty() {
        Protocols::of_version(5)
    } else {
        wanted
    };
    with
}

/// One line of a bundle's file.
enum Line {
    Flow(FlowLine),
    Group(GroupMod),
    PacketOut(packets::PacketLine),
}

/// `bundle SWITCH FILE`
pub fn bundle(o: &Options, a: &[&str]) -> Result<()> {
    let names = names::accepted(o, a[0])?;
    let mut parsed = Vec::new();
    for (place, text) in flows::lines(a[1], "open failed")? {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (kind, rest) = text.split_at(end);
        let line = match kind {
            "flow" => flows::file_line(rest, FlowCommand::Add, &names).map(Line::Flow),
            "group" => groups::file_line(rest, None, &names).map(Line::Group),
            "packet-out" => packets::parse_line(rest, &names).map(Line::PacketOut),
            _ => bail!("{place}Unsupported bundle message type: {kind}"),
        };
        parsed.push(line.map_err(|e| anyhow!("{place}{e}"))?);
    }
    let usable = parsed.iter().fold(able(), |all, l| {
        all.and(match l {
            Line::Flow(f) => flows::usable(std::slice::from_ref(f)),
            Line::Group(g) => groups::usable(std::slice::from_ref(g)),
            Line::PacketOut(p) => p.usable,
        })
    });
    let o = with_bundles(o);
    let mut conn = flows::open_for(&o, a[0], usable)?;
    let messages: Vec<Message> = parsed
        .into_iter()
        .map(|l| match l {
            Line::Flow(f) => flows::message(&conn, &f),
            Line::Group(g) => Message::GroupMod(g),
            Line::PacketOut(p) => Message::PacketOut(p.packet_out),
        })
        .collect();
    let names = names::shown(&o, a[0])?;
    conn.bundle(&messages, &o.style(&names, 2))
}
