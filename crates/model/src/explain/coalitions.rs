//! Values of coalitions: the logits of a cell in which only some groups of columns are present.
//!
//! A group that is absent has its columns at what stands for absence. Every layer that reads
//! columns is linear, so what each group adds to absence is projected once per network, and the
//! first layer of a coalition S is a sum of projections:
//!
//! ```text
//! W x_S + b = (W absent + b) + Σ_{g ∈ S} W (x − absent)_g
//! ```
//!
//! The members of a table see only the groups that change one of its rows, and exist by those
//! groups alone ([`super::presence`]), so coalitions that do not differ in those share h1 and its
//! pools. From there on everything is as in
//! [`crate::network`]. Members are summed in another order than when scoring: values agree to
//! rounding, not bit for bit.

use std::ops::Range;

use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use leadpulse_features::{Column, FeatureBatch};

use crate::examples::normalise::Scales;
use crate::explain::presence::Presence;
use crate::explain::tree_game::TreeGame;
use crate::fit::Fitted;
use crate::network::{Network, TowerTarget, pool_rows};
use crate::trees::columns::GridCell;

/// Rows per product of matrices: they stay in the cache of one core, and the product on one thread.
const ROWS: usize = 128;
/// The most groups that can be explained, because coalitions are bits of a word.
pub(crate) const MOST_GROUPS: usize = 64;

/// A set of players, a bit each.
pub(crate) type Coalition = u64;

/// The rows of one kind in a cell: what they are without any player, and what each player adds.
struct Differences {
    rows: usize,
    width: usize,
    /// The players that change one of these rows, ascending.
    players: Vec<u32>,
    /// Per row the players that change it.
    changed: Vec<Coalition>,
    /// `[1 + players · rows, width]`: absence, then player by player what it adds to each row.
    values: Vec<f32>,
}

/// One row of output of one cell, whose groups can be taken out.
pub(crate) struct Game<'a> {
    fitted: &'a Fitted,
    task: usize,
    row: usize,
    /// Per group of the layout the player that it is; none where it is as if absent.
    players: Vec<Option<u32>>,
    root: Differences,
    members: Vec<Differences>,
    presence: Presence,
    trees: Option<TreeGame<'a>>,
}

/// Coalitions as some players tell them apart.
struct Parts {
    distinct: Vec<Coalition>,
    /// Per coalition its index in `distinct`.
    of: Vec<usize>,
}

impl Parts {
    fn new(coalitions: &[Coalition], players: &[u32]) -> Self {
        let seen: Coalition = players.iter().map(|player| 1 << player).sum();
        let mut distinct: Vec<Coalition> = coalitions.iter().map(|c| c & seen).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let of = coalitions
            .iter()
            .map(|c| {
                distinct
                    .binary_search(&(c & seen))
                    .expect("it was collected from these")
            })
            .collect();
        Self { distinct, of }
    }
}

impl Differences {
    fn new(
        columns: &[Column],
        scales: &Scales,
        rows: &[&[f32]],
        player_of: &[Option<u32>],
    ) -> Self {
        let changes = |row: &[f32]| {
            let changed = columns
                .iter()
                .zip(&scales.absent)
                .zip(row)
                .filter(|((_, absent), x)| *absent != *x);
            changed
                .map(|((column, _), _)| {
                    player_of[column.group].expect("a group with a change is a player")
                })
                .collect::<Vec<u32>>()
        };
        let by_row: Vec<Vec<u32>> = rows.iter().map(|row| changes(row)).collect();
        let mut players: Vec<u32> = by_row.iter().flatten().copied().collect();
        players.sort_unstable();
        players.dedup();
        let bits = |players: &Vec<u32>| players.iter().fold(0, |bits, player| bits | 1 << player);
        let changed: Vec<Coalition> = by_row.iter().map(bits).collect();
        let width = columns.len();
        let mut values = vec![0.0; (1 + rows.len() * players.len()) * width];
        values[..width].copy_from_slice(&scales.absent);
        let places: Vec<Option<usize>> = columns
            .iter()
            .map(|c| player_of[c.group].and_then(|player| players.binary_search(&player).ok()))
            .collect();
        for (r, row) in rows.iter().enumerate() {
            for (i, place) in places.iter().enumerate() {
                if let Some(place) = place {
                    values[(1 + place * rows.len() + r) * width + i] = row[i] - scales.absent[i];
                }
            }
        }
        Self {
            rows: rows.len(),
            width,
            players,
            changed,
            values,
        }
    }

    fn tensor(&self) -> Tensor<2> {
        tensor(self.values.clone(), self.width)
    }

    /// `[coalitions, 1 + players]`: 1, and 1 for each of these players that is in it.
    fn joined(&self, coalitions: &[Coalition]) -> Tensor<2> {
        let mut joined = Vec::with_capacity(coalitions.len() * (1 + self.players.len()));
        for coalition in coalitions {
            joined.push(1.0);
            joined.extend(
                self.players
                    .iter()
                    .map(|player| f32::from((coalition >> player & 1) as u8)),
            );
        }
        tensor(joined, 1 + self.players.len())
    }

    /// The factor of [`Self::joined`] that gives the first layer of all rows, `[1 + players, rows ·
    /// outputs]`. `projected` are the values through the weights of `layer`.
    fn terms(&self, projected: Tensor<2>, layer: &Linear) -> Tensor<2> {
        let [_, outputs] = projected.dims();
        let mut projected = host(projected);
        let added = projected.split_off(outputs);
        if let Some(bias) = &layer.bias {
            projected
                .iter_mut()
                .zip(host(bias.val()))
                .for_each(|(x, b)| *x += b);
        }
        let mut terms = projected.repeat(self.rows);
        terms.extend(added);
        tensor(terms, self.rows * outputs)
    }
}

/// Members of one table in each distinct part of the coalitions.
struct EmbeddedCoalitions {
    /// h1 of the rows that exist, part after part: `[rows, hidden]` each.
    h1: Vec<f32>,
    /// Per part where its h1 starts, and the end of the last.
    starts: Vec<usize>,
    /// The part of the context that their pools add: `[distinct, hidden]`.
    context: Vec<f32>,
}

impl EmbeddedCoalitions {
    fn h1(&self, part: usize) -> &[f32] {
        &self.h1[self.starts[part]..self.starts[part + 1]]
    }
}

impl<'a> Game<'a> {
    /// `raw` is one cell as it was encoded; `row` is its output row.
    pub fn new(fitted: &'a Fitted, raw: &FeatureBatch, task: usize, row: usize) -> Self {
        let (layout, normaliser) = (&fitted.layout, &fitted.normaliser);
        let trees = TreeGame::new(fitted, &GridCell::new(raw, 0), task, row);
        let mut cell = raw.clone();
        normaliser.apply(&mut cell);
        let members: Vec<Vec<&[f32]>> = cell
            .members
            .iter()
            .map(|b| {
                b.values
                    .chunks_exact(b.width.max(1))
                    .zip(&b.mask)
                    .filter(|(_, m)| **m != 0.0)
                    .map(|(row, _)| row)
                    .collect()
            })
            .collect();
        let mut present = vec![false; layout.groups.len()];
        let mut mark = |columns: &[Column], scales: &Scales, row: &[f32]| {
            for ((column, absent), x) in columns.iter().zip(&scales.absent).zip(row) {
                present[column.group] |= x != absent;
            }
        };
        mark(&layout.root, &normaliser.root, &cell.root);
        for ((rows, member), scales) in members.iter().zip(&layout.members).zip(&normaliser.members)
        {
            rows.iter()
                .for_each(|row| mark(&member.columns, scales, row));
        }
        // A difference may be in one member's view only: networks clip, trees have a grid.
        for group in trees.iter().flat_map(TreeGame::groups) {
            present[group] = true;
        }
        let mut next = 0..;
        let players: Vec<Option<u32>> = present
            .iter()
            .map(|present| if *present { next.next() } else { None })
            .collect();
        let root = Differences::new(&layout.root, &normaliser.root, &[&cell.root], &players);
        let members = members.iter().zip(&layout.members).zip(&normaliser.members);
        let members: Vec<Differences> = members
            .map(|((rows, member), scales)| {
                Differences::new(&member.columns, scales, rows, &players)
            })
            .collect();
        let presence = Presence {
            changed: members
                .iter()
                .map(|member| member.changed.clone())
                .collect(),
            asked: match fitted.config.towers[task].target {
                TowerTarget::Root => None,
                TowerTarget::Member(table) => Some((table, row)),
            },
        };
        Self {
            fitted,
            task,
            row,
            players,
            root,
            members,
            presence,
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
        let parts: Vec<Parts> = self
            .members
            .iter()
            .map(|member| Parts::new(coalitions, &member.players))
            .collect();
        let mut sums = vec![0.0; coalitions.len()];
        for network in &self.fitted.networks {
            let outputs = self.outputs(network, coalitions, &parts);
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
    fn outputs(&self, network: &Network, coalitions: &[Coalition], parts: &[Parts]) -> Vec<f32> {
        let (trunk, tower) = (&network.trunk, &network.towers[self.task]);
        let hidden = self.fitted.config.trunk.member_hidden;
        let pools = 3 * hidden;
        let (root, joined) = (self.root.tensor(), self.root.joined(coalitions));
        let through = |linear: &Linear, weights: Tensor<2>| {
            let terms = self.root.terms(root.clone().matmul(weights), linear);
            host(joined.clone().matmul(terms))
        };
        let projected = through(&tower.project, tower.project.weight.val());
        let direct = tower
            .direct
            .as_ref()
            .map(|direct| through(direct, direct.weight.val()));
        let (embedded, root_context) = match &trunk.context {
            None => (Vec::new(), Vec::new()),
            Some(context) => {
                let embedded: Vec<EmbeddedCoalitions> = (0..self.members.len())
                    .map(|t| {
                        self.embed(
                            t,
                            &trunk.encoders[t].first,
                            &trunk.encoders[t].second,
                            context,
                            &parts[t].distinct,
                        )
                    })
                    .collect();
                let from = pools * self.members.len();
                (
                    embedded,
                    through(context, weights(context, from..from + self.root.width)),
                )
            }
        };
        let (pooled, read) = (
            pools * embedded.len(),
            projected.len() / coalitions.len().max(1),
        );
        let mut outputs = Vec::new();
        for start in (0..coalitions.len()).step_by(ROWS) {
            let chunk = start..coalitions.len().min(start + ROWS);
            let mut z = vec![0.0; chunk.len() * (pooled + read)];
            // h2 of the target, where it is a member; a row that is not there is 0, as padding is.
            let mut targets = vec![0.0; chunk.len() * hidden];
            let mut context = Vec::new();
            for (i, c) in chunk.clone().enumerate() {
                let z = &mut z[i * (pooled + read)..(i + 1) * (pooled + read)];
                if !embedded.is_empty() {
                    let mut target = (self.member_target(tower.target))
                        .map(|table| (table, &mut targets[i * hidden..(i + 1) * hidden]));
                    context.clear();
                    context.extend_from_slice(&root_context[c * hidden..(c + 1) * hidden]);
                    self.pool_members(&embedded, parts, c, &mut context, z, &mut target);
                }
                z[pooled..]
                    .iter_mut()
                    .zip(&projected[c * read..])
                    .for_each(|(z, x)| *z = x.max(0.0));
            }
            let targets = matches!(tower.target, TowerTarget::Member(_))
                .then(|| tensor(targets, hidden).unsqueeze_dim(1));
            outputs.extend(host(tower.read(tensor(z, pooled + read), targets, None)));
        }
        if let Some(direct) = direct {
            outputs.iter_mut().zip(direct).for_each(|(x, y)| *x += y);
        }
        outputs
    }

    /// The member table of the row to explain, if the row is a member that is there.
    fn member_target(&self, target: TowerTarget) -> Option<usize> {
        match target {
            TowerTarget::Member(table) if self.row < self.members[table].rows => Some(table),
            _ => None,
        }
    }

    /// Adds the members' parts to the context of coalition `c`, pools the members into `z`, and
    /// writes h2 of the row to explain, if it is a member, to the target.
    fn pool_members(
        &self,
        embedded: &[EmbeddedCoalitions],
        parts: &[Parts],
        c: usize,
        context: &mut [f32],
        z: &mut [f32],
        target: &mut Option<(usize, &mut [f32])>,
    ) {
        let hidden = context.len();
        let pools = 3 * hidden;
        for (table, parts) in embedded.iter().zip(parts) {
            let part = parts.of[c];
            let added = &table.context[part * hidden..(part + 1) * hidden];
            for (x, y) in context.iter_mut().zip(added) {
                *x += y;
            }
        }
        for (t, (table, parts)) in embedded.iter().zip(parts).enumerate() {
            let part = parts.of[c];
            let h1 = table.h1(part);
            pool_rows(h1, context, &mut z[t * pools..(t + 1) * pools]);
            if let Some((_, h2)) = target.as_mut().filter(|(table, _)| *table == t) {
                let rows = self.presence.rows(t, parts.distinct[part]);
                let asked = rows.take_while(|row| *row < self.row).count();
                let h1 = &h1[asked * hidden..(asked + 1) * hidden];
                for ((to, x), y) in h2.iter_mut().zip(h1).zip(context.iter()) {
                    *to = (x + y).max(0.0);
                }
            }
        }
    }

    /// The members of table `t` in these coalitions.
    fn embed(
        &self,
        t: usize,
        first: &Linear,
        second: &Linear,
        context: &Linear,
        coalitions: &[Coalition],
    ) -> EmbeddedCoalitions {
        let hidden = self.fitted.config.trunk.member_hidden;
        let member = &self.members[t];
        if member.rows == 0 {
            return EmbeddedCoalitions {
                h1: Vec::new(),
                starts: vec![0; coalitions.len() + 1],
                context: vec![0.0; coalitions.len() * hidden],
            };
        }
        let terms = member.terms(member.tensor().matmul(first.weight.val()), first);
        let mut h1 = Vec::with_capacity(coalitions.len() * member.rows * hidden);
        let mut starts = vec![0];
        for some in coalitions.chunks((ROWS / member.rows).max(1)) {
            let x = relu(member.joined(some).matmul(terms.clone()))
                .reshape([some.len() * member.rows, hidden]);
            let rows = host(relu(second.forward(x)));
            for (coalition, rows) in some.iter().zip(rows.chunks_exact(member.rows * hidden)) {
                for row in self.presence.rows(t, *coalition) {
                    h1.extend_from_slice(&rows[row * hidden..(row + 1) * hidden]);
                }
                starts.push(h1.len());
            }
        }
        let mut pools = vec![0.0; coalitions.len() * 3 * hidden];
        let nothing = vec![0.0; hidden];
        for (part, pools) in starts.windows(2).zip(pools.chunks_exact_mut(3 * hidden)) {
            pool_rows(&h1[part[0]..part[1]], &nothing, pools);
        }
        let weights = weights(context, t * 3 * hidden..(t + 1) * 3 * hidden);
        let context = by_rows(&pools, 3 * hidden, |x| x.matmul(weights.clone()));
        EmbeddedCoalitions {
            h1,
            starts,
            context,
        }
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

fn tensor(values: Vec<f32>, width: usize) -> Tensor<2> {
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
    /// the coalition are replaced, and the raw cell is scored.
    fn by_masking(game: &Game<'_>, cell: &FeatureBatch, coalition: Coalition) -> f64 {
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
        let mut row = game.row;
        for (table, block) in cell.members.iter_mut().enumerate() {
            let (columns, scales) = (&layout.members[table].columns, &normaliser.members[table]);
            let kept: Vec<usize> = game.presence.rows(table, coalition).collect();
            if game.member_target(game.fitted.config.towers[game.task].target) == Some(table) {
                row = kept.iter().position(|kept| *kept == game.row).unwrap();
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
            };
        }
        game.fitted.chunk_logits(cell, 1, game.task)[row]
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
            let raw = batch_of_owned(&layout, std::slice::from_ref(&cell));
            for task in 0..fitted.tasks.len() {
                for row in 0..if task == 0 { 1 } else { cell.1[task - 1].len() } {
                    let game = Game::new(&fitted, &raw, task, row);
                    let everyone: Coalition = (1 << game.players()) - 1;
                    // All, none, each alone, each left out, and some that repeat.
                    let mut coalitions = vec![everyone, 0];
                    coalitions.extend((0..game.players()).flat_map(|player| [1 << player, everyone ^ (1 << player)]));
                    coalitions.extend((0..150).map(|_| rng.random_range(0..=everyone)));
                    let values = game.logits(&coalitions);
                    for (coalition, value) in coalitions.iter().zip(values) {
                        let expected = by_masking(&game, &raw, *coalition);
                        prop_assert!((value - expected).abs() < 1e-4, "task {task}, row {row}, {coalition:b}: {value} for {expected}");
                    }
                }
            }
        }
    }
}
