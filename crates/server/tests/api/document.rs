//! The API's own description, against what the server answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use leadpulse_records::WorkList;
use leadpulse_server::api_reference;
use serde_json::{Value, json};

use crate::json_schema::Judge;
use crate::support::Server;

/// The schema of an endpoint's answer.
fn schema_of<'a>(document: &'a Value, method: &str, path: &str, status: &str) -> &'a Value {
    let answer = &document["paths"][path][method]["responses"][status]["content"];
    let content = answer.as_object().and_then(|kinds| kinds.values().next());
    content
        .map(|content| &content["schema"])
        .unwrap_or_else(|| {
            panic!("{method} {path} {status} is not described");
        })
}

pub fn check(document: &Value, method: &str, path: &str, status: u16, answer: &Value) {
    let schema = schema_of(document, method, path, &status.to_string());
    let mut faults = Vec::new();
    Judge { document }.judge(schema, answer, path, &mut faults);
    assert!(faults.is_empty(), "{faults:#?}\n{answer}");
}

/// A server with something of everything.
fn full() -> Server {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B", 0.9)], &["A"]);
    server.publish(2, &[("A", 0.2)], &["A"]);
    let list = WorkList {
        task: "buys".into(),
        owner_id: None,
        as_of: 10,
        horizon_days: Some(90),
        bundle_id: None,
        entries: Vec::new(),
    };
    server.read_model.publish_work_lists(vec![Arc::new(list)]);
    let letter = crate::dead_letters::json_letter();
    server.read_model.publish_dead_letters(vec![letter]);
    let said = crate::said::said(&[("A", "mute")], &[("alert-A-1", "accepted")]);
    server.read_model.publish_said(said);
    crate::trace::run_pipeline(&server);
    let record = crate::trace::traced(7, "v7", "accepted");
    server.read_model.publish_traced(1, vec![record]);
    server
}

#[test]
fn answers_are_as_the_document_describes_them() {
    let server = full();
    let document = server.get("/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let requests = [
        ("/api", "/api"),
        ("/api/v1/openapi.json", "/api/v1/openapi.json"),
        ("/api/v1/scores", "/api/v1/scores"),
        ("/api/v1/scores", "/api/v1/scores?view=full"),
        ("/api/v1/scores", "/api/v1/scores?fields=entity_id"),
        ("/api/v1/alerts", "/api/v1/alerts"),
        ("/api/v1/alerts", "/api/v1/alerts?view=full"),
        ("/api/v1/worklist", "/api/v1/worklist"),
        ("/api/v1/feedback", "/api/v1/feedback"),
        ("/api/v1/dead-letters", "/api/v1/dead-letters"),
        ("/api/v1/tasks", "/api/v1/tasks"),
        ("/api/v1/schemas/{id}", "/api/v1/schemas/7"),
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/pipeline", "/api/v1/pipeline"),
        ("/api/v1/trace", "/api/v1/trace?id=v7"),
        (
            "/api/v1/trace",
            "/api/v1/trace?topic=visits&partition=2&offset=2",
        ),
        ("/api/v1/{table}/{id}", "/api/v1/accounts/A"),
        ("/api/v1/{table}/{id}/history", "/api/v1/accounts/A/history"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/version", "/version"),
    ];
    for (path, request) in requests {
        let reply = server.get(request);
        assert_eq!(reply.code, 200, "{request}: {}", reply.body);
        check(&document, "get", path, 200, &reply.json());
    }
    for (view, schema, list) in [
        ("summary", "ScoreSummary", "scores"),
        ("full", "ListedScore", "scores"),
        ("summary", "AlertSummary", "alerts"),
        ("full", "ShownAlert", "alerts"),
    ] {
        let page = server.get(&format!("/api/v1/{list}?view={view}")).json();
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        let mut faults = Vec::new();
        let judge = Judge {
            document: &document,
        };
        judge.judge(&schema, &page[list][0], list, &mut faults);
        assert!(faults.is_empty(), "{view} {faults:#?}");
    }
    for (path, request) in [
        ("/api/v1/scores", "/api/v1/scores?task=nope"),
        ("/api/v1/scores", "/api/v1/scores?limit=0"),
        ("/api/v1/{table}/{id}", "/api/v1/accounts/nobody"),
        ("/api/v1/schemas/{id}", "/api/v1/schemas/8"),
        ("/api/v1/schemas/{id}", "/api/v1/schemas/9"),
        (
            "/api/v1/{table}/{id}/explanation",
            "/api/v1/accounts/A/explanation",
        ),
        (
            "/api/v1/{table}/{id}/committee",
            "/api/v1/accounts/A/committee",
        ),
        ("/api/v1/model", "/api/v1/model"),
        ("/api/v1/trace", "/api/v1/trace"),
    ] {
        let reply = server.get(request);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let problem = reply.json();
        assert_eq!(problem["status"], reply.code, "{request}");
        check(&document, "get", path, reply.code, &problem);
    }
}

#[test]
fn every_path_is_in_the_document_and_in_the_index() {
    let server = full();
    let document = server.get("/api/v1/openapi.json").json();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let index = server.get("/api").json();
    let entries = index["paths"].as_array().unwrap().iter();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let listed: BTreeSet<(String, String)> = entries
        .map(|entry| (text(entry, "method"), text(entry, "path")))
        .collect();
    assert_eq!(described, listed);
    assert!(listed.len() > 15, "{listed:?}");
    for (method, path) in &listed {
        let other = if method == "GET" { "DELETE" } else { "GET" };
        let path = path.replace("{table}", "accounts").replace("{id}", "7");
        let reply = server.send(other, &path, &[]);
        assert_eq!(reply.code, 405, "{path} has a route");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(!reply.header("allow").is_empty());
    }
}

#[test]
fn the_reference_page_has_the_endpoints_as_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = std::fs::read_to_string(path).expect("docs/api.md is there");
    let start = "<!-- endpoints -->\n\n";
    let (before, _) = page
        .split_once(start)
        .expect("docs/api.md has a place for endpoints");
    let wanted = format!("{before}{start}{}", api_reference().trim_end());
    if page.trim_end() != wanted {
        let found = std::env::temp_dir().join("leadpulse-api.md");
        std::fs::write(&found, format!("{wanted}\n")).expect("the page can be written");
        panic!(
            "docs/api.md differs; the page as it should be is {}",
            found.display()
        );
    }
}
