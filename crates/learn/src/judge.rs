//! The judgement of a bundle over a period of the files: every task at its own anchors, against the outcomes.

use std::io::Write;

use leadpulse_features::Scorer;
use leadpulse_graph::EntityId;

use crate::backtest::RowsError;
use crate::collect::{Survey, asked, survey};
use crate::labels::{Chronicle, Seen, Tally};
use crate::predict::{Ask, Bound, TaskJudgement, predict};
use crate::walk::{Schedule, Walk};
use crate::{LearnError, Progress};
use leadpulse_history::{FileSource, Files};
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// The job of judging: a bundle, and the part of the files it is judged on.
pub struct Period<'a> {
    pub project: &'a Project,
    pub tasks: &'a [&'a TaskPlan],
    pub sources: &'a [FileSource],
    pub scorer: &'a dyn Scorer,
    /// The first moment at which anyone is scored, milliseconds.
    pub from_ms: i64,
}

/// A score waiting for its outcome.
struct Scored {
    entity: EntityId,
    at_ms: i64,
    prediction: Option<f64>,
}

/// Scores the tasks' populations at their anchors from a moment on, as long as outcomes are known by the end of the files. Writes a row
/// `task,timestamp,key,label,probability` for each score whose outcome is known.
pub fn judge(
    job: &Period<'_>,
    out: impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(TaskJudgement, Tally)>, LearnError> {
    let Period {
        project,
        tasks,
        sources,
        scorer,
        from_ms,
    } = *job;
    let bound = tasks
        .iter()
        .map(|task| Bound::new(scorer, task))
        .collect::<Result<Vec<_>, _>>()?;
    let files = Files::prepare(project.catalog.clone(), sources)?;
    let Survey { extent, .. } = survey(project, &files, None)?;
    let mut chronicles: Vec<Chronicle<'_>> = tasks
        .iter()
        .map(|task| Chronicle::new(project, task, &files))
        .collect();
    let last_ms = |chronicle: &Chronicle<'_>| extent.last_ms - chronicle.closes_after_ms();
    if let Some((task, _)) = tasks
        .iter()
        .zip(&chronicles)
        .find(|(_, chronicle)| last_ms(chronicle) < from_ms)
    {
        return Err(LearnError::Split(format!(
            "no outcome of {:?} after the start of the period is known by the end of the files; let it start earlier",
            task.name
        )));
    }
    let schedule = Schedule::new(
        tasks
            .iter()
            .zip(&chronicles)
            .map(|(task, chronicle)| (*task, from_ms, last_ms(chronicle))),
    );
    let mut walk = Walk::new(project, &files, i64::MAX)?;
    let mut scored: Vec<Vec<Scored>> = tasks.iter().map(|_| Vec::new()).collect();
    walk.pass(
        schedule,
        &mut chronicles,
        (extent.last_ms, extent.rows),
        progress,
        |graph, at_ms, due| {
            let mut asks = Vec::new();
            let mut waiting: Vec<(usize, Scored)> = Vec::new();
            for due in due {
                for (at, entity) in asked(graph, tasks[due.task], &due, AsOf::from_ms(at_ms)) {
                    asks.push(Ask {
                        at,
                        entity,
                        task: due.task,
                        id: waiting.len(),
                    });
                    waiting.push((
                        due.task,
                        Scored {
                            entity,
                            at_ms,
                            prediction: None,
                        },
                    ));
                }
            }
            predict(
                graph,
                &bound,
                &mut asks,
                AsOf::from_ms(at_ms),
                |id, prediction| waiting[id].1.prediction = Some(prediction),
            );
            waiting
                .into_iter()
                .for_each(|(task, score)| scored[task].push(score));
        },
    )?;
    let mut writer = csv::Writer::from_writer(out);
    writer
        .write_record(["task", "timestamp", "key", "label", "probability"])
        .map_err(RowsError::from)?;
    let mut judgements = Vec::new();
    for ((bound, chronicle), scores) in bound.iter().zip(chronicles).zip(scored) {
        let outcomes = chronicle.finish();
        let mut tally = Tally::default();
        let mut pairs = Vec::new();
        for Scored {
            entity,
            at_ms,
            prediction,
        } in &scores
        {
            let seen = outcomes.seen(*entity, *at_ms, extent.last_ms);
            tally.add(*entity, &seen);
            if let (
                Seen::Known {
                    label: Some(label), ..
                },
                Some(prediction),
            ) = (seen, prediction)
            {
                pairs.push((*prediction, label));
                let key = walk.graph().directory().key(*entity);
                let record = [
                    &bound.task.name,
                    &at_ms.to_string(),
                    &**key,
                    &label.to_string(),
                    &prediction.to_string(),
                ];
                writer.write_record(record).map_err(RowsError::from)?;
            }
        }
        let known = scores.iter().filter(|s| s.prediction.is_some()).count();
        judgements.push((TaskJudgement::of(bound, scores.len(), known, &pairs), tally));
    }
    writer.flush().map_err(RowsError::from)?;
    Ok(judgements)
}
