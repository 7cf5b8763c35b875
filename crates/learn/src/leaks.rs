//! Refusal of leaks: fields that would know the future, because their past is not in the files.

use leadpulse_pql::AggregateSource;
use leadpulse_schema::{Condition, Field, FieldId, Operand, Table, TableId};

use crate::LearnError;
use crate::labels::TieShares;
use leadpulse_project::{Project, TaskPlan};

/// The columns that a condition on rows of `table` reads, those of their root included.
fn columns(condition: &Condition, table: TableId, found: &mut Vec<(TableId, FieldId)>) {
    match condition {
        Condition::And(a, b) | Condition::Or(a, b) => {
            columns(a, table, found);
            columns(b, table, found);
        }
        Condition::Not(inner) => columns(inner, table, found),
        Condition::Compare(operand, ..)
        | Condition::In(operand, _)
        | Condition::IsNull(operand)
        | Condition::Like(operand, _) => match operand {
            Operand::Column(field) => found.push((table, *field)),
            Operand::Root(root, field) => found.push((*root, *field)),
            Operand::Window(_) => {}
        },
    }
}

/// The first of these columns whose past is not in the files, though it may change in the life of a
/// row: not the key, nor the time of the version itself.
fn overwritten<'a>(
    project: &'a Project,
    columns: &[(TableId, FieldId)],
    changing: &[bool],
) -> Option<(&'a Table, &'a Field)> {
    columns
        .iter()
        .filter(|(table, _)| !changing[table.index()])
        .map(|(table, field)| {
            let table = project.catalog.table_at(*table);
            (table, table.field_at(*field))
        })
        .find(|(table, f)| !f.is_static && f.id != table.key && Some(f.id) != table.time)
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
    let mut named = Vec::new();
    if let Some(condition) = &task.population.condition {
        columns(condition, task.plan.entity, &mut named);
    }
    if let Some((table, field)) = overwritten(project, &named, changing) {
        return refuse(
            table,
            field,
            "filter",
            "what a row is today says what happened to it",
        );
    }
    for aggregate in &task.plan.target.aggregates {
        let AggregateSource::Versions(table) = aggregate.source else {
            continue;
        };
        let field = aggregate.quantity.field();
        let mut named: Vec<_> = field.into_iter().map(|field| (table, field)).collect();
        if let Some(filter) = &aggregate.filter {
            columns(filter, table, &mut named);
        }
        if let Some((table, field)) = overwritten(project, &named, changing) {
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
