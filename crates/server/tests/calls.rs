//! Calls of other systems over real connections: limits of body, time, rate and number at once.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadpulse_server::{
    Call, CallAnswer, CallHandler, CallLimits, Handle, ProcessHealth, serve_calls, serve_probes,
};

/// A limit above the need of any test, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Health(Result<(), String>);

impl ProcessHealth for Health {
    fn live(&self) -> Result<(), String> {
        Ok(())
    }
    fn ready(&self) -> Result<(), String> {
        self.0.clone()
    }
}

/// Says that a call came, and answers it once it may.
struct Gate {
    came: Mutex<Sender<Call>>,
    go: Mutex<Receiver<()>>,
    refused: Mutex<Vec<(String, u16)>>,
}

impl CallHandler for Gate {
    fn answer(&self, call: Call) -> CallAnswer {
        let body = serde_json::json!({"bytes": call.body.len(), "source": call.source});
        self.came.lock().unwrap().send(call).unwrap();
        self.go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        CallAnswer {
            status: 207,
            retry_after_s: Some(9),
            body,
        }
    }
    fn refused(&self, source: &str, status: u16) {
        self.refused
            .lock()
            .unwrap()
            .push((source.to_owned(), status));
    }
}

struct Rig {
    handle: Handle,
    came: Receiver<Call>,
    go: Sender<()>,
    gate: Arc<Gate>,
}

fn rig(per_second: u32) -> Rig {
    let ((came, arrivals), (go, allowed)) = (channel(), channel());
    let gate = Arc::new(Gate {
        came: Mutex::new(came),
        go: Mutex::new(allowed),
        refused: Mutex::default(),
    });
    let limits = CallLimits {
        body_bytes: 10,
        body_timeout: Duration::from_millis(300),
        at_once: 1,
        per_second,
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let (registry, health) = (prometheus::Registry::new(), Arc::new(Health(Ok(()))));
    let handle = serve_calls(listen, limits, &registry, health, "0", gate.clone()).unwrap();
    Rig {
        handle,
        came: arrivals,
        go,
        gate,
    }
}

fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/ingest/json?a=b HTTP/1.1\r\nhost: x\r\nX-Token: t\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_call_reaches_its_handler_whole_and_another_one_at_once_is_told_to_come_again() {
    let rig = rig(1_000);
    let address = rig.handle.address();
    let first = send(address, &post("{\"a\":1}"));
    let call = rig.came.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (call.source.as_str(), call.path_and_query.as_str()),
        ("json", "/v1/ingest/json?a=b")
    );
    assert_eq!(call.body, b"{\"a\":1}");
    assert!(call.headers.contains(&("x-token".into(), "t".into())));
    let second = answer(send(address, &post("{}")));
    assert!(
        second.starts_with("HTTP/1.1 429") && second.contains("retry-after: 1\r\n"),
        "{second}"
    );
    rig.go.send(()).unwrap();
    let first = answer(first);
    assert!(
        first.starts_with("HTTP/1.1 207") && first.contains("retry-after: 9\r\n"),
        "{first}"
    );
    assert!(first.contains("\"bytes\":7"), "{first}");
    assert_eq!(
        *rig.gate.refused.lock().unwrap(),
        [("json".to_owned(), 429)]
    );
}

#[test]
fn bodies_that_are_too_long_or_too_slow_do_not_reach_the_handler() {
    let rig = rig(1_000);
    let address = rig.handle.address();
    let long = answer(send(address, &post("{\"a\":\"long\"}")));
    assert!(long.starts_with("HTTP/1.1 413"), "{long}");
    let head = post("1234567890").replace("1234567890", "123");
    let slow = answer(send(address, &head));
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(rig.came.try_recv().is_err());
}

#[test]
fn calls_beyond_the_rate_of_an_address_are_told_to_come_again() {
    let rig = rig(1);
    let address = rig.handle.address();
    let is_refused = (0..1_000).any(|_| {
        rig.go.send(()).unwrap();
        answer(send(address, &post("{}"))).starts_with("HTTP/1.1 429")
    });
    assert!(is_refused);
    assert_eq!(
        *rig.gate.refused.lock().unwrap(),
        [("json".to_owned(), 429)]
    );
}

#[test]
fn probes_and_metrics_are_answered_beside_the_calls_and_alone() {
    let rig = rig(1_000);
    let get = |address, path: &str| {
        answer(send(
            address,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ))
    };
    let address = rig.handle.address();
    assert!(get(address, "/readyz").contains("\"ready\""));
    assert!(get(address, "/metrics").contains("leadpulse_http_connections"));
    assert!(get(address, "/v1/ingest/json").starts_with("HTTP/1.1 405"));
    assert!(get(address, "/else").starts_with("HTTP/1.1 404"));
    let health = Arc::new(Health(Err("a sink waits".into())));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let alone = serve_probes(listen, &prometheus::Registry::new(), health, "1.2").unwrap();
    let waiting = get(alone.address(), "/readyz");
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.contains("a sink waits"),
        "{waiting}"
    );
    assert!(get(alone.address(), "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(alone.address(), "/version").contains("1.2"));
}
