//! `leadpulse replay`: files to topics, as producers would, in time order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prometheus::Registry;

use leadpulse_engine::ports::SchemaStore;
use leadpulse_graph::owner_of;
use leadpulse_kafka::{KafkaMetrics, KafkaOptions, Producer, TopicSpec};
use leadpulse_learn::{FileSource, Replay as FileReplay};
use leadpulse_registry::RegistryMetrics;
use leadpulse_schema::{Catalog, Role, Row, RowBatch, RowEncoder, encode_frame};

use crate::commands::ClusterArguments;
use leadpulse_deployment::Loaded;
use leadpulse_deployment::{WithinLimit, create_missing, schema_store};

/// How long acknowledgements may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// How fast history passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the brokers take it.
    Max,
    /// So many times faster than it happened.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let factor = text
            .strip_suffix('x')
            .and_then(|n| n.parse::<f64>().ok())
            .filter(|x| x.is_finite() && *x > 0.0);
        factor
            .map(Speed::Times)
            .ok_or_else(|| format!("{text:?} is no speed; write max, 1x, 100x, …"))
    }
}

/// Arguments of `replay`.
#[derive(clap::Args)]
pub struct Replay {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Folder with the sources' files.
    #[arg(long)]
    data: PathBuf,
    /// How fast: max, or a factor such as 100x.
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// Partitions of input topics that have to be created.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Only these tables, e.g. to feed one topic far ahead of the others.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Produces rows to the topics of their tables.
pub struct Feeder {
    catalog: Arc<Catalog>,
    replay: FileReplay,
    encoder: RowEncoder,
    producer: Producer,
    /// Table → topic and schema id.
    routes: BTreeMap<u16, (String, u32)>,
    batch: RowBatch,
    /// Records sent.
    pub sent: u64,
}

impl Feeder {
    /// Opens the files and connects. Sources without a topic are left out.
    pub fn open(
        catalog: &Arc<Catalog>,
        inputs: &[leadpulse_kafka::InputTopic],
        sources: &[FileSource],
        schemas: &dyn SchemaStore,
        options: &KafkaOptions,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self> {
        let mut routes = BTreeMap::new();
        for input in inputs {
            let json = &catalog.table_at(input.table).json;
            routes.insert(
                input.table.0,
                (
                    input.topic.clone(),
                    schemas.id_of(&format!("{}-value", input.topic), json)?,
                ),
            );
        }
        let sources: Vec<FileSource> = sources
            .iter()
            .filter(|s| routes.contains_key(&s.table.0))
            .cloned()
            .collect();
        Ok(Self {
            catalog: catalog.clone(),
            replay: FileReplay::open(catalog.clone(), &sources)?,
            encoder: RowEncoder::new(catalog),
            producer: Producer::connect(options, metrics)?,
            routes,
            batch: RowBatch::new(),
            sent: 0,
        })
    }

    /// Known time of the next row, milliseconds.
    pub fn peek_ms(&self) -> Option<i64> {
        self.replay.peek_ms()
    }

    /// Sends the rows known at or before a moment, at most `max_rows`. How many were sent.
    pub fn send_until(&mut self, until_ms: i64, max_rows: usize) -> Result<usize> {
        self.batch.clear();
        let rows = self.replay.read(until_ms, max_rows, &mut self.batch)?;
        let mut value = Vec::new();
        for row in self.batch.iter() {
            let (topic, id) = &self.routes[&row.table().0];
            let mut body = Vec::new();
            self.encoder.encode(row, &mut body)?;
            value.clear();
            encode_frame(*id, &body, &mut value);
            self.producer.send(
                topic,
                Some(record_key(&self.catalog, row).as_bytes()),
                Some(&value),
                row.known_ms(),
            )?;
        }
        self.sent += rows as u64;
        Ok(rows)
    }

    /// Waits until everything is acknowledged.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.producer.flush(FLUSH_LIMIT)?)
    }
}

/// Entities are keyed by their own key, events by their owner's: per-key order is what compaction and moves rely on.
fn record_key<'a>(catalog: &Catalog, row: Row<'a>) -> &'a str {
    match catalog.table_at(row.table()).role {
        Role::Event => owner_of(catalog, row).map_or(row.key(), |(_, key)| key),
        _ => row.key(),
    }
}

impl Replay {
    pub fn run(self) -> Result<()> {
        let loaded: Loaded = self.cluster.load()?;
        let catalog = loaded.catalog()?;
        let options = &loaded.config.kafka;
        let mut inputs = loaded.inputs(&catalog)?;
        if !self.only.is_empty() {
            for name in &self.only {
                catalog
                    .table(name)
                    .with_context(|| format!("--only names {name:?}, which no schema defines"))?;
            }
            inputs.retain(|i| {
                self.only
                    .iter()
                    .any(|name| catalog.table(name).is_some_and(|t| t.id == i.table))
            });
        }
        let metrics = KafkaMetrics::register(&Registry::new())?;
        let topics: Vec<TopicSpec> = inputs
            .iter()
            .map(|i| TopicSpec::log(&i.topic, self.partitions))
            .collect();
        create_missing(options, &topics, &WithinLimit::of(options))?;
        let schema_metrics = RegistryMetrics::register(&Registry::new())?;
        let schemas = schema_store(&loaded.config, &loaded.schemas_dir(), &schema_metrics)?;
        let sources = loaded.files(&catalog, &self.data)?;
        let mut feeder = Feeder::open(
            &catalog,
            &inputs,
            &sources,
            schemas.as_ref(),
            options,
            &metrics,
        )?;
        let started = Instant::now();
        let first_ms = feeder.peek_ms().unwrap_or_default();
        let mut told = Instant::now();
        while let Some(next_ms) = feeder.peek_ms() {
            let until_ms = match self.speed {
                Speed::Max => i64::MAX,
                Speed::Times(factor) => {
                    let reached =
                        first_ms + (started.elapsed().as_secs_f64() * 1000.0 * factor) as i64;
                    if next_ms > reached {
                        let wait_ms = ((next_ms - reached) as f64 / factor).clamp(1.0, 1000.0);
                        std::thread::sleep(Duration::from_millis(wait_ms as u64));
                    }
                    reached
                }
            };
            feeder.send_until(until_ms, 1000)?;
            if told.elapsed() > Duration::from_secs(5) {
                tracing::info!(
                    sent = feeder.sent,
                    at = crate::commands::date(next_ms),
                    "replaying"
                );
                told = Instant::now();
            }
        }
        feeder.flush()?;
        let seconds = started.elapsed().as_secs_f64();
        say!(
            "{} records in {seconds:.1} s ({:.0}/s)",
            feeder.sent,
            feeder.sent as f64 / seconds.max(1e-9)
        );
        Ok(())
    }
}
