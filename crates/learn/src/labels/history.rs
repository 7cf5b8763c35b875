//! The rows that count, in whichever order they come.
//!
//! [`LabelHistory`] takes rows; [`LabelHistory::finish`] sorts them into [`Labels`], so that no
//! label is asked of half a history. An event that was taken back does not count, whether the event
//! or its retraction came first. Nor does a win that another step of its deal took back
//! ([0038](../../../../docs/decisions/0038-a-win-that-was-taken-back.md)). Memory: 56 bytes for an event that counts, per aggregate it counts
//! for (24 once finished); versions of entity tables are kept whole until the end.

use std::hash::{DefaultHasher, Hash, Hasher};

use leadpulse_graph::owner_of;
use leadpulse_schema::{Catalog, Operation, Role, Row, TableId, Value, Verdict, View};
use rustc_hash::FxHashMap;

use super::label::{Labels, Point, Reversal, Series, Withdrawn};
use super::versions::{VersionLog, deciding_outcome};
use leadpulse_pql::{Aggregate, AggregateSource, Plan, Quantity, Target};

/// Collects the rows that a plan's target counts.
#[derive(Debug)]
pub struct LabelHistory<'a> {
    target: Target,
    /// Per aggregate and entity.
    events: Vec<Vec<Vec<Counted>>>,
    /// The time at which a retraction of an event became known, by the event's fingerprint.
    retracted: FxHashMap<u64, i64>,
    logs: Vec<(TableId, VersionLog<'a>)>,
    /// By deal, the steps of tables whose ends a target counts.
    deals: FxHashMap<u64, Vec<Step>>,
    catalog: &'a Catalog,
    codes: Codes,
    /// A hash of the row offered last, and the entities it was offered for.
    last: (u64, Vec<u32>),
}

/// An event that counts unless it is taken back.
#[derive(Clone, Copy, Debug)]
struct Counted {
    point: Point,
    fingerprint: u64,
    /// The deal that the event ends, if the target counts ends: its hash, and whether it is won.
    ends: Option<(u64, bool)>,
}

/// A step of a deal.
#[derive(Clone, Copy, Debug)]
struct Step {
    time_ms: i64,
    known_ms: i64,
    fingerprint: u64,
    verdict: Option<bool>,
}

impl<'a> LabelHistory<'a> {
    /// Creates an empty history for the plan's target.
    pub fn new(plan: &Plan, catalog: &'a Catalog) -> Self {
        let target = plan.target.clone();
        let mut logs: Vec<(TableId, VersionLog<'a>)> = Vec::new();
        for aggregate in &target.aggregates {
            if let AggregateSource::Versions(table) = aggregate.source
                && logs.iter().all(|(known, _)| *known != table)
            {
                logs.push((
                    table,
                    VersionLog::new(catalog, catalog.table_at(table), target.aggregates.iter()),
                ));
            }
        }
        let events = vec![Vec::new(); target.aggregates.len()];
        let (retracted, codes, last) = (FxHashMap::default(), Codes::default(), (0, Vec::new()));
        Self {
            target,
            events,
            retracted,
            logs,
            deals: FxHashMap::default(),
            catalog,
            codes,
            last,
        }
    }

    /// Takes a row that counts for the entity of this number (by [`Plan::reach`]). Entities are
    /// numbered by the caller, densely from 0. Each accepted row is offered once for each entity it
    /// counts for, before the next row; retractions and tombstones too. Rows of tables that do not
    /// count are ignored.
    ///
    /// A retraction takes back the event of its table and key, whatever owner it names.
    pub fn offer(&mut self, entity: u32, row: Row<'_>) {
        if self
            .target
            .aggregates
            .iter()
            .all(|aggregate| aggregate.source.table() != row.table())
        {
            return;
        }
        // A gap says nothing about the values of its entity.
        if row.operation() == Operation::Gap {
            return;
        }
        let is_new = self.starts_row(row);
        // A list may name an entity twice.
        if self.last.1.contains(&entity) {
            return;
        }
        self.last.1.push(entity);
        if let Some((_, log)) = self
            .logs
            .iter_mut()
            .find(|(table, _)| *table == row.table())
        {
            if is_new {
                log.start(row);
            }
            log.counts_for(entity);
            return;
        }
        if row.operation() == Operation::Delete {
            return;
        }
        let fingerprint = fingerprint(row);
        if row.operation() == Operation::Retract {
            let gone_ms = self.retracted.entry(fingerprint).or_insert(i64::MAX);
            *gone_ms = row.known_ms().min(*gone_ms);
            return;
        }
        let table = self.catalog.table_at(row.table());
        let step = deal_step(self.catalog, row, fingerprint);
        if let Some((deal, step)) = step.filter(|_| is_new) {
            let counts_ends = |aggregate: &Aggregate| {
                aggregate.source.table() == row.table()
                    && deciding_outcome(table, aggregate.filter.as_ref()).is_some()
            };
            if self.target.aggregates.iter().any(counts_ends) {
                self.deals.entry(deal).or_default().push(step);
            }
        }
        for (aggregate, points) in self.target.aggregates.iter().zip(&mut self.events) {
            if aggregate.source.table() != row.table()
                || aggregate
                    .filter
                    .as_ref()
                    .is_some_and(|filter| !filter.holds(&row))
            {
                continue;
            }
            // A null field has no value to count, sum or compare; a zero would be one.
            let value = self.codes.value_of(aggregate.quantity, &row);
            if !value.is_nan() {
                let entity = entity as usize;
                if points.len() <= entity {
                    points.resize_with(entity + 1, Vec::new);
                }
                let point = Point {
                    time_ms: row.event_ms(),
                    known_ms: row.known_ms(),
                    value,
                };
                let counts_ends = deciding_outcome(table, aggregate.filter.as_ref()).is_some();
                let end = step.filter(|_| counts_ends);
                points[entity].push(Counted {
                    point,
                    fingerprint,
                    ends: end.and_then(|(deal, step)| Some((deal, step.verdict?))),
                });
            }
        }
    }

    /// Whether this row is another than the one offered last.
    fn starts_row(&mut self, row: Row<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        let position = row.position();
        (
            row.table(),
            row.key(),
            position.partition,
            position.offset,
            row.known_ms(),
        )
            .hash(&mut hasher);
        let is_new = self.last.1.is_empty() || self.last.0 != hasher.finish();
        if is_new {
            self.last.0 = hasher.finish();
            self.last.1.clear();
        }
        is_new
    }

    /// Sorts what was offered.
    pub fn finish(self) -> Labels {
        let Self {
            target,
            events,
            retracted,
            logs,
            deals,
            catalog,
            mut codes,
            ..
        } = self;
        let series =
            target
                .aggregates
                .iter()
                .zip(events)
                .map(|(aggregate, events)| match aggregate.source {
                    AggregateSource::Events(table) => {
                        let outcome = catalog.table_at(table).outcome.as_ref();
                        let rule = outcome.map_or(Verdict::Each, |outcome| outcome.verdict);
                        let taken_back = TakenBack {
                            retracted: &retracted,
                            deals: &deals,
                            rule,
                        };
                        sorted(events, &taken_back)
                    }
                    AggregateSource::Versions(table) => {
                        let (_, log) = logs
                            .iter()
                            .find(|(known, _)| *known == table)
                            .expect("new() made a log for each table with versions");
                        Series::Versions(
                            log.points(aggregate, |row| codes.value_of(aggregate.quantity, row)),
                        )
                    }
                });
        let series = series.collect();
        Labels::new(target, series)
    }
}

/// A hash of an event's table and key.
fn fingerprint(row: Row<'_>) -> u64 {
    // A hash of one run: it is never stored, so the standard library may change it.
    let mut hasher = DefaultHasher::new();
    (row.table(), row.key()).hash(&mut hasher);
    hasher.finish()
}

/// The deal of an event row, with the row as a step of it; `None` for a table without outcomes and
/// for an event that hangs on the root, where deals cannot be told apart.
fn deal_step(catalog: &Catalog, row: Row<'_>, fingerprint: u64) -> Option<(u64, Step)> {
    let outcome = catalog.table_at(row.table()).outcome.as_ref()?;
    let (table, key) = owner_of(catalog, row)?;
    if catalog.table_at(table).role != Role::Member {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (row.table(), table, key).hash(&mut hasher);
    let value = row.get(outcome.field).text();
    let step = Step {
        time_ms: row.event_ms(),
        known_ms: row.known_ms(),
        fingerprint,
        verdict: value.and_then(|value| outcome.of(value)),
    };
    Some((hasher.finish(), step))
}

/// The rows that take others back.
struct TakenBack<'h> {
    retracted: &'h FxHashMap<u64, i64>,
    deals: &'h FxHashMap<u64, Vec<Step>>,
    rule: Verdict,
}

impl TakenBack<'_> {
    /// The time at which the retraction of an event became known; `i64::MAX` without one.
    fn gone_ms(&self, fingerprint: u64) -> i64 {
        let gone_ms = self.retracted.get(&fingerprint);
        gone_ms.copied().unwrap_or(i64::MAX)
    }

    /// The steps of its deal that take the end of a deal back.
    fn reversals(&self, event: &Counted) -> Vec<Reversal> {
        let Some((deal, won)) = event.ends else {
            return Vec::new();
        };
        let time_ms = event.point.time_ms;
        let takes_back = |step: &&Step| match self.rule {
            Verdict::Last => step.time_ms > time_ms && step.verdict != Some(won),
            Verdict::First => step.time_ms < time_ms && step.verdict.is_some(),
            Verdict::Each => false,
        };
        let steps = self.deals.get(&deal).into_iter().flatten();
        let reversal = |step: &Step| Reversal {
            time_ms: step.time_ms,
            known_ms: step.known_ms,
            gone_ms: self.gone_ms(step.fingerprint),
        };
        steps.filter(takes_back).map(reversal).collect()
    }
}

/// Per entity and in order of time, what was taken back apart.
fn sorted(events: Vec<Vec<Counted>>, taken_back: &TakenBack<'_>) -> Series {
    let mut kept: Vec<Vec<Point>> = Vec::with_capacity(events.len());
    let mut withdrawn: FxHashMap<u32, Vec<Withdrawn>> = FxHashMap::default();
    for (entity, counted) in (0_u32..).zip(events) {
        let mut points = Vec::with_capacity(counted.len());
        for event in counted {
            let point = event.point;
            let gone_ms = taken_back.gone_ms(event.fingerprint);
            let reversed_by = taken_back.reversals(&event);
            if gone_ms == i64::MAX && reversed_by.is_empty() {
                points.push(point);
                continue;
            }
            withdrawn.entry(entity).or_default().push(Withdrawn {
                point,
                gone_ms,
                reversed_by,
            });
        }
        points.sort_unstable_by(Point::in_time);
        points.shrink_to_fit();
        kept.push(points);
    }
    for points in withdrawn.values_mut() {
        points.sort_by(|a, b| a.point.in_time(&b.point));
    }
    Series::Events { kept, withdrawn }
}

/// Numbers for the different values of COUNT_DISTINCT.
#[derive(Debug, Default)]
struct Codes(FxHashMap<String, u32>);

impl Codes {
    /// The number that an aggregate takes of a row; NaN when the field is null.
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
            Quantity::Sum(field)
            | Quantity::Mean(field)
            | Quantity::Min(field)
            | Quantity::Max(field) => row.column(field).number().unwrap_or(f64::NAN),
        }
    }
}
