//! The database, its server and its tools, beside Open vSwitch's.
//!
//! A *corpus* (`corpus/NAME.txt`) is a list of commands, one a line, that build on each other and
//! start from an empty database. [`corpus`] types each corpus four times: with stock tools at a
//! stock `ovsdb-server`, which is the reference, and with each other pair of tools and server. Standard
//! output, standard error and exit code of every line must be the same, and so must the contents of the databases
//! at the end.
//!
//! How to add to a corpus:
//!
//! * Each line is given to `sh`, so quotes, `;`, pipes and `<`, `>` work. Empty lines and lines that
//!   begin with `#` are for readers.
//! * It runs in an empty directory of its pair, with `OVS_RUNDIR` and the like set to it. There are
//!   `db.sock` (the server), `ctl` (its control socket: `ovs-appctl -t $OVS_RUNDIR/ctl ...`) and the databases
//!   `conf.db` (Open_vSwitch) and `types.db` (`corpus/types.ovsschema`: every type of value). The directory reads `RUNDIR` in what is compared.
//! * `ovs-vsctl` and the others are the pair's own tools, by `$PATH`. There is no switch: `ovs-vsctl` needs `--no-wait`
//!   to change anything.
//! * `$SCHEMA` is Debian's vswitch.ovsschema and `$CORPUS` the directory of the corpora, where other files may lie.
//! * `await PATTERN FILE` waits until a line of FILE matches; a line that runs longer than
//!   [`pair::LINE_LIMIT`] seconds is ended with exit code 124.
//! * A daemon that a line leaves behind (`--detach`) needs `--no-chdir --pidfile=NAME.pid`: it is ended by that.
//! * UUIDs are numbered by their first appearance in the output of the line. Rows come in the order of UUIDs or of a hash
//!   table; where there are several, begin the line with `~ `: then all UUIDs look the same, and rows (records of
//!   a list, lines of anything else) are sorted before they are compared.
//! * Where texts differ on purpose (`--help`), begin the line with `? `: only the exit code is compared.
//! * The columns `ovs_version` and `db_version` are as any other: what sets them must be a line of the corpus.
//!
//! A new corpus needs a line in [`corpora!`] below; `cargo build -p weir` before, as the tests run the binary that is there.

mod contents;
mod corpus;
mod fault;
mod files;
mod idl;
mod normal;
mod pair;
mod requirements;
mod switch;
mod waiting;

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
    client,
    monitor,
    server,
    tool,
    vsctl_bridges,
    vsctl_find,
    vsctl_mixed,
    vsctl_options,
    vsctl_rows,
    vsctl_settings,
    vsctl_values,
);
