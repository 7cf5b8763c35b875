//! Labels: the truth after an anchor, as far as it was known by a moment.

use leadpulse_schema::Comparison;
use rustc_hash::FxHashMap;

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
    /// Rows of an event table.
    Events {
        /// Those that stayed, per entity.
        kept: Vec<Vec<Point>>,
        /// Those that were taken back by a retraction or by another step of their deal, by entity.
        withdrawn: FxHashMap<u32, Vec<Withdrawn>>,
    },
    /// Versions that match, per entity.
    Versions(Vec<Vec<VersionPoint>>),
}

/// An event that counts: when it happened, when it was known, and what is aggregated of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) time_ms: i64,
    pub(crate) known_ms: i64,
    pub(crate) value: f64,
}

impl Point {
    /// By time; the rest only so that the order of arrival does not matter.
    pub(crate) fn in_time(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_ms, self.known_ms)
            .cmp(&(other.time_ms, other.known_ms))
            .then(self.value.total_cmp(&other.value))
    }
}

/// An event that counted until its retraction was known, or until its deal took another end.
#[derive(Clone, Debug)]
pub(crate) struct Withdrawn {
    pub(crate) point: Point,
    /// The time at which its retraction became known; `i64::MAX` without one.
    pub(crate) gone_ms: i64,
    /// Steps of the same deal that take the event back.
    pub(crate) reversed_by: Vec<Reversal>,
}

/// A step of a deal that takes another one back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reversal {
    pub(crate) time_ms: i64,
    pub(crate) known_ms: i64,
    /// The time at which the step's own retraction became known; `i64::MAX` without one.
    pub(crate) gone_ms: i64,
}

impl Withdrawn {
    /// Whether the event counts in a window that ends at `end_ms`, by what was known at
    /// `known_until_ms`. A step after the window takes nothing back: the label is of the window.
    fn counts(&self, end_ms: i64, known_until_ms: i64) -> bool {
        let is_known = |step: &Reversal| {
            step.time_ms <= end_ms
                && step.known_ms <= known_until_ms
                && step.gone_ms > known_until_ms
        };
        self.gone_ms > known_until_ms && !self.reversed_by.iter().any(is_known)
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

    /// The label of an entity at an anchor, by all rows that were offered. The label is final once
    /// [`leadpulse_pql::Plan::horizon_ms`] has passed; asked earlier, it is what is known so far.
    #[cfg(test)]
    pub fn label(&self, entity: u32, anchor_ms: i64) -> Label {
        self.label_known_by(entity, anchor_ms, i64::MAX)
    }

    /// The label as it was known at `known_until_ms`: rows known later do not count, and what was
    /// taken back later still does.
    pub fn label_known_by(&self, entity: u32, anchor_ms: i64, known_until_ms: i64) -> Label {
        let moment = LabelMoment {
            labels: self,
            entity,
            anchor_ms,
            until_ms: i64::MAX,
            known_until_ms,
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

    /// The time at which a monotone target first became true within its window; `None` when it did
    /// not, and for other targets.
    #[cfg(test)]
    pub fn first_time_true(&self, entity: u32, anchor_ms: i64) -> Option<i64> {
        self.first_time_true_known_by(entity, anchor_ms, i64::MAX)
    }

    /// The time that a monotone target first became true, as it was known at `known_until_ms`: the
    /// time of the event, not the time it became known.
    pub fn first_time_true_known_by(
        &self,
        entity: u32,
        anchor_ms: i64,
        known_until_ms: i64,
    ) -> Option<i64> {
        if !self.is_monotone {
            return None;
        }
        let seen_until = |until_ms: i64| LabelMoment {
            labels: self,
            entity,
            anchor_ms,
            until_ms,
            known_until_ms,
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

/// One entity at one anchor: what happened by `until_ms` and was known by `known_until_ms`.
#[derive(Clone, Copy)]
struct LabelMoment<'a> {
    labels: &'a Labels,
    entity: u32,
    anchor_ms: i64,
    until_ms: i64,
    known_until_ms: i64,
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

    /// The aggregate's window, cut at `until_ms`.
    fn bounds_ms(&self, aggregate: &Aggregate) -> (i64, i64) {
        let (after_ms, end_ms) = aggregate.window.bounds_ms(self.anchor_ms);
        (after_ms, end_ms.min(self.until_ms))
    }

    /// The events within the window.
    ///
    /// A win that is taken back within the window is none, also at a moment before: otherwise a
    /// target could become true and false again, and would have no first time.
    fn events<'s>(
        &self,
        aggregate: &Aggregate,
        kept: &'s [Vec<Point>],
        withdrawn: &'s FxHashMap<u32, Vec<Withdrawn>>,
    ) -> impl Iterator<Item = &'s Point> {
        let bounds_ms = self.bounds_ms(aggregate);
        let (_, end_ms) = aggregate.window.bounds_ms(self.anchor_ms);
        let known_until_ms = self.known_until_ms;
        let kept = kept
            .get(self.entity as usize)
            .map_or(&[][..], Vec::as_slice);
        let withdrawn = withdrawn.get(&self.entity).map_or(&[][..], Vec::as_slice);
        let not_yet = within(withdrawn, bounds_ms, |w| w.point.time_ms)
            .iter()
            .filter(move |w| w.counts(end_ms, known_until_ms));
        let all = within(kept, bounds_ms, |p| p.time_ms)
            .iter()
            .chain(not_yet.map(|w| &w.point));
        all.filter(move |point| point.known_ms <= known_until_ms)
    }

    /// The matching versions within the window. Later versions of a row are known later, so that
    /// leaving them out leaves a row's first ones.
    fn versions<'s>(
        &self,
        aggregate: &Aggregate,
        versions: &'s [Vec<VersionPoint>],
    ) -> impl DoubleEndedIterator<Item = &'s VersionPoint> + Clone {
        let bounds_ms = self.bounds_ms(aggregate);
        let (_, end_ms) = aggregate.window.bounds_ms(self.anchor_ms);
        let known_until_ms = self.known_until_ms;
        let points = versions
            .get(self.entity as usize)
            .map_or(&[][..], Vec::as_slice);
        within(points, bounds_ms, |p| p.time_ms)
            .iter()
            .filter(move |p| p.known_ms <= known_until_ms)
            .filter(move |p| !p.is_reversed(end_ms, known_until_ms))
    }

    /// The times at which rows of an aggregate fell into its window.
    fn times_ms(&self, index: usize) -> Vec<i64> {
        let aggregate = &self.labels.target.aggregates[index];
        match &self.labels.series[index] {
            Series::Events { kept, withdrawn } => self
                .events(aggregate, kept, withdrawn)
                .map(|p| p.time_ms)
                .collect(),
            Series::Versions(versions) => self
                .versions(aggregate, versions)
                .map(|p| p.time_ms)
                .collect(),
        }
    }

    fn measured(&self, index: usize) -> Option<Measured> {
        let aggregate = &self.labels.target.aggregates[index];
        match &self.labels.series[index] {
            Series::Events { kept, withdrawn } => measure(
                aggregate.quantity,
                self.events(aggregate, kept, withdrawn).map(|p| p.value),
            ),
            Series::Versions(versions) => {
                let points = self.versions(aggregate, versions);
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
