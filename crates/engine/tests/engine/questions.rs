//! What the engine says of one record, and of the people of an account.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use leadpulse_engine::ports::SealedEpoch;
use leadpulse_engine::questions::question_queue;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{Machine, Until};

use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, Rig, TaskSpec};
use super::scorer::by_name;

const T0: i64 = 1_700_000_000_000;

fn rig() -> Rig {
    let task = TaskSpec {
        name: "buys",
        table: "accounts",
        policy: r#"{"bands":[{"name":"hot","enter":0.5}],"threshold_up":"hot"}"#,
        filter: Filter::Everyone,
    };
    let rig = Rig::new(&[task], by_name);
    let account = [
        ("account_id", Text("A1")),
        ("updated_at", Time(T0)),
        ("status", Text("Prospect")),
    ];
    rig.send("accounts", T0, &account);
    for (id, department, seniority) in [
        ("C1", "Engineering", "VP"),
        ("C2", "Engineering", "VP"),
        ("C3", "Finance", "IC"),
    ] {
        let contact = [
            ("contact_id", Text(id)),
            ("updated_at", Time(T0)),
            ("account_id", Text("A1")),
            ("department", Text(department)),
            ("seniority", Text(seniority)),
        ];
        rig.send("contacts", T0, &contact);
    }
    rig
}

fn meeting(rig: &Rig, id: &str, contact: &str, at_ms: i64) -> i64 {
    let fields = [
        ("activity_id", Text(id)),
        ("type", Text("meeting")),
        ("occurred_at", Time(at_ms)),
        ("contact_id", Text(contact)),
    ];
    rig.send("activities", at_ms, &fields)
}

#[test]
fn a_committee_has_seats_by_department_and_seniority_and_gaps() {
    let rig = rig();
    meeting(&rig, "E1", "C1", T0 + 1);
    let mut machine = rig.machine();
    rig.step(&mut machine, None);
    let found = machine
        .committee("contacts", "C3")
        .expect("the contact is known");
    assert_eq!(found.account_id.as_deref(), Some("A1"));
    let seats = &found.seats;
    assert_eq!(seats.fields, ["department", "seniority"]);
    assert_eq!((seats.people, seats.active), (3, 1));
    let counts: Vec<(Vec<&str>, usize, usize)> = seats
        .seats
        .iter()
        .map(|seat| {
            let values = seat.values.iter().map(|value| value.as_deref().unwrap());
            (values.collect(), seat.people, seat.active)
        })
        .collect();
    let expected = [
        (vec!["Engineering", "VP"], 2, 1),
        (vec!["Finance", "IC"], 1, 0),
    ];
    assert_eq!(counts, expected);
    assert!(seats.gaps["department"].contains(&"Procurement".to_owned()));
    assert!(!seats.gaps["department"].contains(&"Finance".to_owned()));
    assert_eq!(seats.gaps["seniority"], ["Manager", "Director", "C-Level"]);
    assert_eq!(seats.members[0].key, "C1", "the most recently active first");
    assert_eq!(found.hubs, []);
    assert!(machine.committee("accounts", "A2").is_none());
    assert!(machine.committee("planets", "A1").is_none());
}

#[test]
fn what_became_of_a_record_is_kept_with_its_entity_once_it_is_committed() {
    let rig = rig();
    let offset = meeting(&rig, "E1", "C1", T0 + 1);
    let again = meeting(&rig, "E1", "C1", T0 + 1);
    meeting(&rig, "E2", "nobody", T0 + 2);
    let read_model = Arc::new(ReadModel::new());
    let life = Life {
        read_model: read_model.clone(),
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap();
    let at = |wanted: i64, key: &str| {
        let found = read_model.traced(|one| one.offset == wanted && &*one.key == key);
        found.unwrap_or_else(|| panic!("{key} at {wanted} is kept"))
    };
    let first = at(offset, "E1");
    assert_eq!((first.outcome, &*first.table), ("accepted", "activities"));
    let entity = first.entity.as_ref().map(|(table, key)| (&**table, &**key));
    assert_eq!(entity, Some(("contacts", "C1")));
    assert_eq!(first.account_id.as_deref(), Some("A1"));
    assert!(first.epoch >= 1, "{first:?}");
    assert_eq!(at(again, "E1").outcome, "duplicate");
    let contact = read_model.traced(|one| &*one.key == "C2").unwrap();
    assert_eq!(contact.account_id.as_deref(), Some("A1"));
}

/// An epoch may be under way when a question comes. Its rows are in the machine.
#[test]
fn questions_are_answered_from_what_is_committed() {
    let mut rig = rig();
    rig.options.max_records = 1;
    for nth in 0..20 {
        meeting(&rig, &format!("E{nth}"), "C1", T0 + nth);
    }
    let (desk, questions) = question_queue(4);
    let (answered, answers) = mpsc::channel();
    let broker = rig.broker.clone();
    let watcher = Box::new(move |_: &SealedEpoch| {
        let (answered, broker) = (answered.clone(), broker.clone());
        let question = move |machine: Option<&Machine>| {
            let committed = broker.lock().committed().map_or(0, |epoch| epoch.number);
            let known = machine.map(Machine::number);
            answered.send((known, committed)).unwrap();
        };
        let _ = desk.ask(Box::new(question));
    });
    let life = Life {
        questions: Some(questions),
        watcher: Some(watcher),
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap();
    let answers: Vec<_> = answers.try_iter().collect();
    assert!(answers.len() > 10, "{answers:?}");
    for (known, committed) in answers {
        assert_eq!(known, Some(committed));
    }
}

#[test]
fn a_running_engine_answers_questions_between_epochs() {
    let rig = rig();
    let (desk, questions) = question_queue(2);
    let (answered, answers) = mpsc::channel();
    let life = Life {
        questions: Some(questions),
        ..Life::default()
    };
    let stop = life.stop.clone();
    let mut is_asked = false;
    let on_idle = Box::new(move || {
        if !is_asked {
            let (answered, stop) = (answered.clone(), stop.clone());
            let question = move |machine: Option<&Machine>| {
                let people = machine.and_then(|machine| machine.committee("accounts", "A1"));
                answered
                    .send(people.map(|found| found.seats.people))
                    .unwrap();
                stop.store(true, Ordering::SeqCst);
            };
            desk.ask(Box::new(question)).unwrap();
            is_asked = true;
        }
    });
    let life = Life {
        on_idle: Some(on_idle),
        ..life
    };
    rig.run(Until::Stopped, life).unwrap();
    assert_eq!(answers.recv().unwrap(), Some(3));
    rig.check_committed();
}
