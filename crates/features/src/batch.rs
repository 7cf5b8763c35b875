//! Cells as flat numbers: what the network reads, and what each number is called.

use serde::{Deserialize, Serialize};

use leadpulse_graph::EntityId;
use leadpulse_schema::TableId;

/// What a column is replaced by when its group is taken out of an explanation.
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
    /// A path people can read, e.g. `activities.type=pricing/14d/sum`.
    pub name: String,
    /// Index into [`Layout::groups`].
    pub group: usize,
    /// What stands for it when its group is taken out.
    pub absent: Absent,
}

/// A group of columns that is explained as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Stable code, e.g. `high_intent_content`.
    pub code: String,
    /// For people, e.g. `High-intent content`.
    pub label: String,
}

/// The columns of one member table.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberLayout {
    /// The member table.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// The widths and names of everything a [`FeatureBatch`] holds. Built from the schema; nothing here names a table in code.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Columns of the cell itself: the root's, its hubs', opportunities' and the season.
    pub root: Vec<Column>,
    /// One entry per member table, in table order. May be empty.
    pub members: Vec<MemberLayout>,
    /// Explanation groups.
    pub groups: Vec<Group>,
}

/// The members of one table in each cell of a batch: row-major `[cells, slots, width]`, padded.
#[derive(Clone, Debug, Default)]
pub struct MemberBlock {
    /// Rows per cell in this batch: the largest number present, at most the plan's cap; 0 if no cell has any.
    pub slots: usize,
    /// Width of a row.
    pub width: usize,
    /// `[cells, slots, width]`; padding rows are 0.
    pub values: Vec<f32>,
    /// `[cells, slots]`: 1 for a row that is there, 0 for padding.
    pub mask: Vec<f32>,
    /// `[cells, slots]`: who the row is; `None` for padding and for the "rest" row of the members beyond the cap.
    pub entities: Vec<Option<EntityId>>,
}

/// Raw (not normalised) features of some cells. Finite always.
#[derive(Clone, Debug, Default)]
pub struct FeatureBatch {
    /// How many cells.
    pub cells: usize,
    /// `[cells, root width]`.
    pub root: Vec<f32>,
    /// One block per member table, in the layout's order.
    pub members: Vec<MemberBlock>,
}
