//! The commands of the control socket: one table of name, usage, number of arguments and function.

use super::registry::{self, Command, command};
use super::{fdb, qos, show, threads, trace, tunnels};
use crate::host::{self, Host};
use crate::log::Vlog;
use crate::plane::door::Door;
use crate::switch::Switch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What commands work on.
pub struct Context {
    /// The switch.
    pub switch: Arc<Switch>,
    /// The real datapath, for its clock; none in tests.
    pub door: Option<Arc<Door>>,
    /// The host's routes.
    pub host: Arc<Host>,
    /// Log levels.
    pub log: Arc<Vlog>,
    /// What `version` answers.
    pub version: String,
    /// Turns true to end the switch.
    pub exit: watch::Sender<bool>,
    /// The bounds of `pmd-stats-clear`.
    pub thread_base: std::sync::Mutex<Vec<crate::plane::ThreadStats>>,
    /// Whether `--enable-dummy` was given.
    pub dummy: bool,
}

/// In the order in which `list-commands` shows them.
const COMMANDS: &[Command<Context>] = &[
    command(
        "bridge/dump-flows",
        "[--offload-stats] bridge",
        1,
        2,
        |c, a| {
            let bridge = a
                .iter()
                .find(|a| !a.starts_with("--"))
                .ok_or("a bridge is missing")?;
            show::bridge_flows(&c.switch, bridge)
        },
    ),
    command("bridge/reconnect", "[bridge]", 0, 1, |c, a| {
        match a.first() {
            Some(name) => c.switch.bridge(name).ok_or("Unknown bridge")?.reconnect(),
            None => c.switch.bridges().iter().for_each(|b| b.reconnect()),
        }
        Ok(String::new())
    }),
    command("coverage/show", "", 0, 0, |c, _| {
        Ok(show::coverage(&c.switch))
    }),
    command("dpctl/dump-dps", "", 0, 0, |c, _| {
        Ok(show::dpctl_dps(&c.switch))
    }),
    command("dpctl/dump-flows", "[-m] [--names] [dp]", 0, 4, |c, a| {
        let o = show::FlowOptions::parse(a)?;
        if let Some(dp) = o.rest.first() {
            show::check_dp(dp)?;
        }
        Ok(show::cached_flows(&c.switch, None, &o, true))
    }),
    command("dpctl/show", "[-s] [dp...]", 0, usize::MAX, |c, a| {
        let mut statistics = false;
        for arg in a {
            match arg.as_str() {
                "-s" | "--statistics" => statistics = true,
                "-m" | "--more" => {}
                dp => show::check_dp(dp)?,
            }
        }
        Ok(show::dpctl(&c.switch, statistics))
    }),
    command(
        "dpif-netdev/pmd-perf-show",
        "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]",
        0,
        8,
        |_, _| {
            Err("histories and histograms of iterations are not kept; dpif-netdev/pmd-stats-show and \
                 dpif-netdev/pmd-rxq-show tell what threads and receive queues cost"
                .to_owned())
        },
    ),
    command("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0, 1, |c, a| {
        a.first().map_or(Ok(()), |dp| show::check_dp(dp))?;
        c.switch.plane().rebalance();
        Ok("pmd rxq rebalance requested.\n".to_owned())
    }),
    command(
        "dpif-netdev/pmd-rxq-show",
        "[-pmd core] [-secs secs] [dp]",
        0,
        5,
        |c, a| Ok(threads::queues(&c.switch, &threads::Options::parse(a)?)),
    ),
    command(
        "dpif-netdev/pmd-stats-clear",
        "[-pmd core] [dp]",
        0,
        3,
        |c, a| {
            let options = threads::Options::parse(a)?;
            let mut base = base(c);
            for t in c.switch.plane().thread_stats() {
                if options.core.is_none_or(|core| core == t.core) {
                    base.retain(|b| b.thread != t.thread);
                    base.push(t);
                }
            }
            Ok(String::new())
        },
    ),
    command(
        "dpif-netdev/pmd-stats-show",
        "[-pmd core] [dp]",
        0,
        3,
        |c, a| {
            Ok(threads::stats(
                &c.switch,
                &base(c),
                &threads::Options::parse(a)?,
            ))
        },
    ),
    command("dpif/dump-dps", "", 0, 0, |c, _| {
        Ok(show::dpif_dps(&c.switch))
    }),
    command(
        "dpif/dump-flows",
        "[-m] [--names | --no-names] bridge",
        1,
        4,
        |c, a| {
            let o = show::FlowOptions::parse(a)?;
            let bridge = o.rest.first().ok_or("a bridge is missing")?.clone();
            c.switch.bridge(&bridge).ok_or("no such bridge")?;
            Ok(show::cached_flows(&c.switch, Some(&bridge), &o, false))
        },
    ),
    command("dpif/show", "", 0, 0, |c, _| Ok(show::dpif(&c.switch))),
    command("exit", "[--cleanup]", 0, 1, |c, _| {
        c.exit.send_replace(true);
        Ok(String::new())
    }),
    command("fdb/add", "bridge port vlan mac", 4, 4, fdb::add),
    command("fdb/del", "bridge vlan mac", 3, 3, fdb::delete),
    command("fdb/flush", "[bridge]", 0, 1, fdb::flush),
    command("fdb/show", "bridge", 1, 1, |c, a| {
        fdb::show(&c.switch, &a[0])
    }),
    command("fdb/stats-clear", "[bridge]", 0, 1, fdb::clear_stats),
    command("fdb/stats-show", "bridge", 1, 1, |c, a| {
        fdb::stats(&c.switch, &a[0])
    }),
    command("list-commands", "", 0, 0, |_, _| {
        Ok(registry::list(COMMANDS))
    }),
    command("memory/show", "", 0, 0, |c, _| Ok(show::memory(&c.switch))),
    command(
        "netdev-dummy/receive",
        "name [--qid queue_id] packet|flow [--len packet_len]",
        2,
        usize::MAX,
        |c, a| {
            let port = dummy(c, &a[0])?;
            for hex in &a[1..] {
                let frame = parse_hex(hex)?;
                if !port.inject(&frame, Default::default()) {
                    return Err(format!(
                        "{}: a frame of {} bytes was not taken: the device is down, its queue full, or \
                         the frame has no valid length",
                        a[0],
                        frame.len()
                    ));
                }
            }
            Ok(String::new())
        },
    ),
    command(
        "netdev-dummy/set-admin-state",
        "[netdev] up|down",
        1,
        2,
        |c, a| {
            let (names, state) = match a {
                [state] => (dummies(c), state),
                [name, state] => (vec![name.clone()], state),
                _ => return Err("a state is missing".to_owned()),
            };
            let up = match state.as_str() {
                "up" => true,
                "down" => false,
                _ => return Err("Invalid Admin State".to_owned()),
            };
            for name in names {
                dummy(c, &name)?.set_up(up);
            }
            Ok("OK".to_owned())
        },
    ),
    command("ofproto/list", "", 0, 0, |c, _| {
        Ok(c.switch
            .bridges()
            .iter()
            .map(|b| format!("{}\n", b.name()))
            .collect())
    }),
    command(
        "ofproto/trace",
        "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        1,
        usize::MAX,
        trace::request::ofproto_trace,
    ),
    command(
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        2,
        usize::MAX,
        trace::request::trace_packet_out,
    ),
    command(
        "ovs/route/add",
        "ip_addr/prefix_len out_br_name [gw] [pkt_mark=mark]",
        2,
        5,
        |c, a| host::show::add_route(&c.host, a),
    ),
    command(
        "ovs/route/del",
        "ip_addr/prefix_len [pkt_mark=mark]",
        1,
        2,
        |c, a| host::show::delete_route(&c.host, a),
    ),
    command(
        "ovs/route/lookup",
        "ip_addr [pkt_mark=mark]",
        1,
        2,
        |c, a| host::show::lookup(&c.host, a),
    ),
    command("ovs/route/show", "", 0, 0, |c, _| {
        Ok(host::show::routes(&c.host))
    }),
    command("qos/show", "interface", 1, 1, |c, a| {
        qos::show(&c.switch, &a[0])
    }),
    command("qos/show-types", "interface", 1, 1, |c, a| {
        qos::show_types(&c.switch, &a[0])
    }),
    command("time/stop", "", 0, 0, |c, _| {
        clock(c)?.stop();
        Ok(String::new())
    }),
    command("time/warp", "[large_msecs] msecs", 1, 2, |c, a| {
        let ms: u64 = a[0]
            .parse()
            .map_err(|_| "invalid MSECS: a number of milliseconds is wanted".to_owned())?;
        if ms > 1_000_000_000_000 {
            return Err("invalid MSECS: at most 10^12".to_owned());
        }
        clock(c)?.warp(Duration::from_millis(ms));
        c.switch.plane().expire();
        Ok("warped".to_owned())
    }),
    command("tnl/arp/aging", "[SECS]", 0, 1, tunnels::aging),
    command("tnl/arp/flush", "", 0, 0, |c, _| {
        tunnels::flush_neighbours(c)
    }),
    command("tnl/arp/set", "BRIDGE IP MAC", 3, 3, tunnels::set_neighbour),
    command("tnl/arp/show", "", 0, 0, |c, _| tunnels::neighbours(c)),
    command("tnl/egress_port_range", "min max", 0, 2, |_, a| {
        Ok(tunnels::egress_ports(a))
    }),
    command("tnl/neigh/aging", "[SECS]", 0, 1, tunnels::aging),
    command("tnl/neigh/flush", "", 0, 0, |c, _| {
        tunnels::flush_neighbours(c)
    }),
    command(
        "tnl/neigh/set",
        "BRIDGE IP MAC",
        3,
        3,
        tunnels::set_neighbour,
    ),
    command("tnl/neigh/show", "", 0, 0, |c, _| tunnels::neighbours(c)),
    command("tnl/ports/show", "-v", 0, 1, |c, a| {
        Ok(tunnels::ports(c, a))
    }),
    command("upcall/show", "", 0, 0, |c, _| Ok(show::upcalls(&c.switch))),
    command("version", "", 0, 0, |c, _| Ok(c.version.clone())),
    command("vlog/close", "", 0, 0, |c, _| {
        c.log.close();
        Ok(String::new())
    }),
    command("vlog/list", "", 0, 0, |c, _| Ok(c.log.list())),
    command("vlog/reopen", "", 0, 0, |c, _| {
        c.log.reopen()?;
        Ok(String::new())
    }),
    command(
        "vlog/set",
        "{spec | PATTERN:destination:pattern}",
        1,
        usize::MAX,
        |c, a| {
            a.iter().try_for_each(|spec| c.log.set(spec))?;
            Ok(String::new())
        },
    ),
    command(
        "weir/trace",
        "[--json] [--packet hex] bridge [flow]",
        1,
        5,
        trace::request::weir_trace,
    ),
];

fn base(c: &Context) -> std::sync::MutexGuard<'_, Vec<crate::plane::ThreadStats>> {
    c.thread_base
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn clock(c: &Context) -> Result<&datapath::Clock, String> {
    match &c.door {
        Some(door) if c.dummy => Ok(door.clock()),
        _ => Err("the clock can only be moved with --enable-dummy".to_owned()),
    }
}

/// Names of the dummy interfaces.
fn dummies(c: &Context) -> Vec<String> {
    let state = c.switch.state();
    state
        .actual
        .bridges
        .values()
        .flat_map(|b| b.ports.values())
        .filter(|p| p.params.kind.starts_with("dummy"))
        .map(|p| p.params.name.clone())
        .collect()
}

fn dummy(c: &Context, name: &str) -> Result<datapath::port::dummy::DummyHandle, String> {
    // Only our own: other switches of the process have theirs.
    if !dummies(c).iter().any(|n| n == name) {
        return Err(format!("no dummy netdev named '{name}'"));
    }
    datapath::port::dummy::handle(name).ok_or_else(|| format!("no dummy netdev named '{name}'"))
}

/// A frame in hex digits. Other forms of a packet are not known here.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("bad packet or flow syntax: \"{text}\" is not a frame in hex digits");
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .ok_or_else(bad)?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(bad());
    }
    Ok(digits
        .chunks_exact(2)
        .map(|d| (d[0] << 4 | d[1]) as u8)
        .collect())
}

/// Runs a command.
pub fn run(context: &Context, name: &str, args: &[String]) -> Result<String, String> {
    registry::run(COMMANDS, context, name, args)
}
