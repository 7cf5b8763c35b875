//! An erased person is gone from the store, pages, current outputs and later rows, in every process
//! and after every restart.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_engine::Until;
use leadpulse_engine::ports::Output;
use leadpulse_engine::read_model::{ReadModel, Sort};
use proptest::prelude::*;

use super::broker::Fault;
use super::market::Market;
use super::memory_store::MemoryStore;
use super::moves::rig;
use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, POLICY, Rig, TaskSpec};

const START_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

const CONTACT: &str = "zq-contact";
const LEAD: &str = "zq-lead";
const NAME: &str = "Vic Zqtimsen";
const EMAIL: &str = "Vic.Zqtimsen@zqvictims.example";
/// Beginnings of keys and ids of events, parts of name, address and domain.
const TRACES: [&[u8]; 7] = [
    b"zq-contact",
    b"zq-lead",
    b"zq-other",
    b"zq-act",
    b"zq-decision",
    b"zqtimsen",
    b"zqvictims",
];

fn has_trace(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    let holds = |trace: &&[u8]| lower.windows(trace.len()).any(|part| part == *trace);
    TRACES.iter().any(holds)
}

/// A deployment about accounts, contacts and leads, with work lists and a stored state, of whose
/// nodes so many bytes may be in memory.
fn deployment(node_budget: usize) -> Rig {
    let mut rig = rig();
    rig.tasks.push(TaskSpec {
        name: "converts",
        table: "leads",
        policy: POLICY,
        filter: Filter::Everyone,
    });
    rig.work_lists.size = 9;
    rig.cap = Some(1);
    rig.options.explain_top = 5;
    rig.store = Some(MemoryStore::of_cold_cells(node_budget));
    rig
}

/// The person at account A1: a lead that became a contact, with activities, decisions and notes.
fn send_person(rig: &Rig, at_ms: i64, turn: i64) {
    let at = |hours: i64| at_ms + hours * 3_600_000;
    rig.send(
        "leads",
        at(0),
        &[
            ("lead_id", Text(LEAD)),
            ("updated_at", Time(at(0))),
            ("status", Text("Open")),
            ("account_id", Text("A1")),
            ("email", Text(EMAIL)),
            ("converted_contact_id", Text(CONTACT)),
        ],
    );
    rig.send(
        "contacts",
        at(1),
        &[
            ("contact_id", Text(CONTACT)),
            ("updated_at", Time(at(1))),
            ("account_id", Text("A1")),
            ("name", Text(NAME)),
            ("email", Text(EMAIL)),
            ("seniority", Text("VP")),
        ],
    );
    // Another row of the same person, by the address alone.
    rig.send(
        "leads",
        at(1),
        &[
            ("lead_id", Text("zq-other-lead")),
            ("updated_at", Time(at(1))),
            ("status", Text("MQL")),
            ("email", Text("vic.zqtimsen+news@zqvictims.example")),
        ],
    );
    for number in 0..6 {
        let id = format!("zq-act-{turn}-{number}");
        let fields = [
            ("activity_id", Text(id.as_str())),
            ("type", Text("pricing_page_view")),
            ("occurred_at", Time(at(2 + number))),
            ("contact_id", Text(CONTACT)),
            ("account_id", Text("A1")),
        ];
        rig.send("activities", at(2 + number), &fields);
    }
    rig.send(
        "overrides",
        at(8),
        &[
            ("override_id", Text("zq-decision")),
            ("decided_at", Time(at(8))),
            ("decision", Text("pin")),
            ("decided_by", Text("ann")),
            ("contact_id", Text(CONTACT)),
            ("reason", Text("knows Vic Zqtimsen")),
        ],
    );
    // A record that nobody can read, with bytes of the person.
    let poison = format!("no avro {CONTACT}").into_bytes();
    let partition = rig.partition_of("contacts");
    rig.produce(partition, at(9), Some(CONTACT.as_bytes()), Some(poison));
}

/// A decision about the account and an answer to an alert, whose texts name the person.
fn send_notes(rig: &Rig, at_ms: i64) {
    let at = |hours: i64| at_ms + hours * 3_600_000;
    rig.send(
        "overrides",
        at(8),
        &[
            ("override_id", Text("about-the-account")),
            ("decided_at", Time(at(8))),
            ("decision", Text("pin")),
            ("decided_by", Text("ann")),
            ("account_id", Text("A1")),
            ("reason", Text("Vic Zqtimsen wants a call")),
        ],
    );
    rig.send(
        "feedback",
        at(9),
        &[
            ("alert_id", Text("some-alert")),
            ("given_at", Time(at(9))),
            ("verdict", Text("accepted")),
            ("given_by", Text("bob")),
            ("note", Text("met Vic Zqtimsen")),
        ],
    );
}

fn request(rig: &Rig, at_ms: i64, id: &str, action: &str) {
    let fields = [
        ("request_id", Text(id)),
        ("requested_at", Time(at_ms)),
        ("contact_id", Text(CONTACT)),
        ("action", Text(action)),
        ("requested_by", Text("the person")),
    ];
    rig.send("erasures", at_ms, &fields);
}

fn life() -> (Life, Arc<ReadModel>) {
    let read_model = Arc::new(ReadModel::new());
    let life = Life {
        read_model: read_model.clone(),
        ..Life::default()
    };
    (life, read_model)
}

/// The newest record of each key in the compacted outputs.
fn current(rig: &Rig) -> BTreeMap<(u8, Vec<u8>), Vec<u8>> {
    let mut newest = BTreeMap::new();
    for output in [
        Output::CurrentScores,
        Output::PolicyState,
        Output::WorkLists,
    ] {
        for (key, value) in rig.bytes_of(output) {
            let key = (output as u8, key.unwrap());
            match value {
                Some(value) => newest.insert(key, value),
                None => newest.remove(&key),
            };
        }
    }
    newest
}

/// Everything that queries can see, as text.
fn shown(rig: &Rig, pages: &ReadModel) -> String {
    let mut text = String::new();
    for task in &rig.tasks {
        for sort in [Sort::Score, Sort::Velocity, Sort::Change, Sort::AsOf] {
            let page = pages.scores(task.name, task.table, sort, 1_000, None);
            text += &format!("{:?}", page.scores);
        }
        text += &format!("{:?}", pages.work_lists(task.name, None));
    }
    for (table, key) in [("contacts", CONTACT), ("leads", LEAD), ("accounts", "A1")] {
        text += &format!("{:?}", pages.get(table, key));
        let (table, key) = (Arc::from(table), Arc::from(key));
        text += &format!("{:?}", pages.ruling(&table, &key, None));
    }
    text += &format!("{:?}", pages.alerts(1_000));
    let changes = pages.changes();
    // Nothing where a reader has to start anew.
    let known = (0..=changes.newest()).find_map(|after| changes.since(after));
    text += &format!("{:?}", known.into_iter().flatten().collect::<Vec<_>>());
    let traced = RefCell::new(String::new());
    let _ = pages.traced(|record| {
        *traced.borrow_mut() += &format!("{record:?}");
        false
    });
    text += &traced.into_inner();
    text += &format!("{:?}", pages.dead_letters(None, None, 1_000).letters);
    text + &format!("{:?}", pages.verdict("some-alert"))
}

fn assert_gone(rig: &Rig, pages: &ReadModel) {
    for ((output, key), value) in current(rig) {
        assert!(
            !has_trace(&key) && !has_trace(&value),
            "output {output}: {} {}",
            String::from_utf8_lossy(&key),
            String::from_utf8_lossy(&value)
        );
    }
    if let Some(store) = &rig.store {
        for (key, value) in &store.lock().pieces {
            assert!(
                !has_trace(key) && !has_trace(value),
                "piece {key:?}: {}",
                String::from_utf8_lossy(value)
            );
        }
    }
    let text = shown(rig, pages);
    let lower = text.to_ascii_lowercase();
    let found = TRACES
        .iter()
        .find_map(|trace| lower.find(std::str::from_utf8(trace).unwrap()));
    if let Some(at) = found {
        let from = text.floor_char_boundary(at.saturating_sub(300));
        let to = text.floor_char_boundary((at + 100).min(text.len()));
        panic!("shown: {}", &text[from..to]);
    }
    for proof in rig.committed(Output::ErasureProofs) {
        assert!(!has_trace(proof.to_string().as_bytes()), "{proof}");
    }
}

fn erased_rows(rig: &Rig) -> i64 {
    let unchanged = rig.script().into_iter().flat_map(|record| record.unchanged);
    unchanged
        .filter(|one| one.reason == "erased")
        .map(|one| one.count)
        .sum()
}

#[test]
fn an_erased_person_is_gone_everywhere_and_does_not_come_back() {
    let rig = deployment(0);
    let mut market = Market::with_people(3);
    market.send_within(&rig, 150, 10);
    send_person(&rig, START_MS + 9 * DAY_MS, 0);
    send_notes(&rig, START_MS + 9 * DAY_MS);
    let (first, pages) = life();
    rig.run(Until::End, first).unwrap();
    let before = shown(&rig, &pages).to_ascii_lowercase();
    assert!(before.contains("zq-contact") && before.contains("zq-lead"));
    assert!(current(&rig).values().any(|value| has_trace(value)));

    request(&rig, START_MS + 21 * DAY_MS, "r1", "erase");
    let (second, pages) = life();
    rig.run(Until::End, second).unwrap();
    assert_gone(&rig, &pages);
    assert_eq!(rig.store.as_ref().unwrap().lock().erasures, 1);
    assert!(rig.store.as_ref().unwrap().lock().node_reads > 0);
    let proofs = rig.committed(Output::ErasureProofs);
    assert_eq!(proofs.len(), 1);
    let proof = &proofs[0];
    assert_eq!(proof["request_id"], "r1");
    assert_eq!(
        (&proof["entities"], &proof["versions"]),
        (&3.into(), &3.into())
    );
    assert_eq!(
        (&proof["events"], &proof["domains"]),
        (&6.into(), &1.into())
    );
    assert!(proof["tombstones"].as_i64() >= Some(6), "{proof}");
    assert_eq!(proof["subject"].as_str().unwrap().len(), 64);
    assert!(pages.get("contacts", CONTACT).is_empty());

    // Rows of the person come again, and new ones.
    let letters = rig.bytes_of(Output::DeadLetters).len();
    let refused = erased_rows(&rig);
    send_person(&rig, START_MS + 9 * DAY_MS, 0);
    send_person(&rig, START_MS + 22 * DAY_MS, 1);
    market.send_within(&rig, 30, 2);
    rig.run_to_end();
    assert!(erased_rows(&rig) >= refused + 18, "{}", erased_rows(&rig));
    let poison = rig.bytes_of(Output::DeadLetters).len() - letters;
    assert!(poison >= 2, "what nobody can read is a dead letter still");
    rig.check_committed();

    // A start by rows from the beginning, without a stored state.
    let by_rows = Rig {
        store: None,
        ..rig.clone()
    };
    request(&rig, START_MS + 23 * DAY_MS, "r2 for zq-contact", "erase");
    let (fourth, pages) = life();
    by_rows.run(Until::End, fourth).unwrap();
    let proofs = rig.committed(Output::ErasureProofs);
    assert_eq!(proofs[1]["subject"], proofs[0]["subject"]);
    assert_eq!(proofs[1]["entities"], 0, "nobody was left");
    assert_gone(&by_rows, &pages);
}

#[test]
fn a_lifted_erasure_takes_rows_again_from_then_on() {
    let rig = deployment(usize::MAX);
    send_person(&rig, START_MS, 0);
    request(&rig, START_MS + 2 * DAY_MS, "r1", "erase");
    rig.run_to_end();
    send_person(&rig, START_MS + 3 * DAY_MS, 1);
    request(&rig, START_MS + 4 * DAY_MS, "r2", "lift");
    let (second, pages) = life();
    rig.run(Until::End, second).unwrap();
    let refused = erased_rows(&rig);
    let contact = pages.get("contacts", CONTACT);
    send_person(&rig, START_MS + 5 * DAY_MS, 2);
    let (third, pages) = life();
    rig.run(Until::End, third).unwrap();
    assert_eq!(erased_rows(&rig), refused, "nothing is refused any more");
    assert!(contact.len() <= pages.get("contacts", CONTACT).len());
    let scores = pages.get("contacts", CONTACT);
    assert!(scores.iter().any(|score| score.record.is_scored()));
    rig.check_committed();
    let proofs = rig.committed(Output::ErasureProofs);
    let actions: Vec<&str> = proofs.iter().filter_map(|p| p["action"].as_str()).collect();
    assert_eq!(actions, ["erase", "lift"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Erasures at random moments, kills, and restarts from stored state of any age: each process
    /// ends with the same outputs, without a byte of the person.
    #[test]
    fn erasures_outlive_kills_and_restarts_from_stored_state(
        seed in any::<u64>(),
        at in 0..10_u64,
        kills in prop::collection::vec(1..4_u32, 1..4),
        lag in 0..4_usize,
        budget in prop_oneof![Just(0), 0..200_000_usize],
    ) {
        let rig = deployment(budget);
        let mut market = Market::new(seed);
        let killed = |kill: &u32| Life {
            fault: Some((*kill, Fault::Before)),
            ..Life::default()
        };
        for part in 0..10_u64 {
            market.send_within(&rig, 25, 2);
            let at_ms = START_MS + (2 * part as i64 + 1) * DAY_MS;
            if part == at.min(6) {
                send_person(&rig, at_ms, 0);
                send_notes(&rig, at_ms);
            }
            if part == at.min(6) + 2 {
                request(&rig, at_ms, "r1", "erase");
            }
            if part == at.min(6) + 3 {
                send_person(&rig, at_ms, 1);
            }
            let kill = kills.get(part as usize % 4);
            for life in [kill.map(killed), Some(Life::default())].into_iter().flatten() {
                // A killed process has an error, and what was not stored is gone.
                let _ = rig.run(Until::End, life);
                rig.store.as_ref().unwrap().die(lag);
            }
        }
        rig.store.as_ref().unwrap().die(0);
        market.send_within(&rig, 5, 1);
        let (last, shown) = life();
        rig.run(Until::End, last).unwrap();
        assert_gone(&rig, &shown);
        rig.check_committed();
        prop_assert_eq!(rig.committed(Output::ErasureProofs).len(), 1);
    }
}
