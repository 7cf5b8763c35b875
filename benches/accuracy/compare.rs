//! Differences between models, beside the differences that chance makes.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// AUROC of a model on resampled accounts, with what it needs prepared once.
struct Ranked {
    /// By score, ascending: (account, outcome); rows of one score together.
    ties: Vec<Vec<(u32, bool)>>,
}

impl Ranked {
    fn new(scores: &[f64], outcomes: &[bool], accounts: &[u32]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let tied = order.chunk_by(|a, b| scores[*a] == scores[*b]);
        Self {
            ties: tied
                .map(|rows| {
                    rows.iter()
                        .map(|row| (accounts[*row], outcomes[*row]))
                        .collect()
                })
                .collect(),
        }
    }

    fn auroc(&self, times_drawn: &[u32]) -> f64 {
        let (mut below, mut won, mut positives) = (0.0, 0.0, 0.0);
        for tie in &self.ties {
            let (mut yes, mut no) = (0.0, 0.0);
            for (account, outcome) in tie {
                let weight = f64::from(times_drawn[*account as usize]);
                if *outcome {
                    yes += weight;
                } else {
                    no += weight;
                }
            }
            won += yes * (below + no / 2.0);
            below += no;
            positives += yes;
        }
        won / (positives * below)
    }
}

/// AUROC of each model on each of the same resamples of accounts: `[resample][model]`.
pub fn resampled_auroc(
    models: &[&[f64]],
    outcomes: &[bool],
    accounts: &[u32],
    seed: u64,
) -> Vec<Vec<f64>> {
    let mut distinct: Vec<u32> = accounts.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let width = distinct.last().map_or(0, |last| *last as usize + 1);
    let ranked: Vec<Ranked> = models
        .iter()
        .map(|scores| Ranked::new(scores, outcomes, accounts))
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..RESAMPLES)
        .map(|_| {
            let mut times_drawn = vec![0; width];
            for _ in 0..distinct.len() {
                times_drawn[distinct[rng.random_range(0..distinct.len())] as usize] += 1;
            }
            ranked
                .iter()
                .map(|model| model.auroc(&times_drawn))
                .collect()
        })
        .collect()
}

/// The middle 95 % of values.
pub fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        values
            .get((share * values.len().saturating_sub(1) as f64).round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    };
    (at(0.025), at(0.975))
}

/// Half the width of the 95 % interval of a mean of independent values: Student's quantile for few,
/// the normal one for more than thirty. 0 for fewer than two.
pub fn half_width(values: &[f64]) -> f64 {
    // Two-sided 95 % quantiles by degrees of freedom, from 1.
    const STUDENT: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    let Some(freedom) = values.len().checked_sub(1).filter(|freedom| *freedom > 0) else {
        return 0.0;
    };
    let quantile = STUDENT.get(freedom - 1).copied().unwrap_or(1.96);
    quantile * mean_and_deviation(values).1 / (values.len() as f64).sqrt()
}

/// Mean and standard deviation over seeds; the latter 0 for one seed.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (
        mean,
        if values.len() > 1 {
            (squares / (values.len() - 1) as f64).sqrt()
        } else {
            0.0
        },
    )
}

/// An account that began to evaluate vendors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    pub account: u32,
    pub at_ms: i64,
    /// Time of the purchase, if it came before the next beginning and the end of the history.
    pub won_ms: Option<i64>,
    /// Until when it is watched.
    pub until_ms: i64,
}

/// Delay until a weekly list noticed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub entries: usize,
    /// Kaplan–Meier median, days; `None` when fewer than half are noticed.
    pub median_days: Option<f64>,
    /// Of those that bought: noticed before.
    pub before_win_ratio: f64,
    /// Median days from notice to purchase, of those.
    pub lead_days: f64,
}

/// Each week the accounts with the highest scores are worked on, a fixed share of all. An entry is
/// noticed in the first week at or after it in which its account is among them.
pub fn detect(
    rows: &[(i64, u32)],
    scores: &[f64],
    budget_ratio: f64,
    entries: &[Entry],
) -> Detection {
    let mut listed_ms: HashMap<u32, Vec<i64>> = HashMap::new();
    let mut start = 0;
    while start < rows.len() {
        let end = start
            + rows[start..]
                .iter()
                .take_while(|(at_ms, _)| *at_ms == rows[start].0)
                .count();
        let mut week: Vec<usize> = (start..end).collect();
        week.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        week.truncate(((end - start) as f64 * budget_ratio).round().max(1.0) as usize);
        week.iter().for_each(|row| {
            listed_ms
                .entry(rows[*row].1)
                .or_default()
                .push(rows[*row].0)
        });
        start = end;
    }
    let noticed = |entry: &Entry| {
        let listed = listed_ms.get(&entry.account)?;
        listed
            .iter()
            .copied()
            .find(|at_ms| *at_ms >= entry.at_ms)
            .filter(|at_ms| *at_ms < entry.until_ms)
    };
    let days = |ms: i64| ms as f64 / crate::history::DAY_MS as f64;
    let times: Vec<(f64, bool)> = entries
        .iter()
        .map(|entry| match noticed(entry) {
            Some(at_ms) => (days(at_ms - entry.at_ms), true),
            None => (days(entry.until_ms - entry.at_ms), false),
        })
        .collect();
    let won = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry.won_ms?, noticed(entry))))
    };
    let mut leads: Vec<f64> = won()
        .filter_map(|(won_ms, noticed)| Some(days(won_ms - noticed?)))
        .collect();
    leads.sort_by(f64::total_cmp);
    Detection {
        entries: entries.len(),
        median_days: kaplan_meier_median(times),
        before_win_ratio: leads.len() as f64 / won().count().max(1) as f64,
        lead_days: leads.get(leads.len() / 2).copied().unwrap_or(f64::NAN),
    }
}

/// The time by which half have had their event, of (time, whether it was the event or the end of
/// watching).
fn kaplan_meier_median(mut times: Vec<(f64, bool)>) -> Option<f64> {
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut at_risk = times.len() as f64;
    let mut left = 1.0;
    for same in times.chunk_by(|a, b| a.0 == b.0) {
        let events = same.iter().filter(|(_, is_event)| *is_event).count() as f64;
        left *= 1.0 - events / at_risk;
        if left <= 0.5 + 1e-9 {
            return Some(same[0].0);
        }
        at_risk -= same.len() as f64;
    }
    None
}
