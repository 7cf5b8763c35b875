//! The clauses of each type of alert, from facts.

use leadpulse_features::{EventFact, MemberFact, words};
use leadpulse_policy::Pace;
use leadpulse_schema::units::DAY_MS;

use super::{Clause, Telling, short};

/// The span that activity is told over.
const WEEK_MS: i64 = 7 * DAY_MS;
/// Silence from which it is said that nothing happens.
const SILENT_DAYS: i64 = 3;
/// Most kinds of events and values of a field that are named.
const NAMED: usize = 3;
/// Most characters of a value.
const LONGEST_VALUE: usize = 40;
/// Word for events of every kind.
pub(super) const EVENTS: &str = "events";
/// Most characters of a change.
const LONGEST_CHANGE: usize = 70;
/// Counts below this are nothing to tell.
const FLOOR: f64 = 0.5;

impl Telling<'_> {
    /// `3 people active this week (Data, Finance, IT); pricing page view 2 → 5, demo request added;
    /// the last by a VP yesterday`.
    pub(super) fn activity(&self) -> Vec<Clause> {
        let people = self.people_of_the_week();
        let kinds = self.kinds_of_the_week();
        let more = self.moved(true);
        let mut clauses: Vec<Clause> = Vec::new();
        if !people.is_empty() {
            clauses.push(format!("{} active this week", counted_people(people.len())).into());
            let values = self.values_of(&people);
            clauses.extend(values.map(|values| format!(" ({values})").into()));
            match more.is_empty() {
                true => clauses.extend(self.kinds_clause()),
                false => clauses.push(either("; ", &more)),
            }
        } else if !more.is_empty() {
            clauses.push(either("", &more));
        } else if !kinds.is_empty() {
            clauses.push(format!("{} this week", listed(&kinds)).into());
        } else {
            return clauses;
        }
        clauses.extend(self.newest_clause());
        clauses
    }

    /// Changes in the direction of the alert since the score that is compared with: `pricing page
    /// view 2 → 5`, `active people 1 → 4`.
    fn moved(&self, rises: bool) -> Vec<String> {
        let agreeing = self.changes.iter();
        let agreeing = agreeing.filter(|change| change.direction.supports(rises));
        let mut texts: Vec<String> = agreeing
            .filter_map(|change| value_of_change(&change.text))
            .collect();
        let people = self.people_moved();
        let people = people.filter(|(before, now)| (now > before) == rises);
        texts.extend(people.map(|(before, now)| format!("active people {before} → {now}")));
        texts
    }

    /// People who were active at the score before and are now, where their number differs.
    fn people_moved(&self) -> Option<(u32, u32)> {
        let before = self.draft.change.as_ref()?.active_people?;
        let now = self.alert_facts.active_people?;
        (before != now).then_some((before, now))
    }

    /// `no activity for 24 days, usually every 3 days; the last: demo request by a VP`, or
    /// `no pricing page view for 21 days, usually 4 a week`.
    pub(super) fn stopped(&self) -> Vec<Clause> {
        let silent_ms = self.alert_facts.silent_ms(self.draft.tick_ms);
        let days = silent_ms.map_or(0, |ms| ms / DAY_MS);
        if days < SILENT_DAYS {
            return self.lowered();
        }
        let mut clauses: Vec<Clause> =
            vec![format!("no activity for {}", counted(days, "day")).into()];
        let usual_days = self.alert_facts.usual_gap_ms.map(|gap_ms| gap_ms / DAY_MS);
        if let Some(usual) = usual_days.filter(|usual| *usual >= 1 && *usual < days) {
            clauses.push(match usual {
                1 => ", usually every day".to_owned().into(),
                usual => format!(", usually every {usual} days").into(),
            });
        }
        if let Some(event) = self.facts.events.first() {
            let kind = kind_of(event);
            let by = self
                .rank_of(event)
                .map_or(String::new(), |rank| format!(" by {rank}"));
            clauses.push(format!("; the last: {kind}{by}").into());
        }
        clauses
    }

    /// What lowered the score of an account that is active: a lost deal, what stopped, what became
    /// fewer; else the group that weighs most against it.
    fn lowered(&self) -> Vec<Clause> {
        let since_ms = self.draft.change.as_ref().map(|change| change.since_ms);
        let lost_ms = self.alert_facts.lost_ms;
        let lost = lost_ms.filter(|lost_ms| since_ms.is_some_and(|since_ms| *lost_ms > since_ms));
        let mut clauses: Vec<Clause> = Vec::new();
        clauses.extend(lost.map(|at_ms| format!("a deal was lost {}", self.day(at_ms)).into()));
        let fewer = self.moved(false);
        if !fewer.is_empty() {
            clauses.push(either(if clauses.is_empty() { "" } else { "; " }, &fewer));
        }
        if clauses.is_empty() {
            let label = self.drag.and_then(value).map(|label| label.to_lowercase());
            let told =
                label.map(|label| format!("the chance fell, lowered most by {label}").into());
            clauses.extend(told);
        }
        clauses
    }

    /// `a VP became active yesterday: demo request`.
    pub(super) fn executive(&self) -> Vec<Clause> {
        let Some(arrival) = self.alert_facts.executives.first() else {
            return Vec::new();
        };
        let rank = self.rank_of_person(&arrival.key);
        let who = rank.unwrap_or_else(|| "a person of high rank".to_owned());
        let became = format!("{who} became active {}", self.day(arrival.at_ms));
        let mut clauses: Vec<Clause> = vec![became.into()];
        clauses.extend(self.kinds_by(&arrival.key));
        clauses
    }

    /// `4 people (Data, Finance, IT) active within 14 days: pricing page view`.
    pub(super) fn committee(&self) -> Vec<Clause> {
        let active = self.alert_facts.active_people.unwrap_or_default();
        if active < 2 {
            return Vec::new();
        }
        let people: Vec<&MemberFact> = self.facts.committee.members.iter().collect();
        let values = self.values_of(&people);
        let values = values.map_or(String::new(), |values| format!(" ({values})"));
        let mut clauses: Vec<Clause> =
            vec![format!("{active} people{values} active within 14 days").into()];
        clauses.extend(self.kinds_clause());
        clauses
    }

    /// `about 14 events this week, usually 3`.
    pub(super) fn spike(&self, pace: Option<Pace>, what: &str) -> Vec<Clause> {
        let Some(pace) = pace.filter(|pace| pace.week >= FLOOR) else {
            return Vec::new();
        };
        let usual = match pace.usual_week.round() as i64 {
            0 => "usually less than one".to_owned(),
            usual => format!("usually {usual}"),
        };
        let week = pace.week.round() as i64;
        let mut clauses: Vec<Clause> =
            vec![format!("about {week} {what} this week, {usual}").into()];
        let more = self.moved(true);
        if what == EVENTS && !more.is_empty() {
            clauses.push(either(": ", &more));
        }
        clauses.extend(self.newest_clause());
        clauses
    }

    /// `a limit of the product was reached yesterday`.
    pub(super) fn limit(&self) -> Vec<Clause> {
        let Some(at_ms) = self.alert_facts.limit_ms else {
            return Vec::new();
        };
        let day = self.day(at_ms);
        let mut clauses: Vec<Clause> =
            vec![format!("a limit of the product was reached {day}").into()];
        let mut events = self.facts.events.iter();
        let rank = events
            .find(|event| event.time_ms == at_ms)
            .and_then(|event| self.rank_of(event));
        clauses.extend(rank.map(|rank| format!(" by {rank}").into()));
        clauses
    }

    /// `a VP who was at Acme before is active: demo request`.
    pub(super) fn champion(&self) -> Vec<Clause> {
        let Some(arrival) = self.alert_facts.from_elsewhere.first() else {
            return Vec::new();
        };
        let from = self.from.and_then(value);
        let from = from.unwrap_or_else(|| "another account".to_owned());
        let rank = self.rank_of_person(&arrival.key);
        let who = rank.unwrap_or_else(|| "a person".to_owned());
        let mut clauses: Vec<Clause> =
            vec![format!("{who} who was at {from} before is active").into()];
        clauses.extend(self.kinds_by(&arrival.key));
        clauses
    }

    /// `active again 120 days after a lost deal: pricing page view`.
    pub(super) fn return_after_loss(&self) -> Vec<Clause> {
        let lost_ms = self.alert_facts.lost_ms;
        let days = lost_ms.map_or(0, |lost_ms| (self.draft.tick_ms - lost_ms) / DAY_MS);
        if days < 1 {
            return Vec::new();
        }
        let after = counted(days, "day");
        let mut clauses: Vec<Clause> =
            vec![format!("active again {after} after a lost deal").into()];
        clauses.extend(self.kinds_clause());
        clauses.extend(self.newest_clause());
        clauses
    }

    /// `about 3 of 19 peers (Finance) closed a deal in 90 days`.
    pub(super) fn peers(&self) -> Vec<Clause> {
        let Some(peers) = self.alert_facts.peers.as_ref() else {
            return Vec::new();
        };
        let Some(hub) = value(&peers.hub).filter(|_| peers.closed >= FLOOR) else {
            return Vec::new();
        };
        let closed = (peers.closed.round() as i64).clamp(1, i64::from(peers.of));
        let (of, days) = (peers.of, peers.within_days);
        vec![format!("about {closed} of {of} peers ({hub}) closed a deal in {days} days").into()]
    }

    /// People with an event in the week before the tick.
    fn people_of_the_week(&self) -> Vec<&MemberFact> {
        let from_ms = self.draft.tick_ms - WEEK_MS;
        let members = self.facts.committee.members.iter();
        members.filter(|one| one.last_event_ms >= from_ms).collect()
    }

    /// Events in the week before the tick, newest first.
    fn week(&self) -> impl Iterator<Item = &EventFact> {
        let from_ms = self.draft.tick_ms - WEEK_MS;
        let events = self.facts.events.iter();
        events.filter(move |event| event.time_ms >= from_ms)
    }

    /// Different kinds of the week, newest first.
    fn kinds_of_the_week(&self) -> Vec<String> {
        distinct(self.week().map(kind_of))
    }

    /// `: demo request, pricing page view` of one person.
    fn kinds_by(&self, person: &str) -> Option<Clause> {
        let own = self.week().filter(|event| event.owner == person);
        let kinds = distinct(own.map(kind_of));
        (!kinds.is_empty()).then(|| format!(": {}", listed(&kinds)).into())
    }

    /// `: demo request, pricing page view` of the week.
    fn kinds_clause(&self) -> Option<Clause> {
        let kinds = self.kinds_of_the_week();
        (!kinds.is_empty()).then(|| format!(": {}", listed(&kinds)).into())
    }

    /// `; the last by a VP yesterday`, of the newest event in the week.
    fn newest_clause(&self) -> Option<Clause> {
        let event = self.week().next()?;
        let by = self
            .rank_of(event)
            .map_or(String::new(), |rank| format!(" by {rank}"));
        Some(format!("; the last{by} {}", self.day(event.time_ms)).into())
    }

    /// The rank of the person behind an event, with an article.
    fn rank_of(&self, event: &EventFact) -> Option<String> {
        self.rank_of_person(&event.owner)
    }

    /// The rank of an active person, with an article.
    fn rank_of_person(&self, key: &str) -> Option<String> {
        let members = &self.facts.committee.members;
        let member = members.iter().find(|one| one.key == key)?;
        Some(with_article(&self.rank_value(member)?))
    }

    /// The value of a person's first ordered field.
    fn rank_value(&self, member: &MemberFact) -> Option<String> {
        let ordered = self.facts.committee.highest.keys();
        let mut values = ordered.filter_map(|field| member.values.get(field));
        value(values.next()?)
    }

    /// The values of the field by which the people differ most, ordered fields aside.
    fn values_of(&self, people: &[&MemberFact]) -> Option<String> {
        let committee = &self.facts.committee;
        let mut widest: Vec<String> = Vec::new();
        for field in committee.by_field.keys() {
            if committee.highest.contains_key(field) {
                continue;
            }
            let values = people.iter().filter_map(|one| one.values.get(field));
            let mut values = distinct(values.filter_map(|text| value(text)));
            values.sort_unstable();
            if values.len() > widest.len() {
                widest = values;
            }
        }
        (!widest.is_empty()).then(|| listed(&widest))
    }

    /// A day relative to the tick: `today`, `yesterday`, `4 days ago`. Days are those of UTC.
    fn day(&self, at_ms: i64) -> String {
        let day = |ms: i64| ms.div_euclid(DAY_MS);
        match day(self.draft.tick_ms) - day(at_ms) {
            ..=0 => "today".to_owned(),
            1 => "yesterday".to_owned(),
            days => format!("{days} days ago"),
        }
    }
}

/// The kind of an event in words; that of its table without one.
fn kind_of(event: &EventFact) -> String {
    let kind = value(&event.kind).map(|kind| kind.to_lowercase());
    kind.unwrap_or_else(|| words::singular(&words::name(&event.table)))
}

/// A value of a row in words, in one line; `None` for an empty one, and for an address.
fn value(text: &str) -> Option<String> {
    let text = short(&words::value(text)?, LONGEST_VALUE);
    (!text.is_empty()).then_some(text)
}

/// A difference in one line; `None` for an empty one.
fn value_of_change(text: &str) -> Option<String> {
    let text = short(text, LONGEST_CHANGE);
    (!text.is_empty()).then_some(text)
}

/// The first changes as one clause: three, or two, or one, as there is room.
fn either(lead: &str, changes: &[String]) -> Clause {
    let most = changes.len().min(NAMED);
    let some = (1..=most).rev();
    Clause(
        some.map(|n| format!("{lead}{}", changes[..n].join(", ")))
            .collect(),
    )
}

fn counted_people(people: usize) -> String {
    match people {
        1 => "1 person".to_owned(),
        people => format!("{people} people"),
    }
}

fn counted(count: i64, unit: &str) -> String {
    match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Different texts in the order of their first place, without empty ones.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        if !text.is_empty() && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// `A, B, C` of the first three, and the number of the others.
fn listed(texts: &[String]) -> String {
    words::listed(texts, NAMED)
}

/// `a VP`, `an analyst`.
fn with_article(noun: &str) -> String {
    let is_vowel = noun.starts_with(['A', 'E', 'I', 'O', 'a', 'e', 'i', 'o']);
    format!("{} {noun}", if is_vowel { "an" } else { "a" })
}
