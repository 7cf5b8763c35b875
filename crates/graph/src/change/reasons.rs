//! Reasons for which a cell is scored again.

use serde::{Deserialize, Serialize};

/// The reasons for which a cell's score may have changed. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons(u8);

impl Reasons {
    /// A row changed the cell or a cell that it refers to.
    pub const EVENT: Reasons = Reasons(1);
    /// A board moved the cell's view of its hubs.
    pub const BOARD: Reasons = Reasons(2);
    /// Time passed: recency fades, days leave windows.
    pub const TIMER: Reasons = Reasons(4);
    /// Another bundle scores the cell.
    pub const BUNDLE: Reasons = Reasons(8);
    /// The closing tick of a run to the end.
    pub const CLOSING: Reasons = Reasons(16);
    /// The explanation of an entity is to be made anew.
    pub const REFRESH: Reasons = Reasons(32);

    /// The union of two sets.
    pub fn with(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }
    /// Whether the set contains all of `other`.
    pub fn contains(self, other: Reasons) -> bool {
        self.0 & other.0 == other.0
    }
    /// Whether the set contains no reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
