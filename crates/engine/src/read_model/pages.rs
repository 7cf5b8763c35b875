//! Pages of a ranking: an immutable snapshot, read from the start or after a cursor.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use leadpulse_records::ShownScore;

use super::ranking::{RankKey, Ranked, rank_key};

/// Order of a ranking: from high to low, then by entity key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By probability.
    #[default]
    Score,
    /// By slope per day, the fastest rise first; entities without a slope last.
    Velocity,
    /// By change since the previously emitted probability; first scores last.
    Change,
    /// By moment of the score, the newest first.
    AsOf,
}

/// End of a page. The next page starts after it, wherever entities have moved meanwhile. Written
/// and read as opaque text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// Rank of the last entity of the page, from 1.
    pub(super) rank: u64,
    pub(super) sort_key: u64,
    pub(super) entity_id: Arc<str>,
}

/// A text that is not a [`PageCursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cursor; pass next_cursor of the page before, unchanged")]
pub struct PageCursorError(pub(super) String);

/// The page that is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Order of the ranking.
    pub sort: Sort,
    /// Entities on the page, at most.
    pub limit: usize,
    /// End of the page before; `None` for the first page.
    pub after: Option<PageCursor>,
}

/// One page of a ranking.
#[derive(Clone, Debug)]
pub struct Page {
    /// Number that changes whenever the ranking does.
    pub version: u64,
    /// Number of listed entities.
    pub total: usize,
    /// Rank of the first entity of the page, from 1.
    pub first_rank: u64,
    /// Scores of the page, in order.
    pub scores: Vec<Arc<ShownScore>>,
    /// Start of the next page; `None` on the last.
    pub next: Option<PageCursor>,
}

/// The ranking of one task and table after an epoch. It never changes, so a reader takes the time
/// it needs while the engine publishes the next one.
#[derive(Clone, Debug, Default)]
pub struct RankingSnapshot {
    /// Number that changes whenever the ranking does; 0 before the first score.
    pub version: u64,
    pub(super) by_score: Ranked,
}

impl RankingSnapshot {
    /// A page of the entities that `is_listed` accepts; `None` accepts all.
    ///
    /// By score and without a condition, the cost is that of the page. A condition or another order
    /// looks at every entity.
    pub fn page(
        &self,
        request: &PageRequest,
        is_listed: Option<&dyn Fn(&ShownScore) -> bool>,
    ) -> Page {
        let first_rank = request.after.as_ref().map_or(1, |cursor| cursor.rank + 1);
        let after = request.after.as_ref().map(|cursor| RankKey {
            sort_key: cursor.sort_key,
            entity_id: cursor.entity_id.clone(),
        });
        let wanted = request.limit.saturating_add(1);
        let accepts = |score: &Arc<ShownScore>| is_listed.is_none_or(|accepts| accepts(score));
        let mut keyed: Vec<(RankKey, Arc<ShownScore>)> = match request.sort {
            Sort::Score => {
                let start = after.map_or(Bound::Unbounded, Bound::Excluded);
                self.by_score
                    .range((start, Bound::Unbounded))
                    .filter(|(_, score)| accepts(score))
                    .take(wanted)
                    .map(|(key, score)| (key.clone(), score.clone()))
                    .collect()
            }
            sort => {
                let listed = self.by_score.values().filter(|score| accepts(score));
                first_of_order(listed, sort, after, wanted)
            }
        };
        let has_more = keyed.len() > request.limit;
        keyed.truncate(request.limit);
        let next = keyed
            .last()
            .filter(|_| has_more)
            .map(|(last, _)| PageCursor {
                rank: first_rank + keyed.len() as u64 - 1,
                sort_key: last.sort_key,
                entity_id: last.entity_id.clone(),
            });
        Page {
            version: self.version,
            total: match is_listed {
                Some(_) => self.by_score.values().filter(|one| accepts(one)).count(),
                None => self.by_score.len(),
            },
            first_rank,
            scores: keyed.into_iter().map(|(_, score)| score).collect(),
            next,
        }
    }
}

/// Selects the first `limit` entities after `after`, in the given order.
fn first_of_order<'a>(
    scores: impl Iterator<Item = &'a Arc<ShownScore>>,
    sort: Sort,
    after: Option<RankKey>,
    limit: usize,
) -> Vec<(RankKey, Arc<ShownScore>)> {
    let keyed = scores.map(|score| (rank_key(sort, score), score));
    let mut keyed: Vec<_> = keyed
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
        .collect();
    if keyed.len() > limit {
        keyed.select_nth_unstable_by(limit, |a, b| a.0.cmp(&b.0));
        keyed.truncate(limit);
    }
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let cloned = keyed.into_iter();
    cloned.map(|(key, score)| (key, score.clone())).collect()
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.rank, self.sort_key, self.entity_id)
    }
}

impl FromStr for PageCursor {
    type Err = PageCursorError;

    fn from_str(text: &str) -> Result<Self, PageCursorError> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let rank = parts.next()?.parse().ok().filter(|rank| *rank < u64::MAX)?;
            let sort_key = u64::from_str_radix(parts.next()?, 16).ok()?;
            Some(PageCursor {
                rank,
                sort_key,
                entity_id: Arc::from(parts.next()?),
            })
        };
        parse().ok_or_else(|| PageCursorError(text.to_owned()))
    }
}
