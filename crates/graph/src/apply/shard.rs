//! Events of a batch on one shard: the part of a batch that shards do in parallel.

use smallvec::SmallVec;

use leadpulse_schema::{Operation, Row, RowBatch};

use crate::ids::EntityId;
use crate::state::cell::StateRules;
use crate::state::events::Undo;
use crate::state::shard::Shard;
use crate::state::tally::MentionedBy;

/// The effect of an event row on one cell of the shard.
#[derive(Debug)]
pub(crate) enum EventOp {
    /// The event hangs on an entity of the cell, or is taken back from it.
    Own(OwnedEvent),
    /// The event names an entity of the cell, or did so before it was taken back.
    Mention(MentioningEvent),
}

/// An event row with the place of its owner.
#[derive(Debug)]
pub(crate) struct OwnedEvent {
    pub cell: u32,
    /// The node with the owner's traces.
    pub node: u32,
    /// The node with the state of the event's table: mostly the same.
    pub state: u32,
    pub row: u32,
    pub fingerprint: u64,
    /// False for a retraction so old that nothing remembers whether its event was admitted.
    pub is_certain: bool,
    pub hubs: SmallVec<[EntityId; 2]>,
    /// The entities that the event names beside the owner, where outsiders are left out.
    pub mentioned: SmallVec<[EntityId; 1]>,
}

/// An event row with the place of an entity that it names beside its owner.
#[derive(Debug)]
pub(crate) struct MentioningEvent {
    pub cell: u32,
    pub node: u32,
    pub row: u32,
    pub by: MentionedBy,
}

/// Cells of one shard that operations touched, by index.
#[derive(Debug, Default)]
pub(crate) struct ShardEffects {
    /// Cells with a changed node, with repeats.
    pub changed: Vec<u32>,
    /// Cells in which events ended deals, with repeats.
    pub decided: Vec<u32>,
}

/// Applies operations in their order.
pub(crate) fn apply_ops(
    shard: &mut Shard,
    shared: &StateRules,
    batch: &RowBatch,
    ops: &[EventOp],
) -> ShardEffects {
    let mut effects = ShardEffects::default();
    for op in ops {
        let (cell, is_changed) = match op {
            EventOp::Own(event) => {
                let row = batch.row(event.row as usize);
                let has_outcome = shared.layout.event(row.table()).has_outcome();
                let verdicts = |shard: &Shard| {
                    let node = &shard.cell(event.cell).nodes[event.node as usize];
                    has_outcome.then(|| node.verdicts(&shared.layout))
                };
                let before = verdicts(shard);
                let is_changed = own(shard, shared, batch, event);
                if verdicts(shard) != before {
                    effects.decided.push(event.cell);
                }
                (event.cell, is_changed)
            }
            EventOp::Mention(event) => (event.cell, mention(shard, shared, batch, event)),
        };
        if is_changed && effects.changed.last() != Some(&cell) {
            effects.changed.push(cell);
        }
    }
    effects
}

/// Adds an event to its owner, or takes it back. Returns whether that changed anything.
fn own(shard: &mut Shard, shared: &StateRules, batch: &RowBatch, event: &OwnedEvent) -> bool {
    let row = batch.row(event.row as usize);
    let (cell, person, state) = (event.cell, event.node, event.state);
    shard.freeze(cell, shared);
    if !shared.layout.event(row.table()).is_engagement(row) {
        return own_passive(shard, shared, row, event);
    }
    if row.operation() != Operation::Retract {
        let node = shard.node_mut(cell, state);
        node.add(shared, row, event.fingerprint);
        let node = shard.node_mut(cell, person);
        node.trace(shared, row, &event.hubs, event.fingerprint);
        node.note_mentioned(&event.mentioned);
        return true;
    }
    let node = shard.node_mut(cell, state);
    let undo = node.retract(shared, row, event.fingerprint, event.is_certain);
    if undo == Undo::Unmatched {
        shard.book.change().unmatched += 1;
        return false;
    }
    let node = shard.node_mut(cell, person);
    let undo = undo.max(node.untrace(shared, row, &event.hubs, event.fingerprint));
    note_inexact(shard, undo == Undo::Inexact);
    true
}

/// Adds an event that is no engagement to its owner, or takes it back. Returns true: the event
/// changed counters or outcomes.
fn own_passive(shard: &mut Shard, shared: &StateRules, row: Row<'_>, event: &OwnedEvent) -> bool {
    let node = shard.node_mut(event.cell, event.node);
    if row.operation() != Operation::Retract {
        node.count(shared, row, event.fingerprint);
        return true;
    }
    let undo = node.uncount(shared, row, event.fingerprint);
    note_inexact(shard, undo != Undo::Exact);
    true
}

/// Counts a retraction that could not restore everything.
fn note_inexact(shard: &mut Shard, is_inexact: bool) {
    if is_inexact {
        shard.book.change().inexact += 1;
    }
}

/// Adds a mention to the named entity, or takes it back. Returns whether that changed anything.
fn mention(
    shard: &mut Shard,
    shared: &StateRules,
    batch: &RowBatch,
    event: &MentioningEvent,
) -> bool {
    let row = batch.row(event.row as usize);
    let node = shard.node_mut(event.cell, event.node);
    if row.operation() == Operation::Retract {
        let undo = node.unmention(&shared.bank, event.by, row.event_ms());
        return undo != Undo::Unmatched;
    }
    node.mention(&shared.bank, event.by, row.event_ms());
    true
}
