//! Dead letters as people see them: position, reason and remedy in words, and a look into the bytes.
//!
//! A shown letter is bounded, whatever the record was. It can be made from a letter that is being
//! written or from one that is read back, because all that it needs stands in the letter's headers.

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Frame, SCHEMA_HEADER, SchemaRef, avro_preview, hex};
use serde::Serialize;
use serde_json::Value as Json;

use crate::dead_letter::{
    HEADER_MESSAGE, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_RECORD_TIMESTAMP,
    HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES, Reason,
};
use crate::output::OutputRecord;

/// Bytes of a key, a value or a header that a shown letter keeps.
const PART_BYTES: usize = 4096;
/// Headers of the original record that a shown letter keeps.
const HEADERS_KEPT: usize = 32;
/// Characters of a text or of hexadecimal digits that are shown.
const TEXT_CHARACTERS: usize = 1024;
/// Longest message kept, bytes.
const MESSAGE_BYTES: usize = 2048;

/// The first bytes of a part of a record, and the number of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ClippedBytes {
    bytes: Vec<u8>,
    total: usize,
}

impl ClippedBytes {
    fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes[..bytes.len().min(PART_BYTES)].to_vec(),
            total: bytes.len(),
        }
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }

    /// The bytes as text: UTF-8 without control characters, but for a character cut in two.
    fn text(&self) -> Option<&str> {
        let text = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            // A cut may fall into a character of up to four bytes.
            Err(error) if !self.is_whole() && error.error_len().is_none() => {
                std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        let is_plain = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
        text.chars().all(is_plain).then_some(text)
    }
}

/// A dead letter, kept for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLetter {
    /// Topic of the original record.
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Kafka timestamp of the original record, milliseconds.
    pub timestamp_ms: i64,
    /// Code of the reason; of a newer program, perhaps one that this one does not know.
    pub reason: String,
    /// The fault in words.
    pub message: String,
    /// `as_of` of the epoch that refused the record.
    pub refused_as_of: Option<AsOf>,
    key: Option<ClippedBytes>,
    value: Option<ClippedBytes>,
    /// Bytes of a value that the letter itself left out.
    left_out_bytes: Option<u64>,
    headers: Vec<(String, Option<ClippedBytes>)>,
    /// Headers of the original beyond those kept.
    more_headers: usize,
}

impl KeptLetter {
    /// The letter in an output record; `None` where it does not carry our headers.
    pub fn of(letter: &OutputRecord) -> Option<Self> {
        let ours = letter
            .headers
            .iter()
            .rposition(|(name, _)| name == HEADER_TOPIC)?;
        let (originals, ours) = letter.headers.split_at(ours);
        let header = |wanted: &str| {
            let (_, value) = ours.iter().rfind(|(name, _)| name == wanted)?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let mut message = header(HEADER_MESSAGE)?.to_owned();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        Some(Self {
            topic: header(HEADER_TOPIC)?.to_owned(),
            partition: header(HEADER_PARTITION)?.parse().ok()?,
            offset: header(HEADER_OFFSET)?.parse().ok()?,
            // Letters of older programs lack the header, and are as old as their own timestamp.
            timestamp_ms: header(HEADER_RECORD_TIMESTAMP)
                .and_then(|text| text.parse().ok())
                .unwrap_or(letter.timestamp_ms),
            reason: header(HEADER_REASON)?.to_owned(),
            message,
            refused_as_of: header(HEADER_TIMESTAMP)
                .and_then(|text| text.parse().ok())
                .map(AsOf::from_ms),
            key: letter.key.as_deref().map(ClippedBytes::of),
            value: letter.value.as_deref().map(ClippedBytes::of),
            left_out_bytes: header(HEADER_VALUE_BYTES).and_then(|text| text.parse().ok()),
            headers: originals
                .iter()
                .take(HEADERS_KEPT)
                .map(|(name, value)| (name.clone(), value.as_deref().map(ClippedBytes::of)))
                .collect(),
            more_headers: originals.len().saturating_sub(HEADERS_KEPT),
        })
    }

    /// Whether some text of the letter is one that is looked for: bytes that are no text are read as
    /// far as they are.
    pub fn has_text(&self, is_one: impl Fn(&str) -> bool) -> bool {
        let headers = self.headers.iter().filter_map(|(_, value)| value.as_ref());
        let mut parts = self.key.iter().chain(&self.value).chain(headers);
        is_one(&self.message) || parts.any(|part| is_one(&String::from_utf8_lossy(&part.bytes)))
    }

    /// The letter with its bytes looked into. `schema` gives the JSON of a writer schema, or the
    /// cause why it cannot.
    pub fn shown(
        &self,
        mut schema: impl FnMut(&SchemaRef) -> Result<String, String>,
    ) -> ShownLetter {
        let known = Reason::ALL
            .into_iter()
            .find(|reason| reason.code() == self.reason);
        let guid = self.headers.iter().find(|(name, _)| name == SCHEMA_HEADER);
        let guid = guid.and_then(|(_, value)| value.as_ref());
        let mut look = |part: &ClippedBytes, guid| BytesShown::of(part, guid, &mut schema);
        let key = self.key.as_ref().map(|key| look(key, None));
        let value = self.value.as_ref().map(|value| look(value, guid));
        ShownLetter {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp_ms,
            refused_as_of: self.refused_as_of.map(AsOf::ms),
            reason: self.reason.clone(),
            reason_text: known.map_or("", Reason::words),
            remedy: known.map_or("", Reason::remedy),
            message: self.message.clone(),
            key,
            value,
            value_bytes_left_out: self.left_out_bytes,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| HeaderShown {
                    name: name.clone(),
                    value: value.as_ref().map(plain),
                })
                .collect(),
            more_headers: self.more_headers,
        }
    }
}

/// A dead letter, as `/api/v1/dead-letters` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownLetter {
    /// Topic of the original record.
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Kafka timestamp of the original record, milliseconds.
    pub timestamp: i64,
    /// `as_of` of the epoch that refused the record, milliseconds.
    pub refused_as_of: Option<i64>,
    /// Code of the reason.
    pub reason: String,
    /// The reason in words; empty for one of a newer program.
    pub reason_text: &'static str,
    /// The remedy; empty for a reason of a newer program.
    pub remedy: &'static str,
    /// The fault of this record in words.
    pub message: String,
    /// Look into the key; `None` is a null key.
    pub key: Option<BytesShown>,
    /// Look into the value; `None` is a tombstone, or a value that the letter left out.
    pub value: Option<BytesShown>,
    /// Bytes of a value that the letter left out because the topic has no room for it.
    pub value_bytes_left_out: Option<u64>,
    /// Headers of the original record, in order, the first 32.
    pub headers: Vec<HeaderShown>,
    /// Number of headers beyond them.
    pub more_headers: usize,
}

/// A header of the original record.
#[derive(Clone, Debug, Serialize)]
pub struct HeaderShown {
    /// Name of the header.
    pub name: String,
    /// Text or hexadecimal digits, cut; `None` is a null value.
    pub value: Option<String>,
}

/// A look into bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BytesShown {
    /// Number of all bytes.
    pub bytes: usize,
    /// `avro`, `json`, `text`, `hex` or `empty`.
    pub format: &'static str,
    /// The values, of Avro and JSON.
    pub content: Option<Json>,
    /// The text, or hexadecimal digits, cut.
    pub text: Option<String>,
    /// A remark: the schema's id, or the place where the reading ended.
    pub remark: Option<String>,
}

impl BytesShown {
    /// Tries Avro by the schema that the bytes or the `guid` header name, then JSON, then text.
    fn of(
        part: &ClippedBytes,
        guid: Option<&ClippedBytes>,
        schema: &mut impl FnMut(&SchemaRef) -> Result<String, String>,
    ) -> Self {
        let header = guid.map(|guid| (SCHEMA_HEADER, guid.bytes.as_slice()));
        let frame = Frame::parse(&part.bytes, header.into_iter());
        let mut remark = None;
        if let Ok(frame) = frame {
            match avro(frame, part, schema) {
                Ok(shown) => return shown,
                Err(cause) => remark = Some(cause),
            }
        }
        let mut shown = Self::untyped(part);
        shown.remark = remark.or(shown.remark);
        shown
    }

    fn untyped(part: &ClippedBytes) -> Self {
        let json = part.is_whole().then(|| serde_json::from_slice(&part.bytes));
        let cut = "only the first bytes are shown".to_owned();
        let (format, content, text) = match (json, part.text()) {
            _ if part.total == 0 => ("empty", None, None),
            (Some(Ok(content)), _) => ("json", Some(content), None),
            (_, Some(_)) => ("text", None, Some(plain(part))),
            (_, None) => ("hex", None, Some(plain(part))),
        };
        let is_cut = content.is_none() && part.total > TEXT_CHARACTERS;
        Self {
            bytes: part.total,
            format,
            content,
            text,
            remark: is_cut.then_some(cut),
        }
    }
}

/// Reads framed Avro, as far as the kept bytes go.
fn avro(
    frame: Frame<'_>,
    part: &ClippedBytes,
    schema: &mut impl FnMut(&SchemaRef) -> Result<String, String>,
) -> Result<BytesShown, String> {
    let name = match frame.schema {
        SchemaRef::Id(id) => format!("schema {id}"),
        SchemaRef::Guid(guid) => format!("schema {}", hex(&guid)),
        SchemaRef::Fingerprint(fingerprint) => format!("schema of fingerprint {fingerprint:016x}"),
    };
    let json = schema(&frame.schema).map_err(|cause| format!("{name}: {cause}"))?;
    let preview =
        avro_preview(&json, frame.body).map_err(|cause| format!("{name}, not read: {cause}"))?;
    let remark = match preview.stopped {
        None => name,
        Some(_) if !part.is_whole() => format!("{name}; only the first bytes are shown"),
        Some(stopped) => format!("{name}; {stopped}"),
    };
    Ok(BytesShown {
        bytes: part.total,
        format: "avro",
        content: Some(preview.json),
        text: None,
        remark: Some(remark),
    })
}

/// Text where the bytes are text, else hexadecimal digits; cut.
fn plain(part: &ClippedBytes) -> String {
    match part.text() {
        Some(text) => text.chars().take(TEXT_CHARACTERS).collect(),
        None => hex(&part.bytes[..part.bytes.len().min(TEXT_CHARACTERS / 2)]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dead_letter::{Rejected, without_value};

    const SCHEMA: &str = r#"{"type":"record","name":"V","fields":[{"name":"id","type":"string"}]}"#;

    fn letter(value: Option<&[u8]>) -> OutputRecord {
        let rejected = Rejected {
            topic: "crm.accounts",
            partition: 3,
            offset: 41,
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"\"A1\""),
            value,
            headers: vec![
                ("trace", Some(b"\xff\x01".as_slice())),
                (HEADER_TOPIC, Some(b"older".as_slice())),
            ],
        };
        rejected.dead_letter(
            Reason::AvroDecode,
            "accounts: 1 byte is left over",
            AsOf::from_ms(99),
        )
    }

    fn shown(value: Option<&[u8]>) -> ShownLetter {
        KeptLetter::of(&letter(value))
            .unwrap()
            .shown(|schema| match schema {
                SchemaRef::Id(7) => Ok(SCHEMA.to_owned()),
                _ => Err("registered nowhere".to_owned()),
            })
    }

    #[test]
    fn a_letter_is_shown_with_position_reason_and_remedy() {
        let shown = shown(None);
        assert_eq!(
            (shown.topic.as_str(), shown.partition, shown.offset),
            ("crm.accounts", 3, 41)
        );
        assert_eq!(shown.reason, "avro_decode");
        assert!(!shown.reason_text.is_empty() && !shown.remedy.is_empty());
        assert_eq!(shown.refused_as_of, Some(99));
        assert_eq!(shown.value, None);
        assert_eq!(shown.key.unwrap().content, Some(json!("A1")));
        let headers: Vec<_> = shown
            .headers
            .iter()
            .map(|header| (header.name.as_str(), header.value.as_deref()))
            .collect();
        assert_eq!(
            headers,
            [("trace", Some("ff01")), (HEADER_TOPIC, Some("older"))],
            "headers of an earlier refusal are the original's"
        );
    }

    #[test]
    fn values_are_looked_into() {
        let avro = shown(Some(&[0, 0, 0, 0, 7, 4, b'a', b'b', 9]))
            .value
            .unwrap();
        assert_eq!(
            (avro.format, avro.content),
            ("avro", Some(json!({"id": "ab"})))
        );
        assert_eq!(
            avro.remark.as_deref(),
            Some("schema 7; 1 bytes are left over")
        );
        let unknown = shown(Some(&[0, 0, 0, 0, 8, 4, b'a'])).value.unwrap();
        assert_eq!(
            (
                unknown.format,
                unknown.text.as_deref(),
                unknown.remark.as_deref()
            ),
            (
                "hex",
                Some("00000000080461"),
                Some("schema 8: registered nowhere")
            )
        );
        let json = shown(Some(br#"{"a":[1]}"#)).value.unwrap();
        assert_eq!(
            (json.format, json.content),
            ("json", Some(json!({"a": [1]})))
        );
        let text = shown(Some("{é".as_bytes())).value.unwrap();
        assert_eq!((text.format, text.text.as_deref()), ("text", Some("{é")));
        let bytes = shown(Some(b"\xfe\xff")).value.unwrap();
        assert_eq!((bytes.format, bytes.text.as_deref()), ("hex", Some("feff")));
        assert_eq!(shown(Some(b"")).value.unwrap().format, "empty");
    }

    #[test]
    fn a_shown_letter_is_bounded() {
        let long = "é".repeat(1 << 20);
        let shown = shown(Some(long.as_bytes())).value.unwrap();
        assert_eq!((shown.format, shown.bytes), ("text", 2 << 20));
        assert_eq!(shown.text.unwrap().chars().count(), TEXT_CHARACTERS);
        let without = KeptLetter::of(&without_value(&letter(Some(b"abc")))).unwrap();
        let without = without.shown(|_| Err(String::new()));
        assert_eq!(without.value_bytes_left_out, Some(3));
        assert_eq!(without.value, None);
    }
}
