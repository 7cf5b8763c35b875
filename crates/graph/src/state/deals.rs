//! The steps of a deal, by which its end is known: a win that was taken back is none.
//!
//! A deal that is won, opened again and lost was never a customer's. Which of its ends counts is
//! the table's choice ([`Verdict`]). All steps are kept, so the end is a function of their set and
//! a retraction restores what was before. Steps of one moment take each other nothing.
//!
//! Decision: docs/decisions/0038-a-win-that-was-taken-back.md

use serde::{Deserialize, Serialize};

use leadpulse_schema::{TableId, Verdict};

use crate::state::events::Undo;
use crate::state::layout::StateLayout;

/// Ends of deals, by events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DealVerdicts {
    pub won: u32,
    pub lost: u32,
    pub last_won_ms: Option<i64>,
    pub last_lost_ms: Option<i64>,
}

impl DealVerdicts {
    fn add(&mut self, won: bool, time_ms: i64) {
        let (count, last_ms) = match won {
            true => (&mut self.won, &mut self.last_won_ms),
            false => (&mut self.lost, &mut self.last_lost_ms),
        };
        *count += 1;
        *last_ms = (*last_ms).max(Some(time_ms));
    }
    pub(crate) fn merge(&mut self, other: &DealVerdicts) {
        self.won += other.won;
        self.lost += other.lost;
        self.last_won_ms = self.last_won_ms.max(other.last_won_ms);
        self.last_lost_ms = self.last_lost_ms.max(other.last_lost_ms);
    }
}

/// A row of an event table with outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DealStep {
    pub table: TableId,
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Fingerprint of the event.
    pub fingerprint: u64,
    /// The slot of the value; `None` for one without a slot.
    pub slot: Option<u16>,
    /// Whether the event is in the sums of its table.
    pub is_engagement: bool,
    /// `true` for won, `false` for lost, `None` for a deal that goes on.
    pub verdict: Option<bool>,
}

/// The steps of one entity, ascending by table and time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DealSteps {
    steps: Vec<DealStep>,
}

impl DealSteps {
    pub(crate) fn add(&mut self, step: DealStep) {
        if let Err(at) = self.steps.binary_search(&step) {
            self.steps.insert(at, step);
        }
    }
    pub(crate) fn retract(&mut self, step: DealStep) -> Undo {
        let Ok(at) = self.steps.binary_search(&step) else {
            return Undo::Unmatched;
        };
        self.steps.remove(at);
        Undo::Exact
    }
    pub(crate) fn merge(&mut self, other: DealSteps) {
        other.steps.into_iter().for_each(|step| self.add(step));
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
    pub(crate) fn heap_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<DealStep>()
    }
    /// The ends that count. Where the entity is no deal but the root itself, steps of different
    /// deals meet, and each end counts.
    pub(crate) fn verdicts(&self, layout: &StateLayout, is_deal: bool) -> DealVerdicts {
        let mut found = DealVerdicts::default();
        for step in self.ends(layout, is_deal) {
            if let Some(won) = step.verdict {
                found.add(won, step.time_ms);
            }
        }
        found
    }
    /// Steps that end a deal, without those that other steps took back.
    pub(crate) fn ends(
        &self,
        layout: &StateLayout,
        is_deal: bool,
    ) -> impl Iterator<Item = &DealStep> {
        let ends = self.steps.iter().filter(|step| step.verdict.is_some());
        ends.filter(move |step| self.stands(layout, is_deal, step))
    }
    /// Whether no other step of the deal takes a step back.
    fn stands(&self, layout: &StateLayout, is_deal: bool, step: &DealStep) -> bool {
        let rule = layout.event(step.table).verdict_rule();
        let mut others = self.steps.iter().filter(|other| other.table == step.table);
        !is_deal
            || !others.any(|other| match rule {
                Verdict::Last => other.time_ms > step.time_ms && other.verdict != step.verdict,
                Verdict::First => other.time_ms < step.time_ms && other.verdict.is_some(),
                Verdict::Each => false,
            })
    }
}
