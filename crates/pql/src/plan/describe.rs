//! A plan in words, for people who want to know how their query was understood.

use leadpulse_schema::{
    Catalog, Condition, DataType, FieldId, Literal, Measure, Operand, Population, Table,
};

use crate::plan::{
    Aggregate, AggregateSource, Plan, Quantity, Reach, TargetExpression, TargetKind, Window,
};
use crate::syntax::dates::format_date;
use crate::syntax::print::{quoted, sign};

impl Plan {
    /// The plan in words, a line each: the entities, the rows that count (`#1`, `#2`, …), the
    /// prediction, the assumption.
    pub fn describe(&self, catalog: &Catalog) -> Vec<String> {
        let entity = catalog.table_at(self.entity);
        let mut lines = vec![match &self.population.condition {
            None => format!("for every row of {}", entity.name),
            Some(filter) => format!(
                "for rows of {} where, as of the anchor, {}",
                entity.name,
                condition(filter, entity, Some(&self.population), catalog)
            ),
        }];
        for (index, aggregate) in self.target.aggregates.iter().enumerate() {
            lines.push(format!(
                "#{} is {}",
                index + 1,
                counted(aggregate, entity, catalog)
            ));
        }
        let edges: Vec<String> = self
            .target
            .hazard_edges_days()
            .iter()
            .map(|days| format!("{days:.1}").trim_end_matches(".0").to_owned())
            .collect();
        let expression = expression(&self.target.expression);
        lines.push(match self.target.kind() {
            TargetKind::Monotone => format!(
                "predicted is the probability that {expression}, by day {}",
                edges.join(", ")
            ),
            TargetKind::Window => format!("predicted is the probability that {expression}"),
            TargetKind::Regression => format!("predicted is the number {expression}"),
        });
        if let Some(assumption) = &self.target.assumption {
            lines.push(format!("given that {}", self::expression(assumption)));
        }
        if !self.using.is_empty() {
            let names: Vec<&str> = self
                .using
                .iter()
                .map(|table| catalog.table_at(*table).name.as_str())
                .collect();
            lines.push(format!("from {} only", names.join(", ")));
        }
        lines
    }
}

fn counted(aggregate: &Aggregate, entity: &Table, catalog: &Catalog) -> String {
    let table = catalog.table_at(aggregate.source.table());
    let name = |field: FieldId| format!("{}.{}", table.name, table.field_at(field).name);
    let quantity = match aggregate.quantity {
        Quantity::Rows => format!("the number of rows of {}", table.name),
        Quantity::Values(field) => format!("the number of values of {} over rows", name(field)),
        Quantity::Distinct(field) => format!(
            "the number of different values of {} over rows",
            name(field)
        ),
        Quantity::Sum(field) => format!("the sum of {} over rows", name(field)),
        Quantity::Mean(field) => format!("the mean of {} over rows", name(field)),
        Quantity::Min(field) => format!("the smallest {} of rows", name(field)),
        Quantity::Max(field) => format!("the largest {} of rows", name(field)),
    };
    let filter = aggregate
        .filter
        .as_ref()
        .map(|filter| condition(filter, table, None, catalog));
    let which = match (aggregate.source, filter) {
        (AggregateSource::Events(_), None) => String::new(),
        (AggregateSource::Events(_), Some(filter)) => format!(" where {filter}"),
        (AggregateSource::Versions(_), None) => " that first appear".to_owned(),
        (AggregateSource::Versions(_), Some(filter)) => format!(" that come to match {filter}"),
    };
    let whose = match aggregate.reach {
        Reach::Itself => "counted for itself".to_owned(),
        Reach::Owner => format!("counted for the one of {} that owns them", entity.name),
        Reach::Cell => format!("counted for the one of {} they belong to", entity.name),
        Reach::Reference(field) if table.field_at(field).data_type == DataType::TextList => {
            format!(
                "counted for those of {} that {} names",
                entity.name,
                table.field_at(field).name
            )
        }
        Reach::Reference(field) => format!(
            "counted for the one of {} that {} names",
            entity.name,
            table.field_at(field).name
        ),
    };
    let Window { start, end, unit } = aggregate.window;
    let after = |units: i64| match units {
        0 => "anchor".to_owned(),
        1 => format!("anchor + 1 {}", unit.singular()),
        _ => format!("anchor + {units} {}", unit.keyword()),
    };
    format!(
        "{quantity}{which}, {whose}, in ({}, {}]",
        after(start),
        after(end)
    )
}

fn expression(target: &TargetExpression) -> String {
    let joined = |parts: &[TargetExpression], word: &str| {
        format!(
            "({})",
            parts.iter().map(expression).collect::<Vec<_>>().join(word)
        )
    };
    match target {
        TargetExpression::Value(aggregate) => format!("#{}", aggregate + 1),
        TargetExpression::And(parts) => joined(parts, " and "),
        TargetExpression::Or(parts) => joined(parts, " or "),
        TargetExpression::Not(inner) => format!("not {}", expression(inner)),
        TargetExpression::Compare {
            aggregate,
            comparison,
            literal,
        } => format!("#{} {} {literal}", aggregate + 1, sign(*comparison)),
        TargetExpression::In {
            aggregate,
            literals,
        } => {
            format!(
                "#{} in ({})",
                aggregate + 1,
                literals
                    .iter()
                    .map(f64::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        TargetExpression::IsNull { aggregate } => format!("#{} has no value", aggregate + 1),
    }
}

/// A condition over the columns of `table` and the windows of a population.
fn condition(
    filter: &Condition,
    table: &Table,
    population: Option<&Population>,
    catalog: &Catalog,
) -> String {
    let inner = |filter: &Condition| condition(filter, table, population, catalog);
    let operand = |operand: &Operand| match operand {
        Operand::Column(field) => table.field_at(*field).name.clone(),
        Operand::Root(root, field) => {
            let root = catalog.table_at(*root);
            format!("{}.{}", root.name, root.field_at(*field).name)
        }
        Operand::Window(index) => {
            population.map_or_else(String::new, |population| past(population, *index, catalog))
        }
    };
    match filter {
        Condition::And(a, b) => format!("{} and {}", inner(a), inner(b)),
        Condition::Or(a, b) => format!("({} or {})", inner(a), inner(b)),
        Condition::Not(negated) => match negated.as_ref() {
            Condition::IsNull(side) => format!("{} is known", operand(side)),
            other => format!("not ({})", inner(other)),
        },
        Condition::Compare(side, comparison, constant) => format!(
            "{} {} {}",
            operand(side),
            sign(*comparison),
            literal(constant)
        ),
        Condition::In(side, constants) => {
            format!(
                "{} in ({})",
                operand(side),
                constants.iter().map(literal).collect::<Vec<_>>().join(", ")
            )
        }
        Condition::IsNull(side) => format!("{} is missing", operand(side)),
        Condition::Like(side, pattern) => format!("{} like {}", operand(side), quoted(pattern)),
    }
}

/// A window over past days.
fn past(population: &Population, index: usize, catalog: &Catalog) -> String {
    let window = population.windows[index];
    let counter = &population.counters[window.counter];
    let table = catalog.table_at(counter.events);
    let name = |field: FieldId| format!("{}.{}", table.name, table.field_at(field).name);
    let measure = match counter.measure {
        Measure::Count => format!("rows of {}", table.name),
        Measure::CountOf(field) => format!("values of {}", name(field)),
        Measure::SumOf(field) => format!("sum of {}", name(field)),
    };
    let filter = counter.filter.as_ref().map_or_else(String::new, |filter| {
        format!(" where {}", condition(filter, table, None, catalog))
    });
    match window.start_days {
        Some(start_days) => format!(
            "[{measure}{filter} from day {start_days} to {}]",
            window.end_days
        ),
        None => format!("[{measure}{filter} ever until day {}]", window.end_days),
    }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Bool(b) => if *b { "TRUE" } else { "FALSE" }.to_owned(),
        Literal::Number(x) => x.to_string(),
        Literal::Text(text) => quoted(text),
        Literal::Time(ms) => format_date(*ms),
    }
}
