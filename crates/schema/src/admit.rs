//! Admission: the conditions of every row, whichever reader filled it.

use crate::catalog::normalise::normalised;
use crate::catalog::{FieldId, Role, Table};
use crate::money::{UnknownCurrency, convert_amounts};
use crate::row::{Operation, RowBuilder, Value};
use crate::said::admit_said;

/// The condition that a complete row breaks.
#[derive(Debug, PartialEq)]
pub(crate) enum RowRefusal {
    /// The row says too little.
    Incomplete { field: String, why: &'static str },
    /// An amount cannot be converted.
    NoRate {
        field: String,
        unknown: UnknownCurrency,
    },
    /// A value is not one of the fixed words of its field.
    UnknownWord {
        field: String,
        /// Empty where there is none.
        value: String,
        expected: &'static str,
    },
}

impl RowRefusal {
    /// The field at fault.
    pub(crate) fn field(&self) -> &str {
        match self {
            RowRefusal::Incomplete { field, .. }
            | RowRefusal::NoRate { field, .. }
            | RowRefusal::UnknownWord { field, .. } => field,
        }
    }
    /// The value at fault, for files; empty where a value is missing.
    pub(crate) fn value(&self) -> &str {
        match self {
            RowRefusal::Incomplete { .. } => "",
            RowRefusal::NoRate { unknown, .. } => &unknown.currency,
            RowRefusal::UnknownWord { value, .. } => value,
        }
    }
    /// The value that was expected instead, for people.
    pub(crate) fn expected(&self) -> &'static str {
        match self {
            RowRefusal::Incomplete { why, .. } => why,
            RowRefusal::NoRate { unknown, .. } => unknown.expected(),
            RowRefusal::UnknownWord { expected, .. } => expected,
        }
    }
    /// The value that a file should have, for people: completes "'VALUE' is not …".
    pub(crate) fn expected_cell(&self) -> String {
        match self {
            RowRefusal::Incomplete { why, .. } => format!("a value: {why}"),
            _ => self.expected().to_owned(),
        }
    }
}

/// Brings keys and references to their one spelling.
pub(crate) fn normalise(table: &Table, row: &mut RowBuilder<'_>) {
    for field in table.fields.iter().filter(|f| !f.normalise.is_empty()) {
        normalise_field(table, field.id, row);
    }
}

/// As [`normalise`], for one field.
pub(crate) fn normalise_field(table: &Table, field: FieldId, row: &mut RowBuilder<'_>) {
    let steps = &table.field_at(field).normalise;
    if steps.is_empty() {
        return;
    }
    match row.get(field) {
        Value::Text(text) => {
            let normal = normalised(steps, text);
            if *normal != *text {
                let normal = normal.into_owned();
                row.set(field, Value::Text(&normal));
            }
        }
        Value::List(list) => {
            let items = list.iter().map(|item| normalised(steps, item).into_owned());
            let items: Vec<String> = items.collect();
            if !items.iter().map(String::as_str).eq(list.iter()) {
                row.set_list(field, items.iter().map(String::as_str));
            }
        }
        _ => {}
    }
}

/// A row has a key; an event also has a time, and an owner to hang on. A row of what people say has
/// its words, its time, and who said it. An empty reference refers to nothing: it becomes null
/// where it may. Amounts become amounts of one currency; `may_drop` says whether one that cannot be
/// converted becomes null, and counts it.
pub(crate) fn admit(
    table: &Table,
    row: &mut RowBuilder<'_>,
    mut may_drop: impl FnMut(&UnknownCurrency) -> bool,
) -> Result<(), RowRefusal> {
    for field in &table.fields {
        if !field.normalise.is_empty() {
            normalise_field(table, field.id, row);
        }
        if field.nullable && field.reference.is_some() && row.is_empty_text(field.id) {
            row.set(field.id, Value::Null);
        }
    }
    convert_amounts(table, row, &mut may_drop).map_err(|unknown| RowRefusal::NoRate {
        field: table.field_at(unknown.amount).name.clone(),
        unknown,
    })?;
    let refuse = |field: String, why| Err(RowRefusal::Incomplete { field, why });
    if !row.has_text(table.key) {
        return refuse(table.field_at(table.key).name.clone(), "the key is empty");
    }
    if table
        .deleted
        .is_some_and(|field| row.get(field) == Value::Bool(true))
    {
        row.set_operation(Operation::Delete);
    }
    if !table.role.is_learned() && row.row().operation() == Operation::Upsert {
        admit_said(table, row)?;
    }
    if table.role != Role::Event {
        return Ok(());
    }
    if table
        .retraction
        .is_some_and(|field| row.get(field) == Value::Bool(true))
    {
        row.set_operation(Operation::Retract);
    }
    if let Some(time) = table.time
        && !matches!(row.get(time), Value::Time(_))
    {
        return refuse(table.field_at(time).name.clone(), "an event needs its time");
    }
    if !table.owners.iter().any(|field| row.has_text(*field)) {
        let names: Vec<&str> = table
            .owners
            .iter()
            .map(|f| table.field_at(*f).name.as_str())
            .collect();
        return refuse(names.join(" / "), "an event needs an owner");
    }
    Ok(())
}
