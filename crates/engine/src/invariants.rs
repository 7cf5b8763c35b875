//! Named invariants of epochs, each with the promise of the design that it is part of.
//!
//! One predicate serves three callers: `debug_assert!` where the machine seals,
//! [`Chain`](crate::Chain) where a script is read back,
//! and the tests on everything that was committed.

use crate::epoch::{EpochRecord, PartitionInterval, PartitionLayout, sum};
use crate::ports::{Output, SealedEpoch};

/// C1: numbers start at 1 and have no gaps. `before` is the epoch before, if there is one.
pub fn numbers_have_no_gaps(before: Option<&EpochRecord>, next: &EpochRecord) -> bool {
    next.epoch == before.map_or(1, |before| before.epoch + 1)
}

/// C1: every interval starts where the one before ended, so intervals tile each partition.
/// Partitions that were added start anywhere.
pub fn intervals_tile(before: &[PartitionInterval], next: &[PartitionInterval]) -> bool {
    next.len() >= before.len()
        && before
            .iter()
            .zip(next)
            .all(|(then, now)| then.end == now.start)
}

/// C1: no interval runs backwards or contains more records than offsets.
pub fn intervals_hold_their_records(next: &[PartitionInterval]) -> bool {
    next.iter()
        .all(|interval| (0..=interval.end - interval.start).contains(&interval.read))
}

/// C1: layouts only grow, so an index of an older layout names the same partition in every later
/// one.
pub fn layout_extends(before: &PartitionLayout, next: &PartitionLayout) -> bool {
    next.partitions.starts_with(&before.partitions)
}

/// C1: the transaction and the record in it are of one epoch: number, `as_of`, nonce, positions.
pub fn sealed_as_recorded(sealed: &SealedEpoch, record: &EpochRecord) -> bool {
    sealed.number as i64 == record.epoch
        && sealed.as_of_ms == record.as_of
        && Some(sealed.nonce) == record.nonce()
        && sealed.positions == record.positions()
}

/// C4: each dead letter that is counted is written, and no other.
pub fn dead_letters_are_written(sealed: &SealedEpoch, record: &EpochRecord) -> bool {
    let letters = sealed.outputs.iter();
    let written = letters.filter(|r| r.output == Output::DeadLetters).count();
    written as i64 == dead(record)
}

/// C6: every record that was read has exactly one outcome: accepted, duplicate, unchanged or dead
/// letter.
pub fn records_have_one_outcome(record: &EpochRecord) -> bool {
    let read: i64 = record.partitions.iter().map(|p| p.read).sum();
    read == record.outcomes().records()
}

/// C7: `as_of` never goes back, so no later epoch rewrites a moment that was scored. Milliseconds.
pub fn as_of_never_goes_back(before_ms: i64, next_ms: i64) -> bool {
    next_ms >= before_ms
}

/// C9: ticks ascend, and each one's positions lie within the epoch's intervals, none before those
/// of the tick before. `before_ms` is the last tick closed before the epoch.
pub fn ticks_divide_the_intervals(before_ms: Option<i64>, next: &EpochRecord) -> bool {
    let closed = next.ticks.iter().map(|closing| closing.tick);
    let is_ascending = before_ms
        .into_iter()
        .chain(closed)
        .is_sorted_by(|a, b| a < b);
    let mut at: Vec<i64> = next.partitions.iter().map(|p| p.start).collect();
    is_ascending
        && next.ticks.iter().all(|closing| {
            let held = at.len() == closing.positions.len()
                && at
                    .iter()
                    .zip(&closing.positions)
                    .all(|(from, to)| from <= to)
                && closing
                    .positions
                    .iter()
                    .zip(&next.partitions)
                    .all(|(to, p)| *to <= p.end);
            at.clone_from(&closing.positions);
            held
        })
}

fn dead(record: &EpochRecord) -> i64 {
    sum(&record.dead_lettered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::LayoutPartition;

    fn interval(start: i64, end: i64, read: i64) -> PartitionInterval {
        PartitionInterval { start, end, read }
    }

    #[test]
    fn intervals_tile_only_without_gap_and_overlap() {
        let before = [interval(0, 4, 4), interval(7, 7, 0)];
        let cases: [(&[PartitionInterval], bool); 5] = [
            (&[interval(4, 9, 1), interval(7, 8, 1)], true),
            (
                &[interval(4, 9, 1), interval(7, 8, 1), interval(3, 5, 2)],
                true,
            ),
            (&[interval(5, 9, 1), interval(7, 8, 1)], false),
            (&[interval(3, 9, 1), interval(7, 8, 1)], false),
            (&[interval(4, 9, 1)], false),
        ];
        for (next, expected) in cases {
            assert_eq!(intervals_tile(&before, next), expected, "{next:?}");
        }
    }

    #[test]
    fn intervals_hold_at_most_as_many_records_as_offsets() {
        assert!(intervals_hold_their_records(&[
            interval(3, 5, 2),
            interval(3, 5, 0)
        ]));
        assert!(!intervals_hold_their_records(&[interval(3, 5, 3)]));
        assert!(!intervals_hold_their_records(&[interval(5, 3, 0)]));
        assert!(!intervals_hold_their_records(&[interval(3, 5, -1)]));
    }

    #[test]
    fn a_layout_that_reorders_partitions_does_not_extend() {
        let layout = |topics: &[&str]| PartitionLayout {
            partitions: topics
                .iter()
                .map(|topic| LayoutPartition {
                    topic: (*topic).to_owned(),
                    partition: 0,
                })
                .collect(),
            ..PartitionLayout::default()
        };
        assert!(layout_extends(&layout(&["a"]), &layout(&["a", "b"])));
        assert!(!layout_extends(&layout(&["a", "b"]), &layout(&["b", "a"])));
        assert!(!layout_extends(&layout(&["a", "b"]), &layout(&["a"])));
    }
}
