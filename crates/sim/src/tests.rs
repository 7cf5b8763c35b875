//! Promises of the market as a whole, and the shipped schemas its rows follow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{BuyingState, Knobs, Market, MarketOptions, RowOut, SimError, TABLES, write_files};

const DAY_MS: i64 = 86_400_000;

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn schema_files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "avsc"));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn market(accounts: usize, days: u32, seed: u64) -> Market {
    Market::new(MarketOptions { accounts, days, seed, ..MarketOptions::default() }, Knobs::default()).unwrap()
}

fn rows_by_day(mut market: Market) -> Vec<Vec<RowOut>> {
    let mut days = Vec::new();
    loop {
        let mut rows = Vec::new();
        if !market.next_day(&mut |row| rows.push(row)) {
            assert!(rows.is_empty());
            return days;
        }
        days.push(rows);
    }
}

fn to_avro(value: &Value) -> apache_avro::types::Value {
    use apache_avro::types::Value as Avro;
    match value {
        Value::Null => Avro::Null,
        Value::Bool(b) => Avro::Boolean(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| Avro::Double(n.as_f64().unwrap()), Avro::Long),
        Value::String(text) => Avro::String(text.clone()),
        Value::Array(items) => Avro::Array(items.iter().map(to_avro).collect()),
        Value::Object(fields) => Avro::Map(fields.iter().map(|(name, value)| (name.clone(), to_avro(value))).collect()),
    }
}

fn text<'a>(row: &'a RowOut, field: &str) -> Option<&'a str> {
    row.fields.get(field).and_then(Value::as_str)
}

/// Days on which each account won an opportunity.
fn wins(days: &[Vec<RowOut>]) -> HashMap<String, Vec<usize>> {
    let mut wins: HashMap<String, Vec<usize>> = HashMap::new();
    for (day, rows) in days.iter().enumerate() {
        for row in rows.iter().filter(|row| text(row, "to_stage") == Some("Closed Won")) {
            wins.entry(text(row, "account_id").unwrap().to_owned()).or_default().push(day);
        }
    }
    wins
}

#[test]
fn shipped_schemas_load() {
    let inputs = schema_files(&schemas());
    let outputs = schema_files(&schemas().join("outputs"));
    assert_eq!(inputs.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut tables = TABLES;
        tables.sort();
        tables
    });
    assert_eq!(outputs.keys().map(String::as_str).collect::<Vec<_>>(), ["alert", "epoch_record", "policy_state", "score"]);
    for (name, json) in inputs.iter().chain(&outputs) {
        let schema = apache_avro::Schema::parse_str(json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let apache_avro::Schema::Record(record) = schema else { panic!("{name} is no record") };
        assert!(record.doc.is_some_and(|doc| !doc.is_empty()), "{name} has no doc");
        for field in &record.fields {
            assert!(field.doc.as_ref().is_some_and(|doc| !doc.is_empty()), "{name}.{} has no doc", field.name);
        }
    }
    let catalog = leadpulse_schema::Catalog::load(&schemas()).unwrap();
    assert_eq!(catalog.tables.len(), TABLES.len());
    assert_eq!(catalog.root().name, "accounts");
    assert_eq!(catalog.hubs.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["industries", "products", "regions", "technologies"]);
    let groups: BTreeSet<&str> = catalog.tables.iter().flat_map(|t| &t.fields).filter_map(|f| f.group.as_deref()).collect();
    assert!(groups.len() <= 10, "explanations are exact up to 10 groups: {groups:?}");
}

/// Inputs ask for little: a key, a time, and the type where there is one.
#[test]
fn few_fields_are_required() {
    for (name, json) in schema_files(&schemas()) {
        let schema: Value = serde_json::from_str(&json).unwrap();
        let required = schema["fields"].as_array().unwrap().iter().filter(|field| field.get("default").is_none()).count();
        assert!(required <= 3, "{name} requires {required} fields");
    }
}

/// The examples and the required fields of the producers' contract are those of the schemas.
#[test]
fn the_contract_says_what_the_schemas_say() {
    let contract = std::fs::read_to_string(schemas().join("../docs/events.md")).unwrap();
    for (name, json) in schema_files(&schemas()) {
        let (_, section) = contract.split_once(&format!("### `{name}`\n")).unwrap_or_else(|| panic!("{name} has no section"));
        let schema: Value = serde_json::from_str(&json).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        let required: Vec<String> =
            fields.iter().filter(|f| f.get("default").is_none()).map(|f| format!("`{}`", f["name"].as_str().unwrap())).collect();
        let stated = section.split_once("Required: ").unwrap().1.split_once('.').unwrap().0;
        assert_eq!(stated, required.join(", "), "{name}");
        let owners: Vec<&str> = fields.iter().filter(|f| f["leadpulse"]["owner"] == true).map(|f| f["name"].as_str().unwrap()).collect();
        if let (Some((_, hangs)), "event") =
            (section.split("\n\n").nth(1).unwrap().split_once("Hangs on "), schema["leadpulse"]["role"].as_str().unwrap())
        {
            let listed: Vec<&str> = hangs.split_once([';', '.']).unwrap().0.split('`').skip(1).step_by(2).collect();
            assert_eq!(listed, owners, "{name}");
        }
        let example: Value = serde_json::from_str(section.split_once("```json\n").unwrap().1.split_once("```").unwrap().0).unwrap();
        for field in example.as_object().unwrap().keys() {
            assert!(fields.iter().any(|f| f["name"] == field.as_str()), "{name}.{field} is in no schema");
        }
        let schema = apache_avro::Schema::parse_str(&json).unwrap();
        to_avro(&example).resolve(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn rows_follow_the_shipped_schemas() {
    let schemas: HashMap<String, (apache_avro::Schema, Value)> = schema_files(&schemas())
        .into_iter()
        .map(|(name, json)| (name, (apache_avro::Schema::parse_str(&json).unwrap(), serde_json::from_str(&json).unwrap())))
        .collect();
    let mut seen = HashSet::new();
    for row in rows_by_day(market(60, 120, 5)).iter().flatten() {
        seen.insert(row.table);
        let (avro, json) = &schemas[row.table];
        let fields = json["fields"].as_array().unwrap();
        for field in row.fields.as_object().unwrap().keys() {
            assert!(fields.iter().any(|f| f["name"] == field.as_str()), "{}.{field} is in no schema", row.table);
        }
        let value = to_avro(&row.fields);
        value.resolve(avro).unwrap_or_else(|e| panic!("{}: {e}: {}", row.table, row.fields));
        // Kinds, stages, departments and the like are spelled as the schema declares them.
        for (field, values) in fields.iter().filter_map(|f| Some((f["name"].as_str()?, f["leadpulse"]["values"].as_array()?))) {
            if let Some(written) = row.fields.get(field) {
                assert!(values.contains(written), "{}.{field}: {written} is not declared", row.table);
            }
        }
    }
    assert_eq!(seen.len(), TABLES.len(), "every table has rows");
}

#[test]
fn rows_come_in_time_order_and_after_what_they_refer_to() {
    let mut known: HashSet<(String, String)> = HashSet::new();
    let mut ids: HashSet<(&str, String)> = HashSet::new();
    let references = [
        ("account_id", "accounts"),
        ("converted_account_id", "accounts"),
        ("previous_account_id", "accounts"),
        ("referred_by_account_id", "accounts"),
        ("contact_id", "contacts"),
        ("converted_contact_id", "contacts"),
        ("primary_contact_id", "contacts"),
        ("invited_contact_id", "contacts"),
        ("lead_id", "leads"),
        ("opportunity_id", "opportunities"),
    ];
    let options = MarketOptions { accounts: 80, days: 200, seed: 2, ..MarketOptions::default() };
    for (day, rows) in rows_by_day(Market::new(options.clone(), Knobs::default()).unwrap()).iter().enumerate() {
        let day_ms = options.start_ms + day as i64 * DAY_MS;
        assert!(rows.is_sorted_by_key(|row| row.known_ms), "day {day}");
        for row in rows {
            assert!((day_ms..day_ms + DAY_MS).contains(&row.known_ms), "day {day}: {row:?}");
            if matches!(row.table, "accounts" | "contacts" | "leads" | "opportunities") {
                known.insert((row.table.to_owned(), row.key.clone()));
            } else {
                assert!(ids.insert((row.table, row.key.clone())), "{} {} twice", row.table, row.key);
                assert!(["contact_id", "lead_id", "account_id"].iter().any(|f| row.fields.get(f).is_some()), "{row:?} hangs on nothing");
            }
            for (field, table) in references {
                if let Some(key) = text(row, field) {
                    assert!(known.contains(&(table.to_owned(), key.to_owned())), "{} {}: unknown {field} {key}", row.table, row.key);
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = |seed| {
        let folder = tempfile::tempdir().unwrap();
        let mut days = 0;
        let counts = write_files(&mut market(40, 60, seed), folder.path(), &mut |day| days = day).unwrap();
        assert_eq!(days, 60);
        let mut hash = Sha256::new();
        for table in TABLES {
            let bytes = std::fs::read(folder.path().join(format!("{table}.jsonl"))).unwrap();
            assert_eq!(bytes.iter().filter(|b| **b == b'\n').count() as u64, counts[table], "{table}");
            hash.update(bytes);
        }
        hash.finalize()
    };
    assert_eq!(digest(11), digest(11));
    assert_ne!(digest(11), digest(12));
}

#[test]
fn a_longer_world_starts_like_a_shorter_one() {
    let short = rows_by_day(market(30, 40, 3));
    let long = rows_by_day(market(30, 80, 3));
    assert_eq!(short[..], long[..40]);
}

#[test]
fn hidden_truth_is_in_no_row() {
    let states: Vec<String> = BuyingState::ALL.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
    let hidden = ["state", "fit", "researcher", "champion", "wave", "speed", "purchase", "trial"];
    let mut keys = BTreeSet::new();
    for row in rows_by_day(market(60, 200, 9)).iter().flatten() {
        keys.extend(row.fields.as_object().unwrap().keys().cloned());
        let line = row.fields.to_string().to_lowercase();
        assert!(!states.iter().any(|state| line.contains(state)), "{}", row.fields);
    }
    for key in keys {
        assert!(!hidden.iter().any(|word| key.split('_').any(|part| part == *word)), "field {key}");
    }
}

#[test]
fn base_rate_is_that_of_b2b() {
    let days = rows_by_day(market(1_500, 360, 4));
    let wins = wins(&days);
    for anchor in [90, 180, 270] {
        let winners = wins.values().filter(|won| won.iter().any(|day| (anchor..anchor + 90).contains(day))).count();
        let rate = winners as f64 / 1_500.0;
        assert!((0.03..=0.08).contains(&rate), "{rate} of the accounts win in the 90 days after day {anchor}");
    }
}

/// Accounts that win were busier with late-stage content before, and their opportunities took steps on the way.
#[test]
fn engagement_tells_of_the_purchase() {
    const ANCHOR: usize = 200;
    let days = rows_by_day(market(1_000, 260, 6));
    let wins = wins(&days);
    let mut late_content: HashMap<&str, f64> = HashMap::new();
    for row in days[ANCHOR - 30..ANCHOR].iter().flatten() {
        let kind = text(row, "type").or(text(row, "content_type"));
        if let (Some("pricing" | "security" | "demo_request" | "meeting"), Some(account)) = (kind, text(row, "account_id")) {
            *late_content.entry(account).or_default() += 1.0;
        }
    }
    let (mut won, mut others) = ((0.0, 0.0), (0.0, 0.0));
    for number in 1..=1_000 {
        let account = format!("A{number:05}");
        let is_won = wins.get(&account).is_some_and(|won| won.iter().any(|day| (ANCHOR..ANCHOR + 60).contains(day)));
        let side = if is_won { &mut won } else { &mut others };
        side.0 += late_content.get(account.as_str()).copied().unwrap_or(0.0);
        side.1 += 1.0;
    }
    let ratio = (won.0 / won.1) / (others.0 / others.1);
    assert!(ratio > 2.5, "winners {won:?}, others {others:?}");

    let mut stages: HashMap<&str, Vec<&str>> = HashMap::new();
    for row in days.iter().flatten().filter(|row| row.table == "opportunity_stage_changes") {
        stages.entry(text(row, "opportunity_id").unwrap()).or_default().push(text(row, "to_stage").unwrap());
    }
    let closed = |end: &str| stages.values().filter(|s| s.last() == Some(&end)).count();
    assert!(closed("Closed Won") > 20 && closed("Closed Lost") > 20, "{} won, {} lost", closed("Closed Won"), closed("Closed Lost"));
    assert!(stages.values().all(|s| s[0] == "Discovery" && s.iter().filter(|x| x.starts_with("Closed")).count() <= 1));
    assert!(stages.values().any(|s| s.len() == 5), "some take every step");
}

/// Leads convert, people change employer and keep their key.
#[test]
fn people_convert_and_move() {
    let days = rows_by_day(market(200, 300, 8));
    let mut statuses = BTreeSet::new();
    let mut employers: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for row in days.iter().flatten() {
        match row.table {
            "leads" => {
                statuses.insert(text(row, "status").unwrap());
                let converted = text(row, "converted_contact_id").is_some();
                assert_eq!(converted, matches!(text(row, "status"), Some("Converted" | "Closed Won" | "Closed Lost")), "{}", row.fields);
            }
            "contacts" => {
                employers.entry(text(row, "contact_id").unwrap()).or_default().insert(text(row, "account_id").unwrap());
            }
            _ => {}
        }
    }
    assert!(["Open", "MQL", "SQL", "Converted", "Closed Won"].iter().all(|s| statuses.contains(s)), "{statuses:?}");
    assert!(employers.values().any(|e| e.len() > 1));
}

#[test]
fn options_are_checked() {
    let refused = |options: MarketOptions| matches!(Market::new(options, Knobs::default()), Err(SimError::Option { .. }));
    assert!(refused(MarketOptions { accounts: 0, ..MarketOptions::default() }));
    assert!(refused(MarketOptions { days: 0, ..MarketOptions::default() }));
    assert!(refused(MarketOptions { start_ms: 1, ..MarketOptions::default() }));
}
