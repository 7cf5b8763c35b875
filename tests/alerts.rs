//! `leadpulse alerts simulate` on a small simulated market, beside the machine's own records and
//! outcomes that are read from the files here.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value as Json;

use leadpulse_deployment::{Loaded, Rehearsal, load_bundle};
use leadpulse_engine::Alert;
use leadpulse_history::Files;
use leadpulse_schema::units::DAY_MS;

const TASK: &str = r#"
[[tasks]]
name = "account-meetings-30d"
query = "PREDICT COUNT(activities.* WHERE activities.type = 'meeting', 0, 30, days) > 0 FOR EACH accounts.account_id"
anchors = "every 10d"
lateness = "0s"
fit = { candidates = [{ hidden = 16 }], ensemble = 1, selection_members = 1, max_epochs = 3 }

[tasks.policy]
bands = [{ name = "hot", enter = ENTER }]
threshold_up = "hot"
threshold_down = "hot"

[[tasks.policy.alerts]]
trigger = "engagement_spike"

[alerts.caps]
per_owner_and_day = 1
"#;
const HORIZON_MS: i64 = 30 * DAY_MS;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// Simulates a market, and trains on its first half.
    fn new() -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (data, bundle) = (world.path("data"), world.path("bundle"));
        let config = world.config("low.toml", 0.2);
        leadpulse(&[
            "simulate",
            "--accounts",
            "60",
            "--days",
            "250",
            "--seed",
            "3",
            "--out",
            &data,
        ]);
        leadpulse(&[
            "train", "--config", &config, "--data", &data, "--force", "--out", &bundle,
        ]);
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The shipped sources with a task of its own, which a small market has outcomes for.
    fn config(&self, name: &str, enter: f64) -> String {
        let text = std::fs::read_to_string(repository().join("leadpulse.toml")).unwrap();
        let sources = &text[..text.find("# What queries may call").unwrap()];
        let schemas = format!("schemas = {:?}", repository().join("schemas"));
        let sources = sources.replace("schemas = \"schemas\"", &schemas);
        let task = TASK.replace("ENTER", &enter.to_string());
        std::fs::write(self.path(name), format!("{sources}{task}")).unwrap();
        self.path(name)
    }

    /// A process with the files as its history, before any cluster answers it, and its address.
    fn serve(&self) -> (Running, String) {
        let config = self.config("run.toml", 0.2);
        let text = std::fs::read_to_string(&config).unwrap();
        let more = "\n[kafka]\nbrokers = \"127.0.0.1:9\"\n[server]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(&config, text + more).unwrap();
        let (data, bundle) = (self.path("data"), self.path("bundle"));
        let arguments = [
            "--log-json",
            "run",
            "--config",
            &config,
            "--model",
            &bundle,
            "--history",
            &data,
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadpulse"));
        let child = command.args(arguments).stderr(Stdio::piped()).spawn();
        let mut running = Running(child.unwrap());
        let address = running.address();
        (running, address)
    }

    fn simulated(&self, more: &[&str]) -> Json {
        let (config, data) = (self.path("low.toml"), self.path("data"));
        let bundle = self.path("bundle");
        let first = [
            "alerts", "simulate", "--config", &config, "--data", &data, "--model", &bundle,
        ];
        let out = leadpulse(&[&first[..], &["--json", "--list"], more].concat());
        serde_json::from_str(&out).unwrap()
    }

    /// Records of the machine under the caps of the configuration.
    fn records(&self, live_from_ms: i64, until_ms: i64) -> Vec<Alert> {
        let loaded = Loaded::read(Path::new(&self.path("low.toml")), &[]).unwrap();
        let project = loaded.project().unwrap();
        let data = self.dir.path().join("data");
        let sources = loaded.files(&project.catalog, &data).unwrap();
        let files = Files::prepare(project.catalog.clone(), &sources).unwrap();
        let bundle = load_bundle(&project, &self.dir.path().join("bundle")).unwrap();
        let job = Rehearsal {
            loaded: &loaded,
            project: &project,
            files: &files,
            scorer: Arc::new(bundle),
            caps: loaded.config.alerts.caps.checked().unwrap(),
            live_from_ms,
            until_ms,
        };
        job.run(&mut |_| {}).unwrap().alerts
    }

    /// Account → times of its meetings, ascending, and the newest known time of any file.
    fn meetings(&self) -> (BTreeMap<String, Vec<i64>>, i64) {
        let mut meetings: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut newest_ms = 0;
        let text = std::fs::read_to_string(self.path("data/activities.jsonl")).unwrap();
        for line in text.lines() {
            let row: Json = serde_json::from_str(line).unwrap();
            newest_ms = newest_ms.max(row["known_at"].as_i64().unwrap());
            if row["type"] == "meeting" {
                let account = row["account_id"].as_str().unwrap_or_default().to_owned();
                let at_ms = row["occurred_at"].as_i64().unwrap();
                meetings.entry(account).or_default().push(at_ms);
            }
        }
        meetings
            .values_mut()
            .for_each(|times| times.sort_unstable());
        (meetings, newest_ms)
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

#[track_caller]
fn leadpulse(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadpulse"));
    let ended = command.args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{arguments:?}: {error}");
    String::from_utf8(ended.stdout).unwrap()
}

fn ids<'a>(alerts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    alerts.map(str::to_owned).collect()
}

#[test]
fn simulated_alerts_are_those_of_the_machine_with_the_outcomes_of_the_files() {
    let world = World::new();
    let found = world.simulated(&["--days", "60", "--until", "2020-07-20"]);
    let alerts = found["alerts"][0].as_array().unwrap();
    let figures = &found["policies"][0];
    let until_ms = leadpulse_schema::parse_time_ms("2020-07-20").unwrap();
    let records = world.records(until_ms - 60 * DAY_MS, until_ms);
    counts_are_those_of_records(alerts, figures, &records);
    outcomes_are_those_of_files(alerts, figures, &world);

    decisions_in_files_are_honoured(&world, alerts);

    let high = world.config("high.toml", 0.6);
    let both = world.simulated(&["--days", "60", "--until", "2020-07-20", "--policy", &high]);
    let sent = |index: usize| both["policies"][index]["by_type"]["threshold_up"]["alerts"].as_u64();
    assert_eq!(
        both["policies"][0], *figures,
        "a policy beside it changes nothing"
    );
    let (low, high) = (sent(0).unwrap(), sent(1).unwrap_or(0));
    assert!(high < low, "{high} over 0.6, {low} over 0.2");

    let text = {
        let (config, data) = (world.path("low.toml"), world.path("data"));
        let bundle = world.path("bundle");
        let command = [
            "alerts", "simulate", "--config", &config, "--data", &data, "--model", &bundle,
        ];
        leadpulse(&[&command[..], &["--days", "20"]].concat())
    };
    assert!(text.contains("no window has ended"), "{text}");
    assert!(text.contains("give --until 2020-"), "{text}");
}

/// A process with a history answers as the command does, before any cluster answers it.
#[test]
fn a_running_process_simulates_on_request() {
    let world = World::new();
    let (_running, address) = world.serve();
    let body = r#"{"days": 60, "until": "2020-07-20", "list": true,
        "policies": {"account-meetings-30d": {"bands": [{"name": "hot", "enter": 0.6}]}}}"#;
    let (code, found) = post(&address, "/api/v1/alerts/simulate", body);
    assert_eq!(code, 200, "{found}");
    let high = world.config("high.toml", 0.6);
    let both = world.simulated(&["--days", "60", "--until", "2020-07-20", "--policy", &high]);
    assert_eq!(found["alerts"], both["alerts"]);
    let names = |found: &Json, index: usize| found["policies"][index]["policy"].clone();
    assert_eq!(names(&found, 1), "requested");
    for index in 0..2 {
        let (mut own, mut other) = (
            found["policies"][index].clone(),
            both["policies"][index].clone(),
        );
        own["policy"] = Json::Null;
        other["policy"] = Json::Null;
        assert_eq!(own, other);
    }
    let (code, refused) = post(&address, "/api/v1/alerts/simulate", r#"{"days": 9000}"#);
    assert_eq!(code, 400, "{refused}");
}

/// Labels and figures over HTTP are those of the commands on the same files.
#[test]
fn labels_and_backtests_over_http_are_those_of_the_commands() {
    let world = World::new();
    let (_running, address) = world.serve();
    let (config, data) = (world.path("low.toml"), world.path("data"));
    let query = "PREDICT COUNT(activities.* WHERE activities.type = 'meeting', 0, 14, days) > 0 FOR EACH accounts.account_id";
    for (query, anchors) in [(query, "every 20d"), ("account-meetings-30d", "every 10d")] {
        let command = [
            "query",
            query,
            "--config",
            &config,
            "--data",
            &data,
            "--anchors",
            anchors,
            "--list",
            "7",
            "--json",
        ];
        let expected: Json = serde_json::from_str(&leadpulse(&command)).unwrap();
        let body = serde_json::json!({"query": query, "anchors": anchors, "first": 7});
        let (code, found) = post(&address, "/api/v1/query/labels", &body.to_string());
        assert_eq!(code, 200, "{found}");
        assert_eq!(found, expected);
        let labels = &found["labels"];
        assert!(labels["positive"].as_u64().unwrap() > 0, "{found}");
        assert!(labels["labelled"].as_u64() > labels["positive"].as_u64());
        let first = found["first"].as_array().unwrap();
        assert_eq!(first.len(), 7);
        assert!(
            first.is_sorted_by_key(|one| one["time"].as_i64()),
            "{found}"
        );
    }
    let (bundle, out) = (world.path("bundle"), world.path("scored.csv"));
    let from = "2020-06-01";
    let command = [
        "backtest", "--config", &config, "--data", &data, "--model", &bundle, "--from", from,
        "--out", &out, "--json",
    ];
    let expected: Json = serde_json::from_str(&leadpulse(&command)).unwrap();
    let body = serde_json::json!({"task": "account-meetings-30d", "from": from});
    let (code, mut found) = post(&address, "/api/v1/backtest", &body.to_string());
    assert_eq!(code, 200, "{found}");
    assert_eq!(found["bundle"], expected["bundle"]);
    let labels = found["tasks"][0].as_object_mut().unwrap().remove("labels");
    assert!(labels.unwrap().as_str().unwrap().contains("base rate"));
    assert_eq!(found["tasks"], expected["tasks"]);
    let model = &found["tasks"][0]["evaluation"]["model"];
    assert!(model["auroc"]["value"].is_number(), "{found}");

    for (path, body, words) in [
        (
            "/api/v1/query/labels",
            r#"{"query": "account-meetings-90d"}"#,
            "line 1",
        ),
        (
            "/api/v1/query/labels",
            r#"{"query": "account-meetings-30d", "anchors": "weekly"}"#,
            "weekly",
        ),
        (
            "/api/v1/query/labels",
            r#"{"query": "PREDICT COUNT(activities.*, 0, 14, days) > 0 FOR EACH accounts.account_id", "anchors": "every 1h"}"#,
            "closer than a day",
        ),
        (
            "/api/v1/backtest",
            r#"{"task": "account-wins"}"#,
            "account-meetings-30d",
        ),
        (
            "/api/v1/backtest",
            r#"{"from": "2031-01-01"}"#,
            "start earlier",
        ),
    ] {
        let (code, refused) = post(&address, path, body);
        let told = refused["detail"].as_str().unwrap();
        assert!(code == 400 && told.contains(words), "{body}: {refused}");
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    /// The address of its HTTP server, as its log tells it.
    fn address(&mut self) -> String {
        let log = BufReader::new(self.0.stderr.take().unwrap());
        let mut lines = log.lines().map(Result::unwrap);
        let address = lines.find_map(|line| {
            let line: Json = serde_json::from_str(&line).ok()?;
            Some(line["fields"]["address"].as_str()?.to_owned())
        });
        // What it logs afterwards has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        address.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn post(address: &str, path: &str, body: &str) -> (u16, Json) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap())
}

/// A mute in a file beside the others silences its account from its time on, and needs no other bundle.
fn decisions_in_files_are_honoured(world: &World, alerts: &[Json]) {
    let of = |alert: &Json| (alert["entity_id"].clone(), alert["at"].as_i64().unwrap());
    let (account, first_ms) = of(&alerts[0]);
    let told_of = |alerts: &[Json], from_ms: i64| {
        let about = alerts.iter().map(of);
        about
            .filter(|(one, at_ms)| *one == account && *at_ms >= from_ms)
            .count()
    };
    assert!(told_of(alerts, first_ms) > 0);
    let mute = serde_json::json!({
        "override_id": "o1", "decided_at": first_ms - DAY_MS, "account_id": account,
        "decision": "mute", "decided_by": "rep-1",
    });
    let path = world.path("data/overrides.jsonl");
    std::fs::write(&path, format!("{mute}\n")).unwrap();
    let found = world.simulated(&["--days", "60", "--until", "2020-07-20"]);
    let found = found["alerts"][0].as_array().unwrap();
    assert_eq!(told_of(found, first_ms - DAY_MS), 0, "{account} is muted");
    assert!(found.len() > 1, "the others are told as before");
    std::fs::remove_file(path).unwrap();
}

/// Alerts and the machine's records of them, under a cap of one.
fn counts_are_those_of_records(alerts: &[Json], figures: &Json, records: &[Alert]) {
    let id = |alert: &Json| alert["alert_id"].as_str().unwrap().to_owned();
    let news: Vec<&Alert> = records
        .iter()
        .filter(|one| one.state.0 != "resolved")
        .collect();
    let own: Vec<&&Alert> = news.iter().filter(|one| one.r#type.0 != "digest").collect();
    assert!(own.len() > 5, "{} of {}", own.len(), alerts.len());
    let sent = alerts.iter().filter(|alert| alert["is_sent"] == true);
    let sent: BTreeSet<String> = sent.map(id).collect();
    assert_eq!(sent, ids(own.iter().map(|one| one.alert_id.as_str())));
    assert_eq!(figures["all"]["sent"], own.len());

    // What is not sent is in a digest, but for days that were not over.
    let digests = news.iter().filter(|one| one.r#type.0 == "digest");
    let named = digests.flat_map(|one| one.parts.iter().map(|part| part.alert_id.as_str()));
    let kept = alerts.iter().filter(|alert| alert["is_sent"] == false);
    let last_day = alerts
        .iter()
        .map(|alert| alert["day"].as_i64().unwrap())
        .max();
    let kept = kept.filter(|alert| alert["day"].as_i64() != last_day);
    let kept: BTreeSet<String> = kept.map(id).collect();
    let named = ids(named);
    assert!(kept.is_subset(&named), "{kept:?} {named:?}");

    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
    for alert in alerts {
        *by_type.entry(alert["type"].as_str().unwrap()).or_default() += 1;
    }
    for (name, count) in by_type {
        assert_eq!(figures["by_type"][name]["alerts"], count, "{name}");
    }
}

/// Outcomes beside the meetings that name the account.
fn outcomes_are_those_of_files(alerts: &[Json], figures: &Json, world: &World) {
    let (meetings, newest_ms) = world.meetings();
    let (mut closed, mut came) = (0, 0);
    for alert in alerts {
        let at_ms = alert["at"].as_i64().unwrap();
        assert!(
            at_ms + HORIZON_MS + DAY_MS < newest_ms,
            "every window has ended"
        );
        let of_account = meetings.get(alert["entity_id"].as_str().unwrap());
        let mut after = of_account.into_iter().flatten().filter(|ms| **ms > at_ms);
        let first_ms = after.next().filter(|ms| **ms <= at_ms + HORIZON_MS);
        assert_eq!(alert["came_true"], first_ms.is_some(), "{alert}");
        if let Some(first_ms) = first_ms {
            let lead_days = (first_ms - at_ms) as f64 / DAY_MS as f64;
            assert!((alert["lead_days"].as_f64().unwrap() - lead_days).abs() < 1e-9);
        }
        closed += 1;
        came += u64::from(first_ms.is_some());
    }
    // Updates are listed, and are not judged again.
    assert!(figures["all"]["closed"].as_u64().unwrap() <= closed);
    assert!(figures["all"]["came_true"].as_u64().unwrap() <= came && came > 0);
}
