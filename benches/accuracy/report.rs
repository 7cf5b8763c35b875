//! Tables of a world, over its seeds.

use std::fmt::Write;

use leadpulse_model::BinaryMetrics;
use leadpulse_sim::World;

use crate::compare::{interval, mean_and_deviation};
use crate::gauge::Table;
use crate::trial::{BUDGET_RATIO, Model, Outcome};

/// Groups of explanations (codes) that must vanish, because the world has them switched off. Not
/// `committee`: who is active at an account tells of its own doings too, whether or not several
/// people count more than one.
fn must_vanish(world: World) -> &'static [&'static str] {
    match world {
        World::NoWaves | World::NothingRelational => &["industry_peers"],
        _ => &[],
    }
}

fn spread(values: &[f64], decimals: usize) -> String {
    let (mean, deviation) = mean_and_deviation(values);
    if values.len() > 1 {
        format!("{mean:.decimals$} ± {deviation:.decimals$}")
    } else {
        format!("{mean:.decimals$}")
    }
}

/// The tables.
pub fn world(world: World, seeds: &[u64], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let of = |value: fn(&Outcome) -> f64| outcomes.iter().map(value).collect::<Vec<f64>>();
    let list: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let _ = writeln!(
        text,
        "\nWorld {world}, seeds {}: {} rows of files, {} training rows, {} test rows with {} positives (base rate {})",
        list.join(", "),
        spread(&of(|o| o.rows_of_files as f64), 0),
        spread(&of(|o| o.training_rows as f64), 0),
        spread(&of(|o| o.test_rows as f64), 0),
        spread(&of(|o| o.positives as f64), 0),
        spread(&of(|o| o.positives as f64 / o.test_rows as f64), 4),
    );
    text += &models(outcomes);
    text += &differences(outcomes);
    text += &detection(outcomes);
    text += &explanations(world, outcomes);
    for (seed, outcome) in seeds.iter().zip(outcomes) {
        outcome.notes.iter().for_each(|note| {
            let _ = writeln!(text, "  seed {seed}: {note}");
        });
    }
    text
}

fn present(outcomes: &[Outcome]) -> impl Iterator<Item = Model> {
    Model::ALL.into_iter().filter(|model| {
        outcomes
            .iter()
            .all(|outcome| outcome.judged.contains_key(model))
    })
}

fn metric(outcomes: &[Outcome], model: Model, value: fn(&BinaryMetrics) -> f64) -> Vec<f64> {
    outcomes
        .iter()
        .map(|outcome| value(&outcome.judged[&model].metrics))
        .collect()
}

fn models(outcomes: &[Outcome]) -> String {
    let mut table = Table::new(&[
        "model",
        "AUROC",
        "AP",
        "lift@20 %",
        "precision@2 %",
        "÷ ICP",
        "ECE",
    ]);
    let precision =
        |model| mean_and_deviation(&metric(outcomes, model, |m| m.precision_at_2_percent)).0;
    for model in present(outcomes) {
        let figures = |value: fn(&BinaryMetrics) -> f64, decimals| {
            spread(&metric(outcomes, model, value), decimals)
        };
        let row = [
            figures(|m| m.auroc.unwrap_or(f64::NAN), 4),
            figures(|m| m.average_precision.unwrap_or(f64::NAN), 4),
            figures(|m| m.lift_at_20_percent.unwrap_or(f64::NAN), 2),
            figures(|m| m.precision_at_2_percent, 3),
            format!("{:.1}", precision(model) / precision(Model::Icp)),
            if model.is_probability() {
                figures(|m| m.ece, 4)
            } else {
                "–".into()
            },
        ];
        table.row(model.to_string(), row);
    }
    table.text("Test: will the account close a deal within 90 days? Mean ± sd over seeds")
}

/// Mean over seeds of a figure of AUROCs, and of each resample of accounts.
fn over_resamples(
    outcomes: &[Outcome],
    of: impl Fn(&dyn Fn(Model) -> f64) -> f64,
) -> (f64, (f64, f64)) {
    let on_test =
        |outcome: &Outcome| of(&|model| outcome.judged[&model].metrics.auroc.unwrap_or(f64::NAN));
    let point: Vec<f64> = outcomes.iter().map(on_test).collect();
    let resamples = outcomes[0]
        .resampled
        .values()
        .map(Vec::len)
        .min()
        .unwrap_or_default();
    let resampled = (0..resamples).map(|i| {
        let each: Vec<f64> = outcomes
            .iter()
            .map(|outcome| of(&|model| outcome.resampled[&model][i]))
            .collect();
        mean_and_deviation(&each).0
    });
    (mean_and_deviation(&point).0, interval(resampled.collect()))
}

fn differences(outcomes: &[Outcome]) -> String {
    let has = |model| present(outcomes).any(|m| m == model);
    let mut text = String::new();
    let mut say = |what: &str, (value, (low, high)): (f64, (f64, f64))| {
        let _ = writeln!(text, "  {what:<44} {value:+.4}  [{low:+.4}, {high:+.4}]");
    };
    for (what, better, worse) in [
        ("our net − flat GBDT", Model::Net, Model::Flat),
        ("our net − relational GBDT", Model::Net, Model::Relational),
        (
            "relational GBDT − flat GBDT",
            Model::Relational,
            Model::Flat,
        ),
        ("exact Bayes − our net", Model::Bayes, Model::Net),
    ] {
        if has(better) && has(worse) {
            say(
                what,
                over_resamples(outcomes, |auroc| auroc(better) - auroc(worse)),
            );
        }
    }
    for (what, model) in [
        ("share of headroom, our net", Model::Net),
        ("share of headroom, relational GBDT", Model::Relational),
    ] {
        if has(model) && has(Model::Flat) && has(Model::Bayes) {
            let share = |auroc: &dyn Fn(Model) -> f64| {
                (auroc(model) - auroc(Model::Flat)) / (auroc(Model::Bayes) - auroc(Model::Flat))
            };
            say(what, over_resamples(outcomes, share));
        }
    }
    format!(
        "\nDifferences of AUROC, and shares of (Bayes − flat), with 95 % intervals: 1000 paired resamples of accounts\n{text}"
    )
}

fn detection(outcomes: &[Outcome]) -> String {
    let mut table = Table::new(&[
        "model",
        "median days to notice",
        "noticed before the purchase",
        "median lead, days",
    ]);
    for model in present(outcomes) {
        let of = |value: fn(&crate::compare::Detection) -> f64| -> Vec<f64> {
            outcomes
                .iter()
                .map(|outcome| value(&outcome.judged[&model].detection))
                .collect()
        };
        let median = of(|d| d.median_days.unwrap_or(f64::INFINITY));
        let row = [
            if median.iter().all(|m| m.is_finite()) {
                spread(&median, 1)
            } else {
                "never".into()
            },
            format!("{} %", spread(&of(|d| 100.0 * d.before_win_ratio), 0)),
            spread(&of(|d| d.lead_days), 0),
        ];
        table.row(model.to_string(), row);
    }
    if outcomes.iter().any(|o| o.weeks == 0) {
        return String::new();
    }
    let entries: Vec<f64> = outcomes
        .iter()
        .flat_map(|o| o.judged.values().next().map(|j| j.detection.entries as f64))
        .collect();
    table.text(&format!(
        "Time to notice that an account evaluates vendors ({} beginnings), working on the top {} % in each of {} weeks",
        spread(&entries, 0),
        100.0 * BUDGET_RATIO,
        outcomes[0].weeks
    ))
}

fn explanations(world: World, outcomes: &[Outcome]) -> String {
    let explained: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.explained.as_ref())
        .collect();
    let Some(first) = explained.first() else {
        return String::new();
    };
    let mut text =
        String::from("\nExplanations of the 150 highest scores of the first test moment\n");
    let deletion: Vec<_> = explained.iter().filter_map(|e| e.deletion).collect();
    if !deletion.is_empty() {
        let of = |value: fn(&leadpulse_model::DeletionTest) -> f64| {
            spread(&deletion.iter().map(value).collect::<Vec<f64>>(), 4)
        };
        let _ = writeln!(
            text,
            "  deletion test: as explained {}, leaving one out {}, at random {}; explained ÷ random {}",
            of(|d| d.explained),
            of(|d| d.leave_one_out),
            of(|d| d.random),
            of(|d| d.ratio_to_random)
        );
    }
    let error = explained
        .iter()
        .map(|e| e.completeness_error)
        .fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "  completeness: largest |base + Σφ − logit| {error:.1e}"
    );
    let shares: Vec<String> = first
        .shares
        .iter()
        .map(|(group, _)| {
            let of_group = |e: &&&crate::net::Explained| {
                e.shares
                    .iter()
                    .find(|(g, _)| g == group)
                    .map(|(_, share)| *share)
            };
            let values: Vec<f64> = explained.iter().filter_map(|e| of_group(&e)).collect();
            let share = 100.0 * mean_and_deviation(&values).0;
            let verdict = match must_vanish(world).contains(&group.as_str()) {
                true if share < 5.0 => " (switched off: below 5 %, as it must be)",
                true => " (switched off: must be below 5 %)",
                false => "",
            };
            format!("{group} {share:.1} %{verdict}")
        })
        .collect();
    let _ = writeln!(text, "  mean shares: {}", shares.join(", "));
    text
}
