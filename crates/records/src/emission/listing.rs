//! The entry of an entity on a work list.

use leadpulse_features::{Facts, probability};
use leadpulse_policy::{
    Action, AlertDraft, AlertFacts, AlertKey, AlertLife, AlertType, ScoreChange, Severity,
};

use super::{Emission, Standing};
use crate::wording::Telling;
use crate::worklist::{ListReasons, WorkListEntry};

/// Everything about an entry besides the emission, which is of the list's moment and of the logit
/// that the list ranks by.
pub struct Listing<'a> {
    /// The score before that the sentence compares with.
    pub change: Option<ScoreChange>,
    /// Place among all entities of the task.
    pub standing: Standing,
    /// Facts of the account at the list's moment.
    pub facts: &'a AlertFacts,
    pub reasons: &'a ListReasons,
    /// Moment from which on the account has been on the list, milliseconds.
    pub since_ms: i64,
}

impl Emission<'_> {
    /// Composes the entry. `None` for an entity without a score.
    pub fn list_entry(&self, listing: &Listing<'_>) -> Option<WorkListEntry> {
        let logit = self.logit.ok()?;
        let facts = self.facts();
        let reasons = listing.reasons;
        let action = self.action_by(&facts.committee, None, reasons.top_group.as_deref());
        let name = self.name(&facts);
        let entity_id = self.graph.directory().key(self.entity).clone();
        let told_name = name.clone().unwrap_or_else(|| entity_id.to_string());
        Some(WorkListEntry {
            entity_type: self.catalog.table_at(self.table).name.as_str().into(),
            account_id: listing.facts.account.as_str().into(),
            quality: self.quality.map(Into::into),
            probability: probability(logit),
            logit,
            percentile: listing.standing.percentile,
            rank: listing.standing.rank as i64,
            ranked: listing.standing.ranked as i64,
            band: self.decision.band.clone(),
            trend: self.decision.trend.name().to_owned(),
            top_group: reasons.top_group.clone(),
            top_signal: reasons.top_signal.clone(),
            drivers_as_of: reasons.as_of_ms,
            summary: self.list_sentence(&told_name, listing, &facts, action),
            recommended_action: action.map(|action| action.code.to_string()),
            recommended_action_label: action.map(|action| action.label.to_string()),
            suggested_contact_id: facts.committee.members.first().map(|one| one.key.clone()),
            value_at_stake: Some(listing.facts.value_at_stake()).filter(|value| *value > 0.0),
            has_open_opportunity: !listing.facts.open_deals.is_empty(),
            listed_since: listing.since_ms,
            entity_id,
            name,
        })
    }

    fn list_sentence(
        &self,
        name: &str,
        listing: &Listing<'_>,
        facts: &Facts,
        action: Option<&Action>,
    ) -> String {
        let draft = self.standing_draft(listing);
        let changes = self.changes(listing.change.as_ref());
        let telling = Telling {
            changes: &changes,
            name,
            draft: &draft,
            alert_facts: listing.facts,
            facts,
            drag: None,
            from: None,
            next: action
                .filter(|action| !action.is_nothing())
                .map(|action| &*action.label),
        };
        telling.list_sentence(listing.reasons.top_signal.as_deref())
    }

    /// The score of an entry in the form that sentences are composed from. It is no alert.
    fn standing_draft(&self, listing: &Listing<'_>) -> AlertDraft {
        let tick_ms = self.lineage.as_of.ms();
        AlertDraft {
            key: AlertKey {
                alert_type: AlertType::ThresholdUp,
                crossed_at_ms: tick_ms,
            },
            life: AlertLife::Open,
            severity: Severity::P3,
            tick_ms,
            probability: self.logit.map_or(0.0, probability),
            has_left: false,
            is_silenced: false,
            change: listing.change.clone(),
            trend: self.decision.trend,
            velocity_per_day: None,
            threshold: None,
            previous_band: None,
            band: self.decision.band.clone(),
            value_at_stake: 0.0,
            expires_at_ms: None,
            supersedes: None,
            is_held_out: false,
            is_pinned: false,
        }
    }
}
