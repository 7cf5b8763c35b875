//! `leadpulse alerts`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use leadpulse_deployment::{Loaded, Rehearsal, Rehearsed};
use leadpulse_features::Scorer;
use leadpulse_learn::{Aftermath, Aftermaths, EntityMoment, Extent, Progress, survey};
use leadpulse_model::Bundle;
use leadpulse_policy::CapOptions;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::DAY_MS;

use crate::alert_figures::{AlertFigures, JudgedAlert, Judgement, news};
use crate::alert_table;
use crate::commands::{HistoryArguments, LoadedHistory, date, parse_moment};
use crate::progress::Bar;

/// Arguments of `alerts`.
#[derive(clap::Subcommand)]
pub enum AlertsArguments {
    /// Counts and judges the alerts that a policy would have sent, from files.
    Simulate(SimulateAlertsArguments),
}

impl AlertsArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Simulate(command) => command.run(),
        }
    }
}

/// Arguments of `alerts simulate`.
#[derive(clap::Args)]
pub struct SimulateAlertsArguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// Days in which alerts fire, at the end of the files or before --until.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Alerts fire until this moment; later rows only tell what came of them. By default the end of
    /// the files.
    #[arg(long, value_parser = parse_moment, value_name = "MOMENT")]
    until: Option<i64>,
    /// Another configuration whose policies and caps are put beside those of --config.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also print every alert with its sentence.
    #[arg(long)]
    list: bool,
}

/// The period in which alerts fire, milliseconds.
#[derive(Clone, Copy)]
struct AlertPeriod {
    from_ms: i64,
    until_ms: i64,
    extent: Extent,
}

/// A policy with its alerts.
struct Tried {
    policy: String,
    found: Rehearsed,
    news: Vec<JudgedAlert>,
}

/// The findings, as `--json` prints them.
#[derive(Serialize)]
struct Found<'a> {
    policies: &'a [AlertFigures],
    /// Alerts by policy, with `--list`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<&'a [JudgedAlert]>,
}

impl SimulateAlertsArguments {
    fn run(self) -> Result<()> {
        let history = self.history.load(&[])?;
        let other = self.policy.as_deref();
        let other = other.map(|path| Loaded::read(path, &[])).transpose()?;
        let LoadedHistory {
            loaded,
            project,
            files,
            bundle,
        } = history;
        let period = self.period(survey(&project, &files, None)?.extent)?;
        let bundle = Arc::new(bundle);
        let tasks = judged_tasks(&project, &bundle);
        let mut bar = Bar::new();
        let mut tried = Vec::new();
        for policies in std::iter::once(&loaded).chain(&other) {
            let job = Rehearsal {
                loaded: policies,
                project: &project,
                files: &files,
                scorer: bundle.clone(),
                caps: without_cap().checked()?,
                live_from_ms: period.from_ms,
                until_ms: period.until_ms,
            };
            tried.push(rehearse(&job, period.extent.rows, &mut bar)?);
        }
        let outcomes = Aftermaths {
            project: &project,
            tasks: &tasks,
            files: &files,
            extent: period.extent,
            period_ms: (period.from_ms, period.until_ms),
        };
        let figures = judged(&outcomes, &mut tried, &mut bar)?;
        bar.finish();
        self.print(&figures, &tried)?;
        if !self.json {
            advise(&figures, &tasks, period.extent);
        }
        Ok(())
    }

    fn period(&self, extent: Extent) -> Result<AlertPeriod> {
        let until_ms = self.until.unwrap_or(extent.last_ms).min(extent.last_ms);
        let from_ms = until_ms - i64::from(self.days) * DAY_MS;
        if from_ms <= extent.first_ms {
            bail!(
                "the files begin on {}, and {} days before {} there is no history to score by; \
                 give fewer --days, a later --until, or older files",
                date(extent.first_ms),
                self.days,
                date(until_ms)
            );
        }
        Ok(AlertPeriod {
            from_ms,
            until_ms,
            extent,
        })
    }

    fn print(&self, figures: &[AlertFigures], tried: &[Tried]) -> Result<()> {
        if self.json {
            let listed = tried.iter().filter(|_| self.list);
            let found = Found {
                policies: figures,
                alerts: listed.map(|one| &one.news[..]).collect(),
            };
            say!("{}", serde_json::to_string_pretty(&found)?);
            return Ok(());
        }
        for line in alert_table::lines(figures) {
            say!("{line}");
        }
        for one in tried.iter().filter(|_| self.list) {
            say!("");
            say!("{}", one.policy);
            for alert in &one.news {
                say!("{}", alert_table::listed(alert));
            }
        }
        Ok(())
    }
}

/// Caps are counted afterwards, so that alerts beyond them are seen too.
fn without_cap() -> CapOptions {
    CapOptions {
        per_owner_and_day: None,
        ..CapOptions::default()
    }
}

/// The tasks of the project that the bundle predicts.
fn judged_tasks<'a>(project: &'a Project, bundle: &Bundle) -> Vec<&'a TaskPlan> {
    let is_predicted = |task: &&TaskPlan| bundle.tasks().iter().any(|t| t.name == task.name);
    project.tasks.iter().filter(is_predicted).collect()
}

fn rehearse(job: &Rehearsal<'_>, of: u64, bar: &mut Bar) -> Result<Tried> {
    let path = job.loaded.path.display();
    let found = job
        .run(&mut |rows| bar.show(Progress::Replay { rows, of }))
        .with_context(|| format!("the policies of {path} cannot be tried"))?;
    let news = news(&found, &job.loaded.config.alerts.caps);
    Ok(Tried {
        policy: path.to_string(),
        found,
        news,
    })
}

/// Reads what came after the alerts of all policies, in one pass.
fn judged(
    outcomes: &Aftermaths<'_>,
    tried: &mut [Tried],
    bar: &mut Bar,
) -> Result<Vec<AlertFigures>> {
    let mut moments = Vec::new();
    for alert in tried.iter().flat_map(|one| &one.news) {
        let mut tasks = outcomes.tasks.iter();
        let task = tasks.position(|task| task.name == alert.task);
        moments.push(EntityMoment {
            task: task.expect("alerts are of the bundle's tasks"),
            key: alert.entity_id.clone(),
            at_ms: alert.at,
        });
    }
    let (aftermaths, tallies) = outcomes.read(&moments, &mut |p| bar.show(p))?;
    let tasks = outcomes.tasks.iter().zip(&tallies);
    let base_rates: BTreeMap<String, Option<f64>> = tasks
        .map(|(task, tally)| (task.name.clone(), tally.base_rate()))
        .collect();
    let mut rest: &[Aftermath] = &aftermaths;
    let mut figures = Vec::new();
    for one in tried {
        let (own, others) = rest.split_at(one.news.len());
        rest = others;
        let judgement = Judgement {
            policy: one.policy.clone(),
            found: &one.found,
            news: &mut one.news,
            aftermaths: own,
            base_rates: &base_rates,
        };
        figures.push(judgement.figures());
    }
    Ok(figures)
}

/// Says what to do where figures are absent.
fn advise(figures: &[AlertFigures], tasks: &[&TaskPlan], extent: Extent) {
    for one in figures.iter().filter(|one| one.all.alerts == 0) {
        say!(
            "{} sends nothing: set threshold_up or [[tasks.policy.alerts]], lower a threshold, or \
             look at held back",
            one.policy
        );
    }
    let is_open = |one: &AlertFigures| one.all.open > 0 && one.all.closed == 0;
    if figures.iter().any(is_open) {
        let horizons = tasks.iter().map(|task| task.plan.horizon_ms);
        let longest_ms = horizons.max().unwrap_or_default();
        say!(
            "no window has ended, so nothing is right or wrong yet: give --until {} or earlier",
            &date(extent.last_ms - longest_ms)[..10]
        );
    }
}
