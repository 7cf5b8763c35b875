//! The librdkafka settings of each client.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::options::KafkaOptions;
use crate::polled::DebugLines;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientRole {
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

pub(crate) const RESERVED: [(&str, &str); 16] = [
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
    /// librdkafka's configuration for a client: defaults of the role, then the user's settings, then what cannot be overridden.
    pub(crate) fn client_config(&self, role: ClientRole) -> ClientConfig {
        let mut config = ClientConfig::new();
        let consumes = matches!(
            role,
            ClientRole::Source | ClientRole::Reader { .. } | ClientRole::Asker { .. }
        );
        let produces = matches!(role, ClientRole::Sink | ClientRole::Producer);
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
            ClientRole::Sink => set(&[
                ("retry.backoff.ms", "2"),
                ("retry.backoff.max.ms", "10"),
                ("linger.ms", "0"),
                ("socket.timeout.ms", &request_limit_ms),
                ("message.max.bytes", &RECORD_BYTES.to_string()),
            ]),
            ClientRole::Producer => set(&[("linger.ms", "5")]),
            ClientRole::Source | ClientRole::Reader { .. } => {
                set(&[("socket.timeout.ms", "15000")])
            }
            // Small questions, which another broker may answer as well.
            ClientRole::Asker { .. } => set(&[("socket.timeout.ms", "4000")]),
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
                ClientRole::Reader { committed: false } | ClientRole::Asker { committed: false }
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
                if matches!(role, ClientRole::Reader { .. } | ClientRole::Asker { .. }) {
                    "true"
                } else {
                    "false"
                },
            );
        }
        if produces {
            config.set("enable.idempotence", "true").set("acks", "all");
        }
        if role == ClientRole::Sink {
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
