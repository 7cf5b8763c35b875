//! The ages of sources: columns of the root row that are the same for every cell of a moment.

use leadpulse_graph::{DAY_MS, Graph};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Role, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::UnplacedColumn;
use crate::groups;
use crate::spec::PlanSource;

/// One column per event table whose age is read.
#[derive(Clone, Debug)]
pub(crate) struct SourceBlock {
    tables: Vec<TableId>,
}

impl SourceBlock {
    /// The block, empty unless the graph keeps ages. Appends the columns.
    pub(crate) fn new(source: &PlanSource<'_>, columns: &mut Vec<UnplacedColumn>) -> Self {
        let events = source.catalog.tables.iter();
        let events = events.filter(|t| t.role == Role::Event && source.options.source_ages);
        let tables = events.map(|table| {
            columns.push(UnplacedColumn {
                name: format!("{}/source_age", table.name),
                group: groups::of_events(table),
                kind: GroupKind::Timing,
                absent: Absent::Zero,
            });
            table.id
        });
        Self {
            tables: tables.collect(),
        }
    }

    /// Appends the ages, `ln(1 + days)`.
    pub(crate) fn write(&self, graph: &Graph, as_of: AsOf, out: &mut Vec<f32>) {
        let ages = self.tables.iter().map(|table| {
            let age_ms = graph.source_times().age_ms(*table, as_of.ms());
            (age_ms as f64 / DAY_MS as f64).ln_1p() as f32
        });
        out.extend(ages);
    }
}
