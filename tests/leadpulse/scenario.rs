//! A deployment of a dataset on real Kafka, with topics, group and transactional id of its own, and
//! reads of its outputs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use leadpulse_engine::ports::{InputPartition, NextOffset, Output, PortError, Source};
use leadpulse_engine::{EpochRecord, OutputEncoders, PartitionLayout, ScriptRecord};
use leadpulse_kafka::{
    InputTopic, Isolation, KafkaMetrics, KafkaOptions, KafkaSource, OutputTopics, OwnedRecord,
    SchemaPort, TopicReader, TopicSpec, ensure_topics, output_topics, read_all,
};
use leadpulse_registry::FolderStore;
use leadpulse_schema::{Catalog, FolderRegistry, Frame, SchemaRef};
use serde::Deserialize;
use serde_json::Value as Json;
use toml::Value as Toml;

use super::dataset::Dataset;
use super::process::{Ended, PATIENCE, Process, arg, start};
use crate::harness::{kafka, repository, unique};
use crate::proxy::{Client, Proxy};

/// Every output topic.
pub const OUTPUTS: [Output; 9] = Output::ALL;

/// A deployment.
pub struct Scenario {
    pub dataset: &'static Dataset,
    pub catalog: Arc<Catalog>,
    /// Connection, ids and output topics, as the program gets them.
    pub options: KafkaOptions,
    /// Input topics.
    pub inputs: Vec<InputTopic>,
    config: PathBuf,
    /// Settings of the configuration file.
    pub configured: toml::Table,
    environment: Vec<(String, String)>,
    pub metrics: Arc<KafkaMetrics>,
    /// Holds the configuration file; shared by the deployments on the same topics.
    _dir: Arc<tempfile::TempDir>,
}

/// The summary that `run` prints at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub epochs: i64,
    pub replayed: i64,
    pub records: i64,
    pub accepted: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub unchanged: i64,
    pub scores: i64,
    pub alerts: i64,
}

/// Membership of an entity in the population.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Scored,
    Ineligible,
}

/// The reason for which an entity was scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Event,
    Board,
    Timer,
    BundleSwap,
    Closing,
}

/// The fields of a score record that tests read.
#[derive(Clone, Debug, Deserialize)]
pub struct Score {
    pub task: String,
    pub entity_id: String,
    pub epoch: i64,
    pub sequence: i32,
    pub as_of: i64,
    pub status: Status,
    pub reason: Option<String>,
    pub probability: Option<f64>,
    pub cause: Cause,
}

/// The fields of an alert record that tests read.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    pub alert_id: String,
    pub r#type: String,
    pub state: String,
    pub probability: f64,
    pub threshold: Option<f64>,
    pub epoch: i64,
}

/// Asks the cluster until it answers: topics just created have no leader for a moment.
fn answered<T>(mut ask: impl FnMut() -> Result<T, PortError>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Err(PortError::Retriable(message)) => {
                assert!(started.elapsed() < PATIENCE, "{message}")
            }
            answer => return answer.unwrap(),
        }
    }
}

/// The whole numbers in a text.
fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

impl Scenario {
    /// A deployment with empty topics. `None` where there is no Kafka.
    pub fn new(dataset: &'static Dataset, name: &str) -> Option<Self> {
        Self::with_config(dataset, name, dataset.config.clone())
    }

    /// Like [`Self::new`], with another configuration than the dataset's.
    pub fn with_config(dataset: &'static Dataset, name: &str, config: toml::Table) -> Option<Self> {
        Some(Self::on(&kafka()?.servers, dataset, name, config))
    }

    /// A deployment on a cluster.
    pub fn on(
        servers: &str,
        dataset: &'static Dataset,
        name: &str,
        mut config: toml::Table,
    ) -> Self {
        let prefix = unique(name);
        let dir = Arc::new(tempfile::tempdir().unwrap());
        for source in config["sources"].as_array_mut().unwrap() {
            let name = source.get("topic").unwrap_or(&source["table"]);
            let topic = format!("{prefix}.{}", name.as_str().unwrap());
            source
                .as_table_mut()
                .unwrap()
                .insert("topic".into(), Toml::String(topic));
        }
        let path = dir.path().join("leadpulse.toml");
        std::fs::write(&path, config.to_string()).unwrap();
        let catalog =
            Arc::new(Catalog::load(config["schemas"].as_str().unwrap().as_ref()).unwrap());
        let mut inputs: Vec<InputTopic> = Vec::new();
        for source in config["sources"].as_array().unwrap() {
            let topic = source["topic"].as_str().unwrap();
            let table = catalog.table(source["table"].as_str().unwrap()).unwrap().id;
            match inputs.iter_mut().find(|input| input.topic == topic) {
                Some(input) => input.tables.push(table),
                None => inputs.push(InputTopic {
                    topic: topic.into(),
                    tables: vec![table],
                }),
            }
        }
        let mut scenario = Self {
            dataset,
            catalog,
            options: KafkaOptions {
                brokers: servers.into(),
                ..KafkaOptions::default()
            },
            inputs,
            config: path,
            configured: config,
            environment: Vec::new(),
            metrics: KafkaMetrics::register(&prometheus::Registry::new()).unwrap(),
            _dir: dir,
        };
        scenario.name_outputs(&prefix);
        scenario
    }

    /// Another deployment on the same input.
    pub fn beside(&self, name: &str) -> Self {
        let mut other = self.again();
        other.name_outputs(&unique(name));
        other
    }

    /// The same deployment, for another process with settings of its own.
    pub fn again(&self) -> Self {
        Self {
            dataset: self.dataset,
            catalog: self.catalog.clone(),
            options: self.options.clone(),
            inputs: self.inputs.clone(),
            config: self.config.clone(),
            configured: self.configured.clone(),
            environment: self.environment.clone(),
            metrics: self.metrics.clone(),
            _dir: self._dir.clone(),
        }
    }

    /// Environment with names of its own for all topics and ids.
    fn name_outputs(&mut self, prefix: &str) {
        self.options.group_id = prefix.into();
        self.options.transactional_id = format!("{prefix}.0");
        self.options.outputs = OutputTopics {
            scores: format!("{prefix}.scores"),
            current_scores: format!("{prefix}.current-scores"),
            alerts: format!("{prefix}.alerts"),
            dead_letters: format!("{prefix}.dlq"),
            epochs: format!("{prefix}.epochs"),
            policy_state: format!("{prefix}.policy"),
            worklist: format!("{prefix}.worklist"),
            exposures: format!("{prefix}.exposures"),
            erasure_proofs: format!("{prefix}.erasure-proofs"),
        };
        let options = &self.options;
        let values = [
            ("BROKERS", &options.brokers),
            ("GROUP_ID", &options.group_id),
            ("TRANSACTIONAL_ID", &options.transactional_id),
            ("OUTPUTS__SCORES", &options.outputs.scores),
            ("OUTPUTS__CURRENT_SCORES", &options.outputs.current_scores),
            ("OUTPUTS__ALERTS", &options.outputs.alerts),
            ("OUTPUTS__DEAD_LETTERS", &options.outputs.dead_letters),
            ("OUTPUTS__EPOCHS", &options.outputs.epochs),
            ("OUTPUTS__POLICY_STATE", &options.outputs.policy_state),
            ("OUTPUTS__WORKLIST", &options.outputs.worklist),
            ("OUTPUTS__EXPOSURES", &options.outputs.exposures),
            ("OUTPUTS__ERASURE_PROOFS", &options.outputs.erasure_proofs),
        ];
        self.environment = values
            .map(|(name, value)| (format!("LEADPULSE_KAFKA__{name}"), value.clone()))
            .into();
        self.set("ENGINE__MAX_RECORDS", &self.dataset.max_records.to_string());
        self.set("ENGINE__LIVE_FROM", self.dataset.midway);
        // Years of history pass in seconds here: ten seconds of it are no span to look at.
        self.set("ENGINE__TICK", "1h");
    }

    /// Sends the program's requests through the proxy from now on. Returns the proxy's view of the
    /// program.
    pub fn through(&mut self, proxy: &Proxy) -> Arc<Client> {
        let id = self.options.group_id.clone();
        let kafka = self
            .configured
            .entry("kafka")
            .or_insert_with(|| Toml::Table(toml::Table::new()))
            .as_table_mut()
            .unwrap();
        let client = kafka
            .entry("client")
            .or_insert_with(|| Toml::Table(toml::Table::new()))
            .as_table_mut()
            .unwrap();
        client.insert("client.id".into(), Toml::String(id.clone()));
        self.write_config();
        self.set("KAFKA__BROKERS", &proxy.servers());
        proxy.client(&id)
    }

    /// Overrides a setting by environment: `ENGINE__MAX_RECORDS`.
    pub fn set(&mut self, name: &str, value: &str) {
        self.set_variable(&format!("LEADPULSE_{name}"), value);
    }

    /// Sets a variable of the environment of processes.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Creates the output topics, so that they can be watched before the program creates them.
    pub fn create_outputs(&self) {
        answered(|| ensure_topics(&self.options, &output_topics(&self.options)));
    }

    /// Creates the input topics.
    pub fn create_inputs(&self, partitions: i32) {
        let topics: Vec<TopicSpec> = self
            .inputs
            .iter()
            .map(|input| TopicSpec::log(&input.topic, partitions))
            .collect();
        answered(|| ensure_topics(&self.options, &topics));
    }

    /// The topic of a table.
    pub fn topic(&self, table: &str) -> &str {
        let table = self.catalog.table(table).unwrap().id;
        &self
            .inputs
            .iter()
            .find(|input| input.tables.contains(&table))
            .unwrap()
            .topic
    }

    /// The topic that a topic of the configuration has become.
    pub fn named(&self, topic: &str) -> String {
        format!("{}.{topic}", self.options.group_id)
    }

    /// Starts a command with this configuration.
    pub fn start(&self, command: &str, args: &[&str]) -> Process {
        self.start_with(command, args, &[])
    }

    /// Starts a command with this configuration and more variables.
    pub fn start_with(&self, command: &str, args: &[&str], more: &[(String, String)]) -> Process {
        start(
            &[&[command, "--config", arg(&self.config)], args].concat(),
            &[&self.environment, more].concat(),
        )
    }

    /// Writes the settings to the configuration file.
    pub fn write_config(&self) {
        std::fs::write(&self.config, self.configured.to_string()).unwrap();
    }

    /// Starts a subcommand with this configuration.
    pub fn start_under(&self, command: &str, subcommand: &str, args: &[&str]) -> Process {
        let config = arg(&self.config);
        let named = [command, subcommand, "--config", config];
        start(&[&named[..], args].concat(), &self.environment)
    }

    /// Produces a folder's files of some tables; of all tables if none is named. Returns the number
    /// of records.
    pub fn replay(&self, data: &Path, only: &[&str]) -> i64 {
        let tables = only.join(",");
        let mut args = vec!["--data", arg(data), "--append"];
        if !only.is_empty() {
            args.extend(["--only", &tables]);
        }
        numbers(&self.start("replay", &args).wait().done().out)[0]
    }

    /// Starts the engine.
    pub fn run(&self, args: &[&str]) -> Process {
        self.start(
            "run",
            &[&["--model", arg(&self.dataset.bundle), "--no-http"], args].concat(),
        )
    }

    /// Processes all records of the topics, and closes.
    pub fn run_to_end(&self) -> Summary {
        Summary::of(&self.run(&["--until-end"]).wait().done())
    }

    /// The input partitions with their starts and ends.
    pub fn input_log(&self) -> (Vec<InputPartition>, Vec<NextOffset>, Vec<NextOffset>) {
        let mut source = answered(|| KafkaSource::open(&self.options, &self.inputs, &self.metrics));
        (
            source.partitions().to_vec(),
            answered(|| source.starts()),
            answered(|| source.ends())
                .into_iter()
                .map(|end| end.stable)
                .collect(),
        )
    }

    /// The records that a `read_committed` reader finds in an output topic.
    pub fn committed(&self, output: Output) -> Vec<OwnedRecord> {
        self.read_topic(self.options.outputs.name(output))
    }

    /// Every committed record of a topic.
    pub fn read_topic(&self, topic: &str) -> Vec<OwnedRecord> {
        answered(|| read_all(&self.options, topic, Isolation::Committed, &self.metrics))
    }

    /// The committed epoch records.
    pub fn epochs(&self) -> Vec<EpochRecord> {
        epochs_of(&self.encoders().0, &self.committed(Output::Epochs))
    }

    /// The newest committed layout; `None` before the first epoch.
    pub fn layout(&self) -> Option<PartitionLayout> {
        let (encoders, _) = self.encoders();
        let entries = self
            .committed(Output::Epochs)
            .into_iter()
            .flat_map(|record| encoders.read_script(&record.value.unwrap()).unwrap());
        let mut layouts = entries.filter_map(|entry| match entry {
            ScriptRecord::Layout(layout) => Some(layout),
            ScriptRecord::Epoch(_) => None,
        });
        layouts.next_back()
    }

    /// The program's writers of outputs, and their schemas.
    pub fn encoders(&self) -> (OutputEncoders, SchemaPort<FolderStore>) {
        let schemas = SchemaPort::new(FolderStore::load(&repository().join("schemas")).unwrap());
        (OutputEncoders::new(&schemas).unwrap(), schemas)
    }

    /// The committed scores, by epoch and place in it.
    pub fn scores(&self) -> Vec<Score> {
        let mut scores: Vec<Score> = self.read(Output::Scores, "score.avsc");
        scores.sort_by_key(|score| (score.epoch, score.sequence));
        scores
    }

    /// The committed alerts, by epoch.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.read(Output::Alerts, "alert.avsc");
        alerts.sort_by_key(|alert| alert.epoch);
        alerts
    }

    /// An output topic, decoded with its shipped schema as any reader would.
    fn read<T: serde::de::DeserializeOwned>(&self, output: Output, schema: &str) -> Vec<T> {
        let json =
            std::fs::read_to_string(repository().join("schemas/outputs").join(schema)).unwrap();
        let id = SchemaRef::Id(FolderRegistry::id_of(&json).unwrap());
        let schema = apache_avro::Schema::parse_str(&json).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap();
        let decode = |record: OwnedRecord| {
            let value = record.value.unwrap();
            let frame = Frame::parse(&value, std::iter::empty()).unwrap();
            assert_eq!(frame.schema, id);
            let mut body = frame.body;
            // Through JSON, because Avro's own deserializer cannot leave out an enum.
            serde_json::from_value(Json::try_from(reader.read_value(&mut body).unwrap()).unwrap())
                .unwrap()
        };
        self.committed(output).into_iter().map(decode).collect()
    }

    /// Waits while a process runs until the committed epochs satisfy a condition. False when the
    /// process ended before. The output topics must exist.
    pub fn await_epochs(
        &self,
        process: &mut Process,
        enough: impl Fn(&[EpochRecord]) -> bool,
    ) -> bool {
        let (encoders, _) = self.encoders();
        let epochs = self.options.outputs.name(Output::Epochs);
        let mut reader = answered(|| {
            TopicReader::open(&self.options, epochs, Isolation::Committed, &self.metrics)
        });
        let (mut found, started) = (Vec::new(), Instant::now());
        loop {
            let runs = process.runs_on();
            let records = answered(|| reader.read_to_end());
            found.extend(epochs_of(&encoders, &records));
            if enough(&found) {
                return true;
            }
            if !runs {
                return false;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} epochs after {PATIENCE:?}",
                found.len()
            );
        }
    }
}

/// The epochs among records of the epochs topic.
fn epochs_of(encoders: &OutputEncoders, records: &[OwnedRecord]) -> Vec<EpochRecord> {
    let entries = records.iter().flat_map(|record| {
        encoders
            .read_script(record.value.as_ref().unwrap())
            .unwrap()
    });
    let epochs = entries.filter_map(|entry| match entry {
        ScriptRecord::Epoch(record) => Some(*record),
        ScriptRecord::Layout(_) => None,
    });
    epochs.collect()
}

impl Summary {
    /// Parses the output of `run`.
    #[track_caller]
    pub fn of(ended: &Ended) -> Self {
        let [epochs, replayed] = numbers(ended.line("epochs"))[..] else {
            panic!("{}", ended.out)
        };
        let [records, accepted, duplicate, dead_lettered, unchanged] =
            numbers(ended.line("records"))[..]
        else {
            panic!("{}", ended.out)
        };
        let [scores] = numbers(ended.line("scores"))[..] else {
            panic!("{}", ended.out)
        };
        let [alerts] = numbers(ended.line("alerts"))[..] else {
            panic!("{}", ended.out)
        };
        Self {
            epochs,
            replayed,
            records,
            accepted,
            duplicate,
            dead_lettered,
            unchanged,
            scores,
            alerts,
        }
    }
}
