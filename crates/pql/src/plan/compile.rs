//! Tests of columns into [`Condition`]s, their constants checked against the column's type.

use leadpulse_schema::{
    Catalog, Comparison, Condition, DataType, Field, FieldId, Literal, Operand as ColumnOperand,
    Table, Value, View,
};

use crate::plan::lint::{Lint, LintKind};
use crate::syntax::ast::{ConstantKind, Expression, Test, TestedValue, TextMatch, WrittenConstant};
use crate::syntax::dates::parse_date;
use crate::syntax::diagnostic::{Diagnostic, Span, did_you_mean};

type Compiled<T> = Result<T, Diagnostic>;

/// The table and field a resolved column names; `None` for `*`.
pub(crate) fn field_of<'a>(
    catalog: &'a Catalog,
    column: &crate::syntax::ast::ColumnName,
) -> (&'a Table, Option<&'a Field>) {
    let table = catalog
        .table(&column.table.text)
        .expect("resolved: the table exists");
    let field = column.name.as_ref().map(|name| {
        table
            .field(&name.text)
            .expect("resolved: the column exists")
    });
    (table, field)
}

/// A condition over one row of `table`: the WHERE of an aggregate, the condition of BOOL.
pub(crate) fn row_condition(
    catalog: &Catalog,
    table: &Table,
    expression: &Expression,
    lints: &mut Vec<Lint>,
) -> Compiled<Condition> {
    fold(expression, &mut |leaf| match leaf {
        Expression::Test {
            operand: TestedValue::Column(column),
            test,
            span,
        } => {
            let (other, field) = field_of(catalog, column);
            if other.id != table.id {
                let message = format!(
                    "a column of {} in a condition on the rows of {}",
                    other.name, table.name
                );
                let hint = format!(
                    "only columns of {} can be tested here; test the other table in an aggregate \
                     of its own and join both with AND",
                    table.name
                );
                return Err(Diagnostic::new(column.span, message, hint));
            }
            let field = field.expect("parsed: * is never tested");
            let operand = ColumnOperand::Column(field.id);
            column_test(table, (field, operand), test, *span, lints)
        }
        other => {
            let hint = "the condition on a row compares its columns: WHERE opportunities.stage = \
                'Closed Won'";
            Err(Diagnostic::new(
                other.span(),
                "an aggregate within a condition on single rows",
                hint,
            ))
        }
    })
}

/// AND, OR and NOT into conditions; `leaf` does the rest.
pub(crate) fn fold(
    expression: &Expression,
    leaf: &mut dyn FnMut(&Expression) -> Compiled<Condition>,
) -> Compiled<Condition> {
    let mut join = |parts: &[Expression],
                    pair: fn(Box<Condition>, Box<Condition>) -> Condition|
     -> Compiled<Condition> {
        let mut compiled = parts
            .iter()
            .map(|part| fold(part, leaf))
            .collect::<Compiled<Vec<_>>>()?
            .into_iter();
        let first = compiled
            .next()
            .expect("parsed: AND and OR join at least two");
        Ok(compiled.fold(first, |left, right| pair(Box::new(left), Box::new(right))))
    };
    match expression {
        Expression::And(parts) => join(parts, Condition::And),
        Expression::Or(parts) => join(parts, Condition::Or),
        Expression::Not(inner) => Ok(Condition::Not(Box::new(fold(inner, leaf)?))),
        other => leaf(other),
    }
}

/// A test of a stored value: of a field, read as the operand says. A negated test does not hold of
/// null either, as with `!=`.
pub(crate) fn column_test(
    table: &Table,
    (field, operand): (&Field, ColumnOperand),
    test: &Test,
    span: Span,
    lints: &mut Vec<Lint>,
) -> Compiled<Condition> {
    let name = format!("{}.{}", table.name, field.name);
    match test {
        Test::Compare(comparison, constant) => {
            let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            if ordered
                && matches!(
                    field.data_type,
                    DataType::Bool | DataType::Symbol(_) | DataType::TextList
                )
            {
                let message = format!(
                    "{name} is {}: its values have no order",
                    type_name(&field.data_type)
                );
                return Err(Diagnostic::new(
                    span,
                    message,
                    "compare with = or !=, or use IN",
                ));
            }
            Ok(Condition::Compare(
                operand,
                *comparison,
                literal(field, &name, constant, lints)?,
            ))
        }
        Test::In { negated, list } => {
            let literals = list
                .iter()
                .map(|constant| literal(field, &name, constant, lints))
                .collect::<Compiled<_>>()?;
            Ok(present(operand, *negated, Condition::In(operand, literals)))
        }
        Test::Null { negated: false } => Ok(Condition::IsNull(operand)),
        Test::Null { negated: true } => Ok(Condition::Not(Box::new(Condition::IsNull(operand)))),
        Test::Text {
            negated,
            kind,
            pattern,
            span,
        } => {
            let test = TextTest {
                operand,
                negated: *negated,
                kind: *kind,
                pattern,
                span: *span,
            };
            text_test(field, &name, &test, lints)
        }
    }
}

/// The condition itself, or the negated one: that does not hold of null either.
fn present(operand: ColumnOperand, negated: bool, condition: Condition) -> Condition {
    if !negated {
        return condition;
    }
    Condition::And(
        Box::new(Condition::Not(Box::new(condition))),
        Box::new(Condition::Not(Box::new(Condition::IsNull(operand)))),
    )
}

/// A test of text against a pattern.
struct TextTest<'a> {
    operand: ColumnOperand,
    negated: bool,
    kind: TextMatch,
    pattern: &'a str,
    span: Span,
}

/// Text matches a pattern; a list contains an item.
fn text_test(
    field: &Field,
    name: &str,
    test: &TextTest<'_>,
    lints: &mut Vec<Lint>,
) -> Compiled<Condition> {
    let TextTest {
        operand,
        pattern,
        span,
        ..
    } = *test;
    match (&field.data_type, test.kind) {
        (DataType::TextList, TextMatch::Contains) => {
            lint_values(
                field,
                name,
                span,
                &format!("'{pattern}'"),
                |value| value == pattern,
                lints,
            );
            let item = Literal::Text(field.normalised(pattern).into_owned());
            let contains = Condition::Compare(operand, Comparison::Equal, item);
            Ok(present(operand, test.negated, contains))
        }
        (DataType::Text | DataType::Symbol(_), kind) => {
            let like = |side| Condition::Like(side, like_pattern(kind, pattern));
            let of_value = like(ColumnOperand::Column(field.id));
            lint_values(
                field,
                name,
                span,
                "what this looks for",
                |value| of_value.holds(&Single(value)),
                lints,
            );
            Ok(present(operand, test.negated, like(operand)))
        }
        (DataType::TextList, _) => Err(Diagnostic::new(
            span,
            format!("{name} is a list of texts"),
            "CONTAINS asks whether it holds an item",
        )),
        (data_type, _) => {
            let message = format!(
                "{name} is {}, and only text has a pattern",
                type_name(data_type)
            );
            Err(Diagnostic::new(
                span,
                message,
                "compare it with =, !=, <, <=, > or >=",
            ))
        }
    }
}

/// A remark when no value that the schema declares passes.
fn lint_values(
    field: &Field,
    name: &str,
    span: Span,
    what: &str,
    passes: impl Fn(&String) -> bool,
    lints: &mut Vec<Lint>,
) {
    if !field.values.is_empty() && !field.values.iter().any(passes) {
        lints.push(Lint {
            kind: LintKind::UnknownValue,
            span,
            message: format!("{what} is none of the values the schema declares for {name}"),
            hint: format!("declared are {}", field.values.join(", ")),
        });
    }
}

/// A view with one text in every column.
struct Single<'a>(&'a str);

impl View for Single<'_> {
    fn column(&self, _: FieldId) -> Value<'_> {
        Value::Text(self.0)
    }
    fn window(&self, _: usize) -> Value<'_> {
        Value::Null
    }
}

/// As a LIKE pattern; in LIKE itself a backslash already takes the next character literally.
fn like_pattern(kind: TextMatch, text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    match kind {
        TextMatch::Like => text.to_owned(),
        TextMatch::Contains => format!("%{literal}%"),
        TextMatch::StartsWith => format!("{literal}%"),
        TextMatch::EndsWith => format!("%{literal}"),
    }
}

pub(crate) fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Bool => "a truth value",
        DataType::Long => "a whole number",
        DataType::Double => "a number",
        DataType::Time => "a time",
        DataType::Text => "text",
        DataType::Symbol(_) => "an enum symbol",
        DataType::TextList => "a list of texts",
    }
}

/// The constant as the column's type has it.
fn literal(
    field: &Field,
    name: &str,
    constant: &WrittenConstant,
    lints: &mut Vec<Lint>,
) -> Compiled<Literal> {
    use ConstantKind::{Bool, Date, Decimal, Integer, Null, Text};
    let wrong = |hint: String| {
        let message = format!(
            "{name} is {}, {constant} is not",
            type_name(&field.data_type)
        );
        Err(Diagnostic::new(constant.span, message, hint))
    };
    match (&field.data_type, &constant.kind) {
        (_, Null) => Err(Diagnostic::new(
            constant.span,
            "a comparison with NULL is never true",
            "write IS NULL or IS NOT NULL",
        )),
        (DataType::Bool, Bool(b)) => Ok(Literal::Bool(*b)),
        (DataType::Bool, Integer(n @ (0 | 1))) => Ok(Literal::Bool(*n == 1)),
        (DataType::Bool, _) => wrong("write TRUE or FALSE".to_owned()),
        // A flag stored as 0 or 1.
        (DataType::Long, Bool(b)) => Ok(Literal::Bool(*b)),
        (DataType::Long | DataType::Double, Integer(n)) => Ok(Literal::Number(*n as f64)),
        (DataType::Long | DataType::Double, Decimal(x)) => Ok(Literal::Number(*x)),
        (DataType::Long | DataType::Double, Text(text)) if text.trim().parse::<f64>().is_ok() => {
            wrong(format!("write {} without quotes", text.trim()))
        }
        (DataType::Long | DataType::Double, _) => wrong("compare it with a number".to_owned()),
        (DataType::Time, Date(ms)) => Ok(Literal::Time(*ms)),
        (DataType::Time, Text(text)) => match parse_date(text) {
            Some(ms) => Ok(Literal::Time(ms)),
            None => wrong(
                "write a date of the calendar: '2025-01-31' or '2025-01-31 08:30:00' (UTC)"
                    .to_owned(),
            ),
        },
        (DataType::Time, _) => {
            wrong("write a date: '2025-01-31' or '2025-01-31 08:30:00' (UTC)".to_owned())
        }
        (DataType::Symbol(symbols), Text(text)) if !symbols.contains(text) => {
            let near = did_you_mean(text, symbols.iter().map(String::as_str));
            Err(Diagnostic::new(
                constant.span,
                format!("{name} has no symbol '{text}'{near}"),
                format!("it has {}", symbols.join(", ")),
            ))
        }
        (DataType::Text | DataType::Symbol(_) | DataType::TextList, Text(text)) => {
            let near = did_you_mean(text, field.values.iter().map(String::as_str));
            lint_values(
                field,
                &format!("{name}{near}"),
                constant.span,
                &format!("'{text}'"),
                |value| value == text,
                lints,
            );
            // Rows have keys and references in one spelling, whatever a query writes.
            Ok(Literal::Text(field.normalised(text).into_owned()))
        }
        (DataType::Text | DataType::Symbol(_) | DataType::TextList, _) => {
            wrong(format!("put it between quotes: '{constant}'"))
        }
    }
}
