//! Key extraction, by kind of packet.

use super::Harness;
use datapath::flow::{PACKET_WORDS, TAGS_PARSED, extract};
use datapath::packet::{BATCH, Batch};

/// A frame of a kind, of at least 64 bytes.
fn frame(kind: &str) -> Vec<u8> {
    const ETHERNET: [u8; 12] = [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];
    let ipv4 = |proto: u8, len: u16, fragment: u16| {
        let mut h = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0];
        h[2..4].copy_from_slice(&len.to_be_bytes());
        h[6..8].copy_from_slice(&fragment.to_be_bytes());
        h.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        h
    };
    let ipv6 = |next: u8, len: u16| {
        let mut h = vec![0x60, 0, 0, 0];
        h.extend(len.to_be_bytes());
        h.extend([next, 64]);
        h.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        h.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        h
    };
    let udp = [0x10, 0, 0x20, 0, 0, 30, 0, 0];
    let tcp = [
        0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ];
    let mut f = ETHERNET.to_vec();
    match kind {
        "udp4" => {
            f.extend([8, 0]);
            f.extend(ipv4(17, 50, 0));
            f.extend(udp);
        }
        "tcp4" => {
            f.extend([8, 0]);
            f.extend(ipv4(6, 50, 0));
            f.extend(tcp);
        }
        "icmp4" => {
            f.extend([8, 0]);
            f.extend(ipv4(1, 50, 0));
            f.extend([8, 0, 0, 0, 0, 1, 0, 1]);
        }
        "fragment4" => {
            f.extend([8, 0]);
            f.extend(ipv4(17, 50, 0x2010));
        }
        "vlan-udp4" => {
            f.extend([0x81, 0, 0, 10, 8, 0]);
            f.extend(ipv4(17, 46, 0));
            f.extend(udp);
        }
        "qinq-tcp4" => {
            f.extend([0x88, 0xa8, 0, 10, 0x81, 0, 0, 11, 8, 0]);
            f.extend(ipv4(6, 42, 0));
            f.extend(tcp);
        }
        "udp6" => {
            f.extend([0x86, 0xdd]);
            f.extend(ipv6(17, 10));
            f.extend(udp);
        }
        "tcp6" => {
            f.extend([0x86, 0xdd]);
            f.extend(ipv6(6, 20));
            f.extend(tcp);
        }
        "arp" => {
            f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            f.extend(&ETHERNET[6..]);
            f.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        }
        _ => f.extend([0x88, 0xcc]),
    }
    f.resize(f.len().max(64), 0);
    f
}

/// A batch of each kind, cycles per packet.
pub fn run(h: &mut Harness) {
    for kind in [
        "udp4",
        "tcp4",
        "icmp4",
        "fragment4",
        "vlan-udp4",
        "qinq-tcp4",
        "udp6",
        "tcp6",
        "arp",
        "lldp",
    ] {
        let bytes = frame(kind);
        let mut batch = Batch::new();
        while let Some(p) = batch.begin() {
            p.head_space()[..bytes.len()].copy_from_slice(&bytes);
            p.set_head(bytes.len());
            batch.commit();
        }
        let mut keys = [[0; PACKET_WORDS]; BATCH];
        h.bench(&format!("extract/{kind}"), BATCH as u64, || {
            let mut words = 0;
            for (i, key) in keys.iter_mut().enumerate() {
                words += extract(batch.packet_mut(i), 1, TAGS_PARSED, key);
            }
            words
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a kind would be measured as something else.
    #[test]
    fn kinds_are_what_they_are_called() {
        let words = |kind| {
            let bytes = frame(kind);
            let mut batch = Batch::new();
            let p = batch.begin().expect("room");
            p.head_space()[..bytes.len()].copy_from_slice(&bytes);
            p.set_head(bytes.len());
            batch.commit();
            let mut key = [0; PACKET_WORDS];
            let n = extract(batch.packet_mut(0), 1, TAGS_PARSED, &mut key);
            (n, batch.packet(0).layers)
        };
        for (kind, l3, l4) in [
            ("udp4", 14, 34),
            ("tcp4", 14, 34),
            ("vlan-udp4", 18, 38),
            ("qinq-tcp4", 22, 42),
            ("udp6", 14, 54),
            ("tcp6", 14, 54),
        ] {
            let (_, layers) = words(kind);
            assert_eq!((layers.l3, layers.l4), (l3, l4), "{kind}");
        }
        assert!(words("udp4").0 < words("udp6").0);
    }
}
