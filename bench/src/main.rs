//! Named metrics of weir and, in the same run and alternating, of its peers.
//!
//! `cargo run --release -p bench -- list` names the scenarios; `run [NAMES]` measures them and prints a JSON line for
//! every sample, then a table of medians, spread and ratios; `micro [NAMES]` measures single steps. These machines are noisy: only ratios of
//! medians from one run mean anything. The weir measured is the binary beside this one: build both, `cargo build --release -p weir -p bench`.

mod classbench;
mod cleanup;
mod load;
mod machine;
mod metric;
mod micro;
mod peers;
mod scenario;
mod vhost;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use peers::Peer;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: micro::allocations::Counting = micro::allocations::Counting;

#[derive(Parser)]
#[command(
    about = "Measure weir beside its peers",
    after_help = "Example: bench run vhost-64 '64/rules*' --peer ovs-dpdk,testpmd --rounds 5 --json samples --markdown table.md"
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
    /// Measure some (or all) of the scenarios.
    Run {
        /// Scenarios, as `list` names them: whole names, beginnings of names, or patterns with `*`.
        names: Vec<String>,
        /// Which switches to measure beside weir.
        #[arg(long, value_delimiter = ',', default_value = "ovs-dpdk,testpmd")]
        peer: Vec<Peer>,
        /// Alternating rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Only these switches' own figures: leave weir out.
        #[arg(long)]
        without_weir: bool,
        /// Where frames lie in the guests' buffers.
        #[arg(long, value_enum, default_value = "dpdk")]
        layout: load::Layout,
        /// Only to see that everything works: short windows that count whatever else the machine is doing. No figures.
        #[arg(long)]
        smoke: bool,
        /// Write the JSON lines to this file, too.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Write the table, with machine, command and versions, to this file, too.
        #[arg(long)]
        markdown: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    cleanup::on_signals();
    let result = execute(arguments.command);
    peers::release_huge_pages();
    cleanup::all();
    result
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::List => {
            for s in scenario::all() {
                println!("{:<28} {}", s.name, s.about);
            }
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
            layout,
            smoke,
            json,
            markdown,
        } => {
            let all = scenario::all();
            for n in &names {
                if !all.iter().any(|s| scenario::fits(&s.name, n)) {
                    bail!("{n}: no such scenario; `bench list` names them");
                }
            }
            // A whole name means that one, even if others begin with it.
            let wanted = |name: &str| {
                names.is_empty()
                    || names.iter().any(|n| {
                        name == n || !all.iter().any(|s| s.name == *n) && scenario::fits(name, n)
                    })
            };
            let mut switches = if without_weir {
                vec![]
            } else {
                vec![Peer::Weir]
            };
            for p in peer {
                if p != Peer::None && !switches.contains(&p) {
                    switches.push(p);
                }
            }
            load::set_layout(layout);
            machine::raise_priority();
            let mut table = metric::Table::new(json.as_deref())?;
            let versions: Vec<(&str, String)> =
                switches.iter().map(|p| (p.name(), p.version())).collect();
            let machine = machine::describe();
            table.line(&serde_json::json!({"machine": machine, "switches": versions}));
            table.note(format!(
                "frames lie in buffers as in a {layout:?} guest (--layout)"
            ));
            if machine::priority_is_local() {
                table.note("priorities count within sessions only (kernel.sched_autogroup_enabled is 1): what other sessions do shows in the latencies".into());
            }
            for s in all.iter().filter(|s| wanted(&s.name)) {
                let mut run = scenario::Run {
                    switches: &switches,
                    rounds,
                    smoke,
                    table: &mut table,
                };
                scenario::run(s, &mut run);
            }
            let command: Vec<String> = std::env::args().skip(1).collect();
            let text = format!(
                "Machine: {machine}. Command: `bench {}`.\n\n{}\n{}",
                command.join(" "),
                versions
                    .iter()
                    .map(|(name, v)| format!("- {name}: {v}\n"))
                    .collect::<String>(),
                table.markdown()
            );
            println!("\n{text}");
            if let Some(path) = markdown {
                std::fs::write(&path, &text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        }
    }
}
