//! Schemas of the answers. Those of records are made from the schemas of their topics; the others
//! stand here, closed, so that a field which is not described fails the tests of real answers.

use leadpulse_records::{ALERT_SCHEMA, SCORE_SCHEMA, WORK_LIST_SCHEMA};
use serde_json::{Map, Value, json};

use super::super::avro::json_schema;

/// All schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    for record in [SCORE_SCHEMA, ALERT_SCHEMA, WORK_LIST_SCHEMA] {
        json_schema(record, &mut schemas);
    }
    for part in [
        scores(),
        alerts(),
        entities(),
        process(),
        requests(),
        questions(),
        documents(),
    ] {
        let Value::Object(part) = part else { continue };
        schemas.extend(part);
    }
    schemas
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn refer_or_null(name: &str) -> Value {
    json!({"anyOf": [refer(name), {"type": "null"}]})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object with exactly these properties, all of them required.
fn closed(properties: Value) -> Value {
    optional(properties, &[])
}

/// An object with exactly these properties; those named may be absent.
fn optional(properties: Value, absent: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(Map::keys);
    let required: Vec<&String> = names
        .filter(|name| !absent.contains(&name.as_str()))
        .collect();
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

/// A record with further fields beside its own.
fn extended(record: &str, properties: Value) -> Value {
    let names: Vec<String> = match properties.as_object() {
        Some(properties) => properties.keys().cloned().collect(),
        None => Vec::new(),
    };
    json!({
        "type": "object",
        "allOf": [refer(record), {"properties": properties, "required": names}],
        "unevaluatedProperties": false,
    })
}

/// Properties of a row in a summary.
fn summary() -> Value {
    json!({
        "place": {"type": "integer"},
        "task": {"type": "string"},
        "entity_type": {"type": "string"},
        "entity_id": {"type": "string"},
        "name": nullable("string"),
        "score": nullable("number"),
        "previous_score": nullable("number"),
        "band": nullable("string"),
        "trend": {"type": "string"},
        "velocity_per_day": nullable("number"),
        "as_of": {"type": "integer"},
        "owner_id": nullable("string"),
        "region": nullable("string"),
        "top_signal": nullable("string"),
        "recommended_action": nullable("string"),
        "has_open_opportunity": {"type": "boolean"},
    })
}

fn scores() -> Value {
    json!({
        "ShownScore": extended("Score", json!({"name": nullable("string"), "facts": {}})),
        "ListedScore": extended("Score", json!({
            "place": {"type": "integer", "description": "Position in the order that was asked for, from 1."},
            "name": nullable("string"),
            "facts": {},
            "ruling": refer_or_null("Ruling"),
        })),
        "ScoreSummary": optional(summary(), &["place", "task", "entity_type"]),
        "SummaryFields": {"type": "object", "properties": summary()},
        "ScoresPage": closed(json!({
            "task": {"type": "string"},
            "entity": {"type": "string"},
            "sort": {"type": "string"},
            "total": {"type": "integer", "description": "Entities of the list, over all pages."},
            "scores": list(json!({"anyOf": [
                refer("ScoreSummary"), refer("ListedScore"),
                {"type": "object", "description": "Chosen fields of a listed score."},
            ]})),
            "next_cursor": nullable("string"),
        })),
        "ScorePoint": closed(json!({
            "as_of": {"type": "integer"}, "probability": nullable("number"),
        })),
        "Ruling": closed(json!({
            "kind": {"type": "string"}, "who": {"type": "string"},
            "why": nullable("string"), "until": nullable("integer"),
        })),
    })
}

fn alerts() -> Value {
    json!({
        "ShownAlert": extended("Alert", json!({
            "name": nullable("string"),
            "ruling": refer_or_null("Ruling"),
            "feedback": refer_or_null("Verdict"),
        })),
        "AlertSummary": closed(json!({
            "alert_id": {"type": "string"}, "type": {"type": "string"},
            "severity": {"type": "string"}, "state": {"type": "string"},
            "task": {"type": "string"}, "entity_type": {"type": "string"},
            "entity_id": {"type": "string"}, "name": nullable("string"),
            "owner_id": nullable("string"), "score": {"type": "number"},
            "band": nullable("string"), "as_of": {"type": "integer"},
        })),
        "Alerts": closed(json!({"alerts": list(json!({"anyOf": [
            refer("AlertSummary"), refer("ShownAlert"),
        ]}))})),
        "Verdict": closed(json!({
            "verdict": {"type": "string"}, "disposition": nullable("string"),
            "who": {"type": "string"}, "note": nullable("string"), "at": {"type": "integer"},
        })),
        "Feedback": closed(json!({
            "newest": list(closed(json!({
                "task": {"type": "string"}, "type": {"type": "string"},
                "told": {"type": "integer"}, "accepted": {"type": "integer"},
                "rejected": {"type": "integer"}, "share": nullable("number"),
            }))),
            "answers": list(closed(json!({
                "task": nullable("string"), "type": nullable("string"),
                "verdict": {"type": "string"}, "disposition": nullable("string"),
                "alerts": {"type": "integer"},
            }))),
        })),
        "SimulationRequest": optional(json!({
            "days": {"type": "integer"}, "until": {"type": "string"},
            "policies": {"type": "object"}, "caps": {"type": "object"},
            "list": {"type": "boolean"},
        }), &["days", "until", "policies", "caps", "list"]),
        "Simulation": {"type": "object", "description": "Figures of the policies; docs/operations.md."},
        "QueryText": closed(json!({"query": {"type": "string", "description": "A query in PQL."}})),
        "QueryAnswer": closed(json!({
            "plan": {"anyOf": [{"type": "null"}, closed(json!({
                "text": {"type": "string"}, "entity": {"type": "string"},
                "horizon_ms": {"type": "integer"}, "meaning": list(json!({"type": "string"})),
                "remarks": list(closed(json!({
                    "message": {"type": "string"}, "hint": {"type": "string"},
                }))),
            }))]},
            "error": refer_or_null("QueryFault"),
        })),
        "QueryFault": closed(json!({
            "message": {"type": "string"}, "hint": {"type": "string"},
            "line": {"type": "integer"}, "column": {"type": "integer"},
            "length": {"type": "integer"},
            "target": {"anyOf": [{"type": "null"}, closed(json!({
                "name": {"type": "string"}, "text": {"type": "string"},
            }))]},
        })),
        "LabelRequest": optional(json!({
            "query": {"type": "string", "description": "A query in PQL, or the name of a configured task."},
            "anchors": nullable("string"), "first": nullable("integer"),
        }), &["anchors", "first"]),
        "QueryLabels": closed(json!({
            "query": {"type": "string"}, "entity": {"type": "string"},
            "horizon_days": {"type": "number"}, "meaning": list(json!({"type": "string"})),
            "remarks": list(json!({"type": "string"})),
            "labels": closed(json!({
                "from": {"type": "integer"}, "until": {"type": "integer"}, "rule": {"type": "string"},
                "anchors": {"type": "integer"}, "asked": {"type": "integer"},
                "labelled": {"type": "integer"}, "positive": {"type": "integer"},
                "base_rate": nullable("number"), "entities": {"type": "integer"},
                "positive_entities": {"type": "integer"}, "open": {"type": "integer"},
                "dropped": {"type": "integer"}, "rows": {"type": "integer"},
                "unowned_rows": {"type": "integer"}, "unowned_example": nullable("string"),
            })),
            "first": list(closed(json!({
                "entity": {"type": "string"}, "time": {"type": "integer"}, "label": {"type": "number"},
            }))),
        })),
        "BacktestRequest": optional(json!({
            "task": nullable("string"), "from": nullable("string"),
        }), &["task", "from"]),
        "Backtest": closed(json!({
            "bundle": {"type": "string"}, "from": {"type": "integer"},
            "tasks": list(closed(json!({
                "task": {"type": "string"}, "rows": {"type": "integer"},
                "scored": {"type": "integer"}, "labels": nullable("string"),
                "evaluation": {"description": "Figures, as report.json has them; null where no outcome is known."},
            }))),
        })),
        "WorkLists": closed(json!({
            "task": {"type": "string"}, "lists": list(refer("WorkList")),
        })),
    })
}

fn entities() -> Value {
    json!({
        "Entity": closed(json!({
            "table": {"type": "string"}, "id": {"type": "string"},
            "ruling": refer_or_null("Ruling"),
            "scores": list(refer("ShownScore")),
            "history": {"type": "object", "additionalProperties": list(refer("ScorePoint"))},
            "alerts": list(refer("ShownAlert")),
        })),
        "History": closed(json!({
            "task": {"type": "string"}, "entity_type": {"type": "string"},
            "entity_id": {"type": "string"}, "points": list(refer("ScorePoint")),
            "before": nullable("string"), "looked_at": {"type": "integer"},
        })),
        "CommitteeSeats": closed(json!({
            "account_id": nullable("string"), "as_of": {"type": "integer"},
            "fields": list(json!({"type": "string"})),
            "people": {"type": "integer"}, "active": {"type": "integer"},
            "seats": list(closed(json!({
                "values": list(nullable("string")), "people": {"type": "integer"},
                "active": {"type": "integer"},
            }))),
            "gaps": {"type": "object", "additionalProperties": list(json!({"type": "string"}))},
            "members": list(closed(json!({
                "table": {"type": "string"}, "key": {"type": "string"},
                "values": list(nullable("string")), "last_event_ms": nullable("integer"),
                "is_active": {"type": "boolean"},
            }))),
            "hubs": list(closed(json!({
                "hub": {"type": "string"}, "key": {"type": "string"}, "name": {"type": "string"},
                "touches": {"type": "number"}, "others": {"type": "integer"},
                "ends": {"anyOf": [{"type": "null"}, closed(json!({
                    "name": {"type": "string"}, "count": {"type": "integer"}, "days": {"type": "integer"},
                }))]},
            }))),
            "related": list(closed(json!({
                "relation": {"type": "string"}, "is_outgoing": {"type": "boolean"},
                "own": refer("NamedEntity"), "other": refer("NamedEntity"),
                "other_root": nullable("string"), "is_customer": {"type": "boolean"},
                "since_ms": nullable("integer"),
            }))),
        })),
        "NamedEntity": closed(json!({
            "table": {"type": "string"}, "key": {"type": "string"}, "name": {"type": "string"},
        })),
        "Trace": closed(json!({
            "topic": {"type": "string"}, "partition": {"type": "integer"},
            "offset": {"type": "integer"}, "epoch": nullable("integer"),
            "outcome": {"type": "string"}, "reason": nullable("string"),
            "remark": nullable("string"), "table": nullable("string"), "key": nullable("string"),
            "entity_type": nullable("string"), "entity_id": nullable("string"),
            "account_id": nullable("string"),
            "scores": list(extended("SummaryFields", json!({
                "epoch": {"type": "integer"}, "is_since": {"type": "boolean"},
                "is_traced": {"type": "boolean"},
            }))),
            "alerts": list(refer("AlertSummary")),
        })),
        "LookedAt": closed(json!({
            "bytes": {"type": "integer"}, "format": {"type": "string"}, "content": {},
            "text": nullable("string"), "remark": nullable("string"),
        })),
        "DeadLetter": closed(json!({
            "topic": {"type": "string"}, "partition": {"type": "integer"},
            "offset": {"type": "integer"}, "timestamp": {"type": "integer"},
            "refused_as_of": nullable("integer"), "reason": {"type": "string"},
            "reason_text": {"type": "string"}, "remedy": {"type": "string"},
            "message": {"type": "string"}, "key": refer_or_null("LookedAt"),
            "value": refer_or_null("LookedAt"), "value_bytes_left_out": nullable("integer"),
            "headers": list(closed(json!({"name": {"type": "string"}, "value": nullable("string")}))),
            "more_headers": {"type": "integer"},
        })),
        "DeadLetters": closed(json!({
            "dead_letters": list(refer("DeadLetter")),
            "kinds": list(closed(json!({
                "topic": {"type": "string"}, "reason": {"type": "string"},
                "kept": {"type": "integer"},
            }))),
        })),
        "WriterSchema": closed(json!({"id": {"type": "integer"}, "schema": {}})),
    })
}

fn process() -> Value {
    json!({
        "Task": closed(json!({
            "name": {"type": "string"}, "entity": {"type": "string"},
            "query": {"type": "string"}, "horizon_ms": {"type": "integer"},
            "anchors": {}, "actions": list(closed(json!({
                "code": {"type": "string"}, "label": {"type": "string"}, "when": {},
            }))),
            "bands": list(closed(json!({
                "name": {"type": "string"}, "enter": {"type": "number"}, "exit": {"type": "number"},
            }))),
            "quality": nullable("string"),
            "groups": list(closed(json!({
                "code": {"type": "string"}, "label": {"type": "string"}, "kind": {"type": "string"},
            }))),
        })),
        "Tasks": closed(json!({"tasks": list(refer("Task"))})),
        "ProcessStatus": optional(json!({
            "phase": {"type": "string"}, "done": {"type": "integer"}, "total": {"type": "integer"},
            "lag_epochs": {"type": "integer"}, "current": {"type": "boolean"},
            "epoch": {"type": "integer"}, "as_of": nullable("integer"),
            "records": {"type": "integer"}, "lag_records": {"type": "integer"},
            "reason": nullable("string"),
            "deployed": closed(json!({
                "release": nullable("string"), "bundle_id": nullable("string"),
                "rescoring": {}, "refused": {},
            })),
            "version": {"type": "string"}, "tasks": list(refer("Task")),
        }), &["done", "total", "lag_epochs", "current"]),
        "Model": {"type": "object", "description": "The manifest of the bundle; docs/training.md."},
        "Pipeline": optional(json!({
            "phase": {"type": "string"}, "done": {"type": "integer"}, "total": {"type": "integer"},
            "lag_epochs": {"type": "integer"}, "current": {"type": "boolean"},
            "epoch": {"type": "integer"}, "as_of": nullable("integer"),
            "records": {"type": "integer"}, "lag_records": {"type": "integer"},
            "reason": nullable("string"), "deployed": {}, "lag_seconds": nullable("number"),
            "newest_epoch": {"anyOf": [{"type": "null"}, closed(json!({
                "epoch": {"type": "integer"}, "records": {"type": "integer"},
                "scored": {"type": "integer"}, "scores": {"type": "integer"},
                "alerts": {"type": "integer"}, "seconds": {"type": "number"},
                "newest_record_age_seconds": nullable("number"),
                "stages": list(closed(json!({
                    "stage": {"type": "string"}, "seconds": {"type": "number"},
                }))),
            }))]},
            "partitions": list(closed(json!({
                "topic": {"type": "string"}, "partition": {"type": "integer"},
                "next_offset": {"type": "integer"}, "end_offset": {"type": "integer"},
                "lag_records": {"type": "integer"},
            }))),
        }), &["done", "total", "lag_epochs", "current"]),
        "Probe": optional(json!({
            "status": {"type": "string"}, "reason": {"type": "string"},
            "lag_epochs": {"type": "integer"},
        }), &["reason", "lag_epochs"]),
        "Version": closed(json!({"name": {"type": "string"}, "version": {"type": "string"}})),
    })
}

/// Bodies and answers of operations.
fn requests() -> Value {
    json!({
        "AlertAnswer": optional(json!({
            "alert_id": {"type": "string"},
            "verdict": {"type": "string", "description": "accepted or rejected."},
            "disposition": nullable("string"), "note": nullable("string"),
            "task": nullable("string"), "type": nullable("string"),
        }), &["disposition", "note", "task", "type"]),
        "SentRow": closed(json!({"topic": {"type": "string"}, "key": {"type": "string"}})),
        "Models": closed(json!({"models": list(closed(json!({
            "bundle": {"type": "string"}, "aliases": list(json!({"type": "string"})),
            "grade": nullable("string"), "tasks": list(json!({"type": "string"})),
        })))})),
        "PromotionRequest": optional(json!({
            "bundle": {"type": "string", "description": "Its id, the start of it, or challenger."},
            "force": {"type": "boolean"}, "live": {"type": "boolean"},
        }), &["force", "live"]),
        "RollbackRequest": optional(json!({"live": {"type": "boolean"}}), &["live"]),
        "ChangedChampion": closed(json!({
            "bundle": {"type": "string"}, "before": nullable("string"),
            "release": nullable("string"),
        })),
        "ReplayRequest": optional(json!({
            "reasons": list(json!({"type": "string"})), "topics": list(json!({"type": "string"})),
            "again": {"type": "boolean"}, "dry_run": {"type": "boolean"},
        }), &["reasons", "topics", "again", "dry_run"]),
        "ReplayCounts": closed(json!({
            "letters": {"type": "integer"}, "accepted_now": {"type": "integer"},
            "sent": {"type": "integer"}, "sent_by_others": {"type": "integer"},
            "replayed": {"type": "integer"}, "refused_again": {"type": "integer"},
            "incomplete": {"type": "integer"}, "without_source": {"type": "integer"},
        })),
    })
}

fn questions() -> Value {
    json!({
        "WhatIf": optional(json!({
            "rows": list(closed(json!({
                "table": {"type": "string", "description": "A table of the root, of members or of events."},
                "fields": {"type": "object", "description": "Values by name; fields of a known entity that are not named stay."},
            }))),
            "as_of": {"type": "integer", "description": "Moment to score at, the newest of the rows without it."},
        }), &["as_of"]),
        "WhatIfAnswer": closed(json!({
            "task": {"type": "string"}, "entity_type": {"type": "string"},
            "entity_id": {"type": "string"}, "quality": nullable("string"),
            "now": refer("TriedScore"), "then": refer("TriedScore"),
            "groups": list(closed(json!({
                "group": {"type": "string"}, "label": {"type": "string"},
                "now": {"type": "number"}, "then": {"type": "number"},
            }))),
            "crossings": list(closed(json!({
                "band": {"type": "string"}, "is_entered": {"type": "boolean"},
                "threshold": {"type": "number"},
            }))),
        })),
        "TriedScore": closed(json!({
            "as_of": {"type": "integer"}, "logit": nullable("number"),
            "probability": nullable("number"), "band": nullable("string"),
            "absent": nullable("string"),
        })),
        "Tables": closed(json!({"tables": list(closed(json!({
            "name": {"type": "string"}, "role": {"type": "string"}, "key": {"type": "string"},
            "time": nullable("string"), "fields": list(closed(json!({
                "name": {"type": "string"}, "type": {"type": "string"},
                "nullable": {"type": "boolean"}, "values": list(json!({"type": "string"})),
                "refers_to": nullable("string"), "is_owner": {"type": "boolean"},
            }))),
        })))})),
    })
}

fn documents() -> Value {
    json!({
        "Problem": optional(json!({
            "type": {"type": "string"}, "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "The fault of this request."},
            "hint": {"type": "string", "description": "The remedy."},
            "parameter": {"type": "string", "description": "The parameter at fault."},
            "allowed": list(json!({"type": "string"})),
            "fault": refer("QueryFault"),
        }), &["parameter", "allowed", "fault"]),
        "Index": closed(json!({
            "version": {"type": "string"}, "openapi": {"type": "string"},
            "paths": list(closed(json!({
                "method": {"type": "string"}, "path": {"type": "string"},
                "summary": {"type": "string"}, "parameters": list(json!({"type": "string"})),
            }))),
        })),
        "OpenApi": {"type": "object", "description": "An OpenAPI 3.1 document."},
    })
}
