//! The order of steps towards a decision, over all staged event tables: stage numbers share one
//! scale.
//!
//! Steps at the same moment have no order. Steps older than the order window do not count.
//!
//! Chains are found in a list of steps whenever a cell is encoded. An automaton that every event
//! moves on would be cheaper, but a late event would meet it in a state of later ones
//! (docs/decisions/0009-state-that-commutes.md).

use smallvec::SmallVec;

use leadpulse_graph::{EntityId, Node};
use leadpulse_schema::TableId;
use leadpulse_schema::units::{AsOf, DAY_MS_F64};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, recency};
use crate::groups;
use crate::spec::PlanSource;

/// Most steps that count, the newest ones.
// Bounds the work of a cell with thousands of events. Why 512 is unknown.
const STEPS: usize = 512;

/// An event of a staged table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StagedStep {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Stage number; deeper stages are larger.
    pub stage: u8,
    pub table: TableId,
    /// Entity that the event belongs to.
    pub owner: EntityId,
}

/// The order of some steps in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
struct OrderSummary {
    /// Length of the longest chain of later and later stages.
    ascending: usize,
    /// Length of the longest chain of earlier and earlier stages.
    descending: usize,
    /// The deepest stage, as a position among all stages from 1; 0 without steps.
    deepest: usize,
    /// Time of the newest step that was deeper than the moment before, milliseconds.
    last_up_ms: Option<i64>,
    /// Per stage the time of the newest step that followed an earlier stage. The first stage
    /// follows anything.
    reached: SmallVec<[Option<i64>; 8]>,
}

/// The steps of one entity, or of a whole cell.
#[derive(Clone, Debug)]
pub(crate) struct OrderBlock {
    /// Per entity table: positions and tables of its staged event states.
    staged: Vec<(TableId, Vec<(usize, TableId)>)>,
    /// Stage numbers in use, ascending.
    stages: Vec<u8>,
    /// Explanation group of the columns.
    group: String,
    window_ms: i64,
    /// True if stages have columns of their own.
    per_stage: bool,
}

/// Position among the event states of an entity table, and event table, of each staged one.
fn staged_positions(source: &PlanSource<'_>, table: TableId) -> Vec<(usize, TableId)> {
    let staged = source.state.events.iter().filter(|l| l.top_stage > 0);
    staged
        .flat_map(|layout| {
            let carriers = source.carriers(layout.table, &[table]);
            carriers
                .into_iter()
                .map(move |(_, position)| (position, layout.table))
        })
        .collect()
}

impl OrderBlock {
    /// The block of the entities of one table; `None` if none of its events is staged.
    pub(crate) fn of_table(
        source: &PlanSource<'_>,
        table: TableId,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        let prefix = format!("{}/", source.catalog.table_at(table).name);
        Self::new(source, &[table], &prefix, columns)
    }

    /// The block of a whole cell; `None` if no event is staged.
    pub(crate) fn of_cell(
        source: &PlanSource<'_>,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        Self::new(source, &source.entities(), "cell/", columns)
    }

    fn new(
        source: &PlanSource<'_>,
        tables: &[TableId],
        prefix: &str,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        let staged: Vec<_> = tables
            .iter()
            .map(|t| (*t, staged_positions(source, *t)))
            .filter(|(_, p)| !p.is_empty())
            .collect();
        let events = || {
            staged
                .iter()
                .flat_map(|(_, p)| p)
                .map(|(_, event)| source.catalog.table_at(*event))
        };
        let mut stages: Vec<u8> = events()
            .filter_map(|t| t.staged.as_ref())
            .flat_map(|s| s.stages.values().copied())
            .collect();
        stages.sort_unstable();
        stages.dedup();
        if stages.is_empty() {
            return None;
        }
        let group = groups::of_order(events());
        let mut name = |what: String| {
            columns.push(UnplacedColumn {
                name: format!("{prefix}order/{what}"),
                group: group.clone(),
                kind: GroupKind::Behaviour,
                absent: Absent::Zero,
            })
        };
        [
            "ascending",
            "descending",
            "balance",
            "deepest",
            "up_recency",
        ]
        .iter()
        .for_each(|what| name((*what).into()));
        // Elsewhere the recencies of values stand for those of stages.
        let root = source.catalog.root().id;
        let per_stage = staged.iter().all(|(table, _)| *table == root);
        let with_columns = stages.iter().filter(|_| per_stage);
        with_columns.for_each(|stage| name(format!("stage{stage}_recency")));
        let window_ms = (source.options.order_window_days * DAY_MS_F64) as i64;
        Some(Self {
            staged,
            stages,
            group,
            window_ms,
            per_stage,
        })
    }

    /// The steps of some entities within the window, by time; the newest [`STEPS`] of them.
    pub(crate) fn steps<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node>,
        as_of: AsOf,
    ) -> SmallVec<[StagedStep; 16]> {
        let from_ms = as_of.ms().saturating_sub(self.window_ms);
        let mut steps = SmallVec::new();
        for node in nodes {
            let Some((_, positions)) = self.staged.iter().find(|(t, _)| *t == node.table) else {
                continue;
            };
            for (position, table) in positions {
                let staged = &node.events[*position].staged;
                let recent = &staged[staged.partition_point(|s| s.time_ms < from_ms)..];
                steps.extend(recent.iter().map(|s| StagedStep {
                    time_ms: s.time_ms,
                    stage: s.stage,
                    table: *table,
                    owner: node.entity,
                }));
            }
        }
        if steps.len() > STEPS {
            let cut = steps.len() - STEPS;
            steps.select_nth_unstable(cut);
            steps.drain(..cut);
        }
        steps.sort_unstable();
        steps
    }

    /// The explanation group of the columns.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    fn rank(&self, stage: u8) -> usize {
        self.stages.partition_point(|s| *s < stage)
    }

    fn summary(&self, steps: &[StagedStep]) -> OrderSummary {
        let n = self.stages.len();
        let mut summary = OrderSummary {
            reached: smallvec::smallvec![None; n],
            ..OrderSummary::default()
        };
        let mut up: SmallVec<[usize; 16]> = smallvec::smallvec![0; n];
        let mut down = up.clone();
        let mut before = None;
        for moment in steps.chunk_by(|a, b| a.time_ms == b.time_ms) {
            // A moment is sorted by stage. Upwards each step looks only at lower stages, so going
            // from the deepest stage down meets no chain of this moment. Downwards it is the other
            // way round.
            let ranks = || moment.iter().map(|s| self.rank(s.stage));
            for rank in ranks().rev() {
                let length = 1 + up[..rank].iter().copied().max().unwrap_or(0);
                if rank == 0 || length > 1 {
                    summary.reached[rank] = Some(moment[0].time_ms);
                }
                up[rank] = up[rank].max(length);
            }
            for rank in ranks() {
                down[rank] =
                    down[rank].max(1 + down[rank + 1..].iter().copied().max().unwrap_or(0));
            }
            let deepest = ranks().next_back();
            if before.is_some() && deepest > before {
                summary.last_up_ms = Some(moment[0].time_ms);
            }
            before = deepest;
            summary.deepest = summary.deepest.max(deepest.map_or(0, |d| d + 1));
        }
        summary.ascending = up.into_iter().max().unwrap_or(0);
        summary.descending = down.into_iter().max().unwrap_or(0);
        summary
    }

    /// Appends the block's numbers.
    pub(crate) fn write<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node>,
        as_of: AsOf,
        out: &mut Vec<f32>,
    ) {
        let summary = self.summary(&self.steps(nodes, as_of));
        let all = self.stages.len() as f32;
        let (up, down) = (summary.ascending as f32, summary.descending as f32);
        let balance = if up + down > 0.0 {
            (up - down) / (up + down)
        } else {
            0.0
        };
        out.extend([
            up / all,
            down / all,
            balance,
            summary.deepest as f32 / all,
            recency(summary.last_up_ms, as_of),
        ]);
        if self.per_stage {
            out.extend(summary.reached.iter().map(|t| recency(*t, as_of)));
        }
    }
}

/// The longest chain of strictly later stages at strictly later times, or of strictly earlier
/// stages if `is_reverse`. Of several chains the one that ends last, then the shortest in time.
/// `steps` must be sorted.
pub(crate) fn longest_chain(steps: &[StagedStep], is_reverse: bool) -> Vec<StagedStep> {
    /// The best chain that ends with a step: length, begin, and the step before.
    #[derive(Clone, Copy)]
    struct ChainLink {
        length: usize,
        began_ms: i64,
        before: Option<usize>,
    }
    let is_on = |from: u8, to: u8| if is_reverse { to < from } else { to > from };
    let mut links: Vec<ChainLink> = Vec::with_capacity(steps.len());
    // Per stage the best chain that ends with it, of moments before the current one.
    let mut best: Vec<(u8, usize)> = Vec::new();
    let mut done = 0;
    for moment in steps.chunk_by(|a, b| a.time_ms == b.time_ms) {
        for step in moment {
            let candidates = best
                .iter()
                .filter(|(stage, _)| is_on(*stage, step.stage))
                .map(|(_, at)| *at);
            let before = candidates
                .max_by_key(|at| (links[*at].length, links[*at].began_ms, steps[*at].time_ms));
            links.push(match before {
                Some(at) => ChainLink {
                    length: links[at].length + 1,
                    began_ms: links[at].began_ms,
                    before,
                },
                None => ChainLink {
                    length: 1,
                    began_ms: step.time_ms,
                    before,
                },
            });
        }
        for at in done..done + moment.len() {
            let is_better = |other: usize| {
                (links[at].length, links[at].began_ms)
                    >= (links[other].length, links[other].began_ms)
            };
            match best.iter_mut().find(|(stage, _)| *stage == steps[at].stage) {
                Some((_, other)) if is_better(*other) => *other = at,
                Some(_) => {}
                None => best.push((steps[at].stage, at)),
            }
        }
        done += moment.len();
    }
    let mut next = (0..steps.len())
        .max_by_key(|at| (links[*at].length, steps[*at].time_ms, links[*at].began_ms));
    let mut chain = Vec::new();
    while let Some(at) = next {
        chain.push(steps[at]);
        next = links[at].before;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(stages: &[(i64, u8)]) -> Vec<StagedStep> {
        let mut steps: Vec<StagedStep> = stages
            .iter()
            .map(|(t, stage)| StagedStep {
                time_ms: *t,
                stage: *stage,
                table: TableId(0),
                owner: EntityId(0),
            })
            .collect();
        steps.sort_unstable();
        steps
    }

    fn block() -> OrderBlock {
        OrderBlock {
            staged: Vec::new(),
            stages: vec![1, 3, 5, 6],
            group: String::new(),
            window_ms: i64::MAX,
            per_stage: true,
        }
    }

    /// The longest chain by trying all subsets.
    fn longest(steps: &[StagedStep], is_reverse: bool) -> usize {
        let follows = |a: &StagedStep, b: &StagedStep| {
            a.time_ms < b.time_ms
                && if is_reverse {
                    b.stage < a.stage
                } else {
                    b.stage > a.stage
                }
        };
        (0_u32..1 << steps.len())
            .map(|set| {
                steps
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| set >> i & 1 == 1)
                    .map(|(_, s)| *s)
                    .collect::<Vec<StagedStep>>()
            })
            .filter(|chain| chain.windows(2).all(|w| follows(&w[0], &w[1])))
            .map(|chain| chain.len())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn forward_and_reverse_orders_differ() {
        let forward = block().summary(&steps(&[(1, 1), (2, 3), (3, 5), (4, 6)]));
        assert_eq!(
            (
                forward.ascending,
                forward.descending,
                forward.deepest,
                forward.last_up_ms
            ),
            (4, 1, 4, Some(4))
        );
        assert_eq!(forward.reached[..], [Some(1), Some(2), Some(3), Some(4)]);
        let reverse = block().summary(&steps(&[(1, 6), (2, 5), (3, 3), (4, 1)]));
        assert_eq!(
            (
                reverse.ascending,
                reverse.descending,
                reverse.deepest,
                reverse.last_up_ms
            ),
            (1, 4, 4, None)
        );
        assert_eq!(reverse.reached[..], [Some(4), None, None, None]);
        assert_eq!(
            block().summary(&[]),
            OrderSummary {
                reached: smallvec::smallvec![None; 4],
                ..OrderSummary::default()
            }
        );
    }

    #[test]
    fn steps_of_one_moment_have_no_order() {
        let at_once = block().summary(&steps(&[(1, 1), (1, 3), (1, 5), (1, 6)]));
        assert_eq!(
            (at_once.ascending, at_once.descending, at_once.last_up_ms),
            (1, 1, None)
        );
        assert_eq!(
            longest_chain(&steps(&[(1, 1), (1, 3), (2, 6)]), false).len(),
            2
        );
    }

    #[test]
    fn longest_chains_match_a_search_of_all_subsets() {
        let mut entropy = 1_u64;
        for _ in 0..2000 {
            let mut below = |n: u64| {
                entropy = entropy
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (entropy >> 33) % n
            };
            let drawn: Vec<(i64, u8)> = (0..below(9))
                .map(|_| (below(8) as i64, [1, 3, 5, 6][below(4) as usize]))
                .collect();
            let steps = steps(&drawn);
            let summary = block().summary(&steps);
            assert_eq!(
                (summary.ascending, summary.descending),
                (longest(&steps, false), longest(&steps, true)),
                "{drawn:?}"
            );
            for (is_reverse, length) in [(false, summary.ascending), (true, summary.descending)] {
                let chain = longest_chain(&steps, is_reverse);
                assert_eq!(chain.len(), length, "{drawn:?}");
                assert_eq!(
                    longest(&chain, is_reverse),
                    length,
                    "{drawn:?} gives {chain:?}"
                );
            }
        }
    }

    #[test]
    fn of_equal_chains_the_newest_and_shortest_is_shown() {
        let chain = longest_chain(&steps(&[(1, 1), (2, 3), (50, 1), (60, 3), (70, 3)]), false);
        assert_eq!(
            chain.iter().map(|s| s.time_ms).collect::<Vec<_>>(),
            [50, 70]
        );
    }
}
