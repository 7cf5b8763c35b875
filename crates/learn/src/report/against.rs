//! Two sets of probabilities on the same rows: figures of each, and their paired differences.

use leadpulse_graph::EntityId;
use serde::{Deserialize, Serialize};

use super::draws::SeededDraws;
use super::estimate::{Clusters, Estimate, interval, log_loss, resamples};
use super::html::{Markup, figure_of, signed};
use super::rank::Ranking;

/// A row with the probabilities of two sets of scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairedRow {
    pub entity: EntityId,
    pub outcome: bool,
    /// Ours, then the challenger's.
    pub probabilities: [f64; 2],
}

/// The comparison with a challenger's probabilities on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// The challenger, for people.
    pub name: String,
    /// Rows that both have scored.
    pub rows: usize,
    /// Rows among them with a positive outcome.
    pub positives: usize,
    /// Figures of the scores that are judged.
    pub model: PairFigures,
    /// Figures of the challenger.
    pub challenger: PairFigures,
    /// AUROC of the judged scores minus the challenger's; `None` with one kind of outcome only.
    pub auroc_ahead: Option<Estimate>,
    /// The same of average precision; `None` without positives.
    pub average_precision_ahead: Option<Estimate>,
    /// Log loss of the judged scores minus the challenger's, nats: below 0 is better.
    pub log_loss_over: Estimate,
    /// The same of the Brier score.
    pub brier_over: Estimate,
}

/// Figures of one set of scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    /// `None` with one kind of outcome only.
    pub auroc: Option<f64>,
    /// `None` without positives.
    pub average_precision: Option<f64>,
    /// Mean negative log likelihood, nats.
    pub log_loss: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
}

/// Compares two sets of probabilities; `None` without rows. Intervals draw entities again.
pub(crate) fn against(name: &str, rows: &[PairedRow], seed: u64) -> Option<Against> {
    if rows.is_empty() {
        return None;
    }
    let entities: Vec<EntityId> = rows.iter().map(|row| row.entity).collect();
    let outcomes: Vec<bool> = rows.iter().map(|row| row.outcome).collect();
    let sides = [0, 1].map(|side| {
        let probabilities: Vec<f64> = rows.iter().map(|row| row.probabilities[side]).collect();
        (Ranking::new(&probabilities), probabilities)
    });
    let figures_of =
        |weight: &dyn Fn(usize) -> f64| [0, 1].map(|side| figures(&sides[side], &outcomes, weight));
    let whole = figures_of(&|_| 1.0);
    let clusters = Clusters::new(&entities);
    let mut dice = SeededDraws::new(seed);
    let drawn: Vec<[PairFigures; 2]> = (0..resamples(rows.len() * 6))
        .map(|_| {
            let times = clusters.draw(&mut dice);
            figures_of(&|row| times[clusters.of_row[row]])
        })
        .collect();
    let difference = |of: &dyn Fn(&PairFigures) -> Option<f64>| {
        let apart = |[model, other]: &[PairFigures; 2]| Some(of(model)? - of(other)?);
        let drawn = drawn.iter().filter_map(apart).collect();
        apart(&whole).map(|value| interval(value, drawn))
    };
    let [model, challenger] = whole;
    Some(Against {
        name: name.to_owned(),
        rows: rows.len(),
        positives: outcomes.iter().filter(|outcome| **outcome).count(),
        model,
        challenger,
        auroc_ahead: difference(&|f| f.auroc),
        average_precision_ahead: difference(&|f| f.average_precision),
        log_loss_over: difference(&|f| Some(f.log_loss))?,
        brier_over: difference(&|f| Some(f.brier))?,
    })
}

fn figures(
    (ranking, probabilities): &(Ranking, Vec<f64>),
    outcomes: &[bool],
    weight: &dyn Fn(usize) -> f64,
) -> PairFigures {
    let (mut mass, mut loss, mut brier) = (0.0, 0.0, 0.0);
    for (row, (p, outcome)) in probabilities.iter().zip(outcomes).enumerate() {
        let of_row = weight(row);
        mass += of_row;
        loss += of_row * log_loss(*p, *outcome);
        brier += of_row * (p - f64::from(*outcome)).powi(2);
    }
    PairFigures {
        auroc: ranking.auroc(outcomes, weight),
        average_precision: ranking.average_precision(outcomes, weight),
        log_loss: loss / mass,
        brier: brier / mass,
    }
}

/// The comparison as a part of a page.
pub(super) fn show(page: &mut Markup, found: &Against) {
    page.element("h3", &format!("Beside {} on the same rows", found.name));
    let line = |name: &str, figures: &PairFigures| {
        vec![
            name.to_owned(),
            figure_of(figures.auroc),
            figure_of(figures.average_precision),
            figure_of(Some(figures.log_loss)),
            figure_of(Some(figures.brier)),
        ]
    };
    let difference = vec![
        "difference".to_owned(),
        signed(found.auroc_ahead),
        signed(found.average_precision_ahead),
        signed(Some(found.log_loss_over)),
        signed(Some(found.brier_over)),
    ];
    page.table(
        &["", "AUROC", "average precision", "log loss", "Brier"],
        &[
            line("model", &found.model),
            line(&found.name, &found.challenger),
            difference,
        ],
    );
    page.element(
        "p",
        &format!(
            "{} rows that both have scored, {} of them positive. The differences are paired: each \
             resample draws the same entities for both.",
            found.rows, found.positives
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(other: impl Fn(f64) -> f64) -> Vec<PairedRow> {
        let mut dice = SeededDraws::new(3);
        let row = |entity: u32| {
            let p = dice.below(90) as f64 / 100.0 + 0.05;
            PairedRow {
                entity: EntityId(entity / 2),
                outcome: (dice.below(1000) as f64) < p * 1000.0,
                probabilities: [p, other(p)],
            }
        };
        (0..600).map(row).collect()
    }

    #[test]
    fn the_same_scores_differ_by_nothing_and_worse_ones_by_more_than_chance() {
        let same = against("same", &rows(|p| p), 0).unwrap();
        assert_eq!(same.model, same.challenger);
        let none = Estimate {
            value: 0.0,
            low: 0.0,
            high: 0.0,
        };
        assert_eq!(same.log_loss_over, none);
        assert_eq!(same.auroc_ahead, Some(none));

        let flat = against("flat", &rows(|_| 0.5), 0).unwrap();
        assert_eq!(flat.challenger.auroc, Some(0.5));
        assert!(flat.auroc_ahead.unwrap().low > 0.2);
        assert!(flat.log_loss_over.high < 0.0 && flat.brier_over.high < 0.0);

        // The same order with other probabilities: only the losses differ.
        let sharp = against("shifted", &rows(|p| p * 0.5), 0).unwrap();
        assert_eq!(sharp.auroc_ahead, Some(none));
        assert!(sharp.log_loss_over.high < 0.0);
        assert_eq!(against("none", &[], 0), None);
    }
}
