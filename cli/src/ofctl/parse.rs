//! What has no switch: texts and bytes into each other.

use super::commands::out;
use super::packets::hex;
use super::{Options, flows};
use anyhow::{Context, Result, anyhow, bail};
use openflow::error::ErrorKind;
use openflow::text::{
    FlowCommand, FlowLine, Names, Protocols, Style, dump, error_name, parse_flow,
};
use openflow::wire::{self, Frame};
use openflow::{ErrorMsg, GroupModCommand, Hello, Message};
use std::io::Read;

/// `parse-flow FLOW`
pub fn parse_one_flow(o: &Options, a: &[&str]) -> Result<()> {
    let line = parse_flow(a[0], FlowCommand::Add, &Names::default())?;
    flows::tell_normalized(&line);
    show_flows(o, &[line])
}

/// `parse-flows FILE`
pub fn parse_flows(o: &Options, a: &[&str]) -> Result<()> {
    // Here a line has no word for its command in front.
    let mut lines = Vec::new();
    for (place, text) in flows::lines(a[0], "open failed")? {
        let line = parse_flow(&text, FlowCommand::Add, &Names::default())
            .map_err(|e| anyhow!("{place}{e}"))?;
        lines.push(line);
    }
    show_flows(o, &lines)
}

/// The simplest of the formats that are usable and allowed.
fn choose(o: &Options, usable: Protocols) -> Result<Protocols> {
    out(&format!("usable protocols: {usable}\n"));
    let chosen = usable.and(o.allowed).iter().next();
    chosen.context("no usable protocol")
}

fn show_flows(o: &Options, lines: &[FlowLine]) -> Result<()> {
    let chosen = choose(o, flows::usable(lines))?;
    out(&format!("chosen protocol: {chosen}\n"));
    let names = Names::default();
    for line in lines {
        let (version, message) = flows::message_in(chosen, line);
        let bytes = wire::encode(version, super::conn::xid(), &message)?;
        out(&o.style(&names, 0).bytes(&bytes));
    }
    Ok(())
}

/// `parse-group GROUP`
pub fn parse_group(o: &Options, a: &[&str]) -> Result<()> {
    let names = Names::default();
    let g = openflow::text::parse_group_mod(a[0], GroupModCommand::Add, &names)?;
    let chosen = choose(o, super::groups::usable(std::slice::from_ref(&g)))?;
    let version = chosen
        .versions()
        .first()
        .copied()
        .context("no usable protocol")?;
    out(&format!(
        "chosen version: {}\n",
        super::version_option(version)
    ));
    let bytes = wire::encode(version, super::conn::xid(), &Message::GroupMod(g))?;
    out(&o.style(&names, 0).bytes(&bytes));
    Ok(())
}

/// `ofp-print HEXDIGITS [VERBOSITY]`; `-` for the digits is a line of standard input.
pub fn ofp_print(o: &Options, a: &[&str]) -> Result<()> {
    // As atoi(3) reads it.
    let level = |s: &str| s.parse::<u8>().unwrap_or(0);
    let (text, verbosity) = match *a {
        ["-"] => (first_line()?, 2),
        ["-", v] => (first_line()?, level(v)),
        [text, v] => (text.to_owned(), level(v)),
        [text] => (text.to_owned(), 2),
        _ => bail!("'ofp-print' command requires at least 1 arguments"),
    };
    let bytes = hex(&text).context("trailing garbage following hex bytes");
    let bytes = bytes.map_err(|e| anyhow!("{e}"))?;
    let names = Names::default();
    let style = Style {
        verbosity,
        ..o.style(&names, 0)
    };
    out(&style.bytes(&bytes));
    Ok(())
}

fn first_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line)
}

/// `ofp-parse FILE`
pub fn ofp_parse(o: &Options, a: &[&str]) -> Result<()> {
    let file = a[0];
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file)
            .map_err(|e| anyhow!("{file}: open ({})", crate::exit::words(&e)))?;
    }
    let names = Names::default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match wire::frame(rest) {
            Frame::Message(n) => {
                out(&o.style(&names, 2).bytes(&rest[..n]));
                rest = &rest[n..];
            }
            Frame::Broken(h) => {
                bail!("{file}: {}-byte message is too short for OpenFlow", h.len)
            }
            Frame::Incomplete => bail!("{file}: unexpected end of file mid-message"),
        }
    }
    Ok(())
}

fn error_named(name: &str) -> Result<ErrorKind> {
    let known = ErrorKind::ALL.iter().find(|k| error_name(**k) == name);
    known
        .copied()
        .ok_or_else(|| anyhow!("unknown error \"{name}\""))
}

/// `print-error NAME`: its numbers in each version.
pub fn print_error(_: &Options, a: &[&str]) -> Result<()> {
    let kind = error_named(a[0])?;
    for version in 1..=6u8 {
        if let Some(n) = kind.numbers(version) {
            let vendor = match n.experimenter {
                None => "0".into(),
                Some(v) => format!("{v:#x}"),
            };
            let minor = version - 1;
            let (kind, code) = (n.r#type, n.code);
            out(&format!(
                "OpenFlow 1.{minor}: vendor {vendor}, type {kind}, code {code}\n"
            ));
        }
    }
    Ok(())
}

/// `encode-error-reply NAME REQUEST`: the answer that refuses a request with this error.
pub fn encode_error_reply(_: &Options, a: &[&str]) -> Result<()> {
    let kind = error_named(a[0])?;
    let Some(request) = hex(a[1]) else {
        bail!("Trailing garbage in hex data");
    };
    let Some(h) = wire::decode_header(&request) else {
        bail!("Request too short");
    };
    if usize::from(h.len) != request.len() {
        bail!("Request size inconsistent");
    }
    let data = request[..request.len().min(64)].to_vec().into();
    let reply = wire::encode(h.version, h.xid, &Message::Error(ErrorMsg { kind, data }))?;
    out(&dump(&reply, false));
    Ok(())
}

/// `encode-hello BITMAP`
pub fn encode_hello(o: &Options, a: &[&str]) -> Result<()> {
    let number = |s: &str| match s.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => s.parse().ok(),
    };
    let bitmap =
        number(a[0]).with_context(|| format!("{}: a bitmap of versions is a number", a[0]))?;
    let version = wire::highest(bitmap).context("no version in the bitmap is spoken here")?;
    // A hello of all versions up to its own needs no list.
    let all = (1 << (version + 1)) - 2;
    let hello = Hello {
        version,
        versions: (bitmap != all).then_some(bitmap),
    };
    let bytes = wire::encode(version, super::conn::xid(), &Message::Hello(hello))?;
    out(&dump(&bytes, false));
    out(&o.style(&Names::default(), 0).bytes(&bytes));
    Ok(())
}

/// `parse-key-value TEXT...`
pub fn parse_key_value(_: &Options, a: &[&str]) -> Result<()> {
    for text in a {
        let pairs = openflow::text::key_values(text)?;
        let words: Vec<String> = pairs
            .iter()
            .map(|(k, v)| {
                if v.is_empty() {
                    (*k).to_owned()
                } else {
                    format!("{k}={v}")
                }
            })
            .collect();
        out(&format!("{}\n", words.join(", ")));
    }
    Ok(())
}
