//! Unsegmented TCP frames of 64 KB from guest to guest, beside what one core's memcpy moves between two such buffers.

use super::{Scenario, Wanted};
use crate::load::frame::{Flows, udp};
use crate::load::{self, BIG_RING, BIG_STRIDE, BUFFER, PIECE, Plan, RING, Size, Source};
use crate::machine::{self, SWITCH_CPU};
use crate::metric::Want;
use crate::peers::{Peer, Setup};
use anyhow::Result;
use std::time::{Duration, Instant};

/// 45 segments of 1448 bytes and 54 of headers: what Linux makes of 64 KB.
const FRAME: usize = 54 + 45 * 1448;

fn plan(mergeable: bool) -> (Plan, Setup) {
    let mut header = udp(0);
    header.proto = 6;
    let size = Size::Big {
        frame: FRAME,
        mergeable,
    };
    let plan = Plan {
        size,
        packed: false,
        sources: vec![Some(Source::new(Flows::list([header], FRAME), 1)), None],
    };
    let setup = Setup {
        rules: vec![
            "in_port=1,actions=output:2".into(),
            "in_port=2,actions=output:1".into(),
        ],
        tso: true,
        ..Setup::default()
    };
    (plan, setup)
}

/// Bytes per second that memcpy moves from big buffers into receive buffers of the kind, on the switch's processor, round and round as the
/// rings go.
fn memcpy(mergeable: bool) -> Result<f64> {
    let (count, stride, room) = if mergeable {
        (RING, BUFFER, BUFFER)
    } else {
        (BIG_RING, BIG_STRIDE, 65_536)
    };
    let mut memory = load::private(BIG_RING * BIG_STRIDE + count * stride + (1 << 20))?;
    let from = memory.take(BIG_RING * BIG_STRIDE, 4096)? as usize;
    let to = memory.take(count * stride, 4096)? as usize;
    let rate = std::thread::spawn(move || {
        machine::pin(SWITCH_CPU);
        let (mut slot, mut bytes) = (0, 0usize);
        let start = Instant::now();
        let mut frame = 0;
        while frame % 64 != 0 || start.elapsed() < Duration::from_millis(500) {
            let source = from + frame % BIG_RING * BIG_STRIDE;
            let mut done = 0;
            while done < FRAME {
                // Pieces end where either side's do, as for the switch.
                let n = (FRAME - done)
                    .min(PIECE - done % PIECE)
                    .min(room - done % room);
                // SAFETY: both are inside the memory taken above, which lives until the thread has ended, and do not overlap.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        (source + done) as *const u8,
                        (to + slot * stride + done % room) as *mut u8,
                        n,
                    );
                }
                done += n;
                if done % room == 0 || done == FRAME {
                    slot = (slot + 1) % count;
                }
            }
            bytes += FRAME;
            frame += 1;
        }
        bytes as f64 / start.elapsed().as_secs_f64()
    })
    .join()
    .expect("does not panic");
    drop(memory);
    Ok(rate)
}

fn scenario(name: &'static str, about: &'static str, mergeable: bool) -> Scenario {
    Scenario::new(name, about, move |run, name| {
        let metric = format!("{name}.gbs");
        run.table.want(&metric, Want::Ratio(Peer::Memcpy, 0.6));
        run.alternate(
            name,
            |_| Ok(Some(plan(mergeable))),
            |subject, table| {
                let s = subject.measure(name, Wanted::OPEN)?;
                let bytes = s.window.rate() * FRAME as f64;
                table.add(&metric, "GB/s", subject.kind, bytes / 1e9, Some(s.distance));
                if let Some(c) = s.cycles {
                    table.add(
                        &format!("{name}.cycles"),
                        "cycles/packet",
                        subject.kind,
                        c,
                        Some(s.distance),
                    );
                }
                // All switches are paused now. Once a round is enough.
                if subject.kind == Peer::Weir {
                    table.add(
                        &metric,
                        "GB/s",
                        Peer::Memcpy,
                        memcpy(mergeable)? / 1e9,
                        None,
                    );
                }
                Ok(())
            },
        );
        Ok(())
    })
}

/// Into merged buffers of 2 KB, and into whole ones.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "tso/mergeable",
            "64 KB frames in pages, received in merged 2 KB buffers; beside memcpy",
            true,
        ),
        scenario(
            "tso/whole",
            "64 KB frames in pages, received in one buffer; beside memcpy",
            false,
        ),
    ]
}
