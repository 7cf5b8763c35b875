//! `leadpulse query`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use leadpulse_learn::{LabelBounds, count_labels, predicts_number};
use leadpulse_project::Anchors;
use leadpulse_schema::units::DAY_MS_F64;
use leadpulse_schema::utc;

use crate::commands::train::unowned;
use crate::commands::{Allowance, ConfigArgument};
use crate::data_report::data_report;
use crate::label_figures::{
    DEFAULT_ANCHORS, label_figures, project_of, query_figures, remarks, task_source,
};
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
    #[arg(long, default_value = DEFAULT_ANCHORS)]
    anchors: Anchors,
    /// Labels to list one by one, the earliest, with --data.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "data")]
    list: usize,
    #[command(flatten)]
    json: JsonArgument,
}

impl QueryArguments {
    fn bounds(&self) -> LabelBounds {
        LabelBounds {
            first: self.list,
            ..LabelBounds::COUNTS
        }
    }

    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.config.load(&[])?;
        let source = task_source(&loaded, &self.query, self.anchors)?;
        let project = project_of(&loaded, source)?;
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
        let mut figures = query_figures(&project, task);
        if let Some(data) = &self.data {
            let files = self.allowance.open(&loaded, &project.catalog, data)?;
            let count = count_labels(&project, task, &files, self.bounds())?;
            for lint in task.lints_on(count.extent.first_ms, count.extent.last_ms) {
                say!("remark    {lint}");
            }
            for remark in &count.remarks {
                say!("remark    {remark}");
            }
            let tally = &count.tally;
            say!(
                "labels    {} at {} anchors ({})",
                tally.labelled,
                count.anchors,
                String::from(task.anchors)
            );
            let (name, positive) = match predicts_number(task) {
                true => ("not zero ", "not zero"),
                false => ("base rate", "positive"),
            };
            let rate = tally.base_rate().unwrap_or(0.0);
            say!("{name} {rate:.4} ({} {positive})", tally.positive);
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
            for one in &count.first {
                let moment = utc(one.at_ms);
                say!("label     {} {moment} {}", one.entity, one.label);
            }
            figures["remarks"] = remarks(task, &count).into();
            figures["labels"] = label_figures(task, &count);
            figures["first"] = json!(count.first);
        }
        self.json.print(|| Ok(figures))
    }
}
