//! Reads command lines as GNU `getopt_long` does: options anywhere, unique abbreviations of long
//! ones, `--` ends them.

use std::ffi::OsString;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// Always: `--name=VALUE`, `--name VALUE`, `-nVALUE`, `-n VALUE`.
    Value,
    /// Only as `--name=VALUE` or `-nVALUE`.
    Maybe,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Its long name.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// Its value.
    pub takes: Takes,
}

/// Shorthand for tables of options.
pub const fn opt(long: &'static str, short: Option<char>, takes: Takes) -> Opt {
    Opt { long, short, takes }
}

/// A command line taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Options by their long names, in order.
    pub options: Vec<(&'static str, Option<String>)>,
    /// The rest, in order.
    pub words: Vec<String>,
}

/// Takes a command line apart.
///
/// # Errors
/// Unknown or ambiguous options, missing or unwanted values, in getopt's words.
pub fn parse(known: &[Opt], args: &[OsString]) -> Result<Parsed, String> {
    let mut out = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = arg
            .to_str()
            .ok_or_else(|| format!("argument {arg:?} is not UTF-8"))?;
        if arg == "--" {
            for rest in args.by_ref() {
                out.words.push(rest.to_string_lossy().into_owned());
            }
            break;
        }
        let mut next = || args.next().map(|a| a.to_string_lossy().into_owned());
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((n, v)) => (n, Some(v.to_owned())),
                None => (long, None),
            };
            let fits: Vec<&Opt> = known.iter().filter(|o| o.long.starts_with(name)).collect();
            let o = match (known.iter().find(|o| o.long == name), fits.as_slice()) {
                (Some(o), _) => o,
                (None, [o]) => *o,
                (None, []) => return Err(format!("unrecognized option '--{name}'")),
                (None, many) => {
                    let names: Vec<_> = many.iter().map(|o| format!("'--{}'", o.long)).collect();
                    return Err(format!(
                        "option '--{name}' is ambiguous; possibilities: {}",
                        names.join(" ")
                    ));
                }
            };
            let value = match (o.takes, value) {
                (Takes::Nothing, Some(_)) => {
                    return Err(format!("option '--{}' doesn't allow an argument", o.long));
                }
                (Takes::Value, None) => Some(
                    next().ok_or_else(|| format!("option '--{}' requires an argument", o.long))?,
                ),
                (_, v) => v,
            };
            out.options.push((o.long, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg[1..].chars();
            while let Some(c) = letters.next() {
                let o = known
                    .iter()
                    .find(|o| o.short == Some(c))
                    .ok_or_else(|| format!("invalid option -- '{c}'"))?;
                let rest = letters.as_str();
                let value = match o.takes {
                    Takes::Nothing => None,
                    _ if !rest.is_empty() => Some(rest.to_owned()),
                    Takes::Maybe => None,
                    Takes::Value => Some(
                        next().ok_or_else(|| format!("option requires an argument -- '{c}'"))?,
                    ),
                };
                out.options.push((o.long, value));
                if o.takes != Takes::Nothing {
                    break;
                }
            }
        } else {
            out.words.push(arg.to_owned());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Parsed, String> {
        let known = [
            opt("format", Some('f'), Takes::Value),
            opt("force", None, Takes::Nothing),
            opt("pidfile", None, Takes::Maybe),
            opt("more", Some('m'), Takes::Nothing),
            opt("verbose", Some('v'), Takes::Maybe),
        ];
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        parse(&known, &args)
    }

    #[test]
    fn options_are_read_as_getopt_does() {
        let p = run(&[
            "dump",
            "--form=csv",
            "-fx",
            "-mmf",
            "y",
            "--pidfile",
            "a",
            "-vwarn",
            "--",
            "-m",
        ])
        .unwrap();
        assert_eq!(p.words, ["dump", "a", "-m"]);
        let s = |s: &str| Some(s.to_owned());
        assert_eq!(
            p.options,
            [
                ("format", s("csv")),
                ("format", s("x")),
                ("more", None),
                ("more", None),
                ("format", s("y")),
                ("pidfile", None),
                ("verbose", s("warn")),
            ]
        );
        assert_eq!(run(&["--foo"]).unwrap_err(), "unrecognized option '--foo'");
        assert!(run(&["--fo"]).unwrap_err().contains("ambiguous"));
        assert_eq!(
            run(&["--format"]).unwrap_err(),
            "option '--format' requires an argument"
        );
        assert!(run(&["--force=1"]).unwrap_err().contains("doesn't allow"));
    }
}
