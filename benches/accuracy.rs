//! Accuracy of account rankings beside the alternatives, in markets of known truth: `make
//! bench-accuracy`.
//!
//! For each world and seed a market is simulated into files. Our ensemble is trained and backtested
//! through the calls of the commands, and its members are judged alone: the networks, and the
//! trees, which are trees on our own cells. Recency, rules, a static profile and two
//! gradient-boosted trees (one flat table, and relational columns made by hand) see the same rows,
//! split and outcomes; the exact Bayes filter says what could be known at all. Control worlds have
//! something switched off that must then not help.
//!
//! Features of the baselines are computed here, from the raw tables, without the product's code.
//! Each seed leaves a JSON file in the results' folder, and a run takes from there what it has: it
//! may be stopped at any time. Seeds 110 to 117 and 210 to 229 are for tuning, 100 to 109 (0 to 2 at
//! 12,000 accounts) for reporting. The dev profile serves: everything heavy is optimised in it.

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

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use leadpulse_model::FitOptions;
use leadpulse_project::{Anchors, TaskPlan};
use leadpulse_sim::{MarketOptions, World};

use crate::harness::repository;
use crate::trial::{Model, Outcome, Setup, Trial};
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
    #[arg(long, value_delimiter = ',', default_value = "100,101,102")]
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
    /// Models; all by default.
    #[arg(long, value_delimiter = ',')]
    models: Vec<Model>,
    /// Moments of training rows, for all models. The configuration's "every 10d" is better for the
    /// net, and takes three times as long.
    #[arg(long, default_value = "every 30d")]
    anchors: Anchors,
    /// Networks of the ensemble; by default as configured.
    #[arg(long)]
    ensemble: Option<usize>,
    /// Only this candidate of the net's regularisations, by its number from 0; by default
    /// validation chooses among those configured.
    #[arg(long)]
    candidate: Option<usize>,
    /// Weeks of lists for the time to notice; 0 for none.
    #[arg(long, default_value_t = 20)]
    weeks: usize,
    /// Folder of the results, a JSON file a seed. Those of the same setup are not computed again.
    #[arg(long, default_value = "benches/results/accuracy")]
    out: PathBuf,
    /// Compute stored results again.
    #[arg(long)]
    again: bool,
    /// Configuration, from the repository; its schemas are to be the shipped ones.
    #[arg(long, default_value = "leadpulse.toml")]
    config: PathBuf,
    /// A table, e.g. content_views, whose rows end with the start of the test: how a ranking fares
    /// when a source stops. Give a folder of its own with --out.
    #[arg(long, value_name = "TABLE")]
    stopped: Option<String>,
    /// No trees in our ensemble.
    #[arg(long)]
    without_trees: bool,
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
    let loaded = Loaded::read(&repository().join(&arguments.config), &[])?;
    let project = loaded.project()?;
    let mut task = project
        .task(TASK)
        .with_context(|| format!("{} has no task {TASK}", arguments.config.display()))?
        .clone();
    task.anchors = arguments.anchors;
    let mut fit = loaded
        .config
        .tasks
        .iter()
        .find(|t| t.name == TASK)
        .map(|t| t.fit.clone())
        .unwrap_or_default();
    fit.ensemble = arguments.ensemble.unwrap_or(fit.ensemble);
    fit.selection_members = fit.selection_members.min(fit.ensemble);
    if let Some(number) = arguments.candidate {
        let candidate = fit.candidates.get(number).cloned();
        fit.candidates =
            vec![candidate.with_context(|| {
                format!("there are {} candidates, from 0", fit.candidates.len())
            })?];
    }
    if arguments.without_trees {
        fit.trees.rounds = 0;
    }
    gauge::print_machine();
    let commit = commit();
    let folder = repository().join(&arguments.out);
    std::fs::create_dir_all(&folder)?;
    for world in &arguments.worlds {
        let mut outcomes = Vec::new();
        for seed in &arguments.seeds {
            let setup = arguments.setup(*world, *seed, &task, &fit);
            let path = folder.join(format!("{world}-{}-{seed}.json", arguments.accounts));
            let stored = if arguments.again {
                None
            } else {
                stored(&path, &setup)?
            };
            outcomes.push(match stored {
                Some(outcome) => outcome,
                None => {
                    let trial = Trial {
                        loaded: &loaded,
                        project: &project,
                        task: &task,
                        world: *world,
                        options: MarketOptions {
                            accounts: arguments.accounts,
                            days: arguments.days,
                            seed: *seed,
                            ..MarketOptions::default()
                        },
                        setup,
                    };
                    let outcome = trial.run(&commit)?;
                    std::fs::write(&path, serde_json::to_string_pretty(&outcome)? + "\n")?;
                    outcome
                }
            });
        }
        print!("{}", report::world(*world, &outcomes));
        println!(
            "  {} accounts, {} days, training rows {}",
            arguments.accounts,
            arguments.days,
            String::from(task.anchors)
        );
    }
    Ok(())
}

impl Arguments {
    fn setup(&self, world: World, seed: u64, task: &TaskPlan, fit: &FitOptions) -> Setup {
        let models = if self.models.is_empty() {
            Model::value_variants().to_vec()
        } else {
            self.models.clone()
        };
        Setup {
            world: world.to_string(),
            accounts: self.accounts,
            days: self.days,
            seed,
            anchors: String::from(task.anchors),
            fit: fit.clone(),
            models,
            weeks: self.weeks,
            stopped: self.stopped.clone(),
        }
    }
}

/// The stored result of this setup. A file of another setup is in the way.
fn stored(path: &Path, setup: &Setup) -> Result<Option<Outcome>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let outcome: Outcome = serde_json::from_str(&text)
        .with_context(|| format!("{} is no result of this bench", path.display()))?;
    anyhow::ensure!(
        outcome.setup == *setup,
        "{} is the result of another setup; give another folder by --out, or --again to replace it",
        path.display()
    );
    eprintln!("{}: stored, of commit {}", path.display(), outcome.commit);
    Ok(Some(outcome))
}

/// The commit of the repository, with a mark where files differ from it.
fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(repository())
        .output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}
