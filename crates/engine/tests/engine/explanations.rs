//! What records say beyond the score: where it stands, what changed, what to do; and what the engine says when it is asked.

use std::collections::BTreeMap;
use std::sync::mpsc;

use leadpulse_engine::explain::{ExplainRefusal, ExplainRequest, explain_queue};
use leadpulse_engine::ports::Output;
use leadpulse_engine::{Epoch, Machine, MachineError, Sealed, Until};
use leadpulse_graph::DAY_MS;
use serde_json::{Value as Json, json};

use super::market::Market;
use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, Rig, TaskSpec};
use super::scorer::{BIAS, by_name};

const T0: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn task(name: &'static str, policy: &'static str, filter: Filter) -> TaskSpec {
    TaskSpec {
        name,
        table: "accounts",
        policy,
        filter,
    }
}

const EVERY_MOVE: &str = r#"{"bands":[{"name":"warm","enter":0.2},{"name":"hot","enter":0.5}],"threshold_up":"hot","emit_step":{"logit":0}}"#;

#[test]
fn places_are_those_of_a_sorted_list_of_everybody() {
    let tasks = [
        task("buys", EVERY_MOVE, Filter::Everyone),
        task("stays", EVERY_MOVE, Filter::Has("industry")),
    ];
    let mut rig = Rig::new(&tasks, by_name);
    Market::new(31).send(&rig, 600);
    rig.options.max_records = 25;
    rig.run_to_end();
    let mut epochs: BTreeMap<i64, Vec<Json>> = BTreeMap::new();
    for score in rig.committed(Output::Scores) {
        epochs
            .entry(score["epoch"].as_i64().unwrap())
            .or_default()
            .push(score);
    }
    let (mut standing, mut checked, mut left): (BTreeMap<(String, String), f64>, _, _) =
        (BTreeMap::new(), 0, 0);
    for scores in epochs.values() {
        let key = |s: &Json| {
            (
                s["task"].as_str().unwrap().to_owned(),
                s["entity_id"].as_str().unwrap().to_owned(),
            )
        };
        for score in scores {
            match score["logit"].as_f64() {
                Some(logit) => drop(standing.insert(key(score), logit)),
                None => left += standing.remove(&key(score)).map_or(0, |_| 1),
            }
        }
        for score in scores {
            let Some(logit) = score["logit"].as_f64() else {
                assert!(
                    ["rank", "percentile", "ranked", "recommended_action"]
                        .iter()
                        .all(|field| score[*field].is_null())
                );
                continue;
            };
            let all: Vec<f64> = standing
                .iter()
                .filter(|((task, _), _)| *task == key(score).0)
                .map(|(_, logit)| *logit)
                .collect();
            let (above, below) = (
                all.iter().filter(|x| **x > logit).count(),
                all.iter().filter(|x| **x < logit).count(),
            );
            assert_eq!(score["rank"], json!(above + 1));
            assert_eq!(score["ranked"], json!(all.len()));
            assert_eq!(
                score["percentile"],
                json!(100.0 * below as f64 / all.len() as f64)
            );
            checked += 1;
        }
    }
    assert!(
        checked > 200 && left > 0,
        "{checked} places, {left} left the population"
    );
    rig.check_committed();
}

/// One account, stepped by hand.
struct Bench {
    rig: Rig,
    machine: Machine,
    sent: u32,
}

impl Bench {
    fn new(policy: &'static str) -> Self {
        fn by_activity(_: &str, column: &str) -> f64 {
            match column {
                "activities/14d/sum" => 6.0,
                "activities/total" => 0.5,
                "accounts.employee_count/value" => -1.0,
                _ => 0.0,
            }
        }
        let rig = Rig::new(
            &[task("buys", policy, Filter::Equals("status", "Prospect"))],
            by_activity,
        );
        Self {
            machine: rig.machine(),
            rig,
            sent: 0,
        }
    }
    fn account(&self, at_ms: i64, status: &str) {
        let fields = [
            ("account_id", Text("A1")),
            ("updated_at", Time(at_ms)),
            ("status", Text(status)),
            ("name", Text("Acme")),
        ];
        self.rig.send("accounts", at_ms, &fields);
    }
    fn active(&mut self, at_ms: i64) {
        self.sent += 1;
        let id = format!("e{}", self.sent);
        let fields = [
            ("activity_id", Text(&id)),
            ("type", Text("meeting")),
            ("occurred_at", Time(at_ms)),
            ("account_id", Text("A1")),
        ];
        self.rig.send("activities", at_ms, &fields);
    }
    fn step(&mut self) -> Epoch<Sealed> {
        self.rig.step(&mut self.machine, None)
    }
    /// The score a step emits.
    fn score(&mut self) -> Json {
        let stepped = self.step();
        self.rig
            .outputs(&stepped.sealed.outputs, Output::Scores)
            .pop()
            .expect("a score is emitted")
    }
}

fn contributions(drivers: &Json) -> BTreeMap<String, f64> {
    let of = |d: &Json| {
        (
            d["group"].as_str().unwrap().to_owned(),
            d["contribution"].as_f64().unwrap(),
        )
    };
    drivers.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_record_says_what_changed_since_the_explanation_before() {
    let mut bench = Bench::new(
        r#"{"bands":[{"name":"warm","enter":0.5},{"name":"hot","enter":0.95}],"threshold_up":"hot","emit_step":{"logit":0.05}}"#,
    );
    bench.account(T0, "Prospect");
    let first = bench.score();
    assert_eq!(
        (
            &first["band"],
            &first["drivers_as_of"],
            &first["top_signal"]
        ),
        (&Json::Null, &Json::Null, &Json::Null),
        "not in a band"
    );

    bench.active(T0 + HOUR_MS);
    let warm = bench.score();
    assert_eq!(
        (&warm["band"], &warm["drivers_as_of"], &warm["change_since"]),
        (&json!("warm"), &json!(T0 + HOUR_MS), &Json::Null)
    );
    assert!(
        warm["top_signal"]
            .as_str()
            .is_some_and(|signal| !signal.is_empty()),
        "{warm}"
    );
    assert_eq!(warm["change_drivers"], json!([]));

    (0..4).for_each(|_| bench.active(T0 + 2 * HOUR_MS));
    let hot = bench.score();
    assert_eq!(
        (&hot["band"], &hot["change_since"], &hot["previous_as_of"]),
        (&json!("hot"), &json!(T0 + HOUR_MS), &json!(T0 + HOUR_MS))
    );
    let (before, now, changes) = (
        contributions(&warm["drivers"]),
        contributions(&hot["drivers"]),
        contributions(&hot["change_drivers"]),
    );
    assert!(!changes.is_empty());
    for group in before.keys().chain(now.keys()) {
        let of = |all: &BTreeMap<String, f64>| all.get(group).copied().unwrap_or_default();
        assert!(
            (of(&now) - of(&before) - of(&changes)).abs() < 1e-5,
            "{group}: {before:?} → {now:?} is {changes:?}"
        );
    }
    let moved: f64 = changes.values().sum();
    assert!(
        (hot["logit"].as_f64().unwrap() - warm["logit"].as_f64().unwrap() - moved).abs() < 2e-4,
        "the changes add up"
    );

    // Higher, but no crossing: the explanation is carried with its own time.
    (0..9).for_each(|_| bench.active(T0 + 3 * HOUR_MS));
    let higher = bench.score();
    assert_eq!(higher["as_of"], json!(T0 + 3 * HOUR_MS));
    for field in [
        "drivers",
        "drivers_as_of",
        "change_drivers",
        "change_since",
        "top_signal",
        "base_logit",
    ] {
        assert_eq!(higher[field], hot[field], "{field}");
    }
    let sum: f64 = contributions(&hot["drivers"]).values().sum();
    assert!(
        (hot["base_logit"].as_f64().unwrap() + sum - hot["logit"].as_f64().unwrap()).abs() < 2e-4
    );
}

/// Asserts that base and contributions of each record are the logit of the moment that the record
/// names: that of the record itself, or of an earlier one. Returns the number of records with an
/// explanation.
fn assert_sums(records: &[Json]) -> usize {
    let mut logits: BTreeMap<(String, String, i64), Vec<f64>> = BTreeMap::new();
    let mut explained = 0;
    for record in records {
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        let key = |at: &str| {
            (
                text("task"),
                text("entity_id"),
                record[at].as_i64().unwrap(),
            )
        };
        if let Some(logit) = record["logit"].as_f64() {
            logits.entry(key("as_of")).or_default().push(logit);
        }
        if record["drivers_as_of"].is_null() {
            continue;
        }
        explained += 1;
        let sum: f64 = contributions(&record["drivers"]).values().sum();
        let sum = record["base_logit"].as_f64().unwrap() + sum;
        let last = logits.get(&key("drivers_as_of")).and_then(|all| all.last());
        let last = last.expect("the explained moment has a record");
        assert!((sum - last).abs() < 1e-4, "{sum} for {last}: {record}");
    }
    explained
}

#[test]
fn every_record_sums_to_the_logit_of_the_moment_it_names() {
    let mut bench =
        Bench::new(r#"{"bands":[{"name":"warm","enter":0.5}],"emit_step":{"logit":0.05}}"#);
    bench.account(T0, "Prospect");
    let mut records = vec![bench.score()];
    bench.active(T0 + HOUR_MS);
    records.push(bench.score());
    // Late: the moment stays, the score moves within its band.
    bench.active(T0 + HOUR_MS - 1);
    records.push(bench.score());
    assert_eq!(records[1]["as_of"], records[2]["as_of"]);
    assert_ne!(records[1]["logit"], records[2]["logit"]);
    assert_eq!(records[1]["band"], records[2]["band"]);
    bench.active(T0 + 2 * HOUR_MS);
    records.push(bench.score());
    assert_eq!(assert_sums(&records), 3);
}

#[test]
fn the_records_of_a_market_sum_to_their_logits() {
    let mut rig = Rig::new(&[task("buys", EVERY_MOVE, Filter::Everyone)], by_name);
    Market::new(17).send(&rig, 600);
    rig.options.max_records = 25;
    rig.run_to_end();
    let explained = assert_sums(&rig.committed(Output::Scores));
    assert!(explained > 50, "{explained} records with an explanation");
}

#[test]
fn rules_say_what_to_do() {
    let mut bench = Bench::new(
        r#"{"bands":[{"name":"warm","enter":0.5},{"name":"hot","enter":0.95}],"threshold_up":"hot","threshold_down":"hot",
            "fall_dwell":"0s","cooldown":"0s","confirm":{"min_active_members":0,"min_kinds":0},
            "emit_step":{"logit":0.05},"sla_minutes":480,"actions":[
            {"code":"win_back","when":{"alert":["threshold_down"]},"expires_days":3},
            {"code":"call","label":"Schedule exec call","when":{"band":["hot"]},"sla_minutes":60,"expires_days":7},
            {"code":"nurture","when":{"band":["warm"]}},
            {"code":"leave","when":{"silent_days":100}}]}"#,
    );
    bench.account(T0, "Prospect");
    assert_eq!(
        bench.score()["recommended_action"],
        "leave",
        "nothing ever happened"
    );
    bench.active(T0 + 1);
    assert_eq!(bench.score()["recommended_action"], "nurture");
    let alert = |bench: &mut Bench| -> (Json, Json) {
        let stepped = bench.step();
        let outputs = &stepped.sealed.outputs;
        (
            bench.rig.outputs(outputs, Output::Scores).pop().unwrap(),
            bench.rig.outputs(outputs, Output::Alerts).pop().unwrap(),
        )
    };
    (0..5).for_each(|_| bench.active(T0 + 2));
    let (score, up) = alert(&mut bench);
    assert_eq!(
        (
            &score["recommended_action"],
            &score["recommended_action_label"]
        ),
        (&json!("call"), &json!("Schedule exec call"))
    );
    assert_eq!(
        (&up["recommended_action"], &up["recommended_action_label"]),
        (&json!("call"), &json!("Schedule exec call"))
    );
    assert_eq!(
        (&up["sla_minutes"], &up["expires_at"]),
        (&json!(60), &json!(T0 + 2 + 7 * DAY_MS))
    );
    let summary = up["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("Acme: ") && summary.ends_with(" Next: Schedule exec call."),
        "{summary}"
    );

    let later = T0 + 200 * DAY_MS;
    bench.account(later, "Prospect");
    let (score, down) = alert(&mut bench);
    assert_eq!(
        (&score["recommended_action"], &down["recommended_action"]),
        (&json!("leave"), &json!("win_back"))
    );
    assert_eq!(
        (&down["sla_minutes"], &down["expires_at"]),
        (
            &json!(480),
            &json!(down["as_of"].as_i64().unwrap() + 3 * DAY_MS)
        ),
        "the policy's, the rule's"
    );
    assert!(down["summary"].as_str().unwrap().starts_with("Acme: "));

    let unknown = r#"{"actions":[{"code":"call","when":{"top_group":["nonsense"]}}]}"#;
    let Err(error) =
        Rig::new(&[task("buys", unknown, Filter::Everyone)], by_name).try_machine("by hand")
    else {
        panic!("the group does not exist")
    };
    assert!(matches!(error, MachineError::Actions { .. }));
    let words = error.to_string();
    assert!(
        words.contains("\"buys\"")
            && words.contains("\"nonsense\"")
            && words.contains("which is not one of: "),
        "{words}"
    );
}

fn asked(entity_type: &str, entity_id: &str) -> ExplainRequest {
    ExplainRequest {
        task: "buys".into(),
        entity_type: entity_type.into(),
        entity_id: entity_id.into(),
    }
}

#[test]
fn an_answer_is_of_now_and_changes_nothing() {
    let mut bench = Bench::new(EVERY_MOVE);
    assert_eq!(
        bench.machine.explain(&asked("accounts", "A1")),
        Err(ExplainRefusal::NotReady)
    );
    bench.account(T0, "Prospect");
    bench.active(T0 + 1);
    let mut reference = bench.rig.machine();
    let (ours, theirs) = (bench.step(), bench.rig.step(&mut reference, None));
    assert!(ours.sealed == theirs.sealed);

    let shown = bench.machine.explain(&asked("accounts", "A1")).unwrap();
    let answer = &shown.record;
    let (logit, base_logit) = (answer.logit.unwrap(), answer.base_logit.unwrap());
    let score = bench
        .rig
        .outputs(&ours.sealed.outputs, Output::Scores)
        .pop()
        .unwrap();
    assert!(
        (logit - score["logit"].as_f64().unwrap()).abs() < 1e-4,
        "{answer:?}"
    );
    assert_eq!(
        (answer.as_of, answer.epoch, base_logit, answer.rank),
        (T0 + 1, 1, BIAS, Some(1))
    );
    assert_eq!(
        (shown.name.as_deref(), answer.band.as_deref()),
        (Some("Acme"), score["band"].as_str())
    );
    let sum: f64 = answer.drivers.iter().map(|d| d.contribution).sum();
    assert!((base_logit + sum - logit).abs() < 1e-5);

    for (entity_type, entity_id, refusal) in [
        (
            "contacts",
            "A1",
            ExplainRefusal::NoSuchTask {
                task: "buys".into(),
                entity_type: "contacts".into(),
            },
        ),
        (
            "planets",
            "A1",
            ExplainRefusal::NoSuchTask {
                task: "buys".into(),
                entity_type: "planets".into(),
            },
        ),
        (
            "accounts",
            "A2",
            ExplainRefusal::NoSuchEntity {
                entity_type: "accounts".into(),
                entity_id: "A2".into(),
            },
        ),
    ] {
        assert_eq!(
            bench.machine.explain(&asked(entity_type, entity_id)),
            Err(refusal)
        );
    }
    bench.account(T0 + 2, "Customer");
    let (ours, theirs) = (bench.step(), bench.rig.step(&mut reference, None));
    assert!(
        ours.sealed == theirs.sealed,
        "what was asked does not show in what is written"
    );
    let why = "outside the task's population".to_owned();
    let refusal = ExplainRefusal::Ineligible {
        task: "buys".into(),
        entity_id: "A1".into(),
        why,
    };
    assert_eq!(
        bench.machine.explain(&asked("accounts", "A1")),
        Err(refusal)
    );
}

#[test]
fn a_running_engine_answers_between_epochs() {
    let bench = Bench::new(EVERY_MOVE);
    bench.account(T0, "Prospect");
    let (desk, requests) = explain_queue(2);
    let (answered, answers) = mpsc::channel();
    let life = Life {
        requests: Some(requests),
        ..Life::default()
    };
    let stop = life.stop.clone();
    let mut asked_for = false;
    let on_idle = Box::new(move || {
        if !asked_for {
            let (answered, stop) = (answered.clone(), stop.clone());
            let reply = move |answer| {
                answered.send(answer).unwrap();
                stop.store(true, std::sync::atomic::Ordering::SeqCst);
            };
            desk.ask(asked("accounts", "A1"), Box::new(reply)).unwrap();
            asked_for = true;
        }
    });
    bench
        .rig
        .run(
            Until::Stopped,
            Life {
                on_idle: Some(on_idle),
                ..life
            },
        )
        .unwrap();
    let answer = answers.recv().unwrap().unwrap().record;
    assert_eq!(
        (&*answer.entity_id, answer.epoch, answer.as_of),
        ("A1", 1, T0)
    );
    bench.rig.check_committed();
}
