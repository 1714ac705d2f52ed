//! The store: named flows on disk (redb), durable before they are acknowledged.
//!
//! One file, one table from name to document. A document is kept as the user's JSON after checking,
//! so newer programs read what older ones wrote, and one that cannot be read is reported by name
//! and does not keep the others from loading.

use crate::flows::NamedFlow;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FLOWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("named-flows");

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the controller's store {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It cannot be read or written.
    #[error("the controller's store: {0}")]
    Access(#[from] Box<redb::Error>),
}

fn access(e: impl Into<redb::Error>) -> StoreError {
    StoreError::Access(Box::new(e.into()))
}

/// The store. Clones share it. Its methods block on the disk: call them off the runtime's threads.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
}

/// What a store held: the flows, and name and fault of what is none.
pub type Loaded = (Vec<NamedFlow>, Vec<(String, String)>);

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Write {
    /// Keep this flow, in place of any of its name.
    Put(Box<NamedFlow>),
    /// Forget the flow of this name.
    Remove(String),
}

impl Store {
    /// Opens the store, making the file if there is none.
    ///
    /// # Errors
    /// If the file is not a store, is in use by another controller, or cannot be made.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let failed = |e: redb::Error| StoreError::Open {
            path: path.to_owned(),
            source: Box::new(e),
        };
        let db = Database::create(path).map_err(|e| failed(e.into()))?;
        let txn = db.begin_write().map_err(|e| failed(e.into()))?;
        txn.open_table(FLOWS).map_err(|e| failed(e.into()))?;
        txn.commit().map_err(|e| failed(e.into()))?;
        Ok(Store { db: Arc::new(db) })
    }

    /// All flows by name; and of those that cannot be read, name and reason.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let txn = self.db.begin_read().map_err(access)?;
        let table = txn.open_table(FLOWS).map_err(access)?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for row in table.iter().map_err(access)? {
            let (name, document) = row.map_err(access)?;
            let flow = serde_json::from_slice::<Value>(document.value())
                .map_err(|e| e.to_string())
                .and_then(|v| {
                    NamedFlow::parse(&v, Some(name.value()), &|_| {
                        openflow::text::Names::default()
                    })
                    .map_err(|e| e.to_string())
                });
            match flow {
                Ok(f) => good.push(f),
                Err(e) => bad.push((name.value().to_owned(), e)),
            }
        }
        Ok((good, bad))
    }

    /// Carries out all steps or none; on disk when it returns.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing was changed.
    pub fn write(&self, steps: &[Write]) -> Result<(), StoreError> {
        let txn = self.db.begin_write().map_err(access)?;
        {
            let mut table = txn.open_table(FLOWS).map_err(access)?;
            for s in steps {
                match s {
                    Write::Put(f) => {
                        let document = f.to_json().to_string();
                        table
                            .insert(f.name.as_str(), document.as_bytes())
                            .map_err(access)?;
                    }
                    Write::Remove(name) => {
                        table.remove(name.as_str()).map_err(access)?;
                    }
                }
            }
        }
        txn.commit().map_err(access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flows_survive_and_a_transaction_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.redb");
        let flow = |name: &str| {
            let v = json!({"name": name, "switch": "br0", "match": {"protocol": "icmp"}, "actions": "drop"});
            Box::new(NamedFlow::parse(&v, None, &|_| openflow::text::Names::default()).unwrap())
        };
        {
            let s = Store::open(&path).unwrap();
            s.write(&[Write::Put(flow("a")), Write::Put(flow("b"))])
                .unwrap();
            s.write(&[Write::Remove("a".into()), Write::Put(flow("c"))])
                .unwrap();
            // A second controller on the same file is refused, not left to corrupt it.
            assert!(Store::open(&path).is_err());
        }
        let (good, bad) = Store::open(&path).unwrap().load().unwrap();
        let names: Vec<_> = good.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(good[0], *flow("b"));
        assert!(bad.is_empty());
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"not a database at all").unwrap();
        let e = Store::open(&path).err().unwrap().to_string();
        assert!(e.contains("/x"), "{e}");
    }
}
