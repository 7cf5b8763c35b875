//! The alerts that a sink wants.

use crate::options::Interest;
use crate::protocols::{Fields, text};

impl Interest {
    /// True for an alert that the lists leave in. One of the hold-out share reaches nobody, whatever
    /// the lists say.
    pub(crate) fn wants(&self, alert: &Fields) -> bool {
        let is_held_out = alert.get("hold_out") == Some(&serde_json::Value::Bool(true));
        if is_held_out || text(alert, "state") == Some("suppressed") {
            return false;
        }
        let lists = [
            ("task", &self.tasks),
            ("severity", &self.severities),
            ("type", &self.types),
            ("state", &self.states),
            ("owner_id", &self.owners),
        ];
        lists.into_iter().all(|(field, wanted)| {
            wanted.is_empty()
                || text(alert, field).is_some_and(|found| wanted.iter().any(|one| one == found))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn held_out_alerts_reach_nobody_and_lists_choose_among_the_others() {
        let all = Interest::default();
        let some = Interest {
            severities: vec!["P1".into(), "P2".into()],
            owners: vec!["rep-1".into()],
            ..Interest::default()
        };
        let cases = [
            (
                json!({"state": "open", "severity": "P1", "owner_id": "rep-1"}),
                true,
                true,
            ),
            (
                json!({"state": "open", "severity": "P3", "owner_id": "rep-1"}),
                true,
                false,
            ),
            (
                json!({"state": "open", "severity": "P1", "owner_id": null}),
                true,
                false,
            ),
            (
                json!({"state": "suppressed", "severity": "P1", "owner_id": "rep-1"}),
                false,
                false,
            ),
            (
                json!({"state": "open", "hold_out": true, "severity": "P1", "owner_id": "rep-1"}),
                false,
                false,
            ),
        ];
        for (alert, by_all, by_some) in cases {
            let fields = alert.as_object().unwrap();
            assert_eq!(
                (all.wants(fields), some.wants(fields)),
                (by_all, by_some),
                "{alert}"
            );
        }
    }
}
