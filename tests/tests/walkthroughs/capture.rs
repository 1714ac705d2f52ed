//! `weir capture`, and `ovs-tcpdump`, which does the same with stock parts.

use tests::host::Host;
use tests::netns::Namespace;
use tests::peers::Peer;
use tests::process::{Daemon, Ran};
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::{need, wait};

/// Two hosts on a bridge.
fn pair(t: &Typed) -> [Host; 2] {
    t.ok("ovs-vsctl add-br br0");
    let hosts = [1, 2].map(|n| Host::on_bridge(t, "br0", &format!("vm{n}"), n));
    assert!(hosts[0].pings("10.0.0.2"));
    hosts
}

fn command(weir: &Weir, words: &[&str]) -> std::process::Command {
    let inside: &Namespace = weir.namespace.as_ref().unwrap();
    let mut c = inside.command(tests::switch::weir_binary());
    c.env("OVS_RUNDIR", &weir.run_dir)
        .arg("capture")
        .args(words);
    c
}

/// No port and no mirror is left of it.
fn assert_gone(t: &Typed) {
    wait::until("everything to be taken away", || {
        t.ok("ovs-vsctl list mirror").is_empty() && t.ok("ovs-vsctl list-ports br0") == "vm1\nvm2\n"
    });
}

#[test]
fn so_many_packets_are_captured_and_nothing_is_left() {
    need!(Root, Tcpdump);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let hosts = pair(&t);
    let file = weir.dir().join("vm1.pcap");
    let name = file.display().to_string();
    let words = ["vm1", "icmp", "-w", &name, "-c", "6", "-s", "42"];
    let mut capture = Daemon::spawn(command(&weir, &words), &weir.dir().join("capture.log"));
    wait::until("the capture to begin", || {
        capture.output().contains("what passes vm1 on br0")
    });
    assert!(hosts[0].pings_all("10.0.0.2", 5));
    wait::until("its end", || !capture.is_running());
    assert!(
        capture.output().contains("6 packets"),
        "{}",
        capture.output()
    );
    assert_gone(&t);
    let shown: Ran = tests::process::run("tcpdump", ["-nr", &name]);
    let shown = shown.ok();
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert_eq!(shown.matches("ICMP echo request").count(), 3, "{shown}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 24 + 6 * (16 + 42));
}

#[test]
fn whatever_ends_it_nothing_is_left() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let _hosts = pair(&t);
    for kill in [true, false] {
        let log = weir.dir().join(format!("capture-{kill}.log"));
        let mut capture = Daemon::spawn(
            command(&weir, &["vm1", "-d", "in", "-w", "/dev/null"]),
            &log,
        );
        wait::until("the capture to begin", || {
            capture.output().contains("what passes vm1 on br0")
        });
        if kill {
            capture.kill();
        } else {
            assert!(capture.terminate().success());
        }
        assert_gone(&t);
    }
    for (words, why) in [
        (&["nowhere"][..], "no port named nowhere"),
        (&["vm1", "nonsense=1"], "is the filter right?"),
        (&["vm1", "-s", "3"], "14 to 65535"),
        (&[], "a port is wanted"),
    ] {
        let said = tests::process::output(command(&weir, words)).fails();
        assert!(said.contains(why), "{words:?}: {said}");
    }
    assert_gone(&t);
}

#[test]
fn ovs_tcpdump_captures_a_port() {
    need!(Root, Ovs, Tcpdump);
    if !std::path::Path::new("/usr/bin/ovs-tcpdump").exists() {
        eprintln!("SKIPPED ovs_tcpdump_captures_a_port: no ovs-tcpdump (package openvswitch-test)");
        return;
    }
    assert!(Peer::Tcpdump.missing().is_none());
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    let hosts = pair(&t);
    let mut c = weir
        .namespace
        .as_ref()
        .unwrap()
        .command("/usr/bin/ovs-tcpdump");
    c.env("OVS_RUNDIR", &weir.run_dir)
        .env("PYTHONUNBUFFERED", "1");
    let socket = format!("unix:{}", weir.run_dir.join("db.sock").display());
    c.args(["--db-sock", &socket]);
    c.args(["-i", "vm1", "--mirror-to", "mivm1", "-n", "-l", "icmp"]);
    let mut dump = Daemon::spawn(c, &weir.dir().join("tcpdump.log"));
    wait::until("tcpdump to listen", || {
        assert!(dump.is_running(), "{}", dump.output());
        dump.output().contains("listening on") && t.ok("ovs-vsctl list mirror").contains("m_vm1")
    });
    wait::until("packets to be shown", || {
        hosts[0].pings("10.0.0.2");
        let shown = dump.output();
        shown.contains("ICMP echo request") && shown.contains("ICMP echo reply")
    });
}
