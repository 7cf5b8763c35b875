//! Figures of rehearsed alerts: how many, for whom, and what came of them.

use std::collections::BTreeMap;

use serde::Serialize;

use leadpulse_deployment::{Rehearsed, Rise};
use leadpulse_engine::Alert;
use leadpulse_learn::Aftermath;
use leadpulse_policy::{AlertType, CapOptions};
use leadpulse_schema::units::DAY_MS;

/// An alert that asks for something, with what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedAlert {
    #[serde(skip)]
    pub record: Alert,
    pub alert_id: String,
    /// The tick, milliseconds.
    pub at: i64,
    pub r#type: &'static str,
    pub severity: &'static str,
    pub task: String,
    pub entity_id: String,
    pub owner: String,
    /// Local day of the owner, days since 1970.
    pub day: i64,
    /// False for an alert that only the digest of the day names.
    pub is_sent: bool,
    /// True once the window has ended and the outcome came; `None` while it is open.
    pub came_true: Option<bool>,
    /// Days to the outcome, where it came.
    pub lead_days: Option<f64>,
    pub summary: Option<String>,
}

/// The alerts of a rehearsal without caps that ask for something, in order. The first ones of each
/// owner and local day are sent, as `caps` has it.
pub fn news(found: &Rehearsed, caps: &CapOptions) -> Vec<JudgedAlert> {
    let mut of_day: BTreeMap<(String, i64), u32> = BTreeMap::new();
    let mut news = Vec::new();
    for record in &found.alerts {
        if record.state.0 == "resolved" || record.hold_out {
            continue;
        }
        let owner = record.owner_id.clone().unwrap_or_default();
        let own = caps.utc_offset_minutes_of.get(&owner);
        let offset_minutes = own.copied().unwrap_or(caps.utc_offset_minutes);
        let day = (record.as_of + i64::from(offset_minutes) * 60_000).div_euclid(DAY_MS);
        let count = of_day.entry((owner.clone(), day)).or_default();
        let is_sent = caps.per_owner_and_day.is_none_or(|cap| *count < cap);
        *count += 1;
        news.push(JudgedAlert {
            alert_id: record.alert_id.clone(),
            at: record.as_of,
            r#type: record.r#type.0,
            severity: record.severity.0,
            task: record.task.to_string(),
            entity_id: record.entity_id.to_string(),
            owner,
            day,
            is_sent,
            came_true: None,
            lead_days: None,
            summary: record.summary.clone(),
            record: record.clone(),
        });
    }
    news
}

/// Counts of some alerts, and what came of those that were opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AlertGroup {
    /// Before caps.
    pub alerts: usize,
    /// After caps.
    pub sent: usize,
    /// Opened alerts whose window has ended.
    pub closed: usize,
    /// Those of them whose outcome came.
    pub came_true: usize,
    /// Share of `closed` whose outcome came.
    pub came_true_ratio: Option<f64>,
    /// The same share of the population at the tasks' anchors of the period, weighted as the
    /// closed alerts are.
    pub base_ratio: Option<f64>,
    /// Opened alerts whose window has not ended.
    pub open: usize,
    /// Those of them whose outcome came already.
    pub open_came_true: usize,
    /// Days to the outcome of closed alerts: first quartile, median, third quartile.
    pub lead_days: Option<[f64; 3]>,
}

/// Alerts of owners a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OwnerDays {
    pub mean: f64,
    /// The most on one day of one owner.
    pub highest: usize,
}

/// Scores over the threshold, alerted or not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RiseFigures {
    pub rises: usize,
    /// Rises that were watched long enough, or fell before.
    pub watched: usize,
    /// Rises that fell below `exit` within three days.
    pub reversed: usize,
    pub reversed_ratio: Option<f64>,
}

/// The figures of one policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AlertFigures {
    /// The configuration of the policy.
    pub policy: String,
    pub days: f64,
    pub owners: usize,
    pub accounts: usize,
    pub before_caps: OwnerDays,
    pub after_caps: OwnerDays,
    /// Alerts of good news: the outcome is expected.
    pub rising: AlertGroup,
    pub all: AlertGroup,
    pub by_type: BTreeMap<String, AlertGroup>,
    pub by_severity: BTreeMap<String, AlertGroup>,
    pub by_task: BTreeMap<String, AlertGroup>,
    /// Owner → alerts before and after caps; nobody is the empty name.
    pub by_owner: BTreeMap<String, (usize, usize)>,
    /// Local day → alerts before and after caps.
    pub by_day: BTreeMap<String, (usize, usize)>,
    /// Ends of alerts; they are written, and ask for nothing.
    pub resolved: usize,
    /// Alerts of accounts of the hold-out share.
    pub held_out: usize,
    pub rises: RiseFigures,
    /// Reason → crossings that fired no alert. `cap` is the digest.
    pub held_back: BTreeMap<String, u64>,
}

/// The input of a policy's figures.
pub struct Judgement<'a> {
    pub policy: String,
    pub found: &'a Rehearsed,
    pub news: &'a mut [JudgedAlert],
    /// By alert of `news`.
    pub aftermaths: &'a [Aftermath],
    /// Task → share of its population with the outcome.
    pub base_rates: &'a BTreeMap<String, Option<f64>>,
}

impl Judgement<'_> {
    /// The figures. The alerts get their outcomes.
    pub fn figures(self) -> AlertFigures {
        let Rehearsed {
            alerts,
            held,
            rises,
            owners,
            live_from_ms,
            until_ms,
        } = self.found;
        let mut gathered = Gathered::default();
        for (alert, aftermath) in self.news.iter_mut().zip(self.aftermaths) {
            let base = self.base_rates.get(&alert.task).copied().flatten();
            note_outcome(alert, aftermath);
            gathered.add(alert, aftermath, base);
        }
        let days = (until_ms - live_from_ms) as f64 / DAY_MS as f64;
        let named = owners.keys().filter(|owner| !owner.is_empty()).count();
        let mut held_back: BTreeMap<String, u64> = BTreeMap::new();
        for ((_, reason), count) in held {
            *held_back.entry((*reason).to_owned()).or_default() += count;
        }
        let capped = self.news.iter().filter(|alert| !alert.is_sent).count();
        held_back.insert("cap".to_owned(), capped as u64);
        let owner_days = named.max(1) as f64 * days;
        AlertFigures {
            policy: self.policy,
            days,
            owners: named,
            accounts: owners.values().sum(),
            before_caps: owner_days_of(self.news, named > 0, owner_days, |_| true),
            after_caps: owner_days_of(self.news, named > 0, owner_days, |alert| alert.is_sent),
            resolved: alerts.iter().filter(|a| a.state.0 == "resolved").count(),
            held_out: alerts.iter().filter(|alert| alert.hold_out).count(),
            rises: rise_figures(rises),
            held_back,
            ..gathered.finished()
        }
    }
}

fn note_outcome(alert: &mut JudgedAlert, aftermath: &Aftermath) {
    let (came_true, after_ms) = match aftermath {
        Aftermath::Closed {
            came_true,
            after_ms,
        } => (Some(*came_true), *after_ms),
        Aftermath::Open { after_ms } => (None, *after_ms),
        Aftermath::Without => (None, None),
    };
    alert.came_true = came_true;
    alert.lead_days = after_ms.map(|ms| ms as f64 / DAY_MS as f64);
}

/// Alerts of owners a day; of nobody's only where there are no owners.
fn owner_days_of(
    news: &[JudgedAlert],
    has_owners: bool,
    owner_days: f64,
    is_counted: impl Fn(&JudgedAlert) -> bool,
) -> OwnerDays {
    let mut of_day: BTreeMap<(&str, i64), usize> = BTreeMap::new();
    for alert in news {
        if is_counted(alert) && (!has_owners || !alert.owner.is_empty()) {
            *of_day.entry((&alert.owner, alert.day)).or_default() += 1;
        }
    }
    OwnerDays {
        mean: of_day.values().sum::<usize>() as f64 / owner_days,
        highest: of_day.values().max().copied().unwrap_or_default(),
    }
}

fn rise_figures(rises: &[Rise]) -> RiseFigures {
    let watched = rises.iter().filter(|rise| rise.is_reversed.is_some());
    let watched = watched.count();
    let reversed = rises.iter().filter(|rise| rise.is_reversed == Some(true));
    let reversed = reversed.count();
    RiseFigures {
        rises: rises.len(),
        watched,
        reversed,
        reversed_ratio: ratio(reversed, watched),
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A group while alerts are added.
#[derive(Default)]
struct Adding {
    group: AlertGroup,
    lead_days: Vec<f64>,
    base_rates: Vec<f64>,
}

impl Adding {
    fn add(&mut self, alert: &JudgedAlert, aftermath: &Aftermath, base: Option<f64>) {
        let group = &mut self.group;
        group.alerts += 1;
        group.sent += usize::from(alert.is_sent);
        // An update is about an alert that was judged when it was opened.
        if alert.record.state.0 != "open" {
            return;
        }
        match aftermath {
            Aftermath::Closed { came_true, .. } => {
                group.closed += 1;
                group.came_true += usize::from(*came_true);
                self.lead_days.extend(alert.lead_days);
                self.base_rates.extend(base);
            }
            Aftermath::Open { after_ms } => {
                group.open += 1;
                group.open_came_true += usize::from(after_ms.is_some());
            }
            Aftermath::Without => {}
        }
    }

    fn finished(mut self) -> AlertGroup {
        self.lead_days.sort_by(f64::total_cmp);
        let rates = self.base_rates.len();
        AlertGroup {
            came_true_ratio: ratio(self.group.came_true, self.group.closed),
            base_ratio: (rates > 0).then(|| self.base_rates.iter().sum::<f64>() / rates as f64),
            lead_days: quartiles(&self.lead_days),
            ..self.group
        }
    }
}

/// Quartiles of sorted values, between two of them in proportion; `None` without any.
fn quartiles(sorted: &[f64]) -> Option<[f64; 3]> {
    let last = sorted.len().checked_sub(1)?;
    Some([0.25, 0.5, 0.75].map(|share| {
        let place = share * last as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
    }))
}

/// All groups while alerts are added.
#[derive(Default)]
struct Gathered {
    rising: Adding,
    all: Adding,
    by_type: BTreeMap<String, Adding>,
    by_severity: BTreeMap<String, Adding>,
    by_task: BTreeMap<String, Adding>,
    by_owner: BTreeMap<String, (usize, usize)>,
    by_day: BTreeMap<String, (usize, usize)>,
}

impl Gathered {
    fn add(&mut self, alert: &JudgedAlert, aftermath: &Aftermath, base: Option<f64>) {
        let group = |groups: &mut BTreeMap<String, Adding>, name: &str| {
            let group = groups.entry(name.to_owned()).or_default();
            group.add(alert, aftermath, base);
        };
        group(&mut self.by_type, alert.r#type);
        group(&mut self.by_severity, alert.severity);
        group(&mut self.by_task, &alert.task);
        self.all.add(alert, aftermath, base);
        let is_fall = |one: &AlertType| one.name() == alert.r#type && one.is_fall();
        if !AlertType::ALL.iter().any(is_fall) {
            self.rising.add(alert, aftermath, base);
        }
        let day = crate::commands::date(alert.day * DAY_MS)[..10].to_owned();
        let owner = self.by_owner.entry(alert.owner.clone()).or_default();
        let day = self.by_day.entry(day).or_default();
        for (before, after) in [owner, day] {
            *before += 1;
            *after += usize::from(alert.is_sent);
        }
    }

    fn finished(self) -> AlertFigures {
        let finished = |groups: BTreeMap<String, Adding>| {
            let groups = groups.into_iter();
            groups.map(|(name, one)| (name, one.finished())).collect()
        };
        AlertFigures {
            rising: self.rising.finished(),
            all: self.all.finished(),
            by_type: finished(self.by_type),
            by_severity: finished(self.by_severity),
            by_task: finished(self.by_task),
            by_owner: self.by_owner,
            by_day: self.by_day,
            ..AlertFigures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(alerts: &[(&str, &'static str, i64)]) -> Rehearsed {
        let alert = |(owner, state, hour): &(&str, &'static str, i64)| {
            let mut alert = Alert {
                owner_id: (!owner.is_empty()).then(|| (*owner).to_owned()),
                task: "t".into(),
                as_of: hour * 3_600_000,
                ..Alert::default()
            };
            alert.state.0 = state;
            alert.r#type.0 = "threshold_up";
            alert
        };
        Rehearsed {
            alerts: alerts.iter().map(alert).collect(),
            owners: [("ann".to_owned(), 3), ("bob".to_owned(), 2)].into(),
            until_ms: 2 * DAY_MS,
            ..Rehearsed::default()
        }
    }

    #[test]
    fn caps_count_by_owner_and_local_day() {
        let caps = CapOptions {
            per_owner_and_day: Some(1),
            utc_offset_minutes_of: [("bob".to_owned(), 60)].into(),
            ..CapOptions::default()
        };
        let alerts = [
            ("ann", "open", 1),
            ("ann", "resolved", 2),
            ("ann", "updated", 23),
            ("bob", "open", 22),
            ("bob", "open", 23),
            ("", "open", 30),
        ];
        let news = news(&found(&alerts), &caps);
        let sent: Vec<bool> = news.iter().map(|alert| alert.is_sent).collect();
        // Bob's day begins an hour before the others'.
        assert_eq!(sent, [true, false, true, true, true]);
    }

    #[test]
    fn open_windows_and_updates_are_no_share_of_the_right_ones() {
        let alerts = ["open", "open", "open", "updated"].map(|state| ("ann", state, 5));
        let found = found(&alerts);
        let mut news = news(&found, &CapOptions::default());
        let closed = |days: Option<i64>| Aftermath::Closed {
            came_true: days.is_some(),
            after_ms: days.map(|days| days * DAY_MS),
        };
        let open = Aftermath::Open {
            after_ms: Some(DAY_MS),
        };
        let figures = Judgement {
            policy: "p".to_owned(),
            found: &found,
            news: &mut news,
            aftermaths: &[closed(Some(4)), closed(None), open, closed(Some(1))],
            base_rates: &[("t".to_owned(), Some(0.1))].into(),
        }
        .figures();
        let group = &figures.by_type["threshold_up"];
        assert_eq!((group.alerts, group.sent), (4, 3));
        assert_eq!((group.closed, group.came_true), (2, 1));
        assert_eq!((group.open, group.open_came_true), (1, 1));
        assert_eq!(group.came_true_ratio, Some(0.5));
        assert_eq!(group.base_ratio, Some(0.1));
        assert_eq!(group.lead_days, Some([4.0; 3]));
        assert_eq!(figures.held_back["cap"], 1);
        // Two owners over two days.
        assert_eq!(
            figures.before_caps,
            OwnerDays {
                mean: 1.0,
                highest: 4
            }
        );
        assert_eq!(figures.after_caps.highest, 3);
    }

    #[test]
    fn quartiles_lie_between_values_in_proportion() {
        assert_eq!(quartiles(&[]), None);
        assert_eq!(quartiles(&[1.0, 2.0, 3.0, 4.0, 9.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles(&[0.0, 2.0]), Some([0.5, 1.0, 1.5]));
    }
}
