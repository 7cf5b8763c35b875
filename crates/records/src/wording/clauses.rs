//! The clauses of each type of alert, from facts.

use leadpulse_features::{EventFact, MemberFact, words};
use leadpulse_policy::Pace;
use leadpulse_schema::units::DAY_MS;

use super::{Telling, short};

/// The span that activity is told over.
const WEEK_MS: i64 = 7 * DAY_MS;
/// Silence from which it is said that nothing happens.
const SILENT_DAYS: i64 = 3;
/// Most kinds of events and values of a field that are named.
const NAMED: usize = 3;
/// Most characters of a value.
const LONGEST_VALUE: usize = 40;
/// Counts below this are nothing to tell.
const FLOOR: f64 = 0.5;

impl Telling<'_> {
    /// `3 people (Data, Finance, IT) active this week: pricing page view, demo request; the last by
    /// a VP yesterday`.
    pub(super) fn activity(&self) -> Vec<String> {
        let people = self.people_of_the_week();
        let kinds = self.kinds_of_the_week();
        if people.is_empty() {
            return match kinds.is_empty() {
                true => Vec::new(),
                false => vec![
                    format!("{} this week", listed(&kinds)),
                    self.newest_clause(),
                ],
            };
        }
        let mut clauses = vec![format!("{} active this week", counted_people(people.len()))];
        clauses.extend(self.values_of(&people).map(|values| format!(" ({values})")));
        if !kinds.is_empty() {
            clauses.push(format!(": {}", listed(&kinds)));
        }
        clauses.push(self.newest_clause());
        let more = self.people_moved().filter(|(before, now)| now > before);
        clauses.extend(more.map(|(before, now)| format!("; active people {before} → {now}")));
        clauses
    }

    /// People who were active at the score before and are now, where their number differs.
    fn people_moved(&self) -> Option<(u32, u32)> {
        let before = self.draft.change?.active_people?;
        let now = self.alert_facts.active_people?;
        (before != now).then_some((before, now))
    }

    /// `no activity for 24 days, usually every 3 days; the last was a demo request by a VP`.
    pub(super) fn stopped(&self) -> Vec<String> {
        let silent_ms = self.alert_facts.silent_ms(self.draft.tick_ms);
        let days = silent_ms.map_or(0, |ms| ms / DAY_MS);
        let fewer = self.people_moved().filter(|(before, now)| now < before);
        let fewer = fewer.map(|(before, now)| format!("active people {before} → {now}"));
        if let Some(fewer) = fewer.filter(|_| days < SILENT_DAYS) {
            return vec![fewer];
        }
        if days < SILENT_DAYS {
            return match self.drag.and_then(value) {
                Some(label) => {
                    let label = label.to_lowercase();
                    vec![format!("the score fell, lowered by {label}")]
                }
                None => Vec::new(),
            };
        }
        let mut clauses = vec![format!("no activity for {}", counted(days, "day"))];
        let usual_days = self.alert_facts.usual_gap_ms.map(|gap_ms| gap_ms / DAY_MS);
        if let Some(usual) = usual_days.filter(|usual| *usual >= 1 && *usual < days) {
            clauses.push(match usual {
                1 => ", usually every day".to_owned(),
                usual => format!(", usually every {usual} days"),
            });
        }
        if let Some(event) = self.facts.events.first() {
            let kind = kind_of(event);
            let by = self
                .rank_of(event)
                .map_or(String::new(), |rank| format!(" by {rank}"));
            clauses.push(format!("; the last was {kind}{by}"));
        }
        clauses
    }

    /// `a VP became active yesterday: demo request`.
    pub(super) fn executive(&self) -> Vec<String> {
        let Some(arrival) = self.alert_facts.executives.first() else {
            return Vec::new();
        };
        let members = &self.facts.committee.members;
        let member = members.iter().find(|member| member.key == arrival.key);
        let rank = member.and_then(|member| self.rank_value(member));
        let who = rank.map_or("a person of high rank".to_owned(), |rank| {
            with_article(&rank)
        });
        let mut clauses = vec![format!("{who} became active {}", self.day(arrival.at_ms))];
        clauses.extend(self.kinds_by(&arrival.key));
        clauses
    }

    /// `4 people (Data, Finance, IT) are active together: pricing page view`.
    pub(super) fn committee(&self) -> Vec<String> {
        let active = self.alert_facts.active_people.unwrap_or_default();
        if active < 2 {
            return Vec::new();
        }
        let people: Vec<&MemberFact> = self.facts.committee.members.iter().collect();
        let mut clauses = vec![format!("{active} people")];
        clauses.extend(self.values_of(&people).map(|values| format!(" ({values})")));
        clauses.push(" are active together".to_owned());
        let kinds = self.kinds_of_the_week();
        if !kinds.is_empty() {
            clauses.push(format!(": {}", listed(&kinds)));
        }
        // The subject needs its verb, whatever else has room.
        let verb = clauses.iter().position(|one| one.starts_with(" are"));
        let head: String = clauses.drain(..=verb.unwrap_or(0)).collect();
        clauses.insert(0, head);
        clauses
    }

    /// `about 14 events this week, usually 3`.
    pub(super) fn spike(&self, pace: Option<Pace>, what: &str) -> Vec<String> {
        let Some(pace) = pace.filter(|pace| pace.week >= FLOOR) else {
            return Vec::new();
        };
        let usual = match pace.usual_week.round() as i64 {
            0 => "usually less than one".to_owned(),
            usual => format!("usually {usual}"),
        };
        let week = pace.week.round() as i64;
        vec![
            format!("about {week} {what} this week, {usual}"),
            self.newest_clause(),
        ]
    }

    /// `a limit of the product was reached yesterday`.
    pub(super) fn limit(&self) -> Vec<String> {
        let at = self.alert_facts.limit_ms;
        let told =
            at.map(|at_ms| format!("a limit of the product was reached {}", self.day(at_ms)));
        told.into_iter().collect()
    }

    /// `a person from Acme is active here: demo request`.
    pub(super) fn champion(&self) -> Vec<String> {
        let Some(arrival) = self.alert_facts.from_elsewhere.first() else {
            return Vec::new();
        };
        let from = self.from.and_then(value);
        let from = from.unwrap_or_else(|| "another account".to_owned());
        let mut clauses = vec![format!("a person from {from} is active here")];
        clauses.extend(self.kinds_by(&arrival.key));
        clauses
    }

    /// `active again 120 days after a lost deal: pricing page view`.
    pub(super) fn return_after_loss(&self) -> Vec<String> {
        let lost_ms = self.alert_facts.lost_ms;
        let days = lost_ms.map_or(0, |lost_ms| (self.draft.tick_ms - lost_ms) / DAY_MS);
        let mut clauses = match days {
            ..1 => return Vec::new(),
            days => vec![format!(
                "active again {} after a lost deal",
                counted(days, "day")
            )],
        };
        let kinds = self.kinds_of_the_week();
        if !kinds.is_empty() {
            clauses.push(format!(": {}", listed(&kinds)));
        }
        clauses
    }

    /// `about 3 of 19 peers in Finance closed in 90 days`.
    pub(super) fn peers(&self) -> Vec<String> {
        let Some(peers) = self.alert_facts.peers.as_ref() else {
            return Vec::new();
        };
        let Some(hub) = value(&peers.hub).filter(|_| peers.closed >= FLOOR) else {
            return Vec::new();
        };
        let closed = (peers.closed.round() as i64).clamp(1, i64::from(peers.of));
        vec![format!(
            "about {closed} of {} peers in {hub} closed in {} days",
            peers.of, peers.within_days
        )]
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
    fn kinds_by(&self, person: &str) -> Option<String> {
        let own = self.week().filter(|event| event.owner == person);
        let kinds = distinct(own.map(kind_of));
        (!kinds.is_empty()).then(|| format!(": {}", listed(&kinds)))
    }

    /// `; the last by a VP yesterday`, of the newest event in the week.
    fn newest_clause(&self) -> String {
        let Some(event) = self.week().next() else {
            return String::new();
        };
        let by = self
            .rank_of(event)
            .map_or(String::new(), |rank| format!(" by {rank}"));
        format!("; the last{by} {}", self.day(event.time_ms))
    }

    /// The rank of the person behind an event, with an article.
    fn rank_of(&self, event: &EventFact) -> Option<String> {
        let members = &self.facts.committee.members;
        let member = members.iter().find(|one| one.key == event.owner)?;
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
