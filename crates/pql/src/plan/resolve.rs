//! Names become what they name: tables and columns in the schemas' spelling, named targets written
//! out, the entity's key filled in.

use std::cell::Cell;
use std::collections::BTreeMap;

use leadpulse_schema::{Catalog, Field, Table};

use crate::syntax::ast::{AggregateCall, Bool, ColumnName, Expression, Name, Query, TestedValue};
use crate::syntax::diagnostic::{Diagnostic, did_you_mean};
use crate::syntax::parser::parse_target_numbered;

type Resolved<T> = Result<T, Diagnostic>;

/// The query with nothing left to look up. Its spans still point into the texts it came from.
pub(crate) fn resolve(
    query: &Query,
    catalog: &Catalog,
    names: &BTreeMap<String, String>,
) -> Resolved<Query> {
    let resolver = Resolver {
        catalog,
        names,
        written_out: Cell::new(0),
    };
    let mut resolved = query.clone();
    let table = resolver.table(&mut resolved.entity.table)?;
    let key = &table.field_at(table.key).name;
    match &resolved.entity.key {
        Some(written) if !written.text.eq_ignore_ascii_case(key) => {
            resolver.field(table, written)?;
            let message = format!(
                "{}.{} is not the key of {}",
                table.name, written.text, table.name
            );
            return Err(Diagnostic::new(
                written.span,
                message,
                format!("write FOR EACH {}.{key}", table.name),
            ));
        }
        _ => {
            resolved.entity.key = Some(Name {
                text: key.clone(),
                span: resolved.entity.span,
            })
        }
    }
    resolved.entity.each = true;
    let mut path = Vec::new();
    resolved.target =
        resolver.expression(&resolved.target, Scope::Future { entity: table }, &mut path)?;
    if let Some(assuming) = &resolved.assuming {
        let assuming = resolver.expression(assuming, Scope::Future { entity: table }, &mut path)?;
        require_condition(&assuming, assuming.span(), "ASSUMING takes a condition")?;
        resolved.assuming = Some(assuming);
    }
    if let Some(filter) = &resolved.entity.filter {
        resolved.entity.filter =
            Some(resolver.expression(filter, Scope::Filter { table: Some(table) }, &mut path)?);
    }
    for name in &mut resolved.using {
        resolver.table(name)?;
    }
    Ok(resolved)
}

struct Resolver<'a> {
    catalog: &'a Catalog,
    names: &'a BTreeMap<String, String>,
    /// Number of times that a named target was written out.
    written_out: Cell<usize>,
}

/// The most named targets that a query may write out: each may name others twice.
// 40 targets that each name the next twice would be 2^40 otherwise.
const MAX_WRITTEN_OUT: usize = 256;
/// The most named targets that may stand within each other.
const MAX_NAMED_DEPTH: usize = 8;

/// The meanings that a bare name may have.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// A bare name is a named target.
    Future { entity: &'a Table },
    /// Nothing: a column without its table, probably of this one.
    Filter { table: Option<&'a Table> },
}

impl<'a> Resolver<'a> {
    /// The table, its name now in the schemas' spelling.
    fn table(&self, name: &mut Name) -> Resolved<&'a Table> {
        match self.catalog.table(&name.text) {
            Some(table) if !table.role.is_learned() => {
                let message = format!(
                    "{} contains what people say about alerts, which queries do not read",
                    name.text
                );
                let hint = "ask about an event or entity table";
                Err(Diagnostic::new(name.span, message, hint))
            }
            Some(table) => {
                name.text.clone_from(&table.name);
                Ok(table)
            }
            None => {
                let tables = &self.catalog.tables;
                let known = tables
                    .iter()
                    .flat_map(|t| std::iter::once(&t.name).chain(&t.aliases))
                    .map(String::as_str);
                let message = format!(
                    "there is no table {}{}",
                    name.text,
                    did_you_mean(&name.text, known)
                );
                let list = tables
                    .iter()
                    .map(|t| t.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(Diagnostic::new(
                    name.span,
                    message,
                    format!("the schemas have {list}"),
                ))
            }
        }
    }

    fn field(&self, table: &'a Table, name: &Name) -> Resolved<&'a Field> {
        let found = table.field(&name.text).or_else(|| {
            table
                .fields
                .iter()
                .find(|f| f.name.eq_ignore_ascii_case(&name.text))
        });
        found.ok_or_else(|| {
            let near = did_you_mean(&name.text, table.fields.iter().map(|f| f.name.as_str()));
            let list = table
                .fields
                .iter()
                .map(|f| f.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            Diagnostic::new(
                name.span,
                format!("{} has no column {}{near}", table.name, name.text),
                format!("it has {list}"),
            )
        })
    }

    fn column(&self, column: &ColumnName) -> Resolved<(ColumnName, &'a Table)> {
        let mut resolved = column.clone();
        let table = self.table(&mut resolved.table)?;
        if let Some(name) = &mut resolved.name {
            name.text.clone_from(&self.field(table, name)?.name);
        }
        Ok((resolved, table))
    }

    /// `path` holds the named targets being written out.
    fn expression(
        &self,
        expression: &Expression,
        scope: Scope<'a>,
        path: &mut Vec<String>,
    ) -> Resolved<Expression> {
        let mut all = |parts: &[Expression]| -> Resolved<Vec<Expression>> {
            let mut resolved = Vec::with_capacity(parts.len());
            for part in parts {
                let expression = self.expression(part, scope, path)?;
                require_condition(&expression, part.span(), "AND, OR and NOT need conditions")?;
                resolved.push(expression);
            }
            Ok(resolved)
        };
        Ok(match expression {
            Expression::And(parts) => Expression::And(all(parts)?),
            Expression::Or(parts) => Expression::Or(all(parts)?),
            Expression::Not(inner) => {
                Expression::Not(Box::new(all(std::slice::from_ref(inner))?.remove(0)))
            }
            Expression::Test {
                operand: TestedValue::Name(name),
                test,
                span,
            } => match self.named(name, scope, path)? {
                Expression::Value(operand) => Expression::Test {
                    operand,
                    test: test.clone(),
                    span: *span,
                },
                _ => {
                    let message =
                        format!("{} is a condition: true or false, not a number", name.text);
                    return Err(Diagnostic::new(
                        name.span,
                        message,
                        format!("write {0} or NOT {0}", name.text),
                    ));
                }
            },
            Expression::Test {
                operand,
                test,
                span,
            } => Expression::Test {
                operand: self.operand(operand, path)?,
                test: test.clone(),
                span: *span,
            },
            Expression::Bool(Bool {
                condition,
                window,
                span,
            }) => {
                let condition =
                    Box::new(self.expression(condition, Scope::Filter { table: None }, path)?);
                Expression::Bool(Bool {
                    condition,
                    window: *window,
                    span: *span,
                })
            }
            Expression::Value(TestedValue::Name(name)) => self.named(name, scope, path)?,
            Expression::Value(operand) => Expression::Value(self.operand(operand, path)?),
        })
    }

    /// A column or aggregate; names are not operands here.
    fn operand(&self, operand: &TestedValue, path: &mut Vec<String>) -> Resolved<TestedValue> {
        Ok(match operand {
            TestedValue::Column(column) => TestedValue::Column(self.column(column)?.0),
            TestedValue::Aggregate(aggregate) => {
                let (column, table) = self.column(&aggregate.column)?;
                let filter = match &aggregate.filter {
                    Some(filter) => Some(Box::new(self.expression(
                        filter,
                        Scope::Filter { table: Some(table) },
                        path,
                    )?)),
                    None => None,
                };
                TestedValue::Aggregate(AggregateCall {
                    column,
                    filter,
                    ..aggregate.clone()
                })
            }
            TestedValue::Name(name) => TestedValue::Name(name.clone()),
        })
    }

    /// The expression that a bare name stands for.
    fn named(&self, name: &Name, scope: Scope<'a>, path: &mut Vec<String>) -> Resolved<Expression> {
        let entity = match scope {
            Scope::Future { entity } => entity,
            Scope::Filter { table } => {
                let has_field = |t: &&Table| {
                    t.fields
                        .iter()
                        .any(|f| f.name.eq_ignore_ascii_case(&name.text))
                };
                let nearest = table.filter(has_field);
                if nearest.is_none() && self.named_target(name).is_some() {
                    let message = format!(
                        "{} is a named target, which cannot stand in a condition on rows",
                        name.text
                    );
                    let hint = "named targets are about the future: they stand after PREDICT and \
                        ASSUMING; here columns stand, with their table";
                    return Err(Diagnostic::new(name.span, message, hint));
                }
                let table = nearest.or_else(|| self.catalog.tables.iter().find(has_field));
                let table = table.map_or("table", |t| t.name.as_str());
                let message = format!("{} is a column without its table", name.text);
                return Err(Diagnostic::new(
                    name.span,
                    message,
                    format!("write {table}.{}", name.text),
                ));
            }
        };
        let Some((index, (known, text))) = self.named_target(name) else {
            return Err(self.unknown_name(name, entity));
        };
        if path.contains(known) {
            let message = format!("the named target {known} is defined by itself");
            return Err(Diagnostic::new(
                name.span,
                message,
                "write out one of the targets that name each other",
            ));
        }
        self.written_out.set(self.written_out.get() + 1);
        if path.len() == MAX_NAMED_DEPTH || self.written_out.get() > MAX_WRITTEN_OUT {
            let message = format!(
                "named targets stand more than {MAX_NAMED_DEPTH} within each other, or are named \
                 more than {MAX_WRITTEN_OUT} times"
            );
            return Err(Diagnostic::new(
                name.span,
                message,
                "write out some of them",
            ));
        }
        let text_number = u16::try_from(index + 1).map_err(|_| {
            Diagnostic::new(
                name.span,
                "there are more than 65,534 named targets",
                "remove some",
            )
        })?;
        path.push(known.clone());
        let parsed = parse_target_numbered(text, text_number)?;
        let resolved = self.expression(&parsed, scope, path)?;
        path.pop();
        Ok(resolved)
    }

    fn named_target(&self, name: &Name) -> Option<(usize, (&'a String, &'a String))> {
        self.names
            .iter()
            .enumerate()
            .find(|(_, (known, _))| known.eq_ignore_ascii_case(&name.text))
    }

    fn unknown_name(&self, name: &Name, entity: &Table) -> Diagnostic {
        let text = &name.text;
        if let Some(field) = entity
            .fields
            .iter()
            .find(|f| f.name.eq_ignore_ascii_case(text))
        {
            let message = format!(
                "there is no named target {text}, and {text} as a column of {} needs its table",
                entity.name
            );
            let hint = format!(
                "predict when it changes: BOOL({}.{} = …, 0, 90, days)",
                entity.name, field.name
            );
            return Diagnostic::new(name.span, message, hint);
        }
        let near = did_you_mean(text, self.names.keys().map(String::as_str));
        let hint = format!(
            "define it in the configuration's named targets: {text} = \"COUNT(… WHERE …, 0, 90, \
             days) > 0\""
        );
        Diagnostic::new(
            name.span,
            format!("there is no named target {text}{near}"),
            hint,
        )
    }
}

/// A named target that is a number cannot stand where a condition must.
fn require_condition(
    expression: &Expression,
    span: crate::syntax::diagnostic::Span,
    place: &str,
) -> Resolved<()> {
    match expression {
        Expression::Value(_) => Err(Diagnostic::new(
            span,
            format!("{place}; this is a number"),
            "compare it: … > 0",
        )),
        _ => Ok(()),
    }
}
