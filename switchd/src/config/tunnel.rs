//! Tunnel interfaces: what is wrong with their options, and how Open vSwitch shows them.

use datapath::tunnel::{TunnelKind, TunnelSpec};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A tunnel as an interface describes it.
pub struct Tunnel {
    /// The interface's type.
    pub kind: String,
    /// What its options ask for.
    pub spec: TunnelSpec,
}

/// Why an interface cannot be made of its options, each line with its name in front, as Open vSwitch says it. What is not obeyed
/// is noted.
pub fn check(
    name: &str,
    kind: &str,
    options: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Option<String> {
    let named = |why: &str| {
        let lines: Vec<String> = why.lines().map(|l| format!("{name}: {l}")).collect();
        Some(lines.join("\n"))
    };
    match kind {
        "patch" => match options.get("peer").map(String::as_str) {
            None | Some("") => named("patch type requires valid 'peer' argument"),
            Some(peer) if peer == name => named("patch peer must not be self"),
            Some(_) => None,
        },
        kind if TunnelKind::of_type(kind).is_some() => {
            match TunnelSpec::from_options(kind, options) {
                Ok((_, more)) => {
                    notes.extend(more);
                    None
                }
                Err(why) => named(&why),
            }
        }
        _ => None,
    }
}

impl Tunnel {
    /// Of an interface, if it is a tunnel.
    pub fn of(kind: &str, options: &BTreeMap<String, String>) -> Option<Tunnel> {
        TunnelKind::of_type(kind)?;
        let (spec, _) = TunnelSpec::from_options(kind, options).ok()?;
        Some(Tunnel {
            kind: kind.to_owned(),
            spec,
        })
    }

    /// What Open vSwitch's userspace calls the port of its datapath that all tunnels of this kind and UDP port share.
    pub fn system_name(&self) -> String {
        match (self.kind.as_str(), self.spec.port) {
            ("geneve", port) => format!("genev_sys_{port}"),
            (kind, 0) => format!("{kind}_sys"),
            (kind, port) => format!("{kind}_sys_{port}"),
        }
    }

    /// What it is, as `dpctl/show` has it.
    pub fn system_described(&self) -> String {
        let mut out = format!("{}: ", self.kind);
        if self
            .spec
            .kind
            .udp_port()
            .is_some_and(|p| p != self.spec.port)
        {
            _ = write!(out, "dst_port={}, ", self.spec.port);
        }
        if self.spec.kind == TunnelKind::Erspan {
            out.push_str("erspan_ver=0, ");
        }
        out + "packet_type=ptap"
    }

    /// Type and options as `dpif/show` has them: `vxlan: key=11, remote_ip=192.168.1.20`.
    pub fn described(&self, options: &BTreeMap<String, String>) -> String {
        let defaults = [
            ("ttl", "64"),
            ("ttl", "0"),
            ("tos", "0"),
            ("df_default", "true"),
            ("csum", "false"),
            ("seq", "false"),
            ("packet_type", "legacy_l2"),
        ];
        let standard = self.spec.kind.udp_port().map(|p| p.to_string());
        let usual = |key: &String, value: &String| {
            defaults.contains(&(key.as_str(), value.as_str()))
                || key.as_str() == "dst_port" && Some(value) == standard.as_ref()
        };
        let mut out = self.kind.clone();
        let mut before = ": ";
        for (key, value) in options.iter().filter(|o| !usual(o.0, o.1)) {
            _ = write!(out, "{before}{key}={value}");
            before = ", ";
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> BTreeMap<String, String> {
        let pairs = line.split_whitespace().map(|w| w.split_once('=').unwrap());
        pairs.map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn each_reason_has_the_interface_s_name_in_front() {
        let mut notes = Vec::new();
        let mut check = |kind, line| super::check("e2", kind, &options(line), &mut notes);
        assert_eq!(
            check("vxlan", "remote_ip=foo").unwrap(),
            "e2: bad vxlan 'remote_ip'\ne2: vxlan type requires valid 'remote_ip' argument"
        );
        assert_eq!(
            check("patch", "").unwrap(),
            "e2: patch type requires valid 'peer' argument"
        );
        assert_eq!(
            check("patch", "peer=e2").unwrap(),
            "e2: patch peer must not be self"
        );
        assert_eq!(check("system", "x=y"), None);
        assert_eq!(check("gre", "remote_ip=1.1.1.1 x=y"), None);
        assert_eq!(notes, ["unknown gre argument 'x'"]);
    }

    #[test]
    fn tunnels_are_shown_as_open_vswitch_shows_them() {
        for (kind, line, system, described) in [
            (
                "vxlan",
                "remote_ip=1.1.1.1 key=1 dst_port=4789",
                "vxlan_sys_4789",
                "vxlan: key=1, remote_ip=1.1.1.1",
            ),
            (
                "geneve",
                "remote_ip=flow",
                "genev_sys_6081",
                "geneve: remote_ip=flow",
            ),
            (
                "gre",
                "remote_ip=1.1.1.1 ttl=9",
                "gre_sys",
                "gre: remote_ip=1.1.1.1, ttl=9",
            ),
        ] {
            let t = Tunnel::of(kind, &options(line)).unwrap();
            assert_eq!(t.system_name(), system);
            assert_eq!(t.described(&options(line)), described);
        }
        assert!(Tunnel::of("tap", &options("")).is_none());
    }
}
