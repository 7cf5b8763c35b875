//! The `[kafka]` section: brokers, names, time limits, settings passed through to librdkafka.
//!
//! [`KafkaOptions::validate`] checks the section once. Settings that the promises rest on
//! (isolation, idempotence, commits, start offsets) cannot be overridden. Passwords are never
//! printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rdkafka::error::KafkaError;
use serde::{Deserialize, Serialize, Serializer};

use leadpulse_schema::units::{Span, as_span};

use crate::client_settings::{ClientRole, LONGEST_TRANSACTION_MS, RESERVED};
use crate::output_topics::OutputTopics;
use crate::retained::OutputRetention;
use crate::security::{SaslMechanism, SecurityOptions, TYPED};

/// The `[kafka]` section of the configuration.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaOptions {
    /// Bootstrap servers, `host:port`, separated by commas.
    pub brokers: String,
    /// Consumer group that the positions are committed under. One per deployment, used by nothing
    /// else.
    pub group_id: String,
    /// Transactional id. The process that took the id over last owns the outputs. One per worker,
    /// the same after a restart.
    pub transactional_id: String,
    /// Encryption and credentials.
    pub security: SecurityOptions,
    /// Names of the output topics.
    pub outputs: OutputTopics,
    /// Time that records stay in output topics, if they have to be created.
    pub retention: OutputRetention,
    /// Partitions of the score topics, if they have to be created. The other outputs have one.
    pub output_partitions: i32,
    /// Replicas of a topic that has to be created; −1 for the brokers' default.
    pub replication_factor: i32,
    /// Limit of one request for metadata, offsets or topic creation, milliseconds.
    #[serde(
        rename = "request_timeout",
        alias = "request_timeout_ms",
        with = "as_span::ms"
    )]
    pub request_timeout_ms: u64,
    /// Time without progress after which a transaction is in doubt, milliseconds. Progress is an
    /// acknowledged record or a completed step. At most a third of `transaction_timeout_ms`.
    #[serde(
        rename = "commit_timeout",
        alias = "commit_timeout_ms",
        with = "as_span::ms"
    )]
    pub commit_timeout_ms: u64,
    /// Age at which the broker aborts a transaction, milliseconds; at most 900000, which is the
    /// brokers' own limit. The sink doubles the age while an epoch takes longer to send.
    #[serde(
        rename = "transaction_timeout",
        alias = "transaction_timeout_ms",
        with = "as_span::ms"
    )]
    pub transaction_timeout_ms: u64,
    /// Limit of closing a client, milliseconds. After the limit the client is left behind.
    #[serde(
        rename = "close_timeout",
        alias = "close_timeout_ms",
        with = "as_span::ms"
    )]
    pub close_timeout_ms: u64,
    /// Most bytes of fetched records that wait for the engine in our queue. librdkafka's own queue
    /// comes on top: `consumer.queued.max.messages.kbytes`.
    pub queue_bytes: usize,
    /// Settings passed through to librdkafka. A prefix `consumer.` or `producer.` limits a setting
    /// to those clients.
    #[serde(serialize_with = "serialize_redacted")]
    pub client: BTreeMap<String, String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            group_id: "leadpulse".into(),
            transactional_id: "leadpulse-0".into(),
            security: SecurityOptions::default(),
            outputs: OutputTopics::default(),
            retention: OutputRetention::default(),
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

/// Parts of the names of librdkafka settings that hold a secret.
const SECRET_PARTS: [&str; 6] = [
    "password",
    "secret",
    "key.pem",
    "jaas",
    "token",
    "oauthbearer.config",
];

/// True for a setting of `kafka.client` whose value must come from the environment or from a file.
pub fn is_secret_setting(key: &str) -> bool {
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// Beginnings of the names of librdkafka settings whose values may be printed. A list of what may
/// be seen, not of what may not: the next librdkafka may know a secret under a name that nobody
/// thought of.
const PRINTABLE: [&str; 31] = [
    "acks",
    "allow.",
    "api.version.",
    "batch.",
    "broker.",
    "check.crcs",
    "client.dns.",
    "client.id",
    "client.rack",
    "compression.",
    "connections.",
    "debug",
    "fetch.",
    "heartbeat.",
    "linger.ms",
    "max.",
    "message.",
    "metadata.",
    "partitioner",
    "queue.",
    "queued.",
    "receive.",
    "reconnect.",
    "request.",
    "retr",
    "security.protocol",
    "session.timeout.ms",
    "socket.",
    "statistics.",
    "sticky.",
    "topic.",
];

/// True for a setting of `kafka.client` whose value may be printed.
fn is_printable(key: &str) -> bool {
    let bare = bare_key(key);
    !is_secret_setting(bare) && PRINTABLE.iter().any(|start| bare.starts_with(start))
}

/// A setting's name without the prefix that limits it to some clients.
fn bare_key(key: &str) -> &str {
    key.strip_prefix("consumer.")
        .or_else(|| key.strip_prefix("producer."))
        .unwrap_or(key)
}

fn serialize_redacted<S: Serializer>(
    client: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(client.iter().map(|(key, value)| {
        (
            key,
            if is_printable(key) {
                value.as_str()
            } else {
                "***"
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
        /// The fault, and a value that would be right.
        problem: String,
    },
    /// A librdkafka setting that is not ours to change.
    #[error("kafka.client.\"{key}\" cannot be set: {reason}")]
    Reserved {
        /// The setting as written.
        key: String,
        /// The reason for the refusal.
        reason: &'static str,
    },
    /// librdkafka does not know a setting, or refuses its value.
    #[error("kafka.client: librdkafka refuses \"{key}\" = \"{value}\": {problem}")]
    Refused {
        /// The setting as written.
        key: String,
        /// The refused value; `***` for one that may not be printed.
        value: String,
        /// librdkafka's description of the fault.
        problem: String,
    },
}

impl KafkaOptions {
    /// Checks names, limits and every librdkafka setting.
    ///
    /// # Errors
    /// The first field that cannot work, or a setting that is reserved or that librdkafka refuses.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// The first fault of each part of the section; empty if everything can work.
    pub fn faults(&self) -> Vec<OptionsError> {
        let checks = [
            self.validate_names(),
            self.validate_outputs(),
            self.validate_counts(),
            self.validate_limits(),
            self.security.validate(),
            self.validate_client(),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn validate_names(&self) -> Result<(), OptionsError> {
        for (field, value) in [
            ("brokers", &self.brokers),
            ("group_id", &self.group_id),
            ("transactional_id", &self.transactional_id),
        ] {
            if value.trim().is_empty() {
                return fault(field, "must not be empty".into());
            }
        }
        if self.brokers.contains('@') || self.brokers.contains("://") {
            // The text may contain a password, so it is not repeated.
            return fault(
                "brokers",
                "is not a list of host:port, separated by commas; user and password belong to \
                 kafka.security"
                    .into(),
            );
        }
        Ok(())
    }

    fn validate_outputs(&self) -> Result<(), OptionsError> {
        let mut names = BTreeSet::new();
        for (field, name) in self.outputs.fields() {
            if field == "current_scores" && name.is_empty() {
                continue; // switched off
            }
            let legal = name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if name.is_empty() || name.len() > 249 || !legal {
                return fault(
                    &format!("outputs.{field}"),
                    format!("\"{name}\" is not a topic name: use 1 to 249 of a-z A-Z 0-9 . _ -"),
                );
            }
            if !names.insert(name) {
                return fault(
                    &format!("outputs.{field}"),
                    format!("\"{name}\" is used by another output too"),
                );
            }
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<(), OptionsError> {
        if self.output_partitions < 1 {
            return fault(
                "output_partitions",
                format!("{} is less than 1", self.output_partitions),
            );
        }
        if self.replication_factor < 1 && self.replication_factor != -1 {
            let factor = self.replication_factor;
            return fault(
                "replication_factor",
                format!("{factor} is neither positive nor -1 (the brokers' default)"),
            );
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), OptionsError> {
        let limits = [
            ("request_timeout", self.request_timeout_ms),
            ("commit_timeout", self.commit_timeout_ms),
            ("close_timeout", self.close_timeout_ms),
            ("transaction_timeout", self.transaction_timeout_ms),
        ];
        for (field, value) in limits {
            if !(100..=86_400_000).contains(&value) {
                return fault(
                    field,
                    format!("{} is not between 100ms and 1d", span(value)),
                );
            }
        }
        if self.transaction_timeout_ms > LONGEST_TRANSACTION_MS {
            let value = self.transaction_timeout_ms;
            return fault(
                "transaction_timeout",
                format!(
                    "{} is more than {}, which brokers refuse",
                    span(value),
                    span(LONGEST_TRANSACTION_MS)
                ),
            );
        }
        // Sending, positions and commit may each stand still for almost that long, and all three
        // must end before the broker aborts the transaction.
        if self.commit_timeout_ms * 3 > self.transaction_timeout_ms {
            let (value, limit) = (self.commit_timeout_ms, self.transaction_timeout_ms);
            return fault(
                "commit_timeout",
                format!(
                    "{} must be at most a third of transaction_timeout ({})",
                    span(value),
                    span(limit)
                ),
            );
        }
        if self.queue_bytes < 1 << 20 {
            return fault(
                "queue_bytes",
                format!("{} is below 1048576 (1 MiB)", self.queue_bytes),
            );
        }
        Ok(())
    }

    fn validate_client(&self) -> Result<(), OptionsError> {
        for key in self.client.keys() {
            let bare = bare_key(key);
            if !self.security.is_absent()
                && let Some((_, field)) = TYPED.iter().find(|(typed, _)| *typed == bare)
            {
                return fault(
                    &format!("client.\"{key}\""),
                    format!("is set twice: keep kafka.security.{field} only"),
                );
            }
            if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| *reserved == bare) {
                return Err(OptionsError::Reserved {
                    key: key.clone(),
                    reason,
                });
            }
        }
        // librdkafka checks names and values itself, when it reads a configuration.
        for role in [
            ClientRole::Source,
            ClientRole::Sink,
            ClientRole::Producer,
            ClientRole::Admin,
        ] {
            self.client_config(role)
                .create_native_config()
                .map_err(refused_setting)?;
        }
        Ok(())
    }

    /// The user as messages name it.
    pub(crate) fn principal(&self) -> String {
        let security = &self.security;
        let client = |key: &str| self.client.get(key);
        match (security.sasl, &security.username, &security.oauth) {
            (Some(SaslMechanism::OauthBearer), _, Some(oauth)) => {
                format!("client '{}'", oauth.client_id)
            }
            (Some(SaslMechanism::OauthBearer), _, None) => "the token's user".into(),
            (_, Some(user), _) => format!("user '{user}'"),
            _ if security.certificate.is_some() || client("ssl.certificate.location").is_some() => {
                "the certificate's user".into()
            }
            _ => match client("sasl.username") {
                Some(user) => format!("user '{user}'"),
                None => "the anonymous user".into(),
            },
        }
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
}

/// Milliseconds as they are written in the configuration.
fn span(ms: u64) -> Span {
    Span::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn fault(field: &str, problem: String) -> Result<(), OptionsError> {
    Err(OptionsError::Field {
        field: field.into(),
        problem,
    })
}

fn refused_setting(error: KafkaError) -> OptionsError {
    match error {
        KafkaError::ClientConfig(_, problem, key, value) => {
            let hidden = !is_printable(&key);
            // librdkafka repeats the value in its own words.
            let problem = if hidden && !value.is_empty() {
                problem.replace(&value, "***")
            } else {
                problem
            };
            let value = if hidden { "***".into() } else { value };
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
        let with = |change: fn(&mut KafkaOptions)| {
            let mut options = KafkaOptions::default();
            change(&mut options);
            options
        };
        let cases = [
            (with(|o| o.brokers = " ".into()), "kafka.brokers"),
            (
                with(|o| o.transactional_id = String::new()),
                "kafka.transactional_id",
            ),
            (
                with(|o| o.commit_timeout_ms = 30_000),
                "kafka.commit_timeout: 30s must be",
            ),
            (
                with(|o| o.commit_timeout_ms = 20_001),
                "a third of transaction_timeout (1m)",
            ),
            (
                with(|o| o.transaction_timeout_ms = 900_001),
                "kafka.transaction_timeout: 900001ms is more than 15m",
            ),
            (
                KafkaOptions {
                    security: serde_json::from_str(
                        r#"{"sasl":"PLAIN","username":"u","password":"p"}"#,
                    )
                    .unwrap(),
                    ..with_client("sasl.password", "p")
                },
                "keep kafka.security.password only",
            ),
            (with_client("log_level", "0"), "protocol log"),
            (
                with_client("producer.delivery.report.only.error", "true"),
                "counted",
            ),
            (with_client("debug", "brokr"), "debug"),
            (with(|o| o.output_partitions = 0), "kafka.output_partitions"),
            (
                with(|o| o.replication_factor = 0),
                "kafka.replication_factor",
            ),
            (with(|o| o.queue_bytes = 9), "kafka.queue_bytes"),
            (
                with(|o| o.outputs.alerts = "a b".into()),
                "kafka.outputs.alerts",
            ),
            (
                with(|o| o.outputs.alerts.clone_from(&o.outputs.scores)),
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
    fn secrets_are_not_printed() {
        for key in [
            "sasl.password",
            "producer.sasl.password",
            "plugin.of.tomorrow",
        ] {
            let options = with_client(key, "hunter2");
            assert!(!format!("{options:?}").contains("hunter2"), "{key}");
            assert!(!serde_json::to_string(&options).unwrap().contains("hunter2"));
        }
        let shown = with_client("consumer.fetch.min.bytes", "17");
        assert!(serde_json::to_string(&shown).unwrap().contains("\"17\""));
        let refused = with_client("sasl.oauthbearer.method", "hunter2").validate();
        let refused = refused.unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
        let mut options = KafkaOptions::default();
        options.security.password = Some(leadpulse_registry::Secret::new("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"));
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
