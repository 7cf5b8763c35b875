//! Training rows that are left out by what was known at their anchor.

use leadpulse_model::{Example, Weighting};

use super::*;

const SHARE: f64 = 0.3;
const SPLIT: Split = Split {
    val_from_ms: 160 * DAY_MS,
    test_from_ms: 220 * DAY_MS,
};

fn collected(lines: &[Line], share: f64) -> Collected {
    let ground = ground(lines, &[("wins", WINS)]);
    let (_, mut collected) = ground.collected_with(SPLIT, Sampling { share });
    collected.pop().unwrap()
}

/// The rows of a set by key and anchor.
fn by_row<'a>(found: &'a Collected, set: &'a ExampleSet) -> BTreeMap<(&'a str, i64), &'a Example> {
    let examples = set.examples().iter();
    examples
        .map(|e| ((&*found.keys[&e.entity], e.anchor_ms), e))
        .collect()
}

/// Σ of weights × a value of the rows, and the error of chance of a sample's sum: each quiet row
/// stands for 1 / share, and was drawn by itself.
fn weighed(set: &ExampleSet, value: impl Fn(&Example) -> f64) -> (f64, f64) {
    let (mut sum, mut variance) = (0.0, 0.0);
    for example in set.examples() {
        let weight = f64::from(example.weight);
        sum += weight * value(example);
        variance += weight * (weight - 1.0) * value(example).powi(2);
    }
    (sum, variance.sqrt())
}

/// A value of a row.
type RowValue<'a> = &'a dyn Fn(&Example) -> f64;

fn is_positive(example: &Example) -> bool {
    matches!(
        example.outcome,
        Outcome::Hazard {
            after_ms: Some(_),
            ..
        }
    )
}

#[test]
fn a_sample_weighs_as_much_as_all_rows_in_counts_and_losses() {
    let lines = market(5);
    let (all, some) = (collected(&lines, 1.0), collected(&lines, SHARE));
    assert_eq!(all.left_out, 0);
    assert!(some.left_out > 100, "{}", some.left_out);
    assert!(some.training.len() + some.left_out >= all.training.len());
    let rate = all.training_tally.base_rate().unwrap();
    let loss = |e: &Example| -(if is_positive(e) { rate } else { 1.0 - rate }).ln();
    let positive = |e: &Example| f64::from(u8::from(is_positive(e)));
    let values: [(&str, RowValue<'_>); 3] = [
        ("rows", &|_| 1.0),
        ("positives", &positive),
        ("loss", &loss),
    ];
    for (name, value) in values {
        let ((whole, none), (sum, error)) = (
            weighed(&all.training, value),
            weighed(&some.training, value),
        );
        assert_eq!(none, 0.0, "{name}");
        assert!(
            (sum - whole).abs() < 4.0 * error && error < whole / 4.0,
            "{name}: {sum} ± {error} of {whole}"
        );
    }
    // Validation, counts and refit's rows of validation have no sample.
    assert_eq!(some.training_tally, all.training_tally);
    assert_eq!(some.validation_tally, all.validation_tally);
    let same = |a: &Example, b: &Example| (a.entity, a.anchor_ms) == (b.entity, b.anchor_ms);
    let (few, many) = (some.validation.examples(), all.validation.examples());
    assert!(few.len() == many.len() && few.iter().zip(many).all(|(a, b)| same(a, b)));
    assert!(few.iter().all(|e| e.weight == 1.0));
    let refit = some.refit.examples().iter();
    let late = refit.filter(|e| e.anchor_ms >= SPLIT.val_from_ms);
    assert!(late.clone().count() > 0 && late.clone().all(|e| e.weight == 1.0));
}

#[test]
fn no_row_is_left_out_for_what_came_after_it() {
    let lines = market(5);
    let until_ms = 100 * DAY_MS;
    let before = collected(&lines, SHARE);
    let all = collected(&lines, 1.0);
    let whole = by_row(&all, &all.training);
    let sample = by_row(&before, &before.training);
    for (row, example) in &sample {
        assert_eq!(example.outcome, whole[row].outcome, "{row:?}");
        assert!([1.0, 1.0 / SHARE as f32].contains(&example.weight));
    }
    let early = |found: &Collected| -> BTreeMap<(String, i64), f32> {
        by_row(found, &found.refit)
            .into_iter()
            .filter(|((_, anchor_ms), _)| *anchor_ms <= until_ms)
            .map(|((key, anchor_ms), e)| ((key.to_owned(), anchor_ms), e.weight))
            .collect()
    };
    let rows = early(&before);
    assert!(rows.len() > 100);
    for seed in 1..4 {
        let after = collected(&altered(&lines, until_ms, seed), SHARE);
        assert_eq!(rows, early(&after), "seed {seed}");
    }
}

#[test]
fn a_sampled_training_is_told_and_refused_beside_weights_of_quarters() {
    let ground = ground(&market(5), &[("wins", WINS)]);
    let options = TrainOptions {
        sample_share: Some(SHARE),
        ..TrainOptions::default()
    };
    let (bundle, report) = ground.train_with(&["wins"], 1, &options, false).unwrap();
    let told = &bundle.manifest().tasks[0].metrics["training"];
    assert_eq!(told["sample_share"], SHARE);
    assert_eq!(told["left_out_by_sample"], report.tasks[0].left_out);
    let remarks = report.tasks[0].evaluation.remarks.join(" ");
    assert!(remarks.contains("a share of 0.300"), "{remarks}");

    let task = TrainTask {
        plan: ground.tasks()[0],
        fit: FitOptions {
            weighting: Weighting::EntityQuarters,
            ..FitOptions::default()
        },
        is_optional: false,
    };
    let files = &ground.files;
    let refused = train(&ground.project, &[task], files, &options, &mut |_| {});
    assert!(matches!(refused, Err(LearnError::Sample { .. })));
}
