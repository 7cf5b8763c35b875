//! `leadpulse demo`: a whole market in one process.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prometheus::Registry;

use leadpulse_engine::read_model::{ReadModel, Sort};
use leadpulse_engine::{ClockMode, Until};
use leadpulse_kafka::{KafkaMetrics, MockBroker, TopicSpec, output_topics};
use leadpulse_learn::{TrainOptions, TrainTask, train};
use leadpulse_model::FitOptions;
use leadpulse_registry::RegistryMetrics;
use leadpulse_sim::{Knobs, Market, MarketOptions, write_files};

use crate::commands::replay::Feeder;
use crate::commands::{ConfigArgument, date, parse_duration};
use crate::progress::Bar;
use leadpulse_deployment::{
    Cluster, Deployment, WithinLimit, create_missing, schema_store, stop_on_signal,
};

const DAY_MS: i64 = 86_400_000;
/// Simulated days before the market is watched: the bundle is trained on them.
const HISTORY_DAYS: u32 = 420;
/// Simulated days that can be watched.
const WATCHED_DAYS: u32 = 720;
/// The mock cluster forgets what is not read soon: history is fed in pieces of this many rows, each waited for.
const FEED_ROWS: usize = 4000;

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct Demo {
    #[command(flatten)]
    config: ConfigArgument,
    /// A real cluster instead of the in-process mock.
    #[arg(long)]
    brokers: Option<String>,
    /// End after this long, e.g. 60s. Without it: Ctrl-C.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Accounts in the market.
    #[arg(long, default_value_t = 300)]
    accounts: usize,
    /// Seed of the market.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Simulated days per second.
    #[arg(long, default_value_t = 2.0)]
    pace: f64,
    /// Where the market's files and the bundle are written.
    #[arg(long, default_value = ".demo")]
    work_dir: PathBuf,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(|ms| Duration::from_millis(ms as u64))
}

impl Demo {
    pub fn run(self) -> Result<()> {
        let mut loaded = self.config.load(&[])?;
        // The market has a time of its own.
        loaded.config.engine.clock = ClockMode::Events;
        let project = loaded.project()?;
        let task = project
            .tasks
            .first()
            .context("the configuration has no task")?;
        let started = Instant::now();

        let options = MarketOptions {
            accounts: self.accounts,
            days: HISTORY_DAYS + WATCHED_DAYS,
            seed: self.seed,
            ..MarketOptions::default()
        };
        let history_end_ms = options.start_ms + i64::from(HISTORY_DAYS) * DAY_MS;
        let data = self.work_dir.join("data");
        let written = write_files(
            &mut Market::new(options, Knobs::default())?,
            &data,
            &mut |_| {},
        )?;
        say!(
            "market   {} accounts, {} events and rows in {}",
            self.accounts,
            written.values().sum::<u64>(),
            data.display()
        );

        let sources = loaded.files(&project.catalog, &data)?;
        let horizon_ms = project
            .tasks
            .iter()
            .map(|t| t.plan.horizon_ms)
            .max()
            .unwrap_or(task.plan.horizon_ms);
        let mut fit = FitOptions {
            ensemble: 1,
            selection_members: 1,
            max_epochs: 6,
            ..FitOptions::default()
        };
        fit.candidates.truncate(1);
        let train_options = TrainOptions {
            val_from_ms: Some(history_end_ms - horizon_ms - horizon_ms / 2),
            test_from_ms: Some(history_end_ms),
            ..TrainOptions::default()
        };
        let mut bar = Bar::new();
        let tasks: Vec<TrainTask<'_>> = project
            .tasks
            .iter()
            .map(|plan| TrainTask {
                plan,
                fit: fit.clone(),
            })
            .collect();
        let (bundle, report) = train(&project, &tasks, &sources, &train_options, &mut |p| {
            bar.show(p)
        })?;
        bar.finish();
        bundle.save(&self.work_dir.join("bundle"))?;
        say!(
            "bundle   {} trained on {} examples known by {} in {:.0} s",
            leadpulse_features::Scorer::bundle_id(&bundle),
            report.tasks.iter().map(|t| t.training).sum::<usize>(),
            date(report.split.val_from_ms),
            started.elapsed().as_secs_f64()
        );

        let inputs = loaded.inputs(&project.catalog)?;
        let topics: Vec<TopicSpec> = inputs.iter().map(|i| TopicSpec::log(&i.topic, 2)).collect();
        let mut mock = None;
        let cluster = match &self.brokers {
            Some(brokers) => {
                loaded.config.kafka.brokers = brokers.clone();
                create_missing(
                    &loaded.config.kafka,
                    &topics,
                    &WithinLimit::of(&loaded.config.kafka),
                )?;
                say!("broker   {brokers}: exactly once");
                Cluster::Real
            }
            None => {
                let all: Vec<TopicSpec> = topics
                    .into_iter()
                    .chain(output_topics(&loaded.config.kafka))
                    .collect();
                let broker = mock.insert(MockBroker::start(&all)?);
                loaded.config.kafka.brokers = broker.bootstrap_servers().to_owned();
                say!(
                    "broker   in this process (librdkafka's mock: at least once; --brokers names a real one)"
                );
                Cluster::Mock
            }
        };
        let stop = stop_on_signal()?;
        let server = loaded.config.server.clone();
        let deployment = Deployment::start(
            &loaded,
            &project,
            Arc::new(bundle),
            cluster,
            Until::Stopped,
            Some(&server),
            stop.clone(),
        )?;
        if let Some(address) = deployment.address() {
            say!("console  http://{address}");
        }

        let metrics = KafkaMetrics::register(&Registry::new())?;
        let schema_metrics = RegistryMetrics::register(&Registry::new())?;
        let schemas = schema_store(&loaded.config, &loaded.schemas_dir(), &schema_metrics)?;
        let mut feeder = Feeder::open(
            &project.catalog,
            &inputs,
            &sources,
            schemas.as_ref(),
            &loaded.config.kafka,
            &metrics,
        )?;
        let ended = |started: Instant| {
            self.duration.is_some_and(|d| started.elapsed() >= d) || stop.load(Ordering::Relaxed)
        };
        while feeder.peek_ms().is_some_and(|t| t < history_end_ms) && !stop.load(Ordering::Relaxed)
        {
            feeder.send_until(history_end_ms - 1, FEED_ROWS)?;
            feeder.flush()?;
            await_taken(&deployment, feeder.sent)?;
        }
        say!(
            "history  {} records up to {}",
            feeder.sent,
            date(history_end_ms)
        );

        let entity = project.catalog.table_at(task.plan.entity).name.clone();
        let watching = Instant::now();
        let mut seen: HashSet<String> = deployment
            .read_model
            .alerts(1000)
            .1
            .iter()
            .map(|a| a.alert_id.clone())
            .collect();
        let (mut alerts, mut shown) = (0_u64, Instant::now());
        while !ended(watching) {
            if deployment.is_finished() {
                break;
            }
            let now_ms = history_end_ms
                + (watching.elapsed().as_secs_f64() * self.pace * DAY_MS as f64) as i64;
            feeder.send_until(now_ms, FEED_ROWS)?;
            for alert in deployment.read_model.alerts(50).1.iter().rev() {
                if seen.insert(alert.alert_id.clone()) {
                    alerts += 1;
                    let summary = alert
                        .record
                        .get("summary")
                        .and_then(|s| s.as_str())
                        .unwrap_or_default();
                    say!(
                        "ALERT    {}  {} {}",
                        date(alert.as_of_ms),
                        alert.severity,
                        summary
                    );
                }
            }
            if shown.elapsed() > Duration::from_secs(5) {
                show_top(&deployment.read_model, &task.name, &entity);
                shown = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        feeder.flush()?;
        show_top(&deployment.read_model, &task.name, &entity);
        stop.store(true, Ordering::Relaxed);
        let summary = deployment.join()?;
        say!(
            "summary  {} records in {} epochs, {} scores, {} alerts ({alerts} while watched), {} dead letters, {} duplicates",
            summary.records,
            summary.epochs,
            summary.scores,
            summary.alerts,
            summary.dead_lettered,
            summary.duplicate
        );
        drop(mock);
        Ok(())
    }
}

/// Waits until the engine has taken what was sent.
fn await_taken(deployment: &Deployment, sent: u64) -> Result<()> {
    let started = Instant::now();
    while deployment.read_model.status().records < sent {
        if deployment.is_finished() {
            bail!("the engine ended while history was fed; see the log");
        }
        if started.elapsed() > Duration::from_secs(120) {
            bail!("the engine does not take what is fed to it; see the log");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn show_top(read_model: &ReadModel, task: &str, entity: &str) {
    let page = read_model.scores(task, entity, Sort::Score, 8, None);
    let as_of = read_model.status().as_of_ms.map(date).unwrap_or_default();
    say!("\n  top {entity} of {} at {as_of}", page.total);
    for (rank, score) in page.scores.iter().enumerate() {
        let arrow = match score.trend {
            "improving" => "↑",
            "declining" => "↓",
            "steady" => "→",
            _ => " ",
        };
        let p = score.probability.unwrap_or_default();
        let bar = "█".repeat((p * 24.0).round() as usize);
        say!(
            "  {:>2} {:<9} {:<28} {:>5.1} % {arrow} {:<5} {bar}",
            rank + 1,
            score.entity_id,
            score.name.as_deref().unwrap_or(""),
            100.0 * p,
            score.band.as_deref().unwrap_or("")
        );
    }
    say!("");
}
