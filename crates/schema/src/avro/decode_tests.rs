//! The decoder against apache-avro: random writer schemas and values must give the row that its
//! resolution gives; damaged bytes must give an error and leave the batch alone; written rows must
//! read back.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{Name, ResolvedSchema, UuidSchema};
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::avro::cursor::{put_bytes, put_long};
use crate::{
    Catalog, CompileError, DataType, DecodeError, FieldId, Operation, Position, RowBatch,
    RowDecoder, RowEncoder, TableId, Value,
};

/// One field of every kind; aliases on some. The last column: writer types that Avro resolves to
/// it.
fn fields() -> Vec<(Json, Vec<Json>)> {
    let ts = |unit: &str| json!({"type": "long", "logicalType": format!("timestamp-{unit}")});
    let list = |items: Json| json!({"type": "array", "items": items});
    let tier = |symbols: &[&str], default: Option<&str>| {
        let mut tier = json!({"type": "enum", "name": "Tier", "symbols": symbols});
        if let Some(default) = default {
            tier["default"] = default.into();
        }
        tier
    };
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2});
    let fixed_decimal = json!({"type": {"type": "fixed", "name": "Money", "size": 8}, "logicalType": "decimal", "precision": 12, "scale": 2});
    let uuid = json!({"type": "string", "logicalType": "uuid"});
    vec![
        (
            json!({"name": "id", "type": "long", "leadpulse": {"key": true}}),
            vec![json!("long"), json!("int"), json!(["null", "long"])],
        ),
        (
            json!({"name": "seen_at", "type": ts("millis"), "default": 5, "leadpulse": {"time": true}}),
            vec![ts("millis")],
        ),
        (
            json!({"name": "parent", "aliases": ["mother"], "type": ["null", "string"], "default": null, "leadpulse": {"ref": "things"}}),
            vec![
                json!("string"),
                json!("null"),
                json!(["string", "null"]),
                json!(["null", "bytes"]),
            ],
        ),
        (
            json!({"name": "flag", "type": "boolean", "default": true}),
            vec![
                json!("boolean"),
                json!(["boolean"]),
                json!(["null", "boolean"]),
            ],
        ),
        (
            json!({"name": "small", "type": "int", "default": -7}),
            vec![json!("int"), json!(["int", "null"])],
        ),
        (
            json!({"name": "whole", "type": ["null", "long"], "default": null}),
            vec![
                json!("long"),
                json!("int"),
                json!(["null", "int"]),
                json!(["long", "null"]),
                json!("null"),
            ],
        ),
        (
            json!({"name": "ratio", "type": "float", "default": 0.5}),
            vec![json!("float"), json!("int"), json!("long")],
        ),
        (
            json!({"name": "real", "type": ["double", "null"], "default": 2.5}),
            vec![
                json!("double"),
                json!("float"),
                json!("long"),
                json!(["null", "float"]),
                json!(["null", "double"]),
            ],
        ),
        (
            json!({"name": "money", "type": decimal, "default": "\u{1}\u{2}"}),
            vec![decimal.clone(), fixed_decimal],
        ),
        (
            json!({"name": "text", "aliases": ["words", "txt"], "type": "string", "default": "none"}),
            vec![json!("string"), json!("bytes"), json!(["bytes", "null"])],
        ),
        (
            json!({"name": "uid", "type": ["null", uuid], "default": null}),
            vec![uuid.clone(), json!(["null", uuid])],
        ),
        (
            json!({"name": "tier", "type": tier(&["A", "B", "C"], Some("C")), "default": "A"}),
            vec![
                tier(&["C", "A"], None),
                tier(&["Z", "B", "A", "Y"], Some("Y")),
                json!("string"),
            ],
        ),
        (
            json!({"name": "strict", "type": {"type": "enum", "name": "Strict", "symbols": ["on", "off"]}, "default": "on"}),
            vec![
                json!({"type": "enum", "name": "Strict", "symbols": ["off", "on"]}),
                json!({"type": "enum", "name": "Strict", "symbols": ["off", "on", "on2", "new"]}),
            ],
        ),
        (
            json!({"name": "micros", "type": ["null", ts("micros")], "default": null}),
            vec![ts("micros"), json!(["null", ts("micros")])],
        ),
        (
            json!({"name": "day", "type": {"type": "int", "logicalType": "date"}, "default": 3}),
            vec![json!({"type": "int", "logicalType": "date"})],
        ),
        (
            json!({"name": "tags", "type": list(json!("string")), "default": ["x", "y"]}),
            vec![
                list(json!("string")),
                list(json!("bytes")),
                list(json!(["null", "string"])),
                json!(["null", list(json!("string"))]),
            ],
        ),
        (
            json!({"name": "kinds", "type": list(json!({"type": "enum", "name": "Kind", "symbols": ["k1", "k2"], "default": "k1"})), "default": []}),
            vec![
                list(json!({"type": "enum", "name": "Kind", "symbols": ["k3", "k2"]})),
                list(json!("string")),
            ],
        ),
    ]
}

/// Types of fields we do not know and pass over.
fn unknown_types() -> Vec<Json> {
    let money = json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1});
    vec![
        json!("string"),
        json!("double"),
        json!("null"),
        json!({"type": "map", "values": ["null", "long", "string"]}),
        json!({"type": "fixed", "name": "F#", "size": 5}),
        json!({"type": "record", "name": "Empty#", "fields": [{"name": "n", "type": "null"}]}),
        json!({"type": "array", "items": {"type": "record", "name": "R#", "fields": [
            {"name": "a", "type": "float"}, {"name": "b", "type": {"type": "array", "items": "bytes"}}, {"name": "c", "type": money}]}}),
        json!({"type": "record", "name": "Node#", "fields": [{"name": "v", "type": "boolean"}, {"name": "next", "type": ["null", "Node#"]}]}),
        json!({"type": "enum", "name": "E#", "symbols": ["p", "q"]}),
    ]
}

fn catalog() -> Catalog {
    let fields: Vec<Json> = fields().into_iter().map(|(field, _)| field).collect();
    let things = json!({"type": "record", "name": "Thing", "leadpulse": {"table": "things", "role": "root"}, "fields": fields});
    let event = json!({"type": "record", "name": "Event", "leadpulse": {"table": "events", "role": "event"}, "fields": [
        {"name": "id", "type": "string", "leadpulse": {"key": true}},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null, "leadpulse": {"time": true}},
        {"name": "thing", "type": ["null", "long"], "default": null, "leadpulse": {"ref": "things", "owner": true}}]});
    Catalog::from_json(&[("t", things.to_string()), ("e", event.to_string())]).unwrap()
}

/// Decisions taken from random bytes, so that proptest can shrink them; when they run out, the
/// first choice.
struct Tape<'a>(std::slice::Iter<'a, u8>);

impl Tape<'_> {
    fn pick(&mut self, choices: usize) -> usize {
        self.0.next().map_or(0, |b| usize::from(*b) % choices)
    }
    fn chance(&mut self, one_in: usize) -> bool {
        self.pick(one_in) == one_in - 1
    }
    fn long(&mut self) -> i64 {
        let bits = 8 * self.pick(7) as u32;
        let bytes = std::array::from_fn(|_| self.pick(256) as u8);
        i64::from_le_bytes(bytes) >> (56 - bits)
    }
    fn text(&mut self) -> String {
        let length = 1 + self.pick(5);
        (0..length)
            .map(|_| ['a', 'B', '7', ' ', 'é', '雪', ';'][self.pick(7)])
            .collect()
    }
}

/// A random value of any schema the writers above use.
fn value(
    schema: &Schema,
    names: &std::collections::HashMap<Name, &Schema>,
    tape: &mut Tape<'_>,
) -> Avro {
    let int = |tape: &mut Tape<'_>| tape.long() as i32;
    match schema {
        Schema::Null => Avro::Null,
        Schema::Boolean => Avro::Boolean(tape.chance(2)),
        Schema::Int => Avro::Int(int(tape)),
        Schema::Date => Avro::Date(int(tape)),
        Schema::Long => Avro::Long(tape.long()),
        Schema::TimestampMillis => Avro::TimestampMillis(tape.long()),
        Schema::TimestampMicros => Avro::TimestampMicros(tape.long()),
        Schema::Float => Avro::Float(tape.long() as f32 / 8.0),
        Schema::Double => Avro::Double(if tape.chance(9) {
            f64::NAN
        } else {
            tape.long() as f64 / 8.0
        }),
        Schema::String => Avro::String(
            ["A", "B", "Z", "k2"]
                .get(tape.pick(8))
                .map_or_else(|| tape.text(), ToString::to_string),
        ),
        Schema::Bytes if tape.chance(9) => Avro::Bytes(vec![0xff, 0xfe]),
        Schema::Bytes => Avro::Bytes(tape.text().into_bytes()),
        Schema::Uuid(UuidSchema::String) => {
            Avro::Uuid(apache_avro::Uuid::from_u64_pair(tape.long() as u64, !0))
        }
        // Long enough for apache-avro, which refuses a decimal whose bytes could not hold the whole
        // precision.
        Schema::Decimal(_) => Avro::Decimal((tape.long() << 8).to_be_bytes().to_vec().into()),
        Schema::Fixed(fixed) => Avro::Fixed(fixed.size, vec![9; fixed.size]),
        Schema::Enum(symbols) => {
            let index = tape.pick(symbols.symbols.len());
            Avro::Enum(index as u32, symbols.symbols[index].clone())
        }
        Schema::Array(array) => Avro::Array(
            (0..tape.pick(4))
                .map(|_| value(&array.items, names, tape))
                .collect(),
        ),
        Schema::Map(map) => Avro::Map(
            (0..tape.pick(3))
                .map(|i| (format!("k{i}"), value(&map.types, names, tape)))
                .collect(),
        ),
        Schema::Union(union) => {
            let mut index = tape.pick(union.variants().len());
            // Nulls are refused by many fields, so they are rare; but a list of nodes must end.
            let has_node = union
                .variants()
                .iter()
                .any(|v| matches!(v, Schema::Ref { .. }));
            if matches!(union.variants()[index], Schema::Null) && !has_node && tape.pick(8) > 0 {
                index = (index + 1) % union.variants().len();
            }
            Avro::Union(
                index as u32,
                Box::new(value(&union.variants()[index], names, tape)),
            )
        }
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|f| (f.name.clone(), value(&f.schema, names, tape)))
                .collect(),
        ),
        Schema::Ref { name } => value(names[name], names, tape),
        other => unreachable!("no writer here uses {other:?}"),
    }
}

/// A writer's schema: fields of the table kept, dropped, renamed to an alias, with another type;
/// others among them; in any order.
fn writer(tape: &mut Tape<'_>) -> (Schema, Vec<(String, String)>) {
    let mut written = Vec::new();
    let mut renamed = Vec::new();
    for (field, types) in fields() {
        if field["name"] != "id" && tape.chance(4) {
            continue;
        }
        let mut name = field["name"].as_str().unwrap().to_owned();
        if let Some(aliases) = field["aliases"].as_array()
            && tape.chance(3)
        {
            let alias = aliases[tape.pick(aliases.len())]
                .as_str()
                .unwrap()
                .to_owned();
            renamed.push((alias.clone(), std::mem::replace(&mut name, alias)));
        }
        written.push(json!({"name": name, "type": types[tape.pick(types.len())]}));
    }
    for i in 0..tape.pick(4) {
        let types = unknown_types();
        let unknown = types[tape.pick(types.len())]
            .to_string()
            .replace('#', &i.to_string());
        let field: Json =
            serde_json::from_str(&format!(r#"{{"name":"unknown_{i}","type":{unknown}}}"#)).unwrap();
        written.insert(tape.pick(written.len()), field);
    }
    for i in 1..written.len() {
        written.swap(i, tape.pick(i + 1));
    }
    let schema = json!({"type": "record", "name": "Old", "namespace": "w", "fields": written});
    (Schema::parse(&schema).unwrap(), renamed)
}

fn write(schema: &Schema, tape: &mut Tape<'_>) -> Vec<u8> {
    let names = ResolvedSchema::new(schema).unwrap();
    let record = value(schema, names.get_names(), tape);
    GenericDatumWriter::builder(schema)
        .build()
        .unwrap()
        .write_value_to_vec(record)
        .unwrap()
}

/// The record as apache-avro resolves it to the table's schema (field aliases are applied first:
/// apache-avro does not know them).
fn resolved(
    writer: &Schema,
    renamed: &[(String, String)],
    reader: &Schema,
    bytes: &[u8],
) -> Result<Vec<(String, Avro)>, apache_avro::Error> {
    let Avro::Record(mut fields) = GenericDatumReader::builder(writer)
        .build()?
        .read_value(&mut &bytes[..])?
    else {
        unreachable!()
    };
    for (name, _) in &mut fields {
        if let Some((_, new)) = renamed.iter().find(|(old, _)| old == name) {
            name.clone_from(new);
        }
    }
    let Avro::Record(fields) = Avro::Record(fields).resolve(reader)? else {
        unreachable!()
    };
    Ok(fields)
}

/// Whether a row's value is what Avro says.
fn same(ours: Value<'_>, theirs: &Avro, is_key: bool) -> bool {
    match (ours, theirs) {
        (ours, Avro::Union(_, inner)) => same(ours, inner, is_key),
        (Value::Null, Avro::Null) => true,
        (Value::Bool(a), Avro::Boolean(b)) => a == *b,
        (Value::Text(a), Avro::Long(b)) => is_key && a == b.to_string(),
        (Value::Long(a), Avro::Long(b)) => a == *b,
        (Value::Long(a), Avro::Int(b)) => a == i64::from(*b),
        (Value::Double(a), Avro::Float(b)) => a as f32 == *b,
        (Value::Double(a), Avro::Double(b)) => a == *b || (a.is_nan() && b.is_nan()),
        (Value::Double(a), Avro::Decimal(b)) => {
            let bytes = Vec::<u8>::try_from(b.clone()).unwrap();
            let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
            a == bytes
                .iter()
                .fold(sign, |n: i64, byte| n << 8 | i64::from(*byte)) as f64
                / 100.0
        }
        (Value::Time(a), Avro::TimestampMillis(b)) => a == *b,
        (Value::Time(a), Avro::TimestampMicros(b)) => a == b.div_euclid(1000),
        (Value::Time(a), Avro::Date(b)) => a == i64::from(*b) * 86_400_000,
        (Value::Text(a), Avro::String(b) | Avro::Enum(_, b)) => a == b,
        (Value::Text(a), Avro::Uuid(b)) => a == b.to_string(),
        (Value::List(a), Avro::Array(b)) => {
            a.iter().map(Value::Text).count() == b.len()
                && a.iter().zip(b).all(|(a, b)| same(Value::Text(a), b, false))
        }
        _ => false,
    }
}

const THINGS: TableId = TableId(1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_are_what_avro_resolution_gives(decisions in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut tape = Tape(decisions.iter());
        let catalog = catalog();
        let table = catalog.table_at(THINGS);
        let (writer, renamed) = writer(&mut tape);
        let bytes = write(&writer, &mut tape);
        let decoder = RowDecoder::compile(&writer, &catalog, THINGS).unwrap();
        let mut batch = RowBatch::new();
        let ours = decoder.decode(&bytes, &catalog, &mut batch, Position::default(), 0);
        match (&ours, resolved(&writer, &renamed, &table.avro, &bytes)) {
            (Ok(()), Ok(theirs)) => {
                for (field, (name, theirs)) in table.fields.iter().zip(&theirs) {
                    let value = batch.row(0).get(field.id);
                    prop_assert!(field.name == *name && same(value, theirs, field.id == table.key), "{name}: {value:?} is not {theirs:?}");
                }
            }
            (Err(_), Err(_)) => prop_assert!(batch.is_empty() && batch.text_bytes() == 0),
            (ours, theirs) => prop_assert!(false, "ours: {ours:?}, theirs: {theirs:?}"),
        }
        // A record cut anywhere, or with bytes after it, is refused and leaves nothing behind.
        batch.clear();
        let cut = tape.pick(bytes.len());
        let mut longer = bytes.clone();
        longer.push(0);
        for damaged in [&bytes[..cut], &longer] {
            prop_assert!(decoder.decode(damaged, &catalog, &mut batch, Position::default(), 0).is_err());
            prop_assert!(batch.is_empty() && batch.text_bytes() == 0);
        }
    }

    #[test]
    fn any_bytes_give_a_row_or_an_error(decisions in prop::collection::vec(any::<u8>(), 0..300), noise in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let mut tape = Tape(decisions.iter());
        let catalog = catalog();
        let (writer, _) = writer(&mut tape);
        let mut bytes = write(&writer, &mut tape);
        for (place, byte) in noise {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        let decoder = RowDecoder::compile(&writer, &catalog, THINGS).unwrap();
        let mut batch = RowBatch::new();
        let outcome = decoder.decode(&bytes, &catalog, &mut batch, Position::default(), 0);
        prop_assert_eq!(outcome.is_ok(), batch.len() == 1);
    }

    #[test]
    fn written_rows_read_back(decisions in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut tape = Tape(decisions.iter());
        let catalog = catalog();
        let table = catalog.table_at(THINGS);
        let mut batch = RowBatch::new();
        let mut builder = batch.start(&catalog, THINGS, Operation::Upsert, Position::default(), 9);
        for field in &table.fields {
            if field.nullable && tape.chance(3) {
                continue;
            }
            let day = field.name == "day";
            let scaled = |x: i64| x as f64 / if field.name == "money" { 100.0 } else { 8.0 };
            match &field.data_type {
                DataType::Bool => builder.set(field.id, Value::Bool(tape.chance(2))),
                DataType::Long => builder.set(field.id, Value::Long(tape.long() as i32 as i64)),
                DataType::Double => builder.set(field.id, Value::Double(scaled(tape.long() % (1 << 24)))),
                DataType::Time => builder.set(field.id, Value::Time((tape.long() % (1 << 40)) / if day { 86_400_000 } else { 1 } * if day { 86_400_000 } else { 1 })),
                DataType::Text if field.id == table.key => builder.set(field.id, Value::Text(&tape.long().to_string())),
                DataType::Text => builder.set(field.id, Value::Text(&tape.text())),
                DataType::Symbol(symbols) => builder.set(field.id, Value::Text(&symbols[tape.pick(symbols.len())])),
                DataType::TextList if field.values.is_empty() => {
                    let items: Vec<String> = (0..tape.pick(4)).map(|_| tape.text()).collect();
                    builder.set_list(field.id, items.iter().map(String::as_str));
                }
                DataType::TextList => builder.set_list(field.id, field.values.iter().take(tape.pick(3)).map(String::as_str)),
            }
        }
        builder.finish();

        let mut bytes = Vec::new();
        RowEncoder::new(&catalog).encode(batch.row(0), &mut bytes).unwrap();
        let mut rest = &bytes[..];
        let uid = table.field("uid").unwrap().id;
        // Text that is no uuid is apache-avro's to refuse, not ours.
        if batch.row(0).get(uid).is_null() {
            GenericDatumReader::builder(&table.avro).build().unwrap().read_value(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
        }
        let mut again = RowBatch::new();
        RowDecoder::compile(&table.avro, &catalog, THINGS).unwrap().decode(&bytes, &catalog, &mut again, Position::default(), 9).unwrap();
        for field in &table.fields {
            prop_assert_eq!(again.row(0).get(field.id), batch.row(0).get(field.id), "{}", &field.name);
        }
    }
}

/// Decodes `bytes`, written under `writer`, into the events table.
fn decode_event(writer: &str, bytes: &[u8]) -> Result<RowBatch, DecodeError> {
    let catalog = catalog();
    let events = catalog.table("events").unwrap().id;
    let decoder =
        RowDecoder::compile(&Schema::parse_str(writer).unwrap(), &catalog, events).unwrap();
    let mut batch = RowBatch::new();
    decoder.decode(
        bytes,
        &catalog,
        &mut batch,
        Position {
            partition: 3,
            offset: 4,
        },
        77,
    )?;
    Ok(batch)
}

fn event_writer(extra: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Event","fields":[{{"name":"id","type":"string"}},{{"name":"at","type":["null",{{"type":"long","logicalType":"timestamp-millis"}}]}},{{"name":"thing","type":["null","long"]}}{extra}]}}"#
    )
}

/// id "e", at 1000, thing 5.
const EVENT: [u8; 7] = [2, b'e', 2, 0xd0, 0x0f, 2, 10];

#[test]
fn each_kind_of_damage_has_its_error() {
    let plain = event_writer("");
    let batch = decode_event(&plain, &EVENT).unwrap();
    let row = batch.row(0);
    assert_eq!(
        (
            row.key(),
            row.event_ms(),
            row.known_ms(),
            row.position().offset
        ),
        ("e", 1000, 77, 4)
    );

    type Check = fn(&DecodeError) -> bool;
    let with = |tail: &[u8]| [&EVENT[..], tail].concat();
    let list = event_writer(r#",{"name":"more","type":{"type":"array","items":"long"}}"#);
    let symbol = r#"{"type":"record","name":"Event","fields":[{"name":"id","type":{"type":"enum","name":"E","symbols":["a"]}},{"name":"thing","type":"int"}]}"#;
    let deep = event_writer(
        r#",{"name":"more","type":{"type":"record","name":"D","fields":[{"name":"next","type":["null","D"]}]}}"#,
    );
    let cases: Vec<(&str, Vec<u8>, Check)> = vec![
        (
            &plain,
            EVENT[..6].to_vec(),
            |e| matches!(e, DecodeError::Truncated { field, .. } if field == "thing"),
        ),
        (
            &plain,
            vec![],
            |e| matches!(e, DecodeError::Truncated { field, .. } if field == "id"),
        ),
        (&plain, with(&[1, 2]), |e| {
            matches!(e, DecodeError::Trailing { bytes: 2, .. })
        }),
        (&plain, vec![0xfe, 0xff, 0xff, 0xff, 0x0f, b'x'], |e| {
            matches!(
                e,
                DecodeError::BadLength {
                    length: 2_147_483_647,
                    ..
                }
            )
        }),
        (&plain, vec![1, b'x'], |e| {
            matches!(e, DecodeError::BadLength { length: -1, .. })
        }),
        (
            &plain,
            vec![2, 0xff],
            |e| matches!(e, DecodeError::InvalidUtf8 { field, .. } if field == "id"),
        ),
        (
            &plain,
            vec![2, b'e', 4],
            |e| matches!(e, DecodeError::BadUnionBranch { field, index: 2, .. } if field == "at"),
        ),
        (&plain, [&[2, b'e', 2][..], &[0xff; 11]].concat(), |e| {
            matches!(e, DecodeError::BadNumber { .. })
        }),
        (
            &plain,
            vec![0, 2, 0, 2, 10],
            |e| matches!(e, DecodeError::Invalid { field, .. } if field == "id"),
        ),
        (
            &plain,
            vec![2, b'e', 0, 2, 10],
            |e| matches!(e, DecodeError::Invalid { field, .. } if field == "at"),
        ),
        (
            &plain,
            vec![2, b'e', 2, 0, 0],
            |e| matches!(e, DecodeError::Invalid { field, .. } if field == "thing"),
        ),
        (symbol, vec![2, 10], |e| {
            matches!(e, DecodeError::BadEnumIndex { index: 1, .. })
        }),
        (
            symbol,
            vec![0, 10],
            |e| matches!(e, DecodeError::Invalid { field, .. } if field == "at"),
        ),
        // A block that claims 2^40 numbers, and one that claims more bytes than there are.
        (
            &list,
            with(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]),
            |e| matches!(e, DecodeError::Truncated { field, .. } if field == "more"),
        ),
        (&list, with(&[1, 40]), |e| {
            matches!(e, DecodeError::BadLength { length: 20, .. })
        }),
        (&deep, with(&[2; 500]), |e| {
            matches!(e, DecodeError::TooDeep { .. })
        }),
    ];
    for (i, (writer, bytes, expected)) in cases.iter().enumerate() {
        let error = decode_event(writer, bytes).map(|_| ()).unwrap_err();
        assert!(
            expected(&error) && error.to_string().contains("table events"),
            "case {i}: {error:?}"
        );
    }
    // Blocks with their size, passed over at once; then the end.
    decode_event(&list, &with(&[3, 4, 2, 2, 1, 2, 6, 0])).unwrap();
}

#[test]
fn values_without_bytes_cost_nothing_however_many() {
    // Forty levels of records, each holding two of the next, the last holding null: 2^40 values of
    // no bytes.
    let mut inner =
        r#"{"type":"record","name":"L40","fields":[{"name":"n","type":"null"}]}"#.to_owned();
    for level in (0..40).rev() {
        let next = level + 1;
        inner = format!(
            r#"{{"type":"record","name":"L{level}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"L{next}"}}]}}"#
        );
    }
    decode_event(
        &event_writer(&format!(r#",{{"name":"more","type":{inner}}}"#)),
        &EVENT,
    )
    .unwrap();
    let mut bytes = EVENT.to_vec();
    put_long(i64::MAX, &mut bytes);
    put_long(0, &mut bytes);
    decode_event(
        &event_writer(r#",{"name":"more","type":{"type":"array","items":"null"}}"#),
        &bytes,
    )
    .unwrap();
}

#[test]
fn lists_come_in_blocks_of_either_form() {
    let catalog = catalog();
    let writer = r#"{"type":"record","name":"T","fields":[{"name":"id","type":"int"},{"name":"tags","type":{"type":"array","items":"string"}}]}"#;
    let decoder =
        RowDecoder::compile(&Schema::parse_str(writer).unwrap(), &catalog, THINGS).unwrap();
    let mut bytes = Vec::new();
    put_long(42, &mut bytes);
    for (items, sized) in [(&["a", "bc"][..], true), (&["d"][..], false)] {
        let mut block = Vec::new();
        items
            .iter()
            .for_each(|item| put_bytes(item.as_bytes(), &mut block));
        put_long(
            if sized {
                -(items.len() as i64)
            } else {
                items.len() as i64
            },
            &mut bytes,
        );
        if sized {
            put_long(block.len() as i64, &mut bytes);
        }
        bytes.extend(block);
    }
    put_long(0, &mut bytes);
    let mut batch = RowBatch::new();
    decoder
        .decode(&bytes, &catalog, &mut batch, Position::default(), 0)
        .unwrap();
    let tags = catalog.table_at(THINGS).field("tags").unwrap().id;
    let Value::List(list) = batch.row(0).get(tags) else {
        panic!("tags is a list")
    };
    assert_eq!(
        (batch.row(0).key(), list.iter().collect::<Vec<_>>()),
        ("42", vec!["a", "bc", "d"])
    );
}

#[test]
fn values_wider_than_avro_allows_are_read() {
    let catalog = catalog();
    let writer = r#"{"type":"record","name":"T","fields":[{"name":"id","type":"long"},{"name":"small","type":"long"},{"name":"ratio","type":"double"},
        {"name":"text","type":{"type":"enum","name":"E","symbols":["one","two"]}},{"name":"seen_at","type":{"type":"long","logicalType":"timestamp-nanos"}},
        {"name":"uid","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}}]}"#;
    let decoder =
        RowDecoder::compile(&Schema::parse_str(writer).unwrap(), &catalog, THINGS).unwrap();
    let mut bytes = Vec::new();
    put_long(-1, &mut bytes);
    put_long(1 << 40, &mut bytes);
    bytes.extend(0.1f64.to_le_bytes());
    put_long(1, &mut bytes);
    put_long(5_999_999, &mut bytes);
    bytes.extend([0xab; 16]);
    let mut batch = RowBatch::new();
    decoder
        .decode(&bytes, &catalog, &mut batch, Position::default(), 0)
        .unwrap();
    let get = |name: &str| {
        batch
            .row(0)
            .get(catalog.table_at(THINGS).field(name).unwrap().id)
    };
    assert_eq!(
        [get("id"), get("small"), get("ratio")],
        [Value::Text("-1"), Value::Long(1 << 40), Value::Double(0.1)]
    );
    assert_eq!(
        [get("text"), get("seen_at")],
        [Value::Text("two"), Value::Time(5)]
    );
    assert_eq!(
        get("uid"),
        Value::Text("abababab-abab-abab-abab-abababababab")
    );
}

#[test]
fn hopeless_writers_are_refused_when_compiled() {
    let catalog = catalog();
    let compile = |writer: &str| {
        RowDecoder::compile(&Schema::parse_str(writer).unwrap(), &catalog, THINGS)
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(
        compile(r#""string""#),
        CompileError::NotARecord { .. }
    ));
    assert!(
        matches!(compile(r#"{"type":"record","name":"T","fields":[]}"#), CompileError::Missing { field, .. } if field == "id")
    );
    for (field, writer_type) in [
        ("id", r#""string""#),
        ("flag", r#""int""#),
        ("text", r#""long""#),
        (
            "tags",
            r#"{"type":"array","items":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}}"#,
        ),
        ("tags", r#"{"type":"map","values":"string"}"#),
        ("small", r#"["null","string"]"#),
    ] {
        let error = compile(
            &format!(
                r#"{{"type":"record","name":"T","fields":[{{"name":"id","type":"long"}},{{"name":"{field}","type":{writer_type}}}]}}"#
            )
            .replacen(if field == "id" { r#"{"name":"id","type":"long"},"# } else { "\0" }, "", 1),
        );
        assert!(
            matches!(&error, CompileError::Incompatible { field: f, .. } if f == field),
            "{error:?}"
        );
    }
}

#[test]
fn a_retraction_is_known_by_its_field() {
    let catalog = Catalog::from_json(&[
        ("a", r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[{"name":"id","type":"string","leadpulse":{"key":true}}]}"#),
        ("e", r#"{"type":"record","name":"E","leadpulse":{"table":"events","role":"event"},"fields":[
            {"name":"id","type":"string","leadpulse":{"key":true}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
            {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
            {"name":"gone","type":"boolean","default":false,"leadpulse":{"retraction":true}}]}"#),
    ])
    .unwrap();
    let events = catalog.table("events").unwrap();
    let mut batch = RowBatch::new();
    for gone in [false, true] {
        let mut row = batch.start(
            &catalog,
            events.id,
            Operation::Upsert,
            Position::default(),
            0,
        );
        row.set(events.key, Value::Text("e1"));
        row.set(FieldId(1), Value::Time(5));
        row.set(FieldId(2), Value::Text("a1"));
        row.set(FieldId(3), Value::Bool(gone));
        row.finish();
    }
    let encoder = RowEncoder::new(&catalog);
    let decoder = RowDecoder::compile(&events.avro, &catalog, events.id).unwrap();
    let mut read = RowBatch::new();
    for row in batch.iter() {
        let mut bytes = Vec::new();
        encoder.encode(row, &mut bytes).unwrap();
        decoder
            .decode(&bytes, &catalog, &mut read, Position::default(), 0)
            .unwrap();
    }
    assert_eq!(
        read.iter().map(|row| row.operation()).collect::<Vec<_>>(),
        [Operation::Upsert, Operation::Retract]
    );
    assert_eq!(
        read.row(1).get(FieldId(2)),
        Value::Text("a1"),
        "the whole row is there"
    );
}

#[test]
fn rows_that_do_not_fit_are_not_written() {
    let catalog = catalog();
    let events = catalog.table("events").unwrap();
    let mut batch = RowBatch::new();
    let mut builder = batch.start(
        &catalog,
        events.id,
        Operation::Upsert,
        Position::default(),
        0,
    );
    builder.set(events.key, Value::Text("e1"));
    builder.set(events.owners[0], Value::Text("not a number"));
    builder.finish();
    let mut builder = batch.start(
        &catalog,
        events.id,
        Operation::Delete,
        Position::default(),
        0,
    );
    builder.set(events.key, Value::Text("e2"));
    builder.finish();
    let encoder = RowEncoder::new(&catalog);
    let mut out = vec![1, 2, 3];
    let messages: Vec<String> = batch
        .iter()
        .map(|row| encoder.encode(row, &mut out).unwrap_err().to_string())
        .collect();
    assert!(
        messages[0].contains("field thing, key 'e1'") && messages[1].contains("key 'e2'"),
        "{messages:?}"
    );
    assert_eq!(out, [1, 2, 3]);
}
