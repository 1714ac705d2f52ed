//! The weir binary: one subcommand per tool.

fn main() {}
