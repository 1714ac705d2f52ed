//! Compactions of journals, on threads of their own while clients are served (see
//! [`crate::journal::compact`]).

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::driver::{SharedJournal, wall_clock};
use crate::database::Database;
use crate::journal::{Compacted, JournalError};

/// A compaction that has run: of which database, and what came of it.
pub(super) type Outcome = (String, Result<Compacted, JournalError>);

/// Those that are under way.
#[derive(Default)]
pub(super) struct Compactions {
    running: JoinSet<Outcome>,
    /// Who wants to hear when all are done.
    asked: Vec<oneshot::Sender<Result<(), String>>>,
    /// The first that went wrong since they asked.
    failed: Option<String>,
}

impl Compactions {
    /// Begins to compact `journal`, whose rows are in `db`, if none is under way.
    pub(super) fn begin(&mut self, name: &str, journal: &SharedJournal, db: &Database) {
        let comment = "compacting database online";
        match journal.with(|j| j.begin_compaction(db, wall_clock(), comment)) {
            Ok(Some(job)) => {
                let name = name.to_owned();
                self.running.spawn_blocking(move || (name, job.run()));
            }
            Ok(None) => {}
            Err(e) => self.fail(name, &e),
        }
    }

    /// Tells `asked` when all that are under way are done.
    pub(super) fn notify(&mut self, asked: oneshot::Sender<Result<(), String>>) {
        self.asked.push(asked);
        self.answer();
    }

    /// The next that has run; for ever pending while there is none.
    pub(super) async fn next(&mut self) -> Outcome {
        loop {
            match self.running.join_next().await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(e)) => tracing::error!(error = %e, "a compaction has ended badly"),
                None => std::future::pending().await,
            }
        }
    }

    /// Puts one that has run into effect. `journal` is `None` where the database is gone.
    pub(super) fn finish(&mut self, (name, run): Outcome, journal: Option<&SharedJournal>) {
        if let Some(journal) = journal {
            let done = journal.with(|j| {
                let before = j.size();
                j.finish_compaction(run).map(|()| (before, j.size()))
            });
            match done {
                Ok((before, after)) => {
                    tracing::info!(db = name, "compacted from {before} to {after} bytes");
                }
                Err(e) => self.fail(&name, &e),
            }
        }
        self.answer();
    }

    fn fail(&mut self, name: &str, e: &JournalError) {
        tracing::warn!(db = name, %e, "compaction failed, going on with the old file");
        self.failed.get_or_insert_with(|| e.to_string());
    }

    fn answer(&mut self) {
        if self.running.is_empty() {
            let failed = self.failed.take();
            for asked in self.asked.drain(..) {
                _ = asked.send(failed.clone().map_or(Ok(()), Err));
            }
        }
    }
}
