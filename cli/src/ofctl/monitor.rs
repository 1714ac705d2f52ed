//! What a switch says by itself: `monitor` and `snoop`.
//!
//! Both may go into the background and be told by `ovs-appctl` what to send, to pause and to end. The
//! control socket's commands are carried out by the loop that reads the connection, one at a time;
//! what it prints goes to standard error, as with the stock tool.

use super::conn::{Conn, Socket, runtime};
use super::{Options, names, packets, version_options};
use anyhow::{Result, anyhow, bail};
use openflow::text::{Names, Protocols, parse_flow_monitor};
use openflow::wire;
use openflow::{Message, MultipartRequest, SwitchConfig};
use std::io::Write;
use std::sync::Arc;
use switchd::control::ControlSocket;
use switchd::control::registry::{Command, command, list, run};
use tokio::sync::mpsc;

use crate::daemon::Started;
use crate::exit::words;

/// `OFPC_INVALID_TTL_TO_CONTROLLER`.
const INVALID_TTL: u16 = 4;

/// The versions that have it.
const WITH_INVALID_TTL: &[u8] = &[1, 2, 3];

/// Most control commands that wait; more wait in their clients.
const QUEUE: usize = 16;

/// `monitor SWITCH [MISSLEN] [invalid_ttl] [watch:...]`
pub fn monitor(o: &Options, a: &[&str]) -> Result<()> {
    let mut o = o.clone();
    if a[1..].contains(&"invalid_ttl") {
        let able = WITH_INVALID_TTL.iter();
        let able = able.fold(Protocols::NONE, |all, v| all.or(Protocols::of_version(*v)));
        o.allowed = o.allowed.and(able);
        if o.allowed.is_empty() {
            let list = version_options(WITH_INVALID_TTL);
            bail!(
                "invalid_ttl requires one of the OpenFlow versions {list} but none is enabled (use -O)"
            );
        }
    }
    let started = start(&mut o)?;
    let mut conn = names::open(&o, a[0])?;
    let names = names::shown(&o, a[0])?;
    let mut resume = false;
    let mut watches = 0;
    for arg in &a[1..] {
        if arg.starts_with(|c: char| c.is_ascii_digit()) {
            let digits: String = arg.chars().take_while(char::is_ascii_digit).collect();
            set_miss_len(&o, &mut conn, digits.parse().unwrap_or(u16::MAX))?;
        } else if *arg == "invalid_ttl" {
            set_invalid_ttl(&o, &mut conn)?;
        } else if let Some(spec) = arg.strip_prefix("watch:") {
            let known = names::accepted(&o, a[0])?;
            let mut request = parse_flow_monitor(spec, watches, &known)?;
            // Before OpenFlow 1.4 "own" is another bit.
            if conn.version < wire::OF14 && request.flags & 0x40 != 0 {
                request.flags ^= 0x60;
            }
            watches += 1;
            let q = Message::MultipartRequest(MultipartRequest::FlowMonitor(vec![request]));
            conn.show(&q, &o.style(&names, 1))?;
            std::io::stdout().flush()?;
        } else if *arg == "resume" {
            resume = true;
            set_miss_len(&o, &mut conn, u16::MAX)?;
        } else {
            bail!("{arg}: unsupported \"monitor\" argument");
        }
    }
    choose_packet_in_format(&o, &mut conn)?;
    let task = Task {
        answers_echoes: true,
        resumes: resume,
    };
    task.listen(&o, conn, &names, started)
}

/// `snoop SWITCH`
pub fn snoop(o: &Options, a: &[&str]) -> Result<()> {
    let mut o = o.clone();
    let started = start(&mut o)?;
    let conn = Conn::open(&o, a[0], Socket::Snoop)?;
    let names = names::shown(&o, a[0])?;
    let task = Task {
        answers_echoes: false,
        resumes: false,
    };
    task.listen(&o, conn, &names, started)
}

/// Goes into the background if asked to.
fn start(o: &mut Options) -> Result<Started> {
    o.daemon.keep_output = true;
    o.daemon.start().map_err(|code| {
        // The process that waited for the one in the background has nothing more to do.
        let done = code == std::process::ExitCode::SUCCESS;
        super::Ended(u8::from(!done)).into()
    })
}

fn config(conn: &mut Conn) -> Result<SwitchConfig> {
    let name = conn.name.clone();
    match conn.ask_any(&Message::GetConfigRequest)?.message {
        Message::GetConfigReply(c) => Ok(c),
        _ => bail!("{name}: bad reply to config request"),
    }
}

fn set_miss_len(o: &Options, conn: &mut Conn, len: u16) -> Result<()> {
    let mut c = config(conn)?;
    c.miss_send_len = len;
    conn.change(&[Message::SetConfig(c)], &o.style(&Names::default(), 2))
}

fn set_invalid_ttl(o: &Options, conn: &mut Conn) -> Result<()> {
    let mut c = config(conn)?;
    if c.flags & INVALID_TTL == 0 {
        c.flags |= INVALID_TTL;
        conn.change(&[Message::SetConfig(c)], &o.style(&Names::default(), 2))?;
        if config(conn)?.flags & INVALID_TTL == 0 {
            bail!(
                "setting invalid_ttl_to_controller failed (this switch probably doesn't support this flag)"
            );
        }
    }
    Ok(())
}

fn choose_packet_in_format(o: &Options, conn: &mut Conn) -> Result<()> {
    if let Some(format) = o.packet_in {
        let wanted = Message::SetPacketInFormat(format);
        return conn.change(&[wanted], &o.style(&Names::default(), 2));
    }
    // Nicira's second form tells most; its first is there in OpenFlow 1.0 alone.
    if conn.try_change(&Message::SetPacketInFormat(2))?.is_some() && conn.version == wire::OF10 {
        conn.try_change(&Message::SetPacketInFormat(1))?;
    }
    Ok(())
}

/// A command for the loop, with the way back for its answer.
enum Order {
    Exit,
    Send(Vec<String>),
    PacketOut(String),
    Barrier,
    Block(bool),
}

type Answer = Result<String, String>;
type Reply = std::sync::mpsc::Sender<Answer>;

/// What the control socket's commands work on.
struct Control(mpsc::Sender<(Order, Reply)>);

impl Control {
    fn ask(&self, order: Order) -> Answer {
        let (reply, answer) = std::sync::mpsc::channel();
        let gone = || "the connection has ended".to_owned();
        self.0.blocking_send((order, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

const COMMANDS: &[Command<Control>] = &[
    command("exit", "", 0, 0, |c, _| c.ask(Order::Exit)),
    command("ofctl/barrier", "", 0, 0, |c, _| c.ask(Order::Barrier)),
    command("ofctl/block", "", 0, 0, |c, _| c.ask(Order::Block(true))),
    command(
        "ofctl/packet-out",
        "\"in_port=<port> packet=<hex data> actions=...\"",
        1,
        1,
        |c, a| c.ask(Order::PacketOut(a[0].clone())),
    ),
    command("ofctl/send", "OFMSG...", 1, usize::MAX, |c, a| {
        c.ask(Order::Send(a.to_vec()))
    }),
    command("ofctl/set-output-file", "FILE", 1, 1, |_, a| {
        let file = std::fs::File::create(&a[0]).map_err(|e| words(&e))?;
        rustix::stdio::dup2_stderr(&file).map_err(|e| words(&e.into()))?;
        Ok(String::new())
    }),
    command("ofctl/unblock", "", 0, 0, |c, _| c.ask(Order::Block(false))),
    command("list-commands", "", 0, 0, |_, _| Ok(list(COMMANDS))),
    command("version", "", 0, 0, |_, _| {
        Ok(format!("ovs-ofctl (weir) {}\n", env!("CARGO_PKG_VERSION")))
    }),
];

/// What is done with what comes.
struct Task {
    answers_echoes: bool,
    /// Paused pipelines go on at once.
    resumes: bool,
}

impl Task {
    fn listen(&self, o: &Options, mut conn: Conn, names: &Names, started: Started) -> Result<()> {
        let mut started = Some(started);
        runtime()?.block_on(async {
            let path = o.daemon.unixctl.as_deref();
            let wanted = path.is_none_or(|p| p.as_os_str() != "none");
            let (orders, mut inbox) = mpsc::channel(QUEUE);
            let socket = match wanted {
                true => Some(
                    ControlSocket::bind(&o.daemon.run_dir, "ovs-ofctl", path)
                        .map_err(|e| anyhow!("failed to create unixctl server ({})", words(&e)))?,
                ),
                false => None,
            };
            if let Some(s) = &mut started {
                s.ready();
            }
            // What it says goes to standard error; whoever reads standard output need not wait.
            if o.daemon.detach
                && let Ok(null) = std::fs::File::options().write(true).open("/dev/null")
            {
                let _ = rustix::stdio::dup2_stdout(&null);
            }
            let control = Arc::new(Control(orders));
            let serve = async {
                match &socket {
                    Some(s) => {
                        s.serve(Arc::new(move |name: &str, args: &[String]| {
                            run(COMMANDS, &*control, name, args)
                        }))
                        .await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = self.watch(o, &mut conn, names, &mut inbox, &mut started) => result,
                () = serve => Ok(()),
                () = crate::daemon::shutdown()? => Ok(()),
            }
        })
    }

    async fn watch(
        &self,
        o: &Options,
        conn: &mut Conn,
        names: &Names,
        inbox: &mut mpsc::Receiver<(Order, Reply)>,
        started: &mut Option<Started>,
    ) -> Result<()> {
        let mut blocked = false;
        let mut barrier: Option<Reply> = None;
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((order, reply)) = order else {
                        return Ok(());
                    };
                    let answer = match order {
                        Order::Exit => {
                            // Whoever hears the answer may start the next at once.
                            *started = None;
                            let _ = reply.send(Ok(String::new()));
                            // The answer goes out before the socket goes.
                            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                            return Ok(());
                        }
                        Order::Block(on) if blocked == on => {
                            let word = if on { "already blocking" } else { "already unblocked" };
                            Ok(word.to_owned())
                        }
                        Order::Block(on) => {
                            blocked = on;
                            Ok(String::new())
                        }
                        Order::Send(messages) => send(o, conn, names, &messages).await,
                        Order::PacketOut(text) => packet_out(o, conn, names, &text).await,
                        Order::Barrier if barrier.is_some() => {
                            Err("already waiting for barrier reply".to_owned())
                        }
                        Order::Barrier => match put(conn, &Message::BarrierRequest).await {
                            Ok(_) => {
                                barrier = Some(reply);
                                continue;
                            }
                            Err(e) => Err(e),
                        },
                    };
                    let _ = reply.send(answer);
                }
                frame = conn.next_frame(), if !blocked => {
                    let frame = frame.map_err(|e| match e.kind() {
                        std::io::ErrorKind::UnexpectedEof => anyhow!("vconn_recv (End of file)"),
                        _ => anyhow!("vconn_recv ({})", words(&e)),
                    })?;
                    self.take(o, conn, names, &frame, &mut barrier).await?;
                }
            }
        }
    }

    /// Prints a message and does what it asks for.
    async fn take(
        &self,
        o: &Options,
        conn: &mut Conn,
        names: &Names,
        frame: &[u8],
        barrier: &mut Option<Reply>,
    ) -> Result<()> {
        let stamp = if o.timestamp { now() } else { String::new() };
        tell(&format!("{stamp}{}", o.style(names, 2).bytes(frame)));
        let Ok(d) = wire::decode(frame) else {
            return Ok(());
        };
        match d.message {
            Message::BarrierReply => {
                if let Some(reply) = barrier.take() {
                    let _ = reply.send(Ok(String::new()));
                }
            }
            Message::EchoRequest(data) if self.answers_echoes => {
                let bytes = wire::encode(conn.version, d.xid, &Message::EchoReply(data))?;
                conn.write(&bytes)
                    .await
                    .map_err(|e| anyhow!("failed to send echo reply ({})", words(&e)))?;
            }
            Message::PacketIn2(p) if self.resumes && p.continuation.is_some() => {
                let bytes = wire::encode(conn.version, 0, &Message::Resume(p))?;
                tell(&format!("send: {}", o.style(names, 2).bytes(&bytes)));
                conn.write(&bytes)
                    .await
                    .map_err(|e| anyhow!("failed to send NXT_RESUME ({})", words(&e)))?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn tell(text: &str) {
    let mut err = std::io::stderr();
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

/// The time of day in UTC, as before each message with `--timestamp`.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{}: ",
        super::pcap::date_and_time(since.unwrap_or_default())
    )
}

async fn put(conn: &mut Conn, message: &Message) -> Result<(), String> {
    let bytes =
        wire::encode(conn.version, super::conn::xid(), message).map_err(|e| e.to_string())?;
    conn.write(&bytes).await.map_err(|e| words(&e))
}

/// `ofctl/send`: messages in hex.
async fn send(o: &Options, conn: &mut Conn, names: &Names, messages: &[String]) -> Answer {
    let (mut ok, mut said) = (true, String::new());
    for text in messages {
        let outcome = match packets::message_from_hex(text) {
            Err(e) => Err(e.to_string()),
            Ok(bytes) => {
                tell(&format!("send: {}", o.style(names, 0).bytes(&bytes)));
                conn.write(&bytes).await.map_err(|e| words(&e))
            }
        };
        ok &= outcome.is_ok();
        said.push_str(&outcome.err().unwrap_or_else(|| "sent".into()));
        said.push('\n');
    }
    if ok { Ok(said) } else { Err(said) }
}

/// `ofctl/packet-out`
async fn packet_out(o: &Options, conn: &mut Conn, names: &Names, text: &str) -> Answer {
    let line = packets::parse_line(text, names).map_err(|e| format!("{e}\n"))?;
    if !line.usable.contains(conn.protocol) {
        return Err("PACKET_OUT actions are incompatible with the OpenFlow connection.\n".into());
    }
    let message = Message::PacketOut(line.packet_out);
    let bytes =
        wire::encode(conn.version, super::conn::xid(), &message).map_err(|e| e.to_string())?;
    tell(&o.style(names, 0).bytes(&bytes));
    conn.write(&bytes).await.map_err(|e| words(&e))?;
    Ok(String::new())
}
