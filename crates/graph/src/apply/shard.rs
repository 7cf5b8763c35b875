//! A shard: cells that one thread touches at a time, and what an epoch's events do to them.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use leadpulse_schema::{Operation, RelationId, RowBatch};

use crate::graph::Tracking;
use crate::state::cell::{Cell, EntityId, Reasons, Shared};
use crate::state::events::Undo;

/// What an event row does to one cell.
#[derive(Debug)]
pub(crate) enum EventOp {
    /// It hangs on an entity there, or is taken back.
    Own {
        cell: u32,
        /// Where the person's traces are.
        node: u32,
        /// Where the state of its table is; mostly the same.
        state: u32,
        row: u32,
        fingerprint: u64,
        /// Of a retraction: its event was let in, and is not merely so old that nobody remembers.
        is_certain: bool,
        hubs: SmallVec<[EntityId; 2]>,
    },
    /// It names an entity there, or did.
    Mention {
        cell: u32,
        node: u32,
        row: u32,
        relation: RelationId,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub cells: Vec<Cell>,
    pub free: Vec<u32>,
    pub dirty: Vec<u32>,
    pub changed: Vec<u32>,
    pub timers: BTreeMap<i64, Vec<u32>>,
    /// Cells in which events ended deals since this was last emptied.
    pub decided: Vec<u32>,
    /// Retractions that could not restore everything.
    pub inexact: u64,
    /// Retractions that found nothing to undo.
    pub unmatched: u64,
}

impl Shard {
    pub fn mark(&mut self, index: u32, reason: Reasons) {
        let cell = &mut self.cells[index as usize];
        if cell.reasons.is_empty() {
            self.dirty.push(index);
        }
        cell.reasons = cell.reasons.with(reason);
    }
    /// Keeps what the cell has in the hubs before its first change since the board.
    pub fn freeze(&mut self, index: u32, shared: &Shared) {
        if shared.layout.catalog().hubs.is_empty() {
            return;
        }
        let cell = &mut self.cells[index as usize];
        if cell.frozen.is_none() {
            cell.frozen = Some(Box::new(cell.contribution(shared)));
            self.changed.push(index);
        }
    }
    /// A cell of an entity, without nodes.
    pub fn open(&mut self, anchor: EntityId) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.cells[index as usize] = Cell::new(anchor);
                index
            }
            None => {
                self.cells.push(Cell::new(anchor));
                self.cells.len() as u32 - 1
            }
        }
    }
    pub fn apply(
        &mut self,
        shared: &Shared,
        batch: &RowBatch,
        ops: &[EventOp],
        tracking: Tracking,
    ) {
        for op in ops {
            let (cell, changed) = match op {
                EventOp::Own {
                    cell,
                    node,
                    state,
                    row,
                    fingerprint,
                    is_certain,
                    hubs,
                } => {
                    let (row, index) = (batch.row(*row as usize), *cell as usize);
                    let (person, state) = (*node as usize, *state as usize);
                    self.freeze(*cell, shared);
                    let nodes = &mut self.cells[index].nodes;
                    let changed = if row.operation() == Operation::Retract {
                        let known_newest_ms =
                            nodes[person].newest_recent_ms(row.table(), row.key());
                        let mut undo = nodes[state].retract(
                            shared,
                            row,
                            *fingerprint,
                            *is_certain,
                            known_newest_ms,
                        );
                        match undo {
                            Undo::Unmatched => self.unmatched += 1,
                            _ => undo = undo.max(nodes[person].untrace(shared, row, hubs)),
                        }
                        self.inexact += u64::from(undo == Undo::Inexact);
                        undo != Undo::Unmatched
                    } else {
                        nodes[state].add(shared, row, *fingerprint);
                        nodes[person].trace(shared, row, hubs);
                        true
                    };
                    if changed && shared.layout.event(row.table()).verdict(row).is_some() {
                        self.decided.push(*cell);
                    }
                    (*cell, changed)
                }
                EventOp::Mention {
                    cell,
                    node,
                    row,
                    relation,
                } => {
                    let row = batch.row(*row as usize);
                    let node = &mut self.cells[*cell as usize].nodes[*node as usize];
                    let undo = if row.operation() == Operation::Retract {
                        node.unmention(&shared.bank, *relation, row.event_ms())
                    } else {
                        node.mention(&shared.bank, *relation, row.event_ms());
                        Undo::Exact
                    };
                    (*cell, undo != Undo::Unmatched)
                }
            };
            if changed && tracking == Tracking::On {
                self.mark(cell, Reasons::EVENT);
            }
        }
    }
}
