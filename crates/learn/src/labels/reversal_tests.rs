//! A win that was taken back is none: by steps of a deal as events, and by versions of its row.

use std::collections::BTreeMap;

use leadpulse_pql::{Reach, parse, plan};
use leadpulse_schema::{Catalog, Operation, RowBatch, TableId, Value};

use super::history::{OwnedAt, Ownership};
use super::market::{at_day, push_as};
use super::{Label, LabelHistory, Labels};

const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"D","leadpulse":{"table":"deals","role":"member",
  "outcome":{"field":"stage","won":["Won"],"lost":["Lost"]}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["Won","Lost"]}}]}"#;
const STEPS: &str = r#"{"type":"record","name":"S","leadpulse":{"table":"steps","role":"event",
  "outcome":{"field":"stage","won":["Won"],"lost":["Lost"]}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"deal","type":["null","string"],"default":null,"leadpulse":{"ref":"deals","owner":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["Won","Lost"]}},
  {"name":"back","type":["null","boolean"],"default":null,"leadpulse":{"retraction":true}}]}"#;

/// All rows are those of entity 0.
struct One;

impl Ownership for One {
    fn entities(&self, _: Reach, _: &[(TableId, &str)], _: OwnedAt, found: &mut Vec<u32>) {
        found.push(0);
    }
}

/// The catalog in which the ends that count are those of a rule; the default without one.
fn catalog(rule: &str) -> Catalog {
    let with_rule = |schema: &str| match rule {
        "" => schema.to_owned(),
        rule => schema.replace(
            r#""lost":["Lost"]}"#,
            &format!(r#""lost":["Lost"],"verdict":"{rule}"}}"#),
        ),
    };
    let (deals, steps) = (with_rule(DEALS), with_rule(STEPS));
    let files = [("a", ACCOUNTS), ("d", &*deals), ("s", &*steps)];
    Catalog::from_json(&files).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A row of a deal: day, day on which it became known, stage.
type Step = (f64, f64, &'static str);

/// Labels of a target of account 0, by steps of deal `d` in an order; a stage with a `-` takes the
/// step of that day back.
fn labels(
    catalog: &Catalog,
    table: &str,
    steps: &[Step],
    target: &str,
    (reverse, known_until_ms): (bool, i64),
) -> Labels {
    let query = format!("PREDICT {} FOR accounts", target.replace("TABLE", table));
    let plan = parse(&query).and_then(|query| plan(&query, catalog, &BTreeMap::new()));
    let plan = plan.unwrap_or_else(|fault| panic!("{}", fault.render(&query)));
    let mut batch = RowBatch::new();
    for (day, known_day, stage) in steps {
        let id = if table == "deals" {
            "d".to_owned()
        } else {
            format!("{day}")
        };
        let operation = match stage.starts_with('-') {
            true => Operation::Retract,
            false => Operation::Upsert,
        };
        let mut values = vec![
            ("id", Value::Text(&id)),
            ("at", Value::Time(at_day(*day))),
            ("account", Value::Text("0")),
            ("stage", Value::Text(stage.trim_start_matches('-'))),
        ];
        if table == "steps" {
            values.push(("deal", Value::Text("d")));
        }
        push_as(operation, &mut batch, catalog, table, *known_day, &values);
    }
    let mut history = LabelHistory::new(&plan, catalog);
    let mut order: Vec<usize> = (0..batch.len()).collect();
    if reverse {
        order.reverse();
    }
    for index in order {
        history.offer(batch.row(index));
    }
    history.known_by(&One, known_until_ms).0
}

const WON: &str = "COUNT(TABLE.* WHERE TABLE.stage = 'Won', 0, 30) > 0";

/// Won on day 1, opened again on the third, lost on day 20.
const REOPENED: [Step; 4] = [
    (0.5, 0.5, "Open"),
    (1.0, 1.0, "Won"),
    (3.0, 3.0, "Open"),
    (20.0, 20.0, "Lost"),
];

#[test]
fn a_win_that_was_taken_back_within_the_window_is_none() {
    let again = [REOPENED[1], REOPENED[2], (25.0, 25.0, "Won")];
    let late = [REOPENED[1], (3.0, 50.0, "Open")];
    let cases: [(&str, &[Step], f64, f64, bool); 12] = [
        ("", &REOPENED, 0.0, 99.0, false),
        ("last", &REOPENED, 0.0, 99.0, false),
        ("first", &REOPENED, 0.0, 99.0, true),
        ("each", &REOPENED, 0.0, 99.0, true),
        // As it was known before the deal was opened again.
        ("", &REOPENED, 0.0, 2.0, true),
        // Opened again after the window of an earlier anchor.
        ("", &REOPENED, -28.0, 99.0, true),
        ("", &REOPENED, -27.0, 99.0, false),
        ("", &again, 0.0, 99.0, true),
        ("first", &again, 1.0, 99.0, false),
        // A step that became known late takes the win back from then on.
        ("", &late, 0.0, 49.0, true),
        ("", &late, 0.0, 50.0, false),
        ("", &REOPENED[1..2], 0.0, 99.0, true),
    ];
    for (rule, steps, anchor_day, known_day, expected) in cases {
        let catalog = catalog(rule);
        for table in ["steps", "deals"] {
            for reverse in [false, true] {
                let (anchor_ms, known_ms) = (at_day(anchor_day), at_day(known_day));
                let labels = labels(&catalog, table, steps, WON, (reverse, known_ms));
                assert_eq!(
                    labels.label(0, anchor_ms),
                    Label::Binary(expected),
                    "{table} {rule:?} {steps:?} at {anchor_day} known by {known_day}"
                );
                assert_eq!(
                    labels.first_time_true(0, anchor_ms).is_some(),
                    expected,
                    "{table} {rule:?} {steps:?} at {anchor_day}, first time"
                );
            }
        }
    }
}

#[test]
fn the_first_time_is_that_of_the_win_that_stands() {
    let steps = [REOPENED[1], REOPENED[2], (25.0, 25.0, "Won")];
    for table in ["steps", "deals"] {
        let labels = labels(&catalog(""), table, &steps, WON, (false, i64::MAX));
        assert_eq!(labels.first_time_true(0, 0), Some(at_day(25.0)), "{table}");
    }
}

#[test]
fn a_step_that_was_taken_back_takes_nothing_back() {
    let steps = [REOPENED[1], REOPENED[2], (3.0, 10.0, "-Open")];
    let label = |known_day| {
        labels(
            &catalog(""),
            "steps",
            &steps,
            WON,
            (true, at_day(known_day)),
        )
        .label(0, 0)
    };
    assert_eq!(label(9.0), Label::Binary(false));
    assert_eq!(label(10.0), Label::Binary(true));
}

#[test]
fn rows_that_are_counted_for_another_reason_all_count() {
    let labels = labels(
        &catalog(""),
        "steps",
        &REOPENED,
        "COUNT(TABLE.*, 0, 30)",
        (false, i64::MAX),
    );
    assert_eq!(labels.label(0, 0), Label::Value(4.0));
}
