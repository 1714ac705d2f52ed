//! What a journal promises, case by case.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::schema::vswitch_schema;
use serde_json::json;

fn record(i: u64) -> String {
    let mut uuid = "00000000-0000-4000-8000-000000000000".to_owned();
    uuid.replace_range(30.., &format!("{i:06}"));
    json!({"Queue": {uuid: {"dscp": i % 64}}, "_date": i, "_is_diff": true}).to_string()
}

#[test]
fn headers_are_those_of_ovs() {
    // Written by `ovsdb-tool create` of Open vSwitch.
    let text = encode_record(r#"{"name":"x","tables":{}}"#);
    assert!(text.starts_with("OVSDB JSON 25 "), "{text}");
    let mut r = Records::new(text.as_bytes());
    assert!(r.next_record().unwrap().is_some());
    assert!(r.next_record().unwrap().is_none());
}

#[test]
fn a_file_cut_anywhere_keeps_all_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, _) = Journal::open(&path, Some(vswitch_schema())).unwrap();
    let mut ends = vec![j.size()];
    for i in 0..5 {
        j.append(&record(i)).unwrap();
        ends.push(j.size());
    }
    j.sync().unwrap();
    drop(j);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, ends[5]);
    for cut in (ends[0]..=ends[5]).step_by(7).chain([ends[1], ends[5] - 1]) {
        let copy = dir.path().join(format!("cut{cut}.db"));
        fs::write(&copy, &bytes[..cut as usize]).unwrap();
        let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
        let (mut j, db) = Journal::open(&copy, None).unwrap();
        assert_eq!(db.row_count("Queue"), whole, "cut at {cut}");
        assert_eq!(j.size(), ends[whole]);
        // What is written after the cut is read back.
        j.append(&record(77)).unwrap();
        drop(j);
        let (_, db) = Journal::open(&copy, None).unwrap();
        assert_eq!(db.row_count("Queue"), whole + 1);
    }
}

#[test]
fn damage_in_the_middle_keeps_the_rest_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, _) = Journal::open(&path, Some(vswitch_schema())).unwrap();
    j.append(&record(1)).unwrap();
    let at = j.size() as usize;
    j.append(&record(2)).unwrap();
    j.append(&record(3)).unwrap();
    drop(j);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at + 80] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, db) = Journal::open(&path, None).unwrap();
    assert_eq!(db.row_count("Queue"), 1);
    let aside = fs::read(dir.path().join("x.db.damaged")).unwrap();
    assert_eq!(aside, &bytes[at..]);
}

#[test]
fn only_one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let first = Journal::open(&path, Some(vswitch_schema())).unwrap();
    let e = Journal::open(&path, None).unwrap_err();
    assert!(matches!(e, JournalError::Locked(_)), "{e}");
    drop(first);
    Journal::open(&path, None).unwrap();
}

/// A journal of 64 changes of four rows, and its database.
fn grown(path: &Path) -> (Journal, Database) {
    let (mut j, mut db) = Journal::open(path, Some(vswitch_schema())).unwrap();
    for i in 0..64 {
        let r = record(i % 4);
        db.load_json(&serde_json::from_str(&r).unwrap()).unwrap();
        j.append(&r).unwrap();
    }
    (j, db)
}

fn rows(path: &Path) -> usize {
    read(path).unwrap().row_count("Queue")
}

#[test]
fn compaction_keeps_rows_and_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, db) = grown(&path);
    let before = j.size();
    j.replace(&db, 1, "test").unwrap();
    assert!(j.size() < before);
    assert_eq!(j.size(), fs::metadata(&path).unwrap().len());
    j.append(&record(9)).unwrap();
    drop(j);
    assert_eq!(rows(&path), 5);
}

#[test]
fn what_is_appended_during_a_compaction_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, db) = grown(&path);
    let job = j.begin_compaction(&db, 1, "test").unwrap().unwrap();
    assert!(j.begin_compaction(&db, 1, "test").unwrap().is_none());
    j.append(&record(10)).unwrap();
    // More than is left to the end, so that both ways of copying are used.
    while j.size() < 2 * compact::CATCH_UP {
        j.append(&record(11)).unwrap();
    }
    let done = job.run();
    j.append(&record(12)).unwrap();
    let before = fs::read(&path).unwrap();
    j.finish_compaction(done).unwrap();
    let after = fs::read(&path).unwrap();
    assert_ne!(before, after);
    assert_eq!(j.size(), after.len() as u64);
    assert!(after.ends_with(encode_record(&record(12)).as_bytes()));
    assert_eq!(rows(&path), 7);
    j.append(&record(13)).unwrap();
    drop(j);
    assert_eq!(rows(&path), 8);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "file and lock");
}

#[test]
fn a_compaction_that_fails_leaves_all_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, db) = grown(&path);
    // A conversion makes the snapshot one of other rows.
    let job = j.begin_compaction(&db, 1, "test").unwrap().unwrap();
    j.replace(&db, 2, "converted").unwrap();
    let done = job.run();
    assert!(done.is_err());
    assert!(j.finish_compaction(done).is_err());
    let late = j.begin_compaction(&db, 3, "test").unwrap().unwrap().run();
    j.replace(&db, 4, "converted").unwrap();
    assert!(j.finish_compaction(late).is_err());
    j.append(&record(9)).unwrap();
    assert_eq!(rows(&path), 5);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "file and lock");
}

#[test]
fn a_compaction_is_due_when_the_file_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, db) = Journal::open(&path, Some(vswitch_schema())).unwrap();
    while !j.wants_compaction() {
        assert!(j.size() < j.base * COMPACT_FACTOR + 2 * COMPACT_MIN_GROWTH);
        j.append(&record(1)).unwrap();
    }
    assert!(j.size() > COMPACT_MIN_GROWTH);
    drop(j.begin_compaction(&db, 1, "test").unwrap());
    let failed = JournalError::Locked("x".into());
    j.finish_compaction(Err(failed)).unwrap_err();
    assert!(!j.wants_compaction(), "not again at once");
    assert!(j.status().unwrap_err().contains("x: failed to lock"));
    j.append(&record(1)).unwrap();
    assert_eq!(j.status(), Ok(()));
}

#[test]
fn a_file_that_went_away_takes_no_more_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (mut j, db) = grown(&path);
    j.sync().unwrap();
    let elsewhere = dir.path().join("y.db");
    fs::rename(&path, &elsewhere).unwrap();
    let e = j.append(&record(9)).unwrap_err();
    assert!(e.to_string().contains("was removed"), "{e}");
    assert_eq!(j.status(), Err(e.to_string()));
    // Compaction writes it anew,
    j.replace(&db, 1, "test").unwrap();
    assert_eq!(j.status(), Ok(()));
    j.append(&record(9)).unwrap();
    j.sync().unwrap();
    assert_eq!(rows(&path), 5);
    // but takes no other file's place.
    fs::rename(&elsewhere, &path).unwrap();
    let other = fs::read(&path).unwrap();
    let e = j.append(&record(9)).unwrap_err();
    assert!(e.to_string().contains("was replaced"), "{e}");
    assert_eq!(j.status(), Err(e.to_string()));
    assert!(j.replace(&db, 1, "test").is_err());
    assert_eq!(fs::read(&path).unwrap(), other);
}

#[test]
fn a_link_is_followed_and_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.db"), dir.path().join("link.db"));
    std::os::unix::fs::symlink("real.db", &link).unwrap();
    // Even one that leads nowhere yet.
    let (mut j, db) = grown(&link);
    assert!(matches!(Lock::take(&real), Err(JournalError::Locked(_))));
    let mode = fs::Permissions::from_mode(0o604);
    fs::set_permissions(&real, mode.clone()).unwrap();
    j.replace(&db, 1, "test").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(rows(&real), 4);
    let kept = fs::metadata(&real).unwrap().permissions();
    assert_eq!(kept.mode() & 0o777, mode.mode());
    assert!(create(&link, vswitch_schema()).is_err(), "it exists");
}

#[test]
fn foreign_files_are_refused() {
    for text in ["", "hello\n", "OVSDB CLUSTER 3 abc\n{}\n"] {
        assert!(load(Path::new("f"), text.as_bytes()).is_err(), "{text:?}");
    }
}
