//! Actions and instructions in text (ovs-actions(7)).
//!
//! Reading goes in three steps, as in Open vSwitch, whose messages tell which one refused: `parse` reads words and
//! arguments; `order` sees that instructions come in their order and that nothing stands inside of what cannot hold it;
//! `check` asks whether the actions make sense for packets of the flow's match. `learn`, `spread` (multipath and bundle),
//! `conntrack` and `encap` have both directions of the actions with a syntax of their own, `output` reads those that send
//! packets on; `print` writes all others.

mod check;
mod conntrack;
mod encap;
mod learn;
mod order;
mod output;
mod parse;
mod print;
mod spread;

pub(super) use check::{Fit, fit};
pub(super) use print::reason_name;
pub use print::{format_actions, format_instructions};

use super::{Names, Result, TextError, fail};
use crate::action::{Action, Instructions, fit_ports};
use crate::error::ErrorKind;
use crate::matching::Match;

/// One item of a list of actions and instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// An action. Whether it was spelled as a set_field, whose prerequisites every version insists on.
    Action(Action, bool),
    Meter(u32),
    ClearActions,
    WriteActions(Vec<Action>),
    StatTrigger(Box<crate::action::StatTrigger>),
    WriteMetadata(u64, u64),
    GotoTable(u8),
}

/// Reads actions (no instructions) for packets of `m`. Whether they suit those is left to who carries them out: of a group's
/// bucket nobody knows.
///
/// # Errors
/// What is wrong with which action, as Open vSwitch says it.
pub fn parse_actions(s: &str, m: &Match, names: &Names) -> Result<Vec<Action>> {
    let items = parse::list(s, names, order::Place::Actions)?;
    let i = collect(items.into_iter().map(|i| fitted(i, m)));
    Ok(i.meter
        .map(Action::Meter)
        .into_iter()
        .chain(i.apply)
        .collect())
}

/// Reads what follows `actions=` of a flow whose match is `m`.
///
/// # Errors
/// What is wrong with which action, as Open vSwitch says it.
pub fn parse_instructions(s: &str, m: &Match, names: &Names) -> Result<Instructions> {
    let items = parse::list(s, names, order::Place::Instructions)?;
    instructions(items, m, None, true)
}

/// The same for a flow of `table`, if it is known, and for any version: OpenFlow 1.0 has actions do nothing to packets
/// that they do not suit, where later versions refuse them.
pub(super) fn parse_lenient(
    s: &str,
    m: &Match,
    table: Option<u8>,
    names: &Names,
) -> Result<Instructions> {
    let items = parse::list(s, names, order::Place::Instructions)?;
    instructions(items, m, table, false)
}

fn instructions(
    items: Vec<Item>,
    m: &Match,
    table: Option<u8>,
    strict: bool,
) -> Result<Instructions> {
    let items: Vec<Item> = items.into_iter().map(|i| fitted(i, m)).collect();
    let invalid = |kind: ErrorKind| {
        TextError(format!(
            "actions are invalid with specified match ({})",
            kind.name()
        ))
    };
    match check::items(&items, m, table) {
        Err(kind) => return Err(invalid(kind)),
        Ok(Fit::Unsuited) if strict => return Err(invalid(ErrorKind::MatchInconsistent)),
        Ok(_) => {}
    }
    Ok(collect(items.into_iter()))
}

fn collect(items: impl Iterator<Item = Item>) -> Instructions {
    let mut out = Instructions::default();
    for item in items {
        match item {
            Item::Action(a, _) => out.apply.push(a),
            Item::Meter(n) => out.meter = Some(n),
            Item::ClearActions => out.clear_actions = true,
            Item::WriteActions(a) => out.write = a,
            Item::StatTrigger(t) => out.stat_trigger = Some(t),
            Item::WriteMetadata(value, mask) => out.metadata = Some((value, mask)),
            Item::GotoTable(t) => out.goto_table = Some(t),
        }
    }
    out
}

/// `mod_tp_src` writes the port of whatever protocol the packets have.
fn fitted(mut item: Item, m: &Match) -> Item {
    if let Item::Action(a, false) = &mut item {
        fit_ports(std::slice::from_mut(a), m);
    }
    item
}
