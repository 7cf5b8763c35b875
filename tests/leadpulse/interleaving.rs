//! Topics read in any order relative to each other, and epochs cut anywhere, end with the same
//! scores.

use std::collections::BTreeMap;

use leadpulse_engine::{EpochRecord, PartitionInterval};

use super::checks::{assert_same_scores, committed};
use super::dataset::{Dataset, accounts, alone, retail};
use super::run_to_end::{Reference, reference};
use super::scenario::Scenario;

/// The ends of some tables' partitions now, by index; the layout of a deployment whose topics never
/// grew is in their order.
fn ends(scenario: &Scenario, tables: &[&str]) -> BTreeMap<usize, i64> {
    let topics: Vec<&str> = tables.iter().map(|table| scenario.topic(table)).collect();
    let (partitions, _, ends) = scenario.input_log();
    let of_tables = partitions
        .into_iter()
        .zip(ends)
        .enumerate()
        .filter(|(_, (place, _))| topics.contains(&place.topic.as_str()));
    of_tables.map(|(index, (_, end))| (index, end.0)).collect()
}

fn have_reached(epochs: &[EpochRecord], ends: &BTreeMap<usize, i64>) -> bool {
    let reached = |(index, at): (usize, &PartitionInterval)| {
        ends.get(&index).is_none_or(|end| at.end >= *end)
    };
    epochs
        .last()
        .is_some_and(|epoch| epoch.partitions.iter().enumerate().all(reached))
}

/// The largest topic is read to the end before a record of the others is produced. The engine lives
/// on, is stopped, and is started again to close.
fn ends_the_same_with_one_topic_far_ahead(dataset: &'static Dataset) {
    let Some(Reference {
        committed: ordered,
        closing,
        ..
    }) = reference(dataset)
    else {
        return;
    };
    let Some(mut scenario) = Scenario::new(dataset, "ahead") else {
        return;
    };
    scenario.create_outputs();
    scenario.set("ENGINE__CLOCK", "events");
    scenario.set(
        "ENGINE__MAX_RECORDS",
        &(dataset.max_records / 3).to_string(),
    );
    let others: Vec<&str> = scenario
        .catalog
        .tables
        .iter()
        .map(|t| t.name.as_str())
        .filter(|name| *name != dataset.largest)
        .collect();
    scenario.create_inputs(4);
    let ahead = scenario.replay(&dataset.data, &[dataset.largest]);
    let mut process = scenario.run(&[]);
    let largest = ends(&scenario, &[dataset.largest]);
    assert!(scenario.await_epochs(&mut process, |epochs| have_reached(epochs, &largest)));
    let behind = scenario.replay(&dataset.data, &others);
    assert!(
        2 * ahead > behind,
        "the largest topic has {ahead} records, the others {behind}"
    );
    let all = ends(&scenario, &others);
    assert!(scenario.await_epochs(&mut process, |epochs| have_reached(epochs, &all)));
    process.stop().done();
    let summary = scenario.run_to_end();
    // The tick that is open ends with the topics, then comes the closing tick, in as many epochs as
    // their work needs.
    assert!(
        summary.replayed > 0 && summary.records == 0 && summary.epochs >= 1,
        "{summary:?}"
    );

    let found = committed(&scenario);
    assert!(found.epochs.len() > ordered.epochs.len(), "shorter epochs");
    assert_eq!(
        found.epochs.last().unwrap().as_of,
        ordered.epochs.last().unwrap().as_of
    );
    assert_same_scores(&found.closing(&scenario), closing);
}

#[test]
fn a_market_ends_the_same_with_one_topic_far_ahead() {
    let _alone = alone();
    ends_the_same_with_one_topic_far_ahead(accounts());
}

#[test]
fn online_retail_ends_the_same_with_one_topic_far_ahead() {
    let _alone = alone();
    if let Some(dataset) = retail() {
        ends_the_same_with_one_topic_far_ahead(dataset);
    }
}
