//! Jobs on the files of a past: simulations of alerts, labels of a query, backtests.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use leadpulse_engine::read_model::ReadModel;
use leadpulse_server::{
    BacktestRequest, HistoryDesk, HistoryJobError, HistoryJobs, LabelRequest, QueryDesk,
    ServerOptions, SimulationRequest,
};
use serde_json::{Value, json};

use crate::document::check;
use crate::query::OneQuery;
use crate::support::{Server, local, state_of};

const SIMULATE: &str = "/api/v1/alerts/simulate";
const LABELS: &str = "/api/v1/query/labels";
const BACKTEST: &str = "/api/v1/backtest";

/// Simulates at once, refuses zero days, fails with one, and waits for its partner with two. Labels
/// come at once; a backtest goes on until it is ended, and then meets its partner.
struct FakeJobs(Barrier);

impl HistoryJobs for FakeJobs {
    fn simulate(
        &self,
        request: &SimulationRequest,
        _: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        match request.days {
            Some(0) => Err(HistoryJobError::Refused("days is 0".into())),
            Some(1) => Err(HistoryJobError::Failed("the disk is gone".into())),
            Some(2) => {
                self.0.wait();
                self.0.wait();
                Ok(json!({}))
            }
            _ => Ok(json!({"policies": [{"days": request.days}]})),
        }
    }

    fn labels(
        &self,
        request: &LabelRequest,
        _: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let first = json!({"entity": "A1", "time": 7, "label": 1.0});
        Ok(json!({
            "query": request.query, "entity": "accounts", "horizon_days": 90.0,
            "meaning": ["for every row of accounts"], "remarks": [],
            "labels": {
                "from": 1, "until": 9, "rule": request.anchors.as_deref().unwrap_or("every 30d"),
                "anchors": 2, "asked": 5, "labelled": 4, "positive": 1, "base_rate": 0.25,
                "entities": 2, "positive_entities": 1, "open": 1, "dropped": 0, "rows": 3,
                "unowned_rows": 0, "unowned_example": null,
            },
            "first": vec![first; request.first.unwrap_or(1)],
        }))
    }

    fn backtest(
        &self,
        _: &BacktestRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        self.0.wait();
        while !end.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        self.0.wait();
        Err(HistoryJobError::Ended)
    }
}

/// A process with these jobs and a planner of queries.
fn serving(options: &ServerOptions) -> (Server, Arc<FakeJobs>) {
    let jobs = Arc::new(FakeJobs(Barrier::new(2)));
    let mut state = state_of(&Arc::new(ReadModel::new()));
    state.history = Some(HistoryDesk::new(jobs.clone()));
    state.queries = Some(QueryDesk(Arc::new(OneQuery)));
    (Server::serving(options, state), jobs)
}

#[test]
fn jobs_on_a_history_run_one_at_a_time() {
    let (server, jobs) = serving(&local());
    let found = server.post(SIMULATE, &json!({"days": 60}));
    assert_eq!(
        (found.code, found.json()),
        (200, json!({"policies": [{"days": 60}]}))
    );
    for (body, code, words) in [
        (json!({"days": 0}), 400, "days is 0"),
        (json!({"days": 1}), 500, "the disk is gone"),
        (json!({"horizon": 1}), 400, "unknown field `horizon`"),
    ] {
        let answer = server.post(SIMULATE, &body);
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.code, code, "{body}: {told}");
        assert!(told.contains(words), "{body}: {told}");
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| server.post(SIMULATE, &json!({"days": 2})).code);
        jobs.0.wait();
        // One is under way, whichever job the next one asks for.
        for (path, body) in [
            (SIMULATE, json!({})),
            (LABELS, json!({"query": "right"})),
            (BACKTEST, json!({})),
        ] {
            assert_eq!(server.post(path, &body).code, 503, "{path}");
        }
        jobs.0.wait();
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(server.post(SIMULATE, &json!({})).code, 200);
    assert_eq!(server.get(SIMULATE).code, 405);
    let without = Server::start();
    for (path, body) in [
        (SIMULATE, json!({})),
        (LABELS, json!({"query": "PREDICT"})),
        (BACKTEST, json!({})),
    ] {
        let refused = without.post(path, &body);
        assert_eq!(refused.code, 503);
        assert!(refused.body.contains("--history"), "{}", refused.body);
    }
}

#[test]
fn labels_of_a_query_are_counted_and_a_fault_has_its_place() {
    let (server, _) = serving(&local());
    let document = server.get("/api/v1/openapi.json").json();
    let body = json!({"query": "right", "anchors": "every 7d", "first": 3});
    let found = server.post(LABELS, &body);
    assert_eq!(found.code, 200, "{}", found.body);
    let found = found.json();
    check(&document, "post", LABELS, 200, &found);
    assert_eq!(found["labels"]["rule"], "every 7d");
    assert_eq!(found["first"].as_array().unwrap().len(), 3);
    // A task's name is as good as its query, though it is none.
    let task = server.get("/api/v1/tasks").json()["tasks"][0]["name"].clone();
    assert_eq!(server.post(LABELS, &json!({"query": task})).code, 200);

    let wrong = server.post(LABELS, &json!({"query": "wrong"}));
    assert_eq!(wrong.code, 400);
    let wrong = wrong.json();
    check(&document, "post", LABELS, 400, &wrong);
    assert_eq!(
        wrong["detail"],
        "the query, line 1, column 7: there is no table leeks"
    );
    let fault = &wrong["fault"];
    assert_eq!((&fault["column"], &fault["length"]), (&json!(7), &json!(5)));
    assert_eq!(fault["target"]["name"], "leaky");
    for body in [json!({"query": "right", "first": 201}), json!({"first": 1})] {
        let refused = server.post(LABELS, &body);
        assert_eq!(refused.code, 400, "{body}");
        check(&document, "post", LABELS, 400, &refused.json());
    }
}

#[test]
fn a_job_ends_when_its_client_leaves() {
    let (server, jobs) = serving(&local());
    let mut client = TcpStream::connect(server.handle.address()).unwrap();
    let head = "POST /api/v1/backtest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    client.write_all(head.as_bytes()).unwrap();
    jobs.0.wait();
    assert_eq!(server.post(SIMULATE, &json!({})).code, 503, "it runs");
    drop(client);
    // The job meets us once it was ended.
    jobs.0.wait();
    while server.post(SIMULATE, &json!({})).code == 503 {
        thread::yield_now();
    }
}

#[test]
fn a_job_ends_when_its_time_is_over() {
    let mut options = local();
    options.limits.history_timeout_ms = 1;
    let (server, jobs) = serving(&options);
    let document = server.get("/api/v1/openapi.json").json();
    thread::scope(|scope| {
        let asked = scope.spawn(|| server.post(BACKTEST, &json!({})));
        jobs.0.wait();
        jobs.0.wait();
        let refused = asked.join().unwrap();
        assert_eq!(refused.code, 503);
        let told = refused.json();
        check(&document, "post", BACKTEST, 503, &told);
        let hint = told["hint"].as_str().unwrap();
        assert!(hint.contains("server.limits.history_timeout"), "{hint}");
    });
}
