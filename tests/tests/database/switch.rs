//! A switch of one and a database of the other; the switch runs in a namespace of its own.

use crate::pair::Running;
use tests::need;
use tests::netns::Namespace;
use tests::pairs::Pair;
use tests::process::Daemon;
use tests::switch::weir_binary;
use tests::tools::Tools;

/// Starts the switch of `switch` on the database of `server`, and configures it.
fn configures(switch: Tools, server: Tools) {
    let running = Running::start(Pair::new(Tools::Stock, server), &crate::corpus::directory());
    let dir = running.dir();
    let namespace = Namespace::new();
    running.line("ovs-vsctl --no-wait init").ok();
    let mut c = match switch {
        Tools::Stock => namespace.command("/usr/lib/openvswitch-switch/ovs-vswitchd"),
        Tools::Weir => {
            let mut c = namespace.command(weir_binary());
            c.arg("switchd");
            c
        }
    };
    c.args(["--enable-dummy=override", "--disable-system", "--pidfile"])
        .arg(format!("unix:{}", dir.join("db.sock").display()))
        .current_dir(dir);
    for v in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        c.env(v, dir);
    }
    let _switch = Daemon::spawn(c, &dir.join("switch.log"));
    let ok = |line: &str| running.line(&format!("ovs-vsctl --timeout=15 {line}")).ok();
    // Each returns when the switch has done it.
    ok(
        "add-br br0 -- add-port br0 p1 -- set interface p1 type=dummy ofport_request=7 -- add-port br0 p2 -- set interface p2 type=dummy",
    );
    assert_eq!(ok("get interface p1 ofport"), "7\n");
    assert_eq!(ok("get interface br0 ofport"), "65534\n");
    let p2: u32 = ok("get interface p2 ofport")
        .trim()
        .parse()
        .expect("a port number");
    assert!((1..65280).contains(&p2) && p2 != 7, "{p2}");
    assert_eq!(ok("get interface p1 error"), "[]\n");
    assert_eq!(
        ok("get bridge br0 datapath_id").trim().len(),
        18,
        "a number in quotes"
    );
    ok("del-port p1");
    assert_eq!(ok("list-ports br0"), "p2\n");
    ok("del-br br0");
    let root = "--columns=cur_cfg,next_cfg -f csv --no-headings list Open_vSwitch";
    let (done, wanted) = (ok(root), "3,3\n");
    assert_eq!(done, wanted, "what was done and what was wanted");
}

#[test]
fn ovs_vswitchd_on_our_database() {
    need!(Root, Ovs);
    configures(Tools::Stock, Tools::Weir);
}

#[test]
fn our_switch_on_ovsdb_server() {
    need!(Root, Ovs);
    configures(Tools::Weir, Tools::Stock);
}
