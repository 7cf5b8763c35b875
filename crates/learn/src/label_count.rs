//! Labels of a task, counted without encoding or training anything.

use crate::LearnError;
use crate::collect::asked;
use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TieShares};
use crate::leaks::refuse_leaks;
use crate::survey::{Extent, Survey, survey};
use crate::walk::{Schedule, Walk};
use leadpulse_history::Files;
use leadpulse_pql::TargetKind;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;
use serde::Serialize;

/// Counts of a task's labels at its own anchors.
#[derive(Clone, Debug)]
pub struct LabelCount {
    pub extent: Extent,
    /// What became of the rows of the files.
    pub data: DataReport,
    /// The number of different anchors.
    pub anchors: usize,
    /// (entity, anchor) pairs of the population whose window has closed, and what became of them.
    pub tally: Tally,
    /// Events that name a root before the tie, by label; for tasks about roots.
    pub ties: TieShares,
    /// Sentences about labels that are likely wrong, or that `train` refuses.
    pub remarks: Vec<String>,
    /// The first labels, in order of their anchors; as many as were asked for.
    pub first: Vec<TakenLabel>,
}

/// The label of one entity at one anchor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TakenLabel {
    /// Key of the entity.
    pub entity: String,
    /// The anchor, milliseconds.
    #[serde(rename = "time")]
    pub at_ms: i64,
    /// 1 where the condition came true and 0 where it did not, or the value of a regression.
    pub label: f64,
}

/// Bounds of a count of labels.
#[derive(Clone, Copy, Debug)]
pub struct LabelBounds {
    /// Labels to list one by one.
    pub first: usize,
    /// (entity, anchor) pairs to look at, at most: each takes 16 bytes.
    pub most_pairs: usize,
}

impl LabelBounds {
    /// Counts all, and lists none.
    pub const COUNTS: Self = Self {
        first: 0,
        most_pairs: usize::MAX,
    };
}

/// Counts a task's labels without encoding or training anything.
///
/// # Errors
/// Files that cannot be read; [`LearnError::TooManyLabels`] beyond the bound.
pub fn count_labels(
    project: &Project,
    task: &TaskPlan,
    files: &Files,
    bounds: LabelBounds,
) -> Result<LabelCount, LearnError> {
    let Survey {
        extent,
        lateness,
        coverage,
        changing,
        ..
    } = survey(project, files, None)?;
    let mut remarks = coverage.remarks(&project.catalog, task, extent);
    if let Err(LearnError::Leak { message, .. }) = refuse_leaks(project, task, &changing) {
        remarks.push(format!("train refuses this query: {message}"));
    }
    let mut chronicles = [Chronicle::new(project, task, files, &lateness)];
    let first_ms = if task.anchors.is_of_entities() {
        i64::MIN
    } else {
        extent.first_ms
    };
    let schedule = Schedule::new([(
        task,
        first_ms,
        extent.last_ms - chronicles[0].closes_after_ms(),
    )]);
    let mut walk = Walk::new(project, files, i64::MAX)?;
    let mut pairs = Vec::new();
    let mut anchors = 0;
    walk.pass(
        schedule,
        &mut chronicles,
        (extent.last_ms, extent.rows),
        &mut |_| {},
        |graphs, anchor_ms, due| {
            let graph = graphs.whole;
            anchors += 1;
            for due in due {
                if pairs.len() > bounds.most_pairs {
                    return;
                }
                pairs.extend(
                    asked(graph, task, &due, AsOf::from_ms(anchor_ms))
                        .into_iter()
                        .map(|(_, entity)| (entity, anchor_ms)),
                );
            }
        },
    )?;
    if pairs.len() > bounds.most_pairs {
        return Err(LearnError::TooManyLabels {
            most: bounds.most_pairs,
        });
    }
    let [mut chronicle] = chronicles;
    let outcomes = chronicle.known_by(walk.graph(), walk.belonging(), extent.last_ms);
    let mut tally = outcomes.tally();
    let (by_root, mut ties) = (walk.ties(), TieShares::default());
    let mut first = Vec::new();
    for (entity, anchor_ms) in pairs {
        let seen = outcomes.seen(entity, anchor_ms);
        tally.add(entity, &seen);
        if let Seen::Known {
            label: Some(label), ..
        } = seen
        {
            by_root.add(&mut ties, entity, anchor_ms, label);
            if first.len() < bounds.first {
                first.push(TakenLabel {
                    entity: walk.graph().directory().key(entity).to_string(),
                    at_ms: anchor_ms,
                    label,
                });
            }
        }
    }
    remarks.extend(one_sided(task, &tally));
    Ok(LabelCount {
        extent,
        data: walk.report(files),
        anchors,
        tally,
        ties,
        remarks,
        first,
    })
}

/// A sentence about labels that are all alike; `None` for numbers, and where there are both kinds.
fn one_sided(task: &TaskPlan, tally: &Tally) -> Option<String> {
    let is_number = task.plan.target.kind() == TargetKind::Regression;
    if is_number || tally.labelled == 0 {
        return None;
    }
    let remedy = match tally.positive {
        0 => {
            "compare the values in the target with those in the files, and the window with how often it happens"
        }
        positive if positive == tally.labelled => {
            "a shorter window or a higher threshold divides them"
        }
        _ => return None,
    };
    let label = u8::from(tally.positive > 0);
    Some(format!(
        "all {} labels are {label}, so there is nothing to learn: {remedy}",
        tally.labelled
    ))
}
