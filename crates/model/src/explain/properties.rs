//! The rules of the game over random cells. Each has a planted fault that its check finds.

use leadpulse_features::{Absent, Column, FeatureBatch, Layout};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::examples::normalise::Scales;
use crate::explain::coalitions::{Coalition, Game};
use crate::explain::everyone;
use crate::fit::Fitted;
use crate::network::TowerTarget;
use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell, untrained};

/// Random worlds that each check goes over.
const WORLDS: u64 = 12;
/// Values of coalitions agree to the rounding of sums.
const ROUNDING: f64 = 1e-4;

/// Some cells of one layout, and networks and trees over them.
struct World {
    layout: Layout,
    fitted: Fitted,
    batch: FeatureBatch,
    rng: ChaCha8Rng,
}

impl World {
    fn new(seed: u64, edit: impl Fn(&mut ChaCha8Rng, &mut OwnedCell)) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layout = layout(14, &[9, 5]);
        let fitted = untrained(&layout, &mut rng);
        let mut cells: Vec<OwnedCell> = (0..8).map(|i| random_cell(&layout, i, &mut rng)).collect();
        cells.iter_mut().for_each(|cell| edit(&mut rng, cell));
        let mut batch = batch_of_owned(&layout, &cells);
        for attended in batch.members.iter_mut().flat_map(|m| &mut m.attended) {
            *attended -= rng.random_range(0..=*attended / 2);
        }
        Self {
            layout,
            fitted,
            batch,
            rng,
        }
    }

    /// The games and published logits of every row of a task.
    fn games(&self, task: usize) -> Vec<(Game<'_>, f64)> {
        let logits = self.fitted.logits(&self.batch, task);
        let rows = logits.len() / self.batch.cells;
        let there = logits.iter().enumerate().filter(|(_, z)| z.is_finite());
        there
            .map(|(i, _)| self.fitted.game(&self.batch, task, i / rows, i % rows))
            .collect()
    }

    /// The player of the group that the existence of a table's rows belongs to.
    fn existence(&self, game: &Game<'_>, table: usize) -> Coalition {
        let player = game.player_of()[self.layout.members[table].existence];
        player.map_or(0, |player| 1 << player)
    }
}

/// Zeroes some of a cell's columns, so that rows lack groups, and some rows lack all.
fn sparse(rng: &mut ChaCha8Rng, cell: &mut OwnedCell) {
    let (root, tables) = cell;
    for row in std::iter::once(root).chain(tables.iter_mut().flatten()) {
        let zeros_ratio = f64::from(rng.random_range(0..=4u8)) / 4.0;
        for x in row.iter_mut() {
            *x *= f32::from(u8::from(!rng.random_bool(zeros_ratio)));
        }
    }
}

/// What stands for the absence of every column of a raw row.
fn absent_row(columns: &[Column], scales: &Scales) -> Vec<f32> {
    let columns = columns.iter().zip(&scales.mean);
    let absent = columns.map(|(column, mean)| match column.absent {
        Absent::Zero => 0.0,
        Absent::Mean => *mean,
    });
    absent.collect()
}

/// True if a check fails in some world whose games were tampered with.
fn finds(check: impl Fn(&mut World) -> bool) -> bool {
    (0..WORLDS).any(|seed| !check(&mut World::new(seed, sparse)))
}

/// True if the coalition of everyone is worth the published logit, and base and contributions sum
/// to it.
fn is_complete(world: &mut World, tamper: impl Fn(&mut Game<'_>)) -> bool {
    (0..world.fitted.tasks.len()).all(|task| {
        world.games(task).into_iter().all(|(mut game, logit)| {
            tamper(&mut game);
            let value = game.logits(&[everyone(game.players())])[0];
            let (base, contributions) = game.shapley(logit);
            let sum = base + contributions.iter().sum::<f64>();
            (value - logit).abs() < ROUNDING && (sum - logit).abs() < 1e-9
        })
    })
}

#[test]
fn base_and_contributions_are_the_logit() {
    assert!(!finds(|world| is_complete(world, |_| ())));
    // Rows that no group brings are missing from the whole.
    let lost = |game: &mut Game<'_>| {
        let rows = game.presence.brought_by.iter_mut().flatten();
        rows.take(1).for_each(|by| *by = 0);
    };
    assert!(finds(|world| is_complete(world, lost)));
}

/// True if a coalition is worth the same for every row of each task.
fn is_one_base(world: &mut World, of: impl Fn(&World, &Game<'_>) -> Coalition) -> bool {
    (0..world.fitted.tasks.len()).all(|task| {
        let games = world.games(task);
        let values = games
            .iter()
            .map(|(game, _)| game.logits(&[of(world, game)])[0]);
        let values: Vec<f64> = values.collect();
        values.iter().all(|v| (v - values[0]).abs() < ROUNDING)
    })
}

#[test]
fn the_base_is_the_same_for_every_row_of_a_task() {
    assert!(!finds(|world| is_one_base(world, |_, _| 0)));
    // A base in which the rows of a table stay differs with their number.
    let staying = |world: &World, game: &Game<'_>| world.existence(game, 0);
    assert!(finds(|world| is_one_base(world, staying)));
}

/// True if rows that are nothing but absence change the logit, by contributions of existence alone.
fn is_number_attributed(world: &mut World, tamper: impl Fn(&mut Game<'_>)) -> bool {
    world.games(0).into_iter().all(|(mut game, logit)| {
        tamper(&mut game);
        let rows = game.presence.brought_by.iter().flatten().count();
        let counted: Coalition = world.existence(&game, 0) | world.existence(&game, 1);
        let values = game.logits(&[0, counted]);
        let moves = (values[0] - values[1]).abs() > ROUNDING;
        let contributions = game.shapley(logit).1.into_iter().enumerate();
        let mut others = contributions.filter(|(player, _)| counted >> player & 1 == 0);
        others.all(|(_, value)| value == 0.0) && (rows == 0 || moves)
    })
}

#[test]
fn the_number_of_rows_is_attributed_to_their_existence() {
    let check = |tamper: fn(&mut Game<'_>)| {
        (0..WORLDS).all(|seed| {
            let mut world = World::new(seed, |_, _| ());
            let normaliser = &world.fitted.normaliser;
            let absent = absent_row(&world.layout.root, &normaliser.root);
            for root in world.batch.root.chunks_exact_mut(absent.len()) {
                root.copy_from_slice(&absent);
            }
            let members = world.layout.members.iter().zip(&normaliser.members);
            for (block, (member, scales)) in world.batch.members.iter_mut().zip(members) {
                let absent = absent_row(&member.columns, scales);
                for row in block.values.chunks_exact_mut(block.width) {
                    row.copy_from_slice(&absent);
                }
            }
            is_number_attributed(&mut world, tamper)
        })
    };
    assert!(check(|_| ()));
    // Rows that come without anyone are in the base, and attributed to nobody.
    assert!(!check(|game| {
        game.presence
            .brought_by
            .iter_mut()
            .flatten()
            .for_each(|by| *by = 0);
    }));
}

/// True if a lone row with one changed group is worth the same with and without existence.
fn does_count_alone(world: &mut World, tamper: impl Fn(&World, &mut Game<'_>)) -> bool {
    let columns = &world.layout.members[0].columns;
    let mut row = absent_row(columns, &world.fitted.normaliser.members[0]);
    let at = world.rng.random_range(0..columns.len());
    let group = columns[at].group;
    row[at] += 1.5;
    let root = absent_row(&world.layout.root, &world.fitted.normaliser.root);
    let cell: OwnedCell = (root, vec![vec![row], vec![]]);
    world.batch = batch_of_owned(&world.layout, &[cell]);
    (0..2).all(|task| {
        let mut games = world.games(task);
        let (game, _) = &mut games[0];
        tamper(world, game);
        let player = game.player_of()[group].expect("the changed group is a player");
        let alone: Coalition = 1 << player;
        let values = game.logits(&[alone, alone | world.existence(game, 0)]);
        (values[0] - values[1]).abs() < ROUNDING
    })
}

#[test]
fn the_request_of_a_lone_lead_counts_alone() {
    assert!(!finds(|world| does_count_alone(world, |_, _| ())));
    // A row that only existence brings takes its request along.
    let existence_only = |world: &World, game: &mut Game<'_>| {
        game.presence.brought_by[0][0] = world.existence(game, 0);
    };
    assert!(finds(|world| does_count_alone(world, existence_only)));
}

#[test]
fn rows_beyond_those_attended_to_have_the_base_of_all() {
    let mut beyond = 0;
    for seed in 0..WORLDS {
        let mut world = World::new(seed, sparse);
        for (task, table) in [(1, 0), (2, 1)] {
            assert_eq!(
                world.fitted.config.towers[task].target,
                TowerTarget::Member(table)
            );
            let block = &world.batch.members[table];
            let rows = block
                .mask
                .iter()
                .enumerate()
                .filter(|(_, mask)| **mask != 0.0);
            beyond += rows
                .filter(|(i, _)| i % block.slots >= block.attended[i / block.slots] as usize)
                .count();
        }
        assert!(is_one_base(&mut world, |_, _| 0), "world {seed}");
        assert!(is_complete(&mut world, |_| ()), "world {seed}");
    }
    assert!(beyond > 20, "{beyond} rows beyond");
}
