//! The exposure record: an alert that reached somebody, or that was held out for comparison.

use std::sync::Arc;

use leadpulse_policy::{AccountAlert, AlertLife};
use serde::Serialize;

/// Avro schema of [`Exposure`], JSON.
pub const EXPOSURE_SCHEMA: &str = include_str!("../../../schemas/outputs/exposure.avsc");

/// The way in which an alert was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExposureGroup {
    /// Told at its tick.
    Told,
    /// Told to nobody: the account is of the hold-out share.
    HeldOut,
    /// Told in the digest of the owner's day.
    Digest,
}

impl ExposureGroup {
    pub const ALL: [Self; 3] = [Self::Told, Self::HeldOut, Self::Digest];

    /// The name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ExposureGroup::Told => "told",
            ExposureGroup::HeldOut => "held_out",
            ExposureGroup::Digest => "digest",
        }
    }
}

/// One exposure: `schemas/outputs/exposure.avsc` gives the meaning and unit of each field.
///
/// No field depends on the epoch, so the same rows and ticks give the same bytes.
// Decision: docs/decisions/0060-exposures-are-recorded-always.md
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exposure {
    pub exposure_id: String,
    pub task: Arc<str>,
    pub entity_type: Arc<str>,
    pub entity_id: Arc<str>,
    pub account_id: Arc<str>,
    pub owner_id: Option<Arc<str>>,
    pub r#type: &'static str,
    pub severity: &'static str,
    pub state: &'static str,
    pub tick: i64,
    pub told_at: Option<i64>,
    pub probability: f64,
    pub band: Option<Arc<str>>,
    pub exposure_group: &'static str,
    pub hold_out_share: f64,
    pub policy_digest: Arc<str>,
    pub bundle_id: Option<Arc<str>>,
}

impl Exposure {
    /// The exposure of an alert that is told, or held out, at its tick. `None` for the end of an
    /// alert: it asks for nothing.
    ///
    /// `hold_out_share` and `policy_digest` are those of the task of the leading part.
    pub fn of(
        alert: &AccountAlert,
        hold_out_share: f64,
        policy_digest: Arc<str>,
        bundle_id: Option<Arc<str>>,
    ) -> Option<Self> {
        let (lead, draft) = (&alert.lead, &alert.lead.draft);
        let state = match draft.life {
            AlertLife::Open => "open",
            AlertLife::Updated => "updated",
            AlertLife::Resolved => return None,
        };
        let group = match alert.is_held_out() {
            true => ExposureGroup::HeldOut,
            false => ExposureGroup::Told,
        };
        Some(Self {
            exposure_id: lead.alert_id(),
            task: lead.task.clone(),
            entity_type: lead.entity_type.clone(),
            entity_id: lead.entity_id.clone(),
            account_id: lead.account.clone(),
            owner_id: lead.owner.clone(),
            r#type: draft.key.alert_type.name(),
            severity: draft.severity.name(),
            state,
            tick: draft.tick_ms,
            told_at: (group == ExposureGroup::Told).then_some(draft.tick_ms),
            probability: draft.probability,
            band: draft.band.clone(),
            exposure_group: group.name(),
            hold_out_share,
            policy_digest,
            bundle_id,
        })
    }

    /// Moves the exposure into the digest that ends at a moment, milliseconds.
    pub fn in_digest(&mut self, ends_at_ms: i64) {
        self.exposure_group = ExposureGroup::Digest.name();
        self.told_at = Some(ends_at_ms);
    }
}
