use std::sync::Arc;

use serde_json::{Value as Json, json};

use leadpulse_schema::FolderRegistry;

use super::*;
use crate::epoch::{
    ClockState, DecidedRange, EpochRecord, Layout, LayoutPartition, PartitionInterval, ReasonCount,
    ScriptRecord,
};

struct Folder;

impl SchemaStore for Folder {
    fn lookup(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
        let shipped = [SCORE, ALERT, EPOCH, EPOCH_V1, LAYOUT, POLICY_STATE];
        let found = shipped
            .into_iter()
            .find(|json| FolderRegistry::id_of(json).is_ok_and(|id| *schema == SchemaRef::Id(id)));
        found
            .map(Arc::from)
            .ok_or_else(|| SchemaLookupError::Unknown(format!("{schema:?}")))
    }
    fn id_of(&self, _: &str, json: &str) -> Result<u32, SchemaLookupError> {
        FolderRegistry::id_of(json).map_err(|e| SchemaLookupError::Unknown(e.to_string()))
    }
}

/// What a reader with apache-avro and the shipped schema sees.
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

/// What was written is what is read, and every field of the schema is among it.
fn check<T: Serialize>(schema: &str, record: &T, bytes: &[u8], filled: bool) {
    let (written, read) = (serde_json::to_value(record).unwrap(), read(schema, bytes));
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

fn score() -> ScoreRecord {
    ScoreRecord {
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

fn alert() -> AlertRecord {
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
    AlertRecord {
        alert_id: "c731e530-b2b1-80f4-ae8e-3d7be9780753".into(),
        r#type: TypeName("threshold_up"),
        severity: Symbol("P1"),
        state: Symbol("open"),
        ordinal: 2,
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
        crm_ids: [
            ("salesforce".to_owned(), "003".to_owned()),
            ("hubspot".to_owned(), "7".to_owned()),
        ]
        .into(),
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
        delta: Some(30.0),
        threshold: Some(0.5),
        band: Some("hot".into()),
        previous_band: Some("warm".into()),
        percentile: Some(99.5),
        rank: Some(1),
        ranked: Some(200),
        trend: Symbol("declining"),
        velocity_per_day: Some(-1.5),
        acceleration_per_day2: Some(0.5),
        baseline_score: Some(55.0),
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
        do_not_contact: Some(false),
        data_classes: vec!["contact".into()],
        as_of: 1_700_000_000_123,
        occurred_at: Some(5),
        epoch: 3,
        bundle_id: Some("b".into()),
        plan_hash: Some("p".into()),
        board: 4,
        trace: vec!["e1".into()],
    }
}

fn epoch() -> EpochRecord {
    let range = |start, end, reason: &str| DecidedRange {
        partition: 1,
        start,
        end,
        reason: reason.into(),
    };
    EpochRecord {
        version: 2,
        lane: 0,
        layout: 3,
        worker: "w".into(),
        program: "leadpulse/0.1.0".into(),
        epoch: 12,
        nonce: "00000000000000ff".into(),
        owner: "0123456789abcdef0123456789abcdef".into(),
        as_of: 1_700_000_000_123,
        board: 472_222,
        deployed: "aa".into(),
        bundle_id: Some("b".into()),
        plan_hash: Some("p".into()),
        catalog_fingerprint: "f".into(),
        partitions: vec![
            PartitionInterval {
                start: 5,
                end: 9,
                read: 3,
            },
            PartitionInterval {
                start: i64::MAX - 1,
                end: i64::MAX,
                read: 1,
            },
        ],
        clock: ClockState {
            live_at: Some(1_700_000_000_123),
            bound_at: Some(1_700_000_000_124),
            newest_event_at: Some(-1),
        },
        closing: true,
        refused: vec![range(6, 7, "unknown_schema")],
        skipped: vec![range(7, 8, "damaged")],
        accepted: 1,
        duplicate: 2,
        late: 3,
        future: 4,
        dead_lettered: vec![ReasonCount {
            reason: "wire_format".into(),
            count: 7,
        }],
        scored: 5,
        scores: 6,
        alerts: 7,
        digest: "d".into(),
        sections: [("later".to_owned(), vec![0, 1, 255])].into(),
    }
}

fn layout() -> Layout {
    let partition = |partition| LayoutPartition {
        topic: "crm.accounts.v1".into(),
        partition,
    };
    Layout {
        version: 1,
        lane: 0,
        layout: 3,
        partitions: vec![partition(0), partition(1)],
    }
}

#[test]
fn every_record_reads_back_as_it_was_written() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    check(SCORE, &score(), &encoders.score(&score()), true);
    let ineligible = ScoreRecord {
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
        ..score()
    };
    check(SCORE, &ineligible, &encoders.score(&ineligible), false);
    check(ALERT, &alert(), &encoders.alert(&alert()), true);
    let sparse = AlertRecord {
        committee: None,
        trigger: None,
        open_opportunities: vec![],
        crm_ids: Default::default(),
        ..alert()
    };
    check(ALERT, &sparse, &encoders.alert(&sparse), false);
    check(EPOCH, &epoch(), &encoders.epoch(&epoch()), true);
    check(LAYOUT, &layout(), &encoders.layout(&layout()), true);
    let state = PolicyStateRecord {
        task: "t".into(),
        entity_type: "accounts".into(),
        entity_id: "A-1".into(),
        epoch: 3,
        band: Some("hot".into()),
        state: r#"{"level":1}"#.into(),
    };
    check(POLICY_STATE, &state, &encoders.policy_state(&state), true);
    let none = PolicyStateRecord {
        band: None,
        ..state
    };
    check(POLICY_STATE, &none, &encoders.policy_state(&none), false);
}

#[test]
fn every_name_the_engine_writes_is_a_symbol() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    for trend in ["improving", "steady", "declining", "unknown"] {
        for cause in [
            "event",
            "board",
            "timer",
            "bundle_swap",
            "closing",
            "unknown",
        ] {
            let record = ScoreRecord {
                trend: Symbol(trend),
                cause: Symbol(cause),
                ..score()
            };
            check(SCORE, &record, &encoders.score(&record), false);
        }
        for severity in ["P1", "P2", "P3"] {
            let record = AlertRecord {
                trend: Symbol(trend),
                severity: Symbol(severity),
                ..alert()
            };
            check(ALERT, &record, &encoders.alert(&record), false);
        }
    }
}

/// Records of the epochs topic as they were written by each release that changed their format: `NAME HEX` in a line.
const FIXTURES: &str = include_str!("fixtures.txt");

fn fixture(name: &str) -> Vec<u8> {
    let line = FIXTURES
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no fixture {name}"));
    (0..line.len() / 2)
        .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// Format 1 had fewer fields and named partitions; the rest is as today.
fn epoch_of_format_1() -> EpochRecord {
    EpochRecord {
        version: 1,
        layout: 0,
        program: String::new(),
        nonce: String::new(),
        owner: String::new(),
        deployed: String::new(),
        partitions: vec![
            PartitionInterval {
                start: 5,
                end: 9,
                read: 4,
            },
            PartitionInterval {
                start: i64::MAX - 1,
                end: i64::MAX,
                read: 1,
            },
        ],
        clock: ClockState {
            bound_at: None,
            ..epoch().clock
        },
        refused: vec![],
        skipped: vec![],
        sections: Default::default(),
        ..epoch()
    }
}

#[test]
fn records_of_every_format_are_read_whatever_the_registry_knows() {
    /// Gives its own ids, and knows no other.
    struct Forgetful;
    impl SchemaStore for Forgetful {
        fn lookup(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
            Err(SchemaLookupError::Unknown(format!("{schema:?}")))
        }
        fn id_of(&self, subject: &str, _: &str) -> Result<u32, SchemaLookupError> {
            Ok(subject.len() as u32)
        }
    }
    let layout_of_format_1 = Layout {
        layout: 0,
        ..layout()
    };
    let cases = [
        (
            "epoch-1",
            vec![
                ScriptRecord::Layout(layout_of_format_1),
                ScriptRecord::Epoch(Box::new(epoch_of_format_1())),
            ],
        ),
        ("epoch-2", vec![ScriptRecord::Epoch(Box::new(epoch()))]),
    ];
    for encoders in [
        OutputEncoders::new(&Folder).unwrap(),
        OutputEncoders::new(&Forgetful).unwrap(),
    ] {
        for (name, expected) in &cases {
            assert_eq!(
                encoders.read_script(&fixture(name)).unwrap(),
                *expected,
                "{name}"
            );
        }
        let bare = EpochRecord {
            bundle_id: None,
            clock: ClockState::default(),
            dead_lettered: vec![],
            partitions: vec![],
            refused: vec![],
            sections: Default::default(),
            ..epoch()
        };
        assert_eq!(
            encoders.read_script(&encoders.epoch(&bare)).unwrap(),
            [ScriptRecord::Epoch(Box::new(bare))]
        );
        let truncated = fixture("epoch-2");
        let error = encoders
            .read_script(&truncated[..truncated.len() - 1])
            .unwrap_err();
        assert!(
            matches!(&error, PortError::Fatal(failure) if failure.message().contains("epoch record")),
            "{error}"
        );
    }
    let encoders = OutputEncoders::new(&Folder).unwrap();
    assert_eq!(
        encoders.epoch(&epoch()),
        fixture("epoch-2"),
        "what is written today is format 2: a change needs a format 3"
    );
    // A layout travels in the first epoch that refers to it.
    assert_eq!(encoders.layout(&layout()), fixture("layout-1"));
    let introducing = EpochRecord {
        sections: [("layout".to_owned(), fixture("layout-1"))].into(),
        ..epoch()
    };
    let expected = [
        ScriptRecord::Layout(layout()),
        ScriptRecord::Epoch(Box::new(introducing.clone())),
    ];
    assert_eq!(
        encoders.read_script(&encoders.epoch(&introducing)).unwrap(),
        expected
    );
}

#[test]
fn scores_alerts_and_states_read_back() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    assert_eq!(
        encoders
            .read_score(&encoders.score(&score()), &Folder)
            .unwrap(),
        score()
    );
    assert_eq!(
        encoders
            .read_alert(&encoders.alert(&alert()), &Folder)
            .unwrap(),
        alert()
    );
    let error = encoders
        .read_score(&encoders.alert(&alert())[..9], &Folder)
        .unwrap_err();
    assert!(error.to_string().contains("score record"), "{error}");
}
