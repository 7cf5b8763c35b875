//! Keys of tombstones: the id as text, a JSON value, or a framed record with the key column.

use super::connect::unwrap_payload;
use super::data_node::DataNode;
use super::data_read::DataProgram;
use super::made_key::{MadeKey, key_of_parts, part_text};
use super::path::FieldPath;
use super::plan::RowPlan;
use super::protobuf::ProtobufWriter;
use super::value::{set_node, set_text};
use super::writer::{AvroWriter, SchemaLanguage, WriterSchema};
use crate::admit::{normalise, normalise_field};
use crate::avro::SchemaRef;
use crate::catalog::Table;
use crate::row::{RowBuilder, Value};

/// The record header that carries the GUID of a key's schema.
const KEY_SCHEMA_HEADER: &str = "__key_schema_id";

/// Reads keys of one schema.
#[derive(Clone, Debug)]
pub(crate) enum KeyProgram {
    Avro(DataProgram),
    Json,
    Protobuf(ProtobufWriter),
}

impl KeyProgram {
    /// # Errors
    /// The words for a person.
    pub(crate) fn compile(writer: &WriterSchema) -> Result<Self, String> {
        Ok(match writer.language {
            SchemaLanguage::Avro => {
                KeyProgram::Avro(DataProgram::whole(&AvroWriter::parse(writer)?)?)
            }
            SchemaLanguage::JsonSchema => KeyProgram::Json,
            SchemaLanguage::Protobuf => KeyProgram::Protobuf(ProtobufWriter::parse(writer)?),
        })
    }

    fn read<'k>(&'k self, body: &'k [u8]) -> Result<DataNode<'k>, String> {
        match self {
            KeyProgram::Avro(program) => program.read_all(body),
            KeyProgram::Json => Ok(unwrap_payload(json(body)?)),
            KeyProgram::Protobuf(program) => program.read(body, None).map(|(_, node)| node),
        }
    }
}

fn json(bytes: &[u8]) -> Result<DataNode<'_>, String> {
    DataNode::json(bytes).map_err(|error| format!("it is not JSON: {error}"))
}

/// A key and the schema it is written under, if any.
pub(crate) struct FramedKey<'k> {
    pub(crate) schema: Option<SchemaRef>,
    body: &'k [u8],
}

impl<'k> FramedKey<'k> {
    /// Takes a key apart. Text never begins with a zero byte, so a zero byte is a frame.
    pub(crate) fn of(key: &'k [u8], headers: &[(&str, &[u8])]) -> Self {
        let header = headers.iter().find(|(name, _)| *name == KEY_SCHEMA_HEADER);
        if let Some((_, [1, guid @ ..])) = header
            && let Some((guid, _)) = guid.split_first_chunk::<16>()
        {
            return FramedKey {
                schema: Some(SchemaRef::Guid(*guid)),
                body: key,
            };
        }
        if let [0, framed @ ..] = key
            && let Some((id, body)) = framed.split_first_chunk::<4>()
        {
            return FramedKey {
                schema: Some(SchemaRef::Id(u32::from_be_bytes(*id))),
                body,
            };
        }
        FramedKey {
            schema: None,
            body: key,
        }
    }

    /// Sets the key of a row. `program` reads the key's schema, where it has one.
    ///
    /// # Errors
    /// The words for a person: a key that holds no id of the table.
    pub(crate) fn set(
        &self,
        program: Option<&KeyProgram>,
        plan: &RowPlan,
        table: &Table,
        builder: &mut RowBuilder<'_>,
    ) -> Result<(), String> {
        self.set_as_written(program, plan, table, builder)?;
        normalise_field(table, table.key, builder);
        Ok(())
    }

    fn set_as_written(
        &self,
        program: Option<&KeyProgram>,
        plan: &RowPlan,
        table: &Table,
        builder: &mut RowBuilder<'_>,
    ) -> Result<(), String> {
        let target = &plan.targets[table.key.index()];
        let node = match program {
            Some(program) => program.read(self.body)?,
            None => match unframed(self.body)? {
                UnframedKey::Text(text) => {
                    let set = set_text(target, text, builder);
                    return set.map_err(|expected| format!("it is not {expected}"));
                }
                UnframedKey::Value(node) => unwrap_payload(node),
            },
        };
        if let (Some(made), DataNode::Members(_)) = (&plan.key, &node) {
            return set_made(made, plan, table, &node, builder);
        }
        let key = match &node {
            DataNode::Members(_) => {
                field_member(plan, table.key.index(), &node).ok_or_else(|| {
                    format!(
                        "it is an object without the key column; it should have a member {}",
                        field_names(plan, table.key.index()).join(" or ")
                    )
                })?
            }
            scalar => scalar,
        };
        if key.scalar().is_none_or(|text| text.is_empty()) {
            return Err(format!("it holds {} where the id should be", key.kind()));
        }
        set_node(target, key, builder).map_err(|expected| format!("its id is not {expected}"))
    }
}

/// Sets a made key from the object that is a tombstone's key. Text, by contrast, is the made key
/// itself: `replay` sends it so.
fn set_made(
    made: &MadeKey,
    plan: &RowPlan,
    table: &Table,
    node: &DataNode<'_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), String> {
    let MadeKey::Parts(parts) = made else {
        return Err("the key is made from the whole row, which a tombstone does not hold".into());
    };
    for part in parts {
        let Some(field) = part.field else { continue };
        if let Some(node) = field_member(plan, field.index(), node) {
            let set = set_node(&plan.targets[field.index()], node, builder);
            set.map_err(|expected| format!("its {} is not {expected}", part.path.as_str()))?;
        }
    }
    normalise(table, builder);
    let raw = |path: &FieldPath| {
        let last = path.as_str().rsplit('.').next().unwrap_or_default();
        part_text(path.find(node).or_else(|| node.member(last))?, &plan.text)
    };
    let key = key_of_parts(parts, builder, raw)
        .map_err(|part| format!("it has no '{part}', which is a part of the key"))?;
    builder.set(table.key, Value::Text(&key));
    Ok(())
}

enum UnframedKey<'k> {
    Text(&'k str),
    Value(DataNode<'k>),
}

fn unframed(key: &[u8]) -> Result<UnframedKey<'_>, String> {
    let text = std::str::from_utf8(key).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.contains('\0') {
        return Err("it is neither text nor a framed record".into());
    }
    match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => json(key).map(UnframedKey::Value),
        // A text that only begins with a quote is an id like any other.
        Some(b'"') => Ok(json(key).map_or(UnframedKey::Text(text), UnframedKey::Value)),
        _ => Ok(UnframedKey::Text(text)),
    }
}

/// The names under which a key object may hold a field: the source's, then the table's.
fn field_names(plan: &RowPlan, index: usize) -> Vec<&str> {
    let mut names: Vec<&str> = plan.mapped[index]
        .iter()
        .map(|path| path.as_str())
        .collect();
    let mut own: Vec<(u8, &str)> = Vec::new();
    for (name, fields) in &plan.by_name {
        for (field, rank) in fields {
            if usize::from(*field) == index {
                own.push((*rank, name));
            }
        }
    }
    own.sort_unstable();
    names.extend(own.into_iter().map(|(_, name)| name));
    names
}

fn field_member<'n, 'a>(
    plan: &RowPlan,
    index: usize,
    node: &'n DataNode<'a>,
) -> Option<&'n DataNode<'a>> {
    let paths = plan.mapped[index].iter();
    let mut mapped = paths.filter_map(|path| path.find(node));
    mapped.next().or_else(|| {
        let names = field_names(plan, index).into_iter();
        // The last part of a configured path: keys of a change record have no envelope.
        let last = |name: &'_ str| {
            name.rsplit_once('.')
                .map_or(name.to_owned(), |(_, l)| l.to_owned())
        };
        names.filter_map(|name| node.member(&last(name))).next()
    })
}
