//! `ovs-ofctl` and the switch, beside Open vSwitch's.
//!
//! A *corpus* (`corpus/NAME.txt`) is a list of commands, one a line, that build on each other and start from a bridge
//! with three ports and one flow. [`corpus`] types each corpus four times: with stock tools at Open vSwitch, which is the
//! reference, and with each other pair of tools and switch. Standard output, standard error and exit code of every line must
//! be the same, and so must the bridge's flows, groups and meters at the end.
//!
//! How to add to a corpus:
//!
//! * Each line is given to `sh`, so quotes, `;`, pipes and `<`, `>` work. Empty lines and lines that begin with `#` are for
//!   readers.
//! * It runs in an empty directory of its pair, which is the run directory too. The bridge is `br0`, its ports `p1`, `p2`
//!   and `p3` are numbers 1, 2 and 3 and of type `dummy`.
//! * `ovs-ofctl` is the pair's own, by `$PATH`; all other programs (`ovs-appctl`, `ovs-vsctl`) are the stock ones.
//! * `o ...` stands for `ovs-ofctl ...`, `v10 ...` to `v15 ...` for `ovs-ofctl -O OpenFlow10 ...` and so on, and
//!   `all ...` runs a command in each version. `each v13 1,20` adds each flow of lines 1 to 20 of
//!   `openflow/tests/flows.txt`, with a priority of its own if it has none, then shows and deletes them.
//! * `await PATTERN FILE` waits until a line of FILE matches; a line that runs longer than [`pair::LINE_LIMIT`] seconds is
//!   ended with exit code 124.
//! * What may differ is made the same by [`normal`]: times and transaction ids, logs, addresses and names of makers. Flows
//!   of one answer come in no order.
//! * Where lines come in any order begin with `~ `; where texts differ on purpose (`--help`) begin with `? `: only the exit
//!   code is compared. `= ` means that both tools must say the same to each switch, but the switches are different. `! ` says that it is
//!   known to differ still: such a line is typed, and not compared. A comment above says why.
//!
//! A new corpus needs a line in [`corpora!`] below; `cargo build -p weir` before, as the tests run the binary that is there.

mod corpus;
mod normal;
mod pair;

/// One test a corpus, and one that none is forgotten.
macro_rules! corpora {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                tests::need!(Ovs);
                corpus::agree(&corpus::directory().join(concat!(stringify!($name), ".txt")));
            }
        )+

        #[test]
        fn every_corpus_is_a_test() {
            let tests = [$(stringify!($name)),+];
            for entry in std::fs::read_dir(corpus::directory()).expect("corpora") {
                let path = entry.expect("corpus").path();
                if path.extension().is_some_and(|e| e == "txt") {
                    let name = path.file_stem().and_then(|n| n.to_str()).expect("a name");
                    assert!(tests.contains(&name), "{name}.txt is in no test");
                }
            }
        }
    };
}

corpora!(
    bundles,
    errors,
    files,
    flows,
    formats,
    groups,
    meters,
    monitors,
    options,
    packets,
    parsing,
    ports,
    printing,
    show,
    spellings_10,
    spellings_11,
    spellings_13,
    spellings_15,
    tables,
);
