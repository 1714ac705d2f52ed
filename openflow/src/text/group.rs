//! Groups in text: `group_id=1,type=select,bucket=weight:2,actions=output:1`.

use super::action::parse_actions;
use super::matching::field;
use super::{Names, Pair, Result, fail, next_pair, number, parse_uint, value};
use crate::field::{FieldId, MaskRule};
use crate::matching::Match;
use crate::message::{
    Bucket, BucketPosition, GROUP_ALL, GroupMod, GroupModCommand, GroupType, PortNo, Selection,
};

/// The largest number of a group, and of a bucket (OpenFlow 1.5.1 7.3.4.3).
const MAX: u32 = 0xffff_ff00;

/// Numbers of buckets that stand for others: see [`BucketPosition`].
const POSITIONS: &[(u32, &str, BucketPosition)] = &[
    (0xffff_fffd, "first", BucketPosition::First),
    (0xffff_fffe, "last", BucketPosition::Last),
    (0xffff_ffff, "all", BucketPosition::All),
];

/// The longest name of a selection method.
const MAX_METHOD: usize = 15;

/// Commands that may begin a line of a file.
pub const GROUP_COMMANDS: &[(&str, GroupModCommand)] = &[
    ("add", GroupModCommand::Add),
    ("delete", GroupModCommand::Delete),
    ("modify", GroupModCommand::Modify),
    ("add_or_mod", GroupModCommand::AddOrModify),
    ("insert_bucket", GroupModCommand::InsertBucket),
    ("remove_bucket", GroupModCommand::RemoveBucket),
];

/// Reads a change of the group table. Nothing at all, for a delete, means all groups.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_group_mod(s: &str, command: GroupModCommand, names: &Names) -> Result<GroupMod> {
    let of_group = matches!(
        command,
        GroupModCommand::Add | GroupModCommand::Modify | GroupModCommand::AddOrModify
    );
    let insert = command == GroupModCommand::InsertBucket;
    let positioned = insert || command == GroupModCommand::RemoveBucket;
    let mut draft = Draft {
        of_group,
        positioned,
        all_buckets: command == GroupModCommand::RemoveBucket,
        kind: None,
        group: None,
        position: None,
        selection: Selection::default(),
        names,
    };
    if command == GroupModCommand::Delete && s.is_empty() {
        draft.group = Some(GROUP_ALL);
        return Ok(draft.line(command, Vec::new()));
    }
    let (head, mut buckets) = match s.find("bucket=") {
        Some(_) if !of_group && !insert => return fail("bucket is not needed"),
        Some(at) => (&s[..at], Some(&s[at..])),
        None => (s, None),
    };
    let mut rest = head;
    while let Some(pair) = next_pair(&mut rest)? {
        draft.take(pair)?;
    }
    draft.check()?;
    let kind = draft.kind.unwrap_or(GroupType::All);
    let mut list = Vec::new();
    while let Some(text) = buckets {
        let text = &text["bucket=".len()..];
        let end = text.find("bucket=").unwrap_or(text.len());
        let bucket = draft.bucket(&text[..end], kind)?;
        if kind != GroupType::Select && bucket.bucket.weight != 0 {
            return fail("Only select groups can have bucket weights.");
        }
        list.push(bucket);
        buckets = (end < text.len()).then(|| &text[end..]);
    }
    if kind == GroupType::Indirect && list.len() > 1 {
        return fail("Indirect groups can have at most one bucket.");
    }
    Ok(draft.line(command, name_buckets(list)))
}

/// Reads which group is meant: `5`, `group_id=5`, `all`.
pub fn parse_group_id(s: &str) -> Option<u32> {
    if s.eq_ignore_ascii_case("any") {
        Some(u32::MAX)
    } else if s.eq_ignore_ascii_case("all") {
        Some(GROUP_ALL)
    } else {
        s.parse().ok()
    }
}

/// A bucket as it was written, and its name if it has one.
struct Named {
    bucket: Bucket,
    id: Option<u32>,
}

/// Gives buckets without a name the lowest that no bucket before them has.
fn name_buckets(list: Vec<Named>) -> Vec<Bucket> {
    let mut out: Vec<Bucket> = Vec::with_capacity(list.len());
    for n in list {
        let free = |id: &u32| out.iter().all(|b| b.id != *id);
        let id = n.id.unwrap_or_else(|| (0..).find(free).unwrap_or(0));
        out.push(Bucket { id, ..n.bucket });
    }
    out
}

fn number32(s: &str) -> Result<u32> {
    match parse_uint(s).map(u32::try_from) {
        Some(Ok(n)) => Ok(n),
        _ => fail(format!("invalid numeric format {s}")),
    }
}

/// What stands before the buckets, as far as it was read.
struct Draft<'a> {
    /// Type and selection may be said.
    of_group: bool,
    /// A bucket's place must be said.
    positioned: bool,
    /// All buckets may be meant.
    all_buckets: bool,
    kind: Option<GroupType>,
    group: Option<u32>,
    position: Option<BucketPosition>,
    selection: Selection,
    names: &'a Names,
}

impl Draft<'_> {
    fn take(&mut self, Pair { key, value: v }: Pair<'_>) -> Result<()> {
        match key {
            "command_bucket_id" if !self.positioned => {
                return fail("command bucket id is not needed");
            }
            "command_bucket_id" => self.position = Some(self.position(v)?),
            "group_id" if v == "all" => self.group = Some(GROUP_ALL),
            "group_id" => {
                let n = number32(v)?;
                if n > MAX && n != GROUP_ALL {
                    return fail(format!("invalid group id {n}"));
                }
                self.group = Some(n);
            }
            "type" if !self.of_group => return fail("type is not needed"),
            "type" => {
                self.kind = Some(match v {
                    "all" => GroupType::All,
                    "select" => GroupType::Select,
                    "indirect" => GroupType::Indirect,
                    "ff" | "fast_failover" => GroupType::FastFailover,
                    _ => return fail(format!("invalid group type {v}")),
                });
            }
            "selection_method" if !self.of_group => {
                return fail("selection method is not needed");
            }
            "selection_method" if v.len() > MAX_METHOD => {
                return fail(format!(
                    "selection method is longer than {MAX_METHOD} bytes long"
                ));
            }
            "selection_method" => {
                self.selection.method = v.to_owned();
            }
            "selection_method_param" if !self.of_group => {
                return fail("selection method param is not needed");
            }
            "selection_method_param" => {
                let n = parse_uint(v).and_then(|n| u64::try_from(n).ok());
                let Some(n) = n else {
                    return fail(format!("invalid numeric format {v}"));
                };
                self.selection.param = n;
            }
            "fields" if !self.of_group => return fail("fields are not needed"),
            "fields" => {
                self.fields(v)?;
            }
            key => return fail(format!("unknown keyword {key}")),
        }
        Ok(())
    }

    fn position(&self, v: &str) -> Result<BucketPosition> {
        let found = match POSITIONS.iter().find(|p| p.1 == v) {
            Some(p) => p.2,
            None => {
                let n = number32(v)?;
                match POSITIONS.iter().find(|p| p.0 == n) {
                    Some(p) => p.2,
                    None if n > MAX => return fail(format!("invalid command bucket id {n}")),
                    None => BucketPosition::Id(n),
                }
            }
        };
        if found == BucketPosition::All && !self.all_buckets {
            return fail("command_bucket_id=all is not permitted");
        }
        Ok(found)
    }

    fn fields(&mut self, list: &str) -> Result<()> {
        let mut rest = list;
        while let Some(Pair { key, value: v }) = next_pair(&mut rest)? {
            let after = rest.trim_start_matches([',', ' ', '\t']);
            let Some(id) = field(key) else {
                return fail(format!("{after}: unknown field {key}"));
            };
            if self.selection.fields.iter().any(|f| f.0 == id) {
                return fail(format!("{key}: duplicate field"));
            }
            let mask = self.hash_mask(id, v, after)?;
            self.selection.fields.push((id, mask));
        }
        Ok(())
    }

    /// The bits of a field that count: what is written as its value.
    fn hash_mask(&self, id: FieldId, v: &str, after: &str) -> Result<u128> {
        let info = id.info();
        if v.is_empty() {
            return Ok(info.full_mask());
        }
        if v.contains('/') && info.mask == MaskRule::Exact {
            return fail(format!("{v}: invalid mask for field {}", info.name));
        }
        let (mask, _) = value::parse(info, v, self.names)?;
        if mask == 0 {
            return fail(format!(
                "{after}: values are wildcards here and must not be all-zeros"
            ));
        }
        if info.mask == MaskRule::Exact && mask != info.full_mask() {
            return fail(format!("{v}: invalid mask for field {}", info.name));
        }
        Ok(mask)
    }

    fn check(&self) -> Result<()> {
        if self.group.is_none() {
            return fail("must specify a group_id");
        }
        if self.of_group && self.kind.is_none() {
            return fail("must specify a type");
        }
        let s = &self.selection;
        if s.method != "hash" && !s.fields.is_empty() {
            return fail("fields may only be specified with \"selection_method=hash\"");
        }
        if s.method.is_empty() && s.param != 0 {
            return fail("selection_method_param is only allowed with \"selection_method\"");
        }
        if self.positioned && !self.all_buckets && self.position.is_none() {
            return fail("must specify a command bucket id");
        }
        Ok(())
    }

    fn bucket(&mut self, s: &str, kind: GroupType) -> Result<Named> {
        let mut b = Bucket {
            weight: u16::from(kind == GroupType::Select),
            watch_port: PortNo::ANY,
            watch_group: None,
            id: 0,
            actions: Vec::new(),
        };
        let mut id = None;
        let mut actions = String::new();
        let mut rest = s;
        while let Some(Pair { key, value: v }) = next_pair(&mut rest)? {
            match key.to_ascii_lowercase().as_str() {
                "weight" => b.weight = number(v, "weight")?,
                "watch_port" => {
                    b.watch_port = match self.names.port(v) {
                        Some(p) if p.0 < 0xff00 || p == PortNo::ANY => p,
                        _ => return fail(format!("{v}: invalid watch_port")),
                    };
                }
                "watch_group" => {
                    let n = number32(v)?;
                    if n > MAX {
                        return fail(format!("invalid watch_group id {n}"));
                    }
                    b.watch_group = Some(n);
                }
                "bucket_id" => {
                    let n = number32(v)?;
                    if n > MAX {
                        return fail(format!("invalid bucket_id id {n}"));
                    }
                    id = Some(n);
                }
                "action" | "actions" => actions.push_str(&format!("{v},")),
                _ => actions.push_str(&format!("{key}({v}),")),
            }
        }
        if actions.is_empty() {
            return fail("bucket must specify actions");
        }
        let watched = b.watch_port != PortNo::ANY || b.watch_group.is_some();
        if kind == GroupType::FastFailover && !watched {
            return fail("fast failover bucket requires watch_port or watch_group");
        }
        let actions = actions.trim_end_matches(',');
        if actions != "drop" {
            b.actions = parse_actions(actions, &Match::new(), self.names)?;
        }
        Ok(Named { bucket: b, id })
    }

    fn line(self, command: GroupModCommand, buckets: Vec<Bucket>) -> GroupMod {
        GroupMod {
            command,
            kind: self.kind.unwrap_or(GroupType::All),
            group: self.group.unwrap_or(GROUP_ALL),
            buckets,
            position: self.position.unwrap_or(BucketPosition::All),
            selection: self.selection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    fn add(s: &str) -> Result<GroupMod> {
        parse_group_mod(s, GroupModCommand::Add, &Names::default())
    }

    #[test]
    fn groups_are_read() {
        let text = "group_id=1,type=select,selection_method=hash,fields(ip_src=255.255.0.0,tcp_dst),\
                    bucket=weight:3,actions=1,dec_mpls_ttl,bucket=watch_port:2,bucket_id:0,actions=drop,bucket=output:5";
        let g = add(text).unwrap();
        assert_eq!(
            g.selection.fields,
            [(FieldId::Ipv4Src, 0xffff_0000), (FieldId::TcpDst, 0xffff)]
        );
        let ids: Vec<_> = g.buckets.iter().map(|b| (b.id, b.weight)).collect();
        assert_eq!(ids, [(0, 3), (0, 1), (1, 1)]);
        assert_eq!(g.buckets[0].actions[1], Action::DecMplsTtl);
        assert!(g.buckets[1].actions.is_empty());
        let names = Names::default();
        let all = parse_group_mod("", GroupModCommand::Delete, &names).unwrap();
        assert_eq!(all.group, GROUP_ALL);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "must specify a group_id"),
            ("group_id=1", "must specify a type"),
            ("group_id=1,type=foo", "invalid group type foo"),
            ("group_id=x,type=all", "invalid numeric format x"),
            ("group_id=1,type=all,foo=1", "unknown keyword foo"),
            ("group_id=1,type=all,bucket=", "bucket must specify actions"),
            ("group_id=1,type=all,bucket", "unknown keyword bucket"),
            (
                "group_id=1,type=all,bucket=weight:1,actions=1",
                "Only select groups can have bucket weights.",
            ),
            (
                "group_id=1,type=ff,bucket=actions=1",
                "fast failover bucket requires watch_port or watch_group",
            ),
            (
                "group_id=1,type=indirect,bucket=1,bucket=2",
                "Indirect groups can have at most one bucket.",
            ),
            (
                "group_id=1,type=select,selection_method=hash,fields(foo),bucket=1",
                ": unknown field foo",
            ),
            (
                "group_id=1,type=select,fields(ip_src),bucket=1",
                "fields may only be specified with \"selection_method=hash\"",
            ),
            (
                "group_id=1,type=select,bucket=weight:99999,actions=1",
                "invalid weight \"99999\"",
            ),
            (
                "group_id=1,type=select,bucket=watch_port:foo,actions=1",
                "foo: invalid watch_port",
            ),
            (
                "group_id=1,type=select,command_bucket_id=1,bucket=1",
                "command bucket id is not needed",
            ),
            (
                "group_id=1,type=select,selection_method=hash,fields(eth_type=0x800/0xff),bucket=1",
                "0x800/0xff: invalid mask for field eth_type",
            ),
        ] {
            assert_eq!(add(text).unwrap_err().0, why, "{text}");
        }
    }
}
