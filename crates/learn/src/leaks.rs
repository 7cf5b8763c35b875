//! Refusal of leaks: fields that would know the future, because their past is not in the files.

use leadpulse_pql::AggregateSource;
use leadpulse_schema::{Condition, Field, FieldId, Operand, Table};

use crate::LearnError;
use crate::labels::TieShares;
use leadpulse_project::{Project, TaskPlan};

fn columns(condition: &Condition, found: &mut Vec<FieldId>) {
    match condition {
        Condition::And(a, b) | Condition::Or(a, b) => {
            columns(a, found);
            columns(b, found);
        }
        Condition::Not(inner) => columns(inner, found),
        Condition::Compare(operand, ..)
        | Condition::In(operand, _)
        | Condition::IsNull(operand)
        | Condition::Like(operand, _) => {
            if let Operand::Column(field) = operand {
                found.push(*field);
            }
        }
    }
}

/// The first of these fields that may change in the life of a row: not the key, nor the time of the
/// version itself.
fn mutable<'a>(table: &'a Table, fields: &[FieldId]) -> Option<&'a Field> {
    fields
        .iter()
        .map(|id| table.field_at(*id))
        .find(|f| !f.is_static && f.id != table.key && Some(f.id) != table.time)
}

/// A filter on a field whose past is not in the files would know the future: entities that
/// converted are filtered by what they are now. A target on one would say when rows were made, not
/// when they became what they are.
///
/// `changing`: per table, whether the files hold versions.
pub(crate) fn refuse_leaks(
    project: &Project,
    task: &TaskPlan,
    changing: &[bool],
) -> Result<(), LearnError> {
    let refuse = |table: &Table, field: &Field, what: &str, why: &str| {
        Err(LearnError::Leak {
            task: task.name.clone(),
            message: format!(
                "its {what} reads {0}.{1}, but the files hold one version of every row of {0}: {why}. Supply the changes (one row per \
                 version, each with the time it became known), use events that say when it happened, or mark the field \"static\" \
                 if it never changes",
                table.name, field.name
            ),
        })
    };
    let entity = project.catalog.table_at(task.plan.entity);
    let mut named = Vec::new();
    if let Some(condition) = &task.population.condition {
        columns(condition, &mut named);
    }
    if let Some(field) = mutable(entity, &named).filter(|_| !changing[entity.id.index()]) {
        return refuse(
            entity,
            field,
            "filter",
            "what a row is today says what happened to it",
        );
    }
    for aggregate in &task.plan.target.aggregates {
        let AggregateSource::Versions(table) = aggregate.source else {
            continue;
        };
        let table = project.catalog.table_at(table);
        let mut named: Vec<FieldId> = aggregate.quantity.field().into_iter().collect();
        if let Some(filter) = &aggregate.filter {
            columns(filter, &mut named);
        }
        if let Some(field) = mutable(table, &named).filter(|_| !changing[table.id.index()]) {
            return refuse(
                table,
                field,
                "target",
                "what a row is today would count as what it was when it was made",
            );
        }
    }
    Ok(())
}

/// Accounts written onto old events when a lead converts would tell of the conversion before it
/// happens: positives have more of them than negatives.
pub(crate) fn refuse_early_ties(
    project: &Project,
    task: &TaskPlan,
    ties: TieShares,
) -> Result<(), LearnError> {
    if !ties.is_leak() {
        return Ok(());
    }
    let root = &project.catalog.root().name;
    Err(LearnError::Leak {
        task: task.name.clone(),
        message: format!(
            "of the events before an anchor that name one of {root} beside a member, {:.2} % of the positives' and {:.2} % of the \
             negatives' name it before any row says that the member belongs to it. Some systems write the account onto old events when a \
             lead converts. Export the events as they were written, or leave that column out of them",
            ties.positive.ratio() * 100.0,
            ties.negative.ratio() * 100.0
        ),
    })
}
