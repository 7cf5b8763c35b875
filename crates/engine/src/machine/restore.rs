//! A machine's state without scoring: rows along the script make the graph, compacted outputs give
//! what consumers have.

use std::time::Duration;

use leadpulse_features::Facts;
use leadpulse_graph::{CellRef, EntityId, Reasons};
use leadpulse_policy::CapState;
use leadpulse_records::{
    Alert, Explained, PolicyStateRecord, Score, ShownAlert, ShownScore, facts_json, name_of,
};
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;
use rustc_hash::FxHashMap;

use super::decide::{Decided, margin};
use super::half::Pass;
use super::state::{Closing, Tracked, expect};
use super::ticks::{CutTicks, Folding};
use super::{AsOfRule, Cut, Machine, Readings};
use crate::decode::Decoded;
use crate::epoch::{
    Epoch, EpochRecord, EpochTally, HOLDINGS_SECTION, PartitionLayout, Sealed, WorkBudget,
};
use crate::ports::{InputPartition, NextOffset, RecordBatch};

/// Refusal of a compacted record: its task is not configured, or no row names its entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmatched;

impl Machine {
    /// Follows a script from its first epoch, under its layout: rows are applied, nothing is
    /// scored until [`Self::restart`].
    pub fn begin_replay(
        &mut self,
        layout: &PartitionLayout,
        partitions: Vec<InputPartition>,
        starts: Vec<NextOffset>,
    ) {
        self.state.graph.begin_replay();
        self.begin_script(layout, partitions, starts);
    }

    /// Follows a script from its first epoch, under its layout, scoring as it was scored: see
    /// [`Self::repeat`].
    pub fn begin_script(
        &mut self,
        layout: &PartitionLayout,
        partitions: Vec<InputPartition>,
        starts: Vec<NextOffset>,
    ) {
        self.state.graph.caught_up();
        expect(&mut self.state.graph, &partitions);
        self.state.partitions = partitions;
        self.state.positions = starts;
        self.state.layout = layout.clone();
        self.state.layout_is_new = false;
    }

    /// Applies rows only from here on.
    pub fn stop_scoring(&mut self) {
        self.state.revisits.clear();
        self.state.caps = CapState::default();
        self.state.lists.clear();
        self.state.graph.begin_replay();
    }

    /// The layout of the epochs that follow, while a script is replayed; `partitions` start with
    /// those of the layout before.
    pub fn follow_layout(
        &mut self,
        layout: &PartitionLayout,
        partitions: Vec<InputPartition>,
        starts: &[NextOffset],
    ) {
        self.state
            .positions
            .extend_from_slice(&starts[self.state.positions.len().min(starts.len())..]);
        self.state.partitions = partitions;
        self.state.layout = layout.clone();
        self.state.layout_is_new = false;
    }

    /// Applies the rows of a committed epoch, at its recorded moment and by its recorded
    /// decisions. Returns whether the rows came out as
    /// recorded; where they do not, the inputs or the schemas are not what they were.
    pub fn replay(&mut self, decoded: Decoded, record: &EpochRecord) -> bool {
        self.state.number = record.epoch as u64;
        let mut tally = EpochTally::default();
        self.note_version(record);
        // The loop around the machine refuses a note that cannot be read.
        let note = record.work_note().unwrap_or_default();
        let ticks = CutTicks::recorded(record, &note);
        let bound_ms = record.clock.bound_at;
        let mut pass = Pass {
            folding: Folding::Off,
            left: WorkBudget::NONE,
            decided: Decided::default(),
            tally: &mut tally,
            elapsed: &|| Duration::ZERO,
        };
        let (admitted, _) = self.apply(decoded, bound_ms, &ticks, &mut pass);
        self.follow_tick(note.tick);
        self.state.closing = note.closing.map(|at_ms| Closing {
            at_ms,
            is_marked: false,
        });
        self.advance(
            AsOfRule::Fixed(AsOf::from_ms(record.as_of)),
            Readings {
                live_ms: record.clock.live_at,
                bound_ms: None,
            },
            &ticks,
        );
        // Cells without nodes become free here, in the epoch in which they did at first: places in
        // the graph are the same again.
        self.state.graph.take_dirty(0);
        self.state.positions = record.positions();
        let found = admitted.outcomes().in_format(record.version);
        found == record.outcomes().in_format(record.version)
    }

    /// Makes every cell due where another deployed version took over: its levels are placed anew.
    fn note_version(&mut self, record: &EpochRecord) {
        if record.epoch > 1 && self.state.deployed != record.deployed {
            self.place_anew();
        }
        record.deployed.clone_into(&mut self.state.deployed);
    }

    /// Makes every cell due, and lets its levels be placed.
    fn place_anew(&mut self) {
        self.state.graph.mark_all_due(Reasons::BUNDLE);
        if let Some(half) = &mut self.state.half {
            half.place_anew();
        }
    }

    /// Decides a committed epoch again: the same rows, moment and owner give the same bytes on one
    /// type of processor.
    pub fn repeat(
        &mut self,
        records: &RecordBatch,
        decoded: Decoded,
        record: &EpochRecord,
    ) -> Epoch<Sealed> {
        record.owner.clone_into(&mut self.state.owner);
        if let Some(holdings) = record.sections.get(HOLDINGS_SECTION) {
            self.state.holdings = serde_json::from_slice(holdings).unwrap_or_default();
        }
        let note = record.work_note().unwrap_or_default();
        let closing_ms = note.closing.filter(|_| note.is_closing);
        let cut = Cut {
            positions: record.positions(),
            read: record
                .partitions
                .iter()
                .map(|interval| interval.read)
                .collect(),
            moment: AsOfRule::Fixed(AsOf::from_ms(closing_ms.unwrap_or(record.as_of))),
            clock: Readings {
                live_ms: record.clock.live_at,
                bound_ms: record.clock.bound_at,
            },
            closing: record.closing || note.is_closing,
            skipped: record.skipped.clone(),
            ticks: CutTicks::recorded(record, &note),
            work: note.budget.unwrap_or(WorkBudget::NONE),
        };
        self.step(records, decoded, cut)
    }

    /// Takes back the policy memory of one entity.
    ///
    /// # Errors
    /// [`Unmatched`] if there is no such task or entity, or the state is of a form that this
    /// program does not know.
    pub fn restore_policy(&mut self, record: &PolicyStateRecord) -> Result<(), Unmatched> {
        if record.is_of_caps() {
            self.state.caps = serde_json::from_str(&record.state).map_err(|_| Unmatched)?;
            return Ok(());
        }
        let (task, entity, _) = self.named(&record.task, &record.entity_type, &record.entity_id)?;
        self.is_of_task(task, record.epoch)?;
        let state = serde_json::from_str(&record.state).map_err(|_| Unmatched)?;
        let alerts = record
            .alerts
            .as_deref()
            .map(serde_json::from_str)
            .transpose();
        let alerts = alerts.map_err(|_| Unmatched)?;
        let key = (task, entity);
        let tracked = self.state.tracked.entry_or(key, Tracked::default);
        self.state.standings[task].replace(tracked.ranked_by(), None);
        tracked.policy = state;
        tracked.alerts = alerts.unwrap_or_default();
        tracked.listed = record.listed;
        self.state.standings[task].replace(None, tracked.ranked_by());
        self.restore_older((task, entity), record);
        Ok(())
    }

    /// Takes back the explanation in an entity's newest score record. Returns the score's view.
    ///
    /// # Errors
    /// As [`Self::restore_policy`].
    pub fn restore_score(&mut self, record: &Score) -> Result<ShownScore, Unmatched> {
        let (task, entity, table) =
            self.named(&record.task, &record.entity_type, &record.entity_id)?;
        self.is_of_task(task, record.epoch)?;
        // Contributions of another bundle explain nothing of this one's scores.
        if record.bundle_id.as_deref() == Some(self.given.scorer.bundle_id()) && record.is_scored()
        {
            let explained = Explained::restored(record, &self.given.scorer.plan().layout().groups);
            let key = (task, entity);
            match explained {
                Some(explained) => self.state.explained.insert(key, Box::new(explained)),
                None => self.state.explained.remove(&key),
            };
        } else {
            // A follower had the record before this one.
            self.state.explained.remove(&(task, entity));
        }
        Ok(self.shown(record, table))
    }

    /// A score record with what the graph says of its entity.
    pub(super) fn shown(&self, record: &Score, table: TableId) -> ShownScore {
        let graph = &self.state.graph;
        let found = graph.find(table, &record.entity_id).map(|(at, node)| {
            let as_of = AsOf::from_ms(record.as_of);
            (Facts::of(graph, graph.cell(at), as_of), node)
        });
        let name = found
            .as_ref()
            .and_then(|(facts, node)| name_of(&self.given.catalog, node, facts));
        ShownScore {
            record: record.clone(),
            name,
            facts: found.map_or(serde_json::Value::Null, |(facts, _)| facts_json(&facts)),
            history: Vec::new(),
        }
    }

    /// The view of an alert that an earlier process committed, without persons who were erased
    /// since. `None` for an alert about one.
    pub fn restore_alert(&self, record: &Alert) -> Option<ShownAlert> {
        let is_gone = |table: Option<&str>, key: &str| self.is_erased(table, key);
        match self.state.erasures.is_empty() {
            true => Some(self.shown_alert(record)),
            false => Some(self.shown_alert(&record.without(&is_gone)?)),
        }
    }

    fn shown_alert(&self, record: &Alert) -> ShownAlert {
        let table = self
            .given
            .catalog
            .table(&record.entity_type)
            .map(|table| table.id);
        let found = table.and_then(|table| self.state.graph.find(table, &record.entity_id));
        let name = found.and_then(|(at, node)| {
            let facts = Facts::of(
                &self.state.graph,
                self.state.graph.cell(at),
                AsOf::from_ms(record.as_of),
            );
            name_of(&self.given.catalog, node, &facts)
        });
        ShownAlert {
            record: record.clone(),
            name,
        }
    }

    /// Ends a replay: every cell waits to be scored again, the one nearest to a threshold first. A
    /// machine that scored all along and
    /// restarts too goes on with the same epochs, byte for byte on one type of processor.
    /// `swapped`: the standing scores were made by another
    /// bundle, so ranks stay those of them until every entity has a new one.
    pub fn restart(&mut self, swapped: bool) {
        if self.state.layout.layout == 0 {
            // Records of format 1 name partitions themselves; those that follow refer to a layout.
            self.state.layout = PartitionLayout::of(1, &self.state.partitions);
            self.state.layout_is_new = true;
        }
        if self.state.deployed != self.given.digest() {
            self.place_anew();
            self.state.deployed = self.given.digest().to_owned();
        }
        self.state.is_restarted = true;
        if swapped {
            self.state.begin_rescoring();
        }
        if let Some(rescoring) = &mut self.state.rescoring {
            rescoring.count();
        }
        let is_rescored = self.state.rescoring.is_some();
        self.restore_revisits_of_tick();
        if let Some(closing) = &mut self.state.closing {
            closing.is_marked = false;
        }
        let state = &mut self.state;
        let mut margins: FxHashMap<CellRef, f32> = FxHashMap::default();
        state.list_revisits(&self.given);
        state.unexplained.clear();
        state.listed_board = None;
        for ((task, entity), tracked) in state.tracked.iter() {
            let policy = &self.given.tasks[*task].policy;
            let place = state.graph.directory().place(*entity);
            if let (Some(logit), Some(place)) = (tracked.ranked_by(), place) {
                let nearest = margins.entry(place.cell).or_insert(f32::MAX);
                *nearest = nearest.min(margin(policy, logit));
            }
        }
        self.state.graph.restart(
            |at, _| margins.get(&at).copied().unwrap_or(f32::MAX),
            swapped || is_rescored,
        );
    }

    pub(super) fn named(
        &self,
        task: &str,
        entity_type: &str,
        entity_id: &str,
    ) -> Result<(usize, EntityId, TableId), Unmatched> {
        let table = self.given.catalog.table(entity_type).ok_or(Unmatched)?.id;
        let task = self.given.task_index(task, table).ok_or(Unmatched)?;
        let directory = self.state.graph.directory();
        let entity = directory
            .find(directory.of_table(table), entity_id)
            .ok_or(Unmatched)?;
        Ok((task, entity, table))
    }
}
