//! The walk through a history: the graph moves from moment to moment, and tasks are due at their
//! anchors.
//!
//! Decision: docs/decisions/0013-one-pipeline.md

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use leadpulse_graph::{EntityId, Graph, Tracking};
use leadpulse_schema::{Row, RowBatch};

use crate::data_report::{DataReport, RowCounts};
use crate::labels::{Belonging, Chronicle, Namings, Ties};
use crate::stopped::StoppedSources;
use crate::{LearnError, Progress};
use leadpulse_history::{Files, Replay};
use leadpulse_project::Anchors;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

/// Rows applied at a time.
pub(crate) const BATCH_ROWS: usize = 8192;

/// A graph on its way through a history.
pub(crate) struct Walk {
    replay: Replay,
    graph: Graph,
    batch: RowBatch,
    period_ms: i64,
    freeze_ms: i64,
    rows: u64,
    counts: RowCounts,
    /// The same history with sources that stop; `None` where no example is to be taken of it.
    stopped: Option<StoppedSources>,
    /// Labels will be asked: only then is it kept who belonged to whom.
    is_asked: bool,
    belonging: Belonging,
    namings: Namings,
}

impl Walk {
    /// At the start of the files. Rows known later than `freeze_ms` are never applied.
    pub fn new(project: &Project, files: &Files, freeze_ms: i64) -> Result<Self, LearnError> {
        Ok(Self {
            replay: files.replay_learned()?,
            graph: project.graph(Tracking::Off),
            batch: RowBatch::new(),
            period_ms: project.graph_options.board_period_ms,
            freeze_ms,
            rows: 0,
            counts: RowCounts::new(&project.catalog, files),
            stopped: None,
            is_asked: false,
            belonging: Belonging::default(),
            namings: Namings::default(),
        })
    }

    /// Walks through the history with sources that stop as well.
    pub fn with_stopped_sources(mut self, project: &Project) -> Self {
        self.stopped = StoppedSources::new(project);
        self
    }

    /// What became of the rows so far.
    pub fn report(&self, files: &Files) -> DataReport {
        self.counts.report(files, &self.graph)
    }

    /// Who belonged to whom in what [`Self::pass`] went through.
    pub fn belonging(&self) -> &Belonging {
        &self.belonging
    }

    /// Events that [`Self::pass`] went through and that name a root beside a member.
    pub fn ties(&self) -> Ties {
        self.namings.ties(&self.graph, &self.belonging)
    }

    /// The graph where the walk is.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Brings the graph to a moment: everything known at or before it is applied.
    pub fn reach(
        &mut self,
        moment_ms: i64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), LearnError> {
        while !self.step(moment_ms, i64::MAX, |_, _| {})? {
            progress(Progress::Replay {
                rows: self.rows,
                of: 0,
            });
        }
        Ok(())
    }

    /// Passes through the history up to `last_ms`: every accepted row is offered to the tasks'
    /// chronicles, and at each moment of the schedule `ask` gets the graphs, the moment and who is
    /// due. `of` is how many rows there are, for `progress`.
    pub fn pass(
        &mut self,
        mut schedule: Schedule,
        chronicles: &mut [Chronicle<'_>],
        (last_ms, of): (i64, u64),
        progress: &mut dyn FnMut(Progress),
        mut ask: impl FnMut(Graphs<'_>, i64, Vec<Due>),
    ) -> Result<(), LearnError> {
        let reach_ms = schedule.reach_ms();
        self.is_asked = true;
        self.graph.keep_changes();
        loop {
            let next_ms = schedule.peek_ms();
            let arrived = self.step(next_ms.unwrap_or(last_ms), reach_ms, |graph, row| {
                for (index, chronicle) in chronicles.iter_mut().enumerate() {
                    for entity in chronicle.observe(graph, row) {
                        schedule.known(index, entity, row.known_ms());
                    }
                }
            })?;
            if !arrived {
                progress(Progress::Replay {
                    rows: self.rows,
                    of,
                });
                continue;
            }
            // A step that arrives applies no rows: what was next still is.
            let Some(at_ms) = next_ms else { return Ok(()) };
            let graphs = Graphs {
                whole: &self.graph,
                stopped: self.stopped.as_ref().map(StoppedSources::graph),
            };
            ask(graphs, at_ms, schedule.due());
        }
    }

    /// Takes one step towards a moment; `true` once everything known at or before it is applied and
    /// the graph stands there. Every accepted row is handed to `each`. A step applies rows of at
    /// most `reach_ms`, for callers that find new moments in them.
    fn step(
        &mut self,
        moment_ms: i64,
        reach_ms: i64,
        mut each: impl FnMut(&Graph, Row<'_>),
    ) -> Result<bool, LearnError> {
        // The board of a moment holds what was known at its place on the grid.
        let board_ms = moment_ms.div_euclid(self.period_ms) * self.period_ms;
        let stop_ms = if self.graph.as_of_ms() < board_ms {
            board_ms
        } else {
            moment_ms
        };
        let last_ms = stop_ms.min(self.freeze_ms);
        let until_ms = self.replay.peek_ms().map_or(last_ms, |next_ms| {
            last_ms.min(next_ms.saturating_add(reach_ms))
        });
        self.batch.clear();
        let read = self.replay.read(until_ms, BATCH_ROWS, &mut self.batch)?;
        if read > 0 {
            self.rows += read as u64;
            let outcomes = self.graph.apply(&self.batch, None);
            if let Some(stopped) = &mut self.stopped {
                stopped.apply(self.graph.catalog(), &self.batch);
            }
            let changes = self.graph.take_changes();
            let is_accepted = |index: usize| outcomes[index].is_accepted();
            if self.is_asked {
                self.belonging
                    .observe(&self.graph, &self.batch, is_accepted, changes);
            }
            for (row, outcome) in self.batch.iter().zip(outcomes.iter().copied()) {
                self.counts.add(self.graph.catalog(), row, outcome);
                if outcome.is_accepted() {
                    if self.is_asked {
                        self.namings.observe(&self.graph, row);
                    }
                    each(&self.graph, row);
                }
            }
            return Ok(false);
        }
        self.graph.advance(AsOf::from_ms(stop_ms));
        if let Some(stopped) = &mut self.stopped {
            stopped.advance(stop_ms);
        }
        Ok(stop_ms == moment_ms)
    }
}

/// The graphs of a walk at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Graphs<'a> {
    /// Everything that was known.
    pub whole: &'a Graph,
    /// Without the rows of a source that has stopped. Its entities have numbers of their own.
    pub stopped: Option<&'a Graph>,
}

/// A task that is due at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Index of the task.
    pub task: usize,
    /// These entities, ascending; `None` for its whole population.
    pub only: Option<Vec<EntityId>>,
}

/// The anchors of a whole population in a period: at least its end, where none of the grid lies in
/// it.
fn moments(anchors: Anchors, first_ms: i64, last_ms: i64) -> Vec<i64> {
    if anchors.is_of_entities() || first_ms > last_ms {
        return Vec::new();
    }
    let mut moments = anchors.between(first_ms, last_ms);
    if moments.is_empty() {
        moments.push(last_ms);
    }
    moments
}

/// The moments at which tasks are due.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Per task the rule of anchors, with the first and last moment that may be one; for single
    /// entities the first moment at which they may have become known.
    rules: Vec<(Anchors, i64, i64)>,
    /// (moment, task, entity or the whole population)
    queue: BinaryHeap<Reverse<(i64, usize, Option<EntityId>)>>,
}

impl Schedule {
    /// The anchors of tasks, each between two moments (included). Of single entities those count
    /// that become known at the first moment or later.
    pub fn new<'a>(tasks: impl IntoIterator<Item = (&'a TaskPlan, i64, i64)>) -> Self {
        let mut schedule = Self {
            rules: Vec::new(),
            queue: BinaryHeap::new(),
        };
        for (index, (task, first_ms, last_ms)) in tasks.into_iter().enumerate() {
            schedule.rules.push((task.anchors, first_ms, last_ms));
            let moments = moments(task.anchors, first_ms, last_ms);
            schedule.queue.extend(
                moments
                    .into_iter()
                    .map(|moment_ms| Reverse((moment_ms, index, None))),
            );
        }
        schedule
    }

    /// The whole populations of `tasks` tasks, each at moments of its own.
    pub fn at(tasks: usize, moments: impl IntoIterator<Item = (usize, i64)>) -> Self {
        let rule = (Anchors::default(), i64::MAX, i64::MIN);
        let moments = moments.into_iter();
        Self {
            rules: vec![rule; tasks],
            queue: moments
                .map(|(task, moment_ms)| Reverse((moment_ms, task, None)))
                .collect(),
        }
    }

    /// Asks a task's whole population at one more moment, if its rule is about populations.
    pub fn also(&mut self, task: usize, moment_ms: i64) {
        let (anchors, first_ms, last_ms) = self.rules[task];
        if matches!(anchors, Anchors::Every { .. }) && (first_ms..=last_ms).contains(&moment_ms) {
            self.queue.push(Reverse((moment_ms, task, None)));
        }
    }

    /// An entity of a task became known.
    pub fn known(&mut self, task: usize, entity: EntityId, since_ms: i64) {
        let (anchors, first_ms, last_ms) = self.rules[task];
        let anchor_ms = anchors
            .of_entity(since_ms)
            .filter(|moment_ms| since_ms >= first_ms && *moment_ms <= last_ms);
        self.queue
            .extend(anchor_ms.map(|moment_ms| Reverse((moment_ms, task, Some(entity)))));
    }

    /// The longest time between rows applied together: an entity that becomes known among them must
    /// not have its anchor before their end.
    pub fn reach_ms(&self) -> i64 {
        let of_rule = |(anchors, ..): &(Anchors, i64, i64)| match anchors {
            Anchors::Entity { after_ms, floor_ms } => Some((after_ms - floor_ms).max(0)),
            Anchors::Every { .. } => None,
        };
        self.rules
            .iter()
            .filter_map(of_rule)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// The next moment at which a task is due.
    pub fn peek_ms(&self) -> Option<i64> {
        self.queue.peek().map(|Reverse((moment_ms, ..))| *moment_ms)
    }

    /// Takes out what is due at the next moment, by task.
    pub fn due(&mut self) -> Vec<Due> {
        let mut due: Vec<Due> = Vec::new();
        let Some(now_ms) = self.peek_ms() else {
            return due;
        };
        while let Some(Reverse((moment_ms, task, entity))) = self.queue.peek().copied()
            && moment_ms == now_ms
        {
            self.queue.pop();
            // The whole population comes before single entities, entities in their order.
            match (due.last_mut().filter(|d| d.task == task), entity) {
                (Some(Due { only: None, .. }), _) => {}
                (
                    Some(Due {
                        only: Some(only), ..
                    }),
                    Some(entity),
                ) => {
                    if only.last() != Some(&entity) {
                        only.push(entity);
                    }
                }
                (_, entity) => due.push(Due {
                    task,
                    only: entity.map(|entity| vec![entity]),
                }),
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_moment_are_due_together() {
        let mut schedule = Schedule {
            rules: vec![
                (Anchors::Every { stride_ms: 10 }, 0, 100),
                (
                    Anchors::Entity {
                        after_ms: 10,
                        floor_ms: 4,
                    },
                    4,
                    100,
                ),
                (Anchors::Every { stride_ms: 10 }, 0, 50),
            ],
            queue: BinaryHeap::new(),
        };
        assert_eq!(schedule.reach_ms(), 6);
        for (task, moment_ms) in [(2, 12), (0, 12), (0, 12), (2, 90), (1, 12)] {
            schedule.also(task, moment_ms);
        }
        for (entity, since_ms) in [(7, 3), (9, 5), (3, 4), (3, 4), (1, 95), (2, 8)] {
            schedule.known(1, EntityId(entity), since_ms);
        }
        assert_eq!(schedule.peek_ms(), Some(12));
        let entities = |ids: &[u32]| Some(ids.iter().map(|id| EntityId(*id)).collect::<Vec<_>>());
        let expected =
            [(0, None), (1, entities(&[3, 9])), (2, None)].map(|(task, only)| Due { task, only });
        assert_eq!(schedule.due(), expected);
        assert_eq!(schedule.peek_ms(), Some(16));
        assert_eq!(
            schedule.due(),
            [Due {
                task: 1,
                only: entities(&[2])
            }]
        );
        assert_eq!((schedule.peek_ms(), schedule.due()), (None, Vec::new()));
    }
}
