//! Coverage: the days that the rows of each table span, beside the days of the whole history.
//!
//! Where a table was exported earlier than the others, or its rows were not yet kept when theirs
//! begin, a label says that nothing happened although nobody looked.
//!
//! Decision: docs/decisions/0090-days-that-a-table-does-not-span.md

use std::collections::BTreeSet;

use leadpulse_project::TaskPlan;
use leadpulse_schema::units::DAY_MS;
use leadpulse_schema::{Catalog, Operation, Row, TableId, utc};

use crate::survey::Extent;

/// Tables with rows on fewer days show no rhythm that a gap could be compared with.
const LEAST_DAYS: usize = 10;
/// A gap at either end is remarkable from so many times the longest gap between two rows.
const LONGEST_GAPS: i64 = 3;
/// A gap at the end is remarkable from one such part of the horizon.
const HORIZON_PARTS: i64 = 4;

/// The days with rows, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    tables: Vec<TableCoverage>,
}

/// The days with rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TableCoverage {
    /// Days since 1970 (UTC) with an event, or with a version that took effect.
    days: BTreeSet<i64>,
    /// Known time of the newest row, milliseconds.
    last_known_ms: i64,
}

impl TableCoverage {
    /// The longest time between two days with rows, in days.
    fn longest_gap_days(&self) -> i64 {
        let later = self.days.iter().skip(1);
        let gaps = self.days.iter().zip(later).map(|(day, next)| next - day);
        gaps.max().unwrap_or(0)
    }
}

impl Coverage {
    /// Counts a row, in any order.
    pub(crate) fn observe(&mut self, row: Row<'_>) {
        if row.operation() != Operation::Upsert {
            return;
        }
        let index = row.table().index();
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, TableCoverage::default);
        }
        let table = &mut self.tables[index];
        table.days.insert(row.event_ms().div_euclid(DAY_MS));
        table.last_known_ms = match table.days.len() {
            1 => row.known_ms(),
            _ => table.last_known_ms.max(row.known_ms()),
        };
    }

    /// Sentences about tables that the target counts and whose rows do not span the history: labels
    /// beyond them say that nothing happened. None where all do.
    pub(crate) fn remarks(
        &self,
        catalog: &Catalog,
        task: &TaskPlan,
        extent: Extent,
    ) -> Vec<String> {
        let tables = catalog.tables.iter();
        let counted = tables.filter(|table| task.plan.interested(table.id));
        counted
            .flat_map(|table| self.remarks_on(table.id, &table.name, task, extent))
            .collect()
    }

    fn remarks_on(
        &self,
        table: TableId,
        name: &str,
        task: &TaskPlan,
        extent: Extent,
    ) -> Vec<String> {
        let found = self.tables.get(table.index());
        let Some((table, first_day)) = found.and_then(|table| Some((table, *table.days.first()?)))
        else {
            return vec![format!(
                "the files have no row of {name}, which the target counts: every label says that \
                 nothing happened; check the source's file and filter"
            )];
        };
        if table.days.len() < LEAST_DAYS {
            return Vec::new();
        }
        let least_gap_ms = LONGEST_GAPS * table.longest_gap_days() * DAY_MS;
        let horizon_ms = task.plan.horizon_ms;
        let (first_ms, last_ms) = (first_day * DAY_MS, table.last_known_ms);
        let late_ms = first_ms - extent.first_ms;
        let early_ms = extent.last_ms - last_ms;
        let mut remarks = Vec::new();
        if late_ms > least_gap_ms.max(horizon_ms) {
            remarks.push(format!(
                "rows of {name}, which the target counts, begin on {0}, {1} days after the history: \
                 labels before say that nothing happened; train with --train-from {0}",
                day_of(first_ms),
                late_ms / DAY_MS
            ));
        }
        if early_ms > least_gap_ms.max(horizon_ms / HORIZON_PARTS) {
            remarks.push(format!(
                "rows of {name}, which the target counts, end on {0}, {1} days before the history: \
                 labels after that say that nothing happened; export {name} up to the same day as \
                 the others, or train with --test-from {0} and judge no later window",
                day_of(last_ms),
                early_ms / DAY_MS
            ));
        }
        remarks
    }
}

/// The day of a moment in UTC, YYYY-MM-DD.
fn day_of(ms: i64) -> String {
    let text = utc(ms);
    text.split_once('T')
        .map_or(text.as_str(), |(day, _)| day)
        .to_owned()
}
