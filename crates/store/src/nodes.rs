//! Nodes of cold cells, read from the database while it is written.

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use leadpulse_engine::{EachNode, StoredNodes};

use crate::database::StateDatabase;

/// A database that failed is opened anew within this time, or reads fail.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The open database, for those who read while another writes.
#[derive(Default)]
pub(crate) struct OpenDatabase(RwLock<Option<StateDatabase>>);

impl OpenDatabase {
    /// The database is open, or is not any more: nobody keeps a handle to it.
    pub fn set(&self, database: Option<StateDatabase>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = database;
    }
}

impl fmt::Debug for OpenDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenDatabase")
    }
}

impl StoredNodes for OpenDatabase {
    fn read(&self, prefix: &[u8], each: &mut EachNode<'_>) -> Result<(), String> {
        let started = Instant::now();
        loop {
            // Held while the database is read: it is not opened anew meanwhile.
            let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*open {
                return database.read_prefix(prefix, each);
            }
            drop(open);
            if started.elapsed() > PATIENCE {
                return Err("the database failed, and cannot be opened anew".to_owned());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
