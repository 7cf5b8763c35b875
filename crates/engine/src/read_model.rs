//! The read model: the newest committed score of every (task, entity), ranked, the newest alerts,
//! and the engine's status.
//!
//! The engine publishes after a commit and never before, so a published score is never taken back.
//! Readers come from other threads at any time. Everything they read but the scores of single
//! entities is an immutable snapshot, swapped when the next one is complete: one page of a ranking is
//! the state after a single epoch, never a mixture of two, and a reader holds no lock that the engine
//! waits for ([0071](../../../docs/decisions/0071-rankings-are-swapped-snapshots.md)).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use serde::Serialize;

use leadpulse_records::{KeptLetter, ShownAlert, ShownScore, WorkList};

mod changes;
mod letters;
mod lists;
mod pages;
mod pipeline;
mod ranking;
mod said;
mod trace;

use crate::epoch::RescoringNote;
use crate::machine::ErasedNames;

pub use changes::{CHANGED_SCORES_KEPT, CHANGES_KEPT, ChangeLog, PublishedChange};
pub use letters::{LETTERS_KEPT, LETTERS_KEPT_OF_A_KIND, LetterKind, LettersPage};

pub use pages::{Page, PageCursor, PageCursorError, PageRequest, RankingSnapshot, Sort};
pub use pipeline::{EpochTimes, PartitionLag, PipelineView, StageTime};
pub use said::{FeedbackCount, RulingsView, SaidView, ShownRuling, ShownVerdict, VerdictsView};

pub use trace::{TRACED_KEPT, TRACED_OF_A_TICK, TracedRecord};

use letters::Letters;
use lists::KeptLists;
use ranking::TaskRanking;
use said::SaidShown;
use trace::TracedRecords;

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
    /// The rankings that publications change. No reader takes this lock.
    rankings: Mutex<BTreeMap<RankingKey, TaskRanking>>,
    /// The rankings as readers see them.
    shown: ArcSwap<BTreeMap<RankingKey, Arc<RankingSnapshot>>>,
    changes: ArcSwap<ChangeLog>,
    alerts: ArcSwap<Alerts>,
    letters: ArcSwap<Letters>,
    lists: ArcSwap<KeptLists>,
    said: ArcSwap<SaidShown>,
    traced: ArcSwap<TracedRecords>,
    pipeline: ArcSwap<PipelineView>,
    epoch_watch: ArcSwapOption<SyncSender<EpochTimes>>,
    status: ArcSwap<EngineStatus>,
    conditions: ArcSwap<BTreeMap<&'static str, StandingRemark>>,
    beats: AtomicU64,
}

#[derive(Clone, Default)]
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
            rankings: Mutex::default(),
            shown: ArcSwap::default(),
            changes: ArcSwap::default(),
            alerts: ArcSwap::default(),
            letters: ArcSwap::default(),
            lists: ArcSwap::default(),
            said: ArcSwap::default(),
            traced: ArcSwap::default(),
            pipeline: ArcSwap::default(),
            epoch_watch: ArcSwapOption::empty(),
            status: ArcSwap::from_pointee(status),
            conditions: ArcSwap::default(),
            beats: AtomicU64::new(0),
        }
    }

    /// Makes a committed epoch visible: its scores, its alerts (oldest first), then the status.
    pub fn publish(&self, scores: Vec<ShownScore>, alerts: Vec<ShownAlert>, status: EngineStatus) {
        let rescoring = status.deployed.rescoring;
        let changes_to = rescoring.and(status.deployed.bundle_id.as_deref());
        let mut rankings = self.rankings();
        let mut is_replaced = false;
        for ranking in rankings.values_mut() {
            is_replaced |= ranking.follow(changes_to);
        }
        let scores = self.succeeding(scores);
        let mut touched: Vec<RankingKey> = Vec::new();
        for score in &scores {
            let key = (score.record.task.clone(), score.record.entity_type.clone());
            let ranking = rankings.entry(key.clone()).or_default();
            ranking.follow(changes_to);
            if !touched.contains(&key) {
                ranking.version += 1;
                touched.push(key);
            }
            let previous = self.replace(score);
            ranking.put(previous.as_ref(), score.clone());
        }
        self.show(&rankings);
        drop(rankings);
        let alerts: Vec<Arc<ShownAlert>> = alerts.into_iter().map(Arc::new).collect();
        self.keep_alerts(&alerts);
        let epoch = status.epoch;
        self.set_status(status);
        self.log_change(epoch, scores, alerts, is_replaced);
    }

    /// The scores with their past: that of the score before, or that which a start found.
    fn succeeding(&self, scores: Vec<ShownScore>) -> Vec<Arc<ShownScore>> {
        let mut succeeding = Vec::with_capacity(scores.len());
        for mut score in scores {
            match self.standing(&score) {
                // A start gives the past with the score.
                None if !score.history.is_empty() => {}
                None => score.succeed(&[]),
                Some(before) => score.succeed(&before.history),
            }
            succeeding.push(Arc::new(score));
        }
        succeeding
    }

    fn keep_alerts(&self, alerts: &[Arc<ShownAlert>]) {
        if alerts.is_empty() {
            return;
        }
        let mut kept = Alerts::clone(&self.alerts.load());
        kept.version += 1;
        kept.newest_last.extend(alerts.iter().cloned());
        let surplus = kept.newest_last.len().saturating_sub(ALERTS_KEPT);
        kept.newest_last.drain(..surplus);
        self.alerts.store(Arc::new(kept));
    }

    /// Adds a publication to the log, or begins the log anew where whole rankings were replaced.
    fn log_change(
        &self,
        epoch: u64,
        scores: Vec<Arc<ShownScore>>,
        alerts: Vec<Arc<ShownAlert>>,
        is_replaced: bool,
    ) {
        if scores.is_empty() && alerts.is_empty() && !is_replaced {
            return;
        }
        let mut log = ChangeLog::clone(&self.changes.load());
        if is_replaced {
            log.restart();
        }
        log.push(epoch, scores, alerts);
        self.changes.store(Arc::new(log));
    }

    /// The newest publications, oldest first.
    pub fn changes(&self) -> Arc<ChangeLog> {
        self.changes.load_full()
    }

    /// The rankings, for a publication.
    fn rankings(&self) -> MutexGuard<'_, BTreeMap<RankingKey, TaskRanking>> {
        self.rankings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows rankings to readers, all at once. A ranking that did not change keeps its snapshot.
    fn show(&self, rankings: &BTreeMap<RankingKey, TaskRanking>) {
        let before = self.shown.load();
        let snapshot = |(key, ranking): (&RankingKey, &TaskRanking)| {
            let known = before.get(key);
            let known = known.filter(|known| known.version == ranking.version);
            let shown = known
                .cloned()
                .unwrap_or_else(|| Arc::new(ranking.snapshot()));
            (key.clone(), shown)
        };
        let shown = rankings.iter().map(snapshot).collect();
        self.shown.store(Arc::new(shown));
    }

    /// Ranks entities by the scores that they had before a change of model which is under way:
    /// scores with the logits they are ranked by. Before anything is published.
    pub fn publish_older_ranks(&self, scores: Vec<(ShownScore, f64)>, changes_to: &str) {
        let mut rankings = self.rankings();
        for (score, logit) in scores {
            let key = (score.record.task.clone(), score.record.entity_type.clone());
            let ranking = rankings.entry(key).or_default();
            ranking.follow(Some(changes_to));
            ranking.version += 1;
            ranking.put_older(&Arc::new(score), logit);
        }
        self.show(&rankings);
    }

    /// Drops scores, rankings and work lists of all tasks but these.
    pub fn keep_tasks(&self, names: &[Arc<str>]) {
        let is_kept = |task: &Arc<str>| names.contains(task);
        let mut rankings = self.rankings();
        rankings.retain(|(task, _), _| is_kept(task));
        self.show(&rankings);
        drop(rankings);
        self.entities.retain(|_, scores| {
            scores.retain(|score| is_kept(&score.record.task));
            !scores.is_empty()
        });
        let mut lists = KeptLists::clone(&self.lists.load());
        lists.keep_tasks(names);
        self.lists.store(Arc::new(lists));
        let mut log = ChangeLog::clone(&self.changes.load());
        log.restart();
        self.changes.store(Arc::new(log));
    }

    /// Forgets a person: scores, places in rankings, dead letters with one of the names, outcomes of
    /// rows, and what alerts say of the person. Readers of changes start anew, because the log has
    /// older scores.
    pub fn forget(&self, names: &ErasedNames) {
        let mut rankings = self.rankings();
        for (entity_type, entity_id) in &names.entities {
            let key = (entity_type.clone(), entity_id.clone());
            self.entities.remove(&key);
            for ((_, of), ranking) in rankings.iter_mut() {
                if of == entity_type {
                    ranking.forget(entity_id);
                }
            }
        }
        self.show(&rankings);
        drop(rankings);
        let mut log = ChangeLog::clone(&self.changes.load());
        log.restart();
        self.changes.store(Arc::new(log));
        self.forget_in_alerts(names);
        let mut letters = Letters::clone(&self.letters.load());
        letters.forget(names);
        self.letters.store(Arc::new(letters));
        self.forget_traced(names);
    }

    fn forget_in_alerts(&self, names: &ErasedNames) {
        let is_gone = |table: Option<&str>, key: &str| names.has(table, key);
        let mut kept = Alerts::clone(&self.alerts.load());
        kept.version += 1;
        let less = |alert: &Arc<ShownAlert>| {
            let record = alert.record.without(&is_gone)?;
            let name = alert.name.clone();
            Some(Arc::new(ShownAlert { record, name }))
        };
        kept.newest_last = kept.newest_last.iter().filter_map(less).collect();
        self.alerts.store(Arc::new(kept));
    }

    /// Makes work lists visible, each in the place of the one before.
    pub fn publish_work_lists(&self, lists: Vec<Arc<WorkList>>) {
        if !lists.is_empty() {
            let mut kept = KeptLists::clone(&self.lists.load());
            kept.replace(lists);
            self.lists.store(Arc::new(kept));
        }
    }

    /// The newest work lists of a task, of one person or of all, in order of their keys, and a number
    /// that changes whenever one does. The person is empty for the list of nobody.
    pub fn work_lists(&self, task: &str, owner: Option<&str>) -> (u64, Vec<Arc<WorkList>>) {
        self.lists.load().of(task, owner)
    }

    /// Makes dead letters visible, oldest first.
    pub fn publish_dead_letters(&self, letters: Vec<KeptLetter>) {
        if !letters.is_empty() {
            let mut kept = Letters::clone(&self.letters.load());
            kept.extend(letters);
            self.letters.store(Arc::new(kept));
        }
    }

    /// The newest dead letters, newest first: of a topic, of a reason, or of all.
    pub fn dead_letters(
        &self,
        topic: Option<&str>,
        reason: Option<&str>,
        limit: usize,
    ) -> LettersPage {
        self.letters.load().page(topic, reason, limit)
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
        let before = self.conditions.load();
        let known = before.get(matter).map(|known| known.text.clone());
        if known == text {
            return;
        }
        match &text {
            Some(text) if known.is_none() => tracing::warn!(matter, "{text}"),
            Some(_) => {}
            None => tracing::info!(matter, "over"),
        }
        self.conditions.rcu(|conditions| {
            let mut next = BTreeMap::clone(conditions);
            match text.clone() {
                Some(text) => {
                    let remark = StandingRemark {
                        matter,
                        text,
                        blocks,
                    };
                    next.insert(matter, remark);
                }
                None => drop(next.remove(matter)),
            }
            next
        });
    }

    /// Remarks that stand now, by name of their matter.
    pub fn conditions(&self) -> Vec<StandingRemark> {
        self.conditions.load().values().cloned().collect()
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

    /// The ranking of a task and table as of the newest publication; empty before the first score.
    pub fn ranking(&self, task: &str, entity_type: &str) -> Arc<RankingSnapshot> {
        let shown = self.shown.load();
        let key = (Arc::from(task), Arc::from(entity_type));
        shown.get(&key).cloned().unwrap_or_default()
    }

    /// Number that changes whenever the ranking of this task and table does; 0 before the first
    /// score.
    pub fn ranking_version(&self, task: &str, entity_type: &str) -> u64 {
        self.ranking(task, entity_type).version
    }

    /// A page of at most `limit` entities of a ranking, from the start or after `cursor`, without
    /// those that a person excluded.
    pub fn scores(
        &self,
        task: &str,
        entity_type: &str,
        sort: Sort,
        limit: usize,
        cursor: Option<&PageCursor>,
    ) -> Page {
        let request = PageRequest {
            sort,
            limit,
            after: cursor.cloned(),
        };
        self.page(&self.ranking(task, entity_type), &request, None)
    }

    /// A page of a ranking, without those that a person excluded, and of those that `is_wanted`
    /// accepts; `None` accepts all.
    pub fn page(
        &self,
        ranking: &RankingSnapshot,
        request: &PageRequest,
        is_wanted: Option<&dyn Fn(&ShownScore) -> bool>,
    ) -> Page {
        let said = self.said.load();
        let is_listed = |score: &ShownScore| {
            !said.rulings.excludes(score) && is_wanted.is_none_or(|is_wanted| is_wanted(score))
        };
        match is_wanted.is_some() || said.rulings.has_excluded() {
            true => ranking.page(request, Some(&is_listed)),
            false => ranking.page(request, None),
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
        let kept = self.alerts.load();
        let newest = kept.newest_last.iter().rev().take(limit);
        (kept.version, newest.cloned().collect())
    }
}

#[cfg(test)]
mod tests;
