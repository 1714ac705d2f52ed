//! Open vSwitch's decoder, as `ovs-ofctl ofp-parse` shows it.

use crate::{has, messages, skip};
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF11, OF12, OF13, OF14, OF15};
use openflow::{ErrorMsg, Message, MultipartReply, MultipartRequest, wire};
use std::io::Write;
use std::process::{Command, Stdio};

/// What Open vSwitch has no decoder for.
fn unknown_there(version: u8, m: &Message) -> bool {
    use MultipartReply as A;
    use MultipartRequest as Q;
    match m {
        // It has no statistics trigger.
        m if version == OF15 && format!("{m:?}").contains("stat_trigger: Some") => true,
        Message::ControllerStatus(_) => true,
        Message::MultipartRequest(q) => {
            matches!(q, Q::FlowStats(_) | Q::ControllerStatus | Q::BundleFeatures)
        }
        Message::MultipartReply(a) => {
            matches!(
                a,
                A::FlowStats(_) | A::ControllerStatus(_) | A::BundleFeatures(_)
            ) || match a {
                // It has 1.3's form of them, in 1.5 too.
                A::MeterFeatures(_) => version >= OF15,
                // Of no tables it says nothing.
                A::TableFeatures(x) => x.is_empty(),
                A::TableDesc(x) => x.is_empty(),
                _ => false,
            }
        }
        // It has no asynchronous messages about controllers' connections and flows' statistics.
        Message::SetAsync(a) => a.given & 0xf000 != 0,
        _ => false,
    }
}

/// Errors about what messages mean, not how they are written: flow monitors that tell of no change,
/// or all of one's own; table features that contradict each other; indirect groups of many buckets;
/// tags taken from packets that have none.
const MEANING: [&str; 5] = [
    "OFPMOFC_BAD_FLAGS",
    "OFPTFFC_BAD_FEATURES",
    "OFPGMFC_INVALID_GROUP",
    "OFPBAC_MATCH_INCONSISTENT",
    "OFPBAC_BAD_TAG",
];

/// What it says of some messages.
fn parsed(bytes: Vec<u8>) -> String {
    let mut child = Command::new("ovs-ofctl")
        .args(["ofp-parse", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ovs-ofctl");
    let mut input = child.stdin.take().expect("a pipe");
    let feed = std::thread::spawn(move || input.write_all(&bytes));
    let out = child.wait_with_output().expect("ovs-ofctl ends");
    feed.join().expect("the thread ends").expect("all is read");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Every error of every version has the name there that it has here.
#[test]
fn errors_have_open_vswitchs_numbers_and_names() {
    if !has("ovs-ofctl") {
        return skip("errors_have_open_vswitchs_numbers_and_names", "ovs-ofctl");
    }
    for version in [OF10, OF11, OF12, OF13, OF14, OF15] {
        let mut bytes = Vec::new();
        let mut wanted = Vec::new();
        for kind in ErrorKind::ALL {
            let Some(numbers) = kind.numbers(version) else {
                continue;
            };
            let xid = wanted.len() as u32;
            let request = wire::encode(version, xid, &Message::BarrierRequest).expect("a barrier");
            let data = request.clone();
            let m = Message::Error(ErrorMsg { kind: *kind, data });
            bytes.extend(wire::encode(version, xid, &m).expect("an error"));
            // Where older versions have one number for two, the first name counts.
            wanted.push(ErrorKind::from_numbers(version, numbers).name());
        }
        let text = parsed(bytes);
        let said: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with("OFPT_ERROR"))
            .map(|l| l.rsplit(' ').next().expect("a word"))
            .collect();
        assert_eq!(said, wanted, "version {version}");
    }
}

#[test]
fn open_vswitch_decodes_our_messages() {
    if !has("ovs-ofctl") {
        return skip("open_vswitch_decodes_our_messages", "ovs-ofctl");
    }
    let mut wrong = Vec::new();
    for version in [OF10, OF11, OF12, OF13, OF14, OF15] {
        let mut all = messages(version, 400);
        for (xid, (m, bytes)) in all.iter_mut().enumerate() {
            let change = match m {
                // What is bundled has the transaction id of what bundles it.
                Message::BundleAdd(_, inner, _) => {
                    *inner = xid as u32;
                    true
                }
                // What is opaque to others is not to it.
                Message::PacketIn2(p) | Message::Resume(p) => p.continuation.take().is_some(),
                _ => false,
            };
            if change {
                *bytes = wire::encode(version, xid as u32, m).expect("as before");
            }
        }
        let known = all.iter().filter(|m| !unknown_there(version, &m.0));
        let text = parsed(known.flat_map(|m| m.1.to_vec()).collect());
        for (xid, (m, bytes)) in all.iter().enumerate() {
            if unknown_there(version, m) {
                continue;
            }
            let mark = format!("(xid={xid:#x}):");
            let Some(at) = text.find(&mark) else {
                wrong.push(format!("version {version}: nothing said of {m:?}"));
                continue;
            };
            // Up to the next message, each of which begins with its type.
            let next = |n: &usize| {
                let line = &text[n + 1..];
                ["OFPT_", "OFPST_", "NXT_", "NXST_", "ONFT_", "ONFST_"]
                    .iter()
                    .any(|t| line.starts_with(t))
            };
            let mut lines = text[at..].match_indices('\n').map(|(n, _)| at + n);
            let said = &text[at..lines.find(next).unwrap_or(text.len())];
            if MEANING.iter().any(|e| said.contains(e)) {
                continue;
            }
            if said.contains("decode error") || said.contains("parse error") {
                let said: String = said.chars().take(300).collect();
                wrong.push(format!("version {version}: {said}\n{m:?}\n{bytes:02x?}\n"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} messages:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
