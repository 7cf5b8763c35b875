//! A server with a read model of its own, and requests over real connections, as a client sends
//! them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use leadpulse_engine::explain::ExplainDesk;
use leadpulse_engine::ports::{SchemaLookupError, SchemaStore};
use leadpulse_engine::questions::QuestionDesk;
use leadpulse_engine::read_model::{EngineStatus, Phase, ReadModel};
use leadpulse_records::{Alert, SCORED, Score, ShownAlert, ShownScore, Symbol, TypeName};
use leadpulse_schema::{SchemaRef, WriterSchema};
use leadpulse_server::{
    ActionView, BandView, GroupView, Handle, HistoryDesk, ServerOptions, ServerState, TaskView,
    WriterSchemas, serve,
};
use serde_json::{Value, json};

pub struct Server {
    pub handle: Handle,
    pub read_model: Arc<ReadModel>,
}

pub struct Reply {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map_or("", |(_, value)| value)
    }
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    pub fn start_with(explanations: Option<ExplainDesk>) -> Self {
        Self::start_for(explanations, None)
    }

    pub fn start_for(explanations: Option<ExplainDesk>, history: Option<HistoryDesk>) -> Self {
        let read_model = Arc::new(ReadModel::new());
        let state = ServerState {
            explanations,
            history,
            ..state_of(&read_model)
        };
        Self::serving(&local(), state)
    }

    /// A server whose engine answers questions.
    pub fn start_asking(questions: QuestionDesk) -> Self {
        let state = ServerState {
            questions: Some(questions),
            ..state_of(&Arc::new(ReadModel::new()))
        };
        Self::serving(&local(), state)
    }

    /// A server with other options than the defaults.
    pub fn with_options(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = local();
        change(&mut options);
        Self::serving(&options, state_of(&Arc::new(ReadModel::new())))
    }

    pub fn serving(options: &ServerOptions, state: ServerState) -> Self {
        Self {
            read_model: state.read_model.clone(),
            handle: serve(options, state).expect("a free port is found"),
        }
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send_with(method, path, headers, "")
    }

    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut stream = TcpStream::connect(self.handle.address()).unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let host = match headers.contains("host: ") {
            true => "",
            false => "host: localhost\r\n",
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Self::reply(&bytes)
    }

    /// The reply in the bytes of an answer.
    pub fn reply(bytes: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(bytes);
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

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let length = body.len().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        self.send_with("POST", path, &headers, &body)
    }

    pub fn publish(&self, epoch: u64, scores: &[(&str, f64)], alerts: &[&str]) {
        let score = |(id, probability): &(&str, f64)| {
            let mut score = score("buys", "accounts", id, *probability);
            score.record.epoch = epoch as i64;
            score
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
        self.read_model.publish(
            scores.iter().map(score).collect(),
            alerts.iter().map(alert).collect(),
            live(epoch),
        );
    }
}

pub fn ids(page: &Value) -> Vec<(u64, &str)> {
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

/// A score under a task.
pub fn score(task: &str, entity_type: &str, id: &str, probability: f64) -> ShownScore {
    ShownScore {
        record: Score {
            task: task.into(),
            entity_type: entity_type.into(),
            entity_id: id.into(),
            status: SCORED,
            probability: Some(probability),
            score: Some(probability * 100.0),
            as_of: 1,
            ..Score::default()
        },
        name: Some(format!("Company {id}")),
        facts: json!({"contacts": 2}),
        history: Vec::new(),
    }
}

/// The status of a live engine after an epoch.
pub fn live(epoch: u64) -> EngineStatus {
    EngineStatus {
        phase: Phase::Live,
        epoch,
        as_of_ms: Some(1),
        records: 0,
        lag_records: 0,
        reason: None,
        deployed: Default::default(),
    }
}

/// Options of a server on a free port of this machine.
pub fn local() -> ServerOptions {
    ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..ServerOptions::default()
    }
}

/// The state of a server with two tasks.
pub fn state_of(read_model: &Arc<ReadModel>) -> ServerState {
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
        anchors: json!({"every": "10d"}),
        actions: vec![ActionView {
            code: "call".into(),
            label: "Call today".into(),
            when: json!({"band": ["hot"]}),
        }],
    };
    ServerState {
        read_model: read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![task("buys", "accounts"), task("converts", "leads")].into(),
        tables: vec!["accounts".into(), "contacts".into(), "leads".into()],
        catalog: None,
        operations: None,
        explanations: None,
        questions: None,
        history: None,
        archive: None,
        queries: None,
        schemas: Some(WriterSchemas(Arc::new(OneSchema))),
        version: "1.2.3".into(),
    }
}

/// Knows the schema 7, and asks a registry for 8 without an answer so far.
struct OneSchema;

impl SchemaStore for OneSchema {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        match schema {
            SchemaRef::Id(7) => Ok(WriterSchema::avro(
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
