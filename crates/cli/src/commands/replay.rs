//! `leadpulse replay`: files to topics, as producers would, in time order.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::progress::LINE_EVERY;
use leadpulse_deployment::{Feeder, check_unfilled, create_inputs};

use crate::commands::{ClusterArguments, DataArguments, table};
use crate::data_report::files_table;
use crate::output::JsonArgument;

/// Pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the brokers accept records.
    Max,
    /// A factor: 100 replays a day of history in 14.4 minutes.
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
pub struct ReplayArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    data: DataArguments,
    /// Pace: max, or a factor such as 100x.
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// Partitions of input topics that have to be created.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Only these tables, e.g. to feed one topic far ahead of the others.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Send to topics that hold records already.
    #[arg(long)]
    append: bool,
    #[command(flatten)]
    json: JsonArgument,
}

impl ReplayArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let catalog = loaded.catalog()?;
        let mut inputs = loaded.inputs(&catalog)?;
        if !self.only.is_empty() {
            for name in &self.only {
                table(&catalog, name).context("--only")?;
            }
            inputs.retain(|i| {
                self.only.iter().any(|name| {
                    catalog
                        .table(name)
                        .is_some_and(|t| i.tables.contains(&t.id))
                })
            });
        }
        // A wrong folder must not leave topics behind.
        let files = self.data.open(&loaded, &catalog)?;
        create_inputs(&loaded.config.kafka, &inputs, self.partitions)?;
        if !self.append {
            check_unfilled(&loaded, &catalog, &inputs)?;
        }
        let mut feeder = Feeder::open(&loaded, &catalog, &inputs, &files)?;
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
            if told.elapsed() > LINE_EVERY {
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
        say!("{}", files_table(&files).trim_end());
        let (records, refused) = (feeder.sent, files.refused());
        self.json.print(|| {
            Ok(json!({ "records": records, "refused_rows": refused, "seconds": seconds }))
        })
    }
}
