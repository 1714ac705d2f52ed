//! Where things lie: the run directory with its sockets, and the database file.
//!
//! The environment variables are those of Open vSwitch, so that its tools and ours agree when
//! both are told the same.

use std::path::{Path, PathBuf};

/// Name of the database that configures the switch.
pub const DATABASE: &str = "Open_vSwitch";

/// The directory of an environment variable, unless unset or empty.
fn env_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The run directory: `given` (`--run-dir`), else `$OVS_RUNDIR`, else `/run/weir` for root and
/// `$XDG_RUNTIME_DIR/weir` for others (`/tmp/weir-UID` where that variable is not set).
pub fn run_dir(given: Option<&Path>) -> PathBuf {
    if let Some(dir) = given {
        return dir.to_path_buf();
    }
    if let Some(dir) = env_dir("OVS_RUNDIR") {
        return dir;
    }
    if is_root() {
        return "/run/weir".into();
    }
    match env_dir("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("weir"),
        None => format!("/tmp/weir-{}", rustix::process::geteuid().as_raw()).into(),
    }
}

/// The directory of log files: `$OVS_LOGDIR`, else `/var/log/weir` for root, else the run
/// directory.
pub fn log_dir() -> PathBuf {
    match env_dir("OVS_LOGDIR") {
        Some(dir) => dir,
        None if is_root() => "/var/log/weir".into(),
        None => run_dir(None),
    }
}

/// The directory of the database file: `$OVS_DBDIR`, else `/var/lib/weir` for root and
/// `$XDG_STATE_HOME/weir` (by default `~/.local/state/weir`) for others.
pub fn db_dir() -> PathBuf {
    if let Some(dir) = env_dir("OVS_DBDIR") {
        return dir;
    }
    if is_root() {
        return "/var/lib/weir".into();
    }
    match (env_dir("XDG_STATE_HOME"), env_dir("HOME")) {
        (Some(state), _) => state.join("weir"),
        (None, Some(home)) => home.join(".local/state/weir"),
        (None, None) => run_dir(None),
    }
}

/// The database file: `given` (`--db`), else `conf.db` in [`db_dir`].
pub fn db_path(given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| db_dir().join("conf.db"), Path::to_path_buf)
}

/// The database socket in `run_dir`.
pub fn db_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("db.sock")
}

/// What tools connect to when not told otherwise: `unix:RUNDIR/db.sock`.
pub fn default_db_target() -> String {
    format!("unix:{}", db_socket(&run_dir(None)).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_paths_win() {
        assert_eq!(run_dir(Some(Path::new("/x/y"))), Path::new("/x/y"));
        assert_eq!(db_path(Some(Path::new("/x/y.db"))), Path::new("/x/y.db"));
        assert_eq!(db_socket(Path::new("/x")), Path::new("/x/db.sock"));
        assert!(default_db_target().starts_with("unix:/"));
    }
}
