//! A second graph beside that of a walk, in which one source after the other stops: training sees
//! what a cell looks like then.
//!
//! The history is cut into episodes. In each one event table brings nothing from the episode's
//! start on; at its end the withheld rows are applied, in their order, and another table stops.
//! Hubs and boards of this graph lack the rows as well. Lengths are log-uniform, so that a source
//! is found dead for an hour and for a quarter.
//!
//! Decision: docs/decisions/0056-a-source-that-stopped.md

use leadpulse_graph::{Graph, Tracking};
use leadpulse_project::Project;
use leadpulse_schema::units::{AsOf, DAY_MS_F64};
use leadpulse_schema::{Catalog, Role, RowBatch, TableId};

use crate::report::draws::SeededDraws;

/// Bounds of the length of an episode, days.
const SHORTEST_DAYS: f64 = 2.0;
const LONGEST_DAYS: f64 = 120.0;
/// Seed of tables and lengths.
// The same for every training: a history has the same episodes whatever else is asked of it.
const SEED: u64 = 41;

/// The graph without the rows of the source that has stopped.
pub(crate) struct StoppedSources {
    graph: Graph,
    tables: Vec<TableId>,
    /// Number of the episode, from 0.
    episode: u64,
    /// The table that brings nothing; `None` before the first row.
    stopped: Option<TableId>,
    /// The known time at which the episode ends, milliseconds.
    until_ms: i64,
    withheld: RowBatch,
    /// Rows of the present batch that are not withheld.
    passing: RowBatch,
}

impl StoppedSources {
    /// At the start of a history. `None` where there is nothing that could stop, or no column would
    /// tell.
    pub fn new(project: &Project) -> Option<Self> {
        let events = project.catalog.tables.iter();
        let events = events.filter(|table| table.role == Role::Event);
        let tables: Vec<TableId> = events.map(|table| table.id).collect();
        let is_told = project.graph_options.source_ages && !tables.is_empty();
        is_told.then(|| Self {
            graph: project.graph(Tracking::Off),
            tables,
            episode: 0,
            stopped: None,
            until_ms: i64::MIN,
            withheld: RowBatch::new(),
            passing: RowBatch::new(),
        })
    }

    /// The graph where the walk is.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes rows in order of known time.
    pub fn apply(&mut self, catalog: &Catalog, batch: &RowBatch) {
        for row in batch.iter() {
            if row.known_ms() >= self.until_ms {
                self.begin(row.known_ms());
            }
            let rows = match self.stopped == Some(row.table()) {
                true => &mut self.withheld,
                false => &mut self.passing,
            };
            rows.push_copy(catalog, row);
        }
        self.pass();
    }

    /// Moves the moment on.
    pub fn advance(&mut self, as_of_ms: i64) {
        self.graph.advance(AsOf::from_ms(as_of_ms));
    }

    /// Ends an episode and begins the next: the table that was stopped has everything again, and
    /// another one stops.
    fn begin(&mut self, from_ms: i64) {
        self.pass();
        self.graph.apply(&self.withheld, None);
        self.withheld.clear();
        let (table, length_ms) = episode(&self.tables, self.episode);
        self.stopped = Some(table);
        self.until_ms = from_ms + length_ms;
        self.episode += 1;
    }

    /// Applies the rows that are not withheld.
    fn pass(&mut self) {
        self.graph.apply(&self.passing, None);
        self.passing.clear();
    }
}

/// The table that brings nothing in an episode, and the episode's length, milliseconds.
fn episode(tables: &[TableId], number: u64) -> (TableId, i64) {
    let drawn = |what| SeededDraws::of(SEED, (number, what));
    let table = tables[(drawn(0) * tables.len() as f64) as usize];
    let log_length = (LONGEST_DAYS / SHORTEST_DAYS).ln() * drawn(1);
    (
        table,
        (SHORTEST_DAYS * log_length.exp() * DAY_MS_F64) as i64,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use leadpulse_features::{FeaturePlan, FeatureSpec};
    use leadpulse_schema::Row;
    use leadpulse_schema::units::DAY_MS;

    use super::*;
    use crate::tests::{WINS, ground, market};

    /// The numbers of every root, by key.
    fn numbers(plan: &FeaturePlan, graph: &Graph, at_ms: i64) -> BTreeMap<String, Vec<f32>> {
        let cells = graph.cells().map(|(at, cell)| {
            let root = plan.encode(graph, &[at], AsOf::from_ms(at_ms), &[]).root;
            (graph.directory().key(cell.anchor).to_string(), root)
        });
        cells.collect()
    }

    #[test]
    fn the_graph_is_that_of_the_history_without_the_rows_of_the_episode() {
        let mut ground = ground(&market(8), &[("wins", WINS)]);
        ground.project.graph_options.source_ages = true;
        let catalog = ground.project.catalog.clone();
        let plan = ground.project.feature_plan(FeatureSpec::default());
        let mut all = RowBatch::new();
        let mut replay = ground.files.replay().unwrap();
        while replay.read(i64::MAX, 10_000, &mut all).unwrap() > 0 {}
        let mut stopped = StoppedSources::new(&ground.project).unwrap();
        let tables = stopped.tables.clone();
        // The episodes as the definition says, by known time.
        let (mut episodes, mut until_ms) = (Vec::new(), i64::MIN);
        for row in all.iter() {
            if row.known_ms() >= until_ms {
                let (table, length_ms) = episode(&tables, episodes.len() as u64);
                episodes.push((table, row.known_ms()));
                until_ms = row.known_ms() + length_ms;
            }
        }
        assert!(episodes.len() > 3, "{episodes:?}");
        let copy = |rows: &mut dyn Iterator<Item = Row<'_>>| {
            let mut batch = RowBatch::new();
            rows.for_each(|row| batch.push_copy(&catalog, row));
            batch
        };
        let (mut from_ms, mut with_less) = (i64::MIN, 0);
        for day in (20..300).step_by(20) {
            let at_ms = day * DAY_MS;
            let known = |row: &Row<'_>| row.known_ms() <= at_ms;
            let new = copy(&mut all.iter().filter(known).filter(|r| r.known_ms() > from_ms));
            stopped.apply(&catalog, &new);
            stopped.advance(at_ms);
            from_ms = at_ms;
            let begun = episodes
                .iter()
                .rev()
                .find(|(_, start_ms)| *start_ms <= at_ms);
            let (table, start_ms) = *begun.unwrap();
            let withheld = |row: &Row<'_>| row.table() == table && row.known_ms() >= start_ms;
            let rest = copy(&mut all.iter().filter(known).filter(|row| !withheld(row)));
            with_less += usize::from(all.iter().filter(known).any(|row| withheld(&row)));
            let mut expected = ground.project.graph(Tracking::Off);
            expected.apply(&rest, None);
            expected.advance(AsOf::from_ms(at_ms));
            let found = numbers(&plan, stopped.graph(), at_ms);
            let expected = numbers(&plan, &expected, at_ms);
            assert_eq!(found.len(), expected.len());
            for (key, expected) in &expected {
                let pairs = found[key].iter().zip(expected);
                let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-4, "day {day}: {key} is off by {off}");
            }
        }
        assert!(with_less > 5, "{with_less} moments had rows withheld");
    }
}
