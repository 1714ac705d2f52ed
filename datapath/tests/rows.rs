//! What `docs/openflow.md` says of fields and actions is what the tables do.

mod common;

use common::*;
use openflow::field::{FIELDS, Prereq};
use openflow::*;

/// Names and states of a section's rows.
fn documented(section: &str) -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openflow.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text
        .lines()
        .skip_while(|l| *l != format!("## {section}"))
        .skip(1)
        .take_while(|l| !l.starts_with("## "))
        .filter(|l| l.starts_with('|'))
        .map(|l| {
            l.split('|')
                .map(|c| c.trim().trim_matches('`'))
                .collect::<Vec<_>>()
        });
    let head = lines.next().unwrap();
    let state = head.iter().position(|c| *c == "State").unwrap();
    lines
        .skip(1)
        .map(|row| (row[1].to_owned(), row[state].to_owned()))
        .collect()
}

/// What came of adding a flow, as the page says it.
fn outcome(s: &Switch, m: &FlowMod) -> String {
    match s.dp.flow_mod(s.br, m) {
        Ok(()) => "yes".to_owned(),
        Err(e) => format!("refused: {}", e.kind.name()),
    }
}

/// What a match must say for a field to be there.
fn prerequisites(p: Prereq) -> Match {
    let eth = |t: u128| Match::new().with(FieldId::EthType, t);
    let ip = |t, proto: u128| eth(t).with(FieldId::IpProto, proto);
    let icmp6 = |kind: u128| ip(0x86dd, 58).with(FieldId::Icmpv6Type, kind);
    let of = [
        Match::new(),
        Match::new().with(FieldId::VlanVid, 0x1005),
        eth(0x0800),
        eth(0x86dd),
        eth(0x0806),
        eth(0x8847),
        eth(0x88e7),
        eth(0x894f),
        ip(0x0800, 6),
        ip(0x0800, 17),
        ip(0x0800, 132),
        ip(0x0800, 1),
        ip(0x86dd, 58),
        icmp6(135),
        icmp6(136),
    ];
    of.into_iter().find(|m| m.meets(p)).unwrap_or_default()
}

#[test]
fn every_field_is_matched_or_refused_as_documented() {
    let s = Switch::new(1);
    let mut wrong = Vec::new();
    for (name, said) in documented("Fields") {
        let f = FIELDS.iter().find(|f| f.name == name).expect("a field");
        let mut m = prerequisites(f.prereq);
        if m.get(f.id).1 == 0 {
            m.set(f.id, 1);
        }
        let is = outcome(&s, &FlowMod::add(m, Instructions::default()));
        if is != said {
            wrong.push(format!("{name}: {is}, but the page says {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A flow with each action; ports, group 1 and meter 1 are there.
const SAMPLES: &[(&str, &str)] = &[
    ("OFPAT_OUTPUT", "actions=output:1"),
    ("OFPAT_SET_VLAN_VID", "actions=mod_vlan_vid:5"),
    ("OFPAT_SET_VLAN_PCP", "actions=mod_vlan_pcp:3"),
    ("OFPAT_STRIP_VLAN", "actions=strip_vlan"),
    ("OFPAT_SET_DL_SRC", "actions=mod_dl_src:02:00:00:00:00:01"),
    ("OFPAT_SET_DL_DST", "actions=mod_dl_dst:02:00:00:00:00:01"),
    ("OFPAT_SET_NW_SRC", "ip,actions=mod_nw_src:10.0.0.1"),
    ("OFPAT_SET_NW_DST", "ip,actions=mod_nw_dst:10.0.0.1"),
    ("OFPAT_SET_NW_TOS", "ip,actions=mod_nw_tos:8"),
    ("OFPAT_SET_NW_ECN", "ip,actions=mod_nw_ecn:1"),
    ("OFPAT_SET_TP_SRC", "tcp,actions=mod_tp_src:5"),
    ("OFPAT_SET_TP_DST", "tcp,actions=mod_tp_dst:5"),
    ("OFPAT_ENQUEUE", "actions=enqueue:1:2"),
    ("OFPAT_COPY_TTL_OUT", "mpls,actions=copy_ttl_out"),
    ("OFPAT_COPY_TTL_IN", "mpls,actions=copy_ttl_in"),
    ("OFPAT_SET_MPLS_LABEL", "mpls,actions=set_mpls_label:5"),
    ("OFPAT_SET_MPLS_TC", "mpls,actions=set_mpls_tc:5"),
    ("OFPAT_SET_MPLS_TTL", "mpls,actions=set_mpls_ttl:5"),
    ("OFPAT_DEC_MPLS_TTL", "mpls,actions=dec_mpls_ttl"),
    ("OFPAT_PUSH_VLAN", "actions=push_vlan:0x88a8"),
    ("OFPAT_POP_VLAN", "dl_vlan=5,actions=pop_vlan"),
    ("OFPAT_PUSH_MPLS", "ip,actions=push_mpls:0x8847"),
    ("OFPAT_POP_MPLS", "mpls,actions=pop_mpls:0x0800"),
    ("OFPAT_SET_QUEUE", "actions=set_queue:2,output:1"),
    ("OFPAT_GROUP", "actions=group:1"),
    ("OFPAT_SET_NW_TTL", "ip,actions=mod_nw_ttl:5"),
    ("OFPAT_DEC_NW_TTL", "ip,actions=dec_ttl"),
    ("OFPAT_SET_FIELD", "actions=set_field:5->reg0"),
    ("OFPAT_PUSH_PBB", "actions=push_pbb:0x88e7"),
    ("OFPAT_POP_PBB", "dl_type=0x88e7,actions=pop_pbb"),
    (
        "OFPAT_COPY_FIELD",
        "actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
    ),
    ("OFPAT_METER", "actions=meter:1,output:1"),
    ("NXAST_RESUBMIT", "actions=resubmit:1"),
    ("NXAST_SET_TUNNEL", "actions=set_tunnel:5"),
    ("NXAST_SET_QUEUE", "actions=set_queue:2"),
    ("NXAST_POP_QUEUE", "actions=pop_queue"),
    (
        "NXAST_REG_MOVE",
        "actions=move:NXM_NX_REG0[]->NXM_NX_REG1[]",
    ),
    ("NXAST_REG_LOAD", "actions=load:1->NXM_NX_REG0[]"),
    ("NXAST_NOTE", "actions=note:01"),
    ("NXAST_SET_TUNNEL64", "actions=set_tunnel64:5"),
    (
        "NXAST_MULTIPATH",
        "actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[])",
    ),
    (
        "NXAST_BUNDLE",
        "actions=bundle(eth_src,0,hrw,ofport,members:1)",
    ),
    (
        "NXAST_BUNDLE_LOAD",
        "actions=bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[],members:1)",
    ),
    ("NXAST_RESUBMIT_TABLE", "actions=resubmit(,1)"),
    ("NXAST_OUTPUT_REG", "actions=output:NXM_NX_REG0[]"),
    ("NXAST_LEARN", "actions=learn(table=1,NXM_OF_ETH_SRC[])"),
    ("NXAST_EXIT", "actions=exit"),
    ("NXAST_DEC_TTL", "ip,actions=dec_ttl"),
    (
        "NXAST_FIN_TIMEOUT",
        "tcp,actions=fin_timeout(idle_timeout=5)",
    ),
    ("NXAST_CONTROLLER", "actions=controller(max_len=1,id=5)"),
    ("NXAST_DEC_TTL_CNT_IDS", "ip,actions=dec_ttl(1,2)"),
    ("NXAST_WRITE_METADATA", "actions=write_metadata:1"),
    ("NXAST_PUSH_MPLS", "ip,actions=push_mpls:0x8847"),
    ("NXAST_POP_MPLS", "mpls,actions=pop_mpls:0x0800"),
    ("NXAST_SET_MPLS_TTL", "mpls,actions=set_mpls_ttl:5"),
    ("NXAST_DEC_MPLS_TTL", "mpls,actions=dec_mpls_ttl"),
    ("NXAST_STACK_PUSH", "actions=push:NXM_NX_REG0[]"),
    ("NXAST_STACK_POP", "actions=pop:NXM_NX_REG0[]"),
    ("NXAST_SAMPLE", "actions=sample(probability=1)"),
    ("NXAST_SET_MPLS_LABEL", "mpls,actions=set_mpls_label:5"),
    ("NXAST_SET_MPLS_TC", "mpls,actions=set_mpls_tc:5"),
    ("NXAST_OUTPUT_REG2", "actions=output:NXM_NX_XXREG0[0..31]"),
    ("NXAST_REG_LOAD2", "actions=set_field:1/1->reg0"),
    ("NXAST_CONJUNCTION", "actions=conjunction(1,1/2)"),
    ("NXAST_CT", "ip,actions=ct(commit)"),
    ("NXAST_NAT", "ip,actions=ct(nat)"),
    ("NXAST_CONTROLLER2", "actions=controller(userdata=01)"),
    (
        "NXAST_SAMPLE2",
        "actions=sample(probability=1,sampling_port=1)",
    ),
    ("NXAST_OUTPUT_TRUNC", "actions=output(port=1,max_len=100)"),
    ("NXAST_GROUP", "actions=group:1"),
    (
        "NXAST_SAMPLE3",
        "actions=sample(probability=1,sampling_port=1,ingress)",
    ),
    ("NXAST_CLONE", "actions=clone(output:1)"),
    ("NXAST_CT_CLEAR", "actions=ct_clear"),
    (
        "NXAST_RESUBMIT_TABLE_CT",
        "ct_state=+trk-inv,ip,actions=resubmit(,1,ct)",
    ),
    (
        "NXAST_LEARN2",
        "actions=learn(table=1,limit=1,NXM_OF_ETH_SRC[])",
    ),
    ("NXAST_ENCAP", "actions=encap(nsh)"),
    ("NXAST_DECAP", "dl_type=0x894f,actions=decap()"),
    ("NXAST_DEC_NSH_TTL", "dl_type=0x894f,actions=dec_nsh_ttl"),
    (
        "NXAST_CHECK_PKT_LARGER",
        "actions=check_pkt_larger(100)->NXM_NX_REG0[0]",
    ),
    ("NXAST_DELETE_FIELD", "actions=delete_field:tun_metadata0"),
];

#[test]
fn every_action_is_carried_out_or_refused_as_documented() {
    let s = Switch::new(2);
    let names = text::Names::default();
    let group = text::parse_group_mod(
        "group_id=1,type=all,bucket=actions=output:1",
        GroupModCommand::Add,
        &names,
    );
    s.dp.group_mod(s.br, &group.unwrap()).unwrap();
    let meter = text::parse_meter_mod("meter=1,kbps,band=type=drop,rate=9", MeterModCommand::Add);
    s.dp.meter_mod(s.br, &meter.unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut rows = documented("Actions");
    rows.extend(documented("Nicira's actions"));
    assert_eq!(rows.len(), SAMPLES.len());
    for (name, said) in rows {
        let (_, flow) = SAMPLES
            .iter()
            .find(|s| s.0 == name)
            .unwrap_or_else(|| panic!("{name} has no sample"));
        let line = text::parse_flow(flow, text::FlowCommand::Add, &names);
        let is = match line {
            Ok(mut line) => {
                // What was needed to say it, and would be refused by itself.
                let m = &mut line.flow_mod.matching;
                m.set_slot(Slot::CtState, 0, 0, u128::MAX);
                outcome(&s, &line.flow_mod)
            }
            Err(e) => format!("cannot be written ({e})"),
        };
        if is != said {
            wrong.push(format!("{name}: {is}, but the page says {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
