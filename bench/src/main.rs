//! Named metrics, beside the peers in the same run.

fn main() {}
