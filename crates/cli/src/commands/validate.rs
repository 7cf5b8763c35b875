//! `leadpulse validate`: a dry run of records against the configuration.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::Value as Json;

use leadpulse_deployment::{
    SystemClock, ValidationSummary, Validator, Verdict, newest_records, writer_schemas,
};
use leadpulse_engine::ClockMode;
use leadpulse_engine::ports::Clock;

use crate::commands::{ClusterArguments, table};

/// Arguments of `validate`.
#[derive(clap::Args)]
pub struct ValidateArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// A file with records of --table.
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    file: Option<PathBuf>,
    /// The file's table. With --topic only records of this table are shown.
    #[arg(long, required_unless_present = "topic")]
    table: Option<String>,
    /// A topic of a source: its newest records are judged. Nothing is written or committed.
    #[arg(long)]
    topic: Option<String>,
    /// Records of each partition of --topic, about.
    #[arg(long, requires = "topic", default_value_t = 100)]
    last: usize,
    /// Folder with the sources' files, applied before: deletions and duplicates are judged by them.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Prints only the records that would be refused, and the summary.
    #[arg(long)]
    refused: bool,
    /// Prints a line of JSON for each record, and one for the summary.
    #[arg(long)]
    json: bool,
}

impl ValidateArguments {
    pub fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let schemas = writer_schemas(&loaded)?;
        let mut validator = Validator::new(&loaded, schemas, self.data.as_deref())?;
        let catalog = validator.project().catalog.clone();
        if let (Some(file), Some(name)) = (&self.file, &self.table) {
            table(&catalog, name)?;
            let source = loaded.file_of(&catalog, name, file)?;
            validator.file(&source, &mut |verdict| self.show(&verdict))?;
        } else if let Some(topic) = &self.topic {
            if let Some(name) = &self.table {
                table(&catalog, name)?;
            }
            let (batch, partitions) = newest_records(&loaded, &catalog, topic, self.last)?;
            let looks_at_clock = loaded.config.engine.clock == ClockMode::Wall;
            let now_ms = looks_at_clock.then(|| SystemClock.wall_ms());
            for verdict in validator.records(&batch, &partitions, now_ms) {
                self.show(&verdict);
            }
        }
        let summary = validator.summary();
        self.show_summary(&summary);
        if summary.refused > 0 {
            bail!(
                "{} of {} records cannot be used; correct the producer, the schema or the source",
                summary.refused,
                summary.records
            );
        }
        Ok(())
    }

    fn show(&self, verdict: &Verdict) {
        if self.refused && !verdict.is_refused {
            return;
        }
        // A record that is no row may have been meant for any table of its topic.
        let is_other = |table: &String| verdict.row.is_some() && verdict.table != *table;
        if self.table.as_ref().is_some_and(is_other) {
            return;
        }
        if self.json {
            say!("{}", serde_json::json!(verdict));
            return;
        }
        say!(
            "{}  {}  {}: {}",
            verdict.place,
            verdict.table,
            verdict.outcome,
            verdict.why
        );
        let Some(row) = &verdict.row else { return };
        say!(
            "    {} of {}, at {}, known at {}; belongs to {}",
            row.operation,
            row.key,
            row.event_time,
            row.known_time,
            row.owner
        );
        let present = |(_, value): &&(String, Json)| !value.is_null();
        let fields: Vec<String> = row
            .fields
            .iter()
            .filter(present)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        say!("    {}", fields.join(", "));
    }

    fn show_summary(&self, summary: &ValidationSummary) {
        if self.json {
            say!("{}", serde_json::json!({ "summary": summary }));
            return;
        }
        let outcomes: Vec<String> = summary
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        say!(
            "records      {} = {}",
            summary.records,
            outcomes.join(" + ")
        );
        for (table, fields) in &summary.never_fed {
            say!("never fed    {table}: {}", fields.join(", "));
        }
        for remark in &summary.remarks {
            say!("remark       {remark}");
        }
    }
}
