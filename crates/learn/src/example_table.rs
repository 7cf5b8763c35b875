//! The examples of a training as a flat table, for people who want to fit a model of their own.

use std::path::Path;

use leadpulse_model::{ExampleSet, FlatColumns, Head, Outcome};
use leadpulse_project::{Project, TaskPlan};

use crate::LearnError;
use crate::collect::Collected;
use crate::out_table::{CellKind, OutCells, OutTable};
use crate::train::{TrainTask, definition};

/// Examples written at a time.
const CHUNK_ROWS: usize = 4096;

/// Ends a training whose examples do not fit one table.
///
/// # Errors
/// [`LearnError::Given`] if tasks are about different tables.
pub(crate) fn refuse_mixed_tables(
    project: &Project,
    tasks: &[TrainTask<'_>],
) -> Result<(), LearnError> {
    let first = tasks[0].plan.plan.entity;
    let other = tasks.iter().find(|task| task.plan.plan.entity != first);
    let Some(other) = other else { return Ok(()) };
    let name = |table| &project.catalog.table_at(table).name;
    Err(LearnError::Given(format!(
        "{:?} is about {} and {:?} about {}, whose examples have different columns; write one \
         file for each with --task",
        tasks[0].plan.name,
        name(first),
        other.plan.name,
        name(other.plan.plan.entity)
    )))
}

/// Writes the examples of all tasks whose outcome is known: Parquet or CSV, by the file's ending.
/// A row has the task, the part (`train` or `validation`), the entity's key, the moment, the
/// outcome, the weight, and a column for each number that trees read.
pub(crate) fn write_examples(
    path: &Path,
    project: &Project,
    tasks: &[&TaskPlan],
    collected: &[Collected],
) -> Result<(), LearnError> {
    let layout = collected[0].training.layout();
    let flat = FlatColumns::new(layout, tasks[0].plan.entity);
    let mut columns = vec![
        ("task".to_owned(), CellKind::Text),
        ("part".to_owned(), CellKind::Text),
        ("key".to_owned(), CellKind::Text),
        ("as_of".to_owned(), CellKind::Moment),
        ("label".to_owned(), CellKind::Number),
        ("weight".to_owned(), CellKind::Number),
    ];
    let numbers = flat.names().iter();
    columns.extend(numbers.map(|name| (format!("x/{name}"), CellKind::Float)));
    let mut rows = OutTable::create(path)?.with_columns(&columns)?;
    for (task, examples) in tasks.iter().zip(collected) {
        let head = definition(project, task).head;
        for (part, set) in [
            ("train", &examples.training),
            ("validation", &examples.validation),
        ] {
            let known = labelled(set, &head);
            for chunk in known.chunks(CHUNK_ROWS) {
                let names = [task.name.as_str(), part];
                rows.write(&cells(chunk, names, set, examples, &flat))?;
            }
        }
    }
    rows.finish()?;
    Ok(())
}

/// Indices of the examples whose outcome is known, with it.
fn labelled(set: &ExampleSet, head: &Head) -> Vec<(usize, f64)> {
    let label = |outcome: &Outcome| match outcome {
        Outcome::Window(held) => Some(f64::from(u8::from(*held))),
        Outcome::Value(value) => Some(*value),
        hazard @ Outcome::Hazard { .. } => head.label(hazard),
    };
    let examples = set.examples().iter().enumerate();
    let known = examples.filter_map(|(index, e)| Some((index, label(&e.outcome)?)));
    known.collect()
}

fn cells(
    chunk: &[(usize, f64)],
    names: [&str; 2],
    set: &ExampleSet,
    collected: &Collected,
    flat: &FlatColumns,
) -> Vec<OutCells> {
    let indices: Vec<usize> = chunk.iter().map(|(index, _)| *index).collect();
    let of_chunk = || indices.iter().map(|index| &set.examples()[*index]);
    let mut cells: Vec<OutCells> = names
        .iter()
        .map(|name| OutCells::Text(vec![Some((*name).to_owned()); chunk.len()]))
        .collect();
    let key = |entity| collected.keys.get(entity).map(ToString::to_string);
    cells.push(OutCells::Text(of_chunk().map(|e| key(&e.entity)).collect()));
    cells.push(OutCells::Moment(of_chunk().map(|e| e.anchor_ms).collect()));
    let labels = chunk.iter().map(|(_, label)| Some(*label));
    cells.push(OutCells::Number(labels.collect()));
    let weights = of_chunk().map(|e| Some(f64::from(e.weight)));
    cells.push(OutCells::Number(weights.collect()));
    let values = flat.values(set, &indices);
    for column in 0..flat.names().len() {
        let column = values.iter().map(|row| row[column]);
        cells.push(OutCells::Float(column.collect()));
    }
    cells
}
