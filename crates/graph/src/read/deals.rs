//! Ends of deals of a cell: won, lost and open, by members and by events.

use leadpulse_schema::Role;

use crate::graph::Graph;
use crate::state::cell::Cell;
use crate::state::deals::DealVerdicts;
use crate::state::node::Node;

/// Ends of the deals of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DealOutcomes {
    /// Deals that were ever won, and not taken back.
    pub won: u32,
    /// Deals that were ever lost, and not taken back.
    pub lost: u32,
    /// Deals that have not ended.
    pub open: u32,
    /// The time of the newest deal won, milliseconds.
    pub last_won_ms: Option<i64>,
    /// The time of the newest deal lost, milliseconds.
    pub last_lost_ms: Option<i64>,
}

impl Graph {
    /// Whether a member has ended: its current value, or a step of it that stands, is a win or a
    /// loss. Members of tables without outcomes never end.
    pub fn has_ended(&self, node: &Node) -> bool {
        let Some(outcome) = &self.catalog().table_at(node.table).outcome else {
            return false;
        };
        let value = node.value(outcome.field).text();
        let by_value = value.and_then(|value| outcome.of(value)).is_some();
        by_value || node.ends(&self.shared().layout).next().is_some()
    }

    /// Counts the ends of a cell's deals.
    ///
    /// Won and lost are outcome events ever, but for ends that other steps of the same deal took
    /// back. Where no event table has outcomes, they are members
    /// whose current value is one, since it became so. Open are known members of tables with
    /// outcomes whose value is neither.
    pub fn outcomes(&self, cell: &Cell) -> DealOutcomes {
        let catalog = self.catalog();
        let by_events = catalog
            .tables
            .iter()
            .any(|t| t.role == Role::Event && t.outcome.is_some());
        let mut ended = DealVerdicts::default();
        let mut open = 0;
        for node in &cell.nodes {
            if let Some(verdicts) = node.verdicts(&self.shared().layout) {
                ended.merge(&verdicts);
            }
            let Some(outcome) = catalog
                .table_at(node.table)
                .outcome
                .as_ref()
                .filter(|_| !node.absorbed && node.is_known())
            else {
                continue;
            };
            let since_ms = Some(node.outcome_since_ms);
            match node
                .value(outcome.field)
                .text()
                .and_then(|value| outcome.of(value))
            {
                None => open += 1,
                Some(true) if !by_events => ended.merge(&DealVerdicts {
                    won: 1,
                    last_won_ms: since_ms,
                    ..DealVerdicts::default()
                }),
                Some(false) if !by_events => ended.merge(&DealVerdicts {
                    lost: 1,
                    last_lost_ms: since_ms,
                    ..DealVerdicts::default()
                }),
                Some(_) => {}
            }
        }
        let DealVerdicts {
            won,
            lost,
            last_won_ms,
            last_lost_ms,
        } = ended;
        DealOutcomes {
            won,
            lost,
            open,
            last_won_ms,
            last_lost_ms,
        }
    }
}
