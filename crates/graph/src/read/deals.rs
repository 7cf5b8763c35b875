//! Ends of deals.

use leadpulse_schema::Role;

use crate::graph::Graph;
use crate::state::cell::Cell;
use crate::state::node::DealVerdicts;

/// How the deals of a cell ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DealOutcomes {
    /// Won, ever.
    pub won: u32,
    /// Lost, ever.
    pub lost: u32,
    /// Not ended.
    pub open: u32,
    /// The newest one won, milliseconds.
    pub last_won_ms: Option<i64>,
    /// The newest one lost, milliseconds.
    pub last_lost_ms: Option<i64>,
}

impl Graph {
    /// How a cell's deals ended. Won and lost are outcome events ever, or, where no event table has outcomes, members whose current
    /// value is one (since it became so); open are known members of tables with outcomes whose value is neither.
    pub fn outcomes(&self, cell: &Cell) -> DealOutcomes {
        let catalog = self.catalog();
        let by_events = catalog
            .tables
            .iter()
            .any(|t| t.role == Role::Event && t.outcome.is_some());
        let mut ended = DealVerdicts::default();
        let mut open = 0;
        for node in &cell.nodes {
            if let Some(verdicts) = node.verdicts() {
                ended.merge(verdicts);
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
