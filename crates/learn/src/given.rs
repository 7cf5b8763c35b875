//! Given rows: entities, moments and perhaps outcomes from a file, for `train --rows` and
//! `backtest --rows` alike.

use std::path::Path;

use leadpulse_pql::TargetKind;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::{InferError, TextRow, TextTable};

use crate::LearnError;
use crate::collect::Split;

/// Names of the columns of given rows. `None` takes the first usual name that the file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenColumns {
    /// The entity's key. Usual: the key field of the task's table, `key`, `entity_id`, `entity`.
    pub entity: Option<String>,
    /// The moment: features are those known then. Usual: `timestamp`, `time`, `anchor`, `as_of`.
    pub time: Option<String>,
    /// The outcome: 0, 1, true or false; a number for a regression. Usual: `label`.
    pub label: Option<String>,
    /// A weight of 0 or more; unnamed, every row has 1.
    pub weight: Option<String>,
    /// `train` or `validation`; unnamed, time divides.
    pub split: Option<String>,
    /// The row's task, where there are several. Usual: `task`.
    pub task: Option<String>,
}

/// A fault of given rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file is no table.
    #[error(transparent)]
    File(#[from] InferError),
    /// The file has a header at most.
    #[error("{file} has no rows; write one row for each entity and moment, below a header")]
    Empty { file: String },
    /// A column is missing.
    #[error("{file} has no column {wanted}; it has {found}; name the column with {option}")]
    MissingColumn {
        file: String,
        /// The names that would do.
        wanted: String,
        /// The columns that the file has.
        found: String,
        /// The option of the command that names the column.
        option: &'static str,
    },
    /// A value cannot be read.
    #[error("{file}, line {line}, column {column}: {value:?} is not {expected}")]
    Value {
        file: String,
        /// The line, from 1.
        line: u64,
        column: String,
        value: String,
        /// The expected value and the remedy, for people.
        expected: String,
    },
}

/// A row of a file of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenRow {
    /// Index of the row's task among those asked for.
    pub task: usize,
    /// The entity's key, as rows of its table have it.
    pub key: String,
    /// Milliseconds.
    pub at_ms: i64,
    /// The outcome; `None` where the row has none.
    pub label: Option<f64>,
    pub weight: f32,
    /// Whether the row is of validation; `None` where time decides.
    pub is_validation: Option<bool>,
}

/// The rows of a file, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenRows {
    pub(crate) file: String,
    table: TextTable,
    pub(crate) rows: Vec<GivenRow>,
    has_labels: bool,
}

/// The places of the columns that matter.
struct Places<'a> {
    file: &'a str,
    columns: &'a [String],
    /// The name of the column of keys, if one was given.
    entity: Option<&'a String>,
    time: usize,
    label: Option<usize>,
    weight: Option<usize>,
    split: Option<usize>,
    /// `None` where one task is asked for.
    task: Option<usize>,
}

impl GivenRows {
    /// Reads a file: delimited text, JSON Lines or Parquet, by its name.
    ///
    /// # Errors
    /// A file that cannot be read or has no rows, a missing column, or a value that means nothing.
    pub fn read(
        path: &Path,
        columns: &GivenColumns,
        project: &Project,
        tasks: &[&TaskPlan],
    ) -> Result<Self, RowsError> {
        let file = path.display().to_string();
        Self::of_table(file, TextTable::read(path)?, columns, project, tasks)
    }

    /// Reads a table; `file` is its name in messages.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_table(
        file: String,
        table: TextTable,
        columns: &GivenColumns,
        project: &Project,
        tasks: &[&TaskPlan],
    ) -> Result<Self, RowsError> {
        if table.rows.is_empty() {
            return Err(RowsError::Empty { file });
        }
        let places = Places::of(&file, &table.columns, columns, tasks)?;
        let rows = table.rows.iter();
        let rows = rows.map(|row| places.row(row, project, tasks));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let has_labels = places.label.is_some();
        Ok(Self {
            rows,
            has_labels,
            file,
            table,
        })
    }

    /// The rows, in the file's order.
    pub fn rows(&self) -> &[GivenRow] {
        &self.rows
    }

    /// The file's rows as they were written.
    pub(crate) fn table(&self) -> &TextTable {
        &self.table
    }

    /// True if the file has a column of outcomes.
    pub fn has_labels(&self) -> bool {
        self.has_labels
    }

    /// Ends a training whose rows have no outcomes, or not all of them.
    ///
    /// # Errors
    /// [`LearnError::Given`] with the number of rows without one.
    pub(crate) fn refuse_unlabelled(&self) -> Result<(), LearnError> {
        let unlabelled = self.rows.iter().filter(|row| row.label.is_none()).count();
        match (self.has_labels, unlabelled) {
            (true, 0) => Ok(()),
            (false, _) => Err(LearnError::Given(format!(
                "{} has no column of outcomes, and nothing can be learnt without; it has {}; name \
                 the column with --label-column",
                self.file,
                self.table.columns.join(", ")
            ))),
            (true, _) => Err(LearnError::Given(format!(
                "{} of the {} rows of {} have no outcome; leave them out, or give them one",
                unlabelled,
                self.rows.len(),
                self.file
            ))),
        }
    }

    /// The split of the rows: validation starts at `val_from_ms`, or with the first row that its
    /// column puts there, or after three quarters of the rows.
    ///
    /// # Errors
    /// [`LearnError::Split`] if one of the parts has no row.
    pub(crate) fn split(&self, val_from_ms: Option<i64>) -> Result<Split, LearnError> {
        let mut times_ms: Vec<i64> = self.rows.iter().map(|row| row.at_ms).collect();
        times_ms.sort_unstable();
        let named = self.rows.iter().filter(|r| r.is_validation == Some(true));
        let named_ms = named.map(|row| row.at_ms).min();
        let late_ms = times_ms[times_ms.len() * 3 / 4];
        let split = Split {
            val_from_ms: val_from_ms.or(named_ms).unwrap_or(late_ms),
            test_from_ms: times_ms[times_ms.len() - 1] + 1,
        };
        let in_validation = self.rows.iter().filter(|row| row.is_in(split)).count();
        if in_validation == 0 || in_validation == self.rows.len() {
            return Err(LearnError::Split(format!(
                "of the {} rows of {} {in_validation} are of validation; choose --val-from within \
                 their times, or name a column of `train` and `validation` with --split-column",
                self.rows.len(),
                self.file
            )));
        }
        Ok(split)
    }
}

impl GivenRow {
    /// True for a row of validation.
    pub(crate) fn is_in(&self, split: Split) -> bool {
        self.is_validation
            .unwrap_or(self.at_ms >= split.val_from_ms)
    }
}

/// The place of a column: of the one that was named, else of the first usual one.
fn place(
    (file, columns): (&str, &[String]),
    named: Option<&String>,
    usual: &[&str],
    option: &'static str,
) -> Result<usize, RowsError> {
    let wanted: Vec<&str> = match named {
        Some(name) => vec![name],
        None => usual.to_vec(),
    };
    let mut places = wanted
        .iter()
        .filter_map(|name| columns.iter().position(|column| column == name));
    places.next().ok_or_else(|| RowsError::MissingColumn {
        file: file.to_owned(),
        wanted: wanted.join(" or "),
        found: columns.join(", "),
        option,
    })
}

impl<'a> Places<'a> {
    fn of(
        file: &'a str,
        columns: &'a [String],
        names: &'a GivenColumns,
        tasks: &[&TaskPlan],
    ) -> Result<Self, RowsError> {
        let at = (file, columns);
        let optional = |named: &Option<String>, option| match named {
            Some(_) => place(at, named.as_ref(), &[], option).map(Some),
            None => Ok(None),
        };
        let times = ["timestamp", "time", "anchor", "as_of"];
        let one_task = "--task-column, or one task with --task";
        Ok(Self {
            file,
            columns,
            entity: names.entity.as_ref(),
            time: place(at, names.time.as_ref(), &times, "--time-column")?,
            label: match &names.label {
                None => columns.iter().position(|column| column == "label"),
                named => optional(named, "--label-column")?,
            },
            weight: optional(&names.weight, "--weight-column")?,
            split: optional(&names.split, "--split-column")?,
            task: match tasks {
                [_] => optional(&names.task, "--task-column")?,
                _ => Some(place(at, names.task.as_ref(), &["task"], one_task)?),
            },
        })
    }

    /// The column of a task's keys. Tasks of several tables may each have one.
    fn key(&self, project: &Project, task: &TaskPlan) -> Result<usize, RowsError> {
        let table = project.catalog.table_at(task.plan.entity);
        let field = table.field_at(table.key).name.as_str();
        let usual = [field, "key", "entity_id", "entity"];
        place(
            (self.file, self.columns),
            self.entity,
            &usual,
            "--entity-column",
        )
    }

    fn row(
        &self,
        row: &TextRow,
        project: &Project,
        tasks: &[&TaskPlan],
    ) -> Result<GivenRow, RowsError> {
        let task = self.task(row, tasks)?;
        let plan = tasks[task];
        let key_column = self.key(project, plan)?;
        let key = self.text(row, key_column);
        if key.is_empty() {
            return Err(self.wrong(row, key_column, "a key; leave the row out"));
        }
        let at_ms = leadpulse_schema::parse_time_ms(self.text(row, self.time));
        let at_ms = at_ms.ok_or_else(|| {
            let expected = "a time: YYYY-MM-DD, YYYY-MM-DD HH:MM:SS, RFC 3339 or epoch \
                            milliseconds";
            self.wrong(row, self.time, expected)
        })?;
        Ok(GivenRow {
            task,
            key: project
                .catalog
                .normalised_key(plan.plan.entity, key)
                .into_owned(),
            at_ms,
            label: self.label(row, plan)?,
            weight: self.weight(row)?,
            is_validation: self.is_validation(row)?,
        })
    }

    /// A cell without spaces around; empty for none.
    fn text<'r>(&self, row: &'r TextRow, column: usize) -> &'r str {
        row.cells[column].as_deref().unwrap_or_default().trim()
    }

    fn wrong(&self, row: &TextRow, column: usize, expected: impl Into<String>) -> RowsError {
        RowsError::Value {
            file: self.file.to_owned(),
            line: row.line,
            column: self.columns[column].clone(),
            value: self.text(row, column).to_owned(),
            expected: expected.into(),
        }
    }

    /// The index of a row's task.
    fn task(&self, row: &TextRow, tasks: &[&TaskPlan]) -> Result<usize, RowsError> {
        let Some(column) = self.task else {
            return Ok(0);
        };
        let name = self.text(row, column);
        let found = tasks.iter().position(|task| task.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            let expected = format!("a task asked for: {}", names.join(", "));
            self.wrong(row, column, expected)
        })
    }

    /// The outcome of a row; `None` without a column, or where its cell is empty.
    fn label(&self, row: &TextRow, task: &TaskPlan) -> Result<Option<f64>, RowsError> {
        let Some(column) = self.label else {
            return Ok(None);
        };
        let text = self.text(row, column);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        if task.plan.target.kind() == TargetKind::Regression {
            let expected = "a number, which the task predicts";
            let label = number.ok_or_else(|| self.wrong(row, column, expected))?;
            return Ok(Some(label));
        }
        let label = match text.to_ascii_lowercase().as_str() {
            "true" => Some(1.0),
            "false" => Some(0.0),
            _ => number.filter(|number| [0.0, 1.0].contains(number)),
        };
        let expected = "0, 1, true or false, which the task predicts";
        let label = label.ok_or_else(|| self.wrong(row, column, expected))?;
        Ok(Some(label))
    }

    fn weight(&self, row: &TextRow) -> Result<f32, RowsError> {
        let Some(column) = self.weight else {
            return Ok(1.0);
        };
        let weight = self.text(row, column).parse::<f32>().ok();
        let weight = weight.filter(|weight| *weight >= 0.0 && weight.is_finite());
        weight.ok_or_else(|| self.wrong(row, column, "a weight of 0 or more"))
    }

    fn is_validation(&self, row: &TextRow) -> Result<Option<bool>, RowsError> {
        let Some(column) = self.split else {
            return Ok(None);
        };
        match self.text(row, column).to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Some(false)),
            "validation" | "val" => Ok(Some(true)),
            _ => Err(self.wrong(row, column, "train or validation; leave other rows out")),
        }
    }
}
