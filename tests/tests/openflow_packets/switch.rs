//! The two switches.

use super::case::{Case, PORTS};
use super::frames;
use super::mirrors::by_target;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::netns::Namespace;
use tests::ovs::OpenVswitch;
use tests::process::{Ran, output};
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait::PATIENCE;

/// The port that markers leave by.
const MARK: usize = 9;
/// Ethernet type of markers: local experiments (IEEE 802).
const MARK_TYPE: [u8; 2] = [0x88, 0xb5];
/// Differences after which there are enough of them.
const ENOUGH: usize = 100;

/// What left, by port; sorted, as packets of different flows may pass each other.
type Sent = BTreeMap<usize, Vec<Vec<u8>>>;

/// Whose it is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    OpenVswitch,
    Weir,
}

/// A switch with dummy ports.
pub struct Switch {
    kind: Kind,
    run_dir: PathBuf,
    control: UnixStream,
    captures: Vec<(usize, Capture)>,
    markers: u32,
    directory: TempDir,
}

impl Switch {
    /// Sets up a switch that runs in `run_dir`, with a bridge `br0`.
    fn new(kind: Kind, run_dir: &Path, namespace: Option<&Namespace>) -> Switch {
        let directory = tempfile::Builder::new()
            .prefix("of")
            .tempdir()
            .expect("temporary directory");
        let ports: Vec<usize> = (1..=PORTS).chain([MARK]).collect();
        let file = |n: usize| directory.path().join(format!("{n}.pcap"));
        let mut line = "--timeout=20 set Open_vSwitch . other_config:vlan-limit=0 other_config:stats-update-interval=1000 \
                        -- add-br br0 -- set bridge br0 datapath_type=dummy fail-mode=secure \
                        protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"
            .to_owned();
        for &n in &ports {
            let _ = write!(
                line,
                " -- add-port br0 p{n} -- set interface p{n} type=dummy ofport_request={n} options:tx_pcap={}",
                file(n).display()
            );
        }
        let mut c = Tools::Stock.command("ovs-vsctl", run_dir, namespace);
        c.args(line.split_whitespace());
        output(c).ok();
        let pid = std::fs::read_to_string(run_dir.join("ovs-vswitchd.pid")).expect("its pid");
        let control = run_dir.join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
        let control = UnixStream::connect(control).expect("its control socket");
        control
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out");
        Switch {
            kind,
            run_dir: run_dir.to_owned(),
            control,
            captures: ports
                .into_iter()
                .map(|n| (n, Capture::open(&file(n))))
                .collect(),
            markers: 0,
            directory,
        }
    }

    /// A command of its control socket.
    fn appctl(&mut self, method: &str, params: &[String]) -> Result<String, String> {
        let request = serde_json::json!({"id": 0, "method": method, "params": params});
        self.control
            .write_all(request.to_string().as_bytes())
            .expect("its control socket");
        let mut answers =
            serde_json::Deserializer::from_reader(&self.control).into_iter::<serde_json::Value>();
        let answer = answers.next().expect("an answer").expect("JSON");
        match &answer["error"] {
            serde_json::Value::Null => Ok(answer["result"].as_str().unwrap_or("").to_owned()),
            e => Err(e.to_string()),
        }
    }

    fn ofctl(&self, version: u8, words: &[&str]) -> Ran {
        let mut c = Command::new("ovs-ofctl");
        c.env("OVS_RUNDIR", &self.run_dir)
            .arg(format!("-OOpenFlow{version}"))
            .args(words);
        output(c)
    }

    /// What mirrors count, by target, when it has been written to the database.
    fn mirrors(&mut self) -> BTreeMap<String, (u64, u64)> {
        self.forget();
        if self.kind == Kind::OpenVswitch {
            // It writes them down every five seconds of its own.
            let warp = ["5500".to_owned()];
            self.appctl("time/warp", &warp).expect("a clock");
        }
        let mut c = Command::new("ovs-vsctl");
        c.env("OVS_RUNDIR", &self.run_dir)
            .args("--format=csv --no-headings --columns=name,statistics list mirror".split(' '));
        by_target(&output(c).ok())
    }

    /// Replaces all flows and groups; what the tool said if it failed.
    fn load(&mut self, case: &Case) -> Result<(), String> {
        let path = self.directory.path().join("lines");
        let run = |lines: &[String], words: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").expect("a file of lines");
            let mut words = words.to_vec();
            let name = path.display().to_string();
            words.push(&name);
            match self.ofctl(case.version, &words) {
                Ran { code: 0, .. } => Ok(()),
                ran => Err(ran.stderr),
            }
        };
        let mark = format!(
            "table=0,priority=65535,dl_type=0x{:02x}{:02x},actions=output:{MARK}",
            MARK_TYPE[0], MARK_TYPE[1]
        );
        let mut flows = vec!["delete".to_owned()];
        if !case.groups.is_empty() {
            // The flows of the case before may use its groups.
            run(&flows, &["add-flows", "br0"])?;
            self.ofctl(case.version, &["del-groups", "br0"]).ok();
            run(&case.groups, &["add-groups", "br0"])?;
        }
        if !case.settings.is_empty() {
            let mut c = Command::new("ovs-vsctl");
            c.env("OVS_RUNDIR", &self.run_dir)
                .arg("--timeout=20")
                .args(&case.settings);
            let Ran { code, stderr, .. } = output(c);
            if code != 0 {
                return Err(stderr);
            }
        }
        flows.push(format!("add {mark}"));
        flows.extend(case.flows.iter().map(|f| format!("add {f}")));
        run(&flows, &["add-flows", "br0"])?;
        self.appctl("fdb/flush", &[])?;
        self.forget();
        Ok(())
    }

    /// Frames come in by a port; what left.
    fn send(&mut self, port: usize, frames: &[&[u8]]) -> Sent {
        self.receive(port, frames);
        // The first marker leaves in one batch with the packets before it, perhaps before them; when the second does, that
        // batch is done with.
        let mut sent = Sent::new();
        for _ in 0..2 {
            self.markers += 1;
            let mut marker = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, port as u8];
            marker.extend(MARK_TYPE);
            marker.extend(self.markers.to_be_bytes());
            marker.resize(60, 0);
            self.receive(port, &[&marker]);
            let end = Instant::now() + PATIENCE;
            while !self.collect(&mut sent).contains(&marker) {
                assert!(
                    Instant::now() < end,
                    "a marker is not seen again: {:?}",
                    self.run_dir
                );
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.collect(&mut sent);
        for frames in sent.values_mut() {
            frames.sort();
        }
        sent
    }

    /// The addresses it has learned: port, VLAN and address, sorted.
    fn learned(&mut self) -> Vec<String> {
        let table = self.appctl("fdb/show", &["br0".to_owned()]);
        let mut lines: Vec<String> = table
            .expect("its addresses")
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        lines
    }

    /// Open vSwitch notices changes in its own time, unless told. weir does with the next packet.
    fn forget(&mut self) {
        if self.kind == Kind::OpenVswitch {
            self.appctl("revalidator/purge", &[]).expect("revalidators");
        }
    }

    fn receive(&mut self, port: usize, frames: &[&[u8]]) {
        let mut params = vec![format!("p{port}")];
        params.extend(frames.iter().map(|f| hex(f)));
        self.appctl("netdev-dummy/receive", &params)
            .unwrap_or_else(|e| panic!("{:?}: {e}", self.run_dir));
    }

    /// Takes what was captured since, and says which markers were among it.
    fn collect(&mut self, sent: &mut Sent) -> Vec<Vec<u8>> {
        let mut markers = vec![];
        for (n, capture) in &mut self.captures {
            let (marks, rest): (Vec<_>, Vec<_>) =
                capture.take().into_iter().partition(|f| is_marker(f));
            markers.extend(marks);
            if !rest.is_empty() {
                sent.entry(*n).or_default().extend(rest);
            }
        }
        markers
    }
}

/// Whether it is a marker, perhaps a mirror's copy with another tag.
fn is_marker(frame: &[u8]) -> bool {
    let untagged = frame.get(12..14) == Some(&MARK_TYPE);
    untagged || frame.get(12..14) == Some(&[0x81, 0]) && frame.get(16..18) == Some(&MARK_TYPE)
}

/// A capture file that grows.
struct Capture {
    file: File,
    /// Read, and not yet a whole record.
    rest: Vec<u8>,
}

impl Capture {
    fn open(path: &Path) -> Capture {
        let mut file = tests::wait::for_value("a capture file", || {
            std::fs::metadata(path)
                .is_ok_and(|m| m.len() >= 24)
                .then(|| File::open(path).ok())
                .flatten()
        });
        file.read_exact(&mut [0; 24]).expect("the file's header");
        Capture { file, rest: vec![] }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.file.read_to_end(&mut self.rest).expect("a capture");
        let mut frames = vec![];
        let mut at = 0;
        while let Some(header) = self.rest.get(at..at + 16) {
            let len = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")) as usize;
            let Some(frame) = self.rest.get(at + 16..at + 16 + len) else {
                break;
            };
            frames.push(frame.to_vec());
            at += 16 + len;
        }
        self.rest.drain(..at);
        frames
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Open vSwitch and weir, side by side.
pub struct Pair {
    ovs: Switch,
    weir: Switch,
    compared: usize,
    packets: usize,
    left: usize,
    refused: usize,
    differences: Vec<String>,
    // Ended last.
    _ovs: OpenVswitch,
    _weir: Weir,
}

impl Pair {
    /// Starts both.
    pub fn start() -> Pair {
        let ovs = OpenVswitch::start_with(&["--enable-dummy=override", "--disable-system"]);
        let weir = Weir::start(&["--enable-dummy", "--no-controller"]);
        Pair {
            ovs: Switch::new(Kind::OpenVswitch, &ovs.run_dir, Some(&ovs.namespace)),
            weir: Switch::new(Kind::Weir, &weir.run_dir, weir.namespace.as_ref()),
            compared: 0,
            packets: 0,
            left: 0,
            refused: 0,
            differences: vec![],
            _ovs: ovs,
            _weir: weir,
        }
    }

    /// Sends a case through both, and remembers what differs.
    pub fn compare(&mut self, case: &Case) {
        if self.differences.len() >= ENOUGH {
            return;
        }
        self.compared += 1;
        let loaded = std::thread::scope(|s| {
            let ovs = s.spawn(|| self.ovs.load(case));
            let weir = self.weir.load(case);
            (ovs.join().expect("loading"), weir)
        });
        match loaded {
            (Ok(()), Ok(())) => {}
            (Err(ovs), Err(_)) => {
                self.refused += 1;
                eprintln!(
                    "{}: refused by both: {}",
                    case.name,
                    ovs.lines().next().unwrap_or("")
                );
                return;
            }
            (ovs, weir) => {
                return self.differ(
                    case,
                    format!("Open vSwitch says {ovs:?}\nweir says {weir:?}"),
                );
            }
        }
        if !case.settings.is_empty() {
            return self.compare_in_order(case);
        }
        for port in 1..=PORTS {
            let frames: Vec<&[u8]> = case
                .packets
                .iter()
                .filter(|(p, _)| *p == port)
                .map(|(_, f)| &f[..])
                .collect();
            if frames.is_empty() {
                continue;
            }
            self.packets += frames.len();
            // Who learns does something else with the next packet; and where Open vSwitch sets a field of a label, the other
            // fields become those of the packet that made the megaflow. So one by one.
            // So do those behind a second tag, which its megaflows do not look at.
            let alone = case.flows.iter().chain(&case.groups).any(|line| {
                let words = [
                    "normal",
                    "learn(",
                    "->mpls_",
                    "dec_mpls_ttl",
                    "set_mpls_ttl",
                ];
                words.iter().any(|w| line.contains(w))
            });
            let alone = alone || frames.iter().any(|f| frames::has_two_tags(f));
            let differs = frames
                .chunks(if alone { 1 } else { frames.len() })
                .any(|some| {
                    if alone {
                        self.ovs.forget();
                    }
                    let (ovs, weir) = self.both(port, some);
                    self.left += ovs.values().map(Vec::len).sum::<usize>();
                    ovs != weir
                });
            if differs {
                let mut all = format!("sent together by port {port}\n");
                for f in &frames {
                    let (ovs, weir) = self.both(port, &[f]);
                    if ovs != weir {
                        let _ = write!(
                            all,
                            "in by {port}      {}\nOpen vSwitch: {}\nweir:         {}\n",
                            hex(f),
                            show(&ovs),
                            show(&weir)
                        );
                    }
                }
                return self.differ(case, all);
            }
        }
    }

    /// Commands of the control socket: both answer in the same words. `> PORT SOURCE` is a frame to everybody.
    pub fn compare_commands(&mut self, lines: &str) {
        let case = Case {
            version: 13,
            flows: vec!["actions=normal".to_owned()],
            ..Case::default()
        };
        for switch in [&mut self.ovs, &mut self.weir] {
            switch.load(&case).expect("the flow");
        }
        for line in lines.lines() {
            if let Some((port, source)) = line.strip_prefix("> ").and_then(|l| l.split_once(' ')) {
                let frame = format!(
                    "ffffffffffff{}88b6{}",
                    source.replace(':', ""),
                    "00".repeat(46)
                );
                for switch in [&mut self.ovs, &mut self.weir] {
                    let params = [format!("p{port}"), frame.clone()];
                    let taken = switch.appctl("netdev-dummy/receive", &params);
                    taken.expect("the frame");
                }
                continue;
            }
            let mut words = line.split_whitespace().map(str::to_owned);
            let method = words.next().expect("a command");
            let params: Vec<String> = words.collect();
            // What a frame taught is known in its own time; nothing else needs any.
            let end = Instant::now() + PATIENCE;
            loop {
                let ovs = self.ovs.appctl(&method, &params);
                let weir = self.weir.appctl(&method, &params);
                if ovs == weir {
                    break;
                }
                let shows = method.contains("show");
                assert!(
                    shows && Instant::now() < end,
                    "{line}\nOpen vSwitch: {ovs:?}\nweir: {weir:?}"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Packets one after the other, and the addresses learned from them.
    fn compare_in_order(&mut self, case: &Case) {
        let mut all = String::new();
        self.packets += case.packets.len();
        for (port, frame) in &case.packets {
            // Its megaflows do not look at all tags that it decides by.
            self.ovs.forget();
            let (ovs, weir) = self.both(*port, &[frame]);
            self.left += ovs.values().map(Vec::len).sum::<usize>();
            if ovs != weir {
                let _ = write!(
                    all,
                    "in by {port}      {}\nOpen vSwitch: {}\nweir:         {}\n",
                    hex(frame),
                    show(&ovs),
                    show(&weir)
                );
            }
        }
        let (ovs, weir) = (self.ovs.learned(), self.weir.learned());
        if ovs != weir {
            let _ = writeln!(all, "Open vSwitch learned {ovs:?}\nweir learned {weir:?}");
        }
        if !all.is_empty() {
            self.differ(case, all);
        }
    }

    /// Compares what mirrors count.
    pub fn compare_mirrors(&mut self, case: &Case) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (ovs, weir) = (self.ovs.mirrors(), self.weir.mirrors());
            if ovs == weir {
                return;
            }
            if Instant::now() > end {
                return self.differ(
                    case,
                    format!("Open vSwitch counts {ovs:?}\nweir counts {weir:?}"),
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn both(&mut self, port: usize, frames: &[&[u8]]) -> (Sent, Sent) {
        std::thread::scope(|s| {
            let ovs = s.spawn(|| self.ovs.send(port, frames));
            let weir = self.weir.send(port, frames);
            (ovs.join().expect("sending"), weir)
        })
    }

    fn differ(&mut self, case: &Case, how: String) {
        self.differences.push(format!(
            "== {}\n{}\n{}\n{}\n{how}",
            case.name,
            case.settings.join(" ").replace(" -- ", "\n"),
            case.groups.join("\n"),
            case.flows.join("\n")
        ));
    }

    /// Panics if anything differed.
    pub fn finish(self) {
        eprintln!(
            "{} cases, {} packets in, {} out; {} cases refused by both; {} differ",
            self.compared,
            self.packets,
            self.left,
            self.refused,
            self.differences.len()
        );
        assert!(
            self.differences.is_empty(),
            "{}",
            self.differences.join("\n")
        );
        // One case may well be of drops only.
        assert!(self.compared == 1 || self.left > 0, "nothing left at all");
        assert!(
            self.refused * 10 <= self.compared,
            "too many cases are refused"
        );
    }
}

fn show(sent: &Sent) -> String {
    let list: Vec<String> = sent
        .iter()
        .flat_map(|(port, frames)| frames.iter().map(move |f| format!("{port}: {}", hex(f))))
        .collect();
    list.join("\n              ")
}
