//! `leadpulse simulate`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use leadpulse_sim::{Market, MarketOptions, World, write_files};

use crate::commands::parse_moment;
use crate::output::JsonArgument;
use crate::progress::Bar;

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct SimulateArguments {
    /// World: `market`, or a control in which something is switched off or is all there is.
    #[arg(long, default_value_t = World::Market)]
    world: World,
    /// Accounts in the market.
    #[arg(long, default_value_t = 1000)]
    accounts: usize,
    /// Days of history.
    #[arg(long, default_value_t = 540)]
    days: u32,
    /// The same seed writes the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The first day. Choose it such that the last one is past: a live deployment refuses rows
    /// ahead of its clock.
    #[arg(long, value_parser = parse_moment, default_value = "2020-01-01", value_name = "DATE")]
    start: i64,
    /// Folder to write to.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

impl SimulateArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let options = MarketOptions {
            accounts: self.accounts,
            days: self.days,
            seed: self.seed,
            start_ms: self.start,
        };
        let mut market = Market::new(options, self.world.knobs())?;
        let mut bar = Bar::new();
        let days = u64::from(self.days);
        let written = write_files(&mut market, &self.out, &mut |day| {
            bar.count("simulate", "days", u64::from(day), days)
        })?;
        bar.finish();
        for (table, rows) in &written {
            say!("{rows:>10} {table}");
        }
        say!("written to {}", self.out.display());
        self.json
            .print(|| Ok(json!({ "out": self.out, "rows": written })))
    }
}
