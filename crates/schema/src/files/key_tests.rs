//! Keys of several columns and of whole rows, and columns that feed several fields.

use std::path::Path;
use std::sync::Arc;

use super::{FileError, FileOptions, FileReader};
use crate::{Catalog, RowBatch, SourceShape, Value};

const PEOPLE: &str = r#"{"type":"record","name":"Person","leadpulse":{"table":"people","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"email","type":["null","string"],"default":null},
  {"name":"domain","type":["null","string"],"default":null}]}"#;
const LINES: &str = r#"{"type":"record","name":"Line","leadpulse":{"table":"lines","role":"event"},"fields":[
  {"name":"line_key","type":"string","leadpulse":{"key":true}},
  {"name":"order_id","type":["null","string"],"default":null},
  {"name":"line_no","type":["null","long"],"default":null},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"person","type":"string","leadpulse":{"ref":"people","owner":true}}]}"#;

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::from_json(&[("p", PEOPLE), ("l", LINES)]).unwrap())
}

/// The keys of a file's rows, or all errors.
fn keys(
    dir: &Path,
    table: &str,
    name: &str,
    content: &str,
    shape: &str,
) -> Result<Vec<String>, String> {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    let rows = read(&path, table, shape)?;
    Ok(rows.iter().map(|row| row.key().to_owned()).collect())
}

fn read(path: &Path, table: &str, shape: &str) -> Result<RowBatch, String> {
    let catalog = catalog();
    let table = catalog.table(table).unwrap().id;
    let options = FileOptions {
        shape: serde_json::from_str::<SourceShape>(shape).unwrap(),
        ..FileOptions::default()
    };
    let open = FileReader::open(path, catalog, table, options);
    let mut reader = open.map_err(|error: FileError| error.to_string())?;
    let (mut batch, mut errors) = (RowBatch::new(), Vec::new());
    loop {
        match reader.read(&mut batch, 10) {
            Ok(0) if errors.is_empty() => return Ok(batch),
            Ok(0) => return Err(errors.join("\n")),
            Ok(_) => {}
            Err(error) if error.is_row() => errors.push(error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[test]
fn a_key_of_two_columns_is_one_in_every_kind_of_file() {
    let dir = tempfile::tempdir().unwrap();
    let csv = "Order,line_no,at,person\na:b,1,2024-01-01,p\na,4.0,2024-01-01,p\n";
    let json = concat!(
        r#"{"line_no":1,"Order":"a:b","at":"2024-01-01","person":"p"}"#,
        "\n",
        r#"{"Order":"a","line_no":"4","at":"2024-01-01","person":"p"}"#
    );
    let expected = [r"a\:b:1", "a:4"];
    for columns in [r#""columns":{"Order":"order_id"},"#, ""] {
        for part in ["Order", "order_id"] {
            if columns.is_empty() && part == "order_id" {
                continue;
            }
            let shape = format!(r#"{{{columns}"key":["{part}","line_no"]}}"#);
            let found = keys(dir.path(), "lines", "l.csv", csv, &shape);
            assert_eq!(found.unwrap(), expected, "{shape}");
            let found = keys(dir.path(), "lines", "l.jsonl", json, &shape);
            assert_eq!(found.unwrap(), expected, "{shape}");
        }
    }
    // A time that is a part is one time however it is written.
    let shape = r#"{"key":["person","at"]}"#;
    let csv = "at,person\n2024-01-01 00:00:00,p\n";
    let json = r#"{"at":1704067200000,"person":"p"}"#;
    let expected = ["p:1704067200000"];
    assert_eq!(
        keys(dir.path(), "lines", "l.csv", csv, shape).unwrap(),
        expected
    );
    assert_eq!(
        keys(dir.path(), "lines", "l.jsonl", json, shape).unwrap(),
        expected
    );
}

#[test]
fn a_part_that_is_null_or_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, shape: &str, expected: &[&str]| {
        let error = keys(dir.path(), "lines", name, content, shape).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    };
    let two = r#"{"key":["Order","line_no"],"text":{"nulls":["NULL"]}}"#;
    let row = "line 2, column 'Order': '' is not a value: it is a part of the key";
    check(
        "l.csv",
        "Order,line_no,at,person\n,1,2024-01-01,p\n",
        two,
        &[row],
    );
    check(
        "l.csv",
        "Order,line_no,at,person\nNULL,1,2024-01-01,p\n",
        two,
        &[row],
    );
    let row = "line 1, column 'line_no': '' is not a value: it is a part of the key";
    check(
        "l.jsonl",
        r#"{"Order":"a","at":"2024-01-01","person":"p"}"#,
        two,
        &[row],
    );
    check(
        "l.csv",
        "Ordering,at,person\na,2024-01-01,p\n",
        two,
        &["no column for key ('Order'), key ('line_no'); it has Ordering, at, person"],
    );
    let refused = [
        (r#"{"key":[]}"#, "it names no column"),
        (r#"{"key":["line_no","@row"]}"#, "stands alone"),
        (r#"{"key":["line_no","line_no"]}"#, "stands in it twice"),
        (
            r#"{"key":["line_no"],"columns":{"x":"line_key"}}"#,
            "columns feeds the key field line_key",
        ),
    ];
    for (shape, words) in refused {
        check("l.csv", "line_no,at,person,x\n", shape, &["key:", words]);
    }
}

#[test]
fn the_hash_of_a_row_is_its_key_whatever_the_order_of_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let shape = r#"{"key":"@row"}"#;
    let first = "at,person,note\n2024-01-01,p,x\n2024-01-01,p,y\n2024-01-01,p,x\n";
    let other = "note,at,person,empty\ny,2024-01-01,p,\n";
    let found = keys(dir.path(), "lines", "l.csv", first, shape).unwrap();
    assert_eq!(found[0], found[2]);
    assert_ne!(found[0], found[1]);
    assert_eq!(
        keys(dir.path(), "lines", "l.csv", other, shape).unwrap(),
        found[1..2]
    );
    let json = r#"{"note":"y","person":"p","at":"2024-01-01","empty":null}"#;
    assert_eq!(
        keys(dir.path(), "lines", "l.jsonl", json, shape).unwrap(),
        found[1..2]
    );
    // A flag that deletes the row is no part of it.
    let deleted = r#"{"key":"@row","deleted":"gone"}"#;
    let people = "email,gone\na@b.example,no\na@b.example,yes\n";
    let deleted = deleted.replace('}', r#","text":{"yes":["yes"],"no":["no"]}}"#);
    let found = keys(dir.path(), "people", "p.csv", people, &deleted).unwrap();
    assert_eq!(found[0], found[1]);
}

#[test]
fn one_column_feeds_two_fields() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, shape: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let batch = read(&path, "people", shape).unwrap();
        let catalog = catalog();
        let table = catalog.table("people").unwrap();
        for field in ["email", "domain"] {
            let value = batch.row(0).get(table.field(field).unwrap().id);
            assert_eq!(
                value,
                Value::Text("a@b.example"),
                "{field}: {content} {shape}"
            );
        }
    };
    let named = r#"{"columns":{"email":"Email","domain":"Email"}}"#;
    check("p.csv", "id,Email\n1,a@b.example\n", named);
    check("p.jsonl", r#"{"id":"1","Email":"a@b.example"}"#, named);
    let listed = r#"{"columns":{"Email":["email","domain"]}}"#;
    check("p.csv", "id,Email\n1,a@b.example\n", listed);
    // The column has the name of a field too.
    let own = r#"{"columns":{"email":["email","domain"]}}"#;
    check("p.csv", "id,email\n1,a@b.example\n", own);
    check("p.jsonl", r#"{"id":"1","email":"a@b.example"}"#, own);
}
