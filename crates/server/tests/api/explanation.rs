//! Explanations on request.

use std::thread::{self, JoinHandle};

use leadpulse_engine::explain::{ExplainQueue, ExplainRefusal, ExplainRequest, explain_queue};
use leadpulse_engine::read_model::{EngineStatus, Phase};
use leadpulse_records::{Driver, ON_REQUEST, SCORED, Score, ShownScore};
use serde_json::json;

use crate::support::Server;

/// Answers requests like an engine that knows one account, until the desk is gone.
fn answer_all(queue: ExplainQueue) -> JoinHandle<()> {
    thread::spawn(move || {
        let known = |request: &ExplainRequest| {
            let ExplainRequest {
                task,
                entity_type,
                entity_id,
            } = request.clone();
            match entity_id.as_str() {
                "A/1" => Ok(explanation(&task, &entity_type, &entity_id)),
                "left" => Err(ExplainRefusal::Ineligible {
                    task,
                    entity_id,
                    why: "outside the task's population".into(),
                }),
                _ => Err(ExplainRefusal::NoSuchEntity {
                    entity_type,
                    entity_id,
                }),
            }
        };
        while queue.answer_next(known) {}
    })
}

fn explanation(task: &str, entity_type: &str, entity_id: &str) -> ShownScore {
    let driver = Driver {
        group: "intent".into(),
        label: "Intent".into(),
        contribution: 0.5,
        share: 100,
        value: None,
        evidence: vec!["pricing ×2".into()],
        event_ids: vec!["e1".into()],
    };
    ShownScore {
        record: Score {
            task: task.into(),
            entity_type: entity_type.into(),
            entity_id: entity_id.into(),
            as_of: 7,
            epoch: 3,
            sequence: ON_REQUEST,
            status: SCORED,
            probability: Some(0.5),
            logit: Some(0.0),
            base_logit: Some(-0.5),
            drivers: vec![driver],
            drivers_as_of: Some(7),
            ..Score::default()
        },
        name: None,
        facts: json!({}),
        history: Vec::new(),
    }
}

#[test]
fn an_explanation_is_asked_of_the_engine() {
    let (desk, queue) = explain_queue(4);
    let server = Server::start_with(Some(desk));
    let engine = answer_all(queue);
    let loading = server.get("/api/v1/accounts/A%2F1/explanation");
    assert_eq!(
        (loading.code, loading.json()["detail"].as_str()),
        (503, Some("scores are still being loaded"))
    );
    server.publish(1, &[], &[]);
    let answer = server.get("/api/v1/accounts/A%2F1/explanation?task=buys");
    assert_eq!(answer.code, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(
        (&answer["task"], &answer["entity_id"]),
        (&json!("buys"), &json!("A/1"))
    );
    assert_eq!(
        (&answer["base_logit"], &answer["drivers"][0]["evidence"]),
        (&json!(-0.5), &json!(["pricing ×2"]))
    );
    assert_eq!(
        (&answer["drivers"][0]["contribution"], &answer["as_of"]),
        (&json!(0.5), &json!(7))
    );
    for (path, code, error) in [
        (
            "/api/v1/leads/L/explanation",
            404,
            "nothing is known about \"L\" in leads",
        ),
        (
            "/api/v1/leads/left/explanation",
            409,
            "\"left\" has no score under converts: it is outside the task's population",
        ),
        (
            "/api/v1/contacts/C/explanation",
            404,
            "there is no task for \"contacts\"",
        ),
        (
            "/api/v1/leads/L/explanation?task=buys",
            404,
            "there is no task named \"buys\" for \"leads\"",
        ),
        (
            "/api/v1/leads/L/explanation?why=x",
            400,
            "no parameter \"why\"",
        ),
    ] {
        let answer = server.get(path);
        let body = answer.json();
        assert_eq!(answer.code, code, "{path}: {body}");
        assert!(
            body["detail"].as_str().unwrap().contains(error),
            "{path}: {body}"
        );
        assert!(body["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    }
    let status = EngineStatus {
        phase: Phase::Stopped,
        ..(*server.read_model.status()).clone()
    };
    server.read_model.set_status(status);
    assert_eq!(server.get("/api/v1/accounts/A%2F1/explanation").code, 503);
    server.handle.stop().unwrap();
    engine.join().unwrap();
}

#[test]
fn an_engine_that_is_busy_or_gone_explains_nothing() {
    let (desk, queue) = explain_queue(1);
    let server = Server::start_with(Some(desk.clone()));
    server.publish(1, &[], &[]);
    let request = ExplainRequest {
        task: "buys".into(),
        entity_type: "accounts".into(),
        entity_id: "A".into(),
    };
    desk.ask(request, Box::new(|_| ())).unwrap();
    let full = server.get("/api/v1/accounts/A/explanation");
    assert_eq!(
        (full.code, full.json()["detail"].as_str()),
        (503, Some("too many explanations are asked for at once"))
    );
    drop(queue);
    let gone = server.get("/api/v1/accounts/A/explanation");
    assert_eq!(
        (gone.code, gone.json()["detail"].as_str()),
        (503, Some("the engine stopped before it answered"))
    );
    let without = Server::start();
    without.publish(1, &[], &[]);
    assert_eq!(without.get("/api/v1/accounts/A/explanation").code, 503);
}

#[test]
fn a_late_explanation_is_that_of_the_last_record() {
    let (desk, queue) = explain_queue(1);
    let server = Server::start_with(Some(desk.clone()));
    let status = EngineStatus {
        phase: Phase::Live,
        ..(*server.read_model.status()).clone()
    };
    let mut kept = explanation("buys", "accounts", "A");
    kept.record.sequence = 0;
    server.read_model.publish(vec![kept], Vec::new(), status);
    // Nobody answers; then the queue is full, too.
    for _ in 0..2 {
        let answer = server.get("/api/v1/accounts/A/explanation");
        assert_eq!(answer.code, 200, "{}", answer.body);
        assert_eq!(
            (&answer.json()["drivers_as_of"], &answer.json()["sequence"]),
            (&json!(7), &json!(0))
        );
    }
    drop(queue);
}
