//! The walkthroughs: what an operator types and what must come of it, with namespaces as guests.
//!
//! Each is typed twice: with Debian's Open vSwitch tools and with weir's own.

mod capture;
mod guests;
mod limits;
mod w01_isolated_bridge;
mod w02_attach;
mod w03_access_ports;
mod w04_captured;
mod w04_trunk;
mod w05_policing;
mod w06_shaping;
mod w09_mirror;
mod w10_controller;
mod w11_block_icmp;
mod w13_profiles;
mod w15_mac_move;

/// Makes two tests of a walkthrough `fn NAME(tools: Tools)`.
#[macro_export]
macro_rules! typed_twice {
    ($walk:ident) => {
        #[test]
        fn with_stock_tools() {
            tests::need!(Root, Ovs);
            $walk(tests::tools::Tools::Stock);
        }

        #[test]
        fn with_weir_tools() {
            tests::need!(Root);
            $walk(tests::tools::Tools::Weir);
        }
    };
}

/// The lines of `text` without leading and trailing blanks.
pub fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect()
}
