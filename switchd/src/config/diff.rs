//! From what is to what is wanted: the steps between, in an order that can be carried out.
//!
//! Pure. Removals come first (a port may move to another bridge, a number may be freed), then
//! bridges, then ports: those with a number of their own before those that take any.
//! A bridge's address may depend on ports that the steps only make, so the caller carries steps out
//! and asks again until there are none.

use super::desired::{BridgeConf, Desired, InterfaceConf, PortConf};
use super::identity;
use crate::plane::{BridgeParams, Miss, PortParams, VlanConfig};
use openflow::{MacAddr, PortNo};
use std::collections::BTreeMap;

/// What is in the datapath.
#[derive(Clone, Debug, Default)]
pub struct Actual {
    /// Bridges by name.
    pub bridges: BTreeMap<String, ActualBridge>,
}

/// A bridge in the datapath.
#[derive(Clone, Debug, Default)]
pub struct ActualBridge {
    /// As last set.
    pub params: BridgeParams,
    /// Ports by interface name.
    pub ports: BTreeMap<String, ActualPort>,
    /// Interfaces that could not be made, by name, and with what settings it was tried.
    pub failed: BTreeMap<String, (PortParams, String)>,
}

/// A port in the datapath.
#[derive(Clone, Debug)]
pub struct ActualPort {
    /// Number it got.
    pub number: PortNo,
    /// As last set.
    pub params: PortParams,
    /// Its device's address.
    pub mac: Option<MacAddr>,
    /// Why it is less than what was asked for: a local port without a kernel device.
    pub shortfall: Option<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub enum Step {
    RemovePort {
        bridge: String,
        interface: String,
    },
    RemoveBridge {
        bridge: String,
    },
    AddBridge {
        bridge: String,
        params: BridgeParams,
    },
    SetBridge {
        bridge: String,
        params: BridgeParams,
    },
    AddPort {
        bridge: String,
        params: PortParams,
    },
    SetPort {
        bridge: String,
        interface: String,
        params: PortParams,
    },
}

/// The steps. With `retry`, interfaces that failed with the same settings are tried again.
pub fn steps(desired: &Desired, actual: &Actual, retry: bool) -> Vec<Step> {
    let mut out = Vec::new();
    for (name, is) in &actual.bridges {
        match desired.bridges.get(name) {
            None => out.push(Step::RemoveBridge {
                bridge: name.clone(),
            }),
            Some(conf) => {
                let wanted = ports(conf, &is.params);
                for (interface, port) in &is.ports {
                    if !wanted.get(interface).is_some_and(|w| can_become(port, w)) {
                        out.push(Step::RemovePort {
                            bridge: name.clone(),
                            interface: interface.clone(),
                        });
                    }
                }
            }
        }
    }
    for (name, conf) in &desired.bridges {
        let is = actual.bridges.get(name);
        let params = bridge_params(conf, is);
        match is {
            None => out.push(Step::AddBridge {
                bridge: name.clone(),
                params: params.clone(),
            }),
            Some(is) if is.params != params => out.push(Step::SetBridge {
                bridge: name.clone(),
                params: params.clone(),
            }),
            Some(_) => {}
        }
        let mut add = Vec::new();
        for (interface, wanted) in ports(conf, &params) {
            let present = is
                .and_then(|b| b.ports.get(&interface))
                .filter(|p| can_become(p, &wanted));
            match present {
                Some(port) if settings(&port.params) != settings(&wanted) => {
                    out.push(Step::SetPort {
                        bridge: name.clone(),
                        interface,
                        params: wanted,
                    });
                }
                Some(_) => {}
                None => {
                    let failed = is
                        .and_then(|b| b.failed.get(&interface))
                        .is_some_and(|(with, _)| *with == wanted);
                    if retry || !failed {
                        add.push(wanted);
                    }
                }
            }
        }
        add.sort_by_key(|p| p.number.is_none());
        out.extend(add.into_iter().map(|params| Step::AddPort {
            bridge: name.clone(),
            params,
        }));
    }
    out
}

/// What a bridge is to be, given its present ports' addresses.
pub fn bridge_params(conf: &BridgeConf, is: Option<&ActualBridge>) -> BridgeParams {
    let macs = is.into_iter().flat_map(|b| {
        b.ports
            .values()
            .filter(|p| p.number != PortNo::LOCAL)
            .filter_map(|p| p.mac)
    });
    let mac = identity::bridge_mac(conf.hwaddr, macs, identity::default_mac(&conf.uuid));
    // OpenFlow 1.0 sends unmatched packets to the controller; a bridge that may only speak it does.
    let only_10 = !conf.protocols.is_empty() && conf.protocols.iter().all(|p| p == "OpenFlow10");
    BridgeParams {
        datapath_id: identity::datapath_id(conf.datapath_id, mac),
        mac,
        mac_aging: conf.mac_aging,
        mac_table_size: conf.mac_table_size,
        flood_vlans: conf.flood_vlans.clone(),
        forward_bpdu: conf.forward_bpdu,
        miss: if only_10 {
            Miss::Controller
        } else {
            Miss::Drop
        },
        tables: conf.tables.clone(),
        mirrors: conf.mirrors.iter().filter_map(|m| m.spec.clone()).collect(),
    }
}

/// The ports a bridge is to have, by interface name. The local port is there whether or not the
/// database has a row for it.
pub fn ports(conf: &BridgeConf, bridge: &BridgeParams) -> BTreeMap<String, PortParams> {
    let mut out = BTreeMap::new();
    for port in conf.ports.values() {
        for interface in port.interfaces.iter().filter(|i| i.refused.is_none()) {
            out.insert(interface.name.clone(), port_params(port, interface, bridge));
        }
    }
    out.entry(conf.name.clone()).or_insert_with(|| PortParams {
        name: conf.name.clone(),
        kind: conf.internal_kind.to_owned(),
        mac: Some(bridge.mac),
        number: Some(PortNo::LOCAL),
        vlan: VlanConfig::default(),
        ..PortParams::default()
    });
    out
}

fn port_params(port: &PortConf, interface: &InterfaceConf, bridge: &BridgeParams) -> PortParams {
    PortParams {
        name: interface.name.clone(),
        kind: interface.kind.clone(),
        options: interface.options.clone(),
        mac: if interface.local {
            Some(bridge.mac)
        } else {
            interface.mac
        },
        mtu_request: interface.mtu_request,
        vlan: port.vlan.clone(),
        protected: port.protected,
        storm: port.storm,
        guard: port.guard.clone(),
        policing: interface.policing,
        qos: port.qos.clone(),
        n_rxq: interface.n_rxq,
        rxq_affinity: interface.rxq_affinity.clone(),
        number: if interface.local {
            Some(PortNo::LOCAL)
        } else {
            interface.ofport.map(|n| PortNo(u32::from(n)))
        },
    }
}

/// Whether a port can be changed into the wanted one rather than be made anew; one of AF_XDP cannot with other options. A number is only
/// held against it if someone else might get it: once a port has a number, the database records it.
fn can_become(port: &ActualPort, wanted: &PortParams) -> bool {
    port.params.kind == wanted.kind
        && (!wanted.kind.starts_with("afxdp") || port.params.options == wanted.options)
        && wanted
            .number
            .is_none_or(|n| n == port.number || Some(n) == port.params.number)
}

/// The settings without the number.
fn settings(p: &PortParams) -> PortParams {
    PortParams {
        number: None,
        ..p.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::agent::failmode::FailMode;
    use ovsdb::Uuid;
    use std::collections::BTreeSet;
    use std::time::Duration;

    pub(crate) fn interface(name: &str, kind: &str) -> InterfaceConf {
        InterfaceConf {
            uuid: Uuid::new_v4(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            options: BTreeMap::new(),
            mac: None,
            mtu_request: None,
            ofport: None,
            ofport_requested: false,
            local: false,
            n_rxq: None,
            rxq_affinity: BTreeMap::new(),
            policing: Default::default(),
            refused: None,
            notes: Vec::new(),
        }
    }

    pub(crate) fn bridge(name: &str, interfaces: Vec<InterfaceConf>) -> BridgeConf {
        let mut ports: BTreeMap<String, PortConf> = BTreeMap::new();
        let mut local = interface(name, "internal");
        local.local = true;
        for i in interfaces.into_iter().chain([local]) {
            ports.insert(
                i.name.clone(),
                PortConf {
                    uuid: Uuid::new_v4(),
                    name: i.name.clone(),
                    vlan: VlanConfig::default(),
                    protected: false,
                    storm: Default::default(),
                    guard: None,
                    qos: None,
                    interfaces: vec![i],
                    notes: Vec::new(),
                },
            );
        }
        BridgeConf {
            uuid: "cc52be90-15c6-4a21-b37a-0daab531ebe7".parse().unwrap(),
            name: name.to_owned(),
            datapath_type: String::new(),
            internal_kind: "internal",
            fail_mode: FailMode::Standalone,
            protocols: Vec::new(),
            hwaddr: None,
            datapath_id: None,
            mac_aging: Duration::from_secs(300),
            mac_table_size: 8192,
            flood_vlans: BTreeSet::new(),
            forward_bpdu: false,
            dp_desc: None,
            dp_sn: None,
            in_band_queue: None,
            packet_buffers: 0,
            bundle_idle: crate::agent::DEFAULT_BUNDLE_IDLE,
            controllers: BTreeMap::new(),
            ports,
            tables: BTreeMap::new(),
            mirrors: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn desired(bridges: Vec<BridgeConf>) -> Desired {
        Desired {
            root: None,
            bridges: bridges.into_iter().map(|b| (b.name.clone(), b)).collect(),
        }
    }

    /// Carries steps out on paper, giving numbers as a datapath would.
    fn apply(actual: &mut Actual, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::RemovePort { bridge, interface } => {
                    actual
                        .bridges
                        .get_mut(&bridge)
                        .unwrap()
                        .ports
                        .remove(&interface)
                        .unwrap();
                }
                Step::RemoveBridge { bridge } => {
                    actual.bridges.remove(&bridge).unwrap();
                }
                Step::AddBridge { bridge, params } => {
                    let b = ActualBridge {
                        params,
                        ..ActualBridge::default()
                    };
                    assert!(actual.bridges.insert(bridge, b).is_none());
                }
                Step::SetBridge { bridge, params } => {
                    actual.bridges.get_mut(&bridge).unwrap().params = params;
                }
                Step::AddPort { bridge, params } => {
                    let b = actual.bridges.get_mut(&bridge).unwrap();
                    let used: BTreeSet<PortNo> = b.ports.values().map(|p| p.number).collect();
                    let number = params
                        .number
                        .filter(|n| !used.contains(n))
                        .unwrap_or_else(|| (1..).map(PortNo).find(|n| !used.contains(n)).unwrap());
                    let mac = params.mac;
                    let port = ActualPort {
                        number,
                        mac,
                        params,
                        shortfall: None,
                    };
                    assert!(b.ports.insert(port.params.name.clone(), port).is_none());
                }
                Step::SetPort {
                    bridge,
                    interface,
                    params,
                } => {
                    let b = actual.bridges.get_mut(&bridge).unwrap();
                    let p = b.ports.get_mut(&interface).unwrap();
                    p.mac = params.mac;
                    p.params = params;
                }
            }
        }
    }

    fn settle(desired: &Desired, actual: &mut Actual) {
        for _ in 0..4 {
            let s = steps(desired, actual, false);
            if s.is_empty() {
                return;
            }
            apply(actual, s);
        }
        panic!("does not settle: {:?}", steps(desired, actual, false));
    }

    #[test]
    fn recorded_numbers_go_before_free_ones() {
        let mut a = Actual::default();
        let mut p2 = interface("p2", "dummy");
        p2.ofport = Some(1);
        let d = desired(vec![bridge("br0", vec![interface("p1", "dummy"), p2])]);
        settle(&d, &mut a);
        let ports = &a.bridges["br0"].ports;
        assert_eq!(ports["p2"].number, PortNo(1));
        assert_eq!(ports["p1"].number, PortNo(2));
        assert_eq!(ports["br0"].number, PortNo::LOCAL);
    }

    #[test]
    fn a_request_moves_a_port_and_a_record_does_not() {
        let mut a = Actual::default();
        let mut d = desired(vec![bridge("br0", vec![interface("p1", "dummy")])]);
        settle(&d, &mut a);
        let set = |d: &mut Desired, n| {
            let port = d
                .bridges
                .get_mut("br0")
                .unwrap()
                .ports
                .get_mut("p1")
                .unwrap();
            port.interfaces[0].ofport = Some(n);
        };
        set(&mut d, 1);
        assert_eq!(steps(&d, &a, false), []);
        set(&mut d, 7);
        let s = steps(&d, &a, false);
        assert!(
            matches!(&s[..], [Step::RemovePort { .. }, Step::AddPort { .. }]),
            "{s:?}"
        );
        settle(&d, &mut a);
        assert_eq!(a.bridges["br0"].ports["p1"].number, PortNo(7));
    }

    #[test]
    fn vlan_changes_do_not_reopen_and_kind_changes_do() {
        let mut a = Actual::default();
        let mut d = desired(vec![bridge("br0", vec![interface("p1", "dummy")])]);
        settle(&d, &mut a);
        let port = d
            .bridges
            .get_mut("br0")
            .unwrap()
            .ports
            .get_mut("p1")
            .unwrap();
        port.vlan.tag = Some(10);
        let s = steps(&d, &a, false);
        assert!(matches!(&s[..], [Step::SetPort { interface, .. }] if interface == "p1"));
        settle(&d, &mut a);
        let port = d
            .bridges
            .get_mut("br0")
            .unwrap()
            .ports
            .get_mut("p1")
            .unwrap();
        port.interfaces[0].kind = "tap".to_owned();
        let s = steps(&d, &a, false);
        assert!(matches!(
            &s[..],
            [Step::RemovePort { .. }, Step::AddPort { .. }]
        ));
    }

    #[test]
    fn the_bridge_takes_the_lowest_port_address_and_its_local_port_follows() {
        let mut a = Actual::default();
        let mut p1 = interface("p1", "system");
        p1.mac = Some("00:16:3e:00:00:02".parse().unwrap());
        let mut d = desired(vec![bridge("br0", vec![p1])]);
        settle(&d, &mut a);
        let b = &a.bridges["br0"];
        assert_eq!(b.params.mac.to_string(), "00:16:3e:00:00:02");
        assert_eq!(b.params.datapath_id, 0x0016_3e00_0002);
        assert_eq!(b.ports["br0"].params.mac, Some(b.params.mac));
        d.bridges.get_mut("br0").unwrap().ports.remove("p1");
        settle(&d, &mut a);
        assert_eq!(a.bridges["br0"].params.mac.to_string(), "92:be:52:cc:21:4a");
    }

    #[test]
    fn a_port_that_moves_leaves_its_old_bridge_first_and_bridges_go() {
        let mut a = Actual::default();
        let d = desired(vec![
            bridge("a", vec![]),
            bridge("z", vec![interface("p1", "tap")]),
        ]);
        settle(&d, &mut a);
        let d = desired(vec![
            bridge("a", vec![interface("p1", "tap")]),
            bridge("z", vec![]),
        ]);
        let s = steps(&d, &a, false);
        assert!(matches!(&s[0], Step::RemovePort { bridge, .. } if bridge == "z"));
        settle(&d, &mut a);
        let s = steps(&desired(vec![]), &a, false);
        assert_eq!(s.len(), 2);
        settle(&desired(vec![]), &mut a);
        assert!(a.bridges.is_empty());
    }

    #[test]
    fn failures_are_not_tried_again_until_asked_or_changed() {
        let mut a = Actual::default();
        settle(&desired(vec![bridge("br0", vec![])]), &mut a);
        let mut d = desired(vec![bridge("br0", vec![interface("p1", "system")])]);
        let s = steps(&d, &a, false);
        let [Step::AddPort { params, .. }] = &s[..] else {
            panic!("{s:?}")
        };
        a.bridges.get_mut("br0").unwrap().failed.insert(
            "p1".to_owned(),
            (params.clone(), "No such device".to_owned()),
        );
        assert_eq!(steps(&d, &a, false), []);
        assert_eq!(steps(&d, &a, true).len(), 1);
        let port = d
            .bridges
            .get_mut("br0")
            .unwrap()
            .ports
            .get_mut("p1")
            .unwrap();
        port.interfaces[0].mtu_request = Some(9000);
        assert_eq!(steps(&d, &a, false).len(), 1);
    }

    #[test]
    fn refused_interfaces_are_not_made_and_existing_ones_go() {
        let mut a = Actual::default();
        let mut d = desired(vec![bridge("br0", vec![interface("p1", "dummy")])]);
        settle(&d, &mut a);
        let port = d
            .bridges
            .get_mut("br0")
            .unwrap()
            .ports
            .get_mut("p1")
            .unwrap();
        port.interfaces[0].refused = Some("no".to_owned());
        settle(&d, &mut a);
        assert!(!a.bridges["br0"].ports.contains_key("p1"));
    }
}
