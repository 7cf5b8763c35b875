//! Hostile clients: none keeps the others from an answer, or the publisher from publishing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Reply, Server};

/// Longest wait for the server to close a connection; one that stays open fails its test.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.handle.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// True once the other end closed the connection, with or without a last answer.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
    }
}

/// The answer to bytes that are sent as they are.
fn answer(server: &Server, bytes: &[u8]) -> Reply {
    let mut stream = connect(server);
    // The server may close before it has read everything.
    let _sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer);
    Server::reply(&answer)
}

#[test]
fn slow_heads_and_silent_connections_are_closed() {
    let server = Server::with_options(|options| options.limits.head_timeout_ms = 300);
    server.publish(1, &[("A", 0.1)], &[]);
    let mut silent = connect(&server);
    let mut slow = connect(&server);
    slow.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nx-a:")
        .unwrap();
    let mut idle = connect(&server);
    idle.write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    for stream in [&mut silent, &mut slow, &mut idle] {
        assert!(is_closed(stream));
    }
    assert_eq!(server.get("/api/v1/status").code, 200);
}

#[test]
fn a_body_that_does_not_come_or_does_not_end_is_refused() {
    let server = Server::with_options(|options| {
        options.limits.body_timeout_ms = 300;
        options.limits.body_bytes = 1000;
    });
    let head = "POST /api/v1/alerts/simulate HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let waits = answer(
        &server,
        format!("{head}content-length: 10\r\n\r\n{{").as_bytes(),
    );
    assert_eq!(waits.code, 408);
    let large = answer(
        &server,
        format!("{head}content-length: 2000\r\n\r\n{}", " ".repeat(2000)).as_bytes(),
    );
    assert_eq!(large.code, 413);
    assert_eq!(large.header("content-type"), "application/problem+json");
}

#[test]
fn oversized_queries_and_heads_are_refused() {
    let server = Server::start();
    let long = |bytes: usize| format!("/api/v1/scores?text={}", "x".repeat(bytes));
    assert_eq!(server.get(&long(8_000)).code, 200);
    let reply = server.get(&long(9_000));
    assert_eq!(
        (reply.code, reply.json()["status"].as_u64()),
        (414, Some(414))
    );
    let head = format!(
        "GET /api HTTP/1.1\r\nhost: localhost\r\nx-a: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    assert_eq!(answer(&server, head.as_bytes()).code, 431);
    let headers = "x-a: b\r\n".repeat(200);
    let head = format!("GET /api HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    assert_eq!(answer(&server, head.as_bytes()).code, 431);
    assert_eq!(
        answer(&server, b"\x16\x03\x01\x02\x00\x01\r\n\r\n").code,
        400,
        "no TLS here"
    );
}

#[test]
fn further_connections_are_closed_at_once_and_the_others_are_answered() {
    let server = Server::with_options(|options| {
        options.limits.connections = 20;
        options.limits.connections_per_address = 10;
    });
    let mut first = connect(&server);
    first
        .write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answered = [0; 12];
    first.read_exact(&mut answered).unwrap();
    assert_eq!(&answered, b"HTTP/1.1 200");
    let mut more: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    for stream in more.iter_mut().skip(9) {
        assert!(is_closed(stream));
    }
    // The open connection is answered, and new ones once the others are gone.
    first
        .write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(is_closed(&mut first));
    drop(more);
    let again = || {
        let mut stream = connect(&server);
        let _sent = stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .is_ok_and(|_| !text.is_empty())
            .then_some(text)
    };
    let text = std::iter::repeat_with(again)
        .flatten()
        .next()
        .expect("there is room again");
    let refused = text
        .lines()
        .find(|line| line.starts_with("leadpulse_http_connections_refused_total"));
    let refused: f64 = refused
        .and_then(|line| line.split(' ').nth(1))
        .unwrap()
        .parse()
        .unwrap();
    assert!(refused >= 191.0, "{refused}");
}

#[test]
fn a_client_that_takes_no_answer_loses_its_connection_and_holds_nobody_up() {
    let server = Server::with_options(|options| options.limits.write_timeout_ms = 500);
    let names: Vec<String> = (0..1000).map(|n| format!("{n:0>200}")).collect();
    let scores: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
    server.publish(1, &scores, &[]);
    let mut greedy = connect(&server);
    // Hundreds of answers of a megabyte each, and none of them is read.
    let request = "GET /api/v1/scores?view=full&limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _sent = greedy.write_all(request.repeat(100).as_bytes());
    server.publish(2, &[("A", 0.9)], &[]);
    let page = server.get("/api/v1/scores?limit=1").json();
    assert_eq!(page["scores"][0]["entity_id"], "A");
    let mut read = 0_usize;
    let mut part = [0; 64 * 1024];
    // It begins to read when it is too late.
    let gone = || {
        server
            .get("/metrics")
            .body
            .contains("leadpulse_http_connections 1\n")
    };
    let end = Instant::now() + PATIENCE;
    while !gone() {
        assert!(Instant::now() < end, "the connection is still open");
        std::thread::yield_now();
    }
    while let Ok(bytes @ 1..) = greedy.read(&mut part) {
        read += bytes;
    }
    assert!(read < 50_000_000, "{read} bytes of a hundred answers came");
}
