//! Amounts of several currencies in files and on topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;

use super::*;
use crate::{
    FileOptions, FileReader, Position, RawRecord, Row, RowBatch, RowFit, SchemaLanguage,
    SchemaPlace, SchemaRef, SourceShape, TopicDecoder, TopicSource, WriterSchema, encode_frame,
};

const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"D","leadpulse":{"table":"deals","role":"member"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"amount","type":["null","double"],"default":null,"leadpulse":{"currency":"ccy"}},
  {"name":"fee","type":["null","double"],"default":null,"leadpulse":{"currency":"ccy"}},
  {"name":"ccy","type":["null","string"],"default":null,"leadpulse":{"feature":"none"}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;

fn catalog(rates: &[(&str, f64)]) -> Catalog {
    let mut catalog = Catalog::from_json(&[("a", ACCOUNTS), ("d", DEALS)]).unwrap();
    let options = CurrencyOptions {
        base: Some("eur".into()),
        rates: rates
            .iter()
            .map(|(code, rate)| ((*code).into(), *rate))
            .collect(),
    };
    if !rates.is_empty() {
        catalog.set_rates(options.checked().unwrap().unwrap());
    }
    catalog
}

const RATES: [(&str, f64); 2] = [("USD", 0.5), ("gbp", 2.0)];

/// Amount, fee and currency of a row.
fn money(catalog: &Catalog, row: Row<'_>) -> String {
    let table = catalog.table("deals").unwrap();
    let value = |name: &str| format!("{:?}", row.get(table.field(name).unwrap().id));
    format!("{} {} {}", value("amount"), value("fee"), value("ccy"))
}

/// Rows of a file, or the message of its first bad row, and the remarks of the reader.
fn read(name: &str, content: &str, shape: &str) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    let catalog = Arc::new(catalog(&RATES));
    let options = FileOptions {
        shape: serde_json::from_str(shape).unwrap(),
        ..FileOptions::default()
    };
    let deals = catalog.table("deals").unwrap().id;
    let mut reader = FileReader::open(&path, catalog.clone(), deals, options).unwrap();
    let mut batch = RowBatch::new();
    let mut shown = Vec::new();
    loop {
        match reader.read(&mut batch, 100) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => shown.push(error.to_string()),
        }
    }
    shown.extend(batch.iter().map(|row| money(&catalog, row)));
    (
        shown,
        reader.remarks().into_iter().map(|r| r.text).collect(),
    )
}

const CONVERTED: [&str; 3] = [
    "Double(5.0) Double(1.0) Text(\"EUR\")",
    "Double(8.0) Null Text(\"EUR\")",
    "Double(7.0) Null Null",
];

#[test]
fn amounts_of_files_are_converted_with_all_amounts_of_their_currency() {
    let csv = "id,account,amount,fee,ccy\n1,a,10,2,USD\n2,a,4,,Gbp\n3,a,7,,\n";
    assert_eq!(read("d.csv", csv, "{}").0, CONVERTED);
    let lines = r#"{"id":"1","account":"a","amount":10,"fee":2,"ccy":"USD"}
{"id":"2","account":"a","amount":4,"ccy":" gbp "}
{"id":"3","account":"a","amount":7}"#;
    assert_eq!(read("d.jsonl", lines, "{}").0, CONVERTED);
}

#[test]
fn an_unknown_currency_is_refused_or_the_amount_null_by_choice() {
    let csv = "id,account,amount,fee,ccy\n1,a,10,2,XTS\n2,a,,,XTS\n";
    let (shown, _) = read("d.csv", csv, "{}");
    assert!(shown[0].contains("line 2, column 'amount': 'XTS' is not a currency with a rate"));
    assert_eq!(shown[1], "Null Null Text(\"XTS\")", "no amount, no fault");
    let (shown, remarks) = read("d.csv", csv, r#"{"text":{"bad_value":"null"}}"#);
    assert_eq!(shown[0], "Null Null Text(\"XTS\")");
    assert!(remarks.iter().any(|r| r.contains("'XTS'")), "{remarks:?}");
}

#[test]
fn a_change_of_the_amount_alone_does_not_pass_for_the_base() {
    let lines = r#"{"id":"1","account":"a","amount":10,"changed":["amount"]}
{"id":"1","account":"a","amount":10,"ccy":"USD","changed":["amount"]}
{"id":"1","account":"a","fee":1,"changed":["account"]}"#;
    let (shown, _) = read("d.jsonl", lines, "{}");
    assert!(shown[0].contains("have the source send both"), "{shown:?}");
    assert_eq!(shown[1], "Double(5.0) Null Text(\"EUR\")");
    assert_eq!(
        shown[2], "Null Null Null",
        "a fee that did not change needs none"
    );
}

/// A record of a plain Avro topic.
fn topic_row(amount: f64, ccy: &str, shape: &str) -> Result<String, String> {
    let catalog = catalog(&RATES);
    let table = catalog.table("deals").unwrap();
    let shape: SourceShape = serde_json::from_str(shape).unwrap();
    let source = TopicSource {
        table: table.id,
        shape,
    };
    let mut decoder = TopicDecoder::new("t", &catalog, &[source]).unwrap();
    let schema = SchemaRef::Id(7);
    let writer = WriterSchema {
        language: SchemaLanguage::Avro,
        text: DEALS.into(),
        references: Vec::new(),
    };
    decoder.learn(SchemaPlace::Value, schema, &writer, &catalog);
    let optional = |branch: u32, value: Avro| Avro::Union(branch, Box::new(value));
    let record = Avro::Record(vec![
        ("id".into(), Avro::String("1".into())),
        ("account".into(), optional(1, Avro::String("a".into()))),
        ("amount".into(), optional(1, Avro::Double(amount))),
        ("fee".into(), optional(0, Avro::Null)),
        ("ccy".into(), optional(1, Avro::String(ccy.into()))),
        ("changed".into(), optional(0, Avro::Null)),
    ]);
    let writer = GenericDatumWriter::builder(&table.avro).build().unwrap();
    let mut value = Vec::new();
    encode_frame(7, &writer.write_value_to_vec(record).unwrap(), &mut value);
    let record = RawRecord {
        key: None,
        value: Some(&value),
        headers: &[],
    };
    let mut rows = RowBatch::new();
    let read = decoder.read(&record, &catalog, Position::default(), 0, &mut rows);
    read.map_err(|fault| fault.to_string())?;
    Ok(money(&catalog, rows.row(0)))
}

#[test]
fn amounts_of_an_avro_topic_are_converted_once() {
    let converted = "Double(5.0) Null Text(\"EUR\")";
    assert_eq!(topic_row(10.0, "USD", "{}").unwrap(), converted);
    assert_eq!(
        topic_row(5.0, "EUR", "{}").unwrap(),
        converted,
        "a row that was written again"
    );
    let refused = topic_row(10.0, "XTS", "{}").unwrap_err();
    assert!(
        refused.contains("field amount: its currency is not"),
        "{refused}"
    );
    assert!(
        !refused.contains("XTS"),
        "a dead letter repeats no value: {refused}"
    );
    let by_choice = topic_row(10.0, "XTS", r#"{"text":{"bad_value":"null"}}"#);
    assert_eq!(by_choice.unwrap(), "Null Null Text(\"XTS\")");
}

#[test]
fn several_currencies_without_rates_are_remarked() {
    let remarks = |catalog: &Catalog, codes: &[&str]| {
        let table = catalog.table("deals").unwrap();
        let mut fit = RowFit::new(catalog);
        for code in codes {
            let mut batch = RowBatch::new();
            let operation = crate::Operation::Upsert;
            let mut row = batch.start(catalog, table.id, operation, Position::default(), 0);
            row.set(table.key, Value::Text("1"));
            row.set(table.field("amount").unwrap().id, Value::Double(1.0));
            row.set(table.field("ccy").unwrap().id, Value::Text(code));
            row.finish();
            fit.observe(catalog, batch.row(0));
        }
        fit.remarks(catalog, false)
    };
    let plain = catalog(&[]);
    assert!(remarks(&plain, &["USD", "USD"]).is_empty());
    let mixed = remarks(&plain, &["EUR", "USD", "USD"]).join("\n");
    assert!(
        mixed.contains("deals.amount: amounts of 2 currencies"),
        "{mixed}"
    );
    assert!(mixed.contains("USD (2), EUR (1)"), "{mixed}");
    assert!(remarks(&catalog(&RATES), &["EUR", "USD"]).is_empty());
}

#[test]
fn options_without_meaning_are_refused() {
    let check = |base: Option<&str>, rates: &[(&str, f64)], expected: &str| {
        let options = CurrencyOptions {
            base: base.map(str::to_owned),
            rates: rates
                .iter()
                .map(|(c, r)| ((*c).to_owned(), *r))
                .collect::<BTreeMap<_, _>>(),
        };
        let found = options.checked().unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    };
    check(None, &[("USD", 1.0)], "name the currency they convert to");
    check(Some(" "), &[], "without a name");
    check(Some("EUR"), &[("USD", 0.0)], "rates.USD: 0 is no rate");
    check(Some("EUR"), &[("USD", f64::NAN)], "NaN is no rate");
    check(Some("EUR"), &[("eur", 2.0)], "rates.EUR: 2 is no rate");
    check(
        Some("EUR"),
        &[("usd", 2.0), ("USD", 2.0)],
        "USD is given twice",
    );
    assert_eq!(CurrencyOptions::default().checked(), Ok(None));
}

#[test]
fn an_amount_names_a_text_and_is_no_whole_number() {
    let faults = |from: &str, to: &str| {
        let deals = DEALS.replace(from, to);
        let faults = Catalog::from_json(&[("a", ACCOUNTS), ("d", deals.as_str())]).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(
        faults(r#""currency":"ccy"}},"#, r#""currency":"cur"}},"#)
            .contains("'cur', which is no text")
    );
    let whole = faults(
        r#""amount","type":["null","double"]"#,
        r#""amount","type":["null","long"]"#,
    );
    assert!(whole.contains("make its type double"), "{whole}");
}
