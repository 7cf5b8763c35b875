//! The graph is a function of the accepted rows: not of their order, batches, shards, repeats, the
//! boards between, or the calendar.

use std::collections::BTreeMap;

use leadpulse_graph::{CellRef, DAY_MS, Graph, Reasons, Tracking};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Role, TableId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value as Json, json};

use crate::market::{
    Dice, Market, Plain, START_MS, Seed, Style, cases, crm, network, seeds, shop, stream,
};

/// No amount of a stream is greater.
const LARGEST_AMOUNT: f64 = 200.0;

/// Discrete parts are equal; sums agree to 1e-9 of the sum of absolute terms, which is at most the
/// count's sum times the largest amount. Where events were taken back after they had been in,
/// `removed` holds their decayed count per half-life: their rounding stays, and what they had
/// displaced on their owners is not compared.
fn assert_same(expected: &Graph, found: &Graph, removed: &[f64]) {
    assert_eq!((expected.check(), found.check()), (Ok(()), Ok(())));
    let (a, b) = (&image(expected), &image(found));
    let halves = expected.shared().bank.len();
    let is_exact = removed.iter().all(|weight| *weight == 0.0);
    let node_names = |image: &Json| {
        image["nodes"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(node_names(a), node_names(b), "nodes");
    for (name, node) in a["nodes"].as_object().unwrap() {
        let (mut left, mut right) = (node.clone(), b["nodes"][name].clone());
        for (table, state) in node["events"].as_object().unwrap() {
            let sums = |node: &mut Json| numbers(node["events"][table]["sums"].take());
            let (left, right) = (sums(&mut left), sums(&mut right));
            let scale: Vec<f64> = (0..halves)
                .map(|h| left.get(h).copied().unwrap_or(0.0) + removed[h])
                .collect();
            assert_sums(
                &left,
                &right,
                &scale,
                &format!("{name} {table} {:?}", state["slots"]),
            );
        }
        for tallies in ["touches", "mentions"] {
            for key in node[tallies].as_object().unwrap().keys() {
                let weight = |node: &mut Json| node[tallies][key][2].take().as_f64().unwrap();
                let (x, y) = (weight(&mut left), weight(&mut right));
                assert!(
                    (x - y).abs() <= 1e-9 * (x.abs() + removed[halves - 1]),
                    "weight of {key} on {name}: {x} {y}"
                );
            }
        }
        if !is_exact {
            forget_displaced(&mut left);
            forget_displaced(&mut right);
        }
        assert_eq!(left, right, "{name}");
    }
    let hub_names = |image: &Json| {
        image["hubs"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(hub_names(a), hub_names(b), "hubs");
    // What was ever in a hub leaves its rounding there.
    let everything: Vec<f64> = (0..halves)
        .map(|h| decayed_count(expected, h) + removed[h])
        .collect();
    for (name, hub) in a["hubs"].as_object().unwrap() {
        let other = &b["hubs"][name];
        assert_eq!(hub[0], other[0], "cells of {name}");
        let (left, right) = (numbers(hub[1].clone()), numbers(other[1].clone()));
        assert_sums(&left, &right, &everything, name);
    }
    let (mut left, mut right) = (expected.identity(), found.identity());
    for stats in [&mut left, &mut right] {
        (stats.inexact_retractions, stats.cancelled_events) = (0, 0);
    }
    assert_eq!(left, right);
}

/// What a retraction cannot restore: newest and oldest, full rings.
fn forget_displaced(node: &mut Json) {
    for (_, state) in node["events"].as_object_mut().unwrap() {
        for lost in ["oldest_ms", "newest", "slot_newest_ms", "days", "staged"] {
            state[lost].take();
        }
    }
    for tallies in ["touches", "mentions"] {
        node[tallies]
            .as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(|tally| drop(tally[1].take()));
    }
    node["recent"].take();
    if let Some(verdicts) = node["verdicts"].as_array_mut() {
        verdicts.truncate(2);
    }
}

/// The decayed count of the events that are taken back, relative to the moment's landmark.
fn removed(market: &Market, rows: &[Plain], as_of_ms: i64) -> Vec<f64> {
    let graph = market.graph(Tracking::Off);
    let bank = &graph.shared().bank;
    let landmark = bank.landmark(as_of_ms);
    let back = || rows.iter().filter(|row| row.takes_back(&market.catalog));
    (0..bank.len())
        .map(|h| {
            back()
                .map(|row| bank.weight(h, row.time_ms, landmark))
                .sum()
        })
        .collect()
}

/// The decayed count of all events, relative to the hubs' landmark.
fn decayed_count(graph: &Graph, h: usize) -> f64 {
    let bank = &graph.shared().bank;
    let states = graph
        .cells()
        .flat_map(|(_, cell)| &cell.nodes)
        .flat_map(|node| &node.events);
    states
        .filter_map(|state| {
            Some(
                state.slots(bank).next()?.1[h]
                    * bank.rebase(h, state.landmark(), graph.hubs().landmark()),
            )
        })
        .sum()
}

fn numbers(list: Json) -> Vec<f64> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().expect("sums are finite"))
        .collect()
}

fn assert_sums(left: &[f64], right: &[f64], scale: &[f64], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (i, (x, y)) in left.iter().zip(right).enumerate() {
        assert!(
            (x - y).abs() <= 1e-9 * LARGEST_AMOUNT * scale[i % scale.len()],
            "{what}, sum {i}: {x} {y}"
        );
    }
}

fn image(graph: &Graph) -> Json {
    serde_json::to_value(graph.image()).unwrap()
}

fn last_ms(rows: &[Plain]) -> i64 {
    rows.iter()
        .map(|r| r.time_ms.max(r.known_ms))
        .max()
        .unwrap_or(START_MS)
}

/// Any order of rows in which each entity's versions keep theirs, with some events twice.
fn rearranged(market: &Market, rows: &[Plain], dice: &mut Dice) -> Vec<Plain> {
    let is_event = |row: &Plain| market.catalog.table_at(row.table).role == Role::Event;
    let mut all: Vec<Plain> = rows.to_vec();
    all.extend(
        rows.iter()
            .filter(|r| is_event(r) && dice.below(5) == 0)
            .cloned()
            .collect::<Vec<_>>(),
    );
    for i in (1..all.len()).rev() {
        all.swap(i, dice.below(i as u64 + 1) as usize);
    }
    let key = |row: &Plain| (row.table, row.key(&market.catalog).to_owned());
    let mut versions: BTreeMap<(TableId, String), std::collections::VecDeque<Plain>> =
        BTreeMap::new();
    rows.iter()
        .filter(|r| !is_event(r))
        .for_each(|r| versions.entry(key(r)).or_default().push_back(r.clone()));
    for row in all.iter_mut().filter(|r| !is_event(r)) {
        *row = versions.get_mut(&key(row)).unwrap().pop_front().unwrap();
    }
    all
}

/// All rows in one batch, then the moment.
fn direct(market: &Market, rows: &[Plain], as_of_ms: i64) -> Graph {
    let mut graph = market.graph(Tracking::On);
    graph.apply(&market.batch(rows), None);
    graph.advance(AsOf::from_ms(as_of_ms));
    graph
}

/// The same rows in another order, in small batches, over other shards, with boards and scoring
/// between.
fn roundabout(
    market: &Market,
    rows: &[Plain],
    start_ms: i64,
    end_ms: i64,
    dice: &mut Dice,
) -> Graph {
    let mut market = market.clone();
    market.options.shards = [1, 3, 16][dice.below(3) as usize];
    let tracking = if dice.below(3) == 0 {
        Tracking::Off
    } else {
        Tracking::On
    };
    let mut graph = market.graph(tracking);
    let rows = rearranged(&market, rows, dice);
    let mut rest = &rows[..];
    let mut t_ms = start_ms;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at((1 + dice.below(9) as usize).min(rest.len()));
        rest = after;
        graph.apply(&market.batch(batch), None);
        if dice.below(3) == 0 {
            t_ms = (t_ms + dice.below(DAY_MS as u64) as i64)
                .min(end_ms - market.options.board_period_ms);
            graph.advance(AsOf::from_ms(t_ms));
            for (at, reasons) in graph.take_dirty(1) {
                assert!(!reasons.is_empty());
                graph.scored(at, 1.0);
            }
        }
    }
    graph.advance(AsOf::from_ms(end_ms));
    graph
}

fn any_way_is_the_same(market: &Market, seeds: &[Seed], entropy: u64) {
    let rows = stream(
        market,
        Style {
            ties: true,
            wild: false,
        },
        seeds,
    );
    let (start_ms, end_ms) = (last_ms(&rows), last_ms(&rows) + 30 * DAY_MS);
    let removed = removed(market, &rows, end_ms);
    assert_same(
        &direct(market, &rows, end_ms),
        &roundabout(market, &rows, start_ms, end_ms, &mut Dice(entropy)),
        &removed,
    );
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_order_batches_repeats_shards_and_boards_give_the_same_graph(seeds in seeds(90, 300), entropy in any::<u64>()) {
        any_way_is_the_same(&crm(), &seeds, entropy);
    }

    /// Links, merges, conversions, matches, moves, tombstones and re-creation, mentions: exact in
    /// any order.
    #[test]
    fn any_order_gives_the_same_graph_with_links(seeds in seeds(90, 120), entropy in any::<u64>(), with_steps in any::<bool>()) {
        let mut market = network(with_steps);
        market.forbids_retractions = true;
        any_way_is_the_same(&market, &seeds, entropy);
    }

    /// Shared domains that lead to the topmost root, or by a field.
    #[test]
    fn any_order_gives_the_same_graph_with_steered_domains(seeds in seeds(90, 60), entropy in any::<u64>(), by_parent in any::<bool>()) {
        let mut market = network(true);
        let by = if by_parent { "ultimate_parent" } else { "country" };
        market.options.match_by = Some(by.into());
        market.options.fits(&market.catalog).unwrap();
        market.forbids_retractions = true;
        any_way_is_the_same(&market, &seeds, entropy);
    }

    /// Retractions before, after and again.
    #[test]
    fn any_order_gives_the_same_graph_with_retractions(seeds in seeds(90, 60), entropy in any::<u64>()) {
        any_way_is_the_same(&network(true), &seeds, entropy);
    }

    #[test]
    fn any_order_gives_the_same_graph_without_hubs(seeds in seeds(60, 20), entropy in any::<u64>()) {
        any_way_is_the_same(&shop(), &seeds, entropy);
    }

    /// Two advances are one: the same graph, and the same cells to score.
    #[test]
    fn advancing_twice_is_advancing_once(seeds in seeds(60, 60), scored in 0..60_usize, first in 0..40 * DAY_MS, second in 0..40 * DAY_MS) {
        let market = crm();
        let rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        let start_ms = last_ms(&rows);
        let advanced = |steps: &[i64]| {
            let mut graph = market.graph(Tracking::On);
            let (before, after) = rows.split_at(scored.min(rows.len()));
            graph.apply(&market.batch(before), None);
            graph.advance(AsOf::from_ms(start_ms));
            for (at, _) in graph.take_dirty(usize::MAX) {
                graph.scored(at, 1.0);
            }
            graph.apply(&market.batch(after), None);
            steps.iter().for_each(|step| graph.advance(AsOf::from_ms(start_ms + step)));
            // A step back changes nothing.
            graph.advance(AsOf::from_ms(start_ms));
            let dirty = graph.take_dirty(usize::MAX);
            (graph, dirty)
        };
        let (twice, dirty_twice) = advanced(&[first, first + second]);
        let (once, dirty_once) = advanced(&[first + second]);
        prop_assert_eq!(twice.as_of_ms(), once.as_of_ms());
        prop_assert_eq!(twice.board(), once.board());
        // A board that falls before a timer is one more reason, not one more cell.
        let cells = |dirty: &[(CellRef, Reasons)]| dirty.iter().map(|(at, _)| *at).collect::<Vec<_>>();
        prop_assert_eq!(cells(&dirty_twice), cells(&dirty_once));
        assert_same(&once, &twice, &[0.0; 3]);
    }

    /// A whole number of landmark periods later, the same graph bit for bit, but for times.
    #[test]
    fn another_epoch_of_the_calendar_gives_the_same_bits(seeds in seeds(60, 200), periods in -12..12_i64) {
        let market = crm();
        let period_days = (market.options.half_lives_days[0] * 256.0) as i64;
        let delta_ms = periods * period_days * DAY_MS;
        let rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        let shifted: Vec<Plain> = rows.iter().map(|r| r.shifted(delta_ms)).collect();
        let end_ms = last_ms(&rows) + 3 * DAY_MS;
        let mut here = image(&direct(&market, &rows, end_ms));
        let mut there = image(&direct(&market, &shifted, end_ms + delta_ms));
        forget_times(&mut here, 0, 0);
        forget_times(&mut there, delta_ms, periods);
        prop_assert_eq!(here, there);
    }
}

/// Moves all times of an image back.
fn forget_times(image: &mut Json, delta_ms: i64, periods: i64) {
    let earlier = |time: &mut Json, by: i64| {
        if let Some(t) = time.as_i64().filter(|t| *t != i64::MAX) {
            *time = json!(t - by);
        }
    };
    let delta_days = delta_ms / DAY_MS;
    for (_, node) in image["nodes"].as_object_mut().unwrap() {
        earlier(&mut node["since_ms"], delta_ms);
        node["edges"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|edge| earlier(&mut edge[2], delta_ms));
        // Times among the values are texts.
        for (_, value) in node["row"].as_object_mut().unwrap() {
            if let Some(t) = value
                .as_str()
                .unwrap()
                .strip_prefix("Time(")
                .and_then(|t| t.strip_suffix(")")?.parse::<i64>().ok())
            {
                *value = json!(t - delta_ms);
            }
        }
        for (_, state) in node["events"].as_object_mut().unwrap() {
            if state["total"] == 0 {
                continue;
            }
            earlier(&mut state["landmark"], periods);
            earlier(&mut state["oldest_ms"], delta_ms);
            earlier(&mut state["newest"]["time_ms"], delta_ms);
            state["slot_newest_ms"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|t| earlier(t, delta_ms));
            state["days"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|day| earlier(&mut day[0], delta_days));
            state["staged"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|event| earlier(&mut event["time_ms"], delta_ms));
        }
        for (_, counter) in node["counters"].as_object_mut().unwrap() {
            counter["days"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|day| earlier(&mut day[0], delta_days));
        }
        node["touches"]
            .as_object_mut()
            .unwrap()
            .iter_mut()
            .for_each(|(_, touch)| earlier(&mut touch[1], delta_ms));
        node["recent"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|event| earlier(&mut event["time_ms"], delta_ms));
    }
}

/// More events than one thread applies: the parallel path gives the same graph.
#[test]
fn a_large_batch_is_the_same_as_many_small_ones() {
    let market = crm();
    let mut dice = Dice(7);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let seeds = prop::collection::vec(seeds(2, 100), 3000)
        .new_tree(&mut runner)
        .unwrap()
        .current()
        .concat();
    let rows = stream(
        &market,
        Style {
            ties: true,
            wild: false,
        },
        &seeds,
    );
    assert!(rows.len() > 1000);
    let end_ms = last_ms(&rows) + DAY_MS;
    assert_same(
        &direct(&market, &rows, end_ms),
        &roundabout(
            &market,
            &rows,
            last_ms(&rows) - 5 * DAY_MS,
            end_ms,
            &mut dice,
        ),
        &[0.0; 3],
    );
}

/// Scanners' bursts: in any order and any cut, with repeats, retractions, rows of people that come
/// after their events, and people that become one.
fn with_bursts(market: &Market, seeds: &[Seed]) -> Vec<Plain> {
    let mut rows = stream(
        market,
        Style {
            ties: true,
            wild: false,
        },
        seeds,
    );
    let calls = market.catalog.table("calls").unwrap().id;
    let step_ms = 6 * 3_600_000;
    // A day each, and a second within it: many events of few groups.
    for row in rows.iter_mut().filter(|row| row.table == calls) {
        // By the key, so that repeats and retractions have the time of their event.
        let number: i64 = row.key(&market.catalog)[1..].parse().unwrap();
        let at_ms = START_MS + (row.time_ms / step_ms) % 4 * DAY_MS + number % 40 * 500;
        row.known_ms += at_ms - row.time_ms;
        row.time_ms = at_ms;
        let time = market.catalog.table_at(calls).time.unwrap();
        row.values[time.index()] = crate::market::Datum::Time(at_ms);
    }
    rows
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn any_order_gives_the_same_graph_with_bursts(
        seeds in seeds(90, 40),
        entropy in any::<u64>(),
        limit in 2..5_usize,
    ) {
        let mut market = network(true);
        market.options.burst_events = limit;
        market.forbids_retractions = entropy % 2 == 0;
        let mut dice = Dice(entropy);
        let rows = with_bursts(&market, &seeds);
        let as_of_ms = last_ms(&rows);
        let built = |rows: &[Plain], dice: &mut Dice| {
            let mut graph = market.graph(Tracking::On);
            let mut rest = rows;
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((1 + dice.below(9) as usize).min(rest.len()));
                rest = after;
                graph.apply(&market.batch(batch), None);
                assert_eq!(graph.check(), Ok(()));
            }
            graph.advance(AsOf::from_ms(as_of_ms));
            graph
        };
        let expected = built(&rows, &mut dice);
        for _ in 0..2 {
            let found = built(&rearranged(&market, &rows, &mut dice), &mut dice);
            assert_same(&expected, &found, &removed(&market, &rows, as_of_ms));
        }
    }
}

/// Rows as topics hold them: the events of each of three partitions by time, the versions of each
/// table in their order. Returns some interleaving.
fn interleaved(market: &Market, rows: &[Plain], dice: &mut Dice) -> Vec<Plain> {
    let mut topics: BTreeMap<(TableId, u64), std::collections::VecDeque<Plain>> = BTreeMap::new();
    for row in rows {
        let is_event = market.catalog.table_at(row.table).role == Role::Event;
        let key = row.key(&market.catalog);
        let part = if is_event {
            key.len() as u64 + key.as_bytes()[1] as u64
        } else {
            0
        } % 3;
        let mut row = row.clone();
        row.partition = u32::from(row.table.0) * 3 + part as u32;
        topics.entry((row.table, part)).or_default().push_back(row);
    }
    for ((table, _), topic) in &mut topics {
        if market.catalog.table_at(*table).role == Role::Event {
            topic.make_contiguous().sort_by_key(|row| row.time_ms);
        }
    }
    let mut all = Vec::new();
    while !topics.is_empty() {
        let at = *topics
            .keys()
            .nth(dice.below(topics.len() as u64) as usize)
            .unwrap();
        // Some topics are read in large pieces, far ahead of the others.
        let piece = [1, 2, 40][dice.below(3) as usize];
        let topic = topics.get_mut(&at).unwrap();
        all.extend(topic.drain(..piece.min(topic.len())));
        topics.retain(|_, topic| !topic.is_empty());
    }
    all
}

proptest! {
    #![proptest_config(cases(128))]

    /// Days are closed while people of their events have no version yet, and partitions lag.
    #[test]
    fn bursts_of_closed_days_do_not_depend_on_the_topic_read_first(
        seeds in seeds(160, 40),
        entropy in any::<u64>(),
        limit in 2..4_usize,
    ) {
        let mut market = network(true);
        market.options.burst_events = limit;
        market.options.late_horizon_ms = DAY_MS;
        let mut dice = Dice(entropy);
        let mut rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        rows.retain(|row| !row.takes_back(&market.catalog));
        let calls = market.catalog.table("calls").unwrap().id;
        for row in rows.iter_mut().filter(|row| row.table == calls) {
            let number: i64 = row.key(&market.catalog)[1..].parse().unwrap();
            let day = row.time_ms.div_euclid(6 * DAY_MS) * 6;
            let at_ms = day * DAY_MS + number % 4 * 3_000;
            row.known_ms += at_ms - row.time_ms;
            row.time_ms = at_ms;
            let time = market.catalog.table_at(calls).time.unwrap();
            row.values[time.index()] = crate::market::Datum::Time(at_ms);
            for (field, value) in [("kind", "v1"), ("sku", "s1")] {
                let field = market.catalog.table_at(calls).field(field).unwrap().id;
                row.values[field.index()] = crate::market::Datum::Text(value.into());
            }
        }
        // The last board sees all rows.
        let as_of_ms = last_ms(&rows) + DAY_MS;
        let built = |dice: &mut Dice| {
            let mut graph = market.graph(Tracking::On);
            let tables = market.catalog.tables.iter().filter(|t| t.role == Role::Event);
            for table in tables {
                (0..3).for_each(|part| graph.expect(u32::from(table.id.0) * 3 + part, table.id));
            }
            let rows = interleaved(&market, &rows, dice);
            let mut rest = &rows[..];
            let mut now_ms = i64::MIN;
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((1 + dice.below(9) as usize).min(rest.len()));
                rest = after;
                graph.apply(&market.batch(batch), None);
                now_ms = batch.iter().map(|row| row.time_ms).fold(now_ms, i64::max);
                graph.advance(AsOf::from_ms(now_ms));
                assert_eq!(graph.check(), Ok(()));
            }
            graph.caught_up();
            graph.advance(AsOf::from_ms(as_of_ms));
            graph
        };
        let expected = built(&mut dice);
        for _ in 0..2 {
            let found = built(&mut dice);
            assert_same(&expected, &found, &removed(&market, &rows, as_of_ms));
        }
    }
}

/// What a retraction can only estimate, of every node and table.
fn estimates(graph: &Graph) -> BTreeMap<String, Json> {
    let image = image(graph);
    let lost = |state: &Json| {
        json!(
            ["oldest_ms", "newest", "slot_newest_ms", "days", "staged"]
                .map(|part| state[part].clone())
        )
    };
    let nodes = image["nodes"].as_object().unwrap();
    let of_node = |(name, node): (&String, &Json)| {
        let states = node["events"].as_object().unwrap();
        let states: Vec<Json> = states.values().map(lost).collect();
        (name.clone(), Json::Array(states))
    };
    nodes.iter().map(of_node).collect()
}

proptest! {
    #![proptest_config(cases(128))]

    /// Without a burst the rule changes nothing, also not what a retraction leaves: whether its
    /// event was open or its day closed, and whether one batch held both.
    #[test]
    fn a_retraction_leaves_the_same_with_and_without_the_rule(
        seeds in seeds(160, 20),
        entropy in any::<u64>(),
        pieces in prop_oneof![Just(1_u64), Just(40)],
        closes in any::<bool>(),
    ) {
        let mut market = network(true);
        market.options.late_horizon_ms = DAY_MS;
        let mut rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let calls = market.catalog.table("calls").unwrap().id;
        for row in rows.iter_mut().filter(|row| row.table == calls) {
            let field = market.catalog.table_at(calls).field("kind").unwrap().id;
            let kind = if row.time_ms % 3 == 0 { "v2" } else { "v1" };
            row.values[field.index()] = crate::market::Datum::Text(kind.into());
        }
        let rows = interleaved(&market, &rows, &mut Dice(entropy));
        let as_of_ms = last_ms(&rows) + DAY_MS;
        let mut built = |burst_events: usize| {
            market.options.burst_events = burst_events;
            let mut dice = Dice(entropy);
            let mut graph = market.graph(Tracking::On);
            let (mut rest, mut now_ms) = (&rows[..], i64::MIN);
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((1 + dice.below(pieces) as usize).min(rest.len()));
                rest = after;
                graph.apply(&market.batch(batch), None);
                now_ms = batch.iter().map(|row| row.time_ms).fold(now_ms, i64::max);
                if closes {
                    graph.advance(AsOf::from_ms(now_ms));
                }
            }
            graph.advance(AsOf::from_ms(as_of_ms));
            graph
        };
        prop_assert_eq!(estimates(&built(0)), estimates(&built(1_000)));
    }
}
