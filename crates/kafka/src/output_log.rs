//! [`KafkaOutputLog`]: reads the committed outputs back at a start, and on for a follower, in
//! bounded memory.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::message::{BorrowedMessage, Message};

use leadpulse_engine::ports::{
    EachRecord, EachWhole, LogStep, Output, OutputLog, OutputPositions, OutputRecord, PortCause,
    PortError, ReadFrom, ScriptFault,
};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetRange, OffsetReader, TopicPartition};
use crate::options::KafkaOptions;
use crate::output_tails::OutputTails;
use crate::record::{for_each_header, timestamp_ms};

/// Most epoch records that are read ahead of the engine.
const READ_AHEAD_RECORDS: usize = 256;
/// Pause before brokers are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The value of an epoch record, and the offset behind it.
type ScriptValue = (i64, Vec<u8>);

/// The output topics, as a restart and a follower read them.
pub struct KafkaOutputLog {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// `None` before the first rewind.
    script: Option<ScriptReader>,
    /// The offset behind the last epoch record that was given.
    position: i64,
    tails: OutputTails,
}

/// A read of the epochs topic up to an end that was noted.
struct ScriptReader {
    offsets: Arc<OffsetReader>,
    /// The end that was noted: the offset at which reading goes on.
    end: i64,
    /// Values of epoch records, from a thread that reads ahead. There may be millions of records,
    /// so the channel is short.
    values: Receiver<Result<ScriptValue, PortError>>,
}

impl KafkaOutputLog {
    /// The log in the topics of `options`, which connects at the first read.
    pub fn new(options: &KafkaOptions, metrics: &Arc<KafkaMetrics>) -> Self {
        Self {
            options: options.clone(),
            metrics: Arc::clone(metrics),
            script: None,
            position: 0,
            tails: OutputTails::new(options, metrics),
        }
    }

    fn places(
        &self,
        offsets: &OffsetReader,
        output: Output,
    ) -> Result<Vec<TopicPartition>, PortError> {
        places(&self.options, offsets, output)
    }

    /// Reads the epochs topic from `from`, or from its beginning if that is later, to where it ends
    /// now.
    fn read_script_from(&mut self, offsets: Arc<OffsetReader>, from: i64) -> Result<(), PortError> {
        let topic = self.options.outputs.name(Output::Epochs).to_owned();
        let place = [(topic.clone(), 0)];
        let range = OffsetRange {
            partition: 0,
            from: offsets.starts(&place)?[0].0.max(from),
            end: offsets.stable_ends(&place)?[0],
        };
        let (outbox, values) = bounded(READ_AHEAD_RECORDS);
        // A broker that was just elected may answer with an end before the one that was read to.
        let end = range.end.max(range.from);
        if range.from < range.end {
            let reader = Arc::clone(&offsets);
            let spawned = std::thread::Builder::new()
                .name("kafka-epochs".into())
                .spawn(move || read_script(&reader, &topic, range, &outbox));
            spawned.map_err(|error| {
                PortError::fatal(
                    PortCause::Local,
                    format!(
                        "kafka: the thread that reads epoch records cannot be started: {error}"
                    ),
                )
            })?;
        }
        self.script = Some(ScriptReader {
            offsets,
            end,
            values,
        });
        Ok(())
    }

    /// Reads committed records of an output, from positions on or about the newest of each
    /// partition.
    fn read(
        &self,
        output: Output,
        part: Part<'_>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let offsets = OffsetReader::connect(&self.options, Isolation::Committed, &self.metrics)?;
        let places = self.places(&offsets, output)?;
        if places.is_empty() {
            return Ok(());
        }
        let (starts, ends) = (offsets.starts(&places)?, offsets.stable_ends(&places)?);
        let range = |(partition, (start, end)): (i32, (i64, i64))| {
            // A transaction's marker takes an offset, so at least every second offset is a record.
            let from = match part {
                Part::From(positions) => positions.next(output as u8, partition),
                Part::Newest(count) => end.saturating_sub(2 * count as i64),
            };
            let from = start.max(from);
            OffsetRange {
                partition,
                from,
                end,
            }
        };
        let ranges: Vec<OffsetRange> = (0..)
            .zip(starts.into_iter().map(|start| start.0).zip(ends))
            .map(range)
            .collect();
        offsets.read(self.options.outputs.name(output), &ranges, each)
    }
}

impl OutputLog for KafkaOutputLog {
    fn rewind(&mut self, from: i64) -> Result<(), PortError> {
        let offsets = OffsetReader::connect(&self.options, Isolation::Committed, &self.metrics)?;
        let topic = self.options.outputs.name(Output::Epochs).to_owned();
        let places = self.places(&offsets, Output::Epochs)?;
        if places.len() != 1 {
            return Err(PortError::fatal(
                PortCause::TopicUnsuitable,
                format!(
                    "kafka: the epochs topic '{topic}' has {} partitions; epochs have one order, so it must have one: name another in \
                 kafka.outputs.epochs",
                    places.len()
                ),
            ));
        }
        self.read_script_from(Arc::new(offsets), from)
    }

    fn go_on(&mut self) -> Result<(), PortError> {
        let Some(script) = &self.script else {
            return Err(before_rewind());
        };
        let (offsets, end) = (Arc::clone(&script.offsets), script.end);
        self.read_script_from(offsets, end)
    }

    fn read_on(
        &mut self,
        output: Output,
        from: ReadFrom,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        self.tails
            .read_on(output, from, &mut |message| each(whole(output, message)))
    }

    fn next(&mut self, wait: Duration) -> Result<LogStep, PortError> {
        let Some(script) = &self.script else {
            return Err(before_rewind());
        };
        match script.values.recv_timeout(wait) {
            Ok(Ok((position, value))) => {
                self.position = position;
                Ok(LogStep::Record(value))
            }
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Ok(LogStep::Waiting),
            Err(RecvTimeoutError::Disconnected) => Ok(LogStep::End),
        }
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn latest(
        &mut self,
        output: Output,
        from: &OutputPositions,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError> {
        self.read(output, Part::From(from), &mut |message| {
            each(message.key().unwrap_or_default(), message.payload())
        })
    }

    fn newest(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError> {
        self.read(output, Part::Newest(count), &mut |message| {
            each(message.key().unwrap_or_default(), message.payload())
        })
    }

    fn newest_whole(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        self.read(output, Part::Newest(count), &mut |message| {
            each(whole(output, message))
        })
    }
}

fn before_rewind() -> PortError {
    PortError::fatal(
        PortCause::Misuse,
        "kafka: epoch records are read before the log was rewound",
    )
}

/// The partitions of an output's topic; none where it is not written.
pub(crate) fn places(
    options: &KafkaOptions,
    offsets: &OffsetReader,
    output: Output,
) -> Result<Vec<TopicPartition>, PortError> {
    if !options.outputs.writes(output) {
        return Ok(Vec::new());
    }
    let topic = options.outputs.name(output);
    // A broker that was just elected may not know the topic yet, and an absent state must not
    // pass for an empty one.
    let Some(count) = offsets.partition_count(topic)? else {
        return Err(PortError::retriable(
            PortCause::TopicMissing,
            format!("kafka: topic '{topic}' is not there, or cannot be seen yet"),
        ));
    };
    Ok((0..count)
        .map(|partition| (topic.to_owned(), partition))
        .collect())
}

/// The part of an output that is read.
#[derive(Clone, Copy)]
enum Part<'a> {
    From(&'a OutputPositions),
    /// About so many of the newest of each partition.
    Newest(usize),
}

/// A committed record with its headers.
fn whole(output: Output, message: &BorrowedMessage<'_>) -> OutputRecord {
    let mut headers = Vec::new();
    for_each_header(message, |name, value| {
        headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
    });
    OutputRecord {
        output,
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: timestamp_ms(message),
    }
}

/// Sends the values of a range in order, and waits while brokers are away. Ends with the range,
/// with an error that stays, or when the receiver is gone.
fn read_script(
    offsets: &OffsetReader,
    topic: &str,
    range: OffsetRange,
    outbox: &Sender<Result<ScriptValue, PortError>>,
) {
    let mut from = range.from;
    let mut reads_on = true;
    while reads_on && from < range.end {
        let rest = OffsetRange { from, ..range };
        let outcome = offsets.read(topic, &[rest], &mut |message| {
            let Some(value) = message.payload() else {
                return Err(PortError::fatal(PortCause::ScriptBroken(ScriptFault::NoValue), format!(
                    "kafka: '{topic}' has a record without value at offset {}; epoch records are never deleted",
                    message.offset()
                )));
            };
            from = message.offset() + 1;
            reads_on = outbox.send(Ok((from, value.to_vec()))).is_ok();
            if reads_on { Ok(()) } else { Err(PortError::interrupted(PortCause::Stopped, "nobody reads the epoch records any more")) }
        });
        match outcome {
            Ok(()) => return,
            Err(PortError::Retriable(message)) => {
                tracing::warn!(%message, "reading epoch records again");
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => {
                let _ = outbox.send(Err(error)); // the receiver may be gone
                return;
            }
        }
    }
}
