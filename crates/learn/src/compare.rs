//! Two bundles judged on the same rows: figures of each, and their paired differences.

use std::collections::{BTreeMap, HashMap};

use leadpulse_features::Scorer;
use leadpulse_graph::EntityId;
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};

use crate::judge::{Period, judge};
use crate::out_table::{OutError, OutTable};
use crate::report::Against;
use crate::report::Baselines;
use crate::report::against::{PairedRow, against};
use crate::{LearnError, Progress};

/// The job of comparing: two bundles, and the part of the files that they are judged on.
pub struct Comparison<'a> {
    pub project: &'a Project,
    /// Tasks that both bundles predict.
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    /// The bundle that is judged, and the other one with its name for people.
    pub scorers: [(&'a str, &'a dyn Scorer); 2],
    /// The first moment at which anyone is scored, milliseconds.
    pub from_ms: i64,
}

/// The comparison of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedTask {
    pub task: String,
    /// The figures; `None` for numbers, and without a row that both have scored.
    pub against: Option<Against>,
}

/// Task, moment, entity, label and probability of a row.
type ScoredRow = (String, String, String, Option<f64>, Option<f64>);
/// Key of a row: task, moment and entity.
type RowKey = (String, String, String);

/// Scores both bundles at the tasks' own anchors of the period, as a backtest does, and compares
/// them on the rows that both have scored.
///
/// # Errors
/// A file that cannot be read on, or a task that a bundle does not predict.
pub fn compare(
    job: &Comparison<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<ComparedTask>, LearnError> {
    let [first, second] = job.scorers;
    let ours = scored(job, first.1, progress)?;
    let theirs = scored(job, second.1, progress)?;
    let mut compared = Vec::new();
    for task in job.tasks {
        let rows = paired(&task.name, &ours, &theirs);
        compared.push(ComparedTask {
            task: task.name.clone(),
            against: rows.and_then(|rows| against(second.0, &rows, 0)),
        });
    }
    Ok(compared)
}

/// Outcome and probability of each row that a bundle has scored.
fn scored(
    job: &Comparison<'_>,
    scorer: &dyn Scorer,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<RowKey, (f64, f64)>, LearnError> {
    let mut written = Vec::new();
    let period = Period {
        project: job.project,
        tasks: job.tasks,
        files: job.files,
        scorer,
        from_ms: job.from_ms,
        baselines: Baselines {
            base_rates: &[],
            existing_score: None,
        },
    };
    judge(&period, OutTable::csv(&mut written), progress)?;
    let mut reader = csv::Reader::from_reader(&written[..]);
    let mut rows = BTreeMap::new();
    for row in reader.deserialize() {
        let (task, moment, key, label, probability): ScoredRow = row.map_err(OutError::Csv)?;
        let scored = label.zip(probability);
        rows.extend(scored.map(|scored| ((task, moment, key), scored)));
    }
    Ok(rows)
}

/// The rows of a task that both have scored; `None` if its outcomes are numbers.
fn paired(
    task: &str,
    ours: &BTreeMap<RowKey, (f64, f64)>,
    theirs: &BTreeMap<RowKey, (f64, f64)>,
) -> Option<Vec<PairedRow>> {
    let mut entities: HashMap<&str, EntityId> = HashMap::new();
    let mut rows = Vec::new();
    for (key, (label, probability)) in ours {
        let Some((_, other)) = theirs.get(key).filter(|_| key.0 == task) else {
            continue;
        };
        if *label != 0.0 && *label != 1.0 {
            return None;
        }
        let next = EntityId(entities.len() as u32);
        rows.push(PairedRow {
            entity: *entities.entry(&key.2).or_insert(next),
            outcome: *label == 1.0,
            probabilities: [*probability, *other],
        });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: &str, key: &str, label: f64, p: f64) -> (RowKey, (f64, f64)) {
        ((task.into(), "2025-01-01".into(), key.into()), (label, p))
    }

    #[test]
    fn only_rows_that_both_have_scored_are_compared() {
        let ours = BTreeMap::from([
            row("wins", "A", 1.0, 0.9),
            row("wins", "B", 0.0, 0.2),
            row("other", "A", 0.0, 0.1),
            row("value", "A", 7.5, 0.1),
        ]);
        let theirs = BTreeMap::from([
            row("wins", "A", 1.0, 0.4),
            row("wins", "C", 0.0, 0.2),
            row("value", "A", 7.5, 0.2),
        ]);
        let found = paired("wins", &ours, &theirs).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].outcome);
        assert_eq!(found[0].probabilities, [0.9, 0.4]);
        assert!(paired("other", &ours, &theirs).unwrap().is_empty());
        assert!(paired("value", &ours, &theirs).is_none(), "numbers");
    }
}
