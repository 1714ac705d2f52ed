//! The Python IDL of Open vSwitch (PyPI package ovs), which OpenStack and others are built on.

use crate::pair::Running;
use std::path::Path;
use std::process::Command;
use tests::need;
use tests::pairs::Pair;
use tests::peers::python;
use tests::process::output;
use tests::tools::Tools;

/// What the script prints about a server.
fn seen(server: Tools) -> String {
    let running = Running::start(Pair::new(Tools::Stock, server), &crate::corpus::directory());
    let mut c = Command::new(python("ovs").expect("just looked"));
    c.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/idl.py"))
        .arg(format!("unix:{}", running.dir().join("db.sock").display()))
        .arg(crate::pair::SCHEMA)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    output(c).ok()
}

#[test]
fn python_idl_sees_what_it_sees_of_ovsdb_server() {
    need!(Ovs, PythonOvs);
    let stock = seen(Tools::Stock);
    assert!(stock.contains("\nend "), "{stock}");
    assert_eq!(seen(Tools::Weir), stock);
}
