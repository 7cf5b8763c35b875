//! From files to a bundle: all tasks in one pass, over one trunk.

use std::path::PathBuf;

use leadpulse_features::{FeaturePlan, FeatureSpec};
use leadpulse_model::{
    Bundle, BundleMeta, FitError, FitOptions, FitPart, Fitted, Head, RowTally, TaskDefinition,
    Weighting, fit, fit_head, fit_with_trunk,
};
use leadpulse_pql::TargetKind;
use leadpulse_schema::TableId;
use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};
use serde_json::{Map, Value, json};

use crate::advice::{Setting, advice};
use crate::collect::{Collected, Harvest, Split, collect_with};
use crate::coverage::Coverage;
use crate::data_report::DataReport;
use crate::example_table::{refuse_mixed_tables, write_examples};
use crate::given::GivenRows;
use crate::given_examples::collect_given;
use crate::labels::{Chronicle, Tally};
use crate::lateness::Lateness;
use crate::leaks::{refuse_early_ties, refuse_leaks};
use crate::left_out::{JudgedTasks, LeftOut, is_of_outcomes, is_optional};
use crate::report::TaskEvaluation;
use crate::report::notes::Notes;
use crate::report::validation::group_weights;
use crate::sampling::{Sampling, most_pairs};
use crate::survey::{Extent, survey};
use crate::{LearnError, Progress};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};

/// A task with a shorter horizon reads the hour and the weekday of the moment.
const SHORT_HORIZON_MS: i64 = 14 * DAY_MS;

/// A task, and how it is trained.
#[derive(Clone, Debug)]
pub struct TrainTask<'a> {
    pub plan: &'a TaskPlan,
    /// Settings of its fit.
    pub fit: FitOptions,
    /// A task that nobody named: where it cannot be judged it is left out of the bundle, and does
    /// not end the training. Never the first, which has the trunk.
    pub is_optional: bool,
}

/// Settings of a training.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Training sees nothing known after this moment; validation starts here. By default the
    /// longest horizon and a third before the test.
    pub val_from_ms: Option<i64>,
    /// Validation outcomes are known by this moment. By default the longest horizon before the end
    /// of the history.
    pub test_from_ms: Option<i64>,
    /// No anchors this soon after the first event, nor of entities that became known this soon. By
    /// default the longest half-life, but no more than a tenth of the training time.
    pub warmup_ms: Option<i64>,
    /// No anchors before this moment; by default the warm-up alone decides.
    pub train_from_ms: Option<i64>,
    /// Examples of the only task, in place of its anchors and labels.
    pub given: Option<GivenRows>,
    /// A file for the examples as a flat table, Parquet or CSV by its ending.
    pub examples: Option<PathBuf>,
    /// Trains the chosen candidates again on everything known by the test's start.
    pub refit: bool,
    /// The share of training rows without an event in the 30 days before that examples are taken
    /// of. By default all up to 400,000 rows, and above that the share that would make so many.
    pub sample_share: Option<f64>,
    /// Recorded in the bundle, if given.
    pub created_at: Option<String>,
    /// A column `table.field` of points that the report compares the scores with.
    pub existing_score: Option<String>,
    /// Keeps an optional task although it ranks worse than chance.
    pub keep_worse_than_chance: bool,
}

/// The findings of a training.
#[derive(Clone, Debug)]
pub struct TrainReport {
    pub split: Split,
    pub extent: Extent,
    /// What became of the rows of the files.
    pub data: DataReport,
    /// Cells stored for the examples of all tasks.
    pub cells: usize,
    /// The memory of the cells, bytes.
    pub cell_bytes: usize,
    /// Rows and columns of the cells.
    pub rows: Vec<RowTally>,
    /// Per task, in the bundle's order.
    pub tasks: Vec<TaskReport>,
    /// Optional tasks that are not in the bundle.
    pub left_out: Vec<LeftOut>,
}

/// The findings of one task's training, and its quality on validation.
#[derive(Clone, Debug)]
pub struct TaskReport {
    pub name: String,
    /// Training examples; of hazards also those whose window had not closed.
    pub training: usize,
    /// Of the training examples those that repeat others as a source that stopped leaves them.
    pub stopped: usize,
    /// The training rows that examples were taken of.
    pub sampling: Sampling,
    /// Training rows that the sample leaves out.
    pub left_out: usize,
    /// The number of validation examples.
    pub validation: usize,
    /// The rows of training anchors.
    pub training_tally: Tally,
    /// The rows of validation anchors.
    pub validation_tally: Tally,
    /// As in the manifest: `validation`, `candidates`, `training`, …
    pub metrics: Map<String, Value>,
    /// The evaluation on validation, with the grade that the manifest has.
    pub evaluation: TaskEvaluation,
}

/// Trains a bundle on files: the first task with its trunk, the others on that trunk.
pub fn train(
    project: &Project,
    tasks: &[TrainTask<'_>],
    files: &Files,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Bundle, TrainReport), LearnError> {
    let Some(first) = tasks.first() else {
        return Err(LearnError::NoTask);
    };
    check_using(project, first, &tasks[1..])?;
    if options.examples.is_some() {
        refuse_mixed_tables(project, tasks)?;
    }
    let mut found = survey(project, files, options.val_from_ms)?;
    let (extent, lateness) = (found.extent, found.lateness.clone());
    let changing = std::mem::take(&mut found.changing);
    for task in tasks.iter().filter(|_| options.given.is_none()) {
        refuse_leaks(project, task.plan, &changing)?;
    }
    let split = split(project, tasks, files, options, (extent, &lateness))?;
    warn(project, tasks, options, (extent, &found.coverage), split);
    let warmup_ms = warmup_ms(project, options, extent, split);
    let plans: Vec<&TaskPlan> = tasks.iter().map(|task| task.plan).collect();
    let training_ms = (extent.first_ms + warmup_ms, split.val_from_ms - 1);
    let pairs = most_pairs(
        project.catalog.root().id.index(),
        &plans,
        &found,
        training_ms,
    );
    let sampling = sampling(tasks, options, pairs)?;
    // A split by default follows from the extent: only then are the vocabularies of its training
    // part not known yet.
    let spec = if options.val_from_ms.is_some() {
        found.spec
    } else {
        survey(project, files, Some(split.val_from_ms))?.spec
    };
    // Hours and weekdays average out over a longer window.
    let has_clock = tasks
        .iter()
        .any(|task| task.plan.plan.horizon_ms < SHORT_HORIZON_MS);
    let spec = FeatureSpec { has_clock, ..spec };
    let plan = project.feature_plan(spec);
    let harvest = Harvest {
        project,
        tasks: &plans,
        files,
        plan: &plan,
        extent,
        lateness: &lateness,
        split,
        warmup_ms,
        sampling,
    };
    let existing_score = options.existing_score.as_deref();
    let notes = plans
        .iter()
        .map(|t| Notes::new(project, t, &plan, existing_score));
    let mut notes: Vec<Notes> = notes.collect::<Result<_, _>>()?;
    let (collected, data) = collect_all(harvest, options, &mut notes, progress)?;
    if let Some(path) = &options.examples {
        write_examples(path, project, &plans, &collected)?;
    }
    // Before the first fit, which may take hours: a task that cannot be judged ends the training.
    for (index, (task, examples)) in tasks.iter().zip(&collected).enumerate() {
        refuse_early_ties(project, task.plan, examples.ties)?;
        if !is_optional(tasks, index) {
            check_validation(task.plan, &examples.validation_tally)?;
        }
    }
    let store = collected[0].training.cells();
    let (cells, cell_bytes, rows) = (store.len(), store.heap_bytes(), store.tally());
    let (fitted, mut left_out) = fit_tasks(project, tasks, &collected, split, options, progress)?;
    let mut judged = JudgedTasks {
        plans,
        collected,
        notes,
        evaluations: Vec::new(),
        fitted,
    };
    judged.retain_fitted();
    judged.evaluate(project, &changing);
    if !options.keep_worse_than_chance {
        left_out.extend(judged.leave_out_worse_than_chance(tasks));
    }
    let meta = BundleMeta {
        catalog_fingerprint: project.catalog.fingerprint(),
        created_at: options.created_at.clone(),
    };
    let JudgedTasks {
        collected,
        evaluations,
        fitted,
        ..
    } = judged;
    let (bundle, evaluations) = graded(fitted, evaluations, &collected, (plan, meta))?;
    let report = TrainReport {
        split,
        extent,
        data,
        cells,
        cell_bytes,
        rows,
        tasks: reports(bundle.fitted(), collected, evaluations),
        left_out,
    };
    Ok((bundle, report))
}

/// Logs remarks on queries and settings that do not fit the history.
fn warn(
    project: &Project,
    tasks: &[TrainTask<'_>],
    options: &TrainOptions,
    (extent, coverage): (Extent, &Coverage),
    split: Split,
) {
    for TrainTask { plan, .. } in tasks {
        // Given rows have moments and outcomes of their own.
        let is_asked = options.given.is_none();
        let lints = match is_asked {
            true => plan.lints_on(extent.first_ms, extent.last_ms),
            false => Vec::new(),
        };
        for lint in lints {
            tracing::warn!(task = plan.name, "{lint}");
        }
        if is_asked {
            for remark in coverage.remarks(&project.catalog, plan, extent) {
                tracing::warn!(task = plan.name, "{remark}");
            }
        }
        let setting = Setting {
            half_lives_days: &project.graph_options.half_lives_days,
            stride_ms: plan.anchors.stride_ms().filter(|_| is_asked),
            horizon_ms: plan.plan.horizon_ms,
            training_ms: split.val_from_ms - extent.first_ms,
        };
        for advice in advice(setting) {
            tracing::warn!(task = plan.name, "{advice}");
        }
    }
}

/// The bundle with the grades of its tasks, and the evaluations with the weights of what it looks
/// at.
fn graded(
    mut fitted: Fitted,
    mut evaluations: Vec<TaskEvaluation>,
    collected: &[Collected],
    (plan, meta): (FeaturePlan, BundleMeta),
) -> Result<(Bundle, Vec<TaskEvaluation>), LearnError> {
    for (index, evaluation) in evaluations.iter().enumerate() {
        if let Some(quality) = &evaluation.quality {
            fitted.set_quality(index, quality.clone());
        }
        fitted.set_metrics(index, "evaluation", evaluation.card());
    }
    let bundle = fitted.into_bundle(plan, meta)?;
    for (index, evaluation) in evaluations.iter_mut().enumerate() {
        evaluation.groups = group_weights(&bundle, index, &collected[index]);
    }
    Ok((bundle, evaluations))
}

/// The time after the first event in which no anchor of a whole population lies, and no entity with
/// an anchor of its own becomes known, milliseconds.
// The past of entities is cut off where the files begin: old ones look new, and silent. Why the
// longest half-life, and why at most a tenth of the time before validation, is unknown.
fn warmup_ms(project: &Project, options: &TrainOptions, extent: Extent, split: Split) -> i64 {
    let longest_days = project.graph_options.half_lives_days.last();
    let longest_ms = longest_days.map_or(0, |days| (days * DAY_MS_F64) as i64);
    let warmup_ms = options
        .warmup_ms
        .unwrap_or_else(|| longest_ms.min((split.val_from_ms - extent.first_ms) / 10));
    let since_first = options
        .train_from_ms
        .map(|from_ms| from_ms - extent.first_ms);
    warmup_ms.max(since_first.unwrap_or(0))
}

/// The sampling that was asked for, else that of the size.
///
/// # Errors
/// [`LearnError::Sample`] if a share is asked for beside a weighting that needs every row.
fn sampling(
    tasks: &[TrainTask<'_>],
    options: &TrainOptions,
    pairs: usize,
) -> Result<Sampling, LearnError> {
    let needs_all = |task: &&TrainTask<'_>| task.fit.weighting != Weighting::Rows;
    let whole = tasks.iter().find(needs_all);
    match (options.sample_share, whole) {
        (Some(share), Some(task)) if share < 1.0 => Err(LearnError::Sample {
            task: task.plan.name.clone(),
        }),
        (Some(share), _) => Ok(Sampling { share }),
        (None, Some(_)) => Ok(Sampling::ALL),
        (None, None) if options.given.is_some() => Ok(Sampling::ALL),
        (None, None) => Ok(Sampling::by_size(pairs)),
    }
}

/// The examples of the anchors, or of the given rows.
fn collect_all(
    harvest: Harvest<'_>,
    options: &TrainOptions,
    notes: &mut [Notes],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<Collected>, DataReport), LearnError> {
    let Some(given) = &options.given else {
        return collect_with(harvest, notes, progress);
    };
    let (examples, data) = collect_given(&harvest, given, &mut notes[0], progress)?;
    Ok((vec![examples], data))
}

/// The split of given rows, which are of one task.
fn given_split(
    given: &GivenRows,
    tasks: &[TrainTask<'_>],
    options: &TrainOptions,
) -> Result<Split, LearnError> {
    if tasks.len() > 1 {
        return Err(LearnError::Given(format!(
            "given rows are of one task, but {} would be trained; name one with --task",
            tasks.len()
        )));
    }
    given.refuse_unlabelled()?;
    given.split(options.val_from_ms)
}

/// A validation loss for a line of progress; without one, the network learns from all rows.
fn loss_in_words(loss: f64) -> String {
    match loss.is_finite() {
        true => format!(": loss {loss:.4}"),
        false => ", on all rows".to_owned(),
    }
}

/// Fits the tasks in their order: the first with a trunk, each other with a head on it. Optional
/// ones without outcomes of both kinds are left out.
fn fit_tasks(
    project: &Project,
    tasks: &[TrainTask<'_>],
    collected: &[Collected],
    split: Split,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Fitted, Vec<LeftOut>), LearnError> {
    let (refit, is_given) = (options.refit, options.given.is_some());
    let mut fitted: Option<Fitted> = None;
    let mut left_out = Vec::new();
    for (index, (task, examples)) in tasks.iter().zip(collected).enumerate() {
        let name = &task.plan.name;
        let mut tell = |p: leadpulse_model::FitProgress| {
            let loss = loss_in_words(p.validation_loss);
            let message = match p.part {
                FitPart::Network {
                    candidate,
                    member,
                    epochs,
                    ..
                } => format!(
                    "{name}: candidate {}, member {}, epoch {epochs:.1}{loss}",
                    candidate + 1,
                    member + 1
                ),
                FitPart::Trees { rounds } => format!("{name}: {rounds} trees{loss}"),
            };
            progress(Progress::Fit {
                done_ratio: (index as f64 + p.done_ratio) / tasks.len() as f64,
                message,
            });
        };
        let mut definition = definition(project, task.plan);
        if is_given && definition.head.is_binary() {
            // A given outcome says whether, not when.
            definition.head = Head::Window;
        }
        let options = restricted(project, task);
        let (training, validation) = (&examples.training, &examples.validation);
        let refit = refit.then_some(&examples.refit);
        let with_task = match &fitted {
            None => {
                let root = project.catalog.root().id;
                let more = &tasks[index + 1..];
                let first = match more.iter().any(|task| task.plan.plan.entity != root) {
                    true => fit_with_trunk,
                    false => fit,
                };
                first(training, validation, refit, definition, &options, &mut tell)
            }
            Some(base) => fit_head(
                base, training, validation, refit, definition, &options, &mut tell,
            ),
        };
        let mut with_task = match with_task {
            Err(error) if is_optional(tasks, index) && is_of_outcomes(&error) => {
                left_out.push(LeftOut {
                    task: name.clone(),
                    reason: error.to_string(),
                });
                continue;
            }
            fitted => fitted?,
        };
        let metrics = json!({
            "examples": training.len(),
            "sample_share": examples.sampling.share,
            "left_out_by_sample": examples.left_out,
            "validation_examples": validation.len(),
            "val_from_ms": split.val_from_ms,
            "test_from_ms": split.test_from_ms,
            "rows": examples.training_tally,
            "validation_rows": examples.validation_tally,
        });
        let place = with_task.tasks().len() - 1;
        with_task.set_metrics(place, "training", metrics);
        fitted = Some(with_task);
    }
    Ok((fitted.expect("the first task is never left out"), left_out))
}

fn reports(
    fitted: &Fitted,
    collected: Vec<Collected>,
    evaluations: Vec<TaskEvaluation>,
) -> Vec<TaskReport> {
    let tasks = fitted.tasks().iter().zip(collected).zip(evaluations);
    let reports = tasks.map(|((task, examples), evaluation)| TaskReport {
        name: task.definition.name.clone(),
        training: examples.training.len(),
        stopped: examples.stopped,
        sampling: examples.sampling,
        left_out: examples.left_out,
        validation: examples.validation.len(),
        training_tally: examples.training_tally,
        validation_tally: examples.validation_tally,
        metrics: task.metrics.clone(),
        evaluation,
    });
    reports.collect()
}

pub(crate) fn definition(project: &Project, task: &TaskPlan) -> TaskDefinition {
    let head = match task.plan.target.kind() {
        TargetKind::Monotone => Head::hazard(
            task.plan
                .target
                .hazard_edges_days()
                .iter()
                .map(|days| (days * DAY_MS_F64) as i64)
                .collect(),
        ),
        TargetKind::Window => Head::Window,
        TargetKind::Regression => Head::Regression,
    };
    TaskDefinition {
        name: task.name.clone(),
        entity: task.plan.entity,
        entity_name: project.catalog.table_at(task.plan.entity).name.clone(),
        pql: task.plan.text.clone(),
        horizon_ms: task.plan.horizon_ms,
        head,
    }
}

/// The trunk of a bundle sees what its first task may see: a task of other tables would learn from
/// what it must not, or miss what it may.
fn check_using(
    project: &Project,
    first: &TrainTask<'_>,
    others: &[TrainTask<'_>],
) -> Result<(), LearnError> {
    let tables = |task: &TrainTask<'_>| {
        let mut tables = task.plan.plan.using.clone();
        tables.sort_unstable();
        tables
    };
    let Some(other) = others.iter().find(|other| tables(other) != tables(first)) else {
        return Ok(());
    };
    let name = |task: &TrainTask<'_>| match &tables(task)[..] {
        [] => format!("{:?} uses all tables", task.plan.name),
        tables => {
            let names: Vec<&str> = tables
                .iter()
                .map(|t| project.catalog.table_at(*t).name.as_str())
                .collect();
            format!("{:?} uses {}", task.plan.name, names.join(", "))
        }
    };
    Err(LearnError::Using {
        first: name(first),
        other: name(other),
    })
}

/// USING names the only tables that features may come from: every candidate leaves out the columns
/// of the others.
fn restricted(project: &Project, task: &TrainTask<'_>) -> FitOptions {
    let mut options = task.fit.clone();
    let using = &task.plan.plan.using;
    if using.is_empty() {
        return options;
    }
    let others = project
        .catalog
        .tables
        .iter()
        .filter(|t| !using.contains(&t.id));
    let hubs = || {
        project
            .catalog
            .hubs
            .iter()
            .map(|h| format!("{}/", h.name))
            .chain([String::new()])
    };
    let prefixes: Vec<String> = others
        .flat_map(|t| {
            hubs().flat_map(move |hub| [format!("{hub}{}.", t.name), format!("{hub}{}/", t.name)])
        })
        .chain(of_several_tables(project, using))
        .collect();
    for candidate in &mut options.candidates {
        candidate.without.extend(prefixes.iter().cloned());
    }
    options
}

/// Prefixes of columns over several event tables, where one of them may not be used.
fn of_several_tables(project: &Project, using: &[TableId]) -> Vec<String> {
    let events = project.catalog.tables.iter().filter(|t| !t.is_entity());
    let mut prefixes = Vec::new();
    for table in events.filter(|t| !using.contains(&t.id)) {
        prefixes.push("people/".into());
        if table.staged.is_some() {
            prefixes.push("cell/order/".into());
        }
    }
    prefixes
}

/// Says before anything is trained that a task could not be judged.
fn check_validation(task: &TaskPlan, tally: &Tally) -> Result<(), FitError> {
    let (task_name, set) = (task.name.clone(), "validation");
    if tally.labelled == 0 {
        return Err(FitError::NoOutcomes {
            task: task_name,
            set,
            rows: tally.asked,
        });
    }
    let is_one = tally.positive == 0 || tally.positive == tally.labelled;
    if is_one && task.plan.target.kind() != TargetKind::Regression {
        return Err(FitError::OneOutcome {
            task: task_name,
            set,
            rows: tally.labelled,
            outcome: tally.positive > 0,
        });
    }
    Ok(())
}

/// Fills in the defaults of a split and checks that each part has room for the task whose outcomes
/// take longest.
fn split(
    project: &Project,
    tasks: &[TrainTask<'_>],
    files: &Files,
    options: &TrainOptions,
    (extent, lateness): (Extent, &Lateness),
) -> Result<Split, LearnError> {
    if let Some(given) = &options.given {
        return given_split(given, tasks, options);
    }
    let closing = tasks.iter().map(|task| {
        (
            Chronicle::new(project, task.plan, files, lateness).closes_after_ms(),
            &task.plan.name,
        )
    });
    let (horizon_ms, slowest) = closing.max().expect("there is at least one task");
    let test_from_ms = options.test_from_ms.unwrap_or(extent.last_ms - horizon_ms);
    let val_from_ms = options
        .val_from_ms
        .unwrap_or(test_from_ms - horizon_ms - horizon_ms / 3);
    let day = |ms: i64| format!("day {}", (ms - extent.first_ms).div_euclid(DAY_MS));
    if val_from_ms + horizon_ms > test_from_ms {
        return Err(LearnError::Split(format!(
            "validation starts on {} of the history and the test on {}, but outcomes of \
             {slowest:?} take {} days to be known; move --val-from back",
            day(val_from_ms),
            day(test_from_ms),
            horizon_ms / DAY_MS
        )));
    }
    if let Some(from_ms) = options
        .train_from_ms
        .filter(|from_ms| *from_ms >= val_from_ms)
    {
        return Err(LearnError::Split(format!(
            "training would start on {} and validation on {}: move --train-from back, or \
             --val-from forward",
            day(from_ms),
            day(val_from_ms)
        )));
    }
    if val_from_ms <= extent.first_ms {
        return Err(LearnError::Split(format!(
            "validation would start on {} of a history of {} days: there is nothing before it to \
             learn from; give more history, or shorten the window of {slowest:?}",
            day(val_from_ms),
            (extent.last_ms - extent.first_ms) / DAY_MS
        )));
    }
    Ok(Split {
        val_from_ms,
        test_from_ms,
    })
}
