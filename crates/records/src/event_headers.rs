//! Headers of output records: CloudEvents in Kafka's binary mode, and the fields to route by.
//!
//! Attributes: [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md),
//! headers: [its Kafka binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).
//! Decision: docs/decisions/0080-outputs-are-cloud-events.md
//! Invariant: headers are a function of the record, its epoch and the worker's name, so a replay gives
//! the same bytes.

use std::fmt::Write as _;

use jiff::Timestamp;
use leadpulse_schema::hex;
use sha2::{Digest as _, Sha256};

use crate::alert::Alert;
use crate::score::Score;
use crate::trace_context::{TRACEPARENT, TraceContext};
use crate::worklist::WorkList;

/// Media type of the values: Avro, after Confluent's frame of 5 bytes.
pub const CONTENT_TYPE: &str = "application/avro";

/// Bytes of the digest that identifies a work list.
const LIST_ID_BYTES: usize = 16;

/// Headers of a record, in order.
type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Composes the headers of one worker's scores, alerts and work lists.
#[derive(Clone, Debug)]
pub struct EventHeaders {
    /// `ce_source`: `/leadpulse/` and the worker's name, percent-encoded.
    source: String,
    worker: String,
    /// True if spans of epochs are exported.
    is_sampled: bool,
}

impl EventHeaders {
    /// Headers of the worker of this name. `is_sampled` says whether it exports spans of its epochs.
    pub fn of_worker(worker: &str, is_sampled: bool) -> Self {
        let mut source = String::from("/leadpulse/");
        for byte in worker.bytes() {
            // RFC 3986, 2.3: bytes that stand for themselves in every part of a URI.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                source.push(char::from(byte));
            } else {
                write!(source, "%{byte:02X}").expect("a string takes every write");
            }
        }
        Self {
            source,
            worker: worker.to_owned(),
            is_sampled,
        }
    }

    /// Headers of an alert. `ce_id` is its `alert_id`.
    pub fn alert(&self, alert: &Alert) -> Headers {
        let subject = format!("{}/{}", alert.entity_type, alert.entity_id);
        let mut headers = self.event("alert", alert.alert_id.clone(), subject, alert.as_of);
        self.put_trace(&mut headers, alert.epoch.max(0) as u64);
        put(&mut headers, "task", &alert.task);
        put(&mut headers, "severity", alert.severity.0);
        put(&mut headers, "state", alert.state.0);
        if let Some(owner) = &alert.owner_id {
            put(&mut headers, "owner", owner);
        }
        headers
    }

    /// Headers of a score, in both of its topics. `ce_id` is `<epoch>-<sequence>`, unique for a
    /// worker.
    pub fn score(&self, score: &Score) -> Headers {
        let id = format!("{}-{}", score.epoch, score.sequence);
        let subject = format!("{}/{}", score.entity_type, score.entity_id);
        let mut headers = self.event("score", id, subject, score.as_of);
        self.put_trace(&mut headers, score.epoch.max(0) as u64);
        put(&mut headers, "task", &score.task);
        headers
    }

    /// Headers of a work list with its encoded value, which an epoch writes. `ce_id` is a digest of the
    /// value: a list that is written again without an erased person has the moment of the list before.
    pub fn work_list(&self, list: &WorkList, value: &[u8], epoch: u64) -> Headers {
        let digest = Sha256::digest(value);
        let id = hex(&digest[..LIST_ID_BYTES]);
        let subject = format!("{}/{}", list.task, list.owner());
        let mut headers = self.event("worklist", id, subject, list.as_of);
        self.put_trace(&mut headers, epoch);
        put(&mut headers, "task", &list.task);
        if let Some(owner) = &list.owner_id {
            put(&mut headers, "owner", owner);
        }
        headers
    }

    /// The trace of the epoch that writes a record.
    fn put_trace(&self, headers: &mut Headers, epoch: u64) {
        let context = TraceContext::of_epoch(&self.worker, epoch);
        put(headers, TRACEPARENT, &context.traceparent(self.is_sampled));
    }

    /// Media type and attributes of an event of this kind.
    fn event(&self, kind: &str, id: String, subject: String, as_of_ms: i64) -> Headers {
        let mut headers = Headers::with_capacity(12);
        put(&mut headers, "content-type", CONTENT_TYPE);
        put(&mut headers, "ce_specversion", "1.0");
        put(&mut headers, "ce_id", &id);
        put(&mut headers, "ce_type", &format!("leadpulse.{kind}"));
        put(&mut headers, "ce_source", &self.source);
        put(&mut headers, "ce_subject", &subject);
        // A moment outside of the years −9999 to 9999 has no text, and the attribute is optional.
        if let Ok(at) = Timestamp::from_millisecond(as_of_ms) {
            put(&mut headers, "ce_time", &at.to_string());
        }
        headers
    }
}

fn put(headers: &mut Headers, name: &str, value: &str) {
    headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbol::Symbol;

    fn texts(headers: &Headers) -> Vec<(&str, &str)> {
        let mut texts = Vec::new();
        for (name, value) in headers {
            let value = value.as_deref().unwrap_or_default();
            texts.push((name.as_str(), std::str::from_utf8(value).unwrap()));
        }
        texts
    }

    #[test]
    fn headers_of_an_alert_are_a_cloud_event_with_fields_to_route_by() {
        let alert = Alert {
            alert_id: "f00d".into(),
            severity: Symbol("P1"),
            state: Symbol("open"),
            task: "buys".into(),
            entity_type: "accounts".into(),
            entity_id: "A001".into(),
            owner_id: Some("rep-17".into()),
            as_of: 1_760_486_400_123,
            epoch: 7,
            ..Alert::default()
        };
        let headers = EventHeaders::of_worker("leadpulse prod/1", true).alert(&alert);
        let trace = TraceContext::of_epoch("leadpulse prod/1", 7).traceparent(true);
        let expected = [
            ("content-type", "application/avro"),
            ("ce_specversion", "1.0"),
            ("ce_id", "f00d"),
            ("ce_type", "leadpulse.alert"),
            ("ce_source", "/leadpulse/leadpulse%20prod%2F1"),
            ("ce_subject", "accounts/A001"),
            ("ce_time", "2025-10-15T00:00:00.123Z"),
            ("traceparent", trace.as_str()),
            ("task", "buys"),
            ("severity", "P1"),
            ("state", "open"),
            ("owner", "rep-17"),
        ];
        assert_eq!(texts(&headers), expected);

        let of_nobody = Alert {
            owner_id: None,
            ..alert
        };
        let headers = EventHeaders::of_worker("w", false).alert(&of_nobody);
        assert!(headers.iter().all(|(name, _)| name != "owner"));
    }

    #[test]
    fn a_work_list_that_is_written_again_with_another_value_has_another_id() {
        let list = WorkList {
            task: "buys".into(),
            owner_id: None,
            as_of: i64::MAX,
            horizon_days: None,
            bundle_id: None,
            entries: Vec::new(),
        };
        let id = |value: &[u8]| -> String {
            let headers = EventHeaders::of_worker("w", false).work_list(&list, value, 7);
            let id = texts(&headers)
                .into_iter()
                .find(|(name, _)| *name == "ce_id");
            id.unwrap().1.to_owned()
        };
        assert_eq!(id(b"one"), id(b"one"));
        assert_ne!(id(b"one"), id(b"two"));
        let headers = EventHeaders::of_worker("w", false).work_list(&list, b"one", 7);
        let names: Vec<&str> = texts(&headers).into_iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&"ce_time") && !names.contains(&"owner"));
    }
}
