//! What the controller knows of each switch, kept current by the switch's own messages.

use openflow::{Features, MacAddr, PortDesc, PortNo, PortReason, SwitchDesc};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Ports kept for one switch; a switch that claims more is served, its further ports are not listed.
pub const MAX_PORTS: usize = 65_536;

/// A datapath id: which switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatapathId(pub u64);

impl fmt::Display for DatapathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for DatapathId {
    type Err = String;

    /// Sixteen hexadecimal digits, or `0x` and up to sixteen.
    fn from_str(s: &str) -> Result<DatapathId, String> {
        let digits = match s.strip_prefix("0x") {
            Some(d) if !d.is_empty() && d.len() <= 16 => Some(d),
            None if s.len() == 16 => Some(s),
            _ => None,
        };
        digits
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u64::from_str_radix(d, 16).ok())
            .map(DatapathId)
            .ok_or_else(|| {
                format!("{s}: a datapath id is 16 hexadecimal digits, like 0000525400000001")
            })
    }
}

/// One switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its id.
    pub dpid: DatapathId,
    /// Wire version spoken.
    pub version: u8,
    /// Where it connected from.
    pub peer: std::net::SocketAddr,
    /// What it says it can do.
    pub features: Features,
    /// What it says it is.
    pub desc: SwitchDesc,
    ports: BTreeMap<PortNo, PortDesc>,
}

impl Switch {
    /// From the answers of the handshake.
    pub fn new(
        peer: std::net::SocketAddr,
        version: u8,
        features: Features,
        desc: SwitchDesc,
        ports: Vec<PortDesc>,
    ) -> Switch {
        Switch {
            dpid: DatapathId(features.datapath_id),
            version,
            peer,
            ports: ports
                .into_iter()
                .take(MAX_PORTS)
                .map(|p| (p.port, p))
                .collect(),
            features,
            desc,
        }
    }

    /// The switch's name: that of its local port, which is the bridge's, else its description, else
    /// its datapath id.
    pub fn name(&self) -> String {
        let usable = |s: &&str| !s.is_empty() && *s != "None";
        self.ports
            .get(&PortNo::LOCAL)
            .map(|p| p.name.as_str())
            .filter(usable)
            .or(Some(self.desc.datapath.as_str()).filter(usable))
            .map_or_else(|| self.dpid.to_string(), str::to_owned)
    }

    /// Its ports by number.
    pub fn ports(&self) -> impl Iterator<Item = &PortDesc> {
        self.ports.values()
    }

    /// One port.
    pub fn port(&self, number: PortNo) -> Option<&PortDesc> {
        self.ports.get(&number)
    }

    /// The port of this name.
    pub fn port_by_name(&self, name: &str) -> Option<&PortDesc> {
        self.ports.values().find(|p| p.name == name)
    }

    /// A port-status message (OpenFlow 1.3.5 7.4.3). Returns what it means for others.
    pub fn port_status(&mut self, reason: PortReason, desc: PortDesc) -> PortChange {
        let port = desc.port;
        let was_up = self.ports.get(&port).is_some_and(is_up);
        let up = match reason {
            PortReason::Delete => {
                self.ports.remove(&port);
                false
            }
            PortReason::Add | PortReason::Modify => {
                let up = is_up(&desc);
                if self.ports.len() < MAX_PORTS || self.ports.contains_key(&port) {
                    self.ports.insert(port, desc);
                }
                up
            }
        };
        match (was_up, up) {
            (false, true) => PortChange::Up(port),
            (true, false) => PortChange::Down(port),
            _ => PortChange::Other,
        }
    }
}

/// What a port-status message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChange {
    /// The port can carry traffic now.
    Up(PortNo),
    /// It no longer can, or is gone.
    Down(PortNo),
    /// Nothing that matters to forwarding.
    Other,
}

/// Whether a port can carry traffic.
pub fn is_up(p: &PortDesc) -> bool {
    !p.link_down && !p.config.port_down
}

/// The hardware address that stands for a switch in LLDP.
pub fn chassis_mac(dpid: DatapathId) -> MacAddr {
    MacAddr::from_u64(dpid.0 & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::PortFlags;

    fn port(n: u32, name: &str, down: bool) -> PortDesc {
        PortDesc {
            port: PortNo(n),
            mac: MacAddr::default(),
            name: name.into(),
            config: PortFlags::default(),
            link_down: down,
            live: !down,
            current: 0,
            advertised: 0,
            supported: 0,
            peer: 0,
            current_speed: 0,
            max_speed: 0,
            properties: Vec::new(),
        }
    }

    fn switch(ports: Vec<PortDesc>) -> Switch {
        Switch::new(
            "127.0.0.1:1".parse().unwrap(),
            4,
            Features {
                actions: 0,
                datapath_id: 0x2a,
                buffers: 0,
                tables: 254,
                auxiliary_id: 0,
                capabilities: 0,
                ports: Vec::new(),
            },
            SwitchDesc {
                datapath: "None".into(),
                ..SwitchDesc::default()
            },
            ports,
        )
    }

    #[test]
    fn named_after_the_local_port_or_the_id() {
        assert_eq!(switch(vec![]).name(), "000000000000002a");
        assert_eq!(
            switch(vec![port(PortNo::LOCAL.0, "br0", true)]).name(),
            "br0"
        );
    }

    #[test]
    fn port_status_is_followed() {
        let mut s = switch(vec![port(1, "p1", true)]);
        assert_eq!(
            s.port_status(PortReason::Modify, port(1, "p1", false)),
            PortChange::Up(PortNo(1))
        );
        assert_eq!(
            s.port_status(PortReason::Modify, port(1, "p1", false)),
            PortChange::Other
        );
        assert_eq!(
            s.port_status(PortReason::Delete, port(1, "p1", false)),
            PortChange::Down(PortNo(1))
        );
        assert!(s.port(PortNo(1)).is_none());
    }

    #[test]
    fn datapath_ids_are_read_strictly() {
        assert_eq!("0x2a".parse(), Ok(DatapathId(42)));
        assert_eq!("000000000000002a".parse(), Ok(DatapathId(42)));
        for bad in ["42", "0x", "+00000000000002a", "0000000000000000000000"] {
            assert!(bad.parse::<DatapathId>().is_err(), "{bad}");
        }
    }
}
