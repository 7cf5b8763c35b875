//! Epochs bounded by work: what a tick decides does not depend on how many epochs it takes, nor on
//! deaths between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::{Output, SealedEpoch};
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{EpochRecord, TickStep, Until, WorkNote};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::Fault;
use super::memory_store::MemoryStore;
use super::rig::{KeyAndValue, Life, Rig};
use super::ticks::{Told, assert_told, committed, expected, market, random_reading};

/// Everything that ticks decide.
#[derive(Debug, PartialEq)]
struct Decided {
    /// Id, severity and tick of each alert.
    told: Told,
    /// Sentence of each alert by id.
    sentences: BTreeMap<String, String>,
    /// Keys and values of work lists and exposures, in order.
    lists: Vec<KeyAndValue>,
    exposures: BTreeSet<KeyAndValue>,
    /// Probability of each task and entity at the end.
    scores: BTreeMap<(String, String), String>,
}

impl Decided {
    fn of(rig: &Rig) -> Self {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let alerts = rig.committed(Output::Alerts).into_iter();
        let sentence =
            |alert: serde_json::Value| (text(&alert["alert_id"]), text(&alert["summary"]));
        let scores = rig.standings().into_iter();
        Self {
            told: committed(rig),
            sentences: alerts.map(sentence).collect(),
            lists: rig.bytes_of(Output::WorkLists),
            exposures: rig.bytes_of(Output::Exposures).into_iter().collect(),
            scores: scores
                .map(|(key, logit)| (key, format!("{logit:.6}")))
                .collect(),
        }
    }
}

fn notes(rig: &Rig) -> Vec<(EpochRecord, WorkNote)> {
    let script = rig.script().into_iter();
    script
        .map(|record| {
            let note = record.work_note().unwrap();
            (record, note)
        })
        .collect()
}

/// Runs processes until one ends by itself; the first `kills` die at a random commit.
fn run_with_deaths(rig: &Rig, kills: u32, generator: &mut ChaCha8Rng) {
    for life in 0.. {
        let fault = [Fault::Before, Fault::After][generator.random_range(0..2)];
        let fault = (life < kills).then(|| {
            let most = [20, 400][generator.random_range(0..2)];
            (generator.random_range(0..most), fault)
        });
        let reading = random_reading(generator);
        let one = Life {
            reading,
            fault,
            ..Life::default()
        };
        let outcome = rig.run(Until::End, one);
        if outcome.is_ok() {
            return;
        }
        assert!(life < kills, "{:?}", outcome.err());
        if let Some(store) = &rig.store {
            store.die([0, 0, 1, 3][generator.random_range(0..4)]);
        }
    }
}

/// Nodes of an epoch, and kills: no bound, a cell or two, some cells, about fifty.
const BOUNDS: [(u64, u32); 4] = [(u64::MAX, 0), (1, 2), (20, 6), (300, 4)];

#[test]
fn ticks_decide_alike_whatever_the_work_of_an_epoch_and_deaths_within_them() {
    let (mut alerts, mut lists, mut sliced, mut cut, mut later) = (0, 0, 0, 0, 0);
    for seed in 40..42 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let rig = market(seed, 120);
        let mut first: Option<Decided> = None;
        for (nodes, kills) in BOUNDS {
            let mut rig = rig.elsewhere();
            rig.options.epoch_nodes = Some(nodes);
            rig.options.max_records = [20_000, 7, 50][generator.random_range(0..3)];
            rig.store = (kills > 3).then(MemoryStore::default);
            run_with_deaths(&rig, kills, &mut generator);
            rig.check_committed();
            let found = Decided::of(&rig);
            assert_told(&found.told, &expected(&rig), seed);
            let first = first.get_or_insert_with(|| Decided::of(&rig));
            assert_told(&found.told, &first.told, seed);
            assert!(found.lists == first.lists, "seed {seed}, {nodes}: lists");
            assert_eq!(found.exposures, first.exposures, "seed {seed}, {nodes}");
            assert_eq!(found.sentences, first.sentences, "seed {seed}, {nodes}");
            assert_eq!(found.scores, first.scores, "seed {seed}, {nodes}");
            for (record, note) in notes(&rig) {
                sliced += u32::from(note.tick.is_some());
                cut += u32::from(note.tick.is_some() && record.records() > 0);
                let telling = note.tick.filter(|tick| tick.step == TickStep::Telling);
                later += telling.map_or(0, |tick| tick.alerts.len());
            }
        }
        let first = first.unwrap();
        alerts += first.told.len();
        lists += first.lists.len();
    }
    assert!(alerts > 5, "{alerts} alerts are too few to compare");
    assert!(lists > 20, "{lists} lists are too few to compare");
    assert!(sliced > 200, "{sliced} epochs within a tick");
    assert!(cut > 20, "{cut} epochs that took rows end within a tick");
    assert!(later > 0, "no alert waited for its explanation");
}

/// Caps take the most urgent of a tick: which these are is known once all of its cells are folded.
#[test]
fn caps_and_digests_are_of_whole_ticks() {
    let mut kept = 0;
    for seed in 50..52 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = market(seed, 120);
        rig.cap = Some(1);
        let mut first: Option<Decided> = None;
        for (nodes, kills) in [(u64::MAX, 0), (1, 4), (12, 6)] {
            let mut rig = rig.elsewhere();
            rig.options.epoch_nodes = Some(nodes);
            run_with_deaths(&rig, kills, &mut generator);
            rig.check_committed();
            let found = Decided::of(&rig);
            let first = first.get_or_insert_with(|| Decided::of(&rig));
            assert_eq!(found, *first, "seed {seed}, {nodes} nodes");
        }
        kept += first.unwrap().exposures.len();
    }
    assert!(kept > 5, "{kept} exposures are too few");
}

/// While a tick is half-closed nothing else moves: no rows, no time. The loop beats in each epoch.
#[test]
fn a_tick_beyond_the_work_of_an_epoch_takes_several_at_one_moment() {
    let mut rig = market(60, 200);
    rig.options.epoch_nodes = Some(6);
    let read_model: Arc<ReadModel> = Arc::default();
    let (beats, silent) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(0)));
    let (reader, last, count) = (read_model.clone(), beats.clone(), silent.clone());
    let watcher = Box::new(move |_: &SealedEpoch| {
        let now = reader.beats();
        if last.swap(now, Ordering::SeqCst) == now {
            *count.lock().unwrap() += 1;
        }
    });
    let life = Life {
        read_model,
        watcher: Some(watcher),
        ..Life::default()
    };
    rig.run(Until::End, life).unwrap();
    rig.check_committed();
    let mut before: Option<(i64, i64)> = None;
    let mut longest = 0;
    for (record, note) in notes(&rig) {
        if let Some((tick_ms, as_of)) = before {
            assert_eq!(record.records(), 0, "epoch {}", record.epoch);
            assert!(record.as_of >= as_of, "epoch {}", record.epoch);
            assert!(record.ticks.is_empty(), "epoch {}", record.epoch);
            if note.tick.is_some() {
                assert_eq!(record.as_of, tick_ms, "epoch {}", record.epoch);
            }
        }
        before = note.tick.as_ref().map(|tick| (tick.tick, record.as_of));
        longest = longest.max(note.tick.map_or(0, |tick| tick.epochs));
    }
    assert!(longest > 5, "a tick of {longest} epochs");
    assert_eq!(*silent.lock().unwrap(), 0, "epochs without a beat between");
}

/// A follower takes over amid a tick, wherever the owner died.
#[test]
fn a_follower_goes_on_within_a_tick() {
    let mut amid = 0;
    let reference = {
        let mut rig = market(70, 150);
        rig.options.epoch_nodes = Some(u64::MAX);
        rig.run_to_end();
        Decided::of(&rig)
    };
    for (commits, fault) in [
        (5, Fault::Before),
        (40, Fault::After),
        (90, Fault::Before),
        (170, Fault::After),
        (260, Fault::Before),
    ] {
        let mut rig = market(70, 150);
        rig.options.epoch_nodes = Some(6);
        let owners = rig.clone();
        let on_look = Box::new(move |look| {
            if look == 1 {
                let life = Life {
                    fault: Some((commits, fault)),
                    ..Life::default()
                };
                owners.run(Until::End, life).unwrap_err();
            }
            true
        });
        let life = Life {
            on_look: Some(on_look),
            ..Life::default()
        };
        rig.run(Until::End, life).unwrap();
        assert_eq!(rig.broker.lock().owners(), 2);
        rig.check_committed();
        assert_eq!(Decided::of(&rig), reference, "dies at commit {commits}");
        let owner = rig.script()[0].owner.clone();
        let last = notes(&rig);
        let mut last = last.iter().rev();
        let (_, note) = last.find(|(record, _)| record.owner == owner).unwrap();
        amid += u32::from(note.tick.is_some());
    }
    assert!(amid > 1, "{amid} owners died within a tick");
}

/// A closing tick is killed and goes on at its own moment, not at the next board.
#[test]
fn a_closing_tick_goes_on_at_its_moment_after_a_death() {
    let reference = market(80, 120);
    reference.run_to_end();
    let end = reference.script().last().unwrap().as_of;
    let expected = Decided::of(&reference);
    let mut died_amid = 0;
    for seed in 0..6 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = market(80, 120);
        rig.options.epoch_nodes = Some(30);
        let undisturbed = rig.elsewhere();
        undisturbed.run_to_end();
        let epochs = notes(&undisturbed);
        let closing = epochs.iter().filter(|(_, note)| note.is_closing).count();
        assert!(closing > 3, "{closing} epochs of the closing tick");
        let within = generator.random_range(1..closing as u32);
        let commits = epochs.len() as u32 - within;
        let life = Life {
            fault: Some((commits, Fault::Before)),
            ..Life::default()
        };
        rig.run(Until::End, life).unwrap_err();
        let script = notes(&rig);
        died_amid += u32::from(script.last().unwrap().1.closing.is_some());
        rig.run_to_end();
        rig.check_committed();
        assert_eq!(rig.script().last().unwrap().as_of, end);
        assert!(rig.script().last().unwrap().closing);
        assert_eq!(Decided::of(&rig), expected);
    }
    assert!(died_amid > 2, "{died_amid} deaths within the closing tick");
}
