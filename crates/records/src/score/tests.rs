use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use leadpulse_schema::{FolderRegistry, Frame, SchemaRef};

use super::*;
use crate::alert::{
    ALERT_SCHEMA, Alert, AlertPart, Committee, CommitteeMember, EXPLAIN_METHOD, OpenOpportunity,
    RecentEvent,
};
use crate::codec::RecordCodec;
use crate::policy_state::{POLICY_STATE_SCHEMA, PolicyStateRecord};
use crate::symbol::TypeName;

/// A codec under the id that a folder of schemas gives.
fn codec(schema: &str) -> RecordCodec {
    RecordCodec::new(schema, FolderRegistry::id_of(schema).unwrap())
}

/// A lookup that knows no schema.
fn nothing(schema: &SchemaRef) -> Result<Arc<str>, String> {
    Err(format!("{schema:?}"))
}

/// Reads a value with apache-avro and the shipped schema, as a consumer does.
fn read(schema: &str, value: &[u8]) -> Json {
    let frame = Frame::parse(value, std::iter::empty()).unwrap();
    assert_eq!(
        frame.schema,
        SchemaRef::Id(FolderRegistry::id_of(schema).unwrap())
    );
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut body = frame.body;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
        .build()
        .unwrap();
    let value = reader.read_value(&mut body).unwrap();
    assert!(body.is_empty(), "{} bytes are left", body.len());
    Json::try_from(value).unwrap()
}

/// Checks that a record reads back as written. With `filled`, each field of the schema has a value.
fn check<T: Serialize>(schema: &str, record: &T, filled: bool) {
    let bytes = codec(schema).encode(record);
    let (written, read) = (serde_json::to_value(record).unwrap(), read(schema, &bytes));
    assert_eq!(written, read);
    let declared: Json = serde_json::from_str(schema).unwrap();
    for field in declared["fields"].as_array().unwrap() {
        let value = &read[field["name"].as_str().unwrap()];
        let is_empty = value.is_null() || *value == json!([]) || *value == json!({});
        assert!(
            !filled || !is_empty,
            "{} is {value}: fill it, so that it is tested",
            field["name"]
        );
    }
}

fn driver() -> Driver {
    Driver {
        group: "engagement".into(),
        label: "Engagement".into(),
        contribution: 1.25e-3,
        share: 100,
        value: Some("3 visits".into()),
        evidence: vec!["pricing page, 2 h ago".into(), "Ünïcödé".into()],
        event_ids: vec!["e1".into(), "e2".into()],
    }
}

fn score() -> Score {
    Score {
        task: "buys_90d".into(),
        entity_type: "accounts".into(),
        entity_id: "A-1".into(),
        account_id: Some("A-1".into()),
        epoch: i64::MAX,
        sequence: 7,
        as_of: 1_700_000_000_123,
        status: Symbol("scored"),
        reason: Some("why".into()),
        probability: Some(0.1 + 0.2),
        logit: Some(-0.8473),
        score: Some(30.000_000_000_000_004),
        band: Some("hot".into()),
        previous_band: Some("warm".into()),
        previous_probability: Some(f64::MIN_POSITIVE),
        previous_score: Some(f64::MIN_POSITIVE * 100.0),
        previous_as_of: Some(1_600_000_000_123),
        percentile: Some(99.5),
        rank: Some(1),
        ranked: Some(200),
        trend: Symbol("improving"),
        velocity_per_day: Some(1.5),
        acceleration_per_day2: Some(-0.25),
        cause: Symbol("bundle_swap"),
        horizon_days: Some(90),
        bundle_id: Some("b".into()),
        plan_hash: Some("p".into()),
        board: -1,
        drivers: vec![driver()],
        base_logit: Some(-3.5),
        drivers_as_of: Some(1),
        change_since: Some(-1),
        change_drivers: vec![Driver {
            contribution: -0.5,
            share: 0,
            ..driver()
        }],
        top_signal: Some("Engagement: 3 visits".into()),
        recommended_action: Some("call".into()),
        recommended_action_label: Some("Call".into()),
        committee: Some(ScoreCommittee {
            active_contacts_14d: 2,
            departments: vec!["IT".into()],
            seniority_max: Some("VP".into()),
            by_field: by_field(),
            highest: highest(),
        }),
        trace: vec!["e1".into(), "e2".into()],
        quality: Some("provisional".into()),
        probability_low: Some(0.2),
        probability_high: Some(0.45),
        sub_scores: Some(sub_scores()),
        compared_values: vec![
            ComparedValue {
                group: "engagement".into(),
                label: "pricing".into(),
                number: Some(4.75),
                text: None,
                number_before: Some(2.0),
                text_before: None,
            },
            ComparedValue {
                group: "opportunities".into(),
                label: "stage of Renewal".into(),
                number: None,
                text: Some("Proposal".into()),
                number_before: None,
                text_before: Some("Discovery".into()),
            },
        ],
    }
}

fn sub_scores() -> SubScores {
    SubScores {
        fit: 80.0,
        behaviour: 35.5,
        relations: 50.0,
        timing: 12.25,
    }
}

fn by_field() -> BTreeMap<String, Vec<String>> {
    [
        ("department".to_owned(), vec!["IT".to_owned()]),
        (
            "seniority".to_owned(),
            vec!["IC".to_owned(), "VP".to_owned()],
        ),
    ]
    .into()
}

fn highest() -> BTreeMap<String, String> {
    [("seniority".to_owned(), "VP".to_owned())].into()
}

fn event() -> RecentEvent {
    RecentEvent {
        event_id: "e1".into(),
        table: "activities".into(),
        kind: Some("demo_request".into()),
        occurred_at: 5,
        contact_id: Some("C-1".into()),
    }
}

fn alert() -> Alert {
    let member = CommitteeMember {
        contact_id: "C-1".into(),
        title: Some("CTO".into()),
        department: Some("IT".into()),
        seniority: Some("C-Level".into()),
        last_activity_at: Some(4),
        active_days_14d: 3,
    };
    let committee = Committee {
        active_contacts_14d: 1,
        departments: vec!["IT".into()],
        seniority_max: Some("C-Level".into()),
        by_field: by_field(),
        highest: highest(),
        members: vec![member],
    };
    let opportunity = OpenOpportunity {
        opportunity_id: "O-1".into(),
        stage: Some("Proposal".into()),
        amount: Some(1e5),
        close_date: Some(9),
    };
    Alert {
        alert_id: "c731e530-b2b1-80f4-ae8e-3d7be9780753".into(),
        r#type: TypeName("threshold_up"),
        severity: Symbol("P1"),
        state: Symbol("open"),
        dedupe_key: Some("k".into()),
        supersedes_alert_id: Some("s".into()),
        task: "buys_90d".into(),
        entity_type: "leads".into(),
        entity_id: "L-1".into(),
        account_id: Some("A-1".into()),
        account_name: Some("Acme".into()),
        domain: Some("acme.example".into()),
        lead_id: Some("L-1".into()),
        contact_id: Some("C-1".into()),
        owner_id: Some("U-1".into()),
        region: Some("EMEA".into()),
        segment: Some("Enterprise".into()),
        industry: Some("Software".into()),
        probability: 0.7,
        probability_low: Some(0.6),
        probability_high: Some(0.8),
        score: 70.0,
        previous_probability: Some(0.4),
        previous_score: Some(40.0),
        previous_as_of: Some(8),
        delta: Some(30.0),
        threshold: Some(0.5),
        band: Some("hot".into()),
        previous_band: Some("warm".into()),
        percentile: Some(99.5),
        rank: Some(1),
        ranked: Some(200),
        trend: Symbol("declining"),
        velocity_per_day: Some(-1.5),
        horizon_days: Some(90),
        target: Some("PREDICT …".into()),
        drivers: vec![
            driver(),
            Driver {
                contribution: -0.5,
                share: 0,
                value: None,
                evidence: vec![],
                ..driver()
            },
        ],
        base_logit: Some(-3.5),
        drivers_as_of: Some(6),
        change_since: Some(7),
        change_drivers: vec![driver()],
        top_signal: Some("Engagement: 3 visits".into()),
        summary: Some("Acme rose above 50 %.".into()),
        explain_method: Some(EXPLAIN_METHOD.into()),
        committee: Some(committee),
        last_events: vec![
            event(),
            RecentEvent {
                kind: None,
                contact_id: None,
                ..event()
            },
        ],
        open_opportunities: vec![opportunity],
        trigger: Some(event()),
        recommended_action: Some("call".into()),
        recommended_action_label: Some("Call".into()),
        suggested_contact_id: Some("C-1".into()),
        sla_minutes: Some(30),
        expires_at: Some(6),
        do_not_contact: Some(true),
        value_at_stake: Some(1e5),
        is_customer: true,
        hold_out: true,
        parts: vec![AlertPart {
            alert_id: "p".into(),
            r#type: TypeName("new_executive"),
            severity: Symbol("P2"),
            state: Symbol("resolved"),
            task: "other".into(),
            entity_type: "contacts".into(),
            entity_id: "C-1".into(),
            probability: 0.1,
        }],
        as_of: 1_700_000_000_123,
        crossed_at: 1_700_000_000_000,
        occurred_at: Some(5),
        epoch: 3,
        bundle_id: Some("b".into()),
        plan_hash: Some("p".into()),
        board: 4,
        trace: vec!["e1".into()],
        sub_scores: Some(sub_scores()),
    }
}

#[test]
fn every_record_reads_back_as_it_was_written() {
    check(SCORE_SCHEMA, &score(), true);
    let ineligible = Score {
        account_id: None,
        status: Symbol("ineligible"),
        probability: None,
        logit: None,
        score: None,
        band: None,
        previous_band: None,
        previous_probability: None,
        previous_score: None,
        previous_as_of: None,
        percentile: None,
        rank: None,
        ranked: None,
        trend: Symbol("unknown"),
        velocity_per_day: None,
        acceleration_per_day2: None,
        horizon_days: None,
        drivers: vec![],
        base_logit: None,
        drivers_as_of: None,
        change_since: None,
        change_drivers: vec![],
        top_signal: None,
        recommended_action: None,
        recommended_action_label: None,
        committee: None,
        trace: vec![],
        probability_low: None,
        probability_high: None,
        sub_scores: None,
        compared_values: vec![],
        ..score()
    };
    check(SCORE_SCHEMA, &ineligible, false);
    check(ALERT_SCHEMA, &alert(), true);
    let sparse = Alert {
        committee: None,
        trigger: None,
        open_opportunities: vec![],
        parts: vec![],
        ..alert()
    };
    check(ALERT_SCHEMA, &sparse, false);
    let state = PolicyStateRecord {
        task: "t".into(),
        entity_type: "accounts".into(),
        entity_id: "A-1".into(),
        epoch: 3,
        band: Some("hot".into()),
        state: r#"{"level":1}"#.into(),
        alerts: Some(r#"{"level":2}"#.into()),
        listed: Some(-1.25),
        awaits_score: Some(true),
        ranked_by: Some(0.75),
    };
    check(POLICY_STATE_SCHEMA, &state, true);
    let none = PolicyStateRecord {
        band: None,
        alerts: None,
        ..state
    };
    check(POLICY_STATE_SCHEMA, &none, false);
}

#[test]
fn every_trend_cause_and_severity_is_a_symbol_of_its_schema() {
    for trend in ["improving", "steady", "declining", "unknown"] {
        for cause in [
            "event",
            "board",
            "timer",
            "bundle_swap",
            "closing",
            "unknown",
        ] {
            let record = Score {
                trend: Symbol(trend),
                cause: Symbol(cause),
                ..score()
            };
            check(SCORE_SCHEMA, &record, false);
        }
        for severity in ["P1", "P2", "P3"] {
            let record = Alert {
                trend: Symbol(trend),
                severity: Symbol(severity),
                ..alert()
            };
            check(ALERT_SCHEMA, &record, false);
        }
    }
}

#[test]
fn scores_and_alerts_read_back_without_a_registry() {
    let read_score: Score = codec(SCORE_SCHEMA)
        .read(&codec(SCORE_SCHEMA).encode(&score()), nothing)
        .unwrap();
    assert_eq!(read_score, score());
    let read_alert: Alert = codec(ALERT_SCHEMA)
        .read(&codec(ALERT_SCHEMA).encode(&alert()), nothing)
        .unwrap();
    assert_eq!(read_alert, alert());
    let bytes = codec(ALERT_SCHEMA).encode(&alert());
    let refused = codec(SCORE_SCHEMA).read::<Score, _>(&bytes[..9], nothing);
    assert!(refused.is_err(), "half an alert is no score");
}

/// Records as each release wrote them that changed a schema: `NAME HEX` in a line.
const FIXTURES: &str = include_str!("fixtures.txt");

#[test]
fn records_are_the_bytes_of_their_fixtures() {
    let state = PolicyStateRecord {
        task: "t".into(),
        entity_type: "accounts".into(),
        entity_id: "A-1".into(),
        epoch: 3,
        band: Some("hot".into()),
        state: r#"{"level":1}"#.into(),
        alerts: Some(r#"{"level":2}"#.into()),
        listed: Some(-1.25),
        awaits_score: Some(true),
        ranked_by: Some(0.75),
    };
    let written = [
        ("score-4", codec(SCORE_SCHEMA).encode(&score())),
        ("alert-3", codec(ALERT_SCHEMA).encode(&alert())),
        ("policy-state-4", codec(POLICY_STATE_SCHEMA).encode(&state)),
    ];
    for (name, bytes) in written {
        let line = format!("{name} {}", leadpulse_schema::hex(&bytes));
        assert!(
            FIXTURES.lines().any(|fixture| fixture == line),
            "{name} is written otherwise: a schema that changes needs a fixture of its own\n{line}"
        );
    }
}

/// Bytes of a fixture.
fn fixture(name: &str) -> Vec<u8> {
    let mut lines = FIXTURES.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.expect("the fixture is kept");
    let byte = |at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap();
    (0..line.len() / 2).map(byte).collect()
}

/// Reads a fixture under the schema that wrote it.
fn read_older<T: serde::de::DeserializeOwned>(now: &str, before: &'static str, name: &str) -> T {
    let lookup = |_: &SchemaRef| Ok::<Arc<str>, String>(before.into());
    codec(now).read(&fixture(name), lookup).unwrap()
}

#[test]
fn records_of_the_schemas_before_are_read() {
    let expected = Alert {
        sub_scores: None,
        ..alert()
    };
    let before = include_str!("../../../../schemas/outputs/versions/alert-2.avsc");
    assert_eq!(
        read_older::<Alert>(ALERT_SCHEMA, before, "alert-2"),
        expected
    );
    let older = Alert {
        previous_as_of: None,
        drivers_as_of: None,
        do_not_contact: Some(false),
        value_at_stake: None,
        is_customer: false,
        hold_out: false,
        parts: vec![],
        crossed_at: 0,
        summary: Some("Acme rose above 50 %.".into()),
        ..expected
    };
    let before = include_str!("../../../../schemas/outputs/versions/alert-1.avsc");
    assert_eq!(read_older::<Alert>(ALERT_SCHEMA, before, "alert-1"), older);
    let expected = Score {
        sub_scores: None,
        compared_values: vec![],
        ..score()
    };
    let before = include_str!("../../../../schemas/outputs/versions/score-3.avsc");
    assert_eq!(
        read_older::<Score>(SCORE_SCHEMA, before, "score-3"),
        expected
    );
    let before = include_str!("../../../../schemas/outputs/versions/policy_state-3.avsc");
    let read: PolicyStateRecord = read_older(POLICY_STATE_SCHEMA, before, "policy-state-3");
    assert_eq!(read.listed, Some(-1.25));
    assert_eq!((read.awaits_score, read.ranked_by), (None, None));
}
