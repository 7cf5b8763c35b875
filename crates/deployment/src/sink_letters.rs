//! Dead letters of sinks, read back: records that a sink of `leadpulse deliver` can never take.

use prometheus::Registry;

use leadpulse_deliver::LETTER_HEADERS;
use leadpulse_engine::LetterPlace;
use leadpulse_engine::ports::PortError;
use leadpulse_kafka::{Isolation, KafkaMetrics, OwnedRecord, TopicReader};

use crate::deliver::letters_topic;
use crate::error::DeployError;
use crate::loaded::Loaded;

/// A dead letter of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuriedRecord {
    /// Place of the letter in the sinks' dead-letter topic.
    pub place: LetterPlace,
    /// Name of the sink, such as `webhook.ops`.
    pub sink: String,
    /// The answer of the other side, or the fault of the bytes.
    pub reason: String,
    /// Place of the record, as `TOPIC/PARTITION@OFFSET`.
    pub record: String,
    /// Timestamp of the record, milliseconds.
    pub timestamp_ms: i64,
    /// Key and value of the record; `None` is null.
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl BuriedRecord {
    /// The letter of a record; `None` for one that lacks a header of letters.
    fn of(record: OwnedRecord) -> Option<Self> {
        let text = |name: &str| -> Option<String> {
            let value = record.header(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let [sink, reason, topic, partition, offset] = LETTER_HEADERS.map(text);
        Some(Self {
            place: LetterPlace {
                partition: record.partition,
                offset: record.offset,
            },
            sink: sink?,
            reason: reason?,
            record: format!("{}/{}@{}", topic?, partition?, offset?),
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
        })
    }
}

/// Hands every dead letter of sinks to `each`, of one partition in order of offsets.
///
/// # Errors
/// No such topic, or brokers that do not answer.
pub fn read_sink_letters(
    loaded: &Loaded,
    each: &mut dyn FnMut(BuriedRecord),
) -> Result<(), DeployError> {
    // No one reads these metrics: a tool serves no HTTP.
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let (options, topic) = (&loaded.config.kafka, letters_topic(loaded));
    let mut reader = TopicReader::open(options, &topic, Isolation::Committed, &metrics)?;
    let mut take = |record: OwnedRecord| -> Result<(), PortError> {
        if let Some(letter) = BuriedRecord::of(record) {
            each(letter);
        }
        Ok(())
    };
    Ok(reader.for_each(&mut take)?)
}
