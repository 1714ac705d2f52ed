use super::*;
use std::time::Duration;

fn bucket(id: u32, actions: Vec<Action>) -> Bucket {
    Bucket {
        weight: 0,
        watch_port: PortNo::ANY,
        watch_group: None,
        id,
        actions,
    }
}

fn output(port: u32) -> Vec<Action> {
    vec![Action::Output {
        port: PortNo(port),
        max_len: 0,
    }]
}

fn group(id: u32, kind: GroupType, buckets: Vec<Bucket>) -> GroupMod {
    GroupMod {
        command: GroupModCommand::Add,
        kind,
        group: id,
        buckets,
        position: BucketPosition::Last,
        selection: Selection::default(),
    }
}

fn with(m: GroupMod, command: GroupModCommand) -> GroupMod {
    GroupMod { command, ..m }
}

fn run(groups: &mut Groups, m: GroupMod) -> Result<Vec<u32>, ErrorKind> {
    groups.apply(&m, Duration::from_secs(7)).map_err(|e| e.kind)
}

fn ids(groups: &Groups, id: u32) -> Vec<u32> {
    let g = groups.get(id).unwrap();
    g.buckets.iter().map(|b| b.bucket.id).collect()
}

use GroupModCommand::{AddOrModify, Delete, InsertBucket, Modify, RemoveBucket};
use GroupType::{All, FastFailover, Indirect, Select};

#[test]
fn groups_come_change_and_go() {
    let mut g = Groups::default();
    let one = group(1, All, vec![bucket(0, output(1))]);
    assert_eq!(
        run(&mut g, with(one.clone(), Modify)),
        Err(ErrorKind::UnknownGroup)
    );
    assert_eq!(run(&mut g, one.clone()), Ok(vec![1]));
    assert_eq!(run(&mut g, one.clone()), Err(ErrorKind::GroupExists));
    g.get(1).unwrap().counters.add(5, 500, 0);
    g.get(1).unwrap().buckets[0].counters.add(5, 500, 0);
    let two = group(1, Select, vec![bucket(0, output(1)), bucket(1, output(2))]);
    assert_eq!(run(&mut g, with(two.clone(), Modify)), Ok(vec![1]));
    // The group's own counters go on, its buckets' begin anew (OpenFlow 1.3.5 6.5).
    let s = g.get(1).unwrap().stats(2, Duration::from_secs(10));
    assert_eq!((s.packets, s.bytes, s.references), (5, 500, 2));
    assert_eq!(s.buckets, [(0, 0), (0, 0)]);
    assert_eq!(s.duration, Duration::from_secs(3));
    assert_eq!(g.desc(1)[0].kind, Select);
    let mut other = two;
    other.group = 9;
    assert_eq!(run(&mut g, with(other.clone(), AddOrModify)), Ok(vec![9]));
    assert_eq!(run(&mut g, with(other.clone(), AddOrModify)), Ok(vec![9]));
    assert_eq!(g.desc(GROUP_ALL).len(), 2);
    let gone = |id| with(group(id, All, vec![]), Delete);
    assert_eq!(run(&mut g, gone(5)), Ok(vec![]));
    assert_eq!(run(&mut g, gone(1)), Ok(vec![1]));
    assert_eq!(run(&mut g, gone(GROUP_ALL)), Ok(vec![9]));
    assert_eq!(run(&mut g, gone(0xffff_ffff)), Err(ErrorKind::InvalidGroup));
    assert_eq!(g.buckets, 0);
}

#[test]
fn buckets_are_inserted_and_removed_by_place() {
    let mut g = Groups::default();
    let buckets = |ids: &[u32]| ids.iter().map(|&n| bucket(n, output(n))).collect();
    run(&mut g, group(1, All, buckets(&[10, 20]))).unwrap();
    g.get(1).unwrap().buckets[1].counters.add(3, 300, 0);
    let mut change = |command, position, list: &[u32]| {
        let m = GroupMod {
            position,
            ..with(group(1, All, buckets(list)), command)
        };
        run(&mut g, m).map(|_| ids(&g, 1))
    };
    use BucketPosition::{First, Id, Last};
    assert_eq!(change(InsertBucket, First, &[5]), Ok(vec![5, 10, 20]));
    assert_eq!(change(InsertBucket, Last, &[30]), Ok(vec![5, 10, 20, 30]));
    assert_eq!(
        change(InsertBucket, Id(10), &[11, 12]),
        Ok(vec![5, 10, 11, 12, 20, 30])
    );
    assert_eq!(
        change(InsertBucket, Id(99), &[1]),
        Err(ErrorKind::UnknownBucket)
    );
    assert_eq!(
        change(InsertBucket, First, &[20]),
        Err(ErrorKind::BucketExists)
    );
    assert_eq!(
        change(InsertBucket, BucketPosition::All, &[1]),
        Err(ErrorKind::BadBucket)
    );
    assert_eq!(
        change(RemoveBucket, First, &[]),
        Ok(vec![10, 11, 12, 20, 30])
    );
    assert_eq!(change(RemoveBucket, Last, &[]), Ok(vec![10, 11, 12, 20]));
    assert_eq!(change(RemoveBucket, Id(11), &[]), Ok(vec![10, 12, 20]));
    assert_eq!(
        change(RemoveBucket, Id(11), &[]),
        Err(ErrorKind::UnknownBucket)
    );
    assert_eq!(change(RemoveBucket, First, &[1]), Err(ErrorKind::BadBucket));
    // What was not touched counts on.
    assert_eq!(g.get(1).unwrap().buckets[2].counters.get(), (3, 300));
    let m = GroupMod {
        position: BucketPosition::All,
        ..with(group(1, All, vec![]), RemoveBucket)
    };
    assert_eq!(run(&mut g, m).map(|_| ids(&g, 1)), Ok(vec![]));
}

#[test]
fn what_cannot_be_is_refused() {
    let kind = |m: GroupMod| run(&mut Groups::default(), m).err();
    let watching = |n| Bucket {
        watch_port: PortNo(n),
        ..bucket(n, output(n))
    };
    assert_eq!(
        kind(group(0xffff_ff01, All, vec![])),
        Some(ErrorKind::InvalidGroup)
    );
    assert_eq!(
        kind(group(1, Indirect, vec![])),
        Some(ErrorKind::InvalidGroup)
    );
    assert_eq!(
        kind(group(1, All, vec![watching(1)])),
        Some(ErrorKind::WatchUnsupported)
    );
    assert_eq!(
        kind(group(1, FastFailover, vec![bucket(0, vec![])])),
        Some(ErrorKind::InvalidGroup)
    );
    assert_eq!(kind(group(1, FastFailover, vec![watching(1)])), None);
    assert_eq!(kind(group(1, Select, vec![watching(1)])), None);
    assert_eq!(
        kind(group(1, All, vec![bucket(3, vec![]), bucket(3, vec![])])),
        Some(ErrorKind::BadBucket)
    );
    let weighed = Bucket {
        weight: 1,
        ..bucket(0, vec![])
    };
    assert_eq!(
        kind(group(1, All, vec![weighed.clone()])),
        Some(ErrorKind::InvalidGroup)
    );
    assert_eq!(kind(group(1, Select, vec![weighed])), None);
    let many = (0..=BUCKETS_MAX as u32)
        .map(|n| bucket(n, vec![]))
        .collect();
    assert_eq!(kind(group(1, All, many)), Some(ErrorKind::OutOfBuckets));
    let chosen = |kind_of, method: &str| GroupMod {
        selection: Selection {
            method: method.into(),
            ..Selection::default()
        },
        ..group(1, kind_of, vec![])
    };
    assert_eq!(kind(chosen(Select, "hash")), None);
    assert_eq!(kind(chosen(Select, "dp_hash")), None);
    assert_eq!(
        kind(chosen(Select, "dice")),
        Some(ErrorKind::PropertyBadValue)
    );
    assert_eq!(kind(chosen(All, "hash")), Some(ErrorKind::PropertyBadValue));
}

#[test]
fn no_change_closes_a_loop() {
    let mut g = Groups::default();
    let to = |n| vec![bucket(0, vec![Action::Clone(vec![Action::Group(n)])])];
    let chain = |from, n| group(from, All, to(n));
    assert_eq!(run(&mut g, chain(1, 1)), Err(ErrorKind::GroupLoop));
    // A group that is yet to come may be named.
    run(&mut g, chain(1, 2)).unwrap();
    run(&mut g, chain(2, 3)).unwrap();
    assert_eq!(run(&mut g, chain(3, 1)), Err(ErrorKind::GroupLoop));
    run(&mut g, group(3, All, vec![])).unwrap();
    assert_eq!(
        run(&mut g, with(chain(3, 2), Modify)),
        Err(ErrorKind::GroupLoop)
    );
    let insert = with(chain(3, 1), InsertBucket);
    assert_eq!(run(&mut g, insert), Err(ErrorKind::GroupLoop));
    assert!(g.get(3).unwrap().buckets.is_empty());
    // A diamond is no loop.
    let both = vec![
        bucket(0, vec![Action::Group(3)]),
        bucket(1, vec![Action::Group(2)]),
    ];
    run(&mut g, with(group(1, All, both), Modify)).unwrap();
}
