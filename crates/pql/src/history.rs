//! The rows that count, and what was true after an anchor.
//!
//! Two steps, so that no label is asked of half a history: [`History`] takes rows in any order, [`History::finish`] sorts them into
//! [`Labels`]. Memory: 16 bytes for an event that counts, per aggregate it counts for; versions of entity tables are kept whole until
//! the end.

use leadpulse_schema::{Catalog, Comparison, Operation, Row, TableId, Value, View};
use rustc_hash::FxHashMap;

use crate::plan::{Aggregate, Plan, Quantity, Source, Target, TargetExpression, TargetKind};
use crate::versions::{VersionLog, VersionPoint};

/// What the target was for one entity after one anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// A condition: it was true or not.
    Binary(bool),
    /// A number.
    Value(f64),
    /// No example: nothing to average or compare in the window, or the assumption did not come true.
    Dropped,
}

/// Collects the rows that a plan's target counts.
#[derive(Debug)]
pub struct History<'a> {
    target: Target,
    events: Vec<Vec<Vec<Point>>>,
    logs: Vec<(TableId, VersionLog<'a>)>,
    codes: Codes,
}

/// An event that counts: when, and what is aggregated of it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    time_ms: i64,
    value: f64,
}

impl<'a> History<'a> {
    /// An empty history.
    pub fn new(plan: &Plan, catalog: &'a Catalog) -> Self {
        let target = plan.target.clone();
        let mut logs: Vec<(TableId, VersionLog<'a>)> = Vec::new();
        for aggregate in &target.aggregates {
            if let Source::Versions(table) = aggregate.source
                && logs.iter().all(|(known, _)| *known != table)
            {
                logs.push((table, VersionLog::new(catalog, catalog.table_at(table), target.aggregates.iter())));
            }
        }
        Self { events: vec![Vec::new(); target.aggregates.len()], target, logs, codes: Codes::default() }
    }

    /// Takes a row that counts for the entity of this number (by [`Plan::reach`]). Entities are numbered by the caller, densely from 0.
    /// Each accepted row is offered once; rows of other tables and tombstones are passed over.
    pub fn offer(&mut self, entity: u32, row: Row<'_>) {
        if row.operation() == Operation::Delete {
            return;
        }
        if let Some((_, log)) = self.logs.iter_mut().find(|(table, _)| *table == row.table()) {
            log.offer(entity, row);
            return;
        }
        for (aggregate, points) in self.target.aggregates.iter().zip(&mut self.events) {
            let counts = aggregate.source.table() == row.table() && aggregate.filter.as_ref().is_none_or(|filter| filter.holds(&row));
            if !counts {
                continue;
            }
            let value = self.codes.value_of(aggregate.quantity, &row);
            if !value.is_nan() {
                let entity = entity as usize;
                if points.len() <= entity {
                    points.resize_with(entity + 1, Vec::new);
                }
                points[entity].push(Point { time_ms: row.event_ms(), value });
            }
        }
    }

    /// Sorts what was offered.
    pub fn finish(self) -> Labels {
        let Self { target, events, logs, mut codes } = self;
        let series = target.aggregates.iter().zip(events).map(|(aggregate, mut events)| match aggregate.source {
            Source::Events(_) => {
                for points in &mut events {
                    points.sort_unstable_by(|a, b| a.time_ms.cmp(&b.time_ms).then(a.value.total_cmp(&b.value)));
                    points.shrink_to_fit();
                }
                Series::Events(events)
            }
            Source::Versions(table) => {
                let (_, log) = logs.iter().find(|(known, _)| *known == table).expect("new() made a log for each table with versions");
                Series::Versions(log.points(aggregate, |row| codes.value_of(aggregate.quantity, row)))
            }
        });
        let series = series.collect();
        let is_monotone = target.kind() == TargetKind::Monotone;
        Labels { series, target, is_monotone }
    }
}

/// Numbers for the values that COUNT_DISTINCT tells apart.
#[derive(Debug, Default)]
struct Codes(FxHashMap<String, u32>);

impl Codes {
    /// What an aggregate takes of a row; NaN when the field is null.
    fn value_of(&mut self, quantity: Quantity, row: &dyn View) -> f64 {
        match quantity {
            Quantity::Rows => 1.0,
            Quantity::Values(field) if row.column(field).is_null() => f64::NAN,
            Quantity::Values(_) => 1.0,
            Quantity::Distinct(field) => {
                let text = match row.column(field) {
                    Value::Null | Value::List(_) => return f64::NAN,
                    Value::Bool(b) => b.to_string(),
                    Value::Long(n) | Value::Time(n) => n.to_string(),
                    Value::Double(x) => x.to_string(),
                    Value::Text(text) => text.to_owned(),
                };
                let next = u32::try_from(self.0.len()).expect("fewer than 2^32 different values");
                f64::from(*self.0.entry(text).or_insert(next))
            }
            Quantity::Sum(field) | Quantity::Mean(field) | Quantity::Min(field) | Quantity::Max(field) => {
                row.column(field).number().unwrap_or(f64::NAN)
            }
        }
    }
}

/// A finished history.
#[derive(Debug)]
pub struct Labels {
    target: Target,
    series: Vec<Series>,
    is_monotone: bool,
}

/// Per entity, in order of time.
#[derive(Debug)]
enum Series {
    Events(Vec<Vec<Point>>),
    Versions(Vec<Vec<VersionPoint>>),
}

impl Labels {
    /// The label of an entity at an anchor. It is final once [`Plan::horizon_ms`] has passed; asked earlier, it is what is known so far.
    pub fn label(&self, entity: u32, anchor_ms: i64) -> Label {
        let moment = Moment { labels: self, entity: entity as usize, anchor_ms, until_ms: i64::MAX };
        if self.target.assumption.as_ref().is_some_and(|assumption| moment.truth(assumption) != Some(true)) {
            return Label::Dropped;
        }
        match &self.target.expression {
            TargetExpression::Value(aggregate) => moment.measured(*aggregate).map_or(Label::Dropped, |m| Label::Value(m.value)),
            condition => moment.truth(condition).map_or(Label::Dropped, Label::Binary),
        }
    }

    /// When a monotone target first became true within its window; `None` when it did not, and for other targets.
    pub fn first_time_true(&self, entity: u32, anchor_ms: i64) -> Option<i64> {
        if !self.is_monotone {
            return None;
        }
        let mut times_ms = Vec::new();
        for (aggregate, series) in self.target.aggregates.iter().zip(&self.series) {
            let (after_ms, until_ms) = aggregate.window.bounds_ms(anchor_ms);
            match series {
                Series::Events(events) => {
                    times_ms.extend(of_entity(events, entity as usize, after_ms, until_ms, |p| p.time_ms).iter().map(|p| p.time_ms))
                }
                Series::Versions(versions) => {
                    times_ms.extend(of_entity(versions, entity as usize, after_ms, until_ms, |p| p.time_ms).iter().map(|p| p.time_ms))
                }
            }
        }
        times_ms.sort_unstable();
        let is_true = |until_ms: i64| {
            Moment { labels: self, entity: entity as usize, anchor_ms, until_ms }.truth(&self.target.expression) == Some(true)
        };
        // Once true it stays true, so the first is found by halving.
        let first = times_ms.partition_point(|until_ms| !is_true(*until_ms));
        times_ms.get(first).copied()
    }
}

/// The points of an entity within (after, until].
fn of_entity<P>(all: &[Vec<P>], entity: usize, after_ms: i64, until_ms: i64, time_ms: impl Fn(&P) -> i64) -> &[P] {
    let points = all.get(entity).map_or(&[][..], Vec::as_slice);
    let first = points.partition_point(|p| time_ms(p) <= after_ms);
    let last = points.partition_point(|p| time_ms(p) <= until_ms);
    &points[first.min(last)..last]
}

/// One entity at one anchor, seen from `until_ms`.
struct Moment<'a> {
    labels: &'a Labels,
    entity: usize,
    anchor_ms: i64,
    until_ms: i64,
}

/// The value of an aggregate.
#[derive(Clone, Copy, Debug)]
struct Measured {
    value: f64,
    /// Rounding may have moved the value by this much.
    tolerance: f64,
}

impl Measured {
    fn compare(self, comparison: Comparison, literal: f64) -> bool {
        let value = if (self.value - literal).abs() <= self.tolerance { literal } else { self.value };
        match comparison {
            Comparison::Equal => value == literal,
            Comparison::NotEqual => value != literal,
            Comparison::Less => value < literal,
            Comparison::LessOrEqual => value <= literal,
            Comparison::Greater => value > literal,
            Comparison::GreaterOrEqual => value >= literal,
        }
    }
}

impl Moment<'_> {
    /// Three-valued: `None` where an aggregate has no value and the rest does not decide.
    fn truth(&self, expression: &TargetExpression) -> Option<bool> {
        match expression {
            TargetExpression::Value(_) => None,
            TargetExpression::And(parts) => self.joined(parts, false),
            TargetExpression::Or(parts) => self.joined(parts, true),
            TargetExpression::Not(inner) => self.truth(inner).map(|truth| !truth),
            TargetExpression::Compare { aggregate, comparison, literal } => {
                self.measured(*aggregate).map(|m| m.compare(*comparison, *literal))
            }
            TargetExpression::In { aggregate, literals } => {
                let measured = self.measured(*aggregate)?;
                Some(literals.iter().any(|literal| measured.compare(Comparison::Equal, *literal)))
            }
            TargetExpression::IsNull { aggregate } => Some(self.measured(*aggregate).is_none()),
        }
    }

    /// AND is decided by one false part, OR by one true part.
    fn joined(&self, parts: &[TargetExpression], decisive: bool) -> Option<bool> {
        let mut joined = Some(!decisive);
        for part in parts {
            match self.truth(part) {
                Some(truth) if truth == decisive => return Some(decisive),
                Some(_) => {}
                None => joined = None,
            }
        }
        joined
    }

    fn measured(&self, index: usize) -> Option<Measured> {
        let aggregate: &Aggregate = &self.labels.target.aggregates[index];
        let (after_ms, end_ms) = aggregate.window.bounds_ms(self.anchor_ms);
        let until_ms = end_ms.min(self.until_ms);
        match &self.labels.series[index] {
            Series::Events(events) => {
                let points = of_entity(events, self.entity, after_ms, until_ms, |p| p.time_ms);
                measure(aggregate.quantity, points.iter().map(|p| p.value))
            }
            Series::Versions(versions) => {
                let points = of_entity(versions, self.entity, after_ms, until_ms, |p| p.time_ms);
                let mut counted: Vec<u32> = points.iter().filter(|p| p.entered).map(|p| p.key).collect();
                counted.sort_unstable();
                counted.dedup();
                // The last matching version up to the end is in the window: the key came to match within it.
                let last = |key: u32| points.iter().rfind(|p| p.key == key).map(|p| p.value);
                measure(aggregate.quantity, counted.into_iter().filter_map(last).filter(|value| !value.is_nan()))
            }
        }
    }
}

/// Aggregates values that are not null.
fn measure(quantity: Quantity, values: impl Iterator<Item = f64>) -> Option<Measured> {
    let exact = |value: f64| Some(Measured { value, tolerance: 0.0 });
    match quantity {
        Quantity::Rows | Quantity::Values(_) => exact(values.count() as f64),
        Quantity::Distinct(_) => {
            let mut codes: Vec<u32> = values.map(|code| code as u32).collect();
            codes.sort_unstable();
            codes.dedup();
            exact(codes.len() as f64)
        }
        Quantity::Sum(_) => Some(sum(values).0),
        Quantity::Mean(_) => match sum(values) {
            (_, 0) => None,
            (sum, count) => Some(Measured { value: sum.value / count as f64, tolerance: sum.tolerance / count as f64 }),
        },
        Quantity::Min(_) => values.reduce(f64::min).and_then(exact),
        Quantity::Max(_) => values.reduce(f64::max).and_then(exact),
    }
}

/// The compensated sum (Neumaier) and the number of addends. What stays below 1e-9 of all that was added is rounding: 0.1 + 0.2 − 0.3 is 0.
fn sum(values: impl Iterator<Item = f64>) -> (Measured, usize) {
    let (mut sum, mut lost, mut size, mut count) = (0.0_f64, 0.0_f64, 0.0_f64, 0);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
        size += value.abs();
        count += 1;
    }
    let (total, tolerance) = (sum + lost, size * 1e-9);
    (Measured { value: if total.abs() <= tolerance { 0.0 } else { total }, tolerance }, count)
}
