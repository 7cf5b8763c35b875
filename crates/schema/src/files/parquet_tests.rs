//! Every type of Parquet becomes the value it stands for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{
    SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter,
};
use parquet::schema::parser::parse_message_type;

use super::{FileError, FileOptions, FileReader};
use crate::{Catalog, RowBatch, SourceShape, Value};

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"gone","type":["null","boolean"],"default":null}]}"#;
const ORDERS: &str = r#"{"type":"record","name":"Order","leadpulse":{"table":"orders","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
  {"name":"number","type":["null","long"],"default":null},
  {"name":"amount","type":["null","double"],"default":null},
  {"name":"flag","type":["null","boolean"],"default":null},
  {"name":"text","type":["null","string"],"default":null},
  {"name":"other_time","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
  {"name":"tags","type":["null",{"type":"array","items":"string"}],"default":null}]}"#;

type Rows<'r> = SerializedRowGroupWriter<'r, File>;

/// Writes a file: the message, then for each row group its columns.
fn write(
    dir: &Path,
    name: &str,
    message: &str,
    compression: Compression,
    groups: &[&dyn Fn(&mut Rows<'_>)],
) -> PathBuf {
    let path = dir.join(name);
    let schema = Arc::new(parse_message_type(message).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in groups {
        let mut rows = writer.next_row_group().unwrap();
        group(&mut rows);
        rows.close().unwrap();
    }
    writer.close().unwrap();
    path
}

/// Writes the next column of a row group.
fn column<T: parquet::data_type::DataType>(
    rows: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) {
    let mut column: SerializedColumnWriter<'_> = rows.next_column().unwrap().unwrap();
    let typed = column.typed::<T>();
    typed.write_batch(values, definitions, repetitions).unwrap();
    column.close().unwrap();
}

fn texts(rows: &mut SerializedRowGroupWriter<'_, File>, values: &[&str]) {
    let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
    column::<ByteArrayType>(rows, &values, None, None);
}

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::from_json(&[("a", ACCOUNTS), ("o", ORDERS)]).unwrap())
}

fn open(path: &Path, table: &str, shape: &str) -> Result<FileReader, FileError> {
    let catalog = catalog();
    let table = catalog.table(table).unwrap().id;
    let options = FileOptions {
        shape: serde_json::from_str::<SourceShape>(shape).unwrap(),
        ..FileOptions::default()
    };
    FileReader::open(path, catalog, table, options)
}

/// The rows, and the errors of those that are none.
fn read(path: &Path, table: &str, shape: &str) -> (RowBatch, Vec<String>) {
    let mut reader = open(path, table, shape).unwrap_or_else(|error| panic!("{error}"));
    let (mut batch, mut errors) = (RowBatch::new(), Vec::new());
    loop {
        match reader.read(&mut batch, 2) {
            Ok(0) => return (batch, errors),
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_row(), "{error}");
                errors.push(error.to_string());
            }
        }
    }
}

/// Writes one row with one column `v`, and reads it as a field.
fn check<T: parquet::data_type::DataType>(
    kind: &str,
    value: T::T,
    field: &str,
    expected: Value<'_>,
) {
    let dir = tempfile::tempdir().unwrap();
    let message = format!(
        "message rows {{ required binary id (UTF8); required int64 at (TIMESTAMP_MILLIS); \
         required binary account (UTF8); {kind}; }}"
    );
    let values = [value];
    let path = write(
        dir.path(),
        "o.parquet",
        &message,
        Compression::UNCOMPRESSED,
        &[&|rows| {
            texts(rows, &["1"]);
            column::<Int64Type>(rows, &[1_700_000_000_123], None, None);
            texts(rows, &["A"]);
            column::<T>(rows, &values, None, None);
        }],
    );
    let (batch, errors) = read(
        &path,
        "orders",
        &format!(r#"{{"columns":{{"v":"{field}"}}}}"#),
    );
    assert!(errors.is_empty(), "{kind}: {errors:?}");
    let catalog = catalog();
    let field = catalog.table("orders").unwrap().field(field).unwrap().id;
    assert_eq!(batch.row(0).get(field), expected, "{kind}");
    assert_eq!(batch.row(0).event_ms(), 1_700_000_000_123);
}

#[test]
fn values_of_every_type_are_what_they_stand_for() {
    check::<BoolType>("required boolean v", true, "flag", Value::Bool(true));
    for kind in ["INTEGER(8,true)", "INTEGER(16,true)", "INTEGER(32,true)"] {
        let kind = format!("required int32 v ({kind})");
        check::<Int32Type>(&kind, -7, "number", Value::Long(-7));
    }
    for kind in ["INTEGER(8,false)", "INTEGER(16,false)", "INTEGER(32,false)"] {
        let kind = format!("required int32 v ({kind})");
        check::<Int32Type>(&kind, 7, "number", Value::Long(7));
    }
    let unsigned = "required int64 v (INTEGER(64,false))";
    check::<Int64Type>(unsigned, -1, "text", Value::Text("18446744073709551615"));
    check::<Int64Type>(
        "required int64 v",
        1 << 60,
        "id",
        Value::Text("1152921504606846976"),
    );
    check::<FloatType>("required float v", 0.1, "amount", Value::Double(0.1));
    check::<DoubleType>("required double v", 0.1, "amount", Value::Double(0.1));
    check::<Int32Type>(
        "required int32 v (DECIMAL(9,2))",
        1005,
        "amount",
        Value::Double(10.05),
    );
    check::<Int64Type>(
        "required int64 v (DECIMAL(18,2))",
        -110,
        "amount",
        Value::Double(-1.1),
    );
    let large = ByteArray::from(12_345_678_901_234_567_i64.to_be_bytes().to_vec());
    let kind = "required binary v (DECIMAL(20,3))";
    check::<ByteArrayType>(kind, large, "amount", Value::Double(12_345_678_901_234.567));
    let fixed = FixedLenByteArray::from(vec![0xff, 0xff, 0xfe]);
    let kind = "required fixed_len_byte_array(3) v (DECIMAL(6,0))";
    check::<FixedLenByteArrayType>(kind, fixed, "number", Value::Long(-2));
    for kind in ["(UTF8)", "(ENUM)", "(JSON)", ""] {
        let kind = format!("required binary v {kind}");
        check::<ByteArrayType>(&kind, ByteArray::from("é"), "text", Value::Text("é"));
    }
    let at = Value::Time(1_700_000_000_123);
    for (kind, value) in [
        ("TIMESTAMP_MILLIS", 1_700_000_000_123),
        ("TIMESTAMP_MICROS", 1_700_000_000_123_456),
        ("TIMESTAMP(MILLIS,true)", 1_700_000_000_123),
        ("TIMESTAMP(MILLIS,false)", 1_700_000_000_123),
        ("TIMESTAMP(MICROS,false)", 1_700_000_000_123_456),
        ("TIMESTAMP(NANOS,true)", 1_700_000_000_123_456_789),
        ("TIMESTAMP(NANOS,false)", 1_700_000_000_123_456_789),
    ] {
        let kind = format!("required int64 v ({kind})");
        check::<Int64Type>(&kind, value, "other_time", at);
    }
    check::<Int32Type>(
        "required int32 v (DATE)",
        19_000,
        "other_time",
        Value::Time(1_641_600_000_000),
    );
    let mut int96 = Int96::new();
    // The day 2,459,580 of the Julian calendar is 2022-01-01; 1 second in nanoseconds.
    int96.set_data(1_000_000_000, 0, 2_459_581);
    check::<Int96Type>(
        "required int96 v",
        int96,
        "other_time",
        Value::Time(1_640_995_201_000),
    );
    let kind = "required int32 v (TIME(MILLIS,true))";
    check::<Int32Type>(kind, 37_800_250, "text", Value::Text("10:30:00.250"));
    let kind = "required int64 v (TIME(NANOS,true))";
    check::<Int64Type>(kind, 37_800_000_000_000, "text", Value::Text("10:30:00"));
    let uuid = FixedLenByteArray::from((0..16).collect::<Vec<u8>>());
    let kind = "required fixed_len_byte_array(16) v (UUID)";
    check::<FixedLenByteArrayType>(
        kind,
        uuid,
        "text",
        Value::Text("00010203-0405-0607-0809-0a0b0c0d0e0f"),
    );
}

const NESTED: &str = "message rows { required binary id (UTF8); required int64 at (TIMESTAMP(MICROS,true)); \
    required group who { required binary account (UTF8); } optional double amount; \
    optional group tags (LIST) { repeated group list { optional binary element (UTF8); } } \
    optional fixed_len_byte_array(12) span (INTERVAL); }";

fn nested(rows: &mut SerializedRowGroupWriter<'_, File>, ids: [&str; 2], amount: f64) {
    texts(rows, &ids);
    column::<Int64Type>(rows, &[1_700_000_000_000_000; 2], None, None);
    texts(rows, &["A", "B"]);
    column::<DoubleType>(rows, &[amount], Some(&[1, 0]), None);
    let tags = [ByteArray::from("x"), ByteArray::from("y")];
    column::<ByteArrayType>(rows, &tags, Some(&[3, 3, 0]), Some(&[0, 1, 0]));
    column::<FixedLenByteArrayType>(rows, &[], Some(&[0, 0]), None);
}

#[test]
fn groups_lists_and_nulls_are_read_across_row_groups_under_every_compression() {
    let dir = tempfile::tempdir().unwrap();
    let shape =
        r#"{"columns":{"who.account":"account"},"where":{"id":["1","2","4"]},"key":["id","at"]}"#;
    let shape = shape.replace(r#","key":["id","at"]"#, "");
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ];
    for compression in compressions {
        let first = |rows: &mut SerializedRowGroupWriter<'_, File>| nested(rows, ["1", "2"], 2.5);
        let second = |rows: &mut SerializedRowGroupWriter<'_, File>| nested(rows, ["3", "4"], 1.5);
        let path = write(
            dir.path(),
            "o.parquet",
            NESTED,
            compression,
            &[&first, &second],
        );
        let (batch, errors) = read(&path, "orders", &shape);
        assert!(errors.is_empty(), "{errors:?}");
        let keys: Vec<&str> = batch.iter().map(|row| row.key()).collect();
        assert_eq!(keys, ["1", "2", "4"]);
        let catalog = catalog();
        let orders = catalog.table("orders").unwrap();
        let get = |row, field| batch.row(row).get(orders.field(field).unwrap().id);
        assert_eq!(get(0, "account"), Value::Text("A"));
        assert_eq!(
            (get(0, "amount"), get(1, "amount")),
            (Value::Double(2.5), Value::Null)
        );
        let Value::List(tags) = get(0, "tags") else {
            panic!("no list: {:?}", get(0, "tags"));
        };
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(get(1, "tags"), Value::Null);
    }
}

#[test]
fn a_bad_value_is_named_with_file_row_group_row_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let first = |rows: &mut SerializedRowGroupWriter<'_, File>| nested(rows, ["1", "2"], 2.5);
    let second = |rows: &mut SerializedRowGroupWriter<'_, File>| nested(rows, ["3", ""], f64::NAN);
    let path = write(
        dir.path(),
        "o.data",
        NESTED,
        Compression::SNAPPY,
        &[&first, &second],
    );
    let shape = r#"{"columns":{"who.account":"account"}}"#;
    let (batch, errors) = read(&path, "orders", shape);
    assert_eq!((batch.len(), errors.len()), (2, 2));
    let expected = "o.data, row group 2, row 3, column 'amount': 'NaN' is not a number";
    assert!(errors[0].contains(expected), "{errors:?}");
    assert!(errors[0].contains("nulls = [\"NaN\"]"), "{errors:?}");
    assert!(
        errors[1].contains("row group 2, row 4, column 'id'"),
        "{errors:?}"
    );
    let shape =
        r#"{"columns":{"who.account":"account"},"text":{"nulls":["NaN"]},"key":["amount"]}"#;
    let (_, errors) = read(&path, "orders", shape);
    assert_eq!(errors.len(), 3, "{errors:?}");
    let error = open(&path, "orders", "{}").unwrap_err().to_string();
    assert!(
        error.contains("no column for account") && error.contains("who.account"),
        "{error}"
    );
    let cut = dir.path().join("cut.parquet");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    let error = open(&cut, "orders", shape).unwrap_err().to_string();
    assert!(
        error.contains("cut.parquet") && error.contains("damaged"),
        "{error}"
    );
}

#[test]
fn rows_are_deleted_and_keyed_as_in_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let message = "message rows { required binary region (UTF8); required int32 number; optional boolean gone; }";
    let path = write(
        dir.path(),
        "a.parquet",
        message,
        Compression::SNAPPY,
        &[&|rows| {
            texts(rows, &["EU", "US"]);
            column::<Int32Type>(rows, &[1, 2], None, None);
            column::<BoolType>(rows, &[true], Some(&[1, 0]), None);
        }],
    );
    let shape = r#"{"key":["region","number"],"deleted":"gone"}"#;
    let (batch, _) = read(&path, "accounts", shape);
    let found: Vec<String> = batch
        .iter()
        .map(|row| format!("{:?} {}", row.operation(), row.key()))
        .collect();
    assert_eq!(found, ["Delete EU:1", "Upsert US:2"]);
    let csv = dir.path().join("a.csv");
    std::fs::write(&csv, "number,region,gone\n2,US,\n").unwrap();
    let (parquet, _) = read(&path, "accounts", r#"{"key":"@row","deleted":"gone"}"#);
    let (text, _) = read(&csv, "accounts", r#"{"key":"@row","deleted":"gone"}"#);
    assert_eq!(parquet.row(1).key(), text.row(0).key());
}
