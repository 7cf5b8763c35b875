//! A tree back into text: one line, keywords in capitals, parentheses only where the tree needs
//! them.

use std::fmt::{self, Display, Formatter};

use leadpulse_schema::Comparison;

use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, ConstantKind, Entity, Expression, Modifier, Name, Query,
    RankingKind, Start, Test, TestedValue, TextMatch, WrittenConstant, WrittenWindow,
};
use crate::syntax::dates::format_date;
use crate::syntax::parser::is_reserved;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PREDICT {}", self.target)?;
        if let Some(modifier) = &self.modifier {
            write!(f, " {modifier}")?;
        }
        write!(f, " {}", self.entity)?;
        if let Some(assuming) = &self.assuming {
            write!(f, " ASSUMING {assuming}")?;
        }
        if !self.using.is_empty() {
            write!(f, " USING ")?;
            list(f, &self.using)?;
        }
        Ok(())
    }
}

fn list(f: &mut Formatter<'_>, items: &[impl Display]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl Display for Modifier {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Modifier::Forecast { steps, .. } => write!(f, "FORECAST {steps} TIMEFRAMES"),
            Modifier::Top { ranking, top, .. } => {
                let word = match ranking {
                    Some(RankingKind::Rank) => "RANK",
                    Some(RankingKind::Classify) => "CLASSIFY",
                    None => "",
                };
                f.write_str(word)?;
                match top {
                    Some(k) if word.is_empty() => write!(f, "TOP {k}"),
                    Some(k) => write!(f, " TOP {k}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Display for Entity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FOR {}{}",
            if self.each { "EACH " } else { "" },
            self.table
        )?;
        if let Some(key) = &self.key {
            write!(f, ".{key}")?;
        }
        match self.ids.as_slice() {
            [] => {}
            [id] => write!(f, " = {id}")?,
            ids => {
                write!(f, " IN (")?;
                list(f, ids)?;
                write!(f, ")")?;
            }
        }
        match &self.filter {
            Some(filter) => write!(f, " WHERE {filter}"),
            None => Ok(()),
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = self
            .text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !self.text.starts_with(|c: char| c.is_ascii_digit());
        if plain && !is_reserved(&self.text) {
            f.write_str(&self.text)
        } else {
            write!(f, "`{}`", self.text)
        }
    }
}

impl Display for ColumnName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}.{name}", self.table),
            None => write!(f, "{}.*", self.table),
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expression::And(parts) => joined(f, parts, " AND ", |part| {
                matches!(part, Expression::And(_) | Expression::Or(_))
            }),
            Expression::Or(parts) => {
                joined(f, parts, " OR ", |part| matches!(part, Expression::Or(_)))
            }
            Expression::Not(inner) => {
                write!(f, "NOT ")?;
                parenthesised(
                    f,
                    inner,
                    matches!(**inner, Expression::And(_) | Expression::Or(_)),
                )
            }
            Expression::Test { operand, test, .. } => write!(f, "{operand} {test}"),
            Expression::Bool(bool) => write!(f, "{bool}"),
            Expression::Value(operand) => write!(f, "{operand}"),
        }
    }
}

fn joined(
    f: &mut Formatter<'_>,
    parts: &[Expression],
    word: &str,
    needs_parentheses: fn(&Expression) -> bool,
) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { word })?;
        parenthesised(f, part, needs_parentheses(part))?;
    }
    Ok(())
}

fn parenthesised(f: &mut Formatter<'_>, expression: &Expression, needed: bool) -> fmt::Result {
    if needed {
        write!(f, "({expression})")
    } else {
        write!(f, "{expression}")
    }
}

impl Display for Bool {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "BOOL({}", self.condition)?;
        window(f, self.window.as_ref())
    }
}

impl Display for AggregateCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.function.keyword(), self.column)?;
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        window(f, self.window.as_ref())
    }
}

fn window(f: &mut Formatter<'_>, window: Option<&WrittenWindow>) -> fmt::Result {
    match window {
        Some(WrittenWindow {
            start, end, unit, ..
        }) => {
            let start = match start {
                Start::Ever => "-INF".to_owned(),
                Start::At(units) => units.to_string(),
            };
            write!(f, ", {start}, {end}, {})", unit.keyword())
        }
        None => write!(f, ")"),
    }
}

impl Display for TestedValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            TestedValue::Column(column) => write!(f, "{column}"),
            TestedValue::Aggregate(aggregate) => write!(f, "{aggregate}"),
            TestedValue::Name(name) => write!(f, "{name}"),
        }
    }
}

/// As written in a query.
pub(crate) fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Test::Compare(comparison, constant) => write!(f, "{} {constant}", sign(*comparison)),
            Test::In {
                negated,
                list: items,
            } => {
                write!(f, "{}IN (", not(negated))?;
                list(f, items)?;
                write!(f, ")")
            }
            Test::Null { negated } => write!(f, "IS {}NULL", not(negated)),
            Test::Text {
                negated,
                kind,
                pattern,
                ..
            } => {
                let word = match kind {
                    TextMatch::Like => "LIKE",
                    TextMatch::Contains => "CONTAINS",
                    TextMatch::StartsWith => "STARTS WITH",
                    TextMatch::EndsWith => "ENDS WITH",
                };
                write!(f, "{}{word} {}", not(negated), quoted(pattern))
            }
        }
    }
}

/// As a constant of a query.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Display for WrittenConstant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ConstantKind::Integer(n) => write!(f, "{n}"),
            // Debug keeps the fraction of 5.0 and writes very large numbers with an exponent: it
            // reads back as a decimal.
            ConstantKind::Decimal(x) => write!(f, "{x:?}"),
            ConstantKind::Text(text) => f.write_str(&quoted(text)),
            ConstantKind::Bool(true) => f.write_str("TRUE"),
            ConstantKind::Bool(false) => f.write_str("FALSE"),
            ConstantKind::Null => f.write_str("NULL"),
            ConstantKind::Date(ms) => f.write_str(&format_date(*ms)),
        }
    }
}
