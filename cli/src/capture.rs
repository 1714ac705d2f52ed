//! `weir capture`: what passes a port, as a capture file (pcap).
//!
//! A tap of our own becomes a port of the bridge, and a mirror sends it copies of what passes the port that was named. A tap
//! goes with who made it, rows of the database do not: so they are taken away by a second process, which does nothing but wait
//! until the first is gone, however that ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use datapath::packet::{Checksum, Offload, PACKET_MAX, checksum};
use datapath::sys::{link::Links, tun};
use tokio::io::unix::AsyncFd;

use crate::daemon;
use crate::exit;
use crate::getopt::{self, Spec, Takes};

const OPTIONS: &[Spec] = &[
    ("write", Some('w'), Takes::Value),
    ("count", Some('c'), Takes::Value),
    ("snaplen", Some('s'), Takes::Value),
    ("direction", Some('d'), Takes::Value),
    ("db", None, Takes::Value),
    ("remove", None, Takes::Value),
    ("help", Some('h'), Takes::Nothing),
];

const HELP: &str = "\
weir capture: what passes a port, as a capture file (pcap)
usage: weir capture [OPTIONS] PORT [FILTER]

Everything that comes in by PORT or leaves by it is copied to a tap, by a mirror, and written from there. Both are gone
when this program ends, even by kill -9. Only packets that match FILTER are copied: fields as in flows, ip,nw_src=10.0.0.1
or in_port=1 (it needs a database of this version: the column Mirror.filter). Makes a network device, so it needs the
right to (CAP_NET_ADMIN). Frames with work left to a network card (TCP segmentation) are written as they pass, whole.

  -w, --write=FILE       the capture file; - or none for standard output
  -c, --count=N          end after so many packets
  -s, --snaplen=BYTES    no more than the first bytes of each packet, 14 to 65535
  -d, --direction=WAY    in (to the switch), out (from it) or both; default both
      --db=SERVER        the database (default: unix:RUNDIR/db.sock)
  -h, --help             this text

Exit codes: 0 done, or ended by SIGINT or SIGTERM; 1 not done, with the reason on standard error.

Examples:
  weir capture vm1 -w vm1.pcap -c 100
  weir capture vm1 tcp,tp_dst=80 | tcpdump -nr -
";

/// Bytes of a packet that a capture has at most, by its header.
const SNAPLEN: u32 = 262_144;
/// Longest frame that a tap carries, without its header.
const MTU: u32 = 65_521;
/// Bytes before each frame of the tap: the header of virtio-net.
const HEADER: usize = 10;

/// What is asked for.
#[derive(Default)]
struct Request {
    port: String,
    filter: Option<String>,
    file: Option<String>,
    count: Option<u64>,
    snaplen: Option<u16>,
    direction: Option<String>,
    database: Option<String>,
}

/// Runs `weir capture` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    exit::finish("weir capture", try_run(args))
}

fn try_run(args: Vec<OsString>) -> Result<ExitCode> {
    let (options, words) = getopt::parse(args, &[OPTIONS], false).map_err(|e| anyhow!(e))?;
    let mut r = Request::default();
    let mut remove = None;
    for (name, value) in options {
        let value = value.unwrap_or_default();
        match name {
            "write" => r.file = Some(value).filter(|f| f != "-"),
            "count" => {
                let n = value.parse().ok().filter(|n| *n > 0);
                r.count = Some(n.with_context(|| format!("--count={value}: a number from 1 on"))?);
            }
            "snaplen" => {
                let n = value.parse().ok().filter(|n| *n >= 14);
                r.snaplen = Some(n.with_context(|| format!("--snaplen={value}: 14 to 65535"))?);
            }
            "direction" => {
                let known = ["in", "out", "both"].contains(&&value[..]);
                ensure!(known, "--direction={value}: in, out or both");
                r.direction = Some(value);
            }
            "db" => r.database = Some(value),
            "remove" => remove = Some(value),
            _ => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    if let Some(tap) = remove {
        return remove_when_left(&r, &tap);
    }
    match <[String; 2]>::try_from(words) {
        Ok([port, filter]) => (r.port, r.filter) = (port, Some(filter)),
        Err(mut words) => {
            ensure!(
                words.len() == 1,
                "a port is wanted, and perhaps a filter (see weir capture --help)"
            );
            r.port = words.remove(0);
        }
    }
    capture(&r)?;
    Ok(ExitCode::SUCCESS)
}

fn capture(r: &Request) -> Result<()> {
    let mut out = open_output(r)?;
    let bridge = vsctl(r, &["port-to-br", &r.port])?;
    let bridge = bridge.trim();
    let tap = format!("wcap{}", std::process::id());
    let frames = tun::open_tap(&tap, HEADER as i32).context("cannot make a tap")?;
    prepare(&tap)?;
    // From here on there is something to take away.
    let guard = Guard::start(r, &tap)?;
    mirror(r, bridge, &tap)?;
    eprintln!("weir capture: what passes {} on {bridge}", r.port);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(copy(r, frames, &mut out));
    drop(runtime);
    drop(guard);
    let n = done?;
    eprintln!("weir capture: {n} packets");
    Ok(())
}

/// Nothing of the host's own is said on the tap, and it carries what any port does.
fn prepare(tap: &str) -> Result<()> {
    // Where there is no IPv6 there is no such file.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6"), "1");
    let links = Links::new()?;
    links.set_mtu(tap, MTU)?;
    links.set_up(tap, true)?;
    Ok(())
}

fn open_output(r: &Request) -> Result<Box<dyn Write>> {
    match &r.file {
        Some(path) => Ok(Box::new(File::create(path).with_context(|| path.clone())?)),
        None if io::stdout().is_terminal() => {
            bail!("a capture is nothing to read: --write=FILE, or | tcpdump -nr -")
        }
        None => Ok(Box::new(io::stdout())),
    }
}

/// Runs `vsctl`; what it says.
fn vsctl(r: &Request, words: &[&str]) -> Result<String> {
    let mut c = Command::new(std::env::current_exe()?);
    c.args(["vsctl", "--timeout=30"]);
    if let Some(db) = &r.database {
        c.arg(format!("--db={db}"));
    }
    let done = c.args(words).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}", said.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Makes the tap a port, and mirrors to it.
fn mirror(r: &Request, bridge: &str, tap: &str) -> Result<()> {
    let name = format!("name={tap}");
    let mut words = vec!["--id=@watched", "get", "port", &r.port];
    words.extend(["--", "add-port", bridge, tap]);
    words.extend(["--", "--id=@tap", "get", "port", tap]);
    words.extend(["--", "--id=@mirror", "create", "mirror", &name]);
    words.push("output_port=@tap");
    if r.direction.as_deref() != Some("out") {
        words.push("select_src_port=@watched");
    }
    if r.direction.as_deref() != Some("in") {
        words.push("select_dst_port=@watched");
    }
    let snaplen = r.snaplen.map(|n| format!("snaplen={n}"));
    words.extend(snaplen.as_deref());
    let filter = r.filter.as_ref().map(|f| format!("filter=\"{f}\""));
    words.extend(filter.as_deref());
    words.extend(["--", "add", "bridge", bridge, "mirrors", "@mirror"]);
    vsctl(r, &words)?;
    // A mirror that cannot be obeyed has no statistics.
    let made = vsctl(r, &["get", "interface", tap, "error"])?;
    ensure!(made.trim() == "[]", "{}", made.trim());
    for _ in 0..50 {
        if vsctl(r, &["get", "mirror", tap, "statistics"])?.contains("tx_packets") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    bail!("the switch does not carry the mirror out; its log says why (is the filter right?)")
}

/// Waits until standard input ends, as it does when who started this ends, and takes away what that left.
fn remove_when_left(r: &Request, tap: &str) -> Result<ExitCode> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let mut words = vec!["--if-exists", "del-port", tap];
    let bridge = vsctl(r, &["port-to-br", tap]).unwrap_or_default();
    if vsctl(r, &["get", "mirror", tap, "_uuid"]).is_ok() {
        words.extend(["--", "--id=@mirror", "get", "mirror", tap]);
        words.extend([
            "--",
            "remove",
            "bridge",
            bridge.trim(),
            "mirrors",
            "@mirror",
        ]);
    }
    vsctl(r, &words)?;
    Ok(ExitCode::SUCCESS)
}

/// The process that takes things away.
struct Guard(Child);

impl Guard {
    fn start(r: &Request, tap: &str) -> Result<Guard> {
        let mut c = Command::new(std::env::current_exe()?);
        c.args(["capture", &format!("--remove={tap}")]);
        if let Some(db) = &r.database {
            c.arg(format!("--db={db}"));
        }
        // A group of its own: what ends this program from a terminal is not for it.
        c.stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        Ok(Guard(c.spawn().context("cannot start another process")?))
    }
}

impl Drop for Guard {
    /// Everything is taken away when this returns.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Writes frames until there are enough of them, or a signal comes; how many.
async fn copy(r: &Request, tap: File, out: &mut dyn Write) -> Result<u64> {
    let mut head = Vec::new();
    for (value, bytes) in [
        (0xa1b2_c3d4, 4),
        (2, 2),
        (4, 2),
        (0, 4),
        (0, 4),
        (SNAPLEN, 4),
        (1, 4),
    ] {
        head.extend(&u32::to_le_bytes(value)[..bytes]);
    }
    out.write_all(&head)?;
    out.flush()?;
    #[allow(
        deprecated,
        reason = "the sound use of it that needs no unsafe code: a file owns its descriptor"
    )]
    let tap = AsyncFd::new(tap)?;
    let end = daemon::shutdown()?;
    tokio::pin!(end);
    let mut buffer = vec![0; HEADER + PACKET_MAX];
    let mut n = 0;
    while r.count != Some(n) {
        let mut ready = tokio::select! {
            () = &mut end => break,
            ready = tap.readable() => ready?,
        };
        match ready.try_io(|tap| tap.get_ref().read(&mut buffer)) {
            Ok(len) => {
                write_frame(&mut buffer[..len?], out)?;
                n += 1;
            }
            // Nothing more for now.
            Err(_) => out.flush()?,
        }
    }
    out.flush()?;
    Ok(n)
}

/// Writes one frame of the tap, with its checksum filled in where that is all that is left to do.
fn write_frame(frame: &mut [u8], out: &mut dyn Write) -> Result<()> {
    let Some((header, frame)) = frame.split_first_chunk_mut::<HEADER>() else {
        return Ok(());
    };
    let offload = Offload::from_vnet(header, frame.len()).unwrap_or_default();
    if let Checksum::Needed { start, offset } = offload.checksum
        && !offload.is_gso()
    {
        checksum::finish(frame, start.into(), offset.into());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let len = frame.len() as u32;
    for word in [now.as_secs() as u32, now.subsec_micros(), len, len] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(frame)?;
    Ok(())
}
