//! The records of a batch, with what is settled of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::Arrived;
use crate::protocols::Fields;

/// The records of a batch. A record without fields is settled already.
pub(super) struct Batch {
    pub(super) arrived: Vec<Arrived>,
    pub(super) fields: Vec<Option<Fields>>,
    pub(super) settled: Vec<bool>,
}

impl Batch {
    /// A batch in which nothing is settled.
    pub(super) fn new(arrived: Vec<Arrived>) -> Self {
        let count = arrived.len();
        Self {
            arrived,
            fields: vec![None; count],
            settled: vec![false; count],
        }
    }

    /// The next offsets up to which everything is settled, by partition.
    pub(super) fn settled_upto(&self) -> BTreeMap<i32, i64> {
        let mut next = BTreeMap::new();
        let mut stopped = BTreeSet::new();
        for (record, settled) in self.arrived.iter().zip(&self.settled) {
            if stopped.contains(&record.partition) {
                continue;
            }
            if *settled {
                next.insert(record.partition, record.offset + 1);
            } else {
                stopped.insert(record.partition);
            }
        }
        next
    }

    /// Kafka timestamp of the oldest record that is not settled.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let records = self.arrived.iter().zip(&self.settled);
        let open = records.filter(|(_, settled)| !**settled);
        open.map(|(record, _)| record.timestamp_ms).min()
    }
}
