use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;

/// Status and body.
type HttpAnswer = (u16, &'static str);

/// A registry that answers each connection with the next of `answers` and keeps the requests.
/// Status 0 closes the connection.
struct Double {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Double {
    fn new(answers: &[HttpAnswer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers) = (
            Arc::clone(&asked),
            answers
                .iter()
                .map(|(status, body)| (*status, (*body).to_owned()))
                .collect::<Vec<_>>(),
        );
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                kept.lock().unwrap().push(read_request(&mut stream));
                if status != 0 {
                    let length = body.len();
                    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
                }
            }
        });
        Self { url, asked }
    }

    fn registry(&self, change: impl FnOnce(&mut RegistryOptions)) -> HttpRegistry {
        let mut options = RegistryOptions {
            url: self.url.clone(),
            backoff_ms: 0,
            unknown_ttl_ms: 0,
            unavailable_ttl_ms: 0,
            ..RegistryOptions::default()
        };
        change(&mut options);
        HttpRegistry::new(
            &options,
            &RegistryMetrics::register(&prometheus::Registry::new()).unwrap(),
        )
        .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return String::from_utf8(bytes).unwrap();
            }
        }
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the client closed the connection");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

#[test]
fn registry_answers_become_schemas_or_typed_errors() {
    let cases: [(&[HttpAnswer], Result<&str, &str>); 9] = [
        (&[(200, r#"{"schema":"\"string\""}"#)], Ok("\"string\"")),
        (
            &[(200, r#"{"schema":"{}","schemaType":"AVRO","id":7}"#)],
            Ok("{}"),
        ),
        (&[(503, ""), (0, ""), (200, r#"{"schema":"1"}"#)], Ok("1")),
        (
            &[(404, r#"{"error_code":40403,"message":"Schema not found"}"#)],
            Err("no schema 7 is registered"),
        ),
        (
            &[(200, r#"{"schema":"x","schemaType":"PROTOBUF"}"#)],
            Err("it is registered as PROTOBUF"),
        ),
        (
            &[(404, "<html>no such page</html>")],
            Err("cannot be reached"),
        ),
        (
            &[(401, r#"{"error_code":401,"message":"Unauthorized"}"#)],
            Err("Unauthorized"),
        ),
        (
            &[(500, ""), (502, ""), (503, "overloaded")],
            Err("overloaded"),
        ),
        (&[(200, "{}")], Err("holds no schema")),
    ];
    for (answers, expected) in cases {
        let double = Double::new(answers);
        let found = double.registry(|_| {}).lookup(&SchemaRef::Id(7));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_ref(), expected),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{expected}: {error}")
            }
            (found, _) => panic!("{answers:?} gave {found:?}"),
        }
        assert_eq!(double.asked().len(), answers.len(), "{answers:?}");
    }
}

#[test]
fn known_schemas_outlive_the_registry() {
    let double = Double::new(&[(200, r#"{"schema":"\"long\""}"#)]); // answers once
    let registry = double.registry(|_| {});
    for _ in 0..3 {
        assert_eq!(
            registry.lookup(&SchemaRef::Id(7)).unwrap().as_ref(),
            "\"long\""
        );
    }
    assert!(matches!(
        registry.lookup(&SchemaRef::Id(8)),
        Err(LookupError::Unavailable(_))
    ));
}

/// Answers every request on a thread of its own, by its path.
fn serve(answer: impl Fn(&str) -> HttpAnswer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let request = read_request(&mut stream);
                let (status, body) = answer(request.split(' ').nth(1).unwrap());
                let length = body.len();
                // The client may be gone.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            });
        }
    });
    url
}

fn registry_at(url: String) -> HttpRegistry {
    let options = RegistryOptions {
        url,
        ..RegistryOptions::default()
    };
    HttpRegistry::new(
        &options,
        &RegistryMetrics::register(&prometheus::Registry::new()).unwrap(),
    )
    .unwrap()
}

/// Finds until there is an answer.
fn found(registry: &HttpRegistry, id: u32) -> Result<Arc<str>, LookupError> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match registry.find(&SchemaRef::Id(id)) {
            Err(LookupError::Unavailable(why)) => {
                assert!(std::time::Instant::now() < deadline, "{why}")
            }
            answer => return answer,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

const NO_SCHEMA: HttpAnswer = (404, r#"{"error_code":40403,"message":"Schema not found"}"#);

#[test]
fn find_never_waits_even_while_the_registry_hangs() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let url = serve(move |path| {
        if path.ends_with("/7") {
            return (200, r#"{"schema":"\"long\""}"#);
        }
        let _ = held.recv(); // until the test ends
        NO_SCHEMA
    });
    let registry = registry_at(url);
    assert_eq!(found(&registry, 7).unwrap().as_ref(), "\"long\"");
    // Every request that may be under way hangs; nothing here would return if a call waited for
    // one.
    let hanging: Vec<SchemaRef> = (100..2_000).map(SchemaRef::Id).collect();
    registry.prefetch(&hanging);
    for id in 100..110 {
        assert!(matches!(
            registry.find(&SchemaRef::Id(id)),
            Err(LookupError::Unavailable(_))
        ));
    }
    assert_eq!(
        registry.find(&SchemaRef::Id(7)).unwrap().as_ref(),
        "\"long\""
    );
    assert_eq!(
        registry.lookup(&SchemaRef::Id(7)).unwrap().as_ref(),
        "\"long\""
    );
    let full = registry
        .find(&SchemaRef::Id(1_999))
        .unwrap_err()
        .to_string();
    assert!(full.contains("1000 other questions"), "{full}");
    drop(release);
}

#[test]
fn prefetch_asks_for_unknown_ids_together() {
    // Nobody is answered until as many wait as may: asked one after the other, none ever would be.
    let waiting = (Mutex::new(0), std::sync::Condvar::new());
    let url = serve(move |_| {
        let (count, arrived) = &waiting;
        let mut count = count.lock().unwrap();
        *count += 1;
        arrived.notify_all();
        drop(arrived.wait_while(count, |count| *count < AT_ONCE).unwrap());
        NO_SCHEMA
    });
    let registry = registry_at(url);
    let junk: Vec<SchemaRef> = (0..64).map(SchemaRef::Id).collect();
    registry.prefetch(&junk);
    for id in 0..64 {
        assert_eq!(
            found(&registry, id),
            Err(LookupError::Unknown(id.to_string()))
        );
    }
}

#[test]
fn requests_carry_paths_and_credentials_of_the_registry() {
    let double = Double::new(&[
        (200, r#"{"schema":"1"}"#),
        (200, r#"{"id":5}"#),
        (200, r#"{"id":6}"#),
    ]);
    let token = double.registry(|options| options.token = Some("t0k".into()));
    token.lookup(&SchemaRef::Guid([1; 16])).unwrap();
    assert_eq!(token.id_of("a/b-value", "\"long\""), Ok(5));
    let basic = double.registry(|options| {
        options.register = false;
        (options.username, options.password) = (Some("u".into()), Some("p".into()));
    });
    assert_eq!(basic.id_of("s-value", "\"long\""), Ok(6));
    assert_eq!(basic.id_of("s-value", "\"long\""), Ok(6));
    let expected = [
        (
            "GET /apis/ccompat/v7/schemas/guids/01010101-0101-0101-0101-010101010101 ",
            "authorization: Bearer t0k",
        ),
        (
            "POST /apis/ccompat/v7/subjects/a%2Fb-value/versions ",
            r#"{"schema":"\"long\""}"#,
        ),
        (
            "POST /apis/ccompat/v7/subjects/s-value ",
            "authorization: Basic dTpw",
        ),
    ];
    let asked = double.asked();
    assert_eq!(asked.len(), expected.len());
    for (request, (start, part)) in asked.iter().zip(expected) {
        assert!(
            request.starts_with(start) && request.contains(part),
            "{request}"
        );
    }
}

#[test]
fn registry_options_are_checked_and_secrets_not_printed() {
    let metrics = RegistryMetrics::register(&prometheus::Registry::new()).unwrap();
    let good = RegistryOptions {
        password: Some("hunter2".into()),
        username: Some("u".into()),
        ..RegistryOptions::default()
    };
    assert!(HttpRegistry::new(&good, &metrics).is_ok());
    assert!(!format!("{good:?}").contains("hunter2"));
    let cases = [
        (
            RegistryOptions {
                url: "nowhere".into(),
                ..good.clone()
            },
            "is no URL",
        ),
        (
            RegistryOptions {
                url: "https://x".into(),
                ..good.clone()
            },
            "no TLS",
        ),
        (
            RegistryOptions {
                token: Some("t".into()),
                ..good.clone()
            },
            "cannot be combined",
        ),
        (
            RegistryOptions {
                attempts: 0,
                ..good.clone()
            },
            "at least 1",
        ),
    ];
    for (options, expected) in cases {
        let error = HttpRegistry::new(&options, &metrics)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}
