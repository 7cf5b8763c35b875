//! Effects of rows on cells, and the marks that follow: the answer to "why is this cell dirty?"

use crate::change::reasons::Reasons;
use crate::change::{TrackedCell, Tracker, Tracking};
use crate::ids::{CellRef, EntityId};
use crate::who::Entities;

/// Up to this many cells are marked at once because of a cell that they refer to. More of them
/// wait among the soft-dirty.
// A row on an entity that very many refer to would otherwise make one epoch score them all.
// Decision: docs/decisions/0011-dirty-marks-are-bounded.md
const DIRECT_READERS: usize = 64;

/// The cause of an effect on a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The cell was opened, perhaps in the place of one that was left empty.
    Opened,
    /// A row named an entity for the first time: the cell contains a stub of it.
    FirstNamed,
    /// An entity of the cell has a new version.
    Version,
    /// An entity of the cell was deleted.
    Deleted,
    /// An entity of the cell became an outsider, or is none any more.
    Outsider,
    /// A node left the cell.
    Left,
    /// A node joined the cell.
    Joined,
    /// Entities of the cell became one.
    Merged,
    /// An edge to an entity of the cell was added, dropped, or starts from another survivor.
    Referrer,
    /// An event was added to an entity of the cell, or taken back.
    Event,
    /// Ends of deals or the place of an entity changed to which the cell refers.
    Referred,
    /// The same, where so many cells refer to it that this one waits.
    ReferredByMany,
}

/// Effects of rows on cells, in the order in which they happened.
///
/// Cells are resolved when an effect happens, not afterwards: later rows of the batch may move the
/// entities on.
#[derive(Debug)]
pub(crate) struct Effects {
    tracking: Tracking,
    list: Vec<(CellRef, Cause)>,
}

impl Effects {
    /// No effects yet. Without tracking only opened cells are recorded.
    pub fn new(tracking: Tracking) -> Self {
        Self {
            tracking,
            list: Vec::new(),
        }
    }

    pub fn is_tracked(&self) -> bool {
        self.tracking == Tracking::On
    }

    pub fn add(&mut self, cell: CellRef, cause: Cause) {
        if self.is_tracked() || cause == Cause::Opened {
            self.list.push((cell, cause));
        }
    }

    /// Adds an effect on each cell that refers to some entities of `cell`, but `cell` itself.
    pub fn add_referrers(&mut self, entities: &Entities, changed: &[EntityId], cell: CellRef) {
        if !self.is_tracked() {
            return;
        }
        let mut cells: Vec<CellRef> = Vec::new();
        for (_, source) in changed.iter().flat_map(|e| entities.incoming.of(*e)) {
            if let Some(place) = entities.directory.place(*source)
                && place.cell != cell
            {
                cells.push(place.cell);
            }
        }
        cells.sort_unstable();
        cells.dedup();
        let cause = match cells.len() <= DIRECT_READERS {
            true => Cause::Referred,
            false => Cause::ReferredByMany,
        };
        for cell in cells {
            self.add(cell, cause);
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The affected cells with their causes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (CellRef, Cause)> {
        self.list.iter().copied()
    }
}

impl Tracker {
    /// Turns effects of rows into marks.
    ///
    /// | cause | mark |
    /// |---|---|
    /// | opened | none: forgets the marks and timers of the cell that was here before |
    /// | referred to by many | none at once: waits among the soft-dirty, or for its place |
    /// | any other | dirty, with [`Reasons::EVENT`] |
    ///
    /// `fired_ms` is the moment up to which timers have fired, `place` the place of a cell: see
    /// [`Sharing`](super::sharing::Sharing).
    pub fn mark_effects(
        &mut self,
        effects: &Effects,
        fired_ms: i64,
        place: impl Fn(CellRef) -> u32,
    ) {
        for (at, cause) in effects.iter() {
            match cause {
                Cause::Opened => self.open(at, place(at)),
                Cause::ReferredByMany => self.soften(at, fired_ms),
                Cause::FirstNamed
                | Cause::Version
                | Cause::Deleted
                | Cause::Outsider
                | Cause::Left
                | Cause::Joined
                | Cause::Merged
                | Cause::Referrer
                | Cause::Event
                | Cause::Referred => self.mark(at, Reasons::EVENT),
            }
        }
    }

    /// Starts to track a cell that was opened.
    fn open(&mut self, at: CellRef, place: u32) {
        self.end_wait(at);
        let shard = &mut self.shards[at.shard as usize];
        let index = at.index as usize;
        if let Some(before) = shard.cells.get(index) {
            let before_ms = before.deadline_ms;
            shard.leave_slot(before_ms);
        }
        let cells = &mut shard.cells;
        let opened = TrackedCell {
            place,
            ..TrackedCell::default()
        };
        if index < cells.len() {
            *cells.at_mut(index) = opened;
        } else {
            // Shards append cells one by one, and each is reported.
            debug_assert_eq!(index, cells.len());
            cells.push(opened);
        }
    }
}
