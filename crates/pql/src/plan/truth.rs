//! Conditions that are always or never true: a slip, because nobody asks what is known beforehand.
//!
//! Found are counts compared with what no count is, a part beside its own negation, and comparisons
//! of one number or text that leave no value (or, of a count, every value). A condition that only
//! more thought proves constant passes, and shows in the number of its positive labels.

use std::collections::BTreeMap;

use leadpulse_schema::{Catalog, Comparison, DataType};

use crate::plan::Planned;
use crate::plan::compile::field_of;
use crate::syntax::ast::{ConstantKind, Expression, Function, Query, Test, TestedValue};
use crate::syntax::diagnostic::{Diagnostic, Span};

/// The largest count that a comparison may name: whole numbers are exact up to here.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// Refuses a resolved query with a condition that is always or never true.
pub(crate) fn check(query: &Query, catalog: &Catalog) -> Planned<()> {
    let parts = [Some(&query.target), query.assuming.as_ref()];
    let parts = parts.into_iter().chain([query.entity.filter.as_ref()]);
    for part in parts.flatten() {
        check_expression(part, catalog)?;
    }
    Ok(())
}

fn check_expression(expression: &Expression, catalog: &Catalog) -> Planned<()> {
    match expression {
        Expression::And(parts) => {
            let flat = flattened(parts, true);
            if has_opposites(&flat) || has_no_value(&flat, catalog) {
                return Err(constant(expression.span(), "never"));
            }
            parts.iter().try_for_each(|p| check_expression(p, catalog))
        }
        Expression::Or(parts) => {
            let flat = flattened(parts, false);
            if has_opposites(&flat) || is_any_count(&flat) {
                return Err(constant(expression.span(), "always"));
            }
            parts.iter().try_for_each(|p| check_expression(p, catalog))
        }
        Expression::Not(inner) => check_expression(inner, catalog),
        Expression::Bool(bool) => check_expression(&bool.condition, catalog),
        Expression::Test {
            operand: TestedValue::Aggregate(aggregate),
            ..
        }
        | Expression::Value(TestedValue::Aggregate(aggregate)) => match &aggregate.filter {
            Some(filter) => check_expression(filter, catalog),
            None => Ok(()),
        },
        Expression::Test { .. } | Expression::Value(_) => Ok(()),
    }
}

fn constant(span: Span, verdict: &str) -> Diagnostic {
    Diagnostic::new(
        span,
        format!("these parts together are {verdict} true"),
        "take out the part that is not meant",
    )
}

/// The parts, those of a part of the same kind (AND within AND) one by one.
fn flattened(parts: &[Expression], is_and: bool) -> Vec<&Expression> {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Expression::And(inner) if is_and => flat.extend(flattened(inner, is_and)),
            Expression::Or(inner) if !is_and => flat.extend(flattened(inner, is_and)),
            other => flat.push(other),
        }
    }
    flat
}

/// Whether a part stands beside its own negation.
fn has_opposites(parts: &[&Expression]) -> bool {
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for part in parts {
        let (mut inner, mut holds) = (*part, true);
        while let Expression::Not(negated) = inner {
            (inner, holds) = (negated, !holds);
        }
        let known = *seen.entry(inner.to_string()).or_insert(holds);
        if known != holds {
            return true;
        }
    }
    false
}

/// The values that comparisons leave: a range, its ends excluded or not.
#[derive(Clone, Copy, Debug)]
struct Range {
    low: f64,
    is_low_open: bool,
    high: f64,
    is_high_open: bool,
}

impl Range {
    const ALL: Range = Range {
        low: f64::NEG_INFINITY,
        is_low_open: false,
        high: f64::INFINITY,
        is_high_open: false,
    };
    const COUNTS: Range = Range {
        low: 0.0,
        ..Range::ALL
    };

    fn above(&mut self, bound: f64, is_open: bool) {
        if bound > self.low || bound == self.low && is_open {
            (self.low, self.is_low_open) = (bound, is_open);
        }
    }
    fn below(&mut self, bound: f64, is_open: bool) {
        if bound < self.high || bound == self.high && is_open {
            (self.high, self.is_high_open) = (bound, is_open);
        }
    }
    fn compare(&mut self, comparison: Comparison, literal: f64) {
        match comparison {
            Comparison::Equal => {
                self.above(literal, false);
                self.below(literal, false);
            }
            Comparison::Greater => self.above(literal, true),
            Comparison::GreaterOrEqual => self.above(literal, false),
            Comparison::Less => self.below(literal, true),
            Comparison::LessOrEqual => self.below(literal, false),
            // A hole at an end opens it; one in the middle leaves a range as it is.
            Comparison::NotEqual => {
                self.is_low_open |= literal == self.low;
                self.is_high_open |= literal == self.high;
            }
        }
    }
    /// Whether no number, or no whole one, is left.
    fn is_empty(&self, is_whole: bool) -> bool {
        if !is_whole {
            let touches = self.is_low_open || self.is_high_open;
            return self.low > self.high || self.low == self.high && touches;
        }
        let lowest = match self.is_low_open {
            true => self.low.floor() + 1.0,
            false => self.low.ceil(),
        };
        let highest = match self.is_high_open {
            true => self.high.ceil() - 1.0,
            false => self.high.floor(),
        };
        lowest > highest
    }
}

/// Whether an operand is a count, which always has a value.
fn is_count(operand: &TestedValue) -> bool {
    match operand {
        TestedValue::Aggregate(aggregate) => matches!(
            aggregate.function,
            Function::Count | Function::CountDistinct
        ),
        _ => false,
    }
}

/// Whether comparisons joined by AND leave no value of an operand.
fn has_no_value(parts: &[&Expression], catalog: &Catalog) -> bool {
    let mut ranges: BTreeMap<String, Range> = BTreeMap::new();
    let mut texts: BTreeMap<String, &str> = BTreeMap::new();
    for part in parts {
        let Expression::Test {
            operand,
            test: Test::Compare(comparison, literal),
            ..
        } = part
        else {
            continue;
        };
        let name = operand.to_string();
        if let Some(number) = literal.number() {
            let whole = is_count(operand);
            let range = ranges.entry(name).or_insert(match whole {
                true => Range::COUNTS,
                false => Range::ALL,
            });
            range.compare(*comparison, number);
            if range.is_empty(whole) {
                return true;
            }
        } else if let (TestedValue::Column(column), Comparison::Equal, ConstantKind::Text(text)) =
            (operand, comparison, &literal.kind)
        {
            let field = field_of(catalog, column).1;
            // A list may contain both.
            let is_single = field.is_some_and(|f| f.data_type != DataType::TextList);
            if is_single && *texts.entry(name).or_insert(text) != text {
                return true;
            }
        }
    }
    false
}

/// Whether comparisons of one count joined by OR leave no count out.
fn is_any_count(parts: &[&Expression]) -> bool {
    let mut left: BTreeMap<String, Range> = BTreeMap::new();
    for part in parts {
        let Expression::Test {
            operand,
            test: Test::Compare(comparison, literal),
            ..
        } = part
        else {
            continue;
        };
        let (true, Some(number)) = (is_count(operand), literal.number()) else {
            continue;
        };
        let range = left.entry(operand.to_string()).or_insert(Range::COUNTS);
        range.compare(opposite(*comparison), number);
        if range.is_empty(true) {
            return true;
        }
    }
    false
}

fn opposite(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::NotEqual,
        Comparison::NotEqual => Comparison::Equal,
        Comparison::Less => Comparison::GreaterOrEqual,
        Comparison::LessOrEqual => Comparison::Greater,
        Comparison::Greater => Comparison::LessOrEqual,
        Comparison::GreaterOrEqual => Comparison::Less,
    }
}

/// Refuses a comparison of a count that no count, or every count, meets.
pub(crate) fn check_count(comparison: Comparison, literal: f64, span: Span) -> Planned<()> {
    let is_possible = is_a_count(literal);
    let verdict = match comparison {
        Comparison::Greater if literal < 0.0 => "always",
        Comparison::GreaterOrEqual if literal <= 0.0 => "always",
        Comparison::Less if literal <= 0.0 => "never",
        Comparison::LessOrEqual if literal < 0.0 => "never",
        Comparison::Greater | Comparison::GreaterOrEqual if literal > MAX_COUNT => "never",
        Comparison::Less | Comparison::LessOrEqual if literal > MAX_COUNT => "always",
        Comparison::Equal if !is_possible => "never",
        Comparison::NotEqual if !is_possible => "always",
        _ => return Ok(()),
    };
    Err(never_a_count(verdict, span))
}

/// Refuses a list without a number that a count can be.
pub(crate) fn check_counts(literals: &[f64], negated: bool, span: Span) -> Planned<()> {
    if literals.iter().any(|literal| is_a_count(*literal)) {
        return Ok(());
    }
    let verdict = if negated { "always" } else { "never" };
    Err(never_a_count(verdict, span))
}

fn is_a_count(number: f64) -> bool {
    (0.0..=MAX_COUNT).contains(&number) && number.fract() == 0.0
}

fn never_a_count(verdict: &str, span: Span) -> Diagnostic {
    Diagnostic::new(
        span,
        format!("a count is a whole number, 0 or more: this is {verdict} true"),
        "write > 0 for at least one, = 0 for none",
    )
}
