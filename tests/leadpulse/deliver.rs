//! `leadpulse deliver` on real Kafka: killed in the middle, beside a sink that is away, with records of
//! an aborted transaction in its topic.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadpulse_engine::ports::Output;
use leadpulse_engine::{Alert, OutputEncoders};
use leadpulse_kafka::{
    Isolation, KafkaMetrics, KafkaOptions, OutputTopics, OwnedRecord, Producer, SchemaPort,
    ensure_topics, output_topics, read_all,
};
use leadpulse_records::Symbol;
use leadpulse_registry::FolderStore;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::process::{PATIENCE, Process, arg, start};
use crate::harness::{kafka, repository, unique};
use crate::receiver::{Receiver, Reply};

/// The outputs of a worker, written by the test, with sinks of a configuration.
struct Outputs {
    options: KafkaOptions,
    config: PathBuf,
    metrics: Arc<KafkaMetrics>,
    encoders: OutputEncoders,
    _dir: tempfile::TempDir,
}

impl Outputs {
    /// Empty topics, and a configuration with these sections; `None` where there is no Kafka.
    fn new(name: &str, sections: &str) -> Option<Self> {
        let servers = &kafka()?.servers;
        let prefix = unique(name);
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("leadpulse.toml");
        let schemas = repository().join("schemas");
        let text = format!(
            "schemas = {schemas:?}\n[kafka]\nbrokers = {servers:?}\ngroup_id = {prefix:?}\n\
             [kafka.outputs]\nepochs = \"{prefix}.epochs\"\n[deliver]\nlisten = \"127.0.0.1:0\"\n{sections}"
        );
        std::fs::write(&config, text).unwrap();
        let options = KafkaOptions {
            brokers: servers.clone(),
            outputs: OutputTopics::beside(&format!("{prefix}.epochs")),
            ..KafkaOptions::default()
        };
        let started = Instant::now();
        while let Err(error) = ensure_topics(&options, &output_topics(&options)) {
            assert!(started.elapsed() < PATIENCE, "{error}");
        }
        let schemas = SchemaPort::new(FolderStore::load(&schemas).unwrap());
        Some(Self {
            options,
            config,
            metrics: KafkaMetrics::register(&prometheus::Registry::new()).unwrap(),
            encoders: OutputEncoders::new(&schemas).unwrap(),
            _dir: dir,
        })
    }

    fn alert(&self, id: &str, entity: &str) -> Vec<u8> {
        self.encoders.alert(&Alert {
            alert_id: id.into(),
            entity_id: entity.into(),
            severity: Symbol("P1"),
            state: Symbol("open"),
            trend: Symbol("steady"),
            ..Alert::default()
        })
    }

    /// Writes values to the alerts' topic.
    fn write(&self, values: &[Vec<u8>]) {
        let topic = self.options.outputs.name(Output::Alerts);
        let mut producer = Producer::connect(&self.options, &self.metrics).unwrap();
        for value in values {
            producer
                .send(topic, Some(b"E"), Some(value), 1_760_486_400_000)
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// Writes an alert in a transaction that is aborted.
    fn write_and_abort(&self, value: &[u8]) {
        let topic = self.options.outputs.name(Output::Alerts);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.options.brokers)
            .set("transactional.id", unique("aborted"))
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer
            .send(BaseRecord::<(), [u8]>::to(topic).payload(value))
            .unwrap();
        producer.flush(PATIENCE).unwrap();
        producer.abort_transaction(PATIENCE).unwrap();
    }

    fn deliver(&self) -> Process {
        let secret = ("HOOK_SECRET".to_owned(), "0123456789abcdef".to_owned());
        start(&["deliver", "--config", arg(&self.config)], &[secret])
    }

    /// Requires `dlq sinks` to list these letters, and those of one sink alone where it is asked for.
    fn check_listed(&self, letters: usize) {
        let config = arg(&self.config);
        let list = |more: &[&str]| -> serde_json::Value {
            let listed = ["dlq", "sinks", "--json", "--config", config];
            let listed = start(&[&listed[..], more].concat(), &[]).wait().done();
            serde_json::from_str(&listed.out).unwrap()
        };
        let all = list(&[]);
        assert_eq!(all["letters"].as_array().unwrap().len(), letters);
        let there = list(&["--sink", "webhook.there", "--limit", "1"]);
        let letter = &there["letters"][0];
        assert_eq!(letter["sink"], "webhook.there");
        let topic = self.options.outputs.name(Output::Alerts);
        let record = letter["record"].as_str().unwrap();
        assert!(record.starts_with(&format!("{topic}/0@")), "{record}");
        assert_eq!(
            there["by_sink"], all["by_sink"],
            "the other sink buries nothing"
        );
        assert_eq!(
            list(&["--sink", "slack.none"])["by_sink"],
            serde_json::json!({})
        );
    }

    fn buried(&self) -> Vec<OwnedRecord> {
        let topic = self.options.outputs.sink_letters();
        read_all(&self.options, &topic, Isolation::Committed, &self.metrics).unwrap()
    }
}

/// The answer to a GET of a process that logged its address.
fn get(process: &mut Process, path: &str) -> String {
    assert!(process.logs("http://"), "no address is logged");
    let log = process.last_lines(1_000);
    let address = log.rsplit("http://").next().unwrap();
    let address = address.split_whitespace().next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until every sink of a process reads its topic.
fn await_ready(process: &mut Process) {
    let started = Instant::now();
    while !get(process, "/readyz").contains("200 OK") {
        assert!(started.elapsed() < PATIENCE, "{}", process.last_lines(20));
    }
}

/// Keys of requests that were answered with success or lost, in order.
type Keys = Arc<Mutex<Vec<String>>>;

/// Waits while a process runs until a condition holds for the keys that arrived.
fn await_keys(process: &mut Process, keys: &Keys, enough: impl Fn(&[String]) -> bool) {
    let started = Instant::now();
    while !enough(&keys.lock().unwrap()) {
        assert!(
            process.runs_on(),
            "it ended by itself: {}",
            process.last_lines(20)
        );
        assert!(started.elapsed() < PATIENCE, "{}", process.last_lines(20));
    }
}

const ALERTS: usize = 400;

#[test]
fn a_killed_process_delivers_every_alert_and_only_committed_ones() {
    let keys = Keys::default();
    let seen = keys.clone();
    let mut number = 0;
    let receiver = Receiver::start(move |request| {
        number += 1;
        let key = request.header("idempotency-key").to_owned();
        if key == "alert-33" {
            return Reply::Answer(400, "", "not this one".into());
        }
        if number % 10 == 7 {
            return Reply::Answer(503, "", String::new());
        }
        assert_eq!(request.json()["alert_id"], key);
        seen.lock().unwrap().push(key);
        match number % 10 {
            3 => Reply::Close,
            _ => Reply::Slow(Duration::from_millis(3), 204),
        }
    });
    let sections = format!(
        "[deliver.webhook.there]\nurl = {:?}\nsecret = {{ env = \"HOOK_SECRET\" }}\nstart = \"beginning\"\n\
         rate = 1000\nlongest_pause = \"100ms\"\n\
         [deliver.webhook.away]\nurl = \"http://127.0.0.1:1/\"\nsecret = {{ env = \"HOOK_SECRET\" }}\nstart = \"beginning\"",
        receiver.url("/")
    );
    let Some(outputs) = Outputs::new("deliver", &sections) else {
        return;
    };
    let ids: Vec<String> = (0..ALERTS)
        .map(|number| format!("alert-{number}"))
        .collect();
    let alerts: Vec<Vec<u8>> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| outputs.alert(id, &format!("E{}", number % 5)))
        .collect();
    outputs.write(&alerts[..150]);
    outputs.write_and_abort(&outputs.alert("aborted", "E0"));
    outputs.write(&[b"no record at all".to_vec()]);
    outputs.write(&alerts[150..]);

    for kill in 1..=3 {
        let mut process = outputs.deliver();
        let before = keys.lock().unwrap().len();
        await_keys(&mut process, &keys, |keys| keys.len() >= before + 60 + kill);
        process.kill();
    }
    let mut process = outputs.deliver();
    let wanted: BTreeSet<String> = ids.iter().filter(|id| *id != "alert-33").cloned().collect();
    await_keys(&mut process, &keys, |keys| {
        keys.iter().collect::<BTreeSet<_>>().len() >= wanted.len()
    });
    let ready = get(&mut process, "/readyz");
    assert!(
        ready.contains("503") && ready.contains("webhook.away: "),
        "{ready}"
    );
    assert!(
        get(&mut process, "/healthz").contains("200"),
        "a sink that waits is well"
    );
    let metrics = get(&mut process, "/metrics");
    assert!(
        metrics.contains(
            "leadpulse_deliver_records_total{outcome=\"delivered\",sink=\"webhook.away\"} 0"
        ),
        "{metrics}"
    );
    assert!(process.logs("waits before it sends again"));
    process.stop().done();

    let arrived = keys.lock().unwrap().clone();
    assert_eq!(arrived.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    let mut firsts = BTreeSet::new();
    let order: Vec<&String> = arrived.iter().filter(|key| firsts.insert(*key)).collect();
    let expected: Vec<&String> = ids.iter().filter(|id| *id != "alert-33").collect();
    assert_eq!(order, expected, "in order");

    let buried = outputs.buried();
    let of = |record: &OwnedRecord| -> (String, String) {
        let header = |name| String::from_utf8_lossy(record.header(name).unwrap()).into_owned();
        (header("x-deliver-sink"), header("x-deliver-reason"))
    };
    let values: BTreeSet<&[u8]> = buried.iter().filter_map(|it| it.value.as_deref()).collect();
    assert_eq!(
        values,
        BTreeSet::from([&b"no record at all"[..], &alerts[33]])
    );
    let refused = (
        String::from("webhook.there"),
        String::from("HTTP 400: not this one"),
    );
    assert!(buried.iter().any(|record| of(record) == refused));
    outputs.check_listed(buried.len());

    // Positions are committed: a restart sends new alerts only, and again the one whose answer was still
    // to come at the stop.
    let before = keys.lock().unwrap().len();
    outputs.write(&[outputs.alert("the last", "E0")]);
    let mut process = outputs.deliver();
    await_keys(&mut process, &keys, |keys| {
        keys.contains(&"the last".to_owned())
    });
    process.stop().done();
    let mut news: BTreeSet<String> = keys.lock().unwrap()[before..].iter().cloned().collect();
    news.remove(ids.last().unwrap());
    assert_eq!(news, BTreeSet::from(["the last".to_owned()]));
}

#[test]
fn a_new_sink_begins_at_the_end_and_a_configuration_without_sinks_is_refused() {
    let keys = Keys::default();
    let seen = keys.clone();
    let receiver = Receiver::start(move |request| {
        seen.lock()
            .unwrap()
            .push(request.header("idempotency-key").to_owned());
        Reply::Answer(200, "", String::new())
    });
    let sections = format!(
        "[deliver.webhook.new]\nurl = {:?}\nsecret = {{ env = \"HOOK_SECRET\" }}",
        receiver.url("/")
    );
    let Some(outputs) = Outputs::new("deliver-new", &sections) else {
        return;
    };
    outputs.write(&[outputs.alert("old", "E")]);
    let mut process = outputs.deliver();
    await_ready(&mut process);
    // Killed before its first record: what comes meanwhile is not behind the next start.
    process.kill();
    outputs.write(&[outputs.alert("between", "E")]);
    let mut process = outputs.deliver();
    await_ready(&mut process);
    outputs.write(&[outputs.alert("then", "E")]);
    await_keys(&mut process, &keys, |keys| {
        keys.contains(&"then".to_owned())
    });
    process.stop().done();
    assert_eq!(*keys.lock().unwrap(), ["between", "then"]);

    let config = arg(&outputs.config);
    let without_secret = start(&["deliver", "--config", config], &[]).wait();
    without_secret.failed(1, &["deliver.webhook.new.secret", "HOOK_SECRET"]);
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, text.replace(&sections, "")).unwrap();
    start(&["deliver", "--config", config], &[])
        .wait()
        .failed(1, &["no sink", "docs/deliver.md"]);
}
