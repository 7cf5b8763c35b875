//! Counts per whole day, for the windows that population filters name.

use serde::{Deserialize, Serialize};

use crate::options::DAY_MS;

/// The UTC day that contains `t`; times beyond all calendars count as its ends.
pub(crate) fn day_number(t_ms: i64) -> i32 {
    t_ms.div_euclid(DAY_MS)
        .clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// The number of the day bucket that contains `t`: bucket `d` is `(d·24 h, (d+1)·24 h]`.
pub fn bucket(t_ms: i64) -> i32 {
    day_number(t_ms.saturating_sub(1))
}

/// Values per day bucket, ascending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DayBuckets {
    /// (bucket, how many values, their sum).
    days: Vec<(i32, u32, f64)>,
}

impl DayBuckets {
    /// Adds `amount` to the bucket that contains `t`.
    pub fn add(&mut self, t_ms: i64, amount: f64) {
        self.put(bucket(t_ms), 1, amount);
    }
    fn put(&mut self, day: i32, count: u32, amount: f64) {
        match self.days.binary_search_by_key(&day, |(d, _, _)| *d) {
            Ok(at) => {
                self.days[at].1 += count;
                self.days[at].2 += amount;
            }
            Err(at) => self.days.insert(at, (day, count, amount)),
        }
    }
    /// Takes `amount` back from the bucket that contains `t`; a bucket without values is dropped.
    pub fn retract(&mut self, t_ms: i64, amount: f64) {
        let Ok(at) = self
            .days
            .binary_search_by_key(&bucket(t_ms), |(d, _, _)| *d)
        else {
            return;
        };
        self.days[at].1 -= 1;
        self.days[at].2 -= amount;
        if self.days[at].1 == 0 {
            self.days.remove(at);
        }
    }
    /// Adds the values of another.
    pub fn merge(&mut self, other: &DayBuckets) {
        other
            .days
            .iter()
            .for_each(|(day, count, amount)| self.put(*day, *count, *amount));
    }
    /// Whether no bucket has a value.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }
    /// The sum over a window read at `t`, which ends with the bucket that contains `t + end_days`.
    pub fn window(&self, t_ms: i64, start_days: Option<i64>, end_days: i64) -> f64 {
        let last = i64::from(bucket(t_ms + end_days * DAY_MS));
        let first = start_days.map_or(i64::MIN, |start| last - (end_days - start));
        let from = self
            .days
            .partition_point(|(d, _, _)| i64::from(*d) <= first);
        self.days[from..]
            .iter()
            .take_while(|(d, _, _)| i64::from(*d) <= last)
            .map(|(_, _, x)| x)
            .sum()
    }
    /// The next moment after `t` at which the window's value may change with no event: a bucket
    /// leaves it or enters it.
    pub fn next_change_ms(&self, t_ms: i64, start_days: Option<i64>, end_days: i64) -> Option<i64> {
        let now = i64::from(bucket(t_ms));
        let leaves = start_days.map(|start| -start);
        self.days
            .iter()
            .flat_map(|(d, _, _)| {
                [
                    Some(i64::from(*d) - end_days),
                    leaves.map(|days| i64::from(*d) + days),
                ]
            })
            .flatten()
            .filter(|turn| *turn > now)
            .min()
            .map(|turn| turn * DAY_MS + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_at_midnight_is_exact() {
        let mut days = DayBuckets::default();
        let midnight = 1000 * DAY_MS;
        for t in [
            midnight - 365 * DAY_MS,
            midnight - 365 * DAY_MS + 1,
            midnight,
            midnight + 1,
        ] {
            days.add(t, 1.0);
        }
        // (midnight − 365 d, midnight]: the start is excluded, the end included.
        assert_eq!(days.window(midnight, Some(-365), 0), 2.0);
        assert_eq!(days.window(midnight, None, 0), 3.0);
        assert_eq!(days.window(midnight, None, -1), 2.0);
    }

    #[test]
    fn the_next_change_is_when_a_day_leaves() {
        let mut days = DayBuckets::default();
        days.add(10 * DAY_MS, 1.0);
        let t = 12 * DAY_MS;
        let turn = days.next_change_ms(t, Some(-5), 0).unwrap();
        assert_eq!(days.window(turn - 1, Some(-5), 0), 1.0);
        assert_eq!(days.window(turn, Some(-5), 0), 0.0);
        assert_eq!(days.next_change_ms(turn, Some(-5), 0), None);
    }
}
