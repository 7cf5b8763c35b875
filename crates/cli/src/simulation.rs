//! A simulation of alerts: what policies would have sent, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use leadpulse_deployment::{Loaded, Rehearsal, Rehearsed};
use leadpulse_features::Scorer;
use leadpulse_learn::{
    Aftermath, Aftermaths, EntityMoment, Extent, Lateness, Progress, Survey, survey,
};
use leadpulse_model::Bundle;
use leadpulse_policy::CapOptions;
use leadpulse_project::TaskPlan;
use leadpulse_schema::units::DAY_MS;

use crate::alert_figures::{AlertFigures, JudgedAlert, Judgement, news};
use crate::commands::{LoadedHistory, date};

/// The period in which alerts fire, unless a request says another: days.
pub const DEFAULT_DAYS: u32 = 30;

/// A history, with the period in which alerts fire.
pub struct Simulation {
    pub history: LoadedHistory<Arc<Bundle>>,
    pub extent: Extent,
    lateness: Lateness,
    from_ms: i64,
    until_ms: i64,
}

/// A policy with its alerts.
pub struct Tried {
    pub policy: String,
    found: Rehearsed,
    pub news: Vec<JudgedAlert>,
}

/// The findings: figures by policy, and their alerts.
pub struct Simulated {
    pub figures: Vec<AlertFigures>,
    pub tried: Vec<Tried>,
}

impl Simulation {
    /// Looks at the files. Alerts fire for some days before a moment, or before the files' end.
    ///
    /// # Errors
    /// Files that cannot be read, or that do not reach back before the period.
    pub fn new(history: LoadedHistory, days: u32, until_ms: Option<i64>) -> Result<Self> {
        let LoadedHistory {
            loaded,
            project,
            files,
            bundle,
        } = history;
        let Survey {
            extent, lateness, ..
        } = survey(&project, &files, None)?;
        let until_ms = until_ms.unwrap_or(extent.last_ms).min(extent.last_ms);
        let from_ms = until_ms - i64::from(days) * DAY_MS;
        if from_ms <= extent.first_ms {
            bail!(
                "the files begin on {}, and {days} days before {} there is no history to score by; \
                 give fewer days, a later until, or older files",
                date(extent.first_ms),
                date(until_ms)
            );
        }
        Ok(Self {
            history: LoadedHistory {
                loaded,
                project,
                files,
                bundle: Arc::new(bundle),
            },
            extent,
            lateness,
            from_ms,
            until_ms,
        })
    }

    /// The tasks of the project that the bundle predicts.
    pub fn tasks(&self) -> Vec<&TaskPlan> {
        let LoadedHistory {
            project, bundle, ..
        } = &self.history;
        let is_predicted = |task: &&TaskPlan| bundle.tasks().iter().any(|t| t.name == task.name);
        project.tasks.iter().filter(is_predicted).collect()
    }

    /// Tries the policies of the history's configuration, then those of `others`. A name stands
    /// for each of them in the findings.
    ///
    /// # Errors
    /// Policies that do not fit; files that cannot be read on.
    pub fn run(
        &self,
        others: &[(String, Loaded)],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Simulated> {
        let own = &self.history.loaded;
        let mut tried = vec![self.rehearse(&own.path.display().to_string(), own, progress)?];
        for (name, other) in others {
            tried.push(self.rehearse(name, other, progress)?);
        }
        let tasks = self.tasks();
        let outcomes = Aftermaths {
            project: &self.history.project,
            tasks: &tasks,
            files: &self.history.files,
            extent: self.extent,
            lateness: &self.lateness,
            period_ms: (self.from_ms, self.until_ms),
        };
        let figures = judged(&outcomes, &mut tried, progress)?;
        Ok(Simulated { figures, tried })
    }

    fn rehearse(
        &self,
        name: &str,
        policies: &Loaded,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tried> {
        let job = Rehearsal {
            loaded: policies,
            project: &self.history.project,
            files: &self.history.files,
            scorer: self.history.bundle.clone(),
            caps: without_cap().checked()?,
            live_from_ms: self.from_ms,
            until_ms: self.until_ms,
        };
        let of = self.extent.rows;
        let found = job
            .run(&mut |rows| progress(Progress::Replay { rows, of }))
            .with_context(|| format!("the policies of {name} cannot be tried"))?;
        let news = news(&found, &policies.config.alerts.caps);
        Ok(Tried {
            policy: name.to_owned(),
            found,
            news,
        })
    }
}

impl Simulated {
    /// The findings as JSON: figures by policy, and with `listed` every alert.
    pub fn json(&self, listed: bool) -> Result<serde_json::Value> {
        #[derive(Serialize)]
        struct Found<'a> {
            policies: &'a [AlertFigures],
            #[serde(skip_serializing_if = "Vec::is_empty")]
            alerts: Vec<&'a [JudgedAlert]>,
        }
        let alerts = self.tried.iter().filter(|_| listed);
        Ok(serde_json::to_value(Found {
            policies: &self.figures,
            alerts: alerts.map(|one| &one.news[..]).collect(),
        })?)
    }
}

/// Caps are counted afterwards, so that alerts beyond them are seen too.
fn without_cap() -> CapOptions {
    CapOptions {
        per_owner_and_day: None,
        ..CapOptions::default()
    }
}

/// Reads what came after the alerts of all policies, in one pass.
fn judged(
    outcomes: &Aftermaths<'_>,
    tried: &mut [Tried],
    progress: &mut dyn FnMut(Progress),
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
    let (aftermaths, tallies) = outcomes.read(&moments, progress)?;
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
