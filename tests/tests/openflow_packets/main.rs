//! Packets through weir and through Open vSwitch, table by table: the same bytes leave by the same ports.
//!
//! Both switches are started once, with dummy ports that capture what is sent ([`switch::Switch`]). A *case* ([`case::Case`])
//! is a set of flows, in the syntax of `ovs-ofctl`, and packets. Debian's `ovs-ofctl` loads the flows into both switches, and
//! each must take or refuse what the other does; then the packets come in, and what left by each port is compared.
//!
//! Cases are written by hand (`cases/NAME.txt`, see [`case::read`]) or drawn from the whole of what weir carries out
//! ([`generate`]; [`bridges`], whose ports have settings): the same ones in each run, by a seed. What differs on purpose is in `docs/openflow-differences.md`, and is not
//! drawn.

mod bridges;
mod case;
mod frames;
mod generate;
mod mirrors;
mod switch;

use case::Case;
use switch::Pair;

/// How many cases are drawn.
const DRAWN: u64 = 500;
/// How many bridges are drawn.
const BRIDGES: u64 = 400;
/// How many pairs of switches share them: most of the time goes by waiting for tools and switches.
const PAIRS: u64 = 4;

#[test]
fn written_cases_agree() {
    tests::need!(Root, Ovs);
    let mut pair = Pair::start();
    for path in case::files() {
        for case in case::read(&path) {
            pair.compare(&case);
        }
    }
    pair.finish();
}

#[test]
fn drawn_cases_agree() {
    tests::need!(Root, Ovs);
    compare("WEIR_CASE", DRAWN, generate::case);
}

#[test]
fn drawn_bridges_agree() {
    tests::need!(Root, Ovs);
    compare("WEIR_BRIDGE", BRIDGES, bridges::case);
}

/// What is typed about addresses, and the frames that are seen meanwhile: `> PORT SOURCE`.
const ADDRESSES: &str = "\
time/stop
fdb/show br0
fdb/add br0 p1 0 50:54:00:00:00:05
fdb/add br0 p1 0 50:54:00:00:00:05
fdb/add br0 p2 0 50:54:00:00:00:05
fdb/add br0 br0 10 50:54:00:00:00:09
fdb/add br0 p1 10 50:54:00:00:00:09
fdb/add nobr p1 0 50:54:00:00:00:06
fdb/add br0 nop 0 50:54:00:00:00:06
fdb/add br0 p1 10 zz
fdb/add br0 p1
fdb/show br0
> 3 50:54:00:00:00:05
> 3 50:54:00:00:00:45
> 4 50:54:00:00:00:44
fdb/show br0
> 4 50:54:00:00:00:45
fdb/show br0
fdb/stats-show br0
fdb/add br0 p1 0 50:54:00:00:00:44
fdb/add br0 p4 0 50:54:00:00:00:45
fdb/show br0
fdb/del br0 0 50:54:00:00:00:05
fdb/del br0 0 50:54:00:00:00:05
fdb/del br0 0 zz
fdb/del nobr 0 50:54:00:00:00:05
> 3 50:54:00:00:00:46
fdb/show br0
fdb/del br0 0 50:54:00:00:00:46
fdb/flush br0
fdb/show br0
fdb/flush nobr
fdb/stats-show br0
fdb/stats-show nobr
fdb/stats-show
fdb/stats-clear nobr
fdb/stats-clear br0
fdb/stats-show br0
fdb/stats-clear
fdb/show br0 br1";

#[test]
fn addresses_are_told_of_in_the_same_words() {
    tests::need!(Root, Ovs);
    let mut pair = Pair::start();
    pair.compare_commands(ADDRESSES);
}

/// Compares drawn cases; one alone if the environment asks for it, to look into it.
fn compare(variable: &str, count: u64, case: fn(u64) -> Case) {
    let only: Option<u64> = std::env::var(variable).ok().and_then(|s| s.parse().ok());
    if let Some(seed) = only {
        let mut pair = Pair::start();
        pair.compare(&case(seed));
        return pair.finish();
    }
    std::thread::scope(|s| {
        for first in 0..PAIRS {
            s.spawn(move || {
                let mut pair = Pair::start();
                for seed in (first..count).step_by(PAIRS as usize) {
                    pair.compare(&case(seed));
                }
                pair.finish();
            });
        }
    });
}

#[test]
fn drawn_cases_are_the_same_each_time_and_differ() {
    let text = |seed| {
        let Case { flows, packets, .. } = generate::case(seed);
        (flows, packets)
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}
