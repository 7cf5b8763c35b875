//! The versions of an entity table: kept as they come, then merged key by key and reduced to
//! points: when a row came to match the filter, and its value from then on.
//!
//! Versions of a key are ordered by known time, then position: the log's order where time follows
//! it. A version that names its changed fields changes only those. A tombstone ends a row: what
//! comes after it under the same key appears anew.

use leadpulse_schema::{
    Catalog, Condition, FieldId, Operand, Operation, OutcomeField, Row, RowBatch, Table, Value,
    Verdict, View,
};

use leadpulse_pql::Aggregate;

/// A version that matches the filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionPoint {
    /// The time at which the version took effect.
    pub(crate) time_ms: i64,
    /// The time at which the version became known.
    pub(crate) known_ms: i64,
    /// The row's key, numbered.
    pub(crate) key: u32,
    /// Whether the version before did not match, or there was none.
    pub(crate) entered: bool,
    /// The aggregated value of the version; NaN is null.
    pub(crate) value: f64,
    /// The version of the same row that takes this end of a deal back: its time, and the time at
    /// which it became known. `None` where none does.
    pub(crate) reversed: Option<(i64, i64)>,
}

impl VersionPoint {
    /// Whether the version's end of a deal was taken back by the end of a window, as it was known
    /// at `known_until_ms`.
    pub(crate) fn is_reversed(&self, end_ms: i64, known_until_ms: i64) -> bool {
        self.reversed
            .is_some_and(|(time_ms, known_ms)| time_ms <= end_ms && known_ms <= known_until_ms)
    }
}

/// The versions of one table offered so far.
#[derive(Debug)]
pub(crate) struct VersionLog<'a> {
    catalog: &'a Catalog,
    table: &'a Table,
    fields: Vec<FieldId>,
    rows: RowBatch,
    /// The entities that rows count for, row by row, and where each row's begin.
    entities: Vec<u32>,
    first_entity: Vec<usize>,
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
            entities: Vec::new(),
            first_entity: Vec::new(),
        }
    }

    /// Keeps a version of a row, or its tombstone.
    pub(crate) fn start(&mut self, row: Row<'_>) {
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
        self.first_entity.push(self.entities.len());
    }

    /// The version kept last counts for this entity.
    pub(crate) fn counts_for(&mut self, entity: u32) {
        self.entities.push(entity);
    }

    /// The entities a version counts for.
    fn entities_of(&self, index: usize) -> &[u32] {
        let end = self
            .first_entity
            .get(index + 1)
            .map_or(self.entities.len(), |first| *first);
        &self.entities[self.first_entity[index]..end]
    }

    /// The points of an aggregate, per entity and in order of time; `value_of` reads what is
    /// aggregated.
    pub(crate) fn points(
        &self,
        aggregate: &Aggregate,
        mut value_of: impl FnMut(&dyn View) -> f64,
    ) -> Vec<Vec<VersionPoint>> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
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
            };
            let mut effective_ms = None;
            let mut matched = false;
            let outcome = deciding_outcome(self.table, aggregate.filter.as_ref());
            let mut ends: Vec<VersionEnd> = Vec::new();
            for index in versions {
                let row = self.rows.row(*index);
                merged.apply(self.table, *index);
                let time_ms = match effective_ms {
                    Some(before_ms) if row.event_ms() <= before_ms => row.known_ms().max(before_ms),
                    _ => row.event_ms(),
                };
                effective_ms = Some(time_ms);
                let exists = row.operation() != Operation::Delete;
                let matches = exists
                    && aggregate
                        .filter
                        .as_ref()
                        .is_none_or(|filter| filter.holds(&merged));
                let mut added: Vec<(usize, usize)> = Vec::new();
                if matches {
                    let point = VersionPoint {
                        time_ms,
                        known_ms: row.known_ms(),
                        key,
                        entered: !matched,
                        value: value_of(&merged),
                        reversed: None,
                    };
                    for entity in self.entities_of(*index) {
                        let entity = *entity as usize;
                        if points.len() <= entity {
                            points.resize_with(entity + 1, Vec::new);
                        }
                        points[entity].push(point);
                        added.push((entity, points[entity].len() - 1));
                    }
                }
                if let Some(outcome) = outcome.filter(|_| exists) {
                    let value = merged.column(outcome.field).text();
                    ends.push(VersionEnd {
                        time_ms,
                        known_ms: row.known_ms(),
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

/// A version of a deal: its end, and its points by entity and index.
struct VersionEnd {
    time_ms: i64,
    known_ms: i64,
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
        let reversed = by.map(|by| (by.time_ms, by.known_ms));
        for (entity, index) in &end.points {
            points[*entity][*index].reversed = reversed;
        }
    }
}

/// A key's current row: for each field, the version that supplied it.
struct Merged<'a> {
    rows: &'a RowBatch,
    supplier: Vec<usize>,
}

impl Merged<'_> {
    fn apply(&mut self, table: &Table, index: usize) {
        let changed = table
            .changed_fields
            .map(|field| self.rows.row(index).get(field));
        if let Some(Value::List(names)) = changed
            && names.iter().next().is_some()
        {
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
