//! Swaps of the deployed version while records come: recorded, followed by restarts and audits, and
//! without a ranking of two models.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_engine::ports::{Output, PortCause};
use leadpulse_engine::read_model::Sort;
use leadpulse_engine::{Machine, RunError, Until};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::Fault;
use super::market::Market;
use super::memory_store::MemoryStore;
use super::moves::{built, rig as small};
use super::releases::ReleaseDesk;
use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, Rig, TaskSpec};
use super::scorer::by_name;
use super::ticks::{PROMPT, assert_told, committed, expected, market, random_reading, tasks};

/// A rig as a release: another bundle, and other weights.
fn release(rig: &Rig, name: &str, change: impl FnOnce(&mut Rig)) -> Rig {
    let mut rig = rig.clone();
    rig.release = Some(name.to_owned());
    rig.desk = None;
    change(&mut rig);
    rig
}

fn other_weights(task: &str, column: &str) -> f64 {
    by_name(column, task)
}

/// Two models, another policy, and another list of tasks.
fn releases(rig: &Rig) -> [Rig; 4] {
    let second = |rig: &mut Rig| {
        rig.bundle_id = "linear-2".into();
        rig.weigh = other_weights;
    };
    [
        release(rig, "first", |_| {}),
        release(rig, "second", second),
        release(rig, "prompt", |rig| rig.tasks[0].policy = PROMPT),
        release(rig, "tasks", |rig| {
            second(rig);
            rig.tasks.remove(1);
            rig.tasks.reverse();
            rig.tasks.push(TaskSpec {
                name: "stays_90d",
                table: "accounts",
                policy: PROMPT,
                filter: Filter::Everyone,
            });
        }),
    ]
}

/// The releases of a script, each as often as it took over.
fn in_force(rig: &Rig) -> Vec<String> {
    let releases = rig.script().into_iter();
    let mut releases: Vec<String> = releases
        .map(|record| record.version_note().unwrap().release.unwrap())
        .collect();
    releases.dedup();
    releases
}

#[test]
fn alerts_of_swaps_follow_from_rows_ticks_and_recorded_versions() {
    let (mut alerts, mut swaps, mut amid) = (0, 0, 0);
    for seed in 40..46 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = market(seed, 400);
        let releases = releases(&rig);
        rig.release = Some("first".to_owned());
        for (max_records, soft_budget, kills) in [(20, 4, 0), (1, 1, 3), (7, 1, 8), (50, 99, 3)] {
            let mut looks = 0;
            let schedule = ["second", "first", "prompt", "second", "tasks", "first"].map(|name| {
                looks += generator.random_range(1..1 + 500 / max_records);
                (looks, name)
            });
            rig.desk = Some(ReleaseDesk::new(&releases, &schedule));
            let mut rig = rig.elsewhere();
            rig.options.max_records = max_records;
            rig.options.soft_budget = soft_budget;
            rig.store = (seed % 2 == 1).then(MemoryStore::default);
            // Releases share the budgets of the process, which are part of a version.
            let budgets = |one: &Rig| Rig {
                options: rig.options.clone(),
                ..one.clone()
            };
            rig.desk = Some(ReleaseDesk::new(
                &releases.each_ref().map(budgets),
                &schedule,
            ));
            for life_number in 0.. {
                let fault = [Fault::Before, Fault::After][generator.random_range(0..2)];
                let fault = (life_number < kills).then(|| (generator.random_range(0..30), fault));
                if let Some(store) = &rig.store {
                    store.die([0, 0, 2][generator.random_range(0..3)]);
                }
                let life = Life {
                    reading: random_reading(&mut generator),
                    fault,
                    ..Life::default()
                };
                match rig.run(Until::End, life) {
                    Ok(_) => break,
                    Err(error) => assert!(life_number < kills, "seed {seed}: {error}"),
                }
            }
            rig.check_committed();
            let found = committed(&rig);
            assert_told(&found, &expected(&rig), seed);
            alerts += found.len();
            swaps += in_force(&rig).len() - 1;
            amid += owners_amid_a_change(&rig);
        }
    }
    assert!(alerts > 100, "{alerts} alerts are too few to compare");
    assert!(swaps > 60, "{swaps} swaps are too few");
    assert!(amid > 2, "{amid} processes died amid a change of model");
}

/// Processes that took over while a change of model was under way.
fn owners_amid_a_change(rig: &Rig) -> usize {
    let script = rig.script();
    let pairs = script.windows(2);
    let amid = pairs.filter(|pair| {
        let note = pair[0].version_note().unwrap();
        pair[0].owner != pair[1].owner && note.rescoring.is_some()
    });
    amid.count()
}

/// Newest logit and bundle of each entity and task.
type Newest = BTreeMap<(String, String), (f64, String)>;

/// Ranks as they should be among scores of one model.
fn rank(newest: &Newest, key: &(String, String)) -> i64 {
    let (logit, _) = &newest[key];
    let of_task = newest.iter().filter(|((task, _), _)| *task == key.0);
    1 + of_task.filter(|(_, (other, _))| other > logit).count() as i64
}

#[test]
fn ranks_are_of_one_model_until_every_entity_has_a_new_score() {
    let mut rig = small();
    rig.options.soft_budget = 1;
    let mut machine = rig.machine();
    let mut market = Market::new(3);
    market.send(&rig, 600);
    let mut newest = Newest::new();
    let mut note = |rig: &Rig, epoch: &leadpulse_engine::Epoch<leadpulse_engine::Sealed>| {
        let scores = rig.outputs(&epoch.sealed.outputs, Output::Scores);
        for score in &scores {
            let text = |field: &str| score[field].as_str().unwrap().to_owned();
            let key = (text("task"), text("entity_id"));
            match score["logit"].as_f64() {
                Some(logit) => newest.insert(key, (logit, text("bundle_id"))),
                None => newest.remove(&key),
            };
        }
        (scores, newest.clone())
    };
    note(&rig, &rig.step(&mut machine, None));
    let (_, before) = note(&rig, &rig.step(&mut machine, None));
    let next = release(&rig, "second", |rig| {
        rig.bundle_id = "linear-2".into();
        rig.weigh = other_weights;
    });
    machine.replace(built(&next)).unwrap();
    let (mut older, mut newer, mut epochs) = (0, 0, 0);
    let merge = |rig: &Rig, market: &Market, from: &str, into: &str| {
        let fields = [
            ("account_id", Text(from)),
            ("updated_at", Time(market.now_ms)),
            ("merged_into_id", Text(into)),
        ];
        rig.send("accounts", market.now_ms, &fields);
    };
    while machine.graph().deferred() > 0 || epochs < 30 {
        epochs += 1;
        assert!(epochs < 500, "the change does not end");
        market.send_within(&rig, 2, 9);
        // Of those merged during the change the one has its new score by then, the other not yet.
        match epochs {
            2 => merge(&rig, &market, "A1", "A2"),
            5 => merge(&rig, &market, "A7", "A3"),
            _ => {}
        }
        let epoch = rig.step(&mut machine, None);
        let (scores, now) = note(&rig, &epoch);
        let rescoring = epoch.record.version_note().unwrap().rescoring;
        for score in scores.iter().filter(|score| !score["logit"].is_null()) {
            let text = |field: &str| score[field].as_str().unwrap().to_owned();
            let key = (text("task"), text("entity_id"));
            let found = score["rank"].as_i64();
            if rescoring.is_some() {
                let expected = before.contains_key(&key).then(|| rank(&before, &key));
                assert_eq!(found, expected, "{key:?} in epoch {}", epoch.record.epoch);
                older += 1;
            } else {
                assert_eq!(found, Some(rank(&now, &key)), "{key:?} after the change");
                newer += 1;
            }
        }
        if rescoring.is_none() {
            let bundles: BTreeSet<&str> = now.values().map(|(_, bundle)| &**bundle).collect();
            assert_eq!(bundles, BTreeSet::from(["linear-2"]), "a score was left");
        }
        if epochs == 1 {
            assert_eq!(epoch.record.alerts, 0, "a swap crosses no threshold");
        }
        if rescoring.is_some() {
            assert!(epoch.record.scored < 60, "{}", epoch.record.scored);
        }
    }
    let is_merged = |account: &str| !newest.contains_key(&("buys_90d".into(), account.into()));
    assert!(is_merged("A1") && is_merged("A7") && !is_merged("A2"));
    assert!(
        older > 30 && newer > 20,
        "{older} older ranks, {newer} newer"
    );
}

/// Steps until a change of model is complete. Returns the logits of all scores by then.
fn settled(
    rig: &Rig,
    machine: &mut Machine,
    standing: &mut Newest,
) -> BTreeMap<(String, String), f64> {
    while machine.graph().deferred() > 0 {
        let epoch = rig.step(machine, None);
        step_into(rig, &epoch, standing);
    }
    assert!(machine.rescoring().is_none());
    standing
        .iter()
        .map(|(key, (logit, _))| (key.clone(), *logit))
        .collect()
}

fn step_into(
    rig: &Rig,
    epoch: &leadpulse_engine::Epoch<leadpulse_engine::Sealed>,
    into: &mut Newest,
) {
    for score in rig.outputs(&epoch.sealed.outputs, Output::Scores) {
        let text = |field: &str| score[field].as_str().unwrap().to_owned();
        let key = (text("task"), text("entity_id"));
        match score["logit"].as_f64() {
            Some(logit) => into.insert(key, (logit, text("bundle_id"))),
            None => into.remove(&key),
        };
    }
}

#[test]
fn a_rollback_restores_every_score_bit_for_bit_also_amid_a_change() {
    let rig = small();
    let next = release(&rig, "second", |rig| {
        rig.bundle_id = "linear-2".into();
        rig.weigh = other_weights;
    });
    let mut machine = rig.machine();
    Market::new(8).send(&rig, 300);
    let mut standing = Newest::new();
    step_into(&rig, &rig.step(&mut machine, None), &mut standing);
    machine.restart(false);
    let first = settled(&rig, &mut machine, &mut standing);
    machine.replace(built(&next)).unwrap();
    let second = settled(&rig, &mut machine, &mut standing);
    assert_eq!(first.len(), second.len());
    assert!(first != second);
    machine.replace(built(&rig)).unwrap();
    assert!(settled(&rig, &mut machine, &mut standing) == first);
    machine.replace(built(&next)).unwrap();
    step_into(&rig, &rig.step(&mut machine, None), &mut standing);
    let waiting = machine.rescoring().unwrap();
    assert!(waiting.waiting > 0);
    machine.replace(built(&rig)).unwrap();
    let going_back = machine.rescoring().unwrap();
    assert_eq!(going_back.ranked_since, waiting.ranked_since, "ranks stay");
    assert!(settled(&rig, &mut machine, &mut standing) == first);
    let bundles = standing.values().all(|(_, bundle)| bundle == "linear-1");
    assert!(bundles, "every score names the model that gave it");
}

#[test]
fn a_release_that_does_not_fit_is_told_and_changes_nothing() {
    let mut rig = market(50, 200);
    rig.options.max_records = 10;
    rig.release = Some("first".to_owned());
    let quiet = rig.elsewhere();
    quiet.run_to_end();
    let foreign = release(&rig, "foreign", |rig| rig.fingerprint = "f00d".into());
    let first = release(&rig, "first", |_| {});
    rig.desk = Some(ReleaseDesk::new(&[first, foreign], &[(4, "foreign")]));
    let life = Life::default();
    let read_model = life.read_model.clone();
    rig.run(Until::End, life).unwrap();
    let bytes = |rig: &Rig, output| rig.bytes_of(output);
    for output in [Output::Scores, Output::Alerts, Output::PolicyState] {
        assert!(bytes(&rig, output) == bytes(&quiet, output), "{output:?}");
    }
    let refused = read_model.status().deployed.refused.clone().unwrap();
    assert_eq!(refused.release, "foreign");
    assert!(refused.reason.contains("--anew"), "{}", refused.reason);
    let remarks = read_model.conditions();
    let told = remarks.iter().find(|one| one.matter == "release").unwrap();
    assert!(!told.blocks && told.text.contains("foreign"), "{told:?}");
}

#[test]
fn a_restart_without_the_last_release_is_refused_with_what_to_do() {
    for store in [None, Some(MemoryStore::default())] {
        let mut rig = market(51, 200);
        rig.store = store;
        rig.options.max_records = 10;
        rig.release = Some("first".to_owned());
        let [first, second, ..] = releases(&rig);
        let desk = ReleaseDesk::new(&[first, second], &[(4, "second")]);
        rig.desk = Some(desk.clone());
        rig.run_killed_before(12);
        let epochs = rig.script().len();
        desk.remove("second");
        let RunError::Port(error) = rig.run(Until::End, Life::default()).unwrap_err();
        assert_eq!(error.cause(), PortCause::ReleaseMissing);
        let text = error.to_string();
        assert!(text.contains("second") && text.contains("--anew"), "{text}");
        assert_eq!(rig.script().len(), epochs, "nothing was committed");
    }
}

#[test]
fn a_task_that_a_swap_removed_leaves_no_list_and_no_ranking() {
    let mut rig = market(52, 400);
    rig.options.max_records = 10;
    rig.release = Some("first".to_owned());
    let [first, .., tasks_changed] = releases(&rig);
    rig.desk = Some(ReleaseDesk::new(&[first, tasks_changed], &[(30, "tasks")]));
    let life = Life::default();
    let read_model = life.read_model.clone();
    rig.run(Until::End, life).unwrap();
    rig.check_committed();
    let removed = tasks()[1].name;
    let page = |task| read_model.scores(task, "accounts", Sort::Score, 9, None);
    assert_eq!(page(removed).total, 0);
    assert!(page("buys_90d").total > 0 && page("stays_90d").total > 0);
    assert!(read_model.work_lists(removed, None).1.is_empty());
    let lists = rig.bytes_of(Output::WorkLists);
    let newest: BTreeMap<_, _> = lists.into_iter().collect();
    let of_removed =
        |key: &Option<Vec<u8>>| String::from_utf8_lossy(key.as_ref().unwrap()).contains(removed);
    let mut gone = newest.iter().filter(|(key, _)| of_removed(key));
    assert!(
        gone.clone().count() > 0,
        "no list was written before the swap"
    );
    assert!(gone.all(|(_, value)| value.is_none()), "a list stands");
    // The added task alerts for new crossings only: its levels are placed at its first tick.
    let script = rig.script();
    let swapped = script
        .iter()
        .find(|record| record.version_note().unwrap().release.as_deref() == Some("tasks"));
    let first_tick = script
        .iter()
        .filter(|record| record.epoch >= swapped.unwrap().epoch)
        .find_map(|record| record.ticks.first());
    let at_once = rig.committed(Output::Alerts).into_iter().filter(|alert| {
        alert["task"] == "stays_90d" && alert["as_of"].as_i64() == first_tick.map(|one| one.tick)
    });
    assert_eq!(at_once.count(), 0);
}
