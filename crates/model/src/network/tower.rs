//! The tower of one task: from the trunk's embeddings to the task's outputs.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::dropout::{Dropout, read};
use super::init::Initialiser;
use super::inputs::{Inputs, MemberInputs};
use super::trunk::{EmbeddedCells, TrunkConfig, embed_rows};
use crate::examples::normalise::Dropped;

/// Width of `u`, the last hidden layer, and of a scored member's own row.
// The prototype's width. Why 32 is unknown.
pub(crate) const NARROW: usize = 32;

/// The kind of row that a task scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TowerTarget {
    /// One output row per cell.
    Root,
    /// One output row per member of this table (index into `Layout::members`).
    Member(usize),
}

/// The widths of a tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TowerConfig {
    /// The kind of row that the tower scores.
    pub target: TowerTarget,
    /// Width of its first hidden layers.
    pub hidden: usize,
    pub outputs: usize,
    /// Whether the root row also reaches the output directly, through one linear layer.
    pub residual: bool,
    /// Whether it reads the pools of members. Without them only the root row counts, which is for
    /// tasks on the root.
    #[serde(default = "reads_members")]
    pub reads_members: bool,
}

/// Towers were written without this word when all of them read members.
fn reads_members() -> bool {
    true
}

impl TowerConfig {
    /// Width of the pools that it reads.
    pub(crate) fn pools(&self, trunk: &TrunkConfig) -> usize {
        if self.reads_members { trunk.pools() } else { 0 }
    }

    /// Width of what a tower on a member table reads of a row that it scores.
    pub(crate) fn row_width(trunk: &TrunkConfig) -> usize {
        trunk.member_hidden + NARROW
    }

    pub(super) fn init(
        &self,
        trunk: &TrunkConfig,
        dropped: &Dropped,
        bias: &[f32],
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Tower {
        let mut init = Initialiser { rng, device };
        let normed = self.pools(trunk) + self.hidden;
        let (own, row) = match self.target {
            TowerTarget::Root => (None, None),
            TowerTarget::Member(table) => {
                let dropped = dropped.members.get(table).map_or(&[][..], Vec::as_slice);
                let read = Self::row_width(trunk) + NARROW;
                (
                    Some(init.linear(trunk.member_widths[table], NARROW, 1.0, dropped)),
                    Some(init.linear(read, NARROW, 1.0, &[])),
                )
            }
        };
        let mut output = init.linear(NARROW, self.outputs, 0.4, &[]);
        output.bias = Some(init.param(bias.to_vec(), [self.outputs]));
        Tower {
            project: init.linear(trunk.root_width, self.hidden, 1.0, &dropped.root),
            norm: init.layer_norm(normed),
            hidden: init.linear(normed, self.hidden, 1.0, &[]),
            narrow: init.linear(self.hidden, NARROW, 1.0, &[]),
            own,
            row,
            direct: self
                .residual
                .then(|| init.linear(trunk.root_width, self.outputs, 0.1, &dropped.root)),
            output,
            target: self.target,
            reads_members: self.reads_members,
        }
    }
}

/// The layers of one task.
#[derive(Module, Debug)]
pub(crate) struct Tower {
    pub project: Linear,
    pub norm: LayerNorm,
    pub hidden: Linear,
    pub narrow: Linear,
    /// Reads the row of the member that is scored, as it is.
    pub own: Option<Linear>,
    pub row: Option<Linear>,
    pub direct: Option<Linear>,
    pub output: Linear,
    #[module(skip)]
    pub target: TowerTarget,
    #[module(skip)]
    pub reads_members: bool,
}

/// Masks of the columns that a fit leaves out, for a tower: 1 for a column that it reads.
#[derive(Clone, Debug)]
pub(crate) struct TowerColumns {
    /// `[1, root width]`
    pub root: Tensor<2>,
    /// `[1, width]` of the rows that the tower scores; none for a task on the root.
    pub own: Option<Tensor<2>>,
}

/// What a tower reads of some cells.
pub(crate) struct TowerInputs {
    /// `[cells, root width]`
    pub root: Tensor<2>,
    /// Pools of all member tables; side by side they are `[cells, pools]`. None for a tower that
    /// does not read them.
    pub pools: Vec<Tensor<2>>,
    /// For a task on a member table h2 of the rows to score, `[cells, rows, member hidden]`, and
    /// those rows.
    pub member: Option<(Tensor<3>, MemberInputs)>,
}

impl TowerInputs {
    /// The root rows of some cells.
    pub fn of_root(root: Tensor<2>) -> Self {
        Self {
            root,
            pools: Vec::new(),
            member: None,
        }
    }

    /// All rows of some cells.
    pub fn new(inputs: &Inputs, embedded: &EmbeddedCells, target: TowerTarget) -> Self {
        Self {
            root: inputs.root.clone(),
            pools: embedded.pools.clone(),
            member: match target {
                TowerTarget::Root => None,
                TowerTarget::Member(table) => {
                    Some((embedded.rows[table].clone(), inputs.members[table].clone()))
                }
            },
        }
    }
}

impl Tower {
    /// The outputs of the task.
    ///
    /// # Shapes
    /// - output: `[cells, rows, outputs]`, with one row per cell for a task on the root, and one
    ///   per slot for a task on a member table
    pub fn forward(
        &self,
        inputs: TowerInputs,
        columns: Option<&TowerColumns>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let mut root = inputs.root;
        if let Some(columns) = columns {
            root = root * columns.root.clone();
        }
        let mut parts = inputs.pools;
        parts.push(relu(
            self.project.forward(read(&root, dropout.as_deref_mut())),
        ));
        let members = match (&self.own, inputs.member) {
            (Some(own), Some((embedded, rows))) => {
                let columns = columns.and_then(|columns| columns.own.as_ref());
                let row = embed_rows(&[own], &rows, columns, dropout.as_deref_mut());
                Some(Tensor::cat(vec![embedded, row], 2))
            }
            _ => None,
        };
        let out = self.read(Tensor::cat(parts, 1), members, dropout);
        match &self.direct {
            Some(direct) => out + direct.forward(root).unsqueeze_dim::<3>(1),
            None => out,
        }
    }

    /// The outputs without the direct layer, from the pools and the projected root.
    ///
    /// # Shapes
    /// - `z`: `[cells, pools + hidden]`
    /// - `members`: h2 and `own` of the rows to score, `[cells, rows, member hidden + 32]`; only for
    ///   a task on a member table
    /// - output: `[cells, rows, outputs]`, one row per cell without `members`
    pub fn read(
        &self,
        z: Tensor<2>,
        members: Option<Tensor<3>>,
        mut dropout: Option<&mut Dropout>,
    ) -> Tensor<3> {
        let mut z = self.norm.forward(z);
        if let Some(dropout) = dropout.as_deref_mut() {
            z = dropout.hidden(z);
        }
        let mut hidden = relu(self.hidden.forward(z));
        if let Some(dropout) = dropout {
            hidden = dropout.hidden(hidden);
        }
        let u = relu(self.narrow.forward(hidden));
        match (&self.row, members) {
            (Some(row), Some(members)) => {
                let [cells, slots, _] = members.dims();
                let u = u.unsqueeze_dim::<3>(1).expand([cells, slots, NARROW]);
                self.output
                    .forward(relu(row.forward(Tensor::cat(vec![members, u], 2))))
            }
            _ => self.output.forward(u).unsqueeze_dim(1),
        }
    }
}
