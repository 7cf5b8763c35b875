//! One entity.

use serde_json::json;

use crate::support::Server;

#[test]
fn an_entity_has_its_scores_and_alerts() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B/1 ü", 0.9)], &["A", "B/1 ü"]);
    let answer = server.get("/api/v1/accounts/B%2F1%20%C3%BC").json();
    assert_eq!(
        (&answer["id"], &answer["scores"][0]["name"]),
        (&json!("B/1 ü"), &json!("Company B/1 ü"))
    );
    assert_eq!(
        (
            answer["alerts"].as_array().unwrap().len(),
            &answer["alerts"][0]["alert_id"]
        ),
        (1, &json!("alert-B/1 ü-1"))
    );
}
