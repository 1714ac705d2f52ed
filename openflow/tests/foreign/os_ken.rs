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

/// What os-ken decodes but encodes wrong, before 1.3: the names of OXM fields, without their lengths,
/// and Nicira's resubmit, as zeros.
fn spoiled_there(version: u8, m: &Message) -> bool {
    let text = format!("{m:?}");
    version < OF13 && (text.contains("Load {") || text.contains("Resubmit {"))
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
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
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
                Some(("encoded", _)) if spoiled_there(version, m) => continue,
                Some(("encoded", theirs)) => {
                    encoded += 1;
                    let bytes: Vec<u8> = (0..theirs.len() / 2)
                        .map(|i| u8::from_str_radix(&theirs[2 * i..2 * i + 2], 16).expect("hex"))
                        .collect();
                    match wire::decode(&bytes) {
                        Ok(d) if d.message == *m => continue,
                        Ok(d) => format!("it makes of it {:?}", d.message),
                        Err(e) => format!("we do not decode {theirs}: {e}"),
                    }
                }
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
