//! Controllers' connections: those the switch makes, and those it waits for.

use super::super::peer::Kind;
use super::super::rconn::{CONNECT_TIMEOUT_MIN, Reconnect, Step};
use super::super::{
    Bridge, Command, Controller, ControllerStatus, MAX_SERVICE_CONNECTIONS, target,
};
use super::auxiliary::Spec;
use super::converse::{Line, converse};
use super::{accept_failed, lock, told_to_close, words};
use crate::config::desired::ControllerConf;
use ovsdb::transport::Listener;
use ovsdb::{Target, Tls, transport};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Serves a controller as configured, until it is removed.
pub(super) async fn run_controller(
    bridge: Arc<Bridge>,
    controller: Controller,
    run_dir: PathBuf,
    tls: Tls,
    changed: Arc<Notify>,
) {
    match target::parse(&controller.conf.target, &run_dir) {
        Err(why) => {
            tracing::warn!(
                "{}: controller \"{}\": {why}",
                bridge.name(),
                controller.conf.target
            );
            lock(&controller.status).problem = Some(why);
            changed.notify_one();
            let mut command = controller.command.subscribe();
            told_to_close(&mut command).await;
        }
        Ok(t) if t.is_active() => active(&bridge, &controller, &changed, &t, &tls).await,
        Ok(t) => passive(&bridge, &controller, &changed, &t, &tls).await,
    }
}

fn kind(conf: &ControllerConf) -> Kind {
    match conf.service {
        true => Kind::Service,
        false => Kind::Primary,
    }
}

/// Keeps one connection up.
async fn active(
    bridge: &Arc<Bridge>,
    controller: &Controller,
    changed: &Arc<Notify>,
    peer: &Target,
    tls: &Tls,
) {
    let target = &controller.conf.target;
    let what = format!("{}<->{target}", bridge.name());
    let mut command = controller.command.subscribe();
    lock(&controller.status).reconnect = Some(Reconnect::new(
        bridge.now(),
        controller.conf.max_backoff,
        controller.conf.probe,
    ));
    // `None` only if someone else took the state away, which nobody does.
    let with = |f: &mut dyn FnMut(&mut Reconnect)| {
        if let Some(r) = &mut lock(&controller.status).reconnect {
            f(r);
        }
    };
    let mut said = String::new();
    loop {
        if *command.borrow_and_update() == Command::Close {
            return;
        }
        let mut step = Step::Wait;
        with(&mut |r| step = r.poll(bridge.now()));
        match step {
            Step::Connect => {
                let mut due = bridge.now() + CONNECT_TIMEOUT_MIN;
                with(&mut |r| {
                    if let Step::WaitUntil(t) = r.poll(bridge.now()) {
                        due = t;
                    }
                });
                let left = due.saturating_sub(bridge.now());
                let conf = bridge
                    .controller_conf(target)
                    .unwrap_or_else(|| controller.conf.clone());
                let outcome = tokio::select! {
                    r = tokio::time::timeout(left, transport::dial(peer, tls, conf.dscp)) => r,
                    _ = command.changed() => {
                        with(&mut |r| r.reconnect(bridge.now()));
                        continue;
                    }
                };
                let why = match outcome {
                    Ok(Ok(stream)) => {
                        let over_network = !matches!(peer, Target::Unix(_));
                        let line = Line {
                            what: what.clone(),
                            uri: target.clone(),
                            kind: kind(&conf),
                            limit: Some(controller.limit.subscribe()),
                            enable_async: conf.enable_async,
                            queue_size: conf.queue_size,
                            status: controller.status.clone(),
                            command: command.clone(),
                            changed: Some(changed.clone()),
                            auxiliary: (over_network && conf.auxiliary > 0).then(|| Spec {
                                target: peer.clone(),
                                tls: tls.clone(),
                                dscp: conf.dscp,
                                number: conf.auxiliary,
                            }),
                        };
                        said.clear();
                        converse(stream, bridge, line).await
                    }
                    Ok(Err(e)) => words(&e),
                    Err(_) => "Connection timed out".to_owned(),
                };
                if *command.borrow() != Command::Run && command.has_changed().unwrap_or(true) {
                    with(&mut |r| r.reconnect(bridge.now()));
                } else {
                    if said != why {
                        tracing::warn!(target: "switchd::agent::rconn", "{what}: connection failed ({why})");
                        said.clone_from(&why);
                    }
                    with(&mut |r| r.failed(bridge.now(), why.clone()));
                }
                changed.notify_one();
            }
            Step::WaitUntil(t) => {
                let wait = t.saturating_sub(bridge.now());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = command.changed() => with(&mut |r| r.reconnect(bridge.now())),
                }
            }
            // Only a connection that is up says these, and that is handled where it is served.
            Step::Probe | Step::Disconnect | Step::Wait => tokio::task::yield_now().await,
        }
    }
}

/// Listens for controllers.
async fn passive(
    bridge: &Arc<Bridge>,
    controller: &Controller,
    changed: &Arc<Notify>,
    at: &Target,
    tls: &Tls,
) {
    let mut command = controller.command.subscribe();
    let listener = match Listener::bind(at, tls).await {
        Ok(l) => l,
        Err(e) => {
            let why = format!("cannot listen ({})", words(&e));
            tracing::error!("{}: \"{}\": {why}", bridge.name(), controller.conf.target);
            lock(&controller.status).problem = Some(why);
            changed.notify_one();
            told_to_close(&mut command).await;
            return;
        }
    };
    lock(&controller.status).accepted = Some(0);
    changed.notify_one();
    let scheme = match at {
        Target::PassiveSsl { .. } => "ssl",
        Target::PassiveUnix(_) => "unix",
        _ => "tcp",
    };
    let mut n = 0u64;
    loop {
        n += 1;
        tokio::select! {
            () = told_to_close(&mut command) => return,
            r = listener.accept() => match r {
                Ok(_) if lock(&controller.status).accepted.unwrap_or(0) >= MAX_SERVICE_CONNECTIONS => {}
                Ok((caller, address)) => {
                    let conf = bridge
                        .controller_conf(&controller.conf.target)
                        .unwrap_or_else(|| controller.conf.clone());
                    let line = Line {
                        what: format!("{}<->{}#{n}", bridge.name(), controller.conf.target),
                        uri: match address {
                            Some(a) => format!("{scheme}:{a}"),
                            None => scheme.to_owned(),
                        },
                        kind: kind(&conf),
                        limit: Some(controller.limit.subscribe()),
                        enable_async: conf.enable_async,
                        queue_size: conf.queue_size,
                        status: Arc::new(Mutex::new(ControllerStatus {
                            reconnect: Some(Reconnect::accepted(bridge.now(), conf.probe)),
                            ..ControllerStatus::default()
                        })),
                        command: controller.command.subscribe(),
                        changed: Some(changed.clone()),
                        auxiliary: None,
                    };
                    let (bridge, status, changed) =
                        (bridge.clone(), controller.status.clone(), changed.clone());
                    tokio::spawn(async move {
                        let count = |up: bool| {
                            if let Some(n) = &mut lock(&status).accepted {
                                *n = if up { *n + 1 } else { n.saturating_sub(1) };
                            }
                            changed.notify_one();
                        };
                        count(true);
                        match caller.greet(conf.dscp).await {
                            Ok(stream) => {
                                converse(stream, &bridge, line).await;
                            }
                            Err(e) => tracing::warn!("{}: {}", line.what, words(&e)),
                        }
                        count(false);
                    });
                }
                Err(e) => accept_failed(&controller.conf.target, &e).await,
            },
        }
    }
}
