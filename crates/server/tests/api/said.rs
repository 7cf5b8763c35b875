//! Words of people beside scores and alerts.

use leadpulse_engine::read_model::{
    RulingsView, SaidView, ShownRuling, ShownVerdict, VerdictsView,
};
use serde_json::{Value, json};

use crate::support::{Server, ids};

/// Decisions about accounts, and answers to alerts.
pub fn said(rulings: &[(&str, &'static str)], verdicts: &[(&str, &'static str)]) -> SaidView {
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
    let page = server.get("/api/v1/scores?view=full").json();
    assert_eq!(ids(&page), [(1, "B"), (2, "A")], "C is on no list");
    assert_eq!(page["total"], json!(2));
    let muted = json!({"kind": "mute", "who": "ann", "why": "in talks", "until": 9});
    assert_eq!(page["scores"][0]["ruling"], Value::Null);
    assert_eq!(page["scores"][1]["ruling"], muted);
    let alerts = server.get("/api/v1/alerts?view=full").json();
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
