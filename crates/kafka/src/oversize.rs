//! [`DeadLetterRoom`]: dead letters that fit their topic, whatever a producer sent.
//!
//! A dead letter carries the bytes of a record that another program produced, and headers of ours
//! on top. The sum may be larger than the dead-letter topic allows. No setting of ours makes such a
//! record smaller, and the record must not stop the epoch. So the smallest refused size is
//! remembered. From then on dead letters of that size go without their value, if need be without
//! the original headers and key; sizes and digests stand in place.

use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{Output, OutputRecord, SealedEpoch};
use leadpulse_engine::{without_key, without_original_headers, without_value};

use crate::client_settings::BATCH_BYTES;

/// The size that the topic of dead letters allows, as far as known.
#[derive(Debug)]
pub(crate) struct DeadLetterRoom {
    /// Smallest size that is known not to fit, bytes.
    refused_bytes: usize,
}

impl Default for DeadLetterRoom {
    fn default() -> Self {
        Self {
            refused_bytes: usize::MAX,
        }
    }
}

impl DeadLetterRoom {
    /// Smaller records in place of those of an epoch that would not fit, by index.
    pub(crate) fn replacements(&self, epoch: &SealedEpoch) -> FxHashMap<usize, OutputRecord> {
        let records = epoch.outputs.iter().enumerate();
        let letters = records
            .filter(|(_, record)| record.output == Output::DeadLetters && !self.fits(record));
        letters
            .map(|(index, record)| (index, self.fitted(record)))
            .collect()
    }

    /// Remembers the size of refused records, given as they were sent. False if nothing more can be
    /// left out.
    pub(crate) fn learn(&mut self, refused: &[&OutputRecord]) -> bool {
        let largest = refused
            .iter()
            .map(|record| bytes_of(record))
            .max()
            .unwrap_or_default();
        // A broker refuses a batch of several records as a whole, and does not name the record.
        let bytes = if largest > BATCH_BYTES {
            largest
        } else {
            largest / 2
        };
        if bytes >= self.refused_bytes || refused.iter().all(|record| is_bare(record)) {
            return false;
        }
        self.refused_bytes = bytes;
        true
    }

    fn fits(&self, record: &OutputRecord) -> bool {
        bytes_of(record) < self.refused_bytes
    }

    fn fitted(&self, record: &OutputRecord) -> OutputRecord {
        let mut smaller = without_value(record);
        for leave_out in [without_original_headers, without_key] {
            if self.fits(&smaller) {
                break;
            }
            smaller = leave_out(&smaller);
        }
        smaller
    }
}

/// True if the record has headers of ours only.
fn is_bare(record: &OutputRecord) -> bool {
    record.key.is_none() && record.value.is_none() && without_original_headers(record) == *record
}

/// Bytes of key, value and headers.
fn bytes_of(record: &OutputRecord) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
        .sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}

#[cfg(test)]
mod tests {
    use leadpulse_engine::ports::{InputPartition, Nonce, RecordBatch};
    use leadpulse_engine::{HEADER_REASON, HEADER_VALUE_BYTES, Reason, dead_letter};
    use leadpulse_schema::TableId;
    use leadpulse_schema::units::AsOf;

    use super::*;

    /// A dead letter of a record with a key, a value and a header of these sizes, bytes.
    fn letter(key: usize, value: usize, header: usize) -> OutputRecord {
        let mut batch = RecordBatch::default();
        let (key, value, header) = (vec![b'k'; key], vec![b'v'; value], vec![b'h'; header]);
        batch.push(
            0,
            5,
            0,
            Some(&key),
            Some(&value),
            [("original", Some(header.as_slice()))],
        );
        let partition = InputPartition {
            topic: "t".into(),
            partition: 0,
            tables: vec![TableId(0)],
        };
        dead_letter(
            batch.record(0),
            &partition,
            Reason::WireFormat,
            "junk",
            AsOf::from_ms(1),
        )
    }

    fn epoch(outputs: Vec<OutputRecord>) -> SealedEpoch {
        SealedEpoch {
            number: 1,
            nonce: Nonce(1),
            as_of_ms: 0,
            positions: vec![],
            outputs,
        }
    }

    #[test]
    fn nothing_is_left_out_before_a_refusal() {
        assert!(
            DeadLetterRoom::default()
                .replacements(&epoch(vec![letter(1, 100_000_000, 1)]))
                .is_empty()
        );
    }

    #[test]
    fn records_as_large_as_a_refused_one_go_without_what_does_not_fit() {
        // Key, value, header: which of them are kept after a record of 200,000 bytes was refused.
        let cases = [
            ((9, 9, 9), [true, true, true]),
            ((9, 300_000, 9), [true, false, true]),
            ((9, 300_000, 300_000), [true, false, false]),
            ((300_000, 9, 300_000), [false, false, false]),
        ];
        let mut room = DeadLetterRoom::default();
        assert!(room.learn(&[&letter(0, 200_000, 0)]));
        for ((key, value, header), [key_kept, value_kept, header_kept]) in cases {
            let original = letter(key, value, header);
            let replacements = room.replacements(&epoch(vec![original.clone()]));
            let sent = replacements.get(&0).unwrap_or(&original);
            assert_eq!(
                sent.key.is_some(),
                key_kept,
                "key of {key}, {value}, {header}"
            );
            assert_eq!(
                sent.value.is_some(),
                value_kept,
                "value of {key}, {value}, {header}"
            );
            assert_eq!(
                sent.headers[0].0 == "original",
                header_kept,
                "headers of {key}, {value}, {header}"
            );
            assert!(sent.headers.iter().any(|(name, _)| name == HEADER_REASON));
            assert_eq!(
                sent.headers
                    .iter()
                    .any(|(name, _)| name == HEADER_VALUE_BYTES),
                !value_kept
            );
        }
    }

    #[test]
    fn other_outputs_are_left_alone() {
        let mut room = DeadLetterRoom::default();
        assert!(room.learn(&[&letter(0, 200_000, 0)]));
        let score = OutputRecord {
            output: Output::Scores,
            ..letter(0, 300_000, 0)
        };
        assert!(room.replacements(&epoch(vec![score])).is_empty());
    }

    #[test]
    fn refusals_end_with_a_bare_record() {
        let (mut room, original) = (DeadLetterRoom::default(), epoch(vec![letter(50, 900, 90)]));
        let mut refusals = 0;
        loop {
            let replacements = room.replacements(&original);
            if !room.learn(&[replacements.get(&0).unwrap_or(&original.outputs[0])]) {
                break;
            }
            refusals += 1;
            assert!(refusals < 20);
        }
        assert!(refusals > 0);
        assert!(is_bare(&room.replacements(&original)[&0]));
    }
}
