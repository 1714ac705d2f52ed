//! Tables as `list` and `find` print them: ovs-vsctl(8), "Table Formatting Options".

use serde_json::{Value, json};

use super::model::Datum;
use super::text;

/// Layout of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    List,
    Html,
    Csv,
    Json,
}

/// Layout of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellFormat {
    String,
    Bare,
    Json,
}

/// How to print tables.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub format: Format,
    pub cells: CellFormat,
    pub headings: bool,
    /// JSON output spread over lines.
    pub pretty: bool,
    /// Widest column of format `table`, in characters; 0 for no limit.
    pub max_width: usize,
}

impl Style {
    /// Applies `--format`.
    pub fn set_format(&mut self, name: &str) -> Result<(), String> {
        self.format = match name {
            "table" => Format::Table,
            "list" => Format::List,
            "html" => Format::Html,
            "csv" => Format::Csv,
            "json" => Format::Json,
            _ => return Err(format!("unknown output format \"{name}\"")),
        };
        Ok(())
    }

    /// Applies `--data`.
    pub fn set_cells(&mut self, name: &str) -> Result<(), String> {
        self.cells = match name {
            "string" => CellFormat::String,
            "bare" => CellFormat::Bare,
            "json" => CellFormat::Json,
            _ => return Err(format!("unknown data format \"{name}\"")),
        };
        Ok(())
    }
}

/// One cell: a value and whether its type can hold more than one element.
pub type Cell = (Datum, bool);

/// A table to print.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub headings: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

fn cell_text((datum, many): &Cell, style: &Style) -> String {
    match style.cells {
        CellFormat::String => text::print(datum, *many),
        CellFormat::Bare => text::print_bare(datum),
        CellFormat::Json => datum.to_json(&|_| None).to_string(),
    }
}

impl Table {
    /// The table as text. `earlier` counts the lists and tables printed before, which a blank line
    /// separates from this one.
    pub fn print(&self, style: &Style, earlier: &mut usize) -> String {
        let mut out = String::new();
        if *earlier > 0 && !matches!(style.format, Format::Json | Format::Html) {
            out.push('\n');
        }
        *earlier += 1;
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|r| r.iter().map(|c| cell_text(c, style)).collect())
            .collect();
        match style.format {
            Format::List => {
                for (y, row) in rows.iter().enumerate() {
                    if y > 0 {
                        out.push('\n');
                    }
                    for (heading, cell) in self.headings.iter().zip(row) {
                        if style.headings {
                            out.push_str(&format!("{heading:<20}: "));
                        }
                        out.push_str(cell);
                        out.push('\n');
                    }
                }
            }
            Format::Table => self.print_table(&rows, style, &mut out),
            Format::Html => {
                out.push_str("<table border=1>\n");
                let mut line = |tag: &str, cells: &[String]| {
                    out.push_str("  <tr>\n");
                    for c in cells {
                        out.push_str(&format!("    <{tag}>{}</{tag}>\n", html(c)));
                    }
                    out.push_str("  </tr>\n");
                };
                if style.headings {
                    line("th", &self.headings);
                }
                rows.iter().for_each(|r| line("td", r));
                out.push_str("</table>\n");
            }
            Format::Csv => {
                let headings = style.headings.then_some(&self.headings);
                for row in headings.into_iter().chain(&rows) {
                    out.push_str(&row.iter().map(|c| csv(c)).collect::<Vec<_>>().join(","));
                    out.push('\n');
                }
            }
            Format::Json => {
                let data: Vec<Vec<Value>> = self
                    .rows
                    .iter()
                    .map(|r| r.iter().map(|(d, _)| d.to_json(&|_| None)).collect())
                    .collect();
                let value = json!({"data": data, "headings": self.headings});
                out.push_str(&if style.pretty {
                    pretty(&value, 0)
                } else {
                    value.to_string()
                });
                out.push('\n');
            }
        }
        out
    }

    fn print_table(&self, rows: &[Vec<String>], style: &Style, out: &mut String) {
        // Widths in bytes, not characters: so does Open vSwitch.
        let width = |s: &String| s.len();
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|x| {
                let heading = if style.headings {
                    width(&self.headings[x])
                } else {
                    0
                };
                let widest = rows.iter().map(|r| width(&r[x])).max().unwrap_or(0);
                let limit = if style.max_width == 0 {
                    usize::MAX
                } else {
                    style.max_width
                };
                heading.max(widest.min(limit))
            })
            .collect();
        let mut line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(c, w)| {
                    let cut = &c[..c.floor_char_boundary(*w)];
                    format!("{cut}{}", " ".repeat(w - cut.len()))
                })
                .collect();
            out.push_str(padded.join(" ").trim_end_matches(' '));
            out.push('\n');
        };
        if style.headings {
            line(&self.headings);
            line(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>());
        }
        rows.iter().for_each(|r| line(r));
    }
}

fn html(s: &str) -> String {
    s.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn csv(s: &str) -> String {
    if s.contains(['"', ',', '\n', '\r', ' ', '\t']) {
        format!("\"{}\"", s.replace('"', "\"\""))
    } else {
        s.to_string()
    }
}

/// JSON spread over lines, closing brackets at the end of the last line.
fn pretty(value: &Value, depth: usize) -> String {
    let pad = |d: usize| "  ".repeat(d);
    match value {
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<_> = items
                .iter()
                .map(|i| format!("{}{}", pad(depth + 1), pretty(i, depth + 1)))
                .collect();
            format!("[\n{}]", items.join(",\n"))
        }
        Value::Object(members) if !members.is_empty() => {
            let members: Vec<_> = members
                .iter()
                .map(|(k, v)| format!("{}{}: {}", pad(depth + 1), json!(k), pretty(v, depth + 1)))
                .collect();
            format!("{{\n{}}}", members.join(",\n"))
        }
        v => v.to_string(),
    }
}
