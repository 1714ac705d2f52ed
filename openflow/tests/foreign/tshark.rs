//! Wireshark's dissector.

use crate::{has, messages, skip};
use openflow::wire::{self, OF10, OF13, OF14, OF15};
use openflow::{Message, MultipartReply, MultipartRequest};
use std::process::Command;

/// A capture of one connection's packets, each with a message.
fn capture(messages: &[bytes::Bytes]) -> Vec<u8> {
    // pcap 2.4, Ethernet.
    let mut out = [
        0xa1b2_c3d4u32.to_le_bytes(),
        0x0004_0002u32.to_le_bytes(),
        [0; 4],
        [0; 4],
        0x0004_0000u32.to_le_bytes(),
        1u32.to_le_bytes(),
    ]
    .concat();
    let mut sequence = 1u32;
    for m in messages {
        let ip_len = (20 + 20 + m.len()) as u16;
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        packet.extend([0x45, 0]);
        packet.extend(ip_len.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0x19, 0xfd, 0x80, 0]); // from port 6653
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(m);
        sequence = sequence.wrapping_add(m.len() as u32);
        let len = (packet.len() as u32).to_le_bytes();
        out.extend([[0; 4], [0; 4], len, len].concat());
        out.extend(packet);
    }
    out
}

/// Makes of bytes that are dissected as packets and refused messages ones that can be.
fn tame(m: &mut Message) {
    let frame = || vec![0xffu8; 60].into();
    match m {
        Message::PacketIn(p) | Message::PacketIn2(p) | Message::Resume(p) => {
            p.data = frame();
            p.total_len = 60;
        }
        Message::PacketOut(p) => p.data = frame(),
        // A barrier request.
        Message::Error(e) => e.data = vec![4, 20, 0, 8, 0, 0, 0, 1].into(),
        _ => {}
    }
}

/// What Wireshark 4.0 takes apart wrong: 1.0's flow-mods without actions, 1.4's queue descriptions
/// (by the padding), bodies of experimenters' answers; in 1.5 all that has an OXM field, and groups,
/// queues and table features, which it has in older forms.
fn spoiled_there(version: u8, m: &Message) -> bool {
    use MultipartReply as A;
    let bundled = match m {
        Message::BundleAdd(_, _, m) | Message::RequestForward(_, m) => m,
        m => m,
    };
    match bundled {
        Message::FlowMod(f) if version == OF10 => f.instructions.apply.is_empty(),
        Message::MultipartReply(A::QueueDesc(_) | A::IpfixBridge(_) | A::IpfixFlow(_)) => true,
        _ if version < OF15 => false,
        Message::FlowMod(_)
        | Message::FlowRemoved(_)
        | Message::GroupMod(_)
        | Message::PacketIn(_)
        | Message::PacketOut(_)
        | Message::PortStatus(..)
        | Message::ControllerStatus(_) => true,
        Message::MultipartRequest(q) => matches!(
            q,
            MultipartRequest::Flow(_)
                | MultipartRequest::FlowStats(_)
                | MultipartRequest::Aggregate(_)
                | MultipartRequest::FlowMonitor(_)
                | MultipartRequest::TableFeatures(_)
        ),
        Message::MultipartReply(a) => matches!(
            a,
            A::Flow(_)
                | A::FlowStats(_)
                | A::FlowMonitor(_)
                | A::GroupDesc(_)
                | A::Queue(_)
                | A::PortDesc(_)
                | A::TableFeatures(_)
                | A::ControllerStatus(_)
        ),
        _ => false,
    }
}

#[test]
fn wireshark_finds_our_messages_well_formed() {
    if !has("tshark") {
        return skip("wireshark_finds_our_messages_well_formed", "tshark");
    }
    let mut wrong = Vec::new();
    // It has no dissector for 1.1 and 1.2.
    for (version, name) in [
        (OF10, "openflow_v1"),
        (OF13, "openflow_v4"),
        (OF14, "openflow_v5"),
        (OF15, "openflow_v6"),
    ] {
        let mut all = messages(version, 300);
        for (xid, (m, bytes)) in all.iter_mut().enumerate() {
            tame(m);
            *bytes = wire::encode(version, xid as u32, m).expect("as before");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("messages.pcap");
        let bytes: Vec<bytes::Bytes> = all.iter().map(|m| m.1.clone()).collect();
        std::fs::write(&file, capture(&bytes)).expect("a capture");
        let out = Command::new("tshark")
            .args(["-r", file.to_str().expect("a path"), "-n"])
            .args(["-T", "fields", "-E", "separator=|"])
            .args(["-e", "frame.number", "-e", "frame.protocols"])
            .args(["-e", "_ws.malformed", "-e", "_ws.expert.message"])
            .output()
            .expect("tshark");
        let text = String::from_utf8_lossy(&out.stdout);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), all.len(), "{text}");
        for ((m, bytes), line) in all.iter().zip(lines) {
            let fields: Vec<&str> = line.splitn(4, '|').collect();
            let dissected = fields[1].contains(name);
            if spoiled_there(version, m)
                || dissected && fields[2].is_empty() && !fields[3].contains("Malformed")
            {
                continue;
            }
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            wrong.push(format!("version {version}: {line}\n{m:?}\n{hex}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} messages:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
