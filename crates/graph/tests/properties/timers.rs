//! Time alone: a cell whose entity leaves or enters the population as days pass is asked for
//! again.

use std::collections::BTreeMap;

use leadpulse_graph::{CellRef, EntityId, Graph, Reasons, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Market, START_MS, Style, cases, crm, seeds, stream};

/// Timers fire on a grid of an hour.
const HOUR_MS: i64 = 3_600_000;

fn eligible(market: &Market, graph: &Graph, t_ms: i64) -> BTreeMap<(CellRef, EntityId), bool> {
    let views = graph
        .cells()
        .flat_map(|(at, cell)| cell.nodes.iter().map(move |node| (at, cell, node)));
    views
        .map(|(at, cell, node)| {
            (
                (at, node.entity),
                graph
                    .view(cell, node, AsOf::from_ms(t_ms), &market.population)
                    .is_eligible(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn an_entity_that_leaves_a_population_is_scored_again(seeds in seeds(60, 60), steps in prop::collection::vec(1..200_i64, 1..12)) {
        let market = crm();
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let mut graph = market.graph(Tracking::On);
        graph.apply(&market.batch(&rows), None);
        let last_ms = rows.iter().map(|r| r.time_ms).max().unwrap_or(START_MS);
        let mut t_ms = (last_ms.div_euclid(HOUR_MS) + 1) * HOUR_MS;
        graph.advance(AsOf::from_ms(t_ms));
        let mut before = eligible(&market, &graph, t_ms);
        let dirty = graph.take_dirty(usize::MAX);
        prop_assert_eq!(dirty.len(), graph.cells().count());
        dirty.iter().for_each(|(at, _)| graph.scored(*at, 0.0));
        for hours in steps {
            t_ms += hours * HOUR_MS;
            let due = graph.next_timer_ms();
            graph.advance(AsOf::from_ms(t_ms));
            prop_assert_eq!(graph.check(), Ok(()));
            let after = eligible(&market, &graph, t_ms);
            let dirty: BTreeMap<CellRef, Reasons> = graph.take_dirty(usize::MAX).into_iter().collect();
            for (who, was) in &before {
                let is_marked = dirty.get(&who.0).is_some_and(|reasons| reasons.contains(Reasons::TIMER));
                prop_assert!(after[who] == *was || is_marked, "{:?} was {}, is {}", who, was, after[who]);
                prop_assert!(!is_marked || due.is_some_and(|due| due <= t_ms));
            }
            dirty.keys().for_each(|at| graph.scored(*at, 0.0));
            // Sooner or later silence itself is a reason: no cell waits for more than a week.
            prop_assert!(graph.next_timer_ms().is_none_or(|next| next <= t_ms + 7 * 24 * HOUR_MS + HOUR_MS));
            before = after;
        }
    }
}

/// A cell that was left and given away again is asked for once, with a reason, whatever timers
/// were set on it before.
#[test]
fn a_freed_cell_leaves_no_timer_to_its_successor() {
    use crate::market::{Datum, Plain};
    let mut market = crm();
    market.options.shards = 1;
    let contacts = market.catalog.table("contacts").unwrap();
    let contact = |key: &str, account: Option<&str>| {
        let mut values = vec![Datum::Null; contacts.fields.len()];
        let mut set = |name: &str, datum| values[contacts.field(name).unwrap().id.index()] = datum;
        set("contact_id", Datum::Text(key.into()));
        set("updated_at", Datum::Time(START_MS));
        account
            .into_iter()
            .for_each(|a| set("account_id", Datum::Text(a.into())));
        Plain {
            table: contacts.id,
            delete: false,
            partition: 0,
            time_ms: START_MS,
            known_ms: START_MS,
            values,
        }
    };
    let mut graph = market.graph(Tracking::On);
    let tell = |graph: &mut Graph, row: Plain| drop(graph.apply(&market.batch(&[row]), None));
    let score = |graph: &mut Graph| {
        let dirty = graph.take_dirty(usize::MAX);
        dirty.iter().for_each(|(at, _)| graph.scored(*at, 0.0));
        dirty
    };
    tell(&mut graph, contact("x", None));
    graph.advance(AsOf::from_ms(START_MS));
    score(&mut graph);
    // Its own cell, with a timer, is left and becomes free at the next board.
    tell(&mut graph, contact("x", Some("a")));
    graph.advance(AsOf::from_ms(START_MS + HOUR_MS));
    score(&mut graph);
    graph.advance(AsOf::from_ms(START_MS + 30 * 24 * HOUR_MS));
    tell(&mut graph, contact("y", None));
    let dirty = score(&mut graph);
    assert_eq!(dirty.len(), 2, "{dirty:?}");
    assert!(
        dirty.iter().all(|(_, reasons)| !reasons.is_empty()),
        "{dirty:?}"
    );
}
