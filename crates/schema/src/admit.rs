//! Admission: the conditions of every row, whichever reader filled it.

use crate::catalog::normalise::normalised;
use crate::catalog::{FieldId, Role, Table};
use crate::row::{Operation, RowBuilder, Value};

/// The condition that a complete row breaks.
#[derive(Debug, PartialEq)]
pub(crate) struct RowRefusal {
    pub(crate) field: String,
    pub(crate) why: &'static str,
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

/// A row has a key; an event also has a time, and an owner to hang on. An empty reference refers to nothing: it becomes null
/// where it may.
pub(crate) fn admit(table: &Table, row: &mut RowBuilder<'_>) -> Result<(), RowRefusal> {
    normalise(table, row);
    for field in table
        .fields
        .iter()
        .filter(|f| f.nullable && f.reference.is_some())
    {
        if row.get(field.id).text().is_some_and(str::is_empty) {
            row.set(field.id, Value::Null);
        }
    }
    let refuse = |field: String, why| Err(RowRefusal { field, why });
    if row.get(table.key).text().is_none_or(str::is_empty) {
        return refuse(table.field_at(table.key).name.clone(), "the key is empty");
    }
    if table
        .deleted
        .is_some_and(|field| row.get(field) == Value::Bool(true))
    {
        row.set_operation(Operation::Delete);
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
    if table
        .owners
        .iter()
        .all(|f| row.get(*f).text().is_none_or(str::is_empty))
    {
        let names: Vec<&str> = table
            .owners
            .iter()
            .map(|f| table.field_at(*f).name.as_str())
            .collect();
        return refuse(names.join(" / "), "an event needs an owner");
    }
    Ok(())
}
