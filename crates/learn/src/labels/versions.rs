//! The versions of an entity table: kept as they come, then merged key by key and reduced to
//! points: when a row came to match the filter, and its value from then on.
//!
//! Versions of a key are ordered by known time, then position: the log's order where time follows
//! it. A version that names its changed fields changes only those. A tombstone ends a row: what
//! comes after it under the same key appears anew.

use leadpulse_schema::{
    Catalog, Condition, FieldId, Operand, Operation, OutcomeField, Row, RowBatch, Table, TableId,
    Value, Verdict, View,
};

use leadpulse_pql::{Aggregate, Reach};

use super::history::{Assigned, at, named_in};

/// A version that matches the filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionPoint {
    /// The time at which the version took effect.
    pub(crate) time_ms: i64,
    /// The row's key, numbered.
    pub(crate) key: u32,
    /// Whether the version before did not match, or there was none.
    pub(crate) entered: bool,
    /// The aggregated value of the version; NaN is null.
    pub(crate) value: f64,
    /// The time of the version of the same row that takes this end of a deal back; `i64::MAX`
    /// where none does.
    pub(crate) reversed_ms: i64,
}

impl VersionPoint {
    /// When it took effect, and when it was taken back.
    pub(crate) fn times_ms(&self) -> (i64, i64) {
        (self.time_ms, self.reversed_ms)
    }
}

/// The versions of one table offered so far.
#[derive(Debug)]
pub(crate) struct VersionLog<'a> {
    catalog: &'a Catalog,
    table: &'a Table,
    fields: Vec<FieldId>,
    rows: RowBatch,
}

impl<'a> VersionLog<'a> {
    /// An empty log of `table`, keeping what `aggregates` read.
    pub(crate) fn new<'p>(
        catalog: &'a Catalog,
        table: &'a Table,
        aggregates: impl Iterator<Item = &'p Aggregate>,
    ) -> Self {
        let mut fields = vec![table.key];
        fields.extend(table.time);
        fields.extend(table.changed_fields);
        for aggregate in aggregates.filter(|a| a.source.table() == table.id) {
            fields.extend(aggregate.quantity.field());
            match aggregate.reach {
                Reach::Owner => fields.extend(&table.owners),
                Reach::Reference(field) => fields.push(field),
                Reach::Itself | Reach::Cell => {}
            }
            if let Some(filter) = &aggregate.filter {
                fields_of(filter, &mut fields);
            }
        }
        fields.sort_unstable();
        fields.dedup();
        Self {
            catalog,
            table,
            fields,
            rows: RowBatch::new(),
        }
    }

    /// Keeps a version of a row, or its tombstone.
    pub(crate) fn push(&mut self, row: Row<'_>) {
        let mut copy = self.rows.start(
            self.catalog,
            self.table.id,
            row.operation(),
            row.position(),
            row.known_ms(),
        );
        for field in &self.fields {
            if row.is_unchanged(*field) {
                copy.set_unchanged(*field);
            } else {
                copy.set(*field, row.get(*field));
            }
        }
        copy.finish();
    }

    /// The entities that a row's version names on the way to those it counts for.
    fn named<'m>(&'m self, reach: Reach, merged: &'m Merged<'_>) -> Vec<(TableId, &'m str)> {
        let catalog = self.catalog;
        match reach {
            Reach::Itself | Reach::Cell => {
                vec![(self.table.id, merged.rows.row(merged.supplier[0]).key())]
            }
            Reach::Reference(field) => {
                named_in(catalog, self.table.id, field, merged.column(field))
            }
            Reach::Owner => {
                let owners = self.table.owners.iter();
                owners
                    .flat_map(|field| {
                        named_in(catalog, self.table.id, *field, merged.column(*field))
                    })
                    .filter(|(_, key)| !key.is_empty())
                    .collect()
            }
        }
    }

    /// The points of an aggregate by what is known at the moment of `assigned`, per entity and in
    /// order of time; `value_of` reads what is aggregated.
    pub(crate) fn points(
        &self,
        aggregate: &Aggregate,
        assigned: &mut Assigned<'_>,
        mut value_of: impl FnMut(&dyn View) -> f64,
    ) -> Vec<Vec<VersionPoint>> {
        let is_known = |index: &usize| self.rows.row(*index).known_ms() <= assigned.known_until_ms;
        let mut order: Vec<usize> = (0..self.rows.len()).filter(is_known).collect();
        order.sort_by_key(|index| {
            let row = self.rows.row(*index);
            (row.key(), row.known_ms(), row.position())
        });
        let mut points: Vec<Vec<VersionPoint>> = Vec::new();
        for (key, versions) in order
            .chunk_by(|a, b| self.rows.row(*a).key() == self.rows.row(*b).key())
            .enumerate()
        {
            let key = u32::try_from(key).expect("a batch holds fewer than 2^32 rows");
            let mut merged = Merged {
                rows: &self.rows,
                supplier: vec![versions[0]; self.table.fields.len()],
                exists: false,
            };
            let mut effective_ms = None;
            let mut matched = false;
            let outcome = deciding_outcome(self.table, aggregate.filter.as_ref());
            let mut ends: Vec<VersionEnd> = Vec::new();
            for index in versions {
                let row = self.rows.row(*index);
                merged.apply(self.table, *index);
                let time_ms = takes_effect_ms(row, effective_ms);
                effective_ms = Some(time_ms);
                let matches = merged.exists
                    && aggregate
                        .filter
                        .as_ref()
                        .is_none_or(|filter| filter.holds(&merged));
                let mut added: Vec<(usize, usize)> = Vec::new();
                if matches {
                    let point = VersionPoint {
                        time_ms,
                        key,
                        entered: !matched,
                        value: value_of(&merged),
                        reversed_ms: i64::MAX,
                    };
                    let named = self.named(aggregate.reach, &merged);
                    assigned.find(aggregate.reach, &named, time_ms);
                    if point.entered {
                        assigned.count(&named);
                    }
                    for entity in &assigned.found {
                        let points = at(&mut points, *entity);
                        points.push(point);
                        added.push((*entity as usize, points.len() - 1));
                    }
                }
                if let Some(outcome) = outcome.filter(|_| merged.exists) {
                    let value = merged.column(outcome.field).text();
                    ends.push(VersionEnd {
                        time_ms,
                        verdict: value.and_then(|value| outcome.of(value)),
                        points: added,
                    });
                }
                matched = matches;
            }
            if let Some(outcome) = outcome {
                note_reversals(outcome.verdict, &ends, &mut points);
            }
        }
        for entity in &mut points {
            // Stable: versions of a key keep their order.
            entity.sort_by_key(|point| point.time_ms);
        }
        points
    }
}

/// The time at which a version takes effect: its own, or, when that did not move since the version
/// before it took effect, the time at which it became known.
pub(super) fn takes_effect_ms(row: Row<'_>, before_ms: Option<i64>) -> i64 {
    match before_ms {
        Some(before_ms) if row.event_ms() <= before_ms => row.known_ms().max(before_ms),
        _ => row.event_ms(),
    }
}

/// A version of a deal: its end, and its points by entity and index.
struct VersionEnd {
    time_ms: i64,
    verdict: Option<bool>,
    points: Vec<(usize, usize)>,
}

/// The outcome of a table, if a filter asks about its value. Other filters count versions for
/// another reason than the end of a deal.
pub(super) fn deciding_outcome<'t>(
    table: &'t Table,
    filter: Option<&Condition>,
) -> Option<&'t OutcomeField> {
    let outcome = table.outcome.as_ref()?;
    let mut fields = Vec::new();
    fields_of(filter?, &mut fields);
    fields.contains(&outcome.field).then_some(outcome)
}

/// Notes at the points of ended deals the version that takes the end back.
fn note_reversals(rule: Verdict, ends: &[VersionEnd], points: &mut [Vec<VersionPoint>]) {
    for (at, end) in ends.iter().enumerate() {
        let Some(won) = end.verdict else {
            continue;
        };
        let by = match rule {
            Verdict::Last => {
                let mut later = ends[at + 1..].iter();
                later.find(|other| other.verdict != Some(won))
            }
            // The first end goes on through versions that say the same again.
            Verdict::First => {
                let earlier = ends[..at].iter().position(|other| other.verdict.is_some());
                let first = earlier.map(|first| &ends[first..at]);
                let is_same = |same: &[VersionEnd]| same.iter().all(|e| e.verdict == Some(won));
                first.filter(|from| !is_same(from)).map(|_| end)
            }
            Verdict::Each => None,
        };
        for (entity, index) in &end.points {
            points[*entity][*index].reversed_ms = by.map_or(i64::MAX, |by| by.time_ms);
        }
    }
}

/// A key's current row: for each field, the version that supplied it.
struct Merged<'a> {
    rows: &'a RowBatch,
    supplier: Vec<usize>,
    /// False before the first version and after a deletion: nothing is left to add to, and the next
    /// version is taken whole.
    exists: bool,
}

impl Merged<'_> {
    fn apply(&mut self, table: &Table, index: usize) {
        let before_exists = self.exists;
        self.exists = self.rows.row(index).operation() != Operation::Delete;
        if !before_exists || !self.exists {
            self.supplier.fill(index);
            return;
        }
        if let Some(names) = table.changed_by(self.rows.row(index)) {
            for field in names.iter().filter_map(|name| table.field(name)) {
                self.supplier[field.id.index()] = index;
            }
        } else {
            let row = self.rows.row(index);
            for (field, supplier) in table.fields.iter().zip(&mut self.supplier) {
                if !row.is_unchanged(field.id) {
                    *supplier = index;
                }
            }
        }
    }
}

impl View for Merged<'_> {
    fn column(&self, field: FieldId) -> Value<'_> {
        self.rows.row(self.supplier[field.index()]).get(field)
    }
    fn window(&self, _index: usize) -> Value<'_> {
        Value::Null
    }
}

/// The columns a condition reads.
fn fields_of(condition: &Condition, fields: &mut Vec<FieldId>) {
    match condition {
        Condition::And(a, b) | Condition::Or(a, b) => {
            fields_of(a, fields);
            fields_of(b, fields);
        }
        Condition::Not(inner) => fields_of(inner, fields),
        Condition::Compare(operand, ..)
        | Condition::In(operand, _)
        | Condition::IsNull(operand)
        | Condition::Like(operand, _) => {
            if let Operand::Column(field) = operand {
                fields.push(*field);
            }
        }
    }
}
