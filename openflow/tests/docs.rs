//! `docs/openflow.md` and the code say the same: every row is true, and nothing is without a row.
//!
//! Types of messages, multiparts, actions and instructions are found out by asking the decoder: what it does not know, it
//! refuses by name. Fields and errors are compared with their tables.

use openflow::error::{ErrorKind, ErrorNumbers};
use openflow::field::{FIELDS, OxmCode};
use openflow::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// OpenFlow versions as the table's columns call them.
const VERSIONS: [&str; 6] = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
}

/// A row of a table by the names of its columns.
type Row = BTreeMap<String, String>;

/// The rows of the section of that title.
fn section(title: &str) -> Vec<Row> {
    let path = root().join("docs/openflow.md");
    let text = std::fs::read_to_string(&path).expect("docs/openflow.md");
    let mut lines = text
        .lines()
        .skip_while(|l| *l != format!("## {title}"))
        .skip(1)
        .take_while(|l| !l.starts_with("## "))
        .filter(|l| l.starts_with('|'));
    let cells = |l: &str| -> Vec<String> {
        let inner = l.trim().trim_matches('|');
        inner
            .split('|')
            .map(|c| c.trim().trim_matches('`').to_owned())
            .collect()
    };
    let head = cells(
        lines
            .next()
            .unwrap_or_else(|| panic!("no table in {title}")),
    );
    let rows: Vec<Row> = lines
        .skip(1)
        .map(|l| {
            let row = cells(l);
            assert_eq!(row.len(), head.len(), "{title}: {l}");
            head.iter().cloned().zip(row).collect()
        })
        .collect();
    let mut names = BTreeSet::new();
    for r in &rows {
        assert!(names.insert(&r["Name"]), "{title}: {} twice", r["Name"]);
    }
    rows
}

/// The numbers that a section gives for each version, by number.
fn documented(title: &str) -> BTreeMap<(u8, u32), String> {
    let mut all = BTreeMap::new();
    for r in section(title) {
        for (i, v) in VERSIONS.iter().enumerate() {
            if r[*v] != "–" {
                let n = r[*v]
                    .parse()
                    .unwrap_or_else(|_| panic!("{title}: {}: {}", r["Name"], r[*v]));
                let old = all.insert((i as u8 + 1, n), r["Name"].clone());
                assert!(old.is_none(), "{title}: {v} {n} twice");
            }
        }
    }
    all
}

/// What decoding bytes came to, if it was refused.
fn refusal(bytes: &[u8]) -> Option<ErrorKind> {
    wire::decode(bytes).err().map(|e| e.kind)
}

fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut m = vec![version, kind, 0, 0, 0, 0, 0, 1];
    m.extend(body);
    let len = (m.len() as u16).to_be_bytes();
    m[2..4].copy_from_slice(&len);
    m
}

/// Compares a section with what the decoder knows of `numbers`, in the versions there are.
fn compare(
    title: &str,
    numbers: impl Iterator<Item = u32> + Clone,
    known: impl Fn(u8, u32) -> bool,
) {
    let table = documented(title);
    let mut wrong = Vec::new();
    for &v in wire::SUPPORTED {
        for n in numbers.clone() {
            let name = table.get(&(v, n));
            match (known(v, n), name) {
                (true, None) => wrong.push(format!("{} {n} has no row", VERSIONS[v as usize - 1])),
                (false, Some(name)) => wrong.push(format!(
                    "{} {n} ({name}) is not known to the decoder",
                    VERSIONS[v as usize - 1]
                )),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

#[test]
fn messages_are_those_of_the_table() {
    compare("Messages", 0..64, |v, n| {
        refusal(&message(v, n as u8, &[])) != Some(ErrorKind::BadType)
    });
}

/// The type of multipart requests of a version.
fn multipart_type(v: u8) -> u8 {
    if v == 1 { 16 } else { 18 }
}

fn multipart(v: u8, n: u32, body: &[u8]) -> Vec<u8> {
    let mut b = (n as u16).to_be_bytes().to_vec();
    b.extend([0, 0]);
    if v > 1 {
        b.extend([0; 4]);
    }
    b.extend(body);
    message(v, multipart_type(v), &b)
}

#[test]
fn multipart_types_are_those_of_the_table() {
    compare("Multipart types", (0..64).chain([0xffff]), |v, n| {
        refusal(&multipart(v, n, &[])) != Some(ErrorKind::BadMultipart)
    });
}

/// A packet-out with these actions.
fn packet_out(v: u8, actions: &[u8]) -> Vec<u8> {
    let len = (actions.len() as u16).to_be_bytes();
    let mut b = vec![0xff; 4];
    match v {
        1 => b.extend([0xff, 0xff]),
        2..=5 => b.extend([0xff; 4]),
        // 1.5 has the port in a match.
        _ => {}
    }
    b.extend(len);
    match v {
        1 => {}
        2..=5 => b.extend([0; 6]),
        _ => {
            b.extend([0, 0, 0, 1, 0, 12, 0x80, 0, 0, 4]);
            b.extend(openflow::PortNo::CONTROLLER.0.to_be_bytes());
            b.extend([0; 4]);
        }
    }
    b.extend(actions);
    b.extend([0; 14]);
    message(v, 13, &b)
}

/// Whether an action of this header is known, whatever of its body is wrong.
fn action_known(v: u8, header: &[u8], unknown: &[ErrorKind]) -> bool {
    // Lengths are looked at first; one of these is right, or too short for what is known.
    [8usize, 16, 24, 32, 40].iter().all(|len| {
        let mut a = header.to_vec();
        a.resize((*len).max(header.len()), 0);
        let len = (a.len() as u16).to_be_bytes();
        a[2..4].copy_from_slice(&len);
        refusal(&packet_out(v, &a)).is_none_or(|e| !unknown.contains(&e))
    })
}

#[test]
fn actions_are_those_of_the_table() {
    compare("Actions", 0..64, |v, n| {
        let t = (n as u16).to_be_bytes();
        action_known(v, &[t[0], t[1], 0, 0], &[ErrorKind::BadActionType])
    });
}

#[test]
fn actions_of_nicira_are_those_of_the_table() {
    compare("Nicira's actions", 0..64, |v, n| {
        let t = (n as u16).to_be_bytes();
        let header = [0xff, 0xff, 0, 0, 0, 0, 0x23, 0x20, t[0], t[1]];
        let unknown = [
            ErrorKind::BadActionType,
            ErrorKind::BadActionExpType,
            ErrorKind::BadActionExperimenter,
        ];
        action_known(v, &header, &unknown)
    });
}

#[test]
fn instructions_are_those_of_the_table() {
    compare("Instructions", 0..64, |v, n| {
        if v == 1 {
            return false;
        }
        let t = (n as u16).to_be_bytes();
        [8usize, 16, 24].iter().all(|len| {
            let mut b = vec![0; 40];
            // Everything, and an empty match.
            b[28..36].fill(0xff);
            b.extend([0, 1, 0, 4, 0, 0, 0, 0]);
            if v == 2 {
                // The fixed match of 1.1.
                b.truncate(40);
                b.extend([0, 0, 0, 88]);
                b.resize(40 + 88, 0);
            }
            let mut i = vec![t[0], t[1], 0, *len as u8];
            i.resize(*len, 0);
            b.extend(i);
            refusal(&message(v, 14, &b)) != Some(ErrorKind::UnknownInst)
        })
    });
}

#[test]
fn messages_of_nicira_are_those_of_the_table() {
    compare("Nicira's messages", 0..64, |v, n| {
        let mut b = 0x2320u32.to_be_bytes().to_vec();
        b.extend(n.to_be_bytes());
        let unknown = [
            ErrorKind::BadExpType,
            ErrorKind::BadExperimenter,
            ErrorKind::BadType,
        ];
        refusal(&message(v, 4, &b)).is_none_or(|e| !unknown.contains(&e))
    });
}

fn oxm(code: Option<OxmCode>) -> String {
    code.map_or_else(
        || "–".into(),
        |c| match c.experimenter {
            0 => format!("{:#06x}/{}", c.class, c.field),
            who => format!("{:#06x}/{} {who:#010x}", c.class, c.field),
        },
    )
}

#[test]
fn fields_are_those_of_the_table() {
    let rows = section("Fields");
    let mut wrong = Vec::new();
    for f in FIELDS {
        let since = VERSIONS[usize::from(f.since) - 1];
        let want = [
            ("Bits", f.bits.to_string()),
            ("NXM", oxm(f.nxm)),
            ("OXM", oxm(f.oxm)),
            ("Since", since.to_owned()),
            ("Written", if f.writable { "yes" } else { "no" }.to_owned()),
        ];
        match rows.iter().find(|r| r["Name"] == f.name) {
            None => wrong.push(format!("{} has no row", f.name)),
            Some(r) => {
                for (column, want) in want {
                    if r[column] != want {
                        wrong.push(format!("{}: {column} is {want}, not {}", f.name, r[column]));
                    }
                }
            }
        }
    }
    for r in &rows {
        if !FIELDS.iter().any(|f| f.name == r["Name"]) {
            wrong.push(format!("{} is no field", r["Name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn numbers(n: Option<ErrorNumbers>) -> String {
    match n {
        None => "–".to_owned(),
        Some(n) => {
            let who = match n.experimenter {
                None => "",
                Some(0x2320) => "nx ",
                Some(_) => "onf ",
            };
            format!("{who}{}/{}", n.r#type, n.code)
        }
    }
}

#[test]
fn errors_are_those_of_the_table() {
    let rows = section("Errors");
    let mut wrong = Vec::new();
    for k in ErrorKind::ALL {
        let Some(r) = rows.iter().find(|r| r["Name"] == k.name()) else {
            wrong.push(format!("{} has no row", k.name()));
            continue;
        };
        for (i, v) in VERSIONS.iter().enumerate() {
            let want = numbers(k.numbers(i as u8 + 1));
            if r[*v] != want {
                wrong.push(format!("{} in {v} is {want}, not {}", k.name(), r[*v]));
            }
        }
    }
    for r in &rows {
        if !ErrorKind::ALL.iter().any(|k| k.name() == r["Name"]) {
            wrong.push(format!("{} is no error", r["Name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SECTIONS: [&str; 9] = [
    "Messages",
    "Multipart types",
    "Instructions",
    "Actions",
    "Nicira's actions",
    "Nicira's messages",
    "Other extensions",
    "Fields",
    "Errors",
];

#[test]
fn every_row_names_a_test_that_exists() {
    let mut files = BTreeMap::new();
    let mut wrong = Vec::new();
    for title in SECTIONS {
        for r in section(title) {
            let test = &r["Test"];
            for one in test
                .split(' ')
                .map(|t| t.trim_matches(['`', ',']).to_owned())
            {
                let Some((file, name)) = one.split_once("::") else {
                    wrong.push(format!(
                        "{title}: {}: \"{one}\" is no file::test",
                        r["Name"]
                    ));
                    continue;
                };
                let text: &mut String = files.entry(file.to_owned()).or_insert_with(|| {
                    std::fs::read_to_string(root().join(file)).unwrap_or_default()
                });
                if !text.contains(&format!("fn {name}(")) {
                    wrong.push(format!("{title}: {}: there is no {one}", r["Name"]));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is refused says by which error.
#[test]
fn every_state_is_one_of_three() {
    for title in SECTIONS {
        for r in section(title) {
            let state = &r["State"];
            let refused = state.strip_prefix("refused: ");
            if let Some(error) = refused {
                let name = error.split_whitespace().next().unwrap_or("");
                assert!(
                    ErrorKind::ALL.iter().any(|k| k.name() == name),
                    "{title}: {}: {error} is no error",
                    r["Name"]
                );
            }
            assert!(
                refused.is_some() || matches!(state.as_str(), "yes" | "read and written"),
                "{title}: {}: {state}",
                r["Name"]
            );
        }
    }
}
