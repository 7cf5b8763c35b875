//! The person of the own company whom a record about an entity is for.

use leadpulse_graph::{Cell, EntityId, Graph, Node};
use leadpulse_schema::Role;

use crate::committee::is_present;
use crate::facts::{by_activity, open_members};

/// The key of the person of the own company whom a record about an entity is for: the entity's own
/// row if it is a member, then its open deals and then its people, the most recently active first,
/// then the root, then the territory of the root. Only active people count where the staff table
/// has rows. `None` where the catalog has no staff table, or none of these names anybody.
// Decision: docs/decisions/0041-whom-a-record-is-for.md
pub fn assignee(graph: &Graph, cell: &Cell, entity: EntityId) -> Option<String> {
    let catalog = graph.catalog();
    if catalog.tables.iter().all(|table| table.role != Role::Staff) {
        return None;
    }
    let is_member = |node: &&Node| catalog.table_at(node.table).role == Role::Member;
    let has_assignments = |node: &&Node| {
        let table = catalog.table_at(node.table);
        table.outcome.is_none() && is_present(node) && catalog.assignments(table).next().is_some()
    };
    let own = cell.nodes.iter().filter(|node| node.entity == entity);
    let deals = open_members(graph, cell);
    let people = cell.nodes.iter().filter(is_member).filter(has_assignments);
    let people = by_activity(graph, people);
    let root = graph.root_node(cell);
    own.filter(is_member)
        .chain(deals)
        .chain(people)
        .chain(root)
        .find_map(|node| graph.assignee(node))
        .or_else(|| graph.assignee_by_territory(root?))
        .map(str::to_owned)
}
