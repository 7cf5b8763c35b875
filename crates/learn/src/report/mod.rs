//! The evaluation of predictions whose outcomes are known: figures with intervals, beside the
//! values that chance and simple rules give on the same rows.
//!
//! `rows` notes what simple rules know at each moment; `rank`, `bins` and `draws` are the
//! arithmetic; `estimate` and `calibration` give figures, `segments` and `cohorts` parts of the
//! rows, `quality` a grade; `html` shows it all.
//!
//! Decision: docs/decisions/0047-a-report-beside-its-null.md

pub(crate) mod against;
mod bins;
mod calibration;
mod cohorts;
pub(crate) mod draws;
mod estimate;
mod html;
pub(crate) mod notes;
mod numbers;
mod quality;
mod rank;
pub(crate) mod rows;
mod segments;
#[cfg(test)]
mod tests;
pub(crate) mod validation;

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::EntityId;
use leadpulse_model::{Quality, RegressionMetrics};
use leadpulse_schema::utc;
use serde::{Deserialize, Serialize};

use bins::Binning;
use calibration::Outcomes;
use estimate::Resampled;
use notes::Notes;
use rank::Ranking;
use rows::{EvaluatedRow, Lookout};

pub use against::{Against, PairFigures};
pub use calibration::{CalibrationFigures, ReliabilityBin};
pub use cohorts::{Cohort, Cohorts};
pub use estimate::{Estimate, LossFigures, RankFigures};
pub use segments::Segment;

/// Outcomes below which the ratio of the best to the worst tenth says nothing.
const MIN_OUTCOMES_OF_RATIO: usize = 200;

/// An evaluation of all tasks of a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kind of rows, for people: "Validation of a training", "Backtest".
    pub title: String,
    /// The bundle that predicted.
    pub bundle: String,
    pub tasks: Vec<TaskEvaluation>,
}

impl Report {
    /// The report as one page that needs nothing else.
    pub fn html(&self) -> String {
        html::page(self)
    }
}

/// The evaluation of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskEvaluation {
    pub task: String,
    /// The query of the task.
    pub query: String,
    /// Days after an anchor until its outcome is known.
    pub horizon_days: f64,
    /// Rows with an outcome.
    pub rows: usize,
    /// Different entities among them.
    pub entities: usize,
    /// Rows with a positive outcome; of a regression, with a value above 0.
    pub positives: usize,
    /// Different entities with a positive outcome.
    pub positive_entities: usize,
    /// Positive outcomes whose windows do not overlap: what the rows can tell apart.
    pub outcomes: usize,
    /// Different anchors.
    pub anchors: usize,
    /// First and last anchor, ISO 8601 in UTC; empty without rows.
    pub first_anchor: String,
    pub last_anchor: String,
    /// Figures of the model's ranking; `None` for a regression or without rows.
    pub model: Option<RankFigures>,
    pub losses: Option<LossFigures>,
    /// The constant probability that the losses are compared with.
    pub base_rate: Option<f64>,
    pub calibration: Option<CalibrationFigures>,
    /// Tenths of the rows, highest scores first.
    pub deciles: Vec<Decile>,
    /// Rate of the best tenth ÷ rate of the worst; `None` below 200 outcomes, where the worst
    /// tenth decides it by chance, or where the worst tenth has none.
    pub top_to_bottom: Option<f64>,
    /// Simple rules on the same rows.
    pub baselines: Vec<Baseline>,
    /// A challenger's scores on the same rows; `None` without one, or without a row that both have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    pub segments: Vec<Segment>,
    /// The rows whose cell has no open deal: with one, a score mostly repeats its stage. `None`
    /// for numbers, for tasks about deals, and where the schemas have no deals.
    #[serde(default)]
    pub without_open_deal: Option<PartFigures>,
    /// Columns along which predictions differ, or part from outcomes; empty with fewer than 100
    /// rows.
    #[serde(default)]
    pub cohorts: Vec<Cohorts>,
    /// Weights of the explanation groups, largest first; empty where nothing was explained.
    pub groups: Vec<GroupWeight>,
    /// Figures of a regression.
    pub regression: Option<RegressionMetrics>,
    /// The grade; `None` without rows.
    pub quality: Option<Quality>,
    /// Warnings to be read before the figures.
    pub remarks: Vec<String>,
}

impl TaskEvaluation {
    /// The tables that a bundle carries for its model page: tenths, reliability with its null, simple
    /// rules, cohorts. At most ten tenths, fifteen bins and twenty columns of five parts: some 15 KiB.
    pub fn card(&self) -> serde_json::Value {
        serde_json::json!({
            "first_anchor": self.first_anchor,
            "last_anchor": self.last_anchor,
            "outcomes": self.outcomes,
            "base_rate": self.base_rate,
            "model": self.model,
            "deciles": self.deciles,
            "calibration": self.calibration,
            "baselines": self.baselines,
            "cohorts": self.cohorts,
        })
    }
}

/// The figures of a part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartFigures {
    pub rows: usize,
    /// Different entities among them.
    pub entities: usize,
    /// Rows with a positive outcome.
    pub positives: usize,
    /// Different entities with a positive outcome.
    pub positive_entities: usize,
    /// Positive outcomes whose windows do not overlap.
    pub outcomes: usize,
    pub model: RankFigures,
    /// Losses beside those of the part's own rate.
    pub losses: LossFigures,
    pub calibration: CalibrationFigures,
    /// Simple rules on the same rows.
    pub baselines: Vec<Baseline>,
}

/// A tenth of the rows by score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decile {
    /// Rows; a tie across an edge is split.
    pub rows: f64,
    /// Mean probability.
    pub predicted: f64,
    /// Share of positive outcomes.
    pub rate: f64,
    /// Rate ÷ rate of all rows.
    pub lift: f64,
    /// Share of all positives in this tenth and those above it.
    pub captured: f64,
}

/// A simple rule on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The rule, for people.
    pub name: String,
    pub figures: RankFigures,
}

/// The weight of an explanation group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupWeight {
    pub group: String,
    /// Mean over explained rows of |contribution|, logits.
    pub mean_logit: f64,
}

/// The figures that a backtest's predictions are compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baselines<'a> {
    /// The positive share that training knew, by task in the order of the job; a task without one
    /// is compared with the share of its own rows.
    pub base_rates: &'a [Option<f64>],
    /// A column `table.field` of points: of the task's entity, or of its root.
    pub existing_score: Option<&'a str>,
}

/// The task of some rows, with everything about it that the rows do not contain.
pub(crate) struct EvaluatedTask<'a> {
    pub task: &'a str,
    pub query: &'a str,
    pub horizon_ms: i64,
    pub is_regression: bool,
    /// The positive share of the training rows; `None` for the share of the rows themselves.
    pub base_rate: Option<f64>,
    /// Different entities with a positive outcome in training and evaluation; `None` where only
    /// the rows are known.
    pub positive_entities: Option<usize>,
    pub notes: &'a Notes,
    pub groups: Vec<GroupWeight>,
    pub remarks: Vec<String>,
    pub seed: u64,
}

/// Evaluates rows of one task.
pub(crate) fn evaluate(subject: EvaluatedTask<'_>, rows: &[EvaluatedRow]) -> TaskEvaluation {
    let mut evaluation = counts(&subject, rows);
    let is_regression = subject.is_regression;
    evaluation.cohorts = cohorts::cohorts(&subject.notes.numbers, rows, is_regression);
    evaluation.groups = subject.groups.clone();
    evaluation.remarks.clone_from(&subject.remarks);
    if rows.is_empty() {
        return evaluation;
    }
    let predicted: Vec<f64> = rows.iter().map(|row| row.predicted).collect();
    if subject.is_regression {
        let labels: Vec<f64> = rows.iter().map(|row| row.label).collect();
        evaluation.regression = RegressionMetrics::of(&predicted, &labels);
    } else {
        judge_condition(&mut evaluation, &subject, rows, &predicted);
        evaluation.without_open_deal = without_open_deal(&subject, rows);
    }
    let positive_entities = subject.positive_entities;
    let positive_entities = positive_entities.unwrap_or(evaluation.positive_entities);
    evaluation.quality = Some(quality::quality(&evaluation, positive_entities));
    evaluation
}

/// The figures of the rows without an open deal; `None` where rows are not divided, or none has
/// such a cell.
fn without_open_deal(subject: &EvaluatedTask<'_>, rows: &[EvaluatedRow]) -> Option<PartFigures> {
    let is_without = |row: &&EvaluatedRow| row.facts.has_open_deal == Some(false);
    let rows: Vec<EvaluatedRow> = rows.iter().filter(is_without).cloned().collect();
    if rows.is_empty() {
        return None;
    }
    let predicted: Vec<f64> = rows.iter().map(|row| row.predicted).collect();
    let mut part = counts(subject, &rows);
    // The rate that training knew is of all rows.
    let rate = part.positives as f64 / rows.len() as f64;
    judge_ranks(&mut part, subject, &rows, (&predicted, rate));
    Some(PartFigures {
        rows: part.rows,
        entities: part.entities,
        positives: part.positives,
        positive_entities: part.positive_entities,
        outcomes: part.outcomes,
        model: part.model?,
        losses: part.losses?,
        calibration: part.calibration?,
        baselines: part.baselines,
    })
}

/// Fills in the figures of a condition.
fn judge_condition(
    evaluation: &mut TaskEvaluation,
    subject: &EvaluatedTask<'_>,
    rows: &[EvaluatedRow],
    predicted: &[f64],
) {
    let outcomes: Vec<bool> = rows.iter().map(|row| row.label > 0.5).collect();
    let rate = evaluation.positives as f64 / rows.len() as f64;
    let base_rate = subject.base_rate.unwrap_or(rate);
    judge_ranks(evaluation, subject, rows, (predicted, base_rate));
    evaluation.deciles = deciles(&Ranking::new(predicted), predicted, &outcomes);
    evaluation.top_to_bottom = top_to_bottom(evaluation);
    evaluation.segments = segments::segments(&subject.notes.lookout, &subject.notes.words, rows);
}

/// Fills in ranking, losses and calibration, beside simple rules and a constant probability.
fn judge_ranks(
    evaluation: &mut TaskEvaluation,
    subject: &EvaluatedTask<'_>,
    rows: &[EvaluatedRow],
    (predicted, base_rate): (&[f64], f64),
) {
    let entities: Vec<EntityId> = rows.iter().map(|row| row.entity).collect();
    let times_ms: Vec<i64> = rows.iter().map(|row| row.at_ms).collect();
    let outcomes: Vec<bool> = rows.iter().map(|row| row.label > 0.5).collect();
    let ranking = Ranking::new(predicted);
    let rules = rules(&subject.notes.lookout, rows);
    let mut rankings = vec![ranking.clone()];
    rankings.extend(rules.iter().map(|(_, scores)| Ranking::new(scores)));
    let resampled = Resampled {
        entities: &entities,
        outcomes: &outcomes,
        probabilities: predicted,
        rankings,
        base_rate,
        seed: subject.seed,
    };
    let (figures, losses) = resampled.figures();
    let (model, others) = figures.split_first().expect("the model is ranked first");
    evaluation.model = Some(*model);
    evaluation.losses = Some(losses);
    evaluation.base_rate = Some(base_rate);
    let baselines = rules.into_iter().zip(others);
    evaluation.baselines = baselines
        .map(|((name, _), figures)| Baseline {
            name,
            figures: *figures,
        })
        .collect();
    let given = Outcomes {
        entities: &entities,
        times_ms: &times_ms,
        horizon_ms: subject.horizon_ms,
        outcomes: &outcomes,
    };
    evaluation.calibration = Some(calibration::calibration(&ranking, predicted, &given));
}

/// Numbers of rows, entities, outcomes and anchors.
fn counts(subject: &EvaluatedTask<'_>, rows: &[EvaluatedRow]) -> TaskEvaluation {
    let is_positive = |row: &&EvaluatedRow| match subject.is_regression {
        true => row.label > 0.0,
        false => row.label > 0.5,
    };
    let positives: Vec<&EvaluatedRow> = rows.iter().filter(is_positive).collect();
    let entities: BTreeSet<EntityId> = rows.iter().map(|row| row.entity).collect();
    let mut won: BTreeMap<EntityId, Vec<i64>> = BTreeMap::new();
    for row in &positives {
        won.entry(row.entity).or_default().push(row.at_ms);
    }
    let anchors: BTreeSet<i64> = rows.iter().map(|row| row.at_ms).collect();
    let iso = |at: Option<&i64>| at.map_or_else(String::new, |ms| utc(*ms));
    TaskEvaluation {
        task: subject.task.to_owned(),
        query: subject.query.to_owned(),
        horizon_days: subject.horizon_ms as f64 / leadpulse_schema::units::DAY_MS_F64,
        rows: rows.len(),
        entities: entities.len(),
        positives: positives.len(),
        positive_entities: won.len(),
        outcomes: won
            .into_values()
            .map(|times_ms| apart(times_ms, subject.horizon_ms))
            .sum(),
        anchors: anchors.len(),
        first_anchor: iso(anchors.first()),
        last_anchor: iso(anchors.last()),
        ..TaskEvaluation::default()
    }
}

/// The most of these moments that lie at least a horizon apart.
fn apart(mut times_ms: Vec<i64>, horizon_ms: i64) -> usize {
    times_ms.sort_unstable();
    let mut last_ms: Option<i64> = None;
    let mut count = 0;
    for at_ms in times_ms {
        if last_ms.is_none_or(|last_ms| at_ms - last_ms >= horizon_ms) {
            last_ms = Some(at_ms);
            count += 1;
        }
    }
    count
}

/// The simple rules, each with a score per row.
fn rules(lookout: &Lookout, rows: &[EvaluatedRow]) -> Vec<(String, Vec<f64>)> {
    let recency = |row: &EvaluatedRow| {
        let silence_ms = row.facts.silence_ms;
        silence_ms.map_or(f64::NEG_INFINITY, |silence_ms| -(silence_ms as f64))
    };
    let name = "recency (time since the last event)".to_owned();
    let mut rules = vec![(name, rows.iter().map(recency).collect())];
    if let Some(points) = &lookout.points {
        let score = |row: &EvaluatedRow| row.facts.points.unwrap_or(f64::NEG_INFINITY);
        let name = format!("the existing score {}", points.name);
        rules.push((name, rows.iter().map(score).collect()));
    }
    rules
}

fn deciles(ranking: &Ranking, predicted: &[f64], outcomes: &[bool]) -> Vec<Decile> {
    let positives = outcomes.iter().filter(|outcome| **outcome).count() as f64;
    let rate = positives / outcomes.len() as f64;
    let bins = Binning::new(ranking, 10).sums(predicted, |row| outcomes[row]);
    let mut captured = 0.0;
    let tenths = bins.iter().map(|bin| {
        captured += bin.observed;
        let of_bin = bin.observed / bin.rows;
        Decile {
            rows: bin.rows,
            predicted: bin.predicted / bin.rows,
            rate: of_bin,
            lift: if rate > 0.0 { of_bin / rate } else { 0.0 },
            captured: if positives > 0.0 {
                captured / positives
            } else {
                0.0
            },
        }
    });
    tenths.collect()
}

fn top_to_bottom(evaluation: &TaskEvaluation) -> Option<f64> {
    let (top, bottom) = (evaluation.deciles.first()?, evaluation.deciles.last()?);
    let is_enough = evaluation.outcomes >= MIN_OUTCOMES_OF_RATIO && bottom.rate > 0.0;
    is_enough.then(|| top.rate / bottom.rate)
}
