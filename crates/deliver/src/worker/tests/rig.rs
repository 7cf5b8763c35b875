//! A worker over fakes: a log in memory, a scripted other side, a clock that moves when somebody waits.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use serde_json::{Value as Json, json};

use leadpulse_engine::ports::PortCause;
use leadpulse_registry::{AccessToken, Secret, TokenError};

use super::super::*;
use crate::options::DeliverOptions;
use crate::ports::TransportError;
use crate::request::HttpRequest;

/// A clock that moves when somebody waits.
#[derive(Default)]
pub struct FakeClock(AtomicU64);

impl Clock for FakeClock {
    fn wall_ms(&self) -> i64 {
        1_760_486_400_000 + self.0.load(Ordering::Relaxed) as i64
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn wait(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap();
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Everything that the fakes of one test saw.
#[derive(Default)]
pub struct Seen {
    pub committed: BTreeMap<i32, i64>,
    pub letters: Vec<SinkLetter>,
    pub requests: Vec<(Duration, HttpRequest)>,
    /// Most records that were taken and not committed.
    pub most_open: i64,
    pub failing_letters: usize,
    pub tokens: usize,
}

pub type Shared = Arc<Mutex<Seen>>;

pub struct FakeInbox {
    log: Vec<Arrived>,
    next: usize,
    clock: Arc<FakeClock>,
    seen: Shared,
}

impl Inbox for FakeInbox {
    fn take(
        &mut self,
        most_records: usize,
        _: usize,
        wait: Duration,
    ) -> Result<Vec<Arrived>, PortError> {
        let now_ms = self.clock.elapsed().as_millis() as i64;
        let is_there = |record: &&Arrived| record.timestamp_ms <= now_ms;
        let records = self.log[self.next..].iter().take_while(is_there);
        let taken: Vec<Arrived> = records.take(most_records).cloned().collect();
        if taken.is_empty() {
            self.clock.wait(wait);
        }
        self.next += taken.len();
        let mut seen = self.seen.lock().unwrap();
        let committed: i64 = seen.committed.values().sum();
        seen.most_open = seen.most_open.max(self.next as i64 - committed);
        Ok(taken)
    }

    fn commit(&mut self, next: &BTreeMap<i32, i64>) -> Result<(), PortError> {
        self.seen.lock().unwrap().committed.extend(next);
        Ok(())
    }
}

/// Values are JSON themselves.
pub struct JsonReader;

impl RecordReader for JsonReader {
    fn read(&self, value: &[u8]) -> Result<Fields, ReadFailure> {
        match serde_json::from_slice(value) {
            Ok(Json::Object(fields)) => Ok(fields),
            _ => Err(ReadFailure::Unreadable("no record".into())),
        }
    }
}

/// Fails as often as asked, then reads.
pub struct LaterReader(pub std::sync::atomic::AtomicUsize);

impl RecordReader for LaterReader {
    fn read(&self, value: &[u8]) -> Result<Fields, ReadFailure> {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
            return Err(ReadFailure::Later("no registry".into()));
        }
        JsonReader.read(value)
    }
}

pub struct FakeLetters(Shared);

impl Letters for FakeLetters {
    fn write(&mut self, letter: &SinkLetter) -> Result<(), PortError> {
        let mut seen = self.0.lock().unwrap();
        if seen.failing_letters > 0 {
            seen.failing_letters -= 1;
            return Err(PortError::retriable(PortCause::NoAnswer, "no broker"));
        }
        seen.letters.push(letter.clone());
        Ok(())
    }
}

pub type Answer = Result<HttpAnswer, TransportError>;

/// The other side: an answer for each request, by its number from 0.
pub struct FakeTransport<F> {
    pub answer: F,
    pub clock: Arc<FakeClock>,
    pub seen: Shared,
}

impl<F: FnMut(usize, &HttpRequest) -> Answer + Send> Transport for FakeTransport<F> {
    fn send(&mut self, request: &HttpRequest) -> Answer {
        let mut seen = self.seen.lock().unwrap();
        let number = seen.requests.len();
        seen.requests.push((self.clock.elapsed(), request.clone()));
        drop(seen);
        (self.answer)(number, request)
    }
}

pub struct FakeTokens(Shared);

impl Tokens for FakeTokens {
    fn fetch(&mut self) -> Result<AccessToken, TokenError> {
        let mut seen = self.0.lock().unwrap();
        seen.tokens += 1;
        Ok(AccessToken {
            token: Secret::new(format!("token-{}", seen.tokens)),
            lifetime: Duration::from_secs(300),
        })
    }
}

pub fn answer(status: u16) -> Answer {
    Ok(HttpAnswer {
        status,
        ..HttpAnswer::default()
    })
}

pub fn lost() -> Answer {
    Err(TransportError("the connection was closed".into()))
}

pub const SINKS: &str = r#"
    [webhook.w]
    url = "http://receiver/alerts"
    secret = "0123456789abcdef"
    rate = 1000
    [slack.s]
    url = "http://hooks/T/B/x"
    [salesforce.f]
    url = "http://acme"
    client_id = "id"
    client_secret = "secret"
    object = "Account"
    external_id = "Key__c"
    task = "wins"
    fields = { Score__c = "score" }
    rate = 1000
    every = "0s"
    [hubspot.h]
    token = "pat"
    task = "wins"
    fields = { score = "score" }
    rate = 1000
    every = "0s"
"#;

pub struct Rig {
    pub worker: SinkWorker,
    pub seen: Shared,
    pub clock: Arc<FakeClock>,
    pub state: Arc<SinkState>,
    pub registry: prometheus::Registry,
}

/// A worker of one of the sinks above, over these values, each at a second of the clock.
pub fn rig(
    sink: &str,
    values: &[(i64, Json)],
    answer: impl FnMut(usize, &HttpRequest) -> Answer + Send + 'static,
) -> Rig {
    let options: DeliverOptions = toml::from_str(SINKS).unwrap();
    let specs = options.checked().unwrap();
    let spec = specs.into_iter().find(|spec| spec.name == sink).unwrap();
    let (clock, seen) = (Arc::new(FakeClock::default()), Shared::default());
    let arrived = |(index, (second, value)): (usize, &(i64, Json))| Arrived {
        partition: 0,
        offset: index as i64,
        timestamp_ms: second * 1000,
        key: Some(format!("key-{index}").into_bytes()),
        value: Some(value.to_string().into_bytes()),
    };
    let inbox = FakeInbox {
        log: values.iter().enumerate().map(arrived).collect(),
        next: 0,
        clock: clock.clone(),
        seen: seen.clone(),
    };
    let transport = FakeTransport {
        answer,
        clock: clock.clone(),
        seen: seen.clone(),
    };
    let tokens = spec
        .tokens
        .map(|_| -> Box<dyn Tokens> { Box::new(FakeTokens(seen.clone())) });
    let registry = prometheus::Registry::new();
    let state = SinkState::new(&spec.name);
    let parts = SinkParts {
        name: spec.name,
        protocol: spec.protocol,
        inbox: Box::new(inbox),
        reader: Box::new(JsonReader),
        letters: Box::new(FakeLetters(seen.clone())),
        transport: Box::new(transport),
        tokens,
        clock: clock.clone(),
        records: spec.records,
        gather: spec.gather,
        rate: spec.rate,
        longest_pause: spec.longest_pause,
    };
    let metrics = DeliverMetrics::register(&registry).unwrap();
    Rig {
        worker: SinkWorker::new(parts, &metrics, state.clone(), Arc::default()),
        seen,
        clock,
        state,
        registry,
    }
}

impl Rig {
    /// Runs until everything up to an offset is committed.
    pub fn until(&mut self, next: i64) {
        for _ in 0..10_000 {
            if self.committed() >= next {
                return;
            }
            assert!(self.worker.round().is_ok());
        }
        panic!("{} is committed, {next} is waited for", self.committed());
    }

    pub fn committed(&self) -> i64 {
        self.seen
            .lock()
            .unwrap()
            .committed
            .get(&0)
            .copied()
            .unwrap_or(0)
    }

    pub fn letters(&self) -> Vec<SinkLetter> {
        self.seen.lock().unwrap().letters.clone()
    }

    pub fn requests(&self) -> Vec<(Duration, HttpRequest)> {
        self.seen.lock().unwrap().requests.clone()
    }

    pub fn bodies(&self) -> Vec<Json> {
        let requests = self.requests();
        let body = |(_, request): &(Duration, HttpRequest)| serde_json::from_slice(&request.body);
        requests.iter().map(|one| body(one).unwrap()).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        let requests = self.requests();
        let key = |(_, request): &(Duration, HttpRequest)| {
            request.header("idempotency-key").map(str::to_owned)
        };
        requests.iter().filter_map(key).collect()
    }

    /// A counter of `leadpulse_deliver_…` by its labels.
    pub fn count(&self, metric: &str, outcome: &str) -> u64 {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let line = text.lines().find(|line| {
            line.starts_with(&format!("leadpulse_deliver_{metric}{{"))
                && line.contains(&format!("\"{outcome}\""))
        });
        line.unwrap_or_else(|| panic!("no {metric} {outcome}:\n{text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

pub fn alert(id: &str, entity: &str) -> Json {
    json!({"alert_id": id, "entity_id": entity, "owner_id": "ann", "state": "open", "severity": "P1", "summary": id})
}

pub fn alerts(ids: &[&str]) -> Vec<(i64, Json)> {
    ids.iter().map(|id| (0, alert(id, "A"))).collect()
}

pub fn score(entity: &str, score: f64) -> (i64, Json) {
    (
        0,
        json!({"task": "wins", "entity_type": "accounts", "entity_id": entity, "score": score}),
    )
}

/// The keys of a request to Salesforce.
pub fn upserted(request: &HttpRequest) -> Vec<String> {
    let body: Json = serde_json::from_slice(&request.body).unwrap();
    let records = body["records"].as_array().unwrap().iter();
    records
        .map(|record| record["Key__c"].as_str().unwrap().to_owned())
        .collect()
}

/// Salesforce's results: an error code, or `None` for success.
pub fn results(codes: &[Option<&str>]) -> Answer {
    let result = |code: &Option<&str>| match code {
        None => json!({"success": true, "errors": []}),
        Some(code) => json!({"success": false, "errors": [{"statusCode": code, "message": "m"}]}),
    };
    let results: Vec<Json> = codes.iter().map(result).collect();
    Ok(HttpAnswer {
        status: 200,
        body: json!(results).to_string().into_bytes(),
        ..HttpAnswer::default()
    })
}
