//! Topics that must exist: outputs are created, inputs are asked for.

use std::collections::BTreeSet;
use std::time::Instant;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use leadpulse_engine::ports::{Output, PortError};

use crate::client::{is_permanent, port_error};
use crate::options::{KafkaOptions, Role};

/// A topic to create if it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: i32,
    /// Topic settings.
    pub settings: Vec<(&'static str, &'static str)>,
}

/// Records carry event time, often years old and sometimes ahead of the clock: with the brokers' defaults, old ones would be deleted by
/// retention minutes after they were written and early ones be refused.
const EVENT_TIME: [(&str, &str); 2] = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", "9223372036854775807")];

impl TopicSpec {
    /// A topic that keeps every record, for event time as timestamp.
    pub fn log(name: &str, partitions: i32) -> Self {
        let settings = [("cleanup.policy", "delete")].into_iter().chain(EVENT_TIME).collect();
        Self { name: name.to_owned(), partitions, settings }
    }

    /// A topic that keeps the newest record of each key.
    pub fn latest_by_key(name: &str, partitions: i32) -> Self {
        let settings = [("cleanup.policy", "compact")].into_iter().chain(EVENT_TIME).collect();
        Self { name: name.to_owned(), partitions, settings }
    }
}

/// The output topics as configured.
pub fn output_topics(options: &KafkaOptions) -> Vec<TopicSpec> {
    let name = |output| options.outputs.name(output);
    let mut topics = vec![
        TopicSpec::log(name(Output::Scores), options.output_partitions),
        TopicSpec::log(name(Output::Alerts), options.output_partitions),
        TopicSpec::log(name(Output::DeadLetters), options.output_partitions),
        TopicSpec::log(name(Output::Epochs), 1),
        TopicSpec::latest_by_key(name(Output::PolicyState), options.output_partitions),
    ];
    if options.outputs.writes(Output::CurrentScores) {
        topics.push(TopicSpec::latest_by_key(name(Output::CurrentScores), options.output_partitions));
    }
    topics
}

/// Creates the topics of `wanted` that do not exist, and waits until they can be used. Returns the names of those created; what exists is
/// left as it is.
pub fn ensure_topics(options: &KafkaOptions, wanted: &[TopicSpec]) -> Result<Vec<String>, PortError> {
    let doing = format!("creating topics on {}", options.brokers);
    let admin: AdminClient<DefaultClientContext> = options
        .client_config(Role::Admin)
        .create()
        .map_err(|error| PortError::Fatal(format!("kafka: the admin client cannot be created: {error}")))?;
    let existing = topic_names(&admin, options)?;
    let missing: Vec<&TopicSpec> = wanted.iter().filter(|spec| !existing.contains(&spec.name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let requests: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|spec| {
            let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(options.replication_factor));
            spec.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let limits = AdminOptions::new().request_timeout(Some(options.request_timeout())).operation_timeout(Some(options.request_timeout()));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| PortError::Fatal(format!("kafka: {doing}: {error}")))?;
    let answers = runtime.block_on(admin.create_topics(&requests, &limits)).map_err(|error| port_error(&doing, &error))?;
    let mut created = Vec::new();
    for answer in answers {
        match answer {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {} // somebody else was faster
            Err((name, code)) if is_permanent(code) => {
                return Err(PortError::Fatal(format!(
                    "kafka: topic '{name}' cannot be created: {code}. Create it by hand, or see kafka.replication_factor and permissions"
                )));
            }
            Err((name, code)) => return Err(PortError::Retriable(format!("kafka: topic '{name}' cannot be created now: {code}"))),
        }
    }
    // A created topic is announced to the brokers a moment later.
    let deadline = Instant::now() + options.request_timeout();
    loop {
        let existing = topic_names(&admin, options)?;
        let Some(absent) = wanted.iter().find(|spec| !existing.contains(&spec.name)) else { break };
        if Instant::now() >= deadline {
            return Err(PortError::Retriable(format!("kafka: topic '{}' was created, but cannot be seen yet", absent.name)));
        }
    }
    Ok(created)
}

fn topic_names(admin: &AdminClient<DefaultClientContext>, options: &KafkaOptions) -> Result<BTreeSet<String>, PortError> {
    let doing = format!("listing the topics of {}", options.brokers);
    let metadata = admin.inner().fetch_metadata(None, options.request_timeout()).map_err(|error| port_error(&doing, &error))?;
    let usable = |topic: &&rdkafka::metadata::MetadataTopic| {
        topic.error().is_none() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
    };
    Ok(metadata.topics().iter().filter(usable).map(|topic| topic.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_has_a_topic_and_epochs_have_one_order() {
        let options = KafkaOptions::default();
        let topics = output_topics(&options);
        for output in Output::ALL {
            let spec = topics.iter().find(|spec| spec.name == options.outputs.name(output)).unwrap();
            assert_eq!(spec.partitions == 1, output == Output::Epochs, "{output:?}");
            assert!(spec.settings.contains(&("retention.ms", "-1")));
            let keeps_newest = matches!(output, Output::CurrentScores | Output::PolicyState);
            assert_eq!(spec.settings.contains(&("cleanup.policy", "compact")), keeps_newest, "{output:?}");
        }
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
