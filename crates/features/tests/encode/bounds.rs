//! Shapes, padding, and numbers that stay finite for any rows.

use std::collections::BTreeSet;

use leadpulse_features::{Facts, FeatureBatch, FeaturePlan};
use leadpulse_graph::{CellRef, DAY_MS, Graph, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Style, cases, crm, network, seeds, shop, stream};
use crate::support::{everyone, last_ms, numbers, plan_of};

fn check_shape(plan: &FeaturePlan, batch: &FeatureBatch, cells: usize) {
    let layout = plan.layout();
    assert_eq!(batch.cells, cells);
    assert_eq!(batch.root.len(), cells * layout.root.len());
    assert_eq!(batch.members.len(), layout.members.len());
    assert!(batch.root.iter().all(|x| x.is_finite()));
    for (block, member) in batch.members.iter().zip(&layout.members) {
        assert_eq!(block.width, member.columns.len());
        assert_eq!(block.values.len(), cells * block.slots * block.width);
        assert_eq!(block.mask.len(), cells * block.slots);
        assert_eq!(block.entities.len(), cells * block.slots);
        for cell in 0..cells {
            let rows = &block.mask[cell * block.slots..(cell + 1) * block.slots];
            let there = rows.iter().filter(|mask| **mask == 1.0).count();
            let (attended, folded) = (block.attended[cell] as usize, block.folded[cell] as usize);
            assert!(attended <= there && there <= attended + folded);
        }
        assert!(
            block.values.iter().all(|x| x.is_finite()),
            "members of {}",
            member.name
        );
        for (slot, mask) in block.mask.iter().enumerate() {
            let row = &block.values[slot * block.width..(slot + 1) * block.width];
            assert!(
                *mask == 1.0
                    || (*mask == 0.0
                        && row.iter().all(|x| *x == 0.0)
                        && block.entities[slot].is_none()),
                "padding is 0"
            );
        }
        let longest = block
            .mask
            .chunks(block.slots.max(1))
            .map(|cell| cell.iter().filter(|m| **m == 1.0).count())
            .max();
        assert_eq!(
            block.slots,
            longest.unwrap_or(0),
            "no slot is empty everywhere"
        );
    }
}

fn all(graph: &Graph) -> Vec<CellRef> {
    graph.cells().map(|(at, _)| at).collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn every_row_is_finite_and_as_wide_as_its_names(seeds in seeds(60, 300), wild in any::<bool>(), years in 0..60_i64, which in 0..4_usize) {
        let market = [crm, shop, || network(true), || network(false)][which]();
        let plan = plan_of(&market);
        let rows = stream(&market, Style { ties: true, wild }, &seeds);
        let mut graph = market.graph(Tracking::On);
        for batch in rows.chunks(20) {
            graph.apply(&market.batch(batch), None);
            graph.advance(AsOf::from_ms(last_ms(&rows)));
            graph.take_dirty(1).iter().for_each(|(at, _)| graph.scored(*at, 0.0));
        }
        let t_ms = last_ms(&rows) + years * 365 * DAY_MS;
        let cells = all(&graph);
        check_shape(&plan, &plan.encode(&graph, &cells, AsOf::from_ms(t_ms), &everyone(&plan)), cells.len());
        graph.advance(AsOf::from_ms(t_ms));
        check_shape(&plan, &plan.encode(&graph, &cells, AsOf::from_ms(t_ms), &everyone(&plan)), cells.len());
        check_shape(&plan, &plan.encode(&graph, &[], AsOf::from_ms(t_ms), &everyone(&plan)), 0);
        for at in cells {
            Facts::of(&graph, graph.cell(at), AsOf::from_ms(t_ms));
            for node in &graph.cell(at).nodes {
                let evidence = plan.evidence(&graph, at, node.entity, AsOf::from_ms(t_ms));
                assert_eq!(evidence.len(), plan.layout().groups.len());
                assert!(evidence.iter().all(|e| e.words.len() <= 4 && e.event_ids.len() <= 8));
                assert!(evidence.iter().flat_map(|e| e.words.iter().chain(&e.value)).all(|text| !text.contains('@')));
            }
        }
    }

    /// A cell's numbers do not depend on the other cells in the batch, nor on an earlier read.
    #[test]
    fn a_cell_has_the_same_numbers_in_any_batch(seeds in seeds(60, 60)) {
        let market = crm();
        let plan = plan_of(&market);
        let rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        let mut graph = market.graph(Tracking::On);
        graph.apply(&market.batch(&rows), None);
        graph.advance(AsOf::from_ms(last_ms(&rows)));
        let cells = all(&graph);
        // More than one chunk, each cell many times.
        let many: Vec<CellRef> = cells.iter().copied().cycle().take(if cells.is_empty() { 0 } else { 200 }).collect();
        let batch = plan.encode(&graph, &many, AsOf::from_ms(last_ms(&rows)), &everyone(&plan));
        check_shape(&plan, &batch, many.len());
        for (i, at) in many.iter().enumerate() {
            let alone = plan.encode(&graph, &[*at], AsOf::from_ms(last_ms(&rows)), &everyone(&plan));
            prop_assert_eq!(numbers(&graph, &batch, i), numbers(&graph, &alone, 0));
        }
    }
}

#[test]
fn names_are_unique_and_groups_are_all_used() {
    for market in [crm(), shop(), network(true), network(false)] {
        let plan = plan_of(&market);
        let layout = plan.layout();
        let columns =
            |member: Option<usize>| member.map_or(&layout.root, |m| &layout.members[m].columns);
        let mut used = BTreeSet::new();
        for member in std::iter::once(None).chain((0..layout.members.len()).map(Some)) {
            let names: BTreeSet<&str> = columns(member).iter().map(|c| c.name.as_str()).collect();
            assert_eq!(
                names.len(),
                columns(member).len(),
                "names of {member:?} are unique"
            );
            used.extend(columns(member).iter().map(|c| c.group));
        }
        assert_eq!(used, (0..layout.groups.len()).collect::<BTreeSet<usize>>());
    }
}
