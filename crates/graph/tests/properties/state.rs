//! The graph equals the oracle, number by number, after any stream cut into any batches.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{
    DAY_MS, DealOutcomes, DecayedTally, Edge, EntityId, EventLayout, EventState, Graph, Node,
    RowOutcome, SlotKind, StagedEvent, Tracking,
};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{TableId, View};
use proptest::prelude::*;

use crate::market::{
    Datum, Dice, Market, Plain, START_MS, Style, cases, crm, network, seeds, shop, stream,
};
use crate::oracle::{
    DOMAINS, Gatekeeper, HubKey, Oracle, Way, Who, World, amount, decayed, expected_slots, reached,
    touches,
};

fn who(graph: &Graph, entity: EntityId) -> Who {
    let directory = graph.directory();
    let table = directory.table(entity).unwrap_or_else(|| {
        assert!(directory.is_domain(entity), "hubs have no nodes");
        DOMAINS
    });
    (table, directory.key(entity).to_string())
}

fn hub_key(graph: &Graph, entity: EntityId) -> HubKey {
    let hub = graph.directory().hub(entity).expect("it is a hub");
    (
        graph.catalog().hubs[hub.index()].name.clone(),
        graph.directory().key(entity).to_string(),
    )
}

/// `found` is `expected` up to the rounding of a sum of numbers that add up to `scale` in absolute
/// terms; what has decayed below 1e-100 may be nothing.
fn assert_close(found: f64, expected: f64, scale: f64, what: impl Fn() -> String) {
    assert!(
        (found - expected).abs() <= 1e-9 * scale + 1e-100,
        "{}: {found} instead of {expected}",
        what()
    );
}

/// What is exact even if an event was taken back after others had been let in.
struct Expected<'w> {
    events: Vec<&'w Plain>,
    /// Events that were in and were taken back: they leave their rounding, and what they displaced
    /// is gone.
    removed: Vec<&'w Plain>,
}

fn check_events(
    market: &Market,
    graph: &Graph,
    state: &EventState,
    expected: &Expected<'_>,
    table: TableId,
    t_ms: i64,
) {
    let bank = &graph.shared().bank;
    let options = &market.options;
    let events = &expected.events;
    let is_exact = expected.removed.is_empty();
    let definition = market.catalog.table_at(table);
    let layout = graph.shared().layout.event(table);
    assert_eq!(
        layout.slots.len(),
        expected_slots(definition, options.hashed_buckets),
        "slots of {}",
        definition.name
    );
    assert_eq!(
        state.total,
        events.len() as u64,
        "total of {}",
        definition.name
    );
    assert_eq!(state.is_empty(), events.is_empty());
    let oldest = events.iter().map(|e| e.time_ms).min();
    let newest = events.iter().max_by_key(|e| e.time_ms);
    if is_exact {
        assert_eq!(
            (state.oldest_ms != i64::MAX).then_some(state.oldest_ms),
            oldest
        );
        assert_eq!(state.newest_ms(), newest.map(|e| e.time_ms));
    } else {
        assert!(
            oldest.is_none_or(|oldest| state.oldest_ms <= oldest),
            "an estimate of the oldest is not later"
        );
        assert_eq!(state.newest_ms().is_some(), newest.is_some());
        assert!(
            newest.is_none_or(|newest| state.newest_ms().unwrap() <= newest.time_ms),
            "an estimate of the newest is not later"
        );
    }

    // Sums. Buckets of a field are compared together, under the first of them.
    let mut found: BTreeMap<usize, (Vec<f64>, i64)> = BTreeMap::new();
    let first_of = |slot: usize| match layout.slots[slot].kind {
        SlotKind::Bucket(bucket) => slot - usize::from(bucket),
        _ => slot,
    };
    for (slot, sums, newest_ms) in state.slots(bank) {
        let entry = found
            .entry(first_of(usize::from(slot)))
            .or_insert_with(|| (vec![0.0; bank.len()], i64::MIN));
        for (h, sum) in sums.iter().enumerate() {
            entry.0[h] += sum * bank.read(h, state.landmark(), t_ms);
        }
        entry.1 = entry.1.max(newest_ms);
    }
    for (slot, of) in layout
        .slots
        .iter()
        .enumerate()
        .filter(|(slot, _)| first_of(*slot) == *slot)
    {
        let touching: Vec<&&Plain> = events
            .iter()
            .filter(|e| touches(definition, e, of.field, &of.kind))
            .collect();
        let name = || format!("{} slot {slot} {:?}", definition.name, of.kind);
        let newest_touch = touching.iter().map(|e| e.time_ms).max();
        if is_exact {
            assert_eq!(
                found.get(&slot).map(|f| f.1),
                newest_touch,
                "newest of {}",
                name()
            );
        } else {
            assert_eq!(
                found.contains_key(&slot),
                newest_touch.is_some(),
                "{} holds something",
                name()
            );
        }
        for (h, half) in options.half_lives_days.iter().enumerate() {
            let term = |e: &Plain| {
                amount(definition, e, of.field, &of.kind) * decayed(t_ms - e.time_ms, *half)
            };
            let sum: f64 = touching.iter().map(|e| term(e)).sum();
            let scale: f64 = touching
                .iter()
                .copied()
                .chain(&expected.removed)
                .map(|e| term(e).abs())
                .sum();
            assert_close(found.get(&slot).map_or(0.0, |f| f.0[h]), sum, scale, || {
                format!("{} at {half} days", name())
            });
        }
        if let (Some(newest), Some(register), true) = (newest, &state.newest, is_exact) {
            let register: f64 = register
                .phi
                .iter()
                .filter(|(s, _)| first_of(usize::from(*s)) == slot)
                .map(|(_, x)| f64::from(*x))
                .sum();
            assert!(
                (register - amount(definition, newest, of.field, &of.kind)).abs() < 1e-4,
                "last value of {}",
                name()
            );
        }
    }
    if !is_exact {
        return;
    }

    // Rhythm and order.
    let days: BTreeSet<i64> = events
        .iter()
        .map(|e| e.time_ms.div_euclid(DAY_MS))
        .collect();
    let kept: Vec<i64> = days
        .into_iter()
        .rev()
        .take(options.rhythm_days)
        .rev()
        .collect();
    assert_eq!(
        state.active_days().map(i64::from).collect::<Vec<_>>(),
        kept,
        "active days"
    );
    let window_ms = (options.order_window_days * DAY_MS as f64) as i64;
    let order = order_reached(&state.staged, layout.top_stage, window_ms);
    assert_eq!(
        order,
        reached(definition, events, options.staged_events, window_ms),
        "stages reached"
    );
}

/// How far the kept steps lead: per stage the newest time at which it followed the one before
/// within the window.
fn order_reached(staged: &[StagedEvent], top_stage: u8, window_ms: i64) -> Vec<Option<i64>> {
    let mut reached: Vec<Option<i64>> = vec![None; usize::from(top_stage)];
    for event in staged {
        let j = usize::from(event.stage) - 1;
        let follows = j == 0
            || reached[j - 1].is_some_and(|before| {
                (0..=window_ms).contains(&event.time_ms.saturating_sub(before))
            });
        if follows {
            reached[j] = Some(reached[j].map_or(event.time_ms, |t| t.max(event.time_ms)));
        }
    }
    reached
}

fn check_tally(
    graph: &Graph,
    tally: &DecayedTally,
    times: &[i64],
    is_exact: bool,
    t_ms: i64,
    what: &str,
) {
    assert_eq!(tally.count() as usize, times.len(), "{what}");
    let newest_ms = times.iter().copied().max().unwrap();
    assert!(
        if is_exact {
            tally.newest_ms() == newest_ms
        } else {
            tally.newest_ms() >= newest_ms
        },
        "newest: {what}"
    );
    let longest = *graph.shared().options.half_lives_days.last().unwrap();
    let weight: f64 = times.iter().map(|t| decayed(t_ms - t, longest)).sum();
    // What was taken back weighed less than 100 in all.
    let scale = if is_exact { weight } else { weight + 100.0 };
    assert_close(
        tally.weight_at(&graph.shared().bank, t_ms),
        weight,
        scale,
        || format!("weight: {what}"),
    );
}

fn relation_name(graph: &Graph, relation: leadpulse_schema::RelationId) -> String {
    graph.catalog().relations[relation.index()].name.clone()
}

fn check_relations(graph: &Graph, node: &Node, person: &Who, world: &World<'_>) {
    let survivor = world.survivor(person);
    assert_eq!(
        who(graph, node.survivor),
        survivor,
        "who stands for {person:?}"
    );
    assert_eq!(
        who(graph, graph.survivor(node.entity)),
        survivor,
        "who stands for {person:?}"
    );
    assert_eq!(node.absorbed, survivor != *person, "{person:?} is absorbed");
    assert_eq!(
        node.is_merged(),
        world.is_merged(person),
        "{person:?} is merged"
    );
    let named = |edges: &[Edge]| {
        edges
            .iter()
            .map(|e| {
                (
                    relation_name(graph, e.relation),
                    who(graph, e.to),
                    e.since_ms,
                )
            })
            .collect::<BTreeSet<_>>()
    };
    assert!(node.edges.is_sorted());
    assert_eq!(
        named(&node.edges),
        world.edges_said(person),
        "edges of {person:?}"
    );
    let (edges, incoming) = (graph.edges(node), graph.incoming(node.entity));
    assert!(edges.is_sorted() && incoming.is_sorted());
    let from: BTreeSet<(String, Who)> = incoming
        .iter()
        .map(|(r, from)| (relation_name(graph, *r), who(graph, *from)))
        .collect();
    assert_eq!(
        from.len(),
        incoming.len(),
        "each edge to {person:?} is told once"
    );
    if node.absorbed {
        assert!(edges.is_empty() && incoming.is_empty());
    } else {
        assert_eq!(
            named(&edges),
            world.edges(person),
            "edges of {person:?} and those it absorbed"
        );
        assert_eq!(from, world.incoming(person), "edges to {person:?}");
    }
}

fn check_node(
    market: &Market,
    graph: &Graph,
    node: &Node,
    person: &Who,
    world: &World<'_>,
    t_ms: i64,
) {
    let table = market.catalog.table_at(person.0);
    let expected = &world.people[person];
    assert_eq!(
        node.is_known(),
        expected.version.is_some(),
        "{person:?} is known"
    );
    assert_eq!(
        node.since_ms, expected.since_ms,
        "{person:?} is known since"
    );
    if let (Some(row), Some(version)) = (node.row(), &expected.version) {
        let single = Plain {
            table: person.0,
            delete: false,
            partition: 0,
            time_ms: 0,
            known_ms: 0,
            values: version.clone(),
        };
        let expected = market.batch(&[single]);
        for field in &table.fields {
            assert_eq!(
                format!("{:?}", row.get(field.id)),
                format!("{:?}", expected.row(0).get(field.id)),
                "{person:?}.{}",
                field.name
            );
        }
    }
    check_relations(graph, node, person, world);
    let is_exact = !world.is_tainted(person);
    let named: BTreeSet<HubKey> = node.hubs.iter().map(|h| hub_key(graph, *h)).collect();
    assert_eq!(named, world.hubs_named(person), "hubs named by {person:?}");
    let touched = world.hubs_touched(person);
    assert_eq!(
        node.touches().len(),
        touched.len(),
        "hubs touched by {person:?}"
    );
    for touch in node.touches() {
        let hub = hub_key(graph, touch.hub);
        check_tally(
            graph,
            &touch.tally,
            &touched[&hub],
            is_exact,
            t_ms,
            &format!("{hub:?} touched by {person:?}"),
        );
    }
    let mentioned = world.mentioned(person);
    let found = graph.mentions(node);
    assert_eq!(found.len(), mentioned.len(), "mentions of {person:?}");
    for mention in &found {
        let relation = relation_name(graph, mention.relation);
        check_tally(
            graph,
            &mention.tally,
            &mentioned[&relation],
            is_exact,
            t_ms,
            &format!("{relation} names {person:?}"),
        );
    }
    let layout = &graph.shared().layout;
    let joined = world.joined(person);
    for (index, state) in layout.of_entity(person.0).iter().zip(&node.events) {
        let table = layout.events[*index].table;
        let removed = world
            .removed
            .iter()
            .filter(|(owner, row)| joined.contains(owner) && row.table == table)
            .map(|(_, row)| *row);
        let expected = Expected {
            events: world.events_on(person, table),
            removed: removed.collect(),
        };
        check_events(market, graph, state, &expected, table, t_ms);
    }
    let mut newest: Vec<(i64, &str)> = world
        .events_of(person)
        .iter()
        .map(|row| (row.time_ms, row.key(&market.catalog)))
        .collect();
    newest.sort_unstable();
    let recent: Vec<(i64, &str)> = node.recent().iter().map(|r| (r.time_ms, &*r.id)).collect();
    if is_exact {
        assert_eq!(
            recent,
            newest[newest.len().saturating_sub(4)..],
            "newest events on {person:?}"
        );
    } else {
        assert!(
            recent.iter().all(|event| newest.contains(event)),
            "newest events on {person:?}"
        );
    }
}

/// Hub sums equal those of the world at the last board, and what a cell sees of the others is the
/// others exactly.
fn check_hubs(market: &Market, graph: &Graph, oracle: &Oracle<'_>, t_ms: i64) {
    let shared = graph.shared();
    let board = oracle.at_board();
    let cells = board.cells();
    let touching = board.cells_of_hubs();
    let halves = shared.bank.len();
    // What each cell contributed: (slot offset, half-life) → sum, beside the scale of everything.
    // Hubs keep the rounding of whatever was in them, of scanners and outsiders too.
    let mut scale = vec![1e-6_f64; shared.layout.hub_width * halves];
    let mut contributions: BTreeMap<&Who, Vec<f64>> = BTreeMap::new();
    let now = oracle.now();
    let sites: Vec<(usize, &EventLayout, f64, usize)> = shared
        .layout
        .events
        .iter()
        .flat_map(|layout| (0..layout.hub_slots.len()).map(move |i| (layout, i)))
        .flat_map(|(layout, i)| {
            let halves_of = market.options.half_lives_days.iter().enumerate();
            halves_of.map(move |(h, half)| ((layout.hub_offset + i) * halves + h, layout, *half, i))
        })
        .collect();
    for (at, layout, half, i) in &sites {
        let slot = &layout.slots[usize::from(layout.hub_slots[*i])];
        let table = market.catalog.table_at(layout.table);
        let gone = now.removed.iter();
        for (_, row) in gone.filter(|(_, row)| row.table == layout.table) {
            scale[*at] += (amount(table, row, slot.field, &slot.kind)
                * decayed(t_ms - row.time_ms, *half))
            .abs();
        }
    }
    for (cell, members) in &cells {
        let mut sums = vec![0.0; scale.len()];
        for layout in &shared.layout.events {
            let rows = members.iter().flat_map(|member| {
                let rows = board.events_on(member, layout.table).into_iter();
                rows.map(move |row| (member, row))
            });
            for (member, row) in rows {
                for (i, slot) in layout.hub_slots.iter().enumerate() {
                    let slot = &layout.slots[usize::from(*slot)];
                    assert!(
                        !matches!(slot.kind, SlotKind::Bucket(_)),
                        "hubs do not sum hashed buckets"
                    );
                    for (h, half) in market.options.half_lives_days.iter().enumerate() {
                        let at = (layout.hub_offset + i) * halves + h;
                        let x = board.hub_amount(member, row, slot.field, &slot.kind)
                            * decayed(t_ms - row.time_ms, *half);
                        sums[at] += x;
                        scale[at] += x.abs();
                    }
                }
            }
        }
        contributions.insert(cell, sums);
    }
    let others = |hub: &HubKey, but: Option<&Who>| {
        let cells: Vec<&Who> = touching
            .get(hub)
            .into_iter()
            .flatten()
            .filter(|c| Some(*c) != but)
            .collect();
        let mut sums = vec![0.0; scale.len()];
        cells.iter().for_each(|c| {
            sums.iter_mut()
                .zip(&contributions[c])
                .for_each(|(sum, x)| *sum += x)
        });
        (cells.len(), sums)
    };
    let reads: Vec<f64> = (0..halves)
        .map(|h| shared.bank.read(h, graph.hubs().landmark(), t_ms))
        .collect();

    for (hub, entity) in hub_nodes(graph) {
        let (count, sums) = others(&hub, None);
        match graph.hubs().get(entity) {
            None => assert_eq!(count, 0, "{hub:?} has cells"),
            Some(published) => {
                assert_eq!(published.cells as usize, count, "cells of {hub:?}");
                for (at, sum) in published.sums.iter().enumerate() {
                    assert_close(sum * reads[at % halves], sums[at], scale[at], || {
                        format!("sum {at} of {hub:?}")
                    });
                }
            }
        }
    }
    for (_, cell) in graph.cells() {
        let name = who(graph, cell.anchor);
        let own = cell
            .frozen()
            .cloned()
            .unwrap_or_else(|| cell.contribution(shared));
        let but = oracle.stayed(&name).then_some(&name);
        for (hub, entity) in hub_nodes(graph) {
            let Some(published) = graph.hubs().get(entity) else {
                continue;
            };
            let mine = own.hubs.binary_search(&entity).is_ok();
            let (count, sums) = others(&hub, but);
            assert_eq!(
                published.cells as usize - usize::from(mine),
                count,
                "cells of {hub:?} beside {name:?}"
            );
            for (at, sum) in published.sums.iter().enumerate() {
                let h = at % halves;
                let own = if mine {
                    own.sums[at] * shared.bank.rebase(h, own.landmark, graph.hubs().landmark())
                } else {
                    0.0
                };
                assert_close((sum - own) * reads[h], sums[at], scale[at], || {
                    format!("sum {at} of {hub:?} without {name:?}")
                });
            }
        }
    }
}

/// All hubs ever named, whether they have sums or not.
fn hub_nodes(graph: &Graph) -> Vec<(HubKey, EntityId)> {
    let directory = graph.directory();
    let entities = (0..directory.len() as u32)
        .map(EntityId)
        .filter(|e| directory.hub(*e).is_some());
    entities.map(|e| (hub_key(graph, e), e)).collect()
}

fn check_stats(market: &Market, graph: &Graph, world: &World<'_>) {
    let stats = graph.identity();
    let mut ways: BTreeMap<Way, u64> = BTreeMap::new();
    let (mut merged, mut converted) = (0, 0);
    for (who, person) in &world.people {
        if world.survivor(who) != *who {
            *(if world.is_merged(who) {
                &mut merged
            } else {
                &mut converted
            }) += 1;
        } else if who.0 != market.catalog.root().id && person.version.is_some() {
            *ways.entry(world.home(who).1).or_default() += 1;
        }
    }
    let way = |way| ways.get(&way).copied().unwrap_or(0);
    assert_eq!(
        (
            stats.by_reference,
            stats.by_link,
            stats.by_domain,
            stats.by_events
        ),
        (
            way(Way::Reference),
            way(Way::Link),
            way(Way::Domain),
            way(Way::Events)
        )
    );
    assert_eq!(
        (stats.provisional, stats.unresolved),
        (way(Way::Provisional), way(Way::Not))
    );
    assert_eq!(
        (stats.own, stats.competitors),
        (way(Way::Own), way(Way::Competitor))
    );
    assert_eq!(stats.burst_events, world.scanned() as u64);
    assert_eq!((stats.merged, stats.converted), (merged, converted));
    assert_eq!(stats.ambiguous_domains, world.ambiguous_domains() as u64);
    assert_eq!(
        stats.unmatched_retractions, 0,
        "within the horizon every retraction finds its event"
    );
}

fn check(market: &Market, graph: &Graph, oracle: &Oracle<'_>, t_ms: i64) {
    assert_eq!(graph.check(), Ok(()));
    let world = oracle.now();
    let cells = world.cells();
    assert_eq!(graph.cells().count(), cells.len(), "cells");
    assert_eq!(
        graph.cells().map(|(_, c)| c.nodes.len()).sum::<usize>(),
        world.people.len(),
        "nodes"
    );
    for (name, members) in &cells {
        for person in members {
            let (at, node) = graph
                .find(person.0, &person.1)
                .unwrap_or_else(|| panic!("{person:?} has a node"));
            let cell = graph.cell(at);
            assert_eq!(&who(graph, cell.anchor), name, "cell of {person:?}");
            check_node(market, graph, node, person, &world, t_ms);
            let owners = if person == name {
                members.clone()
            } else {
                world.joined(person)
            };
            let view = graph.view(cell, node, AsOf::from_ms(t_ms), &market.population);
            for (index, window) in market.population.windows.iter().enumerate() {
                assert_eq!(
                    view.window(index).number(),
                    Some(world.window(&owners, *window, t_ms)),
                    "{window:?} of {person:?}"
                );
            }
            assert_eq!(
                view.is_eligible(),
                world.is_eligible(person, t_ms),
                "{person:?} is in the population"
            );
        }
        let (at, _) = graph.find(members[0].0, &members[0].1).unwrap();
        let DealOutcomes {
            won,
            lost,
            open,
            last_won_ms,
            last_lost_ms,
        } = graph.outcomes(graph.cell(at));
        let (expected_won, expected_lost, expected_open, newest_won, newest_lost) =
            world.outcomes(members);
        assert_eq!(
            (won, lost, open),
            (expected_won, expected_lost, expected_open),
            "outcomes of {name:?}"
        );
        let is_exact = members.iter().all(|m| !world.is_tainted(m));
        assert!(
            !is_exact || (last_won_ms, last_lost_ms) == (newest_won, newest_lost),
            "newest outcomes of {name:?}"
        );
    }
    check_stats(market, graph, &world);
    check_hubs(market, graph, oracle, t_ms);
}

/// Applies a stream in batches with boards between, comparing now and then and at the end.
fn follow(market: &Market, rows: &[Plain], dice: &mut Dice) {
    let mut graph = market.graph(Tracking::On);
    let mut oracle = Oracle::new(market);
    let mut gatekeeper = Gatekeeper::default();
    let last_ms = rows
        .iter()
        .map(|r| r.time_ms.max(r.known_ms))
        .max()
        .unwrap_or(START_MS);
    let mut t_ms = last_ms;
    let mut rest = rows;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at((1 + dice.below(12) as usize).min(rest.len()));
        rest = after;
        assert_eq!(
            graph.apply(&market.batch(batch), None),
            oracle.apply(&mut gatekeeper, batch)
        );
        if dice.below(2) == 0 {
            t_ms += dice.below(3) as i64 * 1_800_000;
            graph.advance(AsOf::from_ms(t_ms));
            oracle.advance(t_ms);
        }
        if dice.below(3) == 0 {
            for (at, _) in graph.take_dirty(3) {
                graph.scored(at, 0.0);
            }
        }
        if dice.below(6) == 0 {
            check(market, &graph, &oracle, t_ms);
        }
    }
    check(market, &graph, &oracle, t_ms);
    t_ms += DAY_MS * (1 + dice.below(300) as i64);
    graph.advance(AsOf::from_ms(t_ms));
    oracle.advance(t_ms);
    check(market, &graph, &oracle, t_ms);
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn the_graph_equals_the_oracle(seeds in seeds(80, 300), entropy in any::<u64>()) {
        let market = crm();
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        follow(&market, &rows, &mut Dice(entropy));
    }

    #[test]
    fn identities_moves_matches_and_retractions_equal_the_oracle(seeds in seeds(90, 60), entropy in any::<u64>(), with_steps in any::<bool>()) {
        let market = network(with_steps);
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        follow(&market, &rows, &mut Dice(entropy));
    }

    #[test]
    fn the_graph_without_hubs_equals_the_oracle(seeds in seeds(80, 40), entropy in any::<u64>()) {
        let market = shop();
        let rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        follow(&market, &rows, &mut Dice(entropy));
    }
}

#[test]
fn a_delete_keeps_history_and_stands_alone() {
    let market = crm();
    let contacts = market.catalog.table("contacts").unwrap();
    let activities = market.catalog.table("activities").unwrap();
    let row = |table: &leadpulse_schema::Table, delete, values: &[(&str, &str)]| {
        let mut row = Plain {
            table: table.id,
            delete,
            partition: 0,
            time_ms: START_MS,
            known_ms: START_MS,
            values: vec![Datum::Null; table.fields.len()],
        };
        values.iter().for_each(|(name, text)| {
            row.values[table.field(name).unwrap().id.index()] = Datum::Text((*text).into())
        });
        if let (Some(time), false) = (table.time, delete) {
            row.values[time.index()] = Datum::Time(START_MS);
        }
        row
    };
    let rows = [
        row(
            activities,
            false,
            &[("activity_id", "e"), ("contact_id", "c")],
        ),
        row(contacts, false, &[("contact_id", "c"), ("account_id", "a")]),
        row(contacts, true, &[("contact_id", "c")]),
    ];
    let mut graph = market.graph(Tracking::On);
    assert_eq!(
        graph.apply(&market.batch(&rows), None),
        vec![RowOutcome::Accepted; 3]
    );
    let (at, node) = graph.find(contacts.id, "c").unwrap();
    assert!(!node.is_known());
    assert_eq!(node.newest_event_ms(), Some(START_MS));
    assert_eq!(graph.cell(at).nodes.len(), 1);
    assert!(
        graph
            .find(market.catalog.root().id, "a")
            .is_some_and(|(_, account)| !account.is_known())
    );
}
