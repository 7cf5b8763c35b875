//! Of the accuracy bench: what keeps history for the baselines, and the figures that are computed
//! nowhere else.

#![allow(dead_code, reason = "the bench uses the rest")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

#[path = "calendar.rs"]
mod calendar;
#[path = "columns.rs"]
mod columns;
#[path = "compare.rs"]
mod compare;
#[path = "history.rs"]
mod history;
#[path = "vocabulary.rs"]
mod vocabulary;

use std::path::Path;
use std::sync::Arc;

use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

use crate::calendar::{Calendar, HORIZON_DAYS};
use crate::columns::Moment;
use crate::compare::{Detection, Entry, detect, interval, mean_and_deviation, resampled_auroc};
use crate::history::{DAY_MS, Decayed, History};

fn catalog() -> Arc<Catalog> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    Arc::new(Catalog::load(&folder).unwrap())
}

/// A row known some days later than it happened.
struct Told<'a> {
    table: &'a str,
    fields: Vec<(&'a str, Value<'a>)>,
    days_late: i64,
    operation: Operation,
}

fn told<'a>(table: &'a str, fields: &[(&'a str, &'a str)]) -> Told<'a> {
    let fields = fields
        .iter()
        .map(|(name, text)| (*name, Value::Text(text)))
        .collect();
    Told {
        table,
        fields,
        days_late: 0,
        operation: Operation::Upsert,
    }
}

/// One row a day, in order of when they are known.
fn history(rows: Vec<Told<'_>>) -> History {
    let catalog = catalog();
    let mut history = History::default();
    for (day, row) in rows.into_iter().enumerate() {
        let table = catalog.table(row.table).unwrap();
        let known_ms = day as i64 * DAY_MS;
        let mut batch = RowBatch::new();
        let mut builder = batch.start(
            &catalog,
            table.id,
            row.operation,
            Position::default(),
            known_ms,
        );
        for (name, value) in row.fields {
            builder.set(table.field(name).unwrap().id, value);
        }
        builder.set(
            table.time.unwrap(),
            Value::Time(known_ms - row.days_late * DAY_MS),
        );
        builder.finish();
        history.take(&catalog, batch.row(0));
    }
    history
}

fn people() -> Vec<Told<'static>> {
    vec![
        told(
            "accounts",
            &[
                ("account_id", "A1"),
                ("industry", "Retail"),
                ("domain", "one.example"),
                ("status", "Customer"),
            ],
        ),
        told(
            "accounts",
            &[
                ("account_id", "A2"),
                ("industry", "Retail"),
                ("domain", "two.example"),
            ],
        ),
        told(
            "contacts",
            &[
                ("contact_id", "C1"),
                ("account_id", "A1"),
                ("department", "IT"),
                ("seniority", "VP"),
            ],
        ),
        told(
            "leads",
            &[
                ("lead_id", "L1"),
                ("email", "a@two.example"),
                ("department", "Data"),
            ],
        ),
    ]
}

fn columns(history: &History, account: usize, day: i64) -> Vec<f32> {
    let mut out = Vec::new();
    Moment::new(history, day * DAY_MS).describe(account, &mut out);
    out
}

#[test]
fn events_find_their_account_and_person() {
    let mut rows = people();
    rows.push(told(
        "activities",
        &[
            ("activity_id", "1"),
            ("type", "meeting"),
            ("contact_id", "C1"),
        ],
    ));
    rows.push(told(
        "activities",
        &[("activity_id", "2"), ("type", "call"), ("lead_id", "L1")],
    ));
    // Repeated: still one event.
    rows.push(told(
        "activities",
        &[("activity_id", "2"), ("type", "call"), ("lead_id", "L1")],
    ));
    let found = history(rows);
    assert_eq!(
        found
            .accounts
            .iter()
            .map(|a| a.events.len())
            .collect::<Vec<_>>(),
        [1, 1]
    );
    assert!(found.is_executive(found.accounts[0].events[0].person));
    assert!(!found.is_executive(found.accounts[1].events[0].person));
}

#[test]
fn a_person_is_one_through_conversion_and_takes_what_was_done_along() {
    let mut rows = people();
    rows.push(told(
        "leads",
        &[("lead_id", "L2"), ("email", "b@mail.example")],
    ));
    rows.push(told(
        "content_views",
        &[
            ("view_id", "1"),
            ("content_type", "docs"),
            ("lead_id", "L2"),
        ],
    ));
    rows.push(told(
        "contacts",
        &[
            ("contact_id", "C2"),
            ("lead_id", "L2"),
            ("account_id", "A2"),
        ],
    ));
    rows.push(told(
        "content_views",
        &[
            ("view_id", "2"),
            ("content_type", "docs"),
            ("contact_id", "C2"),
        ],
    ));
    let found = history(rows);
    let people: Vec<u32> = found.accounts[1].events.iter().map(|e| e.person).collect();
    assert_eq!(people.len(), 2);
    assert_eq!(people[0], people[1]);
    assert_eq!(found.accounts[1].people.len(), 2);
}

#[test]
fn who_comes_from_a_customer_is_a_champion() {
    let mut rows = people();
    rows.push(told(
        "contacts",
        &[
            ("contact_id", "C1"),
            ("account_id", "A2"),
            ("seniority", "VP"),
        ],
    ));
    let found = history(rows);
    assert_eq!(found.accounts[0].people.len(), 0);
    assert_eq!(found.accounts[1].arrivals, [(4 * DAY_MS, true, 3, 0.0)]);
}

#[test]
fn second_records_count_with_the_first() {
    let mut rows = people();
    rows.push(told("accounts", &[("account_id", "A3")]));
    rows.push(told(
        "contacts",
        &[("contact_id", "C3"), ("account_id", "A3")],
    ));
    rows.push(told(
        "activities",
        &[
            ("activity_id", "1"),
            ("type", "call"),
            ("contact_id", "C3"),
            ("account_id", "A3"),
        ],
    ));
    rows.push(told(
        "accounts",
        &[("account_id", "A3"), ("merged_into_id", "A1")],
    ));
    rows.push(told(
        "contacts",
        &[("contact_id", "C3"), ("merged_into_id", "C1")],
    ));
    rows.push(told(
        "activities",
        &[
            ("activity_id", "2"),
            ("type", "call"),
            ("contact_id", "C3"),
            ("account_id", "A3"),
        ],
    ));
    let found = history(rows);
    assert!(found.accounts[2].gone && found.accounts[2].events.is_empty());
    assert_eq!(found.accounts[0].events.len(), 2);
    assert_eq!(
        found.accounts[0].events[0].person,
        found.accounts[0].events[1].person
    );
    assert_eq!(found.accounts[0].people.len(), 1);
}

#[test]
fn what_was_taken_back_leaves_no_trace_and_order_of_arrival_does_not_matter() {
    let call = |id| {
        told(
            "activities",
            &[("activity_id", id), ("type", "call"), ("contact_id", "C1")],
        )
    };
    let visit = || {
        told(
            "activities",
            &[
                ("activity_id", "v"),
                ("type", "web_visit"),
                ("contact_id", "C1"),
            ],
        )
    };
    let mut plain = people();
    plain.extend([call("1"), visit()]);
    let mut mended = people();
    // Happened on the days above, but the visit is known first; a mistake in between.
    let late = Told {
        days_late: 2,
        ..call("1")
    };
    mended.extend([
        call("wrong"),
        Told { ..visit() },
        late,
        Told {
            operation: Operation::Retract,
            days_late: 3,
            ..call("wrong")
        },
    ]);
    let (plain, mended) = (history(plain), history(mended));
    let (a, b) = (columns(&plain, 0, 30), columns(&mended, 0, 30));
    assert_eq!(a.len(), b.len());
    let differing: Vec<usize> = (0..a.len())
        .filter(|i| (a[*i] - b[*i]).abs() > 1e-5 || a[*i].is_nan() != b[*i].is_nan())
        .collect();
    assert!(differing.is_empty(), "columns {differing:?} differ");
}

#[test]
fn decayed_sums_do_not_depend_on_order() {
    let mut sums = [Decayed::<2>::default(); 2];
    let added = [(3 * DAY_MS, 1.0), (9 * DAY_MS, 2.0), (5 * DAY_MS, -0.5)];
    added
        .iter()
        .for_each(|(at_ms, weight)| sums[0].add(*at_ms, *weight, &[3.0, 30.0]));
    added
        .iter()
        .rev()
        .for_each(|(at_ms, weight)| sums[1].add(*at_ms, *weight, &[3.0, 30.0]));
    for (i, tau) in [3.0, 30.0].into_iter().enumerate() {
        let expected: f64 = added
            .iter()
            .map(|(t, w)| w * (-((20 * DAY_MS - t) as f64 / DAY_MS as f64) / tau).exp())
            .sum();
        for sum in &sums {
            assert!((sum.at(20 * DAY_MS, &[3.0, 30.0])[i] - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn parts_of_the_calendar_keep_a_window_between_them() {
    let calendar = Calendar::new(0, 720, DAY_MS / 2, "every 10d".parse().unwrap(), 20).unwrap();
    let window_ms = HORIZON_DAYS * DAY_MS;
    assert!(
        calendar
            .training
            .iter()
            .all(|t| t + window_ms <= calendar.val_from_ms)
    );
    assert!(
        calendar
            .validation
            .iter()
            .all(|t| *t >= calendar.val_from_ms && t + window_ms <= calendar.test_from_ms)
    );
    assert!(
        calendar.test.iter().all(|t| *t >= calendar.test_from_ms
            && t + window_ms <= 720 * DAY_MS
            && t % DAY_MS == 0)
    );
    assert_eq!(
        (
            calendar.test.len(),
            calendar.weekly.len(),
            calendar.training.is_empty()
        ),
        (5, 20, false)
    );
    assert!(Calendar::new(0, 300, 0, "every 10d".parse().unwrap(), 20).is_none());
}

#[test]
fn resamples_surround_the_figure() {
    let outcomes: Vec<bool> = (0..400).map(|i| i % 10 == 0).collect();
    let accounts: Vec<u32> = (0..400).map(|i| i / 4).collect();
    let good: Vec<f64> = outcomes
        .iter()
        .enumerate()
        .map(|(i, won)| f64::from(u8::from(*won)) + (i % 7) as f64 * 0.2)
        .collect();
    let resampled = resampled_auroc(&[&good, &vec![0.5; 400]], &outcomes, &accounts, 1);
    assert!(resampled.iter().all(|models| models[1] == 0.5));
    let (low, high) = interval(resampled.iter().map(|models| models[0]).collect());
    let auroc = leadpulse_model::BinaryMetrics::of(&good, &outcomes)
        .unwrap()
        .auroc
        .unwrap();
    assert!(
        low < auroc && auroc < high && high - low < 0.2,
        "{low} {auroc} {high}"
    );
}

#[test]
fn spread_over_seeds() {
    assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
    assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
}

#[test]
fn weekly_lists_notice_by_rank() {
    // Four accounts a week, a list of one: account 0 leads in weeks 0 and 1, account 1 in week 2.
    let week = |week: i64| (0..4).map(move |account| (week * 7 * DAY_MS, account));
    let rows: Vec<(i64, u32)> = (0..3).flat_map(week).collect();
    let scores = [0.9, 0.1, 0.1, 0.0, 0.9, 0.1, 0.0, 0.0, 0.1, 0.9, 0.0, 0.0];
    let end_ms = 15 * DAY_MS;
    let entry = |account, day: i64, won: Option<i64>| Entry {
        account,
        at_ms: day * DAY_MS,
        won_ms: won.map(|day| day * DAY_MS),
        until_ms: won.map_or(end_ms, |day| day * DAY_MS),
    };
    let entries = [
        entry(0, 1, Some(12)),
        entry(1, 2, Some(13)),
        entry(2, 0, None),
        entry(1, 10, None),
    ];
    // Noticed after 6 (5 days before the purchase), not in time, never, after 4.
    let expected = Detection {
        entries: 4,
        median_days: Some(6.0),
        before_win_ratio: 0.5,
        lead_days: 5.0,
    };
    assert_eq!(detect(&rows, &scores, 0.25, &entries), expected);
}
