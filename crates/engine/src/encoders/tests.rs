use leadpulse_records::{HeldUntil, WorkListEntry};
use leadpulse_schema::{FolderRegistry, SchemaRef, WriterSchema};
use serde_json::{Value as Json, json};

use super::*;
use crate::epoch::{
    ClockState, DecidedRange, LayoutPartition, PartitionInterval, ReasonCount, TickClosing,
};

struct Folder;

impl SchemaStore for Folder {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        let shipped = [
            SCORE_SCHEMA,
            ALERT_SCHEMA,
            EPOCH,
            EPOCH_V1,
            LAYOUT,
            POLICY_STATE_SCHEMA,
            WORK_LIST_SCHEMA,
            EXPOSURE_SCHEMA,
            ERASURE_PROOF_SCHEMA,
        ];
        let found = shipped
            .into_iter()
            .find(|json| FolderRegistry::id_of(json).is_ok_and(|id| *schema == SchemaRef::Id(id)));
        found
            .map(WriterSchema::avro)
            .ok_or_else(|| SchemaLookupError::Unknown(format!("{schema:?}")))
    }
    fn id_of(&self, _: &str, json: &str) -> Result<u32, SchemaLookupError> {
        FolderRegistry::id_of(json).map_err(|e| SchemaLookupError::Unknown(e.to_string()))
    }
}

/// Every field of the schema is filled, and reads back as it was written.
fn check<T: serde::Serialize>(codec: &RecordCodec, json: &str, record: &T) {
    let bytes = codec.encode(record);
    let frame = Frame::parse(&bytes, std::iter::empty()).unwrap();
    let schema = apache_avro::Schema::parse_str(json).unwrap();
    let mut body = frame.body;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
        .build()
        .unwrap();
    let read = Json::try_from(reader.read_value(&mut body).unwrap()).unwrap();
    assert!(body.is_empty(), "{} bytes are left", body.len());
    assert_eq!(serde_json::to_value(record).unwrap(), read);
    let declared: Json = serde_json::from_str(json).unwrap();
    for field in declared["fields"].as_array().unwrap() {
        let value = &read[field["name"].as_str().unwrap()];
        let is_empty = value.is_null() || *value == json!([]) || *value == json!({});
        assert!(
            !is_empty,
            "{} is {value}: fill it, so that it is tested",
            field["name"]
        );
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
        version: 4,
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
        unchanged: vec![ReasonCount {
            reason: "stale_version".into(),
            count: 8,
        }],
        remarked: vec![ReasonCount {
            reason: "stepped_back".into(),
            count: 9,
        }],
        live_from: Some(1_700_000_000_000),
        ticks: vec![TickClosing {
            tick: 1_700_000_010_000,
            positions: vec![7, i64::MAX],
        }],
        open_tick: Some(1_700_000_020_000),
        late_for_tick: 1,
    }
}

fn layout() -> PartitionLayout {
    let partition = |partition| LayoutPartition {
        topic: "crm.accounts.v1".into(),
        partition,
    };
    PartitionLayout {
        version: 1,
        lane: 0,
        layout: 3,
        partitions: vec![partition(0), partition(1)],
    }
}

/// Records of the epochs topic as they were written by each release that changed their format:
/// `NAME HEX` in a line.
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
        ..epoch_of_format_2()
    }
}

/// Format 2 had no counts of unchanged and remarked records.
fn epoch_of_format_2() -> EpochRecord {
    EpochRecord {
        version: 2,
        unchanged: vec![],
        remarked: vec![],
        ..epoch_of_format_3()
    }
}

/// Format 3 had no ticks.
fn epoch_of_format_3() -> EpochRecord {
    EpochRecord {
        version: 3,
        live_from: None,
        ticks: vec![],
        open_tick: None,
        late_for_tick: 0,
        ..epoch()
    }
}

#[test]
fn records_of_every_format_are_read_whatever_the_registry_knows() {
    /// Gives its own ids, and knows no other.
    struct Forgetful;
    impl SchemaStore for Forgetful {
        fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
            Err(SchemaLookupError::Unknown(format!("{schema:?}")))
        }
        fn id_of(&self, subject: &str, _: &str) -> Result<u32, SchemaLookupError> {
            Ok(subject.len() as u32)
        }
    }
    let encoders = OutputEncoders::new(&Folder).unwrap();
    assert_eq!(
        encoders.epoch(&epoch()),
        fixture("epoch-4"),
        "what is written today is format 4: a change needs a format 5; {}",
        leadpulse_schema::hex(&encoders.epoch(&epoch()))
    );
    let layout_of_format_1 = PartitionLayout {
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
        (
            "epoch-2",
            vec![ScriptRecord::Epoch(Box::new(epoch_of_format_2()))],
        ),
        (
            "epoch-3",
            vec![ScriptRecord::Epoch(Box::new(epoch_of_format_3()))],
        ),
        ("epoch-4", vec![ScriptRecord::Epoch(Box::new(epoch()))]),
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
            unchanged: vec![],
            remarked: vec![],
            ticks: vec![],
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
    // A layout travels in the first epoch that refers to it.
    let encoders = OutputEncoders::new(&Folder).unwrap();
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
fn epochs_and_layouts_read_back_as_written() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    check(&encoders.epoch, EPOCH, &epoch());
    check(&encoders.layout, LAYOUT, &layout());
}

#[test]
fn an_unreadable_score_names_its_kind() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    let layout = encoders.layout(&layout());
    let error = encoders.read_score(&layout[..9], &Folder).unwrap_err();
    assert!(error.to_string().contains("score record"), "{error}");
}

fn work_list() -> WorkList {
    let entry = WorkListEntry {
        entity_type: "contacts".into(),
        entity_id: "C1".into(),
        account_id: "A1".into(),
        name: Some("Kim".into()),
        quality: Some("sound".into()),
        probability: 0.5,
        logit: 1e-5,
        percentile: 99.5,
        rank: 1,
        ranked: 200,
        band: Some("hot".into()),
        trend: "steady".into(),
        top_group: Some("usage".into()),
        top_signal: Some("Usage (3 people)".into()),
        drivers_as_of: 1_700_000_000_000,
        summary: "Kim: 1 person active this week. 50 %.".into(),
        recommended_action: Some("call".into()),
        recommended_action_label: Some("Call".into()),
        suggested_contact_id: Some("C1".into()),
        value_at_stake: Some(5000.0),
        has_open_opportunity: true,
        listed_since: 1_700_000_000_000,
    };
    WorkList {
        task: "t".into(),
        owner_id: Some("ann".into()),
        as_of: 1_700_000_010_000,
        horizon_days: Some(90),
        bundle_id: Some("b".into()),
        entries: vec![entry],
    }
}

#[test]
fn work_lists_and_exposures_fill_their_schemas() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    check(&encoders.work_list, WORK_LIST_SCHEMA, &work_list());
    let exposure = Exposure {
        exposure_id: "e".into(),
        task: "t".into(),
        entity_type: "contacts".into(),
        entity_id: "C1".into(),
        account_id: "A1".into(),
        owner_id: Some("ann".into()),
        r#type: "threshold_up",
        severity: "P1",
        state: "open",
        tick: 1_700_000_010_000,
        told_at: Some(1_700_000_010_000),
        probability: 0.5,
        band: Some("hot".into()),
        exposure_group: "told",
        hold_out_share: 0.1,
        policy_digest: "d".into(),
        bundle_id: Some("b".into()),
    };
    check(&encoders.exposure, EXPOSURE_SCHEMA, &exposure);
}

#[test]
fn a_proof_fills_its_schema_and_is_read_back() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    let proof = ErasureProof {
        request_id: "r1".into(),
        subject: "ab".repeat(32),
        action: "erase".into(),
        requested_at: 1_700_000_000_000,
        as_of: 1_700_000_010_000,
        clock_at: Some(1_700_000_020_000),
        epoch: 7,
        hashes: 3,
        entities: 2,
        versions: 2,
        events: 9,
        domains: 1,
        rewritten_rows: 4,
        tombstones: 8,
        renewed_records: 5,
        work_lists: 6,
        held: vec![HeldUntil {
            place: "scoring.alerts.v1".into(),
            kind: "output".into(),
            until: Some(1_800_000_000_000),
        }],
    };
    check(&encoders.erasure_proof, ERASURE_PROOF_SCHEMA, &proof);
    let bytes = encoders.erasure_proof(&proof);
    let read = encoders.read_erasure_proof(&bytes, &Folder).unwrap();
    assert_eq!(read, proof);
}

#[test]
fn a_work_list_is_read_back_as_it_was_written() {
    let encoders = OutputEncoders::new(&Folder).unwrap();
    let bytes = encoders.work_list(&work_list());
    assert_eq!(
        encoders.read_work_list(&bytes, &Folder).unwrap(),
        work_list()
    );
    let fault = encoders.read_work_list(&bytes[..bytes.len() - 1], &Folder);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("a work list cannot be read"), "{fault}");
}
