//! Populations: an entity as filters see it at a moment, and reasons for which a task skips it.

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Absence, FieldId, Population, TableId, Value, View};

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::cell::Cell;
use crate::state::node::Node;

/// An entity at a moment, for population filters.
#[derive(Clone, Copy, Debug)]
pub struct EntityView<'a> {
    pub cell: &'a Cell,
    pub node: &'a Node,
    /// Whether the entity exists, as [`Graph::exists`] says.
    pub exists: bool,
    /// The moment of the filter.
    pub as_of: AsOf,
    /// The filter, with windows bound to the graph's day counters.
    pub population: &'a Population,
}

impl View for EntityView<'_> {
    fn column(&self, field: FieldId) -> Value<'_> {
        self.node.value(field)
    }
    fn root_column(&self, table: TableId, field: FieldId) -> Value<'_> {
        // The anchor of a cell without a root is one of its members, or a domain.
        let root = self.cell.anchor_node().filter(|node| node.table == table);
        root.map_or(Value::Null, |node| node.value(field))
    }
    fn window(&self, index: usize) -> Value<'_> {
        let window = self.population.windows[index];
        let read = |node: &Node| {
            node.counter(window.counter).map_or(0.0, |d| {
                d.window(self.as_of.ms(), window.start_days, window.end_days)
            })
        };
        // Rows of a cell count for its root; a member has its own count, which its survivor keeps.
        let value = if self.node.entity == self.cell.anchor {
            self.cell.nodes.iter().map(read).sum()
        } else if self.node.absorbed {
            self.cell
                .nodes
                .iter()
                .find(|node| node.entity == self.node.survivor)
                .map_or(0.0, read)
        } else {
            read(self.node)
        };
        Value::Double(value)
    }
}

impl EntityView<'_> {
    /// Whether the entity is in the population: it exists, is no outsider, not merged into another of its
    /// table, and the filter holds. An entity that became one of another table (a converted lead) is judged
    /// by the filter like any other.
    pub fn is_eligible(&self) -> bool {
        self.exists
            && !self.node.is_merged()
            && !self.cell.is_outside()
            && self
                .population
                .condition
                .as_ref()
                .is_none_or(|c| c.holds(self))
    }
}

impl Graph {
    /// Whether an entity exists: a row describes it, or it is a root that other rows have named and no
    /// deletion ended. Such a root has no fields. A member needs a row, because nothing else says
    /// whose it is.
    // Decision: docs/decisions/0033-who-is-who-on-a-real-crm.md
    pub fn exists(&self, node: &Node) -> bool {
        let is_only_named = || {
            node.table == self.catalog().root().id
                && node.since_ms.is_none()
                && !self.newest.is_deleted(node.entity)
        };
        node.is_known() || is_only_named()
    }

    /// An entity as a population filter sees it at a moment.
    pub fn view<'a>(
        &self,
        cell: &'a Cell,
        node: &'a Node,
        as_of: AsOf,
        population: &'a Population,
    ) -> EntityView<'a> {
        EntityView {
            cell,
            node,
            exists: self.exists(node),
            as_of,
            population,
        }
    }

    /// The reason for which a task about a population skips an entity at a moment; `None` for an
    /// entity that it scores.
    pub fn absence(
        &self,
        cell: &Cell,
        node: &Node,
        as_of: AsOf,
        population: &Population,
    ) -> Option<Absence> {
        if node.is_merged() {
            return Some(Absence::Merged);
        }
        if !self.exists(node) {
            return Some(Absence::Deleted);
        }
        let is_asked = self.view(cell, node, as_of, population).is_eligible();
        (!is_asked).then_some(Absence::Outside)
    }

    /// The absence of an entity in words for people.
    pub fn absence_words(&self, entity: EntityId, why: Absence) -> String {
        match why {
            Absence::Outside if self.is_outside(entity) => {
                "left out: its address is of a domain in graph.own_domains or \
                 graph.competitor_domains"
                    .into()
            }
            Absence::Outside => "outside the task's population".into(),
            Absence::Deleted => "deleted".into(),
            Absence::Merged => format!(
                "merged into {}",
                self.entities.directory.key(self.survivor(entity))
            ),
        }
    }
}
