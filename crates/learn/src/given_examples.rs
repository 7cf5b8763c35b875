//! Given rows become the examples of a training.

use std::sync::Arc;

use leadpulse_model::{CellStore, Example, ExampleSet, Outcome};
use leadpulse_pql::TargetKind;
use leadpulse_project::TaskPlan;
use leadpulse_schema::units::AsOf;
use leadpulse_schema::utc;

use crate::collect::{Collected, Harvest, Stored, WantedCell, store_cells};
use crate::data_report::DataReport;
use crate::given::{GivenRow, GivenRows};
use crate::labels::{Seen, Tally};
use crate::report::notes::Notes;
use crate::walk::Walk;
use crate::{LearnError, Progress};

/// Takes the examples of the given rows. An entity of which nothing is known at its moment gives no
/// example: it counts as asked and dropped.
///
/// # Errors
/// The files cannot be read, or not one entity was known at its moment.
pub(crate) fn collect_given(
    harvest: &Harvest<'_>,
    given: &GivenRows,
    notes: &mut Notes,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Collected, DataReport), LearnError> {
    let (project, entity) = (harvest.project, harvest.tasks[0].plan.entity);
    let mut store = CellStore::new(harvest.plan.layout());
    let mut stored: Vec<(usize, Stored)> = Vec::new();
    let mut walk = Walk::new(project, harvest.files, i64::MAX)?;
    let mut order: Vec<usize> = (0..given.rows.len()).collect();
    order.sort_by_key(|row| given.rows[*row].at_ms);
    for moment in order.chunk_by(|a, b| given.rows[*a].at_ms == given.rows[*b].at_ms) {
        let as_of = AsOf::from_ms(given.rows[moment[0]].at_ms);
        walk.reach(as_of.ms(), progress)?;
        let graph = walk.graph();
        let mut wanted: Vec<WantedCell> = Vec::new();
        for &id in moment {
            let found = graph.find(entity, &given.rows[id].key);
            if let Some((at, node)) = found.filter(|(_, node)| graph.exists(node)) {
                wanted.push(WantedCell {
                    at,
                    entity: node.entity,
                    table: entity,
                    id,
                });
                notes.note(graph, node.entity, as_of.ms());
            }
        }
        let place = (graph, harvest.plan, as_of);
        store_cells(place, wanted, &mut store, |id, cell| {
            stored.push((id, cell));
        });
    }
    if stored.is_empty() {
        return Err(nobody_known(given));
    }
    let collected = examples(harvest, given, Arc::new(store), &stored);
    let collected = collected.with_keys(walk.graph());
    Ok((collected, walk.report(harvest.files)))
}

/// The fault of rows whose keys or times are not those of the files.
fn nobody_known(given: &GivenRows) -> LearnError {
    let first = &given.rows[0];
    LearnError::Given(format!(
        "none of the {} rows of {} names an entity that was known at its moment, e.g. {:?} at {}; \
         check --entity-column and how keys are written, and --time-column",
        given.rows.len(),
        given.file,
        first.key,
        utc(first.at_ms)
    ))
}

/// The outcome of a label for a task.
fn outcome(task: &TaskPlan, label: f64) -> Outcome {
    match task.plan.target.kind() {
        TargetKind::Regression => Outcome::Value(label),
        _ => Outcome::Window(label > 0.5),
    }
}

/// Divides the stored cells into the sets of a training.
fn examples(
    harvest: &Harvest<'_>,
    given: &GivenRows,
    store: Arc<CellStore>,
    stored: &[(usize, Stored)],
) -> Collected {
    let task = harvest.tasks[0];
    let mut collected = Collected::empty(&store);
    let mut is_found = vec![false; given.rows.len()];
    for (index, cell) in stored {
        let row = &given.rows[*index];
        is_found[*index] = true;
        let label = row
            .label
            .expect("checked: rows to learn from have outcomes");
        let outcome = outcome(task, label);
        let example = Example {
            row: cell.row,
            slot: cell.slot,
            entity: cell.entity,
            anchor_ms: row.at_ms,
            outcome,
            weight: row.weight,
        };
        let (set, tally) = part(&mut collected, row, harvest);
        let label = Some(label);
        tally.add(cell.entity, &Seen::Known { outcome, label });
        set.push(example);
        collected.refit.push(example);
    }
    for (row, _) in given.rows.iter().zip(is_found).filter(|(_, found)| !found) {
        let (_, tally) = part(&mut collected, row, harvest);
        tally.asked += 1;
        tally.dropped += 1;
    }
    collected
}

/// The set and the counts that a row belongs to.
fn part<'c>(
    collected: &'c mut Collected,
    row: &GivenRow,
    harvest: &Harvest<'_>,
) -> (&'c mut ExampleSet, &'c mut Tally) {
    match row.is_in(harvest.split) {
        false => (&mut collected.training, &mut collected.training_tally),
        true => (&mut collected.validation, &mut collected.validation_tally),
    }
}
