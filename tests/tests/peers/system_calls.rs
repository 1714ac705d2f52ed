//! What a forwarding thread asks of the kernel while it is busy: nothing, packet for packet. strace counts.

use super::testpmd::{Testpmd, cross};
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

/// Packets there have to be for each system call.
const PACKETS_PER_CALL: u64 = 1000;

/// The forwarding thread of the switch whose pid file this is.
fn forwarding_thread(pidfile: &std::path::Path) -> String {
    let pid = std::fs::read_to_string(pidfile).expect("a pid file");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.trim())).expect("threads");
    tasks
        .filter_map(|t| Some(t.ok()?.path()))
        .find(|t| std::fs::read_to_string(t.join("comm")).is_ok_and(|c| c.starts_with("forward-0")))
        .and_then(|t| Some(t.file_name()?.to_string_lossy().into_owned()))
        .expect("a forwarding thread")
}

/// The calls column of strace's summary: by name, without the sum.
fn summary(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            let name = *words.last()?;
            let calls = words.get(3)?.parse().ok()?;
            (name != "total" && words[0].parse::<f64>().is_ok()).then(|| (name.to_owned(), calls))
        })
        .collect()
}

#[test]
fn a_busy_forwarding_thread_makes_no_system_call_per_packet() {
    need!(Root, Ovs, Testpmd, Strace);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    t.ok("ovs-vsctl add-br br0");
    let pmd = Testpmd::start(&weir);
    pmd.add_ports(&t, "br0");
    cross(&t);
    pmd.saturate();
    wait::until("frames to circle", || pmd.rate() > 10_000);
    let thread = forwarding_thread(&weir.dir().join("run/ovs-vswitchd.pid"));
    let mut told = Vec::new();
    // A machine busy with other things may stop either side for long enough to be slept for; not every time.
    let quiet = (0..5).any(|_| {
        let out = weir.dir().join("calls");
        let mut strace = Command::new("strace")
            .args(["-c", "-p", &thread, "-o"])
            .arg(&out)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        // Attached once it says so.
        let mut line = String::new();
        let stderr = strace.stderr.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line)
            .expect("strace says that it attached");
        assert!(line.contains("attached"), "{line}");
        let before = pmd.received();
        wait::until_within(Duration::from_secs(60), "a million frames", || {
            pmd.received() - before > 1_000_000
        });
        let packets = pmd.received() - before;
        assert!(
            Command::new("kill")
                .args(["-INT", &strace.id().to_string()])
                .status()
                .is_ok_and(|s| s.success())
        );
        strace.wait().expect("strace ends");
        let calls = summary(&std::fs::read_to_string(&out).expect("strace's summary"));
        let sum: u64 = calls.iter().map(|(_, n)| n).sum();
        let futex = calls.iter().find(|(name, _)| name == "futex");
        told.push(format!("{packets} packets, {calls:?}"));
        // Locks that had to be waited for show as futex calls.
        sum * PACKETS_PER_CALL < packets && futex.is_none_or(|(_, n)| n * 100_000 < packets)
    });
    assert!(quiet, "{told:#?}");
    println!("{told:#?}");
}
