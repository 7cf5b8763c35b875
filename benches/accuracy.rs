//! Accuracy of account rankings beside the alternatives, in markets of known truth: `make
//! bench-accuracy`.
//!
//! For each world and seed a market is simulated into files. Our net is trained and backtested
//! through the calls of the commands; rules, a static profile and two gradient-boosted trees (one
//! flat table, and relational columns made by hand) see the same rows, split and outcomes; the
//! exact Bayes filter says what could be known at all. Control worlds have something switched off
//! that must then not help.
//!
//! Features of the baselines are computed here, from the raw tables, without the product's code.
//! Seeds 100 to 104 are for tuning, 0 to 9 for reporting. The dev profile serves: everything heavy
//! is optimised in it. Two cores take 10 to 20 minutes for a seed of 12,000 accounts, and 2.5 GB.

#[path = "accuracy/calendar.rs"]
mod calendar;
#[path = "accuracy/columns.rs"]
mod columns;
#[path = "accuracy/compare.rs"]
mod compare;
#[allow(dead_code, reason = "the other benches use more of it")]
mod gauge;
#[path = "accuracy/gbdt.rs"]
mod gbdt;
#[path = "accuracy/history.rs"]
mod history;
#[path = "accuracy/net.rs"]
mod net;
#[path = "accuracy/report.rs"]
mod report;
#[path = "accuracy/rows.rs"]
mod rows;
#[path = "accuracy/rules.rs"]
mod rules;
#[path = "accuracy/trial.rs"]
mod trial;
#[path = "accuracy/vocabulary.rs"]
mod vocabulary;
#[path = "accuracy/world.rs"]
mod world;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/harness.rs"]
mod harness;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use leadpulse_project::Anchors;
use leadpulse_sim::{MarketOptions, World};

use crate::harness::repository;
use crate::trial::{Model, Trial};
use leadpulse_deployment::Loaded;

// As the command: glibc's allocator triples the time of a batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The task of the shipped configuration that is judged.
const TASK: &str = "account-wins-90d";

/// Accuracy beside baselines and the ceiling, on simulated markets.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seeds of the markets.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Accounts in a market.
    #[arg(long, default_value_t = 12_000)]
    accounts: usize,
    /// Days of its history.
    #[arg(long, default_value_t = 720)]
    days: u32,
    /// Worlds: market, no-waves, no-champions, no-committees, nothing-relational, order-only,
    /// messy, loud, backfilled.
    #[arg(long, value_delimiter = ',', default_value = "market")]
    worlds: Vec<World>,
    /// Models; all by default. Rules and ICP always run.
    #[arg(long, value_delimiter = ',')]
    models: Vec<Model>,
    /// Moments of training rows, for all models. The configuration's "every 10d" is better for the
    /// net, and takes three times as long.
    #[arg(long, default_value = "every 30d")]
    anchors: Anchors,
    /// Members of the net's ensemble.
    #[arg(long, default_value_t = 2)]
    ensemble: usize,
    /// Only this candidate of the net's regularisations, by its number from 0; by default
    /// validation chooses among those configured.
    #[arg(long)]
    candidate: Option<usize>,
    /// Weeks of lists for the time to notice; 0 for none.
    #[arg(long, default_value_t = 20)]
    weeks: usize,
    /// Folder for the tables, one file a world; they are printed too.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let loaded = Loaded::read(&repository().join("leadpulse.toml"), &[])?;
    let project = loaded.project()?;
    let mut task = project
        .task(TASK)
        .with_context(|| format!("leadpulse.toml has no task {TASK}"))?
        .clone();
    task.anchors = arguments.anchors;
    let mut fit = loaded
        .config
        .tasks
        .iter()
        .find(|t| t.name == TASK)
        .map(|t| t.fit.clone())
        .unwrap_or_default();
    fit.ensemble = arguments.ensemble;
    fit.selection_members = fit.selection_members.min(fit.ensemble);
    if let Some(number) = arguments.candidate {
        let candidate = fit.candidates.get(number).cloned();
        fit.candidates =
            vec![candidate.with_context(|| {
                format!("there are {} candidates, from 0", fit.candidates.len())
            })?];
    }
    let models = if arguments.models.is_empty() {
        &Model::ALL
    } else {
        arguments.models.as_slice()
    };
    gauge::print_machine();
    let anchors = String::from(task.anchors);
    let size = format!(
        "{} accounts, {} days, training rows {anchors}",
        arguments.accounts, arguments.days
    );
    for world in arguments.worlds {
        let mut outcomes = Vec::new();
        let mut text = String::new();
        for (at, seed) in arguments.seeds.iter().enumerate() {
            let options = MarketOptions {
                accounts: arguments.accounts,
                days: arguments.days,
                seed: *seed,
                ..MarketOptions::default()
            };
            let weeks = arguments.weeks;
            outcomes.push(
                Trial {
                    loaded: &loaded,
                    project: &project,
                    task: &task,
                    fit: &fit,
                    world,
                    options,
                    models,
                    weeks,
                }
                .run()?,
            );
            // After each seed: a run that is cut short leaves what it has.
            text = format!(
                "{}  {size}\n",
                report::world(world, &arguments.seeds[..=at], &outcomes)
            );
            if let Some(folder) = &arguments.out {
                std::fs::create_dir_all(folder)?;
                std::fs::write(folder.join(format!("{world}.txt")), &text)?;
            }
        }
        print!("{text}");
    }
    Ok(())
}
