//! Hosts, clients, scopes, rates and sizes.

use leadpulse_server::{BearerToken, Scope, ServerOptions, TokenAccess};
use rstest::rstest;
use serde_json::json;

use crate::support::Server;

const READER: &str = "reader-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";

fn with_tokens(options: &mut ServerOptions) {
    for (name, token, scope) in [
        ("dash", READER, Scope::Read),
        ("ops", OPERATOR, Scope::Operate),
    ] {
        let access = TokenAccess {
            token: BearerToken::new(token),
            scope,
        };
        options.access.tokens.insert(name.into(), access);
    }
}

#[rstest]
#[case::nobody("/api/v1/status", "", 401)]
#[case::a_wrong_token("/api/v1/status", "Bearer reader-0123456789abcdeX", 401)]
#[case::another_scheme("/api/v1/status", "Basic cmVhZGVy", 401)]
#[case::a_reader("/api/v1/status", "Bearer reader-0123456789abcdef", 200)]
#[case::the_scheme_in_lower_case("/api/v1/status", "bearer reader-0123456789abcdef", 200)]
#[case::metrics("/metrics", "", 401)]
#[case::a_probe("/healthz", "", 200)]
#[case::a_page_without_data("/", "", 200)]
#[case::the_index("/api", "", 200)]
fn tokens_open_what_their_scope_allows(
    #[case] path: &str,
    #[case] authorization: &str,
    #[case] code: u16,
) {
    let server = Server::with_options(with_tokens);
    let reply = match authorization {
        "" => server.get(path),
        text => server.send("GET", path, &[("authorization", text)]),
    };
    assert_eq!(reply.code, code, "{}", reply.body);
    if code == 401 {
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
}

#[test]
fn operations_need_a_scope_of_their_own() {
    let server = Server::with_options(with_tokens);
    let operate = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("content-length", "2"),
        ];
        server.send_with("POST", "/api/v1/alerts/simulate", &headers, "{}")
    };
    assert_eq!(operate(READER).code, 403);
    let reply = operate(OPERATOR);
    assert_eq!(reply.code, 503, "there is no history here: {}", reply.body);
}

#[test]
fn a_user_is_believed_only_from_a_proxy_that_is_listed() {
    let user = [("x-forwarded-user", "ann")];
    let behind = |proxies: &[&str]| {
        Server::with_options(|options| {
            options.access.proxies = proxies.iter().map(|one| (*one).to_owned()).collect();
            options.access.operators = vec!["ann".into()];
        })
    };
    let server = behind(&["127.0.0.0/8"]);
    assert_eq!(server.send("GET", "/api/v1/status", &user).code, 200);
    assert_eq!(
        server.get("/api/v1/status").code,
        401,
        "the proxy named nobody"
    );
    let twice = [("x-forwarded-user", "bob"), ("x-forwarded-user", "ann")];
    assert_eq!(server.send("GET", "/api/v1/status", &twice).code, 401);
    let post = |name: &str| {
        let headers = [
            ("x-forwarded-user", name),
            ("content-type", "application/json"),
            ("content-length", "2"),
        ];
        server
            .send_with("POST", "/api/v1/alerts/simulate", &headers, "{}")
            .code
    };
    assert_eq!((post("ann"), post("bob")), (503, 403));
    let elsewhere = behind(&["10.0.0.0/8"]);
    let reply = elsewhere.send("GET", "/api/v1/status", &user);
    assert_eq!(
        reply.code, 401,
        "the header of anybody else counts for nothing"
    );
}

#[test]
fn whoever_is_not_known_only_reads_where_others_can_reach_the_listener() {
    let server = Server::with_options(|options| options.listen = "0.0.0.0:0".parse().unwrap());
    assert_eq!(server.get("/api/v1/status").code, 200);
    let reply = server.post("/api/v1/alerts/simulate", &json!({}));
    assert_eq!(reply.code, 403);
    let local = Server::start();
    assert_eq!(local.post("/api/v1/alerts/simulate", &json!({})).code, 503);
}

#[test]
fn a_name_that_is_not_ours_is_refused() {
    let server = Server::with_options(|options| options.hosts = vec!["scores.test".into()]);
    let code = |path: &str, host: &str| server.send("GET", path, &[("host", host)]).code;
    assert_eq!(code("/api/v1/status", "evil.test:8080"), 421);
    assert_eq!(code("/", "evil.test"), 421);
    assert_eq!(code("/metrics", "evil.test"), 421);
    assert_eq!(code("/api/v1/status", "scores.test:8080"), 200);
    assert_eq!(code("/api/v1/status", "127.0.0.1:8080"), 200);
    assert_eq!(
        code("/healthz", "pod.internal"),
        200,
        "a probe tells nothing"
    );
}

#[test]
fn a_client_has_a_rate_and_others_have_theirs() {
    let server = Server::with_options(|options| {
        with_tokens(options);
        // One request in a long while after the first three.
        options.limits.requests_per_second = 1;
        options.limits.burst = 3;
    });
    let get = |token: &str| {
        let authorization = format!("Bearer {token}");
        server.send(
            "GET",
            "/api/v1/status",
            &[("authorization", &authorization)],
        )
    };
    let replies: Vec<_> = (0..20).map(|_| get(READER)).collect();
    let refused = replies
        .iter()
        .find(|reply| reply.code == 429)
        .expect("too many");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(get(OPERATOR).code, 200, "another client");
    assert_eq!(server.get("/healthz").code, 200, "probes are not counted");
}

#[test]
fn a_base_path_stands_before_all_paths() {
    let server = Server::with_options(|options| options.base_path = "/lead".into());
    server.publish(1, &[("A", 0.1)], &[]);
    let page = server.get("/lead/api/v1/scores?limit=1");
    assert_eq!((page.code, &page.json()["total"]), (200, &json!(1)));
    assert_eq!(server.get("/api/v1/scores").code, 404);
    let itself = server.get("/lead");
    assert_eq!((itself.code, itself.header("location")), (308, "/lead/"));
    assert_eq!(server.get("/lead/").code, 200);
    let index = server.get("/lead/api").json();
    assert_eq!(index["openapi"], "/lead/api/v1/openapi.json");
    let document = server.get("/lead/api/v1/openapi.json").json();
    assert_eq!(document["servers"][0]["url"], "/lead");
}
