//! Retention, or a person, deletes records that a start needs, or the positions of the group. A
//! start goes on from what is left where that is all it needs, and else ends with what to do.

use std::path::Path;

use leadpulse_engine::ports::Output;
use rdkafka::{Offset, TopicPartitionList};

use super::dataset::alone;
use super::staged::{Staged, admitted, patiently};
use super::standby::{Peer, metric_of};

/// Deletes the records of a topic below offsets, by partition.
fn delete_below(staged: &Staged, places: &[(String, i32, Offset)]) {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, *partition, *offset)
            .unwrap();
    }
    let deleted = admitted(staged.admin().delete_records(&list, &patiently()));
    for element in deleted.elements() {
        element.error().unwrap();
    }
}

/// Deletes every record of the input topics.
fn delete_inputs(staged: &Staged) {
    let (partitions, _, _) = staged.scenario.input_log();
    let places = partitions.into_iter();
    let all: Vec<_> = places
        .map(|place| (place.topic, place.partition, Offset::End))
        .collect();
    delete_below(staged, &all);
}

/// Deletes every record of the epochs topic.
fn delete_epochs(staged: &Staged) {
    let topic = staged.scenario.options.outputs.name(Output::Epochs);
    delete_below(staged, &[(topic.to_owned(), 0, Offset::End)]);
}

/// Deletes the positions of the deployment's group.
fn delete_group(staged: &Staged) {
    let group = staged.scenario.options.group_id.as_str();
    for outcome in admitted(staged.admin().delete_groups(&[group], &patiently())) {
        outcome.unwrap();
    }
}

/// A deployment whose first stage is committed and stored, also as a snapshot, by a process that
/// was stopped. State and snapshots lie in `dir`.
fn stored(staged: Option<Staged>, dir: &Path) -> Option<Staged> {
    let mut staged = staged?;
    keep_state(&mut staged, dir);
    let mut worker = Peer::start(&staged.scenario);
    staged.is_taken_by(&mut worker.process);
    let last = staged.scenario.epochs().last().unwrap().epoch as f64;
    for name in ["leadpulse_store_epoch", "leadpulse_snapshot_epoch"] {
        worker.answers("/metrics", |_, text| metric_of(text, name) >= Some(last));
    }
    worker.process.stop().done();
    Some(staged)
}

fn keep_state(staged: &mut Staged, dir: &Path) {
    let place = |name: &str| dir.join(name).to_string_lossy().into_owned();
    staged.scenario.set("STORE__DIR", &place("state"));
    staged
        .scenario
        .set("STORE__SNAPSHOTS__TO", &place("snapshots"));
    staged.scenario.set("STORE__SNAPSHOTS__EVERY", "1s");
}

/// Starts a process that has to go on, and stops it once it took everything.
#[track_caller]
fn goes_on(staged: &Staged, words: &str) {
    let mut process = staged.scenario.run(&[]);
    assert!(process.logs(words), "{}", process.last_lines(8));
    staged.is_taken_by(&mut process);
    process.stop().done();
}

#[track_caller]
fn is_refused(staged: &Staged, words: &[&str]) {
    let epochs = staged.scenario.epochs().len();
    staged.scenario.run(&[]).wait().failed(1, words);
    assert_eq!(staged.scenario.epochs().len(), epochs);
}

#[test]
fn a_start_needs_no_records_that_its_state_or_a_snapshot_has() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut staged) = stored(Staged::of_the_campaign("retention"), dir.path()) else {
        return;
    };
    delete_inputs(&staged);
    goes_on(&staged, "stored state read");

    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    staged.produce();
    goes_on(&staged, "the state is that of a snapshot");

    let mut without = staged.scenario.again();
    let empty = dir.path().join("empty");
    without.set("STORE__DIR", &empty.to_string_lossy());
    without.set("STORE__SNAPSHOTS__TO", "");
    let ended = without.run(&[]).wait();
    ended.failed(
        1,
        &[
            "retention has removed some",
            "Start a new deployment",
            "or with store.dir",
        ],
    );
    staged.judge();
}

/// A folder whose files are damaged gives no state, and the records from the beginning are gone.
#[test]
fn a_snapshot_takes_the_place_of_a_damaged_state() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut staged) = stored(Staged::of_the_campaign("retention-damaged"), dir.path()) else {
        return;
    };
    delete_inputs(&staged);
    damage(&dir.path().join("state"));
    staged.produce();
    goes_on(&staged, "the state is that of a snapshot");
    staged.judge();
}

/// Overwrites the middle of every file below a folder.
fn damage(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 4..bytes.len() * 3 / 4;
        bytes[middle].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn records_that_nobody_read_are_never_passed_over() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut staged) = stored(Staged::of_the_campaign("retention-lost"), dir.path()) else {
        return;
    };
    // While no process runs, records come and go.
    staged.produce();
    delete_inputs(&staged);
    is_refused(
        &staged,
        &["retention has removed some", "Start a new deployment"],
    );
    let mut without = staged.scenario.again();
    let empty = dir.path().join("empty");
    without.set("STORE__DIR", &empty.to_string_lossy());
    without.set("STORE__SNAPSHOTS__TO", "");
    without.run(&[]).wait().failed(1, &["retention"]);
}

#[test]
fn a_start_without_its_epoch_records_is_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(staged) = stored(Staged::of_the_campaign("retention-epochs"), dir.path()) else {
        return;
    };
    delete_epochs(&staged);
    let words = ["epochs topic", "retention", "delete the folder"];
    staged.scenario.run(&[]).wait().failed(1, &words);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let ended = staged.scenario.run(&[]).wait();
    ended.failed(1, &["epoch", "retention", "new deployment"]);
}

/// The tail of the epochs topic is the authority where the group's positions are gone.
#[test]
fn a_start_without_the_positions_of_its_group_goes_on_from_the_epochs_topic() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut staged) = stored(Staged::new("group-gone"), dir.path()) else {
        return;
    };
    delete_group(&staged);
    goes_on(&staged, "stored state read");

    // And without a stored state, by rows; with records that nobody has read.
    staged.produce();
    delete_group(&staged);
    std::fs::remove_dir_all(dir.path()).unwrap();
    goes_on(&staged, "rows applied");

    // While a process runs, too.
    let mut process = staged.scenario.run(&[]);
    assert!(process.logs("rows applied"), "{}", process.last_lines(8));
    delete_group(&staged);
    staged.produce_beside(&process);
    staged.is_taken_by(&mut process);
    process.stop().done();
    staged.judge();
}
