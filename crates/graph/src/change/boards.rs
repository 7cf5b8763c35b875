//! Boards: the publication of hub sums on a grid of time.
//!
//! Between two boards hubs stand still, so that the order of rows within a period changes no
//! score.

use crate::change::Tracker;
use crate::ids::CellRef;
use crate::state::Cells;
use crate::state::hubs::Hubs;

/// Publishes a board: the hubs take over what cells contribute now, and cells that were emptied
/// become free. Returns whether any hub drifted.
pub(crate) fn publish(
    cells: &mut Cells,
    hubs: &mut Hubs,
    trackers: &[&Tracker],
    board_ms: i64,
) -> bool {
    let shared = cells.shared.clone();
    hubs.begin(&shared, board_ms);
    for (number, shard) in cells.shards.iter_mut().enumerate() {
        for index in shard.take_changed() {
            if let Some(old) = shard.thaw(index) {
                let new = shard.cells()[index as usize].contribution(&shared);
                hubs.replace(&shared, Some(&old), &new);
            }
            // One that waits is freed when it is taken: see `Tracker::take_dirty`.
            let at = CellRef::at(number, index as usize);
            let is_empty = shard.cells()[index as usize].nodes.is_empty();
            if is_empty && !trackers.iter().any(|tracker| tracker.is_dirty(at)) {
                shard.book.change().free.push(index);
            }
        }
    }
    hubs.finish(&shared, board_ms)
}

/// As [`publish`] for the cells and hubs of a trial: cells beneath that wait for the board take part, and
/// stay as they are.
pub(crate) fn publish_trial(cells: &mut Cells, hubs: &mut Hubs, board_ms: i64) {
    let shared = cells.shared.clone();
    hubs.begin(&shared, board_ms);
    for shard in &mut cells.shards {
        for (index, old) in shard.publish_trial() {
            let new = shard.cell(index).contribution(&shared);
            hubs.replace(&shared, Some(&old), &new);
        }
    }
    hubs.finish(&shared, board_ms);
}
