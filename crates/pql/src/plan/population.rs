//! The filter after the entity: a condition over its columns as of the anchor and over counts of
//! its past events.
//!
//! Windows of the past are kept as whole UTC days by the graph, so they are whole days here, end at
//! the anchor or before, and may reach back for ever.

use leadpulse_schema::{
    Catalog, Comparison, Condition, DataType, DayCounter, DayWindow, Literal, Measure,
    Operand as Side, Population, Role, Table,
};

use crate::plan::Planned;
use crate::plan::Reach;
use crate::plan::compile::{column_test, field_of, fold, row_condition, type_name};
use crate::plan::lint::{Lint, LintKind};
use crate::plan::reach::{aggregated_table, leads_to, reach, unreachable};
use crate::plan::truth::check_count;
use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, Expression, Function, Start, Test, TestedValue, Unit,
    WrittenConstant, WrittenWindow,
};
use crate::syntax::diagnostic::{Diagnostic, Span};

/// Compiles the filter of a resolved query.
pub(crate) fn population(
    catalog: &Catalog,
    entity: &Table,
    filter: Option<&Expression>,
    lints: &mut Vec<Lint>,
) -> Planned<Population> {
    let mut builder = Builder {
        catalog,
        entity,
        lints,
        windows: Vec::new(),
        counters: Vec::new(),
    };
    let condition = filter
        .map(|filter| fold(filter, &mut |leaf| builder.leaf(leaf)))
        .transpose()?;
    Ok(Population {
        condition,
        windows: builder.windows,
        counters: builder.counters,
    })
}

struct Builder<'a> {
    catalog: &'a Catalog,
    entity: &'a Table,
    lints: &'a mut Vec<Lint>,
    windows: Vec<DayWindow>,
    counters: Vec<DayCounter>,
}

impl Builder<'_> {
    fn leaf(&mut self, leaf: &Expression) -> Planned<Condition> {
        match leaf {
            Expression::Test {
                operand: TestedValue::Column(column),
                test,
                span,
            } => self.column(column, test, *span),
            Expression::Test {
                operand: TestedValue::Aggregate(aggregate),
                test,
                span,
            } => {
                let window = self.counted(aggregate)?;
                if let (Function::Count, Test::Compare(comparison, constant)) =
                    (aggregate.function, test)
                    && let Some(literal) = constant.number()
                {
                    check_count(*comparison, literal, *span)?;
                }
                window_test(window, test, *span)
            }
            Expression::Bool(Bool {
                condition,
                window,
                span,
            }) => {
                let table = aggregated_table(self.catalog, condition, *span)?;
                let filter = row_condition(self.catalog, table, condition, self.lints)?;
                let window =
                    self.window(table, Some(filter), Measure::Count, window.as_ref(), *span)?;
                Ok(Condition::Compare(
                    Side::Window(window),
                    Comparison::Greater,
                    Literal::Number(0.0),
                ))
            }
            other => Err(Diagnostic::new(
                other.span(),
                "a filter needs a comparison",
                "compare a column or a count of the past with a constant",
            )),
        }
    }

    /// A test of a column of the entities themselves.
    fn column(&mut self, column: &ColumnName, test: &Test, span: Span) -> Planned<Condition> {
        let (table, field) = field_of(self.catalog, column);
        let is_root = table.role == Role::Root && leads_to(self.catalog, self.entity, table.id);
        if table.id != self.entity.id && !is_root {
            return Err(self.foreign_column(column, table));
        }
        let field = field.expect("parsed: * is never tested");
        let mutable = !field.is_static && field.id != table.key && field.reference.is_none();
        if mutable && table.time.is_none() && table.changed_fields.is_none() {
            self.lints.push(Lint {
                kind: LintKind::CurrentRow,
                span,
                message: format!(
                    "{column} is read as of the anchor, but {} has no time field that says when \
                     a version took effect",
                    table.name
                ),
                hint: "where the source keeps only current rows the filter knows the future: \
                       supply versions, or mark the field static"
                    .to_owned(),
            });
        }
        let operand = if table.id == self.entity.id {
            Side::Column(field.id)
        } else {
            Side::Root(table.id, field.id)
        };
        column_test(table, (field, operand), test, span, self.lints)
    }

    /// The refusal of a column that is of another table than the entities. Its hint counts rows of
    /// that table, or of the first that can be counted.
    fn foreign_column(&self, column: &ColumnName, table: &Table) -> Diagnostic {
        let entity = &self.entity.name;
        let message = format!(
            "the filter reads a column of {}, but its entities are {entity}",
            table.name
        );
        let is_counted = |t: &&Table| {
            let way = reach(self.catalog, t, self.entity);
            t.role == Role::Event && matches!(way, Some((Reach::Owner | Reach::Cell, _)))
        };
        let counted = Some(table)
            .filter(is_counted)
            .or_else(|| self.catalog.tables.iter().find(is_counted));
        let hint = match counted {
            Some(counted) => format!(
                "compare columns of {entity}, or count past events: \
                 COUNT({}.* WHERE …, -365, 0, days) > 0",
                counted.name
            ),
            None => format!("compare columns of {entity}"),
        };
        Diagnostic::new(column.span, message, hint)
    }

    fn counted(&mut self, aggregate: &AggregateCall) -> Planned<usize> {
        let (table, field) = field_of(self.catalog, &aggregate.column);
        let measure = match (aggregate.function, field) {
            (Function::Count, None) => Measure::Count,
            (Function::Count, Some(field)) => Measure::CountOf(field.id),
            (Function::Sum, Some(field))
                if matches!(
                    field.data_type,
                    DataType::Long | DataType::Double | DataType::Bool
                ) =>
            {
                Measure::SumOf(field.id)
            }
            (Function::Sum, Some(field)) => {
                let message = format!(
                    "{} is {} and has no sum",
                    aggregate.column,
                    type_name(&field.data_type)
                );
                return Err(Diagnostic::new(
                    aggregate.column.span,
                    message,
                    "sum a number, or COUNT the rows",
                ));
            }
            (Function::First | Function::Last | Function::ListDistinct, _) => {
                return Err(self.no_value_of_the_past(aggregate, table));
            }
            (function, _) => {
                let message = format!(
                    "{} is not supported in a filter, because only counts and sums are kept for \
                     every day of the past",
                    function.keyword()
                );
                return Err(Diagnostic::new(
                    aggregate.span,
                    message,
                    "filter by COUNT or SUM",
                ));
            }
        };
        let filter = match &aggregate.filter {
            Some(filter) => Some(row_condition(self.catalog, table, filter, self.lints)?),
            None => None,
        };
        self.window(
            table,
            filter,
            measure,
            aggregate.window.as_ref(),
            aggregate.span,
        )
    }

    /// The refusal of a value of the past: days keep counts and sums alone.
    fn no_value_of_the_past(&self, aggregate: &AggregateCall, table: &Table) -> Diagnostic {
        let name = aggregate.function.keyword();
        let column = &aggregate.column;
        let message = format!(
            "{name} of the past is not supported here, because only counts and sums are kept for \
             every day"
        );
        let hint = match table.role {
            Role::Event => format!(
                "count the rows that have the value: COUNT({}.* WHERE {column} = …, -30, 0, days) \
                 > 0",
                table.name
            ),
            _ => format!("compare the current value: {column} = …"),
        };
        Diagnostic::new(aggregate.span, message, hint)
    }

    /// The index of the window, made when it is new.
    fn window(
        &mut self,
        table: &Table,
        filter: Option<Condition>,
        measure: Measure,
        window: Option<&WrittenWindow>,
        span: Span,
    ) -> Planned<usize> {
        if table.role != Role::Event {
            let message = format!(
                "a filter cannot count {}, because past days are counted of event tables only",
                table.name
            );
            return Err(Diagnostic::new(
                span,
                message,
                "count the events that tell the same, or compare the entity's own columns",
            ));
        }
        if !matches!(
            reach(self.catalog, table, self.entity),
            Some((Reach::Owner | Reach::Cell, _))
        ) {
            return Err(unreachable(self.catalog, table, self.entity, span));
        }
        let Some(window) = window else {
            return Err(Diagnostic::new(
                span,
                "the count has no window",
                "say which days of the past: …, -365, 0, days) or -INF, 0, days)",
            ));
        };
        let (start_days, end_days) = past_days(window)?;
        let counter = DayCounter {
            events: table.id,
            filter,
            measure,
        };
        let counter = index_of(&mut self.counters, counter);
        Ok(index_of(
            &mut self.windows,
            DayWindow {
                counter,
                start_days,
                end_days,
            },
        ))
    }
}

/// The index of an equal item, appended when there is none.
pub(crate) fn index_of<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items
        .iter()
        .position(|known| *known == item)
        .unwrap_or_else(|| {
            items.push(item);
            items.len() - 1
        })
}

/// Start and end in days relative to the anchor.
fn past_days(window: &WrittenWindow) -> Planned<(Option<i64>, i64)> {
    if window.end > 0 {
        let hint = "a filter decides on what is known: end the window at 0 or before; what may \
            happen later belongs into the target or into ASSUMING";
        return Err(Diagnostic::new(
            window.span,
            "the filter looks into the future",
            hint,
        ));
    }
    let (what, hint) = match window.unit {
        Unit::Months => ("months", "write days: 90 for three months"),
        Unit::Years => ("years", "write days: 365 for a year"),
        _ => ("", ""),
    };
    if !what.is_empty() {
        let message = format!(
            "calendar {what} are not supported in a filter, because the past is kept in days"
        );
        return Err(Diagnostic::new(window.span, message, hint));
    }
    let days = |units: i64| {
        let ms = units
            .checked_mul(window.unit.longest_ms())
            .filter(|ms| *ms % Unit::Days.longest_ms() == 0);
        let message = format!(
            "{units} {} are not whole days, and the past is kept in days",
            window.unit.keyword()
        );
        ms.map(|ms| ms / Unit::Days.longest_ms())
            .ok_or_else(|| Diagnostic::new(window.span, message, "widen the window to whole days"))
    };
    let end = days(window.end)?;
    let start = match window.start {
        Start::Ever => None,
        Start::At(units) => Some(days(units)?),
    };
    match start {
        Some(start) if start >= end => Err(crate::plan::window::inverted(window)),
        _ => Ok((start, end)),
    }
}

fn window_test(window: usize, test: &Test, span: Span) -> Planned<Condition> {
    let number = |constant: &WrittenConstant| {
        constant.number().map(Literal::Number).ok_or_else(|| {
            Diagnostic::new(
                constant.span,
                format!("a count is a number, {constant} is not"),
                "compare it with a number: > 0",
            )
        })
    };
    match test {
        Test::Compare(comparison, constant) => Ok(Condition::Compare(
            Side::Window(window),
            *comparison,
            number(constant)?,
        )),
        Test::In { negated, list } => {
            let condition = Condition::In(
                Side::Window(window),
                list.iter().map(number).collect::<Planned<_>>()?,
            );
            Ok(if *negated {
                Condition::Not(Box::new(condition))
            } else {
                condition
            })
        }
        Test::Null { .. } => Err(Diagnostic::new(
            span,
            "a count or sum is never NULL: of no rows it is 0",
            "write = 0 or != 0",
        )),
        Test::Text { .. } => Err(Diagnostic::new(
            span,
            "a count or sum is a number, not text",
            "compare it with a number: > 0",
        )),
    }
}
