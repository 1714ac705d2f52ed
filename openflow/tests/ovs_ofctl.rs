//! Our text and bytes against the installed `ovs-ofctl`: the same flow must give the same words, and the same flow-mod.
//!
//! Without an `ovs-ofctl` on the machine there is nothing to compare with: the tests say SKIPPED and pass.

use openflow::text::{FlowCommand, Names, Protocols, format_message, parse_flow, usable_protocols};
use openflow::{Message, wire};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One flow a line, in files by theme: the last has every action, instruction and message of errors.
fn flows() -> Vec<&'static str> {
    let files = [
        include_str!("flows.txt"),
        include_str!("matches.txt"),
        include_str!("actions.txt"),
    ];
    files
        .into_iter()
        .flat_map(str::lines)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

/// The stock tool's name for a version.
fn name(version: u8) -> String {
    format!("OpenFlow1{}", version - 1)
}

fn stock_tool() -> Option<()> {
    match Command::new("ovs-ofctl").arg("--version").output() {
        Ok(_) => Some(()),
        Err(_) => {
            eprintln!("SKIPPED: no ovs-ofctl to compare with");
            None
        }
    }
}

/// Standard output and error of the stock tool, without its log lines.
fn stock(version: u8, flow: &str) -> String {
    let out = Command::new("ovs-ofctl")
        .args(["-O", &name(version), "-vconsole:off", "parse-flow", flow])
        .env("OVS_RUNDIR", "/nonexistent")
        .output()
        .expect("ovs-ofctl runs");
    let text = [out.stdout, out.stderr].concat();
    String::from_utf8(text).expect("ovs-ofctl prints ASCII")
}

/// A flow's message as the stock tool would choose it: the simplest format of the version that can say the flow.
fn message(version: u8, flow: &str) -> Result<(Protocols, Option<(Protocols, Message)>), String> {
    let line = parse_flow(flow, FlowCommand::Add, &Names::default()).map_err(|e| e.to_string())?;
    let usable = usable_protocols(&line.flow_mod, line.table_given);
    let chosen = usable.and(Protocols::of_version(version)).iter().next();
    let message = chosen.map(|p| {
        let own = Message::FlowMod(line.flow_mod);
        if Protocols::NXM_ANY.contains(p) {
            (p, Message::Nicira(Box::new(own)))
        } else {
            (p, own)
        }
    });
    Ok((usable, message))
}

fn ours(version: u8, flow: &str) -> String {
    match message(version, flow) {
        Err(e) => format!("ovs-ofctl: {e}\n"),
        Ok((usable, None)) => {
            format!("usable protocols: {usable}\novs-ofctl: no usable protocol\n")
        }
        Ok((usable, Some((chosen, message)))) => {
            let bytes = wire::encode(version, 1, &message).expect(flow);
            let text = format_message(&wire::decode(&bytes).expect(flow), &Names::default());
            format!("usable protocols: {usable}\nchosen protocol: {chosen}\n{text}")
        }
    }
}

/// What weir does not tell apart as the stock tool does, so that the formats it finds usable may differ: masked spellings of
/// a tag, set_fields that are kept as the older action (`mod_nw_ecn`), and what the stock tool would leave out in 1.0.
const USABLE_MAY_DIFFER: &[&str] = &[
    "vlan_tci=",
    "vlan_vid=",
    "->nw_ecn",
    "->ip_ecn",
    "->sctp_src",
    "->mpls_label",
    "write_actions",
    "clear_actions",
    "decap",
    "dec_nsh_ttl",
];

/// What is said in another way, by version: set_fields that the stock tool sends as loads, or without their masks, a wide
/// load that it puts together again, and instructions that it sends in an order that no Open vSwitch takes.
const SAID_OTHERWISE: &[(&str, std::ops::RangeInclusive<u8>)] = &[
    ("->mpls_label,", 1..=2),
    ("->sctp_src", 1..=2),
    ("/ff:00:00:00:00:00->eth_src", 1..=2),
    ("/255.0.0.0->ip_src", 1..=2),
    ("load:0x12345678901234567890->xxreg0", 6..=6),
    ("write_metadata:5,goto_table", 1..=1),
    ("write_metadata:0x5/0xf,goto_table", 1..=1),
];

/// What has the same words but other bytes: a packet type of Ethernet that the stock tool adds where no field implies it,
/// and fields of which it sends the value as the mask.
const OTHER_BYTES: &[&str] = &[
    "eth,actions",
    "/00:00:00:00:00:00,actions",
    "tun_erspan_ver=1,",
    "tun_gtpu_flags=3,",
];

fn said_otherwise(flow: &str, version: u8) -> bool {
    SAID_OTHERWISE
        .iter()
        .any(|s| flow.contains(s.0) && s.1.contains(&version))
}

/// Without the line on usable formats if that may differ; nothing if then another format, or none, was chosen.
fn comparable(flow: &str, text: &str) -> Option<String> {
    if !USABLE_MAY_DIFFER.iter().any(|w| flow.contains(w)) {
        return Some(text.to_owned());
    }
    if !text.contains("chosen protocol: O") || text.contains("chosen protocol: OpenFlow10") {
        return None;
    }
    Some(text.lines().skip(1).collect())
}

fn words_agree(version: u8) {
    if stock_tool().is_none() {
        return;
    }
    let mut flows = flows();
    flows.retain(|f| !said_otherwise(f, version));
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(flow) = flows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (got, want) = (ours(version, flow), stock(version, flow));
                    let both = comparable(flow, &got).zip(comparable(flow, &want));
                    if both.is_some_and(|(g, w)| g != w) {
                        let text = format!("flow:  {flow}\nstock: {want}ours:  {got}");
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        flows.len(),
        wrong.join("\n")
    );
}

#[test]
fn flows_of_10_read_and_print_as_the_stock_tool_does() {
    words_agree(1);
}

#[test]
fn flows_of_11_read_and_print_as_the_stock_tool_does() {
    words_agree(2);
}

#[test]
fn flows_of_13_read_and_print_as_the_stock_tool_does() {
    words_agree(4);
}

#[test]
fn flows_of_15_read_and_print_as_the_stock_tool_does() {
    words_agree(6);
}

/// What a client sends to a switch that says hello, answers barriers and probes, and keeps the rest.
fn sent(mut client: TcpStream, version: u8) -> Vec<Vec<u8>> {
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    client.write_all(&[version, 0, 0, 8, 0, 0, 0, 1]).unwrap();
    let mut chunk = [0; 4096];
    loop {
        while let wire::Frame::Message(n) = wire::frame(&buffer) {
            let m: Vec<u8> = buffer.drain(..n).collect();
            let barrier = if version == 1 { 18 } else { 20 };
            match m[1] {
                0 => {}
                kind if kind == 2 || kind == barrier => {
                    let mut answer = m;
                    answer[1] += 1;
                    client.write_all(&answer).unwrap();
                }
                _ => messages.push(m),
            }
        }
        match client.read(&mut chunk) {
            Ok(0) | Err(_) => return messages,
            Ok(n) => buffer.extend(&chunk[..n]),
        }
    }
}

/// Flow-mods of the stock tool and ours, byte for byte but for transaction ids, for all flows that a format can say.
fn bytes_agree(version: u8, format: Protocols) {
    if stock_tool().is_none() {
        return;
    }
    // Of a match from which something was taken out, the stock tool sends a rest that says nothing.
    let normal = |flow: &&str| {
        parse_flow(flow, FlowCommand::Add, &Names::default())
            .is_ok_and(|l| l.normalized_from.is_none())
    };
    let (lines, ours): (Vec<&str>, Vec<_>) = flows()
        .into_iter()
        .filter(normal)
        .filter(|f| !said_otherwise(f, version) && !OTHER_BYTES.iter().any(|w| f.contains(w)))
        .filter(|f| version > 2 || !USABLE_MAY_DIFFER.iter().any(|w| f.contains(w)))
        .filter_map(|flow| match message(version, flow) {
            Ok((_, Some((p, m)))) if format.contains(p) => {
                Some((flow, wire::encode(version, 0, &m).expect(flow)))
            }
            _ => None,
        })
        .unzip();
    assert!(lines.len() > 30, "only {} flows", lines.len());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp:{}", listener.local_addr().unwrap());
    let mut tool = Command::new("ovs-ofctl")
        .args(["--no-names", "-vconsole:off", "-O", &name(version), "-F"])
        .args([&format.to_string(), "add-flows", &to, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = tool.stdin.take().unwrap();
    input
        .write_all((lines.join("\n") + "\n").as_bytes())
        .unwrap();
    drop(input);
    // A tool that refuses its input never connects: then there is no switch to wait for.
    listener.set_nonblocking(true).unwrap();
    let client = loop {
        match listener.accept() {
            Ok((client, _)) => break client,
            Err(_) => assert!(tool.try_wait().unwrap().is_none(), "{}", stderr(&mut tool)),
        }
        std::thread::yield_now();
    };
    client.set_nonblocking(false).unwrap();
    let messages = sent(client, version);
    assert!(tool.wait().unwrap().success(), "{}", stderr(&mut tool));
    let is_flow_mod = |m: &&Vec<u8>| match version {
        1 => m[1] == 14 || m[1] == 4 && m[8..16] == [0, 0, 0x23, 0x20, 0, 0, 0, 13],
        _ => m[1] == 14,
    };
    let stock: Vec<_> = messages.iter().filter(is_flow_mod).collect();
    assert_eq!(stock.len(), ours.len(), "flow-mods of the stock tool");
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let wrong: Vec<String> = lines
        .iter()
        .zip(stock.iter().zip(&ours))
        .filter(|(_, (s, o))| s[8..] != o[8..] || s[..4] != o[..4])
        .map(|(l, (s, o))| format!("flow:  {l}\nstock: {}\nours:  {}", hex(s), hex(o)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        lines.len(),
        wrong.join("\n")
    );
}

fn stderr(tool: &mut std::process::Child) -> String {
    let mut text = String::new();
    if let Some(mut e) = tool.stderr.take() {
        let _ = e.read_to_string(&mut text);
    }
    text
}

#[test]
fn flow_mods_of_10_are_the_stock_tools() {
    bytes_agree(1, Protocols::OF10);
}

#[test]
fn flow_mods_of_nxm_are_the_stock_tools() {
    bytes_agree(1, Protocols::NXM);
}

#[test]
fn flow_mods_of_11_are_the_stock_tools() {
    bytes_agree(2, Protocols::of_version(2));
}

#[test]
fn flow_mods_of_12_are_the_stock_tools() {
    bytes_agree(3, Protocols::of_version(3));
}

#[test]
fn flow_mods_of_13_are_the_stock_tools() {
    bytes_agree(4, Protocols::of_version(4));
}

#[test]
fn flow_mods_of_14_are_the_stock_tools() {
    bytes_agree(5, Protocols::of_version(5));
}

#[test]
fn flow_mods_of_15_are_the_stock_tools() {
    bytes_agree(6, Protocols::of_version(6));
}
