//! Errors that travel in RFC 7047 answers.

use serde_json::Value;

use crate::value::{format_g, json_integer, write_json_string};

/// An error as RFC 7047 puts it into answers: a short name a program can act upon, and words for
/// people (RFC 7047 3.1 and 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{name}{}{details}", syntax.as_ref().map(|s| format!("syntax \"{s}\": ")).unwrap_or_default(), if details.is_empty() { "" } else { ": " })]
pub struct OvsdbError {
    /// The RFC's name of the error, such as `constraint violation`.
    pub name: String,
    /// What was wrong with which table, row, column or value.
    pub details: String,
    /// The JSON text that was at fault, where there is one.
    pub syntax: Option<String>,
}

impl OvsdbError {
    /// An error of the given name and details.
    pub fn new(name: &str, details: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            details: details.into(),
            syntax: None,
        }
    }

    /// A `syntax error` about `json`.
    pub fn syntax(json: &Value, details: impl Into<String>) -> Self {
        Self::new("syntax error", details).at(json)
    }

    /// A `constraint violation`.
    pub fn constraint(details: impl Into<String>) -> Self {
        Self::new("constraint violation", details)
    }

    /// The same error with the JSON text at fault.
    #[must_use]
    pub fn at(mut self, json: &Value) -> Self {
        const SYNTAX_MAX: usize = 4096;
        let mut text = String::new();
        write_sorted(json, &mut text);
        if text.len() > SYNTAX_MAX {
            let mut end = SYNTAX_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        self.syntax = Some(text);
        self
    }

    /// The `<error>` object of RFC 7047 3.1.
    pub fn to_json(&self) -> Value {
        let mut map = serde_json::Map::new();
        if !self.details.is_empty() {
            map.insert("details".into(), self.details.clone().into());
        }
        map.insert("error".into(), self.name.clone().into());
        if let Some(s) = &self.syntax {
            map.insert("syntax".into(), s.clone().into());
        }
        Value::Object(map)
    }

    /// Reads an `<error>` object; `None` where `json` is none.
    pub fn from_json(json: &Value) -> Option<Self> {
        let map = json.as_object()?;
        Some(Self {
            name: map.get("error")?.as_str()?.into(),
            details: map
                .get("details")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into(),
            syntax: map.get("syntax").and_then(Value::as_str).map(Into::into),
        })
    }
}

/// Appends `json` as OVS writes it: members of objects in alphabetical order, whole numbers without
/// a fraction and others with 15 digits.
fn write_sorted(json: &Value, out: &mut String) {
    match json {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (k, v)) in pairs.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json_string(k, out);
                out.push(':');
                write_sorted(v, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (i, v) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(v, out);
            }
            out.push(']');
        }
        Value::Number(n) => match (json_integer(json), n.as_f64()) {
            (None, Some(f)) => out.push_str(&format_g(f, 15)),
            (i, _) => out.push_str(&i.unwrap_or_default().to_string()),
        },
        Value::String(s) => write_json_string(s, out),
        other => out.push_str(&other.to_string()),
    }
}
