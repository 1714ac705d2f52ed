//! Auxiliary connections (OpenFlow 1.3.5 6.3.7): further connections to a controller beside the main one,
//! over TCP or TLS as that is, of which `Controller.other_config:auxiliary-connections` says how many.
//!
//! They carry requests and answers in parallel, under the role of the main connection; what nobody asked
//! for comes by the main connection alone. They are tried for again while the main connection lasts, and
//! end with it.

use super::super::conversation::Conversation;
use super::super::peer::{Kind, Peer};
use super::super::{Bridge, ConnId, ControllerStatus};
use super::converse::{Hears, Line, agree, serve};
use super::words;
use ovsdb::{Target, Tls, transport};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How many a controller can be given.
pub const MAX_AUXILIARY: u8 = 16;
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Which connections are wanted.
#[derive(Clone)]
pub(super) struct Spec {
    pub(super) target: Target,
    pub(super) tls: Tls,
    pub(super) dscp: u8,
    pub(super) number: u8,
}

/// The tasks of one main connection's.
pub(super) struct Auxiliaries {
    _tasks: JoinSet<()>,
}

impl Auxiliaries {
    /// Begins to connect for the main connection `main`.
    pub(super) fn start(
        spec: &Spec,
        bridge: &Arc<Bridge>,
        main: ConnId,
        line: &Line,
    ) -> Auxiliaries {
        let mut tasks = JoinSet::new();
        for number in 1..=spec.number.min(MAX_AUXILIARY) {
            let line = Line {
                what: format!("{} auxiliary {number}", line.what),
                uri: line.uri.clone(),
                kind: Kind::Primary,
                limit: None,
                enable_async: false,
                queue_size: 0,
                // Whether it is alive is not told, and not asked: the main connection is.
                status: Arc::new(Mutex::new(ControllerStatus::default())),
                command: line.command.clone(),
                changed: None,
                auxiliary: None,
            };
            tasks.spawn(keep_up(spec.clone(), bridge.clone(), main, number, line));
        }
        Auxiliaries { _tasks: tasks }
    }
}

async fn keep_up(spec: Spec, bridge: Arc<Bridge>, main: ConnId, number: u8, line: Line) {
    let mut said = String::new();
    loop {
        let why = match transport::dial(&spec.target, &spec.tls, spec.dscp).await {
            Err(e) => words(&e),
            Ok(mut stream) => {
                let mut talk = Conversation::new(&bridge.identity().protocols);
                match agree(&mut stream, &mut talk, &bridge).await {
                    Err(why) => why,
                    Ok(version) => {
                        let mut peer = Peer::auxiliary(main, version, number);
                        let (_never, overflow) = watch::channel(false);
                        let mut hears = Hears {
                            queue: None,
                            overflow,
                            monitors: Arc::default(),
                            wake: Arc::new(Notify::new()),
                        };
                        serve(stream, &bridge, &mut peer, talk, &mut hears, &line).await
                    }
                }
            }
        };
        if said != why {
            tracing::info!("{}: {why}", line.what);
            said = why;
        }
        tokio::time::sleep(RETRY).await;
    }
}
