//! The exposures of a tick: alerts that are told, held out, or moved into a digest.

use std::collections::BTreeSet;
use std::sync::Arc;

use leadpulse_policy::AccountAlert;
use leadpulse_records::Exposure;

use super::Machine;
use super::half::Pass;
use crate::ports::Output;

impl Machine {
    /// The exposures of alerts that ask for something, before caps.
    pub(super) fn exposures_of(&self, alerts: &[AccountAlert]) -> Vec<Exposure> {
        let mut exposures = Vec::new();
        for alert in alerts {
            let mut tasks = self.given.tasks.iter();
            let Some(task) = tasks.position(|task| task.name == alert.lead.task) else {
                continue;
            };
            let share = self.given.tasks[task].policy.hold_out_share();
            let digest = self.given.policy_digests[task].clone();
            let bundle: Arc<str> = self.given.scorer.bundle_id().into();
            exposures.extend(Exposure::of(alert, share, digest, Some(bundle)));
        }
        exposures
    }

    /// Writes the exposures of a tick. Those whose alerts are not among the sent ones wait for the
    /// digest of their owner's day.
    pub(super) fn write_exposures(
        &self,
        exposures: Vec<Exposure>,
        sent: &[AccountAlert],
        pass: &mut Pass<'_>,
    ) {
        let sent: BTreeSet<String> = sent.iter().map(|alert| alert.lead.alert_id()).collect();
        for mut exposure in exposures {
            if !sent.contains(&exposure.exposure_id) {
                let owner = exposure.owner_id.as_deref().unwrap_or_default();
                let ends_at_ms = self.given.caps.day_ends_at_ms(owner, exposure.tick);
                exposure.in_digest(ends_at_ms);
            }
            *pass
                .tally
                .exposures
                .entry(exposure.exposure_group)
                .or_default() += 1;
            let key = exposure.account_id.as_bytes().to_vec();
            let value = self.given.encoders.exposure(&exposure);
            let record = self.output(Output::Exposures, key, Some(value));
            pass.decided.outputs.push(record);
        }
    }
}
