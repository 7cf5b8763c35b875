//! Moves between two epochs: the deployed version is replaced, the worker's state goes on in another machine.

use std::sync::Arc;

use leadpulse_engine::ports::Output;
use leadpulse_engine::{Deployed, Epoch, Machine, Sealed, SwapError};

use super::market::Market;
use super::rig::{Filter, POLICY, Rig, TaskSpec};
use super::scorer::by_name;

const ROUNDS: u32 = 8;

pub fn rig() -> Rig {
    let task = |name, table, filter| TaskSpec {
        name,
        table,
        policy: POLICY,
        filter,
    };
    let mut rig = Rig::new(
        &[
            task("buys_90d", "accounts", Filter::Everyone),
            task("replies", "contacts", Filter::ActiveWithin(14)),
        ],
        by_name,
    );
    rig.work_lists.size = 2;
    rig
}

/// A deployed version that shares nothing with those built before.
pub fn built(rig: &Rig) -> Arc<Deployed> {
    rig.machine().into_parts().0
}

/// Steps an undisturbed machine and another one, which `disturb` may exchange after each epoch. All epochs must have equal bytes.
pub fn assert_undisturbed(disturb: impl Fn(&Rig, Machine) -> Machine) {
    for seed in 0..4 {
        println!("seed {seed}");
        let rig = rig();
        let mut market = Market::new(seed);
        let (mut undisturbed, mut disturbed) = (rig.machine(), rig.machine());
        let (mut scores, mut alerts) = (0, 0);
        for round in 0..ROUNDS {
            market.send_within(&rig, 60, 9);
            let expected = rig.step(&mut undisturbed, None);
            let found = rig.step(&mut disturbed, None);
            assert_eq!(found.record, expected.record, "round {round}");
            assert!(
                found.sealed == expected.sealed,
                "round {round}: other bytes"
            );
            scores += found.record.scores;
            alerts += found.record.alerts;
            disturbed = disturb(&rig, disturbed);
        }
        assert!(
            scores > 50 && alerts > 0,
            "{scores} scores, {alerts} alerts"
        );
    }
}

#[test]
fn an_equal_deployed_version_between_two_epochs_changes_no_byte() {
    assert_undisturbed(|rig, mut machine| {
        machine.replace(built(rig)).unwrap();
        machine
    });
}

#[test]
fn a_worker_state_goes_on_in_a_fresh_machine() {
    assert_undisturbed(|rig, machine| {
        let (_, state) = machine.into_parts();
        Machine::from_parts(built(rig), state).unwrap()
    });
}

fn bundles(rig: &Rig, epoch: &Epoch<Sealed>) -> Vec<String> {
    let scores = rig.outputs(&epoch.sealed.outputs, Output::Scores);
    let bundle = |score: &serde_json::Value| score["bundle_id"].as_str().unwrap().to_owned();
    scores.iter().map(bundle).collect()
}

#[test]
fn another_bundle_between_two_epochs_scores_every_cell_again_as_a_restart_would() {
    let rig = rig();
    let mut machine = rig.machine();
    Market::new(3).send(&rig, 200);
    rig.step(&mut machine, None);
    let as_of_ms = machine.as_of().unwrap();
    let next = Rig {
        bundle_id: "linear-2".into(),
        weigh: |task, column| 2.0 * by_name(task, column),
        ..rig.clone()
    };
    machine.replace(built(&next)).unwrap();
    let mut found = Vec::new();
    for _ in 0..100 {
        if !machine.wants_tick(Some(as_of_ms.ms())) {
            break;
        }
        let epoch = rig.step(&mut machine, None);
        assert_eq!(epoch.record.bundle_id.as_deref(), Some("linear-2"));
        assert_eq!(epoch.record.alerts, 0, "a swap crosses no threshold");
        found.extend(bundles(&rig, &epoch));
    }
    assert_eq!(machine.graph().deferred(), 0);
    assert!(!found.is_empty() && found.iter().all(|bundle| bundle == "linear-2"));
}

#[test]
fn a_version_that_the_graph_was_not_built_for_is_refused_and_changes_nothing() {
    let rig = rig();
    let (mut refusing, mut undisturbed) = (rig.machine(), rig.machine());
    let mut market = Market::new(5);
    market.send(&rig, 100);
    rig.step(&mut refusing, None);
    rig.step(&mut undisturbed, None);
    let other_schemas = Rig {
        fingerprint: "f00d".into(),
        ..rig.clone()
    };
    let other_tasks = Rig {
        tasks: rig.tasks[..1].to_vec(),
        ..rig.clone()
    };
    let other_counters = Rig {
        tasks: vec![
            rig.tasks[0].clone(),
            TaskSpec {
                filter: Filter::Everyone,
                ..rig.tasks[1].clone()
            },
        ],
        ..rig.clone()
    };
    for (other, expected) in [
        (&other_schemas, SwapError::OtherSchemas),
        (&other_tasks, SwapError::OtherGraphOptions),
        (&other_counters, SwapError::OtherGraphOptions),
    ] {
        assert_eq!(refusing.replace(built(other)), Err(expected));
    }
    market.send(&rig, 100);
    assert!(rig.step(&mut refusing, None).sealed == rig.step(&mut undisturbed, None).sealed);
    let (_, state) = refusing.into_parts();
    let moved = Machine::from_parts(built(&other_schemas), state);
    assert!(matches!(moved, Err(SwapError::OtherVersion { .. })));
}
