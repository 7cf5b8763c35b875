//! The tracker misses no change: a cell whose numbers changed is marked, and the state after
//! changes equals the rebuilt state.

use std::collections::BTreeSet;

use leadpulse_graph::{DAY_MS, Graph, Node, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Market, Plain, Seed, Style, cases, crm, network, seeds, shop, stream};
use crate::support::{difference, differing, encode_all, last_ms, name, plan_of};

/// Tolerance between numbers that were reached on two ways, relative.
const ROUNDING: f32 = 1e-5;

fn take(graph: &mut Graph) -> BTreeSet<String> {
    let dirty = graph.take_dirty(usize::MAX);
    assert_eq!(
        dirty
            .iter()
            .map(|(at, _)| at)
            .collect::<BTreeSet<_>>()
            .len(),
        dirty.len(),
        "each cell once"
    );
    dirty.iter().for_each(|(at, _)| graph.scored(*at, 0.0));
    dirty.iter().map(|(at, _)| name(graph, *at)).collect()
}

/// Cells that hold more than names: a row that takes back an event nobody has seen leaves its
/// owner's name alone.
fn someone(graph: &Graph) -> BTreeSet<String> {
    let is_someone = |n: &Node| {
        n.is_known() || !n.mentions().is_empty() || n.events.iter().any(|e| !e.is_empty())
    };
    graph
        .cells()
        .filter(|(_, cell)| cell.nodes.iter().any(is_someone))
        .map(|(at, _)| name(graph, at))
        .collect()
}

/// Rows up to each board, then the board; the rows of the last step have no board yet.
fn rebuilt(market: &Market, steps: &[(&[Plain], i64)], last: &[Plain]) -> Graph {
    let mut market = market.clone();
    market.options.shards = 1;
    let mut graph = market.graph(Tracking::Off);
    for (rows, t_ms) in steps {
        graph.apply(&market.batch(rows), None);
        graph.advance(AsOf::from_ms(*t_ms));
    }
    for row in last {
        graph.apply(&market.batch(std::slice::from_ref(row)), None);
    }
    graph
}

/// Parts that a retraction cannot restore depend on the rows applied together with it. Such streams
/// are not compared.
fn assert_equal_to_rebuilt(market: &Market, live: &Graph, rebuilt: &Graph, t_ms: i64) {
    if !market.forbids_retractions && market.catalog.tables.iter().any(|t| t.retraction.is_some()) {
        return;
    }
    let plan = plan_of(market);
    let (live, rebuilt) = (
        encode_all(&plan, live, t_ms),
        encode_all(&plan, rebuilt, t_ms),
    );
    assert_eq!(
        live.keys().collect::<Vec<_>>(),
        rebuilt.keys().collect::<Vec<_>>(),
        "cells"
    );
    for (cell, numbers) in &live {
        let is_equal = difference(numbers, &rebuilt[cell]) <= ROUNDING;
        assert!(
            is_equal,
            "{cell} differs from the same rows at once: {:#?}",
            differing(&plan, numbers, &rebuilt[cell], ROUNDING)
        );
    }
}

fn never_missed(market: &Market, seeds: &[Seed], cut_percent: usize, hours: i64) {
    let plan = plan_of(market);
    let rows = stream(
        market,
        Style {
            ties: true,
            wild: false,
        },
        seeds,
    );
    let (first, second) = rows.split_at(rows.len() * cut_percent / 100);
    let t_ms = last_ms(&rows);
    let mut live = market.graph(Tracking::On);
    for batch in first.chunks(7) {
        live.apply(&market.batch(batch), None);
    }
    live.advance(AsOf::from_ms(t_ms));
    let everyone = take(&mut live);
    assert!(someone(&live).is_subset(&everyone), "everyone is new");

    // Rows at the same moment.
    let before = encode_all(&plan, &live, t_ms);
    for batch in second.chunks(5) {
        live.apply(&market.batch(batch), None);
    }
    let after = encode_all(&plan, &live, t_ms);
    let (dirty, someone) = (take(&mut live), someone(&live));
    for (cell, numbers) in after
        .iter()
        .filter(|(cell, _)| before.contains_key(*cell) || someone.contains(*cell))
    {
        let is_the_same = before.get(cell) == Some(numbers);
        assert!(
            is_the_same || dirty.contains(cell),
            "rows changed {cell} unseen by {:?}",
            before.get(cell).map(|b| difference(b, numbers))
        );
    }
    assert_equal_to_rebuilt(
        market,
        &live,
        &rebuilt(market, &[(first, t_ms)], second),
        t_ms,
    );

    // The next board, with nothing but the board between.
    let next_ms = live.next_board_ms() + hours * market.options.board_period_ms;
    let before = encode_all(&plan, &live, next_ms);
    live.advance(AsOf::from_ms(next_ms));
    let after = encode_all(&plan, &live, next_ms);
    let dirty = take(&mut live);
    for (cell, numbers) in &after {
        let off = difference(&before[cell], numbers);
        assert!(
            off <= ROUNDING || dirty.contains(cell),
            "the board moved {cell} by {off} unseen"
        );
    }
    assert_equal_to_rebuilt(
        market,
        &live,
        &rebuilt(market, &[(first, t_ms), (second, next_ms)], &[]),
        next_ms,
    );
    assert_equal_to_rebuilt(
        market,
        &live,
        &rebuilt(market, &[(&rows, next_ms)], &[]),
        next_ms,
    );
    assert_eq!(live.deferred(), 0);

    // Long after, with more boards between.
    let late_ms = next_ms + 200 * DAY_MS;
    for step in 1..4 {
        live.advance(AsOf::from_ms(next_ms + step * 50 * DAY_MS));
    }
    live.advance(AsOf::from_ms(late_ms));
    assert_equal_to_rebuilt(
        market,
        &live,
        &rebuilt(market, &[(&rows, late_ms)], &[]),
        late_ms,
    );
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn no_changed_cell_is_missed(seeds in seeds(70, 60), cut in 0..100_usize, hours in 0..3_i64) {
        never_missed(&crm(), &seeds, cut, hours);
    }

    /// Streams with references, mentions, merges, conversions, matches and retractions.
    #[test]
    fn no_changed_cell_of_a_network_is_missed(seeds in seeds(70, 60), cut in 0..100_usize, hours in 0..3_i64, with_steps in any::<bool>(), no_retractions in any::<bool>()) {
        let market = Market { forbids_retractions: no_retractions, ..network(with_steps) };
        never_missed(&market, &seeds, cut, hours);
    }

    /// Sources that were silent for days come back, and every cell reads that.
    #[test]
    fn no_cell_misses_a_source_that_is_back(seeds in seeds(70, 60), cut in 0..100_usize, hours in 0..3_i64) {
        let mut market = crm();
        market.options.source_ages = true;
        never_missed(&market, &seeds, cut, hours);
    }

    #[test]
    fn no_changed_cell_without_hubs_is_missed(seeds in seeds(40, 60), cut in 0..100_usize) {
        never_missed(&shop(), &seeds, cut, 0);
    }
}

/// Scoring within a budget loses no cell: deferred cells are scored later, the nearest to a
/// threshold first.
#[test]
fn a_small_budget_defers_and_forgets_nobody() {
    let market = crm();
    let accounts = market.catalog.root();
    let purchases = market.catalog.table("purchases").unwrap();
    let row = |table: &leadpulse_schema::Table, time_ms: i64, texts: &[(&str, &str)]| {
        use crate::market::Datum;
        let mut values = vec![Datum::Null; table.fields.len()];
        texts.iter().for_each(|(field, text)| {
            values[table.field(field).unwrap().id.index()] = Datum::Text((*text).into())
        });
        values[table.time.unwrap().index()] = Datum::Time(time_ms);
        Plain {
            table: table.id,
            delete: false,
            partition: 0,
            time_ms,
            known_ms: time_ms,
            values,
        }
    };
    let t_ms = crate::market::START_MS;
    let keys = ["a", "b", "c", "d", "e"];
    let rows: Vec<Plain> = keys
        .iter()
        .map(|key| row(accounts, t_ms, &[("account_id", key), ("industry", "v0")]))
        .collect();
    let mut graph = market.graph(Tracking::On);
    graph.apply(&market.batch(&rows), None);
    graph.advance(AsOf::from_ms(t_ms));
    let dirty = graph.take_dirty(0);
    assert_eq!(dirty.len(), keys.len());
    let key_of = |graph: &Graph, at| graph.directory().key(graph.cell(at).anchor).to_string();
    for (at, _) in dirty {
        // "a" is nearest to a threshold, "e" the farthest.
        let margin = f32::from(key_of(&graph, at).as_bytes()[0]);
        graph.scored(at, margin);
    }
    graph.apply(
        &market.batch(&[row(
            purchases,
            t_ms,
            &[("purchase_id", "p"), ("account_id", "e")],
        )]),
        None,
    );
    graph.advance(AsOf::from_ms(graph.next_board_ms()));
    assert_eq!(graph.deferred(), 4, "all peers of e");
    let mut asked: Vec<Vec<String>> = Vec::new();
    for budget in [1, 2, 5] {
        let dirty = graph.take_dirty(budget);
        asked.push(
            dirty
                .iter()
                .map(|(at, _)| key_of(&graph, *at))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        );
        dirty.iter().for_each(|(at, _)| graph.scored(*at, 0.0));
    }
    assert_eq!(asked, [vec!["a", "e"], vec!["b", "c"], vec!["d"]]);
    assert_eq!(graph.deferred(), 0);
}

/// The columns of a hub contain no events of the cell's own, also while the cell's part of the sum
/// is that of the last board.
#[test]
fn own_events_do_not_count_as_those_of_peers() {
    use crate::market::Datum;
    let market = crm();
    let plan = plan_of(&market);
    let (accounts, purchases) = (
        market.catalog.root(),
        market.catalog.table("purchases").unwrap(),
    );
    let t_ms = crate::market::START_MS;
    let row = |table: &leadpulse_schema::Table, texts: &[(&str, &str)]| {
        let mut values = vec![Datum::Null; table.fields.len()];
        texts.iter().for_each(|(field, text)| {
            values[table.field(field).unwrap().id.index()] = Datum::Text((*text).into())
        });
        if let Some(amount) = table.field("amount") {
            values[amount.id.index()] = Datum::Double(10.0);
        }
        Plain {
            table: table.id,
            delete: false,
            partition: 0,
            time_ms: t_ms,
            known_ms: t_ms,
            values,
        }
    };
    let peers_of = |graph: &Graph, key: &str| -> Vec<(String, f32)> {
        let (at, _) = graph.find(accounts.id, key).unwrap();
        let batch = plan.encode(graph, &[at], AsOf::from_ms(t_ms), &[]);
        let columns = plan.layout().root.iter().zip(batch.root);
        columns
            .filter(|(c, _)| c.name.starts_with("industries/purchases"))
            .map(|(c, x)| (c.name.clone(), x))
            .collect()
    };
    let mut graph = market.graph(Tracking::Off);
    let bought =
        |id: &str, account: &str| row(purchases, &[("purchase_id", id), ("account_id", account)]);
    let named = |key: &str| row(accounts, &[("account_id", key), ("industry", "v0")]);
    graph.apply(
        &market.batch(&[
            named("one"),
            named("two"),
            bought("p1", "one"),
            bought("p2", "two"),
            bought("p3", "two"),
        ]),
        None,
    );
    graph.advance(AsOf::from_ms(t_ms));
    let (one, two) = (peers_of(&graph, "one"), peers_of(&graph, "two"));
    let count = |view: &[(String, f32)]| {
        view.iter()
            .find(|(name, _)| name.ends_with("d/per cell"))
            .map(|(_, x)| x.exp_m1().round())
    };
    assert_eq!((count(&one), count(&two)), (Some(2.0), Some(1.0)));
    graph.apply(
        &market.batch(&[bought("p4", "one"), bought("p5", "one")]),
        None,
    );
    assert_eq!(
        peers_of(&graph, "one"),
        one,
        "its own events are no news of its peers"
    );
    assert_eq!(
        peers_of(&graph, "two"),
        two,
        "and theirs are from the last board"
    );
    graph.advance(AsOf::from_ms(graph.next_board_ms()));
    assert_eq!(count(&peers_of(&graph, "one")), Some(2.0));
    assert_eq!(count(&peers_of(&graph, "two")), Some(3.0));
}

/// A peer leaves as another cell joins: the hub's sums stay, but the cell that joined has other
/// peers now.
#[test]
fn a_swap_of_peers_with_equal_sums_is_noticed() {
    let market = crm();
    let plan = plan_of(&market);
    let accounts = market.catalog.root();
    let t_ms = crate::market::START_MS;
    let account = |key: &str, industry: Option<&str>| {
        use crate::market::Datum;
        let mut values = vec![Datum::Null; accounts.fields.len()];
        let mut set = |field: &str, text: &str| {
            values[accounts.field(field).unwrap().id.index()] = Datum::Text(text.into())
        };
        set("account_id", key);
        industry.into_iter().for_each(|i| set("industry", i));
        Plain {
            table: accounts.id,
            delete: false,
            partition: 0,
            time_ms: t_ms,
            known_ms: t_ms,
            values,
        }
    };
    let mut graph = market.graph(Tracking::On);
    graph.apply(
        &market.batch(&[account("leaves", Some("v0")), account("joins", None)]),
        None,
    );
    graph.advance(AsOf::from_ms(t_ms));
    take(&mut graph);
    graph.apply(
        &market.batch(&[account("leaves", None), account("joins", Some("v0"))]),
        None,
    );
    take(&mut graph);
    let next_ms = graph.next_board_ms();
    let cell = graph.find(accounts.id, "joins").unwrap().0;
    let joined = name(&graph, cell);
    let before = encode_all(&plan, &graph, next_ms);
    graph.advance(AsOf::from_ms(next_ms));
    let after = encode_all(&plan, &graph, next_ms);
    assert!(
        difference(&before[&joined], &after[&joined]) > ROUNDING,
        "it has no peers any more"
    );
    assert!(take(&mut graph).contains(&joined));
}
