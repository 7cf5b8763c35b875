//! One ranking: the entities of one task and table, by probability.
//!
//! While a change of model is under way the ranking stays that of the older scores, and the new
//! scores wait in a ranking of their own. They change places once every entity has a new score.

use std::sync::Arc;

use leadpulse_features::probability;
use leadpulse_records::ShownScore;
use rustc_hash::FxHashMap;

use super::{RankingSnapshot, Sort};

/// Entities in order. A copy shares its nodes with the original, so a snapshot costs nothing, and a
/// change copies the nodes on its way only.
pub(super) type Ranked = imbl::OrdMap<RankKey, Arc<ShownScore>>;

/// Key of a ranking: its ascending order is the descending order of the sorted value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankKey {
    pub sort_key: u64,
    pub entity_id: Arc<str>,
}

/// The entities of one task and table, by probability.
#[derive(Default)]
pub(super) struct TaskRanking {
    pub version: u64,
    pub by_score: Ranked,
    /// The scores of the next model, while a change is under way.
    next: Option<NextRanking>,
}

/// The scores of a model that not every entity has yet.
struct NextRanking {
    bundle_id: String,
    by_score: Ranked,
    /// Keys in the older ranking, of entities whose older score is not their newest any more.
    older: FxHashMap<Arc<str>, RankKey>,
}

impl TaskRanking {
    /// The ranking as readers see it.
    pub fn snapshot(&self) -> RankingSnapshot {
        RankingSnapshot {
            version: self.version,
            by_score: self.by_score.clone(),
        }
    }

    /// Keeps the ranking as it is while a change to the bundle `changes_to` is under way; shows the
    /// new one after it. Returns true if another ranking took the place of the one before.
    pub fn follow(&mut self, changes_to: Option<&str>) -> bool {
        let before = self.next.as_ref().map(|next| next.bundle_id.as_str());
        match changes_to {
            Some(bundle_id) if before != Some(bundle_id) => {
                let older = self.next.take().map(|next| next.older);
                self.next = Some(NextRanking {
                    bundle_id: bundle_id.to_owned(),
                    by_score: Ranked::new(),
                    older: older.unwrap_or_default(),
                });
            }
            Some(_) => {}
            None => {
                if let Some(next) = self.next.take() {
                    self.by_score = next.by_score;
                    self.version += 1;
                    return true;
                }
            }
        }
        false
    }

    /// Puts an entity where its older score places it: the logit that it is ranked by while a
    /// change is under way.
    pub fn put_older(&mut self, score: &Arc<ShownScore>, logit: f64) {
        let key = RankKey {
            sort_key: descending(probability(logit)),
            entity_id: score.record.entity_id.clone(),
        };
        if let Some(next) = &mut self.next {
            next.older.insert(key.entity_id.clone(), key.clone());
        }
        self.by_score.insert(key, score.clone());
    }

    /// Drops an entity.
    // Its place follows from a score that is gone already, so all places are looked at.
    pub fn forget(&mut self, entity_id: &str) {
        let is_other = |key: &RankKey| &*key.entity_id != entity_id;
        keep(&mut self.by_score, is_other);
        if let Some(next) = &mut self.next {
            keep(&mut next.by_score, is_other);
            next.older.remove(entity_id);
        }
        self.version += 1;
    }

    /// Puts an entity's newest score in the place of the one before.
    pub fn put(&mut self, previous: Option<&Arc<ShownScore>>, score: Arc<ShownScore>) {
        let previous = previous.filter(|previous| previous.record.is_scored());
        let previous = previous.map(|previous| rank_key(Sort::Score, previous));
        let key = rank_key(Sort::Score, &score);
        let Some(next) = &mut self.next else {
            if let Some(previous) = previous {
                self.by_score.remove(&previous);
            }
            if score.record.is_scored() {
                self.by_score.insert(key, score);
            }
            return;
        };
        if let Some(previous) = previous {
            next.by_score.remove(&previous);
            if self.by_score.contains_key(&previous) {
                next.older.insert(key.entity_id.clone(), previous);
            }
        }
        if !score.record.is_scored() {
            // An entity that left is on no list, of either model.
            if let Some(older) = next.older.get(&key.entity_id) {
                self.by_score.remove(older);
            }
        } else if score.record.bundle_id.as_deref() == Some(&next.bundle_id) {
            next.by_score.insert(key, score);
        }
    }
}

/// Drops the entities that `is_kept` refuses.
fn keep(ranked: &mut Ranked, is_kept: impl Fn(&RankKey) -> bool) {
    let gone: Vec<RankKey> = ranked.keys().filter(|key| !is_kept(key)).cloned().collect();
    for key in gone {
        ranked.remove(&key);
    }
}

/// The key of a score in an order.
pub(super) fn rank_key(sort: Sort, score: &ShownScore) -> RankKey {
    let score = &score.record;
    let value = match sort {
        Sort::Score => score.probability,
        Sort::Velocity => score.velocity_per_day,
        Sort::Change => score
            .probability
            .zip(score.previous_probability)
            .map(|(now, before)| now - before),
        // Exact: milliseconds are far below 2^53.
        Sort::AsOf => Some(score.as_of as f64),
    };
    RankKey {
        sort_key: descending(value.unwrap_or(f64::NEG_INFINITY)),
        entity_id: score.entity_id.clone(),
    }
}

/// Maps values to numbers in descending order: −0 and 0 alike, NaN last.
pub(super) fn descending(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    let bits = (value + 0.0).to_bits();
    let ascending = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    !ascending
}
