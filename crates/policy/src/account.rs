//! One account, one alert: the drafts of a tick about an account, its leads and contacts, in all
//! tasks, become one alert with parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alerts::{AlertDraft, AlertKey, AlertLife, alert_id};

/// An alert of an entity, with the entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityDraft {
    /// Name of the task.
    pub task: Arc<str>,
    /// Table of the entity.
    pub entity_type: Arc<str>,
    /// Key of the entity.
    pub entity_id: Arc<str>,
    /// Key of the account; of the entity where it belongs to none.
    pub account: Arc<str>,
    /// Person of the own company whom the alert is for.
    pub owner: Option<Arc<str>>,
    pub draft: AlertDraft,
}

impl EntityDraft {
    /// Name of the alert: by the crossing, or by the tick at which it became more urgent or ended.
    /// So whoever acts once for each name acts on these, too.
    pub fn alert_id(&self) -> String {
        let AlertDraft { key, tick_ms, .. } = &self.draft;
        match self.draft.life {
            AlertLife::Open => self.id_of(*key),
            AlertLife::Updated | AlertLife::Resolved => self.id_of(AlertKey {
                crossed_at_ms: *tick_ms,
                ..*key
            }),
        }
    }

    /// Name of the alert that this one replaces: the one that it updates or ends, or that of the
    /// other threshold.
    pub fn supersedes_alert_id(&self) -> Option<String> {
        let own = (self.draft.life != AlertLife::Open).then_some(self.draft.key);
        own.or(self.draft.supersedes).map(|key| self.id_of(key))
    }

    fn id_of(&self, key: AlertKey) -> String {
        alert_id(
            &self.task,
            &self.entity_type,
            &self.entity_id,
            key.alert_type,
            key.crossed_at_ms,
        )
    }

    /// Order of parts: severity, then value at stake, task, entity and type.
    pub(crate) fn precedes(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (&self.draft, &other.draft);
        a.severity
            .cmp(&b.severity)
            .then_with(|| b.value_at_stake.total_cmp(&a.value_at_stake))
            .then_with(|| self.task.cmp(&other.task))
            .then_with(|| self.entity_type.cmp(&other.entity_type))
            .then_with(|| self.entity_id.cmp(&other.entity_id))
            .then_with(|| a.key.cmp(&b.key))
    }
}

/// The alert of one tick about one account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountAlert {
    /// The part that leads: its id, type and severity are the alert's.
    pub lead: EntityDraft,
    /// The other parts, in order.
    pub parts: Vec<EntityDraft>,
}

impl AccountAlert {
    /// True if nobody may see the alert: the account is of the hold-out share.
    pub fn is_held_out(&self) -> bool {
        self.lead.draft.is_held_out
    }

    /// True if the alert asks for something: a new one, or a more urgent one.
    pub fn is_news(&self) -> bool {
        self.lead.draft.life != AlertLife::Resolved
    }

    /// The leading part and the others, in order.
    pub fn all(&self) -> impl Iterator<Item = &EntityDraft> {
        std::iter::once(&self.lead).chain(&self.parts)
    }
}

/// Combines the drafts of one tick, whatever their order, into one alert an account.
///
/// What opens or becomes more urgent leads what is resolved; then the order is severity, value at
/// stake, task, entity and type. Alerts come in the same order of their leading parts.
pub fn combine(mut drafts: Vec<EntityDraft>) -> Vec<AccountAlert> {
    let ends = |one: &EntityDraft| one.draft.life == AlertLife::Resolved;
    drafts.sort_by(|a, b| ends(a).cmp(&ends(b)).then_with(|| a.precedes(b)));
    let mut alerts: Vec<AccountAlert> = Vec::new();
    let mut places: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for part in drafts {
        match places.get(&part.account) {
            Some(place) => alerts[*place].parts.push(part),
            None => {
                places.insert(part.account.clone(), alerts.len());
                alerts.push(AccountAlert {
                    lead: part,
                    parts: Vec::new(),
                });
            }
        }
    }
    alerts
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alerts::{AlertType, Severity};
    use crate::trend::Trend;

    pub(crate) fn part(
        task: &str,
        (entity_type, entity_id): (&str, &str),
        account: &str,
        severity: Severity,
        value_at_stake: f64,
        life: AlertLife,
    ) -> EntityDraft {
        EntityDraft {
            task: task.into(),
            entity_type: entity_type.into(),
            entity_id: entity_id.into(),
            account: account.into(),
            owner: None,
            draft: AlertDraft {
                key: AlertKey {
                    alert_type: AlertType::ThresholdUp,
                    crossed_at_ms: 10_000,
                },
                life,
                severity,
                tick_ms: 10_000,
                probability: 0.3,
                has_left: false,
                change: None,
                trend: Trend::Unknown,
                velocity_per_day: None,
                threshold: None,
                previous_band: None,
                band: None,
                value_at_stake,
                expires_at_ms: None,
                supersedes: None,
                is_held_out: false,
                is_pinned: false,
                is_silenced: false,
            },
        }
    }

    fn keys(alert: &AccountAlert) -> Vec<&str> {
        alert.all().map(|part| &*part.entity_id).collect()
    }

    #[test]
    fn an_account_with_its_people_and_tasks_is_one_alert() {
        use AlertLife::{Open, Resolved};
        let drafts = vec![
            part("wins", ("accounts", "A1"), "A1", Severity::P2, 5.0, Open),
            part("leads", ("leads", "L1"), "A1", Severity::P3, 5.0, Open),
            part("wins", ("accounts", "A2"), "A2", Severity::P2, 9.0, Open),
            part(
                "people",
                ("contacts", "C1"),
                "A1",
                Severity::P1,
                5.0,
                Resolved,
            ),
            part("people", ("contacts", "C2"), "A1", Severity::P2, 5.0, Open),
        ];
        let alerts = combine(drafts);
        assert_eq!(
            alerts.iter().map(keys).collect::<Vec<_>>(),
            [vec!["A2"], vec!["C2", "A1", "L1", "C1"]],
            "the larger value first, then tasks by name, what ended last"
        );
        assert_eq!(alerts[1].lead.alert_id(), {
            let lead = &alerts[1].lead;
            alert_id(
                "people",
                "contacts",
                "C2",
                lead.draft.key.alert_type,
                10_000,
            )
        });
    }

    proptest! {
        #[test]
        fn any_order_of_drafts_gives_the_same_alerts(
            drafts in prop::collection::vec((0..3u8, 0..6u8, 0..3u8, 0..3u8, any::<bool>()), 0..24),
            turn in 0usize..24,
        ) {
            let severities = [Severity::P1, Severity::P2, Severity::P3];
            let mut parts: Vec<EntityDraft> = drafts.iter().enumerate().map(|(index, (task, entity, severity, value, is_open))| {
                let id = format!("{entity}-{index}");
                let life = if *is_open { AlertLife::Open } else { AlertLife::Resolved };
                part(&task.to_string(), ("t", &id), &(entity % 3).to_string(), severities[usize::from(*severity)], f64::from(*value), life)
            }).collect();
            let told = combine(parts.clone());
            let turn = turn.min(parts.len());
            parts.rotate_left(turn);
            parts.reverse();
            prop_assert_eq!(&combine(parts.clone()), &told);
            prop_assert_eq!(told.iter().map(|alert| alert.all().count()).sum::<usize>(), parts.len());
            let accounts: std::collections::BTreeSet<_> = told.iter().map(|alert| alert.lead.account.clone()).collect();
            prop_assert_eq!(accounts.len(), told.len());
            for alert in &told {
                prop_assert!(alert.parts.iter().all(|part| part.account == alert.lead.account));
            }
        }
    }
}
