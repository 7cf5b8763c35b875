use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;
use crate::secret::Secret;

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
            url: vec![self.url.clone()],
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
    let cases: [(&[HttpAnswer], Result<&str, &str>); 10] = [
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
            Ok("x"),
        ),
        (
            &[(200, r#"{"schema":"x","schemaType":"THRIFT"}"#)],
            Err("THRIFT"),
        ),
        (
            &[(404, "<html>no such page</html>")],
            Err("cannot be reached"),
        ),
        (
            &[(401, r#"{"error_code":401,"message":"Unauthorized"}"#)],
            Err("denies access: 7: http://127.0.0.1:"),
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
            (Ok(found), Ok(expected)) => assert_eq!(&*found.text, expected),
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
            &*registry.lookup(&SchemaRef::Id(7)).unwrap().text,
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
        url: vec![url],
        ..RegistryOptions::default()
    };
    HttpRegistry::new(
        &options,
        &RegistryMetrics::register(&prometheus::Registry::new()).unwrap(),
    )
    .unwrap()
}

/// Finds until there is an answer.
fn found(registry: &HttpRegistry, id: u32) -> Result<WriterSchema, LookupError> {
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
    assert_eq!(&*found(&registry, 7).unwrap().text, "\"long\"");
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
    assert_eq!(&*registry.find(&SchemaRef::Id(7)).unwrap().text, "\"long\"");
    assert_eq!(
        &*registry.lookup(&SchemaRef::Id(7)).unwrap().text,
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
    let token = double.registry(|options| options.token = Some(Secret::new("t0k")));
    token.lookup(&SchemaRef::Guid([1; 16])).unwrap();
    assert_eq!(token.id_of("a/b-value", "\"long\""), Ok(5));
    let basic = double.registry(|options| {
        options.register = false;
        options.username = Some("u".into());
        options.password = Some(Secret::new("p"));
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
        password: Some(Secret::new("hunter2")),
        username: Some("u".into()),
        ..RegistryOptions::default()
    };
    assert!(HttpRegistry::new(&good, &metrics).is_ok());
    assert!(!format!("{good:?}").contains("hunter2"));
    let cases = [
        (
            RegistryOptions {
                url: vec!["nowhere".into()],
                ..good.clone()
            },
            "registry.url: \"nowhere\" is no URL",
        ),
        (
            RegistryOptions {
                url: vec!["https://u:hunter2@x/y".into()],
                ..good.clone()
            },
            "registry.url: https://x/y has a user or password in it",
        ),
        (
            RegistryOptions {
                url: vec!["ftp://x".into()],
                ..good.clone()
            },
            "is not of the form https://",
        ),
        (
            RegistryOptions {
                url: Vec::new(),
                ..good.clone()
            },
            "registry.url: is empty",
        ),
        (
            RegistryOptions {
                username: None,
                ..good.clone()
            },
            "registry.username: is missing",
        ),
        (
            RegistryOptions {
                url: vec!["https://x".into()],
                ca: Some("no-such-file.pem".into()),
                ..good.clone()
            },
            "registry.ca: no-such-file.pem cannot be read",
        ),
        (
            RegistryOptions {
                url: vec!["https://x".into()],
                certificate: Some("no-such-file.pem".into()),
                ..good.clone()
            },
            "registry.key: is missing",
        ),
        (
            RegistryOptions {
                token: Some(Secret::new("t")),
                ..good.clone()
            },
            "registry.token: cannot be combined",
        ),
        (
            RegistryOptions {
                attempts: 0,
                ..good.clone()
            },
            "above 0",
        ),
    ];
    for (options, expected) in cases {
        let error = HttpRegistry::new(&options, &metrics)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn replicas_are_tried_in_turn_and_the_one_that_answers_is_kept() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failing = Double::new(&[(500, "")]);
    let answering = Double::new(&[(200, r#"{"schema":"1"}"#), (200, r#"{"schema":"2"}"#)]);
    let urls = vec![
        format!("http://{gone}"),
        failing.url.clone(),
        answering.url.clone(),
    ];
    let registry = failing.registry(|options| {
        options.url = urls;
        options.attempts = 1;
    });
    assert_eq!(&*registry.lookup(&SchemaRef::Id(1)).unwrap().text, "1");
    assert_eq!(&*registry.lookup(&SchemaRef::Id(2)).unwrap().text, "2");
    assert_eq!((failing.asked().len(), answering.asked().len()), (1, 2));
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let elsewhere = Double::new(&[(200, r#"{"schema":"1"}"#)]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = elsewhere.url.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        write!(
            stream,
            "HTTP/1.1 307 x\r\nlocation: {target}schemas/ids/7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
    });
    let registry = elsewhere.registry(|options| {
        options.url = vec![url];
        options.token = Some(Secret::new("t0k"));
    });
    let error = registry.lookup(&SchemaRef::Id(7)).unwrap_err().to_string();
    assert!(error.contains("a redirect"), "{error}");
    assert!(elsewhere.asked().is_empty());
}

/// Certificates in a folder: `ca.pem`, and `NAME.crt` and `NAME.key` for server, expired, client.
fn certificates_in(folder: &std::path::Path) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, end) in [("server", 2200), ("expired", 2001), ("client", 2200)] {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A registry over https that answers every request with schema `1`, to clients with a certificate
/// only. Returns its port.
fn serve_tls(folder: &std::path::Path, name: &str) -> u16 {
    use crate::tls::{certificates, private_key};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("ca", &folder.join("ca.pem")).unwrap() {
        roots.add(certificate).unwrap();
    }
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            certificates("certificate", &folder.join(format!("{name}.crt"))).unwrap(),
            private_key(&folder.join(format!("{name}.key"))).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config) = (stream.unwrap(), Arc::clone(&config));
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let mut request = [0; 4096];
                // A client that does not trust the server goes away.
                if tls.read(&mut request).is_ok_and(|length| length > 0) {
                    let body = r#"{"schema":"1"}"#;
                    let length = body.len();
                    let _ = write!(
                        tls,
                        "HTTP/1.1 200 x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                }
            });
        }
    });
    port
}

#[test]
fn https_with_certificates_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    certificates_in(folder.path());
    let ask = |port: u16, change: &dyn Fn(&mut RegistryOptions)| {
        let mut options = RegistryOptions {
            url: vec![format!("https://localhost:{port}")],
            ca: Some(at("ca.pem")),
            certificate: Some(at("client.crt")),
            key: Some(at("client.key")),
            backoff_ms: 0,
            ..RegistryOptions::default()
        };
        change(&mut options);
        let metrics = RegistryMetrics::register(&prometheus::Registry::new()).unwrap();
        let registry = HttpRegistry::new(&options, &metrics).unwrap();
        let answer = registry.lookup(&SchemaRef::Id(7));
        answer.map_err(|error| error.to_string())
    };
    let port = serve_tls(folder.path(), "server");
    assert_eq!(&*ask(port, &|_| {}).unwrap().text, "1");

    let expired = ask(serve_tls(folder.path(), "expired"), &|_| {}).unwrap_err();
    assert!(expired.contains("its certificate has expired"), "{expired}");
    let stranger = ask(port, &|options| options.ca = Some(at("client.crt"))).unwrap_err();
    assert!(
        stranger.contains("an authority that is not trusted here"),
        "{stranger}"
    );
    let other_name = ask(port, &|options| {
        options.url = vec![format!("https://127.0.0.1:{port}")];
    });
    let other_name = other_name.unwrap_err();
    assert!(
        other_name.contains("not made for the name 127.0.0.1"),
        "{other_name}"
    );
    let unknown = ask(port, &|options| {
        (options.certificate, options.key) = (None, None);
    });
    assert!(unknown.is_err());
}

#[test]
fn a_token_is_fetched_with_the_clients_credentials() {
    let double = Double::new(&[
        (200, r#"{"access_token":"t0k","expires_in":60}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (200, r#"{"token":"of another kind"}"#),
    ]);
    let options = crate::token::TokenOptions {
        token_url: double.url.clone(),
        client_id: "a b".into(),
        client_secret: Secret::new("s&t"),
        scope: Some("all".into()),
        ca: None,
    };
    options.check().unwrap();
    let token = options.fetch().unwrap();
    assert_eq!(token.token.reveal(), "t0k");
    assert_eq!(token.lifetime, Duration::from_secs(60));
    let refused = options.fetch().unwrap_err().to_string();
    assert!(
        refused.contains("refuses client 'a b'") && !refused.contains("s&t"),
        "{refused}"
    );
    let other = options.fetch().unwrap_err().to_string();
    assert!(other.contains("access_token"), "{other}");
    let gone = crate::token::TokenOptions {
        token_url: "http://127.0.0.1:1".into(),
        ..options
    };
    let gone = gone.fetch();
    assert!(
        matches!(gone, Err(crate::token::TokenError::NoAnswer(_))),
        "{gone:?}"
    );
    let asked = &double.asked()[0];
    // a+b:s%26t
    assert!(asked.contains("Basic YStiOnMlMjZ0"), "{asked}");
    assert!(
        asked.ends_with("grant_type=client_credentials&scope=all"),
        "{asked}"
    );
}

#[test]
fn a_subject_is_read_with_its_language_and_version() {
    let double = Double::new(&[
        (
            200,
            r#"{"subject":"a-value","version":3,"id":7,"schemaType":"PROTOBUF","schema":"syntax","references":[{"name":"b.proto"}]}"#,
        ),
        (200, r#"{"version":1,"schema":"\"string\""}"#),
        (
            404,
            r#"{"error_code":40401,"message":"Subject not found."}"#,
        ),
    ]);
    let registry = double.registry(|_| {});
    let expected = crate::SubjectVersion {
        version: 3,
        language: "PROTOBUF".into(),
        schema: "syntax".into(),
        references: vec!["b.proto".into()],
    };
    assert_eq!(registry.subject("a-value", None), Ok(expected));
    assert_eq!(registry.subject("b", Some(1)).unwrap().language, "AVRO");
    assert!(registry.subject("c", None).is_err());
    let asked = double.asked();
    assert!(asked[0].starts_with("GET /apis/ccompat/v7/subjects/a-value/versions/latest "));
    assert!(asked[1].starts_with("GET /apis/ccompat/v7/subjects/b/versions/1 "));
}
