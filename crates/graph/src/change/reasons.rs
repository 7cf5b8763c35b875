//! Reasons for which a cell is scored again.

/// Why a cell's score may have changed. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u8);

impl Reasons {
    /// A row changed it.
    pub const EVENT: Reasons = Reasons(1);
    /// A board moved its view of its hubs.
    pub const BOARD: Reasons = Reasons(2);
    /// Time passed.
    pub const TIMER: Reasons = Reasons(4);
    /// Another model scores it.
    pub const BUNDLE: Reasons = Reasons(8);
    /// The closing tick of a run to the end.
    pub const CLOSING: Reasons = Reasons(16);

    /// Both sets.
    pub fn with(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }
    /// Whether all of `other` is in it.
    pub fn contains(self, other: Reasons) -> bool {
        self.0 & other.0 == other.0
    }
    /// Whether there is no reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
