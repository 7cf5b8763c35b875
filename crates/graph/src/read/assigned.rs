//! The people of the own company whom rows are assigned to.

use leadpulse_schema::TableId;

use crate::graph::Graph;
use crate::state::node::Node;

impl Graph {
    /// The key of the person whom a row is assigned to: the first of its references to staff that
    /// names an active person. A staff table without any row is taken at the references' word.
    pub fn assignee<'n>(&self, node: &'n Node) -> Option<&'n str> {
        let table = self.catalog().table_at(node.table);
        let mut named = self.catalog().assignments(table);
        named.find_map(|(field, staff): (_, TableId)| {
            let key = node.value(field.id).text().filter(|key| !key.is_empty())?;
            self.staff.may_be_assigned(staff, key).then_some(key)
        })
    }

    /// The key of the active person who covers the territory of a root; the smallest of several.
    pub fn assignee_by_territory(&self, root: &Node) -> Option<&str> {
        let field = self.catalog().table_at(root.table).territory?;
        let territory = root.value(field).text()?;
        self.staff.covering(territory).map(|key| &**key)
    }
}
