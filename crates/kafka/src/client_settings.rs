//! The librdkafka settings of each client, with the reason for each.
//!
//! Every setting is described in librdkafka's
//! [CONFIGURATION.md](https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md).
//! Defaults come first, then `kafka.client` of the configuration, then the settings that the
//! promises rest on.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::options::KafkaOptions;
use crate::polled::DebugLines;

/// The purpose of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientRole {
    /// Reads the input, from positions that the engine names only.
    Source,
    /// Asks for metadata and offsets, and reads a topic to the end.
    Reader { committed: bool },
    /// Asks for committed offsets and ends of logs, repeatedly.
    Asker { committed: bool },
    /// Produces epochs in transactions.
    Sink,
    /// Sends dead letters again in transactions.
    Resender,
    /// Produces without transactions.
    Producer,
    /// Creates topics and reads their settings.
    Admin,
}

impl ClientRole {
    fn consumes(self) -> bool {
        matches!(
            self,
            Self::Source | Self::Reader { .. } | Self::Asker { .. }
        )
    }

    fn produces(self) -> bool {
        matches!(self, Self::Sink | Self::Resender | Self::Producer)
    }

    fn isolation_level(self) -> &'static str {
        match self {
            Self::Reader { committed: false } | Self::Asker { committed: false } => {
                "read_uncommitted"
            }
            _ => "read_committed",
        }
    }
}

/// Most bytes of a batch of several records. A larger record travels alone. Small batches show
/// progress on a slow link.
pub(crate) const BATCH_BYTES: usize = 131_072;
/// Most bytes of one record before compression.
// Brokers do not refuse a request beyond `socket.request.max.bytes` (100 MiB by default). They
// close the connection without an answer, and librdkafka sends the same request again.
const RECORD_BYTES: usize = 64 << 20;
/// Longest transaction that brokers allow by default (`transaction.max.timeout.ms`).
pub(crate) const LONGEST_TRANSACTION_MS: u64 = 900_000;

/// Longest transaction in which dead letters are sent again.
const LONGEST_RESENDING_MS: u64 = 10_000;

/// Settings that `kafka.client` cannot change, each with the reason that the error gives.
pub(crate) const RESERVED: [(&str, &str); 16] = [
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group_id"),
    ("transactional.id", "it is kafka.transactional_id"),
    ("transaction.timeout.ms", "it is kafka.transaction_timeout"),
    (
        "message.timeout.ms",
        "it follows from kafka.transaction_timeout",
    ),
    (
        "delivery.timeout.ms",
        "it follows from kafka.transaction_timeout",
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
    /// librdkafka's configuration for a client: defaults, then the user's settings, then the
    /// settings that cannot be overridden.
    pub(crate) fn client_config(&self, role: ClientRole) -> ClientConfig {
        let mut config = ClientConfig::new();
        set_connection_defaults(&mut config);
        if role.consumes() {
            set_consumer_defaults(&mut config);
        }
        if role.produces() {
            set_producer_defaults(&mut config);
        }
        self.set_role_defaults(role, &mut config);
        self.set_user_settings(role, &mut config);
        self.security.set(&mut config);
        config.set("bootstrap.servers", &self.brokers);
        if role.consumes() {
            self.set_consumer_promises(role, &mut config);
        }
        if role.produces() {
            // Retries of librdkafka neither repeat nor reorder records (KIP-98).
            config.set("enable.idempotence", "true").set("acks", "all");
        }
        match role {
            ClientRole::Sink => self.set_transaction(&mut config),
            ClientRole::Resender => self.set_resending(&mut config),
            _ => {}
        }
        config
    }

    fn set_role_defaults(&self, role: ClientRole, config: &mut ClientConfig) {
        match role {
            ClientRole::Sink => self.set_sink_defaults(config),
            ClientRole::Resender => set(
                config,
                &[
                    ("retry.backoff.ms", "2"),
                    ("retry.backoff.max.ms", "100"),
                    ("message.max.bytes", &RECORD_BYTES.to_string()),
                ],
            ),
            ClientRole::Producer => set(config, &[("linger.ms", "5")]),
            // librdkafka's default lets a request to a paused broker wait for a minute.
            ClientRole::Source | ClientRole::Reader { .. } => {
                set(config, &[("socket.timeout.ms", "15000")]);
            }
            // Small questions, which another broker may answer as well. A read of a log keeps the
            // longer limit above.
            ClientRole::Asker { .. } => set(config, &[("socket.timeout.ms", "4000")]),
            ClientRole::Admin => {}
        }
    }

    fn set_sink_defaults(&self, config: &mut ClientConfig) {
        // librdkafka requires a limit below that of the transaction. Above the limit of our
        // watchdog, so that the watchdog decides before librdkafka repeats a request.
        let request_limit_ms = (self.transaction_timeout_ms / 2).min(60_000);
        set(
            config,
            &[
                // A transaction begun right after another gets CONCURRENT_TRANSACTIONS until the
                // markers of the first are written, and waits this long, doubling. With the
                // default of 100 ms a commit of one record takes 108 ms, with 1 to 5 ms 3.6 ms
                // (https://github.com/confluentinc/librdkafka/issues/3221,
                // https://issues.apache.org/jira/browse/KAFKA-5477).
                ("retry.backoff.ms", "2"),
                ("retry.backoff.max.ms", "10"),
                // A record that waits for others to join its batch delays the epoch's commit.
                ("linger.ms", "0"),
                ("socket.timeout.ms", &request_limit_ms.to_string()),
                ("message.max.bytes", &RECORD_BYTES.to_string()),
            ],
        );
    }

    /// Settings of `kafka.client`, those with a prefix for the clients that the prefix names.
    fn set_user_settings(&self, role: ClientRole, config: &mut ClientConfig) {
        for (key, value) in &self.client {
            let (applies, key) =
                match (key.strip_prefix("consumer."), key.strip_prefix("producer.")) {
                    (Some(key), _) => (role.consumes(), key),
                    (_, Some(key)) => (role.produces(), key),
                    _ => (true, key.as_str()),
                };
            if applies {
                config.set(key, value);
            }
        }
    }

    fn set_consumer_promises(&self, role: ClientRole, config: &mut ClientConfig) {
        // Readers learn from the event that a partition is read to the end.
        let reads_to_the_end = matches!(role, ClientRole::Reader { .. } | ClientRole::Asker { .. });
        set(
            config,
            &[
                ("group.id", self.group_id.as_str()),
                ("isolation.level", role.isolation_level()),
                // Positions belong to the transaction of their epoch. A commit on a timer could
                // move them past records that no committed epoch contains.
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                // A position that is no longer in the log is an error. Any other value would go
                // on elsewhere without a word.
                ("auto.offset.reset", "error"),
                (
                    "enable.partition.eof",
                    if reads_to_the_end { "true" } else { "false" },
                ),
            ],
        );
    }

    fn set_transaction(&self, config: &mut ClientConfig) {
        let limit_ms = self.transaction_timeout_ms.to_string();
        let user_debug = self.user_debug();
        let debug = if user_debug.is_empty() {
            "protocol".to_owned()
        } else {
            format!("protocol,{user_debug}")
        };
        set(
            config,
            &[
                ("transactional.id", self.transactional_id.as_str()),
                ("transaction.timeout.ms", &limit_ms),
                // librdkafka refuses a longer limit for a record than for its transaction.
                ("message.timeout.ms", &limit_ms),
                // Only the protocol log says that a request was repeated, see [`crate::requests`]
                // and docs/decisions/0003-a-producer-is-replaced-unless-all-was-answered.md.
                ("debug", &debug),
            ],
        );
        config.set_log_level(RDKafkaLogLevel::Debug);
    }

    /// The id under which dead letters are sent again. It differs from the engine's, so that a replay
    /// does not fence the engine.
    pub(crate) fn replay_id(&self) -> String {
        format!("{}-dead-letters", self.transactional_id)
    }

    fn set_resending(&self, config: &mut ClientConfig) {
        // An open transaction holds up every reader of committed records, the engine included. The
        // limit bounds that after a replay was killed.
        let limit_ms = self.transaction_timeout_ms.min(LONGEST_RESENDING_MS);
        set(
            config,
            &[
                ("transactional.id", self.replay_id().as_str()),
                ("transaction.timeout.ms", &limit_ms.to_string()),
                ("message.timeout.ms", &limit_ms.to_string()),
                ("socket.timeout.ms", &(limit_ms / 2).to_string()),
            ],
        );
    }

    /// The sink's configuration, for a producer with a transaction limit that differs from
    /// `kafka.transaction_timeout`.
    pub(crate) fn sink_config(&self, transaction_timeout: Duration) -> ClientConfig {
        let mut config = self.client_config(ClientRole::Sink);
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

    /// The sink's debug lines that the user asked for. The sink itself always reads the protocol's.
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

fn set(config: &mut ClientConfig, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        config.set(*key, *value);
    }
}

fn set_connection_defaults(config: &mut ClientConfig) {
    set(
        config,
        &[
            ("client.id", "leadpulse"),
            // Requests of a transaction are small, and each waits for the answer to the one
            // before.
            ("socket.nagle.disable", "true"),
            ("socket.keepalive.enable", "true"),
            ("retry.backoff.ms", "5"),
            ("retry.backoff.max.ms", "50"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "1000"),
            // A broker that is paused still accepts connections: only these limits tell it from
            // a slow one. librdkafka's defaults are 10 and 30 s.
            ("api.version.request.timeout.ms", "3000"),
            ("socket.connection.setup.timeout.ms", "5000"),
        ],
    );
}

fn set_consumer_defaults(config: &mut ClientConfig) {
    set(
        config,
        &[
            // Latency: a broker answers with the first byte, and an empty fetch lasts 10 ms.
            ("fetch.wait.max.ms", "10"),
            ("fetch.min.bytes", "1"),
            // Bounds of librdkafka's own queue. The defaults keep 100,000 records in memory, and
            // the limit in bytes may be exceeded by a fetch
            // (https://github.com/confluentinc/librdkafka/issues/4137).
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "65536"),
            // After the queue was full, fetching pauses this long. The default of 1 s would stall
            // a partition whenever the small queue above fills up.
            ("fetch.queue.backoff.ms", "20"),
            // A leader that was paused and replaced is noticed by this refresh only: its
            // connection stays open.
            ("topic.metadata.refresh.interval.ms", "5000"),
            // A topic that does not exist is reported, never created by a question about it.
            ("allow.auto.create.topics", "false"),
        ],
    );
}

fn set_producer_defaults(config: &mut ClientConfig) {
    set(
        config,
        &[
            ("compression.type", "lz4"),
            ("batch.size", &BATCH_BYTES.to_string()),
            // 256 MiB of records that wait to be sent; librdkafka's default is 1 GiB.
            ("queue.buffering.max.kbytes", "262144"),
            // The Java client's partitioner: a key finds the same partition with every producer.
            ("partitioner", "murmur2_random"),
        ],
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn with_client(key: &str, value: &str) -> KafkaOptions {
        KafkaOptions {
            client: BTreeMap::from([(key.into(), value.into())]),
            ..KafkaOptions::default()
        }
    }

    #[test]
    fn overrides_reach_the_clients_they_are_meant_for() {
        let reach = |key: &str| {
            let options = with_client(key, "77");
            options.validate().unwrap();
            [ClientRole::Source, ClientRole::Sink, ClientRole::Admin]
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
        assert_eq!(debug(&none, ClientRole::Sink).as_deref(), Some("protocol"));
        assert_eq!(
            debug(&some, ClientRole::Sink).as_deref(),
            Some("protocol,broker,msg")
        );
        assert_eq!(
            (
                debug(&none, ClientRole::Producer),
                debug(&some, ClientRole::Source)
            ),
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
            some.client_config(ClientRole::Sink).log_level,
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
}
