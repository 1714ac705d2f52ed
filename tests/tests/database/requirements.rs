//! What the books print: the configuration commands of policing, shaping, tunnels and mirrors, as typed, and what
//! they show. What the packets then do is the walkthroughs' business.

use std::path::Path;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};

#[test]
fn with_stock_tools() {
    tests::need!(Root, Ovs);
    type_all(Tools::Stock);
}

#[test]
fn with_weir_tools() {
    tests::need!(Root);
    type_all(Tools::Weir);
}

fn type_all(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok("ovs-vsctl add-br vswitch001");
    for port in ["fed1", "fed4", "dummy0"] {
        t.ok(&format!(
            "ovs-vsctl add-port vswitch001 {port} -- set interface {port} type=internal"
        ));
    }
    abbreviated(&t);
    policing(&t);
    shaping(&t);
    tunnels(&t);
    mirrors(&t);
    history(&t, tools, &weir.run_dir.with_file_name("conf.db"));
}

/// Each transaction with its time and what it changed. The books write the command as one word, which Open vSwitch's tool does
/// not know.
fn history(t: &Typed, tools: Tools, file: &Path) {
    let command = match tools {
        Tools::Stock => "show-log",
        Tools::Weir => "showlog",
    };
    let log = t.ok(&format!("ovsdb-tool -m {command} {}", file.display()));
    assert!(
        log.starts_with("record 0: \"Open_vSwitch\" schema"),
        "{log}"
    );
    let (before, after) = log
        .split_once("add-br vswitch001\"")
        .expect("the first command, among the comments");
    assert!(
        before
            .lines()
            .last()
            .is_some_and(|l| l.starts_with("record ") && l.contains(": 20")),
        "{before}"
    );
    let mirror = after.find("create mirror").expect("the last commands");
    let queue = after.find("create queue").expect("those before");
    assert!(queue < mirror);
}

/// The value that `list` shows of a column.
#[track_caller]
fn shown<'a>(list: &'a str, column: &str) -> &'a str {
    let values: Vec<&str> = list
        .lines()
        .filter_map(|l| l.split_once(':'))
        .filter(|(name, _)| name.trim_end() == column)
        .map(|(_, value)| value.trim())
        .collect();
    match values.as_slice() {
        [one] => one,
        other => panic!("{column} is there {} times in {list}", other.len()),
    }
}

/// Tables in any case, columns with `-`, options cut short.
fn abbreviated(t: &Typed) {
    assert_eq!(
        t.ok("ovs-vsctl list-ports vswitch001"),
        "dummy0\nfed1\nfed4\n"
    );
    assert_eq!(
        t.ok("ovs-vsctl list-ifaces vswitch001"),
        "dummy0\nfed1\nfed4\n"
    );
    t.ok("ovs-vsctl set Port fed4 vlan-mode=trunk");
    t.ok("ovs-vsctl set port fed1 vlan_mode=native-untagged");
    let table = t.ok("ovs-vsctl --format table --column=name,vlan_mode list port");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("name       vlan_mode"));
    assert_eq!(lines.next(), Some("---------- ---------------"));
    let mut rows: Vec<&str> = lines.collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            "dummy0     []",
            "fed1       native-untagged",
            "fed4       trunk",
            "vswitch001 []"
        ]
    );
    t.ok("ovs-vsctl clear port fed1 vlan_mode -- clear port fed4 vlan_mode");
}

fn policing(t: &Typed) {
    t.ok("ovs-vsctl set interface fed1 ingress_policing_rate=20000");
    t.ok("ovs-vsctl set interface fed1 ingress_policing_burst=200");
    let list = t.ok("ovs-vsctl list interface fed1");
    assert_eq!(shown(&list, "ingress_policing_rate"), "20000");
    assert_eq!(shown(&list, "ingress_policing_burst"), "200");
    assert_eq!(shown(&list, "name"), "fed1");
    t.ok("ovs-vsctl set interface fed1 ingress_policing_rate=0");
    t.ok("ovs-vsctl set interface fed1 ingress_policing_burst=0");
    let list = t.ok("ovs-vsctl list interface fed1");
    assert_eq!(shown(&list, "ingress_policing_rate"), "0");
}

fn shaping(t: &Typed) {
    let queue = t.ok("ovs-vsctl --id=@q0 create queue other-config:min-rate=10000000 other-config:max-rate=10000000");
    let queue = queue.trim();
    assert_eq!(
        t.ok("ovs-vsctl list queue"),
        format!(
            "_uuid               : {queue}\ndscp                : []\nexternal_ids        : {{}}\n\
             other_config        : {{max-rate=\"10000000\", min-rate=\"10000000\"}}\n"
        )
    );
    let qos = t.ok(&format!(
        "ovs-vsctl create qos type=linux-htb queues=0={queue}"
    ));
    let qos = qos.trim();
    assert_eq!(
        t.ok("ovs-vsctl list qos"),
        format!(
            "_uuid               : {qos}\nexternal_ids        : {{}}\nother_config        : {{}}\n\
             queues              : {{0={queue}}}\ntype                : linux-htb\n"
        )
    );
    t.ok(&format!("ovs-vsctl set port fed1 qos={qos}"));
    assert_eq!(
        t.ok("ovs-vsctl --column=name,qos list port fed1"),
        format!("name                : fed1\nqos                 : {qos}\n")
    );
    let refused = t.line(&format!("ovs-vsctl destroy queue {queue}")).fails();
    assert!(
        refused.contains("referential integrity violation"),
        "{refused}"
    );
    t.ok("ovs-vsctl clear Port fed1 qos");
    t.ok(&format!("ovs-vsctl destroy qos {qos}"));
    t.ok(&format!("ovs-vsctl destroy Queue {queue}"));
    assert_eq!(t.ok("ovs-vsctl list qos -- list queue"), "\n");

    let made = t.ok("ovs-vsctl set port fed4 qos=@newqos -- --id=@newqos create qos type=linux-htb queues=0=@q0 -- --id=@q0 create queue other-config:min-rate=2000000 other-config:max-rate=2000000");
    let uuids: Vec<&str> = made.lines().collect();
    let [qos, queue] = uuids[..] else {
        panic!("two UUIDs: {made}")
    };
    assert_eq!(
        t.ok("ovs-vsctl get port fed4 qos -- get qos fed4 queues"),
        format!("{qos}\n{{0={queue}}}\n")
    );
    t.ok("ovs-vsctl clear Port fed4 qos");
    // The order in which the book prints them is the one that cannot work; see the line above.
    t.ok("ovs-vsctl -- --all destroy qos -- --all destroy Queue");
    assert_eq!(t.ok("ovs-vsctl list qos -- list queue"), "\n");
}

fn tunnels(t: &Typed) {
    for (port, kind) in [("vxlan1", "vxlan"), ("gre1", "gre")] {
        t.ok(&format!(
            "ovs-vsctl add-port vswitch001 {port} -- set interface {port} type={kind} options:remote_ip=192.168.1.20"
        ));
        let show = t.ok("ovs-vsctl show");
        let block = format!(
            "        Port {port}\n            Interface {port}\n                type: {kind}\n                options: {{remote_ip=\"192.168.1.20\"}}\n"
        );
        assert!(show.contains(&block), "{show}");
        t.ok(&format!("ovs-vsctl set interface {port} options:key=11"));
        let keyed = "options: {key=\"11\", remote_ip=\"192.168.1.20\"}";
        let show = t.ok("ovs-vsctl show");
        assert!(show.contains(keyed), "{show}");
        t.ok(&format!("ovs-vsctl del-port {port}"));
    }
    let refused = t
        .line("ovs-vsctl add-port vswitch001 vxlan1 -- set interface vxlan2 type=vxlan options:remote_ip=192.168.1.20")
        .fails();
    assert_eq!(refused, "ovs-vsctl: no row \"vxlan2\" in table Interface\n");
    assert!(!t.ok("ovs-vsctl list-ports vswitch001").contains("vxlan1"));
}

fn mirrors(t: &Typed) {
    t.ok("ovs-vsctl -- --id=@m create mirror name=M1 -- add bridge vswitch001 mirrors @m");
    let list = t.ok("ovs-vsctl list mirror");
    for (column, value) in [
        ("name", "M1"),
        ("output_port", "[]"),
        ("output_vlan", "[]"),
        ("select_all", "false"),
        ("select_dst_port", "[]"),
        ("select_src_port", "[]"),
        ("select_vlan", "[]"),
        ("external_ids", "{}"),
    ] {
        assert_eq!(shown(&list, column), value);
    }
    let uuid = |port: &str| {
        let list = t.ok(&format!("ovs-vsctl --column=_uuid list port {port}"));
        shown(&list, "_uuid").to_owned()
    };
    let (fed1, dummy0) = (uuid("fed1"), uuid("dummy0"));
    t.ok("ovs-vsctl -- --id=@fed1 get port fed1 -- set mirror M1 select_src_port=@fed1 select_dst_port=@fed1");
    t.ok(&format!("ovs-vsctl set mirror M1 output-port={dummy0}"));
    let list = t.ok("ovs-vsctl list mirror M1");
    assert_eq!(shown(&list, "select_src_port"), format!("[{fed1}]"));
    assert_eq!(shown(&list, "select_dst_port"), format!("[{fed1}]"));
    assert_eq!(shown(&list, "output_port"), dummy0);
    t.ok("ovs-vsctl -- --id=@dummy0 get port dummy0 -- set mirror M1 select_all=true output-port=@dummy0");
    assert_eq!(t.ok("ovs-vsctl get mirror M1 select_all"), "true\n");
    t.ok("ovs-vsctl clear bridge vswitch001 mirrors");
    assert_eq!(t.ok("ovs-vsctl list mirror"), "");
}
