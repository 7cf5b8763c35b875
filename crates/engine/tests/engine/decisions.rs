//! Decisions of people: the rule of the oracle, written anew, and what queries see.

use std::collections::BTreeSet;
use std::sync::Arc;

use leadpulse_engine::Until;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_policy::AccountOverride;
use leadpulse_schema::TableId;

use super::rig::{Filter, Life, POLICY, Put, Rig, TaskSpec};
use super::scorer::by_name;

const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// A row about the decision of a person, as the oracle reads it.
#[derive(Clone)]
pub struct DecisionRow {
    pub id: String,
    /// Time and place in the log.
    pub said: (i64, u32, i64),
    /// Table and key of the subject with the decision; `None` for a deletion.
    pub word: Option<((TableId, String), AccountOverride, bool)>,
}

/// All rows of decisions so far, in no order that matters.
#[derive(Default)]
pub struct Decisions(Vec<DecisionRow>);

impl Decisions {
    /// The newest row of an id.
    fn newest(&self, id: &str) -> Option<&DecisionRow> {
        let of_id = self.0.iter().filter(|row| row.id == id);
        of_id.max_by_key(|row| row.said)
    }

    /// Takes a row. Returns the subjects that it is news about.
    pub fn take(&mut self, row: DecisionRow) -> Vec<(TableId, String)> {
        let before = self.newest(&row.id).cloned();
        self.0.push(row.clone());
        let is_newest = before.as_ref().is_none_or(|before| before.said < row.said);
        let words = [
            before.as_ref().and_then(|before| before.word.clone()),
            row.word.clone(),
        ];
        let is_same_time = before
            .as_ref()
            .is_some_and(|before| before.said.0 == row.said.0);
        let is_repeat = words[0] == words[1] && (words[1].is_none() || is_same_time);
        if !is_newest || is_repeat {
            return Vec::new();
        }
        words.into_iter().flatten().map(|word| word.0).collect()
    }

    /// The decision in force about one of some entities that are one.
    pub fn about(&self, entities: &[(TableId, String)], at_ms: i64) -> Option<AccountOverride> {
        let in_force = entities.iter().filter_map(|subject| {
            let ids: BTreeSet<&str> = self.0.iter().map(|row| row.id.as_str()).collect();
            let newest = ids.into_iter().filter_map(|id| self.newest(id));
            let about = newest.filter(|row| {
                let word = row.word.as_ref();
                word.is_some_and(|word| word.0 == *subject)
            });
            let row = about.max_by_key(|row| row.said)?;
            let (_, ruling, is_over) = row.word.as_ref()?;
            let is_in_force = !is_over && ruling.until_ms.is_none_or(|until_ms| at_ms < until_ms);
            is_in_force.then(|| (row.said, ruling.clone()))
        });
        in_force
            .max_by_key(|(said, _)| *said)
            .map(|(_, ruling)| ruling)
    }
}

fn account(rig: &Rig, at_ms: i64) {
    let fields = [
        ("account_id", Put::Text("A1")),
        ("updated_at", Put::Time(at_ms)),
    ];
    rig.send("accounts", at_ms, &fields);
}

/// Sends a decision about the account, and an answer to an alert.
fn said(rig: &Rig, at_ms: i64, decision: &str, until_ms: i64) {
    let fields = [
        ("override_id", Put::Text("o1")),
        ("decided_at", Put::Time(at_ms)),
        ("account_id", Put::Text("A1")),
        ("decision", Put::Text(decision)),
        ("decided_by", Put::Text("ann")),
        ("until", Put::Time(until_ms)),
    ];
    rig.send("overrides", at_ms, &fields);
    let fields = [
        ("alert_id", Put::Text("a1")),
        ("given_at", Put::Time(at_ms)),
        ("verdict", Put::Text("accepted")),
        ("given_by", Put::Text("bob")),
    ];
    rig.send("feedback", at_ms, &fields);
}

/// The kind of the decision that queries see about a person of the account, after one more life.
fn shown(rig: &Rig) -> (Option<&'static str>, bool) {
    let read_model = Arc::new(ReadModel::new());
    let life = Life {
        read_model: read_model.clone(),
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap();
    let [contacts, contact, account] = ["contacts", "C1", "A1"].map(Arc::from);
    let ruling = read_model.ruling(&contacts, &contact, Some(&account));
    let is_answered = read_model.verdict("a1").is_some();
    (ruling.map(|one| one.kind), is_answered)
}

#[test]
fn decisions_in_force_are_shown_until_they_end_in_every_process() {
    let task = TaskSpec {
        name: "buys_90d",
        table: "accounts",
        policy: POLICY,
        filter: Filter::Everyone,
    };
    let rig = Rig::new(&[task], by_name);
    account(&rig, START_MS);
    assert_eq!(shown(&rig), (None, false));
    said(&rig, START_MS + 1, "mute", START_MS + 10 * HOUR_MS);
    assert_eq!(shown(&rig), (Some("mute"), true));
    assert_eq!(shown(&rig), (Some("mute"), true), "a restart knows it, too");
    account(&rig, START_MS + 11 * HOUR_MS);
    assert_eq!(shown(&rig), (None, true), "it has ended");
    said(
        &rig,
        START_MS + 12 * HOUR_MS,
        "pin",
        START_MS + 99 * HOUR_MS,
    );
    assert_eq!(shown(&rig), (Some("pin"), true));
    said(
        &rig,
        START_MS + 13 * HOUR_MS,
        "none",
        START_MS + 99 * HOUR_MS,
    );
    assert_eq!(shown(&rig), (None, true), "it was taken back");
}
