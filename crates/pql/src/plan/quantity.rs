//! Quantities: the functions of the language over columns of the right type.

use leadpulse_schema::{DataType, FieldId};

use crate::plan::compile::type_name;
use crate::plan::{Planned, Quantity};
use crate::syntax::ast::{self, Function};
use crate::syntax::diagnostic::Diagnostic;

/// The quantity of an aggregate, if the column can be aggregated so.
pub(crate) fn quantity(
    aggregate: &ast::AggregateCall,
    field: Option<(FieldId, &DataType)>,
) -> Planned<Quantity> {
    let name = aggregate.function.keyword();
    let column = &aggregate.column;
    let number = |make: fn(FieldId) -> Quantity| match field {
        Some((field, DataType::Long | DataType::Double | DataType::Bool)) => Ok(make(field)),
        Some((_, data_type)) => {
            let message = format!(
                "{name} needs a number, {column} is {}",
                type_name(data_type)
            );
            Err(Diagnostic::new(
                column.span,
                message,
                format!("COUNT({column} …) counts its values"),
            ))
        }
        None => Err(Diagnostic::new(
            column.span,
            format!("{name} needs a column, not *"),
            "only COUNT counts whole rows",
        )),
    };
    let unsupported = |why: &str, hint: String| {
        Err(Diagnostic::new(
            aggregate.span,
            format!("{name} is not supported, because {why}"),
            hint,
        ))
    };
    match (aggregate.function, field) {
        (Function::Count, None) => Ok(Quantity::Rows),
        (Function::Count, Some((field, _))) => Ok(Quantity::Values(field)),
        (Function::CountDistinct, Some((field, data_type))) if *data_type != DataType::TextList => {
            Ok(Quantity::Distinct(field))
        }
        (Function::CountDistinct, _) => {
            let message =
                format!("COUNT_DISTINCT needs a column with single values, {column} has none");
            Err(Diagnostic::new(
                column.span,
                message,
                "count another column",
            ))
        }
        (Function::Sum, _) => number(Quantity::Sum),
        (Function::Avg, _) => number(Quantity::Mean),
        (Function::Min, _) => number(Quantity::Min),
        (Function::Max, _) => number(Quantity::Max),
        (Function::First | Function::Last, _) => unsupported(
            "it silently drops every entity without a row in the window",
            format!(
                "count the rows that have the value: COUNT({}.* WHERE {column} = …, 0, 90, days) > 0",
                column.table
            ),
        ),
        (Function::ListDistinct, _) => unsupported(
            "a task gives one number for each entity and ranks no items",
            format!(
                "predict one item with COUNT({}.* WHERE {column} = …, 0, 90, days) > 0, or how \
                 many with COUNT_DISTINCT({column}, 0, 90, days)",
                column.table
            ),
        ),
    }
}
