//! The switch: what is configured, what is in the forwarding plane, and the bridges' OpenFlow sides.
//!
//! One lock over the configuration state; it is held while steps are carried out and reports are
//! made, never while waiting for the network. The bridges' OpenFlow sides have locks of their own.

use crate::agent::Bridge;
use crate::agent::failmode::FailModes;
use crate::config::desired::{Desired, InterfaceConf};
use crate::config::diff::{Actual, ActualBridge, ActualPort, Step, steps};
use crate::config::mirror;
use crate::config::report::{self, InterfaceReport, Out, Row};
use crate::plane::{Plane, PortParams};
use openflow::PortNo;
use ovsdb::Uuid;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rounds of steps until they must have come to rest; more would mean that two rules disagree.
const MAX_ROUNDS: usize = 8;

/// Columns to write into one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowReport {
    /// Table.
    pub table: &'static str,
    /// Row.
    pub uuid: Uuid,
    /// Columns as they should read.
    pub columns: Row,
}

/// Configuration state.
#[derive(Default)]
pub struct State {
    /// As last read from the database.
    pub desired: Desired,
    /// As carried out.
    pub actual: Actual,
    /// OpenFlow sides by bridge name.
    pub bridges: BTreeMap<String, Arc<Bridge>>,
    /// What was last logged of an interface or bridge, so that it is logged once.
    logged: BTreeMap<String, String>,
}

/// The switch.
pub struct Switch {
    plane: Arc<dyn Plane>,
    state: Mutex<State>,
    version: String,
}

impl Switch {
    /// An empty switch over a forwarding plane. `version` is what it calls itself to controllers.
    pub fn new(plane: Arc<dyn Plane>, version: impl Into<String>) -> Switch {
        Switch {
            plane,
            state: Mutex::default(),
            version: version.into(),
        }
    }

    /// The forwarding plane.
    pub fn plane(&self) -> &Arc<dyn Plane> {
        &self.plane
    }

    /// The version it was given.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The state, locked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bridge's OpenFlow side.
    pub fn bridge(&self, name: &str) -> Option<Arc<Bridge>> {
        self.state().bridges.get(name).cloned()
    }

    /// All bridges' OpenFlow sides, by name.
    pub fn bridges(&self) -> Vec<Arc<Bridge>> {
        self.state().bridges.values().cloned().collect()
    }

    /// Makes the plane be what the database says, as far as that can be. With `retry`, what failed
    /// before is tried again.
    pub fn configure(&self, desired: Desired, retry: bool) {
        let mut state = self.state();
        let state = &mut *state;
        state.desired = desired;
        if let Some(root) = &mut state.desired.root
            && let Err(why) = self.plane.set_threads(&root.threads)
        {
            root.notes.push(why);
        }
        if let Some(root) = &state.desired.root {
            self.plane.set_vlan_limit(root.vlan_limit);
        }
        let mut retry = retry;
        for round in 0.. {
            let todo = steps(&state.desired, &state.actual, retry);
            retry = false;
            if todo.is_empty() {
                break;
            }
            if round == MAX_ROUNDS {
                tracing::error!("configuration does not come to rest; left to do: {todo:?}");
                break;
            }
            for step in todo {
                self.carry_out(state, step);
            }
        }
        for (name, conf) in &state.desired.bridges {
            if !state.actual.bridges.contains_key(name) {
                continue;
            }
            let bridge = state.bridges.entry(name.clone()).or_insert_with(|| {
                Arc::new(Bridge::new(
                    name.clone(),
                    self.plane.clone(),
                    self.version.clone(),
                    FailModes::new(),
                ))
            });
            let id = state.actual.bridges[name].params.datapath_id;
            bridge.configure(conf, id);
        }
        log_notes(state);
    }

    fn carry_out(&self, state: &mut State, step: Step) {
        let actual = &mut state.actual;
        match step {
            Step::RemovePort { bridge, interface } => {
                if let Some(b) = actual.bridges.get_mut(&bridge)
                    && let Some(p) = b.ports.remove(&interface)
                {
                    self.plane.remove_port(&bridge, p.number);
                    tracing::info!(
                        "bridge {bridge}: deleted interface {interface} on port {}",
                        number(p.number)
                    );
                }
            }
            Step::RemoveBridge { bridge } => {
                if let Some(b) = state.bridges.remove(&bridge) {
                    b.close();
                }
                if let Some(b) = actual.bridges.remove(&bridge) {
                    for (interface, p) in b.ports {
                        self.plane.remove_port(&bridge, p.number);
                        tracing::info!(
                            "bridge {bridge}: deleted interface {interface} on port {}",
                            number(p.number)
                        );
                    }
                }
                self.plane.remove_bridge(&bridge);
            }
            Step::AddBridge { bridge, params } => match self.plane.add_bridge(&bridge, &params) {
                Ok(()) => {
                    tracing::info!(
                        "bridge {bridge}: using datapath ID {:016x}",
                        params.datapath_id
                    );
                    let b = ActualBridge {
                        params,
                        ..ActualBridge::default()
                    };
                    actual.bridges.insert(bridge, b);
                }
                Err(e) => tracing::error!("failed to create bridge {bridge}: {e}"),
            },
            Step::SetBridge { bridge, params } => {
                if let Some(b) = actual.bridges.get_mut(&bridge) {
                    if let Err(e) = self.plane.set_bridge(&bridge, &params) {
                        tracing::warn!("bridge {bridge}: cannot change its settings: {e}");
                    }
                    if b.params.datapath_id != params.datapath_id {
                        tracing::info!(
                            "bridge {bridge}: using datapath ID {:016x}",
                            params.datapath_id
                        );
                    }
                    b.params = params;
                }
            }
            Step::AddPort { bridge, params } => self.add_port(state, &bridge, params),
            Step::SetPort {
                bridge,
                interface,
                params,
            } => {
                let Some(b) = actual.bridges.get_mut(&bridge) else {
                    return;
                };
                let Some(p) = b.ports.get_mut(&interface) else {
                    return;
                };
                let as_made = match p.shortfall {
                    None => params.clone(),
                    Some(_) => detached(&params),
                };
                match self.plane.set_port(&bridge, p.number, &as_made) {
                    Ok(()) => {
                        p.mac = self.plane.port_state(&bridge, p.number).and_then(|s| s.mac);
                        p.params = params;
                    }
                    Err(e) => {
                        tracing::info!("bridge {bridge}: making interface {interface} anew: {e}");
                        let number = p.number;
                        self.plane.remove_port(&bridge, number);
                        b.ports.remove(&interface);
                        let params = PortParams {
                            number: Some(number),
                            ..params
                        };
                        self.add_port(state, &bridge, params);
                    }
                }
            }
        }
    }

    fn add_port(&self, state: &mut State, bridge: &str, params: PortParams) {
        let Some(b) = state.actual.bridges.get_mut(bridge) else {
            return;
        };
        let name = params.name.clone();
        let mut shortfall = None;
        let mut made = self.plane.add_port(bridge, &params);
        if let Err(why) = &made
            && params.number == Some(PortNo::LOCAL)
        {
            // Without the right to make a tap the bridge still switches; only this host is not on it.
            shortfall = Some(format!(
                "could not open network device {name} ({why}): the bridge works without a local interface"
            ));
            made = self.plane.add_port(bridge, &detached(&params));
        }
        match made {
            Ok(n) => {
                tracing::info!(
                    "bridge {bridge}: added interface {name} on port {}",
                    number(n)
                );
                b.failed.remove(&name);
                let mac = self.plane.port_state(bridge, n).and_then(|s| s.mac);
                let port = ActualPort {
                    number: n,
                    params,
                    mac,
                    shortfall,
                };
                b.ports.insert(name, port);
            }
            Err(why) => {
                let error = why.told(&name);
                b.failed.insert(name, (params, error));
            }
        }
    }

    /// Interfaces that are wanted and missing: worth another try when devices may have appeared.
    pub fn has_failures(&self) -> bool {
        self.state()
            .actual
            .bridges
            .values()
            .any(|b| !b.failed.is_empty())
    }

    /// What the rows of bridges, ports and interfaces should read.
    pub fn report(&self, with_statistics: bool) -> Vec<RowReport> {
        let state = self.state();
        let mut rows = Vec::new();
        for (name, conf) in &state.desired.bridges {
            let Some(actual) = state.actual.bridges.get(name) else {
                continue;
            };
            rows.push(RowReport {
                table: "Bridge",
                uuid: conf.uuid,
                columns: report::bridge(
                    actual.params.datapath_id,
                    concat!("weir ", env!("CARGO_PKG_VERSION")),
                    &conf.notes,
                ),
            });
            for mirror in conf.mirrors.iter().filter(|_| with_statistics) {
                rows.push(RowReport {
                    table: "Mirror",
                    uuid: mirror.uuid,
                    columns: report::mirror(
                        self.plane.mirror_stats(name, mirror::id(&mirror.uuid)),
                    ),
                });
            }
            for port in conf.ports.values() {
                rows.push(RowReport {
                    table: "Port",
                    uuid: port.uuid,
                    columns: report::port(&port.notes),
                });
                for interface in &port.interfaces {
                    rows.push(self.report_interface(name, actual, interface, with_statistics));
                }
            }
            if let Some(bridge) = state.bridges.get(name) {
                rows.extend(bridge.report_controllers());
            }
        }
        rows
    }

    fn report_interface(
        &self,
        bridge: &str,
        actual: &ActualBridge,
        conf: &InterfaceConf,
        with_statistics: bool,
    ) -> RowReport {
        let mut r = InterfaceReport {
            notes: conf.notes.clone(),
            ..InterfaceReport::default()
        };
        let port = actual
            .ports
            .get(&conf.name)
            .filter(|_| conf.refused.is_none());
        if let Some(p) = port {
            r.number = Some(p.number);
            r.state = self.plane.port_state(bridge, p.number);
            r.error = p.shortfall.clone();
        } else {
            r.error = conf
                .refused
                .clone()
                .or_else(|| actual.failed.get(&conf.name).map(|(_, e)| e.clone()));
        }
        let mut columns = report::interface(&r);
        match port {
            None => {
                columns.insert("statistics", Out::Counters(BTreeMap::new()));
            }
            Some(p) if with_statistics => {
                if let Some((_, counters)) = self.plane.port_stats(bridge, p.number) {
                    columns.insert("statistics", report::statistics(&counters));
                }
            }
            Some(_) => {}
        }
        RowReport {
            table: "Interface",
            uuid: conf.uuid,
            columns,
        }
    }

    /// Takes everything down.
    pub fn close(&self) {
        self.configure(Desired::default(), false);
    }
}

/// A local port without a kernel device.
fn detached(params: &PortParams) -> PortParams {
    PortParams {
        kind: "dummy".to_owned(),
        ..params.clone()
    }
}

/// A port number as the database and the log write it, the local port as 65534.
pub fn number(n: PortNo) -> u32 {
    if n == PortNo::LOCAL { 65534 } else { n.0 }
}

/// Logs what could not be made or is not obeyed, once for as long as it stays the same.
fn log_notes(state: &mut State) {
    let mut now = BTreeMap::new();
    if let Some(root) = &state.desired.root
        && !root.notes.is_empty()
    {
        now.insert("Open_vSwitch".to_owned(), root.notes.join("; "));
    }
    for (name, conf) in &state.desired.bridges {
        let mut add = |what: String, notes: &[String]| {
            if !notes.is_empty() {
                now.insert(what, notes.join("; "));
            }
        };
        add(format!("bridge {name}"), &conf.notes);
        for m in &conf.mirrors {
            add(format!("bridge {name}: mirror {}", m.name), &m.notes);
        }
        for c in conf.controllers.values() {
            add(format!("bridge {name}: controller {}", c.target), &c.notes);
        }
        let actual = state.actual.bridges.get(name);
        for port in conf.ports.values() {
            add(format!("bridge {name}: port {}", port.name), &port.notes);
            for i in &port.interfaces {
                let mut notes = i.notes.clone();
                notes.extend(i.refused.clone());
                if let Some(a) = actual {
                    notes.extend(a.failed.get(&i.name).map(|(_, e)| e.clone()));
                    notes.extend(a.ports.get(&i.name).and_then(|p| p.shortfall.clone()));
                }
                add(format!("bridge {name}: interface {}", i.name), &notes);
            }
        }
    }
    for (what, notes) in &now {
        if state.logged.get(what) != Some(notes) {
            tracing::warn!("{what}: {notes}");
        }
    }
    state.logged = now;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff::tests::{bridge, desired, interface};
    use crate::plane::fake::Fake;

    fn switch() -> (Arc<Fake>, Switch) {
        let fake = Arc::new(Fake::default());
        (fake.clone(), Switch::new(fake, "3.1.0"))
    }

    fn row(rows: &[RowReport], uuid: Uuid) -> Row {
        rows.iter()
            .find(|r| r.uuid == uuid)
            .unwrap()
            .columns
            .clone()
    }

    #[test]
    fn a_bridge_comes_reports_and_goes() {
        let (fake, s) = switch();
        let conf = bridge(
            "br0",
            vec![interface("p1", "dummy"), interface("p2", "dummy")],
        );
        let p1 = conf.ports["p1"].interfaces[0].uuid;
        let br = conf.uuid;
        s.configure(desired(vec![conf]), false);
        let flows = fake.bridges()["br0"].flows.clone();
        assert_eq!(flows.len(), 1, "standalone without a controller is NORMAL");
        assert_eq!(flows[0].priority, 0);
        let rows = s.report(true);
        assert_eq!(
            row(&rows, br)["datapath_id"],
            Out::Str("000092be52cc214a".into())
        );
        let p1 = row(&rows, p1);
        assert_eq!(p1["ofport"], Out::Int(1));
        assert_eq!(p1["error"], Out::Empty);
        assert_eq!(
            p1["statistics"],
            Out::Counters([("rx_packets".into(), 7)].into())
        );
        s.configure(desired(vec![]), false);
        assert!(fake.bridges().is_empty() && s.bridges().is_empty());
    }

    #[test]
    fn a_device_that_is_missing_says_so_and_comes_when_it_is_there() {
        let (fake, s) = switch();
        fake.broken
            .lock()
            .unwrap()
            .insert("p1".into(), "No such device".into());
        let conf = bridge("br0", vec![interface("p1", "system")]);
        let p1 = conf.ports["p1"].interfaces[0].uuid;
        let d = desired(vec![conf]);
        s.configure(d.clone(), false);
        assert!(s.has_failures());
        let r = row(&s.report(true), p1);
        assert_eq!(r["ofport"], Out::Int(-1));
        assert_eq!(
            r["error"],
            Out::Str("could not open network device p1 (No such device)".into())
        );
        fake.broken.lock().unwrap().clear();
        s.configure(d, true);
        assert!(!s.has_failures());
        assert_eq!(row(&s.report(true), p1)["ofport"], Out::Int(1));
    }

    #[test]
    fn without_the_right_to_make_a_tap_the_bridge_still_works() {
        let (fake, s) = switch();
        fake.broken
            .lock()
            .unwrap()
            .insert("internal".into(), "Operation not permitted".into());
        let conf = bridge("br0", vec![interface("p1", "dummy")]);
        let local = conf.ports["br0"].interfaces[0].uuid;
        s.configure(desired(vec![conf]), false);
        assert_eq!(fake.bridges()["br0"].ports[&PortNo::LOCAL].kind, "dummy");
        let r = row(&s.report(true), local);
        assert_eq!(r["ofport"], Out::Int(65534));
        let Out::Str(error) = &r["error"] else {
            panic!("no error")
        };
        assert!(error.starts_with("could not open network device br0 (Operation not permitted)"));
        assert!(!s.has_failures());
    }

    #[test]
    fn changes_that_a_port_cannot_take_make_it_anew_under_its_number() {
        let (fake, s) = switch();
        let mut d = desired(vec![bridge(
            "br0",
            vec![interface("a", "dummy"), interface("b", "dummy")],
        )]);
        s.configure(d.clone(), false);
        let b = d.bridges.get_mut("br0").unwrap();
        let i = &mut b.ports.get_mut("b").unwrap().interfaces[0];
        i.options.insert("x".into(), "y".into());
        s.configure(d, false);
        let bridges = fake.bridges();
        assert_eq!(bridges["br0"].ports[&PortNo(2)].options["x"], "y");
        assert_eq!(bridges["br0"].ports.len(), 3);
    }
}
