//! `leadpulse explain`

use anyhow::{Context, Result};
use serde::Serialize;

use leadpulse_engine::{Driver, drivers};
use leadpulse_features::Scorer;
use leadpulse_learn::PastExplanation;
use leadpulse_model::Bundle;
use leadpulse_policy::Policy;
use leadpulse_schema::units::AsOf;

use crate::commands::{HistoryArguments, LoadedHistory, date, parse_moment, task};
use crate::data_report::data_report;
use crate::progress::Bar;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub struct ExplainArguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// The task.
    #[arg(long)]
    task: String,
    /// The moment: nothing known later is used.
    #[arg(long, value_parser = parse_moment)]
    as_of: i64,
    /// One JSON object a line instead of a page.
    #[arg(long)]
    json: bool,
    /// Keys of the task's entities.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

/// An entity's score at a moment, with its reasons.
#[derive(Serialize)]
struct PastScore {
    task: String,
    entity_type: String,
    entity_id: String,
    /// Label of the entity, or of its account.
    name: Option<String>,
    /// The moment, milliseconds since 1970.
    as_of: i64,
    status: &'static str,
    /// The reason for `ineligible`; `None` where the entity is scored.
    reason: Option<String>,
    probability: Option<f64>,
    logit: Option<f64>,
    base_logit: Option<f64>,
    drivers: Vec<Driver>,
}

impl ExplainArguments {
    pub fn run(self) -> Result<()> {
        let LoadedHistory {
            loaded,
            project,
            files,
            bundle,
        } = self.history.load(std::slice::from_ref(&self.task))?;
        let task = task(&project, &self.task)?;
        let configured = loaded
            .config
            .tasks
            .iter()
            .find(|t| t.name == task.name)
            .expect("tasks are planned from the configuration");
        let policy = configured
            .policy
            .validated()
            .with_context(|| format!("task {:?}", task.name))?;
        let job = leadpulse_learn::Explain {
            project: &project,
            task,
            files: &files,
            scorer: &bundle,
            as_of: AsOf::from_ms(self.as_of),
        };
        let mut bar = Bar::new();
        let explained = leadpulse_learn::explain(&job, &self.keys, &mut |p| bar.show(p));
        bar.finish();
        let entity_type = &project.catalog.table_at(task.plan.entity).name;
        let explained = explained?;
        // Standard output is for the explanations, which may be JSON.
        eprint!("{}", data_report(&project.catalog, &explained.data));
        for (index, entity) in explained.entities.into_iter().enumerate() {
            let told = self.past_score(&bundle, entity_type, entity);
            if self.json {
                say!("{}", serde_json::to_string(&told)?);
                continue;
            }
            if index > 0 {
                say!("");
            }
            show(&told, &policy);
        }
        Ok(())
    }

    fn past_score(&self, bundle: &Bundle, entity_type: &str, entity: PastExplanation) -> PastScore {
        let why = entity.why.as_ref();
        let drivers = why.map_or_else(Vec::new, |why| {
            let contributions: Vec<f64> = why
                .explanation
                .contributions
                .iter()
                .map(|part| part.logit)
                .collect();
            drivers(
                &contributions,
                &why.evidence,
                &bundle.plan().layout().groups,
            )
        });
        PastScore {
            task: self.task.clone(),
            entity_type: entity_type.to_owned(),
            entity_id: entity.key,
            name: entity.name,
            as_of: self.as_of,
            status: if entity.absence.is_none() {
                "scored"
            } else {
                "ineligible"
            },
            reason: entity.absence,
            probability: why.map(|why| why.probability),
            logit: why.map(|why| why.explanation.logit),
            base_logit: why.map(|why| why.explanation.base_logit),
            drivers,
        }
    }
}

/// Prints a page for people.
fn show(told: &PastScore, policy: &Policy) {
    say!("entity      {} of {}", told.entity_id, told.entity_type);
    if let Some(name) = &told.name {
        say!("name        {name}");
    }
    say!("task        {} as of {}", told.task, date(told.as_of));
    if let Some(reason) = &told.reason {
        say!("ineligible  {reason}");
    }
    let (Some(probability), Some(logit), Some(base_logit)) =
        (told.probability, told.logit, told.base_logit)
    else {
        return;
    };
    say!("probability {probability:.4}");
    if let Some(band) = policy
        .bands()
        .filter(|band| probability >= band.enter)
        .last()
    {
        say!("band        {}", band.name);
    }
    say!("logit       {logit:+.3}, of which {base_logit:+.3} before anything below");
    for driver in &told.drivers {
        let share = format!("{} %", driver.share);
        let value = driver
            .value
            .as_ref()
            .map_or_else(String::new, |value| format!(": {value}"));
        say!(
            "{:>+8.3} {share:>6}  {}{value}",
            driver.contribution,
            driver.label
        );
        for line in &driver.evidence {
            say!("                   {line}");
        }
    }
}
