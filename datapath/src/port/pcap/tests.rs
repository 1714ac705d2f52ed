//! Files of every form are read, damaged ones said to be so, and frames pass from file to file.

use super::file::{FileReader, Recorded};
use super::*;
use proptest::prelude::*;
use tempfile::TempDir;

const FRAME: [u8; 60] = [7; 60];

/// A pcap file in either byte order: seconds, their fraction and the bytes of each frame.
fn pcap(big: bool, magic: u32, link: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let word = |n: u32| {
        if big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    };
    let version = if big { 2 << 16 | 4 } else { 4 << 16 | 2 };
    let mut f: Vec<u8> = [magic, version, 0, 0, 65535, link].map(word).concat();
    for (secs, fraction, bytes) in frames {
        let len = bytes.len() as u32;
        f.extend([*secs, *fraction, len, len].map(word).concat());
        f.extend(*bytes);
    }
    f
}

fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let len = body.len() as u32 + 12;
    [
        &kind.to_le_bytes(),
        &len.to_le_bytes(),
        &body[..],
        &len.to_le_bytes(),
    ]
    .concat()
}

/// A pcapng file of two interfaces: one that counts in units of 2^-10 s, and one that is not Ethernet.
fn pcapng() -> Vec<u8> {
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let interface = |link: u8, resolution: u8| {
        let mut b = vec![link, 0, 0, 0, 0, 0, 0, 0];
        b.extend([9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0]);
        block(1, b)
    };
    let packet = |interface: u32, ticks: u32, bytes: &[u8]| {
        let len = bytes.len() as u32;
        let mut b = [interface, 0, ticks, len, len]
            .map(u32::to_le_bytes)
            .concat();
        b.extend(bytes);
        block(6, b)
    };
    [
        block(0x0a0d_0d0a, section),
        interface(1, 0x80 | 10),
        interface(101, 6),
        packet(0, 1024, &FRAME),
        packet(1, 0, &[9; 40]),
        packet(0, 1536, &[8; 61]),
    ]
    .concat()
}

fn frames_of(bytes: &[u8]) -> Result<Vec<Recorded>, String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, bytes).unwrap();
    let mut file = FileReader::open(&path)?;
    let mut all = Vec::new();
    while let Some(frame) = file.next()? {
        all.push(frame);
    }
    Ok(all)
}

fn at(nanos: u64, bytes: &[u8]) -> Recorded {
    Recorded {
        time: Duration::from_nanos(nanos),
        bytes: bytes.to_vec(),
    }
}

#[test]
fn every_form_is_read_with_its_times() {
    let wanted = [at(1_000_000_000, &FRAME), at(1_500_000_000, &[8; 61])];
    for big in [false, true] {
        for (magic, half) in [(0xa1b2_c3d4, 500_000), (0xa1b2_3c4d, 500_000_000)] {
            let f = pcap(big, magic, 1, &[(1, 0, &FRAME), (1, half, &[8; 61])]);
            assert_eq!(frames_of(&f).unwrap(), wanted, "{big} {magic:x}");
        }
    }
    assert_eq!(frames_of(&pcapng()).unwrap(), wanted);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let good = pcap(false, 0xa1b2_c3d4, 1, &[(1, 0, &FRAME)]);
    let says = |bytes: &[u8]| frames_of(bytes).unwrap_err();
    assert!(says(b"").ends_with("is neither a pcap nor a pcapng file"));
    assert!(says(&[0x55; 100]).ends_with("is neither a pcap nor a pcapng file"));
    let cut = says(&good[..good.len() - 1]);
    assert!(cut.ends_with("record 1 is cut off"), "{cut}");
    let link = says(&pcap(false, 0xa1b2_c3d4, 101, &[]));
    assert!(link.contains("link of type 101, not Ethernet"), "{link}");
    let mut long = good.clone();
    long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    long.resize(1 << 20, 0);
    assert!(says(&long).contains("record 1 is"), "{}", says(&long));
    let absent = FileReader::open(Path::new("/nonexistent")).err().unwrap();
    assert!(absent.contains("No such file"), "{absent}");
    let directory = FileReader::open(Path::new("/")).err().unwrap();
    assert!(directory.contains("is no regular file"), "{directory}");
}

proptest! {
    #[test]
    fn any_damage_is_survived(
        ng in any::<bool>(),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let two: [(u32, u32, &[u8]); 2] = [(1, 0, &FRAME), (2, 0, &FRAME)];
        let mut f = if ng { pcapng() } else { pcap(false, 0xa1b2_c3d4, 1, &two) };
        for (at, value) in hits {
            let n = at.index(f.len());
            f[n] = value;
        }
        f.truncate(cut.index(f.len()) + 1);
        let _ = frames_of(&f);
    }
}

fn config(options: &[(&str, String)]) -> InterfaceConfig {
    InterfaceConfig {
        name: "pc".into(),
        kind: "pcap".into(),
        options: options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
        ..InterfaceConfig::default()
    }
}

fn context() -> PortContext {
    PortContext {
        run_dir: std::env::temp_dir(),
        threads: 1,
        epoch: Arc::default(),
    }
}

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Receives until `count` frames came.
fn receive(open: &mut OpenPort, count: usize) -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    let mut got = Vec::new();
    let end = Instant::now() + PATIENCE;
    while got.len() < count && Instant::now() < end {
        open.rx[0].receive(&mut batch);
        got.extend((0..batch.len()).map(|i| batch.to_owned(i).bytes));
        batch.clear();
        open.rx[0].release();
        std::thread::yield_now();
    }
    got
}

#[test]
fn frames_pass_from_file_to_file() {
    let dir = TempDir::new().unwrap();
    let path = |n: &str| dir.path().join(n).display().to_string();
    let long = vec![5; 1514];
    let some: [(u32, u32, &[u8]); 3] = [(1, 0, &FRAME), (1, 5, &[1; 4]), (1, 9, &long)];
    let f = pcap(false, 0xa1b2_c3d4, 1, &some.repeat(200));
    std::fs::write(path("in"), f).unwrap();
    let options = [
        ("read", path("in")),
        ("loop", "true".into()),
        ("speed", "max".into()),
        ("tx_pcap", path("out")),
    ];
    let mut open = super::open(&config(&options), &context()).unwrap();
    // More than wait at once.
    let got = receive(&mut open, 3 * QUEUE);
    assert!(got.len() >= 3 * QUEUE, "{} frames", got.len());
    for pair in got.chunks_exact(2) {
        assert_eq!((&pair[0][..], &pair[1]), (&FRAME[..], &long));
    }
    assert!(open.port.extra_stats()["rx_malformed"] > 100);
    let out = open.tx[0].send_owned(&OwnedPacket::new(FRAME));
    assert_eq!((out.packets, out.bytes), (1, 60));
    // What was sent is in the file when the port is gone.
    drop(open);
    let written = frames_of(&std::fs::read(path("out")).unwrap()).unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].bytes, FRAME);
}

#[test]
fn a_file_damaged_later_on_is_told_of_while_the_port_is_there() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in");
    let mut f = pcap(false, 0xa1b2_c3d4, 1, &[(1, 0, &FRAME), (1, 0, &FRAME)]);
    f.truncate(f.len() - 3);
    std::fs::write(&path, f).unwrap();
    let options = [("read", path.display().to_string())];
    let mut open = super::open(&config(&options), &context()).unwrap();
    assert_eq!(receive(&mut open, 1), [FRAME.to_vec()]);
    let end = Instant::now() + PATIENCE;
    while open.port.status().error.is_none() && Instant::now() < end {
        std::thread::yield_now();
    }
    let status = open.port.status();
    assert!(status.error.unwrap().ends_with("record 2 is cut off"));
    assert_eq!(status.status["read_state"], "failed");
    // Nothing is written: nobody receives what is sent.
    assert_eq!(open.tx[0].send_owned(&OwnedPacket::new(FRAME)).down, 1);
}

#[test]
fn wrong_options_are_named() {
    let says = |options: &[(&str, String)]| {
        super::open(&config(options), &context())
            .unwrap_err()
            .to_string()
    };
    assert!(says(&[]).contains("option read: a pcap port needs a file to read"));
    assert!(says(&[("rad", "x".into())]).contains("option rad: a pcap port takes read"));
    assert!(says(&[("read", "/dev/zero".into())]).contains("/dev/zero: is no regular file"));
    let out = ("tx_pcap", "/tmp".to_owned());
    assert!(says(std::slice::from_ref(&out)).contains("is no regular file"));
    assert!(says(&[out, ("loop", "true".into())]).contains("loop: is of no use"));
    let speed = [("read", "x".into()), ("speed", "9".into())];
    assert!(says(&speed).contains("speed: \"9\" is neither original nor max"));
}
