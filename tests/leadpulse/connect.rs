//! The pages of `docs/connect`: the configuration that each prints, and records of its source, on
//! real Kafka, from the bytes to the scores.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_engine::HEADER_REASON;
use leadpulse_engine::ports::Output;
use leadpulse_kafka::Producer;
use leadpulse_schema::FolderRegistry;
use serde_json::Value as Json;
use toml::Value as Toml;

use super::dataset::{accounts, alone};
use super::process::arg;
use super::scenario::Scenario;
use crate::harness::repository;

/// A page's configuration and a file of records.
struct Page {
    page: &'static str,
    /// Word after `toml` of the page's block; empty for a block without one.
    block: &'static str,
    fixture: &'static str,
    /// The topic of records that name none.
    topic: &'static str,
    /// Records that change the graph or repeat a row.
    applied: i64,
    /// Reasons of the dead letters, in any order.
    dead: &'static [&'static str],
    /// Table, key, field and value of rows, as the last record of the key has them.
    rows: &'static [(&'static str, &'static str, &'static str, &'static str)],
    /// Accounts that are scored at the end.
    scored: &'static [&'static str],
}

const DEBEZIUM: Page = Page {
    page: "debezium",
    block: "json",
    fixture: "debezium-json",
    topic: "crm.public.account",
    // The tombstone after a deletion repeats it.
    applied: 7,
    dead: &[],
    rows: &[
        ("accounts", "2", "name", "Company Two"),
        ("accounts", "2", "revenue", "2500000.75"),
        ("accounts", "2", "updated_at", "2025-01-12T12:00:00Z"),
        ("accounts", "4", "domain", "company4.example"),
    ],
    scored: &["1", "2", "4"],
};

const PAGES: [Page; 9] = [
    DEBEZIUM,
    Page {
        block: "json-schemas",
        fixture: "debezium-json-schemas",
        ..DEBEZIUM
    },
    Page {
        block: "avro",
        fixture: "debezium-avro",
        ..DEBEZIUM
    },
    Page {
        page: "salesforce-cdc",
        block: "",
        fixture: "salesforce-cdc",
        topic: "",
        // All but the contact, which no source reads. A gap changes what is known about the deal.
        applied: 7,
        dead: &[],
        rows: &[
            ("accounts", "0015g00000AAA01AAG", "employee_count", "480"),
            ("opportunities", "0065g00000AAA01AAG", "stage", "Proposal"),
        ],
        scored: &["0015g00000AAA01AAG"],
    },
    Page {
        page: "segment",
        block: "",
        fixture: "segment",
        topic: "",
        applied: 5,
        dead: &[],
        rows: &[
            ("accounts", "A-1", "industry", "Software"),
            ("contacts", "C-1", "account_id", "A-1"),
            ("content_views", "ajs-3", "content_type", "pricing"),
            ("activities", "ajs-4", "duration_seconds", "42.5"),
        ],
        scored: &["A-1"],
    },
    Page {
        page: "hubspot",
        block: "",
        fixture: "hubspot",
        topic: "",
        applied: 5,
        dead: &[],
        rows: &[
            ("accounts", "7001", "employee_count", "420"),
            ("opportunities", "9001", "account_id", "7001"),
            ("opportunities", "9001", "amount", "48000"),
            (
                "opportunities",
                "9001",
                "updated_at",
                "2025-01-29T09:15:00.123Z",
            ),
        ],
        scored: &["7001"],
    },
    Page {
        page: "marketo",
        block: "",
        fixture: "marketo",
        topic: "",
        applied: 3,
        dead: &[],
        rows: &[
            ("leads", "1001", "status", "Open"),
            (
                "activities",
                "102988",
                "occurred_at",
                "2025-01-14T06:56:35Z",
            ),
            ("activities", "102989", "type", "1"),
        ],
        scored: &[],
    },
    Page {
        page: "json",
        block: "json",
        fixture: "json",
        topic: "",
        applied: 2,
        dead: &["unreadable"],
        rows: &[
            ("product_usage", "u-1", "feature", "export"),
            (
                "product_usage",
                "90071992547409931",
                "contact_id",
                "90071992547409932",
            ),
        ],
        scored: &[],
    },
    Page {
        page: "json",
        block: "cloudevents",
        fixture: "cloudevents",
        topic: "",
        applied: 2,
        dead: &[],
        rows: &[
            ("product_usage", "ce-1", "kind", "login"),
            (
                "product_usage",
                "ce-2",
                "occurred_at",
                "2025-01-14T10:21:00Z",
            ),
        ],
        scored: &[],
    },
];

/// A record of a fixture.
struct Sample {
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    timestamp_ms: i64,
}

impl Page {
    /// The sources of the page's block.
    fn sources(&self) -> Vec<Toml> {
        let path = repository().join(format!("docs/connect/{}.md", self.page));
        let text = std::fs::read_to_string(path).unwrap();
        let fence = format!("```toml {}", self.block);
        let mut lines = text.lines().skip_while(|line| *line != fence.trim_end());
        assert!(lines.next().is_some(), "{} has no {fence}", self.page);
        let block: Vec<&str> = lines.take_while(|line| *line != "```").collect();
        let config: toml::Table = block.join("\n").parse().unwrap();
        config["sources"].as_array().unwrap().clone()
    }

    fn samples(&self, schemas: &[(u8, u32)]) -> Vec<Sample> {
        let path = format!("tests/fixtures/connect/{}.jsonl", self.fixture);
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let sample = |line: &str| {
            let line: Json = serde_json::from_str(line).unwrap();
            let is_encoded = line.get("json").is_none();
            let bytes = |of: &Json| {
                let text = of.as_str()?;
                Some(match is_encoded {
                    true => renumbered(base64(text), schemas),
                    false => text.as_bytes().to_vec(),
                })
            };
            let headers = line["headers"].as_object();
            Sample {
                topic: line["topic"].as_str().unwrap_or(self.topic).to_owned(),
                key: bytes(&line["key"]),
                value: match line.get("json") {
                    Some(json) => Some(json.to_string().into_bytes()),
                    None => bytes(&line["value"]),
                },
                headers: headers
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                    .collect(),
                timestamp_ms: line["timestamp"].as_i64().unwrap(),
            }
        };
        text.lines().map(sample).collect()
    }
}

/// The fixtures' schema ids as those that a folder gives to the same schemas.
fn renumbered(mut bytes: Vec<u8>, schemas: &[(u8, u32)]) -> Vec<u8> {
    let known = schemas
        .iter()
        .find(|(id, _)| bytes[..5.min(bytes.len())] == [0, 0, 0, 0, *id]);
    if let Some((_, id)) = known {
        bytes[1..5].copy_from_slice(&id.to_be_bytes());
    }
    bytes
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is not base64"),
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (i, digit)| {
            bits | u32::from(*digit) << (18 - 6 * i)
        });
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The shipped schemas beside those that the fixtures were written under, and their ids.
fn schemas_with_writers(dir: &std::path::Path) -> Vec<(u8, u32)> {
    std::fs::create_dir(dir.join("versions")).unwrap();
    for entry in std::fs::read_dir(repository().join("schemas")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
    let fixtures = repository().join("tests/fixtures/connect");
    let mut ids = Vec::new();
    for (id, name) in [(1, "debezium-key.avsc"), (2, "debezium-value.avsc")] {
        let text = std::fs::read_to_string(fixtures.join(name)).unwrap();
        std::fs::write(dir.join("versions").join(name), &text).unwrap();
        ids.push((id, FolderRegistry::id_of(&text).unwrap()));
    }
    ids
}

/// The last row of each table and key, as `validate` reads the topic.
fn rows(scenario: &Scenario, topics: &BTreeSet<String>) -> BTreeMap<(String, String), Json> {
    let mut found = BTreeMap::new();
    for topic in topics {
        let args = ["--topic", topic.as_str(), "--last", "100", "--json"];
        let ended = scenario.start("validate", &args).wait();
        for line in ended.out.lines() {
            let line: Json = serde_json::from_str(line).unwrap();
            let row = &line["row"];
            if row["operation"] == "upsert" {
                let table = line["table"].as_str().unwrap().to_owned();
                let key = row["key"].as_str().unwrap().to_owned();
                let fields = row["fields"].as_array().unwrap().clone();
                let fields = fields
                    .into_iter()
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()));
                found.insert((table, key), Json::Object(fields.collect()));
            }
        }
    }
    found
}

fn is_read_as_its_page_says(page: &Page) {
    let dir = tempfile::tempdir().unwrap();
    let ids = schemas_with_writers(dir.path());
    let mut config = accounts().config.clone();
    config.insert("schemas".into(), Toml::String(arg(dir.path()).into()));
    config.insert("sources".into(), Toml::Array(page.sources()));
    let name = format!("connect-{}", page.fixture);
    let Some(scenario) = Scenario::with_config(accounts(), &name, config) else {
        return;
    };
    scenario.create_inputs(1);
    let mut producer = Producer::connect(&scenario.options, &scenario.metrics).unwrap();
    let samples = page.samples(&ids);
    let mut topics = BTreeSet::new();
    for sample in &samples {
        let topic = scenario.named(&sample.topic);
        let headers: Vec<(&str, Option<&[u8]>)> = sample
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.as_bytes())))
            .collect();
        let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
        producer
            .send_with_headers(&topic, key, value, &headers, sample.timestamp_ms)
            .unwrap();
        topics.insert(topic);
    }
    producer.flush(super::process::PATIENCE).unwrap();

    let summary = scenario.run_to_end();
    let about = format!("{}, {}: {summary:?}", page.page, page.fixture);
    assert_eq!(summary.records, samples.len() as i64, "{about}");
    assert_eq!(
        summary.accepted + summary.duplicate,
        page.applied,
        "{about}"
    );
    let letters = scenario.committed(Output::DeadLetters);
    let reason = |letter: &leadpulse_kafka::OwnedRecord| {
        let (_, value) = letter
            .headers
            .iter()
            .find(|(name, _)| name == HEADER_REASON)
            .unwrap();
        String::from_utf8(value.clone().unwrap()).unwrap()
    };
    let reasons: Vec<String> = letters.iter().map(reason).collect();
    assert_eq!(reasons, page.dead, "{about}");

    let found = rows(&scenario, &topics);
    for (table, key, field, expected) in page.rows {
        let row = found.get(&((*table).to_owned(), (*key).to_owned()));
        let row = row.unwrap_or_else(|| panic!("{about}: no {table} {key} in {found:?}"));
        let value = match &row[*field] {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let is_equal = value == *expected
            || value
                .parse::<f64>()
                .is_ok_and(|x| expected.parse() == Ok(x));
        assert!(
            is_equal,
            "{about}: {field} of {table} {key} is {value}, not {expected}"
        );
    }
    let scores = scenario.scores();
    for account in page.scored {
        let last = scores.iter().rfind(|score| score.entity_id == *account);
        let last = last.unwrap_or_else(|| panic!("{about}: no score of {account}"));
        assert_eq!(
            last.status,
            super::scenario::Status::Scored,
            "{about}: {account}"
        );
    }
}

#[test]
fn every_page_reads_its_records_into_scores() {
    let _alone = alone();
    // Each page is tried, whatever the others do.
    let fails = |page: &&Page| std::panic::catch_unwind(|| is_read_as_its_page_says(page)).is_err();
    let failed: Vec<&str> = PAGES
        .iter()
        .filter(fails)
        .map(|page| page.fixture)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}
