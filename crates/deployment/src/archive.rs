//! Scores older than those of the read model: read from the scores topic, by key.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leadpulse_engine::OutputEncoders;
use leadpulse_engine::output_key;
use leadpulse_engine::ports::{Output, PortError, SchemaStore};
use leadpulse_kafka::{KafkaMetrics, KafkaOptions, KeyPast, OwnedRecord, PastBounds, PastPlace};
use leadpulse_records::ScorePoint;
use leadpulse_server::{ArchiveFault, PastCursor, PastPoints, PastQuestion, ScoreArchive};

/// Bounds of one question: points, offsets of the topic, seconds.
const BOUNDS: PastBounds = PastBounds {
    wanted: 64,
    offsets: 50_000,
    time: Duration::from_secs(3),
};

/// The scores topic of a deployment.
pub(crate) struct TopicArchive {
    past: KeyPast,
    schemas: Arc<dyn SchemaStore>,
    /// Made for the first question: a registry may be away when the process starts.
    encoders: OnceLock<OutputEncoders>,
}

impl TopicArchive {
    /// The archive in the scores topic of these options. Connects for each question.
    pub fn new(
        options: &KafkaOptions,
        metrics: &Arc<KafkaMetrics>,
        schemas: Arc<dyn SchemaStore>,
    ) -> Self {
        let topic = options.outputs.name(Output::Scores);
        Self {
            past: KeyPast::new(options, topic, metrics),
            schemas,
            encoders: OnceLock::new(),
        }
    }

    fn encoders(&self) -> Result<&OutputEncoders, ArchiveFault> {
        if let Some(known) = self.encoders.get() {
            return Ok(known);
        }
        let made = OutputEncoders::new(&*self.schemas).map_err(fault)?;
        Ok(self.encoders.get_or_init(|| made))
    }
}

impl ScoreArchive for TopicArchive {
    fn before(&self, question: &PastQuestion) -> Result<PastPoints, ArchiveFault> {
        let key = output_key(&question.task, &question.table, &question.id);
        let place = match question.before {
            PastCursor::Moment(at_ms) => PastPlace::Moment(at_ms),
            PastCursor::Offset(offset) => PastPlace::Offset(offset),
        };
        let encoders = self.encoders()?;
        let moment_of = |record: &OwnedRecord| {
            let score = encoders.read_score(record.value.as_ref()?, &*self.schemas);
            Some(score.ok()?.as_of)
        };
        let page = self.past.before(&key, place, BOUNDS, &moment_of);
        let page = page.map_err(fault)?;
        let mut points = Vec::with_capacity(page.records.len());
        for value in page.records.iter().filter_map(|one| one.value.as_ref()) {
            match encoders.read_score(value, &*self.schemas) {
                Ok(score) => points.push(score.point()),
                Err(error @ PortError::Retriable(_)) => return Err(fault(error)),
                // A record that another program wrote is no point.
                Err(_) => {}
            }
        }
        // As in the read model: several records of one moment are one point.
        points.dedup_by_key(|point: &mut ScorePoint| point.as_of);
        Ok(PastPoints {
            points,
            next: page.next.map(PastCursor::Offset),
            looked_at: page.looked_at.max(0) as u64,
        })
    }
}

fn fault(error: impl std::fmt::Display) -> ArchiveFault {
    ArchiveFault(error.to_string())
}
