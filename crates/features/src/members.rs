//! The rows of the members of a cell: those that others see, the rest as one, and those that are
//! asked about.

use leadpulse_graph::{CellRef, EntityId, Graph, Node};
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

use crate::batch::{MemberBlock, MemberLayout};
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

/// A row of a member block; without an entity it is the rest.
struct MemberRow {
    entity: Option<EntityId>,
    values: Vec<f32>,
}

/// The rows of one member table in one cell.
struct MemberRows {
    rows: Vec<MemberRow>,
    /// Number of rows that are attended to; they come first.
    attended: usize,
    /// Number of members in the rest row.
    folded: usize,
}

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
    ) -> MemberBlock {
        let width = layout.columns.len();
        let rows: Vec<MemberRows> = cells
            .iter()
            .map(|at| self.rows(graph, *at, width, as_of, is_asked))
            .collect();
        let slots = rows.iter().map(|cell| cell.rows.len()).max().unwrap_or(0);
        let mut block = MemberBlock {
            slots,
            width,
            ..MemberBlock::default()
        };
        for cell in rows {
            let padding = slots - cell.rows.len();
            for row in cell.rows {
                debug_assert_eq!(row.values.len(), width);
                block.values.extend(row.values);
                block.mask.push(1.0);
                block.entities.push(row.entity);
            }
            block.pad(padding);
            block.attended.push(cell.attended as u32);
            block.folded.push(cell.folded as u32);
        }
        block
    }

    /// The rows of a cell: the members that matter most, the rest, then the members of the rest if
    /// they are asked about. Rows that were merged into another row of their table are left out.
    fn rows(
        &self,
        graph: &Graph,
        at: CellRef,
        width: usize,
        as_of: AsOf,
        is_asked: bool,
    ) -> MemberRows {
        let nodes = self.ordered(graph, at);
        let (attended, rest) = nodes.split_at(nodes.len().min(MEMBER_CAP));
        let encode = |nodes: &[&Node]| {
            let mut values = Vec::with_capacity(width);
            self.node.write(graph, nodes, as_of, &mut values);
            self.relations.write(graph, at, nodes, as_of, &mut values);
            values
        };
        let own = |node: &&Node| MemberRow {
            entity: Some(node.entity),
            values: encode(&[*node]),
        };
        let mut rows: Vec<MemberRow> = attended.iter().map(own).collect();
        if !rest.is_empty() {
            rows.push(MemberRow {
                entity: None,
                values: encode(rest),
            });
        }
        let attended = rows.len();
        if is_asked {
            rows.extend(rest.iter().map(own));
        }
        MemberRows {
            rows,
            attended,
            folded: rest.len(),
        }
    }

    /// The members of a cell: open ones before those that have ended, then by their newest event.
    fn ordered<'g>(&self, graph: &'g Graph, at: CellRef) -> Vec<&'g Node> {
        let directory = graph.directory();
        let mut nodes: Vec<(bool, &Node)> = graph
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
