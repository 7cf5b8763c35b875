//! Refusals.

use rstest::rstest;

use crate::support::Server;

#[rstest]
#[case("/api/v1/worklist?task=nope", 404, "no task named \"nope\"", "buys")]
#[case(
    "/api/v1/worklist?person=ann",
    400,
    "no parameter \"person\"",
    "task, owner"
)]
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
#[case("/api/v1/scores?limit=0", 400, "limit is \"0\"", "from 1 to 1000")]
#[case("/api/v1/scores?limit=many", 400, "limit is \"many\"", "whole number")]
#[case("/api/v1/scores?top=5", 400, "top", "parameters are task")]
#[case("/api/v1/scores?sort=name", 400, "name", "velocity")]
#[case("/api/v1/scores?cursor=x", 400, "not a cursor", "first page")]
#[case(
    "/api/v1/alerts?limit=1001",
    400,
    "limit is \"1001\"",
    "from 1 to 1000"
)]
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
    assert!(body["detail"].as_str().unwrap().contains(error), "{body}");
    assert!(body["hint"].as_str().unwrap().contains(hint), "{body}");
}

#[test]
fn nothing_can_be_written() {
    let answer = Server::start().send("POST", "/api/v1/scores", &[("content-length", "0")]);
    assert_eq!(
        (answer.code, answer.json()["detail"].as_str()),
        (405, Some("this path does not answer that method"))
    );
}
