//! The leaves of an Avro schema, from its JSON: logical types, and the types that Connect and Debezium name.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::shape::connect::unit_of;

use super::{DraftError, DraftType, Leaf, Leaves, MAX_DEPTH, UNKNOWN_UNIT, is_named_like_time};

pub(super) fn leaves(text: &str) -> Result<Leaves, DraftError> {
    let unreadable = |why: String| DraftError::Unreadable {
        language: "Avro",
        why,
    };
    apache_avro::Schema::parse_str(text).map_err(|error| unreadable(error.to_string()))?;
    let schema: Json = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let mut walk = Walk::default();
    walk.name_types(&schema);
    let record = walk.row_of(&schema).ok_or(DraftError::NotARecord)?;
    walk.leaves.name = record["name"].as_str().unwrap_or_default().to_owned();
    walk.record(&record, &mut Vec::new());
    Ok(walk.leaves)
}

#[derive(Default)]
struct Walk {
    named: HashMap<String, Json>,
    leaves: Leaves,
}

/// The type of a field, with its record looked up.
enum Found {
    Leaf(DraftType),
    Record(Json),
    Other(&'static str),
}

impl Walk {
    fn name_types(&mut self, schema: &Json) {
        match schema {
            Json::Array(branches) => branches.iter().for_each(|b| self.name_types(b)),
            Json::Object(object) => {
                let is_named = matches!(
                    object.get("type").and_then(Json::as_str),
                    Some("record" | "enum" | "fixed")
                );
                if let (true, Some(name)) = (is_named, object.get("name").and_then(Json::as_str)) {
                    self.named.insert(name.to_owned(), schema.clone());
                    let space = object.get("namespace").and_then(Json::as_str);
                    if let Some(space) = space {
                        self.named.insert(format!("{space}.{name}"), schema.clone());
                    }
                }
                for inside in ["type", "items", "values"]
                    .iter()
                    .filter_map(|k| object.get(*k))
                {
                    self.name_types(inside);
                }
                let fields = object.get("fields").and_then(Json::as_array);
                for field in fields.into_iter().flatten() {
                    self.name_types(field);
                }
            }
            _ => {}
        }
    }

    /// The record with the columns: that of `after` where the schema is an envelope of changes.
    fn row_of(&mut self, schema: &Json) -> Option<Json> {
        let fields = schema.get("fields")?.as_array()?;
        let field = |name: &str| fields.iter().find(|f| f["name"] == name);
        if let (Some(_), Some(after), Some(_)) = (field("before"), field("after"), field("op"))
            && let Found::Record(row) = self.kind(&after["type"], "after")
        {
            self.leaves.envelope = Some("debezium");
            self.leaves.remarks.push(
                "envelope: the record wraps a change (before, after, op); the draft is of the row inside".to_owned(),
            );
            return Some(row);
        }
        Some(schema.clone())
    }

    fn record(&mut self, record: &Json, path: &mut Vec<String>) {
        let fields = record.get("fields").and_then(Json::as_array).cloned();
        for field in fields.iter().flatten() {
            let Some(name) = field["name"].as_str() else {
                continue;
            };
            path.push(name.to_owned());
            match self.kind(&field["type"], name) {
                Found::Leaf(kind) => self.leaves.found.push(Leaf {
                    path: path.clone(),
                    kind,
                    doc: field.get("doc").and_then(Json::as_str).map(str::to_owned),
                }),
                Found::Record(inner) if path.len() < MAX_DEPTH => self.record(&inner, path),
                Found::Record(_) => self.leave_out(path, "records nest too deep"),
                Found::Other(why) => self.leave_out(path, why),
            }
            path.pop();
        }
    }

    fn leave_out(&mut self, path: &[String], why: &str) {
        self.leaves
            .remarks
            .push(format!("left out: {} ({why})", path.join(".")));
    }

    fn kind(&self, schema: &Json, name: &str) -> Found {
        match schema {
            Json::String(primitive) => self.primitive(primitive, name),
            Json::Array(branches) => {
                let others: Vec<&Json> = branches.iter().filter(|b| *b != "null").collect();
                match others[..] {
                    [one] => self.kind(one, name),
                    _ => Found::Other("a union of several types; map the one you need by columns"),
                }
            }
            Json::Object(object) => {
                if let Some(kind) = declared(object) {
                    return Found::Leaf(kind);
                }
                match &schema["type"] {
                    Json::String(kind) if kind == "record" => Found::Record(schema.clone()),
                    Json::String(kind) if kind == "enum" => Found::Leaf(DraftType::Text),
                    Json::String(kind) if kind == "array" => self.array(&schema["items"]),
                    Json::String(kind) if kind == "map" => {
                        Found::Other("a map; name the members you need by columns")
                    }
                    Json::String(kind) if kind == "fixed" => Found::Other("raw bytes"),
                    inner => self.kind(inner, name),
                }
            }
            _ => Found::Other("its type is unknown"),
        }
    }

    fn primitive(&self, name_of_type: &str, name: &str) -> Found {
        Found::Leaf(match name_of_type {
            "boolean" => DraftType::Bool,
            "int" | "long" if is_named_like_time(name) => DraftType::Time(Some(UNKNOWN_UNIT)),
            "int" | "long" => DraftType::Long,
            "float" | "double" => DraftType::Double,
            "string" => DraftType::Text,
            "bytes" => return Found::Other("raw bytes"),
            "null" => return Found::Other("it is always null"),
            other => {
                return match self.named.get(other) {
                    Some(found) => self.kind(found, name),
                    None => Found::Other("its type is not in the schema"),
                };
            }
        })
    }

    fn array(&self, items: &Json) -> Found {
        match self.kind(items, "") {
            Found::Leaf(DraftType::Text) => Found::Leaf(DraftType::Texts),
            _ => Found::Other("an array; map one item by columns, or send its items as events"),
        }
    }
}

/// The type that a logical type, or the name that Connect's converter adds, declares.
fn declared(object: &serde_json::Map<String, Json>) -> Option<DraftType> {
    let text = |key: &str| object.get(key).and_then(Json::as_str);
    if let Some(name) = text("connect.name")
        && let Some(kind) = connect_type(name)
    {
        return Some(kind);
    }
    match text("logicalType")? {
        "decimal" => Some(DraftType::Double),
        "uuid" => Some(DraftType::Text),
        "date" => Some(DraftType::Time(None)),
        logical if logical.contains("timestamp-") => Some(DraftType::Time(None)),
        _ => None,
    }
}

/// The type that a semantic name of Connect or Debezium stands for. The name declares the unit of a time.
pub(super) fn connect_type(name: &str) -> Option<DraftType> {
    if unit_of(name).is_some() {
        return Some(DraftType::Time(None));
    }
    let short = name
        .strip_prefix("io.debezium.time.")
        .or_else(|| name.strip_prefix("io.debezium.data."))
        .or_else(|| name.strip_prefix("org.apache.kafka.connect.data."))?;
    match short {
        "ZonedTimestamp" | "IsoTimestamp" | "IsoDate" => Some(DraftType::Time(None)),
        "Decimal" | "VariableScaleDecimal" => Some(DraftType::Double),
        "Enum" | "EnumSet" | "Json" | "Uuid" | "Xml" => Some(DraftType::Text),
        _ => None,
    }
}
