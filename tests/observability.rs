//! Metrics, rules, dashboards and documents name the same things.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadpulse_deployment::{metric_groups, metric_groups_beside, metrics_at_start};
use leadpulse_metrics::{MetricDefinition, MetricKind};

use receiver::{Receiver, Reply};

mod receiver;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn printed(format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .args(["metrics", "--format", format])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn metrics() -> Vec<&'static MetricDefinition> {
    metric_groups()
        .iter()
        .flat_map(|group| group.metrics)
        .collect()
}

/// The series names of some metrics: histograms have three.
fn series_of(
    metrics: impl IntoIterator<Item = &'static MetricDefinition>,
) -> BTreeMap<String, &'static MetricDefinition> {
    let mut found = BTreeMap::new();
    for metric in metrics {
        found.insert(metric.name.to_owned(), metric);
        if metric.kind == MetricKind::Histogram {
            for ending in ["_bucket", "_sum", "_count"] {
                found.insert(format!("{}{ending}", metric.name), metric);
            }
        }
    }
    found
}

/// Every series name that a worker shows.
fn series() -> BTreeMap<String, &'static MetricDefinition> {
    series_of(metrics())
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c: char| !is_of_name(c) && !c.is_ascii_alphabetic())
        .filter(|word| word.starts_with("leadpulse_") || word.starts_with("process_"))
        .filter(|word| word.chars().all(is_of_name))
        .collect()
}

/// Words that look like metrics and are none.
fn is_no_metric(word: &str) -> bool {
    // Names of another program, and of fields that are written to CRMs.
    let others = [
        "process_exporter",
        "leadpulse_band",
        "leadpulse_key",
        "leadpulse_score",
    ];
    word.ends_with('_') || others.contains(&word)
}

#[track_caller]
fn check_names(place: &str, text: &str) {
    let beside = metric_groups_beside();
    let beside = beside.iter().flat_map(|group| group.metrics);
    let known = series_of(metrics().into_iter().chain(beside));
    let unknown: Vec<&str> = named(text)
        .into_iter()
        .filter(|name| !is_no_metric(name) && !known.contains_key(*name))
        .collect();
    assert!(
        unknown.is_empty(),
        "{place} names metrics that no process has: {unknown:?}"
    );
}

/// The anchors of a document's headings.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in document.lines().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        found.insert(heading.replace(' ', "-"));
    }
    found
}

/// The values of a key in a file of rules, in order.
fn values<'a>(rules: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("{key}: ");
    rules
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(&key))
        .collect()
}

#[test]
fn the_page_of_metrics_is_the_list() {
    let page = read("docs/metrics.md");
    let (_, generated) = page
        .split_once("leadpulse metrics --format markdown -->\n\n")
        .expect("docs/metrics.md has the line that its tables follow");
    assert!(
        generated.trim_end() == printed("markdown").trim_end(),
        "docs/metrics.md is not current; replace what follows that line by the output of: leadpulse metrics --format markdown"
    );
}

#[test]
fn the_dashboard_is_made_from_the_list() {
    let stored: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/leadpulse.json")).unwrap();
    let made: serde_json::Value = serde_json::from_str(&printed("grafana")).unwrap();
    assert!(
        stored == made,
        "deploy/grafana/leadpulse.json is not current; write: leadpulse metrics --format grafana > deploy/grafana/leadpulse.json"
    );
    let text = made.to_string();
    for metric in metrics() {
        assert!(text.contains(metric.name), "{} has no panel", metric.name);
    }
}

#[test]
fn documents_rules_and_dashboards_name_metrics_that_exist() {
    for place in [
        "deploy/prometheus/rules.yml",
        "deploy/prometheus/rules.test.yml",
        "deploy/grafana/leadpulse.json",
    ] {
        check_names(place, &read(place));
    }
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            check_names(
                &path.display().to_string(),
                &std::fs::read_to_string(&path).unwrap(),
            );
        }
    }
}

#[test]
fn labels_of_rules_are_labels_of_their_metrics() {
    let known = series();
    for rule in read("deploy/prometheus/rules.yml").lines() {
        for (at, _) in rule.match_indices('{') {
            let name = rule[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let Some(metric) = name.clone().next().and_then(|name| known.get(name)) else {
                continue;
            };
            let inside = rule[at + 1..].split('}').next().unwrap();
            for condition in inside.split(',') {
                let label = condition.split(['=', '!']).next().unwrap().trim();
                assert!(
                    metric.labels.contains(&label),
                    "{} has no label {label}",
                    metric.name
                );
            }
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test() {
    let rules = read("deploy/prometheus/rules.yml");
    let alerts = values(&rules, "alert");
    let runbooks = values(&rules, "runbook_url");
    assert_eq!(alerts.len(), runbooks.len());
    assert!(!alerts.is_empty());
    let tests = read("deploy/prometheus/rules.test.yml");
    let tested: BTreeSet<&str> = values(&tests, "alertname").into_iter().collect();
    let fires: BTreeSet<&str> = values(&tests, "runbook_url").into_iter().collect();
    for (alert, runbook) in alerts.into_iter().zip(runbooks) {
        let (document, anchor) = runbook.split_once('#').expect("a runbook has an anchor");
        assert!(
            anchors(&read(document)).contains(anchor),
            "{alert}: {document} has no heading for #{anchor}"
        );
        assert!(tested.contains(alert), "{alert} is in no test");
        let quoted = format!("\"{runbook}\"");
        assert!(fires.contains(quoted.as_str()), "{alert} fires in no test");
    }
}

/// Metrics with a label whose values only the configuration, the model or what happens give.
const OPEN: [&str; 21] = [
    "leadpulse_alerts_emitted_total",
    "leadpulse_alerts_suppressed_total",
    "leadpulse_events_consumed_total",
    "leadpulse_explanations_total",
    "leadpulse_graph_nodes",
    "leadpulse_graph_stale",
    "leadpulse_graph_stubs",
    "leadpulse_http_request_duration_seconds",
    "leadpulse_http_requests_total",
    "leadpulse_kafka_client_errors_total",
    "leadpulse_kafka_consumer_lag_records",
    "leadpulse_kafka_consumer_lag_seconds",
    "leadpulse_model_info",
    "leadpulse_records_filtered_total",
    "leadpulse_records_ignored_total",
    "leadpulse_references_lost",
    "leadpulse_references_named",
    "leadpulse_scores_emitted_total",
    "leadpulse_topic_findings",
    "leadpulse_topic_retention_seconds",
    "leadpulse_work_lists_written_total",
];

/// `# HELP` and `# TYPE` of an exposition: what → name → text.
fn said(text: &str) -> BTreeMap<(&str, &str), &str> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        if let [what, name, rest] = words[..] {
            found.insert((what, name), rest);
        }
    }
    found
}

#[test]
fn every_metric_with_a_closed_set_of_labels_exists_before_anything_is_counted() {
    let text = metrics_at_start().unwrap();
    let said = said(&text);
    let found: BTreeSet<&str> = said.keys().map(|(_, name)| *name).collect();
    let listed: BTreeSet<&str> = metrics().iter().map(|metric| metric.name).collect();
    let absent: BTreeSet<&str> = listed.difference(&found).copied().collect();
    assert_eq!(absent, BTreeSet::from(OPEN));
    let unlisted: Vec<&str> = found.difference(&listed).copied().collect();
    assert_eq!(unlisted, Vec::<&str>::new());
    for metric in metrics() {
        if let Some(help) = said.get(&("HELP", metric.name)) {
            assert_eq!(*help, metric.help, "{}", metric.name);
            assert_eq!(said[&("TYPE", metric.name)], metric.kind.name());
        }
    }
}

#[test]
fn names_of_metrics_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in metrics() {
        let name = metric.name;
        let is_counter = metric.kind == MetricKind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        assert!(metric.help.ends_with('.'), "{name}: help is a sentence");
        assert!(names.insert(name), "{name} is listed twice");
        for unit in ["_ms", "_hours", "_minutes", "_kb", "_mb"] {
            assert!(!name.contains(unit), "{name}: seconds and bytes only");
        }
    }
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A demo with its console's address, host and port.
fn demo(folder: &Path) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .current_dir(folder)
        .args(["demo", "--accounts", "100", "--duration", "300s"])
        .env("LEADPULSE_SERVER__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .find_map(|line| Some(line.unwrap().strip_prefix("console  http://")?.to_owned()))
        .expect("the demo prints its console's address");
    // The demo must not wait for a reader of its lines.
    std::thread::spawn(move || lines.for_each(drop));
    (Running(child), address)
}

/// The JSON that an address answers; `None` before it listens.
fn asked(address: &str, path: &str) -> Option<serde_json::Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// The value of a query's first series.
fn value(prometheus: &str, query: &str) -> Option<f64> {
    let path = format!("/api/v1/query?query={}", query.replace(' ', "%20"));
    let answer = asked(prometheus, &path)?;
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

/// Waits for a value; a minute without one is a fault.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_real_prometheus_scrapes_a_worker_and_evaluates_the_rules() {
    let program = root().join(".tools/prometheus");
    if !program.exists() {
        eprintln!("SKIPPED: .tools/prometheus is not here; deploy/package-tools.sh fetches it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_worker, worker) = demo(folder.path());
    let rules = root().join("deploy/prometheus/rules.yml");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         scrape_configs:\n  - job_name: leadpulse\n    static_configs: [{{targets: [\"{worker}\"]}}]\n",
        rules.display()
    );
    let config_path = folder.path().join("prometheus.yml");
    std::fs::write(&config_path, config).unwrap();
    let prometheus = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let prometheus = prometheus.to_string();
    let child = Command::new(program)
        .arg(format!("--config.file={}", config_path.display()))
        .arg(format!("--web.listen-address={prometheus}"))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("tsdb").display()
        ))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Running(child);
    let query = |query: &str| wait_for(query, || value(&prometheus, query));
    assert_eq!(query("sum(leadpulse_role{role=\"owner\"})"), 1.0);
    assert_eq!(query("sum(leadpulse_build_info)"), 1.0);
    assert!(query("process_resident_memory_bytes") > 1e6);
    assert_eq!(query("count(leadpulse_dlq_records_total)"), 8.0);
    assert!(query("sum(leadpulse_model_info)") >= 1.0);
    wait_for("records are consumed", || {
        value(&prometheus, "sum(leadpulse_events_consumed_total)").filter(|n| *n > 0.0)
    });
    let rules = wait_for("rules are evaluated", || {
        let answer = asked(&prometheus, "/api/v1/rules")?;
        let rules = answer["data"]["groups"][0]["rules"].as_array()?.clone();
        let is_known = |rule: &serde_json::Value| rule["health"] != "unknown";
        rules.iter().all(is_known).then_some(rules)
    });
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
    let alerts = values(&read("deploy/prometheus/rules.yml"), "alert").len();
    assert_eq!(rules.len(), alerts);
}

/// One reading of `leadpulse top`, as JSON.
fn top(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .args([&["top", "--every", "500ms"], arguments].concat())
        .output()
        .unwrap()
}

#[test]
fn a_reading_of_a_running_worker_is_what_its_api_says() {
    let folder = tempfile::tempdir().unwrap();
    let (_worker, worker) = demo(folder.path());
    let url = format!("http://{worker}");
    let json = |more: &[&str]| -> serde_json::Value {
        let output = top(&[&["--url", &url, "--json"], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    // The market is watched once it alerts: figures of a busy worker.
    let (before, reading) = wait_for("an alert", || {
        let before = asked(&worker, "/api/v1/status")?;
        let reading = json(&[]);
        reading["alerts"][0]
            .is_object()
            .then_some((before, reading))
    });
    let after = asked(&worker, "/api/v1/status").unwrap();
    let status = &reading["status"];
    assert_eq!(status["phase"], "live");
    for field in ["epoch", "records", "as_of"] {
        let [low, found, high] = [&before, status, &after].map(|one| one[field].as_i64().unwrap());
        assert!(
            low <= found && found <= high,
            "{field}: {low} {found} {high}"
        );
    }
    assert_eq!(
        status["deployed"]["bundle_id"],
        after["deployed"]["bundle_id"]
    );
    assert!(status.get("tasks").is_none());
    let total = |name: &str| reading["totals"][name].as_f64().unwrap();
    assert!(total("records") >= before["records"].as_f64().unwrap());
    assert!(total("records") <= after["records"].as_f64().unwrap());
    assert!(total("epochs") > 0.0 && total("cells") > 0.0 && total("alerts") > 0.0);
    let rates = &reading["rates"];
    assert!(rates["over_seconds"].as_f64().unwrap() >= 0.5);
    assert_eq!(rates["restarted"], false);
    assert!(rates["per_second"]["records"].as_f64().unwrap() >= 0.0);
    let queues: Vec<&String> = reading["waiting_cells"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(queues, ["dirty", "soft", "tick"]);
    assert!(reading["topics"]["crm.accounts.v1"]["records"].is_number());
    assert!(reading["sinks"].is_null() && reading["sinks_fault"].is_null());
    let known = asked(&worker, "/api/v1/alerts?limit=1000").unwrap();
    let newest = &reading["alerts"][0];
    let known = known["alerts"].as_array().unwrap();
    assert!(known.contains(newest), "{newest}");

    // Sinks that are away are a fault within the reading.
    let away = json(&["--deliver-url", "http://127.0.0.1:1"]);
    let fault = away["sinks_fault"].as_str().unwrap();
    assert!(fault.contains("http://127.0.0.1:1/metrics"), "{fault}");

    // Off a terminal one reading for people, without a code for colours or cursors.
    let output = top(&["--url", &url]);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && !lines.contains('\u{1b}'),
        "{lines}"
    );
    for line in [
        "phase    live",
        "rates/s  records",
        "work     an epoch",
        "lag      ",
        "alerts   the newest",
    ] {
        assert!(lines.contains(line), "{line}: {lines}");
    }

    let refused = top(&["--url", "http://127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("does not answer"), "{said}");
    let other = top(&["--url", &format!("{url}/nowhere")]);
    assert_eq!(other.status.code(), Some(1));
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("404"), "{said}");
}

#[test]
fn spans_of_epochs_and_stages_arrive_at_a_collector() {
    type Bodies = Arc<Mutex<Vec<serde_json::Value>>>;
    let bodies = Bodies::default();
    let taken = bodies.clone();
    let mut number = 0;
    let collector = Receiver::start(move |request| {
        number += 1;
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/v1/traces")
        );
        // A collector that fails costs the spans of its request only.
        if number == 1 {
            return Reply::Answer(400, "", String::new());
        }
        taken.lock().unwrap().push(request.json());
        Reply::Answer(200, "content-type: application/json\r\n", "{}".into())
    });
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .current_dir(folder.path())
        .args(["demo", "--accounts", "100", "--duration", "5s", "--json"])
        .env("LEADPULSE_SERVER__LISTEN", "127.0.0.1:0")
        .env("LEADPULSE_TELEMETRY__OTLP_ENDPOINT", collector.url("/"))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("spans are lost").count(), 1, "{log}");

    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut epochs = BTreeSet::new();
    for body in bodies.lock().unwrap().iter() {
        let resource = &body["resourceSpans"][0];
        let service = resource["resource"]["attributes"].to_string();
        assert!(service.contains("\"leadpulse\""), "{service}");
        let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        for span in spans {
            let name = span["name"].as_str().unwrap();
            *names.entry(name.to_owned()).or_default() += 1;
            let time = |field: &str| span[field].as_str().unwrap().parse::<u64>().unwrap();
            assert!(
                time("startTimeUnixNano") <= time("endTimeUnixNano"),
                "{span}"
            );
            if name == "epoch" {
                let number = &span["attributes"][0];
                assert_eq!(number["key"], "leadpulse.epoch");
                let number = &number["value"]["intValue"];
                assert!(epochs.insert(number.to_string()), "{number} twice");
            } else {
                let parent = &span["parentSpanId"];
                let owner = spans.iter().find(|one| &one["spanId"] == parent);
                let owner = owner.unwrap_or_else(|| panic!("nobody has {parent}"));
                assert_eq!(
                    (&owner["name"], &owner["traceId"]),
                    (&"epoch".into(), &span["traceId"])
                );
            }
        }
    }
    let stages = [
        "decode", "graph", "track", "infer", "policy", "seal", "produce",
    ];
    for stage in stages {
        assert_eq!(names.get(stage), names.get("epoch"), "{stage}: {names:?}");
    }
    assert_eq!(names.len(), stages.len() + 1, "{names:?}");
    assert!(epochs.len() > 3, "{epochs:?}");
}
