//! Differences of evidence between two moments, in words: `pricing page view 2 → 5`, `meeting
//! added`, `no pricing page view for 21 days, usually 4 a week`.
//!
//! New events are counted by the difference of two decayed sums, which is exact up to the decay
//! within the span. A count that only fades is no change: what stopped is told by silence.

use leadpulse_schema::units::{AsOf, DAY_MS, EventTime};

use super::values::{EventMeasure, EvidenceValue, Measure, PastValue, PastValues};
use crate::words;

/// Fewest rows that are told of.
const FLOOR: f64 = 0.5;
/// Least silence that is told of, days.
const SILENT_DAYS: i64 = 7;
/// Silence after which a kind is history rather than news, days.
const FORGOTTEN_DAYS: i64 = 60;
/// Fewest new events of a kind that are told of, as a share of those before.
const LEAST_SHARE: f64 = 0.2;
/// Events that a usual pace would have brought in a silence, from which it is told of.
const MISSED: f64 = 2.0;
const WEEK_DAYS: f64 = 7.0;
const MONTH_DAYS: f64 = 30.0;

/// Direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More of what is good, or less of what is bad.
    Rise,
    /// Less of what is good, or more of what is bad.
    Fall,
    /// Another value of a field without an order.
    Either,
}

impl Direction {
    /// True if a change in this direction may support a rise, or else a fall.
    pub fn supports(self, rises: bool) -> bool {
        match self {
            Self::Rise => rises,
            Self::Fall => !rises,
            Self::Either => true,
        }
    }
}

/// One difference of evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceChange {
    /// The difference in words.
    pub text: String,
    /// The direction it supports.
    pub direction: Direction,
}

/// The differences of a group's values to those of an earlier moment, the most telling first.
/// A label that is absent from `then` was nothing.
pub fn changes(
    values: &[EvidenceValue],
    then: &PastValues,
    then_ms: i64,
    as_of: AsOf,
) -> Vec<EvidenceChange> {
    let mut order: Vec<&EvidenceValue> = values.iter().collect();
    order.sort_by(|a, b| (b.telling, &a.label).cmp(&(a.telling, &b.label)));
    let span_ms = as_of.since(EventTime::from_ms(then_ms)).max(0);
    let mut found: Vec<EvidenceChange> = Vec::new();
    for value in order {
        let change = change(value, then.get(&value.label), span_ms, as_of);
        found.extend(change.filter(|change| !found.contains(change)));
    }
    found
}

/// Lines about kinds of events that stopped; they need no earlier moment.
pub fn stopped(values: &[EvidenceValue], as_of: AsOf) -> Vec<String> {
    let mut silent: Vec<(u16, &str, String)> = Vec::new();
    for value in values {
        if let Measure::Events(events) = &value.measure {
            let text = silence(&value.label, events, as_of);
            silent.extend(text.map(|text| (value.telling, value.label.as_str(), text)));
        }
    }
    silent.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    silent.into_iter().map(|(_, _, text)| text).collect()
}

fn change(
    value: &EvidenceValue,
    then: Option<&PastValue>,
    span_ms: i64,
    as_of: AsOf,
) -> Option<EvidenceChange> {
    let number = match then {
        Some(PastValue::Number(number)) => *number,
        _ => 0.0,
    };
    let label = &value.label;
    match &value.measure {
        Measure::Events(events) => added(label, events, number, span_ms)
            .map(|text| (text, Direction::Rise))
            .or_else(|| silence(label, events, as_of).map(|text| (text, Direction::Fall))),
        Measure::Count(now) => counted(label, number, *now),
        Measure::Losses(now) => {
            let is_more = *now > number;
            let turned = if is_more {
                Direction::Fall
            } else {
                Direction::Rise
            };
            counted(label, number, *now).map(|(text, _)| (text, turned))
        }
        Measure::Text { text, order } => match then {
            Some(PastValue::Text(before)) if before != text => Some((
                format!("{label} {before} → {text}"),
                moved(order, before, text),
            )),
            _ => None,
        },
    }
    .map(|(text, direction)| EvidenceChange { text, direction })
}

/// Events since the moment before, if there are any: `meeting added`, `pricing 2 → 5`.
fn added(label: &str, events: &EventMeasure, then: f64, span_ms: i64) -> Option<String> {
    let faded = then * (-(span_ms as f64) / events.half_life_ms).exp2();
    let new = (events.weight - faded).round();
    if new < 1.0 {
        return None;
    }
    let before = (events.weight.round() - new).max(0.0);
    if new < LEAST_SHARE * before {
        return None;
    }
    Some(match (before < 1.0, new < 2.0) {
        (true, true) => format!("{label} added"),
        _ => format!(
            "{label} {} → {}",
            words::number(before),
            words::number(before + new)
        ),
    })
}

/// `no pricing page view for 21 days, usually 4 a week`, of a kind with a usual pace that is
/// overdue.
fn silence(label: &str, events: &EventMeasure, as_of: AsOf) -> Option<String> {
    let days = as_of.since(EventTime::from_ms(events.newest_ms)) / DAY_MS;
    let usual = events.usual_week;
    let is_news = (SILENT_DAYS..=FORGOTTEN_DAYS).contains(&days);
    if !is_news || days as f64 / WEEK_DAYS * usual < MISSED {
        return None;
    }
    let (count, unit) = if usual.round() >= 1.0 {
        (usual.round(), "week")
    } else {
        ((usual / WEEK_DAYS * MONTH_DAYS).round(), "month")
    };
    let count = words::number(count);
    Some(format!(
        "no {label} for {days} days, usually {count} a {unit}"
    ))
}

/// `active people 1 → 4`; `None` where the whole counts are equal or the difference is none.
fn counted(label: &str, then: f64, now: f64) -> Option<(String, Direction)> {
    if then.round() == now.round() || (now - then).abs() < FLOOR {
        return None;
    }
    let direction = if now > then {
        Direction::Rise
    } else {
        Direction::Fall
    };
    let (then, now) = (words::number(then.round()), words::number(now.round()));
    Some((format!("{label} {then} → {now}"), direction))
}

/// The direction between two values of an order.
fn moved(order: &[String], before: &str, now: &str) -> Direction {
    let place = |value: &str| order.iter().position(|one| one == value);
    match (place(before), place(now)) {
        (Some(before), Some(now)) if now > before => Direction::Rise,
        (Some(before), Some(now)) if now < before => Direction::Fall,
        _ => Direction::Either,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: AsOf = AsOf::from_ms(400 * DAY_MS);

    fn events(
        label: &str,
        telling: u16,
        weight: f64,
        newest_days: i64,
        week: f64,
    ) -> EvidenceValue {
        EvidenceValue {
            label: label.into(),
            telling,
            measure: Measure::Events(EventMeasure {
                weight,
                half_life_ms: (90 * DAY_MS) as f64,
                newest_ms: NOW.ms() - newest_days * DAY_MS,
                usual_week: week,
            }),
        }
    }

    fn check(value: EvidenceValue, then: Option<PastValue>, expected: Option<(&str, Direction)>) {
        let then = then.map(|then| (value.label.clone(), then));
        let then: PastValues = then.into_iter().collect();
        let found = changes(&[value], &then, NOW.ms() - 7 * DAY_MS, NOW);
        let found = found.first().map(|one| (one.text.as_str(), one.direction));
        assert_eq!(found, expected);
    }

    #[test]
    fn new_events_are_counted_and_fading_ones_are_no_change() {
        let number = |x| Some(PastValue::Number(x));
        let rise = |text| Some((text, Direction::Rise));
        // Two events of a month ago, three within the week.
        let (old, new) = (2.0 * (-37.0_f64 / 90.0).exp2(), 2.92);
        let then = 2.0 * (-30.0_f64 / 90.0).exp2();
        let now = events("pricing", 50, old + new, 1, 0.0);
        check(now, number(then), rise("pricing 1 → 4"));
        check(
            events("meeting", 80, 0.98, 2, 0.0),
            None,
            rise("meeting added"),
        );
        check(events("docs", 40, 1.94, 2, 0.0), None, rise("docs 0 → 2"));
        check(events("docs", 40, 4.7, 12, 0.1), number(4.96), None);
        check(events("docs", 40, 40.6, 1, 9.0), number(41.8), None);
        check(events("docs", 40, 0.47, 30, 0.0), number(0.5), None);
    }

    #[test]
    fn a_kind_that_stopped_is_told_with_its_usual_pace() {
        let fall = |text| Some((text, Direction::Fall));
        let then = || Some(PastValue::Number(9.0));
        check(
            events("pricing", 50, 8.0, 21, 4.2),
            then(),
            fall("no pricing for 21 days, usually 4 a week"),
        );
        check(
            events("webinar", 20, 3.0, 42, 0.4),
            then(),
            fall("no webinar for 42 days, usually 2 a month"),
        );
        check(events("webinar", 20, 3.0, 20, 0.4), then(), None);
        check(events("blog", 10, 8.0, 6, 9.0), then(), None);
        check(events("login", 10, 3.0, 61, 4.0), then(), None);
    }

    #[test]
    fn counts_and_values_have_directions() {
        let value = |label: &str, measure| EvidenceValue {
            label: label.into(),
            telling: 0,
            measure,
        };
        let number = |x| Some(PastValue::Number(x));
        let people = |n| value("active people", Measure::Count(n));
        check(
            people(4.0),
            number(1.0),
            Some(("active people 1 → 4", Direction::Rise)),
        );
        check(
            people(1.0),
            number(4.0),
            Some(("active people 4 → 1", Direction::Fall)),
        );
        check(people(1.4), number(1.6), None);
        check(people(0.3), None, None);
        let lost = value("closed lost", Measure::Losses(1.0));
        check(lost, None, Some(("closed lost 0 → 1", Direction::Fall)));
        let order: Vec<String> = ["Discovery", "Proposal"].map(str::to_owned).into();
        let stage = |text: &str| {
            let (text, order) = (text.to_owned(), order.clone());
            value("stage of Renewal", Measure::Text { text, order })
        };
        let before = |text: &str| Some(PastValue::Text(text.to_owned()));
        for (from, to, direction) in [
            ("Discovery", "Proposal", Direction::Rise),
            ("Proposal", "Discovery", Direction::Fall),
            ("Proposal", "Parked", Direction::Either),
        ] {
            let expected = format!("stage of Renewal {from} → {to}");
            check(stage(to), before(from), Some((&expected, direction)));
        }
        check(stage("Proposal"), before("Proposal"), None);
        check(stage("Proposal"), None, None);
    }

    #[test]
    fn the_most_telling_change_comes_first() {
        let values = [
            events("blog", 10, 4.0, 1, 0.0),
            events("meeting", 80, 1.0, 1, 0.0),
            events("call", 10, 4.0, 1, 0.0),
        ];
        let found = changes(&values, &PastValues::new(), NOW.ms() - DAY_MS, NOW);
        let texts: Vec<&str> = found.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["meeting added", "blog 0 → 4", "call 0 → 4"]);
        assert!(Direction::Either.supports(true) && !Direction::Fall.supports(true));
    }
}
