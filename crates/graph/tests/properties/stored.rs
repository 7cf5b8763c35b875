//! A graph that was stored and read back goes on as if it never had been.

use leadpulse_graph::{DAY_MS, Graph, StoredGraph, StoredGraphError, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{
    Dice, Market, Plain, START_MS, Style, cases, crm, network, seeds, shop, stream,
};

fn bytes(graph: &Graph) -> Vec<u8> {
    postcard::to_stdvec(&graph.stored()).unwrap()
}

fn read(market: &Market, bytes: &[u8]) -> Result<Graph, StoredGraphError> {
    let (stored, rest) = postcard::take_from_bytes::<StoredGraph<'_>>(bytes).unwrap();
    assert!(rest.is_empty());
    Graph::restored(
        stored,
        market.catalog.clone(),
        market.options.clone(),
        market.population.windows.clone(),
        Tracking::On,
    )
}

/// Applies a batch, lets time pass and scores what is taken. Returns everything that a caller sees.
fn step(market: &Market, graph: &mut Graph, rows: &[Plain], dice: &mut Dice) -> String {
    let outcomes = graph.apply(&market.batch(rows), None);
    let newest_ms = rows.iter().map(|row| row.known_ms).max();
    graph.advance(AsOf::from_ms(
        newest_ms.unwrap_or(START_MS) + DAY_MS * dice.below(3) as i64,
    ));
    if dice.below(16) == 0 {
        graph.restart(|at, _| at.index as f32, true);
    }
    let taken = graph.take_dirty(dice.below(4) as usize);
    for (at, _) in &taken {
        graph.scored(*at, dice.below(5) as f32);
    }
    let waits = (graph.deferred(), graph.next_timer_ms(), graph.board());
    format!("{outcomes:?} {taken:?} {waits:?}")
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_stored_graph_goes_on_as_an_undisturbed_one(
        seeds in seeds(120, 90),
        entropy in any::<u64>(),
        which in 0..4_u8,
        ties in any::<bool>(),
    ) {
        let market = match which {
            0 => crm(),
            1 => shop(),
            _ => network(which == 2),
        };
        let mut dice = Dice(entropy);
        let rows = stream(&market, Style { ties, wild: false }, &seeds);
        let mut undisturbed = market.graph(Tracking::On);
        let mut stored = market.graph(Tracking::On);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + dice.below(12) as usize).min(rest.len()));
            rest = after;
            let entropy = dice.below(u64::MAX);
            let expected = step(&market, &mut undisturbed, batch, &mut Dice(entropy));
            let found = step(&market, &mut stored, batch, &mut Dice(entropy));
            prop_assert_eq!(found, expected);
            let written = bytes(&stored);
            prop_assert!(written == bytes(&undisturbed), "other bytes");
            stored = read(&market, &written).unwrap();
            prop_assert!(bytes(&stored) == written, "read back, it is written in another way");
            prop_assert_eq!(stored.check(), Ok(()));
            prop_assert_eq!(stored.image(), undisturbed.image());
        }
    }
}

#[test]
fn a_graph_of_other_shards_is_refused() {
    let market = shop();
    let written = bytes(&market.graph(Tracking::On));
    let mut other = shop();
    other.options.shards += 1;
    assert_eq!(
        read(&other, &written).unwrap_err(),
        StoredGraphError::OtherShards
    );
}
