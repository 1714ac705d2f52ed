//! What an update says of a row: `<row-update>` of RFC 7047 4.1.6 and `<row-update2>` of
//! ovsdb-server(7) 4.1.14.

use std::fmt::Write;

use super::{DELETE, Form, INITIAL, INSERT, MODIFY, Watch};
use crate::condition::Column;
use crate::database::{Database, DbRow};
use crate::value::Uuid;

fn member(text: &mut String, first: &mut bool) {
    if *first {
        *first = false;
    } else {
        text.push(',');
    }
}

impl Watch {
    /// Appends the update of one row in the view's form, as the condition lets it be seen; false if
    /// there is nothing to tell.
    #[allow(clippy::too_many_arguments)] // a change and where to write it; a struct would say no more
    pub(super) fn row_update(
        &self,
        form: Form,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        let old = old.filter(|r| self.condition.any(r));
        let new = new.filter(|r| self.condition.any(r));
        match form {
            Form::Full => self.full(db, table, old, new, initial, out),
            Form::Delta => self.delta(db, table, old, new, initial, out),
        }
    }

    /// Appends the members of a row object: columns told in changes of `kind`.
    fn cells(
        &self,
        db: &Database,
        table: usize,
        row: &DbRow,
        kind: u8,
        defaults: bool,
        out: &mut String,
    ) {
        out.push('{');
        let mut first = true;
        for (column, kinds) in &self.columns {
            if kinds & kind == 0 {
                continue;
            }
            if let Column::Named(c) = column
                && !defaults
                && row.cells[c.index] == db.tables[table].defaults[c.index]
            {
                continue;
            }
            member(out, &mut first);
            _ = write!(out, "\"{}\":", column.name());
            column.with(row, |d| d.write_json(out));
        }
        out.push('}');
    }

    /// Appends a `<row-update>`; false if there is nothing to tell.
    fn full(
        &self,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        match (old, new) {
            (None, None) => return false,
            (None, Some(new)) => {
                let kind = if initial { INITIAL } else { INSERT };
                if self.kinds & kind == 0 {
                    return false;
                }
                out.push_str("{\"new\":");
                self.cells(db, table, new, kind, true, out);
            }
            (Some(old), None) => {
                if self.kinds & DELETE == 0 {
                    return false;
                }
                out.push_str("{\"old\":");
                self.cells(db, table, old, DELETE, true, out);
            }
            (Some(old), Some(new)) => {
                if !self.changed(old, new) {
                    return false;
                }
                out.push_str("{\"old\":{");
                let mut first = true;
                for (column, kinds) in &self.columns {
                    if kinds & MODIFY != 0 && !same(column, old, new) {
                        member(out, &mut first);
                        _ = write!(out, "\"{}\":", column.name());
                        column.with(old, |d| d.write_json(out));
                    }
                }
                out.push_str("},\"new\":");
                self.cells(db, table, new, MODIFY, true, out);
            }
        }
        out.push('}');
        true
    }

    /// True where a column differs that is told in modifications.
    fn changed(&self, old: &DbRow, new: &DbRow) -> bool {
        self.columns
            .iter()
            .any(|(c, kinds)| kinds & MODIFY != 0 && !same(c, old, new))
    }

    /// Appends a `<row-update2>`; false if there is nothing to tell.
    pub(super) fn delta(
        &self,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        match (old, new) {
            (None, None) => return false,
            (None, Some(new)) => {
                let (kind, name) = if initial {
                    (INITIAL, "initial")
                } else {
                    (INSERT, "insert")
                };
                if self.kinds & kind == 0 {
                    return false;
                }
                _ = write!(out, "{{\"{name}\":");
                self.cells(db, table, new, kind, false, out);
            }
            (Some(_), None) => {
                if self.kinds & DELETE == 0 {
                    return false;
                }
                out.push_str("{\"delete\":null");
            }
            (Some(old), Some(new)) => {
                if !self.changed(old, new) {
                    return false;
                }
                out.push_str("{\"modify\":{");
                let mut first = true;
                for (column, kinds) in &self.columns {
                    if kinds & MODIFY == 0 || same(column, old, new) {
                        continue;
                    }
                    member(out, &mut first);
                    _ = write!(out, "\"{}\":", column.name());
                    match column {
                        Column::Named(c) => new.cells[c.index]
                            .diff(&old.cells[c.index], &c.ty)
                            .write_json(out),
                        other => other.with(new, |d| d.write_json(out)),
                    }
                }
                out.push('}');
            }
        }
        out.push('}');
        true
    }
}

fn same(column: &Column, old: &DbRow, new: &DbRow) -> bool {
    match column {
        Column::Uuid => true,
        Column::Version => old.version == new.version,
        Column::Named(c) => old.cells[c.index] == new.cells[c.index],
    }
}

/// Builds `{"Table":{"uuid":...}}` from rows that come table by table.
pub(super) struct Updates {
    text: String,
    table: Option<usize>,
    row_first: bool,
}

impl Updates {
    pub(super) fn new() -> Self {
        Self {
            text: String::from("{"),
            table: None,
            row_first: true,
        }
    }

    pub(super) fn row(
        &mut self,
        db: &Database,
        table: usize,
        uuid: Uuid,
        write: impl FnOnce(&mut String) -> bool,
    ) {
        let back = self.text.len();
        let new_table = self.table != Some(table);
        if new_table {
            if self.table.is_some() {
                self.text.push_str("},");
            }
            _ = write!(self.text, "\"{}\":{{", db.tables[table].schema.name);
        } else if !self.row_first {
            self.text.push(',');
        }
        _ = write!(self.text, "\"{uuid}\":");
        if write(&mut self.text) {
            self.table = Some(table);
            self.row_first = false;
        } else {
            self.text.truncate(back);
        }
    }

    /// The whole, `None` where no row was told.
    pub(super) fn finish(mut self) -> Option<String> {
        self.table?;
        self.text.push_str("}}");
        Some(self.text)
    }
}
