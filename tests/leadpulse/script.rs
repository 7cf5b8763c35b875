//! The committed epoch records and the input topics are a script: a fresh machine that follows them
//! gives the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_engine::ports::{Output, OutputRecord, RecordBatch};
use leadpulse_engine::{
    Decoders, EngineOptions, EpochRecord, ErasureKey, Machine, MachineParts, SchemaVerdicts, Task,
};
use leadpulse_graph::{GraphOptions, Tracking};
use leadpulse_kafka::{OwnedRecord, SchemaPort};
use leadpulse_model::Bundle;
use leadpulse_policy::{CapOptions, PolicyOptions, WorkListOptions};
use leadpulse_project::{Anchors, Project, TaskSource};
use leadpulse_registry::FolderStore;
use leadpulse_schema::Catalog;

use super::scenario::{OUTPUTS, Scenario};

/// Distance of two ticks, as scenarios set it, milliseconds.
const TICK_MS: i64 = 3_600_000;

/// The parts of a record that readers of a topic see: key, value, headers, timestamp.
type Seen = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
    i64,
);

/// Steps a fresh machine along the epochs and compares every record of every output topic.
pub fn assert_script_gives_the_same(scenario: &Scenario, epochs: &[EpochRecord]) {
    let mut machine = machine(scenario);
    let (partitions, ..) = scenario.input_log();
    let mut input: BTreeMap<(String, i32), Vec<OwnedRecord>> = BTreeMap::new();
    for topic in &scenario.inputs {
        for record in scenario.read_topic(&topic.topic) {
            input
                .entry((topic.topic.clone(), record.partition))
                .or_default()
                .push(record);
        }
    }
    let folder = scenario.configured["schemas"].as_str().unwrap();
    let schemas = SchemaPort::new(FolderStore::load(folder.as_ref()).unwrap());
    let mut decoders = Decoders::default();
    let mut written: BTreeMap<usize, Vec<OutputRecord>> = BTreeMap::new();
    let mut owner: Option<&str> = None;
    for epoch in epochs {
        let mut batch = RecordBatch::default();
        // Another order than that of the engine's polls: no output may depend on it.
        for (index, interval) in epoch.partitions.iter().enumerate().rev() {
            let place = &partitions[index];
            let Some(records) = input.get(&(place.topic.clone(), place.partition)) else {
                continue;
            };
            let from = records.partition_point(|record| record.offset < interval.start);
            for record in records[from..]
                .iter()
                .take_while(|record| record.offset < interval.end)
            {
                let headers = record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()));
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                batch.push(
                    index as u32,
                    record.offset,
                    record.timestamp_ms,
                    key,
                    value,
                    headers,
                );
            }
        }
        let decoded = decoders.decode(
            &batch,
            &partitions,
            &scenario.catalog,
            &schemas,
            SchemaVerdicts::Store,
        );
        // Another process went on from here: its cells waited again.
        if owner.is_some_and(|owner| owner != epoch.owner) {
            machine.restart(false);
        }
        owner = Some(&epoch.owner);
        let stepped = machine.repeat(&batch, decoded, epoch);
        assert_eq!(stepped.record, *epoch);
        for record in stepped.sealed.outputs.iter().cloned() {
            written
                .entry(record.output as usize)
                .or_default()
                .push(record);
        }
    }
    for output in OUTPUTS {
        let expected = written.remove(&(output as usize)).unwrap_or_default();
        // Where retention counts from the append, the broker replaces timestamps.
        let is_stamped = scenario.options.retention.of(output).is_some();
        let timestamp_ms = |ms: i64| if is_stamped { 0 } else { ms };
        let expected: Vec<Seen> = expected
            .into_iter()
            .map(|r| {
                (
                    r.key,
                    r.value,
                    r.headers,
                    timestamp_ms(r.timestamp_ms.max(1)),
                )
            })
            .collect();
        let found: Vec<Seen> = scenario
            .committed(output)
            .into_iter()
            .map(|r| (r.key, r.value, r.headers, timestamp_ms(r.timestamp_ms)))
            .collect();
        let (found, expected) = (by_key(found, output), by_key(expected, output));
        if is_compacted(output) {
            assert_newest_of_each_key(&found, &expected, output);
            continue;
        }
        assert_eq!(found.len(), expected.len(), "records of {output:?}");
        assert!(
            found == expected,
            "{output:?} differ in their bytes, or in their order by key"
        );
    }
}

/// Brokers may drop all but the newest record of a key at any time.
fn is_compacted(output: Output) -> bool {
    matches!(
        output,
        Output::PolicyState | Output::CurrentScores | Output::WorkLists
    )
}

/// The newest record of each key is there, and of the older ones those that were not dropped.
fn assert_newest_of_each_key(found: &[Seen], expected: &[Seen], output: Output) {
    let newest = |records: &[Seen]| -> BTreeMap<Option<Vec<u8>>, Seen> {
        let by_key = records.iter().map(|one| (one.0.clone(), one.clone()));
        by_key.collect()
    };
    assert!(
        newest(found) == newest(expected),
        "the newest records of {output:?} differ"
    );
    let mut written = expected.iter();
    let is_written = |one: &Seen| written.any(|of| of == one);
    assert!(
        found.iter().all(is_written),
        "{output:?} has records that the script does not give, or in another order"
    );
}

/// Records of a key are in one partition, in order; dead letters keep the partition of no key.
fn by_key(mut records: Vec<Seen>, output: Output) -> Vec<Seen> {
    if output == Output::DeadLetters {
        records.sort()
    } else {
        records.sort_by(|a, b| a.0.cmp(&b.0))
    }
    records
}

/// A machine of the scenario's configuration, before its first epoch.
fn machine(scenario: &Scenario) -> Machine {
    let configured = scenario.configured["tasks"].as_array().unwrap();
    let text = |task: &toml::Value, name: &str| task[name].as_str().unwrap().trim().to_owned();
    let catalog: Arc<Catalog> = scenario.catalog.clone();
    let sources: Vec<TaskSource> = configured
        .iter()
        .map(|task| TaskSource {
            name: text(task, "name"),
            query: text(task, "query"),
            anchors: Anchors::default(),
            lateness_ms: None,
        })
        .collect();
    let project = Project::new(
        catalog.clone(),
        GraphOptions::default(),
        &sources,
        &BTreeMap::new(),
    )
    .unwrap();
    let bundle = Bundle::load(
        &scenario.dataset.bundle,
        |spec| Ok(project.feature_plan(spec.clone())),
        |name| catalog.table(name).map(|table| table.id),
    );
    let tasks = project
        .tasks
        .iter()
        .zip(configured)
        .map(|(task, configured)| Task {
            name: task.name.as_str().into(),
            entity: task.plan.entity,
            population: task.population.clone(),
            policy: configured["policy"]
                .clone()
                .try_into::<PolicyOptions>()
                .unwrap()
                .validated()
                .unwrap(),
            query: task.plan.text.clone(),
        });
    let (partitions, start, _) = scenario.input_log();
    let EngineOptions {
        soft_budget,
        explain_budget,
        explain_top,
        ..
    } = EngineOptions::default();
    Machine::new(MachineParts {
        worker: scenario.options.transactional_id.clone(),
        fingerprint: catalog.fingerprint(),
        graph: project.graph(Tracking::On),
        tasks: tasks.collect(),
        scorer: Arc::new(bundle.unwrap()),
        encoders: Arc::new(scenario.encoders().0),
        partitions,
        start,
        owner: String::new(),
        soft_budget,
        explain_budget,
        explain_top,
        tick_ms: TICK_MS,
        current_scores: true,
        caps: CapOptions::default().checked().unwrap(),
        work_lists: WorkListOptions::default()
            .checked(TICK_MS as u64, 0)
            .unwrap(),
        erasure_key: ErasureKey::default(),
        exports_spans: false,
        release: None,
    })
    .unwrap()
}
