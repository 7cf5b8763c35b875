//! Topic settings that take away records which a restart needs: retention and compaction of the
//! inputs, wrong policies of the outputs.
//!
//! A start applies all rows again, so a restart needs every input record and every epoch record
//! (docs/decisions/0001-restart-by-rows.md). Brokers keep records for seven days by default. A
//! deployment on such topics runs well for a week and can then never be started again. So the watch
//! warns while there is time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rdkafka::admin::{AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::message::Message;
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{Clock, Holding, HoldingKind, Output, PortCause, PortError};

use crate::client::port_error;
use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetRange, OffsetReader, TopicPartition};
use crate::options::KafkaOptions;
use crate::record::timestamp_ms;
use crate::retained::is_by_time;
use crate::source::InputTopic;
use crate::topics::{admin_client, can_administer, runtime};

const CHECK_EVERY: Duration = Duration::from_secs(3600);
const HOUR_MS: f64 = 3_600_000.0;

/// A setting of a topic under which records that are needed get lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Topic name.
    pub topic: String,
    /// The setting: `cleanup.policy`, `retention.ms`, `retention.bytes` or
    /// `message.timestamp.type`.
    pub setting: &'static str,
    /// The setting's value on the broker.
    pub value: String,
    /// Hours until the oldest record may be deleted, which makes a restart impossible; 0 if that
    /// time has come. `None` where the topic is empty, or where time does not decide.
    pub hours_left: Option<f64>,
    /// The consequence, and the remedy.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            setting,
            value,
            hours_left,
            advice,
        } = self;
        write!(f, "topic '{topic}' has {setting} = {value}: ")?;
        if let Some(hours) = hours_left {
            write!(f, "in {hours:.1} hours its oldest record may be deleted. ")?;
        }
        f.write_str(advice)
    }
}

/// The records of a topic that are needed, or must not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Every input record.
    Input,
    /// Every epoch record.
    Epochs,
    /// The newest record of each key.
    Latest,
    /// None: records of people, which are to go with time.
    Past,
}

/// The topic settings that decide which records are deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DeletionSettings {
    cleanup_policy: String,
    retention_ms: Option<i64>,
    retention_bytes: Option<i64>,
    /// True where records carry the time of their append.
    is_append_time: bool,
}

impl DeletionSettings {
    fn of(resource: &ConfigResource) -> Self {
        let value = |name: &str| {
            resource
                .get(name)
                .and_then(|entry| entry.value.clone())
                .unwrap_or_default()
        };
        // Brokers answer −1 for "never".
        let limit = |name: &str| value(name).parse().ok().filter(|limit: &i64| *limit >= 0);
        Self {
            cleanup_policy: value("cleanup.policy"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes"),
            is_append_time: value("message.timestamp.type") == "LogAppendTime",
        }
    }

    fn has(&self, policy: &str) -> bool {
        self.cleanup_policy
            .split(',')
            .any(|found| found.trim() == policy)
    }

    /// The time that a record stays after its append, milliseconds; `None` where none ends it.
    fn keeps_ms(&self) -> Option<i64> {
        self.retention_ms.filter(|_| self.has("delete"))
    }

    /// Findings for a topic whose records are to go with time.
    fn judge_past(&self, topic: &str) -> Vec<Finding> {
        let keeps_for_ever = !self.has("delete") || self.retention_ms.is_none();
        let by_event_time = !keeps_for_ever && !self.is_append_time;
        let (setting, value, advice) = if keeps_for_ever {
            let advice = "it names people and keeps them for ever, also those who were erased. Set retention.ms, and message.timestamp.type = LogAppendTime before";
            ("retention.ms", "-1".to_owned(), advice)
        } else if by_event_time {
            let advice = "its records carry the time of events, so retention goes by that: old ones go at once, and those ahead of time stay. Set LogAppendTime";
            ("message.timestamp.type", "CreateTime".to_owned(), advice)
        } else {
            return Vec::new();
        };
        vec![Finding {
            topic: topic.to_owned(),
            setting,
            value,
            hours_left: None,
            advice: advice.to_owned(),
        }]
    }

    /// Findings for a topic; `oldest_ms` is the timestamp of its oldest record.
    fn judge(&self, topic: &str, need: Need, oldest_ms: Option<i64>, now_ms: i64) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |setting, value: String, hours_left, advice: String| {
            findings.push(Finding {
                topic: topic.to_owned(),
                setting,
                value,
                hours_left,
                advice,
            });
        };
        let matter = match need {
            Need::Input => "a restart applies every record of an input again",
            Need::Epochs => "a restart needs every epoch record",
            Need::Latest => "a restart needs the newest record of every key",
            Need::Past => return self.judge_past(topic),
        };
        if need != Need::Latest && self.has("compact") {
            let advice = format!(
                "compaction removes older records of a key, and {matter}. Set cleanup.policy to delete, with retention.ms = -1"
            );
            found("cleanup.policy", self.cleanup_policy.clone(), None, advice);
        }
        if need == Need::Latest && !self.has("compact") {
            let advice =
                "nothing is ever compacted, so reading it at a restart takes ever longer. Set cleanup.policy to compact".to_owned();
            found("cleanup.policy", self.cleanup_policy.clone(), None, advice);
        }
        if !self.has("delete") {
            return findings;
        }
        if let Some(retention_ms) = self.retention_ms {
            let hours_left = oldest_ms.map(|oldest| {
                (oldest.saturating_add(retention_ms).saturating_sub(now_ms)).max(0) as f64 / HOUR_MS
            });
            found(
                "retention.ms",
                retention_ms.to_string(),
                hours_left,
                format!("After that no restart is possible: {matter}. Set retention.ms = -1"),
            );
        }
        if let Some(retention_bytes) = self.retention_bytes {
            let advice = format!(
                "retention deletes the oldest records beyond that size, and {matter}. Set retention.bytes = -1"
            );
            found("retention.bytes", retention_bytes.to_string(), None, advice);
        }
        findings
    }
}

/// Asks the brokers for the settings of the input and output topics, and judges them. Retention is
/// measured against `now_ms`. How long topics keep records goes to `holdings`. Topics that do not exist, or whose settings may not be read, are
/// passed over with a warning.
pub fn describe(
    options: &KafkaOptions,
    inputs: &[InputTopic],
    now_ms: i64,
    metrics: &Arc<KafkaMetrics>,
    holdings: &Holdings,
) -> Result<Vec<Finding>, PortError> {
    let outputs = &options.outputs;
    let mut wanted: Vec<(&str, Need)> = inputs
        .iter()
        .map(|input| (input.topic.as_str(), Need::Input))
        .collect();
    wanted.push((outputs.name(Output::Epochs), Need::Epochs));
    let latest = [
        Output::PolicyState,
        Output::CurrentScores,
        Output::WorkLists,
    ]
    .into_iter()
    .filter(|output| outputs.writes(*output));
    wanted.extend(latest.map(|output| (outputs.name(output), Need::Latest)));
    let past = Output::ALL.into_iter().filter(|output| is_by_time(*output));
    wanted.extend(past.map(|output| (outputs.name(output), Need::Past)));
    let settings = settings_of(options, &wanted)?;
    holdings.set(found_holdings(&wanted, &settings));
    let reader = OffsetReader::connect(options, Isolation::Uncommitted, metrics)?;
    let mut findings = Vec::new();
    for (topic, need) in wanted {
        let Some(settings) = settings.get(topic) else {
            continue;
        };
        let needs_time = need != Need::Past && settings.keeps_ms().is_some();
        let oldest_ms = if needs_time {
            oldest_ms(&reader, topic)?
        } else {
            None
        };
        findings.extend(settings.judge(topic, need, oldest_ms, now_ms));
    }
    Ok(findings)
}

/// How long topics keep records, as far as their settings are known.
fn found_holdings(
    wanted: &[(&str, Need)],
    settings: &FxHashMap<String, DeletionSettings>,
) -> Vec<Holding> {
    let mut found = Vec::new();
    for (topic, need) in wanted {
        let kind = match need {
            Need::Input => HoldingKind::Input,
            Need::Latest => HoldingKind::Compacted,
            Need::Past => HoldingKind::Output,
            // Epoch records name nobody.
            Need::Epochs => continue,
        };
        if found.iter().any(|known: &Holding| known.place == *topic) {
            continue;
        }
        found.push(Holding {
            place: (*topic).to_owned(),
            kind,
            keeps_ms: settings.get(*topic).and_then(DeletionSettings::keeps_ms),
        });
    }
    found
}

fn settings_of(
    options: &KafkaOptions,
    topics: &[(&str, Need)],
) -> Result<FxHashMap<String, DeletionSettings>, PortError> {
    let doing = "reading the settings of the topics";
    if !can_administer(options) {
        tracing::warn!("over OAUTHBEARER retention and compaction of the topics are not checked");
        return Ok(FxHashMap::default());
    }
    let admin = admin_client(options)?;
    let resources: Vec<ResourceSpecifier<'_>> = topics
        .iter()
        .map(|(topic, _)| ResourceSpecifier::Topic(topic))
        .collect();
    let limits = AdminOptions::new().request_timeout(Some(options.request_timeout()));
    let answers = runtime(doing)?
        .block_on(admin.describe_configs(&resources, &limits))
        .map_err(|error| port_error(doing, &error))?;
    let (mut settings, mut unread) = (FxHashMap::default(), Vec::new());
    for answer in answers {
        match answer {
            Ok(resource) => {
                let OwnedResourceSpecifier::Topic(topic) = &resource.specifier else {
                    continue;
                };
                // For a topic that does not exist rdkafka gives no settings and no error (measured
                // on Kafka 4.3.1).
                if resource.entries.is_empty() {
                    unread.push(topic.clone());
                } else {
                    settings.insert(topic.clone(), DeletionSettings::of(&resource));
                }
            }
            Err(code) => tracing::warn!(
                "kafka: {doing}: {code}; retention and compaction of that topic are not checked"
            ),
        }
    }
    if !unread.is_empty() {
        tracing::warn!(
            topics = unread.join(", "),
            "settings cannot be read, so retention and compaction are not checked: the topics do not exist, or DescribeConfigs is not allowed"
        );
    }
    Ok(settings)
}

/// The oldest timestamp among the first records of a topic's partitions, milliseconds. `None` for
/// an empty topic.
fn oldest_ms(reader: &OffsetReader, topic: &str) -> Result<Option<i64>, PortError> {
    let Some(count) = reader.partition_count(topic)? else {
        return Ok(None);
    };
    let places: Vec<TopicPartition> = (0..count)
        .map(|partition| (topic.to_owned(), partition))
        .collect();
    let (starts, ends) = (reader.starts(&places)?, reader.stable_ends(&places)?);
    let of_partition = |((partition, from), end): ((i32, i64), i64)| OffsetRange {
        partition,
        from,
        end: end.min(from + 1),
    };
    let ranges: Vec<OffsetRange> = (0..count)
        .zip(starts.into_iter().map(|start| start.0))
        .zip(ends)
        .map(of_partition)
        .collect();
    let mut oldest: Option<i64> = None;
    reader.read(topic, &ranges, &mut |message| {
        if ranges
            .iter()
            .any(|range| range.partition == message.partition() && message.offset() < range.end)
        {
            let at = timestamp_ms(message);
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        }
        Ok(())
    })?;
    Ok(oldest)
}

/// How long topics keep records, as the watch found last. Shared with the sink.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<Mutex<Vec<Holding>>>);

impl Holdings {
    /// The places that are known now.
    pub fn get(&self) -> Vec<Holding> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, found: Vec<Holding>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// A thread that checks the topics' settings at the start and every hour. The thread ends when this
/// handle is dropped.
pub struct TopicWatch {
    findings: Arc<Mutex<Vec<Finding>>>,
    holdings: Holdings,
    _running: Sender<()>,
}

impl TopicWatch {
    /// Starts the thread, and waits for the first look, at most the request limit: a short run
    /// should warn as well.
    ///
    /// # Errors
    /// A thread that cannot be started. Brokers that do not answer are asked again an hour later.
    pub fn start(
        options: &KafkaOptions,
        inputs: &[InputTopic],
        clock: Arc<dyn Clock>,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let (running, until_dropped) = bounded::<()>(0);
        let (looked, first_look) = bounded(1);
        let findings = Arc::new(Mutex::new(Vec::new()));
        let holdings = Holdings::default();
        let (options, inputs, metrics, found, held) = (
            options.clone(),
            inputs.to_vec(),
            Arc::clone(metrics),
            Arc::clone(&findings),
            holdings.clone(),
        );
        let limit = options.request_timeout();
        let spawned = std::thread::Builder::new()
            .name("kafka-retention".into())
            .spawn(move || {
                loop {
                    match describe(&options, &inputs, clock.wall_ms(), &metrics, &held) {
                        Ok(now) => {
                            now.iter().for_each(|finding| tracing::warn!("{finding}"));
                            metrics.set_findings(&now);
                            *found.lock().unwrap_or_else(PoisonError::into_inner) = now;
                        }
                        Err(error) => tracing::warn!(
                            "retention and compaction of the topics cannot be checked now: {error}"
                        ),
                    }
                    let _ = looked.try_send(()); // only the first look is waited for
                    if until_dropped.recv_timeout(CHECK_EVERY) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: the thread that checks the topics cannot be started: {error}"),
            )
        })?;
        let _ = first_look.recv_timeout(limit); // brokers that do not answer keep nobody waiting
        Ok(Self {
            findings,
            holdings,
            _running: running,
        })
    }

    /// How long topics keep records, by the newest look.
    pub fn holdings(&self) -> Holdings {
        self.holdings.clone()
    }

    /// Findings of the newest look.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    /// A topic's settings, and the timestamp of its oldest record.
    #[derive(Clone, Copy)]
    struct Case {
        policy: &'static str,
        retention_ms: Option<i64>,
        retention_bytes: Option<i64>,
        oldest_ms: Option<i64>,
        is_append_time: bool,
    }

    fn check(need: Need, case: Case, expected: &[(&str, Option<f64>)]) {
        let settings = DeletionSettings {
            cleanup_policy: case.policy.into(),
            retention_ms: case.retention_ms,
            retention_bytes: case.retention_bytes,
            is_append_time: case.is_append_time,
        };
        let findings = settings.judge("t", need, case.oldest_ms, NOW);
        let found: Vec<(&str, Option<f64>)> = findings
            .iter()
            .map(|finding| (finding.setting, finding.hours_left))
            .collect();
        assert_eq!(found, expected, "{need:?} {settings:?}");
        for finding in &findings {
            let text = finding.to_string();
            assert!(
                text.contains("'t'") && (text.contains("retention") || text.contains("compact")),
                "{text}"
            );
        }
    }

    /// Settings at fault, with the hours until they delete what is needed.
    type Findings<'a> = &'a [(&'a str, Option<f64>)];

    #[test]
    fn settings_that_lose_needed_records_are_found() {
        let delete_after = |retention_ms, oldest_ms| Case {
            policy: "delete",
            retention_ms: Some(retention_ms),
            retention_bytes: None,
            oldest_ms,
            is_append_time: false,
        };
        let forever = |policy| Case {
            policy,
            retention_ms: None,
            retention_bytes: None,
            oldest_ms: Some(NOW),
            is_append_time: false,
        };
        let bytes = Case {
            retention_bytes: Some(1 << 30),
            ..forever("delete")
        };
        let unused_limits = Case {
            retention_ms: Some(HOUR),
            retention_bytes: Some(1),
            ..forever("compact")
        };
        let both = Case {
            retention_ms: Some(HOUR),
            ..forever("compact,delete")
        };
        let six_hours_ago = Some(NOW - 6 * HOUR);
        let by_append = Case {
            is_append_time: true,
            ..delete_after(HOUR, six_hours_ago)
        };
        let cases: [(Need, Case, Findings<'_>); 14] = [
            (Need::Input, forever("delete"), &[]),
            (
                Need::Input,
                delete_after(24 * HOUR, six_hours_ago),
                &[("retention.ms", Some(18.0))],
            ),
            (
                Need::Input,
                delete_after(HOUR, six_hours_ago),
                &[("retention.ms", Some(0.0))],
            ),
            (
                Need::Input,
                delete_after(HOUR, None),
                &[("retention.ms", None)],
            ),
            (Need::Input, bytes, &[("retention.bytes", None)]),
            (Need::Input, unused_limits, &[("cleanup.policy", None)]),
            (
                Need::Epochs,
                both,
                &[("cleanup.policy", None), ("retention.ms", Some(1.0))],
            ),
            (Need::Latest, unused_limits, &[]),
            (Need::Latest, forever("delete"), &[("cleanup.policy", None)]),
            (Need::Latest, both, &[("retention.ms", Some(1.0))]),
            (Need::Past, by_append, &[]),
            (Need::Past, forever("delete"), &[("retention.ms", None)]),
            (Need::Past, unused_limits, &[("retention.ms", None)]),
            (
                Need::Past,
                delete_after(HOUR, six_hours_ago),
                &[("message.timestamp.type", None)],
            ),
        ];
        for (need, case, expected) in cases {
            check(need, case, expected);
        }
    }
}
