//! The last stage: dead letters, decided records and the epoch record become the final bytes of
//! one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use leadpulse_records::Reason;
use leadpulse_schema::hex;
use leadpulse_schema::units::AsOf;

use super::admit::AdmittedRows;
use super::deployed::PROGRAM;
use super::{Cut, Machine};
use crate::decode::dead_letter;
use crate::epoch::{
    ClockState, DecidedRange, EPOCH_RECORD_VERSION, EpochRecord, HOLDINGS_SECTION, LAYOUT_SECTION,
    PartitionInterval, RESUMED_SECTION, ReasonCount, VERSION_SECTION, WORK_SECTION, WorkBudget,
    WorkNote, ranges,
};
use crate::invariants;
use crate::ports::{Nonce, Output, OutputRecord, RecordBatch, SealedEpoch};

impl Machine {
    /// In: the outcome of every record, the cut, the number of scored entities and whether a closing
    /// tick is complete, and the decided output records in order.
    /// Out: the transaction's bytes and the epoch record; the machine stands at the cut's
    /// positions.
    pub(super) fn seal(
        &mut self,
        records: &RecordBatch,
        cut: Cut,
        admitted: AdmittedRows,
        counts: (i64, bool),
        decided: Vec<OutputRecord>,
    ) -> (Arc<SealedEpoch>, EpochRecord) {
        let mut outputs = self.dead_letters(records, &admitted);
        outputs.extend(decided);
        let record = self.epoch_record(records, &cut, &admitted, counts, &outputs);
        self.state.positions = cut.positions;
        outputs.push(self.script_record(&record));
        let sealed = SealedEpoch {
            number: self.state.number,
            nonce: record.nonce().unwrap_or_default(),
            as_of_ms: record.as_of,
            positions: self.state.positions.clone(),
            outputs,
        };
        debug_assert!(invariants::sealed_as_recorded(&sealed, &record));
        debug_assert!(invariants::dead_letters_are_written(&sealed, &record));
        debug_assert!(invariants::records_have_one_outcome(&record), "{record:?}");
        (Arc::new(sealed), record)
    }

    fn dead_letters(&self, records: &RecordBatch, admitted: &AdmittedRows) -> Vec<OutputRecord> {
        let as_of = self.state.as_of.max(AsOf::from_ms(0));
        let mut letters = Vec::with_capacity(admitted.dead.len());
        for (index, reason, message) in &admitted.dead {
            let record = records.record(*index as usize);
            let input = &self.state.partitions[record.partition() as usize];
            letters.push(dead_letter(record, input, *reason, message, as_of));
        }
        letters
    }

    /// The epoch's record. `outputs` are all records of the transaction but this one.
    fn epoch_record(
        &mut self,
        records: &RecordBatch,
        cut: &Cut,
        admitted: &AdmittedRows,
        (scored, closes): (i64, bool),
        outputs: &[OutputRecord],
    ) -> EpochRecord {
        let sections = self.sections(cut, admitted);
        self.state.is_restarted = false;
        let (given, state) = (&self.given, &self.state);
        let counts = admitted.outcomes();
        let digest = digest(outputs);
        EpochRecord {
            version: EPOCH_RECORD_VERSION,
            lane: 0,
            layout: state.layout.layout,
            worker: given.worker.clone(),
            program: PROGRAM.to_owned(),
            epoch: state.number as i64,
            nonce: nonce(&state.owner, state.number, &digest).to_string(),
            owner: state.owner.clone(),
            as_of: state.as_of.ms().max(0),
            board: state.graph.board().unwrap_or(-1),
            deployed: given.digest().to_owned(),
            bundle_id: Some(given.scorer.bundle_id().to_owned()),
            plan_hash: Some(given.scorer.plan().hash().to_owned()),
            catalog_fingerprint: given.fingerprint.clone(),
            partitions: self.intervals(cut),
            clock: ClockState {
                live_at: cut.clock.live_ms,
                bound_at: cut.clock.bound_ms,
                newest_event_at: state.newest_event_ms,
            },
            closing: closes,
            refused: refused(records, admitted),
            skipped: cut.skipped.clone(),
            accepted: counts.accepted,
            duplicate: counts.duplicate,
            late: counts.late,
            future: counts.future,
            dead_lettered: dead_by_reason(admitted),
            scored,
            scores: written(outputs, Output::Scores),
            alerts: written(outputs, Output::Alerts),
            digest,
            sections,
            unchanged: counts.unchanged,
            remarked: counts.remarked,
            live_from: state.ticks.live_from_ms,
            ticks: cut.ticks.closings.clone(),
            open_tick: state.ticks.open_ms,
            late_for_tick: cut.ticks.late,
        }
    }

    /// Sections of the epoch record: the deployed version; the layout, in the first epoch that refers
    /// to it; the places that hold copies, in an epoch that erased; that the process went on from the
    /// stored state, in its first epoch; and the work.
    fn sections(&mut self, cut: &Cut, admitted: &AdmittedRows) -> BTreeMap<String, Vec<u8>> {
        let mut sections = BTreeMap::new();
        if std::mem::take(&mut self.state.layout_is_new) {
            let layout = self.given.encoders.layout(&self.state.layout);
            sections.insert(LAYOUT_SECTION.to_owned(), layout);
        }
        if !admitted.erasing.done.is_empty() {
            let holdings = serde_json::to_vec(&self.state.holdings);
            let holdings = holdings.expect("names and numbers are JSON");
            sections.insert(HOLDINGS_SECTION.to_owned(), holdings);
        }
        if std::mem::take(&mut self.state.is_resumed) {
            sections.insert(RESUMED_SECTION.to_owned(), Vec::new());
        }
        if let Some(note) = self.version_note().section() {
            sections.insert(VERSION_SECTION.to_owned(), note);
        }
        let work = WorkNote {
            budget: Some(cut.work).filter(|budget| *budget != WorkBudget::NONE),
            tick: self.state.half.as_ref().map(|half| half.progress.clone()),
            closing: self.closing_ms(),
            is_closing: cut.closing && self.closing_ms().is_some(),
        };
        if let Some(note) = work.section() {
            sections.insert(WORK_SECTION.to_owned(), note);
        }
        sections
    }

    fn intervals(&self, cut: &Cut) -> Vec<PartitionInterval> {
        let starts = self.state.positions.iter();
        let ends = cut.positions.iter().zip(&cut.read);
        starts
            .zip(ends)
            .map(|(start, (end, read))| PartitionInterval {
                start: start.0,
                end: end.0,
                read: *read,
            })
            .collect()
    }

    /// The record of the epochs topic.
    fn script_record(&self, record: &EpochRecord) -> OutputRecord {
        OutputRecord {
            output: Output::Epochs,
            key: Some(self.given.worker.as_bytes().to_vec()),
            value: Some(self.given.encoders.epoch(record)),
            headers: Vec::new(),
            timestamp_ms: record.as_of,
        }
    }
}

/// The offsets that were dead letters because no registry knew their schema. A later registration
/// must not change a replay.
fn refused(records: &RecordBatch, admitted: &AdmittedRows) -> Vec<DecidedRange> {
    let mut offsets: Vec<(u32, i64)> = Vec::new();
    for (index, reason, _) in &admitted.dead {
        if *reason == Reason::UnknownSchema {
            let record = records.record(*index as usize);
            offsets.push((record.partition(), record.offset()));
        }
    }
    offsets.sort_unstable();
    ranges(offsets, Reason::UnknownSchema.code())
}

fn dead_by_reason(admitted: &AdmittedRows) -> Vec<ReasonCount> {
    let mut by_reason: BTreeMap<&'static str, i64> = BTreeMap::new();
    for (_, reason, _) in &admitted.dead {
        *by_reason.entry(reason.code()).or_default() += 1;
    }
    let count = |(reason, count): (&str, i64)| ReasonCount {
        reason: reason.into(),
        count,
    };
    by_reason.into_iter().map(count).collect()
}

fn written(outputs: &[OutputRecord], output: Output) -> i64 {
    outputs.iter().filter(|r| r.output == output).count() as i64
}

/// Distinguishes epochs of one number: of other owners, or of one owner with other outputs.
fn nonce(owner: &str, number: u64, digest: &str) -> Nonce {
    let hash = Sha256::new()
        .chain_update(owner)
        .chain_update(number.to_le_bytes())
        .chain_update(digest)
        .finalize();
    Nonce(
        hash.first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes)),
    )
}

/// SHA-256 over kind, key and value of outputs, each after its length (−1 for none). Hexadecimal.
fn digest(outputs: &[OutputRecord]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        hash.update(bytes.map_or(-1, |b| b.len() as i64).to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    for record in outputs {
        part(Some(&[record.output as u8]));
        part(record.key.as_deref());
        part(record.value.as_deref());
    }
    hex(&hash.finalize())
}
