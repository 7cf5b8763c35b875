//! Operations: what is asked of the deployment, by whom, and who may not.

use std::sync::{Arc, Barrier, Mutex};

use leadpulse_engine::read_model::ReadModel;
use leadpulse_server::{
    AlertAnswer, BearerToken, ChangedChampion, KnownModel, OperationError, Operations,
    OperationsDesk, PromotionRequest, ReplayCounts, ReplayRequest, RollbackRequest, Scope, SentRow,
    TokenAccess,
};
use serde_json::{Value, json};

use crate::document::check;
use crate::support::{Server, local, state_of};

const OPERATOR: &str = "0123456789abcdef-operator";
const READER: &str = "0123456789abcdef-reader";

/// Notes what is asked, and does it unless the bundle or alert is "none".
#[derive(Default)]
struct Noted {
    asked: Mutex<Vec<String>>,
    /// Both ends of a replay wait here, if there is one.
    replaying: Option<Barrier>,
}

impl Noted {
    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

impl Operations for Noted {
    fn answer_alert(&self, answer: &AlertAnswer, by: &str) -> Result<SentRow, OperationError> {
        self.note(format!("{by} {} {}", answer.verdict, answer.alert_id));
        match answer.alert_id.as_str() {
            "none" => Err(OperationError::Failed("the brokers do not answer".into())),
            key => Ok(SentRow {
                topic: "scoring.feedback.v1".into(),
                key: key.into(),
            }),
        }
    }
    fn models(&self) -> Result<Vec<KnownModel>, OperationError> {
        Ok(vec![KnownModel {
            bundle: "b1".into(),
            aliases: vec!["champion".into()],
            grade: Some("sound".into()),
            tasks: vec!["buys".into()],
        }])
    }
    fn promote(
        &self,
        request: &PromotionRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError> {
        self.note(format!("{by} promotes {} {}", request.bundle, request.live));
        match request.bundle.as_str() {
            "none" => Err(OperationError::Refused("there is no model \"none\"".into())),
            bundle => Ok(ChangedChampion {
                bundle: bundle.into(),
                before: Some("b1".into()),
                release: request.live.then(|| "digest".to_owned()),
            }),
        }
    }
    fn roll_back(
        &self,
        request: &RollbackRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError> {
        self.note(format!("{by} rolls back {}", request.live));
        Ok(ChangedChampion {
            bundle: "b1".into(),
            before: None,
            release: None,
        })
    }
    fn replay(&self, request: &ReplayRequest, by: &str) -> Result<ReplayCounts, OperationError> {
        self.note(format!(
            "{by} replays {:?} {}",
            request.reasons, request.dry_run
        ));
        if let Some(replaying) = &self.replaying {
            replaying.wait();
            replaying.wait();
        }
        Ok(ReplayCounts {
            letters: 2,
            sent: 2,
            ..ReplayCounts::default()
        })
    }
}

fn operated(noted: &Arc<Noted>, has_tokens: bool) -> Server {
    let mut options = local();
    for (name, token, scope) in [
        ("ann", OPERATOR, Scope::Operate),
        ("bob", READER, Scope::Read),
    ] {
        let token = BearerToken::new(token);
        let access = TokenAccess { token, scope };
        if has_tokens {
            options.access.tokens.insert(name.into(), access);
        }
    }
    let mut state = state_of(&Arc::new(ReadModel::new()));
    state.operations = Some(OperationsDesk::new(noted.clone()));
    Server::serving(&options, state)
}

fn post(
    server: &Server,
    path: &str,
    token: &str,
    kind: &str,
    body: &Value,
) -> crate::support::Reply {
    let body = body.to_string();
    let length = body.len().to_string();
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", kind),
        ("content-length", length.as_str()),
        ("authorization", bearer.as_str()),
    ];
    let known = if token.is_empty() {
        &headers[..2]
    } else {
        &headers[..]
    };
    server.send_with("POST", path, known, &body)
}

const OPERATIONS: [&str; 4] = [
    "/api/v1/feedback/answer",
    "/api/v1/models/promote",
    "/api/v1/models/rollback",
    "/api/v1/dead-letters/replay",
];

fn body_of(path: &str) -> Value {
    match path {
        "/api/v1/feedback/answer" => json!({"alert_id": "alert-1", "verdict": "accepted"}),
        "/api/v1/models/promote" => json!({"bundle": "b2", "live": true}),
        "/api/v1/models/rollback" => json!({"live": true}),
        _ => json!({"reasons": ["unknown_schema"], "dry_run": true}),
    }
}

#[test]
fn operations_are_done_in_the_name_of_the_client() {
    let noted = Arc::new(Noted::default());
    let server = operated(&noted, true);
    let bearer = format!("Bearer {OPERATOR}");
    let known = [("authorization", bearer.as_str())];
    let document = server.send("GET", "/api/v1/openapi.json", &known).json();
    for path in OPERATIONS {
        let reply = post(&server, path, OPERATOR, "application/json", &body_of(path));
        assert_eq!(reply.code, 200, "{path}: {}", reply.body);
        check(&document, "post", path, 200, &reply.json());
    }
    let models = server.send("GET", "/api/v1/models", &known).json();
    check(&document, "get", "/api/v1/models", 200, &models);
    assert_eq!(
        *noted.asked.lock().unwrap(),
        [
            "ann accepted alert-1",
            "ann promotes b2 true",
            "ann rolls back true",
            "ann replays [\"unknown_schema\"] true",
        ]
    );
    for (path, body, code, words) in [
        (
            OPERATIONS[0],
            json!({"alert_id": "none", "verdict": "accepted"}),
            503,
            "do not answer",
        ),
        (
            OPERATIONS[1],
            json!({"bundle": "none"}),
            400,
            "there is no model",
        ),
        (
            OPERATIONS[1],
            json!({"bundles": "b2"}),
            400,
            "unknown field",
        ),
    ] {
        let reply = post(&server, path, OPERATOR, "application/json", &body);
        let problem = reply.json();
        assert_eq!(reply.code, code, "{problem}");
        check(&document, "post", path, code, &problem);
        assert!(
            problem["detail"].as_str().unwrap().contains(words),
            "{problem}"
        );
    }
}

#[test]
fn nobody_operates_without_the_scope_or_from_a_form_of_another_page() {
    let noted = Arc::new(Noted::default());
    let server = operated(&noted, true);
    for path in OPERATIONS {
        let body = body_of(path);
        let json = "application/json";
        assert_eq!(post(&server, path, READER, json, &body).code, 403, "{path}");
        assert_eq!(post(&server, path, "", json, &body).code, 401, "{path}");
    }
    // On a loopback address without tokens anybody operates who is no page of another origin: a browser
    // sends forms as text or form data, and asks before it sends JSON.
    let open = operated(&noted, false);
    for path in OPERATIONS {
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let reply = post(&open, path, "", kind, &body_of(path));
            assert_eq!(reply.code, 400, "{path} {kind}: {}", reply.body);
        }
        let asked = open.send("OPTIONS", path, &[("origin", "https://evil.example")]);
        assert_eq!(asked.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(asked.code, 405, "{path}");
    }
    assert_eq!(*noted.asked.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn one_operation_runs_at_a_time() {
    let noted = Arc::new(Noted {
        replaying: Some(Barrier::new(2)),
        ..Noted::default()
    });
    let server = operated(&noted, false);
    let path = OPERATIONS[3];
    let replaying = noted.replaying.as_ref().unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| post(&server, path, "", "application/json", &body_of(path)));
        replaying.wait();
        let second = post(&server, path, "", "application/json", &body_of(path));
        assert_eq!((second.code, second.header("retry-after")), (503, "1"));
        replaying.wait();
        assert_eq!(first.join().unwrap().code, 200);
    });
    let after = post(&server, OPERATIONS[2], "", "application/json", &json!({}));
    assert_eq!(after.code, 200, "the turn was given back: {}", after.body);
}

#[test]
fn a_process_without_operations_says_so() {
    let server = Server::start();
    for path in OPERATIONS {
        let reply = post(&server, path, "", "application/json", &body_of(path));
        assert_eq!(reply.code, 503, "{path}");
        assert!(reply.json()["hint"].as_str().unwrap().contains("commands"));
    }
}
