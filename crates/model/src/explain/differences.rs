//! One row of a cell as a sum over the groups that change it.
//!
//! Every layer that reads columns is linear, so what each group adds to absence is projected once
//! per network, and the first layer of a coalition S is a sum of projections:
//!
//! ```text
//! W x_S + b = (W absent + b) + Σ_{g ∈ S} W (x − absent)_g
//! ```

use burn::nn::Linear;
use burn::tensor::Tensor;
use leadpulse_features::Column;

use crate::examples::normalise::Scales;
use crate::explain::coalitions::{Coalition, tensor};

/// One normalised row: the columns without any player, and the change by each player.
pub(super) struct Differences {
    /// The players that change the row, ascending.
    players: Vec<u32>,
    /// `[1 + players, width]`: absence, then player by player the change.
    values: Tensor<2>,
}

impl Differences {
    /// `row` is normalised. Every group with a change in it must be a player.
    pub fn new(
        columns: &[Column],
        scales: &Scales,
        row: &[f32],
        player_of: &[Option<u32>],
    ) -> Self {
        let changes = columns.iter().zip(&scales.absent).zip(row);
        let changes = changes.map(|((column, absent), x)| {
            let player = || player_of[column.group].expect("a group with a change is a player");
            (absent != x).then(|| (player(), x - absent))
        });
        let changes: Vec<Option<(u32, f32)>> = changes.collect();
        let mut players: Vec<u32> = changes
            .iter()
            .flatten()
            .map(|(player, _)| *player)
            .collect();
        players.sort_unstable();
        players.dedup();
        let width = columns.len();
        let mut values = vec![0.0; (1 + players.len()) * width];
        values[..width].copy_from_slice(&scales.absent);
        for (i, change) in changes.iter().enumerate() {
            if let Some((player, added)) = change {
                let at = players.binary_search(player);
                let at = at.expect("players were collected from these changes");
                values[(1 + at) * width + i] = *added;
            }
        }
        Self {
            players,
            values: tensor(values, width),
        }
    }

    /// The players that change the row.
    pub fn changed(&self) -> Coalition {
        self.players
            .iter()
            .fold(0, |bits, player| bits | 1 << player)
    }

    /// `[coalitions, 1 + players]`: 1, and 1 for each of the row's players in the coalition.
    pub fn joined(&self, coalitions: &[Coalition]) -> Tensor<2> {
        let mut joined = Vec::with_capacity(coalitions.len() * (1 + self.players.len()));
        for coalition in coalitions {
            joined.push(1.0);
            let players = self.players.iter();
            joined.extend(players.map(|player| f32::from((coalition >> player & 1) as u8)));
        }
        tensor(joined, 1 + self.players.len())
    }

    /// The row through the weights of `layer` that meet it, in the coalitions of
    /// [`Self::joined`], with the layer's bias.
    ///
    /// # Shapes
    /// - `joined`: `[coalitions, 1 + players]`, `weights`: `[width, outputs]`
    /// - output: `[coalitions, outputs]`
    pub fn through(&self, joined: &Tensor<2>, weights: Tensor<2>, layer: &Linear) -> Tensor<2> {
        let rows = joined.clone().matmul(self.values.clone().matmul(weights));
        match &layer.bias {
            Some(bias) => rows + bias.val().unsqueeze(),
            None => rows,
        }
    }
}
