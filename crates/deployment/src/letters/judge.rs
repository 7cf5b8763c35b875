//! The fate that a dead letter's record would have now.

use std::sync::Arc;

use serde::Serialize;

use leadpulse_engine::ports::{Clock, InputPartition, RecordBatch, SchemaStore};
use leadpulse_engine::{ClockMode, Reason, WholeLetter};
use leadpulse_kafka::InputTopic;

use crate::clock::SystemClock;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::validate::{Validator, Verdict};

/// The fate of a dead letter's record under the schemas and the configuration of now.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// True if the engine would take the record as no dead letter.
    pub is_accepted: bool,
    /// Code of the outcome: that of a row, the reason of a dead letter, `waits`, `incomplete` or
    /// `no_source`.
    pub outcome: String,
    /// The outcome in words.
    pub why: String,
    /// The limit of the judgement, for people; `None` where it has none.
    pub remark: Option<&'static str>,
    /// The rows of the record, each with its own outcome. Empty where the record gives none.
    pub rows: Vec<Verdict>,
}

impl Judgement {
    fn refused(outcome: &str, why: String) -> Self {
        Self {
            is_accepted: false,
            outcome: outcome.to_owned(),
            why,
            remark: None,
            rows: Vec::new(),
        }
    }
}

/// The remark on letters that were late: a judge has no history.
const LATE: &str = "late is measured against the newest event of its partition, which is not known here: it is late again \
                    unless graph.late_horizon was raised";

/// Judges records of dead letters, one after the other, with the decoder and the gate of the engine.
/// The graph starts empty: duplicates, stale versions and late events of the deployment are not
/// known.
pub struct LetterJudge {
    validator: Validator,
    inputs: Vec<InputTopic>,
    /// The partitions of the letters so far; an index stands for the same one for good.
    partitions: Vec<InputPartition>,
    clock_ms: Option<i64>,
}

impl LetterJudge {
    /// A judge by a configuration.
    ///
    /// # Errors
    /// A configuration or schemas that cannot be read.
    pub fn new(loaded: &Loaded, schemas: Arc<dyn SchemaStore>) -> Result<Self, DeployError> {
        let validator = Validator::new(loaded, schemas, None)?;
        let inputs = loaded.inputs(&validator.project().catalog)?;
        let looks_at_clock = loaded.config.engine.clock == ClockMode::Wall;
        Ok(Self {
            validator,
            inputs,
            partitions: Vec::new(),
            clock_ms: looks_at_clock.then(|| SystemClock.wall_ms()),
        })
    }

    /// Judges the record of a letter. Waits for a registry as long as a dry run does.
    pub fn judge(&mut self, letter: &WholeLetter) -> Judgement {
        if !letter.is_complete() {
            return Judgement::refused(
                "incomplete",
                "the letter has not all bytes of the record, which was too large for the \
                 dead-letter topic: produce the record from its source"
                    .to_owned(),
            );
        }
        let Some(partition) = self.partition_of(letter) else {
            let why = format!(
                "no source reads the topic {}: name it in a source, or leave the letter",
                letter.about.topic
            );
            return Judgement::refused("no_source", why);
        };
        let mut batch = RecordBatch::default();
        let headers = letter.headers().iter();
        batch.push(
            partition,
            letter.about.offset,
            letter.about.timestamp_ms,
            letter.key(),
            letter.value(),
            headers.map(|(name, value)| (name.as_str(), value.as_deref())),
        );
        let verdicts = self
            .validator
            .records(&batch, &self.partitions, self.clock_ms);
        of_verdicts(letter, verdicts)
    }

    /// Index of the letter's partition; `None` where no source reads its topic.
    fn partition_of(&mut self, letter: &WholeLetter) -> Option<u32> {
        let about = &letter.about;
        let is_it = |found: &InputPartition| {
            found.topic == about.topic && found.partition == about.partition
        };
        if let Some(index) = self.partitions.iter().position(is_it) {
            return Some(index as u32);
        }
        let input = self.inputs.iter().find(|it| it.topic == about.topic)?;
        self.partitions.push(InputPartition {
            topic: about.topic.clone(),
            partition: about.partition,
            tables: input.tables.clone(),
        });
        Some(self.partitions.len() as u32 - 1)
    }
}

/// The judgement on a record from the verdicts on what it gives. One refused row is a dead letter of
/// the record.
fn of_verdicts(letter: &WholeLetter, verdicts: Vec<Verdict>) -> Judgement {
    let refused = verdicts.iter().find(|verdict| verdict.is_refused);
    let Some(decisive) = refused.or_else(|| verdicts.first()) else {
        return Judgement::refused("no_row", "the record gives nothing".to_owned());
    };
    let was_late = letter.about.reason == Reason::LateBeyondHorizon.code();
    Judgement {
        is_accepted: !decisive.is_refused,
        outcome: decisive.outcome.clone(),
        why: decisive.why.clone(),
        remark: (was_late && !decisive.is_refused).then_some(LATE),
        rows: verdicts.into_iter().filter(|it| it.row.is_some()).collect(),
    }
}
