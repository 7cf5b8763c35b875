//! Columns of what rows of hub tables say of the hubs that a cell touches: the price of its products,
//! the brands of them.
//!
//! A hub's row counts by how much the cell touches the hub, as the hub's activity does. Rows are
//! those of the last board.

use rustc_hash::FxHashMap;

use leadpulse_graph::signed_log1p;
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Feature, Field, FieldId, Row, Table, Value};

use crate::columns::days;
use crate::spec::PlanSource;

/// The columns of the rows of one hub table.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubRows {
    fields: Vec<HubField>,
}

#[derive(Clone, Debug)]
struct HubField {
    field: FieldId,
    shape: HubFieldShape,
}

#[derive(Clone, Debug)]
enum HubFieldShape {
    /// A number, or the age of a time in days: its mean on a signed log scale.
    Number,
    /// The share of each value with a column of its own, then that of others.
    Shares(FxHashMap<String, usize>),
}

/// Sums over the hubs that a cell touches.
pub(crate) struct HubRowSums<'a> {
    of: &'a HubRows,
    as_of: AsOf,
    /// The weight of all touches.
    total: f64,
    /// By field: the weight of hubs with a value, and sums by column.
    sums: Vec<(f64, Vec<f64>)>,
}

impl HubRows {
    /// The columns of a hub table, and their names.
    pub fn new(source: &PlanSource<'_>, table: &Table) -> (Self, Vec<String>) {
        let (mut fields, mut names) = (Vec::new(), Vec::new());
        for field in table.hub_features() {
            let name = &field.name;
            let shape = match field.feature {
                Feature::Number | Feature::Time => {
                    names.push(format!("{name}/mean"));
                    HubFieldShape::Number
                }
                _ => {
                    let values = source.vocabulary(&path_of(table, field));
                    names.extend(values.iter().map(|value| format!("{name}={value}/share")));
                    names.push(format!("{name}/other"));
                    HubFieldShape::Shares(values.into_iter().zip(0..).collect())
                }
            };
            names.push(format!("{name}/known"));
            fields.push(HubField {
                field: field.id,
                shape,
            });
        }
        (Self { fields }, names)
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Sums without a hub.
    pub fn sums(&self, as_of: AsOf) -> HubRowSums<'_> {
        let sums = self.fields.iter().map(|field| {
            let columns = match &field.shape {
                HubFieldShape::Number => 1,
                HubFieldShape::Shares(values) => values.len() + 1,
            };
            (0.0, vec![0.0; columns])
        });
        HubRowSums {
            of: self,
            as_of,
            total: 0.0,
            sums: sums.collect(),
        }
    }
}

impl HubRowSums<'_> {
    /// Counts a hub by the weight of its touches. `row` is its own, if there is one.
    pub fn add(&mut self, row: Option<Row<'_>>, weight: f64) {
        self.total += weight;
        let Some(row) = row else { return };
        for (field, (known, sums)) in self.of.fields.iter().zip(&mut self.sums) {
            let value = row.get(field.field);
            match &field.shape {
                HubFieldShape::Number => {
                    let number = match value {
                        Value::Time(time_ms) => Some(days(time_ms, self.as_of)),
                        value => value.number(),
                    };
                    if let Some(number) = number {
                        *known += weight;
                        sums[0] += weight * signed_log1p(number);
                    }
                }
                HubFieldShape::Shares(values) => {
                    let mut add = |text: &str| {
                        sums[values.get(text).copied().unwrap_or(values.len())] += weight;
                    };
                    match value {
                        Value::Text(text) => add(text),
                        Value::List(items) => items.iter().for_each(add),
                        _ => continue,
                    }
                    *known += weight;
                }
            }
        }
    }

    /// Appends the numbers.
    pub fn write(&self, out: &mut Vec<f32>) {
        // Weights of touches fade: long after the last one they are no number to divide by.
        let part = |sum: f64, of: f64| if of > 1e-12 { (sum / of) as f32 } else { 0.0 };
        for (known, sums) in &self.sums {
            out.extend(sums.iter().map(|sum| part(*sum, *known)));
            out.push(part(*known, self.total));
        }
    }
}

/// The name of a field in vocabularies.
pub(crate) fn path_of(table: &Table, field: &Field) -> String {
    format!("{}.{}", table.name, field.name)
}
