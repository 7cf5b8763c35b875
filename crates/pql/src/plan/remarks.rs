//! The remarks on a target: what it says that was probably not meant.

use leadpulse_schema::{Catalog, FieldId, Meaning, OutcomeField, Table};

use crate::plan::compile::field_of;
use crate::plan::lint::{Lint, LintKind};
use crate::plan::{AggregateSource, Quantity, Reach, Target, TargetExpression, TargetKind};
use crate::syntax::ast::{self, Bool, Expression, TestedValue};
use crate::syntax::diagnostic::Span;

/// "Generates revenue" is not "has an opportunity": rows of a table that says which of its values
/// end a deal, whatever that value.
pub(crate) fn on_outcome(
    catalog: &Catalog,
    table: &Table,
    aggregate: &ast::AggregateCall,
    lints: &mut Vec<Lint>,
) {
    let Some(OutcomeField { field, won, .. }) = &table.outcome else {
        return;
    };
    let is_asked = field_of(catalog, &aggregate.column)
        .1
        .is_some_and(|f| f.id == *field)
        || aggregate
            .filter
            .as_ref()
            .is_some_and(|filter| reads(catalog, filter, table, *field));
    if is_asked {
        return;
    }
    let name = &table.field_at(*field).name;
    let won = won
        .iter()
        .map(|value| format!("'{}'", value.replace('\'', "''")))
        .collect::<Vec<_>>();
    let test = if let [one] = won.as_slice() {
        format!("= {one}")
    } else {
        format!("IN ({})", won.join(", "))
    };
    let add = if aggregate.filter.is_some() {
        "add AND"
    } else {
        "add WHERE"
    };
    let when = if table.is_entity() && aggregate.filter.is_none() {
        " when they first appear"
    } else {
        ""
    };
    lints.push(Lint {
        kind: LintKind::AnyRow,
        span: aggregate.span,
        message: format!(
            "rows of {} count here{when}, whatever their {name}: won, lost and open ones alike",
            table.name
        ),
        hint: format!("to count what was won, {add} {}.{name} {test}", table.name),
    });
}

/// Whether a condition reads the field.
fn reads(catalog: &Catalog, condition: &Expression, table: &Table, field: FieldId) -> bool {
    match condition {
        Expression::And(parts) | Expression::Or(parts) => {
            parts.iter().any(|part| reads(catalog, part, table, field))
        }
        Expression::Not(inner)
        | Expression::Bool(Bool {
            condition: inner, ..
        }) => reads(catalog, inner, table, field),
        Expression::Test {
            operand: TestedValue::Column(column),
            ..
        }
        | Expression::Value(TestedValue::Column(column)) => {
            let (other, read) = field_of(catalog, column);
            other.id == table.id && read.is_some_and(|f| f.id == field)
        }
        Expression::Test { .. } | Expression::Value(_) => false,
    }
}

/// Several references lead to the entity; `other` is not the one taken.
pub(crate) fn on_path(
    table: &Table,
    entity: &Table,
    reach: Reach,
    other: FieldId,
    span: Span,
) -> Lint {
    let path = match reach {
        Reach::Itself => "themselves".to_owned(),
        Reach::Owner => "the entity that owns them".to_owned(),
        Reach::Cell => format!("the {} they belong to", entity.name),
        Reach::Reference(field) => format!("their {}", table.field_at(field).name),
    };
    Lint {
        kind: LintKind::SeveralPaths,
        span,
        message: format!(
            "rows of {} count for {path}, not for their {}",
            table.name,
            table.field_at(other).name
        ),
        hint: "there is one path from rows to entity: owner references first, then the first \
            other reference"
            .to_owned(),
    }
}

/// Remarks on the target as a whole; `spans` are where its aggregates stand.
pub(crate) fn on_target(
    target: &Target,
    catalog: &Catalog,
    entity: &Table,
    spans: &[Span],
    span: Span,
    lints: &mut Vec<Lint>,
) {
    for (index, (aggregate, span)) in target.aggregates.iter().zip(spans).enumerate() {
        let table = catalog.table_at(aggregate.source.table());
        let asks_null = asks_null(&target.expression, index)
            || target
                .assumption
                .as_ref()
                .is_some_and(|e| asks_null(e, index));
        if !aggregate.quantity.has_zero() && !asks_null {
            lints.push(Lint {
                kind: LintKind::SilentDropped,
                span: *span,
                message: format!(
                    "entities without rows of {} in the window give no example",
                    table.name
                ),
                hint: "scores of entities that then stay silent are extrapolated; COUNT and SUM \
                    take silence as 0, and IS NULL asks for it"
                    .to_owned(),
            });
        }
        if matches!(aggregate.source, AggregateSource::Versions(_))
            && aggregate.filter.is_some()
            && table.time.is_none()
            && table.changed_fields.is_none()
        {
            lints.push(Lint {
                kind: LintKind::CurrentRow,
                span: *span,
                message: format!(
                    "a change of {} counts when it became known, because the table has no time \
                     field that says when a version took effect",
                    table.name
                ),
                hint: "where the source keeps only current rows there are no changes to learn \
                    from: supply versions, or an event table of changes"
                    .to_owned(),
            });
        }
    }
    lints.extend(on_becoming(target, catalog, entity, spans));
    on_sums(target, catalog, span, lints);
}

/// The remark on rows that stop counting for an entity once it became another.
fn on_becoming(target: &Target, catalog: &Catalog, entity: &Table, spans: &[Span]) -> Option<Lint> {
    let becomes = becomes(catalog, entity)?;
    let mut aggregates = target.aggregates.iter();
    let index = aggregates.position(|a| matches!(a.reach, Reach::Owner | Reach::Reference(_)))?;
    let table = catalog.table_at(target.aggregates[index].source.table());
    Some(Lint {
        kind: LintKind::Becomes,
        span: spans[index],
        message: format!(
            "rows of {} count for one of {} only until it became one of {becomes}; later ones \
             count there",
            table.name, entity.name
        ),
        hint: format!(
            "predict a change of {} itself with BOOL, or predict for {}",
            entity.name,
            catalog.root().name
        ),
    })
}

/// The table that entities of this one may become part of.
fn becomes<'a>(catalog: &'a Catalog, entity: &Table) -> Option<&'a str> {
    let forward = entity
        .fields
        .iter()
        .filter_map(|f| f.reference)
        .find(|r| r.meaning == Meaning::Became && r.table != entity.id);
    let backward = || {
        let is_source = |t: &&Table| {
            t.id != entity.id
                && t.fields
                    .iter()
                    .filter_map(|f| f.reference)
                    .any(|r| r.meaning == Meaning::Was && r.table == entity.id)
        };
        catalog.tables.iter().find(is_source)
    };
    forward
        .map(|r| catalog.table_at(r.table))
        .or_else(backward)
        .map(|t| t.name.as_str())
}

fn asks_null(expression: &TargetExpression, index: usize) -> bool {
    match expression {
        TargetExpression::And(parts) | TargetExpression::Or(parts) => {
            parts.iter().any(|part| asks_null(part, index))
        }
        TargetExpression::Not(inner) => asks_null(inner, index),
        TargetExpression::IsNull { aggregate } => *aggregate == index,
        TargetExpression::Value(_)
        | TargetExpression::Compare { .. }
        | TargetExpression::In { .. } => false,
    }
}

/// A sum that could have had hazards, if its filter excluded negative amounts.
fn on_sums(target: &Target, catalog: &Catalog, span: Span, lints: &mut Vec<Lint>) {
    if target.kind() != TargetKind::Window {
        return;
    }
    let mut grown = target.clone();
    let mut sum = None;
    for aggregate in &mut grown.aggregates {
        if let Quantity::Sum(field) = aggregate.quantity {
            sum = Some((aggregate.source.table(), field));
            aggregate.quantity = Quantity::Rows;
        }
    }
    if let (Some((table, field)), TargetKind::Monotone) = (sum, grown.kind()) {
        let table = catalog.table_at(table);
        let field = &table.field_at(field).name;
        lints.push(Lint {
            kind: LintKind::SumCanFall,
            span,
            message: format!(
                "the sum of {}.{field} may fall again, so the task gives one \
                probability for the whole window",
                table.name
            ),
            hint: format!(
                "if negative amounts need not be netted, WHERE {}.{field} > 0 gives a probability \
                 for each part of the window",
                table.name
            ),
        });
    }
}
