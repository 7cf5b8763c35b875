use super::*;
use crate::catalog::Catalog;

fn field<'d>(draft: &'d Draft, name: &str) -> &'d Json {
    let fields = draft.schema["fields"].as_array().unwrap();
    fields
        .iter()
        .find(|field| field["name"] == name)
        .unwrap_or_else(|| panic!("{name} is not among {fields:?}"))
}

/// Loads the draft of a root beside a table of events.
#[track_caller]
fn loads(draft: &Draft) {
    let root = draft.schema["leadpulse"]["table"].as_str().unwrap();
    let visits = json!({"type": "record", "name": "Visit",
      "leadpulse": {"table": "visits", "role": "event"},
      "fields": [
        {"name": "visit_id", "type": "string", "leadpulse": {"key": true}},
        {"name": "of", "type": "string", "leadpulse": {"ref": root, "owner": true}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
         "leadpulse": {"time": true}}]});
    let texts = [draft.schema.to_string(), visits.to_string()];
    if let Err(faults) =
        Catalog::from_json(&[("draft.avsc", &texts[0]), ("visits.avsc", &texts[1])])
    {
        panic!("{faults:?} in {}", texts[0]);
    }
}

fn accounts() -> [KnownTable; 1] {
    let accounts = r#"{"type": "record", "name": "Account",
      "leadpulse": {"table": "accounts", "role": "root"},
      "fields": [{"name": "account_id", "type": "string", "leadpulse": {"key": true}}]}"#;
    [KnownTable::declared_in(accounts).unwrap()]
}

#[test]
fn a_change_envelope_is_drafted_from_the_row_inside() {
    let writer = r#"{"type": "record", "name": "Envelope", "namespace": "pg.public.account", "fields": [
      {"name": "before", "default": null, "type": ["null", {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"},
        {"name": "annualRevenue", "type": ["null", {"type": "bytes", "scale": 2, "precision": 12,
          "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal"}], "default": null},
        {"name": "updated_at", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}}]}]},
      {"name": "after", "type": ["null", "Value"], "default": null},
      {"name": "op", "type": "string"}]}"#;
    let draft = draft(SchemaLanguage::Avro, writer, "accounts", None, &[]).unwrap();
    assert_eq!(draft.envelope, Some("debezium"));
    assert_eq!(draft.schema["leadpulse"]["role"], "root");
    assert_eq!(field(&draft, "id")["leadpulse"]["key"], true);
    assert_eq!(
        field(&draft, "annual_revenue")["type"],
        json!(["null", "double"])
    );
    assert_eq!(draft.columns["annualRevenue"], "annual_revenue");
    assert_eq!(field(&draft, "updated_at")["leadpulse"]["time"], true);
    assert!(draft.times.is_empty(), "the type's name declares the unit");
    loads(&draft);
}

#[test]
fn a_nested_event_is_flattened_and_refers_to_known_tables() {
    let writer = r##"{"title": "Track", "type": "object", "properties": {
      "messageId": {"type": "string"},
      "timestamp": {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
      "sent_at": {"type": "integer"},
      "context": {"$ref": "#/definitions/Context"},
      "tags": {"type": "array", "items": {"type": "string"}},
      "anything": {}},
      "definitions": {"Context": {"type": "object", "properties": {
        "account_id": {"type": ["null", "string"]}}}}}"##;
    let found = draft(
        SchemaLanguage::JsonSchema,
        writer,
        "track_calls",
        None,
        &accounts(),
    );
    let draft = found.unwrap();
    assert_eq!(draft.columns["context.account_id"], "context_account_id");
    assert_eq!(field(&draft, "message_id")["leadpulse"]["key"], true);
    assert_eq!(draft.times["timestamp"], "iso");
    assert_eq!(draft.times["sent_at"], "?");
    let remarks = draft.remarks.join("\n");
    assert!(remarks.contains("left out: anything"), "{remarks}");
    assert!(remarks.contains("unit of sent_at"), "{remarks}");
}

#[test]
fn a_reference_is_found_by_the_key_of_the_table_it_leads_to() {
    let writer = r#"{"type": "record", "name": "Visit", "fields": [
      {"name": "visit_id", "type": "string"},
      {"name": "account_id", "type": "string"},
      {"name": "occurred_at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
    let found = draft(SchemaLanguage::Avro, writer, "visits", None, &accounts());
    let draft = found.unwrap();
    assert_eq!(draft.schema["leadpulse"]["role"], "event");
    let expected = json!({"ref": "accounts", "owner": true});
    assert_eq!(field(&draft, "account_id")["leadpulse"], expected);
    assert!(draft.columns.is_empty(), "{:?}", draft.columns);
}

#[test]
fn a_message_is_drafted_with_its_well_known_types() {
    let writer = r#"syntax = "proto3";
      package crm;
      import "google/protobuf/timestamp.proto";
      message Lead {
        string id = 1;
        Source source = 2;
        google.protobuf.Timestamp created_at = 3;
        repeated string tags = 4;
        map<string, string> extra = 5;
        message Source { string campaign = 1; int64 visits = 2; }
      }"#;
    let draft = draft(
        SchemaLanguage::Protobuf,
        writer,
        "leads",
        Some(Role::Root),
        &[],
    )
    .unwrap();
    assert_eq!(draft.schema["name"], "Lead");
    assert_eq!(
        field(&draft, "source_visits")["type"],
        json!(["null", "long"])
    );
    assert_eq!(draft.columns["source.campaign"], "source_campaign");
    assert!(draft.times.is_empty());
    assert!(
        draft.remarks.iter().any(|r| r.contains("left out: extra")),
        "{:?}",
        draft.remarks
    );
    loads(&draft);
}

#[test]
fn a_schema_without_columns_is_refused_in_words() {
    let refused = |language, text: &str| draft(language, text, "t", None, &[]).unwrap_err();
    assert_eq!(
        refused(SchemaLanguage::Avro, "\"string\""),
        DraftError::NotARecord
    );
    assert!(matches!(
        refused(SchemaLanguage::Avro, "{"),
        DraftError::Unreadable { .. }
    ));
    assert_eq!(
        refused(SchemaLanguage::JsonSchema, "{}"),
        DraftError::NotARecord
    );
    assert!(matches!(
        refused(SchemaLanguage::Protobuf, "message {"),
        DraftError::Unreadable { .. }
    ));
    // A type that contains itself comes to an end.
    let recursive =
        r##"{"type": "object", "properties": {"next": {"$ref": "#"}, "id": {"type": "string"}}}"##;
    assert!(draft(SchemaLanguage::JsonSchema, recursive, "t", None, &[]).is_ok());
}

#[test]
fn names_of_any_convention_become_snake_case() {
    let cases = [
        ("annualRevenue", "annual_revenue"),
        ("AccountId", "account_id"),
        ("address.region", "address_region"),
        ("Kebab-Case Name", "kebab_case_name"),
        ("2nd", "_2nd"),
        ("ÜÖ", "field"),
    ];
    for (name, expected) in cases {
        assert_eq!(snake(name), expected, "{name}");
    }
}
