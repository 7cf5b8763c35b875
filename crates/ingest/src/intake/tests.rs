use ring::hmac;
use serde_json::{Value as Json, json};

use super::*;

const SECRET: &str = "0123456789abcdef";

fn intake() -> Intake {
    let options: IngestOptions = toml::from_str(
        r#"
        records = 3
        [segment]
        secret = "0123456789abcdef"
        topic = "segment.calls"
        [hubspot]
        secret = "0123456789abcdef"
        url = "https://ingest.example"
        contacts = "hubspot.contacts"
        [marketo]
        token = "0123456789abcdef"
        leads = "marketo.leads"
        activities = "marketo.activities"
        [json]
        token = "0123456789abcdef"
        topics = ["app.usage", "app.users"]
        "#,
    )
    .unwrap();
    Intake::new(&options).unwrap()
}

/// A call with the right signature or token.
fn genuine(source: IngestSource, query: &str, body: &str) -> IngestCall {
    let path_and_query = format!("/v1/ingest/{}{query}", source.name());
    let tag = |algorithm, text: &str| {
        let key = hmac::Key::new(algorithm, SECRET.as_bytes());
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let headers = match source {
        IngestSource::Segment => {
            let tag = tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, body);
            let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
            vec![("x-signature", hex)]
        }
        IngestSource::Hubspot => {
            use base64::Engine as _;
            let signed = format!("POSThttps://ingest.example{path_and_query}{body}0");
            let tag = tag(hmac::HMAC_SHA256, &signed);
            let text = base64::engine::general_purpose::STANDARD.encode(tag);
            vec![
                ("x-hubspot-signature-v3", text),
                ("x-hubspot-request-timestamp", "0".into()),
            ]
        }
        IngestSource::Marketo => vec![("x-leadpulse-token", SECRET.into())],
        IngestSource::Json => vec![("authorization", format!("Bearer {SECRET}"))],
    };
    IngestCall {
        source,
        path_and_query,
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
        body: body.into(),
    }
}

/// Topic, key and value of each record; the words of others.
fn taken(source: IngestSource, query: &str, body: &str) -> Vec<(String, String, Json)> {
    let taken = intake().take(&genuine(source, query, body), 0).unwrap();
    let shown = taken.into_iter().map(|one| match one {
        Taken::Record(record) => {
            let key = record.key.map(|key| String::from_utf8(key).unwrap());
            let value = serde_json::from_slice(&record.value).unwrap();
            (record.topic, key.unwrap_or_default(), value)
        }
        Taken::Refused(reason) => ("refused".into(), reason, Json::Null),
        Taken::Ignored(reason) => ("ignored".into(), reason, Json::Null),
    });
    shown.collect()
}

#[test]
fn nothing_is_looked_at_without_a_right_signature() {
    for source in IngestSource::ALL {
        let call = genuine(source, "?topic=app.usage", "not even json");
        assert_eq!(
            intake().take(&call, 0).unwrap_err().status,
            400,
            "{source:?}"
        );
        for index in 0..call.headers.len() {
            let mut wrong = call.clone();
            wrong.headers[index].1.replace_range(..1, "~");
            assert_eq!(
                intake().take(&wrong, 0).unwrap_err().status,
                401,
                "{source:?}"
            );
        }
        let without = IngestCall {
            headers: vec![],
            ..call.clone()
        };
        assert_eq!(
            intake().take(&without, 0).unwrap_err().status,
            401,
            "{source:?}"
        );
        let nothing = Intake::new(&IngestOptions::default()).unwrap();
        assert_eq!(
            nothing.take(&call, 0).unwrap_err().status,
            404,
            "{source:?}"
        );
    }
}

#[test]
fn a_call_of_segment_is_a_record_of_its_user_or_group() {
    let track = json!({"messageId": "m1", "type": "track", "userId": "C-1"});
    let group = json!({"messageId": "m2", "type": "group", "userId": "C-1", "groupId": "A-1"});
    let anonymous = json!({"messageId": "m3", "type": "page", "anonymousId": "an-1"});
    let topic = "segment.calls".to_owned();
    let body = json!({"batch": [track, group, anonymous]}).to_string();
    assert_eq!(
        taken(IngestSource::Segment, "", &body),
        [
            (topic.clone(), "C-1".into(), track.clone()),
            (topic.clone(), "A-1".into(), group),
            (topic.clone(), "an-1".into(), anonymous),
        ]
    );
    assert_eq!(
        taken(IngestSource::Segment, "", &track.to_string()),
        [(topic, "C-1".into(), track)]
    );
    let found = taken(IngestSource::Segment, "", r#"[{"type": "track"}, 7]"#);
    assert!(found.iter().all(|one| one.0 == "refused"), "{found:?}");
}

#[test]
fn a_single_value_keeps_its_bytes() {
    let body = r#"{ "messageId":"m1",  "type":"track", "n": 123456789012345678901234567890 }"#;
    let taken = intake()
        .take(&genuine(IngestSource::Segment, "", body), 0)
        .unwrap();
    let [Taken::Record(record)] = &taken[..] else {
        panic!("{taken:?}");
    };
    assert_eq!(record.value, body.as_bytes());
}

#[test]
fn an_event_of_hubspot_is_a_change_of_its_object() {
    let event = |subscription: &str, rest: Json| {
        let mut event = json!({"eventId": 1, "subscriptionType": subscription, "objectId": 123, "occurredAt": 1_738_142_100_123_i64});
        event
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        event
    };
    let one = |event: Json| taken(IngestSource::Hubspot, "", &json!([event]).to_string()).remove(0);
    let moment = "2025-01-29T09:15:00.123Z";
    let record = |value: Json| ("hubspot.contacts".to_owned(), "123".to_owned(), value);
    let email = json!({"propertyName": "email", "propertyValue": "a@b.example"});
    let expected = json!({
        "id": "123", "operation": "update", "changed": ["id", "properties.email", "updatedAt"],
        "properties": {"email": "a@b.example"}, "updatedAt": moment,
    });
    assert_eq!(
        one(event("contact.propertyChange", email.clone())),
        record(expected.clone())
    );
    let mut generic = event("object.propertyChange", email);
    generic["objectTypeId"] = "0-1".into();
    assert_eq!(one(generic), record(expected));
    let emptied = one(event(
        "contact.propertyChange",
        json!({"propertyName": "email", "propertyValue": ""}),
    ));
    assert_eq!(emptied.2["properties"], json!({"email": null}));
    assert_eq!(
        one(event("contact.deletion", json!({}))),
        record(json!({"id": "123", "operation": "delete", "updatedAt": moment}))
    );
    let created = one(event("contact.creation", json!({})));
    assert_eq!(
        created.2["changed"],
        json!(["id", "createdAt", "updatedAt"])
    );
    for (subscription, fate) in [
        ("contact.merge", "ignored"),
        ("deal.propertyChange", "ignored"),
        ("contact.propertyChange", "refused"),
        ("contact", "refused"),
    ] {
        assert_eq!(
            one(event(subscription, json!({}))).0,
            fate,
            "{subscription}"
        );
    }
    let mut timeless = event("contact.creation", json!({}));
    timeless["occurredAt"] = Json::Null;
    assert_eq!(one(timeless).0, "refused");
}

#[test]
fn leads_and_activities_of_marketo_have_topics_of_their_own() {
    let lead = json!({"id": 1001, "email": "a@b.example"});
    let activity = json!({"marketoGUID": "102988", "leadId": 1001, "activityTypeId": 10});
    let body = json!([lead, activity, {"activityTypeId": 1, "leadId": 7}]).to_string();
    let found = taken(IngestSource::Marketo, "", &body);
    assert_eq!(found[0], ("marketo.leads".into(), "1001".into(), lead));
    assert_eq!(
        found[1],
        ("marketo.activities".into(), "1001".into(), activity)
    );
    assert_eq!(found[2].0, "refused");
}

#[test]
fn records_of_programs_come_in_lines_or_lists_to_a_topic_that_they_name() {
    let lines = "{\"id\": 1, \"user\": {\"id\": \"u1\"}}\n\n{\"id\": 2}\n";
    let found = taken(IngestSource::Json, "?topic=app.usage&key=user.id", lines);
    assert_eq!(found[0].0, "app.usage");
    assert_eq!(found[0].1, "u1");
    assert_eq!(found[1].0, "refused");
    let found = taken(
        IngestSource::Json,
        "?topic=app.users",
        "[{\"id\": 1}, [], null]",
    );
    let fates: Vec<&str> = found.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(fates, ["app.users", "refused", "refused"]);
    for (query, body, status) in [
        ("", "{}", 400),
        ("?topic=others", "{}", 400),
        ("?topic=app.usage", "{}\n{", 400),
        ("?topic=app.usage", "[{},{},{},{}]", 413),
    ] {
        let refused = intake().take(&genuine(IngestSource::Json, query, body), 0);
        assert_eq!(refused.unwrap_err().status, status, "{query} {body}");
    }
}
