//! What the tests of ports have in common.

use super::PortContext;
use crate::sys::link::own_namespace;
use std::process::Command;

/// Runs a test in a network namespace of its own. Without the right to make one it says so and passes nothing off as tested.
pub fn isolated(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if !own_namespace() {
            eprintln!("SKIPPED: making a network namespace needs CAP_SYS_ADMIN");
            return;
        }
        test();
    });
    thread.join().expect("the test");
}

/// Types an `ip` command.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2").success(), "ip {arguments}");
}

/// A datapath of one thread.
pub fn context() -> PortContext {
    PortContext {
        run_dir: std::env::temp_dir(),
        threads: 1,
        epoch: Default::default(),
    }
}
