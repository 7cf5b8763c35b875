//! `leadpulse ingest` on real Kafka: calls are acknowledged records, also while the broker and the
//! process itself are killed and started again, and their records are read by the sources of `docs/connect`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use leadpulse_kafka::{Isolation, KafkaMetrics, KafkaOptions, TopicSpec, ensure_topics, read_all};
use ring::hmac;
use serde_json::{Value as Json, json};

use super::process::{PATIENCE, Process, arg, start};
use crate::harness::{free_port_base, kafka, repository, unique};

const SECRET: &str = "0123456789abcdef";

/// The events of the test in the gate; `LEADPULSE_TEST_INGEST_EVENTS` sets another number.
const EVENTS: usize = 4_000;
/// Events of a call.
const BATCH: usize = 20;
/// Programs that send at once.
const SENDERS: usize = 4;

/// An answer: status and JSON.
type Answered = (u16, Json);

/// The address of the process that takes calls now.
type Address = Arc<Mutex<String>>;

/// A connection that is opened again after an error.
struct Client {
    address: Address,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(address: &Address) -> Self {
        Self {
            address: Arc::clone(address),
            stream: None,
        }
    }

    fn post(&mut self, path: &str, headers: &str, body: &str) -> std::io::Result<Answered> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let address = self.address.lock().unwrap().clone();
                BufReader::new(TcpStream::connect(address)?)
            }
        };
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n");
        stream
            .get_mut()
            .write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line
            .split_whitespace()
            .nth(1)
            .and_then(|code| code.parse().ok());
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        self.stream = Some(stream);
        let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// A running `leadpulse ingest`.
struct Ingest {
    process: Process,
    address: Address,
    config: PathBuf,
    options: KafkaOptions,
    _dir: tempfile::TempDir,
}

impl Ingest {
    /// Starts the program over a configuration with these sources and sections; `PREFIX` in them
    /// becomes the beginning of the topics' names.
    fn start(servers: &str, prefix: &str, sections: &str, topics: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("leadpulse.toml");
        let schemas = repository().join("schemas");
        let text = format!(
            "schemas = {schemas:?}\n[kafka]\nbrokers = {servers:?}\n[ingest]\nlisten = \"127.0.0.1:0\"\n\
             calls_per_second = 100000\nacknowledge_timeout = \"5s\"\n{sections}"
        );
        std::fs::write(&config, text.replace("PREFIX", prefix)).unwrap();
        let options = KafkaOptions {
            brokers: servers.into(),
            ..KafkaOptions::default()
        };
        let topics: Vec<TopicSpec> = topics
            .iter()
            .map(|topic| TopicSpec::log(&format!("{prefix}.{topic}"), 2))
            .collect();
        let started = Instant::now();
        while let Err(error) = ensure_topics(&options, &topics) {
            assert!(started.elapsed() < PATIENCE, "{error}");
        }
        let (process, address) = spawn(&config);
        let address = Arc::new(Mutex::new(address));
        Self {
            process,
            address,
            config,
            options,
            _dir: dir,
        }
    }

    /// The values of a topic.
    fn values(&self, topic: &str) -> Vec<Json> {
        let metrics = KafkaMetrics::register(&prometheus::Registry::new()).unwrap();
        let started = Instant::now();
        let records = loop {
            match read_all(&self.options, topic, Isolation::Committed, &metrics) {
                Ok(records) => break records,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        };
        let values = records.iter().filter_map(|record| record.value.as_deref());
        values
            .map(|value| serde_json::from_slice(value).unwrap())
            .collect()
    }

    /// Judges the newest records of a topic as a worker would; none may be refused.
    fn validate(&self, topic: &str, rows: usize) {
        let args = [
            "validate",
            "--config",
            arg(&self.config),
            "--topic",
            topic,
            "--json",
        ];
        let secret = ("CALL_SECRET".to_owned(), SECRET.to_owned());
        let ended = start(&args, &[secret]).wait().done();
        assert_eq!(ended.out.lines().count(), rows + 1, "{}", ended.out);
    }
}

/// Starts the program; gives its address.
fn spawn(config: &Path) -> (Process, String) {
    let secret = ("CALL_SECRET".to_owned(), SECRET.to_owned());
    let mut process = start(&["ingest", "--config", arg(config)], &[secret]);
    assert!(process.logs("http://"), "{}", process.last_lines(20));
    let log = process.last_lines(1_000);
    let address = log.rsplit("http://").next().unwrap();
    let address = address.split_whitespace().next().unwrap().to_owned();
    (process, address)
}

/// A broker of this test's own.
struct Broker {
    home: PathBuf,
    port: u16,
}

impl Broker {
    fn up(name: &str) -> Self {
        let folder = format!("{name}-{}", std::process::id());
        let broker = Self {
            home: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder),
            port: free_port_base(),
        };
        assert!(broker.kafka_sh(&["up", "1"]));
        broker
    }

    fn kill(&self) {
        assert!(self.kafka_sh(&["kill", "1"]));
    }

    /// Starts the broker again. The kernel may hold the port of a killed process for a moment.
    fn start(&self) {
        let started = Instant::now();
        while !self.kafka_sh(&["start", "1"]) {
            assert!(started.elapsed() < PATIENCE, "the broker does not start");
        }
    }

    fn kafka_sh(&self, args: &[&str]) -> bool {
        let repository = repository();
        let mut command = Command::new(repository.join("deploy/kafka/kafka.sh"));
        command
            .args(args)
            .env("LEADPULSE_KAFKA_HOME", &self.home)
            .env("LEADPULSE_KAFKA_LIBS", repository.join(".kafka/libs"))
            .env("PORT", self.port.to_string())
            .env("OWNER_PID", std::process::id().to_string());
        command.stdout(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kafka_sh(&["down"]);
    }
}

const JSON: &str = r#"
[ingest.json]
token = { env = "CALL_SECRET" }
topics = ["PREFIX.usage"]

[[sources]]
table = "product_usage"
topic = "PREFIX.usage"
format = "json"
columns = { id = "usage_id", action = "kind", at = "occurred_at", user = "contact_id" }
"#;

/// Sends the events of one program, each until it is acknowledged. Returns the acknowledged ids.
fn send(
    address: &Address,
    sender: usize,
    events: usize,
    acknowledged: &AtomicUsize,
) -> Vec<String> {
    let mut client = Client::new(address);
    let mut ids = Vec::new();
    let headers = format!("authorization: Bearer {SECRET}\r\n");
    for first in (0..events).step_by(BATCH) {
        let names: Vec<String> = (first..events.min(first + BATCH))
            .map(|number| format!("e-{sender}-{number}"))
            .collect();
        let record = |id: &String| json!({"id": id, "action": "login", "at": "2025-01-14T10:00:00Z", "user": "C-1"});
        let body = Json::Array(names.iter().map(record).collect()).to_string();
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "no acknowledgement");
            match client.post("/v1/ingest/json?key=id", &headers, &body) {
                Ok((200, answer)) => {
                    assert_eq!(answer["accepted"], names.len());
                    break;
                }
                Ok((429 | 503, _)) => std::thread::sleep(Duration::from_millis(100)),
                Ok(other) => panic!("{other:?}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        acknowledged.fetch_add(names.len(), Ordering::Relaxed);
        ids.extend(names);
    }
    ids
}

#[test]
fn every_acknowledged_event_arrives_while_broker_and_process_are_killed() {
    if kafka().is_none() {
        return;
    }
    let events = std::env::var("LEADPULSE_TEST_INGEST_EVENTS");
    let events = events.map_or(EVENTS, |text| text.parse().unwrap());
    let broker = Broker::up("ingest");
    let prefix = unique("ingest");
    let servers = format!("127.0.0.1:{}", broker.port);
    let mut ingest = Ingest::start(&servers, &prefix, JSON, &["usage"]);
    let (acknowledged, ids) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (address, acknowledged, ids) =
                (ingest.address.clone(), acknowledged.clone(), ids.clone());
            std::thread::spawn(move || {
                let sent = send(&address, sender, events / SENDERS, &acknowledged);
                ids.lock().unwrap().extend(sent);
            })
        })
        .collect();
    for part in 1..=3 {
        let started = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < part * events / 4 {
            assert!(
                ingest.process.runs_on(),
                "{}",
                ingest.process.last_lines(20)
            );
            assert!(
                started.elapsed() < PATIENCE,
                "{}",
                ingest.process.last_lines(20)
            );
        }
        broker.kill();
        if part == 3 {
            // While nothing is acknowledged: what was accepted must not be in the process's memory.
            ingest.process.kill();
            let (process, address) = spawn(&ingest.config);
            ingest.process = process;
            *ingest.address.lock().unwrap() = address;
        }
        broker.start();
    }
    for sender in senders {
        sender.join().unwrap();
    }
    let acknowledged: BTreeSet<String> = ids.lock().unwrap().drain(..).collect();
    let topic = format!("{prefix}.usage");
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for value in ingest.values(&topic) {
        let id = value["id"].as_str().unwrap().to_owned();
        *copies.entry(id).or_default() += 1;
    }
    let again: usize = copies.values().map(|count| count - 1).sum();
    println!(
        "{} events, {again} of them stored again after a lost answer",
        copies.len()
    );
    let arrived: BTreeSet<String> = copies.into_keys().collect();
    assert_eq!(acknowledged.len(), events / SENDERS * SENDERS);
    assert!(arrived == acknowledged, "{} arrived", arrived.len());
    ingest.process.stop().done();
}

/// Sections of all sources, with the sources of the pages of `docs/connect`.
fn sections() -> String {
    let page = |name: &str, start: &str| -> String {
        let path = repository().join(format!("docs/connect/{name}.md"));
        let text = std::fs::read_to_string(path).unwrap();
        let block = text.split(&format!("```toml{start}\n")).nth(1).unwrap();
        let block = block.split("```").next().unwrap();
        block.replace("topic = \"", "topic = \"PREFIX.")
    };
    let ingest = r#"
[ingest.segment]
secret = { env = "CALL_SECRET" }
topic = "PREFIX.segment.calls"

[ingest.hubspot]
secret = { env = "CALL_SECRET" }
url = "https://ingest.example"
contacts = "PREFIX.hubspot.contact-events"
companies = "PREFIX.hubspot.company-events"

[ingest.marketo]
token = { env = "CALL_SECRET" }
leads = "PREFIX.marketo.leads"
activities = "PREFIX.marketo.activities"
"#;
    let pages = [
        page("segment", ""),
        page("marketo", ""),
        page("hubspot", " webhooks"),
    ];
    [JSON, ingest, &pages.concat()].concat()
}

fn signature(algorithm: hmac::Algorithm, text: &str) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, SECRET.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[test]
fn calls_of_each_system_are_records_that_its_sources_read() {
    let Some(bootstrap) = kafka() else {
        return;
    };
    let prefix = unique("ingest-shapes");
    let topics = [
        "usage",
        "segment.calls",
        "hubspot.contact-events",
        "hubspot.company-events",
        "marketo.leads",
        "marketo.activities",
    ];
    let ingest = Ingest::start(&bootstrap.servers, &prefix, &sections(), &topics);
    let mut client = Client::new(&ingest.address);

    let calls = json!([
        {"messageId": "m1", "type": "track", "event": "demo_request", "userId": "C-1", "timestamp": "2025-01-14T10:00:00.000Z",
         "context": {"groupId": "A-1"}, "properties": {"duration": 42.5}},
        {"messageId": "m2", "type": "group", "userId": "C-1", "groupId": "A-1", "timestamp": "2025-01-14T10:00:01.000Z",
         "traits": {"name": "Acme"}},
    ])
    .to_string();
    let tag = signature(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &calls);
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let answered = client
        .post(
            "/v1/ingest/segment",
            &format!("X-Signature: {hex}\r\n"),
            &calls,
        )
        .unwrap();
    assert_eq!(
        (answered.0, &answered.1["accepted"]),
        (200, &json!(2)),
        "{answered:?}"
    );
    let wrong = client
        .post(
            "/v1/ingest/segment",
            &format!("X-Signature: {}00\r\n", &hex[2..]),
            &calls,
        )
        .unwrap();
    assert_eq!(wrong.0, 401);

    let now_ms = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis()
        .to_string();
    let event = |subscription: &str, id: u64, name: &str, value: &str| {
        json!({"subscriptionType": subscription, "objectId": id, "propertyName": name, "propertyValue": value,
               "occurredAt": 1_736_850_000_000_i64})
    };
    let events = json!([
        event("contact.propertyChange", 501, "email", "kim@acme.example"),
        event("company.propertyChange", 7001, "name", "Acme"),
        event("contact.deletion", 502, "", ""),
        event("contact.merge", 503, "", ""),
        event("contact.propertyChange", 504, "", ""),
    ])
    .to_string();
    let signed = format!("POSThttps://ingest.example/v1/ingest/hubspot{events}{now_ms}");
    let tag =
        base64::engine::general_purpose::STANDARD.encode(signature(hmac::HMAC_SHA256, &signed));
    let headers =
        format!("X-HubSpot-Signature-v3: {tag}\r\nX-HubSpot-Request-Timestamp: {now_ms}\r\n");
    let (status, answer) = client
        .post("/v1/ingest/hubspot", &headers, &events)
        .unwrap();
    let fates: Vec<&str> = answer["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        (status, fates),
        (
            207,
            vec!["accepted", "accepted", "accepted", "ignored", "refused"]
        )
    );

    let leads = json!([
        {"id": 1001, "updatedAt": "2025-01-14T06:00:00Z", "createdAt": "2025-01-13T06:00:00Z", "email": "kim@acme.example", "leadStatus": "Open"},
        {"marketoGUID": "102988", "leadId": 1001, "activityDate": "2025-01-14T06:56:35+0000", "activityTypeId": 10},
    ])
    .to_string();
    let headers = format!("X-Leadpulse-Token: {SECRET}\r\n");
    assert_eq!(
        client
            .post("/v1/ingest/marketo", &headers, &leads)
            .unwrap()
            .0,
        200
    );

    let lines = "{\"id\": \"u-1\", \"action\": \"login\", \"at\": \"2025-01-14T10:00:00Z\", \"user\": \"C-1\"}\n7\n";
    let headers = format!("authorization: Bearer {SECRET}\r\n");
    let (status, answer) = client
        .post("/v1/ingest/json?key=user", &headers, lines)
        .unwrap();
    assert_eq!(
        (status, &answer["accepted"], &answer["refused"]),
        (207, &json!(1), &json!(1))
    );
    let too_long = "x".repeat(2 << 20);
    assert_eq!(
        client
            .post("/v1/ingest/json", &headers, &too_long)
            .map_or(413, |answer| answer.0),
        413
    );

    for (topic, rows) in topics.into_iter().zip([1, 2, 2, 1, 1, 1]) {
        let topic = format!("{prefix}.{topic}");
        assert_eq!(ingest.values(&topic).len(), rows, "{topic}");
        ingest.validate(&topic, rows);
    }
    ingest.process.stop().done();
}
