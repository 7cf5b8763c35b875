//! Topics that must exist, and their creation.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use leadpulse_engine::ports::{Output, PortCause, PortError};

use crate::access::Access;
use crate::client::{is_permanent, port_error};
use crate::client_settings::ClientRole;
use crate::offsets::{OffsetReader, TopicNames};
use crate::options::KafkaOptions;
use crate::security::SaslMechanism;

/// A topic to create if it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Topic name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Topic settings as Kafka names them, with values.
    pub settings: Vec<(&'static str, String)>,
}

/// Settings for timestamps that are event time: often years old, sometimes ahead of the clock. With
/// the brokers' defaults retention would delete old records minutes after they were written, and
/// early records would be refused
/// ([KIP-937](https://cwiki.apache.org/confluence/display/KAFKA/KIP-937%3A+Improve+Message+Timestamp+Validation)).
const EVENT_TIME: [(&str, &str); 2] = [
    ("retention.ms", "-1"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
];

impl TopicSpec {
    /// A topic that keeps every record, for event time as timestamp.
    pub fn log(name: &str, partitions: i32) -> Self {
        Self::of(name, partitions, "delete", EVENT_TIME)
    }

    /// A topic that keeps records for a time after they were appended. Their own timestamps, which
    /// may be years old, are replaced by that of the append.
    pub fn log_for(name: &str, partitions: i32, retention_ms: u64) -> Self {
        let settings = [
            ("retention.ms", retention_ms.to_string()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ];
        Self::of(name, partitions, "delete", settings)
    }

    /// A topic that keeps the newest record of each key.
    pub fn latest_by_key(name: &str, partitions: i32) -> Self {
        Self::of(name, partitions, "compact", EVENT_TIME)
    }

    fn of(
        name: &str,
        partitions: i32,
        policy: &str,
        settings: impl IntoIterator<Item = (&'static str, impl Into<String>)>,
    ) -> Self {
        let settings = settings.into_iter().map(|(key, value)| (key, value.into()));
        Self {
            name: name.to_owned(),
            partitions,
            settings: [("cleanup.policy", policy.to_owned())]
                .into_iter()
                .chain(settings)
                .collect(),
        }
    }
}

/// Room for a dead letter, bytes. The original may be as large as a producer was allowed, and our
/// headers come on top. Below the brokers' default limit of a request, `socket.request.max.bytes`,
/// 100 MiB.
const DEAD_LETTER_BYTES: &str = "67108864";
/// Room for our own records, bytes. The largest are the epoch records and the policy states, which
/// grow with partitions and refusals.
const OUTPUT_BYTES: &str = "8388608";

/// The output topics as configured. Small outputs have one partition: each partition that a
/// transaction touches costs two more requests.
pub fn output_topics(options: &KafkaOptions) -> Vec<TopicSpec> {
    let of = |output: Output| {
        let name = options.outputs.name(output);
        let partitions = match output {
            Output::Scores | Output::CurrentScores => options.output_partitions,
            _ => 1,
        };
        let mut spec = match output {
            Output::CurrentScores => TopicSpec::latest_by_key(name, partitions),
            Output::Scores
            | Output::Alerts
            | Output::DeadLetters
            | Output::Epochs
            | Output::Exposures
            | Output::ErasureProofs => match options.retention.of(output) {
                Some(retention_ms) => TopicSpec::log_for(name, partitions, retention_ms),
                None => TopicSpec::log(name, partitions),
            },
            Output::PolicyState | Output::WorkLists => TopicSpec::latest_by_key(name, 1),
        };
        let bytes = if output == Output::DeadLetters {
            DEAD_LETTER_BYTES
        } else {
            OUTPUT_BYTES
        };
        spec.settings.push(("max.message.bytes", bytes.to_owned()));
        spec
    };
    Output::ALL
        .into_iter()
        .filter(|output| options.outputs.writes(*output))
        .map(of)
        .collect()
}

/// Limit until created topics can be used. A controller that is busy, or was just elected, takes
/// minutes.
const VISIBLE_LIMIT: Duration = Duration::from_secs(300);
/// Time between two looks at whether created topics can be used.
const VISIBLE_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about the wait.
const LOG_PAUSE: Duration = Duration::from_secs(10);

pub(crate) fn admin_client(
    options: &KafkaOptions,
) -> Result<AdminClient<DefaultClientContext>, PortError> {
    let created = options.client_config(ClientRole::Admin).create();
    created.map_err(|error| {
        PortError::fatal(
            PortCause::Local,
            format!("kafka: the admin client cannot be created: {error}"),
        )
    })
}

/// True if an admin client can log in. rdkafka's never asks for a token, so one of OAUTHBEARER waits
/// for ever.
pub(crate) fn can_administer(options: &KafkaOptions) -> bool {
    options.security.sasl != Some(SaslMechanism::OauthBearer)
}

/// A runtime for one request of an admin client, whose answers come as futures.
pub(crate) fn runtime(doing: &str) -> Result<tokio::runtime::Runtime, PortError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.map_err(|error| PortError::fatal(PortCause::Local, format!("kafka: {doing}: {error}")))
}

/// Creates the topics of `wanted` that do not exist, and waits until they can be used. Returns the
/// names of the created topics. Existing topics are left as they are.
///
/// # Errors
/// Fatal for a topic that cannot be created; retriable while brokers do not answer or a created
/// topic cannot be seen.
pub fn ensure_topics(
    options: &KafkaOptions,
    wanted: &[TopicSpec],
) -> Result<Vec<String>, PortError> {
    let doing = format!("creating topics on {}", options.brokers);
    // Asked through a consumer, which is polled: an admin client reports neither a denied login nor
    // a certificate that is not trusted.
    let reader = OffsetReader::for_a_moment(options)?;
    let TopicNames { existing, .. } = reader.topics()?;
    let missing: Vec<&TopicSpec> = wanted
        .iter()
        .filter(|spec| !existing.contains(&spec.name))
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if !can_administer(options) {
        let names: Vec<&str> = missing.iter().map(|spec| spec.name.as_str()).collect();
        return Err(PortError::fatal(
            PortCause::Refused,
            format!(
                "kafka: these topics do not exist, or may not be seen, and cannot be created over \
                 OAUTHBEARER: {}. Create them by hand, see docs/connect/security.md",
                names.join(", ")
            ),
        ));
    }
    let admin = admin_client(options)?;
    let requests: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|spec| {
            let topic = NewTopic::new(
                &spec.name,
                spec.partitions,
                TopicReplication::Fixed(options.replication_factor),
            );
            spec.settings
                .iter()
                .fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let limits = AdminOptions::new()
        .request_timeout(Some(options.request_timeout()))
        .operation_timeout(Some(options.request_timeout()));
    let answers = runtime(&doing)?
        .block_on(admin.create_topics(&requests, &limits))
        .map_err(|error| port_error(&doing, &error))?;
    let mut created = Vec::new();
    for answer in answers {
        match answer {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {} // another process was faster
            Err((name, code)) if is_permanent(code) => {
                let access = Access::new(options);
                if access.permission(code, "").is_some() {
                    return Err(PortError::fatal(
                        PortCause::Refused,
                        format!(
                            "kafka: topic '{name}' does not exist, or may not be seen by {}, who \
                             may not create it either: create it, or grant Create, Describe and \
                             Write on it (kafka-acls)",
                            options.principal()
                        ),
                    ));
                }
                return Err(PortError::fatal(
                    PortCause::Refused,
                    format!(
                        "kafka: topic '{name}' cannot be created: {code}. Create it by hand, or see kafka.replication_factor and permissions"
                    ),
                ));
            }
            Err((name, code)) => {
                return Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!("kafka: topic '{name}' cannot be created now: {code}"),
                ));
            }
        }
    }
    await_topics(&missing, VISIBLE_LIMIT, || {
        reader.topics().map(|names| names.usable)
    })?;
    Ok(created)
}

/// Waits until every topic of `created` is usable. The controller announces a created topic to the
/// brokers later, sometimes minutes later.
fn await_topics(
    created: &[&TopicSpec],
    limit: Duration,
    mut usable: impl FnMut() -> Result<BTreeSet<String>, PortError>,
) -> Result<(), PortError> {
    let started = Instant::now();
    let mut logged = started;
    loop {
        let why = match usable() {
            Ok(usable) => match created.iter().find(|spec| !usable.contains(&spec.name)) {
                None => return Ok(()),
                Some(absent) => format!(
                    "kafka: topic '{}' was created, but cannot be seen yet",
                    absent.name
                ),
            },
            Err(PortError::Retriable(why)) => why.to_string(),
            Err(error) => return Err(error),
        };
        if started.elapsed() >= limit {
            return Err(PortError::retriable(PortCause::NoAnswer, why));
        }
        if logged.elapsed() >= LOG_PAUSE {
            logged = Instant::now();
            tracing::warn!("{why}; waiting");
        }
        std::thread::sleep(VISIBLE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retained::is_by_time;

    #[test]
    fn every_output_has_a_topic_and_epochs_have_one_order() {
        let options = KafkaOptions::default();
        let topics = output_topics(&options);
        for output in Output::ALL {
            let spec = topics
                .iter()
                .find(|spec| spec.name == options.outputs.name(output))
                .unwrap();
            let wide = matches!(output, Output::Scores | Output::CurrentScores);
            assert_eq!(
                spec.partitions,
                if wide { options.output_partitions } else { 1 },
                "{output:?}"
            );
            let room = if output == Output::DeadLetters {
                64 << 20
            } else {
                8 << 20
            };
            assert!(
                spec.settings
                    .contains(&("max.message.bytes", room.to_string())),
                "{output:?}"
            );
            let kept_ms = options.retention.of(output);
            assert_eq!(kept_ms.is_some(), is_by_time(output), "{output:?}");
            let retention = kept_ms.map_or("-1".to_owned(), |ms| ms.to_string());
            assert!(spec.settings.contains(&("retention.ms", retention)));
            let append = ("message.timestamp.type", "LogAppendTime".to_owned());
            assert_eq!(
                spec.settings.contains(&append),
                kept_ms.is_some(),
                "{output:?}"
            );
            let keeps_newest = matches!(
                output,
                Output::CurrentScores | Output::PolicyState | Output::WorkLists
            );
            assert_eq!(
                spec.settings
                    .contains(&("cleanup.policy", "compact".to_owned())),
                keeps_newest,
                "{output:?}"
            );
        }
    }

    #[test]
    fn a_topic_that_cannot_be_seen_yet_is_waited_for() {
        let spec = TopicSpec::log("t", 1);
        let long = Duration::from_secs(600);
        let mut answers = vec![
            Ok(BTreeSet::from(["t".to_owned()])),
            Ok(BTreeSet::new()),
            Err(PortError::retriable(PortCause::NoAnswer, "no broker")),
            Ok(BTreeSet::from(["other".to_owned()])),
        ];
        await_topics(&[&spec], long, || answers.pop().unwrap()).unwrap();
        assert!(answers.is_empty());
        let fatal = await_topics(&[&spec], long, || {
            Err(PortError::fatal(PortCause::Refused, "denied"))
        });
        assert!(matches!(fatal, Err(PortError::Fatal(_))), "{fatal:?}");
        let never = await_topics(&[&spec], Duration::ZERO, || Ok(BTreeSet::new()));
        assert!(
            matches!(&never, Err(PortError::Retriable(why)) if why.message().contains("'t'")),
            "{never:?}"
        );
    }

    #[test]
    fn current_scores_can_be_switched_off() {
        let mut options = KafkaOptions::default();
        options.outputs.current_scores = String::new();
        options.validate().unwrap();
        let topics = output_topics(&options);
        assert_eq!(topics.len(), Output::ALL.len() - 1);
        assert!(topics.iter().all(|spec| !spec.name.is_empty()));
    }
}
