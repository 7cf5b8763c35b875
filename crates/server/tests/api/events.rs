//! Streams of events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use leadpulse_engine::read_model::CHANGES_KEPT;
use serde_json::{Value, json};

use crate::support::Server;

/// Longest wait for an event; a stream that says nothing fails its test.
const PATIENCE: Duration = Duration::from_secs(30);

struct Stream(BufReader<TcpStream>);

#[derive(Debug)]
struct Heard {
    name: String,
    id: String,
    data: Value,
}

impl Stream {
    fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(server.handle.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let path = format!("/api/v1/events?every_ms=200{query}");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\n{last}\r\n"
        )
        .unwrap();
        let mut stream = Self(BufReader::new(stream));
        assert!(stream.line().contains("200"), "{query}");
        while !stream.line().is_empty() {}
        stream
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("the stream goes on");
        assert!(read > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next event, between the lengths of chunks and the comments.
    fn next(&mut self) -> Heard {
        let (mut name, mut id, mut data) = (String::new(), String::new(), None);
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("event", text)) => name = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).ok(),
                _ if line.is_empty() && data.is_some() => break,
                _ => {}
            }
        }
        let data = data.unwrap_or_default();
        Heard { name, id, data }
    }
}

fn keys(heard: &Heard) -> Vec<&str> {
    let scores = heard.data["scores"].as_array().unwrap();
    scores
        .iter()
        .map(|score| score["entity_id"].as_str().unwrap())
        .collect()
}

#[test]
fn changes_come_as_events_and_go_on_after_the_last_one_known() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &[]);
    let mut stream = Stream::open(&server, "", None);
    let start = stream.next();
    assert_eq!(
        (start.name.as_str(), &start.data["epoch"]),
        ("start", &json!(1))
    );
    server.publish(2, &[("A", 0.2), ("B", 0.7)], &["B"]);
    let scores = stream.next();
    assert_eq!(
        (scores.name.as_str(), keys(&scores)),
        ("scores", vec!["A", "B"])
    );
    assert_eq!(scores.id, "", "the alerts of the epoch are still to come");
    assert_eq!(scores.data["scores"][1]["task"], "buys");
    let alerts = stream.next();
    assert_eq!(alerts.name, "alerts");
    assert_eq!(alerts.data["alerts"][0]["alert_id"], "alert-B-2");
    drop(stream);
    server.publish(3, &[("C", 0.3)], &[]);
    let mut resumed = Stream::open(&server, "", Some(&alerts.id));
    assert_eq!(keys(&resumed.next()), ["C"]);
    let mut from_start = Stream::open(&server, "", Some(&start.id));
    let both = from_start.next();
    assert_eq!(keys(&both), ["A", "B", "C"], "the newest score of each");
}

#[test]
fn a_client_that_was_away_too_long_is_told_to_begin_anew() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &[]);
    let start = Stream::open(&server, "", None).next();
    for epoch in 2..=2 + CHANGES_KEPT as u64 {
        server.publish(epoch, &[("A", 0.2)], &[]);
    }
    for id in [start.id.as_str(), "0-1", "nonsense"] {
        let mut stream = Stream::open(&server, "", Some(id));
        let reset = stream.next();
        assert_eq!(reset.name, "reset", "{id}");
        server.publish(1000, &[("Z", 0.5)], &[]);
        assert_eq!(keys(&stream.next()), ["Z"], "events go on");
    }
}

#[test]
fn a_subscription_is_heard_and_nothing_else() {
    let server = Server::start();
    server.publish(1, &[("A", 0.9), ("B", 0.8), ("C", 0.1)], &[]);
    let mut one = Stream::open(&server, "&entities=B", None);
    let mut top = Stream::open(&server, "&top=2&kinds=scores", None);
    let mut alerts = Stream::open(&server, "&kinds=alerts", None);
    let mut other = Stream::open(&server, "&task=converts", None);
    for stream in [&mut one, &mut top, &mut alerts, &mut other] {
        assert_eq!(stream.next().name, "start");
    }
    server.publish(2, &[("C", 0.2)], &[]);
    server.publish(3, &[("A", 0.91), ("C", 0.3)], &["C"]);
    server.publish(4, &[("B", 0.81)], &["B"]);
    assert_eq!(alerts.next().data["alerts"][0]["entity_id"], "C");
    let heard = one.next();
    assert_eq!(keys(&heard), ["B"]);
    let mut at_top = Vec::new();
    while at_top.len() < 2 {
        let heard = top.next();
        at_top.extend(keys(&heard).into_iter().map(str::to_owned));
    }
    assert_eq!(at_top, ["A", "B"]);
    let mut converted = vec![];
    server.read_model.publish(
        vec![crate::support::score("converts", "leads", "L", 0.5)],
        Vec::new(),
        crate::support::live(5),
    );
    while converted.is_empty() {
        let heard = other.next();
        converted.extend(keys(&heard).into_iter().map(str::to_owned));
    }
    assert_eq!(converted, ["L"], "no other task");
}

#[test]
fn more_than_an_event_holds_is_a_reset() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &[]);
    let mut stream = Stream::open(&server, "", None);
    assert_eq!(stream.next().name, "start");
    let names: Vec<String> = (0..501).map(|n| format!("E{n}")).collect();
    let scores: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
    server.publish(2, &scores, &[]);
    assert_eq!(stream.next().name, "reset");
}

#[test]
fn streams_are_limited_in_number_and_end_with_the_server() {
    let server = Server::with_options(|options| options.limits.streams = 1);
    let mut stream = Stream::open(&server, "", None);
    assert_eq!(stream.next().name, "start");
    let refused = server.get("/api/v1/events");
    assert_eq!((refused.code, refused.header("retry-after")), (503, "5"));
    server.handle.stop().expect("it ran until now");
    let mut rest = String::new();
    while stream.0.read_line(&mut rest).is_ok_and(|read| read > 0) {}
    assert!(!rest.contains("event:"), "{rest}");
}
