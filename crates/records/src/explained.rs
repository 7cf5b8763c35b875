//! Explanations as records contain them: drivers with evidence, changes since the explanation
//! before, the strongest signal in a few words.

use serde::{Deserialize, Serialize};

use leadpulse_features::{Evidence, Explanation, Group, LOGIT_STEPS};
use leadpulse_schema::units::AsOf;

use crate::score::{Driver, Score};

/// Contributions below this are left out of records, logits.
const NEGLIGIBLE_LOGIT: f64 = 1e-6;

/// The last explanation of an entity under a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Moment that was explained.
    pub as_of: AsOf,
    /// Logit without any group; with all contributions it is the logit of that moment.
    pub base_logit: f64,
    /// Contributions of the groups, strongest first, positive and negative.
    pub drivers: Vec<Driver>,
    /// Moment of the explanation before, milliseconds; `None` for a first one.
    pub change_since_ms: Option<i64>,
    /// Differences of contributions since then, strongest first.
    pub change_drivers: Vec<Driver>,
    /// Contributions by group of the layout: the next explanation is compared with them.
    contributions: Vec<f64>,
}

impl Explained {
    /// Compares an explanation with the one before. `evidence` has an entry for each group, in the
    /// layout's order.
    pub fn new(
        before: Option<&Explained>,
        as_of: AsOf,
        explanation: &Explanation,
        evidence: Vec<Evidence>,
        groups: &[Group],
    ) -> Self {
        let mut contributions = vec![0.0; groups.len()];
        for part in &explanation.contributions {
            // Records leave negligible contributions out, and a restart knows the records only:
            // they are zero here too.
            contributions[part.group] = if part.logit.abs() > NEGLIGIBLE_LOGIT {
                part.logit
            } else {
                0.0
            };
        }
        let differences = before.map(|before| {
            contributions
                .iter()
                .zip(&before.contributions)
                .map(|(now, then)| now - then)
                .collect()
        });
        Self {
            as_of,
            base_logit: explanation.base_logit,
            drivers: drivers(&contributions, &evidence, groups),
            change_since_ms: before.map(|before| before.as_of.ms()),
            change_drivers: differences.map_or_else(Vec::new, |differences: Vec<f64>| {
                drivers(&differences, &evidence, groups)
            }),
            contributions,
        }
    }

    /// The explanation that a score record carries; `None` if it carries none.
    pub fn restored(record: &Score, groups: &[Group]) -> Option<Self> {
        let (as_of, base_logit) = (AsOf::from_ms(record.drivers_as_of?), record.base_logit?);
        let of_group = |group: &Group| {
            record
                .drivers
                .iter()
                .find(|driver| driver.group == group.code)
                .map_or(0.0, |d| d.contribution)
        };
        Some(Self {
            as_of,
            base_logit,
            drivers: record.drivers.clone(),
            change_since_ms: record.change_since,
            change_drivers: record.change_drivers.clone(),
            contributions: groups.iter().map(of_group).collect(),
        })
    }

    /// True for a logit that base and contributions do not sum to: the explanation is of another
    /// state, even at the same moment.
    pub fn is_of_another(&self, logit: f64) -> bool {
        let sum = self.base_logit + self.contributions.iter().sum::<f64>();
        // What was left out of the contributions, and the grid that logits are rounded to.
        let left_out = NEGLIGIBLE_LOGIT * self.contributions.len() as f64;
        (sum - logit).abs() > left_out + 1.0 / LOGIT_STEPS
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

    /// Label of the group that lowered the score most since the explanation before, or of the
    /// strongest negative one.
    pub fn top_drag(&self) -> Option<&str> {
        let drivers = self.change_drivers.iter().chain(&self.drivers);
        let mut negative = drivers.filter(|driver| driver.contribution < 0.0);
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
mod tests {
    use leadpulse_features::Contribution;

    use super::*;

    #[test]
    fn sizes_of_shares_sum_to_a_hundred() {
        for (contributions, expected) in [
            (vec![1.0, 1.0, 1.0], vec![34, 33, 33]),
            (vec![0.3, -0.5, 0.2], vec![30, -50, 20]),
            (vec![-1.0, -2.0], vec![-33, -67]),
            (vec![0.0, -0.0], vec![0, 0]),
            (vec![0.002, 1.0, 0.5, 0.25], vec![0, 57, 29, 14]),
        ] {
            assert_eq!(shares(&contributions), expected, "{contributions:?}");
        }
    }

    fn explained(before: Option<&Explained>, as_of: AsOf, contributions: [f64; 3]) -> Explained {
        let groups: Vec<Group> = ["intent", "usage", "silence"]
            .map(|code| Group {
                code: code.into(),
                label: code.to_uppercase(),
            })
            .into();
        let parts = contributions
            .iter()
            .enumerate()
            .map(|(group, logit)| Contribution {
                group,
                logit: *logit,
            })
            .collect();
        let explanation = Explanation {
            base_logit: -1.0,
            logit: -1.0 + contributions.iter().sum::<f64>(),
            contributions: parts,
        };
        let evidence = vec![
            Evidence {
                value: None,
                words: vec!["pricing ×2".into(), "demo".into()],
                event_ids: vec!["e1".into()],
            },
            Evidence {
                value: Some("3 people".into()),
                words: vec!["limit".into()],
                event_ids: vec![],
            },
            Evidence::default(),
        ];
        Explained::new(before, as_of, &explanation, evidence, &groups)
    }

    #[test]
    fn what_changed_is_the_difference_to_the_explanation_before() {
        let told = |drivers: &[Driver]| {
            drivers
                .iter()
                .map(|d| (d.group.clone(), (d.contribution * 1e3).round()))
                .collect::<Vec<_>>()
        };
        let first = explained(None, AsOf::from_ms(1), [0.5, 0.2, -0.3]);
        assert_eq!(
            (first.change_since_ms, first.change_drivers.len()),
            (None, 0)
        );
        assert_eq!(
            told(&first.drivers),
            [
                ("intent".to_owned(), 500.0),
                ("silence".into(), -300.0),
                ("usage".into(), 200.0)
            ]
        );
        let second = explained(Some(&first), AsOf::from_ms(2), [0.4, 0.9, -0.3]);
        assert_eq!(second.change_since_ms, Some(1));
        assert_eq!(
            told(&second.change_drivers),
            [("usage".to_owned(), 700.0), ("intent".into(), -100.0)]
        );
        assert_eq!(second.change_drivers[0].value.as_deref(), Some("3 people"));
    }

    #[test]
    fn an_explanation_is_of_one_logit() {
        let explained = explained(None, AsOf::from_ms(1), [0.5, 0.2, -0.3]);
        for (logit, expected) in [
            (-0.6, false),
            (-0.6 + 1e-6, false),
            (-0.5999, true),
            (0.4, true),
        ] {
            assert_eq!(explained.is_of_another(logit), expected, "{logit}");
        }
    }

    #[test]
    fn the_strongest_driver_speaks_in_a_few_words() {
        let words = |contributions| {
            let explained = explained(None, AsOf::from_ms(1), contributions);
            (
                explained.top_group().map(str::to_owned),
                explained.top_signal(),
                explained.top_drag().map(str::to_owned),
            )
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            words([0.5, 0.2, -0.9]),
            (text("intent"), text("INTENT (pricing ×2)"), text("SILENCE"))
        );
        assert_eq!(
            words([0.1, 0.2, 0.0]),
            (text("usage"), text("USAGE (3 people)"), None)
        );
        assert_eq!(words([-0.1, -0.2, 0.0]), (None, None, text("USAGE")));
        let (before, after) = (
            explained(None, AsOf::from_ms(1), [0.9, 0.1, -0.3]),
            [0.1, 0.1, -0.3],
        );
        assert_eq!(
            explained(Some(&before), AsOf::from_ms(2), after).top_drag(),
            Some("INTENT"),
            "what fell counts before what is low"
        );
    }
}
