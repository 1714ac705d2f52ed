//! Random transactions, and what follows them: replicas fed by monitors of every kind always hold the
//! rows that their conditions let through, also when the conditions change and when the client was
//! away for a while; and the journal read back gives the same database.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use ovsdb::engine::{CommitLog, Engine, Output};
use ovsdb::journal::{self, Journal};
use ovsdb::{Database, DatabaseSchema, Replica, Wanted};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> DatabaseSchema {
    DatabaseSchema::from_json(&json!({"name": "db", "tables": {
        "root": {"isRoot": true, "maxRows": 6, "indexes": [["name"]], "columns": {
            "name": {"type": "string"},
            "count": {"type": {"key": {"type": "integer", "minInteger": -9, "maxInteger": 99}}},
            "ints": {"type": {"key": "integer", "min": 0, "max": 4}},
            "attrs": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            "kids": {"type": {"key": {"type": "uuid", "refTable": "kid"}, "min": 0, "max": "unlimited"}},
            "friends": {"type": {"key": {"type": "uuid", "refTable": "kid", "refType": "weak"},
                                 "min": 0, "max": "unlimited"}}}},
        "kid": {"columns": {"n": {"type": "integer"}, "label": {"type": "string"}}}}}))
    .unwrap()
}

fn uuid(t: u8, i: u8) -> Value {
    json!(["uuid", format!("{t:08x}-0000-4000-8000-{i:012x}")])
}

/// One operation, made of numbers so that failures shrink well.
type Op = (u8, u8, u8, i8);

fn operation((kind, a, b, n): Op) -> Value {
    let root = json!([["_uuid", "==", uuid(1, a)]]);
    let mutate = |column: &str, mutator: &str, arg: Value| {
        json!({"op": "mutate", "table": "root", "where": root,
               "mutations": [[column, mutator, arg]]})
    };
    match kind {
        0 | 1 => json!({"op": "insert", "table": "root", "uuid": uuid(1, a)[1],
            "row": {"name": format!("r{b}"), "count": n, "ints": b}}),
        2 => json!({"op": "insert", "table": "kid", "uuid": uuid(2, a)[1], "row": {"n": n}}),
        3 => mutate("kids", "insert", uuid(2, b)),
        4 => mutate("kids", "delete", uuid(2, b)),
        5 => mutate("friends", "insert", uuid(2, b)),
        6 => mutate("count", "+=", n.into()),
        7 => mutate(
            "count",
            ["-=", "*=", "/=", "%="][usize::from(b % 4)],
            n.into(),
        ),
        8 => mutate("ints", "insert", json!(["set", [b, b + 1]])),
        9 => mutate("ints", "delete", b.into()),
        10 => mutate(
            "attrs",
            "insert",
            json!(["map", [["k", format!("v{b}")], [format!("{n}"), ""]]]),
        ),
        11 => mutate("attrs", "delete", json!(["set", ["k"]])),
        12 => json!({"op": "update", "table": "root", "where": [["count", ">", n]],
            "row": {"ints": ["set", [a, b + 5]]}}),
        13 => {
            json!({"op": "update", "table": "kid", "where": [["n", "<", n]], "row": {"label": "low"}})
        }
        14 => json!({"op": "delete", "table": "root", "where": root}),
        _ => {
            json!({"op": "wait", "table": "root", "where": root, "columns": ["name"], "timeout": 0,
            "until": "!=", "rows": [{"name": format!("r{b}")}]})
        }
    }
}

/// A condition on table root, and what it means.
fn condition((kind, k): (u8, i64)) -> Value {
    match kind {
        0 => json!([true]),
        1 => json!([false]),
        2 => json!([["count", "==", k]]),
        3 => json!([["count", "<", k]]),
        4 => json!([["ints", "includes", k]]),
        5 => json!([["name", "==", format!("r{k}")], ["count", ">", k]]),
        _ => json!([["attrs", "excludes", ["map", [["k", format!("v{k}")]]]]]),
    }
}

fn holds((kind, k): (u8, i64), row: &BTreeMap<String, Value>) -> bool {
    let count = row["count"].as_i64().unwrap();
    let ints = match &row["ints"] {
        Value::Array(a) => a[1].as_array().unwrap().clone(),
        one => vec![one.clone()],
    };
    match kind {
        0 => true,
        1 => false,
        2 => count == k,
        3 => count < k,
        4 => ints.contains(&k.into()),
        5 => row["name"] == format!("r{k}") || count > k,
        _ => !row["attrs"][1]
            .as_array()
            .unwrap()
            .contains(&json!(["k", format!("v{k}")])),
    }
}

/// Rows by UUID, in JSON.
type Rows = BTreeMap<String, BTreeMap<String, Value>>;

struct File(Journal);

impl CommitLog for File {
    fn append(&mut self, record: &str) -> io::Result<()> {
        self.0.append(record)
    }

    fn replace(&mut self, _: &Database, _: u64) -> io::Result<()> {
        Err(io::Error::other("nothing is converted here"))
    }
}

/// A replica and the monitor that feeds it.
struct Follower {
    client: u64,
    version: u8,
    condition: (u8, i64),
    replica: Replica,
    last: String,
    away: bool,
}

impl Follower {
    fn start(e: &mut Engine, client: u64, version: u8, condition: (u8, i64)) -> Self {
        let mut f = Self {
            client,
            version,
            condition,
            replica: Replica::new(&schema(), &Wanted::new()),
            last: "00000000-0000-0000-0000-000000000000".into(),
            away: true,
        };
        f.come(e);
        f
    }

    fn requests(&self) -> Value {
        let mut requests = self.replica.monitor_requests();
        if self.version > 1 {
            requests["root"][0]["where"] = condition(self.condition);
        }
        requests
    }

    /// Connects; true where only what was missed came.
    fn come(&mut self, e: &mut Engine) -> bool {
        self.away = false;
        e.connect(self.client);
        let method = ["monitor", "monitor_cond", "monitor_cond_since"];
        let mut params = json!(["db", "m", self.requests()]);
        if self.version == 3 {
            params
                .as_array_mut()
                .unwrap()
                .push(self.last.clone().into());
        }
        let method = method[usize::from(self.version) - 1];
        let mut answer = ask(e, self.client, method, params, &mut []);
        if self.version == 3 {
            self.last = answer[1].as_str().unwrap().into();
            let found = answer[0] == true;
            if !found {
                self.replica.clear();
            }
            self.replica.apply2(&answer[2].take()).unwrap();
            return found;
        }
        self.replica.clear();
        match self.version {
            1 => self.replica.apply(&answer).unwrap(),
            _ => self.replica.apply2(&answer).unwrap(),
        };
        false
    }

    fn told(&mut self, notification: &Value) {
        let params = &notification["params"];
        assert_eq!(params[0], "m");
        match self.version {
            1 => _ = self.replica.apply(&params[1]).unwrap(),
            2 => _ = self.replica.apply2(&params[1]).unwrap(),
            _ => {
                self.last = params[1].as_str().unwrap().into();
                self.replica.apply2(&params[2]).unwrap();
            }
        }
    }

    fn rows(&self, table: &str) -> Rows {
        let rows = self.replica.table(table).iter();
        rows.map(|(u, r)| {
            let cells = r.columns.iter().map(|(c, d)| (c.clone(), d.to_json()));
            (u.to_string(), cells.collect())
        })
        .collect()
    }
}

/// Sends a request; notifications go to who they are for. The result.
fn ask(e: &mut Engine, client: u64, method: &str, params: Value, to: &mut [Follower]) -> Value {
    let request = json!({"id": 1, "method": method, "params": params});
    e.handle(client, request, Instant::now());
    let mut result = None;
    for output in e.take_output() {
        let Output::Send(id, message) = output else {
            panic!("{output:?}");
        };
        let mut v: Value = serde_json::from_str(&message.to_string()).unwrap();
        if v.get("method").is_some() {
            to.iter_mut().find(|f| f.client == id).unwrap().told(&v);
        } else {
            assert_eq!((id, v.get("error")), (client, Some(&Value::Null)), "{v}");
            result = Some(v["result"].take());
        }
    }
    result.unwrap()
}

fn rows(e: &mut Engine, table: &str, to: &mut [Follower]) -> Rows {
    let params = json!(["db", {"op": "select", "table": table, "where": []}]);
    let answer = ask(e, 1, "transact", params, to);
    answer[0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let mut cells: BTreeMap<String, Value> = serde_json::from_value(row.clone()).unwrap();
            cells.remove("_version");
            let uuid = cells.remove("_uuid").unwrap();
            (uuid[1].as_str().unwrap().to_owned(), cells)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn replicas_and_journal_follow_the_database(
        list in proptest::collection::vec(
            (
                proptest::collection::vec((0u8..16, 0u8..5, 0u8..5, -3i8..9), 1..6),
                0usize..8,
                (0u8..7, -2i64..6),
            ),
            1..40,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let (journal, db) = Journal::open(&path, Some(&schema())).unwrap();
        let mut e = Engine::new();
        e.add_database(db, Some(Box::new(File(journal))));
        e.connect(1);
        let mut followers: Vec<Follower> = [(1, (0, 0)), (2, (3, 4)), (2, (0, 0)), (3, (0, 0)), (3, (5, 1))]
            .into_iter()
            .zip(10..)
            .map(|((version, condition), client)| Follower::start(&mut e, client, version, condition))
            .collect();
        for (ops, who, new_condition) in list {
            // Now and then one changes its mind, or goes away and comes back.
            if let Some(f) = followers.get_mut(who) {
                if f.version == 3 && new_condition.1 < 1 {
                    if f.away {
                        prop_assert!(f.come(&mut e), "the transactions missed are remembered");
                    } else {
                        e.disconnect(f.client);
                        f.away = true;
                    }
                } else if f.version > 1 && !f.away {
                    f.condition = new_condition;
                    let client = f.client;
                    let request = json!({"root": [{"where": condition(new_condition)}]});
                    ask(&mut e, client, "monitor_cond_change", json!(["m", "m", request]), &mut followers);
                }
            }
            let mut params = vec![json!("db")];
            params.extend(ops.iter().copied().map(operation));
            ask(&mut e, 1, "transact", params.into(), &mut followers);
            let root = rows(&mut e, "root", &mut followers);
            let kid = rows(&mut e, "kid", &mut followers);
            for f in followers.iter().filter(|f| !f.away) {
                let mut want = root.clone();
                want.retain(|_, row| f.version == 1 || holds(f.condition, row));
                prop_assert_eq!(f.rows("root"), want, "monitor {} {:?}", f.version, f.condition);
                prop_assert_eq!(f.rows("kid"), kid.clone());
            }
        }
        let before = ["root", "kid"].map(|t| rows(&mut e, t, &mut followers));
        drop(e);
        let mut again = Engine::new();
        again.add_database(journal::read(&path).unwrap(), None);
        again.connect(1);
        prop_assert_eq!(before, ["root", "kid"].map(|t| rows(&mut again, t, &mut [])));
    }
}
