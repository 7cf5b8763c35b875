//! Reach: the way from a row to the entity that it counts for.

use leadpulse_schema::{Catalog, FieldId, Meaning, Role, Table, TableId};

use crate::plan::compile::field_of;
use crate::plan::{Planned, Reach};
use crate::syntax::ast::{ColumnName, Expression, TestedValue};
use crate::syntax::diagnostic::{Diagnostic, Span};

/// The one table whose columns a condition names: that of its first column.
pub(crate) fn aggregated_table<'a>(
    catalog: &'a Catalog,
    condition: &Expression,
    span: Span,
) -> Planned<&'a Table> {
    fn first(expression: &Expression) -> Option<&ColumnName> {
        match expression {
            Expression::And(parts) | Expression::Or(parts) => parts.iter().find_map(first),
            Expression::Not(inner) => first(inner),
            Expression::Test {
                operand: TestedValue::Column(column),
                ..
            } => Some(column),
            _ => None,
        }
    }
    match first(condition) {
        Some(column) => Ok(field_of(catalog, column).0),
        None => {
            let hint =
                "aggregates are compared without BOOL: COUNT(opportunities.*, 0, 90, days) > 0";
            Err(Diagnostic::new(
                span,
                "BOOL takes a condition on the columns of one table",
                hint,
            ))
        }
    }
}

/// The path from rows of `table` to the entity they count for, and the references that lead there
/// too but are not used. Where a member was before leads nowhere.
pub(crate) fn reach(
    catalog: &Catalog,
    table: &Table,
    entity: &Table,
) -> Option<(Reach, Vec<FieldId>)> {
    if table.id == entity.id {
        return Some((Reach::Itself, Vec::new()));
    }
    let mut others: Vec<FieldId> = table
        .fields
        .iter()
        .filter(|f| {
            f.reference
                .is_some_and(|r| r.table == entity.id && r.meaning != Meaning::Previous)
                && !table.owners.contains(&f.id)
        })
        .map(|f| f.id)
        .collect();
    if entity.role == Role::Root && leads_to(catalog, table, entity.id) {
        return Some((Reach::Cell, others));
    }
    let owned = table.owners.iter().any(|f| {
        table
            .field_at(*f)
            .reference
            .is_some_and(|r| r.table == entity.id)
    });
    if owned {
        return Some((Reach::Owner, others));
    }
    if others.is_empty() || matches!(table.role, Role::Hub | Role::Staff) {
        return None;
    }
    let first = others.remove(0);
    Some((Reach::Reference(first), others))
}

/// Whether following owner references of `table` can arrive at `target`.
pub(crate) fn leads_to(catalog: &Catalog, table: &Table, target: TableId) -> bool {
    arrives(catalog, table, target, 0)
}

/// [`leads_to`] after some steps. Chains are no longer than there are tables.
fn arrives(catalog: &Catalog, table: &Table, target: TableId, steps: usize) -> bool {
    steps <= catalog.tables.len()
        && table
            .owners
            .iter()
            .filter_map(|f| table.field_at(*f).reference)
            .any(|r| {
                r.table == target || arrives(catalog, catalog.table_at(r.table), target, steps + 1)
            })
}

/// The error for rows that cannot be counted for the entity.
pub(crate) fn unreachable(
    catalog: &Catalog,
    table: &Table,
    entity: &Table,
    span: Span,
) -> Diagnostic {
    let counted: Vec<&str> = catalog
        .tables
        .iter()
        .filter(|t| reach(catalog, t, entity).is_some())
        .map(|t| t.name.as_str())
        .collect();
    let message = format!(
        "rows of {} cannot be counted for {}, because no reference leads from one to the other",
        table.name, entity.name
    );
    Diagnostic::new(
        span,
        message,
        format!("for {} rows of {} count", entity.name, counted.join(", ")),
    )
}
