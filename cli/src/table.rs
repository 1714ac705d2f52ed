//! Tables as `ovs-vsctl list`, `ovsdb-client dump` and others print them: `--format=table`,
//! `list`, `html`, `csv` or `json`, and `--data=string`, `bare` or `json`.

use std::fmt::Write;

use ovsdb::text::{datum_bare, datum_text};
use ovsdb::{Datum, Type};
use serde_json::{Value, json};

use crate::getopt::{Spec, Takes};

/// The options of [`Style::set`].
pub const OPTIONS: &[Spec] = &[
    ("format", Some('f'), Takes::Value),
    ("data", Some('d'), Takes::Value),
    ("no-headings", None, Takes::Nothing),
    ("pretty", None, Takes::Nothing),
    ("bare", None, Takes::Nothing),
    ("max-column-width", None, Takes::Value),
];

/// Layout of a table (`-f`, `--format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One `column : value` per line.
    List,
    /// An HTML table.
    Html,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// One JSON object.
    Json,
}

/// How values look (`-d`, `--data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data {
    /// As ovs-vsctl(8), "Database Values", says.
    #[default]
    String,
    /// Without quotes and brackets.
    Bare,
    /// RFC 7047 JSON.
    Json,
}

/// Everything that decides how tables are printed.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Layout.
    pub format: Format,
    /// Values.
    pub data: Data,
    /// `--no-headings`.
    pub no_headings: bool,
    /// `--pretty`: JSON over several lines.
    pub pretty: bool,
    /// `--max-column-width`: values are cut off there, in bytes; only in [`Format::Table`].
    pub max_column_width: Option<usize>,
}

impl Style {
    /// Takes one option given by its long name; `Ok(false)` if it is none of
    /// [`OPTIONS`].
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match name {
            "format" => {
                self.format = match value.unwrap_or_default() {
                    "table" => Format::Table,
                    "list" => Format::List,
                    "html" => Format::Html,
                    "csv" => Format::Csv,
                    "json" => Format::Json,
                    other => return Err(format!("unknown output format \"{other}\"")),
                }
            }
            "data" => {
                self.data = match value.unwrap_or_default() {
                    "string" => Data::String,
                    "bare" => Data::Bare,
                    "json" => Data::Json,
                    other => return Err(format!("unknown data format \"{other}\"")),
                }
            }
            "no-headings" => self.no_headings = true,
            "pretty" => self.pretty = true,
            "bare" => {
                self.format = Format::List;
                self.data = Data::Bare;
                self.no_headings = true;
            }
            "max-column-width" => {
                let n = value.unwrap_or_default();
                self.max_column_width = Some(n.parse().map_err(|_| {
                    format!("--max-column-width must be a number of columns, not \"{n}\"")
                })?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A time since 1970 as tables show it: `2026-01-31 12:34:56.789`, in UTC.
pub fn plain_time(since_epoch: std::time::Duration) -> String {
    let iso = switchd::log::utc(since_epoch, true);
    iso.trim_end_matches('Z').replace('T', " ")
}

/// One cell.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Plain text, the same in every style.
    Text(String),
    /// A database value.
    Datum(Datum, Box<Type>),
    /// JSON, the same in every style.
    Json(Value),
    /// Nothing: an empty text, `null` in JSON.
    Empty,
}

impl From<&str> for Cell {
    fn from(s: &str) -> Self {
        Cell::Text(s.into())
    }
}

impl From<String> for Cell {
    fn from(s: String) -> Self {
        Cell::Text(s)
    }
}

impl Cell {
    fn text(&self, style: &Style) -> String {
        match self {
            Cell::Text(t) => t.clone(),
            Cell::Json(v) => json_text(v),
            Cell::Empty => String::new(),
            Cell::Datum(d, ty) => match style.data {
                Data::String => datum_text(d, ty),
                Data::Bare => datum_bare(d),
                Data::Json => {
                    let mut out = String::new();
                    d.write_json(&mut out);
                    out
                }
            },
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(t) => t.clone().into(),
            Cell::Json(v) => v.clone(),
            Cell::Empty => Value::Null,
            Cell::Datum(d, _) => d.to_json(),
        }
    }
}

/// A table to be printed.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// A line above it.
    pub caption: Option<String>,
    /// A time printed above it, `YYYY-MM-DD HH:MM:SS.mmm`.
    pub time: Option<String>,
    /// Column headings.
    pub headings: Vec<String>,
    /// Cells, one per heading in each row.
    pub rows: Vec<Vec<Cell>>,
}

/// Prints tables one after another, with what separates them.
#[derive(Debug, Clone, Default)]
pub struct Printer {
    /// The style of all of them.
    pub style: Style,
    printed: usize,
}

/// JSON in one line, object members sorted, as OVS prints it.
pub fn json_text(v: &Value) -> String {
    let mut out = String::new();
    json_into(v, None, &mut out);
    out
}

/// JSON over several lines in OVS's layout: two spaces per level, closing brackets behind the last
/// member.
pub fn json_pretty(v: &Value) -> String {
    let mut out = String::new();
    json_into(v, Some(0), &mut out);
    out
}

fn json_into(v: &Value, indent: Option<usize>, out: &mut String) {
    let newline = |level: Option<usize>, out: &mut String| {
        if let Some(n) = level {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', n * 2));
        }
    };
    let inner = indent.map(|n| n + 1);
    match v {
        Value::Object(map) => {
            out.push('{');
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by(|a, b| a.0.cmp(b.0));
            for (i, (k, v)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                newline(inner, out);
                ovsdb::value::write_json_string(k, out);
                out.push_str(if indent.is_some() { ": " } else { ":" });
                json_into(v, inner, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (i, v) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                newline(inner, out);
                json_into(v, inner, out);
            }
            out.push(']');
        }
        Value::String(s) => ovsdb::value::write_json_string(s, out),
        Value::Number(n) if n.is_f64() => {
            out.push_str(&ovsdb::value::real_text(n.as_f64().unwrap_or_default()));
        }
        other => _ = write!(out, "{other}"),
    }
}

impl Printer {
    /// A printer of the given style.
    pub fn new(style: Style) -> Self {
        Self { style, printed: 0 }
    }

    /// Prints a table to standard output.
    ///
    /// # Errors
    /// What writing failed with.
    pub fn print(&mut self, table: &Table) -> std::io::Result<()> {
        use std::io::Write as _;
        let text = self.format(table);
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The text of a table, with what separates it from the one before.
    pub fn format(&mut self, table: &Table) -> String {
        let mut out = String::new();
        // Nothing may come between JSON documents of one stream, and markup needs nothing.
        if self.printed > 0 && !matches!(self.style.format, Format::Json | Format::Html) {
            out.push('\n');
        }
        self.printed += 1;
        match self.style.format {
            Format::Table => self.columns(table, &mut out),
            Format::List => self.list(table, &mut out),
            Format::Html => self.html(table, &mut out),
            Format::Csv => self.csv(table, &mut out),
            Format::Json => self.json(table, &mut out),
        }
        out
    }

    fn above(table: &Table, out: &mut String) {
        for line in [&table.time, &table.caption].into_iter().flatten() {
            out.push_str(line);
            out.push('\n');
        }
    }

    fn texts(&self, row: &[Cell]) -> Vec<String> {
        row.iter().map(|c| c.text(&self.style)).collect()
    }

    fn columns(&self, table: &Table, out: &mut String) {
        Self::above(table, out);
        let max = self.style.max_column_width.filter(|m| *m > 0);
        let mut rows: Vec<Vec<String>> = table.rows.iter().map(|r| self.texts(r)).collect();
        let widths: Vec<usize> = (0..table.headings.len())
            .map(|x| {
                let longest = rows.iter().filter_map(|r| r.get(x).map(String::len)).max();
                let longest = longest.unwrap_or(0).min(max.unwrap_or(usize::MAX));
                // Headings that are not printed take no room.
                let heading = if self.style.no_headings {
                    0
                } else {
                    table.headings[x].len()
                };
                longest.max(heading)
            })
            .collect();
        // What is cut off still fills the room its heading takes.
        for text in rows.iter_mut().flat_map(|r| r.iter_mut().zip(&widths)) {
            let (text, width) = text;
            let mut end = *width;
            while end < text.len() && !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> = cells
                .zip(&widths)
                .map(|(c, width)| format!("{c}{}", " ".repeat(width.saturating_sub(c.len()))))
                .collect();
            out.push_str(padded.join(" ").trim_end_matches(' '));
            out.push('\n');
        };
        if !self.style.no_headings {
            line(&mut table.headings.iter().map(String::as_str));
            let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            line(&mut dashes.iter().map(String::as_str));
        }
        for r in &rows {
            line(&mut r.iter().map(String::as_str));
        }
    }

    fn list(&self, table: &Table, out: &mut String) {
        Self::above(table, out);
        for (y, row) in table.rows.iter().enumerate() {
            if y > 0 {
                out.push('\n');
            }
            for (heading, text) in table.headings.iter().zip(self.texts(row)) {
                if !self.style.no_headings {
                    _ = write!(out, "{heading:<20}: ");
                }
                out.push_str(&text);
                out.push('\n');
            }
        }
    }

    fn html(&self, table: &Table, out: &mut String) {
        out.push_str("<table border=1>\n");
        if table.caption.is_some() || table.time.is_some() {
            let parts: Vec<&str> = [&table.time, &table.caption]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let mut text = String::new();
            html_escape(&parts.join(" "), &mut text);
            _ = writeln!(out, "    <caption>{text}</caption>");
        }
        let cell = |element: &str, text: &str, out: &mut String| {
            _ = write!(out, "    <{element}>");
            html_escape(text, out);
            _ = writeln!(out, "</{element}>");
        };
        if !self.style.no_headings {
            out.push_str("  <tr>\n");
            for h in &table.headings {
                cell("th", h, out);
            }
            out.push_str("  </tr>\n");
        }
        for row in &table.rows {
            out.push_str("  <tr>\n");
            for (heading, text) in table.headings.iter().zip(self.texts(row)) {
                if heading == "_uuid" && text.is_ascii() {
                    let (mut name, mut short) = (String::new(), String::new());
                    markup_escape(&text, &mut name);
                    markup_escape(text.get(..8).unwrap_or(&text), &mut short);
                    _ = writeln!(out, "    <td><a name=\"{name}\">{short}</a></td>");
                } else {
                    cell("td", &text, out);
                }
            }
            out.push_str("  </tr>\n");
        }
        out.push_str("</table>\n");
    }

    fn csv(&self, table: &Table, out: &mut String) {
        Self::above(table, out);
        let mut line = |cells: &[String]| {
            for (x, c) in cells.iter().enumerate() {
                if x > 0 {
                    out.push(',');
                }
                if c.contains([',', '"', '\n']) {
                    _ = write!(out, "\"{}\"", c.replace('"', "\"\""));
                } else {
                    out.push_str(c);
                }
            }
            out.push('\n');
        };
        if !self.style.no_headings {
            line(&table.headings);
        }
        for row in &table.rows {
            line(&self.texts(row));
        }
    }

    fn json(&self, table: &Table, out: &mut String) {
        let mut v = json!({
            "headings": table.headings,
            "data": table.rows.iter().map(|r| r.iter().map(Cell::json).collect::<Vec<_>>()).collect::<Vec<_>>(),
        });
        if let Some(c) = &table.caption {
            v["caption"] = c.clone().into();
        }
        if let Some(t) = &table.time {
            v["time"] = t.clone().into();
        }
        json_into(&v, self.style.pretty.then_some(0), out);
        out.push('\n');
    }
}

fn markup_escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
}

/// Escapes markup; UUIDs become links to the rows they name.
fn html_escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(id) = rest.get(..36)
            && c.is_ascii_hexdigit()
            && ovsdb::value::parse_uuid(id).is_some()
        {
            _ = write!(out, "<a href=\"#{id}\">{}</a>", &id[..8]);
            rest = &rest[36..];
            continue;
        }
        markup_escape(c.encode_utf8(&mut [0; 4]), out);
        rest = &rest[c.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::AtomType;

    fn sample() -> Table {
        let map = Type::map_of(AtomType::String, AtomType::String);
        let set = Type::set_of(AtomType::Integer);
        Table {
            caption: Some("Port table".into()),
            headings: vec!["external_ids".into(), "name".into(), "trunks".into()],
            rows: vec![vec![
                Cell::Datum(Datum::map([("a", "b c")]), map.into()),
                Cell::Datum("p1".into(), Type::scalar(AtomType::String).into()),
                Cell::Datum(Datum::set([1i64]), set.into()),
            ]],
            ..Table::default()
        }
    }

    fn with(options: &[(&str, &str)]) -> String {
        let mut style = Style::default();
        for (n, v) in options {
            assert!(style.set(n, Some(v)).unwrap());
        }
        Printer::new(style).format(&sample())
    }

    #[test]
    fn every_format_is_that_of_ovs() {
        assert_eq!(
            with(&[]),
            "Port table\nexternal_ids name trunks\n------------ ---- ------\n{a=\"b c\"}    p1   [1]\n"
        );
        assert_eq!(
            with(&[("format", "list")]),
            "Port table\nexternal_ids        : {a=\"b c\"}\nname                : p1\ntrunks              : [1]\n"
        );
        assert_eq!(
            with(&[("format", "csv"), ("no-headings", "")]),
            "Port table\n\"{a=\"\"b c\"\"}\",p1,[1]\n"
        );
        assert_eq!(
            with(&[("format", "json")]),
            "{\"caption\":\"Port table\",\"data\":[[[\"map\",[[\"a\",\"b c\"]]],\"p1\",1]],\"headings\":[\"external_ids\",\"name\",\"trunks\"]}\n"
        );
        assert_eq!(with(&[("bare", "")]), "Port table\na=b c\np1\n1\n");
    }

    #[test]
    fn tables_are_separated_but_not_json() {
        let mut p = Printer::default();
        p.format(&sample());
        assert!(p.format(&sample()).starts_with("\nPort table\n"));
        p.style.format = Format::Json;
        assert!(p.format(&sample()).starts_with('{'));
    }

    #[test]
    fn unknown_formats_are_told() {
        let e = Style::default().set("format", Some("xx")).unwrap_err();
        assert_eq!(e, "unknown output format \"xx\"");
    }

    #[test]
    fn pretty_json_closes_brackets_as_ovs_does() {
        assert_eq!(
            json_pretty(&json!({"b": [1, []], "a": {}})),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    []]}"
        );
    }
}
