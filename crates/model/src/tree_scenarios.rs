//! Whole fits with boosted trees beside the networks, small.

use leadpulse_features::Layout;
use leadpulse_graph::EntityId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::network::TowerTarget;
use crate::network::head::{Head, Outcome};
use crate::testing::{OwnedCell, ROOT, batch_of_owned, layout, one_set, random_cell, task};
use crate::trees::columns::{GridCell, TreeColumn};
use crate::{ExampleSet, FitError, FitOptions, Fitted, Regularisation, TreeOptions, fit};

fn options() -> FitOptions {
    FitOptions {
        candidates: vec![Regularisation {
            hidden: 16,
            ..Regularisation::default()
        }],
        ensemble: 1,
        max_epochs: 2,
        batch_size: 64,
        seed: 3,
        trees: TreeOptions {
            rounds: 60,
            learning_rate: 0.2,
            ..TreeOptions::default()
        },
        ..FitOptions::default()
    }
}

fn cells(layout: &Layout, n: usize, seed: u64) -> Vec<OwnedCell> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| random_cell(layout, 5, &mut rng)).collect()
}

fn examples(
    layout: &Layout,
    cells: &[OwnedCell],
    outcome: impl Fn(&OwnedCell) -> Outcome,
) -> ExampleSet {
    one_set(layout, &batch_of_owned(layout, cells), |i| {
        (0, EntityId(i as u32), i as i64, outcome(&cells[i]))
    })
}

/// Bands of the first root column, which a small network does not find in two epochs.
fn banded(cell: &OwnedCell) -> Outcome {
    Outcome::Window((cell.0[0] * 3.0).floor() as i64 % 2 == 0)
}

/// A fit on cells of two seeds, with a refit on both.
fn fitted(
    layout: &Layout,
    rows: usize,
    outcome: impl Fn(&OwnedCell) -> Outcome + Copy,
    head: Head,
    options: &FitOptions,
) -> Result<Fitted, FitError> {
    let (training, validation) = (cells(layout, rows, 1), cells(layout, 400, 2));
    let everything = [training.clone(), validation.clone()].concat();
    fit(
        &examples(layout, &training, outcome),
        &examples(layout, &validation, outcome),
        Some(&examples(layout, &everything, outcome)),
        task("t", ROOT, head),
        options,
        &mut |_| {},
    )
}

fn members(fitted: &Fitted) -> &Value {
    &fitted.tasks()[0].metrics["members"]
}

#[test]
fn trees_join_where_they_see_more_and_the_manifest_lists_both_members() {
    let layout = layout(2, &[1]);
    let fitted = fitted(&layout, 1200, banded, Head::Window, &options()).unwrap();
    let members = members(&fitted);
    let (nets, trees) = (&members["networks"], &members["trees"]);
    let trees_weight = trees["weight"].as_f64().unwrap();
    assert!(trees_weight > 0.5, "{members}");
    assert_eq!(nets["weight"].as_f64().unwrap(), 1.0 - trees_weight);
    let auroc = |member: &Value| member["validation"]["auroc"].as_f64().unwrap();
    assert!(
        auroc(trees) > 0.95 && auroc(trees) > auroc(nets),
        "{members}"
    );
    let ensemble = &fitted.tasks()[0].metrics["validation"];
    assert!(ensemble["auroc"].as_f64().unwrap() > 0.95, "{ensemble}");
    let kept = fitted.tasks[0].trees.as_ref().unwrap();
    assert_eq!(trees["rounds"], kept.forest.rounds());
    // The trees score: without them the logits are others.
    let batch = batch_of_owned(&layout, &cells(&layout, 20, 9));
    let mut alone = fitted.clone();
    alone.tasks[0].trees = None;
    assert_ne!(alone.logits(&batch, 0), fitted.logits(&batch, 0));
}

#[test]
fn equal_seeds_grow_equal_trees_and_a_refit_grows_them_again() {
    let layout = layout(2, &[1]);
    let fit = |rows| fitted(&layout, rows, banded, Head::Window, &options()).unwrap();
    let (one, two) = (fit(600), fit(600));
    assert_eq!(one.tasks[0], two.tasks[0]);
    let (training, validation) = (cells(&layout, 600, 1), cells(&layout, 400, 2));
    let judged = crate::fit(
        &examples(&layout, &training, banded),
        &examples(&layout, &validation, banded),
        None,
        task("t", ROOT, Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let trees = |fitted: &Fitted| fitted.tasks[0].trees.clone().unwrap();
    let (judged, refitted) = (trees(&judged), trees(&one));
    assert_eq!(judged.weight, refitted.weight);
    assert_eq!(judged.forest.rounds(), refitted.forest.rounds());
    assert_ne!(judged.forest, refitted.forest);
}

#[test]
fn hazards_grow_on_buckets_that_have_closed() {
    // Early where the first column is above 0, late where it is below; half of the rows are so new
    // that only the first bucket has closed.
    let outcome = |cell: &OwnedCell| {
        let happens = cell.0[1] > -1.0;
        let after_ms = if cell.0[0] > 0.0 { 50 } else { 500 };
        let observed_ms = if cell.0[2] > 0.0 { 1000 } else { 100 };
        Outcome::Hazard {
            after_ms: (happens && after_ms <= observed_ms).then_some(after_ms),
            observed_ms,
        }
    };
    let layout = layout(3, &[]);
    let head = Head::hazard(vec![100, 1000]);
    let fitted = fitted(&layout, 1500, outcome, head, &options()).unwrap();
    let forest = &fitted.tasks[0].trees.as_ref().unwrap().forest;
    assert!(forest.columns().contains(&TreeColumn::Bucket));
    let outputs = |root: [f32; 3]| {
        let batch = batch_of_owned(&layout, &[(root.to_vec(), vec![])]);
        let mut numbers = forest.numbers(&GridCell::new(&batch, 0), TowerTarget::Root, 0);
        forest.outputs(&mut numbers)
    };
    let (early, late) = (outputs([1.0, 1.0, 1.0]), outputs([-1.0, 1.0, 1.0]));
    assert!(
        early[0] > 1.0 && late[0] < -1.0 && late[1] > 1.0,
        "{early:?} {late:?}"
    );
    // New rows teach the first bucket too.
    let new = outputs([1.0, 1.0, -1.0]);
    assert!(new[0] > 1.0, "{new:?}");
}

#[test]
fn a_member_task_grows_on_the_asked_members_row() {
    let layout = layout(1, &[2]);
    let with_members = |n: usize, seed: u64| {
        let mut cells = cells(&layout, 3 * n, seed);
        cells.retain(|cell| !cell.1[0].is_empty());
        cells.truncate(n);
        cells
    };
    let set = |cells: &[OwnedCell]| {
        one_set(&layout, &batch_of_owned(&layout, cells), |i| {
            let slot = i % cells[i].1[0].len();
            let held = (cells[i].1[0][slot][1] * 3.0).floor() as i64 % 2 == 0;
            (slot, EntityId(i as u32), 0, Outcome::Window(held))
        })
    };
    let (training, validation) = (with_members(1200, 1), with_members(300, 2));
    let fitted = fit(
        &set(&training),
        &set(&validation),
        None,
        task("t", leadpulse_schema::TableId(1), Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let forest = &fitted.tasks[0].trees.as_ref().unwrap().forest;
    assert!(forest.columns().contains(&TreeColumn::Own(1)));
    let trees = &members(&fitted)["trees"]["validation"];
    assert!(trees["auroc"].as_f64().unwrap() > 0.95, "{trees}");
}

#[test]
fn regressions_grow_trees() {
    let layout = layout(2, &[]);
    let value = |cell: &OwnedCell| {
        Outcome::Value(if (cell.0[0] * 3.0).floor() as i64 % 2 == 0 {
            50.0
        } else {
            2.0
        })
    };
    let fitted = fitted(&layout, 1200, value, Head::Regression, &options()).unwrap();
    let trees = &members(&fitted)["trees"];
    assert!(trees["weight"].as_f64().unwrap() > 0.5, "{trees}");
    assert!(
        trees["validation"]["spearman"].as_f64().unwrap() > 0.8,
        "{trees}"
    );
}

#[test]
fn the_manifest_says_why_there_are_no_trees() {
    let layout = layout(2, &[]);
    let rare = |cell: &OwnedCell| Outcome::Window(cell.0[0] > 1.9);
    let even = |cell: &OwnedCell| Outcome::Window(cell.0[0] > 0.0);
    let reason = |rows: usize, outcome: &dyn Fn(&OwnedCell) -> Outcome, options: FitOptions| {
        let fitted = fitted(&layout, rows, outcome, Head::Window, &options).unwrap();
        assert_eq!(fitted.tasks[0].trees, None);
        assert_eq!(members(&fitted)["networks"]["weight"], 1.0);
        members(&fitted)["trees"]["left_out"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let none = FitOptions {
        trees: TreeOptions {
            rounds: 0,
            ..TreeOptions::default()
        },
        ..options()
    };
    let blind = FitOptions {
        candidates: vec![Regularisation {
            without: vec!["root".into()],
            ..options().candidates[0].clone()
        }],
        ..options()
    };
    for (found, expected) in [
        (reason(200, &even, none), "the options ask for none"),
        (reason(200, &rare, options()), "too few outcomes"),
        (reason(200, &even, blind), "no column varies"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    for (trees, expected) in [
        (
            TreeOptions {
                patience: 0,
                ..TreeOptions::default()
            },
            "`trees.patience`",
        ),
        (
            TreeOptions {
                leaves: 1,
                ..TreeOptions::default()
            },
            "`trees.leaves`",
        ),
        (
            TreeOptions {
                columns_ratio: 0.0,
                ..TreeOptions::default()
            },
            "`trees.columns_ratio`",
        ),
    ] {
        let options = FitOptions { trees, ..options() };
        let error = fitted(&layout, 200, even, Head::Window, &options).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
