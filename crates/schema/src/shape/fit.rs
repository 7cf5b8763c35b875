//! The fit of a source: which fields its records fed, and names that nothing explained.

use std::collections::BTreeSet;

use super::plan::RowPlan;
use crate::catalog::Table;

/// Rows after which a field that nothing fed is reported.
const ENOUGH_ROWS: u64 = 1000;
/// Most names of changed fields that are remembered.
const MOST_NAMES: usize = 20;

/// A sentence about something of a source that no record fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitRemark {
    pub text: String,
    /// True for a configured path or a name of a changed field, which is likely a mistake; false
    /// for a field that the source may just not have.
    pub is_setting: bool,
}

/// Counts of one source's rows, by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct FitReport {
    rows: u64,
    fed: Vec<bool>,
    /// For each field the number of values that became null by choice, and the first of them.
    dropped: Vec<(u64, String)>,
    unexplained: BTreeSet<String>,
    is_told: bool,
}

impl FitReport {
    pub(crate) fn of(plan: &RowPlan) -> Self {
        FitReport {
            fed: vec![false; plan.targets.len()],
            dropped: vec![(0, String::new()); plan.targets.len()],
            ..FitReport::default()
        }
    }

    pub(crate) fn row(&mut self) {
        self.rows += 1;
    }
    pub(crate) fn feed(&mut self, field: usize) {
        self.fed[field] = true;
    }
    /// Counts a value that is not its field's and became null.
    pub(crate) fn drop_value(&mut self, field: usize, value: &str) {
        let (count, first) = &mut self.dropped[field];
        if *count == 0 {
            *first = value.chars().take(80).collect();
        }
        *count += 1;
    }
    pub(crate) fn unexplained(&mut self, names: Vec<String>) {
        let room = MOST_NAMES.saturating_sub(self.unexplained.len());
        self.unexplained.extend(names.into_iter().take(room));
    }

    /// True once there were enough rows for a report that was not made yet.
    pub(crate) fn is_due(&self) -> bool {
        !self.is_told && self.rows >= ENOUGH_ROWS
    }

    /// True once nothing further is counted.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_told
    }

    /// Marks the report as made.
    pub(crate) fn told(&mut self) {
        self.is_told = true;
    }

    /// True if a report was made, or there is nothing to report about.
    pub(crate) fn is_over(&self) -> bool {
        self.is_told || self.rows == 0
    }

    /// Sentences about configured paths that fitted no record, fields that nothing fed, and names
    /// of changed fields that nothing explained; empty where all is well. `unused` names columns
    /// that feed nothing: beside one, a field that nothing fed is likely a misspelt one.
    pub(crate) fn remarks(&self, plan: &RowPlan, table: &Table, unused: &[&str]) -> Vec<FitRemark> {
        let mut remarks = Vec::new();
        let remark = |text: String, is_setting: bool| FitRemark { text, is_setting };
        let mut unfed = Vec::new();
        for (index, field) in table.fields.iter().enumerate() {
            if let (count @ 1.., first) = &self.dropped[index] {
                let text = format!(
                    "{}: {count} of {} values of {} became null, by text.bad_value of the source; the first \
                     is '{first}'",
                    table.name, self.rows, field.name
                );
                remarks.push(remark(text, true));
            }
            if self.fed[index] {
                continue;
            }
            let paths: Vec<&str> = plan.mapped[index]
                .iter()
                .map(|path| path.as_str())
                .collect();
            if paths.is_empty() {
                unfed.push(field.name.as_str());
            } else {
                let text = format!(
                    "{}: no record of {} had a value at {} for {}; correct columns in its source",
                    table.name,
                    self.rows,
                    paths.join(" or "),
                    field.name
                );
                remarks.push(remark(text, true));
            }
        }
        if !unfed.is_empty() {
            let beside = match unused {
                [] => String::new(),
                names => format!(", and {} feeds nothing", names.join(", ")),
            };
            let text = format!(
                "{}: no record of {} fed {}{beside}; map each with columns, or leave it out of the \
                 schema",
                table.name,
                self.rows,
                unfed.join(", ")
            );
            remarks.push(remark(text, !unused.is_empty()));
        }
        if !self.unexplained.is_empty() {
            let names: Vec<&str> = self.unexplained.iter().map(String::as_str).collect();
            let text = format!(
                "{}: records name changed fields that neither the table nor the record has: {}; if a field \
                 comes from one, map it with columns",
                table.name,
                names.join(", ")
            );
            remarks.push(remark(text, true));
        }
        remarks
    }
}
