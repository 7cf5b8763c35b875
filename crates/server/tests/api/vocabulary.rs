//! Names of fields.

use leadpulse_records::{ALERT_SCHEMA, SCORE_SCHEMA};
use serde_json::Value;

use crate::support::Server;

/// Names of the fields of an Avro record schema.
fn fields_of(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    fields
        .iter()
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn answers_have_the_field_names_of_the_topics() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &["A"]);
    let scores = server.get("/api/v1/scores?view=full").json();
    let alerts = server.get("/api/v1/alerts?view=full").json();
    let entity = server.get("/api/v1/accounts/A").json();
    let score = &["name", "facts"][..];
    let alert = &["name", "ruling", "feedback"][..];
    for (found, schema, added) in [
        (
            &scores["scores"][0],
            SCORE_SCHEMA,
            &["place", "name", "facts", "ruling"][..],
        ),
        (&entity["scores"][0], SCORE_SCHEMA, score),
        (&alerts["alerts"][0], ALERT_SCHEMA, alert),
        (&entity["alerts"][0], ALERT_SCHEMA, alert),
    ] {
        let mut expected = fields_of(schema);
        expected.extend(added.iter().map(|name| (*name).to_owned()));
        let mut names: Vec<String> = found.as_object().unwrap().keys().cloned().collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }
}
