//! A first draft of a table's schema, from a writer's: fields flattened, roles guessed, every guess
//! said.
//!
//! The draft is a start for a person, so it prefers to name too much: a guess that is wrong costs
//! one edit, a field left out in silence costs a search.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::catalog::Role;
use crate::shape::SchemaLanguage;

mod avro;
mod json_schema;
mod protobuf;

/// A writer's schema that no draft can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The text does not parse in its language.
    #[error("the schema is not {language}: {why}")]
    Unreadable { language: &'static str, why: String },
    /// The schema describes no record.
    #[error("the schema is not a record with fields; name the subject of a topic's values")]
    NotARecord,
    /// No field can stand in a table.
    #[error("none of the schema's fields can be a column")]
    Empty,
}

/// The type of a drafted field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DraftType {
    Bool,
    Long,
    Double,
    Text,
    Texts,
    /// A time, with the `times` entry that reads it; `None` where the writer's type declares the
    /// unit.
    Time(Option<&'static str>),
}

/// A value of the writer's record that can become a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    /// Names from the record down.
    pub(crate) path: Vec<String>,
    pub(crate) kind: DraftType,
    pub(crate) doc: Option<String>,
}

/// Leaves of a writer's schema, and what was left out.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    /// The record's own name.
    pub(crate) name: String,
    pub(crate) found: Vec<Leaf>,
    pub(crate) remarks: Vec<String>,
    /// Name of the envelope that the record is wrapped in.
    pub(crate) envelope: Option<&'static str>,
}

/// Records nest no deeper than this in a draft. A schema may contain itself.
pub(crate) const MAX_DEPTH: usize = 6;

/// The draft of a table's schema and of the source that feeds the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The table's schema: an annotated Avro record.
    pub schema: Json,
    /// Name of the envelope that the source has to unwrap.
    pub envelope: Option<&'static str>,
    /// The writer's path → field, where the two differ.
    pub columns: BTreeMap<String, String>,
    /// Field → unit or format, for times whose unit the writer's type does not declare. `?` stands
    /// for a unit to fill in.
    pub times: BTreeMap<String, &'static str>,
    /// Guesses and omissions, for people.
    pub remarks: Vec<String>,
}

/// A table that references may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTable {
    pub name: String,
    /// Name of the key field.
    pub key: String,
}

impl KnownTable {
    /// The table that a schema file declares; `None` for events, and for files that are none of a
    /// table. The folder around the file need not be complete yet, as it is not while tables are
    /// drafted one by one.
    pub fn declared_in(avsc: &str) -> Option<Self> {
        let schema: Json = serde_json::from_str(avsc).ok()?;
        let annotation = schema.get("leadpulse")?;
        if annotation.get("role")?.as_str()? == "event" {
            return None;
        }
        let fields = schema.get("fields")?.as_array()?;
        let key = fields.iter().find(|f| f["leadpulse"]["key"] == true)?;
        Some(Self {
            name: annotation.get("table")?.as_str()?.to_owned(),
            key: key.get("name")?.as_str()?.to_owned(),
        })
    }
}

/// Drafts the schema of `table` from a writer's schema. `known` are the tables that references may
/// lead to.
///
/// # Errors
/// A text that does not parse, or holds no record.
///
/// # Examples
/// ```
/// use leadpulse_schema::{Role, SchemaLanguage, draft};
///
/// let writer = r#"{"type": "record", "name": "Visit", "fields": [
///   {"name": "visit_id", "type": "string"},
///   {"name": "page", "type": {"type": "record", "name": "Page", "fields": [
///     {"name": "url", "type": "string"}]}}]}"#;
/// let draft = draft(SchemaLanguage::Avro, writer, "visits", Some(Role::Event), &[])?;
/// assert_eq!(draft.columns["page.url"], "page_url");
/// assert_eq!(draft.schema["fields"][0]["leadpulse"]["key"], true);
/// # Ok::<(), leadpulse_schema::DraftError>(())
/// ```
pub fn draft(
    language: SchemaLanguage,
    text: &str,
    table: &str,
    role: Option<Role>,
    known: &[KnownTable],
) -> Result<Draft, DraftError> {
    let leaves = match language {
        SchemaLanguage::Avro => avro::leaves(text)?,
        SchemaLanguage::JsonSchema => json_schema::leaves(text)?,
        SchemaLanguage::Protobuf => protobuf::leaves(text)?,
    };
    if leaves.found.is_empty() {
        return Err(DraftError::Empty);
    }
    Ok(Drafter::new(leaves, table).finish(role, known))
}

struct Drafter {
    table: String,
    record: String,
    leaves: Vec<Leaf>,
    /// Field names, parallel to the leaves.
    names: Vec<String>,
    draft: Draft,
}

impl Drafter {
    fn new(leaves: Leaves, table: &str) -> Self {
        let names = field_names(&leaves.found);
        Self {
            table: table.to_owned(),
            record: leaves.name,
            leaves: leaves.found,
            names,
            draft: Draft {
                schema: Json::Null,
                envelope: leaves.envelope,
                columns: BTreeMap::new(),
                times: BTreeMap::new(),
                remarks: leaves.remarks,
            },
        }
    }

    fn finish(mut self, role: Option<Role>, known: &[KnownTable]) -> Draft {
        let key = self.key();
        let time = self.time();
        let references = self.references(key, known);
        let role = role.unwrap_or_else(|| self.guess_role(time, &references, known));
        let mut is_owned = false;
        let fields: Vec<Json> = (0..self.leaves.len())
            .map(|index| {
                let mut annotation = Map::new();
                if Some(index) == key {
                    annotation.insert("key".into(), true.into());
                }
                if Some(index) == time {
                    annotation.insert("time".into(), true.into());
                }
                if let Some(target) = references.get(&index) {
                    annotation.insert("ref".into(), target.as_str().into());
                    let may_own = role == Role::Event || (role == Role::Member && !is_owned);
                    if may_own {
                        annotation.insert("owner".into(), true.into());
                        is_owned = true;
                    }
                }
                self.field(index, Some(index) == key, annotation)
            })
            .collect();
        for (leaf, name) in self.leaves.iter().zip(&self.names) {
            let path = leaf.path.join(".");
            if path != *name {
                self.draft.columns.insert(path, name.clone());
            }
            if let DraftType::Time(Some(unit)) = leaf.kind {
                self.draft.times.insert(name.clone(), unit);
            }
        }
        self.remark(key, time, role, is_owned);
        self.draft.schema = json!({
            "type": "record",
            "name": record_name(&self.record, &self.table),
            "doc": format!("Draft: one row of {}. Say what a row is.", self.table),
            "leadpulse": { "table": self.table, "role": role.name() },
            "fields": fields,
        });
        self.draft
    }

    fn field(&self, index: usize, is_key: bool, annotation: Map<String, Json>) -> Json {
        let leaf = &self.leaves[index];
        let plain = match leaf.kind {
            DraftType::Bool => json!("boolean"),
            DraftType::Long => json!("long"),
            DraftType::Double => json!("double"),
            DraftType::Text => json!("string"),
            DraftType::Texts => json!({ "type": "array", "items": "string" }),
            DraftType::Time(_) => json!({ "type": "long", "logicalType": "timestamp-millis" }),
        };
        let mut field = Map::new();
        field.insert("name".into(), self.names[index].as_str().into());
        if is_key {
            field.insert("type".into(), plain);
        } else {
            field.insert("type".into(), json!(["null", plain]));
            field.insert("default".into(), Json::Null);
        }
        if let Some(doc) = &leaf.doc {
            field.insert("doc".into(), doc.as_str().into());
        }
        if !annotation.is_empty() {
            field.insert("leadpulse".into(), annotation.into());
        }
        field.into()
    }

    /// The field that names a row: `account_id` of accounts, `id`, else the first that ends in id.
    fn key(&self) -> Option<usize> {
        let singular = singular(&self.table);
        let record = snake(&self.record);
        let wanted = [
            format!("{singular}_id"),
            format!("{record}_id"),
            "id".to_owned(),
            "message_id".to_owned(),
            "event_id".to_owned(),
            "uuid".to_owned(),
        ];
        let may_be =
            |index: usize| matches!(self.leaves[index].kind, DraftType::Text | DraftType::Long);
        let named =
            |name: &String| (0..self.names.len()).find(|i| may_be(*i) && self.names[*i] == *name);
        wanted.iter().find_map(named).or_else(|| {
            (0..self.names.len()).find(|i| may_be(*i) && self.names[*i].ends_with("_id"))
        })
    }

    /// The field with the row's own time.
    fn time(&self) -> Option<usize> {
        const NAMES: [&str; 8] = [
            "occurred",
            "happened",
            "timestamp",
            "event_time",
            "updated",
            "modified",
            "changed",
            "created",
        ];
        let times: Vec<usize> = (0..self.leaves.len())
            .filter(|i| matches!(self.leaves[*i].kind, DraftType::Time(_)))
            .collect();
        let named = NAMES
            .iter()
            .find_map(|part| times.iter().find(|i| self.names[**i].contains(part)));
        named.or(times.first()).copied()
    }

    /// Fields that name a row of another table: they are called like its key, or `<table>_id`.
    fn references(&self, key: Option<usize>, known: &[KnownTable]) -> BTreeMap<usize, String> {
        let mut found = BTreeMap::new();
        for table in known.iter().filter(|table| table.name != self.table) {
            let by_table = format!("{}_id", singular(&table.name));
            let names = [table.key.as_str(), by_table.as_str()];
            for (index, name) in self.names.iter().enumerate() {
                if Some(index) != key && *name != "id" && names.contains(&name.as_str()) {
                    found.insert(index, table.name.clone());
                }
            }
        }
        found
    }

    fn guess_role(
        &self,
        time: Option<usize>,
        references: &BTreeMap<usize, String>,
        known: &[KnownTable],
    ) -> Role {
        const HAPPENS: [&str; 4] = ["occurred", "happened", "timestamp", "event_time"];
        let happens =
            time.is_some_and(|time| HAPPENS.iter().any(|part| self.names[time].contains(part)));
        if happens {
            Role::Event
        } else if references.is_empty() && known.is_empty() {
            Role::Root
        } else {
            Role::Member
        }
    }

    fn remark(&mut self, key: Option<usize>, time: Option<usize>, role: Role, is_owned: bool) {
        let name = |index: Option<usize>| index.map(|i| self.names[i].clone());
        let mut say = vec![match name(key) {
            Some(name) => format!("key: {name}, by its name; it must identify a row for ever"),
            None => "key: none found; mark one field with \"key\": true".to_owned(),
        }];
        say.push(match name(time) {
            Some(name) => format!("time: {name}, by its type and name"),
            None => "time: none found; an event needs a field with \"time\": true".to_owned(),
        });
        say.push(format!(
            "role: {}; see docs/schemas.md for the others",
            role.name()
        ));
        if role != Role::Root && !is_owned {
            say.push(
                "owner: none found; mark the field that names the account or person with \"ref\" and \"owner\"".to_owned(),
            );
        }
        let open: Vec<&str> = (self.draft.times.iter())
            .filter(|(_, unit)| **unit == UNKNOWN_UNIT)
            .map(|(name, _)| name.as_str())
            .collect();
        if !open.is_empty() {
            say.push(format!(
                "times: the schema does not say the unit of {}; replace ? by seconds, millis, micros, nanos or days",
                open.join(", ")
            ));
        }
        self.draft.remarks.splice(0..0, say);
    }
}

/// The unit of a number that looks like a time by its name alone.
pub(crate) const UNKNOWN_UNIT: &str = "?";

/// Whether a number of this name is likely a time.
pub(crate) fn is_named_like_time(name: &str) -> bool {
    let name = snake(name);
    ["_at", "_time", "_ts", "_timestamp", "_date", "_on"]
        .iter()
        .any(|end| name.ends_with(end))
        || matches!(name.as_str(), "timestamp" | "time" | "ts" | "date")
}

/// Snake-case names, unique: the last name of a path, with those before it where two would be equal
/// or one would be bare.
fn field_names(leaves: &[Leaf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let wanted = snake(&leaf.path.join("_"));
        let mut name = wanted.clone();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

/// `CamelCase`, `kebab-case` and `dotted.names` as `snake_case`; a digit in front gets an
/// underscore.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut was_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if was_lower {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
            was_lower = false;
        } else if c.is_ascii_alphanumeric() {
            out.push(c);
            was_lower = true;
        } else {
            if !out.ends_with('_') && !out.is_empty() {
                out.push('_');
            }
            was_lower = false;
        }
    }
    let out = out.trim_end_matches('_').to_owned();
    match out.chars().next() {
        Some(c) if c.is_ascii_digit() => format!("_{out}"),
        Some(_) => out,
        None => "field".to_owned(),
    }
}

/// `companies` → `company`, `accounts` → `account`.
fn singular(table: &str) -> String {
    match table.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => table.strip_suffix('s').unwrap_or(table).to_owned(),
    }
}

/// The writer's name where Avro allows it, else one made from the table's.
fn record_name(record: &str, table: &str) -> String {
    let name = record.rsplit('.').next().unwrap_or(record);
    let is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_valid && !matches!(name, "Envelope" | "Value" | "Key") {
        return name.to_owned();
    }
    camel_case(&singular(table))
}

/// A name of words with `_` between them as Avro's records are called: `web_visit` is `WebVisit`.
pub(crate) fn camel_case(words: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    words.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests;
