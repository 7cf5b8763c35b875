//! When a run ends early, and what it says; and what must not stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leadpulse_engine::ports::{Output, PortCause, PortError, ScriptFault};
use leadpulse_engine::read_model::{Phase, ReadModel};
use leadpulse_engine::{RunError, Until};
use leadpulse_graph::DAY_MS;

use super::broker::{Fault, Reading};
use super::market::Market;
use super::rig::Put::{Text, Time};
use super::rig::{Filter, Life, POLICY, Rig, TaskSpec};
use super::scorer::by_name;

const T0: i64 = 1_700_000_000_000;

pub fn rig() -> Rig {
    Rig::new(
        &[TaskSpec {
            name: "buys_90d",
            table: "accounts",
            policy: POLICY,
            filter: Filter::Everyone,
        }],
        by_name,
    )
}

pub fn filled() -> Rig {
    let mut rig = rig();
    rig.options.max_records = 30;
    Market::new(1).send(&rig, 150);
    rig
}

#[test]
fn a_fenced_worker_stops_and_shows_nothing_of_its_epoch() {
    let rig = filled();
    let model = Arc::new(ReadModel::new());
    let error = rig
        .run(
            Until::End,
            Life {
                fault: Some((2, Fault::Fenced)),
                read_model: model.clone(),
                ..Life::default()
            },
        )
        .unwrap_err();
    assert!(
        matches!(&error, RunError::Port(PortError::Fenced(_))),
        "{error}"
    );
    assert!(
        matches!(&error, RunError::Port(port) if port.cause() == PortCause::OtherOwner),
        "{error}"
    );
    let status = model.status();
    assert_eq!((status.phase, status.epoch), (Phase::Stopped, 2));
    assert_eq!(status.reason.as_deref(), Some(error.to_string().as_str()));
    assert_eq!(rig.script().len(), 2);
    rig.run_to_end();
    rig.check_committed();
}

#[test]
fn another_bundle_or_other_scores_go_on_where_the_deployment_was() {
    type Change = fn(Rig) -> Rig;
    let changes: [(&str, Change); 3] = [
        ("another bundle", |rig| Rig {
            bundle_id: "linear-2".into(),
            ..rig
        }),
        ("other schemas", |rig| Rig {
            fingerprint: "f00d".into(),
            ..rig
        }),
        // It says that it is the same bundle, but computes other scores: another processor, another library, another program.
        ("other scores", |rig| Rig {
            weigh: |task, column| 1.01 * by_name(task, column),
            ..rig
        }),
    ];
    for (what, change) in changes {
        println!("{what}");
        let before = filled();
        before.run_killed_before(3);
        let deployed = before.script()[0].deployed.clone();
        let alerts_before = before.committed(Output::Alerts).len();
        let after = change(before);
        let summary = after.run_to_end();
        assert!(
            summary.replayed_epochs == 3 && summary.epochs > 0,
            "{summary:?}"
        );
        let script = after.script();
        assert!(
            script
                .windows(2)
                .all(|pair| pair[1].epoch == pair[0].epoch + 1)
        );
        assert_eq!(
            script.last().unwrap().deployed != deployed,
            what != "other scores"
        );
        // After the closing tick every score is that of the program that runs now.
        let closed_at = script.last().unwrap().as_of;
        let (standings, rebuilt) = (after.standings(), after.rebuilt_standings(closed_at));
        assert_eq!(standings.len(), rebuilt.len());
        for (key, logit) in &standings {
            assert!(
                (logit - rebuilt[key]).abs() < 1e-4,
                "{key:?}: {logit} and {}",
                rebuilt[key]
            );
        }
        // No alert of a rescored entity fires because of the swap: those of the other bundle are muted.
        if what == "another bundle" {
            let scored: Vec<_> = after
                .committed(Output::Scores)
                .into_iter()
                .filter(|s| s["cause"] == "bundle_swap")
                .collect();
            let alerted = after.committed(Output::Alerts).split_off(alerts_before);
            for score in &scored {
                let same = |a: &&serde_json::Value| {
                    a["epoch"] == score["epoch"]
                        && a["entity_id"] == score["entity_id"]
                        && a["task"] == score["task"]
                };
                assert!(!alerted.iter().any(|a| same(&a)), "{score}");
            }
        }
    }
}

#[test]
fn epoch_records_that_are_no_script_are_refused() {
    type Damage = fn(&Rig);
    let script = PortCause::ScriptBroken;
    let cases: [(PortCause, Damage); 7] = [
        (script(ScriptFault::NumberGap), |rig| {
            drop(rig.broker.lock().epochs.remove(1))
        }),
        (PortCause::RecordsExpired, |rig| {
            drop(rig.broker.lock().epochs.remove(0))
        }),
        (PortCause::RecordsExpired, |rig| {
            rig.broker
                .lock()
                .epochs
                .iter_mut()
                .for_each(|e| e.outputs.clear())
        }),
        (script(ScriptFault::OtherEnd), |rig| {
            rig.broker.lock().epochs[2].outputs.clear()
        }),
        (script(ScriptFault::OtherOffset), |rig| {
            rig.broker.lock().epochs[2].positions[0].0 += 1
        }),
        (script(ScriptFault::OtherNonce), |rig| {
            rig.broker.lock().epochs[2].nonce.0 += 1
        }),
        (PortCause::TopicReplaced, |rig| {
            rig.broker.lock().created_again = Some(4)
        }),
    ];
    for (expected, damage) in cases {
        let rig = filled();
        rig.run_killed_before(3);
        damage(&rig);
        let error = rig.run(Until::End, Life::default()).unwrap_err();
        let RunError::Port(error) = error;
        assert!(matches!(error, PortError::Fatal(_)), "{error}");
        assert_eq!(error.cause(), expected, "{error}");
    }
}

#[test]
fn an_epoch_record_that_stands_twice_is_survived() {
    let rig = filled();
    rig.run_killed_before(3);
    {
        // A late commit request made the epoch's records visible, and the epoch was sent again.
        let mut cluster = rig.broker.lock();
        let twice = cluster.epochs[1].outputs.clone();
        cluster.epochs[1].outputs.extend(twice);
    }
    let summary = rig.run_to_end();
    assert!(
        summary.replayed_epochs == 3 && summary.epochs > 0,
        "{summary:?}"
    );
}

#[test]
fn input_that_was_removed_is_named() {
    let rig = filled();
    rig.run_killed_before(2);
    rig.broker.lock().starts[4] = 7;
    let RunError::Port(error) = rig.run(Until::End, Life::default()).unwrap_err();
    assert_eq!(error.cause(), PortCause::RecordsExpired);
    let text = error.to_string();
    assert!(
        text.contains("begin at offset 0 of partition 0 of 'mkt.activities'")
            && text.contains("starts at 7"),
        "{text}"
    );
}

#[test]
fn a_stop_during_the_replay_or_before_is_no_failure() {
    let rig = filled();
    rig.run_killed_before(3);
    let summary = rig
        .run(
            Until::Stopped,
            Life {
                stop: Arc::new(AtomicBool::new(true)),
                ..Life::default()
            },
        )
        .unwrap();
    assert_eq!(summary.epochs, 0);
    assert_eq!(rig.script().len(), 3);

    // The brokers are away: without a stop the replay would wait for them.
    let life = Life {
        reading: Reading {
            hiccups: u32::MAX,
            ..Reading::default()
        },
        ..Life::default()
    };
    let (stop, model) = (life.stop.clone(), life.read_model.clone());
    let stopper = std::thread::spawn(move || {
        while model.beats() < 2 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
    });
    let summary = rig.run(Until::End, life).unwrap();
    stopper.join().unwrap();
    assert_eq!((summary.epochs, summary.replayed_epochs), (0, 0));
}

#[test]
fn hiccups_of_the_source_pass() {
    let rig = filled();
    rig.run_killed_before(1);
    let reading = Reading {
        hiccups: 1,
        ..Reading::default()
    };
    let summary = rig
        .run(
            Until::End,
            Life {
                reading,
                ..Life::default()
            },
        )
        .unwrap();
    assert!(summary.epochs > 0 && summary.replayed_epochs == 1);
    rig.check_committed();
}

#[test]
fn a_topic_with_nothing_usable_is_read_once() {
    let rig = rig();
    for offset in 0..3 {
        rig.produce(4, T0 + offset, None, Some(b"junk".to_vec()));
    }
    let first = rig.run_to_end();
    assert_eq!(
        (first.accepted, first.dead_lettered, first.scores),
        (0, 3, 0)
    );
    let before = rig.script();
    assert!(
        before.iter().all(|r| !r.closing),
        "there is nothing to close"
    );
    assert_eq!(rig.run_to_end().epochs, 0, "nothing was there to add");

    let fields = [
        ("account_id", Text("A1")),
        ("updated_at", Time(T0 + DAY_MS)),
    ];
    rig.send("accounts", T0 + DAY_MS, &fields);
    assert_eq!(
        rig.run_to_end().scores,
        2,
        "the first score, and the closing tick's"
    );
    rig.check_committed();
    assert_eq!(
        rig.script().last().unwrap().as_of,
        (T0 + DAY_MS).div_euclid(3_600_000) * 3_600_000 + 3_600_000
    );
}

#[test]
fn times_before_1970_are_scored_at_1970_and_replay() {
    let rig = rig();
    let activity = |id: &str, at_ms: i64| {
        let fields = [
            ("activity_id", Text(id)),
            ("type", Text("meeting")),
            ("occurred_at", Time(at_ms)),
            ("account_id", Text("A1")),
        ];
        rig.send("activities", T0, &fields);
    };
    // 1938.
    activity("x", -1_000_000_000_000);
    rig.send(
        "accounts",
        0,
        &[
            ("account_id", Text("A1")),
            ("updated_at", Time(-1_000_000_000_000)),
        ],
    );
    let mut short = rig.clone();
    short.options.max_records = 1;
    short.run_killed_before(2);
    let moments: Vec<i64> = short.script().iter().map(|r| r.as_of).collect();
    assert!(
        moments.len() == 2 && moments[0] == 0 && moments[1] < T0,
        "the account was known in 1970: {moments:?}"
    );
    activity("y", T0);
    short.run_to_end();
    short.check_committed();
    assert!(short.script().last().unwrap().as_of > T0);
    assert!(rig.committed(Output::DeadLetters).is_empty());
}
