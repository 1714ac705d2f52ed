//! `kill -9` at any moment: nothing acknowledged is lost, and traffic comes back by itself.

use crate::testpmd::Testpmd;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, rest, wait};

#[test]
fn no_acknowledged_transaction_is_lost() {
    need!(Root, Ovs);
    let mut weir = Weir::start(&["--no-controller"]);
    let mut acknowledged: Vec<String> = vec![];
    for round in 0..8 {
        let stop = AtomicBool::new(false);
        let mut attempted = vec![];
        std::thread::scope(|s| {
            let run_dir = weir.run_dir.clone();
            let namespace = weir.namespace.as_ref();
            let stop = &stop;
            let writer = s.spawn(move || {
                let mut done = vec![];
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("r{round}n{n}");
                    let mut c = Tools::Stock.command("ovs-vsctl", &run_dir, namespace);
                    c.args([
                        "--no-wait",
                        "--timeout=2",
                        "set",
                        "Open_vSwitch",
                        ".",
                        &format!("external_ids:{name}=x"),
                    ]);
                    let ok = tests::process::output(c).code == 0;
                    done.push((name, ok));
                }
                done
            });
            // A few writes in, at a moment that is never the same.
            std::thread::sleep(std::time::Duration::from_millis(150 + 37 * round));
            let pid = std::fs::read_to_string(weir.run_dir.join("ovs-vswitchd.pid")).unwrap();
            tests::process::run("kill", ["-9", pid.trim()]).ok();
            stop.store(true, Ordering::Relaxed);
            attempted = writer.join().unwrap();
        });
        acknowledged.extend(attempted.into_iter().filter(|a| a.1).map(|a| a.0));
        weir.kill();
        weir.spawn();
        let there = weir
            .typed(Tools::Stock)
            .ok("ovs-vsctl get Open_vSwitch . external_ids");
        for name in &acknowledged {
            assert!(
                there.contains(&format!("{name}=x")),
                "round {round}: {name} was acknowledged and is gone"
            );
        }
    }
    assert!(
        acknowledged.len() > 20,
        "only {} transactions were tried",
        acknowledged.len()
    );
}

#[test]
fn controller_flows_and_guests_come_back() {
    need!(Root, Ovs, Testpmd);
    let mut weir = Weir::start(&[]);
    let t = weir.typed(Tools::Stock);
    t.ok(
        "ovs-vsctl add-br br0 -- set-fail-mode br0 secure -- set-controller br0 tcp:127.0.0.1:6653",
    );
    let pmd = Testpmd::start(&weir);
    pmd.add_ports(&t, "br0");
    let guests = [
        Host::on_bridge(&t, "br0", "h1", 1),
        Host::on_bridge(&t, "br0", "h2", 2),
    ];
    wait::until("the controller", || {
        t.ok("ovs-vsctl show").contains("is_connected: true")
    });
    for flow in [
        json!({"name": "a-to-b", "node": "br0", "priority": 900, "match": {"in_port": "v0"}, "actions": "output:v1"}),
        json!({"name": "b-to-a", "node": "br0", "priority": 900, "match": {"in_port": "v1"}, "actions": "output:v0"}),
    ] {
        let (status, answer) = rest::call(&weir, "POST", "/api/v1/flows", Some(&flow));
        assert!(status == 200 || status == 201, "{status} {answer}");
    }
    wait::until("hosts to ping", || guests[0].pings("10.0.0.2"));
    pmd.start_traffic();
    wait::until("frames to circle", || pmd.rate() > 0);

    weir.kill();
    weir.spawn();
    let t = weir.typed(Tools::Stock);
    wait::until("the controller's flows to be back", || {
        let flows = t.line("ovs-ofctl -O OpenFlow13 dump-flows br0").stdout;
        flows.matches("priority=900").count() == 2
    });
    wait::until("the hosts to ping again", || guests[0].pings("10.0.0.2"));
    // The guests were not restarted: their rings are taken up where they were.
    pmd.start_traffic();
    wait::until("frames to circle again", || pmd.rate() > 0);
}
