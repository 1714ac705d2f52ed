//! The built-in guest on /dev/kvm: the monitor's registers, interrupts and shared memory, with weir's switch as the backend.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

/// A built-in guest's console.
struct Console {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Console {
    fn open(weir: &Weir, guest: &str) -> Console {
        let path = weir.run_dir.join("vm").join(format!("{guest}.console"));
        let stream = wait::for_value("the guest's console", || UnixStream::connect(&path).ok());
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Console {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    /// Types a line; the first report that begins with `word`.
    fn ask(&mut self, line: &str, word: &str) -> String {
        writeln!(self.stream, "{line}").unwrap();
        let start = format!("weir-guest: {word}");
        loop {
            let mut heard = String::new();
            assert_ne!(
                self.reader
                    .read_line(&mut heard)
                    .expect("the guest reports"),
                0,
                "the guest has ended"
            );
            if heard.starts_with(&start) || heard.starts_with("weir-guest: error") {
                return heard.trim().to_owned();
            }
        }
    }
}

fn two_guests(kind: &str) {
    let mut weir = Weir::start_here(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br br0");
    for n in [1, 2] {
        let ran = t.line(&format!("ovs-vm run g{n} --bridge br0 --port g{n}p --mac 52:54:00:00:00:0{n} --as {kind} --append ip=10.0.0.{n} --detach"));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let listed = t.ok("ovs-vm list");
    assert!(
        listed.contains("g1p") && listed.contains("52:54:00:00:00:02") && listed.contains("br0"),
        "{listed}"
    );
    let mut a = Console::open(&weir, "g1");
    let report = a.ask("ping 10.0.0.2 count=10 interval=20", "ping-done");
    assert!(report.contains("sent=10 received=10 lost=0"), "{report}");
    let fdb = t.ok("ovs-appctl fdb/show br0");
    assert!(
        fdb.contains("52:54:00:00:00:01") && fdb.contains("52:54:00:00:00:02"),
        "{fdb}"
    );

    // VLANs of the ports hold for guests too.
    t.ok("ovs-vsctl set port g1p tag=10 -- set port g2p tag=20");
    assert!(
        a.ask("ping 10.0.0.2 count=3 interval=20 timeout=200", "ping-done")
            .contains("received=0")
    );
    t.ok("ovs-vsctl clear port g1p tag -- clear port g2p tag");
    assert!(
        a.ask("ping 10.0.0.2 count=3 interval=20", "ping-done")
            .contains("received=3")
    );

    // The switch dies and comes back; the guests do not notice but for the frames lost meanwhile.
    weir.kill();
    weir.spawn();
    wait::until("traffic to come back without a reboot", || {
        a.ask("ping 10.0.0.2 count=1 timeout=300", "ping-done")
            .contains("received=1")
    });
    let report = a.ask("ping 10.0.0.2 count=10 interval=20", "ping-done");
    assert!(report.contains("received=10"), "{report}");
    let t = weir.typed(Tools::Weir);
    for n in [1, 2] {
        t.ok(&format!("ovs-vm stop g{n}"));
    }
    wait::until("the ports to be gone with their guests", || {
        t.ok("ovs-vsctl list-ports br0").is_empty()
    });
}

#[test]
fn two_virtual_machines_ping_and_survive_the_switch() {
    need!(Kvm);
    two_guests("kvm");
}

#[test]
fn two_guest_processes_ping_and_survive_the_switch() {
    two_guests("process");
}
