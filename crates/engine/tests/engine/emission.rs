//! What is emitted and when: steps, crossings, populations, timers, boards; alerts and their explanations.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leadpulse_engine::ports::{Output, OutputRecord};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{ClockMode, Epoch, Machine, Sealed, Until};
use leadpulse_graph::DAY_MS;
use leadpulse_policy::{AlertType, alert_id};
use serde_json::{Value as Json, json};

use super::broker::HandClock;
use super::market::Market;
use super::rig::Put::{Bool, Text, Time};
use super::rig::{Filter, Life, POLICY, Rig, TaskSpec};
use super::scorer::{BIAS, by_name};

const T0: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// More activities of the account itself: more likely to buy, less likely to leave.
fn by_activity(task: &str, column: &str) -> f64 {
    match (task, column) {
        ("buys", "activities/14d/sum") => 8.0,
        ("leaves", "activities/14d/sum") => -8.0,
        ("leaves", "activities/total") => 9.0,
        _ => 0.0,
    }
}

fn buys(filter: Filter) -> TaskSpec {
    TaskSpec {
        name: "buys",
        table: "accounts",
        policy: BUYS_POLICY,
        filter,
    }
}

// The bias alone gives 0.27, one activity 0.91.
const BUYS_POLICY: &str = r#"{"bands":[{"name":"warm","enter":0.5},{"name":"hot","enter":0.95}],"threshold_up":"hot","threshold_down":"hot",
    "hysteresis_ratio":0.1,"fall_dwell":"0s","confirm":{"min_active_members":0,"min_kinds":0,"recency":"40000d"},"suppress":{"customers":false,"deals_of_others":false},
    "emit_step":{"logit":0.05},"cooldown_ms":0}"#;

/// A deployment that is stepped by hand.
struct Bench {
    rig: Rig,
    machine: Machine,
    sent: u32,
}

impl Bench {
    fn new(tasks: &[TaskSpec], weigh: super::scorer::Weigh) -> Self {
        let rig = Rig::new(tasks, weigh);
        Self {
            machine: rig.machine(),
            rig,
            sent: 0,
        }
    }
    fn account(&self, key: &str, at_ms: i64, status: &str) {
        let fields = [
            ("account_id", Text(key)),
            ("updated_at", Time(at_ms)),
            ("status", Text(status)),
            ("name", Text("Acme")),
        ];
        self.rig.send("accounts", at_ms, &fields);
    }
    fn activity(&mut self, owner: (&str, &str), at_ms: i64) {
        self.sent += 1;
        let id = format!("e{}", self.sent);
        let fields = [
            ("activity_id", Text(&id)),
            ("type", Text("meeting")),
            ("occurred_at", Time(at_ms)),
            (owner.0, Text(owner.1)),
        ];
        self.rig.send("activities", at_ms, &fields);
    }
    fn step(&mut self, clock_ms: Option<i64>) -> Epoch<Sealed> {
        self.rig.step(&mut self.machine, clock_ms)
    }
    /// What a step emits, in a line a record: `task entity status/cause band`, and `! type band` for alerts.
    fn told(&mut self, clock_ms: Option<i64>) -> Vec<String> {
        let stepped = self.step(clock_ms);
        let text = |record: &Json, field: &str| record[field].as_str().unwrap_or("-").to_owned();
        let outputs = &stepped.sealed.outputs;
        let scores = self
            .rig
            .outputs(outputs, Output::Scores)
            .into_iter()
            .map(|s| {
                format!(
                    "{} {} {}/{} {}",
                    text(&s, "task"),
                    text(&s, "entity_id"),
                    text(&s, "status"),
                    text(&s, "cause"),
                    text(&s, "band")
                )
            });
        let alerts = self.rig.outputs(outputs, Output::Alerts);
        let alerts = alerts.into_iter().map(|a| {
            format!(
                "! {} {} {}",
                text(&a, "entity_id"),
                text(&a, "type"),
                text(&a, "band")
            )
        });
        scores.chain(alerts).collect()
    }
}

#[test]
fn steps_and_crossings_are_emitted_and_alerts_fire_on_crossing_only() {
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_activity);
    let told = |bench: &mut Bench, at_ms: i64, sends: &dyn Fn(&mut Bench, i64)| {
        sends(bench, at_ms);
        bench.told(None)
    };
    let active = |n: usize| {
        move |bench: &mut Bench, at_ms: i64| {
            (0..n).for_each(|_| bench.activity(("account_id", "A1"), at_ms))
        }
    };
    let touched = |bench: &mut Bench, at_ms: i64| bench.account("A1", at_ms, "Prospect");
    type Sends<'a> = &'a dyn Fn(&mut Bench, i64);
    let steps: [(i64, Sends<'_>, &[&str]); 8] = [
        (0, &touched, &["buys A1 scored/event -"]),
        (1, &touched, &[]),
        (2, &active(1), &["buys A1 scored/event warm"]),
        (
            3,
            &active(3),
            &["buys A1 scored/event hot", "! A1 threshold_up hot"],
        ),
        (4, &active(2), &["buys A1 scored/event hot"]),
        (5, &touched, &[]),
        // Decayed to almost nothing; the alert is of the moment at which it left the threshold.
        (
            24 * 150,
            &touched,
            &["buys A1 scored/event -", "! A1 threshold_down warm"],
        ),
        (
            24 * 150 + 1,
            &active(20),
            &["buys A1 scored/event hot", "! A1 threshold_up hot"],
        ),
    ];
    for (index, (hour, sends, expected)) in steps.into_iter().enumerate() {
        let found = told(&mut bench, T0 + hour * HOUR_MS, sends);
        assert_eq!(found, expected, "step {index}");
    }
}

#[test]
fn the_first_score_never_alerts() {
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_activity);
    bench.account("A1", T0, "Prospect");
    (0..20).for_each(|_| bench.activity(("account_id", "A1"), T0));
    assert_eq!(bench.told(None), ["buys A1 scored/event hot"]);
}

#[test]
fn a_score_carries_the_grade_of_the_bundle_for_its_task() {
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_activity);
    bench.account("A1", T0, "Prospect");
    let stepped = bench.step(None);
    let scores = bench.rig.outputs(&stepped.sealed.outputs, Output::Scores);
    assert_eq!(scores[0]["quality"], json!("provisional"));
}

#[test]
fn scores_and_alerts_carry_the_interval_of_the_bundle() {
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_activity);
    bench.account("A1", T0, "Prospect");
    bench.step(None);
    (0..20).for_each(|_| bench.activity(("account_id", "A1"), T0 + HOUR_MS));
    let stepped = bench.step(None);
    let outputs = &stepped.sealed.outputs;
    let scores = bench.rig.outputs(outputs, Output::Scores);
    let alerts = bench.rig.outputs(outputs, Output::Alerts);
    let logit = scores[0]["logit"].as_f64().unwrap();
    for record in [&scores[0], &alerts[0]] {
        for (end, half) in [("probability_low", -0.5), ("probability_high", 0.5)] {
            let found = record[end].as_f64().unwrap();
            let expected = leadpulse_features::probability(logit + half);
            assert!((found - expected).abs() < 1e-12, "{end} {found} {expected}");
        }
    }
}

#[test]
fn an_entity_that_leaves_the_population_is_told_once_and_may_return() {
    let mut bench = Bench::new(&[buys(Filter::Equals("status", "Prospect"))], by_activity);
    let reasons = |bench: &mut Bench| -> Vec<(String, Json, Json)> {
        let stepped = bench.step(None);
        let scores = bench.rig.outputs(&stepped.sealed.outputs, Output::Scores);
        scores
            .into_iter()
            .map(|s| {
                (
                    s["status"].as_str().unwrap().to_owned(),
                    s["reason"].clone(),
                    s["probability"].clone(),
                )
            })
            .collect()
    };
    let delete = |bench: &Bench, at_ms: i64| bench.rig.produce(0, at_ms, Some(b"A1"), None);
    let outside = json!("outside the task's population");
    bench.account("A1", T0, "Customer");
    assert_eq!(reasons(&mut bench), [], "it never belonged to it");
    bench.account("A1", T0 + 1, "Prospect");
    bench.activity(("account_id", "A1"), T0 + 1);
    let scored = reasons(&mut bench);
    assert_eq!(
        (scored.len(), scored[0].0.as_str(), &scored[0].1),
        (1, "scored", &Json::Null)
    );
    assert!(scored[0].2.is_f64());
    for (at_ms, expected) in [
        (2, vec![("ineligible".to_owned(), outside, Json::Null)]),
        (3, vec![]),
    ] {
        bench.account("A1", T0 + at_ms, "Customer");
        assert_eq!(reasons(&mut bench), expected);
    }
    bench.account("A1", T0 + 4, "Prospect");
    assert_eq!(reasons(&mut bench)[0].0, "scored");
    delete(&bench, T0 + 5);
    assert_eq!(
        reasons(&mut bench),
        [("ineligible".to_owned(), json!("deleted"), Json::Null)]
    );
    delete(&bench, T0 + 6);
    assert_eq!(reasons(&mut bench), []);
    bench.account("A1", T0 + 7, "Customer");
    assert_eq!(
        reasons(&mut bench),
        [(
            "ineligible".to_owned(),
            json!("outside the task's population"),
            Json::Null
        )],
        "another reason"
    );
    delete(&bench, T0 + 8);
    assert_eq!(
        reasons(&mut bench),
        [("ineligible".to_owned(), json!("deleted"), Json::Null)]
    );
}

#[test]
fn a_merged_account_is_told_once_for_every_task() {
    let tasks = [
        buys(Filter::Everyone),
        TaskSpec {
            name: "leaves",
            ..buys(Filter::Equals("status", "Prospect"))
        },
    ];
    let mut bench = Bench::new(&tasks, by_activity);
    bench.account("A1", T0, "Prospect");
    bench.account("A2", T0, "Prospect");
    assert_eq!(bench.told(None).len(), 4);
    let merged = |bench: &Bench, at_ms: i64| {
        let fields = [
            ("account_id", Text("A1")),
            ("updated_at", Time(at_ms)),
            ("status", Text("Prospect")),
            ("merged_into_id", Text("A2")),
        ];
        bench.rig.send("accounts", at_ms, &fields);
    };
    let ineligible = |bench: &mut Bench| -> Vec<(Json, Json, Json)> {
        let outputs = bench.step(None).sealed.outputs.clone();
        let scores = bench
            .rig
            .outputs(&outputs, Output::Scores)
            .into_iter()
            .filter(|s| s["status"] == "ineligible");
        scores
            .map(|s| {
                (
                    s["task"].clone(),
                    s["entity_id"].clone(),
                    s["reason"].clone(),
                )
            })
            .collect()
    };
    merged(&bench, T0 + 1);
    let told = |task: &str| (json!(task), json!("A1"), json!("merged into A2"));
    assert_eq!(ineligible(&mut bench), [told("buys"), told("leaves")]);
    merged(&bench, T0 + 2);
    bench.rig.produce(0, T0 + 3, Some(b"A1"), None);
    assert_eq!(ineligible(&mut bench), []);
}

#[test]
fn what_takes_an_event_back_is_counted_and_lowers_the_score() {
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_activity);
    bench.account("A1", T0, "Prospect");
    bench.activity(("account_id", "A1"), T0 + 1);
    assert_eq!((bench.step(None).tally.retracted, bench.sent), (0, 1));
    let fields = [
        ("activity_id", Text("e1")),
        ("type", Text("meeting")),
        ("occurred_at", Time(T0 + 1)),
        ("account_id", Text("A1")),
        ("retracted", Bool(true)),
    ];
    bench.rig.send("activities", T0 + 2, &fields);
    let stepped = bench.step(None);
    let score = bench
        .rig
        .outputs(&stepped.sealed.outputs, Output::Scores)
        .pop()
        .unwrap();
    assert_eq!(
        (
            stepped.tally.retracted,
            &score["band"],
            &score["previous_band"]
        ),
        (1, &Json::Null, &json!("warm"))
    );
}

#[test]
fn current_scores_are_the_newest_and_none_of_the_deleted() {
    let tasks = [
        buys(Filter::Everyone),
        TaskSpec {
            name: "leaves",
            ..buys(Filter::Equals("status", "Prospect"))
        },
    ];
    let mut bench = Bench::new(&tasks, by_activity);
    let mut all = Vec::new();
    let current = |bench: &mut Bench, all: &mut Vec<OutputRecord>| -> Vec<(String, Option<Json>)> {
        let outputs = bench.step(None).sealed.outputs.clone();
        let newest = outputs.iter().filter(|r| r.output == Output::CurrentScores);
        let told = newest.map(|r| {
            let key = String::from_utf8(r.key.clone().unwrap()).unwrap();
            (
                key,
                r.value
                    .as_ref()
                    .map(|_| bench.rig.read(r)["status"].clone()),
            )
        });
        let told = told.collect();
        all.extend(outputs);
        told
    };
    let (buys, leaves) = (
        "buys|accounts|A1".to_owned(),
        "leaves|accounts|A1".to_owned(),
    );
    let (scored, ineligible) = (Some(json!("scored")), Some(json!("ineligible")));
    bench.account("A1", T0, "Prospect");
    assert_eq!(
        current(&mut bench, &mut all),
        [
            (buys.clone(), scored.clone()),
            (leaves.clone(), scored.clone())
        ]
    );
    bench.account("A1", T0 + 1, "Customer");
    assert_eq!(
        current(&mut bench, &mut all),
        [(leaves.clone(), ineligible)]
    );
    bench.rig.produce(0, T0 + 2, Some(b"A1"), None);
    assert_eq!(
        current(&mut bench, &mut all),
        [(buys.clone(), None), (leaves.clone(), None)],
        "each task forgets it"
    );
    bench.account("A1", T0 + 3, "Prospect");
    assert_eq!(
        current(&mut bench, &mut all),
        [(buys, scored.clone()), (leaves, scored)]
    );
    bench.rig.check_current_scores(all.iter());
}

#[test]
fn time_alone_moves_scores_fires_alerts_and_ends_membership() {
    let leaves = TaskSpec {
        name: "leaves",
        policy: POLICY,
        ..buys(Filter::Everyone)
    };
    let mut bench = Bench::new(&[buys(Filter::ActiveWithin(40)), leaves], by_activity);
    bench.account("A1", T0, "Prospect");
    (0..3).for_each(|_| bench.activity(("account_id", "A1"), T0));
    let mut rig = bench.rig.clone();
    (rig.options.epoch_floor_ms, rig.options.clock) = (1, ClockMode::Wall);

    let (clock, model) = (HandClock::default(), Arc::new(ReadModel::new()));
    clock.0.store(T0, Ordering::SeqCst);
    let life = Life {
        clock: clock.clone(),
        read_model: model.clone(),
        ..Life::default()
    };
    let stop = life.stop.clone();
    let on_idle = Box::new(move || {
        let now = clock.0.fetch_add(6 * HOUR_MS, Ordering::SeqCst);
        stop.store(now > T0 + 60 * DAY_MS, Ordering::SeqCst);
    });
    rig.run(
        Until::Stopped,
        Life {
            on_idle: Some(on_idle),
            ..life
        },
    )
    .unwrap();
    rig.check_committed();

    let scores = |task: &str| -> Vec<Json> {
        rig.committed(Output::Scores)
            .into_iter()
            .filter(|s| s["task"] == task)
            .collect()
    };
    let probabilities = |task: &str| -> Vec<f64> {
        scores(task)
            .iter()
            .filter_map(|s| s["probability"].as_f64())
            .collect()
    };
    let (falling, rising) = (probabilities("buys"), probabilities("leaves"));
    assert!(
        falling.len() > 5 && rising.len() > 5,
        "{} {}",
        falling.len(),
        rising.len()
    );
    assert!(falling.windows(2).all(|p| p[1] < p[0]), "{falling:?}");
    assert!(rising.windows(2).all(|p| p[1] > p[0]), "{rising:?}");
    assert!(scores("buys").iter().skip(1).all(|s| s["cause"] == "timer"));

    let alerts = rig.committed(Output::Alerts);
    let text = |a: &Json, field: &str| a[field].as_str().unwrap().to_owned();
    let told: BTreeSet<(String, String, String)> = alerts
        .iter()
        .filter(|a| a["state"] == "open")
        .map(|a| (text(a, "task"), text(a, "type"), text(a, "alert_id")))
        .collect();
    assert_eq!(
        told.iter()
            .filter(|t| t.0 == "buys" && t.1 == "threshold_down")
            .count(),
        1,
        "{told:?}"
    );
    assert_eq!(
        told.iter()
            .filter(|t| t.0 == "leaves" && t.1 == "threshold_up")
            .count(),
        1,
        "{told:?}"
    );
    assert!(
        alerts
            .iter()
            .all(|a| a["trigger"].is_null() && a["occurred_at"].is_null()),
        "time fired them, no event did"
    );

    // The 40th whole day after the one of the activities has ended; the timer's grid is an hour, the clock moves six.
    let last = scores("buys").pop().unwrap();
    assert_eq!(
        (last["status"].as_str(), last["cause"].as_str()),
        (Some("ineligible"), Some("timer"))
    );
    let left_ms = (T0.div_euclid(DAY_MS) + 40) * DAY_MS;
    let as_of = last["as_of"].as_i64().unwrap();
    assert!(
        (left_ms..=left_ms + 8 * HOUR_MS).contains(&as_of),
        "left {} h after the window did",
        (as_of - left_ms) / HOUR_MS
    );
    assert_eq!(scores("leaves").last().unwrap()["status"], "scored");
    assert!(model.status().as_of_ms.unwrap() >= T0 + 59 * DAY_MS);
}

#[test]
fn a_crossing_counts_when_it_has_lasted_without_any_event() {
    let policy = r#"{"bands":[{"name":"warm","enter":0.5}],"threshold_up":"warm","min_dwell":"2h",
    "confirm":{"min_active_members":0,"min_kinds":0},"emit_step":{"logit":100}}"#;
    let mut bench = Bench::new(
        &[TaskSpec {
            policy,
            ..buys(Filter::Everyone)
        }],
        by_activity,
    );
    bench.account("A1", T0, "Prospect");
    bench.told(None);
    bench.activity(("account_id", "A1"), T0 + HOUR_MS);
    assert_eq!(
        bench.told(None),
        ["buys A1 scored/event warm"],
        "the band is that of the score; the alert waits"
    );
    let due_ms = T0 + 3 * HOUR_MS;
    assert_eq!(bench.told(Some(due_ms - 1)), [""; 0]);
    assert_eq!(bench.machine.next_due_ms(), due_ms);
    assert_eq!(bench.told(Some(due_ms)), ["! A1 threshold_up warm"]);
    assert_eq!(bench.told(Some(due_ms + 1)), [""; 0]);
}

#[test]
fn a_board_rescores_the_peers_a_few_at_a_time() {
    fn by_peers(_: &str, column: &str) -> f64 {
        if column == "industries/activities/14d/per cell" {
            4.0
        } else {
            0.0
        }
    }
    let mut bench = Bench::new(&[buys(Filter::Everyone)], by_peers);
    for number in 0..10 {
        let key = format!("A{number}");
        let fields = [
            ("account_id", Text(&key)),
            ("updated_at", Time(T0)),
            ("industry", Text("Energy")),
        ];
        bench.rig.send("accounts", T0, &fields);
    }
    bench.step(None);
    bench.step(Some(T0 + HOUR_MS));
    (0..30).for_each(|_| bench.activity(("account_id", "A3"), T0 + HOUR_MS + 1));
    let stepped = bench.step(Some(T0 + HOUR_MS + 2));
    assert_eq!(stepped.tally.cells, 1, "peers wait for the board");

    let board = bench.step(Some(T0 + 2 * HOUR_MS));
    let budget = bench.rig.options.soft_budget;
    let mut peers = Vec::new();
    let mut next = board;
    for _ in 0..10 {
        assert!(
            next.tally.cells <= budget,
            "{} cells at once",
            next.tally.cells
        );
        for score in bench.rig.outputs(&next.sealed.outputs, Output::Scores) {
            assert_eq!(score["cause"], "board");
            peers.push(score["entity_id"].as_str().unwrap().to_owned());
        }
        if next.tally.deferred == 0 {
            break;
        }
        assert!(bench.machine.wants_tick(None), "cells are waiting");
        next = bench.step(None);
    }
    peers.sort();
    let expected: Vec<String> = (0..10)
        .filter(|n| *n != 3)
        .map(|n| format!("A{n}"))
        .collect();
    assert_eq!(
        peers, expected,
        "each peer once; its own activities do not count as its peers'"
    );
}

#[test]
fn members_beyond_the_cap_keep_a_score() {
    fn by_member(_: &str, column: &str) -> f64 {
        if column == "contacts.engagement_score/value" {
            0.0
        } else {
            by_activity("buys", column)
        }
    }
    let task = TaskSpec {
        name: "engages",
        table: "contacts",
        policy: BUYS_POLICY,
        filter: Filter::Everyone,
    };
    let mut bench = Bench::new(&[task], by_member);
    let keys: Vec<String> = (0..40).map(|n| format!("C{n:02}")).collect();
    for key in &keys {
        bench.rig.send(
            "contacts",
            T0,
            &[
                ("contact_id", Text(key)),
                ("updated_at", Time(T0)),
                ("account_id", Text("A1")),
            ],
        );
    }
    assert_eq!(
        bench.told(None).len(),
        keys.len(),
        "everyone has a first score"
    );
    // Whoever is active moves to the front, others fall behind the cap.
    for (hour, key) in keys.iter().rev().enumerate() {
        bench.activity(("contact_id", key), T0 + hour as i64 * HOUR_MS);
        let told = bench.told(None);
        assert!(
            told.iter()
                .all(|line| line.contains(" scored/") || line.starts_with('!')),
            "{told:?}"
        );
    }
}

#[test]
fn alerts_explain_themselves() {
    let tasks = [
        TaskSpec {
            name: "buys_90d",
            table: "accounts",
            policy: BUYS_POLICY,
            filter: Filter::Everyone,
        },
        TaskSpec {
            name: "engages_14d",
            table: "contacts",
            policy: BUYS_POLICY,
            filter: Filter::Everyone,
        },
    ];
    let rig = Rig::new(&tasks, by_name);
    Market::new(7).send(&rig, 500);
    let mut short = rig.clone();
    short.options.max_records = 20;
    short.run_to_end();
    let alerts = rig.committed(Output::Alerts);
    assert!(alerts.len() > 5, "{} alerts", alerts.len());
    let mut opened = BTreeSet::new();
    for alert in &alerts {
        let as_of_ms = alert["as_of"].as_i64().unwrap();
        assert_eq!(as_of_ms % rig.options.tick_ms as i64, 0, "it is of a tick");
        let drivers = alert["drivers"].as_array().unwrap();
        let sum: f64 = drivers
            .iter()
            .map(|d| d["contribution"].as_f64().unwrap())
            .sum();
        let probability = alert["probability"].as_f64().unwrap();
        let logit = (probability / (1.0 - probability)).ln();
        assert!(
            (BIAS + sum - logit).abs() < 1e-4,
            "base {BIAS} + {sum} = {logit}"
        );
        assert_eq!(alert["base_logit"], BIAS);
        let sizes: Vec<f64> = drivers
            .iter()
            .map(|d| d["contribution"].as_f64().unwrap().abs())
            .collect();
        assert!(
            sizes.is_sorted_by(|a, b| a >= b),
            "strongest first: {sizes:?}"
        );
        for driver in drivers {
            let (x, share) = (
                driver["contribution"].as_f64().unwrap(),
                driver["share"].as_i64().unwrap(),
            );
            assert!(share == 0 || (x > 0.0) == (share > 0), "{driver}");
        }
        assert_eq!(
            drivers
                .iter()
                .map(|d| d["share"].as_i64().unwrap().abs())
                .sum::<i64>(),
            100,
            "{drivers:?}"
        );

        let text = |field: &str| alert[field].as_str().unwrap();
        let alert_type = if text("type") == "threshold_up" {
            AlertType::ThresholdUp
        } else {
            AlertType::ThresholdDown
        };
        // Later records of an alert tell how it went on.
        if text("state") != "open" || !opened.insert(text("alert_id")) {
            continue;
        }
        assert_eq!(
            text("alert_id"),
            alert_id(
                text("task"),
                text("entity_type"),
                text("entity_id"),
                alert_type,
                as_of_ms
            )
        );
        let (p, threshold) = (
            alert["probability"].as_f64().unwrap(),
            alert["threshold"].as_f64().unwrap(),
        );
        assert_eq!(
            p >= threshold,
            alert_type == AlertType::ThresholdUp,
            "{p} {threshold}"
        );
    }
    // The memory of the alert is in the same transaction.
    let states = rig.committed(Output::PolicyState);
    for alert in alerts
        .iter()
        .filter(|alert| opened.remove(alert["alert_id"].as_str().unwrap()))
    {
        let same = |s: &&Json| {
            ["task", "entity_type", "entity_id", "epoch"]
                .iter()
                .all(|field| s[*field] == alert[*field])
        };
        let state = states.iter().find(same).unwrap()["alerts"]
            .as_str()
            .unwrap();
        let state: Json = serde_json::from_str(state).unwrap();
        assert_eq!(
            state["rules"][alert["type"].as_str().unwrap()]["fired_at_ms"],
            alert["as_of"]
        );
    }
}
