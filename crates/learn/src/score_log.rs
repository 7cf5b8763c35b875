//! Emitted scores by entity: the score that stood at a moment.

use std::collections::BTreeMap;

/// A score record, as far as it is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreRecord {
    /// Index of the task.
    pub task: usize,
    /// Key of the entity.
    pub key: String,
    /// The moment the score is valid at, milliseconds.
    pub at_ms: i64,
    /// Epoch and place in it: they order records of one moment.
    pub place: (i64, i64),
    /// The probability; `None` where the entity left the task's population.
    pub probability: Option<f64>,
}

/// Records of one entity for one task, by moment and place.
type Standing = Vec<(i64, (i64, i64), Option<f64>)>;

/// Score records of some tasks, in any order.
#[derive(Clone, Debug, Default)]
pub struct ScoreLog {
    tasks: Vec<BTreeMap<Box<str>, Standing>>,
}

impl ScoreLog {
    /// Sorts records by entity and moment.
    pub fn new(records: impl IntoIterator<Item = ScoreRecord>) -> Self {
        let mut tasks: Vec<BTreeMap<Box<str>, Standing>> = Vec::new();
        for record in records {
            if tasks.len() <= record.task {
                tasks.resize_with(record.task + 1, BTreeMap::new);
            }
            let of_entity = tasks[record.task].entry(record.key.into()).or_default();
            of_entity.push((record.at_ms, record.place, record.probability));
        }
        for of_entity in tasks.iter_mut().flat_map(BTreeMap::values_mut) {
            of_entity.sort_by_key(|(at_ms, place, _)| (*at_ms, *place));
        }
        Self { tasks }
    }

    /// The score of an entity at a moment, milliseconds: that of the last record at or before it.
    /// `None` without one, and after a record of ineligibility.
    pub fn standing(&self, task: usize, key: &str, at_ms: i64) -> Option<f64> {
        let of_entity = self.tasks.get(task)?.get(key)?;
        standing(of_entity, at_ms)
    }

    /// The keys with a score at a moment, milliseconds, ascending.
    pub(crate) fn keys_at(&self, task: usize, at_ms: i64) -> impl Iterator<Item = &str> {
        let of_task = self.tasks.get(task).into_iter().flatten();
        of_task
            .filter(move |(_, records)| standing(records, at_ms).is_some())
            .map(|(key, _)| &**key)
    }

    /// The moment of the first record of a task, milliseconds; `None` without records.
    pub fn first_ms(&self, task: usize) -> Option<i64> {
        let of_task = self.tasks.get(task)?.values();
        of_task.map(|records| records[0].0).min()
    }
}

fn standing(records: &Standing, at_ms: i64) -> Option<f64> {
    let after = records.partition_point(|(moment_ms, ..)| *moment_ms <= at_ms);
    records[..after].last()?.2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_at_or_before_a_moment_stands_until_the_entity_is_ineligible() {
        let record = |key: &str, at_ms, place, probability| ScoreRecord {
            task: 1,
            key: key.into(),
            at_ms,
            place,
            probability,
        };
        let log = ScoreLog::new([
            record("a", 30, (3, 0), None),
            record("a", 20, (2, 1), Some(0.3)),
            record("a", 10, (1, 0), Some(0.1)),
            record("a", 20, (2, 0), Some(0.2)),
            record("a", 40, (4, 0), Some(0.4)),
            record("b", 25, (2, 2), Some(0.5)),
        ]);
        for (at_ms, expected) in [
            (9, None),
            (10, Some(0.1)),
            (19, Some(0.1)),
            (20, Some(0.3)),
            (29, Some(0.3)),
            (30, None),
            (39, None),
            (40, Some(0.4)),
        ] {
            assert_eq!(log.standing(1, "a", at_ms), expected, "{at_ms}");
        }
        assert_eq!(log.standing(0, "a", 40), None);
        assert_eq!(log.keys_at(1, 30).collect::<Vec<_>>(), ["b"]);
        assert_eq!((log.first_ms(1), log.first_ms(0)), (Some(10), None));
    }
}
