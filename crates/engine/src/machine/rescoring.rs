//! A change of model, until every entity has a score of the new one.
//!
//! Scores move a few per epoch, so for a while scores of two models stand. A rank among both would
//! mean nothing. So ranks are those of the scores that stood before the change, for all tasks, until
//! the last entity has a new score. Then the new scores are ranked, all at once.
//!
//! A restart reads the older scores back from the records of policy states: one that was written
//! during the change has the logit that its entity is ranked by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use leadpulse_graph::EntityId;
use leadpulse_records::{PolicyStateRecord, Standing};

use super::Machine;
use super::state::WorkerState;
use crate::epoch::RescoringNote;
use crate::standings::Standings;

/// The change under way.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Rescoring {
    /// The first epoch of the change.
    ranked_since: u64,
    /// The first epoch under the newest model.
    since: u64,
    /// By task.
    tasks: Vec<OlderScores>,
}

/// The scores of one task that stood before the change.
#[derive(Clone, Default, Serialize, Deserialize)]
struct OlderScores {
    /// Entities without a score of the newest model.
    waiting: BTreeSet<EntityId>,
    /// The logits that entities are ranked by.
    ranked: BTreeMap<EntityId, f64>,
    /// Counts of `ranked`.
    #[serde(skip)]
    standings: Standings,
}

impl OlderScores {
    fn count(&mut self) {
        self.standings = Standings::default();
        for logit in self.ranked.values() {
            self.standings.replace(None, Some(*logit));
        }
    }
}

impl Rescoring {
    /// A change of which nothing is known but its epochs: policy states fill it.
    fn noted(note: RescoringNote, tasks: usize) -> Self {
        Self {
            ranked_since: note.ranked_since,
            since: note.since,
            tasks: vec![OlderScores::default(); tasks],
        }
    }

    /// Counts the older scores anew, after they were read back.
    pub fn count(&mut self) {
        self.tasks.iter_mut().for_each(OlderScores::count);
    }

    pub fn note(&self) -> RescoringNote {
        let waiting = self.tasks.iter().map(|task| task.waiting.len() as u64);
        RescoringNote {
            ranked_since: self.ranked_since,
            since: self.since,
            waiting: waiting.sum(),
        }
    }

    /// Whether an entity has no score of the newest model yet.
    pub fn awaits(&self, task: usize, entity: EntityId) -> bool {
        self.tasks[task].waiting.contains(&entity)
    }

    /// Notes that an entity has a score of the newest model, or none at all.
    pub fn settle(&mut self, task: usize, entity: EntityId) {
        self.tasks[task].waiting.remove(&entity);
    }

    /// Forgets an entity.
    pub fn forget(&mut self, task: usize, entity: EntityId) {
        let older = &mut self.tasks[task];
        older.waiting.remove(&entity);
        if let Some(logit) = older.ranked.remove(&entity) {
            older.standings.replace(Some(logit), None);
        }
    }

    /// The number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn is_complete(&self) -> bool {
        self.tasks.iter().all(|task| task.waiting.is_empty())
    }

    /// The logit that an entity is ranked by; `None` for one that had no score before the change.
    pub fn ranked_by(&self, task: usize, entity: EntityId) -> Option<f64> {
        self.tasks[task].ranked.get(&entity).copied()
    }

    fn standing(&self, task: usize, entity: EntityId) -> Option<Standing> {
        let logit = self.ranked_by(task, entity)?;
        Some(self.tasks[task].standings.of(logit))
    }

    /// Moves what is kept by task to the tasks' new places; what has none is dropped.
    pub fn rearrange(&mut self, places: &[Option<usize>], tasks: usize) {
        let mut moved = vec![OlderScores::default(); tasks];
        for (older, place) in std::mem::take(&mut self.tasks).into_iter().zip(places) {
            if let Some(place) = place {
                moved[*place] = older;
            }
        }
        self.tasks = moved;
    }

    /// Takes back an entity whose standing score is `standing`.
    fn restore(
        &mut self,
        (task, entity): (usize, EntityId),
        record: &PolicyStateRecord,
        standing: Option<f64>,
    ) {
        let epoch = record.epoch as u64;
        let ranked = match epoch >= self.ranked_since {
            true => record.ranked_by,
            false => standing,
        };
        let awaits = match epoch >= self.since {
            true => record.awaits_score.unwrap_or_default(),
            false => standing.is_some(),
        };
        let older = &mut self.tasks[task];
        older.ranked.extend(ranked.map(|logit| (entity, logit)));
        older.waiting.extend(awaits.then_some(entity));
    }
}

impl WorkerState {
    /// Begins a change of model with the next epoch. One that is under way goes on with the ranks
    /// it has.
    pub(super) fn begin_rescoring(&mut self) {
        let since = self.number + 1;
        let tasks = self.standings.len();
        let (mut rescoring, is_first) = match self.rescoring.take() {
            Some(under_way) => (under_way, false),
            None => {
                let note = RescoringNote {
                    ranked_since: since,
                    since,
                    waiting: 0,
                };
                (Rescoring::noted(note, tasks), true)
            }
        };
        rescoring.since = since;
        for ((task, entity), tracked) in self.tracked.iter() {
            let Some(logit) = tracked.ranked_by() else {
                continue;
            };
            let older = &mut rescoring.tasks[*task];
            older.waiting.insert(*entity);
            if is_first {
                older.ranked.insert(*entity, logit);
            }
        }
        if is_first {
            rescoring.count();
        }
        self.rescoring = (!rescoring.is_complete()).then_some(rescoring);
    }
}

impl Machine {
    /// The change of model under way.
    pub fn rescoring(&self) -> Option<RescoringNote> {
        self.state.rescoring.as_ref().map(Rescoring::note)
    }

    /// Goes on with a change of model that an earlier process began.
    pub fn restore_rescoring(&mut self, note: Option<RescoringNote>) {
        let tasks = self.given.tasks.len();
        self.state.rescoring = note.map(|note| Rescoring::noted(note, tasks));
    }

    /// Takes back whether an entity has a score of the newest model.
    pub(super) fn restore_older(&mut self, key: (usize, EntityId), record: &PolicyStateRecord) {
        let standing = self.state.tracked.get(&key);
        let standing = standing.and_then(|tracked| tracked.ranked_by());
        if let Some(rescoring) = &mut self.state.rescoring {
            rescoring.restore(key, record, standing);
        }
    }

    /// The logit that an entity is ranked by while a change of model is under way.
    pub fn ranked_by(&self, task: &str, entity_type: &str, entity_id: &str) -> Option<f64> {
        let rescoring = self.state.rescoring.as_ref()?;
        let (task, entity, _) = self.named(task, entity_type, entity_id).ok()?;
        rescoring.ranked_by(task, entity)
    }

    /// The place of an entity among those of its task, whose score has this logit. While a change of
    /// model is under way, the place of its older score; `None` without one.
    pub(super) fn standing(&self, task: usize, entity: EntityId, logit: f64) -> Option<Standing> {
        match &self.state.rescoring {
            Some(rescoring) => rescoring.standing(task, entity),
            None => Some(self.state.standings[task].of(logit)),
        }
    }

    /// Ends the change once nothing waits any more: ranks are those of the new scores from here on.
    pub(super) fn end_rescoring(&mut self) {
        let Some(rescoring) = &self.state.rescoring else {
            return;
        };
        // Every cell waited since the change began. Entities that still wait after the last one was
        // scored are in no cell.
        if rescoring.is_complete() || self.state.graph.deferred() == 0 {
            self.state.rescoring = None;
        }
    }
}
