//! A monitor and its guest, played by the test, against the port as the switch opens it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fuzz::fuzz_vhost_message;
use super::message::{self, Request, word32, word64};
use super::session::{FEATURES, PROTOCOL_FEATURES};
use super::*;
use crate::ring::testing::Driver;
use crate::sys::event::Epoll;
use crate::sys::unix;

const PLAIN: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WANTED: u64 = feature::VERSION_1
    | feature::MRG_RXBUF
    | feature::PROTOCOL_FEATURES
    | feature::MQ
    | feature::CTRL_VQ;

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

/// The monitor's side of a connection.
struct Monitor {
    stream: UnixStream,
}

impl Monitor {
    fn new(stream: UnixStream) -> Monitor {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Monitor { stream }
    }

    fn send(&self, request: Request, need_reply: bool, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let bytes = message::request(request, need_reply, body);
        assert_eq!(
            unix::send(self.stream.as_raw_fd(), &bytes, fds).unwrap(),
            bytes.len()
        );
    }

    fn answer(&mut self, request: Request) -> Vec<u8> {
        let mut header = [0; 12];
        self.stream.read_exact(&mut header).unwrap();
        assert_eq!(
            (word32(&header, 0), word32(&header, 4)),
            (request as u32, 5)
        );
        let mut body = vec![0; word32(&header, 8) as usize];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    fn get(&mut self, request: Request) -> u64 {
        self.send(request, false, &[], &[]);
        word64(&self.answer(request), 0)
    }

    /// Sends a request and returns whether it was accepted.
    fn set(&mut self, request: Request, body: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        self.send(request, true, body, fds);
        word64(&self.answer(request), 0) == 0
    }

    fn set_number(&mut self, request: Request, number: u64) -> bool {
        self.set(request, &number.to_le_bytes(), &[])
    }

    fn set_state(&mut self, request: Request, index: u32, value: u32) -> bool {
        self.set(request, &state(index, value), &[])
    }

    fn base(&mut self, index: u32) -> u32 {
        self.send(Request::GetVringBase, false, &state(index, 0), &[]);
        word32(&self.answer(Request::GetVringBase), 4)
    }

    fn negotiate(&mut self, features: u64) {
        assert_eq!(self.get(Request::GetFeatures), FEATURES);
        assert_eq!(self.get(Request::GetProtocolFeatures), PROTOCOL_FEATURES);
        self.send(
            Request::SetProtocolFeatures,
            false,
            &PROTOCOL_FEATURES.to_le_bytes(),
            &[],
        );
        assert_eq!(self.get(Request::GetQueueNum), MAX_PAIRS as u64);
        assert!(self.set(Request::SetOwner, &[], &[]));
        assert!(self.set_number(Request::SetFeatures, features));
    }

    fn share(&mut self, driver: &Driver) -> bool {
        let regions = driver.regions();
        let mut body = (regions.len() as u64).to_le_bytes().to_vec();
        for r in &regions {
            for v in [r.guest_addr, r.size, r.user_addr, r.mmap_offset] {
                body.extend(v.to_le_bytes());
            }
        }
        let fds: Vec<OwnedFd> = regions.iter().map(|_| driver.fd().unwrap()).collect();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.set(Request::SetMemTable, &body, &fds)
    }

    fn start(&mut self, index: u32, driver: &Driver, kick: &File, call: &File) {
        let layout = driver.layout();
        assert!(self.set_state(Request::SetVringNum, index, layout.size.into()));
        assert!(self.set(Request::SetVringAddr, &addresses(index, &layout), &[]));
        assert!(self.set_state(Request::SetVringBase, index, layout.base.into()));
        assert!(self.set(
            Request::SetVringCall,
            &u64::from(index).to_le_bytes(),
            &[call.as_fd()]
        ));
        assert!(self.set(
            Request::SetVringKick,
            &u64::from(index).to_le_bytes(),
            &[kick.as_fd()]
        ));
        assert!(self.set_state(Request::SetVringEnable, index, 1));
    }
}

fn state(index: u32, value: u32) -> Vec<u8> {
    [index.to_le_bytes(), value.to_le_bytes()].concat()
}

fn addresses(index: u32, layout: &Layout) -> Vec<u8> {
    let mut body = state(index, 0);
    for address in [layout.descriptors, layout.used, layout.available, 0] {
        body.extend(address.to_le_bytes());
    }
    body
}

fn event() -> File {
    File::from(OwnedFd::from(EventFd::new().unwrap()))
}

fn config(kind: &str, name: &str, path: Option<&Path>) -> InterfaceConfig {
    let option = path.map(|p| ("vhost-server-path".to_owned(), p.display().to_string()));
    InterfaceConfig {
        name: name.into(),
        kind: kind.into(),
        options: option.into_iter().collect(),
        ..InterfaceConfig::default()
    }
}

fn context(dir: &Path) -> PortContext {
    PortContext {
        run_dir: dir.to_owned(),
        threads: 1,
        epoch: Default::default(),
    }
}

/// A guest with one queue pair.
struct Guest {
    monitor: Monitor,
    /// What the guest receives.
    rx: Driver,
    /// What the guest sends.
    tx: Driver,
    kick: File,
    call: File,
}

impl Guest {
    fn boot(stream: UnixStream) -> Guest {
        Guest::boot_with(stream, Driver::new(64, 1 << 20).unwrap())
    }

    /// With packed rings.
    fn boot_packed(stream: UnixStream) -> Guest {
        Guest::boot_with(stream, Driver::packed(64, 1 << 20).unwrap())
    }

    fn boot_with(stream: UnixStream, tx: Driver) -> Guest {
        let rx = tx.sibling(0x8_0000, 0x9_0000).unwrap();
        let mut guest = Guest {
            monitor: Monitor::new(stream),
            rx,
            tx,
            kick: event(),
            call: event(),
        };
        let features = WANTED | guest.tx.layout_features();
        guest.monitor.negotiate(features);
        assert!(guest.monitor.share(&guest.tx));
        guest.monitor.start(0, &guest.rx, &guest.kick, &guest.call);
        guest.monitor.start(1, &guest.tx, &guest.kick, &guest.call);
        guest
    }

    fn sends(&mut self, frame: &[u8]) {
        self.tx.offer_frame(&PLAIN, frame);
        (&self.kick).write_all(&1u64.to_ne_bytes()).unwrap();
    }
}

fn receive(rx: &mut dyn RxQueue) -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    rx.receive(&mut batch);
    let got = (0..batch.len()).map(|i| batch.to_owned(i).bytes).collect();
    rx.release();
    got
}

#[test]
fn a_guest_connects_sends_receives_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.sock");
    let OpenPort {
        port,
        mut rx,
        mut tx,
    } = super::super::open(
        &config("dpdkvhostuserclient", "v0", Some(&path)),
        &context(dir.path()),
    )
    .unwrap();
    until("the reason", || {
        port.status().status.get("reason")
            == Some(&format!(
                "waiting for {}: No such file or directory",
                path.display()
            ))
    });
    let listener = UnixListener::bind(&path).unwrap();
    for round in 0..4u64 {
        // It may come back with rings of another layout.
        let stream = listener.accept().unwrap().0;
        let (mut guest, wanted) = if round.is_multiple_of(2) {
            (Guest::boot(stream), WANTED)
        } else {
            (Guest::boot_packed(stream), WANTED | feature::RING_PACKED)
        };
        let status = port.status();
        assert!(status.link_up);
        assert_eq!(status.status["status"], "connected");
        assert_eq!(status.status["features"], format!("0x{wanted:016x}"));
        assert_eq!(status.status["vring_1_size"], "64");
        assert_eq!(port.link_resets(), 2 * round + 1);

        guest.sends(&[1; 60]);
        guest.sends(&[2; 1400]);
        assert_eq!(receive(&mut *rx[0]), [vec![1; 60], vec![2; 1400]]);
        assert_eq!(guest.tx.collect().len(), 2);

        let at = guest.rx.offer_buffer(2048);
        assert_eq!(tx[0].send_owned(&OwnedPacket::new(vec![3; 100])).packets, 1);
        assert_eq!(guest.rx.collect(), [(0, 112)]);
        assert_eq!(guest.rx.read(at + 12, 100), [3; 100]);
        tx[0].flush();
        let mut count = [0; 8];
        guest.call.read_exact(&mut count).unwrap();

        drop(guest);
        until("the link to go down", || !port.status().link_up);
        assert_eq!(tx[0].send_owned(&OwnedPacket::new(vec![3; 100])).down, 1);
        assert!(receive(&mut *rx[0]).is_empty());
    }
}

#[test]
fn a_server_port_listens_under_its_name_and_tidies_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("dpdkvhostuser", "v1", None);
    let opened = super::super::open(&config, &context(dir.path())).unwrap();
    let path = dir.path().join("v1");
    for _ in 0..2 {
        let guest = Guest::boot(UnixStream::connect(&path).unwrap());
        assert!(opened.port.status().link_up);
        drop(guest);
        until("the link to go down", || !opened.port.status().link_up);
    }
    let error = super::super::open(&config, &context(dir.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("somebody listens there already"), "{error}");
    drop(opened);
    assert!(!path.exists());
    // A socket left behind by a killed process is taken over.
    drop(UnixListener::bind(&path).unwrap());
    super::super::open(&config, &context(dir.path())).unwrap();
}

#[test]
fn a_kick_wakes_and_an_empty_queue_sleeps() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v2", None), &context(dir.path())).unwrap();
    let rx = &mut opened.rx[0];
    let fd = rx.wake_fd().unwrap();
    // As forwarding threads wait for it: what is told once is not told again.
    let epoll = Epoll::new().unwrap();
    epoll.add_edge(fd, 0).unwrap();
    let readable = || epoll.wait(0, |_| ()).unwrap() == 1;
    assert!(!rx.arm());
    assert!(!readable());
    let mut guest = Guest::boot(UnixStream::connect(dir.path().join("v2")).unwrap());
    // A queue that starts wakes the thread, so that it arms the queue.
    assert!(readable());
    rx.disarm();
    assert!(!readable());
    assert_eq!(guest.tx.used_flags(), 1);
    assert!(!rx.arm());
    assert_eq!(guest.tx.used_flags(), 0);
    guest.sends(&[1; 60]);
    assert!(readable());
    rx.disarm();
    assert_eq!(receive(&mut **rx).len(), 1);
    guest.sends(&[1; 60]);
    assert!(rx.arm());
}

#[test]
fn stopping_a_queue_waits_for_the_batch_that_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v3", None), &context(dir.path())).unwrap();
    let mut guest = Guest::boot(UnixStream::connect(dir.path().join("v3")).unwrap());
    guest.sends(&[7; 1400]);
    guest.sends(&[8; 60]);
    let mut batch = Batch::new();
    assert_eq!(opened.rx[0].receive(&mut batch), 2);
    guest
        .monitor
        .send(Request::GetVringBase, false, &state(1, 0), &[]);
    guest
        .monitor
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(guest.monitor.stream.read_exact(&mut [0; 1]).is_err());
    assert_eq!(batch.to_owned(0).bytes, [7; 1400]);
    opened.rx[0].release();
    guest
        .monitor
        .stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(word32(&guest.monitor.answer(Request::GetVringBase), 4), 2);
    assert_eq!(guest.tx.collect().len(), 2);
    assert!(!opened.port.status().link_up);
    // Started again from there, nothing is lost or repeated.
    assert!(guest.monitor.set(
        Request::SetVringKick,
        &1u64.to_le_bytes(),
        &[guest.kick.as_fd()]
    ));
    guest.sends(&[9; 60]);
    assert_eq!(receive(&mut *opened.rx[0]), [vec![9; 60]]);
    assert_eq!(guest.monitor.base(1), 3);
}

#[test]
fn a_packed_queue_tells_and_takes_both_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v7", None), &context(dir.path())).unwrap();
    let stream = UnixStream::connect(dir.path().join("v7")).unwrap();
    let mut guest = Guest::boot_packed(stream);
    let kick = |guest: &mut Guest| {
        let (number, kick) = (1u64.to_le_bytes(), &guest.kick);
        (guest.monitor).set(Request::SetVringKick, &number, &[kick.as_fd()])
    };
    for i in 0..100u8 {
        guest.sends(&[i; 60]);
        assert_eq!(receive(&mut *opened.rx[0]), [vec![i; 60]]);
        assert_eq!(guest.tx.collect().len(), 1);
    }
    // 100 of 64: the second lap, whose wrap counter is zero.
    assert_eq!(guest.monitor.base(1), 36 << 16 | 36);
    assert!(kick(&mut guest));
    guest.sends(&[9; 60]);
    assert_eq!(receive(&mut *opened.rx[0]), [vec![9; 60]]);
    assert_eq!(guest.monitor.base(1), 37 << 16 | 37);
    // What was taken and never given back is taken again: the place of what is used counts.
    guest.sends(&[10; 60]);
    assert!(
        guest
            .monitor
            .set_state(Request::SetVringBase, 1, 37 << 16 | 38)
    );
    assert!(kick(&mut guest));
    assert_eq!(receive(&mut *opened.rx[0]), [vec![10; 60]]);
    // DPDK tells one place only.
    assert_eq!(guest.monitor.base(1), 38 << 16 | 38);
    guest.sends(&[11; 60]);
    assert!(guest.monitor.set_state(Request::SetVringBase, 1, 38));
    assert!(kick(&mut guest));
    assert_eq!(receive(&mut *opened.rx[0]), [vec![11; 60]]);
    // Any size will do, but not any place.
    assert!(guest.monitor.set_state(Request::SetVringNum, 1, 63));
    assert!(!guest.monitor.set_state(Request::SetVringNum, 1, 0));
    assert!(!guest.monitor.set_state(Request::SetVringBase, 1, 63));
    let error = opened.port.status().error.unwrap();
    assert!(error.contains("base 63 is not below"), "{error}");
}

#[test]
fn several_pairs_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v4", None), &context(dir.path())).unwrap();
    let mut guest = Guest::boot(UnixStream::connect(dir.path().join("v4")).unwrap());
    let mut second = guest.tx.sibling(0x4_0000, 0x5_0000).unwrap();
    let kick = event();
    guest.monitor.start(3, &second, &kick, &guest.call);
    assert_eq!(opened.port.status().status["n_rxq"], "2");
    guest.sends(&[1; 60]);
    second.offer_frame(&PLAIN, &[2; 60]);
    let mut got = [receive(&mut *opened.rx[0]), receive(&mut *opened.rx[0])].concat();
    got.sort();
    assert_eq!(got, [vec![1; 60], vec![2; 60]]);
    assert!(guest.monitor.set_state(Request::SetVringEnable, 3, 0));
    second.offer_frame(&PLAIN, &[3; 60]);
    assert!(receive(&mut *opened.rx[0]).is_empty());
    assert!(guest.monitor.set_state(Request::SetVringEnable, 3, 1));
    assert_eq!(receive(&mut *opened.rx[0]), [vec![3; 60]]);
}

#[test]
fn impossible_requests_are_refused_and_the_guest_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v5", None), &context(dir.path())).unwrap();
    let mut guest = Guest::boot(UnixStream::connect(dir.path().join("v5")).unwrap());
    let monitor = &mut guest.monitor;
    assert!(!monitor.set_number(Request::SetFeatures, 1 << 60));
    assert!(!monitor.set_number(Request::SetProtocolFeatures, 1 << 50));
    assert!(!monitor.set_number(Request::NetSetMtu, 67));
    assert!(monitor.set_number(Request::NetSetMtu, 9000));
    assert!(!monitor.set_state(Request::SetVringNum, 0, 63));
    assert!(!monitor.set_state(Request::SetVringNum, 16, 64));
    assert!(!monitor.set_state(Request::SetVringEnable, 0, 2));
    assert!(!monitor.set(Request::SetVringKick, &[0; 7], &[]));
    assert!(!monitor.set(Request::SetVringKick, &0u64.to_le_bytes(), &[]));
    assert!(!monitor.set(Request::SetMemTable, &[1; 8], &[]));
    assert!(!monitor.set(Request::RemMemReg, &[0; 40], &[]));
    let small = crate::sys::mmap::memfd(c"small", 4096).unwrap();
    let mut table = 1u64.to_le_bytes().to_vec();
    for v in [0u64, 1 << 30, 0, 0] {
        table.extend(v.to_le_bytes());
    }
    assert!(!monitor.set(Request::SetMemTable, &table, &[small.as_fd()]));
    let reason = opened.port.status().status["reason"].clone();
    assert!(reason.contains("has only 0x1000 bytes"), "{reason}");
    guest.sends(&[1; 60]);
    assert_eq!(receive(&mut *opened.rx[0]).len(), 1);
    // Addresses outside memory: that queue stops, and says why.
    let bad = Layout {
        size: 64,
        descriptors: 1 << 40,
        ..Layout::default()
    };
    assert!(
        !guest
            .monitor
            .set(Request::SetVringAddr, &addresses(1, &bad), &[])
    );
    let error = opened.port.status().error.unwrap();
    assert!(error.contains("queue 1: descriptor table"), "{error}");
}

#[test]
fn a_truncating_monitor_loses_its_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened =
        super::super::open(&config("dpdkvhostuser", "v6", None), &context(dir.path())).unwrap();
    let path = dir.path().join("v6");
    let mut guest = Guest::boot(UnixStream::connect(&path).unwrap());
    guest.sends(&[1; 60]);
    guest.tx.file().set_len(0).unwrap();
    assert!(receive(&mut *opened.rx[0]).is_empty());
    until("the monitor to be dropped", || {
        opened
            .port
            .status()
            .status
            .get("reason")
            .is_some_and(|r| r.contains("waiting for a connection"))
    });
    let mut guest = Guest::boot(UnixStream::connect(&path).unwrap());
    guest.sends(&[1; 60]);
    assert_eq!(receive(&mut *opened.rx[0]).len(), 1);
}

#[test]
fn options_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let error = |config: &InterfaceConfig| {
        super::super::open(config, &context(dir.path()))
            .unwrap_err()
            .to_string()
    };
    assert!(error(&config("vhostuser", "v", None)).contains("vhost-server-path: is missing"));
    let long = PathBuf::from("x".repeat(108));
    assert!(error(&config("vhostuser", "v", Some(&long))).contains("has 108 bytes"));
    assert!(
        error(&config("dpdkvhostuser", "v", Some(Path::new("/x")))).contains("takes no options")
    );
    assert!(error(&config("dpdkvhostuser", "a/b", None)).contains("cannot name a socket"));
}

/// A stream of messages that mostly make sense.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let numbers = prop_oneof![
        Just(0u64),
        Just(1),
        Just(0x101),
        Just(WANTED),
        Just(PROTOCOL_FEATURES),
        any::<u64>()
    ];
    let one = (
        1u32..45,
        any::<bool>(),
        proptest::collection::vec(numbers, 0..6),
        0usize..8,
    )
        .prop_map(|(number, reply, body, cut)| {
            let mut bytes: Vec<u8> = body.iter().flat_map(|n| n.to_le_bytes()).collect();
            bytes.truncate(bytes.len().saturating_sub(if cut == 0 { 3 } else { 0 }));
            let mut all = number.to_le_bytes().to_vec();
            all.extend((1 | u32::from(reply) << 3).to_le_bytes());
            all.extend((bytes.len() as u32).to_le_bytes());
            all.extend(bytes);
            all
        });
    proptest::collection::vec(one, 0..40).prop_map(|list| list.concat())
}

proptest! {
    #[test]
    fn any_stream_of_messages_is_survived(data in messages()) {
        fuzz_vhost_message(&data);
    }

    #[test]
    fn any_stream_of_bytes_is_survived(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_vhost_message(&data);
    }
}
