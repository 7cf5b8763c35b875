//! The stored state in the loop: a start goes on from it, and every committed epoch adds to it.
//!
//! | the store holds | a start |
//! |---|---|
//! | nothing, a damaged or an older state | applies all rows, and stores the state anew |
//! | the last committed epoch | goes on: what waited waits still |
//! | an earlier epoch of the log | applies the rows since, then every cell waits |
//! | an epoch that the log does not have | is refused: it is another deployment's |
//!
//! Decision: docs/decisions/0068-state-in-pieces.md

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_128;

use leadpulse_graph::pieces::read_value;
use leadpulse_graph::{GRAPH_AREAS, PieceError, Pieces};
use leadpulse_records::{Score, ScorePoint, ShownScore, output_key};

use super::store_whole::WholeToStore;
use super::{Engine, RunError};
use crate::epoch::{EpochRecord, ScriptRecord};
use crate::machine::{ErasedNames, STATE_FORMAT, StateReader, StateShape};
use crate::ports::{
    Attendant, CommittedEpoch, Holding, HoldingKind, Nonce, Output, OutputPositions, PortCause,
    PortError, SealedEpoch, StateStore, StoreError, StoreHead, StoredChange,
};
use crate::script::Chain;

/// Area of the newest score records, as consumers have them. The state does not need them: pages
/// show them.
const SCORES: u8 = GRAPH_AREAS + 32;
/// Area of the past of scores.
const HISTORY: u8 = GRAPH_AREAS + 33;
/// Longest wait of a follower for an epoch record that its stored state has and it cannot read yet:
/// the marker of its transaction may be on its way.
const UNREADABLE_FOR: Duration = Duration::from_secs(10);
/// Pause before it is seen again whether an epoch is on the disk.
const SYNC_WAIT: Duration = Duration::from_millis(5);
/// Pause before a full queue, or a log that ends too early, is tried again.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// The loop's part of the stored state.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) store: Option<Box<dyn StateStore>>,
    /// Where outputs of the epochs to come begin.
    pub(super) outputs: OutputPositions,
    /// The record of the epoch of the adopted state, until the script is followed from there.
    record: Option<Box<EpochRecord>>,
    /// True once the store is at the last committed epoch and follows.
    pub(super) follows: bool,
    /// Stored score records by the hash of their key, while a start reads them.
    scores: Vec<(u128, Vec<u8>)>,
    /// The past of scores, while a start reads it.
    histories: FxHashMap<ScoreName, Vec<ScorePoint>>,
    /// Score records that are not stored yet.
    pub(super) newer_scores: NewestValues,
    /// Persons who were erased since the last change that was handed over.
    pub(super) erased: Vec<ErasedNames>,
    /// The reason for which the stored state was passed over.
    pub(super) unusable: Option<String>,
    /// The state that is to be stored as a whole, where that failed.
    pub(super) behind: Option<WholeToStore>,
}

impl Stored {
    pub fn new(store: Option<Box<dyn StateStore>>) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }

    /// Takes the stored score records that no `newer` record replaces or deletes.
    pub fn take_scores(&mut self, newer: &NewestValues) -> Vec<Vec<u8>> {
        let newer: FxHashSet<u128> = newer.keys().map(|key| xxh3_128(key)).collect();
        let scores = std::mem::take(&mut self.scores).into_iter();
        scores
            .filter(|(key, _)| !newer.contains(key))
            .map(|(_, value)| value)
            .collect()
    }

    /// Gives scores that a start shows the past that was stored.
    pub fn give_histories(&mut self, scores: &mut [ShownScore]) {
        let mut histories = std::mem::take(&mut self.histories);
        for score in scores {
            if let Some(history) = histories.remove(&name_of(&score.record)) {
                score.succeed(&history);
            }
        }
    }

    /// Keeps score records that were read back, to be stored.
    pub fn note_scores(&mut self, newer: NewestValues) {
        if self.store.is_some() {
            self.newer_scores = newer;
        }
    }

    /// Notes a person whose bytes the store must not keep.
    pub fn note_erased(&mut self, names: ErasedNames) {
        if self.store.is_some() {
            self.erased.push(names);
        }
    }

    /// The place of snapshots, where there are any.
    pub fn snapshots(&self) -> Option<Holding> {
        let (place, keeps_ms) = self.store.as_ref()?.snapshots()?;
        Some(Holding {
            place,
            kind: HoldingKind::Snapshots,
            keeps_ms: Some(keeps_ms),
        })
    }

    /// Lets outputs be read from their beginning, whatever state was stored.
    pub fn read_all_outputs(&mut self) {
        self.outputs = OutputPositions::default();
        self.scores = Vec::new();
    }

    /// Where outputs of the epochs after the stored state begin; their beginning without one.
    pub fn outputs(&self) -> &OutputPositions {
        &self.outputs
    }
}

/// The outcome of a look at a store.
enum Adoption {
    Adopted(StoreHead),
    /// No state that this program can go on from.
    Nothing,
    /// A state that cannot be read.
    Unusable(StoreError),
}

/// The end of the log, by a process that owns it.
#[derive(Clone, Copy)]
struct OwnedLog<'a> {
    /// `None` before the first epoch.
    committed: Option<&'a CommittedEpoch>,
}

/// The changes of the state by one epoch.
pub(super) struct StateChange {
    pieces: Pieces,
    /// The store's head after it; where its outputs end is known once it is committed.
    head: StoreHead,
}

/// Task, table and key of a score.
pub(super) type ScoreName = (Arc<str>, Arc<str>, Arc<str>);

pub(super) fn name_of(record: &Score) -> ScoreName {
    let (entity_type, entity_id) = (record.entity_type.clone(), record.entity_id.clone());
    (record.task.clone(), entity_type, entity_id)
}

/// The newest value of each key; `None` for one that was deleted.
pub(super) type NewestValues = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Engine {
    /// As [`Self::adopt_stored`], for a process that follows another: what is committed is not known
    /// yet, and outputs are read from their beginning.
    pub(super) fn adopt_stored_to_follow(&mut self) -> Result<Option<StoreHead>, RunError> {
        let Some(mut store) = self.stored.store.take() else {
            return Ok(None);
        };
        let adopted = self.adopt_or_fall_back(store.as_mut(), None, UNREADABLE_FOR);
        self.stored.store = Some(store);
        self.stored.read_all_outputs();
        adopted
    }

    /// Puts the stored state into the machine, if it is of this deployment. Returns its epoch.
    ///
    /// # Errors
    /// A store that another process has open, or that is ahead of the log.
    pub(super) fn adopt_stored(
        &mut self,
        committed: Option<&CommittedEpoch>,
    ) -> Result<Option<StoreHead>, RunError> {
        let Some(mut store) = self.stored.store.take() else {
            return Ok(None);
        };
        let log = Some(OwnedLog { committed });
        let adopted = self.adopt_or_fall_back(store.as_mut(), log, Duration::ZERO);
        self.stored.store = Some(store);
        adopted
    }

    /// Adopts the state of a store, or else its newest snapshot. `log` is checked where it is known.
    fn adopt_or_fall_back(
        &mut self,
        store: &mut dyn StateStore,
        log: Option<OwnedLog<'_>>,
        patience: Duration,
    ) -> Result<Option<StoreHead>, RunError> {
        let unusable = match self.adopt_from(store, |store| store.head(), log, patience)? {
            Adoption::Adopted(head) => return Ok(Some(head)),
            Adoption::Nothing => return Ok(None),
            Adoption::Unusable(error) => error,
        };
        tracing::warn!(error = %unusable, "the stored state is passed over");
        // What a disk does not give now may be whole: a snapshot would take its place for good.
        if !matches!(unusable, StoreError::Io { .. }) {
            match self.adopt_from(store, |store| store.fall_back(), log, patience)? {
                Adoption::Adopted(head) => return Ok(Some(head)),
                Adoption::Nothing => {}
                Adoption::Unusable(error) => {
                    tracing::warn!(%error, "the newest snapshot is passed over");
                }
            }
        }
        tracing::warn!("all rows are applied again");
        self.stored.unusable = Some(unusable.to_string());
        Ok(None)
    }

    fn adopt_from(
        &mut self,
        store: &mut dyn StateStore,
        head_of: fn(&mut dyn StateStore) -> Result<Option<StoreHead>, StoreError>,
        log: Option<OwnedLog<'_>>,
        patience: Duration,
    ) -> Result<Adoption, RunError> {
        let place = store.place().to_owned();
        let head = match head_of(store) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Adoption::Nothing),
            Err(error @ StoreError::InUse { .. }) => {
                return Err(PortError::fatal(PortCause::Local, error.to_string()).into());
            }
            Err(error) => return Ok(Adoption::Unusable(error)),
        };
        if let Some(log) = log {
            check_of_log(&place, &head, log.committed)?;
        }
        if head.format != STATE_FORMAT {
            tracing::warn!(
                place,
                format = head.format,
                "the stored state is of another program: all rows are applied again"
            );
            return Ok(Adoption::Nothing);
        }
        if head.epoch == 0 {
            return Ok(Adoption::Nothing);
        }
        let Some(record) = self.record_of(&place, &head, patience)? else {
            return Ok(Adoption::Nothing);
        };
        // The state is of the version that its epoch was decided under.
        self.follow_release(&record)?;
        let started = self.elapsed();
        let given = self.machine.deployed().clone();
        let shape = StateShape::of_hashes(head.shape);
        let mut reader = match StateReader::new(&given, shape) {
            Ok(reader) => reader,
            Err(fault) => return Ok(Adoption::Unusable(StoreError::State { place, fault })),
        };
        if let Some(nodes) = store.nodes() {
            reader.leave_nodes(nodes);
        }
        let (stored, read_model) = (&mut self.stored, &self.read_model);
        let mut pieces = 0_u64;
        let read = store.read(&mut |key, value| {
            pieces += 1;
            if pieces.is_multiple_of(1_024) {
                read_model.beat();
            }
            match key.first() {
                Some(area) if *area == SCORES => {
                    let hash = key[1..].try_into().map_err(|_| PieceError::Key)?;
                    let value = value.to_vec();
                    stored.scores.push((u128::from_be_bytes(hash), value));
                }
                Some(area) if *area == HISTORY => {
                    let (name, history) = read_value(HISTORY, value)?;
                    stored.histories.insert(name, history);
                }
                _ => reader.read(key, value)?,
            }
            Ok(())
        });
        let state = read.and_then(|()| {
            let state = reader.finish(&given);
            state.map_err(|fault| StoreError::State {
                place: place.clone(),
                fault,
            })
        });
        let adopted = state.and_then(|state| {
            self.machine
                .adopt(state)
                .map_err(|fault| StoreError::State {
                    place,
                    fault: fault.into(),
                })
        });
        if let Err(error) = adopted {
            self.stored.scores.clear();
            self.stored.histories.clear();
            return Ok(Adoption::Unusable(error));
        }
        let entities = self.machine.graph().directory().len();
        let checked = store.check_memory(entities);
        checked.map_err(|error| PortError::fatal(PortCause::Local, error.to_string()))?;
        self.machine.note_changes();
        self.data_fit.leave_out();
        self.stored.record = Some(record);
        self.stored.outputs = head.outputs.clone();
        self.taken = head.taken;
        let seconds = self.seconds_since(started);
        tracing::info!(epoch = head.epoch, pieces, seconds, "stored state read");
        Ok(Adoption::Adopted(head))
    }

    /// The script from the epoch of the adopted state on. The epochs topic is read to that epoch.
    pub(super) fn script_after_stored(&mut self) -> Option<Chain> {
        let record = self.stored.record.take()?;
        let closed_ms = self.machine.ticks().closed_ms;
        let layout = self.machine.layout().clone();
        Some(Chain::after(layout, record, closed_ms))
    }

    /// Reads the epochs topic to the epoch of a stored state, which the log must have with the
    /// same nonce. Waits `patience` for a record that is committed and cannot be read yet. Returns
    /// it, `None` at the stop signal.
    fn record_of(
        &mut self,
        place: &str,
        head: &StoreHead,
        patience: Duration,
    ) -> Result<Option<Box<EpochRecord>>, RunError> {
        let started = self.elapsed();
        // Each epoch has a record and a marker there, so this is a lower bound.
        let from = head
            .outputs
            .next(Output::Epochs as u8, 0)
            .saturating_sub(2)
            .max(0);
        self.attendant.retry(|| self.ports.outputs.rewind(from))?;
        loop {
            let Some(value) = self.next_of_script(0)? else {
                return Ok(None);
            };
            let Some(value) = value else {
                if self.elapsed().saturating_sub(started) >= patience {
                    return Err(gone(head).into());
                }
                self.attendant.wait(FULL_WAIT);
                self.attendant.retry(|| self.ports.outputs.go_on())?;
                continue;
            };
            for entry in self.encoders.read_script(&value)? {
                let ScriptRecord::Epoch(record) = entry else {
                    continue;
                };
                let number = record.epoch as u64;
                if number > head.epoch {
                    return Err(gone(head).into());
                }
                if number == head.epoch {
                    if record.nonce() != Some(head.nonce()) {
                        return Err(another(place, head, record.nonce()).into());
                    }
                    return Ok(Some(record));
                }
            }
        }
    }

    fn store_place(&self) -> &str {
        let store = self.stored.store.as_ref();
        store.map_or("", |store| store.place())
    }

    /// Lets the store follow from the restored state on. `from` is the epoch of the state that was
    /// adopted from it; without one the whole state is stored now.
    pub(super) fn follow_with_store(
        &mut self,
        from: Option<&StoreHead>,
        last: Option<&EpochRecord>,
    ) {
        let Some(mut store) = self.stored.store.take() else {
            return;
        };
        let nonce = last.and_then(EpochRecord::nonce).unwrap_or_default();
        let head = self.head(self.machine.number(), nonce);
        match from {
            Some(from) if from.epoch == head.epoch => self.stored.follows = true,
            Some(from) => {
                let mut pieces = self.machine.take_changes();
                self.put_scores(&mut pieces);
                self.stored.newer_scores.clear();
                let is_erasure = self.remove_erased(&mut pieces);
                self.stored.follows = true;
                self.stored.store = Some(store);
                self.store_change(StoredChange {
                    after: from.epoch,
                    head,
                    pieces,
                    is_erasure,
                });
                return;
            }
            None => {
                let started = self.elapsed();
                match self.store_whole(store.as_mut(), &head, []) {
                    Ok(()) => {
                        self.stored.follows = true;
                        let seconds = self.seconds_since(started);
                        tracing::info!(epoch = head.epoch, seconds, "state stored");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the state is not stored; epochs go on, and it is tried again");
                        self.stored.behind =
                            Some(WholeToStore::begun(self.elapsed(), head.nonce()));
                    }
                }
            }
        }
        self.stored.store = Some(store);
    }

    /// Puts nodes out of memory that are stored and were not used for longest, as far as the budget
    /// asks for it. Waits for the disk where `epoch`, the newest that was handed to the store, left
    /// much more than the budget allows.
    fn put_out(&mut self, epoch: u64) {
        loop {
            let graph = self.machine.graph();
            let entities = graph.directory().len();
            let (Some(store), Some(residence)) = (&mut self.stored.store, graph.residence()) else {
                return;
            };
            let budget = store.node_budget(residence.bytes, entities);
            if residence.bytes <= budget {
                return;
            }
            let status = store.status();
            self.machine.put_out(status.synced, budget);
            let left = self.machine.graph().residence().unwrap_or_default();
            let is_much = left.bytes > budget.saturating_add(budget / 4);
            let is_waiting = status.synced < epoch && status.failure.is_none();
            if !is_much || !(is_waiting || left.put_out > residence.put_out) || self.stopped() {
                return;
            }
            if is_waiting && let Some(store) = &mut self.stored.store {
                store.sync_soon();
                self.read_model.beat();
                self.attendant.wait(SYNC_WAIT);
            }
        }
    }

    /// Adds the score records that are not stored yet.
    pub(super) fn put_scores(&self, pieces: &mut Pieces) {
        for (key, value) in &self.stored.newer_scores {
            put_score(pieces, key, value.as_deref());
        }
    }

    /// Adds the past of a score, as pages show it.
    pub(super) fn put_history(&self, pieces: &mut Pieces, name: &ScoreName) {
        let (task, entity_type, entity_id) = name;
        let scores = self.read_model.get(entity_type, entity_id);
        if let Some(score) = scores.iter().find(|score| score.record.task == *task) {
            pieces.put(HISTORY, history_key(name), &(name, &score.history));
        }
    }

    /// Removes the scores of erased persons and their past. Returns true if there were any persons.
    fn remove_erased(&mut self, pieces: &mut Pieces) -> bool {
        let erased = std::mem::take(&mut self.stored.erased);
        let tasks: Vec<Arc<str>> = self.machine.deployed().task_names().cloned().collect();
        for (entity_type, entity_id) in erased.iter().flat_map(|names| &names.entities) {
            for task in &tasks {
                let name = (task.clone(), entity_type.clone(), entity_id.clone());
                pieces.remove(HISTORY, history_key(&name));
                let key = output_key(task, entity_type, entity_id);
                put_score(pieces, &key, None);
            }
        }
        !erased.is_empty()
    }

    pub(super) fn head(&self, epoch: u64, nonce: Nonce) -> StoreHead {
        StoreHead {
            epoch,
            nonce: nonce.0,
            format: STATE_FORMAT,
            shape: self.machine.deployed().shape().hashes(),
            outputs: self.stored.outputs.clone(),
            newest_ms: self.ticks.all_newest_ms().to_vec(),
            taken: self.taken,
        }
    }

    /// The changes of the state by a sealed epoch, for the store once it is committed. Without a store
    /// that follows, none.
    pub(super) fn take_state_change(&mut self, sealed: &SealedEpoch) -> Option<StateChange> {
        self.stored.follows.then(|| StateChange {
            pieces: self.machine.take_changes(),
            head: self.head(sealed.number, sealed.nonce),
        })
    }

    /// Hands the changes of a committed epoch to the store, with the records and the past of its
    /// scores.
    pub(super) fn store_epoch(
        &mut self,
        sealed: &SealedEpoch,
        change: StateChange,
        shown: &[ScoreName],
    ) {
        let StateChange {
            mut pieces,
            mut head,
        } = change;
        for record in &sealed.outputs {
            if let (Output::CurrentScores, Some(key)) = (record.output, &record.key) {
                put_score(&mut pieces, key, record.value.as_deref());
            }
        }
        for name in shown {
            self.put_history(&mut pieces, name);
        }
        let is_erasure = self.remove_erased(&mut pieces);
        let written = self.ports.sink.written();
        self.stored.outputs.note_all(&written);
        head.outputs = self.stored.outputs.clone();
        self.store_change(StoredChange {
            after: sealed.number - 1,
            head,
            pieces,
            is_erasure,
        });
        self.put_out(sealed.number);
    }

    /// Waits while too much waits to be stored.
    fn store_change(&mut self, change: StoredChange) {
        let mut waiting = Some(change);
        while let Some(change) = waiting.take() {
            let Some(store) = &mut self.stored.store else {
                return;
            };
            waiting = store.write(change);
            if waiting.is_some() {
                self.attendant.report(
                    "store",
                    Some(format!(
                        "{} takes no more of the state; epochs wait for it",
                        self.store_place()
                    )),
                );
                self.read_model.beat();
                if self.stopped() {
                    return;
                }
                self.attendant.wait(FULL_WAIT);
            }
        }
        self.attendant.report("store", None);
    }

    /// Writes what waits to be stored, at the end of a run.
    pub(super) fn end_storing(&mut self) {
        if let Some(mut store) = self.stored.store.take() {
            let status = store.close();
            if let Some(failure) = status.failure {
                tracing::error!(
                    epoch = status.epoch,
                    failure,
                    "the stored state is behind; the next start applies the rows since"
                );
            }
        }
    }
}

/// Appends the key of the past of a score.
fn history_key((task, entity_type, entity_id): &ScoreName) -> impl FnOnce(&mut Vec<u8>) + use<> {
    let hash = xxh3_128(format!("{task}\0{entity_type}\0{entity_id}").as_bytes());
    move |out| out.extend(hash.to_be_bytes())
}

fn put_score(pieces: &mut Pieces, key: &[u8], value: Option<&[u8]>) {
    let hash = |out: &mut Vec<u8>| out.extend(xxh3_128(key).to_be_bytes());
    match value {
        Some(value) => pieces.put_bytes(SCORES, hash, value),
        None => pieces.remove(SCORES, hash),
    }
}

/// The log must have the epoch of the stored state.
fn check_of_log(
    place: &str,
    head: &StoreHead,
    committed: Option<&CommittedEpoch>,
) -> Result<(), PortError> {
    let last = committed.map_or(0, |committed| committed.number);
    if head.epoch > last {
        return Err(PortError::fatal(
            PortCause::StoreForeign,
            format!(
                "the state in {place} is at epoch {}, and the log ends with epoch {last}: it is of another deployment, or epochs were lost. \
                 Name the folder of this deployment in store.dir; or delete the folder, and all rows are applied again",
                head.epoch
            ),
        ));
    }
    let nonce = committed.filter(|committed| committed.number == head.epoch);
    match nonce.and_then(|committed| committed.nonce) {
        Some(nonce) if nonce != head.nonce() => Err(another(place, head, Some(nonce))),
        _ => Ok(()),
    }
}

fn another(place: &str, head: &StoreHead, nonce: Option<Nonce>) -> PortError {
    let there = nonce.map_or_else(|| "none".to_owned(), |nonce| nonce.to_string());
    PortError::fatal(
        PortCause::StoreForeign,
        format!(
            "the state in {place} is of another deployment: its epoch {} has nonce {}, the log's has {there}. \
             Name the folder of this deployment in store.dir; or delete the folder, and all rows are applied again",
            head.epoch,
            head.nonce()
        ),
    )
}

fn gone(head: &StoreHead) -> PortError {
    PortError::fatal(
        PortCause::RecordsExpired,
        format!(
            "the epochs topic has no record of epoch {} any more, which the stored state is of: retention has removed it. \
             Start from a newer state, or delete the folder if the input topics hold all their records",
            head.epoch
        ),
    )
}
