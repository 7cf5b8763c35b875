//! Labels against histories small enough to count by hand, and against a direct count.

use leadpulse_schema::{Operation, RowBatch, Value};
use proptest::prelude::*;

use super::market::{at_day, catalog, labels_known_by, planned, push, push_as};
use super::{Label, Labels};
use leadpulse_pql::{Plan, Reach};

/// Labels of a plan over the batch by everything known; see [`Numbered`].
fn labels(plan: &Plan, batch: &RowBatch, order: &[usize]) -> Labels {
    labels_known_by(plan, batch, order, i64::MAX)
}

fn invoice(batch: &mut RowBatch, account: u32, day: f64, amount: Option<f64>, cancel: i64) {
    let account = account.to_string();
    let amount = amount.map_or(Value::Null, Value::Double);
    let values = [
        ("invoice", Value::Text("i")),
        ("account_id", Value::Text(&account)),
        ("at", Value::Time(at_day(day))),
        ("amount", amount),
        ("is_cancel", Value::Long(cancel)),
    ];
    push(batch, &catalog(), "invoices", day, &values);
}

/// Invoices of entity 0: day, amount (null), cancelled. Entity 1 has none.
fn invoices() -> RowBatch {
    let mut batch = RowBatch::new();
    for (day, amount, cancel) in [
        (10.0, Some(5.0), 0),
        (20.0, Some(0.1), 0),
        (25.0, Some(0.2), 0),
        (30.0, Some(-0.3), 1),
        (40.0, None, 0),
        (50.0, Some(7.0), 0),
    ] {
        invoice(&mut batch, 0, day, amount, cancel);
    }
    batch
}

#[test]
fn windows_leave_out_their_start_and_include_their_end() {
    use Label::{Binary, Dropped, Value};
    let batch = invoices();
    for (target, anchor_day, expected) in [
        ("COUNT(invoices.*, 0, 10)", 0.0, Value(1.0)),
        ("COUNT(invoices.*, 0, 10)", 10.0, Value(1.0)),
        ("COUNT(invoices.*, 0, 9)", 10.0, Value(0.0)),
        ("COUNT(invoices.*, 10, 20)", 0.0, Value(1.0)),
        ("COUNT(invoices.*, 0, 50)", 0.0, Value(6.0)),
        ("COUNT(invoices.amount, 0, 50)", 0.0, Value(5.0)),
        (
            "COUNT(invoices.* WHERE invoices.is_cancel = FALSE, 0, 50)",
            0.0,
            Value(5.0),
        ),
        ("COUNT_DISTINCT(invoices.is_cancel, 0, 50)", 0.0, Value(2.0)),
        ("SUM(invoices.amount, 0, 50)", 0.0, Value(12.0)),
        ("SUM(invoices.amount, 0, 20)", 10.0, Value(0.0)),
        ("SUM(invoices.amount, 0, 15) > 0", 10.0, Binary(true)),
        ("SUM(invoices.amount, 0, 20) > 0", 10.0, Binary(false)),
        ("SUM(invoices.amount, 0, 20) >= 0", 10.0, Binary(true)),
        (
            "SUM(invoices.amount, 0, 15) IN (0.3, 9)",
            10.0,
            Binary(true),
        ),
        ("AVG(invoices.amount, 0, 50)", 0.0, Value(2.4)),
        ("MIN(invoices.amount, 0, 50)", 0.0, Value(-0.3)),
        ("MAX(invoices.amount, 0, 49) > 5", 0.0, Binary(false)),
        ("MAX(invoices.amount, 0, 50) > 5", 0.0, Binary(true)),
        ("MAX(invoices.amount, 0, 10)", 30.0, Dropped),
        ("MAX(invoices.amount, 0, 10) > 5", 30.0, Dropped),
        ("MAX(invoices.amount, 0, 10) IS NULL", 30.0, Binary(true)),
        (
            "MAX(invoices.amount, 0, 10) IS NOT NULL",
            30.0,
            Binary(false),
        ),
        (
            "MAX(invoices.amount, 0, 10) > 5 AND COUNT(invoices.*, 0, 10) > 3",
            30.0,
            Binary(false),
        ),
        (
            "MAX(invoices.amount, 0, 10) > 5 OR COUNT(invoices.*, 0, 10) > 0",
            30.0,
            Binary(true),
        ),
        (
            "MAX(invoices.amount, 0, 10) > 5 AND COUNT(invoices.*, 0, 10) > 0",
            30.0,
            Dropped,
        ),
        ("COUNT(invoices.*, 0, 6, weeks) = 6", 8.0, Binary(true)),
        ("COUNT(invoices.*, 0, 1, months)", 9.0, Value(5.0)),
        ("COUNT(invoices.*, 0, 1, months)", 19.0, Value(5.0)),
        ("COUNT(invoices.*, 0, 1, months)", 18.0, Value(4.0)),
        (
            "NOT COUNT(invoices.*, 0, 240, hours) > 0",
            0.0,
            Binary(false),
        ),
    ] {
        let plan = planned(&format!("PREDICT {target} FOR accounts")).unwrap();
        let labels = labels(&plan, &batch, &[5, 3, 1, 0, 2, 4]);
        let label = labels.label(0, at_day(anchor_day));
        match (label, expected) {
            (Value(a), Value(b)) => assert!((a - b).abs() < 1e-12, "{target}: {a} {b}"),
            _ => assert_eq!(label, expected, "{target} at day {anchor_day}"),
        }
        let silent = labels.label(1, at_day(anchor_day));
        assert_eq!(
            silent,
            labels.label(1, at_day(1000.0)),
            "{target}: nothing ever happens to the second"
        );
    }
}

#[test]
fn an_assumption_drops_what_does_not_meet_it() {
    let plan = planned(
        "PREDICT COUNT(invoices.*, 0, 50) > 1 FOR accounts ASSUMING COUNT(invoices.*, 0, 10) > 0",
    )
    .unwrap();
    let batch = invoices();
    let labels = labels(&plan, &batch, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(labels.label(0, at_day(0.0)), Label::Binary(true));
    assert_eq!(labels.label(0, at_day(41.0)), Label::Binary(false));
    assert_eq!(labels.label(0, at_day(31.0 - 22.0)), Label::Binary(true));
    assert_eq!(labels.label(0, at_day(50.0)), Label::Dropped);
    assert_eq!(labels.label(1, at_day(0.0)), Label::Dropped);
    assert_eq!(plan.horizon_ms, at_day(50.0));
}

fn lead(batch: &mut RowBatch, key: &str, day: f64, status: Option<&str>, changed: &[&str]) {
    let catalog = catalog();
    let table = catalog.table("leads").unwrap();
    let position = leadpulse_schema::Position {
        partition: 0,
        offset: batch.len() as i64,
    };
    let mut row = batch.start(&catalog, table.id, Operation::Upsert, position, at_day(day));
    row.set(table.key, Value::Text(key));
    row.set(
        table.field("updated_at").unwrap().id,
        Value::Time(at_day(day)),
    );
    row.set(
        table.field("status").unwrap().id,
        status.map_or(Value::Null, Value::Text),
    );
    row.set_list(table.field("changed").unwrap().id, changed.iter().copied());
    row.finish();
}

#[test]
fn bool_is_true_when_the_versions_come_to_match() {
    let mut batch = RowBatch::new();
    lead(&mut batch, "L1", 1.0, Some("MQL"), &[]);
    lead(&mut batch, "L1", 20.0, Some("Closed Won"), &["status"]);
    lead(&mut batch, "L1", 30.0, None, &["phone"]);
    lead(&mut batch, "L1", 40.0, Some("Closed Won"), &[]);
    lead(&mut batch, "L1", 60.0, Some("Open"), &["status"]);
    lead(&mut batch, "L1", 70.0, Some("Closed Won"), &[]);
    let plan = planned("PREDICT BOOL(leads.status = 'Closed Won', 0, 10, days) FOR leads").unwrap();
    let labels = labels(&plan, &batch, &[3, 1, 5, 0, 4, 2]);
    for (anchor_day, expected, first_day) in [
        (9.0, false, None),
        (10.0, true, Some(20.0)),
        (19.5, true, Some(20.0)),
        (20.0, false, None),
        (35.0, false, None),
        (60.0, true, Some(70.0)),
    ] {
        assert_eq!(
            labels.label(0, at_day(anchor_day)),
            Label::Binary(expected),
            "day {anchor_day}"
        );
        assert_eq!(
            labels.first_time_true(0, at_day(anchor_day)),
            first_day.map(at_day),
            "day {anchor_day}"
        );
    }
}

#[test]
fn rows_of_an_entity_table_count_once_with_their_last_matching_version() {
    let catalog = catalog();
    let mut batch = RowBatch::new();
    let mut opportunity = |key: &str, created: f64, known: f64, stage: &str, amount: f64| {
        let values = [
            ("opportunity_id", Value::Text(key)),
            ("created_at", Value::Time(at_day(created))),
            ("stage", Value::Text(stage)),
            ("amount", Value::Double(amount)),
        ];
        push(&mut batch, &catalog, "opportunities", known, &values);
    };
    opportunity("O1", 10.0, 10.1, "Discovery", 100.0);
    opportunity("O2", 15.0, 15.0, "Discovery", 50.0);
    opportunity("O1", 10.0, 30.0, "Closed Won", 120.0);
    opportunity("O1", 10.0, 35.0, "Closed Won", 110.0);
    opportunity("O2", 15.0, 36.0, "Closed Lost", 50.0);
    let of = |target: &str, anchor: f64| {
        let plan = planned(&format!("PREDICT {target} FOR accounts")).unwrap();
        labels(&plan, &batch, &[4, 2, 0, 3, 1]).label(0, at_day(anchor))
    };
    // Without a filter a row counts when it first appears, at its own time, not when it was heard
    // of.
    assert_eq!(of("COUNT(opportunities.*, 0, 10)", 0.0), Label::Value(1.0));
    assert_eq!(
        of("SUM(opportunities.amount, 0, 20)", 0.0),
        Label::Value(150.0)
    );
    assert_eq!(of("COUNT(opportunities.*, 0, 90)", 20.0), Label::Value(0.0));
    // With one it counts when it comes to match: a creation time does not move, so the known time
    // tells.
    assert_eq!(
        of(
            "SUM(opportunities.amount WHERE opportunities.stage = 'Closed Won', 0, 10)",
            20.0
        ),
        Label::Value(120.0)
    );
    assert_eq!(
        of(
            "SUM(opportunities.amount WHERE opportunities.stage = 'Closed Won', 0, 90)",
            20.0
        ),
        Label::Value(110.0)
    );
    assert_eq!(
        of(
            "SUM(opportunities.amount WHERE opportunities.stage = 'Closed Won', 0, 90)",
            30.0
        ),
        Label::Value(0.0)
    );
    assert_eq!(
        of("AVG(opportunities.amount, 0, 90)", 0.0),
        Label::Value(80.0)
    );
}

#[test]
fn a_retraction_takes_back_the_event_of_its_key_whatever_its_owner() {
    let catalog = catalog();
    let activity = |batch: &mut RowBatch, operation, day: f64, key: &str, owner: (&str, &str)| {
        let values = [
            ("activity_id", Value::Text(key)),
            ("at", Value::Time(at_day(day))),
            (owner.0, Value::Text(owner.1)),
        ];
        push_as(operation, batch, &catalog, "activities", day, &values);
    };
    let mut batch = RowBatch::new();
    activity(
        &mut batch,
        Operation::Upsert,
        5.0,
        "a",
        ("contact_id", "C1"),
    );
    activity(
        &mut batch,
        Operation::Upsert,
        6.0,
        "c",
        ("contact_id", "C2"),
    );
    activity(&mut batch, Operation::Upsert, 7.0, "d", ("lead_id", "C1"));
    activity(
        &mut batch,
        Operation::Upsert,
        8.0,
        "b",
        ("contact_id", "C1"),
    );
    activity(
        &mut batch,
        Operation::Retract,
        9.0,
        "a",
        ("contact_id", "C2"),
    );
    let of_accounts = planned("PREDICT COUNT(activities.*, 0, 30) FOR accounts").unwrap();
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let of = |known_ms| labels_known_by(&of_accounts, &batch, &order, known_ms);
        let labels = of(i64::MAX);
        assert_eq!(labels.label(0, 0), Label::Value(3.0), "{order:?}");
        assert_eq!(labels.label(1, 0), Label::Value(0.0));
        assert_eq!(
            of(at_day(9.0) - 1).label(0, 0),
            Label::Value(4.0),
            "it was not known yet"
        );
        assert_eq!(of(at_day(9.0)).label(0, 0), Label::Value(3.0));
    }
    // So also where the owner that the retraction names is another entity.
    let mut batch = RowBatch::new();
    activity(
        &mut batch,
        Operation::Upsert,
        5.0,
        "a",
        ("contact_id", "C1"),
    );
    activity(
        &mut batch,
        Operation::Retract,
        9.0,
        "a",
        ("contact_id", "C9"),
    );
    let of_contacts = planned("PREDICT COUNT(activities.*, 0, 30) > 0 FOR contacts").unwrap();
    let same = labels(&of_contacts, &batch, &[0, 1]);
    assert_eq!(
        (same.label(0, 0), same.first_time_true(0, 0)),
        (Label::Binary(false), None)
    );
    assert_eq!(
        labels_known_by(&of_contacts, &batch, &[0, 1], at_day(8.0)).first_time_true(0, 0),
        Some(at_day(5.0))
    );
}

#[test]
fn a_version_counts_at_its_time_once_it_is_known() {
    let catalog = catalog();
    let mut batch = RowBatch::new();
    for (day, known_day, status) in [
        (5.0, 5.0, "MQL"),
        (20.0, 26.0, "Closed Won"),
        (30.0, 30.0, "Open"),
        (31.0, 40.0, "Closed Won"),
    ] {
        let values = [
            ("lead_id", Value::Text("L")),
            ("updated_at", Value::Time(at_day(day))),
            ("status", Value::Text(status)),
        ];
        push(&mut batch, &catalog, "leads", known_day, &values);
    }
    let plan = planned("PREDICT BOOL(leads.status = 'Closed Won', 0, 9) FOR leads").unwrap();
    for (anchor_day, known_day, expected) in [
        (15.0, 25.9, None),
        (15.0, 26.0, Some(20.0)),
        (28.0, 39.0, None),
        (28.0, 40.0, Some(31.0)),
    ] {
        let labels = labels_known_by(&plan, &batch, &[2, 0, 3, 1], at_day(known_day));
        let first = labels.first_time_true(0, at_day(anchor_day));
        assert_eq!(
            first,
            expected.map(at_day),
            "{anchor_day} as known on {known_day}"
        );
        let label = labels.label(0, at_day(anchor_day));
        assert_eq!(
            label,
            Label::Binary(expected.is_some()),
            "{anchor_day} as known on {known_day}"
        );
    }
}

#[test]
fn a_row_created_again_after_its_deletion_appears_anew() {
    let catalog = catalog();
    let mut batch = RowBatch::new();
    lead(&mut batch, "L", 10.0, Some("Closed Won"), &[]);
    push_as(
        Operation::Delete,
        &mut batch,
        &catalog,
        "leads",
        20.0,
        &[("lead_id", Value::Text("L"))],
    );
    // Changes nothing but the phone, and nothing is left that it could add to.
    lead(&mut batch, "L", 25.0, None, &["phone"]);
    lead(&mut batch, "L", 30.0, Some("Closed Won"), &[]);
    let of = |target: &str| {
        labels(
            &planned(&format!("PREDICT {target} FOR accounts")).unwrap(),
            &batch,
            &[3, 1, 0, 2],
        )
    };
    let won = of("BOOL(leads.status = 'Closed Won', 0, 30) AND COUNT(leads.*, 0, 30) > 0");
    assert_eq!(won.first_time_true(0, at_day(0.0)), Some(at_day(10.0)));
    assert_eq!(won.first_time_true(0, at_day(15.0)), Some(at_day(30.0)));
    assert_eq!(won.label(0, at_day(30.0)), Label::Binary(false));
    assert_eq!(
        of("COUNT(leads.*, 0, 5)").label(0, at_day(20.0)),
        Label::Value(1.0)
    );
}

#[test]
fn a_row_that_names_several_counts_for_each_once() {
    let catalog = catalog();
    let table = catalog.table("opportunities").unwrap();
    let of = |name: &str| table.field(name).unwrap().id;
    let mut batch = RowBatch::new();
    for (day, stage, leads) in [
        (5.0, "Discovery", &["7"][..]),
        (10.0, "Closed Won", &["7", "3", "7"]),
        (12.0, "Closed Won", &["7", "3", "5"]),
    ] {
        let position = leadpulse_schema::Position {
            partition: 0,
            offset: batch.len() as i64,
        };
        let at_ms = at_day(day);
        let mut row = batch.start(&catalog, table.id, Operation::Upsert, position, at_ms);
        row.set(table.key, Value::Text("O"));
        row.set(of("created_at"), Value::Time(at_day(5.0)));
        row.set(of("stage"), Value::Text(stage));
        row.set_list(of("lead_ids"), leads.iter().copied());
        row.finish();
    }
    let plan = planned(
        "PREDICT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 30) FOR leads",
    )
    .unwrap();
    assert_eq!(
        plan.target.aggregates[0].reach,
        Reach::Reference(of("lead_ids"))
    );
    for order in [[0, 1, 2], [2, 0, 1]] {
        let labels = labels(&plan, &batch, &order);
        // Lead 5 was added to a deal that was won before.
        for (lead, count) in [(7, 1.0), (3, 1.0), (5, 0.0), (0, 0.0)] {
            assert_eq!(labels.label(lead, 0), Label::Value(count), "{lead}");
        }
        assert_eq!(labels.label(7, at_day(10.0)), Label::Value(0.0));
    }
}

/// (key, what happens): a status, or deletion; the n-th is known on day n.
fn lives() -> impl Strategy<Value = Vec<(u8, Option<&'static str>)>> {
    let status = prop::sample::select(vec![
        Some("Open"),
        Some("Closed Won"),
        Some("Closed Won"),
        None,
    ]);
    prop::collection::vec((0..3_u8, status), 0..30)
}

/// (day, amount, cancelled) of two accounts, in halves of days so that times meet window ends.
fn histories() -> impl Strategy<Value = Vec<(u32, u32, i32, bool)>> {
    prop::collection::vec((0..2_u32, 0..80_u32, -3..4_i32, any::<bool>()), 0..30)
}

proptest! {
    #[test]
    fn rows_count_when_they_come_to_match(lives in lives(), anchor in 0..30_usize, length in 1..20_usize, known_until in 0..40_usize, turn in 0..30_usize) {
        let catalog = catalog();
        let mut batch = RowBatch::new();
        for (day, (key, status)) in lives.iter().enumerate() {
            match status {
                Some(status) => lead(&mut batch, &key.to_string(), day as f64, Some(status), &[]),
                None => {
                    let key = key.to_string();
                    push_as(Operation::Delete, &mut batch, &catalog, "leads", day as f64, &[("lead_id", Value::Text(&key))]);
                }
            }
        }
        let mut order: Vec<usize> = (0..lives.len()).collect();
        if !order.is_empty() {
            order.rotate_left(turn % lives.len());
        }
        let mut won = std::collections::BTreeSet::new();
        let mut counted = std::collections::BTreeSet::new();
        for (day, (key, status)) in lives.iter().enumerate() {
            let comes_to_match = *status == Some("Closed Won") && won.insert(*key);
            if *status != Some("Closed Won") {
                won.remove(key);
            }
            if comes_to_match && day > anchor && day <= anchor + length && day <= known_until {
                counted.insert(*key);
            }
        }
        let plan = planned(&format!("PREDICT COUNT(leads.* WHERE leads.status = 'Closed Won', 0, {length}) FOR accounts")).unwrap();
        let labels = labels_known_by(&plan, &batch, &order, at_day(known_until as f64));
        let label = labels.label(0, at_day(anchor as f64));
        prop_assert_eq!(label, Label::Value(counted.len() as f64));
    }

    #[test]
    fn labels_equal_a_direct_count_in_any_order(rows in histories().prop_shuffle(), anchor in 0..80_u32, start in 0..20_i64, length in 1..40_i64) {
        let mut batch = RowBatch::new();
        for (account, half_day, amount, cancel) in &rows {
            invoice(&mut batch, *account, f64::from(*half_day) / 2.0, Some(f64::from(*amount)), i64::from(*cancel));
        }
        let (anchor, end) = (f64::from(anchor) / 2.0, start + length);
        let order: Vec<usize> = (0..rows.len()).collect();
        for entity in 0..2 {
            let within = |from: f64, to: f64| {
                rows.iter().filter(move |r| r.0 == entity && f64::from(r.1) / 2.0 > anchor + from && f64::from(r.1) / 2.0 <= anchor + to && !r.3).map(|r| (r.1, f64::from(r.2)))
            };
            let sum: f64 = within(start as f64, end as f64).map(|r| r.1).sum();
            let count = within(start as f64, end as f64).count();
            let kept = "WHERE invoices.is_cancel = 0";
            let of = |target: String| {
                let plan = planned(&format!("PREDICT {target} FOR accounts")).unwrap();
                labels(&plan, &batch, &order)
            };
            let anchor_ms = at_day(anchor);
            prop_assert_eq!(of(format!("SUM(invoices.amount {kept}, {start}, {end})")).label(entity, anchor_ms), Label::Value(sum));
            prop_assert_eq!(of(format!("COUNT(invoices.* {kept}, {start}, {end}) > 1")).label(entity, anchor_ms), Label::Binary(count > 1));

            let monotone = of(format!("COUNT(invoices.* {kept}, 0, {end}) > 1 AND COUNT(invoices.* {kept}, 0, {length}) > 0"));
            let first = monotone.first_time_true(entity, anchor_ms);
            prop_assert_eq!(Label::Binary(first.is_some()), monotone.label(entity, anchor_ms));
            let mut times: Vec<u32> = within(0.0, end as f64).map(|r| r.0).collect();
            times.sort_unstable();
            let early = times.first().is_some_and(|half_day| f64::from(*half_day) / 2.0 <= anchor + length as f64);
            let expected = if early { times.get(1).map(|half_day| at_day(f64::from(*half_day) / 2.0)) } else { None };
            prop_assert_eq!(first, expected);
        }
    }
}
