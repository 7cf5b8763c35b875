//! The schema registry is away: at the start, and when a schema that nobody has seen arrives. Its
//! partition waits and says so, the others go on, and no record is lost or becomes a dead letter.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::types::Value as Avro;
use leadpulse_kafka::Producer;
use leadpulse_schema::FolderRegistry;
use serde_json::json;

use super::bad_input::other_writer;
use super::dataset::alone;
use super::process::PATIENCE;
use super::scenario::Scenario;
use super::staged::Staged;
use super::standby::Peer;

/// Behaviour of the registry.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Answers,
    /// Connections are closed at once.
    Away,
    /// Every request is answered with status 500.
    Fails,
    /// Answers come after the client's limit.
    Slow,
}

/// A client's limit of a request, milliseconds.
const TIMEOUT_MS: u64 = 500;

/// A registry with the ids of the folder's schemas, so that outputs are read without it.
#[derive(Clone)]
struct Registry {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    schemas: Arc<Mutex<BTreeMap<u32, String>>>,
}

impl Registry {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(mood)),
            schemas: Arc::default(),
        };
        let accepting = registry.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let registry = accepting.clone();
                // A client that left in the middle of an answer is no matter.
                std::thread::spawn(move || drop(registry.serve(connection)));
            }
        });
        registry
    }

    fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Registers a schema. Returns its id.
    fn register(&self, schema: &str) -> u32 {
        let id = FolderRegistry::id_of(schema).unwrap();
        self.schemas.lock().unwrap().insert(id, schema.to_owned());
        id
    }

    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut connection = connection;
        loop {
            let (mut request, mut length) = (String::new(), 0);
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let mood = *self.mood.lock().unwrap();
            let (status, answer) = match mood {
                Mood::Away => return Ok(()),
                Mood::Fails => (500, json!({ "error_code": 50001, "message": "storage" })),
                Mood::Answers | Mood::Slow => self.answer(&request, &body),
            };
            if matches!(mood, Mood::Slow) {
                std::thread::sleep(Duration::from_millis(3 * TIMEOUT_MS));
            }
            let answer = answer.to_string();
            write!(
                connection,
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    }

    fn answer(&self, request: &str, body: &[u8]) -> (u16, serde_json::Value) {
        if request.starts_with("POST") {
            let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
            let id = self.register(asked["schema"].as_str().unwrap());
            return (200, json!({ "id": id }));
        }
        let path = request.split(' ').nth(1).unwrap();
        let id = path.split("/schemas/ids/").nth(1);
        let id = id.and_then(|id| id.split('?').next()?.parse().ok());
        let schemas = self.schemas.lock().unwrap();
        match id.and_then(|id: u32| schemas.get(&id)) {
            Some(schema) => (200, json!({ "schema": schema })),
            None => (
                404,
                json!({ "error_code": 40403, "message": "no such schema" }),
            ),
        }
    }
}

/// Lets a deployment ask this registry, with little patience.
fn ask(scenario: &mut Scenario, registry: &Registry) {
    scenario.set("REGISTRY__URL", &format!("http://{}", registry.address));
    scenario.set("REGISTRY__TIMEOUT", &format!("{TIMEOUT_MS}ms"));
    scenario.set("REGISTRY__UNAVAILABLE_TTL", "200ms");
}

/// An activity of a known account in a schema of another writer, which grows with `field`.
fn of_a_new_writer(at_ms: i64, field: &str) -> (String, Vec<u8>) {
    let [id, kind, account] =
        ["activity_id", "type", "account_id"].map(|name| json!({ "name": name, "type": "string" }));
    let time = json!({ "name": "occurred_at", "type": { "type": "long", "logicalType": "timestamp-millis" } });
    let more = json!({ "name": field, "type": "string", "default": "" });
    let id_text = format!("from-{field}");
    let record = [
        ("activity_id", Avro::from(id_text.as_str())),
        ("type", Avro::from("call")),
        ("account_id", Avro::from("A00001")),
        ("occurred_at", Avro::TimestampMillis(at_ms)),
        (field, Avro::from("x")),
    ];
    other_writer(json!([id, kind, account, time, more]), &record)
}

fn send(scenario: &Scenario, value: &[u8], at_ms: i64) {
    let mut producer = Producer::connect(&scenario.options, &scenario.metrics).unwrap();
    let topic = scenario.topic("activities");
    producer
        .send(topic, Some(b"A00001"), Some(value), at_ms)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_registry_that_is_away_loses_no_record() {
    let _alone = alone();
    let Some(mut staged) = Staged::new("registry") else {
        return;
    };
    let registry = Registry::start(Mood::Away);
    ask(&mut staged.scenario, &registry);
    for table in &staged.scenario.catalog.tables {
        registry.register(&table.json);
    }
    let mut worker = Peer::start(&staged.scenario);
    let reason = worker.answers("/readyz", |code, body| {
        code == 503 && body.contains("schema")
    });
    println!("at the start: {}", reason.lines().last().unwrap());
    registry.turn(Mood::Answers);
    staged.is_taken_by(&mut worker.process);

    for mood in [Mood::Away, Mood::Fails, Mood::Slow] {
        let newest = staged.scenario.epochs().last().unwrap().as_of;
        let (schema, value) = of_a_new_writer(newest, &format!("{mood:?}").to_lowercase());
        registry.register(&schema);
        registry.turn(mood);
        send(&staged.scenario, &value, newest);
        let body = worker.answers("/readyz", |_, body| {
            body.contains("waits for a writer schema")
        });
        println!("{mood:?}: {}", body.lines().last().unwrap());
        registry.turn(Mood::Answers);
        staged.is_taken_by(&mut worker.process);
    }
    worker.process.kill();
    let epochs = staged.scenario.epochs();
    let dead: i64 = epochs
        .iter()
        .flat_map(|epoch| &epoch.dead_lettered)
        .map(|count| count.count)
        .sum();
    assert_eq!(dead, 0, "a record became a dead letter");
    // The score of the account that the records name is not always that of a run without faults: docs/gaps.md.
    staged.judge_outputs();
}
