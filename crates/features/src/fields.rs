//! The columns of an entity's own fields.

use rustc_hash::FxHashMap;

use leadpulse_graph::{Node, signed_log1p};
use leadpulse_schema::units::{AsOf, DAY_MS_F64};
use leadpulse_schema::{DataType, Feature, Field, FieldId, Table, Value};

use crate::batch::Absent;
use crate::columns::{UnplacedColumn, cycle, days};
use crate::groups;

/// Number of buckets for the hashed words of a text field.
// Why 16 is unknown: columns of free text were not measured.
const TEXT_BUCKETS: usize = 16;

/// Names of the columns of a time.
const TIME_SUFFIXES: [&str; 6] = [
    "/age",
    "/missing",
    "/hour_sin",
    "/hour_cos",
    "/weekday_sin",
    "/weekday_cos",
];

/// The columns of one field. A block writes as many numbers as it has columns.
#[derive(Clone, Debug)]
pub(crate) enum FieldBlock {
    Number {
        field: FieldId,
    },
    Category {
        field: FieldId,
        values: FxHashMap<String, usize>,
        has_rank: bool,
    },
    Set {
        field: FieldId,
        values: FxHashMap<String, usize>,
    },
    Time {
        field: FieldId,
    },
    Text {
        field: FieldId,
    },
}

/// True for a field that is encoded as a time: by feature, or because it is the table's time.
pub(crate) fn is_time(table: &Table, field: &Field) -> bool {
    field.feature == Feature::Time || Some(field.id) == table.time
}

impl FieldBlock {
    /// The blocks of an entity table's own fields. Appends their columns.
    pub(crate) fn of_table(
        table: &Table,
        vocabulary: impl Fn(&str) -> Vec<String>,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Vec<FieldBlock> {
        let mut blocks = Vec::new();
        for field in &table.fields {
            blocks.extend(Self::of_field(table, field, &vocabulary, columns));
        }
        blocks
    }

    /// The block of a field; `None` for a field without feature.
    fn of_field(
        table: &Table,
        field: &Field,
        vocabulary: impl Fn(&str) -> Vec<String>,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<FieldBlock> {
        let path = format!("{}.{}", table.name, field.name);
        let group = groups::of_field(field);
        let mut name = |suffix: &str, group: &str| {
            columns.push(UnplacedColumn {
                name: format!("{path}{suffix}"),
                group: group.to_owned(),
                absent: Absent::Mean,
            });
        };
        if is_time(table, field) {
            TIME_SUFFIXES.iter().for_each(|suffix| name(suffix, &group));
            return Some(FieldBlock::Time { field: field.id });
        }
        match field.feature {
            Feature::None | Feature::Time => None,
            Feature::Number => {
                name("/value", &group);
                name("/missing", &group);
                Some(FieldBlock::Number { field: field.id })
            }
            Feature::Category | Feature::Set => {
                let values = vocabulary(&path);
                for value in &values {
                    name(&format!("={value}"), &groups::of_field_value(field, value));
                }
                name("/other", &group);
                name("/missing", &group);
                let values = values
                    .into_iter()
                    .enumerate()
                    .map(|(i, v)| (v, i))
                    .collect();
                if field.data_type == DataType::TextList {
                    return Some(FieldBlock::Set {
                        field: field.id,
                        values,
                    });
                }
                if field.ordinal {
                    name("/rank", &group);
                }
                Some(FieldBlock::Category {
                    field: field.id,
                    values,
                    has_rank: field.ordinal,
                })
            }
            Feature::Text => {
                for bucket in 0..TEXT_BUCKETS {
                    name(&format!("/words{bucket}"), &group);
                }
                Some(FieldBlock::Text { field: field.id })
            }
        }
    }

    /// Appends the block's numbers.
    pub(crate) fn write(&self, node: &Node, as_of: AsOf, out: &mut Vec<f32>) {
        let start = out.len();
        match self {
            // Amounts span orders of magnitude and both signs, so they are on a signed log scale. A
            // missing one is no zero: it has a column of its own.
            FieldBlock::Number { field } => match node.value(*field).number() {
                Some(x) => out.extend([signed_log1p(x) as f32, 0.0]),
                None => out.extend([0.0, 1.0]),
            },
            FieldBlock::Category {
                field,
                values,
                has_rank,
            } => {
                out.resize(start + values.len() + 2, 0.0);
                let at = match node.value(*field) {
                    Value::Text(text) => values.get(text).copied().unwrap_or(values.len()),
                    _ => values.len() + 1,
                };
                out[start + at] = 1.0;
                if *has_rank {
                    let steps = values.len().saturating_sub(1).max(1);
                    out.push(if at < values.len() {
                        at as f32 / steps as f32
                    } else {
                        0.0
                    });
                }
            }
            FieldBlock::Set { field, values } => {
                out.resize(start + values.len() + 2, 0.0);
                match node.value(*field) {
                    Value::List(items) => {
                        for item in items.iter() {
                            out[start + values.get(item).copied().unwrap_or(values.len())] = 1.0;
                        }
                    }
                    _ => out[start + values.len() + 1] = 1.0,
                }
            }
            FieldBlock::Time { field } => match node.value(*field) {
                Value::Time(t) => {
                    // Signed: a contract may end after the moment of scoring.
                    out.extend([signed_log1p(days(t, as_of)) as f32, 0.0]);
                    let day = t as f64 / DAY_MS_F64;
                    cycle(day, out);
                    cycle(day.floor() / 7.0, out);
                }
                _ => out.extend([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
            },
            FieldBlock::Text { field } => {
                out.resize(start + TEXT_BUCKETS, 0.0);
                if let Value::Text(text) = node.value(*field) {
                    for word in text
                        .split(|c: char| !c.is_alphanumeric())
                        .filter(|w| !w.is_empty())
                    {
                        // A hash that never changes: the plan's hash covers names of columns, not
                        // the words that fall into them.
                        let hash = xxhash_rust::xxh3::xxh3_64(word.to_lowercase().as_bytes());
                        out[start + (hash % TEXT_BUCKETS as u64) as usize] += 1.0;
                    }
                    for x in &mut out[start..] {
                        *x = x.ln_1p();
                    }
                }
            }
        }
    }
}
