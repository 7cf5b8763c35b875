//! Files replayed into topics, scored with `run --until-end`: without faults, the reference of the
//! other scenarios.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_engine::EpochRecord;

use super::checks::{Committed, assert_same_scores, committed};
use super::dataset::{Dataset, accounts, alone, contacts, retail, whole_retail};
use super::scenario::{OUTPUTS, Scenario, Status, Summary};
use super::script::assert_script_gives_the_same;

/// A deployment that ran without faults, batch after batch of its dataset.
pub struct Reference {
    pub scenario: Scenario,
    pub committed: Committed,
    /// Scores at the end of the history.
    pub closing: BTreeMap<String, f64>,
    summaries: Vec<Summary>,
}

/// The run without faults of a dataset. `None` where there is no Kafka.
pub fn reference(dataset: &'static Dataset) -> Option<&'static Reference> {
    let run = || {
        let scenario = Scenario::new(dataset, "reference")?;
        let mut summaries = Vec::new();
        for batch in dataset.batches(&scenario.catalog) {
            let produced = scenario.replay(&batch, &[]);
            let summary = scenario.run_to_end();
            assert_eq!(summary.records, produced);
            summaries.push(summary);
        }
        let committed = committed(&scenario);
        let closing = committed.closing(&scenario);
        Some(Reference {
            scenario,
            committed,
            closing,
            summaries,
        })
    };
    dataset.reference.get_or_init(run).as_ref()
}

fn is_scored_as_in_a_backtest(dataset: &'static Dataset) {
    let Some(Reference {
        scenario,
        committed,
        summaries,
        ..
    }) = reference(dataset)
    else {
        return;
    };
    let mut epochs = 0;
    for summary in summaries {
        assert_eq!(summary.replayed, epochs);
        assert_eq!(
            summary.records,
            summary.accepted + summary.duplicate,
            "files in order of known time have nothing to refuse"
        );
        epochs += summary.epochs;
    }
    let told = |count: fn(&Summary) -> i64| summaries.iter().map(count).sum::<i64>();
    let sum = |count: fn(&EpochRecord) -> i64| committed.epochs.iter().map(count).sum::<i64>();
    assert_eq!(
        (told(|s| s.accepted), told(|s| s.scores), told(|s| s.alerts)),
        (sum(|e| e.accepted), sum(|e| e.scores), sum(|e| e.alerts))
    );
    // Without such records the test would prove nothing.
    assert!(
        epochs == committed.epochs.len() as i64 && epochs > 20 && !committed.alerts.is_empty(),
        "{summaries:?}"
    );

    let closings = committed.closings(scenario);
    assert_eq!(closings.len(), summaries.len());
    for (as_of_ms, closing) in &closings {
        let entities = dataset.entities_at(*as_of_ms);
        let mut backtest = dataset.backtest(*as_of_ms, &entities);
        let duplicates: BTreeSet<String> = dataset
            .merged()
            .into_iter()
            .map(|(_, duplicate)| duplicate)
            .collect();
        let unscored: Vec<_> = entities
            .iter()
            .filter(|key| !backtest.contains_key(*key) && !duplicates.contains(*key))
            .collect();
        assert!(
            unscored.is_empty(),
            "everyone known is scored, but {unscored:?}"
        );
        backtest.retain(|entity, _| closing.contains_key(entity));
        assert_same_scores(closing, &backtest);
    }

    let everything = || OUTPUTS.map(|output| scenario.committed(output));
    let before = everything();
    let nothing = Summary {
        epochs: 0,
        replayed: epochs,
        records: 0,
        accepted: 0,
        duplicate: 0,
        dead_lettered: 0,
        unchanged: 0,
        scores: 0,
        alerts: 0,
    };
    assert_eq!(scenario.run_to_end(), nothing);
    assert!(
        before == everything(),
        "a run with nothing to do wrote something"
    );
}

#[test]
fn accounts_of_a_market_are_scored_as_in_a_backtest() {
    let _alone = alone();
    is_scored_as_in_a_backtest(accounts());
}

#[test]
fn contacts_of_a_market_are_scored_as_in_a_backtest() {
    let _alone = alone();
    is_scored_as_in_a_backtest(contacts());
    let Some(Reference { committed, .. }) = reference(contacts()) else {
        return;
    };
    let left = committed
        .scores
        .iter()
        .filter(|score| score.status == Status::Ineligible)
        .count();
    assert!(
        left > 0,
        "nobody left the population: the dataset should be longer"
    );
}

#[test]
fn online_retail_is_scored_as_in_a_backtest() {
    let _alone = alone();
    if let Some(dataset) = retail() {
        is_scored_as_in_a_backtest(dataset);
    }
}

#[test]
fn the_committed_script_gives_the_same_again() {
    let _alone = alone();
    for dataset in [Some(accounts()), Some(contacts()), retail()]
        .into_iter()
        .flatten()
    {
        let Some(Reference {
            scenario,
            committed,
            ..
        }) = reference(dataset)
        else {
            return;
        };
        assert_script_gives_the_same(scenario, &committed.epochs);
    }
}

#[test]
fn the_whole_of_online_retail_is_scored_as_in_a_backtest() {
    let _alone = alone();
    let Some(dataset) = whole_retail() else {
        return;
    };
    is_scored_as_in_a_backtest(dataset);
}
