//! Captures on an interface, and what Wireshark says of them.

use crate::netns::Namespace;
use crate::process::{Daemon, run};
use crate::wait;
use std::path::{Path, PathBuf};

/// A running `tcpdump -w`.
pub struct Capture {
    daemon: Daemon,
    file: PathBuf,
}

impl Capture {
    /// Captures what passes `device` and a filter expression, into `directory`.
    pub fn start(namespace: &Namespace, device: &str, filter: &str, directory: &Path) -> Capture {
        let file = directory.join(format!("{}.pcap", crate::netns::unique()));
        let mut c = namespace.command("tcpdump");
        c.args(["-i", device, "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&file)
            .arg(filter);
        let daemon = Daemon::spawn(c, &file.with_extension("log"));
        wait::until("tcpdump to listen", || {
            daemon.output().contains("listening on")
        });
        Capture { daemon, file }
    }

    /// Waits for as many packets as `tcpdump -r` prints lines with `word`, then ends the capture; the file.
    pub fn stop_after(mut self, packets: usize, word: &str) -> PathBuf {
        let file = self.file.clone();
        wait::until(&format!("{packets} packets with {word}"), || {
            printed(&file).matches(word).count() >= packets
        });
        self.daemon.terminate();
        self.file.clone()
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let mut rest = bytes.get(24..).unwrap_or_default();
        let mut frames = vec![];
        while let Some(header) = rest.get(..16) {
            let len = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")) as usize;
            let Some(frame) = rest.get(16..16 + len) else {
                break;
            };
            frames.push(frame.to_vec());
            rest = &rest[16 + len..];
        }
        frames
    }

    /// The same in order of their bytes: of devices that see frames of several senders, each in its own order.
    pub fn sorted(&self) -> Vec<Vec<u8>> {
        let mut frames = self.frames();
        frames.sort();
        frames
    }

    /// Ends the capture; the file.
    pub fn stop(mut self) -> PathBuf {
        self.daemon.terminate();
        self.file.clone()
    }
}

/// A capture as `tcpdump` prints it.
pub fn printed(file: &Path) -> String {
    run("tcpdump", ["-n", "-v", "-r", &file.to_string_lossy()]).stdout
}

/// Some fields of each packet of a capture that a display filter lets through, as `tshark` names them.
pub fn fields(file: &Path, filter: &str, names: &[&str]) -> Vec<String> {
    let mut words = vec!["-r".to_owned(), file.to_string_lossy().into_owned()];
    words.extend(["-Y", filter, "-T", "fields", "-E", "separator=,"].map(str::to_owned));
    for name in names {
        words.extend(["-e".to_owned(), (*name).to_owned()]);
    }
    let ran = run("tshark", words);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.lines().map(str::to_owned).collect()
}

/// The bytes of each packet of a capture that a display filter lets through.
pub fn bytes(file: &Path, filter: &str) -> Vec<Vec<u8>> {
    let ran = run(
        "tshark",
        [
            "-r",
            &file.to_string_lossy(),
            "-Y",
            filter,
            "-T",
            "json",
            "-x",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let packets: serde_json::Value = serde_json::from_str(&ran.stdout).expect("tshark's JSON");
    let packets = packets.as_array().expect("a list");
    packets
        .iter()
        .map(|p| {
            let hex = p["_source"]["layers"]["frame_raw"][0]
                .as_str()
                .expect("bytes");
            let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
            digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect()
        })
        .collect()
}

/// Checks that `tshark` finds each packet well formed and its checksums right, and has nothing to warn of.
#[track_caller]
pub fn assert_well_formed(file: &Path) {
    let ran = run(
        "tshark",
        [
            "-r",
            &file.to_string_lossy(),
            "-V",
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for complaint in [
        "Malformed",
        "Expert Info (Error",
        "Expert Info (Warning",
        "[Checksum Status: Bad]",
        "[Header checksum status: Bad]",
    ] {
        if let Some(at) = ran.stdout.find(complaint) {
            let begin = ran.stdout[..at].rfind("\nFrame ").unwrap_or(0);
            panic!(
                "tshark complains: {complaint}\n{}",
                &ran.stdout[begin..(at + 200).min(ran.stdout.len())]
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture of one IPv4 packet, with a checksum.
    fn capture(checksum: u16) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("one.pcap");
        // Ethernet; protocol 253 is for experiments.
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253]);
        frame.extend(checksum.to_be_bytes());
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let mut bytes = Vec::new();
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&frame);
        std::fs::write(&file, bytes).expect("capture");
        (directory, file)
    }

    #[test]
    fn a_wrong_checksum_is_complained_of_and_a_right_one_is_not() {
        crate::need!(Tshark);
        let right = !(0x4500u32 + 20 + 0x40fd + 0x0a00 + 1 + 0x0a00 + 2) as u16;
        assert_well_formed(&capture(right).1);
        let wrong = std::panic::catch_unwind(|| assert_well_formed(&capture(right ^ 1).1));
        assert!(wrong.is_err(), "a wrong checksum went unnoticed");
    }

    #[test]
    fn bytes_and_fields_are_those_of_the_packet() {
        crate::need!(Tshark);
        let (_directory, file) = capture(0);
        let packets = bytes(&file, "ip");
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0][26..34], [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(fields(&file, "ip", &["ip.src", "ip.ttl"]), ["10.0.0.1,64"]);
        assert!(bytes(&file, "udp").is_empty());
    }
}
