//! Database files: each server reads what the other wrote, and neither writes what the other has
//! open.

use std::os::unix::net::UnixStream;
use std::path::Path;
use tests::process::{Daemon, output};
use tests::tools::Tools::{self, Stock, Weir};
use tests::wait;

/// A server of `tools` on the file `db` in `dir`, that has begun to listen.
fn serve(tools: Tools, dir: &Path, db: &str, options: &[&str]) -> Daemon {
    let mut c = tools.command("ovsdb-server", dir, None);
    c.current_dir(dir)
        .args(["--remote=punix:db.sock", "--unixctl=ctl", db])
        .args(options);
    let mut server = Daemon::spawn(c, &dir.join("log"));
    wait::until("the server to listen", || {
        assert!(server.is_running(), "the server ended");
        UnixStream::connect(dir.join("db.sock")).is_ok()
    });
    server
}

/// What a tool of `tools` prints, run in `dir` with the words of `line`.
fn ok(tools: Tools, dir: &Path, line: &str) -> String {
    let mut words = line.split(' ');
    let mut c = tools.command(words.next().expect("a program"), dir, None);
    c.current_dir(dir).args(words);
    output(c).ok()
}

/// Asks the server of `dir` to compact its file.
fn compact_now(dir: &Path) {
    let control = dir.join("ctl");
    let line = format!("ovs-appctl -t {} ovsdb-server/compact", control.display());
    ok(Stock, dir, &line);
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("wd")
        .tempdir()
        .expect("temporary directory")
}

/// All rows, in order.
fn dump(dir: &Path) -> String {
    let text = ok(Stock, dir, "ovsdb-client dump unix:db.sock Open_vSwitch");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

const CHANGES: [&str; 5] = [
    "ovs-vsctl --no-wait add-br br0 -- set bridge br0 other-config:a=b other-config:c=d protocols=OpenFlow10,OpenFlow13",
    "ovs-vsctl --no-wait add-port br0 p1 tag=5 trunks=1,2,3 -- set interface p1 type=vxlan options:key=7",
    "ovs-vsctl --no-wait remove bridge br0 other-config a -- set bridge br0 other-config:c=e protocols=OpenFlow13,OpenFlow15",
    "ovs-vsctl --no-wait clear port p1 trunks -- set port p1 tag=6 -- add-port br0 p2 -- --id=@m create mirror name=m -- set bridge br0 mirrors=@m",
    "ovs-vsctl --no-wait del-port br0 p2 -- clear port p1 tag",
];

#[test]
fn each_server_reads_what_the_other_wrote() {
    tests::need!(Ovs);
    let whole: &[&str] = &["--disable-file-column-diff"];
    for (writer, reader, options) in [(Stock, Weir, whole), (Stock, Weir, &[]), (Weir, Stock, &[])]
    {
        for compact in [false, true] {
            let what = format!("{writer:?} {options:?} compact {compact}");
            let directory = directory();
            let dir = directory.path();
            ok(writer, dir, &format!("ovsdb-tool create f {SCHEMA}"));
            let mut server = serve(writer, dir, "f", options);
            for (i, line) in CHANGES.iter().enumerate() {
                if compact && i == 3 {
                    compact_now(dir);
                    wait::until("the compaction", || {
                        let log = ok(Stock, dir, "ovsdb-tool show-log f");
                        log.contains("compacting database online")
                    });
                }
                ok(Stock, dir, line);
            }
            let before = dump(dir);
            server.kill();
            server = serve(reader, dir, "f", &[]);
            assert_eq!(dump(dir), before, "{what}");
            ok(Stock, dir, "ovs-vsctl --no-wait add-port br0 p9");
            let before = dump(dir);
            server.kill();
            let _server = serve(writer, dir, "f", options);
            assert_eq!(dump(dir), before, "{what}");
        }
    }
}

#[test]
fn a_file_has_one_server() {
    tests::need!(Ovs);
    for (first, second) in [(Stock, Weir), (Weir, Stock), (Weir, Weir)] {
        let directory = directory();
        let dir = directory.path();
        ok(Stock, dir, &format!("ovsdb-tool create f {SCHEMA}"));
        std::os::unix::fs::symlink("f", dir.join("link")).expect("link");
        let _server = serve(first, dir, "f", &[]);
        for name in ["f", "link"] {
            let mut c = second.command("ovsdb-server", dir, None);
            c.current_dir(dir).args(["--unixctl=none", name]);
            let told = output(c).fails();
            let want =
                format!("{name}: failed to lock lockfile (Resource temporarily unavailable)");
            assert!(told.contains(&want), "{first:?}, {second:?}: {told}");
        }
    }
}

#[test]
fn a_link_to_a_file_stays_one() {
    tests::need!(Ovs);
    let directory = directory();
    let dir = directory.path();
    ok(Stock, dir, &format!("ovsdb-tool create f {SCHEMA}"));
    std::os::unix::fs::symlink("f", dir.join("link")).expect("link");
    let _server = serve(Weir, dir, "link", &[]);
    ok(Stock, dir, "ovs-vsctl --no-wait add-br br0");
    compact_now(dir);
    ok(Stock, dir, "ovs-vsctl --no-wait add-br br1");
    let log = ok(Stock, dir, "ovsdb-tool show-log f");
    assert!(log.contains("compacting database online"), "{log}");
    assert_eq!(log.matches("record").count(), 3, "{log}");
    let link = std::fs::symlink_metadata(dir.join("link")).expect("link");
    assert!(link.is_symlink());
}

#[test]
fn a_clustered_database_is_refused() {
    tests::need!(Ovs);
    let directory = directory();
    let dir = directory.path();
    let line = format!("ovsdb-tool create-cluster f {SCHEMA} tcp:127.0.0.1:6641");
    ok(Stock, dir, &line);
    let before = std::fs::read(dir.join("f")).expect("file");
    let mut c = Weir.command("ovsdb-server", dir, None);
    c.current_dir(dir).args(["--unixctl=none", "f"]);
    let told = output(c).fails();
    assert!(told.contains("clustered database"), "{told}");
    assert_eq!(std::fs::read(dir.join("f")).expect("file"), before);
}
