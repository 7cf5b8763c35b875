//! Protobuf records become [`DataNode`]s: the schema's text is compiled, messages are read by
//! descriptor.

use std::borrow::Cow;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::data_node::DataNode;
use super::writer::WriterSchema;
use crate::avro::cursor::AvroCursor;
use crate::avro::program::decimal;

/// The name under which the schema itself is compiled; no import can have it.
const MAIN: &str = "the_writers_schema.proto";

/// Files that Confluent's registry knows without a reference.
const KNOWN_FILES: [(&str, &str); 2] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";
           message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
           extend google.protobuf.FileOptions { Meta file_meta = 1088; }
           extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
           extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
           extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
           extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3"; package confluent.type;
           message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
];

/// The texts that a schema may import.
struct TextFiles(Vec<(String, String)>);

impl FileResolver for TextFiles {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(known, _)| known == name);
        match found {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// A compiled Protobuf schema.
#[derive(Clone, Debug)]
pub(crate) struct ProtobufWriter {
    pool: DescriptorPool,
}

impl ProtobufWriter {
    /// # Errors
    /// The compiler's words.
    pub(crate) fn parse(writer: &WriterSchema) -> Result<Self, String> {
        let mut files: Vec<(String, String)> = vec![(MAIN.to_owned(), writer.text.to_string())];
        let references = writer.references.iter();
        files.extend(references.map(|(name, text)| (name.clone(), text.to_string())));
        let known = KNOWN_FILES.iter();
        files.extend(known.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        let mut resolver = ChainFileResolver::new();
        resolver.add(TextFiles(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler
            .open_file(MAIN)
            .map_err(|error| error.to_string())?;
        Ok(ProtobufWriter {
            pool: compiler.descriptor_pool(),
        })
    }

    /// Reads a record. `indexes` are the message's numbers where a header carries them; otherwise
    /// they stand in front of the body. Returns the message's full name and its values.
    ///
    /// # Errors
    /// The words for a person.
    pub(crate) fn read(
        &self,
        body: &[u8],
        indexes: Option<&[u8]>,
    ) -> Result<(String, DataNode<'static>), String> {
        let (message, body) = match indexes {
            Some(indexes) => (self.message(&mut AvroCursor::new(indexes))?, body),
            None => {
                let mut cursor = AvroCursor::new(body);
                let message = self.message(&mut cursor)?;
                (message, &body[body.len() - cursor.remaining()..])
            }
        };
        let name = message.full_name().to_owned();
        let message = DynamicMessage::decode(message, body)
            .map_err(|error| format!("the bytes are not the message {name}: {error}"))?;
        Ok((name, message_node(&message)))
    }

    /// The full name of the record's message.
    pub(crate) fn name_of(&self, body: &[u8], indexes: Option<&[u8]>) -> Option<String> {
        let mut cursor = AvroCursor::new(indexes.unwrap_or(body));
        let message = self.message(&mut cursor).ok()?;
        Some(message.full_name().to_owned())
    }

    /// The message that numbers name: a count and as many places of nested messages, or one zero
    /// for the first message. The numbers are written as Avro's.
    fn message(&self, cursor: &mut AvroCursor<'_>) -> Result<MessageDescriptor, String> {
        let fault = |_| "the numbers of its message are cut off or damaged".to_owned();
        let count = cursor.long().map_err(fault)?;
        let none = || "the schema has no message of the record's numbers".to_owned();
        let file = self.pool.get_file_by_name(MAIN).ok_or_else(none)?;
        if count == 0 {
            return file.messages().next().ok_or_else(none);
        }
        let mut found: Option<MessageDescriptor> = None;
        for _ in 0..count {
            let place = usize::try_from(cursor.long().map_err(fault)?).map_err(|_| none())?;
            let next = match &found {
                None => file.messages().nth(place),
                Some(outer) => outer.child_messages().nth(place),
            };
            found = Some(next.ok_or_else(none)?);
        }
        found.ok_or_else(none)
    }
}

fn text(value: impl Into<String>) -> DataNode<'static> {
    DataNode::Text(Cow::Owned(value.into()))
}

fn message_node(message: &DynamicMessage) -> DataNode<'static> {
    if let Some(known) = well_known(message) {
        return known;
    }
    let descriptor = message.descriptor();
    let mut members = Vec::with_capacity(descriptor.fields().len());
    for field in descriptor.fields() {
        let is_unset = field.supports_presence() && !message.has_field(&field);
        let value = if is_unset {
            DataNode::Null
        } else {
            value_node(message.get_field(&field).as_ref(), &field.kind())
        };
        members.push((Cow::Owned(field.name().to_owned()), value));
    }
    DataNode::Members(members)
}

fn value_node(value: &Value, kind: &Kind) -> DataNode<'static> {
    match value {
        Value::Bool(value) => DataNode::Bool(*value),
        Value::I32(value) => DataNode::Int((*value).into()),
        Value::I64(value) => DataNode::Int((*value).into()),
        Value::U32(value) => DataNode::Int((*value).into()),
        Value::U64(value) => DataNode::Int((*value).into()),
        Value::F32(value) => DataNode::Double((*value).into()),
        Value::F64(value) => DataNode::Double(*value),
        Value::String(value) => text(value.as_str()),
        Value::Bytes(value) => DataNode::Bytes(Cow::Owned(value.to_vec())),
        Value::EnumNumber(number) => {
            let symbol = match kind {
                Kind::Enum(symbols) => symbols.get_value(*number),
                _ => None,
            };
            symbol.map_or_else(|| text(number.to_string()), |symbol| text(symbol.name()))
        }
        Value::Message(message) => message_node(message),
        Value::List(items) => {
            DataNode::List(items.iter().map(|item| value_node(item, kind)).collect())
        }
        Value::Map(entries) => {
            let value_kind = match kind {
                Kind::Message(entry) if entry.is_map_entry() => {
                    entry.map_entry_value_field().kind()
                }
                other => other.clone(),
            };
            let mut members: Vec<(Cow<'static, str>, DataNode<'static>)> = Vec::new();
            for (key, value) in entries {
                members.push((Cow::Owned(key_text(key)), value_node(value, &value_kind)));
            }
            // The map's own order changes from process to process.
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            DataNode::Members(members)
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Google's well-known types, and decimals, as the values they stand for.
fn well_known(message: &DynamicMessage) -> Option<DataNode<'static>> {
    let descriptor = message.descriptor();
    let field = |name: &str| message.get_field_by_name(name);
    let whole = |name: &str| match field(name)?.as_ref() {
        Value::I64(value) => Some(*value),
        Value::I32(value) => Some((*value).into()),
        _ => None,
    };
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let ms = whole("seconds")?.checked_mul(1_000)?;
            Some(DataNode::Moment(
                ms.checked_add(whole("nanos")?.div_euclid(1_000_000))?,
            ))
        }
        "google.protobuf.Duration" => Some(DataNode::Double(
            whole("seconds")? as f64 + whole("nanos")? as f64 / 1e9,
        )),
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => {
            let value: FieldDescriptor = descriptor.get_field_by_name("value")?;
            Some(value_node(
                message.get_field(&value).as_ref(),
                &value.kind(),
            ))
        }
        "google.protobuf.Struct" => {
            let fields: FieldDescriptor = descriptor.get_field_by_name("fields")?;
            Some(value_node(
                message.get_field(&fields).as_ref(),
                &fields.kind(),
            ))
        }
        "google.protobuf.ListValue" => {
            let values: FieldDescriptor = descriptor.get_field_by_name("values")?;
            Some(value_node(
                message.get_field(&values).as_ref(),
                &values.kind(),
            ))
        }
        "google.protobuf.Value" => {
            let set = descriptor.fields().find(|field| message.has_field(field));
            Some(match set {
                Some(set) if set.name() != "null_value" => {
                    value_node(message.get_field(&set).as_ref(), &set.kind())
                }
                _ => DataNode::Null,
            })
        }
        "confluent.type.Decimal" => {
            let scale = i32::try_from(whole("scale")?).ok()?;
            match field("value")?.as_ref() {
                Value::Bytes(bytes) => Some(DataNode::Double(decimal(bytes, scale))),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::SchemaLanguage;

    const SCHEMA: &str = r#"syntax = "proto3"; package crm;
      import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
      import "money.proto"; import "confluent/type/decimal.proto"; import "confluent/meta.proto";
      message Other { string x = 1; }
      message Deal {
        enum Stage { OPEN = 0; WON = 1; }
        message Inner { int64 n = 1; }
        string id = 1; int64 big = 2; Stage stage = 3; google.protobuf.Timestamp at = 4;
        google.protobuf.StringValue note = 5; map<string, int32> counts = 6; repeated string tags = 7;
        optional int32 seats = 8; money.Money price = 9; confluent.type.Decimal exact = 10;
        Inner inner = 11 [(confluent.field_meta) = { doc: "nested" }]; oneof who { string lead = 12; string contact = 13; }
      }"#;

    fn writer() -> ProtobufWriter {
        let money = r#"syntax = "proto3"; package money; message Money { string amount = 1; }"#;
        ProtobufWriter::parse(&WriterSchema {
            language: SchemaLanguage::Protobuf,
            text: SCHEMA.into(),
            references: vec![("money.proto".into(), money.into())],
        })
        .unwrap()
    }

    /// One field of a message: its tag and length-delimited or varint content.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8][..], content].concat()
    }

    #[test]
    fn a_message_becomes_its_values() {
        let body = [
            vec![2, 2], // one number: the second message
            field(1, b"d1"),
            vec![2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            vec![3 << 3, 1],
            field(4, &[&[8][..], &[0x80, 0xe2, 0xcf, 0xaa, 0x6]].concat()),
            field(5, &field(1, b"hi")),
            field(6, &[field(1, b"a"), vec![2 << 3, 3]].concat()),
            field(7, b"t1"),
            field(9, &field(1, b"1.50")),
            field(10, &[field(1, &[0x30, 0x39]), vec![3 << 3, 2]].concat()),
            field(12, b"l1"),
        ]
        .concat();
        let (name, node) = writer().read(&body, None).unwrap();
        assert_eq!(name, "crm.Deal");
        let member = |name: &str| node.member(name).unwrap().clone();
        assert_eq!(member("id"), text("d1"));
        assert_eq!(member("big"), DataNode::Int(i64::MAX.into()));
        assert_eq!(member("stage"), text("WON"));
        assert_eq!(member("at"), DataNode::Moment(1_700_000_000_000));
        assert_eq!(member("note"), text("hi"));
        assert_eq!(
            node.member("counts").unwrap().member("a"),
            Some(&DataNode::Int(3))
        );
        assert_eq!(member("tags"), DataNode::List(vec![text("t1")]));
        assert_eq!(member("seats"), DataNode::Null);
        assert_eq!(
            node.member("price").unwrap().member("amount"),
            Some(&text("1.50"))
        );
        assert_eq!(member("exact"), DataNode::Double(123.45));
        assert_eq!(member("inner"), DataNode::Null);
        assert_eq!(
            (member("lead"), member("contact")),
            (text("l1"), DataNode::Null)
        );
        // A header carries the numbers instead.
        let (name, _) = writer().read(&body[2..], Some(&[2, 2])).unwrap();
        assert_eq!(name, "crm.Deal");
        let (name, _) = writer().read(&[0], None).unwrap();
        assert_eq!(name, "crm.Other");
        assert_eq!(
            writer().name_of(&[4, 2, 0], None).as_deref(),
            Some("crm.Deal.Inner")
        );
    }

    #[test]
    fn damaged_messages_and_schemas_are_refused() {
        for body in [&b""[..], &[2, 8], &[4, 2], &[2, 2, 10, 200], &[0, 0xff]] {
            assert!(writer().read(body, None).is_err(), "{body:?}");
        }
        let broken = WriterSchema {
            language: SchemaLanguage::Protobuf,
            text: "message".into(),
            references: Vec::new(),
        };
        assert!(ProtobufWriter::parse(&broken).is_err());
    }
}
