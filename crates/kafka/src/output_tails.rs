//! Output topics that are read on: each read goes on where the one before ended.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{Output, PortError, ReadFrom};

use crate::metrics::KafkaMetrics;
use crate::offsets::{Isolation, OffsetRange, OffsetReader, TopicPartition};
use crate::options::KafkaOptions;
use crate::output_log::places;

/// Where reading stands in the partitions of one topic.
struct Tail {
    places: Vec<TopicPartition>,
    /// The next offset of each partition.
    next: Vec<i64>,
}

/// The output topics that are read on, through one client.
pub(crate) struct OutputTails {
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// `None` before the first read.
    offsets: Option<OffsetReader>,
    tails: FxHashMap<Output, Tail>,
}

impl OutputTails {
    /// Tails that connect at the first read.
    pub(crate) fn new(options: &KafkaOptions, metrics: &Arc<KafkaMetrics>) -> Self {
        Self {
            options: options.clone(),
            metrics: Arc::clone(metrics),
            offsets: None,
            tails: FxHashMap::default(),
        }
    }

    /// Calls `each` with the committed records of an output since the call before, up to where its
    /// partitions end now.
    ///
    /// # Errors
    /// Brokers that do not answer; the error of `each`. The next call goes on after the last
    /// record that `each` took.
    pub(crate) fn read_on(
        &mut self,
        output: Output,
        from: ReadFrom,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let offsets = match self.offsets.take() {
            Some(offsets) => offsets,
            None => OffsetReader::connect(&self.options, Isolation::Committed, &self.metrics)?,
        };
        let offsets = self.offsets.insert(offsets);
        let tail = match self.tails.get_mut(&output) {
            Some(tail) => tail,
            None => {
                let tail = Tail::begin(&self.options, offsets, output, from)?;
                self.tails.entry(output).or_insert(tail)
            }
        };
        tail.read(offsets, self.options.outputs.name(output), each)
    }
}

impl Tail {
    fn begin(
        options: &KafkaOptions,
        offsets: &OffsetReader,
        output: Output,
        from: ReadFrom,
    ) -> Result<Self, PortError> {
        let places = places(options, offsets, output)?;
        if places.is_empty() {
            let next = Vec::new();
            return Ok(Self { places, next });
        }
        let starts = offsets.starts(&places)?.into_iter().map(|start| start.0);
        let next = match from {
            ReadFrom::Start => starts.collect(),
            ReadFrom::End => offsets.stable_ends(&places)?,
            ReadFrom::Newest(count) => {
                let ends = offsets.stable_ends(&places)?;
                // A transaction's marker takes an offset, so at least every second offset is a
                // record.
                let before = |end: i64| end.saturating_sub(2 * count as i64);
                starts
                    .zip(ends)
                    .map(|(start, end)| start.max(before(end)))
                    .collect()
            }
        };
        Ok(Self { places, next })
    }

    fn read(
        &mut self,
        offsets: &OffsetReader,
        topic: &str,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        if self.places.is_empty() {
            return Ok(());
        }
        let ends = offsets.stable_ends(&self.places)?;
        let mut ranges = Vec::with_capacity(ends.len());
        for (((_, partition), from), end) in self.places.iter().zip(&self.next).zip(&ends) {
            ranges.push(OffsetRange {
                partition: *partition,
                from: *from,
                end: *end,
            });
        }
        let next = &mut self.next;
        offsets.read(topic, &ranges, &mut |message| {
            each(message)?;
            // Partitions are numbered as they are listed.
            next[message.partition() as usize] = message.offset() + 1;
            Ok(())
        })?;
        for (next, end) in self.next.iter_mut().zip(ends) {
            *next = (*next).max(end);
        }
        Ok(())
    }
}
