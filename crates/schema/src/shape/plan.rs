//! A source's shape compiled against its table: for each field the places to look at and the
//! reading of its times, the envelope's paths, the filter's conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::Schema;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::data_node::DataNode;
use super::envelope::{Envelope, EnvelopePlan};
use super::made_key::MadeKey;
use super::moment::{BareNumbers, TimeRead};
use super::path::FieldPath;
use super::text::{TextFault, TextRead};
use super::{ShapeError, SourceShape};
use crate::avro::program::{FieldTarget, targets};
use crate::catalog::shape::Shape;
use crate::catalog::{Catalog, Role, Table, TableId};

/// The path in a filter that means the record's name.
const RECORD_NAME: &str = "@name";

/// A condition of a filter.
#[derive(Clone, Debug)]
struct FilterCondition {
    /// `None`: the record's name.
    path: Option<FieldPath>,
    values: Vec<String>,
}

/// A shape and its table.
#[derive(Clone, Debug)]
pub(crate) struct RowPlan {
    pub(crate) table: TableId,
    /// The table's fields, with the reading of their times.
    pub(crate) targets: Vec<FieldTarget>,
    /// For each field the configured paths, in the order in which they are tried.
    pub(crate) mapped: Vec<Vec<FieldPath>>,
    /// Names of the row that mean a field by themselves: field and rank, its own name before an
    /// alias.
    pub(crate) by_name: FxHashMap<Box<str>, SmallVec<[(u16, u8); 1]>>,
    /// Configured paths by what they feed, for writers whose fields are read by name.
    pub(crate) renamed: BTreeMap<String, Vec<String>>,
    /// The parts of the key, where no single value of a row is the key.
    pub(crate) key: Option<MadeKey>,
    pub(crate) envelope: EnvelopePlan,
    filter: Vec<FilterCondition>,
    /// In files: the column with the time at which rows became known.
    pub(crate) known: Option<FieldPath>,
    /// The place of a truth value that deletes the row's entity.
    pub(crate) deleted: Option<FieldPath>,
    /// The reading of values that are text.
    pub(crate) text: Arc<TextRead>,
    /// The full name of the table's own record.
    pub(crate) record_name: String,
}

/// Configured paths as path and index of the field.
fn mapped_paths(shape: &SourceShape, table: &Table) -> Result<Vec<(String, usize)>, ShapeError> {
    let index_of = |name: &str| table.field(name).map(|field| field.id.index());
    let mut mapped = Vec::new();
    for (left, names) in &shape.columns {
        for right in names.names() {
            match (index_of(left), index_of(right)) {
                // Names of both: the left one is the source's, as in every file since the first.
                (_, Some(field)) => mapped.push((left.clone(), field)),
                (Some(field), None) => mapped.push((right.clone(), field)),
                (None, None) => return Err(no_such_field(table, "columns", right)),
            }
        }
    }
    Ok(mapped)
}

fn no_such_field(table: &Table, setting: &'static str, field: &str) -> ShapeError {
    let known: Vec<&str> = table.fields.iter().map(|f| f.name.as_str()).collect();
    ShapeError::NoSuchField {
        table: table.name.clone(),
        setting,
        field: field.to_owned(),
        known: known.join(", "),
    }
}

pub(crate) fn fault(
    table: &Table,
    setting: impl Into<String>,
    why: impl Into<String>,
) -> ShapeError {
    ShapeError::Setting {
        table: table.name.clone(),
        setting: setting.into(),
        why: why.into(),
    }
}

impl RowPlan {
    /// Compiles a shape. `known_time` is a column with the time at which rows became known, if the
    /// source has one; `times` may declare it.
    ///
    /// # Errors
    /// Names that the table does not have, and settings that mean nothing.
    pub(crate) fn new(
        shape: &SourceShape,
        catalog: &Catalog,
        table: TableId,
        bare: BareNumbers,
        known_time: Option<&str>,
    ) -> Result<Self, ShapeError> {
        let definition = catalog.table_at(table);
        let entries = mapped_paths(shape, definition)?;
        let envelope = Envelope::of(&shape.envelope)
            .and_then(|envelope| EnvelopePlan::new(&envelope))
            .map_err(|why| fault(definition, "envelope", why))?;
        let text = TextRead::of(&shape.text).map_err(|TextFault { setting, why }| {
            fault(definition, format!("text.{setting}"), why)
        })?;
        let mut targets = targets(definition);
        for target in &mut targets {
            target.text = Arc::clone(&text);
        }
        let mut plan = RowPlan {
            table,
            targets,
            deleted: deleted_path(shape, definition)?,
            text,
            mapped: vec![Vec::new(); definition.fields.len()],
            by_name: FxHashMap::default(),
            renamed: BTreeMap::new(),
            key: None,
            envelope,
            filter: filter_of(shape, definition)?,
            known: known_time.map(FieldPath::new),
            record_name: record_name(&definition.avro),
        };
        for (path, field) in &entries {
            plan.mapped[*field].push(FieldPath::new(path));
            let name = definition.fields[*field].name.clone();
            plan.renamed.entry(path.clone()).or_default().push(name);
        }
        plan.make_key(shape, definition)?;
        plan.name_fields(definition);
        plan.read_times(shape, definition, bare, known_time)?;
        Ok(plan)
    }

    /// Own names, then aliases. A name that is configured for another field does not mean its own
    /// field.
    fn name_fields(&mut self, table: &Table) {
        for (index, field) in table.fields.iter().enumerate() {
            let aliases = self.targets[index].aliases.iter();
            let names = [(&field.name, 1)]
                .into_iter()
                .chain(aliases.map(|a| (a, 2)));
            for (name, rank) in names {
                let is_taken = match self.renamed.get(name) {
                    Some(for_fields) => !for_fields.contains(&field.name),
                    None => rank == 2 && table.field(name).is_some(),
                };
                if !is_taken {
                    let fields = self.by_name.entry(name.as_str().into()).or_default();
                    fields.push((index as u16, rank));
                }
            }
        }
    }

    fn make_key(&mut self, shape: &SourceShape, table: &Table) -> Result<(), ShapeError> {
        let Some(option) = &shape.key else {
            return Ok(());
        };
        if self.envelope.ids.is_some() {
            let why = "the envelope lists the ids of its rows; leave out key";
            return Err(fault(table, "key", why));
        }
        let key_shape = &self.targets[table.key.index()].shape;
        self.key = Some(MadeKey::of(option, table, key_shape, &self.mapped)?);
        Ok(())
    }

    fn read_times(
        &mut self,
        shape: &SourceShape,
        table: &Table,
        bare: BareNumbers,
        known_time: Option<&str>,
    ) -> Result<(), ShapeError> {
        for (index, target) in self.targets.iter_mut().enumerate() {
            let of_envelope = self.mapped[index]
                .iter()
                .find_map(|path| TimeRead::of_unit(self.envelope.unit_of(path.as_str())?));
            target.time = of_envelope.unwrap_or_else(|| TimeRead::plausible(bare));
        }
        for (key, option) in &shape.times {
            let read =
                TimeRead::of(option).map_err(|why| fault(table, format!("times.{key}"), why))?;
            if known_time == Some(key) && table.field(key).is_none() {
                continue;
            }
            let field = table.field(key).map(|field| field.id.index());
            let mapped = || {
                let is_it = |paths: &Vec<FieldPath>| paths.iter().any(|path| path.as_str() == key);
                self.mapped.iter().position(is_it)
            };
            let aliased = || {
                let is_it = |target: &FieldTarget| target.aliases.contains(key);
                self.targets.iter().position(is_it)
            };
            let Some(index) = field.or_else(mapped).or_else(aliased) else {
                return Err(no_such_field(table, "times", key));
            };
            if !matches!(self.targets[index].shape, Shape::Time(_)) {
                let why = format!(
                    "the field is {}, not a time",
                    self.targets[index].shape.describe()
                );
                return Err(fault(table, format!("times.{key}"), why));
            }
            self.targets[index].time = read;
        }
        for target in &mut self.targets {
            let is_own = [table.time, table.version].contains(&Some(target.field));
            target.time.bounds.no_date_is_null = target.nullable && !is_own;
        }
        Ok(())
    }

    /// The reading of a column with the time at which rows became known: that of the field it
    /// feeds, or of its own entry in `times`.
    pub(crate) fn known_time(
        &self,
        shape: &SourceShape,
        table: &Table,
        column: Option<&str>,
    ) -> TimeRead {
        let default = TimeRead::plausible(BareNumbers::Millis);
        let Some(column) = column else {
            return default;
        };
        let own = shape
            .times
            .get(column)
            .and_then(|option| TimeRead::of(option).ok());
        let field = || {
            let field = self.time_fed_by(column, table)?;
            Some(self.targets[field].time.clone())
        };
        let of_envelope = || TimeRead::of_unit(self.envelope.unit_of(column)?);
        own.or_else(field).or_else(of_envelope).unwrap_or(default)
    }

    /// The time field that a column feeds: by configuration, else by its name.
    pub(crate) fn time_fed_by(&self, column: &str, table: &Table) -> Option<usize> {
        let own = [column.to_owned()];
        let names = self.renamed.get(column).map_or(&own[..], Vec::as_slice);
        let mut fields = names
            .iter()
            .filter_map(|name| Some(table.field(name)?.id.index()));
        fields.find(|field| matches!(self.targets[*field].shape, Shape::Time(_)))
    }

    /// True if rows of this writer can be read by name alone: no envelope, and no path into its
    /// members.
    pub(crate) fn is_plain_for(&self, writer: &Schema) -> bool {
        let Schema::Record(record) = writer else {
            return true;
        };
        let leads_inside = |path: &FieldPath| {
            let text = path.as_str();
            let first = text.split('.').next().unwrap_or(text);
            first != text && record.lookup.contains_key(first) && !record.lookup.contains_key(text)
        };
        // Read by name, a member feeds one field.
        let feeds_several = self.mapped.iter().flatten().count() > self.renamed.len();
        let is_bare = self.envelope.is_none() && self.deleted.is_none() && self.key.is_none();
        is_bare && !feeds_several && !self.mapped.iter().flatten().any(leads_inside)
    }

    /// True for a column of a record that something is read of.
    pub(crate) fn wants_column(&self, column: &str) -> bool {
        if matches!(self.key, Some(MadeKey::WholeRow)) || !self.envelope.is_none() {
            return true;
        }
        let leads_to = |path: &str| {
            let rest = path.strip_prefix(column);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let parts = self.key.iter().flat_map(MadeKey::paths);
        let mapped = self.mapped.iter().flatten();
        let mut paths = mapped.chain(&self.known).chain(&self.deleted).chain(parts);
        self.by_name.contains_key(column)
            || paths.any(|path| leads_to(path.as_str()))
            || self.filter_paths().any(leads_to)
    }

    /// True if the filter has conditions.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.filter.is_empty()
    }

    /// True if the filter only looks at the record's name.
    pub(crate) fn filters_by_name_only(&self) -> bool {
        self.filter.iter().all(|condition| condition.path.is_none())
    }

    /// The paths that the filter looks at.
    pub(crate) fn filter_paths(&self) -> impl Iterator<Item = &str> {
        let paths = self
            .filter
            .iter()
            .filter_map(|condition| condition.path.as_ref());
        paths.map(FieldPath::as_str)
    }

    /// True if the record is one of the source's: every condition holds.
    pub(crate) fn wants(&self, record: &DataNode<'_>, name: Option<&str>) -> bool {
        self.filter.iter().all(|condition| {
            let is_wanted = |found: &str| condition.values.iter().any(|value| value == found);
            match &condition.path {
                None => name.is_some_and(|name| is_wanted(name) || is_wanted(simple(name))),
                Some(path) => {
                    let row = || self.envelope.row(record).and_then(|row| path.find(row));
                    let found = path.find(record).or_else(row);
                    found
                        .and_then(DataNode::scalar)
                        .is_some_and(|text| is_wanted(&text))
                }
            }
        })
    }

    /// True if the record's name passes the conditions on it.
    pub(crate) fn wants_name(&self, name: Option<&str>) -> bool {
        let names = self
            .filter
            .iter()
            .filter(|condition| condition.path.is_none());
        names.into_iter().all(|condition| {
            let is_wanted = |found: &str| condition.values.iter().any(|value| value == found);
            name.is_some_and(|name| is_wanted(name) || is_wanted(simple(name)))
        })
    }
}

/// The last part of a record's full name.
pub(crate) fn simple(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// The full name of an Avro record; empty for other types.
pub(crate) fn record_name(schema: &Schema) -> String {
    match schema {
        Schema::Record(record) => record.name.fullname(None),
        _ => String::new(),
    }
}

fn deleted_path(shape: &SourceShape, table: &Table) -> Result<Option<FieldPath>, ShapeError> {
    let Some(path) = shape.deleted.as_deref() else {
        return Ok(None);
    };
    if path.is_empty() {
        return Err(fault(
            table,
            "deleted",
            "the path is empty; name a field or column",
        ));
    }
    if !matches!(table.role, Role::Root | Role::Member) {
        let why = format!(
            "the table is of the role {}, and only rows of root and member tables are deleted; mark a \
             boolean of an event table with retraction, or leave its rows out with where",
            table.role.name()
        );
        return Err(fault(table, "deleted", why));
    }
    Ok(Some(FieldPath::new(path)))
}

fn filter_of(shape: &SourceShape, table: &Table) -> Result<Vec<FilterCondition>, ShapeError> {
    let mut conditions = Vec::new();
    for (path, values) in &shape.filter {
        let values = values.texts();
        if path.is_empty() || values.is_empty() {
            let why = "a filter needs a path and at least one value";
            return Err(fault(table, format!("where.{path}"), why));
        }
        conditions.push(FilterCondition {
            path: (path != RECORD_NAME).then(|| FieldPath::new(path)),
            values,
        });
    }
    Ok(conditions)
}
