//! Requests to erase a person, and their proofs, from outside of a worker.

use prometheus::Registry;

use leadpulse_engine::ports::{Clock, Output};
use leadpulse_engine::{ErasureProof, OutputEncoders};
use leadpulse_kafka::{Isolation, KafkaMetrics, TopicReader};
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Table, Value};

use crate::clock::SystemClock;
use crate::config::SourceConfig;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::ports::writer_schemas;
use crate::rows_of_people::{PersonSource, person_source, send_row};

/// A request about a person's data.
#[derive(Clone, Debug, Default)]
pub struct ErasureOrder {
    /// Id of the request.
    pub id: String,
    /// Table and key of the person.
    pub subject: Option<(String, String)>,
    /// An address of the person.
    pub email: Option<String>,
    /// The person or system that asks.
    pub who: String,
    pub reason: Option<String>,
    /// Takes rows of the person again, instead of erasing.
    pub lifts: bool,
}

/// Faults of a request before it is sent.
#[derive(Debug, thiserror::Error)]
pub enum ErasureOrderError {
    /// No source has requests.
    #[error(
        "no source with a topic has a table of the role erasure; add one to the configuration, as the shipped leadpulse.toml does"
    )]
    NoSource,
    /// The source has rows of another form than this command writes.
    #[error(
        "the source of {table} is not plain Avro, which is all that this command writes; produce the row as its other rows are"
    )]
    OtherForm { table: String },
    /// No field refers to the table.
    #[error("{table} has no reference to {subject}; it refers to: {known}")]
    NoReference {
        table: String,
        subject: String,
        known: String,
    },
    /// A field that the request needs is not there.
    #[error("{table} has no field for {what}; declare it in its erasure property")]
    NoField { table: String, what: &'static str },
}

/// Sends a request to the topic of its table, which is created if it does not exist. Returns the
/// topic.
///
/// # Errors
/// A configuration without such a topic, a subject that its table cannot name, or a cluster that
/// refuses.
pub fn request_erasure(loaded: &Loaded, order: &ErasureOrder) -> Result<String, DeployError> {
    let catalog = loaded.catalog()?;
    let (source, table) = erasure_source(loaded, &catalog)?;
    let now_ms = SystemClock.wall_ms();
    let mut batch = RowBatch::new();
    fill(&catalog, table, order, now_ms, &mut batch)?;
    send_row(loaded, &catalog, (source, table), (&batch, now_ms))
}

fn erasure_source<'a>(
    loaded: &'a Loaded,
    catalog: &'a Catalog,
) -> Result<(&'a SourceConfig, &'a Table), ErasureOrderError> {
    let found = person_source(loaded, catalog, |table| table.erasure.is_some());
    match found.ok_or(ErasureOrderError::NoSource)? {
        PersonSource::Fits(source, table) => Ok((source, table)),
        PersonSource::OtherForm(table) => Err(ErasureOrderError::OtherForm {
            table: table.name.clone(),
        }),
    }
}

fn fill(
    catalog: &Catalog,
    table: &Table,
    order: &ErasureOrder,
    now_ms: i64,
    batch: &mut RowBatch,
) -> Result<(), ErasureOrderError> {
    let fields = table.erasure.ok_or(ErasureOrderError::NoSource)?;
    let no_field = |what| ErasureOrderError::NoField {
        table: table.name.clone(),
        what,
    };
    let position = Position::default();
    let mut row = batch.start(catalog, table.id, Operation::Upsert, position, now_ms);
    row.set(table.key, Value::Text(&order.id));
    if let Some(time) = table.time {
        row.set(time, Value::Time(now_ms));
    }
    row.set(fields.who, Value::Text(&order.who));
    if let Some((subject, key)) = &order.subject {
        let references = || {
            let owners = table.owners.iter().map(|field| table.field_at(*field));
            owners.filter_map(|field| Some((field.id, field.reference?.table)))
        };
        let wanted = catalog.table(subject).map(|table| table.id);
        let found = references().find(|(_, to)| Some(*to) == wanted);
        let (field, _) = found.ok_or_else(|| {
            let known = references().map(|(_, to)| catalog.table_at(to).name.as_str());
            ErasureOrderError::NoReference {
                table: table.name.clone(),
                subject: subject.clone(),
                known: known.collect::<Vec<_>>().join(", "),
            }
        })?;
        row.set(field, Value::Text(key));
    }
    if let Some(email) = &order.email {
        let field = fields.email.ok_or_else(|| no_field("an address"))?;
        row.set(field, Value::Text(email));
    }
    if order.lifts {
        let field = fields.action.ok_or_else(|| no_field("an action"))?;
        row.set(field, Value::Text("lift"));
    }
    if let (Some(reason), Some(field)) = (&order.reason, table.field("reason")) {
        row.set(field.id, Value::Text(reason));
    }
    row.finish();
    Ok(())
}

/// All proofs of a deployment, in order.
///
/// # Errors
/// A topic that does not exist, brokers that do not answer, or a record that is no proof.
pub fn erasure_proofs(loaded: &Loaded) -> Result<Vec<ErasureProof>, DeployError> {
    let schemas = writer_schemas(loaded)?;
    let encoders = OutputEncoders::new(schemas.as_ref())?;
    let options = &loaded.config.kafka;
    let metrics = KafkaMetrics::register(&Registry::new())?;
    let topic = options.outputs.name(Output::ErasureProofs);
    let mut reader = TopicReader::open(options, topic, Isolation::Committed, &metrics)?;
    let mut proofs = Vec::new();
    for value in reader
        .read_to_end()?
        .into_iter()
        .filter_map(|record| record.value)
    {
        proofs.push(encoders.read_erasure_proof(&value, schemas.as_ref())?);
    }
    Ok(proofs)
}
