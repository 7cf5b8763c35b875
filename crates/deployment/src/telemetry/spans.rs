//! Spans in OTLP's JSON encoding.
//!
//! Format: [OTLP 1.5, JSON Protobuf encoding](https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding):
//! names in lowerCamelCase, ids in hexadecimal, 64-bit numbers as text.

use serde::Serialize;
use serde_json::{Value as Json, json};

use leadpulse_engine::TraceContext;
use leadpulse_engine::read_model::EpochTimes;

/// `SPAN_KIND_INTERNAL`
const INTERNAL: u8 = 1;
const NANOS_PER_MS: i128 = 1_000_000;

/// One span.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    trace_id: String,
    span_id: String,
    /// Empty for the span of an epoch.
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Json>,
    /// Spans of other traces that caused it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Json>,
}

/// Makes the spans of one worker, under the ids that its records name.
#[derive(Clone, Debug)]
pub struct Tracer {
    worker: String,
}

impl Tracer {
    /// The tracer of the worker of this name.
    pub fn of(worker: &str) -> Self {
        Self {
            worker: worker.to_owned(),
        }
    }

    /// The body of a request with these spans.
    pub fn request(&self, spans: Vec<Span>) -> Json {
        let resource = [
            text("service.name", "leadpulse"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &self.worker),
        ];
        json!({
            "resourceSpans": [{
                "resource": { "attributes": resource },
                "scopeSpans": [{ "scope": { "name": "leadpulse" }, "spans": spans }],
            }],
        })
    }

    /// The spans of an epoch that was committed at this moment, milliseconds: its own first, then its
    /// stages, one after the other. What lies before the first measured stage is reading and decoding.
    pub fn spans(&self, times: &EpochTimes, committed_ms: i64) -> Vec<Span> {
        let end = i128::from(committed_ms) * NANOS_PER_MS;
        let measured: i128 = times.stages.iter().map(|one| nanos(one.seconds)).sum();
        let whole = nanos(times.seconds).max(measured);
        let ids = TraceContext::of_epoch(&self.worker, times.epoch);
        let root = Span {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            parent_span_id: String::new(),
            name: "epoch",
            kind: INTERNAL,
            start_time_unix_nano: (end - whole).to_string(),
            end_time_unix_nano: end.to_string(),
            attributes: attributes(times),
            links: times.linked_traces.iter().map(link).collect(),
        };
        let before = ("decode", whole - measured);
        let stages = times.stages.iter();
        let stages = stages.map(|one| (one.stage, nanos(one.seconds)));
        let mut at = end - whole;
        let mut spans = vec![root];
        for (name, time) in std::iter::once(before).chain(stages) {
            spans.push(Span {
                span_id: ids.child(spans.len() as u64).span_id(),
                parent_span_id: spans[0].span_id.clone(),
                name,
                start_time_unix_nano: at.to_string(),
                end_time_unix_nano: (at + time).to_string(),
                attributes: Vec::new(),
                links: Vec::new(),
                ..spans[0].clone()
            });
            at += time;
        }
        spans
    }
}

/// A link to the span that sent a record.
fn link(context: &TraceContext) -> Json {
    json!({ "traceId": context.trace_id(), "spanId": context.span_id() })
}

fn nanos(seconds: f64) -> i128 {
    (seconds.max(0.0) * 1e9) as i128
}

/// Counts of an epoch, as attributes of its span.
fn attributes(times: &EpochTimes) -> Vec<Json> {
    let count =
        |key: &str, count: u64| json!({ "key": key, "value": { "intValue": count.to_string() } });
    let mut attributes = vec![
        count("leadpulse.epoch", times.epoch),
        count("leadpulse.records", times.records),
        count("leadpulse.scored", times.scored),
        count("leadpulse.scores", times.scores),
        count("leadpulse.alerts", times.alerts),
    ];
    if let Some(age) = times.newest_record_age_seconds {
        let key = "leadpulse.newest_record_age_seconds";
        attributes.push(json!({ "key": key, "value": { "doubleValue": age } }));
    }
    attributes
}

fn text(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use leadpulse_engine::read_model::StageTime;

    use super::*;

    fn times(epoch: u64) -> EpochTimes {
        let stage = |stage, seconds| StageTime { stage, seconds };
        EpochTimes {
            epoch,
            records: 20,
            seconds: 1.0,
            stages: vec![stage("graph", 0.25), stage("produce", 0.5)],
            ..EpochTimes::default()
        }
    }

    #[test]
    fn stages_follow_each_other_within_their_epoch() {
        let spans = Tracer::of("w").spans(&times(7), 1_760_486_400_000);
        let end: i128 = 1_760_486_400_000 * NANOS_PER_MS;
        let before_end = |text: &str| (end - text.parse::<i128>().unwrap()) / NANOS_PER_MS;
        let mut found = Vec::new();
        for span in &spans {
            let from = before_end(&span.start_time_unix_nano);
            found.push((span.name, from, before_end(&span.end_time_unix_nano)));
            assert_eq!(span.trace_id, spans[0].trace_id);
            assert_eq!((span.trace_id.len(), span.span_id.len()), (32, 16));
        }
        let expected = [
            ("epoch", 1000, 0),
            ("decode", 1000, 750),
            ("graph", 750, 500),
            ("produce", 500, 0),
        ];
        assert_eq!(found, expected);
        assert!(spans[0].parent_span_id.is_empty());
        for span in &spans[1..] {
            assert_eq!(span.parent_span_id, spans[0].span_id);
            assert!(span.attributes.is_empty());
        }
        let number = json!({ "key": "leadpulse.epoch", "value": { "intValue": "7" } });
        assert!(spans[0].attributes.contains(&number));
    }

    #[test]
    fn no_two_spans_of_two_workers_have_one_id() {
        let mut ids = BTreeSet::new();
        for worker in ["w", "v"] {
            for epoch in 0..50 {
                for span in Tracer::of(worker).spans(&times(epoch), 0) {
                    assert!(ids.insert(span.span_id));
                }
            }
        }
    }

    #[test]
    fn the_span_of_an_epoch_is_the_one_that_its_records_name_and_links_to_those_of_its_inputs() {
        let [first, second] = [1, 2].map(|epoch| TraceContext::of_epoch("a producer", epoch));
        let times = EpochTimes {
            linked_traces: vec![first, second],
            ..times(7)
        };
        let spans = Tracer::of("w").spans(&times, 1_760_486_400_000);
        let named = TraceContext::of_epoch("w", 7).traceparent(true);
        let ids = format!("00-{}-{}-01", spans[0].trace_id, spans[0].span_id);
        assert_eq!(ids, named);
        let shown = serde_json::to_value(&spans).unwrap();
        let links = json!([
            { "traceId": first.trace_id(), "spanId": first.span_id() },
            { "traceId": second.trace_id(), "spanId": second.span_id() },
        ]);
        assert_eq!(shown[0]["links"], links);
        for stage in &shown.as_array().unwrap()[1..] {
            assert!(stage.get("links").is_none(), "{stage}");
        }
    }
}
