//! `leadpulse simulate`

use std::path::PathBuf;

use anyhow::Result;
use indicatif::ProgressBar;

use leadpulse_sim::{Market, MarketOptions, World, write_files};

use crate::commands::parse_moment;

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
}

impl SimulateArguments {
    pub fn run(self) -> Result<()> {
        let options = MarketOptions {
            accounts: self.accounts,
            days: self.days,
            seed: self.seed,
            start_ms: self.start,
        };
        let mut market = Market::new(options, self.world.knobs())?;
        let bar = ProgressBar::new(u64::from(self.days));
        let written = write_files(&mut market, &self.out, &mut |day| {
            bar.set_position(u64::from(day))
        })?;
        bar.finish_and_clear();
        for (table, rows) in written {
            say!("{rows:>10} {table}");
        }
        say!("written to {}", self.out.display());
        Ok(())
    }
}
