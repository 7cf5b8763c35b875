//! Outcomes of the newest records: for each what became of it, and whose it is.

use std::sync::Arc;

use serde::Serialize;

use super::ReadModel;
use crate::machine::ErasedNames;

/// Outcomes that are kept; what became of older records is in the dead-letter topic and in the epoch
/// records' counts.
pub const TRACED_KEPT: usize = 50_000;
/// Outcomes kept of the rows of one tick in an epoch: of a load of history only the end is of
/// interest to anybody who asks.
pub const TRACED_OF_A_TICK: usize = 2_000;

/// The outcome of a record, with the entity it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedRecord {
    pub topic: Arc<str>,
    /// Partition number within the topic.
    pub partition: i32,
    pub offset: i64,
    /// Epoch that took the record; 0 until it is published.
    pub epoch: u64,
    /// `accepted`, or the code for which it changed nothing or not everything.
    pub outcome: &'static str,
    /// The case in words, with the remedy; `None` for accepted rows and duplicates.
    pub remark: Option<&'static str>,
    /// Table of the row; of several rows, of the last one.
    pub table: Arc<str>,
    /// Key of the row's entity, or id of the event.
    pub key: Arc<str>,
    /// Table and key of the entity that the row is about: itself, or the first known owner of an
    /// event; `None` where nothing is known of any.
    pub entity: Option<(Arc<str>, Arc<str>)>,
    /// Key of the account that the entity belonged to after the row; `None` while it has none.
    pub account_id: Option<Arc<str>>,
}

/// The newest outcomes, newest last. A snapshot: a copy shares all but what is added to it.
#[derive(Clone, Debug, Default)]
pub(super) struct TracedRecords(imbl::Vector<Arc<TracedRecord>>);

impl TracedRecords {
    /// Adds the outcomes of a committed epoch, and drops the oldest beyond the bound.
    pub fn extend(&mut self, epoch: u64, records: Vec<TracedRecord>) {
        let records = records.into_iter();
        self.0
            .extend(records.map(|record| Arc::new(TracedRecord { epoch, ..record })));
        let surplus = self.0.len().saturating_sub(TRACED_KEPT);
        self.0 = self.0.skip(surplus);
    }

    /// Drops the outcomes of rows that are, or are about, an erased person, or have a key that names
    /// the person.
    pub fn forget(&mut self, names: &ErasedNames) {
        self.0.retain(|record| {
            let entity = record.entity.iter().map(|(table, key)| (&**table, &**key));
            let mut all = entity.chain([(&*record.table, &*record.key)]);
            !names.are_in(&record.key)
                && !all.any(|(table, key)| names.has(Some(table), key))
                && !record
                    .account_id
                    .as_ref()
                    .is_some_and(|key| names.has(None, key))
        });
    }

    /// The newest outcome that `is_wanted` accepts.
    pub fn find(&self, is_wanted: impl Fn(&TracedRecord) -> bool) -> Option<Arc<TracedRecord>> {
        let mut newest_first = self.0.iter().rev();
        newest_first.find(|record| is_wanted(record)).cloned()
    }
}

impl ReadModel {
    /// Makes visible what became of a committed epoch's records.
    pub fn publish_traced(&self, epoch: u64, records: Vec<TracedRecord>) {
        if !records.is_empty() {
            let mut kept = TracedRecords::clone(&self.traced.load());
            kept.extend(epoch, records);
            self.traced.store(Arc::new(kept));
        }
    }

    /// Drops the outcomes of rows that are, or are about, an erased person.
    pub(super) fn forget_traced(&self, names: &ErasedNames) {
        let mut kept = TracedRecords::clone(&self.traced.load());
        kept.forget(names);
        self.traced.store(Arc::new(kept));
    }

    /// The outcome of the newest record that `is_wanted` accepts, among those that are kept.
    pub fn traced(&self, is_wanted: impl Fn(&TracedRecord) -> bool) -> Option<Arc<TracedRecord>> {
        self.traced.load().find(is_wanted)
    }
}
