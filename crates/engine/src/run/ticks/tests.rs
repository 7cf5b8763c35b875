//! Ticks over partitions that are polled in every order.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ports::{InputPartition, LogEnd, PollLimit, PortError, Stuck};

/// A source that answers where it was read to and where it ends.
struct Ends {
    read_to: Vec<NextOffset>,
    ends: Vec<NextOffset>,
    asked: usize,
    /// Partitions whose next record cannot be read.
    stuck: Vec<u32>,
}

impl Source for Ends {
    fn partitions(&self) -> &[InputPartition] {
        &[]
    }
    fn arrange(&mut self, _: Vec<InputPartition>) -> Result<(), PortError> {
        Ok(())
    }
    fn pause(&mut self, _: &[u32]) -> Result<(), PortError> {
        Ok(())
    }
    fn resume(&mut self, _: &[u32]) -> Result<(), PortError> {
        Ok(())
    }
    fn skip_to(&mut self, _: u32, _: NextOffset) -> Result<(), PortError> {
        Ok(())
    }
    fn seek(&mut self, _: &[NextOffset]) -> Result<(), PortError> {
        Ok(())
    }
    fn poll(&mut self, _: &mut RecordBatch, _: PollLimit, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
    fn read_to(&mut self) -> Result<Vec<NextOffset>, PortError> {
        Ok(self.read_to.clone())
    }
    fn stuck(&mut self) -> Vec<Stuck> {
        let places = self.stuck.iter().map(|partition| Stuck {
            partition: *partition,
            offset: self.read_to[*partition as usize],
            reason: "damaged".into(),
        });
        places.collect()
    }
    fn starts(&mut self) -> Result<Vec<NextOffset>, PortError> {
        Ok(vec![NextOffset(0); self.ends.len()])
    }
    fn ends(&mut self) -> Result<Vec<LogEnd>, PortError> {
        self.asked += 1;
        let end = |at: &NextOffset| LogEnd {
            stable: *at,
            high: *at,
        };
        Ok(self.ends.iter().map(end).collect())
    }
}

/// Partitions with timestamps of records, and how far each was read.
struct Log {
    stamps: Vec<Vec<i64>>,
    inbox: Inbox,
    source: Ends,
    blocked: Vec<Option<String>>,
}

impl Log {
    fn new(stamps: Vec<Vec<i64>>) -> Self {
        let ends = stamps
            .iter()
            .map(|of| NextOffset(of.len() as i64))
            .collect();
        Self {
            inbox: Inbox::new(stamps.len()),
            source: Ends {
                read_to: vec![NextOffset(0); stamps.len()],
                ends,
                asked: 0,
                stuck: Vec::new(),
            },
            blocked: vec![None; stamps.len()],
            stamps,
        }
    }

    fn poll(&mut self, partition: usize, records: usize) {
        for _ in 0..records {
            let at = &mut self.source.read_to[partition].0;
            let Some(stamp) = self.stamps[partition].get(*at as usize) else {
                return;
            };
            let mut batch = RecordBatch::default();
            batch.push(partition as u32, *at, *stamp, None, None, []);
            self.inbox.push(batch.record(0));
            *at += 1;
        }
    }

    fn take(
        &mut self,
        ticks: &mut Ticks,
        taken: &mut Taken,
        limit: usize,
        to_the_end: bool,
        clock_ms: Option<i64>,
    ) {
        let ends = self.source.ends.clone();
        let outside = Outside {
            blocked: &self.blocked,
            ends: to_the_end.then_some(&ends[..]),
            clock_ms,
        };
        let limit = (limit, usize::MAX);
        ticks.take(
            &mut self.inbox,
            taken,
            limit,
            i64::MAX,
            &outside,
            &mut self.source,
        );
    }
}

fn ticks(first_ms: i64, partitions: usize) -> Ticks {
    let mut ticks = Ticks::new(10);
    ticks.arrange(partitions);
    ticks.begin(first_ms, None, None);
    ticks
}

/// Every record with the tick that closed over it.
fn closed_by(closings: &[TickClosing], stamps: &[Vec<i64>]) -> Vec<Vec<Option<i64>>> {
    let closing = |partition: usize, offset: usize| {
        let mut all = closings.iter();
        let first = all.find(|closing| closing.covers(partition as u32, offset as i64));
        first.map(|closing| closing.tick)
    };
    let of = |(partition, of): (usize, &Vec<i64>)| {
        (0..of.len())
            .map(|offset| closing(partition, offset))
            .collect()
    };
    stamps.iter().enumerate().map(of).collect()
}

proptest! {
    #[test]
    fn the_end_of_the_log_gives_the_same_ticks_however_it_is_polled(
        stamps in prop::collection::vec(prop::collection::vec(0i64..200, 0..12), 1..4),
        polls in prop::collection::vec((0usize..4, 1usize..5, 1usize..9), 0..60),
    ) {
        let expected: Vec<Vec<Option<i64>>> = stamps.iter().map(|of| {
            let mut newest = i64::MIN;
            of.iter().map(|stamp| {
                newest = newest.max(*stamp);
                Some(((newest + 9).div_euclid(10) * 10).max(50))
            }).collect()
        }).collect();
        let newest = stamps.iter().flatten().max().copied().unwrap_or(0);
        prop_assume!(newest > 40);
        let mut log = Log::new(stamps);
        let mut ticks = ticks(50, log.stamps.len());
        let mut taken = Taken::from(&vec![NextOffset(0); log.stamps.len()]);
        for (partition, records, limit) in polls {
            log.poll(partition % log.blocked.len(), records);
            let room = taken.records.len() + limit;
            log.take(&mut ticks, &mut taken, room, true, None);
        }
        for partition in 0..log.blocked.len() {
            log.poll(partition, 100);
        }
        log.take(&mut ticks, &mut taken, usize::MAX, true, None);
        prop_assert_eq!(closed_by(&taken.closings, &log.stamps), expected);
        prop_assert!(taken.closings.is_sorted_by(|a, b| a.tick < b.tick));
        prop_assert_eq!(taken.late, 0);
    }
}

#[test]
fn the_end_of_the_log_ends_no_tick_ahead_of_it() {
    let mut log = Log::new(vec![vec![13, 17]]);
    let mut ticks = ticks(100, 1);
    let mut taken = Taken::from(&[NextOffset(0)]);
    log.poll(0, 2);
    log.take(&mut ticks, &mut taken, 99, true, None);
    assert_eq!(
        (taken.records.len(), taken.closings.len(), ticks.open_ms()),
        (2, 0, Some(100))
    );
}

#[test]
fn a_tick_waits_for_every_partition_and_for_the_clock() {
    let mut log = Log::new(vec![vec![101, 111], vec![102]]);
    let mut ticks = ticks(100, 2);
    let mut taken = Taken::from(&[NextOffset(0); 2]);
    log.poll(0, 2);
    log.take(&mut ticks, &mut taken, 99, false, Some(112));
    // The other partition may still give a record of an earlier tick.
    assert_eq!(taken.records.len(), 0);
    log.poll(1, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(112));
    assert_eq!(
        closed_by(&taken.closings, &log.stamps),
        [vec![Some(110), None], vec![Some(110)]]
    );
    assert_eq!(
        (taken.records.len(), ticks.open_ms()),
        (3, Some(120)),
        "the newest is applied at once"
    );
    assert_eq!(log.source.asked, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(119));
    log.take(&mut ticks, &mut taken, 99, false, Some(120));
    assert_eq!(
        taken.closings.last().map(|c| c.tick),
        Some(110),
        "120 is not over at 120"
    );
    log.take(&mut ticks, &mut taken, 99, false, Some(121));
    assert_eq!(taken.closings.last().map(|c| c.tick), Some(120));
    assert_eq!(log.source.asked, 2);
}

#[test]
fn a_record_that_comes_late_belongs_to_the_next_tick() {
    let mut log = Log::new(vec![vec![101], vec![]]);
    let mut ticks = ticks(100, 2);
    let mut taken = Taken::from(&[NextOffset(0); 2]);
    log.poll(0, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(115));
    assert_eq!(
        closed_by(&taken.closings, &log.stamps),
        [vec![Some(110)], vec![]]
    );
    log.stamps[1].push(103);
    log.poll(1, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(116));
    assert_eq!(
        (taken.late, taken.records.len(), ticks.open_ms()),
        (1, 2, Some(120))
    );
}

#[test]
fn a_producers_clock_that_runs_ahead_opens_no_later_tick() {
    let mut log = Log::new(vec![vec![9_000_000]]);
    let mut ticks = ticks(100, 1);
    let mut taken = Taken::from(&[NextOffset(0)]);
    log.poll(0, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(115));
    assert_eq!(ticks.open_ms(), Some(120));
}

#[test]
fn a_blocked_partition_is_not_waited_for() {
    let mut log = Log::new(vec![vec![101, 121], vec![102]]);
    log.blocked[1] = Some("no schema".into());
    let mut ticks = ticks(100, 2);
    let mut taken = Taken::from(&[NextOffset(0); 2]);
    log.poll(0, 2);
    log.poll(1, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(122));
    assert_eq!(taken.closings.last().map(|c| c.tick), Some(110));
    log.blocked[1] = None;
    log.take(&mut ticks, &mut taken, 99, false, Some(123));
    assert_eq!(
        (taken.late, ticks.open_ms()),
        (1, Some(130)),
        "it belongs to the open tick then"
    );
}

#[test]
fn a_damaged_partition_is_not_waited_for() {
    let mut log = Log::new(vec![vec![101, 121], vec![102, 103]]);
    let mut ticks = ticks(100, 2);
    let mut taken = Taken::from(&[NextOffset(0); 2]);
    log.poll(0, 2);
    log.poll(1, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(150));
    assert_eq!(taken.closings.len(), 0, "it may still give a record of 110");
    log.source.stuck = vec![1];
    log.take(&mut ticks, &mut taken, 99, false, Some(150));
    let ticks_closed: Vec<i64> = taken.closings.iter().map(|c| c.tick).collect();
    assert_eq!(ticks_closed, [110, 130, 140]);
}

#[test]
fn the_clock_ends_ticks_where_no_partition_goes_on() {
    let mut log = Log::new(vec![vec![101, 121]]);
    let mut ticks = ticks(100, 1);
    let mut taken = Taken::from(&[NextOffset(0)]);
    log.poll(0, 1);
    log.take(&mut ticks, &mut taken, 99, false, Some(105));
    assert_eq!((taken.closings.len(), ticks.open_ms()), (0, Some(110)));
    log.blocked[0] = Some("no schema".into());
    log.take(&mut ticks, &mut taken, 99, false, Some(110));
    assert_eq!(taken.closings.len(), 0, "the tick's time has not passed");
    log.take(&mut ticks, &mut taken, 99, false, Some(111));
    assert_eq!(taken.closings.last().map(|c| c.tick), Some(110));
}
