//! Work lists and exposures: what stands on a list, what stays off it, when it is written, and what a restart knows.

use std::sync::Arc;

use leadpulse_engine::Until;
use leadpulse_engine::ports::Output;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_graph::DAY_MS;
use leadpulse_policy::is_held_out;
use leadpulse_schema::units::Span;
use serde_json::{Value as Json, json};

use super::rig::Put::{Double, Long, Text, Time};
use super::rig::{Filter, Life, Put, Rig, TaskSpec};

const T0: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// Alerts at every rise, of the accounts that nothing keeps back.
const STRICT: &str = r#"{"bands":[{"name":"warm","enter":0.3},{"name":"hot","enter":0.5}],"threshold_up":"warm","hysteresis_ratio":0.1,
    "hold_out_share":0.3,"confirm":{"min_active_members":0,"min_kinds":0},"suppress":{"domains":["rival.example"]},
    "actions":[{"code":"call","label":"Call them","when":{"band":["warm","hot"]}},{"code":"none","label":"Nothing to do: no activity"}]}"#;

/// More employees, a higher score: `logit = −1 + 3 · x / (1 + x)`.
fn by_employees(_: &str, column: &str) -> f64 {
    if column.contains("employee_count") {
        3.0
    } else {
        0.0
    }
}

fn rig(table: &'static str) -> Rig {
    let task = TaskSpec {
        name: "buys",
        table,
        policy: STRICT,
        filter: Filter::Everyone,
    };
    let mut rig = Rig::new(&[task], by_employees);
    rig.work_lists.size = 3;
    rig
}

/// An account key of the hold-out share, or not of it.
fn keys(is_of_share: bool) -> impl Iterator<Item = String> {
    let keys = (0..).map(|number| format!("A{number}"));
    keys.filter(move |key| is_held_out(key, 0.3) == is_of_share)
}

fn account(rig: &Rig, at_ms: i64, key: &str, fields: &[(&str, Put<'_>)]) {
    let own = [("account_id", Text(key)), ("updated_at", Time(at_ms))];
    rig.send("accounts", at_ms, &[&own[..], fields].concat());
}

/// A row by which a later tick closes.
fn later(rig: &Rig, at_ms: i64) {
    rig.send(
        "leads",
        at_ms,
        &[("lead_id", Text("late")), ("updated_at", Time(at_ms))],
    );
}

/// The newest list of each person, by name: keys of its entities.
fn newest(rig: &Rig) -> std::collections::BTreeMap<String, Vec<String>> {
    let lists = rig.committed(Output::WorkLists);
    let by_owner = lists.iter().map(|list| {
        let owner = list["owner_id"].as_str().unwrap_or_default().to_owned();
        (owner, entities(list))
    });
    by_owner.collect()
}

fn entities(list: &Json) -> Vec<String> {
    let entries = list["entries"].as_array().unwrap().iter();
    let keys = entries.map(|entry| entry["entity_id"].as_str().unwrap().to_owned());
    keys.collect()
}

#[test]
fn each_kind_that_gets_no_alerts_is_on_no_list() {
    let rig = rig("accounts");
    let mut free = keys(false);
    let mut next = || free.next().unwrap();
    let [plain, customer, rival, other] = [next(), next(), next(), next()];
    let held_out = keys(true).next().unwrap();
    let owner = ("owner_id", Text("ann"));
    for key in [&plain, &customer, &other, &held_out] {
        account(&rig, T0, key, &[owner, ("employee_count", Long(0))]);
    }
    account(
        &rig,
        T0,
        &rival,
        &[owner, ("domain", Text("eu.rival.example"))],
    );
    let deal = |key: &str, account: &str, stage: &str, owner: &str| {
        let fields = [
            ("opportunity_id", Text(key)),
            ("updated_at", Time(T0)),
            ("account_id", Text(account)),
            ("stage", Text(stage)),
            ("owner_id", Text(owner)),
            ("amount", Double(5000.0)),
        ];
        rig.send("opportunities", T0, &fields);
    };
    deal("D1", &customer, "Closed Won", "ann");
    let won = [
        ("change_id", Text("S1")),
        ("changed_at", Time(T0)),
        ("opportunity_id", Text("D1")),
        ("account_id", Text(&customer)),
        ("to_stage", Text("Closed Won")),
    ];
    rig.send("opportunity_stage_changes", T0, &won);
    // Two open deals of two people: alerts are for one of them.
    deal("D2", &other, "Proposal", "ann");
    deal("D3", &other, "Proposal", "bob");
    deal("D4", &plain, "Proposal", "ann");
    rig.run_to_end();
    rig.check_committed();
    let lists = newest(&rig);
    let all: Vec<&String> = lists.values().flatten().collect();
    assert_eq!(all, [&plain], "{lists:?}");
    let list = &rig.committed(Output::WorkLists)[0];
    let entry = &list["entries"][0];
    assert_eq!(entry["value_at_stake"], 5000.0);
    assert_eq!(entry["has_open_opportunity"], true);
    assert_eq!(entry["recommended_action"], "none");
    assert_eq!(entry["quality"], "provisional");
    let ranks = ["rank", "ranked"].map(|field| entry[field].as_i64().unwrap());
    assert_eq!(ranks, [2, 5], "the rival is first, and on no list");
}

#[test]
fn a_list_is_ordered_written_for_changes_and_empty_for_those_who_left() {
    let rig = rig("accounts");
    let keys: Vec<String> = keys(false).take(5).collect();
    for (key, employees) in keys.iter().zip([10, 2000, 300, 300, 5]) {
        let size = ("employee_count", Long(employees));
        account(&rig, T0, key, &[("owner_id", Text("ann")), size]);
    }
    later(&rig, T0 + HOUR_MS);
    rig.run_to_end();
    let by_size = [&keys[1], &keys[2], &keys[3]];
    assert_eq!(newest(&rig)["ann"].iter().collect::<Vec<_>>(), by_size);
    let list = rig.committed(Output::WorkLists)[0].clone();
    let entry = &list["entries"][0];
    assert_eq!(
        (&entry["band"], &entry["recommended_action"]),
        (&json!("hot"), &json!("call"))
    );
    let summary = entry["summary"].as_str().unwrap();
    assert!(
        summary.contains("no activity yet") && summary.ends_with("Next: Call them."),
        "{summary}"
    );

    // Days in which nothing changes write nothing.
    later(&rig, T0 + 4 * DAY_MS);
    rig.run_to_end();
    assert_eq!(rig.committed(Output::WorkLists).len(), 1);

    // Bob takes the first account from ann.
    account(
        &rig,
        T0 + 4 * DAY_MS,
        &keys[1],
        &[("owner_id", Text("bob")), ("employee_count", Long(2000))],
    );
    later(&rig, T0 + 6 * DAY_MS);
    rig.run_to_end();
    let lists = newest(&rig);
    assert_eq!(lists["bob"].iter().collect::<Vec<_>>(), [&keys[1]]);
    let rest = [&keys[2], &keys[3], &keys[0]];
    assert_eq!(lists["ann"].iter().collect::<Vec<_>>(), rest);
    let since = |owner: &str| -> Vec<i64> {
        let lists = rig.committed(Output::WorkLists);
        let newest = lists
            .iter()
            .rfind(|list| list["owner_id"] == owner)
            .unwrap();
        let entries = newest["entries"].as_array().unwrap().iter();
        entries
            .map(|one| one["listed_since"].as_i64().unwrap())
            .collect()
    };
    let (ann, bob) = (since("ann"), since("bob"));
    assert!(
        ann[0] == ann[1] && ann[1] < ann[2] && ann[2] == bob[0],
        "{ann:?} {bob:?}"
    );

    account(
        &rig,
        T0 + 6 * DAY_MS,
        &keys[1],
        &[("owner_id", Text("ann"))],
    );
    later(&rig, T0 + 8 * DAY_MS);
    rig.run_to_end();
    assert_eq!(newest(&rig)["bob"], [""; 0]);
    rig.check_committed();
}

#[test]
fn an_account_stands_once_by_the_best_of_its_people() {
    let rig = rig("contacts");
    let account_key = keys(false).next().unwrap();
    account(&rig, T0, &account_key, &[("owner_id", Text("ann"))]);
    for key in ["C2", "C1"] {
        let fields = [
            ("contact_id", Text(key)),
            ("updated_at", Time(T0)),
            ("account_id", Text(&account_key)),
        ];
        rig.send("contacts", T0, &fields);
    }
    rig.run_to_end();
    assert_eq!(newest(&rig)["ann"], ["C1"], "equal scores go by key");
}

#[test]
fn pages_have_the_lists_again_after_a_restart() {
    let rig = rig("accounts");
    let key = keys(false).next().unwrap();
    account(&rig, T0, &key, &[("owner_id", Text("ann"))]);
    let shown = |rig: &Rig| {
        let read_model: Arc<ReadModel> = Arc::default();
        let life = Life {
            read_model: read_model.clone(),
            ..Life::default()
        };
        rig.run(Until::End, life).unwrap();
        let (_, lists) = read_model.work_lists("buys", Some("ann"));
        assert!(read_model.work_lists("buys", Some("bob")).1.is_empty());
        assert_eq!(read_model.work_lists("buys", None).1, lists);
        lists
    };
    let first = shown(&rig);
    assert_eq!(first.len(), 1);
    assert_eq!(*first[0].entries[0].entity_id, *key);
    assert_eq!(shown(&rig), first);
}

#[test]
fn exposures_tell_who_was_told_who_was_held_out_and_what_waits_for_a_digest() {
    let mut rig = rig("accounts");
    rig.cap = Some(1);
    rig.work_lists.every = Span::from_ms(HOUR_MS);
    let free: Vec<String> = keys(false).take(2).collect();
    let held_out = keys(true).next().unwrap();
    let all = [&free[0], &free[1], &held_out];
    let ann = ("owner_id", Text("ann"));
    for (number, key) in all.into_iter().enumerate() {
        let id = format!("a{number}");
        account(&rig, T0, key, &[ann, ("employee_count", Long(0))]);
        let fields = [
            ("activity_id", Text(id.as_str())),
            ("type", Text("meeting")),
            ("occurred_at", Time(T0 + HOUR_MS)),
            ("account_id", Text(key)),
        ];
        rig.send("activities", T0 + HOUR_MS, &fields);
        account(
            &rig,
            T0 + HOUR_MS,
            key,
            &[("owner_id", Text("ann")), ("employee_count", Long(900))],
        );
    }
    // The rise ends.
    let fields = [ann, ("employee_count", Long(0))];
    account(&rig, T0 + 5 * HOUR_MS, &free[0], &fields);
    later(&rig, T0 + 3 * DAY_MS);
    rig.run_to_end();
    rig.check_committed();
    let found = rig.committed(Output::Exposures);
    let of = |key: &str| {
        let mut of_key = found.iter().filter(|one| one["account_id"] == key);
        let one = of_key.next().unwrap();
        assert!(of_key.next().is_none(), "an end is no exposure: {found:?}");
        one
    };
    let (told, later, held) = (of(&free[0]), of(&free[1]), of(&held_out));
    assert_eq!(told["exposure_group"], "told");
    assert_eq!(told["told_at"], told["tick"]);
    assert_eq!(later["exposure_group"], "digest");
    let midnight_ms = (T0 + HOUR_MS).div_euclid(DAY_MS) * DAY_MS + DAY_MS;
    assert_eq!(later["told_at"], midnight_ms);
    assert_eq!(
        (&held["exposure_group"], &held["told_at"]),
        (&json!("held_out"), &Json::Null)
    );
    assert_eq!(held["hold_out_share"], 0.3);
    assert!(
        found
            .iter()
            .all(|one| one["policy_digest"] == told["policy_digest"])
    );
    let alerts = rig.committed(Output::Alerts);
    for (one, state) in [(told, "open"), (held, "suppressed")] {
        let alert = alerts
            .iter()
            .find(|alert| alert["alert_id"] == one["exposure_id"]);
        assert_eq!(alert.unwrap()["state"], state);
    }
    assert!(alerts.iter().any(|alert| alert["state"] == "resolved"));
    let digest = alerts
        .iter()
        .find(|alert| alert["type"] == "digest")
        .unwrap();
    assert_eq!(digest["parts"][0]["alert_id"], later["exposure_id"]);
}
