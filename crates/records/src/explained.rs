//! Explanations as records contain them: drivers with evidence, changes since an explanation of
//! about a week before, sub-scores, the strongest signal in a few words.
//!
//! A restart knows the records only. So a record carries the values that the next explanation is
//! compared with, and contributions are multiples of 2⁻¹⁹: differences of those are exact, and an
//! earlier explanation is the difference of two numbers in the record.
//!
//! Decision: docs/decisions/0061-what-changed-and-four-sub-scores.md

mod compared;

use serde::{Deserialize, Serialize};

use leadpulse_features::{Evidence, Explanation, Group, LOGIT_STEPS, PastValues};
use leadpulse_schema::units::AsOf;

use crate::score::{ComparedValue, Driver, Score, SubScores};
use compared::{Reference, past_values};

/// Contributions below this are left out of records, logits.
const NEGLIGIBLE_LOGIT: f64 = 1e-6;
/// Contributions in records are multiples of the reciprocal. The step is above the negligible, so
/// that none but zero is left out, and half of it below.
const CONTRIBUTION_STEPS: f64 = 524_288.0;

/// The last explanation of an entity under a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Moment that was explained.
    pub as_of: AsOf,
    /// Logit without any group; with all contributions it is the logit of that moment.
    pub base_logit: f64,
    /// Contributions of the groups, strongest first, positive and negative.
    pub drivers: Vec<Driver>,
    /// Differences of contributions since [`Self::change_since_ms`], strongest first. The evidence
    /// of each is a difference too, without a value, in the direction of its contribution; it may be empty.
    pub change_drivers: Vec<Driver>,
    /// Contributions by kind of group.
    pub sub_scores: SubScores,
    /// Contributions by group of the layout: a later explanation is compared with them.
    contributions: Vec<f64>,
    /// Values of the evidence by group of the layout, for the same.
    values: Vec<PastValues>,
    /// The explanation that this one was compared with.
    reference: Option<Reference>,
}

impl Explained {
    /// Compares an explanation with an earlier one: of the one before and the one that it was
    /// compared with, that whose age is nearer to a week. `evidence` has an entry for each group,
    /// in the layout's order.
    pub fn new(
        before: Option<&Explained>,
        as_of: AsOf,
        explanation: &Explanation,
        evidence: Vec<Evidence>,
        groups: &[Group],
    ) -> Self {
        let mut contributions = vec![0.0; groups.len()];
        for part in &explanation.contributions {
            // Zero has one sign: a restart does not see the other.
            contributions[part.group] =
                (part.logit * CONTRIBUTION_STEPS).round() / CONTRIBUTION_STEPS + 0.0;
        }
        let reference = before.map(|before| before.reference_at(as_of));
        let change_drivers = reference.as_ref().map_or_else(Vec::new, |reference| {
            let differences = reference.differences(&contributions);
            let changed = reference.changed_evidence(&differences, &evidence, as_of);
            drivers(&differences, &changed, groups)
        });
        Self {
            as_of,
            base_logit: explanation.base_logit,
            drivers: drivers(&contributions, &evidence, groups),
            change_drivers,
            sub_scores: SubScores::of(&contributions, groups),
            contributions,
            values: past_values(&evidence, groups.len()),
            reference,
        }
    }

    /// The explanation that a score record carries; `None` if it carries none.
    pub fn restored(record: &Score, groups: &[Group]) -> Option<Self> {
        let (as_of, base_logit) = (AsOf::from_ms(record.drivers_as_of?), record.base_logit?);
        let of_groups = |drivers: &[Driver]| -> Vec<f64> {
            let of_group = |group: &Group| {
                let mut found = drivers.iter().filter(|driver| driver.group == group.code);
                found.next().map_or(0.0, |driver| driver.contribution)
            };
            groups.iter().map(of_group).collect()
        };
        let contributions = of_groups(&record.drivers);
        let (values, before) = compared::restored_values(&record.compared_values, groups);
        let reference = record.change_since.map(|since_ms| {
            let differences = of_groups(&record.change_drivers);
            let both = contributions.iter().zip(differences);
            Reference {
                as_of: AsOf::from_ms(since_ms),
                contributions: both.map(|(now, moved)| now - moved).collect(),
                values: before,
            }
        });
        Some(Self {
            as_of,
            base_logit,
            drivers: record.drivers.clone(),
            change_drivers: record.change_drivers.clone(),
            sub_scores: SubScores::of(&contributions, groups),
            contributions,
            values,
            reference,
        })
    }

    /// Moment of the explanation that this one was compared with, milliseconds; `None` for a first
    /// one.
    pub fn change_since_ms(&self) -> Option<i64> {
        self.reference
            .as_ref()
            .map(|reference| reference.as_of.ms())
    }

    /// Values of the evidence beside those of [`Self::change_since_ms`], by group and label.
    pub fn compared_values(&self, groups: &[Group]) -> Vec<ComparedValue> {
        compared::recorded_values(&self.values, self.reference.as_ref(), groups)
    }

    /// True for a logit that base and contributions do not sum to: the explanation is of another
    /// state, even at the same moment.
    pub fn is_of_another(&self, logit: f64) -> bool {
        let sum = self.base_logit + self.contributions.iter().sum::<f64>();
        // The rounding of contributions, and the grid that logits are rounded to.
        let rounding = NEGLIGIBLE_LOGIT * self.contributions.len() as f64;
        (sum - logit).abs() > rounding + 1.0 / LOGIT_STEPS
    }

    /// Code of the strongest positive group.
    pub fn top_group(&self) -> Option<&str> {
        self.drivers
            .iter()
            .find(|d| d.contribution > 0.0)
            .map(|d| d.group.as_str())
    }

    /// The strongest positive driver in a few words.
    pub fn top_signal(&self) -> Option<String> {
        self.drivers
            .iter()
            .find(|d| d.contribution > 0.0)
            .map(phrase)
    }

    /// Label of the strongest negative group. It follows from the state of the moment alone, as the
    /// sentence of an alert has to; changes depend on which scores were explained.
    pub fn top_drag(&self) -> Option<&str> {
        let mut negative = self
            .drivers
            .iter()
            .filter(|driver| driver.contribution < 0.0);
        negative.next().map(|driver| driver.label.as_str())
    }
}

/// A driver in a few words: the label with the value, else with the first fact, else alone.
fn phrase(driver: &Driver) -> String {
    match driver.value.as_ref().or(driver.evidence.first()) {
        Some(fact) => format!("{} ({fact})", driver.label),
        None => driver.label.clone(),
    }
}

/// Drivers of a score, strongest first. Negligible contributions are left out; the sizes of the
/// shares sum to exactly 100 percent. All three arguments have an entry for each group, in the layout's
/// order.
pub fn drivers(contributions: &[f64], evidence: &[Evidence], groups: &[Group]) -> Vec<Driver> {
    let mut order: Vec<(usize, f64)> = contributions.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    let shares = shares(&order.iter().map(|(_, x)| *x).collect::<Vec<_>>());
    let driver = |((group, contribution), share): ((usize, f64), i32)| {
        let evidence = evidence.get(group).cloned().unwrap_or_default();
        Driver {
            group: groups[group].code.clone(),
            label: groups[group].label.clone(),
            contribution,
            share,
            value: evidence.value,
            evidence: evidence.words,
            event_ids: evidence.event_ids,
        }
    };
    order
        .into_iter()
        .zip(shares)
        .filter(|((_, x), _)| x.abs() > NEGLIGIBLE_LOGIT)
        .map(driver)
        .collect()
}

/// Percentages of all contributions, each with the sign of its own; their sizes sum to 100. All 0
/// where nothing contributes.
///
/// Rounded by largest remainder: each share rounded alone could sum to 99 or 101.
fn shares(contributions: &[f64]) -> Vec<i32> {
    let total: f64 = contributions.iter().map(|x| x.abs()).sum();
    if total <= 0.0 {
        return vec![0; contributions.len()];
    }
    let sizes = contributions.iter().map(|x| 100.0 * x.abs() / total);
    let exact: Vec<f64> = sizes.collect();
    let mut rounded: Vec<i32> = exact.iter().map(|x| x.floor() as i32).collect();
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|a, b| {
        (exact[*b] - exact[*b].floor())
            .total_cmp(&(exact[*a] - exact[*a].floor()))
            .then(a.cmp(b))
    });
    let missing = 100 - rounded.iter().sum::<i32>();
    for index in order.into_iter().take(missing as usize) {
        rounded[index] += 1;
    }
    for (share, contribution) in rounded.iter_mut().zip(contributions) {
        if *contribution < 0.0 {
            *share = -*share;
        }
    }
    rounded
}

#[cfg(test)]
mod tests;
