//! The leaves of a JSON Schema: properties, with Confluent's nullable unions and Connect's names.

use serde_json::Value as Json;

use super::avro::connect_type;
use super::{DraftError, DraftType, Leaf, Leaves, MAX_DEPTH, UNKNOWN_UNIT, is_named_like_time};

pub(super) fn leaves(text: &str) -> Result<Leaves, DraftError> {
    let root: Json = serde_json::from_str(text).map_err(|error| DraftError::Unreadable {
        language: "JSON Schema",
        why: error.to_string(),
    })?;
    let mut walk = Walk {
        root: &root,
        leaves: Leaves {
            name: root["title"].as_str().unwrap_or_default().to_owned(),
            ..Leaves::default()
        },
    };
    let top = walk.plain(&root).ok_or(DraftError::NotARecord)?;
    let object = walk.unwrapped(top).ok_or(DraftError::NotARecord)?;
    walk.object(object, &mut Vec::new());
    Ok(walk.leaves)
}

struct Walk<'a> {
    root: &'a Json,
    leaves: Leaves,
}

impl<'a> Walk<'a> {
    /// The properties of the row: those of `after` where the record wraps a change.
    fn unwrapped(&mut self, top: &'a Json) -> Option<&'a Json> {
        let properties = top.get("properties")?;
        let has = |name: &str| properties.get(name).is_some();
        if has("before")
            && has("op")
            && let Some(after) = properties.get("after").and_then(|after| self.plain(after))
            && after.get("properties").is_some()
        {
            self.leaves.envelope = Some("debezium");
            self.leaves.remarks.push(
                "envelope: the record wraps a change (before, after, op); the draft is of the row inside".to_owned(),
            );
            return Some(after);
        }
        Some(top)
    }

    /// The schema behind references, and without its alternative null.
    fn plain(&self, schema: &'a Json) -> Option<&'a Json> {
        let mut schema = schema;
        // A reference may lead to itself.
        for _ in 0..MAX_DEPTH {
            if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
                schema = self.root.pointer(reference.strip_prefix('#')?)?;
                continue;
            }
            let either = schema.get("oneOf").or_else(|| schema.get("anyOf"));
            let Some(branches) = either.and_then(Json::as_array) else {
                return Some(schema);
            };
            let others: Vec<&Json> = branches.iter().filter(|b| b["type"] != "null").collect();
            match others[..] {
                [one] => schema = one,
                _ => return None,
            }
        }
        None
    }

    fn object(&mut self, object: &'a Json, path: &mut Vec<String>) {
        let properties = object.get("properties").and_then(Json::as_object);
        for (name, property) in properties.into_iter().flatten() {
            path.push(name.clone());
            let plain = self.plain(property);
            let is_object = plain.is_some_and(|p| p.get("properties").is_some());
            match plain.and_then(|plain| kind(plain, name)) {
                Some(kind) => {
                    let doc = property.get("description").and_then(Json::as_str);
                    self.leaves.found.push(Leaf {
                        path: path.clone(),
                        kind,
                        doc: doc.map(str::to_owned),
                    });
                }
                None if is_object && path.len() < MAX_DEPTH => {
                    self.object(plain.expect("it is an object"), path);
                }
                None => self.leaves.remarks.push(format!(
                    "left out: {} (its type is none of a column; map the part you need by columns)",
                    path.join(".")
                )),
            }
            path.pop();
        }
    }
}

/// The column type of a property; `None` for objects, arrays of them, and types that are not declared.
fn kind(property: &Json, name: &str) -> Option<DraftType> {
    let text = |key: &str| property.get(key).and_then(Json::as_str);
    if let Some(kind) = text("title").and_then(connect_type) {
        return Some(kind);
    }
    let declared: Vec<&str> = match &property["type"] {
        Json::String(one) => vec![one],
        Json::Array(several) => several
            .iter()
            .filter_map(Json::as_str)
            .filter(|kind| *kind != "null")
            .collect(),
        _ if property.get("enum").is_some() => vec!["string"],
        _ => return None,
    };
    match declared[..] {
        ["string"] if matches!(text("format"), Some("date-time" | "date")) => {
            Some(DraftType::Time(Some("iso")))
        }
        ["string"] => Some(DraftType::Text),
        ["boolean"] => Some(DraftType::Bool),
        ["integer"] if is_named_like_time(name) => Some(DraftType::Time(Some(UNKNOWN_UNIT))),
        ["integer"] => Some(DraftType::Long),
        ["number"] => Some(DraftType::Double),
        ["array"] if property["items"]["type"] == "string" => Some(DraftType::Texts),
        _ => None,
    }
}
