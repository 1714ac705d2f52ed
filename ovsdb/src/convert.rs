//! Conversion of a database to another schema (ovsdb-server(7), `convert`; ovsdb-tool(1), `convert`).
//!
//! Rows keep their UUIDs. Tables and columns that the new schema does not have are dropped, those
//! that only it has get default values, and every other value is read anew under the new type, so
//! that an optional column may become a set or an integer a real. The rows then go through the
//! same commit as a transaction that inserts them all: constraints, references, unique indexes and
//! row limits of the new schema hold afterwards, and rows that nothing refers to any more are gone.
//! It costs one walk over the database; values whose type stays are shared, not copied.

use crate::database::Database;
use crate::error::OvsdbError;
use crate::schema::DatabaseSchema;
use crate::txn::Txn;
use crate::value::Datum;

/// The rows of `db` under `schema`.
///
/// # Errors
/// What does not fit: `syntax error` or `constraint violation` for a value,
/// `referential integrity violation` for a reference. `db` is as before in any case.
pub fn convert(db: &Database, schema: DatabaseSchema) -> Result<Database, OvsdbError> {
    let mut new = Database::new(schema);
    let mut txn = Txn::new(&new);
    for from in &db.tables {
        let Some(&table) = new.positions.get(&from.schema.name) else {
            continue;
        };
        let to = &new.tables[table];
        // Columns both have: position before, position after, whether values fit as they are.
        let columns: Vec<(usize, usize, bool)> = from
            .schema
            .column_list
            .iter()
            .filter_map(|old| {
                let new = to.schema.column(&old.name)?;
                Some((old.index, new.index, old.ty == new.ty))
            })
            .collect();
        for row in from.rows.values() {
            let mut cells = to.defaults.clone();
            for &(old, new, same) in &columns {
                let value = &row.cells[old];
                cells[new] = if same {
                    value.clone()
                } else {
                    Datum::from_json(&to.schema.column_list[new].ty, &value.to_json())?
                };
            }
            txn.insert(table, row.uuid, cells);
        }
    }
    let mut commit = txn.commit()?;
    new.apply(&mut commit);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn schema(tables: Value) -> DatabaseSchema {
        DatabaseSchema::from_json(&json!({"name": "d", "tables": tables})).unwrap()
    }

    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn database() -> Database {
        let mut db = Database::new(schema(json!({
            "t": {"isRoot": true, "columns": {
                "n": {"type": "integer"},
                "old": {"type": "string"},
                "r": {"type": {"key": {"type": "uuid", "refTable": "u"}, "min": 0}}}},
            "u": {"columns": {"s": {"type": "string"}}},
            "gone": {"isRoot": true, "columns": {"s": {"type": "string"}}}})));
        db.load_json(&json!({
            "t": {A: {"n": 5, "old": "x", "r": ["uuid", B]}},
            "u": {B: {"s": "hello"}},
            "gone": {A: {"s": "lost"}}}))
            .unwrap();
        db.rebuild();
        db
    }

    fn cell(db: &Database, table: &str, column: &str) -> Datum {
        let row = db.rows(table).next().unwrap();
        db.cell(table, row, column).unwrap().clone()
    }

    #[test]
    fn what_both_have_is_kept() {
        let db = database();
        let new = convert(
            &db,
            schema(json!({
                "t": {"isRoot": true, "columns": {
                    "n": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
                    "new": {"type": "boolean"},
                    "r": {"type": {"key": {"type": "uuid", "refTable": "u"}, "min": 0}}}},
                "u": {"columns": {"s": {"type": "string"}}}})),
        )
        .unwrap();
        assert_eq!(cell(&new, "t", "n"), Datum::scalar(5));
        assert_eq!(cell(&new, "t", "new"), Datum::scalar(false));
        assert_eq!(cell(&new, "t", "r"), cell(&db, "t", "r"));
        assert_eq!(cell(&new, "u", "s"), Datum::scalar("hello"));
        assert_eq!((new.total_rows(), db.total_rows()), (2, 3));
    }

    #[test]
    fn rows_nothing_refers_to_any_more_are_dropped() {
        let new = convert(
            &database(),
            schema(json!({
                "t": {"isRoot": true, "columns": {"n": {"type": "integer"}}},
                "u": {"columns": {"s": {"type": "string"}}}})),
        )
        .unwrap();
        assert_eq!((new.row_count("t"), new.row_count("u")), (1, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let db = database();
        for (columns, want) in [
            (json!({"n": {"type": "string"}}), "syntax error"),
            (
                json!({"n": {"type": {"key": {"type": "integer", "maxInteger": 4}}}}),
                "constraint violation",
            ),
            (
                json!({"r": {"type": {"key": {"type": "uuid", "refTable": "t"}, "min": 0}}}),
                "referential integrity violation",
            ),
        ] {
            let e = convert(&db, schema(json!({"t": {"columns": columns}}))).unwrap_err();
            assert_eq!(e.name, want, "{e}");
        }
        let two = {
            let mut db = database();
            db.load_json(&json!({"t": {B: {"n": 5}}})).unwrap();
            db.rebuild();
            db
        };
        for limit in [json!({"maxRows": 1}), json!({"indexes": [["n"]]})] {
            let mut table = json!({"columns": {"n": {"type": "integer"}}});
            for (k, v) in limit.as_object().unwrap() {
                table[k] = v.clone();
            }
            let e = convert(&two, schema(json!({"t": table}))).unwrap_err();
            assert_eq!(e.name, "constraint violation", "{e}");
        }
    }
}
