//! `leadpulse demo`: a whole market in one process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use leadpulse_deployment::{
    Assembly, DemoCluster, Deployment, Feeder, Loaded, VersionOrigin, stop_on_signal,
};
use leadpulse_engine::Alert;
use leadpulse_engine::read_model::{ReadModel, Sort};
use leadpulse_engine::{ClockMode, Until};
use leadpulse_features::Scorer;
use leadpulse_history::Files;
use leadpulse_kafka::InputTopic;
use leadpulse_learn::{
    LearnError, LeftOut, TaskEvaluation, TrainOptions, TrainReport, TrainTask, train,
};
use leadpulse_model::{Bundle, FitError, FitOptions};
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};
use leadpulse_sim::{Knobs, Market, MarketOptions, write_files};

use crate::commands::run::figures;
use crate::commands::{ConfigArgument, date, parse_duration};
use crate::output::JsonArgument;
use crate::progress::Bar;
use crate::shipped;

/// Simulated days before the market is watched: the bundle is trained on them.
const HISTORY_DAYS: u32 = 420;
/// Simulated days that can be watched.
const WATCHED_DAYS: u32 = 720;
/// Rows of history fed at a time. Each piece is waited for, because the mock keeps 5 MiB a
/// partition and forgets the rest.
const FEED_ROWS: usize = 4000;
/// Partitions of each input topic.
const INPUT_PARTITIONS: i32 = 2;

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct DemoArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// A real cluster instead of the in-process mock.
    #[arg(long)]
    brokers: Option<String>,
    /// Time to watch, e.g. 60s; without it, until Ctrl-C.
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
    /// Folder for the market's files and the bundle.
    #[arg(long, default_value = ".demo")]
    work_dir: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(|ms| Duration::from_millis(ms as u64))
}

impl DemoArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let mut loaded = self.load()?;
        // The market has a time of its own.
        loaded.config.engine.clock = ClockMode::Events;
        let mut project = loaded.project()?;
        let data = self.work_dir.join("data");
        let started = Instant::now();
        let history_end_ms = self.simulate(&data)?;
        // Days pass in seconds: a quarter of one is a tick.
        loaded.config.engine.tick_ms = DAY_MS as u64 / 4;
        loaded.config.engine.live_from_ms = Some(history_end_ms);
        let files = Files::prepare(
            project.catalog.clone(),
            &loaded.files(&project.catalog, &data)?,
        )?;
        let bundle = self.train(&project, &files, history_end_ms, started)?;
        let is_trained = |task: &TaskPlan| bundle.tasks().iter().any(|t| t.name == task.name);
        project.tasks.retain(is_trained);
        let task = project
            .tasks
            .first()
            .context("the bundle predicts no task of the configuration")?;

        let inputs = loaded.inputs(&project.catalog)?;
        let cluster = self.prepare_cluster(&mut loaded, &inputs)?;
        let stop = stop_on_signal()?;
        let assembly = Assembly {
            loaded: &loaded,
            project: &project,
            scorer: Arc::new(bundle),
            history: None,
            registry: None,
            origin: VersionOrigin::Given,
        };
        let http = Some(&loaded.config.server);
        // The first rows lie in the topics before the engine looks: it judges how references fit once
        // it has read what was there, and half a piece would look like rows that nobody sent.
        let mut feeder = Feeder::open(&loaded, &project.catalog, &inputs, &files)?;
        feeder.send_until(history_end_ms - 1, FEED_ROWS)?;
        feeder.flush()?;
        let deployment = assembly.start(cluster.kind, Until::Stopped, http, stop.clone())?;
        if let Some(address) = deployment.address() {
            say!("console  http://{address}");
        }
        let mut show = Show {
            deployment: &deployment,
            feeder,
            task: &task.name,
            entity: &project.catalog.table_at(task.plan.entity).name,
            history_end_ms,
            stop: &stop,
        };
        show.feed_history()?;
        let alerts = show.watch(self.pace, self.duration)?;
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
        // A mock broker ends here: the engine has committed its last epoch.
        drop(cluster);
        self.json.print(|| Ok(figures(&summary)))
    }

    /// Reads the configuration; the shipped one where the default names no file.
    fn load(&self) -> Result<Loaded> {
        let path = &self.config.config;
        if path.exists() || *path != crate::default_config() {
            return Ok(self.config.load(&[])?);
        }
        let folder = self.work_dir.join("crm");
        shipped::refresh(&folder)?;
        Ok(Loaded::read(&folder.join("leadpulse.toml"), &[])?)
    }

    /// Writes a market's files. Returns the end of its history, milliseconds.
    fn simulate(&self, data: &Path) -> Result<i64> {
        let options = MarketOptions {
            accounts: self.accounts,
            days: HISTORY_DAYS + WATCHED_DAYS,
            seed: self.seed,
            ..MarketOptions::default()
        };
        let history_end_ms = options.start_ms + i64::from(HISTORY_DAYS) * DAY_MS;
        let mut market = Market::new(options, Knobs::default())?;
        let written = write_files(&mut market, data, &mut |_| {})?;
        say!(
            "market   {} accounts, {} events and rows in {}",
            self.accounts,
            written.values().sum::<u64>(),
            data.display()
        );
        Ok(history_end_ms)
    }

    /// Trains a small bundle of all tasks on the history, saves it.
    fn train(
        &self,
        project: &Project,
        files: &Files,
        history_end_ms: i64,
        started: Instant,
    ) -> Result<Bundle> {
        let horizons = project.tasks.iter().map(|t| t.plan.horizon_ms);
        let horizon_ms = horizons.max().expect("the configuration has a task");
        let mut fit = FitOptions {
            ensemble: 1,
            selection_members: 1,
            max_epochs: 6,
            ..FitOptions::default()
        };
        fit.candidates.truncate(1);
        let options = TrainOptions {
            val_from_ms: Some(history_end_ms - horizon_ms - horizon_ms / 2),
            test_from_ms: Some(history_end_ms),
            ..TrainOptions::default()
        };
        let (bundle, report) = train_what_can_be(project, &fit, files, &options)?;
        for LeftOut { task, reason } in &report.left_out {
            show_left_out(task, reason);
        }
        bundle.save(&self.work_dir.join("bundle"))?;
        say!(
            "bundle   {} trained on {} examples known by {} in {:.0} s",
            bundle.bundle_id(),
            report.tasks.iter().map(|t| t.training).sum::<usize>(),
            date(report.split.val_from_ms),
            started.elapsed().as_secs_f64()
        );
        for task in &report.tasks {
            say!("quality  {}: {}", task.name, quality(&task.evaluation));
        }
        Ok(bundle)
    }

    fn prepare_cluster(&self, loaded: &mut Loaded, inputs: &[InputTopic]) -> Result<DemoCluster> {
        let options = &mut loaded.config.kafka;
        let cluster =
            DemoCluster::prepare(options, self.brokers.as_deref(), inputs, INPUT_PARTITIONS)?;
        match &self.brokers {
            Some(brokers) => say!("broker   {brokers}: exactly once"),
            None => say!(
                "broker   in this process (librdkafka's mock: at least once; --brokers names a real one)"
            ),
        }
        Ok(cluster)
    }
}

/// Trains the tasks whose outcomes a market has. A small market answers few of them: the first task
/// must not keep the others from being trained, so it is left out too.
fn train_what_can_be(
    project: &Project,
    fit: &FitOptions,
    files: &Files,
    options: &TrainOptions,
) -> Result<(Bundle, TrainReport)> {
    let mut plans: Vec<&TaskPlan> = project.tasks.iter().collect();
    loop {
        let mut tasks = Vec::new();
        for plan in &plans {
            let fit = fit.clone();
            tasks.push(TrainTask {
                plan,
                fit,
                is_optional: true,
            });
        }
        let mut bar = Bar::new();
        let trained = train(project, &tasks, files, options, &mut |p| bar.show(p));
        bar.finish();
        match trained {
            Err(LearnError::Fit(
                error @ (FitError::NoOutcomes { .. } | FitError::OneOutcome { .. }),
            )) if plans.len() > 1 => {
                let left_out = plans.remove(0);
                show_left_out(&left_out.name, &error.to_string());
            }
            trained => return Ok(trained?),
        }
    }
}

/// Prints a task that is not in the bundle, and why.
fn show_left_out(task: &str, reason: &str) {
    say!("left out {task}: {reason}. It has no scores; more --accounts give it outcomes");
}

/// The grade of a task with its figures on validation, in words.
fn quality(task: &TaskEvaluation) -> String {
    let grade = task.quality.as_ref().map(|quality| quality.grade.words());
    let auroc = task.model.as_ref().and_then(|model| model.auroc);
    let figures = auroc.map_or_else(String::new, |auroc| {
        format!(
            ", AUROC {:.3} ({:.3} to {:.3}) on validation",
            auroc.value, auroc.low, auroc.high
        )
    });
    let evidence = format!(
        "{} outcomes of {} entities",
        task.outcomes, task.positive_entities
    );
    format!("{}{figures}, {evidence}", grade.unwrap_or("not graded"))
}

/// A market that runs, with its watcher.
struct Show<'a> {
    deployment: &'a Deployment,
    feeder: Feeder,
    /// Name of the task that is shown.
    task: &'a str,
    /// Table of the task's entities.
    entity: &'a str,
    history_end_ms: i64,
    stop: &'a AtomicBool,
}

impl Show<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Feeds everything known before the market is watched.
    fn feed_history(&mut self) -> Result<()> {
        let end_ms = self.history_end_ms;
        while self.feeder.peek_ms().is_some_and(|t| t < end_ms) && !self.is_stopped() {
            self.feeder.send_until(end_ms - 1, FEED_ROWS)?;
            self.feeder.flush()?;
            await_taken(self.deployment, self.feeder.sent)?;
        }
        say!(
            "history  {} records up to {}",
            self.feeder.sent,
            date(end_ms)
        );
        Ok(())
    }

    /// Feeds the market at its pace (days a second) and prints alerts and scores, until the limit
    /// or Ctrl-C. Returns the alerts printed.
    fn watch(&mut self, pace: f64, limit: Option<Duration>) -> Result<u64> {
        let read_model = &self.deployment.read_model;
        let started = Instant::now();
        let mut seen: HashSet<String> = HashSet::new();
        for alert in &read_model.alerts(1000).1 {
            seen.insert(alert.record.alert_id.clone());
        }
        let (mut alerts, mut shown) = (0_u64, Instant::now());
        while limit.is_none_or(|limit| started.elapsed() < limit) && !self.is_stopped() {
            if self.deployment.is_finished() {
                break;
            }
            let passed_ms = started.elapsed().as_secs_f64() * pace * DAY_MS_F64;
            self.feeder
                .send_until(self.history_end_ms + passed_ms as i64, FEED_ROWS)?;
            for alert in read_model.alerts(50).1.iter().rev() {
                if seen.insert(alert.record.alert_id.clone()) {
                    alerts += 1;
                    show_alert(&alert.record);
                }
            }
            if shown.elapsed() > Duration::from_secs(5) {
                show_top(read_model, self.task, self.entity);
                shown = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.feeder.flush()?;
        show_top(read_model, self.task, self.entity);
        Ok(alerts)
    }
}

fn show_alert(alert: &Alert) {
    say!(
        "ALERT    {}  {} {}",
        date(alert.as_of),
        alert.severity.0,
        alert.summary.as_deref().unwrap_or_default()
    );
}

/// Waits until the engine has committed all records sent, two minutes at most.
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
    for (rank, shown) in page.scores.iter().enumerate() {
        let score = &shown.record;
        let arrow = match score.trend.0 {
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
            shown.name.as_deref().unwrap_or(""),
            100.0 * p,
            score.band.as_deref().unwrap_or("")
        );
    }
    say!("");
}
