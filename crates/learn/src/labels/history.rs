//! The rows that count, in whichever order they come.
//!
//! [`LabelHistory`] takes rows with the entities that they name; [`LabelHistory::known_by`] makes
//! the [`Labels`] of what was known at a moment. Whose a row is, is asked then and not earlier: an
//! export names owners whose own rows come later, and members move. An event that was taken back
//! does not count, whether the event or its retraction came first; nor does a win that another step
//! of its deal took back. Memory: 56 bytes for an event that counts, per aggregate it counts for;
//! versions of entity tables are kept whole.
//!
//! Decisions: docs/decisions/0038-a-win-that-was-taken-back.md,
//! docs/decisions/0040-whose-a-row-is.md

use std::hash::{DefaultHasher, Hash, Hasher};

use leadpulse_graph::owners_of;
use leadpulse_schema::{Catalog, FieldId, Operation, Role, Row, TableId, Value, Verdict, View};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::label::{Labels, Point, Series};
use super::versions::{VersionLog, deciding_outcome};
use leadpulse_pql::{Aggregate, AggregateSource, Plan, Quantity, Reach, Target};

/// A moment at which ownership is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnedAt {
    /// The time of the row, milliseconds.
    pub(crate) time_ms: i64,
    /// What became known later does not count, milliseconds.
    pub(crate) known_until_ms: i64,
}

/// The answer to whose a row is.
pub(crate) trait Ownership {
    /// Adds the entities that a row counts for, each once. `named` are those that the row names,
    /// in their order.
    fn entities(&self, reach: Reach, named: &[(TableId, &str)], at: OwnedAt, found: &mut Vec<u32>);
}

/// Collects the rows that a plan's target counts.
#[derive(Debug)]
pub struct LabelHistory<'a> {
    target: Target,
    catalog: &'a Catalog,
    /// Per aggregate.
    events: Vec<Vec<Counted>>,
    /// The time at which a retraction of an event became known, by the event's fingerprint.
    retracted: FxHashMap<u64, i64>,
    logs: Vec<(TableId, VersionLog<'a>)>,
    /// By deal, the steps of tables whose ends a target counts.
    deals: FxHashMap<u64, Vec<Step>>,
    names: Names,
    codes: Codes,
}

/// An event that counts unless it is taken back.
#[derive(Clone, Copy, Debug)]
struct Counted {
    point: Point,
    known_ms: i64,
    fingerprint: u64,
    /// The entities that it names, in [`Names`].
    named: u32,
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

/// Rows that the target counts, and those of them that are nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unowned {
    pub(crate) counted: usize,
    pub(crate) unowned: usize,
    /// What one of the latter names, in words.
    pub(crate) example: Option<String>,
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
        Self {
            target,
            catalog,
            events,
            logs,
            retracted: FxHashMap::default(),
            deals: FxHashMap::default(),
            names: Names::default(),
            codes: Codes::default(),
        }
    }

    /// Takes an accepted row; retractions and tombstones too. Rows of tables that do not count are
    /// ignored.
    ///
    /// A retraction takes back the event of its table and key, whatever owner it names.
    pub fn offer(&mut self, row: Row<'_>) {
        let counts = |source: AggregateSource| source.table() == row.table();
        // A gap says nothing about the values of its entity.
        if row.operation() == Operation::Gap
            || !self.target.aggregates.iter().any(|a| counts(a.source))
        {
            return;
        }
        let mut logs = self.logs.iter_mut();
        if let Some((_, log)) = logs.find(|(table, _)| *table == row.table()) {
            log.push(row);
            return;
        }
        let fingerprint = fingerprint(row);
        match row.operation() {
            Operation::Upsert => self.count(row, fingerprint),
            Operation::Retract => {
                let gone_ms = self.retracted.entry(fingerprint).or_insert(i64::MAX);
                *gone_ms = row.known_ms().min(*gone_ms);
            }
            Operation::Delete | Operation::Gap => {}
        }
    }

    /// Keeps an event for the aggregates that count it.
    fn count(&mut self, row: Row<'_>, fingerprint: u64) {
        let table = self.catalog.table_at(row.table());
        let step = deal_step(self.catalog, row, fingerprint);
        let counts_ends = |aggregate: &Aggregate| {
            aggregate.source.table() == row.table()
                && deciding_outcome(table, aggregate.filter.as_ref()).is_some()
        };
        if let Some((deal, step)) = step
            && self.target.aggregates.iter().any(counts_ends)
        {
            self.deals.entry(deal).or_default().push(step);
        }
        for (aggregate, counted) in self.target.aggregates.iter().zip(&mut self.events) {
            let filter = aggregate.filter.as_ref();
            if aggregate.source.table() != row.table()
                || filter.is_some_and(|filter| !filter.holds(&row))
            {
                continue;
            }
            // A null field has no value to count, sum or compare; a zero would be one.
            let value = self.codes.value_of(aggregate.quantity, &row);
            if value.is_nan() {
                continue;
            }
            let named = named_by(self.catalog, aggregate.reach, row);
            let end = step.filter(|_| counts_ends(aggregate));
            counted.push(Counted {
                point: Point {
                    time_ms: row.event_ms(),
                    value,
                    reversed_ms: i64::MAX,
                },
                ends: end.and_then(|(deal, step)| Some((deal, step.verdict?))),
                known_ms: row.known_ms(),
                fingerprint,
                named: self.names.number(&named),
            });
        }
    }

    /// The labels of what was known at a moment, milliseconds, and how many rows were nobody's.
    pub fn known_by(
        &mut self,
        ownership: &dyn Ownership,
        known_until_ms: i64,
    ) -> (Labels, Unowned) {
        let mut unowned = Unowned::default();
        let mut series = Vec::with_capacity(self.events.len());
        for (aggregate, events) in self.target.aggregates.iter().zip(&self.events) {
            let mut of_aggregate = Assigned::new(self.catalog, ownership, known_until_ms);
            series.push(match aggregate.source {
                AggregateSource::Events(table) => {
                    let outcome = self.catalog.table_at(table).outcome.as_ref();
                    let rule = outcome.map_or(Verdict::Each, |outcome| outcome.verdict);
                    let is_known = |counted: &&Counted| {
                        self.stands(counted.fingerprint, counted.known_ms, known_until_ms)
                    };
                    let mut points: Vec<Vec<Point>> = Vec::new();
                    for counted in events.iter().filter(is_known) {
                        let named = self.names.of(counted.named);
                        let time_ms = counted.point.time_ms;
                        let point = Point {
                            reversed_ms: self.reversed_ms(counted, rule, known_until_ms),
                            ..counted.point
                        };
                        of_aggregate.note(aggregate.reach, &named, time_ms);
                        for entity in &of_aggregate.found {
                            at(&mut points, *entity).push(point);
                        }
                    }
                    for points in &mut points {
                        points.sort_unstable_by(Point::in_time);
                        points.shrink_to_fit();
                    }
                    Series::Events(points)
                }
                AggregateSource::Versions(table) => {
                    let (_, log) = self
                        .logs
                        .iter()
                        .find(|(known, _)| *known == table)
                        .expect("new() made a log for each table with versions");
                    let codes = &mut self.codes;
                    Series::Versions(log.points(aggregate, &mut of_aggregate, |row| {
                        codes.value_of(aggregate.quantity, row)
                    }))
                }
            });
            // Aggregates may count the same rows: the one with most of nobody's speaks.
            if of_aggregate.rows.unowned > unowned.unowned || unowned.counted == 0 {
                unowned = of_aggregate.rows;
            }
        }
        (Labels::new(self.target.clone(), series), unowned)
    }
}

impl LabelHistory<'_> {
    /// Whether an event is known by a moment and was not taken back by then.
    fn stands(&self, fingerprint: u64, known_ms: i64, known_until_ms: i64) -> bool {
        let gone_ms = self.retracted.get(&fingerprint);
        known_ms <= known_until_ms && gone_ms.is_none_or(|gone_ms| *gone_ms > known_until_ms)
    }

    /// The first time at which a step of its deal takes an event back, by what is known at a
    /// moment; `i64::MAX` where none does.
    fn reversed_ms(&self, event: &Counted, rule: Verdict, known_until_ms: i64) -> i64 {
        let Some((deal, won)) = event.ends else {
            return i64::MAX;
        };
        let time_ms = event.point.time_ms;
        let takes_back = |step: &&Step| match rule {
            Verdict::Last => step.time_ms > time_ms && step.verdict != Some(won),
            Verdict::First => step.time_ms < time_ms && step.verdict.is_some(),
            Verdict::Each => false,
        };
        let steps = self.deals.get(&deal).into_iter().flatten();
        steps
            .filter(takes_back)
            .filter(|step| self.stands(step.fingerprint, step.known_ms, known_until_ms))
            .map(|step| step.time_ms)
            .min()
            .unwrap_or(i64::MAX)
    }
}

/// The deal of an event row, with the row as a step of it; `None` for a table without outcomes and
/// for an event that hangs on the root, where deals cannot be told apart.
fn deal_step(catalog: &Catalog, row: Row<'_>, fingerprint: u64) -> Option<(u64, Step)> {
    let outcome = catalog.table_at(row.table()).outcome.as_ref()?;
    let (table, key) = owners_of(catalog, row).next()?;
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

/// The list of an entity, made if it has none.
pub(super) fn at<T>(lists: &mut Vec<Vec<T>>, entity: u32) -> &mut Vec<T> {
    let entity = entity as usize;
    if lists.len() <= entity {
        lists.resize_with(entity + 1, Vec::new);
    }
    &mut lists[entity]
}

/// The entities that a row names on the way to those it counts for, in their order.
pub(super) fn named_by<'r>(
    catalog: &Catalog,
    reach: Reach,
    row: Row<'r>,
) -> Vec<(TableId, &'r str)> {
    let table = catalog.table_at(row.table());
    match reach {
        Reach::Owner => owners_of(catalog, row).collect(),
        Reach::Cell if table.role == Role::Event => owners_of(catalog, row).collect(),
        Reach::Itself | Reach::Cell => vec![(row.table(), row.key())],
        Reach::Reference(field) => named_in(catalog, row.table(), field, row.get(field)),
    }
}

/// The entities that the value of a reference names.
pub(super) fn named_in<'r>(
    catalog: &Catalog,
    table: TableId,
    field: FieldId,
    value: Value<'r>,
) -> Vec<(TableId, &'r str)> {
    let Some(reference) = catalog.table_at(table).field_at(field).reference else {
        return Vec::new();
    };
    let target = reference.table;
    match value {
        Value::List(keys) => keys.iter().map(|key| (target, key)).collect(),
        value => value.text().map(|key| (target, key)).into_iter().collect(),
    }
}

/// Finds the entities of rows, and counts those that are nobody's.
pub(super) struct Assigned<'o> {
    catalog: &'o Catalog,
    ownership: &'o dyn Ownership,
    pub(super) known_until_ms: i64,
    pub(super) found: Vec<u32>,
    rows: Unowned,
}

impl<'o> Assigned<'o> {
    fn new(catalog: &'o Catalog, ownership: &'o dyn Ownership, known_until_ms: i64) -> Self {
        Self {
            catalog,
            ownership,
            known_until_ms,
            found: Vec::new(),
            rows: Unowned::default(),
        }
    }

    /// Finds the entities that a row of this time counts for, and counts the row.
    fn note(&mut self, reach: Reach, named: &[(TableId, &str)], time_ms: i64) {
        self.find(reach, named, time_ms);
        self.count(named);
    }

    /// Counts a row whose entities were found.
    pub(super) fn count(&mut self, named: &[(TableId, &str)]) {
        self.rows.counted += 1;
        if self.found.is_empty() {
            self.rows.unowned += 1;
            let names = named
                .iter()
                .map(|(table, key)| format!("{} {key:?}", self.catalog.table_at(*table).name));
            let words = || names.collect::<Vec<_>>().join(" and ");
            self.rows.example.get_or_insert_with(words);
        }
    }

    /// Finds the entities that a row of this time counts for.
    pub(super) fn find(&mut self, reach: Reach, named: &[(TableId, &str)], time_ms: i64) {
        let moment = OwnedAt {
            time_ms,
            known_until_ms: self.known_until_ms,
        };
        self.found.clear();
        self.ownership
            .entities(reach, named, moment, &mut self.found);
    }
}

/// The lists of entities that rows name, each kept once.
#[derive(Debug, Default)]
struct Names {
    keys: FxHashMap<(TableId, Box<str>), u32>,
    by_number: Vec<(TableId, Box<str>)>,
    lists: FxHashMap<SmallVec<[u32; 3]>, u32>,
    list_by_number: Vec<SmallVec<[u32; 3]>>,
}

impl Names {
    /// The number of a list.
    fn number(&mut self, named: &[(TableId, &str)]) -> u32 {
        let keys = named.iter().map(|(table, key)| {
            let next = u32::try_from(self.by_number.len()).expect("fewer than 2^32 keys");
            let key: (TableId, Box<str>) = (*table, (*key).into());
            *self.keys.entry(key).or_insert_with_key(|key| {
                self.by_number.push(key.clone());
                next
            })
        });
        let list: SmallVec<[u32; 3]> = keys.collect();
        let next = u32::try_from(self.list_by_number.len()).expect("fewer than 2^32 lists");
        *self.lists.entry(list).or_insert_with_key(|list| {
            self.list_by_number.push(list.clone());
            next
        })
    }
    /// The list of a number.
    fn of(&self, number: u32) -> Vec<(TableId, &str)> {
        let keys = self.list_by_number[number as usize].iter();
        keys.map(|key| {
            let (table, key) = &self.by_number[*key as usize];
            (*table, &**key)
        })
        .collect()
    }
}

/// A hash of an event's table and key.
fn fingerprint(row: Row<'_>) -> u64 {
    // A hash of one run: it is never stored, so the standard library may change it.
    let mut hasher = DefaultHasher::new();
    (row.table(), row.key()).hash(&mut hasher);
    hasher.finish()
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
