//! Alerts on their way from a worker over its topic, a webhook and a channel of Slack to a consumer that acts: through
//! deaths of the worker and of the process of sinks, a swap of the model, and another threshold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use leadpulse_engine::ports::Output;
use leadpulse_engine::{Alert, EpochRecord, EventHeaders};
use serde_json::Value as Json;
use toml::Value as Toml;

use super::checks::committed;
use super::dataset::{Dataset, MARKET_DAYS, accounts, alone};
use super::process::{PATIENCE, Process, arg, leadpulse};
use super::routers::{Acts, acts_in_java, acts_in_python, values_in_java};
use super::scenario::Scenario;
use crate::receiver::{Receiver, Reply};

/// Seconds over which the last third of the history is produced, unless the test is done before.
const FEED_SECONDS: u64 = 240;

/// Requests that reached the webhook, in order: key and body. Some of their answers were lost.
type Requests = Arc<Mutex<Vec<(String, Json)>>>;

/// A webhook that takes most requests, refuses every ninth for a moment, and takes every seventh
/// without an answer.
fn webhook(requests: &Requests) -> Receiver {
    let requests = requests.clone();
    let mut number = 0;
    Receiver::start(move |request| {
        number += 1;
        if number % 9 == 8 {
            return Reply::Answer(503, "", String::new());
        }
        let key = request.header("idempotency-key").to_owned();
        requests.lock().unwrap().push((key, request.json()));
        match number % 7 {
            3 => Reply::Close,
            _ => Reply::Answer(204, "", String::new()),
        }
    })
}

/// Ids of the alerts in messages that reached the channel, in order.
type Messages = Arc<Mutex<Vec<String>>>;

/// A channel of Slack that takes most messages, refuses every fifth for a moment, and takes every
/// fourth without an answer.
fn channel(messages: &Messages) -> Receiver {
    let messages = messages.clone();
    let mut number = 0;
    Receiver::start(move |request| {
        number += 1;
        if number % 5 == 2 {
            return Reply::Answer(429, "retry-after: 1\r\n", String::new());
        }
        let message = request.json();
        let blocks = message["blocks"].as_array().unwrap().iter();
        let ids = blocks.filter_map(|block| block["block_id"].as_str().map(str::to_owned));
        messages.lock().unwrap().extend(ids);
        match number % 4 {
            3 => Reply::Close,
            _ => Reply::Answer(200, "", "ok".into()),
        }
    })
}

/// Where the sinks send to.
struct Ends {
    requests: Requests,
    messages: Messages,
    webhook: Receiver,
    channel: Receiver,
}

impl Ends {
    fn start() -> Self {
        let (requests, messages) = (Requests::default(), Messages::default());
        Self {
            webhook: webhook(&requests),
            channel: channel(&messages),
            requests,
            messages,
        }
    }
}

/// A worker with a registry of two bundles, a webhook and a channel.
struct Journey {
    scenario: Scenario,
    ends: Ends,
    _dir: tempfile::TempDir,
}

impl Journey {
    /// `None` where there is no Kafka.
    fn new(dataset: &'static Dataset) -> Option<Self> {
        let ends = Ends::start();
        let dir = tempfile::tempdir().unwrap();
        let mut config = dataset.config.clone();
        let section = format!(
            "[models]\ndir = {:?}\n[deliver]\nlisten = \"127.0.0.1:0\"\n[deliver.webhook.there]\nurl = {:?}\n\
             secret = {{ env = \"HOOK_SECRET\" }}\nstart = \"beginning\"\nrate = 1000\nlongest_pause = \"100ms\"\n\
             [deliver.slack.desk]\nurl = {{ env = \"SLACK_URL\" }}\nstart = \"beginning\"\nrate = 1000\nlongest_pause = \"100ms\"\n\
             digest = {{ every = \"0s\", most = 3 }}",
            dir.path().join("models"),
            ends.webhook.url("/")
        );
        let sections: toml::Table = section.parse().unwrap();
        config.extend(sections);
        let mut scenario = Scenario::with_config(dataset, "journey", config)?;
        scenario.set("ENGINE__CLOCK", "events");
        scenario.create_inputs(2);
        scenario.create_outputs();
        Some(Self {
            scenario,
            ends,
            _dir: dir,
        })
    }

    fn worker(&self, more: &[&str]) -> Process {
        let start = [&["--no-http"], more].concat();
        self.scenario.start("run", &start)
    }

    fn sinks(&self) -> Process {
        let secret = ("HOOK_SECRET".to_owned(), "0123456789abcdef".to_owned());
        let channel = self.ends.channel.url("/services/T/B/x");
        let secrets = [secret, ("SLACK_URL".to_owned(), channel)];
        self.scenario.start_with("deliver", &[], &secrets)
    }

    fn models(&self, subcommand: &str, arguments: &[&str]) {
        let ended = self.scenario.start_under("models", subcommand, arguments);
        ended.wait().done();
    }

    /// Waits while a worker runs until the epochs satisfy a condition.
    fn until(&self, worker: &mut Process, what: &str, enough: impl Fn(&[EpochRecord]) -> bool) {
        let found = self.scenario.await_epochs(worker, enough);
        assert!(found, "{what}: {}", worker.last_lines(20));
    }

    /// Waits while the sinks run until so many alerts arrived at both ends.
    fn arrived(&self, sinks: &mut Process, alerts: usize) {
        let started = Instant::now();
        while self.keys().len() < alerts || self.shown().len() < alerts {
            assert!(sinks.runs_on(), "{}", sinks.last_lines(20));
            assert!(started.elapsed() < PATIENCE, "{}", sinks.last_lines(20));
        }
    }

    fn keys(&self) -> BTreeSet<String> {
        let requests = self.ends.requests.lock().unwrap();
        requests.iter().map(|(key, _)| key.clone()).collect()
    }

    /// Ids of the alerts in the channel.
    fn shown(&self) -> BTreeSet<String> {
        self.ends.messages.lock().unwrap().iter().cloned().collect()
    }

    /// Lowers the bands of the task in the configuration file.
    fn lower_thresholds(&mut self) {
        let task = &mut self.scenario.configured["tasks"].as_array_mut().unwrap()[0];
        for band in task["policy"]["bands"].as_array_mut().unwrap() {
            let enter = band["enter"].as_float().unwrap();
            let band = band.as_table_mut().unwrap();
            band.insert("enter".into(), Toml::Float(0.8 * enter));
        }
        self.scenario.write_config();
    }

    /// The committed alerts with the headers of their records checked.
    fn alerts(&self) -> Vec<Alert> {
        let (encoders, schemas) = self.scenario.encoders();
        let headers = EventHeaders::of_worker(&self.scenario.options.transactional_id, false);
        let mut alerts = Vec::new();
        for record in self.scenario.committed(Output::Alerts) {
            let value = record.value.as_deref().unwrap();
            let alert = encoders.read_alert(value, &schemas).unwrap();
            assert_eq!(record.header("ce_id"), Some(alert.alert_id.as_bytes()));
            assert_eq!(record.headers, headers.alert(&alert));
            alerts.push(alert);
        }
        alerts
    }
}

/// A bundle of the same task that was trained for longer.
fn another_bundle(dataset: &Dataset, dir: &Path) -> PathBuf {
    let mut config = dataset.config.clone();
    let task = &mut config["tasks"].as_array_mut().unwrap()[0];
    let fit = task["fit"].as_table_mut().unwrap();
    fit.insert("max_epochs".into(), Toml::Integer(5));
    let (file, bundle) = (dir.join("other.toml"), dir.join("other"));
    std::fs::write(&file, config.to_string()).unwrap();
    let what = ["--data", arg(&dataset.data), "--out", arg(&bundle)];
    let train = ["train", "--config", arg(&file), "--force"];
    leadpulse(&[&train[..], &what].concat()).done();
    bundle
}

/// Alerts of the epochs under a version.
fn alerts_under<'a>(
    epochs: &'a [EpochRecord],
    is_version: impl Fn(&EpochRecord) -> bool + 'a,
) -> i64 {
    let epochs = epochs.iter().filter(move |epoch| is_version(epoch));
    epochs.map(|epoch| epoch.alerts).sum()
}

#[test]
fn alerts_arrive_under_one_key_through_kills_a_swap_and_another_threshold() {
    let _alone = alone();
    let dataset = accounts();
    let Some(mut on) = Journey::new(dataset) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let other = another_bundle(dataset, dir.path());
    on.models("add", &[arg(&dataset.bundle)]);
    on.models("add", &[arg(&other), "--challenger"]);
    let first = bundle_id(&dataset.bundle);
    on.models("promote", &[&first, "--force"]);

    let mut parts = dataset.batches(&on.scenario.catalog);
    let last = parts.pop().unwrap();
    for part in &parts {
        on.scenario.replay(part, &[]);
    }
    let mut worker = on.worker(&[]);
    on.until(&mut worker, "first epochs", |epochs| epochs.len() >= 4);
    worker.kill();
    let mut worker = on.worker(&[]);
    let mut sinks = on.sinks();
    on.arrived(&mut sinks, 2);
    sinks.kill();
    let sinks = on.sinks();

    // The model is swapped while records come; the worker dies before every cell has a new score.
    let days = MARKET_DAYS / (parts.len() as u64 + 1);
    let speed = format!("{}x", days * 86_400 / FEED_SECONDS);
    let feed = ["--data", arg(&last), "--append", "--speed", &speed];
    let feed = on.scenario.start("replay", &feed);
    on.models("promote", &["challenger", "--live", "--force"]);
    let second = bundle_id(&other);
    let is_second = |epoch: &EpochRecord| epoch.bundle_id.as_ref() == Some(&second);
    on.until(&mut worker, "the swap", |epochs| {
        epochs.iter().any(is_second)
    });
    worker.kill();
    let mut worker = on.worker(&[]);
    on.until(&mut worker, "alerts of the second model", |epochs| {
        alerts_under(epochs, is_second) > 0
    });

    // The thresholds change; sinks and worker die once it is in force.
    let newest = on.scenario.epochs().pop().unwrap().deployed;
    on.lower_thresholds();
    on.scenario.start("apply", &[]).wait().done();
    let is_lowered = |epoch: &EpochRecord| is_second(epoch) && epoch.deployed != newest;
    let under_first_thresholds = on.scenario.epochs();
    let from = under_first_thresholds.len() as i64;
    let is_lowered = |epoch: &EpochRecord| epoch.epoch > from && is_lowered(epoch);
    on.until(&mut worker, "the thresholds", |epochs| {
        epochs.iter().any(is_lowered)
    });
    sinks.kill();
    worker.kill();
    let mut worker = on.worker(&[]);
    let mut sinks = on.sinks();
    on.until(&mut worker, "alerts of the new thresholds", |epochs| {
        alerts_under(epochs, is_lowered) > 0
    });
    feed.kill();
    worker.stop().done();
    on.worker(&["--until-end"]).wait().done();

    // Exact epochs, and each alert once in the topic.
    let found = committed(&on.scenario);
    let alerts = on.alerts();
    assert_eq!(alerts.len(), found.alerts.len());
    let wanted: BTreeSet<String> = alerts
        .iter()
        .filter(|alert| !alert.hold_out && alert.state.0 != "suppressed")
        .map(|alert| alert.alert_id.clone())
        .collect();
    on.arrived(&mut sinks, wanted.len());
    sinks.stop().done();
    assert_eq!(on.keys(), wanted, "every alert arrives, and nothing else");
    assert_eq!(on.shown(), wanted, "in the channel, too");
    let requests = on.ends.requests.lock().unwrap().clone();
    let messages = on.ends.messages.lock().unwrap().len();
    for (key, body) in &requests {
        assert_eq!(body["alert_id"], **key, "one key");
    }
    assert!(requests.len() > wanted.len(), "nothing was sent again");
    println!(
        "{} alerts in {} epochs ({} under the second model, {} of them under lower thresholds); \
         {} requests and {messages} lines of Slack for {} alerts; worker killed 3 times, sinks twice",
        alerts.len(),
        found.epochs.len(),
        alerts_under(&found.epochs, is_second),
        alerts_under(&found.epochs, is_lowered),
        requests.len(),
        wanted.len()
    );
    check_routers(&on.scenario, &requests, &wanted, dir.path());
}

/// Requires the routers of the examples to act on each alert once, however often it comes.
fn check_routers(
    scenario: &Scenario,
    requests: &[(String, Json)],
    wanted: &BTreeSet<String>,
    folder: &Path,
) {
    let once: Acts = wanted.iter().map(|id| (id.clone(), 1)).collect();
    let bodies: Vec<String> = requests.iter().map(|(_, body)| body.to_string()).collect();
    if let Some(acts) = acts_in_python(&bodies, folder) {
        assert_eq!(acts, once, "once on each");
    }
    if let Some(mut acts) = acts_in_java(scenario, wanted.len(), folder) {
        // One delivery may have begun when its process was killed: it is made again, under its key.
        let twice: Vec<String> = acts
            .iter()
            .filter(|(_, count)| **count == 2)
            .map(|(id, _)| id.clone())
            .collect();
        assert!(twice.len() <= 1, "{twice:?}");
        println!(
            "router in Java: {} deliveries, {} begun twice",
            acts.len(),
            twice.len()
        );
        acts.extend(twice.into_iter().map(|id| (id, 1)));
        assert_eq!(acts, once, "once on each");
    }
    if let Some(lines) = values_in_java(scenario, folder) {
        assert_eq!(lines.len(), wanted.len());
        for line in lines {
            assert!(line["summary"].is_string(), "{line}");
        }
    }
}

/// Id of a bundle on disk.
fn bundle_id(bundle: &Path) -> String {
    let manifest = std::fs::read_to_string(bundle.join("manifest.json")).unwrap();
    let manifest: Json = serde_json::from_str(&manifest).unwrap();
    manifest["bundle_id"].as_str().unwrap().to_owned()
}
