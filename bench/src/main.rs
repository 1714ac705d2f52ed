//! Named metrics of weir and, in the same run and alternating, of its peers.
//!
//! `cargo run --release -p bench -- list` names the scenarios; `run [NAMES]` measures them and prints a JSON line for
//! every sample, then a table of medians, spread and ratios. These machines are noisy: only ratios of
//! medians from one run mean anything.

#[allow(dead_code, reason = "the scenarios that use it come with it")]
mod classbench;
mod machine;
mod metric;
mod micro;
mod peers;
mod vhost;

#[global_allocator]
static ALLOCATOR: micro::allocations::Counting = micro::allocations::Counting;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    about = "Measure weir beside its peers",
    after_help = "Example: bench run vhost-64 vhost-1500 --rounds 5"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the scenarios.
    List,
    /// Measure single steps of a packet's way: cycles, instructions, allocations.
    Micro {
        /// Beginnings of names; all without.
        names: Vec<String>,
    },
    /// Measure some (or all) of them.
    Run {
        /// Scenarios, as `list` names them.
        names: Vec<String>,
        /// Which switches to measure beside weir.
        #[arg(long, value_delimiter = ',', default_value = "ovs-dpdk")]
        peer: Vec<peers::Peer>,
        /// Alternating rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Only these switches' own figures: leave weir out.
        #[arg(long)]
        without_weir: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::List => {
            for s in vhost::SCENARIOS {
                println!("{:<16} {}", s.name, s.about);
            }
            println!(
                "{:<16} CPU use of an idle switch with two vhost-user ports",
                vhost::IDLE
            );
            micro::list();
            Ok(())
        }
        Command::Micro { names } => {
            println!("\n{}", micro::run(&names)?);
            Ok(())
        }
        Command::Run {
            names,
            peer,
            rounds,
            without_weir,
        } => {
            for n in &names {
                if n != vhost::IDLE && !vhost::SCENARIOS.iter().any(|s| s.name == n) {
                    bail!("{n}: no such scenario; `bench list` names them");
                }
            }
            let wanted = |n: &str| names.is_empty() || names.iter().any(|x| x == n);
            let mut switches: Vec<peers::Peer> = if without_weir {
                vec![]
            } else {
                vec![peers::Peer::Weir]
            };
            switches.extend(peer.into_iter().filter(|p| *p != peers::Peer::None));
            machine::describe();
            let mut table = metric::Table::default();
            for s in vhost::SCENARIOS.iter().filter(|s| wanted(s.name)) {
                vhost::run(s, &switches, rounds, &mut table)?;
            }
            if wanted(vhost::IDLE) {
                vhost::run_idle(&switches, rounds, &mut table)?;
            }
            table.print();
            Ok(())
        }
    }
}
