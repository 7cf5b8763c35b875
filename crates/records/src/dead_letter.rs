//! Dead letters: records that cannot be used, kept byte for byte with the reason.
//!
//! This module owns the header names and the reason codes. Key, value and headers of the original
//! come first and unchanged; our headers follow. So a reader that takes the last header of a name
//! sees ours, even of a record that is dead-lettered a second time. Messages never contain payload.
//!
//! Decision: docs/decisions/0023-dead-letters-keep-bytes.md

use sha2::{Digest, Sha256};

use crate::output::{Output, OutputRecord};
use leadpulse_schema::hex;
use leadpulse_schema::units::AsOf;

/// Topic of the original record (Kafka Connect's name).
pub const HEADER_TOPIC: &str = "__connect.errors.topic";
/// Partition of the original record, decimal (Kafka Connect's name).
pub const HEADER_PARTITION: &str = "__connect.errors.partition";
/// Offset of the original record, decimal (Kafka Connect's name).
pub const HEADER_OFFSET: &str = "__connect.errors.offset";
/// Stage that refused the record, `VALUE_CONVERTER` or `TRANSFORMATION` (Kafka Connect's name and
/// values).
pub const HEADER_STAGE: &str = "__connect.errors.stage";
/// The fault in words (Kafka Connect's name).
pub const HEADER_MESSAGE: &str = "__connect.errors.exception.message";
/// Code of the reason: [`Reason::code`].
pub const HEADER_REASON: &str = "x-dlq-reason";
/// `as_of` of the epoch that refused the record, milliseconds, decimal.
pub const HEADER_TIMESTAMP: &str = "x-dlq-timestamp";
/// Timestamp of the original record, milliseconds, decimal: the topic may replace the letter's own
/// by that of the append.
pub const HEADER_RECORD_TIMESTAMP: &str = "x-dlq-record-timestamp";
/// Program and version that refused the record.
pub const HEADER_APPLICATION: &str = "x-dlq-application";

/// Bytes of the original value that was left out because the topic has no room for it, decimal.
pub const HEADER_VALUE_BYTES: &str = "x-dlq-value-bytes";
/// SHA-256 of the original value that was left out, lower-case hexadecimal.
pub const HEADER_VALUE_SHA256: &str = "x-dlq-value-sha256";
/// Bytes of the original headers that were left out (names and values), decimal.
pub const HEADER_HEADERS_BYTES: &str = "x-dlq-headers-bytes";
/// SHA-256 of the original headers that were left out (names and values, in order), lower-case
/// hexadecimal.
pub const HEADER_HEADERS_SHA256: &str = "x-dlq-headers-sha256";
/// Bytes of the original key that was left out, decimal.
pub const HEADER_KEY_BYTES: &str = "x-dlq-key-bytes";
/// SHA-256 of the original key that was left out, lower-case hexadecimal.
pub const HEADER_KEY_SHA256: &str = "x-dlq-key-sha256";

/// Reason for which a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The value has no known framing: empty, wrong magic byte, too short.
    WireFormat,
    /// The writer schema is registered nowhere.
    UnknownSchema,
    /// The bytes contradict the writer schema: truncated, trailing bytes, wrong type.
    AvroDecode,
    /// A value in another format than Avro does not parse, or holds a value that is not its
    /// field's.
    Unreadable,
    /// The row breaks a rule of its table: no key, no time, no owner.
    Validation,
    /// The event time is older than the late horizon, or of a day that the table has forgotten.
    LateBeyondHorizon,
    /// The event time is later than the Kafka timestamp or our clock allows.
    FutureTimestamp,
    /// The record is a tombstone, and rows of its table are immutable.
    TombstoneOfEvent,
}

impl Reason {
    /// All reasons, in order of the stages.
    pub const ALL: [Self; 8] = [
        Self::WireFormat,
        Self::UnknownSchema,
        Self::AvroDecode,
        Self::Unreadable,
        Self::Validation,
        Self::LateBeyondHorizon,
        Self::FutureTimestamp,
        Self::TombstoneOfEvent,
    ];

    /// The code in [`HEADER_REASON`] and in metric labels.
    pub fn code(self) -> &'static str {
        match self {
            Self::WireFormat => "wire_format",
            Self::UnknownSchema => "unknown_schema",
            Self::AvroDecode => "avro_decode",
            Self::Unreadable => "unreadable",
            Self::Validation => "validation",
            Self::LateBeyondHorizon => "late_beyond_horizon",
            Self::FutureTimestamp => "future_timestamp",
            Self::TombstoneOfEvent => "tombstone_of_event",
        }
    }

    /// The reason in words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::WireFormat => "The value is in no known format.",
            Self::UnknownSchema => "The schema that the value names is registered nowhere.",
            Self::AvroDecode => "The bytes do not fit the schema that they were written under.",
            Self::Unreadable => "The value does not parse, or does not fit the table's types.",
            Self::Validation => "The row breaks a rule of its table.",
            Self::LateBeyondHorizon => "The event is older than the late horizon allows.",
            Self::FutureTimestamp => "The event lies in the future.",
            Self::TombstoneOfEvent => "A tombstone came for a table whose rows are immutable.",
        }
    }

    /// The next step of a person who finds such letters.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::WireFormat => {
                "Let the producer write the format that the source declares, or change the source's format."
            }
            Self::UnknownSchema => {
                "Register the schema under this id, or point the worker to the registry that the producer writes to. Then produce the records again."
            }
            Self::AvroDecode => {
                "Compare the registered schema with the one in the producer; find the producer that writes under a wrong id."
            }
            Self::Unreadable => {
                "Read the message for the field; declare the unit or format of times in the source, or correct the producer."
            }
            Self::Validation => {
                "Read the message for the field; correct the producer or the table's schema, and produce the record again."
            }
            Self::LateBeyondHorizon => {
                "Find out why the record came so late; raise graph.late_horizon if it will happen again."
            }
            Self::FutureTimestamp => {
                "Check the producer's clock, and the unit and zone of its times."
            }
            Self::TombstoneOfEvent => {
                "Take events back with a record whose retraction field is true; stop the producer's tombstones, such as a connector's."
            }
        }
    }

    fn stage(self) -> &'static str {
        match self {
            Self::WireFormat | Self::UnknownSchema | Self::AvroDecode | Self::Unreadable => {
                "VALUE_CONVERTER"
            }
            Self::Validation
            | Self::LateBeyondHorizon
            | Self::FutureTimestamp
            | Self::TombstoneOfEvent => "TRANSFORMATION",
        }
    }
}

/// A record that cannot be used, as it was read.
#[derive(Clone, Debug)]
pub struct Rejected<'a> {
    /// Topic that it was read from.
    pub topic: &'a str,
    /// Partition number within the topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Timestamp of the Kafka record, milliseconds.
    pub timestamp_ms: i64,
    /// Key bytes; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; `None` is a null value.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl Rejected<'_> {
    /// The dead letter of the record, refused in the epoch valid at `as_of`. `message` names the
    /// fault, without payload.
    pub fn dead_letter(&self, reason: Reason, message: &str, as_of: AsOf) -> OutputRecord {
        let ours: [(&str, &str); 9] = [
            (HEADER_TOPIC, self.topic),
            (HEADER_PARTITION, &self.partition.to_string()),
            (HEADER_OFFSET, &self.offset.to_string()),
            (HEADER_STAGE, reason.stage()),
            (HEADER_MESSAGE, message),
            (HEADER_REASON, reason.code()),
            (HEADER_TIMESTAMP, &as_of.ms().to_string()),
            (HEADER_RECORD_TIMESTAMP, &self.timestamp_ms.to_string()),
            (
                HEADER_APPLICATION,
                concat!("leadpulse/", env!("CARGO_PKG_VERSION")),
            ),
        ];
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
            .chain(ours.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec()))))
            .collect();
        OutputRecord {
            output: Output::DeadLetters,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers,
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// Leaves out the original value: size and digest stand in the headers. A letter without a value
/// stays as it is.
pub fn without_value(letter: &OutputRecord) -> OutputRecord {
    let mut smaller = letter.clone();
    if let Some(value) = smaller.value.take() {
        stand_in(
            &mut smaller,
            HEADER_VALUE_BYTES,
            HEADER_VALUE_SHA256,
            &[&value],
        );
    }
    smaller
}

/// Leaves out the original headers: size and digest stand beside our headers. A letter without
/// original headers stays as it is.
pub fn without_original_headers(letter: &OutputRecord) -> OutputRecord {
    let mut smaller = letter.clone();
    let originals = smaller
        .headers
        .iter()
        .rposition(|(name, _)| name == HEADER_TOPIC)
        .unwrap_or_default();
    let dropped: Vec<(String, Option<Vec<u8>>)> = smaller.headers.drain(..originals).collect();
    if !dropped.is_empty() {
        let parts: Vec<&[u8]> = dropped
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_deref().unwrap_or_default()])
            .collect();
        stand_in(
            &mut smaller,
            HEADER_HEADERS_BYTES,
            HEADER_HEADERS_SHA256,
            &parts,
        );
    }
    smaller
}

/// Leaves out the original key: size and digest stand in the headers. A letter without a key stays
/// as it is.
pub fn without_key(letter: &OutputRecord) -> OutputRecord {
    let mut smaller = letter.clone();
    if let Some(key) = smaller.key.take() {
        stand_in(&mut smaller, HEADER_KEY_BYTES, HEADER_KEY_SHA256, &[&key]);
    }
    smaller
}

/// Appends the size and the digest of the parts that a dead letter no longer carries.
fn stand_in(letter: &mut OutputRecord, bytes: &str, sha256: &str, parts: &[&[u8]]) {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    let sum = hex(&digest.finalize());
    let size: usize = parts.iter().map(|part| part.len()).sum();
    letter
        .headers
        .push((bytes.to_owned(), Some(size.to_string().into_bytes())));
    letter
        .headers
        .push((sha256.to_owned(), Some(sum.into_bytes())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(key: Option<&[u8]>, value: Option<&[u8]>, reason: Reason) -> OutputRecord {
        let rejected = Rejected {
            topic: "mkt.activities.v1",
            partition: 7,
            offset: 42,
            timestamp_ms: 1_700_000_000_000,
            key,
            value,
            headers: vec![
                ("trace", Some(b"\xff\x00".as_slice())),
                ("none", None),
                ("empty", Some(b"".as_slice())),
            ],
        };
        rejected.dead_letter(reason, "3 trailing bytes", AsOf::from_ms(99))
    }

    #[test]
    fn original_bytes_and_headers_are_kept() {
        for (key, value) in [
            (Some(b"k".as_slice()), Some(b"\x00\x01".as_slice())),
            (None, None),
            (Some(b"".as_slice()), Some(b"".as_slice())),
        ] {
            let letter = letter(key, value, Reason::AvroDecode);
            assert_eq!(
                (letter.key.as_deref(), letter.value.as_deref()),
                (key, value)
            );
            let originals = [
                ("trace", Some(vec![0xff, 0])),
                ("none", None),
                ("empty", Some(vec![])),
            ];
            assert_eq!(
                letter.headers[..3],
                originals.map(|(name, value)| (name.to_owned(), value))
            );
            assert_eq!(
                (letter.output, letter.timestamp_ms),
                (Output::DeadLetters, 1_700_000_000_000)
            );
        }
    }

    #[test]
    fn position_and_reason_are_in_the_headers() {
        let letter = letter(None, Some(b"x"), Reason::LateBeyondHorizon);
        let header = |name: &str| {
            let (_, value) = letter.headers.iter().rfind(|(n, _)| n == name).expect(name);
            String::from_utf8(value.clone().unwrap()).unwrap()
        };
        let expected = [
            (HEADER_TOPIC, "mkt.activities.v1"),
            (HEADER_PARTITION, "7"),
            (HEADER_OFFSET, "42"),
            (HEADER_STAGE, "TRANSFORMATION"),
            (HEADER_MESSAGE, "3 trailing bytes"),
            (HEADER_REASON, "late_beyond_horizon"),
            (HEADER_TIMESTAMP, "99"),
        ];
        for (name, value) in expected {
            assert_eq!(header(name), value, "{name}");
        }
        assert!(header(HEADER_APPLICATION).starts_with("leadpulse/"));
    }

    #[test]
    fn parts_left_out_are_named_by_size_and_digest() {
        const SHA256_OF_ABC: &str =
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let whole = letter(Some(b"abc"), Some(b"abc"), Reason::WireFormat);
        let header = |letter: &OutputRecord, name: &str| {
            letter
                .headers
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
        };
        let smaller = without_value(&whole);
        assert_eq!(
            (smaller.key.as_deref(), smaller.value.as_deref()),
            (Some(b"abc".as_slice()), None)
        );
        assert_eq!(header(&smaller, HEADER_VALUE_BYTES).as_deref(), Some("3"));
        assert_eq!(
            header(&smaller, HEADER_VALUE_SHA256).as_deref(),
            Some(SHA256_OF_ABC)
        );
        assert_eq!(smaller.headers[..whole.headers.len()], whole.headers);

        let smaller = without_key(&whole);
        assert_eq!(
            (smaller.key.as_deref(), smaller.value.as_deref()),
            (None, Some(b"abc".as_slice()))
        );
        assert_eq!(header(&smaller, HEADER_KEY_BYTES).as_deref(), Some("3"));
        assert_eq!(
            header(&smaller, HEADER_KEY_SHA256).as_deref(),
            Some(SHA256_OF_ABC)
        );

        let smaller = without_original_headers(&whole);
        assert_eq!(header(&smaller, "trace"), None);
        assert_eq!(
            header(&smaller, HEADER_HEADERS_BYTES).as_deref(),
            Some("16"),
            "names and values of all three"
        );
        assert_eq!(
            header(&smaller, HEADER_REASON).as_deref(),
            Some("wire_format")
        );
        for leave_out in [without_value, without_key, without_original_headers] {
            assert_eq!(
                leave_out(&leave_out(&whole)),
                leave_out(&whole),
                "nothing is left out twice"
            );
        }
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::BTreeSet<_> =
            Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
