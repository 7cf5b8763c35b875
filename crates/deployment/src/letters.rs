//! The dead letters of a deployment: read back, judged again, sent again.
//!
//! Reads see committed records only. A letter whose record was sent again has a mark behind it, in
//! its own partition: see [`leadpulse_engine::replayed_letter`].

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus::Registry;

use leadpulse_engine::ports::{Output, OutputRecord, PortCause, PortError};
use leadpulse_engine::{LetterPlace, WholeLetter, replayed_letter};
use leadpulse_kafka::{
    InputTopic, Isolation, KafkaMetrics, KafkaOptions, OwnedRecord, TopicReader,
};
use leadpulse_schema::Catalog;

use crate::error::DeployError;
use crate::loaded::Loaded;

mod judge;
mod replay;

pub use judge::{Judgement, LetterJudge};
pub use replay::{Pace, ReplayPlan, ReplaySummary};

/// The letters that a command is about. An empty list or `None` leaves every letter in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Codes of reasons.
    pub reasons: Vec<String>,
    /// Topics of the original records.
    pub topics: Vec<String>,
    /// First moment of the refusal, milliseconds.
    pub since_ms: Option<i64>,
    /// First moment after the refusal, milliseconds.
    pub until_ms: Option<i64>,
}

impl LetterFilter {
    /// Leaves in the letters of topics that feed these tables by the configuration. A letter does not
    /// say which table its record was meant for.
    ///
    /// # Errors
    /// A table that no topic feeds.
    pub fn of_tables(
        mut self,
        tables: &[String],
        loaded: &Loaded,
        catalog: &Catalog,
    ) -> Result<Self, DeployError> {
        if tables.is_empty() {
            return Ok(self);
        }
        let inputs = loaded.inputs(catalog)?;
        let mut fed = topics_of(tables, &inputs, catalog)?;
        if !self.topics.is_empty() {
            fed.retain(|topic| self.topics.contains(topic));
            if fed.is_empty() {
                return Err(DeployError::NoFedTable {
                    table: tables.join(", "),
                    known: names_of_tables(&inputs, catalog),
                });
            }
        }
        self.topics = fed;
        Ok(self)
    }

    /// True if every letter passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True for a letter that the filter leaves in.
    pub fn passes(&self, letter: &WholeLetter) -> bool {
        let is_among =
            |wanted: &[String], found: &String| wanted.is_empty() || wanted.contains(found);
        let refused_ms = letter.refused_ms();
        is_among(&self.reasons, &letter.about.reason)
            && is_among(&self.topics, &letter.about.topic)
            && self.since_ms.is_none_or(|since_ms| refused_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| refused_ms < until_ms)
    }
}

/// The topics that feed some tables.
fn topics_of(
    tables: &[String],
    inputs: &[InputTopic],
    catalog: &Catalog,
) -> Result<Vec<String>, DeployError> {
    let mut topics = Vec::new();
    for table in tables {
        let id = catalog.table(table).map(|found| found.id);
        let feeds = |input: &&InputTopic| id.is_some_and(|id| input.tables.contains(&id));
        let before = topics.len();
        topics.extend(inputs.iter().filter(feeds).map(|input| input.topic.clone()));
        if topics.len() == before {
            return Err(DeployError::NoFedTable {
                table: table.clone(),
                known: names_of_tables(inputs, catalog),
            });
        }
    }
    Ok(topics)
}

/// The tables that topics feed, for people.
fn names_of_tables(inputs: &[InputTopic], catalog: &Catalog) -> String {
    let tables = inputs.iter().flat_map(|input| &input.tables);
    let names: BTreeSet<&str> = tables
        .map(|table| catalog.table_at(*table).name.as_str())
        .collect();
    Vec::from_iter(names).join(", ")
}

/// The dead-letter topic of a deployment.
pub struct LetterBox {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// Name of the dead-letter topic.
    topic: String,
}

impl LetterBox {
    /// The dead-letter topic of a configuration. Connects at the first read.
    ///
    /// # Errors
    /// A configuration without a dead-letter topic.
    pub fn of(loaded: &Loaded) -> Result<Self, DeployError> {
        let options = loaded.config.kafka.clone();
        if !options.outputs.writes(Output::DeadLetters) {
            return Err(PortError::fatal(
                PortCause::TopicMissing,
                "the configuration writes no dead letters: set kafka.outputs.dead_letters",
            )
            .into());
        }
        // No one reads these metrics: a tool serves no HTTP.
        Ok(Self {
            metrics: KafkaMetrics::register(&Registry::new())?,
            topic: options.outputs.name(Output::DeadLetters).to_owned(),
            options,
        })
    }

    /// Hands every letter to `each`, of one partition in order of offsets. Returns the letters that
    /// were sent again.
    ///
    /// # Errors
    /// No such topic, brokers that do not answer, or the first error of `each`.
    pub fn read(
        &self,
        each: &mut dyn FnMut(WholeLetter) -> Result<(), PortError>,
    ) -> Result<BTreeSet<LetterPlace>, DeployError> {
        let mut replayed = BTreeSet::new();
        self.reader()?.for_each(&mut |record| match entry(record) {
            Some(Entry::Letter(letter)) => each(*letter),
            Some(Entry::Mark(place)) => {
                replayed.insert(place);
                Ok(())
            }
            None => Ok(()),
        })?;
        Ok(replayed)
    }

    /// The letter at a place, and whether its record was sent again. `None` if there is no letter.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find(&self, place: LetterPlace) -> Result<Option<(WholeLetter, bool)>, DeployError> {
        let mut found = None;
        let replayed = self.read(&mut |letter| {
            if letter.place == place {
                found = Some(letter);
            }
            Ok(())
        })?;
        Ok(found.map(|letter| (letter, replayed.contains(&place))))
    }

    fn reader(&self) -> Result<TopicReader, PortError> {
        let isolation = Isolation::Committed;
        TopicReader::open(&self.options, &self.topic, isolation, &self.metrics)
    }
}

/// A record of the dead-letter topic.
enum Entry {
    Letter(Box<WholeLetter>),
    Mark(LetterPlace),
}

/// The meaning of a record; `None` for one that another program wrote.
fn entry(record: OwnedRecord) -> Option<Entry> {
    let place = LetterPlace {
        partition: record.partition,
        offset: record.offset,
    };
    let record = OutputRecord {
        output: Output::DeadLetters,
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp_ms: record.timestamp_ms,
    };
    if let Some(marked) = replayed_letter(&record) {
        return Some(Entry::Mark(marked));
    }
    let letter = WholeLetter::of(place, record)?;
    Some(Entry::Letter(Box::new(letter)))
}

#[cfg(test)]
mod tests;
