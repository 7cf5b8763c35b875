//! Avro bytes become [`DataNode`]s: of a record only the wanted parts are read, the rest is passed
//! over.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, ResolvedSchema, UuidSchema};

use super::data_node::DataNode;
use super::made_key::MadeKey;
use super::plan::RowPlan;
use super::writer::AvroWriter;
use crate::avro::cursor::{AvroCursor, Snag};
use crate::avro::decode::{MAX_DEPTH, skip};
use crate::avro::program::{StepCompiler, ValueSkip, decimal, uuid_text};
use crate::catalog::shape::{TimeUnit, time_unit};

/// The parts of a record that are looked at.
#[derive(Clone, Debug, Default)]
struct WantedParts {
    all: bool,
    members: BTreeMap<String, WantedParts>,
}

impl WantedParts {
    fn want(&mut self, path: &str) {
        let mut at = self;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            at = at.members.entry(name.to_owned()).or_default();
        }
        at.all = true;
    }

    /// The parts that a plan looks at in records of this schema.
    fn of(plan: &RowPlan, schema: &Schema) -> Self {
        let envelope = plan.envelope.of_fields(|name| match schema {
            Schema::Record(record) => record.lookup.contains_key(name),
            _ => false,
        });
        let mut roots: Vec<&str> = vec![""];
        roots.extend(envelope.inside().iter().map(String::as_str));
        let mut wanted = WantedParts::default();
        for root in roots {
            let mut want = |path: &str| wanted.want(&format!("{root}.{path}"));
            envelope.row_paths().into_iter().for_each(&mut want);
            envelope.control_paths().into_iter().for_each(&mut want);
            plan.filter_paths().for_each(&mut want);
            let paths = plan.mapped.iter().flatten();
            let parts = plan.key.iter().flat_map(MadeKey::paths);
            for path in paths.chain(&plan.known).chain(&plan.deleted).chain(parts) {
                want(path.as_str());
            }
        }
        wanted
    }

    /// The parts that a filter looks at.
    fn of_filter(plan: &RowPlan) -> Self {
        let mut wanted = WantedParts::default();
        plan.filter_paths().for_each(|path| wanted.want(path));
        wanted
    }
}

#[derive(Clone, Debug)]
enum DataRead {
    Null,
    Bool,
    Int,
    Moment(TimeUnit),
    Float,
    Double,
    Decimal {
        scale: i32,
        fixed_bytes: Option<usize>,
    },
    Text,
    Uuid {
        fixed: bool,
    },
    Bytes,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    List(Box<DataRead>),
    Map(Box<DataRead>),
    Union(Box<[DataRead]>),
    /// Members in the writer's order; those without a name are passed over.
    Record(Box<[(Box<str>, DataRead)]>),
    /// A record of [`DataProgram::named`]: records may contain themselves.
    Named(usize),
    Skip(ValueSkip),
}

/// Reads the wanted parts of one writer's records.
#[derive(Clone, Debug)]
pub(crate) struct DataProgram {
    read: DataRead,
    named: Box<[DataRead]>,
    skips: Box<[ValueSkip]>,
}

impl DataProgram {
    /// Everything that the plan looks at.
    ///
    /// # Errors
    /// The words for a person: a schema that is not complete.
    pub(crate) fn of_plan(writer: &AvroWriter, plan: &RowPlan) -> Result<Self, String> {
        Self::compile(writer, &WantedParts::of(plan, &writer.schema))
    }

    /// The values that the plan's filter looks at.
    ///
    /// # Errors
    /// As [`Self::of_plan`].
    pub(crate) fn of_filter(writer: &AvroWriter, plan: &RowPlan) -> Result<Self, String> {
        Self::compile(writer, &WantedParts::of_filter(plan))
    }

    /// The whole value.
    ///
    /// # Errors
    /// As [`Self::of_plan`].
    pub(crate) fn whole(writer: &AvroWriter) -> Result<Self, String> {
        let wanted = WantedParts {
            all: true,
            ..WantedParts::default()
        };
        Self::compile(writer, &wanted)
    }

    fn compile(writer: &AvroWriter, wanted: &WantedParts) -> Result<Self, String> {
        let resolved = ResolvedSchema::new_with_schemata(writer.all())
            .map_err(|e| format!("the writer's schema is not complete: {e}"))?;
        let mut compiler = DataCompiler {
            skips: StepCompiler::new(resolved.get_names()),
            names: resolved.get_names(),
            slots: HashMap::new(),
            named: Vec::new(),
        };
        let read = compiler.read(&writer.schema, wanted, 0)?;
        Ok(DataProgram {
            read,
            named: compiler.named.into(),
            skips: compiler.skips.into_named(),
        })
    }

    /// Reads one record from the front of `cursor`.
    pub(crate) fn read<'c>(&'c self, cursor: &mut AvroCursor<'c>) -> Result<DataNode<'c>, Snag> {
        let mut left = cursor.remaining().saturating_mul(4) + LEAST_VALUES;
        self.value(&self.read, cursor, 0, &mut left)
    }

    /// Reads a value that is all of `bytes`.
    ///
    /// # Errors
    /// The words for a person.
    pub(crate) fn read_all<'c>(&'c self, bytes: &'c [u8]) -> Result<DataNode<'c>, String> {
        let mut cursor = AvroCursor::new(bytes);
        let node = self.read(&mut cursor).map_err(|snag| snag.words())?;
        match cursor.remaining() {
            0 => Ok(node),
            bytes => Err(format!(
                "{bytes} bytes are left after the last field; the record was written under another schema"
            )),
        }
    }

    fn value<'c>(
        &'c self,
        read: &'c DataRead,
        cursor: &mut AvroCursor<'c>,
        depth: usize,
        left: &mut usize,
    ) -> Result<DataNode<'c>, Snag> {
        *left = left
            .checked_sub(1)
            .ok_or_else(|| Snag::Unreadable("more values than bytes".into()))?;
        Ok(match read {
            DataRead::Null => DataNode::Null,
            DataRead::Bool => DataNode::Bool(cursor.boolean()?),
            DataRead::Int => DataNode::Int(cursor.long()?.into()),
            DataRead::Moment(unit) => {
                let raw = cursor.long()?;
                let ms = unit.to_ms(raw);
                DataNode::Moment(
                    ms.ok_or_else(|| Snag::Unreadable(format!("the time {raw} is out of range")))?,
                )
            }
            DataRead::Float => DataNode::Double(cursor.float()?.into()),
            DataRead::Double => DataNode::Double(cursor.double()?),
            DataRead::Decimal { scale, fixed_bytes } => {
                let bytes = match fixed_bytes {
                    Some(count) => cursor.take(*count)?,
                    None => cursor.prefixed()?,
                };
                DataNode::Double(decimal(bytes, *scale))
            }
            DataRead::Text => DataNode::Text(Cow::Borrowed(cursor.text()?)),
            DataRead::Uuid { fixed } => {
                let bytes = if *fixed {
                    cursor.take(16)?
                } else {
                    cursor.prefixed()?
                };
                let text = uuid_text(bytes);
                DataNode::Text(Cow::Owned(text.ok_or_else(|| {
                    Snag::Unreadable(format!("a uuid of {} bytes", bytes.len()))
                })?))
            }
            DataRead::Bytes => DataNode::Bytes(Cow::Borrowed(cursor.prefixed()?)),
            DataRead::Fixed(count) => DataNode::Bytes(Cow::Borrowed(cursor.take(*count)?)),
            DataRead::Enum(symbols) => {
                let index = cursor.long()?;
                let symbol = usize::try_from(index).ok().and_then(|i| symbols.get(i));
                DataNode::Text(Cow::Borrowed(symbol.ok_or(Snag::Symbol(index))?))
            }
            DataRead::List(item) => DataNode::List(self.list(item, cursor, depth, left)?),
            DataRead::Map(value) => DataNode::Members(self.map(value, cursor, depth, left)?),
            DataRead::Union(branches) => {
                let index = cursor.long()?;
                let branch = usize::try_from(index).ok().and_then(|i| branches.get(i));
                self.value(branch.ok_or(Snag::Branch(index))?, cursor, depth, left)?
            }
            DataRead::Record(members) => {
                let mut found = Vec::with_capacity(members.len());
                for (name, read) in members {
                    match read {
                        DataRead::Skip(part) => skip(&self.skips, part, cursor, depth)?,
                        read => found.push((
                            Cow::Borrowed(&**name),
                            self.value(read, cursor, depth, left)?,
                        )),
                    }
                }
                DataNode::Members(found)
            }
            DataRead::Named(slot) if depth < MAX_DEPTH => {
                self.value(&self.named[*slot], cursor, depth + 1, left)?
            }
            DataRead::Named(_) => return Err(Snag::TooDeep),
            DataRead::Skip(part) => {
                skip(&self.skips, part, cursor, depth)?;
                DataNode::Null
            }
        })
    }

    fn list<'c>(
        &'c self,
        item: &'c DataRead,
        cursor: &mut AvroCursor<'c>,
        depth: usize,
        left: &mut usize,
    ) -> Result<Vec<DataNode<'c>>, Snag> {
        let mut items = Vec::new();
        while let Some(block) = cursor.block()? {
            for _ in 0..block.items {
                items.push(self.value(item, cursor, depth, left)?);
            }
        }
        Ok(items)
    }

    fn map<'c>(
        &'c self,
        value: &'c DataRead,
        cursor: &mut AvroCursor<'c>,
        depth: usize,
        left: &mut usize,
    ) -> Result<Vec<(Cow<'c, str>, DataNode<'c>)>, Snag> {
        let mut members = Vec::new();
        while let Some(block) = cursor.block()? {
            for _ in 0..block.items {
                let name = Cow::Borrowed(cursor.text()?);
                members.push((name, self.value(value, cursor, depth, left)?));
            }
        }
        Ok(members)
    }
}

/// Values that a record may have beyond four a byte. Nulls and empty records have no bytes, and a
/// schema may nest them without end.
const LEAST_VALUES: usize = 65_536;

struct DataCompiler<'s> {
    skips: StepCompiler<'s>,
    names: &'s HashMap<Name, &'s Schema>,
    slots: HashMap<Name, usize>,
    named: Vec<DataRead>,
}

impl<'s> DataCompiler<'s> {
    fn read(
        &mut self,
        schema: &'s Schema,
        wanted: &WantedParts,
        depth: usize,
    ) -> Result<DataRead, String> {
        let schema = match schema {
            Schema::Ref { name } => self
                .names
                .get(name)
                .copied()
                .ok_or_else(|| format!("it does not define the type {name}"))?,
            other => other,
        };
        if let Some(unit) = time_unit(schema) {
            return Ok(DataRead::Moment(unit));
        }
        Ok(match schema {
            Schema::Null => DataRead::Null,
            Schema::Boolean => DataRead::Bool,
            Schema::Int | Schema::Long | Schema::TimeMillis | Schema::TimeMicros => DataRead::Int,
            Schema::Float => DataRead::Float,
            Schema::Double => DataRead::Double,
            Schema::String | Schema::Uuid(UuidSchema::String) => DataRead::Text,
            Schema::Uuid(UuidSchema::Fixed(_)) => DataRead::Uuid { fixed: true },
            Schema::Uuid(UuidSchema::Bytes) => DataRead::Uuid { fixed: false },
            Schema::Bytes | Schema::BigDecimal => DataRead::Bytes,
            Schema::Fixed(fixed) | Schema::Duration(fixed) => DataRead::Fixed(fixed.size),
            Schema::Decimal(decimal) => DataRead::Decimal {
                scale: i32::try_from(decimal.scale).unwrap_or(i32::MAX),
                fixed_bytes: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
            },
            Schema::Enum(symbols) => {
                DataRead::Enum(symbols.symbols.iter().map(|s| s.as_str().into()).collect())
            }
            Schema::Array(array) => {
                let item = self.read(&array.items, &whole_of(wanted), depth)?;
                DataRead::List(Box::new(item))
            }
            Schema::Map(map) => {
                let value = self.read(&map.types, &whole_of(wanted), depth)?;
                DataRead::Map(Box::new(value))
            }
            Schema::Union(union) => {
                let branches = union.variants().iter();
                DataRead::Union(
                    branches
                        .map(|branch| self.read(branch, wanted, depth))
                        .collect::<Result<_, _>>()?,
                )
            }
            Schema::Record(record) if wanted.all => {
                if let Some(slot) = self.slots.get(&record.name) {
                    return Ok(DataRead::Named(*slot));
                }
                let slot = self.named.len();
                self.slots.insert(record.name.clone(), slot);
                self.named.push(DataRead::Null);
                let mut members = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    members.push((
                        field.name.as_str().into(),
                        self.read(&field.schema, wanted, depth)?,
                    ));
                }
                self.named[slot] = DataRead::Record(members.into());
                DataRead::Named(slot)
            }
            Schema::Record(record) if depth < MAX_DEPTH => {
                let mut members = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let read = match wanted.members.get(&field.name) {
                        Some(part) => self.read(&field.schema, part, depth + 1)?,
                        None => DataRead::Skip(self.skips.skip(&field.schema)?),
                    };
                    members.push((field.name.as_str().into(), read));
                }
                DataRead::Record(members.into())
            }
            Schema::Record(_) => return Err("its records nest too deep".into()),
            other => return Err(format!("it has the type {other}, which is not known")),
        })
    }
}

/// Items and map values are wanted whole: a path names them by position or key.
fn whole_of(wanted: &WantedParts) -> WantedParts {
    WantedParts {
        all: true,
        ..wanted.clone()
    }
}
