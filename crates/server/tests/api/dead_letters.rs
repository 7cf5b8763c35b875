//! Dead letters.

use leadpulse_records::{KeptLetter, Reason, Rejected};
use leadpulse_schema::units::AsOf;
use serde_json::{Value, json};

use crate::support::Server;

fn letter(topic: &str, reason: Reason, offset: i64, value: &[u8]) -> KeptLetter {
    let rejected = Rejected {
        topic,
        partition: 2,
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"A1"),
        value: Some(value),
        headers: vec![("trace", Some(b"t".as_slice()))],
    };
    KeptLetter::of(&rejected.dead_letter(reason, "id: too long", AsOf::from_ms(5)))
        .expect("it has our headers")
}

#[test]
fn dead_letters_are_listed_with_reason_remedy_and_content() {
    let server = Server::start();
    let empty = server.get("/api/v1/dead-letters");
    assert_eq!(
        (empty.code, &empty.json()["dead_letters"]),
        (200, &json!([]))
    );
    server.read_model.publish_dead_letters(vec![
        letter(
            "accounts",
            Reason::AvroDecode,
            1,
            &[0, 0, 0, 0, 7, 4, b'a', b'b', 1],
        ),
        letter("visits", Reason::WireFormat, 2, br#"{"id": "v"}"#),
        letter("visits", Reason::Validation, 3, b"\xff"),
    ]);
    let reply = server.get("/api/v1/dead-letters?limit=2");
    let shown = reply.json();
    let offsets: Vec<&Value> = shown["dead_letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| &letter["offset"])
        .collect();
    assert_eq!(offsets, [3, 2], "the newest first");
    let kinds = |topic: &str, reason: &str| json!({"topic": topic, "reason": reason, "kept": 1});
    assert_eq!(
        shown["kinds"],
        json!([
            kinds("accounts", "avro_decode"),
            kinds("visits", "validation"),
            kinds("visits", "wire_format")
        ])
    );
    assert_eq!(
        shown["dead_letters"][1]["value"],
        json!({"bytes": 11, "format": "json", "content": {"id": "v"}, "text": null,
            "remark": null})
    );

    let one = server
        .get("/api/v1/dead-letters?topic=accounts&reason=")
        .json();
    let letter = &one["dead_letters"][0];
    assert_eq!(one["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &letter["partition"],
            &letter["timestamp"],
            &letter["message"]
        ),
        (
            &json!(2),
            &json!(1_700_000_000_000_i64),
            &json!("id: too long")
        )
    );
    assert_eq!(letter["value"]["content"], json!({"id": "ab"}));
    assert_eq!(letter["value"]["remark"], "schema 7; 1 bytes are left over");
    assert_eq!(letter["headers"], json!([{"name": "trace", "value": "t"}]));
    assert!(letter["reason_text"].as_str().unwrap().contains("schema"));
    assert!(!letter["remedy"].as_str().unwrap().is_empty());

    let tag = reply.header("etag").to_owned();
    let again = server.send(
        "GET",
        "/api/v1/dead-letters?limit=2",
        &[("if-none-match", &tag)],
    );
    assert_eq!(again.code, 304);
    let wrong = server.get("/api/v1/dead-letters?limt=2");
    assert_eq!(wrong.code, 400);
    assert!(wrong.json()["hint"].as_str().unwrap().contains("reason"));
}

#[test]
fn a_letter_whose_schema_is_still_asked_for_is_not_cached() {
    let server = Server::start();
    server.read_model.publish_dead_letters(vec![letter(
        "accounts",
        Reason::AvroDecode,
        1,
        &[0, 0, 0, 0, 8, 4, b'a', b'b'],
    )]);
    let reply = server.get("/api/v1/dead-letters");
    assert_eq!((reply.code, reply.header("etag")), (200, ""));
    let value = &reply.json()["dead_letters"][0]["value"];
    assert_eq!(value["format"], "hex");
    assert!(value["remark"].as_str().unwrap().starts_with("schema 8: "));
}

/// A letter whose value is JSON.
pub fn json_letter() -> KeptLetter {
    letter("visits", Reason::WireFormat, 2, br#"{"id": "v"}"#)
}
