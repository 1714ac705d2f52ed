//! Ports and their queues.

use super::commands::dump;
use super::{Options, names};
use anyhow::{Result, anyhow, bail};
use openflow::wire;
use openflow::{Message, MultipartRequest, PortFlags, PortMod, PortNo};

/// `dump-ports SWITCH [PORT]`
pub fn dump_ports(o: &Options, a: &[&str]) -> Result<()> {
    let port = names::port_number(o, a[0], a.get(1))?;
    dump(o, a[0], MultipartRequest::PortStats(port))
}

/// `dump-ports-desc SWITCH [PORT]`
pub fn dump_ports_desc(o: &Options, a: &[&str]) -> Result<()> {
    let port = names::port_number(o, a[0], a.get(1))?;
    dump(o, a[0], MultipartRequest::PortDesc(port))
}

/// What mod-port can switch: its word, the flag, and what the word makes of it.
type Action = (&'static str, fn(&mut PortFlags) -> &mut bool, bool);

const ACTIONS: &[Action] = &[
    ("up", |f| &mut f.port_down, false),
    ("down", |f| &mut f.port_down, true),
    ("stp", |f| &mut f.no_stp, false),
    ("receive", |f| &mut f.no_recv, false),
    ("receive-stp", |f| &mut f.no_recv_stp, false),
    ("flood", |f| &mut f.no_flood, false),
    ("forward", |f| &mut f.no_fwd, false),
    ("packet-in", |f| &mut f.no_packet_in, false),
];

/// `mod-port SWITCH PORT ACTION`
pub fn mod_port(o: &Options, a: &[&str]) -> Result<()> {
    let number = a[1].parse().ok().map(PortNo);
    let port = names::ports(o, a[0])?
        .into_iter()
        .find(|p| match number {
            Some(n) => n == p.port,
            None => p.name == a[1],
        })
        .ok_or_else(|| anyhow!("{}: couldn't find port `{}'", a[0], a[1]))?;
    let word = a[2].to_ascii_lowercase();
    let (word, not) = match word.strip_prefix("no-").or_else(|| word.strip_prefix("no")) {
        Some(rest) => (rest, true),
        None => (word.as_str(), false),
    };
    let Some((_, flag, on)) = ACTIONS.iter().find(|x| x.0 == word) else {
        bail!("unknown mod-port command '{}'", a[2]);
    };
    let (mut config, mut mask) = (PortFlags::default(), PortFlags::default());
    *flag(&mut mask) = true;
    *flag(&mut config) = on ^ not;
    let change = Message::PortMod(PortMod {
        port: port.port,
        mac: port.mac,
        config,
        mask,
        advertise: 0,
        optical: None,
    });
    let names = names::shown(o, a[0])?;
    names::open(o, a[0])?.change(&[change], &o.style(&names, 2))
}

fn queue_number(arg: Option<&&str>) -> Option<u32> {
    let arg = arg.filter(|q| !q.is_empty() && !q.eq_ignore_ascii_case("all"))?;
    // As atoi(3) reads it.
    let digits: String = arg.chars().take_while(char::is_ascii_digit).collect();
    Some(digits.parse().unwrap_or(0))
}

/// `queue-stats SWITCH [PORT [QUEUE]]`
pub fn queue_stats(o: &Options, a: &[&str]) -> Result<()> {
    let all = |s: &str| s.is_empty() || s.eq_ignore_ascii_case("all");
    let port = names::port_number(o, a[0], a.get(1).filter(|p| !all(p)))?;
    let queue = queue_number(a.get(2));
    dump(o, a[0], MultipartRequest::Queue { port, queue })
}

/// `queue-get-config SWITCH [PORT [QUEUE]]`
pub fn queue_get_config(o: &Options, a: &[&str]) -> Result<()> {
    let port = names::port_number(o, a[0], a.get(1))?;
    let queue = queue_number(a.get(2));
    let mut conn = names::open(o, a[0])?;
    let names = names::shown(o, a[0])?;
    // OpenFlow 1.0 tells of one port at a time.
    let mut each = vec![port];
    if port == PortNo::ANY && conn.version == wire::OF10 {
        let all = names::ports(o, a[0])?;
        each = all
            .iter()
            .map(|p| p.port)
            .filter(|p| p.is_physical())
            .collect();
    }
    for port in each {
        let q = if conn.version >= 5 {
            Message::MultipartRequest(MultipartRequest::QueueDesc { port, queue })
        } else {
            Message::QueueGetConfigRequest(port)
        };
        conn.show(&q, &o.style(&names, 1))?;
    }
    Ok(())
}
