//! Options as getopt_long(3) reads them, which is how the programs weir stands in for do: long ones
//! may be abbreviated, values follow after `=` or as the next word, options and other words mix, and
//! `--` ends the options.

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// No value.
    Nothing,
    /// A value, in the same word or the next.
    Value,
    /// A value in the same word, or none.
    Maybe,
}

/// An option: its long name, its letter if any, its value.
pub type Spec = (&'static str, Option<char>, Takes);

/// The options of connections by TLS, as `ovsdb::TlsOptions` takes them.
pub const TLS: &[Spec] = &[
    ("private-key", Some('p'), Takes::Value),
    ("certificate", Some('c'), Takes::Value),
    ("ca-cert", Some('C'), Takes::Value),
    ("ssl-protocols", None, Takes::Value),
    ("ssl-ciphers", None, Takes::Value),
    ("bootstrap-ca-cert", None, Takes::Value),
    ("peer-ca-cert", None, Takes::Value),
];

/// The lines of `--help` about [`TLS`].
pub const TLS_HELP: &str = "\
  -p, --private-key=FILE    file with private key
  -c, --certificate=FILE    file with certificate for private key
  -C, --ca-cert=FILE        file with peer CA certificate
  --bootstrap-ca-cert=FILE  file with peer CA certificate to read or create
  --peer-ca-cert=FILE       file with certificates to send to a peer that bootstraps
  --ssl-protocols=PROTOS    list of SSL protocols to enable
  --ssl-ciphers=CIPHERS     list of SSL ciphers to enable
";

/// Options in the order typed, by long name and with their values, then the other words.
pub type Parsed = (Vec<(&'static str, Option<String>)>, Vec<String>);

/// Reads `args`. With `stop_early`, the first other word ends the options.
///
/// # Errors
/// In the words of getopt_long(3): unknown, ambiguous, with a value too many or too few.
pub fn parse(
    args: Vec<std::ffi::OsString>,
    specs: &[&[Spec]],
    stop_early: bool,
) -> Result<Parsed, String> {
    let specs: Vec<Spec> = specs.iter().flat_map(|s| s.iter().copied()).collect();
    let mut options = Vec::new();
    let mut words = Vec::new();
    let mut args = args.into_iter();
    let text = |s: std::ffi::OsString| {
        s.into_string()
            .map_err(|s| format!("argument \"{}\" is not UTF-8", s.to_string_lossy()))
    };
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        if arg == "--" {
            for rest in args.by_ref() {
                words.push(text(rest)?);
            }
        } else if let Some(long) = arg.strip_prefix("--") {
            let (typed, value) = match long.split_once('=') {
                Some((n, v)) => (n, Some(v.to_string())),
                None => (long, None),
            };
            let found: Vec<&Spec> = match specs.iter().find(|s| s.0 == typed) {
                Some(exact) => vec![exact],
                None => specs.iter().filter(|s| s.0.starts_with(typed)).collect(),
            };
            let (name, _, takes) = match found.as_slice() {
                [one] => **one,
                [] => return Err(format!("unrecognized option '--{typed}'")),
                many => {
                    let list: String = many.iter().map(|s| format!(" '--{}'", s.0)).collect();
                    return Err(format!(
                        "option '--{typed}' is ambiguous; possibilities:{list}"
                    ));
                }
            };
            let value = match (takes, value) {
                (Takes::Nothing, Some(_)) => {
                    return Err(format!("option '--{name}' doesn't allow an argument"));
                }
                (Takes::Value, None) => match args.next() {
                    Some(next) => Some(text(next)?),
                    None => return Err(format!("option '--{name}' requires an argument")),
                },
                (_, value) => value,
            };
            options.push((name, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut rest = &arg[1..];
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                let Some((name, _, takes)) = specs.iter().find(|s| s.1 == Some(c)) else {
                    return Err(format!("invalid option -- '{c}'"));
                };
                let value = match takes {
                    Takes::Nothing => None,
                    _ if !rest.is_empty() => Some(std::mem::take(&mut rest).to_string()),
                    Takes::Maybe => None,
                    Takes::Value => match args.next() {
                        Some(next) => Some(text(next)?),
                        None => return Err(format!("option requires an argument -- '{c}'")),
                    },
                };
                options.push((name, value));
            }
        } else {
            words.push(arg);
            if stop_early {
                for rest in args.by_ref() {
                    words.push(text(rest)?);
                }
            }
        }
    }
    Ok((options, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_getopt() {
        let specs: &[Spec] = &[
            ("target", Some('t'), Takes::Value),
            ("timeout", Some('T'), Takes::Value),
            ("verbose", Some('v'), Takes::Maybe),
            ("help", Some('h'), Takes::Nothing),
        ];
        let read =
            |line: &str, stop| parse(line.split(' ').map(Into::into).collect(), &[specs], stop);
        let some = |s: &str| Some(s.to_string());
        let (options, words) = read("a -tx --timeo=3 b -v -vdbg -- -c", false).unwrap();
        assert_eq!(
            options,
            [
                ("target", some("x")),
                ("timeout", some("3")),
                ("verbose", None),
                ("verbose", some("dbg"))
            ]
        );
        assert_eq!(words, ["a", "b", "-c"]);
        assert_eq!(read("-t x a -h", true).unwrap().1, ["a", "-h"]);
        for (line, error) in [
            (
                "--t",
                "option '--t' is ambiguous; possibilities: '--target' '--timeout'",
            ),
            ("--x", "unrecognized option '--x'"),
            ("--help=1", "option '--help' doesn't allow an argument"),
            ("-t", "option requires an argument -- 't'"),
            ("-hq", "invalid option -- 'q'"),
        ] {
            assert_eq!(read(line, false).unwrap_err(), error);
        }
    }
}
