//! The way of one record, the pipeline and the committee.

use std::sync::Arc;
use std::thread;

use leadpulse_engine::questions::question_queue;
use leadpulse_engine::read_model::{EpochTimes, PartitionLag, StageTime, TracedRecord};
use serde_json::{Value, json};

use crate::support::Server;

pub fn traced(offset: i64, key: &str, outcome: &'static str) -> TracedRecord {
    TracedRecord {
        topic: "visits".into(),
        partition: 2,
        offset,
        epoch: 0,
        outcome,
        remark: (outcome != "accepted").then_some("an older version"),
        table: "visits".into(),
        key: key.into(),
        entity: Some(("accounts".into(), "A".into())),
        account_id: Some("A".into()),
    }
}

#[test]
fn a_record_is_found_by_its_place_or_its_id() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &["A"]);
    let first = vec![
        traced(7, "v7", "accepted"),
        traced(8, "v8", "stale_version"),
    ];
    server.read_model.publish_traced(2, first);
    server.publish(2, &[("A", 0.6), ("B", 0.3)], &["A", "B"]);
    server
        .read_model
        .publish_traced(3, vec![traced(9, "v7", "duplicate")]);
    let get = |query: &str| server.get(&format!("/api/v1/trace?{query}"));
    let found = get("topic=visits&partition=2&offset=7").json();
    assert_eq!(
        (&found["outcome"], &found["epoch"]),
        (&json!("accepted"), &json!(2))
    );
    assert_eq!(found["entity_id"], "A");
    assert_eq!(found["scores"][0]["score"], json!(60.0));
    assert_eq!(found["scores"][0]["is_since"], true);
    let alerts: Vec<&Value> = found["alerts"].as_array().unwrap().iter().collect();
    assert_eq!(
        alerts.len(),
        1,
        "of the record's epoch, about its entity: {found}"
    );
    assert_eq!(alerts[0]["alert_id"], "alert-A-2");
    let stale = get("id=v8").json();
    assert_eq!(
        (&stale["outcome"], &stale["remark"]),
        (&json!("stale_version"), &json!("an older version"))
    );
    assert_eq!(get("id=v7").json()["outcome"], "duplicate", "the newest");
    assert_eq!(
        get("id=v7&topic=visits&partition=2&offset=7").json()["outcome"],
        "accepted"
    );
    assert_eq!(get("topic=visits&partition=1&offset=7").code, 404);
    assert_eq!(get("topic=visits").code, 400);
}

#[test]
fn a_dead_letter_is_found_by_its_place() {
    let server = Server::start();
    let letter = crate::dead_letters::json_letter();
    server.read_model.publish_dead_letters(vec![letter]);
    let found = server
        .get("/api/v1/trace?topic=visits&partition=2&offset=2")
        .json();
    assert_eq!(
        (&found["outcome"], &found["reason"], &found["remark"]),
        (
            &json!("dead_letter"),
            &json!("wire_format"),
            &json!("id: too long")
        )
    );
}

pub fn run_pipeline(server: &Server) {
    server.read_model.set_partition_lags(vec![PartitionLag {
        topic: "visits".into(),
        partition: 0,
        next_offset: 5,
        end_offset: 9,
        lag_records: 4,
    }]);
    server.read_model.set_epoch_times(EpochTimes {
        epoch: 3,
        records: 10,
        seconds: 0.25,
        newest_record_age_seconds: Some(1.5),
        stages: vec![StageTime {
            stage: "graph",
            seconds: 0.1,
        }],
        ..EpochTimes::default()
    });
}

#[test]
fn the_pipeline_has_its_lag_in_records_and_in_seconds() {
    let server = Server::start();
    assert_eq!(
        server.get("/api/v1/pipeline").json()["newest_epoch"],
        Value::Null
    );
    run_pipeline(&server);
    let pipeline = server.get("/api/v1/pipeline").json();
    assert_eq!(pipeline["lag_seconds"], 1.5);
    assert_eq!(pipeline["partitions"][0]["lag_records"], 4);
    assert_eq!(pipeline["newest_epoch"]["stages"][0]["stage"], "graph");
    assert_eq!(pipeline["phase"], "starting");
}

#[test]
fn questions_are_refused_while_nobody_can_answer_them() {
    let path = "/api/v1/accounts/A/committee";
    let detail = |server: &Server| {
        let reply = server.get(path);
        assert_eq!(reply.code, 503);
        reply.json()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        detail(&Server::start()),
        "this process answers no questions"
    );
    let (desk, queue) = question_queue(1);
    let server = Arc::new(Server::start_asking(desk.clone()));
    let asked = thread::spawn({
        let server = server.clone();
        move || server.get(path).json()["detail"].clone()
    });
    while queue.answer(1, None) == 0 {
        thread::yield_now();
    }
    assert_eq!(asked.join().unwrap(), "scores are still being loaded");
    desk.ask(Box::new(|_| ())).unwrap();
    assert_eq!(detail(&server), "too many questions are asked at once");
    drop(queue);
    assert_eq!(detail(&server), "the engine stopped before it answered");
}
