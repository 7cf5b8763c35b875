//! The columns of an entity's own fields.

use rustc_hash::FxHashMap;

use leadpulse_graph::{Node, signed_log1p};
use leadpulse_schema::units::{AsOf, DAY_MS_F64};
use leadpulse_schema::{DataType, Feature, Field, FieldId, Role, Table, TableId, Value};

use crate::batch::{Absent, GroupKind};
use crate::columns::{UnplacedColumn, cycle, days};
use crate::groups;
use crate::spec::PlanSource;

/// Number of buckets for the hashed words of a text field.
// 8 for width: columns of free text were not measured.
const TEXT_BUCKETS: usize = 8;

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
pub(crate) struct FieldBlock {
    shape: FieldShape,
    /// Position of the column for a missing value where a value never is: then it is left out.
    never_missing: Option<usize>,
}

/// The kind of a field, and how its value becomes numbers.
#[derive(Clone, Debug)]
enum FieldShape {
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
        /// True with columns for hour and weekday.
        has_clock: bool,
    },
    Text {
        field: FieldId,
    },
}

/// True for a field that refers to rows of a hub table.
pub(crate) fn refers_to_hub(field: &Field) -> bool {
    field.reference.is_some() && field.hub.is_some() && field.feature == Feature::None
}

/// The feature of a field. A reference to a hub of which a bundle lists the keys is a category.
fn feature_of(source: &PlanSource<'_>, field: &Field, path: &str) -> Feature {
    let listed = source.spec.vocabularies.get(path);
    let has_keys = listed.is_some_and(|keys| !keys.is_empty());
    if has_keys && refers_to_hub(field) {
        Feature::Category
    } else {
        field.feature
    }
}

/// True for a field that is encoded as a time: by feature, or because it is the table's time.
pub(crate) fn is_time(table: &Table, field: &Field) -> bool {
    field.feature == Feature::Time || Some(field.id) == table.time
}

impl FieldBlock {
    /// The blocks of an entity table's own fields. Appends their columns.
    pub(crate) fn of_table(
        source: &PlanSource<'_>,
        table: TableId,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Vec<FieldBlock> {
        let table = source.catalog.table_at(table);
        let mut blocks = Vec::new();
        for field in &table.fields {
            blocks.extend(Self::of_field(source, table, field, columns));
        }
        blocks
    }

    /// The block of a field; `None` for a field without feature.
    fn of_field(
        source: &PlanSource<'_>,
        table: &Table,
        field: &Field,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<FieldBlock> {
        let start = columns.len();
        let shape = FieldShape::new(source, table, field, columns)?;
        // A root may be known by its events alone; a member without a row has no numbers at all.
        let is_always_there = !field.nullable && table.role == Role::Member;
        let never_missing = shape.missing_at().filter(|_| is_always_there);
        if let Some(at) = never_missing {
            columns.remove(start + at);
        }
        Some(Self {
            shape,
            never_missing,
        })
    }

    /// Appends the block's numbers.
    pub(crate) fn write(&self, node: &Node, as_of: AsOf, out: &mut Vec<f32>) {
        let start = out.len();
        self.shape.write(node, as_of, out);
        if let Some(at) = self.never_missing {
            out.remove(start + at);
        }
    }
}

impl FieldShape {
    /// The shape of a field; `None` for a field without feature. Appends its columns.
    fn new(
        source: &PlanSource<'_>,
        table: &Table,
        field: &Field,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Option<Self> {
        let path = format!("{}.{}", table.name, field.name);
        let group = groups::of_field(field);
        let kind = if is_time(table, field) || table.outcome.is_some() {
            GroupKind::Timing
        } else if groups::is_committee(source.catalog, table, &group) {
            GroupKind::Behaviour
        } else {
            GroupKind::Fit
        };
        let mut name = |suffix: &str, group: &str| {
            columns.push(UnplacedColumn {
                name: format!("{path}{suffix}"),
                group: group.to_owned(),
                kind,
                absent: Absent::Mean,
            });
        };
        if is_time(table, field) {
            // The hour of a member's last version tells when a row was saved, not what happened.
            let is_version = Some(field.id) == table.time && !field.is_static;
            let has_clock = table.role == Role::Root || !is_version;
            let shown = if has_clock { TIME_SUFFIXES.len() } else { 2 };
            let suffixes = TIME_SUFFIXES.iter().take(shown);
            suffixes.for_each(|suffix| name(suffix, &group));
            return Some(FieldShape::Time {
                field: field.id,
                has_clock,
            });
        }
        match feature_of(source, field, &path) {
            Feature::None | Feature::Time => None,
            Feature::Number => {
                name("/value", &group);
                name("/missing", &group);
                Some(FieldShape::Number { field: field.id })
            }
            Feature::Category | Feature::Set => {
                let values = source.vocabulary(&path);
                for value in &values {
                    name(&format!("={value}"), &groups::of_field_value(field, value));
                }
                name("/other", &group);
                name("/missing", &group);
                if field.ordinal && field.data_type != DataType::TextList {
                    name("/rank", &group);
                }
                Some(Self::of_values(field, values))
            }
            Feature::Text => {
                for bucket in 0..TEXT_BUCKETS {
                    name(&format!("/words{bucket}"), &group);
                }
                Some(FieldShape::Text { field: field.id })
            }
        }
    }

    /// The shape of a category or a set with columns for these values.
    fn of_values(field: &Field, values: Vec<String>) -> Self {
        let values = values
            .into_iter()
            .enumerate()
            .map(|(i, v)| (v, i))
            .collect();
        if field.data_type == DataType::TextList {
            return FieldShape::Set {
                field: field.id,
                values,
            };
        }
        FieldShape::Category {
            field: field.id,
            values,
            has_rank: field.ordinal,
        }
    }

    /// Position of the column for a missing value; `None` without one.
    fn missing_at(&self) -> Option<usize> {
        match self {
            FieldShape::Number { .. } | FieldShape::Time { .. } => Some(1),
            FieldShape::Category { values, .. } | FieldShape::Set { values, .. } => {
                Some(values.len() + 1)
            }
            FieldShape::Text { .. } => None,
        }
    }

    /// Appends all numbers of the field.
    fn write(&self, node: &Node, as_of: AsOf, out: &mut Vec<f32>) {
        let start = out.len();
        match self {
            // Amounts span orders of magnitude and both signs, so they are on a signed log scale. A
            // missing one is no zero: it has a column of its own.
            FieldShape::Number { field } => match node.value(*field).number() {
                Some(x) => out.extend([signed_log1p(x) as f32, 0.0]),
                None => out.extend([0.0, 1.0]),
            },
            FieldShape::Category {
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
            FieldShape::Set { field, values } => {
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
            FieldShape::Time { field, has_clock } => {
                let time_ms = match node.value(*field) {
                    Value::Time(t) => Some(t),
                    _ => None,
                };
                // Signed: a contract may end after the moment of scoring.
                let age = time_ms.map_or(0.0, |t| signed_log1p(days(t, as_of)));
                out.extend([age as f32, f32::from(u8::from(time_ms.is_none()))]);
                match time_ms
                    .map(|t| t as f64 / DAY_MS_F64)
                    .filter(|_| *has_clock)
                {
                    Some(day) => {
                        cycle(day, out);
                        cycle(day.floor() / 7.0, out);
                    }
                    None if *has_clock => out.extend([0.0; 4]),
                    None => {}
                }
            }
            FieldShape::Text { field } => {
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
