//! What a trace command asks.

use super::super::commands::{Context, parse_hex};
use super::{Report, dpctl, names, ofproto, words};
use crate::switch::Switch;
use datapath::TraceRequest;
use openflow::Match;
use openflow::text::{parse_actions, parse_exact_flow};

/// The words of a command, its options taken out.
#[derive(Default)]
struct Words<'a> {
    /// `-generate`: the flow is to be traced as a packet of its own.
    generate: bool,
    /// What is no option.
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn parse(args: &'a [String], packet_out: bool) -> Result<Words<'a>, String> {
        let mut w = Words::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-generate" | "--generate" => w.generate = true,
                "-consistent" | "--consistent" if packet_out => {}
                "--l7" | "--l7-len" | "--ct-next" if args.as_slice().is_empty() => {
                    return Err(format!("Missing argument for option {arg}"));
                }
                // The bytes behind the headers decide nothing.
                "--l7" | "--l7-len" => {
                    args.next();
                }
                "--ct-next" => {
                    return Err("--ct-next: connections are not tracked".to_owned());
                }
                a if a.starts_with('-') => return Err(format!("{a}: unknown option")),
                _ if w.plain.len() >= 3 => return Err("too many arguments".to_owned()),
                a => w.plain.push(a),
            }
        }
        Ok(w)
    }
}

/// Bytes of a packet in hex digits, as Open vSwitch takes them.
fn packet(hex: &str) -> Result<Vec<u8>, String> {
    parse_hex(hex).map_err(|_| "Trailing garbage in packet data".to_owned())
}

/// The bridge and packet that a command names, and how to trace it.
fn parse(switch: &Switch, words: &Words<'_>) -> Result<(String, TraceRequest), String> {
    let mut plain = &words.plain[..];
    let mut bytes = None;
    if !words.generate && plain.len() > 1 {
        match packet(plain[plain.len() - 1]) {
            Ok(p) => {
                bytes = Some(p);
                plain = &plain[..plain.len() - 1];
            }
            Err(e) if plain.len() > 2 => return Err(e),
            Err(_) => {}
        }
    }
    let (bridge, flow) = match plain {
        [flow] if dpctl::is_flow(flow) => dpctl::parse(switch, flow)?,
        [_, flow] if dpctl::is_flow(flow) => dpctl::parse(switch, flow)?,
        [flow] => {
            return Err(format!(
                "syntax error at {flow} (or the bridge name was omitted)"
            ));
        }
        [bridge, flow] => {
            switch
                .bridge(bridge)
                .ok_or_else(|| format!("{bridge}: unknown bridge"))?;
            let flow = parse_exact_flow(flow, &names(switch, bridge))
                .map_err(|e| format!("Bad openflow flow syntax: {e}"))?;
            ((*bridge).to_owned(), flow)
        }
        _ => return Err("Syntax error".to_owned()),
    };
    let request = TraceRequest {
        flow,
        effects: words.generate || bytes.is_some(),
        packet: bytes,
        ..TraceRequest::default()
    };
    Ok((bridge, request))
}

fn trace(c: &Context, bridge: &str, request: &TraceRequest) -> Result<Report, String> {
    let door = c
        .door
        .as_ref()
        .ok_or("there is no datapath to trace packets through")?;
    let trace = door.trace(bridge, request)?;
    Ok(Report::new(
        &c.switch,
        bridge,
        trace,
        &names(&c.switch, bridge),
    ))
}

/// `ofproto/trace`.
pub fn ofproto_trace(c: &Context, args: &[String]) -> Result<String, String> {
    let (bridge, request) = parse(&c.switch, &Words::parse(args, false)?)?;
    Ok(ofproto::write(&trace(c, &bridge, &request)?))
}

/// `ofproto/trace-packet-out`.
pub fn trace_packet_out(c: &Context, args: &[String]) -> Result<String, String> {
    let (actions, args) = args.split_last().ok_or("Syntax error")?;
    let words = Words::parse(args, true)?;
    // Actions are read before anything else, without a match: what they need is checked against the packet.
    let read = |m: &Match| {
        let names = openflow::text::Names::default();
        parse_actions(actions, m, &names).map_err(|e| e.to_string())
    };
    let (bridge, mut request) = parse(&c.switch, &words)?;
    request.actions = Some(read(&request.flow)?);
    Ok(ofproto::write(&trace(c, &bridge, &request)?))
}

/// `weir/trace [--json] [--packet HEX] bridge [flow]`: with reasons, and without any effect.
pub fn weir_trace(c: &Context, args: &[String]) -> Result<String, String> {
    let mut json = false;
    let mut bytes = None;
    let mut plain = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--packet" => {
                let hex = args.next().ok_or("--packet: hex digits are missing")?;
                bytes = Some(parse_hex(hex)?);
            }
            a if a.starts_with('-') => return Err(format!("{a}: unknown option")),
            a => plain.push(a),
        }
    }
    let (bridge, flow) = match plain[..] {
        [bridge] => (bridge, ""),
        [bridge, flow] => (bridge, flow),
        _ => return Err("a bridge, and a flow or --packet, are wanted".to_owned()),
    };
    if flow.is_empty() && bytes.is_none() {
        return Err("a flow (in_port=1,tcp,nw_dst=10.0.0.1) or --packet is missing".to_owned());
    }
    c.switch
        .bridge(bridge)
        .ok_or_else(|| format!("there is no bridge {bridge}"))?;
    let flow = parse_exact_flow(flow, &names(&c.switch, bridge)).map_err(|e| e.to_string())?;
    let request = TraceRequest {
        flow,
        packet: bytes,
        why: super::WHY,
        ..TraceRequest::default()
    };
    let report = trace(c, bridge, &request)?;
    if json {
        let mut text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
        text.push('\n');
        return Ok(text);
    }
    Ok(words::write(&report))
}
