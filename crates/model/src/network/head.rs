//! Heads: the meaning of a task's outputs. Owns the step from a network's outputs to a logit, and
//! from an outcome to what the loss sees.

use serde::{Deserialize, Serialize};

/// The events after an anchor, as far as a task asks about them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Of a condition that, once true, stays true.
    Hazard {
        /// Time from the anchor until the target became true; `None` if it has not as far as
        /// observed.
        after_ms: Option<i64>,
        /// Time from the anchor to the end of the known history.
        observed_ms: i64,
    },
    /// Whether the condition held over the whole window.
    Window(bool),
    /// The value of the task's aggregate.
    Value(f64),
}

/// The last layer of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Head {
    /// Discrete-time hazards: output `b` is the logit of becoming true within (edge b−1, edge b],
    /// given that it has not before.
    Hazard {
        /// Ends of the buckets after the anchor, milliseconds, ascending; the last is the task's
        /// horizon.
        edges_ms: Vec<i64>,
        /// So many of the last buckets had not closed for any training row: they are left out of
        /// the logit, and calibration makes up for them. Set by the fit.
        #[serde(default)]
        untrained: usize,
    },
    /// One logit for the whole window.
    Window,
    /// The value as `sign · log1p(|value|)`; what [`leadpulse_features::Scorer`] calls logit is
    /// then that number.
    Regression,
}

/// Logits are kept within ± this; a probability beyond is not distinguishable from 0 or 1 in what
/// follows.
// 1e-13: below the grid of probabilities that records promise, and far from where exp overflows.
const LOGIT_LIMIT: f64 = 30.0;

impl Head {
    /// A hazard head of these edges.
    pub fn hazard(edges_ms: Vec<i64>) -> Self {
        Self::Hazard {
            edges_ms,
            untrained: 0,
        }
    }

    /// Outputs of the network for one row.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Hazard { edges_ms, .. } => edges_ms.len(),
            Self::Window | Self::Regression => 1,
        }
    }

    /// The fault of this head, if it has one.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Hazard { edges_ms, .. } if edges_ms.is_empty() => {
                Some("a hazard head needs at least one edge".into())
            }
            Self::Hazard { edges_ms, .. }
                if edges_ms[0] <= 0 || edges_ms.windows(2).any(|w| w[0] >= w[1]) =>
            {
                Some(format!(
                    "the edges of a hazard head must ascend from above 0, but are {edges_ms:?}"
                ))
            }
            _ => None,
        }
    }

    /// Whether this head can learn from such an outcome.
    pub(crate) fn accepts(&self, outcome: &Outcome) -> bool {
        matches!(
            (self, outcome),
            (Self::Hazard { .. }, Outcome::Hazard { .. })
                | (Self::Window, Outcome::Window(_))
                | (Self::Regression, Outcome::Value(_))
        )
    }

    /// Whether the condition held by the end of the window: 1 or 0 (the transformed value for a
    /// regression); `None` while the window is still open. An outcome counts only once its window
    /// has closed, a positive one too: else early positives without their cohort's negatives would
    /// bias probabilities up.
    pub fn label(&self, outcome: &Outcome) -> Option<f64> {
        match (self, outcome) {
            (
                Self::Hazard { edges_ms, .. },
                Outcome::Hazard {
                    after_ms,
                    observed_ms,
                },
            ) => {
                let horizon = *edges_ms.last()?;
                (*observed_ms >= horizon)
                    .then(|| f64::from(after_ms.is_some_and(|after| after <= horizon)))
            }
            (Self::Window, Outcome::Window(held)) => Some(f64::from(*held)),
            (Self::Regression, Outcome::Value(value)) => Some(value.signum() * value.abs().ln_1p()),
            _ => None,
        }
    }

    /// Per output the target, and its weight: 1 where the row is at risk at the start of the bucket
    /// and the bucket's end has passed, else 0.
    pub(crate) fn targets(&self, outcome: &Outcome, mut push: impl FnMut(f32, f32)) {
        match (self, outcome) {
            (
                Self::Hazard { edges_ms, .. },
                Outcome::Hazard {
                    after_ms,
                    observed_ms,
                },
            ) => {
                let mut start = 0;
                for &end in edges_ms {
                    let at_risk = after_ms.is_none_or(|after| after > start);
                    let mature = *observed_ms >= end;
                    let happened = after_ms.is_some_and(|after| after > start && after <= end);
                    push(
                        f32::from(u8::from(happened)),
                        f32::from(u8::from(at_risk && mature)),
                    );
                    start = end;
                }
            }
            _ => push(self.label(outcome).unwrap_or_default() as f32, 1.0),
        }
    }

    /// The logit that the condition holds by the end of the window, before calibration: for hazards
    /// `logit(1 − Π(1 − σ(z_b)))`.
    pub(crate) fn logit(&self, outputs: &[f32]) -> f64 {
        match self {
            Self::Hazard { untrained, .. } => {
                // 1 − σ(z) = exp(−softplus(z)), so that the survival to the end is exp(−Λ), and the
                // logit is ln(exp(Λ) − 1).
                let trained = &outputs[..outputs.len() - untrained];
                let cumulated: f64 = trained.iter().map(|z| softplus(f64::from(*z))).sum();
                let logit = if cumulated > 1.0 {
                    cumulated + (-(-cumulated).exp()).ln_1p()
                } else {
                    cumulated.exp_m1().ln()
                };
                logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            }
            Self::Window => f64::from(outputs[0]).clamp(-LOGIT_LIMIT, LOGIT_LIMIT),
            Self::Regression => f64::from(outputs[0]),
        }
    }

    /// Whether outputs are probabilities of a condition.
    pub fn is_binary(&self) -> bool {
        !matches!(self, Self::Regression)
    }
}

/// `log(1 + exp(z))`, for any z. Less `z` where the outcome is yes, it is the log loss of a logit.
pub(crate) fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hazard() -> Head {
        Head::hazard(vec![7, 14, 30])
    }

    #[test]
    fn buckets_train_once_matured() {
        // (after, observed) → per bucket (target, weight)
        for (after, observed, expected) in [
            (None, 30, [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]),
            (None, 20, [(0.0, 1.0), (0.0, 1.0), (0.0, 0.0)]),
            (Some(10), 30, [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]),
            // The win is known, but its cohort's losses are not: it waits for the edge.
            (Some(10), 12, [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]),
            (Some(7), 30, [(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]),
            (Some(31), 99, [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]),
        ] {
            let mut targets = Vec::new();
            hazard().targets(
                &Outcome::Hazard {
                    after_ms: after,
                    observed_ms: observed,
                },
                |y, w| targets.push((y, w)),
            );
            assert_eq!(targets, expected, "after {after:?} observed {observed}");
        }
    }

    #[test]
    fn labels_wait_for_the_horizon() {
        for (after, observed, expected) in [
            (Some(10), 29, None),
            (Some(10), 30, Some(1.0)),
            (None, 30, Some(0.0)),
            (Some(31), 40, Some(0.0)),
        ] {
            assert_eq!(
                hazard().label(&Outcome::Hazard {
                    after_ms: after,
                    observed_ms: observed
                }),
                expected
            );
        }
        assert_eq!(
            Head::Regression.label(&Outcome::Value(-1.0)),
            Some(-(2f64.ln()))
        );
    }

    #[test]
    fn the_logit_is_that_of_the_survival_product() {
        for z in [[-3.0f32, -2.0, 0.5], [-9.0, -12.0, -10.0], [4.0, 5.0, 1.0]] {
            let survival: f64 = z
                .iter()
                .map(|z| 1.0 - 1.0 / (1.0 + (-f64::from(*z)).exp()))
                .product();
            let expected = ((1.0 - survival) / survival).ln();
            assert!((hazard().logit(&z) - expected).abs() < 1e-6, "{z:?}");
        }
        assert_eq!(hazard().logit(&[-1e4; 3]), -LOGIT_LIMIT);
        assert_eq!(hazard().logit(&[1e4; 3]), LOGIT_LIMIT);
    }

    #[test]
    fn edges_must_ascend() {
        for edges in [vec![], vec![0, 7], vec![7, 7], vec![14, 7]] {
            assert!(Head::hazard(edges).fault().is_some());
        }
        assert_eq!(hazard().fault(), None);
    }
}
