//! Keys that no single column holds: made from several parts of a row, or from all of it.
//!
//! Decision: docs/decisions/0036-keys-parquet-and-places.md

use std::borrow::Cow;

use xxhash_rust::xxh3::Xxh3;

use super::data_node::DataNode;
use super::path::FieldPath;
use super::plan::fault;
use super::text::TextRead;
use super::{NameList, ShapeError};
use crate::catalog::shape::Shape;
use crate::catalog::{DataType, FieldId, Table};
use crate::row::{RowBuilder, Value};

/// The word that makes the key from the whole row.
pub(crate) const WHOLE_ROW: &str = "@row";
/// The sign between parts; in a part it stands behind an escape.
const SEPARATOR: char = ':';
const ESCAPE: char = '\\';

/// The parts of a row that make its key.
#[derive(Clone, Debug)]
pub(crate) enum MadeKey {
    Parts(Vec<KeyPart>),
    /// A hash of the row as it was read.
    WholeRow,
}

/// One part of a made key.
#[derive(Clone, Debug)]
pub(crate) struct KeyPart {
    /// The name as configured: a field, or a path in the record.
    pub(crate) path: FieldPath,
    /// The field that the part feeds, if any. Its value is the part, so that one time or number
    /// gives one key however a file writes it.
    pub(crate) field: Option<FieldId>,
}

/// The reason why a part of a key may not be null, for people.
pub(crate) const PART_NEEDED: &str = "it is a part of the key, by the setting key of the source";

impl MadeKey {
    /// Compiles the setting `key`. `mapped` are the configured paths of each field.
    ///
    /// # Errors
    /// The words for a person: a key field that is no text, or parts that mean nothing.
    pub(crate) fn of(
        option: &NameList,
        table: &Table,
        key_shape: &Shape,
        mapped: &[Vec<FieldPath>],
    ) -> Result<Self, ShapeError> {
        let refuse = |why: String| Err(fault(table, "key", why));
        let key = &table.field_at(table.key).name;
        if !matches!(key_shape, Shape::Text) {
            return refuse(format!(
                "the key field {key} is {}, and a made key is text; declare the field as a string",
                key_shape.describe()
            ));
        }
        if let Some(path) = mapped[table.key.index()].first() {
            return refuse(format!(
                "columns feeds the key field {key} from '{}' too; leave out one of the two",
                path.as_str()
            ));
        }
        let names = option.names();
        if names == [WHOLE_ROW] {
            return Ok(MadeKey::WholeRow);
        }
        if names.is_empty() {
            return refuse(format!(
                "it names no column; name those that identify a row, or \"{WHOLE_ROW}\" for all"
            ));
        }
        let mut parts: Vec<KeyPart> = Vec::new();
        for name in names {
            if name.is_empty() || name == WHOLE_ROW {
                return refuse(format!(
                    "'{name}' is no column; \"{WHOLE_ROW}\" stands alone, as in key = \"{WHOLE_ROW}\""
                ));
            }
            if parts.iter().any(|part| part.path.as_str() == name) {
                return refuse(format!(
                    "'{name}' stands in it twice; leave out one of the two"
                ));
            }
            let fed = || {
                let feeds = |paths: &Vec<FieldPath>| paths.iter().any(|p| p.as_str() == name);
                mapped.iter().position(feeds)
            };
            let own = table.field(name).map(|field| field.id.index());
            let field = own.filter(|own| *own != table.key.index()).or_else(fed);
            let field = field.map(|index| &table.fields[index]);
            if field.is_some_and(|field| field.data_type == DataType::TextList) {
                return refuse(format!("'{name}' is a list; name columns of single values"));
            }
            parts.push(KeyPart {
                path: FieldPath::new(name),
                field: field.map(|field| field.id),
            });
        }
        Ok(MadeKey::Parts(parts))
    }

    fn parts(&self) -> &[KeyPart] {
        match self {
            MadeKey::Parts(parts) => parts,
            MadeKey::WholeRow => &[],
        }
    }

    /// True for a field whose value is a part of the key.
    pub(crate) fn has_part(&self, field: FieldId) -> bool {
        self.parts().iter().any(|part| part.field == Some(field))
    }

    /// The paths of parts that feed no field.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &FieldPath> {
        let bare = self.parts().iter().filter(|part| part.field.is_none());
        bare.map(|part| &part.path)
    }
}

/// Joins the parts of a row's key. The fields of the row are set before; `raw` finds the text of a
/// part that feeds none.
///
/// # Errors
/// The name of a part that is null.
pub(crate) fn key_of_parts<'p>(
    parts: &'p [KeyPart],
    builder: &RowBuilder<'_>,
    raw: impl Fn(&FieldPath) -> Option<String>,
) -> Result<String, &'p str> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let text = match part.field {
            Some(field) => field_text(builder.get(field)),
            None => raw(&part.path),
        };
        let text = text.filter(|text| !text.trim().is_empty());
        texts.push(text.ok_or(part.path.as_str())?);
    }
    Ok(joined(&texts))
}

fn field_text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Null | Value::List(_) => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Long(number) | Value::Time(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_owned()),
    }
}

/// Joins the parts of a key. Different parts never give one key: in each of several the separator
/// is escaped.
fn joined(parts: &[String]) -> String {
    if let [only] = parts {
        return only.clone();
    }
    let mut key = String::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            key.push(SEPARATOR);
        }
        for sign in part.chars() {
            if sign == SEPARATOR || sign == ESCAPE {
                key.push(ESCAPE);
            }
            key.push(sign);
        }
    }
    key
}

/// The text of a part that feeds no field; `None` where it is null.
pub(crate) fn part_text(node: &DataNode<'_>, text: &TextRead) -> Option<String> {
    let part = node.scalar()?;
    (!text.is_null(&part)).then(|| part.into_owned())
}

/// The hash of a row's members, 32 hexadecimal digits. The order of members, and members without a
/// value, make no difference; `left_out` are names that say something about the record, not the
/// row.
///
/// The hash is XXH3 with 128 bits, which is the same on every machine and in every version.
pub(crate) fn row_hash(row: &DataNode<'_>, left_out: &[&str]) -> String {
    let mut hasher = Xxh3::new();
    match row {
        DataNode::Members(members) => {
            let kept = members
                .iter()
                .filter(|(name, _)| !left_out.contains(&name.as_ref()));
            add_members(kept, &mut hasher);
        }
        other => add(other, &mut hasher),
    }
    format!("{:032x}", hasher.digest128())
}

fn add_members<'m, 'a: 'm>(
    members: impl Iterator<Item = &'m (Cow<'a, str>, DataNode<'a>)>,
    hasher: &mut Xxh3,
) {
    let mut present: Vec<_> = members.filter(|(_, value)| !is_absent(value)).collect();
    present.sort_by(|(a, _), (b, _)| a.cmp(b));
    begin(b'm', present.len(), hasher);
    for (name, value) in present {
        add_bytes(b't', name.as_bytes(), hasher);
        add(value, hasher);
    }
}

/// Values of all formats that mean "none" are left out: a file may have an empty cell where a
/// record has null, or has no such member.
fn is_absent(node: &DataNode<'_>) -> bool {
    match node {
        DataNode::Null => true,
        DataNode::Text(text) => text.is_empty(),
        _ => false,
    }
}

fn add(node: &DataNode<'_>, hasher: &mut Xxh3) {
    match node {
        DataNode::Members(members) => add_members(members.iter(), hasher),
        DataNode::List(items) => {
            begin(b'l', items.len(), hasher);
            items.iter().for_each(|item| add(item, hasher));
        }
        DataNode::Bytes(bytes) => add_bytes(b'b', bytes, hasher),
        scalar => {
            let text = scalar.scalar().unwrap_or_default();
            add_bytes(b't', text.as_bytes(), hasher);
        }
    }
}

/// A kind and a length stand before each value, so that no two rows have one sequence of bytes.
fn begin(kind: u8, length: usize, hasher: &mut Xxh3) {
    hasher.update(&[kind]);
    hasher.update(&(length as u64).to_le_bytes());
}

fn add_bytes(kind: u8, bytes: &[u8], hasher: &mut Xxh3) {
    begin(kind, bytes.len(), hasher);
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_differ_give_keys_that_differ() {
        let key = |parts: &[&str]| {
            joined(
                &parts
                    .iter()
                    .map(|part| (*part).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(key(&["7", "2"]), "7:2");
        assert_eq!(key(&["a:b"]), "a:b");
        let different = [
            key(&["a", "b:c"]),
            key(&["a:b", "c"]),
            key(&["a", "b", "c"]),
            key(&["a\\", "b:c"]),
            key(&["a\\:b", "c"]),
        ];
        for (place, one) in different.iter().enumerate() {
            assert!(!different[..place].contains(one), "{different:?}");
        }
    }

    #[test]
    fn the_hash_of_a_row_is_that_of_its_values() {
        let hash = |json: &str| row_hash(&DataNode::json(json.as_bytes()).unwrap(), &["op"]);
        // Kept in topics and files by whoever reads them: the figure must never change.
        assert_eq!(
            hash(r#"{"a":"x","b":2}"#),
            "7f85722b523f974867e1fbf2db7aa92e"
        );
        for same in [
            r#"{"b":2,"a":"x"}"#,
            r#"{"b":"2","a":"x","c":null,"d":""}"#,
            r#"{"b":2,"a":"x","op":"d"}"#,
        ] {
            assert_eq!(hash(same), hash(r#"{"a":"x","b":2}"#), "{same}");
        }
        for other in [
            r#"{"a":"x","c":2}"#,
            r#"{"a":"x2"}"#,
            r#"{"a":"xb","":2}"#,
            r#"{"a":["x"],"b":2}"#,
            r#"{"a":{"a":"x"},"b":2}"#,
        ] {
            assert_ne!(hash(other), hash(r#"{"a":"x","b":2}"#), "{other}");
        }
    }
}
