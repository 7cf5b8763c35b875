//! Late, duplicate, future: the gate decides as one that remembers everything, yet holds only what
//! could still come again.

use std::collections::BTreeSet;

use leadpulse_graph::{DAY_MS, Graph, RowOutcome, Tracking};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Role, RowBatch, TableId};
use proptest::prelude::*;

use crate::market::{
    Datum, Dice, Market, Plain, START_MS, Style, cases, crm, network, seeds, stream,
};
use crate::oracle::Gatekeeper;

const TEN_YEARS_MS: i64 = 3653 * DAY_MS;

/// Where a row comes again.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// Where it came before, in partitions of one table each: producers choose partitions by key.
    Same,
    /// Where it came before, in partitions of all tables.
    Mixed,
    /// Anywhere, also where nothing came yet.
    Anywhere,
}

/// Rows of events, roughly in order, in partitions, and again at any later time.
fn repeated(market: &Market, mut rows: Vec<Plain>, again: Again, dice: &mut Dice) -> Vec<Plain> {
    rows.retain(|r| market.catalog.table_at(r.table).role == Role::Event);
    rows.sort_by_cached_key(|r| r.time_ms + dice.below(3 * DAY_MS as u64) as i64);
    let mut sent: Vec<Plain> = Vec::new();
    for row in &mut rows {
        let number = row.key(&market.catalog).len() as u32
            + u32::from(*row.key(&market.catalog).as_bytes().last().unwrap());
        row.partition = match again {
            Again::Same => u32::from(row.table.0) * 2 + number % 2,
            Again::Mixed | Again::Anywhere => number % 3,
        };
        sent.push(row.clone());
        if dice.below(2) == 0 {
            let mut copy = sent[dice.below(sent.len() as u64) as usize].clone();
            if matches!(again, Again::Anywhere) {
                copy.partition = dice.below(6) as u32;
            }
            sent.push(copy);
        }
    }
    sent
}

proptest! {
    #![proptest_config(cases(96))]

    /// With a clock, producers send rows of ten years ahead, time stamped by the same wrong clock.
    #[test]
    fn a_forgotten_duplicate_is_late(
        seeds in seeds(150, 60),
        entropy in any::<u64>(),
        again in prop_oneof![Just(Again::Same), Just(Again::Mixed), Just(Again::Anywhere)],
        has_clock in any::<bool>(),
    ) {
        let mut market = crm();
        market.options.late_horizon_ms = 2 * DAY_MS;
        let mut dice = Dice(entropy);
        let rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        let mut sent = repeated(&market, rows, again, &mut dice);
        if has_clock {
            for index in 0..sent.len() {
                if dice.below(10) == 0 {
                    let poison = sent[index].shifted(TEN_YEARS_MS);
                    sent.insert(index, poison);
                }
            }
        }
        let mut graph = market.graph(Tracking::Off);
        let mut gatekeeper = Gatekeeper::default();
        let mut accepted: BTreeSet<(TableId, bool, String)> = BTreeSet::new();
        let (mut newest_ms, mut clock_ms) = (i64::MIN, i64::MIN);
        for (i, row) in sent.iter().enumerate() {
            // What is not ten years ahead has happened by now.
            if row.time_ms < START_MS + TEN_YEARS_MS {
                clock_ms = clock_ms.max(row.time_ms.min(row.known_ms));
            }
            let clock = has_clock.then_some(clock_ms);
            let expected = gatekeeper.judge(&market, row, clock);
            let found = graph.apply(&market.batch(std::slice::from_ref(row)), clock);
            prop_assert_eq!(&found, &[expected], "row {}: {:?}", i, row);
            if expected != RowOutcome::Accepted {
                continue;
            }
            let key = row.key(&market.catalog).to_owned();
            prop_assert!(row.takes_back(&market.catalog) || accepted.insert((row.table, false, key)), "twice: row {}: {:?}", i, row);
            newest_ms = newest_ms.max(row.time_ms.min(row.known_ms));
            prop_assert!(!has_clock || newest_ms <= clock_ms + market.options.future_tolerance_ms);
            let board = graph.board();
            graph.advance(AsOf::from_ms(newest_ms));
            if graph.board() != board {
                gatekeeper.published(&market);
            }
        }
    }
}

/// An event of account "a".
fn purchase(market: &Market, id: &str, partition: u32, time_ms: i64) -> Plain {
    let purchases = market.catalog.table("purchases").unwrap();
    let mut values = vec![Datum::Null; purchases.fields.len()];
    let mut set = |name: &str, datum| values[purchases.field(name).unwrap().id.index()] = datum;
    set("purchase_id", Datum::Text(id.into()));
    set("account_id", Datum::Text("a".into()));
    set("at", Datum::Time(time_ms));
    Plain {
        table: purchases.id,
        delete: false,
        partition,
        time_ms,
        known_ms: time_ms,
        values,
    }
}

/// A market with a horizon of two days.
fn short_horizon() -> Market {
    let mut market = crm();
    market.options.late_horizon_ms = 2 * DAY_MS;
    market
}

/// Applies one row; an accepted one moves the moment to its time.
fn tell(market: &Market, graph: &mut Graph, row: &Plain, clock_ms: Option<i64>) -> RowOutcome {
    let outcome = graph.apply(&market.batch(std::slice::from_ref(row)), clock_ms)[0];
    if outcome == RowOutcome::Accepted {
        graph.advance(AsOf::from_ms(row.time_ms.min(row.known_ms)));
    }
    outcome
}

/// Fingerprints do not pile up: after a long time only those of the horizon and its day are held.
#[test]
fn fingerprints_are_forgotten() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::Off);
    for day in 0..100_i64 {
        let row = purchase(&market, &format!("p{day}"), 0, START_MS + day * DAY_MS);
        assert_eq!(tell(&market, &mut graph, &row, None), RowOutcome::Accepted);
        assert!(
            graph.size().fingerprints <= 4,
            "{} on day {day}",
            graph.size().fingerprints
        );
    }
}

/// The producer of a partition that was added later sends an old event again: its fingerprint is
/// forgotten, and it is late there too.
#[test]
fn a_partition_added_later_lets_no_forgotten_event_in_again() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::Off);
    for day in 0..20_i64 {
        let row = purchase(&market, &format!("p{day}"), 0, START_MS + day * DAY_MS);
        assert_eq!(tell(&market, &mut graph, &row, None), RowOutcome::Accepted);
    }
    let purchases = |graph: &Graph| {
        graph
            .find(market.catalog.root().id, "a")
            .unwrap()
            .1
            .events
            .iter()
            .map(|e| e.total)
            .sum::<u64>()
    };
    let again = |day: i64| purchase(&market, &format!("p{day}"), 1, START_MS + day * DAY_MS);
    assert_eq!(tell(&market, &mut graph, &again(3), None), RowOutcome::Late);
    assert_eq!(
        tell(&market, &mut graph, &again(18), None),
        RowOutcome::Duplicate
    );
    assert_eq!(purchases(&graph), 20);
    // Events of its own are let in from the horizon on.
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "new", 1, START_MS + 18 * DAY_MS),
            None
        ),
        RowOutcome::Accepted
    );
    assert_eq!(tell(&market, &mut graph, &again(3), None), RowOutcome::Late);
    assert_eq!(purchases(&graph), 21);
}

/// History is read one partition after the other: those that are still to come hold the
/// fingerprints, and lose nothing.
#[test]
fn an_expected_partition_is_not_late_because_of_others() {
    let market = short_horizon();
    let table = market.catalog.table("purchases").unwrap().id;
    let mut graph = market.graph(Tracking::Off);
    (0..3).for_each(|partition| graph.expect(partition, table));
    for partition in 0..2_u32 {
        for day in 0..20_i64 {
            let row = purchase(
                &market,
                &format!("p{partition}-{day}"),
                partition,
                START_MS + day * DAY_MS,
            );
            assert_eq!(
                tell(&market, &mut graph, &row, None),
                RowOutcome::Accepted,
                "partition {partition}, day {day}"
            );
        }
    }
    assert_eq!(
        graph.size().fingerprints,
        40,
        "partition 2 may still bring any of them again"
    );
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "p0-3", 2, START_MS + 3 * DAY_MS),
            None
        ),
        RowOutcome::Duplicate
    );
    // It stays empty, and is waited for no longer: only the horizon and its day are held.
    graph.caught_up();
    let next = purchase(&market, "next", 0, START_MS + 20 * DAY_MS);
    assert_eq!(tell(&market, &mut graph, &next, None), RowOutcome::Accepted);
    assert!(
        graph.size().fingerprints <= 7,
        "{}",
        graph.size().fingerprints
    );
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "p0-3", 2, START_MS + 3 * DAY_MS),
            None
        ),
        RowOutcome::Late
    );
}

/// A record ten years ahead, its Kafka timestamp set by the same wrong clock: refused, and the
/// partition's later rows are taken.
#[test]
fn a_wrong_clock_moves_nothing() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::On);
    let clock_ms = START_MS + DAY_MS;
    let row = |table: &str, delete: bool| {
        let table = market.catalog.table(table).unwrap();
        let mut values = vec![Datum::Null; table.fields.len()];
        values[table.key.index()] = Datum::Text("a".into());
        let time_ms = clock_ms + TEN_YEARS_MS;
        table
            .time
            .into_iter()
            .filter(|_| !delete)
            .for_each(|time| values[time.index()] = Datum::Time(time_ms));
        Plain {
            table: table.id,
            delete,
            partition: 0,
            time_ms,
            known_ms: time_ms,
            values,
        }
    };
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "first", 0, START_MS),
            Some(clock_ms)
        ),
        RowOutcome::Accepted
    );
    graph.take_dirty(usize::MAX);
    let state = |graph: &Graph| {
        (
            serde_json::to_value(graph.image()).unwrap(),
            graph.directory().len(),
            graph.size(),
            graph.as_of_ms(),
        )
    };
    let before = state(&graph);
    let poison = purchase(&market, "poison", 0, clock_ms + TEN_YEARS_MS);
    let poisoned = [
        poison,
        row("accounts", false),
        row("accounts", true),
        row("products", false),
        row("products", true),
    ];
    for row in &poisoned {
        assert_eq!(
            tell(&market, &mut graph, row, Some(clock_ms)),
            RowOutcome::Future,
            "{row:?}"
        );
    }
    assert_eq!(state(&graph), before);
    assert_eq!(graph.take_dirty(usize::MAX), []);
    // Only the moment that both agree on counts: a version may announce what comes, and an old row
    // may come with a wrong timestamp.
    let announced = Plain {
        known_ms: clock_ms,
        ..row("accounts", false)
    };
    let wrong_stamp = Plain {
        known_ms: clock_ms + TEN_YEARS_MS,
        ..purchase(&market, "stamped", 0, clock_ms)
    };
    let ahead = Plain {
        known_ms: clock_ms + TEN_YEARS_MS,
        ..purchase(&market, "ahead", 0, clock_ms + 300_001)
    };
    assert_eq!(
        tell(&market, &mut graph, &announced, Some(clock_ms)),
        RowOutcome::Accepted
    );
    assert_eq!(
        tell(&market, &mut graph, &wrong_stamp, Some(clock_ms)),
        RowOutcome::Accepted
    );
    assert_eq!(
        tell(&market, &mut graph, &ahead, Some(clock_ms)),
        RowOutcome::Future
    );
    assert_eq!(graph.as_of_ms(), clock_ms);
    // The poison's partition goes on.
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "second", 0, START_MS + 1),
            Some(clock_ms)
        ),
        RowOutcome::Accepted
    );
    // Without a clock, history cannot be told from it.
    assert_eq!(
        tell(&market, &mut graph, &poisoned[0], None),
        RowOutcome::Accepted
    );
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "third", 0, START_MS + 2),
            None
        ),
        RowOutcome::Late
    );
}

/// An id that was used already, with a time far ahead of the partition's: it is dropped, and makes
/// nothing late.
#[test]
fn a_duplicate_makes_nothing_late() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::Off);
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "p", 0, START_MS),
            None
        ),
        RowOutcome::Accepted
    );
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "p", 0, START_MS + 30 * DAY_MS),
            None
        ),
        RowOutcome::Duplicate
    );
    assert_eq!(
        tell(
            &market,
            &mut graph,
            &purchase(&market, "q", 0, START_MS + DAY_MS),
            None
        ),
        RowOutcome::Accepted
    );
}

/// A step of deal "d" into a stage.
fn step(market: &Market, id: &str, stage: &str, time_ms: i64) -> Plain {
    let steps = market.catalog.table("steps").unwrap();
    let mut values = vec![Datum::Null; steps.fields.len()];
    let mut set = |name: &str, datum| values[steps.field(name).unwrap().id.index()] = datum;
    set("step_id", Datum::Text(id.into()));
    set("deal_id", Datum::Text("d".into()));
    set("to_stage", Datum::Text(stage.into()));
    set("at", Datum::Time(time_ms));
    Plain {
        table: steps.id,
        delete: false,
        partition: 0,
        time_ms,
        known_ms: time_ms,
        values,
    }
}

/// A win is entered twenty days after it happened. It counts, once, and its id is kept for good.
#[test]
fn rows_of_outcome_tables_are_never_late() {
    let mut market = network(true);
    market.options.late_horizon_ms = 2 * DAY_MS;
    let mut graph = market.graph(Tracking::Off);
    let now_ms = START_MS + 30 * DAY_MS;
    for day in 0..30 {
        let row = step(&market, &format!("s{day}"), "v5", START_MS + day * DAY_MS);
        assert_eq!(tell(&market, &mut graph, &row, None), RowOutcome::Accepted);
    }
    let win = Plain {
        known_ms: now_ms,
        ..step(&market, "win", "v0", now_ms - 20 * DAY_MS)
    };
    assert_eq!(tell(&market, &mut graph, &win, None), RowOutcome::Accepted);
    assert_eq!(tell(&market, &mut graph, &win, None), RowOutcome::Duplicate);
    let first = Plain {
        known_ms: now_ms,
        ..step(&market, "s0", "v5", START_MS)
    };
    assert_eq!(
        tell(&market, &mut graph, &first, None),
        RowOutcome::Duplicate
    );
    let ahead = step(&market, "ahead", "v0", now_ms + DAY_MS);
    assert_eq!(
        tell(&market, &mut graph, &ahead, Some(now_ms)),
        RowOutcome::Future
    );
    let size = graph.size();
    assert_eq!((size.fingerprints, size.fingerprints_for_good), (31, 31));
}

/// The outcome of an event row that carries its own known time.
fn tell_known(market: &Market, graph: &mut Graph, row: &Plain) -> RowOutcome {
    let batch = market.batch(std::slice::from_ref(row));
    let mut told = RowBatch::new();
    let source = batch.row(0);
    let (table, position) = (source.table(), source.position());
    let mut builder = told.start(
        &market.catalog,
        table,
        source.operation(),
        position,
        source.known_ms(),
    );
    for field in &market.catalog.table_at(table).fields {
        builder.set(field.id, source.get(field.id));
    }
    builder.set_own_known_ms(source.known_ms());
    builder.finish();
    graph.apply(&told, None)[0]
}

/// A file with a column of known times brings an event of last month: it is no straggler.
#[test]
fn rows_with_their_own_known_time_are_never_late() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::Off);
    let now_ms = START_MS + 30 * DAY_MS;
    let newest = purchase(&market, "new", 0, now_ms);
    assert_eq!(
        tell_known(&market, &mut graph, &newest),
        RowOutcome::Accepted
    );
    graph.advance(AsOf::from_ms(now_ms));
    let old = Plain {
        known_ms: now_ms,
        ..purchase(&market, "old", 0, START_MS)
    };
    assert_eq!(tell_known(&market, &mut graph, &old), RowOutcome::Accepted);
    graph.advance(AsOf::from_ms(now_ms + DAY_MS));
    assert_eq!(tell_known(&market, &mut graph, &old), RowOutcome::Duplicate);
    // Another file of the table has no such column. All ids of the table are kept by now, so age
    // is no reason there either.
    let straggler = purchase(&market, "straggler", 0, START_MS);
    assert_eq!(
        tell(&market, &mut graph, &straggler, None),
        RowOutcome::Accepted
    );
    assert_eq!(graph.size().fingerprints_for_good, 3);
}

/// A retry names the contact that the lead became: the id decides. A retraction that names the
/// contact too takes the event back from the lead.
#[test]
fn an_event_under_another_owner_is_a_duplicate() {
    let market = short_horizon();
    let mut graph = market.graph(Tracking::Off);
    let first = purchase(&market, "p", 0, START_MS);
    let mut retry = first.clone();
    let purchases = market.catalog.table("purchases").unwrap();
    let owner = purchases.field("account_id").unwrap().id.index();
    retry.values[owner] = Datum::Text("b".into());
    assert_eq!(
        tell(&market, &mut graph, &first, None),
        RowOutcome::Accepted
    );
    assert_eq!(
        tell(&market, &mut graph, &retry, None),
        RowOutcome::Duplicate
    );
    let accounts = market.catalog.root().id;
    assert!(graph.find(accounts, "b").is_none());
}
