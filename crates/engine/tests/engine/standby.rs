//! A follower beside an owner on one broker. Owners run inside the follower's looks, so every order of events is repeatable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::{InputPartition, Output, PortError};
use leadpulse_engine::read_model::{LETTERS_KEPT, Phase, ReadModel};
use leadpulse_engine::{RunError, Until};
use leadpulse_records::ShownScore;

use super::broker::{Fault, OnLook, Reading};
use super::market::Market;
use super::memory_store::MemoryStore;
use super::rig::{Filter, Life, POLICY, Rig, TaskSpec};
use super::scorer::by_name;

/// Looks of a follower in the time of silence: one every 50 ms.
const LOOKS_OF_SILENCE: u32 = 30;

fn tasks() -> Vec<TaskSpec> {
    let task = |name, table, filter| TaskSpec {
        name,
        table,
        policy: POLICY,
        filter,
    };
    vec![
        task("buys_90d", "accounts", Filter::ActiveWithin(12)),
        task("engages_14d", "contacts", Filter::Has("seniority")),
    ]
}

fn market(seed: u64, records: u64) -> (Rig, Market) {
    let mut rig = Rig::new(&tasks(), by_name);
    rig.options.max_records = 20;
    rig.work_lists.size = 3;
    let mut market = Market::with_people(seed);
    market.send(&rig, records);
    (rig, market)
}

/// An owner that commits so many epochs and dies: before its next commit, or right after it.
fn owner_that_dies(rig: &Rig, epochs: u32, fault: Fault) {
    let life = Life {
        fault: Some((epochs, fault)),
        reading: Reading {
            seed: u64::from(epochs),
            ..Reading::default()
        },
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap_err();
}

/// A follower that runs to the end once it took over.
fn follower(on_look: OnLook) -> Life {
    Life {
        on_look: Some(on_look),
        ..Life::default()
    }
}

fn assert_alerts_once(rig: &Rig) -> usize {
    let alerts = rig.committed(Output::Alerts);
    let ids: BTreeSet<String> = alerts
        .iter()
        .map(|alert| alert["alert_id"].to_string())
        .collect();
    assert_eq!(ids.len(), alerts.len(), "an alert is written once");
    alerts.len()
}

fn assert_all_taken(rig: &Rig) {
    let taken: u64 = rig.script().iter().map(|record| record.records()).sum();
    let sent: usize = rig.broker.lock().input.iter().map(Vec::len).sum();
    assert_eq!(taken, sent as u64, "every record was taken");
}

#[test]
fn a_follower_goes_on_as_a_restart_would_wherever_the_owner_died() {
    let mut alerts = 0;
    for (seed, epochs) in (400..).zip([0, 1, 3, 6]) {
        for fault in [Fault::Before, Fault::After] {
            println!("seed {seed}, dies at commit {epochs}, {fault:?}");
            let (rig, _) = market(seed, 180);
            let owners = rig.clone();
            let summary = rig
                .run(
                    Until::End,
                    follower(Box::new(move |look| {
                        if look == 1 {
                            owner_that_dies(&owners, epochs, fault);
                        }
                        true
                    })),
                )
                .unwrap();
            let committed = u64::from(epochs) + u64::from(fault == Fault::After);
            assert_eq!(summary.replayed_epochs, committed);
            assert_eq!(rig.broker.lock().owners(), 2);
            rig.check_committed();
            assert_all_taken(&rig);
            alerts += assert_alerts_once(&rig);
        }
    }
    assert!(alerts > 5, "{alerts}");
}

/// A follower beside owners that come and go: each of these looks finds a new one that commits
/// three epochs and dies.
fn beside_many_owners(rig: &Rig, market: Market) -> OnLook {
    let (owners, market) = (rig.clone(), Mutex::new(market));
    Box::new(move |look| {
        if look <= 60 && look % 10 == 1 {
            market.lock().unwrap().send_within(&owners, 60, 3);
            owner_that_dies(&owners, 3, Fault::Before);
        }
        true
    })
}

#[test]
fn a_follower_applies_each_epoch_once_as_it_is_committed() {
    for seed in 500..504 {
        println!("seed {seed}");
        let (rig, market) = market(seed, 100);
        let summary = rig
            .run(Until::End, follower(beside_many_owners(&rig, market)))
            .unwrap();
        assert_eq!(summary.replayed_epochs, 18, "each epoch of six owners");
        assert_eq!(rig.broker.lock().owners(), 7);
        rig.check_committed();
        assert_all_taken(&rig);
        assert!(assert_alerts_once(&rig) > 0);
    }
}

/// A follower begins with the state that an earlier process on its machine stored, and stores its own
/// once it took over.
#[test]
fn a_follower_begins_with_its_stored_state() {
    for seed in 800..803 {
        println!("seed {seed}");
        let (mut rig, market) = market(seed, 100);
        let owners = rig.clone();
        rig.store = Some(MemoryStore::default());
        owner_that_dies(&rig, 4, Fault::Before);
        let before = rig.script().len() as u64;
        let summary = rig
            .run(Until::End, follower(beside_many_owners(&owners, market)))
            .unwrap();
        assert_eq!((before, summary.replayed_epochs), (4, 18));
        rig.check_committed();
        assert_all_taken(&rig);
        assert_alerts_once(&rig);
        let store = rig.store.as_ref().unwrap();
        assert_eq!(store.lock().reads, 1);
        let head = store.lock().head.clone().unwrap();
        assert_eq!(head.epoch, rig.script().len() as u64);
        // The next start goes on from what the follower stored.
        let again = rig.run(Until::End, Life::default()).unwrap();
        assert_eq!((again.replayed_epochs, again.epochs), (0, 0));
        rig.check_committed();
    }
}

/// Everything that pages show, without names and facts, which are of the moment of reading.
#[derive(Debug, PartialEq)]
struct Shown {
    scores: BTreeMap<(String, String), (ShownScore, Vec<String>)>,
    pages: Vec<Vec<String>>,
    alerts: Vec<String>,
    lists: Vec<String>,
    letters: Vec<i64>,
    rulings: usize,
    feedback: usize,
}

fn shown(rig: &Rig, model: &ReadModel) -> Shown {
    let mut scores = BTreeMap::new();
    let (mut pages, mut lists, mut rulings) = (Vec::new(), Vec::new(), 0);
    for task in &rig.tasks {
        let page = model.scores(task.name, task.table, Default::default(), usize::MAX, None);
        let ids = page
            .scores
            .iter()
            .map(|one| one.record.entity_id.to_string());
        pages.push(ids.collect::<Vec<_>>());
        for one in &page.scores {
            let mut score = (**one).clone();
            (score.name, score.facts) = (None, serde_json::Value::Null);
            // A restart begins with the last record; the follower saw those before.
            score.history = Vec::new();
            let record = &score.record;
            let key = (record.task.to_string(), record.entity_id.to_string());
            let account = record.account_id.as_ref();
            let ruling = model.ruling(&record.entity_type, &record.entity_id, account);
            rulings += usize::from(ruling.is_some());
            let ruling = ruling.map(|ruling| format!("{ruling:?}"));
            scores.insert(key, (score, ruling.into_iter().collect()));
        }
        let newest = model.work_lists(task.name, None).1;
        lists.extend(newest.iter().map(|list| format!("{list:?}")));
    }
    let alerts = model.alerts(1000).1;
    let letters = model.dead_letters(None, None, LETTERS_KEPT).letters;
    let mut letters: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
    letters.sort_unstable();
    Shown {
        scores,
        pages,
        alerts: alerts
            .iter()
            .map(|alert| alert.record.alert_id.clone())
            .collect(),
        lists,
        letters,
        rulings,
        feedback: model.feedback().len(),
    }
}

#[test]
fn a_follower_shows_what_a_restart_shows() {
    for seed in [600, 601] {
        println!("seed {seed}");
        let (rig, market) = market(seed, 300);
        let model = Arc::new(ReadModel::new());
        let mut owners = beside_many_owners(&rig, market);
        let mut life = follower(Box::new(|_| true));
        let (stop, watched) = (life.stop.clone(), model.clone());
        life.read_model = model.clone();
        life.on_look = Some(Box::new(move |look| {
            if look == 62 {
                // Everything is applied since the look before, and nobody has taken over.
                let phase = watched.status().phase;
                let expected = Phase::Following {
                    lag_epochs: 0,
                    is_current: true,
                };
                assert_eq!(phase, expected);
            }
            stop.store(look == 72, Ordering::SeqCst);
            owners(look)
        }));
        let summary = rig.run(Until::End, life).unwrap();
        assert_eq!((summary.replayed_epochs, summary.epochs), (18, 0));

        let restarted = Arc::new(ReadModel::new());
        let life = Life {
            read_model: restarted.clone(),
            fault: Some((0, Fault::Before)),
            ..Life::default()
        };
        rig.run(Until::End, life).unwrap_err();
        let (follows, restarts) = (shown(&rig, &model), shown(&rig, &restarted));
        for (key, score) in &follows.scores {
            assert_eq!(Some(score), restarts.scores.get(key), "{key:?}");
        }
        assert!(follows == restarts, "{follows:?}\n{restarts:?}");
        assert_eq!(model.status().epoch, 18);
        let counts = [
            follows.scores.len(),
            follows.alerts.len(),
            follows.lists.len(),
            follows.letters.len(),
            follows.rulings,
        ];
        println!("scores, alerts, lists, letters, rulings: {counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}

#[test]
fn a_follower_that_is_cut_off_does_not_take_over() {
    let (rig, _) = market(700, 100);
    let owners = rig.clone();
    let mut life = follower(Box::new(|_| true));
    let stop = life.stop.clone();
    // For minutes there is no answer, or one within each second.
    life.on_look = Some(Box::new(move |look| {
        if look == 1 {
            owner_that_dies(&owners, 3, Fault::Before);
        }
        stop.store(look == 4_000, Ordering::SeqCst);
        look == 1 || (look > 2_000 && look % 20 != 0)
    }));
    rig.run(Until::End, life).unwrap();
    assert_eq!(rig.broker.lock().owners(), 1, "nobody took over");
    assert_eq!(rig.script().len(), 3);
}

#[test]
fn a_follower_takes_over_after_silence_and_not_before() {
    let (rig, _) = market(701, 100);
    let owners = rig.clone();
    let looks = Arc::new(AtomicU32::new(0));
    let seen = looks.clone();
    let life = follower(Box::new(move |look| {
        seen.store(look, Ordering::SeqCst);
        if look == 1 {
            owner_that_dies(&owners, 3, Fault::Before);
        }
        // It lives on without a commit, up to a look.
        if look <= 200 && look % 10 == 0 {
            owners.broker.sign("start-2", false);
        }
        true
    }));
    rig.run(Until::End, life).unwrap();
    let after = looks.load(Ordering::SeqCst) - 200;
    assert!(
        (LOOKS_OF_SILENCE..=LOOKS_OF_SILENCE + 2).contains(&after),
        "it took over {after} looks after the last sign"
    );
    rig.check_committed();
}

#[test]
fn an_owner_that_leaves_is_followed_at_once() {
    let (rig, market) = market(702, 150);
    let (owners, market) = (rig.clone(), Mutex::new(market));
    let looks = Arc::new(AtomicU32::new(0));
    let seen = looks.clone();
    let life = follower(Box::new(move |look| {
        seen.store(look, Ordering::SeqCst);
        if look == 1 {
            // Nobody has owned the outputs yet: it takes over at its first look.
            let first = follower(Box::new(|look| {
                assert_eq!(look, 1);
                true
            }));
            let summary = owners.run(Until::End, first).unwrap();
            assert!(summary.epochs > 3);
            market.lock().unwrap().send(&owners, 100);
        }
        true
    }));
    rig.run(Until::End, life).unwrap();
    let looks = looks.load(Ordering::SeqCst);
    assert!(looks <= 4, "it waited for {looks} looks");
    assert_eq!(rig.broker.lock().owners(), 2);
    rig.check_committed();
    assert_all_taken(&rig);
}

#[test]
fn a_stopped_owner_that_wakes_is_fenced() {
    for (seed, commit) in (710..).zip([0, 1, 4]) {
        println!("seed {seed}, stopped in commit {commit}");
        let (rig, _) = market(seed, 200);
        let (others, mut commits) = (rig.clone(), 0);
        // The owner stands still in the middle of a commit, for as long as another process lives.
        let watcher = Box::new(move |_: &_| {
            if commits == commit {
                others
                    .run(Until::End, follower(Box::new(|_| true)))
                    .unwrap();
            }
            commits += 1;
        });
        let life = Life {
            watcher: Some(watcher),
            ..Life::default()
        };
        let error = rig.run(Until::End, life).unwrap_err();
        assert!(
            matches!(error, RunError::Port(PortError::Fenced(_))),
            "{error}"
        );
        assert_eq!(rig.broker.lock().owners(), 2);
        rig.check_committed();
        assert_all_taken(&rig);
        assert_alerts_once(&rig);
    }
}

#[test]
fn epochs_between_the_decision_and_the_take_over_are_applied() {
    let (rig, _) = market(720, 300);
    let (owners, awake) = (rig.clone(), rig.clone());
    let life = Life {
        before_take_over: Some(Box::new(move || owner_that_dies(&awake, 2, Fault::After))),
        ..follower(Box::new(move |look| {
            if look == 1 {
                owner_that_dies(&owners, 3, Fault::After);
            }
            true
        }))
    };
    let summary = rig.run(Until::End, life).unwrap();
    assert_eq!(summary.replayed_epochs, 7);
    rig.check_committed();
    assert_all_taken(&rig);
    assert_alerts_once(&rig);
}

#[test]
fn partitions_that_the_owner_adds_are_followed() {
    let (rig, mut market) = market(730, 100);
    let owners = rig.clone();
    let life = follower(Box::new(move |look| {
        match look {
            1 => owner_that_dies(&owners, 3, Fault::Before),
            9 => {
                let table = owners.catalog.table("activities").unwrap().id;
                owners.broker.grow(InputPartition {
                    topic: "mkt.activities".into(),
                    partition: 2,
                    tables: vec![table],
                });
                market.send(&owners, 60);
                let whole = owners.run(Until::End, Life::default()).unwrap();
                assert!(whole.epochs > 3);
                market.send(&owners, 60);
            }
            _ => {}
        }
        true
    }));
    rig.run(Until::End, life).unwrap();
    assert_eq!(rig.script().last().unwrap().layout, 2);
    rig.check_committed();
    assert_all_taken(&rig);
}

#[test]
fn a_follower_of_another_version_goes_on_under_its_own() {
    let (rig, _) = market(740, 300);
    let owners = rig.clone();
    let mut next = rig.clone();
    next.bundle_id = "linear-2".into();
    let life = follower(Box::new(move |look| {
        if look == 1 {
            owner_that_dies(&owners, 6, Fault::Before);
        }
        true
    }));
    let summary = next.run(Until::End, life).unwrap();
    assert_eq!(summary.replayed_epochs, 6);
    let script = rig.script();
    let bundles: Vec<&str> = script
        .iter()
        .map(|record| record.bundle_id.as_deref().unwrap())
        .collect();
    assert!(bundles[..6].iter().all(|bundle| *bundle == "linear-1"));
    assert!(bundles.len() > 6 && bundles[6..].iter().all(|bundle| *bundle == "linear-2"));
    assert_all_taken(&rig);
    assert_alerts_once(&rig);
    // The same rows under the other version, by a restart.
    let restarted = rig.elsewhere();
    owner_that_dies(&restarted, 6, Fault::Before);
    let mut restarted = restarted;
    restarted.bundle_id = "linear-2".into();
    restarted.run_to_end();
    let (followed, restarted) = (rig.standings(), restarted.standings());
    assert!(followed.len() > 10);
    assert_eq!(
        followed.keys().collect::<Vec<_>>(),
        restarted.keys().collect::<Vec<_>>()
    );
    for (key, logit) in &followed {
        assert!((logit - restarted[key]).abs() <= 1e-4, "{key:?}");
    }
}
