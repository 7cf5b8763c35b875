//! The networks of a bundle as plain loops: what scores live cells.
//!
//! [`crate::network`] is the definition, and trains. Here the same sums are made for one cell at a
//! time, without padding, without batches, and without memory of their own for each cell:
//!
//! - Most columns of a raw row are 0. The first layers of all networks of the ensemble are side by
//!   side and read the columns that are not; what all others add is in their biases.
//! - The members' embeddings, the context and the pools are made once for all tasks.
//! - Trees are one list of nodes ([`forest`]).
//!
//! A cell's logits depend on the cell alone, and have the same bits on every processor ([`layers`]).
//!
//! Decision: docs/decisions/0079-networks-are-compiled-for-scoring.md

mod compile;
mod forest;
mod layers;
#[cfg(test)]
mod tests;

use leadpulse_features::{FeatureBatch, MemberBlock, on_grid};
use pulp::{Arch, Simd, WithSimd};

use crate::examples::normalise::Scales;
use crate::fit::FittedTask;
use crate::network::tower::NARROW;
use crate::network::{NORM_EPSILON, TowerTarget, pool_rows};

use forest::FlatForest;
use layers::{Layer, Matrix, Terms, relu, terms_of};

/// The rows of a cell in a table's block.
fn rows_of(block: &MemberBlock, cell: usize) -> usize {
    let mask = &block.mask[cell * block.slots..(cell + 1) * block.slots];
    mask.iter().take_while(|there| **there != 0.0).count()
}

/// The networks and trees of an ensemble, compiled.
#[derive(Clone, Debug)]
pub(crate) struct PlainEnsemble {
    arch: Arch,
    networks: usize,
    /// Width of a member's embedding.
    hidden: usize,
    root: Columns,
    tables: Vec<PlainTable>,
    /// The contexts' part of the root, networks side by side; `None` without member tables.
    context: Option<Layer>,
    /// Per network the contexts' part of the pools of all tables.
    context_pools: Vec<Matrix>,
    tasks: Vec<PlainTask>,
}

/// The scales of a kind of row.
#[derive(Clone, Debug)]
struct Columns {
    scales: Scales,
    /// The normalised 0 of each column.
    zero: Vec<f32>,
}

/// The encoders of one member table.
#[derive(Clone, Debug)]
struct PlainTable {
    columns: Columns,
    /// Networks side by side.
    first: Layer,
    /// By network.
    second: Vec<Layer>,
}

/// One task.
#[derive(Clone, Debug)]
struct PlainTask {
    target: TowerTarget,
    hidden: usize,
    outputs: usize,
    /// Width of the pools that its towers read.
    pools: usize,
    /// The towers' view of the root, networks side by side: projection, then direct outputs.
    root: Layer,
    has_direct: bool,
    /// The towers' view of a scored member's row, networks side by side.
    own: Option<Layer>,
    towers: Vec<PlainTower>,
    forest: Option<FlatForest>,
}

/// One network's layers of a task that follow the pools.
#[derive(Clone, Debug)]
struct PlainTower {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    hidden: Layer,
    narrow: Layer,
    row: Option<Layer>,
    output: Layer,
}

/// A cell of a batch, and the tasks that are asked about.
#[derive(Clone, Copy)]
struct AskedCell<'a> {
    fitted: &'a [FittedTask],
    batch: &'a FeatureBatch,
    cell: usize,
    tasks: &'a [usize],
}

/// The place of a scored member.
#[derive(Clone, Copy)]
struct ScoredRow {
    /// Place of the task among those that are asked about.
    asked: usize,
    table: usize,
    network: usize,
    row: usize,
}

/// Memory for the numbers between the layers, used again from cell to cell.
#[derive(Default)]
struct Scratch {
    terms: Terms,
    inner: Terms,
    wide: Vec<f32>,
    sums: Vec<f32>,
    zeros: Vec<f32>,
    /// By table: first embeddings h1, `[networks, rows, hidden]`.
    h1: Vec<Vec<f32>>,
    /// By task: own rows of the asked table, `[rows, networks · 32]`.
    own: Vec<Vec<f32>>,
    root: Vec<f32>,
    pools: Vec<f32>,
    /// `[networks, hidden]`.
    contexts: Vec<f32>,
    /// Pools of h2, `[networks, pools]`.
    pooled: Vec<f32>,
    z: Vec<f32>,
    u: Vec<f32>,
    row: Vec<f32>,
    logits: Vec<f64>,
    numbers: Vec<i64>,
    tree_sums: Vec<f64>,
    outputs: Vec<f32>,
}

impl Columns {
    /// The columns of a raw row that are not 0, normalised, less what 0 is normalised to.
    #[inline(always)]
    fn terms(&self, row: &[f32], terms: &mut Terms) {
        terms_of(row, terms);
        for (at, x) in terms.iter_mut() {
            let column = *at as usize;
            *x = self.scales.normalised(column, *x) - self.zero[column];
        }
    }
}

impl PlainTask {
    /// The view of the root of a network's tower: projection and direct outputs.
    fn root_part<'r>(&self, root: &'r [f32], network: usize) -> (&'r [f32], &'r [f32]) {
        let direct = if self.has_direct { self.outputs } else { 0 };
        let width = self.hidden + direct;
        root[network * width..(network + 1) * width].split_at(self.hidden)
    }
}

impl PlainTower {
    /// Brings values to mean 0 and variance 1, then to the layer's scale.
    #[inline(always)]
    fn normalise(&self, z: &mut [f32]) {
        let count = z.len() as f64;
        let mean = sum_of(z, |x| x) / count;
        let variance = sum_of(z, |x| (x - mean) * (x - mean)) / count;
        let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
        let (mean, scale) = (mean as f32, scale as f32);
        for ((x, gamma), beta) in z.iter_mut().zip(&self.gamma).zip(&self.beta) {
            *x = (*x - mean) * scale * gamma + beta;
        }
    }
}

/// A sum over values in a fixed order that leaves the processor's lanes free.
#[inline(always)]
fn sum_of(values: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0f64; 8];
    for chunk in values.chunks(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += of(f64::from(*x));
        }
    }
    sums.iter().sum()
}

/// A call of [`PlainEnsemble::score`], compiled for each kind of processor.
// A type of its own, because a closure of this size is not inlined into the code of its kind.
struct Scoring<'a> {
    ensemble: &'a PlainEnsemble,
    fitted: &'a [FittedTask],
    batch: &'a FeatureBatch,
    tasks: &'a [usize],
    logits: &'a mut [Vec<f64>],
}

impl WithSimd for Scoring<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.ensemble
            .score(simd, self.fitted, self.batch, self.tasks, self.logits);
    }
}

impl PlainEnsemble {
    /// Calibrated logits on the grid of some tasks, each as [`leadpulse_features::Scorer::logits`].
    /// `fitted` are all tasks that this was compiled from.
    pub fn logits(
        &self,
        fitted: &[FittedTask],
        batch: &FeatureBatch,
        tasks: &[usize],
    ) -> Vec<Vec<f64>> {
        let mut logits = self.unrounded_logits(fitted, batch, tasks);
        let all = logits.iter_mut().flatten();
        all.for_each(|logit| *logit = on_grid(*logit));
        logits
    }

    fn unrounded_logits(
        &self,
        fitted: &[FittedTask],
        batch: &FeatureBatch,
        tasks: &[usize],
    ) -> Vec<Vec<f64>> {
        let rows = |task: &usize| match self.tasks[*task].target {
            TowerTarget::Root => 1,
            TowerTarget::Member(table) => batch.members[table].slots,
        };
        let all = |task: &usize| vec![f64::NAN; batch.cells * rows(task)];
        let mut logits: Vec<Vec<f64>> = tasks.iter().map(all).collect();
        self.arch.dispatch(Scoring {
            ensemble: self,
            fitted,
            batch,
            tasks,
            logits: &mut logits,
        });
        logits
    }

    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        fitted: &[FittedTask],
        batch: &FeatureBatch,
        tasks: &[usize],
        logits: &mut [Vec<f64>],
    ) {
        let mut scratch = Scratch {
            h1: vec![Vec::new(); self.tables.len()],
            own: vec![Vec::new(); tasks.len()],
            zeros: vec![0.0; self.hidden],
            ..Scratch::default()
        };
        for cell in 0..batch.cells {
            let one = AskedCell {
                fitted,
                batch,
                cell,
                tasks,
            };
            self.embed(simd, one, &mut scratch);
            for (at, task) in tasks.iter().enumerate() {
                let task = &self.tasks[*task];
                self.score_task(simd, task, at, one, &mut scratch);
                let rows = logits[at].len() / batch.cells;
                let to = &mut logits[at][cell * rows..cell * rows + scratch.logits.len()];
                to.copy_from_slice(&scratch.logits);
            }
        }
    }

    /// The first embeddings of members, the contexts and the pools of the second ones.
    #[inline(always)]
    fn embed<S: Simd>(&self, simd: S, one: AskedCell<'_>, scratch: &mut Scratch) {
        let AskedCell { batch, cell, .. } = one;
        let width = batch.root.len() / batch.cells;
        let (hidden, networks) = (self.hidden, self.networks);
        let reads_members = one.tasks.iter().any(|task| self.tasks[*task].pools > 0);
        if reads_members {
            scratch.pools.clear();
            scratch.pools.resize(networks * self.pools(), 0.0);
            for table in 0..self.tables.len() {
                self.embed_table(simd, table, one, scratch);
            }
        }
        let root = &batch.root[cell * width..(cell + 1) * width];
        self.root.terms(root, &mut scratch.terms);
        let Some(context) = self.context.as_ref().filter(|_| reads_members) else {
            return;
        };
        context.forward(simd, &scratch.terms, &mut scratch.wide);
        scratch.contexts.clear();
        scratch.pooled.clear();
        scratch.pooled.resize(networks * self.pools(), 0.0);
        for network in 0..networks {
            let pools = network * self.pools()..(network + 1) * self.pools();
            terms_of(&scratch.pools[pools.clone()], &mut scratch.inner);
            scratch.sums.clear();
            let of_root = &scratch.wide[network * hidden..(network + 1) * hidden];
            scratch.sums.extend_from_slice(of_root);
            scratch
                .sums
                .resize(self.context_pools[network].outputs(), 0.0);
            self.context_pools[network].add(simd, &scratch.inner, &mut scratch.sums);
            scratch.contexts.extend_from_slice(&scratch.sums[..hidden]);
            let tables = scratch.pooled[pools].chunks_exact_mut(3 * hidden);
            for (t, pools) in tables.enumerate() {
                let block = &batch.members[t];
                let rows = rows_of_network(&scratch.h1[t], network, networks, hidden);
                let rows = rows.take(attended(block, cell));
                pool_rows(rows, &scratch.sums[..hidden], pools);
            }
        }
    }

    /// The first embeddings of a table's members and their pools, and what asked tasks read of the
    /// rows themselves.
    #[inline(always)]
    fn embed_table<S: Simd>(&self, simd: S, t: usize, one: AskedCell<'_>, scratch: &mut Scratch) {
        let AskedCell {
            batch, cell, tasks, ..
        } = one;
        let (table, block) = (&self.tables[t], &batch.members[t]);
        let (hidden, networks) = (self.hidden, self.networks);
        let is_asked = |task: usize| self.tasks[task].target == TowerTarget::Member(t);
        let attended = attended(block, cell);
        let rows = match tasks.iter().any(|task| is_asked(*task)) {
            true => rows_of(block, cell),
            false => attended,
        };
        let mut h1 = std::mem::take(&mut scratch.h1[t]);
        h1.clear();
        h1.resize(networks * rows * hidden, 0.0);
        scratch.own.iter_mut().zip(tasks).for_each(|(own, task)| {
            if is_asked(*task) {
                own.clear();
            }
        });
        for row in 0..rows {
            let from = (cell * block.slots + row) * block.width;
            let raw = &block.values[from..from + block.width];
            table.columns.terms(raw, &mut scratch.terms);
            table.first.forward(simd, &scratch.terms, &mut scratch.wide);
            relu(&mut scratch.wide);
            for (network, second) in table.second.iter().enumerate() {
                let first = &scratch.wide[network * hidden..(network + 1) * hidden];
                terms_of(first, &mut scratch.inner);
                second.forward(simd, &scratch.inner, &mut scratch.sums);
                relu(&mut scratch.sums);
                let to = (network * rows + row) * hidden;
                h1[to..to + hidden].copy_from_slice(&scratch.sums[..hidden]);
            }
            for (own, task) in scratch.own.iter_mut().zip(tasks) {
                if let Some(layer) = self.tasks[*task].own.as_ref().filter(|_| is_asked(*task)) {
                    layer.forward(simd, &scratch.terms, &mut scratch.sums);
                    relu(&mut scratch.sums);
                    own.extend_from_slice(&scratch.sums[..networks * NARROW]);
                }
            }
        }
        for network in 0..networks {
            let to = network * self.pools() + t * 3 * hidden;
            let rows = rows_of_network(&h1, network, networks, hidden).take(attended);
            let pools = &mut scratch.pools[to..to + 3 * hidden];
            pool_rows(rows, &scratch.zeros, pools);
        }
        scratch.h1[t] = h1;
    }

    /// Width of the pools of all tables.
    fn pools(&self) -> usize {
        3 * self.hidden * self.tables.len()
    }

    /// The calibrated logits of a task, of each row that is there.
    #[inline(always)]
    fn score_task<S: Simd>(
        &self,
        simd: S,
        task: &PlainTask,
        asked: usize,
        one: AskedCell<'_>,
        scratch: &mut Scratch,
    ) {
        let AskedCell { batch, cell, .. } = one;
        let fitted = &one.fitted[one.tasks[asked]];
        let rows = match task.target {
            TowerTarget::Root => 1,
            TowerTarget::Member(table) => rows_of(&batch.members[table], cell),
        };
        scratch.logits.clear();
        scratch.logits.resize(rows, 0.0);
        if rows == 0 {
            return;
        }
        let head = &fitted.definition.head;
        let mut root = std::mem::take(&mut scratch.root);
        task.root.forward(simd, &scratch.terms, &mut root);
        for (network, tower) in task.towers.iter().enumerate() {
            let (projected, direct) = task.root_part(&root, network);
            self.read(simd, task, network, projected, scratch);
            for row in 0..rows {
                match (task.target, &tower.row) {
                    (TowerTarget::Member(table), Some(layer)) => {
                        let scored = ScoredRow {
                            asked,
                            table,
                            network,
                            row,
                        };
                        self.read_row(simd, layer, scored, scratch);
                        tower
                            .output
                            .forward(simd, &scratch.inner, &mut scratch.sums);
                    }
                    _ => {
                        terms_of(&scratch.u[..NARROW], &mut scratch.inner);
                        tower
                            .output
                            .forward(simd, &scratch.inner, &mut scratch.sums);
                    }
                }
                let outputs = &mut scratch.sums[..task.outputs];
                outputs.iter_mut().zip(direct).for_each(|(x, y)| *x += y);
                scratch.logits[row] += head.logit(outputs);
            }
        }
        scratch.root = root;
        self.add_trees(task, fitted, (batch, cell), scratch);
    }

    /// The narrow layer u of a network's tower.
    #[inline(always)]
    fn read<S: Simd>(
        &self,
        simd: S,
        task: &PlainTask,
        network: usize,
        projected: &[f32],
        scratch: &mut Scratch,
    ) {
        let (tower, pools) = (&task.towers[network], task.pools);
        scratch.z.clear();
        if pools > 0 {
            let pooled = &scratch.pooled[network * pools..(network + 1) * pools];
            scratch.z.extend_from_slice(pooled);
        }
        scratch.z.extend_from_slice(projected);
        relu(&mut scratch.z[pools..]);
        tower.normalise(&mut scratch.z);
        for (layer, to) in [(&tower.hidden, false), (&tower.narrow, true)] {
            let from = if to { &scratch.sums } else { &scratch.z };
            terms_of(from, &mut scratch.inner);
            let sums = if to {
                &mut scratch.u
            } else {
                &mut scratch.sums
            };
            layer.forward(simd, &scratch.inner, sums);
            relu(sums);
        }
    }

    /// The terms of the last layer for a member's row.
    #[inline(always)]
    fn read_row<S: Simd>(&self, simd: S, layer: &Layer, scored: ScoredRow, scratch: &mut Scratch) {
        let ScoredRow {
            asked,
            table,
            network,
            row,
        } = scored;
        let (hidden, networks) = (self.hidden, self.networks);
        let h1 = &scratch.h1[table];
        let rows = h1.len() / (networks * hidden).max(1);
        let from = (network * rows + row) * hidden;
        scratch.row.clear();
        scratch.row.extend_from_slice(&h1[from..from + hidden]);
        let context = &scratch.contexts[network * hidden..(network + 1) * hidden];
        scratch
            .row
            .iter_mut()
            .zip(context)
            .for_each(|(x, c)| *x += c);
        relu(&mut scratch.row);
        let own = (row * networks + network) * NARROW;
        scratch
            .row
            .extend_from_slice(&scratch.own[asked][own..own + NARROW]);
        scratch.row.extend_from_slice(&scratch.u[..NARROW]);
        terms_of(&scratch.row, &mut scratch.inner);
        layer.forward(simd, &scratch.inner, &mut scratch.sums);
        relu(&mut scratch.sums);
        terms_of(&scratch.sums[..NARROW], &mut scratch.inner);
    }

    /// Turns sums of the networks' logits into calibrated logits with those of the trees.
    fn add_trees(
        &self,
        task: &PlainTask,
        fitted: &FittedTask,
        (batch, cell): (&FeatureBatch, usize),
        scratch: &mut Scratch,
    ) {
        let head = &fitted.definition.head;
        if let Some(forest) = &task.forest {
            forest.shared_numbers(batch, cell, &mut scratch.numbers);
        }
        for (row, logit) in scratch.logits.iter_mut().enumerate() {
            let trees = task.forest.as_ref().map(|forest| {
                if let TowerTarget::Member(table) = task.target {
                    let block = &batch.members[table];
                    let from = (cell * block.slots + row) * block.width;
                    let own = &block.values[from..from + block.width];
                    forest.own_numbers(own, &mut scratch.numbers);
                }
                forest.outputs(&mut scratch.numbers, &mut scratch.tree_sums);
                scratch.outputs.clear();
                let sums = scratch.tree_sums.iter();
                scratch.outputs.extend(sums.map(|sum| *sum as f32));
                head.logit(&scratch.outputs)
            });
            let networks = *logit / self.networks as f64;
            *logit = fitted.ensemble_logit(networks, trees);
        }
    }
}

/// The rows that a cell is pooled over.
fn attended(block: &MemberBlock, cell: usize) -> usize {
    (block.attended[cell] as usize).min(rows_of(block, cell))
}

/// The rows of a network among embeddings `[networks, rows, hidden]`.
#[inline(always)]
fn rows_of_network(
    h1: &[f32],
    network: usize,
    networks: usize,
    hidden: usize,
) -> impl Iterator<Item = &[f32]> {
    let size = h1.len() / networks;
    h1[network * size..(network + 1) * size].chunks_exact(hidden)
}
