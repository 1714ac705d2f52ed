//! Builds the guest that is in the box (`guest/`): a freestanding program that no cargo profile
//! fits (its own linker script, `panic=abort`), so the compiler is called by hand.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(builtin_guest)");
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let host = var("HOST");
    if var("CARGO_CFG_TARGET_ARCH") != "x86_64"
        || !(host.starts_with("x86_64-") && host.contains("-linux"))
    {
        println!("cargo::warning=no built-in guest: it is built on x86-64 Linux only");
        return;
    }
    let dir = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("guest");
    let out = PathBuf::from(var("OUT_DIR")).join("guest.elf");
    let mut script = std::ffi::OsString::from("link-arg=-T");
    script.push(dir.join("guest.ld"));
    let mut rustc = Command::new(var("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-name", "weir_guest"])
        .args(["--target", &host, "-O", "--cap-lints", "warn"])
        .args(["-C", "panic=abort", "-C", "relocation-model=static"])
        .args(["-C", "strip=symbols", "-C", "codegen-units=1"]);
    for arg in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
    ] {
        rustc.args(["-C", &format!("link-arg={arg}")]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    rustc.arg("-C").arg(script).arg("-o").arg(&out);
    rustc.arg(dir.join("src/main.rs"));
    let done = rustc
        .status()
        .unwrap_or_else(|e| panic!("cannot run {rustc:?}: {e}"));
    assert!(done.success(), "building the guest failed: {rustc:?}");
    println!("cargo::rustc-cfg=builtin_guest");
}
