//! Forms of other dialects that have a plain meaning here, written as this language writes them.
//!
//! `LIST_DISTINCT(t.c, …) CONTAINS 'x'` asks for a row with that value:
//! `COUNT(t.* WHERE t.c = 'x', …) > 0`. `LAST(t.c, -INF, 0)` of the entity's own table, or of its
//! root, is the current value: `t.c`. Every other use of the two stays as it is, and the planner
//! refuses it.

use leadpulse_schema::Comparison;

use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, ConstantKind, Expression, Function, Query, Start, Test,
    TestedValue, TextMatch, WrittenConstant,
};
use crate::syntax::diagnostic::Span;

/// A resolved query without the forms that have another spelling.
pub(crate) fn rewrite(mut query: Query) -> Query {
    query.target = rewritten(query.target, Place::Future);
    query.assuming = query.assuming.map(|part| rewritten(part, Place::Future));
    let filter = query.entity.filter.take();
    query.entity.filter = filter.map(|filter| rewritten(filter, Place::Filter));
    query
}

/// The place of an expression: only a filter knows a current value.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Future,
    Filter,
}

fn rewritten(expression: Expression, place: Place) -> Expression {
    let all = |parts: Vec<Expression>| {
        let parts = parts.into_iter();
        parts.map(|part| rewritten(part, place)).collect()
    };
    match expression {
        Expression::And(parts) => Expression::And(all(parts)),
        Expression::Or(parts) => Expression::Or(all(parts)),
        Expression::Not(inner) => Expression::Not(Box::new(rewritten(*inner, place))),
        Expression::Bool(bool) => Expression::Bool(Bool {
            condition: Box::new(rewritten(*bool.condition, Place::Future)),
            ..bool
        }),
        Expression::Test {
            operand: TestedValue::Aggregate(aggregate),
            test,
            span,
        } => aggregate_test(aggregate, test, span, place),
        other => other,
    }
}

fn aggregate_test(aggregate: AggregateCall, test: Test, span: Span, place: Place) -> Expression {
    match (&aggregate.function, &test) {
        (
            Function::ListDistinct,
            Test::Text {
                negated,
                kind: TextMatch::Contains,
                pattern,
                span: pattern_span,
            },
        ) => {
            let item = WrittenConstant {
                kind: ConstantKind::Text(pattern.clone()),
                span: *pattern_span,
            };
            contains_item(&aggregate, item, *negated, span)
        }
        (Function::Last, _) if place == Place::Filter && is_ever(&aggregate) => Expression::Test {
            operand: TestedValue::Column(aggregate.column),
            test,
            span,
        },
        _ => Expression::Test {
            operand: TestedValue::Aggregate(aggregate),
            test,
            span,
        },
    }
}

/// The number of rows with the item, above 0 or, negated, 0: an empty list contains nothing.
fn contains_item(
    list: &AggregateCall,
    item: WrittenConstant,
    negated: bool,
    span: Span,
) -> Expression {
    let is_item = Expression::Test {
        operand: TestedValue::Column(list.column.clone()),
        span: list.column.span.to(item.span),
        test: Test::Compare(Comparison::Equal, item),
    };
    let filter = match list.filter.as_deref() {
        None => is_item,
        Some(Expression::And(parts)) => {
            let parts = parts.iter().cloned().chain([is_item]);
            Expression::And(parts.collect())
        }
        Some(other) => Expression::And(vec![other.clone(), is_item]),
    };
    let counted = AggregateCall {
        function: Function::Count,
        column: ColumnName {
            name: None,
            ..list.column.clone()
        },
        filter: Some(Box::new(filter)),
        window: list.window,
        span: list.span,
    };
    let comparison = match negated {
        false => Comparison::Greater,
        true => Comparison::Equal,
    };
    let zero = WrittenConstant {
        kind: ConstantKind::Integer(0),
        span,
    };
    Expression::Test {
        operand: TestedValue::Aggregate(counted),
        test: Test::Compare(comparison, zero),
        span,
    }
}

/// Whether all of the past up to now is asked about, without a condition on its rows.
fn is_ever(aggregate: &AggregateCall) -> bool {
    let window = aggregate.window.as_ref();
    aggregate.filter.is_none()
        && window.is_some_and(|window| window.start == Start::Ever && window.end == 0)
}
