//! The read model: the newest committed score of every (task, entity), ranked, the newest alerts,
//! and the engine's status.
//!
//! The engine publishes after a commit and never before, so a published score is never taken back.
//! Readers come from other threads at any time. One page of a ranking is always the state after a
//! single epoch, never a mixture of two.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use serde::Serialize;

use leadpulse_records::{KeptLetter, ShownAlert, ShownScore, WorkList};

mod letters;
mod lists;
mod ranking;
mod said;

use crate::epoch::RescoringNote;
use crate::machine::ErasedNames;

pub use letters::{LETTERS_KEPT, LETTERS_KEPT_OF_A_KIND, LetterKind, LettersPage};

pub use said::{FeedbackCount, RulingsView, SaidView, ShownRuling, ShownVerdict, VerdictsView};

use letters::Letters;
use lists::KeptLists;
use ranking::{RankKey, TaskRanking, rank_key};
use said::SaidShown;

/// Alerts that the read model keeps; older ones are in their topic.
pub const ALERTS_KEPT: usize = 1000;

/// Status of the engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineStatus {
    /// Phase of the engine's life.
    #[serde(flatten)]
    pub phase: Phase,
    /// Number of the newest committed epoch; 0 before the first.
    pub epoch: u64,
    /// `as_of` of the newest committed epoch, milliseconds.
    #[serde(rename = "as_of")]
    pub as_of_ms: Option<i64>,
    /// Records taken from the input topics since the first epoch.
    pub records: u64,
    /// Records that wait in the input topics.
    pub lag_records: u64,
    /// Cause of not being ready, or another remark for operators.
    pub reason: Option<String>,
    /// The version that decides.
    pub deployed: DeployedStatus,
}

/// The deployed version of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeployedStatus {
    /// Digest of the release in force; `None` for a version that was put together at a start.
    pub release: Option<String>,
    /// Id of the bundle that scores; `None` before the start.
    pub bundle_id: Option<String>,
    /// The change of model under way: ranks are those of the scores before it.
    pub rescoring: Option<RescoringNote>,
    /// The release that was asked for last, if it was refused.
    pub refused: Option<RefusedRelease>,
}

/// A release that was asked for and refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRelease {
    /// Digest of the release.
    pub release: String,
    /// The fault, and the remedy.
    pub reason: String,
}

/// Phase of the engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The process loads its bundle and connects.
    Starting,
    /// The rows of committed epochs are applied again, without output.
    Replaying {
        /// Records read so far.
        done: u64,
        /// Records to read in all.
        total: u64,
    },
    /// Another process owns the outputs. This one applies the rows of its committed epochs.
    Following {
        /// Committed epochs that are not applied yet.
        lag_epochs: u64,
        /// True if all that was committed a moment ago is applied.
        #[serde(rename = "current")]
        is_current: bool,
    },
    /// Arriving records are scored.
    Live,
    /// The engine has ended.
    Stopped,
}

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
    rank: u64,
    sort_key: u64,
    entity_id: Arc<str>,
}

/// A text that is not a [`PageCursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a cursor; pass next_cursor of the page before, unchanged")]
pub struct PageCursorError(String);

/// One page of a ranking.
#[derive(Clone, Debug)]
pub struct Page {
    /// Number that changes whenever the ranking does.
    pub version: u64,
    /// Number of ranked entities.
    pub total: usize,
    /// Rank of the first entity of the page, from 1.
    pub first_rank: u64,
    /// Scores of the page, in order.
    pub scores: Vec<Arc<ShownScore>>,
    /// Start of the next page; `None` on the last.
    pub next: Option<PageCursor>,
}

/// Table and key of an entity.
type EntityKey = (Arc<str>, Arc<str>);
/// Names of a task and its table.
type RankingKey = (Arc<str>, Arc<str>);

/// A remark for operators that stands until its matter is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandingRemark {
    /// Name of the matter: one remark stands for each.
    pub matter: &'static str,
    /// The case, and the remedy.
    pub text: String,
    /// True if the process is not ready because of the matter.
    pub blocks: bool,
}

/// The committed state, shared between the engine and its readers.
pub struct ReadModel {
    /// Scores of an entity, one per task, in order of task name.
    entities: DashMap<EntityKey, Vec<Arc<ShownScore>>>,
    rankings: DashMap<RankingKey, TaskRanking>,
    alerts: RwLock<Alerts>,
    letters: RwLock<Letters>,
    lists: RwLock<KeptLists>,
    said: ArcSwap<SaidShown>,
    status: ArcSwap<EngineStatus>,
    conditions: RwLock<BTreeMap<&'static str, StandingRemark>>,
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
    /// Creates the read model of an engine that starts: empty.
    pub fn new() -> Self {
        let status = EngineStatus {
            phase: Phase::Starting,
            epoch: 0,
            as_of_ms: None,
            records: 0,
            lag_records: 0,
            reason: None,
            deployed: DeployedStatus::default(),
        };
        Self {
            entities: DashMap::new(),
            rankings: DashMap::new(),
            alerts: RwLock::default(),
            letters: RwLock::default(),
            lists: RwLock::default(),
            said: ArcSwap::default(),
            status: ArcSwap::from_pointee(status),
            conditions: RwLock::default(),
            beats: AtomicU64::new(0),
        }
    }

    /// Makes a committed epoch visible: its scores, its alerts (oldest first), then the status.
    pub fn publish(&self, scores: Vec<ShownScore>, alerts: Vec<ShownAlert>, status: EngineStatus) {
        let rescoring = status.deployed.rescoring;
        let changes_to = rescoring.and(status.deployed.bundle_id.as_deref());
        for mut ranking in self.rankings.iter_mut() {
            ranking.follow(changes_to);
        }
        let mut by_ranking: BTreeMap<RankingKey, Vec<Arc<ShownScore>>> = BTreeMap::new();
        for mut score in scores {
            let before = self.standing(&score);
            match before {
                // A start gives the past with the score.
                None if !score.history.is_empty() => {}
                None => score.succeed(&[]),
                Some(before) => score.succeed(&before.history),
            }
            by_ranking
                .entry((score.record.task.clone(), score.record.entity_type.clone()))
                .or_default()
                .push(Arc::new(score));
        }
        for (key, scores) in by_ranking {
            // The entry stays locked for the whole epoch, so that no page is read from half of one.
            let mut ranking = self.rankings.entry(key).or_default();
            ranking.version += 1;
            ranking.follow(changes_to);
            for score in scores {
                let previous = self.replace(&score);
                ranking.put(previous.as_ref(), score);
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

    /// Ranks entities by the scores that they had before a change of model which is under way:
    /// scores with the logits they are ranked by. Before anything is published.
    pub fn publish_older_ranks(&self, scores: Vec<(ShownScore, f64)>, changes_to: &str) {
        for (score, logit) in scores {
            let key = (score.record.task.clone(), score.record.entity_type.clone());
            let mut ranking = self.rankings.entry(key).or_default();
            ranking.follow(Some(changes_to));
            ranking.put_older(&Arc::new(score), logit);
        }
    }

    /// Drops scores, rankings and work lists of all tasks but these.
    pub fn keep_tasks(&self, names: &[Arc<str>]) {
        let is_kept = |task: &Arc<str>| names.contains(task);
        self.rankings.retain(|(task, _), _| is_kept(task));
        self.entities.retain(|_, scores| {
            scores.retain(|score| is_kept(&score.record.task));
            !scores.is_empty()
        });
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.keep_tasks(names);
    }

    /// Forgets a person: scores, places in rankings, dead letters with one of the names, and what
    /// alerts say of the person.
    pub fn forget(&self, names: &ErasedNames) {
        for (entity_type, entity_id) in &names.entities {
            let key = (entity_type.clone(), entity_id.clone());
            self.entities.remove(&key);
            for mut ranking in self.rankings.iter_mut() {
                if ranking.key().1 == *entity_type {
                    ranking.forget(entity_id);
                }
            }
        }
        let is_gone = |table: Option<&str>, key: &str| names.has(table, key);
        let mut kept = self.alerts.write().unwrap_or_else(PoisonError::into_inner);
        kept.version += 1;
        let less = |alert: &Arc<ShownAlert>| {
            let record = alert.record.without(&is_gone)?;
            let name = alert.name.clone();
            Some(Arc::new(ShownAlert { record, name }))
        };
        kept.newest_last = kept.newest_last.iter().filter_map(less).collect();
        drop(kept);
        let mut letters = self.letters.write().unwrap_or_else(PoisonError::into_inner);
        letters.forget(names);
    }

    /// Makes work lists visible, each in the place of the one before.
    pub fn publish_work_lists(&self, lists: Vec<Arc<WorkList>>) {
        if !lists.is_empty() {
            let mut kept = self.lists.write().unwrap_or_else(PoisonError::into_inner);
            kept.replace(lists);
        }
    }

    /// The newest work lists of a task, of one person or of all, in order of their keys, and a number
    /// that changes whenever one does. The person is empty for the list of nobody.
    pub fn work_lists(&self, task: &str, owner: Option<&str>) -> (u64, Vec<Arc<WorkList>>) {
        let kept = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        kept.of(task, owner)
    }

    /// Makes dead letters visible, oldest first.
    pub fn publish_dead_letters(&self, letters: Vec<KeptLetter>) {
        if !letters.is_empty() {
            self.letters
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(letters);
        }
    }

    /// The newest dead letters, newest first: of a topic, of a reason, or of all.
    pub fn dead_letters(
        &self,
        topic: Option<&str>,
        reason: Option<&str>,
        limit: usize,
    ) -> LettersPage {
        let letters = self.letters.read().unwrap_or_else(PoisonError::into_inner);
        letters.page(topic, reason, limit)
    }

    /// The score that stands in a score's place.
    fn standing(&self, score: &ShownScore) -> Option<Arc<ShownScore>> {
        let record = &score.record;
        let scores = self.get(&record.entity_type, &record.entity_id);
        scores
            .into_iter()
            .find(|other| other.record.task == record.task)
    }

    /// Puts the score in its entity's place. Returns the score that was there.
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

    /// Sets the status without an epoch: while the engine starts, replays, stops.
    pub fn set_status(&self, status: EngineStatus) {
        self.status.store(Arc::new(status));
    }

    /// Sets the remark about a matter, or clears it with `None`. Changes are logged.
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
                    StandingRemark {
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

    /// Remarks that stand now, by name of their matter.
    pub fn conditions(&self) -> Vec<StandingRemark> {
        self.conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The newest status.
    pub fn status(&self) -> Arc<EngineStatus> {
        self.status.load_full()
    }

    /// Counts a round of the engine's loop: called at least once a second, whatever Kafka does.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Rounds of the engine's loop. A number that stands still is an engine that hangs.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Number that changes whenever the ranking of this task and table does; 0 before the first
    /// score.
    pub fn ranking_version(&self, task: &str, entity_type: &str) -> u64 {
        self.rankings
            .get(&(Arc::from(task), Arc::from(entity_type)))
            .map_or(0, |ranking| ranking.version)
    }

    /// A page of at most `limit` entities of a ranking, from the start or after `cursor`, without
    /// those that a person excluded.
    ///
    /// By score, the cost is that of the page. Any other order looks at every entity, and so does
    /// the total while some are excluded.
    pub fn scores(
        &self,
        task: &str,
        entity_type: &str,
        sort: Sort,
        limit: usize,
        cursor: Option<&PageCursor>,
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
        let said = self.said.load();
        let is_listed = |score: &&Arc<ShownScore>| !said.rulings.excludes(score);
        let mut keyed: Vec<(RankKey, Arc<ShownScore>)> = match sort {
            Sort::Score => {
                let start = after.map_or(Bound::Unbounded, Bound::Excluded);
                ranking
                    .by_score
                    .range((start, Bound::Unbounded))
                    .filter(|(_, score)| is_listed(score))
                    .take(limit.saturating_add(1))
                    .map(|(key, score)| (key.clone(), score.clone()))
                    .collect()
            }
            _ => first_of_order(
                ranking.by_score.values().filter(is_listed),
                sort,
                after,
                limit.saturating_add(1),
            ),
        };
        let more = keyed.len() > limit;
        keyed.truncate(limit);
        let next = keyed.last().filter(|_| more).map(|(last, _)| PageCursor {
            rank: first_rank + keyed.len() as u64 - 1,
            sort_key: last.sort_key,
            entity_id: last.entity_id.clone(),
        });
        let scores = keyed.into_iter().map(|(_, score)| score).collect();
        Page {
            version: ranking.version,
            total: match said.rulings.has_excluded() {
                true => ranking.by_score.values().filter(is_listed).count(),
                false => ranking.by_score.len(),
            },
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

#[cfg(test)]
mod tests;
