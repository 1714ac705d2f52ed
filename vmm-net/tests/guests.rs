//! Two built-in guests with a switch between them, as virtual machines and as processes: ring 3
//! drivers, shared memory, kicks and interrupts, console, and the switch's death and return.

#![cfg(target_arch = "x86_64")]

mod backend;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::{Side, Switch};
use vmm_net::{
    ConsoleReader, Exit, Guest, Kernel, MacAddr, NicConfig, ProcessGuest, VhostUserSocket, Vm,
    VmConfig,
};

const LONG: Duration = Duration::from_secs(30);

/// Whether virtual machines can be started; says so where not.
fn kvm() -> bool {
    match vmm_net::kvm_usable() {
        Ok(()) => true,
        Err(why) => {
            assert!(std::env::var_os("WEIR_NEED_KVM").is_none(), "{why}");
            eprintln!("SKIPPED: {why}");
            false
        }
    }
}

fn config(n: u8, socket: VhostUserSocket, args: &str) -> VmConfig {
    let args = format!("name=g{n} ip=10.0.0.{n} {args}");
    let mut config = VmConfig::new(format!("g{n}"), Kernel::BuiltinGuest { args })
        .nic(NicConfig::new(socket, MacAddr([0x52, 0x54, 0, 0, 0, n])));
    config.memory = 64 << 20;
    config
}

type Start = fn(&VmConfig) -> Box<dyn Guest>;

fn as_vm(config: &VmConfig) -> Box<dyn Guest> {
    Box::new(Vm::start(config).unwrap())
}

fn as_process(config: &VmConfig) -> Box<dyn Guest> {
    Box::new(ProcessGuest::start(config).unwrap())
}

/// Types a line.
fn say(guest: &dyn Guest, line: &str) {
    let text = format!("{line}\n");
    guest.console().write_input(text.as_bytes()).unwrap();
}

#[track_caller]
fn hear(reader: &mut ConsoleReader, word: &str) -> String {
    match reader.wait_for(&format!("weir-guest: {word}"), LONG) {
        Some(line) => line,
        None => {
            let mut all = reader.console().reader();
            let said: Vec<_> = std::iter::from_fn(|| all.line(std::time::Instant::now())).collect();
            panic!(
                "the guest did not report \"{word}\" but:\n{}",
                said.join("\n")
            )
        }
    }
}

fn value(line: &str, key: &str) -> u64 {
    let word = line
        .split_ascii_whitespace()
        .find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    word.and_then(|w| w.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {line}"))
}

struct Pair {
    _dir: tempfile::TempDir,
    paths: [PathBuf; 2],
    guests: [Box<dyn Guest>; 2],
    readers: [ConsoleReader; 2],
}

impl Pair {
    fn start(start: Start, args: &str) -> (Pair, Switch) {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("b")];
        let listen = |p: &Path| VhostUserSocket::Listen(p.into());
        let guests = [
            start(&config(1, listen(&paths[0]), args)),
            start(&config(2, listen(&paths[1]), args)),
        ];
        let readers = [guests[0].console().reader(), guests[1].console().reader()];
        let switch = Switch::between(&paths[0], &paths[1]);
        let mut pair = Pair {
            _dir: dir,
            paths,
            guests,
            readers,
        };
        for reader in &mut pair.readers {
            hear(reader, "ready");
        }
        (pair, switch)
    }

    /// Pings until there is an answer: what was left of a train has passed then.
    fn settle(&mut self) {
        let deadline = std::time::Instant::now() + LONG;
        let ping = "ping 10.0.0.2 count=1 timeout=500";
        while !self.ask(0, ping, "ping-done").contains("received=1") {
            assert!(std::time::Instant::now() < deadline, "no answer any more");
        }
    }

    fn ask(&mut self, n: usize, line: &str, word: &str) -> String {
        say(&*self.guests[n], line);
        hear(&mut self.readers[n], word)
    }
}

fn ping_and_power_off(start: Start) {
    let (mut pair, switch) = Pair::start(start, "");
    let report = pair.ask(0, "ping 10.0.0.2 count=20 interval=1", "ping-done");
    assert!(report.contains("sent=20 received=20 lost=0"), "{report}");
    let report = pair.ask(1, "ping 10.0.0.1 count=3 interval=1 size=1400", "ping-done");
    assert!(report.contains("received=3"), "{report}");

    let report = pair.ask(0, "train dst=10.0.0.2 size=60 count=1000", "train-sent");
    assert_eq!(
        (value(&report, "packets"), value(&report, "bytes")),
        (1000, 60_000)
    );
    let report = hear(&mut pair.readers[1], "train-received");
    let received = value(&report, "packets");
    assert!((1..=1000).contains(&received), "{report}");
    assert_eq!(value(&report, "bytes"), 60 * received);
    let report = pair.ask(
        0,
        "train dst=52:54:00:00:00:02 size=1500 count=10",
        "train-sent",
    );
    assert_eq!(value(&report, "bytes"), 15_000);
    assert_eq!(
        value(&hear(&mut pair.readers[1], "train-received"), "packets"),
        10
    );

    // In different VLANs they do not hear each other.
    pair.ask(0, "vlan 10", "vlan 10");
    let report = pair.ask(0, "ping 10.0.0.2 count=1 timeout=50", "error");
    assert!(report.contains("does not answer ARP"), "{report}");
    pair.ask(1, "vlan 10", "vlan 10");
    let report = pair.ask(0, "ping 10.0.0.2 count=2 interval=1", "ping-done");
    assert!(report.contains("received=2"), "{report}");

    let report = pair.ask(0, "dance", "error");
    assert!(report.contains("\"dance\""), "{report}");
    let report = pair.ask(0, "stats", "stats");
    assert_eq!(value(&report, "bad"), 0);
    assert!(value(&report, "tx_packets") > 1030, "{report}");

    pair.ask(0, "poweroff", "bye");
    assert_eq!(pair.guests[0].wait(), Exit::Poweroff);
    assert!(!pair.paths[0].exists(), "the socket goes with the guest");
    pair.guests[1].stop();
    assert_eq!(pair.guests[1].wait(), Exit::Stopped);
    let messages = switch.messages(0);
    assert!(
        messages.contains(&"GET_VRING_BASE 0".to_owned()),
        "{messages:?}"
    );
    assert!(
        !messages.iter().any(|m| m.starts_with("error")),
        "{messages:?}"
    );
}

#[test]
fn virtual_machines_ping() {
    if kvm() {
        ping_and_power_off(as_vm);
    }
}

#[test]
fn processes_ping() {
    ping_and_power_off(as_process);
}

fn switch_dies_and_returns(start: Start) {
    let (mut pair, mut switch) = Pair::start(start, "");
    for round in 0..3 {
        pair.settle();
        let report = pair.ask(0, "ping 10.0.0.2 count=5 interval=1", "ping-done");
        assert!(report.contains("received=5"), "round {round}: {report}");
        // It dies while frames are under way.
        let forwarded = || switch.ports[0].lock().unwrap().forwarded;
        let deadline = std::time::Instant::now() + LONG;
        let before = forwarded();
        say(&*pair.guests[0], "train dst=10.0.0.2 ms=300 size=200");
        while forwarded() < before + 100 {
            assert!(
                std::time::Instant::now() < deadline,
                "the train does not move"
            );
            std::thread::yield_now();
        }
        drop(switch);
        switch = Switch::between(&pair.paths[0], &pair.paths[1]);
        hear(&mut pair.readers[0], "train-sent");
        hear(&mut pair.readers[1], "train-received");
    }
    pair.settle();
    let report = pair.ask(1, "ping 10.0.0.1 count=5 interval=1", "ping-done");
    assert!(report.contains("received=5"), "{report}");
    let status = pair.guests[0].status();
    assert_eq!(status.links[0].connections, 4);
    assert!(status.links[0].running && status.exit.is_none());
    for n in 0..2 {
        let report = pair.ask(n, "stats", "stats");
        assert_eq!(value(&report, "bad"), 0, "{report}");
    }
}

#[test]
fn virtual_machines_survive_the_switch() {
    if kvm() {
        switch_dies_and_returns(as_vm);
    }
}

#[test]
fn processes_survive_the_switch() {
    switch_dies_and_returns(as_process);
}

#[test]
fn without_event_index_and_to_a_switch_that_listens() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a"), dir.path().join("b")];
    let connect = |p: &Path| VhostUserSocket::Connect(p.into());
    let run = "run=ping,10.0.0.2,count=3,interval=1;poweroff";
    let a = as_process(&config(1, connect(&paths[0]), run));
    let b = as_process(&config(2, connect(&paths[1]), ""));
    let [x, y] = paths.map(Side::Listen);
    let _switch = Switch::new([x, y], 0);
    let mut reader = a.console().reader();
    let ready = hear(&mut reader, "ready");
    assert!(ready.contains("features=0x100008020"), "{ready}");
    let report = hear(&mut reader, "ping-done");
    assert!(report.contains("received=3"), "{report}");
    assert_eq!(a.wait(), Exit::Poweroff);
    drop(b);
}

#[test]
fn a_guest_without_a_switch_starts_and_gets_one_later() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a"), dir.path().join("b")];
    let guests = [1, 2].map(|n| {
        let socket = VhostUserSocket::Listen(paths[usize::from(n) - 1].clone());
        let mut config = config(n, socket, "");
        config.wait_backend = Duration::ZERO;
        as_process(&config)
    });
    let mut reader = guests[0].console().reader();
    hear(&mut reader, "ready");
    assert!(!guests[0].status().links[0].connected);
    let _switch = Switch::between(&paths[0], &paths[1]);
    hear(&mut guests[1].console().reader(), "ready");
    say(&*guests[0], "ping 10.0.0.2 count=3 interval=1");
    let report = hear(&mut reader, "ping-done");
    assert!(report.contains("received=3"), "{report}");
}

#[test]
fn control_socket_tells_and_stops() {
    use std::io::{BufRead, BufReader, Write};
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(1, VhostUserSocket::Listen(dir.path().join("a")), "");
    let path = dir.path().join("ctl");
    config.control_socket = Some(path.clone());
    let guest = as_process(&config);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |command: &str| {
        writeln!(stream, "{command}").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let status = ask("status");
    assert_eq!(status["kind"], "process");
    assert_eq!(status["state"], "running");
    assert_eq!(status["cards"][0]["connected"], false);
    assert!(ask("jump")["error"].as_str().unwrap().contains("jump"));
    assert_eq!(ask("stop")["ok"], true);
    assert_eq!(guest.wait(), Exit::Stopped);
    assert!(!path.exists());
}

#[test]
fn a_broken_guest_is_explained() {
    if !kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel");
    // A bzImage whose 64-bit entry point is an instruction that raises an exception where there
    // is nobody to take it.
    let mut file = vec![0x0f; 4096];
    file[..1024].fill(0);
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    file[0x236] = 1;
    file[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
    file[1024 + 0x200..][..4].copy_from_slice(&[0x0f, 0x0b, 0x0f, 0x0b]);
    std::fs::write(&kernel, file).unwrap();
    let config = VmConfig::new(
        "broken",
        Kernel::Linux {
            kernel,
            initrd: None,
            cmdline: String::new(),
        },
    );
    let vm = Vm::start(&config).unwrap();
    let Exit::Failed(text) = vm.wait() else {
        panic!("it must fail");
    };
    assert!(text.contains("vCPU 0") && text.contains("CPL 0"), "{text}");
    // After a triple fault some processors have forgotten where they were.
    assert!(
        text.contains("triple fault")
            || text.contains("0x100200, CPL 0, instruction bytes 0f 0b 0f 0b"),
        "{text}"
    );
}
