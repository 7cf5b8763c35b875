//! The grade of a task: whether its figures can be relied on, with the reasons in words.
//!
//! Decision: docs/decisions/0048-a-bundle-carries-its-grade.md

use leadpulse_model::{Grade, Quality};

use super::TaskEvaluation;

/// Fewer entities with a positive outcome say nothing reliable.
const MIN_POSITIVE_ENTITIES: usize = 50;
/// Fewer say little.
const ENOUGH_POSITIVE_ENTITIES: usize = 200;
/// A calibration error this many times its null is off, if it also exceeds the null's 95 % point.
const NULL_MULTIPLE: f64 = 2.0;

/// Grades an evaluation. `positive_entities`: the distinct entities with a positive outcome among
/// all rows that were learnt from or evaluated.
pub(super) fn quality(evaluation: &TaskEvaluation, positive_entities: usize) -> Quality {
    let mut quality = Quality {
        grade: Grade::Sound,
        reasons: Vec::new(),
    };
    let mut lower = |grade: Grade, reason: String| {
        quality.grade = quality.grade.min(grade);
        quality.reasons.push(reason);
    };
    if positive_entities < ENOUGH_POSITIVE_ENTITIES {
        let grade = match positive_entities < MIN_POSITIVE_ENTITIES {
            true => Grade::Insufficient,
            false => Grade::Provisional,
        };
        lower(
            grade,
            format!(
                "{positive_entities} entities have a positive outcome; {MIN_POSITIVE_ENTITIES} are \
                 the least, {ENOUGH_POSITIVE_ENTITIES} are enough"
            ),
        );
    }
    if let Some(auroc) = evaluation.model.as_ref().and_then(|model| model.auroc) {
        if auroc.value < 0.5 {
            let reason = format!("worse than chance: AUROC {:.3} is below .5", auroc.value);
            lower(Grade::WorseThanChance, reason);
        } else if auroc.low <= 0.5 {
            let reason = format!(
                "not told from chance: the interval of AUROC, {:.3} to {:.3}, includes .5",
                auroc.low, auroc.high
            );
            lower(Grade::Insufficient, reason);
        }
    }
    if let Some(losses) = &evaluation.losses
        && losses.log_loss_over_base_rate.value > 0.0
    {
        let reason = format!(
            "its probabilities are worse than the base rate for everyone: log loss {:+.4} beside it",
            losses.log_loss_over_base_rate.value
        );
        lower(Grade::Provisional, reason);
    }
    for baseline in &evaluation.baselines {
        if let Some(behind) = baseline.figures.auroc_behind.filter(|b| b.value < 0.0) {
            let reason = format!(
                "ranks worse than {}: AUROC {:+.3} ({:+.3} to {:+.3})",
                baseline.name, behind.value, behind.low, behind.high
            );
            lower(Grade::Provisional, reason);
        }
    }
    if let Some(found) = &evaluation.calibration
        && found.ece > NULL_MULTIPLE * found.null_ece
        && found.ece > found.null_ece_high
    {
        let reason = format!(
            "calibration is off: ECE {:.4}, {:.1} times the {:.4} of true probabilities (mean \
             probability {:.4}, rate {:.4})",
            found.ece,
            found.ece / found.null_ece,
            found.null_ece,
            found.mean_predicted,
            found.rate
        );
        lower(Grade::Provisional, reason);
    }
    quality
}
