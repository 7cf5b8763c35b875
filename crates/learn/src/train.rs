//! From files to a bundle.

use serde_json::json;

use leadpulse_model::{Bundle, BundleMeta, FitOptions, Head, TaskDefinition, fit};
use leadpulse_pql::{History, Label, TargetKind};
use leadpulse_schema::{Condition, Operand, RowBatch};

use crate::collect::{Collected, Extent, Harvest, Split, Survey, apply_some, collect, eligible, observe, survey};
use crate::project::{Project, TaskPlan};
use crate::sources::FileSource;
use crate::{LearnError, Progress};

const DAY_MS: i64 = 86_400_000;

/// How a task is trained.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Training sees nothing known after this moment; validation starts here. By default a horizon and a third before the test.
    pub val_from_ms: Option<i64>,
    /// Validation outcomes are known by this moment. By default a horizon before the end of the history.
    pub test_from_ms: Option<i64>,
    /// No anchors this soon after the first event. By default the longest half-life, but no more than a tenth of the training time.
    pub warmup_ms: Option<i64>,
    /// Trains the chosen candidate again on everything known by the test's start.
    pub refit: bool,
    /// Of the fit.
    pub fit: FitOptions,
    /// Recorded in the bundle, if given.
    pub created_at: Option<String>,
}

/// What a training saw.
#[derive(Clone, Debug)]
pub struct TrainReport {
    /// The split.
    pub split: Split,
    /// The history.
    pub extent: Extent,
    /// Training examples.
    pub training: usize,
    /// Validation examples.
    pub validation: usize,
    /// Rows that could not be used.
    pub rejected: u64,
}

/// Trains one task on files.
pub fn train(
    project: &Project,
    task: &TaskPlan,
    sources: &[FileSource],
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Bundle, TrainReport), LearnError> {
    let Survey { spec, extent, changing } = survey(project, sources, options.val_from_ms)?;
    refuse_leaks(project, task, &changing)?;
    let split = split(task, options, extent)?;
    // A split by default follows from the extent: only then are the vocabularies of its training part not known yet.
    let spec = if options.val_from_ms.is_some() { spec } else { survey(project, sources, Some(split.val_from_ms))?.spec };
    let plan = project.feature_plan(spec);
    let longest_ms = project.graph_options.half_lives_days.last().map_or(0, |days| (days * DAY_MS as f64) as i64);
    let warmup_ms = options.warmup_ms.unwrap_or_else(|| longest_ms.min((split.val_from_ms - extent.first_ms) / 10));
    let harvest = Harvest { project, task, sources, plan: &plan, extent, split, warmup_ms };
    let Collected { training, validation, refit, rejected } = collect(harvest, progress)?;
    let report = TrainReport { split, extent, training: training.len(), validation: validation.len(), rejected };

    let head = match task.plan.target.kind() {
        TargetKind::Monotone => {
            Head::hazard(task.plan.target.hazard_edges_days().iter().map(|days| (days * DAY_MS as f64) as i64).collect())
        }
        TargetKind::Window => Head::Window,
        TargetKind::Regression => Head::Regression,
    };
    let definition = TaskDefinition {
        name: task.name.clone(),
        entity: task.plan.entity,
        entity_name: project.catalog.table_at(task.plan.entity).name.clone(),
        pql: task.plan.text.clone(),
        horizon_ms: task.plan.horizon_ms,
        head,
    };
    let options = restricted(project, task, options);
    let mut fitted = fit(&training, &validation, options.refit.then_some(&refit), definition, &options.fit, &mut |p| {
        let message = format!(
            "candidate {}, member {}, epoch {:.1}: validation loss {:.4}",
            p.candidate + 1,
            p.member + 1,
            p.epochs,
            p.validation_loss
        );
        progress(Progress::Fit { done_ratio: p.done_ratio, message });
    })?;
    fitted.set_metrics(
        0,
        "training",
        json!({
            "examples": report.training,
            "validation_examples": report.validation,
            "val_from_ms": split.val_from_ms,
            "test_from_ms": split.test_from_ms,
        }),
    );
    let meta = BundleMeta { catalog_fingerprint: project.catalog.fingerprint(), created_at: options.created_at.clone() };
    Ok((fitted.into_bundle(plan, meta)?, report))
}

/// USING names the only tables that features may come from: every candidate leaves out the columns of the others.
fn restricted(project: &Project, task: &TaskPlan, options: &TrainOptions) -> TrainOptions {
    let mut options = options.clone();
    if task.plan.using.is_empty() {
        return options;
    }
    let others = project.catalog.tables.iter().filter(|t| !task.plan.using.contains(&t.id));
    let hubs = || project.catalog.hubs.iter().map(|h| format!("{}/", h.name)).chain([String::new()]);
    let prefixes: Vec<String> =
        others.flat_map(|t| hubs().flat_map(move |hub| [format!("{hub}{}.", t.name), format!("{hub}{}/", t.name)])).collect();
    for candidate in &mut options.fit.candidates {
        candidate.without.extend(prefixes.iter().cloned());
    }
    options
}

/// Fills in the defaults of a split and checks that each part has room.
fn split(task: &TaskPlan, options: &TrainOptions, extent: Extent) -> Result<Split, LearnError> {
    let horizon_ms = task.plan.horizon_ms;
    let test_from_ms = options.test_from_ms.unwrap_or(extent.last_ms - horizon_ms);
    let val_from_ms = options.val_from_ms.unwrap_or(test_from_ms - horizon_ms - horizon_ms / 3);
    let day = |ms: i64| format!("day {}", (ms - extent.first_ms).div_euclid(DAY_MS));
    if val_from_ms + horizon_ms > test_from_ms {
        return Err(LearnError::Split(format!(
            "validation starts on {} of the history and the test on {}, but outcomes take {} days to be known; move --val-from back",
            day(val_from_ms),
            day(test_from_ms),
            horizon_ms / DAY_MS
        )));
    }
    if val_from_ms <= extent.first_ms {
        return Err(LearnError::Split(format!(
            "validation would start on {} of a history of {} days: there is nothing before it to learn from; give more history, or shorten the window",
            day(val_from_ms),
            (extent.last_ms - extent.first_ms) / DAY_MS
        )));
    }
    Ok(Split { val_from_ms, test_from_ms })
}

/// A filter on a field whose past is not in the files would know the future: entities that converted are filtered by what they are now.
fn refuse_leaks(project: &Project, task: &TaskPlan, changing: &[bool]) -> Result<(), LearnError> {
    fn columns(condition: &Condition, found: &mut Vec<leadpulse_schema::FieldId>) {
        let mut operand = |o: &Operand| {
            if let Operand::Column(field) = o {
                found.push(*field);
            }
        };
        match condition {
            Condition::And(a, b) | Condition::Or(a, b) => {
                columns(a, found);
                columns(b, found);
            }
            Condition::Not(a) => columns(a, found),
            Condition::Compare(o, ..) | Condition::In(o, _) | Condition::IsNull(o) | Condition::Like(o, _) => operand(o),
        }
    }
    let table = project.catalog.table_at(task.plan.entity);
    let mut named = Vec::new();
    if let Some(condition) = &task.population.condition {
        columns(condition, &mut named);
    }
    let mutable = named.into_iter().map(|f| table.field_at(f)).find(|f| !f.is_static && f.id != table.key && Some(f.id) != table.time);
    let Some(field) = mutable.filter(|_| !changing[table.id.index()]) else { return Ok(()) };
    Err(LearnError::Leak {
        task: task.name.clone(),
        message: format!(
            "its filter reads {}.{}, but the files hold one version of every row of {}: what a row is today says what happened to it. \
             Supply the changes (one row per version, in order), filter by events, or mark the field \"static\" if it never changes",
            table.name, field.name, table.name
        ),
    })
}

/// How often a task's target came true, at its own anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelCount {
    /// Anchors.
    pub anchors: usize,
    /// Labelled rows: (entity, anchor) pairs of the population whose window has closed.
    pub rows: usize,
    /// Rows where the condition came true; for a regression, rows with a value above 0.
    pub positive: usize,
}

/// Counts a task's labels without encoding or training anything.
pub fn count_labels(project: &Project, task: &TaskPlan, sources: &[FileSource]) -> Result<LabelCount, LearnError> {
    let Survey { extent, .. } = survey(project, sources, None)?;
    let anchors = task.anchors.between(extent.first_ms, extent.last_ms - task.plan.horizon_ms);
    let mut replay = crate::sources::Replay::open(project.catalog.clone(), sources)?;
    let mut graph = project.graph(leadpulse_graph::Tracking::Off);
    let mut history = History::new(&task.plan, &project.catalog);
    let mut asked = Vec::new();
    let mut batch = RowBatch::new();
    let mut born = Vec::new();
    for anchor in anchors.iter().copied().chain([i64::MAX]) {
        while apply_some(&mut replay, &mut graph, anchor, &mut batch, |graph, row| {
            if let Some((entity, since_ms)) = observe(graph, task, &mut history, row) {
                born.extend(task.anchors.of_entity(since_ms).map(|anchor| (anchor, entity)));
            }
        })? {}
        if anchor != i64::MAX {
            asked.extend(eligible(&graph, task, anchor).into_iter().map(|(_, entity)| (anchor, entity)));
        }
    }
    // Entities of their own anchor are counted without their filter: it would need the state of each moment.
    asked.extend(born.into_iter().filter(|(anchor, _)| anchor + task.plan.horizon_ms <= extent.last_ms));
    let labels = history.finish();
    let mut count = LabelCount { anchors: anchors.len(), ..LabelCount::default() };
    for (anchor, entity) in asked {
        let positive = match labels.label(entity.0, anchor) {
            Label::Binary(label) => label,
            Label::Value(value) => value > 0.0,
            Label::Dropped => continue,
        };
        count.rows += 1;
        count.positive += usize::from(positive);
    }
    Ok(count)
}
