//! C1 and C8: whatever the interleaving, the cuts, the crashes: committed = reference(script), and the end is the same.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::Output;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{ClockMode, EpochRecord, RESUMED_SECTION, RunError, RunSummary, Until};
use leadpulse_graph::DAY_MS;
use leadpulse_schema::Frame;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::{Fault, HandClock, Reading};
use super::market::Market;
use super::memory_store::MemoryStore;
use super::rig::{Filter, Life, POLICY, Rig, TaskSpec};
use super::scorer::by_name;

const DWELLING: &str = r#"{"bands":[{"name":"warm","enter":0.25},{"name":"hot","enter":0.45}],"threshold_up":0.35,"threshold_down":"hot",
    "fall_dwell":"0s","confirm":{"min_active_members":0,"min_kinds":0,"recency":"40000d"},"suppress":{"customers":false,"deals_of_others":false},
    "emit_step":{"logit":0.001},"min_dwell_ms":7200000,"cooldown_ms":0}"#;

fn tasks() -> Vec<TaskSpec> {
    vec![
        TaskSpec {
            name: "buys_90d",
            table: "accounts",
            policy: POLICY,
            filter: Filter::ActiveWithin(12),
        },
        TaskSpec {
            name: "engages_14d",
            table: "contacts",
            policy: DWELLING,
            filter: Filter::Has("seniority"),
        },
    ]
}

fn market(seed: u64, records: u64) -> (Rig, Market) {
    let rig = Rig::new(&tasks(), by_name);
    let mut market = Market::new(seed);
    market.send(&rig, records);
    (rig, market)
}

fn random_reading(generator: &mut ChaCha8Rng) -> Reading {
    Reading {
        seed: generator.random(),
        empty_ratio: [0.0, 0.05, 0.5][generator.random_range(0..3)],
        most: [1, 7, 100, usize::MAX][generator.random_range(0..4)],
        favourite: generator
            .random_bool(0.4)
            .then(|| generator.random_range(0..8_u64) as usize),
        breaks_at: generator
            .random_bool(0.3)
            .then(|| generator.random_range(1..80)),
        hiccups: 0,
    }
}

/// Runs processes that die at random points, one after the other, until one gets to its end.
fn run_with_crashes(
    rig: &mut Rig,
    generator: &mut ChaCha8Rng,
    deaths: &mut BTreeMap<String, u32>,
) -> RunSummary {
    for lives in 0.. {
        rig.options.max_records = [2, 5, 20, 200][generator.random_range(0..4)];
        let mortal = lives < 12;
        let fault = generator.random_bool(0.8).then(|| {
            let fault =
                [Fault::Before, Fault::After, Fault::Retriable][generator.random_range(0..3)];
            (generator.random_range(0..40), fault)
        });
        let mut reading = random_reading(generator);
        if !mortal {
            reading.breaks_at = None;
        }
        if let Some(store) = &rig.store {
            store.die([0, 0, 1, 3][generator.random_range(0..4)]);
        }
        match rig.run(
            Until::End,
            Life {
                reading,
                fault: fault.filter(|_| mortal),
                ..Life::default()
            },
        ) {
            Ok(summary) => return summary,
            Err(RunError::Port(error)) => *deaths.entry(error.to_string()).or_default() += 1,
        }
    }
    unreachable!("mortals end after 12 lives")
}

/// The largest distance between probabilities of two runs that must know the same entities.
fn distance(a: &BTreeMap<(String, String), f64>, b: &BTreeMap<(String, String), f64>) -> f64 {
    let keys = |m: &BTreeMap<(String, String), f64>| m.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(a), keys(b), "the same entities are scored");
    let p = leadpulse_features::probability;
    a.values()
        .zip(b.values())
        .map(|(x, y)| (p(*x) - p(*y)).abs())
        .fold(0.0, f64::max)
}

#[test]
fn committed_outputs_are_those_of_the_reference_whatever_crashes() {
    let mut deaths = BTreeMap::new();
    let (mut alerts, mut late, mut duplicate, mut dead, mut causes) = (0, 0, 0, 0, BTreeMap::new());
    let (mut resumed, mut reads, mut node_reads) = (0, 0, 0);
    for seed in 0..8 {
        println!("seed {seed}");
        let (mut rig, _) = market(seed, 500);
        let calm = rig.elsewhere();
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        rig.store = (seed % 2 == 1).then(|| match seed % 4 {
            1 => MemoryStore::of_cold_cells(0),
            _ => MemoryStore::default(),
        });
        run_with_crashes(&mut rig, &mut generator, &mut deaths);
        rig.check_committed();

        let script = rig.script();
        assert!(
            script.iter().rev().skip(1).all(|record| !record.closing)
                && script.last().unwrap().closing
        );
        let is_resumed = |r: &&EpochRecord| r.sections.contains_key(RESUMED_SECTION);
        resumed += script.iter().filter(is_resumed).count();
        reads += rig.store.as_ref().map_or(0, |store| store.lock().reads);
        node_reads += rig
            .store
            .as_ref()
            .map_or(0, |store| store.lock().node_reads);
        let taken: i64 = script.iter().map(|r| r.outcomes().records()).sum();
        let sent: usize = rig.broker.lock().input.iter().map(Vec::len).sum();
        assert_eq!(taken, sent as i64, "every record was taken");
        late += script.iter().map(|r| r.late).sum::<i64>();
        duplicate += script.iter().map(|r| r.duplicate).sum::<i64>();
        dead += script
            .iter()
            .flat_map(|r| &r.dead_lettered)
            .map(|d| d.count)
            .sum::<i64>();
        let ids: Vec<String> = rig
            .committed(Output::Alerts)
            .iter()
            .map(|a| format!("{} {} {}", a["alert_id"], a["state"], a["as_of"]))
            .collect();
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "an alert is written once");
        alerts += ids.len();
        for score in rig.committed(Output::Scores) {
            *causes
                .entry(score["cause"].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
        }

        // After the closing tick neither the faults nor the cuts nor the interleaving can be seen any more.
        let closed_at = script.last().unwrap().as_of;
        calm.run_to_end();
        assert_eq!(calm.script().last().unwrap().as_of, closed_at);
        assert!(distance(&rig.standings(), &calm.standings()) <= 1e-5);
        let scratch = rig.rebuilt_standings(closed_at);
        assert!(scratch.len() > 10, "{} entities", scratch.len());
        assert!(distance(&rig.standings(), &scratch) <= 1e-5);
    }
    // A run in which nothing happened proves nothing.
    println!("{deaths:?} {causes:?} alerts {alerts} late {late} duplicate {duplicate} dead {dead}");
    assert_eq!(deaths.len(), 4, "all ways to die were tried: {deaths:?}");
    println!("{reads} starts from a stored state, {resumed} from that of the last epoch");
    assert!(resumed > 2 && reads as usize > resumed + 2 && node_reads > 100);
    assert!(
        alerts > 20 && late > 5 && duplicate > 5 && dead > 20,
        "{alerts} {late} {duplicate} {dead}"
    );
    assert!(
        ["event", "timer", "board", "closing"]
            .iter()
            .all(|cause| causes.contains_key(*cause)),
        "{causes:?}"
    );
}

#[test]
fn a_closed_run_commits_nothing_more_and_goes_on_with_new_data() {
    for seed in [100, 101] {
        println!("seed {seed}");
        let (rig, mut market) = market(seed, 200);
        let first = rig.run_to_end();
        assert!(first.epochs > 1 && first.scores > 0);
        let before = rig.script().len();
        let again = rig.run_to_end();
        assert_eq!((again.epochs, again.replayed_epochs), (0, before as u64));
        assert_eq!(rig.script().len(), before);

        market.send(&rig, 150);
        let more = rig.run_to_end();
        assert!(more.epochs > 1);
        rig.check_committed();
        let script = rig.script();
        assert_eq!(script.iter().filter(|r| r.closing).count(), 2);
        let closed_at = script.last().unwrap().as_of;
        assert!(distance(&rig.standings(), &rig.rebuilt_standings(closed_at)) <= 1e-5);

        let at_once = rig.elsewhere();
        at_once.run_to_end();
        assert!(distance(&rig.standings(), &at_once.standings()) <= 1e-5);
    }
}

#[test]
fn a_live_engine_with_a_clock_replays_too() {
    for seed in 200..203 {
        println!("seed {seed}");
        let (mut rig, market) = market(seed, 250);
        rig.store = (seed == 201).then(|| MemoryStore::of_cold_cells(20_000));
        let market = Arc::new(Mutex::new(market));
        rig.options.epoch_floor_ms = 1;
        rig.options.clock = ClockMode::Wall;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let clock = HandClock::default();
        clock
            .0
            .store(1_700_000_000_000 + 40 * DAY_MS, Ordering::SeqCst);
        for life in 0..4 {
            let reading = Reading {
                breaks_at: None,
                ..random_reading(&mut generator)
            };
            let mut idle = Life {
                reading,
                clock: clock.clone(),
                fault: (life == 1).then_some((6, Fault::After)),
                ..Life::default()
            };
            let (ticking, stop, mut ticks) = (clock.clone(), idle.stop.clone(), 0);
            let (producers, target) = (market.clone(), rig.clone());
            idle.on_idle = Some(Box::new(move || {
                ticks += 1;
                if ticks % 10 == 0 {
                    producers.lock().unwrap().send_within(&target, 15, 1);
                }
                ticking.0.fetch_add(DAY_MS / 4, Ordering::SeqCst);
                stop.store(ticks >= 30, Ordering::SeqCst);
            }));
            let outcome = rig.run(Until::Stopped, idle);
            assert_eq!(outcome.is_err(), life == 1, "{outcome:?}");
        }
        rig.check_committed();
        let script = rig.script();
        assert!(
            script.iter().filter(|r| r.clock.live_at.is_some()).count() > 20,
            "the clock made epochs"
        );
        assert!(
            script
                .iter()
                .any(|r| r.clock.live_at.is_some() && r.accepted > 0),
            "events and clock met in an epoch"
        );
    }
}

/// What the read model shows: every score by (task, entity), and the alerts' names, newest first.
fn shown(
    rig: &Rig,
    model: &ReadModel,
) -> (
    BTreeMap<(String, String), leadpulse_records::ShownScore>,
    Vec<String>,
) {
    let mut scores = BTreeMap::new();
    for score in rig.committed(Output::Scores) {
        for view in model.get(
            score["entity_type"].as_str().unwrap(),
            score["entity_id"].as_str().unwrap(),
        ) {
            scores.insert(
                (
                    view.record.task.to_string(),
                    view.record.entity_id.to_string(),
                ),
                (*view).clone(),
            );
        }
    }
    (
        scores,
        model
            .alerts(1000)
            .1
            .iter()
            .map(|a| a.record.alert_id.clone())
            .collect(),
    )
}

#[test]
fn the_read_model_shows_committed_state_only_and_all_of_it() {
    let (mut rig, _) = market(300, 400);
    rig.options.max_records = 50;
    let model = Arc::new(ReadModel::new());
    let (seen, schemas) = (model.clone(), rig.clone());
    let watched = Arc::new(Mutex::new(0));
    let count = watched.clone();
    let watcher = Box::new(move |epoch: &leadpulse_engine::ports::SealedEpoch| {
        let committed = epoch.number - 1;
        assert_eq!(
            seen.status().epoch,
            committed,
            "the status is of the epoch before"
        );
        for record in epoch.outputs.iter().filter(|r| r.output == Output::Scores) {
            Frame::parse(record.value.as_ref().unwrap(), std::iter::empty()).unwrap();
            let score = schemas.read(record);
            let views = seen.get(
                score["entity_type"].as_str().unwrap(),
                score["entity_id"].as_str().unwrap(),
            );
            assert!(
                views
                    .iter()
                    .all(|view| view.record.epoch <= committed as i64),
                "a score of {} shows before its commit",
                epoch.number
            );
            *count.lock().unwrap() += 1;
        }
        assert!(
            seen.alerts(1000)
                .1
                .iter()
                .all(|alert| alert.record.epoch <= committed as i64)
        );
    });
    // The last epoch fails: what it decided must not show.
    let life = Life {
        watcher: Some(watcher),
        read_model: model.clone(),
        fault: Some((5, Fault::Before)),
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap_err();
    assert!(*watched.lock().unwrap() > 10, "the watcher saw scores");
    let last = rig.script().last().unwrap().clone();
    assert_eq!(
        (model.status().epoch, model.status().as_of_ms),
        (last.epoch as u64, Some(last.as_of))
    );

    let (scores, alerts) = shown(&rig, &model);
    let newest: BTreeMap<_, _> = rig
        .committed(Output::Scores)
        .into_iter()
        .map(|s| {
            (
                (
                    s["task"].as_str().unwrap().to_owned(),
                    s["entity_id"].as_str().unwrap().to_owned(),
                ),
                s,
            )
        })
        .collect();
    assert_eq!(
        scores.keys().collect::<Vec<_>>(),
        newest.keys().collect::<Vec<_>>()
    );
    for (key, view) in &scores {
        let record = &newest[key];
        assert_eq!(serde_json::to_value(&view.record).unwrap(), *record);
    }
    let written: Vec<String> = rig
        .committed(Output::Alerts)
        .iter()
        .rev()
        .map(|a| a["alert_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(alerts, written);

    // A process that takes over shows the same, and then goes on.
    let next = Arc::new(ReadModel::new());
    rig.run(
        Until::End,
        Life {
            read_model: next.clone(),
            fault: Some((0, Fault::Before)),
            ..Life::default()
        },
    )
    .unwrap_err();
    let (mut after, alerts_after) = shown(&rig, &next);
    assert_eq!(alerts_after, alerts);
    // Facts are those of the graph as it is now; everything else is as it was shown.
    for (key, view) in &mut after {
        assert!(view.facts.is_object(), "{key:?}: {view:?}");
        view.facts = scores[key].facts.clone();
        // Without a stored state only the last record is known.
        view.history = scores[key].history.clone();
    }
    assert_eq!(after, scores);
}

/// A cell that cannot be read back ends the run, with what to do; nothing of the epoch is written,
/// and the next start goes on.
#[test]
fn a_state_that_cannot_be_read_back_ends_the_run() {
    let (mut rig, mut market) = market(302, 300);
    let store = MemoryStore::of_cold_cells(0);
    rig.store = Some(store.clone());
    rig.run(Until::End, Life::default()).unwrap();
    market.send(&rig, 100);
    store.lock().is_broken = true;
    let before = rig.script().len();
    let ended = rig.run(Until::End, Life::default()).unwrap_err();
    let told = ended.to_string();
    assert!(
        told.starts_with("stored entities cannot be read back: as told.")
            && told.contains("store.dir"),
        "{told}"
    );
    assert_eq!(rig.script().len(), before);
    store.lock().is_broken = false;
    rig.run(Until::End, Life::default()).unwrap();
    rig.check_committed();
    assert!(store.lock().node_reads > 0);
}

/// With a stored state a start shows the past of scores; without one it begins with the last record.
#[test]
fn the_past_of_scores_is_shown_after_a_start_from_the_stored_state() {
    let (mut rig, mut market) = market(301, 300);
    rig.store = Some(MemoryStore::default());
    let before = Arc::new(ReadModel::new());
    let life = |read_model: &Arc<ReadModel>| Life {
        read_model: read_model.clone(),
        ..Life::default()
    };
    rig.run(Until::End, life(&before)).unwrap();
    market.send(&rig, 100);
    rig.run(Until::End, life(&before)).unwrap();
    let (stored, fresh) = (Arc::new(ReadModel::new()), Arc::new(ReadModel::new()));
    rig.run(Until::End, life(&stored)).unwrap();
    rig.store = None;
    rig.run(Until::End, life(&fresh)).unwrap();
    let mut longest = 0;
    for score in rig.committed(Output::Scores) {
        let (table, id) = (score["entity_type"].as_str(), score["entity_id"].as_str());
        let (table, id) = (table.unwrap(), id.unwrap());
        let past = |model: &ReadModel| -> Vec<Vec<leadpulse_records::ScorePoint>> {
            let scores = model.get(table, id).into_iter();
            scores.map(|score| score.history.clone()).collect()
        };
        if past(&stored).is_empty() {
            continue; // deleted
        }
        assert_eq!(past(&stored), past(&before), "{table} {id}");
        assert!(past(&fresh).iter().all(|past| past.len() == 1));
        longest = past(&stored).iter().map(Vec::len).fold(longest, usize::max);
    }
    assert!(longest > 3, "{longest} points");
}
