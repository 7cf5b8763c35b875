//! `leadpulse report shadow` beside `leadpulse backtest` on a small simulated market: the scores of
//! a backtest, written as score records, are judged as the backtest judges them.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

const TASK: &str = r#"
[[tasks]]
name = "account-meetings-30d"
query = "PREDICT COUNT(activities.* WHERE activities.type = 'meeting', 0, 30, days) > 0 FOR EACH accounts.account_id"
anchors = "every 10d"
fit = { candidates = [{ hidden = 16 }], ensemble = 1, selection_members = 1, max_epochs = 3 }
"#;
const TEST_FROM: &str = "2020-06-20";

/// A row that a backtest scored.
#[derive(Clone)]
struct Scored {
    at: String,
    key: String,
    probability: f64,
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// Simulates a market, trains on its first half and scores the rest.
    fn new() -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let text = std::fs::read_to_string(repository().join("leadpulse.toml")).unwrap();
        let sources = &text[..text.find("# What queries may call").unwrap()];
        let schemas = format!("schemas = {:?}", repository().join("schemas"));
        let sources = sources.replace("schemas = \"schemas\"", &schemas);
        std::fs::write(world.path("market.toml"), format!("{sources}{TASK}")).unwrap();
        let size = ["--accounts", "60", "--days", "250", "--seed", "300"];
        let (data, bundle) = (world.path("data"), world.path("bundle"));
        succeeds(&[&["simulate", "--out", &data], &size[..]].concat());
        let until = ["--force", "--test-from", TEST_FROM, "--out", &bundle];
        succeeds(&world.command(&["train"], &until));
        let out = world.path("scored.csv");
        let more = [
            "--model",
            &bundle,
            "--existing-score",
            "accounts.employee_count",
            "--out",
            &out,
        ];
        succeeds(&world.command(&["backtest"], &more));
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command on the market's files.
    fn command(&self, first: &[&str], more: &[&str]) -> Vec<String> {
        let (config, data) = (self.path("market.toml"), self.path("data"));
        let files = ["--config", &config, "--data", &data];
        let all = [first, &files, more].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    fn scored(&self) -> Vec<Scored> {
        let mut reader = csv::Reader::from_path(self.path("scored.csv")).unwrap();
        let rows = reader.records().map(|row| {
            let row = row.unwrap();
            Scored {
                at: row[1].to_owned(),
                key: row[2].to_owned(),
                probability: row[4].parse().unwrap(),
            }
        });
        rows.collect()
    }

    /// Writes records as JSON lines.
    fn write(&self, name: &str, records: &[Json]) -> String {
        let lines: Vec<String> = records.iter().map(Json::to_string).collect();
        std::fs::write(self.path(name), lines.join("\n")).unwrap();
        self.path(name)
    }

    /// Runs `report shadow` at the anchors of the backtest.
    fn shadow(&self, scores: &str, more: &[&str]) -> (Output, Json) {
        let (bundle, out) = (self.path("bundle"), self.path("shadow"));
        let fixed = ["--scores", scores, "--model", &bundle, "--out", &out];
        let points = ["--existing-score", "accounts.employee_count"];
        let more = [&fixed, &points[..], more].concat();
        let ended = leadpulse(&self.command(&["report", "shadow"], &more));
        (ended, self.report("shadow/report.json"))
    }

    /// The first task of a report, without what only a model's columns tell.
    fn report(&self, name: &str) -> Json {
        let Ok(text) = std::fs::read_to_string(self.path(name)) else {
            return Json::Null;
        };
        let report: Json = serde_json::from_str(&text).unwrap();
        let mut task = report["tasks"][0].clone();
        task.as_object_mut().unwrap().remove("cohorts");
        // Parts of the same size stand in the order in which their values were met.
        let parts = task["segments"].as_array_mut().unwrap();
        parts.sort_by_key(|part| (part["field"].to_string(), part["value"].to_string()));
        task
    }
}

/// The record of a row, at a moment after it.
fn record(row: &Scored, later_ms: i64, probability: Option<f64>) -> Json {
    let at_ms = leadpulse_schema::parse_time_ms(&row.at).unwrap();
    json!({
        "task": "account-meetings-30d", "entity_type": "accounts", "entity_id": row.key,
        "epoch": at_ms / 1000, "sequence": 0, "as_of": at_ms + later_ms,
        "status": if probability.is_some() { "scored" } else { "ineligible" },
        "probability": probability.map(|p| json!({ "double": p })),
    })
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn leadpulse(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadpulse"));
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[impl AsRef<std::ffi::OsStr>]) {
    text(&leadpulse(arguments));
}

/// Standard output of a command that succeeded.
#[track_caller]
fn text(ended: &Output) -> String {
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{error}");
    String::from_utf8(ended.stdout.clone()).unwrap()
}

#[test]
fn records_of_a_backtest_are_judged_as_the_backtest_was() {
    let world = World::new();
    let (rows, backtest) = (world.scored(), world.report("report.json"));
    assert!(rows.len() > 200 && backtest["positives"].as_u64().unwrap() > 20);
    let anchors = ["--own-anchors", "--from", TEST_FROM];

    // A score from a millisecond after the anchor says the opposite, and is of no anchor.
    let mut records: Vec<Json> = rows
        .iter()
        .map(|row| record(row, 1, Some(1.0 - row.probability)))
        .collect();
    records.extend(rows.iter().map(|row| record(row, 0, Some(row.probability))));
    let path = world.write("scores.jsonl", &records);
    let (ended, found) = world.shadow(&path, &anchors);
    text(&ended);
    assert_eq!(found, backtest);

    beside_a_challenger(&world, &rows, &path);
    an_ineligible_record_ends_a_score(&world, &rows, &backtest);
    regular_moments_have_the_standing_score(&world, &rows, &backtest);
    records_in_a_container_are_those_of_lines(&world, &rows, &backtest);
    what_cannot_be_judged_is_named(&world, &rows);
}

fn beside_a_challenger(world: &World, rows: &[Scored], path: &str) {
    let anchors = ["--own-anchors", "--from", TEST_FROM];
    let keys: BTreeSet<&String> = rows.iter().map(|row| &row.key).collect();
    let some: BTreeSet<&String> = keys.into_iter().step_by(2).collect();
    let flat: Vec<Json> = rows
        .iter()
        .filter(|row| some.contains(&row.key))
        .map(|row| record(row, 0, Some(0.5)))
        .collect();
    let flat = world.write("flat.jsonl", &flat);
    let (ended, found) = world.shadow(path, &[&anchors[..], &["--against", &flat]].concat());
    let printed = text(&ended);
    let against = &found["against"];
    assert_eq!(against["challenger"]["auroc"], 0.5);
    let ahead = &against["auroc_ahead"];
    let auroc = against["model"]["auroc"].as_f64().unwrap();
    assert!((ahead["value"].as_f64().unwrap() - (auroc - 0.5)).abs() < 1e-12);
    assert!(ahead["low"].as_f64() < ahead["value"].as_f64());
    assert!(against["rows"].as_u64().unwrap() < rows.len() as u64);
    assert!(printed.contains("of the challenger for"), "{printed}");
    let html = std::fs::read_to_string(world.path("shadow/report.html")).unwrap();
    assert!(html.contains("on the same rows"));
}

fn an_ineligible_record_ends_a_score(world: &World, rows: &[Scored], backtest: &Json) {
    let first = &rows[0];
    let of_first = rows.iter().filter(|row| row.key == first.key).count();
    assert!(of_first > 1);
    let others = rows.iter().filter(|row| row.key != first.key);
    let mut records: Vec<Json> = others
        .map(|row| record(row, 0, Some(row.probability)))
        .collect();
    records.push(record(first, 0, Some(first.probability)));
    let stands = world.write("stands.jsonl", &records);
    records.push(record(first, 1, None));
    let ended = world.write("ended.jsonl", &records);
    let anchors = ["--own-anchors", "--from", TEST_FROM];
    let rows_of = |path: &str| world.shadow(path, &anchors).1["rows"].as_u64().unwrap();
    let all = backtest["rows"].as_u64().unwrap();
    assert_eq!(rows_of(&stands), all, "the first score stands on");
    assert_eq!(rows_of(&ended), all - (of_first as u64 - 1));
}

fn regular_moments_have_the_standing_score(world: &World, rows: &[Scored], backtest: &Json) {
    let records: Vec<Json> = rows
        .iter()
        .map(|row| record(row, 0, Some(row.probability)))
        .collect();
    let path = world.write("records.jsonl", &records);
    let (ended, found) = world.shadow(&path, &["--every", "2d"]);
    text(&ended);
    let (anchors, moments) = (&backtest["anchors"], &found["anchors"]);
    assert!(moments.as_u64().unwrap() > 3 * anchors.as_u64().unwrap());
    let first = found["first_anchor"].as_str().unwrap();
    assert!(
        first.contains("T00:00:00") && *first >= *rows[0].at,
        "{first}"
    );
}

fn records_in_a_container_are_those_of_lines(world: &World, rows: &[Scored], backtest: &Json) {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "Score", "fields": [
            {"name": "task", "type": "string"}, {"name": "entity_id", "type": "string"},
            {"name": "as_of", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["scored", "ineligible"]}},
            {"name": "probability", "type": ["null", "double"]}]}"#,
    )
    .unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for row in rows {
        let mut record = apache_avro::types::Record::new(&schema).unwrap();
        let at_ms = leadpulse_schema::parse_time_ms(&row.at).unwrap();
        record.put("task", "account-meetings-30d");
        record.put("entity_id", row.key.as_str());
        record.put("as_of", apache_avro::types::Value::TimestampMillis(at_ms));
        record.put(
            "status",
            apache_avro::types::Value::Enum(0, "scored".into()),
        );
        record.put("probability", Some(row.probability));
        writer.append_value(record).unwrap();
    }
    let path = world.path("scores.avro");
    std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
    let (ended, found) = world.shadow(&path, &["--own-anchors", "--from", TEST_FROM]);
    text(&ended);
    assert_eq!(&found, backtest);
}

fn what_cannot_be_judged_is_named(world: &World, rows: &[Scored]) {
    let last = Scored {
        at: "2020-09-01T00:00:00Z".into(),
        ..rows[0].clone()
    };
    let path = world.write("late.jsonl", &[record(&last, 0, Some(0.5))]);
    let (ended, _) = world.shadow(&path, &[]);
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success());
    assert!(
        error.contains("come again with files up to then"),
        "{error}"
    );
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(printed.contains("whose window has not ended"), "{printed}");

    let mut records: Vec<Json> = rows
        .iter()
        .map(|row| record(row, 0, Some(row.probability)))
        .collect();
    let nobody = Scored {
        key: "nobody".into(),
        ..rows[0].clone()
    };
    records.push(record(&nobody, 0, Some(0.5)));
    let mut other = record(&rows[0], 0, Some(0.5));
    other["task"] = "another".into();
    records.push(other);
    let path = world.write("mixed.jsonl", &records);
    let (ended, _) = world.shadow(&path, &[]);
    let printed = text(&ended);
    for named in [
        "1 records of another in",
        "1 entities of which the files have no row when they were scored, e.g. \"nobody\"",
    ] {
        assert!(printed.contains(named), "{printed}");
    }

    for (line, named) in [
        (
            json!({"task": "account-meetings-30d"}),
            "line 1 is no score record",
        ),
        (
            json!({"task": "another"}),
            "has no record of account-meetings-30d",
        ),
    ] {
        let path = world.write("bad.jsonl", &[line]);
        let (ended, _) = world.shadow(&path, &[]);
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && error.contains(named), "{error}");
    }
}
