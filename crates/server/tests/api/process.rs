//! Probes, metrics, start and stop.

use std::io::Read;
use std::net::TcpStream;

use leadpulse_engine::read_model::{EngineStatus, Phase};
use leadpulse_server::{ServerOptions, serve};
use serde_json::json;

use crate::support::{Server, local, state_of};

#[test]
fn readiness_follows_the_engine_and_health_does_not() {
    let server = Server::start();
    let engine = |phase, reason: Option<&str>| {
        let status = EngineStatus {
            phase,
            epoch: 0,
            as_of_ms: None,
            records: 0,
            lag_records: 7,
            reason: reason.map(str::to_owned),
            deployed: Default::default(),
        };
        server.read_model.set_status(status);
        let answer = server.get("/readyz");
        assert_eq!(server.get("/healthz").code, 200);
        (
            answer.code,
            answer.json()["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(
        engine(Phase::Starting, Some("waiting for brokers")),
        (503, "starting: waiting for brokers".into())
    );
    assert_eq!(
        engine(Phase::Replaying { done: 3, total: 9 }, None),
        (
            503,
            "replaying what was committed before: 3 of 9 records".into()
        )
    );
    assert_eq!(engine(Phase::Live, None), (200, String::new()));
    let following = |lag_epochs, is_current| Phase::Following {
        lag_epochs,
        is_current,
    };
    assert_eq!(engine(following(3, true), None), (200, String::new()));
    assert_eq!(server.get("/readyz").json()["status"], "following");
    assert_eq!(server.get("/readyz").json()["lag_epochs"], 3);
    assert_eq!(
        engine(following(9, false), Some("9 committed epochs wait")),
        (
            503,
            "following another process: 9 committed epochs wait".into()
        )
    );
    let status = server.get("/api/v1/status").json();
    assert_eq!(
        (&status["phase"], &status["lag_epochs"], &status["current"]),
        (&json!("following"), &json!(9), &json!(false))
    );
    let schema = "no answer about a writer schema";
    let block = |text: Option<&str>| {
        let read_model = &server.read_model;
        read_model.set_condition("schemas", text.map(str::to_owned), true);
    };
    block(Some(schema));
    assert_eq!(
        engine(following(0, true), None),
        (503, format!("following another process: {schema}"))
    );
    block(None);
    assert_eq!(engine(Phase::Stopped, None), (503, "stopped".into()));
    let status = server.get("/api/v1/status").json();
    assert_eq!(
        (&status["phase"], &status["lag_records"], &status["version"]),
        (&json!("stopped"), &json!(7), &json!("1.2.3"))
    );
    assert_eq!(status["tasks"][1]["bands"][0]["name"], "hot");
    assert_eq!(status["tasks"][1]["quality"], "provisional");
    assert_eq!(status["tasks"][1]["groups"][0]["kind"], "behaviour");
    assert_eq!(
        server.get("/version").json(),
        json!({"name": "leadpulse", "version": "1.2.3"})
    );
}

#[test]
fn metrics_have_routes_and_no_keys() {
    let server = Server::start();
    server.publish(1, &[("A-secret", 0.1)], &[]);
    assert_eq!(server.get("/api/v1/accounts/A-secret").code, 200);
    assert_eq!(server.get("/somewhere/A-secret").code, 404);
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").starts_with("text/plain"));
    assert!(
        answer.body.contains(
            "leadpulse_http_requests_total{code=\"200\",route=\"/api/v1/{table}/{id}\"} 1"
        ),
        "{}",
        answer.body
    );
    assert!(
        answer
            .body
            .contains("leadpulse_http_requests_total{code=\"404\",route=\"unmatched\"} 1"),
        "{}",
        answer.body
    );
    assert!(
        answer
            .body
            .contains("leadpulse_http_request_duration_seconds_bucket")
    );
    assert!(!answer.body.contains("secret"));
}

#[test]
fn it_stops_when_told() {
    let server = Server::start();
    let mut idle = TcpStream::connect(server.handle.address()).unwrap();
    server.handle.stop().expect("it ran until now");
    assert!(
        !matches!(idle.read(&mut [0]), Ok(1..)),
        "the connection is closed or reset"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let server = Server::start();
    let options = ServerOptions {
        listen: server.handle.address(),
        ..local()
    };
    let state = state_of(&server.read_model);
    let error = serve(&options, state)
        .expect_err("the port is taken")
        .to_string();
    assert!(
        error.contains(&options.listen.to_string()) && error.contains("server.listen"),
        "{error}"
    );
}
