//! The section of an epoch record about its work: the bound that it was decided with, and what it
//! left for the epochs after it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use leadpulse_graph::{CellRef, Reasons};
use leadpulse_policy::{AccountAlert, EntityDraft};

use super::EpochRecord;
use crate::ports::{PortCause, PortError};

/// Name of the section: JSON of a [`WorkNote`]. Epochs without a bound that left nothing have none.
pub const WORK_SECTION: &str = "work";

/// The most work of one epoch. Where a time is meant, the loop around the machine has turned it into
/// these numbers: so an epoch is decided without a clock, and decided again alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkBudget {
    /// Work of scoring, in nodes: see [`leadpulse_graph::Graph::work`].
    pub nodes: u64,
    /// Explanations for alerts, work lists and the closing tick.
    pub explanations: u64,
}

/// The part of a budget that scores for subscribers get in any case, whatever a tick needs.
const EAGER_SHARE: u64 = 4;

impl WorkBudget {
    /// No bound.
    pub const NONE: WorkBudget = WorkBudget {
        nodes: u64::MAX,
        explanations: u64::MAX,
    };

    /// So many nodes, and an explanation for each 16 of them.
    pub fn of_nodes(nodes: u64) -> Self {
        Self {
            nodes: nodes.max(1),
            explanations: (nodes / 16).max(1),
        }
    }

    /// The part that ticks may use.
    pub(crate) fn of_ticks(self) -> Self {
        match self.nodes {
            u64::MAX => self,
            nodes => Self {
                nodes: (nodes - nodes / EAGER_SHARE).max(1),
                ..self
            },
        }
    }

    /// The nodes for scores besides those of ticks, of which ticks used so many.
    pub(crate) fn eager_nodes(self, used: u64) -> u64 {
        let left = self.nodes.saturating_sub(used);
        left.max(self.nodes / EAGER_SHARE).max(1)
    }
}

/// The step that a half-closed tick is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TickStep {
    /// Due cells are scored and folded, in their order.
    Folding,
    /// Everything is folded and decided. Alerts are explained and written, in their order.
    Telling,
    /// Work lists are made, by task and person.
    Listing,
}

/// The progress of a half-closed tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TickProgress {
    /// The moment, milliseconds.
    pub tick: i64,
    /// The moment looked at before it, milliseconds.
    pub after: Option<i64>,
    /// The moment from which on moments without rows are looked at, where this is one of them,
    /// milliseconds.
    pub looking_from: Option<i64>,
    /// The step of it.
    pub step: TickStep,
    /// The last due cell that was folded; `None` before the first.
    pub cursor: Option<CellRef>,
    /// Drafts of the folded cells, until the last one is folded: which of them become alerts depends
    /// on all.
    pub fired: Vec<(EntityDraft, Reasons)>,
    /// Alerts to be written.
    pub alerts: VecDeque<(AccountAlert, Reasons)>,
    /// True if work lists are due.
    pub is_listing: bool,
    /// Task and person of the last list that was made.
    pub listed: Option<(Arc<str>, Arc<str>)>,
    /// Epochs that have worked at the tick.
    pub epochs: u32,
}

/// The work of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkNote {
    /// The bound; `None` for an epoch without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<WorkBudget>,
    /// The tick that is not closed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<TickProgress>,
    /// The moment of a closing tick that is not complete, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<i64>,
    /// True for an epoch of that closing tick.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_closing: bool,
}

impl WorkNote {
    /// The section's bytes; `None` for a note that says nothing.
    pub(crate) fn section(&self) -> Option<Vec<u8>> {
        if *self == Self::default() {
            return None;
        }
        Some(serde_json::to_vec(self).expect("a note of texts and numbers is JSON"))
    }
}

impl EpochRecord {
    /// The note about the epoch's work; empty where the record has none.
    ///
    /// # Errors
    /// A section that this program cannot read.
    pub fn work_note(&self) -> Result<WorkNote, PortError> {
        let Some(section) = self.sections.get(WORK_SECTION) else {
            return Ok(WorkNote::default());
        };
        serde_json::from_slice(section).map_err(|error| {
            PortError::fatal(
                PortCause::Unreadable,
                format!(
                    "the section \"{WORK_SECTION}\" of epoch {} cannot be read: {error}; a newer program may have written it",
                    self.epoch
                ),
            )
        })
    }
}
