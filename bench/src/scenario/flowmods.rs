//! Flow tables by OpenFlow: how fast they are filled, dumped and emptied, and what a flow costs in memory.
//!
//! A client over the bridge's management socket sends messages that were encoded before the clock starts, and waits for the answer to the
//! barrier behind them: the switch is what is measured. Plain flow-mods are written one by one, as `ovs-ofctl add-flows` does it; a bundle is
//! written at once. Rates are per second that all threads of the switch's process were on a
//! processor (`cpu`), which is the same on a busy machine, and per second that passed (`wall`).

use super::{Run, Scenario};
use crate::classbench::{self, Kind};
use crate::metric::{Table, Want};
use crate::peers::{Peer, Setup, Switch};
use anyhow::{Context, Result, bail, ensure};
use openflow::session::{End, Session};
use openflow::wire::{self, Frame, OF13};
use openflow::{
    BundleId, BundleStep, FlowFilter, FlowMod, FlowModCommand, Instructions, Match, Message,
    MultipartRequest, PortNo, TABLE_ALL,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Flows of a round.
const FLOWS: usize = 100_000;
/// Flows that have to fit.
const MANY: usize = 1_000_000;
/// Bytes that these may take.
const MANY_BYTES: f64 = (1u64 << 30) as f64;
/// Messages of one bundle of the many.
const BUNDLE: usize = 50_000;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(300);
/// `OFPT_BARRIER_REPLY`, `OFPT_MULTIPART_REPLY`, `OFPT_ERROR` and `OFPT_EXPERIMENTER` of OpenFlow 1.3.
const BARRIER_REPLY: u8 = 21;
const MULTIPART_REPLY: u8 = 19;
const ERROR: u8 = 1;

/// A connection without a session's bookkeeping, for bytes made before.
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Client {
    fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client {
            stream,
            input: Vec::new(),
        };
        let mut session = Session::new(End::Controller, &[OF13], None, Instant::now());
        client.stream.write_all(&session.take_output())?;
        while session.version().is_none() {
            let mut buffer = [0; 4096];
            let n = client.stream.read(&mut buffer)?;
            ensure!(n > 0, "the switch closed the OpenFlow connection");
            session.receive(&buffer[..n], Instant::now());
        }
        Ok(client)
    }

    /// Writes, then reads messages until `last` says that one is the last.
    fn ask(&mut self, bytes: &[u8], mut last: impl FnMut(&[u8]) -> bool) -> Result<()> {
        self.stream.write_all(bytes)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let mut at = 0;
            while let Frame::Message(n) = wire::frame(&self.input[at..]) {
                let message = &self.input[at..at + n];
                at += n;
                if message[1] == ERROR {
                    bail!("the switch refused a message: {:?}", wire::decode(message));
                }
                if last(message) {
                    self.input.drain(..at);
                    return Ok(());
                }
            }
            self.input.drain(..at);
            let n = self.stream.read(&mut buffer)?;
            ensure!(n > 0, "the switch closed the OpenFlow connection");
            self.input.extend_from_slice(&buffer[..n]);
        }
    }

    /// Writes messages the last of which is a barrier, and waits for its answer.
    fn settle(&mut self, bytes: &[u8]) -> Result<()> {
        self.ask(bytes, |m| m[1] == BARRIER_REPLY)
    }

    /// The same, each message by itself.
    fn settle_one_by_one(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Frame::Message(n) = wire::frame(bytes) {
            self.stream.write_all(&bytes[..n])?;
            bytes = &bytes[n..];
        }
        self.settle(&[])
    }

    /// Asks for all flows and counts them.
    fn dump(&mut self) -> Result<usize> {
        let request = MultipartRequest::Flow(FlowFilter::default());
        let request = wire::encode(OF13, 1, &Message::MultipartRequest(request))?;
        let mut flows = 0;
        self.ask(&request, |m| {
            if m[1] != MULTIPART_REPLY {
                return false;
            }
            let mut at = 16;
            while let Some(&[high, low]) = m.get(at..at + 2) {
                flows += 1;
                at += usize::from(u16::from_be_bytes([high, low])).max(1);
            }
            m[11] & 1 == 0
        })?;
        Ok(flows)
    }
}

/// Flow-mods one behind the other, then a barrier.
fn plain(mods: &[FlowMod]) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    for (xid, m) in (1..).zip(mods) {
        bytes.extend_from_slice(&wire::encode(OF13, xid, &Message::FlowMod(m.clone()))?);
    }
    bytes.extend_from_slice(&wire::encode(OF13, 0, &Message::BarrierRequest)?);
    Ok(bytes)
}

/// The same as a bundle that is opened, filled, closed and committed.
fn bundled(mods: &[FlowMod]) -> Result<Vec<u8>> {
    let id = BundleId {
        id: 7,
        atomic: true,
        ordered: true,
    };
    let step = |step| wire::encode(OF13, 0, &Message::BundleControl(step, id));
    let mut bytes = step(BundleStep::OpenRequest)?.to_vec();
    for (xid, m) in (1..).zip(mods) {
        let inner = Box::new(Message::FlowMod(m.clone()));
        bytes.extend_from_slice(&wire::encode(
            OF13,
            xid,
            &Message::BundleAdd(id, xid, inner),
        )?);
    }
    bytes.extend_from_slice(&step(BundleStep::CloseRequest)?);
    bytes.extend_from_slice(&step(BundleStep::CommitRequest)?);
    bytes.extend_from_slice(&wire::encode(OF13, 0, &Message::BarrierRequest)?);
    Ok(bytes)
}

fn delete_all() -> Result<Vec<u8>> {
    plain(&[FlowMod {
        command: FlowModCommand::Delete,
        table: TABLE_ALL,
        out_port: PortNo::ANY,
        ..FlowMod::add(Match::new(), Instructions::default())
    }])
}

/// Rules of TCP and UDP connections, or with all kinds of masks; each sends to one of twenty ports.
fn mods(kind: Kind, n: usize) -> Vec<FlowMod> {
    let rules = classbench::rules(kind, n, 7);
    let port = |i: usize| 1 + i as u32 % 20;
    rules
        .iter()
        .enumerate()
        .map(|(i, r)| r.flow_mod(port(i)))
        .collect()
}

/// A switch by itself, with one bridge and no traffic.
fn start(kind: Peer) -> Result<Switch> {
    let mut switch = Switch::prepare(kind, 0)?;
    switch.start(&Setup {
        private: true,
        ..Setup::default()
    })?;
    Ok(switch)
}

/// Seconds that the switch's process was on a processor, all its threads together.
fn on_cpu(switch: &Switch) -> f64 {
    let threads = crate::machine::thread_times(switch.pid());
    threads.iter().map(|t| t.ran as f64 / 1e9).sum()
}

/// What something took.
struct Took {
    cpu: f64,
    wall: f64,
}

fn measure<R>(switch: &Switch, f: impl FnOnce() -> Result<R>) -> Result<(Took, R)> {
    let (cpu, wall) = (on_cpu(switch), Instant::now());
    let result = f()?;
    let took = Took {
        wall: wall.elapsed().as_secs_f64(),
        cpu: on_cpu(switch) - cpu,
    };
    Ok((took, result))
}

fn sample(kind: Peer, name: &str, mods: &[FlowMod], table: &mut Table) -> Result<()> {
    let switch = start(kind)?;
    let mut client = Client::connect(&switch.openflow())?;
    let n = mods.len() as f64;
    let (plain, bundled, delete) = (plain(mods)?, bundled(mods)?, delete_all()?);
    let mut rate = |what: &str, took: &Took| {
        for (how, seconds) in [("cpu", took.cpu), ("wall", took.wall)] {
            let metric = format!("{name}.{what}.{how}");
            table.add(&metric, "flows/s", kind, n / seconds, None);
        }
    };
    let settle = |client: &mut Client, bytes: &[u8]| measure(&switch, || client.settle(bytes));
    settle(&mut client, &delete)?;
    let empty = switch.memory()?;
    rate(
        "plain",
        &measure(&switch, || client.settle_one_by_one(&plain))?.0,
    );
    let full = switch.memory()?;
    let (took, flows) = measure(&switch, || client.dump())?;
    ensure!(flows == mods.len(), "{flows} flows of {}", mods.len());
    rate("dump", &took);
    rate("delete", &settle(&mut client, &delete)?.0);
    rate("bundled", &settle(&mut client, &bundled)?.0);
    ensure!(client.dump()? == mods.len(), "not all of the bundle");
    table.add(
        &format!("{name}.memory"),
        "bytes/flow",
        kind,
        (full - empty) / n,
        None,
    );
    Ok(())
}

/// A million flows; what they take.
fn many(table: &mut Table, name: &str) -> Result<()> {
    let switch = start(Peer::Weir)?;
    let mut client = Client::connect(&switch.openflow())?;
    let mods = mods(Kind::Exact, MANY);
    for part in mods.chunks(BUNDLE) {
        client.settle(&bundled(part)?)?;
    }
    // What a bundle took on its way is given back soon, not at once.
    std::thread::sleep(Duration::from_secs(1));
    table.add(
        &format!("{name}.resident"),
        "bytes",
        Peer::Weir,
        switch.memory()?,
        None,
    );
    let (took, flows) = measure(&switch, || client.dump())?;
    ensure!(flows == MANY, "{flows} flows of {MANY}");
    let metric = format!("{name}.dump");
    table.add(
        &metric,
        "flows/s",
        Peer::Weir,
        MANY as f64 / took.wall,
        None,
    );
    Ok(())
}

fn scenario(name: &'static str, kind: Kind, about: &'static str) -> Scenario {
    Scenario::new(name, about, move |run: &mut Run, name: &str| {
        let beside = |factor| Want::Ratio(Peer::Ovs, factor);
        run.table.want(&format!("{name}.plain.cpu"), beside(5.0));
        run.table.want(&format!("{name}.bundled.cpu"), beside(3.0));
        let memory = Want::RatioAtMost(Peer::Ovs, 1.0);
        run.table.want(&format!("{name}.memory"), memory);
        let mods = mods(kind, if run.smoke { FLOWS / 20 } else { FLOWS });
        let mut switches: Vec<Peer> = run.switches.to_vec();
        switches.retain(|p| matches!(p, Peer::Weir | Peer::Ovs));
        for _ in 0..run.rounds {
            switches.retain(|&p| match sample(p, name, &mods, run.table) {
                Ok(()) => true,
                Err(e) => {
                    run.table.failed(name, p, &e);
                    false
                }
            });
        }
        Ok(())
    })
}

/// Exact rules, mixed ones, and very many.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "flowmods-exact",
            Kind::Exact,
            "100,000 flows exact in five fields: added one by one and as a bundle, dumped, deleted (--peer ovs)",
        ),
        scenario(
            "flowmods-mixed",
            Kind::Acl,
            "the same with access lists of about a thousand masks (--peer ovs)",
        ),
        Scenario::new(
            "flowmods-million",
            "1,000,000 exact flows, weir alone",
            |run, name| {
                run.table
                    .want(&format!("{name}.resident"), Want::AtMost(MANY_BYTES));
                if run.switches.contains(&Peer::Weir) && !run.smoke {
                    many(run.table, name)?;
                }
                Ok(())
            },
        ),
    ]
}
