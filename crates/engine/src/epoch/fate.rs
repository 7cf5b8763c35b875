//! The fate of an epoch as a type: sealed, under way, committed. Only a commit makes the last from
//! the first.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use leadpulse_records::{KeptLetter, ShownAlert, ShownScore, TraceContext, WorkList};

use super::{EpochRecord, Notice};
use crate::ports::{PortError, SealedEpoch, Sink};
use crate::read_model::{SaidView, TracedRecord};

/// Fate: the bytes are final, and no transaction is known to hold them.
#[derive(Clone, Copy, Debug)]
pub enum Sealed {}

/// Fate: a sink is committing the epoch.
#[derive(Clone, Copy, Debug)]
pub enum UnderWay {}

/// Fate: one committed transaction holds the epoch.
#[derive(Clone, Copy, Debug)]
pub enum Committed {}

/// An amount of work, and the seconds that it took; zeros where the caller gave no time.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeasuredWork {
    /// Amount.
    pub count: u64,
    /// Seconds.
    pub seconds: f64,
}

impl MeasuredWork {
    pub(crate) fn add(&mut self, count: u64, seconds: f64) {
        self.count += count;
        self.seconds += seconds;
    }
}

/// Counts of one epoch that its record does not hold.
#[derive(Clone, Debug, Default)]
pub struct EpochTally {
    pub cells: usize,
    /// Cells that were due, by moment at which any were looked at for alerts.
    pub due: Vec<usize>,
    /// Cells still waiting because a board moved their hubs.
    pub deferred: usize,
    /// Cells that rows, timers or the engine made dirty and that did not fit.
    pub dirty_left: usize,
    /// Due cells of a half-closed tick that are not folded.
    pub tick_left: usize,
    /// Work by reason, in nodes: `tick`, or the first reason of a cell.
    pub work: BTreeMap<&'static str, u64>,
    /// Epochs that each tick took which was closed, where anything was looked at.
    pub tick_epochs: Vec<u32>,
    /// Scoring: nodes and their time.
    pub scored: MeasuredWork,
    /// Explanations and their time.
    pub explained: MeasuredWork,
    /// Scores emitted by (task, cause).
    pub emitted: BTreeMap<(String, &'static str), u64>,
    /// Alerts by (task, type, severity).
    pub alerts: BTreeMap<(String, &'static str, &'static str), u64>,
    /// Accepted rows that took an event back.
    pub retracted: u64,
    /// Accepted rows that report a gap in the changes of an entity.
    pub gaps: u64,
    /// Requests to erase, or to lift an erasure, that took effect.
    pub erased: u64,
    /// Records that no source wants, by topic.
    pub filtered: BTreeMap<String, u64>,
    /// Records that concern no row, by topic.
    pub ignored: BTreeMap<String, u64>,
    /// Exposures by group: `told`, `held_out`, `digest`.
    pub exposures: BTreeMap<&'static str, u64>,
    /// Work lists written, by task.
    pub work_lists: BTreeMap<String, u64>,
    /// Explanations by (task, outcome): `made`, `listed` (for a work list), `carried` (an emitted
    /// score came with an older one), `over_budget` (wanted, not made).
    pub explanations: BTreeMap<(String, &'static str), u64>,
    /// Crossings that fired no alert, by (task, type, reason).
    pub suppressed: BTreeMap<(String, &'static str, &'static str), u64>,
    /// Records that people should see, one notice for each topic and code.
    pub notices: Vec<Notice>,
    /// Traces of the records' headers, each once, the first ones; empty where no spans are exported.
    pub linked_traces: Vec<TraceContext>,
    /// Seconds spent by stage; zeros where the caller gave no time.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// Scores, alerts and dead letters of an epoch, as queries see them.
#[derive(Debug, Default)]
pub struct EpochViews {
    /// Scores in the order of their records.
    pub scores: Vec<ShownScore>,
    /// Alerts of the epoch, in the order in which they fired.
    pub alerts: Vec<ShownAlert>,
    /// Work lists that changed.
    pub work_lists: Vec<Arc<WorkList>>,
    /// Dead letters in order; of many with one topic and reason, the last ones.
    pub dead_letters: Vec<KeptLetter>,
    /// The parts of what people said that changed.
    pub said: SaidView,
    /// Outcomes of the records; of a tick with very many, those of the last ones.
    pub traced: Vec<TracedRecord>,
}

/// A decided epoch. Queries and metrics take an `Epoch<Committed>`, so nothing that may yet be
/// lost is shown or counted (C1).
///
/// ```compile_fail
/// use leadpulse_engine::{Epoch, Sealed};
/// fn show(epoch: Epoch<Sealed>) {
///     epoch.into_views();
/// }
/// ```
#[derive(Debug)]
pub struct Epoch<Fate> {
    /// The content of the transaction.
    pub sealed: Arc<SealedEpoch>,
    /// The decisions, as the epochs topic holds them.
    pub record: EpochRecord,
    /// Counts for metrics.
    pub tally: EpochTally,
    views: EpochViews,
    fate: PhantomData<Fate>,
}

impl Epoch<Sealed> {
    /// An epoch whose bytes are final.
    pub(crate) fn sealed(
        sealed: Arc<SealedEpoch>,
        record: EpochRecord,
        views: EpochViews,
        tally: EpochTally,
    ) -> Self {
        Self {
            sealed,
            record,
            tally,
            views,
            fate: PhantomData,
        }
    }

    /// Lets `sink` begin to commit the epoch.
    ///
    /// # Errors
    /// The sink's. The epoch is gone then: whether it was committed is found out by a restore.
    pub fn begin(self, sink: &mut dyn Sink) -> Result<Epoch<UnderWay>, PortError> {
        sink.begin(&self.sealed)?;
        Ok(self.with_fate())
    }

    /// Commits the epoch.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn commit(self, sink: &mut dyn Sink) -> Result<Epoch<Committed>, PortError> {
        sink.commit(&self.sealed)?;
        Ok(self.with_fate())
    }
}

impl Epoch<UnderWay> {
    /// Waits up to `wait` for the commit. Gives the epoch with the time since it was committed, or
    /// back as it is.
    ///
    /// # Errors
    /// As [`Epoch::begin`].
    pub fn end(self, sink: &mut dyn Sink, wait: Duration) -> Result<Ending, PortError> {
        Ok(match sink.end(wait)? {
            Some(since) => Ending::Committed(self.with_fate(), since),
            None => Ending::UnderWay(self),
        })
    }
}

/// An epoch after a wait for its commit.
#[derive(Debug)]
pub enum Ending {
    /// Committed, so long ago.
    Committed(Epoch<Committed>, Duration),
    UnderWay(Epoch<UnderWay>),
}

impl<Fate> Epoch<Fate> {
    fn with_fate<Next>(self) -> Epoch<Next> {
        Epoch {
            sealed: self.sealed,
            record: self.record,
            tally: self.tally,
            views: self.views,
            fate: PhantomData,
        }
    }
}

impl Epoch<Committed> {
    /// The scores, alerts and dead letters to show.
    pub fn into_views(self) -> EpochViews {
        self.views
    }
}
