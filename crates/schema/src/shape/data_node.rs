//! One value of a record, whatever the format: what shapes, envelopes and filters look at.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value with its members. Text is borrowed from the record where the format allows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DataNode<'a> {
    Null,
    Bool(bool),
    /// A whole number; wider than any format's, so that ids stay exact.
    Int(i128),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// A time whose unit the writer declared, milliseconds since 1970 UTC.
    Moment(i64),
    List(Vec<DataNode<'a>>),
    /// Names and values in the writer's order. Of a name that occurs twice the last counts.
    Members(Vec<(Cow<'a, str>, DataNode<'a>)>),
}

/// The mark that some programs write in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> DataNode<'a> {
    /// Parses JSON. Nesting is bounded by the parser.
    pub(crate) fn json(bytes: &'a [u8]) -> Result<DataNode<'a>, serde_json::Error> {
        serde_json::from_slice(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
    }

    /// The member of this name, if the value has members.
    pub(crate) fn member(&self, name: &str) -> Option<&DataNode<'a>> {
        let DataNode::Members(members) = self else {
            return None;
        };
        let found = members.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    pub(crate) fn members(&self) -> &[(Cow<'a, str>, DataNode<'a>)] {
        match self {
            DataNode::Members(members) => members,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            DataNode::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, DataNode::Null)
    }

    /// The text that a filter, an operation or a key compares; `None` for null and for compounds.
    pub(crate) fn scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            DataNode::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            DataNode::Int(value) => Some(Cow::Owned(value.to_string())),
            DataNode::Double(value) => Some(Cow::Owned(value.to_string())),
            DataNode::Text(text) => Some(Cow::Borrowed(text)),
            DataNode::Moment(ms) => Some(Cow::Owned(ms.to_string())),
            DataNode::Null | DataNode::Bytes(_) | DataNode::List(_) | DataNode::Members(_) => None,
        }
    }

    /// The type's name, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            DataNode::Null => "null",
            DataNode::Bool(_) => "a boolean",
            DataNode::Int(_) | DataNode::Double(_) => "a number",
            DataNode::Text(_) => "text",
            DataNode::Bytes(_) => "bytes",
            DataNode::Moment(_) => "a time",
            DataNode::List(_) => "an array",
            DataNode::Members(_) => "an object",
        }
    }
}

/// The name of a member, borrowed where it has no escapes.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = MemberName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<MemberName<'de>, E> {
                Ok(MemberName(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<MemberName<'de>, E> {
                Ok(MemberName(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for DataNode<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataNodeVisitor)
    }
}

struct DataNodeVisitor;

impl<'de> Visitor<'de> for DataNodeVisitor {
    type Value = DataNode<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Int(value.into()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Int(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Double(value))
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<DataNode<'de>, E> {
        Ok(DataNode::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<DataNode<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(DataNode::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<DataNode<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((MemberName(name), value)) = entries.next_entry()? {
            members.push((name, value));
        }
        Ok(DataNode::Members(members))
    }
}

/// Decodes standard or URL-safe base64, with or without padding; `None` for anything else.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut bits) = (0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        group = group << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((group >> bits) as u8);
            group &= (1 << bits) - 1;
        }
    }
    // Less than a byte may be left over, and only as zeros.
    (bits < 6 && group == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_whole_numbers_stay_exact_and_the_last_of_two_members_counts() {
        let node = DataNode::json(b"\xef\xbb\xbf{\"id\":18446744073709551615,\"x\":1,\"x\":-2}");
        let node = node.unwrap();
        assert_eq!(node.member("id"), Some(&DataNode::Int(u64::MAX.into())));
        assert_eq!(node.member("x"), Some(&DataNode::Int(-2)));
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(DataNode::json(&deep).is_err());
    }

    #[test]
    fn base64_is_read_in_both_alphabets() {
        for (text, expected) in [
            ("", Some(vec![])),
            ("AQ==", Some(vec![1])),
            ("AQ", Some(vec![1])),
            ("/+8=", Some(vec![0xff, 0xef])),
            ("_-8", Some(vec![0xff, 0xef])),
            ("AQID", Some(vec![1, 2, 3])),
            ("A", None),
            ("A!==", None),
        ] {
            assert_eq!(base64(text), expected, "{text}");
        }
    }
}
