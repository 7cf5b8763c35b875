//! A graph that was stored and read back goes on as if it never had been.

use std::collections::BTreeMap;

use leadpulse_graph::{DAY_MS, Graph, PieceError, Pieces, StoredGraphError, Tracking, Which};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{
    Dice, Market, Plain, START_MS, Style, cases, crm, network, seeds, shop, stream,
};

/// Pieces by key, as a store has them.
pub type Stored = BTreeMap<Vec<u8>, Vec<u8>>;

/// All pieces of a graph.
pub fn all(graph: &Graph) -> Stored {
    let mut stored = Stored::new();
    let mut pieces = Pieces::default();
    graph.write_pieces(Which::All, &mut pieces);
    put(&pieces, &mut stored);
    let mut portions = Stored::new();
    let mut each = |pieces: Pieces| {
        put(&pieces, &mut portions);
        Ok::<(), ()>(())
    };
    graph.write_portions(&mut each).unwrap();
    assert!(portions == stored, "the portions are not all pieces");
    stored
}

pub fn put(pieces: &Pieces, stored: &mut Stored) {
    for (key, value) in pieces.iter() {
        match value {
            Some(value) => stored.insert(key.to_vec(), value.to_vec()),
            None => stored.remove(key),
        };
    }
}

/// Reads pieces into a graph without rows.
pub fn read_into(mut graph: Graph, stored: &Stored) -> Result<Graph, StoredGraphError> {
    for (key, value) in stored {
        graph.read_piece(key, value).unwrap();
    }
    graph.finish_reading()?;
    Ok(graph)
}

fn read(market: &Market, stored: &Stored) -> Result<Graph, StoredGraphError> {
    read_into(market.graph(Tracking::On), stored)
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
            let written = all(&stored);
            prop_assert!(written == all(&undisturbed), "other pieces");
            stored = read(&market, &written).unwrap();
            prop_assert!(all(&stored) == written, "read back, it is written in another way");
            prop_assert_eq!(stored.check(), Ok(()));
            prop_assert_eq!(stored.image(), undisturbed.image());
        }
    }

    #[test]
    fn changed_pieces_make_the_whole_state(
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
        let rows = stream(&market, Style { ties, wild: true }, &seeds);
        let mut graph = market.graph(Tracking::On);
        graph.note_changes();
        let mut stored = Stored::new();
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((1 + dice.below(12) as usize).min(rest.len()));
            rest = after;
            let entropy = dice.below(u64::MAX);
            step(&market, &mut graph, batch, &mut Dice(entropy));
            let mut changed = Pieces::default();
            graph.write_pieces(Which::Changed, &mut changed);
            graph.forget_changes();
            put(&changed, &mut stored);
            let expected = all(&graph);
            let missing = expected.iter().find(|(key, value)| stored.get(*key) != Some(value));
            prop_assert_eq!(missing, None, "a change was not noted");
            let left = stored.keys().find(|key| !expected.contains_key(*key));
            prop_assert_eq!(left, None, "a removal was not noted");
            if dice.below(8) == 0 {
                graph = read(&market, &stored).unwrap();
                graph.note_changes();
            }
        }
    }
}

#[test]
fn a_graph_of_other_shards_is_refused() {
    let market = shop();
    let written = all(&market.graph(Tracking::On));
    let mut other = shop();
    other.options.shards -= 1;
    let mut graph = other.graph(Tracking::On);
    let mut pieces = written.iter();
    let refused = pieces.find_map(|(key, value)| graph.read_piece(key, value).err());
    assert_eq!(refused, Some(PieceError::Key));
}
