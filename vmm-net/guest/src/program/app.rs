//! What the guest does: answers ARP and ping, and obeys commands.
//!
//! Commands come from the kernel command line (`run=ping,10.0.0.2,count=5;poweroff`, a comma for
//! each space, a semicolon between commands) and, once those are done, as lines on the console.
//! One job (ping or train) runs at a time; `stop`, `stats` and `poweroff` work meanwhile, any
//! other line waits for its end. Everything reported is one line that begins `weir-guest: `,
//! then a word that says what it is, then `key=value` pairs, so that both people and programs can
//! read it. The words: `ready`, `ping-reply`, `ping-timeout`, `ping-done`, `train-sent`,
//! `train-received`, `stats`, `ip`, `vlan`, `announced`, `error`, `bye`.
//!
//! Options of the kernel command line: `name=NAME`, `ip=A.B.C.D`, `vlan=N`, `spin=MICROSECONDS`
//! (how long to look for more frames before sleeping, default 0), `run=...`.

use core::fmt::Write;

use super::Platform;
use super::driver::{MAX_FRAME, Nic, Sender};
use super::net::{self, Packet};
use super::text::{Ip, LINE, Line, Mac, parse_ip, parse_mac, parse_u64};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Frames received or sent before looking at anything else.
const BATCH: usize = 64;
/// Neighbours remembered.
const NEIGHBOURS: usize = 16;
/// An unanswered ARP request is repeated after this, so often.
const ARP_RETRY: u64 = 500 * MS;
const ARP_TRIES: u32 = 3;
/// A train has ended when nothing of it came for this long.
const TRAIN_SILENCE: u64 = 200 * MS;
/// Identifier of our ICMP echo requests.
const PING_ID: u16 = 0x7765;
/// Smallest frame of a train: headers and payload (one tag more with a VLAN).
const MIN_TRAIN: u64 = 60;

const COMMANDS: &str = "ping IP [count=N] [interval=MS] [timeout=MS] [size=BYTES]; \
train dst=IP|MAC [size=BYTES] [seconds=N | count=N] [flows=N] [mbps=N]; ip IP; vlan N|none; \
announce arp|reply|rarp; stats; stop; poweroff";

/// A ping in progress.
#[derive(Clone, Copy)]
struct Ping {
    target: [u8; 4],
    count: u64,
    interval: u64,
    timeout: u64,
    size: usize,
    /// Next sequence number, from 1; when to send it; when the one before was sent.
    next: u64,
    due: u64,
    sent_at: u64,
    /// Whether the reply to the last one is still awaited.
    waiting: bool,
    received: u64,
    min: u64,
    max: u64,
    sum: u64,
}

/// A train being sent.
#[derive(Clone, Copy)]
struct Train {
    id: u32,
    mac: Option<[u8; 6]>,
    ip: [u8; 4],
    size: usize,
    count: u64,
    duration: u64,
    flows: u16,
    /// Mbit/s of its frames at most; 0 for as fast as the card takes them.
    mbps: u64,
    started: Option<u64>,
    sent: u64,
}

impl Train {
    /// Packets that may have been sent `ns` after the first.
    fn allowed(&self, ns: u64) -> u64 {
        match self.mbps {
            0 => self.count,
            mbps => {
                let packets = u128::from(ns) * u128::from(mbps) / (8000 * self.size as u128);
                (packets as u64 + 1).min(self.count)
            }
        }
    }

    /// Nanoseconds after the first packet at which the next may be sent.
    fn next(&self) -> u64 {
        let bits = u128::from(self.sent) * 8 * self.size as u128;
        (bits * 1000).div_ceil(self.mbps.max(1).into()) as u64
    }
}

#[derive(Clone, Copy)]
enum Job {
    None,
    Ping(Ping),
    Train(Train),
}

/// A train being received.
#[derive(Clone, Copy, Default)]
struct Arriving {
    active: bool,
    id: u32,
    from: [u8; 6],
    packets: u64,
    bytes: u64,
    highest: u64,
    first: u64,
    last: u64,
}

/// What there is to know besides the card.
struct State<'p, P: Platform> {
    platform: &'p P,
    mac: [u8; 6],
    ip: [u8; 4],
    vlan: Option<u16>,
    neighbours: [Option<([u8; 4], [u8; 6])>; NEIGHBOURS],
    next_neighbour: usize,
    arriving: Arriving,
    /// The last echo reply: sequence number.
    reply: Option<u16>,
    ping_target: [u8; 4],
}

/// Writes one line of the report.
macro_rules! say {
    ($p:expr, $($arg:tt)*) => {{
        let mut line = Line::new();
        let _ = writeln!(line, "weir-guest: {}", format_args!($($arg)*));
        $p.console_write(line.as_bytes());
    }};
}

impl<P: Platform> State<'_, P> {
    /// Handles one received frame; answers are queued on `tx`.
    fn frame(&mut self, frame: &mut [u8], now: u64, tx: &mut Sender<'_, P>) {
        let Some(packet) = net::parse(frame, self.vlan) else {
            return;
        };
        match packet {
            Packet::Train { train, seq } => {
                let mut from = [0; 6];
                from.copy_from_slice(&frame[6..12]);
                self.train_packet(train, seq, from, frame.len() as u64, now);
            }
            Packet::Arp { op, sender, target } => {
                self.learn(sender.1, sender.0);
                if op == 1
                    && target == self.ip
                    && let Some((id, out)) = tx.buffer()
                {
                    let at = net::ethernet(out, sender.0, self.mac, self.vlan, 0x0806);
                    let len = net::arp(out, at, 2, (self.mac, self.ip), sender);
                    tx.send(id, len);
                }
            }
            Packet::Echo {
                reply: false,
                src,
                dst,
                icmp,
                ip,
                ..
            } => {
                if dst == self.ip
                    && frame.len() <= MAX_FRAME
                    && let Some((id, out)) = tx.buffer()
                {
                    let out = &mut out[..frame.len()];
                    out.copy_from_slice(frame);
                    out.copy_within(6..12, 0);
                    out[6..12].copy_from_slice(&self.mac);
                    out[ip + 12..ip + 16].copy_from_slice(&dst);
                    out[ip + 16..ip + 20].copy_from_slice(&src);
                    out[icmp.start] = 0;
                    out[icmp.start + 2..icmp.start + 4].fill(0);
                    let sum = net::checksum(&out[icmp.clone()], 0);
                    out[icmp.start + 2..icmp.start + 4].copy_from_slice(&sum.to_be_bytes());
                    tx.send(id, frame.len());
                }
            }
            Packet::Echo {
                reply: true,
                src,
                dst,
                id,
                seq,
                ..
            } => {
                if dst == self.ip && src == self.ping_target && id == PING_ID {
                    self.reply = Some(seq);
                }
            }
        }
    }

    fn train_packet(&mut self, id: u32, seq: u64, from: [u8; 6], bytes: u64, now: u64) {
        let a = &mut self.arriving;
        if !a.active || a.id != id {
            self.train_over();
            self.arriving = Arriving {
                active: true,
                id,
                from,
                first: now,
                ..Arriving::default()
            };
        }
        let a = &mut self.arriving;
        a.packets += 1;
        a.bytes += bytes;
        a.highest = a.highest.max(seq);
        a.last = now;
    }

    /// Reports the train that was being received, if any.
    fn train_over(&mut self) {
        let a = core::mem::take(&mut self.arriving);
        if a.active {
            let ns = a.last - a.first;
            say!(
                self.platform,
                "train-received id={} from={} packets={} bytes={} ns={ns} pps={} lost={}",
                a.id,
                Mac(a.from),
                a.packets,
                a.bytes,
                rate(a.packets, ns),
                (a.highest + 1).saturating_sub(a.packets)
            );
        }
    }

    fn learn(&mut self, ip: [u8; 4], mac: [u8; 6]) {
        if let Some(known) = self.neighbours.iter_mut().flatten().find(|n| n.0 == ip) {
            known.1 = mac;
            return;
        }
        self.neighbours[self.next_neighbour] = Some((ip, mac));
        self.next_neighbour = (self.next_neighbour + 1) % NEIGHBOURS;
    }

    fn neighbour(&self, ip: [u8; 4]) -> Option<[u8; 6]> {
        self.neighbours
            .iter()
            .flatten()
            .find(|n| n.0 == ip)
            .map(|n| n.1)
    }
}

/// Packets per second.
fn rate(packets: u64, ns: u64) -> u64 {
    match ns {
        0 => 0,
        _ => (u128::from(packets) * u128::from(SECOND) / u128::from(ns)) as u64,
    }
}

struct App<'p, P: Platform> {
    nic: Nic<'p, P>,
    state: State<'p, P>,
    job: Job,
    /// Address being resolved: next try, tries left.
    arp_due: u64,
    arp_tries: u32,
    /// A line of input being read, and one that waits for the job's end.
    input: Line,
    queued: Option<Line>,
    trains: u32,
    over: bool,
}

/// Runs the program until `poweroff` or until the platform stops it.
pub fn run<P: Platform>(platform: &P, cmdline: &str) {
    let mut name = "guest";
    let mut ip = [0; 4];
    let mut vlan = None;
    let mut spin = 0;
    let mut script = "";
    for word in cmdline.split_ascii_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let good = match key {
            "name" => {
                name = value;
                true
            }
            "ip" => parse_ip(value).map(|v| ip = v).is_some(),
            "vlan" => parse_vlan(value).map(|v| vlan = v).is_some(),
            "spin" => parse_u64(value)
                .map(|v| spin = v.min(SECOND / 1000) * 1000)
                .is_some(),
            "run" => {
                script = value;
                true
            }
            _ => true, // meant for someone else, as on any kernel command line
        };
        if !good {
            say!(platform, "error: bad option {word}");
        }
    }
    let nic = match Nic::start(platform) {
        Ok(nic) => nic,
        Err(reason) => {
            say!(platform, "error: {reason}");
            return;
        }
    };
    say!(
        platform,
        "ready name={name} mac={} ip={} vlan={} queue={} features={:#x}",
        Mac(nic.mac),
        Ip(ip),
        vlan.unwrap_or(0),
        nic.tx.size(),
        nic.features
    );
    let mut app = App {
        state: State {
            platform,
            mac: nic.mac,
            ip,
            vlan,
            neighbours: [None; NEIGHBOURS],
            next_neighbour: 0,
            arriving: Arriving::default(),
            reply: None,
            ping_target: [0; 4],
        },
        nic,
        job: Job::None,
        arp_due: 0,
        arp_tries: 0,
        input: Line::new(),
        queued: None,
        trains: 0,
        over: false,
    };
    app.main_loop(platform, script, spin);
    say!(platform, "bye");
}

/// A VLAN number, or `none`.
fn parse_vlan(text: &str) -> Option<Option<u16>> {
    if text == "none" {
        return Some(None);
    }
    match parse_u64(text)? {
        0 => Some(None),
        v @ 1..=4094 => Some(Some(v as u16)),
        _ => None,
    }
}

impl<P: Platform> App<'_, P> {
    fn main_loop(&mut self, p: &P, mut script: &str, spin: u64) {
        let mut input_seen = p.console_ready().wrapping_sub(1);
        let mut last_work = p.now();
        while !self.over && !p.stopped() {
            let seen = p.irqs();
            let ready = p.console_ready();
            if ready != input_seen && self.queued.is_none() {
                input_seen = ready;
                self.read_console(p);
                // It may have been "poweroff": do not sleep on it.
                continue;
            }
            if matches!(self.job, Job::None) && !self.over {
                if let Some(line) = self.queued.take() {
                    self.command(line.as_str());
                    // There may be more input behind the line that had to wait.
                    input_seen = input_seen.wrapping_sub(1);
                    continue;
                }
                if !script.is_empty() {
                    let (first, rest) = script.split_once(';').unwrap_or((script, ""));
                    script = rest;
                    let mut line = Line::new();
                    for b in first.bytes() {
                        line.push(if b == b',' { b' ' } else { b });
                    }
                    self.command(line.as_str());
                    continue;
                }
            }
            let now = p.now();
            let Nic { rx, tx, .. } = &mut self.nic;
            let state = &mut self.state;
            tx.reclaim();
            let received = rx.receive(BATCH, |frame| state.frame(frame, now, tx));
            let (sent, mut deadline, tx_after) = self.work(now);
            self.nic.tx.flush();
            if received > 0 || sent {
                last_work = now;
                continue;
            }
            if now < last_work + spin {
                core::hint::spin_loop();
                continue;
            }
            if self.state.arriving.active {
                let end = self.state.arriving.last + TRAIN_SILENCE;
                if now >= end {
                    self.state.train_over();
                } else {
                    deadline = Some(deadline.map_or(end, |d: u64| d.min(end)));
                }
            }
            if self.nic.before_sleep(tx_after) {
                p.wait(seen, deadline);
            }
            self.nic.after_sleep();
        }
        self.state.train_over();
    }

    /// Goes on with the job: whether it sent something, when it wants to be called again, and
    /// after how many sent buffers.
    fn work(&mut self, now: u64) -> (bool, Option<u64>, Option<usize>) {
        match self.job {
            Job::None => (false, None, None),
            Job::Ping(ping) => self.ping(ping, now),
            Job::Train(train) => self.train(train, now),
        }
    }

    /// The MAC address of `ip`, or when to ask again; ends the job when nobody answers.
    fn resolve(&mut self, ip: [u8; 4], now: u64) -> Result<[u8; 6], Option<u64>> {
        if let Some(mac) = self.state.neighbour(ip) {
            return Ok(mac);
        }
        if now >= self.arp_due {
            if self.arp_tries == ARP_TRIES {
                say!(self.state.platform, "error: {} does not answer ARP", Ip(ip));
                self.job = Job::None;
                return Err(Some(now));
            }
            self.arp_tries += 1;
            self.arp_due = now + ARP_RETRY;
            let (mac, own, vlan) = (self.state.mac, self.state.ip, self.state.vlan);
            if let Some((id, out)) = self.nic.tx.buffer() {
                let at = net::ethernet(out, [0xff; 6], mac, vlan, 0x0806);
                let len = net::arp(out, at, 1, (mac, own), ([0; 6], ip));
                self.nic.tx.send(id, len);
            }
        }
        Err(Some(self.arp_due))
    }

    fn ping(&mut self, mut ping: Ping, now: u64) -> (bool, Option<u64>, Option<usize>) {
        let p = self.state.platform;
        if let Some(seq) = self.state.reply.take()
            && ping.waiting
            && u64::from(seq) == (ping.next - 1) & 0xffff
        {
            let rtt = now - ping.sent_at;
            say!(
                p,
                "ping-reply {} seq={} rtt_us={}.{:03}",
                Ip(ping.target),
                ping.next - 1,
                rtt / 1000,
                rtt % 1000
            );
            ping.waiting = false;
            ping.received += 1;
            ping.min = ping.min.min(rtt);
            ping.max = ping.max.max(rtt);
            ping.sum += rtt;
        }
        if ping.waiting && now >= ping.sent_at + ping.timeout {
            say!(p, "ping-timeout {} seq={}", Ip(ping.target), ping.next - 1);
            ping.waiting = false;
        }
        self.job = Job::Ping(ping);
        if ping.waiting {
            return (false, Some(ping.sent_at + ping.timeout), None);
        }
        if ping.next > ping.count {
            self.ping_done(&ping);
            return (true, None, None);
        }
        if now < ping.due {
            return (false, Some(ping.due), None);
        }
        let mac = match self.resolve(ping.target, now) {
            Ok(mac) => mac,
            Err(deadline) => return (false, deadline, None),
        };
        let (own, ip, vlan) = (self.state.mac, self.state.ip, self.state.vlan);
        let Some((id, out)) = self.nic.tx.buffer() else {
            return (false, Some(now + MS), Some(1));
        };
        let at = net::ethernet(out, mac, own, vlan, 0x0800);
        let at = net::ipv4(out, at, 1, ip, ping.target, 8 + ping.size);
        let len = net::echo_request(out, at, PING_ID, ping.next as u16, ping.size);
        self.nic.tx.send(id, len);
        ping.next += 1;
        ping.sent_at = p.now();
        ping.due = ping.sent_at + ping.interval;
        ping.waiting = true;
        self.job = Job::Ping(ping);
        (true, None, None)
    }

    fn ping_done(&mut self, ping: &Ping) {
        let sent = ping.next - 1;
        let avg = ping.sum / ping.received.max(1);
        let min = if ping.received > 0 { ping.min } else { 0 };
        say!(
            self.state.platform,
            "ping-done {} sent={sent} received={} lost={} min_us={}.{:03} avg_us={}.{:03} max_us={}.{:03}",
            Ip(ping.target),
            ping.received,
            sent - ping.received,
            min / 1000,
            min % 1000,
            avg / 1000,
            avg % 1000,
            ping.max / 1000,
            ping.max % 1000
        );
        self.job = Job::None;
    }

    fn train(&mut self, mut train: Train, now: u64) -> (bool, Option<u64>, Option<usize>) {
        let mac = match train.mac {
            Some(mac) => mac,
            None => match self.resolve(train.ip, now) {
                Ok(mac) => {
                    train.mac = Some(mac);
                    mac
                }
                Err(deadline) => return (false, deadline, None),
            },
        };
        let started = *train.started.get_or_insert(now);
        let end = started.saturating_add(train.duration);
        if train.sent >= train.count || now >= end {
            let ns = now - started;
            say!(
                self.state.platform,
                "train-sent id={} packets={} bytes={} ns={ns} pps={}",
                train.id,
                train.sent,
                train.sent * train.size as u64,
                rate(train.sent, ns)
            );
            self.job = Job::None;
            return (true, None, None);
        }
        let (own, ip, vlan) = (self.state.mac, self.state.ip, self.state.vlan);
        let tag = if vlan.is_some() { 4 } else { 0 };
        let start = 14 + tag;
        let payload = start + 28;
        let allowed = train.allowed(now - started);
        let mut n = 0;
        while n < BATCH && train.sent < allowed {
            let Some((id, out, prepared)) = self.nic.tx.stamped(train.id) else {
                break;
            };
            // All but the numbers stays in the buffer from one round to the next.
            if !prepared {
                let at = net::ethernet(out, mac, own, vlan, 0x0800);
                let at = net::ipv4(out, at, 17, ip, train.ip, train.size - start - 20);
                let at = net::udp(out, at, 1024, net::TRAIN_PORT, train.size - payload);
                out[at..train.size].fill(0);
                out[at..at + 4].copy_from_slice(&net::TRAIN_MAGIC);
                out[at + 4..at + 8].copy_from_slice(&train.id.to_be_bytes());
            }
            if train.flows > 1 {
                let port = 1024 + (train.sent % u64::from(train.flows)) as u16;
                out[payload - 8..payload - 6].copy_from_slice(&port.to_be_bytes());
            }
            out[payload + 8..payload + 16].copy_from_slice(&train.sent.to_be_bytes());
            self.nic.tx.send(id, train.size);
            train.sent += 1;
            n += 1;
        }
        self.job = Job::Train(train);
        if train.sent >= allowed && train.mbps > 0 {
            let due = started + train.next();
            return (n > 0, Some(due.min(end)), None);
        }
        // Full: come back when half of the ring is sent.
        (n > 0, Some(end), Some(self.nic.tx.size() / 2))
    }

    /// Reads console input: obeys lines, or keeps one for later.
    fn read_console(&mut self, p: &P) {
        let mut buf = [0; 1];
        while self.queued.is_none() && p.console_read(&mut buf) == 1 {
            match buf[0] {
                b'\r' | b'\n' => {
                    let line = core::mem::replace(&mut self.input, Line::new());
                    let word = line.as_str().trim();
                    let urgent = matches!(word, "stop" | "stats" | "poweroff");
                    if urgent || matches!(self.job, Job::None) {
                        self.command(word);
                    } else if !word.is_empty() {
                        self.queued = Some(line);
                    }
                    if !matches!(self.job, Job::None) && self.queued.is_some() {
                        return;
                    }
                }
                byte => {
                    if !self.input.push(byte) {
                        say!(p, "error: a line may have {LINE} bytes");
                        self.input.clear();
                    }
                }
            }
        }
    }

    /// Obeys one command.
    fn command(&mut self, line: &str) {
        let p = self.state.platform;
        let mut words = line.split_ascii_whitespace();
        let Some(verb) = words.next() else {
            return;
        };
        let done = match verb {
            "ping" => self.start_ping(words),
            "train" => self.start_train(words),
            "ip" => match words.next().map(parse_ip) {
                Some(Some(ip)) => {
                    self.state.ip = ip;
                    say!(p, "ip {}", Ip(ip));
                    Ok(())
                }
                _ => Err("say an address: ip 10.0.0.1"),
            },
            "vlan" => match words.next().map(parse_vlan) {
                Some(Some(vlan)) => {
                    self.state.vlan = vlan;
                    self.state.neighbours = [None; NEIGHBOURS];
                    say!(p, "vlan {}", vlan.unwrap_or(0));
                    Ok(())
                }
                _ => Err("say a VLAN of 1 to 4094, or none: vlan 10"),
            },
            "announce" => self.announce(words.next().unwrap_or("arp")),
            "stats" => {
                let (rx, tx) = (self.nic.rx.counters, self.nic.tx.counters);
                say!(
                    p,
                    "stats rx_packets={} rx_bytes={} tx_packets={} tx_bytes={} rx_kicks={} tx_kicks={} irqs={} bad={}",
                    rx.packets,
                    rx.bytes,
                    tx.packets,
                    tx.bytes,
                    rx.kicks,
                    tx.kicks,
                    p.irqs(),
                    rx.bad + tx.bad
                );
                Ok(())
            }
            "stop" => {
                match &mut self.job {
                    Job::None => {}
                    Job::Ping(ping) => {
                        let ping = *ping;
                        self.ping_done(&ping);
                    }
                    Job::Train(train) => train.count = train.sent,
                }
                Ok(())
            }
            "poweroff" => {
                self.over = true;
                Ok(())
            }
            _ => Err(COMMANDS),
        };
        if let Err(reason) = done {
            say!(p, "error: \"{verb}\": {reason}");
        }
    }

    /// Tells everybody where it is, as a migrated guest or its hypervisor does: by gratuitous ARP, a request or a reply
    /// (RFC 5227 3), or by RARP (RFC 903).
    fn announce(&mut self, how: &str) -> Result<(), &'static str> {
        let (kind, op, target) = match how {
            "arp" => (0x0806, 1, ([0; 6], self.state.ip)),
            "reply" => (0x0806, 2, (self.state.mac, self.state.ip)),
            "rarp" => (0x8035, 3, (self.state.mac, [0; 4])),
            _ => return Err("announce arp|reply|rarp"),
        };
        let own = match how {
            "rarp" => [0; 4],
            _ => self.state.ip,
        };
        let Some((id, out)) = self.nic.tx.buffer() else {
            return Err("there is no room to send");
        };
        let at = net::ethernet(out, [0xff; 6], self.state.mac, self.state.vlan, kind);
        let len = net::arp(out, at, op, (self.state.mac, own), target);
        self.nic.tx.send(id, len);
        say!(self.state.platform, "announced {how}");
        Ok(())
    }

    fn start_ping<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Result<(), &'static str> {
        const WRONG: &str = "ping IP [count=N] [interval=MS] [timeout=MS] [size=BYTES up to 1400]";
        let mut ping = Ping {
            target: [0; 4],
            count: 5,
            interval: SECOND / 5,
            timeout: SECOND,
            size: 56,
            next: 1,
            due: 0,
            sent_at: 0,
            waiting: false,
            received: 0,
            min: u64::MAX,
            max: 0,
            sum: 0,
        };
        for word in words {
            match word.split_once('=') {
                None => ping.target = parse_ip(word).ok_or(WRONG)?,
                Some((key, value)) => {
                    let value = parse_u64(value).filter(|&v| v < 1 << 32).ok_or(WRONG)?;
                    match key {
                        "count" => ping.count = value,
                        "interval" => ping.interval = value * MS,
                        "timeout" => ping.timeout = value * MS,
                        "size" if value <= 1400 => ping.size = value as usize,
                        _ => return Err(WRONG),
                    }
                }
            }
        }
        if ping.target == [0; 4] {
            return Err(WRONG);
        }
        self.state.ping_target = ping.target;
        self.state.reply = None;
        self.start(Job::Ping(ping));
        Ok(())
    }

    fn start_train<'a>(
        &mut self,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<(), &'static str> {
        const WRONG: &str = "train dst=IP|MAC [size=BYTES, 60 (64 with a VLAN) to 1514] [seconds=N | count=N] [flows=N up to 60000] [mbps=N]";
        // The low bits of the address tell the trains of different guests apart.
        self.trains += 1;
        let [.., a, b] = self.state.mac;
        let mut train = Train {
            id: u32::from_be_bytes([a, b, 0, 0]) | (self.trains & 0xffff).max(1),
            mac: None,
            ip: [192, 0, 2, 1],
            size: 64,
            count: u64::MAX,
            duration: u64::MAX,
            flows: 1,
            mbps: 0,
            started: None,
            sent: 0,
        };
        let mut target = false;
        for word in words {
            let (key, value) = word.split_once('=').ok_or(WRONG)?;
            if key == "dst" {
                target = true;
                if let Some(mac) = parse_mac(value) {
                    train.mac = Some(mac);
                } else {
                    train.ip = parse_ip(value).ok_or(WRONG)?;
                }
                continue;
            }
            let value = parse_u64(value).filter(|&v| v > 0).ok_or(WRONG)?;
            let tag = if self.state.vlan.is_some() { 4 } else { 0 };
            match key {
                "size" if (MIN_TRAIN + tag..=1514 + tag).contains(&value) => {
                    train.size = value as usize;
                }
                "seconds" if value <= 3600 => train.duration = value * SECOND,
                "ms" if value <= 3_600_000 => train.duration = value * MS,
                "count" => train.count = value,
                "mbps" if value <= 1_000_000 => train.mbps = value,
                "flows" if value <= 60_000 => train.flows = value as u16,
                _ => return Err(WRONG),
            }
        }
        if !target {
            return Err(WRONG);
        }
        if train.count == u64::MAX && train.duration == u64::MAX {
            train.duration = SECOND;
        }
        self.start(Job::Train(train));
        Ok(())
    }

    fn start(&mut self, job: Job) {
        self.arp_due = 0;
        self.arp_tries = 0;
        self.job = job;
    }
}
