//! W5: ingress policing. Rates are measured over what arrives, while it arrives.

use crate::typed_twice;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::guest::Guest;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::{need, wait};

typed_twice!(walk);

/// What an Ethernet frame has beside a datagram's payload, without frame check sequence.
const HEADERS: u64 = 42;
const PAYLOAD: u64 = 1400;
/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(2);
/// How long a rate may take to be measured undisturbed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream of datagrams from one host to another, and how many have arrived.
struct Stream<'a> {
    arrived: &'a AtomicU64,
}

impl Stream<'_> {
    /// Mbit/s of frames that arrive, from the first datagram seen on for as long as is measured.
    fn rate(&self) -> f64 {
        let count = || self.arrived.load(Ordering::Relaxed);
        let before = count();
        wait::until("datagrams to arrive", || count() > before);
        let (from, start) = (count(), Instant::now());
        wait::until("the time of the measurement", || {
            start.elapsed() >= MEASURED
        });
        let seconds = start.elapsed().as_secs_f64();
        ((count() - from) * (PAYLOAD + HEADERS) * 8) as f64 / seconds / 1e6
    }
}

impl Stream<'_> {
    /// The rate is that many Mbit/s, within 5%. It is never more. On a machine that keeps the forwarding thread waiting for longer
    /// than the burst lasts (10 ms here) it may be less: what could not pass then is lost, so another time counts too.
    #[track_caller]
    fn comes_to(&self, mbps: f64) {
        wait::until_within(PATIENCE, &format!("{mbps} Mbit/s within 5%"), || {
            let rate = self.rate();
            eprintln!("{rate:.2} Mbit/s of {mbps}");
            assert!(rate <= mbps * 1.05, "{rate} Mbit/s of {mbps}");
            rate >= mbps * 0.95
        });
    }
}

/// Sends datagrams at so many Mbit/s (of frames) while `measure` runs.
fn with_datagrams<R>(from: &Host, to: &Host, mbps: u64, measure: impl FnOnce(Stream) -> R) -> R {
    let (arrived, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let address = to.address.clone();
    let receiver = to
        .namespace
        .enter(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    let timeout = Some(Duration::from_millis(20));
    receiver.set_read_timeout(timeout).unwrap();
    let sender = from
        .namespace
        .enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut buffer = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                if receiver.recv(&mut buffer).is_ok() {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        s.spawn(|| {
            let start = Instant::now();
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                let due = start.elapsed().as_micros() as u64 * mbps / 8 / (PAYLOAD + HEADERS);
                // Whoever could not keep up does not catch up in one go.
                sent = sent.max(due.saturating_sub(200));
                while sent < due {
                    let _ = sender.send_to(&[0x5a; PAYLOAD as usize], (address.as_str(), 5001));
                    sent += 1;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let stream = Stream { arrived: &arrived };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| measure(stream)));
        over.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// Mbit/s of payload that a TCP connection gets across.
fn tcp(from: &Host, to: &Host) -> f64 {
    let listener = to
        .namespace
        .enter(|| TcpListener::bind("0.0.0.0:5002").unwrap());
    let address = to.address.clone();
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut stream = from
                .namespace
                .enter(|| TcpStream::connect((address.as_str(), 5002)).unwrap());
            let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
            while !over.load(Ordering::Relaxed) {
                let _ = stream.write(&[0; 65536]);
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        let timeout = Some(Duration::from_millis(200));
        stream.set_read_timeout(timeout).unwrap();
        let (start, mut got) = (Instant::now(), 0);
        let mut buffer = vec![0; 1 << 18];
        while start.elapsed() < MEASURED {
            got += stream.read(&mut buffer).unwrap_or(0);
        }
        over.store(true, Ordering::Relaxed);
        got as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e6
    })
}

fn statistic(t: &Typed, port: &str, key: &str) -> u64 {
    let text = t.ok(&format!("ovs-vsctl get interface {port} statistics"));
    let at = text.find(&format!("{key}="));
    let number = at.map(|at| &text[at + key.len() + 1..]);
    number
        .and_then(|n| n.split([',', '}']).next()?.trim().parse().ok())
        .unwrap_or(0)
}

fn set(t: &Typed, rate: u32, burst: u32) {
    t.ok(&format!(
        "ovs-vsctl set interface fed1 ingress_policing_rate={rate}"
    ));
    t.ok(&format!(
        "ovs-vsctl set interface fed1 ingress_policing_burst={burst}"
    ));
}

fn check_listing(t: &Typed, rate: u32, burst: u32) {
    let row = t.ok("ovs-vsctl list interface fed1");
    for (column, value) in [("burst", burst), ("rate", rate)] {
        let column = format!("ingress_policing_{column}");
        let shown = row.lines().find_map(|l| {
            let (name, value) = l.split_once(':')?;
            (name.trim() == column).then(|| value.trim().to_owned())
        });
        assert_eq!(shown, Some(value.to_string()), "{row}");
    }
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok(
        "ovs-vsctl add-br vswitch001 -- set open_vswitch . other_config:stats-update-interval=1000",
    );
    let fed1 = Host::on_bridge(&t, "vswitch001", "fed1", 1);
    let fed2 = Host::on_bridge(&t, "vswitch001", "fed2", 2);
    assert!(fed1.pings(&fed2.address));
    let baseline = tcp(&fed1, &fed2);
    assert!(baseline > 100.0, "{baseline} Mbit/s unpoliced");

    set(&t, 20_000, 200);
    check_listing(&t, 20_000, 200);
    let output = weir.dir().join("monitor");
    let file = std::fs::File::create(&output).unwrap();
    let mut monitor = tools.command("ovsdb-client", &weir.run_dir, weir.namespace.as_ref());
    monitor.args([
        "monitor",
        "Interface",
        "name,ingress_policing_burst,ingress_policing_rate",
    ]);
    let mut monitor = monitor.stdout(file).spawn().unwrap();
    let shown = || std::fs::read_to_string(&output).unwrap();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    wait::until("the monitor to show the rate", || {
        shown()
            .lines()
            .any(|l| words(l).ends_with(&["initial", "fed1", "200", "20000"].map(str::to_owned)))
    });

    with_datagrams(&fed1, &fed2, 100, |stream| {
        stream.comes_to(20.0);
        // While it runs: the new rate holds within a second.
        t.ok("ovs-vsctl set interface fed1 ingress_policing_rate=5000");
        let changed = Instant::now();
        wait::until("a second to be over", || {
            changed.elapsed() > Duration::from_secs(1)
        });
        stream.comes_to(5.0);
    });
    wait::until("the monitor to show the change", || {
        shown()
            .lines()
            .any(|l| l.contains("new") && words(l).ends_with(&["5000".to_owned()]))
    });
    let _ = monitor.kill();
    let _ = monitor.wait();

    set(&t, 20_000, 200);
    let rate = tcp(&fed1, &fed2);
    assert!(rate <= 20.5, "TCP got {rate} Mbit/s through 20");
    // The other direction is untouched: only acknowledgements are policed.
    with_datagrams(&fed2, &fed1, 100, |stream| {
        let rate = stream.rate();
        assert!(rate > 80.0, "{rate} Mbit/s of 100 the other way");
    });
    wait::until("the drops to be told", || {
        statistic(&t, "fed1", "ovs_rx_qos_drops") > 1000
    });
    assert_eq!(
        statistic(&t, "fed1", "ovs_rx_qos_drops"),
        statistic(&t, "fed1", "rx_dropped")
    );
    assert_eq!(statistic(&t, "fed2", "ovs_rx_qos_drops"), 0);

    set(&t, 0, 0);
    check_listing(&t, 0, 0);
    with_datagrams(&fed1, &fed2, 100, |stream| {
        let rate = stream.rate();
        assert!(rate > 80.0, "{rate} Mbit/s of 100 unpoliced");
    });
    // A rate that cannot be is refused by the schema.
    assert_ne!(
        t.line("ovs-vsctl set interface fed1 ingress_policing_rate=-1")
            .code,
        0
    );
}

#[test]
fn guests_are_policed_too() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok(
        "ovs-vsctl add-br vswitch001 -- set open_vswitch . other_config:stats-update-interval=1000",
    );
    let mut guests: Vec<Guest> = (1..=2)
        .map(|n| {
            Guest::start(
                &weir,
                "vswitch001",
                &format!("fed{n}"),
                n,
                crate::guests::kind(),
            )
        })
        .collect();
    assert!(guests[0].pings("10.0.0.2"));
    let [one, two] = guests.get_mut(..2).unwrap() else {
        unreachable!("there are two")
    };
    // Mbit/s of 100 that arrive. Frames and their bytes are counted by the guests.
    let mut trains = || {
        let size = PAYLOAD + HEADERS;
        let sent = one.ask(
            &format!("train dst=10.0.0.2 size={size} mbps=100 seconds=2"),
            "train-sent",
        );
        let report = two.ask("", "train-received");
        let number = |report: &str, key: &str| -> f64 {
            let at = report.split(&format!(" {key}=")).nth(1);
            at.and_then(|n| n.split(' ').next()?.parse().ok())
                .unwrap_or_else(|| panic!("{report}"))
        };
        // A guest that has to wait for its processor sends less.
        let offered = number(&sent, "bytes") * 8000.0 / number(&sent, "ns");
        let rate = number(&report, "bytes") * 8000.0 / number(&report, "ns");
        eprintln!("{rate:.2} Mbit/s of {offered:.2} from guest to guest");
        assert!(offered < 101.0, "{sent}");
        (offered, rate)
    };
    let mut comes_to = |mbps: f64| {
        wait::until_within(PATIENCE, &format!("{mbps} Mbit/s within 5%"), || {
            let (offered, rate) = trains();
            assert!(
                rate <= mbps * 1.05,
                "{rate} Mbit/s of {offered} through {mbps}"
            );
            rate >= mbps * 0.95
        });
    };
    set(&t, 20_000, 200);
    comes_to(20.0);
    set(&t, 5_000, 200);
    comes_to(5.0);
    wait::until("the drops to be told", || {
        statistic(&t, "fed1", "ovs_rx_qos_drops") > 1000
    });
    set(&t, 0, 0);
    comes_to(100.0);
}
