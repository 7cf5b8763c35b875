//! A deployment whose history comes in stages, each when a test says so, and is judged beside an
//! undisturbed one.

use std::path::PathBuf;

use leadpulse_engine::EpochRecord;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::checks::assert_same_scores;
use super::dataset::accounts;
use super::exact::{Exact, exact};
use super::process::{Process, arg};
use super::scenario::Scenario;
use crate::harness::kafka;

/// Partitions of each input topic.
const PARTITIONS: i32 = 4;

/// A deployment whose topics are filled stage by stage.
pub struct Staged {
    pub scenario: Scenario,
    /// Folders of the stages that are not produced yet.
    stages: std::vec::IntoIter<PathBuf>,
}

impl Staged {
    /// A deployment with the first stage in its topics. `None` where there is no Kafka.
    pub fn new(name: &str) -> Option<Self> {
        let dataset = accounts();
        let mut scenario = Scenario::on(&kafka()?.servers, dataset, name, dataset.config.clone());
        scenario.set("ENGINE__CLOCK", "events");
        scenario.create_inputs(PARTITIONS);
        scenario.create_outputs();
        let stages = dataset.batches(&scenario.catalog).into_iter();
        let mut staged = Self { scenario, stages };
        staged.produce();
        Some(staged)
    }

    /// As [`Self::new`], in `make chaos-kafka` only.
    pub fn of_the_campaign(name: &str) -> Option<Self> {
        is_campaign(name).then(|| Self::new(name))?
    }

    /// Produces the next stage. Returns its number of records.
    #[track_caller]
    pub fn produce(&mut self) -> i64 {
        let stage = self.stages.next().expect("there is another stage");
        self.scenario.replay(&stage, &[])
    }

    /// Produces all stages that are left.
    #[track_caller]
    fn produce_rest(&mut self) {
        while self.stages.len() > 0 {
            self.produce();
        }
    }

    /// Produces the next stage while a worker stands still, which then finds all of it: what a worker reads amid the producing
    /// decides which records come late for their tick, and so some alerts.
    #[track_caller]
    pub fn produce_beside(&mut self, worker: &Process) {
        worker.pause();
        self.produce();
        worker.resume();
    }

    /// Begins to produce the next stage.
    #[track_caller]
    pub fn begin_to_produce(&mut self) -> Process {
        let stage = self.stages.next().expect("there is another stage");
        let data = arg(&stage);
        self.scenario.start("replay", &["--data", data, "--append"])
    }

    /// Waits until every record in the topics belongs to a committed epoch.
    #[track_caller]
    pub fn is_taken_by(&self, process: &mut Process) {
        let (_, _, ends) = self.scenario.input_log();
        let all: i64 = ends.iter().map(|end| end.0).sum();
        let is_taken = |epochs: &[EpochRecord]| {
            let last = epochs.last();
            last.is_some_and(|last| last.partitions.iter().map(|p| p.end).sum::<i64>() >= all)
        };
        assert!(
            self.scenario.await_epochs(process, is_taken),
            "it ended: {}",
            process.last_lines(8)
        );
    }

    /// Produces what is left and lets a run close. Requires exact outputs, nothing left for a second run, and
    /// the scores and the alerts of a deployment without faults.
    #[track_caller]
    pub fn judge(mut self) {
        self.produce_rest();
        let summary = self.scenario.run_to_end();
        let found = exact(&self.scenario);
        let again = self.scenario.run_to_end();
        assert_eq!((again.epochs, again.records), (0, 0), "after {summary:?}");
        let undisturbed = undisturbed();
        assert_same_scores(&found.closing, &undisturbed.closing);
        assert_eq!(
            found.alert_ids, undisturbed.alert_ids,
            "alerts of the undisturbed run"
        );
        tell(&found);
    }

    /// As [`Self::judge`], beside a deployment without faults on the same records, for records that are
    /// not the history's. A worker that was live amid them knew less at some ticks, so alerts are not compared.
    #[track_caller]
    pub fn judge_beside_itself(mut self) {
        self.produce_rest();
        self.scenario.run_to_end();
        let faultless = self.scenario.beside("faultless");
        faultless.run_to_end();
        let found = exact(&self.scenario);
        assert_same_scores(&found.closing, &exact(&faultless).closing);
        tell(&found);
    }

    /// As [`Self::judge`], of the outputs alone: scores are compared with nothing.
    #[track_caller]
    pub fn judge_outputs(mut self) {
        self.produce_rest();
        self.scenario.run_to_end();
        tell(&exact(&self.scenario));
    }

    /// A client for changes of topics and groups.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.scenario.options.brokers);
        config.create().unwrap()
    }
}

fn tell(found: &Exact) {
    println!(
        "{} epochs, {} scores, {} alerts, each once; {} entities in the closing tick",
        found.epochs,
        found.scores,
        found.alerts,
        found.closing.len()
    );
}

/// The outcome of the same stages without any fault. Made once per test run.
fn undisturbed() -> &'static Exact {
    static UNDISTURBED: std::sync::OnceLock<Exact> = std::sync::OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let mut staged = Staged::new("undisturbed").expect("there is a Kafka");
        staged.produce_rest();
        staged.scenario.run_to_end();
        let found = exact(&staged.scenario);
        assert!(
            !found.closing.is_empty() && found.alerts > 0,
            "the undisturbed run shows nothing"
        );
        found
    })
}

/// Whether the tests that the gate cannot afford run.
pub fn is_campaign(name: &str) -> bool {
    let is_on = std::env::var("LEADPULSE_CHAOS_KAFKA").is_ok_and(|value| value == "full");
    if !is_on {
        eprintln!("SKIPPED: {name} is a part of `make chaos-kafka` (LEADPULSE_CHAOS_KAFKA=full)");
    }
    is_on
}

/// Waits for an answer of an admin client.
pub fn admitted<T>(asked: impl Future<Output = Result<T, rdkafka::error::KafkaError>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(asked).unwrap()
}

/// Options of an admin client.
pub fn patiently() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(std::time::Duration::from_secs(20)))
}
