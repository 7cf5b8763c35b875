//! Label sets that are known before anything is counted. They exist at zero, because the rate of a
//! counter that appears with its first increase misses that increase.

use leadpulse_graph::RowOutcome;
use leadpulse_policy::{AlertType, Severity, SuppressReason};
use leadpulse_records::{ExposureGroup, Reason, score_causes};

use super::{KnownLabels, Metrics};

/// Reasons for records without effect.
const UNCHANGED: [&str; 5] = [
    RowOutcome::Erased.code(),
    RowOutcome::NothingToDelete.code(),
    RowOutcome::StaleVersion.code(),
    "filtered",
    "no_row",
];
/// Remarks on accepted records.
const REMARKS: [&str; 2] = [RowOutcome::SteppedBack.code(), RowOutcome::InPart.code()];
/// Outcomes of explanations that come with a score.
const EXPLANATIONS: [&str; 4] = ["made", "listed", "carried", "over_budget"];
const ROLES: [&str; 2] = ["owner", "follower"];
const STAGES: [&str; 7] = [
    "decode", "graph", "track", "infer", "policy", "seal", "produce",
];
const WORK_REASONS: [&str; 6] = ["tick", "event", "board", "timer", "bundle", "closing"];
const QUEUES: [&str; 3] = ["tick", "dirty", "soft"];
const MEMBERS: [&str; 8] = [
    "reference",
    "link",
    "domain",
    "events",
    "provisional",
    "unresolved",
    "own",
    "competitor",
];

impl Metrics {
    /// Sets everything to zero whose labels come from the program alone.
    pub(super) fn closed_sets_at_zero(&self) {
        for reason in UNCHANGED {
            self.unchanged.with_label_values(&[reason]);
        }
        for remark in REMARKS {
            self.remarked.with_label_values(&[remark]);
        }
        for reason in Reason::ALL {
            self.dead_letters.with_label_values(&[reason.code()]);
        }
        for group in ExposureGroup::ALL {
            self.exposures.with_label_values(&[group.name()]);
        }
        for outcome in ["answered", "refused"] {
            self.requests.with_label_values(&[outcome]);
        }
        for outcome in ["in_force", "refused"] {
            self.swaps.with_label_values(&[outcome]);
        }
        for role in ROLES {
            self.role.with_label_values(&[role]);
        }
        for stage in STAGES {
            self.stage_seconds.with_label_values(&[stage]);
        }
        for reason in WORK_REASONS {
            self.work_nodes.with_label_values(&[reason]);
        }
        for queue in QUEUES {
            self.waiting_cells.with_label_values(&[queue]);
        }
        for found in MEMBERS {
            self.members.with_label_values(&[found]);
        }
        for how in ["merged", "converted"] {
            self.joined.with_label_values(&[how]);
        }
        for how in ["inexact", "unmatched", "early"] {
            self.retractions_flawed.with_label_values(&[how]);
        }
    }

    /// Sets everything to zero whose labels follow from topics and tasks.
    pub(crate) fn known_at_zero(&self, known: &KnownLabels<'_>) {
        for topic in known.topics {
            self.consumed.with_label_values(&[topic]);
            self.filtered.with_label_values(&[topic]);
            self.ignored.with_label_values(&[topic]);
            self.lag.with_label_values(&[topic]);
            self.lag_seconds.with_label_values(&[topic]);
        }
        for task in known.tasks {
            self.task_at_zero(task);
        }
    }

    fn task_at_zero(&self, task: &str) {
        for cause in score_causes() {
            self.scores.with_label_values(&[task, cause]);
        }
        for outcome in EXPLANATIONS {
            self.explanations.with_label_values(&[task, outcome]);
        }
        self.work_lists.with_label_values(&[task]);
        for alert_type in AlertType::ALL {
            let alert_type = alert_type.name();
            for severity in Severity::ALL {
                let labels = [task, alert_type, severity.name()];
                self.alerts.with_label_values(&labels);
            }
            for reason in SuppressReason::ALL {
                let labels = [task, alert_type, reason.name()];
                self.suppressed.with_label_values(&labels);
            }
        }
    }
}
