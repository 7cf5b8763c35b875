//! Files become records of the input topics, as producers would write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use leadpulse_graph::owner_of;
use leadpulse_history::{Files, Replay};
use leadpulse_kafka::{InputTopic, KafkaMetrics, Producer};
use leadpulse_registry::RegistryMetrics;
use leadpulse_schema::{Catalog, Operation, Role, Row, RowBatch, RowEncoder, encode_frame};

use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::ports::schema_store;

/// Limit of the wait for acknowledgements at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// Topic and schema id of a table's records.
struct Route {
    topic: String,
    schema_id: u32,
}

/// Produces rows to the topics of their tables.
pub struct Feeder {
    catalog: Arc<Catalog>,
    replay: Replay,
    encoder: RowEncoder,
    producer: Producer,
    /// Routes by table id.
    routes: BTreeMap<u16, Route>,
    batch: RowBatch,
    /// Records sent so far.
    pub sent: u64,
}

impl Feeder {
    /// Opens the files, finds or registers the schemas, connects. Sources without a topic are left
    /// out.
    ///
    /// # Errors
    /// A file cannot be read, a schema has no id, or the producer's settings are refused.
    pub fn open(
        loaded: &Loaded,
        catalog: &Arc<Catalog>,
        inputs: &[InputTopic],
        files: &Files,
    ) -> Result<Self, DeployError> {
        // No one reads these metrics: a feeder is a tool, and serves no HTTP.
        let registry = Registry::new();
        let metrics = KafkaMetrics::register(&registry)?;
        let schemas = schema_store(loaded, &RegistryMetrics::register(&registry)?)?;
        let mut routes = BTreeMap::new();
        for input in inputs {
            for table in &input.tables {
                let json = &catalog.table_at(*table).json;
                let route = Route {
                    topic: input.topic.clone(),
                    schema_id: schemas.id_of(&format!("{}-value", input.topic), json)?,
                };
                routes.insert(table.0, route);
            }
        }
        Ok(Self {
            catalog: catalog.clone(),
            replay: files.replay_of(|source| routes.contains_key(&source.table.0))?,
            encoder: RowEncoder::new(catalog),
            producer: Producer::connect(&loaded.config.kafka, &metrics)?,
            routes,
            batch: RowBatch::new(),
            sent: 0,
        })
    }

    /// Known time of the next row, milliseconds; `None` at the end.
    pub fn peek_ms(&self) -> Option<i64> {
        self.replay.peek_ms()
    }

    /// Sends the rows known at or before a moment, at most `max_rows`. Returns the number of rows
    /// sent.
    ///
    /// # Errors
    /// A file cannot be read, a row does not fit its schema, or the producer refuses a record.
    pub fn send_until(&mut self, until_ms: i64, max_rows: usize) -> Result<usize, DeployError> {
        self.batch.clear();
        let rows = self.replay.read(until_ms, max_rows, &mut self.batch)?;
        let mut value = Vec::new();
        for row in self.batch.iter() {
            let route = &self.routes[&row.table().0];
            let mut body = Vec::new();
            self.encoder.encode(row, &mut body)?;
            value.clear();
            encode_frame(route.schema_id, &body, &mut value);
            let value = (!is_tombstone(&self.catalog, row)).then_some(&value[..]);
            self.producer.send(
                &route.topic,
                Some(record_key(&self.catalog, row).as_bytes()),
                value,
                row.known_ms(),
            )?;
        }
        self.sent += rows as u64;
        Ok(rows)
    }

    /// Waits until everything is acknowledged, a minute at most.
    ///
    /// # Errors
    /// A record was not delivered, or not acknowledged in time.
    pub fn flush(&mut self) -> Result<(), DeployError> {
        Ok(self.producer.flush(FLUSH_LIMIT)?)
    }
}

/// Whether a row is sent as a tombstone: it deletes, and no field of its table says so. A row with
/// such a field keeps its version.
fn is_tombstone(catalog: &Catalog, row: Row<'_>) -> bool {
    row.operation() == Operation::Delete && catalog.table_at(row.table()).deleted.is_none()
}

/// Entities are keyed by their own key, events by their owner's: per-key order is what compaction
/// and moves rely on.
fn record_key<'a>(catalog: &Catalog, row: Row<'a>) -> &'a str {
    match catalog.table_at(row.table()).role {
        Role::Event => owner_of(catalog, row).map_or(row.key(), |(_, key)| key),
        _ => row.key(),
    }
}
