//! Records as producers really send them, through the shapes that read them.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::avro::cursor::{put_bytes, put_long};
use crate::shape::data_node::base64;
use crate::{Catalog, Position, Row, RowBatch, SchemaRef, Value, encode_frame};

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","namespace":"crm","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"account_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"name","type":["null","string"],"default":null},
  {"name":"annual_revenue","type":["null","double"],"default":null},
  {"name":"founded","type":["null",{"type":"int","logicalType":"date"}],"default":null},
  {"name":"renewal_at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
  {"name":"region","type":["null","string"],"default":null}]}"#;
const VISITS: &str = r#"{"type":"record","name":"Visit","namespace":"crm","leadpulse":{"table":"visits","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"kind","type":["null","string"],"default":null},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;

fn catalog() -> Catalog {
    Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap()
}

fn shape(json: Json) -> SourceShape {
    serde_json::from_value(json).unwrap()
}

/// A topic under test: its sources, and the writer schemas of its records by id.
struct Topic {
    catalog: Catalog,
    decoder: TopicDecoder,
    schemas: Vec<(u32, WriterSchema)>,
}

impl Topic {
    fn new(sources: &[(&str, Json)]) -> Result<Topic, ShapeError> {
        Topic::of(catalog(), sources)
    }

    fn of(catalog: Catalog, sources: &[(&str, Json)]) -> Result<Topic, ShapeError> {
        let mut described = Vec::new();
        for (table, json) in sources {
            described.push(TopicSource {
                table: catalog.table(table).unwrap().id,
                shape: shape(json.clone()),
            });
        }
        Ok(Topic {
            decoder: TopicDecoder::new("t", &catalog, &described)?,
            catalog,
            schemas: Vec::new(),
        })
    }

    fn with_schema(mut self, id: u32, language: SchemaLanguage, text: &str) -> Topic {
        let writer = WriterSchema {
            language,
            text: text.into(),
            references: Vec::new(),
        };
        self.schemas.push((id, writer));
        self
    }

    fn read(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(RecordFate, Vec<String>), RecordFault> {
        let record = RawRecord {
            key,
            value,
            headers,
        };
        if let Some((place, schema)) = self.decoder.needs(&record) {
            let SchemaRef::Id(id) = schema else {
                panic!("no test has schemas under {schema:?}")
            };
            let writer = self.schemas.iter().find(|(known, _)| *known == id);
            let writer = writer.expect("the test has the schema").1.clone();
            self.decoder.learn(place, schema, &writer, &self.catalog);
            assert_eq!(self.decoder.needs(&record), None);
        }
        let mut rows = RowBatch::new();
        let read = self.decoder.read(
            &record,
            &self.catalog,
            Position::default(),
            1_700,
            &mut rows,
        );
        if read.is_err() {
            assert!(rows.is_empty(), "a refused record leaves no row");
        }
        let shown = rows.iter().map(|row| self.shown(row)).collect();
        read.map(|fate| (fate, shown))
    }

    /// The rows of a value.
    fn rows(&mut self, value: &Json) -> Vec<String> {
        self.read(None, Some(value.to_string().as_bytes()), &[])
            .unwrap()
            .1
    }

    /// The words of a refusal.
    fn refusal(&mut self, value: &Json) -> String {
        let read = self.read(None, Some(value.to_string().as_bytes()), &[]);
        read.unwrap_err().to_string()
    }

    fn shown(&self, row: Row<'_>) -> String {
        let table = self.catalog.table_at(row.table());
        let mut parts = vec![format!("{:?} {}", row.operation(), table.name)];
        for field in &table.fields {
            let value = match row.get(field.id) {
                _ if row.is_unchanged(field.id) => "same".into(),
                Value::Null => continue,
                Value::Text(text) => text.to_owned(),
                Value::Time(ms) => format!("@{ms}"),
                Value::Double(number) => number.to_string(),
                other => format!("{other:?}"),
            };
            parts.push(format!("{}={value}", field.name));
        }
        parts.join(" ")
    }
}

/// Records that Debezium's and Connect's own code wrote: note, key and value.
fn fixture(name: &str) -> Vec<(String, Vec<u8>, Option<Vec<u8>>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/connect");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let mut records = Vec::new();
    for line in text.lines() {
        let json: Json = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| json[name].as_str().map(|text| base64(text).unwrap());
        let note = json["note"].as_str().unwrap().to_owned();
        records.push((note, bytes("key").unwrap(), bytes("value")));
    }
    records
}

fn fixture_text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/connect");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn debezium_records_of_its_own_converters_give_the_same_rows_in_every_format() {
    let columns = json!({"id": "account_id"});
    let avro =
        json!({"envelope": "debezium", "columns": columns, "where": {"source.table": "account"}});
    let with_schemas = json!({"format": "json", "envelope": "debezium", "columns": columns});
    let plain = json!({"format": "json", "envelope": "debezium", "columns": {"account_id": "id"},
        "times": {"founded": "days", "updated_at": "micros"}});
    let mut expected: Option<Vec<Vec<String>>> = None;
    for (file, source) in [
        ("debezium-avro.jsonl", avro),
        ("debezium-json-schemas.jsonl", with_schemas),
        ("debezium-json.jsonl", plain),
    ] {
        let mut topic = Topic::new(&[("accounts", source)])
            .unwrap()
            .with_schema(1, SchemaLanguage::Avro, &fixture_text("debezium-key.avsc"))
            .with_schema(
                2,
                SchemaLanguage::Avro,
                &fixture_text("debezium-value.avsc"),
            );
        let mut rows = Vec::new();
        for (note, key, value) in fixture(file) {
            // Without its schema a decimal is only base64.
            let value = value.map(|value| match file {
                "debezium-json.jsonl" => without_decimals(&value),
                _ => value,
            });
            let read = topic.read(Some(&key), value.as_deref(), &[]);
            let (_, found) = read.unwrap_or_else(|error| panic!("{file}, {note}: {error}"));
            rows.push(found);
        }
        assert_eq!(
            rows[0],
            [
                "Upsert accounts account_id=1 updated_at=@1736416800000 name=Company 1 \
              annual_revenue=1250000.5 founded=@1236988800000 renewal_at=@1751313600000"
            ]
        );
        assert_eq!(rows[5], ["Delete accounts account_id=3"]);
        assert_eq!(rows[6], ["Delete accounts account_id=3"]);
        assert_eq!(
            expected.get_or_insert_with(|| rows.clone()),
            &rows,
            "{file}"
        );
    }
}

fn without_decimals(value: &[u8]) -> Vec<u8> {
    let mut json: Json = serde_json::from_slice(value).unwrap();
    for side in ["before", "after"] {
        let decimal = json[side]["annual_revenue"]
            .as_str()
            .map(|text| base64(text).unwrap());
        if let Some(bytes) = decimal {
            json[side]["annual_revenue"] = crate::avro::program::decimal(&bytes, 2).into();
        }
    }
    json.to_string().into_bytes()
}

#[test]
fn an_envelope_that_no_setting_unwraps_is_named() {
    let change = json!({"before": null, "after": {"account_id": "A"}, "op": "c"});
    let mut plain = Topic::new(&[("accounts", json!({"format": "json"}))]).unwrap();
    let why = plain.refusal(&change);
    assert!(why.contains("envelope = \"debezium\""), "{why}");
    let why = plain.refusal(&json!({"ChangeEventHeader": {}, "Name": "x"}));
    assert!(why.contains("envelope = \"salesforce-cdc\""), "{why}");
    let mut avro = Topic::new(&[("accounts", json!({}))]).unwrap().with_schema(
        2,
        SchemaLanguage::Avro,
        &fixture_text("debezium-value.avsc"),
    );
    let (_, key, value) = fixture("debezium-avro.jsonl").remove(0);
    let why = avro
        .read(Some(&key), value.as_deref(), &[])
        .unwrap_err()
        .to_string();
    assert!(why.contains("envelope = \"debezium\""), "{why}");
    let why = avro.read(None, Some(b"{}"), &[]).unwrap_err().to_string();
    assert!(why.contains("format = \"json\""), "{why}");
}

#[test]
fn flattened_debezium_records_delete_by_their_flag() {
    let source =
        json!({"format": "json", "envelope": "debezium", "times": {"updated_at": "millis"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap();
    let mut row =
        json!({"account_id": 5, "updated_at": 1_700_000_000_000_i64, "__deleted": "false"});
    let found = topic.rows(&row);
    assert_eq!(
        found,
        ["Upsert accounts account_id=5 updated_at=@1700000000000"]
    );
    row["__deleted"] = "true".into();
    assert_eq!(topic.rows(&row), ["Delete accounts account_id=5"]);
    let row = json!({"account_id": 5, "__op": "u", "__source_ts_ms": 1_700_000_000_000_i64,
        "name": "__debezium_unavailable_value"});
    assert_eq!(
        topic.rows(&row),
        ["Upsert accounts account_id=5 updated_at=@1700000000000 name=same"]
    );
}

#[test]
fn a_deletion_carries_the_version_of_its_change() {
    let with = |field: &str| {
        let accounts = ACCOUNTS.replace(
            r#"{"name":"region""#,
            &format!(r#"{field},{{"name":"region""#),
        );
        Catalog::from_json(&[("a", accounts.as_str()), ("v", VISITS)]).unwrap()
    };
    let lsn =
        r#"{"name":"lsn","type":["null","long"],"default":null,"leadpulse":{"version":true}}"#;
    let source = json!({"format": "json", "envelope": "debezium", "columns": {"lsn": "source.lsn"},
        "times": {"updated_at": "millis"}});
    let mut topic = Topic::of(with(lsn), &[("accounts", source)]).unwrap();
    let row = json!({"account_id": 5, "updated_at": 1_700_000_000_000_i64});
    let change = |lsn: Json| json!({"op": "d", "before": row, "after": null, "source": {"ts_ms": 1, "lsn": lsn}});
    assert_eq!(
        topic.rows(&change(json!(71))),
        ["Delete accounts account_id=5 lsn=Long(71)"]
    );
    assert_eq!(
        topic.rows(&change(Json::Null)),
        ["Delete accounts account_id=5"]
    );
    let why = topic.refusal(&change(json!("soon")));
    assert!(why.contains("lsn"), "{why}");
    // The time of the change stands in for a time that orders versions.
    let timed = ACCOUNTS.replace(r#""time":true"#, r#""time":true,"version":true"#);
    let catalog = Catalog::from_json(&[("a", timed.as_str()), ("v", VISITS)]).unwrap();
    let source = json!({"format": "json", "envelope": "debezium"});
    let mut topic = Topic::of(catalog, &[("accounts", source)]).unwrap();
    let deletion = json!({"op": "d", "before": {"account_id": 5}, "after": null,
        "source": {"ts_ms": 1_700_000_000_000_i64}});
    assert_eq!(
        topic.rows(&deletion),
        ["Delete accounts account_id=5 updated_at=@1700000000000"]
    );
}

#[test]
fn operations_on_a_whole_table_are_refused_and_messages_are_passed_over() {
    let source = json!({"format": "json", "envelope": "debezium"});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap();
    let why = topic.refusal(&json!({"op": "t", "before": null, "after": null}));
    assert!(why.contains("whole table"), "{why}");
    let message = json!({"op": "m", "message": {}}).to_string();
    let (fate, rows) = topic.read(None, Some(message.as_bytes()), &[]).unwrap();
    assert!(matches!(fate, RecordFate::Ignored(_)) && rows.is_empty());
    let deletion = json!({"op": "d", "before": null, "after": null});
    let why = topic.refusal(&deletion);
    assert!(why.contains("REPLICA IDENTITY"), "{why}");
    let value = deletion.to_string();
    let (_, rows) = topic
        .read(Some(br#"{"account_id":"A"}"#), Some(value.as_bytes()), &[])
        .unwrap();
    assert_eq!(rows, ["Delete accounts account_id=A"]);
    for null in ["null", r#"{"schema":null,"payload":null}"#] {
        let (_, rows) = topic.read(Some(b"A"), Some(null.as_bytes()), &[]).unwrap();
        assert_eq!(rows, ["Delete accounts account_id=A"], "{null}");
    }
}

#[test]
fn a_deleted_event_is_taken_back() {
    let source = json!({"format": "json", "envelope": "debezium", "times": {"at": "micros"}});
    let mut topic = Topic::new(&[("visits", source)]).unwrap();
    let row = json!({"id": "v1", "at": 1_700_000_000_000_000_i64, "account": "A"});
    let found = topic.rows(&json!({"op": "d", "before": row, "after": null}));
    assert_eq!(found, ["Retract visits id=v1 at=@1700000000000 account=A"]);
    let (fate, _) = topic.read(Some(b"v1"), None, &[]).unwrap();
    assert!(matches!(fate, RecordFate::Ignored(_)));
    let mut plain = Topic::new(&[("visits", json!({}))]).unwrap();
    let fault = plain.read(Some(b"v1"), None, &[]).unwrap_err();
    assert!(matches!(fault, RecordFault::TombstoneOfEvent(_)), "{fault}");
}

fn salesforce() -> Topic {
    let source = json!({"format": "json", "envelope": "salesforce-cdc",
        "where": {"ChangeEventHeader.entityName": "Account"},
        "columns": {"Name": "name", "AnnualRevenue": "annual_revenue", "BillingAddress.State": "region"}});
    Topic::new(&[("accounts", source)]).unwrap()
}

#[test]
fn a_salesforce_change_gives_a_row_per_record_id_with_its_changed_fields() {
    let change = |kind: &str, changed: Json, fields: Json| {
        let mut record = json!({"ChangeEventHeader": {"entityName": "Account", "recordIds": ["001A", "001B"],
            "changeType": kind, "changedFields": changed, "commitTimestamp": 1_700_000_000_000_i64}});
        for (name, value) in fields.as_object().unwrap() {
            record[name] = value.clone();
        }
        record
    };
    let mut topic = salesforce();
    let record = change(
        "CREATE",
        json!([]),
        json!({"Name": "One", "AnnualRevenue": 5.5}),
    );
    let both = |row: &str| {
        ["001A", "001B"]
            .map(|id| row.replace("ID", &format!("account_id={id} updated_at=@1700000000000")))
    };
    assert_eq!(
        topic.rows(&record),
        both("Upsert accounts ID name=One annual_revenue=5.5")
    );
    let record = change(
        "UPDATE",
        json!(["Name", "LastModifiedDate"]),
        json!({"Name": "Two"}),
    );
    let same = "annual_revenue=same founded=same renewal_at=same";
    let expected = both(&format!("Upsert accounts ID name=Two {same} region=same"));
    assert_eq!(topic.rows(&record), expected);
    // Wrapped as the streaming API does; a listed field that is not there became null.
    let record = change("UPDATE", json!(["BillingAddress", "Name"]), json!({}));
    let wrapped = json!({"schema": "x", "payload": record, "event": {"replayId": 1}});
    assert_eq!(
        topic.rows(&wrapped),
        both(&format!("Upsert accounts ID {same}"))
    );
    let record = change("UPDATE", json!([]), json!({"Name": "Three"}));
    let expected = both(&format!("Upsert accounts ID name=Three {same} region=same"));
    assert_eq!(topic.rows(&record), expected);
    let deleted = ["001A", "001B"].map(|id| format!("Delete accounts account_id={id}"));
    assert_eq!(topic.rows(&change("DELETE", json!([]), json!({}))), deleted);
    let gaps = ["001A", "001B"].map(|id| format!("Gap accounts account_id={id}"));
    assert_eq!(
        topic.rows(&change("GAP_UPDATE", json!([]), json!({}))),
        gaps
    );
    let why = topic.refusal(&change("UPDATE", json!(["0x400040"]), json!({})));
    assert!(why.contains("bitmap 0x400040"), "{why}");
    let mut other = change("CREATE", json!([]), json!({}));
    other["ChangeEventHeader"]["entityName"] = "Contact".into();
    let (fate, _) = topic
        .read(None, Some(other.to_string().as_bytes()), &[])
        .unwrap();
    assert_eq!(fate, RecordFate::Filtered);
}

#[test]
fn bitmaps_of_changed_fields_count_the_fields_of_the_avro_schema() {
    let schema = json!({"type": "record", "name": "AccountChangeEvent", "fields": [
        {"name": "ChangeEventHeader", "type": {"type": "record", "name": "Header", "fields": [
            {"name": "recordIds", "type": {"type": "array", "items": "string"}},
            {"name": "changeType", "type": {"type": "enum", "name": "Kind", "symbols": ["CREATE", "UPDATE"]}},
            {"name": "commitTimestamp", "type": "long"},
            {"name": "changedFields", "type": {"type": "array", "items": "string"}}]}},
        {"name": "Name", "type": ["null", "string"]},
        {"name": "AnnualRevenue", "type": ["null", "double"]},
        {"name": "BillingAddress", "type": ["null", {"type": "record", "name": "Address", "fields": [
            {"name": "City", "type": ["null", "string"]}, {"name": "State", "type": ["null", "string"]}]}]}]});
    let source = json!({"envelope": "salesforce-cdc",
        "columns": {"Name": "name", "AnnualRevenue": "annual_revenue", "BillingAddress.State": "region"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap().with_schema(
        7,
        SchemaLanguage::Avro,
        &schema.to_string(),
    );
    let mut body = Vec::new();
    put_long(1, &mut body);
    put_bytes(b"001A", &mut body);
    put_long(0, &mut body);
    put_long(1, &mut body); // UPDATE
    put_long(1_700_000_000_000, &mut body);
    put_long(2, &mut body);
    put_bytes(b"0x02", &mut body);
    put_bytes(b"3-0x02", &mut body);
    put_long(0, &mut body);
    put_long(1, &mut body);
    put_bytes(b"New", &mut body);
    put_long(0, &mut body); // AnnualRevenue: null, and not changed
    put_long(1, &mut body);
    put_long(0, &mut body);
    put_long(1, &mut body);
    put_bytes(b"CA", &mut body);
    let mut value = Vec::new();
    encode_frame(7, &body, &mut value);
    let (_, rows) = topic.read(None, Some(&value), &[]).unwrap();
    assert_eq!(
        rows,
        [
            "Upsert accounts account_id=001A updated_at=@1700000000000 name=New annual_revenue=same \
          founded=same renewal_at=same region=CA"
        ]
    );
}

#[test]
fn segment_and_cloudevents_are_read_by_their_presets() {
    let source = json!({"format": "json", "envelope": "segment", "where": {"type": "track"},
        "columns": {"id": "messageId", "kind": "event", "account": "context.groupId"}});
    let mut topic = Topic::new(&[("visits", source)]).unwrap();
    let call = json!({"messageId": "m1", "type": "track", "event": "Viewed",
        "timestamp": "2023-11-14T22:13:20.000Z", "context": {"groupId": "A"}, "properties": {}});
    assert_eq!(
        topic.rows(&call),
        ["Upsert visits id=m1 kind=Viewed at=@1700000000000 account=A"]
    );
    let (fate, _) = topic
        .read(None, Some(br#"{"type":"identify"}"#), &[])
        .unwrap();
    assert_eq!(fate, RecordFate::Filtered);

    let source = json!({"format": "json", "envelope": "cloudevents",
        "columns": {"visit": "id", "kind": "type"}});
    let expected = ["Upsert visits id=v1 kind=crm.visit at=@1700000000000 account=A"];
    let mut topic = Topic::new(&[("visits", source)]).unwrap();
    let event = json!({"specversion": "1.0", "id": "e", "type": "crm.visit", "time": "2023-11-14T22:13:20Z",
        "data": {"visit": "v1", "account": "A"}});
    assert_eq!(topic.rows(&event), expected);
    let headers: [(&str, &[u8]); 3] = [
        ("ce_id", b"e"),
        ("ce_type", b"crm.visit"),
        ("ce_time", b"2023-11-14T22:13:20Z"),
    ];
    let data = event["data"].to_string();
    let (_, rows) = topic.read(None, Some(data.as_bytes()), &headers).unwrap();
    assert_eq!(rows, expected);
}

#[test]
fn an_envelope_of_ones_own_may_hold_several_rows() {
    let source = json!({"format": "json", "times": {"at": "seconds"},
        "envelope": {"row": "batch.items", "operation": "verb", "delete": ["gone"]}});
    let mut topic = Topic::new(&[("visits", source)]).unwrap();
    let items = json!([{"id": 1, "at": 1_700_000_000, "account": "A"}, {"id": 2, "at": 1_700_000_001, "account": "B"}]);
    let record = json!({"verb": "anything", "batch": {"items": items}});
    let expected = [
        "Upsert visits id=1 at=@1700000000000 account=A",
        "Upsert visits id=2 at=@1700000001000 account=B",
    ];
    assert_eq!(topic.rows(&record), expected);
    let retracted = expected.map(|row| row.replace("Upsert", "Retract"));
    let record = json!({"verb": "gone", "batch": {"items": items}});
    assert_eq!(topic.rows(&record), retracted);
    // One bad row of a record refuses the record.
    let record = json!({"batch": {"items": [items[0], {"id": 3}]}});
    topic.refusal(&record);
    // Without an envelope an array holds whole records.
    let source = json!({"format": "json", "times": {"at": "seconds"}});
    let mut topic = Topic::new(&[("visits", source)]).unwrap();
    assert_eq!(topic.rows(&items), expected);
}

#[test]
fn a_number_without_a_unit_is_refused_in_every_format() {
    let record = json!({"account_id": "A", "updated_at": 1_700_000_000_000_000_i64});
    let mut topic = Topic::new(&[("accounts", json!({"format": "json"}))]).unwrap();
    let why = topic.refusal(&record);
    assert!(
        why.contains("updated_at") && why.contains("\"micros\""),
        "{why}"
    );
    let declared = json!({"format": "json", "times": {"updated_at": "millis"}});
    let mut topic = Topic::new(&[("accounts", declared)]).unwrap();
    let why = topic.refusal(&record);
    assert!(why.contains("plausible") && why.contains("micros"), "{why}");

    let schema = r#"{"type":"record","name":"A","fields":[{"name":"account_id","type":"string"},{"name":"updated_at","type":"long"}]}"#;
    let mut value = Vec::new();
    let mut body = Vec::new();
    put_bytes(b"A", &mut body);
    put_long(1_700_000_000_000_000, &mut body);
    encode_frame(3, &body, &mut value);
    let avro = |source: Json| {
        let topic = Topic::new(&[("accounts", source)]).unwrap();
        let mut topic = topic.with_schema(3, SchemaLanguage::Avro, schema);
        topic.read(None, Some(&value), &[])
    };
    let why = avro(json!({})).unwrap_err().to_string();
    assert!(why.contains("updated_at") && why.contains("times"), "{why}");
    let why = avro(json!({"times": {"updated_at": "millis"}}))
        .unwrap_err()
        .to_string();
    assert!(why.contains("plausible") && why.contains("micros"), "{why}");
    let (_, rows) = avro(json!({"times": {"updated_at": "micros"}})).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
}

#[test]
fn keys_of_tombstones_are_read_as_text_json_and_frames() {
    let key_schema = r#"{"type":"record","name":"Key","fields":[{"name":"uid","type":"long"}]}"#;
    let source = json!({"columns": {"uid": "account_id"}});
    let mut topic = Topic::new(&[("accounts", source)])
        .unwrap()
        .with_schema(4, SchemaLanguage::Avro, "\"string\"")
        .with_schema(5, SchemaLanguage::Avro, key_schema)
        .with_schema(6, SchemaLanguage::Avro, "\"long\"")
        .with_schema(7, SchemaLanguage::JsonSchema, "{}");
    let keys: [(&[u8], &str); 12] = [
        (b"A-1", "A-1"),
        (b"\"A-4\"", "A-4"),
        (b"17", "17"),
        (b"90071992547409931", "90071992547409931"),
        (br#"{"uid":"A-2"}"#, "A-2"),
        (br#"{"account_id":7,"tenant":"x"}"#, "7"),
        (br#"{"schema":{"type":"struct"},"payload":{"uid":9}}"#, "9"),
        (br#"{"schema":{"type":"string"},"payload":"A-9"}"#, "A-9"),
        (b"\0\0\0\0\x04\x06A-3", "A-3"),
        (b"\0\0\0\0\x05\x0e", "7"),
        (b"\0\0\0\0\x06\x0e", "7"),
        (b"\0\0\0\0\x07{\"uid\":1}", "1"),
    ];
    for (key, expected) in keys {
        let read = topic.read(Some(key), None, &[]);
        let rows = read.unwrap_or_else(|error| panic!("{key:?}: {error}")).1;
        assert_eq!(rows, [format!("Delete accounts account_id={expected}")]);
    }
    let refused: [Option<&[u8]>; 8] = [
        None,
        Some(b""),
        Some(b"\xff\xfe"),
        Some(b"{\"other\":1}"),
        Some(b"{broken"),
        Some(b"[1]"),
        Some(b"{\"uid\":null}"),
        Some(b"\0\0\0\0\x04\x08A-3"),
    ];
    for key in refused {
        let fault = topic.read(key, None, &[]).unwrap_err();
        assert!(matches!(fault, RecordFault::Invalid(_)), "{key:?}: {fault}");
    }
}

#[test]
fn sources_of_one_topic_take_their_records_by_field() {
    let mut topic = Topic::new(&[
        ("accounts", json!({"format": "json", "where": {"type": ["account", "company"]}, "times": {"updated_at": "seconds"}})),
        ("visits", json!({"format": "json", "where": {"type": "visit", "live": true}, "times": {"at": "seconds"}})),
    ])
    .unwrap();
    let account = json!({"type": "company", "account_id": "A", "updated_at": 1_700_000_000});
    let visit =
        json!({"type": "visit", "live": true, "id": "v", "at": 1_700_000_000, "account": "A"});
    assert_eq!(
        topic.rows(&account),
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
    assert_eq!(
        topic.rows(&visit),
        ["Upsert visits id=v at=@1700000000000 account=A"]
    );
    let (fate, _) = topic
        .read(None, Some(br#"{"type":"visit","live":false}"#), &[])
        .unwrap();
    assert_eq!(fate, RecordFate::Filtered);
    // A tombstone belongs to the entity tables; it cannot be filtered.
    let (_, rows) = topic.read(Some(b"A"), None, &[]).unwrap();
    assert_eq!(rows, ["Delete accounts account_id=A"]);
    let fault = topic.read(None, Some(b"no json"), &[]).unwrap_err();
    assert!(matches!(fault, RecordFault::Frame(_)), "{fault}");
}

#[test]
fn sources_of_plain_avro_are_told_apart_by_the_names_of_their_records() {
    let mut topic = Topic::new(&[("accounts", json!({})), ("visits", json!({}))])
        .unwrap()
        .with_schema(1, SchemaLanguage::Avro, ACCOUNTS)
        .with_schema(
            2,
            SchemaLanguage::Avro,
            &VISITS.replace("\"crm\"", "\"other\""),
        )
        .with_schema(3, SchemaLanguage::Avro, &VISITS.replace("Visit", "Click"));
    let mut account = Vec::new();
    put_bytes(b"A", &mut account);
    put_long(1_700_000_000_000, &mut account);
    account.extend([0; 5]);
    let mut visit = Vec::new();
    put_bytes(b"v", &mut visit);
    put_long(0, &mut visit);
    put_long(1_700_000_000_000, &mut visit);
    put_bytes(b"A", &mut visit);
    let framed = |id: u32, body: &[u8]| {
        let mut value = Vec::new();
        encode_frame(id, body, &mut value);
        value
    };
    let (_, rows) = topic.read(None, Some(&framed(1, &account)), &[]).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
    let (_, rows) = topic.read(None, Some(&framed(2, &visit)), &[]).unwrap();
    assert_eq!(rows, ["Upsert visits id=v at=@1700000000000 account=A"]);
    let why = topic
        .read(None, Some(&framed(3, &visit)), &[])
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("crm.Click") && why.contains("accounts, visits"),
        "{why}"
    );
    // With a name in the filter of one, what fits none is passed over.
    let mut topic = Topic::new(&[
        ("accounts", json!({})),
        ("visits", json!({"where": {"@name": "Visit"}})),
    ])
    .unwrap()
    .with_schema(
        2,
        SchemaLanguage::Avro,
        &VISITS.replace("\"crm\"", "\"other\""),
    )
    .with_schema(3, SchemaLanguage::Avro, &VISITS.replace("Visit", "Click"));
    let (_, rows) = topic.read(None, Some(&framed(2, &visit)), &[]).unwrap();
    assert_eq!(rows.len(), 1);
    let (fate, _) = topic.read(None, Some(&framed(3, &visit)), &[]).unwrap();
    assert_eq!(fate, RecordFate::Filtered);
}

#[test]
fn a_schema_that_is_no_row_of_one_source_leaves_its_records_to_the_others() {
    let schema = r#"{"type":"record","name":"Any","fields":[{"name":"type","type":"string"},{"name":"account_id","type":"string"},
        {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
    let mut topic = Topic::new(&[
        ("accounts", json!({"where": {"type": "account"}})),
        ("visits", json!({"where": {"type": "visit"}})),
    ])
    .unwrap()
    .with_schema(1, SchemaLanguage::Avro, schema);
    let value = |kind: &[u8]| {
        let (mut body, mut value) = (Vec::new(), Vec::new());
        put_bytes(kind, &mut body);
        put_bytes(b"A", &mut body);
        put_long(1_700_000_000_000, &mut body);
        encode_frame(1, &body, &mut value);
        value
    };
    let (_, rows) = topic.read(None, Some(&value(b"account")), &[]).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
    let why = topic
        .read(None, Some(&value(b"visit")), &[])
        .unwrap_err()
        .to_string();
    assert!(why.contains("table visits"), "{why}");
    let (fate, _) = topic.read(None, Some(&value(b"other")), &[]).unwrap();
    assert_eq!(fate, RecordFate::Filtered);
}

#[test]
fn sources_that_cannot_be_told_apart_are_refused() {
    let json = json!({"format": "json"});
    let filtered = json!({"format": "json", "where": {"a": 1}});
    for sources in [
        [("accounts", json.clone()), ("visits", json.clone())],
        [("accounts", filtered.clone()), ("visits", json.clone())],
        [("accounts", json!({})), ("accounts", json!({}))],
    ] {
        let error = Topic::new(&sources).err().unwrap();
        assert!(matches!(error, ShapeError::Ambiguous { .. }), "{error}");
        assert!(error.to_string().contains("where"), "{error}");
    }
    Topic::new(&[("accounts", filtered.clone()), ("visits", filtered)]).unwrap();
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    for (source, part) in [
        (json!({"columns": {"a": "b"}}), "'b'"),
        (json!({"times": {"name": "millis"}}), "not a time"),
        (json!({"times": {"when": "millis"}}), "'when'"),
        (json!({"times": {"updated_at": "fortnights"}}), "fortnights"),
        (json!({"envelope": "debezum"}), "debezium"),
        (json!({"where": {"a": []}}), "at least one value"),
    ] {
        let error = Topic::new(&[("accounts", source)])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("accounts") && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn nested_members_of_avro_records_feed_fields() {
    let schema = json!({"type": "record", "name": "A", "fields": [
        {"name": "account_id", "type": "string"},
        {"name": "meta", "type": ["null", {"type": "record", "name": "M", "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "labels", "type": {"type": "map", "values": "string"}},
            {"name": "list", "type": {"type": "array", "items": "double"}}]}]}]});
    let source = json!({"columns": {"updated_at": "meta.at", "region": "meta.labels.region", "annual_revenue": "meta.list.1"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap().with_schema(
        1,
        SchemaLanguage::Avro,
        &schema.to_string(),
    );
    let mut body = Vec::new();
    put_bytes(b"A", &mut body);
    put_long(1, &mut body);
    put_long(1_700_000_000_000_001, &mut body);
    put_long(1, &mut body);
    put_bytes(b"region", &mut body);
    put_bytes(b"EMEA", &mut body);
    put_long(0, &mut body);
    put_long(2, &mut body);
    body.extend(1.0_f64.to_le_bytes());
    body.extend(2.5_f64.to_le_bytes());
    put_long(0, &mut body);
    let mut value = Vec::new();
    encode_frame(1, &body, &mut value);
    let (_, rows) = topic.read(None, Some(&value), &[]).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000 annual_revenue=2.5 region=EMEA"]
    );
}

#[test]
fn json_schema_and_protobuf_are_read_under_their_schemas() {
    let schema = json!({"title": "crm.Account", "type": "object", "properties": {
        "updated_at": {"type": "integer", "title": "io.debezium.time.MicroTimestamp", "connect.type": "int64"}}});
    let source = json!({"format": "json-schema", "where": {"@name": "Account"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap().with_schema(
        8,
        SchemaLanguage::JsonSchema,
        &schema.to_string(),
    );
    let body = json!({"account_id": "A", "updated_at": 1_700_000_000_000_001_i64}).to_string();
    let mut value = Vec::new();
    encode_frame(8, body.as_bytes(), &mut value);
    let expected = ["Upsert accounts account_id=A updated_at=@1700000000000"];
    assert_eq!(topic.read(None, Some(&value), &[]).unwrap().1, expected);

    let schema = r#"syntax = "proto3"; package crm; import "google/protobuf/timestamp.proto";
        message Account { string account_id = 1; google.protobuf.Timestamp updated_at = 2; }"#;
    let source = json!({"format": "protobuf"});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap().with_schema(
        9,
        SchemaLanguage::Protobuf,
        schema,
    );
    let body = [0, 10, 1, b'A', 18, 6, 8, 0x80, 0xe2, 0xcf, 0xaa, 0x06];
    let mut value = Vec::new();
    encode_frame(9, &body, &mut value);
    let (_, rows) = topic.read(None, Some(&value), &[]).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
    // A schema of another language is named.
    let topic = Topic::new(&[("accounts", json!({}))]).unwrap();
    let mut topic = topic.with_schema(9, SchemaLanguage::Protobuf, schema);
    let why = topic.read(None, Some(&value), &[]).unwrap_err().to_string();
    assert!(why.contains("format = \"protobuf\""), "{why}");
}

#[test]
fn what_no_record_fits_is_told_once() {
    let source = json!({"format": "json", "columns": {"name": "title", "Region": "region"},
        "times": {"updated_at": "seconds"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap();
    let record = json!({"account_id": "A", "updated_at": 1_700_000_000, "title": "x"});
    topic.rows(&record);
    assert!(topic.decoder.remarks(&topic.catalog, false).is_empty());
    let remarks = topic.decoder.remarks(&topic.catalog, true);
    let remarks: Vec<String> = remarks.into_iter().map(|remark| remark.text).collect();
    let remarks = remarks.join("\n");
    assert!(remarks.contains("at Region for region"), "{remarks}");
    assert!(
        remarks.contains("fed annual_revenue, founded, renewal_at"),
        "{remarks}"
    );
    assert!(topic.decoder.remarks(&topic.catalog, true).is_empty());
}

#[test]
fn single_objects_are_read_by_the_fingerprint_of_their_schema() {
    let mut topic = Topic::new(&[("accounts", json!({}))]).unwrap();
    let mut value = vec![0xc3, 0x01];
    value.extend(5_u64.to_le_bytes());
    put_bytes(b"A", &mut value);
    put_long(1_700_000_000_000, &mut value);
    value.extend([0; 5]);
    let record = RawRecord {
        key: None,
        value: Some(&value),
        headers: &[],
    };
    let needed = topic.decoder.needs(&record);
    assert_eq!(
        needed,
        Some((SchemaPlace::Value, SchemaRef::Fingerprint(5)))
    );
    let writer = WriterSchema::avro(ACCOUNTS);
    let (place, schema) = needed.unwrap();
    topic.decoder.learn(place, schema, &writer, &topic.catalog);
    let (_, rows) = topic.read(None, Some(&value), &[]).unwrap();
    assert_eq!(
        rows,
        ["Upsert accounts account_id=A updated_at=@1700000000000"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bytes as value and key, bare and behind a known schema id, in every format.
    #[test]
    fn no_bytes_stop_a_reader(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        cut in 0_usize..400,
        schema in 1_u32..5,
    ) {
        let proto = "syntax = \"proto3\"; message M { string a = 1; map<string, M> b = 2; }";
        for format in ["avro", "json", "json-schema", "protobuf"] {
            for envelope in ["none", "debezium", "salesforce-cdc", "cloudevents"] {
                let source = json!({"format": format, "envelope": envelope, "columns": {"region": "a.0.b"}});
                let mut topic = Topic::new(&[("accounts", source)]).unwrap()
                    .with_schema(1, SchemaLanguage::Avro, ACCOUNTS)
                    .with_schema(2, SchemaLanguage::Avro, &fixture_text("debezium-value.avsc"))
                    .with_schema(3, SchemaLanguage::JsonSchema, "{}")
                    .with_schema(4, SchemaLanguage::Protobuf, proto);
                let mut framed = Vec::new();
                encode_frame(schema, &bytes, &mut framed);
                drop(topic.read(None, Some(&framed), &[]));
                drop(topic.read(Some(&framed), None, &[]));
                if bytes.first().is_none_or(|first| ![0, 0xc3].contains(first)) {
                    drop(topic.read(None, Some(&bytes), &[]));
                    drop(topic.read(Some(&bytes), None, &[]));
                }
                let (_, _, value) = fixture("debezium-avro.jsonl").remove(4);
                let mut damaged = value.unwrap();
                let at = 5 + cut % (damaged.len() - 5);
                damaged[at] ^= bytes.first().copied().unwrap_or(1);
                if format == "avro" {
                    drop(topic.read(None, Some(&damaged), &[]));
                    drop(topic.read(None, Some(&damaged[..at]), &[]));
                }
            }
        }
    }
}

#[test]
fn keys_of_several_paths_are_made_for_rows_deletions_and_tombstones() {
    let key = json!(["region", "meta.number"]);
    let source = json!({"format": "json", "envelope": "debezium", "key": key,
        "times": {"updated_at": "millis"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap();
    let row = json!({"region": "EU", "meta": {"number": 7}, "updated_at": 1_700_000_000_000_i64});
    let created = json!({"op": "c", "before": null, "after": row, "ts_ms": 1});
    assert_eq!(
        topic.rows(&created),
        ["Upsert accounts account_id=EU:7 updated_at=@1700000000000 region=EU"]
    );
    let deleted = json!({"op": "d", "before": row, "after": null, "ts_ms": 2});
    let rows = topic.rows(&deleted);
    assert!(
        rows[0].starts_with("Delete accounts account_id=EU:7"),
        "{rows:?}"
    );
    let lacking = json!({"op": "c", "after": {"region": "EU", "updated_at": 1_700_000_000_000_i64}, "ts_ms": 1});
    let words = topic.refusal(&lacking);
    assert!(
        words.contains("field meta.number") && words.contains("part of the key"),
        "{words}"
    );
    let keys: [&[u8]; 3] = [
        br#"{"region":"EU","meta":{"number":7}}"#,
        br#"{"number":"7","region":"EU"}"#,
        b"EU:7",
    ];
    for key in keys {
        let rows = topic.read(Some(key), None, &[]).unwrap().1;
        assert!(
            rows[0].starts_with("Delete accounts account_id=EU:7"),
            "{rows:?}"
        );
    }
    let fault = topic
        .read(Some(br#"{"region":"EU"}"#), None, &[])
        .unwrap_err();
    assert!(fault.to_string().contains("no 'meta.number'"), "{fault}");
}

#[test]
fn keys_of_whole_rows_leave_out_what_happened_to_the_row() {
    let source = json!({"format": "json", "envelope": "debezium", "key": "@row",
        "times": {"updated_at": "millis"}});
    let mut topic = Topic::new(&[("accounts", source)]).unwrap();
    let key = |rows: Vec<String>| rows[0].split(' ').nth(2).unwrap().to_owned();
    let mut flat = json!({"name": "x", "updated_at": 1_700_000_000_000_i64, "__op": "c", "__deleted": "false"});
    let created = key(topic.rows(&flat));
    flat["__op"] = "d".into();
    flat["__deleted"] = "true".into();
    assert_eq!(key(topic.rows(&flat)), created);
    let avro = Topic::new(&[("visits", json!({"key": "@row"}))]).unwrap();
    let mut avro = avro.with_schema(1, SchemaLanguage::Avro, VISITS);
    let mut visit = Vec::new();
    put_bytes(b"", &mut visit);
    visit.push(0);
    put_long(1_700_000_000_000, &mut visit);
    put_bytes(b"A", &mut visit);
    let mut value = Vec::new();
    encode_frame(1, &visit, &mut value);
    let rows = avro.read(None, Some(&value), &[]).unwrap().1;
    let json = json!({"format": "json", "key": "@row", "times": {"at": "millis"}});
    let mut bare = Topic::new(&[("visits", json)]).unwrap();
    let same = json!({"account": "A", "at": 1_700_000_000_000_i64});
    assert_eq!(bare.rows(&same), rows);
}

#[test]
fn keys_and_references_have_one_spelling_however_they_come() {
    let accounts = ACCOUNTS.replace(
        r#""leadpulse":{"key":true}"#,
        r#""leadpulse":{"key":true,"normalise":["trim","salesforce-id"]}"#,
    );
    let catalog = || Catalog::from_json(&[("a", accounts.as_str()), ("v", VISITS)]).unwrap();
    let long = "001D000000IqhSLIAZ";
    let source = json!({"format": "json", "times": {"updated_at": "millis", "at": "millis"}});
    let accounts_source = json!({"format": "json", "times": {"updated_at": "millis"}});
    let mut topic = Topic::of(catalog(), &[("accounts", accounts_source)]).unwrap();
    let at = 1_700_000_000_000_i64;
    for id in ["001D000000IqhSL", " 001d000000iqhsliaz "] {
        let rows = topic.rows(&json!({"account_id": id, "updated_at": at}));
        assert_eq!(
            rows,
            [format!(
                "Upsert accounts account_id={long} updated_at=@{at}"
            )]
        );
        for key in [id.to_owned(), json!({ "account_id": id }).to_string()] {
            let rows = topic.read(Some(key.as_bytes()), None, &[]).unwrap().1;
            assert_eq!(rows, [format!("Delete accounts account_id={long}")]);
        }
        let catalog = catalog();
        let table = catalog.table("accounts").unwrap().id;
        assert_eq!(catalog.normalised_key(table, id), long);
    }
    // A reference has the spelling of the key it leads to.
    let mut visits = source;
    visits["times"] = json!({"at": "millis"});
    let mut topic = Topic::of(catalog(), &[("visits", visits)]).unwrap();
    let rows = topic.rows(&json!({"id": "v", "at": at, "account": "001D000000IqhSL"}));
    assert_eq!(
        rows,
        [format!("Upsert visits id=v at=@{at} account={long}")]
    );
    let topic = Topic::of(catalog(), &[("visits", json!({}))]).unwrap();
    let mut avro = topic.with_schema(1, SchemaLanguage::Avro, VISITS);
    let (mut visit, mut value) = (Vec::new(), Vec::new());
    put_bytes(b"v", &mut visit);
    visit.push(0);
    put_long(at, &mut visit);
    put_bytes(b"001D000000IqhSL", &mut visit);
    encode_frame(1, &visit, &mut value);
    assert_eq!(avro.read(None, Some(&value), &[]).unwrap().1, rows);
    let misplaced = ACCOUNTS.replace(
        r#"{"name":"name","type""#,
        r#"{"name":"name","leadpulse":{"normalise":["lower"]},"type""#,
    );
    let faults = Catalog::from_json(&[("a", misplaced.as_str()), ("v", VISITS)]).unwrap_err();
    assert!(
        faults[0].to_string().contains("no key and no reference"),
        "{}",
        faults[0]
    );
}
