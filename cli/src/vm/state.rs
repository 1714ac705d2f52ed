//! What is known about running guests: `RUNDIR/vm/NAME.json`, with the guest's sockets beside it.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long a guest's monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One card of a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Card {
    /// Port and bridge; none when the card is not on a switch of ours.
    pub port: Option<String>,
    /// See `port`.
    pub bridge: Option<String>,
    /// The port's row in the database.
    pub uuid: Option<String>,
    pub mac: String,
    pub socket: PathBuf,
}

/// One guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub pid: u32,
    /// `kvm` or `process`.
    pub kind: String,
    /// `built-in`, or the kernel's path.
    pub guest: String,
    pub memory_mib: u64,
    pub cpus: u8,
    pub cards: Vec<Card>,
    /// Whether the ports stay when the guest ends.
    pub keep_port: bool,
    /// The database the ports are in.
    pub db: String,
}

/// The files of one guest.
pub struct Files {
    pub dir: PathBuf,
    name: String,
}

impl Files {
    pub fn new(run_dir: &Path, name: &str) -> Self {
        Files {
            dir: run_dir.join("vm"),
            name: name.to_owned(),
        }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.name))
    }

    pub fn json(&self) -> PathBuf {
        self.file("json")
    }

    pub fn console(&self) -> PathBuf {
        self.file("console")
    }

    pub fn control(&self) -> PathBuf {
        self.file("ctl")
    }

    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// The record, if there is one.
    pub fn read(&self) -> Result<Option<Record>> {
        let path = self.json();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// Writes the record, whole or not at all.
    pub fn write(&self, record: &Record) -> Result<()> {
        let (path, new) = (self.json(), self.file("json.new"));
        let context = || format!("cannot write {}", path.display());
        std::fs::write(&new, serde_json::to_vec_pretty(record)?).with_context(context)?;
        std::fs::rename(&new, &path).with_context(context)
    }

    /// Removes everything but the log.
    pub fn remove(&self) {
        for path in [self.json(), self.console(), self.control()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Asks the guest's monitor; an error means that it is gone.
    pub fn ask(&self, command: &str) -> Result<Value> {
        let path = self.control();
        let mut stream =
            UnixStream::connect(&path).with_context(|| format!("{}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        writeln!(stream, "{command}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// Every guest with a record, by name.
pub fn all(run_dir: &Path) -> Result<Vec<Record>> {
    let dir = run_dir.join("vm");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| dir.display().to_string()),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json")
            && let Some(name) = path.file_stem().and_then(|s| s.to_str())
            // It may end while we look.
            && let Some(record) = Files::new(run_dir, name).read()?
        {
            records.push(record);
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_go() {
        let dir = tempfile::tempdir().unwrap();
        assert!(all(dir.path()).unwrap().is_empty());
        let files = Files::new(dir.path(), "g1");
        std::fs::create_dir(&files.dir).unwrap();
        assert!(files.read().unwrap().is_none());
        let record = Record {
            name: "g1".into(),
            pid: 7,
            kind: "process".into(),
            guest: "built-in".into(),
            memory_mib: 64,
            cpus: 1,
            cards: vec![],
            keep_port: false,
            db: "unix:/x".into(),
        };
        files.write(&record).unwrap();
        assert_eq!(all(dir.path()).unwrap()[0].pid, 7);
        assert!(files.ask("status").is_err(), "nobody answers");
        std::fs::write(files.json(), "{").unwrap();
        assert!(all(dir.path()).unwrap_err().to_string().contains("damaged"));
        files.remove();
        assert!(all(dir.path()).unwrap().is_empty());
    }
}
