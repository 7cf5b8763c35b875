//! Tables of a world, over its seeds.

use std::fmt::Write;

use clap::ValueEnum;
use leadpulse_model::BinaryMetrics;
use leadpulse_sim::World;

use crate::compare::{half_width, mean_and_deviation};
use crate::gauge::Table;
use crate::trial::{BUDGET_RATIO, COMPARED, Model, Outcome};

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

/// The tables of a world.
pub fn world(world: World, outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let of = |value: fn(&Outcome) -> f64| outcomes.iter().map(value).collect::<Vec<f64>>();
    let seeds: Vec<String> = outcomes.iter().map(|o| o.setup.seed.to_string()).collect();
    let _ = writeln!(
        text,
        "\nWorld {world}, seeds {}: {} rows of files, {} training rows, {} test rows with {} positives (base rate {}); \
         without an open deal {} with {}",
        seeds.join(", "),
        spread(&of(|o| o.rows_of_files as f64), 0),
        spread(&of(|o| o.training_rows as f64), 0),
        spread(&of(|o| o.test_rows as f64), 0),
        spread(&of(|o| o.positives as f64), 0),
        spread(&of(|o| o.positives as f64 / o.test_rows as f64), 4),
        spread(&of(|o| o.rows_without_deal as f64), 0),
        spread(&of(|o| o.positives_without_deal as f64), 0),
    );
    text += &models(outcomes);
    text += &differences(outcomes);
    text += &detection(outcomes);
    text += &explanations(world, outcomes);
    for outcome in outcomes {
        let seed = outcome.setup.seed;
        for note in &outcome.notes {
            let _ = writeln!(text, "  seed {seed}: {note}");
        }
        let steps = outcome.cpu_seconds.iter();
        let steps: Vec<String> = steps.map(|(name, s)| format!("{name} {s:.0}")).collect();
        let _ = writeln!(
            text,
            "  seed {seed}: CPU seconds: {}; {} MiB after training; commit {}",
            steps.join(", "),
            outcome.resident_mib,
            outcome.commit
        );
    }
    text
}

fn present(outcomes: &[Outcome]) -> impl Iterator<Item = Model> {
    Model::value_variants().iter().copied().filter(|model| {
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
        "no open deal",
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
            spread(
                &outcomes
                    .iter()
                    .map(|o| auroc_without_deal(o, model))
                    .collect::<Vec<f64>>(),
                4,
            ),
            figures(|m| m.average_precision.unwrap_or(f64::NAN), 4),
            figures(|m| m.lift_at_20_percent.unwrap_or(f64::NAN), 2),
            figures(|m| m.precision_at_2_percent, 3),
            if outcomes.iter().all(|o| o.judged.contains_key(&Model::Icp)) {
                format!("{:.1}", precision(model) / precision(Model::Icp))
            } else {
                "–".into()
            },
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

fn auroc(outcome: &Outcome, model: Model) -> f64 {
    outcome.judged[&model].metrics.auroc.unwrap_or(f64::NAN)
}

fn auroc_without_deal(outcome: &Outcome, model: Model) -> f64 {
    outcome.judged[&model]
        .auroc_without_deal
        .unwrap_or(f64::NAN)
}

/// Differences by seed: mean, 95 % interval of the mean over seeds, least and greatest.
fn line(text: &mut String, name: &str, values: &[f64]) {
    let (mean, half) = (mean_and_deviation(values).0, half_width(values));
    let extreme = |pick: fn(f64, f64) -> f64| values.iter().copied().fold(f64::NAN, pick);
    let (least, greatest) = (extreme(f64::min), extreme(f64::max));
    let (low, high) = (mean - half, mean + half);
    let _ = writeln!(
        text,
        "  {name:<44} {mean:+.4}  [{low:+.4}, {high:+.4}]  from {least:+.4} to {greatest:+.4}"
    );
}

fn differences(outcomes: &[Outcome]) -> String {
    let has = |model| present(outcomes).any(|m| m == model);
    let mut text = String::new();
    if let [outcome] = outcomes {
        for d in &outcome.differences {
            let value = auroc(outcome, d.better) - auroc(outcome, d.worse);
            let name = format!("{} − {}", d.better, d.worse);
            let (low, high) = (d.low, d.high);
            let _ = writeln!(text, "  {name:<44} {value:+.4}  [{low:+.4}, {high:+.4}]");
        }
        return format!(
            "\nDifferences of AUROC, with 95 % intervals of 1000 paired resamples of accounts\n{text}"
        );
    }
    let of = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(value).collect::<Vec<f64>>();
    for (better, worse) in COMPARED {
        if has(better) && has(worse) {
            let values = of(&|o| auroc(o, better) - auroc(o, worse));
            line(&mut text, &format!("{better} − {worse}"), &values);
        }
    }
    if has(Model::Ensemble) && has(Model::Relational) && has(Model::Own) {
        let lead = |figure: fn(&Outcome, Model) -> f64| {
            of(&|o| {
                figure(o, Model::Ensemble) - figure(o, Model::Relational).max(figure(o, Model::Own))
            })
        };
        line(
            &mut text,
            "our ensemble − the better trees of the market",
            &lead(auroc),
        );
        line(
            &mut text,
            "the same without an open deal",
            &lead(auroc_without_deal),
        );
    }
    for model in [Model::Relational, Model::Ensemble] {
        if has(model) && has(Model::Flat) && has(Model::Bayes) {
            let values = of(&|o| {
                let flat = auroc(o, Model::Flat);
                (auroc(o, model) - flat) / (auroc(o, Model::Bayes) - flat)
            });
            line(
                &mut text,
                &format!("share of (Bayes − flat): {model}"),
                &values,
            );
        }
    }
    format!(
        "\nDifferences of AUROC by market, with 95 % intervals of their mean (Student, {} markets)\n{text}",
        outcomes.len()
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
    if outcomes.iter().any(|o| o.setup.weeks == 0) {
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
        outcomes[0].setup.weeks
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
