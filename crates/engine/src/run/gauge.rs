//! Lag, sizes and waits, measured every few seconds between two epochs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Engine, RunError};
use crate::ports::{Attendant, InputPartition, LogEnd, NextOffset, RecordBatch};
use crate::read_model::{PartitionLag, Phase};

/// Interval at which lag and sizes are measured.
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// Without an answer of the brokers for this long, the process is not ready.
const BROKERS_PATIENCE: Duration = Duration::from_secs(10);
/// A transaction of a producer may be open this long before it is reported that records wait
/// behind it.
const OPEN_TRANSACTION_PATIENCE: Duration = Duration::from_secs(10);

/// Memory of what was measured. Moments are of the clock port's elapsed time.
#[derive(Default)]
pub(super) struct Gauges {
    pub lag_records: u64,
    /// True for epochs after the topics were read to where they ended at the start.
    pub is_caught_up: bool,
    /// Time of the last measurement of the graph; `None` before the first.
    measured: Option<Duration>,
    /// The last moment at which the ends of the topics were known.
    lag_known: Option<Duration>,
    /// Stable ends that stood before the high watermark at the last look, and the moment since
    /// which they have.
    waiting_behind: BTreeMap<usize, (NextOffset, Duration)>,
    /// The moment of the next count of the graph; `None` before the first.
    count_again: Option<Duration>,
    /// By partition: Kafka timestamp of the newest record taken into an epoch, milliseconds; before
    /// the first one the moment at which records were first seen to wait.
    newest_taken_ms: BTreeMap<usize, i64>,
}

impl Gauges {
    /// Notes the records of an epoch.
    pub(super) fn note_taken(&mut self, records: &RecordBatch) {
        for record in records.iter() {
            let newest_ms = self
                .newest_taken_ms
                .entry(record.partition() as usize)
                .or_insert(record.timestamp_ms());
            *newest_ms = record.timestamp_ms().max(*newest_ms);
        }
    }

    /// Seconds by which a partition is behind; 0 where no record waits.
    fn behind_s(&mut self, partition: usize, lag: i64, wall_ms: i64) -> i64 {
        if lag == 0 {
            return 0;
        }
        let newest_ms = self.newest_taken_ms.entry(partition).or_insert(wall_ms);
        ((wall_ms - *newest_ms) / 1000).max(0)
    }
}

impl Engine {
    /// Measures, if the last time is long enough ago, and shows it as live.
    pub(super) fn gauge(&mut self) -> Result<(), RunError> {
        if self.measure()? {
            self.read_model.set_status(self.status(Phase::Live, None));
        }
        Ok(())
    }

    /// Measures, if the last time is long enough ago. Returns true if it was.
    pub(super) fn measure(&mut self) -> Result<bool, RunError> {
        let now = self.elapsed();
        let gauges = &mut self.gauges;
        if gauges
            .measured
            .is_some_and(|at| now.saturating_sub(at) < GAUGE_EVERY)
        {
            return Ok(false);
        }
        gauges.measured = Some(now);
        self.notices.look(now);
        self.metrics.said(&self.machine.said_counts());
        let residence = self.machine.graph().residence();
        self.metrics.residence(&residence.unwrap_or_default());
        match self.ports.source.last_ends() {
            Some(ends) => {
                self.measure_lag(&ends, now);
                self.gauges.lag_known = Some(now);
                self.attendant.report("brokers", None);
            }
            None if gauges
                .lag_known
                .is_some_and(|at| now.saturating_sub(at) > BROKERS_PATIENCE) =>
            {
                let text = "the brokers have not said for more than 10 s where the input topics end; records may wait there";
                self.attendant.report("brokers", Some(text.to_owned()));
            }
            None => {}
        }
        if self.gauges.count_again.is_none_or(|at| at <= now) {
            self.count_graph();
        }
        Ok(true)
    }

    /// Counts the graph. It walks all of it: the larger the graph, the rarer, so that epochs wait
    /// a hundredth of the time at most.
    fn count_graph(&mut self) {
        let started = self.elapsed();
        let graph = self.machine.graph();
        self.metrics.size(&graph.size(), &self.catalog);
        self.metrics.identity(&graph.identity());
        let ended = self.elapsed();
        self.gauges.count_again = Some(ended + ended.saturating_sub(started) * 100);
    }

    /// Measures how many records wait, and reports those that wait behind a transaction which its
    /// producer does not end.
    fn measure_lag(&mut self, ends: &[LogEnd], now: Duration) {
        let partitions: &[InputPartition] = self.ports.source.partitions();
        let positions = self.machine.positions();
        let wall_ms = self.ports.clock.wall_ms();
        let mut by_topic: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        let mut waiting: Option<String> = None;
        let mut lags: Vec<PartitionLag> = Vec::with_capacity(partitions.len());
        for (index, ((partition, end), at)) in
            partitions.iter().zip(ends).zip(positions).enumerate()
        {
            let lag = (end.high.0 - at.0).max(0);
            let behind_s = self.gauges.behind_s(index, lag, wall_ms);
            let (records, seconds) = by_topic.entry(&partition.topic).or_default();
            *records += lag;
            *seconds = behind_s.max(*seconds);
            lags.push(PartitionLag {
                topic: partition.topic.clone(),
                partition: partition.partition,
                next_offset: at.0,
                end_offset: end.high.0,
                lag_records: lag as u64,
            });
            if *at < end.stable || end.stable >= end.high {
                self.gauges.waiting_behind.remove(&index);
                continue;
            }
            let (stable, since) = self
                .gauges
                .waiting_behind
                .entry(index)
                .or_insert((end.stable, now));
            if *stable != end.stable {
                (*stable, *since) = (end.stable, now);
            } else if now.saturating_sub(*since) >= OPEN_TRANSACTION_PATIENCE {
                waiting.get_or_insert(format!(
                    "{} records of {}/{} wait behind a transaction that is open since offset {}: its producer neither commits nor aborts it",
                    end.high.0 - end.stable.0,
                    partition.topic,
                    partition.partition,
                    end.stable.0
                ));
            }
        }
        self.read_model.set_partition_lags(lags);
        self.gauges.lag_records = by_topic.values().map(|(records, _)| records).sum::<i64>() as u64;
        for (topic, (records, seconds)) in by_topic {
            self.metrics.lag(topic, records, seconds);
        }
        self.read_model
            .set_condition("open transaction", waiting, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(partition: u32, timestamps_ms: &[i64]) -> RecordBatch {
        let mut batch = RecordBatch::default();
        for (offset, at_ms) in timestamps_ms.iter().enumerate() {
            batch.push(partition, offset as i64, *at_ms, None, Some(b"x"), []);
        }
        batch
    }

    #[test]
    fn a_partition_is_behind_by_the_age_of_its_newest_record_while_records_wait() {
        let mut gauges = Gauges::default();
        gauges.note_taken(&records(1, &[40_000, 50_000, 45_000]));
        assert_eq!(gauges.behind_s(1, 3, 62_500), 12);
        assert_eq!(gauges.behind_s(1, 0, 99_000), 0, "nothing waits");
        assert_eq!(
            gauges.behind_s(1, 3, 40_000),
            0,
            "a clock behind the producer's"
        );
    }

    #[test]
    fn a_partition_that_gave_no_record_is_behind_since_records_were_seen_to_wait() {
        let mut gauges = Gauges::default();
        assert_eq!(gauges.behind_s(0, 2, 10_000), 0);
        assert_eq!(gauges.behind_s(0, 2, 25_000), 15);
    }
}
