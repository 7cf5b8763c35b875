//! Promises of the market as a whole, and the shipped schemas its rows follow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::market::DAY_MS;
use crate::rates::Rates;
use crate::state::{Motions, guise};
use crate::{
    BuyingState, Fields, Knobs, LATEST_DAYS, Market, MarketOptions, RowOut, SimError, TABLES,
    World, write_files,
};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn schema_files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "avsc"));
    files
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

fn market(accounts: usize, days: u32, seed: u64) -> Market {
    Market::new(
        MarketOptions {
            accounts,
            days,
            seed,
            ..MarketOptions::default()
        },
        Knobs::default(),
    )
    .unwrap()
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
        Value::Number(n) => n
            .as_i64()
            .map_or_else(|| Avro::Double(n.as_f64().unwrap()), Avro::Long),
        Value::String(text) => Avro::String(text.clone()),
        Value::Array(items) => Avro::Array(items.iter().map(to_avro).collect()),
        Value::Object(fields) => Avro::Map(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), to_avro(value)))
                .collect(),
        ),
    }
}

fn text<'a>(row: &'a RowOut, field: &str) -> Option<&'a str> {
    row.fields.text(field)
}

fn json(fields: &Fields) -> Value {
    serde_json::to_value(fields).unwrap()
}

/// Days on which each account won an opportunity.
fn wins(days: &[Vec<RowOut>]) -> HashMap<String, Vec<usize>> {
    let mut wins: HashMap<String, Vec<usize>> = HashMap::new();
    for (day, rows) in days.iter().enumerate() {
        for row in rows
            .iter()
            .filter(|row| text(row, "to_stage") == Some("Closed Won"))
        {
            wins.entry(text(row, "account_id").unwrap().to_owned())
                .or_default()
                .push(day);
        }
    }
    wins
}

/// Tables of what people say about alerts, of which a market has no rows.
const SAID: [&str; 3] = ["erasures", "feedback", "overrides"];

#[test]
fn shipped_schemas_load() {
    let inputs = schema_files(&schemas());
    let outputs = schema_files(&schemas().join("outputs"));
    assert_eq!(inputs.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut tables = [&TABLES[..], &SAID].concat();
        tables.sort();
        tables
    });
    assert_eq!(
        outputs.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "alert",
            "epoch_record",
            "erasure_proof",
            "exposure",
            "partition_layout",
            "policy_state",
            "score",
            "worklist"
        ]
    );
    for (name, json) in inputs.iter().chain(&outputs) {
        let schema = apache_avro::Schema::parse_str(json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let apache_avro::Schema::Record(record) = schema else {
            panic!("{name} is no record")
        };
        assert!(
            record.doc.is_some_and(|doc| !doc.is_empty()),
            "{name} has no doc"
        );
        for field in &record.fields {
            assert!(
                field.doc.as_ref().is_some_and(|doc| !doc.is_empty()),
                "{name}.{} has no doc",
                field.name
            );
        }
    }
    let catalog = leadpulse_schema::Catalog::load(&schemas()).unwrap();
    assert_eq!(catalog.tables.len(), TABLES.len() + SAID.len());
    assert_eq!(catalog.root().name, "accounts");
    assert_eq!(
        catalog
            .hubs
            .iter()
            .map(|h| h.name.as_str())
            .collect::<Vec<_>>(),
        [
            "groups",
            "industries",
            "products",
            "regions",
            "technologies"
        ]
    );
    let groups: BTreeSet<&str> = catalog
        .tables
        .iter()
        .flat_map(|t| &t.fields)
        .filter_map(|f| f.group.as_deref())
        .collect();
    assert!(
        groups.len() <= 10,
        "explanations are exact up to 10 groups: {groups:?}"
    );
}

/// Inputs require a key, a time, and the type where the table has one.
#[test]
fn few_fields_are_required() {
    for (name, json) in schema_files(&schemas()) {
        let schema: Value = serde_json::from_str(&json).unwrap();
        let required = schema["fields"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|field| field.get("default").is_none())
            .count();
        // What a person says has the person, too.
        let most = 3 + usize::from(SAID.contains(&name.as_str()));
        assert!(required <= most, "{name} requires {required} fields");
    }
}

/// The producers' contract has the examples and required fields of the schemas.
#[test]
fn the_contract_agrees_with_the_schemas() {
    let contract = std::fs::read_to_string(schemas().join("../docs/events.md")).unwrap();
    for (name, json) in schema_files(&schemas()) {
        let (_, section) = contract
            .split_once(&format!("### `{name}`\n"))
            .unwrap_or_else(|| panic!("{name} has no section"));
        let schema: Value = serde_json::from_str(&json).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        let required: Vec<String> = fields
            .iter()
            .filter(|f| f.get("default").is_none())
            .map(|f| format!("`{}`", f["name"].as_str().unwrap()))
            .collect();
        let stated = section
            .split_once("Required: ")
            .unwrap()
            .1
            .split_once('.')
            .unwrap()
            .0;
        assert_eq!(stated, required.join(", "), "{name}");
        let owners: Vec<&str> = fields
            .iter()
            .filter(|f| f["leadpulse"]["owner"] == true)
            .map(|f| f["name"].as_str().unwrap())
            .collect();
        if let (Some((_, hangs)), "event") = (
            section
                .split("\n\n")
                .nth(1)
                .unwrap()
                .split_once("Hangs on "),
            schema["leadpulse"]["role"].as_str().unwrap(),
        ) {
            let listed: Vec<&str> = hangs
                .split_once([';', '.'])
                .unwrap()
                .0
                .split('`')
                .skip(1)
                .step_by(2)
                .collect();
            assert_eq!(listed, owners, "{name}");
        }
        let example: Value = serde_json::from_str(
            section
                .split_once("```json\n")
                .unwrap()
                .1
                .split_once("```")
                .unwrap()
                .0,
        )
        .unwrap();
        for field in example.as_object().unwrap().keys() {
            assert!(
                fields.iter().any(|f| f["name"] == field.as_str()),
                "{name}.{field} is in no schema"
            );
        }
        let schema = apache_avro::Schema::parse_str(&json).unwrap();
        to_avro(&example)
            .resolve(&schema)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn rows_follow_the_shipped_schemas() {
    let schemas: HashMap<String, (apache_avro::Schema, Value)> = schema_files(&schemas())
        .into_iter()
        .map(|(name, json)| {
            (
                name,
                (
                    apache_avro::Schema::parse_str(&json).unwrap(),
                    serde_json::from_str(&json).unwrap(),
                ),
            )
        })
        .collect();
    let mut seen = HashSet::new();
    for row in rows_by_day(market(150, 120, 5)).iter().flatten() {
        seen.insert(row.table);
        let (avro, schema) = &schemas[row.table];
        let fields = schema["fields"].as_array().unwrap();
        let written = json(&row.fields);
        assert_eq!(
            written.as_object().unwrap().len(),
            row.fields.iter().count(),
            "a field is set twice: {written}"
        );
        for field in written.as_object().unwrap().keys() {
            assert!(
                fields.iter().any(|f| f["name"] == field.as_str()),
                "{}.{field} is in no schema",
                row.table
            );
        }
        to_avro(&written)
            .resolve(avro)
            .unwrap_or_else(|e| panic!("{}: {e}: {written}", row.table));
        // Kinds, stages, departments and the like are spelled as the schema declares them.
        for (field, values) in fields
            .iter()
            .filter_map(|f| Some((f["name"].as_str()?, f["leadpulse"]["values"].as_array()?)))
        {
            if let Some(written) = written.get(field) {
                assert!(
                    values.contains(written),
                    "{}.{field}: {written} is not declared",
                    row.table
                );
            }
        }
    }
    assert_eq!(seen.len(), TABLES.len(), "every table has rows");
}

#[test]
fn rows_come_as_they_are_known_and_after_what_they_refer_to() {
    let mut known: HashSet<(String, String)> = HashSet::new();
    let mut events: HashMap<(&str, String), RowOut> = HashMap::new();
    let references = [
        ("account_id", "accounts"),
        ("merged_into_id", "the same table"),
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
    let (mut late, mut again, mut back) = (0, 0, 0);
    let options = MarketOptions {
        accounts: 100,
        days: 200,
        seed: 2,
        ..MarketOptions::default()
    };
    for (day, rows) in rows_by_day(Market::new(options.clone(), Knobs::default()).unwrap())
        .iter()
        .enumerate()
    {
        let day_ms = options.start_ms + day as i64 * DAY_MS;
        assert!(rows.is_sorted_by_key(|row| row.known_ms), "day {day}");
        for row in rows {
            assert!(
                (day_ms..day_ms + DAY_MS).contains(&row.known_ms),
                "day {day}: {row:?}"
            );
            let happened_ms = ["updated_at", "changed_at", "occurred_at"]
                .iter()
                .find_map(|field| row.fields.whole(field))
                .unwrap();
            let is_event = row.fields.get("occurred_at").is_some();
            assert!(happened_ms == row.known_ms || is_event, "{row:?}");
            if matches!(
                row.table,
                "accounts" | "contacts" | "leads" | "opportunities" | "users"
            ) {
                let assigned = ["owner_id", "manager_id"].map(|field| row.fields.text(field));
                for user in assigned.into_iter().flatten() {
                    let user = ("users".to_owned(), user.to_owned());
                    assert!(known.contains(&user), "{row:?} names a user before its row");
                }
                known.insert((row.table.to_owned(), row.key.clone()));
            } else {
                assert!(
                    ["contact_id", "lead_id", "account_id"]
                        .iter()
                        .any(|f| row.fields.get(f).is_some()),
                    "{row:?} hangs on nothing"
                );
                let first = events
                    .entry((row.table, row.key.clone()))
                    .or_insert_with(|| row.clone());
                let age_days = (row.known_ms - happened_ms) / DAY_MS;
                assert!((0..=LATEST_DAYS as i64).contains(&age_days), "{row:?}");
                let is_back = row.fields.get("retracted").is_some();
                if is_back {
                    let whole: Vec<_> = row
                        .fields
                        .iter()
                        .filter(|(name, _)| *name != "retracted")
                        .collect();
                    assert_eq!(
                        whole,
                        first.fields.iter().collect::<Vec<_>>(),
                        "what is taken back carries the whole row"
                    );
                } else {
                    assert_eq!(row.fields, first.fields, "what comes twice is the same");
                }
                back += usize::from(is_back);
                again += usize::from(!is_back && first.known_ms < row.known_ms);
                late += usize::from(first.known_ms == row.known_ms && row.known_ms > happened_ms);
            }
            for (field, table) in references {
                let table = if field == "merged_into_id" {
                    row.table
                } else {
                    table
                };
                if let Some(key) = text(row, field) {
                    assert!(
                        known.contains(&(table.to_owned(), key.to_owned())),
                        "{} {}: unknown {field} {key}",
                        row.table,
                        row.key
                    );
                }
            }
        }
    }
    let share = |count: usize| count as f64 / events.len() as f64;
    assert!(
        (0.014..0.026).contains(&share(late)),
        "{late} of {} late",
        events.len()
    );
    assert!(
        (0.006..0.014).contains(&share(again)),
        "{again} of {} twice",
        events.len()
    );
    assert!(
        (0.002..0.014).contains(&share(back)),
        "{back} of {} taken back",
        events.len()
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = |seed| {
        let folder = tempfile::tempdir().unwrap();
        let mut days = 0;
        let counts = write_files(&mut market(40, 60, seed), folder.path(), &mut |day| {
            days = day
        })
        .unwrap();
        assert_eq!(days, 60);
        let mut hash = Sha256::new();
        for table in TABLES {
            let bytes = std::fs::read(folder.path().join(format!("{table}.jsonl"))).unwrap();
            assert_eq!(
                bytes.iter().filter(|b| **b == b'\n').count() as u64,
                counts[table],
                "{table}"
            );
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
    let states: Vec<String> = BuyingState::ALL
        .iter()
        .map(|s| format!("{s:?}").to_lowercase())
        .collect();
    let hidden = [
        "state",
        "fit",
        "researcher",
        "champion",
        "wave",
        "speed",
        "purchase",
        "trial",
        "loudness",
        "pace",
    ];
    let mut keys = BTreeSet::new();
    for row in rows_by_day(market(60, 200, 9)).iter().flatten() {
        keys.extend(row.fields.iter().map(|(name, _)| name));
        let line = json(&row.fields).to_string().to_lowercase();
        assert!(!states.iter().any(|state| line.contains(state)), "{line}");
    }
    for key in keys {
        assert!(
            !hidden
                .iter()
                .any(|word| key.split('_').any(|part| part == *word)),
            "field {key}"
        );
    }
}

/// The simulator and the models depend on no common constants: neither crate uses the other.
#[test]
fn the_world_and_the_models_do_not_know_each_other() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dependencies = |name: &str| {
        let manifest = std::fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        manifest
            .split_once("[dependencies]")
            .unwrap()
            .1
            .split("\n[")
            .next()
            .unwrap()
            .to_owned()
    };
    assert!(!dependencies("sim").contains("leadpulse"));
    for name in [
        "schema", "graph", "features", "pql", "model", "policy", "engine", "learn", "kafka",
        "server",
    ] {
        assert!(!dependencies(name).contains("leadpulse-sim"), "{name}");
    }
}

/// Announcements before the first day do not depend on hidden state: no value, order or key gives
/// it away.
#[test]
fn first_announcements_do_not_depend_on_hidden_state() {
    let announced = |knobs: Knobs| {
        let options = MarketOptions {
            accounts: 200,
            days: 1,
            seed: 21,
            ..MarketOptions::default()
        };
        let rows = rows_by_day(Market::new(options.clone(), knobs).unwrap()).remove(0);
        rows.into_iter()
            .take_while(|row| row.known_ms == options.start_ms)
            .collect::<Vec<_>>()
    };
    let market = announced(Knobs::default());
    assert!(market.len() > 1_000);
    for state in 0..6 {
        let mut knobs = Knobs {
            researcher_ratio: f64::from(state % 2),
            start: [0.0; 6],
            ..Knobs::default()
        };
        knobs.start[state as usize] = 1.0;
        knobs.fit.cuts = [[-9.0, 9.0], [-9.0, -9.0], [9.0, 9.0]][state as usize % 3];
        assert!(announced(knobs) == market, "state {state}");
    }
    for world in [
        World::NoWaves,
        World::NoChampions,
        World::NoCommittees,
        World::NothingRelational,
        World::OrderOnly,
    ] {
        assert!(announced(world.knobs()) == market, "{world}");
    }
}

/// Accounts that buy had more events with late-stage content before, and their opportunities took
/// steps.
#[test]
fn late_stage_content_precedes_purchases() {
    const ANCHOR: usize = 200;
    let days = rows_by_day(market(1_500, 260, 6));
    let wins = wins(&days);
    let mut late_content: HashMap<&str, f64> = HashMap::new();
    for row in days[ANCHOR - 30..ANCHOR].iter().flatten() {
        let kind = text(row, "type").or(text(row, "content_type"));
        if let (
            Some("pricing" | "pricing_page_view" | "security" | "demo_request" | "meeting"),
            Some(account),
        ) = (kind, text(row, "account_id"))
        {
            *late_content.entry(account).or_default() += 1.0;
        }
    }
    let (mut won, mut others) = ((0.0, 0.0), (0.0, 0.0));
    for number in 1..=1_500 {
        let account = format!("A{number:05}");
        let is_won = wins
            .get(&account)
            .is_some_and(|won| won.iter().any(|day| (ANCHOR..ANCHOR + 45).contains(day)));
        let side = if is_won { &mut won } else { &mut others };
        side.0 += late_content.get(account.as_str()).copied().unwrap_or(0.0);
        side.1 += 1.0;
    }
    let ratio = (won.0 / won.1) / (others.0 / others.1);
    assert!(ratio > 1.4, "winners {won:?}, others {others:?}");

    let mut stages: HashMap<&str, Vec<&str>> = HashMap::new();
    for row in days
        .iter()
        .flatten()
        .filter(|row| row.table == "opportunity_stage_changes")
    {
        stages
            .entry(text(row, "opportunity_id").unwrap())
            .or_default()
            .push(text(row, "to_stage").unwrap());
    }
    let closed = |end: &str| stages.values().filter(|s| s.last() == Some(&end)).count();
    assert!(
        closed("Closed Won") > 20 && closed("Closed Lost") > 20,
        "{} won, {} lost",
        closed("Closed Won"),
        closed("Closed Lost")
    );
    assert!(
        stages
            .values()
            .all(|s| s[0] == "Discovery"
                && s.iter().filter(|x| x.starts_with("Closed")).count() <= 1)
    );
    assert!(
        stages.values().any(|s| s.len() == 5),
        "some take every step"
    );
}

/// Every phenomenon that the graph has to handle happens, with its share.
#[test]
fn every_phenomenon_has_its_share() {
    let days = rows_by_day(market(400, 400, 8));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut statuses = BTreeSet::new();
    let mut customers: HashSet<String> = HashSet::new();
    let mut first_contact: HashSet<&str> = HashSet::new();
    let mut lost_with: HashMap<&str, &str> = HashMap::new();
    let mut leads: HashSet<&str> = HashSet::new();
    for row in days.iter().flatten() {
        let mut count = |what| *counts.entry(what).or_default() += 1;
        let is_new = row.known_ms > MarketOptions::default().start_ms;
        match row.table {
            "accounts" => {
                if text(row, "status") == Some("Customer") {
                    customers.insert(row.key.clone());
                }
                if text(row, "merged_into_id").is_some() {
                    count("accounts merged");
                }
            }
            "leads" => {
                let status = text(row, "status").unwrap();
                statuses.insert(status);
                let is_converted = text(row, "converted_contact_id").is_some();
                assert_eq!(
                    is_converted,
                    matches!(status, "Converted" | "Closed Won" | "Closed Lost"),
                    "{row:?}"
                );
                if leads.insert(&row.key) {
                    count("leads");
                    let is_free_mail = ["@gmail.", "@outlook.", "@yahoo.", "@hotmail.", "@icloud."]
                        .iter()
                        .any(|p| text(row, "email").unwrap().contains(p));
                    match (text(row, "account_id").is_some(), is_free_mail) {
                        (true, true) => count("leads with account from free mail"),
                        (false, true) => count("leads without account from free mail"),
                        (false, false) => count("leads to be matched by domain"),
                        (true, false) => {}
                    }
                }
                if status == "Converted" {
                    count("leads converted");
                }
            }
            "contacts" => {
                if text(row, "merged_into_id").is_some() {
                    count("contacts merged");
                } else if !first_contact.insert(&row.key) {
                    count("moves");
                    if customers.contains(text(row, "previous_account_id").unwrap()) {
                        count("champions");
                    }
                } else if is_new && matches!(text(row, "seniority"), Some("VP" | "C-Level")) {
                    count("executives joined");
                }
            }
            "opportunities" => {
                let (account, contact) = (
                    text(row, "account_id").unwrap(),
                    text(row, "primary_contact_id"),
                );
                match text(row, "stage") {
                    Some("Closed Lost") => {
                        contact.and_then(|contact| lost_with.insert(account, contact));
                    }
                    Some("Discovery") => {
                        if lost_with
                            .remove(account)
                            .zip(contact)
                            .is_some_and(|(before, now)| before != now)
                        {
                            count("lost and back with somebody else");
                        }
                        if text(row, "type") == Some("Expansion") {
                            count("expansions opened");
                        }
                    }
                    Some("Closed Won") if text(row, "type") == Some("Expansion") => {
                        count("expansions won")
                    }
                    _ => {}
                }
            }
            "product_usage" => match text(row, "kind") {
                Some("limit_hit") => count("limits hit"),
                Some("invite") if text(row, "invited_contact_id").is_some() => count("invitations"),
                _ => {}
            },
            _ => {}
        }
    }
    for status in [
        "Open",
        "MQL",
        "SQL",
        "Nurture",
        "No reply",
        "Disqualified",
        "Converted",
        "Closed Won",
        "Closed Lost",
    ] {
        assert!(statuses.contains(status), "{statuses:?}");
    }
    let at_least = [
        ("accounts merged", 2),
        ("contacts merged", 30),
        ("leads", 200),
        ("leads converted", 30),
        ("leads with account from free mail", 6),
        ("leads without account from free mail", 40),
        ("leads to be matched by domain", 30),
        ("moves", 30),
        ("champions", 10),
        ("executives joined", 30),
        ("lost and back with somebody else", 30),
        ("expansions opened", 20),
        ("expansions won", 5),
        ("limits hit", 100),
        ("invitations", 100),
    ];
    for (what, least) in at_least {
        assert!(
            counts.get(what).is_some_and(|count| *count >= least),
            "{what}: {counts:?}"
        );
    }
}

/// A control world differs from the market only in its own subject.
#[test]
fn controls_change_what_they_say() {
    let states = 1..6;
    let market = Knobs::default();
    let [waves, champions, committees, nothing, order] = [
        World::NoWaves,
        World::NoChampions,
        World::NoCommittees,
        World::NothingRelational,
        World::OrderOnly,
    ]
    .map(World::knobs);
    let motion = |knobs: &Knobs, wave: f64, champion: bool| {
        Motions::new(knobs, &[wave]).of(0, champion, 1, false).0
    };
    let is_pushed = |knobs: &Knobs| {
        [
            motion(knobs, 0.0, false) != motion(knobs, 1.0, false),
            motion(knobs, 0.5, false) != motion(knobs, 0.5, true),
        ]
    };
    assert_eq!(is_pushed(&market), [true, true]);
    assert_eq!(is_pushed(&waves), [false, true]);
    assert_eq!(is_pushed(&champions), [true, false]);
    assert_eq!(is_pushed(&committees), [true, true]);
    assert_eq!(is_pushed(&nothing), [false, false]);
    assert_eq!(is_pushed(&order), [false, false]);

    // True if departments and ranks take part differently in some state.
    let has_committees = |knobs: &Knobs| {
        let rates = Rates::new(knobs);
        let relative = |department, is_executive, state| {
            let by_guise = rates.engagement(department, is_executive, 1);
            by_guise[guise(state, false)] / by_guise[guise(0, false)]
        };
        let differs = |a: f64, b: f64| (a - b).abs() > 1e-12;
        states.clone().any(|state| {
            differs(relative(0, false, state), relative(9, false, state))
                || differs(relative(0, true, state), relative(0, false, state))
        })
    };
    assert_eq!(
        [&market, &waves, &champions, &committees, &nothing, &order].map(has_committees),
        [true, true, true, false, false, false]
    );

    // Forwards and backwards are the same steps.
    let rates = Rates::new(&order);
    for kind in 0..order.engagement.len() {
        let by_guise = rates.engagement(3, false, kind);
        for state in 1..5 {
            assert_eq!(
                by_guise[guise(state, false)],
                by_guise[guise(5 - state, true)]
            );
        }
        assert_eq!(by_guise[guise(0, false)], by_guise[guise(5, true)]);
    }
    let purchase = |researcher| {
        Motions::new(&order, &[0.0])
            .of(0, false, 1, researcher)
            .0
            .iter()
            .map(|to| to[6])
            .sum::<f64>()
    };
    assert!(purchase(false) > 0.0 && purchase(true) == 0.0);

    // Purchases depend on the hidden state, not on the committee or on lost records.
    let purchases = |world: World| {
        let options = MarketOptions {
            accounts: 300,
            days: 200,
            seed: 5,
            ..MarketOptions::default()
        };
        let mut market = Market::new(options, world.knobs()).unwrap();
        while market.next_day(&mut |_| {}) {}
        market
            .purchases()
            .iter()
            .map(|purchase| (purchase.account.clone(), purchase.at_ms / DAY_MS))
            .collect::<Vec<_>>()
    };
    let expected = purchases(World::Market);
    assert!(expected.len() > 5);
    assert_eq!(purchases(World::NoCommittees), expected);
    assert_ne!(purchases(World::NoWaves), expected);
}

#[test]
fn a_backfilled_export_differs_in_the_accounts_of_old_events_alone() {
    let rows = |backfilled: bool| {
        let options = MarketOptions {
            accounts: 60,
            days: 250,
            seed: 5,
            ..MarketOptions::default()
        };
        let mut knobs = World::Backfilled.knobs();
        knobs.mess.backfilled = backfilled;
        let mut market = Market::new(options, knobs).unwrap();
        let mut rows = Vec::new();
        while market.next_day(&mut |row| rows.push(row)) {}
        rows
    };
    let (clean, backfilled) = (rows(false), rows(true));
    assert_eq!(clean.len(), backfilled.len());
    let converts = |lead: &str| {
        let mut leads = clean
            .iter()
            .filter(|row| text(row, "lead_id") == Some(lead));
        leads.any(|row| text(row, "converted_account_id").is_some())
    };
    let mut written = 0;
    for (clean, backfilled) in clean.iter().zip(&backfilled) {
        if clean.fields == backfilled.fields {
            continue;
        }
        written += 1;
        assert_eq!(text(clean, "account_id"), None);
        assert!(text(backfilled, "account_id").is_some());
        assert!(converts(text(backfilled, "lead_id").unwrap()));
    }
    assert!(written > 10, "{written}");
}

#[test]
fn worlds_are_found_by_name() {
    for world in World::ALL {
        assert_eq!(world.name().parse(), Ok(world));
    }
    assert!(
        "utopia"
            .parse::<World>()
            .unwrap_err()
            .contains("order-only")
    );
}

#[test]
fn options_outside_their_range_are_refused() {
    let refused = |options: MarketOptions| {
        matches!(
            Market::new(options, Knobs::default()),
            Err(SimError::Option { .. })
        )
    };
    assert!(refused(MarketOptions {
        accounts: 0,
        ..MarketOptions::default()
    }));
    assert!(refused(MarketOptions {
        days: 0,
        ..MarketOptions::default()
    }));
    assert!(refused(MarketOptions {
        start_ms: 1,
        ..MarketOptions::default()
    }));
    let market = market(5, 10, 1);
    let start_ms = market.options().start_ms;
    for anchor_ms in [start_ms, start_ms + 11 * DAY_MS, start_ms + DAY_MS + 1] {
        assert!(matches!(
            crate::bayes(&market, &[anchor_ms], 30),
            Err(SimError::Option {
                option: "anchor",
                ..
            })
        ));
    }
}
