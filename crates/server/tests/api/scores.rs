//! Lists of scores.

use leadpulse_records::{SCORED, Score, ShownScore};
use serde_json::{Value, json};

use crate::support::{Server, ids, live};

#[test]
fn scores_are_ranked_and_paged() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B/1 ü", 0.9), ("C", 0.5)], &[]);
    let first = server
        .get("/api/v1/scores?task=buys&entity=accounts&limit=2&view=full")
        .json();
    assert_eq!(
        (ids(&first), &first["total"]),
        (vec![(1, "B/1 ü"), (2, "C")], &json!(3))
    );
    assert_eq!(
        (
            &first["scores"][0]["facts"]["contacts"],
            &first["scores"][0]["status"]
        ),
        (&json!(2), &json!("scored"))
    );
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server
        .get(&format!("/api/v1/scores?limit=2&view=full&cursor={cursor}"))
        .json();
    assert_eq!(
        (ids(&second), &second["next_cursor"]),
        (vec![(3, "A")], &Value::Null)
    );
    let leads = server.get("/api/v1/scores?entity=leads").json();
    assert_eq!(
        (&leads["task"], &leads["total"]),
        (&json!("converts"), &json!(0))
    );
}

/// A score of an account with fields of its row.
fn account(id: &str, probability: f64, values: Value, open: Value) -> ShownScore {
    ShownScore {
        record: Score {
            task: "buys".into(),
            entity_type: "accounts".into(),
            entity_id: id.into(),
            status: SCORED,
            probability: Some(probability),
            score: Some(100.0 * probability),
            band: (probability >= 0.5).then(|| "hot".into()),
            ..Score::default()
        },
        name: Some(format!("Größe {id}")),
        facts: json!({"values": values, "open": open}),
        history: Vec::new(),
    }
}

fn market() -> Server {
    let server = Server::start();
    let scores = vec![
        account(
            "A1",
            0.9,
            json!({"owner_id": "ann", "region": "EMEA"}),
            json!([{"key": "D"}]),
        ),
        account(
            "A2",
            0.6,
            json!({"owner_id": "bob", "region": "EMEA"}),
            json!([]),
        ),
        account("B1", 0.4, json!({"owner_id": "ann"}), json!([])),
        account("B2", 0.1, json!({}), json!([])),
    ];
    let status = live(1);
    server.read_model.publish(scores, Vec::new(), status);
    server
}

#[test]
fn lists_are_filtered_by_band_owner_region_text_and_open_deals() {
    let server = market();
    for (query, expected) in [
        ("", "A1 A2 B1 B2"),
        ("?band=hot", "A1 A2"),
        ("?owner=ann", "A1 B1"),
        ("?owner=", "B2"),
        ("?region=EMEA", "A1 A2"),
        ("?text=GR%C3%96%C3%9FE%20b", "B1 B2"),
        ("?text=b1", "B1"),
        ("?open=true", "A1"),
        ("?open=false&owner=ann", "B1"),
        ("?region=EMEA&owner=ann&band=hot&open=true&text=a", "A1"),
    ] {
        let page = server.get(&format!("/api/v1/scores{query}")).json();
        let found: Vec<&str> = ids(&page).into_iter().map(|(_, id)| id).collect();
        assert_eq!(found.join(" "), expected, "{query}");
        assert_eq!(page["total"], found.len(), "{query}");
    }
    let refused = server.get("/api/v1/scores?band=cold").json();
    assert_eq!(
        (&refused["parameter"], &refused["allowed"]),
        (&json!("band"), &json!(["hot"]))
    );
}

#[test]
fn columns_are_a_summary_all_or_those_that_are_named() {
    let server = market();
    let first = |query: &str| {
        server.get(&format!("/api/v1/scores?limit=1{query}")).json()["scores"][0].clone()
    };
    let summary = first("");
    assert!(summary.to_string().len() <= 400, "{summary}");
    assert_eq!(
        (
            &summary["owner_id"],
            &summary["has_open_opportunity"],
            &summary["facts"]
        ),
        (&json!("ann"), &json!(true), &Value::Null)
    );
    assert!(first("&view=full")["facts"].is_object());
    assert_eq!(
        first("&fields=entity_id,band,drivers"),
        json!({"entity_id": "A1", "band": "hot", "drivers": []})
    );
    let history = first("&fields=entity_id,history");
    assert_eq!(
        history["history"],
        json!([{"as_of": 0, "probability": 0.9}]),
        "{history}"
    );
    assert!(first("&view=full").get("history").is_none());
    for (query, parameter) in [
        ("fields=entity_id,nope", "fields"),
        ("fields=band&view=full", "fields"),
        ("view=all", "view"),
    ] {
        let refused = server.get(&format!("/api/v1/scores?{query}"));
        assert_eq!(
            (refused.code, &refused.json()["parameter"]),
            (400, &json!(parameter))
        );
    }
}

#[test]
fn pages_go_on_by_place_of_the_last_entity_while_ranks_move() {
    let server = market();
    let first = server.get("/api/v1/scores?limit=2").json();
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    // One entity of the first page falls behind, one of the second rises before it: neither makes an
    // entity that did not move appear twice or not at all.
    let moved = vec![
        account("A1", 0.3, json!({}), json!([])),
        account("B2", 0.95, json!({}), json!([])),
    ];
    server.read_model.publish(moved, Vec::new(), live(2));
    let second = server
        .get(&format!("/api/v1/scores?limit=2&cursor={cursor}"))
        .json();
    assert_eq!(ids(&second), [(3, "B1"), (4, "A1")]);
    for (query, words) in [
        ("limit=2&sort=velocity", "another list"),
        ("limit=2&owner=ann", "another list"),
    ] {
        let refused = server.get(&format!("/api/v1/scores?{query}&cursor={cursor}"));
        let refused = refused.json();
        assert_eq!(refused["parameter"], "cursor");
        assert!(
            refused["detail"].as_str().unwrap().contains(words),
            "{refused}"
        );
    }
    assert!(
        !cursor.contains("A2"),
        "a cursor is not to be read: {cursor}"
    );
}

#[test]
fn answers_are_compressed_for_clients_that_take_it() {
    let server = market();
    let plain = server.get("/api/v1/scores?view=full");
    for encoding in ["gzip", "br"] {
        let headers = [("accept-encoding", encoding)];
        let packed = server.send("GET", "/api/v1/scores?view=full", &headers);
        assert_eq!(packed.header("content-encoding"), encoding);
        assert!(packed.body.len() < plain.body.len() / 2);
        let tag = packed.header("etag").to_owned();
        let again = [("accept-encoding", encoding), ("if-none-match", &*tag)];
        assert_eq!(
            server.send("GET", "/api/v1/scores?view=full", &again).code,
            304
        );
    }
    assert_eq!(plain.header("content-encoding"), "");
}
