//! Random transactions against a naive model of a small database with strong and weak references,
//! a unique index, limits on rows and members, mutations of every kind, and garbage collection; and
//! arbitrary bytes against a session.

use std::collections::BTreeMap;
use std::time::Instant;

use ovsdb::engine::{Engine, Output};
use ovsdb::{Database, DatabaseSchema};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> DatabaseSchema {
    DatabaseSchema::from_json(&json!({"name": "db", "version": "1.0.0", "tables": {
        "root": {"isRoot": true, "maxRows": 3, "indexes": [["name"]], "columns": {
            "name": {"type": "string"},
            "ints": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 1, "max": 3}},
            "attrs": {"type": {"key": "integer", "value": "integer", "min": 0, "max": 2}},
            "kids": {"type": {"key": {"type": "uuid", "refTable": "kid"}, "min": 0, "max": "unlimited"}},
            "friends": {"type": {"key": {"type": "uuid", "refTable": "kid", "refType": "weak"}, "min": 0, "max": "unlimited"}}}},
        "kid": {"columns": {"n": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}}}}}
    }}))
    .unwrap()
}

/// UUID number `i` of table `t`.
fn uuid(t: u8, i: u8) -> String {
    format!("{t:08x}-0000-4000-8000-{i:012x}")
}

#[derive(Debug, Clone)]
enum Op {
    AddRoot(u8, u8, Vec<u8>, Vec<u8>),
    AddKid(u8, i64),
    DelRoot(u8),
    DelKid(u8),
    SetKids(u8, Vec<u8>),
    /// A mutator of numbers, on a kid's.
    Compute(u8, usize, i64),
    /// The same, on all of a root's integers.
    ComputeAll(u8, usize, i64),
    InsertInts(u8, Vec<u8>),
    DeleteInts(u8, Vec<u8>),
    InsertPair(u8, u8, u8),
    DeletePair(u8, u8, u8),
    DeleteKeys(u8, Vec<u8>),
    /// True where the root must have the name, or must not.
    Wait(u8, u8, bool),
    Abort,
}

const MUTATORS: [&str; 5] = ["+=", "-=", "*=", "/=", "%="];

/// What a mutator makes of an integer, `None` where it must fail.
fn compute(mutator: usize, a: i64, b: i64) -> Option<i64> {
    match mutator {
        0 => Some(a + b),
        1 => Some(a - b),
        2 => Some(a * b),
        3 => a.checked_div(b),
        _ => a.checked_rem(b),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let ids = || proptest::collection::vec(0u8..5, 0..3);
    prop_oneof![
        4 => (0u8..4, 0u8..4, ids(), ids()).prop_map(|(i, n, k, f)| Op::AddRoot(i, n, k, f)),
        6 => (0u8..5, 0i64..12).prop_map(|(i, n)| Op::AddKid(i, n)),
        1 => (0u8..4).prop_map(Op::DelRoot),
        1 => (0u8..5).prop_map(Op::DelKid),
        3 => (0u8..4, ids()).prop_map(|(i, k)| Op::SetKids(i, k)),
        2 => (0u8..5, 0usize..5, -2i64..4).prop_map(|(i, m, n)| Op::Compute(i, m, n)),
        1 => (0u8..4, 0usize..5, -1i64..3).prop_map(|(i, m, n)| Op::ComputeAll(i, m, n)),
        2 => (0u8..4, ids()).prop_map(|(i, n)| Op::InsertInts(i, n)),
        1 => (0u8..4, ids()).prop_map(|(i, n)| Op::DeleteInts(i, n)),
        2 => (0u8..4, 0u8..3, 0u8..2).prop_map(|(i, k, v)| Op::InsertPair(i, k, v)),
        1 => (0u8..4, 0u8..3, 0u8..2).prop_map(|(i, k, v)| Op::DeletePair(i, k, v)),
        1 => (0u8..4, ids()).prop_map(|(i, k)| Op::DeleteKeys(i, k)),
        1 => (0u8..4, 0u8..4, any::<bool>()).prop_map(|(i, n, eq)| Op::Wait(i, n, eq)),
        1 => Just(Op::Abort),
    ]
}

fn set(ids: &[u8]) -> Value {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    json!([
        "set",
        ids.iter()
            .map(|i| json!(["uuid", uuid(2, *i)]))
            .collect::<Vec<_>>()
    ])
}

/// A set of small integers.
fn numbers(list: &[u8]) -> Value {
    let list: Ids = list.iter().copied().collect();
    json!(["set", list])
}

fn mutate_root(i: u8, column: &str, mutator: &str, arg: Value) -> Value {
    json!({"op": "mutate", "table": "root", "where": by_id(1, i), "mutations": [[column, mutator, arg]]})
}

fn by_id(t: u8, i: u8) -> Value {
    json!([["_uuid", "==", ["uuid", uuid(t, i)]]])
}

fn to_json(op: &Op) -> Value {
    match op {
        Op::AddRoot(i, n, k, f) => json!({"op": "insert", "table": "root", "uuid": uuid(1, *i),
            "row": {"name": format!("r{n}"), "kids": set(k), "friends": set(f)}}),
        Op::AddKid(i, n) => {
            json!({"op": "insert", "table": "kid", "uuid": uuid(2, *i), "row": {"n": n}})
        }
        Op::DelRoot(i) => json!({"op": "delete", "table": "root", "where": by_id(1, *i)}),
        Op::DelKid(i) => json!({"op": "delete", "table": "kid", "where": by_id(2, *i)}),
        Op::SetKids(i, k) => {
            json!({"op": "update", "table": "root", "where": by_id(1, *i), "row": {"kids": set(k)}})
        }
        Op::Compute(i, m, n) => {
            json!({"op": "mutate", "table": "kid", "where": by_id(2, *i), "mutations": [["n", MUTATORS[*m], n]]})
        }
        Op::ComputeAll(i, m, n) => mutate_root(*i, "ints", MUTATORS[*m], json!(n)),
        Op::InsertInts(i, n) => mutate_root(*i, "ints", "insert", numbers(n)),
        Op::DeleteInts(i, n) => mutate_root(*i, "ints", "delete", numbers(n)),
        Op::InsertPair(i, k, v) => mutate_root(*i, "attrs", "insert", json!(["map", [[k, v]]])),
        Op::DeletePair(i, k, v) => mutate_root(*i, "attrs", "delete", json!(["map", [[k, v]]])),
        Op::DeleteKeys(i, k) => mutate_root(*i, "attrs", "delete", numbers(k)),
        Op::Wait(i, n, equal) => json!({"op": "wait", "table": "root", "where": by_id(1, *i),
            "columns": ["name"], "until": if *equal { "==" } else { "!=" },
            "rows": [{"name": format!("r{n}")}], "timeout": 0}),
        Op::Abort => json!({"op": "abort"}),
    }
}

type Ids = std::collections::BTreeSet<u8>;

#[derive(Debug, Clone, PartialEq)]
struct Root {
    name: u8,
    kids: Ids,
    friends: Ids,
    ints: std::collections::BTreeSet<i64>,
    attrs: BTreeMap<u8, u8>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    roots: BTreeMap<u8, Root>,
    kids: BTreeMap<u8, i64>,
}

impl Model {
    /// The state after a transaction and how many rows each operation found, `None` if it must fail.
    fn run(&self, ops: &[Op]) -> Option<(Model, Vec<u64>)> {
        let mut m = self.clone();
        let mut counts = Vec::new();
        // A UUID may not come back within the transaction that deleted it.
        let mut seen: Vec<(u8, u8)> = Vec::new();
        for op in ops {
            let found = match op {
                Op::AddRoot(i, n, k, f) => {
                    if m.roots.contains_key(i) || seen.contains(&(1, *i)) {
                        return None;
                    }
                    let root = Root {
                        name: *n,
                        kids: k.iter().copied().collect(),
                        friends: f.iter().copied().collect(),
                        ints: [0].into(),
                        attrs: BTreeMap::new(),
                    };
                    m.roots.insert(*i, root);
                    true
                }
                Op::AddKid(i, n) => {
                    if m.kids.contains_key(i) || seen.contains(&(2, *i)) || *n > 9 {
                        return None;
                    }
                    m.kids.insert(*i, *n);
                    true
                }
                Op::DelRoot(i) => {
                    let there = m.roots.remove(i).is_some();
                    seen.extend(there.then_some((1, *i)));
                    there
                }
                Op::DelKid(i) => {
                    let there = m.kids.remove(i).is_some();
                    seen.extend(there.then_some((2, *i)));
                    there
                }
                Op::Compute(i, mutator, n) => match m.kids.get_mut(i) {
                    None => false,
                    Some(v) => {
                        *v = compute(*mutator, *v, *n).filter(|v| (0..=9).contains(v))?;
                        true
                    }
                },
                Op::Wait(i, n, equal) => {
                    if m.roots.get(i).is_some_and(|r| r.name == *n) != *equal {
                        return None;
                    }
                    true
                }
                Op::Abort => return None,
                Op::SetKids(i, _)
                | Op::ComputeAll(i, ..)
                | Op::InsertInts(i, _)
                | Op::DeleteInts(i, _)
                | Op::InsertPair(i, ..)
                | Op::DeletePair(i, ..)
                | Op::DeleteKeys(i, _) => match m.roots.get_mut(i) {
                    None => false,
                    Some(root) => {
                        root.change(op)?;
                        true
                    }
                },
            };
            counts.push(found.into());
        }
        let held: Ids = m.roots.values().flat_map(|r| r.kids.clone()).collect();
        if held.iter().any(|k| !m.kids.contains_key(k)) {
            return None;
        }
        m.kids.retain(|k, _| held.contains(k));
        for r in m.roots.values_mut() {
            r.friends.retain(|k| held.contains(k));
        }
        let names: Ids = m.roots.values().map(|r| r.name).collect();
        (names.len() == m.roots.len() && names.len() <= 3).then_some((m, counts))
    }
}

impl Root {
    /// One operation on its columns, `None` if it must fail.
    fn change(&mut self, op: &Op) -> Option<()> {
        match op {
            Op::SetKids(_, k) => self.kids = k.iter().copied().collect(),
            Op::ComputeAll(_, mutator, n) => {
                let old = self.ints.len();
                self.ints = self
                    .ints
                    .iter()
                    .map(|v| compute(*mutator, *v, *n).filter(|v| (0..=9).contains(v)))
                    .collect::<Option<_>>()?;
                if self.ints.len() != old {
                    return None;
                }
            }
            Op::InsertInts(_, n) => self.ints.extend(n.iter().map(|n| i64::from(*n))),
            Op::DeleteInts(_, n) => self.ints.retain(|v| !n.iter().any(|n| i64::from(*n) == *v)),
            Op::InsertPair(_, k, v) => _ = self.attrs.entry(*k).or_insert(*v),
            Op::DeletePair(_, k, v) => self.attrs.retain(|have, val| (*have, *val) != (*k, *v)),
            Op::DeleteKeys(_, k) => self.attrs.retain(|have, _| !k.contains(have)),
            other => unreachable!("{other:?} is not about a root's columns"),
        }
        ((1..=3).contains(&self.ints.len()) && self.attrs.len() <= 2).then_some(())
    }
}

fn reply(e: &mut Engine, request: Value) -> Value {
    e.handle(1, request, Instant::now());
    let text = e
        .take_output()
        .into_iter()
        .find_map(|o| match o {
            Output::Send(1, m) => Some(m.to_string()).filter(|t| !t.contains("\"method\"")),
            _ => None,
        })
        .unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["result"].clone()
}

fn state(e: &mut Engine) -> Model {
    let r = reply(
        e,
        json!({"id": 9, "method": "transact", "params": ["db",
        {"op": "select", "table": "root", "where": []}, {"op": "select", "table": "kid", "where": []}]}),
    );
    let id = |v: &Value| u8::from_str_radix(&v[1].as_str().unwrap()[34..], 16).unwrap();
    let ids = |v: &Value| -> Ids {
        if v[0] == "uuid" {
            Ids::from([id(v)])
        } else {
            v[1].as_array().unwrap().iter().map(id).collect()
        }
    };
    Model {
        roots: r[0]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| {
                let root = Root {
                    name: x["name"].as_str().unwrap()[1..].parse().unwrap(),
                    kids: ids(&x["kids"]),
                    friends: ids(&x["friends"]),
                    ints: match x["ints"].as_i64() {
                        Some(n) => [n].into(),
                        None => serde_json::from_value(x["ints"][1].clone()).unwrap(),
                    },
                    attrs: serde_json::from_value::<Vec<_>>(x["attrs"][1].clone())
                        .unwrap()
                        .into_iter()
                        .collect(),
                };
                (id(&x["_uuid"]), root)
            })
            .collect(),
        kids: r[1]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| (id(&x["_uuid"]), x["n"].as_i64().unwrap()))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn transactions_do_what_a_naive_model_does(
        list in proptest::collection::vec(proptest::collection::vec(op(), 1..6), 1..25)
    ) {
        let mut e = Engine::new();
        e.add_database(Database::new(schema()), None);
        e.connect(1);
        let mut model = Model::default();
        for ops in list {
            let mut params = vec![json!("db")];
            params.extend(ops.iter().map(to_json));
            let r = reply(&mut e, json!({"id": 1, "method": "transact", "params": params}));
            let failed = r.as_array().unwrap().iter().any(|x| x.get("error").is_some());
            let next = model.run(&ops);
            prop_assert_eq!(failed, next.is_none(), "{:?} -> {}", ops, r);
            if let Some((next, counts)) = next {
                for (result, count) in r.as_array().unwrap().iter().zip(counts) {
                    if let Some(told) = result.get("count") {
                        prop_assert_eq!(told, count, "{:?} -> {}", ops, r);
                    }
                }
                model = next;
            }
            prop_assert_eq!(&state(&mut e), &model, "after {:?}", ops);
        }
    }

    #[test]
    fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        ovsdb::fuzz_json(&data);
    }

    #[test]
    fn any_operation_is_survived(
        op in "(insert|select|update|mutate|delete|wait|assert|comment)",
        column in "(dscp|queues|_uuid|external_ids|nope)",
        value in "(1|-1|\"x\"|\\[\"set\",\\[\\]\\]|\\[\"map\",\\[\\[1,2\\]\\]\\]|\\[\"named-uuid\",\"a\"\\]|null|1e99|\\{\\})",
        function in "(==|!=|<|includes|excludes|\\+=|insert|delete|/=)",
    ) {
        let text = format!(
            "{{\"id\":1,\"method\":\"transact\",\"params\":[\"Open_vSwitch\",{{\"op\":\"{op}\",\"table\":\"Queue\",\
             \"where\":[[\"{column}\",\"{function}\",{value}]]}},{{\"op\":\"{op}\",\"table\":\"QoS\",\"where\":[],\
             \"row\":{{\"{column}\":{value}}}}},{{\"op\":\"mutate\",\"table\":\"Queue\",\"where\":[],\
             \"mutations\":[[\"{column}\",\"{function}\",{value}]]}}]}}"
        );
        ovsdb::fuzz_json(text.as_bytes());
    }
}
