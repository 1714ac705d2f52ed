//! Ports and queues.

use super::{Style, bits, counter, lifetime};
use crate::message::{
    PortDesc, PortFlags, PortMod, PortNo, PortReason, PortStats, QueueConfig, QueueStats,
};
use crate::text::Names;
use std::fmt::{Result, Write};

const LINK: &[(u32, &str)] = &[
    (1 << 0, "10MB-HD"),
    (1 << 1, "10MB-FD"),
    (1 << 2, "100MB-HD"),
    (1 << 3, "100MB-FD"),
    (1 << 4, "1GB-HD"),
    (1 << 5, "1GB-FD"),
    (1 << 6, "10GB-FD"),
    (1 << 7, "40GB-FD"),
    (1 << 8, "100GB-FD"),
    (1 << 9, "1TB-FD"),
    (1 << 10, "OTHER"),
    (1 << 11, "COPPER"),
    (1 << 12, "FIBER"),
    (1 << 13, "AUTO_NEG"),
    (1 << 14, "AUTO_PAUSE"),
    (1 << 15, "AUTO_PAUSE_ASYM"),
];

fn flags(f: PortFlags) -> String {
    let words = [
        (f.port_down, "PORT_DOWN"),
        (f.no_stp, "NO_STP"),
        (f.no_recv, "NO_RECV"),
        (f.no_recv_stp, "NO_RECV_STP"),
        (f.no_flood, "NO_FLOOD"),
        (f.no_fwd, "NO_FWD"),
        (f.no_packet_in, "NO_PACKET_IN"),
    ];
    let on: Vec<_> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
    if on.is_empty() {
        "0".into()
    } else {
        on.join(" ")
    }
}

/// Ports, as `show` lists them.
pub fn format_ports(ports: &[PortDesc]) -> String {
    let mut s = String::new();
    // By number, the local port last.
    let mut ports: Vec<&PortDesc> = ports.iter().collect();
    ports.sort_by_key(|p| p.port);
    for p in ports {
        let _ = port(&mut s, p);
    }
    s
}

fn port(w: &mut String, p: &PortDesc) -> Result {
    writeln!(w, " {}({}): addr:{}", p.port, p.name, p.mac)?;
    writeln!(w, "     config:     {}", flags(p.config))?;
    let state = u32::from(p.link_down) | u32::from(p.live) << 2;
    writeln!(
        w,
        "     state:      {}",
        bits(state, &[(1, "LINK_DOWN"), (4, "LIVE")])
    )?;
    for (name, n) in [
        ("current:   ", p.current),
        ("advertised:", p.advertised),
        ("supported: ", p.supported),
        ("peer:      ", p.peer),
    ] {
        if n != 0 {
            writeln!(w, "     {name} {}", bits(n, LINK))?;
        }
    }
    let (now, max) = (p.current_speed / 1000, p.max_speed / 1000);
    writeln!(w, "     speed: {now} Mbps now, {max} Mbps max")
}

pub(super) fn status(w: &mut String, reason: PortReason, p: &PortDesc) -> Result {
    let reason = match reason {
        PortReason::Add => "ADD",
        PortReason::Delete => "DEL",
        PortReason::Modify => "MOD",
    };
    write!(w, " {reason}:")?;
    port(w, p)
}

pub(super) fn port_mod(w: &mut String, p: &PortMod, names: &Names) -> Result {
    writeln!(w, " port: {}: addr:{}", names.port_text(p.port), p.mac)?;
    writeln!(w, "     config: {}", flags(p.config))?;
    writeln!(w, "     mask:   {}", flags(p.mask))?;
    let advertise = match p.advertise {
        0 => "UNCHANGED".into(),
        n => bits(n, LINK),
    };
    writeln!(w, "     advertise: {advertise}")
}

pub(super) fn stats(w: &mut String, ports: &[PortStats], style: &Style<'_>) -> Result {
    writeln!(w, " {} ports", ports.len())?;
    if style.verbosity == 0 {
        return Ok(());
    }
    for p in ports {
        let c = counter;
        let name = style.names.port_text(PortNo(p.port));
        let pad = if p.port < 10 { " " } else { "" };
        write!(
            w,
            "  port {pad}{name}: rx pkts={}, bytes={}, ",
            c(p.rx_packets),
            c(p.rx_bytes)
        )?;
        write!(w, "drop={}, errs={}, ", c(p.rx_dropped), c(p.rx_errors))?;
        let (frame, over, crc) = (c(p.rx_frame_err), c(p.rx_over_err), c(p.rx_crc_err));
        writeln!(w, "frame={frame}, over={over}, crc={crc}")?;
        write!(
            w,
            "           tx pkts={}, bytes={}, ",
            c(p.tx_packets),
            c(p.tx_bytes)
        )?;
        let (drop, errors, collisions) = (c(p.tx_dropped), c(p.tx_errors), c(p.collisions));
        writeln!(w, "drop={drop}, errs={errors}, coll={collisions}")?;
        if lifetime(p.duration) != "?" {
            writeln!(w, "           duration={}", lifetime(p.duration))?;
        }
    }
    Ok(())
}

pub(super) fn queue_request(
    w: &mut String,
    port: PortNo,
    queue: Option<u32>,
    names: &Names,
) -> Result {
    let port = match port {
        PortNo::ANY => "ALL".into(),
        p => names.port_text(p),
    };
    let queue = queue.map_or_else(|| "ALL".into(), |q| q.to_string());
    write!(w, " port={port} queue={queue}")
}

pub(super) fn queue_stats(w: &mut String, queues: &[QueueStats], style: &Style<'_>) -> Result {
    writeln!(w, " {} queues", queues.len())?;
    if style.verbosity == 0 {
        return Ok(());
    }
    for q in queues {
        let (port, queue) = (style.names.port_text(PortNo(q.port)), q.queue);
        let (bytes, packets) = (counter(q.tx_bytes), counter(q.tx_packets));
        let (errors, duration) = (counter(q.tx_errors), lifetime(q.duration));
        write!(
            w,
            "  port {port} queue {queue}: bytes={bytes}, pkts={packets}, "
        )?;
        writeln!(w, "errors={errors}, duration={duration}")?;
    }
    Ok(())
}

pub(super) fn queue_config(
    w: &mut String,
    port: PortNo,
    queues: &[QueueConfig],
    names: &Names,
) -> Result {
    writeln!(w, " port={}", names.port_text(port))?;
    let mut queues: Vec<&QueueConfig> = queues.iter().collect();
    queues.sort_by_key(|q| q.queue);
    queues.into_iter().try_for_each(|q| queue(w, q))
}

/// From OpenFlow 1.4 on each queue says its port.
pub(super) fn queue_descriptions(w: &mut String, queues: &[QueueConfig], names: &Names) -> Result {
    let mut queues: Vec<&QueueConfig> = queues.iter().collect();
    queues.sort_by_key(|q| (q.port, q.queue));
    w.push(' ');
    let mut last = None;
    for q in queues {
        if last != Some(q.port) {
            writeln!(w, "port={}", names.port_text(q.port))?;
            last = Some(q.port);
        }
        queue(w, q)?;
    }
    Ok(())
}

fn queue(w: &mut String, q: &QueueConfig) -> Result {
    write!(w, "queue {}:", q.queue)?;
    for (name, rate) in [("min_rate", q.min_rate), ("max_rate", q.max_rate)] {
        if let Some(r) = rate {
            write!(w, " {name}:{}.{}%", r / 10, r % 10)?;
        }
    }
    w.write_char('\n')
}
