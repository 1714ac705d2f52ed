//! The built-in guest on a vhost-user port, driven by lines on its console.

use crate::process::Ran;
use crate::switch::Weir;
use crate::tools::Tools;
use crate::wait;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A running guest; stopped, with its port taken away, when dropped.
pub struct Guest {
    /// Its name; the port's too.
    pub name: String,
    /// Its IPv4 address.
    pub address: String,
    /// Its MAC address.
    pub mac: String,
    reader: BufReader<UnixStream>,
    stream: UnixStream,
    stop: std::process::Command,
}

impl Guest {
    /// Starts a guest on a new port of `bridge` with 10.0.0.`number` and the MAC 52:54:00:00:00:`number`, as `kind`: `kvm`
    /// or `process`.
    pub fn start(weir: &Weir, bridge: &str, port: &str, number: u8, kind: &str) -> Guest {
        Guest::start_with(weir, bridge, port, number, kind, "")
    }

    /// The same, with more words for `weir vm run`.
    pub fn start_with(
        weir: &Weir,
        bridge: &str,
        port: &str,
        number: u8,
        kind: &str,
        more: &str,
    ) -> Guest {
        let typed = weir.typed(Tools::Weir);
        let (address, mac) = (
            format!("10.0.0.{number}"),
            format!("52:54:00:00:00:{number:02x}"),
        );
        typed.ok(&format!("ovs-vm run {port} --bridge {bridge} --port {port} --mac {mac} --as {kind} --append ip={address} --detach {more}"));
        wait::until("the guest's link", || {
            typed
                .ok(&format!("ovs-vsctl get interface {port} link_state"))
                .trim()
                == "up"
        });
        let path = weir.run_dir.join("vm").join(format!("{port}.console"));
        let stream = wait::for_value("the guest's console", || UnixStream::connect(&path).ok());
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let mut stop = Tools::Weir.command("ovs-vm", &weir.run_dir, weir.namespace.as_ref());
        stop.args(["stop", port]);
        let reader = BufReader::new(stream.try_clone().expect("the console"));
        let mut guest = Guest {
            name: port.to_owned(),
            address,
            mac,
            reader,
            stream,
            stop,
        };
        guest.ask("stats", "stats");
        guest
    }

    /// Types a line; the first report that begins with `word`, or an error.
    pub fn ask(&mut self, line: &str, word: &str) -> String {
        writeln!(self.stream, "{line}").expect("the guest's console");
        let start = format!("weir-guest: {word}");
        loop {
            let mut heard = String::new();
            assert_ne!(
                self.reader
                    .read_line(&mut heard)
                    .expect("the guest reports"),
                0,
                "{} has ended",
                self.name
            );
            if heard.starts_with(&start) || heard.starts_with("weir-guest: error") {
                return heard.trim().to_owned();
            }
        }
    }

    /// From now on it tags what it sends, and hears what is so tagged; or neither.
    pub fn set_vlan(&mut self, vlan: Option<u16>) {
        let said = self.ask(&format!("vlan {}", vlan.unwrap_or(0)), "vlan");
        assert!(!said.contains("error"), "{said}");
    }

    /// Whether `address` answers at least one of three pings.
    pub fn pings(&mut self, address: &str) -> bool {
        let report = self.ask(
            &format!("ping {address} count=3 interval=20 timeout=200"),
            "ping-done",
        );
        !report.contains("error") && !report.contains("received=0")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let ran = self.stop.output().map(Ran::from);
        if let Ok(ran) = ran
            && ran.code != 0
            && !std::thread::panicking()
        {
            panic!("{} did not stop: {}", self.name, ran.stderr);
        }
    }
}
