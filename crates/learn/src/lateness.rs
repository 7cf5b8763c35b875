//! The lateness of rows: the time from an event to the moment at which its row became known, and
//! the time for which a window is kept open because of it.
//!
//! Decision: docs/decisions/0063-a-window-waits-for-late-rows.md

use std::collections::BTreeMap;

use leadpulse_history::Files;
use leadpulse_project::TaskPlan;
use leadpulse_schema::{Operation, Row, TableId};

/// The share of a table's rows that are known once a window counts as ended.
const KNOWN_RATIO: f64 = 0.99;
/// Steps of a doubling: a quantile is at most a sixteenth too long.
const STEPS: u64 = 16;

/// The lateness of the rows of some files, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    tables: Vec<TableLateness>,
}

/// The lateness of one table's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TableLateness {
    /// Known time of the table's first row, milliseconds.
    first_known_ms: Option<i64>,
    /// Rows by step of their lateness, see [`step`].
    steps: BTreeMap<u64, u64>,
    /// The largest lateness, milliseconds.
    largest_ms: i64,
}

impl Lateness {
    /// Counts a row. Rows come in order of known time.
    pub(crate) fn observe(&mut self, row: Row<'_>) {
        if row.operation() != Operation::Upsert {
            return;
        }
        let index = row.table().index();
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, TableLateness::default);
        }
        let table = &mut self.tables[index];
        let first_known_ms = *table.first_known_ms.get_or_insert(row.known_ms());
        // A row from before the first load is the past of the load, not a late row.
        if row.event_ms() < first_known_ms {
            return;
        }
        let late_ms = row.known_ms().saturating_sub(row.event_ms()).max(0);
        *table.steps.entry(step(late_ms.unsigned_abs())).or_default() += 1;
        table.largest_ms = table.largest_ms.max(late_ms);
    }

    /// The lateness that the given share of a table's rows does not exceed, milliseconds; 0 without
    /// rows. At most a sixteenth too long, and never above the largest.
    fn quantile_ms(&self, table: TableId, ratio: f64) -> i64 {
        let Some(found) = self.tables.get(table.index()) else {
            return 0;
        };
        let rows: u64 = found.steps.values().sum();
        let wanted = (rows as f64 * ratio).ceil() as u64;
        let mut passed = 0;
        for (step, count) in &found.steps {
            passed += count;
            if passed >= wanted {
                let end_ms = i64::try_from(step_end(*step)).unwrap_or(i64::MAX);
                return end_ms.min(found.largest_ms);
            }
        }
        0
    }

    /// The time after the end of a task's window until its outcome counts as known, milliseconds:
    /// the one that the task sets. By default the 99 % quantile of the lateness of the slowest
    /// table that the target reads, at least the largest lag of its sources, and of the quantile no
    /// more than the task's horizon.
    pub(crate) fn wait_ms(&self, task: &TaskPlan, files: &Files) -> i64 {
        if let Some(set_ms) = task.lateness_ms {
            return set_ms.max(0);
        }
        let (mut lag_ms, mut observed_ms) = (0, 0);
        for source in files.sources() {
            if task.plan.interested(source.table) {
                lag_ms = source.options.lag_ms.max(lag_ms);
                observed_ms = self.quantile_ms(source.table, KNOWN_RATIO).max(observed_ms);
            }
        }
        // Rows that come years late would leave no window to learn from.
        lag_ms.max(observed_ms.min(task.plan.horizon_ms))
    }
}

/// The step of a lateness: exact below 16 ms, then 16 steps a doubling.
fn step(late_ms: u64) -> u64 {
    if late_ms < STEPS {
        return late_ms;
    }
    let shift = u64::from(late_ms.ilog2()) - u64::from(STEPS.ilog2());
    shift * STEPS + (late_ms >> shift)
}

/// The largest lateness of a step.
fn step_end(step: u64) -> u64 {
    if step < STEPS {
        return step;
    }
    let shift = step / STEPS - 1;
    ((step % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_at_most_a_sixteenth_above_its_lateness() {
        for late_ms in (0..2_000).chain([86_400_000, 7_776_000_000, u64::MAX >> 8]) {
            let end = step_end(step(late_ms));
            assert!(end >= late_ms && end <= late_ms + late_ms / 16, "{late_ms}");
            assert!(step(end + 1) > step(late_ms), "{late_ms}");
        }
    }

    fn table(late_ms: &[i64]) -> Lateness {
        let mut found = TableLateness::default();
        for late_ms in late_ms {
            *found.steps.entry(step(late_ms.unsigned_abs())).or_default() += 1;
            found.largest_ms = found.largest_ms.max(*late_ms);
        }
        Lateness {
            tables: vec![found],
        }
    }

    #[test]
    fn one_row_in_a_hundred_is_not_waited_for() {
        let mut late_ms: Vec<i64> = (1..100).map(|n| n * 1_000).collect();
        late_ms.push(90_000_000);
        let (found, slow) = (table(&late_ms), late_ms[98]);
        let quantile_ms = found.quantile_ms(TableId(0), KNOWN_RATIO);
        assert!((slow..=slow + slow / 16).contains(&quantile_ms));
        assert_eq!(found.quantile_ms(TableId(0), 1.0), 90_000_000);
        assert_eq!(
            table(&[7_200_000; 5]).quantile_ms(TableId(0), KNOWN_RATIO),
            7_200_000,
            "a constant lag is exact"
        );
        assert_eq!(table(&[]).quantile_ms(TableId(1), KNOWN_RATIO), 0);
    }
}
