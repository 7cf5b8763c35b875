//! The training rows that are learnt from: all of engaged cells, a share of the others.
//!
//! Decision: docs/decisions/0062-rows-are-sampled-by-what-was-known.md

use std::collections::BTreeSet;

use leadpulse_graph::{Cell, EntityId};
use leadpulse_project::TaskPlan;
use leadpulse_schema::units::DAY_MS;

use crate::survey::Survey;

/// An event this short before the anchor makes a cell engaged.
const ENGAGED_MS: i64 = 30 * DAY_MS;
/// Training rows up to which all are taken.
// About 2.4 GiB of cells of the shipped CRM.
const MOST_CELLS: usize = 400_000;
/// The least share that is taken without being asked for.
const LEAST_SHARE: f64 = 0.05;

/// A sample of (cell, anchor) pairs: all whose cell had an event in the 30 days before the anchor,
/// and a share of the others, chosen by a hash. What is known after the anchor decides nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The share of quiet cells, above 0 and at most 1.
    pub share: f64,
}

impl Sampling {
    /// Every pair.
    pub const ALL: Self = Self { share: 1.0 };

    /// The sampling of a training by its size: everything up to 400,000 pairs of a cell and an
    /// anchor, above that the share of quiet cells that would make so many of all, at least 0.05.
    pub(crate) fn by_size(pairs: usize) -> Self {
        let share = MOST_CELLS as f64 / pairs.max(1) as f64;
        Self {
            share: share.clamp(LEAST_SHARE, 1.0),
        }
    }

    /// The rows that a cell at an anchor stands for; `None` for one that is left out.
    pub(crate) fn weight(self, cell: &Cell, anchor_ms: i64) -> Option<f32> {
        if self.share >= 1.0 || is_engaged(cell, anchor_ms) {
            return Some(1.0);
        }
        is_sampled(cell.anchor, anchor_ms, self.share).then_some(1.0 / self.share as f32)
    }
}

/// True if an event of the cell lies in the 30 days before an anchor, by what the cell knows.
pub(crate) fn is_engaged(cell: &Cell, anchor_ms: i64) -> bool {
    let newest_ms = cell.newest_event_ms();
    newest_ms.is_some_and(|newest_ms| newest_ms > anchor_ms - ENGAGED_MS)
}

/// The most pairs of a cell and an anchor that tasks ask about between two moments: every root that
/// is known, whatever the population; for a task with an anchor of each entity those entities.
pub(crate) fn most_pairs(
    root: usize,
    tasks: &[&TaskPlan],
    survey: &Survey,
    (first_ms, last_ms): (i64, i64),
) -> usize {
    let mut moments = BTreeSet::new();
    let mut pairs = 0;
    for task in tasks {
        if task.anchors.is_of_entities() {
            pairs += survey.first_known_ms[task.plan.entity.index()].len();
        } else if first_ms <= last_ms {
            moments.extend(task.anchors.between(first_ms, last_ms));
        }
    }
    let known = |moment_ms: i64| survey.first_known_ms[root].partition_point(|at| *at <= moment_ms);
    pairs + moments.into_iter().map(known).sum::<usize>()
}

/// Whether a cell is looked at at an anchor: the same every time, and independent of what happens.
pub(crate) fn is_sampled(cell: EntityId, anchor_ms: i64, ratio: f64) -> bool {
    let mut x = (u64::from(cell.0) << 32) ^ (anchor_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 <= ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_ratio_in_cells_and_in_anchors() {
        for ratio in [0.1, 0.5] {
            let share = |cells: std::ops::Range<u32>, anchors: std::ops::Range<i64>| {
                let all = (cells.len() * anchors.clone().count()) as f64;
                let pairs =
                    cells.flat_map(|c| anchors.clone().map(move |a| (EntityId(c), a * DAY_MS)));
                pairs.filter(|(c, a)| is_sampled(*c, *a, ratio)).count() as f64 / all
            };
            for (cells, anchors) in [(0..2000, 0..1), (7..8, 0..2000), (0..50, 0..50)] {
                let share = share(cells, anchors);
                assert!((share - ratio).abs() < 0.04, "{share} {ratio}");
            }
        }
    }

    #[test]
    fn small_histories_are_taken_whole() {
        for (pairs, share) in [
            (0, 1.0),
            (MOST_CELLS, 1.0),
            (4 * MOST_CELLS, 0.25),
            (1000 * MOST_CELLS, LEAST_SHARE),
        ] {
            assert_eq!(Sampling::by_size(pairs).share, share);
        }
    }
}
