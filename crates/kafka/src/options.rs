//! How the Kafka ports are configured: brokers, names, time limits, settings passed through to librdkafka.
//!
//! Deserialised from the `[kafka]` section, checked once by [`KafkaOptions::validate`]. Settings that the promises rest on (isolation,
//! idempotence, commits, start offsets) cannot be overridden. Passwords are never printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Serialize, Serializer};

use leadpulse_engine::ports::Output;

use crate::polled::DebugLines;

/// Names of the output topics. Those left out in the configuration follow from the name of the epochs topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "ConfiguredOutputs")]
pub struct OutputTopics {
    /// Every score record: the history.
    pub scores: String,
    /// The newest score record of each (task, entity): the current state. Empty: it is not written.
    pub current_scores: String,
    /// Alert records; one partition.
    pub alerts: String,
    /// Records that could not be used; one partition.
    pub dead_letters: String,
    /// Epoch records; one partition.
    pub epochs: String,
    /// Policy state; one partition.
    pub policy_state: String,
}

/// The `[kafka.outputs]` section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfiguredOutputs {
    scores: Option<String>,
    current_scores: Option<String>,
    alerts: Option<String>,
    dead_letters: Option<String>,
    epochs: Option<String>,
    policy_state: Option<String>,
}

impl From<ConfiguredOutputs> for OutputTopics {
    fn from(configured: ConfiguredOutputs) -> Self {
        let names = Self::beside(configured.epochs.as_deref().unwrap_or("scoring.epochs.v1"));
        Self {
            scores: configured.scores.unwrap_or(names.scores),
            current_scores: configured.current_scores.unwrap_or(names.current_scores),
            alerts: configured.alerts.unwrap_or(names.alerts),
            dead_letters: configured.dead_letters.unwrap_or(names.dead_letters),
            epochs: names.epochs,
            policy_state: configured.policy_state.unwrap_or(names.policy_state),
        }
    }
}

impl Default for OutputTopics {
    fn default() -> Self {
        ConfiguredOutputs::default().into()
    }
}

impl OutputTopics {
    /// The names that follow from the epochs topic's: its last `epochs` is replaced by the output's word, which is appended where there is none.
    /// `scoring.epochs.v1` → `scoring.alerts.v1`; `pulse` → `pulse-alerts`.
    pub fn beside(epochs: &str) -> Self {
        let name = |word: &str| match epochs.rfind("epochs") {
            Some(at) => format!("{}{word}{}", &epochs[..at], &epochs[at + "epochs".len()..]),
            None => format!("{epochs}-{word}"),
        };
        Self {
            scores: name("score-changes"),
            current_scores: name("scores"),
            alerts: name("alerts"),
            dead_letters: name("dlq"),
            epochs: epochs.to_owned(),
            policy_state: name("policy-state"),
        }
    }
}

impl OutputTopics {
    /// The topic of an output.
    pub fn name(&self, output: Output) -> &str {
        match output {
            Output::Scores => &self.scores,
            Output::CurrentScores => &self.current_scores,
            Output::Alerts => &self.alerts,
            Output::DeadLetters => &self.dead_letters,
            Output::Epochs => &self.epochs,
            Output::PolicyState => &self.policy_state,
        }
    }
    /// Whether an output has a topic: all have, except current scores when they are switched off.
    pub fn writes(&self, output: Output) -> bool {
        !self.name(output).is_empty()
    }
    fn fields(&self) -> [(&'static str, &str); 6] {
        [
            ("scores", &self.scores),
            ("current_scores", &self.current_scores),
            ("alerts", &self.alerts),
            ("dead_letters", &self.dead_letters),
            ("epochs", &self.epochs),
            ("policy_state", &self.policy_state),
        ]
    }
}

/// The `[kafka]` section of the configuration.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaOptions {
    /// Bootstrap servers, `host:port`, separated by commas.
    pub brokers: String,
    /// Consumer group that the positions are committed under. One per deployment, used by nothing else.
    pub group_id: String,
    /// Transactional id: whoever used it last owns the outputs. One per worker, the same after a restart.
    pub transactional_id: String,
    /// Names of the output topics.
    pub outputs: OutputTopics,
    /// Partitions of the score topics, if they have to be created. The other outputs have one.
    pub output_partitions: i32,
    /// Replicas of a topic that has to be created; −1 for the brokers' default.
    pub replication_factor: i32,
    /// Limit of one request for metadata, offsets or topic creation, milliseconds.
    pub request_timeout_ms: u64,
    /// Time without progress after which a transaction is in doubt, milliseconds: no record acknowledged, no step completed. A third of
    /// `transaction_timeout_ms` at most.
    pub commit_timeout_ms: u64,
    /// Age at which the broker aborts a transaction, milliseconds; 900000 at most (the brokers' own limit). It doubles by itself while an
    /// epoch takes longer to send.
    pub transaction_timeout_ms: u64,
    /// How long closing a client may take before it is left behind, milliseconds.
    pub close_timeout_ms: u64,
    /// Most bytes of fetched records that wait for the engine in our queue (librdkafka's own comes on top: `consumer.queued.max.messages.kbytes`).
    pub queue_bytes: usize,
    /// Settings passed through to librdkafka. A prefix `consumer.` or `producer.` limits a setting to those clients.
    #[serde(serialize_with = "serialize_redacted")]
    pub client: BTreeMap<String, String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            group_id: "leadpulse".into(),
            transactional_id: "leadpulse-0".into(),
            outputs: OutputTopics::default(),
            output_partitions: 4,
            replication_factor: -1,
            request_timeout_ms: 10_000,
            commit_timeout_ms: 10_000,
            transaction_timeout_ms: 60_000,
            close_timeout_ms: 3_000,
            queue_bytes: 32 << 20,
            client: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        write!(f, "KafkaOptions {text}")
    }
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", ".key.pem", "jaas"]
        .iter()
        .any(|part| key.contains(part))
}

fn serialize_redacted<S: Serializer>(
    client: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(client.iter().map(|(key, value)| {
        (
            key,
            if is_secret(key) {
                "***"
            } else {
                value.as_str()
            },
        )
    }))
}

/// A fault in the `[kafka]` section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A field has a value that cannot work.
    #[error("kafka.{field}: {problem}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A librdkafka setting that is not ours to change.
    #[error("kafka.client.\"{key}\" cannot be set: {reason}")]
    Reserved {
        /// The setting as written.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// librdkafka does not know a setting, or refuses its value.
    #[error("kafka.client: librdkafka refuses \"{key}\" = \"{value}\": {problem}")]
    Refused {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// librdkafka's words.
        problem: String,
    },
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads the input, from our positions only.
    Source,
    /// Asks for metadata and offsets, reads a topic to its end.
    Reader { committed: bool },
    /// Asks for committed offsets and ends of logs, again and again.
    Asker { committed: bool },
    /// Produces epochs.
    Sink,
    /// Produces without transactions.
    Producer,
    /// Creates topics.
    Admin,
}

/// Most bytes of a batch of several records. A larger record travels alone; small batches show progress on a slow link.
pub(crate) const BATCH_BYTES: usize = 131_072;
/// Most bytes of one record before compression. A request of more than 100 MiB (the brokers' socket.request.max.bytes) would not be refused:
/// the connection would be closed without a word, again and again.
const RECORD_BYTES: usize = 64 << 20;
/// Longest transaction that brokers allow by default (transaction.max.timeout.ms).
pub(crate) const LONGEST_TRANSACTION_MS: u64 = 900_000;

const RESERVED: [(&str, &str); 16] = [
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group_id"),
    ("transactional.id", "it is kafka.transactional_id"),
    (
        "transaction.timeout.ms",
        "it is kafka.transaction_timeout_ms",
    ),
    (
        "message.timeout.ms",
        "it follows from kafka.transaction_timeout_ms",
    ),
    (
        "delivery.timeout.ms",
        "it follows from kafka.transaction_timeout_ms",
    ),
    (
        "enable.auto.commit",
        "positions are committed by transactions only",
    ),
    (
        "enable.auto.offset.store",
        "positions are committed by transactions only",
    ),
    ("isolation.level", "aborted records must not be read"),
    (
        "auto.offset.reset",
        "where reading starts is decided by the committed epoch",
    ),
    ("enable.idempotence", "exactly once rests on it"),
    ("enable.partition.eof", "readers depend on it"),
    (
        "delivery.report.only.error",
        "acknowledged records are counted",
    ),
    (
        "log_level",
        "the sink reads librdkafka's protocol log; filter the log of this program instead",
    ),
    ("log.queue", "the sink reads librdkafka's protocol log"),
];

impl KafkaOptions {
    /// Checks names, limits and every librdkafka setting.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let fault = |field: &str, problem: String| {
            Err(OptionsError::Field {
                field: field.into(),
                problem,
            })
        };
        for (field, value) in [
            ("brokers", &self.brokers),
            ("group_id", &self.group_id),
            ("transactional_id", &self.transactional_id),
        ] {
            if value.trim().is_empty() {
                return fault(field, "must not be empty".into());
            }
        }
        let mut names = BTreeSet::new();
        let on = |(field, name): &(&str, &str)| *field != "current_scores" || !name.is_empty();
        for (field, name) in self.outputs.fields().into_iter().filter(on) {
            let legal = name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if name.is_empty() || name.len() > 249 || !legal {
                return fault(
                    &format!("outputs.{field}"),
                    format!("\"{name}\" is no topic name: 1 to 249 of a-z A-Z 0-9 . _ -"),
                );
            }
            if !names.insert(name) {
                return fault(
                    &format!("outputs.{field}"),
                    format!("\"{name}\" is used by another output too"),
                );
            }
        }
        if self.output_partitions < 1 {
            return fault(
                "output_partitions",
                format!("{} is less than 1", self.output_partitions),
            );
        }
        if self.replication_factor < 1 && self.replication_factor != -1 {
            return fault(
                "replication_factor",
                format!(
                    "{} is neither positive nor -1 (the brokers' default)",
                    self.replication_factor
                ),
            );
        }
        let limits = [
            ("request_timeout_ms", self.request_timeout_ms),
            ("commit_timeout_ms", self.commit_timeout_ms),
            ("close_timeout_ms", self.close_timeout_ms),
            ("transaction_timeout_ms", self.transaction_timeout_ms),
        ];
        for (field, value) in limits {
            if !(100..=86_400_000).contains(&value) {
                return fault(
                    field,
                    format!("{value} is not between 100 (0.1 s) and 86400000 (a day)"),
                );
            }
        }
        if self.transaction_timeout_ms > LONGEST_TRANSACTION_MS {
            let value = self.transaction_timeout_ms;
            return fault(
                "transaction_timeout_ms",
                format!("{value} is more than {LONGEST_TRANSACTION_MS}, which brokers refuse"),
            );
        }
        // Sending, positions and commit may each stand still for almost that long.
        if self.commit_timeout_ms * 3 > self.transaction_timeout_ms {
            let (value, limit) = (self.commit_timeout_ms, self.transaction_timeout_ms);
            return fault(
                "commit_timeout_ms",
                format!("{value} must be at most a third of transaction_timeout_ms ({limit})"),
            );
        }
        if self.queue_bytes < 1 << 20 {
            return fault(
                "queue_bytes",
                format!("{} is below 1048576 (1 MiB)", self.queue_bytes),
            );
        }
        self.validate_client()
    }

    fn validate_client(&self) -> Result<(), OptionsError> {
        for key in self.client.keys() {
            let bare = key
                .strip_prefix("consumer.")
                .or_else(|| key.strip_prefix("producer."))
                .unwrap_or(key);
            if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| *reserved == bare) {
                return Err(OptionsError::Reserved {
                    key: key.clone(),
                    reason,
                });
            }
        }
        for role in [Role::Source, Role::Sink, Role::Producer, Role::Admin] {
            self.client_config(role)
                .create_native_config()
                .map_err(|error| match error {
                    KafkaError::ClientConfig(_, problem, key, value) => {
                        let value = if is_secret(&key) { "***".into() } else { value };
                        OptionsError::Refused {
                            key,
                            value,
                            problem,
                        }
                    }
                    other => OptionsError::Field {
                        field: "client".into(),
                        problem: other.to_string(),
                    },
                })?;
        }
        Ok(())
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
    pub(crate) fn commit_timeout(&self) -> Duration {
        Duration::from_millis(self.commit_timeout_ms)
    }
    pub(crate) fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }
    pub(crate) fn close_timeout(&self) -> Duration {
        Duration::from_millis(self.close_timeout_ms)
    }

    /// librdkafka's configuration for a client: defaults of the role, then the user's settings, then what cannot be overridden.
    pub(crate) fn client_config(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        let consumes = matches!(
            role,
            Role::Source | Role::Reader { .. } | Role::Asker { .. }
        );
        let produces = matches!(role, Role::Sink | Role::Producer);
        // Below the transaction's limit, as librdkafka wants it, and above ours: the watchdog decides, before librdkafka repeats a request.
        let request_limit_ms = (self.transaction_timeout_ms / 2).min(60_000).to_string();
        let mut set = |pairs: &[(&str, &str)]| {
            for (key, value) in pairs {
                config.set(*key, *value);
            }
        };
        set(&[
            ("client.id", "leadpulse"),
            ("socket.nagle.disable", "true"),
            ("socket.keepalive.enable", "true"),
        ]);
        set(&[
            ("retry.backoff.ms", "5"),
            ("retry.backoff.max.ms", "50"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "1000"),
        ]);
        // A broker that is paused still accepts connections: only these limits tell it from a slow one (10 and 30 s by default).
        set(&[
            ("api.version.request.timeout.ms", "3000"),
            ("socket.connection.setup.timeout.ms", "5000"),
        ]);
        if consumes {
            set(&[
                ("fetch.wait.max.ms", "10"),
                ("fetch.min.bytes", "1"),
                ("fetch.queue.backoff.ms", "20"),
            ]);
            set(&[
                ("queued.min.messages", "20000"),
                ("queued.max.messages.kbytes", "65536"),
            ]);
            // A leader that was paused and replaced is noticed by this refresh only: its connection stays open.
            set(&[
                ("topic.metadata.refresh.interval.ms", "5000"),
                ("allow.auto.create.topics", "false"),
            ]);
        }
        if produces {
            set(&[
                ("compression.type", "lz4"),
                ("batch.size", &BATCH_BYTES.to_string()),
                ("queue.buffering.max.kbytes", "262144"),
            ]);
            // The Java client's partitioner: a key finds the same partition whoever produces it.
            set(&[("partitioner", "murmur2_random")]);
        }
        match role {
            // Back to back transactions wait this long, doubling, for the markers of the one before: it is the floor of commit latency.
            Role::Sink => set(&[
                ("retry.backoff.ms", "2"),
                ("retry.backoff.max.ms", "10"),
                ("linger.ms", "0"),
                ("socket.timeout.ms", &request_limit_ms),
                ("message.max.bytes", &RECORD_BYTES.to_string()),
            ]),
            Role::Producer => set(&[("linger.ms", "5")]),
            Role::Source | Role::Reader { .. } => set(&[("socket.timeout.ms", "15000")]),
            // Small questions, which another broker may answer as well.
            Role::Asker { .. } => set(&[("socket.timeout.ms", "4000")]),
            _ => {}
        }
        for (key, value) in &self.client {
            let (applies, key) =
                match (key.strip_prefix("consumer."), key.strip_prefix("producer.")) {
                    (Some(key), _) => (consumes, key),
                    (_, Some(key)) => (produces, key),
                    _ => (true, key.as_str()),
                };
            if applies {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &self.brokers);
        if consumes {
            let committed = !matches!(
                role,
                Role::Reader { committed: false } | Role::Asker { committed: false }
            );
            config.set("group.id", &self.group_id);
            config.set(
                "isolation.level",
                if committed {
                    "read_committed"
                } else {
                    "read_uncommitted"
                },
            );
            config
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false");
            config.set("auto.offset.reset", "error");
            config.set(
                "enable.partition.eof",
                if matches!(role, Role::Reader { .. } | Role::Asker { .. }) {
                    "true"
                } else {
                    "false"
                },
            );
        }
        if produces {
            config.set("enable.idempotence", "true").set("acks", "all");
        }
        if role == Role::Sink {
            config.set("transactional.id", &self.transactional_id);
            config.set(
                "transaction.timeout.ms",
                self.transaction_timeout_ms.to_string(),
            );
            config.set(
                "message.timeout.ms",
                self.transaction_timeout_ms.to_string(),
            );
            let debug = self.user_debug();
            config.set(
                "debug",
                if debug.is_empty() {
                    "protocol".into()
                } else {
                    format!("protocol,{debug}")
                },
            );
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config
    }

    /// The sink's configuration, for a producer with a transaction limit of its own.
    pub(crate) fn sink_config(&self, transaction_timeout: Duration) -> ClientConfig {
        let mut config = self.client_config(Role::Sink);
        let limit_ms = transaction_timeout.as_millis().to_string();
        config
            .set("transaction.timeout.ms", &limit_ms)
            .set("message.timeout.ms", &limit_ms);
        config
    }

    /// Debug contexts that the user set for the sink, separated by commas.
    fn user_debug(&self) -> String {
        let set = [self.client.get("debug"), self.client.get("producer.debug")];
        set.into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The sink's debug lines that the user asked for. The sink itself always reads those of the protocol.
    pub(crate) fn sink_debug_lines(&self) -> DebugLines {
        let debug = self.user_debug();
        let protocol = debug
            .split(',')
            .any(|context| matches!(context.trim(), "protocol" | "all"));
        DebugLines {
            protocol,
            others: !debug.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_client(key: &str, value: &str) -> KafkaOptions {
        KafkaOptions {
            client: BTreeMap::from([(key.into(), value.into())]),
            ..KafkaOptions::default()
        }
    }

    #[test]
    fn defaults_are_valid() {
        KafkaOptions::default().validate().unwrap();
    }

    #[test]
    fn faults_name_the_field() {
        let good = KafkaOptions::default;
        let outputs = |outputs| KafkaOptions { outputs, ..good() };
        let cases = [
            (
                KafkaOptions {
                    brokers: " ".into(),
                    ..good()
                },
                "kafka.brokers",
            ),
            (
                KafkaOptions {
                    transactional_id: String::new(),
                    ..good()
                },
                "kafka.transactional_id",
            ),
            (
                KafkaOptions {
                    commit_timeout_ms: 30_000,
                    ..good()
                },
                "kafka.commit_timeout_ms",
            ),
            (
                KafkaOptions {
                    commit_timeout_ms: 20_001,
                    ..good()
                },
                "a third of transaction_timeout_ms",
            ),
            (
                KafkaOptions {
                    transaction_timeout_ms: 900_001,
                    ..good()
                },
                "kafka.transaction_timeout_ms",
            ),
            (with_client("log_level", "0"), "protocol log"),
            (
                with_client("producer.delivery.report.only.error", "true"),
                "counted",
            ),
            (with_client("debug", "brokr"), "debug"),
            (
                KafkaOptions {
                    output_partitions: 0,
                    ..good()
                },
                "kafka.output_partitions",
            ),
            (
                KafkaOptions {
                    replication_factor: 0,
                    ..good()
                },
                "kafka.replication_factor",
            ),
            (
                KafkaOptions {
                    queue_bytes: 9,
                    ..good()
                },
                "kafka.queue_bytes",
            ),
            (
                outputs(OutputTopics {
                    alerts: "a b".into(),
                    ..OutputTopics::default()
                }),
                "kafka.outputs.alerts",
            ),
            (
                outputs(OutputTopics {
                    alerts: OutputTopics::default().scores,
                    ..OutputTopics::default()
                }),
                "used by another output",
            ),
            (
                with_client("isolation.level", "read_uncommitted"),
                "aborted records",
            ),
            (
                with_client("producer.enable.idempotence", "false"),
                "exactly once",
            ),
            (with_client("lingr.ms", "5"), "lingr.ms"),
            (with_client("producer.linger.ms", "soon"), "linger.ms"),
        ];
        for (options, expected) in cases {
            let error = options.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn outputs_that_are_left_out_are_named_after_the_epochs() {
        let read = |json: &str| serde_json::from_str::<OutputTopics>(json).unwrap();
        let all = |outputs: &OutputTopics| outputs.fields().map(|(_, name)| name.to_owned());
        let cases = [
            (
                "{}",
                [
                    "scoring.score-changes.v1",
                    "scoring.scores.v1",
                    "scoring.alerts.v1",
                    "scoring.dlq.v1",
                    "scoring.epochs.v1",
                    "scoring.policy-state.v1",
                ],
            ),
            (
                r#"{"epochs": "epochs-eu.epochs.v2", "alerts": "hot"}"#,
                [
                    "epochs-eu.score-changes.v2",
                    "epochs-eu.scores.v2",
                    "hot",
                    "epochs-eu.dlq.v2",
                    "epochs-eu.epochs.v2",
                    "epochs-eu.policy-state.v2",
                ],
            ),
            (
                r#"{"epochs": "pulse", "current_scores": ""}"#,
                [
                    "pulse-score-changes",
                    "",
                    "pulse-alerts",
                    "pulse-dlq",
                    "pulse",
                    "pulse-policy-state",
                ],
            ),
        ];
        for (json, expected) in cases {
            let outputs = read(json);
            assert_eq!(all(&outputs), expected, "{json}");
            KafkaOptions {
                outputs,
                ..KafkaOptions::default()
            }
            .validate()
            .unwrap();
        }
        assert_eq!(read("{}"), OutputTopics::default());
        // A configuration that is printed and read again names the same topics.
        let written = read(r#"{"epochs": "x.epochs", "current_scores": ""}"#);
        assert_eq!(read(&serde_json::to_string(&written).unwrap()), written);
        let error = serde_json::from_str::<OutputTopics>(r#"{"alert": "x"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `alert`"), "{error}");
    }

    #[test]
    fn overrides_reach_the_clients_they_are_meant_for() {
        let reach = |key: &str| {
            let options = with_client(key, "77");
            options.validate().unwrap();
            [Role::Source, Role::Sink, Role::Admin]
                .map(|role| options.client_config(role).get("socket.timeout.ms") == Some("77"))
        };
        assert_eq!(reach("socket.timeout.ms"), [true, true, true]);
        assert_eq!(reach("consumer.socket.timeout.ms"), [true, false, false]);
        assert_eq!(reach("producer.socket.timeout.ms"), [false, true, false]);
    }

    #[test]
    fn the_sink_reads_the_protocol_log_whatever_the_user_asks_for() {
        let debug = |options: &KafkaOptions, role| {
            options.client_config(role).get("debug").map(str::to_owned)
        };
        let (none, some) = (
            KafkaOptions::default(),
            with_client("producer.debug", "broker,msg"),
        );
        assert_eq!(debug(&none, Role::Sink).as_deref(), Some("protocol"));
        assert_eq!(
            debug(&some, Role::Sink).as_deref(),
            Some("protocol,broker,msg")
        );
        assert_eq!(
            (debug(&none, Role::Producer), debug(&some, Role::Source)),
            (None, None)
        );
        some.validate().unwrap();
        assert_eq!(
            none.sink_debug_lines(),
            DebugLines {
                protocol: false,
                others: false
            }
        );
        assert_eq!(
            some.sink_debug_lines(),
            DebugLines {
                protocol: false,
                others: true
            }
        );
        assert_eq!(
            with_client("debug", "all").sink_debug_lines(),
            DebugLines {
                protocol: true,
                others: true
            }
        );
        assert!(matches!(
            some.client_config(Role::Sink).log_level,
            RDKafkaLogLevel::Debug
        ));
    }

    #[test]
    fn a_longer_transaction_reaches_librdkafka() {
        let config = KafkaOptions::default().sink_config(Duration::from_secs(900));
        assert_eq!(
            (
                config.get("transaction.timeout.ms"),
                config.get("message.timeout.ms")
            ),
            (Some("900000"), Some("900000"))
        );
        config.create_native_config().unwrap();
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = with_client("sasl.password", "hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&options).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let error = serde_json::from_str::<KafkaOptions>(r#"{"broker": "x"}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `broker`"),
            "{error}"
        );
        let read: KafkaOptions =
            serde_json::from_str(r#"{"brokers": "x:1", "client": {"linger.ms": "1"}}"#).unwrap();
        assert_eq!(
            (read.brokers.as_str(), read.client["linger.ms"].as_str()),
            ("x:1", "1")
        );
    }
}
