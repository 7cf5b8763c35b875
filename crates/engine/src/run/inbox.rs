//! Records that were read before an epoch can take them, by partition, in order of offset.

use std::collections::VecDeque;

use crate::ports::{Record, RecordBatch};

/// Bytes of one piece of a queue: what is freed at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The records of one partition that wait.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<RecordBatch>,
    /// Records of the first chunk that were taken.
    taken: usize,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, record: Record<'_>) {
        if self
            .chunks
            .back()
            .is_none_or(|chunk| chunk.bytes() >= CHUNK_BYTES)
        {
            self.chunks.push_back(RecordBatch::default());
        }
        let chunk = self.chunks.back_mut().expect("a chunk was pushed");
        let before = chunk.bytes();
        chunk.push_copy(record);
        self.bytes += chunk.bytes() - before;
    }

    fn front(&self) -> Option<Record<'_>> {
        self.chunks
            .front()
            .filter(|chunk| self.taken < chunk.len())
            .map(|chunk| chunk.record(self.taken))
    }

    /// Moves the first record to `into`.
    fn pop(&mut self, into: &mut RecordBatch) {
        let Some(record) = self.front() else { return };
        into.push_copy(record);
        self.taken += 1;
        if self
            .chunks
            .front()
            .is_some_and(|chunk| self.taken == chunk.len())
        {
            let used = self.chunks.pop_front();
            self.bytes = self
                .bytes
                .saturating_sub(used.map_or(0, |chunk| chunk.bytes()));
            self.taken = 0;
        }
    }
}

/// Records that wait, by partition.
#[derive(Default)]
pub(super) struct Inbox {
    queues: Vec<Queue>,
}

impl Inbox {
    pub fn new(partitions: usize) -> Self {
        Self {
            queues: (0..partitions).map(|_| Queue::default()).collect(),
        }
    }

    /// Bytes of the records that wait.
    pub fn bytes(&self) -> usize {
        self.queues.iter().map(|queue| queue.bytes).sum()
    }

    /// Bytes of the records of a partition that wait.
    pub fn bytes_of(&self, partition: usize) -> usize {
        self.queues[partition].bytes
    }

    pub fn is_empty(&self, partition: usize) -> bool {
        self.queues[partition].front().is_none()
    }

    pub fn front(&self, partition: usize) -> Option<Record<'_>> {
        self.queues[partition].front()
    }

    /// Puts another inbox's records of a partition before those that wait here.
    pub fn put_before(&mut self, partition: usize, earlier: &mut Inbox) {
        let mut later = std::mem::replace(
            &mut self.queues[partition],
            std::mem::take(&mut earlier.queues[partition]),
        );
        let mut rest = RecordBatch::default();
        while later.front().is_some() {
            later.pop(&mut rest);
        }
        rest.iter()
            .for_each(|record| self.queues[partition].push(record));
    }

    pub fn push(&mut self, record: Record<'_>) {
        self.queues[record.partition() as usize].push(record);
    }

    /// Moves a partition's first record to `into`.
    pub fn pop(&mut self, partition: usize, into: &mut RecordBatch) {
        self.queues[partition].pop(into);
    }

    /// Moves a partition's records below an offset to `into`, as long as `into` holds fewer than
    /// these many records and bytes.
    pub fn take(
        &mut self,
        partition: usize,
        below: i64,
        limit: (usize, usize),
        into: &mut RecordBatch,
    ) {
        let queue = &mut self.queues[partition];
        while into.len() < limit.0
            && into.bytes() < limit.1
            && queue.front().is_some_and(|record| record.offset() < below)
        {
            queue.pop(into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_leave_in_the_order_they_came_and_their_memory_with_them() {
        let mut batch = RecordBatch::default();
        let value = vec![7; 100_000];
        for offset in 0..20 {
            batch.push((offset % 2) as u32, offset, 0, None, Some(&value), []);
        }
        let mut inbox = Inbox::new(2);
        batch.iter().for_each(|record| inbox.push(record));
        assert_eq!([inbox.bytes_of(0), inbox.bytes_of(1)], [1_000_000; 2]);
        let mut taken = RecordBatch::default();
        inbox.take(0, 11, (usize::MAX, usize::MAX), &mut taken);
        assert_eq!(
            taken.iter().map(|r| r.offset()).collect::<Vec<_>>(),
            [0, 2, 4, 6, 8, 10]
        );
        assert!(inbox.bytes_of(0) < 1_000_000);
        assert_eq!(inbox.front(0).map(|r| r.offset()), Some(12));
        inbox.take(1, i64::MAX, (8, usize::MAX), &mut taken);
        assert_eq!(taken.len(), 8, "no more than the limit");
        inbox.take(0, i64::MAX, (usize::MAX, usize::MAX), &mut taken);
        inbox.take(1, i64::MAX, (usize::MAX, usize::MAX), &mut taken);
        assert_eq!((inbox.bytes(), taken.len()), (0, 20));
        assert!(inbox.is_empty(0) && inbox.is_empty(1));
    }
}
