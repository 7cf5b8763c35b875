//! A query and the schemas become a [`Plan`], or the reason why not.

use std::collections::BTreeMap;

use leadpulse_schema::{Catalog, Comparison, Condition, DataType, Role, Table, TableId};

use crate::plan::Planned;
use crate::plan::compile::{field_of, row_condition};
use crate::plan::lint::Lint;
use crate::plan::population::{index_of, population};
use crate::plan::quantity::quantity;
use crate::plan::reach::{aggregated_table, reach, unreachable};
use crate::plan::remarks;
use crate::plan::resolve::resolve;
use crate::plan::rewrite::rewrite;
use crate::plan::truth::{self, check_count, check_counts};
use crate::plan::window::future_window;
use crate::plan::{Aggregate, AggregateSource, Plan, Quantity, Target, TargetExpression};
use crate::syntax::ast::{
    self, Bool, ColumnName, Entity, Expression, Modifier, Query, RankingKind, Test, TestedValue,
    WrittenConstant,
};
use crate::syntax::diagnostic::{Diagnostic, Span, Within};

/// Checks a query against the schemas. `names` are the configuration's named targets: name → what
/// may stand after PREDICT.
///
/// # Errors
/// The query asks for something that does not exist, makes no sense or is not supported; the
/// diagnostic has the place, the reason and the text to write instead.
pub fn plan(
    query: &Query,
    catalog: &Catalog,
    names: &BTreeMap<String, String>,
) -> Result<Plan, Diagnostic> {
    plan_resolved(query, catalog, names).map_err(|mut diagnostic| {
        let text = usize::from(diagnostic.span.text);
        diagnostic.within =
            text.checked_sub(1)
                .and_then(|i| names.iter().nth(i))
                .map(|(name, text)| {
                    Box::new(Within {
                        name: name.clone(),
                        text: text.clone(),
                    })
                });
        diagnostic
    })
}

fn plan_resolved(
    query: &Query,
    catalog: &Catalog,
    names: &BTreeMap<String, String>,
) -> Planned<Plan> {
    if let Some(modifier) = &query.modifier {
        return Err(unsupported_modifier(modifier));
    }
    let query = rewrite(resolve(query, catalog, names)?);
    truth::check(&query, catalog)?;
    let entity = catalog
        .table(&query.entity.table.text)
        .expect("resolved: the table exists");
    check_entity(catalog, entity, &query.entity)?;
    let mut planner = Planner {
        catalog,
        entity,
        aggregates: Vec::new(),
        spans: Vec::new(),
        lints: Vec::new(),
    };
    let expression = planner.target(&query.target)?;
    let assumption = query
        .assuming
        .as_ref()
        .map(|assuming| planner.expression(assuming))
        .transpose()?;
    let Planner {
        aggregates,
        spans,
        mut lints,
        ..
    } = planner;
    let population = population(catalog, entity, query.entity.filter.as_ref(), &mut lints)?;
    let target = Target {
        aggregates,
        expression,
        assumption,
    };
    remarks::on_target(
        &target,
        catalog,
        entity,
        &spans,
        query.target.span(),
        &mut lints,
    );
    let using = using_tables(&query, catalog, entity)?;
    let horizon_ms = target
        .aggregates
        .iter()
        .map(|a| a.window.horizon_ms())
        .max()
        .unwrap_or(0);
    let mut remarks = Vec::with_capacity(lints.len());
    for lint in lints {
        index_of(&mut remarks, lint);
    }
    Ok(Plan {
        text: query.to_string(),
        entity: entity.id,
        target,
        population,
        horizon_ms,
        using,
        lints: remarks,
    })
}

/// The tables that USING names, ascending; the entity's table must be among them.
fn using_tables(query: &Query, catalog: &Catalog, entity: &Table) -> Planned<Vec<TableId>> {
    let table = |name: &ast::Name| {
        catalog
            .table(&name.text)
            .expect("resolved: the table exists")
    };
    let mut using: Vec<TableId> = query.using.iter().map(|name| table(name).id).collect();
    if !using.is_empty() && !using.contains(&entity.id) {
        let span = query.using[0]
            .span
            .to(query.using[query.using.len() - 1].span);
        let message = format!(
            "USING leaves out {}, the table that is predicted for",
            entity.name
        );
        return Err(Diagnostic::new(
            span,
            message,
            format!("add {} to the list", entity.name),
        ));
    }
    using.sort_unstable();
    using.dedup();
    Ok(using)
}

fn unsupported_modifier(modifier: &Modifier) -> Diagnostic {
    let (span, what, why, hint) = match modifier {
        Modifier::Forecast { span, .. } => (
            *span,
            "FORECAST",
            "a task predicts one window",
            "write one query for each window: …, 0, 30, days) and …, 30, 60, days)",
        ),
        Modifier::Top {
            span,
            ranking: Some(RankingKind::Classify),
            ..
        } => (
            *span,
            "CLASSIFY",
            "a task gives one number for each entity, not one for each class",
            "write one condition for each class: BOOL(leads.status = 'Closed Won', 0, 90, days)",
        ),
        Modifier::Top { span, ranking, .. } => (
            *span,
            if ranking.is_some() { "RANK" } else { "TOP" },
            "a task gives one number for each entity and ranks no items",
            "leave it out; entities are ranked by score where scores are read",
        ),
    };
    Diagnostic::new(
        span,
        format!("{what} is not supported, because {why}"),
        hint,
    )
}

fn check_entity(catalog: &Catalog, table: &Table, entity: &Entity) -> Planned<()> {
    if !matches!(table.role, Role::Root | Role::Member) {
        let (kind, scored): (_, Vec<&str>) = (
            match table.role {
                Role::Hub => "a hub that many accounts share",
                Role::Staff => "people of the own company",
                Role::Override | Role::Feedback => "what people say about alerts",
                Role::Erasure => "requests to erase",
                _ => "events",
            },
            catalog
                .tables
                .iter()
                .filter(|t| matches!(t.role, Role::Root | Role::Member))
                .map(|t| t.name.as_str())
                .collect(),
        );
        let message = format!(
            "{} cannot be predicted for, because its rows are {kind}",
            table.name
        );
        return Err(Diagnostic::new(
            entity.span,
            message,
            format!("entities are {}", scored.join(", ")),
        ));
    }
    match entity.ids.first() {
        Some(id) => {
            let message = "a list of entities is not supported, because a task scores every entity that passes its filter";
            Err(Diagnostic::new(
                id.span,
                message,
                "leave it out and ask for the score of one entity where scores are read",
            ))
        }
        None => Ok(()),
    }
}

struct Planner<'a> {
    catalog: &'a Catalog,
    entity: &'a Table,
    aggregates: Vec<Aggregate>,
    /// The first place of each aggregate in the text.
    spans: Vec<Span>,
    lints: Vec<Lint>,
}

impl<'a> Planner<'a> {
    /// The whole target: a condition, or one aggregate by itself.
    fn target(&mut self, target: &Expression) -> Planned<TargetExpression> {
        match target {
            Expression::Value(TestedValue::Aggregate(aggregate)) => {
                self.aggregate(aggregate).map(TargetExpression::Value)
            }
            other => self.expression(other),
        }
    }

    fn expression(&mut self, expression: &Expression) -> Planned<TargetExpression> {
        let mut all = |parts: &[Expression]| {
            parts
                .iter()
                .map(|part| self.expression(part))
                .collect::<Planned<Vec<_>>>()
        };
        match expression {
            Expression::And(parts) => Ok(TargetExpression::And(all(parts)?)),
            Expression::Or(parts) => Ok(TargetExpression::Or(all(parts)?)),
            Expression::Not(inner) => Ok(TargetExpression::Not(Box::new(self.expression(inner)?))),
            Expression::Test {
                operand: TestedValue::Aggregate(aggregate),
                test,
                span,
            } => self.test(aggregate, test, *span),
            Expression::Test {
                operand: TestedValue::Column(column),
                test,
                span,
            } => {
                let hint =
                    format!("predict that it comes to hold: BOOL({column} {test}, 0, 90, days)");
                Err(stored_value(*span, &column.to_string(), hint))
            }
            Expression::Value(TestedValue::Column(column)) => Err(self.static_target(column)),
            Expression::Bool(bool) => self.bool(bool),
            Expression::Test {
                operand: TestedValue::Name(_),
                span,
                ..
            } => Err(Diagnostic::new(
                *span,
                "a name that stands for nothing",
                "define it as a named target",
            )),
            Expression::Value(operand) => Err(Diagnostic::new(
                operand.span(),
                "a condition needs a comparison",
                format!("write {operand} > 0"),
            )),
        }
    }

    fn static_target(&self, column: &ColumnName) -> Diagnostic {
        let (_, field) = field_of(self.catalog, column);
        match field {
            Some(field) => {
                let value = if matches!(field.data_type, DataType::Bool) {
                    "TRUE"
                } else {
                    "…"
                };
                stored_value(
                    column.span,
                    &column.to_string(),
                    format!("predict that it comes to hold: BOOL({column} = {value}, 0, 90, days)"),
                )
            }
            None => Diagnostic::new(
                column.span,
                "* is not a value",
                format!("count the rows: COUNT({column}, 0, 90, days)"),
            ),
        }
    }

    fn bool(&mut self, bool: &Bool) -> Planned<TargetExpression> {
        let table = aggregated_table(self.catalog, &bool.condition, bool.span)?;
        let filter = row_condition(self.catalog, table, &bool.condition, &mut self.lints)?;
        let aggregate = self.add(
            table,
            Quantity::Rows,
            Some(filter),
            bool.window.as_ref(),
            "BOOL",
            bool.span,
        )?;
        Ok(TargetExpression::Compare {
            aggregate,
            comparison: Comparison::Greater,
            literal: 0.0,
        })
    }

    fn aggregate(&mut self, aggregate: &ast::AggregateCall) -> Planned<usize> {
        let (table, field) = field_of(self.catalog, &aggregate.column);
        let quantity = quantity(aggregate, field.map(|f| (f.id, &f.data_type)))?;
        let filter = match &aggregate.filter {
            Some(filter) => Some(row_condition(self.catalog, table, filter, &mut self.lints)?),
            None => None,
        };
        let index = self.add(
            table,
            quantity,
            filter,
            aggregate.window.as_ref(),
            aggregate.function.keyword(),
            aggregate.span,
        )?;
        remarks::on_outcome(self.catalog, table, aggregate, &mut self.lints);
        Ok(index)
    }

    fn add(
        &mut self,
        table: &'a Table,
        quantity: Quantity,
        filter: Option<Condition>,
        window: Option<&ast::WrittenWindow>,
        what: &str,
        span: Span,
    ) -> Planned<usize> {
        let Some((reach, others)) = reach(self.catalog, table, self.entity) else {
            return Err(unreachable(self.catalog, table, self.entity, span));
        };
        if let Some(other) = others.first() {
            self.lints
                .push(remarks::on_path(table, self.entity, reach, *other, span));
        }
        let Some(window) = window else {
            let message = format!("{what} has no window");
            return Err(Diagnostic::new(
                span,
                message,
                "say when, after the anchor: …, 0, 90, days)",
            ));
        };
        let source = if table.is_entity() {
            AggregateSource::Versions(table.id)
        } else {
            AggregateSource::Events(table.id)
        };
        let aggregate = Aggregate {
            quantity,
            source,
            reach,
            filter,
            window: future_window(window)?,
        };
        let index = index_of(&mut self.aggregates, aggregate);
        if index == self.spans.len() {
            self.spans.push(span);
        }
        Ok(index)
    }

    fn test(
        &mut self,
        aggregate: &ast::AggregateCall,
        test: &Test,
        span: Span,
    ) -> Planned<TargetExpression> {
        let index = self.aggregate(aggregate)?;
        let quantity = self.aggregates[index].quantity;
        let name = aggregate.function.keyword();
        let number = |constant: &WrittenConstant| number_beside(name, constant);
        match test {
            Test::Compare(comparison, constant) => {
                let literal = number(constant)?;
                if quantity.is_count() {
                    check_count(*comparison, literal, span)?;
                }
                Ok(TargetExpression::Compare {
                    aggregate: index,
                    comparison: *comparison,
                    literal,
                })
            }
            Test::In { negated, list } => {
                let literals = list.iter().map(number).collect::<Planned<Vec<f64>>>()?;
                if quantity.is_count() {
                    check_counts(&literals, *negated, span)?;
                }
                let found = TargetExpression::In {
                    aggregate: index,
                    literals,
                };
                Ok(negated_if(*negated, found))
            }
            Test::Null { .. } if quantity.has_zero() => Err(Diagnostic::new(
                span,
                format!("{name} is never NULL: of no rows it is 0"),
                "write = 0 or != 0",
            )),
            Test::Null { negated } => {
                let is_null = TargetExpression::IsNull { aggregate: index };
                Ok(negated_if(*negated, is_null))
            }
            Test::Text { span, .. } => Err(Diagnostic::new(
                *span,
                format!("{name} gives a number, not text"),
                "compare it with a number: > 0",
            )),
        }
    }
}

/// The number that an aggregate is compared with; `name` is the aggregate's keyword.
fn number_beside(name: &str, constant: &WrittenConstant) -> Planned<f64> {
    constant.number().ok_or_else(|| {
        Diagnostic::new(
            constant.span,
            format!("{name} gives a number, {constant} is not"),
            "compare it with a number: > 0",
        )
    })
}

fn negated_if(negated: bool, expression: TargetExpression) -> TargetExpression {
    if negated {
        TargetExpression::Not(Box::new(expression))
    } else {
        expression
    }
}

fn stored_value(span: Span, what: &str, hint: String) -> Diagnostic {
    let message = format!(
        "{what} is a stored value without a window: predicting it is not supported, because \
         features would know it already"
    );
    Diagnostic::new(span, message, hint)
}
