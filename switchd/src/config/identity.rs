//! A bridge's MAC address and datapath id, by Open vSwitch's rules, so that a bridge keeps its
//! identity when weir takes over its database.

use openflow::MacAddr;
use ovsdb::Uuid;

/// The address of a bridge that has no port to borrow one from: the first six bytes of the row's
/// uuid as a little-endian machine stores it in 32-bit words, marked unicast and local.
pub fn default_mac(bridge: &Uuid) -> MacAddr {
    let b = bridge.as_bytes();
    MacAddr([(b[3] & !1) | 2, b[2], b[1], b[0], b[7], b[6]])
}

/// The bridge's address: `hwaddr` if given, else the lowest globally administered unicast address
/// among its ports (the local port apart), else the default one.
pub fn bridge_mac(
    hwaddr: Option<MacAddr>,
    ports: impl IntoIterator<Item = MacAddr>,
    default: MacAddr,
) -> MacAddr {
    let usable = |m: &MacAddr| *m != MacAddr::default() && m.0[0] & 3 == 0;
    hwaddr
        .or_else(|| ports.into_iter().filter(usable).min())
        .unwrap_or(default)
}

/// The datapath id: `other_config:datapath-id` if given, else the bridge's address as a number.
pub fn datapath_id(configured: Option<u64>, mac: MacAddr) -> u64 {
    configured.unwrap_or_else(|| mac.to_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(s: &str) -> MacAddr {
        s.parse().unwrap()
    }

    #[test]
    fn default_is_the_one_open_vswitch_derives() {
        let row: Uuid = "cc52be90-15c6-4a21-b37a-0daab531ebe7".parse().unwrap();
        assert_eq!(default_mac(&row), mac("92:be:52:cc:21:4a"));
        assert_eq!(datapath_id(None, default_mac(&row)), 0x0000_92be_52cc_214a);
    }

    #[test]
    fn lowest_global_address_wins_unless_one_is_given() {
        let default = mac("02:00:00:00:00:09");
        let ports = [
            "aa:55:aa:55:00:01",
            "00:16:3e:00:00:09",
            "00:16:3e:00:00:02",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
        ]
        .map(mac);
        assert_eq!(bridge_mac(None, ports, default), mac("00:16:3e:00:00:02"));
        assert_eq!(bridge_mac(None, [ports[0]], default), default);
        let given = mac("aa:55:aa:55:00:00");
        assert_eq!(bridge_mac(Some(given), ports, default), given);
        assert_eq!(datapath_id(Some(7), given), 7);
    }
}
