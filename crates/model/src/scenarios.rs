//! Whole fits and whole bundles, small.

use std::error::Error;
use std::fs;
use std::path::Path;

use burn::module::Module;
use leadpulse_features::{FeaturePlan, FeatureSpec, Layout, Scorer, probability};
use leadpulse_graph::EntityId;
use leadpulse_schema::TableId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::bundle::manifest::sha256;
use crate::fit::metrics::BinaryMetrics;
use crate::testing::{
    OwnedCell, ROOT, batch_of_owned, layout, one_set, random_cell, task, untrained,
};
use crate::{
    Bundle, BundleError, BundleMeta, Calibration, ExampleSet, FitError, FitOptions, Fitted, Head,
    Manifest, Outcome, Regularisation, TreeOptions, fit, fit_head, fit_with_trunk,
};

fn options() -> FitOptions {
    FitOptions {
        candidates: vec![Regularisation {
            hidden: 32,
            dropout_ratio: 0.1,
            learning_rate: 5e-3,
            members: true,
            ..Regularisation::default()
        }],
        ensemble: 1,
        max_epochs: 8,
        patience: 16,
        batch_size: 64,
        seed: 11,
        // These scenarios are about networks.
        trees: TreeOptions {
            rounds: 0,
            ..TreeOptions::default()
        },
        ..FitOptions::default()
    }
}

/// Examples of random cells, an entity each.
fn examples(
    layout: &Layout,
    cells: &[OwnedCell],
    outcome: impl Fn(&OwnedCell) -> (usize, Outcome),
) -> ExampleSet {
    one_set(layout, &batch_of_owned(layout, cells), |i| {
        let (slot, outcome) = outcome(&cells[i]);
        (slot, EntityId(i as u32), i as i64, outcome)
    })
}

fn auroc(fitted: &Fitted, set: &ExampleSet, index: usize) -> f64 {
    let batch = set.feature_batch(&(0..set.len()).collect::<Vec<_>>());
    let logits = fitted.logits(&batch, index);
    let rows = logits.len() / set.len();
    let of = |i: usize| logits[i * rows + if rows > 1 { set.examples()[i].slot } else { 0 }];
    let p: Vec<f64> = (0..set.len()).map(|i| probability(of(i))).collect();
    let y: Vec<bool> = set
        .examples()
        .iter()
        .map(|e| fitted.tasks()[index].definition.head.label(&e.outcome) == Some(1.0))
        .collect();
    BinaryMetrics::of(&p, &y).unwrap().auroc.unwrap()
}

/// Cells of one to six people in department A or B, engaged or not; the root's columns are noise.
fn committees(n: usize, seed: u64) -> Vec<OwnedCell> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let people = rng.random_range(1..=6);
            let person = |rng: &mut ChaCha8Rng| {
                let (a, engaged) = (rng.random_bool(0.5), rng.random_bool(0.35));
                vec![
                    f32::from(u8::from(a)),
                    f32::from(u8::from(!a)),
                    f32::from(u8::from(engaged)),
                ]
            };
            let rows = (0..people).map(|_| person(&mut rng)).collect();
            (
                vec![rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)],
                vec![rows],
            )
        })
        .collect()
}

/// Whether somebody engaged is in department A, and in department B.
fn engaged(cell: &OwnedCell) -> (bool, bool) {
    let any = |department: usize| {
        cell.1[0]
            .iter()
            .any(|p| p[department] == 1.0 && p[2] == 1.0)
    };
    (any(0), any(1))
}

fn exactly_one_department(cell: &OwnedCell) -> (usize, Outcome) {
    let (a, b) = engaged(cell);
    (0, Outcome::Window(a != b))
}

#[test]
fn learns_what_only_the_relation_between_members_tells() {
    let layout = layout(2, &[3]);
    let training = examples(&layout, &committees(3000, 1), exactly_one_department);
    let validation = examples(&layout, &committees(600, 2), exactly_one_department);
    let mut seen = Vec::new();
    let fitted = fit(
        &training,
        &validation,
        None,
        task("xor", ROOT, Head::Window),
        &options(),
        &mut |p| seen.push(p),
    )
    .unwrap();
    let test = examples(&layout, &committees(1000, 3), exactly_one_department);
    let auroc = auroc(&fitted, &test, 0);
    assert!(auroc > 0.9, "{auroc}");
    assert!(seen.windows(2).all(|w| w[0].done_ratio <= w[1].done_ratio) && seen.len() >= 4);
    assert_eq!(fitted.tasks()[0].metrics["validation"]["rows"], 600);
}

#[test]
fn a_member_task_reads_the_member_and_its_colleagues() {
    // The first person buys if engaged while somebody of the other department is engaged too.
    let outcome = |cell: &OwnedCell| {
        let me = &cell.1[0][0];
        let others = cell.1[0][1..].iter().any(|p| p[0] != me[0] && p[2] == 1.0);
        (0, Outcome::Window(me[2] == 1.0 && others))
    };
    let layout = layout(2, &[3]);
    let training = examples(&layout, &committees(3000, 1), outcome);
    let validation = examples(&layout, &committees(600, 2), outcome);
    let fitted = fit(
        &training,
        &validation,
        None,
        task("buys", TableId(1), Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let auroc = auroc(
        &fitted,
        &examples(&layout, &committees(1000, 3), outcome),
        0,
    );
    assert!(auroc > 0.9, "{auroc}");
}

#[test]
fn a_new_head_reads_of_its_member_what_the_trunk_did_not_learn() {
    // The trunk has learnt a task that reads no member; it has fewer units than a person columns.
    let layout = layout(1, &[150]);
    let cells = |n: usize, seed: u64| -> Vec<OwnedCell> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut row = |columns: usize| -> Vec<f32> {
            (0..columns).map(|_| rng.random_range(-1.0..1.0)).collect()
        };
        (0..n)
            .map(|_| (row(1), vec![vec![row(150), row(150)]]))
            .collect()
    };
    let of_root = |cell: &OwnedCell| (0, Outcome::Window(cell.0[0] > 0.3));
    let of_person = |cell: &OwnedCell| (1, Outcome::Window(cell.1[0][1][7] > 0.3));
    let (training, validation, test) = (cells(1500, 1), cells(400, 2), cells(600, 3));
    let first = fit(
        &examples(&layout, &training, of_root),
        &examples(&layout, &validation, of_root),
        None,
        task("root", ROOT, Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let both = fit_head(
        &first,
        &examples(&layout, &training, of_person),
        &examples(&layout, &validation, of_person),
        None,
        task("person", TableId(1), Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let auroc = auroc(&both, &examples(&layout, &test, of_person), 1);
    assert!(auroc > 0.9, "{auroc}");
}

/// Options whose candidates differ in whether they read members.
fn with_or_without_members() -> FitOptions {
    let options = options();
    let with = options.candidates[0].clone();
    let without = Regularisation {
        members: false,
        ..with.clone()
    };
    FitOptions {
        candidates: vec![with, without],
        ..options
    }
}

#[test]
fn members_are_read_where_validation_is_clear() {
    let layout = layout(2, &[3]);
    // Chance in the outcome: without it a second of training more is clear evidence.
    let of_root = |cell: &OwnedCell| {
        let hash = cell.0[1].to_bits().wrapping_mul(2_654_435_761) >> 8;
        let chance = f64::from(hash) / f64::from(1 << 24);
        let held = chance < probability(3.0 * f64::from(cell.0[0]));
        (0, Outcome::Window(held))
    };
    let reads_members = |outcome: fn(&OwnedCell) -> (usize, Outcome)| {
        let fitted = fit(
            &examples(&layout, &committees(1500, 1), outcome),
            &examples(&layout, &committees(600, 2), outcome),
            None,
            task("t", ROOT, Head::Window),
            &with_or_without_members(),
            &mut |_| {},
        )
        .unwrap();
        (
            fitted.tasks()[0].regularisation.members,
            fitted.config.towers[0].reads_members,
        )
    };
    assert_eq!(reads_members(exactly_one_department), (true, true));
    assert_eq!(reads_members(of_root), (false, false));
}

#[test]
fn the_first_task_that_reads_members_trains_the_trunk() {
    let layout = layout(2, &[3]);
    let of_root = |cell: &OwnedCell| (0, Outcome::Window(cell.0[0] > 0.3));
    let (training, validation, test) =
        (committees(2000, 1), committees(600, 2), committees(600, 3));
    let set = |cells: &[OwnedCell], outcome: fn(&OwnedCell) -> (usize, Outcome)| {
        examples(&layout, cells, outcome)
    };
    let options = FitOptions {
        ensemble: 2,
        ..with_or_without_members()
    };
    let root = fit(
        &set(&training, of_root),
        &set(&validation, of_root),
        None,
        task("root", ROOT, Head::Window),
        &options,
        &mut |_| {},
    )
    .unwrap();
    let add = |base: &Fitted, name: &str| {
        fit_head(
            base,
            &set(&training, exactly_one_department),
            &set(&validation, exactly_one_department),
            None,
            task(name, ROOT, Head::Window),
            // The ensemble's size stays that of the base.
            &FitOptions {
                ensemble: 1,
                ..options.clone()
            },
            &mut |_| {},
        )
        .unwrap()
    };
    let both = add(&root, "xor");
    let auroc = auroc(&both, &set(&test, exactly_one_department), 1);
    assert!(auroc > 0.9, "{auroc}");
    let batch = set(&test, of_root).feature_batch(&(0..100).collect::<Vec<_>>());
    assert_eq!(root.logits(&batch, 0), both.logits(&batch, 0));
    // The next finds a trunk that is read, and leaves it.
    let three = add(&both, "again");
    assert_eq!(both.logits(&batch, 1), three.logits(&batch, 1));
    assert_eq!(three.networks.len(), 2);

    // Where tasks about members follow, others teach the first task's trunk, and its tower stays.
    let with_trunk = fit_with_trunk(
        &set(&training, of_root),
        &set(&validation, of_root),
        None,
        task("root", ROOT, Head::Window),
        &options,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(root.logits(&batch, 0), with_trunk.logits(&batch, 0));
    assert!(with_trunk.config.has_trunk && !root.config.has_trunk);
    let trunk = |fitted: &Fitted| {
        let trunk = fitted.networks[1].trunk.clone().into_record();
        trunk.into_bytes().unwrap().to_vec()
    };
    assert_ne!(trunk(&root), trunk(&with_trunk));
    assert_eq!(trunk(&add(&with_trunk, "xor")), trunk(&with_trunk));
}

#[test]
fn a_new_head_leaves_trunk_and_other_heads_alone() {
    let layout = layout(2, &[3]);
    let any = |cell: &OwnedCell| (0, Outcome::Window(engaged(cell).0));
    let (cells, more) = (committees(1500, 1), committees(500, 2));
    let first = fit(
        &examples(&layout, &cells, exactly_one_department),
        &examples(&layout, &more, exactly_one_department),
        None,
        task("xor", ROOT, Head::Window),
        &FitOptions {
            max_epochs: 4,
            ..options()
        },
        &mut |_| {},
    )
    .unwrap();
    let (training, validation) = (
        examples(&layout, &cells, any),
        examples(&layout, &more, any),
    );
    let both = fit_head(
        &first,
        &training,
        &validation,
        None,
        task("any", ROOT, Head::Window),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let trunk = |f: &Fitted| {
        f.networks[0]
            .trunk
            .clone()
            .into_record()
            .into_bytes()
            .unwrap()
            .to_vec()
    };
    assert_eq!(trunk(&first), trunk(&both));
    let batch = validation.feature_batch(&(0..100).collect::<Vec<_>>());
    assert_eq!(first.logits(&batch, 0), both.logits(&batch, 0));
    let auroc = auroc(&both, &validation, 1);
    assert!(auroc > 0.9, "{auroc}");
    let again = fit_head(
        &both,
        &training,
        &validation,
        None,
        task("any", ROOT, Head::Window),
        &options(),
        &mut |_| {},
    );
    assert!(matches!(again, Err(FitError::BadTask { .. })));
}

/// Events at a constant rate that depends on the root's first column; histories end at a random
/// time.
fn censored(n: usize, seed: u64) -> (Vec<OwnedCell>, Vec<Outcome>, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cells = Vec::new();
    let mut outcomes = Vec::new();
    let mut truth = 0.0;
    for _ in 0..n {
        let x: f32 = rng.random_range(-1.5..1.5);
        let per_ms = 4e-4 * f64::from(x).exp();
        let after = (-(1.0 - rng.random::<f64>()).ln() / per_ms) as i64;
        let observed_ms = rng.random_range(0..1500);
        outcomes.push(Outcome::Hazard {
            after_ms: (after <= observed_ms).then_some(after),
            observed_ms,
        });
        truth += 1.0 - (-per_ms * 1000.0).exp();
        cells.push((vec![x, rng.random_range(-1.0..1.0)], vec![]));
    }
    (cells, outcomes, truth / n as f64)
}

#[test]
fn hazards_of_censored_histories_are_calibrated() {
    let layout = layout(2, &[]);
    let set = |n, seed| {
        let (cells, outcomes, truth) = censored(n, seed);
        let set = one_set(&layout, &batch_of_owned(&layout, &cells), |i| {
            (0, EntityId(i as u32), 0, outcomes[i])
        });
        (set, truth)
    };
    let (training, _) = set(6000, 1);
    let (validation, _) = set(3000, 2);
    let (test, truth) = set(4000, 3);
    let head = Head::hazard(vec![250, 500, 1000]);
    let mut fitted = fit(
        &training,
        &validation,
        None,
        task("event", ROOT, head),
        &FitOptions {
            batch_size: 128,
            ..options()
        },
        &mut |_| {},
    )
    .unwrap();
    let batch = test.feature_batch(&(0..test.len()).collect::<Vec<_>>());
    let mut mean = |calibration: Option<Calibration>| {
        if let Some(calibration) = calibration {
            fitted.tasks[0].calibration = calibration;
        }
        fitted
            .logits(&batch, 0)
            .iter()
            .map(|z| probability(*z))
            .sum::<f64>()
            / test.len() as f64
    };
    let calibrated = mean(None);
    assert!(
        (calibrated - truth).abs() < 0.03,
        "calibrated {calibrated} of {truth}"
    );
    // The loss alone must not be biased by histories that end before the horizon.
    let raw = mean(Some(Calibration::Identity));
    assert!((raw - truth).abs() < 0.04, "raw {raw} of {truth}");
}

#[test]
fn regressions_learn_the_logarithm() {
    let layout = layout(2, &[]);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let cells: Vec<OwnedCell> = (0..2000)
        .map(|_| random_cell(&layout, 0, &mut rng))
        .collect();
    let value = |cell: &OwnedCell| (0, Outcome::Value((f64::from(cell.0[0]) + 3.0).exp()));
    let training = examples(&layout, &cells[..1500], value);
    let validation = examples(&layout, &cells[1500..], value);
    let fitted = fit(
        &training,
        &validation,
        None,
        task("amount", ROOT, Head::Regression),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    let spearman = fitted.tasks()[0].metrics["validation"]["spearman"]
        .as_f64()
        .unwrap();
    assert!(spearman > 0.95, "{spearman}");
}

#[test]
fn validation_chooses_and_dropped_columns_have_no_effect() {
    // Column 0 tells the outcome in training only, column 1 always.
    let layout = layout(2, &[1]);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut set = |n: usize, leaks: bool| {
        let (mut cells, mut outcomes): (Vec<OwnedCell>, Vec<Outcome>) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let x: f32 = rng.random_range(-2.0..2.0);
            let held = rng.random_bool(probability(2.0 * f64::from(x)));
            let told = if leaks {
                f32::from(u8::from(held))
            } else {
                rng.random_range(0.0..1.0)
            };
            cells.push((vec![told, x], vec![vec![vec![0.5]]]));
            outcomes.push(Outcome::Window(held));
        }
        one_set(&layout, &batch_of_owned(&layout, &cells), |i| {
            (0, EntityId(i as u32), 0, outcomes[i])
        })
    };
    let (training, validation) = (set(1500, true), set(800, false));
    let plain = options().candidates[0].clone();
    let without = |what: &str| Regularisation {
        without: vec![what.into()],
        ..plain.clone()
    };
    let candidates = vec![
        plain.clone(),
        without("nothing is called so"),
        without("root.0"),
    ];
    let options = FitOptions {
        candidates,
        ensemble: 2,
        selection_members: 1,
        max_epochs: 4,
        ..options()
    };
    let fitted = fit(
        &training,
        &validation,
        None,
        task("t", ROOT, Head::Window),
        &options,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(fitted.tasks()[0].regularisation.without, ["root.0"]);
    assert_eq!(
        fitted.tasks()[0].metrics["candidates"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(fitted.networks.len(), 2);
    let logit = |told: f32| {
        fitted.logits(
            &batch_of_owned(&layout, &[(vec![told, 0.5], vec![vec![vec![0.5]]])]),
            0,
        )[0]
    };
    assert_eq!(logit(0.0), logit(1.0));
    // The same on a frozen trunk.
    let more = fit_head(
        &fitted,
        &training,
        &validation,
        None,
        task("more", ROOT, Head::Window),
        &options,
        &mut |_| {},
    )
    .unwrap();
    let logit = |told: f32| {
        more.logits(
            &batch_of_owned(&layout, &[(vec![told, 0.5], vec![vec![vec![0.5]]])]),
            1,
        )[0]
    };
    assert_eq!((logit(0.0), more.networks.len()), (logit(1.0), 2));
}

#[test]
fn the_seed_decides_everything() {
    let layout = layout(2, &[3]);
    let training = examples(&layout, &committees(300, 1), exactly_one_department);
    let validation = examples(&layout, &committees(100, 2), exactly_one_department);
    let id = |seed| {
        let options = FitOptions {
            seed,
            ensemble: 2,
            max_epochs: 2,
            ..options()
        };
        let fitted = fit(
            &training,
            &validation,
            None,
            task("t", ROOT, Head::Window),
            &options,
            &mut |_| {},
        )
        .unwrap();
        fitted
            .into_bundle(
                FeaturePlan::for_layout(layout.clone()),
                BundleMeta::default(),
            )
            .unwrap()
            .bundle_id()
            .to_owned()
    };
    assert_eq!(id(1), id(1));
    assert_ne!(id(1), id(2));
}

#[test]
fn buckets_that_never_closed_are_left_out() {
    let layout = layout(2, &[3]);
    let cells = committees(400, 1);
    // Every training row was followed for 12 of 100 days; validation for all of them.
    let closed = |days: i64| {
        examples(&layout, &cells, move |cell| {
            match exactly_one_department(cell) {
                (slot, Outcome::Window(true)) => (
                    slot,
                    Outcome::Hazard {
                        after_ms: Some(5),
                        observed_ms: days,
                    },
                ),
                (slot, _) => (
                    slot,
                    Outcome::Hazard {
                        after_ms: None,
                        observed_ms: days,
                    },
                ),
            }
        })
    };
    let fitted = fit(
        &closed(12),
        &closed(100),
        None,
        task("t", ROOT, Head::hazard(vec![10, 50, 100])),
        &options(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(
        fitted.tasks()[0].definition.head,
        Head::Hazard {
            edges_ms: vec![10, 50, 100],
            untrained: 2
        }
    );
    assert!(
        fitted.tasks()[0].metrics["validation"]["auroc"]
            .as_f64()
            .unwrap()
            > 0.8
    );
}

#[test]
fn a_refit_trains_on_what_validation_held_back() {
    let layout = layout(2, &[3]);
    let (few, many) = (committees(200, 1), committees(2000, 2));
    let set = |cells: &[_]| examples(&layout, cells, exactly_one_department);
    let run = |refit: Option<&ExampleSet>| {
        let fitted = fit(
            &set(&few),
            &set(&few),
            refit,
            task("t", ROOT, Head::Window),
            &options(),
            &mut |_| {},
        )
        .unwrap();
        let rows = fitted.tasks()[0]
            .metrics
            .get("refit_rows")
            .and_then(serde_json::Value::as_u64);
        let calibration = fitted.tasks()[0].calibration.clone();
        (
            rows,
            calibration,
            fitted
                .into_bundle(
                    FeaturePlan::for_layout(layout.clone()),
                    BundleMeta::default(),
                )
                .unwrap()
                .bundle_id()
                .to_owned(),
        )
    };
    let (without, with) = (run(None), run(Some(&set(&many))));
    assert_eq!((without.0, with.0), (None, Some(2000)));
    assert_ne!(without.2, with.2);
    // The slope is that of members that were not fitted on validation.
    assert_eq!(slope(&without.1), slope(&with.1));
}

fn slope(calibration: &Calibration) -> f64 {
    match calibration {
        Calibration::Platt { slope, .. } => *slope,
        other => panic!("few outcomes have Platt's parameters, not {other:?}"),
    }
}

#[test]
fn a_new_head_refits_too() {
    let layout = layout(2, &[3]);
    let set = |cells: &[_]| examples(&layout, cells, exactly_one_department);
    let (few, many) = (set(&committees(200, 1)), set(&committees(600, 2)));
    let options = FitOptions {
        max_epochs: 2,
        ..options()
    };
    let base = fit(
        &few,
        &few,
        None,
        task("base", ROOT, Head::Window),
        &options,
        &mut |_| {},
    )
    .unwrap();
    let run = |refit| {
        fit_head(
            &base,
            &few,
            &few,
            refit,
            task("t", ROOT, Head::Window),
            &options,
            &mut |_| {},
        )
        .unwrap()
    };
    let (without, with) = (run(None), run(Some(&many)));
    let rows = |fitted: &Fitted| {
        fitted.tasks()[1]
            .metrics
            .get("refit_rows")
            .and_then(serde_json::Value::as_u64)
    };
    assert_eq!((rows(&without), rows(&with)), (None, Some(600)));
    let logits = |fitted: &Fitted, index| fitted.logits(&few.feature_batch(&[0, 1, 2]), index);
    assert_ne!(logits(&without, 1), logits(&with, 1));
    assert_eq!(logits(&without, 0), logits(&with, 0));
    let slope = |fitted: &Fitted| slope(&fitted.tasks()[1].calibration);
    assert_eq!(slope(&without), slope(&with));
}

#[test]
fn says_why_nothing_can_be_learnt() {
    let layout = layout(2, &[3]);
    let cells = committees(20, 1);
    let good = examples(&layout, &cells, exactly_one_department);
    let always = examples(&layout, &cells, |_| (0, Outcome::Window(true)));
    let values = examples(&layout, &cells, |_| (0, Outcome::Value(1.0)));
    let far = examples(&layout, &cells, |_| (9, Outcome::Window(true)));
    let open = examples(&layout, &cells, |_| {
        (
            0,
            Outcome::Hazard {
                after_ms: None,
                observed_ms: 5,
            },
        )
    });
    let hazard = || Head::hazard(vec![10]);
    let run = |training: &ExampleSet, validation: &ExampleSet, definition, options: FitOptions| {
        fit(
            training,
            validation,
            None,
            definition,
            &options,
            &mut |_| {},
        )
        .unwrap_err()
        .to_string()
    };
    for (message, expected) in [
        (
            run(&good, &always, task("t", ROOT, Head::Window), options()),
            "all 20 validation rows with a known outcome are true",
        ),
        (
            run(&values, &good, task("t", ROOT, Head::Window), options()),
            "outcome of training row 0 does not fit its head",
        ),
        (
            run(&far, &good, task("t", TableId(1), Head::Window), options()),
            "targets member slot 9",
        ),
        (
            run(&open, &open, task("t", ROOT, hazard()), options()),
            "no training row has a known outcome (20 rows)",
        ),
        (
            run(
                &good,
                &good,
                task("t", ROOT, Head::hazard(vec![])),
                options(),
            ),
            "at least one edge",
        ),
        (
            run(
                &good,
                &good,
                task("t", ROOT, Head::Window),
                FitOptions {
                    ensemble: 0,
                    ..options()
                },
            ),
            "`ensemble`: must be at least 1",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

fn plan_of(
    layout: &Layout,
) -> impl FnOnce(&FeatureSpec) -> Result<FeaturePlan, Box<dyn Error + Send + Sync>> {
    let plan = FeaturePlan::for_layout(layout.clone());
    move |_| Ok(plan)
}

fn table(name: &str) -> Option<TableId> {
    ["root", "member0"]
        .iter()
        .position(|n| *n == name)
        .map(|i| TableId(i as u16))
}

fn saved(dir: &Path) -> (Bundle, Layout) {
    let layout = layout(7, &[5]);
    let fitted = untrained(&layout, &mut ChaCha8Rng::seed_from_u64(21));
    let meta = BundleMeta {
        catalog_fingerprint: "crm-7".into(),
        created_at: Some("2011-06-01T00:00:00Z".into()),
    };
    let bundle = fitted
        .into_bundle(FeaturePlan::for_layout(layout.clone()), meta)
        .unwrap();
    bundle.save(dir).unwrap();
    (bundle, layout)
}

#[test]
fn a_bundle_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let (bundle, layout) = saved(&dir);
    let loaded = Bundle::load(&dir, plan_of(&layout), table).unwrap();
    assert_eq!(
        (loaded.bundle_id(), loaded.manifest()),
        (bundle.bundle_id(), bundle.manifest())
    );
    assert_eq!(loaded.tasks(), bundle.tasks());
    assert_eq!(loaded.tasks()[1].entity, TableId(1));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let cells: Vec<OwnedCell> = (0..30).map(|_| random_cell(&layout, 9, &mut rng)).collect();
    let batch = batch_of_owned(&layout, &cells);
    for task in 0..2 {
        let bits = |b: &Bundle| {
            b.logits(&batch, task)
                .iter()
                .map(|z| z.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&loaded), bits(&bundle));
    }
    assert_eq!(
        loaded.explain(&batch, 0, 3, 0),
        bundle.explain(&batch, 0, 3, 0)
    );
    // Writing again replaces it, and leaves nothing beside it.
    loaded.save(&dir).unwrap();
    Bundle::load(&dir, plan_of(&layout), table).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn every_changed_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let (_, layout) = saved(&dir);
    let names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(names.len(), 8);
    for path in names {
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        // A digit or letter near the end: the file still parses.
        let at = bad.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        bad[at] = if bad[at] == b'1' { b'2' } else { b'1' };
        fs::write(&path, &bad).unwrap();
        let error = Bundle::load(&dir, plan_of(&layout), table).unwrap_err();
        assert!(
            matches!(error, BundleError::Changed { .. }),
            "{}: {error}",
            path.display()
        );
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            Bundle::load(&dir, plan_of(&layout), table),
            Err(BundleError::Io { .. })
        ));
        fs::write(&path, good).unwrap();
    }
    Bundle::load(&dir, plan_of(&layout), table).unwrap();
}

/// Edits a file of a bundle and makes hashes and id fit again, as a writer with a fault would.
fn rewrite(dir: &Path, name: &str, edit: impl Fn(&str) -> String) {
    let text = edit(&fs::read_to_string(dir.join(name)).unwrap());
    fs::write(dir.join(name), &text).unwrap();
    let manifest = fs::read_to_string(dir.join("manifest.json")).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&manifest).unwrap();
    if name != "manifest.json" {
        manifest.files.insert(name.into(), sha256(text.as_bytes()));
    }
    fs::write(dir.join("manifest.json"), manifest.to_text().0).unwrap();
}

#[test]
fn refusals_say_what_differs() {
    let refused = |name: &str, edit: &dyn Fn(&str) -> String| {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("bundle");
        let (_, layout) = saved(&dir);
        rewrite(&dir, name, edit);
        Bundle::load(&dir, plan_of(&layout), table)
            .unwrap_err()
            .to_string()
    };
    let hash = FeaturePlan::for_layout(layout(7, &[5])).hash().to_owned();
    for (message, expected) in [
        (
            refused("manifest.json", &|t| t.replace(&hash, "other")),
            "trained with feature plan other",
        ),
        (
            refused("manifest.json", &|t| {
                t.replace("\"entity\": \"root\"", "\"entity\": \"accounts\"")
            }),
            "scores table `accounts`",
        ),
        (
            refused("manifest.json", &|t| {
                t.replace("\"slope\": 0.9", "\"slope\": 0.5")
            }),
            "golden cell 0 of task `root`",
        ),
        (
            refused("manifest.json", &|t| {
                t.replace("\"slope\": 0.9", "\"slope\": -0.9")
            }),
            "does not rise",
        ),
        (
            refused("manifest.json", &|t| {
                t.replace("\"hidden\": 24", "\"hidden\": 32")
            }),
            "is not a bundle file",
        ),
        (
            refused("golden.json", &|t| {
                t.replace("\"cells\": 10", "\"cells\": 9")
            }),
            "another shape",
        ),
        (
            refused("normaliser.json", &|t| {
                t.replacen("\"scale\": [", "\"scale\": [ 1.0,", 1)
            }),
            "widths differ",
        ),
        (
            refused("trees-0.json", &|t| {
                t.replace("\"outputs\":3", "\"outputs\":2")
            }),
            "in those of task `root` it has 2 outputs, the head 3",
        ),
        (
            refused("trees-1.json", &|t| {
                t.replace("\"format\":1", "\"format\":7")
            }),
            "its format is 7",
        ),
        (
            refused("trees-1.json", &|t| t.replacen("[[[", "[[[\"x\",", 1)),
            "trees-1.json is not a bundle file",
        ),
        (
            refused("manifest.json", &|t| {
                t.replacen("\"weight\": 0.4", "\"weight\": 1.4", 1)
            }),
            "their weight is 1.4",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let (_, layout) = saved(&dir);
    let manifest = fs::read_to_string(dir.join("manifest.json")).unwrap();
    fs::write(
        dir.join("manifest.json"),
        manifest.replace("\"format\": 3", "\"format\": 4"),
    )
    .unwrap();
    assert!(matches!(
        Bundle::load(&dir, plan_of(&layout), table),
        Err(BundleError::Format { found: 4, .. })
    ));
}

#[test]
fn infinite_parameters_are_refused() {
    let layout = layout(3, &[]);
    let mut fitted = untrained(&layout, &mut ChaCha8Rng::seed_from_u64(2));
    fitted.networks[1].towers[0] = fitted.networks[1].towers[0].clone().map(&mut Spoil);
    let error = fitted
        .into_bundle(FeaturePlan::for_layout(layout), BundleMeta::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("member 1 of the ensemble"),
        "{error}"
    );
}

struct Spoil;
impl burn::module::ModuleMapper for Spoil {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<burn::tensor::Tensor<D>>,
    ) -> burn::module::Param<burn::tensor::Tensor<D>> {
        param.map(|tensor| tensor * f32::NAN)
    }
}

#[test]
fn a_failed_write_leaves_the_good_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let (bundle, layout) = saved(&dir);
    // A file where the partial folder should be.
    fs::write(
        folder
            .path()
            .join(format!(".bundle.partial-{}", std::process::id())),
        b"in the way",
    )
    .unwrap();
    assert!(matches!(bundle.save(&dir), Err(BundleError::Io { .. })));
    Bundle::load(&dir, plan_of(&layout), table).unwrap();
}
