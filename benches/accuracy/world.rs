//! A simulated market as files, with what only the simulator knows.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use leadpulse_history::FileSource;
use leadpulse_schema::Catalog;
use leadpulse_sim::{Market, MarketOptions, Milestone, World, bayes, write_files};
use tempfile::TempDir;

use crate::calendar::HORIZON_DAYS;
use leadpulse_deployment::Loaded;

/// A market that was lived.
pub struct Simulated {
    pub options: MarketOptions,
    pub world: World,
    pub files: Vec<FileSource>,
    pub rows: u64,
    /// Moments at which accounts began to evaluate vendors.
    pub evaluations: Vec<Milestone>,
    pub purchases: Vec<Milestone>,
    folder: TempDir,
}

impl Simulated {
    pub fn new(
        loaded: &Loaded,
        catalog: &Catalog,
        world: World,
        options: MarketOptions,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let mut market = Market::new(options.clone(), world.knobs())?;
        let rows = write_files(&mut market, folder.path(), &mut |_| {})?
            .values()
            .sum();
        let files = loaded.files(catalog, folder.path())?;
        let (evaluations, purchases) = (market.evaluations().to_vec(), market.purchases().to_vec());
        Ok(Self {
            options,
            world,
            files,
            rows,
            evaluations,
            purchases,
            folder,
        })
    }

    /// Takes the rows of an event table away that are known at a moment, milliseconds, or later.
    pub fn stop(&self, catalog: &Catalog, table: &str, from_ms: i64) -> Result<()> {
        let found = catalog.table(table);
        let table = found.with_context(|| format!("there is no table {table}"))?;
        let time = table
            .time
            .with_context(|| format!("{} has no time", table.name))?;
        let time = &table.field_at(time).name;
        let path = self.folder.path().join(format!("{}.jsonl", table.name));
        let text = fs::read_to_string(&path)?;
        let mut kept = String::new();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let known_ms = row["known_at"].as_i64().or_else(|| row[time].as_i64());
            if known_ms.context("a row has no time")? < from_ms {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        Ok(fs::write(&path, kept)?)
    }

    /// The exact Bayes filter's forecasts, by account and moment.
    pub fn ceiling(&self, moments: &[i64]) -> Result<HashMap<(String, i64), f64>> {
        let market = Market::new(self.options.clone(), self.world.knobs())?;
        let forecasts = bayes(&market, moments, HORIZON_DAYS as u32)?;
        Ok(forecasts
            .into_iter()
            .map(|f| ((f.account, f.anchor_ms), f.probability))
            .collect())
    }
}
