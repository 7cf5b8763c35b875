//! The outcomes of a cell: won and lost deals, and open ones.

use leadpulse_graph::DealOutcomes;
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, Role, Table};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, log_count, recency};
use crate::groups;

/// The outcome columns of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeBlock;

/// Event tables that end deals, then member tables that are won or lost.
pub(crate) fn tables(catalog: &Catalog) -> impl Iterator<Item = &Table> {
    let with = |role: Role| {
        catalog
            .tables
            .iter()
            .filter(move |t| t.role == role && t.outcome.is_some())
    };
    with(Role::Event).chain(with(Role::Member))
}

/// The group of a cell's outcomes: that of the first table that has them.
pub(crate) fn group(catalog: &Catalog) -> Option<String> {
    tables(catalog).find_map(|t| Some(groups::of_outcome(t, t.outcome.as_ref()?)))
}

impl OutcomeBlock {
    /// The block of a catalog with outcomes; `None` without. Appends the columns.
    pub(crate) fn new(catalog: &Catalog, columns: &mut Vec<UnplacedColumn>) -> Option<Self> {
        let group = group(catalog)?;
        for what in ["won", "lost", "open", "won_recency", "lost_recency"] {
            columns.push(UnplacedColumn {
                name: format!("outcomes/{what}"),
                group: group.clone(),
                kind: GroupKind::Timing,
                absent: Absent::Zero,
            });
        }
        Some(Self)
    }

    /// Appends the block's numbers.
    pub(crate) fn write(self, outcomes: &DealOutcomes, as_of: AsOf, out: &mut Vec<f32>) {
        out.extend([outcomes.won, outcomes.lost, outcomes.open].map(|n| log_count(n as usize)));
        out.extend([outcomes.last_won_ms, outcomes.last_lost_ms].map(|t| recency(t, as_of)));
    }
}
