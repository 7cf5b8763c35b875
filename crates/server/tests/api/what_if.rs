//! Questions about rows that never came, and the tables that they are about.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use leadpulse_engine::questions::question_queue;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_schema::Catalog;
use serde_json::json;

use crate::document::check;
use crate::support::{Server, local, state_of};

const PATH: &str = "/api/v1/{table}/{id}/what-if";
const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"size","type":["null","long"],"default":null},
  {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["shop","bank"]}}]}"#;
const VISITS: &str = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;

#[test]
fn tables_are_listed_with_their_fields() {
    let mut state = state_of(&Arc::new(ReadModel::new()));
    let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
    state.catalog = Some(Arc::new(catalog));
    let server = Server::serving(&local(), state);
    let document = server.get("/api/v1/openapi.json").json();
    let answer = server.get("/api/v1/tables").json();
    check(&document, "get", "/api/v1/tables", 200, &answer);
    let field = |name, kind, nullable, values: &[&str], refers_to: Option<&str>| {
        json!({
            "name": name, "type": kind, "nullable": nullable, "values": values,
            "refers_to": refers_to, "is_owner": refers_to.is_some(),
        })
    };
    assert_eq!(
        answer["tables"],
        json!([
            {"name": "accounts", "role": "root", "key": "id", "time": null, "fields": [
                field("id", "text", false, &[], None),
                field("size", "long", true, &[], None),
                field("kind", "text", false, &["shop", "bank"], None),
            ]},
            {"name": "visits", "role": "event", "key": "id", "time": "at", "fields": [
                field("id", "text", false, &[], None),
                field("at", "time", false, &[], None),
                field("account", "text", false, &[], Some("accounts")),
            ]},
        ])
    );
    assert_eq!(Server::start().get("/api/v1/tables").code, 503);
}

#[test]
fn a_question_about_rows_is_refused_in_words() {
    let (desk, queue) = question_queue(4);
    let server = Server::start_asking(desk);
    let document = server.get("/api/v1/openapi.json").json();
    // An engine that has no machine yet.
    thread::spawn(move || {
        loop {
            queue.answer(9, None);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let rows = json!({"rows": [{"table": "visits", "fields": {"account": "A"}}]});
    for (path, body, code, words) in [
        (
            "/api/v1/accounts/A/what-if",
            rows.clone(),
            503,
            "scores are still being loaded",
        ),
        (
            "/api/v1/contacts/A/what-if",
            rows.clone(),
            404,
            "there is no task for \"contacts\"",
        ),
        (
            "/api/v1/accounts/A/what-if?task=nope",
            rows,
            404,
            "named \"nope\"",
        ),
        (
            "/api/v1/accounts/A/what-if",
            json!({"row": []}),
            400,
            "unknown field `row`",
        ),
    ] {
        let reply = server.post(path, &body);
        let problem = reply.json();
        assert_eq!(reply.code, code, "{problem}");
        check(&document, "post", PATH, code, &problem);
        assert!(
            problem["detail"].as_str().unwrap().contains(words),
            "{problem}"
        );
    }
}
