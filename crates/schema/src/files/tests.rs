//! The same rows from every kind of file; each bad row or file named as it should be.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apache_avro::{Codec, Schema, Writer};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{FileError, FileOptions, FileReader};
use crate::{Catalog, Position, RowBatch, ShapeError, SourceShape, Value};

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
const ORDERS: &str = r#"{"type":"record","name":"Order","leadpulse":{"table":"orders","role":"event"},"fields":[
  {"name":"id","type":"long","leadpulse":{"key":true}},
  {"name":"at","aliases":["ts"],"type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"amount","type":["null","double"],"default":null},
  {"name":"cancelled","type":"boolean","default":false},
  {"name":"channel","type":{"type":"enum","name":"Channel","symbols":["web","shop"]}},
  {"name":"tags","type":{"type":"array","items":"string"},"default":[]},
  {"name":"entered","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}"#;

const CSV: &str = "\u{feff}id,ts,account,amount,cancelled,channel,tags,ignored,entered\n\
  7,2010-01-01 00:00:01,a1,2.5,1,web,x; y|z,?,1262304005000\n\
  8,1262304002000,a2,,false,shop,,?,2010-01-01T00:00:06Z\n\
  9,2010-01-01T01:00:03+01:00,\"a,3\",4,TRUE,web,\"é\",?,2010-01-01 00:00:07\n";
const JSON: &str = concat!(
    r#"{"id":7,"at":"2010-01-01 00:00:01","account":"a1","amount":2.5,"cancelled":true,"channel":"web","tags":["x","y","z"],"entered":1262304005000}"#,
    "\n\n",
    r#"{"channel":"shop","id":"8","ts":1262304002000,"account":"a2","amount":null,"other":{"nested":[1]},"entered":"2010-01-01T00:00:06Z"}"#,
    "\n",
    r#"{"id":9,"at":1262304003000,"account":"a,3","amount":4,"cancelled":1,"channel":"web","tags":["é"],"entered":"2010-01-01 00:00:07"}"#
);

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::from_json(&[("a", ACCOUNTS), ("o", ORDERS)]).unwrap())
}

fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    if name.ends_with(".gz") {
        let mut gz = GzEncoder::new(file, Compression::fast());
        gz.write_all(content).unwrap();
        gz.finish().unwrap();
    } else {
        file.write_all(content).unwrap();
    }
    path
}

fn open(path: &Path, options: FileOptions) -> Result<FileReader, FileError> {
    let catalog = catalog();
    let orders = catalog.table("orders").unwrap().id;
    FileReader::open(path, catalog, orders, options)
}

fn shape(json: &str) -> SourceShape {
    serde_json::from_str(json).unwrap()
}

/// All rows, read two at a time, and all errors.
fn read_all(reader: &mut FileReader) -> (RowBatch, Vec<FileError>) {
    let (mut batch, mut errors) = (RowBatch::new(), Vec::new());
    loop {
        match reader.read(&mut batch, 2) {
            Ok(0) => return (batch, errors),
            Ok(count) => assert!(count <= 2),
            Err(error) => {
                let over = !error.is_row();
                errors.push(error);
                if over {
                    return (batch, errors);
                }
            }
        }
    }
}

/// A batch, for people: table fields in order, known time, position.
fn shown(batch: &RowBatch) -> Vec<String> {
    let value = |v: Value<'_>| match v {
        Value::List(list) => format!("{:?}", list.iter().collect::<Vec<_>>()),
        other => format!("{other:?}"),
    };
    let catalog = catalog();
    let fields = &catalog.table("orders").unwrap().fields;
    batch
        .iter()
        .map(|row| {
            format!(
                "{:?} {} {:?}",
                fields
                    .iter()
                    .map(|f| value(row.get(f.id)))
                    .collect::<Vec<_>>(),
                row.known_ms(),
                row.position()
            )
        })
        .collect()
}

/// The rows of [`CSV`] as a container file.
fn container(codec: Codec) -> Vec<u8> {
    let schema = Schema::parse_str(ORDERS).unwrap();
    let catalog = catalog();
    let dir = tempfile::tempdir().unwrap();
    let (batch, _) = read_all(
        &mut open(
            &file(dir.path(), "o.csv", CSV.as_bytes()),
            FileOptions::default(),
        )
        .unwrap(),
    );
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    let encoder = crate::RowEncoder::new(&catalog);
    for row in batch.iter() {
        let mut bytes = Vec::new();
        encoder.encode(row, &mut bytes).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap();
        writer
            .append_value(reader.read_value(&mut &bytes[..]).unwrap())
            .unwrap();
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn every_kind_of_file_gives_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let options = || FileOptions {
        partition: 3,
        known_time: Some("entered".into()),
        ..FileOptions::default()
    };
    let first = file(dir.path(), "o.csv", CSV.as_bytes());
    let expected = shown(&read_all(&mut open(&first, options()).unwrap()).0);
    assert_eq!(expected.len(), 3);
    assert_eq!(
        expected[0],
        format!(
            "{:?} 1262304005000 {:?}",
            [
                r#"Text("7")"#,
                "Time(1262304001000)",
                r#"Text("a1")"#,
                "Double(2.5)",
                "Bool(true)",
                r#"Text("web")"#,
                r#"["x", "y", "z"]"#,
                "Time(1262304005000)"
            ],
            Position {
                partition: 3,
                offset: 0
            }
        )
    );
    let avro = [
        Codec::Null,
        Codec::Snappy,
        Codec::Deflate(Default::default()),
        Codec::Zstandard(Default::default()),
    ]
    .map(container);
    let files: [(&str, &[u8]); 8] = [
        ("o.csv.gz", CSV.as_bytes()),
        ("o.jsonl", JSON.as_bytes()),
        ("o.ndjson", JSON.as_bytes()),
        ("O.JSONL.gz", JSON.as_bytes()),
        ("null.avro", &avro[0]),
        ("snappy.avro", &avro[1]),
        ("deflate.avro", &avro[2]),
        ("zstandard.avro", &avro[3]),
    ];
    for (name, content) in files {
        let (batch, errors) =
            read_all(&mut open(&file(dir.path(), name, content), options()).unwrap());
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert_eq!(shown(&batch), expected, "{name}");
    }
}

#[test]
fn known_time_is_a_column_or_follows_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let known = |name: &str, content: &[u8], options: FileOptions| {
        let (batch, errors) =
            read_all(&mut open(&file(dir.path(), name, content), options).unwrap());
        assert!(errors.is_empty(), "{errors:?}");
        batch
            .iter()
            .map(|row| row.known_ms() - row.event_ms())
            .collect::<Vec<_>>()
    };
    let say_so = |name: &str, options: FileOptions| {
        let mut reader = open(&dir.path().join(name), options).unwrap();
        read_all(&mut reader);
        reader.known_rows()
    };
    assert_eq!(
        known("o.csv", CSV.as_bytes(), FileOptions::default()),
        [0, 0, 0]
    );
    assert_eq!(
        known(
            "o.jsonl",
            JSON.as_bytes(),
            FileOptions {
                lag_ms: 500,
                ..FileOptions::default()
            }
        ),
        [500; 3]
    );
    let column = FileOptions {
        known_time: Some("entered".into()),
        lag_ms: 500,
        ..FileOptions::default()
    };
    assert_eq!(
        known("o.avro", &container(Codec::Null), column.clone()),
        [4000, 4000, 4000]
    );

    // A row, or a whole file, that does not say when it was known.
    let some = "id,at,account,channel,entered\n1,1700000001000,a1,web,1700000005000\n2,1700000001000,a1,web,\n";
    assert_eq!(
        known("some.csv", some.as_bytes(), column.clone()),
        [4000, 500]
    );
    assert_eq!(
        known(
            "none.csv",
            b"id,at,account,channel\n1,1700000001000,a1,web\n",
            column.clone()
        ),
        [500]
    );
    let lines = [r#","entered":1700000005000"#, r#","entered":null"#, ""].map(|known| {
        format!(r#"{{"id":"1","at":1700000001000,"account":"a1","channel":"web"{known}}}"#)
    });
    assert_eq!(
        known("some.jsonl", lines.join("\n").as_bytes(), column.clone()),
        [4000, 500, 500]
    );
    let other = FileOptions {
        known_time: Some("written".into()),
        ..column.clone()
    };
    assert_eq!(
        known("none.avro", &container(Codec::Null), other.clone()),
        [500; 3]
    );
    assert_eq!(
        ["o.avro", "some.csv", "some.jsonl"].map(|name| say_so(name, column.clone())),
        [3, 1, 1]
    );
    assert_eq!(
        ["none.csv", "none.avro"].map(|name| say_so(name, other.clone())),
        [0, 0]
    );

    let catalog = catalog();
    let accounts = catalog.table("accounts").unwrap().id;
    let path = file(dir.path(), "accounts.csv", b"id\na1\n");
    let mut reader = FileReader::open(&path, catalog, accounts, FileOptions::default()).unwrap();
    assert_eq!(
        read_all(&mut reader).0.row(0).known_ms(),
        0,
        "without any time a row is known before everything else"
    );
}

#[test]
fn columns_may_have_other_names() {
    let dir = tempfile::tempdir().unwrap();
    let renamed = FileOptions {
        shape: shape(r#"{"columns": {"order": "id", "account": "who"}}"#),
        ..FileOptions::default()
    };
    let csv = file(
        dir.path(),
        "o.csv",
        b"order,who,at,channel\n1,a1,1700000000005,web\n",
    );
    let json = file(
        dir.path(),
        "o.jsonl",
        br#"{"order":1,"who":"a1","at":1700000000005,"channel":"web"}"#,
    );
    let rows =
        [csv, json].map(|path| shown(&read_all(&mut open(&path, renamed.clone()).unwrap()).0));
    assert!(rows[0].len() == 1 && rows[0] == rows[1], "{rows:?}");
    let wrong = FileOptions {
        shape: shape(r#"{"columns": {"x": "idd"}}"#),
        ..FileOptions::default()
    };
    let error = open(&file(dir.path(), "o.csv", CSV.as_bytes()), wrong).unwrap_err();
    assert!(
        matches!(&error, FileError::Shape { source: ShapeError::NoSuchField { field, .. }, .. } if field == "idd"),
        "{error}"
    );
}

#[test]
fn a_bad_row_is_named_and_the_next_one_read() {
    let dir = tempfile::tempdir().unwrap();
    // (row, column, value, part of what was expected)
    let cases = [
        ("x1,1700000000005,a,,,web,", "id", "x1", "a whole number"),
        ("1,yesterday,a,,,web,", "ts", "yesterday", "YYYY-MM-DD"),
        ("1,1700000000005,a,much,,web,", "amount", "much", "a number"),
        (
            "1,1700000000005,a,,maybe,web,",
            "cancelled",
            "maybe",
            "true, false",
        ),
        (
            "1,1700000000005,a,,,phone,",
            "channel",
            "phone",
            "one of web, shop",
        ),
        ("1,1700000000005,a,,,,", "channel", "", "may not be null"),
        ("1,1700000000005,,,,web,", "account", "", "owner"),
        (",1700000000005,a,,,web,", "id", "", "may not be null"),
        ("1,1700000000005", "", "2 cells", "7 cells"),
    ];
    for (row, column, value, expected) in cases {
        let good = "2,1700000000005,a,,,web,";
        let content =
            format!("id,ts,account,amount,cancelled,channel,tags\n{good}\n{row}\n{good}\n");
        let path = file(dir.path(), "bad.csv", content.as_bytes());
        let (batch, errors) = read_all(&mut open(&path, FileOptions::default()).unwrap());
        assert_eq!(
            batch
                .iter()
                .map(|r| r.position().offset)
                .collect::<Vec<_>>(),
            [0, 2],
            "{row}"
        );
        assert!(
            matches!(&errors[..], [FileError::Row { line: 3, column: c, value: v, expected: e, .. }] if c == column && v == value && e.contains(expected)),
            "{row}: {errors:?}"
        );
    }
    let lines = [
        (r#"{"id":1"#, "a JSON object"),
        (r#"[1]"#, "a JSON object"),
        (
            r#"{"id":1.5,"at":1700000000005,"account":"a","channel":"web"}"#,
            "a whole number",
        ),
        (
            r#"{"id":1,"at":1700000000005,"account":{"id":2},"channel":"web"}"#,
            "of the type string",
        ),
        (
            r#"{"id":1,"at":1700000000005,"account":"a","channel":"web","tags":[1]}"#,
            "an array of strings",
        ),
        (
            r#"{"id":1,"account":"a","channel":"web"}"#,
            "may not be null",
        ),
    ];
    for (line, expected) in lines {
        let path = file(
            dir.path(),
            "bad.jsonl",
            format!("{line}\n{JSON}").as_bytes(),
        );
        let (batch, errors) = read_all(&mut open(&path, FileOptions::default()).unwrap());
        assert_eq!(batch.len(), 3, "{line}");
        assert!(
            matches!(&errors[..], [FileError::Row { line: 1, expected: e, .. }] if e.contains(expected)),
            "{line}: {errors:?}"
        );
    }
}

#[test]
fn a_bad_record_in_a_container_does_not_take_the_block_with_it() {
    let schema = ORDERS.replace(
        r#""name":"id","type":"long""#,
        r#""name":"id","type":["null","long"]"#,
    );
    let schema = Schema::parse_str(&schema).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Null).unwrap();
    for id in [
        serde_json::json!(1),
        serde_json::json!(null),
        serde_json::json!(3),
    ] {
        use apache_avro::types::Value as Avro;
        let value = serde_json::json!({"id": id, "at": 1700000000005_i64, "account": "a", "amount": null, "cancelled": false, "channel": "web", "tags": [], "entered": null});
        let record = Avro::try_from(value).unwrap().resolve(&schema).unwrap();
        writer.append_value(record).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (batch, errors) =
        read_all(&mut open(&file(dir.path(), "o.avro", &bytes), FileOptions::default()).unwrap());
    assert_eq!(
        batch.iter().map(|r| r.key()).collect::<Vec<_>>(),
        ["1", "3"]
    );
    assert!(
        matches!(&errors[..], [FileError::Row { line: 2, .. }]),
        "{errors:?}"
    );
}

#[test]
fn a_file_that_is_not_what_it_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened =
        |name: &str, content: &[u8]| open(&file(dir.path(), name, content), FileOptions::default());
    let error = opened("o.csv", b"id,when\n").unwrap_err();
    assert!(
        matches!(&error, FileError::MissingColumns { missing, found, .. } if missing == "at, channel" && found == "id, when"),
        "{error}"
    );
    assert!(matches!(
        opened("o.xlsx", b"").unwrap_err(),
        FileError::UnknownKind { .. }
    ));
    assert!(matches!(
        opened("o.avro.gz", b"").unwrap_err(),
        FileError::UnknownKind { .. }
    ));
    assert!(matches!(
        open(&dir.path().join("none.csv"), FileOptions::default()).unwrap_err(),
        FileError::Unreadable { .. }
    ));
    assert!(matches!(
        opened("o.avro", b"id,at\n").unwrap_err(),
        FileError::Damaged { .. }
    ));

    let avro = container(Codec::Snappy);
    let truncated = read_all(&mut opened("cut.avro", &avro[..avro.len() - 3]).unwrap()).1;
    assert!(
        matches!(&truncated[..], [FileError::Damaged { .. }]),
        "{truncated:?}"
    );
    let mut flipped = avro.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let flipped = read_all(&mut opened("flipped.avro", &flipped).unwrap()).1;
    assert!(
        matches!(&flipped[..], [FileError::Damaged { why, .. }] if why.contains("marker")),
        "{flipped:?}"
    );

    let mut cut = GzEncoder::new(Vec::new(), Compression::fast());
    cut.write_all(CSV.as_bytes()).unwrap();
    let cut = cut.finish().unwrap();
    let path = dir.path().join("cut.csv.gz");
    std::fs::write(&path, &cut[..cut.len() - 9]).unwrap();
    let outcome = open(&path, FileOptions::default()).map(|mut reader| read_all(&mut reader).1);
    assert!(
        matches!(&outcome, Err(FileError::Damaged { .. }))
            || matches!(&outcome, Ok(errors) if !errors.is_empty()),
        "{outcome:?}"
    );
}

#[test]
fn a_row_without_an_end_is_not_read_to_the_end_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let endless = vec![b'x'; super::MAX_ROW_BYTES as usize + 100_000];
    let quoted = [b"id,ts,channel\n\"".as_slice(), &endless].concat();
    for (name, content) in [("o.csv.gz", &quoted), ("o.jsonl.gz", &endless)] {
        let (batch, errors) =
            read_all(&mut open(&file(dir.path(), name, content), FileOptions::default()).unwrap());
        assert!(
            batch.is_empty()
                && matches!(&errors[..], [FileError::Damaged { why, .. }] if why.contains("longer than")),
            "{name}: {errors:?}"
        );
    }
}

/// Options with a shape.
fn shaped(json: &str) -> FileOptions {
    FileOptions {
        shape: shape(json),
        ..FileOptions::default()
    }
}

#[test]
fn members_of_objects_and_arrays_feed_fields_of_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"id":9007199254740993,"when":1700000000,"who":{"account":"a1"},"how":[{"via":"web"}],"x.y":2}"#;
    let options = shaped(
        r#"{"columns": {"who.account": "account", "channel": "how.0.via", "when": "at", "amount": "x.y"},
            "times": {"when": "seconds"}}"#,
    );
    let path = file(dir.path(), "o.jsonl", line.as_bytes());
    let (batch, errors) = read_all(&mut open(&path, options).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let row = shown(&batch)[0].replace(r#"\""#, "\"");
    for part in [
        r#"Text("9007199254740993")"#,
        "Time(1700000000000)",
        r#"Text("a1")"#,
        "Double(2.0)",
        r#"Text("web")"#,
    ] {
        assert!(row.contains(part), "{part} is not in {row}");
    }
}

#[test]
fn a_misspelt_column_is_remarked_beside_the_field_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let remarks = |header: &str| {
        let text = format!("{header}\n1,2010-01-01,a1,web,5\n");
        let path = file(dir.path(), "o.csv", text.as_bytes());
        let mut reader = open(&path, shaped("{}")).unwrap();
        read_all(&mut reader);
        let remarks = reader.remarks().into_iter().filter(|r| r.is_setting);
        remarks.map(|r| r.text).collect::<Vec<_>>()
    };
    let found = remarks("id,at,account,channel,amuont");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("amount"), "{found:?}");
    assert!(found[0].contains("and amuont feeds nothing"), "{found:?}");
    assert!(remarks("id,at,account,channel,amount").is_empty());
}

#[test]
fn a_path_that_fits_no_row_is_remarked_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let line = br#"{"id":1,"at":"2010-01-01","account":"a1","channel":"web"}"#;
    let options = shaped(r#"{"columns": {"paid.sum": "amount"}}"#);
    let mut reader = open(&file(dir.path(), "o.jsonl", line), options).unwrap();
    read_all(&mut reader);
    let remarks: Vec<_> = reader
        .remarks()
        .into_iter()
        .filter(|r| r.is_setting)
        .collect();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].text.contains("paid.sum for amount"),
        "{remarks:?}"
    );
}

#[test]
fn a_container_of_change_envelopes_is_unwrapped_or_named() {
    let envelope = format!(
        r#"{{"type":"record","name":"Envelope","fields":[
          {{"name":"before","type":["null",{ORDERS}]}},{{"name":"after","type":["null","Order"]}},
          {{"name":"op","type":"string"}},{{"name":"ts_ms","type":["null","long"]}}]}}"#
    );
    let schema = Schema::parse_str(&envelope).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Null).unwrap();
    let order = serde_json::json!({"id": 7, "at": 1_700_000_000_000_i64, "account": "a", "amount": null,
        "cancelled": false, "channel": "web", "tags": [], "entered": null});
    for change in [
        serde_json::json!({"before": null, "after": order, "op": "c", "ts_ms": 1_700_000_005_000_i64}),
        serde_json::json!({"before": null, "after": null, "op": "m", "ts_ms": null}),
        serde_json::json!({"before": order, "after": null, "op": "d", "ts_ms": 1_700_000_009_000_i64}),
    ] {
        use apache_avro::types::Value as Avro;
        let record = Avro::try_from(change).unwrap().resolve(&schema).unwrap();
        writer.append_value(record).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "o.avro", &bytes);
    let error = open(&path, FileOptions::default()).unwrap_err().to_string();
    assert!(error.contains("envelope = \"debezium\""), "{error}");
    let options = FileOptions {
        known_time: Some("ts_ms".into()),
        ..shaped(r#"{"envelope": "debezium"}"#)
    };
    let (batch, errors) = read_all(&mut open(&path, options).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let found: Vec<_> = batch
        .iter()
        .map(|row| {
            (
                row.operation(),
                row.key(),
                row.known_ms(),
                row.position().offset,
            )
        })
        .collect();
    use crate::Operation;
    assert_eq!(
        found,
        [
            (Operation::Upsert, "7", 1_700_000_005_000, 0),
            (Operation::Retract, "7", 1_700_000_009_000, 2)
        ]
    );
}

#[test]
fn a_filter_chooses_the_rows_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || shaped(r#"{"where": {"kind": ["order", "sale"]}, "times": {"at": "%d.%m.%Y"}}"#);
    let csv = b"kind,id,at,account,channel\norder,1,01.02.2010,a,web\nvisit,,,,\nsale,2,02.02.2010,a,web\n";
    let (batch, errors) = read_all(&mut open(&file(dir.path(), "o.csv", csv), options()).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let keys: Vec<_> = batch
        .iter()
        .map(|row| (row.key(), row.position().offset))
        .collect();
    assert_eq!(keys, [("1", 0), ("2", 2)]);
    let lines = concat!(
        r#"{"kind":"order","id":1,"at":"01.02.2010","account":"a","channel":"web"}"#,
        "\n",
        r#"{"kind":"visit"}"#
    );
    let path = file(dir.path(), "o.jsonl", lines.as_bytes());
    let (batch, errors) = read_all(&mut open(&path, options()).unwrap());
    assert!(errors.is_empty() && batch.len() == 1, "{errors:?}");
}

#[test]
fn bare_numbers_are_milliseconds_only_where_they_can_be_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for (time, part) in [
        ("1700000000000", None),
        ("1700000000", Some("\"seconds\"")),
        ("1700000000000000", Some("\"micros\"")),
        ("20240201", None),
        ("19700", Some("\"days\"")),
        ("9999-12-31", Some("plausible")),
    ] {
        let csv = format!("id,at,account,channel\n1,{time},a,web\n");
        let path = file(dir.path(), "o.csv", csv.as_bytes());
        let (batch, errors) = read_all(&mut open(&path, FileOptions::default()).unwrap());
        match part {
            None => assert!(errors.is_empty() && batch.len() == 1, "{errors:?}"),
            Some(part) => {
                let [error] = errors.as_slice() else {
                    panic!("{time}: {errors:?}")
                };
                let text = error.to_string();
                assert!(text.contains(part) && text.contains("'at'"), "{text}");
            }
        }
    }
}

#[test]
fn values_that_stand_for_no_date_are_null_where_a_field_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let no_dates = [
        "9999-12-31",
        "9999-12-31T23:59:59Z",
        "0001-01-01",
        "1900-01-01",
    ];
    let mut csv = "id,at,account,channel,entered\n".to_owned();
    for (id, no_date) in no_dates.iter().enumerate() {
        csv += &format!("{id},1700000000000,a,web,{no_date}\n");
    }
    csv += "99,1700000000000,a,web,2999-01-01\n";
    let path = file(dir.path(), "o.csv", csv.as_bytes());
    let (batch, errors) = read_all(&mut open(&path, FileOptions::default()).unwrap());
    let entered = catalog()
        .table("orders")
        .unwrap()
        .field("entered")
        .map(|field| field.id);
    assert_eq!(batch.len(), no_dates.len(), "{errors:?}");
    for row in batch.iter() {
        assert!(row.get(entered.unwrap()).is_null(), "{}", row.key());
    }
    let [error] = errors.as_slice() else {
        panic!("{errors:?}")
    };
    assert!(error.to_string().contains("plausible"), "{error}");
}

/// The rows of a file with ids, amounts and truth values, or its errors as text.
fn read_as(name: &str, content: &[u8], json: &str) -> Result<Vec<String>, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), name, content);
    let mut reader = open(&path, shaped(json)).map_err(|error| vec![error.to_string()])?;
    let (batch, errors) = read_all(&mut reader);
    if !errors.is_empty() {
        return Err(errors.iter().map(FileError::to_string).collect());
    }
    let catalog = catalog();
    let orders = catalog.table("orders").unwrap();
    let fields = ["id", "account", "amount", "cancelled"].map(|name| orders.field(name).unwrap());
    let row = |row: crate::Row<'_>| {
        fields
            .map(|field| format!("{:?}", row.get(field.id)))
            .join(" ")
    };
    Ok(batch.iter().map(row).collect())
}

#[test]
fn a_dialect_is_read_as_its_source_declares() {
    let latin: Vec<u8> = "id;at;account;amount;cancelled;channel\r\n\
        1;20240201;'M\u{fc}ller; S\u{f6}hne';1.355,90 \u{80};Ja;web\r\n\
        2;2024/02/01 8:15;n/a2;-5;Nein;web\r\n"
        .chars()
        .map(|c| c as u8)
        .collect();
    let settings = r#"{"text":{"separator":";","quote":"'","encoding":"windows-1252","decimal":",","thousands":".","currency":["€"],"yes":["Ja"],"no":["Nein"]}}"#;
    let expected = [
        r#"Text("1") Text("Müller; Söhne") Double(1355.9) Bool(true)"#,
        r#"Text("2") Text("n/a2") Double(-5.0) Bool(false)"#,
    ];
    assert_eq!(read_as("o.csv", &latin, settings).unwrap(), expected);

    let tabbed = "id\tat\taccount\tamount\tcancelled\tchannel\n\
        1\t20240201\tMüller; Söhne\t1355.90\t1\tweb\n2\t20240201T081500Z\tn/a2\t-5\t0\tweb\n";
    assert_eq!(read_as("o.tsv", tabbed.as_bytes(), "{}").unwrap(), expected);
    let tab = r#"{"text":{"separator":"tab","quote":"none"}}"#;
    assert_eq!(read_as("o.csv", tabbed.as_bytes(), tab).unwrap(), expected);
    let packed = zstd::encode_all(tabbed.as_bytes(), 3).unwrap();
    assert_eq!(read_as("o.tsv.zst", &packed, "{}").unwrap(), expected);

    for (label, is_little, mark) in [
        ("utf-16le", true, true),
        ("utf-16be", false, true),
        ("utf-16le", true, false),
    ] {
        let text = format!("{}{tabbed}", if mark { "\u{feff}" } else { "" });
        let wide: Vec<u8> = text
            .encode_utf16()
            .flat_map(|unit| {
                if is_little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            })
            .collect();
        let settings = format!(r#"{{"text":{{"encoding":"{label}"}}}}"#);
        assert_eq!(read_as("o.tsv", &wide, &settings).unwrap(), expected);
        let errors = read_as("o.tsv", &wide, "{}").unwrap_err().join(" ");
        assert!(
            errors.contains("UTF-16") && errors.contains(label),
            "{errors}"
        );
    }
    let marked = format!("\u{feff}{}", JSON.lines().next().unwrap());
    assert_eq!(
        read_as("o.jsonl", marked.as_bytes(), "{}").unwrap().len(),
        1
    );
}

#[test]
fn a_dialect_that_is_not_declared_is_refused_and_its_setting_named() {
    let cases: [(&[u8], &str, &str); 12] = [
        (
            b"id;at;channel\n1;2024-02-01;web\n",
            "{}",
            "separator = \";\"",
        ),
        (b"id\tat\tchannel\n", "{}", "separator = \"tab\""),
        (
            b"id,at,account,channel\n1,2024-02-01,M\xfcller,web\n",
            "{}",
            "encoding = \"windows-1252\"",
        ),
        (b"id,at,channel,gr\xf6sse\n", "{}", "encoding ="),
        (
            b"id,at,account,channel\n1,2024-02-01,M\xfcller,web\n",
            r#"{"text":{"encoding":"utf-8"}}"#,
            "line 2, column 'account'",
        ),
        (
            b"\xef\xbb\xbfid,at,channel\n",
            r#"{"text":{"encoding":"utf-16le"}}"#,
            "byte order mark says UTF-8",
        ),
        (
            b"id,at, id,channel\n",
            "{}",
            "columns 1 ('id') and 3 ('id') have one name",
        ),
        (
            b"id,at,ts,channel\n",
            "{}",
            "columns 2 ('at') and 3 ('ts') both feed the field at",
        ),
        (
            b"a,b,at,channel\n",
            r#"{"columns":{"a":"id","b":"id"}}"#,
            "columns 1 ('a') and 2 ('b') both feed the field id",
        ),
        (
            b"id,at,account,amount,channel\n1,2024-02-01,a,$5,web\n",
            "{}",
            "currency = [\"$\"]",
        ),
        (
            b"id,at,account,amount,channel\n1,2024-02-01,a,NaN,web\n",
            "{}",
            "nulls = [\"NaN\"]",
        ),
        (
            b"id,at,account,cancelled,channel\n1,2024-02-01,a,Yes,web\n",
            "{}",
            "yes = [\"Yes\"]",
        ),
    ];
    for (content, settings, expected) in cases {
        let errors = read_as("o.csv", content, settings).unwrap_err().join("\n");
        let shown = String::from_utf8_lossy(content);
        assert!(errors.contains(expected), "{shown}: {errors}");
    }
    // Columns without a name, and a field's own name beside a configured column.
    let fine = b"id,at,account,key,channel,,\nx,2024-02-01,a,1,web,,\n";
    let rows = read_as("o.csv", fine, r#"{"columns":{"key":"id"}}"#).unwrap();
    assert!(rows[0].starts_with("Text(\"1\")"), "{rows:?}");
}

#[test]
fn a_line_has_the_number_that_an_editor_shows() {
    let header = "id,at,account,channel";
    for (lines, expected) in [
        ("1,2024-02-01,a,web\r\nx,2024-02-01,a,web\r\n", 3),
        ("1,2024-02-01,a,web\nx,2024-02-01,a,web\n", 3),
        ("1,2024-02-01,\"a\r\nb\",web\r\nx,2024-02-01,a,web\r\n", 4),
        ("1,2024-02-01,\"a\n\nb\",web\nx,2024-02-01,a,web\n", 5),
        ("\r\n\r\n1,2024-02-01,a,web\r\n\r\nx,2024-02-01,a,web", 6),
        ("x,2024-02-01,\"a\r\nb\",web\r\n", 2),
        ("1,2024-02-01,a,web\r\nx,2024-02-01\r\n", 3),
    ] {
        let end = if lines.contains('\r') { "\r\n" } else { "\n" };
        let content = format!("{header}{end}{lines}");
        let errors = read_as("o.csv", content.as_bytes(), "{}")
            .unwrap_err()
            .join("\n");
        assert!(
            errors.contains(&format!("line {expected},")),
            "{lines}: {errors}"
        );
    }
}

#[test]
fn words_for_null_are_null_in_every_field_and_bad_values_by_choice() {
    let content = b"id,at,account,amount,channel,known\n1,2024-02-01,a,NULL,web,n/a\n\
        2,2024-02-02,a,12,web,2024-02-03\n";
    let settings = r#"{"text":{"nulls":["NULL","n/a"]}}"#;
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions {
        known_time: Some("known".into()),
        ..shaped(settings)
    };
    let path = file(dir.path(), "o.csv", content);
    let (batch, errors) = read_all(&mut open(&path, options.clone()).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let known: Vec<i64> = batch.iter().map(|row| row.known_ms()).collect();
    assert_eq!(known, [1_706_745_600_000, 1_706_918_400_000]);
    let path = file(
        dir.path(),
        "o.jsonl",
        br#"{"id":1,"at":"2024-02-01","account":"a","amount":"NULL","channel":"web","known":"n/a"}"#,
    );
    assert_eq!(read_all(&mut open(&path, options).unwrap()).0.len(), 1);
    let unowned = b"id,at,account,channel\n1,2024-02-01,NULL,web\n";
    let errors = read_as("o.csv", unowned, settings).unwrap_err().join("\n");
    assert!(errors.contains("owner"), "{errors}");
    let nameless = b"id,at,account,channel\nNULL,2024-02-01,a,web\n";
    let errors = read_as("o.csv", nameless, settings).unwrap_err().join("\n");
    assert!(errors.contains("text.nulls"), "{errors}");

    let bad = b"id,at,account,amount,channel\n1,2024-02-01,a,much,web\n";
    let by_choice = r#"{"text":{"bad_value":"null"}}"#;
    assert!(read_as("o.csv", bad, "{}").is_err());
    assert!(read_as("o.csv", bad, by_choice).unwrap()[0].contains("Null"));
    let path = file(dir.path(), "bad.csv", bad);
    let mut reader = open(&path, shaped(by_choice)).unwrap();
    read_all(&mut reader);
    let remarks = reader.remarks();
    assert!(
        remarks
            .iter()
            .any(|r| r.text.contains("'much'") && r.is_setting),
        "{remarks:?}"
    );
    let line = br#"{"id":1,"at":"2024-02-01","account":"a","amount":"much","channel":"web"}"#;
    assert!(read_as("o.jsonl", line, by_choice).unwrap()[0].contains("Null"));
    for own in [
        "id,at,account,channel\n1,soon,a,web\n",
        "id,at,account,channel\nx,2024-02-01,a,web\n",
        "id,at,account,channel\n1,2024-02-01,a,phone\n",
    ] {
        assert!(
            read_as("o.csv", own.as_bytes(), by_choice).is_err(),
            "{own}"
        );
    }
}

#[test]
fn rows_ahead_of_the_clock_are_counted_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let csv = "id,at,account,channel,known\n1,2024-02-01,a,web,2024-02-02\n2,2025-02-01,a,web,2025-02-02\n\
               3,2025-02-01,a,web,2024-02-02\n4,2024-02-01,a,web,2025-02-02\n5,2024-02-03,a,web,\n";
    let json = r#"{"id":2,"at":"2025-02-01","account":"a","channel":"web"}"#;
    let latest_ms = Some(1_707_000_000_000);
    let check = |name: &str, content: &str, expected: &[&str]| {
        let options = FileOptions {
            known_time: Some("known".into()),
            latest_ms,
            ..FileOptions::default()
        };
        let path = file(dir.path(), name, content.as_bytes());
        let mut reader = open(&path, options).unwrap();
        let (batch, errors) = read_all(&mut reader);
        assert!(errors.is_empty(), "{errors:?}");
        let keys: Vec<&str> = batch.iter().map(|row| row.key()).collect();
        assert_eq!((keys.as_slice(), reader.future_rows()), (expected, 1));
    };
    // What is only later than its own known time, or known later, is judged by the graph.
    check("o.csv", csv, &["1", "3", "4", "5"]);
    check("o.jsonl", json, &[]);
}

#[test]
fn a_row_may_say_that_its_entity_is_deleted() {
    let marked = ACCOUNTS.replace(
        r#""leadpulse":{"key":true}}"#,
        r#""leadpulse":{"key":true}},{"name":"gone","type":["null","boolean"],"default":null,"leadpulse":{"deleted":true}}"#,
    );
    let dir = tempfile::tempdir().unwrap();
    let operations = |schema: &str, name: &str, content: &str, json: &str| {
        let catalog = Arc::new(Catalog::from_json(&[("a", schema), ("o", ORDERS)]).unwrap());
        let accounts = catalog.table("accounts").unwrap().id;
        let path = file(dir.path(), name, content.as_bytes());
        let mut reader = FileReader::open(&path, catalog, accounts, shaped(json))?;
        let (batch, errors) = read_all(&mut reader);
        assert!(errors.is_empty(), "{errors:?}");
        Ok::<_, FileError>(batch.iter().map(|row| row.operation()).collect::<Vec<_>>())
    };
    use crate::Operation::{Delete, Upsert};
    let csv = "id,gone\na,true\nb,\nc,false\n";
    let lines = "{\"id\":\"a\",\"gone\":true}\n{\"id\":\"b\"}\n{\"id\":\"c\",\"gone\":\"false\"}\n";
    let expected = [Delete, Upsert, Upsert];
    for (name, content) in [("a.csv", csv), ("a.jsonl", lines)] {
        assert_eq!(operations(&marked, name, content, "{}").unwrap(), expected);
        let by_source = r#"{"deleted":"gone"}"#;
        assert_eq!(
            operations(ACCOUNTS, name, content, by_source).unwrap(),
            expected
        );
    }
    let error = operations(ACCOUNTS, "a.csv", csv, r#"{"deleted":"left"}"#).unwrap_err();
    assert!(error.to_string().contains("deleted ('left')"), "{error}");
    let path = file(dir.path(), "o.csv", CSV.as_bytes());
    let error = open(&path, shaped(r#"{"deleted":"cancelled"}"#)).unwrap_err();
    assert!(error.to_string().contains("retraction"), "{error}");
}
