//! Scores that a deployment emitted, judged by what came after them: at regular moments the
//! standing score of each entity, beside the outcome of its window.

use std::collections::BTreeSet;

use leadpulse_graph::{EntityId, Graph};
use leadpulse_history::Files;
use leadpulse_pql::TargetKind;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::{AsOf, at_or_after};

use crate::collect::asked;
use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TaskOutcomes};
use crate::report::against::PairedRow;
use crate::report::notes::Notes;
use crate::report::rows::EvaluatedRow;
use crate::report::validation::hindsight;
use crate::report::{Baselines, EvaluatedTask, TaskEvaluation, against, evaluate};
use crate::score_log::ScoreLog;
use crate::survey::{Extent, Survey, survey};
use crate::walk::{Due, Schedule, Walk};
use crate::{LearnError, Progress};

/// True if a task predicts a number, which score records do not have.
pub fn predicts_number(task: &TaskPlan) -> bool {
    task.plan.target.kind() == TargetKind::Regression
}

/// The moments at which standing scores are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowMoments {
    /// Multiples of this many milliseconds since 1970 UTC.
    Every(i64),
    /// The anchors of each task.
    OwnAnchors,
}

/// The job: emitted scores, and the files that say what came after them.
pub struct Shadow<'a> {
    pub project: &'a Project,
    /// Tasks whose targets are conditions.
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    pub scores: &'a ScoreLog,
    /// A challenger's scores with their name, compared where both stand.
    pub against: Option<(&'a str, &'a ScoreLog)>,
    pub moments: ShadowMoments,
    /// The first moment, milliseconds; by default that of the task's first record.
    pub from_ms: Option<i64>,
    /// Figures that the scores are compared with.
    pub baselines: Baselines<'a>,
}

/// The findings of a job.
#[derive(Clone, Debug)]
pub struct Shadowed {
    /// Per task, in the order of the job.
    pub tasks: Vec<ShadowedTask>,
    pub extent: Extent,
    /// The fate of the rows of the files.
    pub data: DataReport,
}

/// The findings of one task.
#[derive(Clone, Debug, Default)]
pub struct ShadowedTask {
    pub task: String,
    /// Standing scores by outcome: labelled, open or dropped.
    pub tally: Tally,
    /// The evaluation; `None` where no window has ended.
    pub evaluation: Option<TaskEvaluation>,
    /// The end of the first window whose outcome will be known, milliseconds; `None` without
    /// records.
    pub first_known_ms: Option<i64>,
    pub unjudged: Unjudged,
}

/// Scores and rows that could not be joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unjudged {
    /// Entities with a standing score of which the files have no row at a moment.
    pub unknown: usize,
    /// The key of one of them.
    pub unknown_example: Option<String>,
    /// Standing scores of entities outside the population by the files.
    pub outside: usize,
    /// Rows of the population without a standing score.
    pub unscored: usize,
    /// Judged rows without a standing score of the challenger.
    pub unpaired: usize,
}

/// A standing score that waits for its outcome.
struct Scored {
    entity: EntityId,
    at_ms: i64,
    probability: f64,
    /// The challenger's.
    other: Option<f64>,
}

/// The rows of a task, as the walk finds them.
#[derive(Default)]
struct Found {
    scored: Vec<Scored>,
    unknown: BTreeSet<String>,
    outside: usize,
    unscored: usize,
}

/// Judges standing scores by the outcomes that are known at the end of the files.
///
/// # Errors
/// Files that cannot be read, or a column of points that cannot be compared.
pub fn shadow(
    job: &Shadow<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shadowed, LearnError> {
    let (project, files) = (job.project, job.files);
    let points = job.baselines.existing_score;
    let notes = job.tasks.iter();
    let notes = notes.map(|task| Notes::without_numbers(project, task, points));
    let mut notes: Vec<Notes> = notes.collect::<Result<_, _>>()?;
    let Survey {
        extent,
        changing,
        lateness,
        ..
    } = survey(project, files, None)?;
    let tasks = job.tasks.iter();
    let mut chronicles: Vec<Chronicle<'_>> = tasks
        .map(|task| Chronicle::new(project, task, files, &lateness))
        .collect();
    let schedule = job.schedule(&chronicles, extent);
    let mut walk = Walk::new(project, files, i64::MAX)?;
    let mut found: Vec<Found> = job.tasks.iter().map(|_| Found::default()).collect();
    walk.pass(
        schedule,
        &mut chronicles,
        (extent.last_ms, extent.rows),
        progress,
        |graphs, at_ms, due| {
            for due in &due {
                let of_task = (&mut found[due.task], &mut notes[due.task]);
                job.join(graphs.whole, at_ms, due, of_task);
            }
        },
    )?;
    let mut judged = Vec::with_capacity(found.len());
    for (index, (mut chronicle, found)) in chronicles.into_iter().zip(found).enumerate() {
        let outcomes = chronicle.known_by(walk.graph(), walk.belonging(), extent.last_ms);
        let first_ms = job.first_ms(index);
        let mut task = job.judged(index, &found, &outcomes, (&notes[index], &changing));
        task.first_known_ms = first_ms.map(|at_ms| at_ms + chronicle.closes_after_ms());
        judged.push(task);
    }
    Ok(Shadowed {
        tasks: judged,
        extent,
        data: walk.report(files),
    })
}

impl Shadow<'_> {
    /// The first moment of a task, milliseconds.
    fn first_ms(&self, task: usize) -> Option<i64> {
        let first_ms = self.scores.first_ms(task)?;
        Some(
            self.from_ms
                .map_or(first_ms, |from_ms| from_ms.max(first_ms)),
        )
    }

    fn schedule(&self, chronicles: &[Chronicle<'_>], extent: Extent) -> Schedule {
        let last_ms = extent.last_ms;
        match self.moments {
            ShadowMoments::Every(every_ms) => {
                let mut moments = Vec::new();
                for task in 0..self.tasks.len() {
                    let first_ms = self.first_ms(task).unwrap_or(i64::MAX);
                    let mut at_ms = at_or_after(first_ms, every_ms);
                    while at_ms <= last_ms {
                        moments.push((task, at_ms));
                        at_ms += every_ms;
                    }
                }
                Schedule::at(self.tasks.len(), moments)
            }
            ShadowMoments::OwnAnchors => {
                let tasks = self.tasks.iter().zip(chronicles).enumerate();
                Schedule::new(tasks.map(|(index, (task, chronicle))| {
                    let first_ms = self.from_ms.or_else(|| self.scores.first_ms(index));
                    let last_ms = last_ms - chronicle.closes_after_ms();
                    (*task, first_ms.unwrap_or(i64::MAX), last_ms)
                }))
            }
        }
    }

    /// Joins the standing scores of a task with the entities of its population at a moment.
    fn join(&self, graph: &Graph, at_ms: i64, due: &Due, (found, notes): (&mut Found, &mut Notes)) {
        let task = self.tasks[due.task];
        let population = asked(graph, task, due, AsOf::from_ms(at_ms));
        let mut members = BTreeSet::new();
        for (_, entity) in population {
            members.insert(entity);
            let key = graph.directory().key(entity);
            let Some(probability) = self.scores.standing(due.task, key, at_ms) else {
                found.unscored += 1;
                continue;
            };
            notes.note(graph, entity, at_ms);
            let others = self.against.map(|(_, others)| others);
            found.scored.push(Scored {
                entity,
                at_ms,
                probability,
                other: others.and_then(|others| others.standing(due.task, key, at_ms)),
            });
        }
        if due.only.is_some() {
            return; // the rest of the population is not asked now
        }
        for key in self.scores.keys_at(due.task, at_ms) {
            let known = graph.find(task.plan.entity, key);
            match known.filter(|(_, node)| graph.exists(node)) {
                None => {
                    found.unknown.insert(key.to_owned());
                }
                Some((_, node)) if !members.contains(&node.entity) => found.outside += 1,
                Some(_) => {}
            }
        }
    }

    /// Compares the scores of a task with their outcomes.
    fn judged(
        &self,
        index: usize,
        found: &Found,
        outcomes: &TaskOutcomes<'_>,
        (notes, changing): (&Notes, &[bool]),
    ) -> ShadowedTask {
        let task = self.tasks[index];
        let mut tally = outcomes.tally();
        let (mut rows, mut paired) = (Vec::new(), Vec::new());
        for scored in &found.scored {
            let seen = outcomes.seen(scored.entity, scored.at_ms);
            tally.add(scored.entity, &seen);
            let Seen::Known {
                label: Some(label), ..
            } = seen
            else {
                continue;
            };
            rows.push(EvaluatedRow {
                entity: scored.entity,
                at_ms: scored.at_ms,
                predicted: scored.probability,
                label,
                facts: notes.facts(scored.entity, scored.at_ms),
            });
            paired.extend(scored.other.map(|other| PairedRow {
                entity: scored.entity,
                outcome: label > 0.5,
                probabilities: [scored.probability, other],
            }));
        }
        let unjudged = Unjudged {
            unknown: found.unknown.len(),
            unknown_example: found.unknown.first().cloned(),
            outside: found.outside,
            unscored: found.unscored,
            unpaired: self.against.map_or(0, |_| rows.len() - paired.len()),
        };
        let subject = EvaluatedTask {
            task: &task.name,
            query: &task.plan.text,
            horizon_ms: task.plan.horizon_ms,
            is_regression: false,
            base_rate: self.baselines.base_rates.get(index).copied().flatten(),
            positive_entities: None,
            notes,
            groups: Vec::new(),
            remarks: hindsight(self.project, notes, changing)
                .into_iter()
                .collect(),
            seed: 0,
        };
        let evaluation = (!rows.is_empty()).then(|| {
            let mut evaluation = evaluate(subject, &rows);
            let name = self.against.map(|(name, _)| name);
            evaluation.against = name.and_then(|name| against::against(name, &paired, 0));
            evaluation
        });
        ShadowedTask {
            task: task.name.clone(),
            tally,
            evaluation,
            first_known_ms: None,
            unjudged,
        }
    }
}
