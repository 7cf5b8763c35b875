//! Alerts and work lists.

use std::sync::Arc;

use leadpulse_records::WorkList;
use serde_json::json;

use crate::support::Server;

#[test]
fn alerts_are_newest_first() {
    let server = Server::start();
    server.publish(1, &[], &["A", "B"]);
    server.publish(2, &[], &["C"]);
    let alerts = server.get("/api/v1/alerts?limit=2").json();
    let names: Vec<_> = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| alert["alert_id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["alert-C-2", "alert-B-1"]);
    assert_eq!(alerts["alerts"][0]["band"], "hot");
}

#[test]
fn work_lists_are_of_a_task_and_of_a_person() {
    let server = Server::start();
    let list = |owner: Option<&str>| {
        Arc::new(WorkList {
            task: "buys".into(),
            owner_id: owner.map(Into::into),
            as_of: 10,
            horizon_days: Some(90),
            bundle_id: None,
            entries: Vec::new(),
        })
    };
    let read_model = &server.read_model;
    read_model.publish_work_lists(vec![list(None), list(Some("ann"))]);
    for (query, owners) in [
        ("", json!([null, "ann"])),
        ("?task=buys&owner=ann", json!(["ann"])),
        ("?owner=", json!([null])),
        ("?owner=bob", json!([])),
        ("?task=converts", json!([])),
    ] {
        let answer = server.get(&format!("/api/v1/worklist{query}")).json();
        let lists = answer["lists"].as_array().unwrap().iter();
        let found: Vec<_> = lists.map(|list| list["owner_id"].clone()).collect();
        assert_eq!(json!(found), owners, "{query}");
    }
}
