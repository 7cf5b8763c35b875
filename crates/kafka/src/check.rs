//! [`check_cluster`]: the needs of a deployment, asked of its cluster without changing anything.

use std::collections::BTreeSet;

use leadpulse_engine::ports::{InputPartition, NextOffset, PortCause, PortError};

use crate::committed::read_offsets;
use crate::offsets::OffsetReader;
use crate::options::KafkaOptions;
use crate::source::InputTopic;
use crate::topics::output_topics;

/// The result of a look at a cluster.
#[derive(Debug, Default)]
pub struct ClusterReport {
    /// Needs that the cluster does not meet.
    pub faults: Vec<PortError>,
    /// Needs that were met, and those that cannot be asked for, in words.
    pub remarks: Vec<String>,
}

/// Looks whether the brokers can be reached and let this program in, whether the input topics exist
/// and can be read, whether the output topics can be seen, and whether the group can be read. Those
/// of the inputs that are among `created` may be absent: a run creates them.
///
/// Creates nothing and takes nothing over. So the right to create topics, to write to them, and to
/// use the transactional id shows at the start of a run only: brokers tell these by refusing.
pub fn check_cluster(
    options: &KafkaOptions,
    inputs: &[InputTopic],
    created: &[InputTopic],
) -> ClusterReport {
    let mut report = ClusterReport::default();
    let reader = match OffsetReader::for_a_moment(options) {
        Ok(reader) => reader,
        Err(fault) => {
            report.faults.push(fault);
            return report;
        }
    };
    if let Err(fault) = reader.topics() {
        // Nothing else can be asked.
        report.faults.push(fault);
        return report;
    }
    let brokers = &options.brokers;
    report
        .remarks
        .push(format!("{brokers} lets {} in", options.principal()));
    let mut readable: Option<InputPartition> = None;
    let mut asked = BTreeSet::new();
    for input in inputs {
        if !asked.insert(&input.topic) {
            continue;
        }
        match check_input(&reader, options, input) {
            Ok(partitions) => {
                let topic = &input.topic;
                report.remarks.push(format!(
                    "input topic '{topic}' can be read ({partitions} partitions)"
                ));
                readable.get_or_insert(InputPartition {
                    topic: input.topic.clone(),
                    partition: 0,
                    tables: input.tables.clone(),
                });
            }
            Err(fault) if fault.cause() == PortCause::TopicMissing && created.contains(input) => {
                let topic = &input.topic;
                report.remarks.push(format!(
                    "input topic '{topic}' does not exist; a run creates it"
                ));
            }
            Err(fault) => report.faults.push(fault),
        }
    }
    check_outputs(&reader, options, &mut report);
    if let Some(partition) = readable {
        check_group(&reader, options, partition, &mut report);
    }
    report.remarks.push(format!(
        "not asked for: Create and Write on output topics, Write on transactional id '{}'",
        options.transactional_id
    ));
    report
}

/// Reads one record of a topic, or its end. Returns the number of partitions.
fn check_input(
    reader: &OffsetReader,
    options: &KafkaOptions,
    input: &InputTopic,
) -> Result<i32, PortError> {
    let topic = &input.topic;
    let Some(partitions) = reader.partition_count(topic)? else {
        return Err(PortError::fatal(
            PortCause::TopicMissing,
            format!(
                "kafka: there is no input topic '{topic}' on {}: create it, or correct its name in \
                 the sources",
                options.brokers
            ),
        ));
    };
    let place = (topic.clone(), 0);
    let start = reader.starts(std::slice::from_ref(&place))?;
    reader.probe(&place, NextOffset(start[0].0))?;
    Ok(partitions)
}

fn check_outputs(reader: &OffsetReader, options: &KafkaOptions, report: &mut ClusterReport) {
    for wanted in output_topics(options) {
        let name = &wanted.name;
        match reader.partition_count(name) {
            Ok(None) => report.remarks.push(format!(
                "output topic '{name}' does not exist; a run creates it"
            )),
            // Topics of one order have one partition; the others may have any number.
            Ok(Some(found)) if wanted.partitions == 1 && found != 1 => {
                report.faults.push(PortError::fatal(
                    PortCause::TopicUnsuitable,
                    format!(
                        "kafka: output topic '{name}' has {found} partitions, and needs exactly \
                         one: delete it, or name another in kafka.outputs"
                    ),
                ));
            }
            Ok(Some(_)) => report.remarks.push(format!("output topic '{name}' exists")),
            // A topic that may not be seen and does not exist gives this answer too.
            Err(fault) => report.faults.push(fault),
        }
    }
}

fn check_group(
    reader: &OffsetReader,
    options: &KafkaOptions,
    partition: InputPartition,
    report: &mut ClusterReport,
) {
    let group = &options.group_id;
    let asked = read_offsets(
        reader.client(),
        group,
        &[partition],
        options.request_timeout(),
    );
    match asked {
        Ok(_) => report.remarks.push(format!("group '{group}' can be read")),
        Err(fault) => report.faults.push(fault),
    }
}
