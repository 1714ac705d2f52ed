//! Echoes: `probe`, `ping`, `benchmark`.

use super::commands::out;
use super::{Options, names};
use anyhow::{Result, bail};
use bytes::Bytes;
use openflow::Message;
use openflow::wire;
use std::time::Instant;

/// The longest payload of an echo.
const MAX: usize = wire::MAX_MESSAGE_LEN - wire::HEADER_LEN;

/// `probe TARGET`
pub fn probe(o: &Options, a: &[&str]) -> Result<()> {
    let answer = names::open(o, a[0])?.ask_any(&Message::EchoRequest(Bytes::new()))?;
    if answer.message != Message::EchoReply(Bytes::new()) {
        bail!("reply does not match request");
    }
    Ok(())
}

/// A number of bytes, at most [`MAX`]; what is no number is 0, as for atoi(3).
fn size(text: &str) -> Result<usize> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse().unwrap_or(0) {
        n if n <= MAX && !text.starts_with('-') => Ok(n),
        _ => bail!("payload must be between 0 and {MAX} bytes"),
    }
}

/// `ping TARGET [N]`
pub fn ping(o: &Options, a: &[&str]) -> Result<()> {
    let size = a.get(1).map_or(Ok(64), |n| size(n))?;
    let mut conn = names::open(o, a[0])?;
    for round in 0..10u8 {
        let data: Bytes = (0..size).map(|i| (i as u8).wrapping_add(round)).collect();
        let start = Instant::now();
        let d = conn.ask_any(&Message::EchoRequest(data.clone()))?;
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        if d.message != Message::EchoReply(data) {
            out("Reply does not match request.\n");
        }
        let xid = d.xid;
        out(&format!(
            "{size} bytes from {}: xid={xid:08x} time={ms:.1} ms\n",
            a[0]
        ));
    }
    Ok(())
}

/// `benchmark TARGET N COUNT`
pub fn benchmark(o: &Options, a: &[&str]) -> Result<()> {
    let size = size(a[1])?;
    let count: u32 = a[2].parse().unwrap_or(0);
    let message = size + wire::HEADER_LEN;
    let total = u64::from(count) * message as u64;
    out(&format!(
        "Sending {count} packets * {message} bytes (with header) = {total} bytes total\n"
    ));
    let mut conn = names::open(o, a[0])?;
    let data = Bytes::from(vec![0; size]);
    let start = Instant::now();
    for _ in 0..count {
        conn.ask_any(&Message::EchoRequest(data.clone()))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (packets, bytes) = (f64::from(count) / seconds, total as f64 / seconds);
    out(&format!(
        "Finished in {:.1} ms ({packets:.0} packets/s) ({bytes:.0} bytes/s)\n",
        seconds * 1000.0
    ));
    Ok(())
}
