//! Topics change under a worker: partitions are added to inputs and to outputs under load.

use rdkafka::admin::NewPartitions;

use super::dataset::alone;
use super::staged::{Staged, admitted, patiently};

/// Gives topics so many partitions.
fn extend(staged: &Staged, topics: &[&str], count: usize) {
    let more: Vec<NewPartitions<'_>> = topics
        .iter()
        .map(|topic| NewPartitions::new(topic, count))
        .collect();
    let extended = admitted(staged.admin().create_partitions(&more, &patiently()));
    for outcome in extended {
        outcome.unwrap();
    }
}

#[test]
fn partitions_that_are_added_under_load_lose_no_record() {
    let _alone = alone();
    let Some(mut staged) = Staged::of_the_campaign("grown") else {
        return;
    };
    // Weeks of history pass in seconds here: in a partition that is noticed later they would be late.
    staged.scenario.set("GRAPH__LATE_HORIZON", "400d");
    let mut process = staged.scenario.run(&[]);
    staged.is_taken_by(&mut process);
    let (activities, views) = (
        staged.scenario.topic("activities").to_owned(),
        staged.scenario.topic("content_views").to_owned(),
    );
    let outputs = staged.scenario.options.outputs.clone();
    // While records come.
    let feeding = staged.begin_to_produce();
    extend(&staged, &[&activities], 6);
    extend(&staged, &[&outputs.scores, &outputs.current_scores], 6);
    extend(&staged, &[&outputs.alerts, &outputs.dead_letters], 3);
    feeding.wait().done();
    staged.is_taken_by(&mut process);
    // And once more, while the process is killed.
    extend(&staged, &[&views, &activities], 7);
    process.kill();
    staged.produce();
    let mut process = staged.scenario.run(&[]);
    staged.is_taken_by(&mut process);
    process.stop().done();
    let layout = staged.scenario.layout().unwrap();
    let of_activities = layout
        .partitions
        .iter()
        .filter(|place| place.topic == activities);
    assert_eq!(of_activities.count(), 7);
    staged.judge_beside_itself();
}
