//! Values of coalitions: the logits of a cell in which only some groups of columns are present.
//!
//! A group that is absent has its columns at what stands for absence ([`super::differences`]), and
//! a member row exists by its groups ([`super::presence`]). A row's embedding h1 is computed once
//! for the coalitions that the row cannot tell apart, the pools of h1 once for those that its table
//! cannot ([`super::parts`]). From there on everything is as in [`crate::network`]. Sums have
//! another order than when scoring: values agree to rounding, not bit for bit.

use std::ops::Range;

use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use leadpulse_features::{Column, FeatureBatch, Layout};

use crate::examples::normalise::{Normaliser, Scales};
use crate::explain::differences::Differences;
use crate::explain::parts::TableParts;
use crate::explain::presence::Presence;
use crate::explain::tree_game::TreeGame;
use crate::fit::Fitted;
use crate::network::tower::Tower;
use crate::network::trunk::MemberEncoder;
use crate::network::{Network, TowerConfig, TowerTarget, pool_rows};
use crate::trees::columns::GridCell;

/// Rows per product of matrices: they stay in the cache of one core, and the product on one thread.
const ROWS: usize = 128;
/// The most groups that can be explained, because coalitions are bits of a word.
pub(crate) const MOST_GROUPS: usize = 64;

/// A set of players, a bit each.
pub(crate) type Coalition = u64;

/// One row of output of one cell, whose groups can be taken out.
pub(crate) struct Game<'a> {
    fitted: &'a Fitted,
    task: usize,
    /// Per group of the layout the player that it is; none where it is as if absent.
    players: Vec<Option<u32>>,
    root: Differences,
    /// Per member table the rows that the cell is pooled over, then the asked row if it is none of
    /// them.
    members: Vec<Vec<Differences>>,
    pub(super) presence: Presence,
    /// Table and row of a member task.
    asked: Option<(usize, usize)>,
    trees: Option<TreeGame>,
}

/// The normalised rows of one member table.
struct TableRows<'c> {
    rows: Vec<&'c [f32]>,
    /// Number of rows that the cell is pooled over: the first ones.
    attended: usize,
    /// The asked row.
    asked: Option<usize>,
}

/// The embedded members of one table in each part of the coalitions.
struct EmbeddedCoalitions<'p> {
    table: &'p TableParts,
    /// h1 of each state of each row: `[states, hidden]`.
    h1: Vec<f32>,
    /// The part of the context that the pools add: `[parts, hidden]`.
    context: Vec<f32>,
}

impl EmbeddedCoalitions<'_> {
    fn h1(&self, state: usize, hidden: usize) -> &[f32] {
        &self.h1[state * hidden..(state + 1) * hidden]
    }

    fn pool(&self, part: usize, context: &[f32], pools: &mut [f32]) {
        let rows = self.table.pooled[part].iter();
        let rows = rows.map(|state| self.h1(*state, context.len()));
        pool_rows(rows, context, pools);
    }
}

impl<'c> TableRows<'c> {
    /// The rows of each table of one normalised cell; `row` is the output row.
    fn of_cell(cell: &'c FeatureBatch, target: TowerTarget, row: usize) -> Vec<Self> {
        let blocks = cell.members.iter().enumerate();
        let tables = blocks.map(|(t, block)| {
            let attended = block.attended[0] as usize;
            let is_there = block.mask.get(row).is_some_and(|mask| *mask != 0.0);
            let asked = (target == TowerTarget::Member(t) && is_there).then_some(row);
            // A row beyond those that the cell is pooled over touches no row but itself.
            let own = asked.filter(|row| *row >= attended);
            let rows = (0..attended).chain(own);
            let width = block.width;
            Self {
                rows: rows
                    .map(|at| &block.values[at * width..(at + 1) * width])
                    .collect(),
                attended,
                asked: asked.map(|row| row.min(attended)),
            }
        });
        tables.collect()
    }
}

/// Per group of the layout the player that it is: groups that differ from their absence, and those
/// of tables with rows.
fn players(
    layout: &Layout,
    normaliser: &Normaliser,
    root: &[f32],
    tables: &[TableRows<'_>],
    trees: Option<&TreeGame>,
) -> Vec<Option<u32>> {
    let mut present = vec![false; layout.groups.len()];
    let mut mark = |columns: &[Column], scales: &Scales, row: &[f32]| {
        for ((column, absent), x) in columns.iter().zip(&scales.absent).zip(row) {
            present[column.group] |= x != absent;
        }
    };
    mark(&layout.root, &normaliser.root, root);
    let members = layout.members.iter().zip(&normaliser.members);
    for (table, (member, scales)) in tables.iter().zip(members.clone()) {
        for row in &table.rows {
            mark(&member.columns, scales, row);
        }
    }
    for (table, (member, _)) in tables.iter().zip(members) {
        present[member.existence] |= table.attended > 0;
    }
    // A difference may be in one member's view only: networks clip, trees have a grid.
    for group in trees.iter().flat_map(|trees| trees.groups()) {
        present[group] = true;
    }
    let mut next = 0..;
    let number = |present: bool| if present { next.next() } else { None };
    present.into_iter().map(number).collect()
}

impl<'a> Game<'a> {
    /// `raw` is one cell as it was encoded; `row` is its output row.
    pub fn new(fitted: &'a Fitted, raw: &FeatureBatch, task: usize, row: usize) -> Self {
        let (layout, normaliser) = (&fitted.layout, &fitted.normaliser);
        let trees = TreeGame::new(fitted, &GridCell::new(raw, 0), task, row);
        let mut cell = raw.clone();
        normaliser.apply(&mut cell);
        let tables = TableRows::of_cell(&cell, fitted.config.towers[task].target, row);
        let players = players(layout, normaliser, &cell.root, &tables, trees.as_ref());
        let root = Differences::new(&layout.root, &normaliser.root, &cell.root, &players);
        let mut members = Vec::with_capacity(tables.len());
        let mut brought_by = Vec::with_capacity(tables.len());
        for ((table, member), scales) in tables.iter().zip(&layout.members).zip(&normaliser.members)
        {
            let rows = table.rows.iter();
            let rows = rows.map(|row| Differences::new(&member.columns, scales, row, &players));
            let rows: Vec<Differences> = rows.collect();
            let existence = players[member.existence].map_or(0, |player| 1 << player);
            let attended = rows[..table.attended].iter();
            brought_by.push(attended.map(|row| existence | row.changed()).collect());
            members.push(rows);
        }
        let mut asked = tables.iter().enumerate();
        let asked = asked.find_map(|(t, table)| Some((t, table.asked?)));
        Self {
            fitted,
            task,
            players,
            root,
            members,
            presence: Presence { brought_by },
            asked,
            trees,
        }
    }

    /// The number of groups that differ from their absence.
    pub fn players(&self) -> usize {
        self.players.iter().flatten().count()
    }

    /// Per group of the layout the player that it is.
    pub fn player_of(&self) -> &[Option<u32>] {
        &self.players
    }

    /// The calibrated logits of these coalitions, not rounded.
    pub fn logits(&self, coalitions: &[Coalition]) -> Vec<f64> {
        let task = &self.fitted.tasks[self.task];
        let head = &task.definition.head;
        let members = self.members.iter().enumerate();
        let tables = members.map(|(t, rows)| {
            let asked = self.asked.filter(|(table, _)| *table == t);
            let asked = asked.map(|(_, row)| row);
            TableParts::new(coalitions, rows, &self.presence, t, asked)
        });
        let tables: Vec<TableParts> = tables.collect();
        let mut sums = vec![0.0; coalitions.len()];
        for network in &self.fitted.networks {
            let outputs = self.outputs(network, coalitions, &tables);
            sums.iter_mut()
                .zip(outputs.chunks_exact(head.outputs()))
                .for_each(|(sum, outputs)| *sum += head.logit(outputs));
        }
        let trees = self.trees.as_ref();
        let trees =
            trees.map(|trees| trees.logits(coalitions, &self.players, &self.presence, head));
        let networks = self.fitted.networks.len() as f64;
        let rows = sums.into_iter().enumerate();
        rows.map(|(row, sum)| {
            task.ensemble_logit(sum / networks, trees.as_ref().map(|trees| trees[row]))
        })
        .collect()
    }

    /// One network's outputs: `[coalitions, outputs]`.
    fn outputs(
        &self,
        network: &Network,
        coalitions: &[Coalition],
        tables: &[TableParts],
    ) -> Vec<f32> {
        let (trunk, tower) = (&network.trunk, &network.towers[self.task]);
        let pools = 3 * self.fitted.config.trunk.member_hidden;
        let joined = self.root.joined(coalitions);
        let through =
            |layer: &Linear, weights: Tensor<2>| host(self.root.through(&joined, weights, layer));
        let projected = through(&tower.project, tower.project.weight.val());
        let (mut embedded, mut contexts) = (Vec::new(), Vec::new());
        if let Some(context) = trunk.context.as_ref().filter(|_| tower.reads_members) {
            for (t, (table, encoder)) in tables.iter().zip(&trunk.encoders).enumerate() {
                let weights = weights(context, t * pools..(t + 1) * pools);
                embedded.push(self.embed(t, encoder, weights, table));
            }
            let from = pools * self.members.len();
            let [to, _] = context.weight.dims();
            contexts = through(context, weights(context, from..to));
        }
        let own = self.own_rows(tower, coalitions);
        let mut outputs = self.read(tower, &projected, &embedded, &contexts, own.as_deref());
        if let Some(direct) = &tower.direct {
            let direct = through(direct, direct.weight.val());
            outputs.iter_mut().zip(direct).for_each(|(x, y)| *x += y);
        }
        outputs
    }

    /// The row to explain as the tower reads it, `[coalitions, 32]`; none where there is no such
    /// row.
    fn own_rows(&self, tower: &Tower, coalitions: &[Coalition]) -> Option<Vec<f32>> {
        let ((table, row), layer) = (self.asked?, tower.own.as_ref()?);
        let row = &self.members[table][row];
        let joined = row.joined(coalitions);
        Some(host(relu(row.through(&joined, layer.weight.val(), layer))))
    }

    /// The tower's outputs, without its direct part.
    ///
    /// # Shapes
    /// - `projected`: the root as the tower reads it, `[coalitions, read]`
    /// - `embedded`, `contexts`: the members, and the root's part of the context, `[coalitions,
    ///   hidden]`; empty for a tower that does not read members
    /// - `own`: as from [`Self::own_rows`]
    /// - output: `[coalitions, outputs]`
    fn read(
        &self,
        tower: &Tower,
        projected: &[f32],
        embedded: &[EmbeddedCoalitions<'_>],
        contexts: &[f32],
        own: Option<&[f32]>,
    ) -> Vec<f32> {
        let hidden = self.fitted.config.trunk.member_hidden;
        let [_, read] = tower.project.weight.dims();
        let (pooled, coalitions) = (3 * hidden * embedded.len(), projected.len() / read);
        let row_width = TowerConfig::row_width(&self.fitted.config.trunk);
        let mut outputs = Vec::new();
        for start in (0..coalitions).step_by(ROWS) {
            let chunk = start..coalitions.min(start + ROWS);
            let mut z = vec![0.0; chunk.len() * (pooled + read)];
            // h2 of the target, where it is a member, and what the tower reads of its own row; a
            // row that is not there is 0, as padding is.
            let mut targets = vec![0.0; chunk.len() * row_width];
            let rows = z.chunks_exact_mut(pooled + read);
            for ((c, z), target) in chunk.zip(rows).zip(targets.chunks_exact_mut(row_width)) {
                if !embedded.is_empty() {
                    let (h2, rest) = target.split_at_mut(hidden);
                    if let Some(own) = own {
                        rest.copy_from_slice(&own[c * rest.len()..(c + 1) * rest.len()]);
                    }
                    let mut context = contexts[c * hidden..(c + 1) * hidden].to_vec();
                    self.pool_members(embedded, c, &mut context, z, h2);
                }
                let projected = &projected[c * read..(c + 1) * read];
                for (z, x) in z[pooled..].iter_mut().zip(projected) {
                    *z = x.max(0.0);
                }
            }
            let targets = matches!(tower.target, TowerTarget::Member(_))
                .then(|| tensor(targets, row_width).unsqueeze_dim(1));
            outputs.extend(host(tower.read(tensor(z, pooled + read), targets, None)));
        }
        outputs
    }

    /// Adds the members' parts to the context of coalition `c`, pools the members into `z`, and
    /// writes h2 of the asked row to `target`.
    fn pool_members(
        &self,
        embedded: &[EmbeddedCoalitions<'_>],
        c: usize,
        context: &mut [f32],
        z: &mut [f32],
        target: &mut [f32],
    ) {
        let hidden = context.len();
        for members in embedded {
            let part = members.table.parts.of[c];
            let added = &members.context[part * hidden..(part + 1) * hidden];
            for (x, y) in context.iter_mut().zip(added) {
                *x += y;
            }
        }
        for (members, z) in embedded.iter().zip(z.chunks_exact_mut(3 * hidden)) {
            members.pool(members.table.parts.of[c], context, z);
        }
        if let Some((table, _)) = self.asked {
            let members = &embedded[table];
            let state = members.table.asked[members.table.parts.of[c]];
            let h1 = members.h1(state, hidden);
            for ((to, x), y) in target.iter_mut().zip(h1).zip(context.iter()) {
                *to = (x + y).max(0.0);
            }
        }
    }

    /// The members of table `t` in the parts of some coalitions.
    ///
    /// # Shapes
    /// - `context`: weights of the context that meet the table's pools, `[3 · hidden, hidden]`
    fn embed<'p>(
        &self,
        t: usize,
        encoder: &MemberEncoder,
        context: Tensor<2>,
        table: &'p TableParts,
    ) -> EmbeddedCoalitions<'p> {
        let hidden = self.fitted.config.trunk.member_hidden;
        let mut first = Vec::new();
        for (row, states) in self.members[t].iter().zip(&table.rows) {
            let joined = row.joined(&states.distinct);
            let weights = encoder.first.weight.val();
            first.extend(host(row.through(&joined, weights, &encoder.first)));
        }
        let second = |x: Tensor<2>| relu(encoder.second.forward(relu(x)));
        let mut embedded = EmbeddedCoalitions {
            table,
            h1: by_rows(&first, hidden, second),
            context: Vec::new(),
        };
        let parts = table.parts.distinct.len();
        let mut pools = vec![0.0; parts * 3 * hidden];
        let nothing = vec![0.0; hidden];
        for (part, pools) in pools.chunks_exact_mut(3 * hidden).enumerate() {
            embedded.pool(part, &nothing, pools);
        }
        embedded.context = by_rows(&pools, 3 * hidden, |x| x.matmul(context.clone()));
        embedded
    }
}

/// Some rows of a layer's weights: those that some of its inputs meet.
fn weights(linear: &Linear, inputs: Range<usize>) -> Tensor<2> {
    let weight = linear.weight.val();
    let [_, outputs] = weight.dims();
    weight.slice([inputs, 0..outputs])
}

/// Applies a function of rows to many of them, some at a time.
fn by_rows(values: &[f32], width: usize, of: impl Fn(Tensor<2>) -> Tensor<2>) -> Vec<f32> {
    values
        .chunks(ROWS * width)
        .flat_map(|rows| host(of(tensor(rows.to_vec(), width))))
        .collect()
}

pub(super) fn tensor(values: Vec<f32>, width: usize) -> Tensor<2> {
    let rows = values.len() / width.max(1);
    Tensor::from_data(TensorData::new(values, [rows, width]), &Device::flex())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("networks compute f32 in host memory")
}

#[cfg(test)]
mod tests {
    use leadpulse_features::{Absent, FeatureBatch, MemberBlock};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell, untrained};

    /// The definition: rows that do not exist are taken out, the columns of every group outside of
    /// the coalition are replaced, and the raw cell is scored. An asked row that does not exist
    /// stays beyond the rows that the cell is pooled over.
    fn by_masking(game: &Game<'_>, cell: &FeatureBatch, row: usize, coalition: Coalition) -> f64 {
        let (layout, normaliser) = (&game.fitted.layout, &game.fitted.normaliser);
        let mut cell = cell.clone();
        let mask = |row: &mut [f32], columns: &[Column], scales: &Scales| {
            for ((x, column), mean) in row.iter_mut().zip(columns).zip(&scales.mean) {
                if game.players[column.group].is_some_and(|player| coalition >> player & 1 == 0) {
                    *x = match column.absent {
                        Absent::Zero => 0.0,
                        Absent::Mean => *mean,
                    };
                }
            }
        };
        mask(&mut cell.root, &layout.root, &normaliser.root);
        let mut asked = row;
        for (table, block) in cell.members.iter_mut().enumerate() {
            let (columns, scales) = (&layout.members[table].columns, &normaliser.members[table]);
            let mut kept: Vec<usize> = game.presence.rows(table, coalition).collect();
            let attended = kept.len() as u32;
            if game.asked.is_some_and(|(asked, _)| asked == table) {
                asked = kept
                    .iter()
                    .position(|kept| *kept == row)
                    .unwrap_or_else(|| {
                        kept.push(row);
                        kept.len() - 1
                    });
            }
            let mut values = Vec::new();
            for row in &kept {
                let start = values.len();
                values.extend_from_slice(&block.values[row * block.width..(row + 1) * block.width]);
                mask(&mut values[start..], columns, scales);
            }
            *block = MemberBlock {
                slots: kept.len(),
                width: block.width,
                values,
                mask: vec![1.0; kept.len()],
                entities: Vec::new(),
                attended: vec![attended],
                folded: vec![0],
            };
        }
        game.fitted.chunk_logits(cell, 1, game.task)[asked]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn coalitions_are_worth_what_masking_their_columns_gives(
            seed: u64,
            root in 1usize..60,
            members in prop::collection::vec(1usize..40, 0..3),
            zeros_ratio in 0.0f64..1.0,
        ) {
            let layout = layout(root, &members);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let fitted = untrained(&layout, &mut rng);
            let mut cell: OwnedCell = random_cell(&layout, 9, &mut rng);
            // Some rows then lack some groups.
            for x in std::iter::once(&mut cell.0).chain(cell.1.iter_mut().flatten()).flatten() {
                *x *= f32::from(u8::from(!rng.random_bool(zeros_ratio)));
            }
            let mut raw = batch_of_owned(&layout, std::slice::from_ref(&cell));
            // Some members are beyond those that are attended to.
            for block in &mut raw.members {
                block.attended[0] = rng.random_range(0..=block.attended[0]);
            }
            for task in 0..fitted.tasks.len() {
                let rows = match fitted.config.towers[task].target {
                    TowerTarget::Root => 1,
                    TowerTarget::Member(table) => cell.1[table].len(),
                };
                for row in 0..rows {
                    let game = Game::new(&fitted, &raw, task, row);
                    let everyone: Coalition = (1 << game.players()) - 1;
                    // All, none, each alone, each left out, and some that repeat.
                    let mut coalitions = vec![everyone, 0];
                    for player in 0..game.players() {
                        coalitions.extend([1 << player, everyone ^ (1 << player)]);
                    }
                    coalitions.extend((0..150).map(|_| rng.random_range(0..=everyone)));
                    let values = game.logits(&coalitions);
                    for (coalition, value) in coalitions.iter().zip(values) {
                        let expected = by_masking(&game, &raw, row, *coalition);
                        prop_assert!(
                            (value - expected).abs() < 1e-4,
                            "task {task}, row {row}, {coalition:b}: {value} for {expected}"
                        );
                    }
                }
            }
        }
    }
}
