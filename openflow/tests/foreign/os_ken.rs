//! os-ken as a decoder, and as an encoder of what it decoded.

use crate::{messages, skip};
use openflow::Message;
use openflow::wire::{self, OF10, OF12, OF13, OF14, OF15};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The Python of the environment that `tests/run` makes.
fn python() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let here = target.join("peers/os-ken");
    here.join("ready").exists().then(|| here.join("bin/python"))
}

/// A controller's messages as os-ken builds them are decoded, and encoded to the same bytes.
#[test]
fn we_decode_what_os_ken_builds() {
    let Some(python) = python() else {
        return skip("we_decode_what_os_ken_builds", "os-ken (made by tests/run)");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/build.py");
    let out = Command::new(python)
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&out.stdout);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in text.lines() {
        let mut words = line.split(' ');
        let (version, name) = (words.next().expect("a version"), words.next());
        let theirs = unhex(words.next().expect("bytes"));
        let version: u8 = version.parse().expect("a number");
        count += 1;
        match wire::decode(&theirs) {
            Err(e) => wrong.push(format!("{line}\n{e}")),
            Ok(d) => {
                let ours = wire::encode(version, d.xid, &d.message).expect("what was decoded");
                let name = name.expect("a name");
                if ours != theirs && !varies(version, name) {
                    let ours = hex(&ours);
                    wrong.push(format!("{line}\n{ours}\n{:?}", d.message));
                }
            }
        }
    }
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(count > 130, "only {count} messages: {err}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Messages with more than one right form: a hello's bitmap; in 1.0's match, addresses that are not
/// looked at, of which 32 to 63 low bits are left out.
fn varies(version: u8, name: &str) -> bool {
    name == "OFPHello" || version == OF10 && ["OFPFlowMod", "OFPFlowStatsRequest"].contains(&name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

/// What os-ken gets wrong. Before 1.3 it encodes the names of OXM fields without their lengths and
/// Nicira's resubmit as zeros; in 1.5's buckets it takes neither Nicira's actions nor copy_field with
/// Nicira's names, nor the group property of the selection method; and it has no resumed monitors.
fn spoiled_there(version: u8, m: &Message) -> bool {
    let text = format!("{m:?}");
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    match m {
        _ if version < OF13 => has(&["Load {", "Resubmit {"]),
        Message::GroupMod(_) => version == OF15 && has(&["Move {", "Resubmit {", "\"hash\""]),
        _ => has(&["Resumed"]),
    }
}

#[test]
fn os_ken_decodes_our_messages_and_we_decode_its() {
    let Some(python) = python() else {
        return skip(
            "os_ken_decodes_our_messages_and_we_decode_its",
            "os-ken (made by tests/run)",
        );
    };
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/foreign/decode_and_encode.py"
    );
    let mut wrong = Vec::new();
    // It has no OpenFlow 1.1.
    for version in [OF10, OF12, OF13, OF14, OF15] {
        let all = messages(version, 300);
        let mut child = Command::new(&python)
            .arg(script)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let lines: String = all
            .iter()
            .map(|(_, b)| format!("{version} {}\n", hex(b)))
            .collect();
        let mut input = child.stdin.take().expect("a pipe");
        let feed = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let out = child.wait_with_output().expect("Python ends");
        feed.join().expect("the thread ends").expect("all is read");
        let text = String::from_utf8_lossy(&out.stdout);
        let answers: Vec<&str> = text.lines().collect();
        assert_eq!(answers.len(), all.len(), "an answer a message");
        let mut encoded = 0;
        for ((m, ours), answer) in all.iter().zip(answers) {
            let why = match answer.split_once(' ') {
                Some(_) if spoiled_there(version, m) => continue,
                Some(("encoded", theirs)) => {
                    encoded += 1;
                    match wire::decode(&unhex(theirs)) {
                        Ok(d) if d.message == *m => continue,
                        Ok(d) => format!("it makes of it {:?}", d.message),
                        Err(e) => format!("we do not decode {theirs}: {e}"),
                    }
                }
                // A controller's library has no decoder for what only controllers send.
                Some(("error", why)) if why.contains("NoneType") => continue,
                // 1.0 has no greatest rate of a queue, which Open vSwitch tells all the same.
                Some(("error", "KeyError(2)")) => continue,
                Some(("error", why)) => why.to_owned(),
                _ => continue,
            };
            wrong.push(format!("version {version}: {why}\n{m:?}\n{}", hex(ours)));
        }
        assert!(encoded > 40, "version {version}: only {encoded} encoded");
    }
    assert!(
        wrong.is_empty(),
        "{} messages:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
