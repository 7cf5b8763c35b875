//! The rows that a record stands for: by filter, envelope and operation.

use super::changes::ChangeNames;
use super::data_node::DataNode;
use super::envelope::{Effect, EnvelopePlan};
use super::fill::{FieldFault, RowPlaces, fill, fill_key};
use super::fit::FitReport;
use super::plan::RowPlan;
use crate::catalog::{Catalog, Role};
use crate::row::{Operation, RowBuilder};

/// The meaning of a record to a source.
pub(crate) enum RecordMeaning<'n, 'a> {
    /// A record of another source.
    Foreign,
    /// The record concerns no row: the reason, for people.
    NoRow(&'static str),
    /// The row of the record's key ends; the record itself does not hold the row.
    EndsByKey,
    Rows(MeantRows<'n, 'a>),
}

/// The rows of a record.
pub(crate) struct MeantRows<'n, 'a> {
    /// The record within its wrappers.
    pub(crate) record: &'n DataNode<'a>,
    pub(crate) envelope: &'n EnvelopePlan,
    pub(crate) operation: Operation,
    is_partial: bool,
    rows: Vec<&'n DataNode<'a>>,
    /// For each row the keys that stand for its own.
    keys: Vec<Option<&'n DataNode<'a>>>,
}

/// Reads the meaning of a record. `name` is its name in its schema.
///
/// # Errors
/// An operation that is not known or cannot be applied, or a record without a row.
pub(crate) fn meaning<'n, 'a>(
    plan: &'n RowPlan,
    catalog: &Catalog,
    node: &'n DataNode<'a>,
    name: Option<&str>,
) -> Result<RecordMeaning<'n, 'a>, FieldFault> {
    let record = plan.envelope.unwrapped(node);
    if !plan.wants(record, name) {
        return Ok(RecordMeaning::Foreign);
    }
    let envelope = plan.envelope.of_record(record);
    let effect = envelope
        .effect(record)
        .map_err(|why| FieldFault::unusable(&why))?;
    let is_event = catalog.table_at(plan.table).role == Role::Event;
    let (row, operation) = match effect {
        Effect::Ignore => {
            return Ok(RecordMeaning::NoRow("an operation that concerns no row"));
        }
        Effect::Refuse => {
            return Err(FieldFault::unusable(
                "its operation concerns the whole table and is not applied; send a deletion for each row, or \
                 start over",
            ));
        }
        Effect::Gap if is_event => {
            return Ok(RecordMeaning::NoRow("a gap in the changes of an event"));
        }
        Effect::Gap => (Some(record), Operation::Gap),
        Effect::Delete if is_event => (envelope.before(record), Operation::Retract),
        Effect::Delete => (envelope.before(record), Operation::Delete),
        Effect::Upsert | Effect::Partial => (envelope.row(record), Operation::Upsert),
    };
    let Some(row) = row else {
        if operation == Operation::Delete {
            return Ok(RecordMeaning::EndsByKey);
        }
        return Err(FieldFault::unusable(&without_row(envelope, effect)));
    };
    let rows = match row {
        DataNode::List(items) => items.iter().collect(),
        one => vec![one],
    };
    let keys: Vec<_> = match envelope.ids.as_ref().and_then(|path| path.find(record)) {
        Some(DataNode::List(ids)) => ids.iter().map(Some).collect(),
        Some(DataNode::Null) | None => vec![None],
        Some(id) => vec![Some(id)],
    };
    if rows.is_empty() || keys.is_empty() {
        return Ok(RecordMeaning::NoRow("a record with an empty list of rows"));
    }
    Ok(RecordMeaning::Rows(MeantRows {
        record,
        envelope,
        operation,
        is_partial: effect == Effect::Partial,
        rows,
        keys,
    }))
}

fn without_row(envelope: &EnvelopePlan, effect: Effect) -> String {
    if effect == Effect::Delete {
        return "it is a deletion without the row before it; have the source send that row (for Postgres: \
                REPLICA IDENTITY FULL)"
            .into();
    }
    format!(
        "it has no row at '{}'; correct the envelope of its source",
        envelope.row_path()
    )
}

impl<'n, 'a> MeantRows<'n, 'a> {
    /// Calls `each` with every row's places.
    ///
    /// # Errors
    /// Those of `each`; a row that is text and not JSON.
    pub(crate) fn try_for_each<E: From<FieldFault>>(
        &self,
        mut each: impl FnMut(&RowPlaces<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in &self.rows {
            // Some connectors write the row as a JSON text within the record.
            let parsed = match row {
                DataNode::Text(text) if text.trim_start().starts_with('{') => {
                    let parsed = DataNode::json(text.as_bytes());
                    let why =
                        |error| FieldFault::unusable(&format!("its row is not JSON: {error}"));
                    Some(parsed.map_err(why)?)
                }
                _ => None,
            };
            for key in &self.keys {
                each(&RowPlaces {
                    record: self.record,
                    row: parsed.as_ref().unwrap_or(row),
                    envelope: self.envelope,
                    is_partial: self.is_partial,
                    key: *key,
                })?;
            }
        }
        Ok(())
    }
}

/// The truth value that the source names as `deleted`; false where the record has none.
fn is_deleted(plan: &RowPlan, places: &RowPlaces<'_, '_>) -> Result<bool, FieldFault> {
    let Some(path) = &plan.deleted else {
        return Ok(false);
    };
    let found = path.find(places.row).or_else(|| path.find(places.record));
    let text = match found {
        Some(DataNode::Bool(is_deleted)) => return Ok(*is_deleted),
        Some(node) => node.scalar().unwrap_or_default(),
        None => return Ok(false),
    };
    let text = text.trim();
    if text.is_empty() || plan.text.is_null(text) {
        return Ok(false);
    }
    plan.text.truth(text).map_err(|expected| FieldFault {
        field: path.as_str().to_owned(),
        value: text.to_owned(),
        expected,
        is_incomplete: false,
    })
}

/// Lays one row into a builder that was started with `operation`.
///
/// # Errors
/// As [`fill`] and [`fill_key`].
pub(crate) fn fill_row(
    plan: &RowPlan,
    names: &ChangeNames,
    catalog: &Catalog,
    places: &RowPlaces<'_, '_>,
    operation: Operation,
    fit: &mut FitReport,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    let table = catalog.table_at(plan.table);
    match operation {
        Operation::Delete | Operation::Gap => fill_key(plan, table, places, builder),
        Operation::Upsert => {
            fill(plan, names, table, places, fit, builder)?;
            if is_deleted(plan, places)? {
                builder.set_operation(Operation::Delete);
            }
            Ok(())
        }
        Operation::Retract => {
            fill(plan, names, table, places, fit, builder)?;
            builder.set_operation(Operation::Retract);
            Ok(())
        }
    }
}
