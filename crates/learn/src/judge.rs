//! The judgement of a bundle over a period of the files: every task at its own anchors, against the
//! outcomes.

use std::io::Write;

use leadpulse_features::Scorer;
use leadpulse_graph::{EntityId, Graph};

use crate::collect::asked;
use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TaskOutcomes};
use crate::out_table::{CellKind, OutCells, OutError, OutRows, OutTable};
use crate::predict::{Ask, Bound, TaskJudgement, predict};
use crate::report::Baselines;
use crate::report::notes::Notes;
use crate::report::rows::EvaluatedRow;
use crate::report::validation::hindsight;
use crate::survey::{Survey, survey};
use crate::walk::{Due, Schedule, Walk};
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// The job of judging: a bundle, and the part of the files it is judged on.
pub struct Period<'a> {
    pub project: &'a Project,
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    pub scorer: &'a dyn Scorer,
    /// The first moment at which anyone is scored, milliseconds.
    pub from_ms: i64,
    /// What the report compares the scores with.
    pub baselines: Baselines<'a>,
}

/// The findings of a judgement.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Per task, in the order of the job, with the counts of its labels.
    pub tasks: Vec<(TaskJudgement, Tally)>,
    /// What became of the rows of the files.
    pub data: DataReport,
}

/// A score waiting for its outcome.
struct Scored {
    entity: EntityId,
    at_ms: i64,
    prediction: Option<f64>,
}

/// Scores the tasks' populations at their anchors from a moment on, as long as outcomes are known
/// by the end of the files. Writes a row of task, timestamp, key, label and probability for each
/// score whose outcome is known.
pub fn judge(
    job: &Period<'_>,
    out: OutTable<impl Write + Send>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Judged, LearnError> {
    let Period {
        project,
        tasks,
        files,
        ..
    } = *job;
    let bound = tasks
        .iter()
        .map(|task| Bound::new(job.scorer, task))
        .collect::<Result<Vec<_>, _>>()?;
    let baselines = job.baselines;
    let mut notes: Vec<Notes> = tasks
        .iter()
        .map(|task| Notes::new(project, task, job.scorer.plan(), baselines.existing_score))
        .collect::<Result<_, _>>()?;
    let Survey {
        extent,
        changing,
        lateness,
        ..
    } = survey(project, files, None)?;
    let mut chronicles: Vec<Chronicle<'_>> = tasks
        .iter()
        .map(|task| Chronicle::new(project, task, files, &lateness))
        .collect();
    let schedule = schedule(job, &chronicles, extent.last_ms)?;
    let mut walk = Walk::new(project, files, i64::MAX)?;
    let mut scored: Vec<Vec<Scored>> = tasks.iter().map(|_| Vec::new()).collect();
    walk.pass(
        schedule,
        &mut chronicles,
        (extent.last_ms, extent.rows),
        progress,
        |graphs, at_ms, due| {
            let graph = graphs.whole;
            score(graph, &bound, at_ms, &due, (&mut scored, &mut notes));
            for (notes, scored) in notes.iter_mut().zip(&scored) {
                let new = scored.iter().rev().take_while(|row| row.at_ms == at_ms);
                new.for_each(|row| notes.note(graph, row.entity, at_ms));
            }
        },
    )?;
    let mut writer = out.with_columns(&columns())?;
    let mut judgements = Vec::new();
    let tasks = bound.iter().zip(chronicles).zip(scored).zip(&notes);
    for (index, (((bound, mut chronicle), scores), notes)) in tasks.enumerate() {
        let outcomes = chronicle.known_by(walk.graph(), walk.belonging(), extent.last_ms);
        let judged = (notes, &scores[..], &outcomes);
        let (tally, rows) = write_known(&mut writer, walk.graph(), bound, judged)?;
        let known = scores.iter().filter(|s| s.prediction.is_some()).count();
        let pairs: Vec<(f64, f64)> = rows.iter().map(|row| (row.predicted, row.label)).collect();
        let mut judgement = TaskJudgement::of(bound, scores.len(), known, &pairs);
        let base_rate = baselines.base_rates.get(index).copied().flatten();
        let remarks = hindsight(project, notes, &changing).into_iter().collect();
        judgement.evaluation = Some(bound.evaluate(notes, base_rate, remarks, &rows));
        judgements.push((judgement, tally));
    }
    writer.finish()?;
    Ok(Judged {
        tasks: judgements,
        data: walk.report(files),
    })
}

/// The anchors of all tasks from the start of the period to the last one whose outcome is known.
///
/// # Errors
/// [`LearnError::Split`] if a task has no such anchor.
fn schedule(
    job: &Period<'_>,
    chronicles: &[Chronicle<'_>],
    end_ms: i64,
) -> Result<Schedule, LearnError> {
    let last_ms = |chronicle: &Chronicle<'_>| end_ms - chronicle.closes_after_ms();
    let mut tasks = job.tasks.iter().zip(chronicles);
    if let Some((task, _)) = tasks.find(|(_, chronicle)| last_ms(chronicle) < job.from_ms) {
        return Err(LearnError::Split(format!(
            "no outcome of {:?} after the start of the period is known by the end of the files; \
             let it start earlier",
            task.name
        )));
    }
    let tasks = job.tasks.iter().zip(chronicles);
    Ok(Schedule::new(tasks.map(|(task, chronicle)| {
        (*task, job.from_ms, last_ms(chronicle))
    })))
}

/// Scores the entities that are due at a moment, and adds the scores to those of their tasks.
fn score(
    graph: &Graph,
    bound: &[Bound<'_>],
    at_ms: i64,
    due: &[Due],
    (scored, notes): (&mut [Vec<Scored>], &mut [Notes]),
) {
    let mut asks = Vec::new();
    let mut waiting: Vec<(usize, Scored)> = Vec::new();
    for due in due {
        for (at, entity) in asked(graph, bound[due.task].task, due, AsOf::from_ms(at_ms)) {
            asks.push(Ask {
                at,
                entity,
                task: due.task,
                id: waiting.len(),
            });
            let score = Scored {
                entity,
                at_ms,
                prediction: None,
            };
            waiting.push((due.task, score));
        }
    }
    predict(
        graph,
        bound,
        &mut asks,
        AsOf::from_ms(at_ms),
        |ask, prediction, batch, place| {
            waiting[ask.id].1.prediction = Some(prediction);
            let numbers = &mut notes[ask.task].numbers;
            numbers.note((ask.entity, at_ms), batch, place);
        },
    );
    for (task, score) in waiting {
        scored[task].push(score);
    }
}

/// The columns of the scores.
fn columns() -> [(String, CellKind); 5] {
    [
        ("task", CellKind::Text),
        ("timestamp", CellKind::Moment),
        ("key", CellKind::Text),
        ("label", CellKind::Number),
        ("probability", CellKind::Number),
    ]
    .map(|(name, kind)| (name.to_owned(), kind))
}

/// Writes the scores of a task whose outcomes are known. Returns the counts of all outcomes, and
/// the rows with prediction and label.
fn write_known(
    writer: &mut OutRows<impl Write + Send>,
    graph: &Graph,
    bound: &Bound<'_>,
    (notes, scores, outcomes): (&Notes, &[Scored], &TaskOutcomes<'_>),
) -> Result<(Tally, Vec<EvaluatedRow>), OutError> {
    let mut tally = outcomes.tally();
    let mut rows = Vec::new();
    for score in scores {
        let seen = outcomes.seen(score.entity, score.at_ms);
        tally.add(score.entity, &seen);
        let (
            Some(prediction),
            Seen::Known {
                label: Some(label), ..
            },
        ) = (score.prediction, seen)
        else {
            continue;
        };
        rows.push(EvaluatedRow {
            entity: score.entity,
            at_ms: score.at_ms,
            predicted: prediction,
            label,
            facts: notes.facts(score.entity, score.at_ms),
        });
    }
    let key = |row: &EvaluatedRow| Some(graph.directory().key(row.entity).to_string());
    writer.write(&[
        OutCells::Text(vec![Some(bound.task.name.clone()); rows.len()]),
        OutCells::Moment(rows.iter().map(|row| row.at_ms).collect()),
        OutCells::Text(rows.iter().map(key).collect()),
        OutCells::Number(rows.iter().map(|row| Some(row.label)).collect()),
        OutCells::Number(rows.iter().map(|row| Some(row.predicted)).collect()),
    ])?;
    Ok((tally, rows))
}
