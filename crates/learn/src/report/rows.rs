//! Rows to evaluate: a prediction, its outcome, and what simple rules know at the same moment.

use std::collections::BTreeMap;

use leadpulse_graph::{Cell, EntityId, Graph, Node};
use leadpulse_schema::{Catalog, DataType, FieldId, Role, Table, TableId, Value};

/// The most different values of a field that is a segment.
const MAX_VALUES: usize = 12;

/// A field that stands beside the prediction: of the entity, or of the root that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    /// `table.field`, for people.
    pub name: String,
    table: TableId,
    field: FieldId,
}

impl Beside {
    fn of(table: &Table, field: FieldId) -> Self {
        Self {
            name: format!("{}.{}", table.name, table.field_at(field).name),
            table: table.id,
            field,
        }
    }

    fn value<'a>(&self, cell: &'a Cell, node: &'a Node) -> Value<'a> {
        if node.table == self.table {
            return node.value(self.field);
        }
        let root = cell.anchor_node().filter(|root| root.table == self.table);
        root.map_or(Value::Null, |root| root.value(self.field))
    }
}

/// The fields of an entity and its root that may divide a report: few values, no names or keys.
pub(crate) fn segment_fields(catalog: &Catalog, entity: TableId) -> Vec<Beside> {
    let table = catalog.table_at(entity);
    let root = Some(catalog.root()).filter(|root| root.id != entity);
    let tables = [Some(table), root].into_iter().flatten();
    let fields = tables.flat_map(|table| table.fields.iter().map(move |field| (table, field)));
    fields
        .filter(|(table, field)| {
            let is_small = matches!(
                field.data_type,
                DataType::Text | DataType::Symbol(_) | DataType::Bool
            );
            is_small && field.id != table.key && field.reference.is_none() && !field.label
        })
        .map(|(table, field)| Beside::of(table, field.id))
        .collect()
}

impl Beside {
    /// The table of the field.
    pub fn table(&self) -> TableId {
        self.table
    }
}

/// The column of points of a task: `table.field`, a number of the entity or of its root.
///
/// `None` for a column of other entities: their tasks are compared with it.
///
/// # Errors
/// What is wrong with the name, and what would be right.
pub(crate) fn points_field(
    catalog: &Catalog,
    entity: TableId,
    name: &str,
) -> Result<Option<Beside>, String> {
    let (table, field) = name
        .split_once('.')
        .ok_or_else(|| format!("{name:?} is no column; write TABLE.FIELD, e.g. accounts.score"))?;
    let table = catalog
        .table(table)
        .ok_or_else(|| format!("there is no table {table:?}"))?;
    if !matches!(table.role, Role::Root | Role::Member) {
        return Err(format!(
            "{name} is not of an entity; name a field of {} or of {}",
            catalog.table_at(entity).name,
            catalog.root().name
        ));
    }
    let field = table
        .field(field)
        .ok_or_else(|| format!("{} has no field {field:?}", table.name))?;
    if !matches!(field.data_type, DataType::Long | DataType::Double) {
        return Err(format!("{name} is no number; points are numbers"));
    }
    let is_beside = table.id == entity || table.role == Role::Root;
    Ok(is_beside.then(|| Beside::of(table, field.id)))
}

/// The fields to note beside each prediction of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookout {
    pub segments: Vec<Beside>,
    pub points: Option<Beside>,
    /// True where rows are divided by the open deals of their cells.
    pub has_deals: bool,
}

impl Lookout {
    /// RowFacts of an entity of which nothing is known.
    pub fn nothing(&self) -> RowFacts {
        RowFacts {
            segments: vec![None; self.segments.len()].into(),
            ..RowFacts::default()
        }
    }

    /// The facts of an entity at a moment, milliseconds: the graph stands there.
    pub fn facts(
        &self,
        graph: &Graph,
        (cell, node): (&Cell, &Node),
        at_ms: i64,
        words: &mut Words,
    ) -> RowFacts {
        // Events of a root's people are the root's.
        let newest_ms = match node.entity == cell.anchor {
            true => cell.newest_event_ms(),
            false => node.newest_event_ms(),
        };
        let segments = self.segments.iter().enumerate();
        RowFacts {
            silence_ms: newest_ms.map(|newest_ms| (at_ms - newest_ms).max(0)),
            points: self
                .points
                .as_ref()
                .and_then(|points| points.value(cell, node).number()),
            segments: segments
                .map(|(field, beside)| words.number(field, beside.value(cell, node)))
                .collect(),
            has_open_deal: self.has_deals.then(|| graph.outcomes(cell).open > 0),
        }
    }
}

/// RowFacts of an entity at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowFacts {
    /// The time since its newest event, milliseconds; `None` for one without events.
    pub silence_ms: Option<i64>,
    /// The existing score; `None` where it is null.
    pub points: Option<f64>,
    /// Per field of the lookout the number of its value; `None` where it is null, or the field has
    /// too many values.
    pub segments: Box<[Option<u8>]>,
    /// True while a deal of its cell has not ended; `None` where that is not asked.
    pub has_open_deal: Option<bool>,
}

/// True if reports divide the rows of an entity by the open deals of its cell: the schemas have
/// deals, and the entity is none.
pub(crate) fn divides_by_deals(catalog: &Catalog, entity: TableId) -> bool {
    let has_outcome = |table: &Table| table.role == Role::Member && table.outcome.is_some();
    let is_deal = has_outcome(catalog.table_at(entity));
    !is_deal && catalog.tables.iter().any(has_outcome)
}

/// The values of segment fields by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(BTreeMap<usize, Vec<Box<str>>>);

impl Words {
    fn number(&mut self, field: usize, value: Value<'_>) -> Option<u8> {
        let text = match value {
            Value::Text(text) => text,
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            _ => return None,
        };
        let known = self.0.entry(field).or_default();
        let found = known.iter().position(|word| **word == *text);
        let number = found.or_else(|| {
            // One more than allowed marks the field as too varied.
            (known.len() <= MAX_VALUES).then(|| {
                known.push(text.into());
                known.len() - 1
            })
        });
        number.and_then(|number| u8::try_from(number).ok())
    }

    /// The values of a field, by number; none for a field that is no segment because it has one
    /// value only, or too many.
    pub fn values(&self, field: usize) -> &[Box<str>] {
        let values = self.0.get(&field).map_or(&[][..], Vec::as_slice);
        match values.len() {
            2..=MAX_VALUES => values,
            _ => &[],
        }
    }
}

/// A prediction whose outcome is known.
#[derive(Clone, Debug)]
pub(crate) struct EvaluatedRow {
    pub entity: EntityId,
    /// The moment of the prediction, milliseconds.
    pub at_ms: i64,
    /// The probability; of a regression the number.
    pub predicted: f64,
    /// 1 or 0; of a regression the number.
    pub label: f64,
    pub facts: RowFacts,
}
