//! Groups: shown, added, changed, deleted.

use super::{Options, bundle, flows, names};
use anyhow::{Result, anyhow, bail};
use openflow::text::{
    GROUP_COMMANDS, Names, Protocols, for_actions, parse_group_id, parse_group_mod,
};
use openflow::wire;
use openflow::{GROUP_ALL, GroupMod, GroupModCommand, Message, MultipartRequest};

/// The formats that can say changes of groups. (What a version has no place for in a group, it leaves
/// out.)
pub fn usable(changes: &[GroupMod]) -> Protocols {
    let buckets = changes.iter().flat_map(|g| &g.buckets);
    let usable = buckets.fold(Protocols::ANY, |all, b| all.and(for_actions(&b.actions)));
    if changes
        .iter()
        .any(|g| g.command == GroupModCommand::RemoveBucket)
    {
        usable.and(Protocols::OF10_ANY.or(Protocols::from_version_up(wire::OF15)))
    } else {
        usable
    }
}

/// A line which may begin with its own command, if none is given for it.
///
/// # Errors
/// What is wrong with it.
pub fn file_line(text: &str, given: Option<GroupModCommand>, names: &Names) -> Result<GroupMod> {
    let text = text.trim_start();
    let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
    let (command, rest) = match given {
        Some(c) => (c, text),
        None => match GROUP_COMMANDS.iter().find(|c| c.0 == &text[..end]) {
            Some((_, c)) => (*c, &text[end..]),
            None => (GroupModCommand::Add, text),
        },
    };
    Ok(parse_group_mod(rest.trim_start(), command, names)?)
}

/// `add-group`, `mod-group`, `del-groups`, `insert-buckets`, `remove-buckets`.
pub fn change_group(o: &Options, a: &[&str], command: GroupModCommand) -> Result<()> {
    if a.get(1) == Some(&"-") {
        return change_file(o, a[0], "-", command);
    }
    let names = names::accepted(o, a[0])?;
    let line = parse_group_mod(a.get(1).unwrap_or(&""), command, &names)?;
    change(o, a[0], vec![line])
}

/// `mod-group`, with `--may-create` or without.
pub fn mod_group(o: &Options, a: &[&str]) -> Result<()> {
    let command = if o.may_create {
        GroupModCommand::AddOrModify
    } else {
        GroupModCommand::Modify
    };
    change_group(o, a, command)
}

/// `add-groups SWITCH FILE`
pub fn add_groups(o: &Options, a: &[&str]) -> Result<()> {
    change_file(o, a[0], a[1], GroupModCommand::Add)
}

fn change_file(o: &Options, switch: &str, file: &str, command: GroupModCommand) -> Result<()> {
    let names = names::accepted(o, switch)?;
    // Files of additions may say other things too.
    let given = Some(command).filter(|c| *c != GroupModCommand::Add);
    let mut parsed = Vec::new();
    for (place, text) in flows::lines(file, "open failed")? {
        let line = file_line(&text, given, &names).map_err(|e| anyhow!("{place}{e}"))?;
        parsed.push(line);
    }
    change(o, switch, parsed)
}

fn change(o: &Options, switch: &str, changes: Vec<GroupMod>) -> Result<()> {
    let names = names::shown(o, switch)?;
    let style = o.style(&names, 2);
    let usable = usable(&changes);
    let with = if o.bundle {
        bundle::with_bundles(o)
    } else {
        o.clone()
    };
    let usable = if o.bundle {
        usable.and(bundle::able())
    } else {
        usable
    };
    let mut conn = flows::open_for(&with, switch, usable)?;
    check_version(conn.version, &changes)?;
    let messages: Vec<Message> = changes.into_iter().map(Message::GroupMod).collect();
    if o.bundle {
        conn.bundle(&messages, &style)
    } else {
        conn.change(&messages, &style)
    }
}

/// Refuses what OpenFlow 1.1 to 1.4 have no command for.
fn check_version(version: u8, changes: &[GroupMod]) -> Result<()> {
    if version == wire::OF10 || version > 5 {
        return Ok(());
    }
    for g in changes {
        let what = match g.command {
            GroupModCommand::InsertBucket => "insert-bucket",
            GroupModCommand::RemoveBucket => "remove-bucket",
            _ => continue,
        };
        bail!("{what} needs OpenFlow 1.5 or later ('-O OpenFlow15')");
    }
    Ok(())
}

/// `dump-groups SWITCH [GROUP]`
pub fn dump_groups(o: &Options, a: &[&str]) -> Result<()> {
    let mut conn = names::open(o, a[0])?;
    let group = a.get(1).map_or(Some(GROUP_ALL), |g| parse_group_id(g));
    let q = MultipartRequest::GroupDesc(group.unwrap_or(GROUP_ALL));
    let names = names::shown(o, a[0])?;
    conn.show(&Message::MultipartRequest(q), &o.style(&names, 1))
}

/// `dump-group-stats SWITCH [GROUP]`
pub fn dump_group_stats(o: &Options, a: &[&str]) -> Result<()> {
    let names = names::accepted(o, a[0])?;
    let text = a.get(1).unwrap_or(&"");
    let group = parse_group_mod(text, GroupModCommand::Delete, &names)?.group;
    let q = MultipartRequest::Group(group);
    super::commands::dump(o, a[0], q)
}
