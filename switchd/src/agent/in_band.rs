//! In-band control: rules of the switch's own that keep its connections to controllers up where these run
//! over the bridge itself (`Controller.connection_mode`, `Bridge.other_config:disable-in-band` and
//! `in-band-queue`).
//!
//! The rules are Open vSwitch's: from the local port DHCP and ARP; ARP of the next hop and of the
//! controller; TCP of the controller's port. They forward as NORMAL and are hidden from controllers. The
//! way to a controller is looked up as the kernel has it, about once a second, in IPv4 alone. A controller
//! at a loopback address is never reached over a bridge and has no rules.

use super::HIDDEN_COOKIE;
use openflow::{Action, FieldId, FlowMod, Instructions, MacAddr, Match, PortNo};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Priority of the rules: the highest that a table takes.
const PRIORITY: u16 = u16::MAX;
/// What the first kind of rule is marked with; the others follow in the order of [`NAMES`].
const COOKIE: u64 = HIDDEN_COOKIE + 0xff;
/// Open vSwitch's priority of the first kind of rule, beyond what OpenFlow can name.
const SHOWN: u32 = 180_000;

const ARP: u128 = 0x806;
const IPV4: u128 = 0x800;
const ARP_REQUEST: u128 = 1;
const ARP_REPLY: u128 = 2;
const TCP: u128 = 6;
const UDP: u128 = 17;
const DHCP_CLIENT: u128 = 68;
const DHCP_SERVER: u128 = 67;

/// A controller to be reached, and the address of the host through which it is, once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
    /// The next hop's Ethernet address.
    pub next_hop: Option<MacAddr>,
}

/// The priority under which `bridge/dump-flows` shows a rule of this cookie, if it is one of these.
pub fn shown_priority(cookie: u64) -> Option<u32> {
    let kind = cookie.checked_sub(COOKIE)?;
    (kind < 9).then_some(SHOWN + kind as u32)
}

/// The rules for a bridge whose local port has the address `local`.
pub fn rules(
    local: Option<MacAddr>,
    remotes: &BTreeSet<Remote>,
    queue: Option<u32>,
) -> Vec<FlowMod> {
    use FieldId::*;
    let mut rules: Vec<FlowMod> = Vec::new();
    let mut add = |kind: u64, fields: &[(FieldId, u128)]| {
        let mut matching = Match::new();
        for (field, value) in fields {
            matching.set(*field, *value);
        }
        let normal = Action::Output {
            port: PortNo::NORMAL,
            max_len: 0,
        };
        let actions = queue.map(Action::SetQueue).into_iter().chain([normal]);
        let rule = FlowMod {
            cookie: COOKIE + kind,
            priority: PRIORITY,
            ..FlowMod::add(matching, Instructions::apply(actions.collect()))
        };
        // Several controllers may be behind one next hop, or at one address.
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    };
    if let Some(local) = local.filter(|_| !remotes.is_empty()) {
        let mac = u128::from(local.to_u64());
        let dhcp = [
            (InPort, u128::from(PortNo::LOCAL.0)),
            (EthType, IPV4),
            (EthSrc, mac),
            (IpProto, UDP),
            (UdpSrc, DHCP_CLIENT),
            (UdpDst, DHCP_SERVER),
        ];
        add(0, &dhcp);
        add(1, &[(EthType, ARP), (EthDst, mac), (ArpOp, ARP_REPLY)]);
        add(2, &[(EthType, ARP), (EthSrc, mac), (ArpOp, ARP_REQUEST)]);
    }
    for mac in remotes.iter().filter_map(|r| r.next_hop) {
        let mac = u128::from(mac.to_u64());
        add(3, &[(EthType, ARP), (EthDst, mac), (ArpOp, ARP_REPLY)]);
        add(4, &[(EthType, ARP), (EthSrc, mac), (ArpOp, ARP_REQUEST)]);
    }
    for r in remotes {
        let (ip, port) = (u128::from(u32::from(r.ip)), u128::from(r.port));
        add(5, &[(EthType, ARP), (ArpTpa, ip), (ArpOp, ARP_REPLY)]);
        add(6, &[(EthType, ARP), (ArpSpa, ip), (ArpOp, ARP_REQUEST)]);
        let tcp = [(EthType, IPV4), (IpProto, TCP)];
        add(7, &[&tcp[..], &[(Ipv4Dst, ip), (TcpDst, port)]].concat());
        add(8, &[&tcp[..], &[(Ipv4Src, ip), (TcpSrc, port)]].concat());
    }
    rules
}

/// The Ethernet address through which `ip` is reached, by the kernel's tables as text (`/proc/net/route`,
/// `/proc/net/arp`).
pub fn next_hop(ip: Ipv4Addr, routes: &str, neighbours: &str) -> Option<MacAddr> {
    let hop = gateway(ip, routes)?;
    neighbours.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let address: Ipv4Addr = words.next()?.parse().ok()?;
        let mac: MacAddr = words.nth(2)?.parse().ok()?;
        (address == hop && mac != MacAddr::default()).then_some(mac)
    })
}

/// Where packets to `ip` are sent first: by the longest prefix, then the least metric.
fn gateway(ip: Ipv4Addr, routes: &str) -> Option<Ipv4Addr> {
    let mut best: Option<(u32, std::cmp::Reverse<u32>, Ipv4Addr)> = None;
    for line in routes.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = words[..] else {
            continue;
        };
        // Written as the words lie in memory.
        let hex = |s: &str| u32::from_str_radix(s, 16).ok();
        let address = |s: &str| hex(s).map(|n| u32::from_be_bytes(n.to_ne_bytes()));
        let (Some(destination), Some(gateway), Some(flags), Some(mask)) = (
            address(destination),
            address(gateway),
            hex(flags),
            address(mask),
        ) else {
            continue;
        };
        let metric = metric.parse().unwrap_or(0);
        if flags & 1 == 0 || u32::from(ip) & mask != destination {
            continue;
        }
        let hop = match gateway {
            0 => ip,
            g => Ipv4Addr::from(g),
        };
        let found = (mask, std::cmp::Reverse(metric), hop);
        if best.is_none_or(|b| (found.0, found.1) > (b.0, b.1)) {
            best = Some(found);
        }
    }
    best.map(|(_, _, hop)| hop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::text::{Names, format_instructions, format_match};

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
br0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";
    const NEIGHBOURS: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         02:00:00:00:00:01     *        eth0
10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        br0
10.0.0.8         0x1         0x2         02:00:00:00:00:08     *        br0
";

    #[test]
    fn the_next_hop_is_a_gateway_or_the_controller_itself() {
        let hop = |ip: &str| next_hop(ip.parse().unwrap(), ROUTES, NEIGHBOURS);
        assert_eq!(hop("198.51.100.9"), "02:00:00:00:00:01".parse().ok());
        assert_eq!(hop("10.0.0.8"), "02:00:00:00:00:08".parse().ok());
        assert_eq!(hop("10.0.0.7"), None, "not known yet");
        assert_eq!(hop("10.0.0.9"), None);
    }

    #[test]
    fn the_rules_are_those_of_open_vswitch() {
        let remote = |port| Remote {
            ip: Ipv4Addr::new(10, 0, 0, 8),
            port,
            next_hop: "02:00:00:00:00:08".parse().ok(),
        };
        let remotes = BTreeSet::from([remote(6653), remote(6654)]);
        let local = "aa:55:aa:55:00:00".parse().ok();
        let text = |rules: Vec<FlowMod>| -> Vec<String> {
            let names = Names::default();
            rules
                .iter()
                .map(|m| {
                    format!(
                        "{} {} {}",
                        shown_priority(m.cookie).unwrap(),
                        format_match(&m.matching, None, &names),
                        format_instructions(&m.instructions, &names)
                    )
                })
                .collect()
        };
        let all = text(rules(local, &remotes, None));
        assert_eq!(
            all,
            [
                "180000 udp,in_port=LOCAL,dl_src=aa:55:aa:55:00:00,tp_src=68,tp_dst=67 NORMAL",
                "180001 arp,dl_dst=aa:55:aa:55:00:00,arp_op=2 NORMAL",
                "180002 arp,dl_src=aa:55:aa:55:00:00,arp_op=1 NORMAL",
                "180003 arp,dl_dst=02:00:00:00:00:08,arp_op=2 NORMAL",
                "180004 arp,dl_src=02:00:00:00:00:08,arp_op=1 NORMAL",
                "180005 arp,arp_tpa=10.0.0.8,arp_op=2 NORMAL",
                "180006 arp,arp_spa=10.0.0.8,arp_op=1 NORMAL",
                "180007 tcp,nw_dst=10.0.0.8,tp_dst=6653 NORMAL",
                "180008 tcp,nw_src=10.0.0.8,tp_src=6653 NORMAL",
                "180007 tcp,nw_dst=10.0.0.8,tp_dst=6654 NORMAL",
                "180008 tcp,nw_src=10.0.0.8,tp_src=6654 NORMAL",
            ]
        );
        let queued = text(rules(None, &remotes, Some(3)));
        assert_eq!(
            queued.len(),
            8,
            "without the local port's address only the remotes' rules"
        );
        assert!(queued[0].ends_with("set_queue:3,NORMAL"));
        assert!(rules(local, &BTreeSet::new(), None).is_empty());
    }
}
