//! A file of rows of the user's own: `--rows` and the names of its columns.

use std::path::PathBuf;

use anyhow::Result;

use leadpulse_learn::{GivenColumns, GivenRows};
use leadpulse_project::{Project, TaskPlan};

/// `--rows`, and the columns that `train` and `backtest` both take.
#[derive(clap::Args)]
pub struct RowsArguments {
    /// Rows of your own (CSV, JSON Lines or Parquet, by the name), in place of the task's anchors:
    /// an entity's key, a moment and, to learn or to judge, an outcome.
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// Column of keys, with --rows; by default the key field of the task's table, or `key`,
    /// `entity_id`, `entity`.
    #[arg(long, value_name = "NAME", requires = "rows")]
    entity_column: Option<String>,
    /// Column of moments, with --rows; by default `timestamp`, `time`, `anchor` or `as_of`.
    #[arg(long, value_name = "NAME", requires = "rows")]
    time_column: Option<String>,
    /// Column of outcomes, with --rows: 0, 1, true, false; of a task that predicts a number, a
    /// number. By default `label`.
    #[arg(long, value_name = "NAME", requires = "rows")]
    label_column: Option<String>,
}

impl RowsArguments {
    /// The rows of the file; `None` without one. `others` names columns beyond the three.
    pub fn read(
        &self,
        others: GivenColumns,
        project: &Project,
        tasks: &[&TaskPlan],
    ) -> Result<Option<GivenRows>> {
        let Some(path) = &self.rows else {
            return Ok(None);
        };
        let columns = GivenColumns {
            entity: self.entity_column.clone(),
            time: self.time_column.clone(),
            label: self.label_column.clone(),
            ..others
        };
        Ok(Some(GivenRows::read(path, &columns, project, tasks)?))
    }
}
