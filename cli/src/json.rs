//! JSON that was typed or lies in a file, and what is wrong with it in the words of Open vSwitch.

use std::path::Path;

use serde_json::Value;

/// Reads JSON.
///
/// # Errors
/// What is wrong, and where: lines from 0, columns and bytes as far as it was read.
pub fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| told(text, &e))
}

/// Reads JSON from a file.
///
/// # Errors
/// It cannot be read, or as for [`parse`].
pub fn read(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|e| {
        let why = crate::exit::words(&e);
        format!("error opening \"{}\": {why}", path.display())
    })?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn told(text: &str, e: &serde_json::Error) -> String {
    let line = e.line().saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let mut byte = before + e.column();
    let found = text
        .as_bytes()
        .get(byte.saturating_sub(1))
        .copied()
        .unwrap_or_default();
    let own = e.to_string();
    let what = if text.trim().is_empty() {
        "empty input stream".to_owned()
    } else if found.is_ascii_alphabetic() && !own.contains("string") && !own.contains("number") {
        let word = |b: &u8| b.is_ascii_alphabetic();
        let from = text.as_bytes()[..byte]
            .iter()
            .rposition(|b| !word(b))
            .map_or(0, |x| x + 1);
        byte += text.as_bytes()[byte..]
            .iter()
            .take_while(|b| word(b))
            .count();
        match &text[from..byte] {
            "true" | "false" | "null" => misplaced(&own),
            keyword => format!("invalid keyword '{keyword}'"),
        }
    } else {
        misplaced(&own)
    };
    format!("line {line}, column {}, byte {byte}: {what}", byte - before)
}

/// What is wrong with a token that is none or that should not be there, from serde_json's words.
fn misplaced(own: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        (
            "EOF while parsing a string",
            "unexpected end of input in quoted string",
        ),
        ("EOF", "unexpected end of input"),
        ("expected `:`", "syntax error parsing object expecting ':'"),
        ("expected `,` or `]`", "syntax error expecting ']' or ','"),
        ("expected `,` or `}`", "syntax error expecting '}' or ','"),
        (
            "key must be a string",
            "syntax error parsing object expecting string",
        ),
        ("trailing characters", "trailing garbage at end of input"),
        ("invalid number", "leading zeros not allowed"),
        ("expected value", "syntax error expecting value"),
        ("trailing comma", "syntax error expecting value"),
    ];
    let known = WORDS.iter().find(|(ours, _)| own.starts_with(ours));
    let end = own.find(" at line").unwrap_or(own.len());
    known.map_or(&own[..end], |(_, theirs)| theirs).to_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn errors_say_where() {
        for (text, error) in [
            ("", "line 0, column 0, byte 0: empty input stream"),
            (
                "hello\n",
                "line 0, column 5, byte 5: invalid keyword 'hello'",
            ),
            (
                "[\n1 2]",
                "line 1, column 3, byte 5: syntax error expecting ']' or ','",
            ),
            ("{", "line 0, column 1, byte 1: unexpected end of input"),
            (
                "1 true",
                "line 0, column 6, byte 6: trailing garbage at end of input",
            ),
            (
                "\u{e9}x",
                "line 0, column 1, byte 1: syntax error expecting value",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }
}
