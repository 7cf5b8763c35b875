//! The routers of `deploy/examples`, which act on each alert once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use leadpulse_engine::ports::Output;
use serde_json::Value as Json;

use super::process::arg;
use super::scenario::Scenario;
use crate::harness::repository;

/// Deliveries by id of the alert.
pub type Acts = BTreeMap<String, usize>;

/// Alerts that the router in Python acts on: a first process takes half of the bodies, a second one
/// all of them again. `None` where there is no Python.
pub fn acts_in_python(bodies: &[String], folder: &Path) -> Option<Acts> {
    const PROGRAM: &str = "import json, sys\nsys.path.insert(0, 'deploy/examples/router')\n\
        from router import Ledger, Router, Rules\n\
        act = lambda to, alert: print(alert['alert_id'])\n\
        router = Router(Rules([{'to': 'somebody'}]), Ledger(sys.argv[1]), act)\n\
        for line in sys.stdin:\n    router.take(json.loads(line))\n";
    let ledger = folder.join("ledger.sqlite");
    let mut acts = Acts::new();
    for taken in [&bodies[..bodies.len() / 2], bodies] {
        let spawned = Command::new("python3")
            .args(["-c", PROGRAM, arg(&ledger)])
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut router) = spawned else {
            eprintln!("SKIPPED: the router in Python: python3 is not here");
            return None;
        };
        let mut lines = router.stdin.take().unwrap();
        let bodies = taken.join("\n");
        let writer = std::thread::spawn(move || lines.write_all(bodies.as_bytes()).unwrap());
        let output = router.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "{output:?}");
        for id in String::from_utf8(output.stdout).unwrap().lines() {
            *acts.entry(id.to_owned()).or_default() += 1;
        }
    }
    Some(acts)
}

/// Jars of Kafka's clients; `None` where they, or Java, are missing.
fn jars() -> Option<PathBuf> {
    let given = std::env::var_os("LEADPULSE_KAFKA_LIBS").map(PathBuf::from);
    let jars = given.unwrap_or_else(|| repository().join(".kafka/libs"));
    let is_here = Command::new("java").arg("-version").output().is_ok();
    if !is_here || !jars.is_dir() {
        eprintln!(
            "SKIPPED: the router in Java: no java, or no jars in {}",
            jars.display()
        );
        return None;
    }
    Some(jars)
}

/// The router in Java as a command, reading a deployment's alerts with these rules.
fn router(scenario: &Scenario, class_path: &str, rules: &Path, more: &[&str]) -> Command {
    let topic = scenario.options.outputs.name(Output::Alerts);
    let mut command = Command::new("java");
    command
        .args(["-cp", class_path, "deploy/examples/jvm/Router.java"])
        .args(["--brokers", &scenario.options.brokers, "--topic", topic])
        .args(["--rules", arg(rules)])
        .args(more)
        .current_dir(repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

fn delivered(line: &str) -> Json {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn id_of(line: &Json) -> String {
    line["idempotency_key"].as_str().unwrap().to_owned()
}

/// Alerts that the router in Java acts on by their headers: a first process is killed after a third
/// of `wanted`, a second one reads the whole topic again. `None` where there is no Java.
pub fn acts_in_java(scenario: &Scenario, wanted: usize, folder: &Path) -> Option<Acts> {
    let jars = format!("{}/*", arg(&jars()?));
    let (rules, ledger) = (folder.join("rules.json"), folder.join("router.ledger"));
    std::fs::write(&rules, r#"[{"severity_at_least": "P3", "to": "somebody"}]"#).unwrap();
    let ledger = ["--ledger", arg(&ledger)];
    let mut acts = Acts::new();
    let mut note = |line: &str| *acts.entry(id_of(&delivered(line))).or_default() += 1;

    let group = scenario.named("java-1");
    let first = [&ledger[..], &["--group", &group]].concat();
    let mut process = router(scenario, &jars, &rules, &first).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for (number, line) in lines.map_while(Result::ok).enumerate() {
        note(&line);
        if number + 1 == (wanted / 3).max(1) {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();

    let all = scenario.committed(Output::Alerts).len().to_string();
    let group = scenario.named("java-2");
    let second = ["--group", &group, "--most", &all];
    let second = [&ledger[..], &second].concat();
    let output = router(scenario, &jars, &rules, &second).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .for_each(note);
    Some(acts)
}

/// Lines of the router in Java with the values of the alerts, by a rule about a field that no header
/// has. `None` where Java or Avro's jar are missing.
pub fn values_in_java(scenario: &Scenario, folder: &Path) -> Option<Vec<Json>> {
    let jars = jars()?;
    let avro = repository().join(".kafka/apicurio/lib/main/org.apache.avro.avro-1.12.2.jar");
    if !avro.exists() {
        eprintln!("SKIPPED: values in Java: {} is missing", avro.display());
        return None;
    }
    let class_path = format!("{}/*:{}", arg(&jars), arg(&avro));
    let (rules, ledger) = (folder.join("by-type.json"), folder.join("values.ledger"));
    std::fs::write(
        &rules,
        r#"[{"entity_type": "accounts", "to": "account team"}]"#,
    )
    .unwrap();
    let all = scenario.committed(Output::Alerts).len().to_string();
    let group = scenario.named("java-3");
    let more = [
        ["--ledger", arg(&ledger)],
        ["--group", &group],
        ["--schema", "schemas/outputs/alert.avsc"],
        ["--most", &all],
    ];
    let mut command = router(scenario, &class_path, &rules, more.as_flattened());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(delivered).collect())
}
