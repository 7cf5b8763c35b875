//! Trials: a graph with rows that never came, to see what would be if they did.
//!
//! A [`Trial`] reads the graph that it began with and keeps its own changes apart: a cell, an entry of the
//! directory, a list is copied when the trial first changes it. So a trial costs what its rows touch,
//! and the graph beneath cannot notice. Rows take the same way as live ones ([`crate::apply`]), and boards
//! are published on the same grid, so a score of a trial is the score that the same rows would bring.
//!
//! Absent: marks, timers and duplicates' days, which decide when a cell is scored and what is refused
//! later, but no feature.
//!
//! Decision: docs/decisions/0082-what-if-is-a-trial-of-the-graph.md

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{RowBatch, TableId};

use crate::apply::bursts::Bursts;
use crate::apply::gate::{Gate, Held};
use crate::apply::newest::NewestVersions;
use crate::apply::outcome::RowOutcome;
use crate::change::boards::publish_trial;
use crate::change::sharing::{STEP_BY_DEFAULT_MS, Sharing};
use crate::change::{Tracker, Tracking};
use crate::graph::Graph;
use crate::pieces::{KeptMap, Lend, PieceKey};
use crate::state::Cells;
use crate::state::hubs::Hubs;
use crate::state::shard::Shard;
use crate::state::sources::SourceTimes;
use crate::who::Entities;
use crate::who::directory::Directory;
use crate::who::edges::Incoming;
use crate::who::identity::Identity;
use crate::who::matching::Matching;

/// A part of a graph that lies beneath a trial.
struct PartOf<F> {
    graph: Arc<Graph>,
    part: F,
}

impl<P: ?Sized, F: Fn(&Graph) -> &P + Send + Sync> Lend<P> for PartOf<F> {
    fn lend(&self) -> &P {
        (self.part)(&self.graph)
    }
}

fn lent<P, F>(graph: &Arc<Graph>, part: F) -> Arc<dyn Lend<P>>
where
    P: ?Sized,
    F: Fn(&Graph) -> &P + Send + Sync + 'static,
{
    let graph = graph.clone();
    Arc::new(PartOf { graph, part })
}

fn map_above<K, V, F>(graph: &Arc<Graph>, part: F) -> KeptMap<K, V>
where
    K: PieceKey,
    V: Clone,
    F: Fn(&Graph) -> &KeptMap<K, V> + Send + Sync + 'static,
{
    KeptMap::above(lent(graph, part))
}

/// A graph that trials can begin with. It is changed as any graph, between trials.
#[derive(Debug)]
pub struct TriedGraph(Arc<Graph>);

impl TriedGraph {
    /// A graph without trials.
    pub fn new(graph: Graph) -> Self {
        Self(Arc::new(graph))
    }

    /// Begins a trial, which ends with the call.
    pub fn try_out<T>(&self, run: impl FnOnce(&mut Trial) -> T) -> T {
        run(&mut Trial::of(&self.0))
    }
}

impl Deref for TriedGraph {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.0
    }
}

impl DerefMut for TriedGraph {
    fn deref_mut(&mut self) -> &mut Graph {
        Arc::get_mut(&mut self.0).expect("a trial ends with the call that began it")
    }
}

/// A graph with rows that never came. Read as a [`Graph`].
#[derive(Debug)]
pub struct Trial {
    graph: Graph,
    beneath: Arc<Graph>,
    has_published: bool,
}

impl Trial {
    fn of(beneath: &Arc<Graph>) -> Self {
        let shards = 0..beneath.cells.shards.len();
        let step_ms = STEP_BY_DEFAULT_MS;
        let tracker = || {
            let sharing = Sharing::Budget { step_ms };
            Tracker::new(Tracking::Off, Vec::new(), shards.len(), sharing)
        };
        let graph = Graph {
            entities: entities_above(beneath),
            cells: Cells::above(
                beneath.shared().clone(),
                shards.clone().map(|number| shard_above(beneath, number)),
                map_above(beneath, |graph| &graph.cells.provisional),
            ),
            hubs: Hubs::above(
                &beneath.hubs,
                map_above(beneath, |graph| &graph.hubs.sums),
                [
                    map_above(beneath, |graph| &graph.hubs.rows),
                    map_above(beneath, |graph| &graph.hubs.described),
                ],
            ),
            sources: beneath.sources.clone(),
            gate: Gate {
                seen: beneath.gate.seen.clone(),
                events: Held::above(map_above(beneath, |graph| &graph.gate.events.known)),
                retractions: Held::above(map_above(beneath, |graph| &graph.gate.retractions.known)),
            },
            newest: NewestVersions {
                entities: map_above(beneath, |graph| &graph.newest.entities),
                hubs: map_above(beneath, |graph| &graph.newest.hubs),
            },
            bursts: bursts_above(beneath),
            staff: beneath.staff.clone(),
            tracker: tracker(),
            due: tracker(),
            as_of_ms: beneath.as_of_ms,
            fired_ms: beneath.fired_ms,
            board: beneath.board,
            is_behind_board: beneath.is_behind_board,
        };
        Self {
            graph,
            beneath: beneath.clone(),
            has_published: false,
        }
    }

    /// Applies a row, or several of one moment, after the boards before the moment. Returns one outcome
    /// per row, as [`Graph::apply`] does; rows are measured against their own known time.
    pub fn apply(&mut self, batch: &RowBatch, at_ms: i64) -> Vec<RowOutcome> {
        self.fire(at_ms.saturating_sub(1));
        let (outcomes, _) = self.graph.write(batch, None);
        outcomes
    }

    /// Moves the moment on, never back, and publishes the board that is due.
    pub fn advance(&mut self, as_of: AsOf) {
        self.graph.as_of_ms = self.graph.as_of_ms.max(as_of.ms());
        self.fire(as_of.ms());
    }

    fn fire(&mut self, fired_ms: i64) {
        let graph = &mut self.graph;
        if fired_ms <= graph.fired_ms {
            return;
        }
        graph.fired_ms = fired_ms;
        let period_ms = graph.shared().options.board_period_ms;
        let due = fired_ms.div_euclid(period_ms);
        if due <= graph.board {
            return;
        }
        graph.board = due;
        if !self.has_published {
            graph.hubs = self.beneath.hubs.for_board_of(&graph.hubs);
            self.has_published = true;
        }
        publish_trial(&mut graph.cells, &mut graph.hubs, due * period_ms);
        if graph.shared().options.source_ages {
            let tables = graph.entities.catalog.tables.iter();
            let newest_ms = tables.map(|table| graph.gate.newest_ms(table.id));
            graph.sources = SourceTimes::new(newest_ms.collect());
        }
    }

    /// Copies the cell of an entity, if it has one. To be called before the cell is encoded: a cell beneath
    /// keeps what it gave to hubs at the last board, which a board of the trial has replaced.
    pub fn settle(&mut self, table: TableId, key: &str) {
        let place = self.graph.find(table, key).map(|(at, _)| at);
        if let Some(at) = place {
            self.graph.cells.shards[at.shard as usize].lift(at.index);
        }
    }
}

impl Deref for Trial {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

fn entities_above(beneath: &Arc<Graph>) -> Entities {
    let of = &beneath.entities;
    Entities {
        catalog: of.catalog.clone(),
        directory: Directory::above(
            &of.catalog,
            lent(beneath, |graph| &graph.entities.directory),
        ),
        identity: Identity::above(lent(beneath, |graph| &graph.entities.identity)),
        matching: Matching {
            named: map_above(beneath, |graph| &graph.entities.matching.named),
            claims: map_above(beneath, |graph| &graph.entities.matching.claims),
            seekers: map_above(beneath, |graph| &graph.entities.matching.seekers),
            parents: map_above(beneath, |graph| &graph.entities.matching.parents),
            children: map_above(beneath, |graph| &graph.entities.matching.children),
        },
        domains: of.domains.clone(),
        outside: of.outside.clone(),
        shared_by: of.shared_by,
        incoming: Incoming {
            by_target: map_above(beneath, |graph| &graph.entities.incoming.by_target),
        },
    }
}

fn shard_above(beneath: &Arc<Graph>, number: usize) -> Shard {
    Shard::above(lent(beneath, move |graph| &graph.cells.shards[number]))
}

fn bursts_above(beneath: &Arc<Graph>) -> Bursts {
    Bursts::above(
        map_above(beneath, |graph| &graph.bursts.open),
        map_above(beneath, |graph| &graph.bursts.domains),
        map_above(beneath, |graph| &graph.bursts.ignored),
        &lent(beneath, |graph| &graph.bursts),
    )
}
