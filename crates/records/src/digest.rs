//! The record of a digest: one for the alerts of a person and day beyond the cap.

use std::sync::Arc;

use leadpulse_policy::{Digest, digest_id};

use crate::alert::Alert;
use crate::emission::{Lineage, part};
use crate::symbol::{Symbol, TypeName};

/// Accounts that the sentence names, at most.
const NAMED: usize = 5;

/// Composes the record of a digest. Its parts are all alerts with all of their parts, the most
/// urgent first. `entity_type` and `task` are `digest`, and `entity_id` is the person.
///
/// `None` for a digest without alerts.
pub fn digest_alert(digest: &Digest, lineage: &Lineage) -> Option<Alert> {
    let lead = &digest.alerts.first()?.lead.draft;
    let owner = digest.owner.clone().unwrap_or_default();
    let kind: Arc<str> = Arc::from("digest");
    let parts = digest.alerts.iter().flat_map(|alert| alert.all());
    Some(Alert {
        alert_id: digest_id(&owner, digest.ends_at_ms),
        r#type: TypeName("digest"),
        severity: Symbol(lead.severity.name()),
        state: Symbol("open"),
        dedupe_key: Some(format!("digest|{owner}")),
        task: kind.clone(),
        entity_type: kind,
        entity_id: owner.clone(),
        owner_id: digest.owner.as_deref().map(str::to_owned),
        probability: lead.probability,
        score: 100.0 * lead.probability,
        trend: Symbol(lead.trend.name()),
        summary: Some(summary(digest)),
        value_at_stake: lead_value(digest),
        parts: parts.map(part).collect(),
        as_of: digest.ends_at_ms,
        crossed_at: digest.ends_at_ms,
        epoch: lineage.epoch,
        bundle_id: Some(lineage.bundle_id.clone()),
        plan_hash: Some(lineage.plan_hash.clone()),
        board: lineage.board,
        ..Alert::default()
    })
}

/// Sum of the open deals of all accounts; `None` without any.
fn lead_value(digest: &Digest) -> Option<f64> {
    let values = digest
        .alerts
        .iter()
        .map(|one| one.lead.draft.value_at_stake);
    Some(values.sum()).filter(|value| *value > 0.0)
}

/// `4 more alerts of the day: A4, A3 and 2 more.`
fn summary(digest: &Digest) -> String {
    let count = digest.alerts.len();
    let accounts = digest.alerts.iter().map(|one| one.lead.account.to_string());
    let accounts: Vec<String> = accounts.collect();
    let alerts = if count == 1 { "alert" } else { "alerts" };
    format!(
        "{count} more {alerts} of the day: {}.",
        leadpulse_features::words::listed(&accounts, NAMED)
    )
}

#[cfg(test)]
mod tests {
    use leadpulse_policy::{
        AccountAlert, AlertDraft, AlertKey, AlertLife, AlertType, EntityDraft, Severity, Trend,
    };
    use leadpulse_schema::units::AsOf;

    use super::*;

    fn alert(account: &str, severity: Severity) -> AccountAlert {
        let draft = AlertDraft {
            key: AlertKey {
                alert_type: AlertType::ThresholdUp,
                crossed_at_ms: 10_000,
            },
            life: AlertLife::Open,
            severity,
            tick_ms: 10_000,
            probability: 0.25,
            has_left: false,
            change: None,
            trend: Trend::Unknown,
            velocity_per_day: None,
            threshold: Some(0.2),
            previous_band: None,
            band: None,
            value_at_stake: 100.0,
            expires_at_ms: None,
            supersedes: None,
            is_held_out: false,
            is_pinned: false,
            is_silenced: false,
        };
        let lead = EntityDraft {
            task: "wins".into(),
            entity_type: "accounts".into(),
            entity_id: account.into(),
            account: account.into(),
            owner: Some("ann".into()),
            draft,
        };
        AccountAlert {
            lead,
            parts: Vec::new(),
        }
    }

    #[test]
    fn a_digest_is_one_record_of_all_alerts() {
        let lineage = Lineage {
            epoch: 7,
            as_of: AsOf::from_ms(0),
            bundle_id: "b".into(),
            plan_hash: "p".into(),
            board: -1,
        };
        let digest = |alerts: Vec<AccountAlert>| Digest {
            owner: Some("ann".into()),
            day: 3,
            ends_at_ms: 345_600_000,
            alerts,
        };
        let two = digest(vec![alert("A4", Severity::P1), alert("A3", Severity::P3)]);
        let record = digest_alert(&two, &lineage).unwrap();
        assert_eq!(record.alert_id, digest_id("ann", 345_600_000));
        assert_eq!((record.r#type.0, record.severity.0), ("digest", "P1"));
        assert_eq!(
            record.summary.as_deref(),
            Some("2 more alerts of the day: A4, A3.")
        );
        assert_eq!(record.value_at_stake, Some(200.0));
        let parts: Vec<&str> = record.parts.iter().map(|part| &*part.entity_id).collect();
        assert_eq!(parts, ["A4", "A3"]);
        assert_eq!(record.parts[0].alert_id, two.alerts[0].lead.alert_id());
        assert!(digest_alert(&digest(Vec::new()), &lineage).is_none());
    }
}
