//! Flows and packets.

use super::frames;
use std::path::{Path, PathBuf};

/// Ports that packets come in by and leave by: 1 to this.
pub const PORTS: usize = 4;

/// Flows, and packets to send through them.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// For people.
    pub name: String,
    /// `-O` of `ovs-ofctl`, as a number: 10 or more.
    pub version: u8,
    /// Words for `ovs-vsctl`. With these, packets are sent one after the other as they are listed, and what was learned is
    /// compared at the end.
    pub settings: Vec<String>,
    /// Lines for `ovs-ofctl add-groups`.
    pub groups: Vec<String>,
    /// Lines for `ovs-ofctl add-flows`.
    pub flows: Vec<String>,
    /// Port and frame.
    pub packets: Vec<(usize, Vec<u8>)>,
}

/// The files with written cases.
pub fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openflow_packets/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("cases")
        .map(|e| e.expect("a file").path())
        .collect();
    files.sort();
    files
}

/// Reads a file of cases. A case begins with `# NAME`; its lines are
///
/// * `group ...`: a group,
/// * `version N`: 10 for OpenFlow 1.0; else it is 13,
/// * `send PORT FRAME...`: packets by their names ([`frames::named`]),
/// * anything else: a flow.
pub fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("a file of cases");
    let mut cases: Vec<Case> = vec![];
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            let file = path.file_stem().unwrap_or_default().display();
            cases.push(Case {
                name: format!("{file}: {name}"),
                version: 13,
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().expect("a line `# NAME` first");
        if let Some(group) = line.strip_prefix("group ") {
            case.groups.push(group.to_owned());
        } else if let Some(version) = line.strip_prefix("version ") {
            case.version = version.parse().expect("a version");
        } else if let Some(send) = line.strip_prefix("send ") {
            let mut words = send.split_whitespace();
            let port = words.next().and_then(|p| p.parse().ok()).expect("a port");
            case.packets.extend(words.map(|w| (port, frames::named(w))));
        } else {
            case.flows.push(line.to_owned());
        }
    }
    cases
}
