//! Tasks of a training that are left out of its bundle: nobody named them, and their outcomes
//! cannot be judged.
//!
//! A configuration asks more than every market can answer: a young one has won no second deal of
//! any account. Such a task must not keep the others from being trained.

use leadpulse_model::{FitError, Fitted, Grade};
use leadpulse_project::{Project, TaskPlan};

use crate::collect::Collected;
use crate::report::TaskEvaluation;
use crate::report::notes::Notes;
use crate::report::validation::evaluate_validation;
use crate::train::TrainTask;

/// A task that is not in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The name of the task.
    pub task: String,
    /// The fault of its outcomes or of its ranking, in words.
    pub reason: String,
}

/// True for a task that may be left out; the first has the trunk, and stays.
pub(crate) fn is_optional(tasks: &[TrainTask<'_>], index: usize) -> bool {
    index > 0 && tasks[index].is_optional
}

/// True for a fit that failed because outcomes are missing, or are all alike.
pub(crate) fn is_of_outcomes(error: &FitError) -> bool {
    matches!(
        error,
        FitError::NoOutcomes { .. } | FitError::OneOutcome { .. }
    )
}

/// The tasks of a training with all that is known of each, in parallel.
pub(crate) struct JudgedTasks<'a> {
    pub plans: Vec<&'a TaskPlan>,
    pub collected: Vec<Collected>,
    pub notes: Vec<Notes>,
    /// Empty before [`Self::evaluate`].
    pub evaluations: Vec<TaskEvaluation>,
    pub fitted: Fitted,
}

impl JudgedTasks<'_> {
    /// Drops the tasks that were not fitted.
    pub fn retain_fitted(&mut self) {
        let tasks = self.fitted.tasks().iter();
        let fitted: Vec<String> = tasks.map(|task| task.definition.name.clone()).collect();
        self.retain(|name| fitted.iter().any(|fitted| fitted == name));
    }

    /// Evaluates each task on its rows of validation.
    pub fn evaluate(&mut self, project: &Project, changing: &[bool]) {
        self.evaluations = evaluate_validation(
            project,
            &self.plans,
            &self.fitted,
            &self.collected,
            &mut self.notes,
            changing,
        );
    }

    /// Drops the optional tasks that rank worse than chance on validation.
    pub fn leave_out_worse_than_chance(&mut self, tasks: &[TrainTask<'_>]) -> Vec<LeftOut> {
        let optional = |name: &str| {
            let index = tasks.iter().position(|task| task.plan.name == name);
            index.is_some_and(|index| is_optional(tasks, index))
        };
        let worse = self.evaluations.iter().filter_map(|evaluation| {
            let quality = evaluation.quality.as_ref()?;
            let is_worse = quality.grade == Grade::WorseThanChance && optional(&evaluation.task);
            is_worse.then(|| LeftOut {
                task: evaluation.task.clone(),
                reason: quality.reasons.join("; "),
            })
        });
        let worse: Vec<LeftOut> = worse.collect();
        self.retain(|name| worse.iter().all(|left_out| left_out.task != name));
        worse
    }

    /// Keeps the tasks of some names.
    fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        let kept: Vec<bool> = self.plans.iter().map(|plan| is_kept(&plan.name)).collect();
        self.fitted.retain_tasks(|name| is_kept(name));
        retain(&mut self.plans, &kept);
        retain(&mut self.collected, &kept);
        retain(&mut self.notes, &kept);
        if !self.evaluations.is_empty() {
            retain(&mut self.evaluations, &kept);
        }
    }
}

/// Keeps the items whose mark is set; there are as many marks as items.
fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    debug_assert_eq!(items.len(), kept.len());
    let mut marks = kept.iter();
    items.retain(|_| *marks.next().expect("every item has a mark"));
}
