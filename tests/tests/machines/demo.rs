//! The main job.

use std::process::Command;
use tests::need;
use tests::process::output;
use tests::switch::target_dir;

/// The release binary that `tests/run` has built, else the one of this profile.
fn weir() -> std::path::PathBuf {
    let release = target_dir().join("release/weir");
    if release.exists() {
        release
    } else {
        tests::switch::weir_binary()
    }
}

fn assert_complete(ran: &tests::process::Ran) {
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    for claim in [
        "pings answered",
        "packet-ins",
        "no packet-in",
        "the flow counted them",
        "VLAN 10 and 20 do not hear each other",
        "64 bytes:",
        "1500 bytes:",
        "idle, weir takes",
    ] {
        assert!(
            ran.stdout.contains(claim),
            "the demo did not show \"{claim}\":\n{}",
            ran.stdout
        );
    }
}

#[test]
fn demo_with_virtual_machines() {
    need!(Kvm);
    let mut c = Command::new(weir());
    c.args(["demo", "--seconds", "1"]);
    let ran = output(c);
    assert_complete(&ran);
    assert!(ran.stdout.contains("KVM guests"), "{}", ran.stdout);
}

#[test]
fn demo_without_kvm_as_an_ordinary_user() {
    need!(Root);
    // Nobody: may not open /dev/kvm, may not make kernel devices.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let copy = dir.path().join("weir");
    std::fs::copy(weir(), &copy).unwrap();
    let mut c = Command::new("setpriv");
    c.args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["demo", "--without-kvm", "--seconds", "1"]);
    c.env("TMPDIR", dir.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env("HOME", dir.path());
    let ran = output(c);
    assert_complete(&ran);
    assert!(ran.stdout.contains("guest processes"), "{}", ran.stdout);
}
