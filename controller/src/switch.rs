//! A connected switch as the rest of the controller sees it: what is known of it, its counters, and
//! a way to ask it something. The connection's own task does the talking.

use crate::inventory::{DatapathId, Switch};
use openflow::{FlowMod, Message, MultipartReply, MultipartRequest};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a switch may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands that may wait for one switch's connection; more are refused as busy.
pub const MAX_COMMANDS: usize = 256;

/// Why a switch did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The connection ended.
    #[error("the switch disconnected before it answered")]
    Disconnected,
    /// No answer in [`ANSWER_TIMEOUT`].
    #[error("the switch did not answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// Too many requests wait already.
    #[error("too many requests wait for this switch; try again")]
    Busy,
    /// The switch answered with an error.
    #[error("the switch refused: {0}")]
    Refused(String),
}

/// Which of the flow changes of one command were refused, and how the switch put it.
pub type Refusals = Vec<(usize, String)>;

/// What a connection's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send a request, hand back its answer.
    Ask(Box<Message>, oneshot::Sender<Result<Message, RequestError>>),
    /// Send changes and a barrier; answer when the barrier is, with what was refused.
    Program(
        Vec<FlowMod>,
        oneshot::Sender<Result<Refusals, RequestError>>,
    ),
}

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packet-in messages received, LLDP aside.
    pub packet_ins: AtomicU64,
    /// Packet-out messages sent (LLDP not counted).
    pub packet_outs: AtomicU64,
    /// Flow-mod messages sent.
    pub flow_mods: AtomicU64,
    /// Flow-removed messages received.
    pub flow_removed: AtomicU64,
    /// Error messages received.
    pub errors: AtomicU64,
    /// LLDP frames received; they are not counted among the packet-ins.
    pub lldp_received: AtomicU64,
    /// LLDP frames sent.
    pub lldp_sent: AtomicU64,
    /// LLDP frames that were not believed.
    pub lldp_refused: AtomicU64,
}

impl Counters {
    /// Adds one.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Name, meaning and value of each.
    pub fn rows(&self) -> [(&'static str, &'static str, u64); 8] {
        let v = |c: &AtomicU64| c.load(Ordering::Relaxed);
        [
            (
                "packet_ins",
                "Packets the switch sent to the controller, LLDP aside",
                v(&self.packet_ins),
            ),
            (
                "packet_outs",
                "Packets the controller sent out, LLDP aside",
                v(&self.packet_outs),
            ),
            ("flow_mods", "Flow changes sent", v(&self.flow_mods)),
            (
                "flow_removed",
                "Ended flows reported by the switch",
                v(&self.flow_removed),
            ),
            ("errors", "Error messages from the switch", v(&self.errors)),
            (
                "lldp_received",
                "LLDP frames received",
                v(&self.lldp_received),
            ),
            ("lldp_sent", "LLDP frames sent", v(&self.lldp_sent)),
            (
                "lldp_refused",
                "LLDP frames that were not believed",
                v(&self.lldp_refused),
            ),
        ]
    }
}

/// A connected switch.
#[derive(Debug)]
pub struct SwitchHandle {
    /// Its id.
    pub dpid: DatapathId,
    /// When it connected.
    pub since: Instant,
    /// Its counters.
    pub counters: Counters,
    info: RwLock<Switch>,
    commands: mpsc::Sender<Command>,
    close: watch::Sender<bool>,
}

impl SwitchHandle {
    pub(crate) fn new(
        info: Switch,
        commands: mpsc::Sender<Command>,
        close: watch::Sender<bool>,
    ) -> SwitchHandle {
        SwitchHandle {
            dpid: info.dpid,
            since: Instant::now(),
            counters: Counters::default(),
            info: RwLock::new(info),
            commands,
            close,
        }
    }

    /// A copy of what is known.
    pub fn info(&self) -> Switch {
        self.with(Switch::clone)
    }

    /// Looks at what is known.
    pub fn with<T>(&self, f: impl FnOnce(&Switch) -> T) -> T {
        f(&self.info.read().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut Switch) -> T) -> T {
        f(&mut self.info.write().unwrap_or_else(|e| e.into_inner()))
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.close.send_replace(true);
    }

    /// Asks for statistics.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn ask(&self, request: MultipartRequest) -> Result<MultipartReply, RequestError> {
        let (tx, rx) = oneshot::channel();
        self.send(Command::Ask(
            Box::new(Message::MultipartRequest(request)),
            tx,
        ))?;
        match answer(rx).await? {
            Message::MultipartReply(r) => Ok(r),
            other => Err(RequestError::Refused(format!(
                "an answer of another kind: {other:?}"
            ))),
        }
    }

    /// Queues flow changes; they are sent in the order of these calls. The receiver is for
    /// [`answer`].
    ///
    /// # Errors
    /// If the connection is gone or has too much to do.
    pub(crate) fn program(
        &self,
        changes: Vec<FlowMod>,
    ) -> Result<oneshot::Receiver<Result<Refusals, RequestError>>, RequestError> {
        let (tx, rx) = oneshot::channel();
        self.send(Command::Program(changes, tx))?;
        Ok(rx)
    }

    fn send(&self, command: Command) -> Result<(), RequestError> {
        self.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => RequestError::Busy,
            mpsc::error::TrySendError::Closed(_) => RequestError::Disconnected,
        })
    }
}

/// Waits for a connection's answer.
///
/// # Errors
/// See [`RequestError`].
pub(crate) async fn answer<T>(
    rx: oneshot::Receiver<Result<T, RequestError>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, rx).await {
        Err(_) => Err(RequestError::Timeout),
        Ok(Err(_)) => Err(RequestError::Disconnected),
        Ok(Ok(r)) => r,
    }
}
