//! Cells as flat numbers: the inputs of the network, and the name of each number.

use serde::{Deserialize, Serialize};

use leadpulse_graph::EntityId;
use leadpulse_schema::TableId;

/// The value of a column when its group is taken out of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absent {
    /// No events: zero before normalisation.
    Zero,
    /// The mean over the training examples.
    Mean,
}

/// One input of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// A readable path, e.g. `activities.type=pricing/14d/sum`.
    pub name: String,
    /// Index into [`Layout::groups`].
    pub group: usize,
    /// Value of the column when its group is taken out of an explanation.
    pub absent: Absent,
}

/// A group of columns that is explained as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Stable code, e.g. `high_intent_content`.
    pub code: String,
    /// Name for people, e.g. `High intent content`.
    pub label: String,
    /// The sub-score that the group counts for.
    pub kind: GroupKind,
}

/// The four questions that a score answers. Each explanation group belongs to the kind that most of
/// its columns read; of two with equally many to the first.
// Decision: docs/decisions/0061-what-changed-and-four-sub-scores.md
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Fields and attributes: who the entity is.
    Fit,
    /// Events of the entity, its account and their people, and who takes part: what they do.
    Behaviour,
    /// Hubs, references, peers, people who moved: whom the entity is connected with.
    Relations,
    /// Ages, recency and silence, the season, stages and ends of deals: when it may come true.
    Timing,
}

impl GroupKind {
    /// All kinds, in order.
    pub const ALL: [Self; 4] = [Self::Fit, Self::Behaviour, Self::Relations, Self::Timing];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Behaviour => "behaviour",
            Self::Relations => "relations",
            Self::Timing => "timing",
        }
    }
}

/// The columns of one member table.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberLayout {
    /// Id of the member table.
    pub table: TableId,
    /// Name of the member table.
    pub name: String,
    /// The group that the existence of a row belongs to, index into [`Layout::groups`]: that of
    /// the number of rows.
    pub existence: usize,
    /// One column per number of a row, in order.
    pub columns: Vec<Column>,
}

/// The widths and names of all numbers in a [`FeatureBatch`]. Built from the schema: no table is
/// named in code.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Columns of the cell itself: the root's, its hubs', opportunities' and the season.
    pub root: Vec<Column>,
    /// One entry per member table, in table order. May be empty.
    pub members: Vec<MemberLayout>,
    /// Explanation groups, by code.
    pub groups: Vec<Group>,
}

/// The members of one table in each cell of a batch: row-major `[cells, slots, width]`, padded.
#[derive(Clone, Debug, Default)]
pub struct MemberBlock {
    /// Rows per cell in this batch: the largest number in any cell; 0 if no cell has members.
    pub slots: usize,
    /// Width of a row.
    pub width: usize,
    /// `[cells, slots, width]`; padding rows are 0.
    pub values: Vec<f32>,
    /// `[cells, slots]`: 1 for a member's row, 0 for padding.
    pub mask: Vec<f32>,
    /// `[cells, slots]`: entity of the row; `None` for padding and for the "rest" row of the
    /// members beyond the cap.
    pub entities: Vec<Option<EntityId>>,
    /// `[cells]`: number of rows that the cell is pooled over. They come first, the "rest" row last
    /// among them. The rows after them are of members in the rest: each has a score of its own, and
    /// no other row sees it.
    pub attended: Vec<u32>,
    /// `[cells]`: number of members in the "rest" row; 0 without one.
    pub folded: Vec<u32>,
}

impl MemberBlock {
    /// An empty block with room for so many cells.
    pub(crate) fn with_room(cells: usize, slots: usize, width: usize) -> Self {
        let rows = cells * slots;
        Self {
            slots,
            width,
            values: Vec::with_capacity(rows * width),
            mask: Vec::with_capacity(rows),
            entities: Vec::with_capacity(rows),
            attended: Vec::with_capacity(cells),
            folded: Vec::with_capacity(cells),
        }
    }

    /// Appends padding rows.
    pub(crate) fn pad(&mut self, rows: usize) {
        self.values
            .extend(std::iter::repeat_n(0.0, rows * self.width));
        self.mask.extend(std::iter::repeat_n(0.0, rows));
        self.entities.extend(std::iter::repeat_n(None, rows));
    }
}

/// Raw (not normalised) features of some cells. Every number is finite.
#[derive(Clone, Debug, Default)]
pub struct FeatureBatch {
    pub cells: usize,
    /// `[cells, root width]`.
    pub root: Vec<f32>,
    /// One block per member table, in the layout's order.
    pub members: Vec<MemberBlock>,
}
