//! Rows that a person sends to an input topic of the deployment: answers to alerts, requests to erase.

use std::time::Duration;

use prometheus::Registry;

use leadpulse_kafka::{KafkaMetrics, Producer};
use leadpulse_schema::{Catalog, RowBatch, RowEncoder, SourceFormat, Table, encode_frame};

use crate::config::SourceConfig;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::ports::{create_inputs, writer_schemas};

/// Limit of the wait for the acknowledgement.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// The fitness of a source for rows of people.
pub(crate) enum PersonSource<'a> {
    /// Plain Avro.
    Fits(&'a SourceConfig, &'a Table),
    /// Another form than this program writes.
    OtherForm(&'a Table),
}

/// The first source with a topic whose table is chosen by `is_wanted`.
pub(crate) fn person_source<'a>(
    loaded: &'a Loaded,
    catalog: &'a Catalog,
    is_wanted: impl Fn(&Table) -> bool,
) -> Option<PersonSource<'a>> {
    let (source, table) = loaded.config.sources.iter().find_map(|source| {
        let table = catalog.table(&source.table)?;
        (is_wanted(table) && source.topic.is_some()).then_some((source, table))
    })?;
    let is_plain = source.format == SourceFormat::Avro
        && source.columns.is_empty()
        && source.filter.is_empty();
    Some(match is_plain {
        true => PersonSource::Fits(source, table),
        false => PersonSource::OtherForm(table),
    })
}

/// Sends the only row of a batch to the topic of its source, which is created if it does not exist,
/// and waits for the acknowledgement. Returns the topic.
///
/// # Errors
/// Schemas that cannot be read or registered, or a cluster that refuses.
pub(crate) fn send_row(
    loaded: &Loaded,
    catalog: &Catalog,
    (source, table): (&SourceConfig, &Table),
    (batch, now_ms): (&RowBatch, i64),
) -> Result<String, DeployError> {
    let topic = source.topic.clone().unwrap_or_default();
    let row = batch.row(0);
    let mut body = Vec::new();
    RowEncoder::new(catalog).encode(row, &mut body)?;
    let inputs = loaded.inputs_of_people(catalog)?;
    create_inputs(&loaded.config.kafka, &inputs, 1)?;
    let id = writer_schemas(loaded)?.id_of(&format!("{topic}-value"), &table.json)?;
    let mut value = Vec::new();
    encode_frame(id, &body, &mut value);
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let mut producer = Producer::connect(&loaded.config.kafka, &metrics)?;
    producer.send(&topic, Some(row.key().as_bytes()), Some(&value), now_ms)?;
    producer.flush(FLUSH_LIMIT)?;
    Ok(topic)
}
