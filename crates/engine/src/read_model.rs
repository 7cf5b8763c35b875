//! What queries may see: the newest committed score of every (task, entity), ranked, the newest alerts, and how the engine is.
//!
//! The engine publishes after a commit and never before, so nothing here can be taken back. Readers come from other threads at any time;
//! one page of a ranking is always the state after some one epoch, never a mixture of two.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use serde::Serialize;

use leadpulse_records::{ShownAlert, ShownScore};

/// How many alerts are kept; older ones are in their topic.
pub const ALERTS_KEPT: usize = 1000;

/// How the engine is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineStatus {
    /// What it is doing.
    #[serde(flatten)]
    pub phase: Phase,
    /// The newest committed epoch; 0 before the first.
    pub epoch: u64,
    /// Its `as_of`, milliseconds.
    #[serde(rename = "as_of")]
    pub as_of_ms: Option<i64>,
    /// Records taken from the input topics since the first epoch.
    pub records: u64,
    /// Records that wait in the input topics.
    pub lag_records: u64,
    /// Why it is not ready, or what else an operator should know.
    pub reason: Option<String>,
}

/// What the engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Loading, connecting.
    Starting,
    /// Reading again what was committed before, silently.
    Replaying {
        /// Records read.
        done: u64,
        /// Records to read.
        total: u64,
    },
    /// Scoring what arrives.
    Live,
    /// Ended.
    Stopped,
}

/// What a ranking is ordered by, always from high to low, then by entity key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The probability.
    #[default]
    Score,
    /// Slope per day: what rises fastest; entities without a slope last.
    Velocity,
    /// Change since the previously emitted probability; first scores last.
    Change,
    /// When it was scored: the newest first.
    AsOf,
}

/// Where a page ends; the next one starts after it, wherever entities have moved meanwhile. Written and read as an opaque text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Rank of the last entity of the page, from 1.
    rank: u64,
    sort_key: u64,
    entity_id: Arc<str>,
}

/// A text that is not a [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cursor; pass next_cursor of the page before, unchanged")]
pub struct CursorError(String);

/// One page of a ranking.
#[derive(Clone, Debug)]
pub struct Page {
    /// Changes when anything in the ranking does.
    pub version: u64,
    /// How many entities are ranked.
    pub total: usize,
    /// Rank of the first entity of the page, from 1.
    pub first_rank: u64,
    /// The entities.
    pub scores: Vec<Arc<ShownScore>>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<Cursor>,
}

/// The entities of one task and table, by probability.
#[derive(Default)]
struct Ranking {
    version: u64,
    by_score: BTreeMap<RankKey, Arc<ShownScore>>,
}

/// Ascending order of these is descending order of what is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RankKey {
    sort_key: u64,
    entity_id: Arc<str>,
}

/// Entity table and key.
type EntityKey = (Arc<str>, Arc<str>);
/// Task and entity table.
type RankingKey = (Arc<str>, Arc<str>);

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Name of the matter.
    pub matter: &'static str,
    /// What is the case, and what to do.
    pub text: String,
    /// Whether the process is not ready because of it.
    pub blocks: bool,
}

/// The committed state, shared between the engine and its readers.
pub struct ReadModel {
    /// Scores of an entity, one per task, in order of task name.
    entities: DashMap<EntityKey, Vec<Arc<ShownScore>>>,
    rankings: DashMap<RankingKey, Ranking>,
    alerts: RwLock<Alerts>,
    status: ArcSwap<EngineStatus>,
    conditions: RwLock<BTreeMap<&'static str, Condition>>,
    beats: AtomicU64,
}

#[derive(Default)]
struct Alerts {
    version: u64,
    newest_last: VecDeque<Arc<ShownAlert>>,
}

impl Default for ReadModel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("entities", &self.entities.len())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl ReadModel {
    /// Nothing committed, engine starting.
    pub fn new() -> Self {
        let status = EngineStatus {
            phase: Phase::Starting,
            epoch: 0,
            as_of_ms: None,
            records: 0,
            lag_records: 0,
            reason: None,
        };
        Self {
            entities: DashMap::new(),
            rankings: DashMap::new(),
            alerts: RwLock::default(),
            status: ArcSwap::from_pointee(status),
            conditions: RwLock::default(),
            beats: AtomicU64::new(0),
        }
    }

    /// Makes a committed epoch visible: its scores, its alerts (oldest first), then the status.
    pub fn publish(&self, scores: Vec<ShownScore>, alerts: Vec<ShownAlert>, status: EngineStatus) {
        let mut by_ranking: BTreeMap<RankingKey, Vec<Arc<ShownScore>>> = BTreeMap::new();
        for score in scores {
            by_ranking
                .entry((score.record.task.clone(), score.record.entity_type.clone()))
                .or_default()
                .push(Arc::new(score));
        }
        for (key, scores) in by_ranking {
            // Held for the whole epoch, so that no page is read from half of one.
            let mut ranking = self.rankings.entry(key).or_default();
            ranking.version += 1;
            for score in scores {
                if let Some(previous) = self
                    .replace(&score)
                    .filter(|previous| previous.record.is_scored())
                {
                    ranking.by_score.remove(&rank_key(Sort::Score, &previous));
                }
                if score.record.is_scored() {
                    ranking
                        .by_score
                        .insert(rank_key(Sort::Score, &score), score);
                }
            }
        }
        if !alerts.is_empty() {
            let mut kept = self.alerts.write().unwrap_or_else(PoisonError::into_inner);
            kept.version += 1;
            kept.newest_last.extend(alerts.into_iter().map(Arc::new));
            let surplus = kept.newest_last.len().saturating_sub(ALERTS_KEPT);
            kept.newest_last.drain(..surplus);
        }
        self.set_status(status);
    }

    /// Puts the score in its entity's place; gives the one that was there.
    fn replace(&self, score: &Arc<ShownScore>) -> Option<Arc<ShownScore>> {
        let mut tasks = self
            .entities
            .entry((
                score.record.entity_type.clone(),
                score.record.entity_id.clone(),
            ))
            .or_default();
        match tasks.binary_search_by(|other| other.record.task.cmp(&score.record.task)) {
            Ok(index) => Some(std::mem::replace(&mut tasks[index], score.clone())),
            Err(index) => {
                tasks.insert(index, score.clone());
                None
            }
        }
    }

    /// Says how the engine is, without an epoch (while it starts, replays, stops).
    pub fn set_status(&self, status: EngineStatus) {
        self.status.store(Arc::new(status));
    }

    /// Notes what is the case about a matter, or that it is over. News are logged.
    pub fn set_condition(&self, matter: &'static str, text: Option<String>, blocks: bool) {
        let known = self
            .conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(matter)
            .map(|known| known.text.clone());
        if known == text {
            return;
        }
        let mut conditions = self
            .conditions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => {
                if known.is_none() {
                    tracing::warn!(matter, "{text}");
                }
                conditions.insert(
                    matter,
                    Condition {
                        matter,
                        text,
                        blocks,
                    },
                );
            }
            None => {
                tracing::info!(matter, "over");
                conditions.remove(matter);
            }
        }
    }

    /// What an operator should know now.
    pub fn conditions(&self) -> Vec<Condition> {
        self.conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// How the engine is.
    pub fn status(&self) -> Arc<EngineStatus> {
        self.status.load_full()
    }

    /// The engine's loop has come round: called at least once a second, whatever Kafka does.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the loop has come round. A number that stands still is an engine that hangs.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// A number that changes whenever anything in the ranking of this task and table does; 0 before the first score.
    pub fn ranking_version(&self, task: &str, entity_type: &str) -> u64 {
        self.rankings
            .get(&(Arc::from(task), Arc::from(entity_type)))
            .map_or(0, |ranking| ranking.version)
    }

    /// A page of at most `limit` entities of a ranking, from the start or after `cursor`.
    ///
    /// By score it costs what the page holds; by anything else it looks at every entity.
    pub fn scores(
        &self,
        task: &str,
        entity_type: &str,
        sort: Sort,
        limit: usize,
        cursor: Option<&Cursor>,
    ) -> Page {
        let first_rank = cursor.map_or(1, |cursor| cursor.rank + 1);
        let Some(ranking) = self
            .rankings
            .get(&(Arc::from(task), Arc::from(entity_type)))
        else {
            return Page {
                version: 0,
                total: 0,
                first_rank,
                scores: Vec::new(),
                next: None,
            };
        };
        let after = cursor.map(|cursor| RankKey {
            sort_key: cursor.sort_key,
            entity_id: cursor.entity_id.clone(),
        });
        let mut scores: Vec<Arc<ShownScore>> = match sort {
            Sort::Score => {
                let start = after.map_or(Bound::Unbounded, Bound::Excluded);
                ranking
                    .by_score
                    .range((start, Bound::Unbounded))
                    .take(limit.saturating_add(1))
                    .map(|(_, score)| score.clone())
                    .collect()
            }
            _ => first_of_order(
                ranking.by_score.values(),
                sort,
                after,
                limit.saturating_add(1),
            ),
        };
        let more = scores.len() > limit;
        scores.truncate(limit);
        let next = scores.last().filter(|_| more).map(|last| {
            let RankKey {
                sort_key,
                entity_id,
            } = rank_key(sort, last);
            Cursor {
                rank: first_rank + scores.len() as u64 - 1,
                sort_key,
                entity_id,
            }
        });
        Page {
            version: ranking.version,
            total: ranking.by_score.len(),
            first_rank,
            scores,
            next,
        }
    }

    /// Every task's score of an entity, ineligible ones included, in order of task name.
    pub fn get(&self, entity_type: &str, entity_id: &str) -> Vec<Arc<ShownScore>> {
        self.entities
            .get(&(Arc::from(entity_type), Arc::from(entity_id)))
            .map_or_else(Vec::new, |tasks| tasks.clone())
    }

    /// The newest alerts, newest first, and a number that changes whenever one is added.
    pub fn alerts(&self, limit: usize) -> (u64, Vec<Arc<ShownAlert>>) {
        let kept = self.alerts.read().unwrap_or_else(PoisonError::into_inner);
        (
            kept.version,
            kept.newest_last.iter().rev().take(limit).cloned().collect(),
        )
    }
}

/// The first `limit` of the entities after `after`, in the given order.
fn first_of_order<'a>(
    scores: impl Iterator<Item = &'a Arc<ShownScore>>,
    sort: Sort,
    after: Option<RankKey>,
    limit: usize,
) -> Vec<Arc<ShownScore>> {
    let keyed = scores.map(|score| (rank_key(sort, score), score));
    let mut keyed: Vec<_> = keyed
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
        .collect();
    if keyed.len() > limit {
        keyed.select_nth_unstable_by(limit, |a, b| a.0.cmp(&b.0));
        keyed.truncate(limit);
    }
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|(_, score)| score.clone()).collect()
}

fn rank_key(sort: Sort, score: &ShownScore) -> RankKey {
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

/// A number whose ascending order is the descending order of the values, −0 and 0 alike, NaN last.
fn descending(value: f64) -> u64 {
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

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.rank, self.sort_key, self.entity_id)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let rank = parts.next()?.parse().ok().filter(|rank| *rank < u64::MAX)?;
            let sort_key = u64::from_str_radix(parts.next()?, 16).ok()?;
            Some(Cursor {
                rank,
                sort_key,
                entity_id: Arc::from(parts.next()?),
            })
        };
        parse().ok_or_else(|| CursorError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
