//! Labels of a task, counted without encoding or training anything.

use crate::LearnError;
use crate::collect::asked;
use crate::data_report::DataReport;
use crate::labels::{Chronicle, Seen, Tally, TieShares};
use crate::survey::{Extent, Survey, survey};
use crate::walk::{Schedule, Walk};
use leadpulse_history::Files;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

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
}

/// Counts a task's labels without encoding or training anything.
pub fn count_labels(
    project: &Project,
    task: &TaskPlan,
    files: &Files,
) -> Result<LabelCount, LearnError> {
    let Survey {
        extent, lateness, ..
    } = survey(project, files, None)?;
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
                pairs.extend(
                    asked(graph, task, &due, AsOf::from_ms(anchor_ms))
                        .into_iter()
                        .map(|(_, entity)| (entity, anchor_ms)),
                );
            }
        },
    )?;
    let [mut chronicle] = chronicles;
    let outcomes = chronicle.known_by(walk.graph(), walk.belonging(), extent.last_ms);
    let mut tally = outcomes.tally();
    let (by_root, mut ties) = (walk.ties(), TieShares::default());
    for (entity, anchor_ms) in pairs {
        let seen = outcomes.seen(entity, anchor_ms);
        tally.add(entity, &seen);
        if let Seen::Known {
            label: Some(label), ..
        } = seen
        {
            by_root.add(&mut ties, entity, anchor_ms, label);
        }
    }
    Ok(LabelCount {
        extent,
        data: walk.report(files),
        anchors,
        tally,
        ties,
    })
}
