//! `dpif-netdev/pmd-*`: forwarding threads and receive queues, in the words scripts know from Open vSwitch.
//!
//! A forwarding thread is shown as a poll mode thread of its processor; one that is not pinned goes by its number.

use crate::plane::ThreadStats;
use crate::switch::Switch;
use std::fmt::Write as _;

/// Options of these commands: `[-pmd core] [-secs secs] [dp]`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only the thread of this processor.
    pub core: Option<usize>,
    /// How far back loads are summed: 5 to 60 seconds.
    pub secs: u32,
}

impl Options {
    /// From a command's arguments.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut o = Options {
            core: None,
            secs: 60,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-pmd" => {
                    let core = args.next().and_then(|v| v.parse().ok());
                    o.core = Some(core.ok_or("-pmd wants the number of a core")?);
                }
                "-secs" => {
                    let secs = args.next().and_then(|v| v.parse::<u32>().ok());
                    let secs = secs.ok_or("-secs wants a number of seconds")?;
                    // To what was measured: multiples of five.
                    o.secs = (secs.clamp(5, 60)).div_ceil(5) * 5;
                }
                dp => super::show::check_dp(dp)?,
            }
        }
        Ok(o)
    }

    fn wants(&self, core: usize) -> bool {
        self.core.is_none_or(|c| c == core)
    }
}

/// `dpif-netdev/pmd-stats-show`, counted from `base`.
pub fn stats(switch: &Switch, base: &[ThreadStats], options: &Options) -> String {
    let mut out = String::new();
    for t in switch.plane().thread_stats() {
        if !options.wants(t.core) {
            continue;
        }
        let b = base
            .iter()
            .find(|b| b.thread == t.thread && b.packets <= t.packets)
            .copied()
            .unwrap_or_default();
        let since = |now: fn(&ThreadStats) -> u64| now(&t).saturating_sub(now(&b));
        let packets = since(|s| s.packets);
        let (busy, idle) = (since(|s| s.busy_cycles), since(|s| s.idle_cycles));
        let megaflow = since(|s| s.wildcard_hits);
        let all = busy + idle;
        let share = |n: u64, of: u64| if of == 0 { 0.0 } else { n as f64 / of as f64 };
        let _ = write!(
            out,
            "pmd thread numa_id 0 core_id {}:\n  \
             packets received: {packets}\n  \
             packet recirculations: 0\n  \
             avg. datapath passes per packet: {:.2}\n  \
             phwol hits: 0\n  mfex opt hits: 0\n  simple match hits: 0\n  \
             emc hits: {}\n  smc hits: 0\n  megaflow hits: {megaflow}\n  \
             avg. subtable lookups per megaflow hit: {:.2}\n  \
             miss with success upcall: {}\n  miss with failed upcall: 0\n  \
             avg. packets per receive batch: {:.2}\n  \
             receive queues: {}\n  sleeps: {}\n",
            t.core,
            if packets == 0 { 0.0 } else { 1.0 },
            since(|s| s.exact_hits),
            share(since(|s| s.subtables), megaflow),
            since(|s| s.misses),
            share(packets, since(|s| s.batches)),
            t.queues,
            since(|s| s.sleeps),
        );
        if all > 0 {
            let _ = writeln!(
                out,
                "  idle cycles: {idle} ({:.2}%)\n  processing cycles: {busy} ({:.2}%)",
                share(idle, all) * 100.0,
                share(busy, all) * 100.0
            );
        }
        if packets > 0 && all > 0 {
            let _ = writeln!(
                out,
                "  avg cycles per packet: {:.2} ({all}/{packets})\n  \
                 avg processing cycles per packet: {:.2} ({busy}/{packets})",
                share(all, packets),
                share(busy, packets)
            );
        }
    }
    out
}

/// `dpif-netdev/pmd-rxq-show`: shares of the time that passed, sleep included.
pub fn queues(switch: &Switch, options: &Options) -> String {
    let mut out = format!("Displaying last {} seconds pmd usage %\n", options.secs);
    let queues = switch.plane().queues(options.secs);
    for t in switch.plane().thread_loads(options.secs) {
        if !options.wants(t.core) {
            continue;
        }
        let _ = write!(
            out,
            "pmd thread numa_id 0 core_id {}:\n  isolated : {}\n",
            t.core, t.isolated
        );
        let percent = |cycles: u64| match t.elapsed {
            Some(all) if all > 0 => format!("{:>2} %", cycles * 100 / all),
            _ => "NOT AVAIL".to_owned(),
        };
        let mut sum = 0;
        let mine: Vec<_> = queues.iter().filter(|q| q.thread == t.thread).collect();
        for q in &mine {
            sum += q.cycles;
            let _ = writeln!(
                out,
                "  port: {:<16}  queue-id: {:>2} {}  pmd usage: {}",
                q.port,
                q.number,
                if q.enabled {
                    "(enabled) "
                } else {
                    "(disabled)"
                },
                percent(q.cycles)
            );
        }
        if !mine.is_empty() {
            let _ = writeln!(out, "  overhead: {}", percent(t.busy.saturating_sub(sum)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::fake::Fake;
    use std::sync::Arc;

    fn options(text: &str) -> Result<Options, String> {
        let args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn queues_are_shown_as_open_vswitch_does() {
        let switch = Switch::new(Arc::new(Fake::default()), "3.1.0");
        assert_eq!(
            queues(&switch, &options("").unwrap()),
            "Displaying last 60 seconds pmd usage %\n\
             pmd thread numa_id 0 core_id 4:\n  isolated : false\n  \
             port: p1                queue-id:  0 (enabled)   pmd usage: 55 %\n  \
             overhead:  5 %\n\
             pmd thread numa_id 0 core_id 5:\n  isolated : true\n  \
             port: p2                queue-id:  0 (disabled)  pmd usage: NOT AVAIL\n  \
             overhead: NOT AVAIL\n"
        );
        let one = queues(&switch, &options("-pmd 5 -secs 7 ovs-netdev").unwrap());
        assert!(one.starts_with("Displaying last 10 seconds"), "{one}");
        assert!(!one.contains("core_id 4"), "{one}");
    }

    #[test]
    fn counts_are_shown_since_they_were_cleared() {
        let fake = Arc::new(Fake::default());
        let switch = Switch::new(fake, "3.1.0");
        let base = switch.plane().thread_stats();
        let text = stats(&switch, &base, &options("").unwrap());
        assert!(text.contains("packets received: 0\n"), "{text}");
        let text = stats(&switch, &[], &options("").unwrap());
        assert!(text.starts_with("pmd thread numa_id 0 core_id 0:\n  packets received: 10\n"));
        assert!(stats(&switch, &[], &options("-pmd 3").unwrap()).is_empty());
    }

    #[test]
    fn options_are_checked() {
        assert!(options("-pmd").is_err());
        assert!(options("-secs x").is_err());
        assert!(options("br7").unwrap_err().contains("datapath not found"));
    }
}
