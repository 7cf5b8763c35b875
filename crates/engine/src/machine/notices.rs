//! Records that people should see: notices for the log, and dead letters for pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use leadpulse_records::{HEADER_REASON, HEADER_TOPIC, KeptLetter};

use super::Machine;
use super::admit::{AdmittedRows, remark};
use crate::epoch::Notice;
use crate::ports::{Output, OutputRecord, RecordBatch};
use crate::read_model::LETTERS_KEPT_OF_A_KIND;

impl Machine {
    /// One notice for each topic and code among an epoch's dead letters, unchanged and remarked
    /// records.
    pub(super) fn notices(&self, records: &RecordBatch, admitted: &AdmittedRows) -> Vec<Notice> {
        let mut notices: BTreeMap<(&str, &'static str), Notice> = BTreeMap::new();
        let mut note = |index: u32, code: &'static str, message: &str| {
            let record = records.record(index as usize);
            let input = &self.state.partitions[record.partition() as usize];
            let notice = notices
                .entry((input.topic.as_str(), code))
                .or_insert_with(|| Notice {
                    topic: input.topic.as_str().into(),
                    code,
                    count: 0,
                    partition: input.partition,
                    offset: record.offset(),
                    message: message.into(),
                });
            notice.count += 1;
        };
        for (index, reason, message) in &admitted.dead {
            note(*index, reason.code(), message);
        }
        for (index, outcome) in &admitted.noticed {
            note(*index, outcome.code(), remark(*outcome).unwrap_or_default());
        }
        notices.into_values().collect()
    }
}

/// The dead letters among outputs, for pages: of each topic and reason the last ones that a page
/// can show, in order.
pub(super) fn kept_letters(outputs: &[OutputRecord]) -> Vec<KeptLetter> {
    let letters: Vec<&OutputRecord> = outputs
        .iter()
        .filter(|record| record.output == Output::DeadLetters)
        .collect();
    // Looking at headers is cheap, copying the bytes of 20,000 letters is not.
    let mut left: FxHashMap<Arc<[u8]>, usize> = FxHashMap::default();
    let mut kept = Vec::new();
    for letter in letters.into_iter().rev() {
        let ours = letter
            .headers
            .iter()
            .filter(|(name, _)| name == HEADER_TOPIC || name == HEADER_REASON);
        let kind: Vec<u8> = ours
            .filter_map(|(_, value)| value.as_deref())
            .flat_map(|value| value.iter().copied().chain([0]))
            .collect();
        let left = left.entry(kind.into()).or_insert(LETTERS_KEPT_OF_A_KIND);
        if *left > 0 {
            *left -= 1;
            kept.extend(KeptLetter::of(letter));
        }
    }
    kept.reverse();
    kept
}
