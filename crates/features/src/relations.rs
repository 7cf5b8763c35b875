//! Relations besides ownership: the entities that an entity refers to or came from, those that
//! refer to it, and whether their cells have won.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use leadpulse_graph::{CellRef, Edge, EntityId, Graph, Node};
use leadpulse_schema::units::{AsOf, DAY_MS_F64};
use leadpulse_schema::{Catalog, RelationId, RelationKind, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, days, log_count, recency};
use crate::groups;

/// The entities of other cells that have won. A list may name many entities of one cell, so each
/// cell is looked at once.
pub(crate) struct CustomersElsewhere<'g> {
    graph: &'g Graph,
    own: CellRef,
    known: FxHashMap<CellRef, bool>,
}

impl<'g> CustomersElsewhere<'g> {
    /// The customers outside of the cell `own`.
    pub(crate) fn new(graph: &'g Graph, own: CellRef) -> Self {
        Self {
            graph,
            own,
            known: FxHashMap::default(),
        }
    }

    /// True for an entity of another cell that has won.
    pub(crate) fn contains(&mut self, entity: EntityId) -> bool {
        let Some(place) = self.graph.directory().place(self.graph.survivor(entity)) else {
            return false;
        };
        let has_won = || self.graph.outcomes(self.graph.cell(place.cell)).won > 0;
        place.cell != self.own && *self.known.entry(place.cell).or_insert_with(has_won)
    }
}

/// The entities that refer to an entity by the relations that are asked for, ascending. The rows of
/// one person count once, those of outsiders do not.
pub(crate) fn referring(
    graph: &Graph,
    entity: EntityId,
    is_asked: impl Fn(RelationId) -> bool,
) -> SmallVec<[(RelationId, EntityId); 8]> {
    let references = graph.incoming(entity).iter();
    let mut from: SmallVec<_> = references
        .filter(|(relation, _)| is_asked(*relation))
        .map(|(relation, from)| (*relation, graph.survivor(*from)))
        .filter(|(_, from)| !graph.is_outside(*from))
        .collect();
    from.sort_unstable();
    from.dedup();
    from
}

/// Number of entities that refer to an entity by a relation.
pub(crate) fn referrers(graph: &Graph, entity: EntityId, relation: RelationId) -> usize {
    referring(graph, entity, |one| one == relation).len()
}

/// The columns that one relation adds.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Edges that start here.
    Outgoing(RelationId),
    /// Edges that lead to entities of a table.
    Incoming(RelationId, TableId),
    /// Events that name entities of a table.
    Mentions(RelationId, TableId),
}

/// The relation columns of one entity, or of a cell with all of its entities.
#[derive(Clone, Debug)]
pub(crate) struct RelationBlock {
    parts: Vec<Part>,
    /// True if the catalog has outcomes, so that a cell can have won.
    has_outcomes: bool,
}

impl RelationBlock {
    /// The block of entities of one member table.
    pub(crate) fn of_member(
        catalog: &Catalog,
        table: TableId,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        Self::new(
            catalog,
            |other| other == table,
            |other| other == table,
            &catalog.table_at(table).name,
            columns,
        )
    }

    /// The block of a cell: edges and mentions of all of its entities, and edges that lead to its
    /// root.
    pub(crate) fn of_cell(catalog: &Catalog, columns: &mut Vec<UnplacedColumn>) -> Self {
        let root = catalog.root().id;
        Self::new(catalog, |_| true, |other| other == root, "cell", columns)
    }

    fn new(
        catalog: &Catalog,
        is_covered: impl Fn(TableId) -> bool,
        is_target: impl Fn(TableId) -> bool,
        scope: &str,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        let has_outcomes = catalog.tables.iter().any(|t| t.outcome.is_some());
        let mut parts = Vec::new();
        for relation in &catalog.relations {
            let group = groups::of_relation(relation);
            let mut name = |what: &str| {
                columns.push(UnplacedColumn {
                    name: format!("{scope}/{}/{what}", relation.name),
                    group: group.clone(),
                    kind: GroupKind::Relations,
                    absent: Absent::Zero,
                });
            };
            if matches!(relation.kind, RelationKind::Mention(_)) {
                if is_covered(relation.target) {
                    ["weight", "count", "recency"]
                        .iter()
                        .for_each(|what| name(what));
                    parts.push(Part::Mentions(relation.id, relation.target));
                }
                continue;
            }
            if is_covered(relation.from) {
                name("edges");
                if has_outcomes {
                    name("customers");
                }
                name("newest");
                parts.push(Part::Outgoing(relation.id));
            }
            if is_target(relation.target) {
                name("incoming");
                parts.push(Part::Incoming(relation.id, relation.target));
            }
        }
        Self {
            parts,
            has_outcomes,
        }
    }

    /// Appends the block's numbers over some entities of the cell `at`.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        at: CellRef,
        nodes: &[&Node],
        as_of: AsOf,
        out: &mut Vec<f32>,
    ) {
        if self.parts.is_empty() {
            return;
        }
        let bank = &graph.shared().bank;
        let longest_days = bank.half_lives_ms()[bank.len() - 1] / DAY_MS_F64;
        let edges: SmallVec<[Edge; 8]> = nodes.iter().flat_map(|n| graph.edges(n)).collect();
        let mut customers = CustomersElsewhere::new(graph, at);
        for part in &self.parts {
            match part {
                Part::Outgoing(relation) => {
                    let edges = || edges.iter().filter(|e| e.relation == *relation);
                    out.push(log_count(edges().count()));
                    if self.has_outcomes {
                        out.push(log_count(
                            edges().filter(|e| customers.contains(e.to)).count(),
                        ));
                    }
                    let newest = edges().map(|e| e.since_ms).max();
                    out.push(newest.map_or(0.0, |t| {
                        (-days(t, as_of).max(0.0) / longest_days).exp2() as f32
                    }));
                }
                Part::Incoming(relation, target) => {
                    let named = nodes.iter().filter(|n| n.table == *target && !n.absorbed);
                    out.push(log_count(
                        named.map(|n| referrers(graph, n.entity, *relation)).sum(),
                    ));
                }
                Part::Mentions(relation, target) => {
                    let mentions = || {
                        let of_table = nodes.iter().filter(|n| n.table == *target);
                        of_table
                            .flat_map(|n| graph.mentions(n))
                            .filter(|m| m.relation == *relation)
                    };
                    out.push(
                        mentions()
                            .map(|m| m.weight_at(bank, as_of.ms()))
                            .sum::<f64>()
                            .max(0.0)
                            .ln_1p() as f32,
                    );
                    out.push(
                        mentions()
                            .map(|m| f64::from(m.tally.count()))
                            .sum::<f64>()
                            .ln_1p() as f32,
                    );
                    out.push(recency(
                        mentions().map(|m| m.tally.newest_ms()).max(),
                        as_of,
                    ));
                }
            }
        }
    }
}
