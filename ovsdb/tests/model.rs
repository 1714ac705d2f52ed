//! Random transactions against a naive model of a small database with strong and weak references,
//! a unique index and garbage collection; and arbitrary bytes against a session.

use std::collections::BTreeMap;
use std::time::Instant;

use ovsdb::engine::{Engine, Output};
use ovsdb::{Database, DatabaseSchema};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> DatabaseSchema {
    DatabaseSchema::from_json(&json!({"name": "db", "version": "1.0.0", "tables": {
        "root": {"isRoot": true, "indexes": [["name"]], "columns": {
            "name": {"type": "string"},
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
    Add(u8, i64),
    Abort,
}

fn op() -> impl Strategy<Value = Op> {
    let ids = || proptest::collection::vec(0u8..5, 0..3);
    prop_oneof![
        4 => (0u8..4, 0u8..4, ids(), ids()).prop_map(|(i, n, k, f)| Op::AddRoot(i, n, k, f)),
        6 => (0u8..5, 0i64..12).prop_map(|(i, n)| Op::AddKid(i, n)),
        1 => (0u8..4).prop_map(Op::DelRoot),
        1 => (0u8..5).prop_map(Op::DelKid),
        3 => (0u8..4, ids()).prop_map(|(i, k)| Op::SetKids(i, k)),
        2 => (0u8..5, -2i64..4).prop_map(|(i, n)| Op::Add(i, n)),
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
        Op::Add(i, n) => {
            json!({"op": "mutate", "table": "kid", "where": by_id(2, *i), "mutations": [["n", "+=", n]]})
        }
        Op::Abort => json!({"op": "abort"}),
    }
}

type Ids = std::collections::BTreeSet<u8>;

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    roots: BTreeMap<u8, (u8, Ids, Ids)>,
    kids: BTreeMap<u8, i64>,
}

impl Model {
    /// The state after a transaction, `None` if it must fail.
    fn run(&self, ops: &[Op]) -> Option<Model> {
        let mut m = self.clone();
        // A UUID may not come back within the transaction that deleted it.
        let mut seen: Vec<(u8, u8)> = Vec::new();
        for op in ops {
            match op {
                Op::AddRoot(i, n, k, f) => {
                    if m.roots.contains_key(i) || seen.contains(&(1, *i)) {
                        return None;
                    }
                    m.roots.insert(
                        *i,
                        (*n, k.iter().copied().collect(), f.iter().copied().collect()),
                    );
                }
                Op::AddKid(i, n) => {
                    if m.kids.contains_key(i) || seen.contains(&(2, *i)) || *n > 9 {
                        return None;
                    }
                    m.kids.insert(*i, *n);
                }
                Op::DelRoot(i) => {
                    if m.roots.remove(i).is_some() {
                        seen.push((1, *i));
                    }
                }
                Op::DelKid(i) => {
                    if m.kids.remove(i).is_some() {
                        seen.push((2, *i));
                    }
                }
                Op::SetKids(i, k) => {
                    if let Some(r) = m.roots.get_mut(i) {
                        r.1 = k.iter().copied().collect();
                    }
                }
                Op::Add(i, n) => {
                    if let Some(v) = m.kids.get_mut(i) {
                        *v += n;
                        if !(0..=9).contains(v) {
                            return None;
                        }
                    }
                }
                Op::Abort => return None,
            }
        }
        let held: Ids = m.roots.values().flat_map(|r| r.1.clone()).collect();
        if held.iter().any(|k| !m.kids.contains_key(k)) {
            return None;
        }
        m.kids.retain(|k, _| held.contains(k));
        for r in m.roots.values_mut() {
            r.2.retain(|k| held.contains(k));
        }
        let names: Ids = m.roots.values().map(|r| r.0).collect();
        (names.len() == m.roots.len()).then_some(m)
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
                let name = x["name"].as_str().unwrap()[1..].parse().unwrap();
                (id(&x["_uuid"]), (name, ids(&x["kids"]), ids(&x["friends"])))
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
            if let Some(next) = next {
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
