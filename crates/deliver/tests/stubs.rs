//! Sinks against stubs over real HTTP: throttled, partly failing, with expired tokens, lost and slow
//! answers. Every record arrives at least once with one key, an entity keeps its order, and nothing
//! is buried that could succeed.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

#[path = "../../../tests/receiver.rs"]
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::{Map, Value as Json, json};

use leadpulse_deliver::{
    Arrived, DeliverMetrics, DeliverOptions, HttpTransport, Inbox, Letters, OauthTokens,
    ReadFailure, RecordReader, SinkLetter, SinkParts, SinkState, SinkWorker, Tokens,
};
use leadpulse_engine::ports::{Clock, PortError};

use receiver::{Received, Receiver, Reply};

/// A limit above the need of any test, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

struct RealClock(Instant);

impl Clock for RealClock {
    fn wall_ms(&self) -> i64 {
        1_760_486_400_000 + self.0.elapsed().as_millis() as i64
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

type Committed = Arc<Mutex<BTreeMap<i32, i64>>>;

struct MemoryInbox {
    log: Vec<Arrived>,
    next: usize,
    committed: Committed,
}

impl Inbox for MemoryInbox {
    fn take(&mut self, most: usize, _: usize, wait: Duration) -> Result<Vec<Arrived>, PortError> {
        let taken: Vec<Arrived> = self.log[self.next..].iter().take(most).cloned().collect();
        self.next += taken.len();
        if taken.is_empty() {
            std::thread::sleep(wait);
        }
        Ok(taken)
    }
    fn commit(&mut self, next: &BTreeMap<i32, i64>) -> Result<(), PortError> {
        self.committed.lock().unwrap().extend(next);
        Ok(())
    }
}

struct JsonReader;

impl RecordReader for JsonReader {
    fn read(&self, value: &[u8]) -> Result<Map<String, Json>, ReadFailure> {
        serde_json::from_slice(value).map_err(|error| ReadFailure::Unreadable(error.to_string()))
    }
}

type Buried = Arc<Mutex<Vec<SinkLetter>>>;

struct MemoryLetters(Buried);

impl Letters for MemoryLetters {
    fn write(&mut self, letter: &SinkLetter) -> Result<(), PortError> {
        self.0.lock().unwrap().push(letter.clone());
        Ok(())
    }
}

/// Delivers records to the only sink of a configuration until all are committed. Returns what was
/// buried.
fn deliver(toml: &str, records: &[Json]) -> Vec<SinkLetter> {
    let options: DeliverOptions = toml::from_str(toml).unwrap();
    let spec = options.checked().unwrap().pop().unwrap();
    let (committed, buried) = (Committed::default(), Buried::default());
    let arrived = |(offset, record): (usize, &Json)| Arrived {
        partition: 0,
        offset: offset as i64,
        timestamp_ms: 1_760_486_400_000,
        key: None,
        value: Some(record.to_string().into_bytes()),
    };
    let parts = SinkParts {
        inbox: Box::new(MemoryInbox {
            log: records.iter().enumerate().map(arrived).collect(),
            next: 0,
            committed: committed.clone(),
        }),
        reader: Box::new(JsonReader),
        letters: Box::new(MemoryLetters(buried.clone())),
        transport: Box::new(HttpTransport::new(spec.timeout, None).unwrap()),
        tokens: spec
            .tokens
            .map(|options| -> Box<dyn Tokens> { Box::new(OauthTokens(options)) }),
        clock: Arc::new(RealClock(Instant::now())),
        records: spec.records,
        gather: spec.gather,
        rate: spec.rate,
        longest_pause: spec.longest_pause,
        protocol: spec.protocol,
        name: spec.name.clone(),
    };
    let metrics = DeliverMetrics::register(&prometheus::Registry::new()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut worker = SinkWorker::new(parts, &metrics, SinkState::new(&spec.name), stop.clone());
    let running = std::thread::spawn(move || worker.run());
    let started = Instant::now();
    while committed.lock().unwrap().get(&0) != Some(&(records.len() as i64)) {
        assert!(
            started.elapsed() < PATIENCE,
            "{:?} are committed",
            committed.lock().unwrap()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::Relaxed);
    running.join().unwrap().unwrap();
    buried.lock().unwrap().clone()
}

const ALERTS: usize = 40;

/// Alerts of four entities for two people.
fn alerts() -> Vec<Json> {
    let alert = |number: usize| {
        json!({
            "alert_id": format!("alert-{number}"), "entity_id": format!("E{}", number % 4),
            "owner_id": format!("rep-{}", number % 2), "state": "open", "severity": "P1",
            "summary": format!("number {number}"),
        })
    };
    (0..ALERTS).map(alert).collect()
}

/// The failures that come again and again; the stub acts on a request before it loses the answer.
fn failure(number: usize) -> Option<Reply> {
    match number % 9 {
        1 => Some(Reply::Answer(429, "retry-after: 0\r\n", String::new())),
        3 => Some(Reply::Close),
        5 => Some(Reply::Answer(503, "", "upstream".into())),
        6 => Some(Reply::Half(200)),
        8 => Some(Reply::Slow(Duration::from_millis(1_500), 200)),
        _ => None,
    }
}

/// True for failures that come after the request had its effect.
fn acts(number: usize) -> bool {
    !matches!(number % 9, 1 | 5)
}

/// First arrivals in order.
fn firsts(ids: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    ids.iter()
        .filter(|id| seen.insert(id.as_str().to_owned()))
        .cloned()
        .collect()
}

fn expected_ids(without: &[usize]) -> Vec<String> {
    let kept = (0..ALERTS).filter(|number| !without.contains(number));
    kept.map(|number| format!("alert-{number}")).collect()
}

#[test]
fn a_webhook_gets_every_alert_with_one_key_in_order_whatever_fails() {
    let arrived: Arc<Mutex<Vec<Received>>> = Arc::default();
    let seen = arrived.clone();
    let mut number = 0;
    let receiver = Receiver::start(move |request| {
        number += 1;
        if request.header("idempotency-key") == "alert-17" {
            return Reply::Answer(422, "", "no such person".into());
        }
        if acts(number) {
            seen.lock().unwrap().push(request.clone());
        }
        failure(number).unwrap_or(Reply::Answer(204, "", String::new()))
    });
    let toml = format!(
        "[webhook.w]\nurl = {:?}\nsecret = \"0123456789abcdef\"\nrate = 1000\ntimeout = \"1s\"\nlongest_pause = \"100ms\"",
        receiver.url("/alerts")
    );
    let buried = deliver(&toml, &alerts());

    let arrived = arrived.lock().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    for request in arrived.iter() {
        assert_eq!(
            request.json()["alert_id"],
            request.header("idempotency-key")
        );
        let signed = [
            request.header("x-leadpulse-timestamp").as_bytes(),
            b".",
            &request.body,
        ]
        .concat();
        let tag = hmac::sign(&key, &signed);
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(request.header("x-leadpulse-signature"), format!("v1={hex}"));
    }
    let keys: Vec<String> = arrived
        .iter()
        .map(|it| it.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(firsts(&keys), expected_ids(&[17]));
    assert!(keys.len() > ALERTS, "lost answers were sent again");
    let letters: Vec<(i64, &str)> = buried
        .iter()
        .map(|it| (it.record.offset, it.reason.as_str()))
        .collect();
    assert_eq!(letters, [(17, "HTTP 422: no such person")]);
}

#[test]
fn a_channel_of_slack_gets_every_alert_in_the_order_of_its_entity_whatever_fails() {
    let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = arrived.clone();
    let mut number = 0;
    let receiver = Receiver::start(move |request| {
        number += 1;
        if acts(number) {
            let message = request.json();
            let ids = message["blocks"].as_array().unwrap().iter();
            let ids = ids.filter_map(|block| block["block_id"].as_str().map(str::to_owned));
            seen.lock().unwrap().extend(ids);
        }
        failure(number).unwrap_or(Reply::Answer(200, "", "ok".into()))
    });
    let toml = format!(
        "[slack.s]\nurl = {:?}\nrate = 1000\ntimeout = \"1s\"\nlongest_pause = \"100ms\"\n\
         digest = {{ every = \"0s\", most = 3 }}",
        receiver.url("/services/T/B/x")
    );
    let buried = deliver(&toml, &alerts());
    assert_eq!(buried, []);
    let order = firsts(&arrived.lock().unwrap());
    for entity in 0..4 {
        let of_entity = |id: &&String| {
            id.strip_prefix("alert-").unwrap().parse::<usize>().unwrap() % 4 == entity
        };
        let found: Vec<&String> = order.iter().filter(of_entity).collect();
        let expected = expected_ids(&[]);
        let expected: Vec<&String> = expected.iter().filter(of_entity).collect();
        assert_eq!(found, expected);
    }
}

/// Scores of some entities, each several times, the last one the highest.
fn scores() -> Vec<Json> {
    let score = |number: usize| {
        json!({
            "task": "wins", "entity_type": "accounts", "entity_id": format!("E{}", number % 50),
            "score": number, "band": "hot",
        })
    };
    (0..300).map(score).collect()
}

/// The CRM's values by key.
type Objects = Arc<Mutex<BTreeMap<String, Vec<i64>>>>;

/// Every entity but one has its newest score, and no older one came behind a newer one.
fn assert_newest(objects: &Objects, bad: &str) {
    let objects = objects.lock().unwrap();
    assert_eq!(objects.len(), 49);
    for (key, values) in objects.iter() {
        let number: i64 = key.strip_prefix('E').unwrap().parse().unwrap();
        assert_ne!(key, bad);
        assert!(values.is_sorted(), "{key}: {values:?}");
        assert_eq!(values.last(), Some(&(250 + number)), "{key}");
    }
}

/// Buried: the newest score of the one entity in each batch that had one.
fn assert_buried(buried: &[SinkLetter], reason: &str) {
    assert!(!buried.is_empty());
    for letter in buried {
        assert_eq!(letter.record.offset % 50, 13);
        assert!(letter.reason.contains(reason), "{}", letter.reason);
    }
    assert_eq!(buried.last().unwrap().record.offset, 263);
}

#[test]
fn salesforce_gets_the_newest_score_of_each_object_whatever_fails() {
    let objects = Objects::default();
    let seen = objects.clone();
    let (mut number, mut tokens, mut uses) = (0, 0, 0);
    let receiver = Receiver::start(move |request| {
        if request.path == "/services/oauth2/token" {
            assert!(
                String::from_utf8_lossy(&request.body).contains("grant_type=client_credentials")
            );
            (tokens, uses) = (tokens + 1, 0);
            let token = json!({"access_token": format!("token-{tokens}")}).to_string();
            return Reply::Answer(200, "", token);
        }
        assert_eq!(request.method, "PATCH");
        assert_eq!(
            request.path,
            "/services/data/v62.0/composite/sobjects/Account/Key__c"
        );
        number += 1;
        uses += 1;
        if request.header("authorization") != format!("Bearer token-{tokens}") || uses > 4 {
            let body = json!([{"errorCode": "INVALID_SESSION_ID", "message": "expired"}]);
            return Reply::Answer(401, "", body.to_string());
        }
        if !acts(number) {
            return failure(number).unwrap();
        }
        let body = request.json();
        let records = body["records"].as_array().unwrap();
        assert!(records.len() <= 20);
        let mut results = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let key = record["Key__c"].as_str().unwrap();
            let error = match key {
                "E13" => Some("FIELD_CUSTOM_VALIDATION_EXCEPTION"),
                _ if (number + place) % 11 == 0 => Some("UNABLE_TO_LOCK_ROW"),
                _ => None,
            };
            if error.is_none() {
                let value = record["Score__c"].as_i64().unwrap();
                seen.lock()
                    .unwrap()
                    .entry(key.to_owned())
                    .or_default()
                    .push(value);
            }
            let errors =
                error.map(|code| json!({"statusCode": code, "message": "m", "fields": []}));
            results.push(json!({"success": error.is_none(), "errors": Vec::from_iter(errors)}));
        }
        failure(number).unwrap_or(Reply::Answer(200, "", json!(results).to_string()))
    });
    let toml = format!(
        "[salesforce.f]\nurl = {:?}\nclient_id = \"id\"\nclient_secret = \"secret\"\nobject = \"Account\"\n\
         external_id = \"Key__c\"\ntask = \"wins\"\nfields = {{ Score__c = \"score\" }}\nrate = 1000\n\
         batch = 20\nevery = \"0s\"\ntimeout = \"1s\"\nlongest_pause = \"100ms\"",
        receiver.url("")
    );
    let buried = deliver(&toml, &scores());
    assert_newest(&objects, "E13");
    assert_buried(&buried, "FIELD_CUSTOM_VALIDATION_EXCEPTION");
}

#[test]
fn hubspot_gets_the_newest_score_of_each_object_whatever_fails() {
    let objects = Objects::default();
    let seen = objects.clone();
    let mut number = 0;
    let receiver = Receiver::start(move |request| {
        number += 1;
        assert_eq!(request.path, "/crm/v3/objects/companies/batch/update");
        assert_eq!(request.header("authorization"), "Bearer pat-1");
        if number == 2 {
            return Reply::Answer(
                401,
                "",
                json!({"category": "EXPIRED_AUTHENTICATION"}).to_string(),
            );
        }
        if !acts(number) {
            return failure(number).unwrap();
        }
        let body = request.json();
        let inputs = body["inputs"].as_array().unwrap();
        assert!(inputs.len() <= 20);
        let mut errors = Vec::new();
        for (place, input) in inputs.iter().enumerate() {
            let id = input["id"].as_str().unwrap();
            let category = match id {
                "E13" => "OBJECT_NOT_FOUND",
                _ if (number + place) % 11 == 0 => "RATE_LIMITS",
                _ => {
                    let value = input["properties"]["score"].as_i64().unwrap();
                    seen.lock()
                        .unwrap()
                        .entry(id.to_owned())
                        .or_default()
                        .push(value);
                    continue;
                }
            };
            errors.push(json!({"category": category, "message": "m", "context": {"ids": [id]}}));
        }
        let status = if errors.is_empty() { 200 } else { 207 };
        let answer = json!({"status": "COMPLETE", "results": [], "errors": errors}).to_string();
        failure(number).unwrap_or(Reply::Answer(status, "", answer))
    });
    let toml = format!(
        "[hubspot.h]\nurl = {:?}\ntoken = \"pat-1\"\nobject = \"companies\"\ntask = \"wins\"\n\
         fields = {{ score = \"score\" }}\nrate = 1000\nbatch = 20\nevery = \"0s\"\ntimeout = \"1s\"\n\
         longest_pause = \"100ms\"",
        receiver.url("")
    );
    let buried = deliver(&toml, &scores());
    assert_newest(&objects, "E13");
    assert_buried(&buried, "OBJECT_NOT_FOUND");
}

#[test]
fn redirects_are_not_followed_and_a_secret_address_is_not_in_errors() {
    let elsewhere = Receiver::start(|_| panic!("nobody comes here"));
    let target = elsewhere.url("/");
    let head: &'static str = Box::leak(format!("location: {target}\r\n").into_boxed_str());
    let receiver = Receiver::start(move |_| Reply::Answer(307, head, String::new()));
    let mut transport = HttpTransport::new(Duration::from_secs(5), None).unwrap();
    let request = |url: String| leadpulse_deliver::HttpRequest {
        method: leadpulse_deliver::Method::Post,
        url,
        headers: vec![],
        body: b"{}".to_vec(),
    };
    use leadpulse_deliver::Transport;
    let answer = transport.send(&request(receiver.url("/"))).unwrap();
    assert_eq!(answer.status, 307);
    let error = transport
        .send(&request("http://127.0.0.1:1/services/sekrit".into()))
        .unwrap_err();
    assert!(!error.to_string().contains("sekrit"), "{error}");
}
