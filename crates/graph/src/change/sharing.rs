//! Sharing of time: a board, an hour of deadlines or a popular row concern very many
//! cells at once, which are not to be taken all at once.

use crate::change::Tracker;
use crate::ids::CellRef;

/// An hour: deadlines are looked at within one.
const HOUR_MS: i64 = 3_600_000;

/// Distance of two places, milliseconds, until it is set.
pub(crate) const STEP_BY_DEFAULT_MS: i64 = 10_000;

/// The way in which many cells that become dirty at once share the time after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// By budget: they wait among the soft-dirty, and so many are taken at a time. Deadlines lie at
    /// places of the hour.
    Budget {
        /// Distance of two places, milliseconds.
        step_ms: i64,
    },
    /// By place: each has one of the moments of an hour, by the hash of its anchor's key. When a
    /// cell is taken depends on the data alone.
    // Decision: docs/decisions/0057-due-cells-share-the-hour.md
    Places {
        /// Distance of two moments, milliseconds: divides an hour, or is the span of all places.
        step_ms: i64,
    },
}

impl Sharing {
    /// Whether cells wait by budget.
    pub fn is_by_budget(self) -> bool {
        matches!(self, Sharing::Budget { .. })
    }

    /// The first moment after another at which a cell of a place is taken, milliseconds.
    pub fn moment_after(self, place: u32, ms: i64) -> i64 {
        let (Sharing::Budget { step_ms } | Sharing::Places { step_ms }) = self;
        let places = (HOUR_MS / step_ms).max(1);
        let (place_ms, span_ms) = (i64::from(place) % places * step_ms, places * step_ms);
        let spans = ms.saturating_sub(place_ms).div_euclid(span_ms);
        spans
            .saturating_add(1)
            .saturating_mul(span_ms)
            .saturating_add(place_ms)
    }
}

impl Tracker {
    /// Sets the way in which many cells share the time, before there are any.
    pub fn share(&mut self, sharing: Sharing) {
        self.sharing = sharing;
    }

    /// Lets a cell be taken at its place after a moment, unless its deadline comes before.
    pub(super) fn wait_for_place(&mut self, at: CellRef, after_ms: i64) {
        let sharing = self.sharing;
        let shard = &mut self.shards[at.shard as usize];
        let cell = &shard.cells[at.index as usize];
        let moment_ms = sharing.moment_after(cell.place, after_ms);
        if moment_ms < cell.deadline_ms {
            shard.set_deadline(at.index, moment_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_on_the_grid_and_all_of_an_hour_is_used() {
        let sharing = Sharing::Places { step_ms: 10_000 };
        let mut moments: Vec<i64> = (0..3_600)
            .map(|place| sharing.moment_after(place, 7 * HOUR_MS + 5_001))
            .collect();
        let is_on_grid =
            |ms: &i64| ms % 10_000 == 0 && (7 * HOUR_MS + 5_002..=8 * HOUR_MS + 5_001).contains(ms);
        assert!(moments.iter().all(is_on_grid));
        moments.sort_unstable();
        moments.dedup();
        assert_eq!(moments.len(), 360);
        // At its own moment a cell has been taken: the next one is an hour later.
        let at_ms = sharing.moment_after(17, 0);
        assert_eq!(sharing.moment_after(17, at_ms), at_ms + HOUR_MS);
        assert_eq!(sharing.moment_after(17, at_ms - 1), at_ms);
        let hourly = Sharing::Places { step_ms: HOUR_MS };
        assert_eq!(hourly.moment_after(99, 1), HOUR_MS);
        let rare = Sharing::Places {
            step_ms: 6 * HOUR_MS,
        };
        assert_eq!(rare.moment_after(99, 1), 6 * HOUR_MS);
        let budget = Sharing::Budget { step_ms: 10_000 };
        assert_eq!(
            budget.moment_after(99, 0),
            990_000,
            "deadlines share it, too"
        );
        assert_eq!(sharing.moment_after(3, i64::MAX), i64::MAX, "never");
    }
}
