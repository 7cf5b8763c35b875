//! Labels: the truth after an anchor, by what was known at one moment.

use leadpulse_schema::Comparison;

use super::versions::VersionPoint;
use leadpulse_pql::{Aggregate, Quantity, Target, TargetExpression, TargetKind};

/// The target's value for one entity after one anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// A condition: it was true or not.
    Binary(bool),
    /// The target is a number.
    Value(f64),
    /// No example: nothing to average or compare in the window, or the assumption did not come
    /// true.
    Dropped,
}

/// The labels of a finished history.
#[derive(Debug)]
pub struct Labels {
    target: Target,
    series: Vec<Series>,
    is_monotone: bool,
}

/// The points that an aggregate counts, in order of time.
#[derive(Debug)]
pub(crate) enum Series {
    /// Rows of an event table, per entity.
    Events(Vec<Vec<Point>>),
    /// Versions that match, per entity.
    Versions(Vec<Vec<VersionPoint>>),
}

/// An event that counts: when it happened, and what is aggregated of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
    /// The first time at which another step of its deal takes it back, or had done so before;
    /// `i64::MAX` where none does.
    pub(crate) reversed_ms: i64,
}

impl Point {
    /// When it happened, and when it was taken back.
    fn times_ms(&self) -> (i64, i64) {
        (self.time_ms, self.reversed_ms)
    }
    /// By time; the rest only so that the order of arrival does not matter.
    pub(crate) fn in_time(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_ms.cmp(&other.time_ms)).then(self.value.total_cmp(&other.value))
    }
}

impl Labels {
    pub(crate) fn new(target: Target, series: Vec<Series>) -> Self {
        let is_monotone = target.kind() == TargetKind::Monotone;
        Self {
            target,
            series,
            is_monotone,
        }
    }

    /// The label of an entity at an anchor. It is final once [`leadpulse_pql::Plan::horizon_ms`]
    /// has passed; asked earlier, it is what is known so far.
    pub fn label(&self, entity: u32, anchor_ms: i64) -> Label {
        let moment = LabelMoment {
            labels: self,
            entity,
            anchor_ms,
            until_ms: i64::MAX,
        };
        if self
            .target
            .assumption
            .as_ref()
            .is_some_and(|assumption| moment.truth(assumption) != Some(true))
        {
            return Label::Dropped;
        }
        match &self.target.expression {
            TargetExpression::Value(aggregate) => moment
                .measured(*aggregate)
                .map_or(Label::Dropped, |m| Label::Value(m.value)),
            condition => moment
                .truth(condition)
                .map_or(Label::Dropped, Label::Binary),
        }
    }

    /// The time at which a monotone target first became true within its window: the time of the
    /// row, not the time it became known. `None` when it did not, and for other targets.
    pub fn first_time_true(&self, entity: u32, anchor_ms: i64) -> Option<i64> {
        if !self.is_monotone {
            return None;
        }
        let seen_until = |until_ms: i64| LabelMoment {
            labels: self,
            entity,
            anchor_ms,
            until_ms,
        };
        let all = seen_until(i64::MAX);
        let mut times_ms: Vec<i64> = (0..self.series.len())
            .flat_map(|aggregate| all.times_ms(aggregate))
            .collect();
        times_ms.sort_unstable();
        // Once true it stays true, so the first is found by halving.
        let first = times_ms.partition_point(|until_ms| {
            seen_until(*until_ms).truth(&self.target.expression) != Some(true)
        });
        times_ms.get(first).copied()
    }
}

/// The part of points in order of time that lies within (after, until].
fn within<P>(points: &[P], (after_ms, until_ms): (i64, i64), time_ms: impl Fn(&P) -> i64) -> &[P] {
    let first = points.partition_point(|p| time_ms(p) <= after_ms);
    let last = points.partition_point(|p| time_ms(p) <= until_ms);
    &points[first.min(last)..last]
}

/// One entity at one anchor: what happened by `until_ms`.
#[derive(Clone, Copy)]
struct LabelMoment<'a> {
    labels: &'a Labels,
    entity: u32,
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
        let value = if (self.value - literal).abs() <= self.tolerance {
            literal
        } else {
            self.value
        };
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

impl LabelMoment<'_> {
    /// Three-valued: `None` where an aggregate has no value and the rest does not decide.
    fn truth(&self, expression: &TargetExpression) -> Option<bool> {
        match expression {
            TargetExpression::Value(_) => None,
            TargetExpression::And(parts) => self.joined(parts, false),
            TargetExpression::Or(parts) => self.joined(parts, true),
            TargetExpression::Not(inner) => self.truth(inner).map(|truth| !truth),
            TargetExpression::Compare {
                aggregate,
                comparison,
                literal,
            } => self
                .measured(*aggregate)
                .map(|m| m.compare(*comparison, *literal)),
            TargetExpression::In {
                aggregate,
                literals,
            } => {
                let measured = self.measured(*aggregate)?;
                Some(
                    literals
                        .iter()
                        .any(|literal| measured.compare(Comparison::Equal, *literal)),
                )
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

    /// The entity's points within the aggregate's window.
    ///
    /// A win that is taken back within the window is none, also at a moment before: otherwise a
    /// target could become true and false again, and would have no first time. A step after the
    /// window takes nothing back: the label is of the window.
    fn points<'s, P>(
        &self,
        aggregate: &Aggregate,
        of_entities: &'s [Vec<P>],
        times_ms: impl Fn(&P) -> (i64, i64),
    ) -> impl DoubleEndedIterator<Item = &'s P> + Clone {
        let (after_ms, end_ms) = aggregate.window.bounds_ms(self.anchor_ms);
        let bounds_ms = (after_ms, end_ms.min(self.until_ms));
        let points = of_entities.get(self.entity as usize);
        let points = points.map_or(&[][..], Vec::as_slice);
        let stands: Vec<&P> = within(points, bounds_ms, |p| times_ms(p).0)
            .iter()
            .filter(|p| times_ms(p).1 > end_ms)
            .collect();
        stands.into_iter()
    }

    /// The times at which rows of an aggregate fell into its window.
    fn times_ms(&self, index: usize) -> Vec<i64> {
        let aggregate = &self.labels.target.aggregates[index];
        match &self.labels.series[index] {
            Series::Events(events) => self
                .points(aggregate, events, Point::times_ms)
                .map(|p| p.time_ms)
                .collect(),
            Series::Versions(versions) => self
                .points(aggregate, versions, VersionPoint::times_ms)
                .map(|p| p.time_ms)
                .collect(),
        }
    }

    fn measured(&self, index: usize) -> Option<Measured> {
        let aggregate = &self.labels.target.aggregates[index];
        match &self.labels.series[index] {
            Series::Events(events) => measure(
                aggregate.quantity,
                self.points(aggregate, events, Point::times_ms)
                    .map(|p| p.value),
            ),
            Series::Versions(versions) => {
                let points = self.points(aggregate, versions, VersionPoint::times_ms);
                let mut counted: Vec<u32> = points
                    .clone()
                    .filter(|p| p.entered)
                    .map(|p| p.key)
                    .collect();
                counted.sort_unstable();
                counted.dedup();
                // The last matching version up to the end is in the window: the key came to match
                // within it.
                let last = |key: u32| points.clone().rfind(|p| p.key == key).map(|p| p.value);
                measure(
                    aggregate.quantity,
                    counted
                        .into_iter()
                        .filter_map(last)
                        .filter(|value| !value.is_nan()),
                )
            }
        }
    }
}

/// Aggregates values that are not null.
fn measure(quantity: Quantity, values: impl Iterator<Item = f64>) -> Option<Measured> {
    let exact = |value: f64| {
        Some(Measured {
            value,
            tolerance: 0.0,
        })
    };
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
            (sum, count) => Some(Measured {
                value: sum.value / count as f64,
                tolerance: sum.tolerance / count as f64,
            }),
        },
        Quantity::Min(_) => values.reduce(f64::min).and_then(exact),
        Quantity::Max(_) => values.reduce(f64::max).and_then(exact),
    }
}

/// The compensated sum (Neumaier) and the number of addends. What stays below 1e-9 of all that was
/// added is rounding: 0.1 + 0.2 − 0.3 is 0.
fn sum(values: impl Iterator<Item = f64>) -> (Measured, usize) {
    let (mut sum, mut lost, mut size, mut count) = (0.0_f64, 0.0_f64, 0.0_f64, 0);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() {
            (sum - next) + value
        } else {
            (value - next) + sum
        };
        sum = next;
        size += value.abs();
        count += 1;
    }
    let (total, tolerance) = (sum + lost, size * 1e-9);
    (
        Measured {
            value: if total.abs() <= tolerance { 0.0 } else { total },
            tolerance,
        },
        count,
    )
}
