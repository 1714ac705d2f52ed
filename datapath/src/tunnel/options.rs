//! The options of a tunnel interface in the database (ovs-vswitchd.conf.db(5), "Tunnel Options").
//!
//! What Open vSwitch refuses is refused in its words. It takes some values for what they are not (a key that is no number is 0);
//! here a tunnel whose packets would go astray is not made, and what only asks for less is noted. A tunnel that is to
//! encrypt is never made.

use super::{Given, Outer, TunnelKind, TunnelSpec};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Interface types that are tunnels, sorted.
pub const TYPES: &[&str] = &[
    "erspan",
    "geneve",
    "gre",
    "gtpu",
    "ip6erspan",
    "ip6gre",
    "vxlan",
];

/// Options by which IPsec is asked for (ovs-monitor-ipsec(8)).
const IPSEC: &[&str] = &[
    "ca_cert",
    "certificate",
    "peer_cert",
    "peer_cert_name",
    "private_key",
    "psk",
    "remote_cert",
    "remote_name",
    "use_ssl_cert",
];

/// DSCP is what `tos` may set; ECN is the packet's.
const DSCP_MASK: u8 = 0xfc;

/// `flow`, or a value.
fn given<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Given<T>, String> {
    match text {
        "flow" => Ok(Given::ByFlow),
        text => read(text).map(Given::Fixed),
    }
}

/// A number, decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl TunnelKind {
    /// Of an interface type.
    pub fn of_type(name: &str) -> Option<TunnelKind> {
        Some(match name {
            "vxlan" => TunnelKind::Vxlan,
            "gre" | "ip6gre" => TunnelKind::Gre,
            "geneve" => TunnelKind::Geneve,
            "erspan" | "ip6erspan" => TunnelKind::Erspan,
            "gtpu" => TunnelKind::Gtpu,
            _ => return None,
        })
    }

    /// The greatest key that its header has room for.
    pub const fn max_key(self) -> u64 {
        match self {
            TunnelKind::Vxlan | TunnelKind::Geneve => super::vxlan::VNI_MAX,
            TunnelKind::Gre | TunnelKind::Gtpu => u32::MAX as u64,
            TunnelKind::Erspan => super::erspan::SESSION_MAX,
        }
    }
}

impl TunnelSpec {
    /// What an interface of type `name` with these options is to be, and what is not obeyed of them, a line each.
    ///
    /// # Errors
    /// It cannot be: one line for each reason.
    pub fn from_options(
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(TunnelSpec, Vec<String>), String> {
        let kind = match name {
            "stt" | "lisp" => return Err(format!("tunnels of type {name} are not supported")),
            name => TunnelKind::of_type(name).ok_or_else(|| format!("{name} is no tunnel"))?,
        };
        let mut reading = Reading {
            name,
            spec: TunnelSpec {
                kind,
                // Replaced, or the tunnel is refused.
                remote: Given::ByFlow,
                local: None,
                in_key: None,
                out_key: None,
                port: kind.udp_port().unwrap_or(0),
                tos: Outer::Fixed(0),
                ttl: Outer::Fixed(64),
                df: true,
                csum: false,
                gbp: false,
                layer3: kind == TunnelKind::Gtpu,
                sequence: false,
                egress_mark: 0,
                erspan_version: None,
                erspan_index: None,
                erspan_direction: None,
                erspan_hwid: None,
            },
            remote: None,
            notes: Vec::new(),
            errors: Vec::new(),
        };
        if let Some(asked) = options
            .keys()
            .find(|k| IPSEC.contains(&k.as_str()) || k.starts_with("ipsec_"))
        {
            return Err(format!(
                "{asked}: IPsec is not supported: a tunnel that is to encrypt is not made, so that it never sends in clear"
            ));
        }
        for (key, value) in options {
            if let Err(why) = reading.option(key, value) {
                reading.errors.push(why);
            }
        }
        reading.keys(options);
        reading.finish()
    }
}

struct Reading<'a> {
    name: &'a str,
    spec: TunnelSpec,
    remote: Option<Given<IpAddr>>,
    notes: Vec<String>,
    errors: Vec<String>,
}

impl Reading<'_> {
    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        let spec = &mut self.spec;
        let (kind, name) = (spec.kind, self.name);
        let is_erspan = kind == TunnelKind::Erspan;
        match key {
            "remote_ip" => {
                let bad = |_| format!("bad {name} 'remote_ip'");
                let remote = given(value, |v| v.parse::<IpAddr>().map_err(bad))?;
                if matches!(remote, Given::Fixed(ip) if ip.is_multicast()) {
                    // The one reason, as in Open vSwitch.
                    self.remote = Some(remote);
                    return Err(format!("multicast remote_ip={value} not allowed"));
                }
                self.remote = Some(remote);
            }
            "local_ip" => {
                let bad = |_| format!("bad {name} 'local_ip'");
                spec.local = Some(given(value, |v| v.parse().map_err(bad))?);
            }
            // Read together, since `key` stands for both of the others.
            "key" | "in_key" | "out_key" => {}
            "dst_port" if spec.port != 0 => {
                spec.port = match value.parse() {
                    Ok(port @ 1..) => port,
                    _ => return Err(format!("dst_port {value} is none of 1 to 65535")),
                };
            }
            "tos" => match (value, number(value)) {
                ("inherit", _) => spec.tos = Outer::Inherit,
                (_, Some(tos @ 0..256)) if tos as u8 & !DSCP_MASK == 0 => {
                    spec.tos = Outer::Fixed(tos as u8);
                }
                _ => self.notes.push(format!("invalid TOS {value}")),
            },
            "ttl" => match (value, value.parse::<u8>()) {
                ("inherit", _) => spec.ttl = Outer::Inherit,
                (_, Ok(0)) => {}
                (_, Ok(ttl)) => spec.ttl = Outer::Fixed(ttl),
                _ => self
                    .notes
                    .push(format!("ttl {value} is neither inherit nor 1 to 255")),
            },
            "df_default" => spec.df = value == "true",
            "csum" => spec.csum = value == "true",
            "seq" if kind == TunnelKind::Gre => spec.sequence = value == "true",
            "exts" if kind == TunnelKind::Vxlan => {
                for ext in value.split(',').map(str::trim).filter(|e| !e.is_empty()) {
                    match ext {
                        "gbp" => spec.gbp = true,
                        "gpe" => return Err("exts=gpe is not supported".to_owned()),
                        ext => self.notes.push(format!("unknown extension '{ext}'")),
                    }
                }
            }
            "egress_pkt_mark" => {
                let mark = number(value).and_then(|n| u32::try_from(n).ok());
                spec.egress_mark =
                    mark.ok_or_else(|| format!("egress_pkt_mark {value} is no number of 32 bits"))?;
            }
            "packet_type" => {
                let both = kind == TunnelKind::Gre;
                match value {
                    "legacy_l2" if kind != TunnelKind::Gtpu => spec.layer3 = false,
                    "legacy_l3" if both || kind == TunnelKind::Gtpu => spec.layer3 = true,
                    _ => {
                        return Err(format!("packet_type={value} is not supported by {name}"));
                    }
                }
            }
            "erspan_ver" if is_erspan => {
                let bad = || format!("invalid erspan version: {value}");
                let version = |v: &str| v.parse().ok().filter(|v| matches!(v, 1 | 2));
                spec.erspan_version = Some(given(value, |v| version(v).ok_or_else(bad))?);
            }
            "erspan_idx" if is_erspan => {
                let bad = || format!("invalid erspan index: {value}");
                let hex = value.trim_start_matches("0x");
                let index = u32::from_str_radix(hex, 16).ok().filter(|i| *i <= 0xf_ffff);
                spec.erspan_index = Some(given(value, |_| index.ok_or_else(bad))?);
            }
            "erspan_dir" if is_erspan => {
                let bad = || format!("invalid erspan direction: {value}");
                let direction = |v: &str| v.parse().ok().filter(|d| *d <= 1);
                spec.erspan_direction = Some(given(value, |v| direction(v).ok_or_else(bad))?);
            }
            "erspan_hwid" if is_erspan => {
                let bad = || format!("invalid erspan hardware ID: {value}");
                let hex = value.trim_start_matches("0x");
                let id = u8::from_str_radix(hex, 16).ok().filter(|i| *i <= 0x3f);
                spec.erspan_hwid = Some(given(value, |_| id.ok_or_else(bad))?);
            }
            key => self.notes.push(format!("unknown {name} argument '{key}'")),
        }
        Ok(())
    }

    /// `in_key` and `out_key`, each `key` unless given.
    fn keys(&mut self, options: &BTreeMap<String, String>) {
        let max = self.spec.kind.max_key();
        let mut errors = Vec::new();
        let mut read = |option: &str| {
            let (option, text) = [option, "key"]
                .into_iter()
                .find_map(|o| Some((o, options.get(o)?)))?;
            let bad = || format!("{option} {text} is neither flow nor 0 to {max}");
            let key = given(text, |t| number(t).filter(|k| *k <= max).ok_or_else(bad));
            key.map_err(|why| {
                if !errors.contains(&why) {
                    errors.push(why);
                }
            })
            .ok()
        };
        (self.spec.in_key, self.spec.out_key) = (read("in_key"), read("out_key"));
        self.errors.append(&mut errors);
    }

    fn finish(mut self) -> Result<(TunnelSpec, Vec<String>), String> {
        let name = self.name;
        match (self.remote, self.spec.local) {
            (None, _) => self
                .errors
                .push(format!("{name} type requires valid 'remote_ip' argument")),
            (Some(Given::Fixed(_)), Some(Given::ByFlow)) => self.errors.push(format!(
                "{name} type requires 'remote_ip=flow' with 'local_ip=flow'"
            )),
            (Some(Given::Fixed(remote)), Some(Given::Fixed(local)))
                if remote.is_ipv4() != local.is_ipv4() =>
            {
                self.errors.push(
                    "'remote_ip' and 'local_ip' has to be of the same address family".to_owned(),
                );
            }
            (Some(remote), _) => self.spec.remote = remote,
        }
        if self.spec.kind == TunnelKind::Erspan {
            self.erspan_defaults();
        }
        match self.errors.is_empty() {
            true => Ok((self.spec, self.notes)),
            false => Err(self.errors.join("\n")),
        }
    }
}

impl Reading<'_> {
    /// Version 1 unless given; with `erspan_ver=flow` flows give all that is not given, else it is 0.
    fn erspan_defaults(&mut self) {
        fn default<T>(given: &mut Option<Given<T>>, value: T, by_flow: bool) {
            given.get_or_insert(if by_flow {
                Given::ByFlow
            } else {
                Given::Fixed(value)
            });
        }
        let spec = &mut self.spec;
        default(&mut spec.erspan_version, 1, false);
        let by_flow = spec.erspan_version == Some(Given::ByFlow);
        default(&mut spec.erspan_index, 0, by_flow);
        default(&mut spec.erspan_direction, 0, by_flow);
        default(&mut spec.erspan_hwid, 0, by_flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options as a person types them.
    fn options(line: &str) -> BTreeMap<String, String> {
        let pairs = line.split_whitespace().map(|w| w.split_once('=').unwrap());
        pairs.map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn read(line: &str) -> Result<(TunnelSpec, Vec<String>), String> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        TunnelSpec::from_options(kind, &options(rest))
    }

    #[test]
    fn a_key_stands_for_both_directions_unless_one_is_given() {
        let (spec, notes) = read("vxlan remote_ip=1.1.1.1 key=11 out_key=0x0c").unwrap();
        assert_eq!(spec.in_key, Some(Given::Fixed(11)));
        assert_eq!(spec.out_key, Some(Given::Fixed(12)));
        assert_eq!(
            (spec.port, spec.ttl, spec.df),
            (4789, Outer::Fixed(64), true)
        );
        assert!(notes.is_empty());
        let (spec, _) = read("geneve remote_ip=flow key=flow local_ip=flow").unwrap();
        assert_eq!(spec.in_key, Some(Given::ByFlow));
        assert_eq!(
            (spec.remote, spec.local),
            (Given::ByFlow, Some(Given::ByFlow))
        );
        assert_eq!(read("gre remote_ip=1.1.1.1").unwrap().0.in_key, None);
    }

    #[test]
    fn what_open_vswitch_refuses_is_refused_in_its_words() {
        for (line, error) in [
            ("vxlan", "vxlan type requires valid 'remote_ip' argument"),
            (
                "vxlan remote_ip=foo",
                "bad vxlan 'remote_ip'\nvxlan type requires valid 'remote_ip' argument",
            ),
            (
                "vxlan remote_ip=224.0.0.1",
                "multicast remote_ip=224.0.0.1 not allowed",
            ),
            (
                "erspan remote_ip=1.1.1.1 erspan_ver=7",
                "invalid erspan version: 7",
            ),
            (
                "gre remote_ip=1.1.1.1 local_ip=flow",
                "gre type requires 'remote_ip=flow' with 'local_ip=flow'",
            ),
            (
                "gre remote_ip=1.1.1.1 local_ip=::1",
                "'remote_ip' and 'local_ip' has to be of the same address family",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), error, "{line}");
        }
    }

    #[test]
    fn a_tunnel_that_is_to_encrypt_is_not_made() {
        for option in [
            "psk=swordfish",
            "certificate=/a.pem",
            "ipsec_encapsulation=yes",
        ] {
            let error = read(&format!("gre remote_ip=1.1.1.1 {option}")).unwrap_err();
            assert!(error.contains("never sends in clear"), "{error}");
        }
    }

    #[test]
    fn keys_must_fit_the_header() {
        for (line, fits) in [
            ("vxlan remote_ip=1.1.1.1 key=16777215", true),
            ("vxlan remote_ip=1.1.1.1 key=16777216", false),
            ("gre remote_ip=1.1.1.1 key=0xffffffff", true),
            ("erspan remote_ip=1.1.1.1 key=1024", false),
            ("gre remote_ip=1.1.1.1 in_key=x", false),
            ("vxlan remote_ip=1.1.1.1 dst_port=0", false),
        ] {
            assert_eq!(read(line).is_ok(), fits, "{line}");
        }
    }

    #[test]
    fn what_is_not_obeyed_is_named() {
        let (spec, notes) =
            read("vxlan remote_ip=1.1.1.1 exts=foo,gbp tos=0x3 ttl=900 colour=blue").unwrap();
        assert!(spec.gbp);
        assert_eq!((spec.tos, spec.ttl), (Outer::Fixed(0), Outer::Fixed(64)));
        assert_eq!(
            notes,
            [
                "unknown vxlan argument 'colour'",
                "unknown extension 'foo'",
                "invalid TOS 0x3",
                "ttl 900 is neither inherit nor 1 to 255"
            ]
        );
    }

    #[test]
    fn erspan_and_bare_packets() {
        let (spec, _) = read(
            "erspan remote_ip=1.1.1.1 key=7 erspan_ver=2 erspan_dir=1 erspan_hwid=0x7 erspan_idx=3",
        )
        .unwrap();
        assert_eq!(spec.erspan_version, Some(Given::Fixed(2)));
        assert_eq!(spec.erspan_direction, Some(Given::Fixed(1)));
        assert_eq!(spec.erspan_hwid, Some(Given::Fixed(7)));
        assert_eq!(spec.erspan_index, Some(Given::Fixed(3)));
        assert!(read("gtpu remote_ip=1.1.1.1").unwrap().0.layer3);
        assert!(
            read("gre remote_ip=1.1.1.1 packet_type=legacy_l3")
                .unwrap()
                .0
                .layer3
        );
        assert!(read("vxlan remote_ip=1.1.1.1 packet_type=legacy_l3").is_err());
    }
}
