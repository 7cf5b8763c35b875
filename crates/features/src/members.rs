//! The rows of the members of a cell: those that others see, the rest as one, then those of the rest
//! if they are asked about. Rows that were merged into another row of their table are left out.

use smallvec::SmallVec;

use leadpulse_graph::{CellRef, EntityId, Graph, Node};
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

use crate::batch::{MemberBlock, MemberLayout};
use crate::events::EventRoom;
use crate::plan::NodePlan;
use crate::relations::RelationBlock;

/// Most members of one table whose rows are attended to one by one: they are what the pools of a
/// model see. The others are folded into one row, the "rest".
// With the rest row these are the 16 rows of the prototype that the network was tried with. Other
// caps were not measured. Decision: docs/decisions/0044-a-slot-for-every-member-asked-about.md
pub(crate) const MEMBER_CAP: usize = 15;

/// The columns of the rows of one member table.
#[derive(Clone, Debug)]
pub(crate) struct MemberPlan {
    pub node: NodePlan,
    pub relations: RelationBlock,
}

/// The members of one table in one cell, in order.
type Members<'g> = SmallVec<[&'g Node; 16]>;

impl MemberPlan {
    pub fn table(&self) -> TableId {
        self.node.table
    }

    /// The block of some cells. With `is_asked` each member has a row of its own.
    pub fn encode(
        &self,
        layout: &MemberLayout,
        graph: &Graph,
        cells: &[CellRef],
        as_of: AsOf,
        is_asked: bool,
        room: &mut EventRoom,
    ) -> MemberBlock {
        let width = layout.columns.len();
        let members: Vec<Members<'_>> = cells.iter().map(|at| self.ordered(graph, *at)).collect();
        let rows = |members: &Members<'_>| {
            let (attended, rest) = split(members);
            let further = if is_asked { rest.len() } else { 0 };
            attended.len() + usize::from(!rest.is_empty()) + further
        };
        let slots = members.iter().map(rows).max().unwrap_or(0);
        let mut block = MemberBlock::with_room(cells.len(), slots, width);
        for (at, members) in cells.iter().zip(&members) {
            let (attended, rest) = split(members);
            let mut push = |entity: Option<EntityId>, nodes: &[&Node]| {
                let values = &mut block.values;
                let start = values.len();
                self.node.write(graph, nodes, as_of, room, values);
                self.relations.write(graph, *at, nodes, as_of, values);
                debug_assert_eq!(values.len() - start, width);
                block.mask.push(1.0);
                block.entities.push(entity);
            };
            attended
                .iter()
                .for_each(|node| push(Some(node.entity), &[*node]));
            if !rest.is_empty() {
                push(None, rest);
            }
            if is_asked {
                rest.iter()
                    .for_each(|node| push(Some(node.entity), &[*node]));
            }
            block.pad(slots - rows(members));
            let seen = attended.len() + usize::from(!rest.is_empty());
            block.attended.push(seen as u32);
            block.folded.push(rest.len() as u32);
        }
        block
    }

    /// The members of a cell: open ones before those that have ended, then by their newest event.
    fn ordered<'g>(&self, graph: &'g Graph, at: CellRef) -> Members<'g> {
        let directory = graph.directory();
        let mut nodes: SmallVec<[(bool, &Node); 16]> = graph
            .cell(at)
            .nodes
            .iter()
            .filter(|n| n.table == self.node.table && n.is_known() && !n.is_merged())
            .map(|node| (graph.has_ended(node), node))
            .collect();
        // Ties are ordered by key, not by place in the cell: places depend on the order of rows.
        nodes.sort_unstable_by(|(a_ended, a), (b_ended, b)| {
            a_ended
                .cmp(b_ended)
                .then_with(|| b.newest_event_ms().cmp(&a.newest_event_ms()))
                .then_with(|| directory.key(a.entity).cmp(directory.key(b.entity)))
        });
        nodes.into_iter().map(|(_, node)| node).collect()
    }
}

/// The members that are attended to one by one, and the rest.
fn split<'m, 'g>(members: &'m Members<'g>) -> (&'m [&'g Node], &'m [&'g Node]) {
    members.split_at(members.len().min(MEMBER_CAP))
}
