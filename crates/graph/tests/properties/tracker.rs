//! The change tracker misses nothing: whatever a cell's features can read, here or in other cells,
//! a change of it marks the cell.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{CellRef, EntityId, Graph, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Datum, Dice, Plain, START_MS, Style, cases, network, seeds, stream};

/// Everything that can be read of a cell, by its anchor: its nodes, who stands for whom, who
/// refers to them, and the outcomes of the cells that its edges lead to.
fn readable(graph: &Graph) -> BTreeMap<EntityId, (CellRef, String)> {
    let image = serde_json::to_value(graph.image()).unwrap();
    let name = |entity: EntityId| {
        let directory = graph.directory();
        let table = directory
            .table(entity)
            .map(|t| graph.catalog().table_at(t).name.clone());
        format!(
            "{}/{}",
            table.unwrap_or_else(|| "domain".into()),
            directory.key(entity)
        )
    };
    let cells = graph.cells().map(|(at, cell)| {
        let mut lines = vec![format!("{:?}", graph.outcomes(cell))];
        for node in &cell.nodes {
            lines.push(format!(
                "{} {}",
                name(node.entity),
                image["nodes"][name(node.entity)]
            ));
            let incoming: BTreeSet<String> = graph
                .incoming(node.entity)
                .iter()
                .filter(|(_, from)| !graph.is_outside(*from))
                .map(|(r, from)| format!("{} {}", r.0, name(graph.survivor(*from))))
                .collect();
            lines.push(format!(
                "{} {}",
                name(node.entity),
                graph.is_outside(node.entity)
            ));
            lines.push(format!("{} {incoming:?}", name(node.entity)));
            for edge in graph.edges(node) {
                let there = graph
                    .directory()
                    .place(edge.to)
                    .map(|place| graph.outcomes(graph.cell(place.cell)))
                    .unwrap_or_default();
                lines.push(format!(
                    "{} {} {} {} {there:?}",
                    name(node.entity),
                    edge.relation.0,
                    name(edge.to),
                    edge.since_ms
                ));
            }
        }
        lines.sort();
        (cell.anchor, (at, lines.join("\n")))
    });
    cells.collect()
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_changed_cell_is_missed(seeds in seeds(80, 60), entropy in any::<u64>(), with_steps in any::<bool>()) {
        let market = network(with_steps);
        let mut dice = Dice(entropy);
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let mut graph = market.graph(Tracking::On);
        graph.advance(AsOf::from_ms(START_MS));
        let mut before = readable(&graph);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + dice.below(4) as usize).min(rest.len()));
            rest = after;
            graph.apply(&market.batch(batch), None);
            prop_assert_eq!(graph.check(), Ok(()));
            let now = readable(&graph);
            let dirty: BTreeSet<CellRef> = graph.take_dirty(0).into_iter().map(|(at, _)| at).collect();
            for (anchor, (at, text)) in &now {
                let was = before.get(anchor).map_or("", |(_, text)| text);
                prop_assert!(was == text || dirty.contains(at), "{:?} was\n{}\nis\n{}\nafter {:?}", anchor, was, text, batch);
            }
            dirty.iter().for_each(|at| graph.scored(*at, 0.0));
            before = now;
        }
        prop_assert_eq!(graph.deferred(), 0);
    }
}

/// A root that very many refer to changes: nobody is forgotten, but they wait.
#[test]
fn very_many_readers_wait() {
    let market = network(false);
    let (people, deals) = (
        market.catalog.table("people").unwrap(),
        market.catalog.table("deals").unwrap(),
    );
    let row = |table: &leadpulse_schema::Table, values: &[(&str, String)]| {
        let mut row = Plain {
            table: table.id,
            delete: false,
            partition: 0,
            time_ms: START_MS,
            known_ms: START_MS,
            values: vec![Datum::Null; table.fields.len()],
        };
        values.iter().for_each(|(name, text)| {
            row.values[table.field(name).unwrap().id.index()] = Datum::Text(text.clone())
        });
        row.values[table.time.unwrap().index()] = Datum::Time(START_MS);
        row
    };
    let champions = 100;
    let mut rows: Vec<Plain> = (0..champions)
        .flat_map(|i| {
            ["left".to_owned(), format!("new{i}")].map(|company| {
                row(
                    people,
                    &[("person_id", format!("p{i}")), ("company_id", company)],
                )
            })
        })
        .collect();
    rows.push(row(
        deals,
        &[("deal_id", "d".into()), ("company_id", "left".into())],
    ));
    let mut graph = market.graph(Tracking::On);
    graph.apply(&market.batch(&rows), None);
    graph.advance(AsOf::from_ms(START_MS));
    let take = |graph: &mut Graph, budget| {
        let dirty = graph.take_dirty(budget);
        dirty.iter().for_each(|(at, _)| graph.scored(*at, 0.0));
        dirty.len()
    };
    take(&mut graph, usize::MAX);
    assert_eq!(graph.deferred(), 0);
    graph.apply(
        &market.batch(&[row(
            deals,
            &[
                ("deal_id", "d".into()),
                ("company_id", "left".into()),
                ("stage", "v0".into()),
            ],
        )]),
        None,
    );
    assert_eq!(graph.deferred(), champions);
    // A board between makes nobody forgotten.
    graph.advance(AsOf::from_ms(START_MS + 2 * 3_600_000));
    assert_eq!(take(&mut graph, 30), 31);
    assert_eq!(graph.deferred(), champions - 30);
    assert_eq!(take(&mut graph, usize::MAX), champions - 30);
    assert_eq!(take(&mut graph, usize::MAX), 0);
}
