//! Tunnels between vhost-user ports: the first is on a bridge with a tunnel port, the second on the bridge under the tunnel. Headers are
//! put on one way and taken off the other way.

use super::{Scenario, Wanted, record};
use crate::load::frame::{self, Flows};
use crate::load::{Change, LEAD, Plan, Size, Source};
use crate::metric::Want;
use crate::peers::{Peer, Setup, TUNNEL_PORT, Tunnel};

const FRAME: usize = 64;
const KEY: u32 = 77;
const OWN: [u8; 4] = [192, 168, 77, 1];
const OTHER: [u8; 4] = [192, 168, 77, 2];
const OWN_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x77];

/// Which way frames go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    On,
    Off,
    Both,
}

/// A tunnel's headers before a frame of [`FRAME`] bytes, from one end to the other.
fn headers(kind: &str, from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4])) -> [u8; LEAD] {
    let (udp, header): (u16, [u8; 4]) = match kind {
        "vxlan" => (4789, [8, 0, 0, 0]),
        _ => (6081, [0, 0, 0x65, 0x58]),
    };
    let len = (LEAD - 34 + FRAME) as u16;
    let mut h = [0; LEAD];
    h[..6].copy_from_slice(&to.0);
    h[6..12].copy_from_slice(&from.0);
    h[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    h[16..18].copy_from_slice(&(len + 20).to_be_bytes());
    h[20..24].copy_from_slice(&[0x40, 0, 64, 17]);
    h[26..30].copy_from_slice(&from.1);
    h[30..34].copy_from_slice(&to.1);
    let sum = datapath::packet::checksum::of(&h[14..34]);
    h[24..26].copy_from_slice(&sum.to_be_bytes());
    h[36..38].copy_from_slice(&udp.to_be_bytes());
    h[38..40].copy_from_slice(&len.to_be_bytes());
    h[42..46].copy_from_slice(&header);
    h[46..49].copy_from_slice(&KEY.to_be_bytes()[1..]);
    h
}

fn plan(kind: &'static str, way: Way) -> (Plan, Setup) {
    let (own, other) = ((OWN_MAC, OWN), (frame::mac(1), OTHER));
    let flows = || Flows::many(100, FRAME);
    let on = Source {
        change: Change::Encap(headers(kind, own, other)),
        ..Source::new(flows(), 1)
    };
    let off = Source {
        change: Change::Decap,
        lead: headers(kind, other, own).into(),
        ..Source::new(flows(), 0)
    };
    let sources = vec![
        (way != Way::Off).then_some(on),
        (way != Way::On).then_some(off),
    ];
    let setup = Setup {
        rules: vec![
            format!("in_port=1,actions=output:{TUNNEL_PORT}"),
            format!("in_port={TUNNEL_PORT},actions=output:1"),
        ],
        private: true,
        tunnel: Some(Tunnel {
            kind,
            key: KEY,
            own,
            other,
        }),
        ..Setup::default()
    };
    let plan = Plan {
        size: Size::Plain(FRAME),
        packed: false,
        sources,
    };
    (plan, setup)
}

fn scenario(kind: &'static str, way: Way) -> Scenario {
    let (name, about) = match way {
        Way::On => ("encap", "headers put on"),
        Way::Off => ("decap", "headers taken off"),
        Way::Both => ("both", "headers put on one way and taken off the other"),
    };
    let about = format!("{kind} between vhost-user ports, {FRAME}-byte frames, {about}");
    Scenario::new(format!("tunnel/{kind}/{name}"), about, move |run, name| {
        run.table
            .want(&format!("{name}.mpps"), Want::Ratio(Peer::OvsDpdk, 1.5));
        run.alternate(
            name,
            |peer| Ok((peer != Peer::TestpmdForward).then(|| plan(kind, way))),
            |subject, table| {
                let s = subject.measure(name, Wanted::OPEN)?;
                record(table, name, subject.kind, &s);
                Ok(())
            },
        );
        Ok(())
    })
}

/// VXLAN and Geneve, each way and both.
pub fn scenarios() -> Vec<Scenario> {
    let ways = [Way::On, Way::Off, Way::Both];
    let kinds = ["vxlan", "geneve"];
    kinds
        .into_iter()
        .flat_map(|kind| ways.map(|way| scenario(kind, way)))
        .collect()
}
