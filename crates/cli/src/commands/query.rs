//! `leadpulse query`

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use leadpulse_learn::count_labels;
use leadpulse_project::{Anchors, Project, TaskSource};
use leadpulse_schema::units::{DAY_MS_F64, Span};

use crate::commands::train::unowned;
use crate::commands::{Allowance, ConfigArgument};
use crate::data_report::data_report;
use crate::nearest::known_names;
use crate::output::JsonArgument;

/// Arguments of `query`.
#[derive(clap::Args)]
pub struct QueryArguments {
    /// The query, or the name of a configured task.
    query: String,
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder with the sources' files; counts the labels in them.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    allowance: Allowance,
    /// Moments at which labels are taken, with --data.
    #[arg(long, default_value = "every 30d")]
    anchors: Anchors,
    #[command(flatten)]
    json: JsonArgument,
}

impl QueryArguments {
    /// Whether the text may be meant as the name of a task: a query has a verb and a table, a name is
    /// one word.
    fn is_name(&self) -> bool {
        let text = self.query.trim();
        let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
        is_word && !text.eq_ignore_ascii_case("predict")
    }

    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.config.load(&[])?;
        let configured = loaded.config.tasks.iter().find(|t| t.name == self.query);
        let source = match configured {
            Some(task) => TaskSource {
                name: task.name.clone(),
                query: task.query.trim().to_owned(),
                anchors: task.anchors,
                lateness_ms: task.lateness.map(Span::ms),
            },
            None if self.is_name() && !loaded.config.tasks.is_empty() => {
                let known = loaded.config.tasks.iter().map(|t| t.name.as_str());
                bail!(
                    "the configuration has no task {:?}; {}",
                    self.query,
                    known_names(&self.query, known)
                );
            }
            None => TaskSource {
                name: "query".into(),
                query: self.query.clone(),
                anchors: self.anchors,
                lateness_ms: None,
            },
        };
        let project = Project::new(
            loaded.catalog()?,
            loaded.config.graph.clone(),
            &[source],
            &loaded.config.targets,
        )?;
        let task = &project.tasks[0];
        let plan = &task.plan;
        say!("query     {}", plan.text);
        say!("entity    {}", project.catalog.table_at(plan.entity).name);
        say!("horizon   {} days", plan.horizon_ms as f64 / DAY_MS_F64);
        for (index, line) in plan.describe(&project.catalog).iter().enumerate() {
            say!("{:<10}{line}", if index == 0 { "meaning" } else { "" });
        }
        for lint in &plan.lints {
            say!("remark    {lint}");
        }
        let mut figures = json!({
            "query": plan.text,
            "entity": project.catalog.table_at(plan.entity).name,
            "horizon_days": plan.horizon_ms as f64 / DAY_MS_F64,
            "meaning": plan.describe(&project.catalog),
        });
        if let Some(data) = &self.data {
            let files = self.allowance.open(&loaded, &project.catalog, data)?;
            let count = count_labels(&project, task, &files)?;
            for lint in task.lints_on(count.extent.first_ms, count.extent.last_ms) {
                say!("remark    {lint}");
            }
            let tally = &count.tally;
            say!(
                "labels    {} at {} anchors ({})",
                tally.labelled,
                count.anchors,
                String::from(task.anchors)
            );
            say!(
                "base rate {:.4} ({} positive)",
                tally.base_rate().unwrap_or(0.0),
                tally.positive
            );
            say!(
                "entities  {} with a label, {} with a positive one",
                tally.entities,
                tally.positive_entities
            );
            if tally.dropped > 0 {
                say!(
                    "dropped   {} without an outcome (nothing in the window, or the assumption did not come true)",
                    tally.dropped
                );
            }
            let (positive, negative) = (count.ties.positive, count.ties.negative);
            if positive.early + negative.early > 0 {
                let filled_in = count.ties.filled_in;
                say!(
                    "backfill  {:.2} % of the events of positives and {:.2} % of negatives name their account before any row ties them to it; of those who had none, {} got it a week or more later, {} never{}",
                    positive.ratio() * 100.0,
                    negative.ratio() * 100.0,
                    filled_in.tied,
                    filled_in.untied,
                    if count.ties.is_leak() {
                        ": train refuses that"
                    } else {
                        ""
                    }
                );
            }
            if let Some(unowned) = unowned(tally) {
                say!("nobody's  {unowned}");
            }
            say!("{}", data_report(&project.catalog, &count.data).trim_end());
            figures["labels"] = json!({
                "labelled": tally.labelled,
                "positive": tally.positive,
                "base_rate": tally.base_rate(),
                "entities": tally.entities,
                "positive_entities": tally.positive_entities,
                "dropped": tally.dropped,
                "anchors": count.anchors,
            });
        }
        self.json.print(|| Ok(figures))
    }
}
