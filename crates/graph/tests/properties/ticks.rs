//! Cells are due at a tick because of rows, boards and deadlines, and of nothing else: epochs that
//! were cut, scored and bounded in any way in between leave no trace.

use std::collections::BTreeMap;

use leadpulse_graph::{CellRef, EntityId, Graph, Reasons, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Dice, Market, Plain, START_MS, Style, cases, network, seeds, stream};

const TICK_MS: i64 = 600_000;

/// The anchors of the cells that are due at a tick, with their reasons.
fn due(graph: &mut Graph, at_ms: i64) -> BTreeMap<EntityId, Reasons> {
    graph.advance(AsOf::from_ms(at_ms));
    let taken = graph.take_due();
    taken.iter().for_each(|(at, _)| graph.folded(*at));
    let anchor = |at: CellRef| graph.cell(at).anchor;
    taken
        .into_iter()
        .map(|(at, reasons)| (anchor(at), reasons))
        .collect()
}

/// All that becomes due up to a tick, by moment.
fn due_up_to(graph: &mut Graph, tick_ms: i64) -> Vec<(i64, BTreeMap<EntityId, Reasons>)> {
    let mut found = Vec::new();
    while graph.next_due_ms() < tick_ms {
        let at_ms = graph.next_due_ms();
        found.push((at_ms, due(graph, at_ms)));
    }
    found.push((tick_ms, due(graph, tick_ms)));
    found
}

/// Applies rows in epochs of some size, each with scores and moments of its own before the tick.
fn apply_eagerly(
    graph: &mut Graph,
    market: &Market,
    rows: &[Plain],
    tick_ms: i64,
    dice: &mut Dice,
) {
    let mut rest = rows;
    while !rest.is_empty() {
        let (epoch, after) = rest.split_at((1 + dice.below(3) as usize).min(rest.len()));
        rest = after;
        graph.apply(&market.batch(epoch), None);
        let eager_ms = tick_ms - dice.below(TICK_MS as u64) as i64;
        graph.advance_before(AsOf::from_ms(eager_ms), tick_ms);
        for (at, _) in graph.take_dirty(dice.below(3) as usize) {
            graph.scored(at, dice.below(5) as f32);
        }
    }
    assert_eq!(graph.check(), Ok(()));
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn epochs_between_ticks_leave_no_trace(seeds in seeds(60, 40), entropy in any::<u64>(), with_steps in any::<bool>()) {
        let market = network(with_steps);
        let mut dice = Dice(entropy);
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let (mut whole, mut cut) = (market.graph(Tracking::On), market.graph(Tracking::On));
        whole.set_tick_ms(TICK_MS);
        cut.set_tick_ms(TICK_MS);
        let mut tick_ms = START_MS.div_euclid(TICK_MS) * TICK_MS;
        whole.advance(AsOf::from_ms(tick_ms));
        cut.advance(AsOf::from_ms(tick_ms));
        let mut rest = &rows[..];
        let mut were_due = 0;
        while !rest.is_empty() {
            let (of_tick, after) = rest.split_at((1 + dice.below(6) as usize).min(rest.len()));
            rest = after;
            // Quiet ticks come before some, up to a week of them.
            let skipped = if dice.below(4) == 0 { 1 + dice.below(1_000) as i64 } else { 1 };
            let before_ms = tick_ms + (skipped - 1) * TICK_MS;
            prop_assert_eq!(due_up_to(&mut whole, before_ms), due_up_to(&mut cut, before_ms));
            tick_ms = before_ms + TICK_MS;
            whole.fire_before(tick_ms);
            cut.fire_before(tick_ms);
            whole.apply(&market.batch(of_tick), None);
            apply_eagerly(&mut cut, &market, of_tick, tick_ms, &mut dice);
            let (expected, found) = (due_up_to(&mut whole, tick_ms), due_up_to(&mut cut, tick_ms));
            were_due += expected.iter().map(|(_, due)| due.len()).sum::<usize>();
            prop_assert_eq!(expected, found);
            prop_assert_eq!(whole.next_due_ms(), cut.next_due_ms());
        }
        prop_assert!(were_due > 0 || rows.len() < 20);
    }
}
