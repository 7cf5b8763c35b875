//! A graph that was stored and read back goes on as if it never had been.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use leadpulse_graph::{
    DAY_MS, EachNode, Graph, NODE_AREA, PieceError, Pieces, StoredGraphError, StoredNodes,
    Tracking, UnreadableNodes, Which,
};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

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

/// One of four markets.
fn market_of(which: u8) -> Market {
    match which {
        0 => crm(),
        1 => shop(),
        _ => network(which == 2),
    }
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
        let market = market_of(which);
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
        let market = market_of(which);
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
            graph.forget_changes(0);
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

/// Cells that were put out and read back in all cases.
static LEFT_AND_CAME: AtomicU64 = AtomicU64::new(0);

/// Stored pieces, with changes that are not written yet.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<ShelfContent>>);

#[derive(Debug, Default)]
struct ShelfContent {
    stored: Stored,
    queue: VecDeque<(u64, Pieces)>,
    epoch: u64,
}

impl Shelf {
    /// Takes changes of an epoch, and writes some of those that wait. Returns the last written epoch.
    pub fn take(&self, epoch: u64, pieces: Pieces, most_waiting: usize) -> u64 {
        let mut content = self.0.lock().unwrap();
        content.queue.push_back((epoch, pieces));
        while content.queue.len() > most_waiting {
            let (epoch, pieces) = content.queue.pop_front().unwrap();
            put(&pieces, &mut content.stored);
            content.epoch = epoch;
        }
        content.epoch
    }

    pub fn pieces(&self) -> Stored {
        self.0.lock().unwrap().stored.clone()
    }
}

impl StoredNodes for Shelf {
    fn read(&self, prefix: &[u8], each: &mut EachNode<'_>) -> Result<(), String> {
        let content = self.0.lock().unwrap();
        let from = content.stored.range(prefix.to_vec()..);
        let mut of_prefix = from.take_while(|(key, _)| key.starts_with(prefix));
        let read = of_prefix.try_for_each(|(key, value)| each(key, value));
        read.map_err(|fault| fault.to_string())
    }
}

fn read_cold(market: &Market, shelf: &Shelf) -> Graph {
    let mut graph = market.graph(Tracking::On);
    graph.keep_cold(Arc::new(shelf.clone()), 0);
    for (key, value) in shelf.pieces().iter().filter(|(key, _)| key[0] != NODE_AREA) {
        graph.read_piece(key, value).unwrap();
    }
    graph.finish_reading().unwrap();
    graph.note_changes();
    graph
}

proptest! {
    #![proptest_config(cases(48))]

    fn cold_cells_are_as_warm(
        seeds in seeds(120, 90),
        entropy in any::<u64>(),
        which in 0..4_u8,
        ties in any::<bool>(),
    ) {
        let market = market_of(which);
        let mut dice = Dice(entropy);
        let rows = stream(&market, Style { ties, wild: true }, &seeds);
        let mut warm = market.graph(Tracking::On);
        let shelf = Shelf::default();
        let mut cold = market.graph(Tracking::On);
        cold.keep_cold(Arc::new(shelf.clone()), 0);
        cold.note_changes();
        let (mut put_out, mut reads, mut last_stored) = (0, 0, 0);
        let mut rest = &rows[..];
        for epoch in 1.. {
            if rest.is_empty() {
                break;
            }
            let (batch, after) = rest.split_at((1 + dice.below(12) as usize).min(rest.len()));
            rest = after;
            let entropy = dice.below(u64::MAX);
            let expected = step(&market, &mut warm, batch, &mut Dice(entropy));
            prop_assert_eq!(step(&market, &mut cold, batch, &mut Dice(entropy)), expected);
            // In the middle of an epoch nothing leaves.
            cold.put_out(last_stored, 0);
            let mut changed = Pieces::default();
            cold.write_pieces(Which::Changed, &mut changed);
            cold.forget_changes(epoch);
            let waiting = dice.below(4) as usize;
            last_stored = shelf.take(epoch, changed, waiting);
            cold.put_out(last_stored, dice.below(40_000) as usize);
            if waiting == 0 && dice.below(6) == 0 {
                let residence = cold.residence().unwrap();
                (put_out, reads) = (put_out + residence.put_out, reads + residence.reads);
                cold = read_cold(&market, &shelf);
                let size = cold.size();
                prop_assert_eq!((size.known, size.stubs), (warm.size().known, warm.size().stubs));
                prop_assert_eq!(cold.identity(), warm.identity());
            }
        }
        let residence = cold.residence().unwrap();
        (put_out, reads) = (put_out + residence.put_out, reads + residence.reads);
        LEFT_AND_CAME.fetch_add(put_out.min(reads), Relaxed);
        prop_assert_eq!(cold.image(), warm.image());
        prop_assert_eq!(cold.check(), Ok(()));
        prop_assert!(all(&cold) == all(&warm), "other pieces");
    }
}

/// Which nodes are in memory is nothing that anybody sees, however late changes are stored.
#[test]
fn cold_cells_are_as_warm_ones() {
    cold_cells_are_as_warm();
    assert!(LEFT_AND_CAME.load(Relaxed) > 500);
}

#[test]
fn a_cell_that_cannot_be_read_back_says_so() {
    #[derive(Debug)]
    struct Broken;
    impl StoredNodes for Broken {
        fn read(&self, _: &[u8], _: &mut EachNode<'_>) -> Result<(), String> {
            Err("the disk is gone".into())
        }
    }
    let market = crm();
    let mut graph = market.graph(Tracking::On);
    graph.note_changes();
    let mut runner = TestRunner::deterministic();
    let seeds = seeds(40, 30).new_tree(&mut runner).unwrap().current();
    let style = Style {
        ties: false,
        wild: false,
    };
    let rows = stream(&market, style, &seeds);
    graph.apply(&market.batch(&rows), None);
    graph.take_dirty(99);
    graph.forget_changes(1);
    graph.keep_cold(Arc::new(Broken), 1);
    graph.put_out(1, 0);
    assert!(graph.residence().unwrap().put_out > 0);
    let unwound = catch_unwind(AssertUnwindSafe(|| graph.image())).unwrap_err();
    let fault = unwound.downcast::<UnreadableNodes>().unwrap();
    assert_eq!(
        fault.to_string(),
        "stored entities cannot be read back: the disk is gone"
    );
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
