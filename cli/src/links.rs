//! `weir links DIR`: links to this binary under the names of the programs it stands in for, so
//! that scripts and services written for those start weir instead.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

const HELP: &str = "\
usage: weir links [--force] DIR

Makes a symbolic link to this binary in DIR for each program it stands in for: ovs-vsctl,
ovs-ofctl, ovsdb-server and so on. Links to this binary that are there already are left; anything
else of that name is an error, unless --force is given.

Exit codes: 0 all links are there; 1 one could not be made.

Example: weir links /usr/local/bin
";

/// Runs `weir links`.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let mut force = false;
    let mut dir = None;
    for arg in args {
        match arg.to_str() {
            Some("-h" | "--help") => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            Some("-f" | "--force") => force = true,
            Some(o) if o.starts_with('-') => {
                eprintln!("weir links: there is no option {o} (see weir links --help)");
                return ExitCode::FAILURE;
            }
            _ if dir.is_none() => dir = Some(arg),
            _ => {
                eprintln!("weir links: takes one directory (see weir links --help)");
                return ExitCode::FAILURE;
            }
        }
    }
    let Some(dir) = dir else {
        eprintln!("weir links: say in which directory (see weir links --help)");
        return ExitCode::FAILURE;
    };
    match make(Path::new(&dir), force) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weir links: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the links in `dir`, which must exist, and prints each.
fn make(dir: &Path, force: bool) -> anyhow::Result<()> {
    let binary = std::env::current_exe().context("cannot tell where this binary is")?;
    for alias in crate::COMMANDS.iter().filter_map(|c| c.alias) {
        let link = dir.join(alias);
        match std::fs::read_link(&link) {
            Ok(target) if target == binary => continue,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            _ if force => std::fs::remove_file(&link)
                .with_context(|| format!("cannot replace {}", link.display()))?,
            _ => bail!(
                "{} is there already and is not a link to {} (--force replaces it)",
                link.display(),
                binary.display()
            ),
        }
        std::os::unix::fs::symlink(&binary, &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
        println!("{} -> {}", link.display(), binary.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_links_and_refuses_to_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), false).unwrap();
        make(dir.path(), false).unwrap();
        if let Some(alias) = crate::COMMANDS.iter().find_map(|c| c.alias) {
            let link = dir.path().join(alias);
            assert_eq!(
                std::fs::read_link(&link).unwrap(),
                std::env::current_exe().unwrap()
            );
            std::fs::remove_file(&link).unwrap();
            std::fs::write(&link, "mine").unwrap();
            assert!(make(dir.path(), false).is_err());
            make(dir.path(), true).unwrap();
        }
    }
}
