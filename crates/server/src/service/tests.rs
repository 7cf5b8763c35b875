//! Requests over real connections, as a client sends them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;

use leadpulse_engine::explain::{
    ExplainDesk, ExplainQueue, ExplainRefusal, ExplainRequest, explain_queue,
};
use leadpulse_engine::ports::{SchemaLookupError, SchemaStore};
use leadpulse_engine::read_model::{
    EngineStatus, Phase, ReadModel, RulingsView, SaidView, ShownRuling, ShownVerdict, VerdictsView,
};
use leadpulse_records::{
    ALERT_SCHEMA, Alert, Driver, KeptLetter, ON_REQUEST, Reason, Rejected, SCORE_SCHEMA, SCORED,
    Score, ShownAlert, ShownScore, Symbol, TypeName, WorkList,
};
use leadpulse_schema::SchemaRef;
use leadpulse_schema::units::AsOf;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::simulate::{AlertSimulator, SimulationError, SimulationRequest, SimulatorDesk};
use crate::state::{BandView, GroupView, TaskView, WriterSchemas};

struct Server {
    handle: Handle,
    read_model: Arc<ReadModel>,
}

struct Reply {
    code: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map_or("", |(_, value)| value)
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

impl Server {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(explanations: Option<ExplainDesk>) -> Self {
        Self::start_for(explanations, None)
    }

    fn start_for(explanations: Option<ExplainDesk>, simulator: Option<SimulatorDesk>) -> Self {
        let read_model = Arc::new(ReadModel::new());
        let task = |name: &str, entity: &str| TaskView {
            name: name.into(),
            entity: entity.into(),
            query: format!("PREDICT … FOR {entity}"),
            horizon_ms: 90,
            bands: vec![BandView {
                name: "hot".into(),
                enter: 0.5,
                exit: 0.4,
            }],
            quality: Some("provisional".into()),
            groups: vec![GroupView {
                code: "committee".into(),
                label: "Committee".into(),
                kind: "behaviour",
            }],
        };
        let state = ServerState {
            read_model: read_model.clone(),
            registry: prometheus::Registry::new(),
            tasks: vec![task("buys", "accounts"), task("converts", "leads")].into(),
            tables: vec!["accounts".into(), "contacts".into(), "leads".into()],
            catalog: None,
            explanations,
            simulator,
            schemas: Some(WriterSchemas(Arc::new(OneSchema))),
            version: "1.2.3".into(),
        };
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..ServerOptions::default()
        };
        Self {
            handle: serve(&options, state).expect("a free port is found"),
            read_model,
        }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send_with(method, path, headers, "")
    }

    fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = TcpStream::connect(self.handle.address()).unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let code = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Reply {
            code,
            headers,
            body: body.to_owned(),
        }
    }

    fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[])
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let length = body.len().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        self.send_with("POST", path, &headers, &body)
    }

    fn publish(&self, epoch: u64, scores: &[(&str, f64)], alerts: &[&str]) {
        let score = |(id, probability): &(&str, f64)| ShownScore {
            record: Score {
                task: "buys".into(),
                entity_type: "accounts".into(),
                entity_id: (*id).into(),
                status: SCORED,
                probability: Some(*probability),
                score: Some(probability * 100.0),
                as_of: 1,
                epoch: epoch as i64,
                ..Score::default()
            },
            name: Some(format!("Company {id}")),
            facts: json!({"contacts": 2}),
            history: Vec::new(),
        };
        let alert = |id: &&str| ShownAlert {
            record: Alert {
                alert_id: format!("alert-{id}-{epoch}"),
                task: "buys".into(),
                entity_type: "accounts".into(),
                entity_id: (*id).into(),
                r#type: TypeName("threshold_up"),
                state: Symbol("open"),
                band: Some("hot".into()),
                as_of: 1,
                epoch: epoch as i64,
                ..Alert::default()
            },
            name: None,
        };
        let status = EngineStatus {
            phase: Phase::Live,
            epoch,
            as_of_ms: Some(1),
            records: 0,
            lag_records: 0,
            reason: None,
            deployed: Default::default(),
        };
        self.read_model.publish(
            scores.iter().map(score).collect(),
            alerts.iter().map(alert).collect(),
            status,
        );
    }
}

fn ids(page: &Value) -> Vec<(u64, &str)> {
    let scores = page["scores"].as_array().unwrap();
    scores
        .iter()
        .map(|score| {
            (
                score["place"].as_u64().unwrap(),
                score["entity_id"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn scores_are_ranked_and_paged() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B/1 ü", 0.9), ("C", 0.5)], &[]);
    let first = server
        .get("/api/v1/scores?task=buys&entity=accounts&limit=2")
        .json();
    assert_eq!(
        (ids(&first), &first["total"]),
        (vec![(1, "B/1 ü"), (2, "C")], &json!(3))
    );
    assert_eq!(
        (
            &first["scores"][0]["facts"]["contacts"],
            &first["scores"][0]["status"]
        ),
        (&json!(2), &json!("scored"))
    );
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server
        .get(&format!("/api/v1/scores?limit=2&cursor={cursor}"))
        .json();
    assert_eq!(
        (ids(&second), &second["next_cursor"]),
        (vec![(3, "A")], &Value::Null)
    );
    let leads = server.get("/api/v1/scores?entity=leads").json();
    assert_eq!(
        (&leads["task"], &leads["total"]),
        (&json!("converts"), &json!(0))
    );
}

#[test]
fn a_client_that_has_the_newest_version_is_told_so() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &["A"]);
    for path in ["/api/v1/scores", "/api/v1/alerts", "/", "/console.js"] {
        let tag = server.get(path).header("etag").to_owned();
        let again = server.send("GET", path, &[("if-none-match", &tag)]);
        assert_eq!(
            (again.code, again.body.as_str(), again.header("etag")),
            (304, "", tag.as_str()),
            "{path}"
        );
        server.publish(2, &[("A", 0.2)], &["A"]);
        let changes = path.starts_with("/api");
        assert_eq!(
            server.send("GET", path, &[("if-none-match", &tag)]).code,
            if changes { 200 } else { 304 },
            "{path}"
        );
    }
}

/// Decisions about accounts, and answers to alerts.
fn said(rulings: &[(&str, &'static str)], verdicts: &[(&str, &'static str)]) -> SaidView {
    let ruling = |(key, kind): &(&str, &'static str)| {
        let shown = ShownRuling {
            kind,
            who: "ann".into(),
            why: Some("in talks".into()),
            until_ms: Some(9),
        };
        (("accounts".into(), (*key).into()), shown)
    };
    let verdict = |(alert_id, verdict): &(&str, &'static str)| {
        let shown = ShownVerdict {
            verdict,
            disposition: None,
            who: "bob".into(),
            note: None,
            at_ms: 5,
        };
        ((*alert_id).into(), shown)
    };
    SaidView {
        rulings: Some(RulingsView::new(
            "accounts",
            rulings.iter().map(ruling).collect(),
        )),
        verdicts: Some(VerdictsView {
            by_alert: verdicts.iter().map(verdict).collect(),
            counts: Vec::new(),
        }),
    }
}

#[test]
fn decisions_and_answers_of_people_stand_beside_scores_and_alerts() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B", 0.9), ("C", 0.5)], &["A", "B"]);
    let paths = ["/api/v1/scores", "/api/v1/alerts"];
    let tags = paths.map(|path| server.get(path).header("etag").to_owned());
    let view = said(
        &[("A", "mute"), ("C", "exclude")],
        &[("alert-A-1", "accepted"), ("alert-B-1", "rejected")],
    );
    server.read_model.publish_said(view);
    for (path, tag) in paths.into_iter().zip(&tags) {
        let again = server.send("GET", path, &[("if-none-match", tag)]);
        assert_eq!(again.code, 200, "{path}");
    }
    let page = server.get("/api/v1/scores").json();
    assert_eq!(ids(&page), [(1, "B"), (2, "A")], "C is on no list");
    assert_eq!(page["total"], json!(2));
    let muted = json!({"kind": "mute", "who": "ann", "why": "in talks", "until": 9});
    assert_eq!(page["scores"][0]["ruling"], Value::Null);
    assert_eq!(page["scores"][1]["ruling"], muted);
    let alerts = server.get("/api/v1/alerts").json();
    let told = |id: &str| {
        let alerts = alerts["alerts"].as_array().unwrap();
        let found = alerts.iter().find(|alert| alert["entity_id"] == id);
        found.unwrap().clone()
    };
    assert_eq!(told("A")["ruling"], muted);
    assert_eq!(told("B")["feedback"]["verdict"], "rejected");
    let entity = server.get("/api/v1/accounts/A").json();
    assert_eq!(entity["ruling"], muted);
    assert_eq!(entity["alerts"][0]["feedback"]["who"], "bob");
    let feedback = server.get("/api/v1/feedback").json();
    let counts = &feedback["newest"][0];
    assert_eq!(
        (&counts["type"], &counts["told"], &counts["share"]),
        (&json!("threshold_up"), &json!(2), &json!(0.5))
    );
}

#[test]
fn an_entity_has_its_scores_and_alerts() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B/1 ü", 0.9)], &["A", "B/1 ü"]);
    let answer = server.get("/api/v1/accounts/B%2F1%20%C3%BC").json();
    assert_eq!(
        (&answer["id"], &answer["scores"][0]["name"]),
        (&json!("B/1 ü"), &json!("Company B/1 ü"))
    );
    assert_eq!(
        (
            answer["alerts"].as_array().unwrap().len(),
            &answer["alerts"][0]["alert_id"]
        ),
        (1, &json!("alert-B/1 ü-1"))
    );
}

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
        (loading.code, loading.json()["error"].as_str()),
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
        ("/api/v1/leads/L/explanation?why=x", 400, "unknown field"),
    ] {
        let answer = server.get(path);
        let body = answer.json();
        assert_eq!(answer.code, code, "{path}: {body}");
        assert!(
            body["error"].as_str().unwrap().contains(error),
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
        (full.code, full.json()["error"].as_str()),
        (503, Some("too many explanations are asked for at once"))
    );
    drop(queue);
    let gone = server.get("/api/v1/accounts/A/explanation");
    assert_eq!(
        (gone.code, gone.json()["error"].as_str()),
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

/// Answers at once, refuses zero days, fails with one, and waits for its partner with two.
struct FakeSimulator(Barrier);

impl AlertSimulator for FakeSimulator {
    fn simulate(&self, request: &SimulationRequest) -> Result<Value, SimulationError> {
        match request.days {
            Some(0) => Err(SimulationError::Refused("days is 0".into())),
            Some(1) => Err(SimulationError::Failed("the disk is gone".into())),
            Some(2) => {
                self.0.wait();
                self.0.wait();
                Ok(json!({}))
            }
            _ => Ok(json!({"policies": [{"days": request.days}]})),
        }
    }
}

#[test]
fn simulations_run_one_at_a_time() {
    let simulator = Arc::new(FakeSimulator(Barrier::new(2)));
    let server = Server::start_for(None, Some(SimulatorDesk::new(simulator.clone())));
    let path = "/api/v1/alerts/simulate";
    let found = server.post(path, &json!({"days": 60}));
    assert_eq!(
        (found.code, found.json()),
        (200, json!({"policies": [{"days": 60}]}))
    );
    for (body, code, words) in [
        (json!({"days": 0}), 400, "days is 0"),
        (json!({"days": 1}), 500, "the disk is gone"),
        (json!({"horizon": 1}), 400, "unknown field `horizon`"),
    ] {
        let answer = server.post(path, &body);
        let told = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answer.code, code, "{body}: {told}");
        assert!(told.contains(words), "{body}: {told}");
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| server.post(path, &json!({"days": 2})).code);
        simulator.0.wait();
        assert_eq!(server.post(path, &json!({})).code, 503, "one is under way");
        simulator.0.wait();
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(server.post(path, &json!({})).code, 200);
    assert_eq!(server.get(path).code, 405);
    assert_eq!(Server::start().post(path, &json!({})).code, 503);
}

/// Names of the fields of an Avro record schema.
fn fields_of(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    fields
        .iter()
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn answers_have_the_field_names_of_the_topics() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &["A"]);
    let scores = server.get("/api/v1/scores").json();
    let alerts = server.get("/api/v1/alerts").json();
    let entity = server.get("/api/v1/accounts/A").json();
    let score = &["name", "facts"][..];
    let alert = &["name", "ruling", "feedback"][..];
    for (found, schema, added) in [
        (
            &scores["scores"][0],
            SCORE_SCHEMA,
            &["place", "name", "facts", "ruling"][..],
        ),
        (&entity["scores"][0], SCORE_SCHEMA, score),
        (&alerts["alerts"][0], ALERT_SCHEMA, alert),
        (&entity["alerts"][0], ALERT_SCHEMA, alert),
    ] {
        let mut expected = fields_of(schema);
        expected.extend(added.iter().map(|name| (*name).to_owned()));
        let mut names: Vec<String> = found.as_object().unwrap().keys().cloned().collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }
}

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

#[rstest]
#[case("/api/v1/worklist?task=nope", 404, "no task named \"nope\"", "buys")]
#[case("/api/v1/worklist?person=ann", 400, "person", "owner (a person's key")]
#[case(
    "/api/v1/scores?task=nope",
    404,
    "no task named \"nope\"",
    "buys (for accounts), converts (for leads)"
)]
#[case(
    "/api/v1/scores?task=buys&entity=leads",
    404,
    "no task named \"buys\" for \"leads\"",
    "buys"
)]
#[case("/api/v1/scores?limit=0", 400, "limit is 0", "from 1 to 1000")]
#[case("/api/v1/scores?limit=many", 400, "limit", "limit (a number)")]
#[case("/api/v1/scores?top=5", 400, "top", "parameters are")]
#[case("/api/v1/scores?sort=name", 400, "name", "velocity")]
#[case("/api/v1/scores?cursor=x", 400, "not a cursor", "first page")]
#[case("/api/v1/alerts?limit=1001", 400, "limit is 1001", "from 1 to 1000")]
#[case(
    "/api/v1/companies/A",
    404,
    "no entity table \"companies\"",
    "accounts, contacts, leads"
)]
#[case("/api/v1/accounts/A", 404, "no score of \"A\" in accounts", "/readyz")]
#[case("/nowhere", 404, "nothing at this path", "/api/v1/scores")]
fn errors_say_what_to_do(
    #[case] path: &str,
    #[case] code: u16,
    #[case] error: &str,
    #[case] hint: &str,
) {
    let answer = Server::start().get(path);
    let body = answer.json();
    assert_eq!(answer.code, code, "{body}");
    assert!(body["error"].as_str().unwrap().contains(error), "{body}");
    assert!(body["hint"].as_str().unwrap().contains(hint), "{body}");
}

#[test]
fn nothing_can_be_written() {
    let answer = Server::start().send("POST", "/api/v1/scores", &[("content-length", "0")]);
    assert_eq!(
        (answer.code, answer.json()["error"].as_str()),
        (405, Some("this path does not answer that method"))
    );
}

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
fn health_fails_when_the_loop_stands_still() {
    let read_model = Arc::new(ReadModel::new());
    let state = ServerState {
        read_model: read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![].into(),
        tables: vec![],
        catalog: None,
        explanations: None,
        simulator: None,
        schemas: None,
        version: String::new(),
    };
    let long_ago = Instant::now()
        .checked_sub(Duration::from_secs(5))
        .expect("the machine has been up for five seconds");
    let app = Arc::new(ServerShared {
        state,
        heartbeat: Heartbeat::new(0, long_ago),
        heartbeat_timeout_ms: 4_000,
        process: 0,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let probe = || {
        runtime
            .block_on(api::healthz(axum::extract::State(app.clone())))
            .status()
            .as_u16()
    };
    assert_eq!(probe(), 503);
    read_model.beat();
    assert_eq!(probe(), 200);
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
fn the_console_needs_nothing_from_elsewhere() {
    let server = Server::start();
    for (path, content_type) in [
        ("/", "text/html"),
        ("/console.css", "text/css"),
        ("/console.js", "text/javascript"),
        ("/dead-letters", "text/html"),
        ("/dead-letters.js", "text/javascript"),
        ("/lib/ask.js", "text/javascript"),
        ("/lib/dom.js", "text/javascript"),
        ("/lib/words.js", "text/javascript"),
        ("/icon.svg", "image/svg"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.code, 200);
        assert!(answer.header("content-type").starts_with(content_type));
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let elsewhere = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("://"), "{path} names another origin");
        assert!(
            !elsewhere.contains("style=") && !elsewhere.contains("innerHTML"),
            "{path} has what the policy or good sense forbids"
        );
    }
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
        ..ServerOptions::default()
    };
    let state = ServerState {
        read_model: server.read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![].into(),
        tables: vec![],
        catalog: None,
        explanations: None,
        simulator: None,
        schemas: None,
        version: String::new(),
    };
    let error = serve(&options, state)
        .expect_err("the port is taken")
        .to_string();
    assert!(
        error.contains(&options.listen.to_string()) && error.contains("server.listen"),
        "{error}"
    );
}

/// Knows the schema 7, and asks a registry for 8 without an answer so far.
struct OneSchema;

impl SchemaStore for OneSchema {
    fn lookup(
        &self,
        schema: &SchemaRef,
    ) -> Result<leadpulse_schema::WriterSchema, SchemaLookupError> {
        match schema {
            SchemaRef::Id(7) => Ok(leadpulse_schema::WriterSchema::avro(
                r#"{"type":"record","name":"A","fields":[{"name":"id","type":"string"}]}"#,
            )),
            SchemaRef::Id(8) => Err(SchemaLookupError::Unavailable("asked for".into())),
            other => Err(SchemaLookupError::Unknown(format!("{other:?}"))),
        }
    }
    fn id_of(&self, _: &str, _: &str) -> Result<u32, SchemaLookupError> {
        Ok(7)
    }
}

fn letter(topic: &str, reason: Reason, offset: i64, value: &[u8]) -> KeptLetter {
    let rejected = Rejected {
        topic,
        partition: 2,
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"A1"),
        value: Some(value),
        headers: vec![("trace", Some(b"t".as_slice()))],
    };
    KeptLetter::of(&rejected.dead_letter(reason, "id: too long", AsOf::from_ms(5)))
        .expect("it has our headers")
}

#[test]
fn dead_letters_are_listed_with_reason_remedy_and_content() {
    let server = Server::start();
    let empty = server.get("/api/v1/dead-letters");
    assert_eq!(
        (empty.code, &empty.json()["dead_letters"]),
        (200, &json!([]))
    );
    server.read_model.publish_dead_letters(vec![
        letter(
            "accounts",
            Reason::AvroDecode,
            1,
            &[0, 0, 0, 0, 7, 4, b'a', b'b', 1],
        ),
        letter("visits", Reason::WireFormat, 2, br#"{"id": "v"}"#),
        letter("visits", Reason::Validation, 3, b"\xff"),
    ]);
    let reply = server.get("/api/v1/dead-letters?limit=2");
    let shown = reply.json();
    let offsets: Vec<&Value> = shown["dead_letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| &letter["offset"])
        .collect();
    assert_eq!(offsets, [3, 2], "the newest first");
    let kinds = |topic: &str, reason: &str| json!({"topic": topic, "reason": reason, "kept": 1});
    assert_eq!(
        shown["kinds"],
        json!([
            kinds("accounts", "avro_decode"),
            kinds("visits", "validation"),
            kinds("visits", "wire_format")
        ])
    );
    assert_eq!(
        shown["dead_letters"][1]["value"],
        json!({"bytes": 11, "format": "json", "content": {"id": "v"}, "text": null,
            "remark": null})
    );

    let one = server
        .get("/api/v1/dead-letters?topic=accounts&reason=")
        .json();
    let letter = &one["dead_letters"][0];
    assert_eq!(one["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &letter["partition"],
            &letter["timestamp"],
            &letter["message"]
        ),
        (
            &json!(2),
            &json!(1_700_000_000_000_i64),
            &json!("id: too long")
        )
    );
    assert_eq!(letter["value"]["content"], json!({"id": "ab"}));
    assert_eq!(letter["value"]["remark"], "schema 7; 1 bytes are left over");
    assert_eq!(letter["headers"], json!([{"name": "trace", "value": "t"}]));
    assert!(letter["reason_text"].as_str().unwrap().contains("schema"));
    assert!(!letter["remedy"].as_str().unwrap().is_empty());

    let tag = reply.header("etag").to_owned();
    let again = server.send(
        "GET",
        "/api/v1/dead-letters?limit=2",
        &[("if-none-match", &tag)],
    );
    assert_eq!(again.code, 304);
    let wrong = server.get("/api/v1/dead-letters?limt=2");
    assert_eq!(wrong.code, 400);
    assert!(wrong.json()["hint"].as_str().unwrap().contains("reason"));
}

#[test]
fn a_letter_whose_schema_is_still_asked_for_is_not_cached() {
    let server = Server::start();
    server.read_model.publish_dead_letters(vec![letter(
        "accounts",
        Reason::AvroDecode,
        1,
        &[0, 0, 0, 0, 8, 4, b'a', b'b'],
    )]);
    let reply = server.get("/api/v1/dead-letters");
    assert_eq!((reply.code, reply.header("etag")), (200, ""));
    let value = &reply.json()["dead_letters"][0]["value"];
    assert_eq!(value["format"], "hex");
    assert!(value["remark"].as_str().unwrap().starts_with("schema 8: "));
}
